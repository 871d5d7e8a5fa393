#include "envelope/files.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "envelope/error.h"

#define CHECKSUM_BYTES   8
#define LABEL_MAX        32
#define TEXT_BYTES_MAX   (ARMOR_BYTES_MAX * 3 / 2 + 4 * LABEL_MAX)
#define PATH_BYTES       4096
#define TRIES            10000 /* others replace the same file at this moment */
#define BASE64_LINE      64
#define BASE64_MAX       (sodium_base64_ENCODED_LEN(ARMOR_BYTES_MAX, sodium_base64_VARIANT_ORIGINAL))
#define BEGIN_FORMAT     "-----BEGIN %s-----\n"
#define END_FORMAT       "-----END %s-----\n"
#define OTHERS_MAY(mode) (((mode) & (S_IRWXG | S_IRWXO)) != 0)

static pep_reason check_file(pep_error *error, const char *path, int fd, file_kind kind)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return pep_fail_errno(error, PEP_CANNOT_READ, "read", path);
    if (!S_ISREG(st.st_mode))
        return pep_fail(error, PEP_BAD_FILE, "%s is not a regular file", path);
    if (kind == FILE_SECRET && OTHERS_MAY(st.st_mode))
        return pep_fail(error, PEP_UNSAFE_FILE,
                        "others may read or write %s, which is for its owner alone: chmod 600 %s", path, path);
    return PEP_OK;
}

/* Reads until the end or until `cap` bytes are there; -1 on failure. */
static ssize_t read_all(int fd, char *out, size_t cap)
{
    size_t n = 0;
    while (n < cap) {
        ssize_t got = read(fd, out + n, cap - n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -1;
        if (got == 0)
            break;
        n += (size_t)got;
    }
    return (ssize_t)n;
}

static pep_reason read_text(char *text, size_t *text_n, pep_error *error, const char *path, file_kind kind)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* O_NONBLOCK: a FIFO must not hold us up */
    if (fd < 0)
        return pep_fail_errno(error, PEP_CANNOT_READ, "read", path);
    pep_reason reason = check_file(error, path, fd, kind);
    ssize_t got = reason == PEP_OK ? read_all(fd, text, TEXT_BYTES_MAX) : 0;
    if (got < 0)
        reason = pep_fail_errno(error, PEP_CANNOT_READ, "read", path);
    if (got == TEXT_BYTES_MAX)
        reason = pep_fail(error, PEP_BAD_FILE, "%s is too large to be a file of pep's", path);
    close(fd);
    *text_n = got < 0 ? 0 : (size_t)got;
    return reason;
}

/* libsodium's decoder by itself takes any byte above 0x7f for `/` and passes over NULs. */
static bool may_be_base64(const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (text[i] != '\n' && (text[i] < '+' || text[i] > 'z'))
            return false;
    return true;
}

/* The first bytes of SHA-256: one altered character of a secret would else be another secret, and nobody would know. */
static void checksum(uint8_t out[CHECKSUM_BYTES], const uint8_t *bytes, size_t n)
{
    uint8_t hash[crypto_hash_sha256_BYTES];
    crypto_hash_sha256(hash, bytes, n);
    memcpy(out, hash, CHECKSUM_BYTES);
}

/* Takes the checksum off the end; false where it is not the content's. */
static bool remove_checksum(const uint8_t *bytes, size_t *n)
{
    uint8_t expected[CHECKSUM_BYTES];
    if (*n < CHECKSUM_BYTES)
        return false;
    *n -= CHECKSUM_BYTES;
    checksum(expected, bytes, *n);
    return sodium_memcmp(expected, bytes + *n, CHECKSUM_BYTES) == 0;
}

static bool decode_armor(uint8_t *out, size_t *out_n, const char *text, size_t text_n, const char *label)
{
    char begin[LABEL_MAX + 32];
    char end[LABEL_MAX + 32];
    size_t begin_n = (size_t)snprintf(begin, sizeof begin, BEGIN_FORMAT, label);
    size_t end_n = (size_t)snprintf(end, sizeof end, END_FORMAT, label);
    if (text_n < begin_n + end_n || memcmp(text, begin, begin_n) != 0 || memcmp(text + text_n - end_n, end, end_n) != 0)
        return false;
    const char *body = text + begin_n;
    size_t body_n = text_n - begin_n - end_n;
    const char *stopped = NULL;
    return may_be_base64(body, body_n) &&
           sodium_base642bin(out, ARMOR_BYTES_MAX, body, body_n, "\n", out_n, &stopped,
                             sodium_base64_VARIANT_ORIGINAL) == 0 &&
           stopped == body + body_n;
}

