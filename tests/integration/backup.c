/*
 * pep backup and pep restore, as an operator calls them, on real stores and real files.
 * Promise: what was backed up comes back whole; what was taken away since does not; and where anything is wrong, one
 * line says so and nothing was changed.
 */
#include <stdarg.h>
#include <time.h>

#include "directory/tables.h"
#include "pep.h"
#include "tests/postgres.h"
#include "tests/unit/scratch.h"
#include "tests/unit/unit.h"

#define LATER 4102444800 /* the year 2100 */

static char out[1 << 14], err[1 << 14];

/* ---- the tool ---- */

static bool changes_user; /* the tool, in this test */

static void take(const char *name, char *to, size_t cap)
{
    to[read_file((uint8_t *)to, cap - 1, scratch_path(name))] = '\0';
}

static _Noreturn void become_tool(char *words)
{
    char *argv[40] = {(char[]){PEP_TOOL}};
    size_t n = 1;
    for (char *rest = words, *word; n < 39 && (word = strsep(&rest, " ")) != NULL; n++)
        argv[n] = word;
    if (changes_user)
        setenv("ASAN_OPTIONS", "detect_leaks=0", 1); /* it cannot look at who changes users */
    if (chdir(scratch_folder) == 0 && freopen("out", "w", stdout) != NULL && freopen("err", "w", stderr) != NULL)
        execv(PEP_TOOL, argv);
    _exit(127);
}

