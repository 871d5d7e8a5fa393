/*
 * pep audit against a real broker.
 * Promise: it names every retained message that the gate would refuse, removes them where an admin asks for it, and
 * never takes a part for the whole.
 */
#include <cjson/cJSON.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "stage.h"
#include "tests/unit/unit.h"

#define HEAD "enroll = \"closed\"; bind = \"username\"; admins = [ \"ops\" ];\n"

#define OBSERVED                                                                                                       \
    HEAD "topics = ( { filter = \"o/#\"; mode = \"observe\"; signers = [ \"alice\" ]; },\n"                            \
         "           { filter = \"site/o/#\"; mode = \"observe\"; prefix = \"site/\"; signers = [ \"alice\" ]; } );\n"

#define ENFORCED HEAD "topics = ( { filter = \"o/#\"; signers = [ \"alice\" ]; } );\n"

static stage s;
static client *alice;

/* ---- the tool ---- */

static char out[1 << 20], err[1 << 14];

static void read_all(const char *name, char *to, size_t cap)
{
    FILE *file = fopen(broker_path(&s.b, name), "re");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    to[fread(to, 1, cap - 1, file)] = '\0';
    fclose(file);
}

/* In the tool's process, and in the broker's folder. */
static _Noreturn void become_tool(char *words)
{
    char *argv[40] = {(char[]){PEP_TOOL}};
    size_t n = 1;
    for (char *rest = words, *word; n < 39 && (word = strsep(&rest, " ")) != NULL; n++)
        argv[n] = word;
    if (chdir(s.b.folder) == 0 && freopen("out", "w", stdout) != NULL && freopen("err", "w", stderr) != NULL)
        execv(PEP_TOOL, argv);
    _exit(127);
}

/* Runs the tool with these words, one space between them; returns its exit code. */
__attribute__((format(printf, 1, 2))) static int pep(const char *format, ...)
{
    char words[512];
    va_list args;
    va_start(args, format);
    vsnprintf(words, sizeof(words), format, args);
    va_end(args);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0)
        become_tool(words);
    int status = -1;
    CU_ASSERT_EQUAL_FATAL(waitpid(child, &status, 0), child);
    read_all("out", out, sizeof(out));
    read_all("err", err, sizeof(err));
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

#define AUDIT "audit -h 127.0.0.1 -p %d --policy policy.conf --records records -t o/#"

static bool says(const char *where, const char *text)
{
    bool found = strstr(where, text) != NULL;
    if (!found)
        fprintf(stderr, "no '%s' in: %s%s", text, out, err);
    return found;
}

/* The tool's exit code and its last line. */
static bool audited(int code, int expected, int looked_at, int refused, int purged)
{
    char summary[128];
    snprintf(summary, sizeof(summary), "%d retained messages looked at, %d would be refused, %d purged\n", looked_at,
             refused, purged);
    if (code != expected)
        fprintf(stderr, "exit code %d, expected %d: %s%s", code, expected, out, err);
    return says(out, summary) && code == expected;
}

/* ---- the stage ---- */

static void set(const char *policy, const char *conf)
{
    stage_prepare(&s, policy, conf);
    CU_ASSERT_EQUAL(pep("keygen --id ops"), 0);
    CU_ASSERT_EQUAL(pep("keygen --id eve"), 0);
    broker_copy(&s.b, "records/ops.pub", broker_path(&s.b, "ops.pub"));
    broker_copy(&s.b, "records/eve.pub", broker_path(&s.b, "eve.pub"));
    stage_open(&s);
    alice = client_open((client_spec){.port = s.b.port, .id = "a", .username = "alice", .version = MQTT_5});
}

static void strike(void)
{
    client_close(alice);
    stage_strike(&s);
}

static void reload(const char *policy)
{
    broker_write(&s.b, "policy.conf", policy);
    broker_mark(&s.b);
    broker_reload(&s.b);
    CU_ASSERT_TRUE(broker_logs(&s.b, "pep: reloaded"));
}

static void retain(const char *topic, const sealed *e)
{
    CU_ASSERT_EQUAL(client_publish(alice, topic, e->bytes, e->n, 1, true), REASON_SUCCESS);
}

