/*
 * The ledger with many rows, through its own interface, as the plugin drives it.
 *
 *   bench_ledger URL fill COUNT      records COUNT messages of 1,000 devices on 300 topics, over 100 days
 *   bench_ledger URL ask COUNT       asks about them, ROUNDS times, and prints the medians
 *   bench_ledger URL erase COUNT     forgets some, and lets others end
 *
 * Prints lines "what name figures..." for ledger.awk. Answers are counted from the question's JSON to the answer's.
 */
#include "ledger/ledger.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "directory/internal.h"
#include "directory/json.h"
#include "ledger/tables.h"
#include "measure.h"
#include "store/store.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#define DEVICES     1000
#define PLANTS      20UL
#define LINES       15UL
#define BEGIN_US    ((uint64_t)1700000000000000)
#define SPAN_US     ((uint64_t)100 * 86400000000)
#define KEEP_US     (365 * SPAN_US) /* nothing of it ends while we look */
#define TOUCHED     100000          /* rows that a question with a time touches at most */
#define ROUNDS      5
#define WAITING_MAX 50000 /* rows; at 100,000 the ledger drops them */
#define ENDING      100000

typedef struct {
    ledger *l;
    const char *url;
    uint64_t count;
    char *answered; /* the last answer; NULL: none yet */
    size_t answered_n;
} bench;

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "bench_ledger: %s\n", what);
    exit(3);
}

/* ---- the ledger ---- */

static void take_answer(void *ctx, directory_request *request, const char *json, size_t n)
{
    bench *b = ctx;
    if (json == NULL)
        die("there is no memory for an answer");
    b->answered = strdup(json);
    b->answered_n = n;
    cJSON_Delete(request->command);
    free(request);
}

static void take_line(void *ctx, char level, const char *line)
{
    (void)ctx;
    if (level == 'e' || level == 'w')
        fprintf(stderr, "%c: %s\n", level, line);
}

static void open_ledger(bench *b)
{
    static const uint8_t gate[PEP_KID_BYTES] = "bench";
    const ledger_hooks hooks = {b, take_answer, take_line};
    pep_error why = {""};
    b->l = ledger_open(&why, b->url, gate, &hooks);
    if (b->l == NULL)
        die(why.text);
}

static void tick(bench *b)
{
    ledger_tick(b->l, 100000);
    poll(NULL, 0, 1);
}

/* ---- filling ---- */

/* The same numbers every time (splitmix64). */
static uint64_t draw(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15ULL);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
}

static pep_view view_of(const char *text)
{
    return (pep_view){(const uint8_t *)text, strlen(text)};
}

static pep_view facts_of(uint8_t out[PEP_FACTS_MAX], uint64_t random)
{
    char site[16];
    pep_view facts = {out, 0};
    snprintf(site, sizeof site, "site-%u", (unsigned)(random % 10));
    const pep_fact all[] = {
        {.key = view_of("temp"), .type = PEP_FACT_INT, .integer = (int64_t)(random >> 8) % 1000 - 100},
        {.key = view_of("site"), .type = PEP_FACT_TEXT, .text = view_of(site)},
        {.key = view_of("alarm"), .type = PEP_FACT_BOOL, .integer = (random >> 32) % 50 == 0},
    };
    if (pep_facts_encode(out, &facts.n, all, COUNT(all)) != PEP_OK)
        die("cannot encode facts");
    return facts;
}

static void record(bench *b, uint64_t random, uint64_t time_us, uint64_t keep_us)
{
    char topic[64];
    char id[16];
    uint8_t facts[PEP_FACTS_MAX];
    uint8_t kid[PEP_KID_BYTES] = {0};
    uint64_t device = random % DEVICES;
    uint64_t place = (random >> 16) % (PLANTS * LINES);
    snprintf(topic, sizeof topic, "plant/%u/line/%u/state", (unsigned)(place % PLANTS), (unsigned)(place / PLANTS));
    snprintf(id, sizeof id, "dev-%04u", (unsigned)device);
    memcpy(kid, &device, sizeof device);
    const ledger_entry entry = {.time_us = time_us,
                                .topic = topic,
                                .topic_n = strlen(topic),
                                .signer = id,
                                .kid = kid,
                                .seq = time_us,
                                .size = 480,
                                .payload_n = 256,
                                .facts = facts_of(facts, random >> 20),
                                .keep_us = keep_us};
    ledger_record(b->l, &entry);
}

