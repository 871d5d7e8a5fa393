/*
 * Questions about the ledger, from their JSON to their answers, on a small SQLite ledger whose rows are known here as
 * well. The first byte says who asks: an admin, or one of two devices; for the byte 3 what follows are facts instead,
 * which go into JSON and back. Each question is also put together for PostgreSQL, of which only the SQL is looked at.
 */
#include "tests/fuzz/fuzz.h"

#include <ctype.h>
#include <string.h>

#include "directory/internal.h"
#include "envelope/parse.h"
#include "ledger/internal.h"
#include "ledger/tables.h"
#include "store/backend.h"

enum { ADMIN, DEVICE_A, DEVICE_B, FACTS, ROWS = 300, TIME = 1000 };

typedef struct {
    uint64_t time;
    const char *topic, *signer;
    char temp[8], site[8], alarm[8], n[8]; /* as a question asks for them; empty: it has no such field */
} known_row;

static known_row rows[ROWS];
static const char *const topics[] = {"a/b", "a/b/c", "a", "b", "$x/y", "a//c", "\xc3\xbc/b"};
static const char *const people[] = {"ops", "a", "b"};
static store *s;
static store_backend checked_sqlite, checked_postgres;
static store postgres;
static ledger office;
static char *answered;

/* ---- SQL: fixed words alone ---- */

static bool is_word(const char *p, size_t n)
{
    static const char *const words[] = {
        "SELECT",
        "UNION",
        "left",
        "ALL",
        "NULL",
        "false",
        "FROM",
        "pep_ledger",
        "WHERE",
        "true",
        "AND",
        "time",
        "topic",
        "signer",
        "fields",
        "id",
        "kid",
        "seq",
        "size",
        "qos",
        "text",
        "payload",
        "retained",
        "CAST",
        "AS",
        "jsonb",
        "IN",
        "ORDER",
        "BY",
        "DESC",
        "LIMIT",
        "key_1",
        "key_2",
        "key_3",
        "count",
        "sum",
        "min",
        "max",
        "CASE",
        "WHEN",
        "jsonb_typeof",
        "number",
        "THEN",
        "bigint",
        "END",
        "GROUP",
        "meant",
        "amount",
        "DELETE",
        "json_each",
        "value",
        "INSERT",
        "INTO",
        "VALUES",
        "UPDATE",
        "SET",
        "oldest",
        "newest",
        "author",
        "conditions",
        "RETURNING",
        "pep_ledger_erasures",
        "jsonb_array_elements_text",
    };
    for (size_t i = 0; i < COUNT(words); i++)
        if (strlen(words[i]) == n && memcmp(words[i], p, n) == 0)
            return true;
    return false;
}

static void check_sql(const char *sql, size_t count)
{
    size_t seen = 0;
    for (const char *p = sql; *p != '\0';) {
        size_t n = 0;
        while (isalnum((unsigned char)p[n]) || p[n] == '_')
            n++;
        if (*p == '$') {
            size_t number = strtoul(p + 1, NULL, 10);
            invariant(number >= 1 && number <= seen + 1 && number <= count, "parameters come in their order");
            seen += number == seen + 1;
            p++;
        } else if (n > 0) {
            bool digits = strspn(p, "0123456789") == n;
            invariant(digits || is_word(p, n), "SQL is made of fixed words");
            p += n;
        } else {
            invariant(strchr(" (),=<>->+*/~'", *p) != NULL, "SQL is made of fixed signs");
            p++;
        }
    }
    invariant(seen == count, "each parameter is used");
}

static store_result run_sqlite(store *base, bool keep, const char *sql, const store_value *parameters, size_t count,
                               bool (*each)(void *ctx, const store_value *columns, size_t n), void *ctx)
{
    check_sql(sql, count);
    return store_sqlite.run(base, keep, sql, parameters, count, each, ctx);
}

static store_result run_postgres(store *base, bool keep, const char *sql, const store_value *parameters, size_t count,
                                 bool (*each)(void *ctx, const store_value *columns, size_t n), void *ctx)
{
    (void)base;
    (void)keep;
    (void)parameters;
    (void)each;
    (void)ctx;
    check_sql(sql, count);
    return STORE_OK;
}

static store_result limit_nothing(store *base, unsigned ms)
{
    (void)base;
    (void)ms;
    return STORE_OK;
}

/* ---- rows ---- */

static pep_view view_of(const char *text)
{
    return (pep_view){(const uint8_t *)text, strlen(text)};
}

