/*
 * Promise: no message is accepted twice, whoever sends it again and whatever happened to the broker in between; but
 * MQTT's own redelivery, which QoS 1 and 2 live on, still works.
 */
#include "stage.h"
#include "tests/unit/unit.h"
#include "wire.h"

/* Any client may bring what alice sealed, at any age: only the replay state stands against it. */
#define OPEN_POLICY                                                                                                    \
    "enroll = \"closed\";\n"                                                                                           \
    "topics = ( { filter = \"t/#\"; mode = \"enforce\"; payload = \"encrypted\"; signers = [ \"*\" ]; } );\n"

/* Short enough that a message grows too old within a test. */
#define AGE_POLICY                                                                                                     \
    "enroll = \"closed\";\n"                                                                                           \
    "topics = ( { filter = \"t/#\"; mode = \"enforce\"; payload = \"encrypted\"; signers = [ \"*\" ];\n"               \
    "             max_age = \"5s\"; } );\n"

static stage s;

static sealed fresh(void)
{
    return seal((seal_spec){.from = &s.c.alice, .topic = "t/a"});
}

static sealed of_seq(uint64_t seq)
{
    return seal((seal_spec){.from = &s.c.alice, .topic = "t/a", .seq = seq});
}

static void another_client_cannot_send_it_again(void)
{
    stage_set(&s, OPEN_POLICY, CONF_GUARDED);
    client *first = stage_client(&s, "first");
    client *other = client_open((client_spec){.port = s.b.port, .id = "other", .version = MQTT_5});
    for (int qos = 0; qos <= 2; qos++) {
        sealed e = fresh();
        CU_ASSERT_TRUE(stage_passes(&s, first, "t/a", &e, qos, false));
        for (int again = 0; again <= 2; again++)
            CU_ASSERT_TRUE(stage_refuses(&s, other, "t/a", &e, again, false, PEP_REPLAYED));
        CU_ASSERT_TRUE(stage_refuses(&s, other, "t/a", &e, 1, true, PEP_REPLAYED));
    }
    client_close(first);
    client_close(other);
    stage_strike(&s);
}

/* QoS 0 knows no redelivery; and another envelope with a seq that was used is no redelivery either. */
static void nor_can_its_own_client(void)
{
    stage_set(&s, OPEN_POLICY, CONF_GUARDED);
    client *from = stage_client(&s, "first");
    sealed e = fresh();
    CU_ASSERT_TRUE(stage_passes(&s, from, "t/a", &e, 1, false));
    CU_ASSERT_TRUE(stage_refuses(&s, from, "t/a", &e, 0, false, PEP_REPLAYED));
    uint64_t seq = next_seq();
    sealed one = of_seq(seq), two = of_seq(seq);
    CU_ASSERT_TRUE(stage_passes(&s, from, "t/a", &one, 1, false));
    CU_ASSERT_TRUE(stage_refuses(&s, from, "t/a", &two, 1, false, PEP_REPLAYED));
    client_close(from);
    stage_strike(&s);
}

static void order_within_the_window_is_free(void)
{
    stage_set(&s, OPEN_POLICY, CONF_GUARDED);
    client *from = stage_client(&s, "first");
    uint64_t base = pep_now_us();
    for (uint64_t i = 20; i > 0; i--) {
        sealed e = of_seq(base + i);
        CU_ASSERT_TRUE(stage_passes(&s, from, "t/a", &e, 0, false));
    }
    for (uint64_t i = 21; i < 21 + PEP_REPLAY_WINDOW; i++) {
        sealed e = of_seq(base + i);
        CU_ASSERT_TRUE(stage_passes(&s, from, "t/a", &e, 0, false));
    }
    sealed below = of_seq(base);
    CU_ASSERT_TRUE(stage_refuses(&s, from, "t/a", &below, 1, false, PEP_REPLAYED));
    client_close(from);
    stage_strike(&s);
}

static void a_restart_forgets_nothing(bool hard)
{
    stage_set(&s, OPEN_POLICY, CONF_GUARDED);
    client *from = stage_client(&s, "first");
    sealed e = fresh();
    CU_ASSERT_TRUE(stage_passes(&s, from, "t/a", &e, 0, false));
    client_close(from);
    stage_restart(&s, hard);
    from = stage_client(&s, "first");
    CU_ASSERT_TRUE(stage_refuses(&s, from, "t/a", &e, 0, false, PEP_REPLAYED));
    sealed next = fresh();
    CU_ASSERT_TRUE(stage_passes(&s, from, "t/a", &next, 0, false));
    client_close(from);
    stage_strike(&s);
}

static void a_clean_restart_forgets_nothing(void)
{
    a_restart_forgets_nothing(false);
}

static void nor_does_kill_9(void)
{
    a_restart_forgets_nothing(true);
}

/* What is refused leaves no trace: else anyone could burn the seqs of a device. */
static void a_refused_one_takes_no_seq(void)
{
    stage_set(&s, OPEN_POLICY, CONF_GUARDED);
    client *from = stage_client(&s, "first");
    sealed e = fresh(), forged = e;
    forged.bytes[forged.n - 1] ^= 1;
    CU_ASSERT_TRUE(stage_refuses(&s, from, "t/a", &forged, 1, false, PEP_BAD_SIGNATURE));
    CU_ASSERT_TRUE(stage_passes(&s, from, "t/a", &e, 1, false));
    client_close(from);
    stage_strike(&s);
}

