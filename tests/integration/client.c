#include "client.h"

#include "broker.h"

#include <CUnit/CUnit.h>
#include <mosquitto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNTER_PREFIX "$SYS/broker/pep/"

typedef struct received {
    client_message message;
    struct received *next;
} received;

struct client {
    struct mosquitto *mosq;
    client_spec spec;
    bool connected;
    bool subscribed;
    int acked;  /* mid of the last answer to a publish */
    int reason; /* of that answer */
    received *first, **last;
    received *counters; /* the newest message of each counter's topic */
    received *handed;   /* by client_next */
};

/* ---- what libmosquitto tells ---- */

static void on_connect(struct mosquitto *mosq, void *user, int rc, int flags, const mosquitto_property *properties)
{
    (void)mosq;
    (void)flags;
    (void)properties;
    ((client *)user)->connected = rc == 0;
}

static void on_disconnect(struct mosquitto *mosq, void *user, int rc, const mosquitto_property *properties)
{
    (void)mosq;
    (void)rc;
    (void)properties;
    ((client *)user)->connected = false;
}

static void on_publish(struct mosquitto *mosq, void *user, int mid, int reason, const mosquitto_property *properties)
{
    (void)mosq;
    (void)properties;
    client *c = user;
    c->acked = mid;
    c->reason = reason == REASON_NO_SUBSCRIBERS ? REASON_SUCCESS : reason;
}

static void on_subscribe(struct mosquitto *mosq, void *user, int mid, int count, const int *granted,
                         const mosquitto_property *properties)
{
    (void)mosq;
    (void)mid;
    (void)properties;
    ((client *)user)->subscribed = count == 1 && granted[0] < 0x80;
}

static void received_free(received *r)
{
    if (r != NULL)
        free(r->message.bytes);
    free(r);
}

static void keep_counter(client *c, received *r)
{
    for (received **at = &c->counters; *at != NULL; at = &(*at)->next)
        if (strcmp((*at)->message.topic, r->message.topic) == 0) {
            r->next = (*at)->next;
            received_free(*at);
            *at = r;
            return;
        }
    r->next = c->counters;
    c->counters = r;
}

static void on_message(struct mosquitto *mosq, void *user, const struct mosquitto_message *m,
                       const mosquitto_property *properties)
{
    (void)mosq;
    (void)properties;
    client *c = user;
    received *r = calloc(1, sizeof(*r));
    snprintf(r->message.topic, sizeof(r->message.topic), "%s", m->topic);
    r->message.n = (size_t)m->payloadlen;
    r->message.bytes = calloc(1, r->message.n + 1); /* a final NUL, so that text can be read as such */
    if (r->message.n > 0)
        memcpy(r->message.bytes, m->payload, r->message.n);
    r->message.qos = m->qos;
    r->message.retain = m->retain;
    if (strncmp(m->topic, COUNTER_PREFIX, strlen(COUNTER_PREFIX)) == 0) {
        keep_counter(c, r);
        return;
    }
    *c->last = r;
    c->last = &r->next;
}

/* ---- waiting ---- */

static bool step(client *c, int64_t deadline)
{
    return remaining_ms(deadline) > 0 && mosquitto_loop(c->mosq, remaining_ms(deadline), 1) == MOSQ_ERR_SUCCESS;
}

static int64_t deadline_from_now(void)
{
    return monotonic_ms() + patience_ms();
}

/* ---- the interface ---- */

client *client_open(client_spec spec)
{
    client *c = calloc(1, sizeof(*c));
    c->spec = spec;
    c->spec.version = spec.version == 0 ? MQTT_3 : spec.version;
    c->last = &c->first;
    mosquitto_lib_init();
    c->mosq = mosquitto_new(spec.id, !spec.keep_session, c);
    mosquitto_connect_v5_callback_set(c->mosq, on_connect);
    mosquitto_disconnect_v5_callback_set(c->mosq, on_disconnect);
    mosquitto_publish_v5_callback_set(c->mosq, on_publish);
    mosquitto_subscribe_v5_callback_set(c->mosq, on_subscribe);
    mosquitto_message_v5_callback_set(c->mosq, on_message);
    mosquitto_int_option(c->mosq, MOSQ_OPT_PROTOCOL_VERSION, (int)c->spec.version);
    mosquitto_int_option(c->mosq, MOSQ_OPT_TCP_NODELAY, 1);
    if (spec.username != NULL)
        mosquitto_username_pw_set(c->mosq, spec.username, NULL);
    int64_t deadline = deadline_from_now();
    bool sent = mosquitto_connect(c->mosq, "127.0.0.1", spec.port, 600) == MOSQ_ERR_SUCCESS;
    while (sent && !c->connected && step(c, deadline))
        ;
    CU_ASSERT_TRUE(c->connected);
    return c;
}

