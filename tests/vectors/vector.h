/* One entry of envelopes.json: an envelope, and what a receiver and a gate say of it (README.md explains each field).
 */
#ifndef VECTORS_VECTOR_H
#define VECTORS_VECTOR_H

#include "tests/vectors/json.h"
#include "tests/vectors/template.h"
#include "tests/vectors/world.h"

#define CLIENT_ID "client-1"

typedef struct {
    bool skip;
    const char *expect; /* a reason's name; NULL: ok */
    const char *topic;  /* NULL: the vector's */
    const char *me;     /* NULL: console */
    uint64_t now_us;    /* 0: NOW_US */
    uint64_t max_age_us;
    bool encrypted_only;
} receiver_case;

typedef struct {
    bool skip;
    const char *expect;
    const char *action;    /* NULL: refuse, or pass where expect is ok */
    const char *policy;    /* NULL: standard */
    const char *door;      /* NULL: publish */
    const char *topic;     /* NULL: the vector's */
    const char *client_id; /* NULL: CLIENT_ID */
    const char *username;  /* NULL: sensor-1 */
    int qos;
    bool retain;
    uint64_t now_us;       /* 0: NOW_US */
    const char *seen_from; /* the client that brought the same envelope before, and was accepted */
    uint64_t seen_at_us;   /* 0: now_us */
} gate_case;

typedef struct {
    const char *name;
    const char *comment;
    const char *topic;
    bytes envelope;
    const pep_message *message; /* what was sealed; NULL: made by hand */
    pep_view plain;             /* what opens, where the receiver expects ok */
    const pep_meta *meta;
    receiver_case receiver;
    gate_case gate;
} vector;

void vector_emit(json *j, const vector *v);

/* The seq of the next vector: 5 s old, and different for each. */
uint64_t vector_next_seq(void);

/* Emit all vectors of one kind. */
void sealed_emit(json *j);
void forged_emit(json *j);
void altered_emit(json *j);
void records_emit(json *j);

/* Emits the whole of directory.json. */
void directory_emit(json *j);

#endif
