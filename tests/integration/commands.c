/*
 * Promise: answers reach the client that asked and nobody else, and whatever is sent as a command gets an answer: an
 * error where it is wrong, and the connection goes on. What changes the directory counts once, for this gate, and for
 * whoever signed it.
 */
#include "ask.h"
#include "tests/unit/unit.h"

#include <string.h>

static stage s;
static asker a;
static member m; /* enrolled */

static void set_policy(const char *policy, mqtt_version version)
{
    stage_set(&s, policy, CONF_ENROLLING);
    asker_open(&a, (client_spec){.port = s.b.port, .id = "asker", .version = version});
    member_make(&m, "dora");
    CU_ASSERT_EQUAL(ask_enroll(&a, &m), PEP_OK);
}

static void set_version(mqtt_version version)
{
    set_policy(OPEN_POLICY, version);
}

static void set(void)
{
    set_version(MQTT_3);
}

static void strike(void)
{
    member_wipe(&m);
    asker_close(&a);
    stage_strike(&s);
}

/* ---- to whom answers go ---- */

typedef struct {
    client *c[4];
} watchers;

/* They may read all, the ACL says. */
static watchers watch(void)
{
    static const char *const filters[] = {"$CONTROL/#", PEP_ANSWER_TOPIC, "$CONTROL/#", PEP_CONTROL_TOPIC};
    watchers w;
    for (int i = 0; i < 4; i++) {
        w.c[i] = client_open((client_spec){.port = s.b.port, .version = i < 2 ? MQTT_3 : MQTT_5});
        client_subscribe(w.c[i], filters[i], 1);
        client_subscribe(w.c[i], FENCE_TOPIC, 2);
    }
    return w;
}

/* Nothing but the fence. */
static bool saw_nothing(watchers *w)
{
    bool good = client_fence(w->c[0], s.to) && client_gets_fence(s.to);
    for (int i = 1; i < 4; i++)
        good = client_gets_fence(w->c[i]) && good;
    for (int i = 0; i < 4; i++)
        client_close(w->c[i]);
    return good;
}

static void nobody_else_reads_along(void)
{
    member other;
    set();
    watchers w = watch();
    member_make(&other, "eve");
    CU_ASSERT_EQUAL(ask_enroll(&a, &other), PEP_OK);
    CU_ASSERT_TRUE(ask_knows(&a, &other));
    CU_ASSERT_EQUAL(ask_text(&a, "nonsense"), PEP_BAD_COMMAND);
    CU_ASSERT_TRUE(saw_nothing(&w));
    member_wipe(&other);
    strike();
}

/* A retained command is one like any other, and stays nowhere. */
static void nothing_of_it_is_retained(void)
{
    member other;
    set();
    member_make(&other, "eve");
    sealed command = command_enroll(&a, &other, NULL, NULL);
    CU_ASSERT_EQUAL(client_publish(a.c, PEP_CONTROL_TOPIC, command.bytes, command.n, 1, true), REASON_SUCCESS);
    CU_ASSERT_EQUAL(answer_reason(ask_next(&a)), PEP_OK);
    watchers w = watch();
    CU_ASSERT_TRUE(saw_nothing(&w));
    member_wipe(&other);
    strike();
}

