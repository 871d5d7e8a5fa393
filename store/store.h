/*
 * Where the directory and the ledger are kept: one interface, with SQLite or PostgreSQL behind it. It knows
 * tables and values, and nothing of what they mean. Statements are written once for both: SQL that both understand,
 * with parameters $1, $2, ... that first appear in that order, BLOBs and 64 bit integers.
 *
 * One store is for one thread at a time. Nothing here ever blocks without a limit: a lock or a server that does not
 * answer is STORE_AWAY after STORE_PATIENCE_MS.
 */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STORE_PATIENCE_MS 5000

typedef struct store store;

typedef struct {
    char text[1024];
} store_error;

typedef enum {
    STORE_OK = 0,
    STORE_CONFLICT, /* a key that is there already, or another constraint */
    STORE_AWAY,     /* locked, or the server cannot be reached: try later */
    STORE_FULL,     /* no room, or read-only: refused, and nothing was changed */
    STORE_DAMAGED,  /* not a database, or a corrupt one */
    STORE_NEWER,    /* made by a later version of pep */
    STORE_SLOW,     /* a statement took longer than store_limit allows, or somebody cancelled it: undo what it did */
    STORE_FAILED    /* anything else: store_error has the words */
} store_result;

typedef enum { STORE_NULL, STORE_INT, STORE_TEXT, STORE_BLOB } store_type;

/* A parameter, or a column of a row. */
typedef struct {
    store_type type;
    int64_t number;
    const void *p; /* STORE_TEXT: not NUL-terminated; n bytes */
    size_t n;
} store_value;

static inline store_value store_int(int64_t number)
{
    return (store_value){.type = STORE_INT, .number = number};
}
static inline store_value store_blob(const void *p, size_t n)
{
    return (store_value){.type = STORE_BLOB, .p = p, .n = n};
}
static inline store_value store_text(const char *p, size_t n)
{
    return (store_value){.type = STORE_TEXT, .p = p, .n = n};
}
static inline store_value store_null(void)
{
    return (store_value){.type = STORE_NULL};
}

/* One step of a schema; number i of a list (from 0) brings version i to version i + 1. Several SQL statements each. */
typedef struct {
    const char *sqlite;
    const char *postgres;
} store_migration;

/* Who has tables in a database: several may share one. */
typedef struct {
    const char *name; /* of the table that holds the schema's version; it stands in SQL as it is */
    const store_migration *migrations;
    size_t count;
    bool read_only; /* nothing is migrated or written, and no transaction keeps a writer waiting */
} store_schema;

/*
 * Opens `sqlite:/absolute/path` (created 0600 where it is not there, WAL, synchronous=FULL, secure_delete, foreign keys
 * off, checked with quick_check up to 1 GiB: what is damaged in a larger one is noticed when it is read) or
 * `postgresql://...` (a libpq connection URI; a connect_timeout of its own wins), and brings the schema up to `count`
 * migrations, all in one transaction. NULL with *result and one line in `error`: the path or server, the effective
 * user, and what to do. A password in the URL never stands in an error.
 */
store *store_open_schema(store_result *result, store_error *error, const char *url, const store_schema *schema);

/* The same for the directory's tables, whose version stands in pep_schema. */
store *store_open(store_result *result, store_error *error, const char *url, const store_migration *migrations,
                  size_t count);
void store_close(store *s);

/* True where the URL is one that store_open can take. */
bool store_url_valid(const char *url);

/* "sqlite" or "postgresql". */
const char *store_kind(const store *s);

/* What went wrong last, one line. */
const char *store_why(const store *s);

store_result store_begin(store *s);
store_result store_commit(store *s); /* STORE_OK: it is on disk. STORE_AWAY: with PostgreSQL, it may be all the same */
void store_rollback(store *s);

/* Within a transaction: what came since store_mark is undone by store_undo, or stays with store_keep. */
store_result store_mark(store *s);
store_result store_undo(store *s);
store_result store_keep(store *s);

/*
 * Runs one statement. `sql` is a string literal: it is prepared once, and found again by its address. `each` (may be
 * NULL) is called for each row, whose columns are valid during the call; false ends the query. It must not use the
 * store: a statement within another's rows fails. Rows are not collected: a result of millions takes no memory. Columns
 * are whole numbers, text and bytes; anything else (PostgreSQL's sum() of BIGINT) must be cast in the statement.
 */
store_result store_run(store *s, const char *sql, const store_value *parameters, size_t count,
                       bool (*each)(void *ctx, const store_value *columns, size_t n), void *ctx);

/* The same for a statement that is put together: it is prepared for this one time. */
store_result store_run_once(store *s, const char *sql, const store_value *parameters, size_t count,
                            bool (*each)(void *ctx, const store_value *columns, size_t n), void *ctx);

/*
 * From here to the end of the transaction, statements may take `ms` together, and no longer: STORE_SLOW. With
 * PostgreSQL each of them may, and more than STORE_PATIENCE_MS too, for which the server is otherwise given up.
 */
store_result store_limit(store *s, unsigned ms);

/* From any thread: what runs, and what is begun later, ends as STORE_SLOW or STORE_AWAY. */
void store_interrupt(store *s);

/*
 * Outside of a transaction: what was deleted is gone from the disk as well. SQLite: what secure_delete overwrote is
 * written to the database, and the write-ahead log is cut to nothing; STORE_AWAY where somebody still reads what stood
 * there before: call it again. PostgreSQL: STORE_OK, and *scrubbed is false: it does that in its own time.
 */
store_result store_scrub(store *s, bool *scrubbed);

/* How many rows the last store_run of an INSERT, UPDATE or DELETE changed. */
int64_t store_changed(const store *s);

/* PostgreSQL: wakes others that share the database when this transaction commits. SQLite: nothing. */
store_result store_notify(store *s);

/* The descriptor that becomes readable when others wake us; -1: there is none. It changes with store_reconnect. */
int store_wait_fd(const store *s);

/* True where others woke us since the last call. Reads what the descriptor has. */
bool store_was_woken(store *s);

/* True where the connection is gone and store_reconnect must be called first; always false for SQLite. */
bool store_is_lost(const store *s);
store_result store_reconnect(store *s);

#endif
