#include "directory/signers.h"

#include <malloc.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <uthash.h>

/*
 * One key: one block of memory, its texts behind it. Nothing is changed in place but the flags: a key of which more
 * becomes known gets a new block, so that running out of memory leaves the old one as it was.
 */
typedef struct {
    uint8_t kid[PEP_KID_BYTES]; /* what a look-up needs stands together, in one cache line or two */
    uint8_t state;
    uint8_t id_n;
    bool has_key : 1;
    bool has_groups : 1;
    bool head : 1;
    bool provisioned : 1;
    bool hidden : 1; /* of heads: provisioned, and its file is gone */
    bool distrusted : 1;
    bool used : 1;
    bool served : 1;
    uint64_t not_after_s;
    uint64_t ended_s;
    uint64_t cutoff;
    uint64_t served_hash; /* of heads: of what lies retained, where it is served */
    uint8_t sign_public[PEP_SIGN_PUBLIC_BYTES];
    UT_hash_handle by_id; /* only heads are found by id */
    char text[];          /* the id and NUL, then the groups */
} entry;

/*
 * Kids are found by open addressing, in a table of which at most half is taken. uthash goes from entry to entry, and
 * among a million of them each is a cache miss, 200 ns on a virtual machine: here the slot is one, and the entry the
 * second and last. No kid is ever removed: keys that end are still known.
 */
typedef struct {
    entry *entry;  /* NULL: free */
    uint32_t hash; /* spares looking at entries of other kids */
} kid_slot;

#define FIRST_SLOTS 64
#define HUGE_PAGE   ((size_t)2 << 20)

struct signers {
    /* Devices choose their ids and, by trying, their kids: without secrets all could be made to lie in one place. */
    uint8_t id_key[crypto_shorthash_KEYBYTES];
    uint64_t kid_key[5];
    uint8_t entry_key[crypto_shorthash_KEYBYTES]; /* without it nothing can be made that passes for an entry */
    kid_slot *slots;
    size_t slot_count; /* a power of two */
    size_t key_count;
    entry *ids; /* uthash's head */
    signer_ids files;
    size_t count; /* heads that are current and found */
    size_t bytes; /* of the entries */
};

/* A large table lies in huge pages where the system has them: finding the page would be a miss of its own. */
static kid_slot *new_slots(size_t count)
{
    size_t bytes = count * sizeof(kid_slot);
    kid_slot *slots = aligned_alloc(bytes < HUGE_PAGE ? sizeof(kid_slot) : HUGE_PAGE, bytes);
    if (slots == NULL)
        return NULL;
    if (bytes >= HUGE_PAGE)
        (void)madvise(slots, bytes, MADV_HUGEPAGE);
    return memset(slots, 0, bytes);
}

signers *signers_new(void)
{
    signers *s = calloc(1, sizeof *s);
    if (s == NULL)
        return NULL;
    s->slots = new_slots(FIRST_SLOTS);
    if (s->slots == NULL) {
        free(s);
        return NULL;
    }
    s->slot_count = FIRST_SLOTS;
    crypto_shorthash_keygen(s->id_key);
    crypto_shorthash_keygen(s->entry_key);
    randombytes_buf(s->kid_key, sizeof s->kid_key);
    return s;
}

void signers_free(signers *s)
{
    if (s == NULL)
        return;
    HASH_CLEAR(by_id, s->ids);
    for (size_t i = 0; i < s->slot_count; i++)
        free(s->slots[i].entry);
    free(s->slots);
    signer_ids_free(&s->files);
    free(s);
}

/* ---- the two tables ---- */

static unsigned hash_id(const signers *s, const char *id, size_t n)
{
    uint64_t hash;
    crypto_shorthash((unsigned char *)&hash, (const unsigned char *)id, n, s->id_key);
    return (unsigned)hash;
}

/*
 * A kid is hashed for every message. It is uniform already unless somebody chose it, so that universal hashing does
 * (M. Thorup, "High Speed Hashing for Integers and Strings", 3.5: strongly universal with random keys) at a fraction of
 * SipHash's time.
 */
static uint32_t hash_kid(const signers *s, const uint8_t *kid)
{
    const uint64_t *key = s->kid_key;
    uint32_t x[4];
    memcpy(x, kid, sizeof x);
    return (uint32_t)(((key[0] + x[1]) * (key[1] + x[0]) + (key[2] + x[3]) * (key[3] + x[2]) + key[4]) >> 32);
}

static bool is_in(const kid_slot *slot, uint32_t hash, const uint8_t *kid)
{
    return slot->hash == hash && memcmp(slot->entry->kid, kid, PEP_KID_BYTES) == 0;
}

