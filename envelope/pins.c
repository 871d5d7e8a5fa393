/*
 * Pins: what a client has seen of each device, so that no directory can take it back.
 *
 * A pin file holds the newest statement that was believed, its certificate, and the signing keys before the current
 * one with their cutoffs. It is read again whenever it changed, and judged again under a lock before it is replaced, so
 * that of two processes none moves a pin back. In memory stands only what finding needs. A file that cannot be read is
 * an error, never a device that is seen for the first time.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uthash.h>

#include "envelope/cbor.h"
#include "envelope/error.h"
#include "envelope/files.h"
#include "envelope/structures.h"
#include "pep/directory.h"
#include "pep/envelope.h"

#define PIN_LABEL  "PEP PIN"
#define PIN_ENDING ".pin" /* behind every id, also behind `.` and `..`, which are ids */
#define LOCK_NAME  ".lock"

#define FORMER_MAX     16 /* the oldest is forgotten then: what it signed is by nobody who is known */
#define LOCK_WAIT_MS   5000
#define PATH_BYTES     4096
#define FOLDER_BYTES   (PATH_BYTES - PEP_ID_MAX - 16)
#define PIN_BYTES_MAX  (ARMOR_BYTES_MAX - 64)
#define PIN_WORK_BYTES (PEP_STATEMENT_BYTES_MAX + 256)

enum { PIN_FORMAT_VERSION = 1, PIN_VERSION = 0, PIN_STATEMENT = 1, PIN_CERTIFICATE = 2, PIN_FORMER = 3 };
enum { FORMER_KEY = 1, FORMER_CUTOFF = 2, FORMER_REASON = 3 };

/* A signing key that has ended. */
typedef struct {
    uint8_t sign_public[PEP_SIGN_PUBLIC_BYTES];
    uint64_t cutoff;
    pep_reason reason; /* PEP_REVOKED_SIGNER, PEP_ROTATED_SIGNER */
} former;

/* What a pin file says. Of a revoked device the last key is former[0]. */
typedef struct {
    bool known; /* false: nothing is pinned */
    pep_head head;
    pep_record record; /* of the current key; not of a revoked device */
    uint8_t statement[PEP_STATEMENT_BYTES_MAX];
    size_t statement_n;
    uint8_t certificate[PEP_CERTIFICATE_BYTES_MAX];
    size_t certificate_n; /* 0: none */
    former former[FORMER_MAX];
    size_t former_count;
} chain;

/* Which file it was. */
typedef struct {
    dev_t device;
    ino_t inode;
    off_t size;
    struct timespec changed;
    uid_t owner;
} stamp;

typedef struct pin pin;

typedef struct {
    pep_record record;
    pin *of;
    UT_hash_handle by_kid;
} known_key;

struct pin {
    char id[PEP_ID_MAX + 1];
    stamp stamp;
    known_key *keys; /* keys[0] is the device's own, current or last; the others have ended before */
    size_t key_count;
    bool doubted;   /* a revocation is served that cannot be judged here: nothing is believed meanwhile */
    chain *pending; /* a history that is not certified yet; NULL: none */
    UT_hash_handle by_id;
};

struct pep_pins {
    char folder[FOLDER_BYTES];
    uint8_t (*authorities)[PEP_SIGN_PUBLIC_BYTES];
    size_t authority_count;
    pin *ids; /* uthash heads */
    known_key *keys;
    bool indexed; /* every file of the folder was looked at */
    int lock;     /* -1: not opened yet */
};

/* ---- files ---- */

static void path_of(char path[PATH_BYTES], const pep_pins *pins, const char *name, const char *ending)
{
    (void)snprintf(path, PATH_BYTES, "%s/%s%s", pins->folder, name, ending);
}

static bool read_former(pep_reader *r, former *out)
{
    pep_map map;
    const uint8_t *key;
    uint64_t reason;
    if (!pep_map_begin(r, &map) || map.left != 3 || !pep_map_expect(r, &map, FORMER_KEY) ||
        !pep_read_fixed(r, &key, PEP_SIGN_PUBLIC_BYTES) || !pep_map_expect(r, &map, FORMER_CUTOFF) ||
        !pep_read_uint(r, &out->cutoff) || !pep_map_expect(r, &map, FORMER_REASON) || !pep_read_uint(r, &reason) ||
        (reason != PEP_REVOKED_SIGNER && reason != PEP_ROTATED_SIGNER))
        return false;
    memcpy(out->sign_public, key, PEP_SIGN_PUBLIC_BYTES);
    out->reason = (pep_reason)reason;
    return true;
}

static bool read_formers(pep_reader *r, chain *out)
{
    uint64_t count;
    if (!pep_read_array(r, &count) || count > FORMER_MAX)
        return false;
    for (; out->former_count < count; out->former_count++)
        if (!read_former(r, &out->former[out->former_count]))
            return false;
    return true;
}

static bool copy(uint8_t *out, size_t *out_n, size_t cap, pep_view bytes)
{
    if (bytes.n > cap)
        return false;
    if (bytes.n > 0)
        memcpy(out, bytes.p, bytes.n);
    *out_n = bytes.n;
    return true;
}

static bool read_pin(chain *out, pep_view bytes)
{
    pep_reader r = pep_reader_of(bytes);
    pep_map map;
    uint64_t version;
    pep_view statement;
    pep_view certificate = {NULL, 0};
    if (!pep_map_begin(&r, &map) || map.left < 3 || map.left > 4)
        return false;
    bool certified = map.left == 4;
    if (!pep_map_expect(&r, &map, PIN_VERSION) || !pep_read_uint(&r, &version) || version != PIN_FORMAT_VERSION ||
        !pep_map_expect(&r, &map, PIN_STATEMENT) || !pep_read_bytes(&r, &statement) ||
        (certified && (!pep_map_expect(&r, &map, PIN_CERTIFICATE) || !pep_read_bytes(&r, &certificate))) ||
        !pep_map_expect(&r, &map, PIN_FORMER) || !read_formers(&r, out) || !pep_read_end(&r))
        return false;
    return copy(out->statement, &out->statement_n, sizeof out->statement, statement) &&
           copy(out->certificate, &out->certificate_n, sizeof out->certificate, certificate);
}

