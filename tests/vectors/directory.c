/* The frame of directory.json, and signed objects put together by hand. */
#include "tests/vectors/directory.h"

#include <sodium.h>
#include <string.h>

#include "envelope/signed.h"

void directory_slots(slots *s)
{
    for (size_t i = 0; i < PARTIES; i++) {
        s->slot['a' + i] = (pep_view){parties[i].device.sign_kid, PEP_KID_BYTES};
        s->slot['A' + i] = (pep_view){parties[i].device.sign_public, PEP_SIGN_PUBLIC_BYTES};
    }
}

static void usual_header(bytes *out, party_name signer, const char *typ)
{
    pep_writer w = {.p = out->p, .cap = sizeof out->p};
    pep_write_map(&w, 3);
    pep_write_uint(&w, 1);
    pep_write_int(&w, -19);
    pep_write_uint(&w, 4);
    pep_write_bytes(&w, parties[signer].device.sign_kid, PEP_KID_BYTES);
    pep_write_uint(&w, 16);
    pep_write_string(&w, typ);
    out->n = w.n;
}

void directory_sign(bytes *out, party_name signer, const char *typ, const char *header, const char *payload,
                    const char *whole, const slots *s)
{
    bytes parts[2] = {{.n = 0}};
    bytes to_sign = {.n = 0};
    bytes items[3] = {{.n = 0}};
    uint8_t signature[PEP_SIGNATURE_BYTES];
    slots all = *s;
    if (header == NULL)
        usual_header(&parts[0], signer, typ);
    else
        template_fill(&parts[0], header, s);
    template_fill(&parts[1], payload, s);
    append_sig_structure(&to_sign, bytes_view(&parts[0]), bytes_view(&parts[1]));
    crypto_sign_detached(signature, NULL, to_sign.p, to_sign.n, parties[signer].device.sign_secret);
    append_bstr(&items[0], bytes_view(&parts[0]));
    append_bstr(&items[1], bytes_view(&parts[1]));
    append_bstr(&items[2], (pep_view){signature, sizeof signature});
    for (size_t i = 0; i < 3; i++)
        all.slot[(unsigned char)"XYZ"[i]] = bytes_view(&items[i]);
    template_fill(out, whole == NULL ? "d2 84 $X a0 $Y $Z" : whole, &all);
}

static void emit_party(json *j, const party *p)
{
    const pep_device *d = &p->device;
    json_open(j, NULL, '{');
    json_text(j, "name", p->name);
    json_hex(j, "sign_seed", d->sign_secret, 32);
    json_hex(j, "sign_public", d->sign_public, sizeof d->sign_public);
    json_hex(j, "sign_kid", d->sign_kid, sizeof d->sign_kid);
    json_hex(j, "agree_secret", d->agree_secret, sizeof d->agree_secret);
    json_hex(j, "agree_public", d->agree_public, sizeof d->agree_public);
    json_hex(j, "agree_kid", d->agree_kid, sizeof d->agree_kid);
    json_close(j, '}');
}

static void emit_authority(json *j, const party *p)
{
    char text[PEP_AUTHORITY_TEXT_BYTES];
    pep_authority_text(text, p->device.sign_public);
    json_open(j, NULL, '{');
    json_hex(j, "sign_public", p->device.sign_public, PEP_SIGN_PUBLIC_BYTES);
    json_text(j, "text", text);
    json_close(j, '}');
}

static void emit_trust(json *j)
{
    json_open(j, "trust", '{');
    json_open(j, "authorities", '[');
    emit_authority(j, &parties[AUTHORITY_1]);
    emit_authority(j, &parties[AUTHORITY_2]);
    json_close(j, ']');
    json_hex(j, "admin", parties[ADMIN].device.sign_public, PEP_SIGN_PUBLIC_BYTES);
    json_close(j, '}');
}

static void emit_list(json *j, const char *key, void (*emit)(json *j))
{
    json_open(j, key, '[');
    emit(j);
    json_close(j, ']');
}

void directory_emit(json *j)
{
    parties_make();
    json_open(j, NULL, '{');
    json_text(j, "format", "pep directory vectors 1");
    json_open(j, "keys", '[');
    for (size_t i = 0; i < PARTIES; i++)
        emit_party(j, &parties[i]);
    json_close(j, ']');
    emit_trust(j);
    emit_list(j, "chains", chains_emit);
    emit_list(j, "certificates", certificates_emit);
    emit_list(j, "proofs", proofs_emit);
    emit_list(j, "entries", entries_emit);
    json_close(j, '}');
}
