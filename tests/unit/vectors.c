/* tests/vectors/envelopes.json through our own entry points: every envelope, as a receiver and as a gate judge it. */
#include "gate/gate.h"

#include <cjson/cJSON.h>
#include <sodium.h>

#include "envelope/structures.h"
#include "scratch.h"
#include "unit.h"

#define DEVICES_MAX 16

static cJSON *file;
static pep_device devices[DEVICES_MAX];
static size_t device_count;
static pep_epoch epochs[DEVICES_MAX];
static size_t epoch_count;
static pep_keyring *keyring;
static signers *known;                     /* the same, as a gate has them */
static unsigned said[PEP_CANNOT_OPEN + 1]; /* how many vectors were judged so */
static const char *current = "";           /* name of the vector, for people */

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

static const cJSON *optional(const cJSON *object, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(object, key);
}

static const char *text_of(const cJSON *object, const char *key)
{
    const char *text = cJSON_GetStringValue(member(object, key));
    CU_ASSERT_PTR_NOT_NULL_FATAL(text);
    return text == NULL ? "" : text;
}

static uint64_t number_of(const cJSON *object, const char *key)
{
    const cJSON *item = member(object, key);
    CU_ASSERT_TRUE_FATAL(cJSON_IsNumber(item) && item->valuedouble <= (double)PEP_SEQ_MAX);
    return (uint64_t)item->valuedouble;
}

static bool bool_of(const cJSON *object, const char *key)
{
    return cJSON_IsTrue(member(object, key));
}

/* Heap of exactly that size, so that a sanitizer sees a read beyond it. Free `p`. */
typedef struct {
    uint8_t *p;
    size_t n;
} heap;

static heap hex_of(const cJSON *object, const char *key)
{
    const char *text = text_of(object, key);
    heap h = {.n = strlen(text) / 2};
    size_t n;
    h.p = malloc(h.n == 0 ? 1 : h.n);
    if (h.p == NULL)
        abort();
    CU_ASSERT_EQUAL_FATAL(sodium_hex2bin(h.p, h.n, text, strlen(text), NULL, &n, NULL), 0);
    CU_ASSERT_EQUAL_FATAL(n, h.n);
    return h;
}

static bool is_hex(const cJSON *object, const char *key, const uint8_t *p, size_t n)
{
    heap h = hex_of(object, key);
    bool same = p != NULL && h.n == n && memcmp(h.p, p, n) == 0;
    free(h.p);
    return same;
}

/* Present with these bytes, or absent on both sides. */
static bool is_optional_hex(const cJSON *object, const char *key, const uint8_t *p, size_t n)
{
    return optional(object, key) == NULL ? p == NULL : is_hex(object, key, p, n);
}

static bool is_optional_text(const cJSON *object, const char *key, pep_view view)
{
    const cJSON *item = optional(object, key);
    if (item == NULL)
        return view.p == NULL;
    const char *text = cJSON_GetStringValue(item);
    return view.p != NULL && strlen(text) == view.n && memcmp(text, view.p, view.n) == 0;
}

static bool is_optional_number(const cJSON *object, const char *key, bool has, uint64_t number)
{
    return optional(object, key) == NULL ? !has : has && number_of(object, key) == number;
}

static pep_reason reason_of(const cJSON *object)
{
    const char *name = text_of(object, "expect");
    for (int i = PEP_OK; i <= PEP_CANNOT_OPEN; i++)
        if (strcmp(pep_reason_name((pep_reason)i), name) == 0)
            return (pep_reason)i;
    printf("\n    %s: %s is no reason\n", current, name);
    CU_FAIL_FATAL("a reason that is none");
    return PEP_OK;
}

static bool is_reason(const cJSON *judgement, pep_reason reason)
{
    bool same = reason == reason_of(judgement);
    if (!same)
        printf("\n    %s: said %s, expected %s\n", current, pep_reason_name(reason), text_of(judgement, "expect"));
    CU_ASSERT_TRUE(same);
    said[reason_of(judgement)]++;
    return same;
}

/* ---- what the vectors are about ---- */

