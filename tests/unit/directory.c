/*
 * The directory as a plugin drives it: control messages in, answers, publications and signers out. All of it twice, on
 * SQLite and on a real PostgreSQL.
 */
#include "directory/directory.h"

#include "unit.h"

#include <cjson/cJSON.h>
#include <sodium.h>
#include <stdarg.h>
#include <time.h>

#include "directory/internal.h"
#include "directory/tables.h"
#include "envelope/seal.h"
#include "envelope/text.h"
#include "patience.h"
#include "scratch.h"
#include "tests/postgres.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

enum { JSON_BYTES = 70000, TOPICS_MAX = 1400, LIFE_S = 30 * 86400, BUDGET_US = 2000 };

static postgres_server server;
static bool on_postgres;
static unsigned database;

/* ---- one broker ---- */

typedef struct {
    char topic[PEP_ID_MAX + 16];
    uint8_t bytes[PEP_ENTRY_BYTES_MAX];
    size_t n;
} retained;

typedef struct {
    const char *name;
    directory *d;
    directory_enroll enroll;
    bool on_request;
    bool with_folder;
    uint64_t max_records;
    const pep_authority *authority;
    const char *admins[3];
    const char *url;

    unsigned answers;
    char client[64];
    cJSON *answer; /* the last one */
    size_t answer_n;
    unsigned good, bad;
    unsigned publications;
    unsigned clears;
    bool refuse_publications;
    retained *topics;
    size_t topic_count;
    char log[8192];
} site;

static site one;
static site two;
static pep_error error;
static char url[POSTGRES_URL_MAX];

static bool publish(void *ctx, const char *topic, const uint8_t *p, size_t n)
{
    site *s = ctx;
    size_t i = 0;
    if (s->refuse_publications)
        return false;
    s->publications++;
    s->clears += n == 0;
    while (i < s->topic_count && strcmp(s->topics[i].topic, topic) != 0)
        i++;
    CU_ASSERT_FATAL(i < TOPICS_MAX && n <= PEP_ENTRY_BYTES_MAX);
    if (n == 0 && i == s->topic_count)
        return true;
    s->topic_count += i == s->topic_count;
    snprintf(s->topics[i].topic, sizeof s->topics[i].topic, "%s", topic);
    if (n > 0)
        memcpy(s->topics[i].bytes, p, n);
    s->topics[i].n = n;
    return true;
}

static void answer(void *ctx, const char *client_id, const char *json, size_t n)
{
    site *s = ctx;
    cJSON_Delete(s->answer);
    s->answer = cJSON_ParseWithLength(json, n);
    CU_ASSERT_PTR_NOT_NULL(s->answer);
    CU_ASSERT_EQUAL(strlen(json), n);
    s->answer_n = n;
    s->answers++;
    snprintf(s->client, sizeof s->client, "%s", client_id);
}

static void verified(void *ctx, const directory_asker *asker, bool good)
{
    site *s = ctx;
    CU_ASSERT_STRING_EQUAL(asker->client_id, "client-1");
    CU_ASSERT_STRING_EQUAL(asker->username, "user");
    CU_ASSERT_PTR_NULL(asker->address);
    s->good += good;
    s->bad += !good;
}

static void note(void *ctx, char level, const char *line)
{
    site *s = ctx;
    size_t n = strlen(s->log);
    snprintf(s->log + n, sizeof s->log - n, "%c %s\n", level, line);
}

static directory_rules rules_of(const site *s)
{
    directory_rules rules = {.enroll = s->enroll,
                             .retained = !s->on_request,
                             .max_records = s->max_records == 0 ? DIRECTORY_MAX_RECORDS : s->max_records};
    if (s->authority != NULL) {
        rules.authorities = malloc(sizeof rules.authorities[0]);
        memcpy(rules.authorities[0], s->authority->sign_public, PEP_SIGN_PUBLIC_BYTES);
        rules.authority_count = 1;
    }
    rules.admins = calloc(COUNT(s->admins), sizeof *rules.admins);
    for (; rules.admin_count < COUNT(s->admins) && s->admins[rules.admin_count] != NULL; rules.admin_count++)
        rules.admins[rules.admin_count] = strdup(s->admins[rules.admin_count]);
    return rules;
}

static bool try_open(site *s)
{
    char state[512];
    snprintf(state, sizeof state, "%s", scratch_path(s->name));
    (void)mkdir(state, 0700);
    char folder[512];
    snprintf(folder, sizeof folder, "%s", scratch_path("folder"));
    const directory_config config = {
        .store_url = s->url,
        .state_dir = state,
        .records_dir = s->with_folder ? folder : NULL,
        .hooks = {.ctx = s, .publish = publish, .answer = answer, .verified = verified, .log = note}};
    directory_rules rules = rules_of(s);
    error.text[0] = '\0';
    s->d = directory_open(&error, &config, &rules);
    return s->d != NULL;
}

static void tick(site *s)
{
    directory_tick(s->d, BUDGET_US);
}

static void nap(void)
{
    const struct timespec moment = {0, 500000};
    nanosleep(&moment, NULL);
}

/* Ticks until it holds, or fails the test. */
#define UNTIL(s, condition)                                                                                            \
    do {                                                                                                               \
        uint64_t until_end = deadline_ms();                                                                            \
        while (!(condition) && now_ms() < until_end) {                                                                 \
            tick(s);                                                                                                   \
            nap();                                                                                                     \
        }                                                                                                              \
        CU_ASSERT_FATAL(condition);                                                                                    \
    } while (0)

static const retained *topic_of(const site *s, const char *topic)
{
    for (size_t i = 0; i < s->topic_count; i++)
        if (strcmp(s->topics[i].topic, topic) == 0 && s->topics[i].n > 0)
            return &s->topics[i];
    return NULL;
}

/* Whether what was published last on the topic passes. */
static bool served(const site *s, const char *topic)
{
    const retained *r = topic_of(s, topic);
    return directory_served(s->d, topic, r == NULL ? NULL : r->bytes, r == NULL ? 0 : r->n);
}

static void open_site(site *s)
{
    CU_ASSERT_TRUE_FATAL(try_open(s));
    UNTIL(s, served(s, PEP_GATE_TOPIC));
}

/* What is retained stays in the broker. */
static void close_site(site *s)
{
    directory_close(s->d);
    s->d = NULL;
}

static void forget_site(site *s)
{
    close_site(s);
    cJSON_Delete(s->answer);
    free(s->topics);
    memset(s, 0, sizeof *s);
}

static void prepare(site *s, const char *name, directory_enroll enroll)
{
    memset(s, 0, sizeof *s);
    s->name = name;
    s->enroll = enroll;
    s->url = on_postgres ? url : NULL;
    s->topics = calloc(TOPICS_MAX, sizeof *s->topics);
}

static void begin(directory_enroll enroll)
{
    scratch_begin();
    if (on_postgres) {
        char name[32];
        snprintf(name, sizeof name, "t%u", database++);
        CU_ASSERT_TRUE_FATAL(postgres_database(&server, name));
        postgres_url(url, &server, name);
    }
    prepare(&one, "one", enroll);
    CU_ASSERT_EQUAL_FATAL(mkdir(scratch_path("folder"), 0700), 0);
}

static void start(directory_enroll enroll)
{
    begin(enroll);
    open_site(&one);
}

static void finish(void)
{
    forget_site(&one);
    scratch_end();
}

/* ---- what devices send ---- */

static pep_view bytes_view(const uint8_t *p, size_t n)
{
    return (pep_view){p, n};
}

static const pep_view none = {NULL, 0};

static void send(site *s, const void *p, size_t n)
{
    const directory_asker asker = {.client_id = "client-1", .username = "user"};
    directory_control(s->d, &asker, p, n);
}

/* Sends, and waits for the answer. */
static void send_and_wait(site *s, const void *p, size_t n)
{
    unsigned before = s->answers;
    send(s, p, n);
    UNTIL(s, s->answers > before);
}

static void ask(site *s, const char *json)
{
    send_and_wait(s, json, strlen(json));
}

/* How the next envelope differs from what it should be; zeros: in nothing. */
static struct {
    uint64_t seq;
    uint64_t exp_s;
    bool no_exp, no_audience;
    unsigned flags;
    const uint8_t *audience;
    const char *topic;
} odd;

static uint8_t sealed[JSON_BYTES + 512];
static size_t sealed_n;
static uint64_t last_seq;

static void seal(const site *s, const pep_device *device, const char *json)
{
    const char *topic = odd.topic == NULL ? PEP_CONTROL_TOPIC : odd.topic;
    uint64_t now = pep_now_us();
    last_seq = now > last_seq ? now : last_seq + 1;
    const pep_message m = {.from = device,
                           .topic = {(const uint8_t *)topic, strlen(topic)},
                           .seq = odd.seq == 0 ? last_seq : odd.seq,
                           .flags = PEP_FLAG_SIGNED_ONLY | odd.flags,
                           .exp_s = odd.no_exp       ? 0
                                    : odd.exp_s == 0 ? now / 1000000 + PEP_COMMAND_LIFE_S
                                                     : odd.exp_s,
                           .audience = odd.no_audience        ? NULL
                                       : odd.audience != NULL ? odd.audience
                                                              : directory_gate_kid(s->d),
                           .plain = {(const uint8_t *)json, strlen(json)}};
    CU_ASSERT_EQUAL_FATAL(seal_any_topic(sealed, &sealed_n, sizeof sealed, &m), PEP_OK);
    memset(&odd, 0, sizeof odd);
}

static void tell(site *s, const pep_device *device, const char *json)
{
    seal(s, device, json);
    send_and_wait(s, sealed, sealed_n);
}

/* ---- what came back ---- */

static const cJSON *response(const site *s, int i)
{
    const cJSON *all = cJSON_GetObjectItemCaseSensitive(s->answer, "responses");
    CU_ASSERT_PTR_NOT_NULL_FATAL(cJSON_GetArrayItem(all, i));
    return cJSON_GetArrayItem(all, i);
}

static const char *text_in(const cJSON *object, const char *name)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, name));
    return text == NULL ? "" : text;
}

static const cJSON *data(const site *s, int i)
{
    return cJSON_GetObjectItemCaseSensitive(response(s, i), "data");
}

static const char *error_of(const site *s, int i)
{
    const cJSON *r = response(s, i);
    const char *name = text_in(r, "error");
    CU_ASSERT_EQUAL(name[0] == '\0', data(s, i) != NULL);
    CU_ASSERT_EQUAL(name[0] == '\0', text_in(r, "text")[0] == '\0');
    return name;
}

static bool is_error(const site *s, int i, pep_reason reason)
{
    const char *name = error_of(s, i);
    bool same = strcmp(name, reason == PEP_OK ? "" : pep_reason_name(reason)) == 0;
    if (!same)
        printf("\n  answered %s (%s), not %s ", name, text_in(response(s, i), "text"), pep_reason_name(reason));
    return same;
}

#define CHECK_ANSWER(s, reason) CU_ASSERT_TRUE(is_error(s, 0, reason))

static double number_in(const cJSON *object, const char *name)
{
    return cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(object, name));
}

/* ---- devices ---- */

typedef struct {
    pep_device device;
    pep_head head;
    uint8_t bytes[PEP_STATEMENT_BYTES_MAX]; /* the last statement */
    size_t n;
} party;

static void set_id(char id[PEP_ID_MAX + 1], const char *text)
{
    snprintf(id, PEP_ID_MAX + 1, "%s", text);
}

static uint64_t now_s(void)
{
    return pep_now_us() / 1000000;
}

static void take_first(party *p)
{
    pep_statement st;
    CU_ASSERT_EQUAL_FATAL(pep_statement_parse(&st, p->bytes, p->n), PEP_OK);
    CU_ASSERT_EQUAL_FATAL(pep_head_begin(&p->head, &st), PEP_OK);
}

static party party_from(const pep_device *device, uint64_t issued_s, uint64_t not_after_s)
{
    party p = {.device = *device};
    CU_ASSERT_EQUAL_FATAL(pep_record_sign(p.bytes, &p.n, device, issued_s, not_after_s), PEP_OK);
    take_first(&p);
    return p;
}

static party party_of(const char *id)
{
    pep_device device;
    CU_ASSERT_EQUAL_FATAL(pep_device_new(&device, id), PEP_OK);
    return party_from(&device, now_s(), now_s() + LIFE_S);
}

/* The rotation to `next`, signed by `secret`; *p is then the new one. */
static void rotate_with(party *p, const pep_device *next, const uint8_t *secret, uint64_t cutoff)
{
    uint8_t record[PEP_RECORD_BYTES_MAX];
    size_t n;
    pep_statement st;
    const uint8_t(*nobody)[PEP_SIGN_PUBLIC_BYTES] = NULL;
    pep_trust trust = {nobody, 0, NULL};
    CU_ASSERT_EQUAL_FATAL(pep_record_next(record, &n, next, &p->head, now_s(), now_s() + LIFE_S), PEP_OK);
    CU_ASSERT_EQUAL_FATAL(pep_rotation_sign(p->bytes, &p->n, secret, &p->head, record, n, cutoff), PEP_OK);
    p->device = *next;
    CU_ASSERT_EQUAL_FATAL(pep_statement_parse(&st, p->bytes, p->n), PEP_OK);
    if (pep_head_advance(&p->head, NULL, &st, &trust) != PEP_OK) { /* not by the old key: take it as it is */
        p->head.version = st.version;
        p->head.revoked = false;
        memcpy(p->head.hash, st.hash, sizeof st.hash);
        memcpy(p->head.sign_kid, next->sign_kid, PEP_KID_BYTES);
        memcpy(p->head.sign_public, next->sign_public, PEP_SIGN_PUBLIC_BYTES);
    }
}

static void rotate(party *p)
{
    uint8_t secret[PEP_SIGN_SECRET_BYTES];
    pep_device next;
    memcpy(secret, p->device.sign_secret, sizeof secret);
    CU_ASSERT_EQUAL_FATAL(pep_device_renew(&next, &p->device, false, now_s(), now_s() + 3600), PEP_OK);
    rotate_with(p, &next, secret, pep_now_us() + 60000000);
}

static void revoke_with(party *p, const uint8_t *secret)
{
    CU_ASSERT_EQUAL_FATAL(pep_revocation_sign(p->bytes, &p->n, secret, &p->head, now_s(), pep_now_us()), PEP_OK);
}

static char json[PEP_COMMAND_JSON_MAX];

static const char *enroll_json(const party *p, pep_view certificate, pep_view proof)
{
    CU_ASSERT_EQUAL_FATAL(pep_command_enroll(json, "c", bytes_view(p->bytes, p->n), certificate, proof), PEP_OK);
    return json;
}

static const char *rotate_json(const party *p, pep_view certificate)
{
    CU_ASSERT_EQUAL_FATAL(pep_command_rotate(json, "c", bytes_view(p->bytes, p->n), certificate), PEP_OK);
    return json;
}

