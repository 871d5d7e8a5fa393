#include "seal.h"

#include <CUnit/CUnit.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define HOUR_S 3600ull

/* ---- the cast ---- */

void speaker_make(speaker *s, const char *id)
{
    CU_ASSERT_EQUAL(pep_device_new(&s->device, id), PEP_OK);
    CU_ASSERT_EQUAL(pep_epoch_new(&s->epoch, s->device.sign_kid, "#"), PEP_OK);
}

void speaker_wipe(speaker *s)
{
    pep_epoch_wipe(&s->epoch);
    pep_device_wipe(&s->device);
}

static const char *record_path(const broker *b, const char *id)
{
    char name[PEP_ID_MAX + 16];
    snprintf(name, sizeof(name), "records/%s.pub", id);
    return broker_path(b, name);
}

static void record_write(const broker *b, const pep_device *device, uint64_t issued_s, uint64_t not_after_s)
{
    uint8_t bytes[PEP_RECORD_BYTES_MAX];
    size_t n = 0;
    pep_error error = {0};
    CU_ASSERT_EQUAL(pep_record_sign(bytes, &n, device, issued_s, not_after_s), PEP_OK);
    CU_ASSERT_EQUAL(pep_record_save(&error, record_path(b, device->id), bytes, n), PEP_OK);
}

static uint64_t now_s(void)
{
    return pep_now_us() / 1000000;
}

void record_add(const broker *b, const pep_device *device)
{
    record_write(b, device, now_s(), now_s() + HOUR_S);
}

void record_remove(const broker *b, const char *id)
{
    CU_ASSERT_EQUAL(unlink(record_path(b, id)), 0);
}

static void statement_write(const broker *b, const char *id, const uint8_t *bytes, size_t n)
{
    pep_error error = {0};
    CU_ASSERT_EQUAL(pep_record_save(&error, record_path(b, id), bytes, n), PEP_OK);
}

/* Where the chain of a device that has just been enrolled ends. */
static pep_head head_of(const pep_device *device)
{
    uint8_t bytes[PEP_RECORD_BYTES_MAX];
    size_t n = 0;
    pep_statement first;
    pep_head head = {.version = 0};
    CU_ASSERT_EQUAL(pep_record_sign(bytes, &n, device, now_s() - HOUR_S, now_s() + HOUR_S), PEP_OK);
    CU_ASSERT_EQUAL(pep_statement_parse(&first, bytes, n), PEP_OK);
    CU_ASSERT_EQUAL(pep_head_begin(&head, &first), PEP_OK);
    return head;
}

/* A moment ago: what is sealed from now on lies above it. */
static uint64_t cutoff(void)
{
    return pep_now_us() - 1000000;
}

static void revocation_add(const broker *b, const pep_device *device)
{
    uint8_t bytes[PEP_STATEMENT_BYTES_MAX];
    size_t n = 0;
    pep_head head = head_of(device);
    CU_ASSERT_EQUAL(pep_revocation_sign(bytes, &n, device->sign_secret, &head, now_s(), cutoff()), PEP_OK);
    statement_write(b, device->id, bytes, n);
}

static void rotation_add(const broker *b, const pep_device *device)
{
    uint8_t record[PEP_RECORD_BYTES_MAX];
    uint8_t bytes[PEP_STATEMENT_BYTES_MAX];
    size_t record_n = 0;
    size_t n = 0;
    pep_device next;
    pep_head head = head_of(device);
    CU_ASSERT_EQUAL(pep_device_new(&next, device->id), PEP_OK);
    CU_ASSERT_EQUAL(pep_record_next(record, &record_n, &next, &head, now_s(), now_s() + HOUR_S), PEP_OK);
    CU_ASSERT_EQUAL(pep_rotation_sign(bytes, &n, device->sign_secret, &head, record, record_n, cutoff()), PEP_OK);
    statement_write(b, device->id, bytes, n);
    pep_device_wipe(&next);
}

void cast_make(cast *c, const broker *b)
{
    CU_ASSERT_EQUAL(pep_init(), PEP_OK);
    speaker_make(&c->alice, "alice");
    speaker_make(&c->carol, "carol");
    speaker_make(&c->bob, "bob");
    speaker_make(&c->old, "old");
    speaker_make(&c->gone, "gone");
    speaker_make(&c->turned, "turned");
    speaker_make(&c->mallory, "mallory");
    record_add(b, &c->alice.device);
    record_add(b, &c->carol.device);
    record_add(b, &c->bob.device);
    record_write(b, &c->old.device, now_s() - HOUR_S, now_s() - 1);
    revocation_add(b, &c->gone.device);
    rotation_add(b, &c->turned.device);
    c->seq = next_seq();
}

