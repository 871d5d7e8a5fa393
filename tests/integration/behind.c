/*
 * Doors: acl_file and dynamic-security beside the plugin.
 * Promise: the plugin only takes away. What they deny stays denied, a valid envelope too; what they allow it judges.
 */
#include "stage.h"
#include "tests/unit/unit.h"

#include <string.h>

#define DYNSEC "plugin " PEP_DYNSEC "\nplugin_opt_config_file @/dynsec.json\n"

/* Anonymous clients may send where the lists say, and hear everything but $CONTROL. */
#define DYNSEC_JSON                                                                                                    \
    "{ \"defaultACLAccess\": { \"publishClientSend\": false, \"publishClientReceive\": true,\n"                        \
    "                         \"subscribe\": true, \"unsubscribe\": true },\n"                                         \
    "  \"anonymousGroup\": \"guests\",\n"                                                                              \
    "  \"clients\": [],\n"                                                                                             \
    "  \"groups\": [ { \"groupname\": \"guests\", \"roles\": [ { \"rolename\": \"guest\" } ] } ],\n"                   \
    "  \"roles\": [ { \"rolename\": \"guest\", \"acls\": [\n"                                                          \
    "    { \"acltype\": \"publishClientSend\", \"topic\": \"fence\", \"allow\": true },\n"                             \
    "    { \"acltype\": \"publishClientSend\", \"topic\": \"t/a\", \"allow\": true } ] } ] }\n"

static stage s;
static client *alice;

static void set(const char *acl, const char *conf)
{
    stage_prepare(&s, GUARD_POLICY, conf);
    broker_write(&s.b, "acl", acl);
    broker_write(&s.b, "dynsec.json", DYNSEC_JSON);
    stage_open(&s);
    alice = client_open((client_spec){.port = s.b.port, .id = "alice", .version = MQTT_5});
}

static void strike(void)
{
    client_close(alice);
    stage_strike(&s);
}

static sealed valid(const char *topic)
{
    return seal((seal_spec){.from = &s.c.alice, .topic = topic});
}

/* What is allowed behind us is judged, what is denied stays denied and does not count as accepted. */
static void only_takes_away(void)
{
    sealed allowed = valid("t/a"), plain = case_of(PEP_PLAIN_PAYLOAD)->make(&s.c, "t/a", 0);
    CU_ASSERT_TRUE(stage_passes(&s, alice, "t/a", &allowed, 1, false));
    for (int qos = 0; qos <= 2; qos++) {
        sealed denied = valid("t/denied");
        CU_ASSERT_EQUAL(client_publish(alice, "t/denied", denied.bytes, denied.n, qos, qos == 1), denial(MQTT_5, qos));
        CU_ASSERT_EQUAL(client_publish(alice, "u", "plain", 5, qos, false), denial(MQTT_5, qos));
        CU_ASSERT_TRUE(client_fence(s.to, alice));
        CU_ASSERT_TRUE(stage_refuses(&s, alice, "t/a", &plain, qos, false, PEP_PLAIN_PAYLOAD));
    }
    sealed last = valid("t/a");
    CU_ASSERT_TRUE(stage_passes(&s, alice, "t/a", &last, 1, false));
    CU_ASSERT_EQUAL(stage_count(&s, "messages/refused", 2), 3);
}

static void acl_file_stays_in_force(void)
{
    set("topic readwrite fence\ntopic write t/a\ntopic read #\ntopic read $SYS/#\n", CONF_GUARDED);
    only_takes_away();
    strike();
}

static void reading_is_the_acl_files_business(void)
{
    set("topic readwrite fence\ntopic write t/#\ntopic read t/open\ntopic read $SYS/#\n", CONF_GUARDED);
    sealed hidden = valid("t/hidden"), open = valid("t/open");
    CU_ASSERT_EQUAL(client_publish(alice, "t/hidden", hidden.bytes, hidden.n, 1, true), REASON_SUCCESS);
    CU_ASSERT_TRUE(stage_passes(&s, alice, "t/open", &open, 1, false));
    CU_ASSERT_TRUE(client_fence(s.to, alice));
    strike();
}

/* With nobody behind the plugin to allow anything, everything is denied: closed, and plain to see. */
static void alone_it_allows_nothing(void)
{
    stage_prepare(&s, GUARD_POLICY, CONF_BASE CONF_PLUGIN);
    CU_ASSERT_TRUE(broker_start(&s.b));
    alice = client_open((client_spec){.port = s.b.port, .id = "alice", .version = MQTT_5});
    sealed e = valid("t/a");
    CU_ASSERT_EQUAL(client_publish(alice, "t/a", e.bytes, e.n, 1, false), REASON_NOT_AUTHORIZED);
    CU_ASSERT_EQUAL(client_publish(alice, "u", "x", 1, 1, false), REASON_NOT_AUTHORIZED);
    strike();
}

/*
 * The administrator's interface of dynamic-security must not open to a guest because we are loaded. An answer would
 * come without a subscription, before the fence.
 */
static void control_stays_closed(void)
{
    static const char *const command = "{\"commands\":[{\"command\":\"listClients\"}]}";
    client_subscribe(alice, FENCE_TOPIC, 1);
    CU_ASSERT_EQUAL(client_publish(alice, "$CONTROL/dynamic-security/v1", command, strlen(command), 1, false),
                    REASON_NOT_AUTHORIZED);
    CU_ASSERT_TRUE(client_fence(alice, alice));
    CU_ASSERT_TRUE(client_gets_fence(s.to));
}

static void dynamic_security_stays_in_force(const char *conf)
{
    set("", conf);
    only_takes_away();
    control_stays_closed();
    strike();
}

static void dynamic_security_behind(void)
{
    dynamic_security_stays_in_force(CONF_BASE CONF_PLUGIN DYNSEC);
}

static void dynamic_security_in_front(void)
{
    dynamic_security_stays_in_force(CONF_BASE DYNSEC CONF_PLUGIN);
}

static const unit_test TESTS[] = {
    {"acl_file stays in force", acl_file_stays_in_force},
    {"reading is the acl_file's business", reading_is_the_acl_files_business},
    {"alone it allows nothing", alone_it_allows_nothing},
    {"dynamic-security behind the plugin", dynamic_security_behind},
    {"dynamic-security in front of the plugin", dynamic_security_in_front},
};
UNIT_MAIN("behind", TESTS)
