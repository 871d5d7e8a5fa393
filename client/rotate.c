/* pep rotate: new keys for a device, or its old ones for longer. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/commands.h"
#include "client/print.h"
#include "client/session.h"

#define GRACE_DAYS       7
#define CERTIFICATE_DAYS 365
#define CUTOFF_AHEAD_US  (PEP_GRACE_S * 1000000ULL) /* what runs with the old key can go on until it sees the change */

static struct {
    const char *key, *next, *certificate, *authority_key;
    option_list authorities;
    option_number grace, days;
    bool renew, now, json;
} args;

static const option options[] = {
    {OPTION_TEXT, 0, true, "key", &args.key, "FILE", "the device, ID.key, which is replaced", 0, 0},
    {OPTION_FLAG, 0, false, "renew", &args.renew, NULL, "keep the signing key: only a new agreement key and a new end",
     0, 0},
    {OPTION_FLAG, 0, false, "now", &args.now, NULL, "the old key was stolen: it ends with the last message sent", 0, 0},
    {OPTION_TEXT, 0, false, "next", &args.next, "FILE", "new keys that are there already, made by keygen", 0, 0},
    {OPTION_TEXT, 0, false, "certificate", &args.certificate, "FILE", "an authority's word on the new key", 0, 0},
    {OPTION_TEXT, 0, false, "authority-key", &args.authority_key, "FILE",
     "recovery: signed by an authority, not the old key", 0, 0},
    {OPTION_NUMBER, 0, false, "grace", &args.grace, "DAYS", "open what comes for the old keys so long (default: 7)", 0,
     3650},
    {OPTION_NUMBER, 0, false, "days", &args.days, "N", "how long the record is valid (default: 30)", 1, 36500},
    {OPTION_LIST, 0, false, "authority", &args.authorities, "KEY|FILE", "the gate must be certified by it", 0, 0},
    {OPTION_FLAG, 0, false, "json", &args.json, NULL, "print JSON", 0, 0},
    {0},
};

typedef struct {
    session session;
    int lock;
    pep_authority authority; /* where it is a recovery */
    found_entry found;       /* what the directory has */
    pep_device next;
    bool from_fresh; /* next was read from ID.key.new */
    bool lost;       /* recovery with other keys than the directory's: those in ID.key are the new ones */
    bool seq_ahead;  /* the old key can number nothing any more */
    uint64_t seq;    /* of the command */
    uint8_t certificate[PEP_CERTIFICATE_BYTES_MAX];
    size_t certificate_n;
    uint8_t statement[PEP_STATEMENT_BYTES_MAX];
    size_t statement_n;
} rotation;

static bool same_keys(const pep_device *device, const pep_record *record)
{
    return memcmp(device->sign_kid, record->sign_kid, PEP_KID_BYTES) == 0 && record->agree_count > 0 &&
           memcmp(device->agree_kid, record->agree[0].kid, PEP_KID_BYTES) == 0;
}

static bool same_signer(const pep_device *a, const uint8_t kid[PEP_KID_BYTES])
{
    return memcmp(a->sign_kid, kid, PEP_KID_BYTES) == 0;
}

/* ---- what is there ---- */

static int read_fresh(rotation *r)
{
    struct stat st;
    pep_error error = {""};
    if (lstat(r->session.files.fresh, &st) != 0)
        return errno == ENOENT ? DONE : fail(OUT_OF_REACH, "%s: %s", r->session.files.fresh, strerror(errno));
    pep_reason reason = pep_device_load(&r->next, &error, r->session.files.fresh);
    r->from_fresh = reason == PEP_OK;
    return reason == PEP_OK ? DONE : fail_error(reason, &error);
}

static int read_authority(rotation *r)
{
    pep_error error = {""};
    if (args.authority_key == NULL)
        return DONE;
    pep_reason reason = pep_authority_load(&r->authority, &error, args.authority_key);
    return reason == PEP_OK ? DONE : fail_error(reason, &error);
}

