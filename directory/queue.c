/* Control messages on the broker's side: how many may wait, and what becomes of their answers. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "directory/internal.h"

#define ENVELOPE_FIRST_BYTE 0xd2 /* tag 18 */
#define SWEEP_EVERY_MS      1000
#define SECOND_US           1000000ULL

static uint64_t now_us(void)
{
    return directory_ms() * 1000;
}

bool directory_is_sealed(const uint8_t *payload, size_t n)
{
    return n > 0 && payload[0] == ENVELOPE_FIRST_BYTE;
}

/* ---- clients ---- */

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

/* Whoever has nothing to wait for and has read enough; those who are gone read nothing. */
static void release_client(directory *d, control_client *client)
{
    bool gone = atomic_load(&client->gone);
    if (client->waiting + client->waiting_plain + client->waiting_ledger > 0 || (!gone && client->paid_us > now_us()))
        return;
    if (!gone)
        HASH_DEL(d->clients, client);
    free(client);
}

void directory_gone(directory *d, const char *client_id)
{
    control_client *client;
    HASH_FIND_STR(d->clients, client_id, client);
    if (client == NULL)
        return;
    HASH_DEL(d->clients, client);
    atomic_store(&client->gone, true);
    release_client(d, client);
}

static void sweep(directory *d)
{
    control_client *client;
    control_client *next;
    HASH_ITER(hh, d->clients, client, next)
    release_client(d, client);
}

void queue_tick(directory *d)
{
    uint64_t now = directory_ms();
    if (now < d->sweep_ms)
        return;
    d->sweep_ms = now + SWEEP_EVERY_MS;
    sweep(d);
}

/* Behind the worker's end: nothing waits. */
void queue_forget(directory *d)
{
    control_client *client = d->clients;
    HASH_CLEAR(hh, d->clients);
    for (control_client *next; client != NULL; client = next) { /* they are still a list */
        next = client->hh.next;
        free(client);
    }
}

/*
 * Whether the client has had more answers than it can be believed to have read: the broker keeps in memory what a
 * client does not take, and a question is a fiftieth of its answer.
 */
static bool is_behind(const control_client *client)
{
    return client->paid_us > now_us() + CLIENT_BURST * SECOND_US / CLIENT_RATE;
}

static void charge(control_client *client, size_t n)
{
    uint64_t now = now_us();
    client->paid_us = (client->paid_us > now ? client->paid_us : now) + n * SECOND_US / CLIENT_RATE;
}

/* ---- answers that need no worker ---- */

#define PLAIN_ANSWER(error, text) "{\"responses\":[{\"command\":\"\",\"error\":\"" error "\",\"text\":\"" text "\"}]}"

static const char too_much_waits[] =
    PLAIN_ANSWER("try-later", "too much of this client's, or of all together, waits already");
static const char too_large[] = PLAIN_ANSWER("bad-command", "it is larger than a control message may be");
static const char store_away[] = PLAIN_ANSWER("try-later", "the store cannot be reached, or too much is waiting");
static const char reads_too_slowly[] =
    PLAIN_ANSWER("try-later", "this client had more answers than it can have read: ask more slowly");
static const char store_failed[] = PLAIN_ANSWER("store-failed", "the store refused: it is full, read-only or damaged");

static void refuse_at_once(directory *d, const char *client_id, const char *json)
{
    d->counters.commands++;
    d->counters.refused++;
    d->hooks.answer(d->hooks.ctx, client_id, json, strlen(json));
}

