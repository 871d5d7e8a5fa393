/* Translates the broker's events into calls of the gate, and verdicts into return codes. */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "plugin/plugin.h"

/*
 * "Not our business, ask the next one", and denied where nobody allows. Never MOSQ_ERR_SUCCESS at an access check: that
 * would silence every ACL behind us. Nor 2.1's MOSQ_ERR_PLUGIN_IGNORE: there the last of several plugins decides what
 * all of them saying no means, and after an IGNORE what another one in front of us would not allow is allowed.
 */
#define NOT_OURS MOSQ_ERR_PLUGIN_DEFER

static gate_message message_of(const struct mosquitto *client)
{
    return (gate_message){
        .client = client,
        .client_id = mosquitto_client_id(client),
        .username = mosquitto_client_username(client),
        .address = mosquitto_client_address(client),
    };
}

/* check_retain_source asks about a retained message on behalf of a client made up for the purpose. */
static bool is_phantom(const struct mosquitto *client)
{
    return mosquitto_client_address(client) == NULL && mosquitto_client_protocol_version(client) == 0;
}

void events_tell(plugin *p, const gate_message *m, const gate_verdict *verdict)
{
    if (verdict->reason == PEP_OK || !verdict->news)
        return;
    report_refusal(&p->report, m, verdict);
    if (verdict->action == GATE_REFUSE && !m->stored)
        notices_add(p->notices, m, verdict);
}

/*
 * Under $PEP there are our notices, each for one client, and what the directory serves, and nothing else: whatever lay
 * in the broker before we were loaded is not passed on, retained or queued.
 */
static bool may_read_ours(const plugin *p, const struct mosquitto_evt_acl_check *e)
{
    if (notices_are_on(e->topic))
        return e->qos == 0 && !e->retain && notices_are_for(mosquitto_client_id(e->client), e->topic);
    return directory_served(p->directory, e->topic, e->payload, e->payloadlen);
}

/* Commands are for nobody to read, 2.0.11's wills among them, and answers are never retained. */
static bool is_forged_control(const struct mosquitto_evt_acl_check *e)
{
    return policy_is_below(e->topic, "$CONTROL/pep") && (e->retain || strcmp(e->topic, PEP_ANSWER_TOPIC) != 0);
}

/* Asked before each delivery. What was judged a moment ago is known by its pointers. */
static int on_read(plugin *p, const struct mosquitto_evt_acl_check *e)
{
    if (policy_is_below(e->topic, "$PEP"))
        return may_read_ours(p, e) ? NOT_OURS : MOSQ_ERR_ACL_DENIED;
    if (is_forged_control(e))
        return MOSQ_ERR_ACL_DENIED;
    gate_message m = message_of(e->client);
    m.stored = true;
    m.topic = e->topic;
    m.payload = e->payload;
    m.payload_n = e->payloadlen;
    m.qos = e->qos;
    m.retain = e->retain;
    gate_verdict verdict = gate_at_delivery(p->gate, &m);
    if (verdict.action != GATE_REFUSE || (m.retain && gate_is_auditor(p->gate, &m)))
        return NOT_OURS;
    events_tell(p, &m, &verdict);
    return MOSQ_ERR_ACL_DENIED;
}

static int on_acl_check(int event, void *event_data, void *userdata)
{
    const struct mosquitto_evt_acl_check *e = event_data;
    plugin *p = userdata;
    (void)event;
    if (e->access == MOSQ_ACL_READ)
        return on_read(p, e);
    if (e->access != MOSQ_ACL_WRITE)
        return NOT_OURS;
    gate_message m = message_of(e->client);
    m.stored = is_phantom(e->client);
    m.topic = e->topic;
    m.payload = e->payload;
    m.payload_n = e->payloadlen;
    m.qos = e->qos;
    m.retain = e->retain;
    gate_verdict verdict = gate_at_access(p->gate, &m);
    events_tell(p, &m, &verdict);
    return verdict.action == GATE_REFUSE ? MOSQ_ERR_ACL_DENIED : NOT_OURS;
}

