/* The ledger through its own interface, on SQLite and on a real PostgreSQL: what is recorded, asked for and erased. */
#include "ledger/ledger.h"
#include "directory/internal.h"
#include "directory/json.h"
#include "ledger/internal.h"
#include "ledger/tables.h"
#include "patience.h"
#include "scratch.h"
#include "tests/postgres.h"
#include "unit.h"
#include <inttypes.h>
#include <poll.h>
#include <sodium.h>
#include <sqlite3.h>

#define T0     1800000000000000ULL /* microseconds */
#define SECOND 1000000ULL

static postgres_server server;
static bool on_postgres;
static unsigned database_number;
static char url[POSTGRES_URL_MAX];
static char database[32];
static const uint8_t gate[PEP_KID_BYTES] = "gate";

static ledger *l;
static control_client asker; /* of all questions */
static char *answered;       /* the last answer */
static unsigned answers, lines;
static char line[1024];

static void take_answer(void *ctx, directory_request *request, const char *json, size_t n)
{
    (void)ctx;
    CU_ASSERT_PTR_NOT_NULL(json);
    free(answered);
    answered = json == NULL ? NULL : strndup(json, n);
    answers++;
    cJSON_Delete(request->command);
    free(request);
}

static void take_line(void *ctx, char level, const char *text)
{
    (void)ctx;
    (void)level;
    snprintf(line, sizeof line, "%s", text);
    lines++;
}

static void open_ledger(void)
{
    pep_error why = {""};
    const ledger_hooks hooks = {NULL, take_answer, take_line};
    l = ledger_open(&why, url, gate, &hooks);
    if (l == NULL)
        printf("\n  %s ", why.text);
    CU_ASSERT_PTR_NOT_NULL_FATAL(l);
}

static void start(void)
{
    scratch_begin();
    answers = lines = 0;
    CU_ASSERT_EQUAL_FATAL(pep_init(), PEP_OK);
    snprintf(database, sizeof database, "l%u", database_number++);
    snprintf(url, sizeof url, "sqlite:%s/ledger.db", scratch_folder);
    if (on_postgres) {
        CU_ASSERT_TRUE_FATAL(postgres_database(&server, database));
        postgres_url(url, &server, database);
    }
    open_ledger();
}

static void finish(void)
{
    ledger_close(l);
    l = NULL;
    free(answered);
    answered = NULL;
    scratch_end();
}

/* One tick, as the broker gives them. */
static void tick(void)
{
    ledger_tick(l, 100000);
    poll(NULL, 0, 1);
}

static bool wait_recorded(uint64_t n)
{
    uint64_t end = deadline_ms();
    while (ledger_counted(l).recorded < n && now_ms() < end)
        tick();
    return ledger_counted(l).recorded == n;
}

/* ---- recording ---- */

static uint8_t facts_bytes[PEP_FACTS_MAX];

static pep_view text_view(const char *text)
{
    return (pep_view){(const uint8_t *)text, strlen(text)};
}

static pep_view encode(const pep_fact *facts, size_t n)
{
    pep_view out = {facts_bytes, 0};
    CU_ASSERT_EQUAL_FATAL(pep_facts_encode(facts_bytes, &out.n, facts, n), PEP_OK);
    return out;
}

static ledger_entry entry_of(const char *topic, const char *who, uint64_t number)
{
    static uint8_t kid[PEP_KID_BYTES];
    memset(kid, who[0], sizeof kid);
    return (ledger_entry){.time_us = T0 + number * SECOND,
                          .topic = topic,
                          .topic_n = strlen(topic),
                          .signer = who,
                          .kid = kid,
                          .seq = T0 + number,
                          .size = 200 + number,
                          .payload_n = 100 + number,
                          .qos = (int)(number % 3),
                          .retain = number % 2 == 1};
}

/* temp = number, site = s-(number % 3), alarm = number is odd */
static void record(const char *topic, const char *who, uint64_t number)
{
    char site[8];
    snprintf(site, sizeof site, "s-%u", (unsigned)(number % 3));
    const pep_fact facts[] = {
        {.key = text_view("temp"), .type = PEP_FACT_INT, .integer = (int64_t)number},
        {.key = text_view("site"), .type = PEP_FACT_TEXT, .text = text_view(site)},
        {.key = text_view("alarm"), .type = PEP_FACT_BOOL, .integer = number % 2},
    };
    ledger_entry e = entry_of(topic, who, number);
    e.facts = encode(facts, COUNT(facts));
    ledger_record(l, &e);
}

static const char *const topics[] = {"a/x/t", "a/y/t", "a/x/u", "b", "$a/x/t"};
static const char *const signers_[] = {"dev-1", "ops", "dev-2"};

/* 60 messages, one a second. */
static void record_some(void)
{
    for (unsigned i = 0; i < 60; i++)
        record(topics[i % 5], signers_[i % 3], i);
    CU_ASSERT_TRUE(wait_recorded(60));
}

/* ---- asking ---- */

static void send(const char *id, bool admin, const char *json)
{
    directory_request *r = calloc(1, sizeof *r);
    if (r == NULL)
        abort();
    r->asker = &asker;
    r->command = json_parse((const uint8_t *)json, strlen(json));
    if (r->command == NULL)
        printf("\n  %s ", json);
    CU_ASSERT_PTR_NOT_NULL_FATAL(r->command);
    r->admin = admin;
    snprintf(r->id, sizeof r->id, "%s", id);
    ledger_ask(l, r);
}

static void ask_as(const char *id, bool admin, const char *json)
{
    unsigned before = answers;
    uint64_t end = deadline_ms();
    send(id, admin, json);
    while (answers == before && now_ms() < end)
        tick();
    CU_ASSERT_EQUAL(answers, before + 1);
}

static void ask(const char *json)
{
    ask_as("admin", true, json);
}

static cJSON *parsed(void)
{
    static cJSON *root;
    cJSON_Delete(root);
    root = cJSON_Parse(answered);
    return cJSON_GetArrayItem(cJSON_GetObjectItem(root, "responses"), 0);
}

static const cJSON *data(const char *name)
{
    const cJSON *item = cJSON_GetObjectItem(cJSON_GetObjectItem(parsed(), "data"), name);
    if (item == NULL)
        printf("\n  no %s: %s ", name, answered);
    return item;
}

static bool is_refused(pep_reason reason)
{
    const char *error = json_get_text(parsed(), "error");
    bool ok = error != NULL && strcmp(error, pep_reason_name(reason)) == 0;
    if (!ok)
        printf("\n  %.300s ", answered);
    return ok;
}

static int rows_of(const char *json)
{
    ask(json);
    return cJSON_GetArraySize(data("rows"));
}

static double number_in(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItem(object, name);
    return cJSON_IsNumber(item) ? item->valuedouble : -1;
}

static bool text_is(const cJSON *object, const char *name, const char *want)
{
    const char *text = json_get_text(object, name);
    bool ok = want == NULL ? text == NULL : text != NULL && strcmp(text, want) == 0;
    if (!ok)
        printf("\n  %s is %s, not %s ", name, text == NULL ? "nothing" : text, want == NULL ? "nothing" : want);
    return ok;
}

