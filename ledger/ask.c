/* Questions: from the command's JSON to the answer's. Everything in a command comes from strangers. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ledger/internal.h"

#define MEMBERS_MAX 11

typedef struct ask_kind {
    const char *name;
    bool writes; /* by the writer's thread */
    bool admins; /* alone may */
    store_result (*run)(ask_job *a, store *s);
    const char *members[MEMBERS_MAX];
} ask_kind;

static const ask_kind kinds[] = {
    {"ledger.query", false, false, run_query, {"from", "to", "topic", "signer", "fields", "newest", "count", "after"}},
    {"ledger.sum", false, false, run_sum, {"from", "to", "topic", "signer", "fields", "of", "by", "byField"}},
    {"ledger.erasures", false, true, run_erasures, {NULL}},
    {"ledger.forget", true, true, run_forget, {"topic", "signer", "before"}},
};

/* ---- refusing ---- */

store_result ask_refuse(ask_job *a, pep_reason reason, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(a->text, sizeof a->text, format, args);
    va_end(args);
    a->reason = reason;
    return STORE_OK;
}

store_result ask_no_memory(ask_job *a)
{
    a->text[0] = '\0';
    a->reason = PEP_NO_MEMORY;
    return STORE_OK;
}

static bool wrong(ask_job *a, const char *name)
{
    ask_refuse(a, PEP_BAD_COMMAND, "%s is not what it must be", name);
    return false;
}

/* ---- reading ---- */

static const cJSON *member(const ask_job *a, const char *name)
{
    return cJSON_GetObjectItemCaseSensitive(a->request->command, name);
}

/* json_parse has seen to it that numbers are whole and from 0 to 2^53-1. */
bool ask_number(ask_job *a, uint64_t *out, const char *name)
{
    const cJSON *item = member(a, name);
    if (item == NULL)
        return true;
    if (!cJSON_IsNumber(item))
        return wrong(a, name);
    *out = (uint64_t)item->valuedouble;
    return true;
}

/* Longer than all facts together none can be. */
bool ask_field_name(ask_job *a, const char *member_name, const char *text)
{
    return (text != NULL && strlen(text) <= PEP_FACTS_MAX) || wrong(a, member_name);
}

static bool read_fields(ask_job *a, conditions *out)
{
    const cJSON *item;
    const cJSON *fields = member(a, "fields");
    if (fields == NULL)
        return true;
    int n = cJSON_GetArraySize(fields);
    if (!cJSON_IsObject(fields) || n < 1 || n > FIELDS_MAX)
        return wrong(a, "fields");
    cJSON_ArrayForEach(item, fields)
    {
        const char *value = cJSON_GetStringValue(item);
        if (!ask_field_name(a, "fields", item->string))
            return false;
        if (value == NULL || strlen(value) > PEP_FACTS_MAX)
            return wrong(a, "fields");
        out->fields[out->field_n].name = item->string;
        out->fields[out->field_n++].value = value;
    }
    return true;
}

static bool read_topic(ask_job *a, conditions *out)
{
    out->topic = json_get_text(a->request->command, "topic");
    if (member(a, "topic") == NULL)
        return true;
    if (out->topic == NULL || !pep_filter_valid(out->topic, strlen(out->topic)))
        return wrong(a, "topic");
    out->wild = strpbrk(out->topic, "+#") != NULL;
    if (out->wild && strlen(out->topic) > WILD_MAX) {
        ask_refuse(a, PEP_BAD_COMMAND, "topic: a filter with wildcards has at most %d bytes", WILD_MAX);
        return false;
    }
    return true;
}

/* Whoever is no admin is shown what it signed itself. */
static bool read_signer(ask_job *a, conditions *out)
{
    const directory_request *r = a->request;
    out->signer = json_get_text(r->command, "signer");
    if (member(a, "signer") != NULL && (out->signer == NULL || !pep_id_valid(out->signer, strlen(out->signer))))
        return wrong(a, "signer");
    if (r->admin)
        return true;
    if (out->signer != NULL && strcmp(out->signer, r->id) != 0) {
        ask_refuse(a, PEP_NOT_AUTHORIZED, "others' messages are for admins to ask for");
        return false;
    }
    out->signer = r->id;
    return true;
}

bool ask_conditions(ask_job *a, conditions *out)
{
    *out = (conditions){.to_us = INT64_MAX};
    return ask_number(a, &out->from_us, "from") && ask_number(a, &out->to_us, "to") && read_topic(a, out) &&
           read_signer(a, out) && read_fields(a, out);
}

static bool member_known(const ask_kind *kind, const char *name)
{
    bool known = strcmp(name, "command") == 0 || strcmp(name, "correlationData") == 0;
    for (size_t i = 0; !known && i < MEMBERS_MAX && kind->members[i] != NULL; i++)
        known = strcmp(kind->members[i], name) == 0;
    return known;
}

static bool judge(ask_job *a)
{
    const cJSON *command = a->request->command;
    if (a->kind == NULL)
        ask_refuse(a, PEP_BAD_COMMAND, "there is no such command");
    else if (a->kind->admins && !a->request->admin)
        ask_refuse(a, PEP_NOT_AUTHORIZED, "%s is for admins", a->kind->name);
    for (const cJSON *item = command->child; a->reason == PEP_OK && item != NULL; item = item->next)
        if (!member_known(a->kind, item->string))
            ask_refuse(a, PEP_BAD_COMMAND, "%s has no field of that name", a->kind->name);
    return a->reason == PEP_OK;
}