pep_reason file_read_armored(uint8_t *out, size_t *out_n, pep_error *error, const char *path, const char *label,
                             file_kind kind)
{
    char text[TEXT_BYTES_MAX] = {0};
    size_t text_n = 0;
    *out_n = 0;
    pep_reason reason = read_text(text, &text_n, error, path, kind);
    if (reason == PEP_OK &&
        (!decode_armor(out, out_n, text, text_n, label) || (kind == FILE_SECRET && !remove_checksum(out, out_n))))
        reason = pep_fail(error, PEP_BAD_FILE, "%s is not a %s file, or is damaged", path, label);
    sodium_memzero(text, sizeof text);
    return reason;
}

pep_reason file_read_armored_into(uint8_t *out, size_t *out_n, size_t cap, pep_error *error, const char *path,
                                  const char *label)
{
    uint8_t bytes[ARMOR_BYTES_MAX];
    size_t n;
    *out_n = 0;
    pep_reason reason = file_read_armored(bytes, &n, error, path, label, FILE_PUBLIC);
    if (reason != PEP_OK)
        return reason;
    if (n > cap)
        return pep_fail(error, PEP_BAD_FILE, "%s is too large to be a %s file", path, label);
    memcpy(out, bytes, n);
    *out_n = n;
    return PEP_OK;
}

static size_t encode_armor(char *text, const char *label, const uint8_t *bytes, size_t n)
{
    char base64[BASE64_MAX];
    sodium_bin2base64(base64, sizeof base64, bytes, n, sodium_base64_VARIANT_ORIGINAL);
    size_t left = strlen(base64);
    size_t at = (size_t)snprintf(text, LABEL_MAX + 32, BEGIN_FORMAT, label);
    for (const char *p = base64; left > 0;) {
        size_t take = left < BASE64_LINE ? left : BASE64_LINE;
        memcpy(text + at, p, take);
        text[at + take] = '\n';
        at += take + 1;
        p += take;
        left -= take;
    }
    at += (size_t)snprintf(text + at, LABEL_MAX + 32, END_FORMAT, label);
    sodium_memzero(base64, sizeof base64);
    return at;
}

static bool write_all(int fd, const char *text, size_t n)
{
    while (n > 0) {
        ssize_t put = write(fd, text, n);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return false;
        text += put;
        n -= (size_t)put;
    }
    return true;
}

static void sync_folder_of(const char *path)
{
    char copy[PATH_BYTES];
    snprintf(copy, sizeof copy, "%s", path);
    int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return;
    (void)fsync(fd); /* some file systems cannot; the file itself is on disk by now */
    close(fd);
}

/* Gives a file that is on the disk its name: a new one, or that of the file that is there. */
typedef enum { NAME_NEW, NAME_IN_PLACE } naming;

static pep_reason fail_naming(pep_error *error, const char *path, naming how)
{
    if (how == NAME_IN_PLACE)
        return pep_fail_errno(error, PEP_CANNOT_WRITE, "replace", path);
    if (errno != EEXIST)
        return pep_fail_errno(error, PEP_CANNOT_WRITE, "create", path);
    return pep_fail(error, PEP_EXISTS,
                    "%s exists already and is never overwritten: choose another name, or move it away", path);
}

static bool fill_file(int fd, mode_t mode, const char *text, size_t n)
{
    return write_all(fd, text, n) && fchmod(fd, mode) == 0 && fsync(fd) == 0;
}

