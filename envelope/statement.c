/* Statements: the links of a device's history, and the walk from one to the next. */
#include <sodium.h>
#include <string.h>

#include "envelope/error.h"
#include "envelope/files.h"
#include "envelope/signed.h"
#include "envelope/structures.h"
#include "pep/directory.h"

enum { ROTATION_RECORD = 1, ROTATION_OLD_KID = 2, ROTATION_CUTOFF = 3 };
enum {
    REVOCATION_ID = 1,
    REVOCATION_VERSION = 2,
    REVOCATION_ISSUED = 3,
    REVOCATION_KID = 4,
    REVOCATION_CUTOFF = 5,
    REVOCATION_PREVIOUS = 6
};

static bool kids_equal(const uint8_t a[PEP_KID_BYTES], const uint8_t b[PEP_KID_BYTES])
{
    return memcmp(a, b, PEP_KID_BYTES) == 0;
}

static bool is_kid(const uint8_t kid[PEP_KID_BYTES]) /* zeros mean that there is none */
{
    return !sodium_is_zero(kid, PEP_KID_BYTES);
}

/* ---- parsing ---- */

static void take_record(pep_statement *out)
{
    const pep_record *r = &out->record;
    memcpy(out->id, r->id, sizeof out->id);
    out->version = r->version;
    out->issued_s = r->issued_s;
    memcpy(out->previous, r->previous, PEP_SHA256_BYTES);
}

/* A record alone is the first statement; a later one stands in the rotation that says who wants it. */
static pep_reason parse_first(pep_statement *out, pep_view bytes)
{
    pep_reason reason = pep_record_parse(&out->record, bytes.p, bytes.n);
    if (reason == PEP_OK && out->record.version != 1)
        reason = PEP_MALFORMED;
    take_record(out);
    return reason;
}

static bool parse_ending(pep_reader *r, pep_map *map, pep_statement *out)
{
    if (map->left == 0)
        return true;
    return map->left == 2 && pep_map_expect(r, map, ROTATION_OLD_KID) && read_copy(r, out->old_kid, PEP_KID_BYTES) &&
           is_kid(out->old_kid) && pep_map_expect(r, map, ROTATION_CUTOFF) && pep_read_uint(r, &out->cutoff) &&
           out->cutoff >= 1 && out->cutoff <= PEP_SEQ_MAX;
}

static pep_reason parse_rotation(pep_statement *out)
{
    pep_reader r = pep_reader_of(out->payload);
    pep_map map;
    pep_view record;
    if (!pep_map_begin(&r, &map) || !pep_map_expect(&r, &map, ROTATION_RECORD) || !pep_read_bytes(&r, &record) ||
        !parse_ending(&r, &map, out) || !pep_read_end(&r))
        return PEP_MALFORMED;
    pep_reason reason = pep_record_parse(&out->record, record.p, record.n);
    if (reason != PEP_OK)
        return reason;
    take_record(out);
    return out->version > 1 && !kids_equal(out->old_kid, out->record.sign_kid) ? PEP_OK : PEP_MALFORMED;
}

static pep_reason parse_revocation(pep_statement *out)
{
    pep_reader r = pep_reader_of(out->payload);
    pep_map map;
    bool ok = pep_map_begin(&r, &map) && map.left == 6 && pep_map_expect(&r, &map, REVOCATION_ID) &&
              read_id(&r, out->id) && pep_map_expect(&r, &map, REVOCATION_VERSION) &&
              pep_read_uint(&r, &out->version) && out->version > 1 && pep_map_expect(&r, &map, REVOCATION_ISSUED) &&
              pep_read_uint(&r, &out->issued_s) && pep_map_expect(&r, &map, REVOCATION_KID) &&
              read_copy(&r, out->old_kid, PEP_KID_BYTES) && is_kid(out->old_kid) &&
              pep_map_expect(&r, &map, REVOCATION_CUTOFF) && pep_read_uint(&r, &out->cutoff) &&
              out->cutoff <= PEP_SEQ_MAX && pep_map_expect(&r, &map, REVOCATION_PREVIOUS) &&
              read_copy(&r, out->previous, PEP_SHA256_BYTES) && pep_read_end(&r);
    return ok ? PEP_OK : PEP_MALFORMED;
}

static bool find_kind(pep_statement_kind *kind, const signed_object *object)
{
    static const struct {
        const char *typ;
        pep_statement_kind kind;
    } kinds[] = {{TYP_RECORD, PEP_STATEMENT_RECORD},
                 {TYP_ROTATION, PEP_STATEMENT_ROTATION},
                 {TYP_REVOCATION, PEP_STATEMENT_REVOCATION}};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (signed_has_typ(object, kinds[i].typ)) {
            *kind = kinds[i].kind;
            return true;
        }
    return false;
}