static void retain_case(const char *topic, pep_reason reason)
{
    sealed e = case_of(reason)->make(&s.c, topic, 0);
    retain(topic, &e);
}

#define BAD 3

/* A valid one, and three that are not; the last one is as long as the first. */
static sealed retain_all(void)
{
    sealed good = seal((seal_spec){.from = &s.c.alice, .topic = "o/good"});
    retain("o/good", &good);
    retain_case("o/plain", PEP_PLAIN_PAYLOAD);
    retain_case("o/tampered", PEP_BAD_SIGNATURE);
    retain_case("o/anon", PEP_UNKNOWN_SIGNER);
    return good;
}

/* ---- tests ---- */

static void it_names_what_would_be_refused(void)
{
    set(OBSERVED, CONF_GUARDED);
    retain_all();
    CU_ASSERT_TRUE(audited(pep(AUDIT, s.b.port), 1, BAD + 1, BAD, 0));
    CU_ASSERT_TRUE(says(out, "plain-payload o/plain 12 bytes\n"));
    CU_ASSERT_TRUE(says(out, "bad-signature o/tampered ") && says(out, " bytes, signer alice\n"));
    CU_ASSERT_TRUE(says(out, "unknown-signer o/anon "));
    CU_ASSERT_PTR_NULL(strstr(out, "o/good"));
    CU_ASSERT_STRING_EQUAL(err, "");
    CU_ASSERT_TRUE(audited(pep(AUDIT " -t o/+ -t o/plain -V 311", s.b.port), 1, BAD + 1, BAD, 0));
    CU_ASSERT_TRUE(audited(pep(AUDIT " -t unprotected", s.b.port), 1, BAD + 1, BAD, 0));
    strike();
}

static const char *text_of(const cJSON *object, const char *name)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, name));
    return text != NULL ? text : "";
}

static void it_says_so_in_json(void)
{
    set(OBSERVED, CONF_GUARDED);
    retain_all();
    CU_ASSERT_EQUAL(pep(AUDIT " --json", s.b.port), 1);
    int lines = 0;
    for (char *rest = out, *line; (line = strsep(&rest, "\n")) != NULL && *line != '\0'; lines++) {
        cJSON *object = cJSON_Parse(line);
        CU_ASSERT_PTR_NOT_NULL(object);
        bool tampered = strcmp(text_of(object, "topic"), "o/tampered") == 0;
        CU_ASSERT_STRING_EQUAL(text_of(object, "rule"), "o/#");
        CU_ASSERT_EQUAL(strcmp(text_of(object, "reason"), "bad-signature") == 0, tampered);
        CU_ASSERT_EQUAL(strcmp(text_of(object, "signer"), "alice") == 0, tampered);
        CU_ASSERT_TRUE(cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(object, "bytes")) > 0);
        CU_ASSERT_TRUE(cJSON_IsFalse(cJSON_GetObjectItemCaseSensitive(object, "purged")));
        cJSON_Delete(object);
    }
    CU_ASSERT_EQUAL(lines, BAD);
    strike();
}

static void an_admin_purges(void)
{
    set(OBSERVED, CONF_GUARDED);
    for (int i = 0; i < 2; i++) {
        sealed good = retain_all();
        CU_ASSERT_TRUE(audited(pep(AUDIT " -u ops --purge --key ops.key -V %s", s.b.port, i == 0 ? "5" : "311"), 0,
                               BAD + 1, BAD, BAD));
        CU_ASSERT_TRUE(says(out, "o/plain 12 bytes, purged\n"));
        CU_ASSERT_TRUE(audited(pep(AUDIT, s.b.port), 0, 1, 0, 0));
        client *late = stage_client(&s, "late");
        client_subscribe(late, "o/#", 2);
        CU_ASSERT_TRUE(client_gets(late, "o/good", good.bytes, good.n));
        client_close(late);
    }
    strike();
}