/* The head that a revocation leaves: its key is the last that ended. */
static bool revoked_head(pep_head *out, const chain *c, const pep_statement *s)
{
    if (c->former_count == 0 || c->former[0].reason != PEP_REVOKED_SIGNER)
        return false;
    *out = (pep_head){.version = s->version, .revoked = true};
    memcpy(out->id, s->id, sizeof out->id);
    memcpy(out->hash, s->hash, sizeof out->hash);
    memcpy(out->sign_public, c->former[0].sign_public, sizeof out->sign_public);
    pep_kid_sign(out->sign_kid, out->sign_public);
    return memcmp(out->sign_kid, s->old_kid, PEP_KID_BYTES) == 0;
}

static bool understand_pin(chain *c, const char *id)
{
    pep_statement s;
    if (pep_statement_parse(&s, c->statement, c->statement_n) != PEP_OK || strcmp(s.id, id) != 0)
        return false;
    c->known = true;
    if (s.kind == PEP_STATEMENT_REVOCATION)
        return revoked_head(&c->head, c, &s);
    c->record = s.record;
    return pep_head_begin(&c->head, &s) == PEP_OK;
}

static bool stamp_of(stamp *out, const char *path)
{
    struct stat st;
    *out = (stamp){0};
    if (lstat(path, &st) != 0)
        return false;
    out->device = st.st_dev;
    out->inode = st.st_ino;
    out->size = st.st_size;
    out->changed = st.st_mtim;
    out->owner = st.st_uid;
    return true;
}

/* Who owns a pin decides whom this process believes; root does in any case. */
static bool is_ours(uid_t owner)
{
    return owner == geteuid() || owner == 0;
}

static pep_reason refuse_owner(pep_error *error, const char *path)
{
    return pep_fail(error, PEP_UNSAFE_FILE, "%s belongs to another user, who could choose whom this one believes",
                    path);
}

static bool same_stamp(const stamp *a, const stamp *b)
{
    return a->device == b->device && a->inode == b->inode && a->size == b->size &&
           a->changed.tv_sec == b->changed.tv_sec && a->changed.tv_nsec == b->changed.tv_nsec;
}

/* Nothing pinned is PEP_OK, and out->known false. */
static pep_reason load_chain(chain *out, stamp *when, pep_error *error, const pep_pins *pins, const char *id)
{
    char path[PATH_BYTES];
    uint8_t bytes[ARMOR_BYTES_MAX];
    size_t n;
    memset(out, 0, sizeof *out);
    path_of(path, pins, id, PIN_ENDING);
    if (!stamp_of(when, path))
        return errno == ENOENT ? PEP_OK : pep_fail_errno(error, PEP_CANNOT_READ, "read", path);
    if (!is_ours(when->owner))
        return refuse_owner(error, path);
    pep_reason reason = file_read_armored(bytes, &n, error, path, PIN_LABEL, FILE_SECRET);
    if (reason == PEP_OK && (!read_pin(out, (pep_view){bytes, n}) || !understand_pin(out, id)))
        reason =
            pep_fail(error, PEP_BAD_FILE, "%s is no pin of %s that this version can read, or is damaged", path, id);
    if (reason != PEP_OK)
        out->known = false;
    return reason;
}

static void write_pin(pep_writer *w, const chain *c)
{
    pep_write_map(w, c->certificate_n > 0 ? 4 : 3);
    pep_write_uint(w, PIN_VERSION);
    pep_write_uint(w, PIN_FORMAT_VERSION);
    pep_write_uint(w, PIN_STATEMENT);
    pep_write_bytes(w, c->statement, c->statement_n);
    if (c->certificate_n > 0) {
        pep_write_uint(w, PIN_CERTIFICATE);
        pep_write_bytes(w, c->certificate, c->certificate_n);
    }
    pep_write_uint(w, PIN_FORMER);
    pep_write_array(w, c->former_count);
    for (size_t i = 0; i < c->former_count; i++) {
        pep_write_map(w, 3);
        pep_write_uint(w, FORMER_KEY);
        pep_write_bytes(w, c->former[i].sign_public, PEP_SIGN_PUBLIC_BYTES);
        pep_write_uint(w, FORMER_CUTOFF);
        pep_write_uint(w, c->former[i].cutoff);
        pep_write_uint(w, FORMER_REASON);
        pep_write_uint(w, (uint64_t)c->former[i].reason);
    }
}

static pep_reason save_chain(pep_error *error, const pep_pins *pins, const char *id, const chain *c)
{
    char path[PATH_BYTES];
    uint8_t bytes[PIN_BYTES_MAX];
    pep_writer w = {.p = bytes, .cap = sizeof bytes};
    path_of(path, pins, id, PIN_ENDING);
    write_pin(&w, c);
    if (w.full)
        return pep_fail(error, PEP_CANNOT_WRITE, "%s would be too large", path);
    return file_replace_armored(error, path, PIN_LABEL, FILE_SECRET, bytes, w.n);
}

/* ---- the lock: of whoever changes pins ---- */

static pep_reason open_lock(pep_pins *pins, pep_error *error)
{
    char path[PATH_BYTES];
    if (pins->lock >= 0)
        return PEP_OK;
    path_of(path, pins, LOCK_NAME, "");
    return file_open_state(&pins->lock, error, path);
}

