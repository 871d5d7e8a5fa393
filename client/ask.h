/*
 * Questions to a gate, and their answers: each question has a random correlationData, by which its answer is found, and
 * a deadline. What arrives may come from anyone who can write to this connection, so nothing here believes an answer:
 * whoever asked judges the signed statements in it.
 */
#ifndef CLIENT_ASK_H
#define CLIENT_ASK_H

#include <cjson/cJSON.h>

#include "client/mqtt.h"
#include "pep.h"

#define ASK_WAIT_MS           10000 /* a command's answer */
#define ASK_GATE_MS           5000  /* the gate's own record, which is retained */
#define ASK_CORRELATION_BYTES 33

typedef struct asker asker;
typedef struct question question;

/* Owned by whoever asks; stays where it is until `answered` was called or ask_drop. Zero it, set owner and answered. */
struct question {
    void *owner;
    /* Once: PEP_OK with `data` (may be NULL), or the gate's reason and words. PEP_TRY_LATER: nothing came in time. */
    void (*answered)(question *q, pep_reason reason, const cJSON *data, const char *text);

    char correlation[ASK_CORRELATION_BYTES];
    uint64_t deadline_ms;
    bool open;
    question *next;
};

struct asker {
    mqtt_link *link;
    question *first;
    int wait_ms; /* for the answer to a command; 0: ASK_WAIT_MS */
    bool heard;  /* some answer came on this connection: there is a gate */

    /* the gate's record, once ask_gate has found it */
    uint8_t gate[PEP_ENTRY_BYTES_MAX];
    size_t gate_n;
    uint8_t gate_kid[PEP_KID_BYTES];
};

/* Gives the question its correlation; the command's JSON is made with it, then it is sent. */
void ask_begin(question *q);

/* Publishes a command, plain or sealed. False, and nothing waits: the connection is gone. */
bool ask_send(asker *a, question *q, const void *payload, size_t n, int wait_ms);

/* Nobody waits for it any more. */
void ask_drop(asker *a, question *q);

/* True where the message was an answer, or the gate's record: it is taken. */
bool ask_take(asker *a, const struct mosquitto_message *m);

/* Ends the questions whose time is over. */
void ask_expire(asker *a);

/* ---- one question at a time, for commands that do nothing else ---- */

/* For a link that belongs to an asker alone: after mqtt_prepare. link->owner is the asker then. */
void ask_prepare(asker *a, mqtt_link *link);

/* Waits for `over` to become true while questions are answered and expire. 0, or 3 after a line on stderr. */
int ask_until(asker *a, const bool *over);

/* What came of a command. */
typedef struct {
    pep_reason reason;
    char text[PEP_ERROR_BYTES];
    cJSON *data; /* the caller's: cJSON_Delete */
} reply;

/*
 * Sends a command whose JSON `q` was begun for, and waits: 0 with an answer of any kind, or 3 after a line on stderr.
 */
int ask_and_wait(asker *a, reply *out, question *q, const void *payload, size_t n);

/*
 * Learns who the gate is from PEP_GATE_TOPIC: its record must hold together and, where there are authorities, be
 * certified as a gate's. 0, or an exit code after a line on stderr.
 */
int ask_gate(asker *a, const uint8_t (*authorities)[PEP_SIGN_PUBLIC_BYTES], size_t authority_count);

/* fail with what the gate answered. */
int fail_reply(const reply *r, const char *what);

/* The reason of that name; of a name that no version of ours has, PEP_BAD_COMMAND. */
pep_reason reason_of(const char *name);

/* Decodes base64url without padding. False: it is none, or longer than `cap`. */
bool decode_bytes(uint8_t *out, size_t *n, size_t cap, const cJSON *item);

/* The text of a field; NULL where it is not there or not a text. The number; false likewise, or not a whole one. */
const char *text_field(const cJSON *object, const char *name);
bool number_field(uint64_t *out, const cJSON *object, const char *name);

#endif
