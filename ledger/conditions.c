/* Which rows are meant, and the statement that asks for them. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ledger/internal.h"
#include "ledger/tables.h"

/* ---- statements ---- */

void sql_begin(statement *st, const store *s)
{
    memset(st, 0, sizeof *st);
    st->postgres = strcmp(store_kind(s), "postgresql") == 0;
}

void sql_add(statement *st, const char *words)
{
    size_t n = strlen(words);
    st->failed = st->failed || n >= sizeof st->sql - st->n;
    if (st->failed)
        return;
    memcpy(st->sql + st->n, words, n + 1);
    st->n += n;
}

void sql_again(statement *st, unsigned number)
{
    char name[16];
    snprintf(name, sizeof name, "$%u", number);
    sql_add(st, name);
}

unsigned sql_param(statement *st, store_value value)
{
    st->failed = st->failed || st->count == COUNT(st->values);
    if (st->failed)
        return 0;
    st->values[st->count++] = value;
    sql_again(st, st->count);
    return st->count;
}

void sql_free(statement *st)
{
    for (unsigned i = 0; i < st->owned_n; i++)
        free(st->owned[i]);
    for (unsigned i = 0; i < st->check_n; i++) {
        free(st->checks[i].name.p);
        free(st->checks[i].text.p);
        free(st->checks[i].literal.p);
    }
}

store_result sql_run(store *s, const statement *st, bool (*each)(void *ctx, const store_value *columns, size_t n),
                     void *ctx)
{
    return st->failed ? STORE_FAILED : store_run_once(s, st->sql, st->values, st->count, each, ctx);
}

/* Takes the text over. */
static unsigned add_owned(statement *st, text_buffer *t)
{
    st->failed = st->failed || t->failed || st->owned_n == COUNT(st->owned);
    if (st->failed) {
        free(t->p);
        return 0;
    }
    st->owned[st->owned_n++] = t->p;
    return sql_param(st, store_text(t->p, t->n));
}

static unsigned add_text(statement *st, const char *text)
{
    return sql_param(st, store_text(text, strlen(text)));
}

/* ---- fields ---- */

unsigned sql_field(statement *st, const char *name)
{
    return add_text(st, name);
}

/* Whether the text is what JSON has for a whole number, true or false. */
static bool is_literal(const char *text)
{
    const char *digits = text + (text[0] == '-');
    size_t n = strspn(digits, "0123456789");
    if (strcmp(text, "true") == 0 || strcmp(text, "false") == 0)
        return true;
    bool number = n >= 1 && n <= 19 && digits[n] == '\0' && (digits[0] != '0' || n == 1);
    return number && strcmp(text, "-0") != 0;
}

static void add_json_operand(statement *st, const char *value, bool literal)
{
    text_buffer t = {0};
    if (literal)
        text_add(&t, value, strlen(value));
    else
        text_add_json(&t, value, strlen(value));
    sql_add(st, "CAST(");
    add_owned(st, &t);
    sql_add(st, " AS jsonb)");
}

/* As JSON: the text, or the number or boolean that is written like it. */
static void add_field(statement *st, const char *name, const char *value)
{
    sql_add(st, " AND (fields -> ");
    sql_field(st, name);
    sql_add(st, ") IN (");
    add_json_operand(st, value, false);
    if (is_literal(value)) {
        sql_add(st, ", ");
        add_json_operand(st, value, true);
    }
    sql_add(st, ")");
}

static void add_check(statement *st, const char *name, const char *value)
{
    unsigned i = st->check_n++;
    text_add_json(&st->checks[i].name, name, strlen(name));
    text_add_json(&st->checks[i].text, value, strlen(value));
    if (is_literal(value))
        text_add(&st->checks[i].literal, value, strlen(value));
    st->failed = st->failed || st->checks[i].name.failed || st->checks[i].text.failed || st->checks[i].literal.failed;
}

/* ---- topics ---- */

/* One level of a filter for PostgreSQL's ~; all that could mean something there is escaped. */
static void add_level(text_buffer *t, const char *level, size_t n)
{
    if (n == 1 && level[0] == '+') {
        text_add(t, "[^/]*", 5);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        if (strchr("\\^$.|?*+()[]{}", level[i]) != NULL)
            text_add(t, "\\", 1);
        text_add(t, level + i, 1);
    }
}

/* MQTT 5.0, 4.7.1 and 4.7.2. */
static void add_regex(text_buffer *t, const char *filter)
{
    bool first = true;
    text_add(t, "^", 1);
    if (filter[0] == '+' || filter[0] == '#')
        text_add(t, "(?!\\$)", 6);
    for (const char *level = filter; level != NULL; first = false) {
        const char *end = strchr(level, '/');
        size_t n = end == NULL ? strlen(level) : (size_t)(end - level);
        if (n == 1 && level[0] == '#') {
            text_add(t, first ? ".*" : "(/.*)?", first ? 2 : 6);
        } else {
            text_add(t, "/", first ? 0 : 1);
            add_level(t, level, n);
        }
        level = end == NULL ? NULL : end + 1;
    }
    text_add(t, "$", 1);
}