static const char *revoke_json(const party *p)
{
    CU_ASSERT_EQUAL_FATAL(pep_command_revoke(json, "c", bytes_view(p->bytes, p->n)), PEP_OK);
    return json;
}

static const char *format(const char *text, ...) __attribute__((format(printf, 1, 2)));

static const char *format(const char *text, ...)
{
    static char out[JSON_BYTES];
    va_list args;
    va_start(args, text);
    vsnprintf(out, sizeof out, text, args);
    va_end(args);
    return out;
}

static void enroll(site *s, const party *p)
{
    tell(s, &p->device, enroll_json(p, none, none));
    CHECK_ANSWER(s, PEP_OK);
}

static party enrolled(site *s, const char *id)
{
    party p = party_of(id);
    enroll(s, &p);
    return p;
}

static signer found;

static bool knows(const site *s, const party *p)
{
    return signers_find(directory_signers(s->d), &found, p->device.sign_kid);
}

/* Whether what is retained about the id is exactly this statement (and certificate). */
static bool serves(const site *s, const char *id, const party *p, pep_view certificate)
{
    char topic[PEP_ID_MAX + 16];
    uint8_t entry[PEP_ENTRY_BYTES_MAX];
    size_t n;
    const pep_entry e = {{p->bytes, p->n}, certificate};
    snprintf(topic, sizeof topic, PEP_KEYS_TOPIC "%s", id);
    CU_ASSERT_EQUAL_FATAL(pep_entry_encode(entry, &n, &e), PEP_OK);
    const retained *r = topic_of(s, topic);
    return r != NULL && r->n == n && memcmp(r->bytes, entry, n) == 0 && directory_served(s->d, topic, entry, n);
}

static const char *hex_of(const uint8_t kid[PEP_KID_BYTES])
{
    static char hex[2 * PEP_KID_BYTES + 1];
    return sodium_bin2hex(hex, sizeof hex, kid, PEP_KID_BYTES);
}

/* Puts the last statement into the operator's folder. */
static void save(const char *name, const party *p)
{
    char path[64];
    snprintf(path, sizeof path, "folder/%s", name);
    CU_ASSERT_EQUAL_FATAL(pep_statement_replace(&error, scratch_path(path), p->bytes, p->n), PEP_OK);
}

/* Does to the store what no directory does. */
static store *open_beside(void)
{
    store_result result;
    store_error why;
    char path[512];
    snprintf(path, sizeof path, "sqlite:%s", scratch_path("one/directory.db"));
    store *s = store_open(&result, &why, on_postgres ? url : path, directory_migrations, DIRECTORY_MIGRATIONS);
    CU_ASSERT_PTR_NOT_NULL_FATAL(s);
    return s;
}

static void damage(const char *sql)
{
    store *s = open_beside();
    CU_ASSERT_EQUAL(store_begin(s), STORE_OK);
    CU_ASSERT_EQUAL(store_run(s, sql, NULL, 0, NULL, NULL), STORE_OK);
    CU_ASSERT_EQUAL(store_commit(s), STORE_OK);
    store_close(s);
}

/* As if all that was stored had been stored long ago. */
static void pass_an_hour(void)
{
    damage("UPDATE statements SET stored = stored - 3601");
}

/* ---- messages that are none ---- */

static bool whole_is_refused(pep_reason reason)
{
    bool ok = cJSON_GetArraySize(cJSON_GetObjectItem(one.answer, "responses")) == 1;
    return ok && is_error(&one, 0, reason) && text_in(response(&one, 0), "command")[0] == '\0';
}

static void test_what_is_no_json(void)
{
    static const char *const texts[] = {
        "",
        " ",
        "x",
        "{",
        "[]",
        "{}",
        "null",
        "{\"commands\":[]}",
        "{\"commands\":{}}",
        "{\"commands\":[{\"command\":\"status\"}],\"more\":1}",
        "{\"commands\":[{\"command\":\"status\"}]}}",
        "{\"commands\":[{\"command\":\"status\"}]} x",
        "{\"commands\":[{\"command\":\"status\",\"command\":\"status\"}]}",
        "{\"commands\":[{\"command\":\"status\"}],\"commands\":[{\"command\":\"status\"}]}",
        "{\"commands\":[{\"command\":\"stat\\u0000us\"}]}",
        "{\"commands\":[{\"command\":\"list\",\"count\":1.5}]}",
        "{\"commands\":[{\"command\":\"list\",\"count\":1e1}]}",
        "{\"commands\":[{\"command\":\"list\",\"count\":-1}]}",
        "{\"commands\":[{\"command\":\"list\",\"count\":9007199254740993}]}",
        "{\"commands\":[{\"command\":\"list\",\"after\":[[[[[[1]]]]]]}]}",
        "{\"commands\":[{\"command\":\"status\xff\"}]}",
        "{\"commands\":[{\"command\":\"sta\ntus\"}]}",
    };
    start(DIRECTORY_OPEN);
    for (size_t i = 0; i < COUNT(texts); i++) {
        ask(&one, texts[i]);
        if (!whole_is_refused(PEP_BAD_COMMAND)) {
            printf("\n  %s ", texts[i]);
            CU_FAIL("taken");
        }
    }
    send_and_wait(&one, "{\"commands\":[{\"command\":\"status\"}]}", 36);
    CU_ASSERT_TRUE(whole_is_refused(PEP_BAD_COMMAND));
    CU_ASSERT_STRING_EQUAL(one.client, "client-1");
    CU_ASSERT_EQUAL(one.good + one.bad, 0);
    CU_ASSERT_EQUAL(directory_counted(one.d).refused, COUNT(texts) + 1);
    finish();
}

static void test_depth_bombs_and_sizes(void)
{
    static char bomb[DIRECTORY_COMMAND_MAX + 2];
    start(DIRECTORY_OPEN);
    memset(bomb, '[', sizeof bomb);
    send_and_wait(&one, bomb, DIRECTORY_COMMAND_MAX);
    CU_ASSERT_TRUE(whole_is_refused(PEP_BAD_COMMAND));
    memset(bomb, ' ', sizeof bomb);
    bomb[snprintf(bomb, sizeof bomb, "{\"commands\":[{\"command\":\"status\"}]}")] = ' ';
    send_and_wait(&one, bomb, DIRECTORY_COMMAND_MAX);
    CHECK_ANSWER(&one, PEP_OK);
    unsigned before = one.answers;
    send(&one, bomb, DIRECTORY_COMMAND_MAX + 1);
    CU_ASSERT_EQUAL(one.answers, before + 1); /* at once */
    CU_ASSERT_TRUE(whole_is_refused(PEP_BAD_COMMAND));
    finish();
}

static void test_64_commands(void)
{
    char text[8192] = "{\"commands\":[";
    start(DIRECTORY_OPEN);
    for (unsigned i = 0; i < 64; i++)
        snprintf(text + strlen(text), 100, "%s{\"command\":\"status\",\"correlationData\":\"%u\"}", i == 0 ? "" : ",",
                 i);
    size_t n = strlen(text);
    snprintf(text + n, 100, "]}");
    ask(&one, text);
    CU_ASSERT_TRUE(is_error(&one, 63, PEP_OK));
    CU_ASSERT_STRING_EQUAL(text_in(response(&one, 63), "correlationData"), "63");
    snprintf(text + n, 100, ",{\"command\":\"status\"}]}");
    ask(&one, text);
    CU_ASSERT_TRUE(whole_is_refused(PEP_BAD_COMMAND));
    finish();
}

static void test_commands_that_are_wrong(void)
{
    static const char *const commands[] = {
        "{\"command\":\"nothing\"}",
        "{\"command\":\"Status\"}",
        "{\"command\":\"status\",\"more\":1}",
        "{\"command\":\"status\",\"correlationData\":1}",
        "{\"command\":\"lookup\"}",
        "{\"command\":\"lookup\",\"id\":\"a\",\"kid\":\"00112233445566778899aabbccddeeff\"}",
        "{\"command\":\"lookup\",\"id\":1}",
        "{\"command\":\"lookup\",\"id\":\"a b\"}",
        "{\"command\":\"lookup\",\"id\":[\"a\"]}",
        "{\"command\":\"lookup\",\"ids\":[]}",
        "{\"command\":\"lookup\",\"ids\":[1]}",
        "{\"command\":\"lookup\",\"ids\":\"a\"}",
        "{\"command\":\"lookup\",\"kid\":\"00112233445566778899AABBCCDDEEFF\"}",
        "{\"command\":\"lookup\",\"kid\":\"00112233445566778899aabbccddeef\"}",
        "{\"command\":\"list\",\"count\":0}",
        "{\"command\":\"list\",\"count\":1001}",
        "{\"command\":\"list\",\"count\":\"1\"}",
        "{\"command\":\"list\",\"after\":\"\"}",
        "{\"command\":\"history\"}",
        "{\"command\":\"history\",\"id\":\"a\",\"after\":\"1\"}",
    };
    start(DIRECTORY_OPEN);
    for (size_t i = 0; i < COUNT(commands); i++) {
        ask(&one, format("{\"commands\":[%s,{\"command\":\"status\"},7,{\"command\":2}]}", commands[i]));
        if (!is_error(&one, 0, PEP_BAD_COMMAND)) {
            printf("\n  %s ", commands[i]);
            CU_FAIL("taken");
        }
        CU_ASSERT_TRUE(is_error(&one, 1, PEP_OK)); /* the others go on */
        CU_ASSERT_TRUE(is_error(&one, 2, PEP_BAD_COMMAND) && is_error(&one, 3, PEP_BAD_COMMAND));
    }
    ask(&one, "{\"commands\":[{\"command\":\"status\",\"wrong\":1,\"correlationData\":\"x\"}]}");
    CU_ASSERT_PTR_NOT_NULL(strstr(text_in(response(&one, 0), "text"), "\"wrong\""));
    CU_ASSERT_STRING_EQUAL(text_in(response(&one, 0), "correlationData"), "x");
    char long_one[1100];
    memset(long_one, 'x', sizeof long_one);
    long_one[1024] = '\0';
    ask(&one, format("{\"commands\":[{\"command\":\"status\",\"correlationData\":\"%s\"}]}", long_one));
    CHECK_ANSWER(&one, PEP_OK);
    ask(&one, format("{\"commands\":[{\"command\":\"status\",\"correlationData\":\"%sx\"}]}", long_one));
    CHECK_ANSWER(&one, PEP_BAD_COMMAND);
    CU_ASSERT_PTR_NULL(cJSON_GetObjectItem(response(&one, 0), "correlationData"));
    finish();
}

static void test_a_change_in_plain_json(void)
{
    start(DIRECTORY_OPEN);
    party p = party_of("a");
    ask(&one, enroll_json(&p, none, none));
    CHECK_ANSWER(&one, PEP_NOT_AUTHORIZED);
    ask(&one, rotate_json(&p, none));
    CHECK_ANSWER(&one, PEP_NOT_AUTHORIZED);
    ask(&one, revoke_json(&p));
    CHECK_ANSWER(&one, PEP_NOT_AUTHORIZED);
    ask(&one, "{\"commands\":[{\"command\":\"token\"}]}");
    CHECK_ANSWER(&one, PEP_NOT_AUTHORIZED);
    CU_ASSERT_EQUAL(one.good + one.bad, 0); /* nothing was verified */
    finish();
}

/* ---- envelopes ---- */

static void test_envelopes_that_are_wrong(void)
{
    start(DIRECTORY_OPEN);
    party p = party_of("a");
    const uint8_t other[PEP_KID_BYTES] = {1};
    uint64_t now = now_s();
    enroll_json(&p, none, none);
    odd.no_audience = true;
    tell(&one, &p.device, json);
    CHECK_ANSWER(&one, PEP_WRONG_AUDIENCE);
    CU_ASSERT_STRING_EQUAL(text_in(response(&one, 0), "command"), "enroll");
    CU_ASSERT_STRING_EQUAL(text_in(response(&one, 0), "correlationData"), "c");
    odd.audience = other;
    tell(&one, &p.device, json);
    CHECK_ANSWER(&one, PEP_WRONG_AUDIENCE);
    odd.no_exp = true;
    tell(&one, &p.device, json);
    CHECK_ANSWER(&one, PEP_BAD_COMMAND);
    odd.exp_s = now + 200;
    tell(&one, &p.device, json);
    CHECK_ANSWER(&one, PEP_BAD_COMMAND);
    odd.exp_s = now - 1;
    tell(&one, &p.device, json);
    CHECK_ANSWER(&one, PEP_EXPIRED);
    odd.seq = pep_now_us() + 70000000;
    tell(&one, &p.device, json);
    CHECK_ANSWER(&one, PEP_FUTURE_SEQ);
    odd.topic = "$CONTROL/pep/v2";
    tell(&one, &p.device, json);
    CHECK_ANSWER(&one, PEP_WRONG_TOPIC);
    odd.flags = PEP_FLAG_WILL;
    tell(&one, &p.device, json);
    CHECK_ANSWER(&one, PEP_MISPLACED_FLAG);
    CU_ASSERT_EQUAL(one.good + one.bad, 0); /* all of that is cheaper than a signature */
    seal(&one, &p.device, json);
    sealed[sealed_n - 1] ^= 1;
    send_and_wait(&one, sealed, sealed_n);
    CHECK_ANSWER(&one, PEP_NOT_AUTHORIZED);
    CU_ASSERT_TRUE(one.good == 0 && one.bad == 1);
    CU_ASSERT_FALSE(knows(&one, &p));
    odd.flags = PEP_FLAG_COUNTER;
    odd.seq = 5;
    tell(&one, &p.device, json);
    CHECK_ANSWER(&one, PEP_OK);
    CU_ASSERT_TRUE(one.good == 1 && one.bad == 1);
    finish();
}

static void test_truncated_at_each_byte(void)
{
    start(DIRECTORY_OPEN);
    party p = party_of("a");
    seal(&one, &p.device, enroll_json(&p, none, none));
    unsigned answers = one.answers;
    for (size_t n = 1; n < sealed_n; n++) {
        send(&one, sealed, n);
        if (n % 128 == 0)
            UNTIL(&one, one.answers == answers + n);
    }
    UNTIL(&one, one.answers == answers + sealed_n - 1);
    CU_ASSERT_EQUAL(directory_counted(one.d).changes, 0);
    size_t whole = strlen(json);
    answers = one.answers;
    for (size_t n = 0; n < whole; n++) {
        send(&one, json, n);
        if (n % 128 == 0)
            UNTIL(&one, one.answers == answers + n + 1);
    }
    UNTIL(&one, one.answers == answers + whole);
    CU_ASSERT_EQUAL(one.good + one.bad, 0);
    finish();
}

