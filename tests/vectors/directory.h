/* How directory.json is made. */
#ifndef VECTORS_DIRECTORY_H
#define VECTORS_DIRECTORY_H

#include "tests/vectors/parties.h"
#include "tests/vectors/vector.h"

enum { ISSUED_S = 1700000000, NOT_AFTER_S = 1702592000, CUTOFF = 1700000060 }; /* the cutoff in seconds; in seqs: */
#define CUTOFF_US (CUTOFF * 1000000ULL)

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
