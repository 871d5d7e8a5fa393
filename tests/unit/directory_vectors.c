/* tests/vectors/directory.json through our own entry points. */
#include "pep.h"

#include <cjson/cJSON.h>
#include <sodium.h>
#include <string.h>

#include "exact.h"
#include "unit.h"

static cJSON *file;
static const char *current = ""; /* name of the vector, for people */
static uint8_t authorities[2][PEP_SIGN_PUBLIC_BYTES];
static uint8_t admin[PEP_SIGN_PUBLIC_BYTES];

#define AUTHORITIES ((const uint8_t(*)[PEP_SIGN_PUBLIC_BYTES])authorities)

/* As CUnit's, and says which vector it was. */
#define CHECK(condition) check(condition, #condition)

static bool check(bool ok, const char *what)
{
    CU_ASSERT_TRUE(ok);
    if (!ok)
        printf("\n    %s: not so: %s\n", current, what);
    return ok;
}

/* ---- reading the file ---- */

static const cJSON *member(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    if (item == NULL)
        printf("\n    %s: no %s\n", current, key);
    CU_ASSERT_PTR_NOT_NULL_FATAL(item);
    return item;
}

static const char *text_of(const cJSON *object, const char *key)
{
    const char *text = cJSON_GetStringValue(member(object, key));
    CU_ASSERT_PTR_NOT_NULL_FATAL(text);
    return text == NULL ? "" : text;
}

static uint64_t number_of(const cJSON *object, const char *key)
{
    return (uint64_t)cJSON_GetNumberValue(member(object, key));
}

/* Heap of exactly that size, so that a sanitizer sees a read beyond it. Free `p`. */
typedef struct {
    uint8_t *p;
    size_t n;
} heap;

static heap hex(const cJSON *item)
{
    const char *text = cJSON_GetStringValue(item);
    CU_ASSERT_PTR_NOT_NULL_FATAL(text);
    heap h = {.n = text == NULL ? 0 : strlen(text) / 2};
    size_t n;
    h.p = malloc(h.n == 0 ? 1 : h.n);
    if (h.p == NULL || text == NULL)
        abort();
    CU_ASSERT_EQUAL_FATAL(sodium_hex2bin(h.p, h.n, text, strlen(text), NULL, &n, NULL), 0);
    CU_ASSERT_EQUAL_FATAL(n, h.n);
    return h;
}

static void fixed_hex(uint8_t *out, size_t n, const cJSON *object, const char *key)
{
    heap h = hex(member(object, key));
    CU_ASSERT_EQUAL_FATAL(h.n, n);
    memcpy(out, h.p, n);
    free(h.p);
}

static bool is_hex(const cJSON *item, const uint8_t *p, size_t n)
{
    heap h = hex(item);
    bool same = h.n == n && memcmp(h.p, p, n) == 0;
    free(h.p);
    return same;
}

/* Present with these bytes, or absent and zeros. */
static bool is_optional_hex(const cJSON *object, const char *key, const uint8_t *p, size_t n)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    return item == NULL ? sodium_is_zero(p, n) : is_hex(item, p, n);
}

static bool said(const cJSON *vector, pep_reason reason)
{
    bool same = strcmp(pep_reason_name(reason), text_of(vector, "expect")) == 0;
    if (!same)
        printf("\n    %s: said %s, expected %s\n", current, pep_reason_name(reason), text_of(vector, "expect"));
    CU_ASSERT_TRUE(same);
    return same && reason == PEP_OK;
}

/* ---- the file, and who is in it ---- */

static char *read_whole(const char *path)
{
    FILE *f = fopen(path, "rb");
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    CU_ASSERT_EQUAL_FATAL(fseek(f, 0, SEEK_END), 0);
    size_t n = (size_t)ftell(f);
    rewind(f);
    char *text = calloc(n + 1, 1);
    CU_ASSERT_PTR_NOT_NULL_FATAL(text);
    CU_ASSERT_EQUAL_FATAL(fread(text, 1, n, f), n);
    fclose(f);
    return text;
}

static void test_the_file_loads(void)
{
    CU_ASSERT_EQUAL_FATAL(pep_init(), PEP_OK);
    char *text = read_whole(PEP_VECTORS "/directory.json");
    file = cJSON_Parse(text);
    free(text);
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    CU_ASSERT_STRING_EQUAL_FATAL(text_of(file, "format"), "pep directory vectors 1");
}

