/* The gate's life: opening, reloading, and the one verdict that a message gets at its two hooks. */
#include "gate/gate.h"

#include <errno.h>
#include <pwd.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gate/checks.h"

#define RESERVED_SLOTS 256 /* for signers that are new within a few seconds */

/* A verdict between the access check and the delivery of the same message. */
typedef struct {
    bool live;
    bool redelivered;
    unsigned flags; /* of the envelope, where it was accepted */
    const void *client;
    const char *topic; /* the broker's pointer; compared, and its text compared with topic_text */
    const void *payload;
    size_t payload_n;
    gate_verdict verdict;
    gate_record record; /* where facts.n > 0: it asks to be recorded */
    uint8_t kid[PEP_KID_BYTES];
    uint8_t facts[PEP_FACTS_MAX]; /* of a will, whose payload the broker frees before it is known to be one */
    char topic_text[PEP_TOPIC_MAX + 1];
} kept_verdict;

/* A verdict between the deliveries of one message to many subscribers. */
typedef struct {
    bool live;
    const char *topic;
    const void *payload;
    size_t payload_n;
    gate_verdict verdict;
} delivery_verdict;

struct gate {
    policy *policy;
    signers *signers; /* not ours */
    void (*first_use)(void *ctx, const uint8_t kid[PEP_KID_BYTES]);
    void (*record)(void *ctx, const gate_record *r);
    bool (*can_record)(void *ctx);
    void *ctx;
    pep_replay *replay;
    uint8_t *work;
    size_t work_n;
    verified *verified;
    budget *budget;
    const void *gone; /* the last client that disconnected, until the next tick */
    gate_counters counters;
    kept_verdict kept;
    delivery_verdict delivery;
    char kid_text[sizeof "kid:" + 2 * (size_t)PEP_KID_BYTES]; /* of the last unknown signer */
    bool access_told;
    bool clock_warned;
};

/* ---- opening and reloading ---- */

static bool fail(gate_error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));

static bool fail(gate_error *error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(error->text, sizeof error->text, format, args);
    va_end(args);
    return false;
}

/* Whose rights did not suffice is half of the answer: the broker has dropped root's by now. */
static bool fail_errno(gate_error *error, const char *doing, const char *path)
{
    int saved = errno;
    const struct passwd *user = getpwuid(geteuid());
    return fail(error, "cannot %s %s as user %s: %s", doing, path, user != NULL ? user->pw_name : "without a name",
                strerror(saved));
}

static void forget(gate *g);

/* Takes the policy over, with room for the largest envelope that it allows. */
static bool swap_in(gate *g, gate_error *error, policy *p)
{
    size_t work_n = PEP_WORK_BYTES((size_t)policy_largest_size(p));
    uint8_t *work = malloc(work_n);
    if (work == NULL)
        return fail(error, "max_size: no memory for an envelope of %zu bytes", work_n);
    forget(g); /* it points into the old one */
    policy_free(g->policy);
    free(g->work);
    g->policy = p;
    g->work = work;
    g->work_n = work_n;
    g->counters.policies_loaded++;
    return true;
}

bool gate_ready_state_dir(gate_error *error, const char *path)
{
    struct stat st;
    if (mkdir(path, 0700) != 0 && errno != EEXIST)
        return fail_errno(error, "create the state folder", path);
    if (stat(path, &st) != 0)
        return fail_errno(error, "read the state folder", path);
    if (!S_ISDIR(st.st_mode))
        return fail(error, "%s is not a folder: the state option takes a folder", path);
    if ((st.st_mode & (S_IRWXG | S_IRWXO)) != 0)
        return fail(error, "others may enter the state folder %s: chmod 700 %s", path, path);
    return true;
}

static bool open_replay(gate *g, gate_error *error, const char *state_dir)
{
    char path[4096];
    pep_error why;
    if ((size_t)snprintf(path, sizeof path, "%s/replay", state_dir) >= sizeof path)
        return fail(error, "the path of the state folder is too long");
    if (!gate_ready_state_dir(error, state_dir))
        return false;
    if (pep_replay_open(&g->replay, &why, path) != PEP_OK)
        return fail(error, "%s", why.text);
    return true;
}

