/*
 * Promise: only admins are told of others' messages, only whoever asks is told, and each question counts once. What is
 * asked wrong is answered with the reason.
 */
#include "ledger_scene.h"
#include "ledger_store.h"

#include <string.h>

#define SECOND_US 1000000

static scene x;

/* ---- who may ask ---- */

static void record_some(void)
{
    for (int i = 0; i < 6; i++)
        CU_ASSERT_TRUE(scene_sends(&x, i < 4 ? &x.s.c.alice : &x.s.c.carol, i % 2 == 0 ? "r/even" : "r/odd", i));
    CU_ASSERT_TRUE(scene_settles(&x));
}

static int rows_for(const speaker *by, const char *command)
{
    cJSON *answer = ledger_ask(&x.a, by, command);
    int rows = cJSON_GetArraySize(ledger_list(answer, "rows"));
    cJSON_Delete(answer);
    return rows;
}

static void admins_see_all_and_others_their_own(void)
{
    scene_set(&x, "ledger");
    record_some();
    CU_ASSERT_EQUAL(rows_for(&x.s.c.bob, "{\"command\":\"ledger.query\"}"), 6);
    CU_ASSERT_EQUAL(rows_for(&x.s.c.bob, "{\"command\":\"ledger.query\",\"signer\":\"carol\"}"), 2);
    CU_ASSERT_EQUAL(rows_for(&x.s.c.alice, "{\"command\":\"ledger.query\"}"), 4);
    CU_ASSERT_EQUAL(rows_for(&x.s.c.alice, "{\"command\":\"ledger.query\",\"topic\":\"r/odd\"}"), 2);
    CU_ASSERT_EQUAL(rows_for(&x.s.c.carol, "{\"command\":\"ledger.query\",\"signer\":\"carol\"}"), 2);
    CU_ASSERT_EQUAL(scene_asks(&x, &x.s.c.carol, "{\"command\":\"ledger.query\",\"signer\":\"alice\"}"),
                    PEP_NOT_AUTHORIZED);
    CU_ASSERT_EQUAL(ledger_count(&x.a, &x.s.c.alice, ""), 4);
    CU_ASSERT_EQUAL(ledger_count(&x.a, &x.s.c.carol, "\"fields\":{\"n\":\"4\"}"), 1);
    CU_ASSERT_EQUAL(ledger_count(&x.a, &x.s.c.carol, "\"fields\":{\"n\":\"3\"}"), 0);
    CU_ASSERT_EQUAL(scene_asks(&x, &x.s.c.carol, "{\"command\":\"ledger.sum\",\"signer\":\"bob\"}"),
                    PEP_NOT_AUTHORIZED);
    scene_strike(&x);
}

static void sums_are_told(void)
{
    scene_set(&x, "ledger");
    record_some();
    cJSON *answer = ledger_ask(&x.a, &x.s.c.bob,
                               "{\"command\":\"ledger.sum\",\"of\":\"n\",\"by\":[\"topic\"],\"signer\":\"alice\"}");
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
    scene_strike(&x);
}

static void admins_have_it_forgotten(void)
{
    scene_set(&x, "ledger");
    record_some();
    CU_ASSERT_EQUAL(scene_asks(&x, &x.s.c.alice, "{\"command\":\"ledger.forget\",\"signer\":\"alice\"}"),
                    PEP_NOT_AUTHORIZED);
    CU_ASSERT_EQUAL(scene_asks(&x, &x.s.c.alice, "{\"command\":\"ledger.erasures\"}"), PEP_NOT_AUTHORIZED);
    CU_ASSERT_EQUAL(scene_count(&x, ""), 6);
    cJSON *answer = ledger_ask(&x.a, &x.s.c.bob, "{\"command\":\"ledger.forget\",\"topic\":\"r/odd\"}");
    CU_ASSERT_EQUAL(number_in(answer_data(answer), "count"), 3);
    CU_ASSERT_EQUAL(cJSON_IsTrue(ledger_list(answer, "scrubbed")), !ledger_on_postgres);
    cJSON_Delete(answer);
    CU_ASSERT_EQUAL(scene_count(&x, "\"topic\":\"r/odd\""), 0);
    CU_ASSERT_EQUAL(scene_count(&x, ""), 3);
    CU_ASSERT_EQUAL(client_counter_reaches(x.s.to, "ledger/erased", 3), 3);
    answer = ledger_ask(&x.a, &x.s.c.bob, "{\"command\":\"ledger.erasures\"}");
    const cJSON *newest = cJSON_GetArrayItem(ledger_list(answer, "erasures"), 0);
    CU_ASSERT_STRING_EQUAL(text_in(newest, "by"), "bob");
    CU_ASSERT_STRING_EQUAL(text_in(newest, "criteria"), "topic");
    CU_ASSERT_EQUAL(number_in(newest, "count"), 3);
    cJSON_Delete(answer);
    scene_strike(&x);
}