static void wait_written(bench *b, uint64_t waiting)
{
    while (ledger_counted(b->l).waiting > waiting)
        tick(b);
    if (ledger_counted(b->l).dropped > 0)
        die("rows were dropped");
}

static bool take_number(void *ctx, const store_value *columns, size_t n)
{
    *(int64_t *)ctx = n == 1 ? columns[0].number : 0;
    return false;
}

static double stored_mb(const bench *b)
{
    store_result result;
    store_error error;
    int64_t bytes = 0;
    store_schema schema = ledger_schema(true);
    store *s = store_open_schema(&result, &error, b->url, &schema);
    if (s == NULL)
        die(error.text);
    bool sqlite = strcmp(store_kind(s), "sqlite") == 0;
    result = store_run(s,
                       sqlite ? "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
                              : "SELECT pg_database_size(current_database())",
                       NULL, 0, take_number, &bytes);
    if (result != STORE_OK)
        die(store_why(s));
    store_close(s);
    return (double)bytes / 1e6;
}

static void fill(bench *b)
{
    uint64_t state = 1;
    double started = wall_us();
    double cpu = cpu_us();
    for (uint64_t i = 0; i < b->count; i++) {
        record(b, draw(&state), BEGIN_US + i * (SPAN_US / b->count), KEEP_US);
        if (i % 1000 == 0)
            wait_written(b, WAITING_MAX);
    }
    wait_written(b, 0);
    double took = wall_us() - started;
    cpu = cpu_us() - cpu;
    printf("fill rows %.0f %.2f %.0f %.0f\n", (double)b->count / (took / 1e6), cpu / (double)b->count, took / 1e6,
           stored_mb(b));
}

/* ---- asking ---- */

/* The time that is asked about: all; TOUCHED rows, or a tenth where these are more; a hundredth of TOUCHED. */
typedef enum { ALWAYS, MANY, FEW } span;

typedef struct {
    const char *name, *command, *members;
    span when;
    bool pages; /* all of them */
    bool full;  /* it touches all rows */
} question;

