#include "plugin/notices.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <uthash.h>

#include "plugin/broker.h"

#define ROOT        "$PEP/rejected"
#define SECOND_MS   1000
#define LOOK_MS     100  /* between two looks at who has something left to be told */
#define JSON_BYTES  4096 /* a notice; the topic in it is cut before that */
#define SHOWN_BYTES 512  /* of a topic */

/* What is told of a refused message. */
typedef struct {
    pep_reason reason;
    int qos;
    bool retain;
    uint64_t seq;
    char signer[PEP_ID_MAX + 1];
    char topic[SHOWN_BYTES];
} refusal;

typedef struct {
    UT_hash_handle hh;
    uint64_t sent_ms[NOTICES_A_SECOND]; /* the last ones, CLOCK_MONOTONIC, in a ring; 0: none */
    size_t next;
    uint64_t suppressed; /* since the last one; then `last` is the newest of them */
    refusal last;
    char topic[]; /* on which its notices are published */
} client;

struct notices {
    client *clients; /* by topic */
    uint64_t next_look_ms;
    notice_counters counters;
};

notices *notices_new(void)
{
    return calloc(1, sizeof(notices));
}

static void forget(notices *n, client *c)
{
    HASH_DEL(n->clients, c);
    free(c);
}

void notices_free(notices *n)
{
    if (n == NULL)
        return;
    for (client *c = n->clients, *next; c != NULL; c = next) {
        next = c->hh.next;
        forget(n, c);
    }
    free(n);
}

const notice_counters *notices_counted(const notices *n)
{
    return &n->counters;
}

static uint64_t monotonic_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* ---- topics ---- */

/* What a client id may hold and one level of a topic may not, and the sign of encoding itself (RFC 3986, 2.1). */
static bool needs_encoding(unsigned char byte)
{
    return byte < 0x20 || byte == 0x7f || byte == '+' || byte == '#' || byte == '/' || byte == '%';
}

/* One byte of a client id as it stands in the topic: 1 or 3 bytes. */
static size_t encode(char out[3], unsigned char byte)
{
    static const char hex[] = "0123456789ABCDEF";
    out[0] = (char)byte;
    if (!needs_encoding(byte))
        return 1;
    out[0] = '%';
    out[1] = hex[byte >> 4];
    out[2] = hex[byte & 15];
    return 3;
}

/* False where there is no client id, or the topic would be too long. */
static bool topic_for(char out[NOTICES_TOPIC_BYTES], const char *client_id)
{
    size_t n = sizeof ROOT; /* with the slash */
    memcpy(out, ROOT "/", n + 1);
    if (client_id == NULL || client_id[0] == 0)
        return false;
    for (const char *p = client_id; *p != 0; p++) {
        if (n + 4 > NOTICES_TOPIC_BYTES)
            return false;
        n += encode(out + n, (unsigned char)*p);
    }
    out[n] = 0;
    return true;
}

bool notices_are_on(const char *topic)
{
    return strncmp(topic, ROOT "/", sizeof ROOT) == 0;
}

/* Asked for each subscriber of each notice: ends at the first byte that differs. */
bool notices_are_for(const char *client_id, const char *topic)
{
    const char *rest = topic + sizeof ROOT;
    if (client_id == NULL)
        return false;
    for (const char *p = client_id; *p != 0; p++) {
        char bytes[3];
        size_t n = encode(bytes, (unsigned char)*p);
        if (strncmp(rest, bytes, n) != 0)
            return false;
        rest += n;
    }
    return *rest == 0;
}

/* ---- one notice ---- */

/* Cut between two characters: the broker let in nothing but UTF-8 (RFC 3629). */
static void cut_text(char *out, size_t cap, const char *text)
{
    size_t n = strnlen(text, cap);
    if (n == cap)
        for (n = cap - 1; n > 0 && ((unsigned char)text[n] & 0xc0) == 0x80;)
            n--;
    memcpy(out, text, n);
    out[n] = 0;
}

static refusal refusal_of(const gate_message *m, const gate_verdict *verdict)
{
    refusal r = {.reason = verdict->reason, .qos = m->qos, .retain = m->retain, .seq = verdict->seq};
    cut_text(r.topic, sizeof r.topic, m->topic);
    cut_text(r.signer, sizeof r.signer, verdict->signer == NULL ? "" : verdict->signer);
    return r;
}