/* ---- what is asked wrong ---- */

#define QUERY  "{\"command\":\"ledger.query\"}"
#define SUM    "{\"command\":\"ledger.sum\"}"
#define FORGET "{\"command\":\"ledger.forget\",\"topic\":\"#\"}"

static sealed sealed_for(const uint8_t *gate_kid, uint64_t seq, uint64_t now_s)
{
    sealed out = {.n = 0};
    static const char json[] = "{\"commands\":[" FORGET "]}";
    const pep_command command = {&x.s.c.bob.device, seq, false, gate_kid, now_s};
    const pep_view text = {(const uint8_t *)json, sizeof(json) - 1};
    CU_ASSERT_EQUAL(pep_command_seal(out.bytes, &out.n, sizeof(out.bytes), &command, text), PEP_OK);
    return out;
}

static void it_must_be_sealed_for_this_gate(void)
{
    static const char *const all[] = {QUERY, SUM, FORGET, "{\"command\":\"ledger.erasures\"}"};
    char text[128];
    uint64_t now_s = pep_now_us() / SECOND_US;
    scene_set(&x, "ledger");
    record_some();
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        snprintf(text, sizeof(text), "{\"commands\":[%s]}", all[i]);
        CU_ASSERT_EQUAL(ask_text(&x.a, text), PEP_NOT_AUTHORIZED);
    }
    sealed e = sealed_for(x.s.c.bob.device.sign_kid, next_seq(), now_s);
    CU_ASSERT_EQUAL(ask_reason(&x.a, &e), PEP_WRONG_AUDIENCE);
    e = sealed_for(x.a.gate_kid, next_seq(), now_s - PEP_COMMAND_LIFE_S - 2);
    CU_ASSERT_EQUAL(ask_reason(&x.a, &e), PEP_EXPIRED);
    e = sealed_for(x.a.gate_kid, pep_now_us() + 3600ull * SECOND_US, now_s);
    CU_ASSERT_EQUAL(ask_reason(&x.a, &e), PEP_FUTURE_SEQ);
    e = sealed_for(x.a.gate_kid, next_seq(), now_s);
    e.bytes[e.n - 1] ^= 1;
    CU_ASSERT_EQUAL(ask_reason(&x.a, &e), PEP_NOT_AUTHORIZED);
    CU_ASSERT_EQUAL(scene_count(&x, ""), 6);
    scene_strike(&x);
}

static void it_must_be_by_somebody_known(void)
{
    static const char *const all[] = {QUERY, SUM, FORGET};
    scene_set(&x, "ledger");
    record_some();
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        CU_ASSERT_EQUAL(scene_asks(&x, &x.s.c.mallory, all[i]), PEP_NOT_AUTHORIZED);
        CU_ASSERT_EQUAL(scene_asks(&x, &x.s.c.gone, all[i]), PEP_NOT_AUTHORIZED);
        CU_ASSERT_EQUAL(scene_asks(&x, &x.s.c.turned, all[i]), PEP_NOT_AUTHORIZED);
        CU_ASSERT_EQUAL(scene_asks(&x, &x.s.c.old, all[i]), PEP_EXPIRED_SIGNER);
    }
    CU_ASSERT_EQUAL(scene_count(&x, ""), 6);
    scene_strike(&x);
}

