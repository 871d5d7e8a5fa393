/* Certificates and authorities, tokens and proofs, entries; and that no signed object passes for one of another kind.
 */
#include "pep.h"

#include "chain.h"
#include "scratch.h"
#include "unit.h"

static pep_error error;

static void name(char out[PEP_ID_MAX + 1], const char *text)
{
    snprintf(out, PEP_ID_MAX + 1, "%s", text);
}

static pep_certificate sample(void)
{
    pep_certificate c = {.issued_s = ISSUED_S, .not_after_s = NOT_AFTER_S, .group_count = 3};
    pep_device device = device_of("pump-7", 1);
    name(c.id, "pump-7");
    memcpy(c.kid, device.sign_kid, PEP_KID_BYTES);
    name(c.groups[0], "ops");
    name(c.groups[1], "Pumps");
    name(c.groups[2], "op");
    return c;
}

static cut certify(pep_certificate c, unsigned number)
{
    cut out;
    pep_authority a = authority_of(number);
    CU_ASSERT_EQUAL_FATAL(pep_certificate_sign(out.p, &out.n, &a, &c), PEP_OK);
    return out;
}

/* With two authorities, of which the second is number 1. */
static pep_reason parse(pep_certificate *out, const uint8_t *bytes, size_t n)
{
    uint8_t keys[2][PEP_SIGN_PUBLIC_BYTES];
    for (unsigned i = 0; i < 2; i++) {
        pep_authority a = authority_of(2 - i);
        memcpy(keys[i], a.sign_public, sizeof keys[i]);
    }
    uint8_t *exact = exact_copy(bytes, n);
    pep_reason reason = pep_certificate_parse(out, exact, n, (const uint8_t(*)[PEP_SIGN_PUBLIC_BYTES])keys, 2);
    free(exact);
    return reason;
}

/* ---- certificates ---- */

static void test_certificate(void)
{
    pep_certificate c = sample();
    pep_certificate got;
    cut bytes = certify(c, 1);
    CU_ASSERT_EQUAL_FATAL(parse(&got, bytes.p, bytes.n), PEP_OK);
    CU_ASSERT_STRING_EQUAL(got.id, "pump-7");
    CU_ASSERT_EQUAL(memcmp(got.kid, c.kid, PEP_KID_BYTES), 0);
    CU_ASSERT_EQUAL(got.issued_s, ISSUED_S);
    CU_ASSERT_EQUAL(got.not_after_s, NOT_AFTER_S);
    CU_ASSERT_FALSE(got.gate);
    CU_ASSERT_EQUAL_FATAL(got.group_count, 3);
    CU_ASSERT_STRING_EQUAL(got.groups[0], "Pumps");
    CU_ASSERT_STRING_EQUAL(got.groups[1], "op");
    CU_ASSERT_STRING_EQUAL(got.groups[2], "ops");
    c.gate = true;
    c.group_count = 0;
    bytes = certify(c, 2);
    CU_ASSERT_EQUAL(parse(&got, bytes.p, bytes.n), PEP_OK);
    CU_ASSERT(got.gate);
    CU_ASSERT_EQUAL(got.group_count, 0);
}

static void test_largest_certificate(void)
{
    pep_certificate c = {.issued_s = UINT64_MAX - 1, .not_after_s = UINT64_MAX, .gate = true};
    pep_certificate got;
    memset(c.id, 'x', PEP_ID_MAX);
    for (c.group_count = 0; c.group_count < PEP_GROUPS_MAX; c.group_count++) {
        memset(c.groups[c.group_count], 'z', PEP_ID_MAX);
        c.groups[c.group_count][PEP_ID_MAX - 1] = (char)('z' - c.group_count);
    }
    cut bytes = certify(c, 1);
    CU_ASSERT_EQUAL(parse(&got, bytes.p, bytes.n), PEP_OK);
    CU_ASSERT_EQUAL(got.group_count, PEP_GROUPS_MAX);
}

static void expect_unsigned(pep_certificate c)
{
    cut out;
    pep_authority a = authority_of(1);
    CU_ASSERT_EQUAL(pep_certificate_sign(out.p, &out.n, &a, &c), PEP_BAD_ARGUMENT);
    CU_ASSERT_EQUAL(out.n, 0);
}

