/*
 * Promise: two brokers on one PostgreSQL have one directory. What one was told, the other one serves, and holds against
 * whoever speaks there within a second; a command counts once, at the gate that it names. While the server is away both
 * go on with what they know.
 */
#include "ask.h"
#include "tests/postgres.h"
#include "tests/unit/unit.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define SECOND_MS 1000
#define AWAY      "pep: the directory's store cannot be reached"
#define BACK      "pep: the directory's store can be reached again"
#define PATIENT   (patience_ms() > 10000) /* everything is slow here, and nothing is measured */

/* One of the brokers, and who is there. */
typedef struct {
    stage s;
    asker a;
    client *from;     /* publishes */
    client *receiver; /* subscribed to what is served */
} site;

static postgres_server server;
static site near, far;

static void open_site(site *x)
{
    asker_open(&x->a, (client_spec){.port = x->s.b.port, .id = "asker"});
    x->from = client_open((client_spec){.port = x->s.b.port, .id = "from", .version = MQTT_5});
    x->receiver = client_open((client_spec){.port = x->s.b.port, .id = "receiver"});
    client_subscribe(x->receiver, PEP_KEYS_TOPIC "#", 1);
}

static void set_site(site *x, const char *database)
{
    char conf[1024], url[POSTGRES_URL_MAX];
    postgres_url(url, &server, database);
    snprintf(conf, sizeof(conf), CONF_ENROLLING "plugin_opt_store %s\n", url);
    stage_set(&x->s, OPEN_POLICY, conf);
    open_site(x);
}

/* A database of its own for each test. */
static void set(void)
{
    static unsigned made;
    char database[32];
    snprintf(database, sizeof(database), "test%u", made++);
    CU_ASSERT_TRUE_FATAL(postgres_database(&server, database));
    set_site(&near, database);
    set_site(&far, database);
}

static void close_site(site *x)
{
    client_close(x->receiver);
    client_close(x->from);
    asker_close(&x->a);
}

static void strike(void)
{
    close_site(&near);
    stage_strike(&near.s);
    close_site(&far);
    stage_strike(&far.s);
}

static bool passes(site *x, const member *m)
{
    sealed e = reading_of(m, "t/a");
    return stage_passes(&x->s, x->from, "t/a", &e, 1, false);
}

static bool refuses(site *x, const member *m, pep_reason reason)
{
    sealed e = reading_of(m, "t/a");
    return stage_refuses(&x->s, x->from, "t/a", &e, 1, false, reason);
}

/* Publishes until the answer is this one; what passes arrives. The ms that it took, -1: it never came. */
static int becomes(site *x, const member *m, int answer)
{
    int64_t start = monotonic_ms();
    while (monotonic_ms() - start < patience_ms()) {
        sealed e = reading_of(m, "t/a");
        int got = client_publish(x->from, "t/a", e.bytes, e.n, 1, false);
        if (got == REASON_SUCCESS)
            CU_ASSERT_TRUE(client_gets(x->s.to, "t/a", e.bytes, e.n));
        if (got == answer)
            return (int)(monotonic_ms() - start);
    }
    return -1;
}

static void within_a_second(const char *what, int ms)
{
    printf("%s %d ms, ", what, ms);
    CU_ASSERT_TRUE(ms >= 0 && (ms <= SECOND_MS || PATIENT));
}

static bool is_served(site *x, const member *m)
{
    sealed entry = entry_of(&m->newest, NULL);
    return client_gets(x->receiver, PEP_KEYS_TOPIC "dora", entry.bytes, entry.n);
}

static void enroll(member *m)
{
    member_make(m, "dora");
    CU_ASSERT_EQUAL(ask_enroll(&near.a, m), PEP_OK);
    CU_ASSERT_TRUE(is_served(&near, m));
    CU_ASSERT_TRUE(is_served(&far, m));
}

/* ---- what spreads ---- */

static void an_enrolment_spreads(void)
{
    member m;
    set();
    member_make(&m, "dora");
    CU_ASSERT_TRUE(refuses(&far, &m, PEP_UNKNOWN_SIGNER));
    CU_ASSERT_EQUAL(ask_enroll(&near.a, &m), PEP_OK);
    CU_ASSERT_TRUE(passes(&near, &m));
    within_a_second("enrolled", becomes(&far, &m, REASON_SUCCESS));
    CU_ASSERT_TRUE(is_served(&far, &m));
    CU_ASSERT_TRUE(ask_knows(&far.a, &m));
    member_wipe(&m);
    strike();
}

