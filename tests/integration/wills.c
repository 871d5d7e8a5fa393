/*
 * Promise: a will is sent once, is judged by the age of wills, and neither hinders other messages nor is hindered by
 * them. That no other will comes out is what doors.c tries.
 */
#include "stage.h"
#include "tests/unit/unit.h"

static stage s;

static wire_spec with_will(const char *topic, const sealed *will)
{
    return (wire_spec){.port = s.b.port, .id = "alice", .will_topic = topic, .will = will->bytes, .will_n = will->n};
}

static sealed sealed_will(void)
{
    return case_of(PEP_OK)->make(&s.c, "t/w", PEP_FLAG_WILL);
}

/* A will is sealed before all that the client then says, and must still be good when it is sent. */
static void a_will_outlives_newer_messages(void)
{
    stage_set(&s, GUARD_POLICY, CONF_GUARDED);
    sealed will = sealed_will();
    wire w = wire_open(with_will("t/w", &will));
    for (uint16_t mid = 1; mid <= PEP_REPLAY_WINDOW + 20; mid++) {
        sealed e = case_of(PEP_OK)->make(&s.c, "t/a", 0);
        wire_publish(&w, (wire_message){.topic = "t/a", .bytes = e.bytes, .n = e.n, .qos = 1, .mid = mid});
        CU_ASSERT_TRUE(wire_answer(&w, WIRE_PUBACK, mid, NULL));
        CU_ASSERT_TRUE(client_gets(s.to, "t/a", e.bytes, e.n));
    }
    wire_drop(&w);
    CU_ASSERT_TRUE(client_gets(s.to, "t/w", will.bytes, will.n));
    stage_strike(&s);
}

/* Its age is judged by will_max_age alone: a connection lasts longer than a message is on its way. */
static void a_will_may_be_older_than_a_message(void)
{
    stage_set(&s, GUARD_POLICY, CONF_GUARDED);
    uint64_t ten_minutes_ago = pep_now_us() - 600000000;
    seal_spec spec = {.from = &s.c.alice, .topic = "t/w", .seq = ten_minutes_ago, .flags = PEP_FLAG_WILL};
    sealed will = seal(spec);
    spec.flags = 0;
    sealed message = seal(spec);
    CU_ASSERT_TRUE(stage_passes_will(&s, with_will("t/w", &will)));
    client *alice = stage_client(&s, "alice");
    CU_ASSERT_TRUE(stage_refuses(&s, alice, "t/w", &message, 1, false, PEP_STALE));
    client_close(alice);
    stage_strike(&s);
}

/* And being sent, it must not hinder what was sealed after it. */
static void messages_go_on_after_a_will(void)
{
    stage_set(&s, GUARD_POLICY, CONF_GUARDED);
    sealed before = case_of(PEP_OK)->make(&s.c, "t/a", 0);
    sealed will = sealed_will();
    CU_ASSERT_TRUE(stage_passes_will(&s, with_will("t/w", &will)));
    client *alice = stage_client(&s, "alice");
    CU_ASSERT_TRUE(stage_passes(&s, alice, "t/a", &before, 1, false));
    client_close(alice);
    stage_strike(&s);
}

static void a_will_is_sent_once(void)
{
    stage_set(&s, GUARD_POLICY, CONF_GUARDED);
    sealed older = sealed_will(), will = sealed_will(), newer = sealed_will();
    CU_ASSERT_TRUE(stage_passes_will(&s, with_will("t/w", &will)));
    CU_ASSERT_TRUE(stage_refuses_will(&s, with_will("t/w", &will), PEP_REPLAYED));
    CU_ASSERT_TRUE(stage_refuses_will(&s, with_will("t/w", &older), PEP_REPLAYED));
    CU_ASSERT_TRUE(stage_passes_will(&s, with_will("t/w", &newer)));
    stage_restart(&s, true);
    CU_ASSERT_TRUE(stage_refuses_will(&s, with_will("t/w", &newer), PEP_REPLAYED));
    stage_strike(&s);
}

static void unprotected_wills_are_untouched(void)
{
    stage_set(&s, GUARD_POLICY, CONF_GUARDED);
    sealed plain = case_of(PEP_PLAIN_PAYLOAD)->make(&s.c, "u", 0);
    CU_ASSERT_TRUE(stage_passes_will(&s, with_will("u", &plain)));
    stage_strike(&s);
}

static const unit_test TESTS[] = {
    {"a will outlives newer messages", a_will_outlives_newer_messages},
    {"a will may be older than a message", a_will_may_be_older_than_a_message},
    {"messages go on after a will", messages_go_on_after_a_will},
    {"a will is sent once", a_will_is_sent_once},
    {"unprotected wills are untouched", unprotected_wills_are_untouched},
};
UNIT_MAIN("wills", TESTS)
