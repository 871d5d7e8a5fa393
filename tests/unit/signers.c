/* Who may sign: found by kid and id, replaced, hidden, distrusted; and what a million of them cost. */
#include "directory/signers.h"

#include "unit.h"

#include <sodium.h>
#include <time.h>

#include "scratch.h"

static const uint8_t ENTRY[] = "an entry";
static const uint8_t OTHER[] = "an older";

static signers *s;
static signer found;

static void begin(void)
{
    s = signers_new();
    CU_ASSERT_PTR_NOT_NULL_FATAL(s);
}

static void end(void)
{
    signers_free(s);
}

/* A current key of `id`, whose kid is `number` in each byte. */
static signer_spec spec_of(const char *id, uint8_t number)
{
    signer_spec spec = {.id = id, .has_key = true, .not_after_s = 1000, .head = true};
    memset(spec.kid, number, sizeof spec.kid);
    memset(spec.sign_public, number + 100, sizeof spec.sign_public);
    return spec;
}

static bool find(uint8_t number)
{
    uint8_t kid[PEP_KID_BYTES];
    memset(kid, number, sizeof kid);
    return signers_find(s, &found, kid);
}

static void put(const signer_spec *spec)
{
    CU_ASSERT_TRUE(signers_put(s, spec));
}

static signer_ids ids_of(const char *a, const char *b)
{
    const char *texts[] = {a, b};
    signer_ids ids = {malloc(2 * (sizeof(char *) + PEP_ID_MAX + 1)), 0};
    char *text = (char *)(ids.ids + 2);
    for (size_t i = 0; i < 2; i++) {
        if (texts[i] == NULL)
            continue;
        ids.ids[ids.count++] = text;
        text += snprintf(text, PEP_ID_MAX + 1, "%s", texts[i]) + 1;
    }
    return ids;
}

static void provision(const char *a, const char *b)
{
    signer_ids ids = ids_of(a, b);
    signers_provision(s, &ids);
    CU_ASSERT_PTR_NULL(ids.ids);
}

static void test_nothing_is_found_in_none(void)
{
    begin();
    CU_ASSERT_FALSE(find(1));
    CU_ASSERT_FALSE(signers_find_id(s, &found, "a"));
    CU_ASSERT_EQUAL(signers_count(s), 0);
    CU_ASSERT_EQUAL(signers_key_count(s), 0);
    uint8_t kid[PEP_KID_BYTES] = {0};
    signers_mark_used(s, kid);
    signers_mark_served(s, "a", ENTRY, sizeof ENTRY);
    signers_distrust(s, kid);
    end();
    signers_free(NULL);
}

static void test_served_is_what_was_published_last(void)
{
    begin();
    signer_spec spec = spec_of("a", 1);
    put(&spec);
    CU_ASSERT_FALSE(signers_serves(s, "a", ENTRY, sizeof ENTRY));
    signers_mark_served(s, "a", OTHER, sizeof OTHER);
    signers_mark_served(s, "a", ENTRY, sizeof ENTRY);
    CU_ASSERT_TRUE(signers_serves(s, "a", ENTRY, sizeof ENTRY));
    CU_ASSERT_FALSE(signers_serves(s, "a", OTHER, sizeof OTHER));
    CU_ASSERT_FALSE(signers_serves(s, "a", ENTRY, sizeof ENTRY - 1));
    CU_ASSERT_FALSE(signers_serves(s, "a", NULL, 0));
    CU_ASSERT_FALSE(signers_serves(s, "b", ENTRY, sizeof ENTRY));
    signers_mark_served(s, "a", NULL, 0);
    CU_ASSERT_FALSE(signers_serves(s, "a", ENTRY, sizeof ENTRY));
    CU_ASSERT_FALSE(signers_serves(s, "a", NULL, 0));
    CU_ASSERT_TRUE(find(1) && !found.served);
    end();
}

