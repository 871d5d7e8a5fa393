/* One envelope of each mode, cut at every byte and with every bit flipped; and what an envelope adds to a payload. */
#include <stdlib.h>
#include <string.h>

#include "pep.h"
#include "scratch.h"
#include "unit.h"

#define NOW       1800000000000000ULL
#define TOPIC     "sensors/a/telemetry"
#define PLAIN_MAX 65536

typedef struct {
    pep_device sender;
    pep_device reader;
    pep_record reader_record;
    pep_keyring *senders;
    pep_epoch epoch;
} parties;

static pep_record record_of(const pep_device *device, const char *save_as)
{
    uint8_t bytes[PEP_RECORD_BYTES_MAX];
    size_t n;
    pep_record record;
    pep_error error;
    CU_ASSERT_EQUAL_FATAL(pep_record_sign(bytes, &n, device, NOW / 1000000 - 10, NOW / 1000000 + 10), PEP_OK);
    CU_ASSERT_EQUAL_FATAL(pep_record_parse(&record, bytes, n), PEP_OK);
    if (save_as != NULL)
        CU_ASSERT_EQUAL_FATAL(pep_record_save(&error, save_as, bytes, n), PEP_OK);
    return record;
}

static void meet(parties *p)
{
    pep_error error;
    CU_ASSERT_EQUAL_FATAL(pep_init(), PEP_OK);
    CU_ASSERT_EQUAL_FATAL(pep_device_new(&p->sender, "sender"), PEP_OK);
    CU_ASSERT_EQUAL_FATAL(pep_device_new(&p->reader, "reader"), PEP_OK);
    CU_ASSERT_EQUAL_FATAL(pep_epoch_new(&p->epoch, p->sender.sign_kid, "#"), PEP_OK);
    scratch_begin();
    p->reader_record = record_of(&p->reader, NULL);
    record_of(&p->sender, scratch_path("sender.pub"));
    CU_ASSERT_EQUAL_FATAL(pep_keyring_load(&p->senders, &error, scratch_path("sender.pub")), PEP_OK);
    scratch_end();
}

static void part(parties *p)
{
    pep_keyring_free(p->senders);
    pep_epoch_wipe(&p->epoch);
}

/* With a field of every kind, so that each of them is cut and flipped. */
static size_t seal(uint8_t out[1024], const parties *p, pep_mode mode)
{
    static const pep_fact fact = {.key = {(const uint8_t *)"n", 1}, .type = PEP_FACT_INT, .integer = 7};
    static const pep_meta meta = {.content_type = {(const uint8_t *)"text/plain", 10}, .padding = {.n = 3}};
    uint8_t facts[PEP_FACTS_MAX];
    pep_message m = {
        .from = &p->sender,
        .topic = {(const uint8_t *)TOPIC, strlen(TOPIC)},
        .seq = NOW,
        .flags = mode == PEP_MODE_SIGNED ? PEP_FLAG_SIGNED_ONLY : 0,
        .to = mode == PEP_MODE_DIRECT ? &p->reader_record : NULL,
        .epoch = mode == PEP_MODE_EPOCH ? &p->epoch : NULL,
        .exp_s = NOW / 1000000 + 5,
        .audience = p->reader.sign_kid,
        .meta = &meta,
        .plain = {(const uint8_t *)"hello", 5},
    };
    size_t n;
    CU_ASSERT_EQUAL_FATAL(pep_facts_encode(facts, &m.facts.n, &fact, 1), PEP_OK);
    m.facts.p = facts;
    CU_ASSERT_EQUAL_FATAL(pep_seal(out, &n, 1024, &m), PEP_OK);
    return n;
}

