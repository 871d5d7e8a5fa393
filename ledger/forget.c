/* ledger.forget and ledger.erasures: what admins erase, and what is told of it. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ledger/internal.h"

/* ---- what is meant ---- */

static bool read_forget(ask_job *a, conditions *c)
{
    const cJSON *before = cJSON_GetObjectItemCaseSensitive(a->request->command, "before");
    if (!ask_conditions(a, c) || !ask_number(a, &c->to_us, "before"))
        return false;
    if (before == NULL && c->signer == NULL && c->topic == NULL)
        ask_refuse(a, PEP_BAD_COMMAND, "it takes signer, topic or before: to forget everything, say before when");
    return a->reason == PEP_OK;
}

/* Their names, and nothing of what they said. */
static void name_conditions(char out[32], const ask_job *a, const conditions *c)
{
    bool before = cJSON_GetObjectItemCaseSensitive(a->request->command, "before") != NULL;
    int n = snprintf(out, 32, "%s%s%s", c->signer != NULL ? "signer " : "", c->topic != NULL ? "topic " : "",
                     before ? "before " : "");
    out[n - 1] = '\0';
}

/* ---- a part of it ---- */

typedef struct {
    const statement *st;
    text_buffer ids; /* a JSON list */
    unsigned looked, found;
    int64_t time, id; /* of the last one that was looked at */
    int64_t oldest, newest;
} part;

static bool take_row(void *ctx, const store_value *c, size_t n)
{
    part *p = ctx;
    p->looked++;
    p->id = c[0].number;
    p->time = c[1].number;
    if (n == 3 && sql_matches(p->st, &c[2], NULL)) {
        p->oldest = p->found == 0 ? p->time : p->oldest;
        p->newest = p->time;
        text_format(&p->ids, "%s%" PRId64, p->found == 0 ? "[" : ",", p->id);
        p->found++;
    }
    return p->found < FORGET_ROWS;
}

/* The next rows in the order of their time, behind what was looked at. */
static store_result find_part(part *p, const ask_job *a, conditions c, store *s)
{
    statement st;
    sql_begin(&st, s);
    c.looks = true;
    if (c.from_us < (uint64_t)a->done.time)
        c.from_us = (uint64_t)a->done.time; /* nor what lies before it in an index */
    sql_add(&st, "SELECT id, time, topic");
    sql_where(&st, &c);
    sql_add(&st, " AND (time, id) > (");
    sql_param(&st, store_int(a->done.time));
    sql_add(&st, ", ");
    sql_param(&st, store_int(a->done.id));
    sql_add(&st, ") ORDER BY time, id LIMIT ");
    sql_param(&st, store_int(st.filter == NULL ? FORGET_ROWS : FORGET_LOOKS));
    p->st = &st;
    store_result result = sql_run(s, &st, take_row, p);
    p->st = NULL;
    sql_free(&st);
    return result;
}

static store_result delete_part(part *p, store *s)
{
    text_add(&p->ids, "]", 1);
    if (p->ids.failed)
        return STORE_FAILED;
    const store_value ids = store_text(p->ids.p, p->ids.n);
    static const char sqlite[] = "DELETE FROM pep_ledger WHERE id IN (SELECT value FROM json_each($1))";
    static const char postgres[] = "DELETE FROM pep_ledger WHERE id IN (SELECT CAST(value AS bigint) FROM"
                                   " jsonb_array_elements_text(CAST($1 AS jsonb)))";
    bool is_postgres = strcmp(store_kind(s), "postgresql") == 0;
    return store_run(s, is_postgres ? postgres : sqlite, &ids, 1, NULL, NULL);
}

/* ---- what is told of it ---- */

static bool take_id(void *ctx, const store_value *c, size_t n)
{
    if (n == 1 && c[0].type == STORE_INT)
        *(int64_t *)ctx = c[0].number;
    return true;
}

static store_value time_or_null(uint64_t count, int64_t us)
{
    return count == 0 ? store_null() : store_int(us);
}

static store_result note_erasure(ask_job *a, const conditions *c, store *s)
{
    char names[32];
    erasure *e = &a->doing;
    store_value oldest = time_or_null(e->count, e->oldest_us);
    store_value newest = time_or_null(e->count, e->newest_us);
    store_value count = store_int((int64_t)e->count);
    if (e->row != 0) {
        const store_value values[] = {count, oldest, newest, store_int(e->row)};
        return store_run(s, "UPDATE pep_ledger_erasures SET count = $1, oldest = $2, newest = $3 WHERE id = $4", values,
                         COUNT(values), NULL, NULL);
    }
    name_conditions(names, a, c);
    const store_value values[] = {store_int((int64_t)pep_now_us()),
                                  store_text(a->request->id, strlen(a->request->id)),
                                  store_text(names, strlen(names)),
                                  count,
                                  oldest,
                                  newest};
    return store_run(s,
                     "INSERT INTO pep_ledger_erasures (time, author, conditions, count, oldest, newest) VALUES"
                     " ($1, $2, $3, $4, $5, $6) RETURNING id",
                     values, COUNT(values), take_id, &e->row);
}

