/* pep audit: the retained messages that the gate would refuse, and their removal. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/archive.h"
#include "client/commands.h"
#include "client/print.h"
#include "client/retained.h"
#include "client/sealing.h"
#include "directory/directory.h"
#include "gate/gate.h"

#define WINDOW       20                         /* clears that are not acknowledged yet */
#define FINDINGS_MAX ((size_t)64 * 1024 * 1024) /* bytes that findings may take */

static struct {
    option_list filters;
    const char *policy, *records, *state, *store, *key;
    bool purge, json;
} args;

static const option audit_options[] = {
    {OPTION_LIST, 't', true, "topic", &args.filters, "FILTER", "the topics to look at", 0, 0},
    {OPTION_TEXT, 0, false, "policy", &args.policy, "FILE", "the policy (default: " PEP_ETC "/policy.conf)", 0, 0},
    {OPTION_TEXT, 0, false, "records", &args.records, "DIR", "the records (default: " PEP_ETC "/records)", 0, 0},
    {OPTION_TEXT, 0, false, "state", &args.state, "DIR", "the broker's state folder (default: " PEP_STATE ")", 0, 0},
    {OPTION_TEXT, 0, false, "store", &args.store, "URL", "the directory (default: directory.db in that folder)", 0, 0},
    {OPTION_FLAG, 0, false, "purge", &args.purge, NULL, "clear what would be refused", 0, 0},
    {OPTION_TEXT, 0, false, "key", &args.key, "FILE", "with --purge: ID.key of one of the policy's admins", 0, 0},
    {OPTION_FLAG, 0, false, "json", &args.json, NULL, "print one JSON object a line", 0, 0},
    {0},
};

/* A retained message that the gate would refuse. Its payload is not kept. */
typedef struct {
    char *topic;
    size_t bytes;
    pep_reason reason;
    const policy_rule *rule;
    char signer[PEP_ID_MAX + 1]; /* "" where it is not known */
    int mid;                     /* of its clear; 0: none was sent */
    bool purged;
} finding;

typedef struct {
    retained look;
    signers *signers;
    gate *gate;
    sealer sealer;
    finding *findings;
    size_t count, cap;
    size_t memory;
    uint64_t looked_at, refused;
    bool blind;           /* the gate may withhold something from this client */
    bool confirming;      /* the second look, after the clears */
    uint64_t still_there; /* acknowledged clears that removed nothing */
    uint64_t unlisted;    /* refused ones that the second look showed, and that are no findings */
    size_t first_open, sent, outstanding;
    uint64_t deadline_ms; /* for the next acknowledgement */
} audit;

/* ---- judging ---- */

static finding *new_finding(audit *a)
{
    if (a->count == a->cap) {
        size_t cap = a->cap > 0 ? 2 * a->cap : 64;
        finding *more = realloc(a->findings, cap * sizeof(*more));
        if (more == NULL)
            return NULL;
        a->findings = more;
        a->cap = cap;
    }
    return &a->findings[a->count];
}

/* What has no room is counted, and not listed. */
static void keep(audit *a, const struct mosquitto_message *m, const gate_verdict *verdict)
{
    size_t memory = sizeof(finding) + strlen(m->topic) + 1;
    finding *f = a->memory + memory <= FINDINGS_MAX ? new_finding(a) : NULL;
    char *topic = f != NULL ? strdup(m->topic) : NULL;
    if (topic == NULL)
        return;
    *f = (finding){.topic = topic, .bytes = (size_t)m->payloadlen, .reason = verdict->reason, .rule = verdict->rule};
    (void)snprintf(f->signer, sizeof(f->signer), "%s", verdict->signer != NULL ? verdict->signer : "");
    a->memory += memory;
    a->count++;
}

static int by_topic(const void *a, const void *b)
{
    return strcmp(((const finding *)a)->topic, ((const finding *)b)->topic);
}

static void note_still_there(audit *a, char *topic)
{
    finding key = {.topic = topic};
    finding *f = a->count > 0 ? bsearch(&key, a->findings, a->count, sizeof(key), by_topic) : NULL;
    if (f == NULL) {
        a->unlisted++;
        return;
    }
    a->still_there += f->purged;
    f->purged = false;
}

static void judge(void *owner, const struct mosquitto_message *m)
{
    audit *a = owner;
    gate_message message = {
        .stored = true,
        .retain = true,
        .topic = m->topic,
        .payload = m->payload,
        .payload_n = (size_t)m->payloadlen,
        .qos = m->qos,
    };
    gate_tick(a->gate); /* it knows a message by its pointers, and these are used again */
    gate_verdict verdict = gate_at_delivery(a->gate, &message);
    bool refused = verdict.reason != PEP_OK && verdict.rule != NULL;
    if (a->confirming) {
        if (refused)
            note_still_there(a, m->topic);
        return;
    }
    a->looked_at++;
    a->refused += refused;
    if (refused)
        keep(a, m, &verdict);
}

