/*
 * Who may sign: what a gate has to know of every key in the directory, in memory, found by kid or id. The records
 * themselves stay in the store. Used in the broker's thread alone.
 */
#ifndef DIRECTORY_SIGNERS_H
#define DIRECTORY_SIGNERS_H

#include "pep.h"

typedef struct signers signers;

typedef enum {
    SIGNER_CURRENT, /* may sign until not_after_s */
    SIGNER_ROTATED, /* replaced: live for PEP_GRACE_S behind ended_s, and what is stored, up to its cutoff */
    SIGNER_REVOKED  /* what is stored, up to its cutoff */
} signer_state;

/* One signing key. Owned by the signers; valid until they change. */
typedef struct {
    const char *id;
    const uint8_t *kid; /* PEP_KID_BYTES */
    const uint8_t
        *sign_public; /* PEP_SIGN_PUBLIC_BYTES; of an ended key that was never seen: zeros, has_key is false */
    bool has_key;
    signer_state state;
    uint64_t not_after_s; /* the earlier of record's and certificate's */
    uint64_t ended_s;     /* when it was replaced or revoked; 0: it was not */
    uint64_t cutoff;
    const char *groups; /* of its certificate: names, each ending with NUL, then one more NUL; NULL: none */
    bool used;          /* signers_mark_used was called: its record was, or is being, looked at again */
    bool served;        /* signers_mark_served was called: what is retained about it is ours */
} signer;

/* What signers_put takes: as signer, by value; strings are copied. */
typedef struct {
    const char *id;
    uint8_t kid[PEP_KID_BYTES];
    uint8_t sign_public[PEP_SIGN_PUBLIC_BYTES];
    bool has_key;
    signer_state state;
    uint64_t not_after_s, ended_s, cutoff;
    const char *groups; /* as in signer */
    bool head;          /* the last key of its id: what signers_find_id gives */
    bool provisioned;   /* lives as long as its file: see signers_provision */
} signer_spec;

signers *signers_new(void);
void signers_free(signers *s);

/* Adds a key, or replaces what is known of it. False: no memory, and nothing changed. */
bool signers_put(signers *s, const signer_spec *spec);

/*
 * The ids whose files the operator has put into the folder, sorted, each once. Provisioned keys of other ids are not
 * found any more. The list is taken over (one block: pointers, then texts), also on failure.
 */
typedef struct {
    const char **ids;
    size_t count;
} signer_ids;
void signers_provision(signers *s, signer_ids *ids);
void signer_ids_free(signer_ids *ids);

/* Fills *out, or returns false: unknown, or no longer provisioned. */
bool signers_find(const signers *s, signer *out, const uint8_t kid[PEP_KID_BYTES]);
bool signers_find_id(const signers *s, signer *out, const char *id);

void signers_mark_used(signers *s, const uint8_t kid[PEP_KID_BYTES]);

/* What is retained about the id is this, and ours; n == 0: nothing is. Only a keyed hash is kept. */
void signers_mark_served(signers *s, const char *id, const uint8_t *entry, size_t n);
bool signers_serves(const signers *s, const char *id, const uint8_t *entry, size_t n);

/* Takes a key out of use: its record in the store is damaged. */
void signers_distrust(signers *s, const uint8_t kid[PEP_KID_BYTES]);

/* Devices with a current key that is found; all keys. */
size_t signers_count(const signers *s);
size_t signers_key_count(const signers *s);

/* How many current ones end by `end_s`, and (where there are any) the id and time of the first. */
size_t signers_ending(const signers *s, char first[PEP_ID_MAX + 1], uint64_t *first_s, uint64_t end_s);

/* Bytes that they take in memory, for the benchmark. */
size_t signers_bytes(const signers *s);

/*
 * Fills `s` from a folder of .pub files, each any statement, verified one by one: a gate without a store (pep audit,
 * and tests). False, and one line in `error`.
 */
bool signers_load_folder(signers *s, pep_error *error, const char *path);

#endif