static void test_keys(void)
{
    const cJSON *item;
    unsigned count = 0;
    cJSON_ArrayForEach(item, member(file, "keys"))
    {
        uint8_t seed[32];
        uint8_t secret[32];
        pep_device d;
        current = text_of(item, "name");
        fixed_hex(seed, sizeof seed, item, "sign_seed");
        fixed_hex(secret, sizeof secret, item, "agree_secret");
        CU_ASSERT_EQUAL_FATAL(pep_device_from_secrets(&d, "any", seed, secret), PEP_OK);
        CHECK(is_hex(member(item, "sign_public"), d.sign_public, sizeof d.sign_public));
        CHECK(is_hex(member(item, "sign_kid"), d.sign_kid, sizeof d.sign_kid));
        CHECK(is_hex(member(item, "agree_public"), d.agree_public, sizeof d.agree_public));
        CHECK(is_hex(member(item, "agree_kid"), d.agree_kid, sizeof d.agree_kid));
        count++;
    }
    CU_ASSERT_TRUE(count > 0);
}

static void test_trust(void)
{
    const cJSON *item;
    size_t i = 0;
    cJSON_ArrayForEach(item, member(member(file, "trust"), "authorities"))
    {
        char text[PEP_AUTHORITY_TEXT_BYTES];
        uint8_t key[PEP_SIGN_PUBLIC_BYTES];
        CU_ASSERT_TRUE_FATAL(i < 2);
        fixed_hex(authorities[i], sizeof authorities[i], item, "sign_public");
        pep_authority_text(text, authorities[i]);
        CHECK(strcmp(text, text_of(item, "text")) == 0);
        CHECK(pep_authority_from_text(key, text_of(item, "text")) && memcmp(key, authorities[i], sizeof key) == 0);
        i++;
    }
    CU_ASSERT_EQUAL(i, 2);
    fixed_hex(admin, sizeof admin, member(file, "trust"), "admin");
}

/* ---- chains ---- */

static void check_statement(const cJSON *expected, const pep_statement *s)
{
    static const char *const kinds[] = {"", "record", "rotation", "revocation"};
    const cJSON *kid;
    size_t i = 0;
    CHECK(strcmp(text_of(expected, "kind"), kinds[s->kind]) == 0);
    CHECK(strcmp(text_of(expected, "id"), s->id) == 0);
    CHECK(number_of(expected, "version") == s->version);
    CHECK(number_of(expected, "issued_s") == s->issued_s);
    CHECK(is_hex(member(expected, "hash"), s->hash, sizeof s->hash));
    CHECK(is_hex(member(expected, "signer_kid"), s->signer_kid, sizeof s->signer_kid));
    CHECK(is_optional_hex(expected, "previous", s->previous, sizeof s->previous));
    CHECK(is_optional_hex(expected, "old_kid", s->old_kid, sizeof s->old_kid));
    const cJSON *cutoff = cJSON_GetObjectItemCaseSensitive(expected, "cutoff");
    CHECK((cutoff == NULL ? 0 : (uint64_t)cJSON_GetNumberValue(cutoff)) == s->cutoff);
    if (s->kind == PEP_STATEMENT_REVOCATION)
        return;
    CHECK(is_hex(member(expected, "sign_kid"), s->record.sign_kid, PEP_KID_BYTES));
    CHECK(number_of(expected, "not_after_s") == s->record.not_after_s);
    cJSON_ArrayForEach(kid, member(expected, "agree_kids"))
    {
        CHECK(i < s->record.agree_count && is_hex(kid, s->record.agree[i].kid, PEP_KID_BYTES));
        i++;
    }
    CHECK(i == s->record.agree_count);
}

static pep_reason follow(pep_head *head, pep_signed_by *by, pep_statement *s, heap bytes, bool first)
{
    const pep_trust trust = {.authorities = AUTHORITIES, .authority_count = 2, .admin_public = admin};
    pep_reason reason = pep_statement_parse(s, bytes.p, bytes.n);
    if (reason != PEP_OK)
        return reason;
    return first ? pep_head_begin(head, s) : pep_head_advance(head, by, s, &trust);
}

static void check_chain(const cJSON *vector)
{
    static const char *const signers[] = {"device", "authority", "admin"};
    const cJSON *item;
    const cJSON *statements = member(vector, "statements");
    pep_head head = {.version = 0};
    pep_signed_by by = PEP_SIGNED_BY_DEVICE;
    cJSON_ArrayForEach(item, statements)
    {
        pep_statement s;
        bool first = item == statements->child;
        heap bytes = hex(item);
        pep_reason reason = follow(&head, &by, &s, bytes, first);
        if (item->next != NULL) {
            CHECK(reason == PEP_OK);
        } else if (said(vector, reason)) {
            check_statement(member(vector, "statement"), &s);
            CHECK(head.version == s.version && memcmp(head.hash, s.hash, sizeof head.hash) == 0);
            CHECK(head.revoked == (s.kind == PEP_STATEMENT_REVOCATION));
            CHECK(first || strcmp(text_of(member(vector, "statement"), "signed_by"), signers[by]) == 0);
        }
        free(bytes.p);
    }
}

