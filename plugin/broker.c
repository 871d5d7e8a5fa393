#include "plugin/broker.h"

#include <string.h>

bool broker_is_2_1(void)
{
    return mosquitto_plugin_set_info != NULL;
}

bool broker_publish(const char *topic, const char *text, size_t n, bool retain)
{
    char *payload = mosquitto_malloc(n);
    if (payload == NULL)
        return false;
    memcpy(payload, text, n);
    if (mosquitto_broker_publish(NULL, topic, (int)n, payload, 0, retain, NULL) == MOSQ_ERR_SUCCESS)
        return true; /* the broker owns the payload now */
    mosquitto_free(payload);
    return false;
}