static pep_reason take_lock(pep_pins *pins, pep_error *error)
{
    pep_reason reason = open_lock(pins, error);
    if (reason != PEP_OK)
        return reason;
    for (int waited_ms = 0; flock(pins->lock, LOCK_EX | LOCK_NB) != 0; waited_ms++) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            return pep_fail_errno(error, PEP_CANNOT_WRITE, "lock", pins->folder);
        if (waited_ms >= LOCK_WAIT_MS)
            return pep_fail(error, PEP_LOCKED, "another process keeps %s/%s locked", pins->folder, LOCK_NAME);
        (void)poll(NULL, 0, 1);
    }
    return PEP_OK;
}

static void leave_lock(const pep_pins *pins)
{
    (void)flock(pins->lock, LOCK_UN);
}

/* ---- what is certified ---- */

static bool signed_by(const pep_statement *s, const uint8_t authority[PEP_SIGN_PUBLIC_BYTES])
{
    uint8_t kid[PEP_KID_BYTES];
    uint8_t work[PIN_WORK_BYTES];
    pep_kid_sign(kid, authority);
    return memcmp(kid, s->signer_kid, PEP_KID_BYTES) == 0 &&
           verify_sign1(work, sizeof work, s->protected_bytes, s->payload, s->signature, authority) == PEP_OK;
}

static bool signed_by_authority(const pep_pins *pins, const pep_statement *s)
{
    for (size_t i = 0; i < pins->authority_count; i++)
        if (signed_by(s, pins->authorities[i]))
            return true;
    return false;
}

/* A recovery is an authority's word on whose the key is, as a certificate is. */
static bool is_recovery(const pep_pins *pins, const chain *c)
{
    pep_statement s;
    return pep_statement_parse(&s, c->statement, c->statement_n) == PEP_OK && s.kind == PEP_STATEMENT_ROTATION &&
           signed_by_authority(pins, &s);
}

/*
 * Whether a chain may begin here. Around a genuine record anybody can sign a rotation, and what is pinned then is a
 * statement that nothing genuine ever follows: somebody who is known must have signed the whole of it.
 */
static bool is_whole(const pep_pins *pins, const pep_statement *s)
{
    return s->kind == PEP_STATEMENT_RECORD ||
           (s->kind == PEP_STATEMENT_ROTATION && (signed_by(s, s->record.sign_public) || signed_by_authority(pins, s)));
}

/* Whether the certificate is for this device's key; *until_s: until when. now_s 0: at any time. */
static bool certificate_covers(uint64_t *until_s, const pep_pins *pins, const pep_head *head, pep_view bytes,
                               uint64_t now_s)
{
    pep_certificate c;
    if (bytes.n == 0 ||
        pep_certificate_parse(&c, bytes.p, bytes.n, (const uint8_t(*)[PEP_SIGN_PUBLIC_BYTES])pins->authorities,
                              pins->authority_count) != PEP_OK)
        return false;
    *until_s = c.not_after_s;
    return pep_certificate_covers(&c, head->id, head->sign_kid, false, now_s != 0 ? now_s : c.not_after_s) == PEP_OK;
}

static pep_view own_certificate(const chain *c)
{
    return (pep_view){c->certificate, c->certificate_n};
}

/* Whether what is pinned may be believed; where its certificate ends before the record, the record ends with it. */
static bool is_certified(const pep_pins *pins, chain *c)
{
    uint64_t until_s;
    if (pins->authority_count == 0)
        return true;
    if (!certificate_covers(&until_s, pins, &c->head, own_certificate(c), 0))
        return is_recovery(pins, c);
    if (until_s < c->record.not_after_s)
        c->record.not_after_s = until_s;
    return true;
}

/* ---- in memory ---- */

static pin *find_pin(const pep_pins *pins, const char *id)
{
    pin *p;
    HASH_FIND(by_id, pins->ids, id, strlen(id), p);
    return p;
}

static known_key *find_key(const pep_pins *pins, const uint8_t kid[PEP_KID_BYTES])
{
    known_key *key;
    HASH_FIND(by_kid, pins->keys, kid, PEP_KID_BYTES, key);
    return key;
}

static pin *make_pin(pep_pins *pins, const char *id)
{
    pin *p = find_pin(pins, id);
    if (p != NULL)
        return p;
    p = calloc(1, sizeof *p);
    if (p == NULL)
        return NULL;
    memcpy(p->id, id, strlen(id));
    HASH_ADD(by_id, pins->ids, id[0], strlen(p->id), p);
    if (p->by_id.tbl != NULL)
        return p;
    free(p); /* HASH_NONFATAL_OOM */
    return NULL;
}

static void drop_pending(pin *p)
{
    free(p->pending);
    p->pending = NULL;
}

static void drop_keys(pep_pins *pins, pin *p)
{
    for (size_t i = 0; i < p->key_count; i++)
        if (pins->keys != NULL && p->keys[i].by_kid.tbl != NULL)
            HASH_DELETE(by_kid, pins->keys, &p->keys[i]);
    free(p->keys);
    p->keys = NULL;
    p->key_count = 0;
}

static void drop_pin(pep_pins *pins, pin *p)
{
    drop_keys(pins, p);
    drop_pending(p);
    HASH_DELETE(by_id, pins->ids, p);
    free(p);
}

/* A key that another device has already stays that one's. */
static void index_keys(pep_pins *pins, pin *p)
{
    for (size_t i = 0; i < p->key_count; i++) {
        known_key *key = &p->keys[i];
        if (find_key(pins, key->record.sign_kid) == NULL)
            HASH_ADD(by_kid, pins->keys, record.sign_kid, PEP_KID_BYTES, key);
    }
}

