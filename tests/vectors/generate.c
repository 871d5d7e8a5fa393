/*
 * Makes envelopes.json and directory.json: `vectors ENVELOPES DIRECTORY`. Keys come from fixed texts and randomness
 * from the vectors' names, so every run writes the same bytes. README.md explains the files.
 */
#include <stdlib.h>

#include "envelope/cbor.h"
#include "tests/vectors/vector.h"

static void emit_device(json *j, const actor *a)
{
    const pep_device *d = &a->device;
    json_open(j, NULL, '{');
    json_text(j, "id", a->id);
    json_bool(j, "enrolled", a->enrolled);
    json_hex(j, "sign_seed", d->sign_secret, 32);
    json_hex(j, "sign_public", d->sign_public, sizeof d->sign_public);
    json_hex(j, "sign_kid", d->sign_kid, sizeof d->sign_kid);
    json_hex(j, "agree_secret", d->agree_secret, sizeof d->agree_secret);
    json_hex(j, "agree_public", d->agree_public, sizeof d->agree_public);
    json_hex(j, "agree_kid", d->agree_kid, sizeof d->agree_kid);
    json_number(j, "issued_s", a->issued_s);
    json_number(j, "not_after_s", a->not_after_s);
    json_hex(j, "record", a->record_bytes, a->record_n);
    json_close(j, '}');
}

static void emit_epoch(json *j, const shared_epoch *e)
{
    uint8_t input[256];
    pep_writer w = {.p = input, .cap = sizeof input};
    pep_write_array(&w, 4);
    pep_write_string(&w, "pep1 epoch");
    pep_write_bytes(&w, e->epoch.key, PEP_EPOCH_KEY_BYTES);
    pep_write_bytes(&w, e->epoch.owner_kid, PEP_KID_BYTES);
    pep_write_string(&w, e->epoch.scope);
    must(!w.full, "a scope is too long");
    json_open(j, NULL, '{');
    json_text(j, "name", e->name);
    json_bool(j, "known", e->known);
    json_text(j, "owner", e->owner);
    json_hex(j, "owner_kid", e->epoch.owner_kid, PEP_KID_BYTES);
    json_text(j, "scope", e->scope);
    json_hex(j, "key", e->epoch.key, PEP_EPOCH_KEY_BYTES);
    json_hex(j, "id_input", input, w.n);
    json_hex(j, "id", e->epoch.epoch_id, PEP_KID_BYTES);
    json_close(j, '}');
}

/* ---- policies ---- */

typedef struct {
    const char *filter;
    const char *mode;
    const char *payload;
    const char *signer;
    uint64_t max_age_us;
    uint64_t will_max_age_us;
    uint64_t max_size;
    const char *record;
    const char *prefix;
} rule;

#define RULE(topic, what, who)                                                                                         \
    .filter = (topic), .mode = "enforce", .payload = (what), .signer = (who), .max_size = 262144
#define ALLOW .record = "allow", .prefix = ""

static const rule standard[] = {
    {RULE("sealed/#", "encrypted", "sensor-1"), ALLOW},
    {RULE("signed/#", "signed", "*"), ALLOW},
    {RULE("aged/#", "signed", "*"), ALLOW, .max_age_us = 30000000, .will_max_age_us = 86400000000},
    {.filter = "small/#", .mode = "enforce", .payload = "signed", .signer = "*", .max_size = 200, ALLOW},
    {RULE("quiet/#", "signed", "*"), .record = "deny", .prefix = ""},
    {RULE("own/+/state", "signed", "%1"), ALLOW},
    {RULE("site-a/#", "signed", "*"), .record = "allow", .prefix = "site-a/"},
    {RULE("elsewhere/#", "signed", "*"), .record = "allow", .prefix = "site-b/"},
    {RULE("$site/#", "signed", "*"), ALLOW},
    {.filter = "watched/#", .mode = "observe", .payload = "signed", .signer = "*", .max_size = 262144, ALLOW},
};

static const rule bound[] = {{RULE("signed/#", "signed", "*"), ALLOW}};

static void emit_rule(json *j, const rule *r)
{
    json_open(j, NULL, '{');
    json_text(j, "filter", r->filter);
    json_text(j, "mode", r->mode);
    json_text(j, "payload", r->payload);
    json_text(j, "signer", r->signer);
    json_number(j, "max_age_us", r->max_age_us);
    json_number(j, "will_max_age_us", r->will_max_age_us);
    json_number(j, "max_size", r->max_size);
    json_text(j, "record", r->record);
    json_text(j, "prefix", r->prefix);
    json_close(j, '}');
}

static void emit_policy(json *j, const char *name, const char *bind, const char *relay, const rule *rules, size_t count)
{
    json_open(j, NULL, '{');
    json_text(j, "name", name);
    json_text(j, "bind", bind);
    json_text(j, "relay", relay);
    json_number(j, "max_skew_us", PEP_MAX_SKEW_US);
    json_open(j, "topics", '[');
    for (size_t i = 0; i < count; i++)
        emit_rule(j, &rules[i]);
    json_close(j, ']');
    json_close(j, '}');
}

static void emit_all(json *j)
{
    json_open(j, NULL, '{');
    json_text(j, "format", "pep vectors 1");
    json_open(j, "devices", '[');
    for (size_t i = 0; i < actor_count; i++)
        emit_device(j, &actors[i]);
    json_close(j, ']');
    json_open(j, "epochs", '[');
    for (size_t i = 0; i < epoch_count; i++)
        emit_epoch(j, &epochs[i]);
    json_close(j, ']');
    json_open(j, "policies", '[');
    emit_policy(j, "standard", "none", "bridge-b", standard, COUNT(standard));
    emit_policy(j, "bound", "username", "bridge-b", bound, COUNT(bound));
    json_close(j, ']');
    json_open(j, "records", '[');
    records_emit(j);
    json_close(j, ']');
    json_open(j, "envelopes", '[');
    sealed_emit(j);
    forged_emit(j);
    altered_emit(j);
    json_close(j, ']');
    json_close(j, '}');
}

static void write_document(const char *path, void (*emit)(json *j))
{
    json j = {.file = fopen(path, "w")};
    must(j.file != NULL, "cannot create the file");
    emit(&j);
    must(fclose(j.file) == 0, "cannot write the file");
}

int main(int argc, char **argv)
{
    must(argc == 3, "wants two arguments: the files to write");
    world_make();
    write_document(argv[1], emit_all);
    write_document(argv[2], directory_emit);
    world_free();
    return 0;
}
