/*
 * Sealing: encrypt, then sign. Everything is built in the caller's buffer, in the place where the signature needs it:
 * as the Sig_structure, which differs from the envelope only in its first bytes and in one byte between header and
 * payload.
 */
#include <sodium.h>
#include <string.h>

#include "envelope/crypto.h"
#include "envelope/parse.h"
#include "envelope/seal.h"
#include "envelope/structures.h"

static pep_mode mode_of(const pep_message *m)
{
    if (m->to != NULL)
        return PEP_MODE_DIRECT;
    return m->epoch != NULL ? PEP_MODE_EPOCH : PEP_MODE_SIGNED;
}

/* Exactly one mode, and stated: a recipient that was not found must not mean that everyone may read it. */
static bool mode_valid(const pep_message *m)
{
    bool signed_only = (m->flags & (PEP_FLAG_SIGNED_ONLY | PEP_FLAG_CLEAR)) != 0;
    return (m->to != NULL ? 1 : 0) + (m->epoch != NULL ? 1 : 0) + (signed_only ? 1 : 0) == 1;
}

static bool fields_valid(const pep_message *m)
{
    bool clear = (m->flags & PEP_FLAG_CLEAR) != 0;
    bool topic = pep_topic_valid((const char *)m->topic.p, m->topic.n);
    bool seq = m->seq >= 1 && m->seq <= PEP_SEQ_MAX;
    bool flags = m->flags <= 15;
    bool bare = m->plain.n == 0 && m->meta == NULL && (m->flags & PEP_FLAG_WILL) == 0;
    return m->from != NULL && topic && seq && flags && mode_valid(m) && (!clear || bare);
}

static bool facts_valid(pep_view facts)
{
    pep_reader r = pep_reader_of(facts);
    pep_view whole;
    return facts.n == 0 || (parse_facts(&r, &whole) && pep_read_end(&r));
}

static bool epoch_valid(const pep_message *m)
{
    return m->epoch == NULL ||
           (sodium_memcmp(m->epoch->owner_kid, m->from->sign_kid, PEP_KID_BYTES) == 0 &&
            pep_filter_matches(m->epoch->scope, strlen(m->epoch->scope), (const char *)m->topic.p, m->topic.n));
}

static size_t ext_pairs(const pep_message *m)
{
    return (m->facts.n > 0 ? 1U : 0U) + (m->to != NULL ? 1U : 0U) + (m->exp_s > 0 ? 1U : 0U) +
           (m->audience != NULL ? 1U : 0U);
}

static void write_ext(pep_writer *w, const pep_message *m)
{
    pep_write_map(w, ext_pairs(m));
    if (m->facts.n > 0) {
        pep_write_uint(w, EXT_FACTS);
        pep_write_raw(w, m->facts.p, m->facts.n);
    }
    if (m->to != NULL) {
        pep_write_uint(w, EXT_TO);
        pep_write_bytes(w, m->to->sign_kid, PEP_KID_BYTES);
    }
    if (m->exp_s > 0) {
        pep_write_uint(w, EXT_EXP);
        pep_write_uint(w, m->exp_s);
    }
    if (m->audience != NULL) {
        pep_write_uint(w, EXT_AUDIENCE);
        pep_write_bytes(w, m->audience, PEP_KID_BYTES);
    }
}

static void write_header(pep_writer *w, const pep_message *m)
{
    bool ext = ext_pairs(m) > 0; /* present means not empty */
    unsigned flags = m->flags | (mode_of(m) == PEP_MODE_SIGNED ? PEP_FLAG_SIGNED_ONLY : 0);
    pep_write_map(w, 3);
    pep_write_uint(w, LABEL_ALG);
    pep_write_int(w, ALG_ED25519);
    pep_write_uint(w, LABEL_KID);
    pep_write_bytes(w, m->from->sign_kid, PEP_KID_BYTES);
    pep_write_int(w, LABEL_PEP);
    pep_write_array(w, ext ? 5 : 4);
    pep_write_uint(w, PEP_ENVELOPE_VERSION);
    pep_write_text(w, m->topic.p, m->topic.n);
    pep_write_uint(w, m->seq);
    pep_write_uint(w, flags);
    if (ext)
        write_ext(w, m);
}

