/* Envelopes as pep_seal makes them: valid in themselves, and judged by where, when and how they arrive. */
#include <string.h>

#include "tests/vectors/vector.h"

typedef struct {
    const char *name;
    const char *comment;
    const char *from;  /* NULL: sensor-1 */
    const char *to;    /* direct mode */
    const char *epoch; /* epoch mode */
    const char *topic; /* NULL: signed/t */
    uint64_t seq;      /* 0: the next */
    unsigned flags;
    const pep_fact *facts;
    size_t fact_count;
    uint64_t exp_s;
    const char *audience;
    const pep_meta *meta;
    pep_view plain; /* p == NULL: "21.5" */
    receiver_case receiver;
    gate_case gate;
} sealed_case;

#define TEXT(s)                                                                                                        \
    {                                                                                                                  \
        (const uint8_t *)(s), sizeof(s) - 1                                                                            \
    }

static const pep_fact facts_some[] = {
    {.key = TEXT("batch"), .type = PEP_FACT_TEXT, .text = TEXT("B-17")},
    {.key = TEXT("count"), .type = PEP_FACT_INT, .integer = -4},
    {.key = TEXT("ok"), .type = PEP_FACT_BOOL, .integer = 1},
};
static const pep_fact facts_extreme[] = {
    {.key = TEXT(""), .type = PEP_FACT_TEXT, .text = TEXT("")},
    {.key = TEXT("max"), .type = PEP_FACT_INT, .integer = INT64_MAX},
    {.key = TEXT("min"), .type = PEP_FACT_INT, .integer = INT64_MIN},
    {.key = TEXT("\xc3\xa4"), .type = PEP_FACT_BOOL, .integer = 0},
};

static const pep_meta meta_all = {
    .content_type = TEXT("application/json"),
    .correlation = TEXT("\x00\x01\xff"),
    .reply_topic = TEXT("answers/console"),
    .has_content_coding = true,
    .content_coding = 11060,
    .padding = {.n = 30},
};
static const pep_meta meta_format = {.has_content_format = true, .content_format = 50};
static const pep_meta meta_zeros = {
    .has_content_format = true, .content_format = 0, .has_content_coding = true, .correlation = TEXT("")};
static const pep_meta meta_empty_texts = {.content_type = TEXT(""), .reply_topic = TEXT("")};
static const pep_meta meta_padding = {.padding = {.n = 300}};

static uint8_t all_bytes[256];
static uint8_t many_facts[32];
static pep_fact facts_many[PEP_FACTS_COUNT_MAX];
static char topic_255[256];

#define OLDEST_AGED (NOW_US - 30000000)
#define BINARY                                                                                                         \
    {                                                                                                                  \
        all_bytes, sizeof all_bytes                                                                                    \
    }
#define NO_BYTES                                                                                                       \
    {                                                                                                                  \
        (const uint8_t *)"", 0                                                                                         \
    }

