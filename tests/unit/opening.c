/* Opening with keys that are not the newest: a receiver's own former ones, and a sender's that ended. */
#include "pep.h"

#include "chain.h"
#include "scratch.h"
#include "unit.h"

#define S_US 1000000ULL

enum { NOW_S = 1500, UNTIL_S = 1600 };

static const pep_view topic = {(const uint8_t *)"a/b", 3};
static pep_device sender;
static pep_device me;
static pep_keyring *ring;
static cut envelope;

static pep_record parsed_record(const pep_device *device)
{
    pep_record record;
    cut bytes = record_of(device);
    CU_ASSERT_EQUAL_FATAL(pep_record_parse(&record, bytes.p, bytes.n), PEP_OK);
    return record;
}

/* An envelope of `sender` to `me`, as of NOW_S. */
static void seal(void)
{
    pep_record to = parsed_record(&me);
    const pep_message message = {
        .from = &sender, .topic = topic, .seq = NOW_S * S_US, .to = &to, .plain = {(const uint8_t *)"x", 1}};
    CU_ASSERT_EQUAL_FATAL(pep_seal(envelope.p, &envelope.n, sizeof envelope.p, &message), PEP_OK);
}

static void begin(void)
{
    pep_error error;
    sender = device_of("sender", 1);
    me = device_of("me", 1);
    cut record = record_of(&sender);
    scratch_begin();
    CU_ASSERT_EQUAL_FATAL(pep_record_save(&error, scratch_path("sender.pub"), record.p, record.n), PEP_OK);
    CU_ASSERT_EQUAL_FATAL(pep_keyring_load(&ring, &error, scratch_folder), PEP_OK);
    scratch_end();
    seal();
}

static void end(void)
{
    pep_keyring_free(ring);
    ring = NULL;
}

static pep_reason open_as(const pep_device *who, uint64_t now_us)
{
    pep_opened opened;
    uint8_t work[PEP_WORK_BYTES(CUT_BYTES)];
    const pep_opener opener = {
        .me = who, .senders = ring, .topic = topic, .now_us = now_us, .max_skew_us = 1000 * S_US};
    pep_reason reason = pep_open(&opened, work, sizeof work, &opener, envelope.p, envelope.n);
    CU_ASSERT(reason != PEP_OK || (opened.plain.n == 1 && opened.plain.p[0] == 'x'));
    return reason;
}

/* ---- former agreement keys ---- */

static void check_renewed(bool keep_sign)
{
    pep_device renewed;
    begin();
    CU_ASSERT_EQUAL_FATAL(pep_device_renew(&renewed, &me, keep_sign, NOW_S, UNTIL_S), PEP_OK);
    CU_ASSERT_EQUAL(open_as(&me, NOW_S * S_US), PEP_OK);
    CU_ASSERT_EQUAL(open_as(&renewed, NOW_S * S_US), PEP_OK);
    CU_ASSERT_EQUAL(open_as(&renewed, UNTIL_S * S_US + S_US - 1), PEP_OK);
    CU_ASSERT_EQUAL(open_as(&renewed, UNTIL_S * S_US + S_US), PEP_CANNOT_OPEN);
    CU_ASSERT_EQUAL(open_as(&renewed, 0), PEP_OK); /* no clock judges no time */
    renewed.previous[0].sign_kid[0] ^= 1;
    CU_ASSERT_EQUAL(open_as(&renewed, NOW_S * S_US), PEP_CANNOT_OPEN);
    renewed.previous[0].sign_kid[0] ^= 1;
    renewed.previous[0].agree_kid[0] ^= 1;
    CU_ASSERT_EQUAL(open_as(&renewed, NOW_S * S_US), PEP_CANNOT_OPEN);
    renewed.previous_count = 0;
    CU_ASSERT_EQUAL(open_as(&renewed, NOW_S * S_US), PEP_CANNOT_OPEN);
    end();
}

static void test_former_keys(void)
{
    check_renewed(true);
    check_renewed(false);
}

