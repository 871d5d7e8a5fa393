/*
 * Door: wills, which the broker sends in a client's name, and which only the access check sees.
 * Promise: a will on a protected topic is checked like any message, was sealed as a will, and is sent once.
 */
#include "stage.h"
#include "tests/unit/unit.h"
#include "wire.h"

#include <string.h>

static stage s;

static wire_spec with_will(const char *topic, const sealed *will)
{
    return (wire_spec){.port = s.b.port, .id = "alice", .will_topic = topic, .will = will->bytes, .will_n = will->n};
}

static void die(wire_spec spec)
{
    wire w = wire_open(spec);
    wire_drop(&w);
}

static bool will_passes(wire_spec spec)
{
    die(spec);
    return client_gets(s.to, spec.will_topic, spec.will, spec.will_n);
}

static bool will_is_refused(wire_spec spec, pep_reason reason)
{
    char line[256];
    snprintf(line, sizeof(line), "pep: refused %s: client alice topic %s", pep_reason_name(reason), spec.will_topic);
    broker_mark(&s.b);
    die(spec);
    bool refused = broker_logs(&s.b, line);
    if (!refused)
        fprintf(stderr, "not refused as %s\n", pep_reason_name(reason));
    return client_fence(s.to, s.to) && refused;
}

static sealed sealed_will(void)
{
    return case_of(PEP_OK)->make(&s.c, "t/w", PEP_FLAG_WILL);
}

static void valid_wills_are_sent(void)
{
    stage_set(&s, GUARD_POLICY, CONF_GUARDED);
    for (mqtt_version version = MQTT_3; version <= MQTT_5; version++)
        for (int qos = 0; qos <= 2; qos++) {
            sealed will = sealed_will();
            wire_spec spec = with_will("t/w", &will);
            spec.version = version;
            spec.will_qos = qos;
            CU_ASSERT_TRUE(will_passes(spec));
            CU_ASSERT_TRUE(opens(&s.b, &s.c.alice, &s.c.bob.device, "t/w", will.bytes, will.n));
        }
    CU_ASSERT_TRUE(client_fence(s.to, s.to));
    CU_ASSERT_EQUAL(client_counter_reaches(s.to, "messages/accepted", 6), 6);
    stage_strike(&s);
}

/* Everything else that can be wrong, in the place of the will. */
static void every_reason_in_a_will(void)
{
    stage_set(&s, GUARD_POLICY, CONF_GUARDED);
    for (size_t i = 0; i < CASE_COUNT; i++) {
        const seal_case *k = &CASES[i];
        if (k->reason == PEP_OK || k->reason == PEP_MISPLACED_FLAG)
            continue;
        s.c.seq = next_seq();
        sealed first = k->make(&s.c, "t/w", PEP_FLAG_WILL);
        sealed will = k->make(&s.c, "t/w", PEP_FLAG_WILL);
        if (k->twice)
            CU_ASSERT_TRUE(will_passes(with_will("t/w", &first)));
        CU_ASSERT_TRUE(will_is_refused(with_will("t/w", &will), k->reason));
    }
    sealed will = sealed_will();
    CU_ASSERT_TRUE(will_is_refused(with_will("$PEP/x", &will), PEP_RESERVED_TOPIC));
    stage_strike(&s);
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
    CU_ASSERT_TRUE(will_passes(with_will("t/w", &will)));
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
    CU_ASSERT_TRUE(will_passes(with_will("t/w", &will)));
    client *alice = stage_client(&s, "alice");
    CU_ASSERT_TRUE(stage_passes(&s, alice, "t/a", &before, 1, false));
    client_close(alice);
    stage_strike(&s);
}

static void a_will_is_sent_once(void)
{
    stage_set(&s, GUARD_POLICY, CONF_GUARDED);
    sealed older = sealed_will(), will = sealed_will(), newer = sealed_will();
    CU_ASSERT_TRUE(will_passes(with_will("t/w", &will)));
    CU_ASSERT_TRUE(will_is_refused(with_will("t/w", &will), PEP_REPLAYED));
    CU_ASSERT_TRUE(will_is_refused(with_will("t/w", &older), PEP_REPLAYED));
    CU_ASSERT_TRUE(will_passes(with_will("t/w", &newer)));
    stage_restart(&s, true);
    CU_ASSERT_TRUE(will_is_refused(with_will("t/w", &newer), PEP_REPLAYED));
    stage_strike(&s);
}

/* An envelope that says "I am gone" is nothing that a client who is there may publish. */
static void a_will_is_no_message(void)
{
    stage_set(&s, GUARD_POLICY, CONF_GUARDED);
    client *alice = client_open((client_spec){.port = s.b.port, .id = "alice", .version = MQTT_5});
    for (int qos = 0; qos <= 2; qos++) {
        sealed will = sealed_will();
        CU_ASSERT_TRUE(stage_refuses(&s, alice, "t/w", &will, qos, qos == 2, PEP_MISPLACED_FLAG));
    }
    client_close(alice);
    stage_strike(&s);
}

static void retained_wills(void)
{
    stage_set(&s, GUARD_POLICY, CONF_GUARDED);
    sealed will = sealed_will();
    wire_spec spec = with_will("t/w", &will);
    spec.will_retain = true;
    CU_ASSERT_TRUE(will_passes(spec));
    client *late = stage_client(&s, "late");
    client_subscribe(late, "t/#", 1);
    CU_ASSERT_TRUE(client_gets(late, "t/w", will.bytes, will.n));
    client_close(late);
    stage_strike(&s);
}

static wire_spec delayed(wire_spec spec)
{
    spec.version = MQTT_5;
    spec.keep_session = true;
    spec.will_delay_s = 1;
    return spec;
}

static void delayed_wills(void)
{
    stage_set(&s, GUARD_POLICY, CONF_GUARDED);
    sealed will = sealed_will();
    sealed plain = case_of(PEP_PLAIN_PAYLOAD)->make(&s.c, "t/w", 0);
    CU_ASSERT_TRUE(will_passes(delayed(with_will("t/w", &will))));
    CU_ASSERT_TRUE(will_is_refused(delayed(with_will("t/w", &plain)), PEP_PLAIN_PAYLOAD));
    stage_strike(&s);
}

static void unprotected_wills_are_untouched(void)
{
    stage_set(&s, GUARD_POLICY, CONF_GUARDED);
    sealed plain = case_of(PEP_PLAIN_PAYLOAD)->make(&s.c, "u", 0);
    CU_ASSERT_TRUE(will_passes(with_will("u", &plain)));
    stage_strike(&s);
}

static const unit_test TESTS[] = {
    {"valid wills are sent, at every QoS in both versions", valid_wills_are_sent},
    {"every reason in a will", every_reason_in_a_will},
    {"a will outlives newer messages", a_will_outlives_newer_messages},
    {"a will may be older than a message", a_will_may_be_older_than_a_message},
    {"messages go on after a will", messages_go_on_after_a_will},
    {"a will is sent once", a_will_is_sent_once},
    {"a will is no message", a_will_is_no_message},
    {"retained wills", retained_wills},
    {"delayed wills", delayed_wills},
    {"unprotected wills are untouched", unprotected_wills_are_untouched},
};
UNIT_MAIN("wills", TESTS)
