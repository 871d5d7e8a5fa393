/* pep pub: seals messages and publishes them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/commands.h"
#include "client/mqtt.h"
#include "client/print.h"
#include "client/resolve.h"
#include "client/sealing.h"

#define WINDOW 20 /* unacknowledged at once: seal when sending, not when queueing */

static struct {
    const char *topic, *message, *file, *will_topic, *will_payload;
    bool lines, whole, null, retain, will_retain;
    option_number qos, will_qos;
} args;

static const option pub_options[] = {
    {OPTION_TEXT, 't', true, "topic", &args.topic, "TOPIC", "where to publish", 0, 0},
    {OPTION_TEXT, 'm', false, "message", &args.message, "TEXT", "publish this", 0, 0},
    {OPTION_TEXT, 'f', false, "file", &args.file, "FILE", "publish the content of a file", 0, 0},
    {OPTION_FLAG, 'l', false, "stdin-line", &args.lines, NULL, "publish each line of stdin", 0, 0},
    {OPTION_FLAG, 's', false, "stdin-file", &args.whole, NULL, "publish all of stdin as one message", 0, 0},
    {OPTION_FLAG, 'n', false, "null-message", &args.null, NULL, "publish nothing; with -r: clear the retained message",
     0, 0},
    {OPTION_NUMBER, 'q', false, "qos", &args.qos, "0|1|2", "quality of service (default: 0)", 0, 2},
    {OPTION_FLAG, 'r', false, "retain", &args.retain, NULL, "the broker keeps it", 0, 0},
    {OPTION_TEXT, 0, false, "will-topic", &args.will_topic, "TOPIC", "sealed will: where", 0, 0},
    {OPTION_TEXT, 0, false, "will-payload", &args.will_payload, "TEXT", "sealed will: what (default: nothing)", 0, 0},
    {OPTION_NUMBER, 0, false, "will-qos", &args.will_qos, "0|1|2", "sealed will: quality of service", 0, 2},
    {OPTION_FLAG, 0, false, "will-retain", &args.will_retain, NULL, "sealed will: the broker keeps it", 0, 0},
    {0},
};

typedef struct {
    mqtt_link link;
    sealer sealer;
    asker asker;
    resolver resolver;
    size_t outstanding; /* sent, and not yet acknowledged (QoS 0: not yet written) */
    size_t refused;
    uint64_t deadline_ms; /* for the next acknowledgement */
    struct told *told;    /* of each recipient that is an id, while lines are sent; NULL: nothing is heard */
} publisher;

/* What the directory told of a recipient last; n 0: nothing that was not looked at. */
struct told {
    uint8_t entry[PEP_ENTRY_BYTES_MAX];
    size_t n;
};

static bool clears(void)
{
    return args.null && args.retain;
}

static int check_usage(void)
{
    int sources = (args.message != NULL) + (args.file != NULL) + args.lines + args.whole + args.null;
    if (sources != 1)
        return wrong_usage("give one of -m, -f, -l, -s and -n");
    if (args.will_topic == NULL && (args.will_payload != NULL || args.will_qos.given || args.will_retain))
        return wrong_usage("a will needs --will-topic");
    int code = check_topic("--topic", args.topic);
    if (code == DONE && args.will_topic != NULL)
        code = check_topic("--will-topic", args.will_topic);
    return code;
}

/* ---- sending ---- */

static void on_publish(struct mosquitto *client, void *link, int mid, int answer, const mosquitto_property *props)
{
    (void)client;
    (void)mid;
    (void)props;
    publisher *p = ((mqtt_link *)link)->owner;
    p->deadline_ms = mqtt_now_ms() + MQTT_WAIT_MS;
    if (p->outstanding > 0)
        p->outstanding--;
    if (answer < 128)
        return;
    p->refused++;
    warn("the broker refused a message on %s: %s (0x%02x)", args.topic, mosquitto_reason_string(answer),
         (unsigned)answer);
}

static int lost(const publisher *p)
{
    return fail(OUT_OF_REACH, "lost the connection to %s: %s; %zu sent and not acknowledged", p->link.address,
                mqtt_why(&p->link), p->outstanding);
}

