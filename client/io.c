#include "client/io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/options.h"
#include "client/print.h"

#define READ_STEP ((size_t)64 * 1024)

bool buffer_reserve(buffer *b, size_t cap)
{
    if (cap <= b->cap && b->p != NULL)
        return true;
    /* not realloc: it could leave a copy behind */
    uint8_t *p = malloc(cap > 0 ? cap : 1);
    if (p == NULL)
        return false;
    if (b->p != NULL)
        memcpy(p, b->p, b->n);
    size_t n = b->n;
    buffer_free(b);
    *b = (buffer){.p = p, .n = n, .cap = cap};
    return true;
}

void buffer_free(buffer *b)
{
    if (b->p != NULL)
        explicit_bzero(b->p, b->cap);
    free(b->p);
    *b = (buffer){0};
}

long buffer_read(buffer *b, int fd, size_t limit)
{
    if (b->cap - b->n < READ_STEP && !buffer_reserve(b, 2 * b->cap + READ_STEP))
        return -1;
    ssize_t n = read(fd, b->p + b->n, READ_STEP);
    if (n > 0 && (size_t)n > limit - b->n) {
        errno = EFBIG;
        return -1;
    }
    if (n > 0)
        b->n += (size_t)n;
    return n;
}

static int read_all(buffer *out, int fd, const char *name, size_t limit)
{
    long n;
    do
        n = buffer_read(out, fd, limit);
    while (n > 0 || (n < 0 && errno == EINTR));
    if (n == 0)
        return DONE;
    if (errno == EFBIG)
        return fail(OUT_OF_REACH, "%s is longer than %zu bytes, the most that is taken at once", name, limit);
    return fail(OUT_OF_REACH, "cannot read %s: %s", name, strerror(errno));
}

int read_stdin(buffer *out, size_t limit)
{
    return read_all(out, STDIN_FILENO, "standard input", limit);
}

int read_file(buffer *out, const char *path, size_t limit)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return fail(OUT_OF_REACH, "cannot open %s: %s", path, strerror(errno));
    int code = read_all(out, fd, path, limit);
    close(fd);
    return code;
}

int write_stdout(const uint8_t *p, size_t n)
{
    if (n > 0)
        (void)fwrite(p, 1, n, stdout);
    return finish_output();
}

int make_folder(const char *path)
{
    if (path == NULL || mkdir(path, 0700) == 0 || errno == EEXIST)
        return DONE;
    return fail(OUT_OF_REACH, "cannot make the folder %s: %s", path, strerror(errno));
}

/* ---- new files ---- */

static int fail_exists(const new_file *f)
{
    return fail(REFUSED, "%s exists already and is never overwritten: choose another name", f->given);
}

static int fail_create(const new_file *f)
{
    return fail(OUT_OF_REACH, "cannot create %s: %s", f->given, strerror(errno));
}

int new_file_create(new_file *f, int *fd, const char *path)
{
    char folder[PATH_MAX];
    char real[PATH_MAX];
    const char *slash = strrchr(path, '/');
    const char *name = slash != NULL ? slash + 1 : path;
    f->given = path;
    (void)snprintf(folder, sizeof(folder), "%.*s", (int)(name - path), path);
    if (realpath(folder[0] != '\0' ? folder : ".", real) == NULL)
        return fail_create(f);
    int n = snprintf(f->path, sizeof(f->path), "%s/%s", real, name);
    int m = snprintf(f->temporary, sizeof(f->temporary), "%s/%s.XXXXXX", real, name);
    if (n < 0 || m < 0 || m >= PATH_MAX || name[0] == '\0')
        return fail(WRONG_USAGE, "%s cannot be the name of a file", path);
    struct stat st;
    if (lstat(f->path, &st) == 0) /* said before the work, not behind it */
        return fail_exists(f);
    *fd = mkostemp(f->temporary, O_CLOEXEC);
    return *fd >= 0 ? DONE : fail_create(f);
}

/* Not every file system has both ways. */
int new_file_name(const new_file *f)
{
    if (renameat2(AT_FDCWD, f->temporary, AT_FDCWD, f->path, RENAME_NOREPLACE) != 0 &&
        (errno == EEXIST || link(f->temporary, f->path) != 0))
        return errno == EEXIST ? fail_exists(f) : fail_create(f);
    char folder[PATH_MAX];
    (void)snprintf(folder, sizeof(folder), "%.*s", (int)(strrchr(f->path, '/') - f->path + 1), f->path);
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        (void)fsync(fd); /* some file systems cannot */
        close(fd);
    }
    return DONE;
}

void new_file_remove(const new_file *f)
{
    (void)unlink(f->temporary);
}

char *beside_key(const char *path, const char *ending)
{
    size_t n = strlen(path);
    if (n < 4 || strcmp(path + n - 4, ".key") != 0) {
        wrong_usage("--key %s: must end in .key, because its state stands beside it", path);
        return NULL;
    }
    char *out = NULL;
    if (asprintf(&out, "%.*s%s", (int)(n - 4), path, ending) < 0) {
        fail(OUT_OF_REACH, "out of memory");
        return NULL;
    }
    return out;
}
