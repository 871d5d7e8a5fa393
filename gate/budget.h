/*
 * The abuse budget: how many signatures a stranger can make the broker verify.
 *
 * A sender whose signature was verified once has standing, and nobody else can limit it. Those without standing share
 * the verifications of their user name and address, and, tenfold, of their address, while one of these failed lately.
 * It is never kept by the signer's kid: whoever knows a kid could then silence a device.
 *
 * All of it is two tables of fixed size whose places are found by a keyed hash: nothing is allocated, nothing grows.
 * Those without standing who fall into one place share it, so there is nothing to gain by making many names: a full
 * table is a strict one. Of those with standing the one that was heard longest ago gives way, in a set that is full.
 */
#ifndef GATE_BUDGET_H
#define GATE_BUDGET_H

#include "gate/gate.h"

#define BUDGET_PLACES        65536 /* 1 MiB, touched as it is used */
#define BUDGET_SETS          16384 /* the same again, for those with standing: sets of BUDGET_WAYS */
#define BUDGET_WAYS          8
#define BUDGET_ADDRESS_TIMES 10 /* an address may have many users behind it */
#define BUDGET_KICKS         32 /* clients to kick at the next tick; who finds no place goes on, and comes again */

typedef struct budget budget;

#define BUDGET_KEY_BYTES 16

/* `key` is secret and random, so that nobody can choose names that share a place. NULL where there is no memory. */
budget *budget_new(const uint8_t key[BUDGET_KEY_BYTES]);
void budget_free(budget *b);

/*
 * Before a verification for `m`: false where it must not be made, because its sender has no standing and failures have
 * used up what it shares. Who goes on all the same is put down to be kicked, if the policy says so and `may_kick`.
 */
bool budget_allows(budget *b, const policy_budget *limits, const gate_message *m, bool may_kick);

/* Behind it: what came of the verification. */
void budget_note(budget *b, const policy_budget *limits, const gate_message *m, bool verified);

/* The id of a client to kick, owned by the caller; NULL: no more. */
char *budget_next_kick(budget *b);

/* This client is gone: its name may soon be another's. */
void budget_forgive(budget *b, const char *client_id);

#endif
