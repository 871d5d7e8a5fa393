/*
 * Promise: a bridge is no second chance: what came in through it or elsewhere does not come in again through the other.
 */
#include "stage.h"
#include "tests/unit/unit.h"

/* No bind: what comes through a bridge has no client of its own. */
#define BRIDGE_POLICY GUARD_HEAD("none") GUARD_TOPICS(GUARD_RULE("t/#", "enforce", ""))

static upstream up;
static stage s;

static void set(void)
{
    stage_set_bridged(&s, &up, BRIDGE_POLICY, "topic t/# in 2\n");
}

static void strike(void)
{
    stage_strike_bridged(&s, &up);
}

static bool passes(const sealed *e, int qos)
{
    return client_publish(up.from, "t/a", e->bytes, e->n, qos, false) == REASON_SUCCESS &&
           client_gets(s.to, "t/a", e->bytes, e->n) && client_fence(s.to, up.from);
}

static bool is_refused(const sealed *e, int qos, pep_reason reason)
{
    broker_mark(&s.b);
    return client_publish(up.from, "t/a", e->bytes, e->n, qos, false) == REASON_SUCCESS &&
           client_fence(s.to, up.from) && stage_logged(&s, reason, BRIDGE_CLIENT, "t/a");
}

static void wills_come_through_once(void)
{
    set();
    sealed will = case_of(PEP_OK)->make(&s.c, "t/a", PEP_FLAG_WILL);
    CU_ASSERT_TRUE(passes(&will, 1));
    CU_ASSERT_TRUE(is_refused(&will, 0, PEP_REPLAYED));
    strike();
}

/* What was accepted at a client's door is a replay at the bridge's, and the other way round. */
static void a_bridge_is_no_second_chance(void)
{
    set();
    client *near = stage_client(&s, "alice");
    sealed first = case_of(PEP_OK)->make(&s.c, "t/a", 0), second = case_of(PEP_OK)->make(&s.c, "t/a", 0);
    CU_ASSERT_TRUE(stage_passes(&s, near, "t/a", &first, 1, false));
    CU_ASSERT_TRUE(is_refused(&first, 1, PEP_REPLAYED));
    CU_ASSERT_TRUE(passes(&second, 1));
    CU_ASSERT_TRUE(stage_refuses(&s, near, "t/a", &second, 1, false, PEP_REPLAYED));
    client_close(near);
    strike();
}

static const unit_test TESTS[] = {
    {"wills come through once", wills_come_through_once},
    {"a bridge is no second chance", a_bridge_is_no_second_chance},
};
UNIT_MAIN("bridge", TESTS)
