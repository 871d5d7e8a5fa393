/* The checks of docs/PROTOCOL.md, "What a gate checks", in their order. */
#ifndef GATE_CHECKS_H
#define GATE_CHECKS_H

#include "gate/budget.h"
#include "gate/gate.h"
#include "gate/verified.h"

/* Where the message stands in the broker. */
typedef enum {
    DOOR_ACCESS,  /* the access check: an ordinary publish or a will, which look alike here */
    DOOR_MESSAGE, /* about to be stored and delivered: never a will of this broker's own clients */
    DOOR_STORED   /* let in earlier, and looked at again before a delivery */
} gate_door;

/* What the checks judge by. */
typedef struct {
    const policy *policy;
    signers *signers;
    pep_replay *replay; /* NULL: an audit, of what is stored alone */
    budget *budget;
    const void *gone; /* the client that has just disconnected: what it still sends is its will */
    uint8_t *work;    /* PEP_WORK_BYTES of the policy's largest envelope */
    size_t work_n;
    verified *verified;
    gate_counters *counters;
    bool (*can_record)(void *ctx); /* may be NULL */
    void *ctx;
} gate_rules;

/* One message on its way through the checks; each check fills in what the next ones use. */
typedef struct {
    const gate_rules *rules;
    const gate_message *message;
    gate_door door;
    size_t topic_n;
    const policy_rule *rule;
    pep_envelope envelope;
    signer signer; /* where `known` */
    bool known;
    bool has_slot; /* in the replay state: nothing was seen of it otherwise */
    size_t slot;
    uint64_t now_us;
    bool has_digest;
    uint8_t digest[PEP_REPLAY_DIGEST_BYTES];     /* of the envelope's bytes */
    uint8_t redelivery[PEP_REPLAY_DIGEST_BYTES]; /* of them and their sender; zeros where nothing is redelivered */
    bool redelivered;                            /* known already, and nothing more to check */
} judgement;

/* Runs the checks and commits the seq of what is accepted. PEP_OK with j->rule == NULL: the topic is not protected. */
pep_reason gate_judge(judgement *j);

/* What `bind`, `relays` and `admins` look at: the client id or the user name; NULL where there is none. */
const char *gate_bound_name(const policy *p, const gate_message *m);

/* A will flag on what turned out to be an ordinary publish: asked at delivery, of a verdict made at the access check.
 */
pep_reason gate_check_flags(judgement *j);

#endif
