/*
 * pep ledger and a broker that lies. Promise: what is not an answer of the ledger's form ends the command with one
 * line, nothing of it acts on a terminal, a spreadsheet or gnuplot, and no answer goes on for ever.
 */
#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "liar.h"
#include "tests/unit/unit.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define MALFORMED    "the answer about the ledger: malformed"

/* ---- the gate ---- */

static void show_gate(void)
{
    pep_device gate;
    bytes record;
    bytes entry;
    uint64_t now_s = pep_now_us() / 1000000;
    CU_ASSERT_EQUAL_FATAL(pep_device_new(&gate, "gate"), PEP_OK);
    CU_ASSERT_EQUAL_FATAL(pep_record_sign(record.p, &record.n, &gate, now_s, now_s + 1000), PEP_OK);
    const pep_entry e = {.statement = {record.p, record.n}};
    CU_ASSERT_EQUAL_FATAL(pep_entry_encode(entry.p, &entry.n, &e), PEP_OK);
    liar_retain(PEP_GATE_TOPIC, "", entry);
}

static void enter(cJSON *(*answer)(const cJSON *command))
{
    liar_enter();
    show_gate();
    liar.answer = answer;
}

static cJSON *with_data(cJSON *data)
{
    cJSON *response = cJSON_CreateObject();
    cJSON_AddItemToObject(response, "data", data);
    return response;
}

static cJSON *parsed(const char *json)
{
    cJSON *item = cJSON_Parse(json);
    CU_ASSERT_PTR_NOT_NULL_FATAL(item);
    return item;
}

/* ---- what is said ---- */

#define ROW                                                                                                            \
    "{\"time\":1795608000000001,\"topic\":\"t/1\",\"signer\":\"me\",\"kid\":\"000102030405060708090a0b0c0d0e0f\","     \
    "\"seq\":5,\"size\":200,\"payload\":20,\"qos\":1,\"retained\":false,\"fields\":\"{\\\"temp\\\":21}\"}"
#define GROUP                                                                                                          \
    "{\"time\":1795608000000000,\"signer\":\"me\",\"topic\":\"t/1\",\"value\":\"a\",\"count\":3,\"numbers\":2,"        \
    "\"sum\":\"-5\",\"min\":\"-9\",\"max\":\"4\",\"avg\":-2.5}"
#define ERASURE                                                                                                        \
    "{\"time\":1795608000000000,\"by\":\"me\",\"criteria\":\"signer\",\"count\":3,\"from\":1,\"to\":1795608000000000}"

static cJSON *said; /* the data of every answer */

static cJSON *answer_said(const cJSON *command)
{
    (void)command;
    return with_data(cJSON_Duplicate(said, true));
}

static void say(cJSON *data)
{
    cJSON_Delete(said);
    said = data;
}

/* {"LIST":[ITEM]}, where `name` of the item is `value`, or is missing where that is NULL. */
static void say_altered(const char *list, const char *item, const char *name, const char *value)
{
    cJSON *data = cJSON_CreateObject();
    cJSON *altered = parsed(item);
    cJSON_DeleteItemFromObjectCaseSensitive(altered, name);
    if (value != NULL)
        cJSON_AddRawToObject(altered, name, value); /* as it is: a double would have been rounded */
    cJSON_AddItemToArray(cJSON_AddArrayToObject(data, list), altered);
    say(data);
}

typedef struct {
    const char *name, *value; /* NULL: missing */
} change;

static void refuse_changes(const char *words, const char *list, const char *item, const change *changes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        say_altered(list, item, changes[i].name, changes[i].value);
        unsigned failed = CU_get_number_of_failures();
        liar_expect(1, words, MALFORMED);
        CU_ASSERT_EQUAL(liar_count("err", "\n"), 1);
        if (CU_get_number_of_failures() != failed)
            printf("\n    with %s: %s ", changes[i].name, changes[i].value != NULL ? changes[i].value : "missing");
    }
}

#define WRONG_NUMBERS(name)                                                                                            \
    {name, NULL}, {name, "\"5\""}, {name, "-1"}, {name, "0.5"}, {name, "9007199254740992"}, {name, "1e300"},           \
    {                                                                                                                  \
        name, "null"                                                                                                   \
    }

/* ---- rows ---- */

