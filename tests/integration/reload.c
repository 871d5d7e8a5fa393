/*
 * Promise: SIGHUP swaps policy and records together, or not at all; what was seen and counted stays.
 */
#include "stage.h"
#include "tests/unit/unit.h"

#include <string.h>
#include <unistd.h>

#define POLICY_FOR(filter, signers)                                                                                    \
    "enroll = \"closed\";\n"                                                                                           \
    "topics = ( { filter = \"" filter "\"; mode = \"enforce\"; payload = \"encrypted\"; signers = [ " signers          \
    " ]; } );\n"

static stage s;
static client *from;

static void set(void)
{
    stage_set(&s, POLICY_FOR("t/#", "\"*\""), CONF_GUARDED);
    from = stage_client(&s, "from");
}

static void strike(void)
{
    client_close(from);
    stage_strike(&s);
}

static sealed by(const speaker *who, const char *topic)
{
    return seal((seal_spec){.from = who, .topic = topic});
}

/* The outcome is one line of the log, and the plugin's only one. */
static void reload(const char *outcome)
{
    broker_mark(&s.b);
    broker_reload(&s.b);
    CU_ASSERT_TRUE(broker_logs(&s.b, outcome));
    CU_ASSERT_EQUAL(broker_log_count(&s.b, ": pep: rel"), 1);
}

#define RELOADED  "pep: reloaded"
#define UNCHANGED "pep: reload: nothing changed"
#define FAILED    "pep: reload failed*"

static void a_good_policy_takes_over(void)
{
    set();
    sealed seen = by(&s.c.alice, "t/a");
    CU_ASSERT_TRUE(stage_passes(&s, from, "t/a", &seen, 1, false));
    broker_write(&s.b, "policy.conf", POLICY_FOR("new/#", "\"bob\""));
    reload(RELOADED);
    sealed alice = by(&s.c.alice, "new/a"), bob = by(&s.c.bob, "new/a");
    CU_ASSERT_TRUE(stage_refuses(&s, from, "new/a", &alice, 1, false, PEP_SIGNER_NOT_ALLOWED));
    CU_ASSERT_TRUE(stage_passes(&s, from, "new/a", &bob, 1, false));
    sealed plain = case_of(PEP_PLAIN_PAYLOAD)->make(&s.c, "t/a", 0);
    CU_ASSERT_TRUE(stage_passes(&s, from, "t/a", &plain, 1, false));
    CU_ASSERT_EQUAL(client_counter_reaches(s.to, "policy/loaded", 2), 2);
    CU_ASSERT_EQUAL(client_counter(s.to, "policy/failed"), 0);
    strike();
}

static void what_was_seen_stays(void)
{
    set();
    sealed seen = by(&s.c.alice, "t/a");
    CU_ASSERT_TRUE(stage_passes(&s, from, "t/a", &seen, 0, false));
    broker_write(&s.b, "policy.conf", POLICY_FOR("t/+", "\"alice\""));
    reload(RELOADED);
    CU_ASSERT_TRUE(stage_refuses(&s, from, "t/a", &seen, 0, false, PEP_REPLAYED));
    CU_ASSERT_EQUAL(client_counter_reaches(s.to, "refused/replayed", 1), 1);
    CU_ASSERT_EQUAL(client_counter(s.to, "messages/accepted"), 1);
    strike();
}

/* The old policy stays, one line says why, and a repaired one is taken at the next time. */
static void a_bad_policy_changes_nothing(void)
{
    static const char *const bad[] = {"topics = (", "enroll = \"closed\"; topics = (); surprise = 1;\n",
                                      POLICY_FOR("t/#", "\"@nobody\""), "enroll = \"open\"; topics = ();\n"};
    set();
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        sealed plain = case_of(PEP_PLAIN_PAYLOAD)->make(&s.c, "t/a", 0);
        sealed good = by(&s.c.alice, "t/a");
        broker_write(&s.b, "policy.conf", bad[i]);
        reload(FAILED "policy.conf");
        CU_ASSERT_TRUE(stage_refuses(&s, from, "t/a", &plain, 1, false, PEP_PLAIN_PAYLOAD));
        CU_ASSERT_TRUE(stage_passes(&s, from, "t/a", &good, 1, false));
    }
    broker_write(&s.b, "policy.conf", POLICY_FOR("t/#", "\"bob\""));
    reload(RELOADED);
    sealed alice = by(&s.c.alice, "t/a");
    CU_ASSERT_TRUE(stage_refuses(&s, from, "t/a", &alice, 1, false, PEP_SIGNER_NOT_ALLOWED));
    CU_ASSERT_EQUAL(client_counter_reaches(s.to, "policy/failed", 4), 4);
    CU_ASSERT_EQUAL(client_counter(s.to, "policy/loaded"), 2);
    strike();
}

