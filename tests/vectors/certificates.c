/* Certificates, proofs of tokens, and entries. */
#include <sodium.h>
#include <string.h>

#include "envelope/signed.h"
#include "tests/vectors/directory.h"

#define MALFORMED .expect = "malformed"

/* ---- certificates: $a the kid of KEYS_1 ---- */

#define CERTIFICATE(count, members) count " 01 66 'pump-7' 02 50 $a 03 1a 6553f100 04 1a 657b7e00 " members

typedef struct {
    const char *name;
    const char *comment;
    const char *expect; /* NULL: ok */
    party_name signer;  /* 0: AUTHORITY_1 */
    const char *typ;    /* NULL: that of certificates */
    const char *header;
    const char *payload;
    const char *whole;
} certificate_case;

#define PLAIN CERTIFICATE("a4", "")

static const certificate_case certificates[] = {
    {.name = "certificate", .comment = "of a device", .payload = PLAIN},
    {.name = "certificate-other", .comment = "by the other authority", .signer = AUTHORITY_2, .payload = PLAIN},
    {.name = "certificate-groups",
     .comment = "sorted bytewise: capitals first, and a beginning before what goes on",
     .payload = CERTIFICATE("a5", "05 83 63 'Ops' 61 'a' 62 'aa'")},
    {.name = "certificate-gate", .comment = "of a gate", .payload = CERTIFICATE("a5", "06 f5")},
    {.name = "certificate-both", .comment = "groups and gate", .payload = CERTIFICATE("a6", "05 81 63 'ops' 06 f5")},
    {.name = "certificate-sixteen-groups",
     .comment = "as many as there may be",
     .payload =
         CERTIFICATE("a5", "05 90 61'a'61'b'61'c'61'd'61'e'61'f'61'g'61'h'61'i'61'j'61'k'61'l'61'm'61'n'61'o'61'p'")},
    {.name = "certificate-seventeen-groups",
     .comment = "one more",
     MALFORMED,
     .payload = CERTIFICATE(
         "a5", "05 91 61'a'61'b'61'c'61'd'61'e'61'f'61'g'61'h'61'i'61'j'61'k'61'l'61'm'61'n'61'o'61'p'61'q'")},
    {.name = "certificate-no-groups", .comment = "an empty list", MALFORMED, .payload = CERTIFICATE("a5", "05 80")},
    {.name = "certificate-unsorted",
     .comment = "aa before a",
     MALFORMED,
     .payload = CERTIFICATE("a5", "05 82 62 'aa' 61 'a'")},
    {.name = "certificate-twice",
     .comment = "a group twice",
     MALFORMED,
     .payload = CERTIFICATE("a5", "05 82 61 'a' 61 'a'")},
    {.name = "certificate-group-name",
     .comment = "a slash in a group",
     MALFORMED,
     .payload = CERTIFICATE("a5", "05 81 63 'a/b'")},
    {.name = "certificate-no-gate", .comment = "gate, and false", MALFORMED, .payload = CERTIFICATE("a5", "06 f4")},
    {.name = "certificate-swapped",
     .comment = "gate before groups",
     MALFORMED,
     .payload = CERTIFICATE("a6", "06 f5 05 81 63 'ops'")},
    {.name = "certificate-unknown", .comment = "a member 7", MALFORMED, .payload = CERTIFICATE("a5", "07 00")},
    {.name = "certificate-times",
     .comment = "not-after is not later than issued",
     MALFORMED,
     .payload = "a4 01 66 'pump-7' 02 50 $a 03 1a 657b7e00 04 1a 657b7e00"},
    {.name = "certificate-id",
     .comment = "a slash in the id",
     MALFORMED,
     .payload = "a4 01 66 'pump/7' 02 50 $a 03 1a 6553f100 04 1a 657b7e00"},
    {.name = "certificate-kid",
     .comment = "a kid of 15 bytes",
     MALFORMED,
     .payload = "a4 01 66 'pump-7' 02 4f {15:07} 03 1a 6553f100 04 1a 657b7e00"},
    {.name = "certificate-trailing",
     .comment = "a byte behind",
     MALFORMED,
     .payload = PLAIN,
     .whole = "d2 84 $X a0 $Y $Z 00"},
    {.name = "certificate-typ",
     .comment = "the typ of a revocation",
     MALFORMED,
     .typ = TYP_REVOCATION,
     .payload = PLAIN},
    {.name = "certificate-algorithm",
     .comment = "EdDSA (-8)",
     .expect = "unsupported-algorithm",
     .header = "a3 01 27 04 50 $f 10 78 1b 'application/pep-certificate'",
     .payload = PLAIN},
    {.name = "certificate-unknown-authority",
     .comment = "by an authority that is not trusted here",
     .expect = "not-certified",
     .signer = AUTHORITY_OTHER,
     .payload = PLAIN},
    {.name = "certificate-by-device",
     .comment = "by the device itself",
     .expect = "not-certified",
     .signer = STRANGER,
     .payload = PLAIN},
    {.name = "certificate-signature",
     .comment = "an authority's kid, and another's signature",
     .expect = "bad-signature",
     .signer = AUTHORITY_OTHER,
     .header = "a3 01 32 04 50 $f 10 78 1b 'application/pep-certificate'",
     .payload = PLAIN},
};