static void test_repeated(void)
{
    start(DIRECTORY_OPEN);
    party p = party_of("a");
    tell(&one, &p.device, enroll_json(&p, none, none));
    CHECK_ANSWER(&one, PEP_OK);
    send_and_wait(&one, sealed, sealed_n);
    CHECK_ANSWER(&one, PEP_REPEATED_COMMAND);
    CU_ASSERT_TRUE(one.good == 1 && one.bad == 1); /* whoever sends it again may have overheard it */
    close_site(&one);
    open_site(&one);
    send_and_wait(&one, sealed, sealed_n);
    CHECK_ANSWER(&one, PEP_REPEATED_COMMAND);
    tell(&one, &p.device, enroll_json(&p, none, none)); /* the same record in another command */
    CHECK_ANSWER(&one, PEP_OK);
    tell(&one, &p.device, "{\"commands\":[{\"command\":\"status\"},{\"command\":\"lookup\",\"id\":\"a\"}]}");
    CU_ASSERT_TRUE(is_error(&one, 0, PEP_OK) && is_error(&one, 1, PEP_OK));
    unsigned judged = one.good + one.bad;
    send_and_wait(&one, sealed, sealed_n); /* what only reads is not remembered, and says nothing of its sender */
    CU_ASSERT_TRUE(is_error(&one, 0, PEP_OK) && is_error(&one, 1, PEP_OK));
    CU_ASSERT_EQUAL(one.good + one.bad, judged);
    tell(&one, &p.device, format("{\"commands\":[{\"command\":\"token\"},{\"command\":\"status\"}]}"));
    CU_ASSERT_TRUE(is_error(&one, 0, PEP_NOT_AUTHORIZED) && is_error(&one, 1, PEP_OK));
    send_and_wait(&one, sealed, sealed_n); /* what was refused, is */
    CU_ASSERT_TRUE(is_error(&one, 0, PEP_REPEATED_COMMAND) && is_error(&one, 1, PEP_REPEATED_COMMAND));
    finish();
}

/* Anybody can make a key up and sign with it: that is worth nothing, unless something came of it. */
static void test_made_up_keys_have_no_standing(void)
{
    start(DIRECTORY_CLOSED);
    for (int i = 0; i < 3; i++) {
        party p = party_of("a");
        tell(&one, &p.device, enroll_json(&p, none, none));
        CHECK_ANSWER(&one, PEP_CLOSED);
        CU_ASSERT_TRUE(one.good == 0 && one.bad == (unsigned)i + 1);
    }
    finish();
    start(DIRECTORY_OPEN);
    party a = enrolled(&one, "a");
    CU_ASSERT_TRUE(one.good == 1 && one.bad == 0);
    party again = party_of("a");
    tell(&one, &again.device, enroll_json(&again, none, none));
    CHECK_ANSWER(&one, PEP_ID_TAKEN);
    CU_ASSERT_TRUE(one.good == 1 && one.bad == 1);
    rotate(&a);
    tell(&one, &again.device, rotate_json(&a, none)); /* what somebody else made */
    CHECK_ANSWER(&one, PEP_NOT_AUTHORIZED);
    CU_ASSERT_EQUAL(one.good, 1);
    finish();
}

static void test_strangers(void)
{
    start(DIRECTORY_OPEN);
    party p = party_of("a");
    party q = party_of("b");
    tell(&one, &p.device, "{\"commands\":[{\"command\":\"status\"}]}");
    CHECK_ANSWER(&one, PEP_NOT_AUTHORIZED);
    tell(&one, &q.device, enroll_json(&p, none, none)); /* another's record */
    CHECK_ANSWER(&one, PEP_NOT_AUTHORIZED);
    CU_ASSERT_EQUAL(one.good, 0); /* a record is public: it proves nothing about who sends it */
    enroll_json(&p, none, none);
    tell(&one, &p.device,
         format("{\"commands\":[%.*s,{\"command\":\"status\"}]}", (int)(strlen(json) - 15), json + 13));
    CU_ASSERT_TRUE(is_error(&one, 0, PEP_NOT_AUTHORIZED) && is_error(&one, 1, PEP_NOT_AUTHORIZED));
    CU_ASSERT_EQUAL(directory_counted(one.d).changes, 0);
    finish();
}

/* ---- enrolment ---- */

static void test_open(void)
{
    start(DIRECTORY_OPEN);
    party p = party_of("pump-1");
    tell(&one, &p.device, enroll_json(&p, none, none));
    CHECK_ANSWER(&one, PEP_OK);
    CU_ASSERT_STRING_EQUAL(text_in(response(&one, 0), "command"), "enroll");
    CU_ASSERT_STRING_EQUAL(text_in(data(&one, 0), "id"), "pump-1");
    CU_ASSERT_EQUAL(number_in(data(&one, 0), "version"), 1);
    CU_ASSERT_TRUE_FATAL(knows(&one, &p));
    CU_ASSERT_STRING_EQUAL(found.id, "pump-1");
    CU_ASSERT_EQUAL(found.state, SIGNER_CURRENT);
    CU_ASSERT_TRUE(found.not_after_s >= now_s() + LIFE_S - 100);
    CU_ASSERT_TRUE(serves(&one, "pump-1", &p, none));
    directory_counters c = directory_counted(one.d);
    CU_ASSERT_TRUE(c.records == 1 && c.changes == 1 && c.refused == 0 && c.commands == 1 && c.unserved == 0);
    CU_ASSERT_TRUE(c.commits >= 1 && c.store_failures == 0 && !c.store_away);
    CU_ASSERT_TRUE(one.good == 1 && one.bad == 0);
    tell(&one, &p.device, enroll_json(&p, none, none));
    CHECK_ANSWER(&one, PEP_OK);
    CU_ASSERT_EQUAL(directory_counted(one.d).changes, 1);
    CU_ASSERT_STRING_EQUAL(one.log, "n enrolled pump-1, version 1\n"); /* and not again */
    finish();
}

static void test_closed(void)
{
    start(DIRECTORY_CLOSED);
    party p = party_of("a");
    tell(&one, &p.device, enroll_json(&p, none, none));
    CHECK_ANSWER(&one, PEP_CLOSED);
    CU_ASSERT_FALSE(knows(&one, &p));
    finish();
}

/* Who comes first with an admin's name would be admin. */
static void test_open_to_all_but_admins(void)
{
    begin(DIRECTORY_OPEN);
    one.admins[0] = "console";
    one.admins[1] = "@ops";
    one.with_folder = true;
    open_site(&one);
    party p = party_of("console");
    tell(&one, &p.device, enroll_json(&p, none, none));
    CHECK_ANSWER(&one, PEP_CLOSED);
    CU_ASSERT_FALSE(knows(&one, &p));
    enrolled(&one, "console2");
    enrolled(&one, "@ops"); /* an id, and no group */
    close_site(&one);
    save("console.pub", &p);
    open_site(&one); /* the operator's word */
    CU_ASSERT_TRUE(knows(&one, &p));
    tell(&one, &p.device, enroll_json(&p, none, none));
    CHECK_ANSWER(&one, PEP_OK); /* there already */
    finish();
}

static void test_taken(void)
{
    start(DIRECTORY_OPEN);
    party p = enrolled(&one, "a");
    party q = party_of("a");
    tell(&one, &q.device, enroll_json(&q, none, none));
    CHECK_ANSWER(&one, PEP_ID_TAKEN);

    pep_device thief = p.device; /* the same keys under another id */
    set_id(thief.id, "b");
    q = party_from(&thief, now_s(), now_s() + LIFE_S);
    tell(&one, &thief, enroll_json(&q, none, none));
    CHECK_ANSWER(&one, PEP_KID_TAKEN);

    uint8_t seed[32] = {7};
    CU_ASSERT_EQUAL(pep_device_from_secrets(&thief, "b", seed, p.device.agree_secret), PEP_OK);
    q = party_from(&thief, now_s(), now_s() + LIFE_S); /* its agreement key alone */
    tell(&one, &thief, enroll_json(&q, none, none));
    CHECK_ANSWER(&one, PEP_KID_TAKEN);

    q = party_from(&p.device, now_s() - 5, now_s() + LIFE_S); /* version 1 a second time */
    tell(&one, &p.device, enroll_json(&q, none, none));
    CHECK_ANSWER(&one, PEP_WRONG_VERSION);
    CU_ASSERT_EQUAL(directory_counted(one.d).records, 1);
    CU_ASSERT_TRUE(serves(&one, "a", &p, none));
    finish();
}

static void test_times_of_records(void)
{
    pep_device device;
    start(DIRECTORY_OPEN);
    CU_ASSERT_EQUAL(pep_device_new(&device, "a"), PEP_OK);
    party p = party_from(&device, now_s() + 90, now_s() + LIFE_S);
    tell(&one, &device, enroll_json(&p, none, none));
    CHECK_ANSWER(&one, PEP_BAD_COMMAND);
    p = party_from(&device, now_s() - 90, now_s() - 1);
    tell(&one, &device, enroll_json(&p, none, none));
    CHECK_ANSWER(&one, PEP_EXPIRED_SIGNER);
    finish();
}

static void test_bad_records(void)
{
    start(DIRECTORY_OPEN);
    party p = party_of("a");
    p.bytes[p.n - 1] ^= 1;
    tell(&one, &p.device, enroll_json(&p, none, none));
    CHECK_ANSWER(&one, PEP_BAD_SIGNATURE);
    CU_ASSERT_TRUE(one.good == 0 && one.bad == 1);
    p.n -= 3;
    tell(&one, &p.device, enroll_json(&p, none, none));
    CHECK_ANSWER(&one, PEP_MALFORMED);
    tell(&one, &p.device, "{\"commands\":[{\"command\":\"enroll\",\"record\":\"!\"}]}");
    CHECK_ANSWER(&one, PEP_NOT_AUTHORIZED);
    party q = enrolled(&one, "b");
    tell(&one, &q.device, "{\"commands\":[{\"command\":\"enroll\",\"record\":\"!\"},{\"command\":\"enroll\"}]}");
    CU_ASSERT_TRUE(is_error(&one, 0, PEP_BAD_COMMAND) && is_error(&one, 1, PEP_BAD_COMMAND));
    rotate(&q);
    tell(&one, &q.device, enroll_json(&q, none, none)); /* a rotation where a record belongs */
    CU_ASSERT_TRUE(is_error(&one, 0, PEP_BAD_COMMAND));
    finish();
}

static void test_max_records(void)
{
    begin(DIRECTORY_OPEN);
    one.max_records = 2;
    open_site(&one);
    party a = enrolled(&one, "a");
    enrolled(&one, "b");
    party c = party_of("c");
    tell(&one, &c.device, enroll_json(&c, none, none));
    CHECK_ANSWER(&one, PEP_TOO_MANY);
    tell(&one, &a.device, enroll_json(&a, none, none)); /* is there already */
    CHECK_ANSWER(&one, PEP_OK);
    finish();
}

/* ---- authorities ---- */

typedef struct {
    uint8_t bytes[PEP_CERTIFICATE_BYTES_MAX];
    size_t n;
} cert;

static pep_authority authority;

static cert certify(const pep_authority *by, const party *p, const char *group, uint64_t issued_s, bool gate)
{
    cert out;
    pep_certificate c = {.issued_s = issued_s, .not_after_s = now_s() + 1000, .gate = gate};
    set_id(c.id, p->device.id);
    memcpy(c.kid, p->device.sign_kid, sizeof c.kid);
    if (group != NULL)
        set_id(c.groups[c.group_count++], group);
    CU_ASSERT_EQUAL_FATAL(pep_certificate_sign(out.bytes, &out.n, by, &c), PEP_OK);
    return out;
}

static pep_view cert_view(const cert *c)
{
    return bytes_view(c->bytes, c->n);
}

static void start_authority(directory_enroll mode)
{
    CU_ASSERT_EQUAL_FATAL(pep_authority_new(&authority), PEP_OK);
    begin(mode);
    one.authority = &authority;
    one.admins[0] = "@ops";
    open_site(&one);
}

static party certified(const char *id, const char *group)
{
    party p = party_of(id);
    cert c = certify(&authority, &p, group, now_s(), false);
    tell(&one, &p.device, enroll_json(&p, cert_view(&c), none));
    CHECK_ANSWER(&one, PEP_OK);
    return p;
}

static void test_authority(void)
{
    pep_authority other;
    CU_ASSERT_EQUAL_FATAL(pep_authority_new(&other), PEP_OK);
    start_authority(DIRECTORY_AUTHORITY);
    party p = party_of("a");
    party q = party_of("b");
    tell(&one, &p.device, enroll_json(&p, none, none));
    CHECK_ANSWER(&one, PEP_NOT_CERTIFIED);
    cert c = certify(&other, &p, NULL, now_s(), false);
    tell(&one, &p.device, enroll_json(&p, cert_view(&c), none));
    CHECK_ANSWER(&one, PEP_NOT_CERTIFIED);
    c = certify(&authority, &q, NULL, now_s(), false);
    tell(&one, &p.device, enroll_json(&p, cert_view(&c), none));
    CHECK_ANSWER(&one, PEP_WRONG_ID);
    c = certify(&authority, &p, NULL, now_s(), true);
    tell(&one, &p.device, enroll_json(&p, cert_view(&c), none));
    CHECK_ANSWER(&one, PEP_NOT_CERTIFIED); /* a gate's */
    c = certify(&authority, &p, NULL, now_s(), false);
    c.bytes[c.n - 1] ^= 1;
    tell(&one, &p.device, enroll_json(&p, cert_view(&c), none));
    CHECK_ANSWER(&one, PEP_BAD_SIGNATURE);
    CU_ASSERT_FALSE(knows(&one, &p));

    c = certify(&authority, &p, "pumps", now_s(), false);
    tell(&one, &p.device, enroll_json(&p, cert_view(&c), none));
    CHECK_ANSWER(&one, PEP_OK);
    CU_ASSERT_TRUE_FATAL(knows(&one, &p));
    CU_ASSERT_STRING_EQUAL(found.groups, "pumps");
    CU_ASSERT_TRUE(found.not_after_s <= now_s() + 1000); /* the certificate's */
    CU_ASSERT_TRUE(serves(&one, "a", &p, cert_view(&c)));

    cert newer = certify(&authority, &p, "ops", now_s() + 10, false);
    tell(&one, &p.device, enroll_json(&p, cert_view(&newer), none));
    CHECK_ANSWER(&one, PEP_OK);
    CU_ASSERT_TRUE(serves(&one, "a", &p, cert_view(&newer)));
    CU_ASSERT_TRUE(knows(&one, &p));
    CU_ASSERT_STRING_EQUAL(found.groups, "ops");
    tell(&one, &p.device, enroll_json(&p, cert_view(&c), none)); /* an older one changes nothing */
    CHECK_ANSWER(&one, PEP_OK);
    CU_ASSERT_TRUE(serves(&one, "a", &p, cert_view(&newer)));
    finish();
}

static void test_a_certificate_where_there_are_no_authorities(void)
{
    CU_ASSERT_EQUAL_FATAL(pep_authority_new(&authority), PEP_OK);
    start(DIRECTORY_OPEN);
    party p = party_of("a");
    cert c = certify(&authority, &p, NULL, now_s(), false);
    tell(&one, &p.device, enroll_json(&p, cert_view(&c), none));
    CHECK_ANSWER(&one, PEP_BAD_COMMAND);
    finish();
}

/* ---- tokens ---- */

