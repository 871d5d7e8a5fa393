/*
 * The store's worker: that what is acknowledged is on disk, that many jobs share a commit, that it never keeps the
 * broker's thread waiting, and what becomes of jobs when the store fails. On SQLite, and on a real PostgreSQL.
 */
#include "store/worker.h"
#include "patience.h"
#include "scratch.h"
#include "tests/postgres.h"
#include "unit.h"
#include <pthread.h>
#include <semaphore.h>
#include <sqlite3.h>
#include <stdatomic.h>

static postgres_server server;
static bool on_postgres;
static unsigned database_number;
static char database[32];
static char url[POSTGRES_URL_MAX];

static const store_migration schema[] = {
    {"CREATE TABLE numbers (number BIGINT NOT NULL PRIMARY KEY); CREATE TABLE twins (number BIGINT NOT NULL)",
     "CREATE TABLE numbers (number BIGINT NOT NULL PRIMARY KEY); CREATE TABLE twins (number BIGINT NOT NULL)"},
};

static void pause_ms(long ms)
{
    struct timespec pause = {.tv_nsec = ms * 1000000};
    nanosleep(&pause, NULL);
}

static void fresh(void)
{
    scratch_begin();
    snprintf(database, sizeof database, "w%u", database_number++);
    snprintf(url, sizeof url, "sqlite:%s/%s.db", scratch_folder, database);
    if (!on_postgres)
        return;
    CU_ASSERT_TRUE_FATAL(postgres_database(&server, database));
    postgres_url(url, &server, database);
}

static store *must_open(void)
{
    store_result result;
    store_error error = {.text = ""};
    store *s = open_patiently(&result, &error, url, schema, 1);
    if (s == NULL) {
        printf("%s\n", error.text);
        CU_FAIL_FATAL("the store did not open");
    }
    return s;
}

static bool keep_number(void *ctx, const store_value *columns, size_t n)
{
    if (n == 1 && columns[0].type == STORE_INT)
        *(int64_t *)ctx = columns[0].number;
    return true;
}

static int64_t count(store *s)
{
    int64_t n = -1;
    CU_ASSERT_EQUAL(store_run(s, "SELECT count(*) FROM numbers", NULL, 0, keep_number, &n), STORE_OK);
    return n;
}

static int64_t count_outside(void)
{
    store *s = must_open();
    int64_t n = count(s);
    store_close(s);
    return n;
}

/* What follow and the jobs do, and what came of it. One fixture a worker. */
typedef struct {
    store_worker *w;
    atomic_uint follows;
    atomic_uint kept;         /* transactions that `followed` called good */
    atomic_uint dropped;      /* and not */
    atomic_uint fail_follows; /* so many of the next ones fail */
    _Atomic(store_result) fail_with;
    atomic_uint again; /* so many of the next follows have more to read */
    bool post;

    store *witness; /* looks from outside whether a row is there when its job is done */
    unsigned done;
    unsigned good;
    unsigned unseen; /* acknowledged, and the witness does not see it */
    unsigned posts;
    unsigned bad_posts;
    unsigned results[STORE_FAILED + 1];
    int64_t last_posted;
    unsigned out_of_order;
    long done_takes_ms;
    unsigned batch_ms;
    unsigned last_later; /* when the last of the second queue was done: behind so many others */
    unsigned last_first; /* and of the first */
    atomic_uint befores;
    unsigned begun;       /* jobs, in the worker's thread */
    unsigned begun_first; /* that many when it began the last one of the first queue */
} fixture;

typedef struct {
    store_job base;
    fixture *f;
    int64_t number;
    store_result result; /* instead of work, where it is not STORE_OK */
    bool notify;
    long takes_ms;
    sem_t *wait_for;
    sem_t *tell;
} job;

static store_result insert(store *s, int64_t number)
{
    store_value v = store_int(number);
    store_result result = store_run(s, "INSERT INTO numbers VALUES ($1)", &v, 1, NULL, NULL);
    return result == STORE_OK ? store_run(s, "INSERT INTO twins VALUES ($1)", &v, 1, NULL, NULL) : result;
}

static store_result work(store_job *base, store *s)
{
    job *j = (job *)base;
    j->f->begun++;
    if (!base->later)
        j->f->begun_first = j->f->begun;
    if (j->tell != NULL)
        sem_post(j->tell);
    if (j->wait_for != NULL)
        sem_wait(j->wait_for);
    if (j->takes_ms != 0)
        pause_ms(j->takes_ms);
    store_result result = insert(s, j->number);
    if (result == STORE_OK && j->notify)
        result = store_notify(s);
    return result == STORE_OK ? j->result : result;
}

