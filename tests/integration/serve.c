/*
 * Promise: the current statement about each device lies retained on $PEP/keys/ID, and the gate's own on $PEP/gate, for
 * whoever subscribes now or later; nobody but the directory puts anything there, and what is no longer so goes away.
 */
#include "ask.h"
#include "tests/unit/unit.h"

#include <sqlite3.h>
#include <string.h>
#include <unistd.h>

#define KEYS       PEP_KEYS_TOPIC
#define PERSISTENT "persistence true\npersistence_location @/\n"

static stage s;
static asker a;

static void listen_to_asker(void)
{
    asker_open(&a, (client_spec){.port = s.b.port, .id = "asker"});
}

static void set(const char *policy, const char *conf)
{
    stage_set(&s, policy, conf);
    listen_to_asker();
}

static void strike(void)
{
    asker_close(&a);
    stage_strike(&s);
}

static void restart(void)
{
    asker_close(&a);
    stage_restart(&s, false);
    listen_to_asker();
}

static client *subscriber(mqtt_version version, const char *filter)
{
    client *c = client_open((client_spec){.port = s.b.port, .id = "late", .version = version});
    client_subscribe(c, filter, 1);
    client_subscribe(c, FENCE_TOPIC, 2);
    return c;
}

static bool nothing_else(client *c)
{
    return client_fence(c, s.to) && client_gets_fence(s.to);
}

static bool is_message(const client_message *m, const char *topic, const sealed *entry, bool retained)
{
    bool good = m != NULL && strcmp(m->topic, topic) == 0 && m->n == entry->n &&
                memcmp(m->bytes, entry->bytes, m->n) == 0 && m->retain == retained;
    if (!good)
        fprintf(stderr, "expected %zu bytes on %s, got %zu on %s%s\n", entry->n, topic, m == NULL ? 0 : m->n,
                m == NULL ? "nothing" : m->topic, m != NULL && m->retain ? ", retained" : "");
    return good;
}

static bool gets(client *c, const char *topic, const sealed *entry, bool retained)
{
    return is_message(client_next(c), topic, entry, retained);
}

/* Just behind a start it may come as news, and not as what was retained: then it is asked for again. */
static const client_message *next_retained(client **late, mqtt_version version, const char *topic)
{
    int64_t deadline = monotonic_ms() + patience_ms();
    for (;;) {
        *late = subscriber(version, topic);
        const client_message *m = client_next(*late);
        if (m == NULL || m->retain || remaining_ms(deadline) == 0)
            return m;
        client_close(*late);
    }
}

/* True where somebody who subscribes now gets exactly this. */
static bool is_served(const char *topic, const statement_bytes *statement)
{
    sealed entry = entry_of(statement, NULL);
    bool good = true;
    for (mqtt_version version = MQTT_3; version <= MQTT_5; version++) {
        client *late;
        good = is_message(next_retained(&late, version, topic), topic, &entry, true) && nothing_else(late) && good;
        client_close(late);
    }
    return good;
}

static bool is_not_served(const char *filter)
{
    client *late = subscriber(MQTT_3, filter);
    bool good = nothing_else(late);
    client_close(late);
    return good;
}

/* ---- what is there ---- */

static void every_change_is_served(void)
{
    member m;
    client *early[2];
    set(OPEN_POLICY, CONF_ENROLLING);
    for (int i = 0; i < 2; i++) {
        early[i] = client_open((client_spec){.port = s.b.port, .version = i == 0 ? MQTT_3 : MQTT_5});
        client_subscribe(early[i], KEYS "#", 1);
    }
    member_make(&m, "dora");
    for (int i = 0; i < 3; i++) {
        pep_reason reason = i == 0   ? ask_enroll(&a, &m)
                            : i == 1 ? ask_rotate(&a, &m, pep_now_us())
                                     : ask_revoke(&a, &m);
        sealed entry = entry_of(&m.newest, NULL);
        CU_ASSERT_EQUAL(reason, PEP_OK);
        CU_ASSERT_TRUE(gets(early[0], KEYS "dora", &entry, false));
        CU_ASSERT_TRUE(gets(early[1], KEYS "dora", &entry, false));
        CU_ASSERT_TRUE(is_served(KEYS "dora", &m.newest));
        CU_ASSERT_TRUE(ask_knows(&a, &m));
    }
    client_close(early[0]);
    client_close(early[1]);
    member_wipe(&m);
    strike();
}