static void a_vanished_policy_changes_nothing(void)
{
    set();
    CU_ASSERT_EQUAL(unlink(broker_path(&s.b, "policy.conf")), 0);
    reload(FAILED "policy.conf");
    sealed good = by(&s.c.alice, "t/a"), plain = case_of(PEP_PLAIN_PAYLOAD)->make(&s.c, "t/a", 0);
    CU_ASSERT_TRUE(stage_passes(&s, from, "t/a", &good, 1, false));
    CU_ASSERT_TRUE(stage_refuses(&s, from, "t/a", &plain, 1, false, PEP_PLAIN_PAYLOAD));
    strike();
}

static void records_come_and_go(void)
{
    set();
    sealed mallory = by(&s.c.mallory, "t/a"), alice = by(&s.c.alice, "t/a"), late = by(&s.c.alice, "t/a");
    CU_ASSERT_TRUE(stage_passes(&s, from, "t/a", &alice, 1, false));
    CU_ASSERT_TRUE(stage_refuses(&s, from, "t/a", &mallory, 1, false, PEP_UNKNOWN_SIGNER));
    record_add(&s.b, &s.c.mallory.device);
    record_remove(&s.b, "alice");
    reload(RELOADED);
    CU_ASSERT_TRUE(stage_passes(&s, from, "t/a", &mallory, 1, false));
    CU_ASSERT_TRUE(stage_refuses(&s, from, "t/a", &late, 1, false, PEP_UNKNOWN_SIGNER));
    record_add(&s.b, &s.c.alice.device);
    reload(RELOADED);
    CU_ASSERT_TRUE(stage_passes(&s, from, "t/a", &late, 1, false));
    strike();
}

/* A folder that is being copied into must not throw out the devices that are not there yet. */
static void a_damaged_record_changes_nothing(void)
{
    set();
    sealed alice = by(&s.c.alice, "t/a");
    broker_write(&s.b, "records/zoe.pub", "half a record");
    record_remove(&s.b, "alice");
    reload(FAILED "zoe.pub");
    CU_ASSERT_TRUE(stage_passes(&s, from, "t/a", &alice, 1, false));
    strike();
}

/* logrotate sends SIGHUP every night, and mostly for others. */
static void an_unchanged_policy_is_not_swapped(void)
{
    set();
    reload(UNCHANGED);
    reload(UNCHANGED);
    sealed alice = by(&s.c.alice, "t/a");
    CU_ASSERT_TRUE(stage_passes(&s, from, "t/a", &alice, 1, false));
    CU_ASSERT_EQUAL(stage_count(&s, "policy/loaded", 1), 1);
    CU_ASSERT_EQUAL(client_counter(s.to, "policy/failed"), 0);
    strike();
}

/* Whoever reloads is told where that leaves nothing to protect, or nobody to speak. */
static void an_empty_policy_is_warned_of(void)
{
    static const char *const ids[] = {"alice", "bob", "carol", "old", "gone", "turned"};
    set();
    broker_write(&s.b, "policy.conf", "topics = ();\n");
    reload(RELOADED);
    CU_ASSERT_TRUE(broker_logs(&s.b, "pep: the policy has no rules"));
    broker_write(&s.b, "policy.conf", POLICY_FOR("t/#", "\"*\""));
    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++)
        record_remove(&s.b, ids[i]);
    reload(RELOADED);
    CU_ASSERT_TRUE(broker_logs(&s.b, "pep: there are no records"));
    strike();
}

