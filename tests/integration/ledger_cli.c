/*
 * pep ledger and a real broker, as users call it: an admin, a device, and somebody nobody knows. Promise: what senders
 * asked to have recorded is found, summed, exported, drawn and erased; by whom it may, and in what form one likes.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "broker.h"
#include "tests/unit/unit.h"
#include "tool.h"

#define POLICY                                                                                                         \
    "enroll = \"closed\"; bind = \"none\"; admins = [ \"admin\" ];\n"                                                  \
    "topics = ( { filter = \"t/#\"; payload = \"signed\"; signers = [ \"*\" ]; record = \"allow\"; } );\n"
#define CONF TOOL_CONF "plugin_opt_records @/records\n"

#define ADMIN "--key a/admin.key % "
#define ALICE "--key a/alice.key % "
#define SAY   "pub --signed-only -q 1 % -m x "

static void know(const char *id)
{
    char words[64];
    char path[2][64];
    (void)snprintf(words, sizeof(words), "keygen --id %s --out a", id);
    (void)snprintf(path[0], sizeof(path[0]), "records/%s.pub", id);
    (void)snprintf(path[1], sizeof(path[1]), "a/%s.pub", id);
    tool_expect(0, words, NULL);
    broker_copy(&tool_broker, path[0], path[1]);
}

static void enter(void)
{
    tool_enter(NULL);
    know("admin");
    know("alice");
    know("bob");
    tool_start_broker(POLICY, CONF);
}

/* Rows are written some time after their messages. */
static void wait_for_rows(unsigned count)
{
    char text[64];
    (void)snprintf(text, sizeof(text), "{\"count\":%u}", count);
    int64_t deadline = monotonic_ms() + patience_ms();
    do
        tool_expect(0, "ledger sum --json " ADMIN, "{\"count\":");
    while (strstr(tool_out, text) == NULL && monotonic_ms() < deadline);
    CU_ASSERT_PTR_NOT_NULL(strstr(tool_out, text));
}

/* Six messages, of two devices. */
static void say_all(void)
{
    tool_expect(0, SAY "--key a/alice.key -t t/1 --record temp=21 --record site=north", NULL);
    tool_expect(0, SAY "--key a/alice.key -t t/1/a --record temp=-5 --record ok=true", NULL);
    tool_expect(0, SAY "--key a/alice.key -t t/2 --record temp=9223372036854775807 --record site=south", NULL);
    tool_expect(0, SAY "--key a/bob.key -t t/1 -r --record temp=9223372036854775807", NULL);
    tool_expect(0, SAY "--key a/bob.key -t 't/a b' --record 'site=so uth' --record 21=x", NULL);
    tool_expect(0, SAY "--key a/bob.key -t t/2 --record temp=021", NULL); /* a text */
    tool_expect(0, SAY "--key a/bob.key -t t/2", NULL);                   /* asks for nothing */
    wait_for_rows(6);
}

static size_t lines(const char *text)
{
    size_t n = 0;
    for (; (text = strchr(text, '\n')) != NULL; text++)
        n++;
    return n;
}

static bool says(const char *text)
{
    bool found = strstr(tool_out, text) != NULL;
    if (!found)
        printf("\n    no '%s' in: %s", text, tool_out);
    return found;
}

/* What stderr has is this one line, without its \n. */
static bool warns(const char *line)
{
    size_t n = strlen(line);
    bool same = strncmp(tool_err, line, n) == 0 && strcmp(tool_err + n, "\n") == 0;
    if (!same)
        printf("\n    not '%s' but: %s", line, tool_err);
    return same;
}

/* How many rows `words` find, as `who`. */
static size_t found(const char *words)
{
    char line[256];
    (void)snprintf(line, sizeof(line), "ledger query --json %s", words);
    tool_expect(0, line, NULL);
    return lines(tool_out);
}

/* ---- query ---- */

