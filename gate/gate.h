/*
 * The gate: the part of the plugin that decides. It knows messages, not Mosquitto: the plugin translates the broker's
 * events into calls, and a verdict back into a return code. It never blocks, and allocates nothing for a message.
 */
#ifndef GATE_H
#define GATE_H

#include "directory/signers.h"
#include "pep.h"
#include "policy/policy.h"

typedef struct gate gate;

/* What is recorded of an accepted message whose sender asks for it. The pointers are valid during the call. */
typedef struct {
    uint64_t time_us;  /* when it was accepted, since 1970 */
    const char *topic; /* as the broker has it */
    size_t topic_n;
    const char *signer; /* its id */
    const uint8_t *kid; /* of its signing key: PEP_KID_BYTES */
    uint64_t seq;
    size_t size;      /* of the envelope, in bytes */
    size_t payload_n; /* of the payload in it: ciphertext, or content */
    int qos;
    bool retain;
    pep_view facts;   /* for pep_facts_next */
    uint64_t keep_us; /* 0: without end */
} gate_record;

typedef struct {
    policy *policy;        /* taken over, where the gate opens */
    signers *signers;      /* borrowed: who may sign. Change them only between gate_tick and the next message */
    const char *state_dir; /* folder for the replay state; made, mode 0700, where it is not there. NULL: a gate without
                            * state, of which only gate_at_delivery may be asked */
    /* A key's first verified message since it is among the signers. May be NULL. */
    void (*first_use)(void *ctx, const uint8_t kid[PEP_KID_BYTES]);
    /* What is to be recorded; and, asked before, whether one more can be. NULL: nothing is recorded, and all can be. */
    void (*record)(void *ctx, const gate_record *r);
    bool (*can_record)(void *ctx);
    void *ctx; /* of all of them */
} gate_config;

typedef struct {
    char text[PEP_ERROR_BYTES * 2];
} gate_error;

/* One message at one of the broker's doors. The strings are the broker's and are not kept beyond the call. */
typedef struct {
    const void *client;    /* who sends it: the broker's pointer, compared only */
    const char *client_id; /* may be NULL */
    const char *username;  /* may be NULL */
    const char *address;   /* IP address in text; may be NULL */
    bool bridge;           /* comes in through a bridge that this broker runs */
    bool stored;           /* accepted or stored earlier: about to be delivered, or looked at again before that */
    const char *topic;     /* as the broker has it, prefixes included */
    const uint8_t *payload;
    size_t payload_n;
    int qos;
    bool retain;
    uint64_t now_us;       /* 0: the gate asks CLOCK_REALTIME where it needs the time */
    uint64_t monotonic_us; /* 0: it asks CLOCK_MONOTONIC */
} gate_message;

typedef enum {
    GATE_PASS, /* not ours, or accepted, or observed only */
    GATE_REFUSE,
    GATE_CLEAR /* accepted: turn it into the broker's own clear of a retained message (empty payload) */
} gate_action;

typedef struct {
    gate_action action;
    pep_reason reason;       /* PEP_OK: accepted, or not ours */
    const policy_rule *rule; /* NULL: the topic is not protected */
    bool news;               /* false: the same verdict was given for this message before */
    const char *signer;      /* its id, or "kid:" and its kid, where that is known; valid until the next call */
    uint64_t seq;            /* the envelope's; 0 where it has none */
} gate_verdict;

#define GATE_REASONS (PEP_RECORD_OVERFLOW + 1) /* what a gate can say is below */

/* What was counted since the gate was opened. */
typedef struct {
    uint64_t accepted;
    uint64_t refused[GATE_REASONS];  /* by reason, on enforced topics */
    uint64_t observed[GATE_REASONS]; /* by reason, what enforce would have refused */
    uint64_t withheld;               /* deliveries of what was let in earlier and would be refused now */
    uint64_t redelivered;            /* of the accepted ones: the same message once more */
    uint64_t verifications;          /* signatures verified */
    uint64_t verify_us_sum;
    uint64_t verify_us_max;
    uint64_t kicked;          /* clients that went on with bad signatures */
    uint64_t access_skipped;  /* publishes that were never shown at the access check: another plugin answers first */
    uint64_t policies_loaded; /* the first one included */
    uint64_t policies_failed;
} gate_counters;

/* Opens a gate, or fills `error` with one line and returns NULL. */
gate *gate_open(gate_error *error, const gate_config *config);
void gate_close(gate *g);

/* Makes the folder of a gate's state, mode 0700, where it is not there; checks it where it is. */
bool gate_ready_state_dir(gate_error *error, const char *path);

typedef enum { GATE_RELOADED, GATE_UNCHANGED, GATE_RELOAD_FAILED } gate_reload_result;

/*
 * Takes another policy over, which was read meanwhile; `signers_changed`: those who may sign are others, too. On
 * failure (one line in `error`) the old one stays, and the other one is freed.
 */
gate_reload_result gate_reload(gate *g, gate_error *error, policy *p, bool signers_changed);

/* Counts a reload that failed before there was a policy to take over. */
void gate_reload_failed(gate *g);

/*
 * The verdict at the access check, where it is made and its seq committed; it is kept for the next gate_at_message of
 * the same message, which costs nothing then.
 */
gate_verdict gate_at_access(gate *g, const gate_message *m);

/* The verdict at delivery: the kept one, or, for bridges and where no access check came before, made here. */
gate_verdict gate_at_message(gate *g, const gate_message *m);

/*
 * The verdict before each delivery. What has just come in was judged, and that verdict is used; what was stored
 * meanwhile (retained messages, those queued for a client that was away, and those of QoS 2, which a client may hold
 * back between its two halves for as long as it likes) is judged by what it is, not by its age, and commits nothing.
 * That verdict is kept, too, for the further deliveries of the same message.
 */
gate_verdict gate_at_delivery(gate *g, const gate_message *m);

/*
 * True where the policy lets this client look for what the gate withholds: it is bound to the name of an admin. It is
 * shown retained messages that the gate refuses to everybody else.
 */
bool gate_is_auditor(const gate *g, const gate_message *m);

/*
 * The id of a client that must be disconnected, owned by the caller; NULL: no more. Ask on a tick: Mosquitto cannot
 * disconnect a client while it asks about one of its messages.
 */
char *gate_next_kick(gate *g);

/*
 * A sealed control message needs signatures verified, and comes from somebody: false where the abuse budget forbids it
 * (*verdict is then what a message would have got, but that nobody is kicked). And afterwards, what came of them.
 */
bool gate_allows_command(gate *g, gate_verdict *verdict, const gate_message *m);
void gate_note_command(gate *g, const gate_message *m, bool good);

/* On each tick: drops the kept verdicts. */
void gate_tick(gate *g);

/* On a disconnect: the same, and what follows from this client is its will. */
void gate_disconnected(gate *g, const gate_message *m);

/* Starts writing the replay state to the disk, and takes room there for new signers; call it every few seconds. */
void gate_sync(gate *g);

const gate_counters *gate_counters_of(const gate *g);
const policy *gate_policy(const gate *g);

/* True once where a publish was not shown at the access check: wills are then not shown either. */
bool gate_access_was_skipped(gate *g);

/* True where the replay state was made anew at the start. */
bool gate_state_is_new(const gate *g);

/* True once where the clock is earlier than the newest message that was accepted. */
bool gate_clock_went_back(gate *g, uint64_t now_us);

#endif
