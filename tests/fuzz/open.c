/* Opening, with fixed keys: only what a believed device signed opens, to what was sealed; altered by one bit, nothing.
 */
#include "tests/fuzz/fuzz.h"

#include <sodium.h>
#include <string.h>

#include "envelope/structures.h"

#define EPOCHS_MAX 16

static pep_keyring *senders;
static pep_epoch known[EPOCHS_MAX];
static size_t known_n;
static pep_opener opener;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    pep_error error;
    (void)argc;
    (void)argv;
    world_make();
    fuzz_write_records(fuzz_path("records"));
    must(pep_keyring_load(&senders, &error, fuzz_path("records")) == PEP_OK, error.text);
    for (size_t i = 0; i < epoch_count && known_n < EPOCHS_MAX; i++)
        if (epochs[i].known)
            known[known_n++] = epochs[i].epoch;
    opener = (pep_opener){.me = &actor_of("console")->device,
                          .senders = senders,
                          .epochs = known,
                          .epoch_count = known_n,
                          .allow_signed_only = true,
                          .now_us = NOW_US};
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t n, size_t cap, unsigned seed)
{
    return mutate_sign1(data, n, cap, seed);
}

static const pep_epoch *epoch_of_envelope(const pep_envelope *e)
{
    for (size_t i = 0; i < known_n; i++)
        if (memcmp(known[i].epoch_id, e->key_id, PEP_KID_BYTES) == 0 &&
            memcmp(known[i].owner_kid, e->kid, PEP_KID_BYTES) == 0 && reference_matches(known[i].scope, e->topic))
            return &known[i];
    return NULL;
}

/* The AEAD has one ciphertext for a key, a nonce and a content. */
static void check_sealed_like_this(const pep_opened *o, const uint8_t *content, size_t content_n)
{
    const pep_envelope *e = &o->envelope;
    const pep_epoch *epoch = epoch_of_envelope(e);
    uint8_t nonce[crypto_aead_chacha20poly1305_ietf_NPUBBYTES];
    invariant(epoch != NULL, "an epoch opens its owner's envelopes on its own topics");
    pep_writer aad = {.p = fuzz_memory(e->size + 64), .cap = e->size + 64};
    uint8_t *sealed = fuzz_memory(e->ciphertext.n);
    write_enc_structure(&aad, e->inner_protected, e->protected_bytes);
    epoch_nonce(nonce, e->seq, e->nonce.p);
    crypto_aead_chacha20poly1305_ietf_encrypt(sealed, NULL, content, content_n, aad.p, aad.n, NULL, nonce, epoch->key);
    invariant(memcmp(sealed, e->ciphertext.p, e->ciphertext.n) == 0, "what opens is what was sealed");
    free(sealed);
    free(aad.p);
}

static void check_content(const pep_opened *o)
{
    const pep_envelope *e = &o->envelope;
    size_t content_n =
        e->mode == PEP_MODE_SIGNED ? e->payload.n : e->ciphertext.n - crypto_aead_chacha20poly1305_ietf_ABYTES;
    invariant(o->plain.p != NULL && o->plain.n < content_n, "the plaintext is what stands behind the meta");
    const uint8_t *content = o->plain.p + o->plain.n - content_n;
    invariant(reference_item((pep_view){content, content_n}, NESTING_MAX) == content_n - o->plain.n,
              "the meta is deterministic CBOR");
    if (e->mode == PEP_MODE_SIGNED)
        invariant(content == e->payload.p, "signed content is not moved");
    else if (e->mode == PEP_MODE_DIRECT)
        invariant(memcmp(e->to, opener.me->sign_kid, PEP_KID_BYTES) == 0 &&
                      memcmp(e->key_id, opener.me->agree_kid, PEP_KID_BYTES) == 0,
                  "direct mode opens for its recipient");
    else
        check_sealed_like_this(o, content, content_n);
}

static void check_sender(const pep_opened *o)
{
    const pep_envelope *e = &o->envelope;
    const actor *by = reference_signer(e->kid);
    invariant(by != NULL, "the signer is known");
    invariant(by->enrolled && by->not_after_s >= NOW_S, "the signer is believed");
    invariant(strcmp(o->sender->id, by->id) == 0, "the record is the signer's");
    invariant(reference_signed(by, e->protected_bytes, e->payload, e->signature), "the signature is right");
    invariant((e->flags & PEP_FLAG_COUNTER) != 0 || e->seq <= NOW_US + PEP_MAX_SKEW_US, "it is not from the future");
    invariant(e->exp_s == 0 || e->exp_s >= NOW_S, "it has not expired");
}

static pep_reason open_copy(pep_opened *out, uint8_t *work, const uint8_t *data, size_t n)
{
    size_t work_n = PEP_WORK_BYTES(n);
    memset(work, 0, work_n);
    pep_reason reason = pep_open(out, work, work_n, &opener, data, n);
    invariant(reason == PEP_OK || (sodium_is_zero(work, work_n) && out->plain.p == NULL),
              "nothing is left where opening fails");
    return reason;
}

/* One bit of what is signed, or of the signature; which one, the envelope's last byte and length say. */
static void check_altered(uint8_t *work, const pep_envelope *e, const uint8_t *data, size_t n)
{
    const pep_view parts[] = {e->protected_bytes, e->payload, {e->signature, PEP_SIGNATURE_BYTES}};
    uint8_t *altered = fuzz_memory(n);
    for (size_t i = 0; i < COUNT(parts); i++) {
        pep_opened ignored;
        memcpy(altered, data, n);
        altered[(size_t)(parts[i].p - data) + data[n - 1] * (n + 1) % parts[i].n] ^= (uint8_t)(1U << n % 8);
        invariant(open_copy(&ignored, work, altered, n) != PEP_OK, "nothing altered opens");
    }
    free(altered);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    pep_opened opened;
    uint8_t *work = fuzz_memory(PEP_WORK_BYTES(n));
    opener.topic = (pep_view){NULL, 0};
    if (open_copy(&opened, work, data, n) == PEP_OK) {
        pep_view topic = opened.envelope.topic;
        const pep_envelope e = opened.envelope;
        check_sender(&opened);
        check_content(&opened);
        check_altered(work, &e, data, n);
        opener.topic = (pep_view){topic.p, topic.n - 1};
        invariant(open_copy(&opened, work, data, n) == PEP_WRONG_TOPIC, "it opens on its own topic alone");
    }
    free(work);
    return 0;
}
