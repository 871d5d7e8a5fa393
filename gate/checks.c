#include "gate/checks.h"

#include <sodium.h>
#include <string.h>
#include <time.h>

static bool is_will(const judgement *j)
{
    return (j->envelope.flags & PEP_FLAG_WILL) != 0;
}

static bool is_clear(const judgement *j)
{
    return (j->envelope.flags & PEP_FLAG_CLEAR) != 0;
}

static pep_reason check_reserved(judgement *j)
{
    return j->door != DOOR_STORED && policy_reserved(j->message->topic) ? PEP_RESERVED_TOPIC : PEP_OK;
}

static pep_reason check_size(judgement *j)
{
    return j->message->payload_n > j->rule->max_size ? PEP_TOO_LARGE : PEP_OK;
}

/* Shape, version and algorithms. */
static pep_reason check_shape(judgement *j)
{
    return pep_parse(&j->envelope, j->message->payload, j->message->payload_n);
}

static pep_reason check_topic(judgement *j)
{
    const policy_rule *rule = j->rule;
    const char *topic = j->message->topic;
    size_t n = j->topic_n;
    if (n < rule->prefix_n || memcmp(topic, rule->prefix, rule->prefix_n) != 0)
        return PEP_WRONG_TOPIC;
    topic += rule->prefix_n;
    n -= rule->prefix_n;
    return n == j->envelope.topic.n && memcmp(topic, j->envelope.topic.p, n) == 0 ? PEP_OK : PEP_WRONG_TOPIC;
}

static pep_reason check_signer_known(judgement *j)
{
    j->known = signers_find(j->rules->signers, &j->signer, j->envelope.kid);
    if (!j->known)
        return PEP_UNKNOWN_SIGNER;
    if (j->door != DOOR_STORED) /* else its seq is not asked for */
        j->has_slot = pep_replay_find(j->rules->replay, &j->slot, j->envelope.kid);
    return PEP_OK;
}

/* What a key signed before it ended stays verifiable; what is new must be by the current one, but for a moment. */
static bool may_use_ended(const judgement *j)
{
    const signer *s = &j->signer;
    bool in_grace = s->state == SIGNER_ROTATED && j->now_us / 1000000 <= s->ended_s + PEP_GRACE_S;
    return s->has_key && j->envelope.seq <= s->cutoff && (j->door == DOOR_STORED || in_grace);
}

static pep_reason check_signer_valid(judgement *j)
{
    if (j->signer.state == SIGNER_CURRENT)
        return j->now_us / 1000000 > j->signer.not_after_s ? PEP_EXPIRED_SIGNER : PEP_OK;
    if (may_use_ended(j))
        return PEP_OK;
    return j->signer.state == SIGNER_REVOKED ? PEP_REVOKED_SIGNER : PEP_ROTATED_SIGNER;
}

/* An admin may clear every protected topic: what lies there need not be by a device that is still known. */
static pep_reason check_may_speak(judgement *j)
{
    if (is_clear(j) && policy_is_admin(j->rules->policy, j->signer.id, j->signer.groups))
        return PEP_OK;
    return policy_may_sign(j->rule, j->message->topic, j->topic_n, j->signer.id, j->signer.groups)
               ? PEP_OK
               : PEP_SIGNER_NOT_ALLOWED;
}

/* A client chooses its own id: it counts only where the operator bound it. */
const char *gate_bound_name(const policy *p, const gate_message *m)
{
    return policy_bind_of(p) == POLICY_BIND_CLIENTID ? m->client_id : m->username;
}

static bool is_relay(const judgement *j)
{
    return policy_is_relay(j->rules->policy, gate_bound_name(j->rules->policy, j->message));
}

static pep_reason check_bound(judgement *j)
{
    if (policy_bind_of(j->rules->policy) == POLICY_BIND_NONE || j->door == DOOR_STORED || is_relay(j))
        return PEP_OK;
    const char *name = gate_bound_name(j->rules->policy, j->message);
    return name != NULL && strcmp(name, j->signer.id) == 0 ? PEP_OK : PEP_UNBOUND_CLIENT;
}

/* A will reaches the access check only, unless a bridge brings it from the broker where it was one. */
pep_reason gate_check_flags(judgement *j)
{
    bool relayed = j->message->bridge || is_relay(j);
    if (is_will(j) && (j->message->topic[0] == '$' || (j->door == DOOR_MESSAGE && !relayed)))
        return PEP_MISPLACED_FLAG;
    if (is_clear(j) && (!j->message->retain || j->door == DOOR_STORED))
        return PEP_MISPLACED_FLAG;
    return PEP_OK;
}

