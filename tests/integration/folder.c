/*
 * Promise: the operator's folder and policy reach a running directory at SIGHUP, together or not at all: whose file is
 * gone is shut out, and in again when it is back; nobody gets an old key back by it, or another's.
 */
#include "ask.h"
#include "tests/unit/unit.h"

#include <string.h>
#include <unistd.h>

#define RELOADED "pep: reloaded"
#define FAILED   "pep: reload failed*"
#define ALICE    PEP_KEYS_TOPIC "alice"

#define CLOSED DIRECTORY_POLICY("closed", "")
#define OPEN   DIRECTORY_POLICY("open", "max_records = 1000;")

static stage s;
static asker a;
static client *from;

static void set(const char *policy)
{
    stage_set(&s, policy, CONF_GUARDED);
    asker_open(&a, (client_spec){.port = s.b.port, .id = "asker"});
    from = client_open((client_spec){.port = s.b.port, .id = "from", .version = MQTT_5});
}

static void strike(void)
{
    client_close(from);
    asker_close(&a);
    stage_strike(&s);
}

static void reload(const char *outcome)
{
    broker_mark(&s.b);
    broker_reload(&s.b);
    CU_ASSERT_TRUE(broker_logs(&s.b, outcome));
}

static bool speaks(const speaker *who)
{
    sealed e = seal((seal_spec){.from = who, .topic = "t/a"});
    return stage_passes(&s, from, "t/a", &e, 1, false);
}

static bool is_refused(const speaker *who, pep_reason reason)
{
    sealed e = seal((seal_spec){.from = who, .topic = "t/a"});
    return stage_refuses(&s, from, "t/a", &e, 1, false, reason);
}

/* The entry that somebody gets who subscribes now; false: none. */
static bool served(sealed *out, const char *topic)
{
    client *late = stage_client(&s, "late");
    out->n = 0;
    client_subscribe(late, topic, 1);
    client_subscribe(late, FENCE_TOPIC, 2);
    CU_ASSERT_TRUE(client_fence(s.to, s.to));
    const client_message *m = client_next(late);
    bool there = m != NULL && strcmp(m->topic, topic) == 0 && m->n <= sizeof(out->bytes);
    if (there) {
        out->n = m->n;
        memcpy(out->bytes, m->bytes, m->n);
        CU_ASSERT_TRUE(client_gets_fence(late));
    }
    client_close(late);
    return there;
}

/* Waits until it is served, or no longer. */
static bool becomes_served(bool wanted, sealed *out, const char *topic)
{
    int64_t deadline = monotonic_ms() + patience_ms();
    while (served(out, topic) != wanted)
        if (remaining_ms(deadline) == 0)
            return false;
    return true;
}

static bool same(const sealed *x, const sealed *y)
{
    return x->n == y->n && memcmp(x->bytes, y->bytes, x->n) == 0;
}

/* ---- files that come and go ---- */

static void whose_file_is_gone_is_shut_out(void)
{
    sealed before = {.n = 0}, after = {.n = 0}, asked = {.n = 0};
    set(CLOSED);
    CU_ASSERT_TRUE(becomes_served(true, &before, ALICE));
    CU_ASSERT_EQUAL(ask_lookup(&a, "alice", &asked), PEP_OK);
    CU_ASSERT_TRUE(same(&before, &asked));
    broker_copy(&s.b, "kept.pub", broker_path(&s.b, "records/alice.pub"));
    record_remove(&s.b, "alice");
    reload(RELOADED);
    CU_ASSERT_TRUE(is_refused(&s.c.alice, PEP_UNKNOWN_SIGNER));
    CU_ASSERT_EQUAL(ask_lookup(&a, "alice", &asked), PEP_UNKNOWN_ID);
    CU_ASSERT_TRUE(becomes_served(false, &after, ALICE));
    CU_ASSERT_TRUE(speaks(&s.c.carol));
    broker_copy(&s.b, "records/alice.pub", broker_path(&s.b, "kept.pub"));
    reload(RELOADED);
    CU_ASSERT_TRUE(speaks(&s.c.alice));
    CU_ASSERT_TRUE(becomes_served(true, &after, ALICE));
    CU_ASSERT_TRUE(same(&before, &after));
    strike();
}

