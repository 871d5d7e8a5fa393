/*
 * The gate, with a fresh state for each input: a sequence of messages at its doors. Whatever passes on an enforced
 * topic is checked again here, plainly, and no seq passes for two different messages.
 *
 * A step is: door, flags, who, when, the topic's length (0: the envelope's own topic), the payload's (2 bytes), then
 * these bytes. The first byte of all chooses the policy.
 */
#include "gate/gate.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/fuzz/fuzz.h"

#define STEPS_MAX  16
#define STEP_BYTES 7
#define ADMIN      "console"

enum { AT_ACCESS, AT_MESSAGE, SAME_AT_MESSAGE, AT_DELIVERY, SAME_AT_DELIVERY, SAME_AT_ACCESS, TICK, DOORS };
enum { FLAG_QOS = 3, FLAG_RETAIN = 4, FLAG_BRIDGE = 8, FLAG_STORED = 16 };

/* ---- the policies: much as in tests/vectors, in a form that can be asked about here ---- */

typedef struct {
    const char *filter;
    const char *signer;
    const char *prefix;
    uint32_t max_size;
    unsigned max_age_s;
    unsigned will_max_age_s;
    bool record_denied;
    bool observe;
    bool encrypted;
} rule;

static const rule rules[] = {
    {.filter = "sealed/#", .encrypted = true, .signer = "sensor-1"},
    {.filter = "sealed/+/open", .signer = "*"},
    {.filter = "signed/#", .signer = "*"},
    {.filter = "aged/#", .signer = "*", .max_age_s = 30, .will_max_age_s = 86400},
    {.filter = "small/#", .signer = "*", .max_size = 200},
    {.filter = "quiet/#", .signer = "*", .record_denied = true},
    {.filter = "own/+/state", .signer = "%1"},
    {.filter = "site-a/#", .signer = "*", .prefix = "site-a/"},
    {.filter = "+/signed/#", .signer = "*", .prefix = "site-b/"},
    {.filter = "$site/#", .signer = "*"},
    {.filter = "watched/#", .observe = true, .signer = "*"},
};

static const char *const names[][2] = {
    {"client-1", "sensor-1"}, {"client-2", "sensor-1"}, {"client-1", "sensor-2"},
    {"client-1", NULL},       {NULL, "bridge-b"},       {NULL, NULL},
};

/* Seconds from NOW_S. */
static const int64_t times[] = {0, -1, 1, -61, 61, -3600, 86400, 31536000};

static const char *filters[COUNT(rules)];

static void write_policy(const char *path, const char *bind)
{
    char text[4096];
    int n = snprintf(text, sizeof text,
                     "bind = \"%s\"; relays = [ \"bridge-b\" ]; admins = [ \"" ADMIN "\" ];\ntopics = (\n", bind);
    for (size_t i = 0; i < COUNT(rules); i++) {
        const rule *r = &rules[i];
        filters[i] = r->filter;
        n += snprintf(text + n, sizeof text - (size_t)n,
                      "{ filter = \"%s\"; mode = \"%s\"; payload = \"%s\"; signers = [ \"%s\" ]; record = \"%s\"; "
                      "max_size = %u; prefix = \"%s\";",
                      r->filter, r->observe ? "observe" : "enforce", r->encrypted ? "encrypted" : "signed", r->signer,
                      r->record_denied ? "deny" : "allow", r->max_size == 0 ? 65536 : r->max_size,
                      r->prefix == NULL ? "" : r->prefix);
        if (r->max_age_s > 0)
            n += snprintf(text + n, sizeof text - (size_t)n, " max_age = \"%us\"; will_max_age = \"%us\";",
                          r->max_age_s, r->will_max_age_s);
        n += snprintf(text + n, sizeof text - (size_t)n, " }%s\n", i + 1 < COUNT(rules) ? "," : ");");
    }
    must((size_t)n < sizeof text, "the policy is too long");
    fuzz_write(path, text, (size_t)n, 0600);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    world_make();
    fuzz_write_records(fuzz_path("records"));
    write_policy(fuzz_path("none.conf"), "none");
    write_policy(fuzz_path("username.conf"), "username");
    return 0;
}

