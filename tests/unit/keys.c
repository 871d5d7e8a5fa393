/* Kids, devices and epochs, and the files that hold them and records. Records themselves: records.c. */
#include "pep.h"

#include "unit.h"

#include <sodium.h>
#include <sys/wait.h>

#include "envelope/cbor.h"
#include "scratch.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static pep_error error;

/* ---- samples ---- */

static const uint8_t seed[32] = {1, 2, 3};
static const uint8_t agree_secret[32] = {4, 5, 6};

static pep_device sample_device(void)
{
    pep_device device;
    CU_ASSERT_EQUAL_FATAL(pep_device_from_secrets(&device, "pump-7", seed, agree_secret), PEP_OK);
    return device;
}

/* With all the former keys that there is room for. */
static pep_device rotated_device(void)
{
    pep_device device = sample_device();
    for (unsigned i = 0; i < PEP_PREVIOUS_MAX; i++) {
        pep_previous_keys *keys = &device.previous[device.previous_count++];
        pep_device before;
        uint8_t secret[32] = {7, (uint8_t)i};
        CU_ASSERT_EQUAL_FATAL(pep_device_from_secrets(&before, "pump-7", secret, secret), PEP_OK);
        memcpy(keys->sign_kid, before.sign_kid, PEP_KID_BYTES);
        memcpy(keys->agree_kid, before.agree_kid, PEP_KID_BYTES);
        memcpy(keys->agree_secret, before.agree_secret, PEP_AGREE_SECRET_BYTES);
        keys->until_s = UINT64_MAX - i;
    }
    return device;
}

/* Member by member: there is padding between them. */
static bool same_device(const pep_device *a, const pep_device *b)
{
    return strcmp(a->id, b->id) == 0 && memcmp(a->sign_kid, b->sign_kid, sizeof a->sign_kid) == 0 &&
           memcmp(a->sign_public, b->sign_public, sizeof a->sign_public) == 0 &&
           memcmp(a->sign_secret, b->sign_secret, sizeof a->sign_secret) == 0 &&
           memcmp(a->agree_kid, b->agree_kid, sizeof a->agree_kid) == 0 &&
           memcmp(a->agree_public, b->agree_public, sizeof a->agree_public) == 0 &&
           memcmp(a->agree_secret, b->agree_secret, sizeof a->agree_secret) == 0 &&
           a->previous_count == b->previous_count && memcmp(a->previous, b->previous, sizeof a->previous) == 0;
}

static pep_epoch sample_epoch(void)
{
    pep_epoch epoch;
    pep_device device = sample_device();
    CU_ASSERT_EQUAL_FATAL(pep_epoch_from_key(&epoch, seed, device.sign_kid, "plant/+/temp"), PEP_OK);
    return epoch;
}

static void from_hex(uint8_t *out, size_t n, const char *hex)
{
    size_t got;
    CU_ASSERT_EQUAL_FATAL(sodium_hex2bin(out, n, hex, strlen(hex), NULL, &got, NULL), 0);
    CU_ASSERT_EQUAL_FATAL(got, n);
}

static bool is_hex(const uint8_t *bytes, size_t n, const char *hex)
{
    uint8_t expected[64];
    from_hex(expected, n, hex);
    return memcmp(bytes, expected, n) == 0;
}

/* ---- kids ---- */

/* Each computed by another program: SHA-256 of a3 01 01 20 06 (or 04) 21 58 20 and the key (RFC 9679, 3). */
static void test_kids(void)
{
    uint8_t key[32];
    uint8_t kid[PEP_KID_BYTES];
    from_hex(key, sizeof key, "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"); /* RFC 8032, 7.1 */
    pep_kid_sign(kid, key);
    CU_ASSERT(is_hex(kid, sizeof kid, "866eefbd6718c8846cd7ddfe43fc74ab"));
    from_hex(key, sizeof key, "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"); /* RFC 7748, 6.1 */
    pep_kid_agree(kid, key);
    CU_ASSERT(is_hex(kid, sizeof kid, "d53b6f891a4496e65d2924eef2ceee4c"));
    pep_kid_sign(kid, key); /* one key, two curves: two kids */
    CU_ASSERT_FALSE(is_hex(kid, sizeof kid, "d53b6f891a4496e65d2924eef2ceee4c"));
}

/* ---- devices ---- */

