/*
 * Promise: pep's counters can be read by the exporters that operators have.
 *
 * This client reads $SYS by the rules of sapcc/mosquitto-exporter (main.go, v0.8.0: its subscription, parseTopic,
 * parseValue), a widely used exporter for Prometheus. There every topic becomes a metric, and a name that Prometheus
 * does not allow, or that is there already, ends the exporter. Up to v0.4.0 it left `-` in names, which ends it at any
 * reason with a hyphen; later ones make it `_`.
 */
#include <ctype.h>
#include <mosquitto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stage.h"
#include "tests/unit/unit.h"

#define METRICS_MAX 512
#define OURS        "$SYS/broker/pep/"

typedef struct {
    char topic[128], name[128];
    double value;
    bool whole; /* the payload is a number and nothing else */
} metric;

static metric metrics[METRICS_MAX];
static size_t metric_count;

/* ---- the exporter's rules ---- */

static bool is_ignored(const char *topic)
{
    static const char *const topics[] = {"$SYS/broker/timestamp", "$SYS/broker/version", "$SYS/broker/clients/active",
                                         "$SYS/broker/clients/inactive"};
    for (size_t i = 0; i < sizeof(topics) / sizeof(topics[0]); i++)
        if (strcmp(topic, topics[i]) == 0)
            return true;
    return false;
}

/* Without "$SYS/"; slash, space, hyphen and dot become underscores, all else stays. */
static void name_of(char *name, size_t cap, const char *topic)
{
    const char *sys = strstr(topic, "$SYS/");
    int before = sys != NULL ? (int)(sys - topic) : 0;
    snprintf(name, cap, "%.*s%s", before, topic, sys != NULL ? sys + strlen("$SYS/") : topic);
    for (char *c = name; *c != '\0'; c++)
        if (strchr("/ -.", *c) != NULL)
            *c = '_';
}

static size_t digits(const char *text)
{
    return strspn(text, "0123456789");
}

/* How much of the text's head is a number to it: digits, or a fraction, which alone may have a sign. */
static size_t number_at(const char *text)
{
    size_t sign = text[0] == '-';
    size_t n = digits(text + sign);
    size_t fraction = n > 0 && text[sign + n] == '.' ? digits(text + sign + n + 1) : 0;
    if (fraction > 0)
        return sign + n + 1 + fraction;
    return sign == 0 ? n : 0;
}

/* The first number in the payload; 0 where there is none. */
static double value_of(const char *payload, bool *whole)
{
    size_t n = 0;
    const char *at = payload;
    while (*at != '\0' && (n = number_at(at)) == 0)
        at++;
    *whole = at == payload && n > 0 && at[n] == '\0';
    return n > 0 ? strtod(at, NULL) : 0;
}

/* ---- what Prometheus allows ---- */

static bool is_valid_name(const char *name)
{
    bool good = *name != '\0' && !isdigit((unsigned char)*name);
    for (; *name != '\0'; name++)
        good = good && (isalnum((unsigned char)*name) || *name == '_' || *name == ':');
    return good;
}

/* ---- the client ---- */

static metric *metric_of(const char *topic)
{
    for (size_t i = 0; i < metric_count; i++)
        if (strcmp(metrics[i].topic, topic) == 0)
            return &metrics[i];
    if (metric_count == METRICS_MAX)
        return NULL;
    metric *m = &metrics[metric_count++];
    snprintf(m->topic, sizeof(m->topic), "%s", topic);
    name_of(m->name, sizeof(m->name), topic);
    return m;
}

static void on_message(struct mosquitto *mosq, void *user, const struct mosquitto_message *message)
{
    (void)mosq;
    (void)user;
    metric *m = is_ignored(message->topic) ? NULL : metric_of(message->topic);
    char payload[64];
    snprintf(payload, sizeof(payload), "%.*s", message->payloadlen, (const char *)message->payload);
    if (m != NULL)
        m->value = value_of(payload, &m->whole);
}

static void on_connect(struct mosquitto *mosq, void *user, int rc)
{
    (void)user;
    CU_ASSERT_EQUAL(rc, 0);
    CU_ASSERT_EQUAL(mosquitto_subscribe(mosq, NULL, "$SYS/#", 0), MOSQ_ERR_SUCCESS);
}

static struct mosquitto *exporter_open(int port)
{
    metric_count = 0;
    mosquitto_lib_init();
    struct mosquitto *mosq = mosquitto_new(NULL, true, NULL);
    mosquitto_connect_callback_set(mosq, on_connect);
    mosquitto_message_callback_set(mosq, on_message);
    CU_ASSERT_EQUAL(mosquitto_connect(mosq, "127.0.0.1", port, 60), MOSQ_ERR_SUCCESS);
    return mosq;
}