static void done(store_job *base)
{
    job *j = (job *)base;
    fixture *f = j->f;
    f->done++;
    *(base->later ? &f->last_later : &f->last_first) = f->done;
    f->results[base->result]++;
    if (base->result == STORE_OK)
        f->good++;
    if (base->result == STORE_OK && f->witness != NULL) {
        int64_t n = -1;
        store_value v = store_int(j->number);
        store_run(f->witness, "SELECT count(*) FROM numbers WHERE number = $1", &v, 1, keep_number, &n);
        f->unseen += n != 1;
    }
    if (f->done_takes_ms != 0)
        pause_ms(f->done_takes_ms);
    free(j);
}

/* News of how many rows there are: must be there before the jobs are answered that made them. */
static void posted(store_job *base)
{
    job *j = (job *)base;
    fixture *f = j->f;
    f->posts++;
    if (base->result != STORE_OK)
        f->bad_posts++;
    else if (j->number < (int64_t)f->good)
        f->out_of_order++;
    else
        f->last_posted = j->number;
    free(j);
}

static store_result follow(void *ctx, store *s, store_worker *w)
{
    fixture *f = ctx;
    f->follows++;
    if (f->post) {
        int64_t n = -1;
        store_run(s, "SELECT count(*) FROM numbers", NULL, 0, keep_number, &n);
        job *j = calloc(1, sizeof *j);
        if (j == NULL)
            return STORE_FAILED;
        *j = (job){.base.done = posted, .f = f, .number = n};
        store_worker_post(w, &j->base);
    }
    if (f->again > 0) {
        f->again--;
        store_worker_again(w);
    }
    if (f->fail_follows > 0) {
        f->fail_follows--;
        return f->fail_with;
    }
    return STORE_OK;
}

static void followed(void *ctx, store *s, bool committed)
{
    (void)s;
    fixture *f = ctx;
    if (committed)
        f->kept++;
    else
        f->dropped++;
}

static void before(void *ctx)
{
    ((fixture *)ctx)->befores++;
}

static void start(fixture *f, unsigned every_ms)
{
    store_worker_hooks hooks = {.ctx = f,
                                .before = before,
                                .follow = follow,
                                .followed = followed,
                                .every_ms = every_ms,
                                .batch_ms = f->batch_ms};
    f->w = store_worker_start(must_open(), &hooks);
    CU_ASSERT_PTR_NOT_NULL_FATAL(f->w);
}

static job *new_job(fixture *f, int64_t number)
{
    job *j = calloc(1, sizeof *j);
    if (j == NULL)
        abort();
    *j = (job){.base = {.work = work, .done = done}, .f = f, .number = number};
    return j;
}

static void add(fixture *f, job *j)
{
    CU_ASSERT_TRUE_FATAL(store_worker_add(f->w, &j->base));
}

static void add_many(fixture *f, int64_t first, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        add(f, new_job(f, first + i));
}

/* As the broker does on its ticks, until all have their answer. Returns how many ms that took. */
static uint64_t settle(fixture *f)
{
    uint64_t begun = now_ms();
    uint64_t end = deadline_ms();
    while (store_worker_pending(f->w) > 0 && now_ms() < end) {
        store_worker_drain(f->w, 1000000);
        pause_ms(1);
    }
    CU_ASSERT_EQUAL(store_worker_pending(f->w), 0);
    return now_ms() - begun;
}

static bool settles_at_once(fixture *f)
{
    uint64_t begun = now_ms();
    settle(f);
    return at_once(begun);
}

/* Keeps the worker busy with a job until release is called, so that others gather behind it. */
static sem_t gate_open;
static sem_t gate_reached;

static void hold(fixture *f, int64_t number)
{
    sem_init(&gate_open, 0, 0);
    sem_init(&gate_reached, 0, 0);
    job *j = new_job(f, number);
    j->wait_for = &gate_open;
    j->tell = &gate_reached;
    add(f, j);
    sem_wait(&gate_reached);
}

static void release(void)
{
    sem_post(&gate_open);
}

/* What is acknowledged is on disk. */

