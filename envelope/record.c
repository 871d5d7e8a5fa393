/* Records: what a device says of its own public keys, signed with the one that it states. */
#include <sodium.h>
#include <string.h>

#include "envelope/cbor.h"
#include "envelope/error.h"
#include "envelope/files.h"
#include "envelope/structures.h"
#include "pep/envelope.h"
#include "pep/keys.h"

#define RECORD_LABEL "PEP RECORD"
#define RECORD_TYP                                                                                                     \
    "application/pep-record" /* RFC 9596: no other signed object can pass for a record, nor it for one                 \
                              */

enum {
    RECORD_ID = 1,
    RECORD_VERSION = 2,
    RECORD_ISSUED = 3,
    RECORD_NOT_AFTER = 4,
    RECORD_SIGN_KEY = 5,
    RECORD_AGREE = 6,
    RECORD_ENVELOPE_VERSIONS = 7,
    RECORD_ALGORITHMS = 8,
    RECORD_PREVIOUS = 9
};
enum { AGREE_KID = 1, AGREE_ALG = 2, AGREE_KEY = 3, AGREE_NOT_AFTER = 4 };
enum { PREVIOUS_HASH_BYTES = 32 };

/* ---- signing ---- */

static void write_record_header(pep_writer *w, const pep_device *device)
{
    pep_write_map(w, 3);
    pep_write_uint(w, LABEL_ALG);
    pep_write_int(w, ALG_ED25519);
    pep_write_uint(w, LABEL_KID);
    pep_write_bytes(w, device->sign_kid, PEP_KID_BYTES);
    pep_write_uint(w, LABEL_TYP);
    pep_write_string(w, RECORD_TYP);
}

static void write_agree_key(pep_writer *w, const pep_device *device, uint64_t not_after_s)
{
    pep_write_map(w, 4);
    pep_write_uint(w, AGREE_KID);
    pep_write_bytes(w, device->agree_kid, PEP_KID_BYTES);
    pep_write_uint(w, AGREE_ALG);
    pep_write_int(w, ALG_HPKE_4);
    pep_write_uint(w, AGREE_KEY);
    pep_write_bytes(w, device->agree_public, PEP_AGREE_PUBLIC_BYTES);
    pep_write_uint(w, AGREE_NOT_AFTER);
    pep_write_uint(w, not_after_s);
}

static void write_record_payload(pep_writer *w, const pep_device *device, uint64_t issued_s, uint64_t not_after_s)
{
    pep_write_map(w, 8);
    pep_write_uint(w, RECORD_ID);
    pep_write_string(w, device->id);
    pep_write_uint(w, RECORD_VERSION);
    pep_write_uint(w, 1);
    pep_write_uint(w, RECORD_ISSUED);
    pep_write_uint(w, issued_s);
    pep_write_uint(w, RECORD_NOT_AFTER);
    pep_write_uint(w, not_after_s);
    pep_write_uint(w, RECORD_SIGN_KEY);
    pep_write_bytes(w, device->sign_public, PEP_SIGN_PUBLIC_BYTES);
    pep_write_uint(w, RECORD_AGREE);
    pep_write_array(w, 1);
    write_agree_key(w, device, not_after_s);
    pep_write_uint(w, RECORD_ENVELOPE_VERSIONS);
    pep_write_array(w, 1);
    pep_write_uint(w, PEP_ENVELOPE_VERSION);
    pep_write_uint(w, RECORD_ALGORITHMS);
    pep_write_array(w, 2);
    pep_write_int(w, ALG_CHACHA20_POLY1305);
    pep_write_int(w, ALG_HPKE_4);
}

