/* Who and what the vectors are about: devices, epoch keys and a source of randomness, all from fixed texts. */
#ifndef VECTORS_WORLD_H
#define VECTORS_WORLD_H

#include "pep.h"

#define NOW_S  1767225600ULL /* 2026-01-01T00:00:00Z */
#define NOW_US (NOW_S * 1000000)
#define DAY_S  86400ULL

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

typedef struct {
    const char *id;
    uint64_t issued_s;
    uint64_t not_after_s;
    size_t record_n;
    pep_record record;
    pep_device device;
    uint8_t record_bytes[PEP_RECORD_BYTES_MAX];
    bool enrolled; /* gate and receivers have its record */
} actor;

typedef struct {
    const char *name;
    const char *owner;
    const char *scope;
    bool known; /* receivers have it */
    pep_epoch epoch;
} shared_epoch;

extern actor actors[];
extern const size_t actor_count;
extern shared_epoch epochs[];
extern const size_t epoch_count;

/* Fills both tables, and puts libsodium's randomness under our control. Any failure ends the program. */
void world_make(void);
void world_free(void);

const actor *actor_of(const char *id);
shared_epoch *epoch_of(const char *name);

/* A secret: SHA-256 of a text that says whose it is, and what for. */
void world_secret(uint8_t out[32], const char *purpose, const char *name);

/* Starts the stream of random bytes again, from a text; what was drawn since is in `drawn`. */
void random_restart(const char *seed_text);
pep_view random_drawn(void);

/* A generator of test data has nobody to report to: says why, and ends. */
void must(bool ok, const char *what);

#endif
