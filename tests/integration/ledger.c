/*
 * Promise: what an accepted message asks to have recorded is recorded once, whichever door it came through, and nothing
 * else is. Only admins are told of others' messages, and only whoever asks. What cannot be recorded is refused or
 * counted, as the rule says, and the broker waits for no database.
 */
#include "ledger_ask.h"
#include "ledger_store.h"
#include "traces.h"

#include <signal.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define SECOND_MS 1000
#define SECOND_US 1000000
#define PATIENT   (patience_ms() > 10000) /* everything is slow here, and nothing is measured */

/* Bob is the admin; nobody is bound, so that any client may bring what anybody sealed. */
static const char POLICY[] =
    "enroll = \"closed\"; budget = { rate = 0; }; admins = [ \"bob\" ];\n"
    "topics = (\n"
    "  { filter = \"r/#\"; signers = [ \"*\" ]; record = \"allow\"; },\n"
    "  { filter = \"brief/#\"; signers = [ \"*\" ]; record = \"allow\"; keep = \"1s\"; },\n"
    "  { filter = \"must/#\"; signers = [ \"*\" ]; record = \"allow\"; record_overflow = \"refuse\"; },\n"
    "  { filter = \"no/#\"; signers = [ \"*\" ]; record = \"deny\"; },\n"
    "  { filter = \"seen/#\"; signers = [ \"carol\" ]; mode = \"observe\"; record = \"allow\"; },\n"
    "  { filter = \"shown/#\"; signers = [ \"*\" ]; mode = \"observe\"; record = \"deny\"; } );\n";

static stage s;
static asker a;
static client *from;

/* ---- setting the stage ---- */

static void meet(void)
{
    asker_open(&a, (client_spec){.port = s.b.port, .id = "asker"});
    from = client_open((client_spec){.port = s.b.port, .id = "from", .version = MQTT_5});
}

static void part(void)
{
    client_close(from);
    asker_close(&a);
}

static void set_with(const char *option)
{
    stage_set(&s, POLICY, ledger_conf(CONF_GUARDED, option));
    meet();
}

static void set(void)
{
    set_with("ledger");
}

static void strike(void)
{
    part();
    stage_strike(&s);
}

static void restart(bool hard)
{
    part();
    stage_restart(&s, hard);
    meet();
}

/* ---- sending ---- */

static sealed asking(const speaker *by, const char *topic, unsigned flags, int64_t n)
{
    const pep_fact facts[] = {fact_text("site", "north \"1\""), fact_int("n", n), fact_bool("on", n % 2 == 0)};
    return seal((seal_spec){.from = by, .topic = topic, .flags = flags, .facts = facts, .fact_n = 3});
}

static bool passes(const char *topic, const sealed *e, int qos, bool retain)
{
    return stage_passes(&s, from, topic, e, qos, retain);
}

static bool sends(const speaker *by, const char *topic, int64_t n)
{
    sealed e = asking(by, topic, 0, n);
    return passes(topic, &e, 1, false);
}

static bool refused(const char *topic, const sealed *e, int qos, pep_reason reason)
{
    return stage_refuses(&s, from, topic, e, qos, false, reason);
}

/* ---- asking ---- */

static bool settles(void)
{
    return ledger_settles(&a, &s.c.bob);
}

static long count(const char *conditions)
{
    return ledger_count(&a, &s.c.bob, conditions);
}

static pep_reason asks(const speaker *by, const char *command)
{
    return ledger_reason(&a, by, command);
}

