/*
 * Enrols devices over MQTT, as fast as the gate answers, or one after the other.
 *
 *   bench_enroll PORT PID GATE.pub COUNT IN_FLIGHT CONNECTIONS [ADMIN.key]
 *
 * GATE.pub is in the broker's state folder, PID the broker's process. With ADMIN.key each device has a token, which the
 * admin makes before the clock starts. Keys, records, proofs and the sealed commands are made before it, too; a command
 * that would be too old when it is its turn is sealed again. Each is sent at QoS 1; what counts is its answer: that is
 * given when the enrolment is on disk. The first error among the answers ends it.
 *
 * Prints "ready" when all that is done, and waits for a line. In the end: enrolments, seconds, CPU us that the broker
 * had for each; ms of median, 95th and 99th percentile and maximum from the call that sends a command to its answer.
 */
#include "drive.h"
#include "measure.h"
#include "pep.h"

#include <cjson/cJSON.h>
#include <poll.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COMMAND_BYTES (65536 + 256)
#define TOKENS_EACH   64 /* in one command */
#define FRESH_S       40 /* a sealed command lives PEP_COMMAND_LIFE_S */
#define SILENCE_US    30e6

typedef struct {
    pep_device device;
    char token[PEP_TOKEN_TEXT_BYTES];
    uint8_t token_kid[PEP_KID_BYTES];
} candidate;

typedef struct {
    const pep_device *from;
    char *json;
    uint8_t *bytes; /* sealed */
    size_t n;
    uint64_t sealed_s;
    double sent_us;
} command;

typedef struct {
    struct mosquitto *clients[DRIVE_CLIENTS_MAX];
    size_t client_count, connected;
    bool ready; /* all are */
    uint8_t gate_kid[PEP_KID_BYTES];
    uint64_t seq;
    command *commands;
    size_t count, sent, answered;
    double *took_us; /* in the order of the answers */
} load;

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "bench_enroll: %s\n", what);
    exit(3);
}

static void *need(void *p)
{
    if (p == NULL)
        die("out of memory");
    return p;
}

/* ---- what is sent ---- */

static void seal(load *l, command *c)
{
    static uint8_t bytes[COMMAND_BYTES];
    uint64_t now_us = pep_now_us();
    l->seq = now_us > l->seq ? now_us : l->seq + 1;
    const pep_command how = {c->from, l->seq, false, l->gate_kid, now_us / 1000000};
    pep_view json = {(const uint8_t *)c->json, strlen(c->json)};
    if (pep_command_seal(bytes, &c->n, sizeof bytes, &how, json) != PEP_OK)
        die("cannot seal a command");
    free(c->bytes);
    c->bytes = memcpy(need(malloc(c->n)), bytes, c->n);
    c->sealed_s = how.now_s;
}

static void describe(command *out, candidate *who, const char *number, bool with_token)
{
    char json[PEP_COMMAND_JSON_MAX];
    uint8_t record[PEP_RECORD_BYTES_MAX];
    uint8_t proof[PEP_PROOF_BYTES_MAX];
    uint8_t hash[PEP_SHA256_BYTES];
    size_t record_n;
    size_t proof_n = 0;
    uint64_t now_s = pep_now_us() / 1000000;
    if (pep_record_sign(record, &record_n, &who->device, now_s, now_s + 86400) != PEP_OK)
        die("cannot sign a record");
    crypto_hash_sha256(hash, record, record_n);
    if (with_token && pep_token_prove(proof, &proof_n, who->token, hash) != PEP_OK)
        die("cannot prove a token");
    if (pep_command_enroll(json, number, (pep_view){record, record_n}, (pep_view){NULL, 0},
                           (pep_view){with_token ? proof : NULL, proof_n}) != PEP_OK)
        die("cannot make a command");
    *out = (command){.from = &who->device, .json = need(strdup(json))};
}

