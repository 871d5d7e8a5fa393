/*
 * The one thread that touches the store. The broker's thread hands it jobs and takes their results back on a tick; it
 * never waits for a disk or a server.
 *
 * Jobs are done in batches, a transaction each (group commit): every job of a batch runs between store_mark and
 * store_keep, then the owner's `follow`, then the commit. Only behind it are results handed back: what is acknowledged
 * is on disk.
 *
 * There are two queues: what is added with store_worker_add goes before what is added with store_worker_add_later. Each
 * has a share of every batch, so that neither stands still, and a batch ends by time as well: what waits in the first
 * queue waits for one batch at most, however much there is in the second.
 */
#ifndef STORE_WORKER_H
#define STORE_WORKER_H

#include "store/store.h"

#define STORE_BATCH_MAX 512   /* jobs in one transaction */
#define STORE_LATER_MIN 64    /* of these, for the second queue, where so many wait */
#define STORE_QUEUE_MAX 16384 /* jobs that wait in one queue; more are refused */

typedef struct store_worker store_worker;
typedef struct store_job store_job;

/* Embed it as the first member. The queue owns it from store_worker_add until `done` is called. */
struct store_job {
    store_job *next;     /* the queue's */
    store_result result; /* what `work` returned, or what became of the whole transaction */
    bool later;          /* the queue's: which of the two */

    /*
     * In the worker's thread, within a transaction. Anything but STORE_OK undoes what this job did; STORE_AWAY and
     * STORE_FULL end the batch. May be called again, where the transaction failed for a reason that another attempt
     * can cure: it must not depend on how often.
     */
    store_result (*work)(store_job *job, store *s);

    /*
     * In the broker's thread, from store_worker_drain, behind the commit. job->result is STORE_OK where what it did is
     * on disk. The job is the callee's to free.
     */
    void (*done)(store_job *job);
};

typedef struct {
    void *ctx;

    /* In the worker's thread, in front of each transaction: what must not change while one lasts, changes here. May be
     * NULL. */
    void (*before)(void *ctx);

    /*
     * In the worker's thread, within the transaction, behind its jobs, and also when others woke us, behind a
     * reconnection, and every `every_ms`. It may hand news to the broker's thread with store_worker_post: they come
     * before the results of the batch.
     */
    store_result (*follow)(void *ctx, store *s, store_worker *w);

    /* Behind the end of that transaction, outside of any: whether what `follow` read and posted holds. Posted jobs of a
     * transaction that failed are dropped: `done` is called with the failure in job->result. */
    void (*followed)(void *ctx, store *s, bool committed);

    unsigned every_ms;

    /* No job of the first queue is begun so long after the transaction was, and none of the second a quarter later; but
     * one of each is always done. 0: a batch ends by number alone. */
    unsigned batch_ms;
} store_worker_hooks;

/* For counters and benchmarks. Read from the broker's thread. */
typedef struct {
    uint64_t batches;  /* transactions committed that had jobs */
    uint64_t jobs;     /* handed in */
    uint64_t failures; /* transactions that failed */
    bool away;         /* the store cannot be reached at the moment */
} store_worker_counters;

/* Takes the open store over. NULL where there is no memory or no thread; the store is then still the caller's. */
store_worker *store_worker_start(store *s, const store_worker_hooks *hooks);

/* Hands in a job. False: too many wait already, and the job is still the caller's. Never blocks. */
bool store_worker_add(store_worker *w, store_job *job);

/* The same, behind all that is added with store_worker_add. */
bool store_worker_add_later(store_worker *w, store_job *job);

/* From `follow` alone: a job that has no work, for the broker's thread. */
void store_worker_post(store_worker *w, store_job *job);

/* From `follow` alone: there is more to read. It is called again, behind this transaction and before any job. */
void store_worker_again(store_worker *w);

/* Calls `done` of what is finished, in order, for at most `us` microseconds. Returns how many still wait for that. */
size_t store_worker_drain(store_worker *w, uint64_t us);

/* Jobs handed in whose `done` was not called yet. */
size_t store_worker_pending(const store_worker *w);

store_worker_counters store_worker_counted(store_worker *w);

/* What failed last, one line, for the log; empty where nothing did. */
void store_worker_why(store_worker *w, store_error *out);

/* What runs ends at once, and what waits fails: before store_worker_stop, where nothing of it matters any more. */
void store_worker_interrupt(store_worker *w);

/* Commits what waits (for at most STORE_PATIENCE_MS), calls `done` of all, ends the thread, and closes the store. */
void store_worker_stop(store_worker *w);

#endif
