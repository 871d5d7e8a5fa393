#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plugin/plugin.h"

/* From 0 to SYS_INTERVAL_MAX_S, digits only. */
static bool parse_seconds(unsigned *out, const char *text)
{
    size_t n = strspn(text, "0123456789");
    if (n == 0 || n > 5 || text[n] != 0)
        return false;
    *out = (unsigned)strtoul(text, NULL, 10);
    return *out <= SYS_INTERVAL_MAX_S;
}

static const char *take_path(const char **place, const char *value)
{
    if (*place != NULL)
        return "is given twice: remove one";
    if (value == NULL || value[0] != '/')
        return "must be an absolute path";
    *place = value;
    return NULL;
}

static const char *take_interval(plugin_options *out, const char *value)
{
    if (out->sys_interval_given)
        return "is given twice: remove one";
    out->sys_interval_given = true;
    return value != NULL && parse_seconds(&out->sys_interval_s, value) ? NULL : "must be a number from 0 to 65535";
}

/* Its form is the store's to judge: not here, where the whole value, with a password in it, would stand in the log. */
static const char *take_store(const char **place, const char *value)
{
    if (*place != NULL)
        return "is given twice: remove one";
    if (value == NULL)
        return "must be sqlite:/FILE or postgresql://...";
    *place = value;
    return NULL;
}

/* NULL, or what is wrong with it. */
static const char *take(plugin_options *out, const char *key, const char *value)
{
    if (strcmp(key, "policy") == 0)
        return take_path(&out->policy, value);
    if (strcmp(key, "records") == 0)
        return take_path(&out->records, value);
    if (strcmp(key, "state") == 0)
        return take_path(&out->state, value);
    if (strcmp(key, "store") == 0)
        return take_store(&out->store, value);
    if (strcmp(key, "ledger") == 0)
        return take_store(&out->ledger, value);
    if (strcmp(key, "sys_interval") == 0)
        return take_interval(out, value);
    return "is not an option of pep: policy, records, state, store, ledger and sys_interval are";
}

bool options_parse(plugin_options *out, gate_error *error, const struct mosquitto_opt *given, int count)
{
    *out = (plugin_options){.sys_interval_s = SYS_INTERVAL_S};
    for (int i = 0; i < count; i++) {
        const char *wrong = take(out, given[i].key, given[i].value);
        if (wrong != NULL) {
            snprintf(error->text, sizeof error->text, "plugin_opt_%s %s", given[i].key, wrong);
            return false;
        }
    }
    const char *missing = out->policy == NULL ? "policy FILE" : out->state == NULL ? "state FOLDER" : NULL;
    if (missing != NULL)
        snprintf(error->text, sizeof error->text, "mosquitto.conf needs the line: plugin_opt_%s", missing);
    return missing == NULL;
}
