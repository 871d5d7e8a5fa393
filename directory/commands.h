/* One control message, and the commands in it, in the worker's thread. */
#ifndef DIRECTORY_COMMANDS_H
#define DIRECTORY_COMMANDS_H

#include "directory/internal.h"
#include "directory/json.h"

/* A statement that a command brings, and the bytes that it points into. */
typedef struct {
    uint8_t bytes[PEP_STATEMENT_BYTES_MAX];
    size_t n;
    pep_statement statement;
    pep_reason reason; /* what pep_statement_parse said */
} brought;

typedef struct {
    registrar *r;
    store *s;
    control_job *job;
    uint64_t now_us;
    bool sealed;
    bool known;     /* the signer stands in the store, in `signer` */
    bool admin;     /* and is one */
    key_row signer; /* of the message */
    bool has_brought;
    brought brought;     /* of the only command, read for the sake of its signer */
    size_t answer_bytes; /* so far */
    unsigned look_ups;   /* so far */
} session;

typedef struct {
    const cJSON *request;
    const char *name;
    pep_reason reason; /* PEP_OK: data is the answer */
    char text[160];    /* of an error, where there is more to say than what the reason's text says */
    cJSON *data;       /* taken over; NULL: none, or no memory */
    bool changed;
    bool handed_on; /* to the ledger, which answers */
    bool certified; /* it was only a certificate that changed */
    bool has_signer;
    uint8_t signer_kid[PEP_KID_BYTES]; /* of the statement that it brings */
} command;

/* Fills in an error, and returns STORE_OK, so that a refusal is one line. */
store_result refuse(command *c, pep_reason reason);
store_result refuse_with(command *c, pep_reason reason, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Takes another `n` bytes of answer. False, and too-many, where there would be too many. */
bool has_room(session *x, command *c, size_t n);

/* Takes so many more look-ups. False, and too-many, where there would be too many. */
bool may_look_up(session *x, command *c, unsigned n);

/* The member as bytes. False, and bad-command: missing though it must be there, or wrong. *n is 0 where it is not
 * there. */
bool want_bytes(command *c, uint8_t *out, size_t *n, size_t cap, const char *name, bool needed);

/* The same for an id, a kid, and a number, which may each be missing only where they are not needed. */
bool want_id(command *c, const char **out, const char *name, bool needed);
bool want_kid(command *c, uint8_t kid[PEP_KID_BYTES], const char *name);
bool want_number(command *c, uint64_t *out, const char *name, bool needed);

/* Reads and parses the statement in member `name`, which counts as a verification. False, and what was wrong. */
bool want_statement(session *x, command *c, const brought **out, const char *name, brought *mine);

/* What came of a verification. */
void count_verified(session *x, pep_reason reason);

/* Whether a head's record may be shown here. */
store_result visible_head(session *x, key_row *out, bool *found, const char *id);

/* ---- control.c ---- */

store_result run_ledger(session *x, command *c);

/* ---- changes.c ---- */

store_result run_enroll(session *x, command *c);
store_result run_rotate(session *x, command *c);
store_result run_revoke(session *x, command *c);
store_result run_token(session *x, command *c);

/* ---- reads.c ---- */

store_result run_lookup(session *x, command *c);
store_result run_list(session *x, command *c);
store_result run_history(session *x, command *c);
store_result run_status(session *x, command *c);

#endif