/* A clear signs the topic without what a bridge put in front. */
static void it_knows_the_prefix(void)
{
    set(OBSERVED, CONF_GUARDED);
    retain_case("site/o/x", PEP_PLAIN_PAYLOAD);
    CU_ASSERT_TRUE(audited(pep(AUDIT " -t site/# -u ops --purge --key ops.key", s.b.port), 0, 1, 1, 1));
    strike();
}

static void on_enforced_topics_an_admin_sees_all(void)
{
    set(OBSERVED, CONF_GUARDED);
    retain_all();
    reload(ENFORCED);
    CU_ASSERT_TRUE(audited(pep(AUDIT, s.b.port), 3, 1, 0, 0));
    CU_ASSERT_TRUE(says(err, "connect with -u and the name of one"));
    CU_ASSERT_TRUE(audited(pep(AUDIT " -u eve", s.b.port), 3, 1, 0, 0));
    CU_ASSERT_TRUE(says(err, "connect with -u and the name of one"));
    CU_ASSERT_TRUE(audited(pep(AUDIT " -u ops", s.b.port), 1, BAD + 1, BAD, 0));
    CU_ASSERT_STRING_EQUAL(err, "");
    CU_ASSERT_TRUE(audited(pep(AUDIT " -u ops --purge --key ops.key", s.b.port), 0, BAD + 1, BAD, BAD));
    CU_ASSERT_TRUE(audited(pep(AUDIT " -u ops", s.b.port), 0, 1, 0, 0));
    strike();
}

/* The broker does not know the admin's record; over 3.1.1 only the second look can tell. */
static void what_was_not_cleared_is_told(void)
{
    set(OBSERVED, CONF_GUARDED);
    retain_all();
    CU_ASSERT_EQUAL(mkdir(broker_path(&s.b, "known"), 0755), 0);
    broker_copy(&s.b, "known/ops.pub", broker_path(&s.b, "records/ops.pub"));
    broker_copy(&s.b, "known/alice.pub", broker_path(&s.b, "records/alice.pub"));
    record_remove(&s.b, "ops");
    reload(ENFORCED);
    static const char known[] = "audit -h 127.0.0.1 -p %d --policy policy.conf --records known -t o/# -u ops "
                                "--purge --key ops.key -V %s";
    CU_ASSERT_TRUE(audited(pep(known, s.b.port, "5"), 1, BAD + 1, BAD, 0));
    CU_ASSERT_TRUE(says(err, "the broker refused to clear o/plain: ") && says(err, "(0x87)"));
    CU_ASSERT_TRUE(audited(pep(known, s.b.port, "311"), 1, BAD + 1, BAD, 0));
    CU_ASSERT_TRUE(says(err, "3 are still there"));
    strike();
}

static void wrong_keys_are_refused_beforehand(void)
{
    set(OBSERVED, CONF_GUARDED);
    retain_all();
    CU_ASSERT_EQUAL(pep(AUDIT " -u eve --purge --key eve.key", s.b.port), 2);
    CU_ASSERT_TRUE(says(err, "eve is none of the policy's admins"));
    CU_ASSERT_EQUAL(pep(AUDIT " -u eve --purge --key ops.key", s.b.port), 2);
    CU_ASSERT_TRUE(says(err, "connect with -u ops"));
    record_remove(&s.b, "ops");
    CU_ASSERT_EQUAL(pep(AUDIT " -u ops --purge --key ops.key", s.b.port), 2);
    CU_ASSERT_TRUE(says(err, "does not know this key"));
    CU_ASSERT_TRUE(audited(pep(AUDIT, s.b.port), 1, BAD + 1, BAD, 0));
    strike();
}

static void what_cannot_be_reached_is_told(void)
{
    set(OBSERVED, CONF_GUARDED);
    CU_ASSERT_EQUAL(pep("audit -h 127.0.0.1 -p %d --policy none.conf --records records -t #", s.b.port), 3);
    CU_ASSERT_TRUE(says(err, "none.conf"));
    CU_ASSERT_EQUAL(pep("audit -h 127.0.0.1 -p %d --policy policy.conf --records none -t #", s.b.port), 3);
    CU_ASSERT_TRUE(says(err, "none"));
    CU_ASSERT_EQUAL(pep(AUDIT, 1), 3);
    CU_ASSERT_TRUE(says(err, "cannot connect to 127.0.0.1:1"));
    strike();
}

