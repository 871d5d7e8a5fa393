/* Verifying, and opening: what a receiver does with an envelope. */
#include <sodium.h>
#include <string.h>

#include "envelope/crypto.h"
#include "envelope/parse.h"
#include "envelope/structures.h"
#include "pep/directory.h"

pep_reason pep_verify(uint8_t *work, size_t work_n, const pep_envelope *envelope, const pep_record *sender)
{
    if (memcmp(envelope->kid, sender->sign_kid, PEP_KID_BYTES) != 0)
        return PEP_UNKNOWN_SIGNER;
    return pep_verify_key(work, work_n, envelope, sender->sign_public);
}

pep_reason pep_verify_key(uint8_t *work, size_t work_n, const pep_envelope *envelope,
                          const uint8_t sign_public[PEP_SIGN_PUBLIC_BYTES])
{
    return verify_sign1(work, work_n, envelope->protected_bytes, envelope->payload, envelope->signature, sign_public);
}

static pep_reason judge_topic(const pep_envelope *e, const pep_opener *o)
{
    if (o->topic.p == NULL)
        return PEP_OK;
    return e->topic.n == o->topic.n && memcmp(e->topic.p, o->topic.p, e->topic.n) == 0 ? PEP_OK : PEP_WRONG_TOPIC;
}

/* In the gate's order: from the future, too old, expired. */
static pep_reason judge_times(const pep_envelope *e, const pep_opener *o)
{
    uint64_t skew = o->max_skew_us == 0 ? PEP_MAX_SKEW_US : o->max_skew_us;
    bool counter = (e->flags & PEP_FLAG_COUNTER) != 0;
    bool aging = o->max_age_us > 0 && (e->flags & PEP_FLAG_WILL) == 0; /* a will was sealed long before it is sent */
    if (o->now_us == 0)
        return PEP_OK;
    if (!counter && e->seq > o->now_us && e->seq - o->now_us > skew)
        return PEP_FUTURE_SEQ;
    if (aging && counter)
        return PEP_NO_CLOCK;
    if (aging && e->seq < o->now_us && o->now_us - e->seq > o->max_age_us)
        return PEP_STALE;
    return e->exp_s > 0 && o->now_us / 1000000 > e->exp_s ? PEP_EXPIRED : PEP_OK;
}

/* What is pinned counts: a record from a file says who had the key once, and not whether he still has. */
static pep_reason find_sender(const pep_record **out, const pep_envelope *e, const pep_opener *o)
{
    *out = o->pins != NULL ? pep_pins_find(o->pins, e->kid) : NULL;
    if (*out != NULL)
        return PEP_OK;
    *out = o->senders != NULL ? pep_keyring_find(o->senders, e->kid) : NULL;
    if (*out == NULL)
        return PEP_UNKNOWN_SIGNER;
    return o->pins != NULL ? pep_pins_judge(o->pins, *out) : PEP_OK;
}

/* What an ended key signed up to its cutoff stays what it was, also when its record has expired since. */
static pep_reason judge_sender(const pep_envelope *e, const pep_record *sender, const pep_opener *o)
{
    if (sender->ended != PEP_OK)
        return e->seq > sender->cutoff ? sender->ended : PEP_OK;
    return o->now_us / 1000000 > sender->not_after_s ? PEP_EXPIRED_SIGNER : PEP_OK;
}

static pep_reason judge(pep_opened *out, const pep_opener *o)
{
    const pep_envelope *e = &out->envelope;
    pep_reason reason = judge_topic(e, o);
    if (reason != PEP_OK)
        return reason;
    reason = find_sender(&out->sender, e, o);
    if (reason == PEP_OK)
        reason = judge_sender(e, out->sender, o);
    if (reason != PEP_OK)
        return reason;
    if (e->mode == PEP_MODE_SIGNED && !o->allow_signed_only)
        return PEP_NOT_ENCRYPTED;
    return judge_times(e, o);
}

