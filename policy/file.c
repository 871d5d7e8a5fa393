#include "policy/file.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FIRST_BYTES ((size_t)16 * 1024)

/* The broker has dropped its privileges by now: whose eyes could not read it is half of the answer. */
static void say_unreadable(file_fault *fault, int error)
{
    const struct passwd *user = getpwuid(geteuid());
    snprintf(fault->text, sizeof(fault->text),
             "cannot be read by user %.32s: %.80s; check the path and its permissions",
             user != NULL ? user->pw_name : "without a name", strerror(error));
}

static void say(file_fault *fault, const char *what)
{
    snprintf(fault->text, sizeof(fault->text), "%s", what);
}

/* A FIFO or a device could hold the broker up for ever, so nothing is read before this is known. */
static int open_regular(file_fault *fault, const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0)
        say_unreadable(fault, errno);
    else if (!S_ISREG(st.st_mode))
        say(fault, "is not a regular file; a policy is read from files only");
    else
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}

/* Makes room for some more and a NUL. */
static bool make_room(file_fault *fault, char **text, size_t *cap, size_t n)
{
    if (*cap - n > 1)
        return true;
    size_t wanted = *cap == 0 ? FIRST_BYTES : *cap * 2;
    char *grown = realloc(*text, wanted);
    if (grown == NULL) {
        say(fault, "out of memory");
        return false;
    }
    *text = grown;
    *cap = wanted;
    return true;
}

/* Reads to the end, whatever length was promised. The buffer is the caller's in any case. */
static bool read_all(file_fault *fault, char **text, size_t *n, int fd)
{
    for (size_t cap = 0; make_room(fault, text, &cap, *n);) {
        ssize_t got = read(fd, *text + *n, cap - *n - 1);
        if (got < 0 && errno != EINTR) {
            say_unreadable(fault, errno);
            return false;
        }
        *n += got > 0 ? (size_t)got : 0;
        if (*n > FILE_BYTES_MAX) {
            say(fault, "is larger than 64 MiB; make it smaller");
            return false;
        }
        (*text)[*n] = '\0';
        if (got == 0)
            return true;
    }
    return false;
}

static bool is_text(file_fault *fault, const char *text, size_t n)
{
    size_t clean = strlen(text);
    unsigned line = 1;
    for (size_t i = 0; i < clean; i++)
        line += text[i] == '\n';
    if (clean < n)
        snprintf(fault->text, sizeof(fault->text), "holds a NUL byte in line %u; a policy is text", line);
    return clean == n;
}

char *file_read(file_fault *fault, const char *path)
{
    int fd = open_regular(fault, path);
    if (fd < 0)
        return NULL;
    char *text = NULL;
    size_t n = 0;
    bool ok = read_all(fault, &text, &n, fd) && is_text(fault, text, n);
    close(fd);
    if (!ok) {
        free(text);
        return NULL;
    }
    return text;
}
