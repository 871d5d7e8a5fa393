/*
 * Promise: of a message whose sender did not ask for it nothing is kept. Once it is delivered, and the broker was
 * stopped or has saved, neither its topic nor its payload stands in any file that the broker, the plugin or a database
 * wrote; nor do facts that were not recorded. What was recorded stands there once.
 *
 * Everything is signed only: what is encrypted could not be found. The topic of a refused message stands in a warning
 * in the log, so that refused ones have a topic without a marker here.
 */
#include "ledger_ask.h"
#include "ledger_store.h"
#include "traces.h"

#include <poll.h>
#include <signal.h>
#include <sodium.h>
#include <string.h>
#include <sys/stat.h>

/* What an operator has who changes nothing of the log, and wants a session to survive. */
#define CONF_KEEPING                                                                                                   \
    "allow_anonymous true\n"                                                                                           \
    "log_dest stderr\n"                                                                                                \
    "log_dest file @/mosquitto.log\n"                                                                                  \
    "set_tcp_nodelay true\n"                                                                                           \
    "persistence true\n"                                                                                               \
    "persistence_location @/\n" CONF_PLUGIN CONF_ACL

static const char POLICY[] = "enroll = \"closed\"; budget = { rate = 0; }; admins = [ \"bob\" ];\n"
                             "topics = (\n"
                             "  { filter = \"r/#\"; signers = [ \"*\" ]; payload = \"signed\"; record = \"allow\"; },\n"
                             "  { filter = \"no/#\"; signers = [ \"*\" ]; payload = \"signed\"; record = \"deny\"; },\n"
                             "  { filter = \"shown/#\"; signers = [ \"*\" ]; payload = \"signed\"; mode = \"observe\"; "
                             "record = \"deny\"; } );\n";

static stage s;
static asker a;
static client *from;

/* ---- markers: one beginning for what must not be found, one for what must, one for what is forgotten ---- */

#define KINDS      3
#define MARK_BYTES 40

typedef enum { GONE, KEPT, FORGOTTEN } kind;

static char beginnings[KINDS][MARK_BYTES];
static unsigned marks[KINDS];

static void make_markers(void)
{
    uint8_t random[8];
    char hex[2 * sizeof(random) + 1];
    for (int i = 0; i < KINDS; i++) {
        randombytes_buf(random, sizeof(random));
        snprintf(beginnings[i], MARK_BYTES, "mark%s-", sodium_bin2hex(hex, sizeof(hex), random, sizeof(random)));
        marks[i] = 0;
    }
}

static void name_marker(char out[MARK_BYTES], kind k, unsigned number)
{
    snprintf(out, MARK_BYTES, "%.30s%u.", beginnings[k], number);
}

static void new_marker(char out[MARK_BYTES], kind k)
{
    name_marker(out, k, marks[k]++);
}

static void new_topic(char out[64], const char *parent, kind k)
{
    char marker[MARK_BYTES];
    new_marker(marker, k);
    snprintf(out, 64, "%s/%s", parent, marker);
}

/* ---- looking ---- */

static long in_files(kind k, bool tell)
{
    return traces_in_folder(s.b.folder, beginnings[k], tell);
}

/* Rows of any table that hold the text in any column, bytes included: they are told as hex. */
static long long in_tables(const char *text)
{
    char sql[1024], hex[4 * MARK_BYTES];
    sodium_bin2hex(hex, sizeof(hex), (const uint8_t *)text, strlen(text));
    snprintf(sql, sizeof(sql),
             "SELECT sum(CAST(CAST((xpath('/row/c/text()', query_to_xml(format('SELECT count(*) AS c FROM %%I.%%I AS t"
             " WHERE position(%%L IN row_to_json(t)::text) > 0 OR position(%%L IN row_to_json(t)::text) > 0',"
             " schemaname, tablename, '%s', '%s'), false, true, '')))[1] AS text) AS bigint)) FROM pg_tables"
             " WHERE schemaname NOT IN ('pg_catalog', 'information_schema')",
             text, hex);
    return postgres_number(&ledger_server, ledger_database, sql);
}

