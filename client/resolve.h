/*
 * From an id or a signer's kid to keys that may be believed: asks the directory, judges what it answers by what is
 * pinned, fetches the history where versions lie between, and says aloud what has changed.
 */
#ifndef CLIENT_RESOLVE_H
#define CLIENT_RESOLVE_H

#include "client/ask.h"
#include "client/given.h"

#define RESOLVE_WAIT_MS    3000                      /* where one can go on without an answer */
#define RESOLVE_TOTAL_MS   20000                     /* for all of it, however many pages a history has */
#define RESOLVE_BYTES_MAX  ((size_t)1024 * 1024)     /* of one history */
#define RESOLVE_MEMORY_MAX ((size_t)8 * 1024 * 1024) /* of all at once; those of unknown kids have half of it */

extern const option resolving_options[];

typedef struct {
    asker *ask;
    pep_pins *pins; /* NULL until something is to be pinned, where the folder is not there */
    char *folder;   /* of the pins */
    given *given;   /* its own: where pins begin. May be NULL */
    uint8_t (*authorities)[PEP_SIGN_PUBLIC_BYTES];
    size_t authority_count;
    size_t memory; /* that histories take now */
} resolver;

/*
 * Opens the pins that `--pins` names, or those beside `key`. `records`: a record file, or a folder of them, where pins
 * begin. 0, or an exit code after a line; resolver_close anyway.
 */
int resolver_open(resolver *r, asker *ask, const char *key, const char *records);
void resolver_close(resolver *r);

/* True where --no-directory stands on the command line. */
bool resolver_off(void);

/* 0, or 2 after a line where the options contradict each other. */
int resolver_check(void);

/* The pins; made where they are not there yet. NULL after a line in `error`. */
pep_pins *resolver_pins(resolver *r, pep_reason *reason, pep_error *error);

/* Reads --authority's values: keys as text, or files that hold them. 0, or an exit code after a line on stderr. */
int read_authorities(uint8_t (**out)[PEP_SIGN_PUBLIC_BYTES], size_t *count, const option_list *list);

typedef struct resolution resolution;

/* One that runs. Zero it, set owner and done. */
struct resolution {
    void *owner;
    void (*done)(resolution *n); /* once; may release it */

    char id[PEP_ID_MAX + 1]; /* "" where only the kid is known so far */
    bool by_kid;
    uint8_t kid[PEP_KID_BYTES]; /* by_kid: what is looked for */

    pep_reason reason; /* in done: PEP_OK, and it is pinned; else nothing changed */
    pep_pin_news news;
    pep_error error;

    /* its own */
    resolver *r;
    question q;
    uint8_t entry[PEP_ENTRY_BYTES_MAX];
    size_t entry_n;
    uint64_t deadline_ms;
    struct resolve_statement *first, **last; /* of the history */
    size_t count, memory;
    uint64_t after;
    bool has_history;
    pep_reason history_reason;
    pep_error history_error;
    bool was_known, was_ended;
    uint8_t kid_before[PEP_KID_BYTES];
};

/* Each calls `done`, at once or later. */
void resolve_id(resolver *r, resolution *n, const char *id, int wait_ms);
void resolve_kid(resolver *r, resolution *n, const uint8_t kid[PEP_KID_BYTES], int wait_ms);
void resolve_entry(resolver *r, resolution *n, const char *id, const uint8_t *entry, size_t entry_n,
                   const uint8_t *kid); /* NULL, or a key that must be one of the device's */

/* Stops one that runs, and releases what it holds; `done` is not called. */
void resolution_end(resolution *n);

/* Says on stderr what a finished one has changed, or why it was refused. Silent where nothing is new. */
void resolution_report(const resolution *n);

#endif