/* A former key's record says no more than what verifying needs. It has no end: its cutoff is one. */
static void describe_former(pep_record *out, const char *id, const former *f)
{
    *out = (pep_record){.not_after_s = UINT64_MAX, .ended = f->reason, .cutoff = f->cutoff};
    memcpy(out->id, id, strlen(id) + 1);
    memcpy(out->sign_public, f->sign_public, sizeof out->sign_public);
    pep_kid_sign(out->sign_kid, out->sign_public);
}

/* False: out of memory, and nothing is known of the device until it is read again. */
static bool show(pep_pins *pins, pin *p, chain *c, const stamp *when)
{
    drop_keys(pins, p);
    p->stamp = *when;
    if (!c->known || !is_certified(pins, c))
        return true;
    size_t current = c->head.revoked ? 0 : 1;
    p->keys = calloc(current + c->former_count, sizeof *p->keys);
    if (p->keys == NULL) {
        p->stamp = (stamp){0};
        return false;
    }
    p->key_count = current + c->former_count;
    if (current > 0)
        p->keys[0].record = c->record;
    for (size_t i = 0; i < c->former_count; i++)
        describe_former(&p->keys[current + i].record, p->id, &c->former[i]);
    for (size_t i = 0; i < p->key_count; i++)
        p->keys[i].of = p;
    index_keys(pins, p);
    return true;
}

/* A revocation that nobody here can judge may be right: nothing that the device signs now is believed. */
static void doubt(pin *p, bool on)
{
    p->doubted = on;
    if (p->key_count == 0)
        return;
    pep_record *record = &p->keys[0].record;
    if (on && record->ended == PEP_OK)
        record->ended = PEP_REVOKED_SIGNER; /* cutoff 0 */
    else if (!on && record->ended == PEP_REVOKED_SIGNER && record->agree_count > 0)
        record->ended = PEP_OK;
}

/* Reads the device's file where it is another than the one that is known. NULL: it is not there, or not to be read. */
static pin *refresh(pep_pins *pins, const char *id)
{
    char path[PATH_BYTES];
    stamp now;
    chain c;
    pin *p = find_pin(pins, id);
    path_of(path, pins, id, PIN_ENDING);
    if (!stamp_of(&now, path)) {
        if (p != NULL)
            drop_keys(pins, p);
        return p;
    }
    if (p != NULL && same_stamp(&now, &p->stamp))
        return p;
    p = make_pin(pins, id);
    if (p == NULL)
        return NULL;
    if (load_chain(&c, &now, NULL, pins, id) != PEP_OK)
        memset(&c, 0, sizeof c);
    if (show(pins, p, &c, &now))
        doubt(p, p->doubted);
    return p;
}

static bool id_of_name(char id[PEP_ID_MAX + 1], const char *name)
{
    size_t n = strlen(name);
    size_t ending = strlen(PIN_ENDING);
    if (n <= ending || n - ending > PEP_ID_MAX || strcmp(name + n - ending, PIN_ENDING) != 0)
        return false;
    memcpy(id, name, n - ending);
    id[n - ending] = '\0';
    return pep_id_valid(id, n - ending);
}

/* Looks at every file of the folder, once. One that is damaged is found by nobody: pep_pins_take says so. */
static void index_folder(pep_pins *pins)
{
    if (pins->indexed)
        return;
    DIR *folder = opendir(pins->folder);
    if (folder == NULL)
        return;
    struct dirent *item;
    char id[PEP_ID_MAX + 1];
    while ((item = readdir(folder)) != NULL)
        if (id_of_name(id, item->d_name))
            (void)refresh(pins, id);
    closedir(folder);
    pins->indexed = true;
}

/* ---- moving a chain on ---- */

static bool has_kid(const uint8_t sign_public[PEP_SIGN_PUBLIC_BYTES], const uint8_t kid[PEP_KID_BYTES])
{
    uint8_t own[PEP_KID_BYTES];
    pep_kid_sign(own, sign_public);
    return memcmp(own, kid, PEP_KID_BYTES) == 0;
}

static bool was_former(const chain *c, const uint8_t kid[PEP_KID_BYTES])
{
    for (size_t i = 0; i < c->former_count; i++)
        if (has_kid(c->former[i].sign_public, kid))
            return true;
    return false;
}

static void add_former(chain *c, const former *f, bool newest)
{
    size_t room = c->former_count < FORMER_MAX ? c->former_count : FORMER_MAX - 1;
    if (!newest && c->former_count == FORMER_MAX)
        return;
    if (newest)
        memmove(c->former + 1, c->former, room * sizeof *f);
    c->former[newest ? 0 : c->former_count] = *f;
    if (c->former_count < FORMER_MAX)
        c->former_count++;
}

static void end_key(chain *c, const pep_statement *s)
{
    static const uint8_t none[PEP_KID_BYTES];
    if (memcmp(s->old_kid, none, PEP_KID_BYTES) == 0)
        return;
    former f = {.cutoff = s->cutoff,
                .reason = s->kind == PEP_STATEMENT_REVOCATION ? PEP_REVOKED_SIGNER : PEP_ROTATED_SIGNER};
    memcpy(f.sign_public, c->head.sign_public, sizeof f.sign_public);
    add_former(c, &f, true);
}

/* `s`, whose bytes these are, becomes the end of the chain: somebody has made sure that it is. */
static pep_reason move_on(chain *c, const pep_statement *s, pep_view bytes)
{
    if (!copy(c->statement, &c->statement_n, sizeof c->statement, bytes))
        return PEP_MALFORMED;
    if (c->known)
        end_key(c, s);
    c->known = true;
    if (s->kind == PEP_STATEMENT_REVOCATION)
        return revoked_head(&c->head, c, s) ? PEP_OK : PEP_BROKEN_CHAIN;
    if (was_former(c, s->record.sign_kid))
        return PEP_KID_TAKEN; /* a key that has ended does not come back */
    c->record = s->record;
    return pep_head_begin(&c->head, s);
}