static const change row_changes[] = {
    WRONG_NUMBERS("time"),
    WRONG_NUMBERS("seq"),
    WRONG_NUMBERS("size"),
    WRONG_NUMBERS("payload"),
    WRONG_NUMBERS("qos"),
    {"qos", "3"},
    {"topic", NULL},
    {"topic", "7"},
    {"topic", "\"\""},
    {"topic", "\"t/+\""},
    {"topic", "\"\xff\""},
    {"signer", NULL},
    {"signer", "\"\""},
    {"signer", "\"a b\""},
    {"signer", "\"\\u001b[31m\""},
    {"kid", NULL},
    {"kid", "\"00\""},
    {"kid", "\"000102030405060708090A0B0C0D0E0F\""},
    {"kid", "\"000102030405060708090a0b0c0d0e0f00\""},
    {"retained", NULL},
    {"retained", "0"},
    {"retained", "\"true\""},
    {"fields", NULL},
    {"fields", "{\"temp\":21}"},
    {"fields", "\"\""},
    {"fields", "\"{\\\"a\\\":1.5}\""},
    {"fields", "\"{\\\"a\\\":[]}\""},
    {"fields", "\"{\\\"a\\\":1,\\\"a\\\":1}\""},
    {"fields", "\"{\\\"a\\\":9223372036854775808}\""},
};

static void test_rows(void)
{
    enter(answer_said);
    say(parsed("{\"rows\":[" ROW "]}"));
    liar_expect(0, "ledger query --key me.key %", "temp=21");
    refuse_changes("ledger query --key me.key --json %", "rows", ROW, row_changes, COUNT(row_changes));
    liar_leave();
}

static void test_no_rows(void)
{
    static const char *const wrong[] = {"{}",
                                        "[]",
                                        "null",
                                        "7",
                                        "{\"rows\":{}}",
                                        "{\"rows\":7}",
                                        "{\"rows\":[7]}",
                                        "{\"rows\":[[]]}",
                                        "{\"rows\":null}"};
    enter(answer_said);
    for (size_t i = 0; i < COUNT(wrong); i++) {
        say(parsed(wrong[i]));
        liar_expect(1, "ledger query --key me.key %", MALFORMED);
    }
    liar_leave();
}

static bool has_control(const char *path)
{
    for (const char *at = liar_content(path); *at != '\0'; at++)
        if (((unsigned char)*at < 0x20 && *at != '\n' && *at != '\r') || *at == 0x7f)
            return true;
    return false;
}

/* Topics and fields of strangers, in each form. */
static void test_texts(void)
{
    static const char *const forms[] = {"ledger query --key me.key %", "ledger query --key me.key --json %",
                                        "ledger query --key me.key --csv %", "ledger export --key me.key %"};
    enter(answer_said);
    say_altered("rows", ROW, "topic", "\"=cmd|'/C calc'!A0\\u001b]0;x\\u0007\\u009b\\u202e\\r\\nforged\"");
    cJSON *row = cJSON_GetArrayItem(cJSON_GetObjectItem(said, "rows"), 0);
    cJSON_ReplaceItemInObject(row, "fields", cJSON_CreateString("{\"a\\u001bb\":\"\x7f\\n x=1\\u0000\"}"));
    for (size_t i = 0; i < COUNT(forms); i++) {
        liar_expect(0, forms[i], "forged");
        CU_ASSERT_FALSE(has_control("out"));
        CU_ASSERT_EQUAL(liar_count("out", "\xc2\x9b") + liar_count("out", "\xe2\x80\xae"), 0);
        CU_ASSERT_EQUAL(liar_count("out", "\nforged"), 0);
    }
    liar_expect(0, forms[2], "\"'=cmd|");
    liar_leave();
}

/* ---- pages ---- */

static const char *cursor;  /* NULL: another one each time */
static unsigned rows_given; /* on each page */

static cJSON *answer_pages(const cJSON *command)
{
    cJSON *data = cJSON_CreateObject();
    cJSON *rows = cJSON_AddArrayToObject(data, "rows");
    char next[32];
    (void)command;
    for (unsigned i = 0; i < rows_given; i++)
        cJSON_AddItemToArray(rows, parsed(ROW));
    (void)snprintf(next, sizeof(next), "%zu", liar.asked);
    cJSON_AddStringToObject(data, "next", cursor != NULL ? cursor : next);
    return with_data(data);
}

