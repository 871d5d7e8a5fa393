/*
 * One encoding of one meaning: each byte of a signed object's header and payload changed, and well signed again. What
 * is accepted then says something else; nothing says the same in another way, or is passed over.
 */
#include "chain.h"
#include "envelope/structures.h"
#include "unit.h"

/* The parts of one, to be changed. */
typedef struct {
    cut header, payload;
    const uint8_t *secret;
    bool (*accepts)(const cut *bytes); /* and it differs in what it says from the one that was right */
} subject;

static cut copy_of(pep_view bytes)
{
    cut out = {.n = bytes.n};
    CU_ASSERT_FATAL(bytes.n <= sizeof out.p);
    memcpy(out.p, bytes.p, bytes.n);
    return out;
}

static subject subject_of(const cut *bytes, const uint8_t *secret, bool (*accepts)(const cut *bytes))
{
    signed_object object;
    CU_ASSERT_TRUE_FATAL(parse_signed(&object, view_of(bytes)));
    return (subject){copy_of(object.protected_bytes), copy_of(object.payload), secret, accepts};
}

static cut assembled(const subject *s)
{
    cut out;
    uint8_t work[2 * CUT_BYTES];
    uint8_t signature[64];
    pep_writer structure = {.p = work, .cap = sizeof work};
    pep_writer w = {.p = out.p, .cap = sizeof out.p};
    write_sig_structure(&structure, view_of(&s->header), view_of(&s->payload));
    crypto_sign_detached(signature, NULL, work, structure.n, s->secret);
    pep_write_tag(&w, TAG_SIGN1);
    pep_write_array(&w, 4);
    pep_write_bytes(&w, s->header.p, s->header.n);
    pep_write_map(&w, 0);
    pep_write_bytes(&w, s->payload.p, s->payload.n);
    pep_write_bytes(&w, signature, sizeof signature);
    CU_ASSERT_FALSE_FATAL(w.full);
    out.n = w.n;
    return out;
}

static bool is_accepted(const subject *s)
{
    cut bytes = assembled(s);
    return s->accepts(&bytes);
}

/* How many single changes of `part` are accepted, and where they stand. */
static size_t count_accepted(const subject *s, cut *part, bool places[CUT_BYTES])
{
    size_t count = 0;
    memset(places, 0, CUT_BYTES);
    for (size_t i = 0; i < part->n; i++)
        for (unsigned change = 1; change < 256; change++) {
            part->p[i] ^= (uint8_t)change;
            places[i] = places[i] || is_accepted(s);
            part->p[i] ^= (uint8_t)change;
        }
    for (size_t i = 0; i < part->n; i++)
        count += places[i];
    return count;
}

static void check_lengths(const subject *s, cut *part)
{
    size_t n = part->n;
    for (part->n = 0; part->n < n; part->n++)
        CU_ASSERT_FALSE(is_accepted(s));
    part->p[part->n++] = 0;
    CU_ASSERT_FALSE(is_accepted(s));
    part->n = n;
}

/* True where `value` stands once in the part, and all that is accepted stands in these n bytes. */
static bool only_within(const bool places[CUT_BYTES], const cut *part, const void *value, size_t n)
{
    const uint8_t *at = memmem(part->p, part->n, value, n);
    size_t within = 0;
    size_t all = 0;
    for (size_t i = 0; i < part->n; i++)
        all += places[i];
    for (size_t i = 0; at != NULL && i < n; i++)
        within += places[(size_t)(at - part->p) + i];
    return at != NULL && within == all;
}

/* ---- proofs ---- */

static const uint8_t record_hash[PEP_SHA256_BYTES] = {7};

static bool takes_proof(const cut *bytes)
{
    uint8_t kid[PEP_KID_BYTES];
    return pep_token_verify(kid, bytes->p, bytes->n, record_hash) == PEP_OK;
}

static void test_proof(void)
{
    uint8_t public_key[32];
    uint8_t secret[64];
    bool places[CUT_BYTES];
    uint8_t payload[128];
    crypto_sign_keypair(public_key, secret);
    pep_writer w = {.p = payload, .cap = sizeof payload};
    pep_write_map(&w, 2);
    pep_write_uint(&w, 1);
    pep_write_bytes(&w, record_hash, sizeof record_hash);
    pep_write_uint(&w, 2);
    pep_write_bytes(&w, public_key, sizeof public_key);
    cut good = signed_as(TYP_ENROLLMENT, secret, &w);
    subject s = subject_of(&good, secret, takes_proof);
    CU_ASSERT_TRUE(is_accepted(&s));
    CU_ASSERT_EQUAL(count_accepted(&s, &s.payload, places), 0);
    CU_ASSERT_EQUAL(count_accepted(&s, &s.header, places), 0);
    check_lengths(&s, &s.payload);
    check_lengths(&s, &s.header);
}

/* ---- certificates ---- */

static pep_authority authority;

