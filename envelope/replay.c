/*
 * Seqs that were seen: one mapped file of fixed slots. A slot is changed in an order in which a kill -9 between any two
 * stores leaves it sound: what was seen stays seen, and at worst one redelivery is not recognised as one.
 */
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uthash.h>

#include "envelope/error.h"
#include "envelope/files.h"
#include "pep/state.h"

#define MAGIC           "pep-replay1\n"
#define BYTE_ORDER_MARK 0x0102030405060708ULL
#define GROW_SLOTS      64

typedef struct {
    uint8_t key[PEP_KID_BYTES]; /* all zeros: a free slot */
    uint64_t floor;             /* seqs at or below it count as seen */
    uint64_t highest;
    uint64_t will_floor;
    uint64_t seqs[PEP_REPLAY_WINDOW]; /* in no order; 0: free */
    uint8_t digests[PEP_REPLAY_WINDOW][PEP_REPLAY_DIGEST_BYTES];
    uint8_t spare[24];
} replay_slot;
_Static_assert(sizeof(replay_slot) == PEP_REPLAY_SLOT_BYTES, "a slot's size is part of the file's format");

/* The file's head takes one slot's place. The file is of one machine: numbers are in its own byte order. */
typedef struct {
    char magic[16];
    uint64_t byte_order;
    uint64_t slot_bytes;
    uint64_t newest_us;
    uint8_t spare[PEP_REPLAY_SLOT_BYTES - 40];
} replay_head;
_Static_assert(sizeof(replay_head) == PEP_REPLAY_SLOT_BYTES, "the head takes one slot's place");

typedef struct {
    uint8_t key[PEP_KID_BYTES];
    size_t slot;
    UT_hash_handle hh;
} index_entry;

struct pep_replay {
    int fd;
    replay_head *map; /* then the slots */
    size_t slots;     /* in the file */
    size_t used;
    bool is_new;
    index_entry *index;
};

static replay_slot *slot_at(const pep_replay *replay, size_t i)
{
    return (replay_slot *)(void *)replay->map + 1 + i;
}

static size_t file_bytes(size_t slots)
{
    return (slots + 1) * PEP_REPLAY_SLOT_BYTES;
}

static pep_reason add_to_index(pep_replay *replay, size_t slot)
{
    index_entry *e = calloc(1, sizeof *e);
    if (e == NULL)
        return PEP_NO_MEMORY;
    memcpy(e->key, slot_at(replay, slot)->key, PEP_KID_BYTES);
    e->slot = slot;
    HASH_ADD(hh, replay->index, key, PEP_KID_BYTES, e);
    if (e->hh.tbl == NULL) { /* uthash had no memory (HASH_NONFATAL_OOM) */
        free(e);
        return PEP_NO_MEMORY;
    }
    return PEP_OK;
}

/* Takes room for `slots` on disk, so that no later write into the map can fail, and maps it. */
static bool map_slots(pep_replay *replay, size_t slots)
{
    size_t bytes = file_bytes(slots);
    int failed = posix_fallocate(replay->fd, 0, (off_t)bytes);
    if (failed != 0) {
        if (replay->map != NULL) /* some file systems keep the part that had room */
            (void)!ftruncate(replay->fd, (off_t)file_bytes(replay->slots));
        errno = failed;
        return false;
    }
    void *map = replay->map == NULL ? mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, replay->fd, 0)
                                    : mremap(replay->map, file_bytes(replay->slots), bytes, MREMAP_MAYMOVE);
    if (map == MAP_FAILED)
        return false;
    replay->map = map;
    replay->slots = slots;
    return true;
}

static bool head_valid(const replay_head *head)
{
    return memcmp(head->magic, MAGIC, sizeof MAGIC) == 0 && head->byte_order == BYTE_ORDER_MARK &&
           head->slot_bytes == PEP_REPLAY_SLOT_BYTES;
}

static bool is_blank(const replay_head *head)
{
    static const replay_head blank;
    return memcmp(head, &blank, sizeof blank) == 0;
}

/* One write: a kill -9 leaves the head whole or not there at all. */
static bool write_head(int fd)
{
    const replay_head head = {.magic = MAGIC, .byte_order = BYTE_ORDER_MARK, .slot_bytes = PEP_REPLAY_SLOT_BYTES};
    return pwrite(fd, &head, sizeof head, 0) == sizeof head;
}