static pep_reason advance(const pep_pins *pins, chain *c, pep_signed_by *by, const pep_statement *s, pep_view bytes)
{
    const pep_trust trust = {.authorities = (const uint8_t(*)[PEP_SIGN_PUBLIC_BYTES])pins->authorities,
                             .authority_count = pins->authority_count};
    pep_head head = c->head;
    pep_reason reason = pep_head_advance(&head, by, s, &trust);
    return reason == PEP_OK ? move_on(c, s, bytes) : reason;
}

/* ---- an entry ---- */

/* What is being judged, and what came of it. */
typedef struct {
    const char *id;
    uint64_t now_s;
    pep_entry entry;
    pep_statement statement;
    chain c; /* before, then after */
    stamp when;
    pep_pin_news news;
    bool given;   /* by the user's own hand: it may begin a pin wherever its chain stands */
    bool changed; /* c is to be written */
    bool doubted;
} judgement;

static pep_reason parse_entry(judgement *j, const uint8_t *bytes, size_t n)
{
    pep_reason reason = pep_entry_parse(&j->entry, bytes, n);
    if (reason == PEP_OK)
        reason = pep_statement_parse(&j->statement, j->entry.statement.p, j->entry.statement.n);
    if (reason == PEP_OK && strcmp(j->statement.id, j->id) != 0)
        reason = PEP_WRONG_ID;
    return reason;
}

static bool has_expired(const judgement *j)
{
    return j->now_s != 0 && j->statement.record.not_after_s < j->now_s;
}

/* Without authorities a certificate is nothing that could be judged, and is not kept. */
static pep_reason certify(const pep_pins *pins, judgement *j)
{
    uint64_t until_s;
    uint64_t pinned_s = 0;
    if (pins->authority_count == 0)
        return PEP_OK;
    bool pinned = certificate_covers(&pinned_s, pins, &j->c.head, own_certificate(&j->c), j->now_s);
    if (certificate_covers(&until_s, pins, &j->c.head, j->entry.certificate, j->now_s)) {
        if (pinned && until_s <= pinned_s)
            return PEP_OK;
        j->changed = true;
        return copy(j->c.certificate, &j->c.certificate_n, sizeof j->c.certificate, j->entry.certificate)
                   ? PEP_OK
                   : PEP_NOT_CERTIFIED;
    }
    return pinned || is_recovery(pins, &j->c) ? PEP_OK : PEP_NOT_CERTIFIED; /* a renewal needs no new one */
}

/*
 * Not newer than what is pinned. Of one version there is one statement: another one with the same key means that its
 * owner, or who has his key, tells different things to different people.
 */
static pep_reason judge_known(const judgement *j)
{
    const pep_statement *s = &j->statement;
    if (memcmp(s->hash, j->c.head.hash, sizeof s->hash) == 0)
        return PEP_OK;
    if (s->version < j->c.head.version)
        return PEP_VERSION_WENT_BACK;
    bool other_key =
        s->kind != PEP_STATEMENT_REVOCATION && memcmp(s->record.sign_kid, j->c.head.sign_kid, PEP_KID_BYTES) != 0;
    return other_key ? PEP_UNPROVEN_KEY : PEP_BROKEN_CHAIN;
}

/* PEP_REVOKED_SIGNER where it is right, and where it may be: an admin's signature is nobody's whom a receiver knows. */
static pep_reason judge_revocation(const pep_pins *pins, judgement *j)
{
    const pep_statement *s = &j->statement;
    if (j->c.known && s->version <= j->c.head.version) {
        pep_reason reason = judge_known(j);
        return reason == PEP_OK ? PEP_REVOKED_SIGNER : reason;
    }
    if (j->c.known && s->version > j->c.head.version + 1)
        return PEP_NEEDS_HISTORY;
    pep_reason reason = j->c.known ? advance(pins, &j->c, NULL, s, j->entry.statement) : PEP_UNPROVEN_KEY;
    j->changed = reason == PEP_OK;
    j->doubted = reason == PEP_UNPROVEN_KEY;
    return reason == PEP_OK || reason == PEP_UNPROVEN_KEY ? PEP_REVOKED_SIGNER : reason;
}

static bool is_anothers(pep_pins *pins, const char *id, const uint8_t kid[PEP_KID_BYTES])
{
    index_folder(pins);
    const known_key *key = find_key(pins, kid);
    return key != NULL && strcmp(key->of->id, id) != 0;
}

/* A first record, or the next version. */
static pep_reason judge_newer(pep_pins *pins, judgement *j)
{
    const pep_statement *s = &j->statement;
    uint8_t before[PEP_KID_BYTES];
    pep_signed_by by = PEP_SIGNED_BY_DEVICE;
    memcpy(before, j->c.head.sign_kid, sizeof before);
    if (is_anothers(pins, j->id, s->record.sign_kid))
        return PEP_KID_TAKEN;
    j->news = PEP_PIN_FIRST;
    j->changed = !j->c.known;
    if (!j->c.known)
        return j->given || is_whole(pins, s) ? move_on(&j->c, s, j->entry.statement) : PEP_NEEDS_HISTORY;
    if (s->version > j->c.head.version + 1)
        return PEP_NEEDS_HISTORY;
    bool same_key = memcmp(before, s->record.sign_kid, sizeof before) == 0;
    pep_reason reason = advance(pins, &j->c, &by, s, j->entry.statement);
    j->changed = reason == PEP_OK;
    j->news = by == PEP_SIGNED_BY_AUTHORITY ? PEP_PIN_RECOVERED : PEP_PIN_ROTATED;
    if (same_key)
        j->news = PEP_PIN_RENEWED;
    return reason;
}