/* Secrets and public keys of RFC 8032, 7.1 (test 1) and of the recipient in RFC 9180, A.2.1. */
static void test_device_from_secrets(void)
{
    uint8_t sign[32];
    uint8_t agree[32];
    pep_device device;
    from_hex(sign, sizeof sign, "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60");
    from_hex(agree, sizeof agree, "8057991eef8f1f1af18f4a9491d16a1ce333f695d4db8e38da75975c4478e0fb");
    CU_ASSERT_EQUAL(pep_device_from_secrets(&device, "a", sign, agree), PEP_OK);
    CU_ASSERT_STRING_EQUAL(device.id, "a");
    CU_ASSERT(is_hex(device.sign_public, 32, "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"));
    CU_ASSERT(is_hex(device.agree_public, 32, "4310ee97d88cc1f088a5576c77ab0cf5c3ac797f3d95139c6c84b5429c59662a"));
    CU_ASSERT(is_hex(device.sign_kid, PEP_KID_BYTES, "866eefbd6718c8846cd7ddfe43fc74ab"));
    CU_ASSERT(is_hex(device.agree_kid, PEP_KID_BYTES, "4c3144bb6e6af74b3c180f0a80c621a0"));
    CU_ASSERT_EQUAL(pep_device_from_secrets(&device, "a b", sign, agree), PEP_BAD_ARGUMENT);
}

static void test_device_new(void)
{
    static const char longest[] = "0123456789012345678901234567890123456789012345678901234567890123";
    pep_device a;
    pep_device b;
    pep_device again;
    CU_ASSERT_EQUAL(pep_device_new(&a, "pump-7"), PEP_OK);
    CU_ASSERT_EQUAL(pep_device_new(&b, longest), PEP_OK);
    CU_ASSERT_STRING_EQUAL(b.id, longest);
    CU_ASSERT_NOT_EQUAL(memcmp(a.sign_secret, b.sign_secret, sizeof a.sign_secret), 0);
    CU_ASSERT_NOT_EQUAL(memcmp(a.agree_secret, b.agree_secret, sizeof a.agree_secret), 0);
    CU_ASSERT_EQUAL(pep_device_from_secrets(&again, "pump-7", a.sign_secret, a.agree_secret), PEP_OK);
    CU_ASSERT(same_device(&a, &again));
    CU_ASSERT_EQUAL(pep_device_new(&a, ""), PEP_BAD_ARGUMENT);
    CU_ASSERT_EQUAL(pep_device_new(&a, "a/b"), PEP_BAD_ARGUMENT);
    CU_ASSERT_EQUAL(pep_device_new(&a, "01234567890123456789012345678901234567890123456789012345678901234"),
                    PEP_BAD_ARGUMENT);
    CU_ASSERT(sodium_is_zero((const uint8_t *)&a, sizeof a));
}

static void test_device_wipe(void)
{
    pep_device device = sample_device();
    pep_device_wipe(&device);
    CU_ASSERT(sodium_is_zero((const uint8_t *)&device, sizeof device));
}

/* ---- epochs ---- */

static void test_epoch_id(void)
{
    pep_epoch epoch;
    uint8_t key[PEP_EPOCH_KEY_BYTES];
    uint8_t owner[PEP_KID_BYTES];
    for (size_t i = 0; i < sizeof key; i++)
        key[i] = (uint8_t)i;
    for (size_t i = 0; i < sizeof owner; i++)
        owner[i] = (uint8_t)(0x40 + i);
    CU_ASSERT_EQUAL(pep_epoch_from_key(&epoch, key, owner, "plant/+/temp"), PEP_OK);
    /* computed by another program: SHA-256 of 84 6a "pep1 epoch" 58 20 key 50 owner 6c "plant/+/temp" */
    CU_ASSERT(is_hex(epoch.epoch_id, PEP_KID_BYTES, "7cc45a4cd98a62cc4eb988e5a63e13ad"));
    pep_epoch_wipe(&epoch);
}

static bool same_id_as_sample(const uint8_t key[PEP_EPOCH_KEY_BYTES], const uint8_t owner[PEP_KID_BYTES],
                              const char *scope)
{
    pep_epoch sample = sample_epoch();
    pep_epoch epoch;
    CU_ASSERT_EQUAL_FATAL(pep_epoch_from_key(&epoch, key, owner, scope), PEP_OK);
    bool same = memcmp(epoch.epoch_id, sample.epoch_id, PEP_KID_BYTES) == 0;
    pep_epoch_wipe(&epoch);
    pep_epoch_wipe(&sample);
    return same;
}

static void test_epoch_id_commits(void)
{
    pep_device device = sample_device();
    uint8_t key[PEP_EPOCH_KEY_BYTES];
    memcpy(key, seed, sizeof key);
    CU_ASSERT(same_id_as_sample(key, device.sign_kid, "plant/+/temp"));
    CU_ASSERT_FALSE(same_id_as_sample(key, device.sign_kid, "plant/+/tem"));
    CU_ASSERT_FALSE(same_id_as_sample(key, device.sign_kid, "plant/#"));
    CU_ASSERT_FALSE(same_id_as_sample(key, device.agree_kid, "plant/+/temp"));
    for (size_t i = 0; i < sizeof key; i++) {
        key[i] ^= 1;
        CU_ASSERT_FALSE(same_id_as_sample(key, device.sign_kid, "plant/+/temp"));
        key[i] ^= 1;
    }
}

