/*
 * pep restore: merges a backup into what a broker's directory and gate hold, while the broker does not run.
 *
 * An old backup must not bring back what was taken away since: keys that were replaced or revoked, tokens that were
 * used, seqs that were seen. So of each device the longer history stays, and everything else is united.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/archive.h"
#include "client/commands.h"
#include "client/io.h"

#define TEMPORARY    "restore.db"
#define FRESH        ".restore" /* what will take a file's name */
#define BEFORE       ".before"  /* what had it, until all is done */
#define CONTENT_MAX  ((size_t)64 * 1024)
#define WARNINGS_MAX 10
#define CHANGES      4
#define DAMAGED      "not a backup of pep's, or damaged"

static struct {
    const char *state, *store, *file;
    bool replace_gate_key, json;
} args;

static const option options[] = {
    {OPTION_TEXT, 0, false, "state", &args.state, "DIR", "the broker's state folder (default: " PEP_STATE ")", 0, 0},
    {OPTION_TEXT, 0, false, "store", &args.store, "URL", "its store (default: sqlite:DIR/directory.db)", 0, 0},
    {OPTION_FLAG, 0, false, "replace-gate-key", &args.replace_gate_key, NULL,
     "take the backup's gate key where there is another", 0, 0},
    {OPTION_FLAG, 0, false, "json", &args.json, NULL, "print JSON", 0, 0},
    {OPTION_OPERAND, 0, true, NULL, &args.file, "FILE", "the backup", 0, 0},
    {0},
};

/* One file of the state folder: its new content lies beside it, or it goes. */
typedef struct {
    const char *name;
    bool removed, had, done;
} change;

typedef struct {
    state_folder folder;
    char url[PATH_MAX + 8];
    bool had_store, had_replay; /* before this */
    pep_replay *held;           /* the lock that a running broker has */
    store *from, *to;
    change changes[CHANGES];
    size_t change_count;
    store_result from_result, to_result; /* of what ran within another's rows */
    int64_t restored, same, newer, other;
} restore;

static int fail_file(const char *what)
{
    return fail(REFUSED, "%s: %s; nothing was changed", args.file, what);
}

static int fail_to(const restore *r)
{
    const char *why = store_why(r->to);
    return fail(OUT_OF_REACH, "cannot restore into the store: %s",
                why[0] != '\0' ? why : "a row in it is none of pep's");
}

/* ---- files, by their names in the state folder ---- */

static const char *path_of(const restore *r, const char *name, const char *ending)
{
    static char paths[2][PATH_MAX + 64];
    static unsigned next;
    char *path = paths[next++ % 2];
    (void)snprintf(path, sizeof(paths[0]), "%s/%s%s", r->folder.path, name, ending);
    return path;
}

static bool is_there(const restore *r, const char *name)
{
    struct stat st;
    return lstat(path_of(r, name, ""), &st) == 0;
}

/* A new file in the folder. -1 after a line. */
static int create(const restore *r, const char *name, const char *ending, mode_t mode)
{
    const char *path = path_of(r, name, ending);
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
    if (fd < 0)
        (void)fail(OUT_OF_REACH, "cannot create %s: %s", path, strerror(errno));
    return fd;
}

static bool write_all(int fd, const uint8_t *p, size_t n)
{
    while (n > 0) {
        ssize_t put = write(fd, p, n);
        if (put < 0 && errno != EINTR)
            return false;
        p += put > 0 ? put : 0;
        n -= put > 0 ? (size_t)put : 0;
    }
    return true;
}

/* Behind the last write: on the disk, and closed. */
static int finish_file(const restore *r, int fd, bool written)
{
    bool ok = written && fsync(fd) == 0;
    int error = errno;
    close(fd);
    return ok ? DONE : fail(OUT_OF_REACH, "cannot write in %s: %s", r->folder.path, strerror(error));
}

static void plan(restore *r, const char *name, bool removed)
{
    r->changes[r->change_count++] = (change){.name = name, .removed = removed};
}

static bool swap_in(const restore *r, change *c)
{
    (void)unlink(path_of(r, c->name, BEFORE));
    c->had = link(path_of(r, c->name, ""), path_of(r, c->name, BEFORE)) == 0;
    if (!c->had && errno != ENOENT)
        return false;
    c->done = c->removed ? unlink(path_of(r, c->name, "")) == 0
                         : rename(path_of(r, c->name, FRESH), path_of(r, c->name, "")) == 0;
    return c->done;
}

