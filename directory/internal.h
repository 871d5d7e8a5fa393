/*
 * What the directory's files share. Two threads: the broker's has `directory`, the worker's `registrar`; whatever goes
 * from one to the other goes in a job, but for the settings, which are exchanged as a whole.
 */
#ifndef DIRECTORY_INTERNAL_H
#define DIRECTORY_INTERNAL_H

#include <stdatomic.h>
#include <uthash.h>

#include "directory/directory.h"
#include "directory/rows.h"

#define QUEUE_BYTES_MAX   ((size_t)16 << 20) /* control messages that wait, together */
#define PLAIN_BYTES_MAX   ((size_t)8 << 20)  /* of these, messages that are not sealed */
#define CLIENT_BYTES_MAX  ((size_t)1 << 20)  /* of these, of one client */
#define CLIENT_BURST      ((size_t)4 << 20)  /* bytes of answers that one client may leave unread, as far as we know */
#define CLIENT_RATE       ((size_t)1 << 20)  /* and so many more a second */
#define LOOK_UPS_MAX      256                /* in one message */
#define BATCH_MS          20                 /* what nobody can undo waits so long for what others want to know */
#define ANSWER_BYTES_MAX  ((size_t)1 << 20)  /* of one answer: what would be more is too-many */
#define ANSWERS_BYTES_MAX ((size_t)64 << 20) /* answers that wait, together */
#define PAGE_ROWS         500
#define NEWS_ROWS         64    /* in one job for the broker's thread */
#define CHANGES_MAX       50000 /* read at once: more than one batch of our own can make, see worker.h and directory.h */
#define SKEW_S            (PEP_MAX_SKEW_US / 1000000)
#define FOLLOW_EVERY_MS   5000
#define PURGE_EVERY_S     30
#define TOPIC_BYTES       (sizeof PEP_KEYS_TOPIC + PEP_ID_MAX)

/* ---- the worker's side ---- */

/* One statement file of the operator's. */
typedef struct {
    char id[PEP_ID_MAX + 1];
    uint8_t hash[PEP_SHA256_BYTES];
} folder_file;

typedef struct {
    folder_file *files; /* sorted by id */
    size_t count;
} folder_list;

typedef struct {
    directory_rules rules;
    folder_list folder;
    uint8_t gate_entry[PEP_ENTRY_BYTES_MAX]; /* as status gives it */
    size_t gate_entry_n;
} settings;

typedef struct {
    settings *settings;
    _Atomic(settings *) next; /* from the broker's thread; NULL: no other */
    const char *records_dir;
    const char *state_dir;
    const uint8_t *gate_kid;
    const char *store_kind;

    uint64_t last_change, seen_change; /* up to where the change feed was read: for good, and in this transaction */
    uint64_t published, seen_published;
    uint64_t purged_s;
    directory *owner; /* for what is posted; not to be looked into */

    atomic_size_t answer_bytes; /* of those that wait */
} registrar;

/* The rules and files, the same ones until the transaction ends: before it, registrar_renew takes over others. */
const settings *registrar_settings(registrar *r);
void registrar_renew(void *r);

/* Whether the operator's file about this id is still there, where one is needed. */
bool registrar_sees(registrar *r, const key_row *row);

/* Whether the key may do what only admins may. */
bool registrar_is_admin(registrar *r, const key_row *row, uint64_t now_s);

void settings_free(settings *s);

/* ---- control.c ---- */

/* Who has asked lately. */
typedef struct control_client {
    UT_hash_handle hh; /* in directory.clients, by `id`, unless it is gone */
    unsigned waiting, waiting_plain, waiting_ledger;
    size_t waiting_bytes;
    uint64_t paid_us; /* when the answers that it got are within CLIENT_RATE again */
    atomic_bool gone; /* disconnected: whoever has that id now has not asked */
    char id[];
} control_client;

typedef struct {
    store_job job;
    directory *d;
    registrar *r;
    control_client *client;
    directory_asker asker; /* points behind the payload */
    char *answer;          /* malloc'd; NULL: none could be made */
    size_t answer_n;
    char *told; /* malloc'd: what it changed, for the log, a line each, with a NUL behind each, and another one */
    size_t told_n;
    directory_request *requests; /* to the ledger, in their order */
    bool sealed;
    bool verified;  /* signatures were */
    bool bad;       /* one of them was */
    bool authentic; /* the message is, it is by somebody known here, and it came for the first time: a record alone is
                       public, and anybody can make up a key */
    bool wrote;     /* and so found out whether the store takes changes */
    unsigned commands, changes, refused;
    size_t n;
    uint8_t payload[];
} control_job;

/* The job's `work`. */
store_result control_work(store_job *job, store *s);

void control_free_requests(directory_request *first);

/* ---- chain.c: statements in the store ---- */

