#include "client/archive.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- the state folder ---- */

int state_folder_find(state_folder *out, const char *path)
{
    struct stat st;
    if (realpath(path, out->path) == NULL || stat(out->path, &st) != 0)
        return fail(OUT_OF_REACH, "cannot reach the state folder %s: %s; --state names it, as plugin_opt_state does",
                    path, strerror(errno));
    if (!S_ISDIR(st.st_mode))
        return fail(OUT_OF_REACH, "%s is not a folder; --state names it, as plugin_opt_state does", path);
    out->uid = st.st_uid;
    out->gid = st.st_gid;
    return DONE;
}

int state_folder_become_owner(const state_folder *folder)
{
    if (geteuid() != 0 || folder->uid == 0)
        return DONE;
    if (setegid(folder->gid) != 0 || seteuid(folder->uid) != 0)
        return fail(OUT_OF_REACH, "cannot work as the owner of %s: %s", folder->path, strerror(errno));
    return DONE;
}

void state_folder_become_self(void)
{
    if (seteuid(getuid()) != 0 || setegid(getgid()) != 0)
        abort(); /* cannot be: both are this process's own */
}

const char *state_folder_path(char out[PATH_MAX], const state_folder *folder, const char *name)
{
    int n = snprintf(out, PATH_MAX, "%s/%s", folder->path, name);
    if (n > 0 && n < PATH_MAX)
        return out;
    (void)fail(OUT_OF_REACH, "%s: the path is too long", folder->path);
    return NULL;
}

int choose_store(char out[PATH_MAX + 8], const char *given, const state_folder *folder)
{
    char file[PATH_MAX];
    if (given == NULL && state_folder_path(file, folder, "directory.db") == NULL)
        return OUT_OF_REACH;
    int n = given != NULL ? snprintf(out, PATH_MAX + 8, "%s", given) : snprintf(out, PATH_MAX + 8, "sqlite:%s", file);
    if (n < 0 || n >= PATH_MAX + 8 || !store_url_valid(out)) /* it may hold a password: it is not repeated */
        return fail(WRONG_USAGE, "--store: neither sqlite:/absolute/path nor a valid postgresql://...");
    return DONE;
}

bool store_file(const char **path, const char *url)
{
    static const char scheme[] = "sqlite:";
    *path = url + strlen(scheme);
    return strncmp(url, scheme, strlen(scheme)) == 0;
}

/* ---- the backup's form ---- */

const archive_table archive_tables[ARCHIVE_TABLES] = {
    {"SELECT name, number FROM meta ORDER BY name",
     "INSERT INTO meta (name, number) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET number = excluded.number"},
    {"SELECT id, position, version, hash, kind, bytes, certificate FROM statements ORDER BY id, position",
     "INSERT INTO statements (id, position, version, hash, kind, bytes, certificate)"
     " VALUES ($1, $2, $3, $4, $5, $6, $7)"},
    {"SELECT kid, id, sign_public, position, state, not_after, ended, cutoff, member_of, head, provisioned, change"
     " FROM keys ORDER BY kid",
     "INSERT INTO keys (kid, id, sign_public, position, state, not_after, ended, cutoff, member_of, head, provisioned,"
     " change) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"},
    {"SELECT kid, id FROM agree_keys ORDER BY kid", "INSERT INTO agree_keys (kid, id) VALUES ($1, $2)"},
    {"SELECT kid, id, expires, used FROM tokens ORDER BY kid",
     "INSERT INTO tokens (kid, id, expires, used) VALUES ($1, $2, $3, $4)"},
    {"SELECT kid, seq, expires FROM commands ORDER BY kid, seq",
     "INSERT INTO commands (kid, seq, expires) VALUES ($1, $2, $3)"},
    {"SELECT gate, topic FROM published ORDER BY gate, topic", "INSERT INTO published (gate, topic) VALUES ($1, $2)"},
};

const char *const archive_files[] = {"gate.key", "gate.pub", "gate.cert", NULL};

store_result archive_make(store *archive)
{
    store_result result =
        store_run(archive, "CREATE TABLE files (name TEXT PRIMARY KEY, content BLOB NOT NULL)", NULL, 0, NULL, NULL);
    if (result != STORE_OK)
        return result;
    return store_run(archive, "CREATE TABLE replay (number INTEGER PRIMARY KEY, bytes BLOB NOT NULL)", NULL, 0, NULL,
                     NULL);
}

/* Type and length before what has one: no two contents look alike. */
static bool add_row(void *ctx, const store_value *columns, size_t n)
{
    crypto_hash_sha256_state *state = ctx;
    for (size_t i = 0; i < n; i++) {
        bool has_bytes = columns[i].type == STORE_TEXT || columns[i].type == STORE_BLOB;
        uint64_t number = has_bytes ? columns[i].n : (uint64_t)columns[i].number;
        uint8_t head[9] = {(uint8_t)columns[i].type};
        for (size_t at = 1; at < sizeof(head); at++, number >>= 8)
            head[at] = (uint8_t)number;
        crypto_hash_sha256_update(state, head, sizeof(head));
        if (has_bytes)
            crypto_hash_sha256_update(state, columns[i].p, columns[i].n);
    }
    return true;
}

store_result archive_sum(uint8_t sum[SUM_BYTES], store *archive)
{
    static const char *const others[] = {"SELECT name, content FROM files WHERE name <> 'sum' ORDER BY name",
                                         "SELECT number, bytes FROM replay ORDER BY number"};
    crypto_hash_sha256_state state;
    crypto_hash_sha256_init(&state);
    store_result result = STORE_OK;
    for (size_t i = 0; i < ARCHIVE_TABLES && result == STORE_OK; i++)
        result = store_run(archive, archive_tables[i].select, NULL, 0, add_row, &state);
    for (size_t i = 0; i < 2 && result == STORE_OK; i++)
        result = store_run(archive, others[i], NULL, 0, add_row, &state);
    crypto_hash_sha256_final(&state, sum);
    return result;
}