static int swap_all(restore *r)
{
    for (size_t i = 0; i < r->change_count; i++)
        if (!swap_in(r, &r->changes[i]))
            return fail(OUT_OF_REACH, "cannot replace %s: %s", path_of(r, r->changes[i].name, ""), strerror(errno));
    return DONE;
}

static void swap_back(restore *r)
{
    for (size_t i = r->change_count; i-- > 0;) {
        const change *c = &r->changes[i];
        if (c->done && c->had)
            (void)rename(path_of(r, c->name, BEFORE), path_of(r, c->name, ""));
        else if (c->done)
            (void)unlink(path_of(r, c->name, ""));
    }
}

static void sync_folder(const restore *r)
{
    int fd = open(r->folder.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return;
    (void)fsync(fd);
    close(fd);
}

static void remove_temporaries(const restore *r)
{
    static const char *const names[] = {"replay", "gate.key", "gate.pub", "gate.cert"};
    static const char *const endings[] = {"", "-wal", "-shm"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        (void)unlink(path_of(r, names[i], FRESH));
        (void)unlink(path_of(r, names[i], BEFORE));
    }
    (void)unlink(path_of(r, "replay", FRESH BEFORE));
    for (size_t i = 0; i < sizeof(endings) / sizeof(endings[0]); i++)
        (void)unlink(path_of(r, TEMPORARY, endings[i]));
}

/* ---- the backup ---- */

static bool copy_bytes(int to, int from)
{
    static uint8_t part[1 << 16];
    ssize_t got;
    while ((got = read(from, part, sizeof(part))) > 0)
        if (!write_all(to, part, (size_t)got))
            return false;
    return got == 0;
}

/* A copy: opening a database writes to it, and brings an older one up to this version. */
static int copy_backup(const restore *r, int backup)
{
    int fd = create(r, TEMPORARY, "", 0600);
    return fd < 0 ? OUT_OF_REACH : finish_file(r, fd, copy_bytes(fd, backup));
}

typedef struct {
    buffer content;
    bool found;
} stored_file;

static bool take_content(void *ctx, const store_value *columns, size_t n)
{
    stored_file *f = ctx;
    if (n != 1 || columns[0].type != STORE_BLOB || columns[0].n > CONTENT_MAX ||
        !buffer_reserve(&f->content, columns[0].n))
        return false;
    memcpy(f->content.p, columns[0].p, columns[0].n);
    f->content.n = columns[0].n;
    f->found = true;
    return false;
}

/* False where the backup has no such file. */
static bool find_file(stored_file *out, const restore *r, const char *name)
{
    const store_value parameter = store_text(name, strlen(name));
    *out = (stored_file){.found = false};
    return store_run(r->from, "SELECT content FROM files WHERE name = $1", &parameter, 1, take_content, out) ==
               STORE_OK &&
           out->found;
}

static bool take_ok(void *ctx, const store_value *columns, size_t n)
{
    *(bool *)ctx = n == 1 && columns[0].type == STORE_TEXT && columns[0].n == 2 && memcmp(columns[0].p, "ok", 2) == 0;
    return false;
}

/* The sum is over what the tables have. That their indexes, by which devices are found, have the same is not in it. */
static bool is_consistent(const restore *r)
{
    bool ok = false;
    return store_run(r->from, "PRAGMA integrity_check(1)", NULL, 0, take_ok, &ok) == STORE_OK && ok;
}

static int check_sum(const restore *r)
{
    uint8_t sum[SUM_BYTES];
    stored_file stated;
    bool right = find_file(&stated, r, "sum") && stated.content.n == sizeof(sum) && is_consistent(r) &&
                 archive_sum(sum, r->from) == STORE_OK && memcmp(sum, stated.content.p, sizeof(sum)) == 0;
    buffer_free(&stated.content);
    return right ? DONE : fail_file(DAMAGED);
}

/* The copy of a large one is asked for each device's. */
static int add_index(const restore *r)
{
    store_result result = store_run(r->from, "CREATE INDEX agree_keys_by_id ON agree_keys (id)", NULL, 0, NULL, NULL);
    return result == STORE_OK ? DONE : fail(OUT_OF_REACH, "%s", store_why(r->from));
}

static int open_backup(restore *r, int backup)
{
    char url[PATH_MAX + 32];
    store_error error = {""};
    store_result result;
    int code = copy_backup(r, backup);
    if (code != DONE)
        return code;
    (void)snprintf(url, sizeof(url), "sqlite:%s", path_of(r, TEMPORARY, ""));
    r->from = store_open(&result, &error, url, directory_migrations, DIRECTORY_MIGRATIONS);
    if (r->from != NULL) {
        code = check_sum(r);
        return code == DONE ? add_index(r) : code;
    }
    if (result == STORE_NEWER)
        return fail_file("made by a later version of pep");
    return result == STORE_FULL || result == STORE_AWAY ? fail(OUT_OF_REACH, "%s", error.text) : fail_file(DAMAGED);
}

/* ---- the gate's key ---- */

static int write_fresh(const restore *r, const char *name, const buffer *content)
{
    int fd = create(r, name, FRESH, strcmp(name, "gate.key") == 0 ? 0600 : 0644);
    return fd < 0 ? OUT_OF_REACH : finish_file(r, fd, write_all(fd, content->p, content->n));
}

/* Lays the backup's file beside the one of the folder. */
static int lay(bool *found, const restore *r, const char *name)
{
    stored_file f;
    *found = find_file(&f, r, name);
    int code = *found ? write_fresh(r, name, &f.content) : DONE;
    buffer_free(&f.content);
    return code;
}

/* Which key the backup has, and that its record is that key's. */
static int read_fresh_key(uint8_t kid[PEP_KID_BYTES], const restore *r)
{
    static uint8_t bytes[PEP_STATEMENT_BYTES_MAX];
    size_t n;
    pep_error error;
    pep_device device;
    pep_statement statement;
    if (pep_device_load(&device, &error, path_of(r, "gate.key", FRESH)) != PEP_OK)
        return fail_file("the gate's key in it is none, or damaged");
    memcpy(kid, device.sign_kid, PEP_KID_BYTES);
    pep_device_wipe(&device);
    if (pep_statement_load(&statement, bytes, &n, &error, path_of(r, "gate.pub", FRESH)) != PEP_OK ||
        statement.kind == PEP_STATEMENT_REVOCATION || memcmp(statement.record.sign_kid, kid, PEP_KID_BYTES) != 0)
        return fail_file("the gate's record in it is not that of the key in it");
    return DONE;
}

/* Whether the folder's gate.key is the backup's. */
static int compare_keys(bool *same, const restore *r, const uint8_t kid[PEP_KID_BYTES])
{
    pep_error error = {""};
    pep_device device;
    char hex[HEX_KID_BYTES];
    *same = false;
    pep_reason reason = pep_device_load(&device, &error, path_of(r, "gate.key", ""));
    if (reason == PEP_OK) {
        *same = memcmp(device.sign_kid, kid, PEP_KID_BYTES) == 0;
        (void)hex_kid(hex, device.sign_kid);
        pep_device_wipe(&device);
    }
    if (*same || args.replace_gate_key)
        return DONE;
    return reason != PEP_OK
               ? fail_error(reason, &error)
               : fail(REFUSED,
                      "%s has another gate key, %s, and nothing was changed; --replace-gate-key takes the backup's",
                      r->folder.path, hex);
}

/* The three files belong together: with another key all are the backup's; with the same, only what is missing is. */
static int plan_gate(restore *r)
{
    bool found[3] = {false};
    bool same = false;
    uint8_t kid[PEP_KID_BYTES];
    int code = DONE;
    for (size_t i = 0; i < 3 && code == DONE; i++)
        code = lay(&found[i], r, archive_files[i]);
    if (code == DONE)
        code = read_fresh_key(kid, r);
    if (code == DONE && is_there(r, "gate.key"))
        code = compare_keys(&same, r, kid);
    for (size_t i = 0; i < 3 && code == DONE; i++) {
        bool there = is_there(r, archive_files[i]);
        if (found[i] ? !(same && there) : !same && there)
            plan(r, archive_files[i], !found[i]);
    }
    return code;
}

/* ---- the replay state ---- */

typedef struct {
    int fd;
    bool ok;
} writing;

static bool write_slot(void *ctx, const store_value *columns, size_t n)
{
    writing *w = ctx;
    w->ok = n == 1 && columns[0].type == STORE_BLOB && columns[0].n == PEP_REPLAY_SLOT_BYTES &&
            write_all(w->fd, columns[0].p, columns[0].n);
    return w->ok;
}

/* The backup's replay state, as a file again. */
static int lay_replay(const restore *r)
{
    int fd = create(r, "replay", FRESH BEFORE, 0600);
    if (fd < 0)
        return OUT_OF_REACH;
    writing w = {fd, true};
    store_result result = store_run(r->from, "SELECT bytes FROM replay ORDER BY number", NULL, 0, write_slot, &w);
    return finish_file(r, fd, w.ok && result == STORE_OK);
}

/* The folder's: the original stays as it is, and stays locked. */
static int copy_replay(const restore *r)
{
    int from = open(path_of(r, "replay", ""), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (from < 0)
        return fail(OUT_OF_REACH, "cannot read %s: %s", path_of(r, "replay", ""), strerror(errno));
    int to = create(r, "replay", FRESH, 0600);
    int code = to < 0 ? OUT_OF_REACH : finish_file(r, to, copy_bytes(to, from));
    close(from);
    return code;
}

static int unite_replay(const restore *r)
{
    pep_error error = {""};
    pep_replay *into = NULL;
    pep_replay *from = NULL;
    pep_reason reason = pep_replay_open(&from, &error, path_of(r, "replay", FRESH BEFORE));
    if (reason == PEP_OK)
        reason = pep_replay_open(&into, &error, path_of(r, "replay", FRESH));
    int code = reason == PEP_OK ? DONE : fail_error(reason, &error);
    if (code == DONE && pep_replay_merge(into, from) != PEP_OK)
        code = fail(OUT_OF_REACH, "%s: there is no room for the replay state", r->folder.path);
    pep_replay_close(from);
    pep_replay_close(into);
    return code;
}

static int sync_replay(const restore *r)
{
    int fd = open(path_of(r, "replay", FRESH), O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    return fd < 0 ? fail(OUT_OF_REACH, "cannot write in %s: %s", r->folder.path, strerror(errno))
                  : finish_file(r, fd, true);
}

static int plan_replay(restore *r)
{
    int code = lay_replay(r);
    if (code == DONE)
        code = copy_replay(r);
    if (code == DONE)
        code = unite_replay(r);
    if (code == DONE)
        code = sync_replay(r);
    if (code == DONE)
        plan(r, "replay", false);
    return code;
}

/* ---- the tables: devices ---- */

/* The end of a device's history. */
typedef struct {
    bool found;
    bool wrong; /* there is a row, and it is none that pep writes */
    char id[PEP_ID_MAX + 1];
    int64_t position;
    uint8_t hash[PEP_SHA256_BYTES];
} history_end;

static bool take_end(void *ctx, const store_value *columns, size_t n)
{
    history_end *end = ctx;
    end->wrong = n != 3 || columns[0].type != STORE_TEXT || !pep_id_valid(columns[0].p, columns[0].n) ||
                 columns[1].type != STORE_INT || columns[2].type != STORE_BLOB || columns[2].n != PEP_SHA256_BYTES;
    if (end->wrong)
        return false;
    memcpy(end->id, columns[0].p, columns[0].n);
    end->id[columns[0].n] = '\0';
    end->position = columns[1].number;
    memcpy(end->hash, columns[2].p, PEP_SHA256_BYTES);
    end->found = true;
    return false;
}

static store_result read_end(history_end *out, store *s, const char *sql, const store_value *parameters, size_t count)
{
    *out = (history_end){.found = false};
    store_result result = store_run(s, sql, parameters, count, take_end, out);
    return result == STORE_OK && out->wrong ? STORE_DAMAGED : result;
}

/* The next device behind `id`. */
static store_result next_end(history_end *out, store *s, const char *id)
{
    const store_value parameter = store_text(id, strlen(id));
    return read_end(out, s,
                    "SELECT id, position, hash FROM statements WHERE id = (SELECT min(id) FROM statements WHERE id >"
                    " $1) ORDER BY position DESC LIMIT 1",
                    &parameter, 1);
}

static store_result find_end(history_end *out, store *s, const char *id)
{
    const store_value parameter = store_text(id, strlen(id));
    return read_end(out, s, "SELECT id, position, hash FROM statements WHERE id = $1 ORDER BY position DESC LIMIT 1",
                    &parameter, 1);
}

static store_result find_at(history_end *out, store *s, const char *id, int64_t position)
{
    const store_value parameters[] = {store_text(id, strlen(id)), store_int(position)};
    return read_end(out, s, "SELECT id, position, hash FROM statements WHERE id = $1 AND position = $2", parameters, 2);
}

/* Rows of the backup go in as they are, a key's with the number of this change. */
typedef struct {
    restore *r;
    const char *insert;
    int64_t change; /* 0: no column for it */
} copying;

static bool copy_row(void *ctx, const store_value *columns, size_t n)
{
    copying *c = ctx;
    store_value row[16];
    memcpy(row, columns, n * sizeof(*row));
    if (c->change != 0)
        row[n++] = store_int(c->change);
    c->r->to_result = store_run(c->r->to, c->insert, row, n, NULL, NULL);
    return c->r->to_result == STORE_OK;
}

static store_result copy_rows(restore *r, const char *select, const char *insert, const store_value *parameters,
                              size_t count, int64_t change_number)
{
    copying c = {r, insert, change_number};
    r->to_result = STORE_OK;
    r->from_result = store_run(r->from, select, parameters, count, copy_row, &c);
    return r->from_result != STORE_OK ? r->from_result : r->to_result;
}

static bool take_number(void *ctx, const store_value *columns, size_t n)
{
    *(int64_t *)ctx = n == 1 && columns[0].type == STORE_INT ? columns[0].number : 0;
    return false;
}

/* The next change's number, as the directory takes it. */
static store_result begin_change(int64_t *number, store *s)
{
    return store_run(s, "UPDATE meta SET number = number + 1 WHERE name = 'change' RETURNING number", NULL, 0,
                     take_number, number);
}

static store_result count_id(store *s)
{
    return store_run(s, "UPDATE meta SET number = number + 1 WHERE name = 'ids'", NULL, 0, NULL, NULL);
}

#define SELECT_AGREE_KEYS "SELECT kid, id FROM agree_keys WHERE id = $1"

/* What is there of the device is a part of what comes. Agreement keys have no index by id there, so they go one by one.
 */
static store_result forget_keys(restore *r, const store_value *id)
{
    store_result result = store_run(r->to, "DELETE FROM keys WHERE id = $1", id, 1, NULL, NULL);
    return result == STORE_OK
               ? copy_rows(r, SELECT_AGREE_KEYS, "DELETE FROM agree_keys WHERE kid = $1 AND id = $2", id, 1, 0)
               : result;
}

static store_result copy_device(restore *r, const history_end *end, const history_end *there)
{
    const store_value behind[] = {store_text(end->id, strlen(end->id)), store_int(there->position)};
    int64_t number = 0;
    store_result result = there->found ? forget_keys(r, behind) : count_id(r->to);
    if (result == STORE_OK)
        result = begin_change(&number, r->to);
    if (result == STORE_OK)
        result = copy_rows(r,
                           "SELECT id, position, version, hash, kind, bytes, certificate FROM statements WHERE id = $1"
                           " AND position > $2",
                           archive_tables[1].insert, behind, 2, 0);
    if (result == STORE_OK)
        result = copy_rows(r,
                           "SELECT kid, id, sign_public, position, state, not_after, ended, cutoff, member_of, head,"
                           " provisioned FROM keys WHERE id = $1",
                           archive_tables[2].insert, behind, 1, number);
    if (result == STORE_OK)
        result = copy_rows(r, SELECT_AGREE_KEYS, archive_tables[3].insert, behind, 1, 0);
    return result;
}

static void keep_other(restore *r, const char *id)
{
    if (r->other++ < WARNINGS_MAX)
        warn("%s: another device, or another history of it, is here and stays", id);
}

/* A key that is another device's here: that one stays, too. */
static store_result try_device(restore *r, const history_end *end, const history_end *there)
{
    store_result result = store_mark(r->to);
    if (result == STORE_OK)
        result = copy_device(r, end, there);
    if (result == STORE_OK) {
        r->restored++;
        return store_keep(r->to);
    }
    if (result != STORE_CONFLICT || r->from_result != STORE_OK)
        return result;
    keep_other(r, end->id);
    return store_undo(r->to);
}

static bool same_hash(const history_end *a, const history_end *b)
{
    return a->found && b->found && memcmp(a->hash, b->hash, PEP_SHA256_BYTES) == 0;
}

static store_result merge_device(restore *r, const history_end *end)
{
    history_end there;
    history_end common; /* the other history, where the shorter one ends */
    store_result result = find_end(&there, r->to, end->id);
    if (result != STORE_OK || !there.found)
        return result != STORE_OK ? result : try_device(r, end, &there);
    bool longer = end->position > there.position;
    if (longer)
        result = r->from_result = find_at(&common, r->from, end->id, there.position);
    else
        result = find_at(&common, r->to, end->id, end->position);
    if (result != STORE_OK)
        return result;
    if (!same_hash(&common, longer ? &there : end))
        keep_other(r, end->id);
    else if (longer)
        return try_device(r, end, &there);
    else if (end->position < there.position)
        r->newer++;
    else
        r->same++;
    return STORE_OK;
}

static store_result merge_devices(restore *r)
{
    history_end end = {.id = ""};
    for (;;) {
        char id[PEP_ID_MAX + 1];
        memcpy(id, end.id, sizeof(id));
        r->from_result = next_end(&end, r->from, id);
        if (r->from_result != STORE_OK || !end.found)
            return r->from_result;
        store_result result = merge_device(r, &end);
        if (result != STORE_OK)
            return result;
    }
}

/* ---- the tables: the rest ---- */

typedef struct {
    bool found;
    bool used;
} token_there;

static bool take_token(void *ctx, const store_value *columns, size_t n)
{
    token_there *t = ctx;
    t->found = n == 1;
    t->used = n == 1 && columns[0].type != STORE_NULL;
    return false;
}

/* An open token of the backup's: another one has replaced it, or its id has keys, or its time is over. */
static store_result is_obsolete(bool *obsolete, store *s, const store_value *id, int64_t expires)
{
    int64_t count = 0;
    store_result result = store_run(
        s, "SELECT (SELECT count(*) FROM tokens WHERE id = $1) + (SELECT count(*) FROM statements WHERE id = $1)", id,
        1, take_number, &count);
    *obsolete = count > 0 || expires <= (int64_t)(pep_now_us() / 1000000);
    return result;
}

/* kid, id, expires, used */
static store_result merge_token(store *to, const store_value *row)
{
    token_there there = {false, false};
    bool used = row[3].type != STORE_NULL;
    bool obsolete = false;
    store_result result = store_run(to, "SELECT used FROM tokens WHERE kid = $1", row, 1, take_token, &there);
    if (result != STORE_OK)
        return result;
    if (there.found) {
        const store_value now_used[] = {row[3], row[0]};
        return used && !there.used
                   ? store_run(to, "UPDATE tokens SET used = $1 WHERE kid = $2", now_used, 2, NULL, NULL)
                   : STORE_OK;
    }
    if (!used)
        result = is_obsolete(&obsolete, to, &row[1], row[2].number);
    return result == STORE_OK && !obsolete ? store_run(to, archive_tables[4].insert, row, 4, NULL, NULL) : result;
}

static bool each_token(void *ctx, const store_value *columns, size_t n)
{
    restore *r = ctx;
    r->to_result = n == 4 ? merge_token(r->to, columns) : STORE_FAILED;
    return r->to_result == STORE_OK;
}

static store_result merge_tokens(restore *r)
{
    r->to_result = STORE_OK;
    r->from_result = store_run(r->from, archive_tables[4].select, NULL, 0, each_token, r);
    return r->from_result != STORE_OK ? r->from_result : r->to_result;
}

/* Brokers look for what changed behind a number that they know: it must not go back. */
static store_result raise_change(restore *r)
{
    int64_t number = 0;
    r->from_result = store_run(r->from, "SELECT number FROM meta WHERE name = 'change'", NULL, 0, take_number, &number);
    const store_value parameter = store_int(number);
    return r->from_result != STORE_OK
               ? r->from_result
               : store_run(r->to, "UPDATE meta SET number = $1 WHERE name = 'change' AND number < $1", &parameter, 1,
                           NULL, NULL);
}

static store_result merge_tables(restore *r)
{
    store_result result = store_begin(r->to);
    if (result == STORE_OK)
        result = raise_change(r);
    if (result == STORE_OK)
        result = merge_devices(r);
    if (result == STORE_OK)
        result = merge_tokens(r);
    if (result == STORE_OK)
        result = copy_rows(r, archive_tables[5].select,
                           "INSERT INTO commands (kid, seq, expires) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING", NULL,
                           0, 0);
    if (result == STORE_OK)
        result = copy_rows(r, archive_tables[6].select,
                           "INSERT INTO published (gate, topic) VALUES ($1, $2) ON CONFLICT DO NOTHING", NULL, 0, 0);
    return result == STORE_OK ? store_notify(r->to) : result;
}

/* ---- all of it ---- */

static int open_to(restore *r)
{
    const char *path;
    store_error error = {""};
    store_result result;
    r->had_store = !store_file(&path, r->url) || access(path, F_OK) == 0;
    r->to = store_open(&result, &error, r->url, directory_migrations, DIRECTORY_MIGRATIONS);
    return r->to != NULL ? DONE : fail(OUT_OF_REACH, "cannot open the store: %s", error.text);
}

/* The files change first: where the commit then fails, they can be changed back. */
static int commit(restore *r)
{
    int code = swap_all(r);
    if (code == DONE)
        sync_folder(r);
    if (code == DONE && store_commit(r->to) != STORE_OK)
        code = fail_to(r);
    if (code != DONE)
        swap_back(r);
    return code;
}

static int merge(restore *r)
{
    int code = open_to(r);
    if (code != DONE)
        return code;
    if (merge_tables(r) != STORE_OK)
        code = r->from_result == STORE_DAMAGED ? fail_file(DAMAGED)
               : r->from_result != STORE_OK    ? fail_file(store_why(r->from))
                                               : fail_to(r);
    if (code == DONE)
        code = commit(r);
    store_close(r->to);
    const char *path;
    if (code != DONE && !r->had_store && store_file(&path, r->url))
        (void)unlink(path);
    return code;
}

static int restore_all(restore *r, int backup)
{
    remove_temporaries(r); /* of one that was killed: a log that is left there would be taken for the new copy's */
    int code = open_backup(r, backup);
    if (code == DONE)
        code = plan_gate(r);
    if (code == DONE)
        code = plan_replay(r);
    if (code == DONE)
        code = merge(r);
    store_close(r->from);
    remove_temporaries(r);
    return code;
}

static int report(const restore *r)
{
    if (!args.json) {
        printf("%lld devices restored; %lld are the same here, %lld are newer here and %lld have another history here: "
               "these stay\n",
               (long long)r->restored, (long long)r->same, (long long)r->newer, (long long)r->other);
        return finish_output();
    }
    cJSON *object = json_object(NULL, NULL);
    json_signed(object, "restored", r->restored);
    json_signed(object, "same", r->same);
    json_signed(object, "newer_here", r->newer);
    json_signed(object, "other_here", r->other);
    return json_print(object);
}

/* While it is held no broker starts here. */
static int hold(restore *r)
{
    pep_error error = {""};
    bool was_there = is_there(r, "replay");
    pep_reason reason = pep_replay_open(&r->held, &error, path_of(r, "replay", ""));
    if (reason == PEP_LOCKED)
        return fail(REFUSED, "a broker is running with %s: stop it, restore, and start it again", r->folder.path);
    r->had_replay = was_there;
    return reason == PEP_OK ? DONE : fail_error(reason, &error);
}

static int restore_from(restore *r, int backup)
{
    r->had_replay = true; /* or another's */
    int code = hold(r);
    if (code == DONE)
        code = restore_all(r, backup);
    if (code != DONE && !r->had_replay)
        (void)unlink(path_of(r, "replay", ""));
    pep_replay_close(r->held);
    return code == DONE ? report(r) : code;
}

/* -1 after a line. O_NONBLOCK: what is no file might not be there for ever. */
static int open_file(void)
{
    struct stat st;
    int fd = open(args.file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    bool ordinary = fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
    if (ordinary)
        return fd;
    (void)fail(OUT_OF_REACH, "cannot read %s: %s", args.file, fd >= 0 ? "it is no ordinary file" : strerror(errno));
    if (fd >= 0)
        close(fd);
    return -1;
}

/* Only root may read the backup, perhaps; and only as its owner is the folder worked in. */
static int run(void)
{
    static restore r;
    int code = state_folder_find(&r.folder, args.state != NULL ? args.state : PEP_STATE);
    if (code == DONE)
        code = choose_store(r.url, args.store, &r.folder);
    if (code != DONE)
        return code;
    int backup = open_file();
    if (backup < 0)
        return OUT_OF_REACH;
    code = state_folder_become_owner(&r.folder);
    if (code == DONE)
        code = restore_from(&r, backup);
    close(backup);
    return code;
}

const command restore_command = {
    "restore",
    "Merges a backup into a broker's directory, gate key and replay state, while it does not run",
    "",
    "Of each device the newer keys stay: an old backup brings nothing back that was revoked or replaced since.\n",
    {options},
    run,
};
