/*
 * A store in PostgreSQL, which several brokers can share. Whatever is asked of the server is waited for with a
 * deadline, and a connection on which it passed is given up: libpq by itself would wait for a frozen server without
 * end.
 */
#include "store/backend.h"
#include <ctype.h>
#include <errno.h>
#include <libpq-fe.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SLICE_MS 50

#define TEXT_OF(x)  TEXT_OF_(x)
#define TEXT_OF_(x) #x

/* Of pg_type, whose numbers never change. */
enum {
    BOOL_OID = 16,
    BYTEA_OID = 17,
    NAME_OID = 19,
    INT8_OID = 20,
    INT2_OID = 21,
    INT4_OID = 23,
    TEXT_OID = 25,
    VARCHAR_OID = 1043
};

/* A NULL has no type of its own, so a statement is prepared for each set of types that it is called with. */
typedef struct {
    const char *sql;
    uint64_t types; /* two bits each */
} prepared;

typedef struct {
    store base;
    PGconn *c; /* NULL: lost */
    char *url;
    char user[STORE_USER_MAX];
    char server[512]; /* and who we are there, for errors */
    prepared *known;  /* number i is called pep_i */
    size_t known_count;
    unsigned patience_ms; /* what a statement may take, until the next one that is executed */
} postgres_store;

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/*
 * Where a password holds an @ or a / that was not escaped, libpq takes its end for a host or a port, and would name
 * that in its errors. So there may be one @, before the first / and ?, and a port must be a number.
 */
static bool credentials_escaped(const char *url)
{
    const char *rest = url + strlen("postgresql://");
    const char *at = strchr(rest, '@');
    return at == NULL || (strchr(at + 1, '@') == NULL && strcspn(rest, "/?#") > (size_t)(at - rest));
}

static bool option_valid(const PQconninfoOption *option)
{
    if (option->val == NULL)
        return true;
    if (strcmp(option->keyword, "port") == 0)
        return option->val[strspn(option->val, "0123456789,")] == '\0';
    if (strcmp(option->keyword, "connect_timeout") == 0) /* 0 would be: without end */
        return option->val[strspn(option->val, "0123456789")] == '\0' && strtol(option->val, NULL, 10) > 0;
    return true;
}

static bool valid(const char *url)
{
    static const char scheme[] = "postgresql://";
    if (strncmp(url, scheme, strlen(scheme)) != 0 || !credentials_escaped(url))
        return false;
    char *why = NULL; /* it repeats the URL */
    PQconninfoOption *options = PQconninfoParse(url, &why);
    PQfreemem(why);
    bool ok = options != NULL;
    for (PQconninfoOption *option = options; ok && option->keyword != NULL; option++)
        ok = option_valid(option);
    PQconninfoFree(options);
    return ok;
}

static store *make(void)
{
    postgres_store *s = calloc(1, sizeof *s);
    if (s == NULL)
        return NULL;
    s->base.backend = &store_postgres;
    s->patience_ms = STORE_PATIENCE_MS;
    return &s->base;
}

static void disconnect(postgres_store *s)
{
    PQfinish(s->c); /* in nonblocking mode it does not wait to say good-bye */
    s->c = NULL;
    s->known_count = 0;
}

static void close_store(store *base)
{
    postgres_store *s = (postgres_store *)base;
    disconnect(s);
    free(s->known);
    free(s->url);
    free(s);
}

/* `message` may end with line feeds. */
static store_result fail_advising(postgres_store *s, store_result result, const char *message, const char *advice)
{
    int n = (int)strlen(message);
    while (n > 0 && isspace((unsigned char)message[n - 1]))
        n--;
    return store_fail(&s->base, result, "%s: %.*s: %s", s->server, n, message, advice);
}

static store_result fail(postgres_store *s, store_result result, const char *message)
{
    return fail_advising(s, result, message, store_advice(result));
}

static store_result lose(postgres_store *s, const char *message)
{
    store_result result = fail(s, STORE_AWAY, message);
    disconnect(s);
    return result;
}

static bool begins(const char *state, const char *with)
{
    return strncmp(state, with, strlen(with)) == 0;
}