void cast_wipe(cast *c)
{
    speaker_wipe(&c->alice);
    speaker_wipe(&c->carol);
    speaker_wipe(&c->bob);
    speaker_wipe(&c->old);
    speaker_wipe(&c->gone);
    speaker_wipe(&c->turned);
    speaker_wipe(&c->mallory);
}

/* ---- sealing ---- */

uint64_t next_seq(void)
{
    static uint64_t last;
    uint64_t now = pep_now_us();
    last = now > last ? now : last + 1;
    return last;
}

static pep_view view(const void *bytes, size_t n)
{
    return (pep_view){.p = bytes, .n = n};
}

pep_fact fact_text(const char *key, const char *text)
{
    return (pep_fact){.key = view(key, strlen(key)), .type = PEP_FACT_TEXT, .text = view(text, strlen(text))};
}

pep_fact fact_int(const char *key, int64_t integer)
{
    return (pep_fact){.key = view(key, strlen(key)), .type = PEP_FACT_INT, .integer = integer};
}

pep_fact fact_bool(const char *key, bool value)
{
    return (pep_fact){.key = view(key, strlen(key)), .type = PEP_FACT_BOOL, .integer = value};
}

/* Empty where nothing is to be recorded. */
static pep_view encode_facts(uint8_t out[PEP_FACTS_MAX], const seal_spec *spec)
{
    pep_fact one = fact_text("kind", "reading");
    size_t n = 0;
    if (!spec->recorded && spec->fact_n == 0)
        return view(NULL, 0);
    CU_ASSERT_EQUAL(pep_facts_encode(out, &n, spec->recorded ? &one : spec->facts, spec->recorded ? 1 : spec->fact_n),
                    PEP_OK);
    return view(out, n);
}

static pep_view content(const seal_spec *spec)
{
    static const uint8_t zeros[4096];
    if ((spec->flags & PEP_FLAG_CLEAR) != 0)
        return view(NULL, 0);
    const char *plain = spec->plain != NULL ? spec->plain : PLAIN_TEXT;
    return spec->plain_n > 0 ? view(zeros, spec->plain_n) : view(plain, strlen(plain));
}

sealed seal(seal_spec spec)
{
    uint8_t facts[PEP_FACTS_MAX];
    bool epoch = spec.to == NULL && !spec.signed_only && (spec.flags & PEP_FLAG_CLEAR) == 0;
    pep_message m = {
        .from = &spec.from->device,
        .topic = view(spec.topic, strlen(spec.topic)),
        .seq = spec.seq != 0 ? spec.seq : next_seq(),
        .flags = spec.flags | (spec.signed_only ? PEP_FLAG_SIGNED_ONLY : 0),
        .to = spec.to,
        .epoch = epoch ? &spec.from->epoch : NULL,
        .facts = encode_facts(facts, &spec),
        .exp_s = spec.exp_s,
        .plain = content(&spec),
    };
    sealed out = {.n = 0};
    CU_ASSERT_EQUAL(pep_seal(out.bytes, &out.n, sizeof(out.bytes), &m), PEP_OK);
    return out;
}

bool opens(const broker *b, const speaker *from, const pep_device *me, const char *topic, const void *bytes, size_t n)
{
    uint8_t work[PEP_WORK_BYTES(sizeof(((sealed *)NULL)->bytes))];
    pep_error error = {0};
    pep_keyring *ring = NULL;
    CU_ASSERT_EQUAL(pep_keyring_load(&ring, &error, broker_path(b, "records")), PEP_OK);
    pep_opener opener = {.me = me, .senders = ring, .epochs = &from->epoch, .epoch_count = 1, .now_us = pep_now_us()};
    opener.topic = view(topic, strlen(topic));
    opener.allow_signed_only = true;
    pep_opened opened;
    bool good = pep_open(&opened, work, sizeof(work), &opener, bytes, n) == PEP_OK &&
                strcmp(opened.sender->id, from->device.id) == 0 && opened.plain.n == strlen(PLAIN_TEXT) &&
                memcmp(opened.plain.p, PLAIN_TEXT, opened.plain.n) == 0;
    pep_keyring_free(ring);
    return good;
}

