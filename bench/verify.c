/*
 * bench_verify POOL RECORD: the median of us that libsodium alone takes to verify one of the pool's signatures, over
 * the very bytes that the gate verifies.
 */
#include "measure.h"
#include "pool.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BATCHES 101
#define BATCH   50

typedef struct {
    uint8_t bytes[1024];
    size_t n;
    const uint8_t *signature;
} signed_bytes;

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "bench_verify: %s\n", what);
    exit(3);
}

/* Head of a CBOR byte string (RFC 8949, 3); ours are shorter than 64 KiB. */
static size_t put_head(uint8_t *out, size_t n)
{
    size_t head_n = n < 24 ? 1 : n < 256 ? 2 : 3;
    out[0] = n < 24 ? (uint8_t)(0x40 | n) : n < 256 ? 0x58 : 0x59;
    if (head_n == 3)
        out[1] = (uint8_t)(n >> 8);
    if (head_n > 1)
        out[head_n - 1] = (uint8_t)n;
    return head_n;
}

static size_t put_bytes(uint8_t *out, pep_view bytes)
{
    size_t head_n = put_head(out, bytes.n);
    memcpy(out + head_n, bytes.p, bytes.n);
    return head_n + bytes.n;
}

/* Sig_structure (RFC 9052, 4.4): what the gate verifies, byte for byte. */
static size_t put_sig_structure(uint8_t *out, const pep_envelope *e)
{
    static const uint8_t start[] = "\x84\x6aSignature1";
    size_t n = sizeof(start) - 1;
    memcpy(out, start, n);
    n += put_bytes(out + n, e->protected_bytes);
    n += put_head(out + n, 0);
    return n + put_bytes(out + n, e->payload);
}

static void take_apart(signed_bytes *out, pep_view envelope)
{
    pep_envelope e;
    if (envelope.n > sizeof(out->bytes) || pep_parse(&e, envelope.p, envelope.n) != PEP_OK)
        die("the pool holds something else than envelopes");
    out->n = put_sig_structure(out->bytes, &e);
    out->signature = e.signature;
}

static double time_batch(const signed_bytes *batch, const pep_record *signer)
{
    double started = cpu_us();
    for (size_t i = 0; i < BATCH; i++)
        if (crypto_sign_verify_detached(batch[i].signature, batch[i].bytes, batch[i].n, signer->sign_public) != 0)
            die("a signature does not verify");
    return (cpu_us() - started) / BATCH;
}

int main(int count, char **args)
{
    static signed_bytes batch[BATCH];
    double us[BATCHES];
    pool p;
    pep_record signer;
    pep_error error = {"usage: bench_verify POOL RECORD"};
    if (count != 3 || pep_init() != PEP_OK || pep_record_load(&signer, &error, args[2]) != PEP_OK)
        die(error.text);
    if (!pool_open(&p, args[1]) || p.count < BATCH)
        die("cannot read the pool, or it is too small");
    for (size_t i = 0; i < BATCH; i++)
        take_apart(&batch[i], p.envelopes[i]);
    for (size_t i = 0; i < BATCHES; i++)
        us[i] = time_batch(batch, &signer);
    printf("%.2f\n", median(us, BATCHES));
    return 0;
}