static bool takes_certificate(const cut *bytes)
{
    pep_certificate c;
    const uint8_t(*keys)[PEP_SIGN_PUBLIC_BYTES] = (const uint8_t(*)[PEP_SIGN_PUBLIC_BYTES])authority.sign_public;
    return pep_certificate_parse(&c, bytes->p, bytes->n, keys, 1) == PEP_OK;
}

static cut certificate_of(const char *group, bool gate)
{
    cut out;
    pep_certificate c = {.id = "a", .issued_s = 1, .not_after_s = 23, .gate = gate, .kid = {1}};
    if (group != NULL) {
        snprintf(c.groups[0], sizeof c.groups[0], "%s", group);
        c.group_count = 1;
    }
    CU_ASSERT_EQUAL_FATAL(pep_certificate_sign(out.p, &out.n, &authority, &c), PEP_OK);
    return out;
}

/* Behind its key each value of the map may be another one; nothing else may. */
static void test_certificate(void)
{
    bool places[CUT_BYTES];
    authority = authority_of(1);
    cut good = certificate_of("g", true);
    subject s = subject_of(&good, authority.sign_secret, takes_certificate);
    CU_ASSERT_TRUE(is_accepted(&s));
    /* a6 01 61 <id> 02 50 <kid> 03 <issued> 04 <not-after> 05 81 61 <group> 06 f5 */
    count_accepted(&s, &s.payload, places);
    static const size_t values[] = {3, 23, 25, 29};
    for (size_t i = 0; i < s.payload.n; i++) {
        bool value = i >= 6 && i < 22; /* the kid */
        for (size_t v = 0; v < COUNT(values); v++)
            value = value || values[v] == i;
        CU_ASSERT_EQUAL(places[i], value);
    }
    CU_ASSERT_EQUAL(s.payload.n, 32);
    CU_ASSERT_EQUAL(count_accepted(&s, &s.header, places), 0);
    check_lengths(&s, &s.payload);
    check_lengths(&s, &s.header);
}

/* ---- rotations ---- */

static bool takes_statement(const cut *bytes)
{
    pep_statement st;
    return pep_statement_parse(&st, bytes->p, bytes->n) == PEP_OK;
}

static void test_rotation(void)
{
    bool places[CUT_BYTES];
    uint8_t kid[PEP_KID_BYTES];
    pep_device first = device_of("a", 1);
    pep_device second = device_of("a", 2);
    cut record = record_of(&first);
    pep_head head = head_of(&record);
    cut good = rotation_to(&head, &second, first.sign_secret, 23); /* a cutoff of one byte */
    subject s = subject_of(&good, first.sign_secret, takes_statement);
    CU_ASSERT_TRUE(is_accepted(&s));
    count_accepted(&s, &s.payload, places);
    CU_ASSERT_TRUE(places[s.payload.n - 1]); /* the cutoff */
    places[s.payload.n - 1] = false;
    CU_ASSERT_TRUE(only_within(places, &s.payload, first.sign_kid, PEP_KID_BYTES));
    count_accepted(&s, &s.header, places);
    pep_kid_sign(kid, first.sign_public);
    CU_ASSERT_TRUE(only_within(places, &s.header, kid, PEP_KID_BYTES)); /* who signed is asked later */
    check_lengths(&s, &s.payload);
    check_lengths(&s, &s.header);
}

/* ---- entries ---- */

static void test_entry(void)
{
    pep_device device = device_of("a", 1);
    cut statement = record_of(&device);
    cut bytes;
    pep_entry entry = {.statement = view_of(&statement)};
    CU_ASSERT_EQUAL_FATAL(pep_entry_encode(bytes.p, &bytes.n, &entry), PEP_OK);
    for (size_t i = 0; i < 4; i++) /* 83 01 59 ..: the heads */
        for (unsigned change = 1; change < 256; change++) {
            bytes.p[i] ^= (uint8_t)change;
            CU_ASSERT_NOT_EQUAL(pep_entry_parse(&entry, bytes.p, bytes.n), PEP_OK);
            bytes.p[i] ^= (uint8_t)change;
        }
    for (unsigned change = 1; change < 256;
         change++) { /* the null at the end: a byte string is empty there, or no end */
        bytes.p[bytes.n - 1] ^= (uint8_t)change;
        pep_reason reason = pep_entry_parse(&entry, bytes.p, bytes.n);
        CU_ASSERT_TRUE(reason != PEP_OK || bytes.p[bytes.n - 1] == 0x40);
        bytes.p[bytes.n - 1] ^= (uint8_t)change;
    }
    for (size_t n = 0; n < bytes.n; n++)
        CU_ASSERT_NOT_EQUAL(pep_entry_parse(&entry, bytes.p, n), PEP_OK);
}

static void test_start(void)
{
    CU_ASSERT_EQUAL(pep_init(), PEP_OK);
}

static const unit_test tests[] = {
    {"the library starts", test_start}, {"a proof", test_proof},  {"a certificate", test_certificate},
    {"a rotation", test_rotation},      {"an entry", test_entry},
};
UNIT_MAIN("signed", tests)
