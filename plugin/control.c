/* Between the broker and the directory: commands in, answers, records and log lines out; and reloads, in its thread. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plugin/plugin.h"

#define SLICE_US 2000 /* of the broker's thread, a tick */

static bool say(gate_error *error, const char *text)
{
    size_t n = strnlen(text, sizeof error->text - 1);
    memcpy(error->text, text, n);
    error->text[n] = 0;
    return false;
}

/* ---- what the directory calls ---- */

static bool publish_record(void *ctx, const char *topic, const uint8_t *bytes, size_t n)
{
    const plugin *p = ctx;
    return !p->closing &&
           broker_publish(topic, bytes, n, 1, true); /* QoS 1: a session that is away shall not miss a revocation */
}

static void answer(void *ctx, const char *client_id, const char *json, size_t n)
{
    const plugin *p = ctx;
    if (!p->closing)
        (void)broker_send(client_id, PEP_ANSWER_TOPIC, json,
                          n); /* without memory there is none: the client asks again */
}

static void note_verified(void *ctx, const directory_asker *asker, bool good)
{
    plugin *p = ctx;
    const gate_message m = {.client_id = asker->client_id, .username = asker->username, .address = asker->address};
    gate_note_command(p->gate, &m, good);
}

void control_log(void *ctx, char level, const char *line)
{
    (void)ctx;
    int type = level == 'e'   ? MOSQ_LOG_ERR
               : level == 'w' ? MOSQ_LOG_WARNING
               : level == 'n' ? MOSQ_LOG_NOTICE
                              : MOSQ_LOG_DEBUG;
    mosquitto_log_printf(type, "pep: %s", line);
}

static void first_use(void *ctx, const uint8_t kid[PEP_KID_BYTES])
{
    plugin *p = ctx;
    directory_first_use(p->directory, kid);
}

/* ---- what the policy says of it ---- */

static bool copy_admins(directory_rules *rules, const policy *p)
{
    size_t n = 0;
    while (policy_admin_at(p, n) != NULL)
        n++;
    rules->admins = calloc(n + 1, sizeof *rules->admins);
    if (rules->admins == NULL)
        return false;
    for (; rules->admin_count < n; rules->admin_count++)
        if ((rules->admins[rules->admin_count] = strdup(policy_admin_at(p, rules->admin_count))) == NULL)
            return false;
    return true;
}

static bool copy_authorities(directory_rules *rules, const policy *p)
{
    rules->authority_count = policy_authority_count(p);
    rules->authorities = calloc(rules->authority_count + 1, PEP_SIGN_PUBLIC_BYTES);
    if (rules->authorities == NULL)
        return false;
    for (size_t i = 0; i < rules->authority_count; i++)
        memcpy(rules->authorities[i], policy_authority_at(p, i), PEP_SIGN_PUBLIC_BYTES);
    return true;
}

/* False: no memory. */
static bool rules_of(directory_rules *out, const policy *p)
{
    static const directory_enroll modes[] = {[POLICY_ENROLL_CLOSED] = DIRECTORY_CLOSED,
                                             [POLICY_ENROLL_AUTHORITY] = DIRECTORY_AUTHORITY,
                                             [POLICY_ENROLL_TOKEN] = DIRECTORY_TOKEN,
                                             [POLICY_ENROLL_OPEN] = DIRECTORY_OPEN};
    *out = (directory_rules){.enroll = modes[policy_enroll_of(p)],
                             .retained = policy_directory_of(p) == POLICY_RETAINED,
                             .max_records = policy_max_records(p)};
    if (copy_admins(out, p) && copy_authorities(out, p))
        return true;
    directory_rules_free(out);
    return false;
}

/* The policy at `path`, and what of it is the directory's. NULL, and one line in `error`. */
static policy *read_policy(directory_rules *rules, policy_error *error, const char *path)
{
    policy *p = policy_load(error, path);
    if (p == NULL || rules_of(rules, p))
        return p;
    policy_free(p);
    memcpy(error->text, "out of memory", sizeof "out of memory");
    return NULL;
}

/* ---- opening ---- */

static bool open_directory(plugin *p, gate_error *error, const plugin_options *options, directory_rules *rules)
{
    pep_error why;
    const directory_config config = {.store_url = options->store,
                                     .state_dir = options->state,
                                     .records_dir = options->records,
                                     .hooks = {p, publish_record, answer, note_verified, control_log, recording_ask}};
    if (rules->enroll == DIRECTORY_CLOSED && options->records == NULL) {
        directory_rules_free(rules);
        return say(error, "enroll is \"closed\", so the records come from a folder: mosquitto.conf needs the line: "
                          "plugin_opt_records FOLDER");
    }
    p->directory = directory_open(&why, &config, rules);
    if (p->directory == NULL)
        snprintf(error->text, sizeof error->text, "%s%s", options->store == NULL ? "" : "plugin_opt_store: ", why.text);
    return p->directory != NULL;
}

