/*
 * MQTT clients for tests: libmosquitto as the ordinary one, driven without a thread, so that everything happens while a
 * test waits for it.
 */
#ifndef CLIENT_H
#define CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct client client;

typedef enum { MQTT_3 = 4, MQTT_5 = 5 } mqtt_version; /* the protocol levels of 3.1.1 and 5.0 */

/* Zero it, then set what is wanted. */
typedef struct {
    int port;
    const char *id;       /* NULL: the broker makes one */
    const char *username; /* NULL: anonymous */
    mqtt_version version; /* 0: MQTT_3 */
    bool keep_session;    /* MQTT_3: the session outlives the connection */
} client_spec;

typedef struct {
    char topic[256];
    uint8_t *bytes;
    size_t n;
    int qos;
    bool retain;
} client_message;

#define CLIENT_LOST (-1) /* no answer came */

#define REASON_SUCCESS        0x00
#define REASON_NO_SUBSCRIBERS 0x10 /* MQTT 5.0 also calls this a success */
#define REASON_NOT_AUTHORIZED 0x87

/* Connects, or fails the test. */
client *client_open(client_spec spec);

/* What it was opened with. */
const char *client_id(const client *c);
mqtt_version client_version(const client *c);

/* Disconnects. */
void client_close(client *c);

/*
 * Publishes and waits for the answer: the reason code of PUBACK, PUBREC or PUBCOMP (0 in 3.1.1), 0 where QoS 0 was
 * written, or CLIENT_LOST. MQTT 5.0's REASON_NO_SUBSCRIBERS is told as REASON_SUCCESS.
 */
int client_publish(client *c, const char *topic, const void *bytes, size_t n, int qos, bool retain);

/* Subscribes and waits for the SUBACK. */
void client_subscribe(client *c, const char *filter, int qos);

/* The next message that came, waiting for it; owned by the client until the next call. NULL where none came. */
const client_message *client_next(client *c);

/* The same, waiting at most `ms`. */
const client_message *client_next_within(client *c, int ms);

/* client_next, and true where it is this topic with these bytes. */
bool client_gets(client *c, const char *topic, const void *bytes, size_t n);

/*
 * True where nothing is left for `to` to receive: a message on an unprotected topic that `from` publishes now is the
 * next that `to` gets. It proves too that both are still connected. `to` must be subscribed to FENCE_TOPIC or `#`.
 */
#define FENCE_TOPIC "fence"
bool client_fence(client *to, client *from);

/* The same for another subscriber, behind a client_fence: the newest fence is the next that it gets. */
bool client_gets_fence(client *c);

/* The newest payload, as a number, of the topic `name` under $SYS/broker/pep/; -1 where none came yet. */
long client_counter(client *c, const char *name);

/* Waits until that number is at least `value`, and returns it. `c` must be subscribed to COUNTERS. */
#define COUNTERS "$SYS/broker/pep/#"
long client_counter_reaches(client *c, const char *name, long value);

#endif
