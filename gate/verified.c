#include "gate/verified.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define KEPT_BYTES 15 /* of a digest */

typedef struct {
    uint8_t digest[KEPT_BYTES];
    uint8_t state; /* VERIFIED_UNKNOWN: free */
} entry;

struct verified {
    uint8_t key[VERIFIED_KEY_BYTES];
    entry sets[VERIFIED_SETS][VERIFIED_WAYS];
};

verified *verified_new(const uint8_t key[VERIFIED_KEY_BYTES])
{
    _Static_assert(VERIFIED_KEY_BYTES == crypto_shorthash_KEYBYTES, "the key is SipHash's");
    verified *v = calloc(1, sizeof *v);
    if (v != NULL)
        memcpy(v->key, key, VERIFIED_KEY_BYTES);
    return v;
}

void verified_free(verified *v)
{
    free(v);
}

static size_t set_of(const verified *v, const uint8_t *digest)
{
    uint64_t number;
    crypto_shorthash((unsigned char *)&number, digest, PEP_REPLAY_DIGEST_BYTES, v->key);
    return number % VERIFIED_SETS;
}

verified_state verified_find(const verified *v, const uint8_t digest[PEP_REPLAY_DIGEST_BYTES])
{
    const entry *set = v->sets[set_of(v, digest)];
    for (size_t i = 0; i < VERIFIED_WAYS; i++)
        if (set[i].state != VERIFIED_UNKNOWN && memcmp(set[i].digest, digest, KEPT_BYTES) == 0)
            return set[i].state;
    return VERIFIED_UNKNOWN;
}

/* In a set that is full any one gives way: with the oldest one, going round through more than there is room for would
 * find nothing at all. */
void verified_remember(verified *v, const uint8_t digest[PEP_REPLAY_DIGEST_BYTES], verified_state state)
{
    entry *set = v->sets[set_of(v, digest)];
    size_t way = 0;
    while (way < VERIFIED_WAYS && set[way].state != VERIFIED_UNKNOWN &&
           memcmp(set[way].digest, digest, KEPT_BYTES) != 0)
        way++;
    if (way == VERIFIED_WAYS)
        way = randombytes_uniform(VERIFIED_WAYS);
    memcpy(set[way].digest, digest, KEPT_BYTES);
    set[way].state = (uint8_t)state;
}
