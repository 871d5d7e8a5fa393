/*
 * A control message from its bytes to its answer: JSON, plain or sealed; who signed it; and its commands, one by one.
 * Everything in it comes from strangers.
 */
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "directory/commands.h"
#include "envelope/parse.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#define CORRELATION_MAX 1024
#define FIELDS_MAX      8
#define ANY_FIELD       "" /* whoever carries it out judges them */
#define FIELD_SHOWN     64 /* bytes of a field's name that an error repeats */
#define TOLD_MAX        (3 * PEP_ID_MAX + 64)

typedef struct {
    const char *name;
    bool once; /* it has to be sealed, and counts once: it changes something, or is for its signer's eyes */
    store_result (*run)(session *x, command *c);
    const char *fields[FIELDS_MAX];
} command_kind;

static const command_kind kinds[] = {
    {"enroll", true, run_enroll, {"record", "certificate", "proof"}},
    {"rotate", true, run_rotate, {"rotation", "certificate"}},
    {"revoke", true, run_revoke, {"revocation"}},
    {"token", true, run_token, {"id", "token", "expires"}},
    {"lookup", false, run_lookup, {"id", "kid", "ids", "kids"}},
    {"list", false, run_list, {"after", "count"}},
    {"history", false, run_history, {"id", "after"}},
    {"status", false, run_status, {NULL}},
    {"ledger.query", true, run_ledger, {ANY_FIELD}},
    {"ledger.sum", true, run_ledger, {ANY_FIELD}},
    {"ledger.erasures", true, run_ledger, {ANY_FIELD}},
    {"ledger.forget", true, run_ledger, {ANY_FIELD}},
};

/* ---- what commands share ---- */

store_result refuse(command *c, pep_reason reason)
{
    c->reason = reason;
    return STORE_OK;
}

store_result refuse_with(command *c, pep_reason reason, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(c->text, sizeof c->text, format, args);
    va_end(args);
    return refuse(c, reason);
}

bool has_room(session *x, command *c, size_t n)
{
    x->answer_bytes += n;
    if (x->answer_bytes <= ANSWER_BYTES_MAX)
        return true;
    refuse_with(c, PEP_TOO_MANY, "the answer would be larger than %zu bytes: ask for less at once", ANSWER_BYTES_MAX);
    return false;
}

bool may_look_up(session *x, command *c, unsigned n)
{
    x->look_ups += n;
    if (x->look_ups <= LOOK_UPS_MAX)
        return true;
    refuse_with(c, PEP_TOO_MANY, "more than %d look-ups in one message: ask for less at once", LOOK_UPS_MAX);
    return false;
}

/* NULL, and bad-command where it must be there. */
static const cJSON *member(command *c, const char *name, bool needed)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(c->request, name);
    if (item == NULL && needed)
        refuse_with(c, PEP_BAD_COMMAND, "%s is missing", name);
    return item;
}

static bool is_wrong(command *c, const char *name)
{
    refuse_with(c, PEP_BAD_COMMAND, "%s is not what it must be", name);
    return false;
}

bool want_bytes(command *c, uint8_t *out, size_t *n, size_t cap, const char *name, bool needed)
{
    const cJSON *item = member(c, name, needed);
    *n = 0;
    if (item == NULL)
        return !needed;
    const char *text = cJSON_GetStringValue(item);
    return (text != NULL && json_get_bytes(out, n, cap, text)) || is_wrong(c, name);
}

bool want_id(command *c, const char **out, const char *name, bool needed)
{
    const cJSON *item = member(c, name, needed);
    *out = NULL;
    if (item == NULL)
        return !needed;
    const char *text = cJSON_GetStringValue(item);
    if (text == NULL || !pep_id_valid(text, strlen(text)))
        return is_wrong(c, name);
    *out = text;
    return true;
}

bool want_kid(command *c, uint8_t kid[PEP_KID_BYTES], const char *name)
{
    const cJSON *item = member(c, name, true);
    if (item == NULL)
        return false;
    const char *text = cJSON_GetStringValue(item);
    return (text != NULL && json_get_kid(kid, text)) || is_wrong(c, name);
}