/* Mosquitto 2.0 publishes them as ordinary messages; none of it may look like a command or an answer. */
static void wills_are_neither_carried_out_nor_delivered(void)
{
    member other;
    sealed ignored;
    set();
    watchers w = watch();
    member_make(&other, "eve");
    for (mqtt_version version = MQTT_3; version <= MQTT_5; version++)
        for (int retain = 0; retain <= 1; retain++) {
            sealed command = command_enroll(&a, &other, NULL, NULL);
            wire_spec spec = {.port = s.b.port,
                              .version = version,
                              .id = "w",
                              .will_topic = PEP_CONTROL_TOPIC,
                              .will = command.bytes,
                              .will_n = command.n,
                              .will_retain = retain == 1};
            wire by;
            if (wire_try(&by, spec)) /* 2.1 refuses such a will at the CONNECT */
                wire_drop(&by);
            spec.will_topic = PEP_ANSWER_TOPIC;
            if (wire_try(&by, spec))
                wire_drop(&by);
        }
    CU_ASSERT_TRUE(client_fence(s.to, s.to));
    for (int i = 0; i < 4; i++)
        CU_ASSERT_TRUE(client_gets_fence(w.c[i]));
    CU_ASSERT_TRUE(saw_nothing(&w));
    w = watch(); /* nothing stayed */
    CU_ASSERT_TRUE(saw_nothing(&w));
    CU_ASSERT_EQUAL(ask_lookup(&a, "eve", &ignored), PEP_UNKNOWN_ID);
    member_wipe(&other);
    strike();
}

static void nobody_forges_answers(void)
{
    set();
    client *reader = client_open((client_spec){.port = s.b.port});
    client *from = client_open((client_spec){.port = s.b.port, .id = "from", .version = MQTT_5});
    sealed e = {.bytes = "{\"responses\":[]}", .n = 16};
    client_subscribe(reader, "$CONTROL/#", 1);
    client_subscribe(reader, FENCE_TOPIC, 2);
    for (int qos = 0; qos <= 2; qos++)
        for (int retain = 0; retain <= 1; retain++) {
            CU_ASSERT_TRUE(stage_refuses(&s, from, PEP_ANSWER_TOPIC, &e, qos, retain == 1, PEP_RESERVED_TOPIC));
            CU_ASSERT_TRUE(client_gets_fence(reader));
        }
    client_close(from);
    client_close(reader);
    strike();
}

/* True once the directory has it: somebody who is gone may have asked for it a moment ago. */
static bool becomes_known(const char *id)
{
    sealed ignored;
    int64_t deadline = monotonic_ms() + patience_ms();
    pep_reason reason;
    while ((reason = ask_lookup(&a, id, &ignored)) == PEP_UNKNOWN_ID && remaining_ms(deadline) > 0)
        ;
    return reason == PEP_OK;
}

static void whoever_leaves_misses_the_answer_alone(void)
{
    member other;
    set();
    member_make(&other, "eve");
    sealed command = command_enroll(&a, &other, NULL, NULL);
    wire w = wire_open((wire_spec){.port = s.b.port, .id = "w"});
    wire_publish(&w, (wire_message){.topic = PEP_CONTROL_TOPIC, .bytes = command.bytes, .n = command.n});
    wire_drop(&w);
    CU_ASSERT_TRUE(becomes_known("eve"));
    member_wipe(&other);
    strike();
}

/* The client id is another's now, or the same device's again: it gets what it asks for itself. */
static void whoever_takes_over_gets_its_own_answer(void)
{
    static const char lookup[] =
        "{\"commands\":[{\"command\":\"lookup\",\"id\":\"dora\",\"correlationData\":\"mine\"}]}";
    member other;
    set();
    member_make(&other, "eve");
    for (int i = 0; i < 5; i++) {
        sealed command = command_enroll(&a, &other, NULL, NULL);
        wire w = wire_open((wire_spec){.port = s.b.port, .id = "twin"});
        wire_publish(&w, (wire_message){.topic = PEP_CONTROL_TOPIC, .bytes = command.bytes, .n = command.n});
        client *next = stage_client(&s, "twin");
        CU_ASSERT_TRUE(wire_closed(&w));
        wire_drop(&w);
        CU_ASSERT_EQUAL(client_publish(next, PEP_CONTROL_TOPIC, lookup, strlen(lookup), 1, false), REASON_SUCCESS);
        const client_message *answer = client_next(next);
        CU_ASSERT_TRUE(answer != NULL && strstr((const char *)answer->bytes, "\"correlationData\":\"mine\"") != NULL);
        client_close(next);
    }
    CU_ASSERT_TRUE(becomes_known("eve"));
    member_wipe(&other);
    strike();
}

