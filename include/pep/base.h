/* What every part of libpep uses: sizes, views, reasons, kids, topics. */
#ifndef PEP_BASE_H
#define PEP_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define PEP_API        __attribute__((visibility("default")))
#define PEP_MUST_CHECK __attribute__((warn_unused_result))
#else
#define PEP_API
#define PEP_MUST_CHECK
#endif

#define PEP_VERSION "0.1.0"

#define PEP_ENVELOPE_VERSION 1
#define PEP_KID_BYTES        16                  /* first bytes of an RFC 9679 key thumbprint (SHA-256) */
#define PEP_ID_MAX           64                  /* characters of a device's id, without the final NUL */
#define PEP_TOPIC_MAX        65535               /* MQTT 5.0, 1.5.4 */
#define PEP_SEQ_MAX          9007199254740991ULL /* 2^53 - 1 */
#define PEP_FACTS_MAX        512                 /* the encoded `record` map */
#define PEP_SHA256_BYTES     32
#define PEP_ERROR_BYTES      512

/* Bytes that somebody else owns. */
typedef struct {
    const uint8_t *p;
    size_t n;
} pep_view;

/* One line for a person: what was wrong, where, and what to do. Never secret. */
typedef struct {
    char text[PEP_ERROR_BYTES];
} pep_error;

/*
 * Everything that can be said about an envelope, a file or a call. The numbers and the names (pep_reason_name) are
 * stable: logs, counters, notices, the command line and the docs use them.
 */
typedef enum {
    PEP_OK = 0,

    /* verdicts on an envelope, in the order in which a gate checks (docs/PROTOCOL.md) */
    PEP_RESERVED_TOPIC = 1,        /* reserved-topic: $PEP, $share and the like: no sender's to write */
    PEP_TOO_LARGE = 2,             /* too-large: longer than the rule's max_size */
    PEP_EMPTY_PAYLOAD = 3,         /* empty-payload: nothing there that could be signed */
    PEP_PLAIN_PAYLOAD = 4,         /* plain-payload: not a COSE_Sign1 at all */
    PEP_MALFORMED = 5,             /* malformed: not the one encoding that docs/PROTOCOL.md allows */
    PEP_UNSUPPORTED_VERSION = 6,   /* unsupported-version */
    PEP_UNSUPPORTED_ALGORITHM = 7, /* unsupported-algorithm */
    PEP_WRONG_TOPIC = 8,           /* wrong-topic: signed for another topic */
    PEP_UNKNOWN_SIGNER = 9,        /* unknown-signer: no record for the signer's kid */
    PEP_EXPIRED_SIGNER = 10,       /* expired-signer: the record's not-after has passed */
    PEP_SIGNER_NOT_ALLOWED = 11,   /* signer-not-allowed: the rule does not let this device speak here */
    PEP_UNBOUND_CLIENT = 12,       /* unbound-client: the MQTT client's name is not the signer's id */
    PEP_MISPLACED_FLAG = 13,       /* misplaced-flag: a will or clear flag on a message that is none */
    PEP_NOT_ENCRYPTED = 14,        /* not-encrypted: signed only, where encryption is asked for */
    PEP_RECORD_DENIED = 15,        /* record-denied: asks to be recorded where that is not allowed */
    PEP_NO_CLOCK = 16,             /* no-clock: seq is a counter, where an age is asked for */
    PEP_FUTURE_SEQ = 17,           /* future-seq: further ahead than max_skew */
    PEP_STALE = 18,                /* stale: older than max_age or will_max_age */
    PEP_EXPIRED = 19,              /* expired: its own exp has passed */
    PEP_REPLAYED = 20,             /* replayed: this seq was seen, or lies below what is remembered */
    PEP_BAD_SIGNATURE = 21,        /* bad-signature */
    PEP_RATE_LIMITED = 22,         /* rate-limited: not verified, after too many bad signatures from there */
    PEP_REVOKED_SIGNER = 23,       /* revoked-signer: its key was revoked */
    PEP_ROTATED_SIGNER = 24,       /* rotated-signer: its key was replaced by a newer one */
    PEP_NO_ROOM = 25,              /* no-room: the gate has no room left to remember what it sent */
    PEP_RECORD_OVERFLOW = 26,      /* record-overflow: it asks to be recorded, which cannot be done at the moment */

    /* what only someone who opens can say */
    PEP_CANNOT_OPEN = 40, /* cannot-open: not for this key, or altered; deliberately no more than that */

    /* calls and files */
    PEP_BAD_ARGUMENT = 60,     /* bad-argument: a value that no envelope or file can carry */
    PEP_BUFFER_TOO_SMALL = 61, /* buffer-too-small */
    PEP_BAD_FILE = 62,         /* bad-file: not a file of that kind, or damaged */
    PEP_UNSAFE_FILE = 63,      /* unsafe-file: others may read or write what must be secret */
    PEP_EXISTS = 64,           /* exists: never overwritten */
    PEP_CANNOT_READ = 65,      /* cannot-read: open, read or map failed */
    PEP_CANNOT_WRITE = 66,     /* cannot-write: create, write or sync failed */
    PEP_LOCKED = 67,           /* locked: another process has it */
    PEP_SEQ_AHEAD = 68,        /* seq-ahead: the clock was ahead once; the device needs a new signing key */
    PEP_NO_MEMORY = 69,        /* no-memory */
    PEP_SEQ_MIXED = 70,        /* seq-mixed: this key numbers by time, or counts; it cannot do both */

    /* the directory: what a gate answers to a command, and what a client finds wrong with what it was given */
    PEP_BAD_COMMAND = 80,       /* bad-command: not a command, or one of its fields is missing or wrong */
    PEP_NOT_AUTHORIZED = 81,    /* not-authorized: signed by nobody who may do that, or not signed at all */
    PEP_WRONG_AUDIENCE = 82,    /* wrong-audience: a command for another gate */
    PEP_REPEATED_COMMAND = 83,  /* repeated-command: this very command was carried out before */
    PEP_UNKNOWN_ID = 84,        /* unknown-id: the directory has no such device */
    PEP_ID_TAKEN = 85,          /* id-taken: the id is, or once was, another's */
    PEP_KID_TAKEN = 86,         /* kid-taken: one of the keys is, or once was, another's */
    PEP_WRONG_ID = 87,          /* wrong-id: a record, certificate or token of another device */
    PEP_WRONG_VERSION = 88,     /* wrong-version: not the version that comes next */
    PEP_VERSION_WENT_BACK = 89, /* version-went-back: older than what was seen before */
    PEP_BROKEN_CHAIN = 90,      /* broken-chain: it does not follow what it says it follows */
    PEP_UNPROVEN_KEY = 91,      /* unproven-key: a new key that neither the old one nor an authority signed */
    PEP_NOT_CERTIFIED = 92,     /* not-certified: no valid certificate of a configured authority */
    PEP_BAD_TOKEN = 93,         /* bad-token: no such token, not for this id, used or expired */
    PEP_CLOSED = 94,            /* closed: only the operator adds devices here */
    PEP_TRY_LATER = 95,         /* try-later: the store cannot be reached, or too much is waiting */
    PEP_STORE_FAILED = 96,      /* store-failed: the store refused: full, read-only or damaged */
    PEP_TOO_MANY = 97,          /* too-many: a limit of this directory is reached */
    PEP_NEEDS_HISTORY = 98      /* needs-history: versions lie between that were not seen */
} pep_reason;

