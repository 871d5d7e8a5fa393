/* The gate through its own interface: verdicts, the one kept verdict, redelivery, wills, clears, the budget, reload. */
#include "gate/gate.h"
#include "gate/verified.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "scratch.h"
#include "unit.h"

#define NOW 1800000000000000ULL
#define DAY 86400000000ULL

static const char rules[] =
    "bind = \"username\"; relays = [ \"bridge\" ];\n"
    "topics = (\n"
    "  { filter = \"s/+/t\"; signers = [ \"%1\" ]; max_age = \"30s\"; },\n"
    "  { filter = \"w/+\"; signers = [ \"%1\" ]; will_max_age = \"1d\"; max_age = \"30s\"; },\n"
    "  { filter = \"plain/#\"; signers = [ \"*\" ]; payload = \"signed\"; record = \"allow\"; },\n"
    "  { filter = \"small\"; signers = [ \"*\" ]; max_size = 200; payload = \"signed\"; },\n"
    "  { filter = \"seen/#\"; mode = \"observe\"; signers = [ \"dev-1\" ]; },\n"
    "  { filter = \"+/up/#\"; signers = [ \"*\" ]; prefix = \"site/\"; payload = \"signed\"; },\n"
    "  { filter = \"$odd/#\"; signers = [ \"*\" ]; payload = \"signed\"; }\n"
    ");\n";

/* A gate on real files, and two devices, of which it knows the first. */
typedef struct {
    char policy[300];
    char records[300];
    char state[300];
    signers *signers;
    gate *gate;
    pep_device known;
    pep_device stranger;
    pep_epoch epoch;
} bench;

typedef struct {
    uint8_t bytes[1024];
    size_t n;
} envelope;

static void write_text(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    CU_ASSERT_TRUE(fputs(text, f) >= 0);
    fclose(f);
}

static void save_record_until(const bench *b, const pep_device *device, const char *name, uint64_t end_s)
{
    uint8_t bytes[PEP_RECORD_BYTES_MAX];
    size_t n;
    char path[400];
    pep_error error;
    CU_ASSERT_EQUAL_FATAL(pep_record_sign(bytes, &n, device, end_s - 2000, end_s), PEP_OK);
    snprintf(path, sizeof path, "%s/%s.pub", b->records, name);
    CU_ASSERT_EQUAL_FATAL(pep_record_save(&error, path, bytes, n), PEP_OK);
}

static policy *read_policy(const bench *b)
{
    policy_error why;
    policy *p = policy_load(&why, b->policy);
    if (p == NULL)
        printf("%s\n", why.text);
    CU_ASSERT_PTR_NOT_NULL_FATAL(p);
    return p;
}

static gate *open_in(const bench *b, const char *state, gate_error *error)
{
    const gate_config config = {.policy = read_policy(b), .signers = b->signers, .state_dir = state};
    gate *g = gate_open(error, &config);
    if (g == NULL)
        policy_free(config.policy);
    return g;
}

static gate *open_gate(const bench *b)
{
    gate_error error = {{0}};
    gate *g = open_in(b, b->state, &error);
    if (g == NULL)
        printf("gate_open: %s\n", error.text);
    return g;
}

/* The policy as it stands in the file now. */
static void reload(bench *b)
{
    gate_error error;
    CU_ASSERT_EQUAL(gate_reload(b->gate, &error, read_policy(b), true), GATE_RELOADED);
}

static void save_record(const bench *b, const pep_device *device, const char *name)
{
    save_record_until(b, device, name, NOW / 1000000 + 1000);
}

static void set_up(bench *b)
{
    memset(b, 0, sizeof *b);
    scratch_begin();
    snprintf(b->policy, sizeof b->policy, "%s/policy.conf", scratch_folder);
    snprintf(b->records, sizeof b->records, "%s/records", scratch_folder);
    snprintf(b->state, sizeof b->state, "%s/state", scratch_folder);
    CU_ASSERT_EQUAL_FATAL(mkdir(b->records, 0700), 0);
    CU_ASSERT_EQUAL_FATAL(pep_init(), PEP_OK);
    CU_ASSERT_EQUAL_FATAL(pep_device_new(&b->known, "dev-1"), PEP_OK);
    CU_ASSERT_EQUAL_FATAL(pep_device_new(&b->stranger, "dev-2"), PEP_OK);
    CU_ASSERT_EQUAL_FATAL(pep_epoch_new(&b->epoch, b->known.sign_kid, "#"), PEP_OK);
    write_text(b->policy, rules);
    save_record(b, &b->known, "dev-1");
    pep_error why;
    b->signers = signers_new();
    CU_ASSERT_TRUE_FATAL(b->signers != NULL && signers_load_folder(b->signers, &why, b->records));
    b->gate = open_gate(b);
    CU_ASSERT_PTR_NOT_NULL_FATAL(b->gate);
}

static void tear_down(bench *b)
{
    gate_close(b->gate);
    signers_free(b->signers);
    pep_epoch_wipe(&b->epoch);
    scratch_end();
}

static pep_message plain_message(const bench *b, const char *topic, uint64_t seq)
{
    return (pep_message){.from = &b->known,
                         .topic = {(const uint8_t *)topic, strlen(topic)},
                         .seq = seq,
                         .flags = PEP_FLAG_SIGNED_ONLY,
                         .plain = {(const uint8_t *)"hello", 5}};
}

static envelope sealed(const pep_message *m)
{
    envelope e;
    CU_ASSERT_EQUAL_FATAL(pep_seal(e.bytes, &e.n, sizeof e.bytes, m), PEP_OK);
    return e;
}

/* An encrypted message of the known device. */
static envelope ordinary(const bench *b, const char *topic, uint64_t seq, unsigned flags)
{
    pep_message m = plain_message(b, topic, seq);
    m.epoch = (flags & PEP_FLAG_CLEAR) != 0 ? NULL : &b->epoch;
    m.flags = flags; /* not signed only */
    if ((flags & PEP_FLAG_CLEAR) != 0)
        m.plain.n = 0;
    return sealed(&m);
}

static envelope signed_only(const bench *b, const char *topic, uint64_t seq)
{
    pep_message m = plain_message(b, topic, seq);
    return sealed(&m);
}

static gate_message from_client(const char *topic, const envelope *e)
{
    return (gate_message){.client = "client",
                          .client_id = "client",
                          .username = "dev-1",
                          .topic = topic,
                          .payload = e->bytes,
                          .payload_n = e->n,
                          .now_us = NOW};
}

/* What an ordinary publish gets from both hooks together. */
static pep_reason publish(bench *b, const gate_message *m)
{
    gate_verdict v = gate_at_access(b->gate, m);
    if (v.action == GATE_REFUSE)
        return v.reason;
    return gate_at_message(b->gate, m).reason;
}

static uint64_t verifications(const bench *b)
{
    return gate_counters_of(b->gate)->verifications;
}

static void test_one_verification(void)
{
    bench b;
    set_up(&b);
    envelope e = ordinary(&b, "s/dev-1/t", NOW, 0);
    gate_message m = from_client("s/dev-1/t", &e);
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_OK);
    CU_ASSERT_EQUAL(verifications(&b), 1);
    CU_ASSERT_EQUAL(gate_counters_of(b.gate)->accepted, 1);
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_REPLAYED);
    CU_ASSERT_EQUAL(verifications(&b), 1);
    CU_ASSERT_EQUAL(gate_counters_of(b.gate)->refused[PEP_REPLAYED], 1);
    tear_down(&b);
}

static void test_not_protected(void)
{
    bench b;
    set_up(&b);
    gate_message m = {
        .client = "c", .client_id = "c", .topic = "elsewhere", .payload = (const uint8_t *)"x", .payload_n = 1};
    gate_verdict v = gate_at_access(b.gate, &m);
    CU_ASSERT_TRUE(v.action == GATE_PASS && v.reason == PEP_OK && v.rule == NULL);
    v = gate_at_message(b.gate, &m);
    CU_ASSERT_TRUE(v.action == GATE_PASS && v.rule == NULL);
    CU_ASSERT_EQUAL(gate_counters_of(b.gate)->accepted, 0);
    m.topic = "$PEP/keys/dev-1";
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_RESERVED_TOPIC);
    m.topic = "$PEP";
    CU_ASSERT_EQUAL(gate_at_message(b.gate, &m).reason, PEP_RESERVED_TOPIC);
    m.topic = "$PEPPER";
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_OK);
    tear_down(&b);
}

/* Each of these breaks one thing in an otherwise acceptable message. */
static void test_reasons(void)
{
    bench b;
    set_up(&b);
    envelope e = ordinary(&b, "s/dev-1/t", NOW, 0);
    gate_message m = from_client("s/dev-1/t", &e);
    m.payload_n = 0;
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_EMPTY_PAYLOAD);
    m.payload = (const uint8_t *)"21.5";
    m.payload_n = 4;
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_PLAIN_PAYLOAD);
    m = from_client("s/dev-1/t", &e);
    m.payload_n--;
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_MALFORMED);
    m = from_client("s/other/t", &e);
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_WRONG_TOPIC);
    m = from_client("s/dev-1/t", &e);
    m.username = "dev-2";
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_UNBOUND_CLIENT);
    m.username = NULL;
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_UNBOUND_CLIENT);
    m = from_client("s/dev-1/t", &e);
    m.now_us = NOW + 1001 * 1000000ULL;
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_EXPIRED_SIGNER);
    m.now_us = NOW + 31000000;
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_STALE);
    m.now_us = NOW - 60000001;
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_FUTURE_SEQ);
    m.now_us = NOW;
    e.bytes[e.n - 1] ^= 1;
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_BAD_SIGNATURE);
    e.bytes[e.n - 1] ^= 1;
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_OK);
    CU_ASSERT_EQUAL(verifications(&b), 2);
    tear_down(&b);
}