/* ---- what is sent as a command ---- */

/* Sends it, expects this reason, and that the same connection's next question is answered. */
static bool answers(const char *name, const void *bytes, size_t n, pep_reason expected)
{
    pep_reason got = answer_reason(ask(&a, bytes, n));
    bool alive = ask_knows(&a, &m);
    if (got != expected || !alive)
        fprintf(stderr, "%s: %s, expected %s%s\n", name, got == NO_ANSWER ? "no answer" : pep_reason_name(got),
                pep_reason_name(expected), alive ? "" : "; and then silence");
    return got == expected && alive;
}

#define ONE(fields) "{\"commands\":[{" fields "}]}"
#define LOOKUP      "\"command\":\"lookup\","
#define TEXT(text)  text, sizeof(text) - 1

/* Each is one bad-command. */
static const struct {
    const char *name, *bytes;
    size_t n;
} BAD[] = {
    {"nothing", TEXT("")},
    {"a space", TEXT(" ")},
    {"plain text", TEXT("hello")},
    {"half an object", TEXT("{")},
    {"an array", TEXT("[]")},
    {"null", TEXT("null")},
    {"a number", TEXT("1")},
    {"no commands", TEXT("{}")},
    {"an object of commands", TEXT("{\"commands\":{}}")},
    {"an empty list", TEXT("{\"commands\":[]}")},
    {"a number as a command", TEXT("{\"commands\":[1]}")},
    {"a list as a command", TEXT("{\"commands\":[[]]}")},
    {"null as a command", TEXT("{\"commands\":[null]}")},
    {"an empty command", TEXT("{\"commands\":[{}]}")},
    {"a number as its name", TEXT(ONE("\"command\":1"))},
    {"an unknown command", TEXT(ONE("\"command\":\"fly\""))},
    {"another case", TEXT(ONE("\"Command\":\"status\""))},
    {"an unknown field", TEXT(ONE(LOOKUP "\"id\":\"dora\",\"colour\":\"red\""))},
    {"a field of another command", TEXT(ONE(LOOKUP "\"id\":\"dora\",\"record\":\"AA\""))},
    {"no id", TEXT(ONE("\"command\":\"lookup\""))},
    {"an id and a kid", TEXT(ONE(LOOKUP "\"id\":\"dora\",\"kid\":\"00112233445566778899aabbccddeeff\""))},
    {"a number as id", TEXT(ONE(LOOKUP "\"id\":1"))},
    {"a list as id", TEXT(ONE(LOOKUP "\"id\":[\"dora\"]"))},
    {"no list as ids", TEXT(ONE(LOOKUP "\"ids\":\"dora\""))},
    {"an empty list of ids", TEXT(ONE(LOOKUP "\"ids\":[]"))},
    {"an id that is none", TEXT(ONE(LOOKUP "\"id\":\"do/ra\""))},
    {"an empty id", TEXT(ONE(LOOKUP "\"id\":\"\""))},
    {"a short kid", TEXT(ONE(LOOKUP "\"kid\":\"0011\""))},
    {"a kid in capitals", TEXT(ONE(LOOKUP "\"kid\":\"00112233445566778899AABBCCDDEEFF\""))},
    {"a kid that is no hex", TEXT(ONE(LOOKUP "\"kid\":\"zz112233445566778899aabbccddeeff\""))},
    {"a field twice", TEXT(ONE(LOOKUP "\"id\":\"dora\",\"id\":\"eve\""))},
    {"commands twice", TEXT("{\"commands\":[{\"command\":\"status\"}],\"commands\":[{\"command\":\"status\"}]}")},
    {"something beside commands", TEXT("{\"commands\":[{\"command\":\"status\"}],\"x\":1}")},
    {"something behind it", TEXT(ONE("\"command\":\"status\"") "x")},
    {"a second object behind it", TEXT(ONE("\"command\":\"status\"") "{}")},
    {"NUL behind it", TEXT(ONE("\"command\":\"status\"") "\0")},
    {"NUL in an id", TEXT(ONE(LOOKUP "\"id\":\"dora\0\""))},
    {"an escaped NUL in an id", TEXT(ONE(LOOKUP "\"id\":\"dora\\u0000\""))},
    {"no UTF-8", TEXT(ONE(LOOKUP "\"id\":\"dora\",\"correlationData\":\"\xff\""))},
    {"overlong UTF-8", TEXT(ONE(LOOKUP "\"id\":\"dora\",\"correlationData\":\"\xc0\x80\""))},
    {"a surrogate", TEXT(ONE(LOOKUP "\"id\":\"dora\",\"correlationData\":\"\xed\xa0\x80\""))},
    {"half a surrogate pair", TEXT(ONE(LOOKUP "\"id\":\"dora\",\"correlationData\":\"\\ud800\""))},
    {"a byte order mark", TEXT("\xef\xbb\xbfx")},
    {"a number as correlation", TEXT(ONE(LOOKUP "\"id\":\"dora\",\"correlationData\":1"))},
    {"a negative count", TEXT(ONE("\"command\":\"list\",\"count\":-1"))},
    {"a count of 0", TEXT(ONE("\"command\":\"list\",\"count\":0"))},
    {"a huge count", TEXT(ONE("\"command\":\"list\",\"count\":1001"))},
    {"a count that is no integer", TEXT(ONE("\"command\":\"list\",\"count\":1.5"))},
    {"a count that is none", TEXT(ONE("\"command\":\"list\",\"count\":1e999"))},
    {"9 deep", TEXT(ONE(LOOKUP "\"id\":[[[[[[\"dora\"]]]]]]"))},
};