/* The gate sees the shape of an Encrypt0, no more. A clear carries nothing, and nothing of it is passed on. */
static pep_reason check_encrypted(judgement *j)
{
    bool in_clear = j->envelope.mode == PEP_MODE_SIGNED && !is_clear(j);
    return in_clear && j->rule->payload == POLICY_ENCRYPTED ? PEP_NOT_ENCRYPTED : PEP_OK;
}

static pep_reason check_record(judgement *j)
{
    return j->envelope.facts.n > 0 && !j->rule->record ? PEP_RECORD_DENIED : PEP_OK;
}

static pep_reason check_expiry(judgement *j)
{
    return j->envelope.exp_s > 0 && j->now_us / 1000000 > j->envelope.exp_s ? PEP_EXPIRED : PEP_OK;
}

static void update_text(crypto_generichash_state *state, const char *text)
{
    if (text != NULL) /* its NUL counted in: where one text ends and the next begins */
        crypto_generichash_update(state, (const uint8_t *)text, strlen(text) + 1);
    else
        crypto_generichash_update(state, (const uint8_t *)"\x01", 2);
}

/* Costs as much as a third of all other checks together: only where it is needed, and once. */
static const uint8_t *digest_of(judgement *j)
{
    if (!j->has_digest)
        crypto_generichash(j->digest, sizeof j->digest, j->message->payload, j->message->payload_n, NULL, 0);
    j->has_digest = true;
    return j->digest;
}

/* QoS 1 and 2 send again what was not acknowledged; a broker sends a will but once. */
static bool may_be_redelivered(const judgement *j)
{
    return j->message->qos > 0 && j->door != DOOR_STORED && !is_will(j);
}

/*
 * Everything that must be the same for a message to be the same message sent once more: all of its bytes, also those
 * that nobody signs, who sends it, and that it is retained.
 */
static void compute_redelivery(judgement *j)
{
    const uint8_t retain = j->message->retain ? 1 : 0;
    crypto_generichash_state state;
    crypto_generichash_init(&state, NULL, 0, sizeof j->redelivery);
    crypto_generichash_update(&state, digest_of(j), sizeof j->digest);
    crypto_generichash_update(&state, &retain, 1);
    update_text(&state, j->message->client_id);
    update_text(&state, j->message->username);
    crypto_generichash_final(&state, j->redelivery, sizeof j->redelivery);
}

static pep_seen seen_kind(const judgement *j)
{
    return is_will(j) ? PEP_SEEN_WILL : PEP_SEEN_MESSAGE;
}

static pep_reason check_replay(judgement *j)
{
    if (j->door == DOOR_STORED || !j->has_slot)
        return PEP_OK;
    return pep_replay_check(j->rules->replay, j->slot, seen_kind(j), j->envelope.seq);
}

/*
 * The broker shows us what is sent again before it removes duplicates. It was judged when it first came; since then it
 * may have become old, but not more than its sender allowed.
 */
static pep_reason check_redelivery(judgement *j)
{
    if (!may_be_redelivered(j) || check_replay(j) == PEP_OK)
        return PEP_OK;
    compute_redelivery(j);
    j->redelivered = pep_replay_is_redelivery(j->rules->replay, j->slot, j->envelope.seq, j->redelivery);
    return j->redelivered ? check_expiry(j) : PEP_OK;
}

static pep_reason check_future(judgement *j)
{
    bool timed = (j->envelope.flags & PEP_FLAG_COUNTER) == 0 && j->door != DOOR_STORED;
    uint64_t limit = j->now_us + policy_max_skew_us(j->rules->policy);
    return timed && j->envelope.seq > limit ? PEP_FUTURE_SEQ : PEP_OK;
}

static pep_reason check_age(judgement *j)
{
    uint64_t max_age = is_will(j) ? j->rule->will_max_age_us : j->rule->max_age_us;
    if (max_age == 0 || j->door == DOOR_STORED)
        return PEP_OK;
    if ((j->envelope.flags & PEP_FLAG_COUNTER) != 0)
        return PEP_NO_CLOCK;
    return j->envelope.seq < j->now_us && j->now_us - j->envelope.seq > max_age ? PEP_STALE : PEP_OK;
}

/* Before anything of it counts as seen: it may be sent again as it is. */
static pep_reason check_overflow(judgement *j)
{
    bool asks = j->envelope.facts.n > 0 && j->rule->refuse_overflow && j->door != DOOR_STORED;
    bool can = !asks || j->rules->can_record == NULL || j->rules->can_record(j->rules->ctx);
    return can ? PEP_OK : PEP_RECORD_OVERFLOW;
}