static void test_more_reasons(void)
{
    bench b;
    set_up(&b);
    envelope e = signed_only(&b, "s/dev-1/t", NOW);
    gate_message m = from_client("s/dev-1/t", &e);
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_NOT_ENCRYPTED);
    e = ordinary(&b, "s/dev-9/t", NOW, 0);
    m = from_client("s/dev-9/t", &e);
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_SIGNER_NOT_ALLOWED);
    e = ordinary(&b, "s/dev-1/t", 7, PEP_FLAG_COUNTER);
    m = from_client("s/dev-1/t", &e);
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_NO_CLOCK);
    pep_message stranger = plain_message(&b, "plain/x", NOW);
    stranger.from = &b.stranger;
    e = sealed(&stranger);
    m = from_client("plain/x", &e);
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_UNKNOWN_SIGNER);
    pep_message expiring = plain_message(&b, "plain/x", NOW);
    expiring.exp_s = NOW / 1000000 - 1;
    e = sealed(&expiring);
    m = from_client("plain/x", &e);
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_EXPIRED);
    char big[200] = {0};
    pep_message large = plain_message(&b, "small", NOW);
    large.plain = (pep_view){(const uint8_t *)big, sizeof big};
    e = sealed(&large);
    m = from_client("small", &e);
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_TOO_LARGE);
    CU_ASSERT_EQUAL(verifications(&b), 0);
    tear_down(&b);
}

static void test_record(void)
{
    bench b;
    set_up(&b);
    uint8_t facts[PEP_FACTS_MAX];
    pep_message m = plain_message(&b, "plain/x", NOW);
    const pep_fact fact = {.key = {(const uint8_t *)"a", 1}, .type = PEP_FACT_INT, .integer = -1};
    m.facts.p = facts;
    CU_ASSERT_EQUAL_FATAL(pep_facts_encode(facts, &m.facts.n, &fact, 1), PEP_OK);
    envelope e = sealed(&m);
    gate_message g = from_client("plain/x", &e);
    CU_ASSERT_EQUAL(publish(&b, &g), PEP_OK);
    m.topic = (pep_view){(const uint8_t *)"small", 5};
    m.seq++;
    e = sealed(&m);
    g = from_client("small", &e);
    CU_ASSERT_EQUAL(publish(&b, &g), PEP_RECORD_DENIED);
    tear_down(&b);
}

/* The same bytes from the same client at QoS 1 or 2 are one message, also when it has become old meanwhile. */
static void test_redelivery(void)
{
    bench b;
    set_up(&b);
    envelope e = ordinary(&b, "s/dev-1/t", NOW, 0);
    gate_message m = from_client("s/dev-1/t", &e);
    m.qos = 1;
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_OK);
    m.now_us = NOW + 500000000;
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_OK);
    CU_ASSERT_EQUAL(gate_counters_of(b.gate)->redelivered, 1);
    CU_ASSERT_EQUAL(gate_counters_of(b.gate)->accepted, 2);
    CU_ASSERT_EQUAL(verifications(&b), 1);
    m.now_us = NOW;
    m.client_id = "another";
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_REPLAYED);
    m.client_id = "client";
    m.qos = 0;
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_REPLAYED);
    m.qos = 2;
    envelope altered = e;
    altered.bytes[altered.n - 70] ^= 1;
    m.payload = altered.bytes;
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_REPLAYED);
    envelope at_qos_0 = ordinary(&b, "s/dev-1/t", NOW + 1, 0);
    m = from_client("s/dev-1/t", &at_qos_0);
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_OK);
    m.qos = 1;
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_REPLAYED);
    tear_down(&b);
}

/* Whoever takes over a device's client id cannot make more of its message than it was. */
static void test_redelivery_is_the_same(void)
{
    static const uint8_t gate_tag[] = {0xa1, 0x3a, 0x00, 0x01, 0x00, 0x01, 0x83, 0x48, 'A', 'A', 'A', 'A',
                                       'A',  'A',  'A',  'A',  0x01, 0x50, 'B',  'B',  'B', 'B', 'B', 'B',
                                       'B',  'B',  'B',  'B',  'B',  'B',  'B',  'B',  'B', 'B'};
    bench b;
    set_up(&b);
    pep_message expiring = plain_message(&b, "plain/x", NOW);
    expiring.exp_s = NOW / 1000000 + 2;
    envelope e = sealed(&expiring);
    gate_message m = from_client("plain/x", &e);
    m.qos = 1;
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_OK);
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_OK);
    m.retain = true;
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_REPLAYED);
    m.retain = false;
    m.username = "dev-2"; /* bound: not even asked */
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_UNBOUND_CLIENT);
    m.username = "bridge"; /* not bound, and another name */
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_REPLAYED);
    m.username = "dev-1";
    m.now_us = NOW + 3000000;
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_EXPIRED);
    m.now_us = NOW;
    envelope padded = e;
    size_t header_n = 2 + 2 + e.bytes[3]; /* d2 84, 58 and a length, the header */
    CU_ASSERT_EQUAL_FATAL(e.bytes[header_n], 0xa0);
    memcpy(padded.bytes + header_n, gate_tag, sizeof gate_tag);
    memcpy(padded.bytes + header_n + sizeof gate_tag, e.bytes + header_n + 1, e.n - header_n - 1);
    padded.n = e.n + sizeof gate_tag - 1;
    gate_message tagged = from_client("plain/x", &padded);
    tagged.qos = 1;
    CU_ASSERT_EQUAL(publish(&b, &tagged), PEP_REPLAYED);
    tear_down(&b);
}

/* However often one comes again, those before it that are still on their way find their place. */
static void test_redelivery_takes_no_place(void)
{
    bench b;
    set_up(&b);
    envelope late = ordinary(&b, "s/dev-1/t", NOW - 1, 0);
    envelope e = ordinary(&b, "s/dev-1/t", NOW, 0);
    gate_message m = from_client("s/dev-1/t", &e);
    m.qos = 1;
    for (int i = 0; i < 2 * PEP_REPLAY_WINDOW; i++)
        CU_ASSERT_EQUAL(publish(&b, &m), PEP_OK);
    m.payload = late.bytes;
    m.payload_n = late.n;
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_OK);
    tear_down(&b);
}

/* Names that make the same text together are other names. */
static void test_redelivery_of_names(void)
{
    static const struct {
        const char *client_id, *username, *other_id, *other_name;
    } cases[] = {{"ab", "c", "a", "bc"}, {"a", NULL, NULL, "a"}};
    bench b;
    set_up(&b);
    write_text(b.policy, "bind = \"none\"; topics = ( { filter = \"#\"; signers = [ \"*\" ]; } );");
    reload(&b);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        envelope e = ordinary(&b, "x", NOW + i, 0);
        gate_message m = from_client("x", &e);
        m.qos = 1;
        m.client_id = cases[i].client_id;
        m.username = cases[i].username;
        CU_ASSERT_EQUAL(publish(&b, &m), PEP_OK);
        CU_ASSERT_EQUAL(publish(&b, &m), PEP_OK);
        m.client_id = cases[i].other_id;
        m.username = cases[i].other_name;
        CU_ASSERT_EQUAL(publish(&b, &m), PEP_REPLAYED);
    }
    tear_down(&b);
}

/* The largest envelope that a rule allows, to the byte. */
static void test_largest(void)
{
    bench b;
    set_up(&b);
    char big[200] = {0};
    pep_message large = plain_message(&b, "small", NOW);
    large.plain = (pep_view){(const uint8_t *)big, 1};
    while (sealed(&large).n < 200)
        large.plain.n++;
    envelope e = sealed(&large);
    CU_ASSERT_EQUAL_FATAL(e.n, 200);
    gate_message m = from_client("small", &e);
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_OK);
    large.seq++;
    large.plain.n++;
    e = sealed(&large);
    m = from_client("small", &e);
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_TOO_LARGE);
    tear_down(&b);
}

/* The kept verdict is for one delivery of one message, and dies with whatever comes between. */
static void test_kept_verdict(void)
{
    bench b;
    set_up(&b);
    envelope e = ordinary(&b, "s/dev-1/t", NOW, 0);
    gate_message m = from_client("s/dev-1/t", &e);
    CU_ASSERT_EQUAL(gate_at_access(b.gate, &m).reason, PEP_OK);
    gate_message other = m;
    other.client = "other";
    CU_ASSERT_EQUAL(gate_at_message(b.gate, &other).reason, PEP_REPLAYED);
    CU_ASSERT_EQUAL(gate_at_message(b.gate, &m).reason, PEP_OK);
    CU_ASSERT_EQUAL(gate_at_message(b.gate, &m).reason, PEP_REPLAYED); /* once */

    e = ordinary(&b, "s/dev-1/t", NOW + 1, 0);
    CU_ASSERT_EQUAL(gate_at_access(b.gate, &m).reason, PEP_OK);
    gate_tick(b.gate);
    CU_ASSERT_EQUAL(gate_at_message(b.gate, &m).reason, PEP_REPLAYED);
    CU_ASSERT_EQUAL(gate_counters_of(b.gate)->accepted, 1); /* the second one was never delivered */

    e = ordinary(&b, "s/dev-1/t", NOW + 2, 0);
    CU_ASSERT_EQUAL(gate_at_access(b.gate, &m).reason, PEP_OK);
    gate_message shorter = m;
    shorter.payload_n--;
    CU_ASSERT_EQUAL(gate_at_message(b.gate, &shorter).reason, PEP_MALFORMED);
    gate_message bridged = m; /* at the address of the freed payload */
    bridged.bridge = true;
    bridged.username = "bridge";
    CU_ASSERT_EQUAL(gate_at_message(b.gate, &bridged).reason, PEP_REPLAYED);
    char rewritten[] = "s/dev-1/t";
    m.topic = rewritten;
    e = ordinary(&b, "s/dev-1/t", NOW + 3, 0);
    CU_ASSERT_EQUAL(gate_at_access(b.gate, &m).reason, PEP_OK);
    rewritten[2] = 'x';
    CU_ASSERT_EQUAL(gate_at_message(b.gate, &m).reason, PEP_WRONG_TOPIC);
    tear_down(&b);
}

