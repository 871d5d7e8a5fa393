#include "client/follow.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#include "client/print.h"

struct followed {
    char id[PEP_ID_MAX + 1];
    UT_hash_handle hh;
};

/* One resolution that runs: of a kid, or of an entry that was served. */
struct wanted {
    resolution n;
    follower *f;
    struct wanted *next;
};

struct held {
    struct mosquitto_message m; /* a copy */
    uint8_t kid[PEP_KID_BYTES];
    uint64_t until_ms;
    struct held *next;
};

/* ---- messages that wait ---- */

static bool keep(follower *f, const uint8_t kid[PEP_KID_BYTES], const struct mosquitto_message *m)
{
    size_t n = (size_t)m->payloadlen;
    if (f->held_count == FOLLOW_HELD_MAX || n > FOLLOW_HELD_BYTES - f->held_bytes)
        return false;
    struct held *h = calloc(1, sizeof(*h));
    if (h == NULL)
        return false;
    if (mosquitto_message_copy(&h->m, m) != MOSQ_ERR_SUCCESS) {
        free(h);
        return false;
    }
    memcpy(h->kid, kid, PEP_KID_BYTES);
    h->until_ms = mqtt_now_ms() + FOLLOW_HELD_MS;
    *f->last = h;
    f->last = &h->next;
    f->held_count++;
    f->held_bytes += n;
    return true;
}

static struct held *unlink_held(follower *f, struct held **at)
{
    struct held *h = *at;
    *at = h->next;
    if (f->last == &h->next)
        f->last = at;
    f->held_count--;
    f->held_bytes -= (size_t)h->m.payloadlen;
    return h;
}

static void free_held(struct held *h)
{
    mosquitto_message_free_contents(&h->m);
    free(h);
}

/* In the order in which they came. `kid` NULL: those whose time is over. */
static void release(follower *f, const uint8_t *kid)
{
    uint64_t now_ms = mqtt_now_ms();
    for (struct held **at = &f->first; *at != NULL;) {
        bool due = kid != NULL ? memcmp((*at)->kid, kid, PEP_KID_BYTES) == 0 : (*at)->until_ms <= now_ms;
        if (!due) {
            at = &(*at)->next;
            continue;
        }
        struct held *h = unlink_held(f, at);
        f->release(f->owner, &h->m);
        free_held(h);
    }
}

bool follow_waits(const follower *f, const uint8_t kid[PEP_KID_BYTES])
{
    for (const struct held *h = f->first; h != NULL; h = h->next)
        if (memcmp(h->kid, kid, PEP_KID_BYTES) == 0)
            return true;
    return false;
}

/* ---- resolutions ---- */

static void remember_asked(follower *f, const uint8_t kid[PEP_KID_BYTES])
{
    size_t i = f->next_recent++ % FOLLOW_RECENT_MAX;
    memcpy(f->recent[i].kid, kid, PEP_KID_BYTES);
    f->recent[i].ms = mqtt_now_ms();
}

static bool asked_lately(const follower *f, const uint8_t kid[PEP_KID_BYTES])
{
    uint64_t now_ms = mqtt_now_ms();
    for (size_t i = 0; i < FOLLOW_RECENT_MAX; i++)
        if (f->recent[i].ms != 0 && now_ms - f->recent[i].ms < FOLLOW_AGAIN_MS &&
            memcmp(f->recent[i].kid, kid, PEP_KID_BYTES) == 0)
            return true;
    return false;
}

static void unlink_wanted(follower *f, const struct wanted *w)
{
    struct wanted **at = &f->wanted;
    while (*at != w)
        at = &(*at)->next;
    *at = w->next;
    f->running--;
}

static void on_resolved(resolution *n)
{
    struct wanted *w = n->owner;
    follower *f = w->f;
    unlink_wanted(f, w);
    if (n->reason == PEP_TRY_LATER && !f->asker.heard)
        f->silent_until_ms = mqtt_now_ms() + FOLLOW_PATIENCE_MS;
    resolution_report(n);
    if (n->reason == PEP_OK || n->reason == PEP_REVOKED_SIGNER)
        follow_id(f, n->id);
    if (n->by_kid)
        release(f, n->kid);
    free(w);
}

static struct wanted *start(follower *f)
{
    struct wanted *w = f->running < FOLLOW_KIDS_MAX ? calloc(1, sizeof(*w)) : NULL;
    if (w == NULL)
        return NULL;
    w->f = f;
    w->n = (resolution){.owner = w, .done = on_resolved};
    w->next = f->wanted;
    f->wanted = w;
    f->running++;
    return w;
}

static bool has_token(follower *f)
{
    uint64_t now_ms = mqtt_now_ms();
    f->tokens += (double)(now_ms - f->tokens_ms) * FOLLOW_PER_SECOND / 1000;
    if (f->tokens > FOLLOW_KIDS_MAX)
        f->tokens = FOLLOW_KIDS_MAX;
    f->tokens_ms = now_ms;
    if (f->tokens < 1)
        return false;
    f->tokens -= 1;
    return true;
}

static bool is_wanted(const follower *f, const uint8_t kid[PEP_KID_BYTES])
{
    for (const struct wanted *w = f->wanted; w != NULL; w = w->next)
        if (w->n.by_kid && memcmp(w->n.kid, kid, PEP_KID_BYTES) == 0)
            return true;
    return false;
}

