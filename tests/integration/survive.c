/*
 * Promise: kill -9 in the midst of enrolments and rotations loses nothing that was acknowledged and leaves nothing half
 * done: each change that nobody was told of is there whole, or not at all.
 *
 * PEP_ROUNDS: how often the broker is killed (default 100, and 5 where everything is slow).
 */
#include "ask.h"
#include "tests/unit/unit.h"

#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

#define ROUNDS      100
#define ROUNDS_SLOW 5
#define CLIENTS     4
#define FRESH       4 /* devices that each client enrols in a round; then they are rotated in the next two */
#define MOMENT_MS   20
#define GENERATIONS 3
#define ROUND_SIZE  ((size_t)CLIENTS * FRESH)
#define CHUNK       256 /* that are looked up at once: more are too-many */

typedef struct {
    char id[16];
    member now;  /* as the directory must have it, where it does: `there` */
    member next; /* as it may have it, too, while a change is `asked` for */
    bool there;
    bool asked;
} actor;

static broker b;
static asker a[CLIENTS];
static actor *actors; /* in the order in which they were enrolled */
static size_t count;
static unsigned long kills, acknowledged, in_flight, in_flight_killed, done_in_flight;

static size_t rounds(void)
{
    const char *given = getenv("PEP_ROUNDS");
    if (given != NULL && *given != '\0')
        return (size_t)strtoul(given, NULL, 10);
    return patience_ms() > 10000 ? ROUNDS_SLOW : ROUNDS;
}

/* Below `limit`: the same ones in each run (xorshift32). */
static uint32_t chance(uint32_t limit)
{
    static uint32_t state = 1;
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return state % limit;
}

/* ---- asking ---- */

static sealed enrolment(const asker *by, const actor *x, const char *correlation)
{
    char json[PEP_COMMAND_JSON_MAX];
    const pep_view none = {NULL, 0};
    CU_ASSERT_EQUAL(
        pep_command_enroll(json, correlation, (pep_view){x->next.newest.bytes, x->next.newest.n}, none, none), PEP_OK);
    return command_seal(by, &x->next.who.device, json);
}

static sealed rotation(const asker *by, const actor *x, const char *correlation)
{
    char json[PEP_COMMAND_JSON_MAX];
    CU_ASSERT_EQUAL(
        pep_command_rotate(json, correlation, (pep_view){x->next.newest.bytes, x->next.newest.n}, (pep_view){NULL, 0}),
        PEP_OK);
    return command_seal(by, &x->now.who.device, json);
}

static void ask_for(const asker *by, size_t i)
{
    char correlation[32];
    actor *x = &actors[i];
    snprintf(correlation, sizeof(correlation), "%zu", i);
    if (x->there)
        member_turn(&x->next, &x->now, pep_now_us());
    else
        member_make(&x->next, x->id);
    sealed command = x->there ? rotation(by, x, correlation) : enrolment(by, x, correlation);
    x->asked = true;
    in_flight++;
    CU_ASSERT_EQUAL(client_publish(by->c, PEP_CONTROL_TOPIC, command.bytes, command.n, 0, false), REASON_SUCCESS);
}

static void add_actor(void)
{
    actor *x = &actors[count++];
    snprintf(x->id, sizeof(x->id), "d%06zu", count);
}

/* New devices, and those of the rounds before, spread over all clients, so that they are under way at the same time. */
static void ask_for_all(void)
{
    size_t first = count > ROUND_SIZE * (GENERATIONS - 1) ? count - ROUND_SIZE * (GENERATIONS - 1) : 0;
    for (size_t i = 0; i < ROUND_SIZE; i++)
        add_actor();
    for (size_t i = first; i < count; i++)
        ask_for(&a[i % CLIENTS], i);
}

/* ---- what was acknowledged ---- */

static void becomes(actor *x)
{
    if (x->there)
        member_wipe(&x->now);
    x->now = x->next;
    x->there = true;
    x->asked = false;
}

/* It did not come to that: the device asks anew, with other keys. */
static void drop_next(actor *x)
{
    member_wipe(&x->next);
    x->asked = false;
}

static void take_answer(const client_message *m)
{
    cJSON *answer = cJSON_Parse((const char *)m->bytes);
    const cJSON *r = cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(answer, "responses"), 0);
    const char *correlation = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(r, "correlationData"));
    size_t i = correlation != NULL ? (size_t)strtoul(correlation, NULL, 10) : count;
    bool good = i < count && actors[i].asked && cJSON_GetObjectItemCaseSensitive(r, "data") != NULL;
    CU_ASSERT_TRUE(good);
    if (good) {
        becomes(&actors[i]);
        acknowledged++;
        in_flight--;
    } else {
        fprintf(stderr, "unexpected: %s\n", (const char *)m->bytes);
    }
    cJSON_Delete(answer);
}