static const sealed_case valid[] = {
    {.name = "signed-only", .comment = "signed, not encrypted"},
    {.name = "direct", .comment = "HPKE to one recipient", .to = "console", .topic = "sealed/one"},
    {.name = "epoch", .comment = "an epoch key, for many", .epoch = "one-topic", .topic = "sealed/one"},
    {.name = "signed-only-empty", .comment = "no bytes of the application", .plain = NO_BYTES},
    {.name = "direct-empty", .comment = "content is one byte", .to = "console", .topic = "sealed/a", .plain = NO_BYTES},
    {.name = "epoch-empty", .comment = "content is one byte", .epoch = "all", .topic = "sealed/a", .plain = NO_BYTES},
    {.name = "signed-only-binary", .comment = "every byte once; a two byte length", .plain = BINARY},
    {.name = "direct-binary", .comment = "two byte lengths", .to = "console", .topic = "sealed/a", .plain = BINARY},
    {.name = "epoch-binary", .comment = "two byte lengths", .epoch = "all", .topic = "sealed/a", .plain = BINARY},
    {.name = "everything",
     .comment = "every field of ext and meta that pep_seal writes",
     .to = "console",
     .topic = "sealed/a",
     .facts = facts_some,
     .fact_count = COUNT(facts_some),
     .exp_s = NOW_S + 60,
     .audience = "sensor-2",
     .meta = &meta_all},
    {.name = "epoch-facts",
     .comment = "facts beside an encrypted payload",
     .epoch = "levels",
     .topic = "sealed/a/b",
     .facts = facts_some,
     .fact_count = COUNT(facts_some)},
    {.name = "facts-extreme",
     .comment = "empty key and text, the ends of int64, a key that is not ASCII",
     .facts = facts_extreme,
     .fact_count = COUNT(facts_extreme)},
    {.name = "facts-32", .comment = "as many as there may be", .facts = facts_many, .fact_count = 32},
    {.name = "content-format", .comment = "content type as a number", .epoch = "all", .meta = &meta_format},
    {.name = "meta-zeros", .comment = "zero is not absent", .epoch = "all", .meta = &meta_zeros},
    {.name = "meta-empty-texts", .comment = "empty is not absent", .epoch = "all", .meta = &meta_empty_texts},
    {.name = "padding", .comment = "300 zeros that hide a length", .epoch = "all", .meta = &meta_padding},
    {.name = "topic-255", .comment = "a header of more than 255 bytes", .epoch = "all", .topic = topic_255},
    {.name = "topic-utf-8",
     .comment = "two and three byte characters",
     .epoch = "levels",
     .topic = "sealed/gr\xc3\xb6\xc3\x9f"
              "e/\xe6\xb8\xa9\xe5\xba\xa6"},
    {.name = "topic-levels",
     .comment = "the scope sealed/+/# covers it: # matches no level, too",
     .epoch = "levels",
     .topic = "sealed/a"},
    {.name = "counter", .comment = "the first seq of a device without a clock", .seq = 1, .flags = 8},
    {.name = "counter-highest", .comment = "2^53 - 1", .seq = PEP_SEQ_MAX, .flags = 8},
    {.name = "will",
     .comment = "a will passes the access check alone",
     .epoch = "all",
     .topic = "sealed/a",
     .flags = PEP_FLAG_WILL,
     .gate = {.door = "will"}},
    {.name = "will-old",
     .comment = "will_max_age counts, max_age does not",
     .topic = "aged/a",
     .seq = NOW_US - 86400000000,
     .flags = PEP_FLAG_WILL,
     .receiver = {.max_age_us = 30000000},
     .gate = {.door = "will"}},
    {.name = "will-bridged",
     .comment = "a will of another broker's client, through a bridge",
     .flags = PEP_FLAG_WILL,
     .gate = {.door = "bridge"}},
    {.name = "clear",
     .comment = "clears a retained message; not encrypted, and allowed where encryption is asked for",
     .topic = "sealed/a",
     .flags = PEP_FLAG_CLEAR,
     .plain = NO_BYTES,
     .gate = {.retain = true, .action = "clear"}},
    {.name = "expires-now", .comment = "exp is the last second in which it is accepted", .exp_s = NOW_S},
    {.name = "furthest-ahead", .comment = "60 s ahead of the clock", .seq = NOW_US + 60000000},
    {.name = "oldest",
     .comment = "exactly max_age old",
     .topic = "aged/a",
     .seq = OLDEST_AGED,
     .receiver = {.max_age_us = 30000000}},
    {.name = "last-second-of-a-record", .comment = "not-after is the last second", .from = "retiring-1"},
    {.name = "own-topic",
     .comment = "the rule allows the device that the first wildcard names",
     .topic = "own/sensor-1/state"},
    {.name = "bound", .comment = "the user name is the signer's id", .gate = {.policy = "bound"}},
    {.name = "relayed",
     .comment = "a relay may bring what others signed",
     .gate = {.policy = "bound", .username = "bridge-b"}},
    {.name = "stored-unbound",
     .comment = "a stored message comes from no client any more",
     .gate = {.policy = "bound", .door = "stored", .username = "sensor-2", .retain = true}},
    {.name = "prefix-removed", .comment = "a bridge put site-a/ in front", .gate = {.topic = "site-a/signed/t"}},
    {.name = "redelivered",
     .comment = "QoS 1 again: the same bytes from the same client",
     .gate = {.qos = 1, .seen_from = CLIENT_ID}},
    {.name = "redelivered-late",
     .comment = "redelivery is recognised before age and replay are judged",
     .topic = "aged/a",
     .gate = {.qos = 2, .seen_from = CLIENT_ID, .seen_at_us = NOW_US, .now_us = NOW_US + 3600000000}},
    {.name = "redelivered-expired",
     .comment = "but nobody accepts it after its own exp",
     .topic = "aged/a",
     .exp_s = NOW_S,
     .gate =
         {.qos = 2, .seen_from = CLIENT_ID, .seen_at_us = NOW_US, .now_us = NOW_US + 3600000000, .expect = "expired"}},
    {.name = "stored",
     .comment = "a retained message looked at again: no age, and the seq is not asked for",
     .topic = "aged/a",
     .receiver = {.now_us = NOW_US + 3600000000},
     .gate = {.door = "stored",
              .retain = true,
              .now_us = NOW_US + 3600000000,
              .seen_from = CLIENT_ID,
              .seen_at_us = NOW_US}},
};

