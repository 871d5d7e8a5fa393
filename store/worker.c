/* The thread that alone touches the store. The rules that it follows stand in worker.h. */
#include "store/worker.h"
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define FIRST_RETRY_MS 100
#define LAST_RETRY_MS  2000

typedef struct {
    store_job *first;
    store_job **last; /* where the next one is hung */
    size_t count;
} job_list;

struct store_worker {
    store *s;
    store_worker_hooks hooks;
    pthread_t thread;
    int bell; /* an eventfd: something changed below */

    pthread_mutex_t lock; /* for what stands up to the next empty line */
    job_list waiting;
    job_list later; /* the second queue */
    job_list finished;
    store_worker_counters counters; /* `away`: the broker's thread answers what waits by itself */
    bool stopping;
    uint64_t stop_us; /* nothing is begun behind it */
    store_error why;

    job_list ready; /* the broker's thread's: taken from `finished` */
    size_t pending;

    job_list posted;    /* the worker's thread's, from here on */
    uint64_t begun_us;  /* when the transaction was */
    uint64_t follow_us; /* when it is due; UINT64_MAX: never */
    uint64_t retry_us;
    unsigned retry_ms; /* 0: the store is there */
    bool again;        /* follow has more to read */
};

static uint64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static void empty(job_list *list)
{
    *list = (job_list){.last = &list->first};
}

static void push(job_list *list, store_job *job)
{
    job->next = NULL;
    *list->last = job;
    list->last = &job->next;
    list->count++;
}

static store_job *pop(job_list *list)
{
    store_job *job = list->first;
    if (job == NULL)
        return NULL;
    list->first = job->next;
    list->count--;
    if (list->first == NULL)
        list->last = &list->first;
    return job;
}

static void append(job_list *to, job_list *from)
{
    if (from->first == NULL)
        return;
    *to->last = from->first;
    to->last = from->last;
    to->count += from->count;
    empty(from);
}

static void result_for_all(job_list *list, store_result result)
{
    for (store_job *job = list->first; job != NULL; job = job->next)
        job->result = result;
}

static void ring(store_worker *w)
{
    uint64_t one = 1;
    ssize_t ignored = write(w->bell, &one, sizeof one); /* it fails only where it rings already */
    (void)ignored;
}

/* In the worker's thread. */

static bool must_end(store_worker *w)
{
    pthread_mutex_lock(&w->lock);
    bool end = w->stopping && now_us() >= w->stop_us;
    pthread_mutex_unlock(&w->lock);
    return end;
}

static void plan_retry(store_worker *w, bool away)
{
    if (!away) {
        w->retry_ms = 0;
        return;
    }
    w->retry_ms = w->retry_ms == 0 ? FIRST_RETRY_MS : w->retry_ms * 2;
    if (w->retry_ms > LAST_RETRY_MS)
        w->retry_ms = LAST_RETRY_MS;
    w->retry_us = now_us() + (uint64_t)w->retry_ms * 1000;
}

/* Holds the lock. */
static void note_why(store_worker *w)
{
    snprintf(w->why.text, sizeof w->why.text, "%s", store_why(w->s));
}

static void still_away(store_worker *w)
{
    plan_retry(w, true);
    pthread_mutex_lock(&w->lock);
    w->counters.away = true;
    note_why(w);
    pthread_mutex_unlock(&w->lock);
}

/* Anything but STORE_OK: the transaction as a whole failed. *ended: no other job may follow. */
static store_result run_one(store_worker *w, store_job *job, bool *ended)
{
    store_result result = store_mark(w->s);
    if (result != STORE_OK)
        return result;
    job->result = job->work(job, w->s);
    *ended = job->result == STORE_AWAY || job->result == STORE_FULL;
    if (job->result != STORE_OK && job->result != STORE_CONFLICT) {
        pthread_mutex_lock(&w->lock);
        note_why(w);
        pthread_mutex_unlock(&w->lock);
    }
    result = job->result == STORE_OK ? store_keep(w->s) : store_undo(w->s);
    return result != STORE_OK && *ended ? job->result : result; /* what came first says more */
}

