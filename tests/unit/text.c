/* UTF-8, ids, topics, filters and how filters match (RFC 3629; MQTT 5.0, 1.5.4 and 4.7). */
#include "envelope/text.h"

#include "unit.h"

#include <stdlib.h>
#include <string.h>

#include "exact.h"
#include "pep/base.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define CASE(s)      (s), sizeof(s) - 1

static bool utf8(const void *p, size_t n)
{
    uint8_t *exact = exact_copy(p, n);
    bool valid = pep_utf8_valid(exact, n);
    free(exact);
    return valid;
}

/* ---- UTF-8 ---- */

typedef struct {
    const char *text;
    size_t n;
    bool valid;
} text_case;

static const text_case utf8_cases[] = {
    {CASE(""), true},
    {CASE("plain"), true},
    {CASE("\x00"), true},
    {CASE("\x7f"), true},
    /* the first and the last of each length */
    {CASE("\xc2\x80"), true},
    {CASE("\xdf\xbf"), true},
    {CASE("\xe0\xa0\x80"), true},
    {CASE("\xef\xbf\xbf"), true},
    {CASE("\xf0\x90\x80\x80"), true},
    {CASE("\xf4\x8f\xbf\xbf"), true},
    {CASE("\xed\x9f\xbf"), true},
    {CASE("\xee\x80\x80"), true},
    {CASE("\xef\xbb\xbf byte order mark"), true},
    /* a continuation without a lead */
    {CASE("\x80"), false},
    {CASE("\xbf"), false},
    {CASE("a\x80"), false},
    {CASE("\xc2\x80\x80"), false},
    /* longer than needed */
    {CASE("\xc0\x80"), false},
    {CASE("\xc0\xaf"), false},
    {CASE("\xc1\xbf"), false},
    {CASE("\xe0\x80\x80"), false},
    {CASE("\xe0\x9f\xbf"), false},
    {CASE("\xf0\x80\x80\x80"), false},
    {CASE("\xf0\x8f\xbf\xbf"), false},
    /* surrogates, alone and as a pair */
    {CASE("\xed\xa0\x80"), false},
    {CASE("\xed\xbf\xbf"), false},
    {CASE("\xed\xa0\xbd\xed\xb8\x80"), false},
    /* above U+10FFFF, and bytes that never occur */
    {CASE("\xf4\x90\x80\x80"), false},
    {CASE("\xf5\x80\x80\x80"), false},
    {CASE("\xf7\xbf\xbf\xbf"), false},
    {CASE("\xf8\x88\x80\x80\x80"), false},
    {CASE("\xfc\x84\x80\x80\x80\x80"), false},
    {CASE("\xfe"), false},
    {CASE("\xff"), false},
    /* cut short, at the end and before another character */
    {CASE("\xc2"), false},
    {CASE("\xe1\x80"), false},
    {CASE("\xe1"), false},
    {CASE("\xf1\x80\x80"), false},
    {CASE("\xf1\x80"), false},
    {CASE("\xf1"), false},
    {CASE("\xc2\x41"), false},
    {CASE("\xe1\x80\x41"), false},
    {CASE("\xf1\x80\x80\x41"), false},
    {CASE("\xe1\xc2\x80"), false},
};

static void test_utf8_cases(void)
{
    for (size_t i = 0; i < COUNT(utf8_cases); i++) {
        const text_case *c = &utf8_cases[i];
        bool got = utf8(c->text, c->n);
        CU_ASSERT_EQUAL(got, c->valid);
        if (got != c->valid)
            printf("\n    UTF-8 case %zu ", i);
    }
}

/* RFC 3629, 3. */
static size_t encode(uint8_t out[4], uint32_t point)
{
    static const uint8_t lead[] = {0, 0x00, 0xc0, 0xe0, 0xf0};
    size_t n = point < 0x80 ? 1 : point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--, point >>= 6)
        out[i] = (uint8_t)(0x80 | (point & 0x3f));
    out[0] = (uint8_t)(lead[n] | point);
    return n;
}

static void test_utf8_all_characters(void)
{
    unsigned wrong = 0;
    for (uint32_t point = 0; point <= 0x10ffff + 0x100; point++) {
        uint8_t bytes[4];
        size_t n = encode(bytes, point);
        bool is_character = (point < 0xd800 || point > 0xdfff) && point <= 0x10ffff;
        wrong += pep_utf8_valid(bytes, n) != is_character;
    }
    CU_ASSERT_EQUAL(wrong, 0);
}