static char token_text[PEP_TOKEN_TEXT_BYTES];

static const char *token_json(const char *id, uint64_t expires_s)
{
    uint8_t kid[PEP_KID_BYTES];
    pep_token_new(token_text, kid);
    CU_ASSERT_EQUAL_FATAL(pep_command_token(json, NULL, id, kid, expires_s), PEP_OK);
    return json;
}

static cert proof_of(const party *p)
{
    cert out;
    CU_ASSERT_EQUAL_FATAL(pep_token_prove(out.bytes, &out.n, token_text, p->head.hash), PEP_OK);
    return out;
}

/* An admin, from the operator's folder. */
static party start_tokens(void)
{
    begin(DIRECTORY_TOKEN);
    party admin = party_of("admin");
    CU_ASSERT_EQUAL_FATAL(pep_statement_replace(&error, scratch_path("folder/admin.pub"), admin.bytes, admin.n),
                          PEP_OK);
    one.with_folder = true;
    one.admins[0] = "admin";
    open_site(&one);
    return admin;
}

static void test_tokens(void)
{
    party admin = start_tokens();
    party p = party_of("a");
    tell(&one, &p.device, enroll_json(&p, none, none));
    CHECK_ANSWER(&one, PEP_BAD_TOKEN);
    tell(&one, &admin.device, token_json("a", now_s() + 100));
    CHECK_ANSWER(&one, PEP_OK);
    party q = party_of("b");
    cert proof = proof_of(&q);
    tell(&one, &q.device, enroll_json(&q, none, cert_view(&proof)));
    CHECK_ANSWER(&one, PEP_BAD_TOKEN); /* for another id */
    tell(&one, &p.device, enroll_json(&p, none, cert_view(&proof)));
    CHECK_ANSWER(&one, PEP_BAD_TOKEN); /* about another record */
    proof = proof_of(&p);
    tell(&one, &p.device, enroll_json(&p, none, cert_view(&proof)));
    CHECK_ANSWER(&one, PEP_OK);
    CU_ASSERT_TRUE(knows(&one, &p));
    tell(&one, &p.device, enroll_json(&p, none, cert_view(&proof)));
    CHECK_ANSWER(&one, PEP_OK); /* the same again */
    q = party_of("a");
    proof = proof_of(&q);
    tell(&one, &q.device, enroll_json(&q, none, cert_view(&proof)));
    CHECK_ANSWER(&one, PEP_ID_TAKEN);
    tell(&one, &admin.device, token_json("a", now_s() + 100));
    CHECK_ANSWER(&one, PEP_ID_TAKEN);
    finish();
}

/* Two devices with one token, in one batch: one of them gets in. */
static void test_one_token_for_two(void)
{
    party admin = start_tokens();
    tell(&one, &admin.device, token_json("a", now_s() + 100));
    unsigned before = one.answers;
    uint64_t changes = directory_counted(one.d).changes;
    for (unsigned i = 0; i < 2; i++) {
        party p = party_of("a");
        cert proof = proof_of(&p);
        seal(&one, &p.device, enroll_json(&p, none, cert_view(&proof)));
        send(&one, sealed, sealed_n);
    }
    UNTIL(&one, one.answers == before + 2);
    CU_ASSERT_EQUAL(directory_counted(one.d).changes, changes + 1);
    finish();
}

static void test_whose_tokens(void)
{
    party admin = start_tokens();
    uint8_t kid[PEP_KID_BYTES];
    char old_text[PEP_TOKEN_TEXT_BYTES];
    tell(&one, &admin.device, token_json("a", now_s() + 100));
    snprintf(old_text, sizeof old_text, "%s", token_text);
    party p = party_of("a");
    tell(&one, &admin.device, token_json("a", now_s() + 100)); /* replaces the one before */
    CHECK_ANSWER(&one, PEP_OK);
    snprintf(token_text, sizeof token_text, "%s", old_text);
    cert proof = proof_of(&p);
    tell(&one, &p.device, enroll_json(&p, none, cert_view(&proof)));
    CHECK_ANSWER(&one, PEP_BAD_TOKEN);
    tell(&one, &admin.device, token_json("a", now_s() + 100));
    proof = proof_of(&p);
    tell(&one, &p.device, enroll_json(&p, none, cert_view(&proof)));
    CHECK_ANSWER(&one, PEP_OK);
    tell(&one, &p.device, token_json("b", now_s() + 100)); /* no admin */
    CHECK_ANSWER(&one, PEP_NOT_AUTHORIZED);
    tell(&one, &admin.device, token_json("b", now_s()));
    CHECK_ANSWER(&one, PEP_BAD_COMMAND);
    tell(&one, &admin.device, token_json("b", now_s() + 367ULL * 86400));
    CHECK_ANSWER(&one, PEP_BAD_COMMAND);
    pep_token_new(token_text, kid);
    CU_ASSERT_EQUAL(pep_command_token(json, NULL, "c", kid, now_s() + 100), PEP_OK);
    tell(&one, &admin.device, json);
    CU_ASSERT_EQUAL(pep_command_token(json, NULL, "d", kid, now_s() + 100), PEP_OK);
    tell(&one, &admin.device, json);
    CHECK_ANSWER(&one, PEP_BAD_TOKEN); /* given for another id */
    finish();
}

static void test_expired_tokens(void)
{
    party admin = start_tokens();
    uint64_t end_s = now_s() + 1;
    tell(&one, &admin.device, token_json("a", end_s));
    CHECK_ANSWER(&one, PEP_OK);
    UNTIL(&one, now_s() > end_s);
    party p = party_of("a");
    cert proof = proof_of(&p);
    tell(&one, &p.device, enroll_json(&p, none, cert_view(&proof)));
    CHECK_ANSWER(&one, PEP_BAD_TOKEN);
    finish();
}

/* ---- rotation ---- */

static void test_rotation(void)
{
    start(DIRECTORY_OPEN);
    party old = enrolled(&one, "a");
    party p = old;
    rotate(&p);
    tell(&one, &old.device, rotate_json(&p, none));
    CHECK_ANSWER(&one, PEP_OK);
    CU_ASSERT_EQUAL(number_in(data(&one, 0), "version"), 2);
    CU_ASSERT_TRUE(knows(&one, &old));
    CU_ASSERT_EQUAL(found.state, SIGNER_ROTATED);
    CU_ASSERT_TRUE(found.cutoff > pep_now_us() && found.ended_s + 10 > now_s());
    CU_ASSERT_TRUE(knows(&one, &p));
    CU_ASSERT_EQUAL(found.state, SIGNER_CURRENT);
    CU_ASSERT_TRUE(serves(&one, "a", &p, none));
    tell(&one, &old.device, rotate_json(&p, none)); /* the answer was lost */
    CHECK_ANSWER(&one, PEP_OK);
    tell(&one, &p.device, rotate_json(&p, none));
    CHECK_ANSWER(&one, PEP_OK);
    CU_ASSERT_EQUAL(directory_counted(one.d).changes, 2);
    tell(&one, &old.device, "{\"commands\":[{\"command\":\"status\"}]}");
    CHECK_ANSWER(&one, PEP_NOT_AUTHORIZED); /* and it does nothing else any more */

    pep_device next = p.device; /* the same signing key, another agreement key */
    CU_ASSERT_EQUAL(pep_device_renew(&next, &p.device, true, now_s(), now_s() + 3600), PEP_OK);
    rotate_with(&p, &next, p.device.sign_secret, 0);
    tell(&one, &p.device, rotate_json(&p, none));
    CHECK_ANSWER(&one, PEP_OK);
    CU_ASSERT_EQUAL(number_in(data(&one, 0), "version"), 3);
    CU_ASSERT_TRUE(serves(&one, "a", &p, none));
    ask(&one,
        "{\"commands\":[{\"command\":\"history\",\"id\":\"a\"},{\"command\":\"history\",\"id\":\"a\",\"after\":2}]}");
    CU_ASSERT_EQUAL(cJSON_GetArraySize(cJSON_GetObjectItem(data(&one, 0), "statements")), 3);
    CU_ASSERT_EQUAL(cJSON_GetArraySize(cJSON_GetObjectItem(data(&one, 1), "statements")), 1);
    finish();
}

static void test_rotations_that_are_wrong(void)
{
    start(DIRECTORY_OPEN);
    party a = enrolled(&one, "a");
    party b = enrolled(&one, "b");
    party p = a;
    rotate(&p);
    party second = p;
    rotate(&second);
    tell(&one, &a.device, rotate_json(&second, none)); /* a version is missing between */
    CHECK_ANSWER(&one, PEP_WRONG_VERSION);
    party fork = a;
    rotate(&fork);
    tell(&one, &a.device, rotate_json(&p, none));
    CHECK_ANSWER(&one, PEP_OK);
    tell(&one, &p.device, rotate_json(&fork, none));
    CHECK_ANSWER(&one, PEP_WRONG_VERSION);

    party stolen = p; /* somebody else signs for the device */
    pep_device next;
    CU_ASSERT_EQUAL(pep_device_new(&next, "a"), PEP_OK);
    rotate_with(&stolen, &next, b.device.sign_secret, pep_now_us());
    tell(&one, &b.device, rotate_json(&stolen, none));
    CHECK_ANSWER(&one, PEP_UNPROVEN_KEY);

    stolen = p; /* to another's key */
    next = b.device;
    set_id(next.id, "a");
    rotate_with(&stolen, &next, p.device.sign_secret, pep_now_us());
    tell(&one, &p.device, rotate_json(&stolen, none));
    CHECK_ANSWER(&one, PEP_KID_TAKEN);

    stolen = p; /* back to a former key of its own */
    next = a.device;
    rotate_with(&stolen, &next, p.device.sign_secret, pep_now_us());
    tell(&one, &p.device, rotate_json(&stolen, none));
    CHECK_ANSWER(&one, PEP_KID_TAKEN);

    stolen = p;
    CU_ASSERT_EQUAL(pep_device_new(&next, "a"), PEP_OK);
    rotate_with(&stolen, &next, p.device.sign_secret, pep_now_us() + 300000000);
    tell(&one, &p.device, rotate_json(&stolen, none));
    CHECK_ANSWER(&one, PEP_BAD_COMMAND); /* the cutoff */

    party stranger = party_of("nobody");
    rotate(&stranger);
    tell(&one, &stranger.device, rotate_json(&stranger, none));
    CHECK_ANSWER(&one, PEP_UNKNOWN_ID);
    CU_ASSERT_TRUE(serves(&one, "a", &p, none));
    finish();
}

static void test_an_expired_device_renews_itself(void)
{
    pep_device device;
    start(DIRECTORY_OPEN);
    CU_ASSERT_EQUAL(pep_device_new(&device, "a"), PEP_OK);
    uint64_t end_s = now_s() + 1;
    party old = party_from(&device, now_s() - 10, end_s);
    enroll(&one, &old);
    UNTIL(&one, now_s() > end_s);
    party p = old;
    rotate(&p);
    tell(&one, &old.device, rotate_json(&p, none));
    CHECK_ANSWER(&one, PEP_OK);
    finish();
}

static void test_rotation_with_certificates(void)
{
    start_authority(DIRECTORY_AUTHORITY);
    party old = certified("a", "pumps");
    party p = old;
    rotate(&p);
    tell(&one, &old.device, rotate_json(&p, none));
    CHECK_ANSWER(&one, PEP_NOT_CERTIFIED);
    cert c = certify(&authority, &p, "pumps", now_s(), false);
    tell(&one, &old.device, rotate_json(&p, cert_view(&c)));
    CHECK_ANSWER(&one, PEP_OK);
    CU_ASSERT_TRUE(serves(&one, "a", &p, cert_view(&c)));
    pep_device next;
    CU_ASSERT_EQUAL(pep_device_renew(&next, &p.device, true, now_s(), now_s() + 3600), PEP_OK);
    rotate_with(&p, &next, p.device.sign_secret, 0); /* the same key: the same certificate */
    tell(&one, &p.device, rotate_json(&p, none));
    CHECK_ANSWER(&one, PEP_OK);
    CU_ASSERT_TRUE(serves(&one, "a", &p, cert_view(&c)));
    CU_ASSERT_TRUE(knows(&one, &p));
    CU_ASSERT_STRING_EQUAL(found.groups, "pumps");
    finish();
}

/* A device renews itself under its newest certificate: an older one may have had a group that was taken away since. */
static void test_an_older_certificate(void)
{
    pep_device next;
    start_authority(DIRECTORY_OPEN);
    party p = party_of("a");
    cert old = certify(&authority, &p, "ops", now_s() - 100, false);
    cert newer = certify(&authority, &p, "pumps", now_s() - 50, false);
    tell(&one, &p.device, enroll_json(&p, cert_view(&newer), none));
    CHECK_ANSWER(&one, PEP_OK);
    party before = p;
    CU_ASSERT_EQUAL(pep_device_renew(&next, &p.device, true, now_s(), now_s() + 3600), PEP_OK);
    rotate_with(&p, &next, p.device.sign_secret, 0);
    tell(&one, &before.device, rotate_json(&p, cert_view(&old)));
    CHECK_ANSWER(&one, PEP_NOT_CERTIFIED);
    CU_ASSERT_TRUE(serves(&one, "a", &before, cert_view(&newer)));
    tell(&one, &before.device, rotate_json(&p, none)); /* the one it has comes along */
    CHECK_ANSWER(&one, PEP_OK);
    CU_ASSERT_TRUE(serves(&one, "a", &p, cert_view(&newer)));
    tell(&one, &before.device, rotate_json(&p, cert_view(&old))); /* the same again, with the old one */
    CHECK_ANSWER(&one, PEP_OK);
    CU_ASSERT_TRUE(serves(&one, "a", &p, cert_view(&newer)));
    rotate_with(&p, &next, p.device.sign_secret, 0);
    tell(&one, &p.device, rotate_json(&p, cert_view(&newer)));
    CHECK_ANSWER(&one, PEP_OK);
    cert newest = certify(&authority, &p, NULL, now_s(), false);
    rotate_with(&p, &next, p.device.sign_secret, 0);
    tell(&one, &p.device, rotate_json(&p, cert_view(&newest)));
    CHECK_ANSWER(&one, PEP_OK);
    CU_ASSERT_TRUE(serves(&one, "a", &p, cert_view(&newest)));
    finish();
}

