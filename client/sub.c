/* pep sub: subscribes, verifies, opens and prints. */
#include <inttypes.h>
#include <poll.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "client/commands.h"
#include "client/follow.h"
#include "client/opening.h"
#include "client/print.h"

#define RETRY_MAX_MS 30000
#define SYNC_MS      5000

static struct {
    option_list filters;
    const char *prefix;
    option_number qos, count, wait;
    bool verbose, json, no_newline;
} args;

static const option sub_options[] = {
    {OPTION_LIST, 't', true, "topic", &args.filters, "FILTER", "what to subscribe to", 0, 0},
    {OPTION_NUMBER, 'q', false, "qos", &args.qos, "0|1|2", "quality of service (default: 0)", 0, 2},
    {OPTION_NUMBER, 'C', false, "count", &args.count, "N", "end after N messages that opened", 1, UINT32_MAX},
    {OPTION_NUMBER, 'W', false, "timeout", &args.wait, "SECONDS", "end after so long", 1, UINT32_MAX},
    {OPTION_TEXT, 0, false, "prefix", &args.prefix, "TEXT", "what a bridge put before the topics: all have it", 0, 0},
    {OPTION_FLAG, 'v', false, "verbose", &args.verbose, NULL, "print the topic before each message", 0, 0},
    {OPTION_FLAG, 'N', false, "no-newline", &args.no_newline, NULL, "print no newline behind a message", 0, 0},
    {OPTION_FLAG, 0, false, "json", &args.json, NULL, "print one JSON object a line", 0, 0},
    {0},
};

typedef struct {
    mqtt_link link;
    opening opening;
    follower follower;
    int mid; /* of the SUBSCRIBE for --topic */
    pep_replay *seen;
    uint64_t opened;
    uint64_t deadline_ms; /* 0: none */
    uint64_t synced_ms;
    bool done;
    int code;
} subscriber;

static void finish(subscriber *s, int code)
{
    s->done = true;
    s->code = code;
}

static bool is_over(const subscriber *s)
{
    return s->done || mqtt_stopped() || (s->deadline_ms != 0 && mqtt_now_ms() >= s->deadline_ms);
}

/* ---- one message ---- */

/* The topic as it was signed, where a bridge or a mount point put something in front. NULL: it did not. */
static const char *without_prefix(const char *topic)
{
    const char *prefix = args.prefix != NULL ? args.prefix : "";
    size_t n = strlen(prefix);
    return strncmp(topic, prefix, n) == 0 ? topic + n : NULL;
}

/* A will comes first: also as a retained message it was sealed before messages that are older than its delivery. */
static pep_seen kind_of(const pep_envelope *e, bool retained)
{
    if (e->flags & PEP_FLAG_WILL)
        return PEP_SEEN_WILL;
    return retained ? PEP_SEEN_STATE : PEP_SEEN_MESSAGE;
}

static int print_json(const struct mosquitto_message *m, const pep_opened *o)
{
    char when[TIME_BYTES];
    cJSON *object = json_object(NULL, NULL);
    json_text(object, "topic", m->topic);
    json_text(object, "signer", o->sender->id);
    json_unsigned(object, "seq", o->envelope.seq);
    if (!(o->envelope.flags & PEP_FLAG_COUNTER))
        json_text(object, "time", time_us(when, o->envelope.seq));
    json_bytes(object, "payload", o->plain);
    json_bool(object, "retained", m->retain);
    describe_flags(object, o->envelope.flags);
    describe_facts(object, o->envelope.facts);
    describe_meta(object, &o->meta);
    return json_print(object);
}

static int print_message(const struct mosquitto_message *m, const pep_opened *o)
{
    if (args.json)
        return print_json(m, o);
    if (args.verbose) {
        put_escaped(stdout, m->topic, strlen(m->topic));
        putchar(' ');
    }
    if (o->plain.n > 0)
        (void)fwrite(o->plain.p, 1, o->plain.n, stdout);
    if (!args.no_newline)
        putchar('\n');
    return finish_output();
}

/* The slot of this signer and topic in what was seen, and whether the message is new there. */
static pep_reason look_up(const subscriber *s, size_t *slot, pep_seen kind, const pep_envelope *e)
{
    uint8_t key[PEP_KID_BYTES];
    pep_replay_key(key, e->kid, e->topic.p, e->topic.n);
    pep_reason reason = pep_replay_slot(s->seen, slot, key);
    return reason == PEP_OK ? pep_replay_check(s->seen, *slot, kind, e->seq) : reason;
}

/*
 * What a device's keys have in common: the order of its states and wills by time, so that what an old key sealed is
 * not shown behind what a new one did. A counter says nothing beyond its own key.
 */