static void exporter_close(struct mosquitto *mosq)
{
    mosquitto_disconnect(mosq);
    mosquitto_destroy(mosq);
    mosquitto_lib_cleanup();
}

/* -1: there is no such metric. */
static double value_named(const char *name)
{
    for (size_t i = 0; i < metric_count; i++)
        if (strcmp(metrics[i].name, name) == 0)
            return metrics[i].value;
    return -1;
}

static bool comes_to(struct mosquitto *mosq, const char *name, double value)
{
    int64_t deadline = monotonic_ms() + patience_ms();
    while (value_named(name) < value && remaining_ms(deadline) > 0)
        if (mosquitto_loop(mosq, remaining_ms(deadline), 1) != MOSQ_ERR_SUCCESS)
            break;
    if (value_named(name) != value)
        fprintf(stderr, "%s is %g, expected %g\n", name, value_named(name), value);
    return value_named(name) == value;
}

/* ---- tests ---- */

static bool is_unique(size_t i)
{
    for (size_t k = 0; k < metric_count; k++)
        if (k != i && strcmp(metrics[k].name, metrics[i].name) == 0)
            return false;
    return true;
}

static size_t check_ours(void)
{
    size_t ours = 0;
    for (size_t i = 0; i < metric_count; i++) {
        const metric *m = &metrics[i];
        if (strncmp(m->topic, OURS, strlen(OURS)) != 0)
            continue;
        bool good = is_valid_name(m->name) && is_unique(i) && m->whole;
        if (!good)
            fprintf(stderr, "%s: as %s no good metric, or no number\n", m->topic, m->name);
        CU_ASSERT_TRUE(good);
        ours++;
    }
    return ours;
}

static const char *name_for(const char *prefix, int reason)
{
    static char name[128];
    char topic[128];
    snprintf(topic, sizeof(topic), "%s%s", prefix, pep_reason_name((pep_reason)reason));
    name_of(name, sizeof(name), topic);
    return name;
}

static void every_counter_is_a_metric(void)
{
    stage s;
    stage_set(&s, GUARD_POLICY, CONF_GUARDED "sys_interval 1\n");
    struct mosquitto *mosq = exporter_open(s.b.port);
    for (int reason = PEP_OK + 1; reason <= PEP_RATE_LIMITED; reason++) {
        CU_ASSERT_TRUE(comes_to(mosq, name_for(OURS "refused/", reason), 0));
        CU_ASSERT_TRUE(comes_to(mosq, name_for(OURS "observed/", reason), 0));
    }
    CU_ASSERT_TRUE(comes_to(mosq, "broker_publish_messages_dropped", 0)); /* Mosquitto's are there, too */
    size_t ours = check_ours();
    CU_ASSERT_TRUE(ours > 2 * (size_t)PEP_RATE_LIMITED);
    CU_ASSERT_TRUE(metric_count > ours + 30);
    exporter_close(mosq);
    stage_strike(&s);
}

static void they_rise(void)
{
    stage s;
    stage_set(&s, GUARD_POLICY, CONF_GUARDED);
    struct mosquitto *mosq = exporter_open(s.b.port);
    client *alice = stage_client(&s, "alice");
    sealed plain = case_of(PEP_PLAIN_PAYLOAD)->make(&s.c, "t/a", 0);
    for (int i = 0; i < 3; i++) {
        sealed e = seal((seal_spec){.from = &s.c.alice, .topic = "t/a"});
        CU_ASSERT_TRUE(stage_passes(&s, alice, "t/a", &e, 1, false));
    }
    CU_ASSERT_TRUE(stage_refuses(&s, alice, "t/a", &plain, 1, false, PEP_PLAIN_PAYLOAD));
    CU_ASSERT_TRUE(comes_to(mosq, "broker_pep_messages_accepted", 3));
    CU_ASSERT_TRUE(comes_to(mosq, "broker_pep_verifications_count", 3));
    CU_ASSERT_TRUE(comes_to(mosq, "broker_pep_messages_refused", 1));
    CU_ASSERT_TRUE(comes_to(mosq, "broker_pep_refused_plain_payload", 1));
    client_close(alice);
    exporter_close(mosq);
    stage_strike(&s);
}

static const unit_test TESTS[] = {
    {"every counter is a metric", every_counter_is_a_metric},
    {"they rise", they_rise},
};
UNIT_MAIN("exporter", TESTS)
