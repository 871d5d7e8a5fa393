/* What was seen: the window, its floor, redeliveries, and that nothing seen is forgotten, however the process ends. */
#include "pep/state.h"

#include <malloc.h>

#include "scratch.h"
#include "unit.h"

/* The state file: a head of one slot's size, then slots. */
enum { AT_MAGIC = 0, AT_BYTE_ORDER = 16, AT_SLOT_BYTES = 24, HEAD_BYTES = PEP_REPLAY_SLOT_BYTES };
enum { AT_HIGHEST = HEAD_BYTES + 24, AT_SEQS = AT_HIGHEST + 16 }; /* of the first slot */

static const char *path; /* of the state file under test */
static pep_error error;
static pep_replay *replay;
static size_t slot;

static void key_of(uint8_t key[PEP_KID_BYTES], uint64_t number)
{
    memset(key, 0x5a, PEP_KID_BYTES);
    memcpy(key, &number, sizeof number);
}

static void open_replay(void)
{
    uint8_t key[PEP_KID_BYTES];
    key_of(key, 0);
    CU_ASSERT_EQUAL_FATAL(pep_replay_open(&replay, &error, path), PEP_OK);
    CU_ASSERT_EQUAL_FATAL(pep_replay_slot(replay, &slot, key), PEP_OK);
}

static void begin(void)
{
    scratch_begin();
    path = scratch_path("replay.state");
    open_replay();
}

static void reopen(void)
{
    pep_replay_close(replay);
    open_replay();
}

static void end(void)
{
    pep_replay_close(replay);
    scratch_end();
}

static bool is_new(pep_seen kind, uint64_t seq)
{
    pep_reason reason = pep_replay_check(replay, slot, kind, seq);
    CU_ASSERT(reason == PEP_OK || reason == PEP_REPLAYED);
    return reason == PEP_OK;
}

static bool is_new_message(uint64_t seq)
{
    return is_new(PEP_SEEN_MESSAGE, seq);
}

static void see(uint64_t seq)
{
    pep_replay_commit(replay, slot, PEP_SEEN_MESSAGE, seq, NULL);
}

/* ---- the window ---- */

static void test_window(void)
{
    begin();
    CU_ASSERT(is_new_message(10));
    CU_ASSERT(is_new_message(10)); /* asking changes nothing */
    see(10);
    CU_ASSERT_FALSE(is_new_message(10));
    CU_ASSERT(is_new_message(9) && is_new_message(11) && is_new_message(1) && is_new_message(PEP_SEQ_MAX));
    see(7); /* out of order */
    CU_ASSERT_FALSE(is_new_message(7));
    CU_ASSERT_FALSE(is_new_message(10));
    CU_ASSERT(is_new_message(8) && is_new_message(6));
    see(PEP_SEQ_MAX);
    CU_ASSERT_FALSE(is_new_message(PEP_SEQ_MAX));
    CU_ASSERT(is_new_message(PEP_SEQ_MAX - 1));
    end();
}

static void test_floor(void)
{
    begin();
    for (uint64_t i = 1; i <= PEP_REPLAY_WINDOW; i++)
        see(10 * i);
    CU_ASSERT(is_new_message(1)); /* all of the window is remembered: nothing is below it yet */
    see(10ULL * (PEP_REPLAY_WINDOW + 1));
    for (uint64_t seq = 1; seq <= 10; seq++) /* 10 went out, and what is older went with it */
        CU_ASSERT_FALSE(is_new_message(seq));
    for (uint64_t seq = 11; seq < 10ULL * (PEP_REPLAY_WINDOW + 2); seq++)
        CU_ASSERT_EQUAL(is_new_message(seq), seq % 10 != 0 || seq > 10ULL * (PEP_REPLAY_WINDOW + 1));
    end();
}

static void test_older_than_all(void)
{
    begin();
    for (uint64_t i = 1; i <= PEP_REPLAY_WINDOW; i++)
        see(100 + i);
    see(50); /* there is no place for it in the window: the floor keeps it */
    CU_ASSERT_FALSE(is_new_message(50));
    CU_ASSERT_FALSE(is_new_message(49));
    CU_ASSERT(is_new_message(51));
    CU_ASSERT_FALSE(is_new_message(101));
    end();
}