bool want_number(command *c, uint64_t *out, const char *name, bool needed)
{
    const cJSON *item = member(c, name, needed);
    if (item == NULL)
        return !needed;
    if (!cJSON_IsNumber(item))
        return is_wrong(c, name);
    *out = (uint64_t)item->valuedouble;
    return true;
}

void count_verified(session *x, pep_reason reason)
{
    if (reason != PEP_OK && reason != PEP_BAD_SIGNATURE)
        return; /* it did not come to that */
    x->job->verified = true;
    x->job->bad |= reason == PEP_BAD_SIGNATURE;
}

static void bring(session *x, brought *b)
{
    b->reason = pep_statement_parse(&b->statement, b->bytes, b->n);
    if (b->statement.kind != PEP_STATEMENT_REVOCATION)
        count_verified(x, b->reason);
}

bool want_statement(session *x, command *c, const brought **out, const char *name, brought *mine)
{
    brought *b = x->has_brought ? &x->brought : mine;
    if (!x->has_brought) {
        if (!want_bytes(c, b->bytes, &b->n, sizeof b->bytes, name, true))
            return false;
        bring(x, b);
    }
    *out = b;
    if (b->reason != PEP_OK) {
        refuse(c, b->reason);
        return false;
    }
    c->has_signer = true;
    memcpy(c->signer_kid, b->statement.signer_kid, sizeof c->signer_kid);
    return true;
}

store_result visible_head(session *x, key_row *out, bool *found, const char *id)
{
    store_result result = rows_head(x->s, out, found, id);
    if (result == STORE_OK && *found && !registrar_sees(x->r, out))
        *found = false;
    return result;
}

/* ---- who signed it ---- */

static const command_kind *kind_of(const char *name)
{
    for (size_t i = 0; name != NULL && i < COUNT(kinds); i++)
        if (strcmp(kinds[i].name, name) == 0)
            return &kinds[i];
    return NULL;
}

/* What can be said about an envelope before it is known who signed it. */
static pep_reason judge_envelope(const session *x, const pep_envelope *e)
{
    static const char topic[] = PEP_CONTROL_TOPIC;
    uint64_t now_s = x->now_us / 1000000;
    if (e->topic.n != sizeof topic - 1 || memcmp(e->topic.p, topic, e->topic.n) != 0)
        return PEP_WRONG_TOPIC;
    if ((e->flags & ~(PEP_FLAG_SIGNED_ONLY | PEP_FLAG_COUNTER)) != 0)
        return PEP_MISPLACED_FLAG;
    if (e->audience == NULL || memcmp(e->audience, x->r->gate_kid, PEP_KID_BYTES) != 0)
        return PEP_WRONG_AUDIENCE;
    if (e->exp_s == 0 || e->exp_s > now_s + PEP_COMMAND_LIFE_S + SKEW_S)
        return PEP_BAD_COMMAND; /* it could be replayed for long, and would have to be remembered as long */
    if (e->exp_s < now_s)
        return PEP_EXPIRED;
    if ((e->flags & PEP_FLAG_COUNTER) == 0 && e->seq > x->now_us + PEP_MAX_SKEW_US)
        return PEP_FUTURE_SEQ;
    return PEP_OK;
}

/* The statement in the only command, where that one brings its own signer. */
static bool read_brought(session *x, const cJSON *request)
{
    static const struct {
        const char *command;
        const char *field;
    } bringing[] = {{"enroll", "record"}, {"rotate", "rotation"}};
    const char *name = json_get_text(request, "command");
    for (size_t i = 0; name != NULL && i < COUNT(bringing); i++) {
        const char *text = json_get_text(request, bringing[i].field);
        if (strcmp(name, bringing[i].command) != 0 || text == NULL ||
            !json_get_bytes(x->brought.bytes, &x->brought.n, sizeof x->brought.bytes, text))
            continue;
        bring(x, &x->brought);
        x->has_brought = true;
        return true;
    }
    return false;
}

static bool kids_equal(const uint8_t a[PEP_KID_BYTES], const uint8_t b[PEP_KID_BYTES])
{
    return memcmp(a, b, PEP_KID_BYTES) == 0;
}

/*
 * The key to verify with: that of a current key in the store, also of one that has expired, which must be able to be
 * renewed; or, for the one command that brings it, the new key, or the old one where the rotation was stored already
 * and its acknowledgement was lost. NULL: nobody's.
 */
