/* Statements: signing, parsing and following them. Certificates, tokens and entries: certificates.c. */
#include "pep.h"

#include "chain.h"
#include "scratch.h"
#include "unit.h"

static pep_error error;

/* A device with two generations of keys, an authority and an admin; the chain begins with the first generation. */
static pep_device first;
static pep_device second;
static pep_device admin;
static pep_authority authority;
static cut start;
static pep_head head;

static pep_trust trust_in(bool authorities, bool admins)
{
    static uint8_t keys[2][PEP_SIGN_PUBLIC_BYTES];
    pep_authority other = authority_of(2);
    memcpy(keys[0], other.sign_public, sizeof keys[0]);
    memcpy(keys[1], authority.sign_public, sizeof keys[1]);
    return (pep_trust){.authorities = (const uint8_t(*)[PEP_SIGN_PUBLIC_BYTES])keys,
                       .authority_count = authorities ? 2 : 0,
                       .admin_public = admins ? admin.sign_public : NULL};
}

static void begin(void)
{
    first = device_of("pump-7", 1);
    second = device_of("pump-7", 2);
    admin = device_of("console", 1);
    authority = authority_of(1);
    start = record_of(&first);
    head = head_of(&start);
}

static bool same_head(const pep_head *a, const pep_head *b)
{
    return strcmp(a->id, b->id) == 0 && a->version == b->version && a->revoked == b->revoked &&
           memcmp(a->hash, b->hash, sizeof a->hash) == 0 && memcmp(a->sign_kid, b->sign_kid, PEP_KID_BYTES) == 0 &&
           memcmp(a->sign_public, b->sign_public, PEP_SIGN_PUBLIC_BYTES) == 0;
}

/* Says whether it follows, and asserts that a refusal changes nothing. */
static pep_reason follow(pep_head *at, pep_signed_by *by, const cut *next)
{
    pep_statement s;
    pep_head before = *at;
    const pep_trust trust = trust_in(true, true);
    pep_reason reason = pep_statement_parse(&s, next->p, next->n);
    if (reason == PEP_OK)
        reason = pep_head_advance(at, by, &s, &trust);
    CU_ASSERT(reason == PEP_OK || same_head(at, &before));
    return reason;
}

static pep_reason would_follow(const pep_head *at, const cut *next)
{
    pep_head copy = *at;
    pep_signed_by by;
    return follow(&copy, &by, next);
}

/* ---- each kind ---- */

static void test_record(void)
{
    uint8_t hash[PEP_SHA256_BYTES];
    begin();
    pep_statement s = parsed(&start);
    crypto_hash_sha256(hash, start.p, start.n);
    CU_ASSERT_EQUAL(s.kind, PEP_STATEMENT_RECORD);
    CU_ASSERT_STRING_EQUAL(s.id, "pump-7");
    CU_ASSERT_EQUAL(s.version, 1);
    CU_ASSERT_EQUAL(s.issued_s, ISSUED_S);
    CU_ASSERT_EQUAL(memcmp(s.hash, hash, sizeof hash), 0);
    CU_ASSERT(sodium_is_zero(s.previous, sizeof s.previous));
    CU_ASSERT(sodium_is_zero(s.old_kid, sizeof s.old_kid));
    CU_ASSERT_EQUAL(s.cutoff, 0);
    CU_ASSERT_EQUAL(memcmp(s.signer_kid, first.sign_kid, PEP_KID_BYTES), 0);
    CU_ASSERT_FALSE(s.record.has_previous);
    CU_ASSERT_STRING_EQUAL(head.id, "pump-7");
    CU_ASSERT_EQUAL(head.version, 1);
    CU_ASSERT_EQUAL(memcmp(head.hash, hash, sizeof hash), 0);
    CU_ASSERT_FALSE(head.revoked);
    CU_ASSERT_EQUAL(memcmp(head.sign_public, first.sign_public, sizeof head.sign_public), 0);
    CU_ASSERT_EQUAL(memcmp(head.sign_kid, first.sign_kid, PEP_KID_BYTES), 0);
}

