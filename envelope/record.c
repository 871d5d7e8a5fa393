/* Records: what a device says of its own public keys, signed with the one that it states. */
#include <sodium.h>
#include <string.h>

#include "envelope/error.h"
#include "envelope/files.h"
#include "envelope/signed.h"
#include "envelope/structures.h"
#include "pep/envelope.h"

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

/* ---- signing ---- */

/* What a record to be signed says beside the device's keys. */
typedef struct {
    uint64_t version;
    uint64_t issued_s;
    uint64_t not_after_s;
    const uint8_t *previous; /* hash of the statement before; NULL in version 1 */
} record_frame;

static void write_agree_key(pep_writer *w, const uint8_t kid[PEP_KID_BYTES], const uint8_t key[PEP_AGREE_PUBLIC_BYTES],
                            uint64_t not_after_s)
{
    pep_write_map(w, 4);
    pep_write_uint(w, AGREE_KID);
    pep_write_bytes(w, kid, PEP_KID_BYTES);
    pep_write_uint(w, AGREE_ALG);
    pep_write_int(w, ALG_HPKE_4);
    pep_write_uint(w, AGREE_KEY);
    pep_write_bytes(w, key, PEP_AGREE_PUBLIC_BYTES);
    pep_write_uint(w, AGREE_NOT_AFTER);
    pep_write_uint(w, not_after_s);
}

static bool goes_on(const pep_previous_keys *keys, const record_frame *frame)
{
    return frame->previous != NULL && frame->issued_s <= keys->until_s;
}

static void write_agree(pep_writer *w, const pep_device *device, const record_frame *frame)
{
    uint64_t count = 1;
    for (size_t i = 0; i < device->previous_count; i++)
        count += goes_on(&device->previous[i], frame);
    pep_write_array(w, count);
    write_agree_key(w, device->agree_kid, device->agree_public, frame->not_after_s);
    for (size_t i = 0; i < device->previous_count; i++) {
        const pep_previous_keys *keys = &device->previous[i];
        uint8_t key[PEP_AGREE_PUBLIC_BYTES];
        if (!goes_on(keys, frame))
            continue;
        crypto_scalarmult_base(key, keys->agree_secret);
        write_agree_key(w, keys->agree_kid, key, keys->until_s);
    }
}

static void write_record_payload(pep_writer *w, const pep_device *device, const record_frame *frame)
{
    pep_write_map(w, frame->previous == NULL ? 8 : 9);
    pep_write_uint(w, RECORD_ID);
    pep_write_string(w, device->id);
    pep_write_uint(w, RECORD_VERSION);
    pep_write_uint(w, frame->version);
    pep_write_uint(w, RECORD_ISSUED);
    pep_write_uint(w, frame->issued_s);
    pep_write_uint(w, RECORD_NOT_AFTER);
    pep_write_uint(w, frame->not_after_s);
    pep_write_uint(w, RECORD_SIGN_KEY);
    pep_write_bytes(w, device->sign_public, PEP_SIGN_PUBLIC_BYTES);
    pep_write_uint(w, RECORD_AGREE);
    write_agree(w, device, frame);
    pep_write_uint(w, RECORD_ENVELOPE_VERSIONS);
    pep_write_array(w, 1);
    pep_write_uint(w, PEP_ENVELOPE_VERSION);
    pep_write_uint(w, RECORD_ALGORITHMS);
    pep_write_array(w, 2);
    pep_write_int(w, ALG_CHACHA20_POLY1305);
    pep_write_int(w, ALG_HPKE_4);
    if (frame->previous == NULL)
        return;
    pep_write_uint(w, RECORD_PREVIOUS);
    pep_write_bytes(w, frame->previous, PEP_SHA256_BYTES);
}

static pep_reason sign_record(uint8_t *out, size_t *out_n, const pep_device *device, const record_frame *frame)
{
    uint8_t payload[PEP_RECORD_BYTES_MAX];
    pep_writer w = {.p = payload, .cap = sizeof payload};
    *out_n = 0;
    if (frame->not_after_s <= frame->issued_s || device->previous_count > PEP_PREVIOUS_MAX)
        return PEP_BAD_ARGUMENT;
    write_record_payload(&w, device, frame);
    return sign_object(out, out_n, PEP_RECORD_BYTES_MAX, TYP_RECORD, device->sign_secret, &w);
}

