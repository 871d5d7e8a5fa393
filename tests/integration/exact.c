/*
 * Promise: what is recorded is exact. Counts and sums of many messages of several devices at full speed are those of
 * what was sent; and a kill -9 amid them loses none that was sent more than a moment before, and doubles none.
 *
 * PEP_LEDGER_COUNT: how many messages (default 20000). PEP_ROUNDS: how often the broker is killed (default 5).
 */
#include "ledger_ask.h"
#include "ledger_store.h"

#include <stdlib.h>
#include <string.h>

#define COUNT    20000
#define ROUNDS   5
#define DEVICES  4
#define WINDOW   100 /* of a device, unanswered */
#define TOPICS   3
#define SITES    7
#define RUN_MS   750  /* twice at least, before the broker is killed, and then a moment of up to as long */
#define BOUND_MS 1000 /* what may be lost, besides what a commit takes: half a second in memory, and a tick */
#define PATIENT  (patience_ms() > 10000)

__extension__ typedef __int128 wide;

static const char POLICY[] =
    "enroll = \"closed\"; budget = { rate = 0; }; admins = [ \"bob\" ];\n"
    "topics = ( { filter = \"t/#\"; signers = [ \"*\" ]; payload = \"signed\"; record = \"allow\"; } );\n";

typedef struct {
    speaker who;
    wire w;
    long sent, acked, waiting; /* waiting: sent and not answered */
    uint64_t *sent_us;
    long lost;
} device;

static stage s;
static asker a;
static device devices[DEVICES];
static long per_device;
static int run_number;

static long setting(const char *name, long otherwise)
{
    const char *given = getenv(name);
    return given != NULL && *given != '\0' ? strtol(given, NULL, 10) : otherwise;
}

/* ---- setting the stage ---- */

/* Nobody listens but to counters: it is not deliveries that are measured. */
static void meet(void)
{
    client_close(s.to);
    s.to = stage_client(&s, "listener");
    client_subscribe(s.to, COUNTERS, 0);
    asker_open(&a, (client_spec){.port = s.b.port, .id = "asker"});
}

static void set(long messages)
{
    char id[8];
    stage_prepare(&s, POLICY, ledger_conf(CONF_GUARDED, "ledger"));
    per_device = messages / DEVICES;
    for (int i = 0; i < DEVICES; i++) {
        snprintf(id, sizeof(id), "dev-%d", i);
        memset(&devices[i], 0, sizeof(devices[i]));
        speaker_make(&devices[i].who, id);
        record_add(&s.b, &devices[i].who.device);
        devices[i].sent_us = calloc((size_t)per_device, sizeof(uint64_t));
        CU_ASSERT_PTR_NOT_NULL_FATAL(devices[i].sent_us);
    }
    stage_open(&s);
    meet();
}

static void strike(void)
{
    for (int i = 0; i < DEVICES; i++) {
        speaker_wipe(&devices[i].who);
        free(devices[i].sent_us);
    }
    asker_close(&a);
    stage_strike(&s);
}

/* ---- sending ---- */

static const char *topic_of(long n)
{
    static const char *const topics[TOPICS] = {"t/one", "t/two", "t/three"};
    return topics[n % TOPICS];
}

static const char *site_of(long n)
{
    static const char *const sites[SITES] = {"s-0", "s-1", "s-2", "s-3", "s-4", "s-5", "s-6"};
    return sites[n % SITES];
}

/* Adds up to more than 64 bits. */
static int64_t large_of(long n)
{
    return INT64_MAX - n;
}

static sealed message_of(const device *d, long n)
{
    const pep_fact facts[] = {fact_int("n", n), fact_text("site", site_of(n)), fact_int("large", large_of(n)),
                              fact_int("run", run_number), fact_bool("even", n % 2 == 0)};
    return seal((seal_spec){.from = &d->who,
                            .topic = topic_of(n),
                            .signed_only = true,
                            .facts = facts,
                            .fact_n = sizeof(facts) / sizeof(facts[0])});
}