static int read_all(rotation *r)
{
    r->lock = lock_key(args.key, true); /* -1: opening the session tells why */
    int code = session_open(&r->session, args.key, &args.authorities);
    if (code == DONE)
        code = read_fresh(r);
    if (code == DONE)
        code = read_authority(r);
    if (code == DONE)
        code = read_certificate(r->certificate, &r->certificate_n, args.certificate);
    return code;
}

/*
 * What the directory has must not lie behind the record that we have, or we would sign two statements of one version.
 */
static int check_found(const rotation *r)
{
    uint8_t bytes[PEP_STATEMENT_BYTES_MAX];
    size_t n;
    pep_statement own;
    const pep_statement *s = &r->found.statement;
    if (pep_statement_load(&own, bytes, &n, NULL, r->session.files.pub) != PEP_OK ||
        strcmp(own.id, r->session.device.id) != 0)
        return DONE;
    if (s->version < own.version)
        return fail_reason(PEP_VERSION_WENT_BACK, "the directory's record of this device");
    if (s->version == own.version && args.authority_key == NULL && memcmp(s->hash, own.hash, sizeof(own.hash)) != 0)
        return fail_reason(PEP_BROKEN_CHAIN, "the directory's record of this device");
    return DONE;
}

static int check_owner(rotation *r)
{
    const pep_head *head = &r->found.head;
    bool ours = same_signer(&r->session.device, head->sign_kid);
    bool recovery = args.authority_key != NULL;
    r->lost = recovery && !ours;
    if (head->revoked && !recovery)
        return fail(REFUSED, "%s is revoked: only an authority brings it back, see --authority-key", head->id);
    if (!ours && !recovery)
        return fail(REFUSED, "the directory has another key of %s than %s: only an authority can replace it", head->id,
                    args.key);
    return DONE;
}

/* ---- new keys ---- */

static uint64_t end_of_grace(uint64_t now_s)
{
    return now_s + (args.grace.given ? args.grace.value : GRACE_DAYS) * 86400;
}

static void take_keys(pep_device *out, const pep_device *from)
{
    pep_device keys = *from;
    memcpy(keys.previous, out->previous, sizeof(keys.previous));
    keys.previous_count = out->previous_count;
    *out = keys;
    pep_device_wipe(&keys);
}

static int use_next(rotation *r)
{
    pep_device given;
    pep_error error = {""};
    pep_reason reason = pep_device_load(&given, &error, args.next);
    if (reason != PEP_OK)
        return fail_error(reason, &error);
    bool right = strcmp(given.id, r->session.device.id) == 0 && !same_signer(&given, r->session.device.sign_kid);
    if (right)
        take_keys(&r->next, &given);
    pep_device_wipe(&given);
    return right ? DONE : fail(REFUSED, "%s: holds no other keys of %s", args.next, r->session.device.id);
}

static int save_fresh(const rotation *r)
{
    pep_error error = {""};
    pep_reason reason = pep_device_replace(&error, r->session.files.fresh, &r->next);
    return reason == PEP_OK ? DONE : fail_error(reason, &error);
}

static int make_next(rotation *r)
{
    uint64_t now_s = pep_now_us() / 1000000;
    pep_reason reason = pep_device_renew(&r->next, &r->session.device, args.renew, now_s, end_of_grace(now_s));
    if (reason != PEP_OK)
        return fail_reason(reason, "cannot make keys");
    int code = args.next != NULL ? use_next(r) : DONE;
    return code == DONE ? save_fresh(r) : code;
}

/* The keys of an attempt that was interrupted are used again, unless something else is asked for now. */
static int choose_next(rotation *r)
{
    if (r->lost) {
        r->next = r->session.device;
        return DONE;
    }
    bool kept_sign = r->from_fresh && same_signer(&r->next, r->session.device.sign_kid);
    if (r->from_fresh && args.next == NULL && kept_sign == args.renew)
        return DONE;
    return make_next(r);
}

