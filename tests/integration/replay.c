/*
 * Promise: no message is accepted twice, whoever sends it again and whatever happened to the broker in between; but
 * MQTT's own redelivery, which QoS 1 and 2 live on, still works.
 */
#include "stage.h"
#include "tests/unit/unit.h"

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

static sealed counted(uint64_t seq)
{
    return seal((seal_spec){.from = &s.c.carol, .topic = "t/a", .seq = seq, .flags = PEP_FLAG_COUNTER});
}

static wire_spec with_will(const sealed *will)
{
    return (wire_spec){.port = s.b.port, .id = "w", .will_topic = "t/w", .will = will->bytes, .will_n = will->n};
}

static sealed fresh_will(void)
{
    return seal((seal_spec){.from = &s.c.alice, .topic = "t/w", .flags = PEP_FLAG_WILL});
}

/* The window of messages, the floor of wills, and the numbers of devices without a clock. */
static void a_restart_forgets_nothing(bool hard)
{
    stage_set(&s, OPEN_POLICY, CONF_GUARDED);
    client *from = stage_client(&s, "first");
    sealed e = fresh(), older_will = fresh_will(), will = fresh_will(), one = counted(1), two = counted(2);
    CU_ASSERT_TRUE(stage_passes(&s, from, "t/a", &e, 0, false));
    CU_ASSERT_TRUE(stage_passes(&s, from, "t/a", &two, 0, false));
    CU_ASSERT_TRUE(stage_passes_will(&s, with_will(&will)));
    client_close(from);
    stage_restart(&s, hard);
    from = stage_client(&s, "first");
    CU_ASSERT_TRUE(stage_refuses(&s, from, "t/a", &e, 0, false, PEP_REPLAYED));
    CU_ASSERT_TRUE(stage_refuses(&s, from, "t/a", &two, 0, false, PEP_REPLAYED));
    CU_ASSERT_TRUE(stage_refuses_will(&s, with_will(&will), PEP_REPLAYED));
    CU_ASSERT_TRUE(stage_refuses_will(&s, with_will(&older_will), PEP_REPLAYED));
    sealed next = fresh(), next_will = fresh_will(), three = counted(3);
    CU_ASSERT_TRUE(stage_passes(&s, from, "t/a", &next, 0, false));
    CU_ASSERT_TRUE(stage_passes(&s, from, "t/a", &three, 0, false));
    CU_ASSERT_TRUE(stage_passes(&s, from, "t/a", &one, 0, false)); /* late, but new */
    CU_ASSERT_TRUE(stage_passes_will(&s, with_will(&next_will)));
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

/* Here no PUBREC came as far as the client; the broker's own de-duplication then makes one delivery of two. */
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

/* After the PUBREC only the PUBREL is sent again: the broker kept the message, and now delivers it. */
static void released_after_qos_2(mqtt_version version)
{
    sealed e = fresh();
    wire w = wire_open(keeping(version));
    wire_publish(&w, (wire_message){.topic = "t/a", .bytes = e.bytes, .n = e.n, .qos = 2, .mid = 9});
    CU_ASSERT_TRUE(answered(&w, WIRE_PUBREC, 9));
    wire_drop(&w);
    CU_ASSERT_TRUE(client_fence(s.to, s.to));
    w = wire_open(keeping(version));
    wire_release(&w, 9);
    CU_ASSERT_TRUE(answered(&w, WIRE_PUBCOMP, 9));
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
        released_after_qos_2(version);
    }
    CU_ASSERT_FALSE(broker_logged(&s.b, "pep: refused"));
    CU_ASSERT_FALSE(broker_logged(&s.b, "pep: observed"));
    stage_strike(&s);
}

/* The broker dies, not the connection: what it had acknowledged to nobody comes again, to one that has forgotten it. */
static void redelivery_outlives_the_broker(bool hard)
{
    stage_set(&s, OPEN_POLICY, CONF_GUARDED);
    sealed e = fresh();
    wire_message m = {.topic = "t/a", .bytes = e.bytes, .n = e.n, .qos = 1, .mid = 7};
    wire w = wire_open(keeping(MQTT_5));
    wire_publish(&w, m);
    CU_ASSERT_TRUE(client_gets(s.to, "t/a", e.bytes, e.n));
    stage_restart(&s, hard);
    wire_drop(&w);
    m.dup = true;
    w = wire_open(keeping(MQTT_5));
    wire_publish(&w, m);
    CU_ASSERT_TRUE(answered(&w, WIRE_PUBACK, 7));
    CU_ASSERT_TRUE(client_gets(s.to, "t/a", e.bytes, e.n));
    wire_drop(&w);
    client *other = stage_client(&s, "other");
    CU_ASSERT_TRUE(stage_refuses(&s, other, "t/a", &e, 1, false, PEP_REPLAYED));
    client_close(other);
    stage_strike(&s);
}

static void redelivery_outlives_a_stop(void)
{
    redelivery_outlives_the_broker(false);
}

