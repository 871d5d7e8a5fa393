/*
 * The primitives, through our own entry points, against public vectors: Wycheproof's, RFC 9180's and COSE's examples.
 * A few of each are checked in and always run; the whole sets where the folder PEP_SHARED_VECTORS is. How many ran and
 * how many were accepted is asserted, so that a set read wrongly cannot pass for a set that passed.
 */
#include "envelope/crypto.h"

#include "unit.h"

#include <cjson/cJSON.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "envelope/structures.h"

/* ---- vectors from JSON ---- */

static uint8_t arena[1 << 16]; /* the decoded fields of one vector */
static size_t arena_used;

static pep_view from_hex(const char *hex)
{
    size_t n = 0;
    uint8_t *p = arena + arena_used;
    if (sodium_hex2bin(p, sizeof arena - arena_used, hex, strlen(hex), NULL, &n, NULL) != 0)
        CU_FAIL("a field of a vector is not hex");
    arena_used += n;
    return (pep_view){p, n};
}

static const char *text_of(const cJSON *object, const char *name)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, name));
    if (text == NULL)
        CU_FAIL("a field of a vector is missing");
    return text == NULL ? "" : text;
}

static pep_view field(const cJSON *object, const char *name)
{
    return from_hex(text_of(object, name));
}

static bool same(pep_view a, pep_view b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

/* NULL with a line where the folder is not there; a folder without the file is a failure. */
static cJSON *load(const char *folder, const char *name)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "rb");
    if (file == NULL && access(folder, F_OK) != 0) {
        printf("\n    %s: skipped, its folder is not here ", name);
        return NULL;
    }
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    static char text[1 << 19];
    size_t n = fread(text, 1, sizeof text, file);
    fclose(file);
    cJSON *json = cJSON_ParseWithLength(text, n);
    CU_ASSERT_PTR_NOT_NULL_FATAL(json);
    return json;
}

/* ---- Wycheproof ---- */

typedef enum { REFUSED, ACCEPTED, PASSED_OVER } outcome; /* passed over: our types cannot even express it */

typedef struct {
    unsigned ran;
    unsigned accepted;
} tally;

typedef struct {
    const char *file;
    outcome (*run)(const cJSON *group, const cJSON *test);
    tally few;
    tally all;
} vector_set;

static bool has_flag(const cJSON *test, const char *flag)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(test, "flags"))
    {
        if (strcmp(cJSON_GetStringValue(item), flag) == 0)
            return true;
    }
    return false;
}

/* "acceptable" is left to the implementation; ours is to compute all but a secret of zeros. */
static bool should_be_accepted(const cJSON *test)
{
    const char *result = text_of(test, "result");
    return strcmp(result, "valid") == 0 || (strcmp(result, "acceptable") == 0 && !has_flag(test, "ZeroSharedSecret"));
}

static void run_vector(const vector_set *set, tally *seen, const cJSON *group, const cJSON *test)
{
    arena_used = 0;
    outcome got = set->run(group, test);
    if (got == PASSED_OVER)
        return;
    seen->ran++;
    seen->accepted += got == ACCEPTED;
    if ((got == ACCEPTED) == should_be_accepted(test))
        return;
    printf("\n    %s, tcId %d ", set->file, cJSON_GetObjectItemCaseSensitive(test, "tcId")->valueint);
    CU_FAIL("decided otherwise than the vector");
}

static void run_file(const vector_set *set, const char *folder, tally expected)
{
    tally seen = {0};
    const cJSON *group;
    const cJSON *test;
    cJSON *json = load(folder, set->file);
    if (json == NULL)
        return;
    cJSON_ArrayForEach(group, cJSON_GetObjectItemCaseSensitive(json, "testGroups"))
    {
        cJSON_ArrayForEach(test, cJSON_GetObjectItemCaseSensitive(group, "tests"))
        {
            run_vector(set, &seen, group, test);
        }
    }
    cJSON_Delete(json);
    CU_ASSERT_EQUAL(seen.ran, expected.ran);
    CU_ASSERT_EQUAL(seen.accepted, expected.accepted);
}

static void run_set(const vector_set *set)
{
    run_file(set, PEP_VECTORS, set->few);
    run_file(set, PEP_SHARED_VECTORS, set->all);
}

static outcome run_ed25519(const cJSON *group, const cJSON *test)
{
    pep_view key = field(cJSON_GetObjectItemCaseSensitive(group, "publicKey"), "pk");
    pep_view message = field(test, "msg");
    pep_view signature = field(test, "sig");
    if (signature.n != 64)
        return PASSED_OVER;
    CU_ASSERT_EQUAL(key.n, 32);
    return pep_ed25519_verify(message.p, message.n, signature.p, key.p) ? ACCEPTED : REFUSED;
}

