/* Epoch keys: one symmetric key of one sender, for the topics that a filter covers. */
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "envelope/cbor.h"
#include "envelope/error.h"
#include "envelope/files.h"
#include "pep/keys.h"

#define EPOCH_LABEL "PEP EPOCH KEY"

enum { EPOCH_FORMAT_VERSION = 1, EPOCH_VERSION = 0, EPOCH_KEY = 1, EPOCH_OWNER = 2, EPOCH_SCOPE = 3 };

/* SHA-256 over CBOR ["pep1 epoch", key, owner's kid, scope]: the id commits to the key, which the AEAD does not. */
static void compute_id(pep_epoch *epoch)
{
    uint8_t bytes[PEP_SCOPE_MAX + 128];
    uint8_t hash[crypto_hash_sha256_BYTES];
    pep_writer w = {.p = bytes, .cap = sizeof bytes};
    pep_write_array(&w, 4);
    pep_write_string(&w, "pep1 epoch");
    pep_write_bytes(&w, epoch->key, PEP_EPOCH_KEY_BYTES);
    pep_write_bytes(&w, epoch->owner_kid, PEP_KID_BYTES);
    pep_write_string(&w, epoch->scope);
    crypto_hash_sha256(hash, bytes, w.n);
    memcpy(epoch->epoch_id, hash, PEP_KID_BYTES);
    sodium_memzero(bytes, sizeof bytes);
}

pep_reason pep_epoch_from_key(pep_epoch *out, const uint8_t key[PEP_EPOCH_KEY_BYTES],
                              const uint8_t owner_kid[PEP_KID_BYTES], const char *scope)
{
    memset(out, 0, sizeof *out);
    if (strlen(scope) > PEP_SCOPE_MAX || !pep_filter_valid(scope, strlen(scope)))
        return PEP_BAD_ARGUMENT;
    out->scope = strdup(scope);
    if (out->scope == NULL)
        return PEP_NO_MEMORY;
    memcpy(out->key, key, PEP_EPOCH_KEY_BYTES);
    memcpy(out->owner_kid, owner_kid, PEP_KID_BYTES);
    compute_id(out);
    return PEP_OK;
}

pep_reason pep_epoch_new(pep_epoch *out, const uint8_t owner_kid[PEP_KID_BYTES], const char *scope)
{
    uint8_t key[PEP_EPOCH_KEY_BYTES];
    crypto_aead_chacha20poly1305_ietf_keygen(key);
    pep_reason reason = pep_epoch_from_key(out, key, owner_kid, scope);
    sodium_memzero(key, sizeof key);
    return reason;
}

static pep_reason parse_epoch(pep_epoch *out, pep_view bytes)
{
    pep_reader r = pep_reader_of(bytes);
    pep_map map;
    uint64_t version;
    const uint8_t *key;
    const uint8_t *owner;
    pep_view scope;
    if (!pep_map_begin(&r, &map) || map.left != 4 || !pep_map_expect(&r, &map, EPOCH_VERSION) ||
        !pep_read_uint(&r, &version) || version != EPOCH_FORMAT_VERSION || !pep_map_expect(&r, &map, EPOCH_KEY) ||
        !pep_read_fixed(&r, &key, PEP_EPOCH_KEY_BYTES) || !pep_map_expect(&r, &map, EPOCH_OWNER) ||
        !pep_read_fixed(&r, &owner, PEP_KID_BYTES) || !pep_map_expect(&r, &map, EPOCH_SCOPE) ||
        !pep_read_text(&r, &scope) || !pep_read_end(&r) || scope.n > PEP_SCOPE_MAX ||
        memchr(scope.p, 0, scope.n) != NULL)
        return PEP_BAD_FILE;
    char text[PEP_SCOPE_MAX + 1] = {0};
    memcpy(text, scope.p, scope.n);
    pep_reason reason = pep_epoch_from_key(out, key, owner, text);
    return reason == PEP_BAD_ARGUMENT ? PEP_BAD_FILE : reason;
}

pep_reason pep_epoch_load(pep_epoch *out, pep_error *error, const char *path)
{
    uint8_t bytes[ARMOR_BYTES_MAX];
    size_t n;
    memset(out, 0, sizeof *out);
    pep_reason reason = file_read_armored(bytes, &n, error, path, EPOCH_LABEL, FILE_SECRET);
    if (reason == PEP_OK) {
        reason = parse_epoch(out, (pep_view){bytes, n});
        if (reason != PEP_OK)
            reason = pep_fail(error, reason, "%s is not an epoch key that this version can read, or is damaged", path);
    }
    sodium_memzero(bytes, sizeof bytes);
    return reason;
}

pep_reason pep_epoch_save(pep_error *error, const char *path, const pep_epoch *epoch)
{
    uint8_t bytes[PEP_SCOPE_MAX + 128];
    pep_writer w = {.p = bytes, .cap = sizeof bytes};
    pep_write_map(&w, 4);
    pep_write_uint(&w, EPOCH_VERSION);
    pep_write_uint(&w, EPOCH_FORMAT_VERSION);
    pep_write_uint(&w, EPOCH_KEY);
    pep_write_bytes(&w, epoch->key, PEP_EPOCH_KEY_BYTES);
    pep_write_uint(&w, EPOCH_OWNER);
    pep_write_bytes(&w, epoch->owner_kid, PEP_KID_BYTES);
    pep_write_uint(&w, EPOCH_SCOPE);
    pep_write_string(&w, epoch->scope);
    pep_reason reason = file_create_armored(error, path, EPOCH_LABEL, FILE_SECRET, bytes, w.n);
    sodium_memzero(bytes, sizeof bytes);
    return reason;
}

void pep_epoch_wipe(pep_epoch *epoch)
{
    free(epoch->scope);
    sodium_memzero(epoch, sizeof *epoch);
}