/* Whatever the server still had in memory lies in the files then. */
static long in_cluster(kind k, bool tell)
{
    CU_ASSERT_TRUE(postgres_sql(&ledger_server, ledger_database, "CHECKPOINT"));
    return traces_in_folder(ledger_server.folder, beginnings[k], tell);
}

static void nothing_is_left(void)
{
    CU_ASSERT_EQUAL(in_files(GONE, true), 0);
    CU_ASSERT_EQUAL(in_files(FORGOTTEN, true), 0);
    if (!ledger_on_postgres)
        return;
    CU_ASSERT_EQUAL(in_files(KEPT, true), 0);
    CU_ASSERT_EQUAL(in_cluster(GONE, true), 0);
    CU_ASSERT_EQUAL(in_tables(beginnings[GONE]), 0);
    CU_ASSERT_EQUAL(in_tables(beginnings[FORGOTTEN]), 0); /* its files hold it until vacuum and WAL recycling */
}

/* Each in the topic of one row, or in the fields of one. */
static void what_was_recorded_is_there_once(void)
{
    char sql[512], marker[MARK_BYTES];
    CU_ASSERT_TRUE(marks[KEPT] > 0);
    for (unsigned i = 0; i < marks[KEPT]; i++) {
        name_marker(marker, KEPT, i);
        snprintf(sql, sizeof(sql),
                 "SELECT count(*) FROM pep_ledger WHERE topic LIKE '%%%s%%' OR CAST(fields AS text) LIKE '%%%s%%'",
                 marker, marker);
        CU_ASSERT_EQUAL(ledger_number(&s.b, sql), 1);
    }
    CU_ASSERT_EQUAL(ledger_number(&s.b, "SELECT count(*) FROM pep_ledger"), marks[KEPT] / 2);
}

/* ---- setting the stage ---- */

/* Hears all that concerns us; its session outlives it. */
static client *sleeper(void)
{
    static const char *const filters[] = {"r/#", "no/#", "shown/#", "end"};
    client *c = client_open((client_spec){.port = s.b.port, .id = "sleeper", .keep_session = true});
    for (size_t i = 0; i < sizeof(filters) / sizeof(filters[0]); i++)
        client_subscribe(c, filters[i], 2);
    return c;
}

static void meet(void)
{
    asker_open(&a, (client_spec){.port = s.b.port, .id = "asker"});
    from = client_open((client_spec){.port = s.b.port, .id = "from", .version = MQTT_5});
}

static void part(void)
{
    client_close(from);
    asker_close(&a);
    client_close(s.to);
    s.to = NULL;
}

static void set(const char *conf)
{
    stage_set(&s, POLICY, ledger_conf(conf, "store"));
    make_markers();
    meet();
    client_close(sleeper());
}

static void strike(void)
{
    if (s.to != NULL)
        part();
    stage_strike(&s);
}

/* ---- sending ---- */

static void send(const char *topic, const sealed *e, int qos, bool retain, int answer)
{
    CU_ASSERT_EQUAL(client_publish(from, topic, e->bytes, e->n, qos, retain), answer);
}

static void send_good(const char *topic, const sealed *e, int qos, bool retain)
{
    send(topic, e, qos, retain, REASON_SUCCESS);
    CU_ASSERT_TRUE(client_gets(s.to, topic, e->bytes, e->n));
}

static void send_refused(const char *topic, const sealed *e, int qos)
{
    send(topic, e, qos, false, denial(MQTT_5, qos));
    CU_ASSERT_TRUE(client_fence(s.to, from));
}

/* Markers in the payload, and where `k` is given, in a field's name and in a text. */
static sealed marked(const speaker *by, const char *topic, unsigned flags, const kind *k)
{
    char payload[MARK_BYTES], name[MARK_BYTES] = "", text[MARK_BYTES] = "";
    new_marker(payload, GONE); /* payloads are never recorded */
    if (k != NULL)
        new_marker(text, *k);
    if (k != NULL && *k == GONE)
        new_marker(name, *k);
    const pep_fact facts[] = {fact_text("text", text), fact_text(name, "x")};
    return seal((seal_spec){.from = by,
                            .topic = topic,
                            .flags = flags,
                            .signed_only = true,
                            .plain = payload,
                            .facts = facts,
                            .fact_n = k == NULL    ? 0
                                      : *k == GONE ? 2
                                                   : 1});
}

