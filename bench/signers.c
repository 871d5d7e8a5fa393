/*
 * bench_signers: what the gate's memory of who may sign costs, for a thousand to a million keys: bytes a key, and the
 * time of a look-up by kid, for kids that are there and for others. No argument; prints a table.
 *
 * Each look-up waits for the one before it, as in a gate, where other work lies between two of them: independent ones
 * would hide each other's cache misses. The kids stand in a row in the order in which they are asked for (uniformly
 * random), so that fetching the question costs nothing.
 */
#include "directory/signers.h"
#include "measure.h"

#include <malloc.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BATCHES   101
#define BATCH     20000
#define KEYS_MAX  1000000
#define NOT_AFTER 4000000000ULL

typedef uint8_t kid[PEP_KID_BYTES];

typedef struct {
    signers *signers;
    kid *kids; /* of all keys */
    size_t count;
    kid asked[BATCH];
} bench;

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "bench_signers: %s\n", what);
    exit(3);
}

/* Bytes that the heap has given out, malloc's own heads included. */
static size_t heap_bytes(void)
{
    struct mallinfo2 now = mallinfo2();
    return now.uordblks + now.hblkhd;
}

static void fill(bench *b)
{
    char id[PEP_ID_MAX + 1];
    b->signers = signers_new();
    for (size_t i = 0; i < b->count; i++) {
        signer_spec spec = {.id = id, .has_key = true, .not_after_s = NOT_AFTER, .head = true};
        snprintf(id, sizeof id, "device-%08zu", i);
        randombytes_buf(b->kids[i], PEP_KID_BYTES);
        memcpy(spec.kid, b->kids[i], PEP_KID_BYTES);
        randombytes_buf(spec.sign_public, sizeof spec.sign_public);
        if (b->signers == NULL || !signers_put(b->signers, &spec))
            die("out of memory");
    }
}

static void ask_for(bench *b, bool there)
{
    if (!there)
        randombytes_buf(b->asked, sizeof b->asked);
    for (size_t i = 0; there && i < BATCH; i++)
        memcpy(b->asked[i], b->kids[randombytes_uniform((uint32_t)b->count)], PEP_KID_BYTES);
}

static double time_batch(const bench *b, bool there)
{
    signer found = {.cutoff = 0};
    size_t at = 0;
    size_t hits = 0;
    double started = wall_us();
    for (size_t i = 0; i < BATCH; i++, at++) {
        bool hit = signers_find(b->signers, &found, b->asked[at]);
        hits += hit;
        at += found.cutoff + (hit != there); /* never more than 0, which only we know */
    }
    double took = wall_us() - started;
    if (hits != (there ? BATCH : 0))
        die("a look-up is wrong");
    return took * 1e3 / BATCH;
}

static double time_lookups(bench *b, bool there)
{
    double took[BATCHES];
    for (size_t i = 0; i < BATCHES; i++) {
        ask_for(b, there);
        took[i] = time_batch(b, there);
    }
    return median(took, BATCHES);
}

static void print_row(bench *b, size_t count)
{
    b->count = count;
    size_t before = heap_bytes();
    fill(b);
    double heap = (double)(heap_bytes() - before) / (double)count;
    double counted = (double)signers_bytes(b->signers) / (double)count;
    double hit = time_lookups(b, true);
    double miss = time_lookups(b, false);
    printf("%9zu  %12.0f  %13.0f  %8.1f  %8.1f\n", count, heap, counted, hit, miss);
    signers_free(b->signers);
    malloc_trim(0);
}

int main(void)
{
    static bench b;
    b.kids = calloc(KEYS_MAX, sizeof *b.kids);
    if (b.kids == NULL || pep_init() != PEP_OK)
        die("out of memory");
    printf("Look-ups by kid, each after the one before it; medians of %d batches of %d:\n\n", BATCHES, BATCH);
    printf("%9s  %12s  %13s  %8s  %8s\n", "", "bytes a key,", "by", "ns, kids", "ns, kids");
    printf("%9s  %12s  %13s  %8s  %8s\n", "keys", "by malloc", "signers_bytes", "known", "unknown");
    for (size_t count = 1000; count <= KEYS_MAX; count *= 10)
        print_row(&b, count);
    printf("\nTargets: 300 bytes a key; 60 ns at 10,000 and 500 ns at 1,000,000.\n");
    free(b.kids);
    return 0;
}
