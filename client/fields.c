#include "client/fields.h"

#include <inttypes.h>
#include <string.h>

#include "client/print.h"
#include "envelope/text.h"

/* ---- reading: RFC 8259 ---- */

typedef struct {
    const char *at;
    uint8_t *to; /* where the next byte of a text goes: never more than there are in the JSON */
} scan;

static void skip_space(scan *s)
{
    s->at += strspn(s->at, " \t\r\n");
}

static bool take(scan *s, char c)
{
    skip_space(s);
    if (*s->at != c)
        return false;
    s->at++;
    return true;
}

static bool take_word(scan *s, const char *word)
{
    size_t n = strlen(word);
    if (strncmp(s->at, word, n) != 0)
        return false;
    s->at += n;
    return true;
}

/* Four hexadecimal digits: a UTF-16 code unit, or -1. */
static int32_t take_unit(scan *s)
{
    int32_t unit = 0;
    for (int i = 0; i < 4; i++, s->at++) {
        static const char digits[] = "0123456789abcdef0123456789ABCDEF";
        const char *digit = *s->at != '\0' ? strchr(digits, *s->at) : NULL;
        if (digit == NULL)
            return -1;
        unit = 16 * unit + (int32_t)((digit - digits) % 16);
    }
    return unit;
}

/* Behind \u: a code point, or -1. A surrogate must be one of a pair. */
static int32_t take_point(scan *s)
{
    int32_t unit = take_unit(s);
    if (unit < 0xd800 || unit > 0xdfff)
        return unit;
    if (unit > 0xdbff || !take_word(s, "\\u"))
        return -1;
    int32_t low = take_unit(s);
    return low >= 0xdc00 && low <= 0xdfff ? 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00) : -1;
}

/* RFC 3629, 3 */
static void put_point(scan *s, uint32_t point)
{
    static const uint8_t lead[] = {0, 0x00, 0xc0, 0xe0, 0xf0};
    size_t n = point < 0x80 ? 1 : point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--, point >>= 6)
        s->to[i] = (uint8_t)(0x80 | (point & 0x3f));
    s->to[0] = (uint8_t)(lead[n] | point);
    s->to += n;
}

static bool take_escape(scan *s)
{
    static const char names[] = "\"\\/bfnrt";
    static const char meant[] = "\"\\/\b\f\n\r\t";
    const char *name = *s->at != '\0' ? strchr(names, *s->at) : NULL;
    if (name != NULL) {
        s->at++;
        *s->to++ = (uint8_t)meant[name - names];
        return true;
    }
    int32_t point = take_word(s, "u") ? take_point(s) : -1;
    if (point >= 0)
        put_point(s, (uint32_t)point);
    return point >= 0;
}

static bool take_text(pep_view *out, scan *s)
{
    const uint8_t *begin = s->to;
    if (!take(s, '"'))
        return false;
    while (*s->at != '"') {
        if ((uint8_t)*s->at < 0x20)
            return false;
        if (*s->at != '\\')
            *s->to++ = (uint8_t)*s->at++;
        else if (s->at++, !take_escape(s))
            return false;
    }
    s->at++;
    *out = (pep_view){begin, (size_t)(s->to - begin)};
    return pep_utf8_valid(begin, out->n);
}

static bool take_integer(int64_t *out, scan *s)
{
    bool negative = take_word(s, "-");
    size_t digits = strspn(s->at, "0123456789");
    uint64_t value = 0;
    uint64_t max = (uint64_t)INT64_MAX + (negative ? 1 : 0);
    if (digits == 0 || (digits > 1 && *s->at == '0'))
        return false;
    for (; digits > 0; digits--, s->at++) {
        uint64_t digit = (uint64_t)(*s->at - '0');
        if (value > (max - digit) / 10)
            return false;
        value = 10 * value + digit;
    }
    *out = negative ? (int64_t)(0 - value) : (int64_t)value;
    return true;
}

static bool take_value(pep_fact *out, scan *s)
{
    skip_space(s);
    out->type = PEP_FACT_BOOL;
    out->integer = take_word(s, "true") ? 1 : 0;
    if (out->integer == 1 || take_word(s, "false"))
        return true;
    out->type = *s->at == '"' ? PEP_FACT_TEXT : PEP_FACT_INT;
    return out->type == PEP_FACT_TEXT ? take_text(&out->text, s) : take_integer(&out->integer, s);
}