/* ---- steps ---- */

/* A message in memory of its own until the end, as the gate compares pointers. */
typedef struct {
    gate_message m;
    char *topic;
    uint8_t *payload;
} message;

typedef struct {
    const message *at; /* what brought it; NULL: nothing is there */
    uint8_t kid[PEP_KID_BYTES];
    uint64_t seq;
    bool will;
} acceptance;

typedef struct {
    gate *g;
    bool bound;
    message messages[STEPS_MAX];
    size_t message_n;
    acceptance accepted[STEPS_MAX];
    size_t accepted_n;
    const message *kept; /* judged at the access check, and nothing came since */
} run;

static void *own_copy(pep_view bytes, size_t more)
{
    uint8_t *copy = fuzz_memory(bytes.n + more);
    if (bytes.n > 0)
        memcpy(copy, bytes.p, bytes.n);
    return copy;
}

/* The envelope's own topic, behind a prefix: none, those of the rules, and one that no rule has. */
static char *topic_of_payload(pep_view payload, uint8_t which)
{
    static const char *const prefixes[] = {"", "site-a/", "site-b/", "site-c/"};
    const char *prefix = prefixes[which % COUNT(prefixes)];
    pep_envelope e;
    bool named = pep_parse(&e, payload.p, payload.n) == PEP_OK && memchr(e.topic.p, 0, e.topic.n) == NULL;
    char *topic = own_copy((pep_view){(const uint8_t *)prefix, strlen(prefix)}, (named ? e.topic.n : 0) + 1);
    if (named)
        memcpy(topic + strlen(prefix), e.topic.p, e.topic.n);
    return topic;
}

static const message *take_message(run *r, pep_view *in, unsigned flags)
{
    message *made = &r->messages[r->message_n++];
    uint8_t who = take_byte(in);
    uint8_t when = take_byte(in);
    size_t topic_n = take_byte(in);
    size_t payload_n = take_byte(in);
    payload_n = payload_n << 8 | take_byte(in);
    pep_view topic = take(in, topic_n);
    pep_view payload = take(in, payload_n);
    made->payload = own_copy(payload, 0);
    made->topic = topic_n == 0 ? topic_of_payload(payload, who / COUNT(names)) : own_copy(topic, 1);
    made->m = (gate_message){
        .client = who % 2 == 0 ? (const void *)names : (const void *)times,
        .client_id = names[who % COUNT(names)][0],
        .username = names[who % COUNT(names)][1],
        .address = who % 2 == 0 ? "192.0.2.1" : NULL,
        .bridge = (flags & FLAG_BRIDGE) != 0,
        .stored = (flags & FLAG_STORED) != 0,
        .topic = made->topic,
        .payload = payload.n == 0 ? NULL : made->payload,
        .payload_n = payload.n,
        .qos = (int)((flags & FLAG_QOS) % 3),
        .retain = (flags & FLAG_RETAIN) != 0,
        .now_us = (uint64_t)((int64_t)NOW_S + times[when % COUNT(times)]) * 1000000,
        .monotonic_us = 1 + (uint64_t)when * 1000000,
    };
    return made;
}

/* ---- what must be true of what passes ---- */

static pep_view topic_view(const gate_message *m)
{
    return (pep_view){(const uint8_t *)m->topic, strlen(m->topic)};
}

static const rule *rule_of(const gate_message *m)
{
    if (m->topic[0] == '\0')
        return NULL;
    size_t best = reference_best(filters, COUNT(filters), topic_view(m));
    return best == COUNT(filters) ? NULL : &rules[best];
}

static bool is_own_topic(const char *topic, const char *id)
{
    char own[PEP_ID_MAX + 16];
    snprintf(own, sizeof own, "own/%s/state", id);
    return strcmp(topic, own) == 0;
}

static bool may_speak(const rule *r, const char *topic, const actor *by, bool clear)
{
    return (clear && strcmp(by->id, ADMIN) == 0) || strcmp(r->signer, "*") == 0 || strcmp(r->signer, by->id) == 0 ||
           (strcmp(r->signer, "%1") == 0 && is_own_topic(topic, by->id));
}