/* ---- tests ---- */

/* Everything that was handed in comes back as it was. */
static void row_as_it_was(void)
{
    static const char key[] = "\xc3\xa9 key";
    const pep_fact facts[] = {
        {.key = text_view("least"), .type = PEP_FACT_INT, .integer = INT64_MIN},
        {.key = text_view("most"), .type = PEP_FACT_INT, .integer = INT64_MAX},
        {.key = text_view(key), .type = PEP_FACT_TEXT, .text = {(const uint8_t *)"\"\\\n\0\x7f\xf0\x9f\x94\x91", 9}},
        {.key = text_view(""), .type = PEP_FACT_TEXT, .text = text_view("")},
        {.key = text_view("no"), .type = PEP_FACT_BOOL, .integer = 0},
    };
    start();
    ledger_entry e = entry_of("a/\"'\\%s/\xc3\xa9", "dev-1", 1);
    e.facts = encode(facts, COUNT(facts));
    ledger_record(l, &e);
    CU_ASSERT_EQUAL(ledger_counted(l).waiting, 1);
    CU_ASSERT_TRUE(wait_recorded(1));
    CU_ASSERT_EQUAL(ledger_counted(l).waiting, 0);
    CU_ASSERT_EQUAL(rows_of("{\"command\":\"ledger.query\",\"correlationData\":\"c\"}"), 1);
    CU_ASSERT_TRUE(text_is(parsed(), "correlationData", "c"));
    CU_ASSERT_TRUE(text_is(parsed(), "command", "ledger.query"));
    const cJSON *row = cJSON_GetArrayItem(data("rows"), 0);
    CU_ASSERT_TRUE(text_is(row, "topic", e.topic));
    CU_ASSERT_TRUE(text_is(row, "signer", "dev-1"));
    CU_ASSERT_TRUE(text_is(row, "kid", "64646464646464646464646464646464"));
    CU_ASSERT_EQUAL(number_in(row, "time"), (double)e.time_us);
    CU_ASSERT_EQUAL(number_in(row, "seq"), (double)e.seq);
    CU_ASSERT_EQUAL(number_in(row, "size"), 201);
    CU_ASSERT_EQUAL(number_in(row, "payload"), 101);
    CU_ASSERT_EQUAL(number_in(row, "qos"), 1);
    CU_ASSERT_TRUE(cJSON_IsTrue(cJSON_GetObjectItem(row, "retained")));
    const char *text = json_get_text(row, "fields");
    if (text == NULL)
        text = "";
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "-9223372036854775808"));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "9223372036854775807"));
    cJSON *fields = cJSON_Parse(text);
    CU_ASSERT_TRUE(text_is(fields, key, "\"\\\n\xef\xbf\xbd\x7f\xf0\x9f\x94\x91"));
    CU_ASSERT_TRUE(text_is(fields, "", ""));
    CU_ASSERT_TRUE(cJSON_IsFalse(cJSON_GetObjectItem(fields, "no")));
    CU_ASSERT_EQUAL(cJSON_GetArraySize(fields), 5);
    cJSON_Delete(fields);
    finish();
}

static const struct {
    const char *conditions;
    int rows;
} questions[] = {
    {"", 60},
    {",\"from\":1800000010000000", 50},
    {",\"to\":1800000010000000", 10},
    {",\"from\":1800000010000000,\"to\":1800000020000000", 10},
    {",\"from\":1800000010000000,\"to\":1800000010000000", 0},
    {",\"topic\":\"a/x/t\"", 12},
    {",\"topic\":\"a/x/T\"", 0},
    {",\"topic\":\"a/+/t\"", 24},
    {",\"topic\":\"a/#\"", 36},
    {",\"topic\":\"b/#\"", 12},
    {",\"topic\":\"#\"", 48},
    {",\"topic\":\"a/x/#\"", 24},
    {",\"topic\":\"a/x/t/#\"", 12},
    {",\"topic\":\"a/+\"", 0},
    {",\"topic\":\"a/x/+\",\"fields\":{\"alarm\":\"true\"}", 12},
    {",\"topic\":\"+/x/t\"", 12},
    {",\"topic\":\"+/+/+\"", 36},
    {",\"topic\":\"+\"", 12},
    {",\"topic\":\"$a/#\"", 12},
    {",\"topic\":\"a/+/#\"", 36},
    {",\"topic\":\"a.x.t\"", 0},
    {",\"topic\":\"a/[x]/+\"", 0},
    {",\"signer\":\"ops\"", 20},
    {",\"signer\":\"dev\"", 0},
    {",\"fields\":{\"temp\":\"7\"}", 1},
    {",\"fields\":{\"temp\":\"07\"}", 0},
    {",\"fields\":{\"site\":\"s-2\"}", 20},
    {",\"fields\":{\"alarm\":\"true\"}", 30},
    {",\"fields\":{\"alarm\":\"1\"}", 0},
    {",\"fields\":{\"site\":\"s-1\",\"alarm\":\"true\"}", 10},
    {",\"fields\":{\"nothing\":\"\"}", 0},
    {",\"fields\":{\"site' OR 1=1 --\":\"x' OR '1'='1\"}", 0},
    {",\"topic\":\"a/x/t\",\"signer\":\"dev-1\",\"fields\":{\"alarm\":\"false\"},\"from\":1800000005000000", 1},
};

/* A query, a sum and an erasure mean the same rows. */
static void by_conditions(void)
{
    char json[300];
    start();
    record_some();
    for (size_t i = 0; i < COUNT(questions); i++) {
        snprintf(json, sizeof json, "{\"command\":\"ledger.query\"%s}", questions[i].conditions);
        int rows = rows_of(json);
        snprintf(json, sizeof json, "{\"command\":\"ledger.sum\"%s}", questions[i].conditions);
        ask(json);
        const cJSON *groups = data("groups");
        CU_ASSERT_EQUAL(cJSON_GetArraySize(groups), 1);
        if (rows != questions[i].rows || number_in(cJSON_GetArrayItem(groups, 0), "count") != questions[i].rows) {
            printf("\n  %s: %d rows, not %d; sum: %.200s ", questions[i].conditions, rows, questions[i].rows, answered);
            CU_FAIL("other rows");
        }
    }
    finish();
}