static void emit_covers(json *j, const pep_certificate *c, const char *id, party_name keys, bool gate, uint64_t now_s)
{
    const uint8_t *kid = parties[keys].device.sign_kid;
    json_open(j, NULL, '{');
    json_text(j, "id", id);
    json_hex(j, "kid", kid, PEP_KID_BYTES);
    json_bool(j, "gate", gate);
    json_number(j, "now_s", now_s);
    json_text(j, "expect", pep_reason_name(pep_certificate_covers(c, id, kid, gate, now_s)));
    json_close(j, '}');
}

static void emit_certificate(json *j, const bytes *certificate)
{
    pep_certificate c;
    uint8_t keys[2][PEP_SIGN_PUBLIC_BYTES];
    memcpy(keys[0], parties[AUTHORITY_1].device.sign_public, sizeof keys[0]);
    memcpy(keys[1], parties[AUTHORITY_2].device.sign_public, sizeof keys[1]);
    must(pep_certificate_parse(&c, certificate->p, certificate->n, (const uint8_t(*)[PEP_SIGN_PUBLIC_BYTES])keys, 2) ==
             PEP_OK,
         "no certificate");
    json_text(j, "id", c.id);
    json_hex(j, "kid", c.kid, sizeof c.kid);
    json_number(j, "issued_s", c.issued_s);
    json_number(j, "not_after_s", c.not_after_s);
    json_open(j, "groups", '[');
    for (size_t i = 0; i < c.group_count; i++)
        json_text(j, NULL, c.groups[i]);
    json_close(j, ']');
    json_bool(j, "gate", c.gate);
    json_open(j, "covers", '[');
    emit_covers(j, &c, DEVICE_ID, KEYS_1, c.gate, c.not_after_s);
    emit_covers(j, &c, DEVICE_ID, KEYS_1, c.gate, c.not_after_s + 1);
    emit_covers(j, &c, DEVICE_ID, KEYS_1, !c.gate, c.not_after_s);
    emit_covers(j, &c, DEVICE_ID, KEYS_2, c.gate, c.not_after_s);
    emit_covers(j, &c, "pump-8", KEYS_1, c.gate, c.not_after_s);
    json_close(j, ']');
}

void certificates_emit(json *j)
{
    slots s = {.slot = {[0] = {NULL, 0}}};
    directory_slots(&s);
    for (size_t i = 0; i < COUNT(certificates); i++) {
        const certificate_case *c = &certificates[i];
        bytes out = {.n = 0};
        directory_sign(&out, c->signer == 0 ? AUTHORITY_1 : c->signer, c->typ == NULL ? TYP_CERTIFICATE : c->typ,
                       c->header, c->payload, c->whole, &s);
        json_open(j, NULL, '{');
        json_text(j, "name", c->name);
        json_text(j, "comment", c->comment);
        json_hex(j, "certificate", out.p, out.n);
        json_text(j, "expect", c->expect == NULL ? "ok" : c->expect);
        if (c->expect == NULL)
            emit_certificate(j, &out);
        json_close(j, '}');
    }
}

/* ---- proofs ---- */

#define TOKEN "AAECAwQFBgcICQoLDA0ODxAREhMUFRYX"

static void emit_proof(json *j, const char *name, const char *comment, const char *expect, const char *token,
                       const uint8_t *hash, const bytes *proof)
{
    uint8_t kid[PEP_KID_BYTES];
    json_open(j, NULL, '{');
    json_text(j, "name", name);
    json_text(j, "comment", comment);
    if (token != NULL)
        json_text(j, "token", token);
    json_hex(j, "record_hash", hash, PEP_SHA256_BYTES);
    json_hex(j, "proof", proof->p, proof->n);
    json_text(j, "expect", expect);
    if (strcmp(expect, "ok") == 0) {
        must(pep_token_verify(kid, proof->p, proof->n, hash) == PEP_OK, name);
        json_hex(j, "token_kid", kid, sizeof kid);
    }
    json_close(j, '}');
}