/* The oldest of two, and then it is gone. */
static void test_oldest_key(void)
{
    begin();
    pep_device at[4];
    at[0] = me;
    for (size_t i = 1; i < COUNT(at); i++)
        CU_ASSERT_EQUAL_FATAL(pep_device_renew(&at[i], &at[i - 1], i % 2 == 0, NOW_S, UNTIL_S), PEP_OK);
    CU_ASSERT_EQUAL(open_as(&at[1], NOW_S * S_US), PEP_OK);
    CU_ASSERT_EQUAL(open_as(&at[2], NOW_S * S_US), PEP_OK);
    CU_ASSERT_EQUAL(open_as(&at[3], NOW_S * S_US), PEP_CANNOT_OPEN);
    end();
}

/* The kids of one entry with those of the other open nothing: both must be of one pair of keys. */
static void test_mixed_kids(void)
{
    pep_device renewed;
    begin();
    CU_ASSERT_EQUAL_FATAL(pep_device_renew(&renewed, &me, false, NOW_S, UNTIL_S), PEP_OK);
    memcpy(renewed.previous[0].sign_kid, renewed.sign_kid, PEP_KID_BYTES);
    CU_ASSERT_EQUAL(open_as(&renewed, NOW_S * S_US), PEP_CANNOT_OPEN);
    end();
}

/* ---- senders whose key ended ---- */

/* As who keeps records marks them; the keyring itself never does. */
static pep_record *kept_record(void)
{
    union {
        const pep_record *found;
        pep_record *changed;
    } record = {.found = pep_keyring_find(ring, sender.sign_kid)};
    CU_ASSERT_PTR_NOT_NULL_FATAL(record.found);
    return record.changed;
}

static void test_ended(void)
{
    static const pep_reason reasons[] = {PEP_ROTATED_SIGNER, PEP_REVOKED_SIGNER};
    begin();
    pep_record *record = kept_record();
    for (size_t i = 0; i < COUNT(reasons); i++) {
        record->ended = reasons[i];
        record->cutoff = NOW_S * S_US;
        CU_ASSERT_EQUAL(open_as(&me, NOW_S * S_US), PEP_OK);
        CU_ASSERT_EQUAL(open_as(&me, 0), PEP_OK);
        record->cutoff--;
        CU_ASSERT_EQUAL(open_as(&me, NOW_S * S_US), reasons[i]);
        CU_ASSERT_EQUAL(open_as(&me, 0), reasons[i]);
        record->cutoff = 0;
        CU_ASSERT_EQUAL(open_as(&me, NOW_S * S_US), reasons[i]);
    }
    end();
}

/* What it signed while it was valid stays valid: else a rotation would unmake history. */
static void test_ended_and_expired(void)
{
    const uint64_t late_us = (NOT_AFTER_S + 1) * S_US;
    begin();
    pep_record *record = kept_record();
    CU_ASSERT_EQUAL(open_as(&me, late_us), PEP_EXPIRED_SIGNER);
    record->ended = PEP_ROTATED_SIGNER;
    record->cutoff = NOW_S * S_US;
    CU_ASSERT_EQUAL(open_as(&me, late_us), PEP_OK);
    record->cutoff--;
    CU_ASSERT_EQUAL(open_as(&me, late_us), PEP_ROTATED_SIGNER);
    end();
}

/* ---- pins, where the keyring does not know the kid ---- */