/* ---- clearing ---- */

static void on_publish(struct mosquitto *client, void *link, int mid, int answer, const mosquitto_property *props)
{
    (void)client;
    (void)props;
    audit *a = ((retained *)((mqtt_link *)link)->owner)->owner;
    size_t i = a->first_open;
    while (i < a->sent && a->findings[i].mid != mid)
        i++;
    if (i == a->sent)
        return;
    finding *f = &a->findings[i];
    f->mid = 0;
    f->purged = answer < 128;
    if (!f->purged)
        warn("the broker refused to clear %s: %s (0x%02x)", f->topic, mosquitto_reason_string(answer),
             (unsigned)answer);
    while (a->first_open < a->sent && a->findings[a->first_open].mid == 0)
        a->first_open++;
    a->outstanding--;
    a->deadline_ms = mqtt_now_ms() + MQTT_WAIT_MS;
}

/* Waits until at most `limit` clears are unacknowledged. */
static int await_acks(audit *a, size_t limit)
{
    const mqtt_link *link = &a->look.link;
    while (a->outstanding > limit) {
        if (!mqtt_turn(&a->look.link, NULL, -1, 200) && !mqtt_stopped())
            return fail(OUT_OF_REACH, "lost the connection to %s: %s", link->address, mqtt_why(link));
        if (mqtt_stopped())
            return fail(OUT_OF_REACH, "interrupted");
        if (a->outstanding > limit && mqtt_now_ms() >= a->deadline_ms)
            return fail(OUT_OF_REACH, "%s does not acknowledge for %d s", link->address, MQTT_WAIT_MS / 1000);
    }
    return DONE;
}

/* The topic as a clear of it must sign it; NULL where there can be none. */
static const char *signed_topic(const finding *f)
{
    bool prefixed = strncmp(f->topic, f->rule->prefix, f->rule->prefix_n) == 0;
    const char *topic = f->topic + f->rule->prefix_n;
    return prefixed && topic[0] != '$' && pep_topic_valid(topic, strlen(topic)) ? topic : NULL;
}

static int send_clear(audit *a, finding *f)
{
    const char *topic = signed_topic(f);
    if (topic == NULL) {
        warn("cannot clear %s: nobody can sign for it", f->topic);
        return DONE;
    }
    int code = sealer_seal(&a->sealer, 0, topic, PEP_FLAG_CLEAR, (pep_view){0});
    if (code != DONE)
        return code;
    const buffer *envelope = &a->sealer.out;
    int rc = mosquitto_publish(a->look.link.client, &f->mid, f->topic, (int)envelope->n, envelope->p, 1, true);
    if (rc != MOSQ_ERR_SUCCESS)
        return fail(OUT_OF_REACH, "cannot publish on %s: %s", f->topic, mosquitto_strerror(rc));
    a->outstanding++;
    a->deadline_ms = mqtt_now_ms() + MQTT_WAIT_MS;
    return DONE;
}

/* Clears each finding by itself: wherever this ends, what is cleared is cleared and the rest as it was. */
static int purge(audit *a)
{
    int code = DONE;
    while (code == DONE && a->sent < a->count) {
        code = await_acks(a, WINDOW - 1);
        if (code == DONE)
            code = send_clear(a, &a->findings[a->sent++]);
    }
    if (code == DONE)
        code = await_acks(a, 0);
    if (code != DONE)
        return code;
    a->confirming = true; /* over MQTT 3.1.1 an acknowledgement says nothing */
    return retained_look(&a->look);
}

/* ---- who audits ---- */

/* True where a topic could match both (valid) filters. */
static bool filters_meet(const char *a, const char *b)
{
    for (;;) {
        size_t a_n = strcspn(a, "/");
        size_t b_n = strcspn(b, "/");
        if (*a == '#' || *b == '#')
            return true;
        if (*a != '+' && *b != '+' && (a_n != b_n || memcmp(a, b, a_n) != 0))
            return false;
        a += a_n;
        b += b_n;
        if (*a == '\0' || *b == '\0') /* x/# matches x, too */
            return *a == *b || strcmp(a, "/#") == 0 || strcmp(b, "/#") == 0;
        a++;
        b++;
    }
}

static bool is_enforced(const policy *p, const option_list *filters)
{
    for (size_t i = 0; i < policy_rule_count(p); i++) {
        const policy_rule *rule = policy_rule_at(p, i);
        for (size_t k = 0; rule->mode == POLICY_ENFORCE && k < filters->n; k++)
            if (filters_meet(rule->filter, filters->at[k]))
                return true;
    }
    return false;
}

