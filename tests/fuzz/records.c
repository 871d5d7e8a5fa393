/*
 * Records, statements, certificates, proofs and entries, key files and epoch files. The first byte says what the others
 * are: an object's bytes, a file as it is, or what stands in a file, which is then armored here, so that mutations get
 * behind base64 and checksum.
 */
#include "tests/fuzz/fuzz.h"

#include <sodium.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "envelope/files.h"
#include "envelope/signed.h"
#include "envelope/structures.h"
#include "tests/vectors/parties.h"

enum {
    RECORD,
    PUB_FILE,
    KEY_FILE,
    EPOCH_FILE,
    KEY_CONTENT,
    EPOCH_CONTENT,
    STATEMENT,
    CERTIFICATE,
    ENTRY,
    PROOF,
    KINDS
};

static uint8_t authorities[2][PEP_SIGN_PUBLIC_BYTES];

#define AUTHORITIES ((const uint8_t(*)[PEP_SIGN_PUBLIC_BYTES])authorities)

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    world_make();
    parties_make();
    for (size_t i = 0; i < PARTIES; i++)
        mutate_know(&parties[i].device);
    memcpy(authorities[0], parties[AUTHORITY_1].device.sign_public, sizeof authorities[0]);
    memcpy(authorities[1], parties[AUTHORITY_2].device.sign_public, sizeof authorities[1]);
    return 0;
}

/* Changes the record within a rotation, and signs both again. Returns the length; 0: there is none. */
static size_t mutate_inner(uint8_t *data, size_t n, size_t cap, unsigned seed)
{
    static uint8_t record[8192];
    static uint8_t payload[8192];
    pep_writer w = {.p = payload, .cap = sizeof payload};
    signed_object object;
    pep_map map;
    pep_view inner;
    size_t made;
    if (!parse_signed(&object, (pep_view){data, n}))
        return 0;
    pep_reader r = pep_reader_of(object.payload);
    if (!pep_map_begin(&r, &map) || !pep_map_expect(&r, &map, 1) || !pep_read_bytes(&r, &inner))
        return 0;
    memcpy(record, inner.p, inner.n);
    pep_write_map(&w, map.left + 1);
    pep_write_uint(&w, 1);
    pep_write_bytes(&w, record, mutate_sign1(record, inner.n, sizeof record / 2, seed));
    pep_write_raw(&w, r.p, (size_t)(r.end - r.p));
    for (size_t i = 0; i < PARTIES; i++)
        if (memcmp(parties[i].device.sign_kid, object.kid, PEP_KID_BYTES) == 0 && !w.full &&
            sign_object(data, &made, cap, TYP_ROTATION, parties[i].device.sign_secret, &w) == PEP_OK)
            return made;
    return 0;
}

static size_t mutate_statement(uint8_t *data, size_t n, size_t cap, unsigned seed)
{
    size_t made = seed % 3 == 0 ? mutate_inner(data, n, cap, seed / 3) : 0;
    return made > 0 ? made : mutate_sign1(data, n, cap, seed / 3);
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t n, size_t cap, unsigned seed)
{
    unsigned kind = n < 2 ? EPOCH_FILE : data[0] % KINDS;
    bool file = kind == PUB_FILE || kind == KEY_FILE || kind == EPOCH_FILE;
    if (file || seed % 16 == 0)
        return LLVMFuzzerMutate(data, n, cap);
    if (kind == STATEMENT)
        return 1 + mutate_statement(data + 1, n - 1, cap - 1, seed / 16);
    bool signed_one = kind == RECORD || kind == CERTIFICATE || kind == PROOF;
    return 1 + (signed_one ? mutate_sign1 : mutate_cbor)(data + 1, n - 1, cap - 1, seed / 16);
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
    pep_reason reason = pep_record_load(&again, &error, path);
    invariant(r.has_previous == (r.version > 1), "every version but the first follows another");
    invariant(reason == (r.version == 1 ? PEP_OK : PEP_BAD_FILE), "a first record, and no later one, stands alone");
    invariant(reason != PEP_OK || same_record(&r, &again), "what is saved can be loaded");
    unlink(path);
}

/* ---- statements ---- */

static const pep_device *party_with(const uint8_t kid[PEP_KID_BYTES])
{
    for (size_t i = 0; i < PARTIES; i++)
        if (memcmp(parties[i].device.sign_kid, kid, PEP_KID_BYTES) == 0)
            return &parties[i].device;
    return NULL;
}

