/*
 * Promise: what an accepted message asks to have recorded is recorded once, whichever door it came through, and nothing
 * else is; and it goes when its time is over.
 */
#include "ledger_scene.h"
#include "ledger_store.h"
#include "traces.h"

#include <sodium.h>
#include <string.h>

static scene x;

/* ---- what a row says ---- */

static bool fields_are(const cJSON *row, int64_t n)
{
    cJSON *fields = cJSON_Parse(text_in(row, "fields"));
    bool same = cJSON_GetArraySize(fields) == 3 && strcmp(text_in(fields, "site"), "north \"1\"") == 0 &&
                number_in(fields, "n") == (double)n &&
                cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(fields, "on")) == (n % 2 == 0);
    cJSON_Delete(fields);
    return same;
}

static bool kid_is(const cJSON *row, const uint8_t *kid)
{
    char hex[2 * PEP_KID_BYTES + 1];
    return strcmp(text_in(row, "kid"), sodium_bin2hex(hex, sizeof(hex), kid, PEP_KID_BYTES)) == 0;
}

static void check_row(const cJSON *row, const sealed *e, const char *topic, int qos, bool retain, int64_t n)
{
    pep_envelope parts;
    CU_ASSERT_EQUAL(pep_parse(&parts, e->bytes, e->n), PEP_OK);
    CU_ASSERT_STRING_EQUAL(text_in(row, "topic"), topic);
    CU_ASSERT_STRING_EQUAL(text_in(row, "signer"), "alice");
    CU_ASSERT_TRUE(kid_is(row, parts.kid));
    CU_ASSERT_EQUAL(number_in(row, "seq"), (double)parts.seq);
    CU_ASSERT_EQUAL(number_in(row, "size"), (double)e->n);
    CU_ASSERT_EQUAL(number_in(row, "payload"), (double)parts.payload.n);
    CU_ASSERT_EQUAL(number_in(row, "qos"), qos);
    CU_ASSERT_EQUAL(cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(row, "retained")), retain);
    CU_ASSERT_TRUE(fields_are(row, n));
}

/* Exactly one row of that topic, and this message's. */
static void is_recorded_once(const sealed *e, const char *topic, int qos, bool retain, int64_t n)
{
    char command[256];
    snprintf(command, sizeof(command), "{\"command\":\"ledger.query\",\"topic\":\"%s\"}", topic);
    CU_ASSERT_TRUE(scene_settles(&x));
    cJSON *answer = ledger_ask(&x.a, &x.s.c.bob, command);
    const cJSON *rows = ledger_list(answer, "rows");
    CU_ASSERT_EQUAL(cJSON_GetArraySize(rows), 1);
    if (cJSON_GetArraySize(rows) == 1)
        check_row(rows->child, e, topic, qos, retain, n);
    cJSON_Delete(answer);
}

/* ---- doors ---- */

static void publishes_are_recorded(void)
{
    char topic[32], times[128];
    scene_set(&x, "ledger");
    uint64_t before = pep_now_us();
    for (int i = 0; i < 6; i++) {
        int qos = i / 2;
        bool retain = i % 2 == 1;
        snprintf(topic, sizeof(topic), "r/%d/%d", qos, retain);
        sealed e = scene_message(&x.s.c.alice, topic, 0, i);
        CU_ASSERT_TRUE(scene_passes(&x, topic, &e, qos, retain));
        is_recorded_once(&e, topic, qos, retain, i);
    }
    snprintf(times, sizeof(times), "\"from\":%llu,\"to\":%llu", (unsigned long long)before,
             (unsigned long long)pep_now_us());
    CU_ASSERT_EQUAL(scene_count(&x, times), 6);
    CU_ASSERT_EQUAL(scene_counter(&x, "ledger/recorded", 6), 6);
    CU_ASSERT_EQUAL(scene_counter(&x, "ledger/waiting", 0), 0);
    CU_ASSERT_EQUAL(client_counter(x.s.to, "ledger/dropped"), 0);
    CU_ASSERT_EQUAL(client_counter(x.s.to, "ledger/away"), 0);
    scene_strike(&x);
}