void directory_rate_limited(directory *d, const directory_asker *asker)
{
    char json[256];
    snprintf(json, sizeof json, PLAIN_ANSWER("%s", "%s"), pep_reason_name(PEP_RATE_LIMITED),
             pep_reason_text(PEP_RATE_LIMITED));
    refuse_at_once(d, asker->client_id, json);
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

static void give(directory *d, control_job *job)
{
    d->counters.commands += job->commands;
    d->counters.changes += job->changes;
    d->counters.refused += job->refused;
    if (atomic_load(&job->client->gone) || job->answer == NULL)
        return;
    charge(job->client, job->answer_n);
    d->hooks.answer(d->hooks.ctx, job->asker.client_id, job->answer, job->answer_n);
}

/* Whoever changed something is told so, whatever else it was told. */
static void finish(directory *d, control_job *job)
{
    const char *instead = NULL;
    if (job->job.result == STORE_AWAY)
        instead = store_away;
    else if (job->job.result != STORE_OK || (job->answer == NULL && job->requests == NULL))
        instead = store_failed;
    else if (job->changes == 0 && is_behind(job->client))
        instead = reads_too_slowly;
    if (instead == NULL)
        give(d, job);
    else if (!atomic_load(&job->client->gone))
        refuse_at_once(d, job->asker.client_id, instead);
}

/* ---- the ledger's ---- */

void directory_answer(directory *d, directory_request *request, const char *json, size_t n)
{
    control_client *client = request->asker;
    client->waiting_ledger--;
    if (!atomic_load(&client->gone) && json != NULL) {
        charge(client, request->admin ? 0 : n); /* an admin who exports much reads it */
        d->hooks.answer(d->hooks.ctx, client->id, json, n);
    } else if (!atomic_load(&client->gone)) {
        d->hooks.answer(d->hooks.ctx, client->id, store_away, strlen(store_away));
    }
    release_client(d, client);
    control_free_requests(request);
}

bool directory_asker_gone(const directory_request *request)
{
    return atomic_load(&request->asker->gone);
}

static void hand_on(directory *d, control_job *job)
{
    directory_request *next;
    bool good = job->job.result == STORE_OK && !is_behind(job->client); /* else that was the answer */
    directory_request *r = good ? job->requests : NULL;
    if (r != NULL)
        job->requests = NULL;
    for (; r != NULL; r = next) {
        next = r->next;
        r->next = NULL;
        r->asker = job->client;
        bool room = ++job->client->waiting_ledger <= DIRECTORY_CLIENT_LEDGER;
        if (room && d->hooks.ledger != NULL && !d->closing)
            d->hooks.ledger(d->hooks.ctx, r);
        else
            directory_answer(d, r, NULL, 0);
    }
}

static void tell_changes(directory *d, const control_job *job)
{
    if (job->job.result != STORE_OK || job->told == NULL)
        return;
    for (const char *line = job->told; *line != '\0'; line += strlen(line) + 1)
        directory_say(d, 'n', "%s", line);
}

static void take_away(directory *d, control_job *job)
{
    control_client *client = job->client;
    atomic_fetch_sub(&job->r->answer_bytes, job->answer_n);
    d->queue_bytes -= job->n;
    d->plain_bytes -= job->sealed ? 0 : job->n;
    client->waiting_bytes -= job->n;
    *(job->sealed ? &client->waiting : &client->waiting_plain) -= 1;
    release_client(d, client);
    control_free_requests(job->requests);
    free(job->answer);
    free(job->told);
    free(job);
}

static void control_done(store_job *base)
{
    control_job *job = (control_job *)base;
    directory *d = job->d;
    watch_changes(d, job);
    tell_changes(d, job);
    if (job->verified)
        d->hooks.verified(d->hooks.ctx, &job->asker, job->authentic && !job->bad);
    finish(d, job);
    hand_on(d, job);
    take_away(d, job);
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

static bool has_room(const directory *d, const control_client *client, bool sealed, size_t n)
{
    if (client->waiting_bytes + n > CLIENT_BYTES_MAX || d->queue_bytes + n > QUEUE_BYTES_MAX)
        return false;
    if (sealed)
        return client->waiting < DIRECTORY_CLIENT_PENDING;
    return client->waiting_plain < DIRECTORY_CLIENT_PLAIN && d->plain_bytes + n <= PLAIN_BYTES_MAX;
}

static bool submit(directory *d, control_client *client, const directory_asker *asker, const uint8_t *payload, size_t n)
{
    bool sealed = directory_is_sealed(payload, n);
    control_job *job = has_room(d, client, sealed, n) ? new_job(d, asker, payload, n) : NULL;
    if (job == NULL)
        return false;
    job->client = client;
    job->sealed = sealed;
    if (!(sealed ? store_worker_add : store_worker_add_later)(d->worker, &job->job)) {
        free(job);
        return false;
    }
    d->queue_bytes += n;
    d->plain_bytes += sealed ? 0 : n;
    client->waiting_bytes += n;
    *(sealed ? &client->waiting : &client->waiting_plain) += 1;
    return true;
}

void directory_control(directory *d, const directory_asker *asker, const uint8_t *payload, size_t n)
{
    if (n > DIRECTORY_COMMAND_MAX) {
        refuse_at_once(d, asker->client_id, too_large);
        return;
    }
    control_client *client = find_client(d, asker->client_id);
    bool behind = client != NULL && is_behind(client);
    if (client != NULL && !behind && submit(d, client, asker, payload, n))
        return;
    if (client != NULL)
        release_client(d, client);
    refuse_at_once(d, asker->client_id, behind ? reads_too_slowly : too_much_waits);
}
