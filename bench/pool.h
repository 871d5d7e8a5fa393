/* A file of envelopes that were sealed before the clock starts, all by one device for one topic. */
#ifndef POOL_H
#define POOL_H

#include "pep.h"

#define POOL_TOPIC  "bench/sealed"
#define POOL_SIGNER "bench"

typedef struct {
    const pep_view *envelopes; /* into the mapped file */
    size_t count;
} pool;

/* Maps the file; it stays mapped until the program ends. */
bool pool_open(pool *out, const char *path);

#endif