/* How many well-formed strings there are must be what counting them by Unicode's table 3-7 gives. */
/* What would make a character complete counts only where it belongs to the text; and no byte leads 255 others. */
static void test_utf8_ends(void)
{
    uint8_t led[256];
    memset(led, 0x80, sizeof led);
    led[0] = 0xff;
    CU_ASSERT_FALSE(utf8(led, sizeof led));
    CU_ASSERT_FALSE(pep_utf8_valid((const uint8_t *)"\xc3\xa9", 1));
    CU_ASSERT_FALSE(pep_utf8_valid((const uint8_t *)"\xe2\x82\xac", 2));
    CU_ASSERT_FALSE(pep_utf8_valid((const uint8_t *)"\xf0\x9f\x98\x80", 3));
}

static void test_utf8_counts(void)
{
    static const uint8_t around[] = {0x7f, 0x80, 0xbf, 0xc0};
    const unsigned two = 0x800 - 0x80;                         /* characters of two bytes */
    const unsigned three = 0x10000 - 0x800 - 0x800;            /* of three, without surrogates */
    const unsigned four_begin = (0x10ffff + 1 - 0x10000) / 64; /* of four, their last byte left out */
    unsigned of_two = 0;
    unsigned of_three = 0;
    unsigned of_four = 0;
    for (unsigned b = 0; b < 0x10000; b++)
        of_two += pep_utf8_valid((const uint8_t[]){(uint8_t)(b >> 8), (uint8_t)b}, 2);
    for (unsigned b = 0xc00000; b < 0x1000000; b++)
        of_three += pep_utf8_valid((const uint8_t[]){(uint8_t)(b >> 16), (uint8_t)(b >> 8), (uint8_t)b}, 3);
    for (unsigned b = 0xe00000; b < 0x1000000; b++)
        for (size_t i = 0; b >= 0xf00000 && i < COUNT(around); i++)
            of_four +=
                pep_utf8_valid((const uint8_t[]){(uint8_t)(b >> 16), (uint8_t)(b >> 8), (uint8_t)b, around[i]}, 4);
    CU_ASSERT_EQUAL(of_two, 128 * 128 + two);
    CU_ASSERT_EQUAL(of_three, two * 128 + three);
    CU_ASSERT_EQUAL(of_four, four_begin * 2);
}

/* ---- ids ---- */

static void test_ids(void)
{
    char longest[PEP_ID_MAX + 1];
    memset(longest, 'x', sizeof longest);
    CU_ASSERT(pep_id_valid(longest, PEP_ID_MAX));
    CU_ASSERT_FALSE(pep_id_valid(longest, PEP_ID_MAX + 1));
    CU_ASSERT_FALSE(pep_id_valid("", 0));
    CU_ASSERT(pep_id_valid(CASE("a")));
    CU_ASSERT(pep_id_valid(CASE("Pump-7._:@north")));
    CU_ASSERT(pep_id_valid(CASE("..")));
    CU_ASSERT_FALSE(pep_id_valid(CASE("a/b")));
}

static void test_id_characters(void)
{
    unsigned allowed = 0;
    for (int c = 0; c < 256; c++)
        allowed += pep_id_valid((const char[]){'a', (char)c}, 2);
    CU_ASSERT_EQUAL(allowed, 26 + 26 + 10 + 5);
    for (const char *p = "azAZ09._:@-"; *p != 0; p++)
        CU_ASSERT(pep_id_valid(p, 1));
    for (const char *p = " /+#$*!%,;<>[]{}`^\\\"'~|=?&()"; *p != 0; p++)
        CU_ASSERT_FALSE(pep_id_valid(p, 1));
}

/* ---- topics and filters ---- */

typedef struct {
    const char *text;
    size_t n;
    bool topic;
    bool filter;
} name_case;

static const name_case name_cases[] = {
    {CASE(""), false, false},         {CASE("a"), true, true},           {CASE("/"), true, true},
    {CASE("//"), true, true},         {CASE("a//b"), true, true},        {CASE("a/b/"), true, true},
    {CASE("with space"), true, true}, {CASE("$SYS/broker"), true, true}, {CASE("\xc3\xa9t\xc3\xa9"), true, true},
    {CASE("a\0b"), false, false},     {CASE("a/\xff"), false, false},    {CASE("a/\xed\xa0\x80"), false, false},
    {CASE("+"), false, true},         {CASE("#"), false, true},          {CASE("+/+"), false, true},
    {CASE("/+"), false, true},        {CASE("+/"), false, true},         {CASE("/#"), false, true},
    {CASE("a/+/b"), false, true},     {CASE("a/+/#"), false, true},      {CASE("a/#"), false, true},
    {CASE("$SYS/#"), false, true},    {CASE("a+"), false, false},        {CASE("+a"), false, false},
    {CASE("a/b+/c"), false, false},   {CASE("a/+b/c"), false, false},    {CASE("++"), false, false},
    {CASE("a#"), false, false},       {CASE("#a"), false, false},        {CASE("##"), false, false},
    {CASE("#/"), false, false},       {CASE("#/a"), false, false},       {CASE("a/#/b"), false, false},
    {CASE("a/#b"), false, false},     {CASE("+#"), false, false},
};

