/* Taking an envelope apart. Every byte here is hostile: nothing is believed, everything is measured. */
#include "envelope/parse.h"

#include "envelope/crypto.h"
#include "envelope/structures.h"

/* ---- the signed header ---- */

static bool parse_ext_value(pep_reader *r, pep_envelope *out, uint64_t key)
{
    uint64_t counter;
    switch (key) {
    case EXT_FACTS:
        return parse_facts(r, &out->facts);
    case EXT_TO:
        return pep_read_fixed(r, &out->to, PEP_KID_BYTES);
    case EXT_EXP:
        return pep_read_uint(r, &out->exp_s) && out->exp_s > 0;
    case EXT_AUDIENCE:
        return pep_read_fixed(r, &out->audience, PEP_KID_BYTES);
    case EXT_TOPIC_COUNTER:
        return pep_read_uint(r, &counter);
    default:
        return false;
    }
}

static bool parse_ext(pep_reader *r, pep_envelope *out)
{
    pep_map map;
    pep_item key;
    if (!pep_map_begin(r, &map) || map.left == 0)
        return false;
    while (map.left > 0) {
        if (!pep_map_key(r, &map, &key))
            return false;
        bool ok = key.type == ITEM_NINT ? pep_read_skip(r, NESTING_MAX - 3) /* it lies in ext, in pep, in the header */
                                        : key.type == ITEM_UINT && parse_ext_value(r, out, key.value);
        if (!ok)
            return false;
    }
    return true;
}

static pep_reason parse_pep(pep_reader *r, pep_envelope *out)
{
    uint64_t count;
    uint64_t version;
    uint64_t flags;
    if (!pep_read_array(r, &count) || count < 1 || !pep_read_uint(r, &version))
        return PEP_MALFORMED;
    if (version != PEP_ENVELOPE_VERSION)
        return PEP_UNSUPPORTED_VERSION;
    if ((count != 4 && count != 5) || !pep_read_text(r, &out->topic) || !pep_read_uint(r, &out->seq) ||
        !pep_read_uint(r, &flags))
        return PEP_MALFORMED;
    if (out->topic.n < 1 || out->topic.n > PEP_TOPIC_MAX || out->seq < 1 || out->seq > PEP_SEQ_MAX || flags > 15)
        return PEP_MALFORMED;
    out->flags = (unsigned)flags;
    return count == 4 || parse_ext(r, out) ? PEP_OK : PEP_MALFORMED;
}

static pep_reason parse_header(pep_envelope *out)
{
    pep_reader r = pep_reader_of(out->protected_bytes);
    pep_map map;
    int64_t alg;
    if (!pep_map_begin(&r, &map) || map.left != 3 || !pep_map_expect(&r, &map, LABEL_ALG) || !pep_read_int(&r, &alg) ||
        !pep_map_expect(&r, &map, LABEL_KID) || !pep_read_fixed(&r, &out->kid, PEP_KID_BYTES) ||
        !pep_map_expect(&r, &map, LABEL_PEP))
        return PEP_MALFORMED;
    pep_reason reason = parse_pep(&r, out);
    if (reason != PEP_OK)
        return reason;
    if (!pep_read_end(&r))
        return PEP_MALFORMED;
    return alg == ALG_ED25519 ? PEP_OK : PEP_UNSUPPORTED_ALGORITHM;
}

/* ---- the payload ---- */

static bool parse_inner_header(pep_view inner, int64_t *alg, const uint8_t **kid)
{
    pep_reader r = pep_reader_of(inner);
    pep_map map;
    return pep_map_begin(&r, &map) && map.left == 2 && pep_map_expect(&r, &map, LABEL_ALG) && pep_read_int(&r, alg) &&
           pep_map_expect(&r, &map, LABEL_KID) && pep_read_fixed(&r, kid, PEP_KID_BYTES) && pep_read_end(&r);
}