static void test_forms(void)
{
    enter();
    say_all();
    tool_expect(0, "ledger query " ADMIN, "time ");
    CU_ASSERT_EQUAL(lines(tool_out), 7);
    CU_ASSERT_TRUE(says("  topic    signer  payload  qos  retained  fields\n"));
    CU_ASSERT_TRUE(says("  t/1      alice         2    1  false     site=north temp=21\n"));
    CU_ASSERT_TRUE(says("  t/1      bob           2    1  true      temp=9223372036854775807\n"));
    CU_ASSERT_TRUE(says("  \"t/a b\"  bob           2    1  false     \"21\"=x site=\"so uth\"\n"));
    CU_ASSERT_TRUE(says("temp=021\n"));
    tool_expect(0, "ledger query --json " ADMIN, "{\"time\":\"20");
    CU_ASSERT_TRUE(says("\"topic\":\"t/1\",\"signer\":\"alice\",\"kid\":\""));
    CU_ASSERT_TRUE(says("\"payload\":2,\"qos\":1,\"retained\":true,\"fields\":{\"temp\":9223372036854775807}}\n"));
    CU_ASSERT_TRUE(says("\"fields\":{\"temp\":\"021\"}}\n"));
    tool_expect(0, "ledger query --csv --newest --limit 2 " ADMIN,
                "time,topic,signer,kid,seq,size,payload,qos,retained,fields\r\n");
    CU_ASSERT_EQUAL(lines(tool_out), 3);
    CU_ASSERT_TRUE(says(",2,1,false,\"{\"\"temp\"\":\"\"021\"\"}\"\r\n"));
    CU_ASSERT_TRUE(strstr(tool_out, "021") < strstr(tool_out, "so uth"));
    tool_leave();
}

/* What is not printed is told of, beside it. */
static void test_extent(void)
{
    static const char more[] = "there are more; see --limit, --newest and 'pep ledger export'";
    char line[128];
    enter();
    tool_expect(0, "ledger query " ADMIN, NULL);
    CU_ASSERT_TRUE(tool_out[0] == '\0' && warns("pep: no recorded message matches"));
    say_all();
    CU_ASSERT_TRUE(found("--limit 6 " ADMIN) == 6 && tool_err[0] == '\0');
    CU_ASSERT_EQUAL(found("--limit 5 " ADMIN), 5);
    (void)snprintf(line, sizeof(line), "pep: only the oldest 5: %s", more);
    CU_ASSERT_TRUE(warns(line));
    tool_expect(0, "ledger query --csv --newest --limit 1 " ADMIN, "time,");
    (void)snprintf(line, sizeof(line), "pep: only the newest 1: %s", more);
    CU_ASSERT_TRUE(warns(line));
    CU_ASSERT_EQUAL(found("--limit 2 -t t/1 " ADMIN), 2); /* the rest is on other topics */
    CU_ASSERT_STRING_EQUAL(tool_err, "");
    tool_expect(0, "ledger query --csv --signer nobody " ADMIN, "time,");
    CU_ASSERT_TRUE(warns("pep: no recorded message matches"));
    tool_leave();
}

static void test_conditions(void)
{
    enter();
    say_all();
    CU_ASSERT_EQUAL(found("--limit 5 " ADMIN), 5);
    CU_ASSERT_EQUAL(found("-t t/1 " ADMIN), 2);
    CU_ASSERT_EQUAL(found("--topic 't/1/#' " ADMIN), 3);
    CU_ASSERT_EQUAL(found("--topic 't/+' --signer bob " ADMIN), 3);
    CU_ASSERT_EQUAL(found("--signer nobody " ADMIN), 0);
    CU_ASSERT_EQUAL(found("--field temp=21 " ADMIN), 1);
    CU_ASSERT_EQUAL(found("--field temp=021 " ADMIN), 1);
    CU_ASSERT_EQUAL(found("--field temp=9223372036854775807 " ADMIN), 2);
    CU_ASSERT_EQUAL(found("--field ok=true " ADMIN), 1);
    CU_ASSERT_EQUAL(found("--field 'site=so uth' --field 21=x " ADMIN), 1);
    CU_ASSERT_EQUAL(found("--field site=north --field temp=22 " ADMIN), 0);
    CU_ASSERT_EQUAL(found("--since 1h " ADMIN), 6);
    CU_ASSERT_EQUAL(found("--until 1h " ADMIN), 0);
    CU_ASSERT_EQUAL(found("--since 2000-01-01 --until 2200-01-01T00:00:00.5+01:00 " ADMIN), 6);
    CU_ASSERT_EQUAL(found("--since 2200-01-01 " ADMIN), 0);
    tool_leave();
}