static pep_reason parse_kind(pep_statement *out, pep_view bytes)
{
    switch (out->kind) {
    case PEP_STATEMENT_RECORD:
        return parse_first(out, bytes);
    case PEP_STATEMENT_ROTATION:
        return parse_rotation(out);
    default:
        return parse_revocation(out);
    }
}

pep_reason pep_statement_parse(pep_statement *out, const uint8_t *bytes, size_t n)
{
    signed_object object;
    memset(out, 0, sizeof *out);
    if (!parse_signed(&object, (pep_view){bytes, n}) || !find_kind(&out->kind, &object))
        return PEP_MALFORMED;
    if (object.alg != ALG_ED25519)
        return PEP_UNSUPPORTED_ALGORITHM;
    crypto_hash_sha256(out->hash, bytes, n);
    memcpy(out->signer_kid, object.kid, PEP_KID_BYTES);
    out->protected_bytes = object.protected_bytes;
    out->payload = object.payload;
    out->signature = object.signature;
    return parse_kind(out, (pep_view){bytes, n});
}

/* ---- walking ---- */

static void take_head(pep_head *head, const pep_statement *s)
{
    memcpy(head->id, s->id, sizeof head->id);
    head->version = s->version;
    memcpy(head->hash, s->hash, PEP_SHA256_BYTES);
    head->revoked = s->kind == PEP_STATEMENT_REVOCATION;
    if (head->revoked)
        return;
    memcpy(head->sign_kid, s->record.sign_kid, PEP_KID_BYTES);
    memcpy(head->sign_public, s->record.sign_public, PEP_SIGN_PUBLIC_BYTES);
}

pep_reason pep_head_begin(pep_head *out, const pep_statement *first)
{
    memset(out, 0, sizeof *out);
    if (first->kind == PEP_STATEMENT_REVOCATION)
        return PEP_BAD_ARGUMENT;
    take_head(out, first);
    return PEP_OK;
}

/* The key that ends is the one that is current: else a cutoff would end nothing, or another key. */
static pep_reason judge_ending(const pep_head *head, const pep_statement *next)
{
    bool ends = is_kid(next->old_kid);
    bool names_current = kids_equal(next->old_kid, head->sign_kid);
    if (next->kind == PEP_STATEMENT_REVOCATION)
        return names_current ? PEP_OK : PEP_BROKEN_CHAIN;
    bool same_key = kids_equal(next->record.sign_kid, head->sign_kid);
    if (head->revoked && same_key) /* what was revoked does not come back */
        return PEP_REVOKED_SIGNER;
    if (head->revoked || same_key)
        return ends ? PEP_BROKEN_CHAIN : PEP_OK;
    return names_current ? PEP_OK : PEP_BROKEN_CHAIN;
}

static pep_reason judge_place(const pep_head *head, const pep_statement *next)
{
    if (strcmp(head->id, next->id) != 0)
        return PEP_WRONG_ID;
    if (next->version <= head->version || next->version - head->version != 1)
        return PEP_WRONG_VERSION;
    if (next->kind == PEP_STATEMENT_RECORD || memcmp(head->hash, next->previous, PEP_SHA256_BYTES) != 0)
        return PEP_BROKEN_CHAIN;
    if (head->revoked && next->kind == PEP_STATEMENT_REVOCATION)
        return PEP_REVOKED_SIGNER;
    return judge_ending(head, next);
}

/* The key whose kid the signer stated: the kid is computed here, from a key that is trusted. */
static const uint8_t *find_signer(pep_signed_by *by, const pep_head *head, const pep_statement *next,
                                  const pep_trust *trust)
{
    uint8_t kid[PEP_KID_BYTES];
    *by = PEP_SIGNED_BY_DEVICE;
    if (!head->revoked && kids_equal(next->signer_kid, head->sign_kid))
        return head->sign_public;
    *by = PEP_SIGNED_BY_AUTHORITY;
    for (size_t i = 0; i < trust->authority_count; i++) {
        pep_kid_sign(kid, trust->authorities[i]);
        if (kids_equal(next->signer_kid, kid))
            return trust->authorities[i];
    }
    *by = PEP_SIGNED_BY_ADMIN;
    if (next->kind != PEP_STATEMENT_REVOCATION || trust->admin_public == NULL)
        return NULL;
    pep_kid_sign(kid, trust->admin_public);
    return kids_equal(next->signer_kid, kid) ? trust->admin_public : NULL;
}