static void write_inner_header(pep_writer *w, const pep_message *m)
{
    bool direct = mode_of(m) == PEP_MODE_DIRECT;
    pep_write_map(w, 2);
    pep_write_uint(w, LABEL_ALG);
    pep_write_int(w, direct ? ALG_HPKE_4 : ALG_CHACHA20_POLY1305);
    pep_write_uint(w, LABEL_KID);
    pep_write_bytes(w, direct ? m->to->agree[0].kid : m->epoch->epoch_id, PEP_KID_BYTES);
}

/* Where the parts lie, known before a byte of them is there. */
typedef struct {
    size_t header;  /* content of the protected bstr */
    size_t content; /* meta and the application's bytes */
    size_t payload; /* content of the payload bstr */
    size_t needed;  /* capacity, working space included */
} layout;

enum {
    INNER_HEADER_BYTES = 22, /* a2 01 18xx 04 50 kid */
    HEAD_MAX = 9,
    SIGNATURE_ITEM_BYTES = 2 + PEP_SIGNATURE_BYTES
};

/* d0 83 56 inner-header, a1 23 5820 ek or a1 06 44 iv, then the ciphertext's head */
static size_t encrypt0_prefix(const pep_message *m, size_t ciphertext_n)
{
    pep_writer count = {0};
    pep_write_bytes_head(&count, ciphertext_n);
    size_t nonce_map = mode_of(m) == PEP_MODE_DIRECT ? 4 + PEP_HPKE_ENC_BYTES : 3 + PARTIAL_IV_BYTES;
    return 2 + 1 + INNER_HEADER_BYTES + nonce_map + count.n;
}

static bool plan(layout *out, const pep_message *m)
{
    pep_writer header = {0};
    pep_writer meta = {0};
    *out = (layout){0};
    write_header(&header, m);
    if (!write_meta(&meta, m->meta) || m->plain.n > SIZE_MAX / 4 || meta.n > SIZE_MAX / 4)
        return false;
    out->header = header.n;
    out->content = meta.n + m->plain.n;
    out->payload = out->content;
    if (mode_of(m) != PEP_MODE_SIGNED)
        out->payload += encrypt0_prefix(m, out->content + PEP_TAG_BYTES) + PEP_TAG_BYTES;
    size_t signed_n = SIG_PREFIX_BYTES + HEAD_MAX + out->header + 1 + HEAD_MAX + out->payload;
    size_t aad_n = 16 + INNER_HEADER_BYTES + HEAD_MAX + out->header; /* built behind the payload */
    out->needed = signed_n + (aad_n > SIGNATURE_ITEM_BYTES ? aad_n : SIGNATURE_ITEM_BYTES);
    return true;
}

size_t pep_seal_bytes(const pep_message *message)
{
    layout l;
    return plan(&l, message) ? l.needed : 0;
}

/* Encrypts the content that lies at `content`, in place. */
static bool encrypt(uint8_t *content, uint8_t *nonce_field, const pep_message *m, const layout *l, pep_view aad)
{
    if (mode_of(m) == PEP_MODE_EPOCH) {
        uint8_t nonce[PEP_NONCE_BYTES];
        randombytes_buf(nonce_field, PARTIAL_IV_BYTES);
        epoch_nonce(nonce, m->seq, nonce_field);
        pep_aead_seal(content, content, l->content, aad, nonce, m->epoch->key);
        return true;
    }
    uint8_t ephemeral[PEP_AGREE_SECRET_BYTES];
    randombytes_buf(ephemeral, sizeof ephemeral);
    bool ok = pep_hpke_seal(nonce_field, content, content, l->content, (pep_view){NULL, 0}, aad, m->to->agree[0].key,
                            ephemeral);
    sodium_memzero(ephemeral, sizeof ephemeral);
    return ok;
}