/* Runs the tool in the folder with these words, one space between them; returns its exit code. */
__attribute__((format(printf, 1, 2))) static int pep(const char *format, ...)
{
    char words[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(words, sizeof(words), format, args);
    va_end(args);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0)
        become_tool(words);
    int status = -1;
    CU_ASSERT_EQUAL_FATAL(waitpid(child, &status, 0), child);
    take("out", out, sizeof(out));
    take("err", err, sizeof(err));
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static bool says(const char *where, const char *text)
{
    bool found = strstr(where, text) != NULL;
    if (!found)
        printf("\n    no '%s' in: %s%s", text, out, err);
    return found;
}

/* The exit code, and one line that holds `text`. */
static bool fails(int code, int expected, const char *text)
{
    const char *newline = strchr(err, '\n');
    bool right = code == expected && newline != NULL && newline[1] == '\0';
    if (!right)
        printf("\n    exit code %d, not %d, or not one line: %s", code, expected, err);
    return says(err, text) && right;
}

/* ---- a broker's folder ---- */

/* Of a folder's SQLite file, or by its URL. */
static store *open_store(const char *folder)
{
    char url[600];
    store_error error;
    store_result result;
    if (strncmp(folder, "postgresql:", 11) == 0)
        snprintf(url, sizeof(url), "%s", folder);
    else
        snprintf(url, sizeof(url), "sqlite:%s/%s/directory.db", scratch_folder, folder);
    store *s = store_open(&result, &error, url, directory_migrations, DIRECTORY_MIGRATIONS);
    if (s == NULL)
        printf("\n    %s", error.text);
    CU_ASSERT_PTR_NOT_NULL_FATAL(s);
    return s;
}

static const char *in(const char *folder, const char *name)
{
    char path[300];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    return scratch_path(path);
}

static pep_replay *open_replay(const char *folder)
{
    pep_error error;
    pep_replay *replay = NULL;
    CU_ASSERT_EQUAL_FATAL(pep_replay_open(&replay, &error, in(folder, "replay")), PEP_OK);
    return replay;
}

static void make_gate_key(const char *folder)
{
    pep_error error;
    pep_device device;
    uint8_t record[PEP_RECORD_BYTES_MAX];
    size_t n;
    CU_ASSERT_EQUAL(pep_device_new(&device, "gate"), PEP_OK);
    CU_ASSERT_EQUAL(pep_record_sign(record, &n, &device, 1000, LATER), PEP_OK);
    CU_ASSERT_EQUAL(pep_device_save(&error, in(folder, "gate.key"), &device), PEP_OK);
    CU_ASSERT_EQUAL(pep_record_save(&error, in(folder, "gate.pub"), record, n), PEP_OK);
}

static void make_folder(const char *folder)
{
    CU_ASSERT_EQUAL_FATAL(mkdir(scratch_path(folder), 0700), 0);
}

/* With all that a broker makes there when it first starts. */
static void make_broker(const char *folder)
{
    make_folder(folder);
    make_gate_key(folder);
    pep_replay_close(open_replay(folder));
    store_close(open_store(folder));
}

static void begin(void)
{
    scratch_begin();
    make_broker("a");
}

/* ---- what stands in a store ---- */

static const store_value *row_of(const char *types, va_list args)
{
    static store_value row[16];
    static char texts[16][80];
    for (size_t i = 0; types[i] != '\0'; i++)
        if (types[i] == 'i') {
            row[i] = store_int(va_arg(args, int64_t));
        } else if (types[i] == 'n') {
            row[i] = store_null();
        } else {
            snprintf(texts[i], sizeof(texts[i]), "%s", va_arg(args, const char *));
            row[i] = types[i] == 't' ? store_text(texts[i], strlen(texts[i])) : store_blob(texts[i], strlen(texts[i]));
        }
    return row;
}

/* types: i int64_t, t text, b bytes (a string), n NULL. */
static void run_sql(store *s, const char *sql, const char *types, ...)
{
    va_list args;
    va_start(args, types);
    const store_value *row = row_of(types, args);
    va_end(args);
    store_result result = store_run(s, sql, row, strlen(types), NULL, NULL);
    if (result != STORE_OK)
        printf("\n    %s: %s", sql, store_why(s));
    CU_ASSERT_EQUAL(result, STORE_OK);
}

#define INSERT_STATEMENT                                                                                               \
    "INSERT INTO statements (id, position, version, hash, kind, bytes, certificate)"                                   \
    " VALUES ($1, $2, $3, $4, $5, $6, $7)"
#define INSERT_KEY                                                                                                     \
    "INSERT INTO keys (kid, id, sign_public, position, state, not_after, ended, cutoff, member_of, head, provisioned," \
    " change) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"

/*
 * The next step of a device's history, with a new signing key `kid` (NULL: the end of the one there is). `branch` tells
 * histories apart.
 */
static void step(const char *folder, const char *id, int64_t position, const char *kid, const char *branch)
{
    char hash[PEP_SHA256_BYTES + 1];
    char agree[64];
    store *s = open_store(folder);
    snprintf(hash, sizeof(hash), "%-10.10s%20lld%-2.2s", id, (long long)position, branch);
    run_sql(s, "UPDATE meta SET number = number + 1 WHERE name = 'change'", "");
    if (position == 1)
        run_sql(s, "UPDATE meta SET number = number + 1 WHERE name = 'ids'", "");
    run_sql(s, INSERT_STATEMENT, "tiibibn", id, position, position, hash, (int64_t)(kid == NULL ? 3 : 2), branch);
    run_sql(s,
            kid == NULL ? "UPDATE keys SET state = 2, ended = 7 WHERE id = $1 AND head = 1"
                        : "UPDATE keys SET state = 1, ended = 7, head = 0 WHERE id = $1 AND head = 1",
            "t", id);
    if (kid != NULL) {
        run_sql(s, INSERT_KEY, "btbiiiiiniii", kid, id, "public", position, (int64_t)0, (int64_t)LATER, (int64_t)0,
                (int64_t)0, (int64_t)1, (int64_t)0, position);
        snprintf(agree, sizeof(agree), "agree %s", kid);
        run_sql(s, "INSERT INTO agree_keys (kid, id) VALUES ($1, $2)", "bt", agree, id);
    }
    store_close(s);
}

static void enroll(const char *folder, const char *id)
{
    char kid[80];
    snprintf(kid, sizeof(kid), "%s 1", id);
    step(folder, id, 1, kid, "m");
}

static void sql(const char *folder, const char *text)
{
    store *s = open_store(folder);
    run_sql(s, text, "");
    store_close(s);
}

static bool take_number(void *ctx, const store_value *columns, size_t n)
{
    *(int64_t *)ctx = n == 1 ? columns[0].number : -1;
    return false;
}

static int64_t number(const char *folder, const char *text)
{
    int64_t value = -1;
    store *s = open_store(folder);
    CU_ASSERT_EQUAL(store_run(s, text, NULL, 0, take_number, &value), STORE_OK);
    store_close(s);
    return value;
}

static bool write_row(void *ctx, const store_value *columns, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (columns[i].type == STORE_INT)
            fprintf(ctx, "%lld|", (long long)columns[i].number);
        else
            fprintf(ctx, "%.*s|", (int)columns[i].n, columns[i].n > 0 ? (const char *)columns[i].p : "");
    fputc('\n', ctx);
    return true;
}

/* All that counts in the tables, as text. */
static char *dump(const char *folder)
{
    static const char *const selects[] = {
        "SELECT name, number FROM meta WHERE name = 'ids'",
        "SELECT id, position, version, hash, kind, bytes, certificate FROM statements ORDER BY id, position",
        "SELECT kid, id, position, state, not_after, ended, cutoff, member_of, head FROM keys ORDER BY kid",
        "SELECT kid, sign_public, provisioned FROM keys ORDER BY kid",
        "SELECT kid, id FROM agree_keys ORDER BY kid",
        "SELECT kid, id, expires, used FROM tokens ORDER BY kid",
        "SELECT kid, seq, expires FROM commands ORDER BY kid, seq",
        "SELECT gate, topic FROM published ORDER BY gate, topic",
    };
    char *text = NULL;
    size_t n;
    store *s = open_store(folder);
    FILE *to = open_memstream(&text, &n);
    for (size_t i = 0; i < sizeof(selects) / sizeof(selects[0]); i++)
        CU_ASSERT_EQUAL(store_run(s, selects[i], NULL, 0, write_row, to), STORE_OK);
    fclose(to);
    store_close(s);
    return text;
}

static bool same_tables(const char *a, const char *b)
{
    char *left = dump(a);
    char *right = dump(b);
    bool same = strcmp(left, right) == 0;
    if (!same)
        printf("\n%s--- and\n%s", left, right);
    free(left);
    free(right);
    return same;
}

static bool same_file(const char *a, const char *b)
{
    static uint8_t left[1 << 20];
    static uint8_t right[1 << 20];
    size_t n = read_file(left, sizeof(left), a);
    return n == read_file(right, sizeof(right), b) && memcmp(left, right, n) == 0;
}

static bool is_there(const char *name)
{
    return access(scratch_path(name), F_OK) == 0;
}

static unsigned count_entries(const char *folder)
{
    unsigned n = 0;
    DIR *dir = opendir(scratch_path(folder));
    if (dir == NULL) {
        CU_FAIL("the folder is gone");
        return 0;
    }
    while (readdir(dir) != NULL)
        n++;
    closedir(dir);
    return n - 2;
}

static void see(const char *folder, char key_byte, uint64_t seq)
{
    uint8_t key[PEP_KID_BYTES];
    size_t slot;
    memset(key, key_byte, sizeof(key));
    pep_replay *replay = open_replay(folder);
    CU_ASSERT_EQUAL(pep_replay_slot(replay, &slot, key), PEP_OK);
    pep_replay_commit(replay, slot, PEP_SEEN_MESSAGE, seq, NULL);
    pep_replay_close(replay);
}

static bool was_seen(const char *folder, char key_byte, uint64_t seq)
{
    uint8_t key[PEP_KID_BYTES];
    size_t slot;
    memset(key, key_byte, sizeof(key));
    pep_replay *replay = open_replay(folder);
    bool seen =
        pep_replay_find(replay, &slot, key) && pep_replay_check(replay, slot, PEP_SEEN_MESSAGE, seq) == PEP_REPLAYED;
    pep_replay_close(replay);
    return seen;
}

/* Something of everything. */
static void fill(const char *folder)
{
    enroll(folder, "alice");
    enroll(folder, "bob");
    step(folder, "bob", 2, "bob 2", "m");
    enroll(folder, "carol");
    step(folder, "carol", 2, NULL, "m");
    sql(folder, "INSERT INTO tokens VALUES (x'01', 'dave', 4102444800, NULL), (x'02', 'alice', 4102444800, x'aa')");
    sql(folder, "INSERT INTO commands VALUES (x'01', 5, 4102444800), (x'02', 6, 4102444800)");
    sql(folder, "INSERT INTO published VALUES (x'01', '$PEP/keys/alice'), (x'01', '$PEP/gate')");
    see(folder, 'x', 100);
    see(folder, 'y', 200);
}

/* ---- the tests ---- */

static void comes_back_whole(void)
{
    begin();
    fill("a");
    write_file(in("a", "gate.cert"), "certificate", 11, 0644);
    CU_ASSERT_EQUAL(pep("backup --state a saved"), 0);
    CU_ASSERT_TRUE(says(out, "3 devices") && says(out, "2 signers"));
    CU_ASSERT_EQUAL(mode_of_file(scratch_path("saved")), 0600);
    CU_ASSERT_EQUAL(scratch_count(), 4); /* a, saved, out, err */
    make_folder("b");
    CU_ASSERT_EQUAL(pep("restore --state b saved"), 0);
    CU_ASSERT_TRUE(says(out, "3 devices restored"));
    CU_ASSERT_TRUE(same_tables("a", "b"));
    CU_ASSERT_TRUE(same_file(in("a", "gate.key"), in("b", "gate.key")));
    CU_ASSERT_TRUE(same_file(in("a", "gate.pub"), in("b", "gate.pub")));
    CU_ASSERT_TRUE(same_file(in("a", "gate.cert"), in("b", "gate.cert")));
    CU_ASSERT_EQUAL(mode_of_file(in("b", "gate.key")), 0600);
    CU_ASSERT_EQUAL(mode_of_file(in("b", "directory.db")), 0600);
    CU_ASSERT_EQUAL(mode_of_file(in("b", "replay")), 0600);
    CU_ASSERT_EQUAL(count_entries("b"), 5);
    CU_ASSERT_TRUE(was_seen("b", 'x', 100) && was_seen("b", 'y', 200) && !was_seen("b", 'x', 101));
    CU_ASSERT_TRUE(number("b", "SELECT number FROM meta WHERE name = 'change'") >=
                   number("a", "SELECT number FROM meta WHERE name = 'change'"));
    CU_ASSERT_EQUAL(pep("restore --state b --json saved"), 0); /* again: nothing more */
    CU_ASSERT_STRING_EQUAL(out, "{\"restored\":0,\"same\":3,\"newer_here\":0,\"other_here\":0}\n");
    CU_ASSERT_TRUE(same_tables("a", "b"));
    scratch_end();
}

/* Revoked, replaced and used since the backup. */
static void what_was_taken_away(void)
{
    begin();
    fill("a");
    CU_ASSERT_EQUAL(pep("backup --state a saved"), 0);
    step("a", "alice", 2, NULL, "m");
    step("a", "bob", 3, "bob 3", "m");
    enroll("a", "new");
    sql("a", "UPDATE tokens SET used = x'bb' WHERE kid = x'01'");
    sql("a", "INSERT INTO commands VALUES (x'03', 7, 4102444800)");
    see("a", 'x', 300);
    make_folder("b"); /* as it is now */
    CU_ASSERT_EQUAL(pep("backup --state a now"), 0);
    CU_ASSERT_EQUAL(pep("restore --state b now"), 0);
    CU_ASSERT_EQUAL(pep("restore --state a saved"), 0);
    CU_ASSERT_TRUE(says(out, "0 devices restored; 1 are the same here, 2 are newer here"));
    CU_ASSERT_TRUE(same_tables("a", "b"));
    CU_ASSERT_TRUE(was_seen("a", 'x', 300) && was_seen("a", 'x', 100));
    CU_ASSERT_EQUAL(number("a", "SELECT count(*) FROM keys WHERE id = 'alice' AND state = 2"), 1);
    scratch_end();
}

/* And the other way: the backup has more than what is there. */
static void what_is_newer_in_it(void)
{
    begin();
    fill("a");
    make_folder("b");
    CU_ASSERT_EQUAL(pep("backup --state a first"), 0);
    CU_ASSERT_EQUAL(pep("restore --state b first"), 0);
    step("a", "alice", 2, NULL, "m");
    step("a", "bob", 3, "bob 3", "m");
    enroll("a", "new");
    sql("a", "UPDATE tokens SET used = x'bb' WHERE kid = x'01'");
    see("a", 'x', 300);
    see("b", 'x', 250);
    int64_t before = number("b", "SELECT number FROM meta WHERE name = 'change'");
    CU_ASSERT_EQUAL(pep("backup --state a second"), 0);
    CU_ASSERT_EQUAL(pep("restore --state b second"), 0);
    CU_ASSERT_TRUE(says(out, "3 devices restored; 1 are the same here"));
    CU_ASSERT_TRUE(same_tables("a", "b"));
    CU_ASSERT_TRUE(was_seen("b", 'x', 300) && was_seen("b", 'x', 250) && !was_seen("b", 'x', 251));
    char text[200]; /* others that share the store find all of it */
    snprintf(text, sizeof(text), "SELECT count(*) FROM keys WHERE change > %lld", (long long)before);
    CU_ASSERT_EQUAL(number("b", text), 5); /* alice's one, bob's three, new's one */
    scratch_end();
}

/* An id or a key that somebody else has here. */
static void other_histories(void)
{
    begin();
    fill("a");
    CU_ASSERT_EQUAL(pep("backup --state a saved"), 0);
    make_folder("b");
    make_gate_key("b");
    step("b", "alice", 1, "other 1", "o"); /* the same length */
    step("b", "bob", 1, "other 2", "o");   /* shorter */
    step("b", "eve", 1, "carol 1", "o");   /* carol's key */
    char *before = dump("b");
    CU_ASSERT_EQUAL(pep("restore --state b --replace-gate-key saved"), 0);
    CU_ASSERT_TRUE(says(out, "0 devices restored") && says(out, "and 3 have another history here"));
    CU_ASSERT_TRUE(says(err, "alice: ") && says(err, "bob: ") && says(err, "carol: "));
    sql("b", "DELETE FROM tokens");
    sql("b", "DELETE FROM commands");
    sql("b", "DELETE FROM published");
    char *after = dump("b");
    CU_ASSERT_STRING_EQUAL(before, after);
    free(before);
    free(after);
    scratch_end();
}

/* An open token comes back only where its id has no keys and no other token. */
static void tokens(void)
{
    begin();
    sql("a", "INSERT INTO tokens VALUES (x'01', 'open', 4102444800, NULL), (x'02', 'replaced', 4102444800, NULL),"
             " (x'03', 'enrolled', 4102444800, NULL), (x'04', 'late', 1000, NULL), (x'05', 'used', 4102444800, x'aa')");
    CU_ASSERT_EQUAL(pep("backup --state a saved"), 0);
    sql("a", "DELETE FROM tokens");
    sql("a", "INSERT INTO tokens VALUES (x'12', 'replaced', 4102444800, NULL)");
    enroll("a", "enrolled");
    CU_ASSERT_EQUAL(pep("restore --state a saved"), 0);
    CU_ASSERT_EQUAL(number("a", "SELECT count(*) FROM tokens"), 3);
    CU_ASSERT_EQUAL(number("a", "SELECT count(*) FROM tokens WHERE kid IN (x'01', x'12', x'05')"), 3);
    CU_ASSERT_EQUAL(number("a", "SELECT count(*) FROM tokens WHERE kid = x'05' AND used = x'aa'"), 1);
    scratch_end();
}

static void the_gates_key(void)
{
    begin();
    enroll("a", "alice");
    write_file(in("a", "gate.cert"), "certificate", 11, 0644);
    CU_ASSERT_EQUAL(pep("backup --state a saved"), 0);

    CU_ASSERT_EQUAL(unlink(in("a", "gate.cert")), 0); /* the same key: only what is missing comes */
    write_file(in("a", "gate.pub"), "newer", 5, 0644);
    CU_ASSERT_EQUAL(pep("restore --state a saved"), 0);
    CU_ASSERT_TRUE(is_there("a/gate.cert"));
    CU_ASSERT_TRUE(same_file(in("a", "gate.cert"), in("a", "gate.cert")));
    char text[16] = "";
    CU_ASSERT_EQUAL(read_file((uint8_t *)text, sizeof(text), in("a", "gate.pub")), 5);

    make_broker("b");
    write_file(in("b", "gate.cert"), "another", 7, 0644);
    CU_ASSERT_TRUE(fails(pep("restore --state b saved"), 1, "another gate key"));
    CU_ASSERT_FALSE(same_file(in("a", "gate.key"), in("b", "gate.key")));
    CU_ASSERT_EQUAL(number("b", "SELECT count(*) FROM statements"), 0);
    CU_ASSERT_EQUAL(count_entries("b"), 5);
    CU_ASSERT_EQUAL(pep("restore --state b --replace-gate-key saved"), 0);
    CU_ASSERT_TRUE(same_file(in("a", "gate.key"), in("b", "gate.key")));
    CU_ASSERT_TRUE(same_file(in("a", "gate.cert"), in("b", "gate.cert")));
    CU_ASSERT_FALSE(same_file(in("a", "gate.pub"), in("b", "gate.pub")));
    CU_ASSERT_EQUAL(count_entries("b"), 5);

    make_broker("c"); /* without a certificate in the backup, that of the other key goes */
    make_broker("d");
    write_file(in("c", "gate.cert"), "another", 7, 0644);
    CU_ASSERT_EQUAL(pep("backup --state d bare"), 0);
    CU_ASSERT_EQUAL(pep("restore --state c --replace-gate-key bare"), 0);
    CU_ASSERT_FALSE(is_there("c/gate.cert"));
    CU_ASSERT_TRUE(same_file(in("c", "gate.key"), in("d", "gate.key")));
    scratch_end();
}

static void a_running_broker(void)
{
    begin();
    fill("a");
    pep_replay *held = open_replay("a");
    CU_ASSERT_EQUAL(pep("backup --state a saved"), 0);
    CU_ASSERT_TRUE(fails(pep("restore --state a saved"), 1, "a broker is running"));
    pep_replay_close(held);
    CU_ASSERT_EQUAL(pep("restore --state a saved"), 0);
    scratch_end();
}

static bool is_root(void)
{
    return geteuid() == 0;
}

/* What root restores is the broker's. */
static void owners(void)
{
    struct stat st;
    static const char *const names[] = {"gate.key", "gate.pub", "directory.db", "replay"};
    if (!is_root())
        return;
    begin();
    changes_user = true;
    fill("a");
    CU_ASSERT_EQUAL(chmod(scratch_folder, 0711), 0);
    CU_ASSERT_EQUAL(pep("backup --state a saved"), 0);
    make_folder("b");
    CU_ASSERT_EQUAL(chown(scratch_path("b"), NOBODY, NOBODY), 0);
    CU_ASSERT_EQUAL(pep("restore --state b saved"), 0); /* which only root can read */
    CU_ASSERT_EQUAL(count_entries("b"), 4);
    for (size_t i = 0; i < 4; i++) {
        CU_ASSERT_EQUAL(stat(in("b", names[i]), &st), 0);
        CU_ASSERT_TRUE(st.st_uid == NOBODY && st.st_gid == NOBODY);
    }
    CU_ASSERT_EQUAL(pep("backup --state b again"), 0); /* and the backup is root's */
    CU_ASSERT_EQUAL(stat(scratch_path("again"), &st), 0);
    CU_ASSERT_EQUAL(st.st_uid, 0);
    CU_ASSERT_TRUE(same_tables("a", "b"));
    changes_user = false;
    scratch_end();
}

static void never_overwritten(void)
{
    begin();
    write_file(scratch_path("saved"), "mine", 4, 0644);
    CU_ASSERT_TRUE(fails(pep("backup --state a saved"), 1, "never overwritten"));
    char text[16] = "";
    CU_ASSERT_EQUAL(read_file((uint8_t *)text, sizeof(text), scratch_path("saved")), 4);
    CU_ASSERT_EQUAL(symlink("nowhere", scratch_path("link")), 0);
    CU_ASSERT_TRUE(fails(pep("backup --state a link"), 1, "never overwritten"));
    scratch_end();
}

static void nothing_to_back_up(void)
{
    begin();
    CU_ASSERT_TRUE(fails(pep("backup --state missing saved"), 3, "cannot reach the state folder missing"));
    CU_ASSERT_TRUE(fails(pep("backup --state a nowhere/saved"), 3, "cannot create nowhere/saved"));
    CU_ASSERT_TRUE(fails(pep("backup --state a --store mysql:x saved"), 2, "--store"));
    CU_ASSERT_TRUE(fails(pep("backup --state a"), 2, "FILE is missing"));
    make_folder("b");
    CU_ASSERT_TRUE(fails(pep("backup --state b saved"), 3, "directory.db"));
    CU_ASSERT_EQUAL(count_entries("b"), 0); /* it is not made */
    store_close(open_store("b"));
    CU_ASSERT_TRUE(fails(pep("backup --state b saved"), 3, "gate.key"));
    CU_ASSERT_FALSE(is_there("saved"));
    CU_ASSERT_EQUAL(scratch_count(), 4); /* a, b, out, err */
    scratch_end();
}

static void a_full_disk(void)
{
    begin();
    fill("a");
    CU_ASSERT_EQUAL(pep("backup --state a saved"), 0);
    limit_files(true, 30000);
    CU_ASSERT_EQUAL(pep("backup --state a other"), 3);
    CU_ASSERT_FALSE(is_there("other"));
    CU_ASSERT_EQUAL(scratch_count(), 4);
    make_folder("b");
    CU_ASSERT_EQUAL(pep("restore --state b saved"), 3);
    CU_ASSERT_EQUAL(count_entries("b"), 0);
    limit_files(false, 0);
    scratch_end();
}

/* The folder as it is, and what the tool makes of FILE. */
static bool refuses_unchanged(const char *name, const char *before)
{
    char *after = NULL;
    int code = pep("restore --state b %s", name);
    after = dump("b");
    bool unchanged = strcmp(before, after) == 0 && count_entries("b") == 4 && !was_seen("b", 'x', 100);
    if (code != 1 || !unchanged)
        printf("\n    %s: %d, %schanged: %s%s", name, code, unchanged ? "un" : "", out, err);
    free(after);
    return code == 1 && unchanged && fails(code, 1, "not a backup of pep's, or damaged");
}

static void foreign_files(void)
{
    begin();
    fill("a");
    make_broker("b");
    char *before = dump("b");
    write_file(scratch_path("empty"), "", 0, 0600);
    write_file(scratch_path("text"), "no database\n", 12, 0600);
    CU_ASSERT_TRUE(refuses_unchanged("empty", before));
    CU_ASSERT_TRUE(refuses_unchanged("text", before));
    CU_ASSERT_TRUE(refuses_unchanged("a/directory.db", before)); /* a directory, and no backup */
    CU_ASSERT_TRUE(refuses_unchanged("a/gate.key", before));
    CU_ASSERT_TRUE(fails(pep("restore --state b missing"), 3, "cannot read missing"));
    CU_ASSERT_EQUAL(pep("backup --state a saved"), 0);
    CU_ASSERT_TRUE(fails(pep("restore --state missing saved"), 3, "cannot reach the state folder missing"));
    store_error error;
    store_result result;
    char url[400];
    snprintf(url, sizeof(url), "sqlite:%s", scratch_path("saved"));
    store *s = store_open(&result, &error, url, directory_migrations, DIRECTORY_MIGRATIONS);
    CU_ASSERT_PTR_NOT_NULL_FATAL(s);
    run_sql(s, "UPDATE pep_schema SET version = version + 1", "");
    store_close(s);
    CU_ASSERT_TRUE(fails(pep("restore --state b saved"), 1, "made by a later version"));
    free(before);
    scratch_end();
}

typedef struct {
    uint8_t bytes[1 << 20];
    size_t n;
    unsigned tries, refused;
    bool sound; /* until now */
} saved_file;

/* With this byte flipped: it is found, or was of no importance and everything comes back. */
static void try_flipped(saved_file *f, size_t at)
{
    f->bytes[at] ^= 0x10;
    write_file(scratch_path("bad"), f->bytes, f->n, 0600);
    f->bytes[at] ^= 0x10;
    make_folder("b");
    int code = pep("restore --state b bad");
    bool sound = code == 0 ? same_tables("a", "b") : count_entries("b") == 0 && strchr(err, '\n')[1] == '\0';
    if (!sound)
        printf("\n    byte %zu: %d, %s", at, code, err);
    CU_ASSERT_EQUAL(nftw(scratch_path("b"), scratch_remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
    f->tries++;
    f->refused += code != 0;
    f->sound = f->sound && sound;
}

static void save_a(saved_file *f)
{
    *f = (saved_file){.sound = true};
    CU_ASSERT_EQUAL(pep("backup --state a saved"), 0);
    f->n = read_file(f->bytes, sizeof(f->bytes), scratch_path("saved"));
}

/* Wherever an id stands: also in the indexes, by which a device's rows are found. */
static void damaged_indexes(void)
{
    static saved_file f;
    begin();
    fill("a");
    save_a(&f);
    for (size_t i = 0; i + 5 < f.n && f.sound; i++)
        if (memcmp(f.bytes + i, "alice", 5) == 0 || memcmp(f.bytes + i, "carol", 5) == 0)
            try_flipped(&f, i);
    CU_ASSERT_TRUE(f.sound);
    CU_ASSERT_TRUE(f.tries > 10 && f.refused > 10);
    scratch_end();
}

static void damaged(void)
{
    static saved_file f;
    begin();
    fill("a");
    save_a(&f);
    const uint8_t *bytes = f.bytes;
    size_t n = f.n;
    for (size_t i = 0; i < n && f.sound; i += 397)
        try_flipped(&f, i);
    CU_ASSERT_TRUE(f.sound);
    CU_ASSERT_TRUE(f.refused > 10 && f.refused <= f.tries);
    make_folder("b");
    for (size_t cut = 0; cut < n; cut += n / 16) {
        write_file(scratch_path("bad"), bytes, cut, 0600);
        CU_ASSERT_TRUE(fails(pep("restore --state b bad"), 1, "not a backup of pep's, or damaged"));
        CU_ASSERT_EQUAL(count_entries("b"), 0);
    }
    scratch_end();
}

/* Rows that pep never writes, with the right sum: what follows them is not left out. */
static void foreign_rows(void)
{
    char id[PEP_ID_MAX + 2];
    begin();
    memset(id, 'b', sizeof(id) - 1);
    id[sizeof(id) - 1] = '\0';
    enroll("a", "alice");
    enroll("a", id);
    enroll("a", "carol");
    CU_ASSERT_EQUAL(pep("backup --state a saved"), 0);
    make_broker("b");
    char *before = dump("b");
    CU_ASSERT_TRUE(fails(pep("restore --replace-gate-key --state b saved"), 1, "not a backup of pep's, or damaged"));
    char *after = dump("b");
    CU_ASSERT_STRING_EQUAL(before, after);
    free(before);
    free(after);
    scratch_end();
}

/* A FIFO into which nobody writes would be waited for, without end. */
static void no_ordinary_file(void)
{
    begin();
    CU_ASSERT_EQUAL(mkfifo(scratch_path("fifo"), 0600), 0);
    CU_ASSERT_TRUE(fails(pep("restore --state a fifo"), 3, "cannot read fifo: it is no ordinary file"));
    CU_ASSERT_TRUE(fails(pep("restore --state a a"), 3, "cannot read a: it is no ordinary file"));
    scratch_end();
}

/* In one transaction each, as many of the one as of the other. */
static int write_on(int report)
{
    store *s = open_store("a");
    for (int64_t i = 1;; i++) {
        while (store_begin(s) == STORE_AWAY)
            continue;
        store_value row[] = {store_blob(&i, sizeof(i)), store_int(i), store_int(LATER)};
        if (store_run(s, "INSERT INTO commands VALUES ($1, $2, $3)", row, 3, NULL, NULL) != STORE_OK ||
            store_run(s, "INSERT INTO published VALUES ($1, 'topic')", row, 1, NULL, NULL) != STORE_OK ||
            store_commit(s) != STORE_OK)
            return 1;
        uint64_t done = (uint64_t)i;
        if (write(report, &done, sizeof(done)) != sizeof(done))
            return 0;
    }
}

/* A broker that writes meanwhile: the backup is of one moment. */
static void one_moment(void)
{
    begin();
    int reports;
    signal(SIGPIPE, SIG_IGN);
    pid_t child = start_child(&reports, write_on);
    for (int i = 0; i < 5; i++) {
        uint64_t done = 0;
        char name[16];
        snprintf(name, sizeof(name), "saved%d", i);
        CU_ASSERT_TRUE(next_report(reports, &done));
        int code = pep("backup --state a %s", name);
        if (code != 0)
            printf("\n    %d: %s", code, err);
        CU_ASSERT_EQUAL_FATAL(code, 0);
        make_folder("b");
        CU_ASSERT_EQUAL(pep("restore --state b %s", name), 0);
        int64_t commands = number("b", "SELECT count(*) FROM commands");
        CU_ASSERT_TRUE(commands >= (int64_t)done);
        CU_ASSERT_EQUAL(commands, number("b", "SELECT count(*) FROM published"));
        CU_ASSERT_EQUAL(nftw(scratch_path("b"), scratch_remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
    }
    kill(child, SIGKILL);
    (void)end_child(child, reports);
    scratch_end();
}

/* From and to either kind of store. */
static void postgresql(void)
{
    postgres_server server;
    char url[POSTGRES_URL_MAX];
    begin();
    fill("a");
    if (!postgres_start(&server)) {
        CU_FAIL(server.why);
        scratch_end();
        return;
    }
    postgres_url(url, &server, "postgres");
    make_folder("b");
    make_folder("c");
    CU_ASSERT_EQUAL(pep("backup --state a saved"), 0);
    CU_ASSERT_EQUAL(pep("restore --state b --store %s saved", url), 0);
    CU_ASSERT_TRUE(same_tables("a", url));
    CU_ASSERT_FALSE(is_there("b/directory.db"));
    step(url, "alice", 2, "alice 2", "m");
    step("a", "alice", 2, "alice 2", "m");
    step(url, "bob", 3, NULL, "m");
    step("a", "bob", 3, NULL, "m");
    CU_ASSERT_EQUAL(pep("restore --state b --store %s saved", url), 0);
    CU_ASSERT_TRUE(says(out, "0 devices restored; 1 are the same here, 2 are newer here"));
    CU_ASSERT_TRUE(same_tables("a", url));
    CU_ASSERT_EQUAL(pep("backup --state b --store %s again", url), 0);
    CU_ASSERT_EQUAL(pep("restore --state c again"), 0);
    CU_ASSERT_TRUE(same_tables("a", "c"));
    step("c", "alice", 3, NULL, "m");
    step("c", "eve", 1, "eve 1", "m");
    step(url, "mallory", 1, "eve 1", "o"); /* a key that is another's there: all else comes */
    CU_ASSERT_EQUAL(pep("backup --state c third"), 0);
    CU_ASSERT_EQUAL(pep("restore --state b --store %s third", url), 0);
    CU_ASSERT_TRUE(says(out, "1 devices restored; 2 are the same here") && says(err, "eve: "));
    CU_ASSERT_EQUAL(number(url, "SELECT state FROM keys WHERE id = 'alice' AND head = 1"), 2);
    postgres_stop(&server, SIGINT);
    CU_ASSERT_TRUE(fails(pep("restore --state b --store %s third", url), 3, "cannot open the store"));
    CU_ASSERT_TRUE(fails(pep("backup --state b --store %s fourth", url), 3, "cannot read the store"));
    CU_ASSERT_PTR_NULL(strstr(err, POSTGRES_PASSWORD));
    postgres_end(&server);
    scratch_end();
}

/* The files have changed by then: they change back. */
static void commit_fails(void)
{
    postgres_server server;
    char url[POSTGRES_URL_MAX];
    begin();
    fill("a");
    make_broker("b");
    if (!postgres_start(&server)) {
        CU_FAIL(server.why);
        scratch_end();
        return;
    }
    postgres_url(url, &server, "postgres");
    store_close(open_store(url));
    CU_ASSERT_TRUE(
        postgres_sql(&server, "postgres",
                     "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$;"
                     "CREATE CONSTRAINT TRIGGER no AFTER INSERT ON statements DEFERRABLE INITIALLY DEFERRED"
                     " FOR EACH ROW EXECUTE FUNCTION no()"));
    CU_ASSERT_EQUAL(pep("backup --state a saved"), 0);
    make_folder("c"); /* as it is */
    CU_ASSERT_EQUAL(pep("backup --state b now"), 0);
    CU_ASSERT_EQUAL(pep("restore --state c now"), 0);
    write_file(in("b", "gate.cert"), "another", 7, 0644);
    CU_ASSERT_TRUE(fails(pep("restore --state b --store %s --replace-gate-key saved", url), 3, "no"));
    CU_ASSERT_TRUE(same_file(in("b", "gate.key"), in("c", "gate.key")));
    CU_ASSERT_TRUE(same_file(in("b", "gate.pub"), in("c", "gate.pub")));
    CU_ASSERT_TRUE(is_there("b/gate.cert"));
    CU_ASSERT_FALSE(was_seen("b", 'x', 100));
    CU_ASSERT_EQUAL(count_entries("b"), 5);
    make_folder("d"); /* and what was not there is not there */
    CU_ASSERT_TRUE(fails(pep("restore --state d --store %s saved", url), 3, "no"));
    CU_ASSERT_EQUAL(count_entries("d"), 0);
    CU_ASSERT_EQUAL(number(url, "SELECT count(*) FROM statements"), 0);
    postgres_end(&server);
    scratch_end();
}

/* ---- all or nothing ---- */

/* A folder with another gate key, an own replay state and one device. */
static void make_other(const char *folder)
{
    make_broker(folder);
    write_file(in(folder, "gate.cert"), "another", 7, 0644);
    enroll(folder, "erin");
    see(folder, 'z', 9);
}

/* `folder` is as make_other left it in "o". */
static bool is_untouched(const char *folder)
{
    return same_tables("o", folder) && same_file(in("o", "gate.key"), in(folder, "gate.key")) &&
           same_file(in("o", "gate.pub"), in(folder, "gate.pub")) &&
           same_file(in("o", "gate.cert"), in(folder, "gate.cert")) &&
           same_file(in("o", "replay"), in(folder, "replay")) && count_entries(folder) == 5;
}

static bool is_restored(const char *folder)
{
    return number(folder, "SELECT count(*) FROM statements WHERE id <> 'erin'") == 5 &&
           same_file(in("a", "gate.key"), in(folder, "gate.key")) && was_seen(folder, 'x', 100) &&
           was_seen(folder, 'z', 9) && count_entries(folder) == 5;
}

static void copy_folder(const char *to)
{
    char command[700];
    snprintf(command, sizeof(command), "cp -a %s/o %s/%s", scratch_folder, scratch_folder, to);
    CU_ASSERT_EQUAL_FATAL(system(command), 0); /* NOLINT(cert-env33-c): words of this test's own */
}

static void remove_folder(const char *name)
{
    CU_ASSERT_EQUAL(nftw(scratch_path(name), scratch_remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
}

/* A disk that is full sooner or later: before, while, or behind what changes the files. */
static void full_at_any_moment(void)
{
    begin();
    fill("a");
    write_file(in("a", "gate.cert"), "certificate", 11, 0644);
    make_other("o");
    CU_ASSERT_EQUAL(pep("backup --state a saved"), 0);
    int failed = 0;
    int worked = 0;
    for (rlim_t limit = 2000; limit < 300000 && worked < 3; limit += 3000) {
        copy_folder("b");
        limit_files(true, limit);
        int code = pep("restore --state b --replace-gate-key saved");
        limit_files(false, 0);
        CU_ASSERT_TRUE(code == 0 ? is_restored("b") : is_untouched("b"));
        *(code == 0 ? &worked : &failed) += 1;
        remove_folder("b");
    }
    CU_ASSERT_TRUE(failed > 10 && worked == 3);
    scratch_end();
}

static void killed_at_any_moment(void)
{
    begin();
    fill("a");
    write_file(in("a", "gate.cert"), "certificate", 11, 0644);
    make_other("o");
    CU_ASSERT_EQUAL(pep("backup --state a saved"), 0);
    for (long us = 100; us < 40000; us += 700) {
        copy_folder("b");
        char words[] = "restore --state b --replace-gate-key saved";
        fflush(NULL);
        pid_t child = fork();
        if (child == 0)
            become_tool(words);
        nanosleep(&(struct timespec){0, us * 1000}, NULL); /* not to wait for anything: to strike somewhere */
        kill(child, SIGKILL);
        CU_ASSERT_EQUAL(waitpid(child, NULL, 0), child);
        int64_t count = number("b", "SELECT count(*) FROM statements"); /* all of it, or none */
        CU_ASSERT_TRUE(count == 1 || count == 6);
        CU_ASSERT_TRUE(was_seen("b", 'z', 9));
        CU_ASSERT_EQUAL(pep("restore --state b --replace-gate-key saved"), 0);
        CU_ASSERT_TRUE(is_restored("b"));
        remove_folder("b");
    }
    scratch_end();
}

static const unit_test TESTS[] = {
    {"comes back whole", comes_back_whole},
    {"what was taken away since stays away", what_was_taken_away},
    {"what is newer in the backup", what_is_newer_in_it},
    {"other histories", other_histories},
    {"tokens", tokens},
    {"the gate's key", the_gates_key},
    {"a running broker", a_running_broker},
    {"owners", owners},
    {"never overwritten", never_overwritten},
    {"nothing to back up", nothing_to_back_up},
    {"a full disk", a_full_disk},
    {"foreign files", foreign_files},
    {"damaged", damaged},
    {"damaged indexes", damaged_indexes},
    {"foreign rows", foreign_rows},
    {"no ordinary file", no_ordinary_file},
    {"one moment", one_moment},
    {"PostgreSQL", postgresql},
    {"a commit that fails", commit_fails},
    {"a disk that is full at any moment", full_at_any_moment},
    {"killed at any moment", killed_at_any_moment},
};
UNIT_MAIN("backup", TESTS)
