/* A key's first message since the start: what the store has of it is verified once more. */
#include <stdlib.h>
#include <string.h>

#include "directory/internal.h"

#define AGAIN_MAX 100000

struct first_use {
    store_job job;
    first_use *next; /* in directory.again */
    directory *d;
    registrar *r;
    uint8_t kid[PEP_KID_BYTES];
    bool damaged;
    char id[PEP_ID_MAX + 1];
};

static store_result use_work(store_job *job, store *s)
{
    first_use *use = (first_use *)job;
    key_row key;
    statement_row statement = {.n = 0};
    bool found;
    use->damaged = false;
    store_result result = rows_key(s, &key, &found, use->kid);
    if (result == STORE_OK && found)
        result = rows_statement(s, &statement, &found, key.id, key.position);
    if (result != STORE_OK)
        return result;
    use->damaged = !found || !chain_sound(&key, &statement);
    return STORE_OK;
}

/* While the store is away nothing can be said: it is asked again. */
static void keep(directory *d, first_use *use)
{
    if (d->closing || d->again_count >= AGAIN_MAX) {
        free(use);
        return;
    }
    use->next = d->again;
    d->again = use;
    d->again_count++;
}

static void distrust(directory *d, const first_use *use)
{
    signer known;
    bool found = signers_find(d->signers, &known, use->kid);
    directory_say(d, 'e',
                  "the store's record of %s is damaged: its key is not accepted any more; enrol it again, or"
                  " restore a backup",
                  found ? known.id : "a device");
    signers_distrust(d->signers, use->kid);
}

static void use_done(store_job *job)
{
    first_use *use = (first_use *)job;
    if (job->result != STORE_OK) {
        keep(use->d, use);
        return;
    }
    if (use->damaged)
        distrust(use->d, use);
    free(use);
}

void directory_first_use(directory *d, const uint8_t kid[PEP_KID_BYTES])
{
    first_use *use = calloc(1, sizeof *use);
    signers_mark_used(d->signers, kid);
    if (use == NULL)
        return;
    use->job.work = use_work;
    use->job.done = use_done;
    use->d = d;
    use->r = &d->registrar;
    memcpy(use->kid, kid, sizeof use->kid);
    if (!store_worker_add(d->worker, &use->job))
        keep(d, use);
}

void use_tick(directory *d)
{
    if (d->again == NULL || d->away)
        return;
    while (d->again != NULL) {
        first_use *use = d->again;
        if (!store_worker_add(d->worker, &use->job))
            return;
        d->again = use->next;
        d->again_count--;
    }
}

void use_forget(directory *d)
{
    while (d->again != NULL) {
        first_use *use = d->again;
        d->again = use->next;
        free(use);
    }
}