/* Does not ask to be recorded. */
static void send_unrecorded(const char *parent)
{
    char topic[64];
    for (int qos = 0; qos <= 2; qos++) {
        new_topic(topic, parent, GONE);
        sealed e = marked(&s.c.alice, topic, 0, NULL);
        send_good(topic, &e, qos, false);
    }
}

static void send_recorded(kind k)
{
    char topic[64];
    for (int qos = 0; qos <= 2; qos++) {
        new_topic(topic, "r", k);
        sealed e = marked(&s.c.alice, topic, 0, &k);
        send_good(topic, &e, qos, false);
    }
}

static void send_will(void)
{
    char topic[64];
    new_topic(topic, "r", GONE);
    sealed e = marked(&s.c.alice, topic, PEP_FLAG_WILL, NULL);
    CU_ASSERT_TRUE(stage_passes_will(
        &s,
        (wire_spec){.port = s.b.port, .id = "w", .will_topic = topic, .will = e.bytes, .will_n = e.n, .will_qos = 2}));
}

/* Facts that nobody records: because the rule forbids it, because it only observes, or because something is wrong. */
static void send_unrecorded_facts(void)
{
    const kind gone = GONE;
    for (int qos = 0; qos <= 2; qos++) {
        sealed denied = marked(&s.c.alice, "no/a", 0, &gone);
        send_refused("no/a", &denied, qos);
        sealed forged = marked(&s.c.alice, "r/a", 0, &gone);
        forged.bytes[forged.n - 1] ^= 1;
        send_refused("r/a", &forged, qos);
        sealed unknown = marked(&s.c.mallory, "r/a", 0, &gone);
        send_refused("r/a", &unknown, qos);
        sealed observed = marked(&s.c.alice, "shown/a", 0, &gone);
        send_good("shown/a", &observed, qos, false);
    }
    sealed will = marked(&s.c.alice, "no/a", PEP_FLAG_WILL, &gone);
    wire w =
        wire_open((wire_spec){.port = s.b.port, .id = "w", .will_topic = "no/a", .will = will.bytes, .will_n = will.n});
    wire_drop(&w);
    CU_ASSERT_TRUE(client_fence(s.to, from));
}

/* Questions name topics and fields, too. What was recorded to be forgotten goes with one of them. */
static void ask_and_forget(void)
{
    char command[512], topic[MARK_BYTES], name[MARK_BYTES], value[MARK_BYTES];
    new_marker(topic, GONE);
    new_marker(name, GONE);
    new_marker(value, GONE);
    snprintf(command, sizeof(command), "{\"command\":\"ledger.query\",\"topic\":\"r/%s\",\"fields\":{\"%s\":\"%s\"}}",
             topic, name, value);
    CU_ASSERT_EQUAL(ledger_reason(&a, &s.c.bob, command), PEP_OK);
    snprintf(command, sizeof(command), "{\"command\":\"ledger.forget\",\"topic\":\"r/%s\"}", topic);
    CU_ASSERT_EQUAL(ledger_reason(&a, &s.c.bob, command), PEP_OK);
    CU_ASSERT_TRUE(marks[FORGOTTEN] > 0);
    for (unsigned i = 0; i < marks[FORGOTTEN]; i += 2) { /* every other one is a field's */
        name_marker(name, FORGOTTEN, i);
        snprintf(command, sizeof(command), "{\"command\":\"ledger.forget\",\"topic\":\"r/%s\"}", name);
        CU_ASSERT_EQUAL(ledger_reason(&a, &s.c.bob, command), PEP_OK);
    }
    CU_ASSERT_TRUE(ledger_settles(&a, &s.c.bob));
}

#define RETAINED 3

static char retained[RETAINED][64];

static void send_retained(void)
{
    for (int qos = 0; qos < RETAINED; qos++) {
        new_topic(retained[qos], "r", GONE);
        sealed e = marked(&s.c.alice, retained[qos], 0, NULL);
        send_good(retained[qos], &e, qos, true);
    }
}

