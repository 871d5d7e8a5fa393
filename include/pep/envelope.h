/* The envelope: sealing, parsing, verifying and opening it (docs/PROTOCOL.md; RFC 9052). */
#ifndef PEP_ENVELOPE_H
#define PEP_ENVELOPE_H

#include "pep/base.h"
#include "pep/keys.h"

#ifdef __cplusplus
extern "C" {
#endif

#define PEP_SIGNATURE_BYTES 64

/* Flags in the signed header. */
#define PEP_FLAG_SIGNED_ONLY 1u /* the payload is content, not an Encrypt0 */
#define PEP_FLAG_WILL        2u /* sealed as an MQTT will */
#define PEP_FLAG_CLEAR       4u /* clears the retained message of its topic; signed only, without content */
#define PEP_FLAG_COUNTER     8u /* seq is a counter, not a time */

/* Facts that the sender asks to have recorded: a CBOR map, built with pep_facts_*, at most PEP_FACTS_MAX bytes. */
typedef enum { PEP_FACT_TEXT, PEP_FACT_INT, PEP_FACT_BOOL } pep_fact_type;

typedef struct {
    pep_view key; /* UTF-8 */
    pep_fact_type type;
    pep_view text;   /* PEP_FACT_TEXT */
    int64_t integer; /* PEP_FACT_INT; PEP_FACT_BOOL: 0 or 1 */
} pep_fact;

#define PEP_FACTS_COUNT_MAX 32

/*
 * Encodes `count` facts (1 to PEP_FACTS_COUNT_MAX), sorting them. out: PEP_FACTS_MAX bytes; *out_n: its length.
 * PEP_BAD_ARGUMENT: a key twice, a key or text that is not UTF-8, or more bytes than PEP_FACTS_MAX.
 */
PEP_API PEP_MUST_CHECK pep_reason pep_facts_encode(uint8_t *out, size_t *out_n, const pep_fact *facts, size_t count);

/*
 * Reads the next fact of an encoded map. Start with *at = 0; returns false at the end. `facts` must come from
 * pep_facts_encode or from a parsed envelope.
 */
PEP_API bool pep_facts_next(pep_fact *out, size_t *at, pep_view facts);

/* What travels encrypted beside the application's bytes. A view with p == NULL is absent. */
typedef struct {
    pep_view content_type; /* UTF-8, such as "application/json"; or, where content_format is set: */
    bool has_content_format;
    uint64_t content_format; /* CoAP Content-Format number (RFC 7252, 12.3) */
    pep_view correlation;    /* MQTT 5.0, 3.3.2.3.6 */
    pep_view reply_topic;    /* UTF-8 (3.3.2.3.5) */
    bool has_content_coding;
    uint64_t content_coding; /* CoAP Content-Format number of a coding */
    pep_view padding;        /* on opening: what stood there. On sealing: its length n counts, p is ignored */
} pep_meta;

/* What to seal. Zero it, then set what is wanted. */
typedef struct {
    const pep_device *from;
    pep_view topic;
    uint64_t seq;   /* from pep_seq_next */
    unsigned flags; /* PEP_FLAG_*, added up */

    /*
     * Exactly one of: `to`, `epoch`, or PEP_FLAG_SIGNED_ONLY in flags (PEP_FLAG_CLEAR says it too). None of them is
     * PEP_BAD_ARGUMENT, so that a recipient who was not found is never sent to in the clear.
     */
    const pep_record *to;
    const pep_epoch *epoch;

    pep_view facts;          /* from pep_facts_encode; empty: nothing is recorded */
    uint64_t exp_s;          /* nobody accepts it after this time; 0: none */
    const uint8_t *audience; /* kid (16 bytes) of the gate that a control command is for, or NULL */
    const pep_meta *meta;    /* or NULL */
    pep_view plain;          /* the application's bytes; may be empty */
} pep_message;

/* Capacity that pep_seal needs for `message`, working space included; 0 where it is more than a size_t holds. */
PEP_API size_t pep_seal_bytes(const pep_message *message);

/*
 * Seals. out: `cap` bytes, at least pep_seal_bytes(message), not overlapping any input; *out_n: the envelope's length,
 * less than that. Direct mode is HPKE base mode (RFC 9180: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20Poly1305);
 * epoch mode ChaCha20-Poly1305 (RFC 8439); the signature Ed25519 (RFC 8032).
 * PEP_BAD_ARGUMENT: a field that no envelope can carry, a topic that begins with `$`, an epoch of another owner or
 * another scope, a recipient's key that is no point of use. PEP_BUFFER_TOO_SMALL.
 * Misuse: the same seq twice under one key. Allocate with pep_seq_next, and seal when sending, not when queueing.
 */
PEP_API PEP_MUST_CHECK pep_reason pep_seal(uint8_t *out, size_t *out_n, size_t cap, const pep_message *message);

typedef enum { PEP_MODE_SIGNED, PEP_MODE_DIRECT, PEP_MODE_EPOCH } pep_mode;

/* An envelope's parts: views into the bytes that were parsed. Nothing here is believed before pep_verify. */
typedef struct {
    pep_mode mode;
    unsigned flags;
    uint64_t seq;
    pep_view topic;
    const uint8_t *kid;      /* the signer: PEP_KID_BYTES */
    const uint8_t *to;       /* recipient's signing kid, or NULL */
    const uint8_t *audience; /* gate's kid, or NULL */
    uint64_t exp_s;          /* 0: none */
    pep_view facts;          /* encoded map, for pep_facts_next; empty: none */

    const uint8_t *key_id; /* direct: kid of the agreement key; epoch: the epoch id; signed only: NULL */
    pep_view nonce;        /* direct: `ek`, 32 bytes; epoch: Partial IV, 4 bytes */
    pep_view ciphertext;   /* with its 16 byte tag */

    pep_view protected_bytes; /* content of the outer protected bstr */
    pep_view inner_protected; /* content of the Encrypt0's protected bstr */
    pep_view payload;         /* content of the payload bstr */
    const uint8_t *signature; /* PEP_SIGNATURE_BYTES */
    size_t size;              /* of the whole envelope */
} pep_envelope;

/*
 * Takes an envelope apart: shape, version and algorithms, in that order; it verifies nothing. Reads no byte outside of
 * `bytes`. PEP_EMPTY_PAYLOAD, PEP_PLAIN_PAYLOAD, PEP_MALFORMED, PEP_UNSUPPORTED_VERSION, PEP_UNSUPPORTED_ALGORITHM.
 */
PEP_API PEP_MUST_CHECK pep_reason pep_parse(pep_envelope *out, const uint8_t *bytes, size_t n);

/* Working space that pep_verify and pep_open need for an envelope of n bytes. */
#define PEP_WORK_BYTES(n) ((n) + 64)

/*
 * Verifies the signature (RFC 9052, 4.4; RFC 8032) of a parsed envelope with the key of `sender`. `work`:
 * PEP_WORK_BYTES(envelope->size) bytes, overwritten. PEP_OK, PEP_BAD_SIGNATURE, PEP_UNKNOWN_SIGNER where the envelope
 * names another signer, PEP_BUFFER_TOO_SMALL. It judges no time: neither the record's nor the envelope's.
 */
PEP_API PEP_MUST_CHECK pep_reason pep_verify(uint8_t *work, size_t work_n, const pep_envelope *envelope,
                                             const pep_record *sender);

/* The same with a bare Ed25519 public key, whose kid the caller has compared with the envelope's. */
PEP_API PEP_MUST_CHECK pep_reason pep_verify_key(uint8_t *work, size_t work_n, const pep_envelope *envelope,
                                                 const uint8_t sign_public[PEP_SIGN_PUBLIC_BYTES]);

/* Who opens, and what he asks for. Zero it, then set what is wanted. */
typedef struct {
    const pep_device *me;       /* needed in direct mode */
    const pep_keyring *senders; /* the records to believe, unless `pins` says otherwise; may be NULL */
    struct pep_pins *pins;      /* asked first, and about who is found in `senders`: pep_pins_judge; may be NULL */
    const pep_epoch *epochs;    /* epoch keys that are known */
    size_t epoch_count;
    pep_view topic;         /* the topic it arrived on, prefix removed; p == NULL: not compared (files, not MQTT) */
    bool allow_signed_only; /* else PEP_NOT_ENCRYPTED */
    uint64_t now_us;        /* 0: no clock, then no time is judged */
    uint64_t max_skew_us;   /* 0: PEP_MAX_SKEW_US */
    uint64_t max_age_us;    /* 0: any age */
} pep_opener;

#define PEP_MAX_SKEW_US 60000000ULL

typedef struct {
    pep_envelope envelope;
    const pep_record *sender; /* owned by the keyring or the pins */
    pep_meta meta;            /* views into `work` or, for signed-only envelopes, into `bytes` */
    pep_view plain;           /* the application's bytes, likewise */
} pep_opened;

/*
 * Parses, judges, verifies and decrypts. `work`: PEP_WORK_BYTES(n) bytes; holds the plaintext afterwards, and is wiped
 * where opening fails. Checks in order: shape, topic, sender known and not expired, encrypted, times, signature,
 * recipient and decryption. A clear (PEP_FLAG_CLEAR) opens with empty content.
 * A sender's key that has ended (pep_record.ended) opens up to its cutoff, however long ago its record expired; above
 * it that is the reason. What was sealed to a former key of `me` opens until that key's time. Whether the seq was seen
 * before is pep_replay_check's question: ask it after this returned PEP_OK. PEP_CANNOT_OPEN covers every failure to
 * decrypt, and an envelope for someone else.
 */
PEP_API PEP_MUST_CHECK pep_reason pep_open(pep_opened *out, uint8_t *work, size_t work_n, const pep_opener *opener,
                                           const uint8_t *bytes, size_t n);

#ifdef __cplusplus
}
#endif
#endif