static const question questions[] = {
    {"newest-page", "query", "\"newest\":true,\"count\":1000", ALWAYS, false, false},
    {"page-of-time", "query", "\"count\":1000", MANY, false, false},
    {"all-pages-of-time", "query", "\"count\":1000", MANY, true, false},
    {"page-of-signer", "query", "\"signer\":\"dev-0123\",\"count\":1000", ALWAYS, false, false},
    {"page-of-signer-newest", "query", "\"signer\":\"dev-0123\",\"count\":1000,\"newest\":true", ALWAYS, false, false},
    {"page-of-signer-few", "query", "\"signer\":\"dev-0123\",\"count\":1000", FEW, false, false},
    {"page-of-topic", "query", "\"topic\":\"plant/7/line/3/state\",\"count\":1000", ALWAYS, false, false},
    {"page-of-topic-few", "query", "\"topic\":\"plant/7/line/3/state\",\"count\":1000", FEW, false, false},
    {"page-of-both", "query", "\"topic\":\"plant/7/line/3/state\",\"signer\":\"dev-0123\",\"count\":1000", ALWAYS,
     false, false},
    {"page-of-filter", "query", "\"topic\":\"plant/7/+/3/state\",\"count\":1000", MANY, false, false},
    {"all-pages-of-filter", "query", "\"topic\":\"plant/7/#\",\"count\":1000", MANY, true, false},
    {"page-of-field", "query", "\"fields\":{\"site\":\"site-3\"},\"count\":1000", MANY, false, false},
    {"all-pages-of-rare", "query", "\"fields\":{\"temp\":\"123\",\"site\":\"site-3\"},\"count\":1000", MANY, true,
     false},
    {"page-of-nobody", "query", "\"signer\":\"nobody\",\"count\":1000", ALWAYS, false, false},
    {"count-of-time", "sum", "", MANY, false, false},
    {"sum-of-time", "sum", "\"of\":\"temp\"", MANY, false, false},
    {"sum-of-signer", "sum", "\"of\":\"temp\",\"signer\":\"dev-0123\"", ALWAYS, false, false},
    {"sum-of-topic", "sum", "\"of\":\"temp\",\"topic\":\"plant/7/line/3/state\"", ALWAYS, false, false},
    {"sum-of-topic-few", "sum", "\"of\":\"temp\",\"topic\":\"plant/7/line/3/state\"", FEW, false, false},
    {"sum-of-filter", "sum", "\"of\":\"temp\",\"topic\":\"plant/7/#\"", MANY, false, false},
    {"sum-of-field", "sum", "\"of\":\"temp\",\"fields\":{\"site\":\"site-3\"}", MANY, false, false},
    {"sum-by-both-of-time", "sum", "\"of\":\"temp\",\"by\":[\"hour\",\"field\"],\"byField\":\"site\"", MANY, false,
     false},
    {"count", "sum", "", ALWAYS, false, true},
    {"sum", "sum", "\"of\":\"temp\"", ALWAYS, false, true},
    {"sum-by-topic", "sum", "\"of\":\"temp\",\"by\":[\"topic\"]", ALWAYS, false, true},
    {"sum-by-signer", "sum", "\"of\":\"temp\",\"by\":[\"signer\"]", ALWAYS, false, true},
    {"sum-by-hour", "sum", "\"of\":\"temp\",\"by\":[\"hour\"]", ALWAYS, false, true},
    {"sum-by-value", "sum", "\"of\":\"temp\",\"by\":[\"field\"],\"byField\":\"site\"", ALWAYS, false, true},
    {"count-by-topic", "sum", "\"by\":[\"topic\"]", ALWAYS, false, true},
    {"count-by-day", "sum", "\"by\":[\"day\"]", ALWAYS, false, true},
    {"count-of-filter", "sum", "\"topic\":\"plant/7/#\"", ALWAYS, false, true},
    {"count-of-field", "sum", "\"fields\":{\"site\":\"site-3\"}", ALWAYS, false, true},
};

static void ask(bench *b, const char *json)
{
    static control_client asker; /* who never goes */
    directory_request *r = calloc(1, sizeof *r);
    if (r == NULL || (r->command = json_parse((const uint8_t *)json, strlen(json))) == NULL)
        die(json);
    r->asker = &asker;
    r->admin = true;
    snprintf(r->id, sizeof r->id, "admin");
    free(b->answered);
    b->answered = NULL;
    ledger_ask(b->l, r);
    while (b->answered == NULL) {
        ledger_tick(b->l, 100000);
        nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
    }
    if (strstr(b->answered, "\"error\":") != NULL)
        die(b->answered);
}

static void write_command(const bench *b, char *out, size_t cap, const question *q, const char *after)
{
    uint64_t from = BEGIN_US + SPAN_US / 2;
    uint64_t rows = q->when == MANY ? TOUCHED : TOUCHED / 100;
    uint64_t time = rows < b->count / 10 ? SPAN_US / b->count * rows : SPAN_US / 10;
    char times[96] = "";
    if (q->when != ALWAYS)
        snprintf(times, sizeof times, ",\"from\":%" PRIu64 ",\"to\":%" PRIu64, from, from + time);
    snprintf(out, cap, "{\"command\":\"ledger.%s\"%s%s%s%s%s%s}", q->command, times, q->members[0] == '\0' ? "" : ",",
             q->members, after[0] == '\0' ? "" : ",\"after\":\"", after, after[0] == '\0' ? "" : "\"");
}

/* The answer's cursor, which stands at its end; empty: there are no more. */
static void read_next(const bench *b, char out[64])
{
    const char *end = b->answered + (b->answered_n < 80 ? 0 : b->answered_n - 80);
    const char *next = strstr(end, "\"next\":\"");
    out[0] = '\0';
    if (next != NULL)
        sscanf(next, "\"next\":\"%63[0-9.]", out);
}

static unsigned rows_in(const char *answer)
{
    unsigned n = 0;
    while ((answer = strstr(answer, "\"kid\":")) != NULL) {
        answer++;
        n++;
    }
    return n;
}