/* Every fifth row has a text that is written like a number, and every third no alarm. */
static size_t make_facts(uint8_t out[PEP_FACTS_MAX], known_row *row, unsigned i)
{
    size_t n;
    size_t count = 0;
    pep_fact facts[4];
    snprintf(row->temp, sizeof row->temp, "%d", (int)(i % 7) - 3);
    snprintf(row->site, sizeof row->site, "s-%u", i % 3);
    snprintf(row->n, sizeof row->n, "%u", 20 + i % 2);
    snprintf(row->alarm, sizeof row->alarm, "%s", i % 3 == 0 ? "" : i % 2 ? "true" : "false");
    facts[count++] = (pep_fact){.key = view_of("temp"), .type = PEP_FACT_INT, .integer = (int)(i % 7) - 3};
    facts[count++] = (pep_fact){.key = view_of("site"), .type = PEP_FACT_TEXT, .text = view_of(row->site)};
    facts[count++] = (pep_fact){.key = view_of("n"), .type = PEP_FACT_INT, .integer = 20 + i % 2};
    if (i % 5 == 0)
        facts[count - 1] = (pep_fact){.key = view_of("n"), .type = PEP_FACT_TEXT, .text = view_of(row->n)};
    if (i % 3 != 0)
        facts[count++] = (pep_fact){.key = view_of("alarm"), .type = PEP_FACT_BOOL, .integer = i % 2};
    must(pep_facts_encode(out, &n, facts, count) == PEP_OK, "facts");
    return n;
}

static void fill(void)
{
    static batch b;
    uint8_t facts[PEP_FACTS_MAX];
    const uint8_t kid[PEP_KID_BYTES] = {1};
    b.l = &office;
    b.id = 1;
    for (unsigned i = 0; i < ROWS; i++) {
        rows[i].time = TIME + i / 2;
        rows[i].topic = topics[i % COUNT(topics)];
        rows[i].signer = people[i % COUNT(people)];
        const ledger_entry e = {.time_us = rows[i].time,
                                .topic = rows[i].topic,
                                .topic_n = strlen(rows[i].topic),
                                .signer = rows[i].signer,
                                .kid = kid,
                                .seq = i,
                                .facts = {facts, make_facts(facts, &rows[i], i)}};
        must(batch_add(&b, &e), "a row");
    }
    must(store_begin(s) == STORE_OK && batch_work(&b.job, s) == STORE_OK && store_commit(s) == STORE_OK, "rows");
}

/* ---- the ledger without its threads ---- */

static void take_answer(void *ctx, directory_request *request, const char *json, size_t n)
{
    (void)ctx;
    (void)request;
    invariant(json != NULL && strlen(json) == n, "there is an answer");
    answered = strdup(json);
}

static void ignore_line(void *ctx, char level, const char *line)
{
    (void)ctx;
    (void)level;
    (void)line;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    store_result result;
    store_error error;
    char url[600];
    (void)argc;
    (void)argv;
    must(pep_init() == PEP_OK, "libsodium");
    snprintf(url, sizeof url, "sqlite:%s", fuzz_path("ledger.db"));
    const store_schema schema = ledger_schema(false);
    s = store_open_schema(&result, &error, url, &schema);
    must(s != NULL, error.text);
    office.hooks = (ledger_hooks){NULL, take_answer, ignore_line};
    fill();
    checked_sqlite = store_sqlite;
    checked_sqlite.run = run_sqlite;
    s->backend = &checked_sqlite;
    checked_postgres = store_postgres;
    checked_postgres.run = run_postgres;
    checked_postgres.limit = limit_nothing;
    postgres.backend = &checked_postgres;
    return 0;
}

/* ---- the same rows, counted the plain way ---- */

static const cJSON *member(const cJSON *command, const char *name)
{
    return cJSON_GetObjectItemCaseSensitive(command, name);
}

static bool has_field(const known_row *row, const cJSON *field)
{
    const struct {
        const char *name, *value;
    } fields[] = {{"temp", row->temp}, {"site", row->site}, {"alarm", row->alarm}, {"n", row->n}};
    for (size_t i = 0; i < COUNT(fields); i++)
        if (strcmp(fields[i].name, field->string) == 0)
            return fields[i].value[0] != '\0' && strcmp(fields[i].value, field->valuestring) == 0;
    return false;
}

