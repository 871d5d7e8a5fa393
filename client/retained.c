#include "client/retained.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/print.h"
#include "pep.h"

#define ASK_AGAIN_MS 1000
#define WAITING_MAX  ((size_t)256 * 1024 * 1024) /* bytes of messages that wait for their turn */

/* Published together, in this order, every sys_interval seconds; the second one only where it changed. */
#define SYS_UPTIME  "$SYS/broker/uptime"
#define SYS_DROPPED "$SYS/broker/publish/messages/dropped"

/* ---- messages that wait ---- */

/* Whoever is slow makes the broker drop: so first everything is taken, and then looked at. */
struct waiting_message {
    struct mosquitto_message message;
    waiting_message *next;
};

static void hand_over(retained *r)
{
    for (waiting_message *w = r->first, *next; w != NULL; w = next) {
        next = w->next;
        if (!mqtt_stopped())
            r->each(r->owner, &w->message);
        mosquitto_message_free_contents(&w->message);
        free(w);
    }
    r->first = NULL;
    r->last = &r->first;
    r->waiting = 0;
}

static void put_by(retained *r, const struct mosquitto_message *m)
{
    waiting_message *w = calloc(1, sizeof(*w));
    if (w == NULL || mosquitto_message_copy(&w->message, m) != MOSQ_ERR_SUCCESS) {
        free(w);
        hand_over(r); /* no memory: then slowly */
        r->each(r->owner, m);
        return;
    }
    *r->last = w;
    r->last = &w->next;
    r->waiting += sizeof(*w) + strlen(m->topic) + (size_t)m->payloadlen;
    if (r->waiting > WAITING_MAX)
        hand_over(r);
}

/* ---- what the broker sends ---- */

static void note_dropped(retained *r, const struct mosquitto_message *m)
{
    char now[sizeof(r->dropped)];
    (void)snprintf(now, sizeof(now), "%.*s", m->payloadlen, m->payload != NULL ? (const char *)m->payload : "");
    r->dropped_news += !m->retain && strcmp(now, r->dropped) != 0;
    memcpy(r->dropped, now, sizeof(now));
}

static bool matches(const retained *r, size_t filter, const char *topic)
{
    const char *text = r->filters->at[filter];
    return pep_filter_matches(text, strlen(text), topic, strlen(topic));
}

/* True where an earlier filter had it already. */
static bool was_seen(const retained *r, const char *topic)
{
    for (size_t i = 0; i < r->at; i++)
        if (matches(r, i, topic))
            return true;
    return false;
}

static void on_message(struct mosquitto *client, void *link, const struct mosquitto_message *m,
                       const mosquitto_property *props)
{
    (void)client;
    (void)props;
    retained *r = ((mqtt_link *)link)->owner;
    if (strcmp(m->topic, SYS_DROPPED) == 0)
        note_dropped(r, m);
    else if (strcmp(m->topic, SYS_UPTIME) == 0 && !m->retain)
        r->ticks++;
    if (!r->looking || !m->retain || !matches(r, r->at, m->topic) || mqtt_stopped())
        return;
    r->progress_ms = mqtt_now_ms();
    r->messages++;
    r->bytes += strlen(m->topic) + (size_t)m->payloadlen;
    if (!was_seen(r, m->topic))
        put_by(r, m);
}

static void note_answer(retained *r, int mid)
{
    r->progress_ms = mqtt_now_ms();
    r->answered = r->answered || mid == r->asked;
}

static void on_subscribe(struct mosquitto *client, void *link, int mid, int count, const int *granted,
                         const mosquitto_property *props)
{
    (void)client;
    (void)props;
    retained *r = ((mqtt_link *)link)->owner;
    if (mid == r->asked)
        r->denied = count > 0 && granted[0] >= 128 ? granted[0] : 0;
    note_answer(r, mid);
}

static void on_unsubscribe(struct mosquitto *client, void *link, int mid, const mosquitto_property *props)
{
    (void)client;
    (void)props;
    note_answer(((mqtt_link *)link)->owner, mid);
}

void retained_prepare(retained *r)
{
    mosquitto_message_v5_callback_set(r->link.client, on_message);
    mosquitto_subscribe_v5_callback_set(r->link.client, on_subscribe);
    mosquitto_unsubscribe_v5_callback_set(r->link.client, on_unsubscribe);
}

/* ---- waiting ---- */

static int cannot_go_on(const retained *r, int rc)
{
    return fail(OUT_OF_REACH, "cannot ask %s: %s", r->link.address, mosquitto_strerror(rc));
}