static void test_pages(void)
{
    enter(answer_pages);
    rows_given = 1;
    liar_expect(0, "ledger query --key me.key --limit 3 %", "temp=21"); /* and no further, whatever there is */
    CU_ASSERT_EQUAL(liar_count("out", "temp=21"), 3);
    CU_ASSERT_EQUAL(liar.asked, 3);
    rows_given = 2;
    liar_expect(1, "ledger query --key me.key --limit 1 --json %", MALFORMED); /* more than was asked for */
    CU_ASSERT_EQUAL(liar_count("out", "temp"), 1);
    rows_given = 1;
    cursor = "same";
    liar.asked = 0;
    liar_expect(1, "ledger query --key me.key %", MALFORMED);
    CU_ASSERT_EQUAL(liar.asked, 2);
    cursor = NULL;
    rows_given = 0;
    liar.asked = 0;
    liar_expect(1, "ledger query --key me.key %", MALFORMED);
    CU_ASSERT_TRUE(liar.asked > 1 && liar.asked < 20);
    liar_leave();
}

static void test_cursors(void)
{
    static const char *const wrong[] = {"7", "null", "\"\"", "{}", "true"};
    char longer[1100] = "\"";
    enter(answer_said);
    for (size_t i = 0; i <= COUNT(wrong); i++) {
        cJSON *data = parsed("{\"rows\":[" ROW "]}");
        memset(longer + 1, 'a', 1025);
        longer[1026] = '"';
        cJSON_AddItemToObject(data, "next", parsed(i < COUNT(wrong) ? wrong[i] : longer));
        say(data);
        liar_expect(1, "ledger query --key me.key %", MALFORMED);
    }
    liar_leave();
}

static cJSON *answer_and_create(const cJSON *command)
{
    FILE *file = fopen("rows.json", "we");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    fputs("another's", file);
    fclose(file);
    return answer_said(command);
}

/* A file that comes while rows are read stays what it is. */
static void test_file_in_between(void)
{
    enter(answer_and_create);
    say(parsed("{\"rows\":[" ROW "]}"));
    liar_expect(1, "ledger export --key me.key -o rows.json %", "never overwritten");
    CU_ASSERT_STRING_EQUAL(liar_content("rows.json"), "another's");
    CU_ASSERT_EQUAL(system("test \"$(ls | grep -c rows)\" = 1"), 0); // NOLINT(cert-env33-c)
    liar_leave();
}

/* What ends in the middle leaves nothing behind. */
static void test_half_an_export(void)
{
    enter(answer_pages);
    cursor = "same";
    rows_given = 5;
    liar_expect(1, "ledger export --key me.key -o rows.json %", MALFORMED);
    CU_ASSERT_EQUAL(system("test -z \"$(ls | grep rows)\""), 0); // NOLINT(cert-env33-c)
    liar_expect(1, "ledger export --key me.key --csv %", MALFORMED);
    CU_ASSERT_EQUAL(liar_count("out", "\r\n"), 11);
    cursor = NULL;
    liar_leave();
}

/* ---- groups ---- */

static const change group_changes[] = {
    WRONG_NUMBERS("time"),
    WRONG_NUMBERS("count"),
    WRONG_NUMBERS("numbers"),
    {"numbers", "4"},
    {"signer", NULL},
    {"signer", "\"a b\""},
    {"signer", "null"},
    {"value", NULL},
    {"value", "7"},
    {"value", "\"\xff\""},
    {"sum", NULL},
    {"sum", "7"},
    {"sum", "\"1.5\""},
    {"sum", "\"0x5\""},
    {"sum", "\"1]},\\\"\""},
    {"sum", "\"11111111111111111111111111111111111111111111111111111111111111111\""},
    {"min", "\"\""},
    {"max", "\"nan\""},
    {"avg", NULL},
    {"avg", "\"1\""},
    {"avg", "1e999"},
    {"avg", "-1e999"},
};

