/* A device's secrets: made, derived, kept in a key file. */
#include <sodium.h>
#include <string.h>

#include "envelope/cbor.h"
#include "envelope/crypto.h"
#include "envelope/error.h"
#include "envelope/files.h"
#include "envelope/signed.h"
#include "pep/keys.h"

#define KEY_LABEL "PEP DEVICE KEY"

enum {
    KEY_FORMAT_VERSION = 1,
    KEY_VERSION = 0,
    KEY_ID = 1,
    KEY_SIGN_SEED = 2,
    KEY_AGREE_SECRET = 3,
    KEY_PREVIOUS = 4,
    KEY_BYTES_MAX = 512
};
enum { PREVIOUS_SIGN_KID = 1, PREVIOUS_AGREE_KID = 2, PREVIOUS_AGREE_SECRET = 3, PREVIOUS_UNTIL = 4 };
enum { CURVE_X25519 = 4, CURVE_ED25519 = 6 }; /* RFC 9053, 7.1 */

/* The COSE_Key {1: 1, -1: curve, -2: x} and its SHA-256 (RFC 9679, 3; OKP keys: RFC 9053, 7.2). */
static void thumbprint(uint8_t kid[PEP_KID_BYTES], uint8_t curve, const uint8_t x[32])
{
    uint8_t key[8 + 32] = {0xa3, 0x01, 0x01, 0x20, curve, 0x21, 0x58, 32};
    uint8_t hash[crypto_hash_sha256_BYTES];
    memcpy(key + 8, x, 32);
    crypto_hash_sha256(hash, key, sizeof key);
    memcpy(kid, hash, PEP_KID_BYTES);
}

void pep_kid_sign(uint8_t kid[PEP_KID_BYTES], const uint8_t sign_public[PEP_SIGN_PUBLIC_BYTES])
{
    thumbprint(kid, CURVE_ED25519, sign_public);
}

void pep_kid_agree(uint8_t kid[PEP_KID_BYTES], const uint8_t agree_public[PEP_AGREE_PUBLIC_BYTES])
{
    thumbprint(kid, CURVE_X25519, agree_public);
}

pep_reason pep_device_from_secrets(pep_device *out, const char *id, const uint8_t sign_seed[32],
                                   const uint8_t agree_secret[PEP_AGREE_SECRET_BYTES])
{
    memset(out, 0, sizeof *out);
    if (!pep_id_valid(id, strlen(id)))
        return PEP_BAD_ARGUMENT;
    memcpy(out->id, id, strlen(id));
    crypto_sign_seed_keypair(out->sign_public, out->sign_secret, sign_seed);
    memcpy(out->agree_secret, agree_secret, PEP_AGREE_SECRET_BYTES);
    crypto_scalarmult_base(out->agree_public, agree_secret);
    pep_kid_sign(out->sign_kid, out->sign_public);
    pep_kid_agree(out->agree_kid, out->agree_public);
    return PEP_OK;
}

pep_reason pep_device_new(pep_device *out, const char *id)
{
    uint8_t secrets[64];
    randombytes_buf(secrets, sizeof secrets);
    pep_reason reason = pep_device_from_secrets(out, id, secrets, secrets + 32);
    sodium_memzero(secrets, sizeof secrets);
    return reason;
}

/* Adds keys to the previous ones while there is room: the newest come first. */
static void keep(pep_device *device, const pep_previous_keys *keys, uint64_t now_s)
{
    if (keys->until_s >= now_s && device->previous_count < PEP_PREVIOUS_MAX)
        device->previous[device->previous_count++] = *keys;
}

pep_reason pep_device_renew(pep_device *out, const pep_device *before, bool keep_sign, uint64_t now_s, uint64_t until_s)
{
    uint8_t secrets[64];
    pep_device fresh;
    pep_previous_keys last = {.until_s = until_s};
    memcpy(last.sign_kid, before->sign_kid, PEP_KID_BYTES);
    memcpy(last.agree_kid, before->agree_kid, PEP_KID_BYTES);
    memcpy(last.agree_secret, before->agree_secret, PEP_AGREE_SECRET_BYTES);
    randombytes_buf(secrets, sizeof secrets);
    if (keep_sign)
        memcpy(secrets, before->sign_secret, 32); /* libsodium's secret key begins with the seed */
    pep_reason reason = pep_device_from_secrets(&fresh, before->id, secrets, secrets + 32);
    keep(&fresh, &last, now_s);
    for (size_t i = 0; i < before->previous_count; i++)
        keep(&fresh, &before->previous[i], now_s);
    *out = fresh; /* which may be `before` */
    if (reason != PEP_OK)
        pep_device_wipe(out);
    sodium_memzero(secrets, sizeof secrets);
    sodium_memzero(&last, sizeof last);
    pep_device_wipe(&fresh);
    return reason;
}

/* ---- the file ---- */

static bool parse_previous_keys(pep_reader *r, pep_previous_keys *out)
{
    pep_map map;
    uint8_t key[PEP_AGREE_PUBLIC_BYTES];
    uint8_t kid[PEP_KID_BYTES];
    if (!pep_map_begin(r, &map) || map.left != 4 || !pep_map_expect(r, &map, PREVIOUS_SIGN_KID) ||
        !read_copy(r, out->sign_kid, PEP_KID_BYTES) || !pep_map_expect(r, &map, PREVIOUS_AGREE_KID) ||
        !read_copy(r, out->agree_kid, PEP_KID_BYTES) || !pep_map_expect(r, &map, PREVIOUS_AGREE_SECRET) ||
        !read_copy(r, out->agree_secret, PEP_AGREE_SECRET_BYTES) || !pep_map_expect(r, &map, PREVIOUS_UNTIL) ||
        !pep_read_uint(r, &out->until_s))
        return false;
    crypto_scalarmult_base(key, out->agree_secret);
    pep_kid_agree(kid, key);
    return memcmp(kid, out->agree_kid, PEP_KID_BYTES) == 0;
}