/* Must not end the chain of plugins: here a second one, with a memory of its own, stands behind it. */
static void a_plugin_behind_is_reloaded_too(void)
{
    stage_prepare(&s, POLICY_FOR("t/#", "\"*\""),
                  CONF_GUARDED "plugin @/second.so\nplugin_opt_policy @/policy.conf\n"
                               "plugin_opt_records @/records\nplugin_opt_state @/state-2\n");
    broker_copy(&s.b, "second.so", broker_path(&s.b, "mosquitto_pep.so"));
    stage_open(&s);
    from = stage_client(&s, "from");
    broker_write(&s.b, "policy.conf", POLICY_FOR("t/+", "\"alice\""));
    broker_mark(&s.b);
    broker_reload(&s.b);
    CU_ASSERT_TRUE(broker_logs(&s.b, RELOADED));
    int64_t deadline = monotonic_ms() + patience_ms();
    while (broker_log_count(&s.b, RELOADED) < 2 && remaining_ms(deadline) > 0)
        CU_ASSERT_TRUE(client_fence(s.to, from)); /* each is told when its own thread has read */
    CU_ASSERT_EQUAL(broker_log_count(&s.b, RELOADED), 2);
    strike();
}

/* Nor leave the ACLs unloaded, whatever comes of its own files. */
static void the_acl_file_is_reloaded_too(void)
{
    set();
    client *from_5 = client_open((client_spec){.port = s.b.port, .id = "five", .version = MQTT_5});
    CU_ASSERT_EQUAL(client_publish(from_5, "u", "x", 1, 1, false), REASON_SUCCESS);
    CU_ASSERT_TRUE(client_gets(s.to, "u", "x", 1));
    broker_write(&s.b, "acl", "topic readwrite fence\ntopic readwrite t/#\ntopic read $SYS/#\n");
    broker_write(&s.b, "policy.conf", POLICY_FOR("t/+", "\"alice\""));
    reload(RELOADED);
    CU_ASSERT_EQUAL(client_publish(from_5, "u", "x", 1, 1, false), REASON_NOT_AUTHORIZED);
    broker_write(&s.b, "acl", "topic readwrite fence\ntopic read $SYS/#\n");
    broker_write(&s.b, "policy.conf", "broken");
    reload(FAILED "policy.conf");
    sealed alice = by(&s.c.alice, "t/a");
    CU_ASSERT_EQUAL(client_publish(from_5, "t/a", alice.bytes, alice.n, 1, false), REASON_NOT_AUTHORIZED);
    CU_ASSERT_TRUE(client_fence(s.to, from_5));
    client_close(from_5);
    strike();
}

/* An auditor is shown what is retained, so that it can be cleared; not what was held back. */
static void an_auditor_gets_no_more_than_what_is_retained(void)
{
    stage_set(&s, POLICY_FOR("elsewhere", "\"*\""), CONF_GUARDED);
    from = stage_client(&s, "from");
    client *auditor = client_open((client_spec){.port = s.b.port, .id = "auditor", .username = "auditor"});
    client_subscribe(auditor, "#", 1);
    wire w = wire_open((wire_spec){.port = s.b.port, .id = "parker"});
    wire_publish(&w, (wire_message){.topic = "t/a", .bytes = "plain", .n = 5, .qos = 2, .mid = 1});
    CU_ASSERT_TRUE(wire_answer(&w, WIRE_PUBREC, 1, NULL));
    broker_write(&s.b, "policy.conf", "bind = \"username\"; admins = [ \"auditor\" ];\n" POLICY_FOR("t/#", "\"*\""));
    reload(RELOADED);
    wire_release(&w, 1);
    CU_ASSERT_TRUE(wire_answer(&w, WIRE_PUBCOMP, 1, NULL));
    CU_ASSERT_TRUE(client_fence(auditor, from));
    CU_ASSERT_TRUE(client_gets_fence(s.to));
    wire_drop(&w);
    client_close(auditor);
    strike();
}

static const unit_test TESTS[] = {
    {"an auditor gets no more than what is retained", an_auditor_gets_no_more_than_what_is_retained},
    {"a good policy takes over", a_good_policy_takes_over},
    {"what was seen stays", what_was_seen_stays},
    {"a bad policy changes nothing", a_bad_policy_changes_nothing},
    {"a vanished policy changes nothing", a_vanished_policy_changes_nothing},
    {"records come and go", records_come_and_go},
    {"a damaged record changes nothing", a_damaged_record_changes_nothing},
    {"an unchanged policy is not swapped", an_unchanged_policy_is_not_swapped},
    {"an empty policy is warned of", an_empty_policy_is_warned_of},
    {"a plugin behind is reloaded too", a_plugin_behind_is_reloaded_too},
    {"the acl file is reloaded too", the_acl_file_is_reloaded_too},
};
UNIT_MAIN("reload", TESTS)