static void acknowledged_is_committed(void)
{
    fixture f = {.witness = must_open(), .post = true};
    start(&f, 0);
    for (int64_t i = 0; i < 300; i++) {
        add_many(&f, i * 5, 5);
        if (i % 10 == 0)
            settle(&f);
    }
    settle(&f);
    CU_ASSERT_EQUAL(f.good, 1500);
    CU_ASSERT_EQUAL(f.unseen, 0);
    CU_ASSERT_EQUAL(f.last_posted, 1500);
    CU_ASSERT_EQUAL(f.out_of_order, 0);
    CU_ASSERT_EQUAL(f.bad_posts, 0);
    store_worker_counters counters = store_worker_counted(f.w);
    CU_ASSERT_EQUAL(counters.jobs, 1500);
    CU_ASSERT_EQUAL(counters.failures, 0);
    CU_ASSERT_FALSE(counters.away);
    store_worker_stop(f.w);
    store_close(f.witness);
}

static void batches_share_a_commit(void)
{
    fixture f = {0};
    start(&f, 0);
    hold(&f, 0);
    add_many(&f, 1, INT64_C(3) * STORE_BATCH_MAX);
    release();
    settle(&f);
    store_worker_counters counters = store_worker_counted(f.w);
    CU_ASSERT_EQUAL(counters.batches, 4); /* the one that was held, and three full ones */
    CU_ASSERT_EQUAL(f.kept, 4);
    CU_ASSERT_EQUAL(f.good, 1 + 3 * STORE_BATCH_MAX);
    store_worker_stop(f.w);
    CU_ASSERT_EQUAL(count_outside(), 1 + 3 * STORE_BATCH_MAX);
}

/* So many jobs that take a while each, in the second queue. */
static void add_slow(fixture *f, int64_t first, int64_t n, bool later)
{
    for (int64_t i = 0; i < n; i++) {
        job *j = new_job(f, first + i);
        j->takes_ms = 5;
        CU_ASSERT_TRUE_FATAL(later ? store_worker_add_later(f->w, &j->base) : store_worker_add(f->w, &j->base));
    }
}

static void batches_end_by_time(void)
{
    fixture f = {.batch_ms = 20, .witness = must_open()};
    start(&f, 0);
    hold(&f, 0);
    add_slow(&f, 1, 40, false); /* 200 ms of work: 10 times as much as a batch may take */
    release();
    settle(&f);
    CU_ASSERT_EQUAL(f.good, 41);
    CU_ASSERT_EQUAL(f.unseen, 0);
    CU_ASSERT_TRUE(store_worker_counted(f.w).batches >= 9);
    CU_ASSERT_EQUAL(f.befores, f.follows); /* once a transaction */
    store_worker_stop(f.w);
    store_close(f.witness);
    CU_ASSERT_EQUAL(count_outside(), 41);
}

static void add_held_later(fixture *f, int64_t number, sem_t *open, sem_t *reached)
{
    sem_init(open, 0, 0);
    sem_init(reached, 0, 0);
    job *j = new_job(f, number);
    j->wait_for = open;
    j->tell = reached;
    CU_ASSERT_TRUE_FATAL(store_worker_add_later(f->w, &j->base));
}

/* What is in the second queue delays what is in the first one by a batch at most. */
static void the_second_queue_waits(void)
{
    sem_t open;
    sem_t reached;
    fixture f = {.batch_ms = 20};
    start(&f, 0);
    hold(&f, 0);
    add_slow(&f, 1, 9, true);
    add_held_later(&f, 10, &open, &reached);
    add_slow(&f, 11, 190, true);
    release();
    sem_wait(&reached); /* it is at it */
    add(&f, new_job(&f, 1000));
    sem_post(&open);
    settle(&f);
    CU_ASSERT_TRUE(f.begun_first > 11 && f.begun_first <= 51); /* of the 200: those of a batch or two */
    CU_ASSERT_EQUAL(f.last_later, 202);
    CU_ASSERT_EQUAL(f.good, 202);
    store_worker_stop(f.w);
}

/* And however much is in the first one, the second goes on. */
static void the_second_queue_has_a_share(void)
{
    fixture f = {.batch_ms = 20};
    start(&f, 0);
    hold(&f, 0);
    add_slow(&f, 1, 100, false);
    add_slow(&f, 1000, 3, true);
    release();
    settle(&f);
    CU_ASSERT_EQUAL(f.last_first, 104);
    CU_ASSERT_TRUE(f.last_later < 60);
    store_worker_stop(f.w);
}

static void queue_is_bounded(void)
{
    fixture f = {0};
    start(&f, 0);
    hold(&f, 0);
    add_many(&f, 1, STORE_QUEUE_MAX);
    job *j = new_job(&f, 1000000);
    CU_ASSERT_FALSE(store_worker_add(f.w, &j->base));
    CU_ASSERT_EQUAL(store_worker_pending(f.w), STORE_QUEUE_MAX + 1);
    CU_ASSERT_TRUE(store_worker_add_later(f.w, &j->base)); /* that queue is empty */
    release();
    settle(&f);
    CU_ASSERT_EQUAL(f.good, STORE_QUEUE_MAX + 2);
    store_worker_stop(f.w);
}

