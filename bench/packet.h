/* The packets of MQTT 3.1.1 that a load needs, and the way to a broker on loopback. */
#ifndef PACKET_H
#define PACKET_H

#include "pep.h"

#define PACKET_MAX ((size_t)256 * 1024)

typedef struct {
    uint8_t bytes[PACKET_MAX];
    size_t n;
} packet;

/* Clean session, no keep-alive; username: or NULL. */
void packet_connect(packet *out, const char *id, const char *username);

/* At QoS 0. */
void packet_subscribe(packet *out, const char *topic);

/* mid: for QoS 1. */
void packet_publish(packet *out, const char *topic, pep_view payload, int qos, unsigned mid);

/* A socket that connects to the port; `flags`: SOCK_NONBLOCK, or 0 to wait for the connection. -1: it failed. */
int connect_loopback(int port, int flags);

#endif
