#include "plugin/broker.h"

#include <string.h>

bool broker_is_2_1(void)
{
    return mosquitto_plugin_set_info != NULL;
}

static bool publish(const char *client_id, const char *topic, const void *bytes, size_t n, int qos, bool retain)
{
    char *payload = n == 0 ? NULL : mosquitto_malloc(n);
    if (n > 0 && payload == NULL)
        return false;
    if (n > 0)
        memcpy(payload, bytes, n);
    if (mosquitto_broker_publish(client_id, topic, (int)n, payload, qos, retain, NULL) == MOSQ_ERR_SUCCESS)
        return true; /* the broker owns the payload now */
    mosquitto_free(payload);
    return false;
}

bool broker_publish(const char *topic, const void *bytes, size_t n, int qos, bool retain)
{
    return publish(NULL, topic, bytes, n, qos, retain);
}

bool broker_send(const char *client_id, const char *topic, const void *bytes, size_t n)
{
    return publish(client_id, topic, bytes, n, 0, false);
}
