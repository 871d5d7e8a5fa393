/* Several of libmosquitto's clients, driven by one thread. */
#ifndef DRIVE_H
#define DRIVE_H

#include <mosquitto.h>
#include <stdbool.h>
#include <stddef.h>

#define DRIVE_CLIENTS_MAX 16
#define DRIVE_PATIENCE_US 10e6

/* Connects to the port of 127.0.0.1, trying until the broker is there. NULL: it never was. */
struct mosquitto *drive_open(const char *id, const char *username, int port, void *user,
                             void (*set_callbacks)(struct mosquitto *client));

/* Waits for what comes until then, and serves it. */
void drive_step(struct mosquitto *const *clients, size_t count, double until_us);

/* Steps until the condition holds. False: it took too long. */
bool drive_until(struct mosquitto *const *clients, size_t count, const bool *condition);

#endif
