#include "policy/units.h"

#include <stddef.h>
#include <string.h>

typedef struct {
    const char *name;
    uint64_t factor;
} unit;

static const unit durations[] = {
    {"ms", 1000}, {"s", 1000000}, {"m", 60000000}, {"h", 3600000000}, {"d", 86400000000}, {NULL, 0},
};

static const unit sizes[] = {{"", 1}, {"k", 1024}, {"m", 1048576}, {NULL, 0}};

static uint64_t multiply(uint64_t a, uint64_t b)
{
    return b != 0 && a > UINT64_MAX / b ? UINT64_MAX : a * b;
}

static uint64_t add(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

static bool read_number(uint64_t *out, const char *text, const unit *units)
{
    uint64_t number = 0;
    const char *p = text;
    for (; *p >= '0' && *p <= '9'; p++)
        number = add(multiply(number, 10), (uint64_t)(*p - '0'));
    if (p == text)
        return false;
    for (const unit *u = units; u->name != NULL; u++) {
        if (strcmp(p, u->name) == 0) {
            *out = multiply(number, u->factor);
            return true;
        }
    }
    return false;
}

bool units_duration(uint64_t *us, const char *text)
{
    return read_number(us, text, durations);
}

bool units_size(uint64_t *bytes, const char *text)
{
    return read_number(bytes, text, sizes);
}
