/*
 * ledger.sum: counts and sums, by group. PostgreSQL adds up by itself. SQLite would sort all rows first, in the
 * broker's memory; it hands its rows over one by one, and they are added up here.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#include "ledger/internal.h"

#define KEYS_MAX     3
#define GROUP_BYTES  ((size_t)64)  /* of a group's JSON, besides its texts */
#define AMOUNT_BYTES ((size_t)130) /* of its sum, least and most */
#define SUM_MAX      ((size_t)1000000)

__extension__ typedef __int128 wide; /* a sum of 64 bit numbers */
__extension__ typedef unsigned __int128 unsigned_wide;

#define WIDE_TEXT 48

/* By what rows are grouped, in the order in which groups come. */
typedef enum { BY_TIME, BY_SIGNER, BY_TOPIC, BY_FIELD } key_kind;

typedef struct {
    key_kind kinds[KEYS_MAX];
    unsigned n;
    uint64_t unit_us; /* of BY_TIME */
    const char *field, *of;
} grouping;

typedef struct {
    store_value values[KEYS_MAX]; /* texts point to `text`, or to a row */
} group_key;

typedef struct {
    UT_hash_handle hh;
    group_key key;
    uint64_t count, numbers;
    wide sum;
    int64_t min, max;
    size_t hashed_n;
    uint8_t hashed[]; /* the key's bytes */
} group;

typedef struct {
    ask_job *a;
    const statement *st;
    const grouping *by;
    group *groups;         /* uthash head */
    group *last;           /* that was found */
    uint8_t *scratch;      /* a key's bytes */
    size_t bytes;          /* of all keys */
    text_buffer field, of; /* names as they are written in a row's fields */
    text_buffer value;     /* of a row's field */
    bool failed;
} adding;

/* ---- what is asked for ---- */

static const struct {
    const char *name;
    key_kind kind;
    uint64_t unit_us;
} words[] = {
    {"second", BY_TIME, 1000000},  {"minute", BY_TIME, 60000000}, {"hour", BY_TIME, 3600000000},
    {"day", BY_TIME, 86400000000}, {"signer", BY_SIGNER, 0},      {"topic", BY_TOPIC, 0},
    {"field", BY_FIELD, 0},
};

static bool take_word(grouping *by, bool taken[BY_FIELD + 1], const char *word)
{
    for (size_t i = 0; word != NULL && i < COUNT(words); i++) {
        if (strcmp(words[i].name, word) != 0)
            continue;
        bool again = taken[words[i].kind];
        taken[words[i].kind] = true;
        by->unit_us = words[i].unit_us != 0 ? words[i].unit_us : by->unit_us;
        return !again;
    }
    return false;
}

static bool read_by(ask_job *a, grouping *by)
{
    const cJSON *item;
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(a->request->command, "by");
    bool taken[BY_FIELD + 1] = {false};
    bool ok = list == NULL || (cJSON_IsArray(list) && cJSON_GetArraySize(list) <= KEYS_MAX);
    if (ok)
        cJSON_ArrayForEach(item, list)
        {
            ok = ok && take_word(by, taken, cJSON_GetStringValue(item));
        }
    if (!ok)
        ask_refuse(a, PEP_BAD_COMMAND,
                   "by is a list of up to %d, each once, of signer, topic, field, and one of second, minute, hour, day",
                   KEYS_MAX);
    for (int kind = BY_TIME; ok && kind <= BY_FIELD; kind++)
        if (taken[kind])
            by->kinds[by->n++] = (key_kind)kind;
    if (ok && taken[BY_FIELD] != (by->field != NULL))
        ask_refuse(a, PEP_BAD_COMMAND, "byField names the field, where and only where by has \"field\"");
    return a->reason == PEP_OK;
}

static bool read_name(ask_job *a, const char **out, const char *member)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(a->request->command, member);
    *out = cJSON_GetStringValue(item);
    return item == NULL || ask_field_name(a, member, *out);
}

