/* A store in one SQLite file, that of this broker alone. */
#include "store/backend.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define CHECK_MAX   (1024LL * 1024 * 1024) /* bytes that are checked at the start: it takes about a second */
#define PIECE_BYTES 1048576

#define PROGRESS_OPS 10000 /* about half a millisecond */

typedef struct {
    const char *sql;
    sqlite3_stmt *statement;
} prepared;

/* The database file's functions, with our own for writing. */
typedef struct {
    sqlite3_io_methods own; /* first: what the file points to */
    const sqlite3_io_methods *theirs;
} cleaning;

typedef struct {
    store base;
    sqlite3 *db;
    cleaning cleaning;
    char path[PATH_MAX];
    char user[STORE_USER_MAX];
    prepared *known;
    size_t known_count;
    uint64_t end_us; /* of what may take only so long; 0: no limit */
} sqlite_store;

static bool no_room_or_read_only(int error)
{
    return error == ENOSPC || error == EDQUOT || error == EFBIG || error == EROFS || error == EACCES || error == EPERM;
}

/* SQLite keeps the error of a failed COMMIT only with the file that it wrote, which is the write-ahead log. */
static int error_of_log(sqlite3 *db)
{
    int error = 0;
    sqlite3_file *log = NULL;
    if (sqlite3_file_control(db, "main", SQLITE_FCNTL_JOURNAL_POINTER, &log) == SQLITE_OK && log != NULL &&
        log->pMethods != NULL)
        log->pMethods->xFileControl(log, SQLITE_FCNTL_LAST_ERRNO, &error);
    return error;
}

static int system_error(sqlite3 *db, int code)
{
    int base = code & 0xff;
    if (base != SQLITE_IOERR && base != SQLITE_CANTOPEN)
        return 0;
    int error = sqlite3_system_errno(db);
    return error != 0 ? error : error_of_log(db);
}

static store_result meaning(int code, int error)
{
    switch (code & 0xff) {
    case SQLITE_CONSTRAINT:
        return STORE_CONFLICT;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_PROTOCOL: /* others were quicker, again and again */
        return STORE_AWAY;
    case SQLITE_FULL:
    case SQLITE_READONLY:
        return STORE_FULL;
    case SQLITE_CANTOPEN:
    case SQLITE_IOERR:
        return no_room_or_read_only(error) ? STORE_FULL : STORE_FAILED;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return STORE_DAMAGED;
    case SQLITE_INTERRUPT:
        return STORE_SLOW;
    default:
        return STORE_FAILED;
    }
}

static store_result fail(sqlite_store *s, int code)
{
    int error = system_error(s->db, code);
    store_result result = meaning(code, error);
    return store_fail(&s->base, result, "%s, as %s: %s%s%s: %s", s->path, s->user,
                      (code & 0xff) == SQLITE_BUSY ? "locked by another process" : sqlite3_errmsg(s->db),
                      error == 0 ? "" : ", ", error == 0 ? "" : strerror(error), store_advice(result));
}

static bool valid(const char *url)
{
    static const char scheme[] = "sqlite:/";
    size_t n = strlen(url);
    return strncmp(url, scheme, strlen(scheme)) == 0 && n > strlen(scheme) && n < PATH_MAX && url[n - 1] != '/';
}

static store *make(void)
{
    sqlite_store *s = calloc(1, sizeof *s);
    if (s == NULL)
        return NULL;
    s->base.backend = &store_sqlite;
    return &s->base;
}

static void close_store(store *base)
{
    sqlite_store *s = (sqlite_store *)base;
    for (size_t i = 0; i < s->known_count; i++)
        sqlite3_finalize(s->known[i].statement);
    free(s->known);
    sqlite3_close(s->db);
    free(s);
}

/* The folder may be reached through links, for it is the operator's; the file itself must not be one. */
static store_result set_path(sqlite_store *s, const char *path)
{
    char folder[PATH_MAX];
    char real[PATH_MAX];
    const char *name = strrchr(path, '/') + 1;
    snprintf(s->path, sizeof s->path, "%s", path);
    snprintf(folder, sizeof folder, "%.*s", (int)(name - path), path);
    if (realpath(folder, real) == NULL)
        return store_fail(&s->base, STORE_FAILED,
                          "cannot reach the folder of %s, as %s: %s: make it, and let that user "
                          "write in it",
                          path, s->user, strerror(errno));
    int n = snprintf(s->path, sizeof s->path, "%s/%s", strcmp(real, "/") == 0 ? "" : real, name);
    if (n < 0 || (size_t)n >= sizeof s->path)
        return store_fail(&s->base, STORE_FAILED, "the store's path is too long: %s", path);
    return STORE_OK;
}

