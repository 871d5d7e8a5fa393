/*
 * What `pep backup` and `pep restore` share: the broker's state folder, worked in as its owner, and the backup's form.
 *
 * A backup is one SQLite database: the directory's tables as they were at one moment, and beside them
 *   files   (name, content)    gate.key, gate.pub and gate.cert as they are; `sum`: SHA-256 over all the rest
 *   replay  (number, bytes)    the replay state: its head (number 0), then each slot that is used
 */
#ifndef CLIENT_ARCHIVE_H
#define CLIENT_ARCHIVE_H

#include <limits.h>
#include <sys/types.h>

#include "client/print.h"
#include "directory/tables.h"

#define SUM_BYTES 32

/* The broker's folder. Root works in it as its owner, so that what it makes there is the broker's to read. */
typedef struct {
    char path[PATH_MAX]; /* absolute */
    uid_t uid;
    gid_t gid;
} state_folder;

/* 0, or 3 after a line on stderr. */
int state_folder_find(state_folder *out, const char *path);
int state_folder_become_owner(const state_folder *folder);
void state_folder_become_self(void);

/* FOLDER/NAME, or NULL after a line where it is too long. */
const char *state_folder_path(char out[PATH_MAX], const state_folder *folder, const char *name);

/* The store's URL: `given`, or the folder's directory.db. 0, or 2 or 3 after a line on stderr. */
int choose_store(char out[PATH_MAX + 8], const char *given, const state_folder *folder);

/* True where `url` is that of a SQLite file, and then its path. */
bool store_file(const char **path, const char *url);

/* The directory's tables: how their rows are read, in an order that is always the same, and written. */
typedef struct {
    const char *select;
    const char *insert;
} archive_table;

#define ARCHIVE_TABLES 7
extern const archive_table archive_tables[ARCHIVE_TABLES];

extern const char *const archive_files[]; /* names of files in the state folder; the last is NULL */

/* Adds the tables that no directory has. */
store_result archive_make(store *archive);

/* Computes the sum over everything in it. */
store_result archive_sum(uint8_t sum[SUM_BYTES], store *archive);

#endif
