/* Rows as a table, as CSV (RFC 4180) and as JSON, with texts of people who mean no good. */
#include "client/sheet.h"

#include "unit.h"

#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ---- a cell of CSV ---- */

static const struct {
    const char *text, *csv;
} csv[] = {
    {"", "\"\""},
    {"plain", "\"plain\""},
    {"a,b", "\"a,b\""},
    {"say \"hi\"", "\"say \"\"hi\"\"\""},
    {"\"", "\"\"\"\""},
    {"\"\"", "\"\"\"\"\"\""},
    {"two\r\nlines", "\"two\\x0d\\x0alines\""},
    {"\x1b[31m\x7f\xc2\x9b\xe2\x80\xae", "\"\\x1b[31m\\x7f\\xc2\\x9b\\xe2\\x80\\xae\""},
    {"caf\xc3\xa9", "\"caf\xc3\xa9\""},
    /* what a spreadsheet would calculate */
    {"=1+1", "\"'=1+1\""},
    {"=cmd|' /C calc'!A0", "\"'=cmd|' /C calc'!A0\""},
    {"+1+1", "\"'+1+1\""},
    {"-1+1", "\"'-1+1\""},
    {"@SUM(A1)", "\"'@SUM(A1)\""},
    {"'quoted", "\"''quoted\""},
    {"=\"a\"", "\"'=\"\"a\"\"\""},
    {"\xef\xbc\x9d"
     "1",
     "\"'\xef\xbc\x9d"
     "1\""},
    {"\xef\xbc\x8b", "\"'\xef\xbc\x8b\""},
    {"\xef\xbc\x81", "\"\xef\xbc\x81\""},
    {"a=b", "\"a=b\""},
    {"\t=1", "\"\\x09=1\""},
    /* numbers are numbers */
    {"-5", "\"-5\""},
    {"-0", "\"-0\""},
    {"-05", "\"'-05\""},
    {"+5", "\"'+5\""},
    {"-", "\"'-\""},
    {"-1e5", "\"'-1e5\""},
};

static void test_csv(void)
{
    for (size_t i = 0; i < COUNT(csv); i++) {
        char *text = NULL;
        size_t n = 0;
        FILE *out = open_memstream(&text, &n);
        CU_ASSERT_PTR_NOT_NULL_FATAL(out);
        put_csv(out, csv[i].text, strlen(csv[i].text));
        CU_ASSERT_EQUAL(fclose(out), 0);
        CU_ASSERT_STRING_EQUAL(text, csv[i].csv);
        if (strcmp(text, csv[i].csv) != 0)
            printf("\n    %s: %s ", csv[i].csv, text);
        free(text);
    }
}

/* ---- whole sheets ---- */

static const column columns[] = {
    {"time", COLUMN_LEFT}, {"topic", COLUMN_LEFT}, {"kid", COLUMN_HIDDEN}, {"count", COLUMN_RIGHT},
    {"sum", COLUMN_RIGHT}, {"avg", COLUMN_RIGHT},  {"yes", COLUMN_LEFT},   {"fields", COLUMN_LEFT},
};

#define WIDTH COUNT(columns)
#define AT    UINT64_C(1795608000250000)

static char *print(sheet_form form, const cell *rows, size_t n)
{
    sheet s;
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    CU_ASSERT_PTR_NOT_NULL_FATAL(out);
    sheet_begin(&s, form, out, columns, WIDTH);
    for (size_t i = 0; i < n; i++)
        sheet_row(&s, rows + i * WIDTH);
    CU_ASSERT_EQUAL(sheet_end(&s), 0);
    CU_ASSERT_EQUAL(fclose(out), 0);
    return text;
}

static void expect(sheet_form form, const cell *rows, size_t n, const char *wanted)
{
    char *text = print(form, rows, n);
    CU_ASSERT_STRING_EQUAL(text, wanted);
    if (strcmp(text, wanted) != 0)
        printf("\n%s", text);
    free(text);
}