#define AT_ONCE 8 /* so many may wait of one client */

static void answers_bad(size_t first, size_t end)
{
    for (size_t i = first; i < end; i++)
        CU_ASSERT_EQUAL(client_publish(a.c, PEP_CONTROL_TOPIC, BAD[i].bytes, BAD[i].n, 1, false), REASON_SUCCESS);
    for (size_t i = first; i < end; i++) {
        pep_reason got = answer_reason(ask_next(&a));
        CU_ASSERT_EQUAL(got, PEP_BAD_COMMAND);
        if (got != PEP_BAD_COMMAND)
            fprintf(stderr, "%s: %s\n", BAD[i].name, pep_reason_name(got));
    }
}

/* Several at once: an answer takes the broker a turn of its loop. They come in the order of what they answer. */
static void nonsense_is_answered(void)
{
    size_t count = sizeof(BAD) / sizeof(BAD[0]);
    for (mqtt_version version = MQTT_3; version <= MQTT_5; version++) {
        set_version(version);
        for (size_t i = 0; i < count; i += AT_ONCE)
            answers_bad(i, i + AT_ONCE < count ? i + AT_ONCE : count);
        CU_ASSERT_TRUE(ask_knows(&a, &m));
        strike();
    }
}

/* `n` bytes: `head`, then `filler`, then `tail`. */
static bool answers_filled(size_t n, const char *head, char filler, const char *tail, pep_reason expected)
{
    static char text[1 << 20];
    char name[64];
    size_t head_n = strlen(head), tail_n = strlen(tail);
    for (size_t i = 0; i < n; i++)
        text[i] = i < head_n ? head[i] : i + tail_n < n ? filler : tail[i + tail_n - n];
    snprintf(name, sizeof(name), "%zu bytes of '%c'", n, filler);
    return answers(name, text, n, expected);
}

#define ONE_HEAD "{\"commands\":[{\"command\":\"status\",\"correlationData\":\""
#define ONE_TAIL "\"}]}"