static store_result find_signer(session *x, const uint8_t **out, const uint8_t *kid, const cJSON *commands)
{
    bool found;
    *out = NULL;
    store_result result = rows_key(x->s, &x->signer, &found, kid);
    if (result != STORE_OK)
        return result;
    found = found && x->signer.has_key && registrar_sees(x->r, &x->signer);
    x->known = found && x->signer.state == SIGNER_CURRENT;
    bool only = cJSON_GetArraySize(commands) == 1;
    if (x->known)
        *out = x->signer.sign_public;
    if (x->known || !only || !read_brought(x, commands->child) || x->brought.reason != PEP_OK)
        return STORE_OK;
    const pep_statement *st = &x->brought.statement;
    if (st->kind != PEP_STATEMENT_REVOCATION && kids_equal(st->record.sign_kid, kid))
        *out = st->record.sign_public;
    else if (found && st->kind == PEP_STATEMENT_ROTATION && kids_equal(st->old_kid, kid))
        *out = x->signer.sign_public;
    return STORE_OK;
}

static pep_reason verify(session *x, const pep_envelope *e, const uint8_t *sign_public)
{
    uint8_t kid[PEP_KID_BYTES];
    size_t work_n = PEP_WORK_BYTES(e->size);
    pep_kid_sign(kid, sign_public);
    uint8_t *work = kids_equal(kid, e->kid) ? malloc(work_n) : NULL;
    if (work == NULL)
        return PEP_NOT_AUTHORIZED;
    pep_reason reason = pep_verify_key(work, work_n, e, sign_public);
    free(work);
    count_verified(x, reason);
    return reason == PEP_OK ? PEP_OK : PEP_NOT_AUTHORIZED;
}

static store_result authenticate(session *x, pep_reason *reason, const pep_envelope *e, const cJSON *commands)
{
    const uint8_t *sign_public;
    *reason = judge_envelope(x, e);
    if (*reason != PEP_OK)
        return STORE_OK;
    store_result result = find_signer(x, &sign_public, e->kid, commands);
    if (result != STORE_OK)
        return result;
    if (sign_public != NULL)
        *reason = verify(x, e, sign_public);
    else
        *reason = x->has_brought && x->brought.reason != PEP_OK ? x->brought.reason : PEP_NOT_AUTHORIZED;
    x->admin = *reason == PEP_OK && x->known && registrar_is_admin(x->r, &x->signer, x->now_us / 1000000);
    return STORE_OK;
}

/* ---- one command ---- */

static bool field_known(const command_kind *kind, const char *name)
{
    if (strcmp(name, "command") == 0 || strcmp(name, "correlationData") == 0)
        return true;
    for (size_t i = 0; i < FIELDS_MAX && kind->fields[i] != NULL; i++)
        if (strcmp(kind->fields[i], ANY_FIELD) == 0 || strcmp(kind->fields[i], name) == 0)
            return true;
    return false;
}

static bool correlation_valid(const cJSON *request)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(request, "correlationData");
    return item == NULL || (cJSON_IsString(item) && strlen(item->valuestring) <= CORRELATION_MAX);
}

/* How many bytes of it are shown: whole characters, for the answer must be UTF-8. */
static int shown(const char *text)
{
    int n = (int)strnlen(text, FIELD_SHOWN + 1);
    if (n <= FIELD_SHOWN)
        return n;
    for (n = FIELD_SHOWN; n > 0 && ((unsigned char)text[n] & 0xc0) == 0x80; n--)
        ;
    return n;
}

static bool judge_fields(command *c, const command_kind *kind)
{
    if (!correlation_valid(c->request)) {
        refuse_with(c, PEP_BAD_COMMAND, "correlationData is not what it must be");
        return false;
    }
    for (const cJSON *field = c->request->child; field != NULL; field = field->next)
        if (!field_known(kind, field->string)) {
            refuse_with(c, PEP_BAD_COMMAND, "%s has no field \"%.*s\"", kind->name, shown(field->string),
                        field->string);
            return false;
        }
    return true;
}