void proofs_emit(json *j)
{
    uint8_t hash[PEP_SHA256_BYTES];
    uint8_t other[PEP_SHA256_BYTES];
    bytes proof;
    bytes forged = {.n = 0};
    slots s = {.slot = {['q'] = {hash, sizeof hash}}};
    directory_slots(&s);
    crypto_hash_sha256(hash, (const uint8_t *)"a record", 8);
    crypto_hash_sha256(other, (const uint8_t *)"another record", 14);
    must(pep_token_prove(proof.p, &proof.n, TOKEN, hash) == PEP_OK, "no proof");
    emit_proof(j, "proof", "of the token, for this record", "ok", TOKEN, hash, &proof);
    emit_proof(j, "proof-other-record", "the same proof, for another record", "bad-token", TOKEN, other, &proof);
    directory_sign(&forged, STRANGER, TYP_ENROLLMENT, NULL, "a2 01 58 20 $q 02 58 20 $A", NULL, &s);
    emit_proof(j, "proof-other-key", "it states another key than its signer's", "malformed", NULL, hash, &forged);
    forged.n = 0;
    directory_sign(&forged, STRANGER, TYP_ENROLLMENT, NULL, "a2 01 58 20 $q 02 58 20 $E", NULL, &s);
    emit_proof(j, "proof-any-key", "a key that comes from no token: only who knows the tokens can tell", "ok", NULL,
               hash, &forged);
    forged.n = 0;
    directory_sign(&forged, STRANGER, TYP_RECORD, NULL, "a2 01 58 20 $q 02 58 20 $E", NULL, &s);
    emit_proof(j, "proof-typ", "the typ of a record", "malformed", NULL, hash, &forged);
    forged.n = 0;
    directory_sign(&forged, STRANGER, TYP_ENROLLMENT, NULL, "a3 01 58 20 $q 02 58 20 $E 03 00", NULL, &s);
    emit_proof(j, "proof-unknown", "a third member", "malformed", NULL, hash, &forged);
    proof.p[proof.n - 1] ^= 1;
    emit_proof(j, "proof-signature", "a bit of it changed", "bad-signature", TOKEN, hash, &proof);
}

/* ---- entries ---- */

typedef struct {
    const char *name;
    const char *comment;
    const char *expect; /* NULL: ok */
    const char *entry;
    const char *statement; /* what is in it */
    const char *certificate;
} entry_case;

static const entry_case entries[] = {
    {.name = "entry", .comment = "a statement alone", .entry = "83 01 43 010203 f6", .statement = "010203"},
    {.name = "entry-certified",
     .comment = "and its certificate",
     .entry = "83 01 43 010203 42 0405",
     .statement = "010203",
     .certificate = "0405"},
    {.name = "entry-version", .comment = "another version", .expect = "unsupported-version", .entry = "83 02 41 00 f6"},
    {.name = "entry-version-alone",
     .comment = "of which nothing else is known",
     .expect = "unsupported-version",
     .entry = "82 02 00"},
    {.name = "entry-short", .comment = "two items", MALFORMED, .entry = "82 01 41 00"},
    {.name = "entry-long", .comment = "four items", MALFORMED, .entry = "84 01 41 00 f6 f6"},
    {.name = "entry-empty-statement", .comment = "no statement", MALFORMED, .entry = "83 01 40 f6"},
    {.name = "entry-empty-certificate", .comment = "a certificate without bytes", MALFORMED, .entry = "83 01 41 00 40"},
    {.name = "entry-text", .comment = "text for a certificate", MALFORMED, .entry = "83 01 41 00 61 'a'"},
    {.name = "entry-true", .comment = "true for a certificate", MALFORMED, .entry = "83 01 41 00 f5"},
    {.name = "entry-trailing", .comment = "a byte behind it", MALFORMED, .entry = "83 01 41 00 f6 00"},
    {.name = "entry-large", .comment = "a statement of 1,401 bytes", MALFORMED, .entry = "83 01 59 0579 {1401:00} f6"},
};

static void emit_filled(json *j, const char *key, const char *text)
{
    static const slots none;
    bytes out = {.n = 0};
    template_fill(&out, text, &none);
    json_hex(j, key, out.p, out.n);
}

void entries_emit(json *j)
{
    for (size_t i = 0; i < COUNT(entries); i++) {
        const entry_case *e = &entries[i];
        json_open(j, NULL, '{');
        json_text(j, "name", e->name);
        json_text(j, "comment", e->comment);
        emit_filled(j, "entry", e->entry);
        json_text(j, "expect", e->expect == NULL ? "ok" : e->expect);
        if (e->statement != NULL)
            emit_filled(j, "statement", e->statement);
        if (e->certificate != NULL)
            emit_filled(j, "certificate", e->certificate);
        json_close(j, '}');
    }
}