static void redelivery_outlives_kill_9(void)
{
    redelivery_outlives_the_broker(true);
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

/* ---- clocks ---- */

#define SKEW_POLICY(skew) "max_skew = \"" skew "\";\n" OPEN_POLICY
#define MINUTE_US         60000000ull
#define DAY_US            (MINUTE_US * 60 * 24)
#define CLOCK_WARNING     "pep: the clock is earlier than the newest message"

/* Ahead of the broker's clock by no more than max_skew; what is refused for being further ahead moves nothing. */
static void a_seq_may_be_a_little_ahead(void)
{
    stage_set(&s, SKEW_POLICY("10m"), CONF_GUARDED);
    client *from = stage_client(&s, "first");
    uint64_t now = pep_now_us();
    sealed ahead = of_seq(now + 9 * MINUTE_US), far = of_seq(now + 11 * MINUTE_US), never = of_seq(PEP_SEQ_MAX);
    sealed behind = of_seq(now - DAY_US), present = of_seq(now);
    CU_ASSERT_TRUE(stage_refuses(&s, from, "t/a", &never, 1, false, PEP_FUTURE_SEQ));
    CU_ASSERT_TRUE(stage_refuses(&s, from, "t/a", &far, 1, false, PEP_FUTURE_SEQ));
    CU_ASSERT_TRUE(stage_passes(&s, from, "t/a", &present, 1, false));
    CU_ASSERT_TRUE(stage_passes(&s, from, "t/a", &ahead, 1, false));
    CU_ASSERT_TRUE(stage_passes(&s, from, "t/a", &behind, 1, false)); /* no max_age here, and nothing is below it yet */
    client_close(from);
    stage_strike(&s);
}

/* Two more times the counters are published: two seconds, at least, in which it could be said again. */
static void wait_for_two_looks(client *from)
{
    for (int i = 0; i < 2; i++) {
        long before = client_counter_reaches(s.to, "messages/accepted", 1);
        sealed e = fresh();
        CU_ASSERT_TRUE(stage_passes(&s, from, "t/a", &e, 0, false));
        CU_ASSERT_EQUAL(client_counter_reaches(s.to, "messages/accepted", before + 1), before + 1);
    }
}

static bool warned_once(client *from)
{
    bool warned = broker_logs(&s.b, CLOCK_WARNING);
    wait_for_two_looks(from);
    return warned && broker_log_count(&s.b, CLOCK_WARNING) == 1;
}

/*
 * The broker's clock went back: to it that is the same as a message from later than now. Here what is later is decided
 * by a max_skew that shrinks. One line says so, and one more behind a restart; devices with the right time go on.
 */
static void a_clock_that_went_back_is_told_once(void)
{
    stage_set(&s, SKEW_POLICY("10m"), CONF_GUARDED);
    client *from = stage_client(&s, "first");
    sealed ahead = of_seq(pep_now_us() + 9 * MINUTE_US);
    CU_ASSERT_TRUE(stage_passes(&s, from, "t/a", &ahead, 1, false));
    wait_for_two_looks(from);
    CU_ASSERT_FALSE(broker_logged(&s.b, CLOCK_WARNING));
    broker_write(&s.b, "policy.conf", SKEW_POLICY("10s"));
    broker_mark(&s.b);
    broker_reload(&s.b);
    CU_ASSERT_TRUE(warned_once(from));
    client_close(from);
    stage_restart(&s, true);
    from = stage_client(&s, "first");
    CU_ASSERT_TRUE(warned_once(from)); /* behind the mark of the start */
    CU_ASSERT_TRUE(stage_refuses(&s, from, "t/a", &ahead, 0, false, PEP_FUTURE_SEQ));
    client_close(from);
    stage_strike(&s);
}

/* A counter says nothing of time: no number is too far ahead, and none moves the broker's idea of now. */
static void devices_without_a_clock_count(void)
{
    stage_set(&s, SKEW_POLICY("10s"), CONF_GUARDED);
    client *from = stage_client(&s, "first");
    for (uint64_t seq = 1; seq <= 3; seq++) {
        sealed e = counted(seq);
        CU_ASSERT_TRUE(stage_passes(&s, from, "t/a", &e, (int)(seq % 3), false));
        CU_ASSERT_TRUE(stage_refuses(&s, from, "t/a", &e, 0, false, PEP_REPLAYED));
    }
    sealed last = counted(PEP_SEQ_MAX), other = counted(PEP_SEQ_MAX);
    CU_ASSERT_TRUE(stage_passes(&s, from, "t/a", &last, 1, false));
    CU_ASSERT_TRUE(stage_refuses(&s, from, "t/a", &other, 1, false, PEP_REPLAYED));
    wait_for_two_looks(from);
    CU_ASSERT_FALSE(broker_logged(&s.b, CLOCK_WARNING));
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
    {"redelivery outlives a clean stop", redelivery_outlives_a_stop},
    {"and kill -9", redelivery_outlives_kill_9},
    {"a seq may be a little ahead", a_seq_may_be_a_little_ahead},
    {"a clock that went back is told once", a_clock_that_went_back_is_told_once},
    {"devices without a clock count", devices_without_a_clock_count},
};
UNIT_MAIN("replay", TESTS)