static pep_reason parse_encrypt0(pep_envelope *out)
{
    pep_reader r = pep_reader_of(out->payload);
    uint64_t count;
    int64_t alg;
    pep_map map;
    if (!pep_read_tag(&r, TAG_ENCRYPT0) || !pep_read_array(&r, &count) || count != 3 ||
        !pep_read_bytes(&r, &out->inner_protected) || !parse_inner_header(out->inner_protected, &alg, &out->key_id))
        return PEP_MALFORMED;
    if (alg != ALG_HPKE_4 && alg != ALG_CHACHA20_POLY1305)
        return PEP_UNSUPPORTED_ALGORITHM;
    bool direct = alg == ALG_HPKE_4;
    out->mode = direct ? PEP_MODE_DIRECT : PEP_MODE_EPOCH;
    if (!pep_map_begin(&r, &map) || map.left != 1 || !pep_map_expect(&r, &map, direct ? LABEL_EK : LABEL_PARTIAL_IV) ||
        !pep_read_bytes(&r, &out->nonce) || out->nonce.n != (direct ? PEP_HPKE_ENC_BYTES : PARTIAL_IV_BYTES) ||
        !pep_read_bytes(&r, &out->ciphertext) || !pep_read_end(&r))
        return PEP_MALFORMED;
    bool holds_content = out->ciphertext.n > PEP_TAG_BYTES; /* content is one byte at least */
    bool addressed = !direct || out->to != NULL;
    return holds_content && addressed ? PEP_OK : PEP_MALFORMED;
}

static pep_reason parse_payload(pep_envelope *out)
{
    bool clear = (out->flags & PEP_FLAG_CLEAR) != 0;
    if ((out->flags & PEP_FLAG_SIGNED_ONLY) == 0)
        return clear ? PEP_MALFORMED : parse_encrypt0(out);
    pep_meta meta;
    pep_view plain;
    out->mode = PEP_MODE_SIGNED;
    if (clear) /* nothing of it is passed on, so there is nothing to carry; and a will cannot be turned into a clear */
        return out->payload.n == 1 && out->payload.p[0] == EMPTY_META && (out->flags & PEP_FLAG_WILL) == 0
                   ? PEP_OK
                   : PEP_MALFORMED;
    return parse_content(&meta, &plain, out->payload) ? PEP_OK : PEP_MALFORMED;
}

/* ---- the whole ---- */

/* Nothing, or a gate-tag (docs/PROTOCOL.md, "Unprotected header"); it is for the gate alone, and no part of what is
 * signed. */
static bool parse_unprotected(pep_reader *r)
{
    pep_map map;
    const uint8_t *bytes;
    uint64_t number;
    if (!pep_map_begin(r, &map))
        return false;
    return map.left == 0 ||
           (map.left == 1 && pep_map_expect(r, &map, LABEL_GATE_TAG) && pep_read_array(r, &number) && number == 3 &&
            pep_read_fixed(r, &bytes, 8) && pep_read_uint(r, &number) && pep_read_fixed(r, &bytes, 16));
}

static bool parse_sign1(pep_envelope *out, pep_view bytes)
{
    pep_reader r = pep_reader_of(bytes);
    uint64_t count;
    return pep_read_tag(&r, TAG_SIGN1) && pep_read_array(&r, &count) && count == 4 &&
           pep_read_bytes(&r, &out->protected_bytes) && parse_unprotected(&r) && pep_read_bytes(&r, &out->payload) &&
           pep_read_fixed(&r, &out->signature, PEP_SIGNATURE_BYTES) && pep_read_end(&r);
}

pep_reason pep_parse(pep_envelope *out, const uint8_t *bytes, size_t n)
{
    *out = (pep_envelope){.size = n};
    if (n == 0)
        return PEP_EMPTY_PAYLOAD;
    if (bytes[0] != (6 << 5 | TAG_SIGN1))
        return PEP_PLAIN_PAYLOAD;
    if (!parse_sign1(out, (pep_view){bytes, n}))
        return PEP_MALFORMED;
    pep_reason reason = parse_header(out);
    return reason == PEP_OK ? parse_payload(out) : reason;
}
