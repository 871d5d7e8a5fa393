/* Pins: everything that a hostile directory can serve, two processes, and files that are damaged or half written. */
#include <poll.h>
#include <sodium.h>
#include <time.h>

#include "pep.h"
#include "scratch.h"
#include "unit.h"

#define NOW       1800000000ULL
#define DAY       86400ULL
#define CHAIN_MAX 40

/* A device and all that it ever said. */
typedef struct {
    pep_device device;
    pep_device before; /* its keys before the last rotation */
    pep_head head;
    uint8_t bytes[CHAIN_MAX][PEP_STATEMENT_BYTES_MAX];
    size_t n[CHAIN_MAX];
    size_t count;
} person;

static person alice, mallory;
static pep_authority authority;
static pep_pin_news news;
static pep_error error;

static void add(person *p, const uint8_t *bytes, size_t n)
{
    pep_statement s;
    const pep_trust trust = {.authorities = (const uint8_t(*)[PEP_SIGN_PUBLIC_BYTES]) & authority.sign_public,
                             .authority_count = 1,
                             .admin_public = mallory.device.sign_public};
    memcpy(p->bytes[p->count], bytes, n);
    p->n[p->count] = n;
    CU_ASSERT_EQUAL_FATAL(pep_statement_parse(&s, p->bytes[p->count], n), PEP_OK);
    if (p->count++ == 0)
        CU_ASSERT_EQUAL_FATAL(pep_head_begin(&p->head, &s), PEP_OK);
    if (p->count > 1)
        CU_ASSERT_EQUAL_FATAL(pep_head_advance(&p->head, NULL, &s, &trust), PEP_OK);
}

static void begin(person *p, const char *id)
{
    uint8_t bytes[PEP_RECORD_BYTES_MAX];
    size_t n;
    memset(p, 0, sizeof *p);
    CU_ASSERT_EQUAL_FATAL(pep_device_new(&p->device, id), PEP_OK);
    CU_ASSERT_EQUAL_FATAL(pep_record_sign(bytes, &n, &p->device, NOW - 100, NOW + 30 * DAY), PEP_OK);
    add(p, bytes, n);
}

/* The next version; `secret`: whose signature stands around it. */
static void go_on(person *p, bool keep_sign, const uint8_t *secret, uint64_t not_after_s)
{
    uint8_t record[PEP_RECORD_BYTES_MAX];
    uint8_t bytes[PEP_STATEMENT_BYTES_MAX];
    size_t record_n;
    size_t n;
    p->before = p->device;
    CU_ASSERT_EQUAL_FATAL(pep_device_renew(&p->device, &p->before, keep_sign, NOW, NOW + DAY), PEP_OK);
    CU_ASSERT_EQUAL_FATAL(pep_record_next(record, &record_n, &p->device, &p->head, NOW, not_after_s), PEP_OK);
    uint64_t cutoff = keep_sign || p->head.revoked ? 0 : NOW * 1000000;
    CU_ASSERT_EQUAL_FATAL(pep_rotation_sign(bytes, &n, secret, &p->head, record, record_n, cutoff), PEP_OK);
    add(p, bytes, n);
}

static void rotate(person *p)
{
    uint8_t secret[PEP_SIGN_SECRET_BYTES];
    memcpy(secret, p->device.sign_secret, sizeof secret);
    go_on(p, false, secret, NOW + 30 * DAY);
}

static void renew(person *p)
{
    go_on(p, true, p->device.sign_secret, NOW + 30 * DAY);
}

static void end_by(person *p, const uint8_t *secret)
{
    uint8_t bytes[PEP_STATEMENT_BYTES_MAX];
    size_t n;
    CU_ASSERT_EQUAL_FATAL(pep_revocation_sign(bytes, &n, secret, &p->head, NOW, (NOW - 5) * 1000000), PEP_OK);
    add(p, bytes, n);
}

typedef struct {
    uint8_t bytes[PEP_ENTRY_BYTES_MAX];
    size_t n;
} served;

static served serve_bytes(const uint8_t *bytes, size_t n, pep_view certificate)
{
    served s;
    pep_entry e = {{bytes, n}, certificate};
    CU_ASSERT_EQUAL_FATAL(pep_entry_encode(s.bytes, &s.n, &e), PEP_OK);
    return s;
}

/* Version `version` of `p`, 0: the newest, without a certificate. */
static served serve(const person *p, size_t version)
{
    size_t i = (version == 0 ? p->count : version) - 1;
    return serve_bytes(p->bytes[i], p->n[i], (pep_view){NULL, 0});
}

static served serve_certified(const person *p, const char *id, const uint8_t *kid, uint64_t until_s, bool gate)
{
    uint8_t bytes[PEP_CERTIFICATE_BYTES_MAX];
    size_t n;
    pep_certificate c = {.issued_s = NOW - 100, .not_after_s = until_s, .gate = gate};
    snprintf(c.id, sizeof c.id, "%s", id);
    memcpy(c.kid, kid, sizeof c.kid);
    CU_ASSERT_EQUAL_FATAL(pep_certificate_sign(bytes, &n, &authority, &c), PEP_OK);
    return serve_bytes(p->bytes[p->count - 1], p->n[p->count - 1], (pep_view){bytes, n});
}

static pep_pins *open_pins(void)
{
    pep_pins *pins;
    CU_ASSERT_EQUAL_FATAL(pep_pins_open(&pins, &error, scratch_path("pins"), NULL, 0), PEP_OK);
    return pins;
}

static pep_pins *open_with_authority(void)
{
    pep_pins *pins;
    CU_ASSERT_EQUAL_FATAL(pep_pins_open(&pins, &error, scratch_path("pins"),
                                        (const uint8_t(*)[PEP_SIGN_PUBLIC_BYTES]) & authority.sign_public, 1),
                          PEP_OK);
    return pins;
}

static pep_reason take(pep_pins *pins, const char *id, served s)
{
    news = 0;
    error.text[0] = '\0';
    pep_reason reason = pep_pins_take(pins, &news, &error, id, s.bytes, s.n, NOW);
    CU_ASSERT_EQUAL(reason == PEP_OK, error.text[0] == '\0');
    CU_ASSERT_EQUAL(reason == PEP_OK, news != 0);
    return reason;
}

static pep_reason take_history(pep_pins *pins, const person *p, size_t from, size_t to)
{
    pep_view views[CHAIN_MAX];
    for (size_t i = from; i <= to; i++)
        views[i - from] = (pep_view){p->bytes[i - 1], p->n[i - 1]};
    return pep_pins_take_history(pins, &error, p->head.id, views, to - from + 1);
}

/* As a file that the user has put there. */
static pep_reason give(pep_pins *pins, const person *p, size_t version)
{
    pep_statement s;
    size_t i = (version == 0 ? p->count : version) - 1;
    CU_ASSERT_EQUAL_FATAL(pep_statement_parse(&s, p->bytes[i], p->n[i]), PEP_OK);
    return pep_pins_give(pins, &error, &s, p->bytes[i], p->n[i]);
}

#define EXPECT_NEWS(expected, pins, id, s)                                                                             \
    do {                                                                                                               \
        CU_ASSERT_EQUAL(take(pins, id, s), PEP_OK);                                                                    \
        CU_ASSERT_EQUAL(news, expected);                                                                               \
    } while (0)
#define EXPECT_REFUSED(reason, pins, id, s) CU_ASSERT_EQUAL(take(pins, id, s), reason)

/* What must be there; a record of nothing where it is not. */
static const pep_record *need(const pep_record *record)
{
    static const pep_record none;
    CU_ASSERT_PTR_NOT_NULL(record);
    return record != NULL ? record : &none;
}

static uint64_t pinned_version(pep_pins *pins, const char *id)
{
    const pep_record *r = pep_pins_find_id(pins, id);
    return r != NULL ? r->version : 0;
}

static void prepare(void)
{
    scratch_begin();
    CU_ASSERT_EQUAL_FATAL(pep_init(), PEP_OK);
    CU_ASSERT_EQUAL_FATAL(pep_authority_new(&authority), PEP_OK);
    begin(&alice, "alice");
    begin(&mallory, "mallory");
}

