#include <stdio.h>
#include <string.h>

#include "plugin/plugin.h"

static const char **place_of(plugin_options *options, const char *key)
{
    const struct {
        const char *name;
        const char **place;
    } known[] = {{"policy", &options->policy}, {"records", &options->records}, {"state", &options->state}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strcmp(known[i].name, key) == 0)
            return known[i].place;
    return NULL;
}

static bool take(plugin_options *out, gate_error *error, const struct mosquitto_opt *option)
{
    const char **place = place_of(out, option->key);
    const char *wrong = NULL;
    if (place == NULL)
        wrong = "is not an option of pep: policy, records and state are";
    else if (*place != NULL)
        wrong = "is given twice: remove one";
    else if (option->value == NULL || option->value[0] != '/')
        wrong = "must be an absolute path";
    if (wrong != NULL) {
        snprintf(error->text, sizeof error->text, "plugin_opt_%s %s", option->key, wrong);
        return false;
    }
    *place = option->value;
    return true;
}

bool options_parse(plugin_options *out, gate_error *error, const struct mosquitto_opt *given, int count)
{
    *out = (plugin_options){0};
    for (int i = 0; i < count; i++)
        if (!take(out, error, &given[i]))
            return false;
    const char *missing = out->policy == NULL ? "policy FILE" : out->records == NULL ? "records FOLDER" : NULL;
    if (missing == NULL && out->state == NULL)
        missing = "state FOLDER";
    if (missing != NULL)
        snprintf(error->text, sizeof error->text, "mosquitto.conf needs the line: plugin_opt_%s", missing);
    return missing == NULL;
}
