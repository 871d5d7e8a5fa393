#include "tests/vectors/template.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "envelope/structures.h"
#include "tests/vectors/world.h"

void bytes_add(bytes *out, const uint8_t *p, size_t n)
{
    must(n <= sizeof out->p - out->n, "an envelope is too long");
    if (p != NULL)
        memcpy(out->p + out->n, p, n);
    out->n += n;
}

pep_view bytes_view(const bytes *b)
{
    return (pep_view){b->p, b->n};
}

static unsigned digit(char c)
{
    static const char digits[] = "0123456789abcdef";
    const char *at = c == 0 ? NULL : strchr(digits, c);
    must(at != NULL, "not a hex digit in a template");
    return (unsigned)(at - digits);
}

static const char *add_hex(bytes *out, const char *text)
{
    uint8_t byte = (uint8_t)(digit(text[0]) << 4 | digit(text[1]));
    bytes_add(out, &byte, 1);
    return text + 2;
}

/* {12:a0} */
static const char *add_repeated(bytes *out, const char *text)
{
    char *body;
    const char *end = strchr(text, '}');
    long times = strtol(text + 1, &body, 10);
    must(end != NULL && *body == ':', "a repetition without a colon or an end");
    for (long i = 0; i < times; i++)
        for (const char *p = body + 1; p < end;)
            p = add_hex(out, p);
    return end + 1;
}

static const char *add_quoted(bytes *out, const char *text)
{
    const char *end = strchr(text + 1, '\'');
    must(end != NULL, "a quote without an end");
    bytes_add(out, (const uint8_t *)text + 1, (size_t)(end - text - 1));
    return end + 1;
}

static const char *add_slot(bytes *out, const char *text, const slots *s)
{
    pep_view content = s->slot[text[1] & 0x7f];
    must(content.p != NULL, text);
    bytes_add(out, content.p, content.n);
    return text + 2;
}

void template_fill(bytes *out, const char *text, const slots *s)
{
    while (*text != 0) {
        if (isspace((unsigned char)*text))
            text++;
        else if (*text == '\'')
            text = add_quoted(out, text);
        else if (*text == '{')
            text = add_repeated(out, text);
        else if (*text == '$')
            text = add_slot(out, text, s);
        else
            text = add_hex(out, text);
    }
}

static pep_writer writer_at_end(bytes *out)
{
    return (pep_writer){.p = out->p + out->n, .cap = sizeof out->p - out->n};
}

static void written(bytes *out, const pep_writer *w)
{
    must(!w->full, "an envelope is too long");
    out->n += w->n;
}

void append_bstr(bytes *out, pep_view content)
{
    pep_writer w = writer_at_end(out);
    pep_write_bytes(&w, content.p, content.n);
    written(out, &w);
}

void append_sig_structure(bytes *out, pep_view header, pep_view payload)
{
    pep_writer w = writer_at_end(out);
    write_sig_structure(&w, header, payload);
    written(out, &w);
}

void append_enc_structure(bytes *out, pep_view inner, pep_view outer)
{
    pep_writer w = writer_at_end(out);
    write_enc_structure(&w, inner, outer);
    written(out, &w);
}
