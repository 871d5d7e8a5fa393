/* What the fuzz targets share: libFuzzer's interface, a folder, and references that are told apart from the product. */
#ifndef FUZZ_H
#define FUZZ_H

#include <stdio.h>
#include <stdlib.h>

#include "envelope/cbor.h"
#include "tests/vectors/world.h"

/* libFuzzer calls these, where a target has them, and gives the last. */
int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t n, size_t cap, unsigned seed);
size_t LLVMFuzzerMutate(uint8_t *data, size_t n, size_t cap);

/* Ends the program, as a crash does, where something that must always hold does not. */
static inline void invariant(bool holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "it does not hold that %s\n", what);
    abort();
}

/* Zeroed, of exactly that size, for the sanitizer; to be freed. */
void *fuzz_memory(size_t n) __attribute__((returns_nonnull));

/* The first byte or bytes of the input, which then begins behind them; what is not there is zero or short. */
uint8_t take_byte(pep_view *in);
pep_view take(pep_view *in, size_t n);

/* ---- files ---- */

/* A path in this process's own folder, under TMPDIR or /dev/shm, removed at the end; valid until the fourth call after
 * this one. */
const char *fuzz_path(const char *name);
void fuzz_write(const char *path, const void *bytes, size_t n, unsigned mode);

/* Writes the records of the enrolled actors into this folder, which is made. */
void fuzz_write_records(const char *folder);

/* ---- references: the plain way to do what the product does fast ---- */

/* Deterministic CBOR (RFC 8949, 4.2.1): `count` items and no byte more, nested at most `depth` deep. */
bool reference_cbor(pep_view bytes, uint64_t count, unsigned depth);

/* The length of the first item of deterministic CBOR; 0: there is none. */
size_t reference_item(pep_view bytes, unsigned depth);

/* The actor whose signing kid this is; NULL: nobody. */
const actor *reference_signer(const uint8_t *kid);

/* Ed25519 over the Sig_structure (RFC 9052, 4.4), spelled out. */
bool reference_signed(const actor *by, pep_view header, pep_view payload, const uint8_t *signature);

/* True where this filter matches the topic (MQTT 5.0, 4.7). */
bool reference_matches(const char *filter, pep_view topic);

/* Which of these filters decides about the topic; `count`: none. */
size_t reference_best(const char *const *filters, size_t count, pep_view topic);

/* ---- mutation ---- */

/* Changes CBOR, in one time of two so that it stays well-formed: an array longer, a string of another length. */
size_t mutate_cbor(uint8_t *data, size_t n, size_t cap, unsigned seed);

/*
 * Changes one part of a COSE_Sign1 (signed header, payload, or what is encrypted in it) and puts right what lies around
 * it: lengths, encryption, signature. A blind change would never get behind the signature's check. Returns the length.
 */
size_t mutate_sign1(uint8_t *data, size_t n, size_t cap, unsigned seed);

/* Signs also as this one: it stays the caller's. */
void mutate_know(const pep_device *device);

#endif