static bool parse_previous(pep_reader *r, pep_map *map, pep_device *out)
{
    uint64_t count;
    if (map->left == 0)
        return true;
    if (map->left != 1 || !pep_map_expect(r, map, KEY_PREVIOUS) || !pep_read_array(r, &count) || count < 1 ||
        count > PEP_PREVIOUS_MAX)
        return false;
    for (; out->previous_count < count; out->previous_count++)
        if (!parse_previous_keys(r, &out->previous[out->previous_count]))
            return false;
    return true;
}

static bool parse_key(pep_device *out, pep_view bytes)
{
    pep_reader r = pep_reader_of(bytes);
    pep_map map;
    uint64_t version;
    char id[PEP_ID_MAX + 1];
    const uint8_t *seed;
    const uint8_t *secret;
    return pep_map_begin(&r, &map) && pep_map_expect(&r, &map, KEY_VERSION) && pep_read_uint(&r, &version) &&
           version == KEY_FORMAT_VERSION && pep_map_expect(&r, &map, KEY_ID) && read_id(&r, id) &&
           pep_map_expect(&r, &map, KEY_SIGN_SEED) && pep_read_fixed(&r, &seed, 32) &&
           pep_map_expect(&r, &map, KEY_AGREE_SECRET) && pep_read_fixed(&r, &secret, 32) &&
           pep_device_from_secrets(out, id, seed, secret) == PEP_OK && parse_previous(&r, &map, out) &&
           pep_read_end(&r);
}

pep_reason pep_device_load(pep_device *out, pep_error *error, const char *path)
{
    uint8_t bytes[ARMOR_BYTES_MAX];
    size_t n;
    memset(out, 0, sizeof *out);
    pep_reason reason = file_read_armored(bytes, &n, error, path, KEY_LABEL, FILE_SECRET);
    if (reason == PEP_OK && !parse_key(out, (pep_view){bytes, n})) {
        pep_device_wipe(out);
        reason = pep_fail(error, PEP_BAD_FILE, "%s is not a key file that this version can read, or is damaged", path);
    }
    sodium_memzero(bytes, sizeof bytes);
    return reason;
}

static void write_previous(pep_writer *w, const pep_device *device)
{
    pep_write_uint(w, KEY_PREVIOUS);
    pep_write_array(w, device->previous_count);
    for (size_t i = 0; i < device->previous_count; i++) {
        const pep_previous_keys *keys = &device->previous[i];
        pep_write_map(w, 4);
        pep_write_uint(w, PREVIOUS_SIGN_KID);
        pep_write_bytes(w, keys->sign_kid, PEP_KID_BYTES);
        pep_write_uint(w, PREVIOUS_AGREE_KID);
        pep_write_bytes(w, keys->agree_kid, PEP_KID_BYTES);
        pep_write_uint(w, PREVIOUS_AGREE_SECRET);
        pep_write_bytes(w, keys->agree_secret, PEP_AGREE_SECRET_BYTES);
        pep_write_uint(w, PREVIOUS_UNTIL);
        pep_write_uint(w, keys->until_s);
    }
}

static void write_key(pep_writer *w, const pep_device *device)
{
    pep_write_map(w, device->previous_count > 0 ? 5 : 4);
    pep_write_uint(w, KEY_VERSION);
    pep_write_uint(w, KEY_FORMAT_VERSION);
    pep_write_uint(w, KEY_ID);
    pep_write_string(w, device->id);
    pep_write_uint(w, KEY_SIGN_SEED);
    pep_write_bytes(w, device->sign_secret, 32);
    pep_write_uint(w, KEY_AGREE_SECRET);
    pep_write_bytes(w, device->agree_secret, PEP_AGREE_SECRET_BYTES);
    if (device->previous_count > 0)
        write_previous(w, device);
}

typedef pep_reason (*file_writer)(pep_error *error, const char *path, const char *label, file_kind kind,
                                  const uint8_t *bytes, size_t n);

static pep_reason write_key_file(pep_error *error, const char *path, const pep_device *device, file_writer write)
{
    uint8_t bytes[KEY_BYTES_MAX];
    pep_writer w = {.p = bytes, .cap = sizeof bytes};
    if (device->previous_count > PEP_PREVIOUS_MAX)
        return pep_fail(error, PEP_BAD_ARGUMENT, "%s would hold too many keys", path);
    write_key(&w, device);
    pep_reason reason = write(error, path, KEY_LABEL, FILE_SECRET, bytes, w.n);
    sodium_memzero(bytes, sizeof bytes);
    return reason;
}

pep_reason pep_device_save(pep_error *error, const char *path, const pep_device *device)
{
    return write_key_file(error, path, device, file_create_armored);
}

pep_reason pep_device_replace(pep_error *error, const char *path, const pep_device *device)
{
    return write_key_file(error, path, device, file_replace_armored);
}

void pep_device_wipe(pep_device *device)
{
    sodium_memzero(device, sizeof *device);
}