/* Whatever a field is called, it can be asked for. */
static void names_of_fields(void)
{
    static const char *const names[] = {"",           "a\"b", "a\\b", "\xc3\xa9", "$.x", "' OR 1=1 --",
                                        "\x01\n\x7f", "%s",   "a.b"};
    char json[300];
    start();
    for (size_t i = 0; i < COUNT(names); i++) {
        const pep_fact fact = {.key = text_view(names[i]), .type = PEP_FACT_INT, .integer = (int64_t)i - 3};
        ledger_entry e = entry_of("a", "dev-1", i);
        e.facts = encode(&fact, 1);
        ledger_record(l, &e);
    }
    CU_ASSERT_TRUE(wait_recorded(COUNT(names)));
    for (size_t i = 0; i < COUNT(names); i++) {
        cJSON *name = cJSON_CreateString(names[i]);
        char *text = cJSON_PrintUnformatted(name);
        snprintf(json, sizeof json, "{\"command\":\"ledger.query\",\"fields\":{%s:\"%d\"}}", text, (int)i - 3);
        CU_ASSERT_EQUAL(rows_of(json), 1);
        snprintf(json, sizeof json, "{\"command\":\"ledger.sum\",\"of\":%s,\"by\":[\"field\"],\"byField\":%s}", text,
                 text);
        ask(json);
        CU_ASSERT_EQUAL(cJSON_GetArraySize(data("groups")), 2);
        const cJSON *group = cJSON_GetArrayItem(data("groups"), 0);
        snprintf(json, sizeof json, "%d", (int)i - 3);
        CU_ASSERT_TRUE(text_is(group, "sum", json) && text_is(group, "value", json));
        cJSON_free(text);
        cJSON_Delete(name);
    }
    finish();
}

static void pages(void)
{
    char json[300] = "{\"command\":\"ledger.query\",\"count\":25}";
    start();
    record_some();
    for (unsigned newest = 0; newest < 2; newest++) {
        unsigned seen = 0;
        unsigned pages_n = 0;
        snprintf(json, sizeof json, "{\"command\":\"ledger.query\",\"count\":25%s}", newest ? ",\"newest\":true" : "");
        for (const char *next = ""; next != NULL && pages_n < 10; pages_n++) {
            int rows = rows_of(json);
            for (int i = 0; i < rows; i++, seen++)
                CU_ASSERT_EQUAL(number_in(cJSON_GetArrayItem(data("rows"), i), "time"),
                                (double)(T0 + (newest ? 59 - seen : seen) * SECOND));
            next = json_get_text(cJSON_GetObjectItem(parsed(), "data"), "next");
            snprintf(json, sizeof json, "{\"command\":\"ledger.query\",\"count\":25,\"after\":\"%s\"%s}",
                     next == NULL ? "" : next, newest ? ",\"newest\":true" : "");
        }
        CU_ASSERT_EQUAL(seen, 60);
        CU_ASSERT_EQUAL(pages_n, 3);
    }
    CU_ASSERT_EQUAL(rows_of("{\"command\":\"ledger.query\",\"count\":60}"), 60);
    CU_ASSERT_PTR_NULL(json_get_text(cJSON_GetObjectItem(parsed(), "data"), "next"));
    finish();
}

/* Rows of one moment are all there, once, whatever the page. */
static void pages_of_one_moment(void)
{
    char json[200] = "{\"command\":\"ledger.query\",\"count\":3}";
    start();
    for (unsigned i = 0; i < 10; i++) {
        ledger_entry e = entry_of("a", "dev-1", 0);
        const pep_fact fact = {.key = text_view("n"), .type = PEP_FACT_INT, .integer = i};
        e.facts = encode(&fact, 1);
        ledger_record(l, &e);
    }
    CU_ASSERT_TRUE(wait_recorded(10));
    unsigned seen = 0;
    for (const char *next = ""; next != NULL && seen < 20;) {
        seen += (unsigned)rows_of(json);
        next = json_get_text(cJSON_GetObjectItem(parsed(), "data"), "next");
        snprintf(json, sizeof json, "{\"command\":\"ledger.query\",\"count\":3,\"after\":\"%s\"}",
                 next == NULL ? "" : next);
    }
    CU_ASSERT_EQUAL(seen, 10);
    finish();
}

/* An answer is never larger than what is sent: a page ends before. */
static void large_rows(void)
{
    static char topic[60001];
    char json[200] = "{\"command\":\"ledger.query\",\"count\":1000}";
    start();
    memset(topic, 'x', sizeof topic - 1);
    for (unsigned i = 0; i < 30; i++)
        record(topic, "dev-1", i);
    CU_ASSERT_TRUE(wait_recorded(30));
    int seen = 0;
    for (const char *next = ""; next != NULL && seen < 30;) {
        seen += rows_of(json);
        CU_ASSERT_TRUE(strlen(answered) < 1000000);
        next = json_get_text(cJSON_GetObjectItem(parsed(), "data"), "next");
        snprintf(json, sizeof json, "{\"command\":\"ledger.query\",\"count\":1000,\"after\":\"%s\"}",
                 next == NULL ? "" : next);
    }
    CU_ASSERT_EQUAL(seen, 30);
    finish();
}

static void sums(void)
{
    start();
    record_some();
    ask("{\"command\":\"ledger.sum\",\"of\":\"temp\"}");
    const cJSON *all = cJSON_GetArrayItem(data("groups"), 0);
    CU_ASSERT_EQUAL(number_in(all, "count"), 60);
    CU_ASSERT_EQUAL(number_in(all, "numbers"), 60);
    CU_ASSERT_TRUE(text_is(all, "sum", "1770") && text_is(all, "min", "0") && text_is(all, "max", "59"));
    CU_ASSERT_EQUAL(number_in(all, "avg"), 29.5);
    ask("{\"command\":\"ledger.sum\",\"of\":\"site\"}"); /* no numbers */
    all = cJSON_GetArrayItem(data("groups"), 0);
    CU_ASSERT_EQUAL(number_in(all, "numbers"), 0);
    CU_ASSERT_TRUE(text_is(all, "sum", NULL));
    ask("{\"command\":\"ledger.sum\",\"of\":\"temp\",\"topic\":\"nothing\"}");
    all = cJSON_GetArrayItem(data("groups"), 0);
    CU_ASSERT_EQUAL(number_in(all, "count"), 0);
    finish();
}