static void stop_commits_what_waits(void)
{
    fixture f = {0};
    start(&f, 0);
    hold(&f, 0);
    add_many(&f, 1, 2000);
    release();
    store_worker_stop(f.w);
    CU_ASSERT_EQUAL(f.good, 2001);
    CU_ASSERT_EQUAL(f.done, 2001);
    CU_ASSERT_EQUAL(count_outside(), 2001);
}

static void drain_is_bounded(void)
{
    fixture f = {.done_takes_ms = 5};
    start(&f, 0);
    add_many(&f, 0, 100);
    uint64_t end = deadline_ms();
    while (store_worker_drain(f.w, 0) < 100 && now_ms() < end)
        pause_ms(1);
    CU_ASSERT_EQUAL(f.done, 0);
    size_t left;
    do /* where the machine is busy these 20 ms may be over before the first */
        left = store_worker_drain(f.w, 20000);
    while (f.done == 0 && now_ms() < end);
    CU_ASSERT_TRUE(f.done >= 1 && f.done <= 10); /* each takes 5 ms, if not more */
    CU_ASSERT_EQUAL(left, 100 - f.done);
    CU_ASSERT_EQUAL(store_worker_pending(f.w), left);
    f.done_takes_ms = 0;
    store_worker_stop(f.w);
    CU_ASSERT_EQUAL(f.done, 100);
}

/* Failures. */

static void failing_jobs_stand_alone(void)
{
    fixture f = {0};
    start(&f, 0);
    hold(&f, 0);
    for (int64_t i = 1; i <= 300; i++) {
        job *j = new_job(&f, i % 3 == 0 ? 0 : i); /* every third has a number that is there */
        j->result = i % 3 == 1 && i % 2 == 0 ? STORE_FAILED : STORE_OK;
        add(&f, j);
    }
    release();
    settle(&f);
    CU_ASSERT_EQUAL(f.results[STORE_CONFLICT], 100);
    CU_ASSERT_EQUAL(f.results[STORE_FAILED], 50);
    CU_ASSERT_EQUAL(f.good, 151);
    CU_ASSERT_EQUAL(store_worker_counted(f.w).batches, 2);
    CU_ASSERT_EQUAL(store_worker_counted(f.w).failures, 0);
    store_worker_stop(f.w);
    CU_ASSERT_EQUAL(count_outside(), 151);
}

/* What ends the batch leaves what came before it, and answers for what would have come behind. */
static void no_room_ends_the_batch(void)
{
    fixture f = {0};
    start(&f, 0);
    hold(&f, 0);
    add_many(&f, 1, 10);
    job *j = new_job(&f, 11);
    j->result = STORE_FULL;
    add(&f, j);
    add_many(&f, 12, 10);
    release();
    settle(&f);
    CU_ASSERT_EQUAL(f.good, 11);
    CU_ASSERT_EQUAL(f.results[STORE_FULL], 11);
    add_many(&f, 12, 10);
    settle(&f);
    CU_ASSERT_EQUAL(f.good, 21);
    store_worker_stop(f.w);
    CU_ASSERT_EQUAL(count_outside(), 21);
}

static void one_failed_follow_is_cured(void)
{
    fixture f = {.post = true, .fail_with = STORE_FAILED};
    start(&f, 0);
    hold(&f, 0);
    add_many(&f, 1, 20);
    release();
    settle(&f);
    hold(&f, 100);
    release();
    settle(&f);
    unsigned posts = f.posts;
    hold(&f, 101);
    add_many(&f, 102, 20);
    f.fail_follows = 2; /* of the one that is held, which has no other attempt, and of those behind it, which have */
    release();
    settle(&f);
    CU_ASSERT_EQUAL(f.results[STORE_FAILED], 1);
    CU_ASSERT_EQUAL(f.good, 42);
    CU_ASSERT_EQUAL(f.dropped, 2);
    CU_ASSERT_EQUAL(f.bad_posts, 2);
    CU_ASSERT_EQUAL(f.out_of_order, 0);
    CU_ASSERT_EQUAL(f.posts, posts + 22);
    CU_ASSERT_EQUAL(store_worker_counted(f.w).failures, 2);
    store_worker_stop(f.w);
    CU_ASSERT_EQUAL(count_outside(), 42);
}