pep_reason pep_record_sign(uint8_t *out, size_t *out_n, const pep_device *device, uint64_t issued_s,
                           uint64_t not_after_s)
{
    uint8_t header[128];
    uint8_t payload[PEP_RECORD_BYTES_MAX];
    uint8_t work[PEP_RECORD_BYTES_MAX];
    uint8_t signature[PEP_SIGNATURE_BYTES];
    *out_n = 0;
    if (not_after_s <= issued_s)
        return PEP_BAD_ARGUMENT;
    pep_writer h = {.p = header, .cap = sizeof header};
    pep_writer p = {.p = payload, .cap = sizeof payload};
    pep_writer s = {.p = work, .cap = sizeof work};
    write_record_header(&h, device);
    write_record_payload(&p, device, issued_s, not_after_s);
    write_sig_structure(&s, (pep_view){header, h.n}, (pep_view){payload, p.n});
    crypto_sign_detached(signature, NULL, work, s.n, device->sign_secret);
    pep_writer w = {.p = out, .cap = PEP_RECORD_BYTES_MAX};
    pep_write_tag(&w, TAG_SIGN1);
    pep_write_array(&w, 4);
    pep_write_bytes(&w, header, h.n);
    pep_write_map(&w, 0);
    pep_write_bytes(&w, payload, p.n);
    pep_write_bytes(&w, signature, sizeof signature);
    *out_n = w.n;
    return h.full || p.full || s.full || w.full ? PEP_BUFFER_TOO_SMALL : PEP_OK;
}

/* ---- parsing ---- */

static pep_reason parse_record_header(const uint8_t **kid, pep_view header)
{
    static const char typ[] = RECORD_TYP;
    pep_reader r = pep_reader_of(header);
    pep_map map;
    int64_t alg;
    pep_view text;
    if (!pep_map_begin(&r, &map) || map.left != 3 || !pep_map_expect(&r, &map, LABEL_ALG) || !pep_read_int(&r, &alg) ||
        !pep_map_expect(&r, &map, LABEL_KID) || !pep_read_fixed(&r, kid, PEP_KID_BYTES) ||
        !pep_map_expect(&r, &map, LABEL_TYP) || !pep_read_text(&r, &text) || !pep_read_end(&r))
        return PEP_MALFORMED;
    if (text.n != sizeof typ - 1 || memcmp(text.p, typ, text.n) != 0)
        return PEP_MALFORMED;
    return alg == ALG_ED25519 ? PEP_OK : PEP_UNSUPPORTED_ALGORITHM;
}

/* A key of another algorithm is well-formed, and passed over: `known` tells. */
static bool parse_agree_key(pep_reader *r, pep_agree_key *out, bool *known)
{
    pep_map map;
    const uint8_t *kid;
    const uint8_t *key = NULL;
    pep_view any_key;
    int64_t alg;
    if (!pep_map_begin(r, &map) || map.left != 4 || !pep_map_expect(r, &map, AGREE_KID) ||
        !pep_read_fixed(r, &kid, PEP_KID_BYTES) || !pep_map_expect(r, &map, AGREE_ALG) || !pep_read_int(r, &alg) ||
        !pep_map_expect(r, &map, AGREE_KEY) || !pep_read_bytes(r, &any_key) ||
        !pep_map_expect(r, &map, AGREE_NOT_AFTER) || !pep_read_uint(r, &out->not_after_s))
        return false;
    *known = alg == ALG_HPKE_4;
    if (!*known)
        return true;
    key = any_key.p;
    if (any_key.n != PEP_AGREE_PUBLIC_BYTES)
        return false;
    memcpy(out->key, key, PEP_AGREE_PUBLIC_BYTES);
    pep_kid_agree(out->kid, key);
    return memcmp(out->kid, kid, PEP_KID_BYTES) == 0; /* nobody believes a stated kid */
}

static bool parse_agree(pep_reader *r, pep_record *out)
{
    uint64_t count;
    if (!pep_read_array(r, &count) || count < 1 || count > PEP_AGREE_MAX)
        return false;
    for (uint64_t i = 0; i < count; i++) {
        bool known;
        if (!parse_agree_key(r, &out->agree[out->agree_count], &known))
            return false;
        out->agree_count += known;
    }
    return out->agree_count > 0;
}

/* Numbers of versions or algorithms that a device can open; for those who choose among several. */
static bool parse_numbers(pep_reader *r)
{
    uint64_t count;
    int64_t number;
    if (!pep_read_array(r, &count) || count < 1)
        return false;
    for (uint64_t i = 0; i < count; i++)
        if (!pep_read_int(r, &number))
            return false;
    return true;
}

static bool parse_id(pep_reader *r, pep_record *out)
{
    pep_view id;
    if (!pep_read_text(r, &id) || !pep_id_valid((const char *)id.p, id.n))
        return false;
    memcpy(out->id, id.p, id.n);
    return true;
}