static bool take_memory(gate *g)
{
    uint8_t key[BUDGET_KEY_BYTES], verified_key[VERIFIED_KEY_BYTES];
    randombytes_buf(key, sizeof key);
    randombytes_buf(verified_key, sizeof verified_key);
    g->verified = verified_new(verified_key);
    g->budget = budget_new(key);
    return g->verified != NULL && g->budget != NULL;
}

gate *gate_open(gate_error *error, const gate_config *config)
{
    gate *g = calloc(1, sizeof *g);
    if (g == NULL || pep_init() != PEP_OK || !take_memory(g)) {
        fail(error, "out of memory");
        gate_close(g);
        return NULL;
    }
    g->signers = config->signers;
    g->first_use = config->first_use;
    g->record = config->record;
    g->can_record = config->can_record;
    g->ctx = config->ctx;
    if ((config->state_dir != NULL && !open_replay(g, error, config->state_dir)) ||
        !swap_in(g, error, config->policy)) {
        gate_close(g);
        return NULL;
    }
    return g;
}

void gate_close(gate *g)
{
    if (g == NULL)
        return;
    policy_free(g->policy);
    free(g->work);
    pep_replay_close(g->replay);
    verified_free(g->verified);
    budget_free(g->budget);
    free(g);
}

gate_reload_result gate_reload(gate *g, gate_error *error, policy *p, bool signers_changed)
{
    if (policy_same(p, g->policy) && !signers_changed) {
        policy_free(p);
        return GATE_UNCHANGED;
    }
    if (swap_in(g, error, p))
        return GATE_RELOADED;
    policy_free(p);
    gate_reload_failed(g);
    return GATE_RELOAD_FAILED;
}

void gate_reload_failed(gate *g)
{
    g->counters.policies_failed++;
}

/* ---- verdicts ---- */

static void start(judgement *j, gate_rules *rules, gate *g, const gate_message *m, gate_door door)
{
    *rules = (gate_rules){g->policy, g->signers,  g->replay,    g->budget,     g->gone, g->work,
                          g->work_n, g->verified, &g->counters, g->can_record, g->ctx};
    memset(j, 0, sizeof *j);
    j->rules = rules;
    j->message = m;
    j->door = door;
}

/* Reserved topics have no rule, and are refused whatever the mode of any rule. */
static gate_verdict refuse(gate *g, gate_door door, gate_verdict verdict)
{
    verdict.news = true;
    if (verdict.rule != NULL && verdict.rule->mode == POLICY_OBSERVE) {
        verdict.action = GATE_PASS;
        g->counters.observed[verdict.reason]++;
    } else {
        verdict.action = GATE_REFUSE;
        *(door == DOOR_STORED ? &g->counters.withheld : &g->counters.refused[verdict.reason]) += 1;
    }
    return verdict;
}

/* Whom nobody vouches for is looked for by its kid. */
static const char *signer_text(gate *g, const judgement *j, pep_reason reason)
{
    if (reason != PEP_UNKNOWN_SIGNER)
        return j->known ? j->signer.id : NULL;
    char *hex = g->kid_text + snprintf(g->kid_text, sizeof g->kid_text, "kid:");
    sodium_bin2hex(hex, 2 * PEP_KID_BYTES + 1, j->envelope.kid, PEP_KID_BYTES);
    return g->kid_text;
}

static void note_first_use(gate *g, const judgement *j)
{
    if (!j->known || j->signer.used || g->first_use == NULL)
        return;
    signers_mark_used(g->signers, j->envelope.kid);
    g->first_use(g->ctx, j->envelope.kid);
}

static gate_verdict verdict_of(gate *g, const judgement *j, pep_reason reason)
{
    gate_verdict verdict = {.reason = reason, .rule = j->rule, .news = true, .seq = j->envelope.seq};
    verdict.signer = signer_text(g, j, reason);
    if (reason != PEP_OK)
        return refuse(g, j->door, verdict);
    note_first_use(g, j);
    bool clear = j->rule != NULL && (j->envelope.flags & PEP_FLAG_CLEAR) != 0;
    verdict.action = clear ? GATE_CLEAR : GATE_PASS;
    return verdict;
}