/* Where the kid is, or could be put. */
static kid_slot *slot_of(const signers *s, const uint8_t *kid)
{
    uint32_t hash = hash_kid(s, kid);
    size_t i = hash & (s->slot_count - 1);
    while (s->slots[i].entry != NULL && !is_in(&s->slots[i], hash, kid))
        i = (i + 1) & (s->slot_count - 1);
    return &s->slots[i];
}

static entry *entry_of_kid(const signers *s, const uint8_t *kid)
{
    return slot_of(s, kid)->entry;
}

/* Makes sure that one more kid has room. */
static bool ready_slots(signers *s)
{
    size_t count = s->slot_count * 2;
    if (s->key_count < s->slot_count / 2)
        return true;
    kid_slot *slots = new_slots(count);
    if (slots == NULL)
        return false;
    for (size_t i = 0; i < s->slot_count; i++) {
        size_t to = s->slots[i].hash & (count - 1);
        while (slots[to].entry != NULL)
            to = (to + 1) & (count - 1);
        slots[to] = s->slots[i];
    }
    free(s->slots);
    s->slots = slots;
    s->slot_count = count;
    return true;
}

static entry *entry_of_id(const signers *s, const char *id, size_t n)
{
    entry *e;
    HASH_FIND_BYHASHVALUE(by_id, s->ids, id, n, hash_id(s, id, n), e);
    return e;
}

static bool add_id(signers *s, entry *e)
{
    HASH_ADD_KEYPTR_BYHASHVALUE(by_id, s->ids, e->text, e->id_n, hash_id(s, e->text, e->id_n), e);
    return e->by_id.tbl != NULL; /* what uthash leaves when it had no memory (HASH_NONFATAL_OOM) */
}

/* ---- the operator's files ---- */

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static bool has_file(const signers *s, const char *id)
{
    return s->files.count > 0 && bsearch(&id, s->files.ids, s->files.count, sizeof id, by_text) != NULL;
}

void signer_ids_free(signer_ids *ids)
{
    free(ids->ids);
    *ids = (signer_ids){NULL, 0};
}

/* Does this entry count as a device that may speak? */
static bool counts(const entry *e)
{
    return e->head && e->state == SIGNER_CURRENT && !e->hidden && !e->distrusted;
}

static void set_hidden(signers *s, const char *id, bool hidden)
{
    entry *e = entry_of_id(s, id, strlen(id));
    if (e == NULL || !e->provisioned || e->hidden == hidden)
        return;
    s->count -= counts(e);
    e->hidden = hidden;
    s->count += counts(e);
}

/* Both lists are sorted: only what stands in one of them alone has to be touched. */
void signers_provision(signers *s, signer_ids *ids)
{
    signer_ids before = s->files;
    size_t i = 0;
    size_t j = 0;
    s->files = *ids;
    *ids = (signer_ids){NULL, 0};
    while (i < before.count || j < s->files.count) {
        int order = i == before.count ? 1 : j == s->files.count ? -1 : strcmp(before.ids[i], s->files.ids[j]);
        if (order < 0)
            set_hidden(s, before.ids[i], true);
        if (order > 0)
            set_hidden(s, s->files.ids[j], false);
        i += order <= 0;
        j += order >= 0;
    }
    signer_ids_free(&before);
}

/* ---- adding ---- */

/* Bytes of groups as signer has them, with the NUL at the end. */
static size_t groups_bytes(const char *groups)
{
    const char *p = groups;
    while (*p != '\0')
        p += strlen(p) + 1;
    return (size_t)(p - groups) + 1;
}

static entry *new_entry(const signers *s, const signer_spec *spec)
{
    size_t id_n = strlen(spec->id);
    size_t groups_n = spec->groups == NULL ? 0 : groups_bytes(spec->groups);
    entry *e = id_n > PEP_ID_MAX ? NULL : calloc(1, sizeof *e + id_n + 1 + groups_n);
    if (e == NULL)
        return NULL;
    memcpy(e->kid, spec->kid, sizeof e->kid);
    if (spec->has_key)
        memcpy(e->sign_public, spec->sign_public, sizeof e->sign_public);
    e->has_key = spec->has_key;
    e->state = (uint8_t)spec->state;
    e->not_after_s = spec->not_after_s;
    e->ended_s = spec->ended_s;
    e->cutoff = spec->cutoff;
    e->head = spec->head;
    e->provisioned = spec->provisioned;
    e->hidden = spec->provisioned && !has_file(s, spec->id);
    e->id_n = (uint8_t)id_n;
    memcpy(e->text, spec->id, id_n);
    e->has_groups = groups_n > 0;
    if (groups_n > 0)
        memcpy(e->text + id_n + 1, spec->groups, groups_n);
    return e;
}

/* Bytes that malloc took for it, its own head included. */
static size_t block_bytes(entry *e)
{
    return malloc_usable_size(e) + sizeof(size_t);
}