static void test_rotation(void)
{
    pep_signed_by by = PEP_SIGNED_BY_ADMIN;
    begin();
    cut rotation = rotation_to(&head, &second, first.sign_secret, CUTOFF);
    pep_statement s = parsed(&rotation);
    CU_ASSERT_EQUAL(s.kind, PEP_STATEMENT_ROTATION);
    CU_ASSERT_EQUAL(s.version, 2);
    CU_ASSERT_EQUAL(s.issued_s, ISSUED_S + 1);
    CU_ASSERT_EQUAL(s.cutoff, CUTOFF);
    CU_ASSERT_EQUAL(memcmp(s.old_kid, first.sign_kid, PEP_KID_BYTES), 0);
    CU_ASSERT_EQUAL(memcmp(s.previous, head.hash, sizeof s.previous), 0);
    CU_ASSERT(s.record.has_previous);
    CU_ASSERT_EQUAL(memcmp(s.record.previous, head.hash, PEP_SHA256_BYTES), 0);
    CU_ASSERT_EQUAL_FATAL(follow(&head, &by, &rotation), PEP_OK);
    CU_ASSERT_EQUAL(by, PEP_SIGNED_BY_DEVICE);
    CU_ASSERT_EQUAL(head.version, 2);
    CU_ASSERT_EQUAL(memcmp(head.sign_kid, second.sign_kid, PEP_KID_BYTES), 0);
    CU_ASSERT_EQUAL(memcmp(head.hash, s.hash, PEP_SHA256_BYTES), 0);
    CU_ASSERT_EQUAL(memcmp(head_of(&rotation).hash, s.hash, PEP_SHA256_BYTES), 0); /* a chain may begin there */
}

static void test_renewal(void)
{
    begin();
    pep_device renewed;
    CU_ASSERT_EQUAL_FATAL(pep_device_renew(&renewed, &first, true, ISSUED_S, NOT_AFTER_S), PEP_OK);
    cut rotation = rotation_to(&head, &renewed, first.sign_secret, 0);
    pep_statement s = parsed(&rotation);
    CU_ASSERT(sodium_is_zero(s.old_kid, sizeof s.old_kid));
    CU_ASSERT_EQUAL(s.cutoff, 0);
    CU_ASSERT_EQUAL(s.record.agree_count, 2);
    CU_ASSERT_EQUAL(memcmp(s.record.agree[0].kid, renewed.agree_kid, PEP_KID_BYTES), 0);
    CU_ASSERT_EQUAL(memcmp(s.record.agree[1].kid, first.agree_kid, PEP_KID_BYTES), 0);
    CU_ASSERT_EQUAL(s.record.agree[1].not_after_s, NOT_AFTER_S);
    CU_ASSERT_EQUAL(follow(&head, NULL, &rotation), PEP_OK);
    CU_ASSERT_EQUAL(memcmp(head.sign_kid, first.sign_kid, PEP_KID_BYTES), 0);
}

static void test_revocation(void)
{
    begin();
    const struct {
        const uint8_t *secret;
        pep_signed_by by;
    } signers[] = {{first.sign_secret, PEP_SIGNED_BY_DEVICE},
                   {authority.sign_secret, PEP_SIGNED_BY_AUTHORITY},
                   {admin.sign_secret, PEP_SIGNED_BY_ADMIN}};
    for (size_t i = 0; i < COUNT(signers); i++) {
        pep_head at = head;
        pep_signed_by by = PEP_SIGNED_BY_ADMIN;
        cut revocation = revocation_of(&at, signers[i].secret);
        pep_statement s = parsed(&revocation);
        CU_ASSERT_EQUAL(s.kind, PEP_STATEMENT_REVOCATION);
        CU_ASSERT_STRING_EQUAL(s.id, "pump-7");
        CU_ASSERT_EQUAL(s.cutoff, CUTOFF);
        CU_ASSERT_EQUAL(memcmp(s.old_kid, first.sign_kid, PEP_KID_BYTES), 0);
        CU_ASSERT_EQUAL(follow(&at, &by, &revocation), PEP_OK);
        CU_ASSERT_EQUAL(by, signers[i].by);
        CU_ASSERT(at.revoked);
        CU_ASSERT_EQUAL(at.version, 2);
        CU_ASSERT_EQUAL(memcmp(at.sign_kid, first.sign_kid, PEP_KID_BYTES), 0);
        CU_ASSERT_EQUAL(pep_head_begin(&at, &s), PEP_BAD_ARGUMENT);
    }
}

/* ---- who may sign what ---- */

static void test_strangers(void)
{
    begin();
    pep_device stranger = device_of("stranger", 1);
    cut by_new_key = rotation_to(&head, &second, second.sign_secret, CUTOFF);
    cut by_stranger = rotation_to(&head, &second, stranger.sign_secret, CUTOFF);
    cut by_admin = rotation_to(&head, &second, admin.sign_secret, CUTOFF);
    cut revocation = revocation_of(&head, stranger.sign_secret);
    CU_ASSERT_EQUAL(would_follow(&head, &by_new_key), PEP_UNPROVEN_KEY);
    CU_ASSERT_EQUAL(would_follow(&head, &by_stranger), PEP_UNPROVEN_KEY);
    CU_ASSERT_EQUAL(would_follow(&head, &by_admin), PEP_UNPROVEN_KEY); /* an admin revokes, and no more */
    CU_ASSERT_EQUAL(would_follow(&head, &revocation), PEP_UNPROVEN_KEY);
}

