/* The sender's seq: never twice and never backwards, over processes, kills and boots. */
#include "pep/state.h"

#include "unit.h"

#include <endian.h>
#include <sys/mman.h>

#include "scratch.h"

/* The state file (envelope/seq.c), numbers big-endian: magic, last, reserved, boot id. */
enum { AT_LAST = 8, AT_RESERVED = 16, AT_BOOT_ID = 24, FILE_BYTES = 64 };

#define SECOND_US 1000000ULL
#define AHEAD_US  (2 * SECOND_US)

static const char *path; /* of the state file under test */
static pep_error error;

static pep_seq *open_seq(void)
{
    pep_seq *seq = NULL;
    CU_ASSERT_EQUAL_FATAL(pep_seq_open(&seq, &error, path), PEP_OK);
    return seq;
}

static void begin(void)
{
    scratch_begin();
    path = scratch_path("device.seq");
}

static uint64_t next_of(pep_seq *seq)
{
    uint64_t out = 0;
    CU_ASSERT_EQUAL(pep_seq_next(seq, &out), PEP_OK);
    return out;
}

static uint64_t counter_of(pep_seq *seq)
{
    uint64_t out = 0;
    CU_ASSERT_EQUAL(pep_seq_next_counter(seq, &out), PEP_OK);
    return out;
}

static uint64_t number_at(size_t at)
{
    uint8_t bytes[FILE_BYTES];
    uint64_t number;
    CU_ASSERT_EQUAL_FATAL(read_file(bytes, sizeof bytes, path), FILE_BYTES);
    memcpy(&number, bytes + at, sizeof number);
    return be64toh(number);
}

static void overwrite(size_t at, const void *bytes, size_t n)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    CU_ASSERT_EQUAL_FATAL(pwrite(fd, bytes, n, (off_t)at), (ssize_t)n);
    close(fd);
}

static void overwrite_number(size_t at, uint64_t number)
{
    number = htobe64(number);
    overwrite(at, &number, sizeof number);
}

static void boot_again(void)
{
    overwrite(AT_BOOT_ID, "00000000-0000-4000-8000-000000000000", 36);
}

/* ---- one process ---- */

static void test_increasing(void)
{
    begin();
    pep_seq *seq = open_seq();
    uint64_t before = pep_now_us();
    uint64_t last = next_of(seq);
    CU_ASSERT(last >= before && last <= pep_now_us());
    unsigned wrong = 0;
    for (unsigned i = 0; i < 20000; i++) {
        uint64_t now = pep_now_us();
        uint64_t this = next_of(seq);
        wrong += this <= last || this < now;
        last = this;
    }
    CU_ASSERT_EQUAL(wrong, 0);
    CU_ASSERT_EQUAL(mode_of_file(path), 0600);
    pep_seq_close(seq);
    scratch_end();
}

static void test_reopening(void)
{
    begin();
    uint64_t last = 0;
    unsigned wrong = 0;
    for (unsigned i = 0; i < 1000; i++) {
        pep_seq *seq = open_seq();
        uint64_t this = next_of(seq);
        wrong += this <= last || this > pep_now_us() + AHEAD_US;
        last = this;
        pep_seq_close(seq);
    }
    CU_ASSERT_EQUAL(wrong, 0);
    scratch_end();
}

static void test_reservation(void)
{
    begin();
    pep_seq *seq = open_seq();
    uint64_t this = next_of(seq);
    CU_ASSERT_EQUAL(number_at(AT_LAST), this);
    CU_ASSERT_EQUAL(number_at(AT_RESERVED), this + AHEAD_US);
    uint64_t reserved = number_at(AT_RESERVED);
    this = next_of(seq); /* one reservation serves many */
    CU_ASSERT_EQUAL(number_at(AT_RESERVED), reserved);
    overwrite_number(AT_RESERVED, this); /* used up */
    this = next_of(seq);
    CU_ASSERT_EQUAL(number_at(AT_RESERVED), this + AHEAD_US);
    pep_seq_close(seq);
    scratch_end();
}