static void test_found_as_it_was_put(void)
{
    begin();
    signer_spec spec = spec_of("pump-1", 1);
    spec.groups = "ops\0pumps\0";
    spec.ended_s = 7;
    spec.cutoff = 8;
    spec.state = SIGNER_REVOKED;
    put(&spec);
    CU_ASSERT_TRUE_FATAL(find(1));
    CU_ASSERT_STRING_EQUAL(found.id, "pump-1");
    CU_ASSERT_EQUAL(memcmp(found.kid, spec.kid, PEP_KID_BYTES), 0);
    CU_ASSERT_EQUAL(memcmp(found.sign_public, spec.sign_public, PEP_SIGN_PUBLIC_BYTES), 0);
    CU_ASSERT_TRUE(found.has_key && !found.used && !found.served);
    CU_ASSERT_EQUAL(found.state, SIGNER_REVOKED);
    CU_ASSERT_EQUAL(found.not_after_s, 1000);
    CU_ASSERT_EQUAL(found.ended_s, 7);
    CU_ASSERT_EQUAL(found.cutoff, 8);
    CU_ASSERT_EQUAL(memcmp(found.groups, "ops\0pumps\0", 11), 0);
    CU_ASSERT_TRUE(signers_find_id(s, &found, "pump-1"));
    CU_ASSERT_FALSE(signers_find_id(s, &found, "pump-"));
    CU_ASSERT_FALSE(signers_find_id(s, &found, "pump-11"));
    CU_ASSERT_FALSE(find(2));
    CU_ASSERT_EQUAL(signers_count(s), 0); /* it is no current one */
    CU_ASSERT_EQUAL(signers_key_count(s), 1);
    end();
}

static void test_a_key_that_was_never_seen_is_zeros(void)
{
    const uint8_t zeros[PEP_SIGN_PUBLIC_BYTES] = {0};
    begin();
    signer_spec spec = spec_of("a", 1);
    spec.has_key = false;
    put(&spec);
    CU_ASSERT_TRUE(find(1) && !found.has_key);
    CU_ASSERT_EQUAL(memcmp(found.sign_public, zeros, sizeof zeros), 0);
    CU_ASSERT_PTR_NULL(found.groups);
    end();
}

static void test_ids_end_at_64(void)
{
    char id[PEP_ID_MAX + 2];
    memset(id, 'x', sizeof id);
    id[PEP_ID_MAX + 1] = '\0';
    begin();
    signer_spec spec = spec_of(id, 1);
    CU_ASSERT_FALSE(signers_put(s, &spec));
    id[PEP_ID_MAX] = '\0';
    put(&spec);
    CU_ASSERT_TRUE(signers_find_id(s, &found, id));
    end();
}

static void test_replaced(void)
{
    begin();
    signer_spec spec = spec_of("a", 1);
    put(&spec);
    signers_mark_used(s, spec.kid);
    signers_mark_served(s, "a", ENTRY, sizeof ENTRY);
    CU_ASSERT_TRUE(find(1) && found.used && found.served);
    spec.not_after_s = 2000;
    spec.groups = "ops\0";
    put(&spec);
    CU_ASSERT_TRUE(find(1));
    CU_ASSERT_EQUAL(found.not_after_s, 2000);
    CU_ASSERT_STRING_EQUAL(found.groups, "ops");
    CU_ASSERT_FALSE(found.used); /* another record: to be looked at again */
    CU_ASSERT_TRUE(found.served);
    CU_ASSERT_TRUE(signers_serves(s, "a", ENTRY, sizeof ENTRY)); /* that still lies there */
    CU_ASSERT_EQUAL(signers_key_count(s), 1);
    CU_ASSERT_EQUAL(signers_count(s), 1);
    end();
}

/* The old key, then the new one, or the other way round. */
static void rotate_in_order(bool old_first)
{
    begin();
    signer_spec old = spec_of("a", 1);
    signer_spec new = spec_of("a", 2);
    put(&old);
    signers_mark_served(s, "a", ENTRY, sizeof ENTRY);
    old.head = false;
    old.state = SIGNER_ROTATED;
    put(old_first ? &old : &new);
    put(old_first ? &new : &old);
    CU_ASSERT_TRUE(signers_find_id(s, &found, "a"));
    CU_ASSERT_EQUAL(found.kid[0], 2);
    CU_ASSERT_TRUE(find(1));
    CU_ASSERT_EQUAL(found.state, SIGNER_ROTATED);
    CU_ASSERT_EQUAL(signers_count(s), 1);
    CU_ASSERT_EQUAL(signers_key_count(s), 2);
    end();
}

static void test_rotated(void)
{
    rotate_in_order(true);
    rotate_in_order(false);
}

static void test_revoked_stays_the_head(void)
{
    begin();
    signer_spec spec = spec_of("a", 1);
    put(&spec);
    spec.state = SIGNER_REVOKED;
    put(&spec);
    CU_ASSERT_TRUE(signers_find_id(s, &found, "a"));
    CU_ASSERT_EQUAL(found.state, SIGNER_REVOKED);
    CU_ASSERT_EQUAL(signers_count(s), 0);
    end();
}