/* ---- what is right ---- */

static void test_first_and_same(void)
{
    prepare();
    pep_pins *pins = open_pins();
    CU_ASSERT_PTR_NULL(pep_pins_find_id(pins, "alice"));
    CU_ASSERT_PTR_NULL(pep_pins_find(pins, alice.device.sign_kid));
    EXPECT_NEWS(PEP_PIN_FIRST, pins, "alice", serve(&alice, 0));
    EXPECT_NEWS(PEP_PIN_SAME, pins, "alice", serve(&alice, 0));
    CU_ASSERT_EQUAL(mode_of_file(scratch_path("pins")), 0700);
    CU_ASSERT_EQUAL(mode_of_file(scratch_path("pins/alice.pin")), 0600);
    for (int again = 0; again < 2; again++) {
        const pep_record *r = need(pep_pins_find(pins, alice.device.sign_kid));
        CU_ASSERT_TRUE(strcmp(r->id, "alice") == 0 && r->version == 1 && r->ended == PEP_OK && r->agree_count == 1);
        CU_ASSERT_EQUAL(memcmp(r->agree[0].key, alice.device.agree_public, 32), 0);
        CU_ASSERT_PTR_EQUAL(r, pep_pins_find_id(pins, "alice"));
        pep_pins_close(pins);
        pins = open_pins();
    }
    pep_pins_close(pins);
    scratch_end();
}

static void test_renewed_and_rotated(void)
{
    prepare();
    pep_pins *pins = open_pins();
    EXPECT_NEWS(PEP_PIN_FIRST, pins, "alice", serve(&alice, 0));
    renew(&alice);
    EXPECT_NEWS(PEP_PIN_RENEWED, pins, "alice", serve(&alice, 0));
    rotate(&alice);
    EXPECT_NEWS(PEP_PIN_ROTATED, pins, "alice", serve(&alice, 0));
    for (int again = 0; again < 2; again++) {
        const pep_record *old = need(pep_pins_find(pins, alice.before.sign_kid));
        CU_ASSERT_TRUE(old->ended == PEP_ROTATED_SIGNER && old->cutoff == NOW * 1000000 && old->agree_count == 0);
        CU_ASSERT_EQUAL(memcmp(old->sign_public, alice.before.sign_public, 32), 0);
        CU_ASSERT_EQUAL(pinned_version(pins, "alice"), 3);
        CU_ASSERT_EQUAL(need(pep_pins_find(pins, alice.device.sign_kid))->ended, PEP_OK);
        pep_pins_close(pins);
        pins = open_pins();
    }
    pep_pins_close(pins);
    scratch_end();
}

static void test_strange_ids(void)
{
    static const char *const ids[] = {
        ".", "..", ".lock", "a.pin", "a:b@c-d_e", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"};
    prepare();
    pep_pins *pins = open_pins();
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++) {
        begin(&alice, ids[i]);
        EXPECT_NEWS(PEP_PIN_FIRST, pins, ids[i], serve(&alice, 0));
    }
    pep_pins_close(pins);
    pins = open_pins();
    CU_ASSERT_PTR_NOT_NULL(pep_pins_find(pins, alice.device.sign_kid)); /* all of them were looked at */
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++)
        CU_ASSERT_EQUAL(pinned_version(pins, ids[i]), 1);
    EXPECT_REFUSED(PEP_BAD_ARGUMENT, pins, "../x", serve(&alice, 0));
    EXPECT_REFUSED(PEP_BAD_ARGUMENT, pins, "", serve(&alice, 0));
    CU_ASSERT_PTR_NULL(pep_pins_find_id(pins, "a/b"));
    pep_pins_close(pins);
    CU_ASSERT_EQUAL(scratch_count(), 1); /* nothing beside the folder */
    scratch_end();
}

static void test_forget(void)
{
    prepare();
    pep_pins *pins = open_pins();
    CU_ASSERT_EQUAL(pep_pins_forget(pins, &error, "alice"), PEP_UNKNOWN_ID);
    EXPECT_NEWS(PEP_PIN_FIRST, pins, "alice", serve(&alice, 0));
    uint8_t kid[PEP_KID_BYTES];
    memcpy(kid, alice.device.sign_kid, sizeof kid);
    begin(&alice, "alice");
    EXPECT_REFUSED(PEP_UNPROVEN_KEY, pins, "alice", serve(&alice, 0));
    CU_ASSERT_EQUAL(pep_pins_forget(pins, &error, "alice"), PEP_OK);
    CU_ASSERT_PTR_NULL(pep_pins_find(pins, kid));
    CU_ASSERT_PTR_NULL(pep_pins_find_id(pins, "alice"));
    EXPECT_NEWS(PEP_PIN_FIRST, pins, "alice", serve(&alice, 0));
    CU_ASSERT_EQUAL(pep_pins_forget(pins, &error, ".."), PEP_UNKNOWN_ID);
    pep_pins_close(pins);
    scratch_end();
}

/* ---- what a hostile directory can serve ---- */

static void test_old_record(void)
{
    prepare();
    rotate(&alice);
    renew(&alice);
    pep_pins *pins = open_pins();
    EXPECT_NEWS(PEP_PIN_FIRST, pins, "alice", serve(&alice, 0));
    EXPECT_REFUSED(PEP_VERSION_WENT_BACK, pins, "alice", serve(&alice, 1));
    EXPECT_REFUSED(PEP_VERSION_WENT_BACK, pins, "alice", serve(&alice, 2));
    CU_ASSERT_EQUAL(pinned_version(pins, "alice"), 3);
    pep_pins_close(pins);
    scratch_end();
}

static void test_anothers_record(void)
{
    prepare();
    pep_pins *pins = open_pins();
    EXPECT_REFUSED(PEP_WRONG_ID, pins, "alice", serve(&mallory, 0));
    CU_ASSERT_PTR_NULL(pep_pins_find_id(pins, "alice"));
    EXPECT_NEWS(PEP_PIN_FIRST, pins, "alice", serve(&alice, 0));
    EXPECT_REFUSED(PEP_WRONG_ID, pins, "alice", serve(&mallory, 0));
    CU_ASSERT_PTR_NULL(pep_pins_find(pins, mallory.device.sign_kid));
    pep_pins_close(pins);
    scratch_end();
}

/* A record of the same id, honestly signed by a key of mallory's own. */
static void test_swapped_key(void)
{
    person false_alice;
    prepare();
    begin(&false_alice, "alice");
    pep_pins *pins = open_pins();
    EXPECT_NEWS(PEP_PIN_FIRST, pins, "alice", serve(&alice, 0));
    EXPECT_REFUSED(PEP_UNPROVEN_KEY, pins, "alice", serve(&false_alice, 0));
    rotate(&false_alice); /* version 2, by the false key */
    EXPECT_REFUSED(PEP_BROKEN_CHAIN, pins, "alice", serve(&false_alice, 0));
    CU_ASSERT_EQUAL(memcmp(need(pep_pins_find_id(pins, "alice"))->sign_kid, alice.device.sign_kid, PEP_KID_BYTES), 0);
    pep_pins_close(pins);
    scratch_end();
}

