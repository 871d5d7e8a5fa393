/* The list `topics`: its keys, and what they mean. */
#include "policy/model.h"
#include "policy/text.h"

#include <string.h>

#define LONGEST "36500d"

/* Room for every enum that reader_choice writes as an unsigned. */
_Static_assert(sizeof(policy_mode) == sizeof(unsigned), "policy_mode");
_Static_assert(sizeof(policy_payload) == sizeof(unsigned), "policy_payload");

static bool read_filter(const reader *r, void *object, const config_setting_t *setting, const reader_key *key)
{
    policy_rule *rule = object;
    const char *text = reader_string(r, setting, key);
    if (text == NULL)
        return false;
    const char *fault = text_filter_fault(text);
    if (fault != NULL)
        return reader_fail(r, setting, "filter \"%.60s\" %s", text, fault);
    rule->filter = arena_text(r->memory, text, strlen(text));
    return rule->filter != NULL || reader_no_memory(r, setting);
}

static bool read_signers(const reader *r, void *object, const config_setting_t *setting, const reader_key *key)
{
    policy_rule *rule = object;
    policy_signers *signers = arena_take(r->memory, sizeof(*signers));
    if (signers == NULL)
        return reader_no_memory(r, setting);
    rule->signers = signers;
    if (!signers_read(r, signers, setting, key, &r->policy->groups, rule->filter))
        return false;
    if (config_setting_length(setting) == 0)
        return reader_fail(r, setting, "signers is empty, so nobody could speak; write it like signers = %s",
                           key->example);
    return true;
}

static bool read_prefix(const reader *r, void *object, const config_setting_t *setting, const reader_key *key)
{
    policy_rule *rule = object;
    const char *text = reader_string(r, setting, key);
    if (text == NULL)
        return false;
    size_t n = strlen(text);
    if (n > POLICY_FILTER_MAX || !text_is_utf8(text) || strpbrk(text, "+#") != NULL)
        return reader_fail(r, setting,
                           "prefix \"%.60s\" is no beginning of a topic; write UTF-8 of at most 65535 bytes without + "
                           "and #, like prefix = %s",
                           text, key->example);
    rule->prefix = arena_text(r->memory, text, n);
    rule->prefix_n = n;
    return rule->prefix != NULL || reader_no_memory(r, setting);
}

static const char *const modes[] = {"enforce", "observe", NULL};
static const char *const payloads[] = {"encrypted", "signed", NULL};
static const char *const answers[] = {"deny", "allow", NULL};
static const char *const overflows[] = {"drop", "refuse", NULL};

/* In the order in which they are read: signers need the filter. */
static const reader_key rule_keys[] = {
    {"filter", "\"sensors/+/telemetry\"", read_filter, 0, NULL, true},
    {"mode", "\"enforce\"", reader_choice, offsetof(policy_rule, mode), modes, false},
    {"payload", "\"encrypted\"", reader_choice, offsetof(policy_rule, payload), payloads, false},
    {"signers", "[ \"%1\" ]", read_signers, 0, NULL, true},
    {"max_age", "\"30s\"", reader_duration, offsetof(policy_rule, max_age_us), LONGEST, false},
    {"will_max_age", "\"1d\"", reader_duration, offsetof(policy_rule, will_max_age_us), LONGEST, false},
    {"max_size", "\"64k\"", reader_size, offsetof(policy_rule, max_size), NULL, false},
    {"record", "\"allow\"", reader_bool, offsetof(policy_rule, record), answers, false},
    {"record_overflow", "\"refuse\"", reader_bool, offsetof(policy_rule, refuse_overflow), overflows, false},
    {"keep", "\"30d\"", reader_duration, offsetof(policy_rule, keep_us), LONGEST, false},
    {"prefix", "\"tenant1/\"", read_prefix, 0, NULL, false},
    {0},
};

static bool index_rule(const reader *r, const config_setting_t *setting, const policy_rule *rule)
{
    policy *p = r->policy;
    uint32_t *slot = trie_slot(p->topics, rule->filter);
    if (slot == NULL)
        return reader_no_memory(r, setting);
    if (*slot != 0) {
        const policy_rule *first = &p->rules[*slot - 1];
        return reader_fail(r, config_setting_get_member(setting, "filter"),
                           "the filter \"%.60s\" has a rule in line %d of %s%.100s already; keep one", rule->filter,
                           first->line, strlen(first->file) > 100 ? "..." : "",
                           strlen(first->file) > 100 ? first->file + strlen(first->file) - 100 : first->file);
    }
    *slot = (uint32_t)(rule - p->rules) + 1;
    return true;
}

static bool read_rule(const reader *r, policy_rule *rule, const config_setting_t *setting, const reader_key *key)
{
    policy *p = r->policy;
    if (!config_setting_is_group(setting))
        return reader_fail(r, setting, "this entry of topics is not a group; write it like topics = %s", key->example);
    unsigned line = 0;
    rule->file = source_origin(r->source, &line, config_setting_source_line(setting));
    rule->line = (int)line;
    rule->max_size = POLICY_DEFAULT_MAX_SIZE;
    rule->prefix = "";
    if (!reader_keys(r, rule, setting, rule_keys) || !index_rule(r, setting, rule))
        return false;
    if (rule->max_size > p->largest_size)
        p->largest_size = rule->max_size;
    return true;
}

bool rules_read(const reader *r, void *object, const config_setting_t *setting, const reader_key *key)
{
    policy *p = object;
    if (!config_setting_is_list(setting))
        return reader_fail(r, setting, "topics is not a list of groups; write it like topics = %s", key->example);
    int n = config_setting_length(setting);
    p->rules = arena_take(r->memory, (size_t)n * sizeof(*p->rules));
    if (p->rules == NULL)
        return reader_no_memory(r, setting);
    for (int i = 0; i < n; i++)
        if (!read_rule(r, &p->rules[p->rule_n++], config_setting_get_elem(setting, (unsigned)i), key))
            return false;
    return true;
}
