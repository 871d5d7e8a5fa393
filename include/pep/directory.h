/*
 * The directory: how a device's keys are enrolled, replaced and revoked, and how others come to believe that
 * (docs/PROTOCOL.md, "Records" to "What a client checks").
 *
 * A device's history is a chain of signed statements: its first record, then rotations and at most one revocation at
 * the end. Each names the SHA-256 of the one before it. Nothing here speaks MQTT: it makes what is published on
 * PEP_CONTROL_TOPIC, and judges what arrives on PEP_KEYS_TOPIC, PEP_GATE_TOPIC and PEP_ANSWER_TOPIC.
 */
#ifndef PEP_DIRECTORY_H
#define PEP_DIRECTORY_H

#include "pep/base.h"
#include "pep/keys.h"

#ifdef __cplusplus
extern "C" {
#endif

#define PEP_CONTROL_TOPIC "$CONTROL/pep/v1"
#define PEP_ANSWER_TOPIC  "$CONTROL/pep/v1/response"
#define PEP_KEYS_TOPIC    "$PEP/keys/" /* and the id: an entry, retained */
#define PEP_GATE_TOPIC    "$PEP/gate"  /* the gate's own entry, retained */

#define PEP_STATEMENT_BYTES_MAX   1400 /* a rotation holds a record of PEP_RECORD_BYTES_MAX */
#define PEP_CERTIFICATE_BYTES_MAX 1400
#define PEP_ENTRY_BYTES_MAX       2900
#define PEP_GROUPS_MAX            16
#define PEP_AUTHORITIES_MAX       64
#define PEP_GRACE_S               60 /* how long a gate still takes a replaced key, below its cutoff */
#define PEP_ENROLLED_DAYS         30 /* how long a record is valid that `pep enroll` and `pep rotate` make */
#define PEP_COMMAND_LIFE_S        60 /* a command's exp is at most so far away */

/* ---- statements ---- */

typedef enum {
    PEP_STATEMENT_RECORD = 1,    /* the first version, signed by the key in it */
    PEP_STATEMENT_ROTATION = 2,  /* the next record, signed by the old key or an authority around it */
    PEP_STATEMENT_REVOCATION = 3 /* no more keys: signed by the device, an authority or an admin */
} pep_statement_kind;

/* A parsed statement. `record` of a record or rotation is verified against its own key; the outer signature of a
 * rotation or revocation is not: pep_head_advance does that. */
typedef struct {
    pep_statement_kind kind;
    char id[PEP_ID_MAX + 1];
    uint64_t version;
    uint64_t issued_s;
    uint8_t hash[PEP_SHA256_BYTES];     /* of the whole statement */
    uint8_t previous[PEP_SHA256_BYTES]; /* zeros in a record of version 1 */
    uint8_t signer_kid[PEP_KID_BYTES];  /* of the outer signature, as stated */
    uint8_t old_kid[PEP_KID_BYTES];     /* rotation, revocation: the signing key that ends; zeros: none does */
    uint64_t cutoff;                    /* above it nothing is valid that old_kid signed; 0 where none ends */
    pep_record record;                  /* not in a revocation */
    pep_view protected_bytes, payload;  /* of the outer signature: views into what was parsed */
    const uint8_t *signature;
} pep_statement;

/* PEP_MALFORMED, PEP_UNSUPPORTED_ALGORITHM, PEP_BAD_SIGNATURE (of the record in it). Views point into `bytes`. */
PEP_API PEP_MUST_CHECK pep_reason pep_statement_parse(pep_statement *out, const uint8_t *bytes, size_t n);

/* Reads a .pub file, which holds any statement. bytes: PEP_STATEMENT_BYTES_MAX; views in `out` point into it. */
PEP_API PEP_MUST_CHECK pep_reason pep_statement_load(pep_statement *out, uint8_t *bytes, size_t *n, pep_error *error,
                                                     const char *path);

/* Writes a .pub file in the place of what is there, in one step. PEP_CANNOT_WRITE. */
PEP_API PEP_MUST_CHECK pep_reason pep_statement_replace(pep_error *error, const char *path, const uint8_t *bytes,
                                                        size_t n);

/* The end of a chain as far as it is known: what the next statement must follow. */
typedef struct {
    char id[PEP_ID_MAX + 1];
    uint64_t version;
    uint8_t hash[PEP_SHA256_BYTES];
    bool revoked;
    uint8_t sign_kid[PEP_KID_BYTES]; /* of the current key; of a revoked device: the last one */
    uint8_t sign_public[PEP_SIGN_PUBLIC_BYTES];
} pep_head;

/* Whose signatures count beside the old key's. Zero it, then set what is wanted. */
typedef struct {
    const uint8_t (*authorities)[PEP_SIGN_PUBLIC_BYTES];
    size_t authority_count;
    const uint8_t *admin_public; /* Ed25519: may revoke; NULL: nobody else */
} pep_trust;

/* Who signed what was accepted. */
typedef enum { PEP_SIGNED_BY_DEVICE, PEP_SIGNED_BY_AUTHORITY, PEP_SIGNED_BY_ADMIN } pep_signed_by;

/* A chain begins. PEP_BAD_ARGUMENT where the statement has no record (a revocation). */
PEP_API PEP_MUST_CHECK pep_reason pep_head_begin(pep_head *out, const pep_statement *first);

/*
 * Moves `head` on to `next`, where it follows: the same id, the next version, previous is the head's hash, and the
 * outer signature verifies with the head's key, an authority's or (revocations alone) the admin's. After a revocation
 * only an authority's rotation follows. A rotation to another signing key names the head's in old_kid, and one to the
 * same key names none. PEP_WRONG_ID, PEP_WRONG_VERSION, PEP_BROKEN_CHAIN, PEP_UNPROVEN_KEY (signed by none of these),
 * PEP_BAD_SIGNATURE, PEP_REVOKED_SIGNER. `by` may be NULL. On failure `head` is unchanged.
 */
PEP_API PEP_MUST_CHECK pep_reason pep_head_advance(pep_head *head, pep_signed_by *by, const pep_statement *next,
                                                   const pep_trust *trust);

/*
 * Signs the record that follows `head`: `device` has the new keys. Its agreement key comes first, then those previous
 * ones of the device whose time is not over. out: PEP_RECORD_BYTES_MAX. PEP_BAD_ARGUMENT.
 */
PEP_API PEP_MUST_CHECK pep_reason pep_record_next(uint8_t *out, size_t *out_n, const pep_device *device,
                                                  const pep_head *head, uint64_t issued_s, uint64_t not_after_s);

/*
 * Wraps that record into a rotation. `signer_public/secret`: the old key's, or an authority's. cutoff: see
 * pep_statement; 0 where the signing key stays. out: PEP_STATEMENT_BYTES_MAX.
 */
PEP_API PEP_MUST_CHECK pep_reason pep_rotation_sign(uint8_t *out, size_t *out_n,
                                                    const uint8_t signer_secret[PEP_SIGN_SECRET_BYTES],
                                                    const pep_head *head, const uint8_t *record, size_t record_n,
                                                    uint64_t cutoff);

/* Revokes what `head` names. `signer_secret`: the device's, an authority's or an admin's. out: PEP_STATEMENT_BYTES_MAX.
 */
PEP_API PEP_MUST_CHECK pep_reason pep_revocation_sign(uint8_t *out, size_t *out_n,
                                                      const uint8_t signer_secret[PEP_SIGN_SECRET_BYTES],
                                                      const pep_head *head, uint64_t issued_s, uint64_t cutoff);

/* ---- authorities: offline keys that certify whose a signing key is ---- */

typedef struct {
    uint8_t sign_public[PEP_SIGN_PUBLIC_BYTES];
    uint8_t sign_secret[PEP_SIGN_SECRET_BYTES];
} pep_authority;

PEP_API PEP_MUST_CHECK pep_reason pep_authority_new(pep_authority *out);
PEP_API PEP_MUST_CHECK pep_reason pep_authority_load(pep_authority *out, pep_error *error, const char *path);
PEP_API PEP_MUST_CHECK pep_reason pep_authority_save(pep_error *error, const char *path, const pep_authority *a);
PEP_API void pep_authority_wipe(pep_authority *a);

#define PEP_AUTHORITY_TEXT_BYTES 44 /* base64url of a public key without padding, and NUL */

/* An authority's public key as a policy file and `--authority` have it. */
PEP_API void pep_authority_text(char out[PEP_AUTHORITY_TEXT_BYTES], const uint8_t sign_public[PEP_SIGN_PUBLIC_BYTES]);
PEP_API PEP_MUST_CHECK bool pep_authority_from_text(uint8_t sign_public[PEP_SIGN_PUBLIC_BYTES], const char *text);

typedef struct {
    char id[PEP_ID_MAX + 1];
    uint8_t kid[PEP_KID_BYTES]; /* of the signing key that is certified */
    uint64_t issued_s;
    uint64_t not_after_s;
    bool gate;                                   /* for a gate: no device can pass for one */
    char groups[PEP_GROUPS_MAX][PEP_ID_MAX + 1]; /* names as ids are; sorted, each once */
    size_t group_count;
} pep_certificate;

/* out: PEP_CERTIFICATE_BYTES_MAX. Sorts c->groups. PEP_BAD_ARGUMENT: an id or group that is none, or twice. */
PEP_API PEP_MUST_CHECK pep_reason pep_certificate_sign(uint8_t *out, size_t *out_n, const pep_authority *authority,
                                                       pep_certificate *c);

/*
 * Parses a certificate and verifies it with one of the authorities. PEP_MALFORMED, PEP_UNSUPPORTED_ALGORITHM,
 * PEP_NOT_CERTIFIED where it is signed by none of them, PEP_BAD_SIGNATURE. Whether it has expired, and whose it is, are
 * the caller's questions: pep_certificate_covers.
 */
PEP_API PEP_MUST_CHECK pep_reason pep_certificate_parse(pep_certificate *out, const uint8_t *bytes, size_t n,
                                                        const uint8_t (*authorities)[PEP_SIGN_PUBLIC_BYTES],
                                                        size_t authority_count);

/* PEP_OK where it is for this id and key, of this kind, and valid at now_s; PEP_WRONG_ID or PEP_NOT_CERTIFIED else. */
PEP_API PEP_MUST_CHECK pep_reason pep_certificate_covers(const pep_certificate *c, const char *id,
                                                         const uint8_t kid[PEP_KID_BYTES], bool gate, uint64_t now_s);

/* ID.cert files. bytes: PEP_CERTIFICATE_BYTES_MAX. The content is not looked at: parse it. */
PEP_API PEP_MUST_CHECK pep_reason pep_certificate_load(uint8_t *bytes, size_t *n, pep_error *error, const char *path);
PEP_API PEP_MUST_CHECK pep_reason pep_certificate_replace(pep_error *error, const char *path, const uint8_t *bytes,
                                                          size_t n);

/* ---- tokens: one enrolment of one id ---- */

#define PEP_TOKEN_TEXT_BYTES 33 /* 24 random bytes in base64url, and NUL */
#define PEP_PROOF_BYTES_MAX  256

/*
 * A fresh token, and what the gate is told of it: the kid of the Ed25519 key that is derived from it. So the gate
 * stores a hash of a public key, and neither it nor the network ever sees what would let anybody enrol.
 */
PEP_API void pep_token_new(char text[PEP_TOKEN_TEXT_BYTES], uint8_t kid[PEP_KID_BYTES]);

/* The token's signature around the hash of the record to enrol. PEP_BAD_ARGUMENT where `text` is no token. */
PEP_API PEP_MUST_CHECK pep_reason pep_token_prove(uint8_t *out, size_t *out_n, const char *text,
                                                  const uint8_t record_hash[PEP_SHA256_BYTES]);

/* Verifies such a proof and tells which token made it. PEP_MALFORMED, PEP_BAD_SIGNATURE, PEP_BAD_TOKEN (another
 * record). */
PEP_API PEP_MUST_CHECK pep_reason pep_token_verify(uint8_t kid[PEP_KID_BYTES], const uint8_t *proof, size_t n,
                                                   const uint8_t record_hash[PEP_SHA256_BYTES]);

/* ---- entries: what is served about a device ---- */

typedef struct {
    pep_view statement;
    pep_view certificate; /* p == NULL: none */
} pep_entry;

/* out: PEP_ENTRY_BYTES_MAX. PEP_BAD_ARGUMENT: an empty part, or one that is too long. */
PEP_API PEP_MUST_CHECK pep_reason pep_entry_encode(uint8_t *out, size_t *out_n, const pep_entry *entry);

/* PEP_MALFORMED, PEP_UNSUPPORTED_VERSION. What is in it is not looked at: parse it. */
PEP_API PEP_MUST_CHECK pep_reason pep_entry_parse(pep_entry *out, const uint8_t *bytes, size_t n);

/* ---- commands to a gate ---- */

/* Who commands which gate. */
typedef struct {
    const pep_device *from;
    uint64_t seq;            /* from pep_seq_next */
    bool counts;             /* or from pep_seq_next_counter */
    const uint8_t *gate_kid; /* PEP_KID_BYTES: the audience */
    uint64_t now_s;          /* the command expires PEP_COMMAND_LIFE_S later */
} pep_command;

/*
 * Seals `json` ({"commands":[...]}, docs/PROTOCOL.md "Control") as a signed-only envelope for PEP_CONTROL_TOPIC. out:
 * `cap` bytes, at least json.n + 256.
 */
PEP_API PEP_MUST_CHECK pep_reason pep_command_seal(uint8_t *out, size_t *out_n, size_t cap, const pep_command *command,
                                                   pep_view json);

#define PEP_COMMAND_JSON_MAX 8192

/*
 * The JSON of one command each, as {"commands":[{...}]}, NUL-terminated, in `json` (PEP_COMMAND_JSON_MAX bytes).
 * `correlation`: at most 64 characters of [A-Za-z0-9._-], or NULL. Those of enroll, rotate, revoke and token are to be
 * sealed with pep_command_seal (enroll: by the device in the record); lookup, history and list go as they are.
 * PEP_BAD_ARGUMENT.
 */
PEP_API PEP_MUST_CHECK pep_reason pep_command_enroll(char *json, const char *correlation, pep_view record,
                                                     pep_view certificate, pep_view proof);
PEP_API PEP_MUST_CHECK pep_reason pep_command_rotate(char *json, const char *correlation, pep_view rotation,
                                                     pep_view certificate);
PEP_API PEP_MUST_CHECK pep_reason pep_command_revoke(char *json, const char *correlation, pep_view revocation);
PEP_API PEP_MUST_CHECK pep_reason pep_command_token(char *json, const char *correlation, const char *id,
                                                    const uint8_t token_kid[PEP_KID_BYTES], uint64_t expires_s);
PEP_API PEP_MUST_CHECK pep_reason pep_command_lookup_id(char *json, const char *correlation, const char *id);
PEP_API PEP_MUST_CHECK pep_reason pep_command_lookup_kid(char *json, const char *correlation,
                                                         const uint8_t kid[PEP_KID_BYTES]);
PEP_API PEP_MUST_CHECK pep_reason pep_command_history(char *json, const char *correlation, const char *id,
                                                      uint64_t after_position);
PEP_API PEP_MUST_CHECK pep_reason pep_command_list(char *json, const char *correlation, const char *after_id);
PEP_API PEP_MUST_CHECK pep_reason pep_command_status(char *json, const char *correlation);

/* ---- pins: what a client has seen, so that nobody can take it back ---- */

typedef struct pep_pins pep_pins;

typedef enum {
    PEP_PIN_FIRST = 1,    /* seen for the first time: believed because nothing contradicts it, or certified */
    PEP_PIN_SAME = 2,     /* what was known already */
    PEP_PIN_RENEWED = 3,  /* a newer version with the same signing key */
    PEP_PIN_ROTATED = 4,  /* a newer signing key, which the old one signed */
    PEP_PIN_RECOVERED = 5 /* a newer signing key, which an authority signed */
} pep_pin_news;

/*
 * Opens a folder of pins, one file (`ID.pin`, 0600) a device, made (0700) where it is not there. Several processes may
 * share it: files are replaced in one step, and a pin that another process has moved on is taken up. `authorities`:
 * where there are any, whatever none of them certified is refused. They are copied.
 */
PEP_API PEP_MUST_CHECK pep_reason pep_pins_open(pep_pins **out, pep_error *error, const char *folder,
                                                const uint8_t (*authorities)[PEP_SIGN_PUBLIC_BYTES],
                                                size_t authority_count);
PEP_API void pep_pins_close(pep_pins *pins);

/*
 * Judges an entry that is said to be of `id`, and pins it where it is right. PEP_OK with *news; else nothing changes:
 * PEP_MALFORMED, PEP_BAD_SIGNATURE, PEP_WRONG_ID (another device's), PEP_EXPIRED_SIGNER, PEP_NOT_CERTIFIED,
 * PEP_VERSION_WENT_BACK, PEP_UNPROVEN_KEY (another key, and the old one did not sign it), PEP_BROKEN_CHAIN (also two
 * statements of one version), PEP_KID_TAKEN (pinned for another id), PEP_REVOKED_SIGNER (pinned where the device or an
 * authority signed it; else nothing of the device is believed here while that is what is served), PEP_NEEDS_HISTORY
 * (versions lie between, or nothing is pinned and nobody who is known signed the rotation: ask, and call
 * pep_pins_take_history), PEP_BAD_FILE (a damaged pin), PEP_CANNOT_WRITE,
 * PEP_LOCKED. now_s 0: no clock.
 */
PEP_API PEP_MUST_CHECK pep_reason pep_pins_take(pep_pins *pins, pep_pin_news *news, pep_error *error, const char *id,
                                                const uint8_t *entry, size_t entry_n, uint64_t now_s);

/*
 * Takes a statement that the user was given by hand, a .pub file: it may begin a pin in whatever version. Else it is
 * judged as an entry without a certificate and without a clock; PEP_OK also where what is pinned is newer, or so old
 * that versions lie between.
 */
PEP_API PEP_MUST_CHECK pep_reason pep_pins_give(pep_pins *pins, pep_error *error, const pep_statement *statement,
                                                const uint8_t *bytes, size_t n);

/*
 * Walks the chain through `statements`, in their order, from what is pinned (or from the first, where nothing is), and
 * pins each step; those at or below the pinned version are compared and passed over. Follow it with pep_pins_take of
 * the entry. Old keys that it learns verify what they signed up to their cutoff.
 * Where nothing is pinned a record of version 1 begins the chain anew wherever it stands; a rotation begins one where
 * the record's own key or an authority signed it, or the next statement follows it: else PEP_NEEDS_HISTORY.
 */
PEP_API PEP_MUST_CHECK pep_reason pep_pins_take_history(pep_pins *pins, pep_error *error, const char *id,
                                                        const pep_view *statements, size_t count);

/* Forgets a device, for whoever has made sure by other means: the next entry is a first one. PEP_UNKNOWN_ID. */
PEP_API PEP_MUST_CHECK pep_reason pep_pins_forget(pep_pins *pins, pep_error *error, const char *id);

/*
 * The record of a device as pinned, or of a signing key, current or former (then `ended` and `cutoff` are set). NULL:
 * nothing is pinned. Owned by the pins, valid until the next call that changes them.
 */
PEP_API const pep_record *pep_pins_find_id(pep_pins *pins, const char *id);
PEP_API const pep_record *pep_pins_find(pep_pins *pins, const uint8_t kid[PEP_KID_BYTES]);

/*
 * Whether a record that came another way, in a file, may be believed beside what is pinned: PEP_REVOKED_SIGNER where
 * its device was revoked or may have been, PEP_ROTATED_SIGNER where another key is pinned for its id,
 * PEP_NOT_CERTIFIED where there are authorities and no certified pin, PEP_UNKNOWN_SIGNER where the pin cannot be read.
 */
PEP_API PEP_MUST_CHECK pep_reason pep_pins_judge(pep_pins *pins, const pep_record *record);

#ifdef __cplusplus
}
#endif
#endif