static void a_rotation_spreads(void)
{
    member m, next;
    set();
    enroll(&m);
    CU_ASSERT_TRUE(passes(&far, &m));
    member_turn(&next, &m, next_seq());
    sealed command = command_rotate(&near.a, &next, &m.who.device, NULL);
    CU_ASSERT_EQUAL(ask_reason(&near.a, &command), PEP_OK);
    within_a_second("rotated", becomes(&far, &m, REASON_NOT_AUTHORIZED));
    CU_ASSERT_TRUE(passes(&far, &next));
    CU_ASSERT_TRUE(refuses(&far, &m, PEP_ROTATED_SIGNER));
    CU_ASSERT_TRUE(is_served(&far, &next));
    member_wipe(&m);
    member_wipe(&next);
    strike();
}

static void a_revocation_spreads(void)
{
    member m;
    set();
    enroll(&m);
    CU_ASSERT_TRUE(passes(&far, &m));
    CU_ASSERT_EQUAL(ask_revoke(&near.a, &m), PEP_OK);
    within_a_second("revoked", becomes(&far, &m, REASON_NOT_AUTHORIZED));
    CU_ASSERT_TRUE(refuses(&far, &m, PEP_REVOKED_SIGNER));
    CU_ASSERT_TRUE(is_served(&far, &m));
    member_wipe(&m);
    strike();
}

/* It stood still, and then finds out by itself. */
static void who_was_asleep_catches_up(void)
{
    member m, other;
    set();
    enroll(&m);
    kill(far.s.b.pid, SIGSTOP);
    member_make(&other, "eve");
    CU_ASSERT_EQUAL(ask_enroll(&near.a, &other), PEP_OK);
    CU_ASSERT_EQUAL(ask_revoke(&near.a, &m), PEP_OK);
    kill(far.s.b.pid, SIGCONT);
    within_a_second("behind a sleep", becomes(&far, &m, REASON_NOT_AUTHORIZED));
    CU_ASSERT_TRUE(becomes(&far, &other, REASON_SUCCESS) >= 0);
    member_wipe(&m);
    member_wipe(&other);
    strike();
}

/* A device that was enrolled at the other one while this one did not run. */
static void who_was_down_catches_up(void)
{
    member m, other;
    set();
    enroll(&m);
    close_site(&far);
    client_close(far.s.to);
    broker_kill(&far.s.b);
    member_make(&other, "eve");
    CU_ASSERT_EQUAL(ask_enroll(&near.a, &other), PEP_OK);
    CU_ASSERT_EQUAL(ask_revoke(&near.a, &m), PEP_OK);
    stage_open(&far.s);
    open_site(&far);
    CU_ASSERT_TRUE(refuses(&far, &m, PEP_REVOKED_SIGNER));
    CU_ASSERT_TRUE(passes(&far, &other));
    member_wipe(&m);
    member_wipe(&other);
    strike();
}

/* ---- once, and by one ---- */

static void a_command_counts_where_it_is_for_and_once(void)
{
    member m;
    char json[PEP_COMMAND_JSON_MAX];
    set();
    member_make(&m, "dora");
    sealed command = command_enroll(&near.a, &m, NULL, NULL);
    CU_ASSERT_NOT_EQUAL(memcmp(near.a.gate_kid, far.a.gate_kid, PEP_KID_BYTES), 0);
    CU_ASSERT_EQUAL(ask_reason(&far.a, &command), PEP_WRONG_AUDIENCE);
    CU_ASSERT_EQUAL(ask_reason(&near.a, &command), PEP_OK);
    CU_ASSERT_EQUAL(ask_reason(&far.a, &command), PEP_WRONG_AUDIENCE);
    CU_ASSERT_EQUAL(ask_reason(&near.a, &command), PEP_REPEATED_COMMAND);
    CU_ASSERT_EQUAL(pep_command_enroll(json, NULL, (pep_view){m.newest.bytes, m.newest.n}, (pep_view){NULL, 0},
                                       (pep_view){NULL, 0}),
                    PEP_OK);
    uint64_t seq = next_seq(); /* the same number at both */
    for (int i = 0; i < 2; i++) {
        const pep_command same = {&m.who.device, seq, false, i == 0 ? near.a.gate_kid : far.a.gate_kid,
                                  pep_now_us() / 1000000};
        command.n = 0;
        CU_ASSERT_EQUAL(pep_command_seal(command.bytes, &command.n, sizeof(command.bytes), &same,
                                         (pep_view){(const uint8_t *)json, strlen(json)}),
                        PEP_OK);
        CU_ASSERT_EQUAL(ask_reason(i == 0 ? &near.a : &far.a, &command), i == 0 ? PEP_OK : PEP_REPEATED_COMMAND);
    }
    member_wipe(&m);
    strike();
}

