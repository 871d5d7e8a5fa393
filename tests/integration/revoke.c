/*
 * Promise: a revoked key is refused from its very next message on, and a replaced one above its cutoff at once, below
 * it behind a minute's grace; what was retained before the cutoff is still delivered, what came behind it is not.
 */
#include "ask.h"
#include "tests/unit/unit.h"

#include <string.h>

#define SECOND_US 1000000ull

static stage s;
static asker a;
static client *from;
static member m;

static void set_with(const char *policy, const char *conf)
{
    stage_set(&s, policy, conf);
    asker_open(&a, (client_spec){.port = s.b.port, .id = "asker"});
    from = client_open((client_spec){.port = s.b.port, .id = "from", .version = MQTT_5});
    member_make(&m, "dora");
    CU_ASSERT_EQUAL(ask_enroll(&a, &m), PEP_OK);
}

static void set(void)
{
    set_with(OPEN_POLICY, CONF_ENROLLING);
}

static void strike(void)
{
    member_wipe(&m);
    client_close(from);
    asker_close(&a);
    stage_strike(&s);
}

static bool passes(const sealed *e, int qos, bool retain)
{
    return stage_passes(&s, from, "t/a", e, qos, retain);
}

static bool refused(const sealed *e, int qos, bool retain, pep_reason reason)
{
    return stage_refuses(&s, from, "t/a", e, qos, retain, reason);
}

static sealed reading(void)
{
    return reading_of(&m, "t/a");
}

/* True where somebody who subscribes now gets exactly this retained message; NULL: none. */
static bool is_retained(const sealed *e)
{
    client *late = stage_client(&s, "late");
    client_subscribe(late, "t/#", 2);
    client_subscribe(late, FENCE_TOPIC, 2);
    bool good = e == NULL || client_gets(late, "t/a", e->bytes, e->n);
    good = client_fence(late, late) && client_gets_fence(s.to) && good;
    client_close(late);
    return good;
}

/* ---- revocation ---- */

static void the_next_message_is_refused(void)
{
    for (int qos = 0; qos <= 2; qos++)
        for (int retain = 0; retain <= 1; retain++) {
            set();
            sealed before = reading(), made_before = reading();
            CU_ASSERT_TRUE(passes(&before, qos, false));
            CU_ASSERT_EQUAL(ask_revoke(&a, &m), PEP_OK);
            CU_ASSERT_TRUE(refused(&made_before, qos, retain == 1, PEP_REVOKED_SIGNER));
            sealed after = reading();
            CU_ASSERT_TRUE(refused(&after, qos, retain == 1, PEP_REVOKED_SIGNER));
            strike();
        }
}

/* It came with the CONNECT, while all was well. */
static void its_will_is_refused(void)
{
    set();
    sealed will = seal((seal_spec){.from = &m.who, .topic = "t/a", .flags = PEP_FLAG_WILL});
    wire w = wire_open((wire_spec){
        .port = s.b.port, .id = "w", .will_topic = "t/a", .will = will.bytes, .will_n = will.n, .will_qos = 1});
    CU_ASSERT_EQUAL(ask_revoke(&a, &m), PEP_OK);
    broker_mark(&s.b);
    wire_drop(&w);
    CU_ASSERT_TRUE(stage_logged(&s, PEP_REVOKED_SIGNER, "w", "t/a"));
    CU_ASSERT_TRUE(client_fence(s.to, s.to));
    strike();
}

static pep_reason revoke_since(uint64_t cutoff)
{
    statement_bytes revocation = member_revocation(&m, NULL, cutoff);
    sealed command = command_revoke(&a, &revocation, &m.who.device);
    return ask_reason(&a, &command);
}

static void what_was_retained_before_stays(void)
{
    set();
    sealed e = reading();
    CU_ASSERT_TRUE(passes(&e, 1, true));
    CU_ASSERT_EQUAL(revoke_since(pep_now_us()), PEP_OK);
    CU_ASSERT_TRUE(is_retained(&e));
    strike();
}

/* The key was stolen earlier than anybody noticed. */
static void what_was_retained_behind_the_cutoff_goes(void)
{
    set();
    uint64_t stolen = next_seq();
    sealed e = reading();
    CU_ASSERT_TRUE(passes(&e, 1, true));
    CU_ASSERT_TRUE(is_retained(&e));
    CU_ASSERT_EQUAL(revoke_since(stolen), PEP_OK);
    CU_ASSERT_TRUE(is_retained(NULL));
    CU_ASSERT_TRUE(stage_logged(&s, PEP_REVOKED_SIGNER, "late", "t/a"));
    strike();
}