static void test_not_certified(void)
{
    pep_certificate c = sample();
    name(c.id, "a/b");
    expect_unsigned(c);
    c = sample();
    c.not_after_s = c.issued_s;
    expect_unsigned(c);
    c = sample();
    name(c.groups[2], "ops"); /* twice */
    expect_unsigned(c);
    c = sample();
    name(c.groups[1], "");
    expect_unsigned(c);
    c = sample();
    memset(c.groups[0], 'x', sizeof c.groups[0]); /* too long, and without an end */
    expect_unsigned(c);
    c = sample();
    memset(c.id, 'x', sizeof c.id);
    expect_unsigned(c);
    c = sample();
    c.group_count = PEP_GROUPS_MAX + 1;
    expect_unsigned(c);
}

static void test_certificate_bytes(void)
{
    pep_certificate got;
    cut bytes = certify(sample(), 1);
    for (size_t n = 0; n < bytes.n; n++)
        CU_ASSERT_EQUAL(parse(&got, bytes.p, n), PEP_MALFORMED);
    for (size_t bit = 0; bit < 8 * bytes.n; bit++) {
        bytes.p[bit / 8] ^= (uint8_t)(1 << bit % 8);
        CU_ASSERT_NOT_EQUAL(parse(&got, bytes.p, bytes.n), PEP_OK);
        bytes.p[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    bytes.p[bytes.n] = 0;
    CU_ASSERT_EQUAL(parse(&got, bytes.p, bytes.n + 1), PEP_MALFORMED);
    bytes.p[bytes.n - 1] ^= 1;
    CU_ASSERT_EQUAL(parse(&got, bytes.p, bytes.n), PEP_BAD_SIGNATURE);
}

static void test_other_authority(void)
{
    pep_certificate got;
    cut bytes = certify(sample(), 3);
    CU_ASSERT_EQUAL(parse(&got, bytes.p, bytes.n), PEP_NOT_CERTIFIED);
    CU_ASSERT_EQUAL(pep_certificate_parse(&got, bytes.p, bytes.n, NULL, 0), PEP_NOT_CERTIFIED);
}

static void test_covers(void)
{
    pep_certificate c = sample();
    pep_device other = device_of("pump-7", 2);
    CU_ASSERT_EQUAL(pep_certificate_covers(&c, "pump-7", c.kid, false, NOT_AFTER_S), PEP_OK);
    CU_ASSERT_EQUAL(pep_certificate_covers(&c, "pump-7", c.kid, false, 0), PEP_OK);
    CU_ASSERT_EQUAL(pep_certificate_covers(&c, "pump-7", c.kid, false, NOT_AFTER_S + 1), PEP_NOT_CERTIFIED);
    CU_ASSERT_EQUAL(pep_certificate_covers(&c, "pump-7", c.kid, true, NOT_AFTER_S), PEP_NOT_CERTIFIED);
    CU_ASSERT_EQUAL(pep_certificate_covers(&c, "pump-7", other.sign_kid, false, NOT_AFTER_S), PEP_NOT_CERTIFIED);
    CU_ASSERT_EQUAL(pep_certificate_covers(&c, "pump-8", c.kid, false, NOT_AFTER_S), PEP_WRONG_ID);
    c.gate = true; /* a gate's is no device's, nor the other way round */
    CU_ASSERT_EQUAL(pep_certificate_covers(&c, "pump-7", c.kid, false, NOT_AFTER_S), PEP_NOT_CERTIFIED);
    CU_ASSERT_EQUAL(pep_certificate_covers(&c, "pump-7", c.kid, true, NOT_AFTER_S), PEP_OK);
}

/* Zero: as the sample has it. */
typedef struct {
    const char *groups[PEP_GROUPS_MAX + 1];
    size_t group_count;
    bool empty_groups;
    int gate; /* 1: true, 2: false, 3: a number */
    bool options_swapped;
    uint64_t not_after_s;
    uint64_t unknown; /* a key that is none */
    const char *id;
} certificate_recipe;

static void write_groups(pep_writer *w, const certificate_recipe *how)
{
    if (how->group_count == 0 && !how->empty_groups)
        return;
    pep_write_uint(w, 5);
    pep_write_array(w, how->group_count);
    for (size_t i = 0; i < how->group_count; i++)
        pep_write_string(w, how->groups[i]);
}

static void write_gate(pep_writer *w, const certificate_recipe *how)
{
    if (how->gate == 0)
        return;
    pep_write_uint(w, 6);
    if (how->gate == 3)
        pep_write_uint(w, 1);
    else
        pep_write_bool(w, how->gate == 1);
}

static cut cook(const certificate_recipe *how)
{
    uint8_t payload[CUT_BYTES];
    pep_writer w = {.p = payload, .cap = sizeof payload};
    pep_certificate c = sample();
    pep_authority a = authority_of(1);
    pep_write_map(&w, 4U + (how->group_count > 0 || how->empty_groups) + (how->gate > 0) + (how->unknown > 0));
    pep_write_uint(&w, 1);
    pep_write_string(&w, how->id == NULL ? "pump-7" : how->id);
    pep_write_uint(&w, 2);
    pep_write_bytes(&w, c.kid, PEP_KID_BYTES);
    pep_write_uint(&w, 3);
    pep_write_uint(&w, ISSUED_S);
    pep_write_uint(&w, 4);
    pep_write_uint(&w, how->not_after_s == 0 ? NOT_AFTER_S : how->not_after_s);
    (how->options_swapped ? write_gate : write_groups)(&w, how);
    (how->options_swapped ? write_groups : write_gate)(&w, how);
    if (how->unknown > 0) {
        pep_write_uint(&w, how->unknown);
        pep_write_uint(&w, 0);
    }
    return signed_as(TYP_CERTIFICATE, a.sign_secret, &w);
}

static void test_certificate_recipes(void)
{
    static const struct {
        certificate_recipe how;
        pep_reason expected;
    } recipes[] = {
        {{.group_count = 0}, PEP_OK},
        {{.group_count = 2, .groups = {"a", "b"}, .gate = 1}, PEP_OK},
        {{.group_count = 2, .groups = {"Z", "a"}}, PEP_OK},
        {{.group_count = 2, .groups = {"a", "aa"}}, PEP_OK},
        {{.group_count = 2, .groups = {"b", "a"}}, PEP_MALFORMED},
        {{.group_count = 2, .groups = {"b", "aa"}}, PEP_MALFORMED}, /* by bytes, not by length */
        {{.group_count = 2, .groups = {"a", "a"}}, PEP_MALFORMED},
        {{.group_count = 2, .groups = {"aa", "a"}}, PEP_MALFORMED},
        {{.group_count = 1, .groups = {"a/b"}}, PEP_MALFORMED},
        {{.group_count = 1, .groups = {""}}, PEP_MALFORMED},
        {{.group_count = 16,
          .groups = {"a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p"}},
         PEP_OK},
        {{.group_count = 17,
          .groups = {"a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q"}},
         PEP_MALFORMED},
        {{.empty_groups = true}, PEP_MALFORMED},
        {{.gate = 1}, PEP_OK},
        {{.gate = 2}, PEP_MALFORMED},
        {{.gate = 3}, PEP_MALFORMED},
        {{.group_count = 1, .groups = {"a"}, .gate = 1, .options_swapped = true}, PEP_MALFORMED},
        {{.not_after_s = ISSUED_S}, PEP_MALFORMED},
        {{.not_after_s = ISSUED_S + 1}, PEP_OK},
        {{.unknown = 7}, PEP_MALFORMED},
        {{.id = "a b"}, PEP_MALFORMED},
    };
    for (size_t i = 0; i < COUNT(recipes); i++) {
        pep_certificate got;
        cut bytes = cook(&recipes[i].how);
        CU_ASSERT_EQUAL(parse(&got, bytes.p, bytes.n), recipes[i].expected);
    }
}

static void test_certificate_files(void)
{
    cut read;
    cut bytes = certify(sample(), 1);
    uint8_t large[PEP_CERTIFICATE_BYTES_MAX + 1] = {0};
    scratch_begin();
    const char *path = scratch_path("pump-7.cert");
    CU_ASSERT_EQUAL(pep_certificate_load(read.p, &read.n, &error, path), PEP_CANNOT_READ);
    CU_ASSERT_EQUAL(pep_certificate_replace(&error, path, large, sizeof large), PEP_OK);
    CU_ASSERT_EQUAL(pep_certificate_load(read.p, &read.n, &error, path), PEP_BAD_FILE);
    CU_ASSERT_EQUAL(pep_certificate_replace(&error, path, bytes.p, bytes.n), PEP_OK);
    CU_ASSERT_EQUAL(pep_certificate_load(read.p, &read.n, &error, path), PEP_OK);
    CU_ASSERT(read.n == bytes.n && memcmp(read.p, bytes.p, read.n) == 0);
    CU_ASSERT_EQUAL(mode_of_file(path), 0644);
    CU_ASSERT_EQUAL(scratch_count(), 1);
    scratch_end();
}

/* ---- authorities ---- */

static void test_authority_file(void)
{
    pep_authority made;
    pep_authority loaded;
    uint8_t bytes[1024];
    CU_ASSERT_EQUAL(pep_authority_new(&made), PEP_OK);
    scratch_begin();
    const char *path = scratch_path("authority.key");
    CU_ASSERT_EQUAL(pep_authority_save(&error, path, &made), PEP_OK);
    CU_ASSERT_EQUAL(mode_of_file(path), 0600);
    CU_ASSERT_EQUAL(pep_authority_save(&error, path, &made), PEP_EXISTS);
    CU_ASSERT_EQUAL(pep_authority_load(&loaded, &error, path), PEP_OK);
    CU_ASSERT_EQUAL(memcmp(&made, &loaded, sizeof made), 0);
    size_t n = read_file(bytes, sizeof bytes, path);
    for (size_t at = 0; at < n; at++) {
        bytes[at] ^= 1;
        write_file(scratch_path("damaged"), bytes, n, 0600);
        CU_ASSERT_EQUAL(pep_authority_load(&loaded, &error, scratch_path("damaged")), PEP_BAD_FILE);
        CU_ASSERT(sodium_is_zero((const uint8_t *)&loaded, sizeof loaded));
        bytes[at] ^= 1;
    }
    CU_ASSERT_EQUAL_FATAL(chmod(path, 0640), 0);
    CU_ASSERT_EQUAL(pep_authority_load(&loaded, &error, path), PEP_UNSAFE_FILE);
    pep_authority_wipe(&made);
    CU_ASSERT(sodium_is_zero((const uint8_t *)&made, sizeof made));
    scratch_end();
}

static void test_authority_text(void)
{
    static const char *const bad[] = {
        "",
        "AAAA",
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", /* padding */
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", /* a byte more */
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB", /* bits that mean nothing */
        "AAAAAAAAAAAAAAAAAAAAAA+AAAAAAAAAAAAAAAAAAAA",
        "AAAAAAAAAAAAAAAAAAAAAA/AAAAAAAAAAAAAAAAAAAA",
        "AAAAAAAAAAAAAAAAAAAAAA\xffxAAAAAAAAAAAAAAAAAAA",
        " AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n",
    };
    char text[PEP_AUTHORITY_TEXT_BYTES];
    uint8_t key[PEP_SIGN_PUBLIC_BYTES];
    pep_authority a = authority_of(1);
    pep_authority_text(text, a.sign_public);
    CU_ASSERT_EQUAL(strlen(text), 43);
    CU_ASSERT_TRUE(pep_authority_from_text(key, text));
    CU_ASSERT_EQUAL(memcmp(key, a.sign_public, sizeof key), 0);
    CU_ASSERT_TRUE(pep_authority_from_text(key, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"));
    for (size_t i = 0; i < COUNT(bad); i++)
        CU_ASSERT_FALSE(pep_authority_from_text(key, bad[i]));
}

/* ---- tokens ---- */

static void hash_of(uint8_t hash[PEP_SHA256_BYTES], const char *text)
{
    crypto_hash_sha256(hash, (const uint8_t *)text, strlen(text));
}

static void test_token(void)
{
    char text[PEP_TOKEN_TEXT_BYTES];
    char other[PEP_TOKEN_TEXT_BYTES];
    uint8_t kid[PEP_KID_BYTES];
    uint8_t other_kid[PEP_KID_BYTES];
    uint8_t got[PEP_KID_BYTES];
    uint8_t hash[PEP_SHA256_BYTES];
    cut proof;
    pep_token_new(text, kid);
    pep_token_new(other, other_kid);
    CU_ASSERT_EQUAL(strlen(text), PEP_TOKEN_TEXT_BYTES - 1);
    CU_ASSERT_STRING_NOT_EQUAL(text, other);
    hash_of(hash, "a record");
    CU_ASSERT_EQUAL_FATAL(pep_token_prove(proof.p, &proof.n, text, hash), PEP_OK);
    CU_ASSERT(proof.n <= PEP_PROOF_BYTES_MAX);
    CU_ASSERT_EQUAL(pep_token_verify(got, proof.p, proof.n, hash), PEP_OK);
    CU_ASSERT_EQUAL(memcmp(got, kid, PEP_KID_BYTES), 0);
    CU_ASSERT_NOT_EQUAL(memcmp(got, other_kid, PEP_KID_BYTES), 0);
    hash_of(hash, "another record");
    CU_ASSERT_EQUAL(pep_token_verify(got, proof.p, proof.n, hash), PEP_BAD_TOKEN);
    CU_ASSERT(sodium_is_zero(got, sizeof got));
}

/* Seed and key of a token, computed by another program: HKDF-SHA256 with an empty salt. */
static void test_token_derivation(void)
{
    static const char expected[] = "329add8e0774da108ea29a30475a4b05";
    uint8_t hash[PEP_SHA256_BYTES] = {0};
    uint8_t kid[PEP_KID_BYTES];
    char hex[2 * PEP_KID_BYTES + 1];
    cut proof;
    CU_ASSERT_EQUAL_FATAL(pep_token_prove(proof.p, &proof.n, "AAECAwQFBgcICQoLDA0ODxAREhMUFRYX", hash), PEP_OK);
    CU_ASSERT_EQUAL(pep_token_verify(kid, proof.p, proof.n, hash), PEP_OK);
    sodium_bin2hex(hex, sizeof hex, kid, sizeof kid);
    CU_ASSERT_STRING_EQUAL(hex, expected);
}

static void test_token_text(void)
{
    static const char *const bad[] = {"",
                                      "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
                                      "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
                                      "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
                                      "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n",
                                      "AAAAAAAAAAAA AAAAAAAAAAAAAAAAAAA",
                                      "AAAAAAAAAAAA/AAAAAAAAAAAAAAAAAAA",
                                      "AAAAAAAAAAAA\xc3\xa4xAAAAAAAAAAAAAAAAA"};
    uint8_t hash[PEP_SHA256_BYTES] = {0};
    cut proof;
    for (size_t i = 0; i < COUNT(bad); i++) {
        CU_ASSERT_EQUAL(pep_token_prove(proof.p, &proof.n, bad[i], hash), PEP_BAD_ARGUMENT);
        CU_ASSERT_EQUAL(proof.n, 0);
    }
}

static pep_reason verify_exact(const uint8_t *bytes, size_t n, const uint8_t *hash)
{
    uint8_t kid[PEP_KID_BYTES];
    uint8_t *exact = exact_copy(bytes, n);
    pep_reason reason = pep_token_verify(kid, exact, n, hash);
    free(exact);
    CU_ASSERT_EQUAL(sodium_is_zero(kid, sizeof kid), reason != PEP_OK);
    return reason;
}

static void test_proof_bytes(void)
{
    uint8_t hash[PEP_SHA256_BYTES];
    cut proof;
    hash_of(hash, "a record");
    CU_ASSERT_EQUAL_FATAL(pep_token_prove(proof.p, &proof.n, "AAECAwQFBgcICQoLDA0ODxAREhMUFRYX", hash), PEP_OK);
    for (size_t n = 0; n < proof.n; n++)
        CU_ASSERT_EQUAL(verify_exact(proof.p, n, hash), PEP_MALFORMED);
    for (size_t bit = 0; bit < 8 * proof.n; bit++) {
        proof.p[bit / 8] ^= (uint8_t)(1 << bit % 8);
        CU_ASSERT_NOT_EQUAL(verify_exact(proof.p, proof.n, hash), PEP_OK);
        proof.p[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    proof.p[proof.n] = 0;
    CU_ASSERT_EQUAL(verify_exact(proof.p, proof.n + 1, hash), PEP_MALFORMED);
    proof.p[proof.n - 1] ^= 1;
    CU_ASSERT_EQUAL(verify_exact(proof.p, proof.n, hash), PEP_BAD_SIGNATURE);
}

/* A key that is not the signer's: the proof would name a token that nobody has. */
static void test_proof_of_other_key(void)
{
    uint8_t hash[PEP_SHA256_BYTES] = {0};
    uint8_t payload[256];
    pep_writer w = {.p = payload, .cap = sizeof payload};
    pep_authority one = authority_of(1);
    pep_authority two = authority_of(2);
    pep_write_map(&w, 2);
    pep_write_uint(&w, 1);
    pep_write_bytes(&w, hash, sizeof hash);
    pep_write_uint(&w, 2);
    pep_write_bytes(&w, one.sign_public, sizeof one.sign_public);
    cut right = signed_as(TYP_ENROLLMENT, one.sign_secret, &w);
    cut wrong = signed_as(TYP_ENROLLMENT, two.sign_secret, &w);
    CU_ASSERT_EQUAL(verify_exact(right.p, right.n, hash), PEP_OK);
    CU_ASSERT_EQUAL(verify_exact(wrong.p, wrong.n, hash), PEP_MALFORMED);
}

/* ---- entries ---- */

static void test_entry(void)
{
    cut bytes;
    pep_entry got;
    pep_device device = device_of("pump-7", 1);
    cut record = record_of(&device);
    cut certificate = certify(sample(), 1);
    pep_entry entry = {.statement = view_of(&record)};
    CU_ASSERT_EQUAL_FATAL(pep_entry_encode(bytes.p, &bytes.n, &entry), PEP_OK);
    CU_ASSERT_EQUAL_FATAL(pep_entry_parse(&got, bytes.p, bytes.n), PEP_OK);
    CU_ASSERT_PTR_NULL(got.certificate.p);
    CU_ASSERT_EQUAL(got.certificate.n, 0);
    CU_ASSERT(got.statement.n == record.n && memcmp(got.statement.p, record.p, record.n) == 0);
    entry.certificate = view_of(&certificate);
    CU_ASSERT_EQUAL_FATAL(pep_entry_encode(bytes.p, &bytes.n, &entry), PEP_OK);
    CU_ASSERT_EQUAL_FATAL(pep_entry_parse(&got, bytes.p, bytes.n), PEP_OK);
    CU_ASSERT(got.certificate.n == certificate.n && memcmp(got.certificate.p, certificate.p, certificate.n) == 0);
    for (size_t n = 0; n < bytes.n; n++) {
        uint8_t *exact = exact_copy(bytes.p, n);
        CU_ASSERT_EQUAL(pep_entry_parse(&got, exact, n), PEP_MALFORMED);
        free(exact);
    }
    bytes.p[bytes.n] = 0;
    CU_ASSERT_EQUAL(pep_entry_parse(&got, bytes.p, bytes.n + 1), PEP_MALFORMED);
}

static void test_entry_sizes(void)
{
    static uint8_t large[PEP_ENTRY_BYTES_MAX + 1];
    uint8_t out[PEP_ENTRY_BYTES_MAX];
    size_t n;
    pep_entry got;
    pep_entry entry = {.statement = {large, PEP_STATEMENT_BYTES_MAX},
                       .certificate = {large, PEP_CERTIFICATE_BYTES_MAX}};
    CU_ASSERT_EQUAL(pep_entry_encode(out, &n, &entry), PEP_OK);
    CU_ASSERT_EQUAL(pep_entry_parse(&got, out, n), PEP_OK);
    entry.statement.n++;
    CU_ASSERT_EQUAL(pep_entry_encode(out, &n, &entry), PEP_BAD_ARGUMENT);
    entry.statement.n = 0;
    CU_ASSERT_EQUAL(pep_entry_encode(out, &n, &entry), PEP_BAD_ARGUMENT);
    entry = (pep_entry){.statement = {large, 1}, .certificate = {large, PEP_CERTIFICATE_BYTES_MAX + 1}};
    CU_ASSERT_EQUAL(pep_entry_encode(out, &n, &entry), PEP_BAD_ARGUMENT);
    entry.certificate.n = 0;
    CU_ASSERT_EQUAL(pep_entry_encode(out, &n, &entry), PEP_BAD_ARGUMENT);
    entry = (pep_entry){.certificate = {large, 1}};
    CU_ASSERT_EQUAL(pep_entry_encode(out, &n, &entry), PEP_BAD_ARGUMENT);
}

static void test_entry_bytes(void)
{
    static const struct {
        const char *bytes;
        size_t n;
        pep_reason expected;
    } cases[] = {
        {"\x83\x01\x41x\xf6", 5, PEP_OK},
        {"\x83\x01\x41x\x41y", 6, PEP_OK},
        {"\x83\x02\x41x\xf6", 5, PEP_UNSUPPORTED_VERSION},
        {"\x81\x02", 2, PEP_UNSUPPORTED_VERSION}, /* whatever comes after version 1 may look like */
        {"\x81\x01", 2, PEP_MALFORMED},
        {"\x80", 1, PEP_MALFORMED},
        {"\xa0", 1, PEP_MALFORMED},
        {"\x84\x01\x41x\xf6\xf6", 6, PEP_MALFORMED},
        {"\x82\x01\x41x", 4, PEP_MALFORMED},
        {"\x83\x01\x61x\xf6", 5, PEP_MALFORMED}, /* text */
        {"\x83\x01\x41x\xf5", 5, PEP_MALFORMED}, /* true */
        {"\x83\x01\x41x\x61y", 6, PEP_MALFORMED},
        {"\x83\x01\x40\xf6", 4, PEP_MALFORMED}, /* nothing */
        {"\x83\x01\x41x\x40", 5, PEP_MALFORMED},
        {"\x83\x18\x01\x41x\xf6", 6, PEP_MALFORMED}, /* a longer form than it needs */
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        pep_entry got;
        uint8_t *exact = exact_copy(cases[i].bytes, cases[i].n);
        CU_ASSERT_EQUAL(pep_entry_parse(&got, exact, cases[i].n), cases[i].expected);
        free(exact);
    }
}

/* ---- one kind is no other ---- */

static const char *const typs[] = {TYP_RECORD, TYP_ROTATION, TYP_REVOCATION, TYP_CERTIFICATE, TYP_ENROLLMENT};

/* What each kind's parser says of it, with everything else as that kind would like it. */
static pep_reason read_as(size_t kind, const cut *bytes, const uint8_t *hash)
{
    pep_statement s;
    pep_certificate c;
    uint8_t kid[PEP_KID_BYTES];
    if (kind == 3)
        return parse(&c, bytes->p, bytes->n);
    if (kind == 4)
        return pep_token_verify(kid, bytes->p, bytes->n, hash);
    pep_reason reason = pep_statement_parse(&s, bytes->p, bytes->n);
    return reason == PEP_OK && s.kind != (pep_statement_kind)(kind + 1) ? PEP_MALFORMED : reason;
}

static pep_view payload_of(const cut *bytes)
{
    signed_object object;
    CU_ASSERT_FATAL(parse_signed(&object, view_of(bytes)));
    return object.payload;
}

/* Every payload under every typ, signed with the key that its own kind wants. */
static void test_kinds_are_apart(void)
{
    pep_device first = device_of("pump-7", 1);
    pep_authority a = authority_of(1);
    uint8_t hash[PEP_SHA256_BYTES] = {0};
    uint8_t proof_payload[256];
    pep_writer p = {.p = proof_payload, .cap = sizeof proof_payload};
    pep_write_map(&p, 2);
    pep_write_uint(&p, 1);
    pep_write_bytes(&p, hash, sizeof hash);
    pep_write_uint(&p, 2);
    pep_write_bytes(&p, a.sign_public, sizeof a.sign_public);
    cut record = record_of(&first);
    pep_head head = head_of(&record);
    cut own[] = {record, rotation_to(&head, &first, first.sign_secret, 0), revocation_of(&head, first.sign_secret),
                 certify(sample(), 1), signed_as(TYP_ENROLLMENT, a.sign_secret, &p)};
    for (size_t kind = 0; kind < COUNT(typs); kind++)
        for (size_t typ = 0; typ < COUNT(typs); typ++) {
            pep_view payload = payload_of(&own[kind]);
            uint8_t copy[CUT_BYTES];
            memcpy(copy, payload.p, payload.n);
            pep_writer w = {.p = copy, .cap = sizeof copy, .n = payload.n};
            cut bytes = signed_as(typs[typ], kind < 3 ? first.sign_secret : a.sign_secret, &w);
            for (size_t reader = 0; reader < COUNT(typs); reader++)
                CU_ASSERT_EQUAL(read_as(reader, &bytes, hash), kind == typ && reader == typ ? PEP_OK : PEP_MALFORMED);
        }
}

/* Nor is any of them an envelope, or an envelope one of them. */
static void test_envelopes_are_apart(void)
{
    pep_device first = device_of("pump-7", 1);
    uint8_t hash[PEP_SHA256_BYTES] = {0};
    pep_envelope e;
    cut envelope;
    cut certificate = certify(sample(), 1);
    const pep_message message = {.from = &first,
                                 .topic = {(const uint8_t *)"a", 1},
                                 .seq = 1,
                                 .flags = PEP_FLAG_SIGNED_ONLY,
                                 .plain = payload_of(&certificate)};
    CU_ASSERT_EQUAL_FATAL(pep_seal(envelope.p, &envelope.n, sizeof envelope.p, &message), PEP_OK);
    for (size_t reader = 0; reader < COUNT(typs); reader++)
        CU_ASSERT_EQUAL(read_as(reader, &envelope, hash), PEP_MALFORMED);
    CU_ASSERT_EQUAL(pep_parse(&e, certificate.p, certificate.n), PEP_MALFORMED);
}

/* Right in its shape, and longer than any may be. */
static void test_too_long(void)
{
    static const uint8_t zeros[PEP_STATEMENT_BYTES_MAX];
    cut certificate = certify(sample(), 1);
    signed_object object;
    for (size_t all = PEP_STATEMENT_BYTES_MAX; all <= PEP_STATEMENT_BYTES_MAX + 1; all++) {
        uint8_t bytes[CUT_BYTES];
        pep_writer w = {.p = bytes, .cap = sizeof bytes};
        CU_ASSERT_FATAL(parse_signed(&object, view_of(&certificate)));
        pep_write_tag(&w, 18);
        pep_write_array(&w, 4);
        pep_write_bytes(&w, object.protected_bytes.p, object.protected_bytes.n);
        pep_write_map(&w, 0);
        pep_write_bytes(&w, zeros, all - w.n - 3 - 66);
        pep_write_bytes(&w, zeros, PEP_SIGNATURE_BYTES);
        CU_ASSERT_EQUAL_FATAL(w.n, all);
        CU_ASSERT_EQUAL(parse_signed(&object, (pep_view){bytes, all}), all == PEP_STATEMENT_BYTES_MAX);
    }
}

/* EdDSA (-8) names no curve. */
static void test_algorithm(void)
{
    cut bytes = certify(sample(), 1);
    pep_certificate got;
    CU_ASSERT_EQUAL_FATAL(bytes.p[6], 0x32);
    CU_ASSERT_EQUAL_FATAL(bytes.p[5], 0x01);
    bytes.p[6] = 0x27;
    CU_ASSERT_EQUAL(parse(&got, bytes.p, bytes.n), PEP_UNSUPPORTED_ALGORITHM);
}

static void test_start(void)
{
    CU_ASSERT_EQUAL(pep_init(), PEP_OK);
}

static const unit_test tests[] = {
    {"the library starts", test_start},
    {"certificates: signed and parsed", test_certificate},
    {"certificates: the largest", test_largest_certificate},
    {"certificates: what is not signed", test_not_certified},
    {"certificates: cut short, too long, each bit flipped", test_certificate_bytes},
    {"certificates: of another authority", test_other_authority},
    {"certificates: what they cover", test_covers},
    {"certificates: well signed and still refused", test_certificate_recipes},
    {"certificates: files", test_certificate_files},
    {"authorities: files", test_authority_file},
    {"authorities: as text", test_authority_text},
    {"tokens: proven", test_token},
    {"tokens: the key as another program derives it", test_token_derivation},
    {"tokens: damaged text", test_token_text},
    {"proofs: cut short, too long, each bit flipped", test_proof_bytes},
    {"proofs: another's key", test_proof_of_other_key},
    {"entries: encoded and parsed, cut short, too long", test_entry},
    {"entries: sizes", test_entry_sizes},
    {"entries: bytes", test_entry_bytes},
    {"no kind passes for another", test_kinds_are_apart},
    {"nor for an envelope", test_envelopes_are_apart},
    {"longer than any may be", test_too_long},
    {"another algorithm", test_algorithm},
};

UNIT_MAIN("certificates", tests)