static bool read_grouping(ask_job *a, grouping *by)
{
    *by = (grouping){.n = 0};
    return read_name(a, &by->of, "of") && read_name(a, &by->field, "byField") && read_by(a, by);
}

/* ---- the statement ---- */

/* SQLite hands over all fields, for they are faster read here. */
static void add_value_key(statement *st, const char *field)
{
    sql_add(st, st->postgres ? "fields ->> " : "fields");
    if (st->postgres)
        sql_field(st, field);
}

static void add_key(statement *st, const grouping *by, key_kind kind)
{
    switch (kind) {
    case BY_TIME:
        sql_add(st, "time / ");
        unsigned unit = sql_param(st, store_int((int64_t)by->unit_us));
        sql_add(st, " * ");
        sql_again(st, unit);
        return;
    case BY_SIGNER:
        sql_add(st, "signer");
        return;
    case BY_TOPIC:
        sql_add(st, "topic");
        return;
    case BY_FIELD:
        add_value_key(st, by->field);
        return;
    }
}

/* The field's number; NULL where it is none. */
static void add_number_of(statement *st, const char *of)
{
    sql_add(st, "CASE WHEN jsonb_typeof(fields -> ");
    unsigned field = sql_field(st, of);
    sql_add(st, ") = 'number' THEN CAST(fields -> ");
    sql_again(st, field);
    sql_add(st, " AS bigint) END");
}

static void add_keys(statement *st, const grouping *by)
{
    static const char *const names[] = {" AS key_1, ", " AS key_2, ", " AS key_3, "};
    for (unsigned i = 0; i < by->n && i < COUNT(names); i++) {
        add_key(st, by, by->kinds[i]);
        sql_add(st, names[i]);
    }
}

/*
 * The second half of the union is empty, and goes when PostgreSQL plans. But a union it does not merge with the query
 * around it, where the amount would be read out of its JSON once for each of four sums; and of its columns it believes
 * that they have few values, so that groups are hashed, and not sorted out of millions of rows.
 */
static void build_postgres(statement *st, const grouping *by, const conditions *c)
{
    static const char *const keys[] = {"", "key_1, ", "key_1, key_2, ", "key_1, key_2, key_3, "};
    static const char *const nulls[] = {"", "NULL, ", "NULL, NULL, ", "NULL, NULL, NULL, "};
    static const char *const groups[] = {"", " GROUP BY 1 LIMIT ", " GROUP BY 1, 2 LIMIT ", " GROUP BY 1, 2, 3 LIMIT "};
    sql_add(st, "SELECT ");
    sql_add(st, keys[by->n]);
    sql_add(st, "count(*)");
    sql_add(st, by->of == NULL ? "" : ", count(amount), CAST(sum(amount) AS text), min(amount), max(amount)");
    sql_add(st, " FROM (SELECT ");
    add_keys(st, by);
    if (by->of != NULL)
        add_number_of(st, by->of);
    else
        sql_add(st, "0");
    sql_add(st, " AS amount");
    sql_where(st, c);
    sql_add(st, " UNION ALL SELECT ");
    sql_add(st, nulls[by->n]);
    sql_add(st, "NULL FROM pep_ledger WHERE false) AS meant");
    sql_add(st, groups[by->n]);
    if (by->n > 0)
        sql_param(st, store_int(GROUPS_MAX + 1));
}

/* Behind the keys 1 or a count, and what else is needed of the row: the less, the more an index has all of it. */
static void build_sqlite(statement *st, const grouping *by, const conditions *c)
{
    bool alone = by->n == 0 && by->of == NULL && !c->wild && c->field_n == 0;
    sql_add(st, "SELECT ");
    add_keys(st, by);
    sql_add(st, alone ? "count(*)" : "1");
    sql_add(st, c->wild ? ", topic" : ", 0");
    sql_add(st, by->of != NULL || c->field_n > 0 ? ", fields" : ", 0");
    sql_where(st, c);
}