/* One of each queue is always done. */
static bool has_time(const store_worker *w, const store_job *job, bool done[2])
{
    uint64_t limit_us = (uint64_t)w->hooks.batch_ms * (job->later ? 1250 : 1000);
    bool first = !done[job->later];
    done[job->later] = true;
    return first || limit_us == 0 || now_us() - w->begun_us < limit_us;
}

/* `rest`: for which there was no time. */
static store_result run_jobs(store_worker *w, job_list *batch, job_list *rest)
{
    store_job *job;
    job_list all;
    bool done[2] = {false, false};
    store_result over = STORE_OK;
    store_result failed = STORE_OK;
    empty(&all);
    append(&all, batch);
    while ((job = pop(&all)) != NULL) {
        bool ended = false;
        if (over == STORE_OK && must_end(w))
            over = STORE_AWAY;
        if (over == STORE_OK && failed == STORE_OK && !has_time(w, job, done)) {
            push(rest, job);
            continue;
        }
        push(batch, job);
        job->result = over;
        if (over == STORE_OK && failed == STORE_OK)
            failed = run_one(w, job, &ended);
        if (ended)
            over = job->result;
    }
    return failed;
}

static store_result run_follow(store_worker *w)
{
    w->follow_us = w->hooks.every_ms == 0 ? UINT64_MAX : now_us() + (uint64_t)w->hooks.every_ms * 1000;
    return w->hooks.follow == NULL ? STORE_OK : w->hooks.follow(w->hooks.ctx, w->s, w);
}

static store_result run_in_transaction(store_worker *w, job_list *batch, job_list *rest)
{
    if (w->hooks.before != NULL)
        w->hooks.before(w->hooks.ctx);
    w->begun_us = now_us();
    store_result result = store_begin(w->s);
    if (result != STORE_OK)
        return result;
    result = run_jobs(w, batch, rest);
    if (result != STORE_OK) {
        store_rollback(w->s);
        return result;
    }
    result = run_follow(w);
    if (result == STORE_OK)
        result = store_commit(w->s);
    else
        store_rollback(w->s);
    if (w->hooks.followed != NULL)
        w->hooks.followed(w->hooks.ctx, w->s, result == STORE_OK);
    return result;
}

static bool another_attempt_helps(store_result result, const job_list *batch)
{
    return (result == STORE_CONFLICT || result == STORE_FAILED) && batch->count > 1;
}

/* What follow posted comes first: who reads that a change is made may already rely on it. */
static void hand_back(store_worker *w, job_list *batch, store_result result, bool away)
{
    result_for_all(&w->posted, result);
    pthread_mutex_lock(&w->lock);
    if (result == STORE_OK) {
        w->counters.batches += batch->count > 0;
    } else {
        w->counters.failures++;
        note_why(w);
    }
    w->counters.away = away;
    append(&w->finished, &w->posted);
    append(&w->finished, batch);
    pthread_mutex_unlock(&w->lock);
}

static void put_in_front(job_list *queue, job_list *jobs)
{
    append(jobs, queue);
    append(queue, jobs);
}

static void put_back(store_worker *w, job_list *rest)
{
    job_list lists[2];
    empty(&lists[0]);
    empty(&lists[1]);
    for (store_job *job; (job = pop(rest)) != NULL;)
        push(&lists[job->later], job);
    pthread_mutex_lock(&w->lock);
    put_in_front(&w->waiting, &lists[0]);
    put_in_front(&w->later, &lists[1]);
    pthread_mutex_unlock(&w->lock);
}

static void transact(store_worker *w, job_list *batch);

static void transact_each(store_worker *w, job_list *batch)
{
    store_job *job;
    while (w->retry_ms == 0 && (job = pop(batch)) != NULL) {
        job_list one;
        empty(&one);
        push(&one, job);
        transact(w, &one);
    }
    if (batch->count > 0) {
        result_for_all(batch, STORE_AWAY);
        hand_back(w, batch, STORE_AWAY, true);
    }
}

