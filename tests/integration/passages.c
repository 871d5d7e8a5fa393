/* How to go through each door: brokers, clients, and the bytes' way in. */
#include <CUnit/CUnit.h>
#include <stdio.h>
#include <string.h>

#include "doors.h"

#define CONF_MAX 2048

/* ---- the stage ---- */

#define DYNSEC_JSON                                                                                                    \
    "{ \"defaultACLAccess\": { \"publishClientSend\": false, \"publishClientReceive\": true,\n"                        \
    "                         \"subscribe\": true, \"unsubscribe\": true },\n"                                         \
    "  \"anonymousGroup\": \"guests\",\n"                                                                              \
    "  \"clients\": [],\n"                                                                                             \
    "  \"groups\": [ { \"groupname\": \"guests\", \"roles\": [ { \"rolename\": \"guest\" } ] } ],\n"                   \
    "  \"roles\": [ { \"rolename\": \"guest\", \"acls\": [\n"                                                          \
    "    { \"acltype\": \"publishClientSend\", \"topic\": \"fence\", \"allow\": true },\n"                             \
    "    { \"acltype\": \"publishClientSend\", \"topic\": \"t/#\", \"allow\": true } ] } ] }\n"

static const char *policy_of(const door *d)
{
    return d->policy != NULL ? d->policy : GUARD_POLICY;
}

static const char *conf_of(const door *d)
{
    return d->conf != NULL ? d->conf : CONF_GUARDED;
}

/* What some configurations name; the others do not look at it. */
static void write_files(visit *v)
{
    broker_copy(&v->s.b, "second.so", broker_path(&v->s.b, "mosquitto_pep.so"));
    broker_write(&v->s.b, "elsewhere.conf",
                 GUARD_HEAD("none") GUARD_TOPICS("{ filter = \"elsewhere\"; signers = [ \"*\" ]; }"));
    broker_write(&v->s.b, "dynsec.json", DYNSEC_JSON);
    broker_write(&v->s.b, "narrow-acl", "topic readwrite fence\ntopic write t/#\ntopic read #\ntopic read $SYS/#\n");
}

/* `#` leaves out what begins with $. What the directory itself serves there is left alone. */
static void listen_to_reserved(visit *v)
{
    char filter[64];
    if (v->d->prefix == NULL || v->d->prefix[0] != '$')
        return;
    snprintf(filter, sizeof(filter), "%st/#", v->d->prefix);
    client_subscribe(v->s.to, filter, 2);
}

static void open_with(visit *v, const char *policy, const char *conf)
{
    stage_prepare(&v->s, policy, conf);
    write_files(v);
    stage_open(&v->s);
    listen_to_reserved(v);
}

static void open_stage(visit *v)
{
    open_with(v, policy_of(v->d), conf_of(v->d));
}

static void close_stage(visit *v)
{
    if (v->from != NULL)
        client_close(v->from);
    stage_strike(&v->s);
}

/* ---- publishing ---- */

static client *alice_at(const visit *v, int port)
{
    return client_open((client_spec){.port = port, .id = "alice", .version = v->d->version});
}

static void open_published(visit *v)
{
    open_stage(v);
    v->from = alice_at(v, v->s.b.port);
}

static int publish_on(visit *v, const char *topic, const sealed *e)
{
    return client_publish(v->from, topic, e->bytes, e->n, v->d->qos, v->d->retain);
}

static int knock_published(visit *v, visit_cell *c, int i)
{
    return publish_on(v, c->topic, &c->sent[i]);
}

const door_passage PUBLISHED = {open_published, knock_published, NULL, close_stage, true, NULL};

/* The listener is the one member of a group. */
static void open_shared(visit *v)
{
    open_published(v);
    client_close(v->s.to);
    v->s.to = stage_client(&v->s, "listener");
    client_subscribe(v->s.to, "$share/group/#", 2);
}

