/* What store.c asks of SQLite and PostgreSQL. For store/ alone. */
#ifndef STORE_BACKEND_H
#define STORE_BACKEND_H

#include "store/store.h"
#include <stdatomic.h>

#define STORE_COLUMNS_MAX    32
#define STORE_PARAMETERS_MAX 32
#define STORE_USER_MAX       64

typedef enum {
    STORE_OUTSIDE, /* of a transaction */
    STORE_INSIDE,
    STORE_BROKEN /* inside of one that can only be rolled back */
} store_state;

typedef struct {
    const char *kind;
    const char *begin;         /* SQL */
    const char *begin_reading; /* SQL */
    bool (*valid)(const char *url);
    store *(*make)(void);                            /* all zero but for `backend`; NULL: no memory */
    store_result (*open)(store *s, const char *url); /* not the schema */
    void (*close)(store *s);                         /* also what `open` left half done */
    store_state (*state)(const store *s);
    store_result (*execute)(store *s, const char *sql); /* several statements, no parameters, no rows */
    const char *(*step)(const store_migration *migration);
    store_result (*run)(store *s, bool keep, const char *sql, const store_value *parameters, size_t count,
                        bool (*each)(void *ctx, const store_value *columns, size_t n), void *ctx); /* keep: prepared */
    store_result (*limit)(store *s, unsigned ms);
    store_result (*scrub)(store *s, bool *scrubbed);
    const char *has_table; /* SQL with one parameter and one number: whether the table is there */
    const char
        *lock_schema;   /* SQL that keeps others from changing the schema until the transaction ends; may be NULL */
    const char *notify; /* SQL, or NULL */
    int (*wait_fd)(const store *s);
    bool (*was_woken)(store *s);
    bool (*is_lost)(const store *s);
    store_result (*reconnect)(store *s);
} store_backend;

struct store {
    const store_backend *backend;
    store_error why;
    int64_t changed;
    bool running;   /* a query whose rows are being handed out */
    bool read_only; /* set before `open` */
    atomic_bool interrupted;
};

extern const store_backend store_sqlite;
extern const store_backend store_postgres;

/* Writes the line, without control characters, into `why`. Returns `result`. */
__attribute__((format(printf, 3, 4))) store_result store_fail(store *s, store_result result, const char *format, ...);

/* The name of the effective user, or its number. */
void store_user(char out[STORE_USER_MAX]);

/* What to do about a result, for the end of a line. */
const char *store_advice(store_result result);

#endif
