/* The .pub files of a folder. */
#ifndef DIRECTORY_PUBS_H
#define DIRECTORY_PUBS_H

#include "pep.h"

/* A statement as read from one; bytes are inline, so that it can be parsed again. */
typedef struct {
    char path[4096];
    uint8_t bytes[PEP_STATEMENT_BYTES_MAX];
    size_t n;
    pep_statement statement; /* its views point into bytes */
} pub_file;

/*
 * Reads every *.pub of a folder (not those below it; names beginning with a dot are passed over), verified as
 * pep_statement_load does, and hands each to `take`, which is asked to fill `error` where it returns false. The first
 * that is wrong ends it.
 */
bool pubs_read(pep_error *error, const char *folder, bool (*take)(void *ctx, pep_error *error, const pub_file *file),
               void *ctx);

#endif
