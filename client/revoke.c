/* pep revoke: no more keys for a device. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/commands.h"
#include "client/print.h"
#include "client/session.h"

static struct {
    const char *id, *key, *authority_key, *since;
    option_list authorities;
    bool json;
} args;

static const option options[] = {
    {OPTION_OPERAND, 0, true, NULL, &args.id, "ID", "the device to revoke, spelled out also where it is one's own", 0,
     0},
    {OPTION_TEXT, 0, true, "key", &args.key, "FILE", "who revokes: the device itself, or an admin", 0, 0},
    {OPTION_TEXT, 0, false, "authority-key", &args.authority_key, "FILE", "sign it as an authority", 0, 0},
    {OPTION_TEXT, 0, false, "since", &args.since, "TIME", "what it signed later was never valid (default: now)", 0, 0},
    {OPTION_LIST, 0, false, "authority", &args.authorities, "KEY|FILE", "the gate must be certified by it", 0, 0},
    {OPTION_FLAG, 0, false, "json", &args.json, NULL, "print JSON", 0, 0},
    {0},
};

/* Seconds since 1970, or RFC 3339 in UTC. */
static bool parse_time(uint64_t *out, const char *text, uint64_t now_s)
{
    struct tm tm = {0};
    if (parse_number(out, text, 0, now_s))
        return true;
    const char *end = strptime(text, "%Y-%m-%dT%H:%M:%SZ", &tm);
    time_t t = end != NULL && *end == '\0' ? timegm(&tm) : -1;
    *out = t >= 0 ? (uint64_t)t : 0;
    return t >= 0 && *out <= now_s;
}

static int find_cutoff(uint64_t *out)
{
    uint64_t now_us = pep_now_us();
    uint64_t since_s;
    *out = now_us;
    if (args.since == NULL)
        return DONE;
    if (!parse_time(&since_s, args.since, now_us / 1000000))
        return wrong_usage("--since '%.40s': is no time that has passed, such as 2026-11-25T08:00:00Z or 1795593600",
                           args.since);
    *out = since_s * 1000000;
    return DONE;
}

/* A time is above whatever a device that counts has used: its own last number ends it, or 0 all that it ever sent. */
static int count_cutoff(uint64_t *out, session *s, const found_entry *e)
{
    uint64_t seq;
    if (memcmp(e->head.sign_kid, s->device.sign_kid, PEP_KID_BYTES) != 0 || *out == 0)
        return DONE;
    pep_reason reason = session_next_seq(s, &seq);
    if (reason == PEP_SEQ_AHEAD || (reason == PEP_OK && !s->counts))
        return DONE;
    if (reason != PEP_OK)
        return fail_reason(reason, "no sequence number");
    if (args.since != NULL)
        return wrong_usage("--since: %s counts its messages, and has no times: leave it out, or give 0", args.id);
    *out = seq;
    return DONE;
}

static int sign(uint8_t *out, size_t *n, const session *s, const found_entry *e, uint64_t cutoff)
{
    pep_authority authority = {0};
    pep_error error = {""};
    pep_reason reason = PEP_OK;
    if (args.authority_key != NULL)
        reason = pep_authority_load(&authority, &error, args.authority_key);
    if (reason != PEP_OK)
        return fail_error(reason, &error);
    const uint8_t *secret = args.authority_key != NULL ? authority.sign_secret : s->device.sign_secret;
    reason = pep_revocation_sign(out, n, secret, &e->head, pep_now_us() / 1000000, cutoff);
    pep_authority_wipe(&authority);
    return reason == PEP_OK ? DONE : fail_reason(reason, args.id);
}

static int report(uint64_t version, const uint8_t *kid)
{
    if (!args.json) {
        printf("revoked %s, version %llu\n", args.id, (unsigned long long)version);
        return finish_output();
    }
    cJSON *object = json_object(NULL, NULL);
    json_text(object, "id", args.id);
    json_unsigned(object, "version", version);
    json_kid(object, "kid", kid);
    return json_print(object);
}

static int send_command(session *s, const found_entry *e, const uint8_t *revocation, size_t n)
{
    char json[PEP_COMMAND_JSON_MAX];
    question q = {0};
    reply r = {0};
    ask_begin(&q);
    pep_reason reason = pep_command_revoke(json, q.correlation, (pep_view){revocation, n});
    if (reason != PEP_OK)
        return fail_reason(reason, "cannot make the command");
    int code = session_command(s, &r, &q, json, NULL, 0);
    if (code == DONE)
        code = r.reason == PEP_OK ? report(e->head.version + 1, e->head.sign_kid) : fail_reply(&r, args.id);
    cJSON_Delete(r.data);
    return code;
}

static int revoke_device(session *s, uint64_t cutoff)
{
    static found_entry e;
    uint8_t revocation[PEP_STATEMENT_BYTES_MAX];
    size_t n = 0;
    int code = session_open(s, args.key, &args.authorities);
    if (code == DONE) {
        warn_if_rotating(args.key);
        code = session_connect(s);
    }
    if (code == DONE)
        code = session_lookup(s, &e, args.id);
    if (code == DONE && e.head.revoked)
        return fail(REFUSED, "%s is revoked already", args.id);
    if (code == DONE)
        code = count_cutoff(&cutoff, s, &e);
    if (code == DONE)
        code = sign(revocation, &n, s, &e, cutoff);
    return code == DONE ? send_command(s, &e, revocation, n) : code;
}

static int run(void)
{
    uint64_t cutoff;
    if (!pep_id_valid(args.id, strlen(args.id)))
        return wrong_usage("'%.80s' is no id", args.id);
    int code = find_cutoff(&cutoff);
    if (code != DONE)
        return code;
    session s = {0};
    code = revoke_device(&s, cutoff);
    session_close(&s);
    return code;
}

const command revoke_command = {
    "revoke",
    "Revokes a device: its key is refused from its next message on",
    "",
    "A device revokes itself; an admin of the broker's policy, or an authority, any device. Only an authority brings\n"
    "it back: see rotate --authority-key.\n",
    {options, connection_options},
    run,
};