/* ---- cases ---- */

static sealed valid(const cast *c, const char *topic, unsigned flags)
{
    return seal((seal_spec){.from = &c->alice, .topic = topic, .flags = flags});
}

static sealed too_large(const cast *c, const char *topic, unsigned flags)
{
    return seal((seal_spec){.from = &c->alice, .topic = topic, .flags = flags, .plain_n = 2048});
}

static sealed empty(const cast *c, const char *topic, unsigned flags)
{
    (void)c;
    (void)topic;
    (void)flags;
    return (sealed){.n = 0};
}

static sealed plain(const cast *c, const char *topic, unsigned flags)
{
    sealed out = empty(c, topic, flags);
    out.n = strlen(PLAIN_TEXT);
    memcpy(out.bytes, PLAIN_TEXT, out.n);
    return out;
}

static sealed with_trailing_byte(const cast *c, const char *topic, unsigned flags)
{
    sealed out = valid(c, topic, flags);
    out.bytes[out.n++] = 0;
    return out;
}

/* Sets the byte behind the first place where `before` stands. */
static sealed patched(sealed out, const char *before, size_t before_n, size_t skip, uint8_t byte)
{
    uint8_t *at = memmem(out.bytes, out.n, before, before_n);
    CU_ASSERT_PTR_NOT_NULL(at);
    if (at != NULL)
        at[before_n + skip] = byte;
    return out;
}

/* The key -65537, the head of the array, then the version. */
static sealed of_version_2(const cast *c, const char *topic, unsigned flags)
{
    return patched(valid(c, topic, flags), "\x3a\x00\x01\x00\x00", 5, 1, 2);
}

/* The key 1 of the header, then the algorithm: -19 becomes -7 (ES256). */
static sealed with_es256(const cast *c, const char *topic, unsigned flags)
{
    return patched(valid(c, topic, flags), "\xa3\x01", 2, 0, 0x26);
}

static sealed for_another_topic(const cast *c, const char *topic, unsigned flags)
{
    (void)topic;
    return valid(c, "t/elsewhere", flags);
}

static sealed by_mallory(const cast *c, const char *topic, unsigned flags)
{
    return seal((seal_spec){.from = &c->mallory, .topic = topic, .flags = flags});
}

static sealed by_old(const cast *c, const char *topic, unsigned flags)
{
    return seal((seal_spec){.from = &c->old, .topic = topic, .flags = flags});
}

static sealed by_gone(const cast *c, const char *topic, unsigned flags)
{
    return seal((seal_spec){.from = &c->gone, .topic = topic, .flags = flags});
}

static sealed by_turned(const cast *c, const char *topic, unsigned flags)
{
    return seal((seal_spec){.from = &c->turned, .topic = topic, .flags = flags});
}

static sealed by_bob(const cast *c, const char *topic, unsigned flags)
{
    return seal((seal_spec){.from = &c->bob, .topic = topic, .flags = flags});
}

static sealed by_carol(const cast *c, const char *topic, unsigned flags)
{
    return seal((seal_spec){.from = &c->carol, .topic = topic, .flags = flags});
}

/* A publish that says it is a will, or the other way round. */
static sealed with_the_wrong_flag(const cast *c, const char *topic, unsigned flags)
{
    return valid(c, topic, flags ^ PEP_FLAG_WILL);
}

static sealed signed_only(const cast *c, const char *topic, unsigned flags)
{
    return seal((seal_spec){.from = &c->alice, .topic = topic, .flags = flags, .signed_only = true});
}

static sealed recorded(const cast *c, const char *topic, unsigned flags)
{
    return seal((seal_spec){.from = &c->alice, .topic = topic, .flags = flags, .recorded = true});
}

static sealed counted(const cast *c, const char *topic, unsigned flags)
{
    return seal((seal_spec){.from = &c->alice, .topic = topic, .flags = flags | PEP_FLAG_COUNTER, .seq = 1});
}

static sealed from_the_future(const cast *c, const char *topic, unsigned flags)
{
    uint64_t seq = pep_now_us() + HOUR_S * 1000000;
    return seal((seal_spec){.from = &c->alice, .topic = topic, .flags = flags, .seq = seq});
}

