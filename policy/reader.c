#include "policy/reader.h"

#include "policy/text.h"
#include "policy/units.h"

#include <stdio.h>
#include <string.h>

bool reader_fail(const reader *r, const config_setting_t *at, const char *format, ...)
{
    unsigned line = 0;
    const char *path = source_origin(r->source, &line, config_setting_source_line(at));
    va_list values;
    va_start(values, format);
    text_verror(r->error, path, line, format, values);
    va_end(values);
    return false;
}

bool reader_no_memory(const reader *r, const config_setting_t *at)
{
    return reader_fail(r, at, "out of memory");
}

bool reader_wrong_type(const reader *r, const config_setting_t *at, const reader_key *key, const char *wanted)
{
    return reader_fail(r, at, "%s is not %s; write it like %s = %s", key->name, wanted, key->name, key->example);
}

static bool is_known(const char *name, const reader_key *keys)
{
    for (; keys->name != NULL; keys++)
        if (strcmp(keys->name, name) == 0)
            return true;
    return false;
}

/* Appends a word to a message that is being put together; what does not fit is left out. */
static void add_word(char *list, size_t size, const char *between, const char *word)
{
    size_t n = strlen(list);
    snprintf(list + n, size - n, "%s%s", n == 0 ? "" : between, word);
}

static bool refuse_unknown(const reader *r, const config_setting_t *group, const reader_key *keys)
{
    for (int i = 0; i < config_setting_length(group); i++) {
        const config_setting_t *setting = config_setting_get_elem(group, (unsigned)i);
        const char *name = config_setting_name(setting);
        if (is_known(name, keys))
            continue;
        char known[200] = "";
        for (const reader_key *k = keys; k->name != NULL; k++)
            add_word(known, sizeof(known), ", ", k->name);
        return reader_fail(r, setting, "unknown key %.60s; known here are %s", name, known);
    }
    return true;
}

bool reader_keys(const reader *r, void *object, const config_setting_t *group, const reader_key *keys)
{
    if (!refuse_unknown(r, group, keys))
        return false;
    for (const reader_key *k = keys; k->name != NULL; k++) {
        const config_setting_t *setting = config_setting_get_member(group, k->name);
        if (setting == NULL && k->required)
            return reader_fail(r, group, "%s is missing; add %s = %s", k->name, k->name, k->example);
        if (setting != NULL && !k->read(r, object, setting, k))
            return false;
    }
    return true;
}

const char *reader_string(const reader *r, const config_setting_t *setting, const reader_key *key)
{
    const char *text = config_setting_get_string(setting);
    if (text == NULL)
        reader_wrong_type(r, setting, key, "a string");
    return text;
}

const char *reader_element(const config_setting_t *list, int i)
{
    return config_setting_get_string(config_setting_get_elem(list, (unsigned)i));
}

int reader_list(const reader *r, const config_setting_t *setting, const reader_key *key)
{
    bool ok = config_setting_is_array(setting) || config_setting_is_list(setting);
    int n = ok ? config_setting_length(setting) : 0;
    for (int i = 0; ok && i < n; i++)
        ok = reader_element(setting, i) != NULL;
    if (!ok)
        reader_wrong_type(r, setting, key, "a list of strings");
    return ok ? n : -1;
}

/* The index of the word that the setting holds, -1 with the error filled. */
static int find_choice(const reader *r, const config_setting_t *setting, const reader_key *key)
{
    const char *const *words = key->how;
    const char *text = reader_string(r, setting, key);
    if (text == NULL)
        return -1;
    char choices[100] = "";
    for (int i = 0; words[i] != NULL; i++) {
        if (strcmp(words[i], text) == 0)
            return i;
        add_word(choices, sizeof(choices), " or ", words[i]);
    }
    reader_fail(r, setting, "%s is \"%.60s\"; it can be %s", key->name, text, choices);
    return -1;
}

static void *field(void *object, const reader_key *key)
{
    return (char *)object + key->offset;
}

bool reader_choice(const reader *r, void *object, const config_setting_t *setting, const reader_key *key)
{
    int found = find_choice(r, setting, key);
    if (found < 0)
        return false;
    *(unsigned *)field(object, key) = (unsigned)found; /* what an enum without negative values is */
    return true;
}

bool reader_bool(const reader *r, void *object, const config_setting_t *setting, const reader_key *key)
{
    int found = find_choice(r, setting, key);
    if (found < 0)
        return false;
    *(bool *)field(object, key) = found == 1;
    return true;
}

bool reader_duration(const reader *r, void *object, const config_setting_t *setting, const reader_key *key)
{
    const char *text = config_setting_get_string(setting);
    uint64_t us = 0;
    uint64_t most = 0;
    if (text == NULL || !units_duration(&us, text))
        return reader_wrong_type(r, setting, key, "a duration (a number and one of ms, s, m, h, d)");
    units_duration(&most, key->how);
    if (us == 0 || us > most)
        return reader_fail(r, setting, "%s is \"%.60s\"; it can be 1ms to %s", key->name, text, (const char *)key->how);
    *(uint64_t *)field(object, key) = us;
    return true;
}

/* libconfig cuts hexadecimal numbers to 32 bits without a word, so only decimal ones are taken. */
static bool is_decimal(const config_setting_t *setting)
{
    int type = config_setting_type(setting);
    return (type == CONFIG_TYPE_INT || type == CONFIG_TYPE_INT64) &&
           config_setting_get_format(setting) == CONFIG_FORMAT_DEFAULT;
}

static long long number_of(const config_setting_t *setting)
{
    bool is_int = config_setting_type(setting) == CONFIG_TYPE_INT;
    return is_int ? config_setting_get_int(setting) : config_setting_get_int64(setting);
}

bool reader_size(const reader *r, void *object, const config_setting_t *setting, const reader_key *key)
{
    const char *text = config_setting_get_string(setting);
    uint64_t bytes = 0;
    if (text != NULL ? !units_size(&bytes, text) : !is_decimal(setting))
        return reader_wrong_type(r, setting, key, "a size (a decimal number, and k or m behind it or nothing)");
    if (text == NULL && number_of(setting) > 0)
        bytes = (uint64_t)number_of(setting);
    if (bytes < 1 || bytes > POLICY_MAX_SIZE_LIMIT)
        return reader_fail(r, setting, "%s is out of range; it can be 1 to %u bytes, MQTT's largest message", key->name,
                           POLICY_MAX_SIZE_LIMIT);
    *(uint32_t *)field(object, key) = (uint32_t)bytes;
    return true;
}

bool reader_count(const reader *r, void *object, const config_setting_t *setting, const reader_key *key)
{
    uint64_t most = 0;
    units_size(&most, key->how);
    if (!is_decimal(setting))
        return reader_wrong_type(r, setting, key, "a decimal number");
    long long number = number_of(setting);
    if (number < 0 || (uint64_t)number > most)
        return reader_fail(r, setting, "%s is out of range; it can be 0 to %s", key->name, (const char *)key->how);
    *(uint32_t *)field(object, key) = (uint32_t)number;
    return true;
}
