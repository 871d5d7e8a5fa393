/*
 * What is retained in the broker: the gate's own entry, and one for each device. The store knows which topics those
 * are before anything is published there, so that whatever a crash or a removed device leaves behind is cleared.
 */
#include <stdlib.h>
#include <string.h>

#include "directory/internal.h"

#define RETRY_MS 1000

/* How many are published at once: each goes to whoever subscribed, and everybody else waits. */
#define SERVE_ROWS     25
#define SERVE_ROWS_MAX 250 /* where the broker has nothing else to do, and so ticks seldom */
#define SERVE_EACH_MS  10

static void topic_of(char out[TOPIC_BYTES], const char *id)
{
    size_t n = strlen(id);
    memcpy(out, PEP_KEYS_TOPIC, sizeof PEP_KEYS_TOPIC - 1);
    memcpy(out + sizeof PEP_KEYS_TOPIC - 1, id, n + 1);
}

/* The id that a topic is about, NULL where it is about none. */
static const char *id_of(const char *topic)
{
    size_t n = sizeof PEP_KEYS_TOPIC - 1;
    return strncmp(topic, PEP_KEYS_TOPIC, n) == 0 && strlen(topic) < TOPIC_BYTES ? topic + n : NULL;
}

/* ---- the worker's thread: entries to publish ---- */

typedef struct {
    registrar *r;
    news_item *first;
    news_item **last;
    size_t count;
    bool failed;
} gathering;

static bool gather(void *ctx, const key_row *row, const statement_row *statement)
{
    gathering *g = ctx;
    uint8_t entry[PEP_ENTRY_BYTES_MAX];
    size_t entry_n = 0;
    if (statement != NULL && row->head && registrar_settings(g->r)->rules.retained && registrar_sees(g->r, row) &&
        !chain_entry(entry, &entry_n, statement))
        entry_n = 0; /* damaged: it is noticed when its key is used */
    news_item *item = malloc(sizeof *item + entry_n);
    if (item == NULL) {
        g->failed = true;
        return false;
    }
    item->next = NULL;
    item->row = *row;
    item->unserved = false;
    item->entry_n = entry_n;
    memcpy(item->entry, entry, entry_n);
    *g->last = item;
    g->last = &item->next;
    g->count++;
    return true;
}

static void free_items(news_item *item)
{
    for (news_item *next; item != NULL; item = next) {
        next = item->next;
        free(item);
    }
}

/* Notes the topic, or finds that there are too many. */
static store_result note_topic(registrar *r, store *s, news_item *item)
{
    char topic[TOPIC_BYTES];
    bool there = false;
    store_result result;
    topic_of(topic, item->row.id);
    if (r->seen_published <= DIRECTORY_RETAINED_MAX) { /* and the gate's own */
        result = rows_add_published(s, &there, r->gate_kid, topic);
        r->seen_published += there;
        return result;
    }
    result = rows_has_published(s, &there, r->gate_kid, topic);
    if (!there) {
        item->unserved = true;
        item->entry_n = 0;
    }
    return result;
}

static store_result note_topics(registrar *r, store *s, news_item *first)
{
    store_result result = STORE_OK;
    for (news_item *item = first; result == STORE_OK && item != NULL; item = item->next)
        if (item->entry_n > 0)
            result = note_topic(r, s, item);
    return result;
}

/* ---- news: what the change feed brings ---- */

typedef struct {
    store_job job;
    directory *d;
    news_item *first;
} news_job;

bool serve_put(signers *s, const key_row *row)
{
    signer_spec spec = {.id = row->id,
                        .has_key = row->has_key,
                        .state = row->state,
                        .not_after_s = row->not_after_s,
                        .ended_s = row->ended_s,
                        .cutoff = row->cutoff,
                        .groups = row->has_groups ? row->groups : NULL,
                        .head = row->head,
                        .provisioned = row->provisioned};
    memcpy(spec.kid, row->kid, sizeof spec.kid);
    memcpy(spec.sign_public, row->sign_public, sizeof spec.sign_public);
    if (signers_put(s, &spec))
        return true;
    signers_distrust(s, row->kid); /* what was known of it is no longer true */
    return false;
}

