/* The abuse budget: who shares what with whom, who has standing, who is kicked. */
#include "gate/budget.h"

#include <stdlib.h>
#include <string.h>

#include "unit.h"

#define SECOND 1000000ULL
#define START  (1000 * SECOND) /* of the monotonic clock */

/* A fixed key: with it, none of the names below share a place by accident. */
static const uint8_t key[BUDGET_KEY_BYTES] = "sixteen of them";
static const policy_budget limits = {.rate = 20, .memory_us = 300 * SECOND, .over = POLICY_OVER_KICK};

static budget *b;
static uint64_t now;

static void begin(void)
{
    CU_ASSERT_EQUAL_FATAL(pep_init(), PEP_OK);
    b = budget_new(key);
    CU_ASSERT_PTR_NOT_NULL_FATAL(b);
    now = START;
}

static gate_message from(const char *client_id, const char *username, const char *address)
{
    return (gate_message){.client_id = client_id, .username = username, .address = address, .monotonic_us = now};
}

/* One message: true where it was verified, whatever came of that. */
static bool one(const gate_message *m, bool good)
{
    bool allowed = budget_allows(b, &limits, m, true);
    if (allowed)
        budget_note(b, &limits, m, good);
    return allowed;
}

/* How many of `n` bad ones were verified. */
static int bad(int n, const char *client_id, const char *username, const char *address)
{
    int verified = 0;
    gate_message m = from(client_id, username, address);
    for (int i = 0; i < n; i++)
        verified += one(&m, false);
    return verified;
}

static bool good(const char *client_id, const char *username, const char *address)
{
    gate_message m = from(client_id, username, address);
    return one(&m, true);
}

static int kicks(const char *client_id)
{
    int n = 0;
    for (char *id; (id = budget_next_kick(b)) != NULL; free(id), n++)
        CU_ASSERT_STRING_EQUAL(id, client_id);
    return n;
}

/* Other client ids do not help, another user name or address does; and the memory of a failure fades. */
static void test_shared(void)
{
    begin();
    CU_ASSERT_EQUAL(bad(100, "bad", "u", "10.0.0.1"), 21);
    CU_ASSERT_EQUAL(bad(1, "bad-2", "u", "10.0.0.1"), 0);
    CU_ASSERT_FALSE(good("new", "u", "10.0.0.1"));
    CU_ASSERT_TRUE(good("new", "v", "10.0.0.1"));
    CU_ASSERT_TRUE(good("new-2", "u", "10.0.0.2"));
    CU_ASSERT_TRUE(good("new-3", NULL, "10.0.0.1"));
    CU_ASSERT_TRUE(good("new-4", "u", NULL));
    now += SECOND / 20;
    CU_ASSERT_TRUE(good("new-5", "u", "10.0.0.1"));
    CU_ASSERT_FALSE(good("new-6", "u", "10.0.0.1"));
    now += 300 * SECOND;
    for (int i = 0; i < 100; i++) {
        gate_message m = from("bad", "u", "10.0.0.1");
        CU_ASSERT_TRUE(budget_allows(b, &limits, &m, true)); /* forgotten */
    }
    budget_free(b);
}

/* Whoever makes up user names shares the address, tenfold. */
static void test_address(void)
{
    begin();
    int verified = 0;
    for (int i = 0; i < 1000; i++) {
        char name[32];
        snprintf(name, sizeof name, "user-%d", i);
        verified += bad(1, "bad", name, "10.0.0.1");
    }
    CU_ASSERT_EQUAL(verified, 201);
    CU_ASSERT_FALSE(good("new", "v", "10.0.0.1"));
    CU_ASSERT_TRUE(good("new", "v", "10.0.0.2"));
    budget_free(b);
}

/* Of IPv6 it is the network of 64 bits; what stands for an address of IPv4 is that address. */
static void test_networks(void)
{
    char address[64];
    begin();
    for (int i = 0; i < 50; i++) {
        snprintf(address, sizeof address, "2001:db8:1:2::%x", i + 1);
        CU_ASSERT_EQUAL(bad(1, "bad", "u", address), i < 21);
        snprintf(address, sizeof address, "2001:db8:1:%x::1", i + 3);
        CU_ASSERT_EQUAL(bad(1, "bad", "u", address), 1);
        snprintf(address, sizeof address, "::ffff:10.9.0.%d", i + 1);
        CU_ASSERT_EQUAL(bad(1, "bad", "u", address), 1);
    }
    CU_ASSERT_EQUAL(bad(100, "bad", "u", "192.0.2.1"), 21);
    CU_ASSERT_EQUAL(bad(1, "bad", "u", "::ffff:192.0.2.1"), 0);
    budget_free(b);
}

/* Who was verified once is limited by nobody else, only by failures of its own. */
static void test_standing(void)
{
    begin();
    CU_ASSERT_TRUE(good("good", "u", "10.0.0.1"));
    (void)bad(100, "bad", "u", "10.0.0.1");
    for (int i = 0; i < 100; i++)
        CU_ASSERT_TRUE(good("good", "u", "10.0.0.1"));
    CU_ASSERT_FALSE(good("new", "u", "10.0.0.1"));
    CU_ASSERT_EQUAL(bad(20, "good", "u", "10.0.0.1"), 20);
    CU_ASSERT_TRUE(good("good", "u", "10.0.0.1"));
    CU_ASSERT_EQUAL(bad(20, "good", "u", "10.0.0.1"), 1); /* one too many: standing is lost */
    CU_ASSERT_FALSE(good("good", "u", "10.0.0.1"));
    budget_free(b);
}