/* Nothing of it can be done while it is out: its keys are nobody's word. */
static void whose_file_is_gone_commands_nothing(void)
{
    set(DIRECTORY_POLICY("closed", "admins = [ \"alice\" ];"));
    member bob = {.who = s.c.bob};
    sealed asked;
    pep_entry entry;
    pep_statement statement;
    CU_ASSERT_EQUAL(ask_lookup(&a, "bob", &asked), PEP_OK);
    CU_ASSERT_EQUAL(pep_entry_parse(&entry, asked.bytes, asked.n), PEP_OK);
    CU_ASSERT_EQUAL(pep_statement_parse(&statement, entry.statement.p, entry.statement.n), PEP_OK);
    CU_ASSERT_EQUAL(pep_head_begin(&bob.head, &statement), PEP_OK);
    broker_copy(&s.b, "kept.pub", broker_path(&s.b, "records/alice.pub"));
    record_remove(&s.b, "alice");
    reload(RELOADED);
    statement_bytes revocation = member_revocation(&bob, s.c.alice.device.sign_secret, pep_now_us());
    sealed command = command_revoke(&a, &revocation, &s.c.alice.device);
    CU_ASSERT_EQUAL(ask_reason(&a, &command), PEP_NOT_AUTHORIZED);
    command = command_revoke(&a, &revocation, &s.c.carol.device);
    CU_ASSERT_NOT_EQUAL(ask_reason(&a, &command), PEP_OK);
    CU_ASSERT_TRUE(speaks(&s.c.bob));
    broker_copy(&s.b, "records/alice.pub", broker_path(&s.b, "kept.pub"));
    reload(RELOADED);
    command = command_revoke(&a, &revocation, &s.c.alice.device);
    CU_ASSERT_EQUAL(ask_reason(&a, &command), PEP_OK);
    CU_ASSERT_TRUE(is_refused(&s.c.bob, PEP_REVOKED_SIGNER));
    strike();
}

/* Puts a member's first record into the folder. */
static void file_add(const member *m)
{
    char name[PEP_ID_MAX + 16];
    pep_error error;
    snprintf(name, sizeof(name), "records/%s.pub", m->head.id);
    CU_ASSERT_EQUAL(pep_record_save(&error, broker_path(&s.b, name), m->newest.bytes, m->newest.n), PEP_OK);
}

/* A device whose file is there rotates by itself; the file, which nobody changed, does not take it back. */
static void an_old_file_brings_no_old_key_back(void)
{
    member m, next;
    set(CLOSED);
    member_make(&m, "dora");
    file_add(&m);
    reload(RELOADED);
    CU_ASSERT_TRUE(speaks(&m.who));
    member_turn(&next, &m, next_seq());
    sealed command = command_rotate(&a, &next, &m.who.device, NULL);
    CU_ASSERT_EQUAL(ask_reason(&a, &command), PEP_OK);
    broker_write(&s.b, "policy.conf", DIRECTORY_POLICY("closed", "max_skew = \"59s\";"));
    reload(RELOADED);
    CU_ASSERT_TRUE(is_refused(&m.who, PEP_ROTATED_SIGNER));
    CU_ASSERT_TRUE(speaks(&next.who));
    CU_ASSERT_EQUAL(ask_revoke(&a, &next), PEP_OK);
    broker_write(&s.b, "policy.conf", CLOSED);
    reload(RELOADED);
    CU_ASSERT_TRUE(is_refused(&next.who, PEP_REVOKED_SIGNER));
    member_wipe(&m);
    member_wipe(&next);
    strike();
}

/* Other keys for the same id: the operator is right, and the device's own are no longer. */
static void the_operator_replaces_keys(void)
{
    member m, other;
    set(OPEN);
    member_make(&m, "dora");
    member_make(&other, "dora");
    CU_ASSERT_EQUAL(ask_enroll(&a, &m), PEP_OK);
    CU_ASSERT_TRUE(speaks(&m.who));
    file_add(&other);
    reload(RELOADED);
    CU_ASSERT_TRUE(speaks(&other.who));
    CU_ASSERT_TRUE(is_refused(&m.who, PEP_ROTATED_SIGNER));
    CU_ASSERT_TRUE(ask_knows(&a, &other));
    member_wipe(&m);
    member_wipe(&other);
    strike();
}

/* But never with another device's key. */
static void the_operator_gives_no_key_to_another(void)
{
    member m;
    sealed ignored;
    uint8_t bytes[PEP_RECORD_BYTES_MAX], seed[32];
    size_t n = 0;
    pep_error error;
    pep_device thief;
    set(OPEN);
    member_make(&m, "dora");
    CU_ASSERT_EQUAL(ask_enroll(&a, &m), PEP_OK);
    memcpy(seed, m.who.device.sign_secret, sizeof(seed));
    CU_ASSERT_EQUAL(pep_device_from_secrets(&thief, "eve", seed, s.c.mallory.device.agree_secret), PEP_OK);
    CU_ASSERT_EQUAL(pep_record_sign(bytes, &n, &thief, pep_now_us() / 1000000, pep_now_us() / 1000000 + 60), PEP_OK);
    CU_ASSERT_EQUAL(pep_record_save(&error, broker_path(&s.b, "records/eve.pub"), bytes, n), PEP_OK);
    record_remove(&s.b, "alice");
    reload(FAILED "eve.pub");
    CU_ASSERT_TRUE(speaks(&m.who));
    CU_ASSERT_TRUE(speaks(&s.c.alice)); /* not a part of it counts */
    CU_ASSERT_EQUAL(ask_lookup(&a, "eve", &ignored), PEP_UNKNOWN_ID);
    member_wipe(&m);
    strike();
}

