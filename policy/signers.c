#include "policy/signers.h"

#include "policy/model.h"
#include "policy/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ID_RULE "an id is 1 to 64 of A-Z a-z 0-9 . _ : @ -"

/* What both `const char *` and structs that begin with one are sorted by. */
static int compare(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

bool names_hold(const names *set, const char *name)
{
    return set->n > 0 && bsearch(&name, set->at, set->n, sizeof(*set->at), compare) != NULL;
}

/* Sorts; returns a name that stands there twice, or NULL. */
static const char *sort_names(names *set)
{
    if (set->n > 1)
        qsort(set->at, set->n, sizeof(*set->at), compare);
    for (size_t i = 1; i < set->n; i++)
        if (strcmp(set->at[i - 1], set->at[i]) == 0)
            return set->at[i];
    return NULL;
}

static bool twice(const reader *r, const config_setting_t *at, const char *entry)
{
    return reader_fail(r, at, "\"%.64s\" stands here twice; keep one", entry);
}

static bool add_name(const reader *r, names *set, const config_setting_t *list, int i)
{
    const char *name = reader_element(list, i);
    const config_setting_t *at = config_setting_get_elem(list, (unsigned)i);
    if (!text_is_id(name))
        return reader_fail(r, at, "\"%.64s\" is no id; " ID_RULE, name);
    set->at[set->n] = arena_text(r->memory, name, strlen(name));
    if (set->at[set->n] == NULL)
        return reader_no_memory(r, at);
    set->n++;
    return true;
}

/* Only ids: a leading @ would be taken for one of the groups that other lists can name. */
static bool read_names(const reader *r, names *out, const config_setting_t *list, const reader_key *key)
{
    int n = reader_list(r, list, key);
    if (n < 0)
        return false;
    out->at = arena_take(r->memory, (size_t)n * sizeof(*out->at));
    if (out->at == NULL)
        return reader_no_memory(r, list);
    for (int i = 0; i < n; i++) {
        const char *name = reader_element(list, i);
        if (name[0] == '@')
            return reader_fail(r, config_setting_get_elem(list, (unsigned)i),
                               "\"%.64s\" begins with @, but %s holds no groups; name the ids", name, key->name);
        if (!add_name(r, out, list, i))
            return false;
    }
    const char *same = sort_names(out);
    return same == NULL || twice(r, list, same);
}

bool signers_read_names(const reader *r, void *object, const config_setting_t *setting, const reader_key *key)
{
    return read_names(r, (names *)(void *)((char *)object + key->offset), setting, key);
}

/* The name, with an '@' in front of what is returned. */
static const char *group_name(const reader *r, const char *name)
{
    size_t n = strlen(name);
    char *made = arena_take(r->memory, n + 2);
    if (made == NULL)
        return NULL;
    made[0] = '@';
    memcpy(made + 1, name, n + 1);
    return made + 1;
}

bool signers_read_groups(const reader *r, void *object, const config_setting_t *setting, const reader_key *group_key)
{
    groups *out = (groups *)(void *)((char *)object + group_key->offset);
    if (!config_setting_is_group(setting))
        return reader_wrong_type(r, setting, group_key, "a group");
    int n = config_setting_length(setting);
    out->at = arena_take(r->memory, (size_t)n * sizeof(*out->at));
    if (out->at == NULL)
        return reader_no_memory(r, setting);
    for (int i = 0; i < n; i++) {
        const config_setting_t *list = config_setting_get_elem(setting, (unsigned)i);
        const char *name = config_setting_name(list);
        const reader_key member_key = {.name = name, .example = "[ \"console\", \"scada-1\" ]"};
        group *made = &out->at[out->n++];
        made->name = group_name(r, name);
        if (made->name == NULL)
            return reader_no_memory(r, list);
        if (!read_names(r, &made->members, list, &member_key))
            return false;
    }
    if (out->n > 1) /* libconfig has refused a name that stands there twice */
        qsort(out->at, out->n, sizeof(*out->at), compare);
    return true;
}

/* A group that the file does not define: certificates may put devices into it. */
static const group *undefined_group(const reader *r, const char *name)
{
    group *made = arena_take(r->memory, sizeof *made);
    if (made == NULL)
        return NULL;
    *made = (group){.name = group_name(r, name)};
    r->policy->undefined_group_n++;
    r->policy->undefined_group = made->name;
    return made->name == NULL ? NULL : made;
}

static bool add_group(const reader *r, policy_signers *out, const config_setting_t *at, const char *entry,
                      const groups *known)
{
    const char *name = entry + 1;
    const group *found = known->n == 0 ? NULL : bsearch(&name, known->at, known->n, sizeof(*known->at), compare);
    for (size_t i = 0; i < out->group_n; i++)
        if (strcmp(out->groups[i]->name, name) == 0)
            return twice(r, at, entry);
    if (found == NULL && (r->policy->authority_n == 0 || !text_is_id(name)))
        return reader_fail(r, at, "there is no group %.64s; define it: groups = { %.64s = [ \"console\" ]; };", entry,
                           name);
    if (found == NULL && (found = undefined_group(r, name)) == NULL)
        return reader_no_memory(r, at);
    out->groups[out->group_n++] = found;
    return true;
}

static bool add_level(const reader *r, policy_signers *out, const config_setting_t *at, const char *entry,
                      const char *filter)
{
    size_t digits = strspn(entry + 1, "0123456789");
    if (digits == 0 || digits > 3 || entry[1 + digits] != '\0' || entry[1] == '0')
        return reader_fail(r, at, "\"%.64s\" names no wildcard; write %%1 for the first + of the filter", entry);
    int level = text_plus_level(filter, (unsigned)strtoul(entry + 1, NULL, 10));
    if (level < 0)
        return reader_fail(r, at, "there is no %s: the filter \"%.60s\" has %u +; a %%N counts those only", entry,
                           filter, text_plus_count(filter));
    for (size_t i = 0; i < out->level_n; i++)
        if (out->levels[i] == (unsigned)level)
            return twice(r, at, entry);
    out->levels[out->level_n++] = (unsigned)level;
    return true;
}

static bool add_anyone(const reader *r, policy_signers *out, const config_setting_t *at)
{
    if (out->anyone)
        return twice(r, at, "*");
    out->anyone = true;
    return true;
}

static bool add_entry(const reader *r, policy_signers *out, const config_setting_t *list, int i, const groups *known,
                      const char *filter)
{
    const char *entry = reader_element(list, i);
    const config_setting_t *at = config_setting_get_elem(list, (unsigned)i);
    if (entry[0] == '@')
        return add_group(r, out, at, entry, known);
    if (filter != NULL && strcmp(entry, "*") == 0)
        return add_anyone(r, out, at);
    if (filter != NULL && entry[0] == '%')
        return add_level(r, out, at, entry, filter);
    return add_name(r, &out->ids, list, i);
}

static bool take_room(const reader *r, policy_signers *out, size_t n)
{
    out->ids.at = arena_take(r->memory, n * sizeof(*out->ids.at));
    out->groups = arena_take(r->memory, n * sizeof(const group *));
    out->levels = arena_take(r->memory, n * sizeof(*out->levels));
    return out->ids.at != NULL && out->groups != NULL && out->levels != NULL;
}

bool signers_read(const reader *r, policy_signers *out, const config_setting_t *setting, const reader_key *key,
                  const groups *known, const char *filter)
{
    int n = reader_list(r, setting, key);
    if (n < 0)
        return false;
    if (!take_room(r, out, (size_t)n))
        return reader_no_memory(r, setting);
    for (int i = 0; i < n; i++)
        if (!add_entry(r, out, setting, i, known, filter))
            return false;
    const char *same = sort_names(&out->ids);
    return same == NULL || twice(r, setting, same);
}

static bool is_among(policy_groups certified, const char *group_name)
{
    for (const char *p = certified; p != NULL && *p != '\0'; p += strlen(p) + 1)
        if (strcmp(p, group_name) == 0)
            return true;
    return false;
}

bool signers_name(const policy_signers *signers, const char *id, policy_groups certified)
{
    if (names_hold(&signers->ids, id))
        return true;
    for (size_t i = 0; i < signers->group_n; i++)
        if (names_hold(&signers->groups[i]->members, id) || is_among(certified, signers->groups[i]->name))
            return true;
    return false;
}

const char *signers_entry(const policy_signers *signers, size_t i)
{
    if (i < signers->ids.n)
        return signers->ids.at[i];
    i -= signers->ids.n;
    for (size_t g = 0; g < signers->group_n; g++) {
        const names *members = &signers->groups[g]->members;
        if (i < members->n)
            return members->at[i];
        if (i == members->n)
            return signers->groups[g]->name - 1; /* the '@' */
        i -= members->n + 1;
    }
    return NULL;
}

/* Which wildcard of the filter stands at this level, from 1. */
static unsigned wildcard_number(const char *filter, unsigned level)
{
    unsigned number = 0;
    unsigned at = 0;
    for (const char *p = filter; *p != '\0' && at <= level; p++) {
        number += *p == '+';
        at += *p == '/';
    }
    return number;
}

bool policy_signer_text(char *out, size_t cap, const policy_rule *rule, size_t i)
{
    const policy_signers *s = rule->signers;
    const size_t anyone = s->anyone ? 1 : 0;
    if (i < anyone)
        return snprintf(out, cap, "*") > 0;
    i -= anyone;
    if (i < s->level_n)
        return snprintf(out, cap, "%%%u", wildcard_number(rule->filter, s->levels[i])) > 0;
    i -= s->level_n;
    if (i < s->group_n)
        return snprintf(out, cap, "@%s", s->groups[i]->name) > 0;
    i -= s->group_n;
    return i < s->ids.n && snprintf(out, cap, "%s", s->ids.at[i]) > 0;
}
