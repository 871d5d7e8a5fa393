/*
 * Promise: one signature verification a message, whatever the door, though most doors have two hooks; none where a
 * cheaper check has already refused.
 */
#include "stage.h"
#include "tests/unit/unit.h"

#include <stdio.h>

static stage s;
static client *alice;
static long accepted, verified;

static void set(const char *conf)
{
    accepted = verified = 0;
    stage_set(&s, GUARD_POLICY, conf);
    alice = stage_client(&s, "alice");
}

static void strike(void)
{
    client_close(alice);
    stage_strike(&s);
}

/* One more message was accepted, and so many more signatures were verified. */
static bool counted(long more)
{
    verified += more;
    long count = stage_count(&s, "verifications/count", ++accepted);
    if (count != verified)
        fprintf(stderr, "%ld verifications, expected %ld\n", count, verified);
    return count == verified;
}

static sealed valid(const char *topic, unsigned flags)
{
    return seal((seal_spec){.from = &s.c.alice, .topic = topic, .flags = flags});
}

static void one_a_publish(void)
{
    set(CONF_GUARDED);
    for (int qos = 0; qos <= 2; qos++) {
        sealed e = valid("t/a", 0);
        CU_ASSERT_TRUE(stage_passes(&s, alice, "t/a", &e, qos, false));
        CU_ASSERT_TRUE(counted(1));
    }
    strike();
}

static void one_a_retained_message_and_its_clear(void)
{
    set(CONF_GUARDED);
    sealed e = valid("t/a", 0), clear = valid("t/a", PEP_FLAG_CLEAR);
    CU_ASSERT_TRUE(stage_passes(&s, alice, "t/a", &e, 1, true));
    CU_ASSERT_TRUE(counted(1));
    CU_ASSERT_EQUAL(client_publish(alice, "t/a", clear.bytes, clear.n, 1, true), REASON_SUCCESS);
    CU_ASSERT_TRUE(client_gets(s.to, "t/a", NULL, 0));
    CU_ASSERT_TRUE(counted(1));
    strike();
}

/* A retained message is judged again before each delivery, but its signature is not verified again. */
static void none_a_look_at_a_retained_message(void)
{
    set(CONF_GUARDED "check_retain_source true\n");
    sealed e = valid("t/a", 0), next = valid("t/b", 0);
    CU_ASSERT_TRUE(stage_passes(&s, alice, "t/a", &e, 1, true));
    CU_ASSERT_TRUE(counted(1));
    client *late = stage_client(&s, "late");
    client_subscribe(late, "t/#", 1);
    CU_ASSERT_TRUE(client_gets(late, "t/a", e.bytes, e.n));
    client_close(late);
    CU_ASSERT_TRUE(stage_passes(&s, alice, "t/b", &next, 1, false));
    CU_ASSERT_TRUE(counted(1));
    strike();
}

static void one_a_will(void)
{
    set(CONF_GUARDED);
    client_close(alice);
    sealed will = valid("t/w", PEP_FLAG_WILL);
    wire_spec with_will = {.port = s.b.port, .id = "alice", .will_topic = "t/w", .will = will.bytes, .will_n = will.n};
    CU_ASSERT_TRUE(stage_passes_will(&s, with_will));
    CU_ASSERT_TRUE(counted(1));
    alice = stage_client(&s, "alice");
    strike();
}

/* Until the second hook sees it, what was sealed as a will could be one: its signature is verified before. */
static bool is_verified(pep_reason reason)
{
    return reason == PEP_BAD_SIGNATURE || reason == PEP_MISPLACED_FLAG;
}

static void one_a_refused_signature_and_none_before_it(void)
{
    set(CONF_GUARDED);
    for (size_t i = 0; i < CASE_COUNT; i++) {
        const seal_case *k = &CASES[i];
        if (k->reason == PEP_OK || k->order != CASE_ALONE)
            continue;
        sealed bad = k->make(&s.c, "t/a", 0), good = valid("t/a", 0);
        CU_ASSERT_TRUE(stage_refuses(&s, alice, "t/a", &bad, 1, false, k->reason));
        CU_ASSERT_TRUE(stage_passes(&s, alice, "t/a", &good, 1, false));
        verified += is_verified(k->reason);
        accepted++;
        verified++;
    }
    sealed last = valid("t/a", 0);
    CU_ASSERT_TRUE(stage_passes(&s, alice, "t/a", &last, 1, false));
    CU_ASSERT_TRUE(counted(1));
    strike();
}

/* What stands in the window with its digest was verified when it came first. */
static void none_for_a_redelivery(void)
{
    set(CONF_GUARDED);
    sealed e = valid("t/a", 0);
    CU_ASSERT_TRUE(stage_passes(&s, alice, "t/a", &e, 1, false));
    CU_ASSERT_TRUE(stage_passes(&s, alice, "t/a", &e, 1, false));
    accepted++;
    CU_ASSERT_TRUE(counted(1));
    strike();
}

static void one_a_bridged_message(void)
{
    upstream up;
    accepted = verified = 0;
    stage_set_bridged(&s, &up, "enroll = \"closed\"; topics = ( { filter = \"t/#\"; signers = [ \"*\" ]; } );\n",
                      "topic t/# in 2\n");
    for (int qos = 0; qos <= 2; qos++) {
        sealed e = valid("t/a", 0);
        CU_ASSERT_EQUAL(client_publish(up.from, "t/a", e.bytes, e.n, qos, false), REASON_SUCCESS);
        CU_ASSERT_TRUE(client_gets(s.to, "t/a", e.bytes, e.n));
        CU_ASSERT_TRUE(counted(1));
    }
    stage_strike_bridged(&s, &up);
}

static const unit_test TESTS[] = {
    {"one a publish", one_a_publish},
    {"one a retained message and its clear", one_a_retained_message_and_its_clear},
    {"one a look at a retained message", none_a_look_at_a_retained_message},
    {"one a will", one_a_will},
    {"one a refused signature, and none before it", one_a_refused_signature_and_none_before_it},
    {"none for a redelivery", none_for_a_redelivery},
    {"one a bridged message", one_a_bridged_message},
};
UNIT_MAIN("count", TESTS)