/* However many there are that were heard, up to what the table is made for, none loses it to another. */
static void test_many_standing(void)
{
    enum { MANY = 20000 };
    char name[32];
    int lost = 0;
    begin();
    for (int i = 0; i < MANY; i++) {
        snprintf(name, sizeof name, "good-%d", i);
        CU_ASSERT_TRUE(good(name, "u", "10.0.0.1"));
    }
    (void)bad(100, "bad", "u", "10.0.0.1");
    for (int i = 0; i < MANY; i++) {
        snprintf(name, sizeof name, "good-%d", i);
        lost += !good(name, "u", "10.0.0.1");
    }
    CU_ASSERT_EQUAL(lost, 0);
    budget_free(b);
}

/* In a set that is full, who was heard longest ago gives way: who speaks never does. */
static void test_full_sets(void)
{
    enum { MANY = 8 * BUDGET_SETS * BUDGET_WAYS };
    char name[32];
    begin();
    for (int i = 0; i < MANY; i++) {
        snprintf(name, sizeof name, "good-%d", i);
        CU_ASSERT_TRUE(good(name, "u", "10.0.0.1"));
        if (i % 1000 == 0)
            CU_ASSERT_TRUE(good("speaks", "u", "10.0.0.1"));
    }
    (void)bad(100, "bad", "u", "10.0.0.1");
    CU_ASSERT_TRUE(good("speaks", "u", "10.0.0.1"));
    CU_ASSERT_FALSE(good("good-0", "u", "10.0.0.1"));
    budget_free(b);
}

/* It is of a client id, a user name and an address together. */
static void test_standing_is_of_all_three(void)
{
    begin();
    CU_ASSERT_TRUE(good("good", "u", "10.0.0.1"));
    (void)bad(100, "bad", "u", "10.0.0.2");
    (void)bad(100, "bad", "v", "10.0.0.1");
    CU_ASSERT_TRUE(good("good", "u", "10.0.0.1"));
    CU_ASSERT_FALSE(good("good", "u", "10.0.0.2"));
    CU_ASSERT_FALSE(good("good", "v", "10.0.0.1"));
    budget_free(b);
}

/* Where nothing failed nothing is limited, also when the machine has just started and its clock is near 0. */
static void test_failures_elsewhere(void)
{
    begin();
    now = 100 * SECOND;
    CU_ASSERT_EQUAL(bad(1, "bad", "u", "10.0.0.1"), 1);
    gate_message m = from("new", "u", "10.0.0.2");
    for (int i = 0; i < 1000; i++)
        CU_ASSERT_TRUE(budget_allows(b, &limits, &m, true));
    budget_free(b);
}

/* A device with standing may fail now and then for ever. */
static void test_standing_stays(void)
{
    begin();
    CU_ASSERT_TRUE(good("good", "u", "10.0.0.1"));
    for (int i = 0; i < 1000; i++) {
        now += SECOND / 10;
        CU_ASSERT_EQUAL(bad(1, "good", "u", "10.0.0.1"), 1);
    }
    CU_ASSERT_TRUE(good("new", "u", "10.0.0.1")); /* and costs nobody else anything */
    budget_free(b);
}

/* More clients than there are places for: each place once, and nothing leaks. */
static void test_kicks(void)
{
    begin();
    CU_ASSERT_EQUAL(bad(41, "bad", "u", "10.0.0.1"), 21);
    CU_ASSERT_EQUAL(kicks("bad"), 0);
    CU_ASSERT_EQUAL(bad(5, "bad", "u", "10.0.0.1"), 0);
    CU_ASSERT_EQUAL(kicks("bad"), 1);
    CU_ASSERT_EQUAL(bad(30, NULL, "u", "10.0.0.1"), 0);
    for (int i = 0; i < 50; i++) {
        char id[32];
        snprintf(id, sizeof id, "bad-%d", i);
        CU_ASSERT_EQUAL(bad(21, id, "u", "10.0.0.1"), 0);
    }
    int n = 0;
    for (char *id; n < BUDGET_KICKS / 2 && (id = budget_next_kick(b)) != NULL; free(id))
        n++;
    CU_ASSERT_EQUAL(n, BUDGET_KICKS / 2);
    budget_free(b); /* with some left */
}

/* Nothing was bad yet: nobody is limited. Without a rate nobody ever is. */
static void test_no_limit(void)
{
    const policy_budget none = {.rate = 0, .memory_us = SECOND};
    begin();
    gate_message m = from("c", "u", "10.0.0.1");
    for (int i = 0; i < 100; i++)
        CU_ASSERT_TRUE(budget_allows(b, &limits, &m, true));
    for (int i = 0; i < 100; i++) {
        CU_ASSERT_TRUE(budget_allows(b, &none, &m, true));
        budget_note(b, &none, &m, false);
    }
    budget_note(b, &limits, &m, true);
    budget_note(b, &none, &m, false); /* with standing it is no other */
    CU_ASSERT_EQUAL(kicks(""), 0);
    budget_free(b);
}

static const unit_test tests[] = {
    {"what is shared", test_shared},
    {"an address", test_address},
    {"networks", test_networks},
    {"standing", test_standing},
    {"standing is of all three names", test_standing_is_of_all_three},
    {"failures elsewhere", test_failures_elsewhere},
    {"standing stays", test_standing_stays},
    {"standing of many", test_many_standing},
    {"standing in full sets", test_full_sets},
    {"kicks", test_kicks},
    {"no limit", test_no_limit},
};

UNIT_MAIN("budget", tests)