static int on_message(int event, void *event_data, void *userdata)
{
    struct mosquitto_evt_message *e = event_data;
    plugin *p = userdata;
    (void)event;
    gate_message m = message_of(e->client);
    m.bridge = m.address == NULL;
    m.topic = e->topic;
    m.payload = e->payload;
    m.payload_n = e->payloadlen;
    m.qos = e->qos;
    m.retain = e->retain;
    gate_verdict verdict = gate_at_message(p->gate, &m);
    events_tell(p, &m, &verdict);
    if (verdict.action == GATE_REFUSE)
        return MOSQ_ERR_ACL_DENIED;
    if (verdict.action == GATE_CLEAR) { /* the broker frees the old payload, and takes this for its own clear */
        e->payload = NULL;
        e->payloadlen = 0;
    }
    return MOSQ_ERR_SUCCESS;
}

static void kick(plugin *p)
{
    for (char *client_id; (client_id = gate_next_kick(p->gate)) != NULL; free(client_id)) {
        report_kick(client_id);
        mosquitto_kick_client_by_clientid(client_id, true);
    }
}

static int on_tick(int event, void *event_data, void *userdata)
{
    struct mosquitto_evt_tick *e = event_data;
    plugin *p = userdata;
    (void)event;
    gate_tick(p->gate);
    bool more = control_tick(p);
    if (broker_is_2_1())
        e->TICK_NEXT_MS = more ? 1 : 100; /* 2.1 ticks when asked to; 2.0 on every turn of its loop, or after 100 ms */
    kick(p);
    notices_tick(p->notices);
    report_tick(&p->report, p->gate, p->directory, p->ledger, notices_counted(p->notices));
    return MOSQ_ERR_SUCCESS;
}

static int on_disconnect(int event, void *event_data, void *userdata)
{
    const struct mosquitto_evt_disconnect *e = event_data;
    plugin *p = userdata;
    (void)event;
    gate_message m = message_of(e->client);
    gate_disconnected(p->gate, &m);
    if (m.client_id != NULL) /* 2.0 tells twice of some, then without */
        directory_gone(p->directory, m.client_id);
    return MOSQ_ERR_SUCCESS;
}

/* 2.0 ends the chain of plugins at SUCCESS, and leaves its ACLs unloaded at an error; 2.1 takes DEFER for an error. */
static int on_reload(int event, void *event_data, void *userdata)
{
    (void)event;
    (void)event_data;
    control_reload(userdata);
    return broker_is_2_1() ? MOSQ_ERR_SUCCESS : MOSQ_ERR_PLUGIN_DEFER;
}

static const struct {
    int event;
    MOSQ_FUNC_generic_callback callback;
    const char *of; /* which control topic */
} callbacks[] = {
    {MOSQ_EVT_ACL_CHECK, on_acl_check, NULL}, {MOSQ_EVT_MESSAGE, on_message, NULL},
    {MOSQ_EVT_TICK, on_tick, NULL},           {MOSQ_EVT_DISCONNECT, on_disconnect, NULL},
    {MOSQ_EVT_RELOAD, on_reload, NULL},       {MOSQ_EVT_CONTROL, control_on_command, PEP_CONTROL_TOPIC},
};

int events_register(plugin *p)
{
    for (size_t i = 0; i < sizeof callbacks / sizeof callbacks[0]; i++) {
        int rc = mosquitto_callback_register(p->id, callbacks[i].event, callbacks[i].callback, callbacks[i].of, p);
        if (rc == MOSQ_ERR_ALREADY_EXISTS && callbacks[i].of != NULL)
            mosquitto_log_printf(MOSQ_LOG_WARNING,
                                 "pep: another plugin takes the commands on %s: this one carries out "
                                 "none",
                                 callbacks[i].of);
        else if (rc != MOSQ_ERR_SUCCESS)
            return rc;
    }
    return MOSQ_ERR_SUCCESS;
}

void events_unregister(plugin *p)
{
    for (size_t i = 0; i < sizeof callbacks / sizeof callbacks[0]; i++)
        mosquitto_callback_unregister(p->id, callbacks[i].event, callbacks[i].callback, callbacks[i].of);
}