static void a_restart_does_not_forget_it(void)
{
    set();
    CU_ASSERT_EQUAL(ask_revoke(&a, &m), PEP_OK);
    client_close(from);
    asker_close(&a);
    stage_restart(&s, true);
    asker_open(&a, (client_spec){.port = s.b.port, .id = "asker"});
    from = client_open((client_spec){.port = s.b.port, .id = "from", .version = MQTT_5});
    sealed e = reading();
    CU_ASSERT_TRUE(refused(&e, 1, false, PEP_REVOKED_SIGNER));
    strike();
}

static void an_admin_may_and_others_may_not(void)
{
    set_with(DIRECTORY_POLICY("open", "max_records = 1000; admins = [ \"alice\" ];"), CONF_GUARDED);
    statement_bytes by_bob = member_revocation(&m, s.c.bob.device.sign_secret, pep_now_us());
    sealed command = command_revoke(&a, &by_bob, &s.c.bob.device);
    CU_ASSERT_NOT_EQUAL(ask_reason(&a, &command), PEP_OK);
    sealed e = reading();
    CU_ASSERT_TRUE(passes(&e, 1, false));
    statement_bytes by_alice = member_revocation(&m, s.c.alice.device.sign_secret, pep_now_us());
    command = command_revoke(&a, &by_alice, &s.c.alice.device);
    CU_ASSERT_EQUAL(ask_reason(&a, &command), PEP_OK);
    e = reading();
    CU_ASSERT_TRUE(refused(&e, 1, false, PEP_REVOKED_SIGNER));
    strike();
}

/* A revoked device cannot make itself new keys; an authority can give it some. */
static void only_an_authority_brings_it_back(void)
{
    char policy[512], text[PEP_AUTHORITY_TEXT_BYTES];
    pep_authority authority;
    pep_statement statement;
    uint8_t record[PEP_RECORD_BYTES_MAX];
    size_t record_n = 0;
    CU_ASSERT_EQUAL(pep_init(), PEP_OK);
    CU_ASSERT_EQUAL(pep_authority_new(&authority), PEP_OK);
    pep_authority_text(text, authority.sign_public);
    snprintf(policy, sizeof(policy), DIRECTORY_POLICY("open", "max_records = 1000; authority = [ \"%s\" ];"), text);
    set_with(policy, CONF_ENROLLING);
    CU_ASSERT_EQUAL(ask_revoke(&a, &m), PEP_OK);
    CU_ASSERT_EQUAL(pep_statement_parse(&statement, m.newest.bytes, m.newest.n), PEP_OK);
    CU_ASSERT_EQUAL(pep_head_advance(&m.head, NULL, &statement, &(pep_trust){.authority_count = 0}), PEP_OK);
    member next;
    uint64_t now_s = pep_now_us() / SECOND_US;
    member_make(&next, "dora");
    CU_ASSERT_EQUAL(pep_record_next(record, &record_n, &next.who.device, &m.head, now_s, now_s + 3600), PEP_OK);
    CU_ASSERT_EQUAL(
        pep_rotation_sign(next.newest.bytes, &next.newest.n, m.who.device.sign_secret, &m.head, record, record_n, 0),
        PEP_OK);
    sealed by_itself = command_rotate(&a, &next, &next.who.device, NULL);
    CU_ASSERT_NOT_EQUAL(ask_reason(&a, &by_itself), PEP_OK);
    CU_ASSERT_EQUAL(
        pep_rotation_sign(next.newest.bytes, &next.newest.n, authority.sign_secret, &m.head, record, record_n, 0),
        PEP_OK);
    sealed by_authority = command_rotate(&a, &next, &next.who.device, NULL);
    CU_ASSERT_EQUAL(ask_reason(&a, &by_authority), PEP_OK);
    sealed old = reading(), new = reading_of(&next, "t/a");
    CU_ASSERT_TRUE(refused(&old, 1, false, PEP_REVOKED_SIGNER));
    CU_ASSERT_TRUE(passes(&new, 1, false));
    member_wipe(&next);
    strike();
}

/* ---- rotation ---- */