static void groups(void)
{
    start();
    record_some();
    ask("{\"command\":\"ledger.sum\",\"by\":[\"signer\"],\"of\":\"temp\"}");
    const cJSON *g = data("groups");
    CU_ASSERT_EQUAL(cJSON_GetArraySize(g), 3);
    CU_ASSERT_TRUE(text_is(cJSON_GetArrayItem(g, 0), "signer", "dev-1"));
    CU_ASSERT_TRUE(text_is(cJSON_GetArrayItem(g, 0), "sum", "570")); /* 0 + 3 + ... + 57 */
    CU_ASSERT_TRUE(text_is(cJSON_GetArrayItem(g, 2), "signer", "ops"));
    ask("{\"command\":\"ledger.sum\",\"by\":[\"topic\",\"minute\"]}"); /* T0 is the beginning of a minute */
    g = data("groups");
    CU_ASSERT_EQUAL(cJSON_GetArraySize(g), 5);
    CU_ASSERT_EQUAL(number_in(cJSON_GetArrayItem(g, 0), "time"), (double)T0);
    CU_ASSERT_TRUE(text_is(cJSON_GetArrayItem(g, 0), "topic", "$a/x/t"));
    CU_ASSERT_EQUAL(number_in(cJSON_GetArrayItem(g, 0), "count"), 12);
    ask("{\"command\":\"ledger.sum\",\"by\":[\"field\"],\"byField\":\"alarm\",\"topic\":\"a/+/t\"}");
    g = data("groups");
    CU_ASSERT_EQUAL(cJSON_GetArraySize(g), 2);
    CU_ASSERT_TRUE(text_is(cJSON_GetArrayItem(g, 0), "value", "false"));
    CU_ASSERT_EQUAL(number_in(cJSON_GetArrayItem(g, 0), "count"), 12);
    ask("{\"command\":\"ledger.sum\",\"by\":[\"field\",\"day\",\"signer\"],\"byField\":\"nothing\"}");
    g = data("groups");
    CU_ASSERT_EQUAL(cJSON_GetArraySize(g), 3);
    CU_ASSERT_TRUE(cJSON_IsNull(cJSON_GetObjectItem(cJSON_GetArrayItem(g, 0), "value")));
    ask("{\"command\":\"ledger.sum\",\"by\":[\"field\"],\"byField\":\"temp\"}");
    CU_ASSERT_EQUAL(cJSON_GetArraySize(data("groups")), 60);
    ask("{\"command\":\"ledger.sum\",\"by\":[\"second\"]}");
    CU_ASSERT_EQUAL(cJSON_GetArraySize(data("groups")), 60);
    ask("{\"command\":\"ledger.sum\",\"by\":[\"day\"]}");
    CU_ASSERT_EQUAL(cJSON_GetArraySize(data("groups")), 1);
    finish();
}

/* Sums go beyond 64 bits. */
static void large_sums(void)
{
    start();
    for (unsigned i = 0; i < 4; i++) {
        const pep_fact fact = {.key = text_view("n"), .type = PEP_FACT_INT, .integer = i == 3 ? -1 : INT64_MAX};
        ledger_entry e = entry_of("a", "dev-1", i);
        e.facts = encode(&fact, 1);
        ledger_record(l, &e);
    }
    CU_ASSERT_TRUE(wait_recorded(4));
    ask("{\"command\":\"ledger.sum\",\"of\":\"n\"}");
    const cJSON *all = cJSON_GetArrayItem(data("groups"), 0);
    CU_ASSERT_TRUE(text_is(all, "sum", "27670116110564327420"));
    CU_ASSERT_TRUE(text_is(all, "min", "-1") && text_is(all, "max", "9223372036854775807"));
    finish();
}

/* What a text holds is never taken for a field, and is found as it was. */
static void fields_in_texts(void)
{
    static const char tricky[] = "\\\",\"temp\":7,\n\x01{}'";
    const pep_fact facts[] = {
        {.key = text_view("a"), .type = PEP_FACT_TEXT, .text = text_view(tricky)},
        {.key = text_view("temp"), .type = PEP_FACT_INT, .integer = -5},
        {.key = text_view("z"), .type = PEP_FACT_TEXT, .text = text_view("-5")},
    };
    start();
    ledger_entry e = entry_of("a", "dev-1", 1);
    for (size_t n = 1; n <= COUNT(facts); n++) {
        e.facts = encode(facts, n);
        ledger_record(l, &e);
    }
    CU_ASSERT_TRUE(wait_recorded(3));
    ask("{\"command\":\"ledger.sum\",\"of\":\"temp\",\"by\":[\"field\"],\"byField\":\"a\"}");
    const cJSON *groups_ = data("groups");
    const cJSON *g = cJSON_GetArrayItem(groups_, 0);
    CU_ASSERT_EQUAL(cJSON_GetArraySize(groups_), 1);
    CU_ASSERT_TRUE(text_is(g, "value", tricky) && text_is(g, "sum", "-10"));
    CU_ASSERT_EQUAL(rows_of("{\"command\":\"ledger.query\",\"fields\":{\"temp\":\"7\"}}"), 0);
    CU_ASSERT_EQUAL(rows_of("{\"command\":\"ledger.query\",\"fields\":{\"temp\":\"-5\"}}"), 2);
    CU_ASSERT_EQUAL(rows_of("{\"command\":\"ledger.query\",\"fields\":{\"z\":\"-5\"}}"), 1);
    CU_ASSERT_EQUAL(rows_of("{\"command\":\"ledger.query\",\"fields\":{\"a\":\"\\\\\\\",\\\"temp\\\":7,\\n\"}}"), 0);
    CU_ASSERT_EQUAL(rows_of("{\"command\":\"ledger.query\",\"fields\":{\"a\":\"-5\"}}"), 0);
    finish();
}

/* One group, be it a number or the text of one; and rows without it. */
static void groups_of_mixed_values(void)
{
    const pep_fact facts[] = {
        {.key = text_view("n"), .type = PEP_FACT_INT, .integer = 21},
        {.key = text_view("n"), .type = PEP_FACT_TEXT, .text = text_view("21")},
        {.key = text_view("n"), .type = PEP_FACT_TEXT, .text = text_view("")},
        {.key = text_view("n"), .type = PEP_FACT_BOOL, .integer = 1},
        {.key = text_view("m"), .type = PEP_FACT_BOOL, .integer = 1},
    };
    start();
    ledger_entry e = entry_of("a", "dev-1", 1);
    for (size_t i = 0; i < COUNT(facts); i++) {
        e.facts = encode(&facts[i], 1);
        ledger_record(l, &e);
    }
    CU_ASSERT_TRUE(wait_recorded(COUNT(facts)));
    ask("{\"command\":\"ledger.sum\",\"of\":\"n\",\"by\":[\"field\"],\"byField\":\"n\"}");
    const cJSON *g = data("groups");
    CU_ASSERT_EQUAL(cJSON_GetArraySize(g), 4);
    CU_ASSERT_TRUE(text_is(cJSON_GetArrayItem(g, 0), "value", ""));
    CU_ASSERT_TRUE(text_is(cJSON_GetArrayItem(g, 1), "value", "21"));
    CU_ASSERT_EQUAL(number_in(cJSON_GetArrayItem(g, 1), "count"), 2);
    CU_ASSERT_EQUAL(number_in(cJSON_GetArrayItem(g, 1), "numbers"), 1);
    CU_ASSERT_TRUE(text_is(cJSON_GetArrayItem(g, 2), "value", "true"));
    CU_ASSERT_TRUE(cJSON_IsNull(cJSON_GetObjectItem(cJSON_GetArrayItem(g, 3), "value")));
    finish();
}

static void large_groups(void)
{
    static char topic[60001];
    start();
    memset(topic, 'x', sizeof topic - 1);
    for (unsigned i = 0; i < 20; i++) {
        topic[0] = (char)('a' + i);
        record(topic, "dev-1", i);
    }
    CU_ASSERT_TRUE(wait_recorded(20));
    ask("{\"command\":\"ledger.sum\",\"by\":[\"topic\"]}");
    CU_ASSERT_TRUE(is_refused(PEP_TOO_MANY));
    ask("{\"command\":\"ledger.sum\",\"by\":[\"topic\"],\"to\":1800000003000000}");
    CU_ASSERT_EQUAL(cJSON_GetArraySize(data("groups")), 3);
    finish();
}

