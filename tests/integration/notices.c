/*
 * Promise: a client is told on $PEP/rejected/CLIENT-ID why its messages were refused, at most ten times a second, the
 * rest summed; and nobody else hears of it.
 */
#include "stage.h"
#include "tests/unit/unit.h"
#include "wire.h"

#include <cjson/cJSON.h>
#include <string.h>

#define NOTICES "$PEP/rejected/"

static stage s;

static void begin(void)
{
    stage_set(&s, GUARD_POLICY, CONF_GUARDED);
}

static sealed of(pep_reason reason)
{
    return case_of(reason)->make(&s.c, "t/a", 0);
}

/* The next message of `c`, if it is a notice on that topic; the caller frees it. */
static cJSON *next_notice(client *c, const char *topic)
{
    const client_message *m = client_next(c);
    if (m == NULL || strcmp(m->topic, topic) != 0 || m->retain) {
        fprintf(stderr, "expected a notice on %s, got %s\n", topic, m == NULL ? "nothing" : m->topic);
        CU_FAIL("no notice");
        return NULL;
    }
    return cJSON_ParseWithLength((const char *)m->bytes, m->n);
}

static const char *text_of(const cJSON *json, const char *name)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(json, name));
    return text == NULL ? "" : text;
}

static double number_of(const cJSON *json, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(json, name);
    return cJSON_IsNumber(item) ? item->valuedouble : -1;
}

static void a_notice_says_why(void)
{
    begin();
    client *alice = stage_client(&s, "alice");
    client_subscribe(alice, NOTICES "alice", 1);
    for (int qos = 0; qos <= 2; qos++) {
        sealed e = of(PEP_BAD_SIGNATURE);
        CU_ASSERT_EQUAL(client_publish(alice, "t/a", e.bytes, e.n, qos, qos == 1), REASON_SUCCESS);
        cJSON *notice = next_notice(alice, NOTICES "alice");
        CU_ASSERT_STRING_EQUAL(text_of(notice, "reason"), "bad-signature");
        CU_ASSERT_STRING_EQUAL(text_of(notice, "text"), pep_reason_text(PEP_BAD_SIGNATURE));
        CU_ASSERT_STRING_EQUAL(text_of(notice, "topic"), "t/a");
        CU_ASSERT_STRING_EQUAL(text_of(notice, "signer"), "alice");
        CU_ASSERT_EQUAL(number_of(notice, "qos"), qos);
        CU_ASSERT_EQUAL(cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(notice, "retain")), qos == 1);
        CU_ASSERT_TRUE(number_of(notice, "seq") > 1.6e15);
        CU_ASSERT_EQUAL(strlen(text_of(notice, "time")), strlen("2026-01-01T00:00:00Z"));
        CU_ASSERT_FALSE(cJSON_HasObjectItem(notice, "suppressed"));
        cJSON_Delete(notice);
    }
    CU_ASSERT_EQUAL(client_publish(alice, "t/a", "plain", 5, 0, false), REASON_SUCCESS);
    cJSON *notice = next_notice(alice, NOTICES "alice");
    CU_ASSERT_STRING_EQUAL(text_of(notice, "reason"), "plain-payload");
    CU_ASSERT_FALSE(cJSON_HasObjectItem(notice, "signer") || cJSON_HasObjectItem(notice, "seq"));
    cJSON_Delete(notice);
    CU_ASSERT_EQUAL(client_counter_reaches(s.to, "notices/sent", 4), 4);
    client_close(alice);
    stage_strike(&s);
}

/* Between two characters. */
static void a_long_topic_is_cut(void)
{
    char topic[603] = "t/";
    for (size_t n = 2; n < sizeof(topic) - 1; n += 2)
        snprintf(topic + n, 3, "ö");
    begin();
    client *alice = stage_client(&s, "alice");
    client_subscribe(alice, NOTICES "alice", 0);
    CU_ASSERT_EQUAL(client_publish(alice, topic, "plain", 5, 1, false), REASON_SUCCESS);
    cJSON *notice = next_notice(alice, NOTICES "alice");
    CU_ASSERT_EQUAL(strlen(text_of(notice, "topic")), 510);
    CU_ASSERT_EQUAL(strncmp(text_of(notice, "topic"), topic, 510), 0);
    cJSON_Delete(notice);
    client_close(alice);
    stage_strike(&s);
}

/*
 * Whatever others subscribe to, whose names may begin as hers does; and nothing stays behind for who comes later, be it
 * under the same name.
 */
