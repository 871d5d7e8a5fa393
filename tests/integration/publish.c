/*
 * Promise: what a rule allows arrives and opens, what no rule names is untouched, observing lets all pass, and every
 * reason is counted. That nothing else arrives on a protected topic is what doors.c tries.
 */
#include "stage.h"
#include "tests/unit/unit.h"

#include <string.h>

static stage s;

/* One client at a time may be called alice: a second would take the first one's session. */
static client *alice(mqtt_version version)
{
    return client_open((client_spec){.port = s.b.port, .id = "alice", .version = version});
}

static void direct_ones_arrive(void)
{
    stage_set(&s, GUARD_POLICY, CONF_GUARDED);
    pep_record bob;
    pep_error error = {0};
    CU_ASSERT_EQUAL(pep_record_load(&bob, &error, broker_path(&s.b, "records/bob.pub")), PEP_OK);
    client *from = alice(MQTT_3);
    sealed e = seal((seal_spec){.from = &s.c.alice, .topic = "t/a", .to = &bob});
    CU_ASSERT_TRUE(stage_passes(&s, from, "t/a", &e, 1, false));
    CU_ASSERT_TRUE(opens(&s.b, &s.c.alice, &s.c.bob.device, "t/a", e.bytes, e.n));
    CU_ASSERT_FALSE(opens(&s.b, &s.c.alice, &s.c.carol.device, "t/a", e.bytes, e.n));
    client_close(from);
    stage_strike(&s);
}

/* Each case once at QoS 1: one in each counter, and no reason of the gate's without a case. */
static void every_reason_is_counted(void)
{
    stage_set(&s, GUARD_POLICY, CONF_GUARDED);
    client *from = alice(MQTT_3);
    for (size_t i = 0; i < CASE_COUNT; i++)
        CU_ASSERT_TRUE(stage_tries(&s, &CASES[i], from, "t/a"));
    CU_ASSERT_EQUAL(client_publish(from, "$PEP/keys/alice", "x", 1, 1, false), REASON_SUCCESS);
    const long all = PEP_ROTATED_SIGNER - 1; /* without rate-limited */
    CU_ASSERT_EQUAL(client_counter_reaches(s.to, "messages/refused", all), all);
    for (pep_reason reason = PEP_RESERVED_TOPIC; reason <= PEP_ROTATED_SIGNER; reason++) {
        char name[64];
        if (reason == PEP_RATE_LIMITED)
            continue;
        snprintf(name, sizeof(name), "refused/%s", pep_reason_name(reason));
        CU_ASSERT_EQUAL(client_counter_reaches(s.to, name, 1), 1);
    }
    client_close(from);
    stage_strike(&s);
}

/* What the guarded rule forbids is no fault in itself. */
static void a_rule_may_allow_more(void)
{
    stage_set(&s,
              "enroll = \"closed\";\n"
              "topics = ( { filter = \"s/#\"; payload = \"signed\"; record = \"allow\"; signers = [ \"@all\" ]; } );\n"
              "groups = { all = [ \"alice\", \"bob\" ]; };\n",
              CONF_GUARDED);
    client *from = alice(MQTT_3);
    uint64_t in_an_hour_s = pep_now_us() / 1000000 + 3600;
    sealed more[] = {
        seal((seal_spec){.from = &s.c.alice, .topic = "s/a"}),
        seal((seal_spec){.from = &s.c.alice, .topic = "s/a", .signed_only = true}),
        seal((seal_spec){.from = &s.c.alice, .topic = "s/a", .recorded = true}),
        seal((seal_spec){.from = &s.c.alice, .topic = "s/a", .exp_s = in_an_hour_s}),
        seal((seal_spec){.from = &s.c.alice, .topic = "s/a", .plain_n = 4096}),
        seal((seal_spec){.from = &s.c.bob, .topic = "s/a", .seq = 1, .flags = PEP_FLAG_COUNTER}),
        seal((seal_spec){.from = &s.c.bob, .topic = "s/a", .seq = 2, .flags = PEP_FLAG_COUNTER}),
    };
    for (size_t i = 0; i < sizeof(more) / sizeof(more[0]); i++)
        CU_ASSERT_TRUE(stage_passes(&s, from, "s/a", &more[i], 1, false));
    sealed carol = seal((seal_spec){.from = &s.c.carol, .topic = "s/a"});
    sealed again = seal((seal_spec){.from = &s.c.bob, .topic = "s/a", .seq = 2, .flags = PEP_FLAG_COUNTER});
    CU_ASSERT_TRUE(stage_refuses(&s, from, "s/a", &carol, 1, false, PEP_SIGNER_NOT_ALLOWED));
    CU_ASSERT_TRUE(stage_refuses(&s, from, "s/a", &again, 1, false, PEP_REPLAYED));
    client_close(from);
    stage_strike(&s);
}