/* A statement that is to be stored, with what goes along. */
typedef struct {
    const pep_statement *statement;
    pep_view bytes;
    pep_view certificate; /* p == NULL: none */
    const pep_certificate *certified;
} chain_link;

/* Whether another id has, or had, one of the keys in it; with `former_too`, also this id before `current`. */
store_result chain_keys_taken(store *s, bool *taken, const pep_statement *st, const key_row *current, bool former_too);

/* What pep_head_advance needs, of a head in the store. */
void chain_head(pep_head *out, const key_row *head, const statement_row *last);

/* The first statement of an id. */
store_result chain_begin(store *s, const chain_link *link, bool provisioned);

/* The next one of `head`. `replace`: it does not follow, and the operator wants it all the same. */
store_result chain_append(store *s, const key_row *head, const chain_link *link, bool replace, uint64_t now_us);

/* Another certificate for the same key. */
store_result chain_certify(store *s, const key_row *head, const statement_row *last, const chain_link *link);

/* The entry of a head. False: the store's bytes are none. */
bool chain_entry(uint8_t *out, size_t *n, const statement_row *statement);

/* Whether the statement and the row say the same, and the statement is what its signature says. */
bool chain_sound(const key_row *key, const statement_row *statement);

/* ---- folder.c: the operator's files ---- */

/* Reads and imports. STORE_FAILED with `error` where a file, or what is in it, is wrong; *list is the caller's. */
store_result folder_import(registrar *r, store *s, folder_list *list, pep_error *error, const directory_rules *rules);
void folder_list_free(folder_list *list);
bool folder_lists_equal(const folder_list *a, const folder_list *b);
bool folder_list_has(const folder_list *list, const char *id);

/* As signers_provision takes it. False: no memory. */
bool folder_ids(signer_ids *out, const folder_list *list);

/* ---- gatekey.c: who the gate is ---- */

/* Loads, or makes, the gate's key and record; with its certificate, checked, the entry that it serves. */
bool gate_identity(pep_error *error, uint8_t kid[PEP_KID_BYTES], uint8_t entry[PEP_ENTRY_BYTES_MAX], size_t *entry_n,
                   const char *state_dir, const directory_rules *rules);

/* ---- serve.c: what is retained ---- */

/* Something about a key, for the broker's thread. */
typedef struct news_item news_item;
struct news_item {
    news_item *next;
    key_row row;
    bool unserved;  /* there are too many */
    size_t entry_n; /* 0: nothing to publish */
    uint8_t entry[];
};

/* The worker's hooks; ctx is the registrar. */
store_result serve_follow(void *ctx, store *s, store_worker *w);
void serve_followed(void *ctx, store *s, bool committed);

/* Adds to the index. False: no memory, and the key is distrusted. */
bool serve_put(signers *s, const key_row *row);

/* Goes through what is retained and what should be, page by page; again, where it is at it. */
void serve_start(directory *d);

/* On a tick: whatever waits for being tried again. */
void serve_tick(directory *d);
void serve_gate(directory *d);

/* ---- the broker's side ---- */

typedef enum { PASS_IDLE, PASS_CLEAR, PASS_SERVE } serve_phase;

typedef struct {
    serve_phase phase;
    bool again;     /* from the beginning, when it is through */
    bool submitted; /* a page is with the worker */
    uint64_t due_ms;
    uint64_t served_ms; /* when entries were asked for last */
    char cursor[TOPIC_BYTES];
    uint64_t unserved;
} serve_pass;

typedef struct first_use first_use;

struct directory {
    directory_hooks hooks;
    char *state_dir;
    char *records_dir;
    uint8_t gate_kid[PEP_KID_BYTES];
    uint8_t gate_entry[PEP_ENTRY_BYTES_MAX];
    size_t gate_entry_n;
    bool gate_served;
    bool retained;
    bool closing;
    signers *signers;
    store_worker *worker;
    registrar registrar;
    serve_pass pass;
    control_client *clients; /* uthash head */
    size_t queue_bytes, plain_bytes;
    uint64_t sweep_ms; /* when clients are looked through for those who are quits */
    first_use *again;  /* could not be looked at while the store was away */
    size_t again_count;
    bool failing; /* the store refuses changes, and the log has it */
    bool away;
    bool warned_unserved;
    directory_counters counters;
};

/* ---- queue.c, use.c ---- */

/* Tells, once each time, when the store goes away and comes back. */
void queue_watch_store(directory *d);

/* Forgets clients that have nothing to wait for and nothing to pay; at the end, all. */
void queue_tick(directory *d);
void queue_forget(directory *d);

/* Asks again what could not be asked; or forgets it, at the end. */
void use_tick(directory *d);
void use_forget(directory *d);

void directory_say(directory *d, char level, const char *format, ...) __attribute__((format(printf, 3, 4)));
uint64_t directory_ms(void);

#endif