static pep_reason load_slots(pep_replay *replay, pep_error *error, const char *path)
{
    static const uint8_t free_key[PEP_KID_BYTES];
    replay->is_new = is_blank(replay->map);
    if (replay->is_new && !write_head(replay->fd))
        return pep_fail_errno(error, PEP_CANNOT_WRITE, "write", path);
    if (!head_valid(replay->map))
        return pep_fail(error, PEP_BAD_FILE, "%s is not a replay state of this version and machine", path);
    while (replay->used < replay->slots && memcmp(slot_at(replay, replay->used)->key, free_key, PEP_KID_BYTES) != 0)
        if (add_to_index(replay, replay->used++) != PEP_OK)
            return pep_fail(error, PEP_NO_MEMORY, "out of memory while reading %s", path);
    return PEP_OK;
}

static pep_reason open_map(pep_replay *replay, pep_error *error, const char *path)
{
    struct stat st;
    if (flock(replay->fd, LOCK_EX | LOCK_NB) != 0)
        return errno == EWOULDBLOCK ? pep_fail(error, PEP_LOCKED, "%s is in use by another process", path)
                                    : pep_fail_errno(error, PEP_CANNOT_WRITE, "lock", path);
    if (fstat(replay->fd, &st) != 0)
        return pep_fail_errno(error, PEP_CANNOT_READ, "read", path);
    if (st.st_size > 0 && st.st_size < PEP_REPLAY_SLOT_BYTES)
        return pep_fail(error, PEP_BAD_FILE, "%s is damaged: it is shorter than its head", path);
    /* A part of a slot at the end was never used: the disk was full when the file grew. */
    size_t slots = st.st_size == 0 ? 0 : (size_t)st.st_size / PEP_REPLAY_SLOT_BYTES - 1;
    if (!map_slots(replay, slots > 0 ? slots : GROW_SLOTS))
        return pep_fail_errno(error, PEP_CANNOT_WRITE, "take room for", path);
    return load_slots(replay, error, path);
}

pep_reason pep_replay_open(pep_replay **out, pep_error *error, const char *path)
{
    *out = NULL;
    pep_replay *replay = calloc(1, sizeof *replay);
    if (replay == NULL)
        return pep_fail(error, PEP_NO_MEMORY, "out of memory");
    pep_reason reason = file_open_state(&replay->fd, error, path);
    if (reason == PEP_OK)
        reason = open_map(replay, error, path);
    if (reason != PEP_OK) {
        pep_replay_close(replay);
        return reason;
    }
    *out = replay;
    return PEP_OK;
}

void pep_replay_close(pep_replay *replay)
{
    index_entry *e;
    index_entry *next;
    if (replay == NULL)
        return;
    e = replay->index;
    HASH_CLEAR(hh, replay->index);
    for (; e != NULL; e = next) { /* the entries are still a list */
        next = e->hh.next;
        free(e);
    }
    if (replay->map != NULL)
        munmap(replay->map, file_bytes(replay->slots));
    if (replay->fd >= 0)
        close(replay->fd);
    free(replay);
}

bool pep_replay_is_new(const pep_replay *replay)
{
    return replay->is_new;
}

void pep_replay_sync(pep_replay *replay)
{
    /* Not msync: MS_SYNC waits for the disk, and MS_ASYNC does nothing on Linux. */
    (void)sync_file_range(replay->fd, 0, 0, SYNC_FILE_RANGE_WRITE);
}

static pep_reason new_slot(pep_replay *replay, const uint8_t key[PEP_KID_BYTES])
{
    if (replay->used == replay->slots && !map_slots(replay, replay->slots + replay->slots / 2 + GROW_SLOTS))
        return PEP_CANNOT_WRITE;
    memcpy(slot_at(replay, replay->used)->key, key, PEP_KID_BYTES);
    pep_reason reason = add_to_index(replay, replay->used);
    if (reason == PEP_OK)
        replay->used++;
    else
        memset(slot_at(replay, replay->used)->key, 0, PEP_KID_BYTES);
    return reason;
}

bool pep_replay_find(const pep_replay *replay, size_t *slot, const uint8_t key[PEP_KID_BYTES])
{
    index_entry *e;
    HASH_FIND(hh, replay->index, key, PEP_KID_BYTES, e);
    if (e != NULL)
        *slot = e->slot;
    return e != NULL;
}

pep_reason pep_replay_slot(pep_replay *replay, size_t *slot, const uint8_t key[PEP_KID_BYTES])
{
    if (pep_replay_find(replay, slot, key))
        return PEP_OK;
    *slot = replay->used;
    return new_slot(replay, key);
}

pep_reason pep_replay_reserve(pep_replay *replay, size_t slots)
{
    size_t wanted = replay->used + slots;
    return wanted <= replay->slots || map_slots(replay, wanted) ? PEP_OK : PEP_CANNOT_WRITE;
}

