/*
 * The pep tool and a broker that lies: it serves what it likes under $PEP and answers what it likes, or nothing.
 * Promise: a key that ended is not believed by what the broker withholds, and no answer costs more than was meant.
 */
#include <arpa/inet.h>
#include <cjson/cJSON.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "broker.h"
#include "pep.h"
#include "tests/unit/unit.h"

#define PEERS    8
#define RETAINED 256
#define WAITING  512

/* ---- a device and all that it says ---- */

typedef struct {
    uint8_t p[PEP_ENTRY_BYTES_MAX];
    size_t n;
} bytes;

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

/* ---- the broker ---- */

typedef struct {
    int fd;
    uint8_t in[1 << 17];
    size_t n;
    bool listens;
} peer;

static struct {
    int listener, port;
    peer peers[PEERS];
    struct {
        char topic[128];
        bytes payload;
    } retained[RETAINED];
    size_t retained_count;
    size_t published;                       /* what was not for $CONTROL */
    size_t asked;                           /* commands */
    cJSON *(*answer)(const cJSON *command); /* data or an error; NULL: nothing is answered */
} liar;

static size_t put_string(uint8_t *to, const void *text, size_t n)
{
    to[0] = (uint8_t)(n >> 8);
    to[1] = (uint8_t)n;
    memcpy(to + 2, text, n);
    return n + 2;
}

static void send_packet(const peer *p, uint8_t first, const uint8_t *body, size_t n)
{
    uint8_t head[5] = {first};
    size_t head_n = 1;
    for (size_t left = n; head_n == 1 || left > 0; left >>= 7)
        head[head_n++] = (uint8_t)((left & 0x7f) | (left > 0x7f ? 0x80 : 0));
    (void)!send(p->fd, head, head_n, MSG_NOSIGNAL | MSG_MORE);
    (void)!send(p->fd, body, n, MSG_NOSIGNAL);
}

static void send_message(const peer *p, const char *topic, const void *payload, size_t n, bool retain)
{
    static uint8_t body[1 << 17];
    size_t at = put_string(body, topic, strlen(topic));
    body[at++] = 0; /* properties */
    memcpy(body + at, payload, n);
    send_packet(p, (uint8_t)(0x30 | (retain ? 1 : 0)), body, at + n);
}

/* To everybody who has subscribed, to whatever it was. */
static void tell(const char *topic, const void *payload, size_t n, bool retain)
{
    for (size_t i = 0; i < PEERS; i++)
        if (liar.peers[i].fd >= 0 && liar.peers[i].listens)
            send_message(&liar.peers[i], topic, payload, n, retain);
}

static void retain(const char *id, bytes payload)
{
    (void)snprintf(liar.retained[liar.retained_count].topic, sizeof(liar.retained[0].topic), PEP_KEYS_TOPIC "%s", id);
    liar.retained[liar.retained_count++].payload = payload;
}

static void take_subscribe(peer *p, const uint8_t *body, size_t n)
{
    uint8_t answer[64] = {body[0], body[1], 0};
    size_t answer_n = 3;
    p->listens = true;
    for (size_t at = 3; at + 2 <= n; at += 1) { /* no properties */
        char topic[256] = "";
        size_t topic_n = (size_t)body[at] << 8 | body[at + 1];
        memcpy(topic, body + at + 2, topic_n < sizeof(topic) ? topic_n : 0);
        at += 2 + topic_n;
        answer[answer_n++] = 1;
        for (size_t i = 0; i < liar.retained_count; i++)
            if (strcmp(topic, liar.retained[i].topic) == 0)
                send_message(p, topic, liar.retained[i].payload.p, liar.retained[i].payload.n, true);
    }
    send_packet(p, 0x90, answer, answer_n);
}

