/* pep seal, open, verify and inspect: envelopes between stdin and stdout. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "client/commands.h"
#include "client/io.h"
#include "client/opening.h"
#include "client/print.h"
#include "client/sealing.h"

static struct {
    const char *topic, *from;
    bool will, json;
} args;

/* ---- seal ---- */

static const option seal_options[] = {
    {OPTION_TEXT, 't', true, "topic", &args.topic, "TOPIC", "the topic it is for, which is signed", 0, 0},
    {OPTION_FLAG, 0, false, "will", &args.will, NULL, "it will be an MQTT will", 0, 0},
    {0},
};

static int seal_stdin(sealer *s)
{
    if (s->to_count > 1)
        return wrong_usage("--to: one envelope is for one recipient; seal again for another, or use --epoch");
    buffer plain = {0};
    int code = read_stdin(&plain, PLAIN_MAX);
    if (code == DONE)
        code = sealer_seal(s, 0, args.topic, args.will ? PEP_FLAG_WILL : 0, (pep_view){plain.p, plain.n});
    if (code == DONE)
        code = write_stdout(s->out.p, s->out.n);
    buffer_free(&plain);
    return code;
}

static int run_seal(void)
{
    int code = check_topic("--topic", args.topic);
    if (code == DONE && args.will)
        code = check_will();
    if (code != DONE)
        return code;
    sealer s = {0};
    code = sealer_open(&s, true);
    if (code == DONE)
        code = seal_stdin(&s);
    sealer_close(&s);
    return code;
}

const command seal_command = {
    "seal",
    "Seals what comes in on stdin and writes the envelope to stdout",
    "< plain > envelope",
    "Give exactly one of --to, --epoch and --signed-only.\n",
    {seal_options, sealing_options},
    run_seal,
};

/* ---- open ---- */

static const option open_options[] = {
    {OPTION_TEXT, 't', false, "topic", &args.topic, "TOPIC", "refuse what was signed for another topic", 0, 0},
    {0},
};

static int open_stdin(opening *o, buffer *envelope)
{
    int code = read_stdin(envelope, ENVELOPE_MAX);
    if (code != DONE)
        return code;
    pep_opened opened;
    pep_reason reason = opening_open(&opened, o, args.topic, envelope->p, envelope->n);
    if (reason != PEP_OK)
        return fail_reason(reason, "not opened");
    return write_stdout(opened.plain.p, opened.plain.n);
}

static int run_open(void)
{
    opening o = {0};
    buffer envelope = {0};
    int code = opening_start(&o);
    if (code == DONE)
        code = open_stdin(&o, &envelope);
    buffer_free(&envelope);
    opening_close(&o);
    return code;
}

const command open_command = {
    "open",
    "Verifies and opens an envelope; stdout stays empty unless all of it is right",
    "< envelope > plain",
    "",
    {open_options, opening_options},
    run_open,
};

/* ---- verify ---- */

static const option verify_options[] = {
    {OPTION_TEXT, 0, true, "from", &args.from, "FILE|DIR", "records to believe", 0, 0},
    {OPTION_TEXT, 't', false, "topic", &args.topic, "TOPIC", "refuse what was signed for another topic", 0, 0},
    {OPTION_FLAG, 0, false, "json", &args.json, NULL, "print JSON", 0, 0},
    {0},
};

static pep_reason judge_times(const pep_envelope *e, uint64_t now_us)
{
    if (e->exp_s != 0 && e->exp_s < now_us / 1000000)
        return PEP_EXPIRED;
    bool has_time = (e->flags & PEP_FLAG_COUNTER) == 0;
    return has_time && e->seq > now_us + PEP_MAX_SKEW_US ? PEP_FUTURE_SEQ : PEP_OK;
}

/* The order is pep_open's. */
static pep_reason judge(pep_envelope *e, const pep_record **signer, const pep_keyring *ring, const buffer *in)
{
    *signer = NULL;
    pep_reason reason = pep_parse(e, in->p, in->n);
    if (reason != PEP_OK)
        return reason;
    if (args.topic != NULL && (e->topic.n != strlen(args.topic) || memcmp(e->topic.p, args.topic, e->topic.n) != 0))
        return PEP_WRONG_TOPIC;
    uint64_t now_us = pep_now_us();
    *signer = pep_keyring_find(ring, e->kid);
    if (*signer == NULL)
        return PEP_UNKNOWN_SIGNER;
    if ((*signer)->not_after_s < now_us / 1000000)
        return PEP_EXPIRED_SIGNER;
    reason = judge_times(e, now_us);
    if (reason != PEP_OK)
        return reason;
    buffer work = {0};
    if (!buffer_reserve(&work, PEP_WORK_BYTES(e->size)))
        return PEP_NO_MEMORY;
    reason = pep_verify(work.p, work.cap, e, *signer);
    buffer_free(&work);
    return reason;
}

static int report_verdict(pep_reason reason, const pep_record *signer)
{
    int code = DONE;
    if (args.json) {
        cJSON *object = json_object(NULL, NULL);
        json_text(object, "verdict", pep_reason_name(reason));
        json_text(object, "text", pep_reason_text(reason));
        if (reason == PEP_OK)
            json_text(object, "signer", signer->id);
        code = json_print(object);
    } else {
        puts(pep_reason_name(reason));
        code = finish_output();
    }
    return code == DONE ? exit_code(reason) : code;
}