/* A file without a name: whoever is killed while it is written leaves nothing. -1 where there are no such files. */
static int open_nameless(const char *path)
{
    char copy[PATH_BYTES];
    snprintf(copy, sizeof copy, "%s", path);
    return open(dirname(copy), O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
}

static bool link_nameless(int fd, const char *path)
{
    char held[64];
    snprintf(held, sizeof held, "/proc/self/fd/%d", fd);
    return linkat(AT_FDCWD, held, AT_FDCWD, path, AT_SYMLINK_FOLLOW) == 0;
}

/*
 * A link replaces nothing, so it goes by a second name, the same each time: who is killed in between leaves one file,
 * whole, which the next one to write here removes. Where two write at once either may take the other's file away or
 * give it its name: then once more, and the last one's stays.
 */
static bool link_in_place(int fd, const char *path)
{
    char temporary[PATH_BYTES + 4];
    snprintf(temporary, sizeof temporary, "%s.tmp", path);
    for (int i = 0; i < TRIES; i++) {
        (void)unlink(temporary);
        if (link_nameless(fd, temporary) && rename(temporary, path) == 0)
            return true;
        if (errno != EEXIST && errno != ENOENT)
            break;
    }
    int error = errno;
    (void)unlink(temporary);
    errno = error;
    return false;
}

/* *possible false: nothing was done, this file system or system has no such files. */
static pep_reason write_nameless(bool *possible, pep_error *error, const char *path, mode_t mode, const char *text,
                                 size_t n, naming how)
{
    int fd = open_nameless(path);
    *possible = fd >= 0;
    if (fd < 0)
        return PEP_CANNOT_WRITE;
    pep_reason reason = PEP_OK;
    if (!fill_file(fd, mode, text, n)) {
        reason = pep_fail_errno(error, PEP_CANNOT_WRITE, "write", path);
    } else if (!(how == NAME_NEW ? link_nameless(fd, path) : link_in_place(fd, path))) {
        *possible = errno != ENOENT && errno != EPERM && errno != EXDEV; /* no /proc, or no links */
        reason = fail_naming(error, path, how);
    }
    close(fd);
    return reason;
}

static pep_reason write_named(pep_error *error, const char *path, mode_t mode, const char *text, size_t n, naming how)
{
    char temporary[PATH_BYTES];
    if ((size_t)snprintf(temporary, sizeof temporary, "%s.XXXXXX", path) >= sizeof temporary)
        return pep_fail(error, PEP_CANNOT_WRITE, "cannot create a file with so long a path");
    int fd = mkostemp(temporary, O_CLOEXEC);
    if (fd < 0)
        return pep_fail_errno(error, PEP_CANNOT_WRITE, "create", path);
    pep_reason reason = PEP_OK;
    if (!fill_file(fd, mode, text, n))
        reason = pep_fail_errno(error, PEP_CANNOT_WRITE, "write", path);
    else if ((how == NAME_NEW ? link(temporary, path) : rename(temporary, path)) != 0)
        reason = fail_naming(error, path, how);
    close(fd);
    unlink(temporary);
    return reason;
}

static pep_reason write_file(pep_error *error, const char *path, mode_t mode, const char *text, size_t n, naming how)
{
    bool possible;
    pep_reason reason = write_nameless(&possible, error, path, mode, text, n, how);
    if (!possible)
        reason = write_named(error, path, mode, text, n, how);
    if (reason == PEP_OK)
        sync_folder_of(path);
    return reason;
}

static pep_reason write_armored(pep_error *error, const char *path, const char *label, file_kind kind,
                                const uint8_t *bytes, size_t n, naming how)
{
    char text[TEXT_BYTES_MAX];
    uint8_t content[ARMOR_BYTES_MAX];
    if (n > sizeof content - CHECKSUM_BYTES)
        return pep_fail(error, PEP_BAD_ARGUMENT, "%s would be too large", path);
    memcpy(content, bytes, n);
    checksum(content + n, bytes, n);
    size_t text_n = encode_armor(text, label, content, kind == FILE_SECRET ? n + CHECKSUM_BYTES : n);
    pep_reason reason = write_file(error, path, kind == FILE_SECRET ? 0600 : 0644, text, text_n, how);
    sodium_memzero(content, sizeof content);
    sodium_memzero(text, sizeof text);
    return reason;
}

pep_reason file_create_armored(pep_error *error, const char *path, const char *label, file_kind kind,
                               const uint8_t *bytes, size_t n)
{
    return write_armored(error, path, label, kind, bytes, n, NAME_NEW);
}

pep_reason file_replace_armored(pep_error *error, const char *path, const char *label, file_kind kind,
                                const uint8_t *bytes, size_t n)
{
    return write_armored(error, path, label, kind, bytes, n, NAME_IN_PLACE);
}

pep_reason file_open_state(int *fd, pep_error *error, const char *path)
{
    *fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
    if (*fd < 0)
        return pep_fail_errno(error, PEP_CANNOT_WRITE, "open", path);
    pep_reason reason = check_file(error, path, *fd, FILE_SECRET);
    if (reason != PEP_OK) {
        close(*fd);
        *fd = -1;
        return reason;
    }
    if (lseek(*fd, 0, SEEK_END) == 0) /* new: after a power loss, what it will hold is worth no more than its name */
        sync_folder_of(path);
    return PEP_OK;
}