static const sealed_case refused[] = {
    {.name = "reserved-topic",
     .comment = "nobody but the plugin writes there, whatever it is",
     .receiver = {.skip = true},
     .gate = {.expect = "reserved-topic", .topic = "$PEP/keys/sensor-1"}},
    {.name = "reserved-topic-root",
     .comment = "$PEP itself",
     .receiver = {.skip = true},
     .gate = {.expect = "reserved-topic", .topic = "$PEP", .door = "bridge"}},
    {.name = "too-large",
     .comment = "the rule allows 200 bytes",
     .topic = "small/a",
     .plain = BINARY,
     .gate = {.expect = "too-large"}},
    {.name = "wrong-topic",
     .comment = "arrived on another topic than it was signed for",
     .receiver = {.expect = "wrong-topic", .topic = "signed/u"},
     .gate = {.expect = "wrong-topic", .topic = "signed/u"}},
    {.name = "wrong-topic-longer",
     .comment = "the signed topic is only the beginning of the actual one",
     .receiver = {.expect = "wrong-topic", .topic = "signed/t/"},
     .gate = {.expect = "wrong-topic", .topic = "signed/t/"}},
    {.name = "wrong-topic-prefix",
     .comment = "the rule's prefix is not there",
     .topic = "elsewhere/a",
     .gate = {.expect = "wrong-topic"}},
    {.name = "unknown-signer",
     .comment = "no record of this device",
     .from = "stranger",
     .receiver = {.expect = "unknown-signer"},
     .gate = {.expect = "unknown-signer"}},
    {.name = "expired-signer",
     .comment = "its record ended a second ago",
     .from = "retired-1",
     .receiver = {.expect = "expired-signer"},
     .gate = {.expect = "expired-signer"}},
    {.name = "signer-not-allowed",
     .comment = "a known device that the rule does not name",
     .from = "console",
     .topic = "sealed/a",
     .receiver = {.skip = true},
     .gate = {.expect = "signer-not-allowed"}},
    {.name = "signer-not-allowed-own",
     .comment = "the topic of another device",
     .topic = "own/sensor-2/state",
     .gate = {.expect = "signer-not-allowed"}},
    {.name = "unbound-client",
     .comment = "a user who is neither the signer nor a relay",
     .gate = {.expect = "unbound-client", .policy = "bound", .username = "sensor-2"}},
    {.name = "misplaced-flag-will",
     .comment = "an ordinary publish with the will flag",
     .flags = PEP_FLAG_WILL,
     .gate = {.expect = "misplaced-flag"}},
    {.name = "misplaced-flag-clear",
     .comment = "a clear that is not retained",
     .flags = PEP_FLAG_CLEAR,
     .plain = NO_BYTES,
     .gate = {.expect = "misplaced-flag"}},
    {.name = "misplaced-flag-clear-stored",
     .comment = "a clear is never stored",
     .flags = PEP_FLAG_CLEAR,
     .plain = NO_BYTES,
     .gate = {.expect = "misplaced-flag", .door = "stored", .retain = true}},
    {.name = "not-encrypted",
     .comment = "signed only, where encryption is asked for",
     .topic = "sealed/a",
     .receiver = {.expect = "not-encrypted", .encrypted_only = true},
     .gate = {.expect = "not-encrypted"}},
    {.name = "not-encrypted-clear",
     .comment = "a clear is signed only, too: for a receiver who asks for encryption it is nothing",
     .topic = "sealed/a",
     .flags = PEP_FLAG_CLEAR,
     .plain = NO_BYTES,
     .receiver = {.expect = "not-encrypted", .encrypted_only = true},
     .gate = {.skip = true}},
    {.name = "record-denied",
     .comment = "asks to be recorded where the rule denies it",
     .topic = "quiet/a",
     .facts = facts_some,
     .fact_count = COUNT(facts_some),
     .gate = {.expect = "record-denied"}},
    {.name = "no-clock",
     .comment = "a counter has no age",
     .topic = "aged/a",
     .seq = 1,
     .flags = PEP_FLAG_COUNTER,
     .receiver = {.expect = "no-clock", .max_age_us = 30000000},
     .gate = {.expect = "no-clock"}},
    {.name = "future-seq",
     .comment = "a microsecond more than 60 s ahead",
     .seq = NOW_US + 60000001,
     .receiver = {.expect = "future-seq"},
     .gate = {.expect = "future-seq"}},
    {.name = "stale",
     .comment = "a microsecond older than max_age",
     .topic = "aged/a",
     .seq = OLDEST_AGED - 1,
     .receiver = {.expect = "stale", .max_age_us = 30000000},
     .gate = {.expect = "stale"}},
    {.name = "stale-will",
     .comment = "older than will_max_age; receivers ask no age of a will",
     .topic = "aged/a",
     .seq = NOW_US - 86400000001,
     .flags = PEP_FLAG_WILL,
     .receiver = {.max_age_us = 30000000},
     .gate = {.expect = "stale", .door = "will"}},
    {.name = "expired",
     .comment = "exp is over",
     .exp_s = NOW_S - 1,
     .receiver = {.expect = "expired"},
     .gate = {.expect = "expired"}},
    {.name = "expired-stored",
     .comment = "exp counts for stored messages, too",
     .exp_s = NOW_S - 1,
     .receiver = {.expect = "expired"},
     .gate = {.expect = "expired", .door = "stored", .retain = true}},
    {.name = "expired-stored-seen",
     .comment = "a stored message is no redelivery, which would spare it exp",
     .exp_s = NOW_S,
     .receiver = {.skip = true},
     .gate = {.expect = "expired",
              .door = "stored",
              .qos = 1,
              .retain = true,
              .now_us = NOW_US + 1000000,
              .seen_from = CLIENT_ID,
              .seen_at_us = NOW_US}},
    {.name = "replayed",
     .comment = "QoS 0 sends nothing twice",
     .receiver = {.skip = true},
     .gate = {.expect = "replayed", .seen_from = CLIENT_ID}},
    {.name = "replayed-by-another",
     .comment = "QoS 1, but from another client",
     .receiver = {.skip = true},
     .gate = {.expect = "replayed", .qos = 1, .seen_from = "client-2"}},
    {.name = "replayed-will",
     .comment = "a will must rise, and is never a redelivery",
     .flags = PEP_FLAG_WILL,
     .receiver = {.skip = true},
     .gate = {.expect = "replayed", .door = "will", .qos = 1, .seen_from = CLIENT_ID}},
    {.name = "observed",
     .comment = "the rule only observes: the reason is counted, the message passes",
     .from = "stranger",
     .topic = "watched/a",
     .receiver = {.skip = true},
     .gate = {.expect = "unknown-signer", .action = "pass"}},
    {.name = "for-another-device",
     .comment = "sealed to console, opened by sensor-2; the gate cannot tell",
     .to = "console",
     .receiver = {.expect = "cannot-open", .me = "sensor-2"}},
    {.name = "unknown-epoch",
     .comment = "an epoch key that the receiver was not given",
     .epoch = "not-given",
     .receiver = {.expect = "cannot-open"}},
};