/* ---- answers ---- */

bool add_number(cJSON *object, const char *name, uint64_t number)
{
    char digits[24];
    snprintf(digits, sizeof digits, "%llu", (unsigned long long)number);
    return cJSON_AddRawToObject(object, name, digits) != NULL;
}

static bool fill(cJSON *response, ask_job *a)
{
    const char *correlation = json_get_text(a->request->command, "correlationData");
    bool ok = json_add_text(response, "command", a->kind == NULL ? "" : a->kind->name);
    if (ok && a->reason == PEP_OK && a->data != NULL && cJSON_AddItemToObject(response, "data", a->data))
        a->data = NULL;
    else
        ok = ok && json_add_text(response, "error", pep_reason_name(a->reason)) &&
             json_add_text(response, "text", a->text[0] != '\0' ? a->text : pep_reason_text(a->reason));
    return ok && (correlation == NULL || json_add_text(response, "correlationData", correlation));
}

/* NULL: no memory. */
static char *answer_text(ask_job *a)
{
    cJSON *root = cJSON_CreateObject();
    cJSON *responses = cJSON_AddArrayToObject(root, "responses");
    cJSON *response = cJSON_CreateObject();
    bool ok = cJSON_AddItemToArray(responses, response);
    if (!ok)
        cJSON_Delete(response);
    char *text = ok && fill(response, a) ? cJSON_PrintUnformatted(root) : NULL;
    cJSON_Delete(root);
    return text;
}

static void judge_result(ask_job *a)
{
    if (a->job.result == STORE_OK)
        return;
    a->text[0] = '\0';
    a->reason = a->job.result == STORE_AWAY ? PEP_TRY_LATER : PEP_STORE_FAILED;
    if (a->job.result == STORE_SLOW)
        ask_refuse(a, PEP_TOO_MANY, "it takes too long: ask for a shorter time");
}

void ask_end(ask_job *a)
{
    ledger *l = a->l;
    judge_result(a);
    if (a->reason == PEP_OK && a->data == NULL)
        ask_no_memory(a);
    char *text = answer_text(a);
    l->asked--;
    l->hooks.answer(l->hooks.ctx, a->request, text, text == NULL ? 0 : strlen(text));
    free(text);
    cJSON_Delete(a->data);
    free(a);
}

/* ---- jobs ---- */

static store_result ask_work(store_job *job, store *s)
{
    ask_job *a = (ask_job *)job;
    cJSON_Delete(a->data); /* of a transaction that failed */
    a->data = NULL;
    a->reason = PEP_OK;
    a->answer_n = 0;
    a->more = false;
    a->doing = a->done;
    if (!judge(a) || (!a->kind->writes && directory_asker_gone(a->request)))
        return STORE_OK;
    store_result result = a->kind->writes ? STORE_OK : store_limit(s, a->request->admin ? ADMIN_MS : SIGNER_MS);
    return result == STORE_OK ? a->kind->run(a, s) : result;
}

static void ask_late(ask_job *a)
{
    a->job.result = STORE_AWAY;
    ask_end(a);
}

static void ask_done(store_job *job)
{
    ask_job *a = (ask_job *)job;
    bool good = job->result == STORE_OK && a->reason == PEP_OK;
    bool overtook = good && a->kind->writes && a->l->held.first != NULL; /* what was recorded before it, and failed */
    a->done = good ? a->doing : a->done;
    if (good && a->more)
        ask_again(a);
    else if (overtook)
        ask_late(a);
    else if (good && a->kind->writes)
        forget_wait(a);
    else
        ask_end(a);
}

/* What an admin asks goes before what others do; what erases goes behind what was recorded before. */
static bool add(ask_job *a)
{
    ledger *l = a->l;
    if (a->kind != NULL && a->kind->writes)
        return store_worker_add_later(l->writer, &a->job);
    return (a->request->admin ? store_worker_add : store_worker_add_later)(l->reader, &a->job);
}

void ask_again(ask_job *a)
{
    if (a->l->closing || !add(a))
        ask_late(a);
}

static const ask_kind *kind_of(const cJSON *command)
{
    const char *name = json_get_text(command, "command");
    for (size_t i = 0; name != NULL && i < COUNT(kinds); i++)
        if (strcmp(kinds[i].name, name) == 0)
            return &kinds[i];
    return NULL;
}

ask_job *ask_new(ledger *l, directory_request *request)
{
    ask_job *a = calloc(1, sizeof *a);
    if (a == NULL)
        return NULL;
    *a = (ask_job){.job = {.work = ask_work, .done = ask_done}, .l = l, .request = request};
    a->kind = kind_of(request->command);
    return a;
}

void ledger_ask(ledger *l, directory_request *request)
{
    ask_job *a = ask_new(l, request);
    if (a == NULL) {
        l->hooks.answer(l->hooks.ctx, request, NULL, 0);
        return;
    }
    bool in_order = a->kind == NULL || !a->kind->writes || ledger_hand_over(l);
    unsigned most = request->admin ? ASKED_MAX : ASKED_OTHERS;
    if (l->asked++ < most && in_order)
        ask_again(a);
    else
        ask_late(a);
}
