/* Tokens: a secret that enrols one device once, without ever being sent. */
#include <sodium.h>
#include <string.h>

#include "envelope/crypto.h"
#include "envelope/signed.h"
#include "envelope/text.h"

#define TOKEN_INFO "pep1 token"

enum { TOKEN_BYTES = 24, PROOF_RECORD = 1, PROOF_KEY = 2 };

_Static_assert(sodium_base64_ENCODED_LEN(TOKEN_BYTES, sodium_base64_VARIANT_URLSAFE_NO_PADDING) == PEP_TOKEN_TEXT_BYTES,
               "a token's text is whole groups of base64");

/* The token's Ed25519 key: HKDF-SHA256 (RFC 5869) of its bytes is the seed. */
static void derive(uint8_t sign_public[PEP_SIGN_PUBLIC_BYTES], uint8_t sign_secret[PEP_SIGN_SECRET_BYTES],
                   const uint8_t token[TOKEN_BYTES])
{
    uint8_t prk[PEP_HASH_BYTES];
    uint8_t seed[crypto_sign_SEEDBYTES];
    pep_hkdf_extract(prk, (const uint8_t *)"", 0, token, TOKEN_BYTES);
    pep_hkdf_expand(seed, sizeof seed, prk, (const uint8_t *)TOKEN_INFO, sizeof TOKEN_INFO - 1);
    crypto_sign_seed_keypair(sign_public, sign_secret, seed);
    sodium_memzero(prk, sizeof prk);
    sodium_memzero(seed, sizeof seed);
}

void pep_token_new(char text[PEP_TOKEN_TEXT_BYTES], uint8_t kid[PEP_KID_BYTES])
{
    uint8_t token[TOKEN_BYTES];
    uint8_t sign_public[PEP_SIGN_PUBLIC_BYTES];
    uint8_t sign_secret[PEP_SIGN_SECRET_BYTES];
    randombytes_buf(token, sizeof token);
    derive(sign_public, sign_secret, token);
    pep_kid_sign(kid, sign_public);
    sodium_bin2base64(text, PEP_TOKEN_TEXT_BYTES, token, sizeof token, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    sodium_memzero(token, sizeof token);
    sodium_memzero(sign_secret, sizeof sign_secret);
}

pep_reason pep_token_prove(uint8_t *out, size_t *out_n, const char *text, const uint8_t record_hash[PEP_SHA256_BYTES])
{
    uint8_t token[TOKEN_BYTES];
    uint8_t sign_public[PEP_SIGN_PUBLIC_BYTES];
    uint8_t sign_secret[PEP_SIGN_SECRET_BYTES];
    uint8_t payload[PEP_PROOF_BYTES_MAX];
    pep_writer w = {.p = payload, .cap = sizeof payload};
    *out_n = 0;
    if (!bytes_from_text(token, sizeof token, text))
        return PEP_BAD_ARGUMENT;
    derive(sign_public, sign_secret, token);
    pep_write_map(&w, 2);
    pep_write_uint(&w, PROOF_RECORD);
    pep_write_bytes(&w, record_hash, PEP_SHA256_BYTES);
    pep_write_uint(&w, PROOF_KEY);
    pep_write_bytes(&w, sign_public, sizeof sign_public);
    pep_reason reason = sign_object(out, out_n, PEP_PROOF_BYTES_MAX, TYP_ENROLLMENT, sign_secret, &w);
    sodium_memzero(token, sizeof token);
    sodium_memzero(sign_secret, sizeof sign_secret);
    return reason;
}

static bool parse_proof(const uint8_t **hash, const uint8_t **key, pep_view payload)
{
    pep_reader r = pep_reader_of(payload);
    pep_map map;
    return pep_map_begin(&r, &map) && map.left == 2 && pep_map_expect(&r, &map, PROOF_RECORD) &&
           pep_read_fixed(&r, hash, PEP_SHA256_BYTES) && pep_map_expect(&r, &map, PROOF_KEY) &&
           pep_read_fixed(&r, key, PEP_SIGN_PUBLIC_BYTES) && pep_read_end(&r);
}

pep_reason pep_token_verify(uint8_t kid[PEP_KID_BYTES], const uint8_t *proof, size_t n,
                            const uint8_t record_hash[PEP_SHA256_BYTES])
{
    signed_object object;
    const uint8_t *hash;
    const uint8_t *key;
    memset(kid, 0, PEP_KID_BYTES);
    if (n > PEP_PROOF_BYTES_MAX)
        return PEP_MALFORMED;
    pep_reason reason = parse_signed_as(&object, TYP_ENROLLMENT, (pep_view){proof, n});
    if (reason != PEP_OK)
        return reason;
    uint8_t computed[PEP_KID_BYTES];
    if (!parse_proof(&hash, &key, object.payload))
        return PEP_MALFORMED;
    pep_kid_sign(computed, key);
    if (memcmp(computed, object.kid, PEP_KID_BYTES) != 0)
        return PEP_MALFORMED;
    if (memcmp(hash, record_hash, PEP_SHA256_BYTES) != 0)
        return PEP_BAD_TOKEN;
    reason = verify_signed(object.protected_bytes, object.payload, object.signature, key);
    if (reason == PEP_OK)
        memcpy(kid, computed, PEP_KID_BYTES);
    return reason;
}