static void test_epoch_new(void)
{
    static char scope[1026];
    pep_device device = sample_device();
    pep_epoch a;
    pep_epoch b;
    CU_ASSERT_EQUAL_FATAL(pep_epoch_new(&a, device.sign_kid, "a/#"), PEP_OK);
    CU_ASSERT_EQUAL_FATAL(pep_epoch_new(&b, device.sign_kid, "a/#"), PEP_OK);
    CU_ASSERT_STRING_EQUAL(a.scope, "a/#");
    CU_ASSERT_EQUAL(memcmp(a.owner_kid, device.sign_kid, PEP_KID_BYTES), 0);
    CU_ASSERT_NOT_EQUAL(memcmp(a.key, b.key, sizeof a.key), 0);
    CU_ASSERT_NOT_EQUAL(memcmp(a.epoch_id, b.epoch_id, PEP_KID_BYTES), 0);
    pep_epoch_wipe(&a);
    pep_epoch_wipe(&b);
    CU_ASSERT(sodium_is_zero((const uint8_t *)&a, sizeof a));
    CU_ASSERT_EQUAL(pep_epoch_new(&a, device.sign_kid, ""), PEP_BAD_ARGUMENT);
    CU_ASSERT_EQUAL(pep_epoch_new(&a, device.sign_kid, "a/#/b"), PEP_BAD_ARGUMENT);
    memset(scope, 'x', sizeof scope - 1);
    CU_ASSERT_EQUAL(pep_epoch_new(&a, device.sign_kid, scope), PEP_BAD_ARGUMENT);
    CU_ASSERT(sodium_is_zero((const uint8_t *)&a, sizeof a));
}

/* ---- files ---- */

static pep_reason save_device(const char *path)
{
    pep_device device = sample_device();
    return pep_device_save(&error, path, &device);
}

static pep_reason load_device(bool *same, const char *path)
{
    pep_device device;
    pep_device sample = sample_device();
    pep_reason reason = pep_device_load(&device, &error, path);
    *same = same_device(&device, &sample);
    return reason;
}

static pep_reason save_rotated(const char *path)
{
    pep_device device = rotated_device();
    return pep_device_save(&error, path, &device);
}

static pep_reason load_rotated(bool *same, const char *path)
{
    pep_device device;
    pep_device sample = rotated_device();
    pep_reason reason = pep_device_load(&device, &error, path);
    *same = same_device(&device, &sample);
    return reason;
}

static pep_reason save_epoch(const char *path)
{
    pep_epoch epoch = sample_epoch();
    pep_reason reason = pep_epoch_save(&error, path, &epoch);
    pep_epoch_wipe(&epoch);
    return reason;
}

static pep_reason load_epoch(bool *same, const char *path)
{
    pep_epoch epoch;
    pep_epoch sample = sample_epoch();
    pep_reason reason = pep_epoch_load(&epoch, &error, path);
    *same = reason == PEP_OK && strcmp(epoch.scope, sample.scope) == 0 &&
            memcmp(&epoch, &sample, offsetof(pep_epoch, scope)) == 0;
    pep_epoch_wipe(&epoch);
    pep_epoch_wipe(&sample);
    return reason;
}

static pep_reason save_record(const char *path)
{
    uint8_t bytes[PEP_RECORD_BYTES_MAX];
    size_t n;
    pep_device device = sample_device();
    CU_ASSERT_EQUAL_FATAL(pep_record_sign(bytes, &n, &device, 1000, 2000), PEP_OK);
    return pep_record_save(&error, path, bytes, n);
}

static pep_reason load_record(bool *same, const char *path)
{
    pep_record record;
    pep_device device = sample_device();
    pep_reason reason = pep_record_load(&record, &error, path);
    *same = reason == PEP_OK && strcmp(record.id, device.id) == 0 && record.not_after_s == 2000 &&
            record.agree_count == 1 && memcmp(record.sign_public, device.sign_public, PEP_SIGN_PUBLIC_BYTES) == 0 &&
            memcmp(record.agree[0].key, device.agree_public, PEP_AGREE_PUBLIC_BYTES) == 0;
    return reason;
}

typedef struct {
    pep_reason (*save)(const char *path);
    pep_reason (*load)(bool *same, const char *path);
    mode_t mode;
    const char *label;
} file_type;

static const file_type types[] = {
    {save_device, load_device, 0600, "PEP DEVICE KEY"},
    {save_rotated, load_rotated, 0600, "PEP DEVICE KEY"},
    {save_epoch, load_epoch, 0600, "PEP EPOCH KEY"},
    {save_record, load_record, 0644, "PEP RECORD"},
};

static void expect_load(const file_type *type, pep_reason expected, const char *path)
{
    bool same;
    error.text[0] = 0;
    CU_ASSERT_EQUAL(type->load(&same, path), expected);
    CU_ASSERT_EQUAL(same, expected == PEP_OK);
    CU_ASSERT(expected == PEP_OK || strstr(error.text, path) != NULL);
}