static bool is_known(const fields *f, pep_view name)
{
    for (size_t i = 0; i < f->n; i++)
        if (f->at[i].key.n == name.n && memcmp(f->at[i].key.p, name.p, name.n) == 0)
            return true;
    return false;
}

static bool take_member(fields *f, scan *s)
{
    pep_fact fact = {0};
    if (f->n == PEP_FACTS_COUNT_MAX || !take_text(&fact.key, s) || is_known(f, fact.key))
        return false;
    if (!take(s, ':') || !take_value(&fact, s))
        return false;
    f->at[f->n++] = fact;
    return true;
}

bool fields_parse(fields *out, const char *json)
{
    scan s = {.at = json, .to = out->text};
    out->n = 0;
    if (strlen(json) > FIELDS_JSON_MAX || !take(&s, '{'))
        return false;
    bool more = !take(&s, '}');
    while (more) {
        if (!take_member(out, &s))
            return false;
        more = take(&s, ',');
        if (!more && !take(&s, '}'))
            return false;
    }
    skip_space(&s);
    return *s.at == '\0';
}

/* ---- writing ---- */

/* Of those that must not be printed as they are: all of them below U+10000. */
static unsigned point_of(const uint8_t *p, size_t n)
{
    unsigned point = n == 1 ? p[0] : p[0] & (0xffU >> (n + 1));
    for (size_t i = 1; i < n; i++)
        point = point << 6 | (p[i] & 0x3fU);
    return point;
}

void put_quoted(FILE *out, pep_view text)
{
    putc('"', out);
    for (size_t i = 0; i < text.n;) {
        size_t n = unprintable(text.p + i, text.n - i, true);
        if (n > 0)
            fprintf(out, "\\u%04x", point_of(text.p + i, n));
        else if (text.p[i] == '"' || text.p[i] == '\\')
            fprintf(out, "\\%c", text.p[i]);
        else
            putc(text.p[i], out);
        i += n > 0 ? n : 1;
    }
    putc('"', out);
}

static bool is_number(pep_view text)
{
    int64_t value;
    char digits[24];
    if (text.n == 0 || text.n >= sizeof(digits))
        return false;
    (void)snprintf(digits, sizeof(digits), "%.*s", (int)text.n, (const char *)text.p);
    scan s = {.at = digits};
    return take_integer(&value, &s) && *s.at == '\0';
}

static bool is(pep_view text, const char *word)
{
    return text.n == strlen(word) && memcmp(text.p, word, text.n) == 0;
}

void put_word(FILE *out, pep_view text)
{
    bool plain = text.n > 0 && !is_number(text) && !is(text, "true") && !is(text, "false") && !is(text, "-");
    for (size_t i = 0; i < text.n; i++)
        plain = plain && unprintable(text.p + i, text.n - i, true) == 0 && strchr(" =\"\\", text.p[i]) == NULL;
    if (plain)
        (void)fwrite(text.p, 1, text.n, out);
    else
        put_quoted(out, text);
}

static void put_scalar(FILE *out, const pep_fact *fact)
{
    if (fact->type == PEP_FACT_INT)
        fprintf(out, "%" PRId64, fact->integer);
    else
        fputs(fact->integer != 0 ? "true" : "false", out);
}

void fields_put_json(FILE *out, const fields *f)
{
    putc('{', out);
    for (size_t i = 0; i < f->n; i++) {
        if (i > 0)
            putc(',', out);
        put_quoted(out, f->at[i].key);
        putc(':', out);
        if (f->at[i].type == PEP_FACT_TEXT)
            put_quoted(out, f->at[i].text);
        else
            put_scalar(out, &f->at[i]);
    }
    putc('}', out);
}

void fields_put_words(FILE *out, const fields *f)
{
    for (size_t i = 0; i < f->n; i++) {
        if (i > 0)
            putc(' ', out);
        put_word(out, f->at[i].key);
        putc('=', out);
        if (f->at[i].type == PEP_FACT_TEXT)
            put_word(out, f->at[i].text);
        else
            put_scalar(out, &f->at[i]);
    }
}