/* What looks the same and lies elsewhere is another message; and another access check ends the one before. */
static void test_kept_for_one(void)
{
    bench b;
    set_up(&b);
    envelope e = ordinary(&b, "s/dev-1/t", NOW, 0);
    envelope copy = e;
    const char topic[] = "s/dev-1/t";
    gate_message m = from_client("s/dev-1/t", &e);
    gate_message of_other_topic = from_client(topic, &e);
    gate_message of_other_payload = from_client(m.topic, &copy);
    CU_ASSERT_EQUAL(gate_at_access(b.gate, &m).reason, PEP_OK);
    CU_ASSERT_EQUAL(gate_at_message(b.gate, &of_other_topic).reason, PEP_REPLAYED);
    CU_ASSERT_EQUAL(gate_at_message(b.gate, &of_other_payload).reason, PEP_REPLAYED);
    CU_ASSERT_EQUAL(gate_at_message(b.gate, &m).reason, PEP_OK);

    e = ordinary(&b, "s/dev-1/t", NOW + 1, 0);
    CU_ASSERT_EQUAL(gate_at_access(b.gate, &m).reason, PEP_OK);
    CU_ASSERT_EQUAL(gate_at_access(b.gate, &of_other_payload).reason, PEP_REPLAYED);
    CU_ASSERT_EQUAL(gate_at_message(b.gate, &m).reason, PEP_REPLAYED);
    CU_ASSERT_EQUAL(gate_counters_of(b.gate)->accepted, 1);
    tear_down(&b);
}

/* What is refused is not kept, nor what is only looked at again. */
static void test_not_kept(void)
{
    bench b;
    set_up(&b);
    envelope e = ordinary(&b, "s/dev-1/t", NOW, 0);
    gate_message m = from_client("s/dev-1/t", &e);
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_OK);
    CU_ASSERT_EQUAL(gate_at_access(b.gate, &m).reason, PEP_REPLAYED);
    CU_ASSERT_EQUAL(gate_at_message(b.gate, &m).reason, PEP_REPLAYED);
    CU_ASSERT_EQUAL(gate_counters_of(b.gate)->refused[PEP_REPLAYED], 2);
    m.stored = true;
    CU_ASSERT_EQUAL(gate_at_access(b.gate, &m).reason, PEP_OK);
    m.stored = false;
    CU_ASSERT_EQUAL(gate_at_message(b.gate, &m).reason, PEP_REPLAYED);
    tear_down(&b);
}

static void test_bridge(void)
{
    bench b;
    set_up(&b);
    envelope e = ordinary(&b, "s/dev-1/t", NOW, 0);
    gate_message m = from_client("s/dev-1/t", &e);
    m.bridge = true;
    m.username = "someone";
    CU_ASSERT_EQUAL(gate_at_message(b.gate, &m).reason, PEP_UNBOUND_CLIENT);
    m.username = "bridge";
    m.qos = 1;
    CU_ASSERT_EQUAL(gate_at_message(b.gate, &m).reason, PEP_OK);
    CU_ASSERT_EQUAL(gate_counters_of(b.gate)->accepted, 1);
    CU_ASSERT_EQUAL(gate_at_message(b.gate, &m).reason, PEP_OK); /* once more */
    CU_ASSERT_EQUAL(gate_counters_of(b.gate)->redelivered, 1);
    m.client_id = "bridge"; /* an id that anyone may choose makes nobody a relay */
    m.username = "someone";
    CU_ASSERT_EQUAL(gate_at_message(b.gate, &m).reason, PEP_UNBOUND_CLIENT);
    tear_down(&b);
}

static void test_prefix(void)
{
    bench b;
    set_up(&b);
    envelope e = signed_only(&b, "up/x", NOW);
    gate_message m = from_client("site/up/x", &e);
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_OK);
    e = signed_only(&b, "site/up/x", NOW + 1);
    m = from_client("site/up/x", &e);
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_WRONG_TOPIC);
    e = signed_only(&b, "up/x", NOW + 2);
    m = from_client("town/up/x", &e); /* as long a prefix, and another one */
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_WRONG_TOPIC);
    tear_down(&b);
}

static void test_beginning_of_a_topic(void)
{
    bench b;
    set_up(&b);
    envelope e = signed_only(&b, "plain/xy", NOW);
    gate_message m = from_client("plain/x", &e);
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_WRONG_TOPIC);
    m.topic = "plain/xyz";
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_WRONG_TOPIC);
    m.topic = "plain/xy";
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_OK);
    tear_down(&b);
}

static void test_wills(void)
{
    bench b;
    set_up(&b);
    envelope e = ordinary(&b, "w/dev-1", NOW - DAY / 2, PEP_FLAG_WILL);
    gate_message m = from_client("w/dev-1", &e);
    m.username = "dev-2";
    CU_ASSERT_EQUAL(gate_at_access(b.gate, &m).reason, PEP_UNBOUND_CLIENT);
    m.username = "dev-1";
    CU_ASSERT_EQUAL(gate_at_access(b.gate, &m).reason, PEP_OK); /* far older than max_age */
    CU_ASSERT_EQUAL(gate_counters_of(b.gate)->accepted, 0);
    gate_tick(b.gate);
    gate_tick(b.gate);
    CU_ASSERT_EQUAL(gate_counters_of(b.gate)->accepted, 1);
    CU_ASSERT_EQUAL(gate_at_access(b.gate, &m).reason, PEP_REPLAYED);
    e = ordinary(&b, "w/dev-1", NOW - DAY / 2 - 1, PEP_FLAG_WILL);
    CU_ASSERT_EQUAL(gate_at_access(b.gate, &m).reason, PEP_REPLAYED);
    e = ordinary(&b, "w/dev-1", NOW - 2 * DAY, PEP_FLAG_WILL);
    CU_ASSERT_EQUAL(gate_at_access(b.gate, &m).reason, PEP_STALE);
    e = ordinary(&b, "w/dev-1", NOW, 0); /* a will's seq leaves the window of messages alone */
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_OK);
    CU_ASSERT_EQUAL(verifications(&b), 2);
    tear_down(&b);
}

static void test_will_flag_on_publish(void)
{
    bench b;
    set_up(&b);
    envelope e = ordinary(&b, "w/dev-1", NOW, PEP_FLAG_WILL);
    gate_message m = from_client("w/dev-1", &e);
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_MISPLACED_FLAG);
    CU_ASSERT_EQUAL(gate_counters_of(b.gate)->accepted, 0);
    CU_ASSERT_EQUAL(gate_at_message(b.gate, &m).reason, PEP_MISPLACED_FLAG);
    e = ordinary(&b, "w/dev-1", NOW + 1, PEP_FLAG_WILL); /* another broker's will, brought by a bridge */
    m.username = "bridge";
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_OK);
    tear_down(&b);
}

static void test_clear(void)
{
    bench b;
    set_up(&b);
    envelope e = ordinary(&b, "s/dev-1/t", NOW, PEP_FLAG_CLEAR);
    gate_message m = from_client("s/dev-1/t", &e);
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_MISPLACED_FLAG);
    m.retain = true;
    envelope of_others = ordinary(&b, "s/dev-9/t", NOW, PEP_FLAG_CLEAR);
    gate_message elsewhere = from_client("s/dev-9/t", &of_others);
    elsewhere.retain = true;
    CU_ASSERT_EQUAL(publish(&b, &elsewhere), PEP_SIGNER_NOT_ALLOWED); /* no admin */
    CU_ASSERT_EQUAL(gate_at_access(b.gate, &m).reason, PEP_OK);
    gate_verdict v = gate_at_message(b.gate, &m);
    CU_ASSERT_TRUE(v.action == GATE_CLEAR && v.reason == PEP_OK);
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_REPLAYED);
    m.stored = true; /* one that got into the store before there was a gate */
    CU_ASSERT_EQUAL(gate_at_access(b.gate, &m).reason, PEP_MISPLACED_FLAG);
    tear_down(&b);
}

/* An admin clears what the rule lets only others speak on, under its own name, and does no more than that. */
static void test_clear_by_an_admin(void)
{
    bench b;
    set_up(&b);
    write_text(b.policy, "bind = \"username\"; admins = [ \"dev-1\" ];\n"
                         "topics = ( { filter = \"o/#\"; signers = [ \"dev-2\" ]; } );");
    reload(&b);
    envelope clear = ordinary(&b, "o/x", NOW, PEP_FLAG_CLEAR);
    envelope message = ordinary(&b, "o/x", NOW + 1, 0);
    gate_message m = from_client("o/x", &clear);
    m.retain = true;
    m.username = "dev-3";
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_UNBOUND_CLIENT);
    m.username = "dev-1";
    CU_ASSERT_EQUAL(gate_at_access(b.gate, &m).reason, PEP_OK);
    CU_ASSERT_EQUAL(gate_at_message(b.gate, &m).action, GATE_CLEAR);
    m = from_client("o/x", &message);
    m.retain = true;
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_SIGNER_NOT_ALLOWED);
    tear_down(&b);
}

/* An admin's client is shown what the gate withholds, where the broker knows that it is one. */
static void test_auditor(void)
{
    bench b;
    set_up(&b);
    gate_message m = {.username = "dev-1", .client_id = "c"};
    CU_ASSERT_FALSE(gate_is_auditor(b.gate, &m));
    static const struct {
        const char *bind;
        bool by_name, by_id;
    } cases[] = {{"none", false, false}, {"username", true, false}, {"clientid", false, true}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[200];
        snprintf(text, sizeof text, "bind = \"%s\"; admins = [ \"dev-1\" ]; topics = ();", cases[i].bind);
        write_text(b.policy, text);
        reload(&b);
        m = (gate_message){.username = "dev-1", .client_id = "c"};
        CU_ASSERT_EQUAL(gate_is_auditor(b.gate, &m), cases[i].by_name);
        m = (gate_message){.username = "other", .client_id = "dev-1"};
        CU_ASSERT_EQUAL(gate_is_auditor(b.gate, &m), cases[i].by_id);
        m = (gate_message){.username = NULL, .client_id = NULL};
        CU_ASSERT_FALSE(gate_is_auditor(b.gate, &m));
    }
    tear_down(&b);
}

/* Without replay state it judges what is stored, and makes no folder. */
static void test_without_state(void)
{
    bench b;
    set_up(&b);
    gate_error error = {{0}};
    gate *g = open_in(&b, NULL, &error);
    CU_ASSERT_PTR_NOT_NULL_FATAL(g);
    envelope e = ordinary(&b, "s/dev-1/t", NOW, 0);
    gate_message m = from_client("s/dev-1/t", &e);
    m.stored = true;
    m.retain = true;
    m.qos = 1;
    CU_ASSERT_EQUAL(gate_at_delivery(g, &m).reason, PEP_OK);
    e.bytes[e.n - 1] ^= 1;
    gate_tick(g);
    CU_ASSERT_EQUAL(gate_at_delivery(g, &m).reason, PEP_BAD_SIGNATURE);
    CU_ASSERT_EQUAL(gate_reload(g, &error, read_policy(&b), false), GATE_UNCHANGED);
    gate_close(g);
    tear_down(&b);
}