static void transact(store_worker *w, job_list *batch)
{
    job_list none;
    job_list rest;
    empty(&none);
    empty(&rest);
    store_result result = run_in_transaction(w, batch, &rest);
    put_back(w, &rest);
    bool again = another_attempt_helps(result, batch);
    if (result != STORE_OK)
        w->again = false; /* what it read does not hold */
    if (result != STORE_OK && !again)
        result_for_all(batch, result);
    bool away = result == STORE_AWAY || store_is_lost(w->s);
    plan_retry(w, away);
    hand_back(w, again ? &none : batch, result, away);
    if (again)
        transact_each(w, batch);
}

static void follow_alone(store_worker *w)
{
    job_list none;
    empty(&none);
    transact(w, &none);
}

static void try_again(store_worker *w)
{
    if (store_is_lost(w->s) && store_reconnect(w->s) != STORE_OK)
        still_away(w);
    else
        follow_alone(w);
}

static void move(job_list *to, job_list *from, size_t up_to)
{
    while (to->count < up_to && from->first != NULL)
        push(to, pop(from));
}

/* A batch; empty where nothing waits, or while the store is away: then the broker's thread has the answer. */
static void take_batch(store_worker *w, job_list *batch)
{
    empty(batch);
    pthread_mutex_lock(&w->lock);
    size_t share = w->later.count < STORE_LATER_MIN ? w->later.count : STORE_LATER_MIN;
    if (!w->counters.away) {
        move(batch, &w->waiting, STORE_BATCH_MAX - share);
        move(batch, &w->later, STORE_BATCH_MAX);
    }
    pthread_mutex_unlock(&w->lock);
}

static bool may_end(store_worker *w)
{
    pthread_mutex_lock(&w->lock);
    bool idle = w->waiting.first == NULL && w->later.first == NULL;
    bool end = w->stopping && (idle || w->counters.away || now_us() >= w->stop_us);
    pthread_mutex_unlock(&w->lock);
    return end;
}

static int sleep_ms(const store_worker *w)
{
    uint64_t due = w->retry_ms != 0 ? w->retry_us : w->follow_us;
    uint64_t now = now_us();
    if (due == UINT64_MAX)
        return -1;
    if (due <= now)
        return 0;
    uint64_t ms = (due - now + 999) / 1000;
    return ms > 60000 ? 60000 : (int)ms;
}

static void wait_for_something(store_worker *w)
{
    int news = w->retry_ms == 0 ? store_wait_fd(w->s) : -1; /* else it is not read, and would wake us without end */
    struct pollfd fds[2] = {{.fd = w->bell, .events = POLLIN}, {.fd = news, .events = POLLIN}};
    uint64_t rung;
    poll(fds, 2, sleep_ms(w));
    if (fds[0].revents != 0) {
        ssize_t ignored = read(w->bell, &rung, sizeof rung); /* it does not block */
        (void)ignored;
    }
}

/* Where nothing waits: what else is due. False: nothing is, so sleep. */
static bool do_other_work(store_worker *w)
{
    if (w->retry_ms != 0) {
        if (now_us() < w->retry_us)
            return false;
        try_again(w);
        return true;
    }
    bool woken = store_was_woken(w->s);
    if (store_is_lost(w->s)) {
        still_away(w);
        return true;
    }
    if (!woken && now_us() < w->follow_us)
        return false;
    follow_alone(w);
    return true;
}

/* True where follow had more to read, and was called. */
static bool follow_again(store_worker *w)
{
    if (!w->again || w->retry_ms != 0)
        return false;
    w->again = false;
    follow_alone(w);
    return true;
}

static void *work(void *ctx)
{
    store_worker *w = ctx;
    while (!may_end(w)) {
        job_list batch;
        if (follow_again(w))
            continue;
        take_batch(w, &batch);
        if (batch.count > 0)
            transact(w, &batch);
        else if (!do_other_work(w))
            wait_for_something(w);
    }
    return NULL;
}

void store_worker_post(store_worker *w, store_job *job)
{
    job->work = NULL;
    push(&w->posted, job);
}

void store_worker_again(store_worker *w)
{
    w->again = true;
}

/* In the broker's thread. */

