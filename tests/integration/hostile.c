/*
 * The pep tool and a broker that lies: it serves what it likes under $PEP and answers what it likes, or nothing.
 * Promise: a key that ended is not believed by what the broker withholds, and no answer costs more than was meant.
 */
#include <cjson/cJSON.h>
#include <fcntl.h>
#include <signal.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "broker.h"
#include "liar.h"
#include "pep.h"
#include "tests/unit/unit.h"

#define WAITING 512

/* ---- a device and all that it says ---- */

typedef struct {
    pep_device first, device; /* its first keys, and those of now */
    pep_head head;
    bytes said[4];
    size_t count;
} person;

static uint64_t now_s(void)
{
    return pep_now_us() / 1000000;
}

static void add(person *p, const bytes *said)
{
    pep_statement s;
    const pep_trust nobody = {.authorities = NULL};
    p->said[p->count] = *said;
    CU_ASSERT_EQUAL_FATAL(pep_statement_parse(&s, said->p, said->n), PEP_OK);
    pep_reason reason = p->count++ == 0 ? pep_head_begin(&p->head, &s) : pep_head_advance(&p->head, NULL, &s, &nobody);
    CU_ASSERT_EQUAL_FATAL(reason, PEP_OK);
}

static person person_of(const char *id, uint64_t until_s)
{
    person p = {.count = 0};
    bytes record;
    CU_ASSERT_EQUAL_FATAL(pep_device_new(&p.device, id), PEP_OK);
    p.first = p.device;
    CU_ASSERT_EQUAL_FATAL(pep_record_sign(record.p, &record.n, &p.device, now_s() - 100, until_s), PEP_OK);
    add(&p, &record);
    return p;
}

static person device(const char *id)
{
    return person_of(id, now_s() + 100000);
}

/* `secret`: whose signature stands around the record. */
static bytes next_of(const person *p, const pep_device *next, const uint8_t *secret, uint64_t cutoff)
{
    bytes record;
    bytes out;
    CU_ASSERT_EQUAL_FATAL(pep_record_next(record.p, &record.n, next, &p->head, now_s() - 50, now_s() + 100000), PEP_OK);
    CU_ASSERT_EQUAL_FATAL(pep_rotation_sign(out.p, &out.n, secret, &p->head, record.p, record.n, cutoff), PEP_OK);
    return out;
}

static void rotate(person *p, uint64_t cutoff)
{
    pep_device next;
    CU_ASSERT_EQUAL_FATAL(pep_device_renew(&next, &p->device, false, now_s(), now_s() + 1000), PEP_OK);
    bytes said = next_of(p, &next, p->device.sign_secret, cutoff);
    p->device = next;
    add(p, &said);
}

static void end_keys(person *p)
{
    bytes out;
    CU_ASSERT_EQUAL_FATAL(
        pep_revocation_sign(out.p, &out.n, p->device.sign_secret, &p->head, now_s() - 40, pep_now_us() - 200000000),
        PEP_OK);
    add(p, &out);
}

static bytes entry_of(const bytes *said)
{
    bytes out;
    const pep_entry e = {.statement = {said->p, said->n}};
    CU_ASSERT_EQUAL_FATAL(pep_entry_encode(out.p, &out.n, &e), PEP_OK);
    return out;
}

static bytes entry(const person *p)
{
    return entry_of(&p->said[p->count - 1]);
}

/* ---- what it answers ---- */