static void test_boot(void)
{
    begin();
    pep_seq *seq = open_seq();
    (void)next_of(seq);
    pep_seq_close(seq);
    uint64_t reserved = number_at(AT_RESERVED);
    boot_again();
    seq = open_seq();
    uint64_t first = next_of(seq);
    CU_ASSERT(first > reserved);
    CU_ASSERT_EQUAL(next_of(seq), first + 1); /* from there on as ever */
    CU_ASSERT(number_at(AT_RESERVED) > reserved);
    pep_seq_close(seq);
    scratch_end();
}

static void test_counter(void)
{
    begin();
    pep_seq *seq = open_seq();
    for (uint64_t i = 1; i <= 2500; i++)
        CU_ASSERT_EQUAL(counter_of(seq), i);
    pep_seq_close(seq);
    seq = open_seq();
    CU_ASSERT_EQUAL(counter_of(seq), 2501);
    pep_seq_close(seq);
    uint64_t reserved = number_at(AT_RESERVED);
    CU_ASSERT(reserved >= 2501);
    boot_again();
    seq = open_seq();
    CU_ASSERT_EQUAL(counter_of(seq), reserved + 1);
    pep_seq_close(seq);
    scratch_end();
}

/* A key numbers by time or counts: mixed, a counter would jump ahead and every time after it look old. */
static void test_mixed(void)
{
    uint64_t number;
    pep_seq *seq;
    begin();
    CU_ASSERT_EQUAL_FATAL(pep_seq_open(&seq, &error, path), PEP_OK);
    CU_ASSERT_EQUAL(pep_seq_next(seq, &number), PEP_OK);
    CU_ASSERT_EQUAL(pep_seq_next_counter(seq, &number), PEP_SEQ_MIXED);
    CU_ASSERT_EQUAL(pep_seq_next(seq, &number), PEP_OK);
    pep_seq_close(seq);
    scratch_end();
    begin();
    CU_ASSERT_EQUAL_FATAL(pep_seq_open(&seq, &error, path), PEP_OK);
    CU_ASSERT_EQUAL(pep_seq_next_counter(seq, &number), PEP_OK);
    CU_ASSERT_EQUAL(pep_seq_next(seq, &number), PEP_SEQ_MIXED);
    CU_ASSERT_EQUAL(pep_seq_next_counter(seq, &number), PEP_OK);
    CU_ASSERT_EQUAL(number, 2);
    pep_seq_close(seq);
    scratch_end();
}

static void test_counter_end(void)
{
    begin();
    pep_seq *seq = open_seq();
    uint64_t out;
    (void)counter_of(seq);
    overwrite_number(AT_LAST, PEP_SEQ_MAX - 1);
    CU_ASSERT_EQUAL(counter_of(seq), PEP_SEQ_MAX);
    CU_ASSERT_EQUAL(pep_seq_next_counter(seq, &out), PEP_SEQ_AHEAD);
    CU_ASSERT_EQUAL(out, 0);
    pep_seq_close(seq);
    scratch_end();
}

static void test_clock_once_ahead(void)
{
    begin();
    pep_seq *seq = open_seq();
    (void)next_of(seq);
    uint64_t near = pep_now_us() + PEP_MAX_SKEW_US / 2;
    uint64_t out;
    overwrite_number(AT_LAST, near);
    CU_ASSERT_EQUAL(next_of(seq), near + 1); /* receivers still accept that */
    overwrite_number(AT_LAST, pep_now_us() + 2 * PEP_MAX_SKEW_US);
    CU_ASSERT_EQUAL(pep_seq_next(seq, &out), PEP_SEQ_AHEAD);
    CU_ASSERT_EQUAL(out, 0);
    pep_seq_close(seq);
    seq = open_seq(); /* nor does opening it again help */
    CU_ASSERT_EQUAL(pep_seq_next(seq, &out), PEP_SEQ_AHEAD);
    pep_seq_close(seq);
    scratch_end();
}

/* ---- several processes ---- */

