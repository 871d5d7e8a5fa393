/*
 * Door: inbound bridges, whose messages only the MESSAGE event sees.
 * Promise: a bridge is no way around the gate, with and without a prefix.
 */
#include "stage.h"
#include "tests/unit/unit.h"

/* No bind: what comes through a bridge has no client of its own. */
#define BRIDGE_POLICY                                                                                                  \
    "enroll = \"closed\";\n"                                                                                           \
    "topics = ( { filter = \"t/#\"; mode = \"enforce\"; payload = \"encrypted\"; max_age = \"30s\";\n"                 \
    "             will_max_age = \"1h\"; max_size = \"2k\"; record = \"deny\";\n"                                      \
    "             signers = [ \"alice\", \"carol\", \"old\" ]; },\n"                                                   \
    "           { filter = \"site/t/#\"; mode = \"enforce\"; payload = \"encrypted\"; signers = [ \"alice\" ];\n"      \
    "             prefix = \"site/\"; } );\n"

static upstream up;
static stage s;

static void set(const char *topics)
{
    stage_set_bridged(&s, &up, BRIDGE_POLICY, topics);
}

static void strike(void)
{
    stage_strike_bridged(&s, &up);
}

static bool passes(const char *topic, const char *arrives_on, const sealed *e, int qos)
{
    return client_publish(up.from, topic, e->bytes, e->n, qos, false) == REASON_SUCCESS &&
           client_gets(s.to, arrives_on, e->bytes, e->n) && client_fence(s.to, up.from);
}

static bool is_refused(const char *topic, const char *arrives_on, const sealed *e, int qos, pep_reason reason)
{
    broker_mark(&s.b);
    return client_publish(up.from, topic, e->bytes, e->n, qos, false) == REASON_SUCCESS &&
           client_fence(s.to, up.from) && stage_logged(&s, reason, BRIDGE_CLIENT, arrives_on);
}

static void valid_ones_come_through(void)
{
    set("topic t/# in 2\n");
    for (int qos = 0; qos <= 2; qos++) {
        sealed e = case_of(PEP_OK)->make(&s.c, "t/a", 0);
        CU_ASSERT_TRUE(passes("t/a", "t/a", &e, qos));
        CU_ASSERT_TRUE(opens(&s.b, &s.c.alice, &s.c.bob.device, "t/a", e.bytes, e.n));
    }
    strike();
}

/* A will comes through a bridge as a message, so its flag is no error there; and nobody is bound. */
static bool is_a_case_here(const seal_case *k)
{
    return k->reason != PEP_OK && k->reason != PEP_MISPLACED_FLAG && k->reason != PEP_UNBOUND_CLIENT;
}

static void every_reason_through_a_bridge(void)
{
    set("topic t/# in 2\n");
    for (size_t i = 0; i < CASE_COUNT; i++) {
        const seal_case *k = &CASES[i];
        if (!is_a_case_here(k))
            continue;
        sealed first = k->make(&s.c, "t/a", 0), e = k->make(&s.c, "t/a", 0);
        if (k->twice)
            CU_ASSERT_TRUE(passes("t/a", "t/a", &first, 1));
        CU_ASSERT_TRUE(is_refused("t/a", "t/a", &e, (int)(i % 3), k->reason));
    }
    strike();
}

static void wills_come_through_once(void)
{
    set("topic t/# in 2\n");
    sealed will = case_of(PEP_OK)->make(&s.c, "t/a", PEP_FLAG_WILL);
    CU_ASSERT_TRUE(passes("t/a", "t/a", &will, 1));
    CU_ASSERT_TRUE(is_refused("t/a", "t/a", &will, 0, PEP_REPLAYED));
    strike();
}

/* What was accepted at a client's door is a replay at the bridge's, and the other way round. */
static void a_bridge_is_no_second_chance(void)
{
    set("topic t/# in 2\n");
    client *near = stage_client(&s, "alice");
    sealed first = case_of(PEP_OK)->make(&s.c, "t/a", 0), second = case_of(PEP_OK)->make(&s.c, "t/a", 0);
    CU_ASSERT_TRUE(stage_passes(&s, near, "t/a", &first, 1, false));
    CU_ASSERT_TRUE(is_refused("t/a", "t/a", &first, 1, PEP_REPLAYED));
    CU_ASSERT_TRUE(passes("t/a", "t/a", &second, 1));
    CU_ASSERT_TRUE(stage_refuses(&s, near, "t/a", &second, 1, false, PEP_REPLAYED));
    client_close(near);
    strike();
}

/* The bridge puts site/ in front; the rule takes it away before it compares with the signed topic. */
static void a_prefix_is_removed_where_the_rule_says_so(void)
{
    set("topic t/# in 2 site/\n");
    sealed e = case_of(PEP_OK)->make(&s.c, "t/a", 0), other = case_of(PEP_OK)->make(&s.c, "t/b", 0);
    sealed plain = case_of(PEP_PLAIN_PAYLOAD)->make(&s.c, "t/a", 0);
    CU_ASSERT_TRUE(passes("t/a", "site/t/a", &e, 1));
    CU_ASSERT_TRUE(is_refused("t/a", "site/t/a", &other, 1, PEP_WRONG_TOPIC));
    CU_ASSERT_TRUE(is_refused("t/a", "site/t/a", &plain, 1, PEP_PLAIN_PAYLOAD));
    strike();
}

/* And where the rule of the topic has no prefix, the signed topic is another one. */
static void a_prefix_is_never_guessed(void)
{
    set("topic a in 2 t/\n");
    sealed e = case_of(PEP_OK)->make(&s.c, "a", 0), whole = case_of(PEP_OK)->make(&s.c, "t/a", 0);
    CU_ASSERT_TRUE(is_refused("a", "t/a", &e, 1, PEP_WRONG_TOPIC));
    CU_ASSERT_TRUE(passes("a", "t/a", &whole, 1));
    strike();
}

static void reserved_topics_are_closed_to_bridges(void)
{
    set("topic x in 2 $PEP/\n");
    client_subscribe(s.to, "$PEP/#", 1);
    sealed e = case_of(PEP_OK)->make(&s.c, "x", 0);
    CU_ASSERT_TRUE(is_refused("x", "$PEP/x", &e, 1, PEP_RESERVED_TOPIC));
    strike();
}

static const unit_test TESTS[] = {
    {"valid ones come through", valid_ones_come_through},
    {"every reason through a bridge", every_reason_through_a_bridge},
    {"wills come through once", wills_come_through_once},
    {"a bridge is no second chance", a_bridge_is_no_second_chance},
    {"a prefix is removed where the rule says so", a_prefix_is_removed_where_the_rule_says_so},
    {"a prefix is never guessed", a_prefix_is_never_guessed},
    {"reserved topics are closed to bridges", reserved_topics_are_closed_to_bridges},
};
UNIT_MAIN("bridge", TESTS)