static void load_device(const cJSON *item)
{
    current = text_of(item, "id");
    pep_device *d = &devices[device_count++];
    CU_ASSERT_TRUE_FATAL(device_count <= DEVICES_MAX);
    heap seed = hex_of(item, "sign_seed");
    heap secret = hex_of(item, "agree_secret");
    heap record = hex_of(item, "record");
    CU_ASSERT_EQUAL_FATAL(seed.n + secret.n, 64);
    CU_ASSERT_EQUAL_FATAL(pep_device_from_secrets(d, current, seed.p, secret.p), PEP_OK);
    if (bool_of(item, "enrolled")) {
        char name[PEP_ID_MAX + 16];
        pep_error error;
        snprintf(name, sizeof name, "records/%s.pub", current);
        CU_ASSERT_EQUAL_FATAL(pep_record_save(&error, scratch_path(name), record.p, record.n), PEP_OK);
    }
    free(seed.p);
    free(secret.p);
    free(record.p);
}

static void load_epoch(const cJSON *item)
{
    if (!bool_of(item, "known"))
        return;
    heap key = hex_of(item, "key");
    heap owner = hex_of(item, "owner_kid");
    CU_ASSERT_TRUE_FATAL(epoch_count < DEVICES_MAX && key.n == PEP_EPOCH_KEY_BYTES && owner.n == PEP_KID_BYTES);
    CU_ASSERT_EQUAL_FATAL(pep_epoch_from_key(&epochs[epoch_count++], key.p, owner.p, text_of(item, "scope")), PEP_OK);
    free(key.p);
    free(owner.p);
}

static void write_rule(FILE *f, const cJSON *rule, bool last)
{
    fprintf(f, "{ filter = \"%s\"; mode = \"%s\"; payload = \"%s\"; signers = [ \"%s\" ]; record = \"%s\";",
            text_of(rule, "filter"), text_of(rule, "mode"), text_of(rule, "payload"), text_of(rule, "signer"),
            text_of(rule, "record"));
    fprintf(f, " prefix = \"%s\"; max_size = \"%llu\";", text_of(rule, "prefix"),
            (unsigned long long)number_of(rule, "max_size"));
    if (number_of(rule, "max_age_us") > 0)
        fprintf(f, " max_age = \"%llums\";", (unsigned long long)number_of(rule, "max_age_us") / 1000);
    if (number_of(rule, "will_max_age_us") > 0)
        fprintf(f, " will_max_age = \"%llums\";", (unsigned long long)number_of(rule, "will_max_age_us") / 1000);
    fprintf(f, " }%s\n", last ? "" : ",");
}

static void write_policy(const cJSON *item)
{
    char name[64];
    const cJSON *rule;
    snprintf(name, sizeof name, "%s.conf", text_of(item, "name"));
    FILE *f = fopen(scratch_path(name), "w");
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    fprintf(f, "bind = \"%s\"; relays = [ \"%s\" ]; max_skew = \"%llums\";\ntopics = (\n", text_of(item, "bind"),
            text_of(item, "relay"), (unsigned long long)number_of(item, "max_skew_us") / 1000);
    cJSON_ArrayForEach(rule, member(item, "topics")) write_rule(f, rule, rule->next == NULL);
    fputs(");\n", f);
    CU_ASSERT_EQUAL_FATAL(fclose(f), 0);
}

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
    const cJSON *item;
    pep_error error;
    CU_ASSERT_EQUAL_FATAL(pep_init(), PEP_OK);
    scratch_begin();
    CU_ASSERT_EQUAL_FATAL(mkdir(scratch_path("records"), 0700), 0);
    char *text = read_whole(PEP_VECTORS "/envelopes.json");
    file = cJSON_Parse(text);
    free(text);
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    CU_ASSERT_STRING_EQUAL_FATAL(text_of(file, "format"), "pep vectors 1");
    cJSON_ArrayForEach(item, member(file, "devices")) load_device(item);
    cJSON_ArrayForEach(item, member(file, "epochs")) load_epoch(item);
    cJSON_ArrayForEach(item, member(file, "policies")) write_policy(item);
    CU_ASSERT_EQUAL_FATAL(pep_keyring_load(&keyring, &error, scratch_path("records")), PEP_OK);
    known = signers_new();
    CU_ASSERT_TRUE_FATAL(known != NULL && signers_load_folder(known, &error, scratch_path("records")));
}

