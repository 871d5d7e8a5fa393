/*
 * MQTT by hand, for what a well-behaved client cannot do: drop a connection so that its will is sent, send a packet
 * again with DUP, leave an answer unread. (MQTT 3.1.1 and 5.0, chapter 3.)
 */
#ifndef WIRE_H
#define WIRE_H

#include "client.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Zero it, then set what is wanted. */
typedef struct {
    int port;
    mqtt_version version; /* 0: MQTT_3 */
    const char *id;
    const char *username;   /* or NULL */
    bool keep_session;      /* the session outlives the connection */
    const char *will_topic; /* or NULL: no will */
    const void *will;       /* its payload */
    size_t will_n;
    int will_qos;
    bool will_retain;
    uint32_t will_delay_s; /* 5.0 only */
} wire_spec;

typedef struct {
    int fd;
    mqtt_version version;
} wire;

/* Packet types, as their first byte's upper half. */
enum {
    WIRE_CONNACK = 0x20,
    WIRE_PUBLISH = 0x30,
    WIRE_PUBACK = 0x40,
    WIRE_PUBREC = 0x50,
    WIRE_PUBREL = 0x60,
    WIRE_PUBCOMP = 0x70
};

/* Connects and reads the CONNACK; fails the test where that is not a success. */
wire wire_open(wire_spec spec);

/* The same, false where the broker closed the connection or refused it in its CONNACK. */
bool wire_try(wire *w, wire_spec spec);

/* Drops the connection without a DISCONNECT: the broker sends the will. */
void wire_drop(wire *w);

/* Sends a packet of a type that no version knows: the broker drops the connection, and sends the will. */
void wire_garbage(const wire *w);

/* 5.0 only: takes leave, and asks for the will to be sent (reason code 4, 3.14.2.1). */
void wire_leave_with_will(const wire *w);

typedef struct {
    const char *topic; /* "" with an alias that is known */
    const void *bytes;
    size_t n;
    int qos;
    bool retain;
    bool dup;
    uint16_t mid;   /* for QoS 1 and 2 */
    uint16_t alias; /* 5.0 only; 0: none */
} wire_message;

void wire_publish(const wire *w, wire_message m);

/* Sends PUBREL. */
void wire_release(const wire *w, uint16_t mid);

/*
 * Reads the next packet: true where it is of that type and answers that mid; *reason (or NULL): its reason code, 0
 * where the packet has none.
 */
bool wire_answer(const wire *w, int type, uint16_t mid, int *reason);

/* Waits for the broker to close the connection, whatever it sends before that. */
bool wire_closed(const wire *w);

#endif
