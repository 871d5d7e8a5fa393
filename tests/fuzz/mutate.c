/* A mutator that knows the keys: what it makes is signed and encrypted as by a device. */
#include "tests/fuzz/fuzz.h"

#include <sodium.h>
#include <string.h>

#include "envelope/crypto.h"
#include "envelope/structures.h"

#define PART_MAX   4096 /* larger ones are mutated blindly */
#define PART_GROWN 6144 /* what may become of one */

/* A part, with room to grow, and for what lies around it. */
typedef struct {
    uint8_t p[2 * PART_MAX];
    size_t n;
} part;

typedef struct {
    part header;
    part payload;
    part content; /* what is encrypted in the payload; n == 0: nothing that we can open */
    part unprotected;
} parts;

static void set(part *to, pep_view from)
{
    memcpy(to->p, from.p, from.n);
    to->n = from.n;
}

/* ---- one part ---- */

/* Puts `with` in the place of the `n` bytes at `at`; the new length, 0: there is no room. */
static size_t replace(uint8_t *data, size_t all, size_t cap, size_t at, size_t n, pep_view with)
{
    if (all - n + with.n > cap)
        return 0;
    memmove(data + at + with.n, data + at + n, all - at - n);
    memcpy(data + at, with.p, with.n);
    return all - n + with.n;
}

/* One more of what an array holds, which takes a change in two places: of the first one behind `from`. */
static size_t repeat_element(uint8_t *data, size_t n, size_t cap, size_t from)
{
    static uint8_t element[PART_MAX];
    for (size_t i = from; i + 1 < n; i++) {
        bool holds = data[i] > 0x80 && data[i] < 0x97;
        size_t length = holds ? reference_item((pep_view){data + i + 1, n - i - 1}, NESTING_MAX) : 0;
        if (length == 0 || length > sizeof element)
            continue;
        memcpy(element, data + i + 1, length);
        size_t made = replace(data, n, cap, i + 1, 0, (pep_view){element, length});
        data[i] += made > 0;
        return made;
    }
    return 0;
}

/* A string in a length that may be a limit, its head put right: the first one behind `from`. */
static size_t resize_string(uint8_t *data, size_t n, size_t cap, size_t from, unsigned choice)
{
    static const size_t lengths[] = {0, 1, 15, 16, 17, 23, 24, 32, 33, 64, 65, 255, 256, 512, 1024, 1025, 1500};
    uint8_t content[1500];
    uint8_t made[sizeof content + 8];
    pep_writer w = {.p = made, .cap = sizeof made};
    size_t length = lengths[choice % COUNT(lengths)];
    for (size_t i = from; i < n; i++) {
        pep_reader r = pep_reader_of((pep_view){data + i, n - i});
        pep_item item;
        if (data[i] >> 5 < 2 || data[i] >> 5 > 3 || !pep_read(&r, &item))
            continue;
        for (size_t k = 0; k < length; k++)
            content[k] = item.string.n == 0 ? 'a' : item.string.p[k % item.string.n];
        if (item.type == ITEM_TEXT)
            pep_write_text(&w, content, length);
        else
            pep_write_bytes(&w, content, length);
        return replace(data, n, cap, i, (size_t)(r.p - data) - i, (pep_view){made, w.n});
    }
    return 0;
}

size_t mutate_cbor(uint8_t *data, size_t n, size_t cap, unsigned seed)
{
    size_t made = 0;
    if (n > 0 && seed % 4 == 0)
        made = repeat_element(data, n, cap, seed / 4 % n);
    else if (n > 0 && seed % 4 == 1)
        made = resize_string(data, n, cap, seed / 4 % n, seed / 1024);
    return made > 0 ? made : LLVMFuzzerMutate(data, n, cap);
}

static void mutate(part *part, unsigned seed)
{
    part->n = mutate_cbor(part->p, part->n, PART_GROWN, seed);
}

/* ---- encryption ---- */

static const actor *recipient(const pep_envelope *e)
{
    for (size_t i = 0; i < actor_count; i++)
        if (memcmp(actors[i].device.agree_kid, e->key_id, PEP_KID_BYTES) == 0)
            return &actors[i];
    return NULL;
}