/* Whatever else the listener was sent is lost. */
static long counter_becomes(const char *name, long value)
{
    int64_t deadline = monotonic_ms() + patience_ms();
    while (client_counter(s.to, name) != value && remaining_ms(deadline) > 0)
        (void)client_next_within(s.to, 10);
    return client_counter(s.to, name);
}

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
    CU_ASSERT_TRUE(settles());
    cJSON *answer = ledger_ask(&a, &s.c.bob, command);
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
    set();
    uint64_t before = pep_now_us();
    for (int i = 0; i < 6; i++) {
        int qos = i / 2;
        bool retain = i % 2 == 1;
        snprintf(topic, sizeof(topic), "r/%d/%d", qos, retain);
        sealed e = asking(&s.c.alice, topic, 0, i);
        CU_ASSERT_TRUE(passes(topic, &e, qos, retain));
        is_recorded_once(&e, topic, qos, retain, i);
    }
    snprintf(times, sizeof(times), "\"from\":%llu,\"to\":%llu", (unsigned long long)before,
             (unsigned long long)pep_now_us());
    CU_ASSERT_EQUAL(count(times), 6);
    CU_ASSERT_EQUAL(counter_becomes("ledger/recorded", 6), 6);
    CU_ASSERT_EQUAL(counter_becomes("ledger/waiting", 0), 0);
    CU_ASSERT_EQUAL(client_counter(s.to, "ledger/dropped"), 0);
    CU_ASSERT_EQUAL(client_counter(s.to, "ledger/away"), 0);
    strike();
}

static void wills_are_recorded(void)
{
    char topic[32];
    set();
    for (int i = 0; i < 6; i++) {
        int qos = i / 2;
        bool retain = i % 2 == 1;
        snprintf(topic, sizeof(topic), "r/%d/%d", qos, retain);
        sealed e = asking(&s.c.alice, topic, PEP_FLAG_WILL, i);
        CU_ASSERT_TRUE(stage_passes_will(&s, (wire_spec){.port = s.b.port,
                                                         .id = "w",
                                                         .will_topic = topic,
                                                         .will = e.bytes,
                                                         .will_n = e.n,
                                                         .will_qos = qos,
                                                         .will_retain = retain}));
        is_recorded_once(&e, topic, qos, retain, i);
    }
    CU_ASSERT_EQUAL(count(""), 6);
    strike();
}

/* A will that is not sent was not said. */
static void wills_that_are_not_sent_are_not(void)
{
    set();
    sealed e = asking(&s.c.alice, "r/w", PEP_FLAG_WILL, 1), refused_will = asking(&s.c.alice, "no/w", PEP_FLAG_WILL, 2);
    const wire_spec spec = {
        .port = s.b.port, .id = "w", .will_topic = "no/w", .will = refused_will.bytes, .will_n = refused_will.n};
    CU_ASSERT_TRUE(stage_refuses_will(&s, spec, PEP_RECORD_DENIED));
    CU_ASSERT_TRUE(refused("r/w", &e, 1, PEP_MISPLACED_FLAG)); /* nor is it one where it is published */
    CU_ASSERT_TRUE(settles());
    CU_ASSERT_EQUAL(count(""), 0);
    strike();
}

static void bridged_messages_are_recorded(void)
{
    upstream up;
    char topic[32];
    stage_set_bridged(&s, &up, POLICY, "topic r/# in 2\n");
    meet();
    for (int qos = 0; qos <= 2; qos++) {
        snprintf(topic, sizeof(topic), "r/%d", qos);
        sealed e = asking(&s.c.alice, topic, 0, qos);
        CU_ASSERT_EQUAL(client_publish(up.from, topic, e.bytes, e.n, qos, false), REASON_SUCCESS);
        CU_ASSERT_TRUE(client_gets(s.to, topic, e.bytes, e.n));
        is_recorded_once(&e, topic, qos, false, qos);
    }
    CU_ASSERT_EQUAL(count(""), 3);
    part();
    stage_strike_bridged(&s, &up);
}

/* ---- what is not recorded ---- */

static void others_are_not_recorded(void)
{
    set();
    sealed silent = seal((seal_spec){.from = &s.c.alice, .topic = "r/a"});
    CU_ASSERT_TRUE(passes("r/a", &silent, 1, false));
    for (int qos = 0; qos <= 2; qos++) {
        sealed denied = asking(&s.c.alice, "no/a", 0, qos);
        CU_ASSERT_TRUE(refused("no/a", &denied, qos, PEP_RECORD_DENIED));
    }
    sealed forged = asking(&s.c.alice, "r/a", 0, 3), stranger = asking(&s.c.mallory, "r/a", 0, 4);
    forged.bytes[forged.n - 1] ^= 1;
    CU_ASSERT_TRUE(refused("r/a", &forged, 1, PEP_BAD_SIGNATURE));
    CU_ASSERT_TRUE(refused("r/a", &stranger, 1, PEP_UNKNOWN_SIGNER));
    CU_ASSERT_TRUE(settles());
    CU_ASSERT_EQUAL(count(""), 0);
    CU_ASSERT_TRUE(sends(&s.c.alice, "r/a", 5)); /* and now one is */
    CU_ASSERT_TRUE(settles());
    CU_ASSERT_EQUAL(count(""), 1);
    strike();
}

