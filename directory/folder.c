/* The operator's folder: what stands there is in the directory, and where it differs it is the operator who is right.
 */
#include <stdlib.h>
#include <string.h>

#include "directory/internal.h"
#include "directory/pubs.h"
#include "envelope/error.h"

typedef struct {
    pub_file *files;
    size_t count, room;
} folder;

/* ---- reading ---- */

static int by_id(const void *a, const void *b)
{
    return strcmp(((const pub_file *)a)->statement.id, ((const pub_file *)b)->statement.id);
}

static bool keep(void *ctx, pep_error *error, const pub_file *file)
{
    folder *f = ctx;
    if (f->count == f->room) {
        size_t room = f->room == 0 ? 16 : f->room * 2;
        pub_file *more = realloc(f->files, room * sizeof *more);
        if (more == NULL) {
            (void)pep_fail(error, PEP_NO_MEMORY, "out of memory while reading %s", file->path);
            return false;
        }
        f->files = more;
        f->room = room;
    }
    f->files[f->count++] = *file;
    return true;
}

/* The views in a statement pointed into what was copied. */
static bool settle(folder *f, pep_error *error)
{
    if (f->count > 1)
        qsort(f->files, f->count, sizeof f->files[0], by_id);
    for (size_t i = 0; i < f->count; i++) {
        pub_file *file = &f->files[i];
        if (i > 0 && by_id(file - 1, file) == 0) {
            (void)pep_fail(error, PEP_BAD_FILE, "%s is a second record for the id %s: remove one", file->path,
                           file->statement.id);
            return false;
        }
        if (pep_statement_parse(&file->statement, file->bytes, file->n) != PEP_OK) {
            (void)pep_fail(error, PEP_BAD_FILE, "%s holds no valid record", file->path);
            return false;
        }
    }
    return true;
}

static bool make_list(folder_list *list, const folder *f)
{
    list->files = calloc(f->count + 1, sizeof list->files[0]);
    if (list->files == NULL)
        return false;
    list->count = f->count;
    for (size_t i = 0; i < f->count; i++) {
        memcpy(list->files[i].id, f->files[i].statement.id, sizeof list->files[i].id);
        memcpy(list->files[i].hash, f->files[i].statement.hash, sizeof list->files[i].hash);
    }
    return true;
}

void folder_list_free(folder_list *list)
{
    free(list->files);
    *list = (folder_list){NULL, 0};
}

bool folder_lists_equal(const folder_list *a, const folder_list *b)
{
    if (a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++)
        if (strcmp(a->files[i].id, b->files[i].id) != 0 ||
            memcmp(a->files[i].hash, b->files[i].hash, sizeof a->files[i].hash) != 0)
            return false;
    return true;
}

static int by_file_id(const void *a, const void *b)
{
    return strcmp(a, ((const folder_file *)b)->id);
}

bool folder_list_has(const folder_list *list, const char *id)
{
    return list->count > 0 && bsearch(id, list->files, list->count, sizeof list->files[0], by_file_id) != NULL;
}

bool folder_ids(signer_ids *out, const folder_list *list)
{
    size_t bytes = list->count * (sizeof(char *) + PEP_ID_MAX + 1);
    *out = (signer_ids){malloc(bytes + 1), list->count};
    if (out->ids == NULL)
        return false;
    char *text = (char *)(out->ids + list->count);
    for (size_t i = 0; i < list->count; i++) {
        size_t n = strlen(list->files[i].id) + 1;
        memcpy(text, list->files[i].id, n);
        out->ids[i] = text;
        text += n;
    }
    return true;
}

/* ---- importing ---- */

static store_result fail_taken(pep_error *error, const pub_file *file)
{
    (void)pep_fail(error, PEP_BAD_FILE, "%s holds a key that is, or was, another device's: the device needs new keys",
                   file->path);
    return STORE_FAILED;
}