/* The name of this client that the policy's `bind` looks at; NULL where it looks at none, or there is none. */
static const char *bound_name(const policy *p)
{
    policy_bind bind = policy_bind_of(p);
    if (bind == POLICY_BIND_NONE)
        return NULL;
    return bind == POLICY_BIND_USERNAME ? mqtt_username() : mqtt_client_id();
}

/* True where this client may not be shown all that it looks for. */
static bool is_blind(const policy *p)
{
    static const char *const how[] = {
        [POLICY_BIND_NONE] = "the policy's bind is \"none\", so that no client is an admin's",
        [POLICY_BIND_USERNAME] = "this is no admin's client: connect with -u and the name of one",
        [POLICY_BIND_CLIENTID] = "this is no admin's client: connect with -i and the name of one",
    };
    if (!is_enforced(p, &args.filters) || policy_is_admin(p, bound_name(p), NULL))
        return false;
    warn("only what is on observed topics can be seen; on enforced ones the gate shows what it refuses to admins "
         "alone, and %s",
         how[policy_bind_of(p)]);
    return true;
}

static int check_record(const audit *a)
{
    signer known;
    bool current = signers_find(a->signers, &known, a->sealer.device.sign_kid) && known.state == SIGNER_CURRENT;
    return current ? DONE : wrong_usage("--key %s: the broker does not know this key, or no longer", args.key);
}

/* On an observed topic a clear that the gate would refuse takes the place of what it should remove: so ask before. */
static int check_admin(const audit *a)
{
    const policy *p = gate_policy(a->gate);
    const char *id = a->sealer.device.id;
    const char *name = bound_name(p);
    if (!policy_is_admin(p, id, NULL))
        return wrong_usage("--key %s: %s is none of the policy's admins, and the gate takes clears from those alone",
                           args.key, id);
    if (policy_bind_of(p) != POLICY_BIND_NONE && !policy_is_relay(p, name) && (name == NULL || strcmp(name, id) != 0))
        return wrong_usage("the policy binds a device to its client: to clear with the key of %s, connect with %s %s",
                           id, policy_bind_of(p) == POLICY_BIND_USERNAME ? "-u" : "-i", id);
    return check_record(a);
}

/* ---- the report ---- */

static uint64_t count_purged(const audit *a)
{
    uint64_t purged = 0;
    for (size_t i = 0; i < a->count; i++)
        purged += a->findings[i].purged;
    return purged;
}

static int print_json(const finding *f)
{
    cJSON *object = json_object(NULL, NULL);
    json_text(object, "topic", f->topic);
    json_text(object, "reason", pep_reason_name(f->reason));
    json_unsigned(object, "bytes", f->bytes);
    if (f->signer[0] != '\0')
        json_text(object, "signer", f->signer);
    json_text(object, "rule", f->rule->filter);
    json_bool(object, "purged", f->purged);
    return json_print(object);
}

static int print_text(const finding *f)
{
    printf("%s ", pep_reason_name(f->reason));
    put_escaped(stdout, f->topic, strlen(f->topic));
    printf(" %zu bytes", f->bytes);
    if (f->signer[0] != '\0')
        printf(", signer %s", f->signer);
    puts(f->purged ? ", purged" : "");
    return DONE;
}

static int print_report(const audit *a)
{
    int code = DONE;
    for (size_t i = 0; i < a->count && code == DONE; i++)
        code = args.json ? print_json(&a->findings[i]) : print_text(&a->findings[i]);
    if (a->count < a->refused)
        warn("%zu findings are listed, of %" PRIu64 ": give narrower filters", a->count, a->refused);
    if (a->still_there > 0)
        warn("%" PRIu64 " are still there, though nobody refused their clears aloud: does the broker's gate know this "
             "admin and its record?",
             a->still_there);
    if (a->unlisted > 0)
        warn("%" PRIu64 " are there that are not listed: run it again", a->unlisted);
    if (!args.json)
        printf("%" PRIu64 " retained messages looked at, %" PRIu64 " would be refused, %" PRIu64 " purged\n",
               a->looked_at, a->refused, count_purged(a));
    return code == DONE ? finish_output() : code;
}

/* ---- the run ---- */

static int check_usage(void)
{
    if (args.purge != (args.key != NULL))
        return wrong_usage("--purge and --key belong together");
    for (size_t i = 0; i < args.filters.n; i++) {
        const char *filter = args.filters.at[i];
        if (!pep_filter_valid(filter, strlen(filter)))
            return wrong_usage("--topic '%.80s': is no topic filter", filter);
        if (strncmp(filter, "$share/", 7) == 0)
            return wrong_usage("--topic '%.80s': shared subscriptions are given nothing retained", filter);
    }
    return DONE;
}