static void make_tables(void)
{
    for (size_t i = 0; i < sizeof all_bytes; i++)
        all_bytes[i] = (uint8_t)i;
    memset(topic_255, 'x', sizeof topic_255 - 1);
    memcpy(topic_255, "sealed/", sizeof "sealed/" - 1);
    for (size_t i = 0; i < PEP_FACTS_COUNT_MAX; i++) {
        many_facts[i] = (uint8_t)('A' + i);
        facts_many[i] = (pep_fact){.key = {many_facts + i, 1}, .type = PEP_FACT_INT, .integer = (int64_t)i};
    }
}

/* `facts` must outlive the message. */
static pep_message message_of(const sealed_case *c, uint8_t facts[PEP_FACTS_MAX])
{
    static const uint8_t usual[] = {'2', '1', '.', '5'};
    const char *topic = c->topic == NULL ? "signed/t" : c->topic;
    pep_message m = {
        .from = &actor_of(c->from == NULL ? "sensor-1" : c->from)->device,
        .topic = {(const uint8_t *)topic, strlen(topic)},
        .seq = c->seq == 0 ? vector_next_seq() : c->seq,
        .flags = c->flags | (c->to == NULL && c->epoch == NULL ? PEP_FLAG_SIGNED_ONLY : 0),
        .to = c->to == NULL ? NULL : &actor_of(c->to)->record,
        .epoch = c->epoch == NULL ? NULL : &epoch_of(c->epoch)->epoch,
        .exp_s = c->exp_s,
        .audience = c->audience == NULL ? NULL : actor_of(c->audience)->device.sign_kid,
        .meta = c->meta,
        .plain = c->plain.p == NULL ? (pep_view){usual, sizeof usual} : c->plain,
    };
    if (c->fact_count > 0)
        must(pep_facts_encode(facts, &m.facts.n, c->facts, c->fact_count) == PEP_OK, c->name);
    m.facts.p = facts;
    return m;
}

static void seal(bytes *out, const char *name, const pep_message *m)
{
    random_restart(name);
    must(pep_seal(out->p, &out->n, sizeof out->p, m) == PEP_OK, name);
}

static void emit_case(json *j, const sealed_case *c)
{
    uint8_t facts[PEP_FACTS_MAX];
    pep_message m = message_of(c, facts);
    vector v = {
        .name = c->name,
        .comment = c->comment,
        .topic = (const char *)m.topic.p,
        .message = &m,
        .plain = m.plain,
        .meta = m.meta,
        .receiver = c->receiver,
        .gate = c->gate,
    };
    seal(&v.envelope, c->name, &m);
    vector_emit(j, &v);
}

void sealed_emit(json *j)
{
    make_tables();
    for (size_t i = 0; i < COUNT(valid); i++)
        emit_case(j, &valid[i]);
    for (size_t i = 0; i < COUNT(refused); i++)
        emit_case(j, &refused[i]);
}