pep_reason pep_head_advance(pep_head *head, pep_signed_by *by, const pep_statement *next, const pep_trust *trust)
{
    pep_signed_by signed_by;
    pep_reason reason = judge_place(head, next);
    if (reason != PEP_OK)
        return reason;
    const uint8_t *key = find_signer(&signed_by, head, next, trust);
    if (key == NULL)
        return head->revoked ? PEP_REVOKED_SIGNER : PEP_UNPROVEN_KEY;
    reason = verify_signed(next->protected_bytes, next->payload, next->signature, key);
    if (reason != PEP_OK)
        return reason;
    take_head(head, next);
    if (by != NULL)
        *by = signed_by;
    return PEP_OK;
}

/* ---- signing ---- */

/* Whether a cutoff belongs there, and is one. */
static bool cutoff_valid(const pep_head *head, const pep_record *record, uint64_t cutoff)
{
    bool ends = !head->revoked && !kids_equal(head->sign_kid, record->sign_kid);
    return ends ? cutoff >= 1 && cutoff <= PEP_SEQ_MAX : cutoff == 0;
}

static bool record_follows(const pep_head *head, const pep_record *record)
{
    return strcmp(record->id, head->id) == 0 && record->version > 1 && record->version - 1 == head->version &&
           memcmp(record->previous, head->hash, PEP_SHA256_BYTES) == 0;
}

pep_reason pep_rotation_sign(uint8_t *out, size_t *out_n, const uint8_t signer_secret[PEP_SIGN_SECRET_BYTES],
                             const pep_head *head, const uint8_t *record, size_t record_n, uint64_t cutoff)
{
    uint8_t payload[PEP_STATEMENT_BYTES_MAX];
    pep_writer w = {.p = payload, .cap = sizeof payload};
    pep_record parsed;
    *out_n = 0;
    if (pep_record_parse(&parsed, record, record_n) != PEP_OK || !record_follows(head, &parsed) ||
        !cutoff_valid(head, &parsed, cutoff))
        return PEP_BAD_ARGUMENT;
    pep_write_map(&w, cutoff > 0 ? 3 : 1);
    pep_write_uint(&w, ROTATION_RECORD);
    pep_write_bytes(&w, record, record_n);
    if (cutoff > 0) {
        pep_write_uint(&w, ROTATION_OLD_KID);
        pep_write_bytes(&w, head->sign_kid, PEP_KID_BYTES);
        pep_write_uint(&w, ROTATION_CUTOFF);
        pep_write_uint(&w, cutoff);
    }
    return sign_object(out, out_n, PEP_STATEMENT_BYTES_MAX, TYP_ROTATION, signer_secret, &w);
}

pep_reason pep_revocation_sign(uint8_t *out, size_t *out_n, const uint8_t signer_secret[PEP_SIGN_SECRET_BYTES],
                               const pep_head *head, uint64_t issued_s, uint64_t cutoff)
{
    uint8_t payload[PEP_STATEMENT_BYTES_MAX];
    pep_writer w = {.p = payload, .cap = sizeof payload};
    *out_n = 0;
    if (head->revoked || head->version < 1 || head->version == UINT64_MAX || cutoff > PEP_SEQ_MAX)
        return PEP_BAD_ARGUMENT;
    pep_write_map(&w, 6);
    pep_write_uint(&w, REVOCATION_ID);
    pep_write_string(&w, head->id);
    pep_write_uint(&w, REVOCATION_VERSION);
    pep_write_uint(&w, head->version + 1);
    pep_write_uint(&w, REVOCATION_ISSUED);
    pep_write_uint(&w, issued_s);
    pep_write_uint(&w, REVOCATION_KID);
    pep_write_bytes(&w, head->sign_kid, PEP_KID_BYTES);
    pep_write_uint(&w, REVOCATION_CUTOFF);
    pep_write_uint(&w, cutoff);
    pep_write_uint(&w, REVOCATION_PREVIOUS);
    pep_write_bytes(&w, head->hash, PEP_SHA256_BYTES);
    return sign_object(out, out_n, PEP_STATEMENT_BYTES_MAX, TYP_REVOCATION, signer_secret, &w);
}

/* ---- files ---- */

pep_reason pep_statement_load(pep_statement *out, uint8_t *bytes, size_t *n, pep_error *error, const char *path)
{
    memset(out, 0, sizeof *out);
    pep_reason reason = file_read_armored_into(bytes, n, PEP_STATEMENT_BYTES_MAX, error, path, LABEL_RECORD);
    if (reason != PEP_OK)
        return reason;
    reason = pep_statement_parse(out, bytes, *n);
    if (reason != PEP_OK)
        return pep_fail(error, PEP_BAD_FILE, "%s holds no valid record: %s", path, pep_reason_name(reason));
    return PEP_OK;
}

pep_reason pep_statement_replace(pep_error *error, const char *path, const uint8_t *bytes, size_t n)
{
    return file_replace_armored(error, path, LABEL_RECORD, FILE_PUBLIC, bytes, n);
}
