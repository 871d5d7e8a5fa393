/* What joins libpep with libmosquitto: one connection, driven by whoever waits for something on it. */
#ifndef CLIENT_MQTT_H
#define CLIENT_MQTT_H

#include <mosquitto.h>

#include "client/options.h"

extern const option connection_options[];

typedef struct mqtt_link mqtt_link;

struct mqtt_link {
    void *owner;                           /* for the callbacks of whoever uses the link */
    void (*on_connected)(mqtt_link *link); /* after each accepted CONNECT; may be NULL */

    struct mosquitto *client;
    bool connected;
    bool refused;      /* the broker answered CONNECT with a refusal; its words stand in trouble */
    char trouble[256]; /* what libmosquitto or the broker said last about an error; may be empty */
    char address[300]; /* host:port, for people */
};

/*
 * Makes the client that connection_options describe; callbacks and a will can be set on it then. Set owner and
 * on_connected before, zero the rest. Returns 0, or an exit code after a line on stderr; mqtt_close either way.
 */
int mqtt_prepare(mqtt_link *link);

/* Connects and waits for the broker's answer. Returns 0, or 3 after a line on stderr. */
int mqtt_connect(mqtt_link *link);

/* The same again, after a connection was lost: returns whether it worked, and says nothing. */
bool mqtt_reconnect(mqtt_link *link);

/*
 * One turn: waits until the broker or `fd` (-1: none) has something, a signal comes, or `timeout_ms` passed, and does
 * what the connection needs. *readable (may be NULL): `fd` has something. Returns false where the connection was lost.
 */
bool mqtt_turn(mqtt_link *link, bool *readable, int fd, int timeout_ms);

/* Why the last of these failed. */
const char *mqtt_why(const mqtt_link *link);

/* Says goodbye, where there is a connection, and releases everything. */
void mqtt_close(mqtt_link *link);

/* The names that the command line gave this client; NULL where it gave none. */
const char *mqtt_username(void);
const char *mqtt_client_id(void);

/* Milliseconds on a clock that nobody sets. */
uint64_t mqtt_now_ms(void);

#define MQTT_WAIT_MS 20000 /* for a connection, and for an acknowledgement */

/* From here on SIGINT and SIGTERM no longer end the process: they end waiting, and mqtt_stopped() is true. */
void mqtt_stop_on_signals(void);
bool mqtt_stopped(void);

#endif
