/*
 * Promise: a broker with the plugin may run for as long as it likes: what passes, what is refused, who comes and goes
 * and what is reloaded leaves nothing behind in its memory, and no file open. scripts/soak.sh runs it: it is no part of
 * the tests, because it takes minutes.
 */
#include "stage.h"
#include "tests/unit/unit.h"
#include "wire.h"

#include <dirent.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#define MINUTE_MS       60000
#define RELOAD_EVERY_MS 2000
#define RETAINED        4
#define FLOOD           30 /* more than a stranger may have verified at once */

/*
 * Bad signatures come in one round of nine, and a round takes its time: more of them would use up what all clients at
 * one address may have verified before they are known, and so hinder the valid newcomers of these rounds.
 */
#define ROUND_MS    50
#define ABUSE_EVERY 9 /* odd: in both versions of MQTT */

/*
 * What memory may grow by from the second minute to the last, in KiB. Without a leak that is some hundred: tables of
 * fixed size are touched page by page, and the allocator moves. At 450 refusals a second, a leak of five bytes in each
 * is more within eight minutes.
 */
#define GROWTH_KIB_MAX 1024

/* The rules are those of the cases; no debugging lines, which would fill the disk. */
#define SOAK_POLICY(bind) "bind = \"" bind "\"; relays = [ \"" BRIDGE_CLIENT "\" ];\n" SOAK_RULES
#define SOAK_RULES                                                                                                     \
    "enroll = \"closed\";\n"                                                                                           \
    "topics = ( { filter = \"t/#\"; mode = \"enforce\"; payload = \"encrypted\";\n"                                    \
    "             signers = [ \"alice\", \"carol\", \"old\" ]; max_age = \"30s\"; will_max_age = \"1h\";\n"            \
    "             max_size = \"2k\"; record = \"deny\"; } );\n"
#define CONF_QUIET                                                                                                     \
    "allow_anonymous true\n"                                                                                           \
    "log_type error\n"                                                                                                 \
    "log_type notice\n"                                                                                                \
    "log_type information\n"                                                                                           \
    "connection_messages false\n"                                                                                      \
    "log_dest stderr\n"                                                                                                \
    "set_tcp_nodelay true\n"                                                                                           \
    "max_inflight_messages 0\n"

static stage s;
static upstream up;
static bool bound; /* the policy binds a sender to its client id */
static size_t reloads;
static unsigned long names; /* that clients had */
static unsigned long passed, refused;
static bool abusive;    /* bad signatures may come in this round */
static size_t expected; /* what the listener must still get in this round */

/* ---- the stage ---- */

static void set(void)
{
    char conf[1024];
    broker_make(&up.b);
    broker_write(&up.b, "mosquitto.conf", CONF_QUIET CONF_ACL);
    CU_ASSERT_TRUE(broker_start(&up.b));
    up.from = client_open((client_spec){.port = up.b.port, .id = "upstream"});
    CU_ASSERT_EQUAL(client_publish(up.from, "probe", "up", 2, 1, true), REASON_SUCCESS);
    snprintf(conf, sizeof(conf),
             CONF_QUIET CONF_PLUGIN CONF_ACL "connection elsewhere\naddress 127.0.0.1:%d\n"
                                             "local_clientid " BRIDGE_CLIENT "\nnotifications false\n"
                                             "topic t/# in 2\ntopic probe in 2\n",
             up.b.port);
    stage_set(&s, SOAK_POLICY("clientid"), conf);
    bound = true;
    CU_ASSERT_TRUE(client_gets(s.to, "probe", "up", 2));
}

/* A client id that nobody had before, unless the policy wants the sender's own. */
static const char *new_name(const char *own)
{
    static char name[32];
    snprintf(name, sizeof(name), "client-%lu", ++names);
    return bound && own != NULL ? own : name;
}

/* ---- what happens in a round ---- */

static sealed good(const char *topic, unsigned flags)
{
    return seal((seal_spec){.from = &s.c.alice, .topic = topic, .flags = flags});
}

static bool answered(const char *what, int answer, int right)
{
    if (answer != right)
        fprintf(stderr, "%s: answer %d, expected %d\n", what, answer, right);
    return answer == right;
}

/* Publishes, and expects that it arrives. */
static bool pass(client *from, const char *topic, const sealed *e, int qos, bool retain)
{
    passed++;
    expected++;
    return answered(topic, client_publish(from, topic, e->bytes, e->n, qos, retain), REASON_SUCCESS);
}

