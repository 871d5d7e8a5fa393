#include "envelope/signed.h"

#include <sodium.h>
#include <string.h>

#include "envelope/structures.h"
#include "pep/envelope.h"

/* ---- signing ---- */

/* libsodium's secret key ends with the public one. */
static void write_header(pep_writer *w, const char *typ, const uint8_t secret[PEP_SIGN_SECRET_BYTES])
{
    uint8_t kid[PEP_KID_BYTES];
    pep_kid_sign(kid, secret + (PEP_SIGN_SECRET_BYTES - PEP_SIGN_PUBLIC_BYTES));
    pep_write_map(w, 3);
    pep_write_uint(w, LABEL_ALG);
    pep_write_int(w, ALG_ED25519);
    pep_write_uint(w, LABEL_KID);
    pep_write_bytes(w, kid, PEP_KID_BYTES);
    pep_write_uint(w, LABEL_TYP);
    pep_write_string(w, typ);
}

pep_reason sign_object(uint8_t *out, size_t *out_n, size_t cap, const char *typ,
                       const uint8_t secret[PEP_SIGN_SECRET_BYTES], const pep_writer *payload)
{
    uint8_t header[128];
    uint8_t work[SIGNED_BYTES_MAX + SIG_PREFIX_BYTES];
    uint8_t signature[PEP_SIGNATURE_BYTES];
    pep_writer h = {.p = header, .cap = sizeof header};
    pep_writer s = {.p = work, .cap = sizeof work};
    pep_writer w = {.p = out, .cap = cap};
    *out_n = 0;
    write_header(&h, typ, secret);
    write_sig_structure(&s, (pep_view){header, h.n}, (pep_view){payload->p, payload->n});
    crypto_sign_detached(signature, NULL, work, s.n, secret);
    pep_write_tag(&w, TAG_SIGN1);
    pep_write_array(&w, 4);
    pep_write_bytes(&w, header, h.n);
    pep_write_map(&w, 0);
    pep_write_bytes(&w, payload->p, payload->n);
    pep_write_bytes(&w, signature, sizeof signature);
    if (h.full || payload->full || s.full || w.full)
        return PEP_BUFFER_TOO_SMALL;
    *out_n = w.n;
    return PEP_OK;
}

/* ---- parsing ---- */

static bool parse_header(signed_object *out)
{
    pep_reader r = pep_reader_of(out->protected_bytes);
    pep_map map;
    return pep_map_begin(&r, &map) && map.left == 3 && pep_map_expect(&r, &map, LABEL_ALG) &&
           pep_read_int(&r, &out->alg) && pep_map_expect(&r, &map, LABEL_KID) &&
           pep_read_fixed(&r, &out->kid, PEP_KID_BYTES) && pep_map_expect(&r, &map, LABEL_TYP) &&
           pep_read_text(&r, &out->typ) && pep_read_end(&r);
}

bool parse_signed(signed_object *out, pep_view bytes)
{
    pep_reader r = pep_reader_of(bytes);
    pep_map unprotected;
    uint64_t count;
    memset(out, 0, sizeof *out);
    return bytes.n <= SIGNED_BYTES_MAX && pep_read_tag(&r, TAG_SIGN1) && pep_read_array(&r, &count) && count == 4 &&
           pep_read_bytes(&r, &out->protected_bytes) && pep_map_begin(&r, &unprotected) && unprotected.left == 0 &&
           pep_read_bytes(&r, &out->payload) && pep_read_fixed(&r, &out->signature, PEP_SIGNATURE_BYTES) &&
           pep_read_end(&r) && parse_header(out);
}

bool signed_has_typ(const signed_object *object, const char *typ)
{
    return object->typ.n == strlen(typ) && memcmp(object->typ.p, typ, object->typ.n) == 0;
}

pep_reason parse_signed_as(signed_object *out, const char *typ, pep_view bytes)
{
    if (!parse_signed(out, bytes) || !signed_has_typ(out, typ))
        return PEP_MALFORMED;
    return out->alg == ALG_ED25519 ? PEP_OK : PEP_UNSUPPORTED_ALGORITHM;
}

pep_reason verify_signed(pep_view protected_bytes, pep_view payload, const uint8_t signature[64],
                         const uint8_t sign_public[PEP_SIGN_PUBLIC_BYTES])
{
    uint8_t work[SIGNED_BYTES_MAX + SIG_PREFIX_BYTES];
    return verify_sign1(work, sizeof work, protected_bytes, payload, signature, sign_public);
}

bool read_id(pep_reader *r, char out[PEP_ID_MAX + 1])
{
    pep_view id;
    if (!pep_read_text(r, &id) || !pep_id_valid((const char *)id.p, id.n))
        return false;
    memcpy(out, id.p, id.n);
    out[id.n] = 0;
    return true;
}

bool read_copy(pep_reader *r, uint8_t *out, size_t n)
{
    const uint8_t *bytes;
    if (!pep_read_fixed(r, &bytes, n))
        return false;
    memcpy(out, bytes, n);
    return true;
}