static void too_many_groups(void)
{
    start();
    for (unsigned i = 0; i < 5001; i++)
        record("a", "dev-1", i);
    CU_ASSERT_TRUE(wait_recorded(5001));
    ask("{\"command\":\"ledger.sum\",\"by\":[\"field\"],\"byField\":\"temp\"}");
    CU_ASSERT_TRUE(is_refused(PEP_TOO_MANY));
    ask("{\"command\":\"ledger.sum\",\"by\":[\"field\"],\"byField\":\"temp\",\"to\":1800000100000000}");
    CU_ASSERT_EQUAL(cJSON_GetArraySize(data("groups")), 100);
    finish();
}

/* Whoever is no admin sees what it signed itself, and erases nothing. */
static void who_may(void)
{
    start();
    record_some();
    ask_as("ops", false, "{\"command\":\"ledger.query\"}");
    CU_ASSERT_EQUAL(cJSON_GetArraySize(data("rows")), 20);
    CU_ASSERT_TRUE(text_is(cJSON_GetArrayItem(data("rows"), 0), "signer", "ops"));
    ask_as("ops", false, "{\"command\":\"ledger.query\",\"signer\":\"ops\"}");
    CU_ASSERT_EQUAL(cJSON_GetArraySize(data("rows")), 20);
    ask_as("ops", false, "{\"command\":\"ledger.query\",\"signer\":\"dev-1\"}");
    CU_ASSERT_TRUE(is_refused(PEP_NOT_AUTHORIZED));
    ask_as("ops", false, "{\"command\":\"ledger.sum\",\"by\":[\"signer\"]}");
    CU_ASSERT_EQUAL(cJSON_GetArraySize(data("groups")), 1);
    ask_as("ops", false, "{\"command\":\"ledger.sum\",\"signer\":\"dev-1\"}");
    CU_ASSERT_TRUE(is_refused(PEP_NOT_AUTHORIZED));
    ask_as("ops", false, "{\"command\":\"ledger.forget\",\"signer\":\"ops\"}");
    CU_ASSERT_TRUE(is_refused(PEP_NOT_AUTHORIZED));
    ask_as("ops", false, "{\"command\":\"ledger.erasures\"}");
    CU_ASSERT_TRUE(is_refused(PEP_NOT_AUTHORIZED));
    CU_ASSERT_EQUAL(rows_of("{\"command\":\"ledger.query\"}"), 60);
    finish();
}

/* Nothing is looked for on behalf of a client that has gone. */
static void asker_gone(void)
{
    start();
    record_some();
    atomic_store(&asker.gone, true);
    ask("{\"command\":\"ledger.query\"}");
    CU_ASSERT_PTR_NULL(data("rows"));
    atomic_store(&asker.gone, false);
    CU_ASSERT_EQUAL(rows_of("{\"command\":\"ledger.query\"}"), 60);
    finish();
}

/* One question more than may wait is answered at once. */
static void too_many_wait(void)
{
    start();
    record_some();
    unsigned before = answers;
    uint64_t end = deadline_ms();
    for (unsigned i = 0; i < ASKED_OTHERS; i++)
        send("dev-1", false, "{\"command\":\"ledger.query\"}");
    CU_ASSERT_EQUAL(answers, before);
    send("dev-1", false, "{\"command\":\"ledger.query\"}");
    CU_ASSERT_EQUAL_FATAL(answers, before + 1);
    CU_ASSERT_TRUE(is_refused(PEP_TRY_LATER));
    while (answers < before + ASKED_OTHERS + 1 && now_ms() < end)
        tick();
    CU_ASSERT_EQUAL(answers, before + ASKED_OTHERS + 1);
    finish();
}

static void wrong_commands(void)
{
    static const char *const wrong[] = {
        "{\"command\":\"ledger.query\",\"more\":1}",
        "{\"command\":\"ledger.query\",\"from\":\"1\"}",
        "{\"command\":\"ledger.query\",\"to\":true}",
        "{\"command\":\"ledger.query\",\"topic\":\"a/#/b\"}",
        "{\"command\":\"ledger.query\",\"topic\":\"\"}",
        "{\"command\":\"ledger.query\",\"topic\":1}",
        "{\"command\":\"ledger.query\",\"signer\":\"a b\"}",
        "{\"command\":\"ledger.query\",\"signer\":[]}",
        "{\"command\":\"ledger.query\",\"fields\":{}}",
        "{\"command\":\"ledger.query\",\"fields\":[\"a\"]}",
        "{\"command\":\"ledger.query\",\"fields\":{\"a\":1}}",
        "{\"command\":\"ledger.query\",\"fields\":{\"a\":\"1\",\"b\":\"1\",\"c\":\"1\",\"d\":\"1\",\"e\":\"1\"}}",
        "{\"command\":\"ledger.query\",\"newest\":1}",
        "{\"command\":\"ledger.query\",\"count\":0}",
        "{\"command\":\"ledger.query\",\"count\":1001}",
        "{\"command\":\"ledger.query\",\"after\":\"\"}",
        "{\"command\":\"ledger.query\",\"after\":\"1\"}",
        "{\"command\":\"ledger.query\",\"after\":\"1.\"}",
        "{\"command\":\"ledger.query\",\"after\":\"1.2.3\"}",
        "{\"command\":\"ledger.query\",\"after\":\"99999999999999999999.1\"}",
        "{\"command\":\"ledger.query\",\"after\":\"-1.1\"}",
        "{\"command\":\"ledger.query\",\"after\":1}",
        "{\"command\":\"ledger.sum\",\"count\":1}",
        "{\"command\":\"ledger.sum\",\"of\":1}",
        "{\"command\":\"ledger.sum\",\"by\":\"signer\"}",
        "{\"command\":\"ledger.sum\",\"by\":[\"kid\"]}",
        "{\"command\":\"ledger.sum\",\"by\":[\"signer\",\"signer\"]}",
        "{\"command\":\"ledger.sum\",\"by\":[\"minute\",\"hour\"]}",
        "{\"command\":\"ledger.sum\",\"by\":[\"field\"]}",
        "{\"command\":\"ledger.sum\",\"byField\":\"a\"}",
        "{\"command\":\"ledger.sum\",\"by\":[\"signer\",\"topic\",\"hour\",\"field\"],\"byField\":\"a\"}",
        "{\"command\":\"ledger.forget\"}",
        "{\"command\":\"ledger.forget\",\"before\":\"now\"}",
        "{\"command\":\"ledger.forget\",\"from\":1,\"signer\":\"a\"}",
        "{\"command\":\"ledger.erasures\",\"count\":1}",
        "{\"command\":\"ledger.nothing\"}",
    };
    char command[1000];
    char longer[PEP_FACTS_MAX + 2] = "";
    start();
    record_some();
    for (size_t i = 0; i < COUNT(wrong); i++) {
        ask(wrong[i]);
        if (!is_refused(PEP_BAD_COMMAND)) {
            printf("\n  %s ", wrong[i]);
            CU_FAIL("taken");
        }
    }
    memset(longer, 'a', PEP_FACTS_MAX + 1); /* than all facts together */
    snprintf(command, sizeof command, "{\"command\":\"ledger.query\",\"fields\":{\"%s\":\"a\"}}", longer);
    ask(command);
    CU_ASSERT_TRUE(is_refused(PEP_BAD_COMMAND));
    snprintf(command, sizeof command, "{\"command\":\"ledger.query\",\"fields\":{\"a\":\"%s\"}}", longer);
    ask(command);
    CU_ASSERT_TRUE(is_refused(PEP_BAD_COMMAND));
    CU_ASSERT_EQUAL(rows_of("{\"command\":\"ledger.query\"}"), 60);
    finish();
}

