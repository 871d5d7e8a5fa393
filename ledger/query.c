/* ledger.query: rows, page by page. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ledger/internal.h"

#define ROW_BYTES 256 /* of a row's JSON, besides its texts */

enum { ID, TIME, TOPIC, SIGNER, KID, SEQ, SIZE, PAYLOAD, QOS, RETAINED, FIELDS, COLUMNS };

typedef struct {
    ask_job *a;
    const statement *st;
    cJSON *rows;
    uint64_t left;
    bool more;
    int64_t time, id; /* of the last row */
} page;

static bool add_view(cJSON *object, const char *name, const store_value *v)
{
    text_buffer t = {0};
    text_add(&t, v->p, v->n);
    bool ok = !t.failed && json_add_text(object, name, t.p);
    free(t.p);
    return ok;
}

static bool add_row(cJSON *rows, const store_value *c)
{
    cJSON *row = cJSON_CreateObject();
    if (!cJSON_AddItemToArray(rows, row))
        return false;
    bool ok = add_number(row, "time", (uint64_t)c[TIME].number) && add_view(row, "topic", &c[TOPIC]) &&
              add_view(row, "signer", &c[SIGNER]);
    ok = ok && c[KID].n == PEP_KID_BYTES && json_add_kid(row, "kid", c[KID].p);
    ok = ok && add_number(row, "seq", (uint64_t)c[SEQ].number) && add_number(row, "size", (uint64_t)c[SIZE].number) &&
         add_number(row, "payload", (uint64_t)c[PAYLOAD].number) && add_number(row, "qos", (uint64_t)c[QOS].number);
    return ok && cJSON_AddBoolToObject(row, "retained", c[RETAINED].number != 0) != NULL &&
           add_view(row, "fields", &c[FIELDS]);
}

/* A page ends with its count, or before it becomes too large for an answer. */
static bool take_row(void *ctx, const store_value *c, size_t n)
{
    page *p = ctx;
    if (n != COLUMNS || !sql_matches(p->st, &c[TOPIC], &c[FIELDS]))
        return n == COLUMNS;
    p->a->answer_n += ROW_BYTES + 2 * (c[TOPIC].n + c[FIELDS].n); /* escaped, they may double */
    bool first = p->time < 0;
    p->more = p->left == 0 || (!first && p->a->answer_n > ANSWER_MAX);
    if (p->more)
        return false;
    p->left--;
    p->time = c[TIME].number;
    p->id = c[ID].number;
    if (add_row(p->rows, c))
        return true;
    ask_no_memory(p->a);
    return false;
}

static bool read_cursor(ask_job *a, int64_t *time, int64_t *id, bool *given)
{
    int end = 0;
    char digits[] = "0123456789.";
    const char *text = json_get_text(a->request->command, "after");
    *given = text != NULL;
    if (cJSON_GetObjectItemCaseSensitive(a->request->command, "after") == NULL)
        return true;
    if (text != NULL && strlen(text) < 40 && strspn(text, digits) == strlen(text) &&
        sscanf(text, "%16" SCNd64 ".%18" SCNd64 "%n", time, id, &end) == 2 && text[end] == '\0')
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

static store_result answer(ask_job *a, const page *p)
{
    char next[48];
    if (a->reason != PEP_OK || !p->more)
        return STORE_OK;
    snprintf(next, sizeof next, "%" PRId64 ".%" PRId64, p->time, p->id);
    return json_add_text(a->data, "next", next) ? STORE_OK : ask_no_memory(a);
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
    a->data = cJSON_CreateObject();
    page p = {.a = a, .st = &st, .rows = cJSON_AddArrayToObject(a->data, "rows"), .left = count, .time = -1};
    if (p.rows == NULL)
        return ask_no_memory(a);
    sql_begin(&st, s);
    if (build(a, &st, &c, newest, count))
        result = sql_run(s, &st, take_row, &p);
    sql_free(&st);
    return result == STORE_OK ? answer(a, &p) : result;
}