static void check_statement(const pep_statement *s, pep_view bytes)
{
    uint8_t hash[PEP_SHA256_BYTES];
    bool ends = !sodium_is_zero(s->old_kid, PEP_KID_BYTES);
    crypto_hash_sha256(hash, bytes.p, bytes.n);
    invariant(bytes.n <= PEP_STATEMENT_BYTES_MAX && memcmp(hash, s->hash, sizeof hash) == 0, "the hash is the whole's");
    invariant(reference_cbor(bytes, 1, NESTING_MAX) && reference_cbor(s->protected_bytes, 1, NESTING_MAX) &&
                  reference_cbor(s->payload, 1, NESTING_MAX),
              "a statement is deterministic CBOR");
    invariant(pep_id_valid(s->id, strlen(s->id)) && s->cutoff <= PEP_SEQ_MAX, "it is in range");
    invariant((s->kind == PEP_STATEMENT_RECORD) == (s->version == 1), "a record is the first, and nothing else is");
    invariant(s->kind != PEP_STATEMENT_RECORD || !ends, "a first record ends nothing");
    invariant(s->kind != PEP_STATEMENT_ROTATION || ends == (s->cutoff > 0), "what ends has a cutoff");
    invariant(s->kind != PEP_STATEMENT_REVOCATION || ends, "a revocation ends a key");
    if (s->kind == PEP_STATEMENT_REVOCATION)
        return;
    check_keys(&s->record);
    invariant(strcmp(s->id, s->record.id) == 0 && s->version == s->record.version &&
                  memcmp(s->old_kid, s->record.sign_kid, PEP_KID_BYTES) != 0,
              "it is about its record, whose key does not end");
}

/* The head that this one says it follows, where we have the key of it. */
static bool head_before(pep_head *out, const pep_statement *s)
{
    bool ends = !sodium_is_zero(s->old_kid, PEP_KID_BYTES);
    const pep_device *d = s->version == 1 ? NULL : party_with(ends ? s->old_kid : s->record.sign_kid);
    *out = (pep_head){.version = s->version - 1};
    if (d == NULL)
        return false;
    memcpy(out->id, s->id, sizeof out->id);
    memcpy(out->hash, s->previous, sizeof out->hash);
    memcpy(out->sign_kid, d->sign_kid, PEP_KID_BYTES);
    memcpy(out->sign_public, d->sign_public, PEP_SIGN_PUBLIC_BYTES);
    return true;
}

static bool same_head(const pep_head *a, const pep_head *b)
{
    return strcmp(a->id, b->id) == 0 && a->version == b->version && a->revoked == b->revoked &&
           memcmp(a->hash, b->hash, sizeof a->hash) == 0 && memcmp(a->sign_kid, b->sign_kid, PEP_KID_BYTES) == 0 &&
           memcmp(a->sign_public, b->sign_public, PEP_SIGN_PUBLIC_BYTES) == 0;
}

static bool may_sign(const pep_statement *s, const pep_device *signer, const pep_head *head)
{
    return memcmp(signer->sign_kid, head->sign_kid, PEP_KID_BYTES) == 0 || signer == &parties[AUTHORITY_1].device ||
           signer == &parties[AUTHORITY_2].device ||
           (signer == &parties[ADMIN].device && s->kind == PEP_STATEMENT_REVOCATION);
}

/* There is one encoding of what it says: signing that again gives the same bytes. */
static void check_again(const pep_statement *s, const pep_head *head, const pep_device *signer, pep_view bytes)
{
    uint8_t again[PEP_STATEMENT_BYTES_MAX];
    size_t n;
    pep_reader r = pep_reader_of(s->payload);
    pep_map map;
    pep_view record = {NULL, 0};
    pep_reason reason;
    if (s->kind == PEP_STATEMENT_REVOCATION) {
        reason = pep_revocation_sign(again, &n, signer->sign_secret, head, s->issued_s, s->cutoff);
    } else {
        invariant(pep_map_begin(&r, &map) && pep_map_expect(&r, &map, 1) && pep_read_bytes(&r, &record), "it has one");
        reason = pep_rotation_sign(again, &n, signer->sign_secret, head, record.p, record.n, s->cutoff);
    }
    invariant(reason == PEP_OK && n == bytes.n && memcmp(again, bytes.p, n) == 0, "there is one encoding of it");
}

static void check_followed(const pep_statement *s, pep_view bytes)
{
    const pep_trust trust = {
        .authorities = AUTHORITIES, .authority_count = 2, .admin_public = parties[ADMIN].device.sign_public};
    const pep_device *signer = party_with(s->signer_kid);
    pep_head before;
    actor by = {0};
    if (!head_before(&before, s))
        return;
    pep_head head = before;
    pep_reason reason = pep_head_advance(&head, NULL, s, &trust);
    if (reason != PEP_OK) {
        invariant(same_head(&head, &before), "a refusal changes nothing");
        return;
    }
    invariant(signer != NULL && may_sign(s, signer, &before), "who signed it may do that");
    by.device = *signer;
    invariant(reference_signed(&by, s->protected_bytes, s->payload, s->signature), "it is signed");
    check_again(s, &before, signer, bytes);
    before.hash[bytes.n % PEP_SHA256_BYTES] ^= 1;
    invariant(pep_head_advance(&before, NULL, s, &trust) == PEP_BROKEN_CHAIN, "it follows one statement alone");
}

static void try_statement(pep_view bytes)
{
    pep_statement s;
    if (pep_statement_parse(&s, bytes.p, bytes.n) != PEP_OK)
        return;
    check_statement(&s, bytes);
    check_followed(&s, bytes);
}