static pep_reason look_up_device(const subscriber *s, size_t *slot, pep_seen kind, const pep_opened *o)
{
    uint8_t device[PEP_KID_BYTES];
    uint8_t key[PEP_KID_BYTES];
    const pep_envelope *e = &o->envelope;
    const char *id = o->sender->id;
    crypto_generichash(device, sizeof(device), (const uint8_t *)id, strlen(id), NULL, 0);
    pep_replay_key(key, device, e->topic.p, e->topic.n);
    pep_reason reason = pep_replay_slot(s->seen, slot, key);
    if (reason != PEP_OK || kind == PEP_SEEN_MESSAGE || (e->flags & PEP_FLAG_COUNTER))
        return reason;
    return pep_replay_check(s->seen, *slot, kind, e->seq);
}

static void commit(const subscriber *s, size_t slot, size_t device, pep_seen kind, const pep_envelope *e)
{
    if (!(e->flags & PEP_FLAG_COUNTER))
        pep_replay_commit(s->seen, device, kind, e->seq, NULL);
    pep_replay_commit(s->seen, slot, kind, e->seq, NULL);
}

/* Printed first, remembered then: a crash between the two repeats a message and loses none. */
static pep_reason pass_on(subscriber *s, const struct mosquitto_message *m, const pep_opened *o)
{
    size_t slot;
    size_t device;
    pep_seen kind = kind_of(&o->envelope, m->retain);
    pep_reason reason = look_up(s, &slot, kind, &o->envelope);
    if (reason == PEP_OK)
        reason = look_up_device(s, &device, kind, o);
    if (reason != PEP_OK)
        return reason;
    if ((o->envelope.flags & PEP_FLAG_CLEAR) !=
        0) { /* through a broker that has no gate to turn it into its own clear */
        warn("%s was cleared by %s", m->topic, o->sender->id);
        commit(s, slot, device, kind, &o->envelope);
        return PEP_OK;
    }
    int code = print_message(m, o);
    if (code != DONE) {
        finish(s, code);
        return PEP_OK;
    }
    commit(s, slot, device, kind, &o->envelope);
    s->opened++;
    if (args.count.given && s->opened == args.count.value)
        finish(s, DONE);
    return PEP_OK;
}

/* Whether the directory may know more of the signer than we do. */
static bool may_ask(const subscriber *s, pep_reason reason, const pep_envelope *e)
{
    bool pinned = s->opening.opener.pins != NULL && pep_pins_find(s->opening.opener.pins, e->kid) != NULL;
    return reason == PEP_UNKNOWN_SIGNER || reason == PEP_EXPIRED_SIGNER || reason == PEP_NOT_CERTIFIED ||
           (reason == PEP_ROTATED_SIGNER && !pinned);
}

static bool hold(subscriber *s, pep_reason reason, const struct mosquitto_message *m)
{
    pep_envelope e;
    return pep_parse(&e, m->payload, (size_t)m->payloadlen) == PEP_OK &&
           (may_ask(s, reason, &e) || follow_waits(&s->follower, e.kid)) && follow_hold(&s->follower, e.kid, m);
}

/* `first`: it comes from the broker, and was not held before. */
static pep_reason take(subscriber *s, const struct mosquitto_message *m, bool first)
{
    const char *topic = without_prefix(m->topic);
    pep_opened o;
    if (topic == NULL)
        return PEP_WRONG_TOPIC; /* what came past the bridge must not pass for what came through it */
    pep_reason parsed = pep_parse(&o.envelope, m->payload, (size_t)m->payloadlen);
    if (parsed != PEP_OK)
        return parsed; /* before room is made for it, however large it is */
    s->opening.opener.pins = follow_pins(&s->follower);
    pep_reason reason = opening_open(&o, &s->opening, topic, m->payload, (size_t)m->payloadlen);
    if (first && reason == PEP_OK && follow_changes(&s->follower, o.sender->id))
        return follow_hold_change(&s->follower, o.sender->id, m) ? PEP_OK : PEP_NEEDS_HISTORY;
    bool waits = s->follower.first != NULL || reason != PEP_OK;
    if (first && waits && hold(s, reason, m))
        return PEP_OK;
    if (reason != PEP_OK)
        return reason;
    follow_id(&s->follower, o.sender->id);
    return pass_on(s, m, &o);
}

static void take_and_tell(subscriber *s, const struct mosquitto_message *m, bool first)
{
    if (is_over(s))
        return;
    pep_reason reason = take(s, m, first);
    if (exit_code(reason) == OUT_OF_REACH)
        finish(s, fail_reason(reason, "cannot go on"));
    else if (reason != PEP_OK)
        warn("dropped %s: %s (%s)", m->topic, pep_reason_name(reason), pep_reason_text(reason));
}

static void on_release(void *owner, const struct mosquitto_message *m)
{
    take_and_tell(owner, m, false);
}

static void on_message(struct mosquitto *client, void *link, const struct mosquitto_message *m,
                       const mosquitto_property *props)
{
    (void)client;
    (void)props;
    subscriber *s = ((mqtt_link *)link)->owner;
    if (!follow_take(&s->follower, m))
        take_and_tell(s, m, true);
}

/* ---- the subscription ---- */