static void test_untrusted(void)
{
    const pep_trust nobody = {0};
    begin();
    cut by_authority = rotation_to(&head, &second, authority.sign_secret, CUTOFF);
    cut by_admin = revocation_of(&head, admin.sign_secret);
    pep_statement s = parsed(&by_authority);
    CU_ASSERT_EQUAL(pep_head_advance(&head, NULL, &s, &nobody), PEP_UNPROVEN_KEY);
    CU_ASSERT_EQUAL(would_follow(&head, &by_authority), PEP_OK);
    s = parsed(&by_admin);
    CU_ASSERT_EQUAL(pep_head_advance(&head, NULL, &s, &nobody), PEP_UNPROVEN_KEY);
    CU_ASSERT_EQUAL(would_follow(&head, &by_admin), PEP_OK);
}

/* A stated kid is not believed: with the right kid and another's signature nothing follows. */
static void test_bad_signature(void)
{
    begin();
    cut statements[] = {rotation_to(&head, &second, first.sign_secret, CUTOFF), revocation_of(&head, admin.sign_secret),
                        rotation_to(&head, &second, authority.sign_secret, CUTOFF)};
    for (size_t i = 0; i < COUNT(statements); i++) {
        statements[i].p[statements[i].n - 1] ^= 1;
        CU_ASSERT_EQUAL(would_follow(&head, &statements[i]), PEP_BAD_SIGNATURE);
    }
}

/* ---- what follows what ---- */

static void test_out_of_place(void)
{
    begin();
    pep_device other = device_of("pump-8", 1);
    pep_device third = device_of("pump-7", 3);
    cut other_start = record_of(&other);
    pep_head other_head = head_of(&other_start);
    cut of_other = rotation_to(&other_head, &other, other.sign_secret, 0);
    CU_ASSERT_EQUAL(would_follow(&head, &of_other), PEP_WRONG_ID);
    CU_ASSERT_EQUAL(would_follow(&head, &start), PEP_WRONG_VERSION); /* itself */
    cut second_version = rotation_to(&head, &second, first.sign_secret, CUTOFF);
    pep_head at = head;
    CU_ASSERT_EQUAL_FATAL(follow(&at, NULL, &second_version), PEP_OK);
    CU_ASSERT_EQUAL(would_follow(&at, &second_version), PEP_WRONG_VERSION); /* twice */
    cut third_version = rotation_to(&at, &third, second.sign_secret, CUTOFF);
    CU_ASSERT_EQUAL(would_follow(&head, &third_version), PEP_WRONG_VERSION); /* one left out */
    CU_ASSERT_EQUAL(would_follow(&at, &third_version), PEP_OK);
}

static void test_wrong_previous(void)
{
    begin();
    pep_head fork = head;
    fork.hash[31] ^= 1;
    cut rotation = rotation_to(&fork, &second, first.sign_secret, CUTOFF);
    cut revocation = revocation_of(&fork, first.sign_secret);
    CU_ASSERT_EQUAL(would_follow(&head, &rotation), PEP_BROKEN_CHAIN);
    CU_ASSERT_EQUAL(would_follow(&head, &revocation), PEP_BROKEN_CHAIN);
}

/* Two statements that follow one and the same: after either of them the other follows no more. */
static void test_fork(void)
{
    begin();
    cut one = rotation_to(&head, &second, first.sign_secret, CUTOFF);
    cut two = rotation_to(&head, &second, first.sign_secret, CUTOFF + 1);
    pep_head at = head;
    CU_ASSERT_EQUAL_FATAL(follow(&at, NULL, &one), PEP_OK);
    pep_device third = device_of("pump-7", 3);
    cut after_two;
    pep_head other = head;
    CU_ASSERT_EQUAL_FATAL(follow(&other, NULL, &two), PEP_OK);
    after_two = rotation_to(&other, &third, second.sign_secret, CUTOFF);
    CU_ASSERT_EQUAL(would_follow(&at, &after_two), PEP_BROKEN_CHAIN);
}

