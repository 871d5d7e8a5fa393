/*
 * The ledger in the broker: keeps what the senders of messages asked to have recorded about them, answers questions
 * about it, and erases it when its time is over. It has two threads of its own, one that writes and one that reads, so
 * that neither keeps the other, the directory or the broker waiting.
 *
 * All functions here are for the broker's thread and never wait, but for ledger_open and ledger_close.
 */
#ifndef LEDGER_LEDGER_H
#define LEDGER_LEDGER_H

#include "directory/directory.h"
#include "pep.h"

#define LEDGER_ROWS_MAX  100000             /* that wait to be written; more are dropped */
#define LEDGER_BYTES_MAX ((size_t)32 << 20) /* the same, in bytes */

typedef struct ledger ledger;

/* One accepted message whose sender asked for it. Copied. */
typedef struct {
    uint64_t time_us; /* when the gate accepted it, since 1970 */
    const char *topic;
    size_t topic_n;
    const char *signer; /* id */
    const uint8_t *kid; /* PEP_KID_BYTES */
    uint64_t seq;
    size_t size;      /* bytes of the envelope */
    size_t payload_n; /* bytes of the payload in it */
    int qos;
    bool retain;
    pep_view facts;   /* encoded, for pep_facts_next */
    uint64_t keep_us; /* 0: without end */
} ledger_entry;

typedef struct {
    void *ctx;
    /* The answer to a question; NULL: there was no memory for one. The request is the callee's. */
    void (*answer)(void *ctx, directory_request *request, const char *json, size_t n);
    /* One line for the log, at error, warning, notice or debug. */
    void (*log)(void *ctx, char level /* e w n d */, const char *line);
} ledger_hooks;

/* For counters, $SYS/broker/pep/ledger/... */
typedef struct {
    uint64_t recorded; /* on disk */
    uint64_t dropped;  /* asked to be recorded, and were not */
    uint64_t waiting;  /* to be written */
    uint64_t erased;   /* because their time was over, or by an admin */
    bool away;         /* the store cannot be reached, or refuses */
} ledger_counters;

/* Opens the store at `url`, which it may share with a directory. NULL, and one line in `error`. `gate`: its kid. */
ledger *ledger_open(pep_error *error, const char *url, const uint8_t gate[PEP_KID_BYTES], const ledger_hooks *hooks);

/* Writes what waits, for at most STORE_PATIENCE_MS, and answers what was asked. */
void ledger_close(ledger *l);

/* Hands in what is to be recorded. Where there is no room it is dropped, and counted. */
void ledger_record(ledger *l, const ledger_entry *entry);

/* Whether what is handed in now will be recorded, as far as can be known. */
bool ledger_has_room(const ledger *l);

/* A command from the directory: answered once, later. */
void ledger_ask(ledger *l, directory_request *request);

/* On each tick. For at most `us` microseconds. True: it goes on at once. */
bool ledger_tick(ledger *l, uint64_t us);

ledger_counters ledger_counted(const ledger *l);

#endif