/* ---- devices, epochs, records ---- */

static void test_devices(void)
{
    const cJSON *item;
    size_t i = 0;
    cJSON_ArrayForEach(item, member(file, "devices"))
    {
        const pep_device *d = &devices[i++];
        pep_record r;
        heap bytes = hex_of(item, "record");
        current = d->id;
        CHECK(is_hex(item, "sign_public", d->sign_public, sizeof d->sign_public));
        CHECK(is_hex(item, "sign_kid", d->sign_kid, sizeof d->sign_kid));
        CHECK(is_hex(item, "agree_public", d->agree_public, sizeof d->agree_public));
        CHECK(is_hex(item, "agree_kid", d->agree_kid, sizeof d->agree_kid));
        CHECK(pep_record_parse(&r, bytes.p, bytes.n) == PEP_OK && strcmp(r.id, d->id) == 0 && r.version == 1);
        CHECK(r.issued_s == number_of(item, "issued_s") && r.not_after_s == number_of(item, "not_after_s"));
        CHECK(memcmp(r.sign_public, d->sign_public, sizeof r.sign_public) == 0 && r.agree_count == 1);
        CHECK(memcmp(r.agree[0].key, d->agree_public, sizeof r.agree[0].key) == 0);
        free(bytes.p);
    }
    CU_ASSERT_EQUAL(i, device_count);
}

static void test_epochs(void)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, member(file, "epochs"))
    {
        uint8_t hash[crypto_hash_sha256_BYTES];
        pep_epoch e;
        heap input = hex_of(item, "id_input");
        heap key = hex_of(item, "key");
        heap owner = hex_of(item, "owner_kid");
        current = text_of(item, "name");
        crypto_hash_sha256(hash, input.p, input.n);
        CHECK(is_hex(item, "id", hash, PEP_KID_BYTES));
        CHECK(pep_epoch_from_key(&e, key.p, owner.p, text_of(item, "scope")) == PEP_OK);
        CHECK(is_hex(item, "id", e.epoch_id, PEP_KID_BYTES));
        pep_epoch_wipe(&e);
        free(input.p);
        free(key.p);
        free(owner.p);
    }
}

static void test_records(void)
{
    const cJSON *item;
    unsigned valid = 0;
    cJSON_ArrayForEach(item, member(file, "records"))
    {
        pep_record r;
        heap bytes = hex_of(item, "record");
        current = text_of(item, "name");
        valid += is_reason(item, pep_record_parse(&r, bytes.p, bytes.n)) && reason_of(item) == PEP_OK;
        free(bytes.p);
    }
    CU_ASSERT_TRUE(valid > 0);
}

/* ---- receivers ---- */

static const pep_device *device_of(const char *id)
{
    for (size_t i = 0; i < device_count; i++)
        if (strcmp(devices[i].id, id) == 0)
            return &devices[i];
    CU_FAIL_FATAL("no such device");
    return NULL;
}

static void check_fields(const cJSON *fields, const pep_envelope *e)
{
    static const char *const modes[] = {"signed", "direct", "epoch"};
    CHECK(strcmp(text_of(fields, "mode"), modes[e->mode]) == 0);
    CHECK(is_hex(fields, "signer_kid", e->kid, PEP_KID_BYTES));
    CHECK(number_of(fields, "seq") == e->seq);
    CHECK(number_of(fields, "flags") == e->flags);
    CHECK(is_optional_hex(fields, "facts", e->facts.p, e->facts.n));
    CHECK(is_optional_hex(fields, "to", e->to, PEP_KID_BYTES));
    CHECK(is_optional_number(fields, "exp_s", e->exp_s > 0, e->exp_s));
    CHECK(is_optional_hex(fields, "audience", e->audience, PEP_KID_BYTES));
}