static bool is_meant(const known_row *row, const cJSON *command, const char *only)
{
    const cJSON *field;
    const cJSON *from = member(command, "from");
    const cJSON *to = member(command, "to");
    const cJSON *before = member(command, "before");
    const char *topic = json_get_text(command, "topic");
    const char *signer_ = json_get_text(command, "signer");
    bool ok = (from == NULL || (double)row->time >= from->valuedouble) &&
              (to == NULL || (double)row->time < to->valuedouble) &&
              (before == NULL || (double)row->time < before->valuedouble) &&
              (topic == NULL || reference_matches(topic, view_of(row->topic))) &&
              (signer_ == NULL || strcmp(signer_, row->signer) == 0) &&
              (only == NULL || strcmp(only, row->signer) == 0);
    cJSON_ArrayForEach(field, member(command, "fields"))
    {
        ok = ok && has_field(row, field);
    }
    return ok;
}

static double count_meant(const cJSON *command, const char *only)
{
    double n = 0;
    for (unsigned i = 0; i < ROWS; i++)
        n += is_meant(&rows[i], command, only);
    return n;
}

/* ---- answers ---- */

static bool is_known_error(const char *error)
{
    static const pep_reason known[] = {PEP_NOT_AUTHORIZED, PEP_BAD_COMMAND, PEP_TOO_MANY};
    for (size_t i = 0; i < COUNT(known); i++)
        if (strcmp(error, pep_reason_name(known[i])) == 0)
            return true;
    return false;
}

static void judge_rows(const cJSON *data, const cJSON *command, const char *only)
{
    const cJSON *row;
    const cJSON *list = member(data, "rows");
    const cJSON *asked = member(command, "count");
    double count = asked == NULL ? QUERY_COUNT : asked->valuedouble;
    double meant = count_meant(command, only);
    double n = cJSON_GetArraySize(list);
    invariant(n <= count && n <= meant, "an answer has no more rows than were asked for");
    if (member(command, "after") == NULL) {
        invariant(n == (count < meant ? count : meant), "an answer has the rows that were asked for");
        invariant((member(data, "next") != NULL) == (n < meant), "there is a next page where there are more");
    }
    cJSON_ArrayForEach(row, list)
    {
        const cJSON *seq = member(row, "seq");
        invariant(cJSON_IsNumber(seq) && seq->valuedouble < ROWS, "a row has its seq");
        invariant(is_meant(&rows[(unsigned)seq->valuedouble], command, only), "a row was asked for");
    }
}

static void judge_groups(const cJSON *data, const cJSON *command, const char *only)
{
    const cJSON *group;
    const cJSON *list = member(data, "groups");
    double n = 0;
    invariant(cJSON_GetArraySize(list) <= GROUPS_MAX, "there are not too many groups");
    cJSON_ArrayForEach(group, list)
    {
        const char *who = json_get_text(group, "signer");
        invariant(only == NULL || who == NULL || strcmp(who, only) == 0, "others' rows are not in a device's sums");
        n += cJSON_GetNumberValue(member(group, "count"));
    }
    invariant(n == count_meant(command, only), "groups have all rows that were asked for");
}

static void judge(const cJSON *command, const char *only)
{
    cJSON *root = cJSON_Parse(answered);
    const cJSON *response = cJSON_GetArrayItem(member(root, "responses"), 0);
    const char *error = json_get_text(response, "error");
    const char *name = json_get_text(command, "command");
    const cJSON *data = member(response, "data");
    invariant(cJSON_IsString(member(response, "command")), "an answer names a command");
    invariant((error != NULL) != cJSON_IsObject(data), "an answer has an error or data");
    invariant(error == NULL || is_known_error(error), "an error is one of those that a command can have");
    if (member(data, "rows") != NULL)
        judge_rows(data, command, only);
    else if (member(data, "groups") != NULL)
        judge_groups(data, command, only);
    else if (error == NULL && strcmp(name, "ledger.forget") == 0)
        invariant(cJSON_GetNumberValue(member(data, "count")) == count_meant(command, only), "what is meant is erased");
    invariant(error != NULL || only == NULL || member(data, "rows") != NULL || member(data, "groups") != NULL,
              "a device erases nothing");
    cJSON_Delete(root);
}

/* ---- questions ---- */

/* As the worker and ask_done do it. */
static void ask(store *to, directory_request *request)
{
    ask_job *a = ask_new(&office, request);
    if (a == NULL)
        abort();
    office.asked++;
    do {
        a->job.result = a->job.work(&a->job, to);
        if (a->job.result == STORE_OK && a->reason == PEP_OK)
            a->done = a->doing;
    } while (a->job.result == STORE_OK && a->reason == PEP_OK && a->more);
    invariant(a->job.result == STORE_OK, "the database takes what is asked");
    ask_end(a);
}

