/*
 * Control messages, from their bytes to their answers, on a store that is rolled back behind each input. The first byte
 * says how devices are let in; then come messages, each ending with ff: its first byte says whether the rest goes as it
 * is or is sealed first, by which device. In what is sealed, @ and a digit stand for a statement that a device made,
 * and ~ and a digit for its kid, so that mutations get behind signatures.
 */
#include "tests/fuzz/fuzz.h"

#include <cjson/cJSON.h>
#include <sodium.h>
#include <string.h>

#include "directory/internal.h"
#include "directory/tables.h"
#include "envelope/seal.h"

enum { DEVICES = 3, OBJECTS = 10, MESSAGES_MAX = 8, JSON_MAX = 16384 };

static pep_device devices[DEVICES];
static pep_authority authority;
static char objects[OBJECTS][2048]; /* base64url */
static registrar office;
static control_client asker; /* of all messages, and never gone */
static uint8_t gate_kid[PEP_KID_BYTES] = {7};
static store *s;
static uint64_t next_seq;

static void keep_object(unsigned i, const uint8_t *p, size_t n)
{
    sodium_bin2base64(objects[i], sizeof objects[i], p, n, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
}

static pep_head keep_record(unsigned i, const pep_device *device, uint64_t now_s)
{
    uint8_t bytes[PEP_STATEMENT_BYTES_MAX];
    size_t n;
    pep_statement st;
    pep_head head = {0};
    must(pep_record_sign(bytes, &n, device, now_s, now_s + 86400) == PEP_OK, "record");
    must(pep_statement_parse(&st, bytes, n) == PEP_OK && pep_head_begin(&head, &st) == PEP_OK, "head");
    keep_object(i, bytes, n);
    return head;
}

/* The first device's history: to the third's keys, renewed, and revoked. */
static void keep_chain(pep_head *head, uint64_t now_s)
{
    uint8_t record[PEP_RECORD_BYTES_MAX];
    uint8_t bytes[PEP_STATEMENT_BYTES_MAX];
    size_t record_n;
    size_t n;
    pep_statement st;
    const pep_trust trust = {NULL, 0, NULL};
    must(pep_revocation_sign(bytes, &n, devices[0].sign_secret, head, now_s, now_s * 1000000) == PEP_OK, "revocation");
    keep_object(3, bytes, n);
    must(pep_record_next(record, &record_n, &devices[2], head, now_s, now_s + 86400) == PEP_OK, "next");
    must(pep_rotation_sign(bytes, &n, devices[0].sign_secret, head, record, record_n, now_s * 1000000) == PEP_OK,
         "rotation");
    keep_object(2, bytes, n);
    must(pep_statement_parse(&st, bytes, n) == PEP_OK && pep_head_advance(head, NULL, &st, &trust) == PEP_OK, "next");
    must(pep_revocation_sign(bytes, &n, devices[2].sign_secret, head, now_s, now_s * 1000000) == PEP_OK, "revocation");
    keep_object(4, bytes, n);
}

static void keep_certificates(uint64_t now_s)
{
    uint8_t bytes[PEP_CERTIFICATE_BYTES_MAX];
    size_t n;
    for (unsigned i = 0; i < DEVICES; i++) {
        pep_certificate c = {.issued_s = now_s, .not_after_s = now_s + 86400, .group_count = 1, .groups = {"ops"}};
        memcpy(c.id, devices[i].id, sizeof c.id);
        memcpy(c.kid, devices[i].sign_kid, sizeof c.kid);
        must(pep_certificate_sign(bytes, &n, &authority, &c) == PEP_OK, "certificate");
        keep_object(5 + i, bytes, n);
    }
}

static void keep_proof(const uint8_t hash[PEP_SHA256_BYTES])
{
    char text[PEP_TOKEN_TEXT_BYTES];
    uint8_t kid[PEP_KID_BYTES];
    uint8_t bytes[PEP_PROOF_BYTES_MAX];
    size_t n;
    token_row token = {.id = "a", .expires_s = UINT32_MAX};
    pep_token_new(text, kid);
    memcpy(token.kid, kid, sizeof kid);
    must(pep_token_prove(bytes, &n, text, hash) == PEP_OK, "proof");
    keep_object(8, bytes, n);
    must(store_begin(s) == STORE_OK && rows_put_token(s, &token) == STORE_OK && store_commit(s) == STORE_OK, "token");
}

static void make_office(void)
{
    static settings now;
    static char ops[] = "@ops";
    static char *admins[] = {ops};
    now.rules = (directory_rules){.retained = true, .max_records = 100, .admins = admins, .admin_count = 1};
    now.rules.authorities = fuzz_memory(sizeof now.rules.authorities[0]);
    memcpy(now.rules.authorities[0], authority.sign_public, PEP_SIGN_PUBLIC_BYTES);
    now.rules.authority_count = 1;
    office.settings = &now;
    office.gate_kid = gate_kid;
    office.store_kind = "sqlite";
}

/* Puts in what the marks stand for. */
static size_t expand(char out[JSON_MAX], pep_view in)
{
    size_t n = 0;
    for (size_t i = 0; i < in.n && n < JSON_MAX - 2048; i++) {
        bool digit = i + 1 < in.n && in.p[i + 1] >= '0' && in.p[i + 1] <= '9';
        unsigned which = digit ? (unsigned)(in.p[i + 1] - '0') : 0;
        if (in.p[i] == '@' && digit) {
            size_t length = strlen(objects[which]);
            memcpy(out + n, objects[which], length);
            n += length;
            i++;
        } else if (in.p[i] == '~' && digit) {
            sodium_bin2hex(out + n, 2 * PEP_KID_BYTES + 1, devices[which % DEVICES].sign_kid, PEP_KID_BYTES);
            n += (size_t)2 * PEP_KID_BYTES;
            i++;
        } else {
            out[n++] = (char)in.p[i];
        }
    }
    return n;
}

/* As directory_control makes it, as far as its work is concerned. */
static control_job *job_of(const uint8_t *p, size_t n)
{
    control_job *job = fuzz_memory(sizeof *job + n);
    job->r = &office;
    job->client = &asker;
    job->sealed = directory_is_sealed(p, n);
    job->n = n;
    if (n > 0)
        memcpy(job->payload, p, n);
    return job;
}

static control_job *seal(const pep_device *by, pep_view json)
{
    static const char topic[] = PEP_CONTROL_TOPIC;
    static uint8_t out[JSON_MAX + 512];
    size_t n = 0;
    const pep_message m = {.from = by,
                           .topic = {(const uint8_t *)topic, sizeof topic - 1},
                           .seq = next_seq++,
                           .flags = PEP_FLAG_SIGNED_ONLY,
                           .exp_s = pep_now_us() / 1000000 + 30,
                           .audience = gate_kid,
                           .plain = json};
    must(seal_any_topic(out, &n, sizeof out, &m) == PEP_OK, "seal");
    return job_of(out, n);
}

/* Each response has a name, and data or an error that has a name. */
static void judge(const control_job *job)
{
    const cJSON *response;
    invariant(job->answer != NULL || job->requests != NULL, "a message is answered, here or by the ledger");
    invariant(job->requests == NULL || job->authentic, "nobody asks the ledger without a signature");
    if (job->answer == NULL)
        return;
    cJSON *answer = cJSON_ParseWithLength(job->answer, job->answer_n);
    const cJSON *responses = cJSON_GetObjectItemCaseSensitive(answer, "responses");
    invariant(cJSON_GetArraySize(responses) >= 1, "an answer has responses");
    unsigned errors = 0;
    cJSON_ArrayForEach(response, responses)
    {
        const char *error = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(response, "error"));
        bool data = cJSON_IsObject(cJSON_GetObjectItemCaseSensitive(response, "data"));
        invariant(cJSON_IsString(cJSON_GetObjectItemCaseSensitive(response, "command")), "a response names a command");
        invariant((error != NULL) != data, "a response has an error or data");
        invariant(error == NULL || strcmp(error, "unknown") != 0, "an error has a name");
        errors += error != NULL;
    }
    invariant(errors == job->refused, "errors are counted");
    invariant(job->changes == 0 || job->authentic, "nothing changes without a signature");
    cJSON_Delete(answer);
}

