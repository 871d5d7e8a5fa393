/*
 * Promise: a client that goes on with bad signatures costs the broker a few verifications a second and is then
 * disconnected; whoever was verified once notices nothing of it.
 */
#include "stage.h"
#include "tests/unit/unit.h"
#include "wire.h"

#include <string.h>

#define POLICY(budget)                                                                                                 \
    "enroll = \"closed\"; " budget "\n"                                                                                \
    "topics = ( { filter = \"t/#\"; signers = [ \"alice\" ]; },\n"                                                     \
    "           { filter = \"seen/#\"; signers = [ \"alice\" ]; mode = \"observe\"; } );\n"

static stage s;

static sealed valid(const char *topic)
{
    return seal((seal_spec){.from = &s.c.alice, .topic = topic});
}

static sealed forged(const char *topic)
{
    sealed e = valid(topic);
    e.bytes[e.n - 1] ^= 1;
    return e;
}

/* Sends `n` at QoS 0; the broker may hang up in between. */
static void flood(const wire *w, const char *topic, int n)
{
    for (int i = 0; i < n; i++) {
        sealed e = forged(topic);
        wire_publish(w, (wire_message){.topic = topic, .bytes = e.bytes, .n = e.n});
    }
}

static void who_goes_on_is_kicked(void)
{
    stage_set(&s, POLICY(""), CONF_GUARDED);
    client *alice = client_open((client_spec){.port = s.b.port, .id = "alice", .version = MQTT_5});
    sealed first = valid("t/a");
    CU_ASSERT_TRUE(stage_passes(&s, alice, "t/a", &first, 1, false));
    sealed plain = {.bytes = "gone", .n = 4};
    wire w = wire_open(
        (wire_spec){.port = s.b.port, .id = "mallory", .will_topic = "u", .will = plain.bytes, .will_n = plain.n});
    flood(&w, "t/a", 100);
    CU_ASSERT_TRUE(wire_closed(&w));
    CU_ASSERT_TRUE(client_gets(s.to, "u", plain.bytes, plain.n)); /* a connection that was cut: its will is sent */
    long verified = client_counter_reaches(s.to, "refused/bad-signature", 1);
    CU_ASSERT_TRUE(client_counter_reaches(s.to, "refused/rate-limited", 20) >= 20);
    CU_ASSERT_EQUAL(client_counter_reaches(s.to, "clients/kicked", 1), 1);
    CU_ASSERT_TRUE(verified >= 21 && verified < 100);
    for (int i = 0; i < 50; i++) {
        sealed e = valid("t/a");
        CU_ASSERT_TRUE(stage_passes(&s, alice, "t/a", &e, 1, false)); /* the same address, and no user name either */
    }
    wire_drop(&w);
    client_close(alice);
    stage_strike(&s);
}

/* Under new names the same is shared. */
static void new_names_do_not_help(void)
{
    stage_set(&s, POLICY("budget = { over = \"refuse\"; };"), CONF_GUARDED);
    for (int i = 0; i < 10; i++) {
        char id[32];
        snprintf(id, sizeof(id), "mallory-%d", i);
        wire w = wire_open((wire_spec){.port = s.b.port, .id = id});
        flood(&w, "t/a", 20);
        wire_publish(&w, (wire_message){.topic = FENCE_TOPIC, .bytes = id, .n = strlen(id), .qos = 1, .mid = 1});
        CU_ASSERT_TRUE(wire_answer(&w, WIRE_PUBACK, 1, NULL)); /* not kicked */
        CU_ASSERT_TRUE(client_gets(s.to, FENCE_TOPIC, id, strlen(id)));
        wire_drop(&w);
    }
    CU_ASSERT_EQUAL(client_counter_reaches(s.to, "messages/refused", 200), 200);
    CU_ASSERT_TRUE(client_fence(s.to, s.to));
    CU_ASSERT_TRUE(client_counter(s.to, "refused/rate-limited") > 20);
    CU_ASSERT_EQUAL(client_counter(s.to, "refused/rate-limited") + client_counter(s.to, "refused/bad-signature"), 200);
    CU_ASSERT_EQUAL(client_counter(s.to, "clients/kicked"), 0);
    stage_strike(&s);
}

/* Observing must not disturb: all passes, and nobody is kicked. */
static void observing_kicks_nobody(void)
{
    stage_set(&s, POLICY(""), CONF_GUARDED);
    client *c = client_open((client_spec){.port = s.b.port, .id = "clumsy", .version = MQTT_5});
    for (int i = 0; i < 100; i++) {
        sealed e = forged("seen/a");
        CU_ASSERT_TRUE(stage_passes(&s, c, "seen/a", &e, 1, false));
    }
    CU_ASSERT_EQUAL(client_counter_reaches(s.to, "messages/observed", 100), 100);
    CU_ASSERT_TRUE(client_fence(s.to, c));
    CU_ASSERT_EQUAL(client_counter(s.to, "clients/kicked"), 0);
    CU_ASSERT_TRUE(client_counter(s.to, "observed/rate-limited") > 0);
    client_close(c);
    stage_strike(&s);
}

static const unit_test TESTS[] = {
    {"who goes on is kicked", who_goes_on_is_kicked},
    {"new names do not help", new_names_do_not_help},
    {"observing kicks nobody", observing_kicks_nobody},
};
UNIT_MAIN("abuse", TESTS)