/* ---- adding up ---- */

static void append(uint8_t **at, const void *p, size_t n)
{
    memcpy(*at, p, n);
    *at += n;
}

/* The key's bytes: of each value its type, number and length, and its text. */
static size_t key_bytes(uint8_t *out, const store_value *values, unsigned n)
{
    uint8_t *at = out;
    for (unsigned i = 0; i < n; i++) {
        const store_value *v = &values[i];
        uint64_t head[] = {(uint64_t)v->type, v->type == STORE_INT ? (uint64_t)v->number : v->n};
        append(&at, head, sizeof head);
        if (v->type == STORE_TEXT)
            append(&at, v->p, v->n);
    }
    return (size_t)(at - out);
}

static size_t key_size(const store_value *values, unsigned n)
{
    size_t size = 0;
    for (unsigned i = 0; i < n; i++)
        size += 2 * sizeof(uint64_t) + (values[i].type == STORE_TEXT ? values[i].n : 0);
    return size;
}

/* Points the texts of the key into its own bytes. */
static void own_key(group *g, const store_value *values, unsigned n)
{
    const uint8_t *at = g->hashed;
    for (unsigned i = 0; i < n; i++) {
        at += 2 * sizeof(uint64_t);
        g->key.values[i] = values[i];
        if (values[i].type != STORE_TEXT)
            continue;
        g->key.values[i].p = at;
        at += values[i].n;
    }
}

static void refuse_size(adding *x)
{
    ask_refuse(x->a, PEP_TOO_MANY, "the answer would be too large: ask for a shorter time, or by less");
}

static group *new_group(adding *x, const store_value *values, size_t hashed_n)
{
    if (HASH_COUNT(x->groups) == GROUPS_MAX) {
        ask_refuse(x->a, PEP_TOO_MANY, "more than %d groups: ask for a shorter time, or by less", GROUPS_MAX);
        return NULL;
    }
    x->bytes += hashed_n;
    if (x->bytes > SUM_MAX) {
        refuse_size(x);
        return NULL;
    }
    group *g = calloc(1, sizeof *g + hashed_n);
    x->failed = g == NULL;
    if (g == NULL)
        return NULL;
    memcpy(g->hashed, x->scratch, hashed_n);
    g->hashed_n = hashed_n;
    own_key(g, values, x->by->n);
    HASH_ADD_KEYPTR(hh, x->groups, g->hashed, hashed_n, g);
    if (g->hh.tbl != NULL)
        return g;
    x->failed = true;
    free(g);
    return NULL;
}

static group *find_group(adding *x, const store_value *values)
{
    group *g;
    if (key_size(values, x->by->n) > KEYS_MAX * (2 * sizeof(uint64_t) + PEP_TOPIC_MAX)) {
        x->failed = true;
        return NULL;
    }
    size_t n = key_bytes(x->scratch, values, x->by->n);
    if (x->last != NULL && x->last->hashed_n == n && memcmp(x->last->hashed, x->scratch, n) == 0)
        return x->last; /* as in an index, row for row */
    HASH_FIND(hh, x->groups, x->scratch, n, g);
    x->last = g != NULL ? g : new_group(x, values, n);
    return x->last;
}

static bool read_wide(wide *out, const store_value *v)
{
    char text[WIDE_TEXT];
    wide number = 0;
    if (v->type != STORE_TEXT || v->n == 0 || v->n >= sizeof text)
        return false;
    memcpy(text, v->p, v->n);
    text[v->n] = '\0';
    const char *p = text + (text[0] == '-');
    for (; *p >= '0' && *p <= '9'; p++)
        number = number * 10 + (*p - '0');
    *out = text[0] == '-' ? -number : number;
    return *p == '\0';
}

