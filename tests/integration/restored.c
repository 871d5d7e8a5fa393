/*
 * pep backup under a running broker, and a broker on what pep restore brought back.
 * Promise: enrolled devices, the gate's key and what was seen are there again; what was revoked or replaced since the
 * backup stays so.
 */
#include "ask.h"
#include "tests/unit/unit.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define SECOND_US 1000000

static stage s;
static asker a;
static client *from;
static member dora, erin;

static _Noreturn void become_tool(char *words)
{
    char *argv[20] = {(char[]){PEP_TOOL}};
    size_t n = 1;
    for (char *rest = words, *word; n < 19 && (word = strsep(&rest, " ")) != NULL; n++)
        argv[n] = word;
    setenv("ASAN_OPTIONS", "detect_leaks=0", 1); /* who changes users cannot be looked at by it */
    if (chdir(s.b.folder) == 0 && freopen("out", "w", stdout) != NULL)
        execv(PEP_TOOL, argv);
    _exit(127);
}

/* Runs the tool in the broker's folder with these words, one space between them; returns its exit code. */
static int pep(const char *text)
{
    char words[256];
    snprintf(words, sizeof(words), "%s", text);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0)
        become_tool(words);
    int status = -1;
    CU_ASSERT_EQUAL_FATAL(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void meet(void)
{
    asker_open(&a, (client_spec){.port = s.b.port, .id = "asker"});
    from = client_open((client_spec){.port = s.b.port, .id = "from", .version = MQTT_5});
}

static void part(void)
{
    client_close(from);
    asker_close(&a);
}

static void set(void)
{
    stage_set(&s, OPEN_POLICY, CONF_ENROLLING);
    meet();
    member_make(&dora, "dora");
    member_make(&erin, "erin");
    CU_ASSERT_EQUAL(ask_enroll(&a, &dora), PEP_OK);
    CU_ASSERT_EQUAL(ask_enroll(&a, &erin), PEP_OK);
}

static void strike(void)
{
    member_wipe(&dora);
    member_wipe(&erin);
    part();
    stage_strike(&s);
}

static void stop(void)
{
    part();
    client_close(s.to);
    broker_end(&s.b);
}

static void start(void)
{
    stage_open(&s);
    meet();
}

static bool passes(const sealed *e)
{
    return stage_passes(&s, from, "t/a", e, 1, false);
}

static bool refused(const sealed *e, pep_reason reason)
{
    return stage_refuses(&s, from, "t/a", e, 1, false, reason);
}

/* An empty folder, of the same owner, in the place of the state. */
static void lose_state(void)
{
    struct stat st;
    char path[128];
    snprintf(path, sizeof(path), "%s", broker_path(&s.b, "state"));
    CU_ASSERT_EQUAL(stat(path, &st), 0);
    CU_ASSERT_EQUAL(rename(path, broker_path(&s.b, "lost")), 0);
    CU_ASSERT_EQUAL(mkdir(path, 0700), 0);
    CU_ASSERT_EQUAL(chown(path, st.st_uid, st.st_gid), 0);
}

static void everything_is_there_again(void)
{
    set();
    sealed seen = reading_of(&dora, "t/a");
    CU_ASSERT_TRUE(passes(&seen));
    CU_ASSERT_EQUAL(ask_rotate(&a, &erin, pep_now_us()), PEP_OK);
    uint8_t gate_kid[PEP_KID_BYTES];
    memcpy(gate_kid, a.gate_kid, sizeof(gate_kid));
    CU_ASSERT_EQUAL(pep("backup --state state saved"), 0);
    stop();
    lose_state();
    CU_ASSERT_EQUAL(pep("restore --state state saved"), 0);
    start();
    CU_ASSERT_EQUAL(memcmp(gate_kid, a.gate_kid, sizeof(gate_kid)), 0);
    CU_ASSERT_TRUE(ask_knows(&a, &dora) && ask_knows(&a, &erin));
    client *thief = stage_client(&s, "thief"); /* from the same client it would be a redelivery */
    CU_ASSERT_TRUE(stage_refuses(&s, thief, "t/a", &seen, 1, false, PEP_REPLAYED));
    client_close(thief);
    sealed next = reading_of(&dora, "t/a");
    sealed others = reading_of(&erin, "t/a");
    CU_ASSERT_TRUE(passes(&next) && passes(&others));
    member fay;
    member_make(&fay, "fay");
    CU_ASSERT_EQUAL(ask_enroll(&a, &fay), PEP_OK); /* and it goes on from there */
    CU_ASSERT_EQUAL(ask_rotate(&a, &dora, pep_now_us()), PEP_OK);
    CU_ASSERT_TRUE(ask_knows(&a, &fay) && ask_knows(&a, &dora));
    member_wipe(&fay);
    strike();
}

static void what_was_revoked_since_stays_so(void)
{
    set();
    CU_ASSERT_EQUAL(pep("backup --state state saved"), 0);
    sealed replaced = reading_of(&dora, "t/a");
    CU_ASSERT_EQUAL(ask_rotate(&a, &dora, pep_now_us() - SECOND_US), PEP_OK);
    CU_ASSERT_EQUAL(ask_revoke(&a, &erin), PEP_OK);
    CU_ASSERT_EQUAL(pep("restore --state state saved"), 1); /* not while it runs */
    stop();
    CU_ASSERT_EQUAL(pep("restore --state state saved"), 0);
    start();
    CU_ASSERT_TRUE(ask_knows(&a, &dora) && ask_knows(&a, &erin));
    sealed revoked = reading_of(&erin, "t/a");
    sealed current = reading_of(&dora, "t/a");
    CU_ASSERT_TRUE(refused(&revoked, PEP_REVOKED_SIGNER));
    CU_ASSERT_TRUE(refused(&replaced, PEP_ROTATED_SIGNER));
    CU_ASSERT_TRUE(passes(&current));
    strike();
}

static const unit_test TESTS[] = {
    {"everything is there again", everything_is_there_again},
    {"what was revoked since stays so", what_was_revoked_since_stays_so},
};
UNIT_MAIN("restored", TESTS)
