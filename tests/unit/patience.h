/*
 * What tests of stores share of time. A limit that the product has is waited for with LATE_MS more: a machine that is
 * busy may be seconds late, and what has no limit is later than that.
 */
#ifndef PATIENCE_H
#define PATIENCE_H

#include "store/store.h"
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#define LATE_MS 15000

static inline uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* For what ends by itself. PEP_VALGRIND says that all is slow. */
static inline uint64_t deadline_ms(void)
{
    return now_ms() + (getenv("PEP_VALGRIND") == NULL ? 120000 : 600000);
}

/* Where the product gives an answer without waiting for anybody: whoever waits for a store waits longer. */
static inline bool at_once(uint64_t begun_ms)
{
    return now_ms() - begun_ms < STORE_PATIENCE_MS - 1000;
}

/* Tries again where a busy machine kept it waiting until its limit, but not where the store was away at once. */
static inline store *open_patiently(store_result *result, store_error *why, const char *url,
                                    const store_migration *migrations, size_t count)
{
    uint64_t end = deadline_ms();
    for (;;) {
        uint64_t begun = now_ms();
        store *s = store_open(result, why, url, migrations, count);
        if (s != NULL || *result != STORE_AWAY || at_once(begun) || now_ms() > end)
            return s;
    }
}

#endif