/* Waits for so many of them, at whichever client they come first. */
static void take_answers(unsigned long wanted)
{
    int64_t deadline = monotonic_ms() + patience_ms();
    unsigned long before = acknowledged;
    while (acknowledged - before < wanted && remaining_ms(deadline) > 0)
        for (size_t i = 0; i < CLIENTS; i++) {
            const client_message *m = client_next_within(a[i].c, 1);
            if (m != NULL)
                take_answer(m);
        }
    CU_ASSERT_TRUE(acknowledged - before >= wanted);
}

static void take_answers_for(int ms)
{
    int64_t deadline = monotonic_ms() + ms;
    for (const client_message *m; (m = client_next_within(a[0].c, remaining_ms(deadline))) != NULL;)
        take_answer(m);
}

/* What had been sent when the broker died was acknowledged, too. */
static void take_last_answers(void)
{
    for (size_t i = 0; i < CLIENTS; i++)
        for (const client_message *m; (m = client_next_within(a[i].c, patience_ms())) != NULL;)
            take_answer(m);
}

/* ---- what is there ---- */

/* A change that nobody was told of is there whole, or not at all; everything else is as it was acknowledged. */
static void settle(actor *x, pep_reason found, const sealed *entry)
{
    bool next = x->asked && found == PEP_OK && entry_is(entry, &x->next.newest);
    bool now = x->there ? found == PEP_OK && entry_is(entry, &x->now.newest) : found == PEP_UNKNOWN_ID;
    CU_ASSERT_TRUE(next || now);
    if (!next && !now)
        fprintf(stderr, "%s: neither what was acknowledged nor what was asked for\n", x->id);
    done_in_flight += next;
    if (next)
        becomes(x);
    else if (x->asked)
        drop_next(x);
}

static void settle_some(size_t first, size_t n)
{
    const char *ids[CHUNK];
    sealed entry;
    for (size_t i = 0; i < n; i++)
        ids[i] = actors[first + i].id;
    cJSON *answer = ask_lookup_all(&a[0], ids, n);
    CU_ASSERT_PTR_NOT_NULL(answer);
    for (size_t i = 0; answer != NULL && i < n; i++) {
        pep_reason found = ask_entry(answer, i, &entry);
        settle(&actors[first + i], found, &entry);
    }
    cJSON_Delete(answer);
}

static void settle_from(size_t first)
{
    for (; first < count; first += CHUNK)
        settle_some(first, count - first < CHUNK ? count - first : CHUNK);
}

/* ---- what lies in the file ---- */

static sqlite3 *open_file(void)
{
    sqlite3 *db = NULL;
    CU_ASSERT_EQUAL_FATAL(sqlite3_open_v2(broker_path(&b, "state/directory.db"), &db, SQLITE_OPEN_READONLY, NULL),
                          SQLITE_OK);
    sqlite3_busy_timeout(db, patience_ms());
    return db;
}

static sqlite3_stmt *prepare(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *q = NULL;
    CU_ASSERT_EQUAL_FATAL(sqlite3_prepare_v2(db, sql, -1, &q, NULL), SQLITE_OK);
    return q;
}

static const char *const HALF_STATES[] = {
    /* an id without exactly one head, or with one that is not the end of its chain */
    "SELECT count(*) FROM (SELECT DISTINCT id FROM statements) AS s"
    " WHERE (SELECT count(*) FROM keys WHERE keys.id = s.id AND head = 1) <> 1",
    "SELECT count(*) FROM keys AS k WHERE head = 1"
    " AND position <> (SELECT max(position) FROM statements WHERE statements.id = k.id)",
    /* a gap in a chain */
    "SELECT count(*) FROM (SELECT count(*) AS n, min(position) AS low, max(position) AS high FROM statements"
    " GROUP BY id) WHERE low <> 1 OR high <> n",
    "SELECT count(*) FROM statements WHERE version <> position",
    /* here each statement brings one signing and one agreement key */
    "SELECT count(*) FROM (SELECT id, count(*) AS n FROM statements GROUP BY id"
    " EXCEPT SELECT id, count(*) FROM keys GROUP BY id)",
    "SELECT count(*) FROM (SELECT id, count(*) AS n FROM statements GROUP BY id"
    " EXCEPT SELECT id, count(*) FROM agree_keys GROUP BY id)",
    "SELECT count(*) FROM keys WHERE id NOT IN (SELECT id FROM statements)",
    "SELECT count(*) FROM agree_keys WHERE id NOT IN (SELECT id FROM statements)",
    /* former keys are ended, heads are not */
    "SELECT count(*) FROM keys WHERE (head = 1) <> (state = 0)",
    /* the numbers that the directory counts by */
    "SELECT count(*) FROM meta WHERE name = 'ids' AND number <> (SELECT count(DISTINCT id) FROM statements)",
    "SELECT count(*) FROM meta WHERE name = 'change' AND number < (SELECT max(change) FROM keys)",
};

