#include "client/ledger.h"

#include <stdlib.h>
#include <string.h>

#include "client/io.h"
#include "client/print.h"
#include "client/times.h"
#include "envelope/text.h"

#define WAIT_MS          60000 /* for one answer: a gate gives up earlier */
#define TRIES            6
#define PAUSE_MS         250 /* before the second try, and twice as long before each further one */
#define FIELDS_ASKED_MAX 4

static struct {
    const char *key, *since, *until, *topic, *signer;
    option_list fields, authorities;
    uint64_t from_us, to_us;
} args;

#define AUTHORITY                                                                                                      \
    {                                                                                                                  \
        OPTION_LIST, 0, false, "authority", &args.authorities, "KEY|FILE", "the gate must be certified by it", 0, 0    \
    }

const option ledger_options[] = {
    {OPTION_TEXT, 0, true, "key", &args.key, "FILE", "who asks: an admin, or a device for its own messages", 0, 0},
    AUTHORITY,
    {0},
};

const option ledger_admin_options[] = {
    {OPTION_TEXT, 0, true, "key", &args.key, "FILE", "who asks: an admin", 0, 0},
    AUTHORITY,
    {0},
};

const option ledger_conditions[] = {
    {OPTION_TEXT, 0, false, "since", &args.since, TIME_VALUE, "not before it: RFC 3339, a date, or 90s 30m 1h 7d ago",
     0, 0},
    {OPTION_TEXT, 0, false, "until", &args.until, TIME_VALUE, "only before it", 0, 0},
    {OPTION_TEXT, 't', false, "topic", &args.topic, "FILTER", "topics that match", 0, 0},
    {OPTION_TEXT, 0, false, "signer", &args.signer, "ID", "the device that signed", 0, 0},
    {OPTION_LIST, 0, false, "field", &args.fields, "NAME=VALUE", "the field has that value", 0, 0},
    {0},
};

/* ---- options ---- */

int ledger_read_time(uint64_t *us, const char *label, const char *text)
{
    if (time_from_text(us, text, pep_now_us()))
        return DONE;
    return wrong_usage("%s '%.60s': is no time, %s", label, text, TIME_FORMS);
}

int ledger_check_signer(const char *id)
{
    if (id == NULL || pep_id_valid(id, strlen(id)))
        return DONE;
    return wrong_usage("--signer '%.80s': is no id", id);
}

int ledger_check_topic(const char *filter)
{
    if (filter == NULL || pep_filter_valid(filter, strlen(filter)))
        return DONE;
    return wrong_usage("--topic '%.80s': is no topic filter", filter);
}

bool ledger_name_valid(const char *name)
{
    size_t n = strlen(name);
    return n <= PEP_FACTS_MAX && pep_utf8_valid((const uint8_t *)name, n);
}

/* Takes NAME=VALUE apart, in its place. */
static int split_field(char *text)
{
    char *equals = strchr(text, '=');
    if (equals == NULL)
        return wrong_usage("--field '%.80s': is not NAME=VALUE", text);
    *equals = '\0';
    if (!ledger_name_valid(text))
        return wrong_usage("--field '%.80s': is no name of a field", text);
    const char *value = equals + 1;
    if (strlen(value) > PEP_FACTS_MAX || !pep_utf8_valid((const uint8_t *)value, strlen(value)))
        return wrong_usage("--field %.80s: no field has that value: at most %d bytes, in UTF-8", text, PEP_FACTS_MAX);
    return DONE;
}

static int split_fields(void)
{
    if (args.fields.n > FIELDS_ASKED_MAX)
        return wrong_usage("--field: at most %d", FIELDS_ASKED_MAX);
    for (size_t i = 0; i < args.fields.n; i++) {
        int code = split_field(args.fields.at[i]);
        if (code != DONE)
            return code;
        for (size_t j = 0; j < i; j++)
            if (strcmp(args.fields.at[i], args.fields.at[j]) == 0)
                return wrong_usage("--field %.80s: given twice", args.fields.at[i]);
    }
    return DONE;
}

int ledger_check(void)
{
    int code = args.since != NULL ? ledger_read_time(&args.from_us, "--since", args.since) : DONE;
    if (code == DONE && args.until != NULL)
        code = ledger_read_time(&args.to_us, "--until", args.until);
    if (code == DONE && args.since != NULL && args.until != NULL && args.from_us >= args.to_us)
        code = wrong_usage("--until: is not after --since");
    if (code == DONE)
        code = ledger_check_topic(args.topic);
    if (code == DONE)
        code = ledger_check_signer(args.signer);
    return code == DONE ? split_fields() : code;
}

static void put_condition(FILE *out, const char *name, const char *value)
{
    if (value == NULL)
        return;
    fprintf(out, "%s%s", ftell(out) > 0 ? ", " : "", name);
    put_word(out, (pep_view){(const uint8_t *)value, strlen(value)});
}

