/*
 * The sender's seq: a state file shared by every process that seals with one key. Each allocation takes the file's
 * lock; what it writes lies in the page cache and survives kill -9. Power loss is another matter: therefore `reserved`
 * runs ahead of `last` and is on disk before a seq below it is handed out, and the first allocation after a boot starts
 * from there. One disk write serves as many seqs as the reservation covers.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "envelope/error.h"
#include "envelope/files.h"
#include "pep/state.h"

#define MAGIC            "pep-seq1"
#define BOOT_ID_BYTES    36
#define RESERVE_US       2000000 /* how far the reservation runs ahead of the clock */
#define RESERVE_COUNTERS 1000

/* The file: 64 bytes, numbers big-endian. */
typedef struct {
    char magic[8];
    uint64_t last;
    uint64_t reserved;
    char boot_id[BOOT_ID_BYTES]; /* of the boot in which `last` was written */
    uint8_t form;                /* FORM_*: a key uses one */
    uint8_t spare[3];
} seq_file;
_Static_assert(sizeof(seq_file) == 64, "the state file has no padding");

struct pep_seq {
    int fd;
    char boot_id[BOOT_ID_BYTES];
};

/* Where boots cannot be told apart, each opening counts as one: the next seq then lies above all that was reserved. */
static void read_boot_id(char out[BOOT_ID_BYTES])
{
    randombytes_buf(out, BOOT_ID_BYTES);
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    if (read(fd, out, BOOT_ID_BYTES) != BOOT_ID_BYTES)
        randombytes_buf(out, BOOT_ID_BYTES);
    close(fd);
}

static bool lock(int fd)
{
    while (flock(fd, LOCK_EX) != 0)
        if (errno != EINTR)
            return false;
    return true;
}

typedef enum { FILE_OK, FILE_NEW, FILE_DAMAGED, FILE_UNREADABLE } file_state;

static file_state read_file(seq_file *f, int fd)
{
    uint8_t bytes[sizeof *f + 1] = {0}; /* one more: a longer file is none of ours */
    ssize_t got = pread(fd, bytes, sizeof bytes, 0);
    memcpy(f, bytes, sizeof *f);
    if (got < 0)
        return FILE_UNREADABLE;
    if (got == 0)
        return FILE_NEW;
    if (got != sizeof *f || memcmp(f->magic, MAGIC, sizeof f->magic) != 0 || be64toh(f->last) > PEP_SEQ_MAX ||
        be64toh(f->reserved) > PEP_SEQ_MAX + RESERVE_US)
        return FILE_DAMAGED;
    return FILE_OK;
}

static pep_reason check_contents(pep_error *error, const char *path, int fd)
{
    seq_file f;
    if (!lock(fd))
        return pep_fail_errno(error, PEP_CANNOT_WRITE, "lock", path);
    file_state state = read_file(&f, fd);
    flock(fd, LOCK_UN);
    if (state == FILE_UNREADABLE)
        return pep_fail_errno(error, PEP_CANNOT_READ, "read", path);
    if (state == FILE_DAMAGED)
        return pep_fail(error, PEP_BAD_FILE,
                        "%s is not a seq state file, or is damaged: with it lost, this device needs a new signing key",
                        path);
    return PEP_OK;
}

pep_reason pep_seq_open(pep_seq **out, pep_error *error, const char *path)
{
    *out = NULL;
    pep_seq *seq = calloc(1, sizeof *seq);
    if (seq == NULL)
        return pep_fail(error, PEP_NO_MEMORY, "out of memory");
    pep_reason reason = file_open_state(&seq->fd, error, path);
    if (reason == PEP_OK)
        reason = check_contents(error, path, seq->fd);
    if (reason != PEP_OK) {
        pep_seq_close(seq);
        return reason;
    }
    read_boot_id(seq->boot_id);
    *out = seq;
    return PEP_OK;
}

void pep_seq_close(pep_seq *seq)
{
    if (seq == NULL)
        return;
    if (seq->fd >= 0)
        close(seq->fd);
    free(seq);
}

/* The last seq that may have been used: after a boot all that was reserved. */
static uint64_t last_used(const pep_seq *seq, const seq_file *f)
{
    bool same_boot = memcmp(f->boot_id, seq->boot_id, BOOT_ID_BYTES) == 0;
    uint64_t last = be64toh(f->last);
    uint64_t reserved = be64toh(f->reserved);
    return same_boot || last > reserved ? last : reserved;
}

/* How a key numbers its messages. */
enum { FORM_NONE, FORM_TIME, FORM_COUNTER };

typedef struct {
    uint8_t form;
    uint64_t at_least;
    uint64_t at_most;
    uint64_t ahead; /* how far to reserve */
} numbering;

static pep_reason allocate(pep_seq *seq, uint64_t *out, const numbering *how)
{
    seq_file f;
    file_state state = read_file(&f, seq->fd);
    if (state == FILE_UNREADABLE || state == FILE_DAMAGED)
        return PEP_BAD_FILE;
    if (f.form != FORM_NONE && f.form != how->form)
        return PEP_SEQ_MIXED;
    uint64_t next = last_used(seq, &f) + 1;
    if (next < how->at_least)
        next = how->at_least;
    if (next > how->at_most || next > PEP_SEQ_MAX)
        return PEP_SEQ_AHEAD;
    bool reserve = next > be64toh(f.reserved);
    memcpy(f.magic, MAGIC, sizeof f.magic);
    const seq_file before = f;
    memcpy(f.boot_id, seq->boot_id, BOOT_ID_BYTES);
    f.form = how->form;
    f.last = htobe64(next);
    if (reserve)
        f.reserved = htobe64(next + how->ahead);
    if (pwrite(seq->fd, &f, sizeof f, 0) != sizeof f)
        return PEP_CANNOT_WRITE;
    if (reserve && fdatasync(seq->fd) != 0) { /* not on disk: nobody may take it for reserved */
        (void)!pwrite(seq->fd, &before, sizeof before, 0);
        return PEP_CANNOT_WRITE;
    }
    *out = next;
    return PEP_OK;
}

static pep_reason locked_allocate(pep_seq *seq, uint64_t *out, const numbering *how)
{
    *out = 0;
    if (!lock(seq->fd))
        return PEP_CANNOT_WRITE;
    pep_reason reason = allocate(seq, out, how);
    flock(seq->fd, LOCK_UN);
    return reason;
}

pep_reason pep_seq_next(pep_seq *seq, uint64_t *out)
{
    uint64_t now = pep_now_us();
    const numbering by_time = {FORM_TIME, now, now + PEP_MAX_SKEW_US, RESERVE_US};
    return locked_allocate(seq, out, &by_time);
}

pep_reason pep_seq_next_counter(pep_seq *seq, uint64_t *out)
{
    static const numbering by_count = {FORM_COUNTER, 1, PEP_SEQ_MAX, RESERVE_COUNTERS};
    return locked_allocate(seq, out, &by_count);
}
