#include "client/sheet.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "client/print.h"

#define DECIMAL_MAX 64
#define GAP         2

bool decimal_valid(const char *text)
{
    size_t n = strlen(text);
    const char *digits = text + (text[0] == '-' ? 1 : 0);
    size_t count = strspn(digits, "0123456789");
    return n <= DECIMAL_MAX && count > 0 && digits[count] == '\0' && (count == 1 || digits[0] != '0');
}

/* Those that are no text. They are the same in all forms. */
static void put_value(FILE *out, const cell *c)
{
    char when[TIME_BYTES];
    switch (c->kind) {
    case CELL_TIME:
        fputs(time_us(when, c->number), out);
        break;
    case CELL_SECOND:
        fputs(time_s(when, c->number / 1000000), out);
        break;
    case CELL_NUMBER:
        fprintf(out, "%" PRIu64, c->number);
        break;
    case CELL_DECIMAL:
        fputs(c->text, out);
        break;
    case CELL_REAL:
        fprintf(out, "%.15g", c->real);
        break;
    case CELL_BOOL:
        fputs(c->yes ? "true" : "false", out);
        break;
    case CELL_NONE:
    case CELL_TEXT:
    case CELL_FIELDS:
        break;
    }
}

static pep_view view_of(const char *text)
{
    return (pep_view){(const uint8_t *)text, strlen(text)};
}

/* ---- JSON ---- */

static void put_json_cell(FILE *out, const cell *c)
{
    bool quoted = c->kind == CELL_TIME || c->kind == CELL_SECOND;
    if (c->kind == CELL_NONE)
        fputs("null", out);
    else if (c->kind == CELL_TEXT)
        put_quoted(out, view_of(c->text));
    else if (c->kind == CELL_FIELDS)
        fields_put_json(out, c->fields);
    if (quoted)
        putc('"', out);
    put_value(out, c);
    if (quoted)
        putc('"', out);
}

static void put_json_row(const sheet *s, const cell *row)
{
    for (size_t i = 0; i < s->width; i++) {
        fprintf(s->out, "%s\"%s\":", i == 0 ? "{" : ",", s->columns[i].name);
        put_json_cell(s->out, &row[i]);
    }
    fputs("}\n", s->out);
}

/* ---- CSV ---- */

/* What would be calculated. Also in full width, U+FF0B, U+FF0D, U+FF1D and U+FF20, which some take for the same. */
static bool is_formula(const char *text, size_t n)
{
    static const char wide[] = "\x8b\x8d\x9d\xa0";
    if (n == 0)
        return false;
    if (strchr("=+-@'", text[0]) != NULL)
        return text[0] != '\0';
    return n >= 3 && memcmp(text, "\xef\xbc", 2) == 0 && text[2] != '\0' && strchr(wide, text[2]) != NULL;
}

static bool is_whole_number(const char *text, size_t n)
{
    char copy[DECIMAL_MAX + 1];
    if (n > DECIMAL_MAX)
        return false;
    memcpy(copy, text, n);
    copy[n] = '\0';
    return decimal_valid(copy);
}

void put_csv(FILE *out, const char *text, size_t n)
{
    putc('"', out);
    if (is_formula(text, n) && !is_whole_number(text, n))
        putc('\'', out);
    for (size_t at = 0; at < n;) {
        const char *quote = memchr(text + at, '"', n - at);
        size_t end = quote != NULL ? (size_t)(quote - text) + 1 : n;
        put_escaped(out, text + at, end - at);
        if (quote != NULL)
            putc('"', out);
        at = end;
    }
    putc('"', out);
}

static void put_csv_fields(sheet *s, const fields *f)
{
    char *json = NULL;
    size_t n = 0;
    FILE *memory = open_memstream(&json, &n);
    if (memory != NULL)
        fields_put_json(memory, f);
    if (memory != NULL && fclose(memory) == 0)
        put_csv(s->out, json, n);
    else
        s->failed = true;
    free(json);
}

static void put_csv_row(sheet *s, const cell *row)
{
    for (size_t i = 0; i < s->width; i++) {
        if (i > 0)
            putc(',', s->out);
        if (row[i].kind == CELL_TEXT)
            put_csv(s->out, row[i].text, strlen(row[i].text));
        else if (row[i].kind == CELL_FIELDS)
            put_csv_fields(s, row[i].fields);
        put_value(s->out, &row[i]);
    }
    fputs("\r\n", s->out);
}