static void test_zero(void)
{
    begin();
    CU_ASSERT_FALSE(is_new_message(0)); /* no envelope has it; a free place must not look like it */
    see(5);
    CU_ASSERT_FALSE(is_new_message(0));
    end();
}

static void test_wills(void)
{
    begin();
    see(1000);
    CU_ASSERT(is_new(PEP_SEEN_WILL, 5)); /* sealed long ago, sent late: the window says nothing about it */
    pep_replay_commit(replay, slot, PEP_SEEN_WILL, 5, NULL);
    CU_ASSERT_FALSE(is_new(PEP_SEEN_WILL, 5));
    CU_ASSERT_FALSE(is_new(PEP_SEEN_WILL, 4));
    CU_ASSERT(is_new(PEP_SEEN_WILL, 6));
    CU_ASSERT(is_new_message(5)); /* nor the other way round */
    CU_ASSERT(is_new_message(1001));
    end();
}

static void test_state(void)
{
    begin();
    see(100);
    CU_ASSERT_FALSE(is_new(PEP_SEEN_STATE, 99));
    CU_ASSERT_FALSE(is_new(PEP_SEEN_STATE, 100)); /* passed on already */
    CU_ASSERT(is_new_message(99));
    CU_ASSERT(is_new(PEP_SEEN_STATE, 101));
    pep_replay_commit(replay, slot, PEP_SEEN_STATE, 101, NULL);
    CU_ASSERT_FALSE(is_new(PEP_SEEN_STATE, 101));
    CU_ASSERT_FALSE(is_new_message(101));
    end();
}

/* ---- redelivery ---- */

static bool redelivered(uint64_t seq, uint8_t digest_byte)
{
    uint8_t digest[PEP_REPLAY_DIGEST_BYTES];
    memset(digest, digest_byte, sizeof digest);
    return pep_replay_is_redelivery(replay, slot, seq, digest);
}

static void see_with(uint64_t seq, uint8_t digest_byte)
{
    uint8_t digest[PEP_REPLAY_DIGEST_BYTES];
    memset(digest, digest_byte, sizeof digest);
    pep_replay_commit(replay, slot, PEP_SEEN_MESSAGE, seq, digest);
}

static void test_redelivery(void)
{
    begin();
    CU_ASSERT_FALSE(redelivered(0, 0) || redelivered(0, 1) || redelivered(10, 1));
    see_with(10, 1);
    see_with(20, 2);
    see_with(30, 0);
    see(40);
    CU_ASSERT(redelivered(10, 1));
    CU_ASSERT(redelivered(20, 2));
    CU_ASSERT_FALSE(redelivered(10, 2)); /* another client, or other bytes */
    CU_ASSERT_FALSE(redelivered(11, 1));
    CU_ASSERT_FALSE(redelivered(30, 0)); /* zeros are no digest */
    CU_ASSERT_FALSE(redelivered(40, 0));
    CU_ASSERT_FALSE(redelivered(40, 1));
    reopen();
    CU_ASSERT(redelivered(10, 1));
    end();
}

static void test_redelivery_of_the_evicted(void)
{
    begin();
    see_with(10, 1);
    for (uint64_t i = 0; i < PEP_REPLAY_WINDOW; i++)
        see(100 + i); /* without digests: one must not inherit the digest of what it replaced */
    CU_ASSERT_FALSE(redelivered(10, 1));
    for (uint64_t i = 0; i < PEP_REPLAY_WINDOW; i++)
        CU_ASSERT_FALSE(redelivered(100 + i, 1));
    end();
}

static void test_redelivery_needs_every_byte(void)
{
    uint8_t digest[PEP_REPLAY_DIGEST_BYTES];
    begin();
    see_with(10, 0x77);
    memset(digest, 0x77, sizeof digest);
    for (size_t i = 0; i < sizeof digest; i++) {
        digest[i] ^= 1;
        CU_ASSERT_FALSE(pep_replay_is_redelivery(replay, slot, 10, digest));
        digest[i] ^= 1;
    }
    CU_ASSERT(pep_replay_is_redelivery(replay, slot, 10, digest));
    end();
}

