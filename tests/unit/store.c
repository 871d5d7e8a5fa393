/*
 * The store. What both databases must do the same is one table of tests, run on SQLite and on a real PostgreSQL, which
 * this program starts; then what each does in its own way when it fails.
 */
#include "store/store.h"
#include "patience.h"
#include "scratch.h"
#include "tests/postgres.h"
#include "unit.h"
#include <poll.h>
#include <sched.h>
#include <sqlite3.h>
#include <sys/mount.h>

static postgres_server server;
static bool on_postgres;
static unsigned database_number;
static char url[POSTGRES_URL_MAX];
static store_result opened;
static store_error line;

static const store_migration schema[] = {
    {"CREATE TABLE things (name TEXT NOT NULL PRIMARY KEY, number BIGINT, bytes BLOB);"
     "CREATE INDEX things_number ON things (number)",
     "CREATE TABLE things (name TEXT NOT NULL PRIMARY KEY, number BIGINT, bytes BYTEA);"
     "CREATE INDEX things_number ON things (number)"},
    {"ALTER TABLE things ADD COLUMN more TEXT", "ALTER TABLE things ADD COLUMN more TEXT"},
    {"CREATE TABLE halves (a BIGINT); INSERT INTO nowhere VALUES (1)",
     "CREATE TABLE halves (a BIGINT); INSERT INTO nowhere VALUES (1)"},
};

/* A store that does not exist yet. */
static void fresh(void)
{
    char name[32];
    scratch_begin();
    snprintf(name, sizeof name, "t%u", database_number++);
    snprintf(url, sizeof url, "sqlite:%s/%s.db", scratch_folder, name);
    if (!on_postgres)
        return;
    CU_ASSERT_TRUE_FATAL(postgres_database(&server, name));
    postgres_url(url, &server, name);
}

static store *try_open(size_t migrations)
{
    memset(&line, 0, sizeof line);
    store *s = store_open(&opened, &line, url, schema, migrations);
    CU_ASSERT_EQUAL(s != NULL, opened == STORE_OK);
    CU_ASSERT_EQUAL(s == NULL, line.text[0] != '\0');
    if (s == NULL)
        printf("\n      %s ", line.text);
    CU_ASSERT_PTR_NULL(strchr(line.text, '\n'));
    CU_ASSERT_PTR_NULL(strstr(line.text, "sesame"));
    return s;
}

static store *must_open(void)
{
    store *s = open_patiently(&opened, &line, url, schema, 1);
    if (s == NULL) {
        printf("\n      %s ", line.text);
        CU_FAIL_FATAL("the store did not open");
    }
    return s;
}

static store_result put(store *s, const char *name, int64_t number)
{
    store_value v[] = {store_text(name, strlen(name)), store_int(number)};
    return store_run(s, "INSERT INTO things (name, number) VALUES ($1, $2)", v, 2, NULL, NULL);
}

static bool keep_number(void *ctx, const store_value *columns, size_t n)
{
    if (n == 1 && columns[0].type == STORE_INT)
        *(int64_t *)ctx = columns[0].number;
    return true;
}

static int64_t count(store *s)
{
    int64_t n = -1;
    CU_ASSERT_EQUAL(store_run(s, "SELECT count(*) FROM things", NULL, 0, keep_number, &n), STORE_OK);
    return n;
}

/* Seen by another connection: committed. */
static int64_t count_outside(void)
{
    store *s = must_open();
    int64_t n = count(s);
    store_close(s);
    return n;
}

/* Values. */

typedef struct {
    unsigned rows;
    store_value want[3];
} expected;

static bool is_same(const store_value *a, const store_value *b)
{
    if (a->type != b->type)
        return false;
    if (a->type == STORE_INT)
        return a->number == b->number;
    return a->type == STORE_NULL || (a->n == b->n && a->p != NULL && (a->n == 0 || memcmp(a->p, b->p, a->n) == 0));
}

static bool compare(void *ctx, const store_value *columns, size_t n)
{
    expected *e = ctx;
    e->rows++;
    CU_ASSERT_EQUAL_FATAL(n, 3);
    for (size_t i = 0; i < n; i++)
        CU_ASSERT_TRUE(is_same(&columns[i], &e->want[i]));
    return true;
}

static void round_trip(store *s, store_value name, store_value number, store_value bytes)
{
    expected e = {0, {name, number, bytes}};
    CU_ASSERT_EQUAL(store_run(s, "INSERT INTO things (name, number, bytes) VALUES ($1, $2, $3)", e.want, 3, NULL, NULL),
                    STORE_OK);
    CU_ASSERT_EQUAL(store_run(s, "SELECT name, number, bytes FROM things WHERE name = $1", &name, 1, compare, &e),
                    STORE_OK);
    CU_ASSERT_EQUAL(e.rows, 1);
    CU_ASSERT_EQUAL(store_run(s, "DELETE FROM things", NULL, 0, NULL, NULL), STORE_OK);
    CU_ASSERT_EQUAL(store_changed(s), 1);
}

static void values(void)
{
    static uint8_t large[1000000];
    static const int64_t numbers[] = {0, 1, -1, 127, 128, -128, 255, 65536, INT64_MAX, INT64_MIN, INT64_C(1) << 53};
    store *s = must_open();
    for (size_t i = 0; i < sizeof large; i++)
        large[i] = (uint8_t)(i * 7);
    store_value name = store_text("Größe 🔑 'quoted' $1", strlen("Größe 🔑 'quoted' $1"));
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        round_trip(s, name, store_int(numbers[i]), store_blob("\0\1\377", 3));
    round_trip(s, store_text("", 0), store_null(), store_null());
    round_trip(s, store_text(NULL, 0), store_int(1), store_blob(NULL, 0));
    round_trip(s, name, store_null(), store_blob(large, sizeof large));
    store_close(s);
}

