/* ledger.query: rows, page by page. */
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ledger/internal.h"

enum { ID, TIME, TOPIC, SIGNER, KID, SEQ, SIZE, PAYLOAD, QOS, RETAINED, FIELDS, COLUMNS };

typedef struct {
    ask_job *a;
    const statement *st;
    text_buffer rows; /* as JSON: a tree of a thousand rows would take longer than to find them */
    uint64_t left;
    bool more;
    int64_t time, id; /* of the last row */
} page;

static void add_words(text_buffer *t, const char *words)
{
    text_add(t, words, strlen(words));
}

static void add_digits(text_buffer *t, const char *words, int64_t number)
{
    char digits[24];
    char *p = digits + sizeof digits;
    uint64_t left = number < 0 ? 0 : (uint64_t)number; /* there are none below */
    add_words(t, words);
    do {
        *--p = (char)('0' + (int)(left % 10));
        left /= 10;
    } while (left > 0);
    text_add(t, p, (size_t)(digits + sizeof digits - p));
}

static void add_text(text_buffer *t, const char *words, const store_value *v)
{
    add_words(t, words);
    text_add_json(t, v->p, v->n);
}

static void add_row(text_buffer *t, const store_value *c)
{
    char kid[2 * PEP_KID_BYTES + 1];
    add_digits(t, t->n == 1 ? "{\"time\":" : ",{\"time\":", c[TIME].number);
    add_text(t, ",\"topic\":", &c[TOPIC]);
    add_text(t, ",\"signer\":", &c[SIGNER]);
    add_words(t, ",\"kid\":\"");
    add_words(t, sodium_bin2hex(kid, sizeof kid, c[KID].p, PEP_KID_BYTES));
    add_digits(t, "\",\"seq\":", c[SEQ].number);
    add_digits(t, ",\"size\":", c[SIZE].number);
    add_digits(t, ",\"payload\":", c[PAYLOAD].number);
    add_digits(t, ",\"qos\":", c[QOS].number);
    add_words(t, c[RETAINED].number != 0 ? ",\"retained\":true" : ",\"retained\":false");
    add_text(t, ",\"fields\":", &c[FIELDS]);
    add_words(t, "}");
}

/* A page ends with its count, or before it becomes too large for an answer. */
static bool take_row(void *ctx, const store_value *c, size_t n)
{
    page *p = ctx;
    size_t before = p->rows.n;
    if (n != COLUMNS || c[KID].n != PEP_KID_BYTES || !sql_matches(p->st, &c[TOPIC], &c[FIELDS]))
        return n == COLUMNS;
    p->more = p->left == 0;
    if (p->more)
        return false;
    add_row(&p->rows, c);
    p->more = p->time >= 0 && p->rows.n > ANSWER_MAX;
    if (p->more) {
        p->rows.n = before; /* and first on the next page */
        return false;
    }
    p->left--;
    p->time = c[TIME].number;
    p->id = c[ID].number;
    return !p->rows.failed;
}

/* "TIME.ID", both within 64 bits. */
static bool parse_cursor(const char *text, int64_t *time, int64_t *id)
{
    static const char digits[] = "0123456789";
    size_t time_n = strspn(text, digits);
    const char *second = text + time_n + (text[time_n] == '.');
    size_t id_n = strspn(second, digits);
    if (time_n < 1 || time_n > 16 || text[time_n] != '.' || id_n < 1 || id_n > 18 || second[id_n] != '\0')
        return false;
    *time = strtoll(text, NULL, 10);
    *id = strtoll(second, NULL, 10);
    return true;
}

static bool read_cursor(ask_job *a, int64_t *time, int64_t *id, bool *given)
{
    const char *text = json_get_text(a->request->command, "after");
    *given = cJSON_GetObjectItemCaseSensitive(a->request->command, "after") != NULL;
    if (!*given || (text != NULL && parse_cursor(text, time, id)))
        return true;
    ask_refuse(a, PEP_BAD_COMMAND, "after is not what it must be: take `next` of the answer before");
    return false;
}

static bool read_page(ask_job *a, uint64_t *count, bool *newest)
{
    const cJSON *order = cJSON_GetObjectItemCaseSensitive(a->request->command, "newest");
    *count = QUERY_COUNT;
    *newest = cJSON_IsTrue(order);
    if (order != NULL && !cJSON_IsBool(order))
        ask_refuse(a, PEP_BAD_COMMAND, "newest is true or false");
    else if (ask_number(a, count, "count") && (*count < 1 || *count > QUERY_MAX))
        ask_refuse(a, PEP_BAD_COMMAND, "count is 1 to %d", QUERY_MAX);
    return a->reason == PEP_OK;
}

/* An index is entered where the page before ended, and not where the question begins: else pages would take the longer
 * the more there are before them. */
static void begin_behind(conditions *c, bool newest, uint64_t time)
{
    if (newest && c->to_us > time + 1)
        c->to_us = time + 1;
    if (!newest && c->from_us < time)
        c->from_us = time;
}

static bool build(ask_job *a, statement *st, conditions *c, bool newest, uint64_t count)
{
    int64_t time = 0;
    int64_t id = 0;
    bool given;
    if (!read_cursor(a, &time, &id, &given))
        return false;
    if (given)
        begin_behind(c, newest, (uint64_t)time);
    sql_add(st, "SELECT id, time, topic, signer, kid, seq, size, payload, qos, retained, CAST(fields AS text)");
    sql_where(st, c);
    if (given) {
        sql_add(st, newest ? " AND (time, id) < (" : " AND (time, id) > (");
        sql_param(st, store_int(time));
        sql_add(st, ", ");
        sql_param(st, store_int(id));
        sql_add(st, ")");
    }
    sql_add(st, newest ? " ORDER BY time DESC, id DESC" : " ORDER BY time, id");
    if (!sql_is_open(st)) {
        sql_add(st, " LIMIT ");
        sql_param(st, store_int((int64_t)count + 1));
    }
    return true;
}

static store_result answer(ask_job *a, page *p)
{
    char next[48];
    if (a->reason != PEP_OK)
        return STORE_OK;
    text_add(&p->rows, "]", 1);
    a->data = cJSON_CreateObject();
    if (p->rows.failed || cJSON_AddRawToObject(a->data, "rows", p->rows.p) == NULL)
        return ask_no_memory(a);
    snprintf(next, sizeof next, "%" PRId64 ".%" PRId64, p->time, p->id);
    return !p->more || json_add_text(a->data, "next", next) ? STORE_OK : ask_no_memory(a);
}

store_result run_query(ask_job *a, store *s)
{
    conditions c;
    statement st;
    uint64_t count;
    bool newest;
    store_result result = STORE_OK;
    if (!ask_conditions(a, &c) || !read_page(a, &count, &newest))
        return STORE_OK;
    page p = {.a = a, .st = &st, .left = count, .time = -1};
    text_add(&p.rows, "[", 1);
    sql_begin(&st, s);
    if (build(a, &st, &c, newest, count))
        result = sql_run(s, &st, take_row, &p);
    sql_free(&st);
    result = result == STORE_OK ? answer(a, &p) : result;
    free(p.rows.p);
    return result;
}
