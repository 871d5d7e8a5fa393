/*
 * Doors: retained publish, and the clear of a retained message.
 * Promise: what is retained on a protected topic got there through the gate, and only a signed clear removes it.
 */
#include "stage.h"
#include "tests/unit/unit.h"

#include <stdio.h>

static stage s;
static client *alice;

static void set(const char *conf)
{
    stage_set(&s, GUARD_POLICY, conf);
    alice = client_open((client_spec){.port = s.b.port, .id = "alice", .version = MQTT_5});
}

static void strike(void)
{
    client_close(alice);
    stage_strike(&s);
}

static sealed reading(void)
{
    return seal((seal_spec){.from = &s.c.alice, .topic = "t/r"});
}

static sealed clear(void)
{
    return seal((seal_spec){.from = &s.c.alice, .topic = "t/r", .flags = PEP_FLAG_CLEAR});
}

/* True where somebody who subscribes now gets exactly this retained message; NULL: none. */
static bool is_retained(const sealed *e)
{
    client *late = stage_client(&s, "late");
    client_subscribe(late, "t/#", 2);
    client_subscribe(late, FENCE_TOPIC, 2);
    bool good = e == NULL || client_gets(late, "t/r", e->bytes, e->n);
    good = client_fence(late, late) && client_gets_fence(s.to) && good;
    client_close(late);
    return good;
}

/* With check_retain_source the broker asks the gate again, in the name of the sender, before each delivery. */
static const char *const SOURCES[] = {"check_retain_source false\n", "check_retain_source true\n"};

static void set_source(size_t i, const char *more)
{
    char conf[1024];
    snprintf(conf, sizeof(conf), "%s%s%s", CONF_GUARDED, SOURCES[i], more);
    set(conf);
}

static void valid_ones_are_kept(void)
{
    for (size_t i = 0; i < 2; i++) {
        set_source(i, "");
        for (int qos = 0; qos <= 2; qos++) {
            sealed e = reading();
            CU_ASSERT_TRUE(stage_passes(&s, alice, "t/r", &e, qos, true));
            CU_ASSERT_TRUE(is_retained(&e));
            CU_ASSERT_TRUE(is_retained(&e));
        }
        strike();
    }
}

/* What was accepted stays deliverable, also out of the broker's own store, which keeps no client id to be bound. */
static void they_survive_a_restart(void)
{
    for (size_t i = 0; i < 2; i++) {
        set_source(i, "persistence true\npersistence_location @/\n");
        sealed e = reading();
        CU_ASSERT_TRUE(stage_passes(&s, alice, "t/r", &e, 1, true));
        client_close(alice);
        stage_restart(&s, false);
        alice = stage_client(&s, "alice");
        CU_ASSERT_TRUE(client_gets(s.to, "t/r", e.bytes, e.n));
        CU_ASSERT_TRUE(is_retained(&e));
        strike();
    }
}

/* Looked at again, they are held against the policy of now, and neither counted as replays nor taken for new. */
static void a_new_policy_reaches_them_too(size_t i)
{
    set_source(i, "");
    sealed e = reading();
    CU_ASSERT_TRUE(stage_passes(&s, alice, "t/r", &e, 1, true));
    CU_ASSERT_TRUE(is_retained(&e));
    broker_write(&s.b, "policy.conf",
                 "enroll = \"closed\"; topics = ( { filter = \"t/#\"; signers = [ \"bob\" ]; } );\n");
    broker_reload(&s.b);
    CU_ASSERT_TRUE(broker_logs(&s.b, "pep: reloaded"));
    CU_ASSERT_TRUE(is_retained(NULL));
    CU_ASSERT_TRUE(stage_logged(&s, PEP_SIGNER_NOT_ALLOWED, "late", "t/r"));
    CU_ASSERT_FALSE(broker_logged(&s.b, "pep: refused replayed"));
    strike();
}

static void a_new_policy_reaches_them(void)
{
    for (size_t i = 0; i < 2; i++)
        a_new_policy_reaches_them_too(i);
}

