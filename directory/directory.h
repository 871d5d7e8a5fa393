/*
 * The directory in the broker: takes commands, keeps records, serves them, and tells the gate who may sign. It knows
 * JSON, statements and the store, and nothing of Mosquitto: the plugin hands it what arrives and publishes what it
 * gives.
 *
 * All functions here are for the broker's thread and never wait, but for directory_open and directory_close.
 */
#ifndef DIRECTORY_DIRECTORY_H
#define DIRECTORY_DIRECTORY_H

#include "directory/signers.h"
#include "pep.h"
#include "store/worker.h"

#define DIRECTORY_COMMAND_MAX    65536   /* bytes of one control message */
#define DIRECTORY_COMMANDS_MAX   64      /* commands in one */
#define DIRECTORY_CLIENT_PENDING 256     /* sealed control messages of one client that wait */
#define DIRECTORY_CLIENT_PLAIN   8       /* others of one client that wait */
#define DIRECTORY_CLIENT_LEDGER  8       /* questions to the ledger of one client that wait */
#define DIRECTORY_RETAINED_MAX   100000  /* records that are served retained */
#define DIRECTORY_MAX_RECORDS    2000000 /* where the policy does not say */

typedef struct directory directory;

typedef enum { DIRECTORY_CLOSED, DIRECTORY_AUTHORITY, DIRECTORY_TOKEN, DIRECTORY_OPEN } directory_enroll;

/* What the policy says, by value: the worker's thread has its own copy. */
typedef struct {
    directory_enroll enroll;
    bool retained; /* else only on request */
    uint64_t max_records;
    uint8_t (*authorities)[PEP_SIGN_PUBLIC_BYTES]; /* malloc'd, taken over */
    size_t authority_count;
    char **admins; /* ids and "@group"s, malloc'd each and as a whole, taken over */
    size_t admin_count;
} directory_rules;

void directory_rules_free(directory_rules *rules);

/* Who sent a control message; copied. */
typedef struct {
    const char *client_id;
    const char *username; /* may be NULL */
    const char *address;  /* may be NULL */
} directory_asker;

/* A command to the ledger, signed by a device that is known and current, which came for the first time. */
typedef struct directory_request directory_request;
struct directory_request {
    directory_request *next;      /* the directory's */
    struct control_client *asker; /* the directory's */
    struct cJSON *command;        /* one object of `commands` */
    bool admin;
    char id[PEP_ID_MAX + 1]; /* whose signature it has */
};

typedef struct {
    void *ctx;
    /* Publishes `n` bytes, retained; 0: clears. False where there was no memory. */
    bool (*publish)(void *ctx, const char *topic, const uint8_t *p, size_t n);
    /* Sends the answer to one client, on PEP_ANSWER_TOPIC. */
    void (*answer)(void *ctx, const char *client_id, const char *json, size_t n);
    /* Signatures were verified for this asker, and what came of it: for the abuse budget. `good`: somebody who is known
     * here has sent it, for the first time; else something was wrong, or anybody could have sent it. */
    void (*verified)(void *ctx, const directory_asker *asker, bool good);
    /* One line for the log, at error, warning, notice or debug. */
    void (*log)(void *ctx, char level /* e w n d */, const char *line);
    /* Takes a request over; directory_answer gives it back. NULL: there is no ledger. */
    void (*ledger)(void *ctx, directory_request *request);
} directory_hooks;

typedef struct {
    const char *store_url;   /* NULL: sqlite:STATE_DIR/directory.db */
    const char *state_dir;   /* exists; holds gate.key, gate.pub and, where there is one, gate.cert */
    const char *records_dir; /* the operator's folder, or NULL */
    directory_hooks hooks;
} directory_config;

/* For counters, $SYS/broker/pep/directory/... and store/... */
typedef struct {
    uint64_t records;  /* devices with a current key */
    uint64_t changes;  /* enrolments, rotations, revocations, tokens that were acknowledged */
    uint64_t refused;  /* commands that were answered with an error */
    uint64_t commands; /* all */
    uint64_t commits;  /* transactions with changes */
    uint64_t store_failures;
    bool store_away;
    uint64_t unserved; /* records that are not retained because there are too many */
} directory_counters;

/* Opens the store, loads who may sign, imports the folder. NULL, and one line in `error`. `rules` is taken over. */
directory *directory_open(pep_error *error, const directory_config *config, directory_rules *rules);
void directory_close(directory *d);

/* Who may sign, for the gate. Owned by the directory. */
signers *directory_signers(directory *d);

/* The gate's signing kid (PEP_KID_BYTES). */
const uint8_t *directory_gate_kid(const directory *d);

/*
 * A control message. The answer comes by hooks.answer, later, or at once where it is too large or too much waits. Never
 * an error to the broker.
 */
void directory_control(directory *d, const directory_asker *asker, const uint8_t *payload, size_t n);

/* Answers a request, whose asker may have gone, and frees it. `json` NULL: there was no memory for an answer. */
void directory_answer(directory *d, directory_request *request, const char *json, size_t n);

/* From any thread: nobody waits for the answer any more. */
bool directory_asker_gone(const directory_request *request);

/* Instead, where the abuse budget forbids to look at it. */
void directory_rate_limited(directory *d, const directory_asker *asker);

/* This client is disconnected: it gets no answers any more, and whoever has its id next gets none of its. */
void directory_gone(directory *d, const char *client_id);

/* True where the message is one that signatures are verified of. */
bool directory_is_sealed(const uint8_t *payload, size_t n);

/* On each tick: takes over what changed, publishes it, answers. For at most `us` microseconds. True: there is more. */
bool directory_tick(directory *d, uint64_t us);

/*
 * Reads the folder again and takes over other rules, in the worker's thread; then calls `done` with the outcome, on a
 * tick: PEP_OK, with *changed telling whether the folder differs from before, or one line in `error` and nothing
 * changed. `rules` is taken over. `load`, where not NULL, is called first, in the worker's thread: whatever else a
 * reload reads (the policy). False from it fails the reload, with its line in `error`; it then has filled `rules`.
 */
typedef struct directory_reload directory_reload;
struct directory_reload {
    void *ctx;
    bool (*load)(directory_reload *r); /* fills rules, error */
    void (*done)(directory_reload *r); /* frees r */
    directory_rules rules;             /* taken over where all went well */
    pep_error error;
    bool failed;
    bool changed; /* the folder differs */
};
/* False: too much waits; r is still the caller's. */
bool directory_start_reload(directory *d, directory_reload *r);

/* A key's first message since the start: its record in the store is verified again, in the worker's thread. */
void directory_first_use(directory *d, const uint8_t kid[PEP_KID_BYTES]);

/* True where these bytes are what the directory published last on this topic, since the start. */
bool directory_served(const directory *d, const char *topic, const uint8_t *payload, size_t n);

directory_counters directory_counted(directory *d);

/*
 * Without a broker: fills `s` with who may sign, by what stands in the store and (NULL: none) in the operator's folder.
 * False, and one line in `error`.
 */
bool directory_view(signers *s, pep_error *error, const char *store_url, const char *records_dir);

#endif