static int run_verify(void)
{
    pep_error error = {""};
    pep_keyring *ring = NULL;
    pep_reason reason = pep_keyring_load(&ring, &error, args.from);
    if (reason != PEP_OK)
        return fail_error(reason, &error);
    buffer in = {0};
    int code = read_stdin(&in, ENVELOPE_MAX);
    if (code == DONE) {
        pep_envelope e;
        const pep_record *signer;
        reason = judge(&e, &signer, ring, &in);
        code = report_verdict(reason, signer);
    }
    buffer_free(&in);
    pep_keyring_free(ring);
    return code;
}

const command verify_command = {
    "verify",
    "Checks an envelope's signature, topic and times without opening it; prints ok, or the reason's name",
    "< envelope",
    "",
    {verify_options},
    run_verify,
};

/* ---- inspect ---- */

static const option inspect_options[] = {
    {OPTION_FLAG, 0, false, "json", &args.json, NULL, "print JSON", 0, 0},
    {0},
};

static const char *mode_name(pep_mode mode)
{
    static const char *const names[] = {
        [PEP_MODE_SIGNED] = "signed-only", [PEP_MODE_DIRECT] = "direct", [PEP_MODE_EPOCH] = "epoch"};
    return names[mode];
}

static void print_kid(const char *label, const uint8_t *kid)
{
    char hex[HEX_KID_BYTES];
    if (kid != NULL)
        printf("%-10s %s\n", label, hex_kid(hex, kid));
}

static void print_flags(unsigned flags)
{
    const char *name;
    const char *separator = " ";
    printf("%-10s", "flags");
    for (size_t i = 0; (name = next_flag(&i, flags)) != NULL; separator = ", ")
        printf("%s%s", separator, name);
    puts(flags == 0 ? " none" : "");
}

static void print_facts(pep_view facts)
{
    pep_fact fact;
    for (size_t at = 0; facts.n > 0 && pep_facts_next(&fact, &at, facts);) {
        printf("%-10s ", "record");
        put_escaped(stdout, fact.key.p, fact.key.n);
        putchar('=');
        if (fact.type == PEP_FACT_TEXT)
            put_escaped(stdout, fact.text.p, fact.text.n);
        else if (fact.type == PEP_FACT_INT)
            printf("%" PRId64, fact.integer);
        else
            printf("%s", fact.integer != 0 ? "true" : "false");
        putchar('\n');
    }
}

static void print_envelope(const pep_envelope *e)
{
    char when[TIME_BYTES];
    puts("Nothing here is verified: anyone could have written it.");
    print_kid("signer", e->kid);
    printf("%-10s ", "topic");
    put_escaped(stdout, e->topic.p, e->topic.n);
    printf("\n%-10s %" PRIu64 " (%s)\n", "seq", e->seq,
           e->flags & PEP_FLAG_COUNTER ? "a counter" : time_us(when, e->seq));
    print_flags(e->flags);
    printf("%-10s %s\n", "mode", mode_name(e->mode));
    print_kid("to", e->to);
    print_kid(e->mode == PEP_MODE_EPOCH ? "epoch" : "key", e->key_id);
    print_kid("audience", e->audience);
    if (e->exp_s != 0)
        printf("%-10s %s\n", "expires", time_s(when, e->exp_s));
    print_facts(e->facts);
    printf("%-10s %zu bytes, %zu of them payload\n", "size", e->size, e->payload.n);
}

static cJSON *describe_envelope(const pep_envelope *e)
{
    char when[TIME_BYTES];
    cJSON *object = json_object(NULL, NULL);
    json_bool(object, "verified", false);
    json_kid(object, "signer_kid", e->kid);
    json_bytes(object, "topic", e->topic);
    json_unsigned(object, "seq", e->seq);
    if (!(e->flags & PEP_FLAG_COUNTER))
        json_text(object, "time", time_us(when, e->seq));
    describe_flags(object, e->flags);
    json_text(object, "mode", mode_name(e->mode));
    if (e->to != NULL)
        json_kid(object, "to_kid", e->to);
    if (e->key_id != NULL)
        json_kid(object, e->mode == PEP_MODE_EPOCH ? "epoch" : "key_kid", e->key_id);
    if (e->audience != NULL)
        json_kid(object, "audience_kid", e->audience);
    if (e->exp_s != 0)
        json_text(object, "expires", time_s(when, e->exp_s));
    describe_facts(object, e->facts);
    json_unsigned(object, "size", e->size);
    json_unsigned(object, "payload_size", e->payload.n);
    return object;
}

static int run_inspect(void)
{
    buffer in = {0};
    int code = read_stdin(&in, ENVELOPE_MAX);
    if (code == DONE) {
        pep_envelope e;
        pep_reason reason = pep_parse(&e, in.p, in.n);
        if (reason != PEP_OK)
            code = fail_reason(reason, "no envelope");
        else if (args.json)
            code = json_print(describe_envelope(&e));
        else
            print_envelope(&e), code = finish_output();
    }
    buffer_free(&in);
    return code;
}

const command inspect_command = {
    "inspect",   "Shows what anyone can see in an envelope, and verifies nothing", "< envelope", "", {inspect_options},
    run_inspect,
};
