/* Records: signing and parsing them; and the keyring that is read from them. */
#include "pep.h"

#include "unit.h"

#include <sodium.h>

#include "envelope/structures.h"
#include "exact.h"
#include "scratch.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

enum { ISSUED_S = 1000, NOT_AFTER_S = 2000, AGREE_ALG_UNKNOWN = 4242 };

static pep_error error;

/* A device with keys of its own for each id. */
static pep_device device_of(const char *id)
{
    uint8_t seed[32];
    uint8_t secret[32];
    pep_device device;
    crypto_hash_sha256(seed, (const uint8_t *)id, strlen(id));
    crypto_hash_sha256(secret, seed, sizeof seed);
    CU_ASSERT_EQUAL_FATAL(pep_device_from_secrets(&device, id, seed, secret), PEP_OK);
    return device;
}

static size_t record_of(uint8_t out[PEP_RECORD_BYTES_MAX], const char *id)
{
    size_t n = 0;
    pep_device device = device_of(id);
    CU_ASSERT_EQUAL_FATAL(pep_record_sign(out, &n, &device, ISSUED_S, NOT_AFTER_S), PEP_OK);
    return n;
}

static pep_reason parse_exact(pep_record *out, const uint8_t *bytes, size_t n)
{
    uint8_t *exact = exact_copy(bytes, n);
    pep_reason reason = pep_record_parse(out, exact, n);
    free(exact);
    return reason;
}

/* ---- our own ---- */

static void test_sign_and_parse(void)
{
    uint8_t bytes[PEP_RECORD_BYTES_MAX];
    pep_device device = device_of("pump-7");
    pep_record record;
    size_t n = record_of(bytes, "pump-7");
    CU_ASSERT_EQUAL_FATAL(parse_exact(&record, bytes, n), PEP_OK);
    CU_ASSERT_STRING_EQUAL(record.id, "pump-7");
    CU_ASSERT_EQUAL(record.version, 1);
    CU_ASSERT_EQUAL(record.issued_s, ISSUED_S);
    CU_ASSERT_EQUAL(record.not_after_s, NOT_AFTER_S);
    CU_ASSERT_EQUAL(memcmp(record.sign_kid, device.sign_kid, PEP_KID_BYTES), 0);
    CU_ASSERT_EQUAL(memcmp(record.sign_public, device.sign_public, PEP_SIGN_PUBLIC_BYTES), 0);
    CU_ASSERT_EQUAL_FATAL(record.agree_count, 1);
    CU_ASSERT_EQUAL(memcmp(record.agree[0].kid, device.agree_kid, PEP_KID_BYTES), 0);
    CU_ASSERT_EQUAL(memcmp(record.agree[0].key, device.agree_public, PEP_AGREE_PUBLIC_BYTES), 0);
    CU_ASSERT_EQUAL(record.agree[0].not_after_s, NOT_AFTER_S);
}

static void test_largest(void)
{
    uint8_t bytes[PEP_RECORD_BYTES_MAX];
    char id[PEP_ID_MAX + 1] = {0};
    size_t n;
    pep_record record;
    memset(id, 'x', PEP_ID_MAX);
    pep_device device = device_of(id);
    CU_ASSERT_EQUAL(pep_record_sign(bytes, &n, &device, UINT64_MAX - 1, UINT64_MAX), PEP_OK);
    CU_ASSERT_EQUAL(parse_exact(&record, bytes, n), PEP_OK);
    CU_ASSERT_STRING_EQUAL(record.id, id);
    CU_ASSERT_EQUAL(record.not_after_s, UINT64_MAX);
}

static void test_sign_dates(void)
{
    uint8_t bytes[PEP_RECORD_BYTES_MAX];
    size_t n;
    pep_device device = device_of("a");
    CU_ASSERT_EQUAL(pep_record_sign(bytes, &n, &device, 1000, 1000), PEP_BAD_ARGUMENT);
    CU_ASSERT_EQUAL(pep_record_sign(bytes, &n, &device, 1000, 999), PEP_BAD_ARGUMENT);
    CU_ASSERT_EQUAL(n, 0);
    CU_ASSERT_EQUAL(pep_record_sign(bytes, &n, &device, 1000, 1001), PEP_OK);
}

