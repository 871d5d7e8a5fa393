/* The fields of a ledger's row: flat JSON with exact numbers, in and out (RFC 8259). */
#include "client/fields.h"

#include "unit.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "exact.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static bool parse(fields *out, const char *json)
{
    char *exact = (char *)exact_copy(json, strlen(json) + 1);
    bool taken = fields_parse(out, exact);
    free(exact);
    return taken;
}

static char *written(const fields *f, void (*put)(FILE *out, const fields *f))
{
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);
    CU_ASSERT_PTR_NOT_NULL_FATAL(out);
    put(out, f);
    CU_ASSERT_EQUAL(fclose(out), 0);
    return text;
}

typedef struct {
    const char *json, *again, *words;
} right_case;

static const right_case right[] = {
    {"{}", "{}", ""},
    {" { } ", "{}", ""},
    {"{\"temp\":21,\"site\":\"a\"}", "{\"temp\":21,\"site\":\"a\"}", "temp=21 site=a"},
    {"\t{ \"a\" :\n true , \"b\" : false }\r\n", "{\"a\":true,\"b\":false}", "a=true b=false"},
    /* what a double has not */
    {"{\"a\":9223372036854775807,\"b\":-9223372036854775808}", "{\"a\":9223372036854775807,\"b\":-9223372036854775808}",
     "a=9223372036854775807 b=-9223372036854775808"},
    {"{\"a\":9007199254740993}", "{\"a\":9007199254740993}", "a=9007199254740993"},
    {"{\"a\":0,\"b\":-1,\"c\":-0}", "{\"a\":0,\"b\":-1,\"c\":0}", "a=0 b=-1 c=0"},
    /* texts that could be taken for something else */
    {"{\"a\":\"21\",\"b\":\"true\",\"c\":\"\",\"d\":\"x y=1\",\"e\":\"-\"}",
     "{\"a\":\"21\",\"b\":\"true\",\"c\":\"\",\"d\":\"x y=1\",\"e\":\"-\"}",
     "a=\"21\" b=\"true\" c=\"\" d=\"x y=1\" e=\"-\""},
    {"{\"\":\"\",\"a b\":1,\"a=b\":2,\"7\":3}", "{\"\":\"\",\"a b\":1,\"a=b\":2,\"7\":3}",
     "\"\"=\"\" \"a b\"=1 \"a=b\"=2 \"7\"=3"},
    {"{\"a\":\"1.5\",\"b\":\"+1\",\"c\":\"01\"}", "{\"a\":\"1.5\",\"b\":\"+1\",\"c\":\"01\"}", "a=1.5 b=+1 c=01"},
    /* escapes, and what they may stand for */
    {"{\"a\":\"\\\"\\\\\\/\"}", "{\"a\":\"\\\"\\\\/\"}", "a=\"\\\"\\\\/\""},
    {"{\"a\":\"\\b\\f\\n\\r\\t\\u001b[31m\"}", "{\"a\":\"\\u0008\\u000c\\u000a\\u000d\\u0009\\u001b[31m\"}",
     "a=\"\\u0008\\u000c\\u000a\\u000d\\u0009\\u001b[31m\""},
    {"{\"a\":\"x\\u0000y\"}", "{\"a\":\"x\\u0000y\"}", "a=\"x\\u0000y\""},
    {"{\"a\":\"\\u00e9\\u20AC\\ud83d\\uDE00\"}", "{\"a\":\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"}",
     "a=\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"},
    {"{\"a\":\"\x7f\xc2\x9b\xe2\x80\xae\"}", "{\"a\":\"\\u007f\\u009b\\u202e\"}", "a=\"\\u007f\\u009b\\u202e\""},
    {"{\"\\u0061\":1,\"A\":2}", "{\"a\":1,\"A\":2}", "a=1 A=2"},
};

static void test_right(void)
{
    static fields f;
    static fields twice;
    for (size_t i = 0; i < COUNT(right); i++) {
        bool taken = parse(&f, right[i].json);
        CU_ASSERT_TRUE(taken);
        char *again = written(&f, fields_put_json);
        char *words = written(&f, fields_put_words);
        CU_ASSERT_STRING_EQUAL(again, right[i].again);
        CU_ASSERT_STRING_EQUAL(words, right[i].words);
        CU_ASSERT_TRUE(parse(&twice, again));
        if (!taken || strcmp(again, right[i].again) != 0 || strcmp(words, right[i].words) != 0)
            printf("\n    %s: %s, %s ", right[i].json, again, words);
        free(again);
        free(words);
    }
}

