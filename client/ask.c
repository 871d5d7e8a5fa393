#include "client/ask.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "client/print.h"

#define ANSWER_MAX     ((size_t)1024 * 1024 + 65536) /* the data, and what stands around it */
#define DEPTH_MAX      16
#define REASON_MAX     256
#define EXACT_INTEGERS 9007199254740992.0 /* 2^53: beyond it a double is no exact number */

/* ---- reading answers ---- */

const char *text_field(const cJSON *object, const char *name)
{
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, name));
}

bool number_field(uint64_t *out, const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    if (!cJSON_IsNumber(item) || !(item->valuedouble >= 0) || item->valuedouble >= EXACT_INTEGERS)
        return false;
    *out = (uint64_t)item->valuedouble;
    return (double)*out == item->valuedouble;
}

bool decode_bytes(uint8_t *out, size_t *n, size_t cap, const cJSON *item)
{
    const char *text = cJSON_GetStringValue(item);
    const char *end = NULL;
    if (text == NULL ||
        sodium_base642bin(out, cap, text, strlen(text), NULL, n, &end, sodium_base64_VARIANT_URLSAFE_NO_PADDING) != 0)
        return false;
    return *end == '\0';
}

pep_reason reason_of(const char *name)
{
    for (int i = 1; i < REASON_MAX; i++)
        if (strcmp(pep_reason_name((pep_reason)i), name) == 0)
            return (pep_reason)i;
    return PEP_BAD_COMMAND;
}

/* cJSON goes down by itself for each level: so deep that its limit of 1,000 is not reached by accident. */
static bool too_deep(const char *json, size_t n)
{
    size_t depth = 0;
    bool quoted = false;
    for (size_t i = 0; i < n; i++) {
        if (quoted && json[i] == '\\')
            i++;
        else if (json[i] == '"')
            quoted = !quoted;
        else if (!quoted && (json[i] == '{' || json[i] == '['))
            depth++;
        else if (!quoted && (json[i] == '}' || json[i] == ']') && depth > 0)
            depth--;
        if (depth > DEPTH_MAX)
            return true;
    }
    return false;
}

static question *find(const asker *a, const char *correlation)
{
    question *q = a->first;
    while (q != NULL && strcmp(q->correlation, correlation) != 0)
        q = q->next;
    return q;
}

static question *find_oldest(const asker *a)
{
    question *q = a->first;
    while (q != NULL && q->next != NULL)
        q = q->next;
    return q;
}

/* Where the gate came to no command, it answers without any: messages are answered in their order. */
static question *find_asked(const asker *a, const cJSON *response)
{
    const char *correlation = text_field(response, "correlationData");
    const char *name = text_field(response, "command");
    if (correlation != NULL)
        return find(a, correlation);
    bool none = name != NULL && name[0] == '\0' && text_field(response, "error") != NULL;
    return none ? find_oldest(a) : NULL;
}

static void take_response(asker *a, const cJSON *response)
{
    question *q = find_asked(a, response);
    if (q == NULL)
        return;
    const char *error = text_field(response, "error");
    const char *text = text_field(response, "text");
    pep_reason reason = error != NULL ? reason_of(error) : PEP_OK;
    ask_drop(a, q);
    q->answered(q, reason, cJSON_GetObjectItemCaseSensitive(response, "data"),
                text != NULL ? text : pep_reason_text(reason));
}

static void take_answer(asker *a, const char *json, size_t n)
{
    if (n == 0 || n > ANSWER_MAX || too_deep(json, n))
        return;
    cJSON *root = cJSON_ParseWithLength(json, n);
    const cJSON *responses = cJSON_GetObjectItemCaseSensitive(root, "responses");
    const cJSON *response;
    a->heard = a->heard || cJSON_GetArraySize(responses) > 0; /* what else comes there is no gate's */
    cJSON_ArrayForEach(response, responses)
    {
        take_response(a, response);
    }
    cJSON_Delete(root);
}

bool ask_take(asker *a, const struct mosquitto_message *m)
{
    size_t n = m->payloadlen > 0 ? (size_t)m->payloadlen : 0;
    if (strcmp(m->topic, PEP_ANSWER_TOPIC) == 0) {
        take_answer(a, m->payload, n);
        return true;
    }
    if (strcmp(m->topic, PEP_GATE_TOPIC) != 0)
        return false;
    if (n > 0 && n <= sizeof(a->gate)) {
        memcpy(a->gate, m->payload, n);
        a->gate_n = n;
    }
    return true;
}

/* ---- asking ---- */

void ask_begin(question *q)
{
    uint8_t random[(ASK_CORRELATION_BYTES - 1) / 2];
    randombytes_buf(random, sizeof(random));
    sodium_bin2hex(q->correlation, sizeof(q->correlation), random, sizeof(random));
}

bool ask_send(asker *a, question *q, const void *payload, size_t n, int wait_ms)
{
    if (mosquitto_publish(a->link->client, NULL, PEP_CONTROL_TOPIC, (int)n, payload, 1, false) != MOSQ_ERR_SUCCESS)
        return false;
    q->deadline_ms = mqtt_now_ms() + (uint64_t)wait_ms;
    q->open = true;
    q->next = a->first;
    a->first = q;
    return true;
}

void ask_drop(asker *a, question *q)
{
    for (question **at = &a->first; *at != NULL; at = &(*at)->next)
        if (*at == q) {
            *at = q->next;
            break;
        }
    q->open = false;
}

static question *find_expired(const asker *a)
{
    uint64_t now_ms = mqtt_now_ms();
    question *q = a->first;
    while (q != NULL && q->deadline_ms > now_ms)
        q = q->next;
    return q;
}

