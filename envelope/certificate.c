/* Certificates: an authority's word on whose a signing key is. */
#include <stdlib.h>
#include <string.h>

#include "envelope/files.h"
#include "envelope/signed.h"

enum {
    CERTIFICATE_ID = 1,
    CERTIFICATE_KID = 2,
    CERTIFICATE_ISSUED = 3,
    CERTIFICATE_NOT_AFTER = 4,
    CERTIFICATE_GROUPS = 5,
    CERTIFICATE_GATE = 6
};

/* ---- signing ---- */

static int by_name(const void *a, const void *b)
{
    return strcmp(a, b);
}

static bool name_valid(const char name[PEP_ID_MAX + 1])
{
    return pep_id_valid(name, strnlen(name, PEP_ID_MAX + 1));
}

static bool sort_groups(pep_certificate *c)
{
    if (c->group_count > PEP_GROUPS_MAX)
        return false;
    for (size_t i = 0; i < c->group_count; i++)
        if (!name_valid(c->groups[i]))
            return false;
    qsort(c->groups, c->group_count, sizeof c->groups[0], by_name);
    for (size_t i = 1; i < c->group_count; i++)
        if (strcmp(c->groups[i - 1], c->groups[i]) == 0)
            return false;
    return true;
}

static void write_certificate(pep_writer *w, const pep_certificate *c)
{
    pep_write_map(w, 4U + (c->group_count > 0 ? 1U : 0U) + (c->gate ? 1U : 0U));
    pep_write_uint(w, CERTIFICATE_ID);
    pep_write_string(w, c->id);
    pep_write_uint(w, CERTIFICATE_KID);
    pep_write_bytes(w, c->kid, PEP_KID_BYTES);
    pep_write_uint(w, CERTIFICATE_ISSUED);
    pep_write_uint(w, c->issued_s);
    pep_write_uint(w, CERTIFICATE_NOT_AFTER);
    pep_write_uint(w, c->not_after_s);
    if (c->group_count > 0) {
        pep_write_uint(w, CERTIFICATE_GROUPS);
        pep_write_array(w, c->group_count);
        for (size_t i = 0; i < c->group_count; i++)
            pep_write_string(w, c->groups[i]);
    }
    if (c->gate) {
        pep_write_uint(w, CERTIFICATE_GATE);
        pep_write_bool(w, true);
    }
}

pep_reason pep_certificate_sign(uint8_t *out, size_t *out_n, const pep_authority *authority, pep_certificate *c)
{
    uint8_t payload[PEP_CERTIFICATE_BYTES_MAX];
    pep_writer w = {.p = payload, .cap = sizeof payload};
    *out_n = 0;
    if (!name_valid(c->id) || c->not_after_s <= c->issued_s || !sort_groups(c))
        return PEP_BAD_ARGUMENT;
    write_certificate(&w, c);
    return sign_object(out, out_n, PEP_CERTIFICATE_BYTES_MAX, TYP_CERTIFICATE, authority->sign_secret, &w);
}

/* ---- parsing ---- */

static bool parse_groups(pep_reader *r, pep_certificate *out)
{
    uint64_t count;
    if (!pep_read_array(r, &count) || count < 1 || count > PEP_GROUPS_MAX)
        return false;
    for (; out->group_count < count; out->group_count++) {
        char *group = out->groups[out->group_count];
        if (!read_id(r, group) || (out->group_count > 0 && strcmp(out->groups[out->group_count - 1], group) >= 0))
            return false;
    }
    return true;
}

/* What may be there, or not: in this order, each once. */
static bool parse_options(pep_reader *r, pep_map *map, pep_certificate *out)
{
    pep_item key;
    pep_item value;
    while (map->left > 0) {
        if (!pep_map_key(r, map, &key) || key.type != ITEM_UINT)
            return false;
        if (key.value == CERTIFICATE_GROUPS) {
            if (!parse_groups(r, out))
                return false;
        } else if (key.value == CERTIFICATE_GATE) {
            if (!pep_read(r, &value) || value.type != ITEM_BOOL || value.value == 0)
                return false;
            out->gate = true;
        } else {
            return false;
        }
    }
    return true;
}

static bool parse_certificate(pep_certificate *out, pep_view payload)
{
    pep_reader r = pep_reader_of(payload);
    pep_map map;
    return pep_map_begin(&r, &map) && pep_map_expect(&r, &map, CERTIFICATE_ID) && read_id(&r, out->id) &&
           pep_map_expect(&r, &map, CERTIFICATE_KID) && read_copy(&r, out->kid, PEP_KID_BYTES) &&
           pep_map_expect(&r, &map, CERTIFICATE_ISSUED) && pep_read_uint(&r, &out->issued_s) &&
           pep_map_expect(&r, &map, CERTIFICATE_NOT_AFTER) && pep_read_uint(&r, &out->not_after_s) &&
           out->not_after_s > out->issued_s && parse_options(&r, &map, out) && pep_read_end(&r);
}

pep_reason pep_certificate_parse(pep_certificate *out, const uint8_t *bytes, size_t n,
                                 const uint8_t (*authorities)[PEP_SIGN_PUBLIC_BYTES], size_t authority_count)
{
    signed_object object;
    memset(out, 0, sizeof *out);
    if (n > PEP_CERTIFICATE_BYTES_MAX)
        return PEP_MALFORMED;
    pep_reason reason = parse_signed_as(&object, TYP_CERTIFICATE, (pep_view){bytes, n});
    if (reason != PEP_OK)
        return reason;
    if (!parse_certificate(out, object.payload))
        return PEP_MALFORMED;
    for (size_t i = 0; i < authority_count; i++) {
        uint8_t kid[PEP_KID_BYTES];
        pep_kid_sign(kid, authorities[i]);
        if (memcmp(kid, object.kid, PEP_KID_BYTES) == 0)
            return verify_signed(object.protected_bytes, object.payload, object.signature, authorities[i]);
    }
    return PEP_NOT_CERTIFIED;
}

pep_reason pep_certificate_covers(const pep_certificate *c, const char *id, const uint8_t kid[PEP_KID_BYTES], bool gate,
                                  uint64_t now_s)
{
    if (strcmp(c->id, id) != 0)
        return PEP_WRONG_ID;
    bool valid = memcmp(c->kid, kid, PEP_KID_BYTES) == 0 && c->gate == gate && now_s <= c->not_after_s;
    return valid ? PEP_OK : PEP_NOT_CERTIFIED;
}

/* ---- files ---- */

pep_reason pep_certificate_load(uint8_t *bytes, size_t *n, pep_error *error, const char *path)
{
    return file_read_armored_into(bytes, n, PEP_CERTIFICATE_BYTES_MAX, error, path, LABEL_CERTIFICATE);
}

pep_reason pep_certificate_replace(pep_error *error, const char *path, const uint8_t *bytes, size_t n)
{
    return file_replace_armored(error, path, LABEL_CERTIFICATE, FILE_PUBLIC, bytes, n);
}
