#include "tests/vectors/world.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

actor actors[] = {
    {.id = "sensor-1", .enrolled = true, .issued_s = NOW_S - 10 * DAY_S, .not_after_s = NOW_S + 355 * DAY_S},
    {.id = "sensor-2", .enrolled = true, .issued_s = NOW_S - 10 * DAY_S, .not_after_s = NOW_S + 355 * DAY_S},
    {.id = "console", .enrolled = true, .issued_s = NOW_S - 10 * DAY_S, .not_after_s = NOW_S + 355 * DAY_S},
    {.id = "retired-1", .enrolled = true, .issued_s = NOW_S - 400 * DAY_S, .not_after_s = NOW_S - 1},
    {.id = "retiring-1", .enrolled = true, .issued_s = NOW_S - 365 * DAY_S, .not_after_s = NOW_S},
    {.id = "stranger", .enrolled = false, .issued_s = NOW_S - 10 * DAY_S, .not_after_s = NOW_S + 355 * DAY_S},
};
const size_t actor_count = COUNT(actors);

shared_epoch epochs[] = {
    {.name = "all", .owner = "sensor-1", .scope = "#", .known = true},
    {.name = "one-topic", .owner = "sensor-1", .scope = "sealed/one", .known = true},
    {.name = "levels", .owner = "sensor-1", .scope = "sealed/+/#", .known = true},
    {.name = "not-given", .owner = "sensor-1", .scope = "#", .known = false},
    {.name = "of-another", .owner = "sensor-2", .scope = "#", .known = true},
};
const size_t epoch_count = COUNT(epochs);

void must(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "vectors: %s\n", what);
    exit(1);
}

/* ---- randomness: SHA-256(seed, number of the draw) keys libsodium's deterministic stream ---- */

static uint8_t random_seed[crypto_hash_sha256_BYTES];
static uint64_t draws;
static uint8_t drawn[256];
static size_t drawn_n;

void random_restart(const char *seed_text)
{
    crypto_hash_sha256(random_seed, (const uint8_t *)seed_text, strlen(seed_text));
    draws = 0;
    drawn_n = 0;
}

pep_view random_drawn(void)
{
    return (pep_view){drawn, drawn_n};
}

static void fixed_buf(void *const out, const size_t n)
{
    uint8_t input[crypto_hash_sha256_BYTES + 1];
    uint8_t key[randombytes_SEEDBYTES];
    memcpy(input, random_seed, sizeof random_seed);
    input[sizeof random_seed] = (uint8_t)draws++;
    crypto_hash_sha256(key, input, sizeof input);
    randombytes_buf_deterministic(out, n, key);
    must(n <= sizeof drawn - drawn_n, "more random bytes drawn than one envelope takes");
    memcpy(drawn + drawn_n, out, n);
    drawn_n += n;
}

static uint32_t fixed_random(void)
{
    uint32_t number;
    fixed_buf(&number, sizeof number);
    return number;
}

static const char *fixed_name(void)
{
    return "fixed";
}

static randombytes_implementation fixed = {
    .implementation_name = fixed_name,
    .random = fixed_random,
    .buf = fixed_buf,
};

/* ---- keys: SHA-256 of a text that names them ---- */

void world_secret(uint8_t out[32], const char *purpose, const char *name)
{
    char text[128];
    must(snprintf(text, sizeof text, "pep vectors: %s %s", purpose, name) < (int)sizeof text, "a name is too long");
    crypto_hash_sha256(out, (const uint8_t *)text, strlen(text));
}

static void make_actor(actor *a)
{
    uint8_t seed[32];
    uint8_t secret[32];
    world_secret(seed, "signing seed of", a->id);
    world_secret(secret, "agreement secret of", a->id);
    must(pep_device_from_secrets(&a->device, a->id, seed, secret) == PEP_OK, "no device");
    must(pep_record_sign(a->record_bytes, &a->record_n, &a->device, a->issued_s, a->not_after_s) == PEP_OK, "unsigned");
    must(pep_record_parse(&a->record, a->record_bytes, a->record_n) == PEP_OK, "no record");
}

void world_make(void)
{
    must(randombytes_set_implementation(&fixed) == 0, "no fixed randomness");
    must(pep_init() == PEP_OK, "no library");
    for (size_t i = 0; i < actor_count; i++)
        make_actor(&actors[i]);
    for (size_t i = 0; i < epoch_count; i++) {
        uint8_t key[PEP_EPOCH_KEY_BYTES];
        world_secret(key, "epoch key", epochs[i].name);
        const uint8_t *owner = actor_of(epochs[i].owner)->device.sign_kid;
        must(pep_epoch_from_key(&epochs[i].epoch, key, owner, epochs[i].scope) == PEP_OK, "no epoch");
    }
}

void world_free(void)
{
    for (size_t i = 0; i < epoch_count; i++)
        pep_epoch_wipe(&epochs[i].epoch);
}

const actor *actor_of(const char *id)
{
    for (size_t i = 0; i < actor_count; i++)
        if (strcmp(actors[i].id, id) == 0)
            return &actors[i];
    must(false, id);
    return NULL;
}

shared_epoch *epoch_of(const char *name)
{
    for (size_t i = 0; i < epoch_count; i++)
        if (strcmp(epochs[i].name, name) == 0)
            return &epochs[i];
    must(false, name);
    return NULL;
}