/* Opens a copy in exactly as much heap as it needs, and wants exactly as much working space as is promised to do. */
static pep_reason open_copy(const parties *p, const uint8_t *bytes, size_t n)
{
    const pep_opener opener = {
        .me = &p->reader,
        .senders = p->senders,
        .epochs = &p->epoch,
        .epoch_count = 1,
        .topic = {(const uint8_t *)TOPIC, strlen(TOPIC)},
        .allow_signed_only = true,
        .now_us = NOW,
    };
    pep_opened opened;
    uint8_t *copy = malloc(n);
    uint8_t *work = malloc(PEP_WORK_BYTES(n));
    CU_ASSERT_TRUE_FATAL(copy != NULL && work != NULL);
    memcpy(copy, bytes, n);
    pep_reason reason = pep_open(&opened, work, PEP_WORK_BYTES(n), &opener, copy, n);
    CU_ASSERT_TRUE(reason != PEP_OK || (opened.plain.n == 5 && memcmp(opened.plain.p, "hello", 5) == 0));
    CU_ASSERT_TRUE(reason == PEP_OK || opened.plain.n == 0);
    free(copy);
    free(work);
    return reason;
}

static void cut_everywhere(const parties *p, pep_mode mode)
{
    uint8_t bytes[1024];
    size_t n = seal(bytes, p, mode);
    CU_ASSERT_EQUAL_FATAL(open_copy(p, bytes, n), PEP_OK);
    for (size_t cut = 1; cut < n; cut++)
        CU_ASSERT_EQUAL(open_copy(p, bytes, cut), PEP_MALFORMED);
}

static void flip_everywhere(const parties *p, pep_mode mode)
{
    uint8_t bytes[1024];
    size_t n = seal(bytes, p, mode);
    CU_ASSERT_EQUAL_FATAL(open_copy(p, bytes, n), PEP_OK);
    for (size_t bit = 0; bit < 8 * n; bit++) {
        uint8_t mask = (uint8_t)(1u << bit % 8);
        bytes[bit / 8] ^= mask;
        CU_ASSERT_NOT_EQUAL(open_copy(p, bytes, n), PEP_OK);
        bytes[bit / 8] ^= mask;
    }
    CU_ASSERT_EQUAL(open_copy(p, bytes, n), PEP_OK);
}

static void in_every_mode(void (*test)(const parties *p, pep_mode mode))
{
    static const pep_mode modes[] = {PEP_MODE_SIGNED, PEP_MODE_DIRECT, PEP_MODE_EPOCH};
    parties p;
    meet(&p);
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++)
        test(&p, modes[i]);
    part(&p);
}

static void test_cut(void)
{
    in_every_mode(cut_everywhere);
}

static void test_flipped(void)
{
    in_every_mode(flip_everywhere);
}

/* A signature is good for one sender, and where there is no room to look at it, it is not good. */
static void verify_once(const parties *p, pep_mode mode)
{
    uint8_t bytes[1024];
    uint8_t work[PEP_WORK_BYTES(1024)];
    size_t n = seal(bytes, p, mode);
    pep_envelope e;
    CU_ASSERT_EQUAL_FATAL(pep_parse(&e, bytes, n), PEP_OK);
    const pep_record *sender = pep_keyring_find(p->senders, e.kid);
    CU_ASSERT_PTR_NOT_NULL_FATAL(sender);
    CU_ASSERT_EQUAL(pep_verify(work, sizeof work, &e, sender), PEP_OK);
    CU_ASSERT_EQUAL(pep_verify(work, sizeof work, &e, &p->reader_record), PEP_UNKNOWN_SIGNER);
    CU_ASSERT_EQUAL(pep_verify(work, 1, &e, sender), PEP_BUFFER_TOO_SMALL);
}

static void test_verify(void)
{
    in_every_mode(verify_once);
}

/* ---- overhead: what docs/PROTOCOL.md promises, with the longest seq, without ext and meta ---- */

typedef struct {
    parties p;
    uint8_t topic[PLAIN_MAX];
    uint8_t plain[PLAIN_MAX];
    uint8_t out[2 * PLAIN_MAX];
} scale;