static void test_recovery_by_an_authority(void)
{
    start_authority(DIRECTORY_AUTHORITY);
    party helper = certified("helper", NULL);
    party p = certified("a", NULL);
    party lost = p;
    pep_device next;
    CU_ASSERT_EQUAL(pep_device_new(&next, "a"), PEP_OK);
    rotate_with(&p, &next, authority.sign_secret, pep_now_us());
    tell(&one, &helper.device, rotate_json(&p, none));
    CHECK_ANSWER(&one, PEP_OK);
    CU_ASSERT_TRUE(knows(&one, &p) && knows(&one, &lost));
    CU_ASSERT_EQUAL(found.state, SIGNER_ROTATED);
    CU_ASSERT_TRUE(serves(&one, "a", &p, none));

    party revoked = p; /* and once more, behind a revocation */
    revoke_with(&revoked, authority.sign_secret);
    tell(&one, &helper.device, revoke_json(&revoked));
    CHECK_ANSWER(&one, PEP_OK);
    pep_statement st;
    CU_ASSERT_EQUAL(pep_statement_parse(&st, revoked.bytes, revoked.n), PEP_OK);
    pep_trust trust = {(const uint8_t(*)[PEP_SIGN_PUBLIC_BYTES])authority.sign_public, 1, NULL};
    CU_ASSERT_EQUAL(pep_head_advance(&p.head, NULL, &st, &trust), PEP_OK);
    party again = p;
    CU_ASSERT_EQUAL(pep_device_new(&next, "a"), PEP_OK);
    rotate_with(&again, &next, authority.sign_secret, 0);
    tell(&one, &next, rotate_json(&again, none));
    CHECK_ANSWER(&one, PEP_OK);
    CU_ASSERT_TRUE(knows(&one, &p));
    CU_ASSERT_EQUAL(found.state, SIGNER_REVOKED);
    CU_ASSERT_TRUE(knows(&one, &again));
    CU_ASSERT_EQUAL(found.state, SIGNER_CURRENT);
    finish();
}

static void answer_rotation(const party *by, const party *p, pep_reason reason)
{
    tell(&one, &by->device, rotate_json(p, none));
    CHECK_ANSWER(&one, reason);
}

/* By itself, a device changes its keys ten times an hour, renewals among them. An authority always can. */
static void test_rotations_within_an_hour(void)
{
    pep_device next;
    start_authority(DIRECTORY_OPEN);
    party helper = enrolled(&one, "helper");
    party p = enrolled(&one, "a");
    for (unsigned i = 0; i < 10; i++) {
        CU_ASSERT_EQUAL(pep_device_renew(&next, &p.device, i % 2 == 0, now_s(), now_s() + 3600), PEP_OK);
        rotate_with(&p, &next, p.device.sign_secret, i % 2 == 0 ? 0 : pep_now_us());
        answer_rotation(&helper, &p, PEP_OK);
    }
    answer_rotation(&helper, &p, PEP_OK); /* the same again */
    party eleventh = p;
    rotate(&eleventh);
    answer_rotation(&helper, &eleventh, PEP_TOO_MANY);
    CU_ASSERT_FALSE(knows(&one, &eleventh));
    CU_ASSERT_TRUE(serves(&one, "a", &p, none));
    party saved = p;
    CU_ASSERT_EQUAL(pep_device_new(&next, "a"), PEP_OK);
    rotate_with(&saved, &next, authority.sign_secret, pep_now_us());
    answer_rotation(&helper, &saved, PEP_OK);
    party gone = saved;
    rotate(&saved);
    answer_rotation(&helper, &saved, PEP_TOO_MANY);
    saved = gone;
    pass_an_hour();
    rotate(&saved);
    answer_rotation(&helper, &saved, PEP_OK);
    damage("UPDATE statements SET stored = stored + 86400"); /* a clock that was wrong locks nobody out */
    rotate(&saved);
    answer_rotation(&helper, &saved, PEP_OK);
    gone = saved;
    revoke_with(&gone, saved.device.sign_secret);
    tell(&one, &saved.device, revoke_json(&gone)); /* and revoking is no rotation */
    CHECK_ANSWER(&one, PEP_OK);
    finish();
}

/* A history ends somewhere, too; who has one that long can be helped by an authority, and revoke itself. */
static void test_a_long_history(void)
{
    pep_device next;
    start_authority(DIRECTORY_OPEN);
    party helper = enrolled(&one, "helper");
    party p = enrolled(&one, "a");
    damage("UPDATE statements SET position = 999 WHERE id = 'a'");
    damage("UPDATE keys SET position = 999 WHERE id = 'a'");
    rotate(&p);
    answer_rotation(&helper, &p, PEP_OK);
    party over = p;
    rotate(&over);
    answer_rotation(&helper, &over, PEP_TOO_MANY);
    CU_ASSERT_TRUE(serves(&one, "a", &p, none));
    CU_ASSERT_EQUAL(pep_device_new(&next, "a"), PEP_OK);
    rotate_with(&p, &next, authority.sign_secret, pep_now_us());
    answer_rotation(&helper, &p, PEP_OK);
    party gone = p;
    revoke_with(&gone, p.device.sign_secret);
    tell(&one, &p.device, revoke_json(&gone));
    CHECK_ANSWER(&one, PEP_OK);
    finish();
}

static bool take_plan(void *ctx, const store_value *columns, size_t n)
{
    char line[256] = "";
    const store_value *v = &columns[n - 1];
    CU_ASSERT_EQUAL(v->type, STORE_TEXT);
    memcpy(line, v->p, v->n < sizeof line ? v->n : 0);
    *(bool *)ctx = strstr(line, "statements_by_hash") != NULL;
    return true;
}

/* Each change looks for its statement by the hash, which takes as long in a long history as in a short one. */
static void test_statements_are_found_by_hash(void)
{
    bool indexed = on_postgres; /* which plans by what it finds in the tables */
    start(DIRECTORY_OPEN);
    store *s = on_postgres ? NULL : open_beside();
    const store_value p[] = {store_text("a", 1), store_blob("h", 1)};
    if (s != NULL)
        CU_ASSERT_EQUAL(store_run(s, "EXPLAIN QUERY PLAN SELECT position FROM statements WHERE id = $1 AND hash = $2",
                                  p, 2, take_plan, &indexed),
                        STORE_OK);
    CU_ASSERT_TRUE(indexed);
    store_close(s);
    finish();
}

/* ---- revocation ---- */

static void test_revoked_by_itself(void)
{
    start(DIRECTORY_OPEN);
    party first = enrolled(&one, "a");
    party p = first;
    rotate(&p);
    tell(&one, &p.device, rotate_json(&p, none));
    CHECK_ANSWER(&one, PEP_OK);
    party gone = p;
    revoke_with(&gone, p.device.sign_secret);
    tell(&one, &p.device, revoke_json(&gone));
    CHECK_ANSWER(&one, PEP_OK);
    CU_ASSERT_EQUAL(number_in(data(&one, 0), "version"), 3);
    CU_ASSERT_TRUE(knows(&one, &p));
    CU_ASSERT_EQUAL(found.state, SIGNER_REVOKED);
    CU_ASSERT_TRUE(found.has_key && found.cutoff <= pep_now_us() && found.cutoff > 0);
    CU_ASSERT_TRUE(knows(&one, &first)); /* no grace for what it had before */
    CU_ASSERT_EQUAL(found.state, SIGNER_REVOKED);
    CU_ASSERT_TRUE(serves(&one, "a", &gone, none));
    CU_ASSERT_EQUAL(directory_counted(one.d).records, 0);
    tell(&one, &p.device, revoke_json(&gone));
    CHECK_ANSWER(&one, PEP_NOT_AUTHORIZED); /* it says nothing any more */
    party b = enrolled(&one, "b");
    tell(&one, &b.device, revoke_json(&gone));
    CHECK_ANSWER(&one, PEP_OK); /* the same again */
    party q = party_of("a");
    tell(&one, &q.device, enroll_json(&q, none, none));
    CHECK_ANSWER(&one, PEP_ID_TAKEN);
    tell(&one, &first.device, enroll_json(&first, none, none));
    CHECK_ANSWER(&one, PEP_REVOKED_SIGNER);
    ask(&one, format("{\"commands\":[{\"command\":\"lookup\",\"kid\":\"%s\"},{\"command\":\"list\"}]}",
                     hex_of(first.device.sign_kid)));
    const cJSON *entry = cJSON_GetArrayItem(cJSON_GetObjectItem(data(&one, 0), "entries"), 0);
    CU_ASSERT_STRING_EQUAL(text_in(entry, "id"), "a");
    CU_ASSERT_STRING_EQUAL(text_in(entry, "kid"), hex_of(p.device.sign_kid));
    const cJSON *device = cJSON_GetArrayItem(cJSON_GetObjectItem(data(&one, 1), "devices"), 0);
    CU_ASSERT_TRUE(cJSON_IsTrue(cJSON_GetObjectItem(device, "revoked")));
    finish();
}

static void test_revoked_by_an_admin(void)
{
    start_authority(DIRECTORY_AUTHORITY);
    party admin = certified("admin", "ops");
    party other = certified("other", "pumps");
    party p = certified("a", NULL);
    party gone = p;
    revoke_with(&gone, other.device.sign_secret);
    tell(&one, &other.device, revoke_json(&gone));
    CHECK_ANSWER(&one, PEP_NOT_AUTHORIZED);
    tell(&one, &admin.device, revoke_json(&gone)); /* an admin's envelope is not an admin's signature */
    CHECK_ANSWER(&one, PEP_NOT_AUTHORIZED);
    gone = p;
    revoke_with(&gone, admin.device.sign_secret);
    tell(&one, &admin.device, revoke_json(&gone));
    CHECK_ANSWER(&one, PEP_OK);
    CU_ASSERT_TRUE(serves(&one, "a", &gone, none));
    gone = other;
    revoke_with(&gone, authority.sign_secret);
    tell(&one, &other.device, revoke_json(&gone));
    CHECK_ANSWER(&one, PEP_OK);
    gone = admin;
    revoke_with(&gone, admin.device.sign_secret);
    gone.bytes[gone.n - 1] ^= 1;
    tell(&one, &admin.device, revoke_json(&gone));
    CHECK_ANSWER(&one, PEP_BAD_SIGNATURE);
    finish();
}

/* ---- reading ---- */

static void test_lookup(void)
{
    start(DIRECTORY_OPEN);
    party a = enrolled(&one, "a");
    party b = enrolled(&one, "b");
    char kid[2 * PEP_KID_BYTES + 1];
    snprintf(kid, sizeof kid, "%s", hex_of(b.device.sign_kid));
    ask(&one, format("{\"commands\":[{\"command\":\"lookup\",\"ids\":[\"a\",\"x\",\"b\"]},{\"command\":\"lookup\","
                     "\"kids\":[\"%s\",\"00112233445566778899aabbccddeeff\"]},{\"command\":\"lookup\",\"id\":\"y\"}]}",
                     kid));
    const cJSON *entries = cJSON_GetObjectItem(data(&one, 0), "entries");
    CU_ASSERT_EQUAL(cJSON_GetArraySize(entries), 3);
    CU_ASSERT_STRING_EQUAL(text_in(cJSON_GetArrayItem(entries, 0), "kid"), hex_of(a.device.sign_kid));
    CU_ASSERT_STRING_EQUAL(text_in(cJSON_GetArrayItem(entries, 1), "id"), "x");
    CU_ASSERT_STRING_EQUAL(text_in(cJSON_GetArrayItem(entries, 1), "error"), "unknown-id");
    CU_ASSERT_STRING_EQUAL(text_in(cJSON_GetArrayItem(entries, 2), "id"), "b");
    uint8_t entry[PEP_ENTRY_BYTES_MAX];
    size_t n;
    pep_entry e;
    const char *text = text_in(cJSON_GetArrayItem(entries, 2), "entry");
    CU_ASSERT_EQUAL(sodium_base642bin(entry, sizeof entry, text, strlen(text), NULL, &n, NULL,
                                      sodium_base64_VARIANT_URLSAFE_NO_PADDING),
                    0);
    CU_ASSERT_EQUAL(pep_entry_parse(&e, entry, n), PEP_OK);
    CU_ASSERT_TRUE(e.statement.n == b.n && memcmp(e.statement.p, b.bytes, b.n) == 0);
    entries = cJSON_GetObjectItem(data(&one, 1), "entries");
    CU_ASSERT_STRING_EQUAL(text_in(cJSON_GetArrayItem(entries, 0), "id"), "b");
    CU_ASSERT_STRING_EQUAL(text_in(cJSON_GetArrayItem(entries, 1), "kid"), "00112233445566778899aabbccddeeff");
    CU_ASSERT_STRING_EQUAL(text_in(cJSON_GetArrayItem(entries, 1), "error"), "unknown-id");
    CU_ASSERT_TRUE(is_error(&one, 2, PEP_OK));
    ask(&one, "{\"commands\":[{\"command\":\"history\",\"id\":\"x\"}]}");
    CHECK_ANSWER(&one, PEP_UNKNOWN_ID);
    finish();
}