static void what_is_too_large_is_answered(void)
{
    set();
    CU_ASSERT_TRUE(answers_filled(65536, ONE("\"command\":\"status\""), ' ', " ", PEP_OK));
    CU_ASSERT_TRUE(answers_filled(65537, ONE("\"command\":\"status\""), ' ', " ", PEP_BAD_COMMAND));
    CU_ASSERT_TRUE(answers_filled(1 << 20, ONE("\"command\":\"status\""), ' ', " ", PEP_BAD_COMMAND));
    CU_ASSERT_TRUE(answers_filled(1 << 20, "[", '[', "[", PEP_BAD_COMMAND));
    CU_ASSERT_TRUE(answers_filled(60000, "{\"commands\":[", '[', "", PEP_BAD_COMMAND));
    CU_ASSERT_TRUE(answers_filled(60000, "[", '{', "", PEP_BAD_COMMAND));
    CU_ASSERT_TRUE(answers_filled(sizeof(ONE_HEAD ONE_TAIL) - 1 + 1024, ONE_HEAD, 'x', ONE_TAIL, PEP_OK));
    CU_ASSERT_TRUE(answers_filled(sizeof(ONE_HEAD ONE_TAIL) - 1 + 1025, ONE_HEAD, 'x', ONE_TAIL, PEP_BAD_COMMAND));
    strike();
}

static size_t many(char *out, size_t cap, const char *head, const char *each, int count, const char *tail)
{
    size_t n = (size_t)snprintf(out, cap, "%s", head);
    for (int i = 0; i < count; i++)
        n += (size_t)snprintf(out + n, cap - n, "%s%s", i == 0 ? "" : ",", each);
    return n + (size_t)snprintf(out + n, cap - n, "%s", tail);
}

static int count_responses(const char *text, size_t n)
{
    cJSON *answer = ask(&a, text, n);
    int count = cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(answer, "responses"));
    cJSON_Delete(answer);
    return count;
}

static void there_is_a_limit_to_commands(void)
{
    static const char status[] = "{\"command\":\"status\"}";
    char text[8192];
    set();
    size_t n = many(text, sizeof(text), "{\"commands\":[", status, 64, "]}");
    CU_ASSERT_EQUAL(count_responses(text, n), 64);
    n = many(text, sizeof(text), "{\"commands\":[", status, 65, "]}");
    CU_ASSERT_TRUE(answers("65 commands", text, n, PEP_BAD_COMMAND));
    n = many(text, sizeof(text), "{\"commands\":[{\"command\":\"lookup\",\"ids\":[", "\"dora\"", 64, "]}]}");
    CU_ASSERT_TRUE(answers("64 ids", text, n, PEP_OK));
    n = many(text, sizeof(text), "{\"commands\":[{\"command\":\"lookup\",\"ids\":[", "\"dora\"", 65, "]}]}");
    CU_ASSERT_TRUE(answers("65 ids", text, n, PEP_BAD_COMMAND));
    strike();
}

/* A wrong one among others is its own failure; what it belongs to is echoed. */
static void each_command_has_its_own_answer(void)
{
    static const char text[] = "{\"commands\":[{\"command\":\"status\",\"correlationData\":\"one\"},"
                               "{\"command\":\"fly\",\"correlationData\":\"two\"},"
                               "{\"command\":\"lookup\",\"id\":\"dora\",\"correlationData\":\"th\\u0072ee\"}]}";
    static const struct {
        const char *command, *correlation;
        bool good;
    } expected[] = {{"status", "one", true}, {"", "two", false}, {"lookup", "three", true}};
    set();
    cJSON *answer = ask(&a, text, strlen(text));
    const cJSON *responses = cJSON_GetObjectItemCaseSensitive(answer, "responses");
    CU_ASSERT_EQUAL(cJSON_GetArraySize(responses), 3);
    for (int i = 0; i < 3; i++) {
        const cJSON *r = cJSON_GetArrayItem(responses, i);
        const char *command = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(r, "command"));
        const char *correlation = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(r, "correlationData"));
        CU_ASSERT_TRUE(command != NULL && strcmp(command, expected[i].command) == 0);
        CU_ASSERT_TRUE(correlation != NULL && strcmp(correlation, expected[i].correlation) == 0);
        CU_ASSERT_EQUAL(cJSON_GetObjectItemCaseSensitive(r, "data") != NULL, expected[i].good);
        CU_ASSERT_EQUAL(cJSON_GetObjectItemCaseSensitive(r, "error") == NULL, expected[i].good);
    }
    cJSON_Delete(answer);
    strike();
}