/* Publishes the case, and expects that it does not. */
static bool refuse(client *from, const seal_case *k, const char *topic, const sealed *e, int qos)
{
    refused++;
    return answered(k->name, client_publish(from, topic, e->bytes, e->n, qos, false),
                    denial(client_version(from), qos));
}

static bool valid_messages(client *from)
{
    for (int qos = 0; qos <= 2; qos++) {
        sealed e = good("t/a", 0);
        if (!pass(from, "t/a", &e, qos, false))
            return false;
    }
    return true;
}

static bool is_a_case_now(pep_reason reason)
{
    return reason != PEP_OK && (reason != PEP_UNBOUND_CLIENT || bound) && (reason != PEP_BAD_SIGNATURE || abusive);
}

static bool wrong_messages(client *from)
{
    for (size_t i = 0; i < CASE_COUNT; i++) {
        const seal_case *k = &CASES[i];
        if (!is_a_case_now(k->reason))
            continue;
        sealed first, wrong;
        if (case_make(k, &s.c, "t/a", 0, &first, &wrong) && !pass(from, "t/a", &first, 1, false))
            return false;
        if (!refuse(from, k, "t/a", &wrong, (int)(i % 3)))
            return false;
    }
    return true;
}

/* Retained, fetched by somebody who joins, and cleared. */
static bool retained_messages(client *from)
{
    char topics[RETAINED][8];
    for (size_t i = 0; i < RETAINED; i++) {
        snprintf(topics[i], sizeof(topics[i]), "t/r%zu", i);
        sealed e = good(topics[i], 0);
        if (!pass(from, topics[i], &e, (int)(i % 3), true))
            return false;
    }
    client *late = stage_client(&s, new_name(NULL));
    client_subscribe(late, "t/+", 2);
    bool got = true;
    for (size_t i = 0; i < RETAINED; i++)
        got = answered("retained", client_next(late) != NULL, true) && got;
    client_close(late);
    for (size_t i = 0; i < RETAINED; i++) {
        sealed clear = good(topics[i], PEP_FLAG_CLEAR);
        got = pass(from, topics[i], &clear, (int)(i % 3), true) && got;
    }
    return got;
}

static void will(mqtt_version version, const sealed *e)
{
    wire_spec spec = {.port = s.b.port, .version = version, .id = new_name("alice")};
    spec.will_topic = "t/w";
    spec.will = e->bytes;
    spec.will_n = e->n;
    spec.will_qos = 1;
    wire w = wire_open(spec);
    wire_drop(&w);
}

static void wills(mqtt_version version)
{
    sealed last_words = good("t/w", PEP_FLAG_WILL), wrong = case_of(PEP_WRONG_TOPIC)->make(&s.c, "t/w", PEP_FLAG_WILL);
    will(version, &last_words);
    will(version, &wrong);
    passed++;
    expected++;
    refused++;
}

static bool bridged_messages(void)
{
    sealed e = good("t/b", 0), wrong = case_of(PEP_PLAIN_PAYLOAD)->make(&s.c, "t/b", 0);
    passed++;
    expected++;
    refused++;
    return client_publish(up.from, "t/b", wrong.bytes, wrong.n, 1, false) == REASON_SUCCESS &&
           client_publish(up.from, "t/b", e.bytes, e.n, 1, false) == REASON_SUCCESS;
}

/* Somebody nobody knows, with bad signatures and nothing else; perhaps the broker ends it before it is through. */
static void flood(void)
{
    char user[32];
    sealed e = case_of(PEP_BAD_SIGNATURE)->make(&s.c, "t/a", 0);
    snprintf(user, sizeof(user), "user-%lu", names);
    wire w = wire_open((wire_spec){.port = s.b.port, .id = new_name("alice"), .username = user});
    for (size_t i = 0; i < FLOOD; i++)
        wire_publish(&w, (wire_message){.topic = "t/a", .bytes = e.bytes, .n = e.n});
    refused += FLOOD;
    wire_drop(&w);
}

/* All that was expected arrives, and nothing else. */
static bool all_arrives(void)
{
    for (; expected > 0; expected--)
        if (client_next(s.to) == NULL)
            return answered("still to arrive", (int)expected, 0);
    return answered("nothing else", client_fence(s.to, s.to), true);
}

static bool round_of(mqtt_version version)
{
    client *from = client_open((client_spec){.port = s.b.port, .id = new_name("alice"), .version = version});
    bool good_round = valid_messages(from) && wrong_messages(from) && retained_messages(from);
    client_close(from);
    wills(version);
    if (abusive)
        flood();
    return good_round && bridged_messages() && all_arrives();
}