static void an_old_key_ends_at_its_cutoff(void)
{
    for (int qos = 0; qos <= 2; qos++) {
        set();
        sealed below = reading(), will = seal((seal_spec){.from = &m.who, .topic = "t/a", .flags = PEP_FLAG_WILL});
        member next;
        member_turn(&next, &m, next_seq());
        sealed above = reading();
        sealed command = command_rotate(&a, &next, &m.who.device, NULL);
        CU_ASSERT_EQUAL(ask_reason(&a, &command), PEP_OK);
        sealed new = reading_of(&next, "t/a");
        CU_ASSERT_TRUE(passes(&new, qos, false));
        CU_ASSERT_TRUE(passes(&below, qos, false));
        CU_ASSERT_TRUE(refused(&above, qos, false, PEP_ROTATED_SIGNER));
        CU_ASSERT_TRUE(stage_passes_will(&s, (wire_spec){.port = s.b.port,
                                                         .id = "w",
                                                         .will_topic = "t/a",
                                                         .will = will.bytes,
                                                         .will_n = will.n,
                                                         .will_qos = qos}));
        member_wipe(&next);
        strike();
    }
}

/* Revoking a device ends the grace of those before, too: they could be what was stolen. */
static void a_revocation_ends_the_grace(void)
{
    set();
    member next;
    member_turn(&next, &m, pep_now_us() + PEP_GRACE_S * SECOND_US);
    sealed command = command_rotate(&a, &next, &m.who.device, NULL);
    CU_ASSERT_EQUAL(ask_reason(&a, &command), PEP_OK);
    sealed in_grace = reading();
    CU_ASSERT_TRUE(passes(&in_grace, 1, false));
    CU_ASSERT_EQUAL(ask_revoke(&a, &next), PEP_OK);
    sealed old = reading(), new = reading_of(&next, "t/a");
    CU_ASSERT_TRUE(refused(&new, 1, false, PEP_REVOKED_SIGNER));
    CU_ASSERT_TRUE(refused(&old, 1, false, PEP_REVOKED_SIGNER));
    member_wipe(&next);
    strike();
}

static void what_was_retained_before_a_rotation_stays(void)
{
    set();
    sealed e = reading();
    CU_ASSERT_TRUE(passes(&e, 1, true));
    CU_ASSERT_EQUAL(ask_rotate(&a, &m, next_seq()), PEP_OK);
    CU_ASSERT_TRUE(is_retained(&e));
    strike();
}

/* A stolen key's owner was quicker, or the thief was: the second of two rotations does not follow the first. */
static void of_two_rotations_one_counts(void)
{
    member first, second;
    set();
    member_turn(&first, &m, next_seq());
    member_turn(&second, &m, next_seq());
    sealed one = command_rotate(&a, &first, &m.who.device, NULL);
    CU_ASSERT_EQUAL(ask_reason(&a, &one), PEP_OK);
    sealed two = command_rotate(&a, &second, &second.who.device, NULL);
    CU_ASSERT_NOT_EQUAL(ask_reason(&a, &two), PEP_OK);
    CU_ASSERT_TRUE(ask_knows(&a, &first));
    sealed e = reading_of(&second, "t/a");
    CU_ASSERT_TRUE(refused(&e, 1, false, PEP_UNKNOWN_SIGNER));
    sealed again = command_rotate(&a, &first, &first.who.device, NULL); /* the answer may have been lost */
    CU_ASSERT_EQUAL(ask_reason(&a, &again), PEP_OK);
    member_wipe(&first);
    member_wipe(&second);
    strike();
}

static const unit_test TESTS[] = {
    {"the next message is refused", the_next_message_is_refused},
    {"its will is refused", its_will_is_refused},
    {"what was retained before stays", what_was_retained_before_stays},
    {"what was retained behind the cutoff goes", what_was_retained_behind_the_cutoff_goes},
    {"a restart does not forget it", a_restart_does_not_forget_it},
    {"an admin may, and others may not", an_admin_may_and_others_may_not},
    {"only an authority brings it back", only_an_authority_brings_it_back},
    {"an old key ends at its cutoff", an_old_key_ends_at_its_cutoff},
    {"a revocation ends the grace", a_revocation_ends_the_grace},
    {"what was retained before a rotation stays", what_was_retained_before_a_rotation_stays},
    {"of two rotations one counts", of_two_rotations_one_counts},
};
UNIT_MAIN("revoke", TESTS)