static bool parse_sign_key(pep_reader *r, pep_record *out)
{
    const uint8_t *key;
    if (!pep_read_fixed(r, &key, PEP_SIGN_PUBLIC_BYTES))
        return false;
    memcpy(out->sign_public, key, PEP_SIGN_PUBLIC_BYTES);
    pep_kid_sign(out->sign_kid, key);
    return true;
}

static bool parse_previous(pep_reader *r, pep_map *map)
{
    const uint8_t *hash;
    return map->left == 0 ||
           (map->left == 1 && pep_map_expect(r, map, RECORD_PREVIOUS) && pep_read_fixed(r, &hash, PREVIOUS_HASH_BYTES));
}

static bool parse_record_payload(pep_record *out, pep_view payload)
{
    pep_reader r = pep_reader_of(payload);
    pep_map map;
    return pep_map_begin(&r, &map) && pep_map_expect(&r, &map, RECORD_ID) && parse_id(&r, out) &&
           pep_map_expect(&r, &map, RECORD_VERSION) && pep_read_uint(&r, &out->version) && out->version >= 1 &&
           pep_map_expect(&r, &map, RECORD_ISSUED) && pep_read_uint(&r, &out->issued_s) &&
           pep_map_expect(&r, &map, RECORD_NOT_AFTER) && pep_read_uint(&r, &out->not_after_s) &&
           out->not_after_s > out->issued_s && pep_map_expect(&r, &map, RECORD_SIGN_KEY) && parse_sign_key(&r, out) &&
           pep_map_expect(&r, &map, RECORD_AGREE) && parse_agree(&r, out) &&
           pep_map_expect(&r, &map, RECORD_ENVELOPE_VERSIONS) && parse_numbers(&r) &&
           pep_map_expect(&r, &map, RECORD_ALGORITHMS) && parse_numbers(&r) && parse_previous(&r, &map) &&
           pep_read_end(&r);
}

pep_reason pep_record_parse(pep_record *out, const uint8_t *bytes, size_t n)
{
    uint8_t work[PEP_RECORD_BYTES_MAX + SIG_PREFIX_BYTES];
    pep_reader r = pep_reader_of((pep_view){bytes, n});
    pep_view header;
    pep_view payload;
    pep_map unprotected;
    const uint8_t *signature;
    const uint8_t *kid;
    uint64_t count;
    memset(out, 0, sizeof *out);
    if (n > PEP_RECORD_BYTES_MAX || !pep_read_tag(&r, TAG_SIGN1) || !pep_read_array(&r, &count) || count != 4 ||
        !pep_read_bytes(&r, &header) || !pep_map_begin(&r, &unprotected) || unprotected.left != 0 ||
        !pep_read_bytes(&r, &payload) || !pep_read_fixed(&r, &signature, PEP_SIGNATURE_BYTES) || !pep_read_end(&r))
        return PEP_MALFORMED;
    pep_reason reason = parse_record_header(&kid, header);
    if (reason != PEP_OK)
        return reason;
    if (!parse_record_payload(out, payload) || memcmp(out->sign_kid, kid, PEP_KID_BYTES) != 0)
        return PEP_MALFORMED;
    return verify_sign1(work, sizeof work, header, payload, signature, out->sign_public);
}

/* ---- files ---- */

pep_reason pep_record_load(pep_record *out, pep_error *error, const char *path)
{
    uint8_t bytes[ARMOR_BYTES_MAX];
    size_t n;
    memset(out, 0, sizeof *out);
    pep_reason reason = file_read_armored(bytes, &n, error, path, RECORD_LABEL, FILE_PUBLIC);
    if (reason != PEP_OK)
        return reason;
    reason = pep_record_parse(out, bytes, n);
    if (reason != PEP_OK)
        return pep_fail(error, PEP_BAD_FILE, "%s holds no valid record: %s", path, pep_reason_name(reason));
    return PEP_OK;
}

pep_reason pep_record_save(pep_error *error, const char *path, const uint8_t *bytes, size_t n)
{
    return file_create_armored(error, path, RECORD_LABEL, FILE_PUBLIC, bytes, n);
}