/* In memory of the broker alone: published again at each start. */
static void a_restart_serves_again(void)
{
    member m, gone;
    set(OPEN_POLICY, CONF_ENROLLING);
    member_make(&m, "dora");
    member_make(&gone, "eve");
    CU_ASSERT_EQUAL(ask_enroll(&a, &m), PEP_OK);
    CU_ASSERT_EQUAL(ask_enroll(&a, &gone), PEP_OK);
    CU_ASSERT_EQUAL(ask_revoke(&a, &gone), PEP_OK);
    restart();
    CU_ASSERT_TRUE(is_served(KEYS "dora", &m.newest));
    CU_ASSERT_TRUE(is_served(KEYS "eve", &gone.newest));
    member_wipe(&m);
    member_wipe(&gone);
    strike();
}

/* Reads $PEP/gate as a new subscriber does. */
static bool read_gate(sealed *out, pep_statement *statement)
{
    pep_entry entry;
    client *late;
    const client_message *m = next_retained(&late, MQTT_3, PEP_GATE_TOPIC);
    bool good = m != NULL && strcmp(m->topic, PEP_GATE_TOPIC) == 0 && m->retain && m->n <= sizeof(out->bytes);
    if (good) {
        out->n = m->n;
        memcpy(out->bytes, m->bytes, m->n);
        good = pep_entry_parse(&entry, out->bytes, out->n) == PEP_OK &&
               pep_statement_parse(statement, entry.statement.p, entry.statement.n) == PEP_OK;
    }
    good = nothing_else(late) && good;
    client_close(late);
    return good;
}

static void the_gate_serves_itself(void)
{
    sealed first, second;
    pep_statement statement;
    set(OPEN_POLICY, CONF_ENROLLING);
    CU_ASSERT_TRUE(read_gate(&first, &statement));
    CU_ASSERT_EQUAL(memcmp(statement.record.sign_kid, a.gate_kid, PEP_KID_BYTES), 0);
    restart();
    CU_ASSERT_TRUE(read_gate(&second, &statement));
    CU_ASSERT_EQUAL(memcmp(statement.record.sign_kid, a.gate_kid, PEP_KID_BYTES), 0);
    strike();
}

/* A session that is away must not miss that somebody was revoked; what was true in between is history's to tell. */
static void who_is_away_learns_the_newest(void)
{
    member m;
    set(OPEN_POLICY, CONF_ENROLLING);
    member_make(&m, "dora");
    CU_ASSERT_EQUAL(ask_enroll(&a, &m), PEP_OK);
    const client_spec spec = {.port = s.b.port, .id = "away", .keep_session = true};
    client *away = client_open(spec);
    sealed enrolled = entry_of(&m.newest, NULL);
    client_subscribe(away, KEYS "+", 1);
    CU_ASSERT_TRUE(gets(away, KEYS "dora", &enrolled, true));
    client_close(away);
    CU_ASSERT_EQUAL(ask_rotate(&a, &m, pep_now_us()), PEP_OK);
    CU_ASSERT_EQUAL(ask_revoke(&a, &m), PEP_OK);
    sealed revoked = entry_of(&m.newest, NULL);
    away = client_open(spec);
    CU_ASSERT_TRUE(gets(away, KEYS "dora", &revoked, false));
    client_subscribe(away, FENCE_TOPIC, 2);
    CU_ASSERT_TRUE(nothing_else(away));
    client_close(away);
    client_close(client_open((client_spec){.port = s.b.port, .id = "away"})); /* ends the session */
    member_wipe(&m);
    strike();
}

static void on_request_serves_the_gate_alone(void)
{
    member m;
    sealed gate;
    pep_statement statement;
    set(DIRECTORY_POLICY("open", "max_records = 1000; directory = \"on-request\";"), CONF_ENROLLING);
    member_make(&m, "dora");
    CU_ASSERT_EQUAL(ask_enroll(&a, &m), PEP_OK);
    CU_ASSERT_TRUE(ask_knows(&a, &m));
    CU_ASSERT_TRUE(is_not_served(KEYS "#"));
    CU_ASSERT_TRUE(read_gate(&gate, &statement));
    member_wipe(&m);
    strike();
}

/* ---- what others put there ---- */

static const char *const OURS[] = {KEYS "dora", KEYS "eve", PEP_GATE_TOPIC, "$PEP/keys", "$PEP"};
#define OURS_COUNT (sizeof(OURS) / sizeof(OURS[0]))

static void refuse_all(client *from, const sealed *e, bool retain)
{
    for (size_t i = 0; i < OURS_COUNT; i++)
        for (int qos = 0; qos <= 2; qos++)
            CU_ASSERT_TRUE(stage_refuses(&s, from, OURS[i], e, qos, retain, PEP_RESERVED_TOPIC));
}

static void refuse_will(const char *topic, const sealed *e, mqtt_version version)
{
    CU_ASSERT_TRUE(stage_refuses_will(&s,
                                      (wire_spec){.port = s.b.port,
                                                  .version = version,
                                                  .id = "w",
                                                  .will_topic = topic,
                                                  .will = e->bytes,
                                                  .will_n = e->n,
                                                  .will_qos = 1,
                                                  .will_retain = true},
                                      PEP_RESERVED_TOPIC));
}

