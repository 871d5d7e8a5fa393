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
