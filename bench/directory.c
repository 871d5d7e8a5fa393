/*
 * bench_directory FOLDER [COUNT]: how long the directory takes to open with many records (a million unless told
 * otherwise), and what they take in memory, in on-request mode. FOLDER is empty: store and state go there.
 *
 * The store is filled by its own interface, as enrolments fill it, but for the signatures: a record in REAL_EVERY is
 * signed, the others have its bytes. Nobody looks at them before they are used: what is stored was verified when it
 * came. Prints a table of medians.
 */
#include "directory/directory.h"
#include "directory/rows.h"
#include "directory/tables.h"
#include "measure.h"

#include <fcntl.h>
#include <malloc.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ROUNDS     5
#define REAL_EVERY 1000
#define DAY_S      86400

typedef struct {
    char state[512];
    char url[600];
    size_t count;
    pep_device *real; /* each REAL_EVERY-th device */
    double open_s[ROUNDS], cold_s[ROUNDS], rss[ROUNDS], heap[ROUNDS], index[ROUNDS];
} bench;

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "bench_directory: %s\n", what);
    exit(3);
}

/* ---- filling ---- */

static void need(store *s, store_result result)
{
    if (result != STORE_OK)
        die(store_why(s));
}

static void set_number(store *s, const char *name, uint64_t number)
{
    const store_value p[] = {store_int((int64_t)number), store_text(name, strlen(name))};
    need(s, store_run(s, "UPDATE meta SET number = $1 WHERE name = $2", p, 2, NULL, NULL));
}

/* What enrolling the device leaves in the store. */
static void add(store *s, const pep_record *record, const statement_row *statement, uint64_t change)
{
    key_row key = {.position = 1, .has_key = true, .state = SIGNER_CURRENT, .head = true, .change = change};
    memcpy(key.id, record->id, sizeof key.id);
    memcpy(key.kid, record->sign_kid, sizeof key.kid);
    memcpy(key.sign_public, record->sign_public, sizeof key.sign_public);
    key.not_after_s = record->not_after_s;
    need(s, rows_add_statement(s, statement, record->id, record->issued_s));
    need(s, rows_put_key(s, &key));
    need(s, rows_add_agree_keys(s, record));
}

static void make_real(pep_device *device, pep_record *record, statement_row *statement, const char *id)
{
    uint64_t now_s = pep_now_us() / 1000000;
    *statement = (statement_row){.position = 1, .version = 1, .kind = PEP_STATEMENT_RECORD};
    if (pep_device_new(device, id) != PEP_OK ||
        pep_record_sign(statement->bytes, &statement->n, device, now_s, now_s + DAY_S) != PEP_OK ||
        pep_record_parse(record, statement->bytes, statement->n) != PEP_OK)
        die("cannot make a record");
    crypto_hash_sha256(statement->hash, statement->bytes, statement->n);
}

static void make_false(pep_record *record, statement_row *statement, const char *id)
{
    memcpy(record->id, id, strlen(id) + 1);
    randombytes_buf(record->sign_public, sizeof record->sign_public);
    randombytes_buf(record->sign_kid, sizeof record->sign_kid);
    randombytes_buf(record->agree[0].kid, sizeof record->agree[0].kid);
    randombytes_buf(statement->hash, sizeof statement->hash);
}

static void fill(bench *b)
{
    char id[PEP_ID_MAX + 1];
    store_result result;
    store_error error;
    static pep_record record;
    static statement_row statement;
    store *s = store_open(&result, &error, b->url, directory_migrations, DIRECTORY_MIGRATIONS);
    b->real = calloc(b->count / REAL_EVERY + 1, sizeof *b->real);
    if (s == NULL || b->real == NULL)
        die(s == NULL ? error.text : "out of memory");
    need(s, store_begin(s));
    for (size_t i = 0; i < b->count; i++) {
        snprintf(id, sizeof id, "device-%08zu", i);
        if (i % REAL_EVERY == 0)
            make_real(&b->real[i / REAL_EVERY], &record, &statement, id);
        else
            make_false(&record, &statement, id);
        add(s, &record, &statement, i + 1);
    }
    set_number(s, "change", b->count);
    set_number(s, "ids", b->count);
    need(s, store_commit(s));
    store_close(s);
}

/* ---- measuring ---- */

/* The second number of /proc/self/statm, in pages (proc(5)). */
static double rss_bytes(void)
{
    char text[256];
    FILE *file = fopen("/proc/self/statm", "re");
    const char *second = file != NULL && fgets(text, sizeof text, file) != NULL ? strchr(text, ' ') : NULL;
    if (second == NULL)
        die("cannot read /proc/self/statm");
    fclose(file);
    return (double)strtoul(second, NULL, 10) * (double)sysconf(_SC_PAGESIZE);
}

