#include "traces.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* nftw hands nothing on. */
static const char *wanted;
static long found;
static int telling;

static long count_in(const char *bytes, size_t n)
{
    long count = 0;
    size_t text_n = strlen(wanted);
    for (const char *at; (at = memmem(bytes, n, wanted, text_n)) != NULL; count++) {
        n -= (size_t)(at + 1 - bytes);
        bytes = at + 1;
    }
    return count;
}

/* All of it: it may grow while it is read. NULL: it has gone. */
static char *read_whole(const char *path, size_t *n)
{
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    size_t cap = 1 << 16;
    char *bytes = fd < 0 ? NULL : malloc(cap);
    *n = 0;
    for (ssize_t more; bytes != NULL && (more = read(fd, bytes + *n, cap - *n)) > 0;) {
        *n += (size_t)more;
        if (*n < cap)
            continue;
        cap *= 2;
        char *larger = realloc(bytes, cap);
        if (larger == NULL)
            free(bytes);
        bytes = larger;
    }
    if (fd >= 0)
        close(fd);
    return bytes;
}

static int look_at(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    size_t n;
    (void)at;
    if (kind != FTW_F || !S_ISREG(st->st_mode))
        return 0;
    char *bytes = read_whole(path, &n);
    long here = bytes == NULL ? 0 : count_in(bytes, n);
    free(bytes);
    if (here > 0 && telling)
        fprintf(stderr, "%s: %ld times in %s\n", wanted, here, path);
    found += here;
    return 0;
}

long traces_in_folder(const char *folder, const char *text, int tell)
{
    wanted = text;
    telling = tell;
    found = 0;
    return nftw(folder, look_at, 16, FTW_PHYS) == 0 ? found : -1;
}