static void clear_retained(void)
{
    for (int qos = 0; qos < RETAINED; qos++) {
        sealed e = seal((seal_spec){.from = &s.c.alice, .topic = retained[qos], .flags = PEP_FLAG_CLEAR});
        send(retained[qos], &e, qos, true, REASON_SUCCESS);
        CU_ASSERT_TRUE(client_gets(s.to, retained[qos], NULL, 0));
    }
}

static void send_all(void)
{
    send_unrecorded("r");
    send_unrecorded("no");
    send_will();
    send_unrecorded_facts();
    send_recorded(KEPT);
    send_recorded(FORGOTTEN);
    ask_and_forget();
    send_retained();
}

/* What was sent at QoS 1 and 2 and not refused, the will and the retained ones among it; not the clears. */
#define QUEUED (2 + 2 + 1 + 2 + 2 + 2 + 2)

/* The sleeper wakes, takes all that lay there for it, and sleeps again; the broker has its last answers, and knows. */
static void drain(void)
{
    int got = 0;
    broker_mark(&s.b);
    CU_ASSERT_EQUAL(client_publish(from, "end", "end", 3, 2, false), REASON_SUCCESS);
    CU_ASSERT_TRUE(client_gets(s.to, "end", "end", 3));
    client *c = client_open((client_spec){.port = s.b.port, .id = "sleeper", .keep_session = true});
    const client_message *m;
    while ((m = client_next(c)) != NULL && strcmp(m->topic, "end") != 0)
        got += m->n > 0;
    CU_ASSERT_PTR_NOT_NULL(m);
    CU_ASSERT_EQUAL(got, QUEUED);
    client_close(c);
    CU_ASSERT_TRUE(broker_logs(&s.b, "Client sleeper*disconnected"));
}

/* ---- saving ---- */

static bool is_new(const struct stat *before)
{
    struct stat now;
    return stat(broker_path(&s.b, "mosquitto.db"), &now) == 0 &&
           (now.st_ino != before->st_ino || now.st_mtim.tv_sec != before->st_mtim.tv_sec ||
            now.st_mtim.tv_nsec != before->st_mtim.tv_nsec);
}

/* The broker writes another file, and puts it in the place of the old one when it is whole. */
static void save(void)
{
    struct stat before = {.st_ino = 0};
    struct pollfd end = {.fd = s.b.pidfd, .events = POLLIN};
    int64_t deadline = monotonic_ms() + patience_ms();
    (void)stat(broker_path(&s.b, "mosquitto.db"), &before);
    kill(s.b.pid, SIGUSR1);
    while (!is_new(&before) && remaining_ms(deadline) > 0)
        CU_ASSERT_EQUAL(poll(&end, 1, 5), 0);
    CU_ASSERT_TRUE(is_new(&before));
    CU_ASSERT_TRUE(client_fence(s.to, s.to)); /* it has done what it had begun */
}

/* ---- the promise ---- */

static void after_delivery_and_a_stop(void)
{
    set(CONF_KEEPING);
    send_all();
    clear_retained();
    drain();
    part();
    broker_end(&s.b);
    nothing_is_left();
    what_was_recorded_is_there_once();
    strike();
}

/* What was queued lay in mosquitto.db when it was killed; so did what was retained. */
static void after_a_kill_and_a_save(void)
{
    set(CONF_KEEPING);
    send_all();
    save();
    CU_ASSERT_TRUE(in_files(GONE, false) > 0); /* in the clear, while it waits */
    client_close(from);
    asker_close(&a);
    stage_restart(&s, true);
    for (int i = 0; i < RETAINED; i++) /* the listener is shown them */
        CU_ASSERT_PTR_NOT_NULL(client_next(s.to));
    meet();
    clear_retained();
    drain();
    save();
    nothing_is_left();
    what_was_recorded_is_there_once();
    part();
    broker_end(&s.b);
    nothing_is_left();
    what_was_recorded_is_there_once();
    strike();
}

/* ---- the one who looks ---- */

static void send_one(void)
{
    char topic[64];
    new_topic(topic, "r", GONE);
    sealed e = marked(&s.c.alice, topic, 0, NULL);
    send_good(topic, &e, 1, false);
}

