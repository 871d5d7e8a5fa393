/*
 * bench_recorded COUNT WITH WITHOUT RECORDS: seals COUNT envelopes of 256 bytes, of ten devices in turn, into the file
 * WITH: each asks to have three facts recorded. And as many into WITHOUT, which ask for nothing and have as many bytes,
 * for a longer content. The signers' records go into the folder RECORDS.
 */
#include "pool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEVICES     10
#define PLAIN_BYTES 256

typedef struct {
    pep_device device;
    pep_epoch epoch;
} sender;

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "bench_recorded: %s\n", what);
    exit(3);
}

static void save_record(const pep_device *device, const char *folder)
{
    char path[8192];
    uint8_t bytes[PEP_RECORD_BYTES_MAX];
    size_t n;
    pep_error error = {"cannot sign a record"};
    uint64_t now = pep_now_us() / 1000000;
    snprintf(path, sizeof(path), "%s/%s.pub", folder, device->id);
    if (pep_record_sign(bytes, &n, device, now, now + 86400) != PEP_OK ||
        pep_record_save(&error, path, bytes, n) != PEP_OK)
        die(error.text);
}

static void make_senders(sender senders[DEVICES], const char *folder)
{
    char id[16];
    for (unsigned i = 0; i < DEVICES; i++) {
        snprintf(id, sizeof(id), POOL_SIGNER "-%u", i);
        if (pep_device_new(&senders[i].device, id) != PEP_OK ||
            pep_epoch_new(&senders[i].epoch, senders[i].device.sign_kid, POOL_TOPIC) != PEP_OK)
            die("cannot make keys");
        save_record(&senders[i].device, folder);
    }
}

static pep_view view_of(const char *text)
{
    return (pep_view){(const uint8_t *)text, strlen(text)};
}

/* All of the same size. */
static pep_view facts_of(uint8_t out[PEP_FACTS_MAX], unsigned i)
{
    char site[16];
    pep_view facts = {out, 0};
    snprintf(site, sizeof(site), "site-%u", i % 10);
    const pep_fact all[] = {
        {.key = view_of("temp"), .type = PEP_FACT_INT, .integer = 100 + i % 100},
        {.key = view_of("site"), .type = PEP_FACT_TEXT, .text = view_of(site)},
        {.key = view_of("alarm"), .type = PEP_FACT_BOOL, .integer = i % 50 == 0},
    };
    if (pep_facts_encode(out, &facts.n, all, sizeof(all) / sizeof(all[0])) != PEP_OK)
        die("cannot encode facts");
    return facts;
}

static size_t seal(uint8_t *out, size_t cap, const sender *from, uint64_t seq, size_t plain_n, pep_view facts)
{
    static const uint8_t plain[2 * PLAIN_BYTES];
    size_t n;
    const pep_message m = {.from = &from->device,
                           .epoch = &from->epoch,
                           .topic = view_of(POOL_TOPIC),
                           .seq = seq,
                           .plain = {plain, plain_n},
                           .facts = facts};
    if (pep_seal(out, &n, cap, &m) != PEP_OK)
        die("cannot seal");
    return n;
}

static void write_pool(const char *path, const sender senders[DEVICES], unsigned count, size_t plain_n, bool with)
{
    uint8_t bytes[4096];
    uint8_t facts[PEP_FACTS_MAX];
    uint64_t seq = pep_now_us();
    FILE *out = fopen(path, "wbe");
    if (out == NULL)
        die("cannot create a pool");
    for (unsigned i = 0; i < count; i++) {
        pep_view asked = with ? facts_of(facts, i) : (pep_view){NULL, 0};
        uint32_t n = (uint32_t)seal(bytes, sizeof(bytes), &senders[i % DEVICES], seq + i, plain_n, asked);
        if (fwrite(&n, sizeof(n), 1, out) != 1 || fwrite(bytes, 1, n, out) != n)
            die("cannot write a pool");
    }
    if (fclose(out) != 0)
        die("cannot write a pool");
}

int main(int count, char **args)
{
    static sender senders[DEVICES];
    uint8_t bytes[4096];
    uint8_t facts[PEP_FACTS_MAX];
    if (count != 5) {
        fputs("usage: bench_recorded COUNT WITH WITHOUT RECORDS\n", stderr);
        return 2;
    }
    if (pep_init() != PEP_OK)
        die("cannot start libsodium");
    make_senders(senders, args[4]);
    unsigned n = (unsigned)strtoul(args[1], NULL, 10);
    size_t with = seal(bytes, sizeof(bytes), &senders[0], 1, PLAIN_BYTES, facts_of(facts, 0));
    size_t without = seal(bytes, sizeof(bytes), &senders[0], 1, PLAIN_BYTES, (pep_view){NULL, 0});
    write_pool(args[2], senders, n, PLAIN_BYTES, true);
    write_pool(args[3], senders, n, PLAIN_BYTES + with - without, false);
    return 0;
}
