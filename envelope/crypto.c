#include "envelope/crypto.h"

#include <sodium.h>
#include <string.h>

void pep_hmac_sha256(uint8_t out[PEP_HASH_BYTES], const uint8_t *key, size_t key_n, const uint8_t *data, size_t data_n)
{
    crypto_auth_hmacsha256_state state;
    crypto_auth_hmacsha256_init(&state, key, key_n);
    crypto_auth_hmacsha256_update(&state, data, data_n);
    crypto_auth_hmacsha256_final(&state, out);
    sodium_memzero(&state, sizeof state);
}

void pep_hkdf_extract(uint8_t prk[PEP_HASH_BYTES], const uint8_t *salt, size_t salt_n, const uint8_t *ikm, size_t ikm_n)
{
    pep_hmac_sha256(prk, salt, salt_n, ikm, ikm_n);
}

bool pep_hkdf_expand(uint8_t *out, size_t out_n, const uint8_t prk[PEP_HASH_BYTES], const uint8_t *info, size_t info_n)
{
    uint8_t block[PEP_HASH_BYTES];
    crypto_auth_hmacsha256_state state;
    if (out_n > 255 * (size_t)PEP_HASH_BYTES)
        return false;
    uint8_t counter = 1;
    for (size_t done = 0; done < out_n; counter++) {
        crypto_auth_hmacsha256_init(&state, prk, PEP_HASH_BYTES);
        if (done > 0)
            crypto_auth_hmacsha256_update(&state, block, sizeof block);
        crypto_auth_hmacsha256_update(&state, info, info_n);
        crypto_auth_hmacsha256_update(&state, &counter, 1);
        crypto_auth_hmacsha256_final(&state, block);
        size_t take = out_n - done < sizeof block ? out_n - done : sizeof block;
        memcpy(out + done, block, take);
        done += take;
    }
    sodium_memzero(block, sizeof block);
    sodium_memzero(&state, sizeof state);
    return true;
}

bool pep_x25519(uint8_t out[32], const uint8_t secret[32], const uint8_t public_key[32])
{
    return crypto_scalarmult(out, secret, public_key) == 0;
}

bool pep_ed25519_verify(const uint8_t *message, size_t message_n, const uint8_t signature[64],
                        const uint8_t public_key[32])
{
    return crypto_sign_verify_detached(signature, message, message_n, public_key) == 0;
}

void pep_aead_seal(uint8_t *out, const uint8_t *plain, size_t plain_n, pep_view aad,
                   const uint8_t nonce[PEP_NONCE_BYTES], const uint8_t key[32])
{
    crypto_aead_chacha20poly1305_ietf_encrypt(out, NULL, plain, plain_n, aad.p, aad.n, NULL, nonce, key);
}

bool pep_aead_open(uint8_t *out, const uint8_t *sealed, size_t sealed_n, pep_view aad,
                   const uint8_t nonce[PEP_NONCE_BYTES], const uint8_t key[32])
{
    return crypto_aead_chacha20poly1305_ietf_decrypt(out, NULL, NULL, sealed, sealed_n, aad.p, aad.n, nonce, key) == 0;
}

/* ---- HPKE (RFC 9180) ---- */

static const uint8_t kem_suite[] = {'K', 'E', 'M', 0x00, 0x20};
static const uint8_t hpke_suite[] = {'H', 'P', 'K', 'E', 0x00, 0x20, 0x00, 0x01, 0x00, 0x03};

#define SUITE(s)  ((pep_view){(s), sizeof(s)})
#define LABEL(s)  ((pep_view){(const uint8_t *)(s), sizeof(s) - 1})
#define NO_BYTES  ((pep_view){(const uint8_t *)"", 0}) /* libsodium wants a pointer even to nothing */
#define VIEW32(p) ((pep_view){(p), 32})

static const uint8_t version_label[] = "HPKE-v1";

/* RFC 9180, 4: LabeledExtract. */
static void labeled_extract(uint8_t prk[PEP_HASH_BYTES], pep_view suite, pep_view salt, pep_view label, pep_view ikm)
{
    crypto_auth_hmacsha256_state state;
    crypto_auth_hmacsha256_init(&state, salt.p, salt.n);
    crypto_auth_hmacsha256_update(&state, version_label, sizeof version_label - 1);
    crypto_auth_hmacsha256_update(&state, suite.p, suite.n);
    crypto_auth_hmacsha256_update(&state, label.p, label.n);
    crypto_auth_hmacsha256_update(&state, ikm.p, ikm.n);
    crypto_auth_hmacsha256_final(&state, prk);
    sodium_memzero(&state, sizeof state);
}