static const pep_epoch *epoch_with(const pep_envelope *e)
{
    for (size_t i = 0; i < epoch_count; i++)
        if (memcmp(epochs[i].epoch.epoch_id, e->key_id, PEP_KID_BYTES) == 0)
            return &epochs[i].epoch;
    return NULL;
}

static pep_view make_aad(uint8_t *out, size_t cap, const pep_envelope *e)
{
    pep_writer w = {.p = out, .cap = cap};
    write_enc_structure(&w, e->inner_protected, e->protected_bytes);
    return (pep_view){out, w.n};
}

static void decrypt(part *content, const pep_envelope *e)
{
    static uint8_t bytes[2 * PART_MAX + 256];
    uint8_t nonce[PEP_NONCE_BYTES];
    bool ok = false;
    content->n = 0;
    if (e->mode == PEP_MODE_SIGNED)
        return;
    pep_view aad = make_aad(bytes, sizeof bytes, e);
    if (e->mode == PEP_MODE_DIRECT && recipient(e) != NULL) {
        ok = pep_hpke_open(content->p, e->ciphertext.p, e->ciphertext.n, (pep_view){NULL, 0}, aad, e->nonce.p,
                           recipient(e)->device.agree_secret);
    } else if (e->mode == PEP_MODE_EPOCH && epoch_with(e) != NULL) {
        epoch_nonce(nonce, e->seq, e->nonce.p);
        ok = pep_aead_open(content->p, e->ciphertext.p, e->ciphertext.n, aad, nonce, epoch_with(e)->key);
    }
    content->n = ok ? e->ciphertext.n - PEP_TAG_BYTES : 0;
}

/* Into the fields of an envelope that has their lengths already. */
static void encrypt(uint8_t *data, const pep_envelope *e, const part *content)
{
    static uint8_t bytes[2 * PART_MAX + 256];
    static const uint8_t ephemeral[PEP_AGREE_SECRET_BYTES] = {1};
    uint8_t nonce[PEP_NONCE_BYTES];
    uint8_t *ciphertext = data + (e->ciphertext.p - data);
    uint8_t *nonce_field = data + (e->nonce.p - data);
    pep_view aad = make_aad(bytes, sizeof bytes, e);
    if (e->mode == PEP_MODE_DIRECT && recipient(e) != NULL) {
        must(pep_hpke_seal(nonce_field, ciphertext, content->p, content->n, (pep_view){NULL, 0}, aad,
                           recipient(e)->device.agree_public, ephemeral),
             "cannot encrypt");
    } else if (e->mode == PEP_MODE_EPOCH && epoch_with(e) != NULL) {
        epoch_nonce(nonce, e->seq, e->nonce.p);
        pep_aead_seal(ciphertext, content->p, content->n, aad, nonce, epoch_with(e)->key);
    }
}

/* The payload with room for the content, which is encrypted when all else stands. */
static void make_room(part *payload, const pep_envelope *e, size_t content_n)
{
    static const uint8_t blank[2 * PART_MAX + PEP_TAG_BYTES];
    pep_writer w = {.p = payload->p, .cap = sizeof payload->p};
    pep_write_tag(&w, TAG_ENCRYPT0);
    pep_write_array(&w, 3);
    pep_write_bytes(&w, e->inner_protected.p, e->inner_protected.n);
    pep_write_map(&w, 1);
    pep_write_int(&w, e->mode == PEP_MODE_DIRECT ? LABEL_EK : LABEL_PARTIAL_IV);
    pep_write_bytes(&w, e->nonce.p, e->nonce.n);
    pep_write_bytes(&w, blank, content_n + PEP_TAG_BYTES);
    payload->n = w.n;
}

/* ---- the whole ---- */

static bool take_apart(parts *out, const uint8_t *data, size_t n)
{
    pep_reader r = pep_reader_of((pep_view){data, n});
    uint64_t count;
    pep_view header;
    pep_view payload;
    const uint8_t *signature;
    pep_envelope e;
    if (!pep_read_tag(&r, TAG_SIGN1) || !pep_read_array(&r, &count) || count != 4 || !pep_read_bytes(&r, &header))
        return false;
    const uint8_t *unprotected = r.p;
    if (!pep_read_skip(&r, 2))
        return false;
    size_t unprotected_n = (size_t)(r.p - unprotected);
    if (!pep_read_bytes(&r, &payload) || !pep_read_fixed(&r, &signature, PEP_SIGNATURE_BYTES) || header.n > PART_MAX ||
        payload.n > PART_MAX || unprotected_n > PART_MAX)
        return false;
    set(&out->header, header);
    set(&out->unprotected, (pep_view){unprotected, unprotected_n});
    set(&out->payload, payload);
    out->content.n = 0;
    if (pep_parse(&e, data, n) == PEP_OK)
        decrypt(&out->content, &e);
    return true;
}