void pep_replay_key(uint8_t key[PEP_KID_BYTES], const uint8_t kid[PEP_KID_BYTES], const uint8_t *topic, size_t topic_n)
{
    crypto_generichash_state state;
    crypto_generichash_init(&state, NULL, 0, PEP_KID_BYTES);
    crypto_generichash_update(&state, kid, PEP_KID_BYTES);
    crypto_generichash_update(&state, topic, topic_n);
    crypto_generichash_final(&state, key, PEP_KID_BYTES);
}

static bool in_window(const replay_slot *s, uint64_t seq, size_t *at)
{
    for (*at = 0; *at < PEP_REPLAY_WINDOW; (*at)++)
        if (s->seqs[*at] == seq)
            return true;
    return false;
}

pep_reason pep_replay_check(const pep_replay *replay, size_t slot, pep_seen kind, uint64_t seq)
{
    const replay_slot *s = slot_at(replay, slot);
    size_t at;
    if (kind == PEP_SEEN_WILL)
        return seq > s->will_floor ? PEP_OK : PEP_REPLAYED;
    if (seq > s->highest)
        return PEP_OK;
    if (kind == PEP_SEEN_STATE || seq <= s->floor || in_window(s, seq, &at))
        return PEP_REPLAYED;
    return PEP_OK;
}

bool pep_replay_is_redelivery(const pep_replay *replay, size_t slot, uint64_t seq,
                              const uint8_t digest[PEP_REPLAY_DIGEST_BYTES])
{
    const replay_slot *s = slot_at(replay, slot);
    size_t at;
    return seq <= s->highest && in_window(s, seq, &at) && !sodium_is_zero(digest, PEP_REPLAY_DIGEST_BYTES) &&
           memcmp(s->digests[at], digest, PEP_REPLAY_DIGEST_BYTES) == 0;
}

static size_t lowest(const replay_slot *s)
{
    size_t low = 0;
    for (size_t i = 1; i < PEP_REPLAY_WINDOW; i++)
        if (s->seqs[i] < s->seqs[low])
            low = i;
    return low;
}

/* Stores that a kill -9 must not find in another order. */
static void ordered(void)
{
    atomic_signal_fence(memory_order_seq_cst);
}

static void commit_to_window(replay_slot *s, uint64_t seq, const uint8_t *digest)
{
    size_t at = lowest(s); /* a free place is 0, the lowest of all */
    if (seq < s->seqs[at]) {
        s->floor = seq; /* older than all that is remembered */
        return;
    }
    if (s->seqs[at] > s->floor)
        s->floor = s->seqs[at];
    ordered();
    s->seqs[at] = 0;
    ordered();
    if (digest != NULL)
        memcpy(s->digests[at], digest, PEP_REPLAY_DIGEST_BYTES);
    else
        memset(s->digests[at], 0, PEP_REPLAY_DIGEST_BYTES);
    ordered();
    s->seqs[at] = seq;
    ordered();
    if (seq > s->highest) /* last: until then a seq above it counts as new, and the message is not passed on yet */
        s->highest = seq;
}

void pep_replay_commit(pep_replay *replay, size_t slot, pep_seen kind, uint64_t seq, const uint8_t *digest)
{
    replay_slot *s = slot_at(replay, slot);
    if (kind == PEP_SEEN_WILL)
        s->will_floor = seq;
    else
        commit_to_window(s, seq, digest);
}

static void raise(uint64_t *at, uint64_t to)
{
    if (to > *at)
        *at = to;
}

static void merge_slot(replay_slot *into, const replay_slot *from)
{
    size_t at;
    raise(&into->will_floor, from->will_floor);
    raise(&into->floor, from->floor);
    for (size_t i = 0; i < PEP_REPLAY_WINDOW; i++)
        if (from->seqs[i] > into->floor && !in_window(into, from->seqs[i], &at))
            commit_to_window(into, from->seqs[i], from->digests[i]);
    raise(&into->highest, from->highest);
}

pep_reason pep_replay_merge(pep_replay *into, const pep_replay *from)
{
    pep_replay_note_time(into, from->map->newest_us);
    for (size_t i = 0; i < from->used; i++) {
        size_t slot;
        pep_reason reason = pep_replay_slot(into, &slot, slot_at(from, i)->key);
        if (reason != PEP_OK)
            return reason;
        merge_slot(slot_at(into, slot), slot_at(from, i));
    }
    return PEP_OK;
}

uint64_t pep_replay_newest_us(const pep_replay *replay)
{
    return replay->map->newest_us;
}

void pep_replay_note_time(pep_replay *replay, uint64_t us)
{
    if (us > replay->map->newest_us)
        replay->map->newest_us = us;
}