const door_passage SHARED = {open_shared, knock_published, NULL, close_stage, true, NULL};

/* A topic alias is set by what precedes the case; the case itself names no topic. */
static void open_aliased(visit *v)
{
    open_stage(v);
    v->w = wire_open((wire_spec){.port = v->s.b.port, .version = MQTT_5, .id = "alice"});
}

static int qos_2_released(const visit *v, uint16_t mid, int reason)
{
    if (reason >= 0x80)
        return reason;
    wire_release(&v->w, mid);
    return wire_answer(&v->w, WIRE_PUBCOMP, mid, &reason) ? reason : CLIENT_LOST;
}

static int publish_by_hand(visit *v, wire_message m)
{
    int reason = 0;
    wire_publish(&v->w, m);
    if (m.qos > 0 && !wire_answer(&v->w, m.qos == 1 ? WIRE_PUBACK : WIRE_PUBREC, m.mid, &reason))
        return CLIENT_LOST;
    reason = reason == REASON_NO_SUBSCRIBERS ? REASON_SUCCESS : reason;
    return m.qos == 2 ? qos_2_released(v, m.mid, reason) : reason;
}

static int knock_aliased(visit *v, visit_cell *c, int i)
{
    uint16_t mid = (uint16_t)((c - v->cells) * SENT_MAX + i + 1);
    return publish_by_hand(v, (wire_message){.topic = i == 0 ? c->topic : "",
                                             .bytes = c->sent[i].bytes,
                                             .n = c->sent[i].n,
                                             .qos = v->d->qos,
                                             .mid = mid,
                                             .alias = 1});
}

static void close_by_hand(visit *v)
{
    wire_drop(&v->w);
    close_stage(v);
}

const door_passage ALIASED = {open_aliased, knock_aliased, NULL, close_by_hand, true, NULL};

/* SIGHUP with something new in the policy before each message, and nobody waits for it: several may become one. */
static int knock_amid_reloads(visit *v, visit_cell *c, int i)
{
    char policy[sizeof(GUARD_POLICY) + 32];
    snprintf(policy, sizeof(policy), "max_skew = \"%dm\";\n%s", 2 + (int)(c - v->cells), GUARD_POLICY);
    broker_write(&v->s.b, "new.conf", policy);
    CU_ASSERT_EQUAL(rename(broker_path(&v->s.b, "new.conf"), broker_path(&v->s.b, "policy.conf")), 0);
    broker_reload(&v->s.b);
    return knock_published(v, c, i);
}

const door_passage AMID_RELOADS = {open_published, knock_amid_reloads, NULL, close_stage, true, NULL};

/* Settings belong to the listener before them; a plugin must not guard the last one alone. */
static void open_on_listener(visit *v)
{
    char conf[CONF_MAX];
    stage_prepare(&v->s, policy_of(v->d), "");
    int port = v->s.b.port = broker_free_port();
    snprintf(conf, sizeof(conf),
             "per_listener_settings true\nlistener %d 127.0.0.1\n%slistener %d 127.0.0.2\nglobal_%s", port,
             CONF_BASE CONF_ACL, port, CONF_PLUGIN);
    broker_write(&v->s.b, "mosquitto.conf", conf);
    stage_open(&v->s);
    v->from = alice_at(v, port);
}

const door_passage ON_LISTENER = {open_on_listener, knock_published, NULL, close_stage, true, NULL};

/* Through a listener with a mount_point; everybody else is at one without. */
static void open_mounted(visit *v)
{
    char conf[CONF_MAX];
    stage_prepare(&v->s, policy_of(v->d), "");
    v->s.b.port = broker_free_port();
    int port = broker_free_port();
    snprintf(conf, sizeof(conf), CONF_GUARDED "listener %d 127.0.0.1\nlistener %d 127.0.0.1\nmount_point %s\n",
             v->s.b.port, port, v->d->prefix);
    broker_write(&v->s.b, "mosquitto.conf", conf);
    stage_open(&v->s);
    v->from = alice_at(v, port);
}