/* Follows alice's record in every way, but alice did not sign it. */
static void test_forged_rotation(void)
{
    prepare();
    person honest = alice;
    pep_pins *pins = open_pins();
    EXPECT_NEWS(PEP_PIN_FIRST, pins, "alice", serve(&alice, 0));
    uint8_t record[PEP_RECORD_BYTES_MAX];
    uint8_t bytes[PEP_STATEMENT_BYTES_MAX];
    size_t record_n;
    size_t n;
    pep_device thief;
    CU_ASSERT_EQUAL_FATAL(pep_device_new(&thief, "alice"), PEP_OK);
    CU_ASSERT_EQUAL_FATAL(pep_record_next(record, &record_n, &thief, &honest.head, NOW, NOW + DAY), PEP_OK);
    for (int i = 0; i < 2; i++) {
        const uint8_t *secret = i == 0 ? thief.sign_secret : mallory.device.sign_secret;
        CU_ASSERT_EQUAL_FATAL(pep_rotation_sign(bytes, &n, secret, &honest.head, record, record_n, NOW), PEP_OK);
        EXPECT_REFUSED(PEP_UNPROVEN_KEY, pins, "alice", serve_bytes(bytes, n, (pep_view){NULL, 0}));
        pep_view view = {bytes, n};
        CU_ASSERT_EQUAL(pep_pins_take_history(pins, &error, "alice", &view, 1), PEP_UNPROVEN_KEY);
    }
    CU_ASSERT_EQUAL(pinned_version(pins, "alice"), 1);
    CU_ASSERT_PTR_NULL(pep_pins_find(pins, thief.sign_kid));
    pep_pins_close(pins);
    scratch_end();
}

/* Every bit of an entry: none makes another device, key or agreement key out of it. */
static void test_altered(void)
{
    prepare();
    served s = serve(&alice, 0);
    pep_pins *pins = open_pins();
    for (size_t bit = 0; bit < s.n * 8; bit++) {
        served altered = s;
        altered.bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        CU_ASSERT_NOT_EQUAL(take(pins, "alice", altered), PEP_OK);
    }
    CU_ASSERT_PTR_NULL(pep_pins_find_id(pins, "alice"));
    pep_pins_close(pins);
    scratch_end();
}

static void test_truncated(void)
{
    prepare();
    rotate(&alice);
    served s = serve(&alice, 0);
    pep_pins *pins = open_pins();
    for (size_t n = 0; n < s.n; n++) {
        served part = s;
        part.n = n;
        CU_ASSERT_EQUAL(take(pins, "alice", part), PEP_MALFORMED);
    }
    served longer = s;
    longer.bytes[longer.n++] = 0;
    EXPECT_REFUSED(PEP_MALFORMED, pins, "alice", longer);
    for (size_t n = 0; n < alice.n[1]; n++) /* truncated within a whole entry */
        if (n > 0)
            CU_ASSERT_NOT_EQUAL(take(pins, "alice", serve_bytes(alice.bytes[1], n, (pep_view){NULL, 0})), PEP_OK);
    CU_ASSERT_PTR_NULL(pep_pins_find_id(pins, "alice"));
    pep_pins_close(pins);
    scratch_end();
}

/* Frozen: the same record for ever is believed as long as it says itself, and no longer. */
static void test_frozen(void)
{
    prepare();
    served s = serve(&alice, 0);
    pep_pins *pins = open_pins();
    uint64_t end = NOW + 30 * DAY;
    CU_ASSERT_EQUAL(pep_pins_take(pins, &news, &error, "alice", s.bytes, s.n, end + 1), PEP_EXPIRED_SIGNER);
    CU_ASSERT_PTR_NULL(pep_pins_find_id(pins, "alice"));
    CU_ASSERT_EQUAL(pep_pins_take(pins, &news, &error, "alice", s.bytes, s.n, end), PEP_OK);
    CU_ASSERT_EQUAL(pep_pins_take(pins, &news, &error, "alice", s.bytes, s.n, end + 1), PEP_EXPIRED_SIGNER);
    CU_ASSERT_EQUAL(pep_pins_take(pins, &news, &error, "alice", s.bytes, s.n, 0), PEP_OK); /* no clock */
    CU_ASSERT_EQUAL(need(pep_pins_find_id(pins, "alice"))->not_after_s, end);
    pep_pins_close(pins);
    scratch_end();
}

/* The owner signs two different second versions. */
static void test_equivocation(void)
{
    prepare();
    person other = alice;
    renew(&alice);
    renew(&other);
    pep_pins *pins = open_pins();
    EXPECT_NEWS(PEP_PIN_FIRST, pins, "alice", serve(&alice, 1));
    EXPECT_NEWS(PEP_PIN_RENEWED, pins, "alice", serve(&alice, 0));
    EXPECT_REFUSED(PEP_BROKEN_CHAIN, pins, "alice", serve(&other, 0));
    rotate(&other);
    EXPECT_REFUSED(PEP_BROKEN_CHAIN, pins, "alice", serve(&other, 0)); /* what follows the other one */
    EXPECT_NEWS(PEP_PIN_SAME, pins, "alice", serve(&alice, 0));
    pep_pins_close(pins);
    scratch_end();
}

static void test_key_of_another_id(void)
{
    uint8_t bytes[PEP_RECORD_BYTES_MAX];
    size_t n;
    prepare();
    pep_pins *pins = open_pins();
    EXPECT_NEWS(PEP_PIN_FIRST, pins, "alice", serve(&alice, 0));
    pep_device twin = alice.device; /* alice's own key says that it is bob's as well */
    snprintf(twin.id, sizeof twin.id, "bob");
    CU_ASSERT_EQUAL_FATAL(pep_record_sign(bytes, &n, &twin, NOW, NOW + DAY), PEP_OK);
    EXPECT_REFUSED(PEP_KID_TAKEN, pins, "bob", serve_bytes(bytes, n, (pep_view){NULL, 0}));
    pep_pins_close(pins);
    pins = open_pins();
    EXPECT_REFUSED(PEP_KID_TAKEN, pins, "bob", serve_bytes(bytes, n, (pep_view){NULL, 0}));
    pep_pins_close(pins);
    scratch_end();
}

/* ---- histories ---- */

static void test_gap(void)
{
    uint8_t kids[5][PEP_KID_BYTES];
    prepare();
    pep_pins *pins = open_pins();
    EXPECT_NEWS(PEP_PIN_FIRST, pins, "alice", serve(&alice, 0));
    for (int i = 0; i < 4; i++) {
        memcpy(kids[i], alice.device.sign_kid, PEP_KID_BYTES);
        rotate(&alice);
    }
    EXPECT_REFUSED(PEP_NEEDS_HISTORY, pins, "alice", serve(&alice, 0));
    CU_ASSERT_EQUAL(pinned_version(pins, "alice"), 1);
    CU_ASSERT_EQUAL(take_history(pins, &alice, 3, 5), PEP_WRONG_VERSION); /* with a gap */
    CU_ASSERT_EQUAL(pinned_version(pins, "alice"), 1);
    CU_ASSERT_EQUAL(take_history(pins, &alice, 2, 4), PEP_OK);
    CU_ASSERT_EQUAL(pinned_version(pins, "alice"), 4);
    EXPECT_NEWS(PEP_PIN_ROTATED, pins, "alice", serve(&alice, 0));
    for (int i = 0; i < 4; i++)
        CU_ASSERT_EQUAL(need(pep_pins_find(pins, kids[i]))->ended, PEP_ROTATED_SIGNER);
    pep_pins_close(pins);
    scratch_end();
}

/* Who saw only the newest learns the older keys from a history that ends in it. */
static void test_history_below(void)
{
    uint8_t first[PEP_KID_BYTES];
    prepare();
    memcpy(first, alice.device.sign_kid, sizeof first);
    rotate(&alice);
    renew(&alice);
    rotate(&alice);
    pep_pins *pins = open_pins();
    CU_ASSERT_EQUAL(give(pins, &alice, 0), PEP_OK);
    CU_ASSERT_PTR_NULL(pep_pins_find(pins, first));
    CU_ASSERT_EQUAL(take_history(pins, &alice, 1, 3), PEP_NEEDS_HISTORY); /* it ends before what is known */
    CU_ASSERT_PTR_NULL(pep_pins_find(pins, first));
    CU_ASSERT_EQUAL(take_history(pins, &alice, 1, 4), PEP_OK);
    const pep_record *old = need(pep_pins_find(pins, first));
    CU_ASSERT_TRUE(old->ended == PEP_ROTATED_SIGNER && old->cutoff == NOW * 1000000);
    CU_ASSERT_EQUAL(pinned_version(pins, "alice"), 4);
    EXPECT_NEWS(PEP_PIN_SAME, pins, "alice", serve(&alice, 0));
    pep_pins_close(pins);
    scratch_end();
}