static void check_erasure(int at, const char *criteria, double count)
{
    const cJSON *e = cJSON_GetArrayItem(data("erasures"), at);
    CU_ASSERT_TRUE(text_is(e, "by", "admin"));
    CU_ASSERT_TRUE(text_is(e, "criteria", criteria));
    CU_ASSERT_EQUAL(number_in(e, "count"), count);
}

static void forget(void)
{
    start();
    record_some();
    ask("{\"command\":\"ledger.forget\",\"signer\":\"ops\",\"before\":1800000010000000}");
    CU_ASSERT_EQUAL(number_in(cJSON_GetObjectItem(parsed(), "data"), "count"), 3);
    CU_ASSERT_EQUAL(number_in(cJSON_GetObjectItem(parsed(), "data"), "from"), (double)(T0 + SECOND));
    CU_ASSERT_EQUAL(number_in(cJSON_GetObjectItem(parsed(), "data"), "to"), (double)(T0 + 7 * SECOND));
    CU_ASSERT_EQUAL(cJSON_IsTrue(data("scrubbed")), !on_postgres);
    CU_ASSERT_EQUAL(rows_of("{\"command\":\"ledger.query\"}"), 57);
    ask("{\"command\":\"ledger.forget\",\"topic\":\"a/+/t\"}");
    CU_ASSERT_EQUAL(rows_of("{\"command\":\"ledger.query\",\"topic\":\"a/+/t\"}"), 0);
    CU_ASSERT_EQUAL(rows_of("{\"command\":\"ledger.query\",\"topic\":\"a/x/u\"}"), 11);
    ask("{\"command\":\"ledger.forget\",\"topic\":\"none\"}");
    CU_ASSERT_EQUAL(number_in(cJSON_GetObjectItem(parsed(), "data"), "count"), 0);
    ask("{\"command\":\"ledger.erasures\"}");
    CU_ASSERT_EQUAL(cJSON_GetArraySize(data("erasures")), 3);
    check_erasure(0, "topic", 0);
    check_erasure(1, "topic", 23);
    check_erasure(2, "signer before", 3);
    CU_ASSERT_EQUAL(ledger_counted(l).erased, 26);
    finish();
}

/* MQTT's longest, which nothing makes shorter. */
static void long_topics(void)
{
    static char topic[PEP_TOPIC_MAX + 1], first[2001], command[4096];
    start();
    for (size_t i = 0; i < PEP_TOPIC_MAX; i++)
        topic[i] = (char)('a' + randombytes_uniform(26));
    record("a", "dev-1", 0);
    record(topic, "dev-1", 1);
    topic[2000] = '\0';
    topic[508] = '/'; /* behind what PostgreSQL has in its index */
    record(topic, "dev-1", 2);
    memcpy(first, topic, sizeof first);
    CU_ASSERT_TRUE(wait_recorded(3));
    CU_ASSERT_EQUAL(ledger_counted(l).dropped, 0);
    snprintf(command, sizeof command, "{\"command\":\"ledger.query\",\"topic\":\"%.2000s\"}", topic);
    CU_ASSERT_EQUAL(rows_of(command), 1);
    for (int n = 501; n >= 499; n--) {
        topic[n] = '\0';
        record(topic, "dev-1", 3);
    }
    CU_ASSERT_TRUE(wait_recorded(6));
    for (int n = 499; n <= 501; n++) {
        snprintf(command, sizeof command, "{\"command\":\"ledger.query\",\"topic\":\"%.*s\"}", n, first);
        CU_ASSERT_EQUAL(rows_of(command), 1);
    }
    snprintf(command, sizeof command, "{\"command\":\"ledger.query\",\"topic\":\"%.508s/#\"}", first);
    CU_ASSERT_EQUAL(rows_of(command), 1);
    snprintf(command, sizeof command, "{\"command\":\"ledger.query\",\"topic\":\"%.1990s/#\"}", first);
    ask(command);
    CU_ASSERT_TRUE(is_refused(PEP_BAD_COMMAND)); /* longer than filters with wildcards may be */
    finish();
}

/* More than one transaction takes; and what was recorded just before is erased with the rest. */
static void forget_many(void)
{
    start();
    for (unsigned i = 0; i < 12345; i++)
        record(i % 2 ? "a/x/t" : "b", "dev-1", i);
    ask("{\"command\":\"ledger.forget\",\"topic\":\"a/+/t\"}");
    CU_ASSERT_EQUAL(number_in(cJSON_GetObjectItem(parsed(), "data"), "count"), 6172);
    ask("{\"command\":\"ledger.sum\",\"by\":[\"topic\"]}");
    CU_ASSERT_EQUAL(cJSON_GetArraySize(data("groups")), 1);
    ask("{\"command\":\"ledger.forget\",\"before\":9007199254740991}");
    CU_ASSERT_EQUAL(number_in(cJSON_GetObjectItem(parsed(), "data"), "count"), 6173);
    finish();
}

static void retention(void)
{
    start();
    for (unsigned i = 0; i < 2500; i++) {
        ledger_entry e = entry_of("a", "dev-1", i);
        const pep_fact fact = {.key = text_view("n"), .type = PEP_FACT_INT, .integer = i};
        e.facts = encode(&fact, 1);
        e.time_us = pep_now_us();
        e.keep_us = i < 2100 ? 1 : i < 2200 ? 3600 * SECOND : 0;
        ledger_record(l, &e);
    }
    CU_ASSERT_TRUE(wait_recorded(2500));
    uint64_t end = deadline_ms();
    while (ledger_counted(l).erased < 2100 && now_ms() < end)
        tick();
    CU_ASSERT_EQUAL(ledger_counted(l).erased, 2100);
    ask("{\"command\":\"ledger.sum\"}");
    CU_ASSERT_EQUAL(number_in(cJSON_GetArrayItem(data("groups"), 0), "count"), 400);
    finish();
}

/* What is recorded is there after the ledger was closed; what waited, too. */
static void closed_and_opened(void)
{
    start();
    for (unsigned i = 0; i < 100; i++)
        record("a", "dev-1", i);
    ledger_close(l);
    open_ledger();
    CU_ASSERT_EQUAL(rows_of("{\"command\":\"ledger.query\",\"count\":1000}"), 100);
    finish();
}

