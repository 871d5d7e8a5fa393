/*
 * A short walk through most of the plugin's code: what valgrind can follow in a reasonable time.
 * Each promise has its own program; here they are only touched.
 */
#include "stage.h"
#include "tests/unit/unit.h"

static stage s;

static void try_cases(client *alice)
{
    for (size_t i = 0; i < CASE_COUNT; i++)
        CU_ASSERT_TRUE(stage_tries(&s, &CASES[i], alice, "t/a"));
}

static void try_retained(client *alice)
{
    sealed e = seal((seal_spec){.from = &s.c.alice, .topic = "t/a"});
    sealed clear = seal((seal_spec){.from = &s.c.alice, .topic = "t/a", .flags = PEP_FLAG_CLEAR});
    CU_ASSERT_TRUE(stage_passes(&s, alice, "t/a", &e, 2, true));
    CU_ASSERT_EQUAL(client_publish(alice, "t/a", clear.bytes, clear.n, 1, true), REASON_SUCCESS);
    CU_ASSERT_TRUE(client_gets(s.to, "t/a", NULL, 0));
}

static void try_will(void)
{
    sealed will = seal((seal_spec){.from = &s.c.alice, .topic = "t/a", .flags = PEP_FLAG_WILL});
    wire_spec with_will = {.port = s.b.port, .id = "alice", .will_topic = "t/a", .will = will.bytes, .will_n = will.n};
    CU_ASSERT_TRUE(stage_passes_will(&s, with_will));
}

static void try_reload(void)
{
    record_remove(&s.b, "bob");
    broker_reload(&s.b);
    CU_ASSERT_EQUAL(client_counter_reaches(s.to, "policy/loaded", 2), 2);
    broker_write(&s.b, "policy.conf", "broken");
    broker_reload(&s.b);
    CU_ASSERT_EQUAL(client_counter_reaches(s.to, "policy/failed", 1), 1);
}

static void a_walk(void)
{
    stage_set(&s, GUARD_POLICY, CONF_GUARDED);
    client *alice = client_open((client_spec){.port = s.b.port, .id = "alice", .version = MQTT_5});
    try_cases(alice);
    try_retained(alice);
    client_close(alice);
    try_will();
    try_reload();
    broker_write(&s.b, "policy.conf", GUARD_POLICY);
    stage_restart(&s, false);
    stage_strike(&s);
}

static void a_refused_start(void)
{
    stage_prepare(&s, "broken", CONF_GUARDED);
    CU_ASSERT_FALSE(broker_start(&s.b));
    CU_ASSERT_NOT_EQUAL(s.b.exit_code, 0);
    stage_strike(&s);
}

static const unit_test TESTS[] = {
    {"a walk", a_walk},
    {"a refused start", a_refused_start},
};
UNIT_MAIN("smoke", TESTS)
