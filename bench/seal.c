/*
 * What sealing costs, in epoch mode, against the least that it could cost: one Ed25519 signature and one
 * ChaCha20-Poly1305 of the same bytes by libsodium alone. Prints a table; medians over interleaved batches.
 */
#include "measure.h"
#include "pep.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOPIC     "sensors/7/telemetry"
#define BATCHES   201
#define PLAIN_MAX 16384

typedef struct {
    pep_device device;
    pep_epoch epoch;
    uint8_t plain[PLAIN_MAX];
    uint8_t out[PLAIN_MAX * 2 + 4096];
} bench;

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "bench_seal: %s\n", what);
    exit(3);
}

/* Returns the envelope's length. */
static size_t seal_one(bench *b, size_t plain_n)
{
    static uint64_t seq;
    size_t n = 0;
    seq++;
    pep_message m = {.from = &b->device, .epoch = &b->epoch, .seq = seq, .plain = {b->plain, plain_n}};
    m.topic = (pep_view){(const uint8_t *)TOPIC, strlen(TOPIC)};
    if (pep_seal(b->out, &n, sizeof(b->out), &m) != PEP_OK)
        die("cannot seal");
    return n;
}

/* The signature covers what it covers in an envelope: all but itself and the frame around it. */
static void bare_one(bench *b, size_t plain_n, size_t signed_n)
{
    uint8_t nonce[crypto_aead_chacha20poly1305_IETF_NPUBBYTES] = {0};
    uint8_t signature[crypto_sign_BYTES];
    crypto_aead_chacha20poly1305_ietf_encrypt(b->out, NULL, b->plain, plain_n, NULL, 0, NULL, nonce, b->epoch.key);
    crypto_sign_detached(signature, NULL, b->out, signed_n, b->device.sign_secret);
    b->plain[0] ^= signature[0]; /* so that nothing can be left out */
}

static double time_seals(bench *b, size_t plain_n, size_t batch)
{
    double started = cpu_us();
    for (size_t i = 0; i < batch; i++)
        seal_one(b, plain_n);
    return (cpu_us() - started) / (double)batch;
}

static double time_bare(bench *b, size_t plain_n, size_t signed_n, size_t batch)
{
    double started = cpu_us();
    for (size_t i = 0; i < batch; i++)
        bare_one(b, plain_n, signed_n);
    return (cpu_us() - started) / (double)batch;
}

static void print_row(bench *b, size_t plain_n)
{
    double seals[BATCHES], bares[BATCHES];
    size_t envelope_n = seal_one(b, plain_n);
    size_t signed_n = envelope_n - PEP_SIGNATURE_BYTES;
    size_t batch = plain_n > 4096 ? 10 : 40;
    for (size_t i = 0; i < BATCHES; i++) {
        seals[i] = time_seals(b, plain_n, batch);
        bares[i] = time_bare(b, plain_n, signed_n, batch);
    }
    double seal = median(seals, BATCHES), bare = median(bares, BATCHES);
    printf("%8zu  %10.1f  %10.1f  %7.3f  %10zu  %10zu\n", plain_n, seal, bare, seal / bare, envelope_n,
           envelope_n - plain_n - strlen(TOPIC));
}

int main(void)
{
    static bench b;
    static const size_t sizes[] = {64, 256, 1024, 16384};
    if (pep_init() != PEP_OK || pep_device_new(&b.device, "bench") != PEP_OK ||
        pep_epoch_new(&b.epoch, b.device.sign_kid, "sensors/#") != PEP_OK)
        die("cannot make keys");
    printf("Sealing in epoch mode, against one bare Ed25519 signature and one bare ChaCha20-Poly1305\n"
           "(medians of %d batches; the overhead is without the %zu bytes of the topic)\n\n",
           BATCHES, strlen(TOPIC));
    printf("%8s  %10s  %10s  %7s  %10s  %10s\n", "content", "pep_seal", "bare", "ratio", "envelope", "overhead");
    printf("%8s  %10s  %10s  %7s  %10s  %10s\n", "bytes", "us", "us", "", "bytes", "bytes");
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
        print_row(&b, sizes[i]);
    printf("\nTargets: ratio at most 1.15 at 256 bytes; overhead at most 170 bytes.\n");
    pep_epoch_wipe(&b.epoch);
    pep_device_wipe(&b.device);
    return 0;
}