/* What tells the gate of the tokens from `first` on; fewer where there are no more. */
static void describe_tokens(command *out, const pep_device *admin, const candidate *all, size_t first, size_t count)
{
    static char json[COMMAND_BYTES];
    char kid[2 * PEP_KID_BYTES + 1];
    size_t n = (size_t)snprintf(json, sizeof json, "{\"commands\":[");
    for (size_t i = 0; i < TOKENS_EACH && first + i < count; i++) {
        sodium_bin2hex(kid, sizeof kid, all[first + i].token_kid, PEP_KID_BYTES);
        n += (size_t)snprintf(json + n, sizeof json - n,
                              "%s{\"command\":\"token\",\"id\":\"%s\",\"token\":\"%s\",\"expires\":%llu,"
                              "\"correlationData\":\"%zu\"}",
                              i == 0 ? "" : ",", all[first + i].device.id, kid,
                              (unsigned long long)pep_now_us() / 1000000 + 3600, first / TOKENS_EACH);
    }
    snprintf(json + n, sizeof json - n, "]}");
    *out = (command){.from = admin, .json = need(strdup(json))};
}

/* ---- what libmosquitto tells ---- */

static void on_connect(struct mosquitto *client, void *user, int rc)
{
    load *l = user;
    (void)client;
    l->connected += rc == 0;
    l->ready = l->connected == l->client_count;
}

/* The number of the command that is answered. */
static size_t number_of(const struct mosquitto_message *m)
{
    size_t number = SIZE_MAX;
    const cJSON *one;
    cJSON *all = cJSON_ParseWithLength(m->payload, (size_t)m->payloadlen);
    const cJSON *responses = cJSON_GetObjectItemCaseSensitive(all, "responses");
    cJSON_ArrayForEach(one, responses)
    {
        const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(one, "correlationData"));
        if (text == NULL || cJSON_HasObjectItem(one, "error"))
            die(m->payload); /* libmosquitto puts a NUL behind it */
        number = strtoul(text, NULL, 10);
    }
    cJSON_Delete(all);
    return number;
}

static void on_message(struct mosquitto *client, void *user, const struct mosquitto_message *m)
{
    load *l = user;
    double now = wall_us();
    size_t i = number_of(m);
    (void)client;
    if (i >= l->sent)
        die("an answer to something else");
    l->took_us[l->answered++] = now - l->commands[i].sent_us;
}

/* ---- driving it ---- */

static void set_callbacks(struct mosquitto *client)
{
    mosquitto_connect_callback_set(client, on_connect);
    mosquitto_message_callback_set(client, on_message);
    mosquitto_max_inflight_messages_set(client, 0);
}

static void connect_all(load *l, int port)
{
    char id[32];
    for (size_t i = 0; i < l->client_count; i++) {
        snprintf(id, sizeof id, "enroll-%zu", i);
        l->clients[i] = drive_open(id, NULL, port, l, set_callbacks);
        if (l->clients[i] == NULL)
            die("cannot reach the broker");
    }
    if (!drive_until(l->clients, l->client_count, &l->ready))
        die("the broker does not answer");
}

static void send_next(load *l)
{
    command *c = &l->commands[l->sent];
    struct mosquitto *client = l->clients[l->sent % l->client_count];
    if (pep_now_us() / 1000000 > c->sealed_s + FRESH_S)
        seal(l, c);
    l->sent++;
    c->sent_us = wall_us();
    if (mosquitto_publish(client, NULL, PEP_CONTROL_TOPIC, (int)c->n, c->bytes, 1, false) != MOSQ_ERR_SUCCESS)
        die("cannot send");
}

static void seal_all(load *l)
{
    for (size_t i = 0; i < l->count; i++)
        seal(l, &l->commands[i]);
}

/* Sends all, of which `in_flight` wait for their answer. */
static void run(load *l, size_t in_flight)
{
    double deadline = wall_us() + SILENCE_US;
    while (l->answered < l->count) {
        size_t answered = l->answered;
        while (l->sent < l->count && l->sent - l->answered < in_flight)
            send_next(l);
        drive_step(l->clients, l->client_count, deadline);
        if (l->answered > answered)
            deadline = wall_us() + SILENCE_US;
        else if (wall_us() > deadline)
            die("no answer comes");
    }
}

