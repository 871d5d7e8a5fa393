/* Opening, closing, what waits to be written, and what is done on a tick. */
#include "ledger/ledger.h"

#include <inttypes.h>
#include <poll.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "envelope/error.h"
#include "ledger/internal.h"
#include "ledger/tables.h"

#define LINE_BYTES 1024
#define TELL_US    60000000 /* between two lines about what is dropped */

typedef struct purge_job {
    store_job job;
    ledger *l;
    uint64_t erased;
} purge_job;

void ledger_say(ledger *l, char level, const char *format, ...)
{
    char line[LINE_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    l->hooks.log(l->hooks.ctx, level, line);
}

uint64_t ledger_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* ---- lists of batches ---- */

static void push(batch_list *list, batch *b)
{
    b->next = NULL;
    if (list->last == NULL)
        list->first = b;
    else
        list->last->next = b;
    list->last = b;
}

static batch *pop(batch_list *list)
{
    batch *b = list->first;
    if (b == NULL)
        return NULL;
    list->first = b->next;
    if (list->first == NULL)
        list->last = NULL;
    return b;
}

/* ---- writing ---- */

static void forget_batch(batch *b)
{
    ledger *l = b->l;
    l->rows -= b->rows;
    l->bytes -= b->n;
    if (l->spare == NULL)
        l->spare = b;
    else
        free(b);
}

static void tell_failure(ledger *l)
{
    store_error why;
    if (l->failing)
        return;
    l->failing = true;
    store_worker_why(l->writer, &why);
    ledger_say(l, 'e',
               "the ledger's store refuses what is to be recorded: it waits in memory, and is tried again: %.700s",
               why.text);
}

/* Whatever the store has against a row, it would have against it again. */
static void tell_lost(ledger *l, const batch *b)
{
    if (b->lost > 0)
        ledger_say(l, 'e', "messages that asked to be recorded and that the store refused for good: %u: %s", b->lost,
                   b->why);
    l->told_dropped += b->lost;
}

static void tell_recovery(ledger *l)
{
    if (l->failing)
        ledger_say(l, 'n', "the ledger's store takes what is to be recorded again");
    l->failing = false;
}

static void batch_done(store_job *job)
{
    batch *b = (batch *)job;
    ledger *l = b->l;
    if (job->result == STORE_OK) {
        l->counters.recorded += b->rows - b->lost;
        l->counters.dropped += b->lost;
        tell_lost(l, b);
        tell_recovery(l);
        forget_batch(b);
        return;
    }
    bool one_row = job->result == STORE_FAILED && b->tries == 0; /* perhaps: then the others go by themselves */
    b->tries += job->result == STORE_FAILED;
    if (!one_row && job->result != STORE_AWAY)
        tell_failure(l);
    push(&l->held, b);
    l->retry_us = one_row ? 0 : ledger_us() + RETRY_US;
}

/* In their order, and as long as the store takes them. */
static void retry(ledger *l)
{
    if (l->held.first == NULL || ledger_us() < l->retry_us || store_worker_counted(l->writer).away)
        return;
    for (batch *b; (b = pop(&l->held)) != NULL;)
        if (!store_worker_add(l->writer, &b->job)) {
            push(&l->held, b);
            l->retry_us = ledger_us() + RETRY_US;
            return;
        }
}

static void hand_over(ledger *l)
{
    batch *b = l->open;
    l->open = NULL;
    if (b == NULL)
        return;
    if (l->held.first != NULL || !store_worker_add(l->writer, &b->job))
        push(&l->held, b);
}

bool ledger_hand_over(ledger *l)
{
    hand_over(l);
    return l->held.first == NULL;
}

static batch *new_batch(ledger *l)
{
    batch *b = l->spare != NULL ? l->spare : malloc(sizeof *b);
    l->spare = NULL;
    if (b == NULL)
        return NULL;
    b->job = (store_job){.work = batch_work, .done = batch_done};
    b->l = l;
    b->id = (int64_t)((uint64_t)randombytes_random() << 31 | randombytes_random() >> 1);
    b->begun_us = ledger_us();
    b->tries = b->rows = b->lost = 0;
    b->n = 0;
    return b;
}

static bool add(ledger *l, const ledger_entry *e)
{
    if (l->open == NULL)
        l->open = new_batch(l);
    return l->open != NULL && batch_add(l->open, e);
}

void ledger_record(ledger *l, const ledger_entry *e)
{
    bool room = l->rows < LEDGER_ROWS_MAX && l->bytes < LEDGER_BYTES_MAX;
    size_t before = l->open == NULL ? 0 : l->open->n;
    bool added = room && add(l, e);
    if (room && !added && l->open != NULL) {
        hand_over(l);
        before = 0;
        added = add(l, e);
    }
    if (!added) {
        l->counters.dropped++;
        return;
    }
    l->rows++;
    l->bytes += l->open->n - before;
}

bool ledger_has_room(const ledger *l)
{
    return l->rows < LEDGER_ROWS_MAX && l->bytes < LEDGER_BYTES_MAX && !l->away && !l->failing;
}

/*
 * In the writer's thread. Whoever reads without a pause keeps the write-ahead log from being cut, with what was erased
 * in it; so from time to time the reader has to wait.
 */
static void followed(void *ctx, store *s, bool committed)
{
    ledger *l = ctx;
    bool scrubbed;
    uint64_t now = ledger_us();
    if (!committed || (!atomic_load(&l->dirty) && now < l->cut_us))
        return;
    bool done = store_scrub(s, &scrubbed) == STORE_OK;
    if (done) {
        atomic_store(&l->dirty, false);
        l->cut_us = now + CUT_US;
    }
    atomic_store(&l->waits_for_reader, !done);
}

/* In the reader's thread, between two questions. */
static void let_write(void *ctx)
{
    ledger *l = ctx;
    for (int ms = 0; ms < LET_WRITE_MS && atomic_load(&l->waits_for_reader); ms += 5)
        poll(NULL, 0, 5);
}

/* ---- what ends by itself ---- */

static store_result purge_work(store_job *job, store *s)
{
    purge_job *p = (purge_job *)job;
    store_result result = purge(s, pep_now_us(), &p->erased);
    if (p->erased > 0)
        atomic_store(&p->l->dirty, true);
    return result;
}

/* Whole pages come one behind the other; what is recorded goes between them. */
static void purge_done(store_job *job)
{
    purge_job *p = (purge_job *)job;
    ledger *l = p->l;
    bool more = job->result == STORE_OK && p->erased == PURGE_ROWS;
    l->counters.erased += job->result == STORE_OK ? p->erased : 0;
    if (more && !l->closing && store_worker_add_later(l->writer, job))
        return;
    l->purging = NULL;
    l->purge_us = ledger_us() + PURGE_US;
    free(p);
}

static void start_purge(ledger *l)
{
    if (l->purging != NULL || ledger_us() < l->purge_us || l->away)
        return;
    purge_job *p = calloc(1, sizeof *p);
    if (p == NULL)
        return;
    p->job = (store_job){.work = purge_work, .done = purge_done};
    p->l = l;
    if (store_worker_add_later(l->writer, &p->job))
        l->purging = p;
    else
        free(p);
}

/* ---- ticks ---- */

static void watch(ledger *l)
{
    store_error why;
    bool away = store_worker_counted(l->writer).away;
    if (away == l->away)
        return;
    l->away = away;
    if (!away) {
        ledger_say(l, 'n', "the ledger's store can be reached again");
        return;
    }
    store_worker_why(l->writer, &why);
    ledger_say(l, 'w', "the ledger's store cannot be reached: what is to be recorded waits in memory: %.700s",
               why.text);
}

static void tell_dropped(ledger *l)
{
    uint64_t now = ledger_us();
    if (l->counters.dropped == l->told_dropped || now < l->told_us)
        return;
    ledger_say(l, 'w', "messages that asked to be recorded and were not: %" PRIu64,
               l->counters.dropped - l->told_dropped);
    l->told_dropped = l->counters.dropped;
    l->told_us = now + TELL_US;
}

/* While others wait it is filled first: a hundred thousand small ones would take far more memory. */
static bool is_due(const ledger *l)
{
    bool others_wait = l->away || l->held.first != NULL;
    return l->open != NULL && !others_wait && ledger_us() - l->open->begun_us >= BATCH_AGE_US;
}

bool ledger_tick(ledger *l, uint64_t us)
{
    size_t left = store_worker_drain(l->writer, us) + store_worker_drain(l->reader, us);
    watch(l);
    retry(l);
    if (is_due(l))
        hand_over(l);
    start_purge(l);
    forget_tick(l);
    tell_dropped(l);
    return left > 0 || l->asked > 0;
}

ledger_counters ledger_counted(const ledger *l)
{
    ledger_counters counters = l->counters;
    counters.waiting = l->rows;
    counters.away = l->away || l->failing;
    return counters;
}

/* ---- opening and closing ---- */

static store_worker *start_worker(const char *url, pep_error *error, bool read_only, const store_worker_hooks *hooks,
                                  bool *scrubs)
{
    store_result result;
    store_error why;
    store_schema schema = ledger_schema(read_only);
    store *s = store_open_schema(&result, &why, url, &schema);
    if (s == NULL) {
        (void)pep_fail(error, PEP_STORE_FAILED, "%s", why.text);
        return NULL;
    }
    *scrubs = strcmp(store_kind(s), "sqlite") == 0;
    store_worker *w = store_worker_start(s, hooks);
    if (w != NULL)
        return w;
    (void)pep_fail(error, PEP_NO_MEMORY, "cannot start the ledger's threads");
    store_close(s);
    return NULL;
}

ledger *ledger_open(pep_error *error, const char *url, const uint8_t gate[PEP_KID_BYTES], const ledger_hooks *hooks)
{
    ledger *l = calloc(1, sizeof *l);
    if (l == NULL) {
        (void)pep_fail(error, PEP_NO_MEMORY, "out of memory");
        return NULL;
    }
    const store_worker_hooks writes = {.ctx = l, .followed = followed};
    const store_worker_hooks reads = {
        .ctx = l, .before = let_write, .batch_ms = 1}; /* none waits for another's answer */
    l->hooks = *hooks;
    memcpy(l->gate, gate, sizeof l->gate);
    l->writer = start_worker(url, error, false, &writes, &l->scrubs);
    atomic_store(&l->dirty, l->scrubs); /* what an earlier broker deleted may be on the disk */
    if (l->writer != NULL)
        l->reader = start_worker(url, error, true, &reads, &l->scrubs);
    if (l->reader != NULL)
        return l;
    ledger_close(l);
    return NULL;
}

static void drop_held(ledger *l)
{
    for (batch *b; (b = pop(&l->held)) != NULL;) {
        l->counters.dropped += b->rows;
        forget_batch(b);
    }
    if (l->counters.dropped > l->told_dropped)
        ledger_say(l, 'w', "messages that asked to be recorded and were not: %" PRIu64,
                   l->counters.dropped - l->told_dropped);
}

void ledger_close(ledger *l)
{
    if (l == NULL)
        return;
    l->closing = true;
    if (l->writer != NULL) {
        l->retry_us = 0;
        retry(l);
        hand_over(l);
    }
    store_worker_interrupt(l->reader);
    store_worker_stop(l->reader);
    store_worker_stop(l->writer);
    forget_tick(l);
    drop_held(l);
    free(l->spare);
    free(l);
}
