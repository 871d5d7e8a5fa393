#include "ask.h"

#include <CUnit/CUnit.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define HOUR_S 3600ull

static uint64_t now_s(void)
{
    return pep_now_us() / 1000000;
}

/* ---- devices ---- */

void member_make(member *m, const char *id)
{
    pep_statement first;
    memset(m, 0, sizeof(*m));
    speaker_make(&m->who, id);
    CU_ASSERT_EQUAL(pep_record_sign(m->newest.bytes, &m->newest.n, &m->who.device, now_s(), now_s() + HOUR_S), PEP_OK);
    CU_ASSERT_EQUAL(pep_statement_parse(&first, m->newest.bytes, m->newest.n), PEP_OK);
    CU_ASSERT_EQUAL(pep_head_begin(&m->head, &first), PEP_OK);
}

void member_turn(member *next, const member *m, uint64_t cutoff)
{
    uint8_t record[PEP_RECORD_BYTES_MAX];
    size_t record_n = 0;
    pep_statement rotation;
    memset(next, 0, sizeof(*next));
    speaker_make(&next->who, m->head.id);
    next->head = m->head;
    CU_ASSERT_EQUAL(pep_record_next(record, &record_n, &next->who.device, &m->head, now_s(), now_s() + HOUR_S), PEP_OK);
    CU_ASSERT_EQUAL(pep_rotation_sign(next->newest.bytes, &next->newest.n, m->who.device.sign_secret, &m->head, record,
                                      record_n, cutoff),
                    PEP_OK);
    CU_ASSERT_EQUAL(pep_statement_parse(&rotation, next->newest.bytes, next->newest.n), PEP_OK);
    CU_ASSERT_EQUAL(pep_head_advance(&next->head, NULL, &rotation, &(pep_trust){.authority_count = 0}), PEP_OK);
}

statement_bytes member_revocation(const member *m, const uint8_t *secret, uint64_t cutoff)
{
    statement_bytes out = {.n = 0};
    if (secret == NULL)
        secret = m->who.device.sign_secret;
    CU_ASSERT_EQUAL(pep_revocation_sign(out.bytes, &out.n, secret, &m->head, now_s(), cutoff), PEP_OK);
    return out;
}

void member_wipe(member *m)
{
    speaker_wipe(&m->who);
}

static pep_view view_of(const statement_bytes *s)
{
    return (pep_view){s->bytes, s->n};
}

static pep_view view_of_sealed(const sealed *s)
{
    return s == NULL ? (pep_view){NULL, 0} : (pep_view){s->bytes, s->n};
}

sealed entry_of(const statement_bytes *statement, const sealed *certificate)
{
    sealed out = {.n = 0};
    const pep_entry entry = {view_of(statement), view_of_sealed(certificate)};
    CU_ASSERT_EQUAL(pep_entry_encode(out.bytes, &out.n, &entry), PEP_OK);
    return out;
}

bool entry_is(const sealed *entry, const statement_bytes *statement)
{
    sealed expected = entry_of(statement, NULL);
    return entry->n == expected.n && memcmp(entry->bytes, expected.bytes, expected.n) == 0;
}

sealed reading_of(const member *m, const char *topic)
{
    return seal((seal_spec){.from = &m->who, .topic = topic});
}

/* ---- commands ---- */

sealed command_seal(const asker *a, const pep_device *from, const char *json)
{
    sealed out = {.n = 0};
    const pep_command command = {from, next_seq(), false, a->gate_kid, now_s()};
    const pep_view text = {(const uint8_t *)json, strlen(json)};
    CU_ASSERT_EQUAL(pep_command_seal(out.bytes, &out.n, sizeof(out.bytes), &command, text), PEP_OK);
    return out;
}

sealed command_enroll(const asker *a, const member *m, const sealed *certificate, const sealed *proof)
{
    char json[PEP_COMMAND_JSON_MAX];
    CU_ASSERT_EQUAL(
        pep_command_enroll(json, NULL, view_of(&m->newest), view_of_sealed(certificate), view_of_sealed(proof)),
        PEP_OK);
    return command_seal(a, &m->who.device, json);
}

sealed command_rotate(const asker *a, const member *next, const pep_device *from, const sealed *certificate)
{
    char json[PEP_COMMAND_JSON_MAX];
    CU_ASSERT_EQUAL(pep_command_rotate(json, NULL, view_of(&next->newest), view_of_sealed(certificate)), PEP_OK);
    return command_seal(a, from, json);
}

sealed command_revoke(const asker *a, const statement_bytes *revocation, const pep_device *from)
{
    char json[PEP_COMMAND_JSON_MAX];
    CU_ASSERT_EQUAL(pep_command_revoke(json, NULL, view_of(revocation)), PEP_OK);
    return command_seal(a, from, json);
}

/* ---- answers ---- */

cJSON *ask_next(asker *a)
{
    const client_message *m = client_next(a->c);
    if (m == NULL || strcmp(m->topic, PEP_ANSWER_TOPIC) != 0 || m->retain) {
        fprintf(stderr, "expected an answer, got %s\n", m == NULL ? "nothing" : m->topic);
        return NULL;
    }
    return cJSON_Parse((const char *)m->bytes); /* a final NUL stands behind them */
}

cJSON *ask(asker *a, const void *bytes, size_t n)
{
    return client_publish(a->c, PEP_CONTROL_TOPIC, bytes, n, 1, false) == REASON_SUCCESS ? ask_next(a) : NULL;
}

static pep_reason reason_named(const char *name)
{
    for (int reason = 0; name != NULL && reason < 128; reason++)
        if (strcmp(pep_reason_name((pep_reason)reason), name) == 0)
            return (pep_reason)reason;
    return NO_ANSWER;
}

