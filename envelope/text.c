/* Ids, topics, topic filters and the UTF-8 they are made of. */
#include "envelope/text.h"

#include <sodium.h>
#include <string.h>

#include "pep/base.h"

/* Continuation bytes after a lead byte, and the range of the first of them (RFC 3629, 4); 0xff: no lead byte. */
static unsigned continuation(uint8_t lead, uint8_t *low, uint8_t *high)
{
    *low = 0x80;
    *high = 0xbf;
    if (lead >= 0xc2 && lead <= 0xdf)
        return 1;
    if (lead >= 0xe0 && lead <= 0xef) {
        if (lead == 0xe0)
            *low = 0xa0;
        if (lead == 0xed)
            *high = 0x9f;
        return 2;
    }
    if (lead >= 0xf0 && lead <= 0xf4) {
        if (lead == 0xf0)
            *low = 0x90;
        if (lead == 0xf4)
            *high = 0x8f;
        return 3;
    }
    return 0xff;
}

bool pep_utf8_valid(const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n;) {
        if (p[i] < 0x80) {
            i++;
            continue;
        }
        uint8_t low;
        uint8_t high;
        unsigned more = continuation(p[i], &low, &high);
        if (more == 0xff || n - i <= more || p[i + 1] < low || p[i + 1] > high)
            return false;
        for (unsigned k = 2; k <= more; k++)
            if ((p[i + k] & 0xc0) != 0x80)
                return false;
        i += more + 1;
    }
    return true;
}

bool pep_id_valid(const char *id, size_t n)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:@-";
    if (n < 1 || n > PEP_ID_MAX)
        return false;
    for (size_t i = 0; i < n; i++)
        if (memchr(allowed, id[i], sizeof allowed - 1) == NULL)
            return false;
    return true;
}

/* What topics and filters have in common (MQTT 5.0, 4.7.3). */
static bool topic_text(const char *text, size_t n)
{
    return n >= 1 && n <= PEP_TOPIC_MAX && memchr(text, 0, n) == NULL && pep_utf8_valid((const uint8_t *)text, n);
}

bool pep_topic_valid(const char *topic, size_t n)
{
    return topic_text(topic, n) && memchr(topic, '+', n) == NULL && memchr(topic, '#', n) == NULL;
}

bool pep_filter_valid(const char *filter, size_t n)
{
    if (!topic_text(filter, n))
        return false;
    for (size_t i = 0; i < n; i++) {
        if (filter[i] != '+' && filter[i] != '#')
            continue;
        bool begins = i == 0 || filter[i - 1] == '/';
        bool last = i + 1 == n;
        bool ends = last || filter[i + 1] == '/';
        if (!begins || !ends || (filter[i] == '#' && !last))
            return false;
    }
    return true;
}

static size_t level_length(const char *p, size_t n)
{
    const char *slash = memchr(p, '/', n);
    return slash == NULL ? n : (size_t)(slash - p);
}

bool pep_filter_matches(const char *filter, size_t filter_n, const char *topic, size_t topic_n)
{
    if (topic_n > 0 && topic[0] == '$' && filter_n > 0 && filter[0] != '$')
        return false;
    for (;;) {
        size_t f = level_length(filter, filter_n);
        size_t t = level_length(topic, topic_n);
        if (f == 1 && filter[0] == '#')
            return true;
        if (!(f == 1 && filter[0] == '+') && (f != t || memcmp(filter, topic, f) != 0))
            return false;
        if (t == topic_n) /* the topic's last level: the filter must end here, or go on with "/#" alone */
            return f == filter_n || (filter_n - f == 2 && filter[f + 1] == '#');
        if (f == filter_n)
            return false;
        filter += f + 1;
        filter_n -= f + 1;
        topic += t + 1;
        topic_n -= t + 1;
    }
}

/* libsodium's decoder by itself takes any byte above 0x7f for a digit. */
bool bytes_from_text(uint8_t *out, size_t n, const char *text)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    size_t text_n = strlen(text);
    size_t got = 0;
    return strspn(text, digits) == text_n &&
           sodium_base642bin(out, n, text, text_n, NULL, &got, NULL, sodium_base64_VARIANT_URLSAFE_NO_PADDING) == 0 &&
           got == n;
}