static void test_chains(void)
{
    const cJSON *vector;
    unsigned count = 0;
    cJSON_ArrayForEach(vector, member(file, "chains"))
    {
        current = text_of(vector, "name");
        check_chain(vector);
        count++;
    }
    CU_ASSERT_TRUE(count > 0);
}

/* ---- certificates ---- */

static void check_certificate(const cJSON *vector, const pep_certificate *c)
{
    const cJSON *item;
    size_t i = 0;
    CHECK(strcmp(text_of(vector, "id"), c->id) == 0);
    CHECK(is_hex(member(vector, "kid"), c->kid, sizeof c->kid));
    CHECK(number_of(vector, "issued_s") == c->issued_s);
    CHECK(number_of(vector, "not_after_s") == c->not_after_s);
    CHECK(cJSON_IsTrue(member(vector, "gate")) == c->gate);
    cJSON_ArrayForEach(item, member(vector, "groups"))
    {
        CHECK(i < c->group_count && strcmp(cJSON_GetStringValue(item), c->groups[i]) == 0);
        i++;
    }
    CHECK(i == c->group_count);
    cJSON_ArrayForEach(item, member(vector, "covers"))
    {
        uint8_t kid[PEP_KID_BYTES];
        fixed_hex(kid, sizeof kid, item, "kid");
        said(item, pep_certificate_covers(c, text_of(item, "id"), kid, cJSON_IsTrue(member(item, "gate")),
                                          number_of(item, "now_s")));
    }
}

static void test_certificates(void)
{
    const cJSON *vector;
    unsigned valid = 0;
    cJSON_ArrayForEach(vector, member(file, "certificates"))
    {
        pep_certificate c;
        heap bytes = hex(member(vector, "certificate"));
        current = text_of(vector, "name");
        if (said(vector, pep_certificate_parse(&c, bytes.p, bytes.n, AUTHORITIES, 2))) {
            check_certificate(vector, &c);
            valid++;
        }
        free(bytes.p);
    }
    CU_ASSERT_TRUE(valid > 0);
}

/* ---- proofs, entries ---- */

/* Ed25519 has one signature of each: proving again gives the same bytes. */
static bool check_token(const cJSON *token, const uint8_t *hash, heap proof)
{
    uint8_t again[PEP_PROOF_BYTES_MAX];
    size_t n;
    return token != NULL && CHECK(pep_token_prove(again, &n, cJSON_GetStringValue(token), hash) == PEP_OK) &&
           CHECK(n == proof.n && memcmp(again, proof.p, n) == 0);
}

static void test_proofs(void)
{
    const cJSON *vector;
    unsigned valid = 0;
    cJSON_ArrayForEach(vector, member(file, "proofs"))
    {
        uint8_t kid[PEP_KID_BYTES];
        uint8_t hash[PEP_SHA256_BYTES];
        heap proof = hex(member(vector, "proof"));
        current = text_of(vector, "name");
        fixed_hex(hash, sizeof hash, vector, "record_hash");
        if (said(vector, pep_token_verify(kid, proof.p, proof.n, hash))) {
            CHECK(is_hex(member(vector, "token_kid"), kid, sizeof kid));
            valid += check_token(cJSON_GetObjectItemCaseSensitive(vector, "token"), hash, proof);
        }
        free(proof.p);
    }
    CU_ASSERT_TRUE(valid > 0);
}

static void test_entries(void)
{
    const cJSON *vector;
    unsigned valid = 0;
    cJSON_ArrayForEach(vector, member(file, "entries"))
    {
        pep_entry e;
        heap bytes = hex(member(vector, "entry"));
        const cJSON *certificate = cJSON_GetObjectItemCaseSensitive(vector, "certificate");
        current = text_of(vector, "name");
        if (said(vector, pep_entry_parse(&e, bytes.p, bytes.n))) {
            CHECK(is_hex(member(vector, "statement"), e.statement.p, e.statement.n));
            CHECK(certificate == NULL ? e.certificate.p == NULL
                                      : is_hex(certificate, e.certificate.p, e.certificate.n));
            valid++;
        }
        free(bytes.p);
    }
    CU_ASSERT_TRUE(valid > 0);
}

static void test_nothing_is_left(void)
{
    cJSON_Delete(file);
}

static const unit_test tests[] = {
    {"the file loads", test_the_file_loads},
    {"keys", test_keys},
    {"trust", test_trust},
    {"chains", test_chains},
    {"certificates", test_certificates},
    {"proofs", test_proofs},
    {"entries", test_entries},
    {"nothing is left", test_nothing_is_left},
};

UNIT_MAIN("directory vectors", tests)