char *ledger_describe(void)
{
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);
    if (out == NULL)
        return NULL;
    put_condition(out, "topic ", args.topic);
    put_condition(out, "signer ", args.signer);
    for (size_t i = 0; i < args.fields.n; i++) {
        const char *name = args.fields.at[i];
        put_condition(out, "", name);
        putc('=', out);
        put_word(out, (pep_view){(const uint8_t *)name + strlen(name) + 1, strlen(name + strlen(name) + 1)});
    }
    if (fclose(out) == 0)
        return text;
    free(text);
    return NULL;
}

void ledger_say_none(void)
{
    warn("no recorded message matches");
}

int ledger_form(sheet_form *out, bool json, bool csv)
{
    *out = json ? FORM_JSON : csv ? FORM_CSV : FORM_TABLE;
    return json && csv ? wrong_usage("give one of --json and --csv") : DONE;
}

int ledger_finish(sheet *s, int code)
{
    int ends[] = {sheet_end(s), finish_output()};
    for (size_t i = 0; i < 2; i++)
        code = code == DONE ? ends[i] : code;
    return code;
}

/* ---- asking ---- */

int ledger_open(session *s)
{
    int code = session_open(s, args.key, &args.authorities);
    if (code != DONE)
        return code;
    warn_if_rotating(args.key);
    s->asker.wait_ms = WAIT_MS;
    return session_connect(s);
}

cJSON *ledger_command(const char *name)
{
    cJSON *asked = json_object(NULL, NULL);
    json_text(asked, "command", name);
    return asked;
}

void ledger_add_conditions(cJSON *asked)
{
    if (args.since != NULL)
        json_unsigned(asked, "from", args.from_us);
    if (args.until != NULL)
        json_unsigned(asked, "to", args.to_us);
    if (args.topic != NULL)
        json_text(asked, "topic", args.topic);
    if (args.signer != NULL)
        json_text(asked, "signer", args.signer);
    cJSON *wanted = args.fields.n > 0 ? json_object(asked, "fields") : NULL;
    for (size_t i = 0; i < args.fields.n; i++)
        json_text(wanted, args.fields.at[i], args.fields.at[i] + strlen(args.fields.at[i]) + 1);
}

int ledger_malformed(void)
{
    return fail_reason(PEP_MALFORMED, "the answer about the ledger");
}

/* Each try is a command of its own, which a gate carries out once. `asked` ends in }. */
static int ask_once(session *s, reply *out, const char *asked)
{
    char json[PEP_COMMAND_JSON_MAX];
    question q = {0};
    ask_begin(&q);
    int n = snprintf(json, sizeof(json), "{\"commands\":[%.*s,\"correlationData\":\"%s\"}]}", (int)strlen(asked) - 1,
                     asked, q.correlation);
    if (n < 0 || (size_t)n >= sizeof(json))
        return wrong_usage("the conditions are longer than %d bytes together", PEP_COMMAND_JSON_MAX);
    return session_command(s, out, &q, json, NULL, 0);
}

/* The connection is kept up meanwhile. */
static int pause_for(session *s, int ms)
{
    uint64_t end_ms = mqtt_now_ms() + (uint64_t)ms;
    while (mqtt_now_ms() < end_ms) {
        if (!mqtt_turn(&s->link, NULL, -1, 50))
            return fail(OUT_OF_REACH, "lost the connection to %s: %s", s->link.address, mqtt_why(&s->link));
        if (mqtt_stopped())
            return fail(OUT_OF_REACH, "interrupted");
    }
    return DONE;
}

static int ask(session *s, reply *out, const char *asked)
{
    int code = ask_once(s, out, asked);
    for (int i = 0; i < TRIES && code == DONE && out->reason == PEP_TRY_LATER; i++) {
        cJSON_Delete(out->data);
        out->data = NULL;
        code = pause_for(s, PAUSE_MS << i);
        if (code == DONE)
            code = ask_once(s, out, asked);
    }
    return code;
}

int ledger_ask(session *s, cJSON **data, cJSON *asked, bool *too_many)
{
    reply r = {0};
    *data = NULL;
    char *text = json_take(asked);
    if (text == NULL)
        return OUT_OF_REACH;
    int code = ask(s, &r, text);
    cJSON_free(text);
    if (code == DONE && r.reason == PEP_TOO_MANY && too_many != NULL)
        code = (*too_many = true, REFUSED);
    else if (code == DONE && r.reason != PEP_OK)
        code = fail_reply(&r, "the ledger");
    if (code == DONE && r.data == NULL)
        code = ledger_malformed();
    if (code == DONE)
        *data = r.data;
    else
        cJSON_Delete(r.data);
    return code;
}
