/* What the ledger's files share. */
#ifndef LEDGER_INTERNAL_H
#define LEDGER_INTERNAL_H

#include <stdatomic.h>

#include "directory/json.h"
#include "ledger/ledger.h"
#include "store/worker.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#define BATCH_BYTES   ((size_t)1 << 20)
#define BATCH_ROWS    10000  /* the more at once, the fewer pages of an index are written for each */
#define BATCH_AGE_US  500000 /* the oldest of a batch waits no longer: what a kill -9 can lose */
#define RETRY_US      1000000
#define PURGE_US      5000000
#define PURGE_ROWS    1000  /* in one transaction */
#define FORGET_ROWS   1000  /* likewise */
#define FORGET_LOOKS  10000 /* rows that are looked at for that */
#define SCRUB_TRY_US  100000
#define CUT_US        10000000
#define LET_WRITE_MS  700      /* a batch, and its commit */
#define SCRUB_WAIT_US 10000000 /* for readers of what was erased to end */
#define ASKED_MAX     64       /* questions that wait */
#define ASKED_OTHERS  48       /* of these, of others than admins */

#define WILD_MAX     512 /* bytes of a filter with wildcards: a long one costs PostgreSQL seconds to understand */
#define FIELDS_MAX   4
#define GROUPS_MAX   5000
#define ERASURES_MAX 1000
#define QUERY_MAX    1000
#define QUERY_COUNT  100
#define ANSWER_MAX   ((size_t)700 << 10) /* bytes of JSON */
#define ADMIN_MS     30000               /* what a question may take */
#define SIGNER_MS    5000

/* ---- ledger.c ---- */

typedef struct batch batch;
typedef struct ask_job ask_job;

typedef struct {
    batch *first, *last;
} batch_list;

struct ledger {
    ledger_hooks hooks;
    uint8_t gate[PEP_KID_BYTES];
    store_worker *writer, *reader;
    bool scrubs;       /* the store can take what is deleted off the disk */
    atomic_bool dirty; /* something was deleted, and is there still; the writer's thread sets it */
    atomic_bool waits_for_reader;
    uint64_t cut_us; /* the writer's thread's: when it cuts the write-ahead log next */
    batch *open;     /* being filled; NULL: none */
    batch *spare;    /* empty; NULL: none */
    batch_list held; /* which the store did not take, and gets again */
    uint64_t retry_us;
    uint64_t rows, bytes; /* that wait, in all batches */
    uint64_t purge_us;
    struct purge_job *purging; /* NULL: none is under way */
    ask_job *scrubbing;        /* erasures that are done, but for what is on the disk */
    uint64_t scrub_us;
    unsigned asked;
    bool failing; /* the store refuses what is written, and the log has it */
    bool away;
    bool closing;
    uint64_t told_dropped, told_us;
    ledger_counters counters;
};

uint64_t ledger_us(void); /* CLOCK_MONOTONIC */
/* Hands over what was recorded so far, for what comes behind it. False: some of it is held, and would come later. */
bool ledger_hand_over(ledger *l);

