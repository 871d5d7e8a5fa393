/*
 * Signed objects that are no envelopes: COSE_Sign1 (RFC 9052) whose protected header is { alg, kid, typ } and whose
 * payload is one CBOR item. The `typ` (RFC 9596) is signed, so that none of one kind can pass for one of another kind.
 */
#ifndef ENVELOPE_SIGNED_H
#define ENVELOPE_SIGNED_H

#include "envelope/cbor.h"
#include "pep/directory.h"

#define SIGNED_BYTES_MAX PEP_STATEMENT_BYTES_MAX /* of any of them */

#define TYP_RECORD      "application/pep-record"
#define TYP_ROTATION    "application/pep-rotation"
#define TYP_REVOCATION  "application/pep-revocation"
#define TYP_CERTIFICATE "application/pep-certificate"
#define TYP_ENROLLMENT  "application/pep-enrollment"

/* Views into what was parsed. */
typedef struct {
    pep_view protected_bytes;
    pep_view payload;
    const uint8_t *signature;
    const uint8_t *kid; /* of who is said to have signed */
    pep_view typ;
    int64_t alg;
} signed_object;

/* Signs what was written into `payload`. out: `cap` bytes. PEP_BUFFER_TOO_SMALL, also where the payload was full. */
PEP_MUST_CHECK pep_reason sign_object(uint8_t *out, size_t *out_n, size_t cap, const char *typ,
                                      const uint8_t secret[PEP_SIGN_SECRET_BYTES], const pep_writer *payload);

/* Takes one of any kind apart: its shape alone. */
PEP_MUST_CHECK bool parse_signed(signed_object *out, pep_view bytes);
bool signed_has_typ(const signed_object *object, const char *typ);

/* The same for one kind. PEP_MALFORMED: another kind, or none; PEP_UNSUPPORTED_ALGORITHM. */
PEP_MUST_CHECK pep_reason parse_signed_as(signed_object *out, const char *typ, pep_view bytes);

/* PEP_OK or PEP_BAD_SIGNATURE. The kid is not compared: who knows the key does that first. */
PEP_MUST_CHECK pep_reason verify_signed(pep_view protected_bytes, pep_view payload, const uint8_t signature[64],
                                        const uint8_t sign_public[PEP_SIGN_PUBLIC_BYTES]);

/* What several kinds of payload have: an id as text, a hash or a kid copied out. */
PEP_MUST_CHECK bool read_id(pep_reader *r, char out[PEP_ID_MAX + 1]);
PEP_MUST_CHECK bool read_copy(pep_reader *r, uint8_t *out, size_t n);

#endif