/* The stable name, such as "bad-signature"; "ok" for PEP_OK, "unknown" for a number that is none. Never NULL. */
PEP_API const char *pep_reason_name(pep_reason reason);

/* One sentence for a person, without a full stop. Never NULL. */
PEP_API const char *pep_reason_text(pep_reason reason);

/* Readies the library (libsodium's start-up). Returns PEP_OK; may be called again. */
PEP_API PEP_MUST_CHECK pep_reason pep_init(void);

/* PEP_VERSION of the library that is running. */
PEP_API const char *pep_version(void);

/* Microseconds since 1970-01-01 UTC, from CLOCK_REALTIME. */
PEP_API uint64_t pep_now_us(void);

/* True where `id` is `[A-Za-z0-9._:@-]{1,64}`. */
PEP_API bool pep_id_valid(const char *id, size_t n);

/*
 * True where `topic` can stand in an envelope: 1 to 65535 bytes of UTF-8 (RFC 3629) without NUL, `+` or `#`
 * (MQTT 5.0, 4.7.1). Reserved topics (`$...`) are valid here; pep_seal refuses them by itself.
 */
PEP_API bool pep_topic_valid(const char *topic, size_t n);

/* True where `filter` is a topic filter: as a topic, with `+` alone in a level and `#` alone in the last one. */
PEP_API bool pep_filter_valid(const char *filter, size_t n);

/*
 * True where the valid `filter` matches the valid `topic` (MQTT 5.0, 4.7.1 and 4.7.2: a leading wildcard does not match
 * a topic that begins with `$`).
 */
PEP_API bool pep_filter_matches(const char *filter, size_t filter_n, const char *topic, size_t topic_n);

#ifdef __cplusplus
}
#endif
#endif