static store_result answer(ask_job *a)
{
    const erasure *e = &a->doing;
    a->data = cJSON_CreateObject();
    bool ok = add_number(a->data, "count", e->count);
    if (ok && e->count > 0)
        ok = add_number(a->data, "from", (uint64_t)e->oldest_us) && add_number(a->data, "to", (uint64_t)e->newest_us);
    return ok ? STORE_OK : ask_no_memory(a);
}

static void take_part(ask_job *a, const part *p)
{
    erasure *e = &a->doing;
    a->more = p->looked > 0;
    if (p->looked > 0) {
        e->time = p->time;
        e->id = p->id;
    }
    if (p->found == 0)
        return;
    e->oldest_us = e->count == 0 ? p->oldest : e->oldest_us;
    e->newest_us = p->newest;
    e->count += p->found;
    atomic_store(&a->l->dirty, true);
}

/* Each part is a transaction, with what is told of all parts so far. */
store_result run_forget(ask_job *a, store *s)
{
    conditions c;
    part p = {.st = NULL};
    if (a->scrubbing)
        return answer(a);
    if (!read_forget(a, &c))
        return STORE_OK;
    store_result result = find_part(&p, a, c, s);
    if (result == STORE_OK && p.found > 0)
        result = delete_part(&p, s);
    if (result == STORE_OK) {
        take_part(a, &p);
        result = note_erasure(a, &c, s);
    }
    free(p.ids.p);
    return result == STORE_OK ? answer(a) : result;
}

/* ---- behind it, in the broker's thread ---- */

static void tell(ask_job *a)
{
    ledger *l = a->l;
    bool off = l->scrubs && !atomic_load(&l->dirty);
    l->counters.erased += a->done.count;
    ledger_say(l, 'n', "%s had %" PRIu64 " rows of the ledger erased", a->request->id, a->done.count);
    if (a->data == NULL || cJSON_AddBoolToObject(a->data, "scrubbed", off) == NULL ||
        !json_add_text(a->data, "store", l->scrubs ? "sqlite" : "postgresql"))
        ask_no_memory(a);
    ask_end(a);
}

/* Whoever reads what stood there before keeps it on the disk, for a while. */
void forget_wait(ask_job *a)
{
    ledger *l = a->l;
    uint64_t now = ledger_us();
    if (!a->scrubbing)
        a->give_up_us = now + SCRUB_WAIT_US;
    a->scrubbing = true;
    if (!atomic_load(&l->dirty) || now > a->give_up_us || l->closing) {
        tell(a);
        return;
    }
    a->next = l->scrubbing;
    l->scrubbing = a;
}

/* A transaction of nothing: behind each the writer tries again. */
void forget_tick(ledger *l)
{
    if (!l->closing && ledger_us() < l->scrub_us)
        return;
    l->scrub_us = ledger_us() + SCRUB_TRY_US;
    ask_job *next;
    ask_job *a = l->scrubbing;
    l->scrubbing = NULL;
    for (; a != NULL; a = next) {
        next = a->next;
        if (l->closing)
            tell(a);
        else
            ask_again(a);
    }
}

/* ---- erasures ---- */

enum { AT, AUTHOR, CONDITIONS, NUMBER, OLDEST, NEWEST, COLUMNS };

typedef struct {
    ask_job *a;
    cJSON *list;
} listing;

static bool add_times(cJSON *item, const store_value *c)
{
    return c[OLDEST].type == STORE_NULL ||
           (add_number(item, "from", (uint64_t)c[OLDEST].number) && add_number(item, "to", (uint64_t)c[NEWEST].number));
}

static bool take_erasure(void *ctx, const store_value *c, size_t n)
{
    char author[PEP_ID_MAX + 1];
    char names[32];
    listing *l = ctx;
    cJSON *item = cJSON_CreateObject();
    if (n != COLUMNS || c[AUTHOR].n >= sizeof author || c[CONDITIONS].n >= sizeof names ||
        !cJSON_AddItemToArray(l->list, item)) {
        cJSON_Delete(item);
        ask_no_memory(l->a);
        return false;
    }
    memcpy(author, c[AUTHOR].p, c[AUTHOR].n);
    author[c[AUTHOR].n] = '\0';
    memcpy(names, c[CONDITIONS].p, c[CONDITIONS].n);
    names[c[CONDITIONS].n] = '\0';
    bool ok = add_number(item, "time", (uint64_t)c[AT].number) && json_add_text(item, "by", author) &&
              json_add_text(item, "criteria", names) && add_number(item, "count", (uint64_t)c[NUMBER].number) &&
              add_times(item, c);
    if (!ok)
        ask_no_memory(l->a);
    return ok;
}

store_result run_erasures(ask_job *a, store *s)
{
    const store_value count = store_int(ERASURES_MAX);
    a->data = cJSON_CreateObject();
    listing l = {.a = a, .list = cJSON_AddArrayToObject(a->data, "erasures")};
    if (l.list == NULL)
        return ask_no_memory(a);
    return store_run(s,
                     "SELECT time, author, conditions, count, oldest, newest FROM pep_ledger_erasures ORDER BY id DESC"
                     " LIMIT $1",
                     &count, 1, take_erasure, &l);
}
