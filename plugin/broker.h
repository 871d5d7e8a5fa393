/*
 * Mosquitto's plugin interface, 2.0 and 2.1. Both call it version 5; which one is running shows only in that 2.1 has
 * mosquitto_plugin_set_info.
 */
#ifndef PLUGIN_BROKER_H
#define PLUGIN_BROKER_H

#include <stdbool.h>
#include <stdint.h>

#if __has_include(<mosquitto/broker_plugin.h>)
#include <mosquitto/broker.h>
#include <mosquitto/broker_plugin.h>
#define TICK_NEXT_MS next_ms
#else
#include <mosquitto_broker.h>

#include <mosquitto_plugin.h>

#include <mosquitto.h>
#define TICK_NEXT_MS next_ns /* of the same place; 2.0 does not look at it */
#endif

/* Only 2.1 has it; the version number that the broker offers is 5 in both. */
#pragma weak mosquitto_plugin_set_info
int mosquitto_plugin_set_info(mosquitto_plugin_id_t *identifier, const char *plugin_name, const char *plugin_version);

/* True where the broker that loaded us is 2.1 or later. */
bool broker_is_2_1(void);

/* Publishes `n` bytes to whoever subscribed. False where there was no memory. */
bool broker_publish(const char *topic, const void *bytes, size_t n, int qos, bool retain);

/* The same to one client, whatever it subscribed to, at QoS 0. */
bool broker_send(const char *client_id, const char *topic, const void *bytes, size_t n);

#endif