/* The good file's bytes; the folder is new and holds that file alone. */
static size_t begin(uint8_t *bytes, size_t cap, const char **path, const file_type *type)
{
    scratch_begin();
    *path = scratch_path("file");
    CU_ASSERT_EQUAL_FATAL(type->save(*path), PEP_OK);
    return read_file(bytes, cap, *path);
}

static void check_save(const file_type *type, mode_t mask)
{
    uint8_t bytes[4096];
    uint8_t after[4096];
    const char *path;
    mode_t before = umask(mask);
    size_t n = begin(bytes, sizeof bytes, &path, type);
    umask(before);
    expect_load(type, PEP_OK, path);
    CU_ASSERT_EQUAL(mode_of_file(path), type->mode);
    CU_ASSERT_EQUAL(type->save(path), PEP_EXISTS);
    CU_ASSERT_PTR_NOT_NULL(strstr(error.text, path));
    CU_ASSERT_EQUAL(read_file(after, sizeof after, path), n);
    CU_ASSERT_EQUAL(memcmp(bytes, after, n), 0);
    CU_ASSERT_EQUAL(scratch_count(), 1); /* nothing temporary is left */
    scratch_end();
}

static void test_save(void)
{
    for (size_t i = 0; i < COUNT(types); i++) {
        check_save(&types[i], 0);
        check_save(&types[i], 0077);
    }
}

/* A name that is taken by whatever it may be. */
static void test_save_taken(void)
{
    uint8_t bytes[4096];
    const char *path;
    for (size_t i = 0; i < COUNT(types); i++) {
        begin(bytes, sizeof bytes, &path, &types[i]);
        CU_ASSERT_EQUAL_FATAL(symlink("nowhere", scratch_path("link")), 0);
        CU_ASSERT_EQUAL_FATAL(mkdir(scratch_path("folder"), 0700), 0);
        CU_ASSERT_EQUAL(types[i].save(scratch_path("link")), PEP_EXISTS);
        CU_ASSERT_EQUAL(types[i].save(scratch_path("folder")), PEP_EXISTS);
        CU_ASSERT_EQUAL(scratch_count(), 3);
        scratch_end();
    }
}

static void test_save_impossible(void)
{
    scratch_begin();
    for (size_t i = 0; i < COUNT(types); i++) {
        const char *path = scratch_path("no-such-folder/file");
        CU_ASSERT_EQUAL(types[i].save(path), PEP_CANNOT_WRITE);
        CU_ASSERT_PTR_NOT_NULL(strstr(error.text, path));
        limit_files(true, 10);
        CU_ASSERT_EQUAL(types[i].save(scratch_path("file")), PEP_CANNOT_WRITE);
        limit_files(false, 0);
        CU_ASSERT_EQUAL(scratch_count(), 0);
    }
    scratch_end();
}

static void test_modes(void)
{
    uint8_t bytes[4096];
    const char *path;
    for (size_t i = 0; i < COUNT(types); i++) {
        begin(bytes, sizeof bytes, &path, &types[i]);
        for (mode_t bit = 1; bit < 0100; bit <<= 1) {
            CU_ASSERT_EQUAL_FATAL(chmod(path, 0600 | bit), 0);
            expect_load(&types[i], types[i].mode == 0600 ? PEP_UNSAFE_FILE : PEP_OK, path);
        }
        scratch_end();
    }
}

static void test_kinds_of_files(void)
{
    uint8_t bytes[4096];
    const char *path;
    for (size_t i = 0; i < COUNT(types); i++) {
        begin(bytes, sizeof bytes, &path, &types[i]);
        CU_ASSERT_EQUAL_FATAL(symlink(path, scratch_path("link")), 0);
        CU_ASSERT_EQUAL_FATAL(mkfifo(scratch_path("fifo"), 0600), 0);
        expect_load(&types[i], PEP_OK, scratch_path("link"));
        expect_load(&types[i], PEP_BAD_FILE, scratch_path("fifo")); /* and does not wait for a writer */
        expect_load(&types[i], PEP_BAD_FILE, scratch_folder);
        expect_load(&types[i], PEP_BAD_FILE, "/dev/null");
        expect_load(&types[i], PEP_CANNOT_READ, scratch_path("none"));
        scratch_end();
    }
}

static void expect_bytes(const file_type *type, pep_reason expected, const void *bytes, size_t n)
{
    const char *path = scratch_path("changed");
    write_file(path, bytes, n, 0600);
    expect_load(type, expected, path);
}

static void test_lengths(void)
{
    uint8_t bytes[4096] = {0};
    static uint8_t large[100000];
    const char *path;
    for (size_t i = 0; i < COUNT(types); i++) {
        size_t n = begin(bytes, sizeof bytes, &path, &types[i]);
        for (size_t cut = 0; cut < n; cut++)
            expect_bytes(&types[i], PEP_BAD_FILE, bytes, cut);
        expect_bytes(&types[i], PEP_OK, bytes, n);
        bytes[n] = '\n';
        expect_bytes(&types[i], PEP_BAD_FILE, bytes, n + 1);
        memcpy(bytes + n, bytes, n); /* twice the file is no file */
        expect_bytes(&types[i], PEP_BAD_FILE, bytes, 2 * n);
        memset(large, '\n', sizeof large); /* as long a body as one likes would not be read */
        const uint8_t *body = (const uint8_t *)memchr(bytes, '\n', n) + 1;
        size_t head = (size_t)(body - bytes);
        memcpy(large, bytes, head);
        memcpy(large + sizeof large - (n - head), body, n - head);
        expect_bytes(&types[i], PEP_BAD_FILE, large, sizeof large);
        CU_ASSERT_PTR_NOT_NULL(strstr(error.text, "too large"));
        scratch_end();
    }
}