bool follow_hold(follower *f, const uint8_t kid[PEP_KID_BYTES], const struct mosquitto_message *m)
{
    uint8_t own[PEP_KID_BYTES]; /* it may stand in the message, which is released */
    memcpy(own, kid, sizeof(own));
    if (!f->on || mqtt_now_ms() < f->silent_until_ms)
        return false;
    if (is_wanted(f, own))
        return keep(f, own, m);
    if (asked_lately(f, own) || f->running == FOLLOW_KIDS_MAX || !has_token(f) || !keep(f, own, m))
        return false;
    struct wanted *w = start(f);
    if (w == NULL) {
        release(f, own);
        return true;
    }
    remember_asked(f, own);
    resolve_kid(&f->resolver, &w->n, own, RESOLVE_WAIT_MS);
    return true;
}

/* ---- the keys of those who are known ---- */

static void subscribe(const follower *f, const char *id)
{
    char topic[sizeof(PEP_KEYS_TOPIC) + PEP_ID_MAX];
    (void)snprintf(topic, sizeof(topic), PEP_KEYS_TOPIC "%s", id);
    if (f->link->connected)
        (void)mosquitto_subscribe(f->link->client, NULL, topic, 1);
}

static struct followed *find(const follower *f, const char *id)
{
    struct followed *e;
    HASH_FIND_STR(f->ids, id, e);
    return e;
}

void follow_id(follower *f, const char *id)
{
    if (!f->on || find(f, id) != NULL || HASH_COUNT(f->ids) >= FOLLOW_IDS_MAX)
        return;
    struct followed *e = calloc(1, sizeof(*e));
    if (e == NULL)
        return;
    (void)snprintf(e->id, sizeof(e->id), "%s", id);
    HASH_ADD_STR(f->ids, id, e);
    if (e->hh.tbl == NULL) {
        free(e);
        return;
    }
    subscribe(f, e->id);
}

void follow_connected(follower *f)
{
    struct followed *e;
    struct followed *next;
    HASH_ITER(hh, f->ids, e, next)
    {
        subscribe(f, e->id);
    }
}

bool follow_take(follower *f, const struct mosquitto_message *m)
{
    size_t prefix = sizeof(PEP_KEYS_TOPIC) - 1;
    if (!f->on)
        return false;
    if (ask_take(&f->asker, m))
        return true;
    if (strncmp(m->topic, PEP_KEYS_TOPIC, prefix) != 0 || find(f, m->topic + prefix) == NULL)
        return false;
    struct wanted *w = m->payloadlen > 0 ? start(f) : NULL; /* nothing: the gate serves no records retained any more */
    if (w != NULL)
        resolve_entry(&f->resolver, &w->n, m->topic + prefix, m->payload, (size_t)m->payloadlen);
    return true;
}

void follow_tick(follower *f)
{
    if (!f->on)
        return;
    ask_expire(&f->asker);
    release(f, NULL);
}

/* ---- beginning and end ---- */

/* All whom it knows: what was pinned, and the records that it was given. */
static void follow_pinned(follower *f)
{
    DIR *folder = opendir(f->resolver.folder);
    if (folder == NULL)
        return;
    struct dirent *item;
    while ((item = readdir(folder)) != NULL) {
        size_t n = strlen(item->d_name);
        char id[PEP_ID_MAX + 1] = "";
        if (n <= 4 || n - 4 > PEP_ID_MAX || strcmp(item->d_name + n - 4, ".pin") != 0)
            continue;
        memcpy(id, item->d_name, n - 4);
        if (pep_id_valid(id, n - 4))
            follow_id(f, id);
    }
    closedir(folder);
}

static char *records_of(const char *key, const char *from)
{
    const char *slash = strrchr(key, '/');
    if (from != NULL)
        return strdup(from);
    return slash != NULL ? strndup(key, (size_t)(slash - key) + 1) : strdup(".");
}

int follow_open(follower *f, mqtt_link *link, const char *key, const char *from, const pep_keyring *senders)
{
    f->link = link;
    f->last = &f->first;
    f->on = !resolver_off();
    if (!f->on)
        return DONE;
    f->asker.link = link;
    f->tokens = FOLLOW_KIDS_MAX;
    f->tokens_ms = mqtt_now_ms();
    f->records = records_of(key, from);
    if (f->records == NULL)
        return fail(OUT_OF_REACH, "out of memory");
    int code = resolver_open(&f->resolver, &f->asker, key);
    f->resolver.records = f->records;
    if (code != DONE)
        return code;
    for (size_t i = 0; i < pep_keyring_count(senders); i++)
        follow_id(f, pep_keyring_at(senders, i)->id);
    follow_pinned(f);
    return DONE;
}

static void drop_ids(follower *f)
{
    struct followed *e = f->ids;
    HASH_CLEAR(hh, f->ids);
    while (e != NULL) { /* the entries are still a list */
        struct followed *next = e->hh.next;
        free(e);
        e = next;
    }
}

void follow_close(follower *f)
{
    while (f->wanted != NULL) {
        struct wanted *w = f->wanted;
        f->wanted = w->next;
        resolution_end(&w->n);
        free(w);
    }
    while (f->first != NULL) {
        struct held *h = f->first;
        f->first = h->next;
        free_held(h);
    }
    drop_ids(f);
    resolver_close(&f->resolver);
    free(f->records);
    f->records = NULL;
    f->on = false;
}

pep_pins *follow_pins(const follower *f)
{
    return f->resolver.pins;
}