static void test_provisioned_ones_live_as_long_as_their_files(void)
{
    begin();
    provision("a", "b");
    signer_spec a = spec_of("a", 1);
    signer_spec former = spec_of("a", 2);
    signer_spec c = spec_of("c", 3);
    signer_spec free_one = spec_of("d", 4);
    a.provisioned = former.provisioned = c.provisioned = true;
    former.head = false;
    former.state = SIGNER_ROTATED;
    put(&former); /* before its head is known */
    CU_ASSERT_TRUE(find(2));
    put(&a);
    put(&c);
    put(&free_one);
    CU_ASSERT_TRUE(find(1) && find(2) && find(4));
    CU_ASSERT_FALSE(find(3) || signers_find_id(s, &found, "c"));
    CU_ASSERT_EQUAL(signers_count(s), 2);
    provision("b", "c");
    CU_ASSERT_FALSE(find(1) || find(2) || signers_find_id(s, &found, "a"));
    CU_ASSERT_TRUE(find(3) && find(4));
    CU_ASSERT_EQUAL(signers_count(s), 2);
    provision("a", "c");
    CU_ASSERT_TRUE(find(1) && find(2) && find(3));
    CU_ASSERT_EQUAL(signers_count(s), 3);
    provision(NULL, NULL);
    CU_ASSERT_FALSE(find(1) || find(2) || find(3));
    CU_ASSERT_TRUE(find(4));
    CU_ASSERT_EQUAL(signers_count(s), 1);
    end();
}

static void test_distrusted_until_it_is_put_again(void)
{
    begin();
    signer_spec spec = spec_of("a", 1);
    put(&spec);
    signers_distrust(s, spec.kid);
    CU_ASSERT_FALSE(find(1) || signers_find_id(s, &found, "a"));
    CU_ASSERT_EQUAL(signers_count(s), 0);
    signers_distrust(s, spec.kid);
    CU_ASSERT_EQUAL(signers_count(s), 0);
    put(&spec);
    CU_ASSERT_TRUE(find(1));
    CU_ASSERT_EQUAL(signers_count(s), 1);
    end();
}

static void test_ending(void)
{
    char first[PEP_ID_MAX + 1];
    uint64_t first_s;
    begin();
    signer_spec spec = spec_of("a", 1);
    put(&spec);
    spec = spec_of("b", 2);
    spec.not_after_s = 500;
    put(&spec);
    spec = spec_of("c", 3);
    spec.not_after_s = 100;
    spec.state = SIGNER_REVOKED;
    put(&spec);
    CU_ASSERT_EQUAL(signers_ending(s, first, &first_s, 499), 0);
    CU_ASSERT_EQUAL(signers_ending(s, first, &first_s, 1000), 2);
    CU_ASSERT_STRING_EQUAL(first, "b");
    CU_ASSERT_EQUAL(first_s, 500);
    end();
}

/* ---- a folder ---- */

static pep_error error;

static pep_device save_device(const char *file, const char *id)
{
    uint8_t bytes[PEP_RECORD_BYTES_MAX];
    size_t n;
    pep_device device;
    CU_ASSERT_EQUAL_FATAL(pep_device_new(&device, id), PEP_OK);
    CU_ASSERT_EQUAL_FATAL(pep_record_sign(bytes, &n, &device, 1000, 2000), PEP_OK);
    CU_ASSERT_EQUAL_FATAL(pep_statement_replace(&error, scratch_path(file), bytes, n), PEP_OK);
    return device;
}

static bool load(void)
{
    signers_free(s);
    begin();
    return signers_load_folder(s, &error, scratch_folder);
}

static bool error_names(const char *text)
{
    return strstr(error.text, text) != NULL;
}

static void test_a_folder(void)
{
    scratch_begin();
    s = NULL;
    CU_ASSERT_TRUE(load());
    CU_ASSERT_EQUAL(signers_count(s), 0);
    pep_device a = save_device("a.pub", "a");
    save_device("b.pub", "b");
    save_device(".c.pub", "c");
    save_device("d.txt", "d");
    CU_ASSERT_TRUE(load());
    CU_ASSERT_EQUAL(signers_count(s), 2);
    CU_ASSERT_TRUE(signers_find(s, &found, a.sign_kid));
    CU_ASSERT_STRING_EQUAL(found.id, "a");
    CU_ASSERT_EQUAL(found.not_after_s, 2000);
    CU_ASSERT_EQUAL(memcmp(found.sign_public, a.sign_public, PEP_SIGN_PUBLIC_BYTES), 0);

    save_device("c.pub", "a");
    CU_ASSERT_FALSE(load());
    CU_ASSERT_TRUE(error_names(".pub is a second record for the id a"));
    remove(scratch_path("c.pub"));
    write_file(scratch_path("c.pub"), "nonsense", 8, 0644);
    CU_ASSERT_FALSE(load());
    CU_ASSERT_TRUE(error_names("c.pub"));
    signers_free(s);
    begin();
    CU_ASSERT_FALSE(signers_load_folder(s, &error, scratch_path("none")));
    CU_ASSERT_TRUE(error_names("none"));
    end();
    scratch_end();
}

