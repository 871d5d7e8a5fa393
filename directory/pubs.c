#include "directory/pubs.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "directory/signers.h"
#include "envelope/error.h"

static bool is_pub_name(const char *name)
{
    const char *dot = strrchr(name, '.');
    return name[0] != '.' && dot != NULL && strcmp(dot, ".pub") == 0;
}

static bool read_one(pep_error *error, pub_file *file, const char *folder, const char *name)
{
    if ((size_t)snprintf(file->path, sizeof file->path, "%s/%s", folder, name) >= sizeof file->path) {
        (void)pep_fail(error, PEP_CANNOT_READ, "%s: a path in it is too long", folder);
        return false;
    }
    return pep_statement_load(&file->statement, file->bytes, &file->n, error, file->path) == PEP_OK;
}

bool pubs_read(pep_error *error, const char *folder, bool (*take)(void *ctx, pep_error *error, const pub_file *file),
               void *ctx)
{
    DIR *open = opendir(folder);
    if (open == NULL) {
        (void)pep_fail_errno(error, PEP_CANNOT_READ, "read the folder", folder);
        return false;
    }
    bool good = true;
    struct dirent *item;
    while (good && (errno = 0, item = readdir(open)) != NULL) {
        pub_file file = {.n = 0};
        if (is_pub_name(item->d_name))
            good = read_one(error, &file, folder, item->d_name) && take(ctx, error, &file);
    }
    if (good && errno != 0) {
        (void)pep_fail_errno(error, PEP_CANNOT_READ, "read the folder", folder);
        good = false;
    }
    closedir(open);
    return good;
}

/* ---- a gate without a store ---- */

static signer_spec spec_of(const pep_statement *st)
{
    signer_spec spec = {.id = st->id, .head = true};
    if (st->kind == PEP_STATEMENT_REVOCATION) {
        spec.state = SIGNER_REVOKED;
        spec.ended_s = st->issued_s;
        spec.cutoff = st->cutoff;
        memcpy(spec.kid, st->old_kid, sizeof spec.kid);
        return spec;
    }
    spec.has_key = true;
    spec.not_after_s = st->record.not_after_s;
    memcpy(spec.kid, st->record.sign_kid, sizeof spec.kid);
    memcpy(spec.sign_public, st->record.sign_public, sizeof spec.sign_public);
    return spec;
}

static bool put_file(void *ctx, pep_error *error, const pub_file *file)
{
    signers *s = ctx;
    signer known;
    signer_spec spec = spec_of(&file->statement);
    if (signers_find(s, &known, spec.kid))
        (void)pep_fail(error, PEP_BAD_FILE, "%s holds a signing key that another record holds already: remove one",
                       file->path);
    else if (signers_find_id(s, &known, spec.id))
        (void)pep_fail(error, PEP_BAD_FILE, "%s is a second record for the id %s: remove one", file->path, spec.id);
    else if (signers_put(s, &spec))
        return true;
    else
        (void)pep_fail(error, PEP_NO_MEMORY, "out of memory while reading %s", file->path);
    return false;
}

bool signers_load_folder(signers *s, pep_error *error, const char *path)
{
    return pubs_read(error, path, put_file, s);
}