static void check_structures(const cJSON *vector, const pep_envelope *e)
{
    uint8_t bytes[4096];
    uint8_t nonce[12];
    pep_writer w = {.p = bytes, .cap = sizeof bytes};
    write_sig_structure(&w, e->protected_bytes, e->payload);
    CHECK(!w.full && is_hex(vector, "sig_structure", bytes, w.n));
    if (e->mode == PEP_MODE_SIGNED)
        return;
    w.n = 0;
    write_enc_structure(&w, e->inner_protected, e->protected_bytes);
    CHECK(!w.full && is_hex(vector, "enc_structure", bytes, w.n));
    if (e->mode != PEP_MODE_EPOCH)
        return;
    epoch_nonce(nonce, e->seq, e->nonce.p);
    CHECK(is_hex(vector, "nonce", nonce, sizeof nonce));
}

static void check_meta(const cJSON *meta, const pep_meta *m)
{
    CHECK(is_optional_text(meta, "content_type", m->content_type));
    CHECK(is_optional_number(meta, "content_format", m->has_content_format, m->content_format));
    CHECK(is_optional_hex(meta, "correlation", m->correlation.p, m->correlation.n));
    CHECK(is_optional_text(meta, "reply_topic", m->reply_topic));
    CHECK(is_optional_number(meta, "content_coding", m->has_content_coding, m->content_coding));
    CHECK(is_optional_number(meta, "padding", m->padding.p != NULL, m->padding.n));
}

static void check_receiver(const cJSON *judgement, heap envelope)
{
    const char *topic = text_of(judgement, "topic");
    pep_opener opener = {
        .me = device_of(text_of(judgement, "me")),
        .senders = keyring,
        .epochs = epochs,
        .epoch_count = epoch_count,
        .topic = {(const uint8_t *)topic, strlen(topic)},
        .allow_signed_only = bool_of(judgement, "allow_signed_only"),
        .now_us = number_of(judgement, "now_us"),
        .max_age_us = number_of(judgement, "max_age_us"),
    };
    pep_opened opened;
    size_t work_n = PEP_WORK_BYTES(envelope.n);
    uint8_t *work = malloc(work_n);
    CU_ASSERT_PTR_NOT_NULL_FATAL(work);
    pep_reason reason = pep_open(&opened, work, work_n, &opener, envelope.p, envelope.n);
    if (is_reason(judgement, reason) && reason == PEP_OK) {
        CHECK(is_hex(judgement, "plain", opened.plain.p, opened.plain.n));
        check_meta(member(judgement, "meta"), &opened.meta);
    }
    free(work);
}

/* What can be said without a key, and what with the signer's record alone. */
static void check_parse_and_verify(const cJSON *vector, const cJSON *judgement, heap envelope)
{
    pep_envelope e;
    pep_reason expected = reason_of(judgement);
    bool shape = expected >= PEP_EMPTY_PAYLOAD && expected <= PEP_UNSUPPORTED_ALGORITHM;
    CHECK(pep_parse(&e, envelope.p, envelope.n) == (shape ? expected : PEP_OK));
    if (shape)
        return;
    check_structures(vector, &e);
    if (optional(vector, "fields") != NULL)
        check_fields(optional(vector, "fields"), &e);
    const pep_record *by = pep_keyring_find(keyring, e.kid);
    if (by == NULL)
        return;
    size_t work_n = PEP_WORK_BYTES(envelope.n);
    uint8_t *work = malloc(work_n);
    CU_ASSERT_PTR_NOT_NULL_FATAL(work);
    pep_reason verified = pep_verify(work, work_n, &e, by);
    CHECK(verified == (expected == PEP_BAD_SIGNATURE ? PEP_BAD_SIGNATURE : PEP_OK));
    free(work);
}

/* ---- gates ---- */

static gate *open_gate(const char *policy_name)
{
    char name[64];
    gate_error error = {{0}};
    snprintf(name, sizeof name, "%s.conf", policy_name);
    unlink(scratch_path("state/replay")); /* each vector begins with nothing seen */
    policy_error why;
    const gate_config config = {
        .policy = policy_load(&why, scratch_path(name)), .signers = known, .state_dir = scratch_path("state")};
    CU_ASSERT_PTR_NOT_NULL_FATAL(config.policy);
    gate *g = gate_open(&error, &config);
    if (g == NULL)
        printf("\n    %s: %s\n", current, error.text);
    CU_ASSERT_PTR_NOT_NULL_FATAL(g);
    return g;
}

