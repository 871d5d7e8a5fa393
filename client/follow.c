#include "client/follow.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#include "client/print.h"

struct followed {
    char id[PEP_ID_MAX + 1];
    bool waits;        /* something was served that nobody has looked at */
    bool runs;         /* something is being looked at */
    bool again;        /* for another time: messages do not wait for it any more */
    uint64_t again_ms; /* when to look again, because nobody answered; 0: no need */
    struct followed *next_waiting;
    UT_hash_handle hh;
};

/* One resolution that runs: of a kid, or of what was served about a device. */
struct wanted {
    resolution n;
    follower *f;
    struct followed *of; /* NULL: of a kid */
    struct wanted *next;
};

struct held {
    struct mosquitto_message m; /* a copy */
    uint8_t kid[PEP_KID_BYTES];
    const struct followed *of; /* whose change it waits for; NULL: for the kid */
    uint64_t until_ms;
    struct held *next;
};

/* ---- messages that wait ---- */

static size_t size_of(const struct mosquitto_message *m)
{
    return (size_t)m->payloadlen + strlen(m->topic);
}

/* NULL: there is no room. */
static struct held *keep(follower *f, const struct mosquitto_message *m)
{
    size_t n = size_of(m);
    if (f->held_count == FOLLOW_HELD_MAX || n > FOLLOW_HELD_BYTES - f->held_bytes)
        return NULL;
    struct held *h = calloc(1, sizeof(*h));
    if (h == NULL)
        return NULL;
    if (mosquitto_message_copy(&h->m, m) != MOSQ_ERR_SUCCESS) {
        free(h);
        return NULL;
    }
    *f->last = h;
    f->last = &h->next;
    f->held_count++;
    f->held_bytes += n;
    return h;
}

static bool keep_for_kid(follower *f, const uint8_t kid[PEP_KID_BYTES], const struct mosquitto_message *m)
{
    struct held *h = keep(f, m);
    if (h == NULL)
        return false;
    memcpy(h->kid, kid, PEP_KID_BYTES);
    h->until_ms = mqtt_now_ms() + FOLLOW_HELD_MS;
    return true;
}

static struct held *unlink_held(follower *f, struct held **at)
{
    struct held *h = *at;
    *at = h->next;
    if (f->last == &h->next)
        f->last = at;
    f->held_count--;
    f->held_bytes -= size_of(&h->m);
    return h;
}

static void free_held(struct held *h)
{
    mosquitto_message_free_contents(&h->m);
    free(h);
}

static bool waits_for_kid(const struct held *h, const void *kid)
{
    return h->of == NULL && memcmp(h->kid, kid, PEP_KID_BYTES) == 0;
}

static bool waits_for_change(const struct held *h, const void *of)
{
    return h->of == of;
}

static bool is_over(const struct held *h, const void *now_ms)
{
    return h->of == NULL && h->until_ms <= *(const uint64_t *)now_ms;
}