/* Its owner's own, valid statement is refused as well: the directory alone says what is current. */
static void nobody_else_writes_there(void)
{
    member m;
    set(OPEN_POLICY, CONF_ENROLLING);
    member_make(&m, "dora");
    CU_ASSERT_EQUAL(ask_enroll(&a, &m), PEP_OK);
    sealed e = entry_of(&m.newest, NULL), empty = {.n = 0};
    client *from[] = {client_open((client_spec){.port = s.b.port, .id = "three"}),
                      client_open((client_spec){.port = s.b.port, .id = "five", .version = MQTT_5})};
    for (int i = 0; i < 2; i++) {
        refuse_all(from[i], &e, true);
        refuse_all(from[i], &e, false);
        refuse_all(from[i], &empty, true);
        refuse_will(KEYS "dora", &e, i == 0 ? MQTT_3 : MQTT_5);
        refuse_will(KEYS "eve", &e, i == 0 ? MQTT_3 : MQTT_5);
        refuse_will(PEP_GATE_TOPIC, &e, i == 0 ? MQTT_3 : MQTT_5);
        client_close(from[i]);
    }
    CU_ASSERT_TRUE(is_served(KEYS "dora", &m.newest));
    CU_ASSERT_TRUE(is_not_served(KEYS "eve"));
    member_wipe(&m);
    strike();
}

/* Ends the broker, and starts it with another configuration. */
static void change_to(const char *conf)
{
    client_close(s.to);
    broker_end(&s.b);
    broker_write(&s.b, "mosquitto.conf", conf);
    stage_open(&s);
}

static client *away_client(void)
{
    return client_open((client_spec){.port = s.b.port, .id = "away", .keep_session = true});
}

/* Subscribes, and is away from then on. */
static void go_away(void)
{
    client *c = away_client();
    client_subscribe(c, KEYS "#", 1);
    client_subscribe(c, PEP_GATE_TOPIC, 1);
    client_close(c);
}

/* Of all that was queued for it, only what the directory said. */
static bool finds_nothing_forged(const char *topic, const sealed *entry)
{
    client *c = away_client();
    const client_message *m = client_next(c);
    bool good = m != NULL && strcmp(m->topic, PEP_GATE_TOPIC) == 0 && m->n > 6;
    good = gets(c, topic, entry, false) && good;
    client_subscribe(c, FENCE_TOPIC, 2);
    good = nothing_else(c) && good;
    client_close(c);
    return good;
}

static void what_was_planted_before_is_not_delivered(void)
{
    member m;
    stage_prepare(&s, OPEN_POLICY, CONF_BASE CONF_ACL PERSISTENT);
    stage_open(&s);
    go_away();
    client *mallory = stage_client(&s, "mallory");
    for (size_t i = 0; i < OURS_COUNT; i++)
        CU_ASSERT_EQUAL(client_publish(mallory, OURS[i], "forged", 6, 1, true), REASON_SUCCESS);
    client_close(mallory);
    change_to(CONF_ENROLLING PERSISTENT);
    listen_to_asker();
    CU_ASSERT_TRUE(is_not_served(KEYS "#"));
    member_make(&m, "dora");
    CU_ASSERT_EQUAL(ask_enroll(&a, &m), PEP_OK);
    CU_ASSERT_TRUE(is_served(KEYS "dora", &m.newest));
    CU_ASSERT_TRUE(is_not_served(KEYS "eve"));
    CU_ASSERT_TRUE(is_not_served("$PEP"));
    sealed gate;
    pep_statement statement;
    CU_ASSERT_TRUE(read_gate(&gate, &statement));
    sealed entry = entry_of(&m.newest, NULL);
    CU_ASSERT_TRUE(finds_nothing_forged(KEYS "dora", &entry));
    member_wipe(&m);
    strike();
}

/* ---- what is no longer so ---- */

/* Waits until the directory has cleared the topic: then it forgets that it served it. */
static bool becomes_cleared(const char *topic)
{
    int64_t deadline = monotonic_ms() + patience_ms();
    sqlite3 *db = NULL;
    sqlite3_stmt *q = NULL;
    int left = 1;
    CU_ASSERT_EQUAL_FATAL(sqlite3_open_v2(broker_path(&s.b, "state/directory.db"), &db, SQLITE_OPEN_READONLY, NULL),
                          SQLITE_OK);
    sqlite3_busy_timeout(db, patience_ms());
    CU_ASSERT_EQUAL_FATAL(sqlite3_prepare_v2(db, "SELECT count(*) FROM published WHERE topic = ?", -1, &q, NULL),
                          SQLITE_OK);
    sqlite3_bind_text(q, 1, topic, -1, SQLITE_STATIC);
    while (left > 0 && remaining_ms(deadline) > 0) {
        left = sqlite3_step(q) == SQLITE_ROW ? sqlite3_column_int(q, 0) : 1;
        sqlite3_reset(q);
    }
    sqlite3_finalize(q);
    CU_ASSERT_EQUAL(sqlite3_close(db), SQLITE_OK);
    return left == 0;
}

