/* pep backup: what a broker's directory and gate hold, in one file, while the broker runs. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/archive.h"
#include "client/commands.h"
#include "client/io.h"

#define FILE_MAX    ((size_t)64 * 1024)
#define SLOT_TRIES  10000
#define OPEN_TRIES  6 /* of STORE_PATIENCE_MS each */
#define HEAD_NUMBER 0

static struct {
    const char *state, *store, *file;
    bool json;
} args;

static const option options[] = {
    {OPTION_TEXT, 0, false, "state", &args.state, "DIR", "the broker's state folder (default: " PEP_STATE ")", 0, 0},
    {OPTION_TEXT, 0, false, "store", &args.store, "URL", "its store (default: sqlite:DIR/directory.db)", 0, 0},
    {OPTION_FLAG, 0, false, "json", &args.json, NULL, "print JSON", 0, 0},
    {OPTION_OPERAND, 0, true, NULL, &args.file, "FILE", "the backup, which must not be there yet", 0, 0},
    {0},
};

typedef struct {
    state_folder folder;
    char url[PATH_MAX + 8];
    new_file file;
    store *from, *to;
    int64_t devices, signers; /* what it holds */
} backup;

static int fail_to(const backup *b)
{
    return fail(OUT_OF_REACH, "cannot write %s: %s", args.file, store_why(b->to));
}

/* ---- tables ---- */

typedef struct {
    store *to;
    const char *insert;
    store_result result;
} copying;

static bool copy_row(void *ctx, const store_value *columns, size_t n)
{
    copying *c = ctx;
    c->result = store_run(c->to, c->insert, columns, n, NULL, NULL);
    return c->result == STORE_OK;
}

/* One moment for all tables, which keeps no writer waiting. */
static store_result begin_reading(store *s)
{
    bool postgres = strcmp(store_kind(s), "postgresql") == 0;
    return store_run(s, postgres ? "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY" : "BEGIN", NULL, 0, NULL, NULL);
}

static int copy_tables(backup *b)
{
    store_result result = begin_reading(b->from);
    for (size_t i = 0; i < ARCHIVE_TABLES && result == STORE_OK; i++) {
        copying c = {b->to, archive_tables[i].insert, STORE_OK};
        result = store_run(b->from, archive_tables[i].select, NULL, 0, copy_row, &c);
        if (c.result != STORE_OK)
            return fail_to(b);
    }
    return result == STORE_OK ? DONE : fail(OUT_OF_REACH, "cannot read the store: %s", store_why(b->from));
}

/* ---- files ---- */

static int add_file(const backup *b, const char *name, const void *p, size_t n)
{
    const store_value row[] = {store_text(name, strlen(name)), store_blob(p, n)};
    store_result result = store_run(b->to, "INSERT INTO files (name, content) VALUES ($1, $2)", row, 2, NULL, NULL);
    return result == STORE_OK ? DONE : fail_to(b);
}

static int copy_file(const backup *b, const char *name)
{
    char path[PATH_MAX];
    if (state_folder_path(path, &b->folder, name) == NULL)
        return OUT_OF_REACH;
    if (access(path, F_OK) != 0 && errno == ENOENT && strcmp(name, "gate.cert") == 0)
        return DONE; /* a gate has one only where authorities certify it */
    buffer content = {0};
    int code = read_file(&content, path, FILE_MAX);
    if (code == DONE)
        code = add_file(b, name, content.p, content.n);
    buffer_free(&content);
    return code;
}

static int copy_files(const backup *b)
{
    int code = DONE;
    for (size_t i = 0; archive_files[i] != NULL && code == DONE; i++)
        code = copy_file(b, archive_files[i]);
    return code;
}

/* ---- the replay state ---- */

/*
 * A broker writes slots while they are read here, in an order in which every moment is sound (envelope/replay.c). So a
 * slot is read until it comes out twice the same: then it is one of those moments.
 */
static bool read_slot(uint8_t slot[PEP_REPLAY_SLOT_BYTES], int fd, off_t at)
{
    uint8_t again[PEP_REPLAY_SLOT_BYTES];
    if (pread(fd, slot, sizeof(again), at) != sizeof(again))
        return false;
    for (int i = 0; i < SLOT_TRIES; i++) {
        if (pread(fd, again, sizeof(again), at) != sizeof(again))
            return false;
        if (memcmp(slot, again, sizeof(again)) == 0)
            return true;
        memcpy(slot, again, sizeof(again));
    }
    errno = EBUSY;
    return false;
}

static int add_slot(const backup *b, int64_t number, const uint8_t slot[PEP_REPLAY_SLOT_BYTES])
{
    const store_value row[] = {store_int(number), store_blob(slot, PEP_REPLAY_SLOT_BYTES)};
    store_result result = store_run(b->to, "INSERT INTO replay (number, bytes) VALUES ($1, $2)", row, 2, NULL, NULL);
    return result == STORE_OK ? DONE : fail_to(b);
}