static bool add_number(cJSON *json, const char *name, uint64_t number)
{
    char text[24];
    snprintf(text, sizeof text, "%" PRIu64, number);
    return cJSON_AddRawToObject(json, name, text) != NULL;
}

static bool add_time(cJSON *json)
{
    char text[sizeof "2026-01-01T00:00:00Z"];
    struct tm broken;
    time_t now = time(NULL);
    return gmtime_r(&now, &broken) != NULL && strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &broken) > 0 &&
           cJSON_AddStringToObject(json, "time", text) != NULL;
}

static bool fill(cJSON *json, const refusal *r, uint64_t suppressed)
{
    return add_time(json) && cJSON_AddStringToObject(json, "reason", pep_reason_name(r->reason)) != NULL &&
           cJSON_AddStringToObject(json, "text", pep_reason_text(r->reason)) != NULL &&
           cJSON_AddStringToObject(json, "topic", r->topic) != NULL && add_number(json, "qos", (uint64_t)r->qos) &&
           cJSON_AddBoolToObject(json, "retain", r->retain) != NULL &&
           (r->signer[0] == 0 || cJSON_AddStringToObject(json, "signer", r->signer) != NULL) &&
           (r->seq == 0 || add_number(json, "seq", r->seq)) &&
           (suppressed == 0 || add_number(json, "suppressed", suppressed));
}

static bool publish(const char *topic, const refusal *r, uint64_t suppressed)
{
    char text[JSON_BYTES];
    cJSON *json = cJSON_CreateObject();
    bool done = json != NULL && fill(json, r, suppressed) && cJSON_PrintPreallocated(json, text, sizeof text, false) &&
                broker_publish(topic, text, strlen(text), 0, false);
    cJSON_Delete(json);
    return done;
}

/* ---- how many ---- */

static client *client_for(notices *n, const char *topic)
{
    client *c = NULL;
    size_t topic_n = strlen(topic);
    HASH_FIND(hh, n->clients, topic, (unsigned)topic_n, c);
    if (c != NULL || HASH_COUNT(n->clients) >= NOTICES_CLIENTS || (c = calloc(1, sizeof *c + topic_n + 1)) == NULL)
        return c;
    memcpy(c->topic, topic, topic_n);
    HASH_ADD(hh, n->clients, topic, (unsigned)topic_n, c);
    if (c->hh.tbl == NULL) { /* uthash had no memory */
        free(c);
        return NULL;
    }
    return c;
}

static bool may_send(const client *c, uint64_t now)
{
    uint64_t oldest = c->sent_ms[c->next];
    return oldest == 0 || now - oldest >= SECOND_MS;
}

/* Publishes the newest refusal, with the number of those before it that had no notice of their own. */
static void send_last(notices *n, client *c, uint64_t untold, uint64_t now)
{
    n->counters.sent += publish(c->topic, &c->last, untold);
    n->counters.suppressed += untold;
    c->sent_ms[c->next] = now;
    c->next = (c->next + 1) % NOTICES_A_SECOND;
    c->suppressed = 0;
}

void notices_add(notices *n, const gate_message *m, const gate_verdict *verdict)
{
    char topic[NOTICES_TOPIC_BYTES];
    client *c = topic_for(topic, m->client_id) ? client_for(n, topic) : NULL;
    uint64_t now = monotonic_ms();
    if (c != NULL)
        c->last = refusal_of(m, verdict);
    if (c == NULL)
        n->counters.suppressed++;
    else if (may_send(c, now))
        send_last(n, c, c->suppressed, now);
    else
        c->suppressed++;
}

void notices_tick(notices *n)
{
    uint64_t now = n->clients == NULL ? 0 : monotonic_ms();
    if (now < n->next_look_ms || n->clients == NULL) /* 2.0 ticks on every turn of its loop */
        return;
    n->next_look_ms = now + LOOK_MS;
    for (client *c = n->clients, *next; c != NULL; c = next) {
        next = c->hh.next;
        uint64_t newest = c->sent_ms[(c->next + NOTICES_A_SECOND - 1) % NOTICES_A_SECOND];
        if (c->suppressed > 0 && may_send(c, now))
            send_last(n, c, c->suppressed - 1, now);
        else if (c->suppressed == 0 && now - newest >= SECOND_MS)
            forget(n, c);
    }
}