static void test_ed25519(void)
{
    run_set(&(vector_set){"wycheproof_ed25519.json", run_ed25519, {11, 5}, {139, 88}});
}

static outcome run_x25519(const cJSON *group, const cJSON *test)
{
    (void)group;
    pep_view public_key = field(test, "public");
    pep_view secret = field(test, "private");
    pep_view expected = field(test, "shared");
    uint8_t shared[32];
    if (!pep_x25519(shared, secret.p, public_key.p))
        return REFUSED;
    CU_ASSERT(same((pep_view){shared, sizeof shared}, expected));
    return ACCEPTED;
}

static void test_x25519(void)
{
    run_set(&(vector_set){"wycheproof_x25519.json", run_x25519, {8, 5}, {518, 487}});
}

/* Sealing must give exactly the vector's bytes where it is valid; also in place, as our callers use it. */
static void check_aead_seal(pep_view plain, pep_view aad, pep_view nonce, pep_view key, pep_view sealed)
{
    uint8_t buffer[2048];
    CU_ASSERT_FATAL(sealed.n <= sizeof buffer);
    if (plain.n > 0)
        memcpy(buffer, plain.p, plain.n);
    pep_aead_seal(buffer, buffer, plain.n, aad, nonce.p, key.p);
    CU_ASSERT(same((pep_view){buffer, sealed.n}, sealed));
    CU_ASSERT(pep_aead_open(buffer, buffer, sealed.n, aad, nonce.p, key.p));
    CU_ASSERT(same((pep_view){buffer, plain.n}, plain));
}

static outcome run_aead(const cJSON *group, const cJSON *test)
{
    (void)group;
    uint8_t plain[2048];
    pep_view nonce = field(test, "iv");
    if (nonce.n != PEP_NONCE_BYTES)
        return PASSED_OVER;
    pep_view key = field(test, "key");
    pep_view aad = field(test, "aad");
    pep_view message = field(test, "msg");
    pep_view ciphertext = field(test, "ct"); /* the tag is decoded right behind it: together the sealed bytes */
    pep_view sealed = {ciphertext.p, ciphertext.n + field(test, "tag").n};
    CU_ASSERT_EQUAL_FATAL(sealed.n, message.n + PEP_TAG_BYTES);
    if (!pep_aead_open(plain, sealed.p, sealed.n, aad, nonce.p, key.p))
        return REFUSED;
    CU_ASSERT(same((pep_view){plain, message.n}, message));
    check_aead_seal(message, aad, nonce, key, sealed);
    return ACCEPTED;
}

static void test_aead(void)
{
    run_set(&(vector_set){"wycheproof_chacha20_poly1305.json", run_aead, {8, 5}, {316, 256}});
}

static void test_aead_short(void)
{
    uint8_t zeros[32] = {0};
    for (size_t n = 0; n < PEP_TAG_BYTES; n++)
        CU_ASSERT_FALSE(pep_aead_open(zeros, zeros, n, (pep_view){0}, zeros, zeros));
}

static outcome run_hmac(const cJSON *group, const cJSON *test)
{
    (void)group;
    uint8_t computed[PEP_HASH_BYTES];
    pep_view key = field(test, "key");
    pep_view message = field(test, "msg");
    pep_view tag = field(test, "tag"); /* 16 bytes of it in some groups */
    pep_hmac_sha256(computed, key.p, key.n, message.p, message.n);
    return tag.n >= 16 && same((pep_view){computed, tag.n}, tag) ? ACCEPTED : REFUSED;
}

static void test_hmac(void)
{
    run_set(&(vector_set){"wycheproof_hmac_sha256.json", run_hmac, {8, 6}, {174, 66}});
}

static outcome run_hkdf(const cJSON *group, const cJSON *test)
{
    (void)group;
    uint8_t prk[PEP_HASH_BYTES];
    uint8_t okm[8192];
    pep_view ikm = field(test, "ikm");
    pep_view salt = field(test, "salt");
    pep_view info = field(test, "info");
    pep_view expected = field(test, "okm");
    size_t size = (size_t)cJSON_GetObjectItemCaseSensitive(test, "size")->valueint;
    pep_hkdf_extract(prk, salt.p, salt.n, ikm.p, ikm.n);
    if (!pep_hkdf_expand(okm, size, prk, info.p, info.n))
        return REFUSED;
    CU_ASSERT(same((pep_view){okm, size}, expected));
    return ACCEPTED;
}