/* Another history of the same id that leads elsewhere teaches nothing. */
static void test_forged_history(void)
{
    person other;
    prepare();
    rotate(&alice);
    rotate(&alice);
    begin(&other, "alice");
    rotate(&other);
    rotate(&other);
    rotate(&other);
    pep_pins *pins = open_pins();
    CU_ASSERT_EQUAL(give(pins, &alice, 0), PEP_OK);
    CU_ASSERT_EQUAL(take_history(pins, &other, 1, 4), PEP_BROKEN_CHAIN);
    CU_ASSERT_EQUAL(take_history(pins, &other, 4, 4), PEP_BROKEN_CHAIN);
    CU_ASSERT_EQUAL(take_history(pins, &other, 2, 3), PEP_BROKEN_CHAIN);
    CU_ASSERT_EQUAL(pinned_version(pins, "alice"), 3);
    for (size_t i = 0; i < other.count; i++) {
        pep_statement s;
        CU_ASSERT_EQUAL_FATAL(pep_statement_parse(&s, other.bytes[i], other.n[i]), PEP_OK);
        CU_ASSERT_PTR_NULL(pep_pins_find(pins, s.record.sign_kid));
    }
    /* alice's own, with one statement exchanged, or from another device */
    pep_view mixed[] = {{alice.bytes[0], alice.n[0]}, {other.bytes[1], other.n[1]}, {alice.bytes[2], alice.n[2]}};
    CU_ASSERT_EQUAL(pep_pins_take_history(pins, &error, "alice", mixed, 3), PEP_BROKEN_CHAIN);
    CU_ASSERT_EQUAL(pep_pins_take_history(pins, &error, "bob", mixed, 3), PEP_WRONG_ID);
    CU_ASSERT_PTR_NULL(pep_pins_find_id(pins, "bob"));
    pep_pins_close(pins);
    scratch_end();
}

static void test_history_from_nothing(void)
{
    prepare();
    rotate(&alice);
    rotate(&alice);
    pep_pins *pins = open_pins();
    CU_ASSERT_EQUAL(take_history(pins, &alice, 1, 3), PEP_OK);
    EXPECT_NEWS(PEP_PIN_SAME, pins, "alice", serve(&alice, 0));
    CU_ASSERT_EQUAL(need(pep_pins_find(pins, alice.before.sign_kid))->ended, PEP_ROTATED_SIGNER);
    pep_pins_close(pins);
    scratch_end();
}

/* ---- first contact behind version 1 ---- */

/* Somebody's signature around alice's newest record. */
static served forge_around(person *p)
{
    uint8_t record[PEP_RECORD_BYTES_MAX];
    uint8_t bytes[PEP_STATEMENT_BYTES_MAX];
    size_t record_n;
    size_t n;
    pep_head head = p->head;
    p->before = p->device;
    CU_ASSERT_EQUAL_FATAL(pep_device_renew(&p->device, &p->before, false, NOW, NOW + DAY), PEP_OK);
    CU_ASSERT_EQUAL_FATAL(pep_record_next(record, &record_n, &p->device, &head, NOW, NOW + DAY), PEP_OK);
    CU_ASSERT_EQUAL_FATAL(pep_rotation_sign(bytes, &n, p->before.sign_secret, &head, record, record_n, NOW * 1000000),
                          PEP_OK);
    add(p, bytes, n);
    CU_ASSERT_EQUAL_FATAL(pep_rotation_sign(bytes, &n, mallory.device.sign_secret, &head, record, record_n, 5), PEP_OK);
    return serve_bytes(bytes, n, (pep_view){NULL, 0});
}

static void test_first_by_rotation(void)
{
    prepare();
    served forged = forge_around(&alice);
    pep_entry e;
    CU_ASSERT_EQUAL_FATAL(pep_entry_parse(&e, forged.bytes, forged.n), PEP_OK);
    pep_view forged_history[] = {{alice.bytes[0], alice.n[0]}, e.statement};
    pep_pins *pins = open_pins();
    EXPECT_REFUSED(PEP_NEEDS_HISTORY, pins, "alice", forged);
    EXPECT_REFUSED(PEP_NEEDS_HISTORY, pins, "alice", serve(&alice, 0));
    CU_ASSERT_EQUAL(pep_pins_take_history(pins, &error, "alice", &e.statement, 1), PEP_NEEDS_HISTORY);
    CU_ASSERT_EQUAL(take_history(pins, &alice, 2, 2), PEP_NEEDS_HISTORY);
    CU_ASSERT_PTR_NULL(pep_pins_find_id(pins, "alice"));
    CU_ASSERT_EQUAL(pep_pins_take_history(pins, &error, "alice", forged_history, 2), PEP_UNPROVEN_KEY);
    CU_ASSERT_EQUAL(pinned_version(pins, "alice"), 1); /* genuine as far as that */
    CU_ASSERT_EQUAL(take_history(pins, &alice, 1, 2), PEP_OK);
    EXPECT_REFUSED(PEP_BROKEN_CHAIN, pins, "alice", forged);
    EXPECT_NEWS(PEP_PIN_SAME, pins, "alice", serve(&alice, 0));
    renew(&alice);
    EXPECT_NEWS(PEP_PIN_RENEWED, pins, "alice", serve(&alice, 0)); /* nothing is poisoned */
    pep_pins_close(pins);
    scratch_end();
}

/* A certificate says whose the key is, and nothing of the rotation around its record; an authority's signature does. */
static void test_first_by_rotation_certified(void)
{
    prepare();
    rotate(&alice);
    pep_pins *pins = open_with_authority();
    EXPECT_REFUSED(PEP_NEEDS_HISTORY, pins, "alice",
                   serve_certified(&alice, "alice", alice.head.sign_kid, NOW + DAY, false));
    go_on(&alice, false, authority.sign_secret, NOW + DAY);
    EXPECT_NEWS(PEP_PIN_FIRST, pins, "alice", serve(&alice, 0));
    pep_pins_close(pins);
    scratch_end();
}

/* Where the next one follows it, a rotation was genuine, whoever signed it. Where an operator gave the device other
 * keys, its history begins again. */
static void test_history_begins(void)
{
    person other;
    prepare();
    rotate(&alice);
    rotate(&alice);
    pep_pins *pins = open_pins();
    CU_ASSERT_EQUAL(take_history(pins, &alice, 2, 3), PEP_OK);
    EXPECT_NEWS(PEP_PIN_SAME, pins, "alice", serve(&alice, 0));
    CU_ASSERT_EQUAL(pep_pins_forget(pins, &error, "alice"), PEP_OK);
    begin(&other, "alice");
    rotate(&other);
    pep_view both[] = {{alice.bytes[0], alice.n[0]},
                       {alice.bytes[1], alice.n[1]},
                       {other.bytes[0], other.n[0]},
                       {other.bytes[1], other.n[1]}};
    CU_ASSERT_EQUAL(pep_pins_take_history(pins, &error, "alice", both, 4), PEP_OK);
    EXPECT_NEWS(PEP_PIN_SAME, pins, "alice", serve(&other, 0));
    CU_ASSERT_PTR_NULL(pep_pins_find(pins, alice.before.sign_kid));
    CU_ASSERT_NOT_EQUAL(take_history(pins, &alice, 1, 3), PEP_OK); /* and never behind what is pinned */
    pep_pins_close(pins);
    scratch_end();
}

/* ---- what was given by hand ---- */