/* Appendix A of PostgreSQL's manual. */
static store_result meaning(const char *state)
{
    static const struct {
        const char *with;
        store_result result;
    } all[] = {
        {"23", STORE_CONFLICT}, /* integrity constraints */
        {"08", STORE_AWAY},     /* the connection */
        {"40", STORE_AWAY},     /* a deadlock, or a serialization failure */
        {"55P03", STORE_AWAY},  /* lock_timeout */
        {"57014", STORE_SLOW},  /* statement_timeout, or cancelled */
        {"57", STORE_AWAY},     /* shut down, starting up */
        {"53100", STORE_FULL},  /* disk full */
        {"53", STORE_AWAY},     /* other resources */
        {"25006", STORE_FULL},  /* read-only */
        {"25P03", STORE_AWAY},  /* idle for too long */
        {"XX001", STORE_DAMAGED}, {"XX002", STORE_DAMAGED},
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (begins(state, all[i].with))
            return all[i].result;
    return STORE_FAILED;
}

static store_result fail_of(postgres_store *s, const PGresult *r)
{
    const char *state = PQresultErrorField(r, PG_DIAG_SQLSTATE);
    const char *message = PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY);
    if (message == NULL)
        message = PQresultErrorMessage(r);
    return fail(s, state == NULL ? STORE_AWAY : meaning(state), message);
}

/* For a while: whoever wants it to end must not wait for the server. */
static bool wait_for(const postgres_store *s, bool writing, uint64_t end_ms)
{
    struct pollfd fd = {.fd = PQsocket(s->c), .events = (short)(POLLIN | (writing ? POLLOUT : 0))};
    uint64_t now = now_ms();
    if (now >= end_ms || atomic_load(&s->base.interrupted))
        return false;
    int ms = end_ms - now < SLICE_MS ? (int)(end_ms - now) : SLICE_MS;
    return poll(&fd, 1, ms) >= 0 || errno == EINTR;
}

/* NULL: there are no more, or the connection is lost. */
static PGresult *next_result(postgres_store *s)
{
    uint64_t end = now_ms() + s->patience_ms;
    for (;;) {
        int left = PQflush(s->c);
        if (left < 0)
            break;
        if (left == 0 && !PQisBusy(s->c))
            return PQgetResult(s->c);
        if (!wait_for(s, left > 0, end)) {
            lose(s, "it does not answer");
            return NULL;
        }
        if (!PQconsumeInput(s->c))
            break;
    }
    lose(s, PQerrorMessage(s->c));
    return NULL;
}

static int64_t read_number(const char *p, int n)
{
    uint64_t number = n > 0 && ((unsigned char)p[0] & 0x80) != 0 ? UINT64_MAX : 0;
    for (int i = 0; i < n; i++)
        number = number << 8 | (unsigned char)p[i];
    return (int64_t)number;
}

static bool read_column(store_value *out, const PGresult *r, int row, int i)
{
    const char *p = PQgetvalue(r, row, i);
    int n = PQgetlength(r, row, i);
    if (PQgetisnull(r, row, i)) {
        *out = store_null();
        return true;
    }
    switch (PQftype(r, i)) {
    case BOOL_OID:
    case INT2_OID:
    case INT4_OID:
    case INT8_OID:
        *out = store_int(read_number(p, n));
        return n <= 8;
    case NAME_OID:
    case TEXT_OID:
    case VARCHAR_OID:
        *out = store_text(p, (size_t)n);
        return true;
    case BYTEA_OID:
        *out = store_blob(p, (size_t)n);
        return true;
    default:
        return false;
    }
}

typedef struct {
    bool (*each)(void *ctx, const store_value *columns, size_t n);
    void *ctx;
    bool over; /* `each` wants no more */
} reader;

static store_result read_row(postgres_store *s, reader *to, const PGresult *r, int row)
{
    store_value columns[STORE_COLUMNS_MAX];
    int n = PQnfields(r);
    if (n > STORE_COLUMNS_MAX)
        return fail(s, STORE_FAILED, "a row has too many columns");
    for (int i = 0; i < n; i++)
        if (!read_column(&columns[i], r, row, i))
            return fail(s, STORE_FAILED, "a column is neither number, text nor bytes");
    to->over = !to->each(to->ctx, columns, (size_t)n);
    return STORE_OK;
}