static void wills_are_recorded(void)
{
    char topic[32];
    scene_set(&x, "ledger");
    for (int i = 0; i < 6; i++) {
        int qos = i / 2;
        bool retain = i % 2 == 1;
        snprintf(topic, sizeof(topic), "r/%d/%d", qos, retain);
        sealed e = scene_message(&x.s.c.alice, topic, PEP_FLAG_WILL, i);
        CU_ASSERT_TRUE(stage_passes_will(&x.s, (wire_spec){.port = x.s.b.port,
                                                           .id = "w",
                                                           .will_topic = topic,
                                                           .will = e.bytes,
                                                           .will_n = e.n,
                                                           .will_qos = qos,
                                                           .will_retain = retain}));
        is_recorded_once(&e, topic, qos, retain, i);
    }
    CU_ASSERT_EQUAL(scene_count(&x, ""), 6);
    scene_strike(&x);
}

/* By its rule, or because it is published as if it were a message. */
static void wills_that_are_refused_are_not(void)
{
    scene_set(&x, "ledger");
    sealed e = scene_message(&x.s.c.alice, "r/w", PEP_FLAG_WILL, 1),
           refused_will = scene_message(&x.s.c.alice, "no/w", PEP_FLAG_WILL, 2);
    const wire_spec spec = {
        .port = x.s.b.port, .id = "w", .will_topic = "no/w", .will = refused_will.bytes, .will_n = refused_will.n};
    CU_ASSERT_TRUE(stage_refuses_will(&x.s, spec, PEP_RECORD_DENIED));
    CU_ASSERT_TRUE(scene_refuses(&x, "r/w", &e, 1, PEP_MISPLACED_FLAG));
    CU_ASSERT_TRUE(scene_settles(&x));
    CU_ASSERT_EQUAL(scene_count(&x, ""), 0);
    scene_strike(&x);
}

static void bridged_messages_are_recorded(void)
{
    upstream up;
    char topic[32];
    stage_set_bridged(&x.s, &up, SCENE_POLICY, "topic r/# in 2\n");
    scene_meet(&x);
    for (int qos = 0; qos <= 2; qos++) {
        snprintf(topic, sizeof(topic), "r/%d", qos);
        sealed e = scene_message(&x.s.c.alice, topic, 0, qos);
        CU_ASSERT_EQUAL(client_publish(up.from, topic, e.bytes, e.n, qos, false), REASON_SUCCESS);
        CU_ASSERT_TRUE(client_gets(x.s.to, topic, e.bytes, e.n));
        is_recorded_once(&e, topic, qos, false, qos);
    }
    CU_ASSERT_EQUAL(scene_count(&x, ""), 3);
    scene_part(&x);
    stage_strike_bridged(&x.s, &up);
}

/* ---- what is not recorded ---- */

static void others_are_not_recorded(void)
{
    scene_set(&x, "ledger");
    sealed silent = seal((seal_spec){.from = &x.s.c.alice, .topic = "r/a"});
    CU_ASSERT_TRUE(scene_passes(&x, "r/a", &silent, 1, false));
    for (int qos = 0; qos <= 2; qos++) {
        sealed denied = scene_message(&x.s.c.alice, "no/a", 0, qos);
        CU_ASSERT_TRUE(scene_refuses(&x, "no/a", &denied, qos, PEP_RECORD_DENIED));
    }
    sealed forged = scene_message(&x.s.c.alice, "r/a", 0, 3), stranger = scene_message(&x.s.c.mallory, "r/a", 0, 4);
    forged.bytes[forged.n - 1] ^= 1;
    CU_ASSERT_TRUE(scene_refuses(&x, "r/a", &forged, 1, PEP_BAD_SIGNATURE));
    CU_ASSERT_TRUE(scene_refuses(&x, "r/a", &stranger, 1, PEP_UNKNOWN_SIGNER));
    CU_ASSERT_TRUE(scene_settles(&x));
    CU_ASSERT_EQUAL(scene_count(&x, ""), 0);
    CU_ASSERT_TRUE(scene_sends(&x, &x.s.c.alice, "r/a", 5)); /* and now one is */
    CU_ASSERT_TRUE(scene_settles(&x));
    CU_ASSERT_EQUAL(scene_count(&x, ""), 1);
    scene_strike(&x);
}