/* In the order in which they came. */
static void release(follower *f, bool (*is_due)(const struct held *h, const void *what), const void *what)
{
    for (struct held **at = &f->first; *at != NULL;) {
        if (!is_due(*at, what)) {
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
        if (waits_for_kid(h, kid))
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

static size_t *running(follower *f, const struct wanted *w)
{
    return w->of != NULL ? &f->changes : &f->kids;
}

static void unlink_wanted(follower *f, const struct wanted *w)
{
    struct wanted **at = &f->wanted;
    while (*at != w)
        at = &(*at)->next;
    *at = w->next;
    (*running(f, w))--;
}

static void wait_for_turn(follower *f, struct followed *e)
{
    e->next_waiting = NULL;
    if (f->first_waiting == NULL)
        f->first_waiting = e;
    else
        f->last_waiting->next_waiting = e;
    f->last_waiting = e;
}

/* Where there is a gate it is asked again: what it did not tell in time may be that a key was revoked. */
static void settle(follower *f, struct followed *e, pep_reason reason)
{
    e->runs = false;
    if (reason == PEP_TRY_LATER && f->asker.heard) {
        e->again_ms = mqtt_now_ms() + FOLLOW_AGAIN_MS;
        f->again_ms = f->again_ms == 0 || e->again_ms < f->again_ms ? e->again_ms : f->again_ms;
    }
    if (e->waits)
        wait_for_turn(f, e);
    else
        release(f, waits_for_change, e);
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
    if (w->of != NULL)
        settle(f, w->of, n->reason);
    else
        release(f, waits_for_kid, n->kid);
    free(w);
}

/* `of` NULL: for a kid. NULL: enough of them run. */
static struct wanted *start(follower *f, struct followed *of)
{
    size_t left = of != NULL ? FOLLOW_CHANGES_MAX - f->changes : FOLLOW_KIDS_MAX - f->kids;
    struct wanted *w = left > 0 ? calloc(1, sizeof(*w)) : NULL;
    if (w == NULL)
        return NULL;
    w->f = f;
    w->of = of;
    w->n = (resolution){.owner = w, .done = on_resolved};
    w->next = f->wanted;
    f->wanted = w;
    (*running(f, w))++;
    if (of != NULL)
        of->runs = true;
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
        return keep_for_kid(f, own, m);
    if (asked_lately(f, own) || f->kids == FOLLOW_KIDS_MAX || !has_token(f) || !keep_for_kid(f, own, m))
        return false;
    struct wanted *w = start(f, NULL);
    if (w == NULL) {
        release(f, waits_for_kid, own);
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

/* What was served is looked at now or, where it cannot be, looked up later: none is passed over. */
static void hear(follower *f, struct followed *e, const struct mosquitto_message *m)
{
    e->again = false;
    if (e->waits)
        return;
    struct wanted *w = e->runs ? NULL : start(f, e);
    if (w != NULL) {
        resolve_entry(&f->resolver, &w->n, e->id, m->payload, (size_t)m->payloadlen, NULL);
        return;
    }
    e->waits = true;
    if (!e->runs)
        wait_for_turn(f, e);
}

bool follow_take(follower *f, const struct mosquitto_message *m)
{
    size_t prefix = sizeof(PEP_KEYS_TOPIC) - 1;
    if (!f->on)
        return false;
    if (ask_take(&f->asker, m))
        return true;
    struct followed *e = strncmp(m->topic, PEP_KEYS_TOPIC, prefix) == 0 ? find(f, m->topic + prefix) : NULL;
    if (e == NULL)
        return false;
    if (m->payloadlen > 0) /* nothing: the gate serves no records retained any more */
        hear(f, e, m);
    return true;
}

bool follow_changes(const follower *f, const char *id)
{
    const struct followed *e = find(f, id);
    return e != NULL && (e->waits || e->runs) && !e->again;
}

bool follow_hold_change(follower *f, const char *id, const struct mosquitto_message *m)
{
    struct held *h = keep(f, m);
    if (h == NULL)
        return false;
    h->of = find(f, id);
    return true;
}

static void look_again(follower *f, uint64_t now_ms)
{
    struct followed *e;
    struct followed *next;
    f->again_ms = 0;
    HASH_ITER(hh, f->ids, e, next)
    {
        if (e->again_ms > now_ms && (f->again_ms == 0 || e->again_ms < f->again_ms))
            f->again_ms = e->again_ms;
        if (e->again_ms == 0 || e->again_ms > now_ms)
            continue;
        e->again_ms = 0;
        if (e->waits || e->runs)
            continue;
        e->waits = e->again = true;
        wait_for_turn(f, e);
    }
}

static void look_at_waiting(follower *f)
{
    while (f->first_waiting != NULL && f->link->connected) {
        struct followed *e = f->first_waiting;
        struct wanted *w = start(f, e);
        if (w == NULL)
            return;
        f->first_waiting = e->next_waiting;
        e->waits = false;
        resolve_id(&f->resolver, &w->n, e->id, ASK_WAIT_MS);
    }
}

void follow_tick(follower *f)
{
    uint64_t now_ms = mqtt_now_ms();
    if (!f->on)
        return;
    ask_expire(&f->asker);
    release(f, is_over, &now_ms);
    if (f->again_ms != 0 && f->again_ms <= now_ms)
        look_again(f, now_ms);
    look_at_waiting(f);
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
    int code = resolver_check();
    if (code != DONE || !f->on)
        return code;
    f->asker.link = link;
    f->tokens = FOLLOW_KIDS_MAX;
    f->tokens_ms = mqtt_now_ms();
    char *records = records_of(key, from);
    if (records == NULL)
        return fail(OUT_OF_REACH, "out of memory");
    code = resolver_open(&f->resolver, &f->asker, key, records);
    free(records);
    if (code != DONE)
        return code;
    if (f->resolver.pins != NULL)
        given_pin_known(f->resolver.given, f->resolver.pins);
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
    f->on = false;
}

pep_pins *follow_pins(const follower *f)
{
    return f->resolver.pins;
}
