/*
 * Promise: where the policy binds MQTT clients to signers, nobody brings another device's envelope; relays may, and
 * are known by the same name that the policy binds.
 */
#include "stage.h"
#include "tests/unit/unit.h"

#include <stdio.h>

static stage s;

static void set(const char *bind)
{
    char policy[512];
    snprintf(
        policy, sizeof(policy),
        "enroll = \"closed\";\nbind = \"%s\";\nrelays = [ \"courier\" ];\n"
        "topics = ( { filter = \"t/+/say\"; mode = \"enforce\"; payload = \"encrypted\"; signers = [ \"%%1\" ]; } );\n",
        bind);
    stage_set(&s, policy, CONF_GUARDED);
}

/* What comes of alice's envelope, on alice's topic, in the hands of this client. */
static bool passes(const char *id, const char *username)
{
    client *from = client_open((client_spec){.port = s.b.port, .id = id, .username = username});
    sealed e = seal((seal_spec){.from = &s.c.alice, .topic = "t/alice/say"});
    bool good = stage_passes(&s, from, "t/alice/say", &e, 1, false);
    client_close(from);
    return good;
}

static bool is_unbound(const char *id, const char *username)
{
    client *from = client_open((client_spec){.port = s.b.port, .id = id, .username = username});
    sealed e = seal((seal_spec){.from = &s.c.alice, .topic = "t/alice/say"});
    bool good = stage_refuses(&s, from, "t/alice/say", &e, 1, false, PEP_UNBOUND_CLIENT);
    client_close(from);
    return good;
}

static void by_username(void)
{
    set("username");
    CU_ASSERT_TRUE(passes("any-id", "alice"));
    CU_ASSERT_TRUE(is_unbound("alice", "bob"));
    CU_ASSERT_TRUE(is_unbound("alice", NULL));
    CU_ASSERT_TRUE(is_unbound("any-id", "Alice"));
    CU_ASSERT_TRUE(passes("any-id", "courier"));
    CU_ASSERT_TRUE(is_unbound("courier", "bob"));
    stage_strike(&s);
}

static void by_client_id(void)
{
    set("clientid");
    CU_ASSERT_TRUE(passes("alice", NULL));
    CU_ASSERT_TRUE(passes("alice", "bob"));
    CU_ASSERT_TRUE(is_unbound("bob", "alice"));
    CU_ASSERT_TRUE(is_unbound("alice2", NULL));
    CU_ASSERT_TRUE(passes("courier", NULL));
    CU_ASSERT_TRUE(is_unbound("any-id", "courier"));
    stage_strike(&s);
}

static void by_nothing(void)
{
    set("none");
    CU_ASSERT_TRUE(passes("any-id", NULL));
    CU_ASSERT_TRUE(passes("bob", "bob"));
    stage_strike(&s);
}

/* A topic that names its device belongs to that device, whoever carries the message. */
static void a_topic_names_its_signer(void)
{
    set("none");
    client *from = stage_client(&s, "bob");
    sealed own = seal((seal_spec){.from = &s.c.bob, .topic = "t/bob/say"});
    sealed foreign = seal((seal_spec){.from = &s.c.bob, .topic = "t/alice/say"});
    CU_ASSERT_TRUE(stage_passes(&s, from, "t/bob/say", &own, 1, false));
    CU_ASSERT_TRUE(stage_refuses(&s, from, "t/alice/say", &foreign, 1, false, PEP_SIGNER_NOT_ALLOWED));
    client_close(from);
    stage_strike(&s);
}

static const unit_test TESTS[] = {
    {"by username", by_username},
    {"by client id", by_client_id},
    {"by nothing", by_nothing},
    {"a topic names its signer", a_topic_names_its_signer},
};
UNIT_MAIN("bind", TESTS)