static void test_groups(void)
{
    enter(answer_said);
    say(parsed("{\"groups\":[" GROUP "]}"));
    liar_expect(0, "ledger sum --key me.key --of temp --by signer --by hour --by field:site --json %",
                "{\"signer\":\"me\",\"time\":\"2026-11-25T12:00:00Z\",\"value\":\"a\",\"count\":3,\"numbers\":2,"
                "\"sum\":-5,\"min\":-9,\"max\":4,\"avg\":-2.5}");
    refuse_changes("ledger sum --key me.key --of temp --by signer --by hour --by field:site %", "groups", GROUP,
                   group_changes, COUNT(group_changes));
    say_altered("groups", GROUP, "topic", NULL);
    liar_expect(1, "ledger sum --key me.key --by topic %", MALFORMED);
    liar_leave();
}

static void test_too_many_groups(void)
{
    enter(answer_said);
    for (int n = 5000; n <= 5001; n++) {
        cJSON *data = cJSON_CreateObject();
        cJSON *groups = cJSON_AddArrayToObject(data, "groups");
        for (int i = 0; i < n; i++)
            cJSON_AddItemToArray(groups, parsed("{\"count\":1}"));
        say(data);
        liar_expect(n == 5000 ? 0 : 1, "ledger sum --key me.key --csv %", n == 5000 ? "count" : MALFORMED);
    }
    liar_leave();
}

/* ---- pictures ---- */

/* gnuplot's language can run commands and write files. */
static void test_plot(void)
{
    static const char *const names[] = {"\\\"; system(\\\"touch PWNED\\\") #",
                                        "`touch PWNED`",
                                        "'; !touch PWNED\\n",
                                        "@x $series0 \\\\\\\" {/Bold x}",
                                        "</text><script>alert(1)</script>]]>&#1;",
                                        "\\n!touch PWNED\\n",
                                        "PEP_END\\nsystem(\\\"touch PWNED\\\")\\n"};
    enter(answer_said);
    cJSON *data = parsed("{\"rows\":[" ROW "]}");
    cJSON *groups = cJSON_AddArrayToObject(data, "groups");
    for (size_t i = 0; i < COUNT(names); i++) {
        char group[256];
        (void)snprintf(group, sizeof(group), "{\"time\":%zu,\"value\":\"%s\",\"count\":3}", (i + 1) * 60000000,
                       names[i]);
        cJSON_AddItemToArray(groups, parsed(group));
    }
    cJSON_AddItemToArray(groups, parsed("{\"time\":0,\"value\":null,\"count\":3}"));
    say(data);
    liar_expect(0, "ledger plot --key me.key --by 'field:`touch PWNED`' --field '`touch PWNED`=`x`' --out a.svg %",
                "a.svg: 8 lines");
    liar_expect(0, "ledger plot --key me.key --by field:x --out a.png %", "a.png: 8 lines");
    CU_ASSERT_NOT_EQUAL(access("PWNED", F_OK), 0);
    CU_ASSERT_EQUAL(liar_count("a.svg", "<script") + liar_count("a.svg", "&#") + liar_count("a.svg", "]]>"), 0);
    CU_ASSERT_TRUE(liar_count("a.svg", "`touch PWNED`") >= 3);
    liar_leave();
}

static void say_names(unsigned n)
{
    cJSON *data = cJSON_CreateObject();
    cJSON *groups = cJSON_AddArrayToObject(data, "groups");
    for (unsigned i = 0; i < n; i++) {
        char group[128];
        (void)snprintf(group, sizeof(group), "{\"time\":0,\"signer\":\"d%u\",\"count\":%u}", i, n - i);
        cJSON_AddItemToArray(groups, parsed(group));
    }
    say(data);
}

/* What has no line of its own is one line together: of 190 messages, where no other has more than 30. */
static void test_others(void)
{
    enter(answer_said);
    say_names(12);
    liar_expect(0, "ledger plot --key me.key --by signer --every hour -o 12.svg %", "12.svg: 12 lines");
    CU_ASSERT_TRUE(liar_count("12.svg", ">d11<") > 0 && liar_count("12.svg", "others") == 0);
    say_names(30);
    liar_expect(0, "ledger plot --key me.key --by signer --every hour -o 30.svg %", "30.svg: 12 lines");
    CU_ASSERT_TRUE(liar_count("30.svg", ">d10<") > 0 && liar_count("30.svg", ">19 others<") > 0);
    CU_ASSERT_EQUAL(liar_count("30.svg", ">d11<"), 0);
    CU_ASSERT_TRUE(liar_count("30.svg", ">100<") > 0);
    liar_leave();
}

/* ---- erasing ---- */