static void a_follow_that_always_fails(void)
{
    fixture f = {.post = true, .fail_with = STORE_DAMAGED, .fail_follows = 1000};
    start(&f, 0);
    add_many(&f, 0, 50);
    settle(&f);
    CU_ASSERT_EQUAL(f.results[STORE_DAMAGED], 50);
    CU_ASSERT_TRUE(f.bad_posts > 0 && f.bad_posts == f.posts);
    CU_ASSERT_EQUAL(f.dropped, f.follows);
    CU_ASSERT_FALSE(store_worker_counted(f.w).away);
    store_worker_stop(f.w);
    CU_ASSERT_EQUAL(count_outside(), 0);
}

static void wait_until_away(fixture *f, bool away)
{
    uint64_t end = now_ms() + STORE_PATIENCE_MS + LATE_MS;
    while (store_worker_counted(f->w).away != away && now_ms() < end)
        pause_ms(1);
    CU_ASSERT_EQUAL(store_worker_counted(f->w).away, away);
}

/* It says that the store is away: a while later follow finds that it is not. */
static void away_for_a_moment(void)
{
    fixture f = {.fail_with = STORE_AWAY, .fail_follows = 1000};
    start(&f, 0);
    add_many(&f, 0, 5);
    settle(&f);
    CU_ASSERT_EQUAL(f.results[STORE_AWAY], 5);
    CU_ASSERT_TRUE(store_worker_counted(f.w).away);
    add_many(&f, 0, 5);
    settle(&f); /* without waiting for it to come back */
    CU_ASSERT_EQUAL(f.results[STORE_AWAY], 10);
    f.fail_with = STORE_OK;
    wait_until_away(&f, false);
    add_many(&f, 0, 5);
    settle(&f);
    CU_ASSERT_EQUAL(f.good, 5);
    store_worker_stop(f.w);
}

/* A disk that has no more room, which SQLite finds at the commit. */
static void disk_without_room(void)
{
    store_error why;
    fixture f = {0};
    start(&f, 0);
    add_many(&f, 0, 5);
    settle(&f);
    store_worker_why(f.w, &why);
    CU_ASSERT_STRING_EQUAL(why.text, "");
    limit_files(true, 1000);
    add_many(&f, 5, 5);
    settle(&f);
    limit_files(false, 0);
    CU_ASSERT_EQUAL(f.results[STORE_FULL], 5);
    CU_ASSERT_FALSE(store_worker_counted(f.w).away);
    store_worker_why(f.w, &why);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "make room"));
    add_many(&f, 5, 5);
    settle(&f);
    CU_ASSERT_EQUAL(f.good, 10);
    store_worker_stop(f.w);
    CU_ASSERT_EQUAL(count_outside(), 10);
}

/* The thread. */

static void follows_by_the_clock(void)
{
    fixture f = {0};
    uint64_t begun = now_ms();
    uint64_t end = deadline_ms();
    start(&f, 20);
    while (f.follows < 10 && now_ms() < end)
        pause_ms(1);
    CU_ASSERT_TRUE(now_ms() - begun >= 190);
    CU_ASSERT_EQUAL(store_worker_counted(f.w).batches, 0); /* they had no jobs */
    store_worker_stop(f.w);
    CU_ASSERT_EQUAL(f.follows, f.kept);
}

/* At once, and before the next job; and not where what was read does not hold. */
static void follows_again(void)
{
    fixture f = {0};
    start(&f, 0);
    hold(&f, 0);
    f.again = 5;
    add_many(&f, 1, 1);
    release();
    settle(&f);
    CU_ASSERT_EQUAL(f.again, 0);
    CU_ASSERT_EQUAL(f.follows, 7); /* two batches, and five times more */
    f.again = 1000000;
    f.fail_with = STORE_DAMAGED;
    f.fail_follows = 1;
    add_many(&f, 2, 1);
    settle(&f);
    CU_ASSERT_EQUAL(f.follows, 8);
    f.again = 0;
    store_worker_stop(f.w);
    CU_ASSERT_EQUAL(f.follows, 8);
}

static char thread_name[16];
static bool signals_blocked;
static pthread_t thread_of_work;

static store_result look_around(store_job *base, store *s)
{
    sigset_t blocked;
    (void)base;
    (void)s;
    thread_of_work = pthread_self();
    pthread_getname_np(pthread_self(), thread_name, sizeof thread_name);
    pthread_sigmask(SIG_SETMASK, NULL, &blocked);
    signals_blocked = sigismember(&blocked, SIGTERM) == 1 && sigismember(&blocked, SIGHUP) == 1 &&
                      sigismember(&blocked, SIGINT) == 1 && sigismember(&blocked, SIGUSR1) == 1;
    return STORE_OK;
}