static void send_window(device *d)
{
    for (; d->waiting < WINDOW && d->sent < per_device; d->waiting++, d->sent++) {
        sealed e = message_of(d, d->sent);
        d->sent_us[d->sent] = pep_now_us();
        wire_publish(&d->w, (wire_message){.topic = topic_of(d->sent),
                                           .bytes = e.bytes,
                                           .n = e.n,
                                           .qos = 1,
                                           .mid = (uint16_t)(d->sent % WINDOW + 1)});
    }
}

/* False where the broker is gone. */
static bool take_answers(device *d)
{
    for (; d->waiting > 0; d->waiting--, d->acked++)
        if (!wire_answer(&d->w, WIRE_PUBACK, (uint16_t)(d->acked % WINDOW + 1), NULL))
            return false;
    return true;
}

static void connect_all(void)
{
    for (int i = 0; i < DEVICES; i++) {
        devices[i].w = wire_open((wire_spec){.port = s.b.port, .id = devices[i].who.device.id});
        devices[i].sent = devices[i].acked = devices[i].waiting = 0;
    }
}

/* The broker has work of the others while answers of one are read. */
static bool send_once(void)
{
    bool more = false;
    for (int i = 0; i < DEVICES; i++) {
        CU_ASSERT_TRUE(take_answers(&devices[i]));
        send_window(&devices[i]);
        more = more || devices[i].waiting > 0;
    }
    return more;
}

static void drop_all(void)
{
    for (int i = 0; i < DEVICES; i++)
        wire_drop(&devices[i].w);
}

/* ---- what there is ---- */

static void nothing_is_there_twice(void)
{
    CU_ASSERT_EQUAL(ledger_number(&s.b, "SELECT count(*) - count(DISTINCT signer || ' ' || seq) FROM pep_ledger"), 0);
}

static const char *wide_text(char out[48], wide number)
{
    char *at = out + 47;
    *at = '\0';
    bool negative = number < 0;
    for (number = negative ? -number : number; number > 0 || *at == '\0'; number /= 10)
        *--at = (char)('0' + (int)(number % 10));
    if (negative)
        *--at = '-';
    return at;
}

/* ---- sums ---- */

/* What a group must say: of the numbers that `belongs` names, of each device. */
typedef struct {
    long count;
    wide n, large;
    long first, last;
} expected;

static expected expect(long step, long begin, int devices_n)
{
    expected e = {.first = begin, .last = begin};
    for (long i = begin; i < per_device; i += step) {
        e.count++;
        e.n += i;
        e.large += large_of(i);
        e.last = i;
    }
    e.count *= devices_n;
    e.n *= devices_n;
    e.large *= devices_n;
    return e;
}

static bool says(const cJSON *group, const char *name, wide number)
{
    char text[48];
    const char *wanted = wide_text(text, number);
    bool same = strcmp(text_in(group, name), wanted) == 0;
    if (!same)
        fprintf(stderr, "%s: %s, expected %s\n", name, text_in(group, name), wanted);
    return same;
}

static void check_numbers(const cJSON *group, expected e)
{
    CU_ASSERT_EQUAL(number_in(group, "count"), (double)e.count);
    CU_ASSERT_EQUAL(number_in(group, "numbers"), (double)e.count);
    CU_ASSERT_TRUE(says(group, "sum", e.n));
    CU_ASSERT_TRUE(says(group, "min", e.first));
    CU_ASSERT_TRUE(says(group, "max", e.last));
}

static void check_large(const cJSON *group, expected e)
{
    CU_ASSERT_EQUAL(number_in(group, "count"), (double)e.count);
    CU_ASSERT_TRUE(says(group, "sum", e.large));
    CU_ASSERT_TRUE(says(group, "min", large_of(e.last)));
    CU_ASSERT_TRUE(says(group, "max", large_of(e.first)));
}