/* Behind a whole content, in the last line before the end. */
static void test_junk(void)
{
    static const char *const junk[] = {"@@@@\n", "=\n", "AAAA\n", "A\n", "-----\n"};
    uint8_t bytes[4096];
    uint8_t changed[4096];
    const char *path;
    for (size_t i = 0; i < COUNT(types); i++) {
        size_t n = begin(bytes, sizeof bytes, &path, &types[i]);
        size_t before = n - 1; /* the last line begins there, after the loop */
        while (before > 0 && bytes[before - 1] != '\n')
            before--;
        for (size_t k = 0; k < COUNT(junk); k++) {
            size_t junk_n = strlen(junk[k]);
            memcpy(changed, bytes, before);
            memcpy(changed + before, junk[k], junk_n);
            memcpy(changed + before + junk_n, bytes + before, n - before);
            expect_bytes(&types[i], PEP_BAD_FILE, changed, n + junk_n);
        }
        scratch_end();
    }
}

/* A changed character is noticed: a record is signed, and behind a secret stands its checksum. */
static void check_changed(const file_type *type, const uint8_t *bytes, size_t n)
{
    bool same;
    const char *path = scratch_path("changed");
    write_file(path, bytes, n, 0600);
    pep_reason reason = type->load(&same, path);
    CU_ASSERT_EQUAL(reason, PEP_BAD_FILE);
    CU_ASSERT_FALSE(same);
}

static void test_changed_characters(void)
{
    static const uint8_t changes[] = {0x01, 0x20, 0x80, '\n'}; /* the last makes NULs of line ends */
    uint8_t bytes[4096];
    const char *path;
    for (size_t i = 0; i < COUNT(types); i++) {
        size_t n = begin(bytes, sizeof bytes, &path, &types[i]);
        for (size_t at = 0; at < n; at++)
            for (size_t k = 0; k < COUNT(changes); k++) {
                bytes[at] ^= changes[k];
                check_changed(&types[i], bytes, n);
                bytes[at] ^= changes[k];
            }
        scratch_end();
    }
}

static void test_wrong_label(void)
{
    uint8_t bytes[4096];
    const char *path;
    for (size_t i = 0; i < COUNT(types); i++) {
        size_t n = begin(bytes, sizeof bytes, &path, &types[i]);
        for (size_t other = 0; other < COUNT(types); other++)
            if (other == i || strcmp(types[i].label, types[other].label) != 0)
                expect_bytes(&types[other], other == i ? PEP_OK : PEP_BAD_FILE, bytes, n);
        scratch_end();
    }
}

/* ---- contents that armor cannot catch ---- */

typedef struct {
    const char *bytes; /* what the base64 stands for, up to a string of 32 bytes; then the rest */
    size_t n;
    bool good;
} content_case;

#define CONTENT(s) (s), sizeof(s) - 1
#define BYTES_32                                                                                                       \
    "\x58\x20"                                                                                                         \
    "0123456789abcdef0123456789abcdef"
#define BYTES_31                                                                                                       \
    "\x58\x1f"                                                                                                         \
    "0123456789abcdef0123456789abcde"
#define BYTES_16                                                                                                       \
    "\x50"                                                                                                             \
    "0123456789abcdef"

static const content_case devices[] = {
    {CONTENT("\xa4\x00\x01\x01\x61"
             "a\x02" BYTES_32 "\x03" BYTES_32),
     true},
    {CONTENT("\xa4\x00\x02\x01\x61"
             "a\x02" BYTES_32 "\x03" BYTES_32),
     false}, /* another version */
    {CONTENT("\xa4\x00\x01\x01\x61"
             "/\x02" BYTES_32 "\x03" BYTES_32),
     false}, /* no id */
    {CONTENT("\xa4\x00\x01\x01\x60\x02" BYTES_32 "\x03" BYTES_32), false},
    {CONTENT("\xa4\x00\x01\x01\x61"
             "a\x02" BYTES_31 "\x03" BYTES_32),
     false}, /* no keys */
    {CONTENT("\xa4\x00\x01\x01\x61"
             "a\x02" BYTES_32 "\x03" BYTES_31),
     false},
    {CONTENT("\xa4\x00\x01\x01\x61"
             "a\x03" BYTES_32 "\x02" BYTES_32),
     false}, /* out of order */
    {CONTENT("\xa3\x00\x01\x01\x61"
             "a\x02" BYTES_32),
     false}, /* too few */
    {CONTENT("\xa5\x00\x01\x01\x61"
             "a\x02" BYTES_32 "\x03" BYTES_32 "\x04\x00"),
     false}, /* too many */
    {CONTENT("\xa4\x00\x01\x01\x61"
             "a\x02" BYTES_32 "\x03" BYTES_32 "\x00"),
     false}, /* and bytes behind */
};