static void unprotected_topics_are_untouched(void)
{
    static uint8_t large[300000];
    stage_set(&s, GUARD_POLICY, CONF_GUARDED);
    client *from = client_open((client_spec){.port = s.b.port, .id = "anyone", .version = MQTT_5});
    sealed e = seal((seal_spec){.from = &s.c.alice, .topic = "t/a"});
    const struct {
        const void *bytes;
        size_t n;
    } payloads[] = {{NULL, 0}, {"x", 1}, {large, sizeof(large)}, {e.bytes, e.n}};
    for (size_t i = 0; i < sizeof(payloads) / sizeof(payloads[0]); i++)
        for (int qos = 0; qos <= 2; qos++) {
            CU_ASSERT_EQUAL(client_publish(from, "u", payloads[i].bytes, payloads[i].n, qos, false), REASON_SUCCESS);
            CU_ASSERT_TRUE(client_gets(s.to, "u", payloads[i].bytes, payloads[i].n));
        }
    client_close(from);
    from = alice(MQTT_3);
    CU_ASSERT_TRUE(stage_passes(&s, from, "t/a", &e, 1, false));
    CU_ASSERT_EQUAL(stage_count(&s, "verifications/count", 1), 1);
    CU_ASSERT_EQUAL(client_counter(s.to, "messages/refused"), 0);
    client_close(from);
    stage_strike(&s);
}

/* Observing is for rolling out: all passes, and what would have been refused is counted. */
static void observing_lets_pass_and_counts(void)
{
    stage_set(
        &s,
        "enroll = \"closed\";\n"
        "topics = ( { filter = \"t/#\"; mode = \"observe\"; payload = \"encrypted\"; signers = [ \"*\" ]; },\n"
        "           { filter = \"t/strict\"; mode = \"enforce\"; payload = \"encrypted\"; signers = [ \"*\" ]; });\n",
        CONF_GUARDED);
    client *from = alice(MQTT_5);
    sealed plain = case_of(PEP_PLAIN_PAYLOAD)->make(&s.c, "t/a", 0);
    sealed tampered = case_of(PEP_BAD_SIGNATURE)->make(&s.c, "t/a", 0);
    sealed valid = case_of(PEP_OK)->make(&s.c, "t/a", 0);
    CU_ASSERT_TRUE(stage_passes(&s, from, "t/a", &plain, 0, false));
    CU_ASSERT_TRUE(stage_passes(&s, from, "t/a", &plain, 2, false));
    CU_ASSERT_TRUE(stage_passes(&s, from, "t/a", &tampered, 1, false));
    CU_ASSERT_TRUE(stage_refuses(&s, from, "t/strict", &plain, 1, false, PEP_PLAIN_PAYLOAD));
    CU_ASSERT_TRUE(stage_passes(&s, from, "t/a", &valid, 1, false));
    CU_ASSERT_EQUAL(client_counter_reaches(s.to, "observed/plain-payload", 2), 2);
    CU_ASSERT_EQUAL(client_counter_reaches(s.to, "observed/bad-signature", 1), 1);
    CU_ASSERT_EQUAL(client_counter_reaches(s.to, "refused/plain-payload", 1), 1);
    CU_ASSERT_EQUAL(stage_count(&s, "messages/refused", 1), 1);
    client_close(from);
    stage_strike(&s);
}

static const unit_test TESTS[] = {
    {"direct ones arrive and open for one device", direct_ones_arrive},
    {"every reason is counted", every_reason_is_counted},
    {"a rule may allow more", a_rule_may_allow_more},
    {"unprotected topics are untouched", unprotected_topics_are_untouched},
    {"observing lets pass and counts", observing_lets_pass_and_counts},
};
UNIT_MAIN("publish", TESTS)