/* The key that ends is the current one, and is named where one ends. */
static void test_endings(void)
{
    begin();
    pep_head with_other_key = head;
    pep_device other = device_of("other", 1);
    memcpy(with_other_key.sign_kid, other.sign_kid, PEP_KID_BYTES);
    cut ends_other = rotation_to(&with_other_key, &second, first.sign_secret, CUTOFF);
    CU_ASSERT_EQUAL(would_follow(&head, &ends_other), PEP_BROKEN_CHAIN);
    cut same_key_ends = rotation_to(&with_other_key, &first, first.sign_secret, CUTOFF);
    CU_ASSERT_EQUAL(would_follow(&head, &same_key_ends), PEP_BROKEN_CHAIN);
    pep_head with_new_key = head;
    memcpy(with_new_key.sign_kid, second.sign_kid, PEP_KID_BYTES);
    cut ends_none = rotation_to(&with_new_key, &second, first.sign_secret, 0);
    CU_ASSERT_EQUAL(would_follow(&head, &ends_none), PEP_BROKEN_CHAIN);
    cut revokes_other = revocation_of(&with_other_key, first.sign_secret);
    CU_ASSERT_EQUAL(would_follow(&head, &revokes_other), PEP_BROKEN_CHAIN);
}

static void test_after_revocation(void)
{
    begin();
    cut revocation = revocation_of(&head, first.sign_secret);
    pep_head before = head;
    CU_ASSERT_EQUAL_FATAL(follow(&head, NULL, &revocation), PEP_OK);
    pep_signed_by by = PEP_SIGNED_BY_DEVICE;
    cut by_device = rotation_to(&head, &second, first.sign_secret, 0);
    cut by_new_key = rotation_to(&head, &second, second.sign_secret, 0);
    cut same_key = rotation_to(&head, &first, authority.sign_secret, 0);
    pep_head open = head;
    open.revoked = false;
    cut again = revocation_of(&open, authority.sign_secret);
    cut ends_one = rotation_to(&open, &second, authority.sign_secret, CUTOFF);
    cut recovery = rotation_to(&head, &second, authority.sign_secret, 0);
    CU_ASSERT_EQUAL(would_follow(&head, &by_device), PEP_REVOKED_SIGNER);
    CU_ASSERT_EQUAL(would_follow(&head, &by_new_key), PEP_REVOKED_SIGNER);
    CU_ASSERT_EQUAL(would_follow(&head, &same_key), PEP_REVOKED_SIGNER);
    CU_ASSERT_EQUAL(would_follow(&head, &again), PEP_REVOKED_SIGNER);
    CU_ASSERT_EQUAL(would_follow(&head, &ends_one), PEP_BROKEN_CHAIN);
    CU_ASSERT_EQUAL(follow(&head, &by, &recovery), PEP_OK);
    CU_ASSERT_EQUAL(by, PEP_SIGNED_BY_AUTHORITY);
    CU_ASSERT_FALSE(head.revoked);
    CU_ASSERT_EQUAL(head.version, 3);
    CU_ASSERT_EQUAL(memcmp(head.sign_kid, second.sign_kid, PEP_KID_BYTES), 0);
    CU_ASSERT_EQUAL(would_follow(&before, &recovery), PEP_WRONG_VERSION);
}

/* ---- hostile bytes ---- */

static size_t samples(cut out[3])
{
    begin();
    out[0] = start;
    out[1] = rotation_to(&head, &second, first.sign_secret, CUTOFF);
    out[2] = revocation_of(&head, admin.sign_secret);
    return 3;
}

static void test_lengths(void)
{
    cut all[3];
    pep_statement s;
    size_t count = samples(all);
    for (size_t i = 0; i < count; i++) {
        for (size_t n = 0; n < all[i].n; n++)
            CU_ASSERT_EQUAL(parse_exact(&s, all[i].p, n), PEP_MALFORMED);
        CU_ASSERT_EQUAL(parse_exact(&s, all[i].p, all[i].n), PEP_OK);
        all[i].p[all[i].n] = 0;
        CU_ASSERT_EQUAL(parse_exact(&s, all[i].p, all[i].n + 1), PEP_MALFORMED);
    }
}

static void test_flipped_bits(void)
{
    cut all[3];
    size_t count = samples(all);
    for (size_t i = 0; i < count; i++)
        for (size_t bit = 0; bit < 8 * all[i].n; bit++) {
            cut changed = all[i];
            pep_statement s;
            changed.p[bit / 8] ^= (uint8_t)(1 << bit % 8);
            pep_reason reason = parse_exact(&s, changed.p, changed.n);
            CU_ASSERT(reason != PEP_OK || i > 0); /* the outer signature of the others is for who follows them */
            CU_ASSERT_NOT_EQUAL(would_follow(&head, &changed), PEP_OK);
        }
}

static void test_too_large(void)
{
    uint8_t payload[CUT_BYTES] = {0};
    pep_writer w = {.p = payload, .cap = sizeof payload};
    pep_statement s;
    cut out;
    begin();
    pep_write_map(&w, 1);
    pep_write_uint(&w, 1);
    pep_write_bytes(&w, start.p, PEP_STATEMENT_BYTES_MAX - 120);
    CU_ASSERT_EQUAL(sign_object(out.p, &out.n, PEP_STATEMENT_BYTES_MAX, TYP_ROTATION, first.sign_secret, &w),
                    PEP_BUFFER_TOO_SMALL);
    CU_ASSERT_EQUAL(out.n, 0);
    CU_ASSERT_EQUAL(pep_statement_parse(&s, payload, sizeof payload), PEP_MALFORMED);
}