static const content_case epochs[] = {
    {CONTENT("\xa4\x00\x01\x01" BYTES_32 "\x02" BYTES_16 "\x03\x63"
             "a/#"),
     true},
    {CONTENT("\xa4\x00\x02\x01" BYTES_32 "\x02" BYTES_16 "\x03\x63"
             "a/#"),
     false},
    {CONTENT("\xa4\x00\x01\x01" BYTES_31 "\x02" BYTES_16 "\x03\x63"
             "a/#"),
     false},
    {CONTENT("\xa4\x00\x01\x01" BYTES_32 "\x02" BYTES_31 "\x03\x63"
             "a/#"),
     false},
    {CONTENT("\xa4\x00\x01\x01" BYTES_32 "\x02" BYTES_16 "\x03\x63"
             "a#/"),
     false}, /* no filter */
    {CONTENT("\xa4\x00\x01\x01" BYTES_32 "\x02" BYTES_16 "\x03\x63"
             "a\0b"),
     false},
    {CONTENT("\xa4\x00\x01\x01" BYTES_32 "\x02" BYTES_16 "\x03\x60"), false},
    {CONTENT("\xa4\x00\x01\x01" BYTES_32 "\x02" BYTES_16 "\x03\x43"
             "a/#"),
     false}, /* no text */
    {CONTENT("\xa4\x00\x01\x01" BYTES_32 "\x02" BYTES_16 "\x03\x63"
             "a/#\x00"),
     false},
};

static const char *armored(const char *label, const content_case *c)
{
    static char text[2048];
    char base64[1536];
    uint8_t whole[1024 + 8];
    uint8_t hash[crypto_hash_sha256_BYTES];
    const char *path = scratch_path("content");
    memcpy(whole, c->bytes, c->n);
    crypto_hash_sha256(hash, whole, c->n);
    memcpy(whole + c->n, hash, 8);
    sodium_bin2base64(base64, sizeof base64, whole, c->n + 8, sodium_base64_VARIANT_ORIGINAL);
    int n = snprintf(text, sizeof text, "-----BEGIN %s-----\n%s\n-----END %s-----\n", label, base64, label);
    write_file(path, text, (size_t)n, 0600);
    return path;
}

static void test_device_contents(void)
{
    scratch_begin();
    for (size_t i = 0; i < COUNT(devices); i++) {
        pep_device device;
        CU_ASSERT_EQUAL(pep_device_load(&device, &error, armored("PEP DEVICE KEY", &devices[i])),
                        devices[i].good ? PEP_OK : PEP_BAD_FILE);
        CU_ASSERT_EQUAL(sodium_is_zero(device.sign_secret, sizeof device.sign_secret), !devices[i].good);
    }
    scratch_end();
}

/* Former keys, right and wrong; zero: right. */
typedef struct {
    size_t count; /* 0: 1 */
    bool none;
    bool wrong_agree_kid;
    size_t secret_n; /* 0: 32 */
    bool no_until;
    uint64_t key; /* 0: 4 */
    bool one_more;
} previous_recipe;

static void write_previous(pep_writer *w, const previous_recipe *how)
{
    pep_device before = sample_device();
    uint8_t secret[33] = {0};
    memcpy(secret, agree_secret, sizeof agree_secret);
    pep_write_map(w, how->no_until ? 3 : 4);
    pep_write_uint(w, 1);
    pep_write_bytes(w, before.sign_kid, PEP_KID_BYTES);
    pep_write_uint(w, 2);
    pep_write_bytes(w, how->wrong_agree_kid ? before.sign_kid : before.agree_kid, PEP_KID_BYTES);
    pep_write_uint(w, 3);
    pep_write_bytes(w, secret, how->secret_n == 0 ? 32 : how->secret_n);
    if (!how->no_until) {
        pep_write_uint(w, 4);
        pep_write_uint(w, 1000);
    }
}

static content_case cook_previous(uint8_t out[1024], const previous_recipe *how)
{
    pep_writer w = {.p = out, .cap = 1024};
    size_t count = how->none ? 0 : how->count == 0 ? 1 : how->count;
    pep_write_map(&w, how->one_more ? 6 : 5);
    pep_write_uint(&w, 0);
    pep_write_uint(&w, 1);
    pep_write_uint(&w, 1);
    pep_write_string(&w, "pump-7");
    pep_write_uint(&w, 2);
    pep_write_bytes(&w, seed, sizeof seed);
    pep_write_uint(&w, 3);
    pep_write_bytes(&w, agree_secret, sizeof agree_secret);
    pep_write_uint(&w, how->key == 0 ? 4 : how->key);
    pep_write_array(&w, count);
    for (size_t i = 0; i < count; i++)
        write_previous(&w, how);
    if (how->one_more) {
        pep_write_uint(&w, 5);
        pep_write_uint(&w, 0);
    }
    return (content_case){(const char *)out, w.n, true};
}