/* Waits until at most `limit` messages are unacknowledged. */
static int await_acks(publisher *p, size_t limit)
{
    while (p->outstanding > limit) {
        if (!mqtt_turn(&p->link, NULL, -1, 1000))
            return lost(p);
        if (p->outstanding > limit && mqtt_now_ms() >= p->deadline_ms)
            return fail(OUT_OF_REACH, "%s does not acknowledge: %zu messages open after %d s", p->link.address,
                        p->outstanding, MQTT_WAIT_MS / 1000);
    }
    return DONE;
}

static int send_envelope(publisher *p)
{
    const buffer *envelope = &p->sealer.out;
    p->outstanding++; /* before: at QoS 0 the answer may come during the call */
    p->deadline_ms = mqtt_now_ms() + MQTT_WAIT_MS;
    int rc = mosquitto_publish(p->link.client, NULL, args.topic, (int)envelope->n, envelope->p, (int)args.qos.value,
                               args.retain);
    if (rc == MOSQ_ERR_SUCCESS)
        return DONE;
    return fail(rc == MOSQ_ERR_NO_CONN || rc == MOSQ_ERR_CONN_LOST ? OUT_OF_REACH : REFUSED, "cannot publish on %s: %s",
                args.topic, mosquitto_strerror(rc));
}

/* ---- recipients that are ids ---- */

/* One that is too long is no entry, and is refused as that. */
static void hear(struct told *t, const struct mosquitto_message *m)
{
    size_t n = m->payloadlen > 0 ? (size_t)m->payloadlen : 0;
    t->n = n < sizeof(t->entry) ? n : sizeof(t->entry);
    if (t->n > 0)
        memcpy(t->entry, m->payload, t->n);
}

static void on_message(struct mosquitto *client, void *link, const struct mosquitto_message *m,
                       const mosquitto_property *props)
{
    (void)client;
    (void)props;
    publisher *p = ((mqtt_link *)link)->owner;
    size_t prefix = sizeof(PEP_KEYS_TOPIC) - 1;
    if (ask_take(&p->asker, m) || p->told == NULL || strncmp(m->topic, PEP_KEYS_TOPIC, prefix) != 0)
        return;
    for (size_t i = 0; i < p->sealer.to_count; i++)
        if (p->sealer.id[i] != NULL && strcmp(m->topic + prefix, p->sealer.id[i]) == 0)
            hear(&p->told[i], m);
}

static void on_resolved(resolution *n)
{
    *(bool *)n->owner = true;
}

static int refuse(const resolution *n)
{
    if (exit_code(n->reason) == OUT_OF_REACH || n->reason == PEP_NEEDS_HISTORY)
        return fail(exit_code(n->reason), "nothing was sent to %s: %s", n->id, n->error.text);
    resolution_report(n);
    return fail(exit_code(n->reason), "nothing was sent to %s: %s (%s)", n->id, pep_reason_name(n->reason),
                pep_reason_text(n->reason));
}

/*
 * Where nobody answers, what is pinned still holds, as long as it says itself. Not where the directory told of
 * something else and withholds what it follows from: that may be the end of the key.
 */
static int judge_resolved(publisher *p, pep_record *out, const resolution *n)
{
    bool silent = n->reason == PEP_TRY_LATER && n->entry_n == 0;
    if (n->reason != PEP_OK && !silent)
        return refuse(n);
    const pep_record *record = p->resolver.pins != NULL ? pep_pins_find_id(p->resolver.pins, n->id) : NULL;
    if (record == NULL)
        return fail(exit_code(n->reason), "--to %s: is no file, and the directory of %s does not tell its keys: %s",
                    n->id, p->link.address, n->error.text);
    if (silent)
        warn("the directory of %s does not answer; sealing to %s by what is pinned", p->link.address, n->id);
    resolution_report(n);
    *out = *record;
    return check_recipient(n->id, out);
}

/* By what was told, or by asking. */
static int resolve(publisher *p, size_t which, const struct told *told)
{
    bool over = false;
    resolution n = {.owner = &over, .done = on_resolved};
    if (told != NULL)
        resolve_entry(&p->resolver, &n, p->sealer.id[which], told->entry, told->n, NULL);
    else
        resolve_id(&p->resolver, &n, p->sealer.id[which], RESOLVE_WAIT_MS);
    int code = ask_until(&p->asker, &over);
    if (!over)
        resolution_end(&n);
    return code == DONE ? judge_resolved(p, &p->sealer.to[which], &n) : code;
}