/* ---- slots and the file ---- */

static void test_receiver_keys(void)
{
    uint8_t kids[2][PEP_KID_BYTES] = {{1}, {2}};
    uint8_t keys[4][PEP_KID_BYTES];
    pep_replay_key(keys[0], kids[0], (const uint8_t *)"a/b", 3);
    pep_replay_key(keys[1], kids[1], (const uint8_t *)"a/b", 3);
    pep_replay_key(keys[2], kids[0], (const uint8_t *)"a/c", 3);
    pep_replay_key(keys[3], kids[0], (const uint8_t *)"a/b", 3);
    CU_ASSERT_EQUAL(memcmp(keys[0], keys[3], PEP_KID_BYTES), 0);
    for (size_t i = 0; i < 3; i++)
        for (size_t k = 0; k < i; k++)
            CU_ASSERT_NOT_EQUAL(memcmp(keys[i], keys[k], PEP_KID_BYTES), 0);
}

static void test_slots_are_apart(void)
{
    uint8_t key[PEP_KID_BYTES];
    size_t other;
    begin();
    key_of(key, 1);
    CU_ASSERT_EQUAL(pep_replay_slot(replay, &other, key), PEP_OK);
    CU_ASSERT_NOT_EQUAL(other, slot);
    see(10);
    CU_ASSERT_EQUAL(pep_replay_check(replay, other, PEP_SEEN_MESSAGE, 10), PEP_OK);
    CU_ASSERT_FALSE(is_new_message(10));
    end();
}

static void test_persistence(void)
{
    begin();
    for (uint64_t i = 1; i <= PEP_REPLAY_WINDOW + 5; i++)
        see(2 * i);
    pep_replay_commit(replay, slot, PEP_SEEN_WILL, 77, NULL);
    pep_replay_note_time(replay, 1000);
    pep_replay_sync(replay);
    reopen();
    for (uint64_t seq = 1; seq <= 2ULL * (PEP_REPLAY_WINDOW + 5); seq++)
        CU_ASSERT_EQUAL(is_new_message(seq), seq > 10 && seq % 2 == 1);
    CU_ASSERT_FALSE(is_new(PEP_SEEN_WILL, 77));
    CU_ASSERT(is_new(PEP_SEEN_WILL, 78));
    CU_ASSERT_FALSE(is_new(PEP_SEEN_STATE, 2ULL * (PEP_REPLAY_WINDOW + 5)));
    CU_ASSERT_EQUAL(mode_of_file(path), 0600);
    end();
}

static void test_newest_time(void)
{
    begin();
    CU_ASSERT_EQUAL(pep_replay_newest_us(replay), 0);
    pep_replay_note_time(replay, 1000);
    pep_replay_note_time(replay, 999);
    CU_ASSERT_EQUAL(pep_replay_newest_us(replay), 1000);
    reopen();
    CU_ASSERT_EQUAL(pep_replay_newest_us(replay), 1000);
    end();
}

enum { MANY = 2000 };

/* True where each of the slots 1 to n is there and has seen its own number alone. */
static bool all_seen(uint64_t n)
{
    for (uint64_t i = 1; i <= n; i++) {
        uint8_t key[PEP_KID_BYTES];
        size_t at;
        key_of(key, i);
        if (pep_replay_slot(replay, &at, key) != PEP_OK ||
            pep_replay_check(replay, at, PEP_SEEN_MESSAGE, i) != PEP_REPLAYED ||
            pep_replay_check(replay, at, PEP_SEEN_MESSAGE, i + 1) != PEP_OK)
            return false;
    }
    return true;
}

static bool see_in_slot(uint64_t number)
{
    uint8_t key[PEP_KID_BYTES];
    size_t at;
    key_of(key, number);
    if (pep_replay_slot(replay, &at, key) != PEP_OK)
        return false;
    pep_replay_commit(replay, at, PEP_SEEN_MESSAGE, number, NULL);
    return true;
}