/* A turn takes one packet and several system calls: what has come with it is taken with fewer. */
static bool take_what_is_there(retained *r)
{
    if (!mqtt_turn(&r->link, NULL, -1, 200))
        return false;
    uint64_t before;
    do
        before = r->messages;
    while (mosquitto_loop_read(r->link.client, 1) == MOSQ_ERR_SUCCESS && r->messages != before && !mqtt_stopped());
    return true; /* what failed there fails in the next turn, which has words for it */
}

static int turn(retained *r)
{
    if (!take_what_is_there(r) && !mqtt_stopped())
        return fail(OUT_OF_REACH, "lost the connection to %s: %s", r->link.address, mqtt_why(&r->link));
    if (mqtt_stopped())
        return fail(OUT_OF_REACH, "interrupted");
    if (mqtt_now_ms() >= r->progress_ms + MQTT_WAIT_MS)
        return fail(OUT_OF_REACH, "%s does not answer for %d s", r->link.address, MQTT_WAIT_MS / 1000);
    return DONE;
}

static int subscribe(retained *r, char *const *filters, size_t count)
{
    r->answered = false;
    r->progress_ms = mqtt_now_ms();
    int rc = mosquitto_subscribe_multiple(r->link.client, &r->asked, (int)count, filters, 0, 0, NULL);
    int code = rc == MOSQ_ERR_SUCCESS ? DONE : cannot_go_on(r, rc);
    while (code == DONE && !r->answered)
        code = turn(r);
    return code;
}

static int ask(retained *r)
{
    r->asked_ms = mqtt_now_ms();
    int rc = mosquitto_unsubscribe(r->link.client, &r->asked, r->filters->at[r->at]);
    return rc == MOSQ_ERR_SUCCESS ? DONE : cannot_go_on(r, rc);
}

static bool is_quiet(const retained *r)
{
    uint64_t last_ms = r->progress_ms > r->asked_ms ? r->progress_ms : r->asked_ms;
    return mqtt_now_ms() >= last_ms + ASK_AGAIN_MS;
}

/*
 * Unsubscribes. The answer stands behind everything that the broker had queued before, but is dropped where the queue
 * is full: then it is asked again.
 */
static int fence(retained *r)
{
    r->answered = false;
    r->progress_ms = mqtt_now_ms();
    int code = ask(r);
    while (code == DONE && !r->answered) {
        code = turn(r);
        if (code == DONE && !r->answered && is_quiet(r))
            code = ask(r);
    }
    return code;
}

/* ---- is it all? ---- */

static int not_all(retained *r, const char *why)
{
    r->incomplete = true;
    warn("%s: %s; the list may be incomplete: give narrower filters, or raise max_queued_messages", r->link.address,
         why);
    return DONE;
}

/* Waits until the broker has published its counters once more, and all of them are here. */
static int settle(retained *r)
{
    uint64_t before = r->ticks;
    uint64_t deadline_ms = mqtt_now_ms() + MQTT_WAIT_MS;
    int code = DONE;
    while (code == DONE && r->ticks == before && mqtt_now_ms() < deadline_ms) {
        r->progress_ms = mqtt_now_ms();
        code = turn(r);
    }
    if (code == DONE && r->ticks == before)
        return not_all(r, "many messages, and it does not tell whether it dropped some (" SYS_DROPPED ")");
    return code == DONE ? fence(r) : code;
}

static int look_at(retained *r)
{
    r->messages = r->bytes = 0;
    r->last = &r->first;
    r->looking = true;
    int code = subscribe(r, &r->filters->at[r->at], 1);
    if (code == DONE && r->denied != 0)
        code = fail(OUT_OF_REACH, "the broker refused the subscription to %s", r->filters->at[r->at]);
    if (code == DONE)
        code = fence(r);
    r->looking = false;
    r->many = r->many || r->messages >= RETAINED_SURE_MESSAGES || r->bytes >= RETAINED_SURE_BYTES;
    hand_over(r);
    return code == DONE && mqtt_stopped() ? fail(OUT_OF_REACH, "interrupted") : code;
}

/* Once: 2.0.11 loses memory where a subscription is repeated. Denied: then settle finds out that nothing is told. */
static int watch(retained *r)
{
    static char uptime[] = SYS_UPTIME;
    static char dropped[] = SYS_DROPPED;
    static char *const topics[] = {uptime, dropped};
    if (r->watching)
        return DONE;
    r->watching = true;
    return subscribe(r, topics, 2);
}

int retained_look(retained *r)
{
    int code = watch(r);
    uint64_t news = r->dropped_news;
    r->many = false;
    for (r->at = 0; code == DONE && r->at < r->filters->n; r->at++)
        code = look_at(r);
    r->at = 0;
    if (code == DONE && r->many)
        code = settle(r);
    if (code == DONE && r->dropped_news != news)
        return not_all(r, "it dropped messages meanwhile, perhaps of these");
    return code;
}