static void wrong_ones_do_not_replace_them(void)
{
    set(CONF_GUARDED);
    sealed e = reading();
    sealed plain = case_of(PEP_PLAIN_PAYLOAD)->make(&s.c, "t/r", 0);
    sealed tampered = case_of(PEP_BAD_SIGNATURE)->make(&s.c, "t/r", 0);
    CU_ASSERT_TRUE(stage_passes(&s, alice, "t/r", &e, 1, true));
    for (int qos = 0; qos <= 2; qos++) {
        CU_ASSERT_TRUE(stage_refuses(&s, alice, "t/r", &plain, qos, true, PEP_PLAIN_PAYLOAD));
        CU_ASSERT_TRUE(stage_refuses(&s, alice, "t/r", &tampered, qos, true, PEP_BAD_SIGNATURE));
    }
    CU_ASSERT_TRUE(is_retained(&e));
    strike();
}

/* An empty retained message is MQTT's way to clear, and nobody signed it. */
static void a_plain_clear_is_refused(void)
{
    set(CONF_GUARDED);
    sealed e = reading(), nothing = {.n = 0};
    CU_ASSERT_TRUE(stage_passes(&s, alice, "t/r", &e, 1, true));
    for (int qos = 0; qos <= 2; qos++)
        CU_ASSERT_TRUE(stage_refuses(&s, alice, "t/r", &nothing, qos, true, PEP_EMPTY_PAYLOAD));
    CU_ASSERT_TRUE(is_retained(&e));
    strike();
}

static void a_signed_clear_clears(void)
{
    set(CONF_GUARDED);
    for (int qos = 0; qos <= 2; qos++) {
        sealed e = reading(), c = clear();
        CU_ASSERT_TRUE(stage_passes(&s, alice, "t/r", &e, qos, true));
        CU_ASSERT_EQUAL(client_publish(alice, "t/r", c.bytes, c.n, qos, true), REASON_SUCCESS);
        CU_ASSERT_TRUE(client_gets(s.to, "t/r", NULL, 0));
        CU_ASSERT_TRUE(is_retained(NULL));
    }
    strike();
}

static void clears_are_judged_like_all_others(void)
{
    set(CONF_GUARDED);
    sealed e = reading(), c = clear();
    sealed by_bob = seal((seal_spec){.from = &s.c.bob, .topic = "t/r", .flags = PEP_FLAG_CLEAR});
    sealed elsewhere = seal((seal_spec){.from = &s.c.alice, .topic = "t/other", .flags = PEP_FLAG_CLEAR});
    sealed forged = clear();
    forged.bytes[forged.n - 1] ^= 1;
    CU_ASSERT_TRUE(stage_passes(&s, alice, "t/r", &e, 1, true));
    CU_ASSERT_TRUE(stage_refuses(&s, alice, "t/r", &c, 1, false, PEP_MISPLACED_FLAG));
    CU_ASSERT_TRUE(stage_refuses(&s, alice, "t/r", &by_bob, 1, true, PEP_SIGNER_NOT_ALLOWED));
    CU_ASSERT_TRUE(stage_refuses(&s, alice, "t/r", &elsewhere, 1, true, PEP_WRONG_TOPIC));
    CU_ASSERT_TRUE(stage_refuses(&s, alice, "t/r", &forged, 1, true, PEP_BAD_SIGNATURE));
    CU_ASSERT_TRUE(is_retained(&e));
    strike();
}

static void unprotected_topics_clear_as_ever(void)
{
    set(CONF_GUARDED);
    CU_ASSERT_EQUAL(client_publish(alice, "u", "x", 1, 1, true), REASON_SUCCESS);
    CU_ASSERT_TRUE(client_gets(s.to, "u", "x", 1));
    CU_ASSERT_EQUAL(client_publish(alice, "u", NULL, 0, 1, true), REASON_SUCCESS);
    CU_ASSERT_TRUE(client_gets(s.to, "u", NULL, 0));
    client *late = stage_client(&s, "late");
    client_subscribe(late, "#", 2);
    CU_ASSERT_TRUE(client_fence(late, late));
    client_close(late);
    strike();
}

static const unit_test TESTS[] = {
    {"valid ones are kept", valid_ones_are_kept},
    {"they survive a restart", they_survive_a_restart},
    {"a new policy reaches them", a_new_policy_reaches_them},
    {"wrong ones do not replace them", wrong_ones_do_not_replace_them},
    {"a plain clear is refused", a_plain_clear_is_refused},
    {"a signed clear clears", a_signed_clear_clears},
    {"clears are judged like all others", clears_are_judged_like_all_others},
    {"unprotected topics clear as ever", unprotected_topics_clear_as_ever},
};
UNIT_MAIN("retained", TESTS)