static void test_hkdf(void)
{
    run_set(&(vector_set){"wycheproof_hkdf_sha256.json", run_hkdf, {4, 3}, {86, 83}});
}

/* ---- HPKE (RFC 9180, A.2.1) ---- */

typedef struct {
    pep_view info;
    pep_view aad;
    pep_view plain;
    pep_view sealed;
    pep_view enc;
    pep_view ephemeral;
    pep_view recipient_public;
    pep_view recipient_secret;
} hpke_vector;

static hpke_vector hpke_fields(const cJSON *json)
{
    const cJSON *first = cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(json, "encryptions"), 0);
    arena_used = 0;
    return (hpke_vector){
        .info = field(json, "info"),
        .aad = field(first, "aad"),
        .plain = field(first, "pt"),
        .sealed = field(first, "ct"),
        .enc = field(json, "enc"),
        .ephemeral = field(json, "skEm"),
        .recipient_public = field(json, "pkRm"),
        .recipient_secret = field(json, "skRm"),
    };
}

static bool hpke_opens(const hpke_vector *v)
{
    uint8_t plain[64];
    return pep_hpke_open(plain, v->sealed.p, v->sealed.n, v->info, v->aad, v->enc.p, v->recipient_secret.p) &&
           same((pep_view){plain, v->plain.n}, v->plain);
}

/* The view's bytes lie in the arena, where each can be changed and changed back. */
static void check_hpke_flips(const hpke_vector *v, pep_view part)
{
    uint8_t *p = arena + (part.p - arena);
    for (size_t i = 0; i < part.n; i++) {
        p[i] ^= 1;
        CU_ASSERT_FALSE(hpke_opens(v));
        p[i] ^= 1;
    }
}

static void check_hpke(const hpke_vector *v)
{
    uint8_t enc[PEP_HPKE_ENC_BYTES];
    uint8_t sealed[64];
    CU_ASSERT_EQUAL_FATAL(v->plain.n + PEP_TAG_BYTES, 45);
    CU_ASSERT(
        pep_hpke_seal(enc, sealed, v->plain.p, v->plain.n, v->info, v->aad, v->recipient_public.p, v->ephemeral.p));
    CU_ASSERT(same((pep_view){enc, sizeof enc}, v->enc));
    CU_ASSERT(same((pep_view){sealed, v->sealed.n}, v->sealed));
    CU_ASSERT(hpke_opens(v));
    check_hpke_flips(v, v->sealed);
    check_hpke_flips(v, v->aad);
    check_hpke_flips(v, v->info);
    check_hpke_flips(v, v->enc);
}

static void run_hpke(const char *folder)
{
    cJSON *json = load(folder, "rfc9180_a2_base.json");
    if (json == NULL)
        return;
    hpke_vector v = hpke_fields(json);
    check_hpke(&v);
    cJSON_Delete(json);
}

static void test_hpke(void)
{
    run_hpke(PEP_VECTORS);
    run_hpke(PEP_SHARED_VECTORS);
}

static void test_hpke_small_order(void)
{
    static const uint8_t zeros[32];
    static const uint8_t secret[32] = {8};
    uint8_t enc[PEP_HPKE_ENC_BYTES];
    uint8_t out[64] = {0};
    pep_view none = {NULL, 0};
    CU_ASSERT_FALSE(pep_hpke_seal(enc, out, zeros, 1, none, none, zeros, secret));
    CU_ASSERT_FALSE(pep_hpke_open(out, out, 17, none, none, zeros, secret));
}

/* ---- COSE (cose-wg/Examples) ---- */

static pep_view read_string(pep_reader *r)
{
    pep_view out = {0};
    CU_ASSERT_FATAL(pep_read_bytes(r, &out));
    return out;
}

static pep_reader cose_items(const cJSON *json, uint64_t tag, uint64_t count)
{
    uint64_t items = 0;
    pep_reader r = pep_reader_of(field(cJSON_GetObjectItemCaseSensitive(json, "output"), "cbor"));
    CU_ASSERT_FATAL(pep_read_tag(&r, tag) && pep_read_array(&r, &items));
    CU_ASSERT_EQUAL_FATAL(items, count);
    return r;
}

static pep_view plaintext_of(const cJSON *json)
{
    const char *text = text_of(cJSON_GetObjectItemCaseSensitive(json, "input"), "plaintext");
    return (pep_view){(const uint8_t *)text, strlen(text)};
}