static void test_names(void)
{
    for (size_t i = 0; i < COUNT(name_cases); i++) {
        const name_case *c = &name_cases[i];
        CU_ASSERT_EQUAL(pep_topic_valid(c->text, c->n), c->topic);
        CU_ASSERT_EQUAL(pep_filter_valid(c->text, c->n), c->filter);
        if (pep_topic_valid(c->text, c->n) != c->topic || pep_filter_valid(c->text, c->n) != c->filter)
            printf("\n    \"%s\" ", c->text);
    }
}

static void test_long_names(void)
{
    static char longest[PEP_TOPIC_MAX + 1];
    memset(longest, 'x', sizeof longest);
    CU_ASSERT(pep_topic_valid(longest, PEP_TOPIC_MAX));
    CU_ASSERT(pep_filter_valid(longest, PEP_TOPIC_MAX));
    CU_ASSERT_FALSE(pep_topic_valid(longest, PEP_TOPIC_MAX + 1));
    CU_ASSERT_FALSE(pep_filter_valid(longest, PEP_TOPIC_MAX + 1));
}

typedef struct {
    const char *filter;
    const char *topic;
    bool matches;
} match_case;

static const match_case match_cases[] = {
    {"a", "a", true},
    {"a", "b", false},
    {"a", "A", false},
    {"a", "ab", false},
    {"ab", "a", false},
    {"a/b", "a/b", true},
    {"a/b", "a", false},
    {"a", "a/b", false},
    {"a/b", "a/bc", false},
    {"a/b", "a/b/c", false},
    /* empty levels are levels */
    {"/", "/", true},
    {"/a", "/a", true},
    {"/a", "a", false},
    {"a", "/a", false},
    {"a/", "a", false},
    {"a", "a/", false},
    {"a//b", "a//b", true},
    {"a/b", "a//b", false},
    {"a//b", "a/b", false},
    {"a/+/b", "a//b", true},
    {"/+", "/", true},
    {"+/", "/", true},
    {"+/+", "/", true},
    {"a/+", "a/", true},
    {"+/", "a/", true},
    /* one level each */
    {"+", "a", true},
    {"+", "/a", false},
    {"+", "a/b", false},
    {"+/+", "/a", true},
    {"/+", "/a", true},
    {"a/+", "a", false},
    {"a/+", "a/b", true},
    {"a/+", "a/b/c", false},
    {"a/+/c", "a/b/c", true},
    {"a/+/c", "a/b/d", false},
    {"a/+/c", "a/b/b/c", false},
    {"+/b/+", "a/b/c", true},
    {"+/b/+", "a/c/c", false},
    /* any number of levels, the parent's own among them */
    {"#", "a", true},
    {"#", "a/b/c", true},
    {"#", "/", true},
    {"a/#", "a", true},
    {"a/#", "a/", true},
    {"a/#", "a/b", true},
    {"a/#", "a/b/c", true},
    {"a/#", "ab", false},
    {"a/#", "b/a", false},
    {"a/b/#", "a", false},
    {"a/+/#", "a", false},
    {"a/+/#", "a/b", true},
    {"a/+/#", "a/b/c/d", true},
    {"+/#", "a", true},
    {"/#", "/", true},
    {"/#", "/a", true},
    {"/#", "a", false},
    {"sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true},
    /* a leading wildcard does not see what begins with $ */
    {"#", "$SYS", false},
    {"#", "$SYS/a", false},
    {"+", "$SYS", false},
    {"+/a", "$SYS/a", false},
    {"/#", "$SYS/a", false},
    {"$SYS/#", "$SYS/a", true},
    {"$SYS/#", "$SYS", true},
    {"$SYS/+", "$SYS/a", true},
    {"$SYS/+/b", "$SYS/a/b", true},
    {"$SYS", "$SYS", true},
    {"+/+", "a/$b", true},
    {"#", "a/$SYS", true},
    {"+/#", "/$SYS", true},
};

/* Without a final NUL. */
static bool matches(const char *filter, const char *topic)
{
    size_t filter_n = strlen(filter);
    size_t topic_n = strlen(topic);
    char *f = exact_copy(filter, filter_n);
    char *t = exact_copy(topic, topic_n);
    CU_ASSERT(pep_filter_valid(f, filter_n) && pep_topic_valid(t, topic_n));
    bool got = pep_filter_matches(f, filter_n, t, topic_n);
    free(f);
    free(t);
    return got;
}

static void test_matches(void)
{
    for (size_t i = 0; i < COUNT(match_cases); i++) {
        const match_case *c = &match_cases[i];
        bool got = matches(c->filter, c->topic);
        CU_ASSERT_EQUAL(got, c->matches);
        if (got != c->matches)
            printf("\n    \"%s\" and \"%s\" ", c->filter, c->topic);
    }
}

/* ---- bytes as text, reasons ---- */

static void test_bytes_from_text(void)
{
    static const struct {
        const char *text;
        bool good;
    } cases[] = {{"AAEC", true},     {"_-__", true},    {"AAE", false},  {"AAECA", false}, {"AAECAA", false},
                 {"+-__", false},    {"/-__", false},   {"AAE=", false}, {"A EC", false},  {"", false},
                 {"\xc1_-_", false}, {"AAEC\n", false}, {" AAEC", false}};
    for (size_t i = 0; i < COUNT(cases); i++) {
        uint8_t out[3];
        CU_ASSERT_EQUAL(bytes_from_text(out, sizeof out, cases[i].text), cases[i].good);
    }
    uint8_t two[2];
    CU_ASSERT_TRUE(bytes_from_text(two, sizeof two, "AQI"));
    CU_ASSERT_EQUAL(two[1], 2);
    CU_ASSERT_FALSE(bytes_from_text(two, sizeof two, "AQJ")); /* bits that mean nothing */
}

/* Names and numbers are stable: these are written down here once more. */
static void test_reasons(void)
{
    static const struct {
        int number;
        const char *name;
    } names[] = {{0, "ok"},
                 {1, "reserved-topic"},
                 {22, "rate-limited"},
                 {23, "revoked-signer"},
                 {24, "rotated-signer"},
                 {25, "no-room"},
                 {26, "record-overflow"},
                 {27, "unknown"},
                 {40, "cannot-open"},
                 {70, "seq-mixed"},
                 {79, "unknown"},
                 {80, "bad-command"},
                 {81, "not-authorized"},
                 {82, "wrong-audience"},
                 {83, "repeated-command"},
                 {84, "unknown-id"},
                 {85, "id-taken"},
                 {86, "kid-taken"},
                 {87, "wrong-id"},
                 {88, "wrong-version"},
                 {89, "version-went-back"},
                 {90, "broken-chain"},
                 {91, "unproven-key"},
                 {92, "not-certified"},
                 {93, "bad-token"},
                 {94, "closed"},
                 {95, "try-later"},
                 {96, "store-failed"},
                 {97, "too-many"},
                 {98, "needs-history"},
                 {99, "unknown"}};
    for (size_t i = 0; i < COUNT(names); i++)
        CU_ASSERT_STRING_EQUAL(pep_reason_name((pep_reason)names[i].number), names[i].name);
}

static void test_reasons_differ(void)
{
    for (int i = 0; i < 99; i++) {
        const char *name = pep_reason_name((pep_reason)i);
        const char *text = pep_reason_text((pep_reason)i);
        CU_ASSERT(text[0] != 0 && text[strlen(text) - 1] != '.');
        for (int k = 0; k < i && strcmp(name, "unknown") != 0; k++) {
            CU_ASSERT_STRING_NOT_EQUAL(name, pep_reason_name((pep_reason)k));
            CU_ASSERT_STRING_NOT_EQUAL(text, pep_reason_text((pep_reason)k));
        }
    }
}

static const unit_test tests[] = {
    {"UTF-8: each kind of ill-formed sequence", test_utf8_cases},
    {"UTF-8: every character", test_utf8_all_characters},
    {"UTF-8: strings of two to four bytes, counted", test_utf8_counts},
    {"UTF-8: ends", test_utf8_ends},
    {"ids: lengths", test_ids},
    {"ids: characters", test_id_characters},
    {"topics and filters", test_names},
    {"topics and filters: lengths", test_long_names},
    {"filters match topics", test_matches},
    {"bytes as text", test_bytes_from_text},
    {"reasons: names", test_reasons},
    {"reasons: no two are alike", test_reasons_differ},
};

UNIT_MAIN("text", tests)