/* Returns how much it changed. */
static unsigned run(pep_view message)
{
    static char json[JSON_MAX];
    uint8_t how = take_byte(&message);
    control_job *job;
    if (how == 'r') {
        job = job_of(message.p, message.n);
    } else {
        pep_view text = {(const uint8_t *)json, expand(json, message)};
        job = how == 'p' ? job_of(text.p, text.n) : seal(&devices[how % DEVICES], text);
    }
    invariant(store_mark(s) == STORE_OK, "there is a transaction");
    store_result result = control_work(&job->job, s);
    invariant(result == STORE_OK, "the store takes what a command gives it");
    invariant(store_keep(s) == STORE_OK, "its marks are even");
    judge(job);
    unsigned changes = job->changes;
    atomic_fetch_sub(&office.answer_bytes, job->answer_n);
    free(job->answer);
    free(job->told);
    control_free_requests(job->requests);
    free(job);
    return changes;
}

/* The way behind the signatures is open: else all inputs would end in front of it, and nobody would notice. */
static void rehearse(void)
{
    static const uint8_t enrol[] = "0{\"commands\":[{\"command\":\"enroll\",\"record\":\"@0\"}]}";
    office.settings->rules.enroll = DIRECTORY_OPEN;
    next_seq = pep_now_us();
    must(store_begin(s) == STORE_OK && run((pep_view){enrol, sizeof enrol - 1}) == 1, "an enrolment");
    store_rollback(s);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    store_result result;
    store_error error;
    char url[600];
    uint64_t now_s = pep_now_us() / 1000000;
    (void)argc;
    (void)argv;
    must(pep_init() == PEP_OK, "libsodium");
    snprintf(url, sizeof url, "sqlite:%s", fuzz_path("directory.db"));
    s = store_open(&result, &error, url, directory_migrations, DIRECTORY_MIGRATIONS);
    must(s != NULL, error.text);
    must(pep_authority_new(&authority) == PEP_OK, "authority");
    const char *ids[DEVICES] = {"a", "b", "a"};
    for (unsigned i = 0; i < DEVICES; i++)
        must(pep_device_new(&devices[i], ids[i]) == PEP_OK, "device");
    pep_head head = keep_record(0, &devices[0], now_s);
    keep_record(1, &devices[1], now_s);
    keep_proof(head.hash);
    keep_chain(&head, now_s);
    keep_certificates(now_s);
    snprintf(objects[9], sizeof objects[9], "AA");
    make_office();
    rehearse();
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    pep_view in = {data, n};
    office.settings->rules.enroll = (directory_enroll)(take_byte(&in) % 4);
    next_seq = pep_now_us() - 1000000;
    invariant(store_begin(s) == STORE_OK, "a transaction begins");
    for (unsigned i = 0; i < MESSAGES_MAX && in.n > 0; i++) {
        const uint8_t *end = memchr(in.p, 0xff, in.n);
        pep_view message = take(&in, end == NULL ? in.n : (size_t)(end - in.p));
        take_byte(&in);
        run(message);
    }
    store_rollback(s);
    return 0;
}