/* What is printed can be asked for: from the second row on, and before it. */
static void test_times(void)
{
    char words[256];
    char at[64];
    enter();
    say_all();
    CU_ASSERT_EQUAL_FATAL(found(ADMIN), 6);
    const char *second = strstr(strchr(tool_out, '\n'), "{\"time\":\"") + strlen("{\"time\":\"");
    (void)snprintf(at, sizeof(at), "%.*s", (int)strcspn(second, "\""), second);
    (void)snprintf(words, sizeof(words), "--since %s %s", at, ADMIN);
    CU_ASSERT_EQUAL(found(words), 5);
    (void)snprintf(words, sizeof(words), "--until %s %s", at, ADMIN);
    CU_ASSERT_EQUAL(found(words), 1);
    tool_leave();
}

/* ---- who may ---- */

static void test_who(void)
{
    enter();
    say_all();
    CU_ASSERT_EQUAL(found(ALICE), 3);
    CU_ASSERT_EQUAL(found("--signer alice " ALICE), 3);
    tool_expect(1, "ledger query --signer bob " ALICE, "not-authorized");
    tool_expect(1, "ledger sum --signer bob " ALICE, "not-authorized");
    tool_expect(1, "ledger export --signer bob -o bobs.json " ALICE, "not-authorized");
    CU_ASSERT_FALSE(tool_exists("bobs.json"));
    tool_expect(1, "ledger plot --signer bob -o bob.svg " ALICE, "not-authorized");
    tool_expect(1, "ledger forget --signer alice " ALICE, "not-authorized");
    tool_expect(1, "ledger erasures " ALICE, "not-authorized");
    tool_expect(0, "ledger sum --json " ALICE, "{\"count\":3}\n");
    tool_expect(0, "keygen --id eve --out b", NULL);
    tool_expect(1, "ledger query --key b/eve.key %", "not-authorized");
    tool_expect(0, "authority init --out ca", NULL);
    tool_expect(1, "ledger query --authority ca/authority.public " ADMIN, "not-certified");
    tool_leave();
}

static const char *const wrong[] = {
    "query",
    "query --json --csv " ADMIN,
    "query --limit 0 " ADMIN,
    "query --limit 100001 " ADMIN,
    "query --since yesterday " ADMIN,
    "query --until 2026-02-30 " ADMIN,
    "query --since 1h --until 2h " ADMIN,
    "query --since 2026-01-01 --until 2026-01-01 " ADMIN,
    "query --topic 't/#/x' " ADMIN,
    "query --signer 'a b' " ADMIN,
    "query --field temp " ADMIN,
    "query --field =1 " ADMIN,
    "query --field 'a\"b=1' " ADMIN,
    "query --field a=1 --field a=2 " ADMIN,
    "query --field a=1 --field b=1 --field c=1 --field d=1 --field e=1 " ADMIN,
    "sum --by size " ADMIN,
    "sum --by field: " ADMIN,
    "sum --by field " ADMIN,
    "sum --by signer --by signer " ADMIN,
    "sum --by hour --by day " ADMIN,
    "sum --by signer --by topic --by hour --by field:a " ADMIN,
    "sum --of '' " ADMIN,
    "export --json --csv " ADMIN,
    "plot " ADMIN,
    "plot -o picture " ADMIN,
    "plot -o picture.gif " ADMIN,
    "plot -o a.svg --show sum " ADMIN,
    "plot -o a.svg --show most --of temp " ADMIN,
    "plot -o a.svg --every year " ADMIN,
    "plot -o a.svg --by hour " ADMIN,
    "forget " ADMIN,
    "forget --before soon " ADMIN,
    "forget --signer '' " ADMIN,
    "forget --topic '#/#' " ADMIN,
    "erasures --json --csv " ADMIN,
    "",
    "everything",
};

/* Said before anything is asked: there is no broker here. */
static void test_usage(void)
{
    tool_enter(NULL);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        char words[256];
        (void)snprintf(words, sizeof(words), "ledger %s", wrong[i]);
        tool_expect(2, words, "ledger");
        CU_ASSERT_EQUAL(lines(tool_err), 1);
    }
    tool_expect(0, "ledger --help", "ledger erasures");
    tool_leave();
}

/* ---- sum ---- */