/* All that begins like the filter, up to its first wildcard: rows of other topics need not be handed over. */
static void add_prefix(statement *st, const char *filter)
{
    text_buffer end = {0};
    size_t n = strcspn(filter, "+#");
    n -= n > 0 && filter[n] == '#'; /* a/# means a, too */
    if (n == 0)
        return;
    text_add(&end, filter, n);
    text_add(&end, "\xff", 1);      /* behind all UTF-8 */
    sql_add(st, " AND +topic >= "); /* +: by its time, not by its topic, which may be that of most rows */
    sql_param(st, store_text(filter, n));
    sql_add(st, " AND +topic < ");
    add_owned(st, &end);
}

/* Bytes in front of the filter's first wildcard, as far as the index goes. `a/#` is for `a`, too. */
static size_t literal_n(const char *filter)
{
    size_t n = strcspn(filter, "+#");
    if (n > 0 && filter[n] == '#')
        n--;
    if (n > LEDGER_TOPIC_INDEXED)
        for (n = LEDGER_TOPIC_INDEXED; n > 0 && ((uint8_t)filter[n] & 0xc0) == 0x80;)
            n--; /* not amid a character */
    return n;
}

/* For PostgreSQL's index of topics, which has no more of them. */
static void add_beginning(statement *st, const char *filter)
{
    text_buffer t = {0};
    size_t n = literal_n(filter);
    if (n == 0)
        return;
    text_add(&t, "^", 1);
    add_level(&t, filter, n);
    sql_add(st, " AND " LEDGER_TOPIC_BEGINS " ~ ");
    add_owned(st, &t);
}

/*
 * PostgreSQL takes two conditions that mean the same for two that leave the fewer rows, and then sorts all of a topic
 * for one page. So only the index's is said, where that has the whole topic.
 */
static void add_exact(statement *st, const char *topic)
{
    bool whole = strlen(topic) < LEDGER_TOPIC_INDEXED;
    sql_add(st, st->postgres && whole ? " AND " LEDGER_TOPIC_BEGINS " = " : " AND topic = ");
    unsigned number = add_text(st, topic);
    if (!st->postgres || whole)
        return;
    sql_add(st, " AND " LEDGER_TOPIC_BEGINS " = left(");
    sql_again(st, number);
    sql_add(st, ", 500)");
}

static void add_topic(statement *st, const conditions *c)
{
    text_buffer t = {0};
    if (!c->wild) {
        add_exact(st, c->topic);
    } else if (c->looks) {
        st->filter = c->topic;
    } else if (st->postgres) {
        add_beginning(st, c->topic);
        add_regex(&t, c->topic);
        sql_add(st, " AND topic ~ ");
        add_owned(st, &t);
    } else {
        add_prefix(st, c->topic);
        st->filter = c->topic;
    }
}

/* ---- what the statement does not say ---- */

bool sql_is_open(const statement *st)
{
    return st->filter != NULL || st->check_n > 0;
}

static bool is_text(pep_view v, const text_buffer *t)
{
    return v.n == t->n && memcmp(v.p, t->p, t->n) == 0;
}

bool sql_matches(const statement *st, const store_value *topic, const store_value *fields)
{
    pep_view value;
    bool ok = st->filter == NULL || pep_filter_matches(st->filter, strlen(st->filter), topic->p, topic->n);
    for (unsigned i = 0; ok && i < st->check_n; i++) {
        const text_buffer *name = &st->checks[i].name;
        const text_buffer *literal = &st->checks[i].literal;
        ok = text_find_fact(&value, (pep_view){fields->p, fields->n}, (pep_view){(const uint8_t *)name->p, name->n}) &&
             (is_text(value, &st->checks[i].text) || (literal->n > 0 && is_text(value, literal)));
    }
    return ok;
}

/* ---- all of them ---- */

/* Where no time is asked for there is no condition: SQLite would go through the index of times all the same. */
static void add_times(statement *st, const conditions *c)
{
    if (c->from_us > 0) {
        sql_add(st, " AND time >= ");
        sql_param(st, store_int((int64_t)c->from_us));
    }
    if (c->to_us < INT64_MAX) {
        sql_add(st, " AND time < ");
        sql_param(st, store_int((int64_t)c->to_us));
    }
}

void sql_where(statement *st, const conditions *c)
{
    sql_add(st, " FROM pep_ledger WHERE true");
    add_times(st, c);
    if (c->signer != NULL) {
        sql_add(st, " AND signer = ");
        add_text(st, c->signer);
    }
    if (c->topic != NULL)
        add_topic(st, c);
    for (unsigned i = 0; i < c->field_n; i++)
        (st->postgres ? add_field : add_check)(st, c->fields[i].name, c->fields[i].value);
}