/* ---- certificates, entries, proofs ---- */

static void try_certificate(pep_view bytes)
{
    pep_certificate c;
    pep_authority a;
    signed_object object;
    uint8_t again[PEP_CERTIFICATE_BYTES_MAX];
    size_t n;
    if (pep_certificate_parse(&c, bytes.p, bytes.n, AUTHORITIES, 2) != PEP_OK)
        return;
    invariant(parse_signed(&object, bytes), "a certificate is a signed object");
    const pep_device *signer = party_with(object.kid);
    invariant(signer == &parties[AUTHORITY_1].device || signer == &parties[AUTHORITY_2].device, "it is an authority's");
    memcpy(a.sign_public, signer->sign_public, sizeof a.sign_public);
    memcpy(a.sign_secret, signer->sign_secret, sizeof a.sign_secret);
    invariant(pep_certificate_sign(again, &n, &a, &c) == PEP_OK && n == bytes.n && memcmp(again, bytes.p, n) == 0,
              "there is one encoding of it");
    invariant(pep_certificate_covers(&c, c.id, c.kid, c.gate, c.not_after_s) == PEP_OK &&
                  pep_certificate_covers(&c, c.id, c.kid, !c.gate, c.not_after_s) == PEP_NOT_CERTIFIED,
              "it covers what it says");
}

static void try_entry(pep_view bytes)
{
    pep_entry e;
    uint8_t again[PEP_ENTRY_BYTES_MAX];
    size_t n;
    if (pep_entry_parse(&e, bytes.p, bytes.n) != PEP_OK)
        return;
    invariant(pep_entry_encode(again, &n, &e) == PEP_OK && n == bytes.n && memcmp(again, bytes.p, n) == 0,
              "there is one encoding of it");
    try_statement(e.statement);
    if (e.certificate.p != NULL)
        try_certificate(e.certificate);
}

static void try_proof(pep_view bytes)
{
    uint8_t hash[PEP_SHA256_BYTES];
    uint8_t kid[PEP_KID_BYTES];
    signed_object object;
    actor by = {0};
    crypto_hash_sha256(hash, (const uint8_t *)"a record", 8); /* as in the seeds */
    if (pep_token_verify(kid, bytes.p, bytes.n, hash) != PEP_OK)
        return;
    invariant(parse_signed(&object, bytes) && memcmp(kid, object.kid, PEP_KID_BYTES) == 0, "the kid is the signer's");
    memcpy(by.device.sign_public, object.payload.p + object.payload.n - PEP_SIGN_PUBLIC_BYTES, PEP_SIGN_PUBLIC_BYTES);
    invariant(reference_signed(&by, object.protected_bytes, object.payload, object.signature), "it is signed");
    hash[0] ^= 1;
    invariant(pep_token_verify(kid, bytes.p, bytes.n, hash) == PEP_BAD_TOKEN, "it is for one record alone");
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

static bool same_keys(const pep_device *a, const pep_device *b)
{
    return strcmp(a->id, b->id) == 0 && memcmp(a->sign_kid, b->sign_kid, sizeof a->sign_kid) == 0 &&
           memcmp(a->sign_public, b->sign_public, sizeof a->sign_public) == 0 &&
           memcmp(a->sign_secret, b->sign_secret, sizeof a->sign_secret) == 0 &&
           memcmp(a->agree_kid, b->agree_kid, sizeof a->agree_kid) == 0 &&
           memcmp(a->agree_public, b->agree_public, sizeof a->agree_public) == 0 &&
           memcmp(a->agree_secret, b->agree_secret, sizeof a->agree_secret) == 0 &&
           a->previous_count == b->previous_count && memcmp(a->previous, b->previous, sizeof a->previous) == 0;
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
    pep_reason derived = pep_device_from_secrets(&again, d.id, d.sign_secret, d.agree_secret);
    again.previous_count = d.previous_count;
    memcpy(again.previous, d.previous, sizeof again.previous);
    invariant(derived == PEP_OK && same_keys(&d, &again), "all keys are those of the secrets");
    invariant(d.previous_count <= PEP_PREVIOUS_MAX, "there is room for the former keys");
    const char *copy = fuzz_path("saved.key");
    must(pep_device_save(&error, copy, &d) == PEP_OK, error.text);
    invariant(pep_device_load(&again, &error, copy) == PEP_OK && same_keys(&d, &again), "what is saved can be loaded");
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

static void try_file(unsigned kind, pep_view rest)
{
    const char *path = fuzz_path("file");
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
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    pep_view rest = {data, n};
    unsigned kind = take_byte(&rest) % KINDS;
    if (kind == RECORD)
        try_record(rest);
    else if (kind == STATEMENT)
        try_statement(rest);
    else if (kind == CERTIFICATE)
        try_certificate(rest);
    else if (kind == ENTRY)
        try_entry(rest);
    else if (kind == PROOF)
        try_proof(rest);
    else
        try_file(kind, rest);
    return 0;
}