static void note_changed(postgres_store *s, PGresult *r)
{
    const char *done = PQcmdStatus(r);
    if (begins(done, "INSERT") || begins(done, "UPDATE") || begins(done, "DELETE"))
        s->base.changed = strtoll(PQcmdTuples(r), NULL, 10);
}

static store_result read_result(postgres_store *s, reader *to, PGresult *r)
{
    store_result result = STORE_OK;
    switch (PQresultStatus(r)) {
    case PGRES_SINGLE_TUPLE:
    case PGRES_TUPLES_OK:
        for (int row = 0; result == STORE_OK && to->each != NULL && !to->over && row < PQntuples(r); row++)
            result = read_row(s, to, r, row);
        note_changed(s, r);
        return result;
    case PGRES_COMMAND_OK:
    case PGRES_EMPTY_QUERY:
        note_changed(s, r);
        return STORE_OK;
    case PGRES_FATAL_ERROR:
    case PGRES_BAD_RESPONSE:
        return fail_of(s, r);
    default:
        return lose(s, "it answers with what was not asked for");
    }
}

/*
 * All results of what was sent. Rows that `each` does not want any more are read to the end: canceling would end the
 * transaction.
 */
static store_result collect(postgres_store *s, reader *to)
{
    PGresult *r;
    store_result result = STORE_OK;
    while (s->c != NULL && (r = next_result(s)) != NULL) {
        store_result this = result == STORE_OK ? read_result(s, to, r) : result;
        if (this != STORE_OK) {
            result = this;
            to->over = true;
        }
        PQclear(r);
    }
    if (s->c != NULL && PQstatus(s->c) == CONNECTION_BAD)
        return lose(s, result == STORE_OK ? "it closed the connection" : PQerrorMessage(s->c));
    return s->c == NULL ? STORE_AWAY : result;
}

static bool can_send(postgres_store *s)
{
    if (s->c != NULL)
        return true;
    fail(s, STORE_AWAY, "the connection is lost");
    return false;
}

static store_result execute(store *base, const char *sql)
{
    postgres_store *s = (postgres_store *)base;
    reader nobody = {0};
    s->patience_ms = STORE_PATIENCE_MS;
    if (!can_send(s))
        return STORE_AWAY;
    if (!PQsendQuery(s->c, sql))
        return lose(s, PQerrorMessage(s->c));
    return collect(s, &nobody);
}

/* The server gives up before we give the server up. */
static store_result limit(store *base, unsigned ms)
{
    char sql[64];
    snprintf(sql, sizeof sql, "SET LOCAL statement_timeout = %u", ms);
    store_result result = execute(base, sql);
    if (result == STORE_OK)
        ((postgres_store *)base)->patience_ms = ms + STORE_PATIENCE_MS;
    return result;
}

static store_result scrub(store *base, bool *scrubbed)
{
    (void)base;
    *scrubbed = false;
    return STORE_OK;
}

static void ignore_notice(void *ctx, const PGresult *r)
{
    (void)ctx;
    (void)r;
}

/* What the URL says comes later in the list, and wins. */
static PGconn *connect_to(const char *url)
{
    const char *const keywords[] = {"connect_timeout",  "keepalives_idle",  "keepalives_interval",
                                    "keepalives_count", "tcp_user_timeout", "application_name",
                                    "dbname",           "client_encoding",  NULL};
    const char *const values[] = {"5", "5", "2", "3", TEXT_OF(STORE_PATIENCE_MS), "pep", url, "UTF8", NULL};
    return PQconnectdbParams(keywords, values, 1);
}

static void name_server(postgres_store *s)
{
    const char *host = PQhost(s->c);
    const char *database = PQdb(s->c);
    const char *role = PQuser(s->c);
    const char *port = PQport(s->c);
    snprintf(s->server, sizeof s->server, "PostgreSQL at %s port %s, database %s, as role %s (%s)",
             host == NULL ? "?" : host, port == NULL ? "?" : port, database == NULL ? "?" : database,
             role == NULL ? "?" : role, s->user);
}

