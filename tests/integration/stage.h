/* A broker with the plugin, the cast, and somebody who hears everything: where most tests begin. */
#ifndef STAGE_H
#define STAGE_H

#include "broker.h"
#include "client.h"
#include "seal.h"
#include "wire.h"

typedef struct {
    broker b;
    cast c;
    client *to; /* subscribed to `#` at QoS 2, and to the counters */
} stage;

/* Starts a guarded broker, or shows its log and ends the test. */
void stage_set(stage *s, const char *policy, const char *conf);

/* The same in two steps, for what has to lie in the folder before the start. */
void stage_prepare(stage *s, const char *policy, const char *conf);
void stage_open(stage *s);

/* `to` anew, behind a client_close of the last one. */
void stage_listen(stage *s);

void stage_strike(stage *s);

/* A plain broker elsewhere, from which the broker under test fetches topics through a bridge. */
typedef struct {
    broker b;
    client *from; /* a client of that broker */
} upstream;

#define BRIDGE_CLIENT "fetcher" /* the bridge's client id at the broker under test */

/* Starts both; `topics` are the bridge's `topic` lines. What `from` publishes as a fence comes through, too. */
void stage_set_bridged(stage *s, upstream *u, const char *policy, const char *topics);
void stage_strike_bridged(stage *s, upstream *u);

/* Ends the broker (kill -9 where `hard`), starts it again on the same folder and port, and listens again. */
void stage_restart(stage *s, bool hard);

/* A client of the broker under test, MQTT 3.1.1. */
client *stage_client(const stage *s, const char *id);

/* `from` publishes the envelope, and `to` gets those very bytes. */
bool stage_passes(const stage *s, client *from, const char *topic, const sealed *e, int qos, bool retain);

/*
 * `from` publishes the bytes: the answer is `denial`, nothing arrives, `from`
 * stays connected, and the log names the reason.
 */
bool stage_refuses(stage *s, client *from, const char *topic, const sealed *e, int qos, bool retain, pep_reason reason);

/* Connects with that will, and drops the connection: `to` gets the will's very bytes, or the log names the reason. */
bool stage_passes_will(const stage *s, wire_spec spec);
bool stage_refuses_will(stage *s, wire_spec spec, pep_reason reason);

/* `from` publishes the case at QoS 1, and before it what must be accepted first: all ends as it must. */
bool stage_tries(stage *s, const seal_case *k, client *from, const char *topic);

/* How a client learns of a denial: MQTT 5.0 has a reason code, 3.1.1 and QoS 0 have none. */
int denial(mqtt_version version, int qos);

/* True where, behind the mark, the log says that this was refused, or withheld. */
bool stage_logged(const stage *s, pep_reason reason, const char *id, const char *topic);

/* The counter, once `messages/accepted` has come to that value and all that was published with it has arrived. */
long stage_count(const stage *s, const char *name, long accepted);

#endif
