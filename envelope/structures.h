/*
 * The numbers of docs/PROTOCOL.md, and the two structures that are authenticated but never sent: Sig_structure
 * (RFC 9052, 4.4) and Enc_structure (RFC 9052, 5.3).
 */
#ifndef ENVELOPE_STRUCTURES_H
#define ENVELOPE_STRUCTURES_H

#include "envelope/cbor.h"

enum {
    TAG_SIGN1 = 18,
    TAG_ENCRYPT0 = 16,

    LABEL_ALG = 1,
    LABEL_KID = 4,
    LABEL_PARTIAL_IV = 6,
    LABEL_TYP = 16,
    LABEL_EK = -4,
    LABEL_PEP = -65537,
    LABEL_GATE_TAG = -65538,

    ALG_ED25519 = -19, /* RFC 9864 */
    ALG_CHACHA20_POLY1305 = 24,
    ALG_HPKE_4 = 42, /* draft-ietf-cose-hpke: provisional there, frozen as the meaning of version 1 */

    EXT_FACTS = 0,
    EXT_TO = 1,
    EXT_EXP = 2,
    EXT_AUDIENCE = 3,
    EXT_TOPIC_COUNTER = 5,

    PARTIAL_IV_BYTES = 4,
    EMPTY_META = 0xa0, /* the one byte of an empty map */
    NESTING_MAX = 6
};

/* Bytes that a Sig_structure has more than the protected header, the payload and their two heads: 84 6A "Signature1",
 * then 40 for an empty external_aad. */
#define SIG_PREFIX_BYTES 12

/* "Signature1" for anything that is signed with a COSE_Sign1. */
void write_sig_structure(pep_writer *w, pep_view protected_bytes, pep_view payload);

/* The AAD of the Encrypt0; the content of the outer protected header is its external_aad. */
void write_enc_structure(pep_writer *w, pep_view inner_protected, pep_view outer_protected);

/* The AEAD nonce of epoch mode: seq, 8 bytes big-endian, then the Partial IV. */
void epoch_nonce(uint8_t nonce[12], uint64_t seq, const uint8_t partial_iv[PARTIAL_IV_BYTES]);

/* Verifies an Ed25519 COSE_Sign1; `work` holds at least the Sig_structure. */
PEP_MUST_CHECK pep_reason verify_sign1(uint8_t *work, size_t work_n, pep_view protected_bytes, pep_view payload,
                                       const uint8_t signature[64], const uint8_t public_key[32]);

#endif