static int knock_mounted(visit *v, visit_cell *c, int i)
{
    return publish_on(v, c->signed_topic, &c->sent[i]);
}

const door_passage MOUNTED = {open_mounted, knock_mounted, NULL, close_stage, true, NULL};

/* ---- bridges ---- */

static void open_bridged(visit *v)
{
    stage_set_bridged(&v->s, &v->up, policy_of(v->d), v->d->conf);
    listen_to_reserved(v);
}

static int knock_bridged(visit *v, visit_cell *c, int i)
{
    const sealed *e = &c->sent[i];
    return client_publish(v->up.from, c->signed_topic, e->bytes, e->n, v->d->qos, v->d->retain);
}

static void close_bridged(visit *v)
{
    stage_strike_bridged(&v->s, &v->up);
}

const door_passage BRIDGED = {open_bridged, knock_bridged, NULL, close_bridged, false, BRIDGE_CLIENT};

/* ---- wills ---- */

/* What comes before the case is sent at once, also where the case's own will is delayed. */
static wire_spec will_of(const visit *v, const visit_cell *c, int i)
{
    const door *d = v->d;
    bool delayed = d->delay_s > 0 && i == c->sent_n - 1;
    return (wire_spec){.port = v->s.b.port,
                       .version = d->version,
                       .id = c->client_id,
                       .username = d->delay_s > 0 ? "alice" : NULL,
                       .keep_session = delayed,
                       .will_topic = c->topic,
                       .will = c->sent[i].bytes,
                       .will_n = c->sent[i].n,
                       .will_qos = d->qos,
                       .will_retain = d->retain,
                       .will_delay_s = delayed ? d->delay_s : 0};
}

static bool connected_with_will(visit *v, visit_cell *c, int i)
{
    c->shut = !wire_try(&v->w, will_of(v, c, i));
    return !c->shut;
}

/* A delayed will waits with its session, so each of those has its own. */
static int knock_dropped(visit *v, visit_cell *c, int i)
{
    if (v->d->delay_s > 0)
        snprintf(c->client_id, sizeof(c->client_id), "alice-%zu", (size_t)(c - v->cells));
    connected_with_will(v, c, i);
    wire_drop(&v->w);
    return REASON_SUCCESS;
}

static int closed_by_broker(visit *v)
{
    bool closed = wire_closed(&v->w);
    wire_drop(&v->w);
    return closed ? REASON_SUCCESS : CLIENT_LOST;
}

static int knock_taken_over(visit *v, visit_cell *c, int i)
{
    if (!connected_with_will(v, c, i))
        return CLIENT_LOST;
    wire second = wire_open((wire_spec){.port = v->s.b.port, .version = v->d->version, .id = "alice"});
    wire_drop(&second);
    return closed_by_broker(v);
}

static int knock_with_garbage(visit *v, visit_cell *c, int i)
{
    if (!connected_with_will(v, c, i))
        return CLIENT_LOST;
    wire_garbage(&v->w);
    return closed_by_broker(v);
}

static int knock_leaving(visit *v, visit_cell *c, int i)
{
    if (!connected_with_will(v, c, i))
        return CLIENT_LOST;
    wire_leave_with_will(&v->w);
    return closed_by_broker(v);
}

/* Until the plugin has enough of it. */
static int knock_kicked(visit *v, visit_cell *c, int i)
{
    sealed forged = case_of(PEP_BAD_SIGNATURE)->make(&v->s.c, FLOOD_TOPIC, 0);
    if (!connected_with_will(v, c, i))
        return CLIENT_LOST;
    for (int n = 0; n < 10; n++)
        wire_publish(&v->w, (wire_message){.topic = FLOOD_TOPIC, .bytes = forged.bytes, .n = forged.n});
    return closed_by_broker(v);
}