static void take_command(const peer *p, const uint8_t *json, size_t n)
{
    cJSON *root = cJSON_ParseWithLength((const char *)json, n);
    const cJSON *command = cJSON_GetArrayItem(cJSON_GetObjectItem(root, "commands"), 0);
    cJSON *response = liar.answer != NULL ? liar.answer(command) : NULL;
    liar.asked++;
    if (response != NULL) {
        cJSON *out = cJSON_CreateObject();
        cJSON_AddItemToObject(response, "correlationData",
                              cJSON_Duplicate(cJSON_GetObjectItem(command, "correlationData"), true));
        cJSON_AddItemToArray(cJSON_AddArrayToObject(out, "responses"), response);
        char *text = cJSON_PrintUnformatted(out);
        send_message(p, PEP_ANSWER_TOPIC, text, strlen(text), false);
        free(text);
        cJSON_Delete(out);
    }
    cJSON_Delete(root);
}

static void take_publish(const peer *p, uint8_t first, const uint8_t *body, size_t n)
{
    size_t topic_n = (size_t)body[0] << 8 | body[1];
    size_t at = 2 + topic_n;
    if ((first & 6) != 0) {
        send_packet(p, 0x40, body + at, 2);
        at += 2;
    }
    at += 1; /* no properties */
    if (topic_n == strlen(PEP_CONTROL_TOPIC) && memcmp(body + 2, PEP_CONTROL_TOPIC, topic_n) == 0)
        take_command(p, body + at, n - at);
    else
        liar.published++;
}

static void take_packet(peer *p, uint8_t first, const uint8_t *body, size_t n)
{
    switch (first >> 4) {
    case 1:
        send_packet(p, 0x20, (const uint8_t[]){0, 0, 0}, 3);
        break;
    case 3:
        take_publish(p, first, body, n);
        break;
    case 8:
        take_subscribe(p, body, n);
        break;
    case 12:
        send_packet(p, 0xd0, body, 0);
        break;
    default:;
    }
}

/* False: there is no whole packet. */
static bool take_first(peer *p)
{
    size_t n = 0;
    size_t at = 1;
    for (unsigned shift = 0;; shift += 7) {
        if (at >= p->n)
            return false;
        n |= (size_t)(p->in[at] & 0x7f) << shift;
        if ((p->in[at++] & 0x80) == 0)
            break;
    }
    if (p->n < at + n)
        return false;
    take_packet(p, p->in[0], p->in + at, n);
    p->n -= at + n;
    memmove(p->in, p->in + at + n, p->n);
    return true;
}

static void read_peer(peer *p)
{
    ssize_t got = recv(p->fd, p->in + p->n, sizeof(p->in) - p->n, MSG_DONTWAIT);
    if (got <= 0) {
        close(p->fd);
        p->fd = -1;
        return;
    }
    p->n += (size_t)got;
    while (take_first(p))
        continue;
}

static void accept_peer(void)
{
    for (size_t i = 0; i < PEERS; i++)
        if (liar.peers[i].fd < 0) {
            liar.peers[i].n = 0;
            liar.peers[i].listens = false;
            liar.peers[i].fd = accept4(liar.listener, NULL, NULL, SOCK_CLOEXEC);
            return;
        }
}

static void turn(void)
{
    struct pollfd polled[PEERS + 1];
    for (size_t i = 0; i < PEERS; i++)
        polled[i] = (struct pollfd){.fd = liar.peers[i].fd, .events = POLLIN};
    polled[PEERS] = (struct pollfd){.fd = liar.listener, .events = POLLIN};
    (void)poll(polled, PEERS + 1, 5);
    for (size_t i = 0; i < PEERS; i++)
        if (polled[i].fd >= 0 && polled[i].revents != 0)
            read_peer(&liar.peers[i]);
    if (polled[PEERS].revents != 0)
        accept_peer();
}

static void open_liar(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(address);
    memset(&liar, 0, sizeof(liar));
    for (size_t i = 0; i < PEERS; i++)
        liar.peers[i].fd = -1;
    liar.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CU_ASSERT_EQUAL_FATAL(bind(liar.listener, (struct sockaddr *)&address, n), 0);
    CU_ASSERT_EQUAL_FATAL(listen(liar.listener, PEERS), 0);
    CU_ASSERT_EQUAL_FATAL(getsockname(liar.listener, (struct sockaddr *)&address, &n), 0);
    liar.port = ntohs(address.sin_port);
}