static const pep_epoch *find_epoch(const pep_envelope *e, const pep_opener *o)
{
    for (size_t i = 0; i < o->epoch_count; i++) {
        const pep_epoch *epoch = &o->epochs[i];
        if (memcmp(epoch->epoch_id, e->key_id, PEP_KID_BYTES) == 0 &&
            memcmp(epoch->owner_kid, e->kid, PEP_KID_BYTES) == 0 &&
            pep_filter_matches(epoch->scope, strlen(epoch->scope), (const char *)e->topic.p, e->topic.n))
            return epoch;
    }
    return NULL;
}

/* Named twice, in the signed header and inside, so that nobody who enrolled another's agreement key can redirect it. */
static bool is_for(const pep_envelope *e, const uint8_t sign_kid[PEP_KID_BYTES], const uint8_t agree_kid[PEP_KID_BYTES])
{
    return memcmp(e->to, sign_kid, PEP_KID_BYTES) == 0 && memcmp(e->key_id, agree_kid, PEP_KID_BYTES) == 0;
}

/* The agreement key that it was sealed to, or one from before a rotation while its time lasts; NULL: none of mine. */
static const uint8_t *find_secret(const pep_envelope *e, const pep_opener *o)
{
    const pep_device *me = o->me;
    if (me == NULL)
        return NULL;
    if (is_for(e, me->sign_kid, me->agree_kid))
        return me->agree_secret;
    for (size_t i = 0; i < me->previous_count; i++) {
        const pep_previous_keys *keys = &me->previous[i];
        if (is_for(e, keys->sign_kid, keys->agree_kid) && o->now_us / 1000000 <= keys->until_s)
            return keys->agree_secret;
    }
    return NULL;
}

static bool decrypt_direct(uint8_t *plain, const pep_envelope *e, pep_view aad, const pep_opener *o)
{
    const uint8_t *secret = find_secret(e, o);
    return secret != NULL &&
           pep_hpke_open(plain, e->ciphertext.p, e->ciphertext.n, (pep_view){NULL, 0}, aad, e->nonce.p, secret);
}

/* work: the AAD, then the plaintext. */
static bool decrypt(pep_view *content, uint8_t *work, size_t work_n, const pep_envelope *e, const pep_opener *o)
{
    pep_writer aad = {.p = work, .cap = work_n};
    write_enc_structure(&aad, e->inner_protected, e->protected_bytes);
    if (aad.full || aad.cap - aad.n < e->ciphertext.n - PEP_TAG_BYTES)
        return false;
    uint8_t *plain = work + aad.n;
    const pep_view aad_bytes = {work, aad.n};
    *content = (pep_view){plain, e->ciphertext.n - PEP_TAG_BYTES};
    if (e->mode == PEP_MODE_DIRECT)
        return decrypt_direct(plain, e, aad_bytes, o);
    const pep_epoch *epoch = find_epoch(e, o);
    if (epoch == NULL)
        return false;
    uint8_t nonce[PEP_NONCE_BYTES];
    epoch_nonce(nonce, e->seq, e->nonce.p);
    return pep_aead_open(plain, e->ciphertext.p, e->ciphertext.n, aad_bytes, nonce, epoch->key);
}

static pep_reason open_content(pep_opened *out, uint8_t *work, size_t work_n, const pep_opener *o)
{
    pep_view content = out->envelope.payload;
    if (out->envelope.mode != PEP_MODE_SIGNED && !decrypt(&content, work, work_n, &out->envelope, o))
        return PEP_CANNOT_OPEN;
    return parse_content(&out->meta, &out->plain, content) ? PEP_OK : PEP_CANNOT_OPEN;
}

pep_reason pep_open(pep_opened *out, uint8_t *work, size_t work_n, const pep_opener *opener, const uint8_t *bytes,
                    size_t n)
{
    *out = (pep_opened){0};
    pep_reason reason = pep_parse(&out->envelope, bytes, n);
    if (reason != PEP_OK)
        return reason;
    if (work_n < PEP_WORK_BYTES(n))
        return PEP_BUFFER_TOO_SMALL;
    reason = judge(out, opener);
    if (reason == PEP_OK)
        reason = pep_verify(work, work_n, &out->envelope, out->sender);
    if (reason == PEP_OK)
        reason = open_content(out, work, work_n, opener);
    if (reason != PEP_OK) {
        sodium_memzero(work, work_n);
        out->meta = (pep_meta){0};
        out->plain = (pep_view){0};
    }
    return reason;
}