static void put_csv_header(const sheet *s)
{
    for (size_t i = 0; i < s->width; i++)
        fprintf(s->out, "%s%s", i > 0 ? "," : "", s->columns[i].name);
    fputs("\r\n", s->out);
}

/* ---- the table ---- */

static void put_table_cell(FILE *out, const cell *c)
{
    if (c->kind == CELL_NONE)
        putc('-', out);
    else if (c->kind == CELL_TEXT)
        put_word(out, view_of(c->text));
    else if (c->kind == CELL_FIELDS)
        fields_put_words(out, c->fields);
    put_value(out, c);
}

static char *table_cell(const cell *c)
{
    char *text = NULL;
    size_t n = 0;
    FILE *memory = open_memstream(&text, &n);
    if (memory == NULL)
        return NULL;
    put_table_cell(memory, c);
    if (fclose(memory) == 0)
        return text;
    free(text);
    return NULL;
}

static bool table_add(sheet *s, char *text)
{
    if (s->count == s->cap) {
        size_t cap = 2 * s->cap + 64;
        char **cells = reallocarray(s->cells, cap, sizeof(*cells));
        if (cells == NULL)
            return false;
        s->cells = cells;
        s->cap = cap;
    }
    s->cells[s->count++] = text;
    return true;
}

static void table_row(sheet *s, const cell *row)
{
    for (size_t i = 0; i < s->width && !s->failed; i++) {
        char *text = table_cell(&row[i]);
        s->failed = text == NULL || !table_add(s, text);
        if (s->failed)
            free(text);
    }
}

/* Characters, of UTF-8. */
static size_t length_of(const char *text)
{
    size_t n = 0;
    for (; *text != '\0'; text++)
        n += (*text & 0xc0) != 0x80;
    return n;
}

static size_t width_of(const sheet *s, size_t i)
{
    size_t width = length_of(s->columns[i].name);
    for (size_t at = i; at < s->count; at += s->width) {
        size_t n = length_of(s->cells[at]);
        width = n > width ? n : width;
    }
    return width;
}

static void pad(FILE *out, size_t n)
{
    for (; n > 0; n--)
        putc(' ', out);
}

static void put_padded(FILE *out, const char *text, size_t width, unsigned look, bool last)
{
    size_t missing = width - length_of(text);
    pad(out, (look & COLUMN_RIGHT) != 0 ? missing : 0);
    fputs(text, out);
    pad(out, (look & COLUMN_RIGHT) != 0 || last ? 0 : missing);
}

/* `texts`: a row of them; NULL: the names. */
static void put_line(const sheet *s, char *const *texts, const size_t *widths)
{
    bool first = true;
    for (size_t i = 0; i < s->width; i++) {
        const column *c = &s->columns[i];
        if ((c->look & COLUMN_HIDDEN) != 0)
            continue;
        pad(s->out, first ? 0 : GAP);
        put_padded(s->out, texts != NULL ? texts[i] : c->name, widths[i], c->look, i + 1 == s->width);
        first = false;
    }
    putc('\n', s->out);
}

static void put_table(const sheet *s)
{
    size_t widths[SHEET_COLUMNS_MAX];
    for (size_t i = 0; i < s->width; i++)
        widths[i] = width_of(s, i);
    if (s->count > 0)
        put_line(s, NULL, widths);
    for (size_t at = 0; at < s->count; at += s->width)
        put_line(s, s->cells + at, widths);
}

/* ---- all of them ---- */

void sheet_begin(sheet *s, sheet_form form, FILE *out, const column *columns, size_t width)
{
    *s = (sheet){.form = form, .out = out, .columns = columns, .width = width};
    if (form == FORM_CSV)
        put_csv_header(s);
}

void sheet_row(sheet *s, const cell *row)
{
    if (s->form == FORM_JSON)
        put_json_row(s, row);
    else if (s->form == FORM_CSV)
        put_csv_row(s, row);
    else
        table_row(s, row);
}

int sheet_end(sheet *s)
{
    if (!s->failed)
        put_table(s);
    for (size_t i = 0; i < s->count; i++)
        free(s->cells[i]);
    free(s->cells);
    s->cells = NULL;
    s->count = 0;
    return s->failed ? fail(OUT_OF_REACH, "out of memory") : DONE;
}
