/* The records that one believes, from a file or a folder of .pub files. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <uthash.h>

#include "envelope/error.h"
#include "pep/directory.h"

typedef struct {
    pep_record record;
    UT_hash_handle by_kid;
    UT_hash_handle by_id;
} entry;

struct pep_keyring {
    entry *kids; /* uthash heads */
    entry *ids;
    entry **sorted; /* by id */
    size_t count;
};

static bool in_hash(const UT_hash_handle *handle)
{
    return handle->tbl != NULL; /* what uthash leaves when it had no memory (HASH_NONFATAL_OOM) */
}

static pep_reason add_entry(pep_keyring *ring, entry *e)
{
    HASH_ADD(by_kid, ring->kids, record.sign_kid, PEP_KID_BYTES, e);
    if (!in_hash(&e->by_kid))
        return PEP_NO_MEMORY;
    HASH_ADD_KEYPTR(by_id, ring->ids, e->record.id, strlen(e->record.id), e);
    if (!in_hash(&e->by_id)) {
        HASH_DELETE(by_kid, ring->kids, e);
        return PEP_NO_MEMORY;
    }
    ring->count++;
    return PEP_OK;
}

static pep_reason add_record(pep_keyring *ring, pep_error *error, const char *path, const pep_record *record)
{
    if (pep_keyring_find(ring, record->sign_kid) != NULL)
        return pep_fail(error, PEP_BAD_FILE, "%s holds a signing key that another record holds already: remove one",
                        path);
    if (pep_keyring_find_id(ring, record->id) != NULL)
        return pep_fail(error, PEP_BAD_FILE, "%s is a second record for the id %s: remove one", path, record->id);
    entry *e = calloc(1, sizeof *e);
    if (e != NULL)
        e->record = *record;
    if (e != NULL && add_entry(ring, e) == PEP_OK)
        return PEP_OK;
    free(e);
    return pep_fail(error, PEP_NO_MEMORY, "out of memory while reading %s", path);
}

static pep_reason add_file(pep_keyring *ring, pep_error *error, const char *path)
{
    uint8_t bytes[PEP_STATEMENT_BYTES_MAX];
    size_t n;
    pep_statement statement;
    pep_reason reason = pep_statement_load(&statement, bytes, &n, error, path);
    if (reason != PEP_OK || statement.kind == PEP_STATEMENT_REVOCATION) /* nobody believes what is revoked */
        return reason;
    return add_record(ring, error, path, &statement.record);
}

static bool is_record_name(const char *name)
{
    const char *dot = strrchr(name, '.');
    return name[0] != '.' && dot != NULL && strcmp(dot, ".pub") == 0;
}

static pep_reason add_folder(pep_keyring *ring, pep_error *error, const char *path)
{
    DIR *folder = opendir(path);
    if (folder == NULL)
        return pep_fail_errno(error, PEP_CANNOT_READ, "read the folder", path);
    pep_reason reason = PEP_OK;
    struct dirent *item;
    while (reason == PEP_OK && (errno = 0, item = readdir(folder)) != NULL) {
        char file[4096];
        if (!is_record_name(item->d_name))
            continue;
        if ((size_t)snprintf(file, sizeof file, "%s/%s", path, item->d_name) >= sizeof file)
            reason = pep_fail(error, PEP_CANNOT_READ, "%s: a path in it is too long", path);
        else
            reason = add_file(ring, error, file);
    }
    if (reason == PEP_OK && errno != 0)
        reason = pep_fail_errno(error, PEP_CANNOT_READ, "read the folder", path);
    closedir(folder);
    return reason;
}

static int by_record_id(const void *a, const void *b)
{
    return strcmp((*(entry *const *)a)->record.id, (*(entry *const *)b)->record.id);
}

static pep_reason sort(pep_keyring *ring, pep_error *error)
{
    entry *e;
    entry *next;
    size_t i = 0;
    ring->sorted = calloc(ring->count + 1, sizeof(entry *));
    if (ring->sorted == NULL)
        return pep_fail(error, PEP_NO_MEMORY, "out of memory");
    HASH_ITER(by_kid, ring->kids, e, next)
    {
        ring->sorted[i++] = e;
    }
    qsort(ring->sorted, ring->count, sizeof(entry *), by_record_id);
    return PEP_OK;
}

pep_reason pep_keyring_load(pep_keyring **out, pep_error *error, const char *path)
{
    struct stat st;
    *out = NULL;
    if (stat(path, &st) != 0)
        return pep_fail_errno(error, PEP_CANNOT_READ, "read", path);
    pep_keyring *ring = calloc(1, sizeof *ring);
    if (ring == NULL)
        return pep_fail(error, PEP_NO_MEMORY, "out of memory");
    pep_reason reason = S_ISDIR(st.st_mode) ? add_folder(ring, error, path) : add_file(ring, error, path);
    if (reason == PEP_OK)
        reason = sort(ring, error);
    if (reason != PEP_OK) {
        pep_keyring_free(ring);
        return reason;
    }
    *out = ring;
    return PEP_OK;
}

void pep_keyring_free(pep_keyring *ring)
{
    entry *e;
    entry *next;
    if (ring == NULL)
        return;
    HASH_CLEAR(by_id, ring->ids);
    e = ring->kids;
    HASH_CLEAR(by_kid, ring->kids);
    for (; e != NULL; e = next) { /* the entries are still a list */
        next = e->by_kid.next;
        free(e);
    }
    free(ring->sorted);
    free(ring);
}

const pep_record *pep_keyring_find(const pep_keyring *ring, const uint8_t kid[PEP_KID_BYTES])
{
    entry *e;
    HASH_FIND(by_kid, ring->kids, kid, PEP_KID_BYTES, e);
    return e == NULL ? NULL : &e->record;
}

const pep_record *pep_keyring_find_id(const pep_keyring *ring, const char *id)
{
    entry *e;
    HASH_FIND(by_id, ring->ids, id, strlen(id), e);
    return e == NULL ? NULL : &e->record;
}

size_t pep_keyring_count(const pep_keyring *ring)
{
    return ring->count;
}

const pep_record *pep_keyring_at(const pep_keyring *ring, size_t i)
{
    return i < ring->count ? &ring->sorted[i]->record : NULL;
}