static void test_given(void)
{
    prepare();
    rotate(&alice);
    rotate(&alice);
    pep_pins *pins = open_pins();
    CU_ASSERT_EQUAL(give(pins, &alice, 2), PEP_OK);
    CU_ASSERT_EQUAL(pinned_version(pins, "alice"), 2);
    CU_ASSERT_EQUAL(give(pins, &alice, 1), PEP_OK); /* an older file changes nothing */
    CU_ASSERT_EQUAL(pinned_version(pins, "alice"), 2);
    CU_ASSERT_EQUAL(give(pins, &alice, 3), PEP_OK); /* the next one moves it on */
    CU_ASSERT_EQUAL(pinned_version(pins, "alice"), 3);
    person other;
    begin(&other, "alice");
    rotate(&other);
    rotate(&other);
    CU_ASSERT_EQUAL(give(pins, &other, 0), PEP_UNPROVEN_KEY);
    pep_pins_close(pins);
    CU_ASSERT_EQUAL_FATAL(unlink(scratch_path("pins/alice.pin")), 0);
    pins = open_with_authority();
    CU_ASSERT_EQUAL(give(pins, &alice, 1), PEP_NOT_CERTIFIED);
    CU_ASSERT_PTR_NULL(pep_pins_find_id(pins, "alice"));
    pep_pins_close(pins);
    scratch_end();
}

static pep_record record_in(const person *p, size_t version)
{
    pep_statement s;
    CU_ASSERT_EQUAL_FATAL(pep_statement_parse(&s, p->bytes[version - 1], p->n[version - 1]), PEP_OK);
    return s.record;
}

static void test_judge(void)
{
    prepare();
    pep_record first = record_in(&alice, 1);
    pep_record strange = record_in(&mallory, 1);
    pep_pins *pins = open_pins();
    CU_ASSERT_EQUAL(pep_pins_judge(pins, &first), PEP_OK); /* nobody said anything of it */
    EXPECT_NEWS(PEP_PIN_FIRST, pins, "alice", serve(&alice, 0));
    CU_ASSERT_EQUAL(pep_pins_judge(pins, &first), PEP_OK);
    rotate(&alice);
    EXPECT_NEWS(PEP_PIN_ROTATED, pins, "alice", serve(&alice, 0));
    CU_ASSERT_EQUAL(pep_pins_judge(pins, &first), PEP_ROTATED_SIGNER);
    end_by(&alice, alice.device.sign_secret);
    EXPECT_REFUSED(PEP_REVOKED_SIGNER, pins, "alice", serve(&alice, 0));
    CU_ASSERT_EQUAL(pep_pins_judge(pins, &first), PEP_REVOKED_SIGNER);
    end_by(&mallory, mallory.device.sign_secret); /* nothing is pinned of her, and somebody says that she is revoked */
    EXPECT_REFUSED(PEP_REVOKED_SIGNER, pins, "mallory", serve(&mallory, 0));
    CU_ASSERT_EQUAL(pep_pins_judge(pins, &strange), PEP_REVOKED_SIGNER);
    write_file(scratch_path("pins/alice.pin"), "x", 1, 0600);
    CU_ASSERT_EQUAL(pep_pins_judge(pins, &first), PEP_UNKNOWN_SIGNER); /* a damaged pin is not none */
    pep_pins_close(pins);
    pins = open_with_authority();
    CU_ASSERT_EQUAL(pep_pins_judge(pins, &strange), PEP_NOT_CERTIFIED);
    pep_pins_close(pins);
    scratch_end();
}

/* Former keys are remembered up to a limit; beyond it the oldest are unknown again. */
static void test_many_rotations(void)
{
    uint8_t first[PEP_KID_BYTES];
    prepare();
    memcpy(first, alice.device.sign_kid, sizeof first);
    pep_pins *pins = open_pins();
    EXPECT_NEWS(PEP_PIN_FIRST, pins, "alice", serve(&alice, 0));
    for (int i = 0; i < 30; i++) {
        rotate(&alice);
        EXPECT_NEWS(PEP_PIN_ROTATED, pins, "alice", serve(&alice, 0));
    }
    CU_ASSERT_PTR_NULL(pep_pins_find(pins, first));
    CU_ASSERT_PTR_NOT_NULL(pep_pins_find(pins, alice.before.sign_kid));
    pep_record forgotten = record_in(&alice, 1);
    CU_ASSERT_EQUAL(pep_pins_judge(pins, &forgotten), PEP_ROTATED_SIGNER); /* and not believed from a file */
    CU_ASSERT_EQUAL(take_history(pins, &alice, 1, 31), PEP_OK);
    CU_ASSERT_EQUAL(pinned_version(pins, "alice"), 31);
    pep_pins_close(pins);
    scratch_end();
}

/* ---- revocations ---- */

static void expect_revoked(pep_pins *pins, uint64_t cutoff)
{
    const pep_record *r = need(pep_pins_find(pins, alice.device.sign_kid));
    CU_ASSERT_EQUAL(r->ended, PEP_REVOKED_SIGNER);
    CU_ASSERT_EQUAL(r->cutoff, cutoff);
    CU_ASSERT_EQUAL(need(pep_pins_find_id(pins, "alice"))->ended, PEP_REVOKED_SIGNER);
}

static void test_revoked_by_device(void)
{
    prepare();
    pep_pins *pins = open_pins();
    EXPECT_NEWS(PEP_PIN_FIRST, pins, "alice", serve(&alice, 0));
    end_by(&alice, alice.device.sign_secret);
    EXPECT_REFUSED(PEP_REVOKED_SIGNER, pins, "alice", serve(&alice, 0));
    expect_revoked(pins, (NOW - 5) * 1000000);
    EXPECT_REFUSED(PEP_VERSION_WENT_BACK, pins, "alice", serve(&alice, 1)); /* the record from before */
    expect_revoked(pins, (NOW - 5) * 1000000);
    pep_pins_close(pins);
    pins = open_pins();
    expect_revoked(pins, (NOW - 5) * 1000000);
    EXPECT_REFUSED(PEP_REVOKED_SIGNER, pins, "alice", serve(&alice, 0));
    pep_pins_close(pins);
    scratch_end();
}

/* Behind a revocation only an authority goes on, which this receiver does not know. */
static void test_revoked_then_more(void)
{
    prepare();
    pep_pins *pins = open_pins();
    EXPECT_NEWS(PEP_PIN_FIRST, pins, "alice", serve(&alice, 0));
    person before = alice;
    end_by(&alice, alice.device.sign_secret);
    EXPECT_REFUSED(PEP_REVOKED_SIGNER, pins, "alice", serve(&alice, 0));
    renew(&before); /* another second version, and a third */
    EXPECT_REFUSED(PEP_BROKEN_CHAIN, pins, "alice", serve(&before, 0));
    renew(&before);
    EXPECT_REFUSED(PEP_BROKEN_CHAIN, pins, "alice", serve(&before, 0));
    go_on(&alice, false, authority.sign_secret, NOW + DAY);
    EXPECT_REFUSED(PEP_REVOKED_SIGNER, pins, "alice", serve(&alice, 0));
    CU_ASSERT_PTR_NULL(pep_pins_find(pins, alice.device.sign_kid));
    CU_ASSERT_EQUAL(need(pep_pins_find(pins, before.device.sign_kid))->ended, PEP_REVOKED_SIGNER);
    pep_pins_close(pins);
    pins = open_with_authority(); /* never certified: not believed, and not recovered from either */
    CU_ASSERT_PTR_NULL(pep_pins_find_id(pins, "alice"));
    EXPECT_NEWS(PEP_PIN_RECOVERED, pins, "alice", serve(&alice, 0));
    CU_ASSERT_EQUAL(pinned_version(pins, "alice"), 3);
    pep_pins_close(pins);
    scratch_end();
}

/* Who signed it is nobody whom a receiver knows: nothing is believed while it is served, and nothing is pinned. */
static void test_revoked_by_admin(void)
{
    prepare();
    pep_pins *pins = open_pins();
    EXPECT_NEWS(PEP_PIN_FIRST, pins, "alice", serve(&alice, 0));
    end_by(&alice, mallory.device.sign_secret);
    EXPECT_REFUSED(PEP_REVOKED_SIGNER, pins, "alice", serve(&alice, 0));
    expect_revoked(pins, 0);
    pep_pins *others = open_pins();
    CU_ASSERT_EQUAL(need(pep_pins_find_id(others, "alice"))->ended, PEP_OK);
    pep_pins_close(others);
    EXPECT_NEWS(PEP_PIN_SAME, pins, "alice", serve(&alice, 1));
    CU_ASSERT_EQUAL(need(pep_pins_find_id(pins, "alice"))->ended, PEP_OK);
    CU_ASSERT_EQUAL(take_history(pins, &alice, 1, 2), PEP_REVOKED_SIGNER);
    CU_ASSERT_EQUAL(need(pep_pins_find_id(pins, "alice"))->ended, PEP_OK);
    pep_pins_close(pins);
    scratch_end();
}