typedef struct {
    double ms[ROUNDS], cpu_ms[ROUNDS]; /* of this process: with PostgreSQL it is the server that works */
    unsigned rows, pages;              /* answered */
} timing;

static void time_one(bench *b, timing *t, unsigned round, const question *q)
{
    char json[1024];
    char after[64] = "";
    t->rows = t->pages = 0;
    t->ms[round] = t->cpu_ms[round] = 0;
    do {
        write_command(b, json, sizeof json, q, after);
        double started = wall_us();
        double cpu = cpu_us();
        ask(b, json);
        t->ms[round] += (wall_us() - started) / 1e3;
        t->cpu_ms[round] += (cpu_us() - cpu) / 1e3;
        t->rows += rows_in(b->answered);
        t->pages++;
        read_next(b, after);
    } while (q->pages && after[0] != '\0');
}

static void ask_all(bench *b, const char *only)
{
    static timing t[COUNT(questions)];
    for (unsigned round = 0; round < ROUNDS; round++)
        for (size_t i = 0; i < COUNT(questions); i++)
            if (only == NULL || strstr(questions[i].name, only) != NULL)
                time_one(b, &t[i], round, &questions[i]);
    for (size_t i = 0; i < COUNT(questions); i++)
        if (t[i].pages > 0)
            printf("%s %s %u %u %.2f %.2f %.2f\n", questions[i].full ? "full" : "ask", questions[i].name, t[i].rows,
                   t[i].pages, median(t[i].cpu_ms, ROUNDS), median(t[i].ms, ROUNDS), percentile(t[i].ms, ROUNDS, 1));
}

/* ---- erasing ---- */

static void forget(bench *b, const char *name, const char *members)
{
    char json[256];
    snprintf(json, sizeof json, "{\"command\":\"ledger.forget\",%s}", members);
    double started = wall_us();
    ask(b, json);
    double took = wall_us() - started;
    const char *count = strstr(b->answered, "\"count\":");
    double rows = count == NULL ? 0 : strtod(count + strlen("\"count\":"), NULL);
    printf("erase %s %.0f %.0f %.1f\n", name, rows, rows / (took / 1e6), took / 1e6);
}

/* What is recorded and has ended already is erased as soon as the ledger looks. */
static void let_end(bench *b)
{
    uint64_t state = 2;
    uint64_t before = ledger_counted(b->l).erased;
    for (unsigned i = 0; i < ENDING; i++) {
        record(b, draw(&state), BEGIN_US + i * (SPAN_US / ENDING), 1);
        if (i % 1000 == 0)
            wait_written(b, WAITING_MAX);
    }
    wait_written(b, 0);
    double started = wall_us();
    uint64_t done = ledger_counted(b->l).erased - before;
    while (ledger_counted(b->l).erased - before < ENDING)
        tick(b);
    double took = wall_us() - started;
    printf("erase ended %u %.0f %.1f\n", ENDING, (double)(ENDING - done) / (took / 1e6), took / 1e6);
}

static void erase(bench *b)
{
    char before[64];
    uint64_t rows = TOUCHED < b->count / 10 ? TOUCHED : b->count / 10;
    snprintf(before, sizeof before, "\"before\":%" PRIu64, (uint64_t)(BEGIN_US + SPAN_US / b->count * rows));
    forget(b, "before", before);
    forget(b, "signer", "\"signer\":\"dev-0123\"");
    forget(b, "topic", "\"topic\":\"plant/7/line/3/state\"");
    let_end(b);
}

int main(int count, char **args)
{
    bench b = {.url = count < 4 ? "" : args[1], .count = count < 4 ? 0 : strtoull(args[3], NULL, 10)};
    if (b.count < DEVICES || count > 5) {
        fputs("usage: bench_ledger URL fill|ask|erase COUNT [PART OF A QUESTION'S NAME]\n", stderr);
        return 2;
    }
    if (pep_init() != PEP_OK)
        die("cannot start libsodium");
    open_ledger(&b);
    if (strcmp(args[2], "fill") == 0)
        fill(&b);
    else if (strcmp(args[2], "ask") == 0)
        ask_all(&b, count == 5 ? args[4] : NULL);
    else
        erase(&b);
    ledger_close(b.l);
    free(b.answered);
    return 0;
}
