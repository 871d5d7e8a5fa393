#include "gate/budget.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SECOND_US 1000000ULL

/* A rate of so many a second, and as many at once (the generic cell rate algorithm): one number. */
typedef struct {
    uint64_t next_us;   /* when all that was taken is paid back */
    uint64_t failed_us; /* the last failure; 0: none */
} bucket;

struct budget {
    uint8_t key[BUDGET_KEY_BYTES];
    bucket buckets[BUDGET_PLACES];
    uint64_t standing[BUDGET_SETS][BUDGET_WAYS]; /* who has it; in a set, who was heard last comes first */
    uint64_t failed_us;                          /* the last failure of all */
    char *kicks[BUDGET_KICKS];
    size_t kick_n;
};

budget *budget_new(const uint8_t key[BUDGET_KEY_BYTES])
{
    _Static_assert(BUDGET_KEY_BYTES == crypto_shorthash_KEYBYTES, "the key is SipHash's");
    budget *b = calloc(1, sizeof *b);
    if (b != NULL)
        memcpy(b->key, key, BUDGET_KEY_BYTES);
    return b;
}

void budget_free(budget *b)
{
    for (char *id; b != NULL && (id = budget_next_kick(b)) != NULL;)
        free(id);
    free(b);
}

/* From 1 on, so that 0 says never. */
static uint64_t now_us(const gate_message *m)
{
    if (m->monotonic_us != 0)
        return m->monotonic_us;
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
    return (uint64_t)t.tv_sec * SECOND_US + (uint64_t)t.tv_nsec / 1000 + 1;
}

/* ---- who sends ---- */

static uint64_t hash(const budget *b, const void *bytes, size_t n)
{
    uint64_t out;
    _Static_assert(sizeof out == crypto_shorthash_BYTES, "a hash is 64 bits");
    crypto_shorthash((unsigned char *)&out, bytes, n, b->key);
    return out;
}

static uint64_t hash_text(const budget *b, const char *text)
{
    return text == NULL ? 0 : hash(b, text, strlen(text));
}

static bucket *place(budget *b, const uint64_t *parts, size_t n)
{
    return &b->buckets[hash(b, parts, n * sizeof *parts) % BUDGET_PLACES];
}

/* This client alone. */
static uint64_t sender_of(const budget *b, const gate_message *m)
{
    const uint64_t parts[] = {hash_text(b, m->client_id), hash_text(b, m->username), hash_text(b, m->address)};
    return hash(b, parts, sizeof parts);
}

static bucket *sender_bucket(budget *b, uint64_t sender)
{
    return place(b, &sender, 1);
}

/* Of IPv6 the first 64 bits: whoever has one address has all that share them. IPv4 may come as IPv6, too. */
static uint64_t network_of(const budget *b, const char *address)
{
    struct in_addr four;
    struct in6_addr six;
    if (address != NULL && inet_pton(AF_INET, address, &four) == 1)
        return hash(b, &four.s_addr, 4);
    if (address == NULL || inet_pton(AF_INET6, address, &six) != 1)
        return hash_text(b, address);
    if (IN6_IS_ADDR_V4MAPPED(&six))
        return hash(b, &six.s6_addr[12], 4);
    return hash(b, six.s6_addr, 8);
}

/* What those without standing share. */
typedef struct {
    bucket *pair;    /* user name and address */
    bucket *address; /* of all users there */
} shared;

static shared shared_of(budget *b, const gate_message *m)
{
    const uint64_t parts[] = {network_of(b, m->address), hash_text(b, m->username)};
    return (shared){place(b, parts, 2), place(b, parts, 1)};
}

/* Where it stands; BUDGET_WAYS: nowhere. */
static size_t way_of(const uint64_t set[BUDGET_WAYS], uint64_t sender)
{
    size_t way = 0;
    while (way < BUDGET_WAYS && set[way] != sender)
        way++;
    return way;
}