enum { PROCESSES = 4, EACH = 1500 };
#define ALL ((size_t)PROCESSES * EACH)

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* True where each number is greater than the one before. */
static bool increasing(const uint64_t *numbers, size_t n)
{
    for (size_t i = 1; i < n; i++)
        if (numbers[i] <= numbers[i - 1])
            return false;
    return true;
}

static int gate[2]; /* a pipe that nobody writes to: its end is the start for all */
static uint64_t *shared;
static pep_reason (*next)(pep_seq *, uint64_t *);

static int allocate_many(int report)
{
    pep_seq *seq;
    uint64_t index;
    char byte;
    close(gate[1]);
    if (read(gate[0], &byte, 1) != 0 || pep_seq_open(&seq, NULL, path) != PEP_OK)
        return 1;
    index = __atomic_fetch_add(&shared[0], 1, __ATOMIC_SEQ_CST);
    for (size_t i = 0; i < EACH; i++)
        if (next(seq, &shared[1 + index * EACH + i]) != PEP_OK)
            return 1;
    pep_seq_close(seq);
    close(report);
    return 0;
}

static void run_processes(void)
{
    pid_t children[PROCESSES];
    int reports[PROCESSES];
    const size_t bytes = (1 + ALL) * sizeof *shared;
    shared = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CU_ASSERT_FATAL(shared != MAP_FAILED);
    CU_ASSERT_EQUAL_FATAL(pipe2(gate, O_CLOEXEC), 0);
    for (size_t i = 0; i < PROCESSES; i++)
        children[i] = start_child(&reports[i], allocate_many);
    close(gate[0]);
    close(gate[1]);
    for (size_t i = 0; i < PROCESSES; i++)
        CU_ASSERT(ended_well(end_child(children[i], reports[i])));
    for (size_t i = 0; i < PROCESSES; i++)
        CU_ASSERT(increasing(shared + 1 + i * EACH, EACH));
    qsort(shared + 1, ALL, sizeof *shared, by_number);
    CU_ASSERT(increasing(shared + 1, ALL)); /* sorted and still increasing: none is there twice */
    CU_ASSERT_EQUAL(shared[ALL], number_at(AT_LAST));
    munmap(shared, bytes);
}

static void test_processes(void)
{
    begin();
    next = pep_seq_next;
    run_processes();
    scratch_end();
}

/* Each counter hangs on the one before alone, not on the clock: who reads before another has written is seen. */
static void test_processes_counting(void)
{
    begin();
    next = pep_seq_next_counter;
    run_processes();
    CU_ASSERT_EQUAL(number_at(AT_LAST), ALL);
    scratch_end();
}

static int report_forever(int report)
{
    pep_seq *seq;
    uint64_t out;
    if (pep_seq_open(&seq, NULL, path) != PEP_OK)
        return 1;
    while (pep_seq_next(seq, &out) == PEP_OK && write(report, &out, sizeof out) == sizeof out)
        ;
    return 1; /* only a kill ends this */
}

static void test_kill(void)
{
    begin();
    uint64_t last = 0;
    unsigned wrong = 0;
    for (unsigned life = 0; life < 40; life++) {
        int reports;
        uint64_t seq;
        pid_t child = start_child(&reports, report_forever);
        for (unsigned i = 0; i < 1 + life * 7 % 100 && next_report(reports, &seq); i++) {
            wrong += seq <= last;
            last = seq;
        }
        kill(child, SIGKILL); /* wherever it is by now */
        while (next_report(reports, &seq)) {
            wrong += seq <= last;
            last = seq;
        }
        CU_ASSERT(WIFSIGNALED(end_child(child, reports)));
    }
    CU_ASSERT_EQUAL(wrong, 0);
    CU_ASSERT(last > 0 && last <= pep_now_us() + AHEAD_US);
    scratch_end();
}

/* ---- files ---- */

static void expect_open(pep_reason reason)
{
    pep_seq *seq = NULL;
    CU_ASSERT_EQUAL(pep_seq_open(&seq, &error, path), reason);
    CU_ASSERT((seq != NULL) == (reason == PEP_OK));
    CU_ASSERT(reason == PEP_OK || strstr(error.text, path) != NULL);
    pep_seq_close(seq);
}

