/*
 * bench_fill COUNT POOL RECORDS [LARGE]: seals COUNT envelopes of 256 bytes into the file POOL, and one of 200 KiB into
 * the file LARGE; the signer's record goes into the folder RECORDS.
 */
#include "pool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PLAIN_BYTES 256
#define LARGE_BYTES ((size_t)200 * 1024)

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "bench_fill: %s\n", what);
    exit(3);
}

static void save_record(const pep_device *device, const char *folder)
{
    char path[4096];
    uint8_t bytes[PEP_RECORD_BYTES_MAX];
    size_t n;
    pep_error error = {"cannot sign a record"};
    uint64_t now = pep_now_us() / 1000000;
    snprintf(path, sizeof(path), "%s/" POOL_SIGNER ".pub", folder);
    if (pep_record_sign(bytes, &n, device, now, now + 86400) != PEP_OK ||
        pep_record_save(&error, path, bytes, n) != PEP_OK)
        die(error.text);
}

/* COUNT envelopes of `plain_n` bytes, whose seqs follow each other. */
static void fill(const pep_device *device, const pep_epoch *epoch, const char *path, size_t count, size_t plain_n)
{
    static const uint8_t plain[LARGE_BYTES];
    static uint8_t bytes[2 * LARGE_BYTES];
    pep_message m = {.from = device, .epoch = epoch, .seq = pep_now_us(), .plain = {plain, plain_n}};
    m.topic = (pep_view){(const uint8_t *)POOL_TOPIC, strlen(POOL_TOPIC)};
    FILE *out = fopen(path, "wbe");
    if (out == NULL)
        die("cannot create the pool");
    for (size_t i = 0; i < count; i++, m.seq++) {
        size_t n;
        if (pep_seal(bytes, &n, sizeof(bytes), &m) != PEP_OK)
            die("cannot seal");
        uint32_t length = (uint32_t)n;
        if (fwrite(&length, sizeof(length), 1, out) != 1 || fwrite(bytes, 1, n, out) != n)
            die("cannot write the pool");
    }
    if (fclose(out) != 0)
        die("cannot write the pool");
}

int main(int count, char **args)
{
    pep_device device;
    pep_epoch epoch;
    if (count < 4 || count > 5) {
        fputs("usage: bench_fill COUNT POOL RECORDS [LARGE]\n", stderr);
        return 2;
    }
    if (pep_init() != PEP_OK || pep_device_new(&device, POOL_SIGNER) != PEP_OK ||
        pep_epoch_new(&epoch, device.sign_kid, POOL_TOPIC) != PEP_OK)
        die("cannot make keys");
    save_record(&device, args[3]);
    fill(&device, &epoch, args[2], strtoul(args[1], NULL, 10), PLAIN_BYTES);
    if (count == 5)
        fill(&device, &epoch, args[4], 1, LARGE_BYTES);
    pep_epoch_wipe(&epoch);
    pep_device_wipe(&device);
    return 0;
}