void ledger_say(ledger *l, char level, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* ---- write.c ---- */

/* One message of a batch; behind it its topic, facts and signer. */
typedef struct {
    uint64_t time_us, seq, expires_us; /* expires_us 0: never */
    uint64_t size, payload_n;
    uint16_t topic_n, facts_n;
    uint8_t signer_n, qos, retain;
    uint8_t kid[PEP_KID_BYTES];
} row_head;

struct batch {
    store_job job;
    batch *next;
    ledger *l;
    int64_t id;        /* random */
    uint64_t begun_us; /* when its first row came */
    unsigned tries;
    unsigned rows, lost; /* lost: that the store does not take, whatever else it takes */
    char why[200];       /* of the last of these */
    size_t n;
    uint8_t bytes[BATCH_BYTES];
};

/* False: it does not fit behind the others. */
bool batch_add(batch *b, const ledger_entry *e);

/* The job's `work`. */
store_result batch_work(store_job *job, store *s);

/* Erases up to PURGE_ROWS whose time is over. */
store_result purge(store *s, uint64_t now_us, uint64_t *erased);

/* ---- facts.c ---- */

/* Text that grows; `failed` where there was no memory. Zero it; free(t->p). */
typedef struct {
    char *p;
    size_t n, cap;
    bool failed;
} text_buffer;

void text_add(text_buffer *t, const char *p, size_t n);
void text_format(text_buffer *t, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* As a JSON string: shortest form, UTF-8 as it is. U+0000, which PostgreSQL cannot keep, becomes U+FFFD. */
void text_add_json(text_buffer *t, const char *p, size_t n);

/* A flat JSON object of encoded facts. */
void text_add_facts(text_buffer *t, pep_view facts);

/*
 * What such an object has for a name, both as they are written there: texts with their quotes. False where there is
 * none. SQLite's own functions take ten times as long, and it would be most of what a question takes.
 */
bool text_find_fact(pep_view *value, pep_view object, pep_view name);

/* A fact's value that is a whole number; or as a text without quotes and escapes. */
bool text_read_number(int64_t *number, pep_view value);
void text_add_value(text_buffer *t, pep_view value);

/* ---- conditions.c: which rows ---- */

typedef struct {
    uint64_t from_us, to_us;
    const char *signer; /* NULL: any */
    const char *topic;  /* a filter; NULL: any */
    bool wild;          /* it has wildcards */
    bool looks;         /* its rows are to be looked at one by one, so that a LIMIT limits what is read */
    unsigned field_n;
    struct {
        const char *name, *value;
    } fields[FIELDS_MAX];
} conditions;

/* A statement that is put together of fixed words; what somebody else chose goes into its parameters alone. */
typedef struct {
    char sql[4096];
    size_t n;
    store_value values[24];
    unsigned count;
    char *owned[16]; /* texts that values point to */
    unsigned owned_n;
    bool postgres;
    bool failed; /* no memory, or no room */

    /* What rows must match, besides: SQLite cannot say it of topics, and is slow with fields. */
    const char *filter; /* NULL: any topic */
    unsigned check_n;
    struct {
        text_buffer name, text, literal; /* as text_find_fact finds them; literal may be empty */
    } checks[FIELDS_MAX];
} statement;

void sql_begin(statement *st, const store *s);
void sql_add(statement *st, const char *words);
unsigned sql_param(statement *st, store_value value); /* adds $N, and returns N */
void sql_again(statement *st, unsigned number);       /* the same parameter once more */
void sql_free(statement *st);

/* The name of a field, as an operand for PostgreSQL's -> */
unsigned sql_field(statement *st, const char *name);

/* " FROM pep_ledger WHERE ..." */
void sql_where(statement *st, const conditions *c);

/* Whether there is more to match than the statement says; and whether a row with these, where they matter, does. */
bool sql_is_open(const statement *st);
bool sql_matches(const statement *st, const store_value *topic, const store_value *fields);

store_result sql_run(store *s, const statement *st, bool (*each)(void *ctx, const store_value *columns, size_t n),
                     void *ctx);

/* ---- ask.c: questions and their answers ---- */

typedef struct {
    int64_t time, id; /* of the last row that was looked at */
    int64_t row;      /* what is told of it; 0: nothing yet */
    uint64_t count;
    int64_t oldest_us, newest_us;
} erasure;

struct ask_job {
    store_job job;
    ask_job *next;
    ledger *l;
    directory_request *request;
    const struct ask_kind *kind;
    pep_reason reason; /* PEP_OK: data is the answer */
    char text[160];    /* of an error, where there is more to say than the reason's text says */
    cJSON *data;
    size_t answer_n; /* bytes of it so far, about */

    /* of an erasure, which takes several transactions */
    bool more;           /* rows to look at */
    bool scrubbing;      /* none are left, but they are on the disk */
    erasure done, doing; /* behind the last transaction that was committed, and behind this one */
    uint64_t give_up_us; /* then it is answered all the same */
};

store_result ask_refuse(ask_job *a, pep_reason reason, const char *format, ...) __attribute__((format(printf, 3, 4)));
store_result ask_no_memory(ask_job *a);

/* Members of the command; false, and bad-command, where they are wrong. */
bool ask_number(ask_job *a, uint64_t *out, const char *name);
bool ask_conditions(ask_job *a, conditions *out);
bool ask_field_name(ask_job *a, const char *name, const char *text);

/* An exact whole number. */
bool add_number(cJSON *object, const char *name, uint64_t number);

/* A question as a job. NULL: no memory. */
ask_job *ask_new(ledger *l, directory_request *request);

/* Hands a question in again, or answers it. */
void ask_again(ask_job *a);
void ask_end(ask_job *a);

/* The kinds. */
store_result run_query(ask_job *a, store *s);    /* query.c */
store_result run_sum(ask_job *a, store *s);      /* groups.c */
store_result run_erasures(ask_job *a, store *s); /* forget.c */
store_result run_forget(ask_job *a, store *s);

/* What is deleted must come off the disk before that is told: waits for it on ticks, and at the end no longer. */
void forget_wait(ask_job *a);
void forget_tick(ledger *l);

#endif