static int resolve_all(publisher *p)
{
    mosquitto_message_v5_callback_set(p->link.client, on_message);
    for (size_t i = 0; i < p->sealer.to_count; i++) {
        int code = p->sealer.id[i] != NULL ? resolve(p, i, NULL) : DONE;
        if (code != DONE)
            return code;
    }
    return DONE;
}

static char *folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash != NULL ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
}

static int resolve_recipients(publisher *p)
{
    char *records = folder_of(sealing_key());
    if (records == NULL)
        return fail(OUT_OF_REACH, "out of memory");
    resolver_close(&p->resolver);
    int code = resolver_open(&p->resolver, &p->asker, sealing_key(), records);
    free(records);
    p->asker.link = &p->link;
    return code == DONE ? resolve_all(p) : code;
}

/* Lines may go on for years: a recipient's new key, or the end of his key, is heard meanwhile. */
static int follow_recipients(publisher *p)
{
    if (!args.lines || !sealer_has_ids(&p->sealer))
        return DONE;
    p->told = calloc(p->sealer.to_count, sizeof(*p->told));
    if (p->told == NULL)
        return fail(OUT_OF_REACH, "out of memory");
    for (size_t i = 0; i < p->sealer.to_count; i++) {
        char topic[sizeof(PEP_KEYS_TOPIC) + PEP_ID_MAX];
        if (p->sealer.id[i] == NULL)
            continue;
        (void)snprintf(topic, sizeof(topic), PEP_KEYS_TOPIC "%s", p->sealer.id[i]);
        (void)mosquitto_subscribe(p->link.client, NULL, topic, 1);
    }
    return DONE;
}

static int take_told(publisher *p)
{
    int code = DONE;
    for (size_t i = 0; p->told != NULL && i < p->sealer.to_count && code == DONE; i++) {
        struct told told = p->told[i];
        p->told[i].n = 0; /* before: the next one may come meanwhile */
        if (told.n > 0)
            code = resolve(p, i, &told);
    }
    return code;
}

/* A will is sealed before CONNECT, so whom it is for must be known before: a connection of its own asks. */
static int resolve_for_will(publisher *p)
{
    if (args.will_topic == NULL || !sealer_has_ids(&p->sealer))
        return DONE;
    int code = mqtt_connect(&p->link);
    if (code == DONE)
        code = resolve_recipients(p);
    mqtt_close(&p->link);
    p->link = (mqtt_link){.owner = p};
    return code == DONE ? mqtt_prepare(&p->link) : code;
}

/* ---- what to send ---- */

static int send_message(publisher *p, pep_view plain)
{
    size_t envelopes = clears() ? 1 : sealer_envelopes(&p->sealer);
    for (size_t i = 0; i < envelopes; i++) {
        int code = await_acks(p, WINDOW - 1);
        if (code == DONE)
            code = take_told(p);
        if (code == DONE)
            code = sealer_seal(&p->sealer, i, args.topic, clears() ? PEP_FLAG_CLEAR : 0, plain);
        if (code == DONE)
            code = send_envelope(p);
        if (code != DONE)
            return code;
    }
    return DONE;
}

static int send_file(publisher *p)
{
    buffer content = {0};
    int code = args.whole ? read_stdin(&content, PLAIN_MAX) : read_file(&content, args.file, PLAIN_MAX);
    if (code == DONE)
        code = send_message(p, (pep_view){content.p, content.n});
    buffer_free(&content);
    return code;
}

/* Sends the whole lines in the buffer and keeps the rest; at the end of stdin the rest is a line too. */
static int send_buffered_lines(publisher *p, buffer *in, bool at_end)
{
    int code = DONE;
    size_t start = 0;
    while (code == DONE && start < in->n) {
        const uint8_t *line = in->p + start;
        const uint8_t *end = memchr(line, '\n', in->n - start);
        if (end == NULL && !at_end)
            break;
        size_t n = end != NULL ? (size_t)(end - line) : in->n - start;
        code = send_message(p, (pep_view){line, n});
        start += n + 1;
    }
    if (start >= in->n) {
        in->n = 0;
    } else if (start > 0) {
        memmove(in->p, in->p + start, in->n - start);
        in->n -= start;
    }
    return code;
}

