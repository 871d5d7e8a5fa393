/*
 * Every use of a cryptographic primitive in libpep goes through here. The primitives are libsodium's; HKDF (RFC 5869)
 * and HPKE base mode (RFC 9180: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20Poly1305) are composed of them,
 * because libsodium 1.0.18 has neither.
 */
#ifndef ENVELOPE_CRYPTO_H
#define ENVELOPE_CRYPTO_H

#include "pep/base.h"

#define PEP_HASH_BYTES     32 /* SHA-256 */
#define PEP_TAG_BYTES      16 /* Poly1305 */
#define PEP_NONCE_BYTES    12
#define PEP_HPKE_ENC_BYTES 32

void pep_hmac_sha256(uint8_t out[PEP_HASH_BYTES], const uint8_t *key, size_t key_n, const uint8_t *data, size_t data_n);

/* RFC 5869, 2.2 and 2.3. pep_hkdf_expand: false where out_n is more than 255 * PEP_HASH_BYTES. */
void pep_hkdf_extract(uint8_t prk[PEP_HASH_BYTES], const uint8_t *salt, size_t salt_n, const uint8_t *ikm,
                      size_t ikm_n);
bool pep_hkdf_expand(uint8_t *out, size_t out_n, const uint8_t prk[PEP_HASH_BYTES], const uint8_t *info, size_t info_n);

/* RFC 7748. False where the result is all zeros: a public key of small order. */
PEP_MUST_CHECK bool pep_x25519(uint8_t out[32], const uint8_t secret[32], const uint8_t public_key[32]);

/* RFC 8032. False where the signature is not valid, not canonical, or the key of small order. */
PEP_MUST_CHECK bool pep_ed25519_verify(const uint8_t *message, size_t message_n, const uint8_t signature[64],
                                       const uint8_t public_key[32]);

/* RFC 8439. Ciphertext is plaintext plus PEP_TAG_BYTES; in place is allowed. Opening: false where it does not verify.
 */
void pep_aead_seal(uint8_t *out, const uint8_t *plain, size_t plain_n, pep_view aad,
                   const uint8_t nonce[PEP_NONCE_BYTES], const uint8_t key[32]);
PEP_MUST_CHECK bool pep_aead_open(uint8_t *out, const uint8_t *sealed, size_t sealed_n, pep_view aad,
                                  const uint8_t nonce[PEP_NONCE_BYTES], const uint8_t key[32]);

/*
 * HPKE, single shot (RFC 9180, 6.1), base mode, sequence number 0. `ephemeral`: the X25519 secret to use once, from
 * randombytes; a parameter so that the RFC's vectors can be run. In place is allowed. False: a public key of small
 * order, or a ciphertext that does not verify.
 */
PEP_MUST_CHECK bool pep_hpke_seal(uint8_t enc[PEP_HPKE_ENC_BYTES], uint8_t *out, const uint8_t *plain, size_t plain_n,
                                  pep_view info, pep_view aad, const uint8_t recipient_public[32],
                                  const uint8_t ephemeral[32]);
PEP_MUST_CHECK bool pep_hpke_open(uint8_t *out, const uint8_t *sealed, size_t sealed_n, pep_view info, pep_view aad,
                                  const uint8_t enc[PEP_HPKE_ENC_BYTES], const uint8_t recipient_secret[32]);

#endif