static bool publish_entry(directory *d, const news_item *item)
{
    char topic[TOPIC_BYTES];
    topic_of(topic, item->row.id);
    bool ok = d->hooks.publish(d->hooks.ctx, topic, item->entry, item->entry_n);
    signers_mark_served(d->signers, item->row.id, item->entry, ok ? item->entry_n : 0);
    return ok;
}

static void count_unserved(directory *d, uint64_t n)
{
    d->counters.unserved = n;
    if (n == 0 || d->warned_unserved)
        return;
    d->warned_unserved = true;
    directory_say(d, 'w',
                  "there are more than %d records: the others are given on request alone, as all are with"
                  " directory = \"on-request\" in the policy",
                  DIRECTORY_RETAINED_MAX);
}

static void take_item(directory *d, const news_item *item)
{
    signer known;
    bool is_new = !signers_find_id(d->signers, &known, item->row.id);
    if (!serve_put(d->signers, &item->row))
        directory_say(d, 'e', "out of memory: the key of %s is not accepted until the broker is restarted",
                      item->row.id);
    if (item->unserved && is_new)
        count_unserved(d, d->counters.unserved + 1);
    if (item->entry_n > 0 && d->retained && signers_find_id(d->signers, &known, item->row.id) &&
        !publish_entry(d, item))
        serve_start(d);
}

static void news_done(store_job *job)
{
    news_job *news = (news_job *)job;
    for (const news_item *item = job->result == STORE_OK ? news->first : NULL; item != NULL; item = item->next)
        take_item(news->d, item);
    free_items(news->first);
    free(news);
}

/* Hands the first of them over; *first is what is left. */
static bool post_some(registrar *r, store_worker *w, news_item **first)
{
    news_job *news = calloc(1, sizeof *news);
    if (news == NULL)
        return false;
    news->job.done = news_done;
    news->d = r->owner;
    news->first = *first;
    news_item *last = *first;
    for (unsigned i = 1; i < NEWS_ROWS && last->next != NULL; i++)
        last = last->next;
    *first = last->next;
    last->next = NULL;
    store_worker_post(w, &news->job);
    return true;
}

static store_result purge(registrar *r, store *s)
{
    uint64_t now_s = pep_now_us() / 1000000;
    if (now_s >= r->purged_s && now_s - r->purged_s < PURGE_EVERY_S)
        return STORE_OK;
    r->purged_s = now_s;
    return rows_purge(s, now_s);
}

store_result serve_follow(void *ctx, store *s, store_worker *w)
{
    registrar *r = ctx;
    gathering g = {.r = r};
    uint64_t newest = r->last_change;
    g.last = &g.first;
    r->seen_change = r->last_change;
    store_result result = purge(r, s);
    if (result == STORE_OK)
        result = rows_last_change(s, &newest);
    uint64_t last = newest > r->last_change + CHANGES_MAX ? r->last_change + CHANGES_MAX : newest;
    if (result == STORE_OK)
        result = rows_changes(s, r->last_change, last, gather, &g);
    if (result == STORE_OK && g.failed)
        result = STORE_FAILED;
    if (last > r->last_change)
        r->seen_change = last;
    if (last < newest)
        store_worker_again(w);
    if (result == STORE_OK)
        result = note_topics(r, s, g.first);
    while (result == STORE_OK && g.first != NULL)
        if (!post_some(r, w, &g.first))
            result = STORE_FAILED;
    free_items(g.first);
    return result;
}

void serve_followed(void *ctx, store *s, bool committed)
{
    registrar *r = ctx;
    (void)s;
    if (committed) {
        r->last_change = r->seen_change;
        r->published = r->seen_published;
    }
    r->seen_published = r->published;
}

/* ---- the pass through all ---- */

typedef struct {
    store_job job;
    directory *d;
    registrar *r;
    char after[TOPIC_BYTES];
    news_item *first; /* serving */
    size_t rows;      /* at most */
    size_t count;
    bool more;
    char last[TOPIC_BYTES];
    char (*topics)[TOPIC_BYTES]; /* clearing: PAGE_ROWS of them */
} page_job;