static void test_forms(void)
{
    static fields f;
    CU_ASSERT_TRUE(fields_parse(&f, "{\"n\":9007199254740993,\"t\":\"a b\"}"));
    const cell rows[] = {
        {.kind = CELL_TIME, .number = AT},
        {.kind = CELL_TEXT, .text = "t/\x1b]0;x\x07\"1\""},
        {.kind = CELL_TEXT, .text = "00ff"},
        {.kind = CELL_NUMBER, .number = UINT64_MAX},
        {.kind = CELL_DECIMAL, .text = "-123456789012345678901234567890"},
        {.kind = CELL_REAL, .real = 0.5},
        {.kind = CELL_BOOL, .yes = true},
        {.kind = CELL_FIELDS, .fields = &f},
        {.kind = CELL_SECOND, .number = AT},
        {.kind = CELL_TEXT, .text = "caf\xc3\xa9"},
        {.kind = CELL_NONE},
        {.kind = CELL_NUMBER, .number = 1},
        {.kind = CELL_NONE},
        {.kind = CELL_NONE},
        {.kind = CELL_BOOL},
        {.kind = CELL_NONE},
    };
    expect(FORM_JSON, rows, 2,
           "{\"time\":\"2026-11-25T12:00:00.250000Z\",\"topic\":\"t/\\u001b]0;x\\u0007\\\"1\\\"\",\"kid\":\"00ff\","
           "\"count\":18446744073709551615,\"sum\":-123456789012345678901234567890,\"avg\":0.5,\"yes\":true,"
           "\"fields\":{\"n\":9007199254740993,\"t\":\"a b\"}}\n"
           "{\"time\":\"2026-11-25T12:00:00Z\",\"topic\":\"caf\xc3\xa9\",\"kid\":null,\"count\":1,\"sum\":null,"
           "\"avg\":null,\"yes\":false,\"fields\":null}\n");
    expect(FORM_CSV, rows, 2,
           "time,topic,kid,count,sum,avg,yes,fields\r\n"
           "2026-11-25T12:00:00.250000Z,\"t/\\x1b]0;x\\x07\"\"1\"\"\",\"00ff\",18446744073709551615,"
           "-123456789012345678901234567890,0.5,true,\"{\"\"n\"\":9007199254740993,\"\"t\"\":\"\"a b\"\"}\"\r\n"
           "2026-11-25T12:00:00Z,\"caf\xc3\xa9\",,1,,,false,\r\n");
    expect(FORM_TABLE, rows, 2,
           "time                         topic                                     count"
           "                              sum  avg  yes    fields\n"
           "2026-11-25T12:00:00.250000Z  \"t/\\u001b]0;x\\u0007\\\"1\\\"\"  18446744073709551615"
           "  -123456789012345678901234567890  0.5  true   n=9007199254740993 t=\"a b\"\n"
           "2026-11-25T12:00:00Z         caf\xc3\xa9                                          1"
           "                                -    -  false  -\n");
}

static void test_empty(void)
{
    expect(FORM_JSON, NULL, 0, "");
    expect(FORM_CSV, NULL, 0, "time,topic,kid,count,sum,avg,yes,fields\r\n");
    expect(FORM_TABLE, NULL, 0, "");
}

/* More cells than there is room for at once. */
static void test_many(void)
{
    const cell row[WIDTH] = {{.kind = CELL_NUMBER, .number = 7}};
    sheet s;
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    CU_ASSERT_PTR_NOT_NULL_FATAL(out);
    sheet_begin(&s, FORM_TABLE, out, columns, WIDTH);
    for (int i = 0; i < 1000; i++)
        sheet_row(&s, row);
    CU_ASSERT_EQUAL(sheet_end(&s), 0);
    CU_ASSERT_EQUAL(fclose(out), 0);
    size_t lines = 0;
    for (const char *at = text; (at = strchr(at, '\n')) != NULL; at++)
        lines++;
    CU_ASSERT_EQUAL(lines, 1001);
    free(text);
}

static void test_decimal(void)
{
    static const char *const right[] = {"0", "7", "-1", "123456789012345678901234567890", "-0"};
    static const char *const wrong[] = {"", "-", "+1", "01", "-01", "1.0", "1e5", " 1", "1 ", "x", "--1", "0x1"};
    char longest[66];
    for (size_t i = 0; i < COUNT(right); i++)
        CU_ASSERT_TRUE(decimal_valid(right[i]));
    for (size_t i = 0; i < COUNT(wrong); i++)
        CU_ASSERT_FALSE(decimal_valid(wrong[i]));
    memset(longest, '1', sizeof(longest));
    longest[64] = '\0';
    CU_ASSERT_TRUE(decimal_valid(longest));
    longest[64] = '1';
    longest[65] = '\0';
    CU_ASSERT_FALSE(decimal_valid(longest));
}

static const unit_test tests[] = {
    {"a cell of CSV", test_csv},         {"all forms", test_forms},         {"sheets without rows", test_empty},
    {"a table of many rows", test_many}, {"decimal numbers", test_decimal},
};

UNIT_MAIN("sheet", tests)