/* U+202E turns the direction of writing. */
static void topics_cannot_steer_a_terminal(void)
{
    set(OBSERVED, CONF_GUARDED);
    retain_case("o/\xe2\x80\xae", PEP_PLAIN_PAYLOAD);
    CU_ASSERT_TRUE(audited(pep(AUDIT, s.b.port), 1, 1, 1, 0));
    CU_ASSERT_TRUE(says(out, "o/\\xe2\\x80\\xae 12 bytes"));
    strike();
}

/* A broker that may queue one packet drops what a connection does not take at once: 26 MB are too much for most. */
static void a_part_never_passes_for_the_whole(void)
{
    enum { MANY = 400 };
    static uint8_t bytes[1 << 16];
    set(OBSERVED, CONF_GUARDED "max_queued_messages 1\nsys_interval 1\n");
    char topic[32];
    for (int i = 0; i < MANY; i++) {
        snprintf(topic, sizeof(topic), "o/%d", i);
        CU_ASSERT_EQUAL(client_publish(alice, topic, bytes, sizeof(bytes), 1, true), REASON_SUCCESS);
    }
    int code = pep(AUDIT, s.b.port);
    bool part = code == 3 && says(err, "the list may be incomplete");
    CU_ASSERT_TRUE(part || audited(code, 1, MANY, MANY, 0));
    strike();
}

/* Who enrolled is no stranger; and where the directory cannot be seen nothing is said, and nothing purged. */
static void whoever_enrolled_is_known(void)
{
    set("enroll = \"open\"; max_records = 9; bind = \"username\"; admins = [ \"ops\" ];\n"
        "topics = ( { filter = \"o/#\"; mode = \"observe\"; signers = [ \"*\" ]; } );\n",
        CONF_GUARDED);
    CU_ASSERT_EQUAL(pep("enroll --id fresh -h 127.0.0.1 -p %d", s.b.port), 0);
    CU_ASSERT_EQUAL(
        pep("pub -h 127.0.0.1 -p %d -u fresh -q 1 -r --key fresh.key --to ops.pub -t o/fresh -m x", s.b.port), 0);
    retain_case("o/m", PEP_UNKNOWN_SIGNER);
    CU_ASSERT_EQUAL(pep(AUDIT " --purge --key ops.key -u ops", s.b.port), 2);
    CU_ASSERT_TRUE(says(err, "name the directory too"));
    CU_ASSERT_TRUE(audited(pep(AUDIT " --state state -u ops", s.b.port), 1, 2, 1, 0));
    CU_ASSERT_TRUE(says(out, "unknown-signer"));
    CU_ASSERT_EQUAL(pep(AUDIT " --store sqlite:/nonexistent/directory.db -u ops", s.b.port), 3);
    CU_ASSERT_TRUE(says(err, "cannot read /nonexistent/directory.db"));
    CU_ASSERT_TRUE(audited(pep(AUDIT " --state state --purge --key ops.key -u ops", s.b.port), 0, 2, 1, 1));
    CU_ASSERT_TRUE(audited(pep(AUDIT " --state state -u ops", s.b.port), 0, 1, 0, 0));
    strike();
}

static const unit_test TESTS[] = {
    {"whoever enrolled is known", whoever_enrolled_is_known},
    {"it names what would be refused", it_names_what_would_be_refused},
    {"it says so in JSON", it_says_so_in_json},
    {"an admin purges", an_admin_purges},
    {"it knows the prefix", it_knows_the_prefix},
    {"on enforced topics an admin sees all", on_enforced_topics_an_admin_sees_all},
    {"what was not cleared is told", what_was_not_cleared_is_told},
    {"wrong keys are refused beforehand", wrong_keys_are_refused_beforehand},
    {"what cannot be reached is told", what_cannot_be_reached_is_told},
    {"topics cannot steer a terminal", topics_cannot_steer_a_terminal},
    {"a part never passes for the whole", a_part_never_passes_for_the_whole},
};
UNIT_MAIN("audit", TESTS)