static void test_sum(void)
{
    enter();
    say_all();
    tool_expect(0, "ledger sum " ADMIN, "count\n    6\n");
    tool_expect(0, "ledger sum --of temp --by signer " ADMIN,
                "signer  count  numbers                  sum                  min                  max");
    CU_ASSERT_TRUE(says("alice       3        3  9223372036854775823                   -5  9223372036854775807"));
    tool_expect(0, "ledger sum --of temp --json " ADMIN,
                "{\"count\":6,\"numbers\":4,\"sum\":18446744073709551630,\"min\":-5,\"max\":9223372036854775807,");
    tool_expect(0, "ledger sum --of none --json " ADMIN,
                "{\"count\":6,\"numbers\":0,\"sum\":null,\"min\":null,\"max\":null,\"avg\":null}");
    tool_expect(0, "ledger sum --by field:site --csv " ADMIN, "value,count\r\n");
    CU_ASSERT_TRUE(says("\"north\",1\r\n") && says("\"so uth\",1\r\n") && says("\n,3\r\n"));
    tool_expect(0, "ledger sum --by day --by topic --by signer --json " ADMIN,
                "T00:00:00Z\",\"topic\":\"t/1\",\"signer\":");
    CU_ASSERT_EQUAL(lines(tool_out), 6);
    tool_expect(0, "ledger sum --by second --csv " ADMIN, "time,count\r\n20");
    CU_ASSERT_STRING_EQUAL(tool_err, "");
    tool_expect(0, "ledger sum --by signer --signer nobody " ADMIN, NULL);
    CU_ASSERT_TRUE(tool_out[0] == '\0' && warns("pep: no recorded message matches"));
    tool_expect(0, "ledger sum --signer nobody " ADMIN, "count\n    0\n");
    tool_leave();
}

/* ---- export ---- */

static void test_export(void)
{
    struct stat st;
    enter();
    say_all();
    tool_expect(0, "ledger export -o rows.json " ADMIN, "rows.json: 6 rows\n");
    CU_ASSERT_STRING_EQUAL(tool_err, ""); /* no terminal */
    CU_ASSERT_TRUE(stat("rows.json", &st) == 0 && (st.st_mode & 07777) == 0600);
    tool_expect(0, "ledger query --json " ADMIN, NULL);
    CU_ASSERT_TRUE(tool_same("rows.json", "out"));
    tool_expect(0, "ledger export " ADMIN, NULL);
    CU_ASSERT_TRUE(tool_same("rows.json", "out"));
    tool_expect(0, "ledger export -o - " ADMIN, NULL);
    CU_ASSERT_TRUE(tool_same("rows.json", "out") && !tool_exists("-"));
    tool_expect(1, "ledger export -o rows.json " ADMIN, "never overwritten");
    tool_expect(3, "ledger export -o none/rows.json " ADMIN, "cannot create");
    tool_expect(0, "ledger export --csv --progress -o rows.csv --signer bob " ADMIN, "rows.csv: 3 rows\n");
    CU_ASSERT_PTR_NOT_NULL(strstr(tool_err, "\rexported 3 of 3 rows\n"));
    tool_shell("test \"$(ls | grep -c rows)\" = 2"); /* and nothing that was temporary */
    tool_expect(0, "ledger export --csv --field site=none " ADMIN, "retained,fields\r\n");
    tool_leave();
}

/* More than a page. */
static void test_pages(void)
{
    enter();
    tool_expect(0, "pub --signed-only -q 1 % --key a/alice.key -t t/1 -l --record n=1 < /dev/null", NULL);
    tool_shell("seq 2500 > numbers");
    tool_expect(0, "pub --signed-only -q 1 % --key a/alice.key -t t/1 -l --record n=1 < numbers", NULL);
    wait_for_rows(2500);
    tool_expect(0, "ledger export -o rows.json " ADMIN, "rows.json: 2500 rows\n");
    tool_shell("test \"$(sort -u rows.json | wc -l)\" = 2500");
    tool_shell("sort -c rows.json"); /* their time comes first */
    tool_expect(0, "ledger query --limit 2400 --newest --csv " ADMIN, NULL);
    tool_shell("test \"$(wc -l < out)\" = 2401");
    tool_leave();
}

/* ---- plot ---- */

static bool begins(const char *path, const char *text, size_t n)
{
    char head[16] = "";
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return false;
    size_t got = fread(head, 1, sizeof(head), file);
    fclose(file);
    return got >= n && memcmp(head, text, n) == 0;
}

