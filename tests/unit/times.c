/* Times as people write them: RFC 3339, dates, and durations back from now. */
#include "client/times.h"

#include "unit.h"

#include <inttypes.h>

#include "pep/base.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define NOW          UINT64_C(1795608000000001) /* 2026-11-25T12:00:00.000001Z */
#define NOON         UINT64_C(1795608000000000)

typedef struct {
    const char *text;
    uint64_t us;
} right_case;

static const right_case right[] = {
    {"2026-11-25T12:00:00Z", NOON},
    {"2026-11-25t12:00:00z", NOON},
    {"2026-11-25T12:00:00.1Z", NOON + 100000},
    {"2026-11-25T12:00:00.000001Z", NOON + 1},
    {"2026-11-25T12:00:00.0000019Z", NOON + 1},
    {"2026-11-25T12:00:00.12345678901234567890123456789Z", NOON + 123456},
    {"2026-11-25T13:00:00+01:00", NOON},
    {"2026-11-25T06:30:00-05:30", NOON},
    {"2026-11-25T12:00:00-00:00", NOON},
    {"2026-11-26T11:59:00+23:59", NOON},
    {"2026-11-25T11:59:60Z", NOON}, /* a leap second */
    {"2026-11-25", UINT64_C(1795564800000000)},
    {"1970-01-01", 0},
    {"1970-01-01T00:00:00Z", 0},
    {"1969-12-31T23:00:00-01:00", 0},
    {"1970-01-01T00:00:00.000001Z", 1},
    {"2000-02-29", UINT64_C(951782400000000)},
    {"2024-02-29T23:59:59.999999Z", UINT64_C(1709251199999999)},
    {"2255-06-05T23:47:34.740991Z", PEP_SEQ_MAX},
    {"0s", NOW},
    {"90s", NOW - UINT64_C(90000000)},
    {"30m", NOW - UINT64_C(1800000000)},
    {"1h", NOW - UINT64_C(3600000000)},
    {"007d", NOW - UINT64_C(604800000000)},
    {"29926800m", 1}, /* all the way */
};

static void test_right(void)
{
    for (size_t i = 0; i < COUNT(right); i++) {
        uint64_t us = 7;
        bool taken = time_from_text(&us, right[i].text, NOW);
        CU_ASSERT_TRUE(taken);
        CU_ASSERT_EQUAL(us, right[i].us);
        if (!taken || us != right[i].us)
            printf("\n    %s: %d, %" PRIu64 " ", right[i].text, taken, us);
    }
}

static const char *const wrong[] = {
    "",
    " ",
    "now",
    "2026",
    "2026-11",
    "2026-11-25T",
    "2026-11-25T12:00:00",
    "2026-11-25T12:00Z",
    "2026-11-25 12:00:00Z",
    "2026-11-25T12:00:00Z ",
    " 2026-11-25T12:00:00Z",
    "2026-11-25T12:00:00.Z",
    "2026-11-25T12:00:00,5Z",
    "2026-11-25T12:00:00.5",
    "2026-11-25T12:00:00+1:00",
    "2026-11-25T12:00:00+0100",
    "2026-11-25T12:00:00+24:00",
    "2026-11-25T12:00:00+01:60",
    "2026-11-25T12:00:00+",
    "2026-11-25T24:00:00Z",
    "2026-11-25T12:60:00Z",
    "2026-11-25T12:00:61Z",
    "2026-11-25T-1:00:00Z",
    "2026-11-25T12:00:0xZ",
    "2026-00-25",
    "2026-13-25",
    "2026-11-00",
    "2026-11-31",
    "2026-02-29",
    "1900-02-29",
    "2026-1-25",
    "26-11-25",
    "+2026-11-25",
    "20260-11-25",
    "2026/11/25",
    "1969-12-31",
    "1969-12-31T23:59:59.999999Z",
    "0000-01-01",
    "1970-01-01T00:00:00+00:01",
    "2255-06-05T23:47:34.740992Z", /* 2^53 */
    "9999-12-31",
    "s",
    "5",
    "-5s",
    "+5s",
    "5 s",
    "5S",
    "5w",
    "5ms",
    "5m ",
    "1.5h",
    "0x5s",
    "29926801m", /* before 1970 */
    "1795608000s",
    "999999999d", /* more microseconds than there are in 64 bits */
    "854035554d", /* likewise, and what is left of them would be a time */
    "9999999999s",
    "99999999999999999999999999d",
};

static void test_wrong(void)
{
    for (size_t i = 0; i < COUNT(wrong); i++) {
        uint64_t us = 7;
        bool taken = time_from_text(&us, wrong[i], NOW);
        CU_ASSERT_FALSE(taken);
        if (taken)
            printf("\n    '%s' was taken: %" PRIu64 " ", wrong[i], us);
    }
}

/* Every beginning of a time is none, but where it is a date. */
static void test_cut(void)
{
    static const char whole[] = "2026-11-25T12:00:00.25+01:30";
    for (size_t n = 0; n + 1 < sizeof(whole); n++) {
        char text[sizeof(whole)];
        uint64_t us;
        (void)snprintf(text, sizeof(text), "%.*s", (int)n, whole);
        CU_ASSERT_EQUAL(time_from_text(&us, text, NOW), n == 10);
    }
}

static const unit_test tests[] = {
    {"what is a time", test_right},
    {"what is none", test_wrong},
    {"a time that is cut short", test_cut},
};

UNIT_MAIN("times", tests)