static void parameters(void)
{
    int64_t n = -1;
    store *s = must_open();
    CU_ASSERT_EQUAL(put(s, "a", 7), STORE_OK);
    store_value v[] = {store_int(7), store_text("a", 1), store_int(8)};
    CU_ASSERT_EQUAL(store_run(s, "UPDATE things SET number = $3 WHERE name = $2 AND number = $1", v, 3, NULL, NULL),
                    STORE_OK);
    CU_ASSERT_EQUAL(store_changed(s), 1);
    CU_ASSERT_EQUAL(store_run(s, "SELECT number FROM things WHERE name = $1 OR name = $1", &v[1], 1, keep_number, &n),
                    STORE_OK);
    CU_ASSERT_EQUAL(n, 8);
    if (!on_postgres) /* which takes one too many */
        CU_ASSERT_EQUAL(store_run(s, "DELETE FROM things WHERE number = $1", v, 2, NULL, NULL), STORE_FAILED);
    v[0].number = 6;
    CU_ASSERT_EQUAL(store_run(s, "DELETE FROM things WHERE name = $1 AND number = $2", v, 1, NULL, NULL), STORE_FAILED);
    CU_ASSERT_NOT_EQUAL(store_why(s)[0], '\0');
    CU_ASSERT_EQUAL(store_run(s, "DELETE FORM things", NULL, 0, NULL, NULL), STORE_FAILED);
    CU_ASSERT_EQUAL(store_run(s, "SELECT 1.5", NULL, 0, keep_number, &n), STORE_FAILED);
    store_value broken = store_text("a\0b", 3);
    CU_ASSERT_EQUAL(store_run(s, "DELETE FROM things WHERE name = $1", &broken, 1, NULL, NULL), STORE_FAILED);
    CU_ASSERT_EQUAL(count(s), 1);
    store_close(s);
}

/* A statement is prepared by its text alone, whatever its parameters were the first time. */
static void a_null_first(void)
{
    static const char sql[] = "INSERT INTO things (name, number, bytes) VALUES ($1, $2, $3)";
    store *s = must_open();
    store_value v[] = {store_text("a", 1), store_null(), store_null()};
    CU_ASSERT_EQUAL(store_run(s, sql, v, 3, NULL, NULL), STORE_OK);
    v[0] = store_text("b", 1);
    v[1] = store_int(INT64_MIN);
    v[2] = store_blob("x", 1);
    CU_ASSERT_EQUAL(store_run(s, sql, v, 3, NULL, NULL), STORE_OK);
    v[0] = store_text("c", 1);
    v[2] = store_null();
    CU_ASSERT_EQUAL(store_run(s, sql, v, 3, NULL, NULL), STORE_OK);
    CU_ASSERT_EQUAL(count(s), 3);
    store_close(s);
}

/* Transactions. */

static void transactions(void)
{
    store *s = must_open();
    CU_ASSERT_EQUAL(store_begin(s), STORE_OK);
    CU_ASSERT_EQUAL(put(s, "a", 1), STORE_OK);
    CU_ASSERT_EQUAL(count(s), 1);
    store_rollback(s);
    CU_ASSERT_EQUAL(count(s), 0);
    store_rollback(s); /* there is none */
    CU_ASSERT_EQUAL(store_commit(s), STORE_FAILED);
    CU_ASSERT_EQUAL(store_begin(s), STORE_OK);
    CU_ASSERT_EQUAL(put(s, "b", 1), STORE_OK);
    CU_ASSERT_EQUAL(store_begin(s), STORE_OK); /* what was left half done is undone */
    CU_ASSERT_EQUAL(put(s, "c", 1), STORE_OK);
    CU_ASSERT_EQUAL(store_commit(s), STORE_OK);
    CU_ASSERT_EQUAL(count_outside(), 1);
    CU_ASSERT_EQUAL(store_begin(s), STORE_OK);
    CU_ASSERT_EQUAL(put(s, "d", 1), STORE_OK);
    store_close(s);
    CU_ASSERT_EQUAL(count_outside(), 1);
}

static void conflicts(void)
{
    store *s = must_open();
    CU_ASSERT_EQUAL(store_begin(s), STORE_OK);
    CU_ASSERT_EQUAL(store_mark(s), STORE_OK);
    CU_ASSERT_EQUAL(put(s, "a", 1), STORE_OK);
    CU_ASSERT_EQUAL(store_keep(s), STORE_OK);
    CU_ASSERT_EQUAL(store_mark(s), STORE_OK);
    CU_ASSERT_EQUAL(put(s, "b", 1), STORE_OK);
    CU_ASSERT_EQUAL(put(s, "a", 2), STORE_CONFLICT);
    CU_ASSERT_PTR_NOT_NULL(strcasestr(store_why(s), "unique"));
    CU_ASSERT_EQUAL(store_undo(s), STORE_OK);
    CU_ASSERT_PTR_NOT_NULL(strcasestr(store_why(s), "unique")); /* still tells why */
    CU_ASSERT_EQUAL(store_mark(s), STORE_OK);
    CU_ASSERT_EQUAL(put(s, "c", 1), STORE_OK);
    CU_ASSERT_EQUAL(store_keep(s), STORE_OK);
    CU_ASSERT_EQUAL(store_commit(s), STORE_OK);
    CU_ASSERT_EQUAL(count_outside(), 2);
    CU_ASSERT_EQUAL(put(s, "a", 1), STORE_CONFLICT); /* outside of a transaction, too */
    CU_ASSERT_EQUAL(put(s, "d", 1), STORE_OK);
    CU_ASSERT_EQUAL(count_outside(), 3);
    store_close(s);
}

