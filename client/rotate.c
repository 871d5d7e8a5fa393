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
#define AT_ONCE_US       30000000ULL                /* a cutoff less far ahead was made by --now, or is over */
#define CUTOFF_AHEAD_US  (PEP_GRACE_S * 1000000ULL) /* what runs with the old key can go on until it sees the change */

static struct {
    const char *key, *next, *certificate, *authority_key, *groups;
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
    {OPTION_TEXT, 0, false, "groups", &args.groups, "A,B",
     "with --authority-key: the groups that it certifies (default: those of the key before)", 0, 0},
    {OPTION_NUMBER, 0, false, "grace", &args.grace, "DAYS", "open what comes for the old keys so long (default: 7)", 0,
     3650},
    {OPTION_NUMBER, 0, false, "days", &args.days, "N", "how long the record is valid (default: 30)", 1, 36500},
    {OPTION_LIST, 0, false, "authority", &args.authorities, "KEY|FILE", "the gate must be certified by it", 0, 0},
    {OPTION_FLAG, 0, false, "json", &args.json, NULL, "print JSON", 0, 0},
    {0},
};

/* A statement and its bytes, which it has views into. */
typedef struct {
    bool there;
    pep_statement s;
    uint8_t bytes[PEP_STATEMENT_BYTES_MAX];
    size_t n;
} kept_statement;