/* The largest record there can be fits into a rotation. */
static void test_largest(void)
{
    char id[PEP_ID_MAX + 1] = {0};
    memset(id, 'x', PEP_ID_MAX);
    pep_device one = device_of(id, 1);
    cut record = record_of(&one);
    pep_head at = head_of(&record);
    at.version = UINT64_MAX - 1;
    pep_device two;
    pep_device three;
    CU_ASSERT_EQUAL_FATAL(pep_device_renew(&two, &one, false, 0, UINT64_MAX), PEP_OK);
    CU_ASSERT_EQUAL_FATAL(pep_device_renew(&three, &two, false, 0, UINT64_MAX), PEP_OK);
    cut next;
    cut rotation;
    CU_ASSERT_EQUAL_FATAL(pep_record_next(next.p, &next.n, &three, &at, UINT64_MAX - 1, UINT64_MAX), PEP_OK);
    CU_ASSERT_EQUAL(pep_rotation_sign(rotation.p, &rotation.n, one.sign_secret, &at, next.p, next.n, PEP_SEQ_MAX),
                    PEP_OK);
    pep_statement s = parsed(&rotation);
    CU_ASSERT_EQUAL(s.record.agree_count, 3);
    CU_ASSERT_EQUAL(s.version, UINT64_MAX);
    pep_head end = head_of(&rotation); /* no version comes after it */
    CU_ASSERT_EQUAL(pep_record_next(next.p, &next.n, &three, &end, 1, 2), PEP_BAD_ARGUMENT);
    CU_ASSERT_EQUAL(pep_revocation_sign(next.p, &next.n, one.sign_secret, &end, 1, 2), PEP_BAD_ARGUMENT);
}

/* ---- rotations and revocations that are well signed and still none ---- */

typedef struct {
    bool first_record; /* of version 1 */
    bool no_old_kid;
    bool no_cutoff;
    bool zero_kid;
    bool kid_of_new;
    bool no_record;
    bool one_more;
    size_t trailing;
    uint64_t cutoff; /* 0: CUTOFF */
    bool cutoff_0;
} rotation_recipe;

static cut cook_rotation(const rotation_recipe *how)
{
    static const uint8_t zeros[PEP_KID_BYTES];
    uint8_t payload[CUT_BYTES];
    pep_writer w = {.p = payload, .cap = sizeof payload};
    cut record = how->first_record ? record_of(&second) : next_record(&head, &second);
    const uint8_t *kid = how->zero_kid ? zeros : how->kid_of_new ? second.sign_kid : first.sign_kid;
    pep_write_map(&w, 3U + how->one_more - how->no_old_kid - how->no_cutoff - how->no_record);
    if (!how->no_record) {
        pep_write_uint(&w, 1);
        pep_write_bytes(&w, record.p, record.n);
    }
    if (!how->no_old_kid) {
        pep_write_uint(&w, 2);
        pep_write_bytes(&w, kid, PEP_KID_BYTES);
    }
    if (!how->no_cutoff) {
        pep_write_uint(&w, 3);
        pep_write_uint(&w, how->cutoff_0 ? 0 : how->cutoff == 0 ? CUTOFF : how->cutoff);
    }
    if (how->one_more) {
        pep_write_uint(&w, 4);
        pep_write_uint(&w, 0);
    }
    pep_write_raw(&w, zeros, how->trailing);
    return signed_as(TYP_ROTATION, first.sign_secret, &w);
}

static void test_rotation_recipes(void)
{
    static const struct {
        rotation_recipe how;
        pep_reason expected;
    } recipes[] = {
        {{0}, PEP_OK},
        {{.cutoff = PEP_SEQ_MAX}, PEP_OK},
        {{.cutoff = PEP_SEQ_MAX + 1}, PEP_MALFORMED},
        {{.cutoff_0 = true}, PEP_MALFORMED},
        {{.first_record = true}, PEP_MALFORMED},
        {{.no_old_kid = true}, PEP_MALFORMED},
        {{.no_cutoff = true}, PEP_MALFORMED},
        {{.no_old_kid = true, .no_cutoff = true}, PEP_BROKEN_CHAIN}, /* a new key, and the old one would not end */
        {{.zero_kid = true}, PEP_MALFORMED},
        {{.kid_of_new = true}, PEP_MALFORMED},
        {{.no_record = true}, PEP_MALFORMED},
        {{.one_more = true}, PEP_MALFORMED},
        {{.trailing = 1}, PEP_MALFORMED},
    };
    begin();
    for (size_t i = 0; i < COUNT(recipes); i++) {
        cut bytes = cook_rotation(&recipes[i].how);
        CU_ASSERT_EQUAL(would_follow(&head, &bytes), recipes[i].expected);
    }
}