static void marks_nest(void)
{
    store *s = must_open();
    CU_ASSERT_EQUAL(store_begin(s), STORE_OK);
    CU_ASSERT_EQUAL(store_mark(s), STORE_OK);
    CU_ASSERT_EQUAL(put(s, "a", 1), STORE_OK);
    CU_ASSERT_EQUAL(store_mark(s), STORE_OK);
    CU_ASSERT_EQUAL(put(s, "b", 1), STORE_OK);
    CU_ASSERT_EQUAL(store_undo(s), STORE_OK);
    CU_ASSERT_EQUAL(store_mark(s), STORE_OK);
    CU_ASSERT_EQUAL(put(s, "c", 1), STORE_OK);
    CU_ASSERT_EQUAL(store_keep(s), STORE_OK);
    CU_ASSERT_EQUAL(store_undo(s), STORE_OK);
    CU_ASSERT_EQUAL(put(s, "d", 1), STORE_OK);
    CU_ASSERT_NOT_EQUAL(store_keep(s), STORE_OK); /* there is none left */
    store_rollback(s);
    CU_ASSERT_EQUAL(store_begin(s), STORE_OK);
    CU_ASSERT_EQUAL(put(s, "e", 1), STORE_OK);
    CU_ASSERT_EQUAL(store_commit(s), STORE_OK);
    CU_ASSERT_EQUAL(count_outside(), 1);
    store_close(s);
}

/* A statement failed outside of a mark: whether the rest may be committed differs, but never that all goes on well. */
static void failed_without_mark(void)
{
    store *s = must_open();
    CU_ASSERT_EQUAL(put(s, "a", 1), STORE_OK);
    CU_ASSERT_EQUAL(store_begin(s), STORE_OK);
    CU_ASSERT_EQUAL(put(s, "b", 1), STORE_OK);
    CU_ASSERT_EQUAL(put(s, "a", 1), STORE_CONFLICT);
    store_result result = store_commit(s);
    CU_ASSERT_EQUAL(result, on_postgres ? STORE_FAILED : STORE_OK);
    CU_ASSERT_EQUAL(count_outside(), result == STORE_OK ? 2 : 1);
    CU_ASSERT_EQUAL(store_begin(s), STORE_OK);
    CU_ASSERT_EQUAL(put(s, "c", 1), STORE_OK);
    CU_ASSERT_EQUAL(store_commit(s), STORE_OK);
    store_close(s);
}

/* Rows. */

typedef struct {
    store *s;
    int64_t rows;
    int64_t end_after;
    store_result nested;
} walk;

static bool step(void *ctx, const store_value *columns, size_t n)
{
    walk *w = ctx;
    CU_ASSERT_EQUAL_FATAL(n, 2);
    CU_ASSERT_EQUAL(columns[0].number, w->rows);
    w->rows++;
    if (w->rows == 1)
        w->nested = store_run(w->s, "SELECT count(*) FROM things", NULL, 0, NULL, NULL);
    return w->rows != w->end_after;
}

static void many_rows(void)
{
    enum { ROWS = 20000 };
    static const char sql[] = "SELECT number, name FROM things ORDER BY number";
    store *s = must_open();
    CU_ASSERT_EQUAL(store_begin(s), STORE_OK);
    for (int64_t i = 0; i < ROWS; i++) {
        char name[32];
        snprintf(name, sizeof name, "thing %d", (int)i);
        CU_ASSERT_EQUAL_FATAL(put(s, name, i), STORE_OK);
    }
    CU_ASSERT_EQUAL(store_commit(s), STORE_OK);
    CU_ASSERT_EQUAL(store_begin(s), STORE_OK);
    walk all = {.s = s, .end_after = -1};
    CU_ASSERT_EQUAL(store_run(s, sql, NULL, 0, step, &all), STORE_OK);
    CU_ASSERT_EQUAL(all.rows, ROWS);
    CU_ASSERT_EQUAL(all.nested, STORE_FAILED); /* PostgreSQL could not */
    walk some = {.s = s, .end_after = 3};
    CU_ASSERT_EQUAL(store_run(s, sql, NULL, 0, step, &some), STORE_OK);
    CU_ASSERT_EQUAL(some.rows, 3);
    CU_ASSERT_EQUAL(store_run(s, sql, NULL, 0, NULL, NULL), STORE_OK);
    CU_ASSERT_EQUAL(store_run(s, "DELETE FROM things WHERE number < 5", NULL, 0, NULL, NULL), STORE_OK);
    CU_ASSERT_EQUAL(store_changed(s), 5);
    CU_ASSERT_EQUAL(count(s), ROWS - 5);
    CU_ASSERT_EQUAL(store_changed(s), 5); /* a query changes none */
    CU_ASSERT_EQUAL(store_run(s, "DELETE FROM things WHERE number < 5", NULL, 0, NULL, NULL), STORE_OK);
    CU_ASSERT_EQUAL(store_changed(s), 0);
    CU_ASSERT_EQUAL(store_commit(s), STORE_OK);
    store_close(s);
}

static void returning(void)
{
    int64_t number = -1;
    store *s = must_open();
    CU_ASSERT_EQUAL(put(s, "counter", 41), STORE_OK);
    CU_ASSERT_EQUAL(
        store_run(s, "UPDATE things SET number = number + 1 RETURNING number", NULL, 0, keep_number, &number),
        STORE_OK);
    CU_ASSERT_EQUAL(number, 42);
    CU_ASSERT_EQUAL(store_changed(s), 1);
    store_close(s);
}

/* The schema. */

static void migrations(void)
{
    store *s = must_open();
    CU_ASSERT_EQUAL(put(s, "a", 1), STORE_OK);
    store_close(s);
    CU_ASSERT_PTR_NULL(try_open(3)); /* the third fails, so the second is undone as well */
    CU_ASSERT_EQUAL(opened, STORE_FAILED);
    s = must_open();
    CU_ASSERT_EQUAL(store_run(s, "SELECT more FROM things", NULL, 0, NULL, NULL), STORE_FAILED);
    CU_ASSERT_EQUAL(store_run(s, "SELECT a FROM halves", NULL, 0, NULL, NULL), STORE_FAILED);
    store_close(s);
    s = try_open(2);
    CU_ASSERT_PTR_NOT_NULL_FATAL(s);
    CU_ASSERT_EQUAL(store_run(s, "SELECT more FROM things", NULL, 0, NULL, NULL), STORE_OK);
    CU_ASSERT_EQUAL(count(s), 1);
    store_close(s);
    CU_ASSERT_PTR_NULL(try_open(1));
    CU_ASSERT_EQUAL(opened, STORE_NEWER);
    CU_ASSERT_PTR_NOT_NULL(strstr(line.text, "later version"));
}