/* Observing lets through what the rule would refuse, and does not record it. */
static void observing_records_what_is_good(void)
{
    set();
    CU_ASSERT_TRUE(sends(&s.c.alice, "seen/a", 1));
    CU_ASSERT_TRUE(sends(&s.c.alice, "shown/a", 2));
    sealed forged = asking(&s.c.carol, "seen/a", 0, 3);
    forged.bytes[forged.n - 1] ^= 1;
    CU_ASSERT_TRUE(passes("seen/a", &forged, 1, false));
    CU_ASSERT_TRUE(settles());
    CU_ASSERT_EQUAL(count(""), 0);
    CU_ASSERT_TRUE(sends(&s.c.carol, "seen/a", 4));
    CU_ASSERT_TRUE(settles());
    CU_ASSERT_EQUAL(count("\"topic\":\"seen/a\",\"signer\":\"carol\""), 1);
    strike();
}

/* ---- once ---- */

static wire alices(void)
{
    return wire_open((wire_spec){.port = s.b.port, .id = "alice", .keep_session = true});
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
    sealed e = asking(&s.c.alice, topic, 0, qos);
    publish_again(&first, topic, &e, qos, false);
    publish_again(&first, topic, &e, qos, true);
    wire second = alices();
    CU_ASSERT_TRUE(wire_closed(&first));
    publish_again(&second, topic, &e, qos, true);
    CU_ASSERT_TRUE(settles());
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
    set();
    redelivered_is_recorded_once(1, "r/1");
    redelivered_is_recorded_once(2, "r/2");
    CU_ASSERT_EQUAL(count(""), 2);
    CU_ASSERT_EQUAL(counter_becomes("ledger/recorded", 2), 2);
    CU_ASSERT_EQUAL(counter_becomes("messages/redelivered", 6), 6);
    strike();
}

/* Nor is what was on the disk when the broker was killed. */
static void redelivered_behind_a_kill_is_recorded_once(void)
{
    set();
    wire w = alices();
    sealed e = asking(&s.c.alice, "r/a", 0, 1);
    publish_again(&w, "r/a", &e, 1, false);
    CU_ASSERT_TRUE(settles());
    wire_drop(&w);
    restart(true);
    w = alices();
    publish_again(&w, "r/a", &e, 1, true);
    is_recorded_once(&e, "r/a", 1, false, 1);
    wire_drop(&w);
    strike();
}

/* A stop writes what waits. */
static void a_stop_loses_nothing(void)
{
    set();
    for (int i = 0; i < 50; i++)
        CU_ASSERT_TRUE(sends(&s.c.alice, "r/a", i));
    restart(false);
    CU_ASSERT_EQUAL(count(""), 50);
    strike();
}

/* ---- what ends by itself ---- */

/* Off the disk, too: the log of all that is said here does not lie in that folder. */
static bool is_scrubbed(const char *text)
{
    int64_t deadline = monotonic_ms() + patience_ms();
    while (traces_in_folder(broker_path(&s.b, "state"), text, false) > 0 && remaining_ms(deadline) > 0)
        ;
    return traces_in_folder(broker_path(&s.b, "state"), text, true) == 0;
}

static void what_is_kept_briefly_vanishes(void)
{
    set();
    CU_ASSERT_TRUE(sends(&s.c.alice, "brief/a", 1));
    CU_ASSERT_TRUE(sends(&s.c.alice, "r/a", 2));
    CU_ASSERT_EQUAL(client_counter_reaches(s.to, "ledger/recorded", 2), 2);
    CU_ASSERT_EQUAL(client_counter_reaches(s.to, "ledger/erased", 1), 1);
    CU_ASSERT_EQUAL(count("\"topic\":\"brief/#\""), 0);
    CU_ASSERT_EQUAL(count(""), 1);
    CU_ASSERT_TRUE(ledger_on_postgres || is_scrubbed("brief/a"));
    cJSON *answer = ledger_ask(&a, &s.c.bob, "{\"command\":\"ledger.erasures\"}");
    CU_ASSERT_EQUAL(cJSON_GetArraySize(ledger_list(answer, "erasures")), 0); /* nobody erased it */
    cJSON_Delete(answer);
    strike();
}