static void thread_keeps_to_itself(void)
{
    sigset_t blocked;
    fixture f = {0};
    start(&f, 0);
    job *j = new_job(&f, 0);
    j->base.work = look_around;
    add(&f, j);
    settle(&f);
    CU_ASSERT_STRING_EQUAL(thread_name, "pep-store");
    CU_ASSERT_TRUE(signals_blocked);
    CU_ASSERT_FALSE(pthread_equal(thread_of_work, pthread_self()));
    pthread_sigmask(SIG_SETMASK, NULL, &blocked);
    CU_ASSERT_EQUAL(sigismember(&blocked, SIGTERM), 0); /* ours are as they were */
    store_worker_stop(f.w);
    store_worker_stop(NULL);
}

/* Killed. */

static fixture child_fixture;
static int child_report;

static void report_done(store_job *base)
{
    job *j = (job *)base;
    uint64_t number = (uint64_t)j->number;
    if (base->result != STORE_OK || write(child_report, &number, sizeof number) != sizeof number)
        _exit(2);
    free(j);
}

/* Enrols, as it were, until it is killed. */
static int write_without_end(int report)
{
    store_result result;
    store_error error;
    int64_t next = 0;
    child_report = report;
    store *s = open_patiently(&result, &error, url, schema, 1);
    if (s == NULL ||
        store_run(s, "SELECT coalesce(max(number), 0) FROM numbers", NULL, 0, keep_number, &next) != STORE_OK)
        return 1;
    store_worker_hooks hooks = {0};
    child_fixture.w = store_worker_start(s, &hooks);
    if (child_fixture.w == NULL)
        return 1;
    for (;;) {
        while (store_worker_pending(child_fixture.w) < 200) {
            job *j = calloc(1, sizeof *j);
            if (j == NULL)
                return 1;
            *j = (job){.base = {.work = work, .done = report_done}, .f = &child_fixture, .number = ++next};
            store_worker_add(child_fixture.w, &j->base);
        }
        store_worker_drain(child_fixture.w, 1000);
    }
}

static void check_all_there(int64_t last)
{
    int64_t n = -1;
    store *s = must_open();
    store_value v = store_int(last);
    CU_ASSERT_EQUAL(store_run(s, "SELECT count(*) FROM numbers WHERE number <= $1", &v, 1, keep_number, &n), STORE_OK);
    CU_ASSERT_EQUAL(n, last);
    CU_ASSERT_EQUAL(store_run(s,
                              "SELECT count(*) FROM numbers n WHERE 1 <> (SELECT count(*) FROM twins t WHERE "
                              "t.number = n.number) AND n.number > (SELECT max(number) - 3000 FROM numbers)",
                              NULL, 0, keep_number, &n),
                    STORE_OK);
    CU_ASSERT_EQUAL(n, 0); /* no half state */
    CU_ASSERT_EQUAL(
        store_run(s, "SELECT (SELECT count(*) FROM numbers) - (SELECT count(*) FROM twins)", NULL, 0, keep_number, &n),
        STORE_OK);
    CU_ASSERT_EQUAL(n, 0);
    store_close(s);
}

static bool keep_verdict(void *ctx, const store_value *columns, size_t n)
{
    snprintf(ctx, 32, "%.*s", n == 1 ? (int)columns[0].n : 0, (const char *)columns[0].p);
    return true;
}

static void check_integrity(void)
{
    char said[32] = "";
    store *s = must_open();
    CU_ASSERT_EQUAL(store_run(s, "PRAGMA integrity_check", NULL, 0, keep_verdict, said), STORE_OK);
    CU_ASSERT_STRING_EQUAL(said, "ok");
    store_close(s);
}

/* Kills the writer behind about so many acknowledgements; returns the last of them. */
static int64_t kill_writer(unsigned after, bool server_too)
{
    int reports;
    uint64_t number = 0;
    uint64_t last = 0;
    pid_t child = start_child(&reports, write_without_end);
    for (unsigned i = 0; i < after && next_report(reports, &number); i++)
        last = number;
    if (server_too)
        postgres_stop(&server, SIGKILL);
    kill(child, SIGKILL);
    while (next_report(reports, &number)) /* what was acknowledged until then */
        last = number;
    int status = end_child(child, reports);
    CU_ASSERT_TRUE(server_too || (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL));
    CU_ASSERT_TRUE(last > 0);
    return (int64_t)last;
}

/* Fewer where each takes long. */
static unsigned rounds(unsigned n)
{
    return getenv("PEP_VALGRIND") != NULL ? 2 : n;
}