/* ---- the policy ---- */

static void how_devices_enrol_can_change(void)
{
    member first, second;
    set(OPEN);
    member_make(&first, "dora");
    member_make(&second, "eve");
    CU_ASSERT_EQUAL(ask_enroll(&a, &first), PEP_OK);
    broker_write(&s.b, "policy.conf", CLOSED);
    reload(RELOADED);
    CU_ASSERT_EQUAL(ask_enroll(&a, &second), PEP_CLOSED);
    CU_ASSERT_TRUE(speaks(&first.who)); /* it was let in, and has no file that could be missing */
    broker_write(&s.b, "policy.conf", DIRECTORY_POLICY("token", ""));
    reload(RELOADED);
    CU_ASSERT_EQUAL(ask_enroll(&a, &second), PEP_BAD_TOKEN);
    broker_write(&s.b, "policy.conf", OPEN);
    reload(RELOADED);
    CU_ASSERT_EQUAL(ask_enroll(&a, &second), PEP_OK);
    CU_ASSERT_TRUE(speaks(&second.who));
    member_wipe(&first);
    member_wipe(&second);
    strike();
}

static void how_it_is_served_can_change(void)
{
    sealed before = {.n = 0}, after = {.n = 0};
    set(CLOSED);
    CU_ASSERT_TRUE(becomes_served(true, &before, ALICE));
    broker_write(&s.b, "policy.conf", DIRECTORY_POLICY("closed", "directory = \"on-request\";"));
    reload(RELOADED);
    CU_ASSERT_TRUE(becomes_served(false, &after, ALICE));
    CU_ASSERT_EQUAL(ask_lookup(&a, "alice", &after), PEP_OK);
    broker_write(&s.b, "policy.conf", CLOSED);
    reload(RELOADED);
    CU_ASSERT_TRUE(becomes_served(true, &after, ALICE));
    CU_ASSERT_TRUE(same(&before, &after));
    strike();
}

/* The old policy and the old folder stay, both. */
static void a_wrong_policy_changes_nothing(void)
{
    static const char *const bad[] = {"enroll = \"closed\"; topics = (", DIRECTORY_POLICY("authority", ""),
                                      DIRECTORY_POLICY("closed", "surprise = 1;")};
    member m[3];
    set(OPEN);
    record_remove(&s.b, "alice");
    for (size_t i = 0; i < 3; i++) {
        char id[16];
        snprintf(id, sizeof(id), "dora-%zu", i);
        member_make(&m[i], id);
        broker_write(&s.b, "policy.conf", bad[i]);
        reload(FAILED "policy.conf");
        CU_ASSERT_EQUAL(ask_enroll(&a, &m[i]), PEP_OK); /* still open */
        CU_ASSERT_TRUE(speaks(&m[i].who));
        CU_ASSERT_TRUE(speaks(&s.c.alice));
        member_wipe(&m[i]);
    }
    broker_write(&s.b, "policy.conf", CLOSED);
    reload(RELOADED);
    CU_ASSERT_TRUE(is_refused(&s.c.alice, PEP_UNKNOWN_SIGNER));
    strike();
}

/* Reloads come as often as they like while devices enrol. */
static void enrolments_go_on_meanwhile(void)
{
    set(OPEN);
    for (int i = 0; i < 20; i++) {
        char id[16];
        member m;
        snprintf(id, sizeof(id), "dora-%d", i);
        member_make(&m, id);
        broker_write(&s.b, "policy.conf", i % 2 == 0 ? DIRECTORY_POLICY("open", "max_records = 2000;") : OPEN);
        broker_reload(&s.b);
        CU_ASSERT_EQUAL(ask_enroll(&a, &m), PEP_OK);
        CU_ASSERT_TRUE(speaks(&m.who));
        member_wipe(&m);
    }
    strike();
}

static const unit_test TESTS[] = {
    {"whose file is gone is shut out", whose_file_is_gone_is_shut_out},
    {"whose file is gone commands nothing", whose_file_is_gone_commands_nothing},
    {"an old file brings no old key back", an_old_file_brings_no_old_key_back},
    {"the operator replaces keys", the_operator_replaces_keys},
    {"the operator gives no key to another", the_operator_gives_no_key_to_another},
    {"how devices enrol can change", how_devices_enrol_can_change},
    {"how it is served can change", how_it_is_served_can_change},
    {"a wrong policy changes nothing", a_wrong_policy_changes_nothing},
    {"enrolments go on meanwhile", enrolments_go_on_meanwhile},
};
UNIT_MAIN("folder", TESTS)
