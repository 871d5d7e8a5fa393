/* Control messages on the broker's side: how many may wait, and what becomes of their answers. */
#include <stdlib.h>
#include <string.h>

#include "directory/internal.h"

/* How many messages of one client wait. */
struct control_client {
    UT_hash_handle hh;
    unsigned waiting;
    char id[];
};

static control_client *find_client(directory *d, const char *id)
{
    control_client *client;
    HASH_FIND_STR(d->clients, id, client);
    if (client != NULL)
        return client;
    size_t n = strlen(id) + 1;
    client = calloc(1, sizeof *client + n);
    if (client == NULL)
        return NULL;
    memcpy(client->id, id, n);
    HASH_ADD_STR(d->clients, id, client);
    if (client->hh.tbl != NULL)
        return client;
    free(client);
    return NULL;
}

static void release_client(directory *d, control_client *client)
{
    if (client->waiting > 0)
        return;
    HASH_DEL(d->clients, client);
    free(client);
}

/* ---- answers that need no worker ---- */

#define PLAIN_ANSWER(error, text) "{\"responses\":[{\"command\":\"\",\"error\":\"" error "\",\"text\":\"" text "\"}]}"

static const char too_much_waits[] =
    PLAIN_ANSWER("try-later", "too much of this client's, or of all together, waits already");
static const char too_large[] = PLAIN_ANSWER("bad-command", "it is larger than a control message may be");
static const char store_away[] = PLAIN_ANSWER("try-later", "the store cannot be reached, or too much is waiting");
static const char store_failed[] = PLAIN_ANSWER("store-failed", "the store refused: it is full, read-only or damaged");

static void answer(directory *d, const char *client_id, const char *json, size_t n)
{
    d->hooks.answer(d->hooks.ctx, client_id, json, n);
}

static void refuse_at_once(directory *d, const char *client_id, const char *json)
{
    d->counters.commands++;
    d->counters.refused++;
    answer(d, client_id, json, strlen(json));
}

/* ---- what became of the store, once each time it changes ---- */

static const char *why(directory *d, store_error *error)
{
    store_worker_why(d->worker, error);
    return error->text;
}

void queue_watch_store(directory *d)
{
    store_error error;
    bool away = store_worker_counted(d->worker).away;
    if (away == d->away)
        return;
    d->away = away;
    if (away)
        directory_say(d, 'w',
                      "the directory's store cannot be reached: decisions go on from memory, changes are"
                      " answered with try-later: %.700s",
                      why(d, &error));
    else
        directory_say(d, 'n', "the directory's store can be reached again");
}

static void watch_changes(directory *d, const control_job *job)
{
    store_error error;
    bool failed = job->job.result != STORE_OK && job->job.result != STORE_AWAY;
    if (failed && !d->failing)
        directory_say(d, 'e',
                      "the directory's store refuses changes: they are answered with store-failed until it takes them"
                      " again: %.700s",
                      why(d, &error));
    if (failed)
        d->failing = true;
    if (!d->failing || job->job.result != STORE_OK || !job->wrote)
        return;
    d->failing = false;
    directory_say(d, 'n', "the directory's store takes changes again");
}

/* ---- jobs ---- */

static void finish(directory *d, control_job *job)
{
    if (job->job.result == STORE_AWAY)
        refuse_at_once(d, job->asker.client_id, store_away);
    else if (job->job.result != STORE_OK || job->answer == NULL)
        refuse_at_once(d, job->asker.client_id, store_failed);
    else {
        d->counters.commands += job->commands;
        d->counters.changes += job->changes;
        d->counters.refused += job->refused;
        answer(d, job->asker.client_id, job->answer, job->answer_n);
    }
}

static void control_done(store_job *base)
{
    control_job *job = (control_job *)base;
    directory *d = job->d;
    watch_changes(d, job);
    if (job->verified)
        d->hooks.verified(d->hooks.ctx, &job->asker, job->authentic && !job->bad);
    finish(d, job);
    atomic_fetch_sub(&job->r->answer_bytes, job->answer_n);
    d->queue_bytes -= job->n;
    job->client->waiting--;
    release_client(d, job->client);
    free(job->answer);
    free(job);
}

static char *copy_text(char **at, const char *text)
{
    char *out = *at;
    if (text == NULL)
        return NULL;
    size_t n = strlen(text) + 1;
    memcpy(out, text, n);
    *at += n;
    return out;
}

static size_t text_bytes(const char *text)
{
    return text == NULL ? 0 : strlen(text) + 1;
}

static control_job *new_job(directory *d, const directory_asker *asker, const uint8_t *payload, size_t n)
{
    size_t texts = text_bytes(asker->client_id) + text_bytes(asker->username) + text_bytes(asker->address);
    control_job *job = calloc(1, sizeof *job + n + texts);
    if (job == NULL)
        return NULL;
    job->job.work = control_work;
    job->job.done = control_done;
    job->d = d;
    job->r = &d->registrar;
    job->n = n;
    if (n > 0)
        memcpy(job->payload, payload, n);
    char *at = (char *)job->payload + n;
    job->asker.client_id = copy_text(&at, asker->client_id);
    job->asker.username = copy_text(&at, asker->username);
    job->asker.address = copy_text(&at, asker->address);
    return job;
}

static bool submit(directory *d, control_client *client, const directory_asker *asker, const uint8_t *payload, size_t n)
{
    if (client->waiting >= DIRECTORY_CLIENT_PENDING || d->queue_bytes + n > QUEUE_BYTES_MAX)
        return false;
    control_job *job = new_job(d, asker, payload, n);
    if (job == NULL)
        return false;
    job->client = client;
    if (!store_worker_add(d->worker, &job->job)) {
        free(job);
        return false;
    }
    client->waiting++;
    d->queue_bytes += n;
    return true;
}

void directory_control(directory *d, const directory_asker *asker, const uint8_t *payload, size_t n)
{
    if (n > DIRECTORY_COMMAND_MAX) {
        refuse_at_once(d, asker->client_id, too_large);
        return;
    }
    control_client *client = find_client(d, asker->client_id);
    if (client != NULL && submit(d, client, asker, payload, n))
        return;
    if (client != NULL)
        release_client(d, client);
    refuse_at_once(d, asker->client_id, too_much_waits);
}