static void test_growth(void)
{
    struct stat st;
    begin();
    for (uint64_t i = 1; i <= MANY; i++)
        CU_ASSERT(see_in_slot(i));
    CU_ASSERT(all_seen(MANY));
    reopen();
    CU_ASSERT(all_seen(MANY));
    CU_ASSERT_EQUAL(stat(path, &st), 0);
    CU_ASSERT(st.st_size >= (off_t)(MANY + 2) * PEP_REPLAY_SLOT_BYTES);
    CU_ASSERT(st.st_blocks * 512 >= st.st_size); /* room on disk is taken, not only promised */
    end();
}

/* Of each signer, file and index together: at most 2 KiB. */
static void test_memory(void)
{
    struct stat st;
    begin();
    size_t heap_before = mallinfo2().uordblks;
    for (uint64_t i = 1; i <= MANY; i++)
        CU_ASSERT(see_in_slot(i));
    size_t heap = mallinfo2().uordblks - heap_before; /* 0 under the sanitizers and valgrind */
    CU_ASSERT_EQUAL(stat(path, &st), 0);
    size_t each = ((size_t)st.st_size + heap) / MANY;
    printf("%zu bytes a signer, %zu of them mapped ...", each, (size_t)st.st_size / MANY);
    CU_ASSERT(each <= 2048);
    end();
}

/* The last slot ends with the last page: looking for one behind it would not go unpunished. */
static void test_all_slots_used(void)
{
    enum { SLOTS = 63 };
    _Static_assert((SLOTS + 1) * PEP_REPLAY_SLOT_BYTES % 4096 == 0, "head and slots fill whole pages");
    begin();
    for (uint64_t i = 1; i < SLOTS; i++)
        CU_ASSERT(see_in_slot(i));
    pep_replay_close(replay);
    CU_ASSERT_EQUAL_FATAL(truncate(path, (off_t)(SLOTS + 1) * PEP_REPLAY_SLOT_BYTES), 0);
    open_replay();
    CU_ASSERT(all_seen(SLOTS - 1));
    CU_ASSERT(see_in_slot(SLOTS));
    reopen();
    CU_ASSERT(all_seen(SLOTS));
    end();
}

static void test_full_disk(void)
{
    uint64_t made = 0;
    begin();
    limit_files(true, HEAD_BYTES);
    while (made < MANY && see_in_slot(made + 1))
        made++;
    CU_ASSERT(made > 0 && made < MANY);
    CU_ASSERT(all_seen(made)); /* what is there goes on working */
    limit_files(false, 0);
    CU_ASSERT(see_in_slot(made + 1));
    CU_ASSERT(all_seen(made + 1));
    reopen();
    CU_ASSERT(all_seen(made + 1));
    end();
}

static void expect_open(pep_reason reason)
{
    pep_replay *other = NULL;
    CU_ASSERT_EQUAL(pep_replay_open(&other, &error, path), reason);
    CU_ASSERT((other != NULL) == (reason == PEP_OK));
    CU_ASSERT(reason == PEP_OK || strstr(error.text, path) != NULL);
    pep_replay_close(other);
}

static int open_locked(int report)
{
    pep_replay *other;
    close(report);
    return pep_replay_open(&other, NULL, path) == PEP_LOCKED ? 0 : 1;
}

static void test_lock(void)
{
    int reports;
    begin();
    pid_t child = start_child(&reports, open_locked);
    CU_ASSERT(ended_well(end_child(child, reports)));
    expect_open(PEP_LOCKED); /* nor twice in one process */
    pep_replay_close(replay);
    expect_open(PEP_OK);
    scratch_end();
}

