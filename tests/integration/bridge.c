/*
 * Promise: a bridge is no second chance: what came in through it or elsewhere does not come in again through the other;
 * and what it brings is judged by itself, whatever came just before.
 */
#include "stage.h"
#include "tests/unit/unit.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>

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

/* Alice may not write, so that the gate's verdict of what she sends waits for a delivery that never comes. */
#define DENIES_ALICE                                                                                                   \
    "topic read #\ntopic read $SYS/#\ntopic readwrite fence\nuser mallory\ntopic write t/#\ntopic write fence\n"

static void hold_the_broker(void)
{
    int status = 0;
    kill(s.b.pid, SIGSTOP);
    CU_ASSERT_EQUAL(waitpid(s.b.pid, &status, WUNTRACED), s.b.pid);
    CU_ASSERT_TRUE(WIFSTOPPED(status));
}

/* Something plain as long as the envelope, so that it may come to lie where that lay. */
static sealed as_long_as(const sealed *e)
{
    sealed out = {.n = e->n};
    memset(out.bytes, 'x', out.n);
    return out;
}

/*
 * A valid envelope that the acl_file denies, and plain bytes of its length on its topic, through the bridge and from a
 * client who may write, all in one turn of the broker's loop: between two turns every verdict dies anyway.
 */
static bool try_to_inherit(const wire *alice, const wire *mallory, uint16_t mid)
{
    sealed valid = seal((seal_spec){.from = &s.c.alice, .topic = "t/a", .plain_n = mid}), plain = as_long_as(&valid);
    int alices = 0, mallorys = 0;
    broker_mark(&s.b);
    hold_the_broker();
    wire_publish(alice, (wire_message){.topic = "t/a", .bytes = valid.bytes, .n = valid.n, .qos = 1, .mid = mid});
    CU_ASSERT_EQUAL(client_publish(up.from, "t/a", plain.bytes, plain.n, 0, false), REASON_SUCCESS);
    CU_ASSERT_EQUAL(client_publish(up.from, "u", NULL, 0, 1, false), REASON_SUCCESS); /* then that has been passed on */
    wire_publish(mallory, (wire_message){.topic = "t/a", .bytes = plain.bytes, .n = plain.n, .qos = 1, .mid = mid});
    kill(s.b.pid, SIGCONT);
    return wire_answer(alice, WIRE_PUBACK, mid, &alices) && alices == REASON_NOT_AUTHORIZED &&
           wire_answer(mallory, WIRE_PUBACK, mid, &mallorys) && mallorys == REASON_NOT_AUTHORIZED &&
           client_fence(s.to, up.from) && stage_logged(&s, PEP_PLAIN_PAYLOAD, BRIDGE_CLIENT, "t/a") &&
           stage_logged(&s, PEP_PLAIN_PAYLOAD, "mallory", "t/a") &&
           broker_log_count(&s.b, "pep: refused *: client ") == 2;
}

static void no_verdict_is_inherited(void)
{
    set();
    broker_write(&s.b, "acl", DENIES_ALICE);
    broker_mark(&s.b);
    broker_reload(&s.b);
    CU_ASSERT_TRUE(broker_logs(&s.b, "pep: reload: nothing changed"));
    wire alice = wire_open((wire_spec){.port = s.b.port, .version = MQTT_5, .id = "alice"});
    wire mallory = wire_open((wire_spec){.port = s.b.port, .version = MQTT_5, .id = "mallory", .username = "mallory"});
    bool judged = true;
    for (uint16_t mid = 1; judged && mid <= 50; mid++)
        judged = try_to_inherit(&alice, &mallory, mid);
    CU_ASSERT_TRUE(judged);
    CU_ASSERT_EQUAL(client_counter(s.to, "messages/accepted"), 0);
    wire_drop(&alice);
    wire_drop(&mallory);
    strike();
}

static const unit_test TESTS[] = {
    {"wills come through once", wills_come_through_once},
    {"a bridge is no second chance", a_bridge_is_no_second_chance},
    {"no verdict is inherited", no_verdict_is_inherited},
};
UNIT_MAIN("bridge", TESTS)