static int open_in_child(int report)
{
    (void)report;
    store *s = open_patiently(&opened, &line, url, schema, 2);
    if (s == NULL)
        printf("%s\n", line.text);
    store_close(s);
    return opened == STORE_OK ? 0 : 1;
}

/* Brokers that start at the same time, on a database that has no schema yet. */
static void opened_at_once(void)
{
    enum { CHILDREN = 6 };
    pid_t children[CHILDREN];
    int reports[CHILDREN];
    for (int i = 0; i < CHILDREN; i++)
        children[i] = start_child(&reports[i], open_in_child);
    for (int i = 0; i < CHILDREN; i++)
        CU_ASSERT_TRUE(ended_well(end_child(children[i], reports[i])));
    store *s = try_open(2);
    CU_ASSERT_PTR_NOT_NULL_FATAL(s);
    CU_ASSERT_STRING_EQUAL(store_kind(s), on_postgres ? "postgresql" : "sqlite");
    store_close(s);
}

/* Somebody else holds what is needed: a limit on the wait, and all is well when it is free. */
static void locked(void)
{
    store *s = must_open();
    store *other = must_open();
    CU_ASSERT_EQUAL(put(s, "a", 1), STORE_OK);
    CU_ASSERT_EQUAL(store_begin(other), STORE_OK);
    CU_ASSERT_EQUAL(store_run(other, "UPDATE things SET number = 2", NULL, 0, NULL, NULL), STORE_OK);
    uint64_t begun = now_ms();
    store_result result = store_begin(s);
    if (result == STORE_OK)
        result = store_run(s, "UPDATE things SET number = 3", NULL, 0, NULL, NULL);
    uint64_t took = now_ms() - begun;
    CU_ASSERT_EQUAL(result, STORE_AWAY);
    CU_ASSERT_TRUE(took >= STORE_PATIENCE_MS / 2 && took < STORE_PATIENCE_MS + LATE_MS);
    CU_ASSERT_FALSE(store_is_lost(s));
    printf("\n      %s ", store_why(s));
    store_rollback(s);
    CU_ASSERT_EQUAL(store_commit(other), STORE_OK);
    CU_ASSERT_EQUAL(store_begin(s), STORE_OK);
    CU_ASSERT_EQUAL(store_run(s, "UPDATE things SET number = 3", NULL, 0, NULL, NULL), STORE_OK);
    CU_ASSERT_EQUAL(store_commit(s), STORE_OK);
    store_close(other);
    store_close(s);
}

static void on(bool postgres, void (*test)(void))
{
    on_postgres = postgres;
    fresh();
    test();
    scratch_end();
}

/* Where a URL can be taken at all. */
static void urls(void)
{
    static const char *const good[] = {"sqlite:/a",
                                       "sqlite:/var/lib/mosquitto/pep/directory.db",
                                       "postgresql://localhost/pep",
                                       "postgresql://pep:secret@db.example:5433/pep?sslmode=verify-full",
                                       "postgresql:///pep?host=/run/postgresql",
                                       "postgresql://a:1,b:2/pep?connect_timeout=3",
                                       "postgresql://pep:a%40b%2Fc@localhost/pep"};
    static const char *const bad[] = {"",
                                      "sqlite:",
                                      "sqlite:/",
                                      "sqlite:relative",
                                      "sqlite:/folder/",
                                      "SQLITE:/a",
                                      "/var/lib/a.db",
                                      "mysql://localhost/pep",
                                      "host=localhost dbname=pep",
                                      "postgresql://pep:se@same@localhost/pep",
                                      "postgresql://pep:se/same@localhost/pep",
                                      "postgresql://pep:se?same@localhost/pep",
                                      "postgresql://pep:sesame",
                                      "postgresql://pep:sesame/pep",
                                      "postgresql://localhost/pep?connect_timeout=0",
                                      "postgresql://localhost/pep?connect_timeout=-1",
                                      "postgresql://localhost/pep?password=se%zzsame",
                                      "postgresql://localhost/pep?passwrd=sesame",
                                      "postgresql://[::1/sesame"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        CU_ASSERT_TRUE(store_url_valid(good[i]));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        CU_ASSERT_FALSE(store_url_valid(bad[i]));
        snprintf(url, sizeof url, "%s", bad[i]);
        CU_ASSERT_PTR_NULL(store_open(&opened, &line, url, schema, 1));
        CU_ASSERT_EQUAL(opened, STORE_FAILED);
        CU_ASSERT_PTR_NULL(strstr(line.text, "same"));
    }
    CU_ASSERT_FALSE(store_url_valid(NULL));
}

/* SQLite in its own way. */

static void sqlite_begin(const char *name)
{
    on_postgres = false;
    scratch_begin();
    snprintf(url, sizeof url, "sqlite:%s/%s", scratch_folder, name);
}

static void fill(store *s)
{
    static uint8_t bytes[1000];
    CU_ASSERT_EQUAL(store_begin(s), STORE_OK);
    for (int i = 0; i < 200; i++) {
        char name[32];
        snprintf(name, sizeof name, "%d", i);
        store_value v[] = {store_text(name, strlen(name)), store_blob(bytes, sizeof bytes)};
        CU_ASSERT_EQUAL(store_run(s, "INSERT INTO things (name, bytes) VALUES ($1, $2)", v, 2, NULL, NULL), STORE_OK);
    }
    CU_ASSERT_EQUAL(store_commit(s), STORE_OK);
}

static bool keep_text(void *ctx, const store_value *columns, size_t n)
{
    (void)n;
    snprintf(ctx, 32, "%.*s", (int)columns[0].n, (const char *)columns[0].p);
    return true;
}

