/* Who speaks in the tests, what they seal, and every way in which an envelope can be wrong. */
#ifndef SEAL_H
#define SEAL_H

#include "broker.h"
#include "pep.h"

/* A device with an epoch key of its own for every topic. */
typedef struct {
    pep_device device;
    pep_epoch epoch;
} speaker;

typedef struct {
    speaker alice;   /* allowed on the guarded topics */
    speaker carol;   /* allowed too */
    speaker bob;     /* has a record, and no rule names him */
    speaker old;     /* allowed; the record's not-after has passed */
    speaker gone;    /* allowed once, then revoked */
    speaker turned;  /* allowed; these are the keys that it had before a rotation */
    speaker mallory; /* has no record */
    uint64_t seq;    /* one that is used twice */
} cast;

/* Makes them all and puts their records into the broker's folder. */
void cast_make(cast *c, const broker *b);
void cast_wipe(cast *c);

/* Fresh keys for `id`. */
void speaker_make(speaker *s, const char *id);
void speaker_wipe(speaker *s);

/* Puts a record, valid for an hour, into the broker's folder; or takes it away. */
void record_add(const broker *b, const pep_device *device);
void record_remove(const broker *b, const char *id);

/* A seq that was not handed out before: the time, or one more than the last. */
uint64_t next_seq(void);

/* An envelope, or something that only looks like one. */
typedef struct {
    uint8_t bytes[8192];
    size_t n;
} sealed;

/* Zero it, then set what is wanted. */
typedef struct {
    const speaker *from;
    const char *topic;
    unsigned flags;       /* PEP_FLAG_WILL, PEP_FLAG_CLEAR, PEP_FLAG_COUNTER */
    uint64_t seq;         /* 0: next_seq() */
    uint64_t exp_s;       /* 0: none */
    const pep_record *to; /* direct mode; NULL: epoch mode */
    bool signed_only;
    bool recorded;         /* asks for a fact to be recorded */
    const pep_fact *facts; /* asks for these, `fact_n` of them */
    size_t fact_n;
    size_t plain_n;    /* bytes of content, zeros; 0: `plain` */
    const char *plain; /* NULL: PLAIN_TEXT */
} seal_spec;

#define PLAIN_TEXT "21.5 degrees"

sealed seal(seal_spec spec);

/* One of seal_spec's facts; it points to these texts. */
pep_fact fact_text(const char *key, const char *text);
pep_fact fact_int(const char *key, int64_t integer);
pep_fact fact_bool(const char *key, bool value);

/* True where the bytes open, at a receiver who believes the records in the folder, to PLAIN_TEXT of that sender. */
bool opens(const broker *b, const speaker *from, const pep_device *me, const char *topic, const void *bytes, size_t n);

/* ---- cases ---- */

/*
 * The policy under which the cases have their reasons, for a client who is bound as "alice"; without a budget, as the
 * tests send many bad signatures.
 */
#define GUARD_BUDGET(bind, rate) "enroll = \"closed\";\nbind = \"" bind "\"; budget = { rate = " rate "; };\n"
#define GUARD_HEAD(bind)         GUARD_BUDGET(bind, "0")
#define GUARD_RULE(filter, mode, prefix)                                                                               \
    "{ filter = \"" filter "\"; mode = \"" mode "\"; payload = \"encrypted\"; prefix = \"" prefix "\";\n"              \
    "  signers = [ \"alice\", \"carol\", \"old\" ]; max_age = \"30s\"; will_max_age = \"1h\"; max_size = \"2k\";\n"    \
    "  record = \"deny\"; }"
#define GUARD_TOPICS(rules) "topics = ( " rules " );\n"
#define GUARD_POLICY        GUARD_HEAD("clientid") GUARD_TOPICS(GUARD_RULE("t/#", "enforce", ""))

typedef enum {
    CASE_ALONE,
    CASE_AFTER_ANOTHER, /* `make` gives two; the first one is accepted, the second is the case */
    CASE_AFTER_ITSELF   /* these very bytes were accepted before */
} case_order;

typedef struct {
    const char *name;
    /* Makes the payload for a topic; `flags` belong to the door: PEP_FLAG_WILL where it is sent as a will. */
    sealed (*make)(const cast *c, const char *topic, unsigned flags);
    pep_reason reason; /* what the gate must say; PEP_OK: it accepts */
    case_order order;
} seal_case;

extern const seal_case CASES[];
extern const size_t CASE_COUNT;

/* The case of that reason; PEP_OK: the valid one. */
const seal_case *case_of(pep_reason reason);

/* Makes the case, and what must be accepted before it: false where that is nothing. */
bool case_make(const seal_case *k, cast *c, const char *topic, unsigned flags, sealed *first, sealed *e);

#endif