static void test_cut_short(void)
{
    uint8_t bytes[PEP_RECORD_BYTES_MAX] = {0};
    pep_record record;
    size_t n = record_of(bytes, "pump-7");
    for (size_t cut = 0; cut < n; cut++)
        CU_ASSERT_EQUAL(parse_exact(&record, bytes, cut), PEP_MALFORMED);
    CU_ASSERT_EQUAL(parse_exact(&record, bytes, n + 1), PEP_MALFORMED);
}

static void test_flipped_bits(void)
{
    uint8_t bytes[PEP_RECORD_BYTES_MAX];
    pep_record record;
    size_t n = record_of(bytes, "pump-7");
    for (size_t bit = 0; bit < 8 * n; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        CU_ASSERT_NOT_EQUAL(parse_exact(&record, bytes, n), PEP_OK);
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    bytes[n - 1] ^= 1; /* in the signature: nothing else is wrong */
    CU_ASSERT_EQUAL(parse_exact(&record, bytes, n), PEP_BAD_SIGNATURE);
}

/* ---- records that nobody of ours would sign, with good signatures ---- */

/* What differs from a good record; zero: nothing. */
typedef struct {
    const char *typ;
    int64_t alg;
    bool wrong_kid;
    const char *id;
    uint64_t version_plus; /* 1: version 2, and so on */
    bool version_0;
    uint64_t issued_s;
    uint64_t agree_keys; /* of the known algorithm */
    bool unknown_first;
    bool only_unknown;
    bool wrong_agree_kid;
    size_t agree_key_n; /* bytes of it; 0: as many as it has */
    bool no_algorithms;
    bool one_missing; /* the payload's map says that there is one pair more */
    unsigned more_algorithms;
    size_t previous_n; /* bytes of the hash of the version before */
    size_t trailing;   /* bytes behind the payload's map */
    uint64_t tag;
    bool unprotected;
} recipe;

static void write_header(pep_writer *w, const recipe *how, const pep_device *device)
{
    pep_write_map(w, 3);
    pep_write_uint(w, LABEL_ALG);
    pep_write_int(w, how->alg == 0 ? ALG_ED25519 : how->alg);
    pep_write_uint(w, LABEL_KID);
    pep_write_bytes(w, how->wrong_kid ? device->agree_kid : device->sign_kid, PEP_KID_BYTES);
    pep_write_uint(w, LABEL_TYP);
    pep_write_string(w, how->typ == NULL ? "application/pep-record" : how->typ);
}

static void write_agree_key(pep_writer *w, const recipe *how, const pep_device *device, bool known)
{
    pep_write_map(w, 4);
    pep_write_uint(w, 1);
    pep_write_bytes(w, how->wrong_agree_kid ? device->sign_kid : device->agree_kid, PEP_KID_BYTES);
    pep_write_uint(w, 2);
    pep_write_int(w, known ? ALG_HPKE_4 : AGREE_ALG_UNKNOWN);
    pep_write_uint(w, 3);
    uint8_t key[PEP_AGREE_PUBLIC_BYTES + 1] = {0};
    memcpy(key, device->agree_public, PEP_AGREE_PUBLIC_BYTES);
    pep_write_bytes(w, key, !known ? 31 : how->agree_key_n > 0 ? how->agree_key_n : PEP_AGREE_PUBLIC_BYTES);
    pep_write_uint(w, 4);
    pep_write_uint(w, NOT_AFTER_S);
}

static void write_agree_keys(pep_writer *w, const recipe *how, const pep_device *device)
{
    uint64_t known = how->only_unknown ? 0 : how->agree_keys == 0 ? 1 : how->agree_keys;
    bool unknown = how->unknown_first || how->only_unknown;
    pep_write_uint(w, 6);
    pep_write_array(w, known + unknown);
    if (unknown)
        write_agree_key(w, how, device, false);
    for (uint64_t i = 0; i < known; i++)
        write_agree_key(w, how, device, true);
}

static void write_lists(pep_writer *w, const recipe *how)
{
    static const uint8_t hash[64];
    pep_write_uint(w, 7);
    pep_write_array(w, 1);
    pep_write_uint(w, PEP_ENVELOPE_VERSION);
    pep_write_uint(w, 8);
    unsigned algorithms = how->no_algorithms ? 0 : 1 + how->more_algorithms;
    pep_write_array(w, algorithms);
    for (unsigned i = 0; i < algorithms; i++)
        pep_write_int(w, ALG_HPKE_4);
    if (how->previous_n > 0) {
        pep_write_uint(w, 9);
        pep_write_bytes(w, hash, how->previous_n);
    }
    pep_write_raw(w, hash, how->trailing);
}

static void write_payload(pep_writer *w, const recipe *how, const pep_device *device)
{
    pep_write_map(w, (how->previous_n > 0 ? 9U : 8U) + how->one_missing);
    pep_write_uint(w, 1);
    pep_write_string(w, how->id == NULL ? device->id : how->id);
    pep_write_uint(w, 2);
    pep_write_uint(w, how->version_0 ? 0 : 1 + how->version_plus);
    pep_write_uint(w, 3);
    pep_write_uint(w, how->issued_s == 0 ? ISSUED_S : how->issued_s);
    pep_write_uint(w, 4);
    pep_write_uint(w, NOT_AFTER_S);
    pep_write_uint(w, 5);
    pep_write_bytes(w, device->sign_public, PEP_SIGN_PUBLIC_BYTES);
    write_agree_keys(w, how, device);
    write_lists(w, how);
}

static size_t cook(uint8_t out[2048], const recipe *how)
{
    uint8_t header[256];
    uint8_t payload[2048];
    uint8_t work[2048];
    uint8_t signature[PEP_SIGNATURE_BYTES];
    pep_device device = device_of("pump-7");
    pep_writer h = {.p = header, .cap = sizeof header};
    pep_writer p = {.p = payload, .cap = sizeof payload};
    pep_writer s = {.p = work, .cap = sizeof work};
    pep_writer w = {.p = out, .cap = 2048};
    write_header(&h, how, &device);
    write_payload(&p, how, &device);
    write_sig_structure(&s, (pep_view){header, h.n}, (pep_view){payload, p.n});
    crypto_sign_detached(signature, NULL, work, s.n, device.sign_secret);
    pep_write_tag(&w, how->tag == 0 ? TAG_SIGN1 : how->tag);
    pep_write_array(&w, 4);
    pep_write_bytes(&w, header, h.n);
    pep_write_map(&w, how->unprotected);
    if (how->unprotected) {
        pep_write_uint(&w, LABEL_ALG);
        pep_write_int(&w, ALG_ED25519);
    }
    pep_write_bytes(&w, payload, p.n);
    pep_write_bytes(&w, signature, sizeof signature);
    CU_ASSERT_FALSE_FATAL(h.full || p.full || s.full || w.full);
    return w.n;
}

static const struct {
    recipe how;
    pep_reason expected;
    size_t agree_count;
} recipes[] = {
    {{0}, PEP_OK, 1},
    {{.version_plus = 41, .previous_n = 32}, PEP_OK, 1},
    {{.version_plus = 41}, PEP_MALFORMED, 0}, /* it follows nothing */
    {{.version_plus = 1}, PEP_MALFORMED, 0},
    {{.version_plus = 1, .previous_n = 31}, PEP_MALFORMED, 0},
    {{.version_plus = 1, .previous_n = 33}, PEP_MALFORMED, 0},
    {{.agree_keys = 4}, PEP_OK, 4},
    {{.unknown_first = true}, PEP_OK, 1}, /* algorithms to come are passed over */
    {{.unknown_first = true, .agree_keys = 3}, PEP_OK, 3},
    {{.previous_n = 32}, PEP_MALFORMED, 0}, /* nothing comes before the first */
    {{.typ = "application/pep-grant"}, PEP_MALFORMED, 0},
    {{.typ = ""}, PEP_MALFORMED, 0},
    {{.typ = "application/pep-recor"}, PEP_MALFORMED, 0},
    {{.typ = "application/pep-records"}, PEP_MALFORMED, 0},
    {{.typ = "application/pep-recerd"}, PEP_MALFORMED, 0},
    {{.typ = "application/pep-record; and so on, for longer than ours"}, PEP_MALFORMED, 0},
    {{.alg = -8}, PEP_UNSUPPORTED_ALGORITHM, 0}, /* EdDSA, which does not say which curve */
    {{.wrong_kid = true}, PEP_MALFORMED, 0},
    {{.id = ""}, PEP_MALFORMED, 0},
    {{.id = "a/b"}, PEP_MALFORMED, 0},
    {{.id = "01234567890123456789012345678901234567890123456789012345678901234"}, PEP_MALFORMED, 0},
    {{.version_0 = true}, PEP_MALFORMED, 0},
    {{.issued_s = NOT_AFTER_S - 1}, PEP_OK, 1},
    {{.issued_s = NOT_AFTER_S}, PEP_MALFORMED, 0},
    {{.issued_s = NOT_AFTER_S + 1}, PEP_MALFORMED, 0},
    {{.agree_keys = 5}, PEP_MALFORMED, 0},
    {{.unknown_first = true, .agree_keys = 4}, PEP_MALFORMED, 0},
    {{.only_unknown = true}, PEP_MALFORMED, 0}, /* nothing that anyone could encrypt to */
    {{.wrong_agree_kid = true}, PEP_MALFORMED, 0},
    {{.agree_key_n = 31}, PEP_MALFORMED, 0},
    {{.agree_key_n = 33}, PEP_MALFORMED, 0},
    {{.no_algorithms = true}, PEP_MALFORMED, 0},
    {{.more_algorithms = 300}, PEP_OK, 1},
    {{.more_algorithms = 400}, PEP_MALFORMED, 0}, /* more than PEP_RECORD_BYTES_MAX */
    {{.previous_n = 31}, PEP_MALFORMED, 0},
    {{.one_missing = true}, PEP_MALFORMED, 0},
    {{.one_missing = true, .version_plus = 1, .previous_n = 32}, PEP_MALFORMED, 0},
    {{.trailing = 1}, PEP_MALFORMED, 0},
    {{.tag = 61}, PEP_MALFORMED, 0},
    {{.tag = TAG_ENCRYPT0}, PEP_MALFORMED, 0},
    {{.unprotected = true}, PEP_MALFORMED, 0},
};

static void test_recipes(void)
{
    for (size_t i = 0; i < COUNT(recipes); i++) {
        uint8_t bytes[2048];
        pep_record record;
        size_t n = cook(bytes, &recipes[i].how);
        pep_reason got = parse_exact(&record, bytes, n);
        CU_ASSERT_EQUAL(got, recipes[i].expected);
        CU_ASSERT(got != PEP_OK || record.agree_count == recipes[i].agree_count);
        if (got != recipes[i].expected)
            printf("\n    recipe %zu gave %s ", i, pep_reason_name(got));
    }
}

static void test_later_version(void)
{
    uint8_t cooked[2048];
    pep_record record;
    size_t n = cook(cooked, &(recipe){.version_plus = 41, .previous_n = 32});
    CU_ASSERT_EQUAL(parse_exact(&record, cooked, n), PEP_OK);
    CU_ASSERT_EQUAL(record.version, 42);
    CU_ASSERT(record.has_previous);
    CU_ASSERT_EQUAL(record.issued_s, ISSUED_S);
}

/* ---- one kind of signed object is no other ---- */

static void test_envelope_is_no_record(void)
{
    uint8_t record_bytes[PEP_RECORD_BYTES_MAX];
    uint8_t bytes[1024];
    size_t n;
    pep_device device = device_of("pump-7");
    pep_record record;
    pep_envelope envelope;
    const pep_view topic = {(const uint8_t *)"a/b", 3};
    size_t record_n = record_of(record_bytes, "pump-7");
    /* its content is a record's payload, so that only the header tells them apart */
    const pep_message message = {
        .from = &device, .topic = topic, .seq = 1, .flags = PEP_FLAG_SIGNED_ONLY, .plain = {record_bytes, record_n}};
    CU_ASSERT_EQUAL_FATAL(pep_seal(bytes, &n, sizeof bytes, &message), PEP_OK);
    CU_ASSERT_EQUAL(pep_parse(&envelope, bytes, n), PEP_OK);
    CU_ASSERT_EQUAL(pep_record_parse(&record, bytes, n), PEP_MALFORMED);
    CU_ASSERT_EQUAL(pep_record_parse(&record, record_bytes, record_n), PEP_OK);
    CU_ASSERT_EQUAL(pep_parse(&envelope, record_bytes, record_n), PEP_MALFORMED);
}

/* ---- keyring ---- */

static void add_file(const char *name, const char *id)
{
    uint8_t bytes[PEP_RECORD_BYTES_MAX];
    size_t n = record_of(bytes, id);
    CU_ASSERT_EQUAL_FATAL(pep_record_save(&error, scratch_path(name), bytes, n), PEP_OK);
}

static pep_keyring *load(const char *path)
{
    pep_keyring *ring = NULL;
    CU_ASSERT_EQUAL_FATAL(pep_keyring_load(&ring, &error, path), PEP_OK);
    return ring;
}

static void expect_refused(pep_reason expected, const char *path, const char *named)
{
    pep_keyring *ring = NULL;
    error.text[0] = 0;
    CU_ASSERT_EQUAL(pep_keyring_load(&ring, &error, path), expected);
    CU_ASSERT_PTR_NULL(ring);
    CU_ASSERT_PTR_NOT_NULL(strstr(error.text, named));
    pep_keyring_free(ring);
}

static void check_found(const pep_keyring *ring, const char *id)
{
    pep_device device = device_of(id);
    const pep_record *by_kid = pep_keyring_find(ring, device.sign_kid);
    CU_ASSERT(by_kid != NULL && strcmp(by_kid->id, id) == 0);
    CU_ASSERT_PTR_EQUAL(pep_keyring_find_id(ring, id), by_kid);
    CU_ASSERT_PTR_NULL(pep_keyring_find(ring, device.agree_kid)); /* signers alone are found by kid */
}

static void test_keyring_folder(void)
{
    static const char *const sorted[] = {"B", "a", "aa", "b", "z-1"};
    scratch_begin();
    add_file("1.pub", "z-1");
    add_file("2.pub", "aa");
    add_file("x.y.pub", "b");
    add_file("3.pub", "a");
    add_file("4.pub", "B");
    pep_keyring *ring = load(scratch_folder);
    CU_ASSERT_EQUAL_FATAL(pep_keyring_count(ring), COUNT(sorted));
    for (size_t i = 0; i < COUNT(sorted); i++) {
        CU_ASSERT_STRING_EQUAL(pep_keyring_at(ring, i)->id, sorted[i]);
        check_found(ring, sorted[i]);
    }
    CU_ASSERT_PTR_NULL(pep_keyring_at(ring, COUNT(sorted)));
    CU_ASSERT_PTR_NULL(pep_keyring_at(ring, COUNT(sorted) + 1));
    CU_ASSERT_PTR_NULL(pep_keyring_find_id(ring, "c"));
    CU_ASSERT_PTR_NULL(pep_keyring_find_id(ring, ""));
    CU_ASSERT_PTR_NULL(pep_keyring_find(ring, device_of("c").sign_kid));
    pep_keyring_free(ring);
    scratch_end();
}

static void test_keyring_file(void)
{
    scratch_begin();
    add_file("one.pub", "one");
    add_file("any-name", "two");
    pep_keyring *ring = load(scratch_path("any-name"));
    CU_ASSERT_EQUAL(pep_keyring_count(ring), 1);
    check_found(ring, "two");
    pep_keyring_free(ring);
    scratch_end();
}

static void test_keyring_empty(void)
{
    scratch_begin();
    pep_keyring *ring = load(scratch_folder);
    CU_ASSERT_EQUAL(pep_keyring_count(ring), 0);
    CU_ASSERT_PTR_NULL(pep_keyring_at(ring, 0));
    CU_ASSERT_PTR_NULL(pep_keyring_find_id(ring, "a"));
    CU_ASSERT_PTR_NULL(pep_keyring_find(ring, device_of("a").sign_kid));
    pep_keyring_free(ring);
    pep_keyring_free(NULL);
    scratch_end();
}

static void test_keyring_passed_over(void)
{
    scratch_begin();
    add_file("one.pub", "one");
    write_file(scratch_path(".hidden.pub"), "x", 1, 0644);
    write_file(scratch_path(".pub"), "x", 1, 0644);
    write_file(scratch_path("pub"), "x", 1, 0644);
    write_file(scratch_path("one.key"), "x", 1, 0600);
    write_file(scratch_path("one.pub~"), "x", 1, 0644);
    write_file(scratch_path("one.pub.old"), "x", 1, 0644);
    write_file(scratch_path("one.PUB"), "x", 1, 0644);
    CU_ASSERT_EQUAL_FATAL(mkdir(scratch_path("below"), 0700), 0);
    add_file("below/two.pub", "two");
    pep_keyring *ring = load(scratch_folder);
    CU_ASSERT_EQUAL(pep_keyring_count(ring), 1);
    check_found(ring, "one");
    pep_keyring_free(ring);
    scratch_end();
}

static void test_keyring_damaged(void)
{
    scratch_begin();
    add_file("one.pub", "one");
    add_file("two.pub", "two");
    write_file(scratch_path("bad.pub"), "x", 1, 0644);
    expect_refused(PEP_BAD_FILE, scratch_folder, "bad.pub");
    expect_refused(PEP_BAD_FILE, scratch_path("bad.pub"), "bad.pub");
    CU_ASSERT_EQUAL_FATAL(remove(scratch_path("bad.pub")), 0);
    CU_ASSERT_EQUAL_FATAL(mkdir(scratch_path("bad.pub"), 0700), 0);
    expect_refused(PEP_BAD_FILE, scratch_folder, "bad.pub");
    CU_ASSERT_EQUAL_FATAL(remove(scratch_path("bad.pub")), 0);
    CU_ASSERT_EQUAL_FATAL(symlink("nowhere", scratch_path("bad.pub")), 0);
    expect_refused(PEP_CANNOT_READ, scratch_folder, "bad.pub");
    expect_refused(PEP_CANNOT_READ, scratch_path("none"), "none");
    scratch_end();
}

static void test_keyring_same_id(void)
{
    uint8_t bytes[PEP_RECORD_BYTES_MAX];
    size_t n;
    pep_device other = device_of("two");
    scratch_begin();
    add_file("one.pub", "one");
    snprintf(other.id, sizeof other.id, "one"); /* another key, the same name */
    CU_ASSERT_EQUAL_FATAL(pep_record_sign(bytes, &n, &other, ISSUED_S, NOT_AFTER_S), PEP_OK);
    CU_ASSERT_EQUAL_FATAL(pep_record_save(&error, scratch_path("two.pub"), bytes, n), PEP_OK);
    expect_refused(PEP_BAD_FILE, scratch_folder, "second record");
    scratch_end();
}

static void test_keyring_same_key(void)
{
    uint8_t bytes[PEP_RECORD_BYTES_MAX];
    size_t n;
    pep_device other = device_of("one");
    scratch_begin();
    add_file("one.pub", "one");
    snprintf(other.id, sizeof other.id, "two"); /* another name, the same key */
    CU_ASSERT_EQUAL_FATAL(pep_record_sign(bytes, &n, &other, ISSUED_S, NOT_AFTER_S), PEP_OK);
    CU_ASSERT_EQUAL_FATAL(pep_record_save(&error, scratch_path("two.pub"), bytes, n), PEP_OK);
    expect_refused(PEP_BAD_FILE, scratch_folder, "signing key");
    scratch_end();
}

/* A rotation's record is believed as any; what is revoked by nobody, and its neighbours still are. */
static void test_keyring_statements(void)
{
    uint8_t bytes[PEP_STATEMENT_BYTES_MAX];
    uint8_t next[PEP_RECORD_BYTES_MAX];
    size_t n;
    size_t next_n;
    pep_device device = device_of("one");
    pep_device renewed = device_of("other-keys");
    pep_statement first;
    pep_head head;
    pep_record record;
    snprintf(renewed.id, sizeof renewed.id, "one");
    size_t first_n = record_of(bytes, "one");
    CU_ASSERT_EQUAL_FATAL(pep_statement_parse(&first, bytes, first_n), PEP_OK);
    CU_ASSERT_EQUAL_FATAL(pep_head_begin(&head, &first), PEP_OK);
    CU_ASSERT_EQUAL_FATAL(pep_record_next(next, &next_n, &renewed, &head, ISSUED_S, NOT_AFTER_S), PEP_OK);
    CU_ASSERT_EQUAL_FATAL(pep_rotation_sign(bytes, &n, device.sign_secret, &head, next, next_n, 1), PEP_OK);
    scratch_begin();
    add_file("two.pub", "two");
    CU_ASSERT_EQUAL_FATAL(pep_statement_replace(&error, scratch_path("one.pub"), bytes, n), PEP_OK);
    pep_keyring *ring = load(scratch_folder);
    CU_ASSERT_EQUAL(pep_keyring_count(ring), 2);
    CU_ASSERT_PTR_NOT_NULL(pep_keyring_find(ring, renewed.sign_kid));
    CU_ASSERT_PTR_NULL(pep_keyring_find(ring, device.sign_kid));
    pep_keyring_free(ring);
    CU_ASSERT_EQUAL_FATAL(pep_revocation_sign(bytes, &n, device.sign_secret, &head, ISSUED_S, 1), PEP_OK);
    CU_ASSERT_EQUAL_FATAL(pep_statement_replace(&error, scratch_path("one.pub"), bytes, n), PEP_OK);
    ring = load(scratch_folder);
    CU_ASSERT_EQUAL(pep_keyring_count(ring), 1);
    check_found(ring, "two");
    pep_keyring_free(ring);
    CU_ASSERT_EQUAL(pep_record_load(&record, &error, scratch_path("one.pub")), PEP_BAD_FILE);
    CU_ASSERT_PTR_NOT_NULL(strstr(error.text, "revocation"));
    ring = load(scratch_path("one.pub"));
    CU_ASSERT_EQUAL(pep_keyring_count(ring), 0);
    pep_keyring_free(ring);
    scratch_end();
}

static void test_start(void)
{
    CU_ASSERT_EQUAL(pep_init(), PEP_OK);
}

static const unit_test tests[] = {
    {"the library starts", test_start},
    {"signed and parsed", test_sign_and_parse},
    {"the largest", test_largest},
    {"signed: order of dates", test_sign_dates},
    {"cut short at each byte, and too long", test_cut_short},
    {"each bit flipped", test_flipped_bits},
    {"well signed and still refused", test_recipes},
    {"later versions", test_later_version},
    {"an envelope is no record, a record no envelope", test_envelope_is_no_record},
    {"keyring: a folder", test_keyring_folder},
    {"keyring: a file", test_keyring_file},
    {"keyring: an empty folder", test_keyring_empty},
    {"keyring: what is passed over", test_keyring_passed_over},
    {"keyring: a damaged file", test_keyring_damaged},
    {"keyring: an id twice", test_keyring_same_id},
    {"keyring: a key twice", test_keyring_same_key},
    {"keyring: rotations and revocations", test_keyring_statements},
};

UNIT_MAIN("records", tests)