/* ---- the abuse budget ---- */

#define SECOND 1000000ULL
#define START  (1000 * SECOND) /* of the monotonic clock */

/* One of so many messages whose signature is bad: the verdict. */
static pep_reason abuse(bench *b, const char *client_id, const char *username, const char *address, uint64_t at)
{
    static uint64_t seq = NOW;
    envelope e = signed_only(b, "plain/x", ++seq);
    e.bytes[e.n - 1] ^= 1;
    gate_message m = from_client("plain/x", &e);
    m.client_id = client_id;
    m.username = username;
    m.address = address;
    m.monotonic_us = at;
    gate_verdict v = gate_at_access(b->gate, &m);
    CU_ASSERT_EQUAL(v.action, GATE_REFUSE);
    return v.reason;
}

/* How many of `n` at that moment were verified. */
static int verified_of(bench *b, int n, const char *client_id, const char *username, const char *address, uint64_t at)
{
    int checked = 0;
    for (int i = 0; i < n; i++)
        checked += abuse(b, client_id, username, address, at) == PEP_BAD_SIGNATURE;
    return checked;
}

static void open_for_abuse(bench *b)
{
    set_up(b);
    write_text(b->policy, "relays = [ \"courier\" ];\n"
                          "topics = ( { filter = \"plain/#\"; payload = \"signed\"; signers = [ \"*\" ]; },\n"
                          "           { filter = \"seen/#\"; payload = \"signed\"; mode = \"observe\";\n"
                          "             signers = [ \"*\" ]; } );");
    reload(b);
}

static int kicks(bench *b, const char *client_id)
{
    int n = 0;
    for (char *id; (id = gate_next_kick(b->gate)) != NULL; free(id), n++)
        CU_ASSERT_STRING_EQUAL(id, client_id);
    return n;
}

/* tests/unit/budget.c has the rest. The first failure is found out, then a second's worth at once, then so many a
 * second. */
static void test_budget_rate(void)
{
    bench b;
    open_for_abuse(&b);
    CU_ASSERT_EQUAL(verified_of(&b, 30, "bad", "u", "10.0.0.1", START), 21);
    CU_ASSERT_EQUAL(kicks(&b, "bad"), 0);
    CU_ASSERT_EQUAL(verified_of(&b, 30, "bad", "u", "10.0.0.1", START + SECOND / 2), 10);
    CU_ASSERT_EQUAL(verified_of(&b, 30, "bad", "u", "10.0.0.1", START + 100 * SECOND), 20);
    CU_ASSERT_EQUAL(gate_counters_of(b.gate)->verifications, 51);
    CU_ASSERT_EQUAL(gate_counters_of(b.gate)->refused[PEP_RATE_LIMITED], 39);
    tear_down(&b);
}

/* Who goes on is to be kicked, once a tick; not a bridge, nor a relay, not where it is observed only, not where the
 * policy says no.
 */
static void test_budget_kicks(void)
{
    bench b;
    open_for_abuse(&b);
    CU_ASSERT_EQUAL(verified_of(&b, 41, "bad", "u", "10.0.0.1", START), 21);
    CU_ASSERT_EQUAL(kicks(&b, "bad"), 0);
    (void)verified_of(&b, 5, "bad", "u", "10.0.0.1", START);
    CU_ASSERT_EQUAL(kicks(&b, "bad"), 1);
    CU_ASSERT_EQUAL(kicks(&b, "bad"), 0);
    CU_ASSERT_EQUAL(gate_counters_of(b.gate)->kicked, 1);
    envelope e = signed_only(&b, "seen/x", NOW);
    e.bytes[e.n - 1] ^= 1;
    gate_message m = from_client("seen/x", &e);
    m.monotonic_us = START;
    for (int i = 0; i < 100; i++)
        CU_ASSERT_EQUAL(gate_at_access(b.gate, &m).action, GATE_PASS);
    CU_ASSERT_EQUAL(gate_at_access(b.gate, &m).reason, PEP_RATE_LIMITED);
    m.topic = "plain/x";
    e = signed_only(&b, "plain/x", NOW);
    e.bytes[e.n - 1] ^= 1;
    m.payload_n = e.n;
    m.bridge = true;
    for (int i = 0; i < 100; i++)
        (void)gate_at_message(b.gate, &m);
    CU_ASSERT_EQUAL(gate_at_message(b.gate, &m).reason, PEP_RATE_LIMITED);
    m.bridge = false;
    m.username = "courier";
    for (int i = 0; i < 100; i++)
        (void)gate_at_access(b.gate, &m);
    CU_ASSERT_EQUAL(gate_at_access(b.gate, &m).reason, PEP_RATE_LIMITED);
    CU_ASSERT_EQUAL(kicks(&b, "bad"), 0);
    write_text(b.policy, "budget = { over = \"refuse\"; };\n"
                         "topics = ( { filter = \"plain/#\"; payload = \"signed\"; signers = [ \"*\" ]; } );");
    reload(&b);
    CU_ASSERT_EQUAL(verified_of(&b, 100, "bad", "u", "10.0.0.1", START), 0); /* the reload forgot nothing */
    CU_ASSERT_EQUAL(kicks(&b, "bad"), 0);
    write_text(b.policy, "budget = { rate = 0; };\n"
                         "topics = ( { filter = \"plain/#\"; payload = \"signed\"; signers = [ \"*\" ]; } );");
    reload(&b);
    CU_ASSERT_EQUAL(verified_of(&b, 100, "bad", "u", "10.0.0.1", START), 100);
    tear_down(&b);
}

/* Mosquitto kicks by client id, and that may be somebody else's once its owner has disconnected. */
static void test_gone_is_not_kicked(void)
{
    bench b;
    open_for_abuse(&b);
    (void)verified_of(&b, 60, "bad", "u", "10.0.0.1", START);
    gate_message m = {.client = "client", .client_id = "bad"};
    gate_disconnected(b.gate, &m);
    CU_ASSERT_EQUAL(kicks(&b, "bad"), 0); /* it was put down before */
    (void)verified_of(&b, 10, "bad", "u", "10.0.0.1", START);
    CU_ASSERT_EQUAL(kicks(&b, "bad"), 0); /* its will */
    gate_tick(b.gate);
    (void)verified_of(&b, 10, "bad", "u", "10.0.0.1", START);
    CU_ASSERT_EQUAL(kicks(&b, "bad"), 1); /* another connection */
    tear_down(&b);
}

/* Whoever receives what is bad is not to blame, and gets what is good whatever it did itself. */
static void test_budget_of_a_receiver(void)
{
    bench b;
    open_for_abuse(&b);
    envelope e = signed_only(&b, "plain/x", NOW);
    envelope forged = e;
    forged.bytes[e.n - 1] ^= 1;
    gate_message m = from_client("plain/x", &forged);
    m.client_id = "bad";
    m.username = "u";
    m.address = "10.0.0.1";
    m.monotonic_us = START;
    m.stored = true;
    m.retain = true;
    for (int i = 0; i < 100; i++) {
        gate_tick(b.gate);
        CU_ASSERT_EQUAL(gate_at_delivery(b.gate, &m).reason, PEP_BAD_SIGNATURE);
    }
    CU_ASSERT_EQUAL(verified_of(&b, 30, "bad", "u", "10.0.0.1", START), 21);
    m.payload = e.bytes;
    CU_ASSERT_EQUAL(gate_at_delivery(b.gate, &m).reason, PEP_OK);
    tear_down(&b);
}

/* ---- and what was let in earlier ---- */

/* A retained message before its delivery: old, and seen before, and still good; but never one that was not. */
static void test_stored(void)
{
    bench b;
    set_up(&b);
    envelope e = ordinary(&b, "s/dev-1/t", NOW, 0);
    gate_message m = from_client("s/dev-1/t", &e);
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_OK);
    m.stored = true;
    m.client_id = "";
    m.username = NULL;
    m.retain = true;
    m.now_us = NOW + 500000000;
    CU_ASSERT_EQUAL(gate_at_access(b.gate, &m).action, GATE_PASS);
    CU_ASSERT_EQUAL(gate_at_access(b.gate, &m).action, GATE_PASS);
    CU_ASSERT_EQUAL(gate_counters_of(b.gate)->accepted, 1);
    CU_ASSERT_EQUAL(verifications(&b), 2); /* once as it came, once for all deliveries */
    e.bytes[e.n - 1] ^= 1;
    CU_ASSERT_EQUAL(gate_at_access(b.gate, &m).reason, PEP_BAD_SIGNATURE);
    CU_ASSERT_EQUAL(gate_at_access(b.gate, &m).reason, PEP_BAD_SIGNATURE);
    CU_ASSERT_EQUAL(verifications(&b), 3); /* forged ones are remembered, too */
    m.payload = (const uint8_t *)"21.5";
    m.payload_n = 4;
    CU_ASSERT_EQUAL(gate_at_access(b.gate, &m).reason, PEP_PLAIN_PAYLOAD);
    CU_ASSERT_EQUAL(gate_counters_of(b.gate)->withheld, 3);
    CU_ASSERT_EQUAL(gate_counters_of(b.gate)->refused[PEP_PLAIN_PAYLOAD], 0);
    m.topic = "$PEP/keys/x";
    CU_ASSERT_EQUAL(gate_at_access(b.gate, &m).action, GATE_PASS);
    tear_down(&b);
}

/* It is looked at as closely whatever else is said of it; but for its age, if the clock was put back meanwhile. */
static void test_stored_at_qos_0(void)
{
    bench b;
    set_up(&b);
    envelope e = ordinary(&b, "s/dev-1/t", NOW, 0);
    gate_message m = from_client("s/dev-1/t", &e);
    m.retain = true;
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_OK);
    m.stored = true;
    m.now_us = NOW - DAY;
    CU_ASSERT_EQUAL(gate_at_delivery(b.gate, &m).reason, PEP_OK);
    CU_ASSERT_EQUAL(verifications(&b), 1); /* as it came */
    m.retain = false;
    e.bytes[e.n - 1] ^= 1;
    gate_tick(b.gate);
    CU_ASSERT_EQUAL(gate_at_delivery(b.gate, &m).reason, PEP_BAD_SIGNATURE);
    tear_down(&b);
}