static void test_forged_revocation(void)
{
    prepare();
    pep_pins *pins = open_pins();
    EXPECT_NEWS(PEP_PIN_FIRST, pins, "alice", serve(&alice, 0));
    end_by(&alice, alice.device.sign_secret);
    served s = serve(&alice, 0);
    s.bytes[s.n - 2] ^= 1; /* the signature; the last byte is the missing certificate */
    EXPECT_REFUSED(PEP_BAD_SIGNATURE, pins, "alice", s);
    CU_ASSERT_EQUAL(need(pep_pins_find_id(pins, "alice"))->ended, PEP_OK);
    EXPECT_REFUSED(PEP_WRONG_ID, pins, "mallory", serve(&alice, 0));
    pep_pins_close(pins);
    scratch_end();
}

static void test_revoked_unknown(void)
{
    prepare();
    end_by(&alice, alice.device.sign_secret);
    pep_pins *pins = open_pins();
    EXPECT_REFUSED(PEP_REVOKED_SIGNER, pins, "alice", serve(&alice, 0));
    CU_ASSERT_PTR_NULL(pep_pins_find_id(pins, "alice"));
    CU_ASSERT_EQUAL(take_history(pins, &alice, 1, 2), PEP_OK);
    expect_revoked(pins, (NOW - 5) * 1000000);
    pep_pins_close(pins);
    scratch_end();
}

/* A revocation with versions between: the history tells whether it is right. */
static void test_revoked_behind_a_gap(void)
{
    prepare();
    pep_pins *pins = open_pins();
    EXPECT_NEWS(PEP_PIN_FIRST, pins, "alice", serve(&alice, 0));
    rotate(&alice);
    end_by(&alice, alice.device.sign_secret);
    EXPECT_REFUSED(PEP_NEEDS_HISTORY, pins, "alice", serve(&alice, 0));
    CU_ASSERT_EQUAL(take_history(pins, &alice, 2, 3), PEP_OK);
    EXPECT_REFUSED(PEP_REVOKED_SIGNER, pins, "alice", serve(&alice, 0));
    expect_revoked(pins, (NOW - 5) * 1000000);
    pep_pins_close(pins);
    scratch_end();
}

/* ---- authorities ---- */

static served serve_own(const person *p)
{
    return serve_certified(p, p->head.id, p->head.sign_kid, NOW + 10 * DAY, false);
}

static void test_certified(void)
{
    prepare();
    pep_pins *pins = open_with_authority();
    EXPECT_REFUSED(PEP_NOT_CERTIFIED, pins, "alice", serve(&alice, 0));
    EXPECT_REFUSED(PEP_NOT_CERTIFIED, pins, "alice",
                   serve_certified(&alice, "bob", alice.head.sign_kid, NOW + DAY, false));
    EXPECT_REFUSED(PEP_NOT_CERTIFIED, pins, "alice",
                   serve_certified(&alice, "alice", mallory.head.sign_kid, NOW + DAY, false));
    EXPECT_REFUSED(PEP_NOT_CERTIFIED, pins, "alice",
                   serve_certified(&alice, "alice", alice.head.sign_kid, NOW - 1, false));
    EXPECT_REFUSED(PEP_NOT_CERTIFIED, pins, "alice",
                   serve_certified(&alice, "alice", alice.head.sign_kid, NOW + DAY, true)); /* a gate's */
    pep_authority right = authority;
    CU_ASSERT_EQUAL_FATAL(pep_authority_new(&authority), PEP_OK);
    EXPECT_REFUSED(PEP_NOT_CERTIFIED, pins, "alice", serve_own(&alice)); /* another authority's */
    authority = right;
    CU_ASSERT_PTR_NULL(pep_pins_find_id(pins, "alice"));
    EXPECT_NEWS(PEP_PIN_FIRST, pins, "alice", serve_own(&alice));
    CU_ASSERT_EQUAL(need(pep_pins_find_id(pins, "alice"))->not_after_s, NOW + 10 * DAY); /* the certificate's */
    renew(&alice);
    EXPECT_NEWS(PEP_PIN_RENEWED, pins, "alice", serve(&alice, 0)); /* the same key needs no other certificate */
    rotate(&alice);
    EXPECT_REFUSED(PEP_NOT_CERTIFIED, pins, "alice", serve(&alice, 0));
    CU_ASSERT_EQUAL(pinned_version(pins, "alice"), 2);
    EXPECT_NEWS(PEP_PIN_ROTATED, pins, "alice", serve_own(&alice));
    EXPECT_NEWS(PEP_PIN_SAME, pins, "alice",
                serve_certified(&alice, "alice", alice.head.sign_kid, NOW + 20 * DAY, false));
    CU_ASSERT_EQUAL(need(pep_pins_find_id(pins, "alice"))->not_after_s, NOW + 20 * DAY); /* the newer one */
    pep_pins_close(pins);
    pins = open_with_authority();
    CU_ASSERT_EQUAL(need(pep_pins_find_id(pins, "alice"))->not_after_s, NOW + 20 * DAY);
    CU_ASSERT_EQUAL(need(pep_pins_find(pins, alice.before.sign_kid))->ended, PEP_ROTATED_SIGNER);
    pep_pins_close(pins);
    scratch_end();
}

/* What was pinned on trust is not believed by who asks for certificates. */
static void test_authority_later(void)
{
    prepare();
    pep_pins *pins = open_pins();
    EXPECT_NEWS(PEP_PIN_FIRST, pins, "alice", serve(&alice, 0));
    pep_pins_close(pins);
    pins = open_with_authority();
    CU_ASSERT_PTR_NULL(pep_pins_find_id(pins, "alice"));
    CU_ASSERT_PTR_NULL(pep_pins_find(pins, alice.device.sign_kid));
    EXPECT_REFUSED(PEP_NOT_CERTIFIED, pins, "alice", serve(&alice, 0));
    EXPECT_NEWS(PEP_PIN_SAME, pins, "alice", serve_own(&alice));
    CU_ASSERT_PTR_NOT_NULL(pep_pins_find(pins, alice.device.sign_kid));
    pep_pins_close(pins);
    scratch_end();
}

static void test_recovered(void)
{
    prepare();
    pep_pins *pins = open_with_authority();
    EXPECT_NEWS(PEP_PIN_FIRST, pins, "alice", serve_own(&alice));
    go_on(&alice, false, authority.sign_secret, NOW + DAY);
    EXPECT_NEWS(PEP_PIN_RECOVERED, pins, "alice", serve(&alice, 0)); /* its word is a certificate */
    end_by(&alice, authority.sign_secret);
    EXPECT_REFUSED(PEP_REVOKED_SIGNER, pins, "alice", serve(&alice, 0));
    pep_pins_close(pins);
    pins = open_with_authority();
    go_on(&alice, false, authority.sign_secret, NOW + DAY);
    EXPECT_NEWS(PEP_PIN_RECOVERED, pins, "alice", serve(&alice, 0));
    CU_ASSERT_EQUAL(need(pep_pins_find(pins, alice.before.sign_kid))->ended, PEP_REVOKED_SIGNER);
    CU_ASSERT_EQUAL(need(pep_pins_find_id(pins, "alice"))->ended, PEP_OK);
    pep_pins_close(pins);
    scratch_end();
}

