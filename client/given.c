#include "client/given.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <uthash.h>

#include "client/print.h"

#define ENDING ".pub"

typedef struct {
    char id[PEP_ID_MAX + 1];
    char *path;
    bool twice; /* another file has this id, too */
    bool pinned;
    UT_hash_handle hh;
} given_file;

struct given {
    given_file *files; /* uthash */
};

/* ---- looking ---- */

static given_file *find(const given *g, const char *id)
{
    given_file *f;
    HASH_FIND_STR(g->files, id, f);
    return f;
}

static bool add(given *g, const char *id, const char *path)
{
    given_file *f = find(g, id);
    if (f != NULL) {
        f->twice = true;
        return true;
    }
    f = calloc(1, sizeof(*f));
    if (f == NULL)
        return false;
    (void)snprintf(f->id, sizeof(f->id), "%s", id);
    f->path = strdup(path);
    if (f->path != NULL)
        HASH_ADD_STR(g->files, id, f);
    if (f->path != NULL && f->hh.tbl != NULL)
        return true;
    free(f->path);
    free(f);
    return false;
}

/* A file that holds no record is still the one of whom it is called after. */
static bool add_file(given *g, const char *path)
{
    uint8_t bytes[PEP_STATEMENT_BYTES_MAX];
    size_t n;
    pep_statement s;
    const char *slash = strrchr(path, '/');
    char *name = strdup(slash != NULL ? slash + 1 : path);
    if (name == NULL)
        return false;
    char *ending = strrchr(name, '.');
    if (ending != NULL && strcmp(ending, ENDING) == 0)
        *ending = '\0';
    bool added = true;
    if (pep_statement_load(&s, bytes, &n, NULL, path) == PEP_OK)
        added = add(g, s.id, path);
    else if (pep_id_valid(name, strlen(name)))
        added = add(g, name, path);
    free(name);
    return added;
}

static bool is_record_name(const char *name)
{
    const char *dot = strrchr(name, '.');
    return name[0] != '.' && dot != NULL && strcmp(dot, ENDING) == 0;
}

static bool add_folder(given *g, const char *path)
{
    DIR *folder = opendir(path);
    const struct dirent *item;
    bool added = true;
    if (folder == NULL)
        return true; /* who needs it to be there has read it before */
    while (added && (item = readdir(folder)) != NULL) {
        char file[4096];
        if (is_record_name(item->d_name) &&
            (size_t)snprintf(file, sizeof(file), "%s/%s", path, item->d_name) < sizeof(file))
            added = add_file(g, file);
    }
    closedir(folder);
    return added;
}

given *given_read(const char *path)
{
    struct stat st;
    given *g = calloc(1, sizeof(*g));
    if (g == NULL || stat(path, &st) != 0)
        return g;
    if (S_ISDIR(st.st_mode) ? add_folder(g, path) : add_file(g, path))
        return g;
    given_free(g);
    return NULL;
}

void given_free(given *g)
{
    if (g == NULL)
        return;
    given_file *f = g->files;
    HASH_CLEAR(hh, g->files);
    while (f != NULL) { /* the entries are still a list */
        given_file *next = f->hh.next;
        free(f->path);
        free(f);
        f = next;
    }
    free(g);
}

/* ---- pinning ---- */

static pep_reason refuse(pep_error *error, const char *path, pep_reason reason, const char *why)
{
    (void)snprintf(error->text, sizeof(error->text), "%.200s: %s", path, why);
    return reason;
}

static pep_reason load(pep_statement *s, uint8_t *bytes, size_t *n, pep_error *error, const given_file *f)
{
    if (f->twice)
        return refuse(error, f->path, PEP_BAD_FILE, "another file beside it is of the same id: remove one");
    pep_reason reason = pep_statement_load(s, bytes, n, error, f->path);
    if (reason == PEP_OK && strcmp(s->id, f->id) != 0)
        return refuse(error, f->path, PEP_WRONG_ID, pep_reason_text(PEP_WRONG_ID));
    return reason;
}

/* What is pinned was learnt since, and counts. */
static pep_reason judge(const given_file *f, pep_reason reason, bool known)
{
    bool contradicts = reason == PEP_UNPROVEN_KEY || reason == PEP_BROKEN_CHAIN || reason == PEP_KID_TAKEN;
    if (known && contradicts)
        warn("%s does not fit what is pinned of %s, which counts: %s (%s)", f->path, f->id, pep_reason_name(reason),
             pep_reason_text(reason));
    /* Whose certificate must be seen, the directory shows it. */
    return known || reason == PEP_NOT_CERTIFIED ? PEP_OK : reason;
}

pep_reason given_pin(given *g, pep_pins *pins, pep_error *error, const char *id)
{
    uint8_t bytes[PEP_STATEMENT_BYTES_MAX];
    size_t n;
    pep_statement s;
    given_file *f = g != NULL ? find(g, id) : NULL;
    if (f == NULL || f->pinned)
        return PEP_OK;
    pep_reason reason = load(&s, bytes, &n, error, f);
    if (reason != PEP_OK)
        return reason;
    reason = judge(f, pep_pins_give(pins, error, &s, bytes, n), pep_pins_find_id(pins, id) != NULL);
    f->pinned = reason == PEP_OK;
    return reason;
}

void given_pin_known(given *g, pep_pins *pins)
{
    given_file *f;
    given_file *next;
    pep_error error;
    HASH_ITER(hh, g->files, f, next)
    {
        if (pep_pins_find_id(pins, f->id) != NULL)
            (void)!given_pin(g, pins, &error, f->id);
    }
}