static cJSON *text_of(const bytes *b)
{
    char text[2 * sizeof(b->p)];
    sodium_bin2base64(text, sizeof(text), b->p, b->n, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    return cJSON_CreateString(text);
}

static cJSON *found(const char *id, const bytes *e)
{
    cJSON *response = cJSON_CreateObject();
    cJSON *item = cJSON_CreateObject();
    cJSON_AddItemToArray(cJSON_AddArrayToObject(cJSON_AddObjectToObject(response, "data"), "entries"), item);
    cJSON_AddStringToObject(item, "id", id);
    cJSON_AddItemToObject(item, "entry", text_of(e));
    return response;
}

static cJSON *statements(const person *p, size_t after)
{
    cJSON *response = cJSON_CreateObject();
    cJSON *array = cJSON_AddArrayToObject(cJSON_AddObjectToObject(response, "data"), "statements");
    for (size_t i = after; i < p->count; i++)
        cJSON_AddItemToArray(array, text_of(&p->said[i]));
    return response;
}

static size_t after_of(const cJSON *command)
{
    const cJSON *after = cJSON_GetObjectItem(command, "after");
    return cJSON_IsNumber(after) ? (size_t)after->valuedouble : 0;
}

/* What the tool has seen of a device, as far as `count`. */
static void pin(const person *p, size_t count)
{
    pep_pins *pins;
    pep_error error = {""};
    pep_view views[4];
    for (size_t i = 0; i < count; i++)
        views[i] = (pep_view){p->said[i].p, p->said[i].n};
    CU_ASSERT_EQUAL_FATAL(pep_pins_open(&pins, &error, "pins", NULL, 0), PEP_OK);
    CU_ASSERT_EQUAL_FATAL(pep_pins_take_history(pins, &error, p->head.id, views, count), PEP_OK);
    pep_pins_close(pins);
}

static void save(const person *p, const char *path)
{
    pep_error error = {""};
    CU_ASSERT_EQUAL_FATAL(pep_record_save(&error, path, p->said[0].p, p->said[0].n), PEP_OK);
}

/* A signed message of now, less `ago_us`. */
static void say(const pep_device *from, const char *text, uint64_t ago_us, bool kept)
{
    uint8_t out[512];
    size_t n;
    const pep_message m = {.from = from,
                           .topic = {(const uint8_t *)"t/1", 3},
                           .seq = pep_now_us() - ago_us,
                           .flags = PEP_FLAG_SIGNED_ONLY,
                           .plain = {(const uint8_t *)text, strlen(text)}};
    CU_ASSERT_EQUAL_FATAL(pep_seal(out, &n, sizeof(out), &m), PEP_OK);
    liar_tell("t/1", out, n, kept);
}

#define LISTEN "sub --key me.key --signed-only -t t/1 % "

/* Returns when it listens: what `good` says is printed. */
static pid_t listen_with(const char *words, const pep_device *good)
{
    pid_t child = liar_start(words);
    int64_t deadline = monotonic_ms() + patience_ms();
    while (liar_count("out", "ready") == 0 && monotonic_ms() < deadline) {
        say(good, "ready", 0, false);
        liar_turn();
    }
    CU_ASSERT_TRUE(liar_count("out", "ready") > 0);
    return child;
}

/* ---- sub ---- */

static person many[150];

static person *who(const cJSON *command)
{
    size_t i = strtoul(liar_word(command, "id") + 1, NULL, 10);
    return &many[i < 150 ? i : 0];
}

static cJSON *answer_many(const cJSON *command)
{
    const person *p = who(command);
    bytes e = entry(p);
    return liar_is(command, "history") ? statements(p, after_of(command)) : found(p->head.id, &e);
}

/* All of them changed while nobody listened, and each has a history: no change is passed over. */
static void test_many_changes(void)
{
    liar_enter();
    person good = device("good");
    pin(&good, 1);
    for (size_t i = 0; i < 150; i++) {
        char id[16];
        (void)snprintf(id, sizeof(id), "d%zu", i);
        many[i] = device(id);
        pin(&many[i], 1);
        rotate(&many[i], pep_now_us() - 200000000);
        end_keys(&many[i]);
        liar_retain(PEP_KEYS_TOPIC, id, entry(&many[i]));
    }
    liar.answer = answer_many;
    pid_t sub = listen_with(LISTEN, &good.device);
    CU_ASSERT_TRUE(liar_comes("err", "was revoked", 150));
    for (size_t i = 0; i < 150; i++)
        say(&many[i].first, "by-an-ended-key", 0, false);
    CU_ASSERT_TRUE(liar_comes("err", "dropped t/1: rotated-signer", 150));
    CU_ASSERT_EQUAL(liar_count("out", "by-an-ended-key"), 0);
    liar_stop(sub);
    liar_leave();
}

static bool may_answer;
static person alice;
static cJSON *asked_history;

static cJSON *answer_later(const cJSON *command)
{
    bytes e = entry(&alice);
    if (!liar_is(command, "history"))
        return found("alice", &e);
    if (may_answer)
        return statements(&alice, after_of(command));
    asked_history = cJSON_Duplicate(command, true);
    return NULL;
}

static void answer_history(void)
{
    cJSON *response = statements(&alice, after_of(asked_history));
    cJSON *out = cJSON_CreateObject();
    cJSON_AddStringToObject(response, "correlationData", liar_word(asked_history, "correlationData"));
    cJSON_AddItemToArray(cJSON_AddArrayToObject(out, "responses"), response);
    char *text = cJSON_PrintUnformatted(out);
    liar_tell(PEP_ANSWER_TOPIC, text, strlen(text), false);
    free(text);
    cJSON_Delete(out);
    cJSON_Delete(asked_history);
}

/* While a history is fetched what is pinned may be out of date: messages wait for it. */
static void test_while_history_comes(void)
{
    liar_enter();
    person good = device("good");
    alice = device("alice");
    pin(&good, 1);
    pin(&alice, 1);
    rotate(&alice, pep_now_us() - 200000000);
    end_keys(&alice);
    liar_retain(PEP_KEYS_TOPIC, "alice", entry(&alice));
    liar.answer = answer_later;
    may_answer = false;
    pid_t sub = listen_with(LISTEN, &good.device);
    say(&alice.first, "by-an-ended-key", 0, false);
    say(&good.device, "fence", 0, false);
    CU_ASSERT_TRUE(liar_comes("out", "fence", 1));
    CU_ASSERT_EQUAL(liar_count("out", "by-an-ended-key"), 0);
    answer_history();
    CU_ASSERT_TRUE(liar_comes("err", "dropped t/1: rotated-signer", 1));
    CU_ASSERT_EQUAL(liar_count("out", "by-an-ended-key"), 0);
    liar_stop(sub);
    liar_leave();
}

/* A record file is called whatever its owner likes, and revoked all the same. */
static void test_file_of_any_name(void)
{
    liar_enter();
    person good = device("good");
    alice = device("alice");
    save(&good, "from/good.pub");
    save(&alice, "from/laptop.pub");
    pid_t sub = listen_with(LISTEN "--from from", &good.device);
    person other = device("alice"); /* another key of that name, by the directory's word */
    bytes e = entry(&other);
    liar_tell(PEP_KEYS_TOPIC "alice", e.p, e.n, true);
    CU_ASSERT_TRUE(liar_comes("err", "unproven-key", 1));
    say(&alice.device, "genuine", 0, false);
    CU_ASSERT_TRUE(liar_comes("out", "genuine", 1));
    end_keys(&alice);
    e = entry(&alice);
    liar_tell(PEP_KEYS_TOPIC "alice", e.p, e.n, true);
    say(&alice.first, "by-an-ended-key", 0, false);
    CU_ASSERT_TRUE(liar_comes("err", "dropped t/1: revoked-signer", 1));
    liar_stop(sub);
    liar_leave();
}

/* Who asks for certificates believes no file without one. */
static void test_file_and_authority(void)
{
    liar_enter();
    alice = device("alice");
    save(&alice, "from/alice.pub");
    liar_expect(0, "authority init --out .", "authority");
    liar_expect(2, LISTEN "--from from --authority authority.public --no-directory", "--authority");
    pid_t sub = liar_start(LISTEN "--from from --authority authority.public");
    int64_t deadline = monotonic_ms() + patience_ms();
    while (liar_count("err", "dropped") == 0 && monotonic_ms() < deadline) {
        say(&alice.device, "uncertified", 0, false);
        liar_turn();
    }
    CU_ASSERT_TRUE(liar_comes("err", "dropped t/1: not-certified", 1));
    CU_ASSERT_EQUAL(liar_count("out", "uncertified"), 0);
    liar_stop(sub);
    liar_leave();
}

/* What an old key sealed is not shown behind what the new one did. */
static void test_order_across_rotation(void)
{
    liar_enter();
    person good = device("good");
    alice = device("alice");
    rotate(&alice, pep_now_us() + 60000000);
    pin(&good, 1);
    pin(&alice, 2);
    pid_t sub = listen_with(LISTEN, &good.device);
    say(&alice.first, "first", 300000, true);
    say(&alice.device, "second", 100000, true);
    say(&alice.first, "withheld", 200000, true);
    CU_ASSERT_TRUE(liar_comes("err", "dropped t/1: replayed", 1));
    say(&alice.first, "third", 0, true);
    CU_ASSERT_TRUE(liar_comes("out", "third", 1));
    CU_ASSERT_TRUE(liar_count("out", "first") == 1 && liar_count("out", "second") == 1 &&
                   liar_count("out", "withheld") == 0);
    liar_stop(sub);
    liar_leave();
}

static cJSON *answer_endlessly(const cJSON *command)
{
    bytes e = entry(&alice);
    if (!liar_is(command, "history"))
        return found("alice", &e);
    cJSON *response = cJSON_CreateObject();
    cJSON *data = cJSON_AddObjectToObject(response, "data");
    cJSON *array = cJSON_AddArrayToObject(data, "statements");
    for (size_t i = 0; i < 32; i++)
        cJSON_AddItemToArray(array, text_of(&alice.said[0]));
    cJSON_AddNumberToObject(data, "next", (double)after_of(command) + 32);
    return response;
}

/* A history that never ends does. */
static void test_endless_history(void)
{
    liar_enter();
    alice = device("alice");
    rotate(&alice, pep_now_us());
    liar.answer = answer_endlessly;
    pid_t sub = liar_start(LISTEN);
    int64_t deadline = monotonic_ms() + patience_ms();
    while (liar_count("err", "dropped") == 0 && monotonic_ms() < deadline) {
        if (liar.asked == 0)
            say(&alice.device, "x", 0, false);
        liar_turn();
    }
    CU_ASSERT_TRUE(liar_comes("err", "dropped t/1: unknown-signer", 1));
    CU_ASSERT_TRUE(liar.asked > 2 && liar.asked < 140);
    liar_stop(sub);
    liar_leave();
}

/* ---- pub ---- */

#define SEND "pub --key me.key -t t/1 -q 1 -m secret % --to bob "

static person bob;
static bytes served;
static const char *history_error;

static cJSON *answer_bob(const cJSON *command)
{
    if (!liar_is(command, "history"))
        return found("bob", &served);
    return history_error != NULL ? liar_error(history_error) : statements(&bob, after_of(command));
}

/* A record that was given, and cannot be used, is no first contact. */
static void test_given_records(void)
{
    liar_enter();
    bob = device("bob");
    served = entry(&bob);
    liar.answer = answer_bob;
    person real = device("bob");
    save(&real, "friends-laptop.pub");
    liar_expect(1, SEND, "unproven-key");
    save(&real, "other.pub");
    liar_expect(3, SEND, "another file beside it is of the same id");
    CU_ASSERT_EQUAL(unlink("other.pub") | rename("friends-laptop.pub", "bob.pub"), 0);
    CU_ASSERT_EQUAL(truncate("bob.pub", 20), 0);
    liar_expect(3, SEND, "bob.pub");
    CU_ASSERT_EQUAL(liar_count("err", "\n"), 1);
    CU_ASSERT_EQUAL(liar.published, 0);
    CU_ASSERT_EQUAL(unlink("bob.pub"), 0);
    liar_expect(0, "lookup --pins pins --forget bob", "forgot bob");
    liar_expect(0, SEND, "");
    liar_leave();
}

/* Around a genuine record anybody can sign a rotation: it is no beginning, and poisons nothing. */
static void test_forged_first(void)
{
    liar_enter();
    bob = device("bob");
    person thief = device("bob");
    pep_device next;
    CU_ASSERT_EQUAL_FATAL(pep_device_renew(&next, &bob.device, false, now_s(), now_s() + 1000), PEP_OK);
    bytes forged = next_of(&bob, &next, thief.device.sign_secret, 5);
    bytes genuine = next_of(&bob, &next, bob.device.sign_secret, pep_now_us());
    served = entry_of(&forged);
    liar.answer = answer_bob;
    history_error = NULL;
    bob.count = 0;
    liar_expect(1, SEND, "has no complete history of it");
    bob.count = 1;
    add(&bob, &genuine);
    liar_expect(1, SEND, "broken-chain");
    CU_ASSERT_EQUAL(liar.published, 0);
    served = entry(&bob);
    liar_expect(0, SEND, "");
    liar_leave();
}

/* It told of something newer, and does not say what lies between: that may be the end of the key. */
static void test_withheld_history(void)
{
    liar_enter();
    bob = device("bob");
    pin(&bob, 1);
    rotate(&bob, pep_now_us());
    end_keys(&bob);
    served = entry(&bob);
    liar.answer = answer_bob;
    history_error = "try-later";
    liar_expect(3, SEND, "nothing was sent to bob");
    CU_ASSERT_EQUAL(liar.published, 0);
    liar.answer = NULL;
    liar_expect(0, SEND, "does not answer; sealing to bob by what is pinned");
    liar_leave();
}

static FILE *begin_lines(pid_t *child)
{
    CU_ASSERT_EQUAL_FATAL(mkfifo("lines", 0600), 0);
    *child = liar_start("pub --key me.key -t t/1 -q 1 -l % --to bob < lines");
    FILE *lines = fopen("lines", "we");
    CU_ASSERT_PTR_NOT_NULL_FATAL(lines);
    return lines;
}

static void send_line(FILE *lines)
{
    (void)fputs("secret\n", lines);
    (void)fflush(lines);
}

/* Line after line, until it ends by itself; -1: it did not. */
static int end_while_sending(pid_t child, FILE *lines)
{
    int status = 0;
    int64_t deadline = monotonic_ms() + patience_ms();
    while (waitpid(child, &status, WNOHANG) == 0) {
        if (monotonic_ms() > deadline)
            kill(child, SIGKILL);
        send_line(lines);
        liar_turn();
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static bool is_published(size_t n)
{
    int64_t deadline = monotonic_ms() + patience_ms();
    while (liar.published < n && monotonic_ms() < deadline)
        liar_turn();
    return liar.published == n;
}

/* A recipient who is revoked while lines are sent gets no more of them, and one whose record ends neither. */
static void test_lines(void)
{
    for (int ends = 0; ends < 2; ends++) {
        liar_enter();
        bob = person_of("bob", now_s() + (ends ? 3 : 1000));
        served = entry(&bob);
        liar.answer = answer_bob;
        pid_t child;
        FILE *lines = begin_lines(&child);
        send_line(lines);
        CU_ASSERT_TRUE(is_published(1));
        uint64_t until_s = now_s() + 4;
        if (!ends) {
            end_keys(&bob);
            bytes e = entry(&bob);
            liar_tell(PEP_KEYS_TOPIC "bob", e.p, e.n, false);
        }
        while (ends && now_s() < until_s)
            liar_turn();
        CU_ASSERT_EQUAL(end_while_sending(child, lines), 1);
        CU_ASSERT_EQUAL(liar_count("err", ends ? "was valid until" : "nothing was sent to bob: revoked-signer"), 1);
        CU_ASSERT_TRUE(!ends || liar.published == 1);
        fclose(lines);
        liar_leave();
    }
}

/* ---- lookup ---- */

static cJSON *answer_alice(const cJSON *command)
{
    bytes e = entry(&alice);
    return liar_is(command, "history") ? statements(&alice, after_of(command)) : found("alice", &e);
}

static void look_up_kid(int code, const uint8_t *kid, const char *options, const char *text)
{
    char hex[2 * PEP_KID_BYTES + 1];
    char words[256];
    sodium_bin2hex(hex, sizeof(hex), kid, PEP_KID_BYTES);
    (void)snprintf(words, sizeof(words), "lookup %s %% %s", hex, options);
    liar_expect(code, words, text);
}

/* Whose a key is, the device's own history must show. */
static void test_lookup_kid(void)
{
    liar_enter();
    alice = device("alice");
    rotate(&alice, pep_now_us());
    person other = device("bob");
    liar.answer = answer_alice;
    look_up_kid(0, alice.device.sign_kid, "", "alice ");
    look_up_kid(0, alice.first.sign_kid, "", "alice ");
    look_up_kid(0, alice.first.sign_kid, "--pins p", "alice ");
    look_up_kid(1, other.device.sign_kid, "", "unknown-signer");
    CU_ASSERT_EQUAL(liar_count("out", "alice"), 0);
    look_up_kid(1, other.device.sign_kid, "--pins p", "unknown-signer");
    CU_ASSERT_EQUAL(liar_count("out", "alice"), 0);
    liar_leave();
}

static cJSON *answer_empty(const cJSON *command)
{
    cJSON *response = cJSON_CreateObject();
    cJSON *data = cJSON_AddObjectToObject(response, "data");
    char next[32];
    if (liar_is(command, "history")) {
        cJSON_AddArrayToObject(data, "statements");
        cJSON_AddNumberToObject(data, "next", (double)after_of(command) + 1);
        return response;
    }
    (void)snprintf(next, sizeof(next), "a%09zu", liar.asked);
    cJSON_AddArrayToObject(data, "devices");
    cJSON_AddStringToObject(data, "next", next);
    return response;
}

static void test_empty_pages(void)
{
    liar_enter();
    liar.answer = answer_empty;
    liar_expect(0, "lookup --list %", "");
    liar_expect(0, "lookup --history alice %", "");
    CU_ASSERT_EQUAL(liar.asked, 2);
    liar_leave();
}

static const unit_test tests[] = {
    {"more changes than are looked at at once", test_many_changes},
    {"messages while a history comes", test_while_history_comes},
    {"a record file of any name", test_file_of_any_name},
    {"a record file and an authority", test_file_and_authority},
    {"order across a rotation", test_order_across_rotation},
    {"a history without an end", test_endless_history},
    {"records that were given", test_given_records},
    {"a forged rotation at first contact", test_forged_first},
    {"a history that is withheld", test_withheld_history},
    {"a recipient who ends while lines are sent", test_lines},
    {"whose a key is", test_lookup_kid},
    {"pages that are empty", test_empty_pages},
};

UNIT_MAIN("hostile", tests)
