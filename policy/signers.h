/* Names and groups of names, and who of them may sign. */
#ifndef POLICY_SIGNERS_H
#define POLICY_SIGNERS_H

#include "policy/reader.h"

/* Sorted, so that asking costs by the logarithm of their number. */
typedef struct {
    const char **at;
    size_t n;
} names;

typedef struct {
    const char *name; /* first member: sorted and searched by it; behind an '@' in memory */
    names members;
} group;

typedef struct {
    group *at;
    size_t n;
} groups;

typedef struct policy_signers {
    bool anyone;
    names ids;
    const group **groups;
    size_t group_n;
    unsigned *levels; /* of a topic, from 0: where the signer's id may stand */
    size_t level_n;
} policy_signers;

bool names_hold(const names *set, const char *name);

/* True where one of the ids or groups is `id`, or one of the groups is in `certified`: what can be said without a
 * topic. */
bool signers_name(const policy_signers *signers, const char *id, policy_groups certified);

/* Entry number `i`: an id, one of a group, or the group's own name with its @ in front; NULL: there are not so many. */
const char *signers_entry(const policy_signers *signers, size_t i);

/* A list of ids; sets a `names`. */
bool signers_read_names(const reader *r, void *object, const config_setting_t *setting, const reader_key *key);

/* Groups of ids; sets a `groups`. */
bool signers_read_groups(const reader *r, void *object, const config_setting_t *setting, const reader_key *key);

/*
 * A list of ids and @groups and, where `filter` is not NULL, of `*` and the %N of that filter. `known` are the groups
 * that may be named.
 */
bool signers_read(const reader *r, policy_signers *out, const config_setting_t *setting, const reader_key *key,
                  const groups *known, const char *filter);

#endif