static void test_damaged(void)
{
    static uint8_t good[70 * PEP_REPLAY_SLOT_BYTES];
    begin();
    see(5);
    pep_replay_close(replay);
    size_t n = read_file(good, sizeof good, path);
    CU_ASSERT_FATAL(n > 2ULL * PEP_REPLAY_SLOT_BYTES && n < sizeof good);
    for (size_t at = AT_MAGIC; at < AT_SLOT_BYTES + 8; at++) {
        if (at >= 13 && at < AT_BYTE_ORDER) /* behind the magic's end */
            continue;
        good[at] ^= 1;
        write_file(path, good, n, 0600);
        expect_open(PEP_BAD_FILE);
        good[at] ^= 1;
    }
    static const size_t wrong[] = {1, HEAD_BYTES - 1};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        write_file(path, good, wrong[i], 0600);
        expect_open(PEP_BAD_FILE);
    }
    /* A part of a slot at the end is what a full disk left of a growing file. */
    static const size_t grown[] = {2 * HEAD_BYTES + 8, 3 * HEAD_BYTES - 1};
    for (size_t i = 0; i < sizeof grown / sizeof grown[0]; i++) {
        write_file(path, good, grown[i], 0600);
        open_replay();
        CU_ASSERT_FALSE(is_new_message(5));
        CU_ASSERT_FALSE(pep_replay_is_new(replay));
        pep_replay_close(replay);
    }
    write_file(path, good, n, 0600);
    open_replay();
    CU_ASSERT_FALSE(is_new_message(5));
    end();
}

/* What a kill or a power cut between making the file and writing its head leaves behind. */
static void test_unfinished(void)
{
    static const uint8_t zeros[3 * PEP_REPLAY_SLOT_BYTES];
    static const size_t sizes[] = {0, HEAD_BYTES, sizeof zeros};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        scratch_begin();
        path = scratch_path("replay.state");
        write_file(path, zeros, sizes[i], 0600);
        open_replay();
        CU_ASSERT(is_new_message(1));
        CU_ASSERT(pep_replay_is_new(replay));
        see(1);
        reopen();
        CU_ASSERT_FALSE(pep_replay_is_new(replay));
        CU_ASSERT_FALSE(is_new_message(1));
        end();
    }
}

static void test_kinds_of_files(void)
{
    begin();
    pep_replay_close(replay);
    CU_ASSERT_EQUAL_FATAL(symlink(path, scratch_path("link")), 0);
    CU_ASSERT_EQUAL_FATAL(mkfifo(scratch_path("fifo"), 0600), 0);
    for (mode_t bit = 1; bit < 0100; bit <<= 1) {
        CU_ASSERT_EQUAL_FATAL(chmod(path, 0600 | bit), 0);
        expect_open(PEP_UNSAFE_FILE);
    }
    path = scratch_path("link");
    expect_open(PEP_CANNOT_WRITE);
    path = scratch_path("fifo");
    expect_open(PEP_BAD_FILE);
    path = scratch_folder;
    expect_open(PEP_CANNOT_WRITE);
    path = scratch_path("no-such-folder/replay.state");
    expect_open(PEP_CANNOT_WRITE);
    scratch_end();
}

/* ---- kill -9 ---- */

/* What a kill before the last store of a commit leaves: nobody had the message yet, so it is new and no redelivery. */
static void test_interrupted_commit(void)
{
    static const uint64_t before;
    begin();
    see_with(10, 1);
    pep_replay_close(replay);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    CU_ASSERT_EQUAL_FATAL(pwrite(fd, &before, sizeof before, AT_HIGHEST), sizeof before);
    close(fd);
    open_replay();
    CU_ASSERT(is_new_message(10));
    CU_ASSERT_FALSE(redelivered(10, 1));
    see_with(10, 1);
    CU_ASSERT_FALSE(is_new_message(10));
    CU_ASSERT(redelivered(10, 1));
    for (uint64_t i = 0; i < PEP_REPLAY_WINDOW; i++)
        see(100 + i);
    CU_ASSERT_FALSE(is_new_message(10));
    end();
}

/* What a kill between two stores of a commit leaves: a place that was made free, and nothing in it yet. */
static void test_interrupted_eviction(void)
{
    static const uint64_t none;
    begin();
    for (uint64_t i = 0; i < PEP_REPLAY_WINDOW + 5; i++)
        see(100 + i);
    pep_replay_close(replay);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    CU_ASSERT_EQUAL_FATAL(pwrite(fd, &none, sizeof none, AT_SEQS), sizeof none);
    close(fd);
    open_replay();
    see(1000);
    CU_ASSERT_FALSE(is_new_message(100)); /* what had fallen out before stays out */
    end();
}