/* ---- what it answers ---- */

static cJSON *error_of(const char *name)
{
    cJSON *response = cJSON_CreateObject();
    cJSON_AddStringToObject(response, "error", name);
    return response;
}

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

static const char *word(const cJSON *command, const char *name)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItem(command, name));
    return text != NULL ? text : "";
}

static bool is(const cJSON *command, const char *name)
{
    return strcmp(word(command, "command"), name) == 0;
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

/* ---- running the tool ---- */

static char work[64];

static char *content(const char *path)
{
    static char text[1 << 16];
    FILE *file = fopen(path, "re");
    text[0] = '\0';
    if (file == NULL)
        return text;
    text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
    fclose(file);
    return text;
}

static size_t count(const char *path, const char *text)
{
    size_t n = 0;
    for (const char *at = content(path); (at = strstr(at, text)) != NULL; at += strlen(text))
        n++;
    return n;
}

/* `%` in the words stands for the connection. */
static pid_t start(const char *words)
{
    char line[2048] = "exec " PEP_TOOL " ";
    size_t n = strlen(line);
    for (; *words != '\0' && n < sizeof(line) - 64; words++)
        n += (size_t)snprintf(line + n, sizeof(line) - n, *words == '%' ? "-h 127.0.0.1 -p %d" : "%c",
                              *words == '%' ? liar.port : *words);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        if (freopen("out", "w", stdout) != NULL && freopen("err", "w", stderr) != NULL)
            execl("/bin/sh", "sh", "-c", line, (char *)NULL);
        _exit(127);
    }
    return child;
}

