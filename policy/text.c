#include "policy/text.h"

#include <stdio.h>
#include <string.h>

#define PATH_SHOWN 200 /* bytes of a path in a message: its end tells more than its beginning */
#define ID_MAX     64

/* Bytes of the UTF-8 sequence at `p`, 0 where there is none: the table of RFC 3629, 4. */
static size_t utf8_length(const char *text)
{
    const unsigned char *p = (const unsigned char *)text;
    unsigned char low = 0x80;
    unsigned char high = 0xBF;
    size_t n = 0;
    if (p[0] < 0x80)
        return p[0] != 0;
    if (p[0] >= 0xC2 && p[0] <= 0xDF)
        n = 2;
    else if (p[0] >= 0xE0 && p[0] <= 0xEF)
        n = 3;
    else if (p[0] >= 0xF0 && p[0] <= 0xF4)
        n = 4;
    else
        return 0;
    if (p[0] == 0xE0)
        low = 0xA0; /* else it could be shorter */
    if (p[0] == 0xED)
        high = 0x9F; /* surrogates */
    if (p[0] == 0xF0)
        low = 0x90;
    if (p[0] == 0xF4)
        high = 0x8F; /* beyond U+10FFFF */
    if (p[1] < low || p[1] > high)
        return 0;
    for (size_t i = 2; i < n; i++)
        if (p[i] < 0x80 || p[i] > 0xBF)
            return 0;
    return n;
}

bool text_is_utf8(const char *text)
{
    while (*text != '\0') {
        size_t n = utf8_length(text);
        if (n == 0)
            return false;
        text += n;
    }
    return true;
}

bool text_is_id(const char *text)
{
    size_t n = strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:@-");
    return n >= 1 && n <= ID_MAX && text[n] == '\0';
}

static bool first_level_is(const char *filter, const char *level)
{
    size_t n = strlen(level);
    return strncmp(filter, level, n) == 0 && (filter[n] == '/' || filter[n] == '\0');
}

static const char *reserved_fault(const char *filter)
{
    if (first_level_is(filter, "$PEP"))
        return "is under $PEP/, where only the broker's plugin writes; leave this rule out";
    if (first_level_is(filter, "$share"))
        return "is a shared subscription, and nobody publishes there; write the filter that follows the share's name";
    return NULL;
}

/* MQTT 5.0, 4.7.1: `+` fills its level, `#` fills the last one. */
static const char *level_fault(const char *level, size_t n, bool last)
{
    if (n > 1 && memchr(level, '+', n) != NULL)
        return "has a + beside other characters; + stands alone in its level, as in a/+/b";
    if (n > 1 && memchr(level, '#', n) != NULL)
        return "has a # beside other characters; # stands alone in the last level, as in a/b/#";
    if (n == 1 && level[0] == '#' && !last)
        return "has a # before its end; # stands alone in the last level, as in a/b/#";
    return NULL;
}

static const char *levels_fault(const char *filter)
{
    unsigned count = 0;
    for (const char *level = filter; level != NULL;) {
        size_t n = strcspn(level, "/");
        bool last = level[n] == '\0';
        const char *fault = level_fault(level, n, last);
        if (fault != NULL)
            return fault;
        if (++count > POLICY_LEVELS_MAX)
            return "has more than 200 levels; the broker takes no topic that deep";
        level = last ? NULL : level + n + 1;
    }
    return NULL;
}

const char *text_filter_fault(const char *filter)
{
    if (filter[0] == '\0')
        return "is empty; write a topic filter, as a/+/b or a/b/#";
    if (strlen(filter) > POLICY_FILTER_MAX)
        return "is longer than 65535 bytes, which is MQTT's limit; shorten it";
    if (!text_is_utf8(filter))
        return "is not UTF-8, as every MQTT topic is; write it in UTF-8";
    const char *fault = reserved_fault(filter);
    return fault != NULL ? fault : levels_fault(filter);
}

int text_plus_level(const char *filter, unsigned nth)
{
    int level = 0;
    for (; *filter != '\0'; filter++) {
        if (*filter == '+' && --nth == 0)
            return level;
        if (*filter == '/')
            level++;
    }
    return -1;
}

unsigned text_plus_count(const char *filter)
{
    unsigned count = 0;
    for (; *filter != '\0'; filter++)
        count += *filter == '+';
    return count;
}

/* Values from the file stand in messages: no control character and no half of a character may reach a log. */
static void make_printable(char *text)
{
    while (*text != '\0') {
        size_t n = utf8_length(text);
        if (n == 0 || (unsigned char)*text < 0x20 || *text == 0x7F) {
            *text = '?';
            n = 1;
        }
        text += n;
    }
}

bool text_verror(policy_error *error, const char *path, unsigned line, const char *format, va_list values)
{
    size_t path_n = strlen(path);
    bool cut = path_n > PATH_SHOWN;
    int n =
        snprintf(error->text, sizeof(error->text), "%s%s:", cut ? "..." : "", cut ? path + path_n - PATH_SHOWN : path);
    if (line != 0)
        n += snprintf(error->text + n, sizeof(error->text) - (size_t)n, "%u:", line);
    n += snprintf(error->text + n, sizeof(error->text) - (size_t)n, " ");
    vsnprintf(error->text + n, sizeof(error->text) - (size_t)n, format, values);
    make_printable(error->text);
    return false;
}

bool text_error(policy_error *error, const char *path, unsigned line, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    text_verror(error, path, line, format, values);
    va_end(values);
    return false;
}