static uint64_t life_begins; /* the child's first number */

/* Messages out of order, three steps forward and one back, each reported once it is committed. */
static int commit_forever(int report)
{
    uint8_t key[PEP_KID_BYTES];
    uint8_t digest[PEP_REPLAY_DIGEST_BYTES] = {1};
    key_of(key, 0);
    if (pep_replay_open(&replay, NULL, path) != PEP_OK || pep_replay_slot(replay, &slot, key) != PEP_OK)
        return 1;
    for (uint64_t i = life_begins;; i++) {
        uint64_t seq = i % 4 == 3 ? 2 * i - 9 : 2 * i;
        if (pep_replay_check(replay, slot, PEP_SEEN_MESSAGE, seq) == PEP_OK)
            pep_replay_commit(replay, slot, PEP_SEEN_MESSAGE, seq, digest);
        if (write(report, &seq, sizeof seq) != sizeof seq)
            return 1;
    }
}

static int grow_forever(int report)
{
    if (pep_replay_open(&replay, NULL, path) != PEP_OK)
        return 1;
    for (uint64_t i = life_begins; see_in_slot(i); i++)
        if (write(report, &i, sizeof i) != sizeof i)
            break;
    return 1;
}

/* Runs the child until `few` reports were read, kills it wherever it is by then, and reads the rest of them. */
static size_t run_and_kill(uint64_t *out, size_t cap, size_t few, int (*body)(int))
{
    int reports;
    size_t n = 0;
    pid_t child = start_child(&reports, body);
    while (n < few && next_report(reports, &out[n]))
        n++;
    kill(child, SIGKILL);
    while (n < cap && next_report(reports, &out[n]))
        n++;
    CU_ASSERT(WIFSIGNALED(end_child(child, reports)));
    return n;
}

enum { LIVES = 40, REPORTS_MAX = 10000 }; /* a pipe holds 64 KiB: 8192 reports */

static void test_kill(void)
{
    static uint64_t seqs[REPORTS_MAX];
    begin();
    pep_replay_close(replay);
    life_begins = 100;
    for (size_t life = 0; life < LIVES; life++) {
        size_t n = run_and_kill(seqs, REPORTS_MAX, 1 + life * 13 % 200, commit_forever);
        CU_ASSERT(n > 0 && n < REPORTS_MAX);
        unsigned accepted = 0;
        open_replay();
        for (size_t i = 0; i < n; i++)
            accepted += is_new_message(seqs[i]);
        CU_ASSERT_EQUAL(accepted, 0);
        life_begins += n + 100;
        CU_ASSERT(is_new_message(2 * life_begins));
        pep_replay_close(replay);
    }
    scratch_end();
}

static void test_kill_while_growing(void)
{
    static uint64_t numbers[REPORTS_MAX];
    uint64_t seen = 0;
    begin();
    pep_replay_close(replay);
    for (size_t life = 0; life < LIVES / 2; life++) {
        life_begins = seen + 1;
        size_t n = run_and_kill(numbers, REPORTS_MAX, 1 + life * 17 % 100, grow_forever);
        CU_ASSERT(n > 0 && n < REPORTS_MAX);
        seen += n;
        open_replay();
        CU_ASSERT(all_seen(seen));
        pep_replay_close(replay);
    }
    scratch_end();
}

/* ---- against a naive model ---- */

enum { SPACE = 40000 };

static bool seen[SPACE];
static uint64_t model_highest;

/* What the window must say: seen is seen, and below the 64 highest seen all counts as such. */
static bool model_is_new(uint64_t seq)
{
    unsigned above = 0;
    for (uint64_t i = model_highest; i > seq && above <= PEP_REPLAY_WINDOW; i--)
        above += seen[i];
    return !seen[seq] && above <= PEP_REPLAY_WINDOW;
}

static uint64_t random_state = 1;

static uint64_t random_below(uint64_t n)
{
    random_state = random_state * 6364136223846793005ULL + 1442695040888963407ULL;
    return (random_state >> 33) % n;
}

