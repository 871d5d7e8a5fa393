/*
 * Promise: what cannot be recorded is refused or counted, as the rule says, and what waits is recorded when the server
 * is back. The broker waits for no database.
 */
#include "ledger_scene.h"
#include "ledger_store.h"

#include <signal.h>
#include <sodium.h>
#include <string.h>

#define SECOND_MS 1000
#define PATIENT   (patience_ms() > 10000) /* everything is slow here, and nothing is measured */

static scene x;

/* ---- without the server ---- */

#define AWAY "pep: the ledger's store cannot be reached"

/* Something must be written before it is noticed. */
static void take_the_server_away(void)
{
    CU_ASSERT_TRUE(scene_sends(&x, &x.s.c.alice, "r/first", 0));
    CU_ASSERT_TRUE(scene_settles(&x));
    postgres_stop(&ledger_server, SIGINT);
    CU_ASSERT_TRUE(scene_sends(&x, &x.s.c.alice, "r/waits", 1));
    CU_ASSERT_EQUAL(client_counter_reaches(x.s.to, "ledger/away", 1), 1);
}

static void bring_it_back(void)
{
    CU_ASSERT_TRUE_FATAL(postgres_again(&ledger_server));
    CU_ASSERT_EQUAL(scene_counter(&x, "ledger/away", 0), 0);
    CU_ASSERT_EQUAL(scene_counter(&x, "ledger/waiting", 0), 0);
}

/* The longest time from publishing to delivery of so many messages that have nothing to do with the ledger, in ms. */
static int slowest(int messages)
{
    int64_t worst = 0;
    for (int i = 0; i < messages; i++) {
        sealed e = seal((seal_spec){.from = &x.s.c.alice, .topic = "r/ordinary"});
        int64_t start = monotonic_ms();
        CU_ASSERT_TRUE(scene_passes(&x, "r/ordinary", &e, i % 3, false));
        worst = monotonic_ms() - start > worst ? monotonic_ms() - start : worst;
    }
    return (int)worst;
}

static void goes_on_at_once(int messages)
{
    int ms = slowest(messages);
    printf("slowest of %d: %d ms, ", messages, ms);
    CU_ASSERT_TRUE(ms < SECOND_MS || PATIENT);
}

/* What was turned away may come again as it is, and is then recorded. */
static void overflow_is_refused_or_dropped(const char *option)
{
    scene_set(&x, option);
    broker_mark(&x.s.b);
    long mark = x.s.b.mark;
    take_the_server_away();
    sealed turned_away = scene_message(&x.s.c.carol, "must/a", 0, 2);
    for (int qos = 0; qos <= 2; qos++)
        CU_ASSERT_TRUE(scene_refuses(&x, "must/a", &turned_away, qos, PEP_RECORD_OVERFLOW));
    CU_ASSERT_EQUAL(client_counter_reaches(x.s.to, "refused/record-overflow", 3), 3);
    sealed silent = seal((seal_spec){.from = &x.s.c.alice, .topic = "must/a"});
    CU_ASSERT_TRUE(scene_passes(&x, "must/a", &silent, 1, false));
    for (int i = 0; i < 9; i++)
        CU_ASSERT_TRUE(scene_sends(&x, &x.s.c.alice, "r/waits", i));
    goes_on_at_once(200);
    CU_ASSERT_EQUAL(scene_counter(&x, "ledger/waiting", 10), 10);
    CU_ASSERT_EQUAL(scene_asks(&x, &x.s.c.bob, "{\"command\":\"ledger.query\"}"), PEP_TRY_LATER);
    x.s.b.mark = mark;
    CU_ASSERT_EQUAL(broker_log_count(&x.s.b, AWAY), 1);
    bring_it_back();
    CU_ASSERT_TRUE(scene_passes(&x, "must/a", &turned_away, 1, false));
    CU_ASSERT_EQUAL(ledger_reaches(&x.a, &x.s.c.bob, "", 12), 12);
    CU_ASSERT_EQUAL(scene_count(&x, "\"topic\":\"r/waits\""), 10);
    CU_ASSERT_EQUAL(scene_count(&x, "\"topic\":\"must/a\""), 1);
    CU_ASSERT_EQUAL(client_counter(x.s.to, "ledger/dropped"), 0);
    scene_strike(&x);
}

static void when_the_ledger_is_away(void)
{
    overflow_is_refused_or_dropped("ledger");
}

static void when_the_whole_store_is_away(void)
{
    overflow_is_refused_or_dropped("store");
}