/* Also a question: its answer is for whoever asked, once. */
static void it_counts_once(void)
{
    static const char *const all[] = {QUERY, SUM, FORGET};
    asker other;
    scene_set(&x, "ledger");
    record_some();
    asker_open(&other, (client_spec){.port = x.s.b.port, .id = "other"});
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        sealed e = ledger_command(&x.a, &x.s.c.bob, all[i]);
        CU_ASSERT_EQUAL(ask_reason(&x.a, &e), PEP_OK);
        CU_ASSERT_EQUAL(ask_reason(&x.a, &e), PEP_REPEATED_COMMAND);
        CU_ASSERT_EQUAL(ask_reason(&other, &e), PEP_REPEATED_COMMAND);
    }
    asker_close(&other);
    scene_strike(&x);
}

static void malformed_questions_are_answered(void)
{
    static const char *const bad[] = {
        "{\"command\":\"ledger.query\",\"count\":0}",
        "{\"command\":\"ledger.query\",\"topic\":\"a/#/b\"}",
        "{\"command\":\"ledger.query\",\"fields\":{\"a\":1}}",
        "{\"command\":\"ledger.query\",\"fields\":{\"a\\\"') OR 1=1 --\":1}}",
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
    scene_set(&x, "ledger");
    record_some();
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        pep_reason reason = scene_asks(&x, &x.s.c.bob, bad[i]);
        CU_ASSERT_EQUAL(reason, PEP_BAD_COMMAND);
        if (reason != PEP_BAD_COMMAND)
            fprintf(stderr, "%s: %s\n", bad[i], reason == NO_ANSWER ? "no answer" : pep_reason_name(reason));
    }
    CU_ASSERT_EQUAL(scene_count(&x, "\"fields\":{\"') OR ('1'='1\":\"x\"}"), 0); /* a name like any other */
    CU_ASSERT_EQUAL(scene_count(&x, "\"topic\":\"' OR ''='\""), 0);
    CU_ASSERT_EQUAL(scene_count(&x, ""), 6);
    scene_strike(&x);
}

/* They may read all, the ACL says. */
static void only_who_asks_is_told(void)
{
    client *watchers[2];
    scene_set(&x, "ledger");
    record_some();
    for (int i = 0; i < 2; i++) {
        watchers[i] = client_open((client_spec){.port = x.s.b.port, .version = i == 0 ? MQTT_3 : MQTT_5});
        client_subscribe(watchers[i], i == 0 ? "$CONTROL/#" : PEP_ANSWER_TOPIC, 1);
        client_subscribe(watchers[i], FENCE_TOPIC, 2);
    }
    CU_ASSERT_EQUAL(rows_for(&x.s.c.bob, QUERY), 6);
    CU_ASSERT_EQUAL(scene_asks(&x, &x.s.c.alice, SUM), PEP_OK);
    CU_ASSERT_EQUAL(scene_asks(&x, &x.s.c.alice, FORGET), PEP_NOT_AUTHORIZED);
    CU_ASSERT_TRUE(client_fence(x.s.to, x.s.to));
    for (int i = 0; i < 2; i++) {
        CU_ASSERT_TRUE(client_gets_fence(watchers[i]));
        client_close(watchers[i]);
    }
    scene_strike(&x);
}

static const unit_test COMMON[] = {
    {"admins see all, and others their own", admins_see_all_and_others_their_own},
    {"sums are told", sums_are_told},
    {"admins have it forgotten", admins_have_it_forgotten},
    {"malformed questions are answered", malformed_questions_are_answered},
};

static const unit_test SQLITE_ALONE[] = {
    {"it must be sealed for this gate", it_must_be_sealed_for_this_gate},
    {"it must be by somebody known", it_must_be_by_somebody_known},
    {"it counts once", it_counts_once},
    {"only who asks is told", only_who_asks_is_told},
};

int main(void)
{
    if (!ledger_begin())
        return 1;
    int failed = ledger_run(false, "ledger", COMMON, sizeof(COMMON) / sizeof(COMMON[0]));
    failed |= ledger_run(false, "ledger alone", SQLITE_ALONE, sizeof(SQLITE_ALONE) / sizeof(SQLITE_ALONE[0]));
    failed |= ledger_run(true, "ledger", COMMON, sizeof(COMMON) / sizeof(COMMON[0]));
    ledger_end();
    return failed;
}
