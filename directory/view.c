/* Who may sign, as a store and a folder have it: for tools that judge as the gate does, and change nothing. */
#include <stdlib.h>
#include <string.h>

#include "directory/internal.h"
#include "directory/pubs.h"
#include "directory/tables.h"
#include "envelope/error.h"

static bool put_key(void *ctx, const key_row *row)
{
    return serve_put(ctx, row);
}

static bool read_keys(signers *s, pep_error *error, const char *url)
{
    store_result result;
    store_error why;
    store *from = store_open(&result, &why, url, directory_migrations, DIRECTORY_MIGRATIONS);
    if (from == NULL)
        return pep_fail(error, PEP_STORE_FAILED, "%s", why.text) == PEP_OK;
    result = rows_all_keys(from, put_key, s);
    if (result != STORE_OK)
        (void)pep_fail(error, PEP_STORE_FAILED, "cannot read the directory: %s", store_why(from));
    store_close(from);
    return result == STORE_OK;
}

static bool add_file(void *ctx, pep_error *error, const pub_file *file)
{
    folder_list *list = ctx;
    folder_file *more = realloc(list->files, (list->count + 1) * sizeof *more);
    if (more == NULL)
        return pep_fail(error, PEP_NO_MEMORY, "out of memory while reading %s", file->path) == PEP_OK;
    list->files = more;
    memcpy(more[list->count].id, file->statement.id, sizeof more[list->count].id);
    memcpy(more[list->count].hash, file->statement.hash, sizeof more[list->count].hash);
    list->count++;
    return true;
}

static int by_id(const void *a, const void *b)
{
    return strcmp(((const folder_file *)a)->id, ((const folder_file *)b)->id);
}

/* Whose files are there: else those that the operator vouched for would all be strangers. */
static bool read_ids(signers *s, pep_error *error, const char *records_dir)
{
    folder_list list = {NULL, 0};
    signer_ids ids;
    bool ok = pubs_read(error, records_dir, add_file, &list);
    if (ok && list.count > 1)
        qsort(list.files, list.count, sizeof list.files[0], by_id);
    if (ok && !folder_ids(&ids, &list))
        ok = pep_fail(error, PEP_NO_MEMORY, "out of memory") == PEP_OK;
    else if (ok)
        signers_provision(s, &ids);
    folder_list_free(&list);
    return ok;
}

bool directory_view(signers *s, pep_error *error, const char *store_url, const char *records_dir)
{
    return (records_dir == NULL || read_ids(s, error, records_dir)) && read_keys(s, error, store_url);
}