static void begin(load *l, size_t count)
{
    l->sent = l->answered = 0;
    l->count = count;
    l->commands = need(calloc(count, sizeof *l->commands));
    l->took_us = need(calloc(count, sizeof *l->took_us));
}

static void end(load *l)
{
    for (size_t i = 0; i < l->count; i++) {
        free(l->commands[i].json);
        free(l->commands[i].bytes);
    }
    free(l->commands);
    free(l->took_us);
}

static void make_tokens(load *l, const candidate *all, size_t count, const char *admin_path)
{
    pep_device admin;
    pep_error error;
    if (pep_device_load(&admin, &error, admin_path) != PEP_OK)
        die(error.text);
    begin(l, (count + TOKENS_EACH - 1) / TOKENS_EACH);
    for (size_t i = 0; i < l->count; i++)
        describe_tokens(&l->commands[i], &admin, all, i * TOKENS_EACH, count);
    seal_all(l);
    run(l, 16);
    end(l);
    pep_device_wipe(&admin);
}

static void wait_for_a_line(void)
{
    puts("ready");
    fflush(stdout);
    (void)getchar();
}

static void measure(load *l, pid_t pid, size_t in_flight)
{
    seal_all(l);
    wait_for_a_line();
    double cpu = process_cpu_us(pid);
    double started = wall_us();
    run(l, in_flight);
    double took = wall_us() - started;
    size_t n = l->count;
    cpu = (process_cpu_us(pid) - cpu) / (double)n;
    printf("%zu %.3f %.0f %.2f %.2f %.2f %.2f\n", n, took / 1e6, cpu, median(l->took_us, n) / 1e3,
           percentile(l->took_us, n, 0.95) / 1e3, percentile(l->took_us, n, 0.99) / 1e3,
           percentile(l->took_us, n, 1) / 1e3);
}

static candidate *make_candidates(size_t count)
{
    char id[PEP_ID_MAX + 1];
    candidate *all = need(calloc(count, sizeof *all));
    for (size_t i = 0; i < count; i++) {
        snprintf(id, sizeof id, "device-%06zu", i);
        if (pep_device_new(&all[i].device, id) != PEP_OK)
            die("cannot make keys");
        pep_token_new(all[i].token, all[i].token_kid);
    }
    return all;
}

/* The gate makes its key when the broker starts for the first time. */
static void read_gate(load *l, const char *path)
{
    pep_record gate;
    pep_error error;
    double deadline = wall_us() + DRIVE_PATIENCE_US;
    while (pep_record_load(&gate, &error, path) != PEP_OK)
        if (poll(NULL, 0, 10), wall_us() > deadline)
            die(error.text);
    memcpy(l->gate_kid, gate.sign_kid, PEP_KID_BYTES);
}

int main(int argc, char **args)
{
    static load l;
    if (argc < 7 || argc > 8) {
        fputs("usage: bench_enroll PORT PID GATE.pub COUNT IN_FLIGHT CONNECTIONS [ADMIN.key]\n", stderr);
        return 2;
    }
    size_t count = strtoul(args[4], NULL, 10);
    l.client_count = strtoul(args[6], NULL, 10);
    if (count < 1 || l.client_count < 1 || l.client_count > DRIVE_CLIENTS_MAX || pep_init() != PEP_OK)
        die("a number is out of range");
    mosquitto_lib_init();
    candidate *all = make_candidates(count);
    connect_all(&l, (int)strtol(args[1], NULL, 10));
    read_gate(&l, args[3]);
    if (argc == 8)
        make_tokens(&l, all, count, args[7]);
    begin(&l, count);
    for (size_t i = 0; i < count; i++) {
        char number[24];
        snprintf(number, sizeof number, "%zu", i);
        describe(&l.commands[i], &all[i], number, argc == 8);
    }
    measure(&l, (pid_t)strtol(args[2], NULL, 10), strtoul(args[5], NULL, 10));
    end(&l);
    free(all);
    return 0;
}