/* ---- what must be signed ---- */

static char enroll_json[PEP_COMMAND_JSON_MAX]; /* of `other` */
static member other;

static void make_other(void)
{
    member_make(&other, "eve");
    CU_ASSERT_EQUAL(pep_command_enroll(enroll_json, NULL, (pep_view){other.newest.bytes, other.newest.n},
                                       (pep_view){NULL, 0}, (pep_view){NULL, 0}),
                    PEP_OK);
}

static void set_other(void)
{
    set();
    make_other();
}

static void strike_other(void)
{
    sealed ignored;
    CU_ASSERT_EQUAL(ask_lookup(&a, "eve", &ignored), PEP_UNKNOWN_ID); /* none of it was carried out */
    member_wipe(&other);
    strike();
}

static sealed command_for(const uint8_t *gate_kid, uint64_t seq, uint64_t now_s)
{
    sealed out = {.n = 0};
    const pep_command command = {&other.who.device, seq, false, gate_kid, now_s};
    const pep_view text = {(const uint8_t *)enroll_json, strlen(enroll_json)};
    CU_ASSERT_EQUAL(pep_command_seal(out.bytes, &out.n, sizeof(out.bytes), &command, text), PEP_OK);
    return out;
}

static bool answers_sealed(const char *name, const sealed *e, pep_reason expected)
{
    return answers(name, e->bytes, e->n, expected);
}

static void changes_must_be_sealed(void)
{
    set_other();
    CU_ASSERT_TRUE(answers("an enrolment in plain", enroll_json, strlen(enroll_json), PEP_NOT_AUTHORIZED));
    strike_other();
}

static void what_is_sealed_wrong_is_refused(void)
{
    set_other();
    uint64_t now_s = pep_now_us() / 1000000;
    sealed e = command_for(other.who.device.sign_kid, next_seq(), now_s);
    CU_ASSERT_TRUE(answers_sealed("for another gate", &e, PEP_WRONG_AUDIENCE));
    e = command_for(a.gate_kid, next_seq(), now_s - PEP_COMMAND_LIFE_S - 2);
    CU_ASSERT_TRUE(answers_sealed("expired", &e, PEP_EXPIRED));
    e = command_for(a.gate_kid, next_seq(), now_s + 3600);
    CU_ASSERT_TRUE(answers_sealed("valid for too long", &e, PEP_BAD_COMMAND));
    e = command_for(a.gate_kid, pep_now_us() + 3600 * 1000000ull, now_s);
    CU_ASSERT_TRUE(answers_sealed("from the future", &e, PEP_FUTURE_SEQ));
    e = command_for(a.gate_kid, next_seq(), now_s);
    e.bytes[e.n - 1] ^= 1;
    CU_ASSERT_TRUE(answers_sealed("with another signature", &e, PEP_NOT_AUTHORIZED));
    e = command_seal(&a, &m.who.device, enroll_json);
    CU_ASSERT_TRUE(answers_sealed("by another device", &e, PEP_NOT_AUTHORIZED));
    e = seal((seal_spec){.from = &other.who, .topic = "t/a", .signed_only = true});
    CU_ASSERT_TRUE(answers_sealed("no command", &e, PEP_BAD_COMMAND));
    e = seal((seal_spec){.from = &other.who, .topic = "t/a"});
    CU_ASSERT_TRUE(answers_sealed("encrypted", &e, PEP_BAD_COMMAND));
    strike_other();
}

