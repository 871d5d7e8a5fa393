/* bench_fill COUNT POOL RECORDS: seals COUNT envelopes of 256 bytes; the signer's record goes into the folder RECORDS.
 */
#include "pool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PLAIN_BYTES 256

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

static void write_envelope(FILE *out, const pep_device *device, const pep_epoch *epoch, uint64_t seq)
{
    static const uint8_t plain[PLAIN_BYTES];
    uint8_t bytes[2048];
    size_t n;
    pep_message m = {.from = device, .epoch = epoch, .seq = seq, .plain = {plain, sizeof(plain)}};
    m.topic = (pep_view){(const uint8_t *)POOL_TOPIC, strlen(POOL_TOPIC)};
    if (pep_seal(bytes, &n, sizeof(bytes), &m) != PEP_OK)
        die("cannot seal");
    uint32_t length = (uint32_t)n;
    if (fwrite(&length, sizeof(length), 1, out) != 1 || fwrite(bytes, 1, n, out) != n)
        die("cannot write the pool");
}

static int fill(size_t count, const char *path, const char *records)
{
    pep_device device;
    pep_epoch epoch;
    FILE *out = fopen(path, "wbe");
    if (out == NULL)
        die("cannot create the pool");
    if (pep_device_new(&device, POOL_SIGNER) != PEP_OK || pep_epoch_new(&epoch, device.sign_kid, POOL_TOPIC) != PEP_OK)
        die("cannot make keys");
    save_record(&device, records);
    uint64_t seq = pep_now_us();
    for (size_t i = 0; i < count; i++)
        write_envelope(out, &device, &epoch, seq + i);
    if (fclose(out) != 0)
        die("cannot write the pool");
    pep_epoch_wipe(&epoch);
    pep_device_wipe(&device);
    return 0;
}

int main(int count, char **args)
{
    if (count != 4) {
        fputs("usage: bench_fill COUNT POOL RECORDS\n", stderr);
        return 2;
    }
    if (pep_init() != PEP_OK)
        die("libsodium does not start");
    return fill(strtoul(args[1], NULL, 10), args[2], args[3]);
}