/* True where the broker still has something retained that matches: asked without the plugin in its way. */
static bool lies_in_the_broker(const char *topic)
{
    asker_close(&a);
    change_to(CONF_BASE CONF_ACL PERSISTENT);
    client *late = subscriber(MQTT_3, topic);
    CU_ASSERT_TRUE(client_fence(s.to, s.to));
    const client_message *m = client_next(late);
    bool there = m != NULL && strcmp(m->topic, FENCE_TOPIC) != 0;
    client_close(late);
    change_to(CONF_ENROLLING PERSISTENT);
    listen_to_asker();
    return there;
}

static void a_directory_on_request_clears_what_it_served(void)
{
    member m;
    set(OPEN_POLICY, CONF_ENROLLING PERSISTENT);
    member_make(&m, "dora");
    CU_ASSERT_EQUAL(ask_enroll(&a, &m), PEP_OK);
    CU_ASSERT_TRUE(lies_in_the_broker(KEYS "dora"));
    CU_ASSERT_TRUE(is_served(KEYS "dora", &m.newest));
    broker_write(&s.b, "policy.conf", DIRECTORY_POLICY("open", "max_records = 1000; directory = \"on-request\";"));
    restart();
    CU_ASSERT_TRUE(is_not_served(KEYS "dora"));
    CU_ASSERT_TRUE(becomes_cleared(KEYS "dora"));
    CU_ASSERT_FALSE(lies_in_the_broker(KEYS "dora"));
    member_wipe(&m);
    strike();
}

/* The folder's devices are served, too; a file that is gone takes its topic along. */
static void a_removed_file_clears_what_was_served(void)
{
    static const char with_folder[] = CONF_GUARDED PERSISTENT;
    client *late;
    set(DIRECTORY_POLICY("closed", ""), with_folder);
    late = subscriber(MQTT_3, KEYS "alice");
    CU_ASSERT_PTR_NOT_NULL(client_next(late));
    client_close(late);
    asker_close(&a);
    client_close(s.to);
    broker_end(&s.b);
    record_remove(&s.b, "alice");
    stage_open(&s);
    listen_to_asker();
    CU_ASSERT_TRUE(is_not_served(KEYS "alice"));
    CU_ASSERT_TRUE(becomes_cleared(KEYS "alice"));
    late = subscriber(MQTT_3, KEYS "bob");
    CU_ASSERT_PTR_NOT_NULL(client_next(late));
    client_close(late);
    broker_write(&s.b, "policy.conf", OPEN_POLICY);
    CU_ASSERT_FALSE(lies_in_the_broker(KEYS "alice"));
    strike();
}

/* A broker with a new directory and an old mosquitto.db: what lies there is nobody's word any more. */
static void what_the_store_does_not_know_is_not_delivered(void)
{
    member m;
    set(OPEN_POLICY, CONF_ENROLLING PERSISTENT);
    member_make(&m, "dora");
    CU_ASSERT_EQUAL(ask_enroll(&a, &m), PEP_OK);
    asker_close(&a);
    client_close(s.to);
    broker_end(&s.b);
    CU_ASSERT_EQUAL(unlink(broker_path(&s.b, "state/directory.db")), 0);
    stage_open(&s);
    listen_to_asker();
    CU_ASSERT_FALSE(ask_knows(&a, &m));
    CU_ASSERT_TRUE(is_not_served(KEYS "dora"));
    member_wipe(&m);
    strike();
}

static const unit_test TESTS[] = {
    {"every change is served, to early and late subscribers", every_change_is_served},
    {"a restart serves again", a_restart_serves_again},
    {"the gate serves itself", the_gate_serves_itself},
    {"who is away learns the newest", who_is_away_learns_the_newest},
    {"on-request serves the gate alone", on_request_serves_the_gate_alone},
    {"nobody else writes there", nobody_else_writes_there},
    {"what was planted before is not delivered", what_was_planted_before_is_not_delivered},
    {"a directory on request clears what it served", a_directory_on_request_clears_what_it_served},
    {"a removed file clears what was served", a_removed_file_clears_what_was_served},
    {"what the store does not know is not delivered", what_the_store_does_not_know_is_not_delivered},
};
UNIT_MAIN("serve", TESTS)
