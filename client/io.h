/* Bytes in and out: buffers that are wiped, stdin and files with a limit, stdout. */
#ifndef CLIENT_IO_H
#define CLIENT_IO_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What the tool takes into memory at once. An envelope is its plaintext, a topic, and little more. */
#define PLAIN_MAX    ((size_t)16 * 1024 * 1024)
#define ENVELOPE_MAX (PLAIN_MAX + (size_t)128 * 1024)

/* Memory that holds plaintext or secrets: wiped when it moves or goes. */
typedef struct {
    uint8_t *p;
    size_t n, cap;
} buffer;

/* Makes room for `cap` bytes, keeping the first n. False: out of memory. */
bool buffer_reserve(buffer *b, size_t cap);
void buffer_free(buffer *b);

/* Appends what one read(2) gives, at most `limit` bytes in all. Returns read's own result; errno is EFBIG at the limit.
 */
long buffer_read(buffer *b, int fd, size_t limit);

/* Reads stdin, or the file `path`, to the end. Returns 0, or 3 after a line on stderr. */
int read_stdin(buffer *out, size_t limit);
int read_file(buffer *out, const char *path, size_t limit);

/* Writes to stdout and flushes it. Returns 0, or 3 after a line on stderr. */
int write_stdout(const uint8_t *p, size_t n);

/* Makes the folder, for its owner alone, where it is not there yet; NULL: this one. 0, or 3 after a line on stderr. */
int make_folder(const char *path);

/* A file that has its name when it is complete, and never takes another one's place. */
typedef struct {
    const char *given;                        /* what the user calls it */
    char path[PATH_MAX], temporary[PATH_MAX]; /* absolute */
} new_file;

/*
 * Makes the temporary file beside `path`, which stays where it is, with mode 0600, and opens it: *fd is the caller's.
 * 0, or an exit code after a line on stderr; then there is nothing to remove.
 */
int new_file_create(new_file *f, int *fd, const char *path);

/* Gives it its name. 0, or an exit code after a line on stderr. */
int new_file_name(const new_file *f);

/* Removes the temporary file, where it still is one. */
void new_file_remove(const new_file *f);

/* A new string: `path` with its ending `.key` replaced. NULL after a line on stderr where it has no such ending. */
char *beside_key(const char *path, const char *ending);

#endif