/*
 * The server gives up a lock a little earlier than we give up the server. It ends a transaction whose broker stands
 * still and would keep the others waiting, and a statement whose broker has gone. A commit must be on disk, whatever
 * else is the default there; more than that (a standby's disk, too) stays as it is. No statement of ours is compiled:
 * that takes a tenth of a second, and saves less.
 */
static store_result set_session(postgres_store *s)
{
    char sql[1024];
    snprintf(sql, sizeof sql,
             "SET lock_timeout = %d; SET idle_in_transaction_session_timeout = %d; SET statement_timeout = %d;"
             "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off';"
             "SELECT set_config('jit', 'off', false) WHERE current_setting('jit', true) = 'on';"
             "LISTEN pep",
             STORE_PATIENCE_MS - 500, 2 * STORE_PATIENCE_MS, 12 * STORE_PATIENCE_MS);
    return execute(&s->base, sql);
}

/* libpq has no code for it, only words. It stays STORE_AWAY: what is wrong may be put right without a restart. */
static store_result fail_connecting(postgres_store *s)
{
    const char *message = PQerrorMessage(s->c);
    bool not_let_in = PQconnectionNeedsPassword(s->c) || strstr(message, "authentication failed") != NULL;
    const char *advice = not_let_in ? "check the user and the password, or the passfile" : store_advice(STORE_AWAY);
    store_result result = fail_advising(s, STORE_AWAY, message, advice);
    disconnect(s);
    return result;
}

static store_result reconnect(store *base)
{
    postgres_store *s = (postgres_store *)base;
    disconnect(s);
    s->c = connect_to(s->url);
    if (s->c == NULL)
        return store_fail(&s->base, STORE_FAILED, "there is no memory for a connection");
    name_server(s);
    if (PQstatus(s->c) != CONNECTION_OK)
        return fail_connecting(s);
    PQsetNoticeReceiver(s->c, ignore_notice, NULL);
    if (PQsetnonblocking(s->c, 1) != 0)
        return lose(s, PQerrorMessage(s->c));
    store_result result = set_session(s);
    if (result != STORE_OK)
        disconnect(s);
    return result;
}

static store_result open_store(store *base, const char *url)
{
    postgres_store *s = (postgres_store *)base;
    store_user(s->user);
    s->url = strdup(url);
    if (s->url == NULL)
        return store_fail(base, STORE_FAILED, "there is no memory for the store");
    return reconnect(base);
}

static store_state state(const store *base)
{
    const postgres_store *s = (const postgres_store *)base;
    switch (PQtransactionStatus(s->c)) {
    case PQTRANS_INTRANS:
    case PQTRANS_ACTIVE:
        return STORE_INSIDE;
    case PQTRANS_INERROR:
        return STORE_BROKEN;
    default:
        return STORE_OUTSIDE;
    }
}

static Oid oid_of(store_type type)
{
    switch (type) {
    case STORE_INT:
        return INT8_OID;
    case STORE_TEXT:
        return TEXT_OID;
    case STORE_BLOB:
        return BYTEA_OID;
    case STORE_NULL:
        break;
    }
    return 0; /* what the statement takes */
}

static uint64_t types_of(const store_value *parameters, size_t count)
{
    uint64_t types = 0;
    for (size_t i = 0; i < count; i++)
        types |= (uint64_t)parameters[i].type << (2 * i);
    return types;
}

#define ONCE SIZE_MAX /* the number of the statement without a name */

static void name_statement(char out[32], size_t number)
{
    out[0] = '\0';
    if (number != ONCE)
        snprintf(out, 32, "pep_%zu", number);
}

static store_result send_prepare(postgres_store *s, size_t number, const char *sql, const store_value *parameters,
                                 size_t count)
{
    char name[32];
    Oid oids[STORE_PARAMETERS_MAX];
    reader nobody = {0};
    for (size_t i = 0; i < count; i++)
        oids[i] = oid_of(parameters[i].type);
    name_statement(name, number);
    if (!PQsendPrepare(s->c, name, sql, (int)count, oids))
        return lose(s, PQerrorMessage(s->c));
    return collect(s, &nobody);
}