static bool sync_folder(const char *path)
{
    char folder[PATH_MAX];
    snprintf(folder, sizeof folder, "%.*s", (int)(strrchr(path, '/') + 1 - path), path);
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool ok = fd >= 0 && fsync(fd) == 0;
    if (fd >= 0)
        close(fd);
    return ok;
}

/* SQLite gives its other files the mode of this one. */
static store_result create_file(sqlite_store *s)
{
    int fd = open(s->path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    bool ok = fd >= 0 && fchmod(fd, 0600) == 0 && sync_folder(s->path);
    int error = errno;
    if (fd >= 0)
        close(fd);
    if (ok || error == EEXIST)
        return STORE_OK;
    store_result result = no_room_or_read_only(error) ? STORE_FULL : STORE_FAILED;
    return store_fail(&s->base, result, "cannot make %s, as %s: %s: %s", s->path, s->user, strerror(error),
                      store_advice(result));
}

/* O_PATH: closing another kind of descriptor would drop the locks that this process has on the file. */
static store_result check_file(sqlite_store *s, long long *size)
{
    struct stat st;
    int fd = open(s->path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    bool ok = fd >= 0 && fstat(fd, &st) == 0;
    int error = errno;
    if (fd >= 0)
        close(fd);
    if (!ok)
        return store_fail(&s->base, STORE_FAILED, "cannot open %s, as %s: %s: let that user read and write it", s->path,
                          s->user, strerror(error));
    if (!S_ISREG(st.st_mode))
        return store_fail(&s->base, STORE_FAILED, "%s is no ordinary file: name the database itself", s->path);
    if (access(s->path, F_OK) == 0 && euidaccess(s->path, R_OK) != 0)
        return store_fail(&s->base, STORE_FAILED, "cannot open %s, as %s: %s: let that user read and write it", s->path,
                          s->user, strerror(errno));
    *size = (long long)st.st_size;
    return STORE_OK;
}

/*
 * A start needs nearly all of the file, in the order of its keys, which lie in it anywhere: reading it once from its
 * beginning to its end puts it into the system's memory in a fifth of the time. Through SQLite's own descriptor: to
 * close another one would end the locks on the file (fcntl(2)). What fails here fails again where it is told.
 */
static void read_through(sqlite_store *s, long long size)
{
    sqlite3_file *file = NULL;
    char *piece = size > CHECK_MAX ? NULL : malloc(PIECE_BYTES);
    int code = sqlite3_file_control(s->db, "main", SQLITE_FCNTL_FILE_POINTER, &file);
    if (piece != NULL && code == SQLITE_OK && file->pMethods != NULL)
        for (long long at = 0; code == SQLITE_OK && at < size; at += PIECE_BYTES)
            code = file->pMethods->xRead(file, piece, PIECE_BYTES, at);
    free(piece);
}

static bool copy_text(void *ctx, const store_value *columns, size_t n)
{
    char *out = ctx; /* 128 bytes */
    if (n == 1 && columns[0].type == STORE_TEXT)
        snprintf(out, 128, "%.*s", (int)(columns[0].n < 128 ? columns[0].n : 127), (const char *)columns[0].p);
    return false;
}

static store_result run(store *base, bool keep, const char *sql, const store_value *parameters, size_t count,
                        bool (*each)(void *ctx, const store_value *columns, size_t n), void *ctx);

static uint64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/*
 * Here SQLite does not wait for one that is about to write, whatever its patience: of brokers that start together on a
 * new file, one would be turned away.
 */
static store_result use_wal(sqlite_store *s)
{
    static const struct timespec pause = {.tv_nsec = 10000000};
    uint64_t end = now_us() + (uint64_t)STORE_PATIENCE_MS * 1000;
    char mode[128] = "";
    store_result result;
    while ((result = run(&s->base, true, "PRAGMA journal_mode=WAL", NULL, 0, copy_text, mode)) == STORE_AWAY &&
           now_us() < end)
        nanosleep(&pause, NULL);
    if (result == STORE_OK && strcmp(mode, "wal") != 0)
        return store_fail(&s->base, STORE_FAILED, "%s cannot have a write-ahead log: put it on a local file system",
                          s->path);
    return result;
}

/* A larger file would delay the start for long; what is damaged in it is noticed when it is read. */
static store_result check_content(sqlite_store *s, long long size)
{
    char said[128] = "";
    if (size > CHECK_MAX)
        return STORE_OK;
    store_result result = run(&s->base, true, "PRAGMA quick_check(1)", NULL, 0, copy_text, said);
    if (result == STORE_OK && strcmp(said, "ok") != 0)
        return store_fail(&s->base, STORE_DAMAGED, "%s, as %s: damaged (%s): %s", s->path, s->user, said,
                          store_advice(STORE_DAMAGED));
    return result;
}

static store_result execute(store *base, const char *sql)
{
    sqlite_store *s = (sqlite_store *)base;
    s->end_us = 0; /* what ends a transaction, or undoes a part of it, must not be cut short */
    int code = sqlite3_exec(s->db, sql, NULL, NULL, NULL);
    return code == SQLITE_OK ? STORE_OK : fail(s, code);
}

/* ---- what rows leave on their way ---- */

#define PAGE_MAX      65536
#define FIRST_HEADER  100        /* bytes in front of the first page's header */
#define PAGES_MAX     "33554431" /* 128 GiB: up to there no page of another kind begins like one of a b-tree */
#define BTREE_CELLS   3          /* where a page's header has the number of its cells, in two bytes */
#define BTREE_CONTENT 5          /* and where their content begins */

static size_t read_two(const uint8_t *p)
{
    return (size_t)p[0] << 8 | p[1];
}

/* https://www.sqlite.org/fileformat.html, 1.6: kinds of b-tree pages, and their headers' length; 0: none of these. */
static size_t header_bytes(uint8_t kind)
{
    return kind == 10 || kind == 13 ? 8 : kind == 2 || kind == 5 ? 12 : 0;
}

/*
 * secure_delete overwrites what is deleted where it lies. But where a page was split or merged, rows that went to
 * another page leave a copy between the list of cells and their content, which nobody would ever delete.
 */
static void clean_page(uint8_t *page, size_t n, bool first)
{
    size_t at = first ? FIRST_HEADER : 0;
    size_t header = header_bytes(page[at]);
    size_t begin = at + header + 2 * read_two(page + at + BTREE_CELLS);
    size_t end = read_two(page + at + BTREE_CONTENT);
    if (end == 0)
        end = PAGE_MAX;
    if (header > 0 && begin < end && end <= n)
        memset(page + begin, 0, end - begin);
}

static int write_clean(sqlite3_file *file, const void *bytes, int n, sqlite3_int64 offset)
{
    uint8_t page[PAGE_MAX];
    const cleaning *c = (const cleaning *)(const void *)file->pMethods;
    if (n < 512 || n > PAGE_MAX)
        return c->theirs->xWrite(file, bytes, n, offset);
    memcpy(page, bytes, (size_t)n);
    clean_page(page, (size_t)n, offset == 0);
    return c->theirs->xWrite(file, page, n, offset);
}

/* Behind the write-ahead log, which is cut, the database itself is written page by page. */
static store_result keep_clean(sqlite_store *s)
{
    sqlite3_file *file = NULL;
    int code = sqlite3_file_control(s->db, "main", SQLITE_FCNTL_FILE_POINTER, &file);
    if (code != SQLITE_OK || file == NULL || file->pMethods == NULL)
        return fail(s, code);
    s->cleaning = (cleaning){.own = *file->pMethods, .theirs = file->pMethods};
    s->cleaning.own.xWrite = write_clean;
    file->pMethods = &s->cleaning.own;
    return execute(&s->base, "PRAGMA max_page_count=" PAGES_MAX);
}

/* Every so many instructions of its virtual machine; not 0: the statement ends. */
static int is_late(void *ctx)
{
    const sqlite_store *s = ctx;
    return atomic_load(&s->base.interrupted) || (s->end_us != 0 && now_us() > s->end_us);
}

static store_result limit(store *base, unsigned ms)
{
    ((sqlite_store *)base)->end_us = now_us() + (uint64_t)ms * 1000;
    return STORE_OK;
}

static store_result set_up(sqlite_store *s)
{
    sqlite3_progress_handler(s->db, PROGRESS_OPS, is_late, s);
    sqlite3_extended_result_codes(s->db, 1);
    sqlite3_busy_timeout(s->db, STORE_PATIENCE_MS);
    sqlite3_db_config(s->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    if (sqlite3_db_readonly(s->db, "main") == 1)
        return store_fail(&s->base, STORE_FULL, "%s, as %s: it can only be read: %s", s->path, s->user,
                          store_advice(STORE_FULL));
    store_result result = execute(&s->base, "PRAGMA trusted_schema=OFF; PRAGMA cell_size_check=ON;"
                                            "PRAGMA secure_delete=ON; PRAGMA temp_store=MEMORY;"
                                            "PRAGMA foreign_keys=OFF; PRAGMA cache_size=-8192");
    if (result == STORE_OK)
        result = use_wal(s);
    if (result == STORE_OK && s->base.read_only)
        result = execute(&s->base, "PRAGMA query_only=ON");
    if (result == STORE_OK) /* a reader, too: whoever closes last writes what is in the log */
        result = keep_clean(s);
    return result == STORE_OK ? execute(&s->base, "PRAGMA synchronous=FULL") : result;
}

static store_result open_store(store *base, const char *url)
{
    sqlite_store *s = (sqlite_store *)base;
    long long size = 0;
    store_user(s->user);
    store_result result = set_path(s, url + strlen("sqlite:"));
    if (result == STORE_OK)
        result = create_file(s);
    if (result == STORE_OK)
        result = check_file(s, &size);
    if (result != STORE_OK)
        return result;
    int code =
        sqlite3_open_v2(s->path, &s->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW, NULL);
    if (code != SQLITE_OK)
        return fail(s, code);
    result = set_up(s);
    if (result != STORE_OK || base->read_only) /* whoever writes there has looked through it */
        return result;
    read_through(s, size);
    return check_content(s, size);
}

static store_state state(const store *base)
{
    const sqlite_store *s = (const sqlite_store *)base;
    return s->db == NULL || sqlite3_get_autocommit(s->db) ? STORE_OUTSIDE : STORE_INSIDE;
}

static store_result prepare_once(sqlite_store *s, sqlite3_stmt **out, const char *sql)
{
    int code = sqlite3_prepare_v3(s->db, sql, -1, 0, out, NULL);
    return code == SQLITE_OK ? STORE_OK : fail(s, code);
}

static store_result prepare(sqlite_store *s, sqlite3_stmt **out, const char *sql)
{
    for (size_t i = 0; i < s->known_count; i++)
        if (s->known[i].sql == sql) {
            *out = s->known[i].statement;
            return STORE_OK;
        }
    prepared *more = realloc(s->known, (s->known_count + 1) * sizeof *more);
    if (more == NULL)
        return store_fail(&s->base, STORE_FAILED, "there is no memory for a statement");
    s->known = more;
    int code = sqlite3_prepare_v3(s->db, sql, -1, SQLITE_PREPARE_PERSISTENT, out, NULL);
    if (code != SQLITE_OK)
        return fail(s, code);
    s->known[s->known_count++] = (prepared){.sql = sql, .statement = *out};
    return STORE_OK;
}

/* A NULL pointer would bind NULL, not what is empty. The bytes stay until the statement is reset. */
static int bind_one(sqlite3_stmt *statement, int at, const store_value *value)
{
    const void *p = value->n == 0 ? "" : value->p;
    switch (value->type) {
    case STORE_INT:
        return sqlite3_bind_int64(statement, at, value->number);
    case STORE_TEXT:
        return sqlite3_bind_text64(statement, at, p, value->n, SQLITE_STATIC, SQLITE_UTF8);
    case STORE_BLOB:
        return sqlite3_bind_blob64(statement, at, p, value->n, SQLITE_STATIC);
    case STORE_NULL:
        break;
    }
    return sqlite3_bind_null(statement, at);
}

/* To SQLite $1 is a name, whose place depends on where it first appears. */
static store_result bind_all(sqlite_store *s, sqlite3_stmt *statement, const store_value *parameters, size_t count)
{
    if ((size_t)sqlite3_bind_parameter_count(statement) != count)
        return store_fail(&s->base, STORE_FAILED, "a statement has %d parameters and was given %zu: %.200s",
                          sqlite3_bind_parameter_count(statement), count, sqlite3_sql(statement));
    for (size_t i = 0; i < count; i++) {
        char name[16];
        snprintf(name, sizeof name, "$%u", (unsigned)i + 1);
        int at = sqlite3_bind_parameter_index(statement, name);
        if (at == 0)
            return store_fail(&s->base, STORE_FAILED, "a statement has no parameter %s: %.200s", name,
                              sqlite3_sql(statement));
        int code = bind_one(statement, at, &parameters[i]);
        if (code != SQLITE_OK)
            return fail(s, code);
    }
    return STORE_OK;
}

static bool read_column(store_value *out, sqlite3_stmt *statement, int i)
{
    switch (sqlite3_column_type(statement, i)) {
    case SQLITE_INTEGER:
        *out = store_int(sqlite3_column_int64(statement, i));
        return true;
    case SQLITE_TEXT:
        out->type = STORE_TEXT;
        out->p = sqlite3_column_text(statement, i);
        break;
    case SQLITE_BLOB:
        out->type = STORE_BLOB;
        out->p = sqlite3_column_blob(statement, i);
        break;
    case SQLITE_NULL:
        *out = store_null();
        return true;
    default:
        return false;
    }
    out->n = (size_t)sqlite3_column_bytes(statement, i);
    if (out->p == NULL)
        out->p = "";
    return true;
}

static store_result read_row(sqlite_store *s, store_value columns[STORE_COLUMNS_MAX], sqlite3_stmt *statement)
{
    int n = sqlite3_column_count(statement);
    if (n > STORE_COLUMNS_MAX)
        return store_fail(&s->base, STORE_FAILED, "a row has too many columns");
    memset(columns, 0, (size_t)n * sizeof columns[0]);
    for (int i = 0; i < n; i++)
        if (!read_column(&columns[i], statement, i))
            return store_fail(&s->base, STORE_FAILED, "a column is neither number, text nor bytes");
    return STORE_OK;
}

static store_result step_all(sqlite_store *s, sqlite3_stmt *statement,
                             bool (*each)(void *ctx, const store_value *columns, size_t n), void *ctx)
{
    store_value columns[STORE_COLUMNS_MAX] = {0};
    int code;
    while ((code = sqlite3_step(statement)) == SQLITE_ROW) {
        if (each == NULL)
            continue;
        store_result result = read_row(s, columns, statement);
        if (result != STORE_OK)
            return result;
        if (!each(ctx, columns, (size_t)sqlite3_column_count(statement)))
            break;
    }
    if (code != SQLITE_DONE && code != SQLITE_ROW)
        return fail(s, code);
    if (!sqlite3_stmt_readonly(statement))
        s->base.changed = sqlite3_changes64(s->db);
    return STORE_OK;
}

static store_result run(store *base, bool keep, const char *sql, const store_value *parameters, size_t count,
                        bool (*each)(void *ctx, const store_value *columns, size_t n), void *ctx)
{
    sqlite_store *s = (sqlite_store *)base;
    sqlite3_stmt *statement = NULL;
    store_result result = keep ? prepare(s, &statement, sql) : prepare_once(s, &statement, sql);
    if (result != STORE_OK)
        return result;
    result = bind_all(s, statement, parameters, count);
    if (result == STORE_OK)
        result = step_all(s, statement, each, ctx);
    if (keep) {
        sqlite3_reset(statement);
        sqlite3_clear_bindings(statement);
    } else {
        sqlite3_finalize(statement);
    }
    return result;
}

/* Waiting for readers to end is the caller's: he has other work meanwhile. */
static store_result scrub(store *base, bool *scrubbed)
{
    sqlite_store *s = (sqlite_store *)base;
    sqlite3_busy_timeout(s->db, 0);
    int code = sqlite3_wal_checkpoint_v2(s->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
    store_result result = code == SQLITE_OK ? STORE_OK : fail(s, code);
    sqlite3_busy_timeout(s->db, STORE_PATIENCE_MS);
    *scrubbed = code == SQLITE_OK;
    return result;
}

static int wait_fd(const store *base)
{
    (void)base;
    return -1;
}

static bool never(store *base)
{
    (void)base;
    return false;
}

static bool is_lost(const store *base)
{
    (void)base;
    return false;
}

static store_result reconnect(store *base)
{
    (void)base;
    return STORE_OK;
}

static const char *step(const store_migration *migration)
{
    return migration->sqlite;
}

const store_backend store_sqlite = {
    .kind = "sqlite",
    .begin = "BEGIN IMMEDIATE",
    .begin_reading = "BEGIN",
    .has_table = "SELECT count(*) FROM sqlite_master WHERE name = $1",
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
    .was_woken = never,
    .is_lost = is_lost,
    .reconnect = reconnect,
};