/* Two devices want one id at the same moment, each at its own broker: one gets it, and both brokers agree which. */
static void one_of_two_gets_the_id(void)
{
    set();
    for (int i = 0; i < 10; i++) {
        char id[16];
        member one, two;
        snprintf(id, sizeof(id), "d%d", i);
        member_make(&one, id);
        member_make(&two, id);
        sealed at_near = command_enroll(&near.a, &one, NULL, NULL), at_far = command_enroll(&far.a, &two, NULL, NULL);
        CU_ASSERT_EQUAL(client_publish(near.a.c, PEP_CONTROL_TOPIC, at_near.bytes, at_near.n, 0, false), 0);
        CU_ASSERT_EQUAL(client_publish(far.a.c, PEP_CONTROL_TOPIC, at_far.bytes, at_far.n, 0, false), 0);
        pep_reason first = answer_reason(ask_next(&near.a)), second = answer_reason(ask_next(&far.a));
        CU_ASSERT_TRUE((first == PEP_OK && second == PEP_ID_TAKEN) || (first == PEP_ID_TAKEN && second == PEP_OK));
        const member *winner = first == PEP_OK ? &one : &two;
        CU_ASSERT_TRUE(ask_knows(&near.a, winner));
        CU_ASSERT_TRUE(ask_knows(&far.a, winner));
        member_wipe(&one);
        member_wipe(&two);
    }
    strike();
}

/* ---- without the server ---- */

static void try_later_soon(site *x, const member *m)
{
    int64_t start = monotonic_ms();
    CU_ASSERT_EQUAL(ask_enroll(&x->a, m), PEP_TRY_LATER);
    CU_ASSERT_TRUE(monotonic_ms() - start < SECOND_MS || PATIENT);
}

static bool enrolls_again(site *x, const member *m)
{
    int64_t deadline = monotonic_ms() + patience_ms();
    pep_reason reason;
    while ((reason = ask_enroll(&x->a, m)) == PEP_TRY_LATER && remaining_ms(deadline) > 0)
        ;
    return reason == PEP_OK;
}

/* `how` stops the server; both go on, say so once, and catch up. */
static void both_go_on_without(int how)
{
    member m, other;
    site *both[] = {&near, &far};
    long marks[2];
    set();
    enroll(&m);
    member_make(&other, "eve");
    for (int i = 0; i < 2; i++) {
        broker_mark(&both[i]->s.b);
        marks[i] = both[i]->s.b.mark;
    }
    postgres_stop(&server, how);
    for (int i = 0; i < 2; i++) {
        CU_ASSERT_TRUE(passes(both[i], &m));
        CU_ASSERT_TRUE(refuses(both[i], &other, PEP_UNKNOWN_SIGNER));
        try_later_soon(both[i], &other);
        try_later_soon(both[i], &other);
        both[i]->s.b.mark = marks[i];
        CU_ASSERT_EQUAL(broker_log_count(&both[i]->s.b, AWAY), 1);
        CU_ASSERT_EQUAL(client_counter_reaches(both[i]->s.to, "store/away", 1), 1);
    }
    CU_ASSERT_TRUE_FATAL(postgres_again(&server));
    CU_ASSERT_TRUE(enrolls_again(&near, &other));
    CU_ASSERT_EQUAL(ask_revoke(&near.a, &m), PEP_OK);
    CU_ASSERT_TRUE(becomes(&far, &m, REASON_NOT_AUTHORIZED) >= 0);
    CU_ASSERT_TRUE(passes(&far, &other));
    for (int i = 0; i < 2; i++) {
        both[i]->s.b.mark = marks[i];
        CU_ASSERT_EQUAL(broker_log_count(&both[i]->s.b, AWAY), 1);
        CU_ASSERT_TRUE(broker_logs(&both[i]->s.b, BACK));
        CU_ASSERT_EQUAL(broker_log_count(&both[i]->s.b, BACK), 1);
    }
    member_wipe(&m);
    member_wipe(&other);
    strike();
}

static void when_it_is_shut_down(void)
{
    both_go_on_without(SIGINT);
}

static void when_it_is_killed(void)
{
    both_go_on_without(SIGKILL);
}

/* A frozen server answers nobody, which is found out by waiting; the gate does not wait. */
static void a_frozen_server_stops_no_gate(void)
{
    member m, other;
    set();
    enroll(&m);
    member_make(&other, "eve");
    postgres_freeze(&server, true);
    sealed command = command_enroll(&near.a, &other, NULL, NULL);
    CU_ASSERT_EQUAL(client_publish(near.a.c, PEP_CONTROL_TOPIC, command.bytes, command.n, 1, false), REASON_SUCCESS);
    int64_t start = monotonic_ms();
    CU_ASSERT_TRUE(passes(&near, &m));
    CU_ASSERT_TRUE(monotonic_ms() - start < SECOND_MS || PATIENT);
    cJSON *answer = NULL;
    for (int i = 0; i < 3 && answer == NULL; i++)
        answer = ask_next(&near.a); /* at most some seconds */
    CU_ASSERT_EQUAL(answer_reason(answer), PEP_TRY_LATER);
    postgres_freeze(&server, false);
    CU_ASSERT_TRUE(enrolls_again(&near, &other));
    CU_ASSERT_TRUE(becomes(&far, &other, REASON_SUCCESS) >= 0);
    member_wipe(&m);
    member_wipe(&other);
    strike();
}

