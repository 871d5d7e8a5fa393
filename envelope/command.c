/*
 * Commands to a gate. Everything in their JSON is an id, hexadecimal digits, base64url or a number: none of it needs
 * escaping, and what is anything else is refused here.
 */
#include <inttypes.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "envelope/seal.h"
#include "pep/directory.h"

enum { CORRELATION_MAX = 64 };

pep_reason pep_command_seal(uint8_t *out, size_t *out_n, size_t cap, const pep_command *command, pep_view json)
{
    static const char topic[] = PEP_CONTROL_TOPIC;
    const pep_message message = {.from = command->from,
                                 .topic = {(const uint8_t *)topic, sizeof topic - 1},
                                 .seq = command->seq,
                                 .flags = PEP_FLAG_SIGNED_ONLY | (command->counts ? PEP_FLAG_COUNTER : 0U),
                                 .exp_s = command->now_s + PEP_COMMAND_LIFE_S,
                                 .audience = command->gate_kid,
                                 .plain = json};
    *out_n = 0;
    if (command->gate_kid == NULL)
        return PEP_BAD_ARGUMENT;
    return seal_any_topic(out, out_n, cap, &message);
}

/* ---- the JSON of one command ---- */

typedef struct {
    char *p; /* PEP_COMMAND_JSON_MAX bytes, NUL-terminated */
    size_t n;
    bool bad; /* a value that no command can have, or one too many */
} text;

static void add(text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void add(text *t, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(t->p + t->n, PEP_COMMAND_JSON_MAX - t->n, format, args);
    va_end(args);
    if (n < 0 || (size_t)n >= PEP_COMMAND_JSON_MAX - t->n)
        t->bad = true;
    else
        t->n += (size_t)n;
}

static void add_id(text *t, const char *name, const char *id)
{
    if (id == NULL || !pep_id_valid(id, strlen(id)))
        t->bad = true;
    else
        add(t, ",\"%s\":\"%s\"", name, id);
}

static void add_kid(text *t, const char *name, const uint8_t kid[PEP_KID_BYTES])
{
    char hex[2 * PEP_KID_BYTES + 1];
    sodium_bin2hex(hex, sizeof hex, kid, PEP_KID_BYTES);
    add(t, ",\"%s\":\"%s\"", name, hex);
}

static void add_number(text *t, const char *name, uint64_t number)
{
    add(t, ",\"%s\":%" PRIu64, name, number);
    t->bad |= number > PEP_SEQ_MAX; /* what a double holds exactly, which is what many a parser makes of it */
}

static void add_bytes(text *t, const char *name, pep_view bytes, size_t max)
{
    char base64[sodium_base64_ENCODED_LEN(PEP_STATEMENT_BYTES_MAX, sodium_base64_VARIANT_URLSAFE_NO_PADDING)];
    if (bytes.p == NULL || bytes.n == 0 || bytes.n > max || max > PEP_STATEMENT_BYTES_MAX) {
        t->bad = true;
        return;
    }
    sodium_bin2base64(base64, sizeof base64, bytes.p, bytes.n, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    add(t, ",\"%s\":\"%s\"", name, base64);
}

static void add_certificate(text *t, pep_view certificate)
{
    if (certificate.p != NULL)
        add_bytes(t, "certificate", certificate, PEP_CERTIFICATE_BYTES_MAX);
}

static bool correlation_valid(const char *c)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    size_t n = strlen(c);
    return n <= CORRELATION_MAX && strspn(c, allowed) == n;
}

static text begin(char *json, const char *name)
{
    text t = {.p = json};
    add(&t, "{\"commands\":[{\"command\":\"%s\"", name);
    return t;
}

static pep_reason end(text *t, const char *correlation)
{
    if (correlation != NULL && !correlation_valid(correlation))
        t->bad = true;
    else if (correlation != NULL)
        add(t, ",\"correlationData\":\"%s\"", correlation);
    add(t, "}]}");
    if (t->bad)
        t->p[0] = 0;
    return t->bad ? PEP_BAD_ARGUMENT : PEP_OK;
}

pep_reason pep_command_enroll(char *json, const char *correlation, pep_view record, pep_view certificate,
                              pep_view proof)
{
    text t = begin(json, "enroll");
    add_bytes(&t, "record", record, PEP_RECORD_BYTES_MAX);
    add_certificate(&t, certificate);
    if (proof.p != NULL)
        add_bytes(&t, "proof", proof, PEP_PROOF_BYTES_MAX);
    return end(&t, correlation);
}

pep_reason pep_command_rotate(char *json, const char *correlation, pep_view rotation, pep_view certificate)
{
    text t = begin(json, "rotate");
    add_bytes(&t, "rotation", rotation, PEP_STATEMENT_BYTES_MAX);
    add_certificate(&t, certificate);
    return end(&t, correlation);
}

pep_reason pep_command_revoke(char *json, const char *correlation, pep_view revocation)
{
    text t = begin(json, "revoke");
    add_bytes(&t, "revocation", revocation, PEP_STATEMENT_BYTES_MAX);
    return end(&t, correlation);
}

pep_reason pep_command_token(char *json, const char *correlation, const char *id,
                             const uint8_t token_kid[PEP_KID_BYTES], uint64_t expires_s)
{
    text t = begin(json, "token");
    add_id(&t, "id", id);
    add_kid(&t, "token", token_kid);
    add_number(&t, "expires", expires_s);
    return end(&t, correlation);
}

pep_reason pep_command_lookup_id(char *json, const char *correlation, const char *id)
{
    text t = begin(json, "lookup");
    add_id(&t, "id", id);
    return end(&t, correlation);
}

pep_reason pep_command_lookup_kid(char *json, const char *correlation, const uint8_t kid[PEP_KID_BYTES])
{
    text t = begin(json, "lookup");
    add_kid(&t, "kid", kid);
    return end(&t, correlation);
}

pep_reason pep_command_history(char *json, const char *correlation, const char *id, uint64_t after_position)
{
    text t = begin(json, "history");
    add_id(&t, "id", id);
    if (after_position > 0)
        add_number(&t, "after", after_position);
    return end(&t, correlation);
}

pep_reason pep_command_list(char *json, const char *correlation, const char *after_id)
{
    text t = begin(json, "list");
    if (after_id != NULL)
        add_id(&t, "after", after_id);
    return end(&t, correlation);
}

pep_reason pep_command_status(char *json, const char *correlation)
{
    text t = begin(json, "status");
    return end(&t, correlation);
}