static store_result prepare(postgres_store *s, size_t *number, const char *sql, const store_value *parameters,
                            size_t count)
{
    uint64_t types = types_of(parameters, count);
    for (*number = 0; *number < s->known_count; (*number)++)
        if (s->known[*number].sql == sql && s->known[*number].types == types)
            return STORE_OK;
    prepared *more = realloc(s->known, (s->known_count + 1) * sizeof *more);
    if (more == NULL)
        return store_fail(&s->base, STORE_FAILED, "there is no memory for a statement");
    s->known = more;
    store_result result = send_prepare(s, *number, sql, parameters, count);
    if (result == STORE_OK)
        s->known[s->known_count++] = (prepared){.sql = sql, .types = types};
    return result;
}

static void write_number(uint8_t out[8], int64_t number)
{
    for (int i = 0; i < 8; i++)
        out[i] = (uint8_t)((uint64_t)number >> (56 - 8 * i));
}

static bool send_statement(postgres_store *s, size_t number, const store_value *parameters, size_t count)
{
    char name[32];
    uint8_t numbers[STORE_PARAMETERS_MAX][8];
    const char *values[STORE_PARAMETERS_MAX];
    int lengths[STORE_PARAMETERS_MAX];
    int formats[STORE_PARAMETERS_MAX];
    name_statement(name, number);
    for (size_t i = 0; i < count; i++) {
        const store_value *value = &parameters[i];
        bool is_number = value->type == STORE_INT;
        if (is_number)
            write_number(numbers[i], value->number);
        values[i] = is_number ? (const char *)numbers[i] : value->n == 0 ? "" : value->p;
        if (value->type == STORE_NULL)
            values[i] = NULL;
        lengths[i] = is_number ? 8 : (int)value->n;
        formats[i] = 1;
    }
    return PQsendQueryPrepared(s->c, name, (int)count, values, lengths, formats, 1) && PQsetSingleRowMode(s->c);
}

static store_result run(store *base, bool keep, const char *sql, const store_value *parameters, size_t count,
                        bool (*each)(void *ctx, const store_value *columns, size_t n), void *ctx)
{
    postgres_store *s = (postgres_store *)base;
    size_t number = ONCE;
    if (!can_send(s))
        return STORE_AWAY;
    for (size_t i = 0; i < count; i++)
        if (parameters[i].n > INT_MAX)
            return fail(s, STORE_FAILED, "a value is too large");
    store_result result =
        keep ? prepare(s, &number, sql, parameters, count) : send_prepare(s, number, sql, parameters, count);
    if (result != STORE_OK)
        return result;
    reader to = {.each = each, .ctx = ctx};
    return send_statement(s, number, parameters, count) ? collect(s, &to) : lose(s, PQerrorMessage(s->c));
}

static int wait_fd(const store *base)
{
    const postgres_store *s = (const postgres_store *)base;
    return s->c == NULL ? -1 : PQsocket(s->c);
}

/* What this connection notified itself is no news. */
static bool was_woken(store *base)
{
    postgres_store *s = (postgres_store *)base;
    PGnotify *news;
    bool woken = false;
    if (s->c == NULL)
        return false;
    bool ok = PQconsumeInput(s->c);
    while ((news = PQnotifies(s->c)) != NULL) {
        woken = woken || news->be_pid != PQbackendPID(s->c);
        PQfreemem(news);
    }
    if (!ok || PQstatus(s->c) == CONNECTION_BAD)
        lose(s, PQerrorMessage(s->c));
    return woken;
}

static bool is_lost(const store *base)
{
    return ((const postgres_store *)base)->c == NULL;
}

static const char *step(const store_migration *migration)
{
    return migration->postgres;
}

const store_backend store_postgres = {
    .kind = "postgresql",
    .begin = "BEGIN ISOLATION LEVEL READ COMMITTED",
    .begin_reading = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
    .has_table = "SELECT count(*) FROM pg_catalog.pg_class WHERE oid = to_regclass($1)",
    .lock_schema = "SELECT pg_advisory_xact_lock(7370656)", /* two brokers that start at once */
    .notify = "NOTIFY pep",
    .valid = valid,
    .make = make,
    .open = open_store,
    .close = close_store,
    .state = state,
    .execute = execute,
    .step = step,
    .run = run,
    .limit = limit,
    .scrub = scrub,
    .wait_fd = wait_fd,
    .was_woken = was_woken,
    .is_lost = is_lost,
    .reconnect = reconnect,
};
