/*
 * Records, key files and epoch files. The first byte says what the others are: a record's bytes, a file as it is, or
 * what stands in a file, which is then armored here, so that mutations get behind base64 and checksum.
 */
#include "tests/fuzz/fuzz.h"

#include <sodium.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "envelope/files.h"
#include "envelope/structures.h"

enum { RECORD, PUB_FILE, KEY_FILE, EPOCH_FILE, KEY_CONTENT, EPOCH_CONTENT, KINDS };

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    world_make();
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t n, size_t cap, unsigned seed)
{
    unsigned kind = n < 2 ? EPOCH_FILE : data[0] % KINDS;
    bool file = kind == PUB_FILE || kind == KEY_FILE || kind == EPOCH_FILE;
    if (file || seed % 16 == 0)
        return LLVMFuzzerMutate(data, n, cap);
    return 1 + (kind == RECORD ? mutate_sign1 : mutate_cbor)(data + 1, n - 1, cap - 1, seed / 16);
}

/* ---- records ---- */

/* Header, payload and signature of what was parsed already. */
static void take_apart(pep_view *header, pep_view *payload, const uint8_t **signature, pep_view bytes)
{
    pep_reader r = pep_reader_of(bytes);
    uint64_t count;
    *header = *payload = (pep_view){NULL, 0};
    *signature = NULL;
    invariant(pep_read_tag(&r, TAG_SIGN1) && pep_read_array(&r, &count) && pep_read_bytes(&r, header) &&
                  pep_read_skip(&r, 1) && pep_read_bytes(&r, payload) &&
                  pep_read_fixed(&r, signature, PEP_SIGNATURE_BYTES) && pep_read_end(&r),
              "a record is a COSE_Sign1");
}

static void check_keys(const pep_record *r)
{
    uint8_t kid[PEP_KID_BYTES];
    pep_kid_sign(kid, r->sign_public);
    invariant(memcmp(kid, r->sign_kid, PEP_KID_BYTES) == 0, "the signing kid is that of the key");
    invariant(r->agree_count >= 1 && r->agree_count <= PEP_AGREE_MAX, "there is a key to encrypt to");
    for (size_t i = 0; i < r->agree_count; i++) {
        pep_kid_agree(kid, r->agree[i].key);
        invariant(memcmp(kid, r->agree[i].kid, PEP_KID_BYTES) == 0, "an agreement kid is that of its key");
    }
}

static void check_record(const pep_record *r, pep_view bytes)
{
    pep_view header;
    pep_view payload;
    const uint8_t *signature;
    actor by = {0};
    take_apart(&header, &payload, &signature, bytes);
    invariant(bytes.n <= PEP_RECORD_BYTES_MAX, "a record is short");
    invariant(reference_cbor(bytes, 1, NESTING_MAX) && reference_cbor(header, 1, NESTING_MAX) &&
                  reference_cbor(payload, 1, NESTING_MAX),
              "a record is deterministic CBOR");
    invariant(pep_id_valid(r->id, strlen(r->id)) && r->version >= 1 && r->not_after_s > r->issued_s, "it is in range");
    check_keys(r);
    memcpy(by.device.sign_public, r->sign_public, PEP_SIGN_PUBLIC_BYTES);
    invariant(reference_signed(&by, header, payload, signature), "it is signed with the key that it states");
}

/* One bit of header, payload or signature. */
static void check_altered(pep_view bytes)
{
    uint8_t altered[PEP_RECORD_BYTES_MAX];
    pep_record r;
    memcpy(altered, bytes.p, bytes.n);
    altered[bytes.p[bytes.n - 1] * (size_t)7 % bytes.n] ^= (uint8_t)(1U << bytes.n % 8);
    invariant(pep_record_parse(&r, altered, bytes.n) != PEP_OK, "an altered record is none");
}

static bool same_record(const pep_record *a, const pep_record *b)
{
    return strcmp(a->id, b->id) == 0 && a->version == b->version && a->issued_s == b->issued_s &&
           a->not_after_s == b->not_after_s && memcmp(a->sign_kid, b->sign_kid, PEP_KID_BYTES) == 0 &&
           a->agree_count == b->agree_count && memcmp(a->agree[0].key, b->agree[0].key, PEP_AGREE_PUBLIC_BYTES) == 0;
}