static void test_a_folder_with_a_revocation(void)
{
    uint8_t bytes[PEP_STATEMENT_BYTES_MAX];
    size_t n;
    pep_statement st;
    pep_head head;
    scratch_begin();
    s = NULL;
    pep_device a = save_device("a.pub", "a");
    CU_ASSERT_EQUAL_FATAL(pep_statement_load(&st, bytes, &n, &error, scratch_path("a.pub")), PEP_OK);
    CU_ASSERT_EQUAL_FATAL(pep_head_begin(&head, &st), PEP_OK);
    CU_ASSERT_EQUAL_FATAL(pep_revocation_sign(bytes, &n, a.sign_secret, &head, 1500, 77), PEP_OK);
    CU_ASSERT_EQUAL_FATAL(pep_statement_replace(&error, scratch_path("a.pub"), bytes, n), PEP_OK);
    CU_ASSERT_TRUE(load());
    CU_ASSERT_TRUE(signers_find(s, &found, a.sign_kid));
    CU_ASSERT_EQUAL(found.state, SIGNER_REVOKED);
    CU_ASSERT_EQUAL(found.cutoff, 77);
    CU_ASSERT_FALSE(found.has_key);
    CU_ASSERT_EQUAL(signers_count(s), 0);
    end();
    scratch_end();
}

/* ---- many ---- */

static double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void kid_of(uint8_t kid[PEP_KID_BYTES], uint32_t i)
{
    static const uint8_t key[crypto_shorthash_KEYBYTES] = {1};
    uint32_t number[2] = {i, 0};
    crypto_shorthash(kid, (const uint8_t *)number, sizeof number, key);
    number[1] = 1;
    crypto_shorthash(kid + 8, (const uint8_t *)number, sizeof number, key);
}

static void test_many(void)
{
    enum { MANY = 200000 };
    char id[32];
    begin();
    for (uint32_t i = 0; i < MANY; i++) {
        snprintf(id, sizeof id, "device-%06u", i);
        signer_spec spec = spec_of(id, 0);
        kid_of(spec.kid, i);
        CU_ASSERT_TRUE_FATAL(signers_put(s, &spec));
    }
    double start = now_ns();
    unsigned wrong = 0;
    for (uint32_t i = 0; i < MANY; i++) {
        uint8_t kid[PEP_KID_BYTES];
        kid_of(kid, i * 7919U % MANY);
        wrong += !signers_find(s, &found, kid) || found.id[0] != 'd';
    }
    double each = (now_ns() - start) / MANY;
    CU_ASSERT_EQUAL(wrong, 0);
    size_t bytes = signers_bytes(s) / MANY;
    printf("%zu bytes a key, %.0f ns a look-up (kids computed in it) ", bytes, each);
    CU_ASSERT_TRUE(bytes <= 300);
    CU_ASSERT_EQUAL(signers_count(s), MANY);
    end();
}

static const unit_test tests[] = {
    {"nothing is found in none", test_nothing_is_found_in_none},
    {"found as it was put", test_found_as_it_was_put},
    {"served is what was published last", test_served_is_what_was_published_last},
    {"a key that was never seen is zeros", test_a_key_that_was_never_seen_is_zeros},
    {"ids end at 64 characters", test_ids_end_at_64},
    {"replaced", test_replaced},
    {"rotated", test_rotated},
    {"revoked stays the head", test_revoked_stays_the_head},
    {"provisioned ones live as long as their files", test_provisioned_ones_live_as_long_as_their_files},
    {"distrusted until it is put again", test_distrusted_until_it_is_put_again},
    {"ending", test_ending},
    {"a folder", test_a_folder},
    {"a folder with a revocation", test_a_folder_with_a_revocation},
    {"many", test_many},
};

UNIT_MAIN("signers", tests)
