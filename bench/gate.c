/*
 * bench_gate POOL RECORDS FOLDER: what the gate costs a message beyond one bare Ed25519 verification, in one process
 * and in alternating batches, so that what the machine does beside it shows in both. FOLDER is empty: policy and state
 * go there. Prints a table of medians.
 */
#include "gate/gate.h"
#include "measure.h"
#include "pool.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BATCHES 301
#define BATCH   20

typedef struct {
    signers *signers;
    gate *gate;
    pep_record signer;
    pool pool;
    size_t next; /* each envelope is new to the gate once */
    unsigned valid;
} bench;

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "bench_gate: %s\n", what);
    exit(3);
}

static void open_gate(bench *b, const char *records, const char *folder)
{
    char policy_path[512];
    char state_path[512];
    gate_error error = {""};
    snprintf(policy_path, sizeof(policy_path), "%s/policy.conf", folder);
    snprintf(state_path, sizeof(state_path), "%s/state", folder);
    FILE *out = fopen(policy_path, "wxe");
    if (out == NULL ||
        fputs("topics = ( { filter = \"" POOL_TOPIC "\"; signers = [ \"" POOL_SIGNER "\" ]; } );\n", out) < 0 ||
        fclose(out) != 0)
        die("cannot write the policy");
    pep_error why;
    policy_error policy_why;
    b->signers = signers_new();
    if (b->signers == NULL || !signers_load_folder(b->signers, &why, records))
        die("cannot read the records");
    const gate_config config = {
        .policy = policy_load(&policy_why, policy_path), .signers = b->signers, .state_dir = state_path};
    if (config.policy == NULL)
        die(policy_why.text);
    b->gate = gate_open(&error, &config);
    if (b->gate == NULL)
        die(error.text);
}

/* As the broker asks: at the access check, and again at delivery. */
static void judge(bench *b, const char *topic, pep_view envelope, int qos)
{
    gate_message m = {.client = b, .client_id = "load", .topic = topic, .payload = envelope.p};
    m.payload_n = envelope.n;
    m.qos = qos;
    if (gate_at_access(b->gate, &m).reason != PEP_OK || gate_at_message(b->gate, &m).reason != PEP_OK)
        die("the gate refuses");
}

static double time_gate(bench *b, const char *topic, int qos)
{
    double started = cpu_us();
    for (size_t i = 0; i < BATCH; i++)
        judge(b, topic, b->pool.envelopes[b->next + i], qos);
    return (cpu_us() - started) / BATCH;
}

/* As many bytes as the gate verifies, give or take a few. */
static double time_bare(bench *b)
{
    double started = cpu_us();
    for (size_t i = 0; i < BATCH; i++) {
        pep_view e = b->pool.envelopes[b->next + i];
        size_t n = e.n - PEP_SIGNATURE_BYTES;
        b->valid += crypto_sign_verify_detached(e.p + n, e.p, n, b->signer.sign_public) == 0;
    }
    return (cpu_us() - started) / BATCH;
}

static void print_row(bench *b, const char *title, const char *topic, int qos, bool verifies)
{
    double gates[BATCHES], bares[BATCHES], beyond[BATCHES];
    for (size_t i = 0; i < BATCHES; i++) {
        if (b->next + BATCH > b->pool.count)
            die("the pool is too small");
        bares[i] = verifies ? time_bare(b) : 0;
        gates[i] = time_gate(b, topic, qos);
        beyond[i] = gates[i] - bares[i];
        b->next += BATCH;
    }
    printf("%-32s  %8.2f  %8.2f  %8.2f\n", title, median(gates, BATCHES), median(bares, BATCHES),
           median(beyond, BATCHES));
}

int main(int count, char **args)
{
    static bench b;
    char path[512];
    pep_error error = {""};
    if (count != 4) {
        fputs("usage: bench_gate POOL RECORDS FOLDER\n", stderr);
        return 2;
    }
    snprintf(path, sizeof(path), "%s/" POOL_SIGNER ".pub", args[2]);
    if (pep_init() != PEP_OK || pep_record_load(&b.signer, &error, path) != PEP_OK)
        die(error.text);
    if (!pool_open(&b.pool, args[1]))
        die("cannot read the pool");
    open_gate(&b, args[2], args[3]);
    printf("\nThe gate by itself, CPU us a message (medians of %d batches):\n\n", BATCHES);
    printf("%-32s  %8s  %8s  %8s\n", "", "gate", "bare", "beyond");
    print_row(&b, "verified, QoS 0", POOL_TOPIC, 0, true);
    print_row(&b, "verified, QoS 1 (with a digest)", POOL_TOPIC, 1, true);
    print_row(&b, "topic not protected", "elsewhere/x", 0, false);
    gate_close(b.gate);
    signers_free(b.signers);
    return 0;
}