typedef struct {
    const char *id;
    bool version_1;
    uint64_t cutoff;
    size_t hash_n; /* 0: 32 */
    bool zero_kid;
    bool one_more;
    size_t trailing;
} revocation_recipe;

static cut cook_revocation(const revocation_recipe *how)
{
    static const uint8_t zeros[64];
    uint8_t payload[CUT_BYTES];
    pep_writer w = {.p = payload, .cap = sizeof payload};
    uint8_t hash[64] = {0};
    memcpy(hash, head.hash, sizeof head.hash);
    pep_write_map(&w, how->one_more ? 7 : 6);
    pep_write_uint(&w, 1);
    pep_write_string(&w, how->id == NULL ? "pump-7" : how->id);
    pep_write_uint(&w, 2);
    pep_write_uint(&w, how->version_1 ? 1 : 2);
    pep_write_uint(&w, 3);
    pep_write_uint(&w, ISSUED_S);
    pep_write_uint(&w, 4);
    pep_write_bytes(&w, how->zero_kid ? zeros : first.sign_kid, PEP_KID_BYTES);
    pep_write_uint(&w, 5);
    pep_write_uint(&w, how->cutoff);
    pep_write_uint(&w, 6);
    pep_write_bytes(&w, hash, how->hash_n == 0 ? PEP_SHA256_BYTES : how->hash_n);
    if (how->one_more) {
        pep_write_uint(&w, 7);
        pep_write_uint(&w, 0);
    }
    pep_write_raw(&w, zeros, how->trailing);
    return signed_as(TYP_REVOCATION, first.sign_secret, &w);
}

static void test_revocation_recipes(void)
{
    static const struct {
        revocation_recipe how;
        pep_reason expected;
    } recipes[] = {
        {{0}, PEP_OK}, /* a cutoff of 0: nothing that it signed is valid */
        {{.cutoff = PEP_SEQ_MAX}, PEP_OK},
        {{.cutoff = PEP_SEQ_MAX + 1}, PEP_MALFORMED},
        {{.id = "pump/7"}, PEP_MALFORMED},
        {{.id = ""}, PEP_MALFORMED},
        {{.id = "pump-8"}, PEP_WRONG_ID},
        {{.version_1 = true}, PEP_MALFORMED},
        {{.hash_n = 31}, PEP_MALFORMED},
        {{.hash_n = 33}, PEP_MALFORMED},
        {{.zero_kid = true}, PEP_MALFORMED},
        {{.one_more = true}, PEP_MALFORMED},
        {{.trailing = 1}, PEP_MALFORMED},
    };
    begin();
    for (size_t i = 0; i < COUNT(recipes); i++) {
        cut bytes = cook_revocation(&recipes[i].how);
        CU_ASSERT_EQUAL(would_follow(&head, &bytes), recipes[i].expected);
    }
}

/* Not even a head of nothing: a record alone begins a chain, and continues none. */
static void test_record_never_follows(void)
{
    const pep_trust trust = trust_in(true, true);
    pep_head nothing = {.version = 0};
    begin();
    pep_statement s = parsed(&start);
    memcpy(nothing.id, s.id, sizeof nothing.id);
    memcpy(nothing.sign_kid, first.sign_kid, PEP_KID_BYTES);
    memcpy(nothing.sign_public, first.sign_public, PEP_SIGN_PUBLIC_BYTES);
    CU_ASSERT_EQUAL(pep_head_advance(&nothing, NULL, &s, &trust), PEP_BROKEN_CHAIN);
}

/* A later version stands in the rotation that says who wants it; alone it is no statement. */
static void test_later_record_alone(void)
{
    pep_statement s;
    begin();
    cut next = next_record(&head, &second);
    CU_ASSERT_EQUAL(pep_statement_parse(&s, next.p, next.n), PEP_MALFORMED);
}

static void test_inner_record_damaged(void)
{
    uint8_t payload[CUT_BYTES];
    pep_writer w = {.p = payload, .cap = sizeof payload};
    pep_statement s;
    begin();
    cut next = next_record(&head, &first);
    next.p[next.n - 1] ^= 1;
    pep_write_map(&w, 1);
    pep_write_uint(&w, 1);
    pep_write_bytes(&w, next.p, next.n);
    cut rotation = signed_as(TYP_ROTATION, first.sign_secret, &w);
    CU_ASSERT_EQUAL(pep_statement_parse(&s, rotation.p, rotation.n), PEP_BAD_SIGNATURE);
}