static void question(unsigned who, pep_view json)
{
    static control_client asker; /* who never goes */
    directory_request request = {.asker = &asker, .admin = who == ADMIN};
    snprintf(request.id, sizeof request.id, "%s", people[who]);
    request.command = json_parse(json.p, json.n);
    if (!cJSON_IsObject(request.command)) {
        cJSON_Delete(request.command);
        return;
    }
    must(store_begin(s) == STORE_OK, "a transaction");
    ask(s, &request);
    store_rollback(s);
    judge(request.command, who == ADMIN ? NULL : people[who]);
    free(answered);
    ask(&postgres, &request);
    free(answered);
    cJSON_Delete(request.command);
}

/* ---- facts ---- */

/* U+0000 cannot be kept, and becomes U+FFFD. */
static bool is_same(const char *text, pep_view v)
{
    for (size_t i = 0; i < v.n; i++) {
        bool same = v.p[i] == 0 ? strncmp(text, "\xef\xbf\xbd", 3) == 0 : (uint8_t)*text == v.p[i];
        if (!same)
            return false;
        text += v.p[i] == 0 ? 3 : 1;
    }
    return *text == '\0';
}

static void judge_found(const text_buffer *json, const pep_fact *fact)
{
    pep_view value;
    int64_t number;
    text_buffer name = {0};
    text_buffer text = {0};
    text_add_json(&name, fact->key.n == 0 ? "" : (const char *)fact->key.p, fact->key.n);
    bool found = text_find_fact(&value, (pep_view){(const uint8_t *)json->p, json->n},
                                (pep_view){(const uint8_t *)name.p, name.n});
    invariant(found, "a fact is found by its name");
    text_add_value(&text, value);
    if (fact->type == PEP_FACT_TEXT)
        invariant(is_same(text.p, fact->text), "a text is read as it was");
    else if (fact->type == PEP_FACT_INT)
        invariant(text_read_number(&number, value) && number == fact->integer, "a number is read as it was");
    else
        invariant(strcmp(text.p, fact->integer != 0 ? "true" : "false") == 0, "a boolean is read as it was");
    free(name.p);
    free(text.p);
}

static void judge_item(const cJSON *item, const pep_fact *fact)
{
    invariant(item != NULL && is_same(item->string, fact->key), "JSON has all keys");
    if (fact->type == PEP_FACT_TEXT)
        invariant(cJSON_IsString(item) && is_same(item->valuestring, fact->text), "JSON has a fact's text");
    else if (fact->type == PEP_FACT_INT)
        invariant(cJSON_IsNumber(item) && item->valuedouble == (double)fact->integer, "JSON has a fact's number");
    else
        invariant(cJSON_IsBool(item) && cJSON_IsTrue(item) == (fact->integer != 0), "JSON has a fact's boolean");
}

/* Keys that differ in U+0000 and U+FFFD alone become one: the first is found. */
static bool has_nul(pep_view facts)
{
    return memchr(facts.p, 0, facts.n) != NULL;
}

static void encode(pep_view bytes)
{
    pep_reader r = {.p = bytes.p, .end = bytes.p + bytes.n};
    pep_view facts;
    pep_fact fact;
    text_buffer json = {0};
    if (!parse_facts(&r, &facts))
        return;
    text_add_facts(&json, facts);
    cJSON *object = cJSON_ParseWithLength(json.p, json.n + 1);
    invariant(!json.failed && cJSON_IsObject(object), "facts become JSON");
    const cJSON *item = object->child;
    for (size_t at = 0; pep_facts_next(&fact, &at, facts); item = item->next) {
        judge_item(item, &fact);
        if (!has_nul(facts))
            judge_found(&json, &fact);
    }
    invariant(item == NULL, "JSON has no more than the facts");
    cJSON_Delete(object);
    free(json.p);
}

/* What is no JSON of ours, as when somebody writes into the database, is read without harm. */
static void find_anywhere(pep_view bytes)
{
    pep_view value = {NULL, 0};
    text_buffer text = {0};
    int64_t number;
    uint8_t *copy = fuzz_memory(bytes.n);
    memcpy(copy, bytes.p == NULL ? copy : bytes.p, bytes.n);
    if (text_find_fact(&value, (pep_view){copy, bytes.n}, view_of("\"n\""))) {
        text_add_value(&text, value);
        (void)text_read_number(&number, value);
    }
    free(text.p);
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    pep_view in = {data, n};
    unsigned who = take_byte(&in) % 4;
    if (who != FACTS) {
        question(who, in);
        return 0;
    }
    encode(in);
    find_anywhere(in);
    return 0;
}