static void test_damaged(void)
{
    uint8_t good[FILE_BYTES + 1] = {0};
    begin();
    pep_seq *seq = open_seq();
    (void)next_of(seq);
    pep_seq_close(seq);
    CU_ASSERT_EQUAL_FATAL(read_file(good, sizeof good, path), FILE_BYTES);
    for (size_t n = 1; n <= sizeof good; n++) {
        write_file(path, good, n, 0600);
        expect_open(n == FILE_BYTES ? PEP_OK : PEP_BAD_FILE);
    }
    for (size_t i = 0; i < AT_LAST + 1; i++) { /* the magic, and numbers that are none */
        good[i] ^= 0x80;
        write_file(path, good, FILE_BYTES, 0600);
        expect_open(PEP_BAD_FILE);
        good[i] ^= 0x80;
    }
    good[AT_RESERVED] ^= 0x80;
    write_file(path, good, FILE_BYTES, 0600);
    expect_open(PEP_BAD_FILE);
    scratch_end();
}

static void test_damaged_while_open(void)
{
    begin();
    uint64_t out = 1;
    pep_seq *seq = open_seq();
    (void)next_of(seq);
    overwrite(0, "PEP", 3);
    CU_ASSERT_NOT_EQUAL(pep_seq_next(seq, &out), PEP_OK);
    CU_ASSERT_EQUAL(out, 0);
    pep_seq_close(seq);
    scratch_end();
}

static void test_kinds_of_files(void)
{
    begin();
    pep_seq_close(open_seq());
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
    path = scratch_path("no-such-folder/device.seq");
    expect_open(PEP_CANNOT_WRITE);
    path = scratch_folder;
    expect_open(PEP_CANNOT_WRITE);
    scratch_end();
}

static int open_read_only(int report)
{
    pep_seq *seq;
    close(report);
    if (!become_ordinary() || pep_seq_open(&seq, NULL, path) != PEP_OK) /* it could, were it not read-only */
        return 1;
    pep_seq_close(seq);
    return chmod(path, 0400) == 0 && pep_seq_open(&seq, NULL, path) == PEP_CANNOT_WRITE ? 0 : 2;
}

static void test_read_only(void)
{
    int reports;
    begin();
    pep_seq_close(open_seq());
    CU_ASSERT_EQUAL_FATAL(chmod(scratch_folder, 0755), 0);
    CU_ASSERT_FATAL(geteuid() != 0 || chown(path, NOBODY, NOBODY) == 0);
    pid_t child = start_child(&reports, open_read_only);
    CU_ASSERT(ended_well(end_child(child, reports)));
    scratch_end();
}

static void test_full_disk(void)
{
    begin();
    uint64_t out = 1;
    pep_seq *seq = open_seq();
    limit_files(true, 0);
    CU_ASSERT_EQUAL(pep_seq_next(seq, &out), PEP_CANNOT_WRITE);
    CU_ASSERT_EQUAL(out, 0);
    limit_files(false, 0);
    CU_ASSERT(next_of(seq) > 0);
    pep_seq_close(seq);
    scratch_end();
}

static void test_start(void)
{
    CU_ASSERT_EQUAL(pep_init(), PEP_OK);
}

static const unit_test tests[] = {
    {"the library starts", test_start},
    {"increasing, and not behind the clock", test_increasing},
    {"opened again and again", test_reopening},
    {"what is reserved", test_reservation},
    {"after a boot", test_boot},
    {"counters", test_counter},
    {"time and counters do not mix", test_mixed},
    {"counters: the last", test_counter_end},
    {"a clock that was ahead", test_clock_once_ahead},
    {"several processes at once", test_processes},
    {"several processes at once: counters", test_processes_counting},
    {"kill -9", test_kill},
    {"damaged files", test_damaged},
    {"damaged while open", test_damaged_while_open},
    {"kinds and modes of files", test_kinds_of_files},
    {"read-only", test_read_only},
    {"a full disk", test_full_disk},
};

UNIT_MAIN("seq", tests)