/* ---- the statement ---- */

static pep_reason find_cutoff(rotation *r, uint64_t *cutoff)
{
    uint64_t now_us = pep_now_us();
    pep_reason reason = pep_seq_next(r->session.seq, &r->seq);
    r->seq_ahead = reason == PEP_SEQ_AHEAD && !args.renew;
    if (r->seq_ahead) {
        reason = PEP_OK;
        r->seq = now_us; /* of the new key, which has used none */
    }
    *cutoff = args.now && !r->seq_ahead ? r->seq : now_us + CUTOFF_AHEAD_US;
    if (args.authority_key != NULL)
        *cutoff = now_us;
    if (r->found.head.revoked || same_signer(&r->next, r->found.head.sign_kid))
        *cutoff = 0;
    return reason;
}

static int sign_statement(rotation *r)
{
    uint8_t record[PEP_RECORD_BYTES_MAX];
    size_t n = 0;
    uint64_t cutoff;
    uint64_t now_s = pep_now_us() / 1000000;
    uint64_t end_s = now_s + (args.days.given ? args.days.value : PEP_ENROLLED_DAYS) * 86400;
    const uint8_t *secret = args.authority_key != NULL ? r->authority.sign_secret : r->session.device.sign_secret;
    pep_reason reason = find_cutoff(r, &cutoff);
    if (reason != PEP_OK)
        return fail_reason(reason, "no sequence number");
    reason = pep_record_next(record, &n, &r->next, &r->found.head, now_s, end_s);
    if (reason == PEP_OK)
        reason = pep_rotation_sign(r->statement, &r->statement_n, secret, &r->found.head, record, n, cutoff);
    return reason == PEP_OK ? DONE : fail_reason(reason, "cannot sign the rotation");
}

/* An authority that recovers a device certifies its new key as well, for the groups that the old one had. */
static int certify(rotation *r)
{
    pep_certificate before = {0};
    uint64_t now_s = pep_now_us() / 1000000;
    if (args.authority_key == NULL || r->certificate_n > 0)
        return DONE;
    pep_certificate c = {.issued_s = now_s, .not_after_s = now_s + (uint64_t)CERTIFICATE_DAYS * 86400};
    memcpy(c.id, r->next.id, sizeof(c.id));
    memcpy(c.kid, r->next.sign_kid, sizeof(c.kid));
    const uint8_t(*own)[PEP_SIGN_PUBLIC_BYTES] = (const uint8_t(*)[PEP_SIGN_PUBLIC_BYTES]) & r->authority.sign_public;
    if (r->found.entry.certificate.n > 0 &&
        pep_certificate_parse(&before, r->found.entry.certificate.p, r->found.entry.certificate.n, own, 1) == PEP_OK &&
        strcmp(before.id, c.id) == 0 && !before.gate) {
        memcpy(c.groups, before.groups, sizeof(c.groups));
        c.group_count = before.group_count;
    }
    pep_reason reason = pep_certificate_sign(r->certificate, &r->certificate_n, &r->authority, &c);
    return reason == PEP_OK ? DONE : fail_reason(reason, "cannot certify the new key");
}

/* ---- afterwards ---- */