/* Changed and changed back, not changed, and broken. */
static bool reload(void)
{
    static const struct {
        const char *policy, *outcome;
        bool bound;
    } steps[] = {
        {SOAK_POLICY("none"), "pep: reloaded", false},
        {SOAK_POLICY("none"), "pep: reload: nothing changed", false},
        {"topics = (", "pep: reload failed", false},
        {SOAK_POLICY("clientid"), "pep: reloaded", true},
        {SOAK_POLICY("clientid"), "pep: reload: nothing changed", true},
    };
    size_t i = reloads++ % (sizeof(steps) / sizeof(steps[0]));
    broker_write(&s.b, "policy.conf", steps[i].policy);
    broker_mark(&s.b);
    broker_reload(&s.b);
    bound = steps[i].bound;
    return answered(steps[i].outcome, broker_logs(&s.b, steps[i].outcome), true);
}

/* ---- what it leaves behind ---- */

typedef struct {
    long rss_kib;
    long files;
} footprint;

static footprint footprint_now(void)
{
    char path[64], line[256];
    footprint out = {.files = -2}; /* the folder itself and the one above are listed too */
    snprintf(path, sizeof(path), "/proc/%d/status", (int)s.b.pid);
    FILE *status = fopen(path, "re");
    while (status != NULL && fgets(line, sizeof(line), status) != NULL)
        if (strncmp(line, "VmRSS:", 6) == 0)
            out.rss_kib = strtol(line + 6, NULL, 10);
    if (status != NULL)
        fclose(status);
    snprintf(path, sizeof(path), "/proc/%d/fd", (int)s.b.pid);
    DIR *files = opendir(path);
    while (files != NULL && readdir(files) != NULL)
        out.files++;
    if (files != NULL)
        closedir(files);
    CU_ASSERT_TRUE(out.rss_kib > 0 && out.files > 0);
    return out;
}

static void keep_lowest(footprint *lowest, footprint now)
{
    lowest->rss_kib = now.rss_kib < lowest->rss_kib ? now.rss_kib : lowest->rss_kib;
    lowest->files = now.files < lowest->files ? now.files : lowest->files;
}

static bool reload_when_due(void)
{
    static int64_t next_ms;
    if (remaining_ms(next_ms) > 0)
        return true;
    next_ms = monotonic_ms() + RELOAD_EVERY_MS;
    return reload();
}

/* The lowest of a minute's second half: between two rounds, when nothing is under way. */
static bool minute(footprint *lowest)
{
    int64_t end = monotonic_ms() + MINUTE_MS;
    bool well = true;
    for (unsigned i = 0; well && remaining_ms(end) > 0; i++) {
        int64_t round_end = monotonic_ms() + ROUND_MS;
        abusive = i % ABUSE_EVERY == 0;
        well = round_of(i % 2 == 0 ? MQTT_3 : MQTT_5) && reload_when_due();
        if (i == 0 || remaining_ms(end) > MINUTE_MS / 2)
            *lowest = footprint_now();
        keep_lowest(lowest, footprint_now());
        poll(NULL, 0, remaining_ms(round_end));
    }
    return well;
}

static long minutes(void)
{
    const char *text = getenv("PEP_SOAK_MINUTES");
    long value = text != NULL ? strtol(text, NULL, 10) : 0;
    return value >= 2 ? value : 2;
}

static void it_leaves_nothing_behind(void)
{
    footprint base = {0}, now = {0};
    long last = minutes(), base_minute = last > 2 ? 2 : 1;
    set();
    printf("\n%8s %10s %10s %8s %10s %6s\n", "minute", "passed", "refused", "reloads", "RSS KiB", "files");
    for (long i = 1; i <= last; i++) {
        bool well = minute(&now);
        CU_ASSERT_TRUE(well);
        if (!well)
            break;
        base = i <= base_minute ? now : base;
        printf("%8ld %10lu %10lu %8zu %10ld %6ld\n", i, passed, refused, reloads, now.rss_kib, now.files);
        fflush(stdout);
    }
    long growth = now.rss_kib - base.rss_kib;
    printf("from minute %ld on: %ld KiB more, at most %d may be; %ld files more\n", base_minute, growth, GROWTH_KIB_MAX,
           now.files - base.files);
    CU_ASSERT_TRUE(growth <= GROWTH_KIB_MAX);
    CU_ASSERT_TRUE(now.files <= base.files);
    stage_strike_bridged(&s, &up);
}

static const unit_test TESTS[] = {{"it leaves nothing behind", it_leaves_nothing_behind}};
UNIT_MAIN("soak", TESTS)