pep_reason pep_record_sign(uint8_t *out, size_t *out_n, const pep_device *device, uint64_t issued_s,
                           uint64_t not_after_s)
{
    return sign_record(out, out_n, device,
                       &(record_frame){.version = 1, .issued_s = issued_s, .not_after_s = not_after_s});
}

pep_reason pep_record_next(uint8_t *out, size_t *out_n, const pep_device *device, const pep_head *head,
                           uint64_t issued_s, uint64_t not_after_s)
{
    *out_n = 0;
    if (strcmp(device->id, head->id) != 0 || head->version < 1 || head->version == UINT64_MAX)
        return PEP_BAD_ARGUMENT;
    return sign_record(
        out, out_n, device,
        &(record_frame){
            .version = head->version + 1, .issued_s = issued_s, .not_after_s = not_after_s, .previous = head->hash});
}

/* ---- parsing ---- */

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

static bool parse_sign_key(pep_reader *r, pep_record *out)
{
    if (!read_copy(r, out->sign_public, PEP_SIGN_PUBLIC_BYTES))
        return false;
    pep_kid_sign(out->sign_kid, out->sign_public);
    return true;
}

/* Every version but the first follows a statement, and says which. */
static bool parse_previous(pep_reader *r, pep_map *map, pep_record *out)
{
    out->has_previous = out->version > 1;
    if (!out->has_previous)
        return map->left == 0;
    return map->left == 1 && pep_map_expect(r, map, RECORD_PREVIOUS) && read_copy(r, out->previous, PEP_SHA256_BYTES);
}

static bool parse_record_payload(pep_record *out, pep_view payload)
{
    pep_reader r = pep_reader_of(payload);
    pep_map map;
    return pep_map_begin(&r, &map) && pep_map_expect(&r, &map, RECORD_ID) && read_id(&r, out->id) &&
           pep_map_expect(&r, &map, RECORD_VERSION) && pep_read_uint(&r, &out->version) && out->version >= 1 &&
           pep_map_expect(&r, &map, RECORD_ISSUED) && pep_read_uint(&r, &out->issued_s) &&
           pep_map_expect(&r, &map, RECORD_NOT_AFTER) && pep_read_uint(&r, &out->not_after_s) &&
           out->not_after_s > out->issued_s && pep_map_expect(&r, &map, RECORD_SIGN_KEY) && parse_sign_key(&r, out) &&
           pep_map_expect(&r, &map, RECORD_AGREE) && parse_agree(&r, out) &&
           pep_map_expect(&r, &map, RECORD_ENVELOPE_VERSIONS) && parse_numbers(&r) &&
           pep_map_expect(&r, &map, RECORD_ALGORITHMS) && parse_numbers(&r) && parse_previous(&r, &map, out) &&
           pep_read_end(&r);
}

pep_reason pep_record_parse(pep_record *out, const uint8_t *bytes, size_t n)
{
    signed_object object;
    memset(out, 0, sizeof *out);
    if (n > PEP_RECORD_BYTES_MAX)
        return PEP_MALFORMED;
    pep_reason reason = parse_signed_as(&object, TYP_RECORD, (pep_view){bytes, n});
    if (reason != PEP_OK)
        return reason;
    if (!parse_record_payload(out, object.payload) || memcmp(out->sign_kid, object.kid, PEP_KID_BYTES) != 0)
        return PEP_MALFORMED;
    return verify_signed(object.protected_bytes, object.payload, object.signature, out->sign_public);
}

/* ---- files ---- */

pep_reason pep_record_load(pep_record *out, pep_error *error, const char *path)
{
    uint8_t bytes[PEP_STATEMENT_BYTES_MAX];
    size_t n;
    pep_statement statement;
    memset(out, 0, sizeof *out);
    pep_reason reason = pep_statement_load(&statement, bytes, &n, error, path);
    if (reason != PEP_OK)
        return reason;
    if (statement.kind == PEP_STATEMENT_REVOCATION)
        return pep_fail(error, PEP_BAD_FILE, "%s holds a revocation: the keys of %s are not valid any more", path,
                        statement.id);
    *out = statement.record;
    return PEP_OK;
}

pep_reason pep_record_save(pep_error *error, const char *path, const uint8_t *bytes, size_t n)
{
    return file_create_armored(error, path, LABEL_RECORD, FILE_PUBLIC, bytes, n);
}