static void check_age(const rule *r, const gate_message *m, const pep_envelope *e)
{
    bool will = (e->flags & PEP_FLAG_WILL) != 0;
    uint64_t max_age_us = (will ? r->will_max_age_s : r->max_age_s) * 1000000ULL;
    bool counter = (e->flags & PEP_FLAG_COUNTER) != 0;
    invariant(counter || e->seq <= m->now_us + PEP_MAX_SKEW_US, "it is not from the future");
    invariant(max_age_us == 0 || (!counter && e->seq + max_age_us >= m->now_us), "it is not too old");
}

static void check_envelope(const run *r, const rule *by_rule, const gate_message *m, const pep_envelope *e,
                           unsigned door)
{
    const actor *by = reference_signer(e->kid);
    const char *prefix = by_rule->prefix == NULL ? "" : by_rule->prefix;
    pep_view topic = topic_view(m);
    size_t prefix_n = strlen(prefix);
    bool clear = (e->flags & PEP_FLAG_CLEAR) != 0;
    bool will = (e->flags & PEP_FLAG_WILL) != 0;
    bool relay = m->username != NULL && strcmp(m->username, "bridge-b") == 0;
    bool stored = door == AT_DELIVERY;
    invariant(by != NULL && by->enrolled && by->not_after_s >= m->now_us / 1000000, "its signer is believed");
    invariant(reference_signed(by, e->protected_bytes, e->payload, e->signature), "its signature is right");
    invariant(may_speak(by_rule, m->topic, by, clear), "its signer may speak there");
    invariant(strncmp(m->topic, prefix, prefix_n) == 0 && topic.n - prefix_n == e->topic.n &&
                  memcmp(topic.p + prefix_n, e->topic.p, e->topic.n) == 0,
              "it is signed for this topic");
    invariant(e->mode != PEP_MODE_SIGNED || clear || !by_rule->encrypted, "it is encrypted where it must be");
    invariant(e->facts.n == 0 || !by_rule->record_denied, "it is recorded where it may be");
    invariant(e->exp_s == 0 || e->exp_s >= m->now_us / 1000000, "it has not expired");
    invariant(m->payload_n <= (by_rule->max_size == 0 ? 65536 : by_rule->max_size), "it is not too large");
    invariant(stored || !r->bound || relay || (m->username != NULL && strcmp(m->username, by->id) == 0),
              "its client is bound to its signer");
    invariant(!clear || (m->retain && !stored), "only a retained message clears");
    invariant(!will || (m->topic[0] != '$' && (door != AT_MESSAGE || relay || m->bridge)), "a will is no publish");
}

static bool same_bytes(const gate_message *a, const gate_message *b)
{
    return a->payload_n == b->payload_n && memcmp(a->payload, b->payload, a->payload_n) == 0;
}