/* Signals are for the broker's thread alone, so they are blocked when the other one begins. */
static bool start_thread(store_worker *w)
{
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    if (pthread_sigmask(SIG_SETMASK, &all, &before) != 0)
        return false;
    bool ok = pthread_create(&w->thread, NULL, work, w) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (ok)
        pthread_setname_np(w->thread, "pep-store");
    return ok;
}

store_worker *store_worker_start(store *s, const store_worker_hooks *hooks)
{
    store_worker *w = calloc(1, sizeof *w);
    if (w == NULL)
        return NULL;
    w->s = s;
    w->hooks = *hooks;
    w->follow_us = hooks->every_ms == 0 ? UINT64_MAX : now_us() + (uint64_t)hooks->every_ms * 1000;
    empty(&w->waiting);
    empty(&w->later);
    empty(&w->finished);
    empty(&w->ready);
    empty(&w->posted);
    w->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (w->bell >= 0 && pthread_mutex_init(&w->lock, NULL) == 0) {
        if (start_thread(w))
            return w;
        pthread_mutex_destroy(&w->lock);
    }
    if (w->bell >= 0)
        close(w->bell);
    free(w);
    return NULL;
}

static bool add(store_worker *w, job_list *queue, store_job *job)
{
    pthread_mutex_lock(&w->lock);
    bool room = queue->count < STORE_QUEUE_MAX && !w->stopping;
    if (room) {
        push(queue, job);
        w->counters.jobs++;
    }
    bool first = queue->count == 1;
    pthread_mutex_unlock(&w->lock);
    if (!room)
        return false;
    w->pending++;
    if (first)
        ring(w);
    return true;
}

bool store_worker_add(store_worker *w, store_job *job)
{
    job->later = false;
    return add(w, &w->waiting, job);
}

bool store_worker_add_later(store_worker *w, store_job *job)
{
    job->later = true;
    return add(w, &w->later, job);
}

/* Holds the lock. Nobody works at it any more. */
static void answer_away(store_worker *w, job_list *queue)
{
    result_for_all(queue, STORE_AWAY);
    append(&w->finished, queue);
}

/* While the store is away nobody else would answer soon: the other thread may be waiting for a server. */
static void take_finished(store_worker *w)
{
    pthread_mutex_lock(&w->lock);
    if (w->counters.away) {
        answer_away(w, &w->waiting);
        answer_away(w, &w->later);
    }
    append(&w->ready, &w->finished);
    pthread_mutex_unlock(&w->lock);
}

static void call_done(store_worker *w)
{
    store_job *job = pop(&w->ready);
    if (job->work != NULL)
        w->pending--;
    job->done(job);
}

size_t store_worker_drain(store_worker *w, uint64_t us)
{
    uint64_t end = now_us() + us;
    take_finished(w);
    while (w->ready.first != NULL && now_us() < end)
        call_done(w);
    return w->ready.count;
}

size_t store_worker_pending(const store_worker *w)
{
    return w->pending;
}

store_worker_counters store_worker_counted(store_worker *w)
{
    pthread_mutex_lock(&w->lock);
    store_worker_counters counters = w->counters;
    pthread_mutex_unlock(&w->lock);
    return counters;
}

void store_worker_why(store_worker *w, store_error *out)
{
    pthread_mutex_lock(&w->lock);
    *out = w->why;
    pthread_mutex_unlock(&w->lock);
}

void store_worker_interrupt(store_worker *w)
{
    if (w != NULL)
        store_interrupt(w->s);
}

void store_worker_stop(store_worker *w)
{
    if (w == NULL)
        return;
    pthread_mutex_lock(&w->lock);
    w->stopping = true;
    w->stop_us = now_us() + (uint64_t)STORE_PATIENCE_MS * 1000;
    pthread_mutex_unlock(&w->lock);
    ring(w);
    pthread_join(w->thread, NULL);
    answer_away(w, &w->waiting);
    answer_away(w, &w->later);
    append(&w->ready, &w->finished);
    while (w->ready.first != NULL)
        call_done(w);
    store_close(w->s);
    pthread_mutex_destroy(&w->lock);
    close(w->bell);
    free(w);
}