static size_t overhead(scale *s, pep_mode mode, size_t topic_n, size_t plain_n)
{
    size_t n;
    const pep_message m = {
        .from = &s->p.sender,
        .topic = {s->topic, topic_n},
        .seq = PEP_SEQ_MAX,
        .flags = mode == PEP_MODE_SIGNED ? PEP_FLAG_SIGNED_ONLY : 0,
        .to = mode == PEP_MODE_DIRECT ? &s->p.reader_record : NULL,
        .epoch = mode == PEP_MODE_EPOCH ? &s->p.epoch : NULL,
        .plain = {s->plain, plain_n},
    };
    CU_ASSERT_EQUAL_FATAL(pep_seal(s->out, &n, sizeof s->out, &m), PEP_OK);
    CU_ASSERT_TRUE(n < pep_seal_bytes(&m));
    return n - topic_n - plain_n;
}

static scale *new_scale(void)
{
    static scale s;
    memset(s.topic, 't', sizeof s.topic);
    meet(&s.p);
    return &s;
}

/* Bytes of a CBOR head that holds n. */
static size_t head(size_t n)
{
    if (n < 24)
        return 1;
    if (n < 256)
        return 2;
    return n < 65536 ? 3 : 5;
}

/* The sum of docs/PROTOCOL.md, "Overhead", in epoch mode. */
static size_t epoch_bytes(size_t topic_n, size_t plain_n)
{
    size_t header = 38 + head(topic_n) + topic_n;
    size_t ciphertext = 1 + plain_n + 16;
    size_t encrypt0 = 32 + head(ciphertext) + ciphertext;
    return 2 + head(header) + header + 1 + head(encrypt0) + encrypt0 + 66;
}

static void test_epoch_overhead(void)
{
    static const size_t plains[] = {0,     1,     6,     7,     8,     64,    202,   203,   204,   205,
                                    237,   238,   239,   240,   255,   256,   1024,  4096,  65482, 65483,
                                    65484, 65485, 65517, 65518, 65519, 65520, 65534, 65535, 65536};
    scale *s = new_scale();
    for (size_t topic_n = 1; topic_n <= 255; topic_n++)
        for (size_t i = 0; i < sizeof plains / sizeof plains[0]; i++) {
            size_t measured = overhead(s, PEP_MODE_EPOCH, topic_n, plains[i]);
            bool both_long = topic_n > 215 && plains[i] > 65518;
            CU_ASSERT_EQUAL(measured, epoch_bytes(topic_n, plains[i]) - topic_n - plains[i]);
            CU_ASSERT_TRUE(measured <= 170 || (both_long && measured == 171));
        }
    part(&s->p);
}

/* The table of docs/PROTOCOL.md, "Overhead". Direct mode has `to` in it, which it cannot be without. */
static void test_overhead_of_each_mode(void)
{
    static const struct {
        size_t topic_n;
        size_t plain_n;
        size_t signed_only;
        size_t epoch;
        size_t direct;
    } table[] = {
        {20, 0, 112, 162, 210},    {20, 16, 112, 163, 211},    {20, 256, 114, 165, 213},
        {20, 1024, 114, 165, 213}, {20, 65536, 116, 169, 217}, {255, 65536, 118, 171, 219},
    };
    scale *s = new_scale();
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        CU_ASSERT_EQUAL(overhead(s, PEP_MODE_SIGNED, table[i].topic_n, table[i].plain_n), table[i].signed_only);
        CU_ASSERT_EQUAL(overhead(s, PEP_MODE_EPOCH, table[i].topic_n, table[i].plain_n), table[i].epoch);
        CU_ASSERT_EQUAL(overhead(s, PEP_MODE_DIRECT, table[i].topic_n, table[i].plain_n), table[i].direct);
    }
    part(&s->p);
}

static const unit_test tests[] = {
    {"cut at every byte", test_cut},
    {"flipped in every bit", test_flipped},
    {"verified", test_verify},
    {"overhead of epoch mode", test_epoch_overhead},
    {"overhead of each mode", test_overhead_of_each_mode},
};

UNIT_MAIN("envelope bytes", tests)