static store_result run_command(session *x, command *c)
{
    const command_kind *kind = kind_of(c->name);
    if (kind == NULL)
        return refuse_with(c, PEP_BAD_COMMAND, "there is no such command");
    c->name = kind->name;
    if (kind->once && !x->sealed)
        return refuse_with(c, PEP_NOT_AUTHORIZED, "%s has to be sealed", kind->name);
    if (!judge_fields(c, kind))
        return STORE_OK;
    if (atomic_load(&x->r->answer_bytes) > ANSWERS_BYTES_MAX)
        return refuse(c, PEP_TRY_LATER);
    return kind->run(x, c);
}

/* ---- commands to the ledger ---- */

void control_free_requests(directory_request *first)
{
    for (directory_request *next; first != NULL; first = next) {
        next = first->next;
        cJSON_Delete(first->command);
        free(first);
    }
}

/* Handed on when this transaction is on disk: until then it may be carried out again. */
store_result run_ledger(session *x, command *c)
{
    if (!x->known)
        return refuse(c, PEP_NOT_AUTHORIZED);
    if (x->signer.not_after_s < x->now_us / 1000000)
        return refuse(c, PEP_EXPIRED_SIGNER);
    directory_request *r = calloc(1, sizeof *r);
    if (r == NULL || (r->command = cJSON_Duplicate(c->request, true)) == NULL) {
        free(r);
        return refuse(c, PEP_NO_MEMORY);
    }
    r->admin = x->admin;
    memcpy(r->id, x->signer.id, sizeof r->id);
    directory_request **at = &x->job->requests;
    while (*at != NULL)
        at = &(*at)->next;
    *at = r;
    c->handed_on = true;
    return STORE_OK;
}

/* ---- what operators read of it, where it is on disk ---- */

/* Whose key signed the statement that was brought: its own, an admin's, or an authority's. */
static store_result find_author(session *x, const command *c, char author[PEP_ID_MAX + 1])
{
    key_row key;
    bool found = false;
    store_result result = c->has_signer ? rows_key(x->s, &key, &found, c->signer_kid) : STORE_OK;
    author[0] = '\0';
    if (found)
        memcpy(author, key.id, sizeof key.id);
    return result;
}

static void describe(char out[TOLD_MAX], const session *x, const command *c, const char *author)
{
    const char *id = json_get_text(c->data, "id");
    const char *by = author[0] == '\0' ? "authority" : author;
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(c->data, "version");
    unsigned long long version = item == NULL ? 0 : (unsigned long long)item->valuedouble;
    out[0] = '\0';
    if (id == NULL)
        return;
    if (c->certified)
        snprintf(out, TOLD_MAX, "new certificate for %s, version %llu", id, version);
    else if (strcmp(c->name, "enroll") == 0)
        snprintf(out, TOLD_MAX, "enrolled %s, version %llu", id, version);
    else if (strcmp(c->name, "rotate") == 0)
        snprintf(out, TOLD_MAX, "rotated %s, version %llu, by %s", id, version,
                 author[0] == '\0' ? "authority" : "device");
    else if (strcmp(c->name, "revoke") == 0)
        snprintf(out, TOLD_MAX, "revoked %s, version %llu, by %s", id, version, by);
    else
        snprintf(out, TOLD_MAX, "token for %s, by %s", id, x->signer.id);
}

static store_result tell_change(session *x, const command *c)
{
    char line[TOLD_MAX];
    char author[PEP_ID_MAX + 1];
    control_job *job = x->job;
    if (!c->changed || c->reason != PEP_OK)
        return STORE_OK;
    store_result result = find_author(x, c, author);
    if (result != STORE_OK)
        return result;
    describe(line, x, c, author);
    size_t n = strlen(line) + 1;
    char *told = n == 1 ? NULL : realloc(job->told, job->told_n + n + 1);
    if (told == NULL)
        return STORE_OK;
    memcpy(told + job->told_n, line, n);
    job->told = told;
    job->told_n += n;
    told[job->told_n] = '\0';
    return STORE_OK;
}

/* What was refused leaves nothing behind, and what was done before it stays. */
static store_result run_marked(session *x, command *c)
{
    store_result result = store_mark(x->s);
    if (result == STORE_OK)
        result = run_command(x, c);
    if (result == STORE_OK)
        result = tell_change(x, c);
    if (result != STORE_OK)
        return result;
    x->job->wrote |= c->changed;
    return c->reason == PEP_OK ? store_keep(x->s) : store_undo(x->s);
}