/* Between a message's deliveries to many subscribers it is judged once. */
static void test_deliveries(void)
{
    bench b;
    set_up(&b);
    envelope e = ordinary(&b, "s/dev-1/t", NOW, 0);
    gate_message m = from_client("s/dev-1/t", &e);
    m.qos = 2;
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_OK);
    m.stored = true;
    CU_ASSERT_FALSE(gate_at_delivery(b.gate, &m).news); /* it has just come in */
    gate_tick(b.gate);
    CU_ASSERT_TRUE(gate_at_delivery(b.gate, &m).news);
    CU_ASSERT_FALSE(gate_at_delivery(b.gate, &m).news);
    CU_ASSERT_EQUAL(verifications(&b), 1); /* as it came */
    e.bytes[e.n - 1] ^= 1;                 /* other bytes at the same address, after a tick */
    gate_tick(b.gate);
    CU_ASSERT_EQUAL(gate_at_delivery(b.gate, &m).reason, PEP_BAD_SIGNATURE);
    m.payload_n = 0; /* what a clear was turned into */
    CU_ASSERT_EQUAL(gate_at_delivery(b.gate, &m).action, GATE_PASS);
    tear_down(&b);
}

/* A message that has just come in is delivered on its verdict; a refused one, were it delivered, is not. */
static void test_live_deliveries(void)
{
    bench b;
    set_up(&b);
    envelope e = ordinary(&b, "s/dev-1/t", NOW, 0);
    gate_message m = from_client("s/dev-1/t", &e);
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_OK);
    gate_message delivered = m;
    delivered.stored = true;
    CU_ASSERT_EQUAL(gate_at_delivery(b.gate, &delivered).action, GATE_PASS);
    CU_ASSERT_EQUAL(verifications(&b), 1);
    gate_tick(b.gate); /* queued, at QoS 0: nothing was remembered of it */
    CU_ASSERT_EQUAL(gate_at_delivery(b.gate, &delivered).action, GATE_PASS);
    gate_tick(b.gate);
    CU_ASSERT_EQUAL(gate_at_delivery(b.gate, &delivered).action, GATE_PASS);
    CU_ASSERT_EQUAL(verifications(&b), 2);
    m.bridge = true;
    m.client = "bridge";
    CU_ASSERT_EQUAL(gate_at_message(b.gate, &m).reason, PEP_REPLAYED);
    e.bytes[e.n - 1] ^= 1;
    CU_ASSERT_EQUAL(gate_at_delivery(b.gate, &delivered).reason, PEP_BAD_SIGNATURE);
    tear_down(&b);
}

/* A broker copies a will before it delivers it: it is known by its bytes then. */
static void test_will_is_verified_once(void)
{
    bench b;
    set_up(&b);
    envelope e = ordinary(&b, "w/dev-1", NOW, PEP_FLAG_WILL), copy = e;
    gate_message m = from_client("w/dev-1", &e);
    CU_ASSERT_EQUAL(gate_at_access(b.gate, &m).reason, PEP_OK);
    m.payload = copy.bytes;
    m.stored = true;
    CU_ASSERT_EQUAL(gate_at_delivery(b.gate, &m).action, GATE_PASS);
    CU_ASSERT_EQUAL(verifications(&b), 1);
    tear_down(&b);
}

static void test_retained_is_verified_once(void)
{
    bench b;
    set_up(&b);
    envelope e = ordinary(&b, "s/dev-1/t", NOW, 0);
    gate_message m = from_client("s/dev-1/t", &e);
    m.retain = true;
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_OK);
    gate_tick(b.gate);
    m.stored = true;
    CU_ASSERT_EQUAL(gate_at_delivery(b.gate, &m).action, GATE_PASS);
    CU_ASSERT_EQUAL(verifications(&b), 1);
    tear_down(&b);
}

/* What a rule only observes is not judged at deliveries: to verify forged ones each time would be a stranger's gift. */
static void test_observed_deliveries(void)
{
    bench b;
    set_up(&b);
    envelope e = ordinary(&b, "seen/x", NOW, 0);
    e.bytes[e.n - 1] ^= 1;
    gate_message m = from_client("seen/x", &e);
    m.stored = true;
    m.retain = true;
    gate_verdict v = gate_at_delivery(b.gate, &m);
    CU_ASSERT_TRUE(v.action == GATE_PASS && v.reason == PEP_OK);
    CU_ASSERT_EQUAL(verifications(&b), 0);
    gate_error error;
    gate *audit = open_in(&b, NULL, &error);
    CU_ASSERT_PTR_NOT_NULL_FATAL(audit);
    v = gate_at_delivery(audit, &m);
    CU_ASSERT_TRUE(v.action == GATE_PASS && v.reason == PEP_BAD_SIGNATURE);
    gate_close(audit);
    tear_down(&b);
}

static void numbered_digest(uint8_t digest[PEP_REPLAY_DIGEST_BYTES], uint64_t number)
{
    memset(digest, 0, PEP_REPLAY_DIGEST_BYTES);
    memcpy(digest, &number, sizeof number);
}

/* Within what there is room for most are known again, and none is taken for another; beyond, the newest always is. */
static void test_verified_memory(void)
{
    enum { MANY = 100000 };
    static const uint8_t memory_key[VERIFIED_KEY_BYTES] = "sixteen of them";
    verified *v = verified_new(memory_key);
    CU_ASSERT_PTR_NOT_NULL_FATAL(v);
    size_t known = 0;
    uint8_t digest[PEP_REPLAY_DIGEST_BYTES];
    for (uint64_t i = 0; i < MANY; i++) {
        numbered_digest(digest, i);
        CU_ASSERT_EQUAL(verified_find(v, digest), VERIFIED_UNKNOWN);
        verified_remember(v, digest, i % 2 == 0 ? VERIFIED_GOOD : VERIFIED_BAD);
    }
    for (uint64_t i = 0; i < MANY; i++) {
        numbered_digest(digest, i);
        verified_state state = verified_find(v, digest);
        known += state != VERIFIED_UNKNOWN;
        CU_ASSERT_TRUE(state == VERIFIED_UNKNOWN || state == (i % 2 == 0 ? VERIFIED_GOOD : VERIFIED_BAD));
    }
    CU_ASSERT_TRUE(known > MANY * 9 / 10);
    for (uint64_t i = MANY; i < 4ULL * MANY; i++) {
        numbered_digest(digest, i);
        verified_remember(v, digest, VERIFIED_GOOD);
        CU_ASSERT_EQUAL(verified_find(v, digest), VERIFIED_GOOD);
    }
    verified_free(v);
}

/* What looks the same and lies elsewhere is another message; and a bridge may put one where the last one lay. */
static void test_deliveries_of_one(void)
{
    bench b;
    set_up(&b);
    envelope e = ordinary(&b, "s/dev-1/t", NOW, 0);
    envelope copy = e;
    const char topic[] = "s/dev-1/t";
    gate_message m = from_client("s/dev-1/t", &e);
    m.stored = true;
    m.qos = 2;
    CU_ASSERT_TRUE(gate_at_delivery(b.gate, &m).news);
    CU_ASSERT_FALSE(gate_at_delivery(b.gate, &m).news);
    m.topic = topic;
    CU_ASSERT_TRUE(gate_at_delivery(b.gate, &m).news);
    m.payload = copy.bytes;
    CU_ASSERT_TRUE(gate_at_delivery(b.gate, &m).news);
    m.payload_n--;
    CU_ASSERT_EQUAL(gate_at_delivery(b.gate, &m).reason, PEP_MALFORMED);
    m.payload_n++;
    CU_ASSERT_TRUE(gate_at_delivery(b.gate, &m).news);
    gate_message bridged = from_client("elsewhere", &e);
    bridged.bridge = true;
    CU_ASSERT_EQUAL(gate_at_message(b.gate, &bridged).reason, PEP_OK);
    CU_ASSERT_TRUE(gate_at_delivery(b.gate, &m).news);
    tear_down(&b);
}

static void test_bridge_tricks(void)
{
    static const char *const topics[] = {"$share/g/s/dev-1/t", "$share", "$SYS/broker/pep/messages/refused",
                                         "$PEP/keys/x"};
    bench b;
    set_up(&b);
    envelope e = ordinary(&b, "s/dev-1/t", NOW, 0);
    for (size_t i = 0; i < sizeof topics / sizeof topics[0]; i++) {
        gate_message m = from_client(topics[i], &e);
        m.bridge = true;
        CU_ASSERT_EQUAL(gate_at_message(b.gate, &m).reason, PEP_RESERVED_TOPIC);
    }
    gate_message m = from_client("$SYS/broker/connection/x/state", &e);
    m.bridge = true;
    CU_ASSERT_EQUAL(gate_at_message(b.gate, &m).reason, PEP_OK);
    CU_ASSERT_EQUAL(gate_counters_of(b.gate)->access_skipped, 0);
    tear_down(&b);
}

/* Another plugin that answers before us hides access checks, and wills with them: it shows at the first publish. */
static void test_access_skipped(void)
{
    bench b;
    set_up(&b);
    envelope e = ordinary(&b, "s/dev-1/t", NOW, 0);
    gate_message m = from_client("s/dev-1/t", &e);
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_OK);
    CU_ASSERT_FALSE(gate_access_was_skipped(b.gate));
    CU_ASSERT_EQUAL(gate_at_message(b.gate, &m).reason, PEP_REPLAYED);
    CU_ASSERT_TRUE(gate_access_was_skipped(b.gate));
    CU_ASSERT_FALSE(gate_access_was_skipped(b.gate)); /* told once */
    CU_ASSERT_EQUAL(gate_counters_of(b.gate)->access_skipped, 1);
    tear_down(&b);
}