static pep_reason judge_record(pep_pins *pins, judgement *j)
{
    bool known = j->c.known && j->statement.version <= j->c.head.version;
    pep_reason reason = known ? judge_known(j) : PEP_OK;
    if (reason == PEP_OK && has_expired(j))
        reason = PEP_EXPIRED_SIGNER;
    j->news = PEP_PIN_SAME;
    if (reason == PEP_OK && !known)
        reason = judge_newer(pins, j);
    return reason == PEP_OK ? certify(pins, j) : reason;
}

/* What is pinned, or the history beyond it that waits for a certificate. */
static pep_reason load_judged(chain *c, bool *pending, stamp *when, pep_error *error, pep_pins *pins, const char *id)
{
    pin *p = find_pin(pins, id);
    *pending = false;
    pep_reason reason = load_chain(c, when, error, pins, id);
    if (reason != PEP_OK || p == NULL || p->pending == NULL)
        return reason;
    *pending = !c->known || c->head.version < p->pending->head.version;
    if (*pending)
        *c = *p->pending;
    return PEP_OK;
}

/* The end of a chain that nobody certified is no more worth pinning than the chain. */
static bool keeps_certificate(const pep_pins *pins, judgement *j)
{
    uint64_t until_s;
    if (pins->authority_count > 0 && certificate_covers(&until_s, pins, &j->c.head, j->entry.certificate, 0))
        return copy(j->c.certificate, &j->c.certificate_n, sizeof j->c.certificate, j->entry.certificate);
    return is_certified(pins, &j->c);
}

static pep_reason fail_judged(pep_error *error, const char *id, pep_reason reason)
{
    return pep_fail(error, reason, "%s: %s (%s)", id, pep_reason_name(reason), pep_reason_text(reason));
}

static pep_reason judge(judgement *j, pep_error *error, pep_pins *pins)
{
    bool pending;
    j->changed = false;
    j->doubted = false;
    pep_reason reason = load_judged(&j->c, &pending, &j->when, error, pins, j->id);
    if (reason != PEP_OK)
        return reason;
    bool revocation = j->statement.kind == PEP_STATEMENT_REVOCATION;
    bool certified = is_certified(pins, &j->c);
    reason = revocation ? judge_revocation(pins, j) : judge_record(pins, j);
    j->changed = j->changed || (pending && reason == PEP_OK);
    if (revocation && j->changed && !keeps_certificate(pins, j) && !certified) {
        j->changed = false;
        j->doubted = true;
    }
    return reason == PEP_OK ? reason : fail_judged(error, j->id, reason);
}

static bool is_accepted(pep_reason reason)
{
    return reason == PEP_OK || reason == PEP_REVOKED_SIGNER;
}

/* Judges again while nobody else can move the pin, and writes. */
static pep_reason judge_and_write(judgement *j, pep_error *error, pep_pins *pins)
{
    pep_reason reason = take_lock(pins, error);
    if (reason != PEP_OK)
        return reason;
    reason = judge(j, error, pins);
    if (is_accepted(reason) && j->changed) {
        pep_reason written = save_chain(error, pins, j->id, &j->c);
        reason = written == PEP_OK ? reason : written;
    }
    leave_lock(pins);
    return reason;
}

static pep_reason take(judgement *j, pep_error *error, pep_pins *pins)
{
    pep_reason reason = judge(j, error, pins);
    if (is_accepted(reason) && j->changed)
        reason = judge_and_write(j, error, pins);
    if (is_accepted(reason)) {
        pin *p = make_pin(pins, j->id);
        if (p == NULL || refresh(pins, j->id) == NULL)
            return pep_fail(error, PEP_NO_MEMORY, "out of memory");
        doubt(p, j->doubted);
    }
    pin *p = find_pin(pins, j->id);
    if (p != NULL && reason != PEP_CANNOT_WRITE && reason != PEP_LOCKED)
        drop_pending(p);
    return reason;
}

pep_reason pep_pins_take(pep_pins *pins, pep_pin_news *news, pep_error *error, const char *id, const uint8_t *entry,
                         size_t entry_n, uint64_t now_s)
{
    judgement j = {.id = id, .now_s = now_s};
    if (!pep_id_valid(id, strlen(id)))
        return pep_fail(error, PEP_BAD_ARGUMENT, "'%.80s' is no id", id);
    pep_reason reason = parse_entry(&j, entry, entry_n);
    if (reason != PEP_OK)
        return fail_judged(error, id, reason);
    reason = take(&j, error, pins);
    if (reason == PEP_OK)
        *news = j.news;
    return reason;
}

pep_reason pep_pins_give(pep_pins *pins, pep_error *error, const pep_statement *statement, const uint8_t *bytes,
                         size_t n)
{
    judgement j = {.id = statement->id, .given = true, .statement = *statement, .entry.statement = {bytes, n}};
    pep_reason reason = take(&j, error, pins);
    bool older = reason == PEP_VERSION_WENT_BACK || reason == PEP_NEEDS_HISTORY; /* or newer than can be judged here */
    return older && pep_pins_find_id(pins, j.id) != NULL ? PEP_OK : reason;
}

/* ---- a history ---- */

/* Follows by hashes alone: whoever vouches for the last of them vouches for all. */
static pep_reason follow(chain *c, const pep_statement *s, pep_view bytes)
{
    static const uint8_t none[PEP_KID_BYTES];
    if (c->known && (s->version != c->head.version + 1 || memcmp(s->previous, c->head.hash, sizeof s->previous) != 0))
        return PEP_BROKEN_CHAIN;
    if (c->known && memcmp(s->old_kid, none, sizeof none) != 0 &&
        memcmp(s->old_kid, c->head.sign_kid, sizeof s->old_kid) != 0)
        return PEP_BROKEN_CHAIN;
    return move_on(c, s, bytes);
}

