/*
 * Promise: what is retained on a protected topic, or queued for a client that is away, is held against the policy of
 * now, also where Mosquitto looks at it again in the name of its sender (check_retain_source); where no rule is, it is
 * Mosquitto's business alone.
 */
#include "stage.h"
#include "tests/unit/unit.h"

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

/* Looked at again, they are held against the policy of now, and neither counted as replays nor taken for new. */
static void a_new_policy_reaches_them(const char *conf)
{
    set(conf);
    sealed e = reading();
    CU_ASSERT_TRUE(stage_passes(&s, alice, "t/r", &e, 1, true));
    CU_ASSERT_TRUE(is_retained(&e));
    broker_write(&s.b, "policy.conf",
                 "enroll = \"closed\"; topics = ( { filter = \"t/#\"; signers = [ \"bob\" ]; } );\n");
    broker_reload(&s.b);
    CU_ASSERT_TRUE(broker_logs(&s.b, "pep: reloaded"));
    CU_ASSERT_TRUE(is_retained(NULL));
    CU_ASSERT_TRUE(stage_logged(&s, PEP_SIGNER_NOT_ALLOWED, "late", "t/r"));
    CU_ASSERT_FALSE(broker_logged(&s.b, "pep: withheld replayed"));
    strike();
}

static void when_delivered(void)
{
    a_new_policy_reaches_them(CONF_GUARDED "check_retain_source false\n");
}

static void when_their_source_is_checked(void)
{
    a_new_policy_reaches_them(CONF_GUARDED "check_retain_source true\n");
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

#define BEFORE "topics = ();\n"
#define SEEN   GUARD_HEAD("clientid") GUARD_TOPICS(GUARD_RULE("t/#", "observe", ""))

/* What waits for a client that is away when its topic becomes protected: only what would pass is delivered. */
static void queued_ones_are_judged(const char *policy)
{
    stage_set(&s, policy, CONF_GUARDED);
    alice = stage_client(&s, "alice");
    const client_spec away = {.port = s.b.port, .id = "away", .keep_session = true};
    client *receiver = client_open(away);
    client_subscribe(receiver, "#", 2);
    client_close(receiver);
    sealed good = reading(), plain = case_of(PEP_PLAIN_PAYLOAD)->make(&s.c, "t/r", 0);
    for (int qos = 1; qos <= 2; qos++)
        CU_ASSERT_TRUE(stage_passes(&s, alice, "t/r", &plain, qos, false));
    CU_ASSERT_TRUE(stage_passes(&s, alice, "t/r", &good, 1, false));
    broker_write(&s.b, "policy.conf", GUARD_POLICY);
    broker_reload(&s.b);
    CU_ASSERT_TRUE(broker_logs(&s.b, "pep: reloaded"));
    receiver = client_open(away);
    CU_ASSERT_TRUE(client_gets(receiver, "t/r", good.bytes, good.n));
    CU_ASSERT_TRUE(client_fence(receiver, alice));
    CU_ASSERT_TRUE(stage_logged(&s, PEP_PLAIN_PAYLOAD, "away", "t/r"));
    client_close(receiver);
    client_close(client_open((client_spec){.port = s.b.port, .id = "away"})); /* ends the session */
    strike();
}

static void queued_before_there_was_a_rule(void)
{
    queued_ones_are_judged(BEFORE);
}

static void queued_while_observed(void)
{
    queued_ones_are_judged(SEEN);
}

/* What lay under $PEP before the plugin was loaded would look as if it came from it. (serve.c has the records' topics.)
 */
static void what_was_planted_is_not_delivered(void)
{
    static const char *const topics[] = {"$PEP/rejected/alice", "$PEP/keys/ghost", "$PEP"};
    stage_prepare(&s, GUARD_POLICY, CONF_BASE CONF_ACL "persistence true\npersistence_location @/\n");
    CU_ASSERT_TRUE(broker_start(&s.b));
    client *mallory = stage_client(&s, "mallory");
    for (size_t i = 0; i < sizeof(topics) / sizeof(topics[0]); i++)
        CU_ASSERT_EQUAL(client_publish(mallory, topics[i], "{}", 2, 0, true), REASON_SUCCESS);
    CU_ASSERT_EQUAL(client_publish(mallory, FENCE_TOPIC, "there", 5, 1, false), REASON_SUCCESS); /* so they are */
    client_close(mallory);
    broker_end(&s.b);
    broker_write(&s.b, "mosquitto.conf", CONF_GUARDED "persistence true\npersistence_location @/\n");
    stage_open(&s);
    alice = stage_client(&s, "alice");
    client_subscribe(alice, FENCE_TOPIC, 1);
    for (size_t i = 0; i < sizeof(topics) / sizeof(topics[0]); i++)
        client_subscribe(alice, topics[i], 1);
    CU_ASSERT_TRUE(client_fence(alice, s.to));
    CU_ASSERT_TRUE(client_gets_fence(s.to));
    strike();
}

static const unit_test TESTS[] = {
    {"a new policy reaches them when they are delivered", when_delivered},
    {"and when their source is checked", when_their_source_is_checked},
    {"unprotected topics clear as ever", unprotected_topics_clear_as_ever},
    {"queued before there was a rule", queued_before_there_was_a_rule},
    {"queued while observed", queued_while_observed},
    {"what was planted under $PEP", what_was_planted_is_not_delivered},
};
UNIT_MAIN("retained", TESTS)