static void test_observe(void)
{
    bench b;
    set_up(&b);
    gate_message m = {
        .client = "c", .client_id = "c", .topic = "seen/x", .payload = (const uint8_t *)"x", .payload_n = 1};
    gate_verdict v = gate_at_access(b.gate, &m);
    CU_ASSERT_TRUE(v.action == GATE_PASS && v.reason == PEP_PLAIN_PAYLOAD && v.news);
    v = gate_at_message(b.gate, &m);
    CU_ASSERT_TRUE(v.action == GATE_PASS && v.reason == PEP_PLAIN_PAYLOAD && !v.news);
    const gate_counters *c = gate_counters_of(b.gate);
    CU_ASSERT_TRUE(c->observed[PEP_PLAIN_PAYLOAD] == 1 && c->refused[PEP_PLAIN_PAYLOAD] == 0 && c->accepted == 0);
    m.stored = true;
    m.retain = true;
    CU_ASSERT_FALSE(gate_at_delivery(b.gate, &m).news); /* it was observed as it came */
    CU_ASSERT_EQUAL(c->observed[PEP_PLAIN_PAYLOAD], 1);
    tear_down(&b);
}

/* One message, one reason, though it is asked about at both hooks. */
static void test_observed_will(void)
{
    bench b;
    set_up(&b);
    pep_message stranger = plain_message(&b, "seen/x", NOW);
    stranger.from = &b.stranger;
    stranger.flags |= PEP_FLAG_WILL;
    envelope e = sealed(&stranger);
    gate_message m = from_client("seen/x", &e);
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_UNKNOWN_SIGNER);
    const gate_counters *c = gate_counters_of(b.gate);
    CU_ASSERT_TRUE(c->observed[PEP_UNKNOWN_SIGNER] == 1 && c->observed[PEP_MISPLACED_FLAG] == 0);
    tear_down(&b);
}

static void test_dollar_will(void)
{
    bench b;
    set_up(&b);
    pep_message m = plain_message(&b, "odd", NOW);
    m.flags |= PEP_FLAG_WILL;
    envelope e = sealed(&m); /* the sealing API refuses `$` topics: move the signed topic under the gate's prefix */
    write_text(b.policy,
               "topics = ( { filter = \"$x/#\"; signers = [ \"*\" ]; prefix = \"$x/\"; payload = \"signed\"; } );");
    reload(&b);
    gate_message g = from_client("$x/odd", &e);
    CU_ASSERT_EQUAL(gate_at_access(b.gate, &g).reason, PEP_MISPLACED_FLAG);
    tear_down(&b);
}

static void test_reload(void)
{
    bench b;
    set_up(&b);
    gate_error error = {{0}};
    CU_ASSERT_EQUAL(gate_reload(b.gate, &error, read_policy(&b), false), GATE_UNCHANGED);
    CU_ASSERT_EQUAL(gate_counters_of(b.gate)->policies_loaded, 1);
    envelope e = ordinary(&b, "s/dev-1/t", NOW, 0);
    gate_message m = from_client("s/dev-1/t", &e);
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_OK);
    CU_ASSERT_EQUAL(gate_reload(b.gate, &error, read_policy(&b), true), GATE_RELOADED);
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_REPLAYED); /* the replay state outlives it */
    write_text(b.policy, "topics = ( { filter = \"a\"; signers = [ \"*\" ]; } );");
    CU_ASSERT_EQUAL(gate_reload(b.gate, &error, read_policy(&b), false), GATE_RELOADED);
    CU_ASSERT_EQUAL(policy_rule_count(gate_policy(b.gate)), 1);
    CU_ASSERT_EQUAL(gate_counters_of(b.gate)->policies_loaded, 3);
    CU_ASSERT_EQUAL(gate_counters_of(b.gate)->policies_failed, 0);
    gate_reload_failed(b.gate);
    CU_ASSERT_EQUAL(gate_counters_of(b.gate)->policies_failed, 1);
    tear_down(&b);
}

/* A verdict made under the old rules is not used under the new ones. */
static void test_reload_between_hooks(void)
{
    bench b;
    set_up(&b);
    envelope e = ordinary(&b, "s/dev-1/t", NOW, 0);
    gate_message m = from_client("s/dev-1/t", &e);
    CU_ASSERT_EQUAL(gate_at_access(b.gate, &m).reason, PEP_OK);
    write_text(b.policy, "topics = ( { filter = \"s/#\"; signers = [ \"nobody\" ]; } );");
    reload(&b);
    CU_ASSERT_EQUAL(gate_at_message(b.gate, &m).reason, PEP_SIGNER_NOT_ALLOWED);
    tear_down(&b);
}

/* Who nobody vouches for is named by its kid, who is known by its id. */
static void test_signer_names(void)
{
    bench b;
    char expected[64] = "kid:";
    set_up(&b);
    pep_message stranger = plain_message(&b, "plain/x", NOW);
    stranger.from = &b.stranger;
    envelope e = sealed(&stranger);
    gate_message m = from_client("plain/x", &e);
    gate_verdict v = gate_at_access(b.gate, &m);
    for (size_t i = 0; i < PEP_KID_BYTES; i++)
        snprintf(expected + 4 + 2 * i, 3, "%02x", b.stranger.sign_kid[i]);
    CU_ASSERT_EQUAL(v.reason, PEP_UNKNOWN_SIGNER);
    CU_ASSERT_STRING_EQUAL(v.signer, expected);
    CU_ASSERT_EQUAL(v.seq, NOW);
    e = ordinary(&b, "s/other/t", NOW, 0);
    m = from_client("s/other/t", &e);
    m.username = "dev-1";
    v = gate_at_access(b.gate, &m);
    CU_ASSERT_EQUAL(v.reason, PEP_SIGNER_NOT_ALLOWED);
    CU_ASSERT_STRING_EQUAL(v.signer, "dev-1");
    m.payload_n = 0;
    CU_ASSERT_PTR_NULL(gate_at_access(b.gate, &m).signer);
    tear_down(&b);
}

static void test_state_survives(void)
{
    bench b;
    set_up(&b);
    envelope e = ordinary(&b, "s/dev-1/t", NOW, 0);
    gate_message m = from_client("s/dev-1/t", &e);
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_OK);
    CU_ASSERT_FALSE(gate_clock_went_back(b.gate, NOW));
    CU_ASSERT_TRUE(gate_clock_went_back(b.gate, NOW - DAY));
    CU_ASSERT_FALSE(gate_clock_went_back(b.gate, NOW - DAY)); /* warns once */
    CU_ASSERT_FALSE(gate_clock_went_back(b.gate, NOW));
    CU_ASSERT_TRUE(gate_clock_went_back(b.gate, NOW - DAY));       /* each time */
    CU_ASSERT_FALSE(gate_clock_went_back(b.gate, NOW - 60000000)); /* as far as clocks may differ */
    pep_message counting = plain_message(&b, "plain/x", PEP_SEQ_MAX);
    counting.flags |= PEP_FLAG_COUNTER; /* says nothing of the time */
    envelope counted = sealed(&counting);
    gate_message of_counter = from_client("plain/x", &counted);
    CU_ASSERT_EQUAL(publish(&b, &of_counter), PEP_OK);
    CU_ASSERT_FALSE(gate_clock_went_back(b.gate, NOW));
    gate_close(b.gate);
    b.gate = open_gate(&b);
    CU_ASSERT_PTR_NOT_NULL_FATAL(b.gate);
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_REPLAYED);
    CU_ASSERT_PTR_NULL(open_gate(&b)); /* two gates never share a state */
    struct stat st;
    CU_ASSERT_EQUAL(stat(b.state, &st), 0);
    CU_ASSERT_EQUAL(st.st_mode & 0777, 0700);
    tear_down(&b);
}

static void test_refused_starts(void)
{
    bench b;
    set_up(&b);
    gate_error error;
    const char *const states[] = {"/nonexistent/deep/state", b.policy};
    gate_close(b.gate);
    for (size_t i = 0; i < sizeof states / sizeof states[0]; i++) {
        memset(&error, 0, sizeof error);
        CU_ASSERT_PTR_NULL(open_in(&b, states[i], &error));
        CU_ASSERT_TRUE(strlen(error.text) > 20 && strchr(error.text, '\n') == NULL);
    }
    CU_ASSERT_EQUAL(chmod(b.state, 0755), 0);
    b.gate = open_gate(&b);
    CU_ASSERT_PTR_NULL(b.gate);
    CU_ASSERT_EQUAL(chmod(b.state, 0700), 0);
    tear_down(&b);
}

/* ---- keys that have ended ---- */

/* Replaces what the signers know of the known device's key. */
static void end_key(bench *b, signer_state state, uint64_t ended_s, uint64_t cutoff, bool has_key)
{
    signer_spec spec = {.id = "dev-1",
                        .has_key = has_key,
                        .state = state,
                        .not_after_s = NOW / 1000000 + 1000,
                        .ended_s = ended_s,
                        .cutoff = cutoff,
                        .head = true};
    memcpy(spec.kid, b->known.sign_kid, PEP_KID_BYTES);
    if (has_key)
        memcpy(spec.sign_public, b->known.sign_public, PEP_SIGN_PUBLIC_BYTES);
    CU_ASSERT_TRUE_FATAL(signers_put(b->signers, &spec));
    gate_tick(b->gate);
}

static pep_reason try_live(bench *b, uint64_t seq)
{
    envelope e = ordinary(b, "s/dev-1/t", seq, 0);
    gate_message m = from_client("s/dev-1/t", &e);
    return publish(b, &m);
}

static pep_reason try_stored(bench *b, uint64_t seq)
{
    envelope e = ordinary(b, "s/dev-1/t", seq, 0);
    gate_message m = from_client("s/dev-1/t", &e);
    m.stored = true;
    m.retain = true;
    gate_tick(b->gate);
    return gate_at_delivery(b->gate, &m).reason;
}

/* For a moment what is on its way is let through; what was retained up to the cutoff stays for good. */
static void test_rotated_key(void)
{
    const uint64_t cutoff = NOW + 5;
    bench b;
    set_up(&b);
    end_key(&b, SIGNER_ROTATED, NOW / 1000000 - PEP_GRACE_S, cutoff, true);
    CU_ASSERT_EQUAL(try_live(&b, cutoff), PEP_OK);
    CU_ASSERT_EQUAL(try_live(&b, cutoff + 1), PEP_ROTATED_SIGNER);
    end_key(&b, SIGNER_ROTATED, NOW / 1000000 - PEP_GRACE_S - 1, cutoff, true);
    CU_ASSERT_EQUAL(try_live(&b, cutoff - 1), PEP_ROTATED_SIGNER);
    CU_ASSERT_EQUAL(try_stored(&b, cutoff), PEP_OK);
    CU_ASSERT_EQUAL(try_stored(&b, cutoff + 1), PEP_ROTATED_SIGNER);
    end_key(&b, SIGNER_ROTATED, NOW / 1000000, cutoff, false); /* nobody can verify it */
    CU_ASSERT_EQUAL(try_live(&b, cutoff - 2), PEP_ROTATED_SIGNER);
    CU_ASSERT_EQUAL(try_stored(&b, cutoff - 2), PEP_ROTATED_SIGNER);
    tear_down(&b);
}