/* Where two ways lead to one head, the keys of both are its former ones. */
static void learn_formers(chain *c, const chain *past)
{
    chain before = *c;
    memcpy(c->former, past->former, sizeof c->former);
    c->former_count = past->former_count;
    for (size_t i = 0; i < before.former_count; i++) {
        uint8_t kid[PEP_KID_BYTES];
        pep_kid_sign(kid, before.former[i].sign_public);
        if (!was_former(c, kid))
            add_former(c, &before.former[i], false);
    }
}

typedef struct {
    const char *id;
    chain c;    /* as far as it was walked */
    chain good; /* as far as every step is proven */
    chain past; /* what lies below the pin */
    bool joined;
} walk;

/* A step at or below what is pinned. */
static pep_reason step_below(walk *w, const pep_statement *s, pep_view bytes)
{
    pep_reason reason = follow(&w->past, s, bytes);
    if (reason != PEP_OK || s->version < w->c.head.version)
        return reason;
    if (memcmp(s->hash, w->c.head.hash, sizeof s->hash) != 0)
        return PEP_BROKEN_CHAIN;
    learn_formers(&w->c, &w->past);
    w->good = w->c;
    w->joined = true;
    return PEP_OK;
}

/*
 * A step beyond it. A revocation by an admin cannot be judged here; an authority that recovers the device behind it
 * vouches for it, and nobody else can go on there.
 */
static pep_reason step_beyond(pep_pins *pins, walk *w, const pep_statement *s, pep_view bytes, bool last)
{
    bool record = s->kind != PEP_STATEMENT_REVOCATION;
    if (record && is_anothers(pins, w->id, s->record.sign_kid))
        return PEP_KID_TAKEN;
    bool began = w->c.known;
    pep_reason reason = began ? advance(pins, &w->c, NULL, s, bytes) : move_on(&w->c, s, bytes);
    if (reason == PEP_OK && (began || is_whole(pins, s))) /* what follows names the hash of where it began */
        w->good = w->c;
    if (reason != PEP_UNPROVEN_KEY || record)
        return reason;
    return last ? PEP_REVOKED_SIGNER : follow(&w->c, s, bytes);
}

static pep_reason walk_through(pep_pins *pins, walk *w, const pep_view *statements, size_t count)
{
    bool below = false;
    bool first = !w->c.known;
    w->good = w->c;
    for (size_t i = 0; i < count; i++) {
        pep_statement s;
        pep_reason reason = pep_statement_parse(&s, statements[i].p, statements[i].n);
        if (reason == PEP_OK && strcmp(s.id, w->id) != 0)
            reason = PEP_WRONG_ID;
        if (reason == PEP_OK && first && s.kind == PEP_STATEMENT_RECORD)
            w->c = (chain){0}; /* the operator gave the device other keys: its chain begins again */
        below = !first && !w->joined && s.version <= w->c.head.version && (i == 0 || below);
        if (reason == PEP_OK)
            reason = below ? step_below(w, &s, statements[i]) : step_beyond(pins, w, &s, statements[i], i + 1 == count);
        if (reason != PEP_OK)
            return reason;
    }
    return (below && !w->joined) || (w->c.known && !w->good.known) ? PEP_NEEDS_HISTORY : PEP_OK;
}

/* Keeps a chain that no authority has certified yet until an entry does. */
static pep_reason keep_pending(pep_pins *pins, pep_error *error, const char *id, const chain *c)
{
    pin *p = make_pin(pins, id);
    if (p != NULL && p->pending == NULL)
        p->pending = malloc(sizeof *p->pending);
    if (p == NULL || p->pending == NULL)
        return pep_fail(error, PEP_NO_MEMORY, "out of memory");
    *p->pending = *c;
    return PEP_OK;
}

static pep_reason keep_walked(pep_pins *pins, pep_error *error, walk *w, const chain *before)
{
    bool news = w->good.known && (!before->known || w->good.head.version > before->head.version ||
                                  w->good.former_count > before->former_count);
    if (!news)
        return PEP_OK;
    chain judged = w->good;
    if (!is_certified(pins, &judged))
        return keep_pending(pins, error, w->id, &w->good);
    pep_reason reason = save_chain(error, pins, w->id, &w->good);
    if (reason == PEP_OK && refresh(pins, w->id) == NULL)
        reason = pep_fail(error, PEP_NO_MEMORY, "out of memory");
    return reason;
}

static pep_reason take_walked(pep_pins *pins, pep_error *error, walk *w, const pep_view *statements, size_t count)
{
    bool pending;
    stamp when;
    pep_reason reason = load_judged(&w->c, &pending, &when, error, pins, w->id);
    if (reason != PEP_OK)
        return reason;
    chain before = w->c;
    pep_reason walked = walk_through(pins, w, statements, count);
    reason = keep_walked(pins, error, w, &before);
    if (reason != PEP_OK || walked == PEP_OK)
        return reason;
    return pep_fail(error, walked, "%s: its history: %s (%s)", w->id, pep_reason_name(walked), pep_reason_text(walked));
}

pep_reason pep_pins_take_history(pep_pins *pins, pep_error *error, const char *id, const pep_view *statements,
                                 size_t count)
{
    if (!pep_id_valid(id, strlen(id)))
        return pep_fail(error, PEP_BAD_ARGUMENT, "'%.80s' is no id", id);
    walk *w = calloc(1, sizeof *w);
    if (w == NULL)
        return pep_fail(error, PEP_NO_MEMORY, "out of memory");
    w->id = id;
    pep_reason reason = take_lock(pins, error);
    if (reason == PEP_OK) {
        reason = take_walked(pins, error, w, statements, count);
        leave_lock(pins);
    }
    free(w);
    return reason;
}