const char *client_id(const client *c)
{
    return c->spec.id;
}

mqtt_version client_version(const client *c)
{
    return c->spec.version;
}

static void free_all(received *r)
{
    while (r != NULL) {
        received *next = r->next;
        received_free(r);
        r = next;
    }
}

void client_close(client *c)
{
    int64_t deadline = deadline_from_now();
    mosquitto_disconnect(c->mosq);
    while (c->connected && step(c, deadline))
        ;
    mosquitto_destroy(c->mosq);
    mosquitto_lib_cleanup();
    free_all(c->first);
    free_all(c->counters);
    received_free(c->handed);
    free(c);
}

int client_publish(client *c, const char *topic, const void *bytes, size_t n, int qos, bool retain)
{
    int mid = 0;
    c->acked = 0;
    if (mosquitto_publish_v5(c->mosq, &mid, topic, (int)n, bytes, qos, retain, NULL) != MOSQ_ERR_SUCCESS)
        return CLIENT_LOST;
    int64_t deadline = deadline_from_now();
    while (c->acked != mid && step(c, deadline))
        ;
    return c->acked == mid ? c->reason : CLIENT_LOST;
}

void client_subscribe(client *c, const char *filter, int qos)
{
    c->subscribed = false;
    bool sent = mosquitto_subscribe(c->mosq, NULL, filter, qos) == MOSQ_ERR_SUCCESS;
    int64_t deadline = deadline_from_now();
    while (sent && !c->subscribed && step(c, deadline))
        ;
    CU_ASSERT_TRUE(c->subscribed);
}

const client_message *client_next_within(client *c, int ms)
{
    int64_t deadline = monotonic_ms() + ms;
    while (c->first == NULL && step(c, deadline))
        ;
    received_free(c->handed);
    c->handed = c->first;
    if (c->first == NULL)
        return NULL;
    c->first = c->first->next;
    if (c->first == NULL)
        c->last = &c->first;
    return &c->handed->message;
}

const client_message *client_next(client *c)
{
    return client_next_within(c, patience_ms());
}

static bool is_this(const client_message *m, const char *topic, const void *bytes, size_t n)
{
    if (m != NULL && strcmp(m->topic, topic) == 0 && m->n == n && (n == 0 || memcmp(m->bytes, bytes, n) == 0))
        return true;
    fprintf(stderr, "expected %zu bytes on %s, got %zu on %s\n", n, topic, m != NULL ? m->n : 0,
            m != NULL ? m->topic : "nothing");
    return false;
}

bool client_gets(client *c, const char *topic, const void *bytes, size_t n)
{
    return is_this(client_next(c), topic, bytes, n);
}

static unsigned fences; /* that were published */

/* At QoS 2: one of QoS 1 would overtake a message of QoS 2, of which the second half comes later. */
static bool publish_fence(client *from)
{
    char text[32];
    int n = snprintf(text, sizeof(text), "fence %u", ++fences);
    return client_publish(from, FENCE_TOPIC, text, (size_t)n, 2, false) == REASON_SUCCESS;
}

/* Goes on to the fence where something else came, so that the next test does not find it. */
bool client_gets_fence(client *c)
{
    char text[32];
    int n = snprintf(text, sizeof(text), "fence %u", fences);
    bool clean = true;
    for (const client_message *m; (m = client_next(c)) != NULL; clean = false)
        if (is_this(m, FENCE_TOPIC, text, (size_t)n))
            return clean;
    return false;
}

bool client_fence(client *to, client *from)
{
    return publish_fence(from) && client_gets_fence(to);
}

long client_counter(client *c, const char *name)
{
    for (const received *r = c->counters; r != NULL; r = r->next)
        if (strcmp(r->message.topic + strlen(COUNTER_PREFIX), name) == 0)
            return strtol((const char *)r->message.bytes, NULL, 10);
    return -1;
}

long client_counter_reaches(client *c, const char *name, long value)
{
    int64_t deadline = deadline_from_now();
    while (client_counter(c, name) < value && step(c, deadline))
        ;
    return client_counter(c, name);
}
