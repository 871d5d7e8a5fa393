/* What directory.json is about: a device with three generations of keys, two authorities and an admin. */
#ifndef VECTORS_DIRECTORY_H
#define VECTORS_DIRECTORY_H

#include "tests/vectors/vector.h"

#define DEVICE_ID "pump-7"

enum { ISSUED_S = 1700000000, NOT_AFTER_S = 1702592000, CUTOFF = 1700000060 }; /* the cutoff in seconds; in seqs: */
#define CUTOFF_US (CUTOFF * 1000000ULL)

typedef struct {
    const char *name;
    const char *id;
    pep_device device; /* of an authority, the signing key alone counts */
} party;

typedef enum { KEYS_1, KEYS_2, KEYS_3, ADMIN, STRANGER, AUTHORITY_1, AUTHORITY_2, AUTHORITY_OTHER, PARTIES } party_name;

extern party parties[PARTIES];

/* The slots that every template may use: `a` to `h` the kids of the parties, `A` to `H` their signing keys. */
void directory_slots(slots *s);

/*
 * Puts a signed object together: `header` and `whole` are templates, NULL for the usual ones. `typ` is that of the
 * usual header, whose kid is the signer's.
 */
void directory_sign(bytes *out, party_name signer, const char *typ, const char *header, const char *payload,
                    const char *whole, const slots *s);

void chains_emit(json *j);
void certificates_emit(json *j);
void proofs_emit(json *j);
void entries_emit(json *j);

#endif