/* Observing lets through what the rule would refuse, and does not record it. */
static void observing_records_what_is_good(void)
{
    scene_set(&x, "ledger");
    CU_ASSERT_TRUE(scene_sends(&x, &x.s.c.alice, "seen/a", 1));
    CU_ASSERT_TRUE(scene_sends(&x, &x.s.c.alice, "shown/a", 2));
    sealed forged = scene_message(&x.s.c.carol, "seen/a", 0, 3);
    forged.bytes[forged.n - 1] ^= 1;
    CU_ASSERT_TRUE(scene_passes(&x, "seen/a", &forged, 1, false));
    CU_ASSERT_TRUE(scene_settles(&x));
    CU_ASSERT_EQUAL(scene_count(&x, ""), 0);
    CU_ASSERT_TRUE(scene_sends(&x, &x.s.c.carol, "seen/a", 4));
    CU_ASSERT_TRUE(scene_settles(&x));
    CU_ASSERT_EQUAL(scene_count(&x, "\"topic\":\"seen/a\",\"signer\":\"carol\""), 1);
    scene_strike(&x);
}

/* ---- once ---- */

static wire alices(void)
{
    return wire_open((wire_spec){.port = x.s.b.port, .id = "alice", .keep_session = true});
}

static void publish_again(const wire *w, const char *topic, const sealed *e, int qos, bool dup)
{
    wire_publish(w, (wire_message){.topic = topic, .bytes = e->bytes, .n = e->n, .qos = qos, .mid = 7, .dup = dup});
    CU_ASSERT_TRUE(wire_answer(w, qos == 1 ? WIRE_PUBACK : WIRE_PUBREC, 7, NULL));
}

/* On the same connection, on one that takes it over, and on one behind it, as clients do whose answers were lost. */
static void redelivered_is_recorded_once(int qos, const char *topic)
{
    wire first = alices();
    sealed e = scene_message(&x.s.c.alice, topic, 0, qos);
    publish_again(&first, topic, &e, qos, false);
    publish_again(&first, topic, &e, qos, true);
    wire second = alices();
    CU_ASSERT_TRUE(wire_closed(&first));
    publish_again(&second, topic, &e, qos, true);
    CU_ASSERT_TRUE(scene_settles(&x));
    wire_drop(&first);
    wire_drop(&second);
    second = alices();
    publish_again(&second, topic, &e, qos, true);
    if (qos == 2) {
        wire_release(&second, 7);
        CU_ASSERT_TRUE(wire_answer(&second, WIRE_PUBCOMP, 7, NULL));
    }
    is_recorded_once(&e, topic, qos, false, qos);
    wire_drop(&second);
}

static void redelivered_messages_are_recorded_once(void)
{
    scene_set(&x, "ledger");
    redelivered_is_recorded_once(1, "r/1");
    redelivered_is_recorded_once(2, "r/2");
    CU_ASSERT_EQUAL(scene_count(&x, ""), 2);
    CU_ASSERT_EQUAL(scene_counter(&x, "ledger/recorded", 2), 2);
    CU_ASSERT_EQUAL(scene_counter(&x, "messages/redelivered", 6), 6);
    scene_strike(&x);
}