static void test_pins(void)
{
    pep_error error;
    pep_pins *pins;
    pep_opened opened;
    uint8_t work[PEP_WORK_BYTES(CUT_BYTES)];
    begin();
    scratch_begin();
    CU_ASSERT_EQUAL_FATAL(pep_pins_open(&pins, &error, scratch_path("pins"), NULL, 0), PEP_OK);
    pep_opener opener = {.me = &me, .pins = pins, .topic = topic, .now_us = NOW_S * S_US};
    CU_ASSERT_EQUAL(pep_open(&opened, work, sizeof work, &opener, envelope.p, envelope.n), PEP_UNKNOWN_SIGNER);
    cut record = record_of(&sender);
    const pep_view history[] = {view_of(&record)};
    CU_ASSERT_EQUAL_FATAL(pep_pins_take_history(pins, &error, "sender", history, 1), PEP_OK);
    CU_ASSERT_EQUAL(pep_open(&opened, work, sizeof work, &opener, envelope.p, envelope.n), PEP_OK);
    opener.pins = NULL;
    CU_ASSERT_EQUAL(pep_open(&opened, work, sizeof work, &opener, envelope.p, envelope.n), PEP_UNKNOWN_SIGNER);
    pep_pins_close(pins);
    scratch_end();
    end();
}

/* What is pinned of a device counts, whatever record of it a keyring holds. */
static void test_pins_and_keyring(void)
{
    pep_error error;
    pep_pins *pins;
    pep_opened opened;
    uint8_t work[PEP_WORK_BYTES(CUT_BYTES)];
    begin();
    scratch_begin();
    CU_ASSERT_EQUAL_FATAL(pep_pins_open(&pins, &error, scratch_path("pins"), NULL, 0), PEP_OK);
    const pep_opener opener = {.me = &me, .senders = ring, .pins = pins, .topic = topic, .now_us = NOW_S * S_US};
    CU_ASSERT_EQUAL(pep_open(&opened, work, sizeof work, &opener, envelope.p, envelope.n), PEP_OK);
    pep_device other = device_of("sender", 2); /* another key of that id was believed */
    cut record = record_of(&other);
    const pep_view history[] = {view_of(&record)};
    CU_ASSERT_EQUAL_FATAL(pep_pins_take_history(pins, &error, "sender", history, 1), PEP_OK);
    CU_ASSERT_EQUAL(pep_open(&opened, work, sizeof work, &opener, envelope.p, envelope.n), PEP_ROTATED_SIGNER);
    CU_ASSERT_EQUAL(pep_pins_forget(pins, &error, "sender"), PEP_OK);
    kept_record()->not_after_s = NOW_S - 1; /* a file that has expired does not hide a pin that has not */
    CU_ASSERT_EQUAL(pep_open(&opened, work, sizeof work, &opener, envelope.p, envelope.n), PEP_EXPIRED_SIGNER);
    record = record_of(&sender);
    const pep_view own[] = {view_of(&record)};
    CU_ASSERT_EQUAL_FATAL(pep_pins_take_history(pins, &error, "sender", own, 1), PEP_OK);
    CU_ASSERT_EQUAL(pep_open(&opened, work, sizeof work, &opener, envelope.p, envelope.n), PEP_OK);
    pep_pins_close(pins);
    pep_authority authority;
    CU_ASSERT_EQUAL_FATAL(pep_authority_new(&authority), PEP_OK);
    CU_ASSERT_EQUAL_FATAL(pep_pins_open(&pins, &error, scratch_path("certified"),
                                        (const uint8_t(*)[PEP_SIGN_PUBLIC_BYTES]) & authority.sign_public, 1),
                          PEP_OK);
    pep_opener strict = opener;
    strict.pins = pins;
    CU_ASSERT_EQUAL(pep_open(&opened, work, sizeof work, &strict, envelope.p, envelope.n), PEP_NOT_CERTIFIED);
    pep_pins_close(pins);
    scratch_end();
    end();
}

static void test_start(void)
{
    CU_ASSERT_EQUAL(pep_init(), PEP_OK);
}

static const unit_test tests[] = {
    {"the library starts", test_start},
    {"former agreement keys open until their time", test_former_keys},
    {"two of them are kept", test_oldest_key},
    {"both kids are of one entry", test_mixed_kids},
    {"a sender's key that ended opens up to its cutoff", test_ended},
    {"also when its record has expired since", test_ended_and_expired},
    {"pins are asked where the keyring knows nothing", test_pins},
    {"what is pinned counts more than a file", test_pins_and_keyring},
};

UNIT_MAIN("opening", tests)