static void add_amount(group *g, uint64_t numbers, wide sum, int64_t min, int64_t max)
{
    g->min = g->numbers == 0 || min < g->min ? min : g->min;
    g->max = g->numbers == 0 || max > g->max ? max : g->max;
    g->numbers += numbers;
    g->sum += sum;
}

static bool take_group(void *ctx, const store_value *c, size_t n)
{
    adding *x = ctx;
    wide sum;
    group *g = find_group(x, c);
    if (g == NULL)
        return false;
    c += x->by->n;
    g->count += (uint64_t)c[0].number;
    if (n - x->by->n > 1 && c[1].number > 0 && read_wide(&sum, &c[2]))
        add_amount(g, (uint64_t)c[1].number, sum, c[3].number, c[4].number);
    return true;
}

static bool find_fact(pep_view *value, const store_value *fields, const text_buffer *name)
{
    return text_find_fact(value, (pep_view){fields->p, fields->n}, (pep_view){(const uint8_t *)name->p, name->n});
}

/* Puts the field's value, as a text, where all fields are. */
static void read_value_key(adding *x, store_value *key)
{
    pep_view value;
    bool found = find_fact(&value, key, &x->field);
    x->value.n = 0;
    if (found)
        text_add_value(&x->value, value);
    *key = found ? store_text(x->value.p, x->value.n) : store_null();
}

/* The values of the keys, then what build_sqlite asks for. */
static bool take_row(void *ctx, const store_value *c, size_t n)
{
    adding *x = ctx;
    int64_t number;
    pep_view value;
    store_value keys[KEYS_MAX];
    unsigned keys_n = x->by->n;
    if (n != keys_n + 3 || !sql_matches(x->st, &c[keys_n + 1], &c[keys_n + 2]))
        return n == keys_n + 3;
    memcpy(keys, c, keys_n * sizeof keys[0]);
    if (x->by->field != NULL)
        read_value_key(x, &keys[keys_n - 1]); /* the last of all kinds */
    group *g = x->value.failed ? NULL : find_group(x, keys);
    x->failed = x->failed || x->value.failed;
    if (g == NULL)
        return false;
    g->count += (uint64_t)c[keys_n].number;
    if (x->by->of != NULL && find_fact(&value, &c[keys_n + 2], &x->of) && text_read_number(&number, value))
        add_amount(g, 1, number, number, number);
    return true;
}

/* ---- the answer ---- */

static bool add_text_value(cJSON *to, const char *name, const store_value *v)
{
    text_buffer t = {0};
    if (v->type == STORE_NULL)
        return cJSON_AddNullToObject(to, name) != NULL;
    text_add(&t, v->p, v->n);
    bool ok = !t.failed && json_add_text(to, name, t.p);
    free(t.p);
    return ok;
}

static bool add_key_value(cJSON *to, key_kind kind, const store_value *v)
{
    static const char *const names[] = {[BY_SIGNER] = "signer", [BY_TOPIC] = "topic", [BY_FIELD] = "value"};
    return kind == BY_TIME ? add_number(to, "time", (uint64_t)v->number) : add_text_value(to, names[kind], v);
}

/* The digits come from behind. */
static const char *wide_text(char out[WIDE_TEXT], wide number)
{
    size_t at = WIDE_TEXT - 1;
    unsigned_wide left = number < 0 ? -(unsigned_wide)number : (unsigned_wide)number;
    out[at] = '\0';
    do {
        out[--at] = (char)('0' + (int)(left % 10));
        left /= 10;
    } while (left > 0);
    if (number < 0)
        out[--at] = '-';
    return out + at;
}

static bool add_amounts_of(cJSON *to, const group *g)
{
    char text[WIDE_TEXT];
    if (!add_number(to, "numbers", g->numbers) || g->numbers == 0)
        return true;
    return json_add_text(to, "sum", wide_text(text, g->sum)) && json_add_text(to, "min", wide_text(text, g->min)) &&
           json_add_text(to, "max", wide_text(text, g->max)) &&
           cJSON_AddNumberToObject(to, "avg", (double)g->sum / (double)g->numbers) != NULL;
}