static gate_record record_of(const judgement *j)
{
    const pep_envelope *e = &j->envelope;
    return (gate_record){.time_us = j->now_us,
                         .topic = j->message->topic,
                         .topic_n = j->topic_n,
                         .signer = j->signer.id,
                         .kid = e->kid,
                         .seq = e->seq,
                         .size = e->size,
                         .payload_n = e->payload.n,
                         .qos = j->message->qos,
                         .retain = j->message->retain,
                         .facts = e->facts,
                         .keep_us = j->rule->keep_us};
}

/*
 * Counts and records what was really accepted: at delivery, so that what an ACL denied in between is not in it. What is
 * redelivered was recorded when it first came.
 */
static void note_accepted(gate *g, const gate_verdict *verdict, const gate_record *record, bool redelivered)
{
    if (verdict->rule == NULL || verdict->reason != PEP_OK)
        return;
    g->counters.accepted++;
    g->counters.redelivered += redelivered;
    if (record->facts.n > 0 && !redelivered && g->record != NULL)
        g->record(g->ctx, record);
}

static void forget(gate *g)
{
    kept_verdict *k = &g->kept;
    if (k->live && (k->flags & PEP_FLAG_WILL) != 0) /* no delivery came: it was a will */
        note_accepted(g, &k->verdict, &k->record, false);
    k->live = false;
    g->delivery.live = false;
}

void gate_tick(gate *g)
{
    forget(g);
    g->gone = NULL;
}

void gate_disconnected(gate *g, const gate_message *m)
{
    forget(g);
    g->gone = m->client;
    budget_forgive(g->budget, m->client_id);
}

/* What an ordinary publish asks for stays in its payload, which is there at delivery. */
static void keep_record(kept_verdict *k, const judgement *j)
{
    bool asks = k->verdict.rule != NULL && k->verdict.reason == PEP_OK && j->envelope.facts.n > 0;
    k->record.facts.n = 0;
    if (!asks)
        return;
    k->record = record_of(j);
    if ((k->flags & PEP_FLAG_WILL) == 0)
        return;
    memcpy(k->kid, k->record.kid, sizeof k->kid);
    memcpy(k->facts, k->record.facts.p, k->record.facts.n);
    k->record.kid = k->kid;
    k->record.facts.p = k->facts;
    k->record.topic = k->topic_text;
}

static void keep(gate *g, const gate_message *m, const judgement *j, gate_verdict verdict)
{
    kept_verdict *k = &g->kept;
    size_t topic_n = strlen(m->topic);
    if (topic_n > PEP_TOPIC_MAX)
        return;
    k->live = true;
    k->redelivered = j->redelivered;
    k->flags = verdict.reason == PEP_OK ? j->envelope.flags : 0;
    k->client = m->client;
    k->topic = m->topic;
    k->payload = m->payload;
    k->payload_n = m->payload_n;
    k->verdict = verdict;
    k->verdict.news = false;
    memcpy(k->topic_text, m->topic, topic_n + 1);
    keep_record(k, j);
}

gate_verdict gate_at_access(gate *g, const gate_message *m)
{
    judgement j;
    gate_rules rules;
    forget(g);
    start(&j, &rules, g, m, m->stored ? DOOR_STORED : DOOR_ACCESS);
    pep_reason reason = gate_judge(&j);
    gate_verdict verdict = verdict_of(g, &j, reason);
    if (!m->stored && verdict.action != GATE_REFUSE)
        keep(g, m, &j, verdict);
    return verdict;
}

static bool is_kept(const kept_verdict *k, const gate_message *m)
{
    return k->live && !m->bridge && k->client == m->client && k->topic == m->topic && k->payload == m->payload &&
           k->payload_n == m->payload_n && strcmp(k->topic_text, m->topic) == 0;
}

