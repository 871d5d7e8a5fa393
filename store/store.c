/* What both databases have in common: URLs, transactions, the schema's version, and lines that say what went wrong. */
#include "store/backend.h"
#include <ctype.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void one_line(char *text)
{
    for (char *c = text; *c != '\0'; c++)
        if (iscntrl((unsigned char)*c))
            *c = ' ';
}

store_result store_fail(store *s, store_result result, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(s->why.text, sizeof s->why.text, format, arguments);
    va_end(arguments);
    one_line(s->why.text);
    return result;
}

void store_user(char out[STORE_USER_MAX])
{
    char buffer[4096];
    struct passwd entry;
    struct passwd *user = NULL;
    if (getpwuid_r(geteuid(), &entry, buffer, sizeof buffer, &user) == 0 && user != NULL)
        snprintf(out, STORE_USER_MAX, "user %s", user->pw_name);
    else
        snprintf(out, STORE_USER_MAX, "uid %u", (unsigned)geteuid());
}

const char *store_advice(store_result result)
{
    switch (result) {
    case STORE_AWAY:
        return "try again when it is free and can be reached";
    case STORE_FULL:
        return "make room, or let that user write there";
    case STORE_DAMAGED:
        return "move it away and restore a backup";
    case STORE_NEWER:
        return "upgrade pep here as well";
    case STORE_SLOW:
        return "ask for less at once";
    case STORE_OK:
    case STORE_CONFLICT:
    case STORE_FAILED:
        break;
    }
    return "nothing was changed";
}

/* Returns NULL where no backend can take it. */
static const store_backend *backend_of(const char *url)
{
    static const store_backend *const all[] = {&store_sqlite, &store_postgres};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (all[i]->valid(url))
            return all[i];
    return NULL;
}

bool store_url_valid(const char *url)
{
    return url != NULL && backend_of(url) != NULL;
}

static bool take_number(void *ctx, const store_value *columns, size_t n)
{
    int64_t *number = ctx;
    if (n == 1 && columns[0].type == STORE_INT)
        *number = columns[0].number;
    return false;
}

#define SCHEMA_SQL_BYTES 160

static store_result make_table(store *s, const char *table)
{
    char sql[SCHEMA_SQL_BYTES];
    snprintf(sql, sizeof sql, "CREATE TABLE %s (version BIGINT NOT NULL); INSERT INTO %s VALUES (0)", table, table);
    return s->backend->execute(s, sql);
}

static store_result write_version(store *s, const char *table, size_t version)
{
    char sql[SCHEMA_SQL_BYTES];
    snprintf(sql, sizeof sql, "UPDATE %s SET version = %zu", table, version);
    return s->backend->execute(s, sql);
}

/* The version is 0 where there is no schema yet; the table for it is made. */
static store_result read_version(store *s, const char *table, int64_t *version)
{
    char sql[SCHEMA_SQL_BYTES];
    int64_t there = 0;
    store_value name = store_text(table, strlen(table));
    *version = 0;
    store_result result = STORE_OK;
    if (s->backend->lock_schema != NULL)
        result = s->backend->execute(s, s->backend->lock_schema);
    if (result == STORE_OK)
        result = s->backend->run(s, false, s->backend->has_table, &name, 1, take_number, &there);
    if (result != STORE_OK)
        return result;
    if (there == 0)
        return make_table(s, table);
    snprintf(sql, sizeof sql, "SELECT version FROM %s", table);
    return s->backend->run(s, false, sql, NULL, 0, take_number, version);
}

static store_result bring_up(store *s, const store_schema *schema)
{
    int64_t version;
    store_result result = read_version(s, schema->name, &version);
    if (result != STORE_OK)
        return result;
    if (version > (int64_t)schema->count)
        return store_fail(s, STORE_NEWER,
                          "the store was made by a later version of pep (schema %lld, known is %zu): %s",
                          (long long)version, schema->count, store_advice(STORE_NEWER));
    if (version == (int64_t)schema->count)
        return STORE_OK;
    for (size_t i = (size_t)version; result == STORE_OK && i < schema->count; i++)
        result = s->backend->execute(s, s->backend->step(&schema->migrations[i]));
    return result == STORE_OK ? write_version(s, schema->name, schema->count) : result;
}

static store_result migrate(store *s, const store_schema *schema)
{
    store_result result = store_begin(s);
    if (result != STORE_OK)
        return result;
    result = bring_up(s, schema);
    if (result == STORE_OK)
        return store_commit(s);
    store_rollback(s);
    return result;
}