static void test_previous_contents(void)
{
    static const struct {
        previous_recipe how;
        bool good;
    } recipes[] = {
        {{0}, true},
        {{.count = PEP_PREVIOUS_MAX}, true},
        {{.count = PEP_PREVIOUS_MAX + 1}, false},
        {{.none = true}, false},
        {{.wrong_agree_kid = true}, false},
        {{.secret_n = 31}, false},
        {{.secret_n = 33}, false},
        {{.no_until = true}, false},
        {{.key = 5}, false},
        {{.one_more = true}, false},
    };
    scratch_begin();
    for (size_t i = 0; i < COUNT(recipes); i++) {
        uint8_t bytes[1024];
        pep_device device;
        content_case content = cook_previous(bytes, &recipes[i].how);
        CU_ASSERT_EQUAL(pep_device_load(&device, &error, armored("PEP DEVICE KEY", &content)),
                        recipes[i].good ? PEP_OK : PEP_BAD_FILE);
        CU_ASSERT(recipes[i].good || sodium_is_zero((const uint8_t *)&device, sizeof device));
    }
    scratch_end();
}

/* ---- renewed and replaced ---- */

static void test_renew(void)
{
    pep_device before = sample_device();
    pep_device after;
    pep_device kept;
    CU_ASSERT_EQUAL(pep_device_renew(&after, &before, false, 100, 200), PEP_OK);
    CU_ASSERT_STRING_EQUAL(after.id, before.id);
    CU_ASSERT_NOT_EQUAL(memcmp(after.sign_public, before.sign_public, PEP_SIGN_PUBLIC_BYTES), 0);
    CU_ASSERT_NOT_EQUAL(memcmp(after.agree_secret, before.agree_secret, PEP_AGREE_SECRET_BYTES), 0);
    CU_ASSERT_EQUAL_FATAL(after.previous_count, 1);
    CU_ASSERT_EQUAL(memcmp(after.previous[0].sign_kid, before.sign_kid, PEP_KID_BYTES), 0);
    CU_ASSERT_EQUAL(memcmp(after.previous[0].agree_kid, before.agree_kid, PEP_KID_BYTES), 0);
    CU_ASSERT_EQUAL(memcmp(after.previous[0].agree_secret, before.agree_secret, PEP_AGREE_SECRET_BYTES), 0);
    CU_ASSERT_EQUAL(after.previous[0].until_s, 200);
    CU_ASSERT_EQUAL(pep_device_renew(&kept, &after, true, 200, 300), PEP_OK);
    CU_ASSERT_EQUAL(memcmp(kept.sign_secret, after.sign_secret, PEP_SIGN_SECRET_BYTES), 0);
    CU_ASSERT_EQUAL(memcmp(kept.sign_kid, after.sign_kid, PEP_KID_BYTES), 0);
    CU_ASSERT_NOT_EQUAL(memcmp(kept.agree_kid, after.agree_kid, PEP_KID_BYTES), 0);
    CU_ASSERT_EQUAL_FATAL(kept.previous_count, 2);
    CU_ASSERT_EQUAL(memcmp(kept.previous[0].agree_kid, after.agree_kid, PEP_KID_BYTES), 0);
    CU_ASSERT_EQUAL(memcmp(kept.previous[1].agree_kid, before.agree_kid, PEP_KID_BYTES), 0);
    CU_ASSERT_EQUAL(pep_device_renew(&kept, &kept, false, 201, 400), PEP_OK); /* in place; one is over, one too many */
    CU_ASSERT_EQUAL(kept.previous_count, 2);
    CU_ASSERT_EQUAL(kept.previous[0].until_s, 400);
    CU_ASSERT_EQUAL(kept.previous[1].until_s, 300);
    CU_ASSERT_EQUAL(pep_device_renew(&kept, &kept, false, 500, 499), PEP_OK); /* not even the last is kept */
    CU_ASSERT_EQUAL(kept.previous_count, 0);
    CU_ASSERT(sodium_is_zero((const uint8_t *)kept.previous, sizeof kept.previous));
}

static void test_replace(void)
{
    uint8_t bytes[4096];
    const char *path;
    bool same;
    pep_device device = rotated_device();
    begin(bytes, sizeof bytes, &path, &types[0]);
    CU_ASSERT_EQUAL(pep_device_replace(&error, path, &device), PEP_OK);
    CU_ASSERT_EQUAL(load_rotated(&same, path), PEP_OK);
    CU_ASSERT(same);
    CU_ASSERT_EQUAL(mode_of_file(path), 0600);
    CU_ASSERT_EQUAL(scratch_count(), 1);
    CU_ASSERT_EQUAL(pep_device_replace(&error, scratch_path("new"), &device), PEP_OK); /* nothing need be there */
    CU_ASSERT_EQUAL(mode_of_file(scratch_path("new")), 0600);
    scratch_end();
}

