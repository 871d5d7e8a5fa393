#include "client/session.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "client/print.h"
#include "client/resolve.h"

#define SEALED_MAX (PEP_COMMAND_JSON_MAX + 512)

/* It would start from 1 again, and use numbers that were used. */
static int check_counted(const char *path)
{
    struct stat st;
    if (lstat(path, &st) == 0 || errno != ENOENT)
        return DONE;
    return fail(OUT_OF_REACH,
                "%s is missing, and with it the numbers that were used: a device that counts needs a new key", path);
}

int session_open(session *s, const char *key, const option_list *authorities)
{
    pep_error error = {""};
    int code = name_files_beside(&s->files, key);
    if (code == DONE && authorities != NULL)
        code = read_authorities(&s->authorities, &s->authority_count, authorities);
    if (code != DONE)
        return code;
    pep_reason reason = pep_device_load(&s->device, &error, key);
    if (reason == PEP_OK && s->counts)
        code = check_counted(s->files.seq);
    if (code != DONE)
        return code;
    if (reason == PEP_OK)
        reason = pep_seq_open(&s->seq, &error, s->files.seq);
    return reason == PEP_OK ? DONE : fail_error(reason, &error);
}

int session_connect(session *s)
{
    int code = mqtt_prepare(&s->link);
    if (code != DONE)
        return code;
    ask_prepare(&s->asker, &s->link);
    mqtt_stop_on_signals();
    code = mqtt_connect(&s->link);
    if (code != DONE)
        return code;
    return ask_gate(&s->asker, (const uint8_t(*)[PEP_SIGN_PUBLIC_BYTES])s->authorities, s->authority_count);
}

void session_close(session *s)
{
    mqtt_close(&s->link);
    if (s->seq != NULL)
        pep_seq_close(s->seq);
    pep_device_wipe(&s->device);
    free_files(&s->files);
    free(s->authorities);
    s->authorities = NULL;
}

pep_reason session_next_seq(session *s, uint64_t *seq)
{
    pep_reason reason = s->counts ? PEP_SEQ_MIXED : pep_seq_next(s->seq, seq);
    if (reason != PEP_SEQ_MIXED)
        return reason;
    s->counts = true;
    return pep_seq_next_counter(s->seq, seq);
}

int session_command(session *s, reply *out, question *q, const char *json, const pep_device *from, uint64_t seq)
{
    uint8_t sealed[SEALED_MAX];
    size_t n = 0;
    pep_reason reason = from == NULL ? session_next_seq(s, &seq) : PEP_OK;
    if (reason != PEP_OK)
        return fail_reason(reason, "no sequence number");
    const pep_command what = {.from = from != NULL ? from : &s->device,
                              .seq = seq,
                              .counts = s->counts,
                              .gate_kid = s->asker.gate_kid,
                              .now_s = pep_now_us() / 1000000};
    reason = pep_command_seal(sealed, &n, sizeof(sealed), &what, (pep_view){(const uint8_t *)json, strlen(json)});
    return reason == PEP_OK ? ask_and_wait(&s->asker, out, q, sealed, n) : fail_reason(reason, "cannot seal");
}

/* ---- looking up ---- */

static pep_reason find_head(pep_head *out, const pep_statement *s)
{
    if (s->kind != PEP_STATEMENT_REVOCATION)
        return pep_head_begin(out, s);
    *out = (pep_head){.version = s->version, .revoked = true};
    memcpy(out->id, s->id, sizeof(out->id));
    memcpy(out->hash, s->hash, sizeof(out->hash));
    memcpy(out->sign_kid, s->old_kid, sizeof(out->sign_kid));
    return PEP_OK;
}

pep_reason read_found(found_entry *out, const cJSON *item)
{
    size_t n;
    if (!decode_bytes(out->bytes, &n, sizeof(out->bytes), item))
        return PEP_MALFORMED;
    pep_reason reason = pep_entry_parse(&out->entry, out->bytes, n);
    if (reason == PEP_OK)
        reason = pep_statement_parse(&out->statement, out->entry.statement.p, out->entry.statement.n);
    return reason == PEP_OK ? find_head(&out->head, &out->statement) : reason;
}

static int read_lookup(found_entry *out, const cJSON *data, const char *id)
{
    const cJSON *found = cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(data, "entries"), 0);
    const char *error = text_field(found, "error");
    if (error != NULL)
        return fail_reason(reason_of(error), id);
    pep_reason reason = read_found(out, cJSON_GetObjectItemCaseSensitive(found, "entry"));
    if (reason == PEP_OK && strcmp(out->statement.id, id) != 0)
        reason = PEP_WRONG_ID;
    return reason == PEP_OK ? DONE : fail_reason(reason, id);
}

int session_lookup(session *s, found_entry *out, const char *id)
{
    char json[PEP_COMMAND_JSON_MAX];
    question q = {0};
    reply r;
    ask_begin(&q);
    pep_reason reason = pep_command_lookup_id(json, q.correlation, id);
    if (reason != PEP_OK)
        return fail_reason(reason, id);
    int code = ask_and_wait(&s->asker, &r, &q, json, strlen(json));
    if (code == DONE)
        code = r.reason == PEP_OK ? read_lookup(out, r.data, id) : fail_reply(&r, id);
    cJSON_Delete(r.data);
    return code;
}

int read_certificate(uint8_t bytes[PEP_CERTIFICATE_BYTES_MAX], size_t *n, const char *path)
{
    pep_error error = {""};
    *n = 0;
    if (path == NULL)
        return DONE;
    pep_reason reason = pep_certificate_load(bytes, n, &error, path);
    return reason == PEP_OK ? DONE : fail_error(reason, &error);
}

int read_groups(pep_certificate *c, const char *groups)
{
    const char *at = groups != NULL ? groups : "";
    while (*at != '\0') {
        size_t n = strcspn(at, ",");
        if (c->group_count == PEP_GROUPS_MAX)
            return wrong_usage("--groups: at most %d", PEP_GROUPS_MAX);
        if (!pep_id_valid(at, n))
            return wrong_usage("--groups '%.80s': a name is 1 to 64 of A-Z a-z 0-9 . _ : @ -", groups);
        memcpy(c->groups[c->group_count++], at, n);
        at += n;
        if (*at == ',' && *++at == '\0')
            return wrong_usage("--groups '%.80s': ends in a comma", groups);
    }
    return DONE;
}