/* What one broker did while the other one could not reach the server. */
static void who_was_cut_off_catches_up(void)
{
    member m;
    set();
    enroll(&m);
    CU_ASSERT_TRUE(postgres_sql(&server, "postgres",
                                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                                " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"));
    CU_ASSERT_TRUE(passes(&far, &m));
    int64_t deadline = monotonic_ms() + patience_ms();
    statement_bytes revocation = member_revocation(&m, NULL, pep_now_us());
    pep_reason reason;
    do {
        sealed command = command_revoke(&near.a, &revocation, &m.who.device);
        reason = ask_reason(&near.a, &command);
    } while (reason == PEP_TRY_LATER && remaining_ms(deadline) > 0);
    CU_ASSERT_EQUAL(reason, PEP_OK);
    CU_ASSERT_TRUE(becomes(&far, &m, REASON_NOT_AUTHORIZED) >= 0);
    member_wipe(&m);
    strike();
}

/* ---- the tool ---- */

/* Runs it in the near broker's folder and returns its exit code; `in` is true where its words on stderr hold this. */
static int tool(const char *words, const char *text, bool *in)
{
    char line[1024];
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        (void)snprintf(line, sizeof(line), "exec " PEP_TOOL " %s -h 127.0.0.1 -p %d", words, near.s.b.port);
        if (chdir(near.s.b.folder) == 0 && freopen("out", "w", stdout) != NULL && freopen("err", "w", stderr) != NULL)
            execl("/bin/sh", "sh", "-c", line, (char *)NULL);
        _exit(127);
    }
    int status = -1;
    CU_ASSERT_EQUAL_FATAL(waitpid(child, &status, 0), child);
    FILE *err = fopen(broker_path(&near.s.b, "err"), "re");
    line[err != NULL ? fread(line, 1, sizeof(line) - 1, err) : 0] = '\0';
    if (err != NULL)
        (void)fclose(err);
    *in = strstr(line, text) != NULL;
    if (!*in)
        printf("\n    no '%s' in: %s", text, line);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* The gate says so at once, and the tool does not wait for another answer. */
static void the_tool_says_at_once_that_the_store_is_away(void)
{
    static const char *const words[][2] = {
        {"enroll --id eve", "eve: try-later (the store cannot be reached"},
        {"pub --key dora.key --to nobody -t t/a -m x", "the store cannot be reached"}};
    bool said;
    set();
    CU_ASSERT_EQUAL(tool("enroll --id dora", "", &said), 0);
    postgres_stop(&server, SIGINT);
    for (int i = 0; i < 2; i++) {
        int64_t start = monotonic_ms();
        CU_ASSERT_EQUAL(tool(words[i][0], words[i][1], &said), 3);
        CU_ASSERT_TRUE(said);
        CU_ASSERT_TRUE(monotonic_ms() - start < 2L * SECOND_MS || PATIENT);
    }
    CU_ASSERT_TRUE_FATAL(postgres_again(&server));
    strike();
}

static const unit_test TESTS[] = {
    {"an enrolment spreads", an_enrolment_spreads},
    {"a rotation spreads", a_rotation_spreads},
    {"a revocation spreads", a_revocation_spreads},
    {"who was asleep catches up", who_was_asleep_catches_up},
    {"who was down catches up", who_was_down_catches_up},
    {"a command counts where it is for, and once", a_command_counts_where_it_is_for_and_once},
    {"one of two gets the id", one_of_two_gets_the_id},
    {"both go on when the server is shut down", when_it_is_shut_down},
    {"both go on when the server is killed", when_it_is_killed},
    {"a frozen server stops no gate", a_frozen_server_stops_no_gate},
    {"who was cut off catches up", who_was_cut_off_catches_up},
    {"the tool says at once that the store is away", the_tool_says_at_once_that_the_store_is_away},
};

int main(void)
{
    if (!postgres_start(&server)) {
        printf("%s\n", server.why);
        return 1;
    }
    int code = unit_main("shared", TESTS, sizeof(TESTS) / sizeof(TESTS[0]));
    postgres_end(&server);
    return code;
}
