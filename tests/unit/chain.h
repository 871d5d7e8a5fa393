/* What tests of the directory share: keys from fixed texts, statements of every kind, and signed objects of any. */
#ifndef CHAIN_H
#define CHAIN_H

#include <CUnit/Basic.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "envelope/signed.h"
#include "exact.h"
#include "pep.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

enum { ISSUED_S = 1000, NOT_AFTER_S = 2000, CUTOFF = 5000000, CUT_BYTES = 2048 };

typedef struct {
    uint8_t p[CUT_BYTES];
    size_t n;
} cut;

static inline pep_view view_of(const cut *bytes)
{
    return (pep_view){bytes->p, bytes->n};
}

static inline void seed_of(uint8_t seed[32], const char *what, const char *name, unsigned number)
{
    char text[128];
    snprintf(text, sizeof text, "%s of %s, %u", what, name, number);
    crypto_hash_sha256(seed, (const uint8_t *)text, strlen(text));
}

/* Keys of their own for each id and generation. */
static inline pep_device device_of(const char *id, unsigned generation)
{
    uint8_t seed[32];
    uint8_t secret[32];
    pep_device device;
    seed_of(seed, "signing key", id, generation);
    seed_of(secret, "agreement key", id, generation);
    CU_ASSERT_EQUAL_FATAL(pep_device_from_secrets(&device, id, seed, secret), PEP_OK);
    return device;
}

static inline pep_authority authority_of(unsigned number)
{
    uint8_t seed[32];
    pep_authority a;
    seed_of(seed, "signing key", "an authority", number);
    crypto_sign_seed_keypair(a.sign_public, a.sign_secret, seed);
    return a;
}

/* ---- statements that are right ---- */

static inline cut record_of(const pep_device *device)
{
    cut out;
    CU_ASSERT_EQUAL_FATAL(pep_record_sign(out.p, &out.n, device, ISSUED_S, NOT_AFTER_S), PEP_OK);
    return out;
}

static inline pep_statement parsed(const cut *bytes)
{
    pep_statement s;
    CU_ASSERT_EQUAL_FATAL(pep_statement_parse(&s, bytes->p, bytes->n), PEP_OK);
    return s;
}

static inline pep_head head_of(const cut *first)
{
    pep_head head;
    pep_statement s = parsed(first);
    CU_ASSERT_EQUAL_FATAL(pep_head_begin(&head, &s), PEP_OK);
    return head;
}

static inline cut next_record(const pep_head *head, const pep_device *device)
{
    cut out;
    CU_ASSERT_EQUAL_FATAL(pep_record_next(out.p, &out.n, device, head, ISSUED_S + 1, NOT_AFTER_S), PEP_OK);
    return out;
}

static inline cut rotation_to(const pep_head *head, const pep_device *device, const uint8_t *secret, uint64_t cutoff)
{
    cut out;
    cut record = next_record(head, device);
    CU_ASSERT_EQUAL_FATAL(pep_rotation_sign(out.p, &out.n, secret, head, record.p, record.n, cutoff), PEP_OK);
    return out;
}

static inline cut revocation_of(const pep_head *head, const uint8_t *secret)
{
    cut out;
    CU_ASSERT_EQUAL_FATAL(pep_revocation_sign(out.p, &out.n, secret, head, ISSUED_S + 2, CUTOFF), PEP_OK);
    return out;
}

/* ---- and what nobody of ours would sign ---- */

/* Any payload under any typ, with a good signature. */
static inline cut signed_as(const char *typ, const uint8_t *secret, const pep_writer *payload)
{
    cut out;
    CU_ASSERT_EQUAL_FATAL(sign_object(out.p, &out.n, sizeof out.p, typ, secret, payload), PEP_OK);
    return out;
}

static inline pep_reason parse_exact(pep_statement *out, const uint8_t *bytes, size_t n)
{
    uint8_t *exact = exact_copy(bytes, n);
    pep_reason reason = pep_statement_parse(out, exact, n);
    out->protected_bytes = out->payload = (pep_view){NULL, 0};
    out->signature = NULL;
    free(exact);
    return reason;
}

#endif
