/* The plugin's three entry points. */
#include <stdlib.h>

#include "plugin/plugin.h"

#define EXPORTED __attribute__((visibility("default")))

/* 2.0 sends a global plugin no event at all where per_listener_settings is set, and its id then points to a listener:
 * to start would be to pretend. */
static bool gets_no_events(const mosquitto_plugin_id_t *id)
{
    return !broker_is_2_1() && *(void *const *)(const void *)id != NULL;
}

static void stop(plugin *p)
{
    if (p == NULL)
        return;
    events_unregister(p);
    control_close(p);
    notices_free(p->notices);
    free(p);
}

static int refuse_start(plugin *p, const char *why)
{
    mosquitto_log_printf(MOSQ_LOG_ERR, "pep: not started: %s", why);
    stop(p);
    return MOSQ_ERR_UNKNOWN;
}

EXPORTED int mosquitto_plugin_version(int supported_version_count, const int *supported_versions)
{
    for (int i = 0; i < supported_version_count; i++)
        if (supported_versions[i] == 5)
            return 5;
    return -1;
}

EXPORTED int mosquitto_plugin_init(mosquitto_plugin_id_t *identifier, void **userdata, struct mosquitto_opt *options,
                                   int option_count)
{
    gate_error error;
    plugin_options given;
    if (gets_no_events(identifier))
        return refuse_start(NULL, "with per_listener_settings true, Mosquitto 2.0 would load this plugin and never ask "
                                  "it: set per_listener_settings false");
    if (!options_parse(&given, &error, options, option_count))
        return refuse_start(NULL, error.text);
    plugin *p = calloc(1, sizeof *p);
    if (p == NULL || (p->notices = notices_new()) == NULL)
        return refuse_start(p, "out of memory");
    p->id = identifier;
    p->report.sys_interval_s = given.sys_interval_s;
    if (!control_open(p, &error, &given))
        return refuse_start(p, error.text);
    if (events_register(p) != MOSQ_ERR_SUCCESS)
        return refuse_start(p, "the broker did not take the callbacks");
    if (broker_is_2_1())
        mosquitto_plugin_set_info(identifier, "pep", PEP_VERSION);
    report_start(p->gate, p->directory, &given);
    *userdata = p;
    return MOSQ_ERR_SUCCESS;
}

EXPORTED int mosquitto_plugin_cleanup(void *userdata, struct mosquitto_opt *options, int option_count)
{
    (void)options;
    (void)option_count;
    stop(userdata);
    return MOSQ_ERR_SUCCESS;
}