/* ---- answers ---- */

static bool fill_response(cJSON *response, command *c)
{
    const char *correlation = correlation_valid(c->request) ? json_get_text(c->request, "correlationData") : NULL;
    bool ok = json_add_text(response, "command", c->name == NULL ? "" : c->name);
    if (c->reason == PEP_OK && c->data != NULL && cJSON_AddItemToObject(response, "data", c->data))
        c->data = NULL;
    else
        ok = ok && json_add_text(response, "error", pep_reason_name(c->reason)) &&
             json_add_text(response, "text", c->text[0] != '\0' ? c->text : pep_reason_text(c->reason));
    return ok && (correlation == NULL || json_add_text(response, "correlationData", correlation));
}

static void answer_command(session *x, cJSON *responses, command *c)
{
    if (c->handed_on) {
        x->job->commands++;
        return;
    }
    cJSON *response = cJSON_CreateObject();
    if (c->reason == PEP_OK && c->data == NULL)
        c->reason = PEP_NO_MEMORY;
    x->job->commands++;
    x->job->changes += c->reason == PEP_OK && c->changed;
    x->job->refused += c->reason != PEP_OK;
    if (response == NULL || !fill_response(response, c) || !cJSON_AddItemToArray(responses, response))
        cJSON_Delete(response);
    cJSON_Delete(c->data);
}

static bool finish_answer(control_job *job, cJSON *responses)
{
    if (responses != NULL && cJSON_GetArraySize(responses) == 0) { /* the ledger answers all of them */
        cJSON_Delete(responses);
        return true;
    }
    cJSON *root = cJSON_CreateObject();
    bool ok = root != NULL && responses != NULL && cJSON_AddItemToObject(root, "responses", responses);
    if (!ok)
        cJSON_Delete(responses);
    job->answer = ok ? cJSON_PrintUnformatted(root) : NULL;
    job->answer_n = job->answer == NULL ? 0 : strlen(job->answer);
    atomic_fetch_add(&job->r->answer_bytes, job->answer_n);
    cJSON_Delete(root);
    return job->answer != NULL;
}

/* The whole message is wrong: one answer, to no command. */
static store_result answer_message(session *x, pep_reason reason, const char *text)
{
    cJSON *responses = cJSON_CreateArray();
    command c = {.reason = reason};
    snprintf(c.text, sizeof c.text, "%s", text == NULL ? "" : text);
    if (responses != NULL)
        answer_command(x, responses, &c);
    finish_answer(x->job, responses);
    return STORE_OK;
}

/* ---- the message ---- */

/* The commands, or NULL: not {"commands":[...]} with 1 to 64 of them. */
static const cJSON *commands_of(const cJSON *root)
{
    const cJSON *commands = cJSON_GetObjectItemCaseSensitive(root, "commands");
    int count = cJSON_GetArraySize(commands);
    if (!cJSON_IsObject(root) || !cJSON_IsArray(commands) || root->child->next != NULL || count < 1 ||
        count > DIRECTORY_COMMANDS_MAX)
        return NULL;
    return commands;
}

static store_result run_all(session *x, cJSON *responses, const cJSON *commands, pep_reason reason)
{
    const cJSON *request;
    cJSON_ArrayForEach(request, commands)
    {
        store_result result = STORE_OK;
        const command_kind *kind = kind_of(json_get_text(request, "command"));
        command c = {.request = request, .name = json_get_text(request, "command"), .reason = reason};
        if (!cJSON_IsObject(request) || c.name == NULL)
            refuse_with(&c, PEP_BAD_COMMAND, "it does not say which command it is");
        else if (reason == PEP_OK)
            result = run_marked(x, &c);
        if (kind == NULL)
            c.name = NULL; /* no echo of what is none */
        if (result != STORE_OK) {
            cJSON_Delete(c.data);
            return result;
        }
        answer_command(x, responses, &c);
    }
    return STORE_OK;
}

