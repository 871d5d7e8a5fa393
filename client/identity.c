#include "client/identity.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/io.h"
#include "client/options.h"
#include "client/print.h"

/* ---- names ---- */

static char *path_of(const char *dir, const char *id, const char *ending)
{
    char *path = NULL;
    int n = asprintf(&path, "%s%s%s%s", dir != NULL ? dir : "", dir != NULL ? "/" : "", id, ending);
    return n < 0 ? NULL : path;
}

static int check_names(const device_files *files)
{
    bool all = files->key != NULL && files->pub != NULL && files->seq != NULL && files->fresh != NULL &&
               files->fresh_pub != NULL;
    return all ? DONE : fail(OUT_OF_REACH, "out of memory");
}

int name_files(device_files *out, const char *dir, const char *id)
{
    *out = (device_files){.key = path_of(dir, id, ".key"),
                          .pub = path_of(dir, id, ".pub"),
                          .seq = path_of(dir, id, ".seq"),
                          .fresh = path_of(dir, id, ".key.new"),
                          .fresh_pub = path_of(dir, id, ".pub.new")};
    return check_names(out);
}

int name_files_beside(device_files *out, const char *key)
{
    *out = (device_files){.pub = beside_key(key, ".pub")};
    if (out->pub == NULL)
        return WRONG_USAGE;
    out->key = strdup(key);
    out->seq = beside_key(key, ".seq");
    out->fresh = beside_key(key, ".key.new");
    out->fresh_pub = beside_key(key, ".pub.new");
    return check_names(out);
}

void free_files(device_files *files)
{
    free(files->key);
    free(files->pub);
    free(files->seq);
    free(files->fresh);
    free(files->fresh_pub);
    *files = (device_files){0};
}

int check_new_id(const char *id)
{
    if (!pep_id_valid(id, strlen(id)))
        return wrong_usage("--id '%.80s': an id is 1 to 64 of A-Z a-z 0-9 . _ : @ -", id);
    if (id[0] == '.')
        return wrong_usage("--id %s: would make hidden files, which no folder of records shows", id);
    return DONE;
}

/* ---- making ---- */

/* Empty: no number was used. A device that counts can tell a new state from a lost one only by the file. */
static int create_seq(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 && errno == EEXIST)
        return fail(REFUSED,
                    "%s exists already and is never overwritten: choose another name, or move it away with its key",
                    path);
    if (fd < 0)
        return fail(OUT_OF_REACH, "cannot create %s: %s", path, strerror(errno));
    close(fd);
    return DONE;
}

static int save_record(const char *path, const uint8_t *record, size_t n)
{
    pep_error error = {""};
    pep_reason reason = pep_record_save(&error, path, record, n);
    return reason == PEP_OK ? DONE : fail_error(reason, &error);
}

static int save_key(const char *path, const pep_device *device)
{
    pep_error error = {""};
    pep_reason reason = pep_device_save(&error, path, device);
    return reason == PEP_OK ? DONE : fail_error(reason, &error);
}

/* The secret one comes last, so that no failure has to take a secret away again. */
static int save_files(const pep_device *device, const device_files *files, const uint8_t *record, size_t record_n)
{
    int code = save_record(files->pub, record, record_n);
    if (code != DONE)
        return code;
    code = create_seq(files->seq);
    if (code == DONE) {
        code = save_key(files->key, device);
        if (code != DONE)
            (void)unlink(files->seq);
    }
    if (code != DONE)
        (void)unlink(files->pub);
    return code;
}

/* All files or none: signals wait, so that an interrupt cannot fall between them. */
int save_identity(const pep_device *device, const device_files *files, const uint8_t *record, size_t record_n)
{
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, &before);
    int code = save_files(device, files, record, record_n);
    sigprocmask(SIG_SETMASK, &before, NULL);
    return code;
}

/* ---- what other processes do ---- */

bool file_changed(file_stamp *stamp, const char *path)
{
    struct stat st;
    if (stat(path, &st) != 0)
        return false;
    const file_stamp now = {.device = (uint64_t)st.st_dev,
                            .inode = (uint64_t)st.st_ino,
                            .size = (uint64_t)st.st_size,
                            .changed_s = (int64_t)st.st_mtim.tv_sec,
                            .changed_ns = (int64_t)st.st_mtim.tv_nsec};
    bool same = now.device == stamp->device && now.inode == stamp->inode && now.size == stamp->size &&
                now.changed_s == stamp->changed_s && now.changed_ns == stamp->changed_ns;
    *stamp = now;
    return !same;
}

static bool still_there(int fd, const char *path)
{
    struct stat held;
    struct stat now;
    return fstat(fd, &held) == 0 && stat(path, &now) == 0 && held.st_ino == now.st_ino && held.st_dev == now.st_dev;
}

/* The file that was locked may have been replaced while we waited: then the new one is to be locked. */
int lock_key(const char *path, bool wait)
{
    for (;;) {
        int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        if (fd < 0)
            return -1;
        if (flock(fd, wait ? LOCK_EX : LOCK_EX | LOCK_NB) != 0) {
            close(fd);
            return -1;
        }
        if (still_there(fd, path))
            return fd;
        close(fd);
    }
}

/* ---- former keys ---- */

/* How many former keys are still to be kept: the newest come first. */
static size_t count_kept(const pep_device *device)
{
    uint64_t now_s = pep_now_us() / 1000000;
    size_t kept = device->previous_count;
    while (kept > 0 && device->previous[kept - 1].until_s < now_s)
        kept--;
    return kept;
}

static void drop_from(pep_device *device, size_t kept)
{
    explicit_bzero(&device->previous[kept], (device->previous_count - kept) * sizeof(device->previous[0]));
    device->previous_count = kept;
}

/* The file is read again under its lock, because a rotation may have replaced it. */
static void rewrite_key(const char *path)
{
    pep_device device;
    int lock = lock_key(path, false);
    if (lock < 0)
        return;
    if (pep_device_load(&device, NULL, path) == PEP_OK) {
        drop_from(&device, count_kept(&device));
        (void)!pep_device_replace(NULL, path, &device);
    }
    pep_device_wipe(&device);
    close(lock);
}

void drop_old_keys(pep_device *device, const char *path)
{
    size_t kept = count_kept(device);
    if (kept == device->previous_count)
        return;
    drop_from(device, kept);
    rewrite_key(path);
}

void warn_if_rotating(const char *path)
{
    char *fresh = NULL;
    struct stat st;
    if (asprintf(&fresh, "%s.new", path) < 0)
        return;
    if (lstat(fresh, &st) == 0)
        warn("%s is there: a rotation is on its way, or was interrupted; then 'pep rotate --key %s' finishes it", fresh,
             path);
    free(fresh);
}