store *store_open_schema(store_result *result, store_error *error, const char *url, const store_schema *schema)
{
    const store_backend *backend = url == NULL ? NULL : backend_of(url);
    *result = STORE_FAILED;
    if (backend == NULL) { /* it may hold a password, so it is not repeated */
        snprintf(error->text, sizeof error->text,
                 "the store's URL is neither sqlite:/absolute/path nor a valid postgresql://user:password@host/database"
                 " (in which @ : / ? %% of a name or password are written as %%40 %%3A %%2F %%3F %%25)");
        return NULL;
    }
    store *s = backend->make();
    if (s == NULL) {
        snprintf(error->text, sizeof error->text, "there is no memory for the store");
        return NULL;
    }
    s->read_only = schema->read_only;
    *result = backend->open(s, url);
    if (*result == STORE_OK && !schema->read_only)
        *result = migrate(s, schema);
    if (*result == STORE_OK)
        return s;
    if (*result == STORE_NEWER) /* the others name it themselves */
        snprintf(error->text, sizeof error->text, "%s: %.900s",
                 backend == &store_sqlite ? url + strlen("sqlite:") : "the PostgreSQL database", s->why.text);
    else
        *error = s->why;
    backend->close(s);
    return NULL;
}

store *store_open(store_result *result, store_error *error, const char *url, const store_migration *migrations,
                  size_t count)
{
    const store_schema schema = {.name = "pep_schema", .migrations = migrations, .count = count};
    return store_open_schema(result, error, url, &schema);
}

void store_close(store *s)
{
    if (s == NULL)
        return;
    store_rollback(s);
    s->backend->close(s);
}

const char *store_kind(const store *s)
{
    return s->backend->kind;
}

const char *store_why(const store *s)
{
    return s->why.text;
}

/* One that was left open is not continued by accident. */
store_result store_begin(store *s)
{
    store_rollback(s);
    return s->backend->execute(s, s->read_only ? s->backend->begin_reading : s->backend->begin);
}

store_result store_commit(store *s)
{
    store_result result;
    if (s->backend->is_lost(s))
        return STORE_AWAY;
    if (s->backend->state(s) != STORE_INSIDE) /* PostgreSQL would roll back, and call that a success */
        result = store_fail(s, STORE_FAILED, "there is no transaction that can be committed: %s",
                            store_advice(STORE_FAILED));
    else
        result = s->backend->execute(s, "COMMIT");
    if (result != STORE_OK)
        store_rollback(s);
    return result;
}

/* Keeps `why`, which tells what led to it. */
void store_rollback(store *s)
{
    if (s->backend->state(s) == STORE_OUTSIDE)
        return;
    store_error why = s->why;
    s->backend->execute(s, "ROLLBACK");
    s->why = why;
}

store_result store_mark(store *s)
{
    return s->backend->execute(s, "SAVEPOINT pep_mark");
}

store_result store_undo(store *s)
{
    store_error why = s->why;
    store_result result = s->backend->execute(s, "ROLLBACK TO SAVEPOINT pep_mark; RELEASE SAVEPOINT pep_mark");
    if (result == STORE_OK)
        s->why = why;
    return result;
}

store_result store_keep(store *s)
{
    return s->backend->execute(s, "RELEASE SAVEPOINT pep_mark");
}

/* What SQLite would take and PostgreSQL could not. */
static bool portable(const store_value *parameters, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (parameters[i].type == STORE_TEXT && parameters[i].n > 0 &&
            memchr(parameters[i].p, '\0', parameters[i].n) != NULL)
            return false;
    return count <= STORE_PARAMETERS_MAX;
}

static store_result run(store *s, bool keep, const char *sql, const store_value *parameters, size_t count,
                        bool (*each)(void *ctx, const store_value *columns, size_t n), void *ctx)
{
    if (s->running) /* PostgreSQL could not do it */
        return store_fail(s, STORE_FAILED, "a statement within another's rows: %s", store_advice(STORE_FAILED));
    if (!portable(parameters, count))
        return store_fail(s, STORE_FAILED, "text with a NUL byte, or too many parameters: %s",
                          store_advice(STORE_FAILED));
    s->running = true;
    store_result result = s->backend->run(s, keep, sql, parameters, count, each, ctx);
    s->running = false;
    return result;
}

store_result store_run(store *s, const char *sql, const store_value *parameters, size_t count,
                       bool (*each)(void *ctx, const store_value *columns, size_t n), void *ctx)
{
    return run(s, true, sql, parameters, count, each, ctx);
}

store_result store_run_once(store *s, const char *sql, const store_value *parameters, size_t count,
                            bool (*each)(void *ctx, const store_value *columns, size_t n), void *ctx)
{
    return run(s, false, sql, parameters, count, each, ctx);
}

store_result store_limit(store *s, unsigned ms)
{
    return s->backend->limit(s, ms);
}

void store_interrupt(store *s)
{
    atomic_store(&s->interrupted, true);
}

store_result store_scrub(store *s, bool *scrubbed)
{
    *scrubbed = false;
    return s->backend->scrub(s, scrubbed);
}

int64_t store_changed(const store *s)
{
    return s->changed;
}

store_result store_notify(store *s)
{
    return s->backend->notify == NULL ? STORE_OK : s->backend->execute(s, s->backend->notify);
}

int store_wait_fd(const store *s)
{
    return s->backend->wait_fd(s);
}

bool store_was_woken(store *s)
{
    return s->backend->was_woken(s);
}

bool store_is_lost(const store *s)
{
    return s->backend->is_lost(s);
}

store_result store_reconnect(store *s)
{
    return s->backend->reconnect(s);
}