/* A frozen server answers nobody, which is found out by waiting; the broker does not wait. */
static void a_frozen_server_stops_no_broker(void)
{
    scene_set(&x, "ledger");
    CU_ASSERT_TRUE(scene_sends(&x, &x.s.c.alice, "r/first", 0));
    CU_ASSERT_TRUE(scene_settles(&x));
    postgres_freeze(&ledger_server, true);
    int64_t deadline = monotonic_ms() + patience_ms();
    long sent = 1;
    int worst = 0;
    for (; client_counter(x.s.to, "ledger/away") < 1 && remaining_ms(deadline) > 0; sent++) {
        int64_t start = monotonic_ms();
        CU_ASSERT_TRUE(scene_sends(&x, &x.s.c.alice, "r/waits", sent));
        int ms = (int)(monotonic_ms() - start);
        worst = ms > worst ? ms : worst;
    }
    printf("frozen: %ld messages, slowest %d ms, ", sent - 1, worst);
    CU_ASSERT_TRUE(worst < SECOND_MS || PATIENT);
    CU_ASSERT_EQUAL(client_counter(x.s.to, "ledger/away"), 1);
    sealed turned_away = scene_message(&x.s.c.alice, "must/a", 0, 2);
    CU_ASSERT_TRUE(scene_refuses(&x, "must/a", &turned_away, 1, PEP_RECORD_OVERFLOW));
    goes_on_at_once(200);
    postgres_freeze(&ledger_server, false);
    CU_ASSERT_EQUAL(ledger_reaches(&x.a, &x.s.c.bob, "", sent), sent);
    CU_ASSERT_EQUAL(scene_counter(&x, "ledger/waiting", 0), 0);
    CU_ASSERT_EQUAL(scene_count(&x, ""), sent);
    CU_ASSERT_EQUAL(client_counter(x.s.to, "ledger/dropped"), 0);
    scene_strike(&x);
}

/* ---- more than there is room for ---- */

#define FLOOD   14000 /* a row of each has 2.5 KB: 32 MB is what may wait */
#define LONG    2500
#define AT_ONCE 100

/* At QoS 0, as fast as the broker takes it, with a topic so long that few are needed. */
static void flood(void)
{
    char topic[LONG + 1] = "r/flood/";
    wire w = wire_open((wire_spec){.port = x.s.b.port, .id = "flood"});
    const pep_fact fact = fact_int("n", 1);
    for (size_t n = strlen(topic); n < LONG; n++)
        topic[n] = (char)('a' + randombytes_uniform(26));
    for (int i = 1; i <= FLOOD; i++) {
        sealed e = seal((seal_spec){.from = &x.s.c.carol, .topic = topic, .facts = &fact, .fact_n = 1});
        bool last = i % AT_ONCE == 0;
        wire_publish(&w, (wire_message){.topic = topic, .bytes = e.bytes, .n = e.n, .qos = last ? 1 : 0, .mid = 1});
        if (last)
            CU_ASSERT_TRUE(wire_answer(&w, WIRE_PUBACK, 1, NULL));
    }
    wire_drop(&w);
}

/* Somebody who does not hear of the flood. */
static void listen_to_the_rest(void)
{
    static const char *const filters[] = {"must/#", "r/ordinary", FENCE_TOPIC};
    client_close(x.s.to);
    x.s.to = stage_client(&x.s, "listener");
    for (size_t i = 0; i < sizeof(filters) / sizeof(filters[0]); i++)
        client_subscribe(x.s.to, filters[i], 2);
    client_subscribe(x.s.to, COUNTERS, 0);
}

static void what_overflows_is_dropped_and_counted(void)
{
    scene_set(&x, "ledger");
    take_the_server_away();
    listen_to_the_rest();
    flood();
    CU_ASSERT_TRUE(client_counter_reaches(x.s.to, "ledger/dropped", 1) > 0);
    CU_ASSERT_EQUAL(scene_counter(&x, "messages/accepted", FLOOD + 2), FLOOD + 2);
    long dropped = client_counter(x.s.to, "ledger/dropped");
    CU_ASSERT_EQUAL(client_counter(x.s.to, "ledger/waiting"), FLOOD + 1 - dropped);
    CU_ASSERT_TRUE(broker_logs(&x.s.b, "pep: messages that asked to be recorded and were not: "));
    goes_on_at_once(100);
    bring_it_back();
    goes_on_at_once(100);
    CU_ASSERT_EQUAL(scene_count(&x, ""), FLOOD + 2 - dropped);
    CU_ASSERT_EQUAL(scene_counter(&x, "ledger/dropped", dropped), dropped);
    printf("%ld of %d dropped, ", dropped, FLOOD);
    scene_strike(&x);
}

static const unit_test TESTS[] = {
    {"when the ledger is away", when_the_ledger_is_away},
    {"when the whole store is away", when_the_whole_store_is_away},
    {"a frozen server stops no broker", a_frozen_server_stops_no_broker},
    {"what overflows is dropped and counted", what_overflows_is_dropped_and_counted},
};

int main(void)
{
    if (!ledger_begin())
        return 1;
    int failed = ledger_run(true, "overflow", TESTS, sizeof(TESTS) / sizeof(TESTS[0]));
    ledger_end();
    return failed;
}