/* An admin revoked, an authority recovered: its rotation vouches for the revocation in between. */
static void test_recovered_from_admin(void)
{
    prepare();
    pep_pins *pins = open_with_authority();
    EXPECT_NEWS(PEP_PIN_FIRST, pins, "alice", serve_own(&alice));
    end_by(&alice, mallory.device.sign_secret);
    go_on(&alice, false, authority.sign_secret, NOW + DAY);
    EXPECT_REFUSED(PEP_NEEDS_HISTORY, pins, "alice", serve(&alice, 0));
    CU_ASSERT_EQUAL(take_history(pins, &alice, 1, 3), PEP_OK);
    EXPECT_NEWS(PEP_PIN_SAME, pins, "alice", serve(&alice, 0));
    CU_ASSERT_EQUAL(need(pep_pins_find(pins, alice.before.sign_kid))->ended, PEP_REVOKED_SIGNER);
    pep_pins_close(pins);
    scratch_end();
}

/* A history is pinned only when an entry at its end is certified. */
static void test_uncertified_history(void)
{
    prepare();
    pep_pins *pins = open_with_authority();
    person other = alice;
    EXPECT_NEWS(PEP_PIN_FIRST, pins, "alice", serve_own(&alice));
    rotate(&other); /* whoever has stolen the key */
    rotate(&other);
    CU_ASSERT_EQUAL(take_history(pins, &other, 2, 3), PEP_OK);
    EXPECT_REFUSED(PEP_NOT_CERTIFIED, pins, "alice", serve(&other, 0));
    CU_ASSERT_EQUAL(pinned_version(pins, "alice"), 1);
    rotate(&alice);
    rotate(&alice);
    CU_ASSERT_EQUAL(take_history(pins, &alice, 2, 3), PEP_OK);
    CU_ASSERT_EQUAL(pinned_version(pins, "alice"), 1);
    EXPECT_NEWS(PEP_PIN_SAME, pins, "alice", serve_own(&alice));
    CU_ASSERT_EQUAL(pinned_version(pins, "alice"), 3);
    end_by(&mallory, mallory.device.sign_secret);
    CU_ASSERT_EQUAL(take_history(pins, &mallory, 1, 1), PEP_OK);
    EXPECT_REFUSED(PEP_REVOKED_SIGNER, pins, "mallory", serve(&mallory, 0));
    pep_pins_close(pins);
    CU_ASSERT_NOT_EQUAL(access(scratch_path("pins/mallory.pin"), F_OK), 0);
    scratch_end();
}

/* ---- several processes ---- */

static int child_takes(int report)
{
    pep_pins *pins;
    if (pep_pins_open(&pins, &error, scratch_path("pins"), NULL, 0) != PEP_OK)
        return 1;
    served s = serve(&alice, 0);
    uint64_t reason = pep_pins_take(pins, &news, &error, "alice", s.bytes, s.n, NOW);
    pep_pins_close(pins);
    return write(report, &reason, sizeof reason) == sizeof reason ? 0 : 2;
}

static void in_child(void)
{
    int reports;
    uint64_t reason = 1;
    pid_t child = start_child(&reports, child_takes);
    CU_ASSERT_TRUE(next_report(reports, &reason));
    CU_ASSERT_EQUAL(reason, PEP_OK);
    CU_ASSERT_TRUE(ended_well(end_child(child, reports)));
}

static void test_two_processes(void)
{
    prepare();
    pep_pins *pins = open_pins();
    EXPECT_NEWS(PEP_PIN_FIRST, pins, "alice", serve(&alice, 0));
    const uint8_t *old = alice.before.sign_kid;
    rotate(&alice);
    in_child();
    CU_ASSERT_EQUAL(need(pep_pins_find(pins, old))->ended, PEP_ROTATED_SIGNER); /* taken up without being told */
    CU_ASSERT_EQUAL(pinned_version(pins, "alice"), 2);
    CU_ASSERT_PTR_NOT_NULL(pep_pins_find(pins, alice.device.sign_kid));
    EXPECT_REFUSED(PEP_VERSION_WENT_BACK, pins, "alice", serve(&alice, 1));
    rotate(&alice);
    in_child();
    EXPECT_REFUSED(PEP_VERSION_WENT_BACK, pins, "alice", serve(&alice, 2)); /* it would have been the next one here */
    EXPECT_NEWS(PEP_PIN_SAME, pins, "alice", serve(&alice, 0));
    pep_pins_close(pins);
    scratch_end();
}

/* Each child offers all versions in its own order; the newest stays whatever happens. */
static int child_offers_all(int report)
{
    pep_pins *pins;
    if (pep_pins_open(&pins, &error, scratch_path("pins"), NULL, 0) != PEP_OK)
        return 1;
    uint64_t highest = 0;
    for (size_t i = 0; i < 300; i++) {
        served s = serve(&alice, 1 + (i * 7 + (size_t)report) % alice.count);
        (void)!pep_pins_take(pins, &news, &error, "alice", s.bytes, s.n, NOW);
        const pep_record *r = pep_pins_find_id(pins, "alice");
        if (r == NULL || r->version < highest)
            return 3;
        highest = r->version;
    }
    pep_pins_close(pins);
    return 0;
}

static void test_race(void)
{
    pid_t children[4];
    int reports[4];
    prepare();
    for (int i = 0; i < 8; i++)
        renew(&alice);
    for (int i = 0; i < 4; i++)
        children[i] = start_child(&reports[i], child_offers_all);
    for (int i = 0; i < 4; i++)
        CU_ASSERT_TRUE(ended_well(end_child(children[i], reports[i])));
    pep_pins *pins = open_pins();
    EXPECT_NEWS(PEP_PIN_SAME, pins, "alice", serve(&alice, 0));
    pep_pins_close(pins);
    scratch_end();
}

static void wait_ms(int ms)
{
    (void)poll(NULL, 0, ms);
}

static int child_writes_forever(int report)
{
    pep_pins *pins;
    uint64_t ready = 1;
    if (pep_pins_open(&pins, &error, scratch_path("pins"), NULL, 0) != PEP_OK ||
        write(report, &ready, sizeof ready) != sizeof ready)
        return 1;
    for (;;)
        for (size_t i = 1; i <= alice.count; i++) {
            served s = serve(&alice, i);
            if (pep_pins_take(pins, &news, &error, "alice", s.bytes, s.n, NOW) == PEP_OK && i == alice.count)
                (void)!pep_pins_forget(pins, &error, "alice");
        }
}

/* kill -9 in the midst of writing leaves the old file, the new one, or none: never a part. */
static void test_killed(void)
{
    prepare();
    for (int i = 0; i < 20; i++)
        renew(&alice);
    for (int round = 0; round < 25; round++) {
        int reports;
        uint64_t ready;
        pid_t child = start_child(&reports, child_writes_forever);
        CU_ASSERT_TRUE(next_report(reports, &ready));
        wait_ms(1 + round % 7);
        kill(child, SIGKILL);
        int status = end_child(child, reports);
        CU_ASSERT_TRUE(WIFSIGNALED(status));
        pep_pins *pins = open_pins();
        uint64_t version = pinned_version(pins, "alice");
        if (access(scratch_path("pins/alice.pin"), F_OK) == 0)
            CU_ASSERT_TRUE(version >= 1 && version <= alice.count);
        pep_reason reason = take(pins, "alice", serve(&alice, 0));
        CU_ASSERT_TRUE(reason == PEP_OK || reason == PEP_NEEDS_HISTORY);
        (void)!pep_pins_forget(pins, &error, "alice");
        pep_pins_close(pins);
    }
    scratch_end();
}

/* ---- files ---- */

static void test_full_disk(void)
{
    prepare();
    pep_pins *pins = open_pins();
    limit_files(true, 16);
    EXPECT_REFUSED(PEP_CANNOT_WRITE, pins, "alice", serve(&alice, 0));
    limit_files(false, 0);
    CU_ASSERT_PTR_NULL(pep_pins_find_id(pins, "alice"));
    EXPECT_NEWS(PEP_PIN_FIRST, pins, "alice", serve(&alice, 0));
    rotate(&alice);
    limit_files(true, 16);
    EXPECT_REFUSED(PEP_CANNOT_WRITE, pins, "alice", serve(&alice, 0));
    limit_files(false, 0);
    CU_ASSERT_EQUAL(pinned_version(pins, "alice"), 1);
    EXPECT_NEWS(PEP_PIN_ROTATED, pins, "alice", serve(&alice, 0));
    pep_pins_close(pins);
    scratch_end();
}