/* RFC 9180, 4: LabeledExpand; `info` is at most 1 + 2 * PEP_HASH_BYTES here. */
static void labeled_expand(uint8_t *out, uint8_t out_n, const uint8_t prk[PEP_HASH_BYTES], pep_view suite,
                           pep_view label, pep_view info)
{
    uint8_t labeled[2 + sizeof version_label - 1 + sizeof hpke_suite + 16 + 1 + (size_t)2 * PEP_HASH_BYTES];
    size_t n = 0;
    labeled[n++] = 0;
    labeled[n++] = out_n;
    const pep_view parts[] = {{version_label, sizeof version_label - 1}, suite, label, info};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        memcpy(labeled + n, parts[i].p, parts[i].n);
        n += parts[i].n;
    }
    pep_hkdf_expand(out, out_n, prk, labeled, n);
}

/* RFC 9180, 4.1: ExtractAndExpand of DHKEM. */
static void kem_secret(uint8_t shared[32], const uint8_t dh[32], const uint8_t enc[32], const uint8_t recipient[32])
{
    uint8_t prk[PEP_HASH_BYTES];
    uint8_t context[64];
    memcpy(context, enc, 32);
    memcpy(context + 32, recipient, 32);
    labeled_extract(prk, SUITE(kem_suite), NO_BYTES, LABEL("eae_prk"), VIEW32(dh));
    labeled_expand(shared, 32, prk, SUITE(kem_suite), LABEL("shared_secret"), (pep_view){context, sizeof context});
    sodium_memzero(prk, sizeof prk);
}

/* RFC 9180, 5.1: KeySchedule in base mode; the nonce is that of sequence number 0. */
static void key_schedule(uint8_t key[32], uint8_t nonce[PEP_NONCE_BYTES], const uint8_t shared[32], pep_view info)
{
    uint8_t context[1 + 2 * PEP_HASH_BYTES] = {0}; /* mode_base, then two hashes */
    uint8_t secret[PEP_HASH_BYTES];
    const pep_view suite = SUITE(hpke_suite);
    labeled_extract(context + 1, suite, NO_BYTES, LABEL("psk_id_hash"), NO_BYTES);
    labeled_extract(context + 1 + PEP_HASH_BYTES, suite, NO_BYTES, LABEL("info_hash"), info);
    labeled_extract(secret, suite, VIEW32(shared), LABEL("secret"), NO_BYTES);
    labeled_expand(key, 32, secret, suite, LABEL("key"), (pep_view){context, sizeof context});
    labeled_expand(nonce, PEP_NONCE_BYTES, secret, suite, LABEL("base_nonce"), (pep_view){context, sizeof context});
    sodium_memzero(secret, sizeof secret);
}

/* The AEAD's key and nonce, from one side's secret and the other's public key; false for a key of small order. */
static bool hpke_setup(uint8_t key[32], uint8_t nonce[PEP_NONCE_BYTES], const uint8_t my_secret[32],
                       const uint8_t their_public[32], const uint8_t enc[32], const uint8_t recipient_public[32],
                       pep_view info)
{
    uint8_t dh[32];
    uint8_t shared[32];
    if (!pep_x25519(dh, my_secret, their_public))
        return false;
    kem_secret(shared, dh, enc, recipient_public);
    key_schedule(key, nonce, shared, info);
    sodium_memzero(dh, sizeof dh);
    sodium_memzero(shared, sizeof shared);
    return true;
}

bool pep_hpke_seal(uint8_t enc[PEP_HPKE_ENC_BYTES], uint8_t *out, const uint8_t *plain, size_t plain_n, pep_view info,
                   pep_view aad, const uint8_t recipient_public[32], const uint8_t ephemeral[32])
{
    uint8_t key[32];
    uint8_t nonce[PEP_NONCE_BYTES];
    crypto_scalarmult_base(enc, ephemeral);
    if (!hpke_setup(key, nonce, ephemeral, recipient_public, enc, recipient_public, info))
        return false;
    pep_aead_seal(out, plain, plain_n, aad, nonce, key);
    sodium_memzero(key, sizeof key);
    sodium_memzero(nonce, sizeof nonce);
    return true;
}

bool pep_hpke_open(uint8_t *out, const uint8_t *sealed, size_t sealed_n, pep_view info, pep_view aad,
                   const uint8_t enc[PEP_HPKE_ENC_BYTES], const uint8_t recipient_secret[32])
{
    uint8_t key[32];
    uint8_t nonce[PEP_NONCE_BYTES];
    uint8_t recipient_public[32];
    crypto_scalarmult_base(recipient_public, recipient_secret);
    if (!hpke_setup(key, nonce, recipient_secret, enc, enc, recipient_public, info))
        return false;
    bool opened = pep_aead_open(out, sealed, sealed_n, aad, nonce, key);
    sodium_memzero(key, sizeof key);
    sodium_memzero(nonce, sizeof nonce);
    return opened;
}
