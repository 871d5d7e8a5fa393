/* Authorities: offline keys, kept in a file, named by their public key in text. */
#include <sodium.h>
#include <string.h>

#include "envelope/cbor.h"
#include "envelope/error.h"
#include "envelope/files.h"
#include "envelope/text.h"
#include "pep/directory.h"

#define AUTHORITY_LABEL "PEP AUTHORITY KEY"

enum { AUTHORITY_FORMAT_VERSION = 1, AUTHORITY_VERSION = 0, AUTHORITY_SEED = 1 };

pep_reason pep_authority_new(pep_authority *out)
{
    crypto_sign_keypair(out->sign_public, out->sign_secret);
    return PEP_OK;
}

static bool parse_authority(pep_authority *out, pep_view bytes)
{
    pep_reader r = pep_reader_of(bytes);
    pep_map map;
    uint64_t version;
    const uint8_t *seed;
    if (!pep_map_begin(&r, &map) || map.left != 2 || !pep_map_expect(&r, &map, AUTHORITY_VERSION) ||
        !pep_read_uint(&r, &version) || version != AUTHORITY_FORMAT_VERSION ||
        !pep_map_expect(&r, &map, AUTHORITY_SEED) || !pep_read_fixed(&r, &seed, crypto_sign_SEEDBYTES) ||
        !pep_read_end(&r))
        return false;
    crypto_sign_seed_keypair(out->sign_public, out->sign_secret, seed);
    return true;
}

pep_reason pep_authority_load(pep_authority *out, pep_error *error, const char *path)
{
    uint8_t bytes[ARMOR_BYTES_MAX];
    size_t n;
    memset(out, 0, sizeof *out);
    pep_reason reason = file_read_armored(bytes, &n, error, path, AUTHORITY_LABEL, FILE_SECRET);
    if (reason == PEP_OK && !parse_authority(out, (pep_view){bytes, n}))
        reason = pep_fail(error, PEP_BAD_FILE, "%s is not an authority's key that this version can read, or is damaged",
                          path);
    sodium_memzero(bytes, sizeof bytes);
    return reason;
}

pep_reason pep_authority_save(pep_error *error, const char *path, const pep_authority *a)
{
    uint8_t bytes[64];
    pep_writer w = {.p = bytes, .cap = sizeof bytes};
    pep_write_map(&w, 2);
    pep_write_uint(&w, AUTHORITY_VERSION);
    pep_write_uint(&w, AUTHORITY_FORMAT_VERSION);
    pep_write_uint(&w, AUTHORITY_SEED);
    pep_write_bytes(&w, a->sign_secret, crypto_sign_SEEDBYTES); /* libsodium's secret key begins with the seed */
    pep_reason reason = file_create_armored(error, path, AUTHORITY_LABEL, FILE_SECRET, bytes, w.n);
    sodium_memzero(bytes, sizeof bytes);
    return reason;
}

void pep_authority_wipe(pep_authority *a)
{
    sodium_memzero(a, sizeof *a);
}

void pep_authority_text(char out[PEP_AUTHORITY_TEXT_BYTES], const uint8_t sign_public[PEP_SIGN_PUBLIC_BYTES])
{
    sodium_bin2base64(out, PEP_AUTHORITY_TEXT_BYTES, sign_public, PEP_SIGN_PUBLIC_BYTES,
                      sodium_base64_VARIANT_URLSAFE_NO_PADDING);
}

bool pep_authority_from_text(uint8_t sign_public[PEP_SIGN_PUBLIC_BYTES], const char *text)
{
    return bytes_from_text(sign_public, PEP_SIGN_PUBLIC_BYTES, text);
}
