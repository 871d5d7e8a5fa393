/* Opening, closing, and what is done on a tick. */
#include "directory/directory.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "directory/internal.h"
#include "directory/tables.h"
#include "envelope/error.h"

#define LINE_BYTES 1024

void directory_rules_free(directory_rules *rules)
{
    for (size_t i = 0; i < rules->admin_count; i++)
        free(rules->admins[i]);
    free(rules->admins);
    free(rules->authorities);
    rules->admins = NULL;
    rules->authorities = NULL;
    rules->admin_count = rules->authority_count = 0;
}

void settings_free(settings *s)
{
    if (s == NULL)
        return;
    directory_rules_free(&s->rules);
    folder_list_free(&s->folder);
    free(s);
}

void directory_say(directory *d, char level, const char *format, ...)
{
    char line[LINE_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    d->hooks.log(d->hooks.ctx, level, line);
}

uint64_t directory_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* ---- the registrar's settings ---- */

const settings *registrar_settings(registrar *r)
{
    return r->settings;
}

void registrar_renew(void *ctx)
{
    registrar *r = ctx;
    settings *next = atomic_exchange(&r->next, NULL);
    if (next == NULL)
        return;
    settings_free(r->settings);
    r->settings = next;
}

bool registrar_sees(registrar *r, const key_row *row)
{
    return !row->provisioned || folder_list_has(&registrar_settings(r)->folder, row->id);
}

static bool in_group(const key_row *row, const char *group)
{
    if (!row->has_groups)
        return false;
    for (const char *p = row->groups; *p != '\0'; p += strlen(p) + 1)
        if (strcmp(p, group) == 0)
            return true;
    return false;
}

bool registrar_is_admin(registrar *r, const key_row *row, uint64_t now_s)
{
    const directory_rules *rules = &registrar_settings(r)->rules;
    if (!row->has_key || row->state != SIGNER_CURRENT || row->not_after_s < now_s || !registrar_sees(r, row))
        return false;
    for (size_t i = 0; i < rules->admin_count; i++) {
        const char *admin = rules->admins[i];
        if (admin[0] == '@' ? in_group(row, admin + 1) : strcmp(admin, row->id) == 0)
            return true;
    }
    return false;
}

/* ---- opening ---- */

static bool copy_config(directory *d, const directory_config *config)
{
    d->hooks = config->hooks;
    d->state_dir = strdup(config->state_dir);
    d->records_dir = config->records_dir == NULL ? NULL : strdup(config->records_dir);
    d->signers = signers_new();
    d->registrar.settings = calloc(1, sizeof *d->registrar.settings);
    d->registrar.owner = d;
    d->registrar.records_dir = d->records_dir;
    d->registrar.state_dir = d->state_dir;
    d->registrar.gate_kid = d->gate_kid;
    return d->state_dir != NULL && (config->records_dir == NULL || d->records_dir != NULL) && d->signers != NULL &&
           d->registrar.settings != NULL;
}

static store *open_store(pep_error *error, const directory_config *config)
{
    char url[4096];
    store_result result;
    store_error why;
    if ((size_t)snprintf(url, sizeof url, "sqlite:%s/directory.db", config->state_dir) >= sizeof url) {
        (void)pep_fail(error, PEP_CANNOT_READ, "%s: the path is too long", config->state_dir);
        return NULL;
    }
    store *s = store_open(&result, &why, config->store_url == NULL ? url : config->store_url, directory_migrations,
                          DIRECTORY_MIGRATIONS);
    if (s == NULL)
        (void)pep_fail(error, PEP_STORE_FAILED, "%s", why.text);
    return s;
}

typedef struct {
    signers *signers;
    bool full;
} loading;

static bool load_key(void *ctx, const key_row *row)
{
    loading *l = ctx;
    l->full = !serve_put(l->signers, row);
    return !l->full;
}

/* Imports the folder, and reads who may sign, as of one moment. */
static store_result load(directory *d, store *s, pep_error *error)
{
    registrar *r = &d->registrar;
    bool ignored;
    signer_ids ids;
    loading l = {.signers = d->signers};
    store_result result = folder_import(r, s, &r->settings->folder, error, &r->settings->rules);
    if (result != STORE_OK)
        return result;
    if (!folder_ids(&ids, &r->settings->folder))
        return STORE_FAILED;
    signers_provision(d->signers, &ids);
    result = rows_add_published(s, &ignored, r->gate_kid, PEP_GATE_TOPIC);
    if (result == STORE_OK)
        result = rows_last_change(s, &r->last_change);
    if (result == STORE_OK)
        result = rows_all_keys(s, load_key, &l);
    if (result == STORE_OK)
        result = rows_count_published(s, &r->published, r->gate_kid);
    r->seen_published = r->published;
    return result == STORE_OK && l.full ? STORE_FAILED : result;
}

static bool load_in_transaction(directory *d, store *s, pep_error *error)
{
    error->text[0] = '\0';
    store_result result = store_begin(s);
    if (result == STORE_OK)
        result = load(d, s, error);
    if (result == STORE_OK)
        result = store_commit(s);
    if (result == STORE_OK)
        return true;
    if (error->text[0] == '\0')
        (void)pep_fail(error, PEP_STORE_FAILED, "cannot read the directory: %s", store_why(s));
    return false;
}

static bool start(directory *d, pep_error *error, const directory_config *config)
{
    const store_worker_hooks hooks = {.ctx = &d->registrar,
                                      .before = registrar_renew,
                                      .follow = serve_follow,
                                      .followed = serve_followed,
                                      .every_ms = FOLLOW_EVERY_MS,
                                      .batch_ms = BATCH_MS};
    const directory_rules *rules = &d->registrar.settings->rules;
    if (!gate_identity(error, d->gate_kid, d->gate_entry, &d->gate_entry_n, d->state_dir, rules))
        return false;
    memcpy(d->registrar.settings->gate_entry, d->gate_entry, d->gate_entry_n);
    d->registrar.settings->gate_entry_n = d->gate_entry_n;
    store *s = open_store(error, config);
    if (s == NULL)
        return false;
    d->registrar.store_kind = store_kind(s);
    if (load_in_transaction(d, s, error)) {
        d->worker = store_worker_start(s, &hooks);
        if (d->worker != NULL)
            return true;
        (void)pep_fail(error, PEP_NO_MEMORY, "cannot start the store's thread");
    }
    store_close(s);
    return false;
}

directory *directory_open(pep_error *error, const directory_config *config, directory_rules *rules)
{
    directory *d = calloc(1, sizeof *d);
    if (d == NULL || !copy_config(d, config)) {
        (void)pep_fail(error, PEP_NO_MEMORY, "out of memory");
        directory_rules_free(rules);
        directory_close(d);
        return NULL;
    }
    d->registrar.settings->rules = *rules;
    *rules = (directory_rules){0};
    d->retained = d->registrar.settings->rules.retained;
    if (!start(d, error, config)) {
        directory_close(d);
        return NULL;
    }
    serve_start(d);
    return d;
}

void directory_close(directory *d)
{
    if (d == NULL)
        return;
    d->closing = true;
    store_worker_stop(d->worker);
    use_forget(d);
    queue_forget(d);
    settings_free(atomic_exchange(&d->registrar.next, NULL));
    settings_free(d->registrar.settings);
    signers_free(d->signers);
    free(d->state_dir);
    free(d->records_dir);
    free(d);
}

/* ---- asking ---- */

signers *directory_signers(directory *d)
{
    return d->signers;
}

const uint8_t *directory_gate_kid(const directory *d)
{
    return d->gate_kid;
}

bool directory_served(const directory *d, const char *topic, const uint8_t *payload, size_t n)
{
    size_t prefix = sizeof PEP_KEYS_TOPIC - 1;
    if (strcmp(topic, PEP_GATE_TOPIC) == 0)
        return d->gate_served && n == d->gate_entry_n && memcmp(payload, d->gate_entry, n) == 0;
    return strncmp(topic, PEP_KEYS_TOPIC, prefix) == 0 && signers_serves(d->signers, topic + prefix, payload, n);
}

directory_counters directory_counted(directory *d)
{
    directory_counters counters = d->counters;
    store_worker_counters worker = store_worker_counted(d->worker);
    counters.records = signers_count(d->signers);
    counters.commits = worker.batches;
    counters.store_failures = worker.failures;
    counters.store_away = worker.away;
    return counters;
}

bool directory_tick(directory *d, uint64_t us)
{
    size_t left = store_worker_drain(d->worker, us);
    queue_watch_store(d);
    queue_tick(d);
    use_tick(d);
    serve_tick(d);
    return left > 0 || store_worker_pending(d->worker) > 0;
}