static bool open_gate(plugin *p, gate_error *error, const plugin_options *options, policy *rules)
{
    const gate_config config = {.policy = rules,
                                .signers = directory_signers(p->directory),
                                .state_dir = options->state,
                                .first_use = first_use,
                                .record = recording_take,
                                .can_record = recording_has_room,
                                .ctx = p};
    p->gate = gate_open(error, &config);
    return p->gate != NULL;
}

bool control_open(plugin *p, gate_error *error, const plugin_options *options)
{
    policy_error why;
    directory_rules rules;
    p->policy_path = strdup(options->policy);
    if (p->policy_path == NULL || pep_init() != PEP_OK)
        return say(error, "out of memory");
    policy *read = read_policy(&rules, &why, p->policy_path);
    if (read == NULL)
        return say(error, why.text);
    if (!gate_ready_state_dir(error, options->state)) {
        directory_rules_free(&rules);
    } else if (open_directory(p, error, options, &rules) && recording_open(p, error, options) &&
               open_gate(p, error, options, read)) {
        return true;
    }
    policy_free(read);
    return false;
}

void control_close(plugin *p)
{
    p->closing = true; /* the broker takes nothing any more */
    ledger_close(p->ledger);
    p->ledger = NULL;
    directory_close(p->directory); /* commits what waits, and calls hooks, which need the gate */
    gate_close(p->gate);
    free(p->policy_path);
}

/* ---- commands ---- */

int control_on_command(int event, void *event_data, void *userdata)
{
    const struct mosquitto_evt_control *e = event_data;
    plugin *p = userdata;
    (void)event;
    gate_message m = {.client = e->client,
                      .client_id = mosquitto_client_id(e->client),
                      .username = mosquitto_client_username(e->client),
                      .address = mosquitto_client_address(e->client),
                      .topic = PEP_CONTROL_TOPIC,
                      .qos = e->qos};
    gate_verdict verdict;
    if (m.client_id == NULL || m.address == NULL)
        return MOSQ_ERR_SUCCESS; /* a bridge: it has nobody who could take an answer */
    const directory_asker asker = {m.client_id, m.username, m.address};
    if (directory_is_sealed(e->payload, e->payloadlen) && !gate_allows_command(p->gate, &verdict, &m)) {
        events_tell(p, &m, &verdict);
        directory_rate_limited(p->directory, &asker);
    } else {
        directory_control(p->directory, &asker, e->payload, e->payloadlen);
    }
    return MOSQ_ERR_SUCCESS; /* an error would disconnect it */
}

/* ---- reloads ---- */

typedef struct {
    directory_reload base; /* first member */
    plugin *plugin;
    const char *path;
    policy *policy;
} reload;

/* In the directory's thread. */
static bool load(directory_reload *base)
{
    reload *r = (reload *)(void *)base;
    policy_error why;
    r->policy = read_policy(&base->rules, &why, r->path);
    if (r->policy == NULL)
        memcpy(base->error.text, why.text, sizeof base->error.text);
    return r->policy != NULL;
}

static gate_reload_result take_over(reload *r, gate_error *error)
{
    plugin *p = r->plugin;
    if (!r->base.failed)
        return gate_reload(p->gate, error, r->policy, r->base.changed);
    policy_free(r->policy);
    gate_reload_failed(p->gate);
    say(error, r->base.error.text);
    return GATE_RELOAD_FAILED;
}

static void done(directory_reload *base)
{
    reload *r = (reload *)(void *)base;
    plugin *p = r->plugin;
    gate_error error = {""};
    gate_reload_result result = take_over(r, &error);
    report_reload(p->gate, p->directory, result, error.text);
    free(r);
    p->reloading = false;
    if (p->reload_again)
        control_reload(p);
}

void control_reload(plugin *p)
{
    p->reload_again = p->reloading;
    if (p->reloading)
        return;
    reload *r = calloc(1, sizeof *r);
    if (r != NULL) {
        *r = (reload){.base = {.load = load, .done = done}, .plugin = p, .path = p->policy_path};
        p->reloading = directory_start_reload(p->directory, &r->base);
    }
    if (p->reloading)
        return;
    free(r);
    gate_reload_failed(p->gate);
    report_reload(p->gate, p->directory, GATE_RELOAD_FAILED, "too much waits for the store; send SIGHUP again");
}

bool control_tick(plugin *p)
{
    bool more = directory_tick(p->directory, SLICE_US);
    return ledger_tick(p->ledger, SLICE_US) || more;
}