/* Through the hooks that see a message of this door. */
static gate_verdict bring(gate *g, gate_message m, const char *door)
{
    m.bridge = strcmp(door, "bridge") == 0;
    m.stored = strcmp(door, "stored") == 0;
    if (m.bridge)
        return gate_at_message(g, &m);
    gate_verdict verdict = gate_at_access(g, &m);
    bool delivered = strcmp(door, "publish") == 0 && verdict.action != GATE_REFUSE;
    return delivered ? gate_at_message(g, &m) : verdict;
}

/* A stored message came as a publish once. */
static const char *earlier_door(const char *door)
{
    return strcmp(door, "stored") == 0 ? "publish" : door;
}

static void check_gate(const cJSON *judgement, heap envelope)
{
    static const char *const actions[] = {"pass", "refuse", "clear"};
    const char *door = text_of(judgement, "door");
    const cJSON *seen = optional(judgement, "seen");
    gate *g = open_gate(text_of(judgement, "policy"));
    gate_message m = {
        .client = &envelope,
        .client_id = text_of(judgement, "client_id"),
        .username = text_of(judgement, "username"),
        .topic = text_of(judgement, "topic"),
        .payload = envelope.n == 0 ? NULL : envelope.p,
        .payload_n = envelope.n,
        .qos = (int)number_of(judgement, "qos"),
        .retain = bool_of(judgement, "retain"),
        .now_us = number_of(judgement, "now_us"),
    };
    if (seen != NULL) {
        gate_message before = m;
        before.client_id = text_of(seen, "client_id");
        before.now_us = number_of(seen, "now_us");
        CHECK(bring(g, before, earlier_door(door)).reason == PEP_OK);
    }
    gate_verdict verdict = bring(g, m, door);
    is_reason(judgement, verdict.reason);
    CHECK(strcmp(actions[verdict.action], text_of(judgement, "action")) == 0);
    gate_close(g);
}

static void test_envelopes(void)
{
    const cJSON *vector;
    int run = 0;
    cJSON_ArrayForEach(vector, member(file, "envelopes"))
    {
        current = text_of(vector, "name");
        heap envelope = hex_of(vector, "envelope");
        const cJSON *receiver = optional(vector, "receiver");
        const cJSON *at_gate = optional(vector, "gate");
        if (receiver != NULL) {
            check_receiver(receiver, envelope);
            check_parse_and_verify(vector, receiver, envelope);
        }
        if (at_gate != NULL)
            check_gate(at_gate, envelope);
        run += receiver != NULL || at_gate != NULL;
        free(envelope.p);
    }
    CU_ASSERT_TRUE(run > 0);
    CU_ASSERT_EQUAL(run, cJSON_GetArraySize(member(file, "envelopes")));
}

static void test_names_differ(void)
{
    const cJSON *a;
    const cJSON *b;
    cJSON_ArrayForEach(a, member(file, "envelopes"))
    {
        current = text_of(a, "name");
        for (b = a->next; b != NULL; b = b->next)
            CHECK(strcmp(current, text_of(b, "name")) != 0);
    }
}

/* But for those that are not about an envelope alone: rate-limited, and what a directory has learned since. */
static void test_every_reason_is_covered(void)
{
    for (int i = PEP_OK; i <= PEP_CANNOT_OPEN; i++) {
        current = pep_reason_name((pep_reason)i);
        if (strcmp(current, "unknown") != 0 && (i < PEP_RATE_LIMITED || i > PEP_RECORD_OVERFLOW))
            CHECK(said[i] > 0);
    }
}

static void test_nothing_is_left(void)
{
    for (size_t i = 0; i < epoch_count; i++)
        pep_epoch_wipe(&epochs[i]);
    pep_keyring_free(keyring);
    signers_free(known);
    cJSON_Delete(file);
    scratch_end();
}

static const unit_test tests[] = {
    {"the file loads", test_the_file_loads},
    {"devices", test_devices},
    {"epochs", test_epochs},
    {"records", test_records},
    {"envelopes", test_envelopes},
    {"names differ", test_names_differ},
    {"every reason is covered", test_every_reason_is_covered},
    {"nothing is left", test_nothing_is_left},
};

UNIT_MAIN("vectors", tests)
