#include "envelope/structures.h"

#include <string.h>

#include "envelope/crypto.h"

void write_sig_structure(pep_writer *w, pep_view protected_bytes, pep_view payload)
{
    pep_write_array(w, 4);
    pep_write_string(w, "Signature1");
    pep_write_bytes(w, protected_bytes.p, protected_bytes.n);
    pep_write_bytes(w, NULL, 0);
    pep_write_bytes(w, payload.p, payload.n);
}

void write_enc_structure(pep_writer *w, pep_view inner_protected, pep_view outer_protected)
{
    pep_write_array(w, 3);
    pep_write_string(w, "Encrypt0");
    pep_write_bytes(w, inner_protected.p, inner_protected.n);
    pep_write_bytes(w, outer_protected.p, outer_protected.n);
}

void epoch_nonce(uint8_t nonce[12], uint64_t seq, const uint8_t partial_iv[PARTIAL_IV_BYTES])
{
    for (unsigned i = 0; i < 8; i++)
        nonce[i] = (uint8_t)(seq >> 8 * (7 - i));
    memcpy(nonce + 8, partial_iv, PARTIAL_IV_BYTES);
}

pep_reason verify_sign1(uint8_t *work, size_t work_n, pep_view protected_bytes, pep_view payload,
                        const uint8_t signature[64], const uint8_t public_key[32])
{
    pep_writer w = {.p = work, .cap = work_n};
    write_sig_structure(&w, protected_bytes, payload);
    if (w.full)
        return PEP_BUFFER_TOO_SMALL;
    return pep_ed25519_verify(work, w.n, signature, public_key) ? PEP_OK : PEP_BAD_SIGNATURE;
}