/* The new key can be ahead of nothing: it numbers from a state of its own. */
static int renew_seq(const rotation *r)
{
    if (!r->seq_ahead)
        return DONE;
    (void)unlink(r->session.files.seq);
    int fd = open(r->session.files.seq, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return fail(OUT_OF_REACH, "cannot create %s: %s", r->session.files.seq, strerror(errno));
    close(fd);
    return DONE;
}

static int report(const rotation *r, uint64_t version)
{
    char kid[HEX_KID_BYTES];
    bool renewed = same_signer(&r->next, r->session.device.sign_kid) && !r->lost;
    if (!args.json) {
        printf("%s %s, version %llu, kid %s\n", renewed ? "renewed" : "rotated", r->next.id,
               (unsigned long long)version, hex_kid(kid, r->next.sign_kid));
        return finish_output();
    }
    cJSON *object = json_object(NULL, NULL);
    json_text(object, "id", r->next.id);
    json_unsigned(object, "version", version);
    json_kid(object, "kid", r->next.sign_kid);
    return json_print(object);
}

/* The key file first: whoever is interrupted here finds ID.key.new again, and does the rest then. */
static int adopt(rotation *r, const uint8_t *statement, size_t n, uint64_t version)
{
    pep_error error = {""};
    int code = DONE;
    pep_reason reason = r->lost ? PEP_OK : pep_device_replace(&error, r->session.files.key, &r->next);
    if (reason == PEP_OK)
        code = renew_seq(r);
    if (reason == PEP_OK && code == DONE)
        reason = pep_statement_replace(&error, r->session.files.pub, statement, n);
    if (reason != PEP_OK)
        return fail_error(reason, &error);
    if (code == DONE && !r->lost)
        (void)unlink(r->session.files.fresh);
    return code == DONE ? report(r, version) : code;
}

/* ---- the run ---- */

static int send_command(rotation *r)
{
    char json[PEP_COMMAND_JSON_MAX];
    question q = {0};
    reply answer = {0};
    bool by_next = args.authority_key != NULL || r->seq_ahead;
    pep_view certificate = {r->certificate_n > 0 ? r->certificate : NULL, r->certificate_n};
    ask_begin(&q);
    pep_reason reason = pep_command_rotate(json, q.correlation, (pep_view){r->statement, r->statement_n}, certificate);
    if (reason != PEP_OK)
        return fail_reason(reason, "cannot make the command");
    int code = session_command(&r->session, &answer, &q, json, by_next ? &r->next : &r->session.device, r->seq);
    if (code == DONE)
        code = answer.reason == PEP_OK ? adopt(r, r->statement, r->statement_n, r->found.head.version + 1)
                                       : fail_reply(&answer, r->next.id);
    cJSON_Delete(answer.data);
    return code;
}

/* An interrupted attempt that the directory took: only our files are behind. */
static bool was_taken(const rotation *r)
{
    return r->from_fresh && r->found.statement.kind == PEP_STATEMENT_ROTATION &&
           same_keys(&r->next, &r->found.statement.record);
}

static int rotate(rotation *r)
{
    int code = read_all(r);
    if (code == DONE)
        code = session_connect(&r->session);
    if (code == DONE)
        code = session_lookup(&r->session, &r->found, r->session.device.id);
    if (code == DONE)
        code = check_found(r);
    if (code == DONE && was_taken(r))
        return adopt(r, r->found.entry.statement.p, r->found.entry.statement.n, r->found.head.version);
    if (code == DONE)
        code = check_owner(r);
    if (code == DONE)
        code = choose_next(r);
    if (code == DONE)
        code = certify(r);
    if (code == DONE)
        code = sign_statement(r);
    return code == DONE ? send_command(r) : code;
}

static int run(void)
{
    if (args.renew && (args.next != NULL || args.now || args.authority_key != NULL))
        return wrong_usage("--renew keeps the signing key: leave out --next, --now and --authority-key");
    rotation *r = calloc(1, sizeof(*r));
    if (r == NULL)
        return fail(OUT_OF_REACH, "out of memory");
    r->lock = -1;
    int code = rotate(r);
    session_close(&r->session);
    if (r->lock >= 0)
        close(r->lock);
    explicit_bzero(r, sizeof(*r));
    free(r);
    return code;
}

const command rotate_command = {
    "rotate",
    "Gives a device new keys, which the old one signs, and replaces its files",
    "",
    "The new keys stand in ID.key.new before anything is sent, and take the place of ID.key when the directory has\n"
    "acknowledged them. Interrupted in between, the same command again finishes it.\n",
    {options, connection_options},
    run,
};