/* ---- who may ask ---- */

static void record_some(void)
{
    for (int i = 0; i < 6; i++)
        CU_ASSERT_TRUE(sends(i < 4 ? &s.c.alice : &s.c.carol, i % 2 == 0 ? "r/even" : "r/odd", i));
    CU_ASSERT_TRUE(settles());
}

static int rows_for(const speaker *by, const char *command)
{
    cJSON *answer = ledger_ask(&a, by, command);
    int rows = cJSON_GetArraySize(ledger_list(answer, "rows"));
    cJSON_Delete(answer);
    return rows;
}

static void admins_see_all_and_others_their_own(void)
{
    set();
    record_some();
    CU_ASSERT_EQUAL(rows_for(&s.c.bob, "{\"command\":\"ledger.query\"}"), 6);
    CU_ASSERT_EQUAL(rows_for(&s.c.bob, "{\"command\":\"ledger.query\",\"signer\":\"carol\"}"), 2);
    CU_ASSERT_EQUAL(rows_for(&s.c.alice, "{\"command\":\"ledger.query\"}"), 4);
    CU_ASSERT_EQUAL(rows_for(&s.c.alice, "{\"command\":\"ledger.query\",\"topic\":\"r/odd\"}"), 2);
    CU_ASSERT_EQUAL(rows_for(&s.c.carol, "{\"command\":\"ledger.query\",\"signer\":\"carol\"}"), 2);
    CU_ASSERT_EQUAL(asks(&s.c.carol, "{\"command\":\"ledger.query\",\"signer\":\"alice\"}"), PEP_NOT_AUTHORIZED);
    CU_ASSERT_EQUAL(ledger_count(&a, &s.c.alice, ""), 4);
    CU_ASSERT_EQUAL(ledger_count(&a, &s.c.carol, "\"fields\":{\"n\":\"4\"}"), 1);
    CU_ASSERT_EQUAL(ledger_count(&a, &s.c.carol, "\"fields\":{\"n\":\"3\"}"), 0);
    CU_ASSERT_EQUAL(asks(&s.c.carol, "{\"command\":\"ledger.sum\",\"signer\":\"bob\"}"), PEP_NOT_AUTHORIZED);
    strike();
}

static void sums_are_told(void)
{
    set();
    record_some();
    cJSON *answer =
        ledger_ask(&a, &s.c.bob, "{\"command\":\"ledger.sum\",\"of\":\"n\",\"by\":[\"topic\"],\"signer\":\"alice\"}");
    const cJSON *groups = ledger_list(answer, "groups");
    CU_ASSERT_EQUAL_FATAL(cJSON_GetArraySize(groups), 2);
    for (const cJSON *g = groups->child; g != NULL; g = g->next) {
        bool odd = strcmp(text_in(g, "topic"), "r/odd") == 0;
        CU_ASSERT_EQUAL(number_in(g, "count"), 2);
        CU_ASSERT_EQUAL(number_in(g, "numbers"), 2);
        CU_ASSERT_STRING_EQUAL(text_in(g, "sum"), odd ? "4" : "2");
        CU_ASSERT_STRING_EQUAL(text_in(g, "min"), odd ? "1" : "0");
        CU_ASSERT_STRING_EQUAL(text_in(g, "max"), odd ? "3" : "2");
        CU_ASSERT_EQUAL(number_in(g, "avg"), odd ? 2 : 1);
    }
    cJSON_Delete(answer);
    strike();
}

