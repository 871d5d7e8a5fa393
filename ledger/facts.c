/* Facts as JSON. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ledger/internal.h"

static bool reserve(text_buffer *t, size_t more)
{
    if (t->failed || more <= t->cap - t->n)
        return !t->failed;
    size_t cap = (t->n + more) * 2;
    char *p = realloc(t->p, cap);
    t->failed = p == NULL;
    if (p != NULL) {
        t->p = p;
        t->cap = cap;
    }
    return p != NULL;
}

void text_add(text_buffer *t, const char *p, size_t n)
{
    if (!reserve(t, n + 1))
        return;
    memcpy(t->p + t->n, p, n);
    t->n += n;
    t->p[t->n] = '\0';
}

void text_format(text_buffer *t, const char *format, ...)
{
    char text[64];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    t->failed = t->failed || n < 0 || (size_t)n >= sizeof text;
    if (!t->failed)
        text_add(t, text, (size_t)n);
}

static void add_escaped(text_buffer *t, unsigned char c)
{
    if (c == '"' || c == '\\')
        text_format(t, "\\%c", c);
    else if (c == 0)
        text_add(t, "\xef\xbf\xbd", 3);
    else
        text_format(t, "\\u%04x", c);
}

void text_add_json(text_buffer *t, const char *p, size_t n)
{
    size_t begun = 0;
    text_add(t, "\"", 1);
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)p[i];
        if (c >= 0x20 && c != '"' && c != '\\')
            continue;
        text_add(t, p + begun, i - begun);
        add_escaped(t, c);
        begun = i + 1;
    }
    text_add(t, p + begun, n - begun);
    text_add(t, "\"", 1);
}

static void add_view(text_buffer *t, pep_view v)
{
    text_add_json(t, v.n == 0 ? "" : (const char *)v.p, v.n);
}

void text_add_facts(text_buffer *t, pep_view facts)
{
    pep_fact fact;
    char before = '{';
    for (size_t at = 0; pep_facts_next(&fact, &at, facts); before = ',') {
        text_add(t, &before, 1);
        add_view(t, fact.key);
        text_add(t, ":", 1);
        if (fact.type == PEP_FACT_TEXT)
            add_view(t, fact.text);
        else if (fact.type == PEP_FACT_INT)
            text_format(t, "%" PRId64, fact.integer);
        else
            text_format(t, "%s", fact.integer != 0 ? "true" : "false");
    }
    text_add(t, before == '{' ? "{}" : "}", before == '{' ? 2 : 1);
}

/* ---- reading them again ---- */

/* Behind the text, number or word that begins there. What is no JSON ends somewhere, too. */
static size_t token_end(pep_view json, size_t at)
{
    if (at >= json.n)
        return json.n;
    bool text = json.p[at] == '"';
    for (at += text; at < json.n; at++) {
        uint8_t c = json.p[at];
        if (text ? c == '"' : c == ',' || c == '}')
            break;
        at += text && c == '\\';
    }
    at += text;
    return at < json.n ? at : json.n;
}

bool text_find_fact(pep_view *value, pep_view object, pep_view name)
{
    for (size_t at = 1; at < object.n;) { /* behind { or , */
        size_t colon = token_end(object, at);
        size_t end = token_end(object, colon + 1);
        if (end == object.n)
            return false;
        if (colon - at == name.n && memcmp(object.p + at, name.p, name.n) == 0) {
            *value = (pep_view){object.p + colon + 1, end - colon - 1};
            return true;
        }
        at = end + 1;
    }
    return false;
}

bool text_read_number(int64_t *number, pep_view value)
{
    bool minus = value.n > 0 && value.p[0] == '-';
    uint64_t n = 0;
    if (value.n == minus || value.n > 20)
        return false;
    for (size_t i = minus; i < value.n; i++) {
        if (value.p[i] < '0' || value.p[i] > '9' || n > (uint64_t)INT64_MAX / 10)
            return false;
        n = n * 10 + (value.p[i] - '0');
    }
    if (n > (uint64_t)INT64_MAX + minus)
        return false;
    *number = (int64_t)(minus ? -n : n);
    return true;
}

/* \u00XX, of a control character: add_escaped wrote it. */
static char unescaped(pep_view value, size_t *at)
{
    static const char digits[] = "0123456789abcdef";
    if (value.p[*at] != 'u' || value.n - *at < 5)
        return (char)value.p[*at];
    const char *high = strchr(digits, value.p[*at + 3]);
    const char *low = strchr(digits, value.p[*at + 4]);
    *at += 4;
    return high == NULL || low == NULL ? '?' : (char)((high - digits) * 16 + (low - digits));
}

void text_add_value(text_buffer *t, pep_view value)
{
    if (value.n < 2 || value.p[0] != '"') {
        text_add(t, (const char *)value.p, value.n);
        return;
    }
    value.n--;
    text_add(t, "", 0);
    for (size_t at = 1; at < value.n; at++) {
        size_t begun = at;
        while (at < value.n && value.p[at] != '\\')
            at++;
        text_add(t, (const char *)value.p + begun, at - begun);
        if (at + 1 >= value.n)
            return;
        at++;
        char c = unescaped(value, &at);
        text_add(t, &c, 1);
    }
}