typedef struct {
    session session;
    int lock;
    pep_authority authority; /* where it is a recovery */
    found_entry found;       /* what the directory has */
    kept_statement own;      /* ID.pub */
    kept_statement sent;     /* ID.pub.new: what was signed, and may have been sent */
    pep_device next;
    bool in_fresh;  /* next's keys stand in ID.key.new */
    bool lost;      /* recovery with other keys than the directory's: those in ID.key are the new ones */
    bool seq_ahead; /* the old key can number nothing any more */
    uint64_t seq;   /* of the command, which the new key seals */
    pep_certificate certified;
    uint8_t certificate[PEP_CERTIFICATE_BYTES_MAX];
    size_t certificate_n;
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

static bool same_hash(const uint8_t a[PEP_SHA256_BYTES], const uint8_t b[PEP_SHA256_BYTES])
{
    return memcmp(a, b, PEP_SHA256_BYTES) == 0;
}

/* The signing key stays: who signs the rotation is who is in it. */
static bool is_renewal(const pep_statement *s)
{
    return memcmp(s->signer_kid, s->record.sign_kid, PEP_KID_BYTES) == 0;
}

static bool is_there(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0 || errno != ENOENT;
}

/* ---- what is there ---- */

static int read_fresh(rotation *r)
{
    pep_error error = {""};
    if (!is_there(r->session.files.fresh))
        return DONE;
    pep_reason reason = pep_device_load(&r->next, &error, r->session.files.fresh);
    r->in_fresh = reason == PEP_OK;
    return reason == PEP_OK ? DONE : fail_error(reason, &error);
}

static pep_reason read_statement(kept_statement *out, pep_error *error, const rotation *r, const char *path)
{
    pep_reason reason = pep_statement_load(&out->s, out->bytes, &out->n, error, path);
    out->there = reason == PEP_OK && strcmp(out->s.id, r->session.device.id) == 0;
    return reason;
}

/* What was signed for keys that are not here any more is nothing that could be finished. */
static int read_sent(rotation *r)
{
    pep_error error = {""};
    const char *path = r->session.files.fresh_pub;
    pep_reason reason = is_there(path) ? read_statement(&r->sent, &error, r, path) : PEP_OK;
    if (reason != PEP_OK)
        return fail_error(reason, &error);
    r->sent.there = r->sent.there && r->sent.s.kind == PEP_STATEMENT_ROTATION;
    if (!r->sent.there || (r->in_fresh && same_keys(&r->next, &r->sent.s.record)))
        return DONE;
    r->sent.there = same_keys(&r->session.device, &r->sent.s.record);
    if (r->sent.there) {
        r->next = r->session.device;
        r->in_fresh = false;
    }
    return DONE;
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
        code = read_sent(r);
    if (code == DONE)
        code = read_authority(r);
    if (code == DONE)
        code = read_certificate(r->certificate, &r->certificate_n, args.certificate);
    if (code == DONE)
        (void)read_statement(&r->own, NULL, r, r->session.files.pub);
    return code;
}

/*
 * What the directory has must not lie behind the record that we have, or we would sign two statements of one version.
 */
static int check_found(const rotation *r)
{
    const pep_statement *own = &r->own.s;
    const pep_statement *s = &r->found.statement;
    if (!r->own.there)
        return DONE;
    if (s->version < own->version)
        return fail_reason(PEP_VERSION_WENT_BACK, "the directory's record of this device");
    if (s->version == own->version && args.authority_key == NULL && !same_hash(s->hash, own->hash))
        return fail_reason(PEP_BROKEN_CHAIN, "the directory's record of this device");
    return DONE;
}

/* The directory goes on from another statement: what was signed can never follow any more. */
static bool is_outdated(const rotation *r)
{
    const uint8_t *hash = r->found.statement.hash;
    return r->sent.there && !same_hash(hash, r->sent.s.hash) && !same_hash(hash, r->sent.s.previous);
}

static bool is_at_once(const pep_statement *s)
{
    return s->cutoff > 0 && s->cutoff < s->issued_s * 1000000 + AT_ONCE_US;
}

/* Whether the keys in --next are those that were signed already. */
static bool is_next(const rotation *r)
{
    pep_device given;
    bool same = pep_device_load(&given, NULL, args.next) == PEP_OK && same_keys(&given, &r->sent.s.record);
    pep_device_wipe(&given);
    return same;
}

static bool is_asked_again(const rotation *r)
{
    const pep_statement *s = &r->sent.s;
    uint8_t kid[PEP_KID_BYTES];
    if ((args.renew && !is_renewal(s)) || (args.now && !is_at_once(s)) || (args.next != NULL && !is_next(r)))
        return false;
    if (args.authority_key == NULL)
        return true;
    pep_kid_sign(kid, r->authority.sign_public);
    return memcmp(kid, s->signer_kid, PEP_KID_BYTES) == 0;
}

/*
 * What was signed may have been sent, and taken, whatever the connection said: then its keys are the only ones that
 * count. So nothing else begins before it has ended.
 */
static int check_request(const rotation *r)
{
    bool recovery = args.authority_key != NULL && is_outdated(r);
    if (!r->sent.there || recovery || is_asked_again(r))
        return DONE;
    return fail(REFUSED,
                "%s is there: another rotation was begun; finish it with 'pep rotate --key %s', and its --certificate"
                " where it had one",
                r->session.files.fresh_pub, args.key);
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
    if (is_outdated(r) && !recovery)
        return fail(REFUSED,
                    "the directory went on without the rotation in %s: does a second copy of %s exist? To begin anew,"
                    " move %s and %s away",
                    r->session.files.fresh_pub, args.key, r->session.files.fresh_pub, r->session.files.fresh);
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

static int save_fresh(rotation *r)
{
    pep_error error = {""};
    pep_reason reason = pep_device_replace(&error, r->session.files.fresh, &r->next);
    r->in_fresh = reason == PEP_OK;
    return reason == PEP_OK ? DONE : fail_error(reason, &error);
}

/* Keys that were signed already, and that somebody may have sealed for, are kept among the former ones. */
static int make_next(rotation *r)
{
    uint64_t now_s = pep_now_us() / 1000000;
    const pep_device *before = r->sent.there ? &r->next : &r->session.device;
    pep_reason reason = pep_device_renew(&r->next, before, args.renew, now_s, end_of_grace(now_s));
    if (reason != PEP_OK)
        return fail_reason(reason, "cannot make keys");
    int code = args.next != NULL ? use_next(r) : DONE;
    return code == DONE ? save_fresh(r) : code;
}

/* The keys of an attempt that was interrupted are used again, unless something else is asked for now. */
static int choose_next(rotation *r)
{
    if (r->sent.there && !is_outdated(r)) /* its record is over: the same keys in a new one */
        return DONE;
    if (r->lost) {
        r->next = r->session.device;
        r->in_fresh = false;
        return DONE;
    }
    bool kept_sign = r->in_fresh && same_signer(&r->next, r->session.device.sign_kid);
    if (r->in_fresh && args.next == NULL && kept_sign == args.renew)
        return DONE;
    return make_next(r);
}

/* ---- the statement ---- */

/* Of the new key, which goes on where the old one stopped. */
static int find_seq(rotation *r)
{
    bool keeps_key = r->sent.there ? is_renewal(&r->sent.s) : args.renew;
    pep_reason reason = session_next_seq(&r->session, &r->seq);
    r->seq_ahead = reason == PEP_SEQ_AHEAD && !keeps_key;
    if (r->seq_ahead) {
        r->seq = pep_now_us(); /* the new key has used none */
        reason = PEP_OK;
    }
    return reason == PEP_OK ? DONE : fail_reason(reason, "no sequence number");
}

static uint64_t find_cutoff(const rotation *r)
{
    uint64_t now_us = pep_now_us();
    if (r->found.head.revoked || same_signer(&r->next, r->found.head.sign_kid))
        return 0;
    if (r->session.counts && !r->lost)
        return r->seq; /* what runs with the old key takes the new one up before it seals again */
    if (args.authority_key != NULL)
        return now_us;
    return args.now && !r->seq_ahead ? r->seq : now_us + CUTOFF_AHEAD_US;
}

/* On the disk before anybody has it: another statement of the same version must never be signed. */
static int save_statement(rotation *r)
{
    pep_error error = {""};
    pep_reason reason = pep_statement_replace(&error, r->session.files.fresh_pub, r->sent.bytes, r->sent.n);
    return reason == PEP_OK ? DONE : fail_error(reason, &error);
}

static int sign_statement(rotation *r)
{
    uint8_t record[PEP_RECORD_BYTES_MAX];
    size_t n = 0;
    uint64_t now_s = pep_now_us() / 1000000;
    uint64_t end_s = now_s + (args.days.given ? args.days.value : PEP_ENROLLED_DAYS) * 86400;
    const uint8_t *secret = args.authority_key != NULL ? r->authority.sign_secret : r->session.device.sign_secret;
    pep_reason reason = pep_record_next(record, &n, &r->next, &r->found.head, now_s, end_s);
    if (reason == PEP_OK)
        reason = pep_rotation_sign(r->sent.bytes, &r->sent.n, secret, &r->found.head, record, n, find_cutoff(r));
    if (reason == PEP_OK)
        reason = pep_statement_parse(&r->sent.s, r->sent.bytes, r->sent.n);
    r->sent.there = reason == PEP_OK;
    return reason == PEP_OK ? save_statement(r) : fail_reason(reason, "cannot sign the rotation");
}

/*
 * The groups that the device's key has by this authority, as long as that word is valid: what the directory serves is
 * else anybody's choice. Where it serves an older one, the line in the end tells.
 */
static void keep_groups(const rotation *r, pep_certificate *c)
{
    pep_certificate before = {0};
    pep_view bytes = r->found.entry.certificate;
    const uint8_t(*own)[PEP_SIGN_PUBLIC_BYTES] = (const uint8_t(*)[PEP_SIGN_PUBLIC_BYTES]) & r->authority.sign_public;
    if (bytes.n == 0 || pep_certificate_parse(&before, bytes.p, bytes.n, own, 1) != PEP_OK ||
        pep_certificate_covers(&before, c->id, r->found.head.sign_kid, false, c->issued_s) != PEP_OK)
        return;
    memcpy(c->groups, before.groups, sizeof(c->groups));
    c->group_count = before.group_count;
}

/* An authority that recovers a device certifies its new key as well, for the groups that the old one had. */
static int certify(rotation *r)
{
    pep_certificate *c = &r->certified;
    uint64_t now_s = pep_now_us() / 1000000;
    if (args.authority_key == NULL || r->certificate_n > 0)
        return DONE;
    *c = (pep_certificate){.issued_s = now_s, .not_after_s = now_s + (uint64_t)CERTIFICATE_DAYS * 86400};
    memcpy(c->id, r->next.id, sizeof(c->id));
    memcpy(c->kid, r->next.sign_kid, sizeof(c->kid));
    int code = read_groups(c, args.groups);
    if (code != DONE)
        return code;
    if (args.groups == NULL)
        keep_groups(r, c);
    pep_reason reason = pep_certificate_sign(r->certificate, &r->certificate_n, &r->authority, c);
    if (reason == PEP_BAD_ARGUMENT)
        return wrong_usage("--groups '%.80s': names one twice", args.groups != NULL ? args.groups : "");
    return reason == PEP_OK ? DONE : fail_reason(reason, "cannot certify the new key");
}

/* ---- afterwards ---- */

/*
 * A new key can be ahead of nothing: where the old one was, it numbers from a state of its own. The file says so, also
 * to one who finishes what another process began.
 */
static int renew_seq(const rotation *r)
{
    uint64_t seq;
    if (is_renewal(&r->sent.s) || pep_seq_next(r->session.seq, &seq) != PEP_SEQ_AHEAD)
        return DONE;
    (void)unlink(r->session.files.seq);
    int fd = open(r->session.files.seq, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return fail(OUT_OF_REACH, "cannot create %s: %s", r->session.files.seq, strerror(errno));
    close(fd);
    return DONE;
}

static void print_groups(const pep_certificate *c)
{
    printf("certified for %d days, %s", CERTIFICATE_DAYS, c->group_count > 0 ? "for the groups" : "for no group");
    for (size_t i = 0; i < c->group_count; i++)
        printf(" %s", c->groups[i]);
    printf("\n");
}

static void describe_groups(cJSON *object, const pep_certificate *c)
{
    cJSON *groups = json_array(object, "groups");
    for (size_t i = 0; i < c->group_count; i++)
        json_append(groups, c->groups[i]);
}

static int report(const rotation *r)
{
    bool certified = r->certified.issued_s > 0;
    char kid[HEX_KID_BYTES];
    const pep_statement *s = &r->sent.s;
    if (!args.json) {
        printf("%s %s, version %llu, kid %s\n", is_renewal(s) ? "renewed" : "rotated", s->id,
               (unsigned long long)s->version, hex_kid(kid, s->record.sign_kid));
        if (certified)
            print_groups(&r->certified);
        return finish_output();
    }
    cJSON *object = json_object(NULL, NULL);
    json_text(object, "id", s->id);
    json_unsigned(object, "version", s->version);
    json_kid(object, "kid", s->record.sign_kid);
    if (certified)
        describe_groups(object, &r->certified);
    return json_print(object);
}

/* The key file first: whoever is interrupted here finds ID.key.new again, and does the rest then. */
static int adopt(rotation *r)
{
    pep_error error = {""};
    pep_reason reason = pep_device_replace(&error, r->session.files.key, &r->next);
    if (reason != PEP_OK)
        return fail_error(reason, &error);
    int code = renew_seq(r);
    if (code != DONE)
        return code;
    reason = pep_statement_replace(&error, r->session.files.pub, r->sent.bytes, r->sent.n);
    if (reason != PEP_OK)
        return fail_error(reason, &error);
    if (r->in_fresh)
        (void)unlink(r->session.files.fresh);
    (void)unlink(r->session.files.fresh_pub);
    return report(r);
}

/* ---- the run ---- */

static pep_view certificate_of(const rotation *r)
{
    return (pep_view){r->certificate_n > 0 ? r->certificate : NULL, r->certificate_n};
}

/* The same, where it is for the key that ID.pub has: --certificate may as well be for the next one. */
static pep_view own_certificate(const rotation *r)
{
    pep_certificate c;
    pep_reason reason = pep_certificate_parse(&c, r->certificate, r->certificate_n, NULL, 0); /* whose it is, it says */
    bool ours = reason == PEP_NOT_CERTIFIED && same_signer(&r->session.device, c.kid);
    return ours ? certificate_of(r) : (pep_view){NULL, 0};
}

/* Sends a rotation, sealed by the key in it. */
static int send_rotation(rotation *r, const kept_statement *what, pep_view certificate, const pep_device *from,
                         uint64_t seq)
{
    char json[PEP_COMMAND_JSON_MAX];
    question q = {0};
    reply answer = {0};
    ask_begin(&q);
    pep_reason reason = pep_command_rotate(json, q.correlation, (pep_view){what->bytes, what->n}, certificate);
    if (reason != PEP_OK)
        return fail_reason(reason, "cannot make the command");
    int code = session_command(&r->session, &answer, &q, json, from, seq);
    if (code == DONE && answer.reason != PEP_OK)
        code = fail_reply(&answer, what->s.id);
    cJSON_Delete(answer.data);
    return code;
}

/*
 * What was acknowledged, and is in ID.pub, is not there: who acknowledged it was not the directory, or that was
 * restored from a backup. Our key is nothing to it before it has that statement.
 */
static bool is_behind(const rotation *r)
{
    const pep_statement *own = &r->own.s;
    const pep_statement *s = &r->found.statement;
    return r->own.there && own->kind == PEP_STATEMENT_ROTATION && own->version - 1 == s->version &&
           same_hash(own->previous, s->hash) && same_signer(&r->session.device, own->record.sign_kid);
}

static int catch_up(rotation *r)
{
    if (!is_behind(r))
        return DONE;
    warn("the directory does not have version %llu of %s, which %s holds: it is sent again",
         (unsigned long long)r->own.s.version, r->own.s.id, r->session.files.pub);
    int code = send_rotation(r, &r->own, own_certificate(r), NULL, 0);
    return code == DONE ? session_lookup(&r->session, &r->found, r->session.device.id) : code;
}

/* An interrupted attempt of which the keys alone are left, and that the directory has: was it signed by whom it must?
 */
static bool has_our_keys(const rotation *r)
{
    return r->in_fresh && !r->sent.there && r->found.statement.kind == PEP_STATEMENT_ROTATION &&
           same_keys(&r->next, &r->found.statement.record);
}

static int take_found(rotation *r)
{
    pep_head head;
    const uint8_t(*own)[PEP_SIGN_PUBLIC_BYTES] = (const uint8_t(*)[PEP_SIGN_PUBLIC_BYTES]) & r->authority.sign_public;
    const pep_trust trust = {.authorities = own, .authority_count = args.authority_key != NULL};
    pep_reason reason = r->own.there ? pep_head_begin(&head, &r->own.s) : PEP_BROKEN_CHAIN;
    if (reason == PEP_OK && !same_hash(head.hash, r->found.statement.hash))
        reason = pep_head_advance(&head, NULL, &r->found.statement, &trust);
    if (reason != PEP_OK)
        return fail_reason(reason, "the directory's record of this device");
    r->sent.n = r->found.entry.statement.n;
    memcpy(r->sent.bytes, r->found.entry.statement.p, r->sent.n);
    reason = pep_statement_parse(&r->sent.s, r->sent.bytes, r->sent.n);
    return reason == PEP_OK ? adopt(r) : fail_reason(reason, "the directory's record of this device");
}

static int send_and_adopt(rotation *r)
{
    int code = send_rotation(r, &r->sent, certificate_of(r), &r->next, r->seq);
    return code == DONE ? adopt(r) : code;
}

/* The very same bytes, as long as a directory takes them. */
static bool may_be_sent_again(const rotation *r)
{
    return r->sent.there && same_hash(r->found.statement.hash, r->sent.s.previous) &&
           r->sent.s.record.not_after_s >= pep_now_us() / 1000000;
}

static int send_again(rotation *r)
{
    int code = certify(r);
    if (code == DONE)
        code = find_seq(r);
    return code == DONE ? send_and_adopt(r) : code;
}

static int begin(rotation *r)
{
    int code = check_owner(r);
    if (code == DONE)
        code = choose_next(r);
    if (code == DONE)
        code = certify(r);
    if (code == DONE)
        code = find_seq(r);
    if (code == DONE)
        code = sign_statement(r);
    return code == DONE ? send_and_adopt(r) : code;
}

static int find_out(rotation *r)
{
    int code = read_all(r);
    if (code == DONE)
        code = session_connect(&r->session);
    if (code == DONE)
        code = session_lookup(&r->session, &r->found, r->session.device.id);
    if (code == DONE)
        code = catch_up(r);
    if (code == DONE)
        code = check_found(r);
    return code == DONE ? check_request(r) : code;
}

static int rotate(rotation *r)
{
    int code = find_out(r);
    if (code != DONE)
        return code;
    if (r->sent.there && same_hash(r->found.statement.hash, r->sent.s.hash))
        return adopt(r);
    if (has_our_keys(r))
        return take_found(r);
    return may_be_sent_again(r) ? send_again(r) : begin(r);
}

static int run(void)
{
    if (args.renew && (args.next != NULL || args.now || args.authority_key != NULL))
        return wrong_usage("--renew keeps the signing key: leave out --next, --now and --authority-key");
    if (args.groups != NULL && (args.authority_key == NULL || args.certificate != NULL))
        return wrong_usage("--groups goes with --authority-key, which certifies, and without --certificate");
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
    "acknowledged them. Interrupted in between, the same command again finishes it: what was signed is in ID.pub.new,\n"
    "and is sent again as it is. Until then no other rotation begins.\n",
    {options, connection_options},
    run,
};