/* At its very next message, however fresh; a will as well. */
static void test_revoked_key(void)
{
    bench b;
    set_up(&b);
    CU_ASSERT_EQUAL(try_live(&b, NOW), PEP_OK);
    end_key(&b, SIGNER_REVOKED, NOW / 1000000, NOW, true);
    CU_ASSERT_EQUAL(try_live(&b, NOW + 1), PEP_REVOKED_SIGNER);
    CU_ASSERT_EQUAL(try_live(&b, NOW - 1), PEP_REVOKED_SIGNER); /* no grace */
    envelope will = ordinary(&b, "w/dev-1", NOW - 1, PEP_FLAG_WILL);
    gate_message m = from_client("w/dev-1", &will);
    CU_ASSERT_EQUAL(gate_at_access(b.gate, &m).reason, PEP_REVOKED_SIGNER);
    CU_ASSERT_EQUAL(try_stored(&b, NOW), PEP_OK);
    CU_ASSERT_EQUAL(try_stored(&b, NOW + 1), PEP_REVOKED_SIGNER);
    end_key(&b, SIGNER_CURRENT, 0, 0, true);
    CU_ASSERT_EQUAL(try_live(&b, NOW + 2), PEP_OK);
    tear_down(&b);
}

static void test_certified_groups(void)
{
    bench b;
    set_up(&b);
    write_text(b.policy, "bind = \"username\"; admins = [ \"@chiefs\" ];\n"
                         "authority = [ \"AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA\" ];\n"
                         "topics = ( { filter = \"g/#\"; signers = [ \"@fleet\" ]; } );");
    reload(&b);
    envelope e = ordinary(&b, "g/x", NOW, 0);
    gate_message m = from_client("g/x", &e);
    m.username = "dev-1";
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_SIGNER_NOT_ALLOWED);
    CU_ASSERT_FALSE(gate_is_auditor(b.gate, &m));
    signer_spec spec = {
        .id = "dev-1", .has_key = true, .not_after_s = NOW / 1000000 + 1000, .groups = "chiefs\0fleet\0", .head = true};
    memcpy(spec.kid, b.known.sign_kid, PEP_KID_BYTES);
    memcpy(spec.sign_public, b.known.sign_public, PEP_SIGN_PUBLIC_BYTES);
    CU_ASSERT_TRUE_FATAL(signers_put(b.signers, &spec));
    gate_tick(b.gate);
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_OK);
    CU_ASSERT_TRUE(gate_is_auditor(b.gate, &m));
    tear_down(&b);
}

static unsigned uses;

static void count_use(void *ctx, const uint8_t kid[PEP_KID_BYTES])
{
    uses += memcmp(((bench *)ctx)->known.sign_kid, kid, PEP_KID_BYTES) == 0 ? 1 : 100;
}

/* Told of a key's first good message, and of no other. */
static void test_first_use(void)
{
    bench b;
    gate_error error;
    set_up(&b);
    gate_close(b.gate);
    uses = 0;
    const gate_config config = {
        .policy = read_policy(&b), .signers = b.signers, .state_dir = b.state, .first_use = count_use, .ctx = &b};
    b.gate = gate_open(&error, &config);
    CU_ASSERT_PTR_NOT_NULL_FATAL(b.gate);
    envelope bad = ordinary(&b, "s/dev-1/t", NOW, 0);
    bad.bytes[bad.n - 1] ^= 1;
    gate_message m = from_client("s/dev-1/t", &bad);
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_BAD_SIGNATURE);
    CU_ASSERT_EQUAL(uses, 0);
    CU_ASSERT_EQUAL(try_live(&b, NOW + 1), PEP_OK);
    CU_ASSERT_EQUAL(try_live(&b, NOW + 2), PEP_OK);
    CU_ASSERT_EQUAL(uses, 1);
    tear_down(&b);
}

/* Nobody is let in who could not be remembered, and those that are remembered go on. */
static void test_no_room(void)
{
    bench b;
    size_t slot;
    uint8_t kid[PEP_KID_BYTES] = {1};
    pep_error why;
    set_up(&b);
    gate_close(b.gate);
    pep_replay *replay;
    CU_ASSERT_EQUAL_FATAL(pep_replay_open(&replay, &why, scratch_path("state/replay")), PEP_OK);
    struct stat st;
    CU_ASSERT_EQUAL(stat(scratch_path("state/replay"), &st), 0);
    for (size_t i = 0; i < (size_t)st.st_size / PEP_REPLAY_SLOT_BYTES - 1; i++, kid[1]++) /* behind its head */
        CU_ASSERT_EQUAL(pep_replay_slot(replay, &slot, kid), PEP_OK);
    pep_replay_close(replay);
    b.gate = open_gate(&b);
    CU_ASSERT_PTR_NOT_NULL_FATAL(b.gate);
    limit_files(true, 4096);
    CU_ASSERT_EQUAL(try_live(&b, NOW), PEP_NO_ROOM);
    CU_ASSERT_EQUAL(gate_counters_of(b.gate)->refused[PEP_NO_ROOM], 1);
    limit_files(false, 0);
    CU_ASSERT_EQUAL(try_live(&b, NOW), PEP_OK);
    tear_down(&b);
}

/* Who has no place in the replay state yet is not judged by what stands in another's. */
static void test_newcomer(void)
{
    bench b;
    set_up(&b);
    signer_spec spec = {.id = "dev-2", .has_key = true, .not_after_s = NOW / 1000000 + 1000, .head = true};
    memcpy(spec.kid, b.stranger.sign_kid, PEP_KID_BYTES);
    memcpy(spec.sign_public, b.stranger.sign_public, PEP_SIGN_PUBLIC_BYTES);
    CU_ASSERT_TRUE_FATAL(signers_put(b.signers, &spec));
    CU_ASSERT_EQUAL(try_live(&b, NOW), PEP_OK);
    pep_message m = plain_message(&b, "plain/x", NOW);
    m.from = &b.stranger;
    envelope e = sealed(&m);
    gate_message g = from_client("plain/x", &e);
    g.username = "dev-2";
    CU_ASSERT_EQUAL(publish(&b, &g), PEP_OK);
    CU_ASSERT_EQUAL(publish(&b, &g), PEP_REPLAYED);
    tear_down(&b);
}

/* Commands share the budget of what their sender publishes. */
static void test_commands_and_budget(void)
{
    bench b;
    open_for_abuse(&b);
    gate_message m = {.client_id = "bad", .username = "u", .address = "10.0.0.1", .topic = PEP_CONTROL_TOPIC};
    m.monotonic_us = START;
    gate_verdict verdict;
    CU_ASSERT_TRUE(gate_allows_command(b.gate, &verdict, &m));
    gate_note_command(b.gate, &m, false);
    unsigned allowed = 0;
    for (unsigned i = 0; i < 100; i++) {
        bool may = gate_allows_command(b.gate, &verdict, &m);
        allowed += may;
        if (may)
            gate_note_command(b.gate, &m, false);
    }
    CU_ASSERT_EQUAL(allowed, 20);
    CU_ASSERT_TRUE(verdict.action == GATE_REFUSE && verdict.reason == PEP_RATE_LIMITED && verdict.news);
    CU_ASSERT_EQUAL(kicks(&b, "bad"), 0); /* it gets an answer instead */
    CU_ASSERT_EQUAL(verified_of(&b, 10, "bad", "u", "10.0.0.1", START), 0);
    CU_ASSERT_EQUAL(kicks(&b, "bad"), 1);
    m.client_id = "good";
    m.address = "10.0.0.2";
    gate_note_command(b.gate, &m, true); /* standing, for what it publishes as well */
    for (unsigned i = 0; i < 10; i++)
        gate_note_command(
            b.gate, &(gate_message){.client_id = "evil", .username = "u", .address = "10.0.0.2", .monotonic_us = START},
            false);
    CU_ASSERT_TRUE(gate_allows_command(b.gate, &verdict, &m));
    tear_down(&b);
}

static void test_control_topic(void)
{
    bench b;
    set_up(&b);
    write_text(b.policy, "topics = ( { filter = \"$CONTROL/#\"; signers = [ \"dev-1\" ]; } );");
    reload(&b);
    envelope e = {.n = 2, .bytes = "{}"};
    gate_message m = from_client(PEP_CONTROL_TOPIC, &e);
    gate_verdict v = gate_at_access(b.gate, &m);
    CU_ASSERT_TRUE(v.action == GATE_PASS && v.reason == PEP_OK && v.rule == NULL);
    m = from_client(PEP_ANSWER_TOPIC, &e);
    CU_ASSERT_EQUAL(gate_at_access(b.gate, &m).reason, PEP_RESERVED_TOPIC);
    tear_down(&b);
}

/* ---- what is recorded ---- */

static struct {
    unsigned count;
    bool full;
    gate_record last;
    char topic[64], signer[PEP_ID_MAX + 1];
    uint8_t kid[PEP_KID_BYTES];
    uint8_t facts[PEP_FACTS_MAX];
} recorded;

static void take_record(void *ctx, const gate_record *r)
{
    (void)ctx;
    recorded.count++;
    recorded.last = *r;
    snprintf(recorded.topic, sizeof recorded.topic, "%s", r->topic);
    snprintf(recorded.signer, sizeof recorded.signer, "%s", r->signer);
    memcpy(recorded.kid, r->kid, PEP_KID_BYTES);
    memcpy(recorded.facts, r->facts.p, r->facts.n);
}

static bool has_room(void *ctx)
{
    (void)ctx;
    return !recorded.full;
}