static void only_its_client_hears_it(void)
{
    static const char *const filters[] = {NOTICES "#", NOTICES "alice", NOTICES "+", "$share/g/" NOTICES "alice"};
    begin();
    client *alice = stage_client(&s, "alice");
    client *mallory = client_open((client_spec){.port = s.b.port, .id = "alic", .version = MQTT_5});
    client_subscribe(alice, NOTICES "#", 1);
    client_subscribe(mallory, FENCE_TOPIC, 1);
    for (size_t i = 0; i < sizeof(filters) / sizeof(filters[0]); i++)
        client_subscribe(mallory, filters[i], 1);
    CU_ASSERT_EQUAL(client_publish(alice, "t/a", "plain", 5, 1, true), REASON_SUCCESS);
    cJSON_Delete(next_notice(alice, NOTICES "alice"));
    CU_ASSERT_TRUE(client_fence(mallory, alice));
    CU_ASSERT_TRUE(client_gets_fence(s.to));
    client_close(mallory);
    client_close(alice);
    alice = stage_client(&s, "alice");
    client_subscribe(alice, NOTICES "#", 1);
    client_subscribe(alice, FENCE_TOPIC, 1);
    CU_ASSERT_TRUE(client_fence(alice, alice));
    client_close(alice);
    stage_strike(&s);
}

/* A client id may hold what one level of a topic may not. */
static void client_ids_are_encoded(void)
{
    static const struct {
        const char *id, *topic;
    } names[] = {
        {"a/b", NOTICES "a%2Fb"}, {"+", NOTICES "%2B"},           {"#", NOTICES "%23"},
        {"50%", NOTICES "50%25"}, {"größe 1", NOTICES "größe 1"}, {"$SYS", NOTICES "$SYS"},
    };
    stage_prepare(&s, GUARD_POLICY, CONF_GUARDED);
    /* Mosquitto denies whoever has + or # in its name what a pattern allows. */
    broker_write(&s.b, "acl", "topic readwrite #\ntopic read $PEP/#\ntopic read $SYS/#\n");
    stage_open(&s);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        client *c = stage_client(&s, names[i].id);
        client_subscribe(c, names[i].topic, 0);
        CU_ASSERT_EQUAL(client_publish(c, "t/a", "plain", 5, 0, false), REASON_SUCCESS);
        cJSON_Delete(next_notice(c, names[i].topic));
        client_close(c);
    }
    stage_strike(&s);
}

/* A name too long for a topic is no harm. */
static void a_long_name_gets_none(void)
{
    char id[2001] = "";
    memset(id, '/', sizeof(id) - 1);
    begin();
    client *c = stage_client(&s, id);
    CU_ASSERT_EQUAL(client_publish(c, "t/a", "plain", 5, 1, false), REASON_SUCCESS);
    CU_ASSERT_EQUAL(client_counter_reaches(s.to, "notices/suppressed", 1), 1);
    CU_ASSERT_EQUAL(client_counter(s.to, "notices/sent"), 0);
    client_close(c);
    stage_strike(&s);
}

#define MANY 200

/* All are told of, in few notices. */
static void many_are_summed(void)
{
    int notices = 0;
    double told = 0;
    begin();
    client *alice = stage_client(&s, "alice");
    client_subscribe(alice, NOTICES "alice", 0);
    int64_t start = monotonic_ms();
    for (int i = 0; i < MANY; i++)
        CU_ASSERT_EQUAL(client_publish(alice, "t/a", "plain", 5, 1, false), REASON_SUCCESS);
    while (told < MANY && notices < MANY) {
        cJSON *notice = next_notice(alice, NOTICES "alice");
        if (notice == NULL)
            break;
        double suppressed = number_of(notice, "suppressed");
        told += 1 + (suppressed > 0 ? suppressed : 0);
        notices++;
        cJSON_Delete(notice);
    }
    CU_ASSERT_EQUAL(told, MANY);
    CU_ASSERT_TRUE(notices > 10); /* the last ones are told of, too */
    CU_ASSERT_TRUE(notices < MANY);
    CU_ASSERT_TRUE(notices <= 10 * ((monotonic_ms() - start) / 1000 + 1));
    CU_ASSERT_EQUAL(client_counter_reaches(s.to, "notices/suppressed", MANY - notices), MANY - notices);
    CU_ASSERT_EQUAL(client_publish(alice, "t/a", "plain", 5, 1, false), REASON_SUCCESS);
    cJSON *last = next_notice(alice, NOTICES "alice");
    CU_ASSERT_FALSE(cJSON_HasObjectItem(last, "suppressed")); /* they are told of once */
    cJSON_Delete(last);
    client_close(alice);
    stage_strike(&s);
}