static int child_in_locked_folder(int report)
{
    (void)report;
    pep_pins *pins;
    if (!become_ordinary() || pep_pins_open(&pins, &error, scratch_path("pins"), NULL, 0) != PEP_OK)
        return 1;
    served s = serve(&alice, 0);
    pep_reason reason = pep_pins_take(pins, &news, &error, "alice", s.bytes, s.n, NOW);
    if (reason != PEP_CANNOT_WRITE || strstr(error.text, "pins") == NULL)
        return 2;
    int code = pep_pins_find_id(pins, "alice") == NULL ? 0 : 3;
    pep_pins_close(pins);
    return code;
}

static void test_unwritable_folder(void)
{
    int reports;
    prepare();
    CU_ASSERT_EQUAL_FATAL(mkdir(scratch_path("pins"), 0500), 0);
    CU_ASSERT_EQUAL_FATAL(chmod(scratch_folder, 0755), 0);
    if (geteuid() == 0)
        CU_ASSERT_EQUAL_FATAL(chown(scratch_path("pins"), NOBODY, NOBODY), 0);
    pid_t child = start_child(&reports, child_in_locked_folder);
    CU_ASSERT_TRUE(ended_well(end_child(child, reports)));
    scratch_end();
}

static void test_bad_folders(void)
{
    pep_pins *pins;
    prepare();
    write_file(scratch_path("file"), "x", 1, 0600);
    CU_ASSERT_EQUAL(pep_pins_open(&pins, &error, scratch_path("file"), NULL, 0), PEP_CANNOT_READ);
    CU_ASSERT_EQUAL(pep_pins_open(&pins, &error, scratch_path("a/b"), NULL, 0), PEP_CANNOT_WRITE);
    CU_ASSERT_EQUAL_FATAL(mkdir(scratch_path("open"), 0700), 0);
    CU_ASSERT_EQUAL_FATAL(chmod(scratch_path("open"), 0777), 0);
    CU_ASSERT_EQUAL(pep_pins_open(&pins, &error, scratch_path("open"), NULL, 0), PEP_UNSAFE_FILE);
    CU_ASSERT_PTR_NULL(pins);
    scratch_end();
}

/* Whoever owns the folder or a pin decides whom we believe: only we and root may. */
static void test_owners(void)
{
    pep_pins *pins;
    if (geteuid() != 0)
        return; /* nobody else can give files away */
    prepare();
    CU_ASSERT_EQUAL_FATAL(mkdir(scratch_path("other"), 0700), 0);
    CU_ASSERT_EQUAL_FATAL(chown(scratch_path("other"), NOBODY, NOBODY), 0);
    CU_ASSERT_EQUAL(pep_pins_open(&pins, &error, scratch_path("other"), NULL, 0), PEP_UNSAFE_FILE);
    CU_ASSERT_PTR_NOT_NULL(strstr(error.text, "another user"));
    pins = open_pins();
    EXPECT_NEWS(PEP_PIN_FIRST, pins, "alice", serve(&alice, 0));
    CU_ASSERT_EQUAL_FATAL(chown(scratch_path("pins/alice.pin"), NOBODY, NOBODY), 0);
    EXPECT_REFUSED(PEP_UNSAFE_FILE, pins, "alice", serve(&alice, 0));
    pep_pins_close(pins);
    pins = open_pins();
    CU_ASSERT_PTR_NULL(pep_pins_find_id(pins, "alice"));
    pep_pins_close(pins);
    scratch_end();
}

/* Cut at each byte, or with one altered: an error that names the file, and never a device that is seen first. */
static void test_damaged(void)
{
    uint8_t whole[8192];
    prepare();
    pep_pins *pins = open_pins();
    EXPECT_NEWS(PEP_PIN_FIRST, pins, "alice", serve(&alice, 0));
    EXPECT_NEWS(PEP_PIN_FIRST, pins, "mallory", serve(&mallory, 0));
    size_t n = read_file(whole, sizeof whole, scratch_path("pins/alice.pin"));
    for (size_t i = 0; i < n; i++) {
        uint8_t altered[8192];
        memcpy(altered, whole, n);
        altered[i] ^= 1;
        bool cut = i % 2 == 0;
        write_file(scratch_path("pins/alice.pin"), cut ? whole : altered, cut ? i : n, 0600);
        EXPECT_REFUSED(PEP_BAD_FILE, pins, "alice", serve(&alice, 0));
        CU_ASSERT_PTR_NOT_NULL(strstr(error.text, "alice.pin"));
        CU_ASSERT_PTR_NULL(pep_pins_find_id(pins, "alice"));
    }
    pep_pins *fresh = open_pins();
    CU_ASSERT_PTR_NULL(pep_pins_find(fresh, alice.device.sign_kid));
    CU_ASSERT_PTR_NOT_NULL(pep_pins_find(fresh, mallory.device.sign_kid)); /* the others still are */
    pep_pins_close(fresh);
    write_file(scratch_path("pins/alice.pin"), whole, n, 0644);
    EXPECT_REFUSED(PEP_UNSAFE_FILE, pins, "alice", serve(&alice, 0));
    uint8_t other[8192];
    size_t other_n = read_file(other, sizeof other, scratch_path("pins/mallory.pin"));
    write_file(scratch_path("pins/alice.pin"), other, other_n, 0600);
    EXPECT_REFUSED(PEP_BAD_FILE, pins, "alice", serve(&alice, 0)); /* another's pin */
    CU_ASSERT_EQUAL(pep_pins_forget(pins, &error, "alice"), PEP_OK);
    EXPECT_NEWS(PEP_PIN_FIRST, pins, "alice", serve(&alice, 0));
    pep_pins_close(pins);
    scratch_end();
}

static const unit_test tests[] = {
    {"first, then the same", test_first_and_same},
    {"renewed and rotated", test_renewed_and_rotated},
    {"ids such as . and ..", test_strange_ids},
    {"forget", test_forget},
    {"an old record", test_old_record},
    {"another's record", test_anothers_record},
    {"a swapped key", test_swapped_key},
    {"a forged rotation", test_forged_rotation},
    {"one bit altered", test_altered},
    {"truncated at each byte", test_truncated},
    {"frozen, expired", test_frozen},
    {"equivocation", test_equivocation},
    {"a key of another id", test_key_of_another_id},
    {"a gap, and its history", test_gap},
    {"history below the pin", test_history_below},
    {"forged histories", test_forged_history},
    {"history from nothing", test_history_from_nothing},
    {"first contact by a rotation", test_first_by_rotation},
    {"first contact by a rotation, certified", test_first_by_rotation_certified},
    {"where a history begins", test_history_begins},
    {"given by hand", test_given},
    {"what is pinned, and records from files", test_judge},
    {"many rotations", test_many_rotations},
    {"revoked by the device", test_revoked_by_device},
    {"revoked, then more", test_revoked_then_more},
    {"revoked by an admin", test_revoked_by_admin},
    {"a forged revocation", test_forged_revocation},
    {"an unknown device, revoked", test_revoked_unknown},
    {"revoked behind a gap", test_revoked_behind_a_gap},
    {"certified, or refused", test_certified},
    {"an authority that comes later", test_authority_later},
    {"recovered by an authority", test_recovered},
    {"recovered from an admin's revocation", test_recovered_from_admin},
    {"a history that nobody certified", test_uncertified_history},
    {"two processes", test_two_processes},
    {"a race", test_race},
    {"killed while writing", test_killed},
    {"a full disk", test_full_disk},
    {"a folder that cannot be written", test_unwritable_folder},
    {"folders that are none, or everybody's", test_bad_folders},
    {"files of other users", test_owners},
    {"damaged files", test_damaged},
};

UNIT_MAIN("pins", tests)
