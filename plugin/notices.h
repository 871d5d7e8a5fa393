/*
 * Notices: what a client's refused messages were refused for, published for that client alone. MQTT 3.1.1 and QoS 0
 * have no way to say no.
 */
#ifndef PLUGIN_NOTICES_H
#define PLUGIN_NOTICES_H

#include "gate/gate.h"

#define NOTICES_A_SECOND    10   /* for one client; the rest is summed in the next */
#define NOTICES_CLIENTS     1024 /* that are remembered at once: those of whom something was refused a moment ago */
#define NOTICES_TOPIC_BYTES 1024 /* clients with longer topics of their own get none */

typedef struct notices notices;

typedef struct {
    uint64_t sent;
    uint64_t suppressed; /* refusals that were only counted in another's notice, or not told at all */
} notice_counters;

/* NULL where there is no memory. */
notices *notices_new(void);
void notices_free(notices *n);

/* A message was refused: publishes a notice now, or sums it in the next. */
void notices_add(notices *n, const gate_message *m, const gate_verdict *verdict);

/* On each tick: publishes what is still to be told, forgets clients of whom nothing is. */
void notices_tick(notices *n);

const notice_counters *notices_counted(const notices *n);

/* True where the topic is one of notices. */
bool notices_are_on(const char *topic);

/* True where such a topic is this client's own. */
bool notices_are_for(const char *client_id, const char *topic);

#endif