/* What is there stays where the new one cannot be written. */
static void test_replace_impossible(void)
{
    uint8_t bytes[4096];
    const char *path;
    bool same;
    pep_device device = rotated_device();
    begin(bytes, sizeof bytes, &path, &types[0]);
    limit_files(true, 10);
    CU_ASSERT_EQUAL(pep_device_replace(&error, path, &device), PEP_CANNOT_WRITE);
    limit_files(false, 0);
    CU_ASSERT_EQUAL(scratch_count(), 1);
    CU_ASSERT_EQUAL(load_device(&same, path), PEP_OK);
    CU_ASSERT(same);
    CU_ASSERT_EQUAL_FATAL(mkdir(scratch_path("folder"), 0700), 0);
    CU_ASSERT_EQUAL(pep_device_replace(&error, scratch_path("folder"), &device), PEP_CANNOT_WRITE);
    CU_ASSERT_PTR_NOT_NULL(strstr(error.text, "folder"));
    CU_ASSERT_EQUAL(scratch_count(), 2);
    device.previous_count = PEP_PREVIOUS_MAX + 1;
    CU_ASSERT_EQUAL(pep_device_replace(&error, path, &device), PEP_BAD_ARGUMENT);
    CU_ASSERT_EQUAL(pep_device_save(&error, scratch_path("other"), &device), PEP_BAD_ARGUMENT);
    CU_ASSERT_EQUAL(scratch_count(), 2);
    scratch_end();
}

/* Several processes replace one file at once: each succeeds, and what is there is whole. */
static void test_replace_at_once(void)
{
    enum { WRITERS = 4, ROUNDS = 200 };
    pid_t children[WRITERS];
    uint8_t bytes[4096];
    const char *path;
    bool same;
    pep_device device = rotated_device();
    begin(bytes, sizeof bytes, &path, &types[0]);
    CU_ASSERT_EQUAL(pep_device_replace(&error, path, &device), PEP_OK);
    for (int i = 0; i < WRITERS; i++) {
        children[i] = fork();
        if (children[i] != 0)
            continue;
        bool right = true;
        for (int round = 0; round < ROUNDS; round++)
            right = pep_device_replace(&error, path, &device) == PEP_OK && load_rotated(&same, path) == PEP_OK &&
                    same && right;
        _exit(right ? 0 : 1);
    }
    for (int i = 0; i < WRITERS; i++) {
        int status = -1;
        CU_ASSERT_EQUAL(waitpid(children[i], &status, 0), children[i]);
        CU_ASSERT_EQUAL(status, 0);
    }
    CU_ASSERT_EQUAL(scratch_count(), 1);
    scratch_end();
}

static void test_epoch_contents(void)
{
    scratch_begin();
    for (size_t i = 0; i < COUNT(epochs); i++) {
        pep_epoch epoch;
        CU_ASSERT_EQUAL(pep_epoch_load(&epoch, &error, armored("PEP EPOCH KEY", &epochs[i])),
                        epochs[i].good ? PEP_OK : PEP_BAD_FILE);
        CU_ASSERT_EQUAL(sodium_is_zero(epoch.key, sizeof epoch.key), !epochs[i].good);
        pep_epoch_wipe(&epoch);
    }
    scratch_end();
}

static void test_start(void)
{
    CU_ASSERT_EQUAL(pep_init(), PEP_OK);
    CU_ASSERT_EQUAL(pep_init(), PEP_OK);
}

static const unit_test tests[] = {
    {"the library starts, twice", test_start},
    {"kids", test_kids},
    {"devices: from secrets", test_device_from_secrets},
    {"devices: new", test_device_new},
    {"devices: wiped", test_device_wipe},
    {"epochs: id", test_epoch_id},
    {"epochs: the id commits to key, owner and scope", test_epoch_id_commits},
    {"epochs: new", test_epoch_new},
    {"files: saved once, with their mode", test_save},
    {"files: the name is taken", test_save_taken},
    {"files: nowhere to write", test_save_impossible},
    {"files: secrets that others may read", test_modes},
    {"files: kinds", test_kinds_of_files},
    {"files: cut short at each byte, and too long", test_lengths},
    {"files: junk behind the content", test_junk},
    {"files: changed characters", test_changed_characters},
    {"files: of another kind", test_wrong_label},
    {"files: contents of a device", test_device_contents},
    {"files: contents of a device's former keys", test_previous_contents},
    {"files: contents of an epoch", test_epoch_contents},
    {"devices: renewed", test_renew},
    {"devices: replaced", test_replace},
    {"devices: cannot be replaced", test_replace_impossible},
    {"devices: replaced by several at once", test_replace_at_once},
};

UNIT_MAIN("keys", tests)