static void try_record(pep_view bytes)
{
    pep_record r;
    pep_record again;
    pep_error error;
    if (pep_record_parse(&r, bytes.p, bytes.n) != PEP_OK)
        return;
    check_record(&r, bytes);
    check_altered(bytes);
    const char *path = fuzz_path("saved.pub");
    must(pep_record_save(&error, path, bytes.p, bytes.n) == PEP_OK, error.text);
    invariant(pep_record_load(&again, &error, path) == PEP_OK && same_record(&r, &again),
              "what is saved can be loaded");
    unlink(path);
}

/* ---- files ---- */

/* A failure says one line for a person. */
static bool loaded(pep_reason reason, const pep_error *error)
{
    invariant(reason == PEP_OK || (error->text[0] != '\0' && strchr(error->text, '\n') == NULL),
              "it says why in a line");
    return reason == PEP_OK;
}

static void try_pub_file(const char *path)
{
    pep_record r;
    pep_error error = {{0}};
    if (loaded(pep_record_load(&r, &error, path), &error))
        check_keys(&r);
}

static void try_key_file(const char *path)
{
    pep_device d;
    pep_device again;
    pep_error error = {{0}};
    if (!loaded(pep_device_load(&d, &error, path), &error)) {
        invariant(sodium_is_zero((const uint8_t *)&d, sizeof d), "no secret is left where loading fails");
        return;
    }
    invariant(pep_device_from_secrets(&again, d.id, d.sign_secret, d.agree_secret) == PEP_OK &&
                  memcmp(&d, &again, sizeof d) == 0,
              "all keys are those of the secrets");
    const char *copy = fuzz_path("saved.key");
    must(pep_device_save(&error, copy, &d) == PEP_OK, error.text);
    invariant(pep_device_load(&again, &error, copy) == PEP_OK && memcmp(&d, &again, sizeof d) == 0,
              "what is saved can be loaded");
    unlink(copy);
    must(chmod(path, 0640) == 0, path);
    invariant(pep_device_load(&again, &error, path) == PEP_UNSAFE_FILE, "a secret that others can read is refused");
}

static void try_epoch_file(const char *path)
{
    pep_epoch e;
    pep_epoch again;
    pep_error error = {{0}};
    if (!loaded(pep_epoch_load(&e, &error, path), &error))
        return;
    invariant(pep_filter_valid(e.scope, strlen(e.scope)) && strlen(e.scope) <= PEP_SCOPE_MAX, "the scope is a filter");
    const char *copy = fuzz_path("saved.epoch");
    must(pep_epoch_save(&error, copy, &e) == PEP_OK, error.text);
    invariant(pep_epoch_load(&again, &error, copy) == PEP_OK && strcmp(e.scope, again.scope) == 0 &&
                  memcmp(e.epoch_id, again.epoch_id, PEP_KID_BYTES) == 0 &&
                  memcmp(e.key, again.key, PEP_EPOCH_KEY_BYTES) == 0,
              "what is saved can be loaded");
    unlink(copy);
    pep_epoch_wipe(&e);
    pep_epoch_wipe(&again);
}

/* As the product does it, checksum included. */
static void armor(const char *path, const char *label, pep_view content)
{
    pep_error error;
    if (content.n > ARMOR_BYTES_MAX - 8)
        content.n = ARMOR_BYTES_MAX - 8;
    must(file_create_armored(&error, path, label, FILE_SECRET, content.p, content.n) == PEP_OK, error.text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    pep_view rest = {data, n};
    unsigned kind = take_byte(&rest) % KINDS;
    const char *path = fuzz_path("file");
    if (kind == RECORD) {
        try_record(rest);
        return 0;
    }
    if (kind == KEY_CONTENT || kind == EPOCH_CONTENT)
        armor(path, kind == KEY_CONTENT ? "PEP DEVICE KEY" : "PEP EPOCH KEY", rest);
    else
        fuzz_write(path, rest.p, rest.n, 0600);
    if (kind == PUB_FILE)
        try_pub_file(path);
    else if (kind == KEY_FILE || kind == KEY_CONTENT)
        try_key_file(path);
    else
        try_epoch_file(path);
    unlink(path);
    return 0;
}