static pep_reason reason_of(const cJSON *response)
{
    const cJSON *error = cJSON_GetObjectItemCaseSensitive(response, "error");
    if (error == NULL)
        return cJSON_GetObjectItemCaseSensitive(response, "data") != NULL ? PEP_OK : NO_ANSWER;
    return reason_named(cJSON_GetStringValue(error));
}

static const cJSON *only_response(const cJSON *answer)
{
    const cJSON *responses = cJSON_GetObjectItemCaseSensitive(answer, "responses");
    return cJSON_GetArraySize(responses) == 1 ? cJSON_GetArrayItem(responses, 0) : NULL;
}

pep_reason answer_reason(cJSON *answer)
{
    pep_reason reason = reason_of(only_response(answer));
    cJSON_Delete(answer);
    return reason;
}

pep_reason ask_reason(asker *a, const sealed *command)
{
    return answer_reason(ask(a, command->bytes, command->n));
}

pep_reason ask_text(asker *a, const char *json)
{
    return answer_reason(ask(a, json, strlen(json)));
}

static cJSON *ask_status(asker *a)
{
    char json[PEP_COMMAND_JSON_MAX];
    CU_ASSERT_EQUAL(pep_command_status(json, NULL), PEP_OK);
    return ask(a, json, strlen(json));
}

const cJSON *answer_data(const cJSON *answer)
{
    return cJSON_GetObjectItemCaseSensitive(only_response(answer), "data");
}

double ask_status_number(asker *a, const char *name)
{
    cJSON *answer = ask_status(a);
    const cJSON *number = cJSON_GetObjectItemCaseSensitive(answer_data(answer), name);
    double value = cJSON_IsNumber(number) ? number->valuedouble : -1;
    cJSON_Delete(answer);
    return value;
}

void asker_open(asker *a, client_spec spec)
{
    size_t n = 0;
    a->c = client_open(spec);
    client_subscribe(a->c, PEP_ANSWER_TOPIC, 1);
    cJSON *answer = ask_status(a);
    const char *kid = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(answer_data(answer), "kid"));
    CU_ASSERT_TRUE(kid != NULL && sodium_hex2bin(a->gate_kid, PEP_KID_BYTES, kid, strlen(kid), NULL, &n, NULL) == 0 &&
                   n == PEP_KID_BYTES);
    cJSON_Delete(answer);
}

void asker_close(asker *a)
{
    client_close(a->c);
}

pep_reason ask_enroll(asker *a, const member *m)
{
    sealed command = command_enroll(a, m, NULL, NULL);
    return ask_reason(a, &command);
}

pep_reason ask_rotate(asker *a, member *m, uint64_t cutoff)
{
    member next;
    member_turn(&next, m, cutoff);
    sealed command = command_rotate(a, &next, &m->who.device, NULL);
    pep_reason reason = ask_reason(a, &command);
    member_wipe(reason == PEP_OK ? m : &next);
    if (reason == PEP_OK)
        *m = next;
    return reason;
}

pep_reason ask_revoke(asker *a, member *m)
{
    statement_bytes revocation = member_revocation(m, NULL, pep_now_us());
    sealed command = command_revoke(a, &revocation, &m->who.device);
    pep_reason reason = ask_reason(a, &command);
    if (reason == PEP_OK)
        m->newest = revocation;
    return reason;
}

/* ---- lookups ---- */

#define LOOKUP_MAX 64 /* ids in one command */

static bool from_base64(sealed *out, const char *text)
{
    return text != NULL && sodium_base642bin(out->bytes, sizeof(out->bytes), text, strlen(text), NULL, &out->n, NULL,
                                             sodium_base64_VARIANT_URLSAFE_NO_PADDING) == 0;
}

cJSON *ask_lookup_all(asker *a, const char *const *ids, size_t count)
{
    cJSON *root = cJSON_CreateObject(), *commands = cJSON_AddArrayToObject(root, "commands");
    for (size_t i = 0; i < count; i += LOOKUP_MAX) {
        cJSON *command = cJSON_CreateObject();
        size_t n = count - i < LOOKUP_MAX ? count - i : LOOKUP_MAX;
        cJSON_AddStringToObject(command, "command", "lookup");
        cJSON_AddItemToObject(command, "ids", cJSON_CreateStringArray(ids + i, (int)n));
        cJSON_AddItemToArray(commands, command);
    }
    char *text = cJSON_PrintUnformatted(root);
    cJSON *answer = ask(a, text, strlen(text));
    cJSON_free(text);
    cJSON_Delete(root);
    return answer;
}

pep_reason ask_entry(const cJSON *answer, size_t i, sealed *out)
{
    const cJSON *responses = cJSON_GetObjectItemCaseSensitive(answer, "responses");
    const cJSON *data = cJSON_GetObjectItemCaseSensitive(cJSON_GetArrayItem(responses, (int)(i / LOOKUP_MAX)), "data");
    const cJSON *entries = cJSON_GetObjectItemCaseSensitive(data, "entries");
    const cJSON *entry = cJSON_GetArrayItem(entries, (int)(i % LOOKUP_MAX));
    if (from_base64(out, cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(entry, "entry"))))
        return PEP_OK;
    return reason_named(cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(entry, "error")));
}

pep_reason ask_lookup(asker *a, const char *id, sealed *out)
{
    cJSON *answer = ask_lookup_all(a, &id, 1);
    pep_reason reason = ask_entry(answer, 0, out);
    cJSON_Delete(answer);
    return reason;
}

bool ask_knows(asker *a, const member *m)
{
    sealed got = {.n = 0};
    return ask_lookup(a, m->head.id, &got) == PEP_OK && entry_is(&got, &m->newest);
}