/* Nothing is found, and then it is, where something was planted. */
static void a_file_is_noticed(void)
{
    char marker[MARK_BYTES];
    set(CONF_KEEPING);
    new_marker(marker, GONE);
    CU_ASSERT_EQUAL(in_files(GONE, false), 0);
    broker_write(&s.b, "state/left.tmp", marker);
    CU_ASSERT_EQUAL(in_files(GONE, false), 1);
    strike();
}

static void a_talkative_log_is_noticed(void)
{
    set(CONF_KEEPING "log_type all\n");
    send_one();
    part();
    broker_end(&s.b);
    CU_ASSERT_TRUE(in_files(GONE, false) > 0);
    strike();
}

static void what_is_queued_is_noticed(void)
{
    set(CONF_KEEPING);
    send_one();
    part();
    broker_end(&s.b);
    CU_ASSERT_TRUE(in_files(GONE, false) > 0);
    strike();
}

/* The sleeper's session ends, so that nothing is queued. */
static void what_is_retained_is_noticed(void)
{
    set(CONF_KEEPING);
    client_close(stage_client(&s, "sleeper"));
    send_retained();
    part();
    broker_end(&s.b);
    CU_ASSERT_TRUE(in_files(GONE, false) > 0);
    strike();
}

/* A ledger that recorded what nobody asked for would be found out. */
static void what_is_recorded_is_noticed(void)
{
    const kind gone = GONE;
    set(CONF_KEEPING);
    sealed e = marked(&s.c.alice, "r/a", 0, &gone);
    send_good("r/a", &e, 0, false);
    CU_ASSERT_TRUE(ledger_settles(&a, &s.c.bob));
    if (ledger_on_postgres) {
        CU_ASSERT_EQUAL(in_tables(beginnings[GONE]), 1);
        CU_ASSERT_TRUE(in_cluster(GONE, false) > 0);
    } else {
        CU_ASSERT_TRUE(in_files(GONE, false) > 0);
    }
    strike();
}

/* As text of another table, and as bytes. */
static void rows_are_noticed(void)
{
    char sql[512], marker[MARK_BYTES];
    set(CONF_KEEPING);
    new_marker(marker, GONE);
    CU_ASSERT_EQUAL(in_tables(beginnings[GONE]), 0);
    snprintf(sql, sizeof(sql),
             "INSERT INTO pep_ledger_erasures (time, author, conditions, count) VALUES (1, 'bob', '%s', 0)", marker);
    CU_ASSERT_TRUE(postgres_sql(&ledger_server, ledger_database, sql));
    CU_ASSERT_EQUAL(in_tables(beginnings[GONE]), 1);
    snprintf(sql, sizeof(sql), "CREATE TABLE other AS SELECT CAST('%s' AS bytea) AS b", marker);
    CU_ASSERT_TRUE(postgres_sql(&ledger_server, ledger_database, sql));
    CU_ASSERT_EQUAL(in_tables(beginnings[GONE]), 2);
    strike();
}

static const unit_test COMMON[] = {
    {"after delivery and a stop", after_delivery_and_a_stop},
    {"after a kill and a save", after_a_kill_and_a_save},
    {"what is recorded is noticed", what_is_recorded_is_noticed},
};

static const unit_test SQLITE_ALONE[] = {
    {"a file is noticed", a_file_is_noticed},
    {"a talkative log is noticed", a_talkative_log_is_noticed},
    {"what is queued is noticed", what_is_queued_is_noticed},
    {"what is retained is noticed", what_is_retained_is_noticed},
};

static const unit_test POSTGRES_ALONE[] = {
    {"rows are noticed", rows_are_noticed},
};

int main(void)
{
    if (!ledger_begin())
        return 1;
    int failed = ledger_run(false, "trace", COMMON, sizeof(COMMON) / sizeof(COMMON[0]));
    failed |= ledger_run(false, "trace alone", SQLITE_ALONE, sizeof(SQLITE_ALONE) / sizeof(SQLITE_ALONE[0]));
    failed |= ledger_run(true, "trace", COMMON, sizeof(COMMON) / sizeof(COMMON[0]));
    failed |= ledger_run(true, "trace alone", POSTGRES_ALONE, sizeof(POSTGRES_ALONE) / sizeof(POSTGRES_ALONE[0]));
    ledger_end();
    return failed;
}