static const char recording_rules[] =
    "topics = (\n"
    "  { filter = \"r/#\"; signers = [ \"*\" ]; payload = \"signed\"; record = \"allow\"; keep = \"2s\"; },\n"
    "  { filter = \"must/#\"; signers = [ \"*\" ]; payload = \"signed\"; record = \"allow\"; record_overflow = "
    "\"refuse\"; },\n"
    "  { filter = \"seen/#\"; signers = [ \"dev-2\" ]; mode = \"observe\"; record = \"allow\"; }\n"
    ");\n";

static void set_up_recording(bench *b)
{
    gate_error error;
    set_up(b);
    gate_close(b->gate);
    memset(&recorded, 0, sizeof recorded);
    write_text(b->policy, recording_rules);
    const gate_config config = {.policy = read_policy(b),
                                .signers = b->signers,
                                .state_dir = b->state,
                                .record = take_record,
                                .can_record = has_room};
    b->gate = gate_open(&error, &config);
    CU_ASSERT_PTR_NOT_NULL_FATAL(b->gate);
}

/* With a fact, unless `facts` is false. */
static envelope recordable(const bench *b, const char *topic, uint64_t seq, unsigned flags, bool facts)
{
    static uint8_t encoded[PEP_FACTS_MAX];
    const pep_fact fact = {.key = {(const uint8_t *)"t", 1}, .type = PEP_FACT_INT, .integer = 21};
    pep_message m = plain_message(b, topic, seq);
    m.flags |= flags;
    m.facts.p = encoded;
    CU_ASSERT_EQUAL_FATAL(pep_facts_encode(encoded, &m.facts.n, &fact, 1), PEP_OK);
    if (!facts)
        m.facts.n = 0;
    return sealed(&m);
}

static void expect_last(const bench *b, const char *topic, const envelope *e, uint64_t seq)
{
    pep_fact fact;
    size_t at = 0;
    CU_ASSERT_STRING_EQUAL(recorded.topic, topic);
    CU_ASSERT_EQUAL(recorded.last.topic_n, strlen(topic));
    CU_ASSERT_STRING_EQUAL(recorded.signer, "dev-1");
    CU_ASSERT_EQUAL(memcmp(recorded.kid, b->known.sign_kid, PEP_KID_BYTES), 0);
    CU_ASSERT_EQUAL(recorded.last.seq, seq);
    CU_ASSERT_EQUAL(recorded.last.size, e->n);
    CU_ASSERT_EQUAL(recorded.last.payload_n, 6); /* the empty meta, and "hello" */
    CU_ASSERT_EQUAL(recorded.last.time_us, NOW);
    CU_ASSERT_TRUE(pep_facts_next(&fact, &at, (pep_view){recorded.facts, recorded.last.facts.n}));
    CU_ASSERT_EQUAL(fact.integer, 21);
}

/* Once a message, at its delivery, and only where it asks and was accepted. */
static void test_recorded(void)
{
    bench b;
    set_up_recording(&b);
    envelope e = recordable(&b, "r/a", NOW, 0, true);
    gate_message m = from_client("r/a", &e);
    m.qos = 1;
    m.retain = true;
    gate_at_access(b.gate, &m);
    CU_ASSERT_EQUAL(recorded.count, 0); /* an ACL may still deny it */
    CU_ASSERT_EQUAL(gate_at_message(b.gate, &m).reason, PEP_OK);
    CU_ASSERT_EQUAL(recorded.count, 1);
    expect_last(&b, "r/a", &e, NOW);
    CU_ASSERT_EQUAL(recorded.last.qos, 1);
    CU_ASSERT_TRUE(recorded.last.retain);
    CU_ASSERT_EQUAL(recorded.last.keep_us, 2000000);
    CU_ASSERT_EQUAL(gate_at_delivery(b.gate, &m).reason, PEP_OK);
    gate_tick(b.gate);
    CU_ASSERT_EQUAL(recorded.count, 1);
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_OK); /* redelivered: it is recorded already */
    CU_ASSERT_EQUAL(gate_counters_of(b.gate)->redelivered, 1);
    CU_ASSERT_EQUAL(recorded.count, 1);
    m.client_id = "another";
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_REPLAYED);
    e = recordable(&b, "r/a", NOW + 1, 0, false);
    m = from_client("r/a", &e);
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_OK);
    CU_ASSERT_EQUAL(recorded.count, 1);
    tear_down(&b);
}

/* By a bridge alone at delivery; refused, or let pass by observing alone: not at all. */
static void test_recorded_at_other_doors(void)
{
    bench b;
    set_up_recording(&b);
    envelope e = recordable(&b, "r/b", NOW, 0, true);
    gate_message m = from_client("r/b", &e);
    m.bridge = true;
    CU_ASSERT_EQUAL(gate_at_message(b.gate, &m).reason, PEP_OK);
    CU_ASSERT_EQUAL(recorded.count, 1);
    expect_last(&b, "r/b", &e, NOW);
    e = recordable(&b, "seen/b", NOW + 1, 0, true);
    m = from_client("seen/b", &e);
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_SIGNER_NOT_ALLOWED);
    e = recordable(&b, "r/b", NOW + 2, 0, true);
    e.bytes[e.n - 1] ^= 1;
    m = from_client("r/b", &e);
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_BAD_SIGNATURE);
    CU_ASSERT_EQUAL(recorded.count, 1);
    tear_down(&b);
}

/* A will is known by no delivery following; its payload may be gone by then. As a publish it is refused. */
static void test_recorded_wills(void)
{
    bench b;
    set_up_recording(&b);
    envelope e = recordable(&b, "r/w", NOW, PEP_FLAG_WILL, true);
    envelope sent = e;
    char topic[] = "r/w";
    gate_message m = from_client(topic, &sent);
    CU_ASSERT_EQUAL(gate_at_access(b.gate, &m).reason, PEP_OK);
    memset(&sent, 0xee, sizeof sent);
    memset(topic, 'x', sizeof topic - 1);
    CU_ASSERT_EQUAL(recorded.count, 0);
    gate_tick(b.gate);
    CU_ASSERT_EQUAL(recorded.count, 1);
    expect_last(&b, "r/w", &e, NOW);
    gate_tick(b.gate);
    e = recordable(&b, "r/w", NOW + 1, PEP_FLAG_WILL, true);
    m = from_client("r/w", &e);
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_MISPLACED_FLAG);
    gate_tick(b.gate);
    CU_ASSERT_EQUAL(recorded.count, 1);
    tear_down(&b);
}

/* Where there is no room: refused only where the rule says so, and nothing of it counts as seen. */
static void test_record_overflow(void)
{
    bench b;
    set_up_recording(&b);
    recorded.full = true;
    envelope e = recordable(&b, "must/a", NOW, 0, true);
    gate_message m = from_client("must/a", &e);
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_RECORD_OVERFLOW);
    CU_ASSERT_EQUAL(verifications(&b), 0);
    recorded.full = false;
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_OK);
    CU_ASSERT_EQUAL(recorded.count, 1);
    recorded.full = true;
    m.stored = true;
    CU_ASSERT_EQUAL(gate_at_delivery(b.gate, &m).reason, PEP_OK);
    e = recordable(&b, "must/a", NOW + 1, 0, false);
    m = from_client("must/a", &e);
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_OK);
    e = recordable(&b, "r/a", NOW + 2, 0, true);
    m = from_client("r/a", &e);
    CU_ASSERT_EQUAL(publish(&b, &m), PEP_OK); /* the ledger counts what it drops */
    CU_ASSERT_EQUAL(recorded.count, 2);
    tear_down(&b);
}

static const unit_test tests[] = {
    {"what is recorded", test_recorded},
    {"what is recorded at other doors", test_recorded_at_other_doors},
    {"wills that are recorded", test_recorded_wills},
    {"no room to record", test_record_overflow},
    {"a key that was replaced", test_rotated_key},
    {"a key that was revoked", test_revoked_key},
    {"groups of a certificate", test_certified_groups},
    {"first use of a key", test_first_use},
    {"no room to remember a new signer", test_no_room},
    {"a newcomer", test_newcomer},
    {"commands and the budget", test_commands_and_budget},
    {"commands are the directory's", test_control_topic},
    {"one verification a message", test_one_verification},
    {"topics without a rule, reserved topics", test_not_protected},
    {"reasons", test_reasons},
    {"more reasons", test_more_reasons},
    {"asking to be recorded", test_record},
    {"redelivery", test_redelivery},
    {"a redelivery is the same message", test_redelivery_is_the_same},
    {"a redelivery takes no place", test_redelivery_takes_no_place},
    {"a redelivery has the same names", test_redelivery_of_names},
    {"the largest envelope", test_largest},
    {"the kept verdict", test_kept_verdict},
    {"it is kept for one message", test_kept_for_one},
    {"what is not kept", test_not_kept},
    {"bridges", test_bridge},
    {"a rule's prefix", test_prefix},
    {"the beginning of a topic", test_beginning_of_a_topic},
    {"wills", test_wills},
    {"a will flag on a publish", test_will_flag_on_publish},
    {"a will on a $ topic", test_dollar_will},
    {"a clear", test_clear},
    {"a clear by an admin", test_clear_by_an_admin},
    {"an auditor", test_auditor},
    {"without replay state", test_without_state},
    {"the budget's rate", test_budget_rate},
    {"who goes on is kicked", test_budget_kicks},
    {"the budget of a receiver", test_budget_of_a_receiver},
    {"stored messages", test_stored},
    {"stored messages of QoS 0", test_stored_at_qos_0},
    {"deliveries", test_deliveries},
    {"live deliveries", test_live_deliveries},
    {"a will is verified once", test_will_is_verified_once},
    {"what is retained is verified once", test_retained_is_verified_once},
    {"observed deliveries", test_observed_deliveries},
    {"the memory of verifications", test_verified_memory},
    {"who has gone is not kicked", test_gone_is_not_kicked},
    {"deliveries of one message", test_deliveries_of_one},
    {"what bridges may not write", test_bridge_tricks},
    {"a skipped access check", test_access_skipped},
    {"observe", test_observe},
    {"observing a will", test_observed_will},
    {"reload", test_reload},
    {"reload between the hooks", test_reload_between_hooks},
    {"names of signers", test_signer_names},
    {"state survives", test_state_survives},
    {"refused starts", test_refused_starts},
};

UNIT_MAIN("gate", tests)
