#include "stage.h"

#include <CUnit/CUnit.h>
#include <stdio.h>
#include <string.h>

void stage_prepare(stage *s, const char *policy, const char *conf)
{
    memset(s, 0, sizeof(*s));
    broker_make(&s->b);
    broker_write(&s->b, "policy.conf", policy);
    broker_write(&s->b, "mosquitto.conf", conf);
    cast_make(&s->c, &s->b);
}

void stage_listen(stage *s)
{
    s->to = client_open((client_spec){.port = s->b.port, .id = "listener"});
    client_subscribe(s->to, "#", 2);
    client_subscribe(s->to, COUNTERS, 0);
}

void stage_open(stage *s)
{
    if (!broker_start(&s->b)) {
        broker_show_log(&s->b);
        stage_strike(s);
        CU_FAIL_FATAL("the broker does not start");
    }
    stage_listen(s);
}

void stage_set(stage *s, const char *policy, const char *conf)
{
    stage_prepare(s, policy, conf);
    stage_open(s);
}

void stage_strike(stage *s)
{
    if (s->to != NULL)
        client_close(s->to);
    cast_wipe(&s->c);
    broker_drop(&s->b);
}

/* The bridge subscribes in the order of its lines: once the retained probe has come through, all others are there. */
void stage_set_bridged(stage *s, upstream *u, const char *policy, const char *topics)
{
    char conf[1024];
    broker_make(&u->b);
    broker_write(&u->b, "mosquitto.conf", CONF_BASE CONF_ACL);
    CU_ASSERT_TRUE(broker_start(&u->b));
    u->from = client_open((client_spec){.port = u->b.port, .id = "upstream"});
    CU_ASSERT_EQUAL(client_publish(u->from, "probe", "up", 2, 1, true), REASON_SUCCESS);
    snprintf(conf, sizeof(conf),
             CONF_GUARDED "connection elsewhere\naddress 127.0.0.1:%d\nlocal_clientid " BRIDGE_CLIENT "\n"
                          "notifications false\ntopic " FENCE_TOPIC " in 2\n%stopic probe in 2\n",
             u->b.port, topics);
    stage_set(s, policy, conf);
    CU_ASSERT_TRUE(client_gets(s->to, "probe", "up", 2));
}

void stage_strike_bridged(stage *s, upstream *u)
{
    client_close(u->from);
    stage_strike(s);
    broker_drop(&u->b);
}

void stage_restart(stage *s, bool hard)
{
    client_close(s->to);
    if (hard)
        broker_kill(&s->b);
    else
        broker_end(&s->b);
    CU_ASSERT_TRUE(broker_start(&s->b));
    stage_listen(s);
}

client *stage_client(const stage *s, const char *id)
{
    return client_open((client_spec){.port = s->b.port, .id = id});
}

bool stage_passes(const stage *s, client *from, const char *topic, const sealed *e, int qos, bool retain)
{
    return client_publish(from, topic, e->bytes, e->n, qos, retain) == REASON_SUCCESS &&
           client_gets(s->to, topic, e->bytes, e->n);
}

bool stage_logged(const stage *s, pep_reason reason, const char *id, const char *topic)
{
    char text[256];
    snprintf(text, sizeof(text), "pep: [rw]* %s: client %s topic %s", pep_reason_name(reason), id, topic);
    return broker_logs(&s->b, text);
}

int denial(mqtt_version version, int qos)
{
    return version == MQTT_5 && qos > 0 ? REASON_NOT_AUTHORIZED : REASON_SUCCESS;
}

bool stage_refuses(stage *s, client *from, const char *topic, const sealed *e, int qos, bool retain, pep_reason reason)
{
    int expected = denial(client_version(from), qos);
    broker_mark(&s->b);
    int answer = client_publish(from, topic, e->bytes, e->n, qos, retain);
    bool fenced = client_fence(s->to, from);
    bool logged = stage_logged(s, reason, client_id(from), topic);
    if (answer != expected || !logged)
        fprintf(stderr, "%s at QoS %d: answer %d, expected %d; %s\n", pep_reason_name(reason), qos, answer, expected,
                logged ? "logged" : "not logged");
    return answer == expected && fenced && logged;
}

static void drop_with_will(wire_spec spec)
{
    wire w = wire_open(spec);
    wire_drop(&w);
}

bool stage_passes_will(const stage *s, wire_spec spec)
{
    drop_with_will(spec);
    return client_gets(s->to, spec.will_topic, spec.will, spec.will_n);
}

bool stage_refuses_will(stage *s, wire_spec spec, pep_reason reason)
{
    broker_mark(&s->b);
    drop_with_will(spec);
    bool refused = stage_logged(s, reason, spec.id, spec.will_topic);
    if (!refused)
        fprintf(stderr, "will not refused as %s\n", pep_reason_name(reason));
    return client_fence(s->to, s->to) && refused;
}

bool stage_tries(stage *s, const seal_case *k, client *from, const char *topic)
{
    sealed first, e;
    if (case_make(k, &s->c, topic, 0, &first, &e) && !stage_passes(s, from, topic, &first, 1, false))
        return false;
    return k->reason == PEP_OK ? stage_passes(s, from, topic, &e, 1, false)
                               : stage_refuses(s, from, topic, &e, 1, false, k->reason);
}

long stage_count(const stage *s, const char *name, long accepted)
{
    CU_ASSERT_EQUAL(client_counter_reaches(s->to, "messages/accepted", accepted), accepted);
    CU_ASSERT_TRUE(client_fence(s->to, s->to));
    return client_counter(s->to, name);
}