/* Nor is what was on the disk when the broker was killed. */
static void redelivered_behind_a_kill_is_recorded_once(void)
{
    scene_set(&x, "ledger");
    wire w = alices();
    sealed e = scene_message(&x.s.c.alice, "r/a", 0, 1);
    publish_again(&w, "r/a", &e, 1, false);
    CU_ASSERT_TRUE(scene_settles(&x));
    wire_drop(&w);
    scene_restart(&x, true);
    w = alices();
    publish_again(&w, "r/a", &e, 1, true);
    is_recorded_once(&e, "r/a", 1, false, 1);
    wire_drop(&w);
    scene_strike(&x);
}

/* A stop writes what waits. */
static void a_stop_loses_nothing(void)
{
    scene_set(&x, "ledger");
    for (int i = 0; i < 50; i++)
        CU_ASSERT_TRUE(scene_sends(&x, &x.s.c.alice, "r/a", i));
    scene_restart(&x, false);
    CU_ASSERT_EQUAL(scene_count(&x, ""), 50);
    scene_strike(&x);
}

/* ---- what ends by itself ---- */

/* Off the disk, too: the log of all that is said here does not lie in that folder. */
static bool is_scrubbed(const char *text)
{
    int64_t deadline = monotonic_ms() + patience_ms();
    while (traces_in_folder(broker_path(&x.s.b, "state"), text, false) > 0 && remaining_ms(deadline) > 0)
        ;
    return traces_in_folder(broker_path(&x.s.b, "state"), text, true) == 0;
}

static void what_is_kept_briefly_vanishes(void)
{
    scene_set(&x, "ledger");
    CU_ASSERT_TRUE(scene_sends(&x, &x.s.c.alice, "brief/a", 1));
    CU_ASSERT_TRUE(scene_sends(&x, &x.s.c.alice, "r/a", 2));
    CU_ASSERT_EQUAL(client_counter_reaches(x.s.to, "ledger/recorded", 2), 2);
    CU_ASSERT_EQUAL(client_counter_reaches(x.s.to, "ledger/erased", 1), 1);
    CU_ASSERT_EQUAL(scene_count(&x, "\"topic\":\"brief/#\""), 0);
    CU_ASSERT_EQUAL(scene_count(&x, ""), 1);
    CU_ASSERT_TRUE(ledger_on_postgres || is_scrubbed("brief/a"));
    cJSON *answer = ledger_ask(&x.a, &x.s.c.bob, "{\"command\":\"ledger.erasures\"}");
    CU_ASSERT_EQUAL(cJSON_GetArraySize(ledger_list(answer, "erasures")), 0); /* nobody erased it */
    cJSON_Delete(answer);
    scene_strike(&x);
}

static const unit_test COMMON[] = {
    {"publishes are recorded", publishes_are_recorded},
    {"wills are recorded", wills_are_recorded},
    {"wills that are refused are not", wills_that_are_refused_are_not},
    {"others are not recorded", others_are_not_recorded},
    {"observing records what is good", observing_records_what_is_good},
    {"redelivered messages are recorded once", redelivered_messages_are_recorded_once},
    {"redelivered behind a kill is recorded once", redelivered_behind_a_kill_is_recorded_once},
    {"a stop loses nothing", a_stop_loses_nothing},
    {"what is kept briefly vanishes", what_is_kept_briefly_vanishes},
};

static const unit_test SQLITE_ALONE[] = {
    {"bridged messages are recorded", bridged_messages_are_recorded},
};

int main(void)
{
    if (!ledger_begin())
        return 1;
    int failed = ledger_run(false, "recording", COMMON, sizeof(COMMON) / sizeof(COMMON[0]));
    failed |= ledger_run(false, "recording alone", SQLITE_ALONE, sizeof(SQLITE_ALONE) / sizeof(SQLITE_ALONE[0]));
    failed |= ledger_run(true, "recording", COMMON, sizeof(COMMON) / sizeof(COMMON[0]));
    ledger_end();
    return failed;
}