void ask_expire(asker *a)
{
    question *q;
    while ((q = find_expired(a)) != NULL) {
        ask_drop(a, q);
        q->answered(q, PEP_TRY_LATER, NULL, "no answer came");
    }
}

/* ---- one at a time ---- */

static void on_message(struct mosquitto *client, void *link, const struct mosquitto_message *m,
                       const mosquitto_property *props)
{
    (void)client;
    (void)props;
    (void)ask_take(((mqtt_link *)link)->owner, m);
}

void ask_prepare(asker *a, mqtt_link *link)
{
    a->link = link;
    link->owner = a;
    mosquitto_message_v5_callback_set(link->client, on_message);
}

int ask_until(asker *a, const bool *over)
{
    while (!*over) {
        if (!mqtt_turn(a->link, NULL, -1, 100))
            return fail(OUT_OF_REACH, "lost the connection to %s: %s", a->link->address, mqtt_why(a->link));
        if (mqtt_stopped())
            return fail(OUT_OF_REACH, "interrupted");
        ask_expire(a);
    }
    return DONE;
}

typedef struct {
    reply *out;
    bool over;
} waiting;

static void on_answer(question *q, pep_reason reason, const cJSON *data, const char *text)
{
    waiting *w = q->owner;
    w->over = true;
    w->out->reason = reason;
    (void)snprintf(w->out->text, sizeof(w->out->text), "%.400s", text);
    if (data != NULL && (w->out->data = cJSON_Duplicate(data, true)) == NULL)
        w->out->reason = PEP_NO_MEMORY;
}

int ask_and_wait(asker *a, reply *out, question *q, const void *payload, size_t n)
{
    waiting w = {.out = out};
    *out = (reply){.reason = PEP_TRY_LATER};
    q->owner = &w; /* cppcheck-suppress autoVariables ; the question is over when this returns */
    q->answered = on_answer;
    a->heard = false;
    if (!ask_send(a, q, payload, n, a->wait_ms > 0 ? a->wait_ms : ASK_WAIT_MS))
        return fail(OUT_OF_REACH, "cannot send the command to %s", a->link->address);
    int code = ask_until(a, &w.over);
    if (q->open)
        ask_drop(a, q);
    if (code == DONE && out->reason == PEP_TRY_LATER && !a->heard && a->wait_ms > 0)
        return fail(
            OUT_OF_REACH,
            "%s does not answer for %d s: it may still be at work, or its ACL keeps this client from writing to %s",
            a->link->address, a->wait_ms / 1000, PEP_CONTROL_TOPIC);
    if (code == DONE && out->reason == PEP_TRY_LATER && !a->heard)
        return fail(OUT_OF_REACH,
                    "%s does not answer: there is no directory, or its ACL keeps this client from writing to %s",
                    a->link->address, PEP_CONTROL_TOPIC);
    return code;
}

int fail_reply(const reply *r, const char *what)
{
    return fail(exit_code(r->reason), "%s: %s (%s)", what, pep_reason_name(r->reason), r->text);
}

/* ---- the gate ---- */

static int wait_for_gate(asker *a)
{
    uint64_t deadline_ms = mqtt_now_ms() + ASK_GATE_MS;
    int rc = mosquitto_subscribe(a->link->client, NULL, PEP_GATE_TOPIC, 1);
    if (rc != MOSQ_ERR_SUCCESS)
        return fail(OUT_OF_REACH, "cannot subscribe to %s: %s", PEP_GATE_TOPIC, mosquitto_strerror(rc));
    while (a->gate_n == 0 && mqtt_now_ms() < deadline_ms && !mqtt_stopped())
        if (!mqtt_turn(a->link, NULL, -1, 100))
            return fail(OUT_OF_REACH, "lost the connection to %s: %s", a->link->address, mqtt_why(a->link));
    if (a->gate_n == 0)
        return fail(OUT_OF_REACH, "%s shows no gate on %s: it has no directory, or its ACL hides it from this client",
                    a->link->address, PEP_GATE_TOPIC);
    return DONE;
}

static pep_reason judge_gate(asker *a, const uint8_t (*authorities)[PEP_SIGN_PUBLIC_BYTES], size_t authority_count)
{
    pep_entry e;
    pep_statement s;
    pep_certificate c;
    uint64_t now_s = pep_now_us() / 1000000;
    pep_reason reason = pep_entry_parse(&e, a->gate, a->gate_n);
    if (reason == PEP_OK)
        reason = pep_statement_parse(&s, e.statement.p, e.statement.n);
    if (reason != PEP_OK)
        return reason;
    if (s.kind == PEP_STATEMENT_REVOCATION)
        return PEP_REVOKED_SIGNER;
    if (s.record.not_after_s < now_s)
        return PEP_EXPIRED_SIGNER;
    memcpy(a->gate_kid, s.record.sign_kid, PEP_KID_BYTES);
    if (authority_count == 0)
        return PEP_OK;
    if (e.certificate.n == 0)
        return PEP_NOT_CERTIFIED;
    reason = pep_certificate_parse(&c, e.certificate.p, e.certificate.n, authorities, authority_count);
    return reason == PEP_OK ? pep_certificate_covers(&c, s.id, s.record.sign_kid, true, now_s) : reason;
}

int ask_gate(asker *a, const uint8_t (*authorities)[PEP_SIGN_PUBLIC_BYTES], size_t authority_count)
{
    int code = wait_for_gate(a);
    if (code != DONE)
        return code;
    pep_reason reason = judge_gate(a, authorities, authority_count);
    if (reason == PEP_OK)
        return DONE;
    return fail(REFUSED, "the gate of %s: %s (%s)", a->link->address, pep_reason_name(reason), pep_reason_text(reason));
}