static void has_no_half_state(sqlite3 *db)
{
    for (size_t i = 0; i < sizeof(HALF_STATES) / sizeof(HALF_STATES[0]); i++) {
        sqlite3_stmt *q = prepare(db, HALF_STATES[i]);
        CU_ASSERT_EQUAL(sqlite3_step(q), SQLITE_ROW);
        int wrong = sqlite3_column_int(q, 0);
        CU_ASSERT_EQUAL(wrong, 0);
        if (wrong != 0)
            fprintf(stderr, "%d: %s\n", wrong, HALF_STATES[i]);
        sqlite3_finalize(q);
    }
}

static void is_whole(sqlite3 *db)
{
    sqlite3_stmt *q = prepare(db, "PRAGMA integrity_check");
    CU_ASSERT_EQUAL(sqlite3_step(q), SQLITE_ROW);
    CU_ASSERT_STRING_EQUAL(sqlite3_column_text(q, 0), "ok");
    sqlite3_finalize(q);
}

/* Each statement is valid, has the hash that stands beside it, and names that of the one before it. */
static void chains_hold(sqlite3 *db, const char *from_id)
{
    uint8_t before[PEP_SHA256_BYTES] = {0};
    sqlite3_stmt *q = prepare(db, "SELECT position, hash, bytes FROM statements WHERE id >= ? ORDER BY id, position");
    sqlite3_bind_text(q, 1, from_id, -1, SQLITE_STATIC);
    while (sqlite3_step(q) == SQLITE_ROW) {
        pep_statement s;
        CU_ASSERT_EQUAL(pep_statement_parse(&s, sqlite3_column_blob(q, 2), (size_t)sqlite3_column_bytes(q, 2)), PEP_OK);
        CU_ASSERT_EQUAL(sqlite3_column_bytes(q, 1), PEP_SHA256_BYTES);
        CU_ASSERT_EQUAL(memcmp(s.hash, sqlite3_column_blob(q, 1), PEP_SHA256_BYTES), 0);
        if (sqlite3_column_int(q, 0) > 1)
            CU_ASSERT_EQUAL(memcmp(s.previous, before, PEP_SHA256_BYTES), 0);
        memcpy(before, s.hash, PEP_SHA256_BYTES);
    }
    sqlite3_finalize(q);
}

static void check_file(size_t first)
{
    sqlite3 *db = open_file();
    is_whole(db);
    has_no_half_state(db);
    chains_hold(db, first < count ? actors[first].id : "");
    CU_ASSERT_EQUAL(sqlite3_close(db), SQLITE_OK);
}

/* ---- rounds ---- */

static void connect_all(void)
{
    asker_open(&a[0], (client_spec){.port = b.port});
    for (size_t i = 1; i < CLIENTS; i++) {
        a[i] = a[0];
        a[i].c = client_open((client_spec){.port = b.port});
    }
}

static void close_all(void)
{
    for (size_t i = 0; i < CLIENTS; i++)
        asker_close(&a[i]);
}

/* The first of those that were asked for something in the last round. */
static size_t last_round(void)
{
    return count > ROUND_SIZE * GENERATIONS ? count - ROUND_SIZE * GENERATIONS : 0;
}

static void restart_and_check(size_t first)
{
    CU_ASSERT_TRUE_FATAL(broker_start(&b));
    connect_all();
    settle_from(first);
    check_file(first);
}

/* Acknowledgements come together; a few ms are amid a transaction, and before any. */
static void kill_in_the_midst(void)
{
    ask_for_all();
    if (chance(3) > 0)
        take_answers(chance((uint32_t)in_flight + 1));
    else
        take_answers_for((int)chance(MOMENT_MS));
    broker_kill(&b);
    kills++;
    take_last_answers();
    in_flight_killed += in_flight;
    in_flight = 0;
    close_all();
}

static void set(void)
{
    CU_ASSERT_EQUAL(pep_init(), PEP_OK);
    broker_make(&b);
    broker_write(&b, "policy.conf", OPEN_POLICY);
    broker_write(&b, "mosquitto.conf", CONF_ENROLLING);
    actors = calloc(ROUND_SIZE * (rounds() + 1), sizeof(*actors));
    CU_ASSERT_PTR_NOT_NULL_FATAL(actors);
}

static void strike(void)
{
    close_all();
    broker_drop(&b);
    for (size_t i = 0; i < count; i++)
        if (actors[i].there)
            member_wipe(&actors[i].now);
    free(actors);
}

static void kill_9_loses_nothing(void)
{
    set();
    for (size_t i = 0; i < rounds(); i++) {
        restart_and_check(last_round());
        kill_in_the_midst();
    }
    restart_and_check(0);
    printf("%lu kills, %lu changes acknowledged, %lu under way when killed, %lu of these done ...", kills, acknowledged,
           in_flight_killed, done_in_flight);
    CU_ASSERT_TRUE(acknowledged > 0 && in_flight_killed > 0);
    strike();
}

static const unit_test TESTS[] = {
    {"kill -9 loses nothing", kill_9_loses_nothing},
};
UNIT_MAIN("survive", TESTS)