static void unhead(signers *s, entry *e)
{
    s->count -= counts(e);
    HASH_DELETE(by_id, s->ids, e); /* NOLINT(clang-analyzer-core.NullDereference): each head is in that table */
    e->head = false;
}

/* Puts it in the place of what was known of its kid. */
static void take_slot(signers *s, entry *e)
{
    kid_slot *slot = slot_of(s, e->kid);
    entry *old = slot->entry;
    *slot = (kid_slot){e, hash_kid(s, e->kid)};
    s->key_count += old == NULL;
    if (old == NULL)
        return;
    if (old->head)
        unhead(s, old);
    s->bytes -= block_bytes(old);
    free(old);
}

bool signers_put(signers *s, const signer_spec *spec)
{
    entry *e = new_entry(s, spec);
    if (e == NULL)
        return false;
    entry *head = entry_of_id(s, e->text, e->id_n);
    if (!ready_slots(s) || (e->head && !add_id(s, e))) {
        free(e);
        return false;
    }
    /* From here on nothing can fail. */
    e->served = head != NULL && head->served; /* what is retained is about the id */
    e->served_hash = head == NULL ? 0 : head->served_hash;
    s->count += counts(e);
    s->bytes += block_bytes(e);
    if (head != NULL && e->head)
        unhead(s, head);
    take_slot(s, e);
    return true;
}

/* ---- asking ---- */

/* A former key is gone when its device is: the head of its id knows. */
static bool is_found(const signers *s, const entry *e)
{
    if (e->distrusted)
        return false;
    if (!e->provisioned || e->head)
        return !e->hidden;
    const entry *head = entry_of_id(s, e->text, e->id_n);
    return head == NULL ? has_file(s, e->text) : !head->hidden;
}

static bool show(const signers *s, signer *out, const entry *e)
{
    if (e == NULL || !is_found(s, e))
        return false;
    out->id = e->text;
    out->kid = e->kid;
    out->sign_public = e->sign_public;
    out->has_key = e->has_key;
    out->state = (signer_state)e->state;
    out->not_after_s = e->not_after_s;
    out->ended_s = e->ended_s;
    out->cutoff = e->cutoff;
    out->groups = e->has_groups ? e->text + e->id_n + 1 : NULL;
    out->used = e->used;
    out->served = e->served;
    return true;
}

bool signers_find(const signers *s, signer *out, const uint8_t kid[PEP_KID_BYTES])
{
    return show(s, out, entry_of_kid(s, kid));
}

bool signers_find_id(const signers *s, signer *out, const char *id)
{
    return show(s, out, entry_of_id(s, id, strlen(id)));
}

void signers_mark_used(signers *s, const uint8_t kid[PEP_KID_BYTES])
{
    entry *e = entry_of_kid(s, kid);
    if (e != NULL)
        e->used = true;
}

static uint64_t hash_entry(const signers *s, const uint8_t *p, size_t n)
{
    uint64_t hash;
    crypto_shorthash((unsigned char *)&hash, p, n, s->entry_key);
    return hash;
}

void signers_mark_served(signers *s, const char *id, const uint8_t *p, size_t n)
{
    entry *e = entry_of_id(s, id, strlen(id));
    if (e == NULL)
        return;
    e->served = n > 0;
    e->served_hash = n > 0 ? hash_entry(s, p, n) : 0;
}

bool signers_serves(const signers *s, const char *id, const uint8_t *p, size_t n)
{
    const entry *e = entry_of_id(s, id, strlen(id));
    return e != NULL && is_found(s, e) && e->served && n > 0 && e->served_hash == hash_entry(s, p, n);
}

void signers_distrust(signers *s, const uint8_t kid[PEP_KID_BYTES])
{
    entry *e = entry_of_kid(s, kid);
    if (e == NULL)
        return;
    s->count -= counts(e);
    e->distrusted = true;
}

size_t signers_count(const signers *s)
{
    return s->count;
}

size_t signers_key_count(const signers *s)
{
    return s->key_count;
}

size_t signers_ending(const signers *s, char first[PEP_ID_MAX + 1], uint64_t *first_s, uint64_t end_s)
{
    size_t count = 0;
    *first_s = UINT64_MAX;
    for (const entry *e = s->ids; e != NULL; e = e->by_id.next) {
        if (!counts(e) || e->not_after_s > end_s)
            continue;
        count++;
        if (e->not_after_s >= *first_s)
            continue;
        *first_s = e->not_after_s;
        memcpy(first, e->text, e->id_n + (size_t)1);
    }
    return count;
}

size_t signers_bytes(const signers *s)
{
    size_t bytes = sizeof *s + s->bytes + s->slot_count * sizeof *s->slots;
    if (s->ids != NULL) {
        const UT_hash_table *ids = s->ids->by_id.tbl;
        bytes += sizeof *ids + ids->num_buckets * sizeof(UT_hash_bucket);
    }
    return bytes;
}