static void sqlite_settings(void)
{
    char mode[32] = "";
    int64_t number = -1;
    sqlite_begin("a.db");
    mode_t before = umask(0);
    store *s = must_open();
    fill(s);
    CU_ASSERT_EQUAL(mode_of_file(scratch_path("a.db")), 0600);
    CU_ASSERT_EQUAL(mode_of_file(scratch_path("a.db-wal")), 0600);
    CU_ASSERT_EQUAL(mode_of_file(scratch_path("a.db-shm")), 0600);
    CU_ASSERT_EQUAL(store_run(s, "PRAGMA journal_mode", NULL, 0, keep_text, mode), STORE_OK);
    CU_ASSERT_STRING_EQUAL(mode, "wal");
    CU_ASSERT_EQUAL(store_run(s, "PRAGMA synchronous", NULL, 0, keep_number, &number), STORE_OK);
    CU_ASSERT_EQUAL(number, 2);
    CU_ASSERT_EQUAL(store_run(s, "PRAGMA secure_delete", NULL, 0, keep_number, &number), STORE_OK);
    CU_ASSERT_EQUAL(number, 1);
    CU_ASSERT_EQUAL(store_wait_fd(s), -1);
    CU_ASSERT_FALSE(store_was_woken(s));
    CU_ASSERT_EQUAL(store_notify(s), STORE_OK);
    CU_ASSERT_FALSE(store_is_lost(s));
    CU_ASSERT_EQUAL(store_reconnect(s), STORE_OK);
    store_close(s);
    CU_ASSERT_EQUAL(scratch_count(), 1); /* nothing beside the file itself */
    umask(before);
    scratch_end();
}

static void expect_failure(store_result result, const char *words)
{
    CU_ASSERT_PTR_NULL(try_open(1));
    CU_ASSERT_EQUAL(opened, result);
    CU_ASSERT_PTR_NOT_NULL(strstr(line.text, words));
    CU_ASSERT_PTR_NOT_NULL(strstr(line.text, scratch_folder));
}

static void sqlite_paths(void)
{
    sqlite_begin("a.db");
    store_close(must_open());
    CU_ASSERT_EQUAL(symlink("a.db", scratch_path("link.db")), 0);
    CU_ASSERT_EQUAL(symlink("nowhere.db", scratch_path("dangling.db")), 0);
    CU_ASSERT_EQUAL(mkdir(scratch_path("folder"), 0700), 0);
    CU_ASSERT_EQUAL(symlink("folder", scratch_path("linked")), 0);
    CU_ASSERT_EQUAL(mkfifo(scratch_path("pipe"), 0600), 0);
    static const char *const refused[] = {"link.db", "dangling.db", "folder", "pipe"};
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        snprintf(url, sizeof url, "sqlite:%s/%s", scratch_folder, refused[i]);
        expect_failure(STORE_FAILED, "no ordinary file");
    }
    CU_ASSERT_NOT_EQUAL(access(scratch_path("nowhere.db"), F_OK), 0);
    snprintf(url, sizeof url, "sqlite:%s/missing/a.db", scratch_folder);
    expect_failure(STORE_FAILED, "No such file");
    snprintf(url, sizeof url, "sqlite:%s/linked/a.db", scratch_folder); /* the operator's folder may be a link */
    store_close(must_open());
    CU_ASSERT_EQUAL(access(scratch_path("folder/a.db"), F_OK), 0);
    scratch_end();
}

static void overwrite(const char *path, long at, size_t n)
{
    int fd = open(path, O_WRONLY);
    CU_ASSERT_FATAL(fd >= 0);
    for (size_t i = 0; i < n; i++)
        CU_ASSERT_EQUAL_FATAL(pwrite(fd, "\xa5", 1, at + (long)i), 1);
    close(fd);
}

static void sqlite_damaged(void)
{
    sqlite_begin("a.db");
    write_file(scratch_path("a.db"), "This is not a database, but it is long enough to look like one that is.", 71,
               0600);
    expect_failure(STORE_DAMAGED, "not a database");
    remove(scratch_path("a.db"));
    store *s = must_open();
    fill(s);
    store_close(s);
    overwrite(scratch_path("a.db"), 40000, 20000);
    expect_failure(STORE_DAMAGED, "backup");
    overwrite(scratch_path("a.db"), 0, 16);
    expect_failure(STORE_DAMAGED, "not a database");
    scratch_end();
}

static void sqlite_truncated(void)
{
    sqlite_begin("a.db");
    store *s = must_open();
    fill(s);
    store_close(s);
    CU_ASSERT_EQUAL(truncate(scratch_path("a.db"), 50000), 0);
    expect_failure(STORE_DAMAGED, "a.db");
    CU_ASSERT_EQUAL(truncate(scratch_path("a.db"), 0), 0); /* as it is when the very first start was killed */
    store_close(must_open());
    scratch_end();
}

/* Damage that appears while the store is open. */
static void sqlite_damaged_later(void)
{
    int64_t n = -1;
    sqlite_begin("a.db");
    store *s = must_open();
    fill(s);
    store_close(s);
    s = must_open();
    CU_ASSERT_EQUAL(store_run(s, "PRAGMA shrink_memory", NULL, 0, NULL, NULL), STORE_OK); /* what the check read */
    overwrite(scratch_path("a.db"), 8192, 200000);
    store_result result = store_run(s, "SELECT sum(length(bytes)) FROM things", NULL, 0, keep_number, &n);
    CU_ASSERT_EQUAL(result, STORE_DAMAGED);
    printf("\n      %s ", store_why(s));
    store_close(s);
    scratch_end();
}