static void admins_have_it_forgotten(void)
{
    set();
    record_some();
    CU_ASSERT_EQUAL(asks(&s.c.alice, "{\"command\":\"ledger.forget\",\"signer\":\"alice\"}"), PEP_NOT_AUTHORIZED);
    CU_ASSERT_EQUAL(asks(&s.c.alice, "{\"command\":\"ledger.erasures\"}"), PEP_NOT_AUTHORIZED);
    CU_ASSERT_EQUAL(count(""), 6);
    cJSON *answer = ledger_ask(&a, &s.c.bob, "{\"command\":\"ledger.forget\",\"topic\":\"r/odd\"}");
    CU_ASSERT_EQUAL(number_in(answer_data(answer), "count"), 3);
    CU_ASSERT_EQUAL(cJSON_IsTrue(ledger_list(answer, "scrubbed")), !ledger_on_postgres);
    cJSON_Delete(answer);
    CU_ASSERT_EQUAL(count("\"topic\":\"r/odd\""), 0);
    CU_ASSERT_EQUAL(count(""), 3);
    CU_ASSERT_EQUAL(client_counter_reaches(s.to, "ledger/erased", 3), 3);
    answer = ledger_ask(&a, &s.c.bob, "{\"command\":\"ledger.erasures\"}");
    const cJSON *newest = cJSON_GetArrayItem(ledger_list(answer, "erasures"), 0);
    CU_ASSERT_STRING_EQUAL(text_in(newest, "by"), "bob");
    CU_ASSERT_STRING_EQUAL(text_in(newest, "criteria"), "topic");
    CU_ASSERT_EQUAL(number_in(newest, "count"), 3);
    cJSON_Delete(answer);
    strike();
}

/* ---- what is asked wrong ---- */

#define QUERY  "{\"command\":\"ledger.query\"}"
#define SUM    "{\"command\":\"ledger.sum\"}"
#define FORGET "{\"command\":\"ledger.forget\",\"topic\":\"#\"}"

static sealed sealed_for(const uint8_t *gate_kid, uint64_t seq, uint64_t now_s)
{
    sealed out = {.n = 0};
    static const char json[] = "{\"commands\":[" FORGET "]}";
    const pep_command command = {&s.c.bob.device, seq, false, gate_kid, now_s};
    const pep_view text = {(const uint8_t *)json, sizeof(json) - 1};
    CU_ASSERT_EQUAL(pep_command_seal(out.bytes, &out.n, sizeof(out.bytes), &command, text), PEP_OK);
    return out;
}

static void it_must_be_sealed_for_this_gate(void)
{
    static const char *const all[] = {QUERY, SUM, FORGET, "{\"command\":\"ledger.erasures\"}"};
    char text[128];
    uint64_t now_s = pep_now_us() / SECOND_US;
    set();
    record_some();
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        snprintf(text, sizeof(text), "{\"commands\":[%s]}", all[i]);
        CU_ASSERT_EQUAL(ask_text(&a, text), PEP_NOT_AUTHORIZED);
    }
    sealed e = sealed_for(s.c.bob.device.sign_kid, next_seq(), now_s);
    CU_ASSERT_EQUAL(ask_reason(&a, &e), PEP_WRONG_AUDIENCE);
    e = sealed_for(a.gate_kid, next_seq(), now_s - PEP_COMMAND_LIFE_S - 2);
    CU_ASSERT_EQUAL(ask_reason(&a, &e), PEP_EXPIRED);
    e = sealed_for(a.gate_kid, pep_now_us() + 3600ull * SECOND_US, now_s);
    CU_ASSERT_EQUAL(ask_reason(&a, &e), PEP_FUTURE_SEQ);
    e = sealed_for(a.gate_kid, next_seq(), now_s);
    e.bytes[e.n - 1] ^= 1;
    CU_ASSERT_EQUAL(ask_reason(&a, &e), PEP_NOT_AUTHORIZED);
    CU_ASSERT_EQUAL(count(""), 6);
    strike();
}

static void it_must_be_by_somebody_known(void)
{
    static const char *const all[] = {QUERY, SUM, FORGET};
    set();
    record_some();
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        CU_ASSERT_EQUAL(asks(&s.c.mallory, all[i]), PEP_NOT_AUTHORIZED);
        CU_ASSERT_EQUAL(asks(&s.c.gone, all[i]), PEP_NOT_AUTHORIZED);
        CU_ASSERT_EQUAL(asks(&s.c.turned, all[i]), PEP_NOT_AUTHORIZED);
        CU_ASSERT_EQUAL(asks(&s.c.old, all[i]), PEP_EXPIRED_SIGNER);
    }
    CU_ASSERT_EQUAL(count(""), 6);
    strike();
}

