/*
 * What came of verifying messages that are looked at again: retained ones, those queued for a client that is away, the
 * halves of QoS 2. Without it, whoever subscribes to many of them again and again would have the broker verify each of
 * them each time, forged ones too, where they came in before there was a rule.
 */
#ifndef GATE_VERIFIED_H
#define GATE_VERIFIED_H

#include "pep.h"

#define VERIFIED_SETS      16384
#define VERIFIED_WAYS      8  /* 2 MiB in all, touched as it is used */
#define VERIFIED_KEY_BYTES 16 /* secret and random, so that nobody can choose messages that share a set */

typedef enum { VERIFIED_UNKNOWN, VERIFIED_GOOD, VERIFIED_BAD } verified_state;

typedef struct verified verified;

/* NULL where there is no memory. */
verified *verified_new(const uint8_t key[VERIFIED_KEY_BYTES]);
void verified_free(verified *v);

verified_state verified_find(const verified *v, const uint8_t digest[PEP_REPLAY_DIGEST_BYTES]);
void verified_remember(verified *v, const uint8_t digest[PEP_REPLAY_DIGEST_BYTES], verified_state state);

#endif
