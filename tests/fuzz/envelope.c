/* Taking envelopes apart: what is accepted is deterministic CBOR, lies in the buffer, and is made again from its parts.
 */
#include "tests/fuzz/fuzz.h"

#include <string.h>

#include "envelope/structures.h"

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    world_make();
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t n, size_t cap, unsigned seed)
{
    return mutate_sign1(data, n, cap, seed);
}

static bool inside(pep_view part, pep_view whole)
{
    return part.n == 0 || (part.p >= whole.p && part.n <= whole.n && part.p <= whole.p + (whole.n - part.n));
}

static void check_views(const pep_envelope *e, pep_view all)
{
    bool encrypted = e->mode != PEP_MODE_SIGNED;
    invariant(e->size == all.n, "the size is the input's");
    invariant(inside(e->protected_bytes, all) && inside(e->payload, all), "the parts lie in the input");
    invariant(inside((pep_view){e->signature, PEP_SIGNATURE_BYTES}, all), "the signature lies in the input");
    invariant(inside((pep_view){e->kid, PEP_KID_BYTES}, e->protected_bytes), "the kid is signed");
    invariant(inside(e->topic, e->protected_bytes) && inside(e->facts, e->protected_bytes), "topic and facts are");
    invariant(e->to == NULL || inside((pep_view){e->to, PEP_KID_BYTES}, e->protected_bytes), "the recipient is");
    invariant(e->audience == NULL || inside((pep_view){e->audience, PEP_KID_BYTES}, e->protected_bytes),
              "the audience is");
    invariant(encrypted == (e->key_id != NULL), "what is encrypted names a key");
    invariant(inside(e->inner_protected, e->payload) && inside(e->nonce, e->payload) &&
                  inside(e->ciphertext, e->payload),
              "what is encrypted lies in the payload");
}

static void check_fields(const pep_envelope *e)
{
    bool signed_only = (e->flags & PEP_FLAG_SIGNED_ONLY) != 0;
    bool clear = (e->flags & PEP_FLAG_CLEAR) != 0;
    invariant(e->flags <= 15 && e->seq >= 1 && e->seq <= PEP_SEQ_MAX && e->topic.n >= 1, "the numbers are in range");
    invariant(signed_only == (e->mode == PEP_MODE_SIGNED), "the flag says whether it is encrypted");
    invariant(!clear || (signed_only && (e->flags & PEP_FLAG_WILL) == 0 && e->payload.n == 1), "a clear is empty");
    invariant(e->mode != PEP_MODE_DIRECT || e->to != NULL, "direct mode names its recipient");
    invariant(e->facts.n <= PEP_FACTS_MAX, "facts are short");
}

/* What the format leaves no choice about must be the very bytes that our own writer makes. */
static void check_made_again(const pep_envelope *e, pep_view all)
{
    static uint8_t bytes[1 << 20];
    pep_writer w = {.p = bytes, .cap = sizeof bytes};
    pep_write_tag(&w, TAG_SIGN1);
    pep_write_array(&w, 4);
    pep_write_bytes(&w, e->protected_bytes.p, e->protected_bytes.n);
    size_t before = w.n;
    invariant(!w.full && before < all.n && memcmp(bytes, all.p, before) == 0, "the beginning is made again");
    size_t unprotected = reference_item((pep_view){all.p + before, all.n - before}, 2);
    w.n = 0;
    pep_write_bytes(&w, e->payload.p, e->payload.n);
    pep_write_bytes(&w, e->signature, PEP_SIGNATURE_BYTES);
    invariant(!w.full && before + unprotected + w.n == all.n, "there is nothing else in it");
    invariant(memcmp(bytes, all.p + before + unprotected, w.n) == 0, "the end is made again");
    if (e->mode == PEP_MODE_SIGNED)
        return;
    w.n = 0;
    pep_write_tag(&w, TAG_ENCRYPT0);
    pep_write_array(&w, 3);
    pep_write_bytes(&w, e->inner_protected.p, e->inner_protected.n);
    pep_write_map(&w, 1);
    pep_write_int(&w, e->mode == PEP_MODE_DIRECT ? LABEL_EK : LABEL_PARTIAL_IV);
    pep_write_bytes(&w, e->nonce.p, e->nonce.n);
    pep_write_bytes(&w, e->ciphertext.p, e->ciphertext.n);
    invariant(w.n == e->payload.n && memcmp(bytes, e->payload.p, w.n) == 0, "the Encrypt0 is made again");
}

static void check_deterministic(const pep_envelope *e, pep_view all)
{
    invariant(reference_cbor(all, 1, NESTING_MAX), "an envelope is deterministic CBOR");
    invariant(reference_cbor(e->protected_bytes, 1, NESTING_MAX), "its header is");
    if (e->mode != PEP_MODE_SIGNED)
        invariant(reference_cbor(e->payload, 1, NESTING_MAX) && reference_cbor(e->inner_protected, 1, NESTING_MAX),
                  "its Encrypt0 is");
    else
        invariant(reference_item(e->payload, NESTING_MAX) > 0, "its meta is");
}

static void check_facts(pep_view facts)
{
    pep_fact all[PEP_FACTS_COUNT_MAX];
    uint8_t again[PEP_FACTS_MAX];
    size_t again_n;
    size_t count = 0;
    size_t at = 0;
    pep_fact fact;
    while (pep_facts_next(&fact, &at, facts)) {
        invariant(count < PEP_FACTS_COUNT_MAX, "there are not too many facts");
        invariant(inside(fact.key, facts) && inside(fact.text, facts), "facts lie in their map");
        all[count++] = fact;
    }
    invariant(at == facts.n, "all facts are read");
    invariant(facts.n == 0 || (pep_facts_encode(again, &again_n, all, count) == PEP_OK && again_n == facts.n &&
                               memcmp(again, facts.p, again_n) == 0),
              "facts are made again");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    pep_envelope e;
    pep_view all = {data, n};
    pep_reason reason = pep_parse(&e, data, n);
    invariant(reason == PEP_OK || (reason >= PEP_EMPTY_PAYLOAD && reason <= PEP_UNSUPPORTED_ALGORITHM),
              "parsing has its own reasons");
    if (reason != PEP_OK)
        return 0;
    check_views(&e, all);
    check_fields(&e);
    check_deterministic(&e, all);
    check_made_again(&e, all);
    check_facts(e.facts);
    invariant(pep_parse(&e, data, n - 1) != PEP_OK, "nothing shorter is an envelope");
    return 0;
}
