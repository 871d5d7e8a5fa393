/* Loading a policy, and the questions that it answers. */
#include "policy/policy.h"

#include "policy/model.h"
#include "policy/text.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define AUTHORITIES_MAX 64

_Static_assert(sizeof(policy_enroll) == sizeof(unsigned), "policy_enroll");
_Static_assert(sizeof(policy_bind) == sizeof(unsigned), "policy_bind");
_Static_assert(sizeof(policy_over) == sizeof(unsigned), "policy_over");
_Static_assert(sizeof(policy_directory) == sizeof(unsigned), "policy_directory");

static bool add_authority(const reader *r, policy *p, const config_setting_t *at, const char *text)
{
    uint8_t *made = p->authorities[p->authority_n];
    size_t n = 0;
    static const char base64url[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    if (text[strspn(text, base64url)] != 0 || /* libsodium 1.0.18 takes any byte above 7f for a character of it */
        sodium_base642bin(made, POLICY_AUTHORITY_KEY_BYTES, text, strlen(text), NULL, &n, NULL,
                          sodium_base64_VARIANT_URLSAFE_NO_PADDING) != 0 ||
        n != POLICY_AUTHORITY_KEY_BYTES)
        return reader_fail(
            r, at, "\"%.64s\" is no Ed25519 public key; write its 32 bytes as 43 characters of base64url", text);
    for (size_t i = 0; i < p->authority_n; i++)
        if (memcmp(p->authorities[i], made, POLICY_AUTHORITY_KEY_BYTES) == 0)
            return reader_fail(r, at, "\"%.64s\" stands here twice; keep one", text);
    p->authority_n++;
    return true;
}

static bool read_authority(const reader *r, void *object, const config_setting_t *setting, const reader_key *key)
{
    policy *p = object;
    int n = reader_list(r, setting, key);
    if (n < 0)
        return false;
    if (n > AUTHORITIES_MAX)
        return reader_fail(r, setting, "authority has %d keys; at most 64 can be", n);
    p->authorities = arena_take(r->memory, (size_t)n * sizeof(*p->authorities));
    if (p->authorities == NULL)
        return reader_no_memory(r, setting);
    for (int i = 0; i < n; i++)
        if (!add_authority(r, p, config_setting_get_elem(setting, (unsigned)i), reader_element(setting, i)))
            return false;
    return true;
}

static bool read_admins(const reader *r, void *object, const config_setting_t *setting, const reader_key *key)
{
    policy *p = object;
    return signers_read(r, &p->admins, setting, key, &p->groups, NULL);
}

static const char *const overs[] = {"kick", "refuse", NULL};

static const reader_key budget_keys[] = {
    {"rate", "20", reader_count, offsetof(policy_budget, rate), "100000", false},
    {"memory", "\"5m\"", reader_duration, offsetof(policy_budget, memory_us), "1d", false},
    {"over", "\"kick\"", reader_choice, offsetof(policy_budget, over), overs, false},
    {0},
};

static bool read_budget(const reader *r, void *object, const config_setting_t *setting, const reader_key *key)
{
    policy *p = object;
    if (!config_setting_is_group(setting))
        return reader_wrong_type(r, setting, key, "a group");
    return reader_keys(r, &p->budget, setting, budget_keys);
}

static bool read_max_records(const reader *r, void *object, const config_setting_t *setting, const reader_key *key)
{
    static const reader_key count = {"max_records", "100000", reader_count, offsetof(policy, max_records),
                                     "10000000",    false};
    policy *p = object;
    (void)key;
    if (!reader_count(r, p, setting, &count))
        return false;
    return p->max_records > 0 || reader_fail(r, setting,
                                             "max_records is 0, so nobody could be known; write it like "
                                             "max_records = 100000");
}

static const char *const enrolments[] = {"closed", "authority", "token", "open", NULL};
static const char *const bindings[] = {"none", "username", "clientid", NULL};
static const char *const directories[] = {"retained", "on-request", NULL};

/* In the order in which they are read: admins and topics need the groups. */
static const reader_key policy_keys[] = {
    {"enroll", "\"closed\"", reader_choice, offsetof(policy, enroll), enrolments, false},
    {"authority", "[ \"...\" ], with Ed25519 public keys in base64url", read_authority, 0, NULL, false},
    {"directory", "\"retained\"", reader_choice, offsetof(policy, directory), directories, false},
    {"max_records", "100000", read_max_records, 0, NULL, false},
    {"bind", "\"username\"", reader_choice, offsetof(policy, bind), bindings, false},
    {"relays", "[ \"bridge-b\" ]", signers_read_names, offsetof(policy, relays), NULL, false},
    {"groups", "{ ops = [ \"console\", \"scada-1\" ]; }", signers_read_groups, offsetof(policy, groups), NULL, false},
    {"admins", "[ \"@ops\" ]", read_admins, 0, NULL, false},
    {"max_skew", "\"60s\"", reader_duration, offsetof(policy, max_skew_us), "1d", false},
    {"budget", "{ rate = 20; memory = \"5m\"; over = \"kick\"; }", read_budget, 0, NULL, false},
    {"topics", "( { filter = \"sensors/+/telemetry\"; signers = [ \"%1\" ]; } );", rules_read, 0, NULL, true},
    {0},
};

static bool read_root(const reader *r, const config_setting_t *root)
{
    policy *p = r->policy;
    if (!reader_keys(r, p, root, policy_keys))
        return false;
    if (p->enroll == POLICY_ENROLL_AUTHORITY && p->authority_n == 0)
        return reader_fail(r, config_setting_get_member(root, "enroll"),
                           "enroll is \"authority\", but there is none; add authority = [ \"...\" ], with its Ed25519 "
                           "public key in base64url");
    if (p->enroll == POLICY_ENROLL_OPEN && p->max_records == 0)
        return reader_fail(r, config_setting_get_member(root, "enroll"),
                           "enroll is \"open\", so anybody can fill the disk; say how many records there may be: "
                           "max_records = 1000");
    return true;
}

/* What libconfig says is short; add what would be right. */
static const char *advice(const char *fault)
{
    if (strcmp(fault, "duplicate setting name") == 0)
        return "a key stands twice in one group: keep one";
    if (strcmp(fault, "mismatched element type in array") == 0)
        return "all that stands in [ ] is of one type: strings";
    return "look here and in the line before for a missing = ; , quote or bracket";
}

static bool parse(const reader *r, config_t *config)
{
    if (config_read_string(config, source_text(r->source)) == CONFIG_TRUE)
        return read_root(r, config_root_setting(config));
    const char *fault = config_error_text(config);
    int text_line = config_error_line(config);
    unsigned line = 0;
    const char *path = source_origin(r->source, &line, text_line > 0 ? (unsigned)text_line : 1);
    fault = fault == NULL ? "syntax error" : fault;
    return text_error(r->error, path, line, "%s; %s", fault, advice(fault));
}

static bool load_into(policy *p, policy_error *error, const char *path)
{
    source *text = source_read(error, &p->memory, path);
    if (text == NULL)
        return false;
    const char *all = source_text(text);
    crypto_generichash(p->fingerprint, sizeof p->fingerprint, (const uint8_t *)all, strlen(all), NULL, 0);
    const reader r = {.policy = p, .memory = &p->memory, .source = text, .error = error};
    config_t config;
    config_init(&config);
    bool ok = parse(&r, &config);
    config_destroy(&config);
    source_free(text);
    return ok;
}

policy *policy_load(policy_error *error, const char *path)
{
    policy *p = calloc(1, sizeof(*p));
    trie *topics = trie_new();
    if (p == NULL || topics == NULL) {
        text_error(error, path, 0, "out of memory");
        trie_free(topics);
        free(p);
        return NULL;
    }
    p->topics = topics;
    p->max_skew_us = POLICY_DEFAULT_MAX_SKEW_US;
    p->budget = (policy_budget){POLICY_DEFAULT_RATE, POLICY_DEFAULT_MEMORY_US, POLICY_OVER_KICK};
    if (!load_into(p, error, path)) {
        policy_free(p);
        return NULL;
    }
    return p;
}

void policy_free(policy *p)
{
    if (p == NULL)
        return;
    trie_free(p->topics);
    arena_free(&p->memory);
    free(p);
}

bool policy_same(const policy *a, const policy *b)
{
    return memcmp(a->fingerprint, b->fingerprint, sizeof a->fingerprint) == 0;
}

policy_enroll policy_enroll_of(const policy *p)
{
    return p->enroll;
}

policy_bind policy_bind_of(const policy *p)
{
    return p->bind;
}

uint64_t policy_max_skew_us(const policy *p)
{
    return p->max_skew_us;
}

const policy_budget *policy_budget_of(const policy *p)
{
    return &p->budget;
}

size_t policy_authority_count(const policy *p)
{
    return p->authority_n;
}

const uint8_t *policy_authority_at(const policy *p, size_t i)
{
    return p->authorities[i];
}

bool policy_is_relay(const policy *p, const char *name)
{
    return name != NULL && names_hold(&p->relays, name);
}

bool policy_is_admin(const policy *p, const char *id, policy_groups certified)
{
    return id != NULL && signers_name(&p->admins, id, certified);
}

const char *policy_admin_at(const policy *p, size_t i)
{
    return signers_entry(&p->admins, i);
}

size_t policy_undefined_groups(const policy *p, const char **first)
{
    *first = p->undefined_group;
    return p->undefined_group_n;
}

policy_directory policy_directory_of(const policy *p)
{
    return p->directory;
}

uint32_t policy_max_records(const policy *p)
{
    return p->max_records == 0 ? POLICY_DEFAULT_MAX_RECORDS : p->max_records;
}

size_t policy_rule_count(const policy *p)
{
    return p->rule_n;
}

const policy_rule *policy_rule_at(const policy *p, size_t i)
{
    return &p->rules[i];
}

uint32_t policy_largest_size(const policy *p)
{
    return p->largest_size;
}

const policy_rule *policy_match(const policy *p, const char *topic, size_t topic_n)
{
    uint32_t number = trie_match(p->topics, topic, topic_n);
    return number == 0 ? NULL : &p->rules[number - 1];
}

static bool level_is(const char *topic, size_t topic_n, unsigned level, const char *id)
{
    const char *end = topic + topic_n;
    for (; level > 0; level--) {
        const char *slash = memchr(topic, '/', (size_t)(end - topic));
        if (slash == NULL)
            return false;
        topic = slash + 1;
    }
    const char *slash = memchr(topic, '/', (size_t)(end - topic));
    size_t n = (size_t)((slash == NULL ? end : slash) - topic);
    return strlen(id) == n && memcmp(topic, id, n) == 0;
}

bool policy_may_sign(const policy_rule *rule, const char *topic, size_t topic_n, const char *id,
                     policy_groups certified)
{
    const policy_signers *signers = rule->signers;
    if (signers->anyone || signers_name(signers, id, certified))
        return true;
    for (size_t i = 0; i < signers->level_n; i++)
        if (level_is(topic, topic_n, signers->levels[i], id))
            return true;
    return false;
}

bool policy_is_below(const char *topic, const char *root)
{
    size_t n = strlen(root);
    return strncmp(topic, root, n) == 0 && (topic[n] == '/' || topic[n] == '\0');
}

bool policy_reserved(const char *topic)
{
    static const char *const roots[] = {"$PEP", "$share", "$SYS/broker/pep", "$CONTROL/pep"};
    for (size_t i = 0; topic[0] == '$' && i < sizeof(roots) / sizeof(roots[0]); i++)
        if (policy_is_below(topic, roots[i]))
            return strcmp(topic, POLICY_CONTROL_TOPIC) != 0;
    return false;
}