static void free_page(page_job *page)
{
    free_items(page->first);
    free(page->topics);
    free(page);
}

static void retry_later(directory *d)
{
    d->pass.due_ms = directory_ms() + RETRY_MS;
}

static bool submit(directory *d, store_result (*work)(store_job *job, store *s), void (*done)(store_job *job),
                   size_t rows, bool topics)
{
    page_job *page = calloc(1, sizeof *page);
    if (page != NULL && topics)
        page->topics = malloc(PAGE_ROWS * sizeof page->topics[0]);
    if (page == NULL || (topics && page->topics == NULL)) {
        free(page);
        return false;
    }
    page->job.work = work;
    page->job.done = done;
    page->d = d;
    page->r = &d->registrar;
    page->rows = rows;
    memcpy(page->after, d->pass.cursor, sizeof page->after);
    if (store_worker_add(d->worker, &page->job))
        return true;
    free_page(page);
    return false;
}

static void pass_over(directory *d)
{
    bool again = d->pass.again;
    count_unserved(d, d->pass.unserved);
    d->pass = (serve_pass){.phase = again ? PASS_CLEAR : PASS_IDLE};
}

static void next_phase(directory *d)
{
    d->pass.cursor[0] = '\0';
    if (d->pass.phase == PASS_CLEAR)
        d->pass.phase = PASS_SERVE;
    else
        pass_over(d);
}

/* -- what is to be cleared -- */

static bool take_topic(void *ctx, const char *topic)
{
    page_job *page = ctx;
    size_t n = strlen(topic);
    if (page->count == PAGE_ROWS || n >= TOPIC_BYTES)
        return n >= TOPIC_BYTES;
    memcpy(page->topics[page->count++], topic, n + 1);
    memcpy(page->last, topic, n + 1);
    return true;
}

static store_result topics_work(store_job *job, store *s)
{
    page_job *page = (page_job *)job;
    page->count = 0;
    store_result result = rows_published(s, page->r->gate_kid, page->after, PAGE_ROWS, take_topic, page);
    page->more = page->count == PAGE_ROWS;
    return result;
}

static bool is_wanted(const directory *d, const char *topic)
{
    signer known;
    const char *id = id_of(topic);
    if (id == NULL)
        return strcmp(topic, PEP_GATE_TOPIC) == 0;
    return d->retained && signers_find_id(d->signers, &known, id);
}

/* A device may have come, or come back, since the broker's thread looked. */
static store_result still_gone(registrar *r, store *s, bool *gone, const char *topic)
{
    key_row head;
    bool found = false;
    store_result result = STORE_OK;
    const char *id = id_of(topic);
    if (id != NULL && registrar_settings(r)->rules.retained)
        result = rows_head(s, &head, &found, id);
    *gone = !found || !registrar_sees(r, &head);
    return result;
}

static store_result drop_work(store_job *job, store *s)
{
    page_job *page = (page_job *)job;
    store_result result = STORE_OK;
    for (size_t i = 0; result == STORE_OK && i < page->count; i++) {
        bool gone;
        result = still_gone(page->r, s, &gone, page->topics[i]);
        if (result == STORE_OK && gone)
            result = rows_drop_published(s, page->r->gate_kid, page->topics[i]);
    }
    return result == STORE_OK ? rows_count_published(s, &page->r->seen_published, page->r->gate_kid) : result;
}

static void drop_done(store_job *job)
{
    free_page((page_job *)job); /* where it failed, they are cleared again at the next start */
}

static bool clear_topic(directory *d, const char *topic)
{
    const char *id = id_of(topic);
    if (!d->hooks.publish(d->hooks.ctx, topic, NULL, 0))
        return false;
    if (id != NULL)
        signers_mark_served(d->signers, id, NULL, 0);
    return true;
}