/* Also a question: its answer is for whoever asked, once. */
static void it_counts_once(void)
{
    static const char *const all[] = {QUERY, SUM, FORGET};
    asker other;
    set();
    record_some();
    asker_open(&other, (client_spec){.port = s.b.port, .id = "other"});
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        sealed e = ledger_command(&a, &s.c.bob, all[i]);
        CU_ASSERT_EQUAL(ask_reason(&a, &e), PEP_OK);
        CU_ASSERT_EQUAL(ask_reason(&a, &e), PEP_REPEATED_COMMAND);
        CU_ASSERT_EQUAL(ask_reason(&other, &e), PEP_REPEATED_COMMAND);
    }
    asker_close(&other);
    strike();
}

static void malformed_questions_are_answered(void)
{
    static const char *const bad[] = {
        "{\"command\":\"ledger.query\",\"count\":0}",
        "{\"command\":\"ledger.query\",\"topic\":\"a/#/b\"}",
        "{\"command\":\"ledger.query\",\"fields\":{\"a\":1}}",
        "{\"command\":\"ledger.query\",\"fields\":{\"a\\\"') OR 1=1 --\":\"1\"}}",
        "{\"command\":\"ledger.query\",\"after\":\"1; DROP TABLE pep_ledger\"}",
        "{\"command\":\"ledger.query\",\"signer\":\"' OR ''='\"}",
        "{\"command\":\"ledger.query\",\"colour\":\"red\"}",
        "{\"command\":\"ledger.sum\",\"by\":[\"kid\"]}",
        "{\"command\":\"ledger.sum\",\"by\":\"signer\"}",
        "{\"command\":\"ledger.forget\"}",
        "{\"command\":\"ledger.forget\",\"before\":\"now\"}",
        "{\"command\":\"ledger.erasures\",\"count\":1}",
        "{\"command\":\"ledger.fly\"}",
    };
    set();
    record_some();
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        pep_reason reason = asks(&s.c.bob, bad[i]);
        CU_ASSERT_EQUAL(reason, PEP_BAD_COMMAND);
        if (reason != PEP_BAD_COMMAND)
            fprintf(stderr, "%s: %s\n", bad[i], reason == NO_ANSWER ? "no answer" : pep_reason_name(reason));
    }
    CU_ASSERT_EQUAL(count("\"fields\":{\"') OR ('1'='1\":\"x\"}"), 0); /* a name like any other */
    CU_ASSERT_EQUAL(count("\"topic\":\"' OR ''='\""), 0);
    CU_ASSERT_EQUAL(count(""), 6);
    strike();
}

/* They may read all, the ACL says. */
static void only_who_asks_is_told(void)
{
    client *watchers[2];
    set();
    record_some();
    for (int i = 0; i < 2; i++) {
        watchers[i] = client_open((client_spec){.port = s.b.port, .version = i == 0 ? MQTT_3 : MQTT_5});
        client_subscribe(watchers[i], i == 0 ? "$CONTROL/#" : PEP_ANSWER_TOPIC, 1);
        client_subscribe(watchers[i], FENCE_TOPIC, 2);
    }
    CU_ASSERT_EQUAL(rows_for(&s.c.bob, QUERY), 6);
    CU_ASSERT_EQUAL(asks(&s.c.alice, SUM), PEP_OK);
    CU_ASSERT_EQUAL(asks(&s.c.alice, FORGET), PEP_NOT_AUTHORIZED);
    CU_ASSERT_TRUE(client_fence(s.to, s.to));
    for (int i = 0; i < 2; i++) {
        CU_ASSERT_TRUE(client_gets_fence(watchers[i]));
        client_close(watchers[i]);
    }
    strike();
}

/* ---- without the server ---- */

#define AWAY "pep: the ledger's store cannot be reached"

/* Something must be written before it is noticed. */
static void take_the_server_away(void)
{
    CU_ASSERT_TRUE(sends(&s.c.alice, "r/first", 0));
    CU_ASSERT_TRUE(settles());
    postgres_stop(&ledger_server, SIGINT);
    CU_ASSERT_TRUE(sends(&s.c.alice, "r/waits", 1));
    CU_ASSERT_EQUAL(client_counter_reaches(s.to, "ledger/away", 1), 1);
}

