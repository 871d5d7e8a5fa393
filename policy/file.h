/* Reading one file of an operator's whole. */
#ifndef POLICY_FILE_H
#define POLICY_FILE_H

#include <stddef.h>

#define FILE_BYTES_MAX ((size_t)64 * 1024 * 1024)

/* What is wrong; what would be right. */
typedef struct {
    char text[256];
} file_fault;

/*
 * The text of a regular file of at most FILE_BYTES_MAX bytes without NUL; the caller frees it. NULL with `fault`
 * filled.
 */
char *file_read(file_fault *fault, const char *path);

#endif