static bool same_text(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static bool same_sender(const gate_message *a, const gate_message *b)
{
    return same_text(a->client_id, b->client_id) && same_text(a->username, b->username) && a->retain == b->retain;
}

/* A seq passes once; once more only as what QoS 1 and 2 send again. */
static bool redelivered(const run *r, const message *now, const pep_envelope *e)
{
    bool will = (e->flags & PEP_FLAG_WILL) != 0;
    bool again = false;
    for (size_t i = 0; i < r->accepted_n; i++) {
        const acceptance *a = &r->accepted[i];
        if (memcmp(a->kid, e->kid, PEP_KID_BYTES) != 0 || a->seq != e->seq || a->will != will)
            continue;
        again = true;
        invariant(!will && now->m.qos > 0 && same_bytes(&now->m, &a->at->m) && same_sender(&now->m, &a->at->m),
                  "a seq passes for one message alone");
    }
    return again;
}

static void check_passed(run *r, const message *now, unsigned door, bool kept, gate_verdict v)
{
    bool stored = door == AT_DELIVERY;
    const rule *by_rule = rule_of(&now->m);
    pep_envelope e;
    if (by_rule == NULL || v.reason != PEP_OK || (stored && (now->m.payload_n == 0 || by_rule->observe)))
        return;
    invariant(pep_parse(&e, now->m.payload, now->m.payload_n) == PEP_OK, "what passes is an envelope");
    invariant((v.action == GATE_CLEAR) == ((e.flags & PEP_FLAG_CLEAR) != 0), "a clear clears, and nothing else does");
    invariant(v.seq == e.seq, "the verdict names the envelope's seq");
    check_envelope(r, by_rule, &now->m, &e, door);
    if (stored || kept)
        return;
    if (!redelivered(r, now, &e))
        check_age(by_rule, &now->m, &e);
    acceptance *a = &r->accepted[r->accepted_n++];
    *a = (acceptance){.at = now, .seq = e.seq, .will = (e.flags & PEP_FLAG_WILL) != 0};
    memcpy(a->kid, e.kid, PEP_KID_BYTES);
}

/* `door`: AT_ACCESS, AT_MESSAGE or AT_DELIVERY; `kept`: the verdict was made at the access check before. */
static void check_verdict(run *r, const message *now, unsigned door, bool kept, gate_verdict v)
{
    bool stored = door == AT_DELIVERY;
    const rule *by_rule = rule_of(&now->m);
    bool reserved = !stored && policy_reserved(now->m.topic);
    bool empty = stored && now->m.payload_n == 0;
    invariant(v.rule == NULL ? reserved || empty || by_rule == NULL
                             : by_rule != NULL && strcmp(v.rule->filter, by_rule->filter) == 0,
              "the most specific rule decides");
    invariant(!reserved || v.action == GATE_REFUSE, "nobody writes to reserved topics");
    invariant(reserved || by_rule != NULL || v.action == GATE_PASS, "what is not protected passes");
    invariant(v.action != GATE_REFUSE || v.reason != PEP_OK, "a refusal has a reason");
    invariant(v.action == GATE_REFUSE || v.reason == PEP_OK || by_rule->observe,
              "only observing lets pass for a reason");
    if (v.action != GATE_REFUSE)
        check_passed(r, now, door, kept, v);
}

/* ---- running ---- */

/* What the plugin does on a tick. */
static void tick(run *r)
{
    char *client_id;
    gate_tick(r->g);
    r->kept = NULL;
    while ((client_id = gate_next_kick(r->g)) != NULL)
        free(client_id);
}

static void step(run *r, pep_view *in)
{
    unsigned door = take_byte(in) % DOORS;
    unsigned flags = take_byte(in);
    bool same = door == SAME_AT_MESSAGE || door == SAME_AT_DELIVERY || door == SAME_AT_ACCESS;
    if (door == TICK || (same && r->message_n == 0)) {
        tick(r);
        return;
    }
    const message *now = same ? &r->messages[r->message_n - 1] : take_message(r, in, flags);
    if (door == AT_ACCESS || door == SAME_AT_ACCESS) {
        gate_verdict v = gate_at_access(r->g, &now->m);
        check_verdict(r, now, now->m.stored ? AT_DELIVERY : AT_ACCESS, false, v);
        r->kept = now->m.stored || v.action == GATE_REFUSE ? NULL : now;
    } else if (door == AT_MESSAGE || door == SAME_AT_MESSAGE) {
        bool kept = r->kept == now && !now->m.bridge;
        check_verdict(r, now, AT_MESSAGE, kept, gate_at_message(r->g, &now->m));
        r->kept = kept ? NULL : r->kept;
    } else {
        check_verdict(r, now, AT_DELIVERY, false, gate_at_delivery(r->g, &now->m));
    }
}

/* Of the records, which never change. */
static signers *known_signers(void)
{
    static signers *known;
    pep_error error;
    if (known == NULL && (known = signers_new()) != NULL)
        must(signers_load_folder(known, &error, fuzz_path("records")), "the records can be read");
    return known;
}

static gate *open_gate(bool bound)
{
    gate_error error = {{0}};
    unlink(fuzz_path("state/replay"));
    random_restart("gate"); /* the same key for its tables each time */
    policy_error why;
    const gate_config config = {.policy = policy_load(&why, fuzz_path(bound ? "username.conf" : "none.conf")),
                                .signers = known_signers(),
                                .state_dir = fuzz_path("state")};
    must(config.policy != NULL && config.signers != NULL, "policy and records can be read");
    gate *g = gate_open(&error, &config);
    must(g != NULL, error.text);
    return g;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static run r;
    pep_view in = {data, n};
    memset(&r, 0, sizeof r);
    r.bound = take_byte(&in) % 2 != 0;
    r.g = open_gate(r.bound);
    for (unsigned i = 0; i < STEPS_MAX && in.n > 0; i++)
        step(&r, &in);
    gate_close(r.g);
    for (size_t i = 0; i < r.message_n; i++) {
        free(r.messages[i].topic);
        free(r.messages[i].payload);
    }
    return 0;
}

/* ---- mutation: a step's payload, signed anew; its circumstances; a step more, for what needs two; or anything ---- */

/* Where a step lies that brings a message. */
typedef struct {
    size_t at;
    size_t length_at; /* the two bytes of its payload's length */
    pep_view payload;
} place;

/* One of them, that `seed` chooses; false: there is none. */
static bool find_step(place *out, const uint8_t *data, size_t n, unsigned seed)
{
    place found[STEPS_MAX];
    size_t count = 0;
    pep_view in = {data, n};
    take(&in, 1);
    while (in.n >= STEP_BYTES && count < STEPS_MAX) {
        place *step = &found[count];
        step->at = (size_t)(in.p - data);
        unsigned door = take_byte(&in) % DOORS;
        take(&in, 1);
        if (door != AT_ACCESS && door != AT_MESSAGE && door != AT_DELIVERY)
            continue;
        pep_view head = take(&in, STEP_BYTES - 2);
        take(&in, head.p[2]);
        step->length_at = (size_t)(head.p + 3 - data);
        step->payload = take(&in, (size_t)head.p[3] << 8 | head.p[4]);
        count++;
    }
    if (count == 0)
        return false;
    *out = found[seed % count];
    return true;
}

/* The step once more, at the end, through a door that `seed` chooses. */
static size_t repeat(uint8_t *data, size_t n, size_t cap, const place *step, unsigned seed)
{
    static const uint8_t doors[] = {AT_ACCESS, AT_MESSAGE, AT_DELIVERY};
    size_t length = (size_t)(step->payload.p - data) + step->payload.n - step->at;
    if (length > cap - n)
        return LLVMFuzzerMutate(data, n, cap);
    memmove(data + n, data + step->at, length);
    data[n] = doors[seed % COUNT(doors)];
    return n + length;
}

static size_t mutate_payload(uint8_t *data, size_t n, size_t cap, const place *step, unsigned seed)
{
    static uint8_t work[16384];
    size_t before = step->payload.n;
    size_t at = (size_t)(step->payload.p - data);
    size_t behind = n - at - before;
    if (before < 2 || before > sizeof work)
        return LLVMFuzzerMutate(data, n, cap);
    memcpy(work, step->payload.p, before);
    size_t made = mutate_sign1(work, before, sizeof work, seed);
    if (at + made + behind > cap)
        return LLVMFuzzerMutate(data, n, cap);
    memmove(data + at + made, data + at + before, behind);
    memcpy(data + at, work, made);
    data[step->length_at] = (uint8_t)(made >> 8);
    data[step->length_at + 1] = (uint8_t)made;
    return at + made + behind;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t n, size_t cap, unsigned seed)
{
    place step;
    unsigned how = seed % 8;
    if (how < 2 || !find_step(&step, data, n, seed / 8))
        return LLVMFuzzerMutate(data, n, cap);
    if (how == 2)
        return repeat(data, n, cap, &step, seed / 128);
    if (how > 3)
        return mutate_payload(data, n, cap, &step, seed / 128);
    data[step.at + 1 + seed / 128 % 3] ^= (uint8_t)(1U << seed / 512 % 8); /* its flags, who, or when */
    return n;
}
