/* What a policy is, inside this module. */
#ifndef POLICY_MODEL_H
#define POLICY_MODEL_H

#include "policy/signers.h"
#include "policy/trie.h"

#define POLICY_FINGERPRINT_BYTES 32

struct policy {
    uint8_t fingerprint[POLICY_FINGERPRINT_BYTES]; /* of the text that it was read from */
    arena memory;                                  /* all that follows, but for the trie */
    policy_enroll enroll;
    policy_bind bind;
    uint64_t max_skew_us;
    policy_budget budget;
    policy_directory directory;
    uint32_t max_records; /* 0: not given */
    uint8_t (*authorities)[POLICY_AUTHORITY_KEY_BYTES];
    size_t authority_n;
    names relays;
    groups groups;
    policy_signers admins;
    size_t undefined_group_n; /* places that name a group which only certificates can fill */
    const char *undefined_group;
    policy_rule *rules;
    size_t rule_n;
    uint32_t largest_size;
    trie *topics; /* its values are numbers of rules, from 1 */
};

/* The list `topics`. */
bool rules_read(const reader *r, void *object, const config_setting_t *setting, const reader_key *key);

#endif
