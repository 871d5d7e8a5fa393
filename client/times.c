#include "client/times.h"

#include <stddef.h>
#include <string.h>
#include <time.h>

#include "pep/base.h"

#define US_PER_S ((int64_t)1000000)

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Exactly `digits` of them, and moves on behind. -1: there are not so many. */
static int take_number(const char **at, int digits)
{
    int value = 0;
    for (; digits > 0; digits--, (*at)++) {
        if (!is_digit(**at))
            return -1;
        value = 10 * value + (**at - '0');
    }
    return value;
}

static bool take_char(const char **at, const char *allowed)
{
    if (**at == '\0' || strchr(allowed, **at) == NULL)
        return false;
    (*at)++;
    return true;
}

static int days_in(int year, int month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return days[month - 1] + (month == 2 && leap ? 1 : 0);
}

/* full-date */
static bool take_date(struct tm *tm, const char **at)
{
    int year = take_number(at, 4);
    int month = year >= 0 && take_char(at, "-") ? take_number(at, 2) : -1;
    int day = month >= 1 && month <= 12 && take_char(at, "-") ? take_number(at, 2) : -1;
    if (day < 1 || day > days_in(year, month))
        return false;
    tm->tm_year = year - 1900;
    tm->tm_mon = month - 1;
    tm->tm_mday = day;
    return true;
}

/* partial-time, without its fraction. A leap second, 60, is the moment behind it, as timegm makes of it. */
static bool take_clock(struct tm *tm, const char **at)
{
    tm->tm_hour = take_number(at, 2);
    tm->tm_min = tm->tm_hour >= 0 && take_char(at, ":") ? take_number(at, 2) : -1;
    tm->tm_sec = tm->tm_min >= 0 && take_char(at, ":") ? take_number(at, 2) : -1;
    return tm->tm_hour <= 23 && tm->tm_min <= 59 && tm->tm_sec >= 0 && tm->tm_sec <= 60;
}

/* time-secfrac: what is finer than a microsecond is left out. */
static bool take_fraction(int64_t *us, const char **at)
{
    *us = 0;
    if (!take_char(at, "."))
        return true;
    if (!is_digit(**at))
        return false;
    for (int64_t unit = US_PER_S / 10; is_digit(**at); (*at)++, unit /= 10)
        *us += unit * (**at - '0');
    return true;
}

/* time-offset, in seconds */
static bool take_offset(int64_t *s, const char **at)
{
    *s = 0;
    if (take_char(at, "Zz"))
        return true;
    bool west = **at == '-';
    if (!take_char(at, "+-"))
        return false;
    int hours = take_number(at, 2);
    int minutes = hours >= 0 && take_char(at, ":") ? take_number(at, 2) : -1;
    *s = (west ? -1 : 1) * (hours * 3600L + minutes * 60L);
    return hours <= 23 && minutes >= 0 && minutes <= 59;
}

static bool within(uint64_t *us, int64_t value)
{
    *us = value >= 0 ? (uint64_t)value : 0;
    return value >= 0 && *us <= PEP_SEQ_MAX;
}

static bool from_calendar(uint64_t *us, const char *text)
{
    struct tm tm = {0};
    int64_t fraction = 0;
    int64_t offset = 0;
    if (!take_date(&tm, &text))
        return false;
    if (*text != '\0' && (!take_char(&text, "Tt") || !take_clock(&tm, &text) || !take_fraction(&fraction, &text) ||
                          !take_offset(&offset, &text)))
        return false;
    return *text == '\0' && within(us, ((int64_t)timegm(&tm) - offset) * US_PER_S + fraction);
}

static int64_t seconds_of(char unit)
{
    switch (unit) {
    case 's':
        return 1;
    case 'm':
        return 60;
    case 'h':
        return 3600;
    case 'd':
        return 86400;
    default:
        return 0;
    }
}

static bool from_duration(uint64_t *us, const char *text, uint64_t now_us)
{
    size_t digits = strspn(text, "0123456789");
    int64_t unit = seconds_of(text[digits]);
    if (digits == 0 || digits > 9 || unit == 0 || text[digits + 1] != '\0')
        return false;
    int64_t s = take_number(&text, (int)digits) * unit;
    return s <= (int64_t)now_us / US_PER_S && within(us, (int64_t)now_us - s * US_PER_S);
}

bool time_from_text(uint64_t *us, const char *text, uint64_t now_us)
{
    *us = 0;
    return from_duration(us, text, now_us) || from_calendar(us, text);
}