static uint64_t *set_of(budget *b, uint64_t sender)
{
    return b->standing[sender % BUDGET_SETS];
}

static bool has_standing(budget *b, uint64_t sender)
{
    return way_of(set_of(b, sender), sender) < BUDGET_WAYS;
}

static void give_standing(budget *b, uint64_t sender)
{
    uint64_t *set = set_of(b, sender);
    size_t way = way_of(set, sender);
    memmove(set + 1, set, (way < BUDGET_WAYS ? way : BUDGET_WAYS - 1) * sizeof *set);
    set[0] = sender;
}

static void take_standing(budget *b, uint64_t sender)
{
    uint64_t *set = set_of(b, sender);
    size_t way = way_of(set, sender);
    if (way < BUDGET_WAYS)
        set[way] = 0;
}

/* ---- the budget ---- */

/* One more, where no more than a second's worth is owed. */
static bool take(bucket *t, uint64_t rate, uint64_t now)
{
    uint64_t from = t->next_us > now ? t->next_us : now;
    if (from + SECOND_US / rate > now + SECOND_US)
        return false;
    t->next_us = from + SECOND_US / rate;
    return true;
}

static bool failed_lately(uint64_t failed_us, const policy_budget *limits, uint64_t now)
{
    return failed_us != 0 && now - failed_us < limits->memory_us;
}

static bool take_where_failed(bucket *t, const policy_budget *limits, uint64_t times, uint64_t now)
{
    return !failed_lately(t->failed_us, limits, now) || take(t, limits->rate * times, now);
}

static void put_down(budget *b, const char *client_id)
{
    if (client_id == NULL || b->kick_n == BUDGET_KICKS)
        return;
    for (size_t i = 0; i < b->kick_n; i++)
        if (strcmp(b->kicks[i], client_id) == 0)
            return;
    char *copy = strdup(client_id);
    if (copy != NULL)
        b->kicks[b->kick_n++] = copy;
}

bool budget_allows(budget *b, const policy_budget *limits, const gate_message *m, bool may_kick)
{
    if (limits->rate == 0 || b->failed_us == 0)
        return true;
    uint64_t now = now_us(m);
    uint64_t sender = sender_of(b, m);
    if (!failed_lately(b->failed_us, limits, now) || has_standing(b, sender))
        return true;
    shared s = shared_of(b, m);
    if (take_where_failed(s.pair, limits, 1, now) && take_where_failed(s.address, limits, BUDGET_ADDRESS_TIMES, now))
        return true;
    bool goes_on = !take(sender_bucket(b, sender), limits->rate, now);
    if (goes_on && may_kick && limits->over == POLICY_OVER_KICK)
        put_down(b, m->client_id);
    return false;
}

/* Who has standing and fails more often than the rate loses it. */
static void note_failure(budget *b, const policy_budget *limits, const gate_message *m)
{
    uint64_t now = now_us(m);
    uint64_t sender = sender_of(b, m);
    shared s = shared_of(b, m);
    b->failed_us = now;
    if (has_standing(b, sender)) {
        if (!take(sender_bucket(b, sender), limits->rate, now))
            take_standing(b, sender);
        return;
    }
    s.pair->failed_us = now;
    s.address->failed_us = now;
}

void budget_note(budget *b, const policy_budget *limits, const gate_message *m, bool verified)
{
    if (limits->rate == 0)
        return;
    if (verified)
        give_standing(b, sender_of(b, m));
    else
        note_failure(b, limits, m);
}

void budget_forgive(budget *b, const char *client_id)
{
    for (size_t i = 0; client_id != NULL && i < b->kick_n; i++) {
        if (strcmp(b->kicks[i], client_id) != 0)
            continue;
        free(b->kicks[i]);
        b->kicks[i] = b->kicks[--b->kick_n];
        return;
    }
}

char *budget_next_kick(budget *b)
{
    return b->kick_n == 0 ? NULL : b->kicks[--b->kick_n];
}