const door_passage WILL_DROPPED = {open_stage, knock_dropped, NULL, close_stage, false, "alice*"};
const door_passage WILL_TAKEN_OVER = {open_stage, knock_taken_over, NULL, close_stage, false, NULL};
const door_passage WILL_AFTER_GARBAGE = {open_stage, knock_with_garbage, NULL, close_stage, false, NULL};
const door_passage WILL_ASKED_FOR = {open_stage, knock_leaving, NULL, close_stage, false, NULL};
const door_passage WILL_AFTER_KICK = {open_stage, knock_kicked, NULL, close_stage, false, NULL};

/* ---- what was let in before ---- */

static void listen_anew(visit *v)
{
    client_close(v->s.to);
    stage_listen(&v->s);
}

static void leave(visit *v)
{
    client_close(v->from);
    v->from = NULL;
}

static void open_before(visit *v)
{
    open_with(v, policy_of(v->d), v->d->before != NULL ? v->d->before : conf_of(v->d));
    v->from = alice_at(v, v->s.b.port);
}

static void restart_guarded(visit *v)
{
    leave(v);
    broker_write(&v->s.b, "policy.conf", GUARD_POLICY);
    broker_write(&v->s.b, "mosquitto.conf", conf_of(v->d));
    stage_restart(&v->s, false);
}

static void reload_guarded(visit *v)
{
    broker_write(&v->s.b, "policy.conf", GUARD_POLICY);
    broker_mark(&v->s.b);
    broker_reload(&v->s.b);
    CU_ASSERT_TRUE(broker_logs(&v->s.b, "pep: reloaded"));
}

static void reload_and_listen(visit *v)
{
    leave(v);
    reload_guarded(v);
    listen_anew(v);
}

const door_passage RESTORED = {open_before, knock_published, restart_guarded, close_stage, false, "*"};
const door_passage RETAINED_BEFORE = {open_before, knock_published, reload_and_listen, close_stage, false, "*"};

/* The first half of QoS 2 before the reload, the second behind it. */
static uint16_t held_mid(const visit *v, const visit_cell *c, int i)
{
    return (uint16_t)((c - v->cells) * SENT_MAX + i + 1);
}

static void open_held(visit *v)
{
    open_stage(v);
    v->w = wire_open((wire_spec){.port = v->s.b.port, .version = v->d->version, .id = "alice"});
}

static int knock_held(visit *v, visit_cell *c, int i)
{
    uint16_t mid = held_mid(v, c, i);
    wire_publish(&v->w,
                 (wire_message){.topic = c->topic, .bytes = c->sent[i].bytes, .n = c->sent[i].n, .qos = 2, .mid = mid});
    return wire_answer(&v->w, WIRE_PUBREC, mid, NULL) ? REASON_SUCCESS : CLIENT_LOST;
}

static void release_held(visit *v)
{
    reload_guarded(v);
    for (size_t n = 0; n < v->n; n++)
        for (int i = 0; i < v->cells[n].sent_n; i++) {
            uint16_t mid = held_mid(v, &v->cells[n], i);
            wire_release(&v->w, mid);
            CU_ASSERT_TRUE(wire_answer(&v->w, WIRE_PUBCOMP, mid, NULL));
        }
}

const door_passage HELD_BACK = {open_held, knock_held, release_held, close_by_hand, false, "listener"};

/* ---- no door at all ---- */

static void open_refused(visit *v)
{
    stage_prepare(&v->s, policy_of(v->d), conf_of(v->d));
    CU_ASSERT_FALSE(broker_start(&v->s.b));
    CU_ASSERT_NOT_EQUAL(v->s.b.exit_code, 0);
    CU_ASSERT_EQUAL(broker_log_count(&v->s.b, ": pep: "), 1);
}

const door_passage NOT_STARTED = {open_refused, NULL, NULL, close_stage, false, NULL};