/* By one that reads, one that is about to write (whom SQLite itself does not wait for here), and one that writes. */
static void locked_by_another(const char *lock)
{
    sqlite3 *other;
    sqlite_begin("a.db");
    CU_ASSERT_EQUAL_FATAL(sqlite3_open(scratch_path("a.db"), &other), SQLITE_OK);
    CU_ASSERT_EQUAL(sqlite3_exec(other, "CREATE TABLE t (a)", NULL, NULL, NULL), SQLITE_OK);
    CU_ASSERT_EQUAL(sqlite3_exec(other, lock, NULL, NULL, NULL), SQLITE_OK);
    uint64_t begun = now_ms();
    expect_failure(STORE_AWAY, "locked by another process");
    uint64_t took = now_ms() - begun;
    CU_ASSERT(took >= STORE_PATIENCE_MS / 2 && took < STORE_PATIENCE_MS + LATE_MS);
    CU_ASSERT_EQUAL(sqlite3_exec(other, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(other);
    store_close(must_open());
    scratch_end();
}

static void sqlite_locked_by_another(void)
{
    locked_by_another("BEGIN; SELECT a FROM t");
    locked_by_another("BEGIN IMMEDIATE");
    locked_by_another("BEGIN EXCLUSIVE");
}

/* In a child: the line, and the result as its exit code; 100: it worked. */
static int open_as_nobody(int report)
{
    (void)report;
    if (!become_ordinary())
        return 101;
    store *s = store_open(&opened, &line, url, schema, 1);
    printf("\n      %s ", line.text);
    fflush(stdout);
    bool told = strstr(line.text, scratch_folder) != NULL && strstr(line.text, "user nobody") != NULL;
    store_close(s);
    return s != NULL ? 100 : told || geteuid() != NOBODY ? (int)opened : 102;
}

static int result_of_child(int (*body)(int report))
{
    int reports;
    pid_t child = start_child(&reports, body);
    int status = end_child(child, reports);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void give_to_nobody(const char *path, mode_t mode)
{
    if (geteuid() == 0)
        CU_ASSERT_EQUAL(chown(path, NOBODY, NOBODY), 0);
    CU_ASSERT_EQUAL(chmod(path, mode), 0);
}

static void sqlite_permissions(void)
{
    sqlite_begin("a.db");
    store_close(must_open());
    give_to_nobody(scratch_folder, 0700);
    give_to_nobody(scratch_path("a.db"), 0600);
    CU_ASSERT_EQUAL(result_of_child(open_as_nobody), 100);
    CU_ASSERT_EQUAL(chmod(scratch_path("a.db"), 0400), 0);
    CU_ASSERT_EQUAL(result_of_child(open_as_nobody), STORE_FULL);
    CU_ASSERT_EQUAL(chmod(scratch_path("a.db"), 0), 0);
    CU_ASSERT_EQUAL(result_of_child(open_as_nobody), STORE_FAILED);
    CU_ASSERT_EQUAL(chmod(scratch_path("a.db"), 0600), 0);
    CU_ASSERT_EQUAL(chmod(scratch_folder, 0500), 0);
    CU_ASSERT_EQUAL(result_of_child(open_as_nobody), STORE_FULL);
    CU_ASSERT_EQUAL(remove(scratch_path("a.db")), geteuid() == 0 ? 0 : -1);
    CU_ASSERT_EQUAL(result_of_child(open_as_nobody), STORE_FULL);
    CU_ASSERT_EQUAL(chmod(scratch_folder, 0), 0);
    CU_ASSERT_EQUAL(result_of_child(open_as_nobody), STORE_FULL);
    CU_ASSERT_EQUAL(chmod(scratch_folder, 0700), 0);
    scratch_end();
}

/* Writes until it is full: 0, where it then behaves as it must. */
static int fill_up(store *s)
{
    static uint8_t bytes[20000];
    store_result result = STORE_OK;
    for (int i = 0; result == STORE_OK && i < 10000; i++) {
        char name[32];
        snprintf(name, sizeof name, "large %d", i);
        store_value v[] = {store_text(name, strlen(name)), store_blob(bytes, sizeof bytes)};
        result = store_begin(s);
        if (result == STORE_OK)
            result = store_run(s, "INSERT INTO things (name, bytes) VALUES ($1, $2)", v, 2, NULL, NULL);
        if (result == STORE_OK)
            result = store_commit(s);
        else
            store_rollback(s);
    }
    printf("\n      %s ", store_why(s));
    fflush(stdout);
    if (result != STORE_FULL)
        return 1;
    int64_t n = -1;
    return store_run(s, "SELECT count(*) FROM things", NULL, 0, keep_number, &n) == STORE_OK && n > 5 ? 0 : 2;
}

static int fill_up_to_limit(int report)
{
    (void)report;
    store *s = store_open(&opened, &line, url, schema, 1);
    if (s == NULL)
        return 3;
    limit_files(true, 1000000);
    int code = fill_up(s);
    limit_files(false, 0);
    if (code == 0 && (store_begin(s) != STORE_OK || put(s, "room again", 1) != STORE_OK || store_commit(s) != STORE_OK))
        code = 4;
    store_close(s);
    return code;
}

static void sqlite_full(void)
{
    sqlite_begin("a.db");
    CU_ASSERT_EQUAL(result_of_child(fill_up_to_limit), 0);
    CU_ASSERT_TRUE(count_outside() > 5);
    scratch_end();
}

/* A real file system without room; 77: it cannot be had here. */
static int fill_up_a_disk(int report)
{
    (void)report;
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", "none", MS_REC | MS_PRIVATE, "") != 0 ||
        mount("tmpfs", scratch_folder, "tmpfs", 0, "size=1m") != 0)
        return 77;
    store *s = store_open(&opened, &line, url, schema, 1);
    if (s == NULL)
        return 3;
    int code = fill_up(s);
    store_close(s);
    if (code == 0 && mount("none", scratch_folder, "none", MS_REMOUNT | MS_RDONLY, "") == 0 &&
        store_open(&opened, &line, url, schema, 1) == NULL)
        printf("\n      %s ", line.text);
    fflush(stdout);
    return code == 0 && opened != STORE_FULL ? 5 : code;
}

static void sqlite_full_disk(void)
{
    sqlite_begin("a.db");
    int code = result_of_child(fill_up_a_disk);
    CU_ASSERT_TRUE(code == 0 || code == 77);
    if (code == 77) /* not root, or in a container: the test before this one has to do */
        printf("(no file system of our own here) ");
    scratch_end();
}

/* PostgreSQL in its own way. */

static void postgres_begin(void)
{
    on_postgres = true;
    fresh();
}

static bool readable(store *s, int ms)
{
    struct pollfd fd = {.fd = store_wait_fd(s), .events = POLLIN};
    return poll(&fd, 1, ms) == 1;
}

static void postgres_notifies(void)
{
    postgres_begin();
    store *s = must_open();
    store *other = must_open();
    CU_ASSERT_FALSE(store_was_woken(s));
    CU_ASSERT_FALSE(store_was_woken(other));
    CU_ASSERT_EQUAL(store_begin(s), STORE_OK);
    CU_ASSERT_EQUAL(store_notify(s), STORE_OK);
    CU_ASSERT_FALSE(readable(other, 100)); /* not before the commit */
    CU_ASSERT_EQUAL(store_commit(s), STORE_OK);
    CU_ASSERT_TRUE(readable(other, LATE_MS));
    CU_ASSERT_TRUE(store_was_woken(other));
    CU_ASSERT_FALSE(store_was_woken(other));
    readable(s, 100);
    CU_ASSERT_FALSE(store_was_woken(s)); /* its own */
    CU_ASSERT_EQUAL(store_begin(s), STORE_OK);
    CU_ASSERT_EQUAL(store_notify(s), STORE_OK);
    CU_ASSERT_EQUAL(store_commit(s), STORE_OK);
    CU_ASSERT_EQUAL(count(other), 0); /* the news come with the answer, and nothing is left to read */
    CU_ASSERT_TRUE(store_was_woken(other) || (readable(other, LATE_MS) && store_was_woken(other)));
    store_close(other);
    store_close(s);
    scratch_end();
}

static void expect_away(store *s)
{
    CU_ASSERT_TRUE(store_is_lost(s));
    CU_ASSERT_EQUAL(store_wait_fd(s), -1);
    CU_ASSERT_EQUAL(store_begin(s), STORE_AWAY);
    CU_ASSERT_EQUAL(store_commit(s), STORE_AWAY);
    CU_ASSERT_EQUAL(put(s, "x", 1), STORE_AWAY);
    CU_ASSERT_EQUAL(store_notify(s), STORE_AWAY);
    CU_ASSERT_FALSE(store_was_woken(s));
    store_rollback(s);
    printf("\n      %s ", store_why(s));
    CU_ASSERT_PTR_NULL(strstr(store_why(s), "sesame"));
}

static void postgres_restarted(void)
{
    postgres_begin();
    store *s = must_open();
    CU_ASSERT_EQUAL(store_begin(s), STORE_OK);
    CU_ASSERT_EQUAL(put(s, "a", 1), STORE_OK);
    postgres_stop(&server, SIGINT);
    CU_ASSERT_EQUAL(put(s, "b", 1), STORE_AWAY);
    expect_away(s);
    CU_ASSERT_EQUAL(store_reconnect(s), STORE_AWAY);
    expect_away(s);
    CU_ASSERT_PTR_NULL(try_open(1));
    CU_ASSERT_EQUAL(opened, STORE_AWAY);
    CU_ASSERT_TRUE_FATAL(postgres_again(&server));
    CU_ASSERT_EQUAL(store_reconnect(s), STORE_OK);
    CU_ASSERT_FALSE(store_is_lost(s));
    CU_ASSERT_EQUAL(count(s), 0);
    CU_ASSERT_EQUAL(put(s, "c", 1), STORE_OK); /* prepared again */
    postgres_stop(&server, SIGINT);
    CU_ASSERT_TRUE(readable(s, LATE_MS)); /* who sleeps is told */
    for (int i = 0; i < 100 && !store_is_lost(s); i++) {
        readable(s, 100);
        CU_ASSERT_FALSE(store_was_woken(s));
    }
    expect_away(s);
    CU_ASSERT_TRUE_FATAL(postgres_again(&server));
    CU_ASSERT_EQUAL(store_reconnect(s), STORE_OK);
    CU_ASSERT_EQUAL(count(s), 1);
    store_close(s);
    scratch_end();
}

static void postgres_frozen(void)
{
    postgres_begin();
    store *s = must_open();
    CU_ASSERT_EQUAL(store_begin(s), STORE_OK);
    CU_ASSERT_EQUAL(put(s, "a", 1), STORE_OK);
    postgres_freeze(&server, true);
    uint64_t begun = now_ms();
    CU_ASSERT_EQUAL(store_commit(s), STORE_AWAY);
    CU_ASSERT(now_ms() - begun < STORE_PATIENCE_MS + LATE_MS);
    CU_ASSERT_PTR_NOT_NULL(strstr(store_why(s), "does not answer"));
    begun = now_ms();
    expect_away(s);
    CU_ASSERT(at_once(begun));
    begun = now_ms();
    CU_ASSERT_EQUAL(store_reconnect(s), STORE_AWAY);
    CU_ASSERT(now_ms() - begun < STORE_PATIENCE_MS + LATE_MS);
    begun = now_ms();
    CU_ASSERT_PTR_NULL(try_open(1));
    CU_ASSERT_EQUAL(opened, STORE_AWAY);
    CU_ASSERT(now_ms() - begun < STORE_PATIENCE_MS + LATE_MS);
    postgres_freeze(&server, false);
    CU_ASSERT_EQUAL(store_reconnect(s), STORE_OK);
    CU_ASSERT_EQUAL(count(s) >= 0, true); /* whether that commit came through could not be known */
    store_close(s);
    scratch_end();
}

/* Frozen while more is on its way to the server than its socket takes. */
static void postgres_frozen_while_sending(void)
{
    static uint8_t bytes[40000000];
    postgres_begin();
    store *s = must_open();
    postgres_freeze(&server, true);
    store_value v[] = {store_text("a", 1), store_blob(bytes, sizeof bytes)};
    uint64_t begun = now_ms();
    CU_ASSERT_EQUAL(store_run(s, "INSERT INTO things (name, bytes) VALUES ($1, $2)", v, 2, NULL, NULL), STORE_AWAY);
    CU_ASSERT(now_ms() - begun < STORE_PATIENCE_MS + LATE_MS);
    postgres_freeze(&server, false);
    CU_ASSERT_EQUAL(store_reconnect(s), STORE_OK);
    CU_ASSERT_EQUAL(store_run(s, "INSERT INTO things (name, bytes) VALUES ($1, $2)", v, 2, NULL, NULL), STORE_OK);
    store_close(s);
    scratch_end();
}

static void postgres_refuses(void)
{
    char database[64];
    char sql[256];
    postgres_begin();
    snprintf(database, sizeof database, "%s", strrchr(url, '/') + 1);
    store *s = must_open();
    snprintf(sql, sizeof sql, "ALTER DATABASE %s SET default_transaction_read_only = on", database);
    CU_ASSERT_TRUE(postgres_sql(&server, database, sql));
    CU_ASSERT_TRUE(postgres_sql(
        &server, database, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pep'"));
    CU_ASSERT_EQUAL(put(s, "a", 1), STORE_AWAY);
    CU_ASSERT_EQUAL(store_reconnect(s), STORE_OK);
    CU_ASSERT_EQUAL(store_begin(s), STORE_OK);
    CU_ASSERT_EQUAL(put(s, "a", 1), STORE_FULL);
    printf("\n      %s ", store_why(s));
    store_rollback(s);
    CU_ASSERT_EQUAL(count(s), 0);
    store_value broken = store_text("\xff\xfe", 2);
    CU_ASSERT_EQUAL(store_run(s, "SELECT number FROM things WHERE name = $1", &broken, 1, NULL, NULL), STORE_FAILED);
    store_close(s);
    snprintf(sql, sizeof sql, "postgresql://pep:sesame@127.0.0.1:%d/%s", server.port, database);
    snprintf(url, sizeof url, "%s", sql);
    CU_ASSERT_PTR_NULL(try_open(1)); /* the wrong password, which try_open does not find in the line */
    CU_ASSERT_EQUAL(opened, STORE_AWAY);
    CU_ASSERT_PTR_NOT_NULL(strstr(line.text, "check the user and the password"));
    snprintf(url, sizeof url, "postgresql://pep@127.0.0.1:%d/%s?passfile=/nowhere", server.port, database);
    CU_ASSERT_PTR_NULL(try_open(1)); /* none at all */
    CU_ASSERT_PTR_NOT_NULL(strstr(line.text, "check the user and the password"));
    postgres_url(url, &server, "nowhere");
    CU_ASSERT_PTR_NULL(try_open(1));
    CU_ASSERT_PTR_NULL(strstr(line.text, "check the user"));
    scratch_end();
}

/* On a server that does not wait for its disk by default, ours do. A stranger's name for the application stays. */
static void postgres_settings(void)
{
    char database[64];
    char sql[256];
    char said[32] = "";
    postgres_begin();
    snprintf(database, sizeof database, "%s", strrchr(url, '/') + 1);
    snprintf(sql, sizeof sql, "ALTER DATABASE %s SET synchronous_commit = off", database);
    CU_ASSERT_TRUE(postgres_sql(&server, database, sql));
    store *s = must_open();
    CU_ASSERT_EQUAL(store_run(s, "SELECT current_setting('synchronous_commit')", NULL, 0, keep_text, said), STORE_OK);
    CU_ASSERT_STRING_EQUAL(said, "on");
    CU_ASSERT_EQUAL(store_run(s, "SELECT current_setting('application_name')", NULL, 0, keep_text, said), STORE_OK);
    CU_ASSERT_STRING_EQUAL(said, "pep");
    CU_ASSERT_EQUAL(store_run(s, "SELECT current_setting('tcp_user_timeout')", NULL, 0, keep_text, said), STORE_OK);
    store_close(s);
    postgres_socket_url(url, &server, database);
    store_close(must_open());
    scratch_end();
}

#define BOTH(test)                                                                                                     \
    static void test##_sqlite(void)                                                                                    \
    {                                                                                                                  \
        on(false, test);                                                                                               \
    }                                                                                                                  \
    static void test##_postgres(void)                                                                                  \
    {                                                                                                                  \
        on(true, test);                                                                                                \
    }

BOTH(values)
BOTH(parameters)
BOTH(a_null_first)
BOTH(transactions)
BOTH(conflicts)
BOTH(marks_nest)
BOTH(failed_without_mark)
BOTH(many_rows)
BOTH(returning)
BOTH(migrations)
BOTH(opened_at_once)
BOTH(locked)

#define ROWS(name, test)                                                                                               \
    {"sqlite: " name, test##_sqlite},                                                                                  \
    {                                                                                                                  \
        "postgresql: " name, test##_postgres                                                                           \
    }

static const unit_test tests[] = {
    {"urls", urls},
    ROWS("values come back as they were", values),
    ROWS("parameters go by their numbers", parameters),
    ROWS("a NULL first, then another type", a_null_first),
    ROWS("transactions, also half done ones", transactions),
    ROWS("a conflict undoes what is marked", conflicts),
    ROWS("marks within marks", marks_nest),
    ROWS("a failure without a mark", failed_without_mark),
    ROWS("many rows", many_rows),
    ROWS("update returning", returning),
    ROWS("migrations are all or nothing", migrations),
    ROWS("opened by several at once", opened_at_once),
    ROWS("a lock of another", locked),
    {"sqlite: settings and modes", sqlite_settings},
    {"sqlite: paths that are refused", sqlite_paths},
    {"sqlite: a damaged file", sqlite_damaged},
    {"sqlite: a truncated file", sqlite_truncated},
    {"sqlite: damaged while it is open", sqlite_damaged_later},
    {"sqlite: locked by another process", sqlite_locked_by_another},
    {"sqlite: permissions", sqlite_permissions},
    {"sqlite: no more room in the file", sqlite_full},
    {"sqlite: no more room on the disk", sqlite_full_disk},
    {"postgresql: wakes others", postgres_notifies},
    {"postgresql: stopped and started", postgres_restarted},
    {"postgresql: frozen", postgres_frozen},
    {"postgresql: frozen while it is sent much", postgres_frozen_while_sending},
    {"postgresql: refuses", postgres_refuses},
    {"postgresql: settings", postgres_settings},
};

int main(void)
{
    if (!postgres_start(&server)) {
        printf("%s\n", server.why);
        return 1;
    }
    int code = unit_main("store", tests, sizeof tests / sizeof tests[0]);
    postgres_end(&server);
    return code;
}