static const pep_device *known[16];
static unsigned known_count;

void mutate_know(const pep_device *device)
{
    must(known_count < COUNT(known), "too many that sign");
    known[known_count++] = device;
}

/* The kid stands at the same place in every header that we make; any key will do where it names nobody. */
static const pep_device *signer_of(const part *header)
{
    const uint8_t *kid = header->p + 5;
    const actor *named = header->n < 5 + PEP_KID_BYTES ? NULL : reference_signer(kid);
    for (unsigned i = 0; i < known_count && header->n >= 5 + PEP_KID_BYTES; i++)
        if (memcmp(known[i]->sign_kid, kid, PEP_KID_BYTES) == 0)
            return known[i];
    return named == NULL ? &actors[0].device : &named->device;
}

/* Who else is to have signed it. */
static const pep_device *other_signer(unsigned choice)
{
    unsigned i = choice % ((unsigned)actor_count + known_count);
    return i < actor_count ? &actors[i].device : known[i - actor_count];
}

static void sign(uint8_t signature[PEP_SIGNATURE_BYTES], const parts *from)
{
    static uint8_t bytes[4 * PART_MAX + 64];
    pep_writer w = {.p = bytes, .cap = sizeof bytes};
    write_sig_structure(&w, (pep_view){from->header.p, from->header.n}, (pep_view){from->payload.p, from->payload.n});
    must(!w.full, "too long to be signed");
    crypto_sign_detached(signature, NULL, bytes, w.n, signer_of(&from->header)->sign_secret);
}

static size_t put_together(uint8_t *data, size_t cap, const parts *from, const uint8_t *signature)
{
    pep_writer w = {.p = data, .cap = cap};
    pep_write_tag(&w, TAG_SIGN1);
    pep_write_array(&w, 4);
    pep_write_bytes(&w, from->header.p, from->header.n);
    pep_write_raw(&w, from->unprotected.p, from->unprotected.n);
    pep_write_bytes(&w, from->payload.p, from->payload.n);
    pep_write_bytes(&w, signature, PEP_SIGNATURE_BYTES);
    return w.full ? 0 : w.n;
}

static void mutate_part(parts *p, unsigned seed)
{
    switch (seed % 8) {
    case 0:
        if (p->header.n >= 5 + PEP_KID_BYTES)
            memcpy(p->header.p + 5, other_signer(seed / 8)->sign_kid, PEP_KID_BYTES);
        break;
    case 1:
    case 2:
    case 3:
    case 4:
        mutate(&p->header, seed / 8);
        break;
    default:
        mutate(p->content.n > 0 && seed % 8 != 5 ? &p->content : &p->payload, seed / 8);
        break;
    }
}

size_t mutate_sign1(uint8_t *data, size_t n, size_t cap, unsigned seed)
{
    static parts p;
    static uint8_t out[6 * PART_MAX];
    uint8_t signature[PEP_SIGNATURE_BYTES] = {0};
    pep_envelope e;
    if (seed % 5 == 0 || !take_apart(&p, data, n))
        return LLVMFuzzerMutate(data, n, cap);
    mutate_part(&p, seed / 5);
    bool sealed = p.content.n > 0 && pep_parse(&e, data, n) == PEP_OK;
    if (sealed && seed / 5 % 8 != 5) {
        make_room(&p.payload, &e, p.content.n);
        size_t made = put_together(out, sizeof out, &p, signature);
        if (pep_parse(&e, out, made) == PEP_OK && e.mode != PEP_MODE_SIGNED) {
            encrypt(out, &e, &p.content);
            set(&p.payload, e.payload);
        }
    }
    sign(signature, &p);
    size_t made = put_together(out, sizeof out, &p, signature);
    if (made == 0 || made > cap)
        return LLVMFuzzerMutate(data, n, cap);
    memcpy(data, out, made);
    return made;
}