static int load_store(audit *a, const char *url, const char *records)
{
    pep_error why;
    const char *path;
    if (store_file(&path, url) && access(path, F_OK) != 0) /* else it would be made */
        return fail(OUT_OF_REACH, "cannot read %s: %s; --state or --store names another", path, strerror(errno));
    return directory_view(a->signers, &why, url, records) ? DONE : fail(OUT_OF_REACH, "%s", why.text);
}

/* The operator's folder is all that there is only where nobody enrols. */
static int load_folder(audit *a, const policy *p, const char *records)
{
    pep_error why;
    if (policy_enroll_of(p) != POLICY_ENROLL_CLOSED)
        return wrong_usage(
            "with --records, name the directory too (--store or --state): else whoever enrolled would be "
            "taken for a stranger");
    return signers_load_folder(a->signers, &why, records) ? DONE : fail(OUT_OF_REACH, "%s", why.text);
}

static int load_signers(audit *a, const policy *p)
{
    state_folder folder;
    char url[PATH_MAX + 8];
    const char *records = args.records != NULL ? args.records : PEP_ETC "/records";
    if (args.records != NULL && args.store == NULL && args.state == NULL)
        return load_folder(a, p, records);
    bool own = args.store == NULL; /* the broker's own: worked with as its user, to whom it belongs */
    int code = own ? state_folder_find(&folder, args.state != NULL ? args.state : PEP_STATE) : DONE;
    if (code == DONE)
        code = choose_store(url, args.store, &folder);
    if (code == DONE && own)
        code = state_folder_become_owner(&folder);
    if (code != DONE)
        return code;
    code = load_store(a, url, records);
    if (own)
        state_folder_become_self();
    return code;
}

/* By the gate's own code, and without its replay state: a second opinion would drift. */
static int open_gate(audit *a)
{
    gate_error error = {""};
    policy_error why;
    a->signers = signers_new();
    if (a->signers == NULL)
        return fail(OUT_OF_REACH, "out of memory");
    const gate_config config = {.policy = policy_load(&why, args.policy != NULL ? args.policy : PEP_ETC "/policy.conf"),
                                .signers = a->signers};
    if (config.policy == NULL)
        return fail(OUT_OF_REACH, "%s", why.text);
    int code = load_signers(a, config.policy);
    if (code == DONE)
        a->gate = gate_open(&error, &config);
    if (a->gate != NULL)
        return DONE;
    policy_free(config.policy);
    return code == DONE ? fail(OUT_OF_REACH, "%s", error.text) : code;
}

static int prepare(audit *a)
{
    int code = mqtt_prepare(&a->look.link);
    if (code == DONE)
        code = open_gate(a);
    if (code == DONE && args.purge)
        code = sealer_open_key(&a->sealer, args.key);
    if (code == DONE && args.purge)
        code = check_admin(a);
    if (code != DONE)
        return code;
    a->blind = is_blind(gate_policy(a->gate));
    retained_prepare(&a->look);
    mosquitto_publish_v5_callback_set(a->look.link.client, on_publish);
    mqtt_stop_on_signals();
    return mqtt_connect(&a->look.link);
}

static int verdict(const audit *a)
{
    if (a->look.incomplete || a->blind)
        return OUT_OF_REACH;
    return a->refused > count_purged(a) || a->unlisted > 0 ? REFUSED : DONE;
}

static int look_and_purge(audit *a)
{
    int code = retained_look(&a->look);
    if (code != DONE)
        return code;
    if (a->count > 0)
        qsort(a->findings, a->count, sizeof(*a->findings), by_topic);
    if (args.purge && a->count > 0)
        code = purge(a);
    int printed = print_report(a);
    if (code != DONE || printed != DONE)
        return OUT_OF_REACH;
    return verdict(a);
}

static void release(audit *a)
{
    mqtt_close(&a->look.link);
    sealer_close(&a->sealer);
    gate_close(a->gate);
    signers_free(a->signers);
    for (size_t i = 0; i < a->count; i++)
        free(a->findings[i].topic);
    free(a->findings);
}

static int run(void)
{
    int code = check_usage();
    if (code != DONE)
        return code;
    audit a = {.look = {.each = judge, .filters = &args.filters}};
    a.look.link.owner = &a.look;
    a.look.owner = &a;
    code = prepare(&a);
    if (code == DONE)
        code = look_and_purge(&a);
    release(&a);
    return code;
}

const command audit_command = {
    "audit",
    "Lists retained messages that the gate would refuse, and clears them",
    "",
    "Exit codes: 0 nothing would be refused, or all of it was purged; 1 something would be; 3 not everything could be\n"
    "seen. On enforced topics the gate shows what it refuses to admins alone: connect as one, by the name that the\n"
    "policy's bind looks at.\n",
    {audit_options, connection_options},
    run,
};