/* Clears, and lets the store forget what was cleared. */
static void clear_page(directory *d, page_job *page)
{
    size_t kept = 0;
    for (size_t i = 0; i < page->count; i++)
        if (!is_wanted(d, page->topics[i]) && clear_topic(d, page->topics[i]))
            memmove(page->topics[kept++], page->topics[i], TOPIC_BYTES);
    page->count = kept;
    page->job.work = drop_work;
    page->job.done = drop_done;
    if (kept == 0 || d->closing || !store_worker_add(d->worker, &page->job))
        free_page(page);
}

static void topics_done(store_job *job)
{
    page_job *page = (page_job *)job;
    directory *d = page->d;
    d->pass.submitted = false;
    if (job->result != STORE_OK || d->closing) {
        retry_later(d);
        free_page(page);
        return;
    }
    memcpy(d->pass.cursor, page->last, sizeof d->pass.cursor);
    if (!page->more)
        next_phase(d);
    clear_page(d, page);
}

/* -- what is to be published -- */

static store_result heads_work(store_job *job, store *s)
{
    page_job *page = (page_job *)job;
    gathering g = {.r = page->r};
    free_items(page->first);
    page->first = NULL;
    g.last = &page->first;
    if (!registrar_settings(page->r)->rules.retained)
        return STORE_OK;
    store_result result = rows_count_published(s, &page->r->seen_published, page->r->gate_kid);
    if (result == STORE_OK)
        result = rows_heads(s, page->after, page->rows, gather, &g);
    if (result == STORE_OK && g.failed)
        result = STORE_FAILED;
    page->more = g.count == page->rows;
    for (const news_item *item = page->first; item != NULL; item = item->next)
        memcpy(page->last, item->row.id, sizeof item->row.id);
    return result == STORE_OK ? note_topics(page->r, s, page->first) : result;
}

/* What the change feed has brought meanwhile is newer, and published already. */
static void serve_item(directory *d, const news_item *item)
{
    signer known;
    d->pass.unserved += item->unserved;
    if (item->entry_n == 0 || !signers_find_id(d->signers, &known, item->row.id) || known.served)
        return;
    if (!publish_entry(d, item))
        d->pass.again = true;
}

static void heads_done(store_job *job)
{
    page_job *page = (page_job *)job;
    directory *d = page->d;
    d->pass.submitted = false;
    if (job->result != STORE_OK || d->closing) {
        retry_later(d);
        free_page(page);
        return;
    }
    memcpy(d->pass.cursor, page->last, sizeof d->pass.cursor);
    for (const news_item *item = d->retained ? page->first : NULL; item != NULL; item = item->next)
        serve_item(d, item);
    if (!page->more) {
        bool failed = d->pass.again;
        next_phase(d);
        if (failed)
            retry_later(d);
    }
    free_page(page);
}

void serve_start(directory *d)
{
    if (d->pass.phase == PASS_IDLE)
        d->pass = (serve_pass){.phase = PASS_CLEAR};
    else
        d->pass.again = true;
}

void serve_gate(directory *d)
{
    if (d->hooks.publish(d->hooks.ctx, PEP_GATE_TOPIC, d->gate_entry, d->gate_entry_n))
        d->gate_served = true;
}

/* The longer ago the last ones were published, the more. */
static size_t rows_to_serve(directory *d)
{
    uint64_t now = directory_ms();
    uint64_t rows = SERVE_ROWS * ((now - d->pass.served_ms) / SERVE_EACH_MS + 1);
    d->pass.served_ms = now;
    return rows < SERVE_ROWS_MAX ? (size_t)rows : SERVE_ROWS_MAX;
}

void serve_tick(directory *d)
{
    if (!d->gate_served)
        serve_gate(d);
    if (d->pass.phase == PASS_IDLE || d->pass.submitted || directory_ms() < d->pass.due_ms)
        return;
    bool clear = d->pass.phase == PASS_CLEAR;
    if (clear ? submit(d, topics_work, topics_done, PAGE_ROWS, true)
              : submit(d, heads_work, heads_done, rows_to_serve(d), false))
        d->pass.submitted = true;
    else
        retry_later(d);
}