static const char *const wrong[] = {
    "",
    " ",
    "{",
    "}",
    "[]",
    "1",
    "\"a\"",
    "null",
    "{}{}",
    "{} x",
    "{,}",
    "{\"a\":1,}",
    "{\"a\":1 \"b\":2}",
    "{\"a\"}",
    "{\"a\":}",
    "{\"a\" 1}",
    "{a:1}",
    "{'a':1}",
    "{1:1}",
    "{\"a\":null}",
    "{\"a\":{}}",
    "{\"a\":[1]}",
    "{\"a\":1.0}",
    "{\"a\":1e3}",
    "{\"a\":+1}",
    "{\"a\":01}",
    "{\"a\":-}",
    "{\"a\":--1}",
    "{\"a\":0x1}",
    "{\"a\":9223372036854775808}",
    "{\"a\":-9223372036854775809}",
    "{\"a\":99999999999999999999}",
    "{\"a\":18446744073709551617}",
    "{\"a\":True}",
    "{\"a\":truefalse}",
    "{\"a\":NaN}",
    "{\"a\":1,\"a\":2}",
    "{\"a\":1,\"\\u0061\":2}",
    "{\"a\":\"",
    "{\"a\":\"x}",
    "{\"a\":\"\\",
    "{\"a\":\"\\\"}",
    "{\"a\":\"\\x\"}",
    "{\"a\":\"\\u\"}",
    "{\"a\":\"\\u12\"}",
    "{\"a\":\"\\u12g4\"}",
    "{\"a\":\"\\ud800\"}",
    "{\"a\":\"\\ud800x\"}",
    "{\"a\":\"\\ud800\\u0041\"}",
    "{\"a\":\"\\udc00\"}",
    "{\"a\":\"\n\"}",
    "{\"a\":\"\x1b\"}",
    "{\"a\":\"\xff\"}",
    "{\"a\":\"\xc3\"}",
    "{\"\xc0\x80\":1}",
};

static void test_wrong(void)
{
    static fields f;
    for (size_t i = 0; i < COUNT(wrong); i++) {
        bool taken = parse(&f, wrong[i]);
        CU_ASSERT_FALSE(taken);
        if (taken)
            printf("\n    taken: %s ", wrong[i]);
    }
}

static void test_cut(void)
{
    static const char whole[] = "{\"a\":\"\\u00e9\\ud83d\\ude00\",\"b\":-12,\"c\":true}";
    static fields f;
    for (size_t n = 0; n + 1 < sizeof(whole); n++) {
        char text[sizeof(whole)];
        (void)snprintf(text, sizeof(text), "%.*s", (int)n, whole);
        CU_ASSERT_FALSE(parse(&f, text));
    }
    CU_ASSERT_TRUE(parse(&f, whole));
}

/* `n` members, and the last one's text of `length` characters. */
static char *make(size_t n, size_t length)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    CU_ASSERT_PTR_NOT_NULL_FATAL(out);
    for (size_t i = 0; i < n; i++)
        fprintf(out, "%s\"%zu\":%d", i == 0 ? "{" : ",", i, 1);
    fputs(",\"x\":\"", out);
    for (size_t i = 0; i < length; i++)
        putc('a', out);
    fputs("\"}", out);
    CU_ASSERT_EQUAL(fclose(out), 0);
    return text;
}

static bool takes(size_t n, size_t length)
{
    static fields f;
    char *json = make(n, length);
    bool taken = parse(&f, json);
    free(json);
    return taken;
}

static void test_limits(void)
{
    CU_ASSERT_TRUE(takes(PEP_FACTS_COUNT_MAX - 1, 1));
    CU_ASSERT_FALSE(takes(PEP_FACTS_COUNT_MAX, 1));
    size_t rest = strlen("{\"0\":1,\"x\":\"\"}");
    CU_ASSERT_TRUE(takes(1, FIELDS_JSON_MAX - rest));
    CU_ASSERT_FALSE(takes(1, FIELDS_JSON_MAX - rest + 1));
}

static const unit_test tests[] = {
    {"what is taken, and how it is written", test_right},
    {"what is not taken", test_wrong},
    {"an object that is cut short", test_cut},
    {"limits", test_limits},
};

UNIT_MAIN("fields", tests)