/* Around the highest: mostly near, at times far behind, at times ahead. */
static uint64_t random_seq(void)
{
    uint64_t behind = random_below(10) == 0 ? random_below(600) : random_below(100);
    uint64_t seq = model_highest + 1 + random_below(12);
    return seq > behind ? seq - behind : 1;
}

static unsigned one_round(void)
{
    uint64_t seq = random_seq();
    pep_seen kind = random_below(8) == 0 ? PEP_SEEN_STATE : PEP_SEEN_MESSAGE;
    bool expected = kind == PEP_SEEN_STATE ? seq > model_highest : model_is_new(seq);
    bool got = is_new(kind, seq);
    if (expected && got && random_below(4) != 0) {
        pep_replay_commit(replay, slot, kind, seq, NULL);
        seen[seq] = true;
        model_highest = seq > model_highest ? seq : model_highest;
    }
    return got != expected;
}

static void test_model(void)
{
    unsigned wrong = 0;
    unsigned rounds = 0;
    begin();
    while (model_highest < SPACE - 20) {
        wrong += one_round();
        if (rounds++ % 5000 == 0)
            reopen();
    }
    CU_ASSERT_EQUAL(wrong, 0);
    CU_ASSERT(rounds > SPACE);
    end();
}

static void test_start(void)
{
    CU_ASSERT_EQUAL(pep_init(), PEP_OK);
}

/* ---- two states together ---- */

/* Opens a second state beside `replay`, whose slot of key 0 is the second's `other_slot`. */
static pep_replay *open_other(size_t *other_slot)
{
    uint8_t key[PEP_KID_BYTES];
    pep_replay *other = NULL;
    key_of(key, 0);
    CU_ASSERT_EQUAL_FATAL(pep_replay_open(&other, &error, scratch_path("other.state")), PEP_OK);
    CU_ASSERT_EQUAL_FATAL(pep_replay_slot(other, other_slot, key), PEP_OK);
    return other;
}

static void test_merge(void)
{
    begin();
    size_t other_slot;
    pep_replay *other = open_other(&other_slot);
    static const uint8_t digest[PEP_REPLAY_DIGEST_BYTES] = {1, 2, 3};
    see(10);
    see(30);
    pep_replay_commit(other, other_slot, PEP_SEEN_MESSAGE, 20, digest);
    pep_replay_commit(other, other_slot, PEP_SEEN_MESSAGE, 40, NULL);
    pep_replay_commit(other, other_slot, PEP_SEEN_WILL, 25, NULL);
    pep_replay_note_time(other, 77);
    CU_ASSERT_EQUAL(pep_replay_merge(replay, other), PEP_OK);
    for (uint64_t seq = 1; seq <= 50; seq++)
        CU_ASSERT_EQUAL(is_new_message(seq), seq % 10 != 0 || seq == 50);
    CU_ASSERT_FALSE(is_new(PEP_SEEN_STATE, 40));
    CU_ASSERT_TRUE(is_new(PEP_SEEN_STATE, 41));
    CU_ASSERT_FALSE(is_new(PEP_SEEN_WILL, 25));
    CU_ASSERT_TRUE(is_new(PEP_SEEN_WILL, 26));
    CU_ASSERT_TRUE(pep_replay_is_redelivery(replay, slot, 20, digest));
    CU_ASSERT_EQUAL(pep_replay_newest_us(replay), 77);
    CU_ASSERT_EQUAL(pep_replay_merge(replay, other), PEP_OK); /* again: nothing more */
    CU_ASSERT_TRUE(is_new_message(41) && is_new_message(39));
    pep_replay_close(other);
    end();
}