/* ---- what is not signed ---- */

static void test_record_next_refused(void)
{
    cut out;
    begin();
    pep_device other = device_of("pump-8", 1);
    CU_ASSERT_EQUAL(pep_record_next(out.p, &out.n, &other, &head, 1, 2), PEP_BAD_ARGUMENT);
    CU_ASSERT_EQUAL(pep_record_next(out.p, &out.n, &second, &head, 2, 2), PEP_BAD_ARGUMENT);
    CU_ASSERT_EQUAL(out.n, 0);
    second.previous_count = PEP_PREVIOUS_MAX + 1;
    CU_ASSERT_EQUAL(pep_record_next(out.p, &out.n, &second, &head, 1, 2), PEP_BAD_ARGUMENT);
}

static pep_reason try_rotation(const pep_head *at, const cut *record, uint64_t cutoff)
{
    cut out;
    return pep_rotation_sign(out.p, &out.n, first.sign_secret, at, record->p, record->n, cutoff);
}

static void test_rotation_sign_refused(void)
{
    begin();
    cut next = next_record(&head, &second);
    cut same = next_record(&head, &first);
    pep_head fork = head;
    fork.hash[0] ^= 1;
    pep_head ahead = head;
    ahead.version++;
    CU_ASSERT_EQUAL(try_rotation(&head, &next, CUTOFF), PEP_OK);
    CU_ASSERT_EQUAL(try_rotation(&head, &next, 0), PEP_BAD_ARGUMENT);
    CU_ASSERT_EQUAL(try_rotation(&head, &next, PEP_SEQ_MAX + 1), PEP_BAD_ARGUMENT);
    CU_ASSERT_EQUAL(try_rotation(&head, &same, CUTOFF), PEP_BAD_ARGUMENT);
    CU_ASSERT_EQUAL(try_rotation(&head, &start, CUTOFF), PEP_BAD_ARGUMENT);
    CU_ASSERT_EQUAL(try_rotation(&fork, &next, CUTOFF), PEP_BAD_ARGUMENT);
    CU_ASSERT_EQUAL(try_rotation(&ahead, &next, CUTOFF), PEP_BAD_ARGUMENT);
    next.p[next.n - 1] ^= 1;
    CU_ASSERT_EQUAL(try_rotation(&head, &next, CUTOFF), PEP_BAD_ARGUMENT);
}

static void test_revocation_sign_refused(void)
{
    cut out;
    begin();
    CU_ASSERT_EQUAL(pep_revocation_sign(out.p, &out.n, first.sign_secret, &head, 1, PEP_SEQ_MAX + 1), PEP_BAD_ARGUMENT);
    CU_ASSERT_EQUAL(pep_revocation_sign(out.p, &out.n, first.sign_secret, &head, 1, PEP_SEQ_MAX), PEP_OK);
    head.revoked = true;
    CU_ASSERT_EQUAL(pep_revocation_sign(out.p, &out.n, first.sign_secret, &head, 1, 2), PEP_BAD_ARGUMENT);
}

/* Former keys go on in the next record while their time lasts. */
static void test_record_next_keys(void)
{
    cut out;
    pep_record record;
    pep_device renewed;
    pep_device again;
    begin();
    CU_ASSERT_EQUAL_FATAL(pep_device_renew(&renewed, &first, true, 100, 200), PEP_OK);
    CU_ASSERT_EQUAL_FATAL(pep_device_renew(&again, &renewed, true, 150, 300), PEP_OK);
    static const struct {
        uint64_t issued_s;
        size_t count;
    } cases[] = {{150, 3}, {200, 3}, {201, 2}, {300, 2}, {301, 1}};
    for (size_t i = 0; i < COUNT(cases); i++) {
        CU_ASSERT_EQUAL_FATAL(pep_record_next(out.p, &out.n, &again, &head, cases[i].issued_s, 1000), PEP_OK);
        CU_ASSERT_EQUAL_FATAL(pep_record_parse(&record, out.p, out.n), PEP_OK);
        CU_ASSERT_EQUAL(record.agree_count, cases[i].count);
        CU_ASSERT_EQUAL(memcmp(record.agree[0].kid, again.agree_kid, PEP_KID_BYTES), 0);
        CU_ASSERT(record.agree_count < 2 || memcmp(record.agree[1].kid, renewed.agree_kid, PEP_KID_BYTES) == 0);
        CU_ASSERT(record.agree_count < 3 || memcmp(record.agree[2].kid, first.agree_kid, PEP_KID_BYTES) == 0);
    }
}

