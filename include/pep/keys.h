/* Devices and their keys: key files, self-signed records, epoch keys, and the keyring of records one believes. */
#ifndef PEP_KEYS_H
#define PEP_KEYS_H

#include "pep/base.h"

#ifdef __cplusplus
extern "C" {
#endif

#define PEP_SIGN_PUBLIC_BYTES  32 /* Ed25519 public key (RFC 8032) */
#define PEP_SIGN_SECRET_BYTES  64 /* Ed25519 seed, then public key: libsodium's form */
#define PEP_AGREE_PUBLIC_BYTES 32 /* X25519 (RFC 7748) */
#define PEP_AGREE_SECRET_BYTES 32
#define PEP_EPOCH_KEY_BYTES    32
#define PEP_SCOPE_MAX          1024 /* bytes of an epoch's topic filter */
#define PEP_AGREE_MAX          4    /* agreement keys in one record */
#define PEP_RECORD_BYTES_MAX   1024 /* an encoded record */
#define PEP_RECORD_DAYS        365  /* how long keygen's records are valid, unless told otherwise */
#define PEP_PREVIOUS_MAX       2    /* former keys that a key file keeps for what is still on its way */

/*
 * kid of an Ed25519 or X25519 public key (32 bytes): the first 16 bytes of its COSE Key Thumbprint (RFC 9679, SHA-256
 * over the deterministic COSE_Key of kty, crv and x).
 */
PEP_API void pep_kid_sign(uint8_t kid[PEP_KID_BYTES], const uint8_t sign_public[PEP_SIGN_PUBLIC_BYTES]);
PEP_API void pep_kid_agree(uint8_t kid[PEP_KID_BYTES], const uint8_t agree_public[PEP_AGREE_PUBLIC_BYTES]);

/* ---- device: the secrets. Wipe with pep_device_wipe when done. ---- */

/* An agreement key from before a rotation: opens what was sealed to it, until then. */
typedef struct {
    uint8_t sign_kid[PEP_KID_BYTES]; /* what `to` names in such messages */
    uint8_t agree_kid[PEP_KID_BYTES];
    uint8_t agree_secret[PEP_AGREE_SECRET_BYTES];
    uint64_t until_s;
} pep_previous_keys;

typedef struct {
    char id[PEP_ID_MAX + 1];
    uint8_t sign_kid[PEP_KID_BYTES];
    uint8_t sign_public[PEP_SIGN_PUBLIC_BYTES];
    uint8_t sign_secret[PEP_SIGN_SECRET_BYTES];
    uint8_t agree_kid[PEP_KID_BYTES];
    uint8_t agree_public[PEP_AGREE_PUBLIC_BYTES];
    uint8_t agree_secret[PEP_AGREE_SECRET_BYTES];
    pep_previous_keys previous[PEP_PREVIOUS_MAX]; /* the newest first */
    size_t previous_count;
} pep_device;

/* Makes fresh keys for `id`. PEP_BAD_ARGUMENT where the id is none. */
PEP_API PEP_MUST_CHECK pep_reason pep_device_new(pep_device *out, const char *id);

/* Derives everything from an id and the two secrets (an Ed25519 seed and an X25519 scalar, 32 bytes each). */
PEP_API PEP_MUST_CHECK pep_reason pep_device_from_secrets(pep_device *out, const char *id, const uint8_t sign_seed[32],
                                                          const uint8_t agree_secret[PEP_AGREE_SECRET_BYTES]);

/*
 * Reads a key file. It must be a regular file that only its owner can read (PEP_UNSAFE_FILE else).
 * PEP_CANNOT_READ, PEP_BAD_FILE.
 */
PEP_API PEP_MUST_CHECK pep_reason pep_device_load(pep_device *out, pep_error *error, const char *path);

/* Creates a key file, mode 0600, whole or not at all. PEP_EXISTS where something has that name; PEP_CANNOT_WRITE. */
PEP_API PEP_MUST_CHECK pep_reason pep_device_save(pep_error *error, const char *path, const pep_device *device);

/* The same in the place of the file that is there, in one step: whoever reads sees the old one or the new one. */
PEP_API PEP_MUST_CHECK pep_reason pep_device_replace(pep_error *error, const char *path, const pep_device *device);

/*
 * Fresh keys for the same id: `out` keeps the keys of `before` among its previous ones until `until_s`, and drops those
 * whose time was over at `now_s`. `keep_sign`: the signing key stays, and only the agreement key is new.
 */
PEP_API PEP_MUST_CHECK pep_reason pep_device_renew(pep_device *out, const pep_device *before, bool keep_sign,
                                                   uint64_t now_s, uint64_t until_s);

PEP_API void pep_device_wipe(pep_device *device);

/* ---- record: one signed version of a device's public keys ---- */

typedef struct {
    uint8_t kid[PEP_KID_BYTES];
    uint8_t key[PEP_AGREE_PUBLIC_BYTES];
    uint64_t not_after_s;
} pep_agree_key;

typedef struct {
    char id[PEP_ID_MAX + 1];
    uint64_t version; /* 1 and up */
    uint64_t issued_s;
    uint64_t not_after_s;
    uint8_t sign_kid[PEP_KID_BYTES];
    uint8_t sign_public[PEP_SIGN_PUBLIC_BYTES];
    pep_agree_key agree[PEP_AGREE_MAX]; /* the first is the one to encrypt to */
    size_t agree_count;                 /* 1 to PEP_AGREE_MAX */
    bool has_previous;                  /* every version but the first */
    uint8_t previous[PEP_SHA256_BYTES]; /* SHA-256 of the statement before this one */

    /* Set by who keeps records, and not part of one: a key that was replaced or revoked, and the highest seq that it
     * may have signed. pep_open refuses what lies above, as PEP_ROTATED_SIGNER or PEP_REVOKED_SIGNER. */
    pep_reason ended; /* PEP_OK: it is current */
    uint64_t cutoff;
} pep_record;

/*
 * Signs version 1 of the device's record (docs/PROTOCOL.md, "Records"): a COSE_Sign1 with `typ` (RFC 9596).
 * out: at least PEP_RECORD_BYTES_MAX bytes; *out_n: its length. Seconds since 1970; not_after_s > issued_s.
 */
PEP_API PEP_MUST_CHECK pep_reason pep_record_sign(uint8_t *out, size_t *out_n, const pep_device *device,
                                                  uint64_t issued_s, uint64_t not_after_s);

/*
 * Parses and verifies a record against the key that it states: it proves who holds the key, not who he is.
 * PEP_MALFORMED, PEP_UNSUPPORTED_ALGORITHM, PEP_BAD_SIGNATURE. Whether it has expired is the caller's question.
 */
PEP_API PEP_MUST_CHECK pep_reason pep_record_parse(pep_record *out, const uint8_t *bytes, size_t n);

/*
 * Reads a .pub file and verifies the record in it, or that in a rotation, whose other signature is not asked for: who
 * put the file there is believed. PEP_CANNOT_READ, PEP_BAD_FILE (a revocation, too).
 */
PEP_API PEP_MUST_CHECK pep_reason pep_record_load(pep_record *out, pep_error *error, const char *path);

/* Creates a .pub file (mode 0644) from an encoded record, whole or not at all. PEP_EXISTS, PEP_CANNOT_WRITE. */
PEP_API PEP_MUST_CHECK pep_reason pep_record_save(pep_error *error, const char *path, const uint8_t *bytes, size_t n);

/* ---- keyring: the records one believes, found by the signer's kid ---- */

typedef struct pep_keyring pep_keyring;

/*
 * Reads one .pub file, or every *.pub of a folder (not those below it; names beginning with a dot are passed over).
 * One unreadable or invalid file fails the whole, so that a half-copied folder is noticed; so does a second record with
 * an id or key that was there already. Revocations are passed over: nobody believes what is revoked. The keyring is the
 * caller's: pep_keyring_free.
 */
PEP_API PEP_MUST_CHECK pep_reason pep_keyring_load(pep_keyring **out, pep_error *error, const char *path);
PEP_API void pep_keyring_free(pep_keyring *ring);

/* The record, owned by the keyring; NULL where there is none. */
PEP_API const pep_record *pep_keyring_find(const pep_keyring *ring, const uint8_t kid[PEP_KID_BYTES]);
PEP_API const pep_record *pep_keyring_find_id(const pep_keyring *ring, const char *id);

PEP_API size_t pep_keyring_count(const pep_keyring *ring);

/* Record number `i` (0 to count-1), in the order of ids. */
PEP_API const pep_record *pep_keyring_at(const pep_keyring *ring, size_t i);

/* ---- epoch: a symmetric key that one sender made for the topics of one filter ---- */

typedef struct {
    uint8_t epoch_id[PEP_KID_BYTES];  /* commits to all below (docs/PROTOCOL.md, "Epochs") */
    uint8_t owner_kid[PEP_KID_BYTES]; /* the sender's signing kid */
    uint8_t key[PEP_EPOCH_KEY_BYTES]; /* ChaCha20-Poly1305 (RFC 8439) */
    char *scope;                      /* topic filter, NUL-terminated; owned by the epoch */
} pep_epoch;

/*
 * Makes a fresh epoch key of `owner_kid` for topics that match `scope`, a filter of at most PEP_SCOPE_MAX bytes
 * (PEP_BAD_ARGUMENT else). Release with pep_epoch_wipe.
 */
PEP_API PEP_MUST_CHECK pep_reason pep_epoch_new(pep_epoch *out, const uint8_t owner_kid[PEP_KID_BYTES],
                                                const char *scope);

/* As pep_epoch_new, from a given key. */
PEP_API PEP_MUST_CHECK pep_reason pep_epoch_from_key(pep_epoch *out, const uint8_t key[PEP_EPOCH_KEY_BYTES],
                                                     const uint8_t owner_kid[PEP_KID_BYTES], const char *scope);

/* As pep_device_load and pep_device_save. The file is for the sender and every reader, and as secret as what it reads.
 */
PEP_API PEP_MUST_CHECK pep_reason pep_epoch_load(pep_epoch *out, pep_error *error, const char *path);
PEP_API PEP_MUST_CHECK pep_reason pep_epoch_save(pep_error *error, const char *path, const pep_epoch *epoch);

/* Wipes the key and frees the scope. */
PEP_API void pep_epoch_wipe(pep_epoch *epoch);

#ifdef __cplusplus
}
#endif
#endif