/* The groups of a sum, which the caller deletes. */
static const cJSON *groups_of(cJSON **answer, const char *members, int count)
{
    char command[512];
    snprintf(command, sizeof(command), "{\"command\":\"ledger.sum\",%s}", members);
    int64_t start = monotonic_ms();
    *answer = ledger_ask(&a, &s.c.bob, command);
    if (per_device * DEVICES > COUNT)
        printf("\n    %s: %d ms ", members, (int)(monotonic_ms() - start));
    const cJSON *groups = ledger_list(*answer, "groups");
    CU_ASSERT_EQUAL(cJSON_GetArraySize(groups), count);
    return groups == NULL ? NULL : groups->child;
}

static void each_device_is_whole(void)
{
    cJSON *answer;
    for (const cJSON *g = groups_of(&answer, "\"of\":\"n\",\"by\":[\"signer\"]", DEVICES); g != NULL; g = g->next)
        check_numbers(g, expect(1, 0, 1));
    cJSON_Delete(answer);
    for (const cJSON *g = groups_of(&answer, "\"of\":\"large\",\"by\":[\"signer\"]", DEVICES); g != NULL; g = g->next)
        check_large(g, expect(1, 0, 1));
    cJSON_Delete(answer);
}

static void each_topic_and_site_is_whole(void)
{
    cJSON *answer;
    for (const cJSON *g = groups_of(&answer, "\"of\":\"n\",\"by\":[\"topic\"]", TOPICS); g != NULL; g = g->next)
        for (long i = 0; i < TOPICS; i++)
            if (strcmp(text_in(g, "topic"), topic_of(i)) == 0)
                check_numbers(g, expect(TOPICS, i, DEVICES));
    cJSON_Delete(answer);
    const cJSON *first = groups_of(&answer, "\"of\":\"n\",\"by\":[\"field\"],\"byField\":\"site\"", SITES);
    for (const cJSON *g = first; g != NULL; g = g->next)
        for (long i = 0; i < SITES; i++)
            if (strcmp(text_in(g, "value"), site_of(i)) == 0)
                check_numbers(g, expect(SITES, i, DEVICES));
    cJSON_Delete(answer);
}

static void the_whole_is_whole(void)
{
    cJSON *answer;
    check_large(groups_of(&answer, "\"of\":\"large\"", 1), expect(1, 0, DEVICES));
    cJSON_Delete(answer);
    check_numbers(groups_of(&answer, "\"of\":\"n\",\"fields\":{\"even\":\"true\"}", 1), expect(2, 0, DEVICES));
    cJSON_Delete(answer);
    long minutes = 0;
    answer = ledger_ask(&a, &s.c.bob, "{\"command\":\"ledger.sum\",\"by\":[\"minute\"]}");
    const cJSON *groups = ledger_list(answer, "groups");
    for (const cJSON *g = groups == NULL ? NULL : groups->child; g != NULL; g = g->next)
        minutes += (long)number_in(g, "count");
    CU_ASSERT_EQUAL(minutes, per_device * DEVICES);
    cJSON_Delete(answer);
}

static void sums_are_exact(void)
{
    set(setting("PEP_LEDGER_COUNT", PATIENT ? COUNT / 10 : COUNT));
    int64_t start = monotonic_ms();
    connect_all();
    while (send_once())
        ;
    int64_t sent = monotonic_ms();
    CU_ASSERT_TRUE(ledger_settles(&a, &s.c.bob));
    printf("%ld messages sent in %d ms, recorded %d ms later ... ", per_device * DEVICES, (int)(sent - start),
           (int)(monotonic_ms() - sent));
    drop_all();
    each_device_is_whole();
    each_topic_and_site_is_whole();
    the_whole_is_whole();
    nothing_is_there_twice();
    CU_ASSERT_EQUAL(client_counter_reaches(s.to, "ledger/recorded", per_device * DEVICES), per_device * DEVICES);
    CU_ASSERT_EQUAL(client_counter(s.to, "ledger/dropped"), 0);
    strike();
}

/* ---- kill -9 ---- */

/* Below `limit`: the same ones in each run (xorshift32). */
static int chance(int limit)
{
    static uint32_t state = 1;
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return (int)(state % (uint32_t)limit);
}

static void send_for(int ms)
{
    int64_t deadline = monotonic_ms() + ms;
    while (remaining_ms(deadline) > 0)
        CU_ASSERT_TRUE(send_once());
}