static void write_content(pep_writer *w, const pep_message *m)
{
    (void)!write_meta(w, m->meta); /* its texts were judged by plan() */
    pep_write_raw(w, m->plain.p, m->plain.n);
}

static bool write_encrypt0(pep_writer *w, const pep_message *m, const layout *l, pep_view header)
{
    static const uint8_t blank[PEP_HPKE_ENC_BYTES];
    bool direct = mode_of(m) == PEP_MODE_DIRECT;
    pep_write_tag(w, TAG_ENCRYPT0);
    pep_write_array(w, 3);
    pep_write_bytes_head(w, INNER_HEADER_BYTES);
    const uint8_t *inner = w->p + w->n;
    write_inner_header(w, m);
    pep_write_map(w, 1);
    pep_write_int(w, direct ? LABEL_EK : LABEL_PARTIAL_IV);
    pep_write_bytes(w, blank, direct ? PEP_HPKE_ENC_BYTES : PARTIAL_IV_BYTES);
    uint8_t *nonce_field = w->p + w->n - (direct ? PEP_HPKE_ENC_BYTES : PARTIAL_IV_BYTES);
    pep_write_bytes_head(w, l->content + PEP_TAG_BYTES);
    uint8_t *content = w->p + w->n;
    write_content(w, m);
    pep_write_raw(w, blank, PEP_TAG_BYTES);
    pep_writer aad = {.p = w->p + w->n, .cap = w->cap - w->n};
    write_enc_structure(&aad, (pep_view){inner, INNER_HEADER_BYTES}, header);
    return encrypt(content, nonce_field, m, l, (pep_view){aad.p, aad.n});
}

/* Signs the Sig_structure in w, and turns it into the envelope: tag and array instead of the context string, an empty
 * unprotected map (a0) instead of the empty external_aad (40), the signature behind. */
static void sign_in_place(pep_writer *w, size_t aad_at, const pep_device *from)
{
    const size_t shift = SIG_PREFIX_BYTES - 2;
    uint8_t signature[PEP_SIGNATURE_BYTES];
    crypto_sign_detached(signature, NULL, w->p, w->n, from->sign_secret);
    w->p[aad_at] = 0xa0;
    memmove(w->p + 2, w->p + SIG_PREFIX_BYTES, w->n - SIG_PREFIX_BYTES);
    w->p[0] = 6 << 5 | TAG_SIGN1;
    w->p[1] = 0x84;
    w->n -= shift;
    pep_write_bytes(w, signature, sizeof signature);
}

pep_reason pep_seal(uint8_t *out, size_t *out_n, size_t cap, const pep_message *message)
{
    *out_n = 0;
    if (message->topic.n > 0 && message->topic.p[0] == '$')
        return PEP_BAD_ARGUMENT;
    return seal_any_topic(out, out_n, cap, message);
}

pep_reason seal_any_topic(uint8_t *out, size_t *out_n, size_t cap, const pep_message *message)
{
    layout l;
    *out_n = 0;
    if (!fields_valid(message) || !facts_valid(message->facts) || !epoch_valid(message) || !plan(&l, message))
        return PEP_BAD_ARGUMENT;
    if (cap < l.needed)
        return PEP_BUFFER_TOO_SMALL;
    pep_writer w = {.p = out, .cap = cap};
    pep_write_array(&w, 4);
    pep_write_string(&w, "Signature1");
    pep_write_bytes_head(&w, l.header);
    pep_view header = {out + w.n, l.header};
    write_header(&w, message);
    size_t aad_at = w.n;
    pep_write_bytes(&w, NULL, 0);
    pep_write_bytes_head(&w, l.payload);
    if (mode_of(message) == PEP_MODE_SIGNED) {
        write_content(&w, message);
    } else if (!write_encrypt0(&w, message, &l, header)) {
        sodium_memzero(out, cap);
        return PEP_BAD_ARGUMENT;
    }
    sign_in_place(&w, aad_at, message->from);
    *out_n = w.n;
    return PEP_OK;
}