static void bring_it_back(void)
{
    CU_ASSERT_TRUE_FATAL(postgres_again(&ledger_server));
    CU_ASSERT_EQUAL(counter_becomes("ledger/away", 0), 0);
    CU_ASSERT_EQUAL(counter_becomes("ledger/waiting", 0), 0);
}

/* The longest time from publishing to delivery of so many messages that have nothing to do with the ledger, in ms. */
static int slowest(int messages)
{
    int64_t worst = 0;
    for (int i = 0; i < messages; i++) {
        sealed e = seal((seal_spec){.from = &s.c.alice, .topic = "r/ordinary"});
        int64_t start = monotonic_ms();
        CU_ASSERT_TRUE(passes("r/ordinary", &e, i % 3, false));
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
    set_with(option);
    broker_mark(&s.b);
    long mark = s.b.mark;
    take_the_server_away();
    sealed turned_away = asking(&s.c.carol, "must/a", 0, 2);
    for (int qos = 0; qos <= 2; qos++)
        CU_ASSERT_TRUE(refused("must/a", &turned_away, qos, PEP_RECORD_OVERFLOW));
    CU_ASSERT_EQUAL(client_counter_reaches(s.to, "refused/record-overflow", 3), 3);
    sealed silent = seal((seal_spec){.from = &s.c.alice, .topic = "must/a"});
    CU_ASSERT_TRUE(passes("must/a", &silent, 1, false));
    for (int i = 0; i < 9; i++)
        CU_ASSERT_TRUE(sends(&s.c.alice, "r/waits", i));
    goes_on_at_once(200);
    CU_ASSERT_EQUAL(counter_becomes("ledger/waiting", 10), 10);
    CU_ASSERT_EQUAL(asks(&s.c.bob, QUERY), PEP_TRY_LATER);
    s.b.mark = mark;
    CU_ASSERT_EQUAL(broker_log_count(&s.b, AWAY), 1);
    bring_it_back();
    CU_ASSERT_TRUE(passes("must/a", &turned_away, 1, false));
    CU_ASSERT_EQUAL(ledger_reaches(&a, &s.c.bob, "", 12), 12);
    CU_ASSERT_EQUAL(count("\"topic\":\"r/waits\""), 10);
    CU_ASSERT_EQUAL(count("\"topic\":\"must/a\""), 1);
    CU_ASSERT_EQUAL(client_counter(s.to, "ledger/dropped"), 0);
    strike();
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
    set();
    CU_ASSERT_TRUE(sends(&s.c.alice, "r/first", 0));
    CU_ASSERT_TRUE(settles());
    postgres_freeze(&ledger_server, true);
    int64_t deadline = monotonic_ms() + patience_ms();
    long sent = 1;
    int worst = 0;
    for (; client_counter(s.to, "ledger/away") < 1 && remaining_ms(deadline) > 0; sent++) {
        int64_t start = monotonic_ms();
        CU_ASSERT_TRUE(sends(&s.c.alice, "r/waits", sent));
        int ms = (int)(monotonic_ms() - start);
        worst = ms > worst ? ms : worst;
    }
    printf("frozen: %ld messages, slowest %d ms, ", sent - 1, worst);
    CU_ASSERT_TRUE(worst < SECOND_MS || PATIENT);
    CU_ASSERT_EQUAL(client_counter(s.to, "ledger/away"), 1);
    sealed turned_away = asking(&s.c.alice, "must/a", 0, 2);
    CU_ASSERT_TRUE(refused("must/a", &turned_away, 1, PEP_RECORD_OVERFLOW));
    goes_on_at_once(200);
    postgres_freeze(&ledger_server, false);
    CU_ASSERT_EQUAL(ledger_reaches(&a, &s.c.bob, "", sent), sent);
    CU_ASSERT_EQUAL(counter_becomes("ledger/waiting", 0), 0);
    CU_ASSERT_EQUAL(count(""), sent);
    CU_ASSERT_EQUAL(client_counter(s.to, "ledger/dropped"), 0);
    strike();
}

/* ---- more than there is room for ---- */

#define FLOOD   14000 /* a row of each has 2.5 KB: 32 MB is what may wait */
#define LONG    2500
#define AT_ONCE 100

/* At QoS 0, as fast as the broker takes it, with a topic so long that few are needed. */
static void flood(void)
{
    char topic[LONG + 1] = "r/flood/";
    wire w = wire_open((wire_spec){.port = s.b.port, .id = "flood"});
    const pep_fact fact = fact_int("n", 1);
    for (size_t n = strlen(topic); n < LONG; n++)
        topic[n] = (char)('a' + randombytes_uniform(26));
    for (int i = 1; i <= FLOOD; i++) {
        sealed e = seal((seal_spec){.from = &s.c.carol, .topic = topic, .facts = &fact, .fact_n = 1});
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
    client_close(s.to);
    s.to = stage_client(&s, "listener");
    for (size_t i = 0; i < sizeof(filters) / sizeof(filters[0]); i++)
        client_subscribe(s.to, filters[i], 2);
    client_subscribe(s.to, COUNTERS, 0);
}

static void what_overflows_is_dropped_and_counted(void)
{
    set();
    take_the_server_away();
    listen_to_the_rest();
    flood();
    CU_ASSERT_TRUE(client_counter_reaches(s.to, "ledger/dropped", 1) > 0);
    CU_ASSERT_EQUAL(counter_becomes("messages/accepted", FLOOD + 2), FLOOD + 2);
    long dropped = client_counter(s.to, "ledger/dropped");
    CU_ASSERT_EQUAL(client_counter(s.to, "ledger/waiting"), FLOOD + 1 - dropped);
    CU_ASSERT_TRUE(broker_logs(&s.b, "pep: messages that asked to be recorded and were not: "));
    goes_on_at_once(100);
    bring_it_back();
    goes_on_at_once(100);
    CU_ASSERT_EQUAL(count(""), FLOOD + 2 - dropped);
    CU_ASSERT_EQUAL(counter_becomes("ledger/dropped", dropped), dropped);
    printf("%ld of %d dropped, ", dropped, FLOOD);
    strike();
}

static const unit_test COMMON[] = {
    {"publishes are recorded", publishes_are_recorded},
    {"wills are recorded", wills_are_recorded},
    {"wills that are not sent are not", wills_that_are_not_sent_are_not},
    {"others are not recorded", others_are_not_recorded},
    {"observing records what is good", observing_records_what_is_good},
    {"redelivered messages are recorded once", redelivered_messages_are_recorded_once},
    {"redelivered behind a kill is recorded once", redelivered_behind_a_kill_is_recorded_once},
    {"a stop loses nothing", a_stop_loses_nothing},
    {"what is kept briefly vanishes", what_is_kept_briefly_vanishes},
    {"admins see all, and others their own", admins_see_all_and_others_their_own},
    {"sums are told", sums_are_told},
    {"admins have it forgotten", admins_have_it_forgotten},
};

static const unit_test SQLITE_ALONE[] = {
    {"bridged messages are recorded", bridged_messages_are_recorded},
    {"it must be sealed for this gate", it_must_be_sealed_for_this_gate},
    {"it must be by somebody known", it_must_be_by_somebody_known},
    {"it counts once", it_counts_once},
    {"malformed questions are answered", malformed_questions_are_answered},
    {"only who asks is told", only_who_asks_is_told},
};

static const unit_test POSTGRES_ALONE[] = {
    {"malformed questions are answered", malformed_questions_are_answered},
    {"overflow when the ledger is away", when_the_ledger_is_away},
    {"overflow when the whole store is away", when_the_whole_store_is_away},
    {"a frozen server stops no broker", a_frozen_server_stops_no_broker},
    {"what overflows is dropped and counted", what_overflows_is_dropped_and_counted},
};

int main(void)
{
    if (!ledger_begin())
        return 1;
    int failed = ledger_run(false, "ledger", COMMON, sizeof(COMMON) / sizeof(COMMON[0]));
    failed |= ledger_run(false, "ledger alone", SQLITE_ALONE, sizeof(SQLITE_ALONE) / sizeof(SQLITE_ALONE[0]));
    failed |= ledger_run(true, "ledger", COMMON, sizeof(COMMON) / sizeof(COMMON[0]));
    failed |= ledger_run(true, "ledger alone", POSTGRES_ALONE, sizeof(POSTGRES_ALONE) / sizeof(POSTGRES_ALONE[0]));
    ledger_end();
    return failed;
}