/* Older than max_age, and than will_max_age. */
static sealed stale(const cast *c, const char *topic, unsigned flags)
{
    uint64_t seq = pep_now_us() - 2 * HOUR_S * 1000000;
    return seal((seal_spec){.from = &c->alice, .topic = topic, .flags = flags, .seq = seq});
}

static sealed expired(const cast *c, const char *topic, unsigned flags)
{
    return seal((seal_spec){.from = &c->alice, .topic = topic, .flags = flags, .exp_s = now_s() - 2});
}

static sealed of_the_same_seq(const cast *c, const char *topic, unsigned flags)
{
    return seal((seal_spec){.from = &c->alice, .topic = topic, .flags = flags, .seq = c->seq});
}

/* A bit of the ciphertext, which ends where the signature's head (58 40) begins; a clear has none. */
static sealed tampered(const cast *c, const char *topic, unsigned flags)
{
    sealed out = valid(c, topic, flags);
    size_t from_end = (flags & PEP_FLAG_CLEAR) != 0 ? 1 : PEP_SIGNATURE_BYTES + 3;
    out.bytes[out.n - from_end] ^= 1;
    return out;
}

const seal_case CASES[] = {
    {"valid", valid, PEP_OK, CASE_ALONE},
    {"too large", too_large, PEP_TOO_LARGE, CASE_ALONE},
    {"empty", empty, PEP_EMPTY_PAYLOAD, CASE_ALONE},
    {"plain", plain, PEP_PLAIN_PAYLOAD, CASE_ALONE},
    {"a trailing byte", with_trailing_byte, PEP_MALFORMED, CASE_ALONE},
    {"version 2", of_version_2, PEP_UNSUPPORTED_VERSION, CASE_ALONE},
    {"another algorithm", with_es256, PEP_UNSUPPORTED_ALGORITHM, CASE_ALONE},
    {"for another topic", for_another_topic, PEP_WRONG_TOPIC, CASE_ALONE},
    {"unknown signer", by_mallory, PEP_UNKNOWN_SIGNER, CASE_ALONE},
    {"expired signer", by_old, PEP_EXPIRED_SIGNER, CASE_ALONE},
    {"revoked signer", by_gone, PEP_REVOKED_SIGNER, CASE_ALONE},
    {"signer with a newer key", by_turned, PEP_ROTATED_SIGNER, CASE_ALONE},
    {"signer not allowed here", by_bob, PEP_SIGNER_NOT_ALLOWED, CASE_ALONE},
    {"another device's client", by_carol, PEP_UNBOUND_CLIENT, CASE_ALONE},
    {"wrong will flag", with_the_wrong_flag, PEP_MISPLACED_FLAG, CASE_ALONE},
    {"signed only", signed_only, PEP_NOT_ENCRYPTED, CASE_ALONE},
    {"asks to be recorded", recorded, PEP_RECORD_DENIED, CASE_ALONE},
    {"without a clock", counted, PEP_NO_CLOCK, CASE_ALONE},
    {"from the future", from_the_future, PEP_FUTURE_SEQ, CASE_ALONE},
    {"stale", stale, PEP_STALE, CASE_ALONE},
    {"expired", expired, PEP_EXPIRED, CASE_ALONE},
    {"the same seq again", of_the_same_seq, PEP_REPLAYED, CASE_AFTER_ANOTHER},
    {"tampered", tampered, PEP_BAD_SIGNATURE, CASE_ALONE},
    {"redelivered", valid, PEP_OK, CASE_AFTER_ITSELF},
};
const size_t CASE_COUNT = sizeof(CASES) / sizeof(CASES[0]);

const seal_case *case_of(pep_reason reason)
{
    size_t i = 0;
    while (i < CASE_COUNT && CASES[i].reason != reason)
        i++;
    CU_ASSERT_TRUE(i < CASE_COUNT);
    return &CASES[i < CASE_COUNT ? i : 0];
}

bool case_make(const seal_case *k, cast *c, const char *topic, unsigned flags, sealed *first, sealed *e)
{
    c->seq = next_seq();
    *first = k->make(c, topic, flags);
    *e = k->order == CASE_AFTER_ITSELF ? *first : k->make(c, topic, flags);
    return k->order != CASE_ALONE;
}