static double heap_bytes(void)
{
    struct mallinfo2 now = mallinfo2();
    return (double)(now.uordblks + now.hblkhd);
}

static bool publish(void *ctx, const char *topic, const uint8_t *p, size_t n)
{
    (void)ctx;
    (void)topic;
    (void)p;
    (void)n;
    return true;
}

static void answer(void *ctx, const char *client_id, const char *json, size_t n)
{
    (void)ctx;
    (void)client_id;
    (void)json;
    (void)n;
}

static void verified(void *ctx, const directory_asker *asker, bool good)
{
    (void)ctx;
    (void)asker;
    (void)good;
}

static void log_line(void *ctx, char level, const char *line)
{
    (void)ctx;
    if (level != 'd')
        fprintf(stderr, "%c: %s\n", level, line);
}

/* Each signed record is found; its first use finds nothing wrong with it. */
static void check(const bench *b, directory *d)
{
    signer found;
    double deadline = wall_us() + 10e6;
    if (signers_count(directory_signers(d)) != b->count)
        die("not all are loaded");
    for (size_t i = 0; i < b->count; i += REAL_EVERY)
        directory_first_use(d, b->real[i / REAL_EVERY].sign_kid);
    while (directory_tick(d, 2000) || wall_us() < deadline - 8e6)
        if (wall_us() > deadline)
            die("the directory does not come to an end");
    for (size_t i = 0; i < b->count; i += REAL_EVERY) {
        const pep_device *device = &b->real[i / REAL_EVERY];
        if (!signers_find(directory_signers(d), &found, device->sign_kid) || strcmp(found.id, device->id) != 0 ||
            memcmp(found.sign_public, device->sign_public, PEP_SIGN_PUBLIC_BYTES) != 0)
            die("a record is not found");
    }
}

/* As behind a boot: what the system keeps of the file in memory is dropped. */
static void forget_file(const bench *b)
{
    int fd = open(strchr(b->url, '/'), O_RDONLY | O_CLOEXEC);
    if (fd < 0 || posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) != 0)
        die("cannot open the database");
    close(fd);
}

static directory *open_it(const bench *b, double *took_s)
{
    pep_error error = {""};
    directory_rules rules = {.enroll = DIRECTORY_OPEN, .max_records = 2 * b->count};
    const directory_config config = {
        .store_url = b->url,
        .state_dir = b->state,
        .hooks = {.publish = publish, .answer = answer, .verified = verified, .log = log_line}};
    double started = wall_us();
    directory *d = directory_open(&error, &config, &rules);
    if (d == NULL)
        die(error.text);
    *took_s = (wall_us() - started) / 1e6;
    return d;
}

static void open_once(bench *b, size_t round)
{
    double rss = rss_bytes();
    double heap = heap_bytes();
    directory *d = open_it(b, &b->open_s[round]);
    b->rss[round] = (rss_bytes() - rss) / (double)b->count;
    b->heap[round] = (heap_bytes() - heap) / (double)b->count;
    b->index[round] = (double)signers_bytes(directory_signers(d)) / (double)b->count;
    if (round == 0)
        check(b, d);
    directory_close(d);
    forget_file(b);
    directory_close(open_it(b, &b->cold_s[round]));
    malloc_trim(0);
}

int main(int count, char **args)
{
    static bench b = {.count = 1000000};
    if (count < 2 || count > 3) {
        fputs("usage: bench_directory FOLDER [COUNT]\n", stderr);
        return 2;
    }
    if (count == 3)
        b.count = strtoul(args[2], NULL, 10);
    if (pep_init() != PEP_OK || b.count < 1)
        die("not a number of records");
    snprintf(b.state, sizeof b.state, "%s", args[1]);
    snprintf(b.url, sizeof b.url, "sqlite:%s/directory.db", args[1]);
    double started = wall_us();
    fill(&b);
    printf("%zu records, put into the store in %.0f s; medians of %d starts:\n\n", b.count, (wall_us() - started) / 1e6,
           ROUNDS);
    for (size_t i = 0; i < ROUNDS; i++)
        open_once(&b, i);
    printf("%-42s  %8.2f s\n", "directory_open", median(b.open_s, ROUNDS));
    printf("%-42s  %8.2f s\n", "the same, nothing of the file in memory", median(b.cold_s, ROUNDS));
    printf("%-42s  %8.0f bytes a record\n", "resident memory that it took", median(b.rss, ROUNDS));
    printf("%-42s  %8.0f bytes a record\n", "of that on the heap", median(b.heap, ROUNDS));
    printf("%-42s  %8.0f bytes a record\n", "of that signers_bytes", median(b.index, ROUNDS));
    printf("\nTargets: 5 s, 300 bytes a record.\n");
    free(b.real);
    return 0;
}