/* Whose signature may stand around the statement, beside the device's. */
static store_result find_trust(registrar *r, store *s, pep_trust *trust, key_row *admin, const pep_statement *st,
                               const directory_rules *rules)
{
    bool found;
    *trust = (pep_trust){.authorities = (const uint8_t(*)[PEP_SIGN_PUBLIC_BYTES])rules->authorities,
                         .authority_count = rules->authority_count};
    store_result result = rows_key(s, admin, &found, st->signer_kid);
    if (result == STORE_OK && found && registrar_is_admin(r, admin, pep_now_us() / 1000000))
        trust->admin_public = admin->sign_public;
    return result;
}

static store_result import_next(registrar *r, store *s, pep_error *error, const pub_file *file, const key_row *head,
                                const directory_rules *rules)
{
    statement_row last = {.n = 0};
    pep_trust trust;
    pep_head h;
    key_row admin;
    bool found;
    bool taken;
    store_result result = rows_statement(s, &last, &found, head->id, head->position);
    if (result == STORE_OK && !found)
        return STORE_DAMAGED;
    if (result == STORE_OK)
        result = find_trust(r, s, &trust, &admin, &file->statement, rules);
    if (result == STORE_OK)
        result = chain_keys_taken(s, &taken, &file->statement, head, false);
    if (result != STORE_OK)
        return result;
    if (taken)
        return fail_taken(error, file);
    chain_head(&h, head, &last);
    bool follows = pep_head_advance(&h, NULL, &file->statement, &trust) == PEP_OK;
    const chain_link link = {.statement = &file->statement, .bytes = {file->bytes, file->n}};
    return chain_append(s, head, &link, !follows, pep_now_us());
}

static store_result import_first(store *s, pep_error *error, const pub_file *file)
{
    bool taken;
    const chain_link link = {.statement = &file->statement, .bytes = {file->bytes, file->n}};
    store_result result = chain_keys_taken(s, &taken, &file->statement, NULL, true);
    if (result != STORE_OK)
        return result;
    return taken ? fail_taken(error, file) : chain_begin(s, &link, true);
}

static store_result provision(store *s, const key_row *head)
{
    uint64_t change;
    if (head->provisioned)
        return STORE_OK;
    store_result result = rows_begin_change(s, &change);
    return result == STORE_OK ? rows_provision(s, head->id, change) : result;
}

static store_result import_file(registrar *r, store *s, pep_error *error, const pub_file *file,
                                const directory_rules *rules)
{
    key_row head;
    bool found;
    uint64_t position = 0;
    const pep_statement *st = &file->statement;
    store_result result = rows_head(s, &head, &found, st->id);
    if (result != STORE_OK || !found)
        return result == STORE_OK ? import_first(s, error, file) : result;
    result = rows_position_of(s, &position, st->id, st->hash);
    if (result == STORE_OK && position == 0)
        result = import_next(r, s, error, file, &head, rules);
    return result == STORE_OK ? provision(s, &head) : result;
}

static store_result import_all(registrar *r, store *s, pep_error *error, const folder *f, const directory_rules *rules)
{
    store_result result = STORE_OK;
    for (size_t i = 0; result == STORE_OK && i < f->count; i++) {
        error->text[0] = '\0';
        result = import_file(r, s, error, &f->files[i], rules);
        if (result != STORE_OK && error->text[0] == '\0')
            (void)pep_fail(error, PEP_STORE_FAILED, "cannot import %s into the store: %s", f->files[i].path,
                           store_why(s));
    }
    return result;
}

store_result folder_import(registrar *r, store *s, folder_list *list, pep_error *error, const directory_rules *rules)
{
    folder f = {0};
    store_result result = STORE_FAILED;
    *list = (folder_list){NULL, 0};
    if (r->records_dir == NULL || (pubs_read(error, r->records_dir, keep, &f) && settle(&f, error)))
        result = import_all(r, s, error, &f, rules);
    if (result == STORE_OK && !make_list(list, &f)) {
        (void)pep_fail(error, PEP_NO_MEMORY, "out of memory");
        result = STORE_FAILED;
    }
    free(f.files);
    return result;
}