#define CUT_STEP 7 /* fewer than may wait of one client */

static void a_cut_envelope_is_answered(void)
{
    set_other();
    const sealed whole = command_for(a.gate_kid, next_seq(), pep_now_us() / 1000000);
    for (size_t n = 1; n < whole.n; n += CUT_STEP)
        CU_ASSERT_EQUAL(client_publish(a.c, PEP_CONTROL_TOPIC, whole.bytes, n, 1, false), REASON_SUCCESS);
    for (size_t n = 1; n < whole.n; n += CUT_STEP) {
        pep_reason reason = answer_reason(ask_next(&a));
        CU_ASSERT_TRUE(reason != PEP_OK && reason != NO_ANSWER);
    }
    CU_ASSERT_TRUE(ask_knows(&a, &m));
    strike_other();
}

/* ---- once ---- */

static void a_command_counts_once(void)
{
    set_other();
    const sealed enroll = command_for(a.gate_kid, next_seq(), pep_now_us() / 1000000);
    CU_ASSERT_TRUE(answers_sealed("at first", &enroll, PEP_OK));
    CU_ASSERT_TRUE(answers_sealed("again", &enroll, PEP_REPEATED_COMMAND));
    member next;
    member_turn(&next, &other, pep_now_us());
    const sealed rotate = command_rotate(&a, &next, &other.who.device, NULL);
    CU_ASSERT_TRUE(answers_sealed("a rotation", &rotate, PEP_OK));
    CU_ASSERT_TRUE(answers_sealed("a rotation again", &rotate, PEP_REPEATED_COMMAND));
    CU_ASSERT_TRUE(ask_knows(&a, &next));
    for (int hard = 0; hard <= 1; hard++) {
        asker_close(&a);
        stage_restart(&s, hard == 1);
        asker_open(&a, (client_spec){.port = s.b.port, .id = "somebody else"});
        CU_ASSERT_TRUE(answers_sealed("behind a restart", &rotate, PEP_REPEATED_COMMAND));
        CU_ASSERT_NOT_EQUAL(ask_reason(&a, &enroll), PEP_OK);
    }
    CU_ASSERT_TRUE(ask_knows(&a, &next));
    member_wipe(&next);
    member_wipe(&other);
    strike();
}

/* Also a change that is refused is used up, where it came from somebody known. */
static void a_refused_command_is_no_second_chance(void)
{
    static const char token[] = ONE("\"command\":\"token\"");
    static const char status[] = ONE("\"command\":\"status\"");
    set();
    sealed e = command_seal(&a, &m.who.device, token);
    CU_ASSERT_TRUE(answers_sealed("refused", &e, PEP_NOT_AUTHORIZED));
    CU_ASSERT_TRUE(answers_sealed("again", &e, PEP_REPEATED_COMMAND));
    e = command_seal(&a, &m.who.device, status);
    CU_ASSERT_TRUE(answers_sealed("it only reads", &e, PEP_OK));
    CU_ASSERT_TRUE(answers_sealed("it only reads, again", &e, PEP_OK));
    strike();
}

/* ---- forgers ---- */

/* Sends so many at once; how many are not looked at. All are answered. */
static int forge(asker *from, int n)
{
    int limited = 0;
    for (int i = 0; i < n; i++) {
        sealed e = command_for(a.gate_kid, next_seq(), pep_now_us() / 1000000);
        e.bytes[e.n - 1] ^= 1;
        CU_ASSERT_EQUAL(client_publish(from->c, PEP_CONTROL_TOPIC, e.bytes, e.n, 1, false), REASON_SUCCESS);
    }
    for (int i = 0; i < n; i++) {
        pep_reason reason = answer_reason(ask_next(from));
        CU_ASSERT_TRUE(reason == PEP_NOT_AUTHORIZED || reason == PEP_RATE_LIMITED);
        limited += reason == PEP_RATE_LIMITED;
    }
    return limited;
}