/* A commit whose acknowledgement was lost is tried again, and finds that its rows are there. */
static void written_twice(void)
{
    store_result result;
    store_error why;
    bool by_row[] = {false, true};
    const store_schema schema = ledger_schema(false);
    start();
    const pep_fact fact = {.key = text_view("n"), .type = PEP_FACT_INT, .integer = 1};
    ledger_entry e = entry_of("a", "dev-1", 1);
    e.facts = encode(&fact, 1);
    batch *b = calloc(1, sizeof *b);
    CU_ASSERT_PTR_NOT_NULL_FATAL(b);
    b->l = l;
    b->id = 1;
    CU_ASSERT_TRUE(batch_add(b, &e) && batch_add(b, &e));
    store *s = store_open_schema(&result, &why, url, &schema);
    CU_ASSERT_PTR_NOT_NULL_FATAL(s);
    for (size_t i = 0; i < COUNT(by_row); i++) {
        b->tries = by_row[i];
        CU_ASSERT_EQUAL(store_begin(s), STORE_OK);
        CU_ASSERT_EQUAL(batch_work(&b->job, s), STORE_OK);
        CU_ASSERT_EQUAL(store_commit(s), STORE_OK);
    }
    store_close(s);
    free(b);
    CU_ASSERT_EQUAL(rows_of("{\"command\":\"ledger.query\"}"), 2);
    finish();
}

static void drop(void)
{
    start();
    CU_ASSERT_TRUE(ledger_has_room(l));
    for (unsigned i = 0; i < LEDGER_ROWS_MAX + 5; i++)
        record("a", "dev-1", i);
    CU_ASSERT_FALSE(ledger_has_room(l));
    CU_ASSERT_EQUAL(ledger_counted(l).dropped, 5);
    tick();
    CU_ASSERT_PTR_NOT_NULL(strstr(line, "were not: 5"));
    CU_ASSERT_TRUE(wait_recorded(LEDGER_ROWS_MAX));
    CU_ASSERT_TRUE(ledger_has_room(l));
    record("a", "dev-1", 1);
    CU_ASSERT_TRUE(wait_recorded(LEDGER_ROWS_MAX + 1));
    finish();
}

/* While the server is away rows wait, and are recorded once when it is back; questions are answered. */
static void postgres_away(void)
{
    start();
    record("a", "dev-1", 0);
    CU_ASSERT_TRUE(wait_recorded(1));
    postgres_stop(&server, SIGINT);
    record("a", "dev-1", 1);
    uint64_t end = deadline_ms();
    while (!ledger_counted(l).away && now_ms() < end)
        tick();
    CU_ASSERT_TRUE(ledger_counted(l).away);
    CU_ASSERT_FALSE(ledger_has_room(l));
    record("a", "dev-1", 2);
    ask("{\"command\":\"ledger.query\"}");
    CU_ASSERT_TRUE(is_refused(PEP_TRY_LATER));
    ask("{\"command\":\"ledger.forget\",\"signer\":\"dev-1\"}");
    CU_ASSERT_TRUE(is_refused(PEP_TRY_LATER));
    CU_ASSERT_TRUE_FATAL(postgres_again(&server));
    CU_ASSERT_TRUE(wait_recorded(3));
    end = deadline_ms();
    do
        ask("{\"command\":\"ledger.query\"}");
    while (json_get_text(parsed(), "error") != NULL && now_ms() < end);
    CU_ASSERT_EQUAL(cJSON_GetArraySize(data("rows")), 3);
    CU_ASSERT_EQUAL(ledger_counted(l).dropped, 0);
    finish();
}

/* The end does not wait for a question, which may take half a minute. */
static void closed_while_asked(void)
{
    start();
    record("a", "dev-1", 0);
    CU_ASSERT_TRUE(wait_recorded(1));
    postgres_freeze(&server, true);
    unsigned before = answers;
    send("admin", true, "{\"command\":\"ledger.query\"}");
    uint64_t begun = now_ms();
    ledger_close(l);
    CU_ASSERT(now_ms() - begun < 15000);
    CU_ASSERT_EQUAL(answers, before + 1);
    CU_ASSERT_PTR_NOT_NULL(json_get_text(parsed(), "error"));
    l = NULL;
    postgres_freeze(&server, false);
    finish();
}

/* A row that the store never takes is dropped, and the others are kept. */
static void poison(void)
{
    start();
    CU_ASSERT_TRUE(postgres_sql(&server, database, "ALTER TABLE pep_ledger ADD CHECK (topic <> 'bad')"));
    for (unsigned i = 0; i < 20; i++)
        record(i == 7 ? "bad" : "good", "dev-1", i);
    CU_ASSERT_TRUE(wait_recorded(19));
    CU_ASSERT_EQUAL(ledger_counted(l).dropped, 1);
    CU_ASSERT_FALSE(ledger_counted(l).away);
    CU_ASSERT_EQUAL(postgres_number(&server, database, "SELECT count(*) FROM pep_ledger"), 19);
    finish();
}

/* Erased bytes are on no page and in no log of the database. */
static bool file_holds(const char *name, const char *marker)
{
    static char bytes[16000000];
    FILE *f = fopen(scratch_path(name), "rb");
    size_t n = f == NULL ? 0 : fread(bytes, 1, sizeof bytes, f);
    if (f != NULL)
        fclose(f);
    return memmem(bytes, n, marker, strlen(marker)) != NULL;
}

static void scrubbed(void)
{
    start();
    for (unsigned i = 0; i < 500; i++)
        record(i % 2 ? "marked-topic/x" : "other", "dev-1", i);
    CU_ASSERT_TRUE(wait_recorded(500));
    CU_ASSERT_TRUE(file_holds("ledger.db", "marked-topic") || file_holds("ledger.db-wal", "marked-topic"));
    ask("{\"command\":\"ledger.forget\",\"topic\":\"marked-topic/#\"}");
    CU_ASSERT_EQUAL(number_in(cJSON_GetObjectItem(parsed(), "data"), "count"), 250);
    CU_ASSERT_TRUE(cJSON_IsTrue(data("scrubbed")));
    CU_ASSERT_FALSE(file_holds("ledger.db", "marked-topic"));
    CU_ASSERT_FALSE(file_holds("ledger.db-wal", "marked-topic"));
    CU_ASSERT_TRUE(file_holds("ledger.db", "other"));
    finish();
}

/* Pages that were split leave copies of rows behind, which are not those that are deleted. */
static void scrubbed_after_splits(void)
{
    char topic[80];
    start();
    for (unsigned i = 0; i < 20000; i++) {
        unsigned place = i * 2654435761U % 100003; /* anywhere in the index */
        snprintf(topic, sizeof topic, "t-%05u/%s%.*s", place, i % 3 == 0 ? "marked" : "other", (int)(i % 40),
                 "----------------------------------------");
        record(topic, i % 3 == 0 ? "dev-1" : "dev-2", i);
        if (i % 2000 == 0)
            tick();
    }
    CU_ASSERT_TRUE(wait_recorded(20000));
    ask("{\"command\":\"ledger.forget\",\"signer\":\"dev-1\"}");
    CU_ASSERT_EQUAL(number_in(cJSON_GetObjectItem(parsed(), "data"), "count"), 6667);
    CU_ASSERT_TRUE(cJSON_IsTrue(data("scrubbed")));
    CU_ASSERT_FALSE(file_holds("ledger.db", "marked"));
    CU_ASSERT_FALSE(file_holds("ledger.db", "dev-1"));
    CU_ASSERT_TRUE(file_holds("ledger.db", "dev-2"));
    CU_ASSERT_EQUAL(rows_of("{\"command\":\"ledger.query\",\"count\":1000,\"signer\":\"dev-2\"}"), 1000);
    ledger_close(l);
    open_ledger(); /* sound: it is looked through */
    finish();
}