/* ---- opening, finding, forgetting ---- */

static pep_reason check_folder(pep_error *error, const char *folder)
{
    struct stat st;
    if (mkdir(folder, 0700) != 0 && errno != EEXIST)
        return pep_fail_errno(error, PEP_CANNOT_WRITE, "make the folder", folder);
    if (stat(folder, &st) != 0)
        return pep_fail_errno(error, PEP_CANNOT_READ, "read the folder", folder);
    if (!S_ISDIR(st.st_mode))
        return pep_fail(error, PEP_CANNOT_READ, "%s is not a folder", folder);
    if (!is_ours(st.st_uid))
        return refuse_owner(error, folder);
    if ((st.st_mode & (S_IWGRP | S_IWOTH)) != 0)
        return pep_fail(error, PEP_UNSAFE_FILE, "others may write in %s, which holds pins: chmod 700 %s", folder,
                        folder);
    return PEP_OK;
}

static pep_pins *make_pins(const char *folder, const uint8_t (*authorities)[PEP_SIGN_PUBLIC_BYTES], size_t count)
{
    pep_pins *pins = calloc(1, sizeof *pins);
    if (pins == NULL)
        return NULL;
    pins->lock = -1;
    (void)snprintf(pins->folder, sizeof pins->folder, "%s", folder);
    if (count == 0)
        return pins;
    pins->authorities = calloc(count, sizeof *pins->authorities);
    if (pins->authorities == NULL) {
        free(pins);
        return NULL;
    }
    memcpy(pins->authorities, authorities, count * sizeof *authorities);
    pins->authority_count = count;
    return pins;
}

pep_reason pep_pins_open(pep_pins **out, pep_error *error, const char *folder,
                         const uint8_t (*authorities)[PEP_SIGN_PUBLIC_BYTES], size_t authority_count)
{
    *out = NULL;
    if (strlen(folder) >= FOLDER_BYTES || authority_count > PEP_AUTHORITIES_MAX)
        return pep_fail(error, PEP_BAD_ARGUMENT, "too long a path, or too many authorities");
    pep_reason reason = check_folder(error, folder);
    if (reason != PEP_OK)
        return reason;
    *out = make_pins(folder, authorities, authority_count);
    return *out != NULL ? PEP_OK : pep_fail(error, PEP_NO_MEMORY, "out of memory");
}

void pep_pins_close(pep_pins *pins)
{
    pin *p;
    pin *next;
    if (pins == NULL)
        return;
    HASH_ITER(by_id, pins->ids, p, next)
    {
        drop_pin(pins, p);
    }
    if (pins->lock >= 0)
        close(pins->lock);
    free(pins->authorities);
    free(pins);
}

static pep_reason forget_file(const pep_pins *pins, pep_error *error, const char *id)
{
    char path[PATH_BYTES];
    path_of(path, pins, id, PIN_ENDING);
    if (unlink(path) == 0)
        return PEP_OK;
    if (errno == ENOENT)
        return pep_fail(error, PEP_UNKNOWN_ID, "nothing is pinned of %s in %s", id, pins->folder);
    return pep_fail_errno(error, PEP_CANNOT_WRITE, "remove", path);
}

pep_reason pep_pins_forget(pep_pins *pins, pep_error *error, const char *id)
{
    if (!pep_id_valid(id, strlen(id)))
        return pep_fail(error, PEP_BAD_ARGUMENT, "'%.80s' is no id", id);
    pep_reason reason = take_lock(pins, error);
    if (reason != PEP_OK)
        return reason;
    reason = forget_file(pins, error, id);
    leave_lock(pins);
    pin *p = find_pin(pins, id);
    if (reason == PEP_OK && p != NULL)
        drop_pin(pins, p);
    return reason;
}

const pep_record *pep_pins_find_id(pep_pins *pins, const char *id)
{
    if (!pep_id_valid(id, strlen(id)))
        return NULL;
    const pin *p = refresh(pins, id);
    return p != NULL && p->key_count > 0 ? &p->keys[0].record : NULL;
}

const pep_record *pep_pins_find(pep_pins *pins, const uint8_t kid[PEP_KID_BYTES])
{
    known_key *key = find_key(pins, kid);
    if (key == NULL) {
        index_folder(pins);
        key = find_key(pins, kid);
    }
    if (key == NULL || refresh(pins, key->of->id) == NULL)
        return NULL;
    key = find_key(pins, kid); /* it may have moved */
    return key != NULL ? &key->record : NULL;
}

/* Of a device whose pin cannot be read nothing is known, and something is pinned. */
static bool has_file(const pep_pins *pins, const char *id)
{
    char path[PATH_BYTES];
    stamp when;
    path_of(path, pins, id, PIN_ENDING);
    return stamp_of(&when, path) || errno != ENOENT;
}

pep_reason pep_pins_judge(pep_pins *pins, const pep_record *record)
{
    const pep_record *pinned = pep_pins_find_id(pins, record->id);
    const pin *p = find_pin(pins, record->id);
    if ((p != NULL && p->doubted) || (pinned != NULL && pinned->ended == PEP_REVOKED_SIGNER))
        return PEP_REVOKED_SIGNER;
    if (pinned != NULL)
        return memcmp(pinned->sign_kid, record->sign_kid, PEP_KID_BYTES) == 0 ? PEP_OK : PEP_ROTATED_SIGNER;
    if (pins->authority_count > 0)
        return PEP_NOT_CERTIFIED;
    return has_file(pins, record->id) ? PEP_UNKNOWN_SIGNER : PEP_OK;
}