static void test_answers_are_bounded(void)
{
    char ids[2048] = "\"a\"";
    static char text[JSON_BYTES];
    start(DIRECTORY_OPEN);
    enrolled(&one, "a");
    for (unsigned i = 1; i < 64; i++)
        snprintf(ids + strlen(ids), 8, ",\"a\"");
    snprintf(text, sizeof text, "{\"commands\":[");
    for (unsigned i = 0; i < 64; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s{\"command\":\"lookup\",\"ids\":[%s]}",
                 i == 0 ? "" : ",", ids);
    snprintf(text + strlen(text), 4, "]}");
    ask(&one, text);
    CU_ASSERT_TRUE(is_error(&one, 0, PEP_OK));
    CU_ASSERT_TRUE(is_error(&one, 63, PEP_TOO_MANY));
    CU_ASSERT_TRUE(one.answer_n < 2 << 20);
    finish();
}

static void test_list_and_pages(void)
{
    start(DIRECTORY_OPEN);
    for (unsigned i = 0; i < 7; i++)
        enrolled(&one, format("%c", "DaBc_.@"[i]));
    char seen[16] = "";
    char after[PEP_ID_MAX + 1] = "";
    for (unsigned pages = 0; pages < 10; pages++) {
        ask(&one, after[0] == '\0'
                      ? "{\"commands\":[{\"command\":\"list\",\"count\":3}]}"
                      : format("{\"commands\":[{\"command\":\"list\",\"count\":3,\"after\":\"%s\"}]}", after));
        const cJSON *item;
        cJSON_ArrayForEach(item, cJSON_GetObjectItem(data(&one, 0), "devices"))
        {
            snprintf(seen + strlen(seen), 2, "%s", text_in(item, "id"));
            CU_ASSERT_EQUAL(number_in(item, "version"), 1);
            CU_ASSERT_TRUE(cJSON_IsFalse(cJSON_GetObjectItem(item, "revoked")));
            CU_ASSERT_TRUE(number_in(item, "notAfter") > 0);
        }
        const char *next = text_in(data(&one, 0), "next");
        snprintf(after, sizeof after, "%s", next);
        if (next[0] == '\0')
            break;
    }
    CU_ASSERT_STRING_EQUAL(seen, ".@BD_ac"); /* byte by byte */
    finish();
}

static void test_history_in_pages(void)
{
    start(DIRECTORY_OPEN);
    party p = enrolled(&one, "a");
    for (unsigned i = 0; i < 33; i++) {
        if (i % 10 == 0)
            pass_an_hour();
        rotate(&p);
        tell(&one, &p.device, rotate_json(&p, none));
        CHECK_ANSWER(&one, PEP_OK);
    }
    ask(&one, "{\"commands\":[{\"command\":\"history\",\"id\":\"a\"}]}");
    CU_ASSERT_EQUAL(cJSON_GetArraySize(cJSON_GetObjectItem(data(&one, 0), "statements")), 32);
    CU_ASSERT_EQUAL(number_in(data(&one, 0), "next"), 32);
    ask(&one, "{\"commands\":[{\"command\":\"history\",\"id\":\"a\",\"after\":32}]}");
    CU_ASSERT_EQUAL(cJSON_GetArraySize(cJSON_GetObjectItem(data(&one, 0), "statements")), 2);
    CU_ASSERT_PTR_NULL(cJSON_GetObjectItem(data(&one, 0), "next"));
    finish();
}

static void test_status(void)
{
    party admin = start_tokens();
    ask(&one, "{\"commands\":[{\"command\":\"status\"}]}");
    const cJSON *d = data(&one, 0);
    CU_ASSERT_STRING_EQUAL(text_in(d, "version"), PEP_VERSION);
    CU_ASSERT_STRING_EQUAL(text_in(d, "kid"), hex_of(directory_gate_kid(one.d)));
    CU_ASSERT_STRING_EQUAL(text_in(d, "enroll"), "token");
    CU_ASSERT_STRING_EQUAL(text_in(d, "directory"), "retained");
    CU_ASSERT_TRUE(number_in(d, "time") + 10 > (double)now_s());
    CU_ASSERT_PTR_NULL(cJSON_GetObjectItem(d, "records"));
    tell(&one, &admin.device, "{\"commands\":[{\"command\":\"status\"}]}");
    d = data(&one, 0);
    CU_ASSERT_EQUAL(number_in(d, "records"), 1);
    CU_ASSERT_EQUAL(number_in(d, "keys"), 1);
    CU_ASSERT_EQUAL(number_in(d, "tokens"), 0);
    CU_ASSERT_STRING_EQUAL(text_in(d, "store"), on_postgres ? "postgresql" : "sqlite");
    finish();
}

/* What was refused does not undo what was done before it, nor stop what comes behind it. */
static void test_several_changes_in_one(void)
{
    start(DIRECTORY_OPEN);
    party a = enrolled(&one, "a");
    party b = enrolled(&one, "b");
    party p = a;
    party q = b;
    char first[4096];
    char third[4096];
    rotate(&p);
    rotate(&q);
    rotate_json(&p, none);
    snprintf(first, sizeof first, "%.*s", (int)(strlen(json) - 15), json + 13);
    rotate_json(&q, none);
    snprintf(third, sizeof third, "%.*s", (int)(strlen(json) - 15), json + 13);
    tell(&one, &a.device, format("{\"commands\":[%s,{\"command\":\"rotate\"},%s]}", first, third));
    CU_ASSERT_TRUE(is_error(&one, 0, PEP_OK) && is_error(&one, 1, PEP_BAD_COMMAND) && is_error(&one, 2, PEP_OK));
    CU_ASSERT_TRUE(serves(&one, "a", &p, none) && serves(&one, "b", &q, none));
    finish();
}

#define STATUS "{\"commands\":[{\"command\":\"status\"}]}"

static void send_as(const char *client_id, const void *p, size_t n)
{
    directory_control(one.d, &(directory_asker){.client_id = client_id, .username = "user"}, p, n);
}

static void test_what_waits_is_bounded(void)
{
    start(DIRECTORY_OPEN);
    unsigned before = one.answers;
    for (unsigned i = 0; i < DIRECTORY_CLIENT_PLAIN; i++)
        send(&one, STATUS, sizeof STATUS - 1);
    CU_ASSERT_EQUAL(one.answers, before); /* none before the tick */
    send(&one, STATUS, sizeof STATUS - 1);
    CU_ASSERT_EQUAL(one.answers, before + 1);
    CU_ASSERT_TRUE(whole_is_refused(PEP_TRY_LATER));
    send_as("client-2", STATUS, sizeof STATUS - 1);
    for (unsigned i = 0; i < DIRECTORY_CLIENT_PENDING; i++)
        send(&one, "\xd2", 1); /* those are counted by themselves */
    CU_ASSERT_EQUAL(one.answers, before + 1);
    send(&one, "\xd2", 1);
    CU_ASSERT_EQUAL(one.answers, before + 2);
    CU_ASSERT_TRUE(whole_is_refused(PEP_TRY_LATER));
    UNTIL(&one, one.answers == before + DIRECTORY_CLIENT_PLAIN + DIRECTORY_CLIENT_PENDING + 3);
    finish();
}

/* One client does not fill the queue, nor do all together with what is not sealed. */
static void test_bytes_that_wait_are_bounded(void)
{
    static uint8_t large[DIRECTORY_COMMAND_MAX];
    char id[32];
    start(DIRECTORY_OPEN);
    unsigned before = one.answers;
    large[0] = 0xd2;
    for (unsigned i = 0; i < CLIENT_BYTES_MAX / sizeof large; i++)
        send(&one, large, sizeof large);
    CU_ASSERT_EQUAL(one.answers, before);
    send(&one, "\xd2", 1);
    CU_ASSERT_EQUAL(one.answers, before + 1);
    unsigned sent = 0;
    large[0] = ' ';
    for (; one.answers == before + 1; sent++) {
        CU_ASSERT_FATAL(sent <= PLAIN_BYTES_MAX / sizeof large);
        snprintf(id, sizeof id, "plain-%u", sent / DIRECTORY_CLIENT_PLAIN);
        send_as(id, large, sizeof large);
    }
    CU_ASSERT_EQUAL(sent, PLAIN_BYTES_MAX / sizeof large + 1);
    CU_ASSERT_TRUE(whole_is_refused(PEP_TRY_LATER));
    send_as("client-2", "\xd2", 1); /* what is sealed finds room */
    CU_ASSERT_EQUAL(one.answers, before + 2);
    UNTIL(&one, one.answers == before + 2 + CLIENT_BYTES_MAX / sizeof large + sent);
    finish();
}

/* However much strangers ask, a change is through after a batch or two. */
static void test_reads_wait_for_changes(void)
{
    char ids[1024];
    char id[32];
    size_t n = 0;
    start(DIRECTORY_OPEN);
    party p = party_of("a");
    for (int i = 0; i < 64; i++)
        n += (size_t)snprintf(ids + n, sizeof ids - n, "%s\"x%d\"", i == 0 ? "" : ",", i);
    const char *lookup = format("{\"commands\":[{\"command\":\"lookup\",\"ids\":[%s]}]}", ids);
    unsigned before = one.answers;
    for (unsigned i = 0; i < 400; i++) {
        snprintf(id, sizeof id, "plain-%u", i / DIRECTORY_CLIENT_PLAIN);
        send_as(id, lookup, strlen(lookup));
    }
    CU_ASSERT_EQUAL(one.answers, before);
    seal(&one, &p.device, enroll_json(&p, none, none));
    send(&one, sealed, sealed_n);
    UNTIL(&one, directory_counted(one.d).changes == 1);
    CU_ASSERT_TRUE(one.answers - before < 390);
    UNTIL(&one, one.answers == before + 401);
    finish();
}

static void test_look_ups_are_bounded(void)
{
    char ids[1024];
    char text[8192];
    size_t n = 0;
    start(DIRECTORY_OPEN);
    for (int i = 0; i < 64; i++)
        n += (size_t)snprintf(ids + n, sizeof ids - n, "%s\"x%d\"", i == 0 ? "" : ",", i);
    n = (size_t)snprintf(text, sizeof text, "{\"commands\":[");
    for (int i = 0; i < 4; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "{\"command\":\"lookup\",\"ids\":[%s]},", ids);
    snprintf(text + n, sizeof text - n, "{\"command\":\"lookup\",\"id\":\"a\"}]}");
    ask(&one, text);
    for (int i = 0; i < 4; i++)
        CU_ASSERT_TRUE(is_error(&one, i, PEP_OK));
    CU_ASSERT_TRUE(is_error(&one, 4, PEP_TOO_MANY));
    ask(&one, "{\"commands\":[{\"command\":\"list\",\"count\":1000},{\"command\":\"list\",\"count\":1000},"
              "{\"command\":\"list\",\"count\":1000},{\"command\":\"list\",\"count\":1000},"
              "{\"command\":\"list\",\"count\":1000}]}");
    CU_ASSERT_TRUE(is_error(&one, 3, PEP_OK) && is_error(&one, 4, PEP_TOO_MANY));
    finish();
}

static bool has_to_wait(void)
{
    return strcmp(text_in(response(&one, 0), "error"), "try-later") == 0;
}

static control_client *find_asker(void)
{
    control_client *client;
    HASH_FIND_STR(one.d->clients, "client-1", client);
    return client;
}

/* As if it had had so many bytes just now: a slow machine makes fewer in a second than may be read in one. */
static uint64_t owe(size_t bytes)
{
    control_client *client = find_asker();
    uint64_t paid_us = now_ms() * 1000 + bytes * 1000000 / CLIENT_RATE;
    CU_ASSERT_PTR_NOT_NULL(client);
    if (client == NULL)
        return 0;
    if (client->paid_us < paid_us)
        client->paid_us = paid_us;
    return client->paid_us;
}

/* Asks once more who has had so many bytes. */
static void ask_owing(const char *text, size_t bytes)
{
    unsigned before = one.answers;
    send(&one, text, strlen(text));
    uint64_t owed_us = owe(bytes);
    UNTIL(&one, one.answers > before);
    const control_client *client = find_asker(); /* forgotten where it took longer to make than to read */
    if (client != NULL && !has_to_wait())
        CU_ASSERT_TRUE(client->paid_us >= owed_us + one.answer_n * 1000000 / CLIENT_RATE);
}

/* What a client does not read, the broker keeps: it gets no more than it can have read. */
static void test_answers_of_one_client_are_bounded(void)
{
    char text[4096];
    size_t n = (size_t)snprintf(text, sizeof text, "{\"commands\":[");
    start(DIRECTORY_OPEN);
    for (int i = 0; i < 64; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "%s{\"command\":\"status\"}", i == 0 ? "" : ",");
    snprintf(text + n, sizeof text - n, "]}");
    size_t bytes = 0;
    do {
        ask_owing(text, bytes);
        bytes += one.answer_n;
        CU_ASSERT_FATAL(bytes < 2 * CLIENT_BURST);
    } while (!has_to_wait());
    CU_ASSERT_TRUE(bytes >= CLIENT_BURST);
    unsigned before = one.answers;
    send_as("client-2", STATUS, sizeof STATUS - 1); /* others notice nothing */
    UNTIL(&one, one.answers == before + 1);
    CU_ASSERT_FALSE(has_to_wait());
    uint64_t end_ms = deadline_ms();
    do /* and a while later all is well */
        ask(&one, STATUS);
    while (has_to_wait() && now_ms() < end_ms);
    CU_ASSERT_FALSE(has_to_wait());
    finish();
}

/* Whoever has the id next, did not ask. */
static void test_who_is_gone_gets_no_answer(void)
{
    start(DIRECTORY_OPEN);
    party p = party_of("a");
    unsigned before = one.answers;
    seal(&one, &p.device, enroll_json(&p, none, none));
    send(&one, sealed, sealed_n);
    send(&one, STATUS, sizeof STATUS - 1);
    directory_gone(one.d, "client-1");
    directory_gone(one.d, "client-1");
    directory_gone(one.d, "nobody");
    ask(&one, "{\"commands\":[{\"command\":\"status\",\"correlationData\":\"mine\"}]}");
    CU_ASSERT_STRING_EQUAL(text_in(response(&one, 0), "correlationData"), "mine");
    UNTIL(&one, serves(&one, "a", &p, none)); /* carried out all the same */
    UNTIL(&one, !directory_tick(one.d, BUDGET_US));
    CU_ASSERT_EQUAL(one.answers, before + 1);
    send(&one, STATUS, sizeof STATUS - 1); /* and at the end */
    directory_gone(one.d, "client-1");
    finish();
}

/* They are exchanged between transactions alone: whoever looks at them within one keeps what it looks at. */
static void test_settings_stay_while_looked_at(void)
{
    registrar r = {.settings = calloc(1, sizeof(settings))};
    settings *next = calloc(1, sizeof *next);
    CU_ASSERT_FATAL(r.settings != NULL && next != NULL);
    const settings *old = registrar_settings(&r);
    atomic_store(&r.next, next);
    CU_ASSERT_PTR_EQUAL(registrar_settings(&r), old);
    registrar_renew(&r);
    CU_ASSERT_PTR_EQUAL(registrar_settings(&r), next);
    registrar_renew(&r);
    CU_ASSERT_PTR_EQUAL(registrar_settings(&r), next);
    settings_free(r.settings);
}

/* An answer is UTF-8, also where it is cut. */
static void test_a_long_field_is_cut_at_a_character(void)
{
    static const char *const names[] = {
        "123456789 123456789 123456789 123456789 123456789 123456789 123\u00e4",  /* cut behind 63 bytes */
        "123456789 123456789 123456789 123456789 123456789 123456789 1234\u00e4", /* 64 */
        "123456789 123456789 123456789 123456789 123456789 123456789 1\u20ac\u20ac",
    };
    static const size_t shown[] = {63, 64, 64};
    start(DIRECTORY_OPEN);
    for (size_t i = 0; i < COUNT(names); i++) {
        ask(&one, format("{\"commands\":[{\"command\":\"status\",\"%s\":1}]}", names[i]));
        CHECK_ANSWER(&one, PEP_BAD_COMMAND);
        const char *text = text_in(response(&one, 0), "text");
        CU_ASSERT_TRUE(pep_utf8_valid((const uint8_t *)text, strlen(text)));
        CU_ASSERT_EQUAL(strlen(text), sizeof "status has no field \"\"" - 1 + shown[i]);
    }
    finish();
}

/* ---- what is retained ---- */

static void test_restart(void)
{
    start(DIRECTORY_OPEN);
    party a = enrolled(&one, "a");
    party b = enrolled(&one, "b");
    party gone = b;
    revoke_with(&gone, b.device.sign_secret);
    tell(&one, &b.device, revoke_json(&gone));
    uint8_t kid[PEP_KID_BYTES];
    memcpy(kid, directory_gate_kid(one.d), sizeof kid);
    close_site(&one);
    one.topic_count = 0; /* the broker kept nothing */
    CU_ASSERT_TRUE_FATAL(try_open(&one));
    CU_ASSERT_FALSE(served(&one, PEP_GATE_TOPIC) || served(&one, PEP_KEYS_TOPIC "a"));
    CU_ASSERT_EQUAL(memcmp(kid, directory_gate_kid(one.d), sizeof kid), 0);
    CU_ASSERT_TRUE(knows(&one, &a)); /* from the start on */
    UNTIL(&one, serves(&one, "a", &a, none) && serves(&one, "b", &gone, none));
    CU_ASSERT_TRUE(knows(&one, &b));
    CU_ASSERT_EQUAL(found.state, SIGNER_REVOKED);
    CU_ASSERT_PTR_NOT_NULL(topic_of(&one, PEP_GATE_TOPIC));
    CU_ASSERT_EQUAL(one.clears, 0);
    CU_ASSERT_FALSE(served(&one, PEP_KEYS_TOPIC "c") || served(&one, "other"));
    finish();
}

/* What others left in queues, and what was ours once, does not pass for what is served. */
static void test_served_by_its_bytes(void)
{
    start(DIRECTORY_OPEN);
    party p = enrolled(&one, "a");
    const retained before = *topic_of(&one, PEP_KEYS_TOPIC "a");
    const retained gate = *topic_of(&one, PEP_GATE_TOPIC);
    CU_ASSERT_TRUE(directory_served(one.d, before.topic, before.bytes, before.n));
    CU_ASSERT_TRUE(directory_served(one.d, gate.topic, gate.bytes, gate.n));
    CU_ASSERT_FALSE(directory_served(one.d, before.topic, before.bytes, before.n - 1));
    CU_ASSERT_FALSE(directory_served(one.d, before.topic, gate.bytes, gate.n));
    CU_ASSERT_FALSE(directory_served(one.d, gate.topic, before.bytes, before.n));
    CU_ASSERT_FALSE(directory_served(one.d, before.topic, NULL, 0) || directory_served(one.d, gate.topic, NULL, 0));
    party old = p;
    rotate(&p);
    answer_rotation(&old, &p, PEP_OK);
    CU_ASSERT_TRUE(serves(&one, "a", &p, none));
    CU_ASSERT_FALSE(directory_served(one.d, before.topic, before.bytes, before.n));
    const retained after = *topic_of(&one, PEP_KEYS_TOPIC "a");
    close_site(&one);
    CU_ASSERT_TRUE_FATAL(try_open(&one));
    CU_ASSERT_FALSE(directory_served(one.d, after.topic, after.bytes, after.n)); /* not before it is published again */
    UNTIL(&one, directory_served(one.d, after.topic, after.bytes, after.n));
    CU_ASSERT_FALSE(directory_served(one.d, before.topic, before.bytes, before.n));
    finish();
}

static void test_many_pages(void)
{
    char id[16];
    start(DIRECTORY_OPEN);
    unsigned before = one.answers;
    for (unsigned i = 0; i < 1100; i++) {
        snprintf(id, sizeof id, "d-%04u", i);
        party p = party_of(id);
        seal(&one, &p.device, enroll_json(&p, none, none));
        send(&one, sealed, sealed_n);
        if (i % 200 == 199)
            UNTIL(&one, one.answers == before + i + 1);
    }
    UNTIL(&one, one.answers == before + 1100);
    CU_ASSERT_EQUAL(directory_counted(one.d).changes, 1100);
    close_site(&one);
    one.topic_count = one.publications = 0;
    open_site(&one);
    uint64_t end_ms = deadline_ms();
    for (unsigned last = one.publications; one.topic_count < 1101; last = one.publications) {
        tick(&one);
        CU_ASSERT_TRUE_FATAL(one.publications - last <= 250); /* never many at once */
        CU_ASSERT_TRUE_FATAL(now_ms() < end_ms);
    }
    for (unsigned i = 0; i < 5; i++)
        tick(&one);
    CU_ASSERT_EQUAL(one.publications, 1101); /* each once */
    CU_ASSERT_EQUAL(directory_counted(one.d).records, 1100);
    finish();
}

/* ---- reload ---- */

typedef struct {
    directory_reload r;
    site *s;
    bool done, failed, changed, refuse;
} reloading;

static bool load(directory_reload *r)
{
    const reloading *l = r->ctx;
    if (l->refuse) {
        snprintf(r->error.text, sizeof r->error.text, "the policy is wrong");
        return false;
    }
    r->rules = rules_of(l->s);
    return true;
}

static void loaded(directory_reload *r)
{
    reloading *l = r->ctx;
    l->done = true;
    l->failed = r->failed;
    l->changed = r->changed;
    error = r->error;
}

static reloading reload(site *s, bool refuse)
{
    static reloading l;
    memset(&l, 0, sizeof l);
    l.r = (directory_reload){.ctx = &l, .load = load, .done = loaded};
    l.s = s;
    l.refuse = refuse;
    CU_ASSERT_TRUE_FATAL(directory_start_reload(s->d, &l.r));
    UNTIL(s, l.done);
    return l;
}

static void test_mode_switch(void)
{
    start(DIRECTORY_OPEN);
    party a = enrolled(&one, "a");
    one.on_request = true;
    reloading l = reload(&one, false);
    CU_ASSERT_FALSE(l.failed || l.changed);
    UNTIL(&one, topic_of(&one, PEP_KEYS_TOPIC "a") == NULL);
    CU_ASSERT_PTR_NOT_NULL(topic_of(&one, PEP_GATE_TOPIC));
    CU_ASSERT_FALSE(served(&one, PEP_KEYS_TOPIC "a"));
    party b = enrolled(&one, "b");
    CU_ASSERT_PTR_NULL(topic_of(&one, PEP_KEYS_TOPIC "b"));
    CU_ASSERT_TRUE(knows(&one, &a) && knows(&one, &b));
    ask(&one, "{\"commands\":[{\"command\":\"status\"}]}");
    CU_ASSERT_STRING_EQUAL(text_in(data(&one, 0), "directory"), "on-request");
    one.on_request = false;
    l = reload(&one, false);
    CU_ASSERT_FALSE(l.failed);
    UNTIL(&one, serves(&one, "a", &a, none) && serves(&one, "b", &b, none));
    one.on_request = true; /* at a start, too */
    close_site(&one);
    open_site(&one);
    UNTIL(&one, topic_of(&one, PEP_KEYS_TOPIC "a") == NULL && topic_of(&one, PEP_KEYS_TOPIC "b") == NULL);
    finish();
}

static void test_other_rules(void)
{
    start(DIRECTORY_OPEN);
    one.enroll = DIRECTORY_CLOSED;
    reloading l = reload(&one, true);
    CU_ASSERT_TRUE(l.failed && !l.changed);
    CU_ASSERT_STRING_EQUAL(error.text, "the policy is wrong");
    enrolled(&one, "a"); /* still open */
    l = reload(&one, false);
    CU_ASSERT_FALSE(l.failed);
    party p = party_of("b");
    tell(&one, &p.device, enroll_json(&p, none, none));
    CHECK_ANSWER(&one, PEP_CLOSED);
    finish();
}

/* ---- the operator's folder ---- */

static void test_folder(void)
{
    begin(DIRECTORY_CLOSED);
    party a = party_of("a");
    save("a.pub", &a);
    one.with_folder = true;
    open_site(&one);
    CU_ASSERT_TRUE(knows(&one, &a));
    UNTIL(&one, serves(&one, "a", &a, none));

    party p = a; /* the device rotates by command; the file stays what it was */
    rotate(&p);
    tell(&one, &a.device, rotate_json(&p, none));
    CHECK_ANSWER(&one, PEP_OK);
    reloading l = reload(&one, false);
    CU_ASSERT_FALSE(l.failed || l.changed);
    CU_ASSERT_TRUE(knows(&one, &p));
    CU_ASSERT_TRUE(serves(&one, "a", &p, none));

    party q = p; /* by file */
    rotate(&q);
    save("a.pub", &q);
    party b = party_of("b");
    save("b.pub", &b);
    l = reload(&one, false);
    CU_ASSERT_TRUE(!l.failed && l.changed);
    CU_ASSERT_TRUE(knows(&one, &b) && knows(&one, &q));
    UNTIL(&one, serves(&one, "a", &q, none) && serves(&one, "b", &b, none));
    CU_ASSERT_TRUE(knows(&one, &p));
    CU_ASSERT_EQUAL(found.state, SIGNER_ROTATED);

    unsigned published = one.publications;
    remove(scratch_path("folder/a.pub")); /* gone, with all its keys */
    l = reload(&one, false);
    CU_ASSERT_TRUE(!l.failed && l.changed);
    CU_ASSERT_FALSE(knows(&one, &a) || knows(&one, &p) || knows(&one, &q));
    UNTIL(&one, topic_of(&one, PEP_KEYS_TOPIC "a") == NULL);
    ask(&one, "{\"commands\":[{\"command\":\"lookup\",\"id\":\"a\"},{\"command\":\"history\",\"id\":\"a\"},"
              "{\"command\":\"list\"}]}");
    CU_ASSERT_STRING_EQUAL(text_in(cJSON_GetArrayItem(cJSON_GetObjectItem(data(&one, 0), "entries"), 0), "error"),
                           "unknown-id");
    CU_ASSERT_TRUE(is_error(&one, 1, PEP_UNKNOWN_ID));
    CU_ASSERT_EQUAL(cJSON_GetArraySize(cJSON_GetObjectItem(data(&one, 2), "devices")), 1);
    tell(&one, &q.device, "{\"commands\":[{\"command\":\"status\"}]}");
    CHECK_ANSWER(&one, PEP_NOT_AUTHORIZED);
    for (unsigned i = 0; i < 5; i++)
        ask(&one, "{\"commands\":[{\"command\":\"status\"}]}");
    CU_ASSERT_EQUAL(one.publications, published + 1); /* the others are not published again */
    close_site(&one);
    open_site(&one); /* a start knows it, too */
    CU_ASSERT_FALSE(knows(&one, &q));
    CU_ASSERT_TRUE(knows(&one, &b));

    save("a.pub", &q); /* and back */
    l = reload(&one, false);
    CU_ASSERT_TRUE(!l.failed && l.changed);
    CU_ASSERT_TRUE(knows(&one, &q) && knows(&one, &p));
    UNTIL(&one, serves(&one, "a", &q, none));
    finish();
}

static void test_the_operator_replaces(void)
{
    begin(DIRECTORY_OPEN);
    one.with_folder = true;
    open_site(&one);
    party a = enrolled(&one, "a");
    party other = party_of("a");
    save("a.pub", &other);
    reloading l = reload(&one, false);
    CU_ASSERT_FALSE(l.failed);
    CU_ASSERT_TRUE(knows(&one, &other));
    CU_ASSERT_EQUAL(found.state, SIGNER_CURRENT);
    CU_ASSERT_TRUE(knows(&one, &a));
    CU_ASSERT_EQUAL(found.state, SIGNER_ROTATED);
    CU_ASSERT_TRUE(found.cutoff <= pep_now_us());
    UNTIL(&one, serves(&one, "a", &other, none));
    ask(&one, "{\"commands\":[{\"command\":\"history\",\"id\":\"a\"}]}");
    CU_ASSERT_EQUAL(cJSON_GetArraySize(cJSON_GetObjectItem(data(&one, 0), "statements")), 2);
    party p = other; /* the chain goes on from there */
    rotate(&p);
    tell(&one, &p.device, rotate_json(&p, none));
    CHECK_ANSWER(&one, PEP_OK);
    finish();
}

static void test_folders_that_are_wrong(void)
{
    begin(DIRECTORY_OPEN);
    one.with_folder = true;
    open_site(&one);
    party a = enrolled(&one, "a");
    party thief = a;
    set_id(thief.device.id, "b");
    thief = party_from(&thief.device, now_s(), now_s() + LIFE_S);
    party c = party_of("c");
    save("c.pub", &c);
    save("thief.pub", &thief);
    reloading l = reload(&one, false);
    CU_ASSERT_TRUE(l.failed && !l.changed);
    CU_ASSERT_PTR_NOT_NULL(strstr(error.text, "thief.pub"));
    CU_ASSERT_FALSE(knows(&one, &c)); /* all or nothing */
    close_site(&one);
    CU_ASSERT_FALSE(try_open(&one));
    CU_ASSERT_PTR_NOT_NULL(strstr(error.text, "thief.pub"));
    party twice = party_of("c");
    save("thief.pub", &twice);
    CU_ASSERT_FALSE(try_open(&one));
    CU_ASSERT_PTR_NOT_NULL(strstr(error.text, "second record for the id c"));
    remove(scratch_path("folder/thief.pub"));
    write_file(scratch_path("folder/d.pub"), "x", 1, 0644);
    CU_ASSERT_FALSE(try_open(&one));
    remove(scratch_path("folder/d.pub"));
    open_site(&one);
    CU_ASSERT_TRUE(knows(&one, &c) && knows(&one, &a));
    finish();
}

/* ---- the gate's own key ---- */

static void test_gate_key(void)
{
    pep_device device;
    pep_entry entry;
    pep_record record;
    begin(DIRECTORY_OPEN);
    CU_ASSERT_EQUAL_FATAL(pep_authority_new(&authority), PEP_OK);
    open_site(&one);
    CU_ASSERT_EQUAL(pep_device_load(&device, &error, scratch_path("one/gate.key")), PEP_OK);
    CU_ASSERT_EQUAL(memcmp(device.sign_kid, directory_gate_kid(one.d), PEP_KID_BYTES), 0);
    const retained *gate = topic_of(&one, PEP_GATE_TOPIC);
    CU_ASSERT_EQUAL_FATAL(pep_entry_parse(&entry, gate->bytes, gate->n), PEP_OK);
    CU_ASSERT_EQUAL(pep_record_parse(&record, entry.statement.p, entry.statement.n), PEP_OK);
    CU_ASSERT_STRING_EQUAL(record.id, "gate");
    CU_ASSERT_TRUE(record.not_after_s > now_s() + 3600ULL * 86400);
    CU_ASSERT_PTR_NULL(entry.certificate.p);

    party p = {.device = device};
    cert c = certify(&authority, &p, NULL, now_s(), true);
    CU_ASSERT_EQUAL(pep_certificate_replace(&error, scratch_path("one/gate.cert"), c.bytes, c.n), PEP_OK);
    close_site(&one);
    CU_ASSERT_FALSE(try_open(&one)); /* no such authority */
    CU_ASSERT_PTR_NOT_NULL(strstr(error.text, "gate.cert"));
    one.authority = &authority;
    open_site(&one);
    gate = topic_of(&one, PEP_GATE_TOPIC);
    CU_ASSERT_EQUAL_FATAL(pep_entry_parse(&entry, gate->bytes, gate->n), PEP_OK);
    CU_ASSERT_TRUE(entry.certificate.n == c.n && memcmp(entry.certificate.p, c.bytes, c.n) == 0);
    close_site(&one);
    c = certify(&authority, &p, NULL, now_s(), false); /* a device's */
    CU_ASSERT_EQUAL(pep_certificate_replace(&error, scratch_path("one/gate.cert"), c.bytes, c.n), PEP_OK);
    CU_ASSERT_FALSE(try_open(&one));
    finish();
}

/* ---- two brokers on one store ---- */

static void test_two_brokers(void)
{
    if (!on_postgres)
        return;
    start(DIRECTORY_OPEN);
    prepare(&two, "two", DIRECTORY_OPEN);
    open_site(&two);
    CU_ASSERT_NOT_EQUAL(memcmp(directory_gate_kid(one.d), directory_gate_kid(two.d), PEP_KID_BYTES), 0);
    party a = enrolled(&one, "a");
    UNTIL(&two, knows(&two, &a) && serves(&two, "a", &a, none));
    party z = enrolled(&two, "z");
    UNTIL(&one, knows(&one, &z)); /* it has just looked, and by itself looks again only FOLLOW_EVERY_MS later */
    uint64_t begun = now_ms();
    party gone = a;
    revoke_with(&gone, a.device.sign_secret);
    tell(&two, &a.device, revoke_json(&gone));
    CHECK_ANSWER(&two, PEP_OK);
    UNTIL(&one, knows(&one, &a) && found.state == SIGNER_REVOKED);
    CU_ASSERT_TRUE(now_ms() - begun < FOLLOW_EVERY_MS - 1000);
    UNTIL(&one, serves(&one, "a", &gone, none));
    party p = party_of("b"); /* the same id at both at once: one gets it */
    party q = party_of("b");
    unsigned answers = one.answers + two.answers;
    seal(&one, &p.device, enroll_json(&p, none, none));
    send(&one, sealed, sealed_n);
    seal(&two, &q.device, enroll_json(&q, none, none));
    send(&two, sealed, sealed_n);
    UNTIL(&one, (tick(&two), one.answers + two.answers == answers + 2));
    CU_ASSERT_EQUAL(directory_counted(one.d).changes + directory_counted(two.d).changes, 4);
    forget_site(&two);
    finish();
}

static void test_store_away(void)
{
    if (!on_postgres)
        return;
    start(DIRECTORY_OPEN);
    party a = enrolled(&one, "a");
    postgres_stop(&server, SIGINT);
    UNTIL(&one, directory_counted(one.d).store_away);
    CU_ASSERT_TRUE(knows(&one, &a)); /* from memory */
    ask(&one, "{\"commands\":[{\"command\":\"lookup\",\"id\":\"a\"}]}");
    CU_ASSERT_TRUE(whole_is_refused(PEP_TRY_LATER));
    party b = party_of("b");
    tell(&one, &b.device, enroll_json(&b, none, none));
    CU_ASSERT_TRUE(whole_is_refused(PEP_TRY_LATER));
    directory_first_use(one.d, a.device.sign_kid);
    CU_ASSERT_TRUE_FATAL(postgres_again(&server));
    UNTIL(&one, !directory_counted(one.d).store_away);
    tell(&one, &b.device, enroll_json(&b, none, none));
    CHECK_ANSWER(&one, PEP_OK);
    CU_ASSERT_PTR_NOT_NULL(strstr(one.log, "w the directory's store cannot be reached"));
    CU_ASSERT_PTR_NOT_NULL(strstr(one.log, "n the directory's store can be reached again"));
    CU_ASSERT_TRUE(knows(&one, &a));
    finish();
}

static void test_store_full(void)
{
    if (on_postgres)
        return;
    start(DIRECTORY_OPEN);
    party a = enrolled(&one, "a");
    party b = party_of("b");
    limit_files(true, 4096);
    tell(&one, &b.device, enroll_json(&b, none, none));
    CU_ASSERT_TRUE(whole_is_refused(PEP_STORE_FAILED));
    tell(&one, &b.device, enroll_json(&b, none, none));
    CU_ASSERT_TRUE(whole_is_refused(PEP_STORE_FAILED));
    CU_ASSERT_TRUE(knows(&one, &a) && !knows(&one, &b));
    tell(&one, &a.device, STATUS); /* it can still be looked at, by admins, too */
    CHECK_ANSWER(&one, PEP_OK);
    limit_files(false, 0);
    tell(&one, &b.device, enroll_json(&b, none, none));
    CHECK_ANSWER(&one, PEP_OK);
    CU_ASSERT_PTR_NOT_NULL(strstr(one.log, "e the directory's store refuses changes"));
    CU_ASSERT_PTR_NOT_NULL(strstr(one.log, "n the directory's store takes changes again"));
    unsigned lines = 0;
    for (const char *p = one.log; (p = strchr(p, '\n')) != NULL; p++)
        lines++;
    CU_ASSERT_EQUAL(lines, 2 + 2); /* and two enrolments: not one a command */
    finish();
}

/* ---- first use ---- */

/* What others did while this one was away is read piece by piece, and all of it. */
static void test_far_behind(void)
{
    start(DIRECTORY_OPEN);
    party a = enrolled(&one, "a");
    damage(on_postgres ? "INSERT INTO keys (kid, id, sign_public, position, state, not_after, ended, cutoff, head,"
                         " provisioned, change) SELECT decode(md5('k' || n), 'hex'), 'z' || n, decode(md5('p' || n) ||"
                         " md5('q' || n), 'hex'), 1, 0, 99999999999, 0, 0, 1, 0, n + 9 FROM generate_series(1, 60000) n"
                       : "INSERT INTO keys (kid, id, sign_public, position, state, not_after, ended, cutoff, head,"
                         " provisioned, change) SELECT randomblob(16), 'z' || value, randomblob(32), 1, 0, 99999999999,"
                         " 0, 0, 1, 0, value + 9 FROM (WITH RECURSIVE c(value) AS (SELECT 1 UNION ALL SELECT value + 1"
                         " FROM c WHERE value < 60000) SELECT value FROM c)");
    damage("UPDATE meta SET number = 60009 WHERE name = 'change'");
    UNTIL(&one, signers_key_count(directory_signers(one.d)) == 60001);
    CU_ASSERT_TRUE(knows(&one, &a));
    finish();
}

static void test_first_use(void)
{
    start(DIRECTORY_OPEN);
    party a = enrolled(&one, "a");
    party b = enrolled(&one, "b");
    party c = enrolled(&one, "c");
    party rotated = c;
    rotate(&c);
    tell(&one, &c.device, rotate_json(&c, none));
    party d = enrolled(&one, "d");
    party gone = d;
    revoke_with(&gone, d.device.sign_secret);
    tell(&one, &d.device, revoke_json(&gone));
    CU_ASSERT_TRUE(knows(&one, &a) && !found.used);
    damage("UPDATE statements SET bytes = (SELECT bytes FROM statements WHERE id = 'a') WHERE id = 'b'");
    const party *all[] = {&a, &b, &c, &rotated, &d};
    for (size_t i = 0; i < COUNT(all); i++)
        directory_first_use(one.d, all[i]->device.sign_kid);
    UNTIL(&one, !knows(&one, &b));
    CU_ASSERT_PTR_NOT_NULL(strstr(one.log, "e the store's record of b is damaged"));
    ask(&one, "{\"commands\":[{\"command\":\"status\"}]}"); /* behind all of them */
    CU_ASSERT_TRUE(knows(&one, &a) && found.used);
    CU_ASSERT_TRUE(knows(&one, &c) && knows(&one, &rotated) && knows(&one, &d));
    finish();
}

/* A chain that begins with a rotation: nobody knows the key before it, but that it was replaced. */
static void test_begins_with_a_rotation(void)
{
    begin(DIRECTORY_CLOSED);
    party before = party_of("a");
    party p = before;
    rotate(&p);
    save("a.pub", &p);
    one.with_folder = true;
    for (int i = 0; i < 2; i++) { /* as imported, and as read from the store */
        open_site(&one);
        CU_ASSERT_TRUE_FATAL(knows(&one, &before));
        CU_ASSERT_TRUE(found.state == SIGNER_ROTATED && !found.has_key && found.ended_s > 0);
        CU_ASSERT_TRUE(found.cutoff > pep_now_us() - 60000000);
        CU_ASSERT_STRING_EQUAL(found.id, "a");
        CU_ASSERT_TRUE_FATAL(knows(&one, &p));
        CU_ASSERT_TRUE(found.state == SIGNER_CURRENT && found.has_key);
        CU_ASSERT_EQUAL(directory_counted(one.d).records, 1);
        close_site(&one);
    }
    open_site(&one);
    tell(&one, &before.device, enroll_json(&before, none, none));
    CHECK_ANSWER(&one, PEP_CLOSED);
    remove(scratch_path("folder/a.pub"));
    CU_ASSERT_FALSE(reload(&one, false).failed);
    CU_ASSERT_FALSE(knows(&one, &before) || knows(&one, &p)); /* it goes with its device */
    finish();
}

static bool take_count(void *ctx, const store_value *columns, size_t n)
{
    *(int64_t *)ctx = n == 1 ? columns[0].number : -1;
    return true;
}

static int64_t count_commands(const char *sql)
{
    int64_t count = -1;
    store *s = open_beside();
    CU_ASSERT_EQUAL(store_run(s, sql, NULL, 0, take_count, &count), STORE_OK);
    store_close(s);
    return count;
}

/* Gates that share a store have clocks of their own: what is over for one may be repeated at another. */
static void test_commands_are_kept_an_hour_longer(void)
{
    start(DIRECTORY_OPEN);
    party p = enrolled(&one, "a");
    close_site(&one);
    uint64_t now = now_s();
    static char over[200];
    static char long_over[200];
    const char *x = on_postgres ? "'\\x00'" : "x'00'";
    snprintf(over, sizeof over, "INSERT INTO commands (kid, seq, expires) VALUES (%s, 1, %llu)", x,
             (unsigned long long)now - 3500);
    snprintf(long_over, sizeof long_over, "INSERT INTO commands (kid, seq, expires) VALUES (%s, 2, %llu)", x,
             (unsigned long long)now - 3700);
    damage(over);
    damage(long_over);
    open_site(&one); /* purges when it first reads what others changed */
    ask(&one, "{\"commands\":[{\"command\":\"status\"}]}");
    UNTIL(&one, count_commands("SELECT count(*) FROM commands WHERE seq = 2") == 0);
    CU_ASSERT_EQUAL(count_commands("SELECT count(*) FROM commands WHERE seq = 1"), 1);
    CU_ASSERT_TRUE(knows(&one, &p));
    finish();
}

/* What no longer is, is cleared at the start. */
static void test_clears_what_is_gone(void)
{
    start(DIRECTORY_OPEN);
    party a = enrolled(&one, "a");
    party b = enrolled(&one, "b");
    close_site(&one);
    damage("DELETE FROM keys WHERE id = 'a'");
    open_site(&one);
    UNTIL(&one, topic_of(&one, PEP_KEYS_TOPIC "a") == NULL);
    UNTIL(&one, serves(&one, "b", &b, none));
    CU_ASSERT_EQUAL(one.clears, 1);
    CU_ASSERT_FALSE(knows(&one, &a));
    ask(&one, "{\"commands\":[{\"command\":\"status\"}]}"); /* forgotten behind that */
    close_site(&one);
    open_site(&one);
    UNTIL(&one, serves(&one, "b", &b, none));
    CU_ASSERT_EQUAL(one.clears, 1);
    finish();
}

/* A publication that had no memory is tried again. */
static void test_publishing_fails(void)
{
    start(DIRECTORY_OPEN);
    one.refuse_publications = true;
    party a = enrolled(&one, "a");
    CU_ASSERT_FALSE(served(&one, PEP_KEYS_TOPIC "a"));
    one.refuse_publications = false;
    UNTIL(&one, serves(&one, "a", &a, none));
    finish();
}

static const unit_test tests[] = {
    {"what is no JSON", test_what_is_no_json},
    {"depth bombs and sizes", test_depth_bombs_and_sizes},
    {"64 commands", test_64_commands},
    {"commands that are wrong", test_commands_that_are_wrong},
    {"a change in plain JSON", test_a_change_in_plain_json},
    {"envelopes that are wrong", test_envelopes_that_are_wrong},
    {"truncated at each byte", test_truncated_at_each_byte},
    {"repeated", test_repeated},
    {"strangers", test_strangers},
    {"open", test_open},
    {"closed", test_closed},
    {"open to all but admins", test_open_to_all_but_admins},
    {"taken", test_taken},
    {"times of records", test_times_of_records},
    {"bad records", test_bad_records},
    {"max_records", test_max_records},
    {"authority", test_authority},
    {"a certificate where there are no authorities", test_a_certificate_where_there_are_no_authorities},
    {"tokens", test_tokens},
    {"one token for two", test_one_token_for_two},
    {"whose tokens", test_whose_tokens},
    {"expired tokens", test_expired_tokens},
    {"rotation", test_rotation},
    {"rotations that are wrong", test_rotations_that_are_wrong},
    {"an expired device renews itself", test_an_expired_device_renews_itself},
    {"rotation with certificates", test_rotation_with_certificates},
    {"an older certificate", test_an_older_certificate},
    {"recovery by an authority", test_recovery_by_an_authority},
    {"rotations within an hour", test_rotations_within_an_hour},
    {"a long history", test_a_long_history},
    {"statements are found by hash", test_statements_are_found_by_hash},
    {"revoked by itself", test_revoked_by_itself},
    {"revoked by an admin", test_revoked_by_an_admin},
    {"lookup", test_lookup},
    {"answers are bounded", test_answers_are_bounded},
    {"list and pages", test_list_and_pages},
    {"history in pages", test_history_in_pages},
    {"bytes that wait are bounded", test_bytes_that_wait_are_bounded},
    {"reads wait for changes", test_reads_wait_for_changes},
    {"look-ups are bounded", test_look_ups_are_bounded},
    {"answers of one client are bounded", test_answers_of_one_client_are_bounded},
    {"who is gone gets no answer", test_who_is_gone_gets_no_answer},
    {"settings stay while they are looked at", test_settings_stay_while_looked_at},
    {"a long field is cut at a character", test_a_long_field_is_cut_at_a_character},
    {"made-up keys have no standing", test_made_up_keys_have_no_standing},
    {"status", test_status},
    {"several changes in one", test_several_changes_in_one},
    {"what waits is bounded", test_what_waits_is_bounded},
    {"restart", test_restart},
    {"served by its bytes", test_served_by_its_bytes},
    {"many pages", test_many_pages},
    {"mode switch", test_mode_switch},
    {"other rules", test_other_rules},
    {"folder", test_folder},
    {"the operator replaces", test_the_operator_replaces},
    {"folders that are wrong", test_folders_that_are_wrong},
    {"the gate's key", test_gate_key},
    {"two brokers", test_two_brokers},
    {"store away", test_store_away},
    {"store full", test_store_full},
    {"far behind", test_far_behind},
    {"first use", test_first_use},
    {"begins with a rotation", test_begins_with_a_rotation},
    {"commands are kept an hour longer", test_commands_are_kept_an_hour_longer},
    {"clears what is gone", test_clears_what_is_gone},
    {"publishing fails", test_publishing_fails},
};

int main(void)
{
    if (pep_init() != PEP_OK)
        return 1;
    int failed = unit_main("directory on SQLite", tests, COUNT(tests));
    if (getenv("PEP_VALGRIND") != NULL)
        return failed; /* the other one runs the same code here, and a server beside it */
    if (!postgres_start(&server)) {
        fprintf(stderr, "not run on PostgreSQL, which counts as failed: %s\n", server.why);
        return 1;
    }
    on_postgres = true;
    failed |= unit_main("directory on PostgreSQL", tests, COUNT(tests));
    postgres_end(&server);
    return failed;
}