/* The example's AAD_hex has the context "Encrypt1" of an old draft; its ciphertext was made with "Encrypt0". */
static void check_encrypt0(const cJSON *json)
{
    uint8_t aad[64];
    uint8_t plain[64];
    pep_map map;
    const uint8_t *nonce = NULL;
    pep_reader r = cose_items(json, TAG_ENCRYPT0, 3);
    pep_view header = read_string(&r);
    CU_ASSERT_FATAL(pep_map_begin(&r, &map) && pep_map_expect(&r, &map, 5) && pep_read_fixed(&r, &nonce, 12));
    pep_view sealed = read_string(&r);
    pep_writer w = {.p = aad, .cap = sizeof aad};
    write_enc_structure(&w, header, (pep_view){0});
    pep_view key = field(cJSON_GetObjectItemCaseSensitive(json, "intermediates"), "CEK_hex");
    CU_ASSERT_FATAL(pep_aead_open(plain, sealed.p, sealed.n, (pep_view){aad, w.n}, nonce, key.p));
    CU_ASSERT(same((pep_view){plain, sealed.n - PEP_TAG_BYTES}, plaintext_of(json)));
}

static void check_sign1(const cJSON *json)
{
    uint8_t work[128];
    pep_map map;
    pep_reader r = cose_items(json, TAG_SIGN1, 4);
    pep_view header = read_string(&r);
    CU_ASSERT_FATAL(pep_map_begin(&r, &map) && pep_map_expect(&r, &map, LABEL_KID) && read_string(&r).n == 2);
    pep_view payload = read_string(&r);
    pep_view signature = read_string(&r);
    const cJSON *input = cJSON_GetObjectItemCaseSensitive(json, "input");
    const cJSON *sign0 = cJSON_GetObjectItemCaseSensitive(input, "sign0");
    pep_view key = field(cJSON_GetObjectItemCaseSensitive(sign0, "key"), "x_hex");
    pep_view signed_bytes = field(cJSON_GetObjectItemCaseSensitive(json, "intermediates"), "ToBeSign_hex");
    CU_ASSERT(same(payload, plaintext_of(json)));
    CU_ASSERT_EQUAL(verify_sign1(work, sizeof work, header, payload, signature.p, key.p), PEP_OK);
    CU_ASSERT(same((pep_view){work, signed_bytes.n}, signed_bytes));
    CU_ASSERT_EQUAL(verify_sign1(work, signed_bytes.n, header, payload, signature.p, key.p), PEP_OK);
    CU_ASSERT_EQUAL(verify_sign1(work, signed_bytes.n - 1, header, payload, signature.p, key.p), PEP_BUFFER_TOO_SMALL);
    payload.n--;
    CU_ASSERT_EQUAL(verify_sign1(work, sizeof work, header, payload, signature.p, key.p), PEP_BAD_SIGNATURE);
}

static void run_cose(const char *folder, const char *file, void (*check)(const cJSON *))
{
    arena_used = 0;
    cJSON *json = load(folder, file);
    if (json == NULL)
        return;
    check(json);
    cJSON_Delete(json);
}

static void test_encrypt0(void)
{
    run_cose(PEP_VECTORS, "cose_chacha-poly-enc-01.json", check_encrypt0);
    run_cose(PEP_SHARED_VECTORS, "cose_chacha-poly-enc-01.json", check_encrypt0);
}

static void test_sign1(void)
{
    run_cose(PEP_VECTORS, "cose_eddsa-sig-01.json", check_sign1);
    run_cose(PEP_SHARED_VECTORS, "cose_eddsa-sig-01.json", check_sign1);
}

static void test_start(void)
{
    CU_ASSERT_EQUAL(pep_init(), PEP_OK);
}

static const unit_test tests[] = {
    {"the library starts", test_start},
    {"Ed25519: Wycheproof", test_ed25519},
    {"X25519: Wycheproof, zero secrets refused", test_x25519},
    {"ChaCha20-Poly1305: Wycheproof", test_aead},
    {"ChaCha20-Poly1305: shorter than a tag", test_aead_short},
    {"HMAC-SHA256: Wycheproof", test_hmac},
    {"HKDF-SHA256: Wycheproof", test_hkdf},
    {"HPKE: RFC 9180 A.2.1, and every flipped byte", test_hpke},
    {"HPKE: keys of small order", test_hpke_small_order},
    {"COSE_Encrypt0: cose-wg example", test_encrypt0},
    {"COSE_Sign1: cose-wg example", test_sign1},
};

UNIT_MAIN("crypto", tests)