/* What could not be written yet is not overtaken by an erasure, which would leave it. */
static void forget_waits_its_turn(void)
{
    static const char command[] = "{\"command\":\"ledger.forget\",\"signer\":\"dev-1\"}";
    start();
    record("a", "dev-1", 0);
    CU_ASSERT_TRUE(wait_recorded(1));
    limit_files(true, 1000);
    record("a", "dev-1", 1);
    uint64_t end = deadline_ms();
    while (ledger_has_room(l) && now_ms() < end)
        tick();
    CU_ASSERT_PTR_NOT_NULL(strstr(line, "waits in memory"));
    limit_files(false, 0);
    ask(command);
    CU_ASSERT_TRUE(is_refused(PEP_TRY_LATER));
    CU_ASSERT_TRUE(wait_recorded(2));
    ask(command);
    CU_ASSERT_EQUAL(number_in(cJSON_GetObjectItem(parsed(), "data"), "count"), 2);
    finish();
}

/* What was deleted and not yet off the disk when a broker ended is so when the next one is there. */
static void scrubbed_after_a_start(void)
{
    sqlite3 *db = NULL;
    start();
    for (unsigned i = 0; i < 50; i++)
        record("marked", "dev-1", i);
    CU_ASSERT_TRUE(wait_recorded(50));
    CU_ASSERT_EQUAL(sqlite3_open_v2(scratch_path("ledger.db"), &db, SQLITE_OPEN_READWRITE, NULL), SQLITE_OK);
    sqlite3_busy_timeout(db, LATE_MS);
    CU_ASSERT_EQUAL(sqlite3_exec(db, "PRAGMA wal_autocheckpoint=0; DELETE FROM pep_ledger", NULL, NULL, NULL),
                    SQLITE_OK);
    ledger_close(l); /* the last one to close would cut the log */
    CU_ASSERT_TRUE(file_holds("ledger.db-wal", "marked"));
    open_ledger();
    uint64_t end = deadline_ms();
    while (file_holds("ledger.db-wal", "marked") && now_ms() < end)
        tick();
    CU_ASSERT_FALSE(file_holds("ledger.db-wal", "marked"));
    CU_ASSERT_FALSE(file_holds("ledger.db", "marked"));
    sqlite3_close(db);
    finish();
}

/* Somebody who reads what stood there keeps it there: it is told so. */
static void scrub_is_kept_waiting(void)
{
    sqlite3 *db = NULL;
    start();
    record_some();
    CU_ASSERT_EQUAL(sqlite3_open_v2(scratch_path("ledger.db"), &db, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
    CU_ASSERT_EQUAL(sqlite3_exec(db, "BEGIN; SELECT count(*) FROM pep_ledger", NULL, NULL, NULL), SQLITE_OK);
    ask("{\"command\":\"ledger.forget\",\"signer\":\"ops\"}");
    CU_ASSERT_EQUAL(number_in(cJSON_GetObjectItem(parsed(), "data"), "count"), 20);
    CU_ASSERT_TRUE(cJSON_IsFalse(data("scrubbed")));
    sqlite3_close(db);
    ask("{\"command\":\"ledger.forget\",\"signer\":\"dev-1\"}");
    CU_ASSERT_TRUE(cJSON_IsTrue(data("scrubbed")));
    finish();
}

static void refused_starts(void)
{
    pep_error why = {""};
    const ledger_hooks hooks = {NULL, take_answer, take_line};
    scratch_begin();
    CU_ASSERT_PTR_NULL(ledger_open(&why, "sqlite:/nowhere/at/all.db", gate, &hooks));
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "/nowhere/at"));
    snprintf(url, sizeof url, "sqlite:%s/l.db", scratch_folder);
    write_file(scratch_path("l.db"), "this is no database, and long enough to be seen as one that is damaged", 70,
               0600);
    CU_ASSERT_PTR_NULL(ledger_open(&why, url, gate, &hooks));
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "restore a backup"));
    CU_ASSERT_PTR_NULL(ledger_open(&why, "mysql://x", gate, &hooks));
    scratch_end();
}

static const unit_test common[] = {
    {"a row as it was", row_as_it_was},
    {"conditions", by_conditions},
    {"names of fields", names_of_fields},
    {"pages", pages},
    {"pages of one moment", pages_of_one_moment},
    {"large rows", large_rows},
    {"sums", sums},
    {"groups", groups},
    {"sums beyond 64 bits", large_sums},
    {"fields in texts", fields_in_texts},
    {"groups of mixed values", groups_of_mixed_values},
    {"too many groups", too_many_groups},
    {"large groups", large_groups},
    {"who may ask", who_may},
    {"who asks has gone", asker_gone},
    {"more questions than may wait", too_many_wait},
    {"wrong commands", wrong_commands},
    {"forget", forget},
    {"forget many", forget_many},
    {"retention", retention},
    {"closed and opened", closed_and_opened},
    {"written twice", written_twice},
    {"long topics", long_topics},
    {"more than there is room for", drop},
};

static const unit_test sqlite_alone[] = {
    {"sqlite: erased is off the disk", scrubbed},
    {"sqlite: also what pages left when they were split", scrubbed_after_splits},
    {"sqlite: also what an earlier broker left", scrubbed_after_a_start},
    {"sqlite: a reader keeps it there", scrub_is_kept_waiting},
    {"sqlite: an erasure waits its turn", forget_waits_its_turn},
    {"refused starts", refused_starts},
};

static const unit_test postgres_alone[] = {
    {"postgresql: away", postgres_away},
    {"postgresql: closed while a question waits", closed_while_asked},
    {"postgresql: a row that is never taken", poison},
};

static int run(bool postgres, const char *name, const unit_test *tests, size_t count)
{
    on_postgres = postgres;
    return unit_main(name, tests, count);
}

int main(void)
{
    if (!postgres_start(&server)) {
        printf("%s\n", server.why);
        return 1;
    }
    int failed = run(false, "ledger on SQLite", common, COUNT(common));
    failed |= run(false, "ledger on SQLite alone", sqlite_alone, COUNT(sqlite_alone));
    failed |= run(true, "ledger on PostgreSQL", common, COUNT(common));
    failed |= run(true, "ledger on PostgreSQL alone", postgres_alone, COUNT(postgres_alone));
    postgres_end(&server);
    return failed;
}