static int read_lines(publisher *p, buffer *in)
{
    for (;;) {
        bool readable;
        if (!mqtt_turn(&p->link, &readable, STDIN_FILENO, 1000))
            return lost(p);
        if (!readable)
            continue;
        long n = buffer_read(in, STDIN_FILENO, PLAIN_MAX);
        if (n < 0 && errno == EFBIG)
            return fail(OUT_OF_REACH, "a line is longer than %zu bytes, the most that is taken at once", PLAIN_MAX);
        if (n < 0 && errno != EINTR && errno != EAGAIN)
            return fail(OUT_OF_REACH, "cannot read standard input: %s", strerror(errno));
        int code = n >= 0 ? send_buffered_lines(p, in, n == 0) : DONE;
        if (code != DONE || n == 0)
            return code;
    }
}

static int send_lines(publisher *p)
{
    buffer in = {0};
    int code = read_lines(p, &in);
    buffer_free(&in);
    return code;
}

static int send_all(publisher *p)
{
    int code;
    if (args.lines)
        code = send_lines(p);
    else if (args.file != NULL || args.whole)
        code = send_file(p);
    else if (args.message != NULL)
        code = send_message(p, (pep_view){(const uint8_t *)args.message, strlen(args.message)});
    else
        code = send_message(p, (pep_view){0});
    if (code == DONE)
        code = await_acks(p, 0);
    return code == DONE && p->refused > 0 ? REFUSED : code;
}

/* ---- before sending ---- */

static int set_will(publisher *p)
{
    if (args.will_topic == NULL)
        return DONE;
    if (p->sealer.to_count > 1)
        return wrong_usage("--will-topic: a connection has one will, so give one --to, or --epoch");
    const char *text = args.will_payload != NULL ? args.will_payload : "";
    pep_view plain = {(const uint8_t *)text, strlen(text)};
    int code = sealer_seal(&p->sealer, 0, args.will_topic, PEP_FLAG_WILL, plain);
    if (code != DONE)
        return code;
    const buffer *envelope = &p->sealer.out;
    int rc = mosquitto_will_set(p->link.client, args.will_topic, (int)envelope->n, envelope->p,
                                (int)args.will_qos.value, args.will_retain);
    return rc == MOSQ_ERR_SUCCESS ? DONE : fail(REFUSED, "cannot set the will: %s", mosquitto_strerror(rc));
}

static int publish(publisher *p)
{
    int code = resolver_check();
    if (code == DONE)
        code = mqtt_prepare(&p->link);
    p->sealer.takes_ids = !resolver_off();
    if (code == DONE)
        code = sealer_open(&p->sealer, !clears() || args.will_topic != NULL);
    if (code == DONE)
        code = resolve_for_will(p);
    if (code == DONE)
        code = set_will(p);
    if (code == DONE)
        code = mqtt_connect(&p->link);
    if (code == DONE && sealer_has_ids(&p->sealer))
        code = resolve_recipients(p); /* again, where a will's were: this connection may be with another broker */
    if (code == DONE)
        code = follow_recipients(p);
    if (code != DONE)
        return code;
    mosquitto_publish_v5_callback_set(p->link.client, on_publish);
    return send_all(p);
}

static int run(void)
{
    int code = check_usage();
    if (code != DONE)
        return code;
    publisher p = {0};
    p.link.owner = &p;
    code = publish(&p);
    mqtt_close(&p.link);
    resolver_close(&p.resolver);
    free(p.told);
    sealer_close(&p.sealer);
    return code;
}

const command pub_command = {
    "pub",
    "Seals messages and publishes them",
    "",
    "Give exactly one of -m, -f, -l, -s and -n, and exactly one of --to, --epoch and --signed-only (-n -r needs "
    "none).\n"
    "Several --to become several messages, one for each recipient. A --to that is no file is an id, whose keys the\n"
    "broker's directory tells. A broker tells of refusals only over MQTT 5 at\n"
    "QoS 1 and 2; then the exit code is 1.\n",
    {pub_options, sealing_options, resolving_options, connection_options},
    run,
};