static void killed_while_writing(void)
{
    for (unsigned i = 0; i < rounds(20); i++) {
        int64_t last = kill_writer(1 + i * 37, false);
        check_all_there(last);
        if (!on_postgres)
            check_integrity();
    }
}

static void server_killed_while_writing(void)
{
    for (unsigned i = 0; i < rounds(5); i++) {
        int64_t last = kill_writer(1 + i * 137, true);
        CU_ASSERT_TRUE_FATAL(postgres_again(&server));
        check_all_there(last);
    }
}

/* The store is away. */

static void sqlite_locked(void)
{
    sqlite3 *other;
    fixture f = {0};
    start(&f, 0);
    add_many(&f, 0, 3);
    settle(&f);
    CU_ASSERT_EQUAL_FATAL(sqlite3_open(url + strlen("sqlite:"), &other), SQLITE_OK);
    CU_ASSERT_EQUAL(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    add_many(&f, 3, 3);
    CU_ASSERT_TRUE(settle(&f) < STORE_PATIENCE_MS + LATE_MS);
    CU_ASSERT_EQUAL(f.results[STORE_AWAY], 3);
    add_many(&f, 3, 3);
    CU_ASSERT_TRUE(settles_at_once(&f)); /* it is known by now */
    CU_ASSERT_EQUAL(f.results[STORE_AWAY], 6);
    sqlite3_exec(other, "ROLLBACK", NULL, NULL, NULL);
    sqlite3_close(other);
    wait_until_away(&f, false);
    add_many(&f, 3, 3);
    settle(&f);
    CU_ASSERT_EQUAL(f.good, 6);
    store_worker_stop(f.w);
}

static void server_restarted(void)
{
    fixture f = {0};
    start(&f, 0);
    add_many(&f, 0, 10);
    settle(&f);
    postgres_stop(&server, SIGINT);
    wait_until_away(&f, true); /* without a job that would find out */
    for (int i = 0; i < 20; i++) {
        add_many(&f, 10, 10);
        CU_ASSERT_TRUE(settles_at_once(&f));
    }
    CU_ASSERT_EQUAL(f.results[STORE_AWAY], 200);
    unsigned follows = f.follows;
    CU_ASSERT_TRUE_FATAL(postgres_again(&server));
    wait_until_away(&f, false);
    CU_ASSERT_TRUE(f.follows > follows); /* it caught up before anything else */
    add_many(&f, 10, 10);
    settle(&f);
    CU_ASSERT_EQUAL(f.good, 20);
    store_worker_stop(f.w);
    CU_ASSERT_EQUAL(count_outside(), 20);
}

static void server_killed_in_a_batch(void)
{
    fixture f = {0};
    start(&f, 0);
    hold(&f, 0);
    add_many(&f, 1, 1000);
    postgres_stop(&server, SIGKILL);
    release();
    CU_ASSERT_TRUE(settles_at_once(&f));
    CU_ASSERT_EQUAL(f.results[STORE_AWAY], 1001);
    CU_ASSERT_TRUE_FATAL(postgres_again(&server));
    wait_until_away(&f, false);
    add_many(&f, 0, 1001);
    settle(&f);
    CU_ASSERT_EQUAL(f.good, 1001);
    store_worker_stop(f.w);
}

static void server_frozen(void)
{
    fixture f = {0};
    start(&f, 0);
    add_many(&f, 0, 10);
    settle(&f);
    postgres_freeze(&server, true);
    add_many(&f, 10, 10);
    CU_ASSERT_TRUE(settle(&f) < STORE_PATIENCE_MS + LATE_MS);
    CU_ASSERT_EQUAL(f.results[STORE_AWAY], 10);
    uint64_t begun = now_ms();
    while (now_ms() < begun + 1000) { /* also while the thread waits for a connection */
        add_many(&f, 10, 1);
        CU_ASSERT_TRUE(settles_at_once(&f));
    }
    postgres_freeze(&server, false);
    wait_until_away(&f, false);
    add_many(&f, 100, 10);
    settle(&f);
    CU_ASSERT_EQUAL(f.good, 20);
    postgres_freeze(&server, true);
    add_many(&f, 200, 10);
    begun = now_ms();
    store_worker_stop(f.w);
    CU_ASSERT_TRUE(now_ms() - begun < 2 * STORE_PATIENCE_MS + LATE_MS);
    CU_ASSERT_EQUAL(f.good, 20);
    CU_ASSERT_EQUAL(f.done, (unsigned)(f.good + f.results[STORE_AWAY]));
    postgres_freeze(&server, false);
}

static void workers_wake_each_other(void)
{
    fixture a = {0};
    fixture b = {.post = true};
    start(&a, 0);
    start(&b, 0);
    for (int64_t i = 1; i <= 20; i++) {
        unsigned before = b.follows;
        unsigned own = a.follows;
        job *j = new_job(&a, i);
        j->notify = true;
        add(&a, j);
        settle(&a);
        uint64_t begun = now_ms();
        while ((b.follows == before || b.last_posted < i) && now_ms() < begun + LATE_MS) {
            store_worker_drain(b.w, 1000);
            pause_ms(1);
        }
        CU_ASSERT_EQUAL(b.last_posted, i);
        CU_ASSERT_EQUAL(a.follows, own + 1); /* it does not wake itself */
    }
    store_worker_stop(a.w);
    store_worker_stop(b.w);
}

static void on(bool postgres, void (*test)(void))
{
    on_postgres = postgres;
    fresh();
    test();
    scratch_end();
}

#define ON_SQLITE(test)                                                                                                \
    static void test##_sqlite(void)                                                                                    \
    {                                                                                                                  \
        on(false, test);                                                                                               \
    }
#define ON_POSTGRES(test)                                                                                              \
    static void test##_postgres(void)                                                                                  \
    {                                                                                                                  \
        on(true, test);                                                                                                \
    }
#define BOTH(test) ON_SQLITE(test) ON_POSTGRES(test)

BOTH(acknowledged_is_committed)
BOTH(batches_share_a_commit)
BOTH(batches_end_by_time)
BOTH(the_second_queue_waits)
BOTH(the_second_queue_has_a_share)
BOTH(queue_is_bounded)
BOTH(stop_commits_what_waits)
BOTH(drain_is_bounded)
BOTH(failing_jobs_stand_alone)
BOTH(no_room_ends_the_batch)
BOTH(one_failed_follow_is_cured)
BOTH(a_follow_that_always_fails)
BOTH(away_for_a_moment)
BOTH(follows_by_the_clock)
BOTH(follows_again)
BOTH(thread_keeps_to_itself)
BOTH(killed_while_writing)
ON_SQLITE(disk_without_room)
ON_SQLITE(sqlite_locked)
ON_POSTGRES(server_killed_while_writing)
ON_POSTGRES(server_restarted)
ON_POSTGRES(server_killed_in_a_batch)
ON_POSTGRES(server_frozen)
ON_POSTGRES(workers_wake_each_other)

#define ROWS(name, test)                                                                                               \
    {"sqlite: " name, test##_sqlite},                                                                                  \
    {                                                                                                                  \
        "postgresql: " name, test##_postgres                                                                           \
    }

static const unit_test tests[] = {
    ROWS("what is acknowledged is committed", acknowledged_is_committed),
    ROWS("batches share a commit", batches_share_a_commit),
    ROWS("batches end by time", batches_end_by_time),
    ROWS("the second queue waits", the_second_queue_waits),
    ROWS("the second queue has a share", the_second_queue_has_a_share),
    ROWS("the queue is bounded", queue_is_bounded),
    ROWS("stopping commits what waits", stop_commits_what_waits),
    ROWS("draining is bounded", drain_is_bounded),
    ROWS("failing jobs do not undo others", failing_jobs_stand_alone),
    ROWS("no room ends the batch", no_room_ends_the_batch),
    ROWS("one failed follow is cured", one_failed_follow_is_cured),
    ROWS("a follow that always fails", a_follow_that_always_fails),
    ROWS("away for a moment", away_for_a_moment),
    ROWS("follows by the clock", follows_by_the_clock),
    ROWS("follow has more to read", follows_again),
    ROWS("the thread keeps to itself", thread_keeps_to_itself),
    ROWS("killed 20 times while writing", killed_while_writing),
    {"sqlite: a disk without room", disk_without_room_sqlite},
    {"sqlite: locked by another process", sqlite_locked_sqlite},
    {"postgresql: the server killed 5 times", server_killed_while_writing_postgres},
    {"postgresql: the server stopped and started", server_restarted_postgres},
    {"postgresql: the server killed in a batch", server_killed_in_a_batch_postgres},
    {"postgresql: the server frozen", server_frozen_postgres},
    {"postgresql: two workers wake each other", workers_wake_each_other_postgres},
};

int main(void)
{
    if (!postgres_start(&server)) {
        printf("%s\n", server.why);
        return 1;
    }
    int code = unit_main("worker", tests, sizeof tests / sizeof tests[0]);
    postgres_end(&server);
    return code;
}