static uint64_t monotonic_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* Of what is stored, whoever receives it is not to blame; and who passes on what others sent is not disconnected. */
static pep_reason check_budget(judgement *j)
{
    const gate_rules *rules = j->rules;
    if (j->door == DOOR_STORED)
        return PEP_OK;
    bool leaves = j->message->client == rules->gone; /* by its name it could be somebody else's connection by then */
    bool may_kick = j->rule->mode == POLICY_ENFORCE && !j->message->bridge && !leaves && !is_relay(j);
    bool allowed = budget_allows(rules->budget, policy_budget_of(rules->policy), j->message, may_kick);
    return allowed ? PEP_OK : PEP_RATE_LIMITED;
}

static bool verify(judgement *j)
{
    gate_counters *c = j->rules->counters;
    uint64_t started = monotonic_us();
    pep_reason reason = pep_verify_key(j->rules->work, j->rules->work_n, &j->envelope, j->signer.sign_public);
    uint64_t took = monotonic_us() - started;
    c->verifications++;
    c->verify_us_sum += took;
    c->verify_us_max = took > c->verify_us_max ? took : c->verify_us_max;
    return reason == PEP_OK;
}

/* Will these bytes be looked at again: held back between the halves of QoS 2, queued, retained, or, wills, copied? */
static bool looked_at_again(const judgement *j)
{
    return j->message->qos > 0 || j->message->retain || is_will(j);
}

static pep_reason check_stored_signature(judgement *j)
{
    verified *known = j->rules->verified;
    verified_state state = verified_find(known, digest_of(j));
    if (state == VERIFIED_UNKNOWN) {
        state = verify(j) ? VERIFIED_GOOD : VERIFIED_BAD;
        verified_remember(known, digest_of(j), state);
    }
    return state == VERIFIED_GOOD ? PEP_OK : PEP_BAD_SIGNATURE;
}

static pep_reason check_signature(judgement *j)
{
    const gate_rules *rules = j->rules;
    if (j->door == DOOR_STORED)
        return check_stored_signature(j);
    bool good = verify(j);
    budget_note(rules->budget, policy_budget_of(rules->policy), j->message, good);
    if (good && looked_at_again(j))
        verified_remember(rules->verified, digest_of(j), VERIFIED_GOOD);
    return good ? PEP_OK : PEP_BAD_SIGNATURE;
}

/* Only now is there a slot: whoever is verified has one, and nobody else makes the file grow. */
static pep_reason commit(judgement *j)
{
    if (j->door == DOOR_STORED)
        return PEP_OK;
    if (!j->has_slot && pep_replay_slot(j->rules->replay, &j->slot, j->envelope.kid) != PEP_OK)
        return PEP_NO_ROOM;
    if (may_be_redelivered(j))
        compute_redelivery(j);
    pep_replay_commit(j->rules->replay, j->slot, seen_kind(j), j->envelope.seq, j->redelivery);
    if ((j->envelope.flags & PEP_FLAG_COUNTER) == 0)
        pep_replay_note_time(j->rules->replay, j->envelope.seq);
    return PEP_OK;
}

static pep_reason run(judgement *j, pep_reason (*const *checks)(judgement *), size_t count)
{
    for (size_t i = 0; i < count; i++) {
        pep_reason reason = checks[i](j);
        if (reason != PEP_OK || j->redelivered)
            return reason;
    }
    return PEP_OK;
}

/* Cheapest first; what needs the signer's record comes behind what does not, the signature behind all. */
static pep_reason (*const checks[])(judgement *) = {
    check_size,  check_shape,      check_topic,     check_signer_known, check_signer_valid, check_may_speak,
    check_bound, gate_check_flags, check_encrypted, check_record,       check_redelivery,   check_future,
    check_age,   check_expiry,     check_replay,    check_overflow,     check_budget,       check_signature,
};

/* Observing lets everything through and has counted it: to judge it again at each delivery would be for nothing. */
static bool is_passed_anyway(const judgement *j)
{
    bool audit = j->rules->replay == NULL;
    return j->door == DOOR_STORED && j->rule->mode == POLICY_OBSERVE && !audit;
}

pep_reason gate_judge(judgement *j)
{
    pep_reason reason = check_reserved(j);
    if (reason != PEP_OK)
        return reason;
    if (strcmp(j->message->topic, POLICY_CONTROL_TOPIC) == 0)
        return PEP_OK; /* the directory judges commands */
    if (j->door == DOOR_STORED && j->message->payload_n == 0)
        return PEP_OK; /* what a clear was turned into; nothing tells it from an empty one that came before the rule */
    j->topic_n = strlen(j->message->topic);
    j->rule = policy_match(j->rules->policy, j->message->topic, j->topic_n);
    if (j->rule == NULL || is_passed_anyway(j))
        return PEP_OK;
    j->now_us = j->message->now_us != 0 ? j->message->now_us : pep_now_us();
    reason = run(j, checks, sizeof checks / sizeof checks[0]);
    return reason == PEP_OK && !j->redelivered ? commit(j) : reason;
}