static void on_connected(mqtt_link *link)
{
    subscriber *s = link->owner;
    follow_connected(&s->follower); /* first: who was revoked meanwhile is known before his messages come */
    int rc = mosquitto_subscribe_multiple(link->client, &s->mid, (int)args.filters.n, args.filters.at,
                                          (int)args.qos.value, 0, NULL);
    if (rc != MOSQ_ERR_SUCCESS)
        finish(s, fail(REFUSED, "cannot subscribe: %s", mosquitto_strerror(rc)));
}

static void on_subscribe(struct mosquitto *client, void *link, int mid, int count, const int *granted,
                         const mosquitto_property *props)
{
    (void)client;
    (void)props;
    subscriber *s = ((mqtt_link *)link)->owner;
    if (mid != s->mid) /* of the directory's topics: a broker may have none */
        return;
    for (int i = 0; i < count && (size_t)i < args.filters.n; i++)
        if (granted[i] >= 128 && !s->done)
            finish(s, fail(REFUSED, "the broker refused the subscription to %s", args.filters.at[i]));
}

static int check_filters(void)
{
    for (size_t i = 0; i < args.filters.n; i++)
        if (!pep_filter_valid(args.filters.at[i], strlen(args.filters.at[i])))
            return wrong_usage("--topic '%.80s': is no topic filter", args.filters.at[i]);
    return DONE;
}

/* ---- the run ---- */

static void reconnect(subscriber *s)
{
    warn("lost the connection to %s: %s; trying again", s->link.address, mqtt_why(&s->link));
    for (uint64_t wait_ms = 1000; !is_over(s); wait_ms = wait_ms * 2 < RETRY_MAX_MS ? wait_ms * 2 : RETRY_MAX_MS) {
        uint64_t until_ms = mqtt_now_ms() + wait_ms;
        while (!is_over(s) && mqtt_now_ms() < until_ms)
            (void)poll(NULL, 0, 200);
        if (!is_over(s) && mqtt_reconnect(&s->link)) {
            warn("connected to %s again", s->link.address);
            return;
        }
    }
}

static void sync_now_and_then(subscriber *s)
{
    uint64_t now_ms = mqtt_now_ms();
    if (now_ms < s->synced_ms + SYNC_MS)
        return;
    s->synced_ms = now_ms;
    pep_replay_sync(s->seen);
    opening_tick(&s->opening);
}

static int receive(subscriber *s)
{
    while (!is_over(s)) {
        if (!mqtt_turn(&s->link, NULL, -1, 200) && !is_over(s))
            reconnect(s);
        follow_tick(&s->follower);
        sync_now_and_then(s);
    }
    if (s->done || !args.count.given)
        return s->code;
    return fail(REFUSED, "ended after %" PRIu64 " of %" PRIu64 " messages", s->opened, args.count.value);
}

static int open_seen(subscriber *s)
{
    char *path = beside_key(opening_key(), ".seen");
    if (path == NULL)
        return WRONG_USAGE;
    pep_error error = {""};
    pep_reason reason = pep_replay_open(&s->seen, &error, path);
    free(path);
    return reason == PEP_OK ? DONE : fail_error(reason, &error);
}

static int subscribe(subscriber *s)
{
    int code = mqtt_prepare(&s->link);
    if (code == DONE)
        code = opening_start(&s->opening);
    if (code == DONE)
        code = open_seen(s);
    if (code == DONE)
        code = follow_open(&s->follower, &s->link, opening_key(), opening_from(), s->opening.senders);
    if (code != DONE)
        return code;
    mosquitto_message_v5_callback_set(s->link.client, on_message);
    mosquitto_subscribe_v5_callback_set(s->link.client, on_subscribe);
    mqtt_stop_on_signals();
    s->deadline_ms = args.wait.given ? mqtt_now_ms() + args.wait.value * 1000 : 0;
    code = mqtt_connect(&s->link);
    return code == DONE ? receive(s) : code;
}

static int run(void)
{
    if (args.json && (args.verbose || args.no_newline))
        return wrong_usage("--json prints the topic, one object a line: leave out -v and -N");
    int code = check_filters();
    if (code != DONE)
        return code;
    static subscriber s;
    s.link = (mqtt_link){.owner = &s, .on_connected = on_connected};
    s.follower = (follower){.owner = &s, .release = on_release};
    code = subscribe(&s);
    follow_close(&s.follower);
    mqtt_close(&s.link);
    if (s.seen != NULL) {
        pep_replay_sync(s.seen);
        pep_replay_close(s.seen);
    }
    opening_close(&s.opening);
    return code;
}

const command sub_command = {
    "sub",
    "Subscribes, and prints what it could verify and open",
    "",
    "What was dropped, and why, is said on stderr. What was seen is remembered in ID.seen beside the key, so that a\n"
    "message is printed once. Senders without a record here are looked up in the broker's directory, if it has one.\n"
    "Ends on SIGINT and SIGTERM.\n",
    {sub_options, opening_options, resolving_options, connection_options},
    run,
};