/* Used slots are the first ones of the file. */
static int copy_slots(const backup *b, int fd, const char *path)
{
    static const uint8_t no_key[PEP_KID_BYTES];
    uint8_t slot[PEP_REPLAY_SLOT_BYTES];
    struct stat st;
    if (fstat(fd, &st) != 0)
        return fail(OUT_OF_REACH, "cannot read %s: %s", path, strerror(errno));
    int64_t count = (int64_t)st.st_size / PEP_REPLAY_SLOT_BYTES;
    for (int64_t i = HEAD_NUMBER; i < count; i++) {
        errno = EIO; /* shorter than a moment ago */
        if (!read_slot(slot, fd, (off_t)i * PEP_REPLAY_SLOT_BYTES))
            return fail(OUT_OF_REACH, "cannot read %s: %s", path, strerror(errno));
        if (memcmp(slot, no_key, sizeof(no_key)) == 0)
            return DONE;
        int code = add_slot(b, i, slot);
        if (code != DONE)
            return code;
    }
    return DONE;
}

static int copy_replay(const backup *b)
{
    char path[PATH_MAX];
    if (state_folder_path(path, &b->folder, "replay") == NULL)
        return OUT_OF_REACH;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 && errno == ENOENT)
        return DONE;
    if (fd < 0)
        return fail(OUT_OF_REACH, "cannot read %s: %s", path, strerror(errno));
    int code = copy_slots(b, fd, path);
    close(fd);
    return code;
}

/* ---- the backup ---- */

static int open_from(backup *b)
{
    const char *path;
    store_error error = {""};
    store_result result;
    if (store_file(&path, b->url) && access(path, F_OK) != 0) /* it would be made */
        return fail(OUT_OF_REACH, "cannot read %s: %s; --state or --store names another", path, strerror(errno));
    for (int i = 0; i < OPEN_TRIES && b->from == NULL; i++) { /* a busy broker may leave no gap for long */
        b->from = store_open(&result, &error, b->url, directory_migrations, DIRECTORY_MIGRATIONS);
        if (result != STORE_AWAY)
            break;
    }
    return b->from != NULL ? DONE : fail(OUT_OF_REACH, "cannot read the store: %s", error.text);
}

/* As the folder's owner. */
static int copy_all(backup *b)
{
    int code = open_from(b);
    if (code == DONE)
        code = copy_tables(b);
    if (code == DONE)
        code = copy_files(b);
    if (code == DONE)
        code = copy_replay(b);
    store_close(b->from);
    return code;
}

static int fill(backup *b)
{
    uint8_t sum[SUM_BYTES];
    if (store_begin(b->to) != STORE_OK || archive_make(b->to) != STORE_OK)
        return fail_to(b);
    int code = state_folder_become_owner(&b->folder);
    if (code == DONE)
        code = copy_all(b);
    state_folder_become_self();
    if (code == DONE && archive_sum(sum, b->to) != STORE_OK)
        code = fail_to(b);
    if (code == DONE)
        code = add_file(b, "sum", sum, sizeof(sum));
    if (code == DONE && store_commit(b->to) != STORE_OK)
        code = fail_to(b);
    return code;
}

static bool take_number(void *ctx, const store_value *columns, size_t n)
{
    *(int64_t *)ctx = n == 1 ? columns[0].number : 0;
    return false;
}

static int count(backup *b)
{
    if (store_run(b->to, "SELECT count(DISTINCT id) FROM statements", NULL, 0, take_number, &b->devices) != STORE_OK ||
        store_run(b->to, "SELECT count(*) FROM replay WHERE number > 0", NULL, 0, take_number, &b->signers) != STORE_OK)
        return fail_to(b);
    return DONE;
}

static int report(const backup *b)
{
    if (!args.json) {
        printf("%s: %lld devices, the replay state of %lld signers, and the gate's key: keep it as secret as that\n",
               args.file, (long long)b->devices, (long long)b->signers);
        return finish_output();
    }
    cJSON *object = json_object(NULL, NULL);
    json_text(object, "file", args.file);
    json_signed(object, "devices", b->devices);
    json_signed(object, "signers", b->signers);
    return json_print(object);
}

static int make(backup *b)
{
    char url[PATH_MAX + 8];
    store_error error = {""};
    store_result result;
    (void)snprintf(url, sizeof(url), "sqlite:%s", b->file.temporary);
    b->to = store_open(&result, &error, url, directory_migrations, DIRECTORY_MIGRATIONS);
    if (b->to == NULL)
        return fail(OUT_OF_REACH, "cannot write %s: %s", args.file, error.text);
    int code = fill(b);
    if (code == DONE)
        code = count(b);
    store_close(b->to); /* all of it is in the one file then */
    if (code == DONE)
        code = new_file_name(&b->file);
    return code == DONE ? report(b) : code;
}

static void remove_temporary(const backup *b)
{
    static const char *const endings[] = {"-wal", "-shm"};
    char path[PATH_MAX + 8];
    for (size_t i = 0; i < 2; i++) {
        (void)snprintf(path, sizeof(path), "%s%s", b->file.temporary, endings[i]);
        (void)unlink(path);
    }
    new_file_remove(&b->file);
}

static int run(void)
{
    backup b = {0};
    int fd = -1;
    int code = state_folder_find(&b.folder, args.state != NULL ? args.state : PEP_STATE);
    if (code == DONE)
        code = choose_store(b.url, args.store, &b.folder);
    if (code == DONE)
        code = new_file_create(&b.file, &fd, args.file);
    if (code != DONE)
        return code;
    close(fd); /* SQLite opens it by itself */
    code = make(&b);
    remove_temporary(&b);
    return code;
}

const command backup_command = {
    "backup", "Saves a broker's directory, gate key and replay state to a file, while it runs", "", "", {options}, run,
};