/* How long it takes until all is on the disk, here and now: at most a few batches. */
static int commit_ms(void)
{
    int64_t start = monotonic_ms();
    CU_ASSERT_TRUE(ledger_settles(&a, &s.c.bob));
    return (int)(monotonic_ms() - start);
}

/* When it was killed. What it had answered until then was acknowledged, too. */
static uint64_t kill_in_the_midst(int *commit)
{
    send_for(RUN_MS);
    *commit = commit_ms();
    send_for(RUN_MS + chance(RUN_MS));
    uint64_t killed_us = pep_now_us();
    broker_kill(&s.b);
    for (int i = 0; i < DEVICES; i++)
        (void)take_answers(&devices[i]);
    drop_all();
    return killed_us;
}

static void start_again(void)
{
    asker_close(&a);
    client_close(s.to);
    CU_ASSERT_TRUE_FATAL(broker_start(&s.b));
    stage_listen(&s);
    meet();
}

/* How many of the device's messages of this run are there: the first ones, without a gap. */
static long found_of(const device *d)
{
    char command[256];
    snprintf(command, sizeof(command),
             "{\"command\":\"ledger.sum\",\"of\":\"n\",\"signer\":\"%s\",\"fields\":{\"run\":\"%d\"}}",
             d->who.device.id, run_number);
    cJSON *answer = ledger_ask(&a, &s.c.bob, command);
    const cJSON *groups = ledger_list(answer, "groups");
    const cJSON *group = groups == NULL ? NULL : groups->child;
    long found = group == NULL ? 0 : (long)number_in(group, "count");
    if (found > 0) {
        CU_ASSERT_TRUE(says(group, "min", 0));
        CU_ASSERT_TRUE(says(group, "max", found - 1));
        CU_ASSERT_TRUE(says(group, "sum", (wide)found * (found - 1) / 2));
    }
    cJSON_Delete(answer);
    return found;
}

/* The ms between the oldest acknowledged message that is lost and the kill. */
static int lost_of(device *d, uint64_t killed_us)
{
    long found = found_of(d);
    d->lost = d->acked > found ? d->acked - found : 0;
    return d->lost == 0 ? 0 : (int)((killed_us - d->sent_us[found]) / 1000);
}

static int worst, worst_commit;
static long lost, acked;

static void look_what_is_there(uint64_t killed_us, int commit)
{
    for (int i = 0; i < DEVICES; i++) {
        int ms = lost_of(&devices[i], killed_us);
        CU_ASSERT_TRUE(ms <= BOUND_MS + commit || PATIENT);
        worst = ms > worst ? ms : worst;
        lost += devices[i].lost;
        acked += devices[i].acked;
    }
    worst_commit = commit > worst_commit ? commit : worst_commit;
    nothing_is_there_twice();
}

static void a_kill_loses_a_moment(void)
{
    int commit;
    worst = worst_commit = 0;
    lost = acked = 0;
    set(1000000);
    for (run_number = 1; run_number <= setting("PEP_ROUNDS", PATIENT ? 1 : ROUNDS); run_number++) {
        connect_all();
        uint64_t killed_us = kill_in_the_midst(&commit);
        start_again();
        look_what_is_there(killed_us, commit);
    }
    printf("%d kills, %ld messages acknowledged, %ld of them lost, sent at most %d ms before (commits: %d ms) ... ",
           run_number - 1, acked, lost, worst, worst_commit);
    CU_ASSERT_TRUE(acked > 0 && lost > 0); /* else there was nothing to measure */
    strike();
}

static const unit_test TESTS[] = {
    {"sums are exact", sums_are_exact},
    {"a kill loses a moment", a_kill_loses_a_moment},
};

int main(void)
{
    if (!ledger_begin())
        return 1;
    int failed = ledger_run(false, "exact", TESTS, sizeof(TESTS) / sizeof(TESTS[0]));
    failed |= ledger_run(true, "exact", TESTS, sizeof(TESTS) / sizeof(TESTS[0]));
    ledger_end();
    return failed;
}