static gate_verdict use_kept(gate *g, const gate_message *m)
{
    kept_verdict *k = &g->kept;
    gate_rules rules;
    judgement j;
    k->live = false;
    start(&j, &rules, g, m, DOOR_MESSAGE);
    j.envelope.flags = k->flags;
    gate_verdict verdict = k->verdict;
    pep_reason reason = gate_check_flags(&j); /* only now is it known that it is no will */
    if (reason == PEP_OK)
        return verdict;
    verdict.reason = reason;
    return refuse(g, DOOR_MESSAGE, verdict);
}

gate_verdict gate_at_message(gate *g, const gate_message *m)
{
    gate_verdict verdict;
    gate_record record = {.facts.n = 0};
    bool redelivered;
    if (is_kept(&g->kept, m)) {
        redelivered = g->kept.redelivered;
        record = g->kept.record;
        verdict = use_kept(g, m);
    } else {
        judgement j;
        gate_rules rules;
        g->counters.access_skipped += m->bridge ? 0 : 1;
        start(&j, &rules, g, m, DOOR_MESSAGE);
        pep_reason reason = gate_judge(&j);
        verdict = verdict_of(g, &j, reason);
        redelivered = j.redelivered;
        if (verdict.rule != NULL && verdict.reason == PEP_OK)
            record = record_of(&j);
    }
    note_accepted(g, &verdict, &record, redelivered);
    g->delivery = (delivery_verdict){verdict.action == GATE_PASS, m->topic, m->payload, m->payload_n, verdict};
    return verdict;
}

gate_verdict gate_at_delivery(gate *g, const gate_message *m)
{
    delivery_verdict *d = &g->delivery;
    if (d->live && d->topic == m->topic && d->payload == m->payload && d->payload_n == m->payload_n) {
        d->verdict.news = false;
        return d->verdict;
    }
    judgement j;
    gate_rules rules;
    start(&j, &rules, g, m, DOOR_STORED);
    pep_reason reason = gate_judge(&j);
    *d = (delivery_verdict){true, m->topic, m->payload, m->payload_n, verdict_of(g, &j, reason)};
    return d->verdict;
}

/* ---- the rest ---- */

bool gate_is_auditor(const gate *g, const gate_message *m)
{
    const char *name = gate_bound_name(g->policy, m);
    signer s;
    bool known = name != NULL && signers_find_id(g->signers, &s, name);
    return policy_bind_of(g->policy) != POLICY_BIND_NONE && policy_is_admin(g->policy, name, known ? s.groups : NULL);
}

/* Nobody is kicked for commands: who shares an address with a forger cannot help it, and gets an answer. */
bool gate_allows_command(gate *g, gate_verdict *verdict, const gate_message *m)
{
    if (budget_allows(g->budget, policy_budget_of(g->policy), m, false))
        return true;
    *verdict = refuse(g, DOOR_MESSAGE, (gate_verdict){.reason = PEP_RATE_LIMITED});
    return false;
}

void gate_note_command(gate *g, const gate_message *m, bool good)
{
    budget_note(g->budget, policy_budget_of(g->policy), m, good);
}

char *gate_next_kick(gate *g)
{
    char *client_id = budget_next_kick(g->budget);
    g->counters.kicked += client_id != NULL;
    return client_id;
}

bool gate_access_was_skipped(gate *g)
{
    bool first = g->counters.access_skipped > 0 && !g->access_told;
    g->access_told = g->access_told || first;
    return first;
}

bool gate_state_is_new(const gate *g)
{
    return pep_replay_is_new(g->replay);
}

void gate_sync(gate *g)
{
    (void)!pep_replay_reserve(g->replay, RESERVED_SLOTS); /* who finds no room is refused, and counted */
    pep_replay_sync(g->replay);
}

const gate_counters *gate_counters_of(const gate *g)
{
    return &g->counters;
}

const policy *gate_policy(const gate *g)
{
    return g->policy;
}

bool gate_clock_went_back(gate *g, uint64_t now_us)
{
    bool back = now_us + policy_max_skew_us(g->policy) < pep_replay_newest_us(g->replay);
    bool first = back && !g->clock_warned;
    g->clock_warned = back;
    return first;
}