/* Ten at once, and the next one a second after the first, also where nobody asked for it meanwhile. */
static void ten_a_second(void)
{
    begin();
    client *alice = stage_client(&s, "alice");
    client_subscribe(alice, NOTICES "alice", 0);
    int64_t start = monotonic_ms();
    for (int i = 0; i < 10; i++) {
        CU_ASSERT_EQUAL(client_publish(alice, "t/a", "plain", 5, 1, false), REASON_SUCCESS);
        cJSON_Delete(next_notice(alice, NOTICES "alice"));
    }
    while (monotonic_ms() < start + 500)
        CU_ASSERT_TRUE(client_fence(s.to, alice));
    CU_ASSERT_EQUAL(client_publish(alice, "t/a", "plain", 5, 1, false), REASON_SUCCESS);
    cJSON_Delete(next_notice(alice, NOTICES "alice"));
    CU_ASSERT_TRUE(monotonic_ms() >= start + 950); /* the plugin's clock is coarse */
    client_close(alice);
    stage_strike(&s);
}

#define NAMES 1100 /* more than are remembered at once */

/* However many have been told of something: a moment later there is room for others. */
static void those_who_stop_are_forgotten(void)
{
    begin();
    for (int i = 0; i < NAMES; i++) {
        char id[32];
        snprintf(id, sizeof(id), "name-%d", i);
        wire w = wire_open((wire_spec){.port = s.b.port, .id = id});
        wire_publish(&w, (wire_message){.topic = "t/a", .bytes = "plain", .n = 5, .qos = 1, .mid = 1});
        CU_ASSERT_TRUE(wire_answer(&w, WIRE_PUBACK, 1, NULL));
        wire_drop(&w);
    }
    client *alice = stage_client(&s, "alice");
    client_subscribe(alice, NOTICES "alice", 0);
    client_subscribe(alice, FENCE_TOPIC, 0);
    int64_t deadline = monotonic_ms() + patience_ms();
    bool told = false;
    while (!told && remaining_ms(deadline) > 0) {
        CU_ASSERT_EQUAL(client_publish(alice, "t/a", "plain", 5, 1, false), REASON_SUCCESS);
        CU_ASSERT_EQUAL(client_publish(alice, FENCE_TOPIC, "again", 5, 1, false), REASON_SUCCESS);
        const client_message *m = client_next(alice);
        told = m != NULL && strcmp(m->topic, NOTICES "alice") == 0;
    }
    CU_ASSERT_TRUE(told);
    client_close(alice);
    stage_strike(&s);
}

/* Nothing was refused of a client that only listens, nor where the policy only observes. */
static void others_get_none(void)
{
    stage_prepare(&s, GUARD_POLICY, CONF_BASE CONF_ACL "persistence true\npersistence_location @/\n");
    CU_ASSERT_TRUE(broker_start(&s.b));
    client *c = stage_client(&s, "alice");
    CU_ASSERT_EQUAL(client_publish(c, "t/a", "plain", 5, 1, true), REASON_SUCCESS);
    client_close(c);
    broker_end(&s.b);
    broker_write(&s.b, "mosquitto.conf", CONF_GUARDED "persistence true\npersistence_location @/\n");
    stage_open(&s);
    CU_ASSERT_TRUE(client_fence(s.to, s.to)); /* to `#` the retained one was refused */
    CU_ASSERT_EQUAL(client_counter_reaches(s.to, "messages/withheld", 1), 1);
    CU_ASSERT_EQUAL(client_counter(s.to, "refused/plain-payload"), 0);
    CU_ASSERT_EQUAL(client_counter(s.to, "notices/sent"), 0);
    broker_write(&s.b, "policy.conf",
                 "topics = ( { filter = \"t/#\"; mode = \"observe\"; signers = [ \"alice\" ]; } );\n");
    broker_reload(&s.b);
    CU_ASSERT_TRUE(broker_logs(&s.b, "pep: reloaded"));
    CU_ASSERT_EQUAL(client_publish(s.to, "t/a", "plain", 5, 1, false), REASON_SUCCESS);
    CU_ASSERT_TRUE(client_gets(s.to, "t/a", "plain", 5));
    CU_ASSERT_EQUAL(client_counter_reaches(s.to, "observed/plain-payload", 1), 1);
    CU_ASSERT_EQUAL(broker_log_count(&s.b, "pep: observed plain-payload"), 1); /* two hooks, one line */
    CU_ASSERT_EQUAL(client_counter(s.to, "notices/sent"), 0);
    stage_strike(&s);
}

static const unit_test TESTS[] = {
    {"a notice says why", a_notice_says_why},
    {"a long topic is cut", a_long_topic_is_cut},
    {"only its client hears it", only_its_client_hears_it},
    {"client ids are encoded", client_ids_are_encoded},
    {"a long name gets none", a_long_name_gets_none},
    {"many are summed", many_are_summed},
    {"ten a second", ten_a_second},
    {"those who stop are forgotten", those_who_stop_are_forgotten},
    {"others get none", others_get_none},
};
UNIT_MAIN("notices", TESTS)
