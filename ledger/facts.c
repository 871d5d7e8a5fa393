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