/* Signers that only one of them has; and nothing goes back where the older one is the one that is taken over. */
static void test_merge_older(void)
{
    begin();
    size_t other_slot;
    uint8_t key[PEP_KID_BYTES];
    pep_replay *other = open_other(&other_slot);
    pep_replay_commit(other, other_slot, PEP_SEEN_MESSAGE, 5, NULL);
    for (uint64_t i = 1; i < 200; i++) {
        key_of(key, i);
        CU_ASSERT_EQUAL_FATAL(pep_replay_slot(other, &other_slot, key), PEP_OK);
        pep_replay_commit(other, other_slot, PEP_SEEN_MESSAGE, 1000 + i, NULL);
    }
    for (uint64_t i = 1; i <= 2ULL * PEP_REPLAY_WINDOW; i++)
        see(10 * i);
    pep_replay_commit(replay, slot, PEP_SEEN_WILL, 9, NULL);
    pep_replay_note_time(replay, 5);
    CU_ASSERT_EQUAL(pep_replay_merge(replay, other), PEP_OK);
    pep_replay_close(other);
    reopen();
    CU_ASSERT_FALSE(is_new_message(5) || is_new_message(10) || is_new_message(20ULL * PEP_REPLAY_WINDOW));
    CU_ASSERT_TRUE(is_new_message(20ULL * PEP_REPLAY_WINDOW + 1) && is_new_message(20ULL * PEP_REPLAY_WINDOW - 1));
    CU_ASSERT_FALSE(is_new(PEP_SEEN_WILL, 9));
    CU_ASSERT_EQUAL(pep_replay_newest_us(replay), 5);
    for (uint64_t i = 1; i < 200; i++) {
        key_of(key, i);
        CU_ASSERT_TRUE_FATAL(pep_replay_find(replay, &slot, key));
        CU_ASSERT_FALSE(is_new_message(1000 + i));
        CU_ASSERT_TRUE(is_new_message(999 + i));
    }
    end();
}

static void test_merge_model(void)
{
    for (int round = 0; round < 300; round++) {
        begin();
        size_t other_slot;
        pep_replay *other = open_other(&other_slot);
        bool known[400] = {false};
        for (uint64_t i = random_below(200); i > 0; i--) {
            uint64_t seq = random_below(399) + 1;
            if (pep_replay_check(other, other_slot, PEP_SEEN_MESSAGE, seq) == PEP_OK)
                pep_replay_commit(other, other_slot, PEP_SEEN_MESSAGE, seq, NULL);
            seq = random_below(399) + 1;
            if (is_new_message(seq))
                see(seq);
        }
        for (uint64_t seq = 1; seq < 400; seq++)
            known[seq] =
                !is_new_message(seq) || pep_replay_check(other, other_slot, PEP_SEEN_MESSAGE, seq) == PEP_REPLAYED;
        CU_ASSERT_EQUAL(pep_replay_merge(replay, other), PEP_OK);
        bool forgot = false;
        for (uint64_t seq = 1; seq < 400; seq++)
            forgot = forgot || (known[seq] && is_new_message(seq));
        CU_ASSERT_FALSE(forgot);
        CU_ASSERT_TRUE(is_new_message(400));
        pep_replay_close(other);
        end();
    }
}

static const unit_test tests[] = {
    {"the library starts", test_start},
    {"window: new, twice, out of order", test_window},
    {"window: what falls out", test_floor},
    {"window: older than all of it", test_older_than_all},
    {"seq 0", test_zero},
    {"wills have a floor of their own", test_wills},
    {"retained messages", test_state},
    {"redelivery", test_redelivery},
    {"redelivery: what fell out", test_redelivery_of_the_evicted},
    {"redelivery: every byte counts", test_redelivery_needs_every_byte},
    {"a receiver's keys", test_receiver_keys},
    {"slots are apart", test_slots_are_apart},
    {"closed and opened", test_persistence},
    {"newest time", test_newest_time},
    {"many slots", test_growth},
    {"memory", test_memory},
    {"all slots used", test_all_slots_used},
    {"a full disk", test_full_disk},
    {"lock", test_lock},
    {"damaged files", test_damaged},
    {"unfinished files", test_unfinished},
    {"kinds and modes of files", test_kinds_of_files},
    {"kill -9: an interrupted commit", test_interrupted_commit},
    {"kill -9: an interrupted eviction", test_interrupted_eviction},
    {"kill -9", test_kill},
    {"kill -9 while growing", test_kill_while_growing},
    {"against a naive model", test_model},
    {"two states together", test_merge},
    {"two states together: the older one", test_merge_older},
    {"two states together: nothing is forgotten", test_merge_model},
};

UNIT_MAIN("replay", tests)
