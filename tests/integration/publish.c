/*
 * Doors: publish at QoS 0, 1 and 2 in MQTT 3.1.1 and 5.0, topic alias, topics that are not protected, $PEP/.
 * Promise: on a protected topic only a valid envelope arrives, every reason is given for what deserves it, and the
 * sender stays connected.
 */
#include "stage.h"
#include "tests/unit/unit.h"
#include "wire.h"

#include <string.h>

static stage s;

static const mqtt_version VERSIONS[] = {MQTT_3, MQTT_5};

/* One client at a time may be called alice: a second would take the first one's session. */
static client *alice(mqtt_version version)
{
    return client_open((client_spec){.port = s.b.port, .id = "alice", .version = version});
}

static void valid_ones_arrive(void)
{
    stage_set(&s, GUARD_POLICY, CONF_GUARDED);
    for (size_t v = 0; v < 2; v++) {
        client *from = alice(VERSIONS[v]);
        for (int qos = 0; qos <= 2; qos++) {
            sealed e = seal((seal_spec){.from = &s.c.alice, .topic = "t/a"});
            CU_ASSERT_TRUE(stage_passes(&s, from, "t/a", &e, qos, false));
            CU_ASSERT_TRUE(opens(&s.b, &s.c.alice, &s.c.bob.device, "t/a", e.bytes, e.n));
        }
        CU_ASSERT_TRUE(client_fence(s.to, from));
        client_close(from);
    }
    stage_strike(&s);
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

static void try_case(const seal_case *k, client *from, int qos)
{
    if (k->twice) {
        s.c.seq = next_seq();
        sealed first = k->make(&s.c, "t/a", 0);
        CU_ASSERT_TRUE(stage_passes(&s, from, "t/a", &first, qos, false));
    }
    sealed e = k->make(&s.c, "t/a", 0);
    bool good = k->reason == PEP_OK ? stage_passes(&s, from, "t/a", &e, qos, false)
                                    : stage_refuses(&s, from, "t/a", &e, qos, false, k->reason);
    CU_ASSERT_TRUE(good);
}

static void every_reason_at_every_qos(void)
{
    stage_set(&s, GUARD_POLICY, CONF_GUARDED);
    for (size_t v = 0; v < 2; v++) {
        client *from = alice(VERSIONS[v]);
        for (size_t i = 0; i < CASE_COUNT; i++)
            for (int qos = 0; qos <= 2; qos++)
                try_case(&CASES[i], from, qos);
        client_close(from);
    }
    stage_strike(&s);
}

/* Each case once at QoS 1: one in each counter, and no reason of the gate's without a case. */
static void every_reason_is_counted(void)
{
    stage_set(&s, GUARD_POLICY, CONF_GUARDED);
    client *from = alice(MQTT_3);
    for (size_t i = 0; i < CASE_COUNT; i++)
        try_case(&CASES[i], from, 1);
    CU_ASSERT_EQUAL(client_publish(from, "$PEP/keys/alice", "x", 1, 1, false), REASON_SUCCESS);
    long refused = client_counter_reaches(s.to, "messages/refused", PEP_BAD_SIGNATURE);
    CU_ASSERT_EQUAL(refused, PEP_BAD_SIGNATURE);
    for (pep_reason reason = PEP_RESERVED_TOPIC; reason <= PEP_BAD_SIGNATURE; reason++) {
        char name[64];
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

/* An alias stands for the topic: it must not lead around the rule. */
static void an_alias_leads_nowhere_else(void)
{
    stage_set(&s, GUARD_POLICY, CONF_GUARDED);
    wire w = wire_open((wire_spec){.port = s.b.port, .version = MQTT_5, .id = "alice"});
    sealed e = seal((seal_spec){.from = &s.c.alice, .topic = "t/a"});
    int reason = -1;
    wire_publish(&w, (wire_message){.topic = "t/a", .bytes = e.bytes, .n = e.n, .qos = 1, .mid = 1, .alias = 1});
    CU_ASSERT_TRUE(wire_answer(&w, WIRE_PUBACK, 1, &reason));
    CU_ASSERT_EQUAL(reason, REASON_SUCCESS);
    CU_ASSERT_TRUE(client_gets(s.to, "t/a", e.bytes, e.n));
    wire_publish(&w, (wire_message){.topic = "", .bytes = "plain", .n = 5, .qos = 1, .mid = 2, .alias = 1});
    CU_ASSERT_TRUE(wire_answer(&w, WIRE_PUBACK, 2, &reason));
    CU_ASSERT_EQUAL(reason, REASON_NOT_AUTHORIZED);
    CU_ASSERT_TRUE(client_fence(s.to, s.to));
    CU_ASSERT_TRUE(stage_logged(&s, PEP_PLAIN_PAYLOAD, "alice", "t/a"));
    wire_drop(&w);
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

/* A client's writing to $PEP/ is refused even where an ACL would let it pass, an envelope too. */
static void reserved_topics_are_the_plugins(void)
{
    stage_set(&s, GUARD_POLICY, CONF_GUARDED);
    client_subscribe(s.to, "$PEP/#", 2);
    client *from = alice(MQTT_5);
    sealed e = seal((seal_spec){.from = &s.c.alice, .topic = "t/a"});
    for (int qos = 0; qos <= 2; qos++) {
        CU_ASSERT_TRUE(stage_refuses(&s, from, "$PEP/x", &e, qos, qos == 1, PEP_RESERVED_TOPIC));
        CU_ASSERT_TRUE(stage_refuses(&s, from, "$PEP/keys/alice", &e, qos, qos == 1, PEP_RESERVED_TOPIC));
    }
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
    {"valid ones arrive and open, at every QoS in both versions", valid_ones_arrive},
    {"direct ones arrive and open for one device", direct_ones_arrive},
    {"every reason at every QoS in both versions", every_reason_at_every_qos},
    {"every reason is counted", every_reason_is_counted},
    {"a rule may allow more", a_rule_may_allow_more},
    {"an alias leads nowhere else", an_alias_leads_nowhere_else},
    {"unprotected topics are untouched", unprotected_topics_are_untouched},
    {"reserved topics are the plugin's", reserved_topics_are_the_plugins},
    {"observing lets pass and counts", observing_lets_pass_and_counts},
};
UNIT_MAIN("publish", TESTS)