static const change forget_changes[] = {WRONG_NUMBERS("count"), WRONG_NUMBERS("from"), WRONG_NUMBERS("to")};

static void test_forget(void)
{
    static const char right[] = "{\"count\":2,\"from\":0,\"to\":1795608000000000,\"scrubbed\":true}";
    enter(answer_said);
    say(parsed(right));
    liar_expect(0, "ledger forget --key me.key --signer a %",
                "forgot 2 messages, recorded from 1970-01-01T00:00:00.000000Z to 2026-11-25T12:00:00.000000Z");
    for (size_t i = 0; i < COUNT(forget_changes); i++) {
        cJSON *data = parsed(right);
        cJSON_DeleteItemFromObject(data, forget_changes[i].name);
        if (forget_changes[i].value != NULL)
            cJSON_AddRawToObject(data, forget_changes[i].name, forget_changes[i].value);
        say(data);
        liar_expect(1, "ledger forget --key me.key --signer a %", MALFORMED);
    }
    say(parsed("{\"count\":0}"));
    liar_expect(0, "ledger forget --key me.key --signer a %", "nothing to forget");
    liar_leave();
}

static const change erasure_changes[] = {
    WRONG_NUMBERS("time"), WRONG_NUMBERS("count"),   WRONG_NUMBERS("from"),     WRONG_NUMBERS("to"),
    {"by", NULL},          {"by", "\"a b\""},        {"by", "\"\\u001b[31m\""}, {"criteria", NULL},
    {"criteria", "7"},     {"criteria", "\"\xff\""},
};

static void test_erasures(void)
{
    enter(answer_said);
    say_altered("erasures", ERASURE, "criteria", "\"\\u001b[31m\"");
    liar_expect(0, "ledger erasures --key me.key %", "\"\\u001b[31m\"");
    CU_ASSERT_FALSE(has_control("out"));
    refuse_changes("ledger erasures --key me.key %", "erasures", ERASURE, erasure_changes, COUNT(erasure_changes));
    cJSON *data = cJSON_CreateObject();
    cJSON *list = cJSON_AddArrayToObject(data, "erasures");
    for (int i = 0; i < 1001; i++)
        cJSON_AddItemToArray(list, parsed(ERASURE));
    say(data);
    liar_expect(1, "ledger erasures --key me.key %", MALFORMED);
    liar_leave();
}

/* ---- errors ---- */

static const char *error_name;
static size_t error_times;

static cJSON *answer_error(const cJSON *command)
{
    return liar.asked < error_times ? liar_error(error_name) : answer_said(command);
}

static void test_errors(void)
{
    enter(answer_error);
    say(parsed("{\"rows\":[" ROW "]}"));
    error_name = "try-later"; /* asked again, by another command */
    error_times = 2;
    liar_expect(0, "ledger export --key me.key %", "\"temp\":21");
    CU_ASSERT_EQUAL(liar.asked, 3);
    error_times = 1000;
    error_name = "too-many";
    liar_expect(1, "ledger query --key me.key %", "the ledger: too-many");
    liar.asked = 0;
    liar_expect(1, "ledger plot --key me.key --out a.svg --every minute %", "the ledger: too-many");
    CU_ASSERT_EQUAL(liar.asked, 1);
    error_name = "not-authorized";
    liar_expect(1, "ledger query --key me.key %", "not-authorized");
    error_name = "store-failed";
    liar_expect(3, "ledger sum --key me.key %", "store-failed");
    error_name = "\x1b[31m";
    liar_expect(1, "ledger sum --key me.key %", "bad-command");
    CU_ASSERT_FALSE(has_control("err"));
    liar_leave();
    cJSON_Delete(said);
    said = NULL;
}

static const unit_test tests[] = {
    {"rows", test_rows},
    {"no rows at all", test_no_rows},
    {"texts of strangers", test_texts},
    {"pages", test_pages},
    {"cursors", test_cursors},
    {"a file that comes in between", test_file_in_between},
    {"an export that is cut short", test_half_an_export},
    {"groups", test_groups},
    {"more groups than there can be", test_too_many_groups},
    {"texts in a picture", test_plot},
    {"lines of their own", test_others},
    {"what was forgotten", test_forget},
    {"erasures", test_erasures},
    {"errors", test_errors},
};

UNIT_MAIN("ledger_hostile", tests)