/* ---- files ---- */

static void test_files(void)
{
    cut all[3];
    cut read = {.n = 0};
    pep_statement s;
    pep_record record;
    size_t count = samples(all);
    scratch_begin();
    const char *path = scratch_path("pump-7.pub");
    for (size_t i = 0; i < count; i++) { /* each in the place of the one before it */
        CU_ASSERT_EQUAL(pep_statement_replace(&error, path, all[i].p, all[i].n), PEP_OK);
        CU_ASSERT_EQUAL(mode_of_file(path), 0644);
        CU_ASSERT_EQUAL(pep_statement_load(&s, read.p, &read.n, &error, path), PEP_OK);
        CU_ASSERT_EQUAL(read.n, all[i].n);
        CU_ASSERT_EQUAL(memcmp(read.p, all[i].p, read.n), 0);
        CU_ASSERT(s.payload.p > read.p && s.payload.p < read.p + read.n);
        pep_reason reason = pep_record_load(&record, &error, path);
        CU_ASSERT_EQUAL(reason, i == 2 ? PEP_BAD_FILE : PEP_OK);
        CU_ASSERT(reason != PEP_OK || record.version == i + 1);
    }
    CU_ASSERT_PTR_NOT_NULL(strstr(error.text, "revocation"));
    CU_ASSERT_PTR_NOT_NULL(strstr(error.text, path));
    CU_ASSERT_EQUAL(scratch_count(), 1);
    scratch_end();
}

static void test_files_damaged(void)
{
    cut read;
    pep_statement s;
    uint8_t large[PEP_STATEMENT_BYTES_MAX + 1] = {0};
    begin();
    scratch_begin();
    const char *path = scratch_path("file.pub");
    CU_ASSERT_EQUAL(pep_statement_load(&s, read.p, &read.n, &error, path), PEP_CANNOT_READ);
    CU_ASSERT_EQUAL(pep_statement_replace(&error, path, large, sizeof large), PEP_OK);
    CU_ASSERT_EQUAL(pep_statement_load(&s, read.p, &read.n, &error, path), PEP_BAD_FILE);
    CU_ASSERT_EQUAL(pep_statement_replace(&error, path, start.p, start.n - 1), PEP_OK);
    CU_ASSERT_EQUAL(pep_statement_load(&s, read.p, &read.n, &error, path), PEP_BAD_FILE);
    CU_ASSERT_EQUAL(pep_statement_replace(&error, path, large, 10000), PEP_BAD_ARGUMENT);
    CU_ASSERT_EQUAL(pep_statement_replace(&error, scratch_path("none/file"), start.p, start.n), PEP_CANNOT_WRITE);
    limit_files(true, 10);
    CU_ASSERT_EQUAL(pep_statement_replace(&error, path, start.p, start.n), PEP_CANNOT_WRITE);
    limit_files(false, 0);
    CU_ASSERT_EQUAL(scratch_count(), 1); /* nothing temporary is left, and what was there still is */
    CU_ASSERT_EQUAL(pep_statement_load(&s, read.p, &read.n, &error, path), PEP_BAD_FILE);
    scratch_end();
}

static void test_start(void)
{
    CU_ASSERT_EQUAL(pep_init(), PEP_OK);
}

static const unit_test tests[] = {
    {"the library starts", test_start},
    {"a first record", test_record},
    {"a rotation", test_rotation},
    {"a renewal, with the same signing key", test_renewal},
    {"a revocation by each that may", test_revocation},
    {"signed by strangers", test_strangers},
    {"signed by who is not trusted here", test_untrusted},
    {"signed by another than it says", test_bad_signature},
    {"out of place", test_out_of_place},
    {"another hash of what came before", test_wrong_previous},
    {"a fork", test_fork},
    {"the key that ends", test_endings},
    {"after a revocation", test_after_revocation},
    {"cut short at each byte, and too long", test_lengths},
    {"each bit flipped", test_flipped_bits},
    {"more than there may be", test_too_large},
    {"the largest", test_largest},
    {"rotations well signed and still refused", test_rotation_recipes},
    {"revocations well signed and still refused", test_revocation_recipes},
    {"a record never follows", test_record_never_follows},
    {"a later record alone", test_later_record_alone},
    {"a rotation around a damaged record", test_inner_record_damaged},
    {"signing: no next record", test_record_next_refused},
    {"signing: no rotation", test_rotation_sign_refused},
    {"signing: no revocation", test_revocation_sign_refused},
    {"signing: former agreement keys", test_record_next_keys},
    {"files: replaced and loaded", test_files},
    {"files: damaged, too large, not to be written", test_files_damaged},
};

UNIT_MAIN("statements", tests)