static bool count_once(const cJSON *commands)
{
    const cJSON *request;
    cJSON_ArrayForEach(request, commands)
    {
        const command_kind *kind = kind_of(json_get_text(request, "command"));
        if (kind != NULL && kind->once)
            return true;
    }
    return false;
}

/*
 * A command that can change something counts once. Whoever is not in the store is remembered only where something came
 * of it: else strangers could fill the table, with keys that they make up. By that alone they get no standing either.
 */
static store_result run_once(session *x, cJSON *responses, const cJSON *commands, const pep_envelope *e)
{
    bool repeated;
    store_result result = store_mark(x->s);
    if (result == STORE_OK)
        result = rows_add_command(x->s, &repeated, e->kid, e->seq, e->exp_s + SKEW_S);
    if (result != STORE_OK)
        return result;
    x->job->wrote = true;
    unsigned refused = x->job->refused;
    result = run_all(x, responses, commands, repeated ? PEP_REPEATED_COMMAND : PEP_OK);
    if (result != STORE_OK)
        return result;
    bool counts = x->known || x->job->refused == refused;
    x->job->authentic = counts && !repeated;
    return counts ? store_keep(x->s) : store_undo(x->s);
}

/*
 * What only reads may come again, and so takes no place in the store, which may be full. It says nothing about who sent
 * it: it may have been overheard.
 */
static store_result run_sealed(session *x, cJSON *responses, const cJSON *commands, const pep_envelope *e)
{
    pep_reason reason;
    store_result result = authenticate(x, &reason, e, commands);
    if (result != STORE_OK)
        return result;
    if (reason != PEP_OK)
        return run_all(x, responses, commands, reason);
    if (count_once(commands))
        return run_once(x, responses, commands, e);
    x->job->verified = false;
    return run_all(x, responses, commands, PEP_OK);
}

static store_result run_json(session *x, pep_view json, const pep_envelope *e)
{
    cJSON *root = json_parse(json.p, json.n);
    const cJSON *commands = commands_of(root);
    cJSON *responses = cJSON_CreateArray();
    store_result result = STORE_OK;
    if (commands == NULL || responses == NULL)
        result = answer_message(x, PEP_BAD_COMMAND, "it is no JSON of the form {\"commands\":[...]}");
    else if (x->sealed)
        result = run_sealed(x, responses, commands, e);
    else
        result = run_all(x, responses, commands, PEP_OK);
    if (commands != NULL && responses != NULL && result == STORE_OK)
        finish_answer(x->job, responses);
    else
        cJSON_Delete(responses);
    cJSON_Delete(root);
    return result;
}

static store_result run_envelope(session *x, const uint8_t *p, size_t n)
{
    pep_envelope e;
    pep_meta meta;
    pep_view json;
    pep_reason reason = pep_parse(&e, p, n);
    if (reason != PEP_OK)
        return answer_message(x, reason, NULL);
    if (e.mode != PEP_MODE_SIGNED || !parse_content(&meta, &json, e.payload))
        return answer_message(x, PEP_BAD_COMMAND, "a command is signed only, and not encrypted");
    x->sealed = true;
    return run_json(x, json, &e);
}

/* It may be called again: then what came of it before counts no more. */
static void forget(control_job *job)
{
    atomic_fetch_sub(&job->r->answer_bytes, job->answer_n);
    control_free_requests(job->requests);
    free(job->answer);
    free(job->told);
    job->requests = NULL;
    job->answer = NULL;
    job->answer_n = 0;
    job->told = NULL;
    job->told_n = 0;
    job->verified = job->bad = job->authentic = job->wrote = false;
    job->commands = job->changes = job->refused = 0;
}

store_result control_work(store_job *job, store *s)
{
    control_job *control = (control_job *)job;
    forget(control);
    if (!control->sealed && atomic_load(&control->client->gone))
        return STORE_OK; /* nobody waits for it, and it changes nothing */
    session *x = calloc(1, sizeof *x);
    if (x == NULL)
        return STORE_FAILED;
    x->r = control->r;
    x->s = s;
    x->job = control;
    x->now_us = pep_now_us();
    store_result result;
    if (control->sealed)
        result = run_envelope(x, control->payload, control->n);
    else
        result = run_json(x, (pep_view){control->payload, control->n}, NULL);
    free(x);
    return result;
}