static int end_of(pid_t child)
{
    int status = 0;
    int64_t deadline = monotonic_ms() + 4 * (int64_t)patience_ms();
    while (waitpid(child, &status, WNOHANG) == 0) {
        if (monotonic_ms() > deadline)
            kill(child, SIGKILL);
        turn();
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void expect(int code, const char *words, const char *text)
{
    int got = end_of(start(words));
    bool right = got == code && (strstr(content("out"), text) != NULL || strstr(content("err"), text) != NULL);
    if (!right)
        printf("\n    pep %s: exit code %d, not %d, or no '%s' in: %s", words, got, code, text, content("err"));
    CU_ASSERT_TRUE(right);
}

static bool comes(const char *path, const char *text, size_t times)
{
    int64_t deadline = monotonic_ms() + patience_ms();
    while (count(path, text) < times && monotonic_ms() < deadline)
        turn();
    if (count(path, text) >= times)
        return true;
    printf("\n    not %zu times '%s' in %s: %.2000s", times, text, path, content(path));
    return false;
}

static void stop(pid_t child)
{
    kill(child, SIGTERM);
    CU_ASSERT_EQUAL(end_of(child), 0);
}

static void enter(void)
{
    const char *parent = getenv("TMPDIR");
    (void)snprintf(work, sizeof(work), "%s/pep-lies-XXXXXX", parent != NULL ? parent : "/tmp");
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(work));
    CU_ASSERT_EQUAL_FATAL(chdir(work), 0);
    CU_ASSERT_EQUAL(mkdir("from", 0700), 0);
    (void)signal(SIGPIPE, SIG_IGN);
    open_liar();
    expect(0, "keygen --id me --out .", "");
}

static void leave(void)
{
    char line[128];
    (void)snprintf(line, sizeof(line), "rm -rf %s", work);
    for (size_t i = 0; i < PEERS; i++)
        if (liar.peers[i].fd >= 0)
            close(liar.peers[i].fd);
    close(liar.listener);
    CU_ASSERT_EQUAL(chdir("/"), 0);
    CU_ASSERT_EQUAL(system(line), 0); // NOLINT(cert-env33-c): a folder of our own
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
    tell("t/1", out, n, kept);
}

#define LISTEN "sub --key me.key --signed-only -t t/1 % "

/* Returns when it listens: what `good` says is printed. */
static pid_t listen_with(const char *words, const pep_device *good)
{
    pid_t child = start(words);
    int64_t deadline = monotonic_ms() + patience_ms();
    while (count("out", "ready") == 0 && monotonic_ms() < deadline) {
        say(good, "ready", 0, false);
        turn();
    }
    CU_ASSERT_TRUE(count("out", "ready") > 0);
    return child;
}

/* ---- sub ---- */

static person many[150];

static person *who(const cJSON *command)
{
    size_t i = strtoul(word(command, "id") + 1, NULL, 10);
    return &many[i < 150 ? i : 0];
}

static cJSON *answer_many(const cJSON *command)
{
    const person *p = who(command);
    bytes e = entry(p);
    return is(command, "history") ? statements(p, after_of(command)) : found(p->head.id, &e);
}

/* All of them changed while nobody listened, and each has a history: no change is passed over. */
static void test_many_changes(void)
{
    enter();
    person good = device("good");
    pin(&good, 1);
    for (size_t i = 0; i < 150; i++) {
        char id[16];
        (void)snprintf(id, sizeof(id), "d%zu", i);
        many[i] = device(id);
        pin(&many[i], 1);
        rotate(&many[i], pep_now_us() - 200000000);
        end_keys(&many[i]);
        retain(id, entry(&many[i]));
    }
    liar.answer = answer_many;
    pid_t sub = listen_with(LISTEN, &good.device);
    CU_ASSERT_TRUE(comes("err", "was revoked", 150));
    for (size_t i = 0; i < 150; i++)
        say(&many[i].first, "by-an-ended-key", 0, false);
    CU_ASSERT_TRUE(comes("err", "dropped t/1: rotated-signer", 150));
    CU_ASSERT_EQUAL(count("out", "by-an-ended-key"), 0);
    stop(sub);
    leave();
}

static bool may_answer;
static person alice;
static cJSON *asked_history;

static cJSON *answer_later(const cJSON *command)
{
    bytes e = entry(&alice);
    if (!is(command, "history"))
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
    cJSON_AddStringToObject(response, "correlationData", word(asked_history, "correlationData"));
    cJSON_AddItemToArray(cJSON_AddArrayToObject(out, "responses"), response);
    char *text = cJSON_PrintUnformatted(out);
    tell(PEP_ANSWER_TOPIC, text, strlen(text), false);
    free(text);
    cJSON_Delete(out);
    cJSON_Delete(asked_history);
}

/* While a history is fetched what is pinned may be out of date: messages wait for it. */
static void test_while_history_comes(void)
{
    enter();
    person good = device("good");
    alice = device("alice");
    pin(&good, 1);
    pin(&alice, 1);
    rotate(&alice, pep_now_us() - 200000000);
    end_keys(&alice);
    retain("alice", entry(&alice));
    liar.answer = answer_later;
    may_answer = false;
    pid_t sub = listen_with(LISTEN, &good.device);
    say(&alice.first, "by-an-ended-key", 0, false);
    say(&good.device, "fence", 0, false);
    CU_ASSERT_TRUE(comes("out", "fence", 1));
    CU_ASSERT_EQUAL(count("out", "by-an-ended-key"), 0);
    answer_history();
    CU_ASSERT_TRUE(comes("err", "dropped t/1: rotated-signer", 1));
    CU_ASSERT_EQUAL(count("out", "by-an-ended-key"), 0);
    stop(sub);
    leave();
}

/* A record file is called whatever its owner likes, and revoked all the same. */
static void test_file_of_any_name(void)
{
    enter();
    person good = device("good");
    alice = device("alice");
    save(&good, "from/good.pub");
    save(&alice, "from/laptop.pub");
    pid_t sub = listen_with(LISTEN "--from from", &good.device);
    person other = device("alice"); /* another key of that name, by the directory's word */
    bytes e = entry(&other);
    tell(PEP_KEYS_TOPIC "alice", e.p, e.n, true);
    CU_ASSERT_TRUE(comes("err", "unproven-key", 1));
    say(&alice.device, "genuine", 0, false);
    CU_ASSERT_TRUE(comes("out", "genuine", 1));
    end_keys(&alice);
    e = entry(&alice);
    tell(PEP_KEYS_TOPIC "alice", e.p, e.n, true);
    say(&alice.first, "by-an-ended-key", 0, false);
    CU_ASSERT_TRUE(comes("err", "dropped t/1: revoked-signer", 1));
    stop(sub);
    leave();
}

/* Who asks for certificates believes no file without one. */
static void test_file_and_authority(void)
{
    enter();
    alice = device("alice");
    save(&alice, "from/alice.pub");
    expect(0, "authority init --out .", "authority");
    expect(2, LISTEN "--from from --authority authority.public --no-directory", "--authority");
    pid_t sub = start(LISTEN "--from from --authority authority.public");
    int64_t deadline = monotonic_ms() + patience_ms();
    while (count("err", "dropped") == 0 && monotonic_ms() < deadline) {
        say(&alice.device, "uncertified", 0, false);
        turn();
    }
    CU_ASSERT_TRUE(comes("err", "dropped t/1: not-certified", 1));
    CU_ASSERT_EQUAL(count("out", "uncertified"), 0);
    stop(sub);
    leave();
}

/* What an old key sealed is not shown behind what the new one did. */
static void test_order_across_rotation(void)
{
    enter();
    person good = device("good");
    alice = device("alice");
    rotate(&alice, pep_now_us() + 60000000);
    pin(&good, 1);
    pin(&alice, 2);
    pid_t sub = listen_with(LISTEN, &good.device);
    say(&alice.first, "first", 300000, true);
    say(&alice.device, "second", 100000, true);
    say(&alice.first, "withheld", 200000, true);
    CU_ASSERT_TRUE(comes("err", "dropped t/1: replayed", 1));
    say(&alice.first, "third", 0, true);
    CU_ASSERT_TRUE(comes("out", "third", 1));
    CU_ASSERT_TRUE(count("out", "first") == 1 && count("out", "second") == 1 && count("out", "withheld") == 0);
    stop(sub);
    leave();
}

static cJSON *answer_endlessly(const cJSON *command)
{
    bytes e = entry(&alice);
    if (!is(command, "history"))
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
    enter();
    alice = device("alice");
    rotate(&alice, pep_now_us());
    liar.answer = answer_endlessly;
    pid_t sub = start(LISTEN);
    int64_t deadline = monotonic_ms() + patience_ms();
    while (count("err", "dropped") == 0 && monotonic_ms() < deadline) {
        if (liar.asked == 0)
            say(&alice.device, "x", 0, false);
        turn();
    }
    CU_ASSERT_TRUE(comes("err", "dropped t/1: unknown-signer", 1));
    CU_ASSERT_TRUE(liar.asked > 2 && liar.asked < 140);
    stop(sub);
    leave();
}

/* ---- pub ---- */

#define SEND "pub --key me.key -t t/1 -q 1 -m secret % --to bob "

static person bob;
static bytes served;
static const char *history_error;

static cJSON *answer_bob(const cJSON *command)
{
    if (!is(command, "history"))
        return found("bob", &served);
    return history_error != NULL ? error_of(history_error) : statements(&bob, after_of(command));
}

/* A record that was given, and cannot be used, is no first contact. */
static void test_given_records(void)
{
    enter();
    bob = device("bob");
    served = entry(&bob);
    liar.answer = answer_bob;
    person real = device("bob");
    save(&real, "friends-laptop.pub");
    expect(1, SEND, "unproven-key");
    save(&real, "other.pub");
    expect(3, SEND, "another file beside it is of the same id");
    CU_ASSERT_EQUAL(unlink("other.pub") | rename("friends-laptop.pub", "bob.pub"), 0);
    CU_ASSERT_EQUAL(truncate("bob.pub", 20), 0);
    expect(3, SEND, "bob.pub");
    CU_ASSERT_EQUAL(count("err", "\n"), 1);
    CU_ASSERT_EQUAL(liar.published, 0);
    CU_ASSERT_EQUAL(unlink("bob.pub"), 0);
    expect(0, "lookup --pins pins --forget bob", "forgot bob");
    expect(0, SEND, "");
    leave();
}

/* Around a genuine record anybody can sign a rotation: it is no beginning, and poisons nothing. */
static void test_forged_first(void)
{
    enter();
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
    expect(1, SEND, "has no complete history of it");
    bob.count = 1;
    add(&bob, &genuine);
    expect(1, SEND, "broken-chain");
    CU_ASSERT_EQUAL(liar.published, 0);
    served = entry(&bob);
    expect(0, SEND, "");
    leave();
}

/* It told of something newer, and does not say what lies between: that may be the end of the key. */
static void test_withheld_history(void)
{
    enter();
    bob = device("bob");
    pin(&bob, 1);
    rotate(&bob, pep_now_us());
    end_keys(&bob);
    served = entry(&bob);
    liar.answer = answer_bob;
    history_error = "try-later";
    expect(3, SEND, "nothing was sent to bob");
    CU_ASSERT_EQUAL(liar.published, 0);
    liar.answer = NULL;
    expect(0, SEND, "does not answer; sealing to bob by what is pinned");
    leave();
}

static FILE *begin_lines(pid_t *child)
{
    CU_ASSERT_EQUAL_FATAL(mkfifo("lines", 0600), 0);
    *child = start("pub --key me.key -t t/1 -q 1 -l % --to bob < lines");
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
        turn();
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static bool is_published(size_t n)
{
    int64_t deadline = monotonic_ms() + patience_ms();
    while (liar.published < n && monotonic_ms() < deadline)
        turn();
    return liar.published == n;
}

/* A recipient who is revoked while lines are sent gets no more of them, and one whose record ends neither. */
static void test_lines(void)
{
    for (int ends = 0; ends < 2; ends++) {
        enter();
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
            tell(PEP_KEYS_TOPIC "bob", e.p, e.n, false);
        }
        while (ends && now_s() < until_s)
            turn();
        CU_ASSERT_EQUAL(end_while_sending(child, lines), 1);
        CU_ASSERT_EQUAL(count("err", ends ? "was valid until" : "nothing was sent to bob: revoked-signer"), 1);
        CU_ASSERT_TRUE(!ends || liar.published == 1);
        fclose(lines);
        leave();
    }
}

/* ---- lookup ---- */

static cJSON *answer_alice(const cJSON *command)
{
    bytes e = entry(&alice);
    return is(command, "history") ? statements(&alice, after_of(command)) : found("alice", &e);
}

static void look_up_kid(int code, const uint8_t *kid, const char *options, const char *text)
{
    char hex[2 * PEP_KID_BYTES + 1];
    char words[256];
    sodium_bin2hex(hex, sizeof(hex), kid, PEP_KID_BYTES);
    (void)snprintf(words, sizeof(words), "lookup %s %% %s", hex, options);
    expect(code, words, text);
}

/* Whose a key is, the device's own history must show. */
static void test_lookup_kid(void)
{
    enter();
    alice = device("alice");
    rotate(&alice, pep_now_us());
    person other = device("bob");
    liar.answer = answer_alice;
    look_up_kid(0, alice.device.sign_kid, "", "alice ");
    look_up_kid(0, alice.first.sign_kid, "", "alice ");
    look_up_kid(0, alice.first.sign_kid, "--pins p", "alice ");
    look_up_kid(1, other.device.sign_kid, "", "unknown-signer");
    CU_ASSERT_EQUAL(count("out", "alice"), 0);
    look_up_kid(1, other.device.sign_kid, "--pins p", "unknown-signer");
    CU_ASSERT_EQUAL(count("out", "alice"), 0);
    leave();
}

static cJSON *answer_empty(const cJSON *command)
{
    cJSON *response = cJSON_CreateObject();
    cJSON *data = cJSON_AddObjectToObject(response, "data");
    char next[32];
    if (is(command, "history")) {
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
    enter();
    liar.answer = answer_empty;
    expect(0, "lookup --list %", "");
    expect(0, "lookup --history alice %", "");
    CU_ASSERT_EQUAL(liar.asked, 2);
    leave();
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