static bool add_group(adding *x, cJSON *groups, const group *g)
{
    cJSON *to = cJSON_CreateObject();
    bool ok = cJSON_AddItemToArray(groups, to);
    x->a->answer_n += GROUP_BYTES + (x->by->of == NULL ? 0u : AMOUNT_BYTES) + g->hashed_n;
    if (x->a->answer_n > SUM_MAX) {
        refuse_size(x);
        return false;
    }
    for (unsigned i = 0; ok && i < x->by->n; i++)
        ok = add_key_value(to, x->by->kinds[i], &g->key.values[i]);
    return ok && add_number(to, "count", g->count) && (x->by->of == NULL || add_amounts_of(to, g));
}

static int compare_values(const store_value *a, const store_value *b)
{
    if (a->type == STORE_NULL || b->type == STORE_NULL)
        return (a->type == STORE_NULL) - (b->type == STORE_NULL); /* last */
    if (a->type == STORE_INT)
        return (a->number > b->number) - (a->number < b->number);
    int order = memcmp(a->p, b->p, a->n < b->n ? a->n : b->n);
    return order != 0 ? order : (a->n > b->n) - (a->n < b->n);
}

static int compare_groups(group *a, group *b)
{
    int order = 0;
    for (unsigned i = 0; order == 0 && i < KEYS_MAX; i++)
        order = compare_values(&a->key.values[i], &b->key.values[i]);
    return order;
}

static void add_groups(adding *x)
{
    cJSON *groups = cJSON_AddArrayToObject(x->a->data, "groups");
    bool ok = groups != NULL;
    HASH_SORT(x->groups, compare_groups);
    for (group *g = x->groups; ok && g != NULL; g = g->hh.next)
        ok = add_group(x, groups, g);
    if (!ok && x->a->reason == PEP_OK)
        ask_no_memory(x->a);
}

static void free_groups(adding *x)
{
    group *g = x->groups;
    HASH_CLEAR(hh, x->groups);
    for (group *next; g != NULL; g = next) {
        next = g->hh.next;
        free(g);
    }
    free(x->scratch);
    free(x->field.p);
    free(x->of.p);
    free(x->value.p);
}

static bool begin_adding(adding *x)
{
    x->scratch = malloc(KEYS_MAX * (2 * sizeof(uint64_t) + PEP_TOPIC_MAX));
    if (x->by->field != NULL)
        text_add_json(&x->field, x->by->field, strlen(x->by->field));
    if (x->by->of != NULL)
        text_add_json(&x->of, x->by->of, strlen(x->by->of));
    x->a->data = cJSON_CreateObject();
    return x->scratch != NULL && x->a->data != NULL && !x->field.failed && !x->of.failed;
}

store_result run_sum(ask_job *a, store *s)
{
    conditions c;
    grouping by;
    statement st;
    if (!ask_conditions(a, &c) || !read_grouping(a, &by))
        return STORE_OK;
    adding x = {.a = a, .st = &st, .by = &by};
    if (!begin_adding(&x)) {
        free_groups(&x);
        return ask_no_memory(a);
    }
    sql_begin(&st, s);
    if (st.postgres)
        build_postgres(&st, &by, &c);
    else
        build_sqlite(&st, &by, &c);
    static const store_value nothing[KEYS_MAX];
    if (by.n == 0)
        find_group(&x, nothing); /* there is one, whatever is in it */
    store_result result = sql_run(s, &st, st.postgres ? take_group : take_row, &x);
    if (x.failed)
        ask_no_memory(a);
    if (result == STORE_OK && a->reason == PEP_OK)
        add_groups(&x);
    sql_free(&st);
    free_groups(&x);
    return result;
}
