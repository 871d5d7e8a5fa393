/* A device's secrets: made, derived, kept in a key file. */
#include <sodium.h>
#include <string.h>

#include "envelope/cbor.h"
#include "envelope/crypto.h"
#include "envelope/error.h"
#include "envelope/files.h"
#include "pep/keys.h"

#define KEY_LABEL "PEP DEVICE KEY"

enum { KEY_FORMAT_VERSION = 1, KEY_VERSION = 0, KEY_ID = 1, KEY_SIGN_SEED = 2, KEY_AGREE_SECRET = 3 };
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

static bool parse_key(pep_device *out, pep_view bytes)
{
    pep_reader r = pep_reader_of(bytes);
    pep_map map;
    uint64_t version;
    pep_view id;
    const uint8_t *seed;
    const uint8_t *secret;
    if (!pep_map_begin(&r, &map) || map.left != 4 || !pep_map_expect(&r, &map, KEY_VERSION) ||
        !pep_read_uint(&r, &version) || version != KEY_FORMAT_VERSION || !pep_map_expect(&r, &map, KEY_ID) ||
        !pep_read_text(&r, &id) || !pep_map_expect(&r, &map, KEY_SIGN_SEED) || !pep_read_fixed(&r, &seed, 32) ||
        !pep_map_expect(&r, &map, KEY_AGREE_SECRET) || !pep_read_fixed(&r, &secret, 32) || !pep_read_end(&r) ||
        !pep_id_valid((const char *)id.p, id.n))
        return false;
    char text[PEP_ID_MAX + 1] = {0};
    memcpy(text, id.p, id.n);
    return pep_device_from_secrets(out, text, seed, secret) == PEP_OK;
}

pep_reason pep_device_load(pep_device *out, pep_error *error, const char *path)
{
    uint8_t bytes[ARMOR_BYTES_MAX];
    size_t n;
    memset(out, 0, sizeof *out);
    pep_reason reason = file_read_armored(bytes, &n, error, path, KEY_LABEL, FILE_SECRET);
    if (reason == PEP_OK && !parse_key(out, (pep_view){bytes, n}))
        reason = pep_fail(error, PEP_BAD_FILE, "%s is not a key file that this version can read, or is damaged", path);
    sodium_memzero(bytes, sizeof bytes);
    return reason;
}

pep_reason pep_device_save(pep_error *error, const char *path, const pep_device *device)
{
    uint8_t bytes[PEP_ID_MAX + 128];
    pep_writer w = {.p = bytes, .cap = sizeof bytes};
    pep_write_map(&w, 4);
    pep_write_uint(&w, KEY_VERSION);
    pep_write_uint(&w, KEY_FORMAT_VERSION);
    pep_write_uint(&w, KEY_ID);
    pep_write_string(&w, device->id);
    pep_write_uint(&w, KEY_SIGN_SEED);
    pep_write_bytes(&w, device->sign_secret, 32); /* libsodium's secret key begins with the seed */
    pep_write_uint(&w, KEY_AGREE_SECRET);
    pep_write_bytes(&w, device->agree_secret, PEP_AGREE_SECRET_BYTES);
    pep_reason reason = file_create_armored(error, path, KEY_LABEL, FILE_SECRET, bytes, w.n);
    sodium_memzero(bytes, sizeof bytes);
    return reason;
}

void pep_device_wipe(pep_device *device)
{
    sodium_memzero(device, sizeof *device);
}