static void test_plot(void)
{
    enter();
    tool_expect(1, "ledger plot -o none.svg --of temp " ADMIN, "nothing to draw: no recorded message matches\n");
    say_all();
    tool_expect(0, "ledger plot -o a.svg " ADMIN, "a.svg: 1 line\n");
    tool_expect(0, "ledger plot -o b.png --of temp --by signer --every hour " ADMIN, "b.png: 2 lines\n");
    CU_ASSERT_TRUE(begins("a.svg", "<?xml ", 6) && begins("b.png", "\x89PNG", 4));
    tool_expect(0, "ledger plot -o c.svg --of temp --show sum --by field:site --every day " ADMIN, "c.svg: 3 lines\n");
    tool_shell("grep -q 'Sum of temp per day' c.svg && grep -q 'no site' c.svg && grep -q north c.svg");
    tool_expect(1, "ledger plot -o a.svg " ADMIN, "never overwritten");
    tool_expect(1, "ledger plot -o d.svg --of site " ADMIN, "site is no whole number in any of these messages\n");
    CU_ASSERT_FALSE(tool_exists("d.svg") || tool_exists("none.svg"));
    tool_leave();
}

static void test_no_gnuplot(void)
{
    enter();
    say_all();
    const char *set = getenv("PATH");
    char *path = strdup(set != NULL ? set : "/usr/bin");
    CU_ASSERT_EQUAL(setenv("PATH", "/nowhere", 1), 0);
    tool_expect(3, "ledger plot -o a.svg " ADMIN, "install gnuplot-nox");
    CU_ASSERT_EQUAL(setenv("PATH", path, 1), 0);
    CU_ASSERT_EQUAL(lines(tool_err), 1);
    tool_shell("test -z \"$(ls | grep svg)\"");
    free(path);
    tool_leave();
}

/* ---- forget ---- */

static void test_forget(void)
{
    enter();
    say_all();
    tool_expect(0, "ledger erasures " ADMIN, NULL);
    CU_ASSERT_STRING_EQUAL(tool_out, "");
    tool_expect(0, "ledger forget --signer alice --topic 't/1/#' " ADMIN, "forgot 2 messages, recorded from 20");
    CU_ASSERT_TRUE(says("Z; their bytes are overwritten on the broker's disk\n"));
    CU_ASSERT_EQUAL(found(ADMIN), 4);
    CU_ASSERT_EQUAL(found("--signer alice " ADMIN), 1);
    tool_expect(0, "ledger forget --before 1h " ADMIN, "nothing to forget: no recorded message matches\n");
    CU_ASSERT_EQUAL(found(ADMIN), 4);
    tool_expect(0, "ledger forget --signer alice " ADMIN, "forgot 1 message, recorded at 20");
    CU_ASSERT_TRUE(says("Z; its bytes are overwritten on the broker's disk\n"));
    tool_expect(0, "ledger forget --before 0s --json " ADMIN, "{\"count\":3,\"from\":\"20");
    CU_ASSERT_TRUE(says("\"scrubbed\":true}\n"));
    CU_ASSERT_EQUAL(found(ADMIN), 0);
    tool_expect(0, "ledger erasures " ADMIN, "time ");
    CU_ASSERT_TRUE(says("  admin  \"signer topic\"      2  20"));
    CU_ASSERT_TRUE(says("  admin  before              3  20"));
    tool_expect(0, "ledger erasures --json " ADMIN,
                "\"by\":\"admin\",\"criteria\":\"before\",\"count\":3,\"from\":\"20");
    tool_expect(0, "ledger erasures --csv " ADMIN, "time,by,criteria,count,from,to\r\n");
    tool_leave();
}

static const unit_test tests[] = {
    {"query, in all forms", test_forms},
    {"what is left out", test_extent},
    {"conditions", test_conditions},
    {"times", test_times},
    {"who may ask", test_who},
    {"wrong usage", test_usage},
    {"sum", test_sum},
    {"export", test_export},
    {"more than a page", test_pages},
    {"plot", test_plot},
    {"plot without gnuplot", test_no_gnuplot},
    {"forget and erasures", test_forget},
};

UNIT_MAIN("ledger_cli", tests)