/* Made-up keys and signatures, from the asker's own address, and without user names either. */
static void forgers_get_answers_and_disturb_no_reads(void)
{
    asker b;
    set_policy("enroll = \"open\"; max_records = 1000;\n" DIRECTORY_TOPICS,
               MQTT_3); /* with the budget that there is by default */
    make_other();
    asker_open(&b, (client_spec){.port = s.b.port, .id = "mallory"});
    int limited = 0;
    for (int64_t deadline = monotonic_ms() + patience_ms(); limited == 0 && remaining_ms(deadline) > 0;)
        limited = forge(&b, 140); /* the first ones are let in until their signatures have been looked at */
    CU_ASSERT_TRUE(limited > 0);
    asker reader;
    asker_open(&reader, (client_spec){.port = s.b.port, .id = "reader"});
    for (int i = 0; i < 50; i++)
        CU_ASSERT_TRUE(ask_knows(&reader, &m));
    CU_ASSERT_TRUE(ask_knows(&b, &m)); /* it is not disconnected, either */
    asker_close(&reader);
    asker_close(&b);
    strike_other();
}

/* ---- bridges ---- */

/* $CONTROL is never sent on by a broker, so it takes one that renames: what it brings has nobody to be answered. */
static void bridges_cannot_command(void)
{
    upstream up;
    sealed ignored;
    stage_set_bridged(&s, &up, DIRECTORY_POLICY("open", "max_records = 1000; directory = \"retained\";"),
                      "topic v1 in 1 $CONTROL/pep/ up/\n");
    asker_open(&a, (client_spec){.port = s.b.port, .id = "asker"});
    member_make(&m, "dora");
    const sealed enroll = command_enroll(&a, &m, NULL, NULL);
    CU_ASSERT_EQUAL(client_publish(up.from, "up/v1", enroll.bytes, enroll.n, 1, false), REASON_SUCCESS);
    CU_ASSERT_EQUAL(client_publish(up.from, "up/v1", "nonsense", 8, 1, false), REASON_SUCCESS);
    CU_ASSERT_TRUE(client_fence(s.to, up.from));
    CU_ASSERT_EQUAL(ask_lookup(&a, "dora", &ignored), PEP_UNKNOWN_ID);
    CU_ASSERT_EQUAL(ask_reason(&a, &enroll), PEP_OK);
    member_wipe(&m);
    asker_close(&a);
    stage_strike_bridged(&s, &up);
}

static const unit_test TESTS[] = {
    {"nobody else reads along", nobody_else_reads_along},
    {"nothing of it is retained", nothing_of_it_is_retained},
    {"wills are neither carried out nor delivered", wills_are_neither_carried_out_nor_delivered},
    {"nobody forges answers", nobody_forges_answers},
    {"whoever leaves misses the answer alone", whoever_leaves_misses_the_answer_alone},
    {"whoever takes over gets its own answer", whoever_takes_over_gets_its_own_answer},
    {"nonsense is answered", nonsense_is_answered},
    {"what is too large is answered", what_is_too_large_is_answered},
    {"there is a limit to commands", there_is_a_limit_to_commands},
    {"each command has its own answer", each_command_has_its_own_answer},
    {"changes must be sealed", changes_must_be_sealed},
    {"what is sealed wrong is refused", what_is_sealed_wrong_is_refused},
    {"a cut envelope is answered", a_cut_envelope_is_answered},
    {"a command counts once", a_command_counts_once},
    {"a refused command is no second chance", a_refused_command_is_no_second_chance},
    {"forgers get answers, and disturb no reads", forgers_get_answers_and_disturb_no_reads},
    {"bridges cannot command", bridges_cannot_command},
};
UNIT_MAIN("commands", TESTS)