static wire_spec keeping(mqtt_version version)
{
    return (wire_spec){.port = s.b.port, .version = version, .id = "first", .keep_session = true};
}

static bool answered(const wire *w, int type, uint16_t mid)
{
    int reason = -1;
    return wire_answer(w, type, mid, &reason) && reason == REASON_SUCCESS;
}

/* The connection dies before the PUBACK is read; the client sends again, with DUP, and the broker delivers again. */
static void redelivered_at_qos_1(mqtt_version version)
{
    sealed e = fresh();
    wire_message m = {.topic = "t/a", .bytes = e.bytes, .n = e.n, .qos = 1, .mid = 7};
    wire w = wire_open(keeping(version));
    wire_publish(&w, m);
    CU_ASSERT_TRUE(client_gets(s.to, "t/a", e.bytes, e.n));
    wire_drop(&w);
    m.dup = true;
    w = wire_open(keeping(version));
    wire_publish(&w, m);
    CU_ASSERT_TRUE(answered(&w, WIRE_PUBACK, 7));
    CU_ASSERT_TRUE(client_gets(s.to, "t/a", e.bytes, e.n));
    wire_drop(&w);
}

/* Here the PUBREL is never sent; the broker's own de-duplication then makes one delivery of two. */
static void redelivered_at_qos_2(mqtt_version version)
{
    sealed e = fresh();
    wire_message m = {.topic = "t/a", .bytes = e.bytes, .n = e.n, .qos = 2, .mid = 8};
    wire w = wire_open(keeping(version));
    wire_publish(&w, m);
    CU_ASSERT_TRUE(answered(&w, WIRE_PUBREC, 8));
    wire_drop(&w);
    m.dup = true;
    w = wire_open(keeping(version));
    wire_publish(&w, m);
    CU_ASSERT_TRUE(answered(&w, WIRE_PUBREC, 8));
    wire_release(&w, 8);
    CU_ASSERT_TRUE(answered(&w, WIRE_PUBCOMP, 8));
    CU_ASSERT_TRUE(client_gets(s.to, "t/a", e.bytes, e.n));
    CU_ASSERT_TRUE(client_fence(s.to, s.to));
    wire_drop(&w);
}

static void redelivery_is_no_replay(void)
{
    stage_set(&s, OPEN_POLICY, CONF_GUARDED);
    for (mqtt_version version = MQTT_3; version <= MQTT_5; version++) {
        redelivered_at_qos_1(version);
        redelivered_at_qos_2(version);
    }
    CU_ASSERT_FALSE(broker_logged(&s.b, "pep: refused"));
    stage_strike(&s);
}

/* Asks the gate itself, with messages of another device, whether what was sealed at that time is too old by now. */
static bool becomes_stale(client *from, uint64_t sealed_us)
{
    int64_t deadline = monotonic_ms() + patience_ms();
    int answer = REASON_SUCCESS;
    for (uint64_t i = 1; answer == REASON_SUCCESS && remaining_ms(deadline) > 0; i++) {
        sealed e = seal((seal_spec){.from = &s.c.carol, .topic = "t/a", .seq = sealed_us + i});
        answer = client_publish(from, "t/a", e.bytes, e.n, 1, false);
        if (answer == REASON_SUCCESS)
            CU_ASSERT_TRUE(client_gets(s.to, "t/a", e.bytes, e.n));
    }
    return stage_logged(&s, PEP_STALE, client_id(from), "t/a");
}

/* However old it has become: the sender sealed in time, and cannot help the network. */
static void redelivery_is_not_stale(void)
{
    stage_set(&s, AGE_POLICY, CONF_GUARDED);
    client *from = client_open((client_spec){.port = s.b.port, .id = "first", .version = MQTT_5});
    uint64_t almost_too_old = pep_now_us() - 4000000;
    sealed e = of_seq(almost_too_old), late = of_seq(almost_too_old + 1);
    CU_ASSERT_TRUE(stage_passes(&s, from, "t/a", &e, 1, false));
    CU_ASSERT_TRUE(becomes_stale(from, almost_too_old));
    CU_ASSERT_TRUE(stage_refuses(&s, from, "t/a", &late, 1, false, PEP_STALE));
    CU_ASSERT_TRUE(stage_passes(&s, from, "t/a", &e, 1, false));
    client_close(from);
    stage_strike(&s);
}

static const unit_test TESTS[] = {
    {"another client cannot send it again", another_client_cannot_send_it_again},
    {"nor can its own client", nor_can_its_own_client},
    {"order within the window is free", order_within_the_window_is_free},
    {"a clean restart forgets nothing", a_clean_restart_forgets_nothing},
    {"nor does kill -9", nor_does_kill_9},
    {"a refused one takes no seq", a_refused_one_takes_no_seq},
    {"redelivery is no replay", redelivery_is_no_replay},
    {"redelivery is not stale", redelivery_is_not_stale},
};
UNIT_MAIN("replay", TESTS)
