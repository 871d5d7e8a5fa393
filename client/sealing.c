#include "client/sealing.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "client/print.h"
#include "envelope/text.h"

static struct {
    const char *key, *epoch, *content_type;
    option_list to, facts;
    option_number exp;
    bool signed_only, counter;
} args;

const option sealing_options[] = {
    {OPTION_TEXT, 0, true, "key", &args.key, "FILE", "secret keys of the sender, ID.key; ID.seq stands beside", 0, 0},
    {OPTION_LIST, 0, false, "to", &args.to, "PEER", "a recipient: PEER.pub, its record; for pub also its id", 0, 0},
    {OPTION_TEXT, 0, false, "epoch", &args.epoch, "FILE", "epoch key, for everyone who has it", 0, 0},
    {OPTION_FLAG, 0, false, "signed-only", &args.signed_only, NULL, "sign, and leave the content readable", 0, 0},
    {OPTION_LIST, 0, false, "record", &args.facts, "KEY=VALUE",
     "ask the broker to record this, readable; its rule needs record = \"allow\"", 0, 0},
    {OPTION_NUMBER, 0, false, "exp", &args.exp, "SECONDS", "nobody accepts it after so long", 1, 3153600000},
    {OPTION_TEXT, 0, false, "content-type", &args.content_type, "TEXT", "travels encrypted", 0, 0},
    {OPTION_FLAG, 0, false, "counter", &args.counter, NULL, "number messages from 1: no clock here", 0, 0},
    {0},
};

static pep_view text_view(const char *text)
{
    return (pep_view){(const uint8_t *)text, strlen(text)};
}

int check_topic(const char *label, const char *topic)
{
    if (!pep_topic_valid(topic, strlen(topic)))
        return wrong_usage("%s '%.80s': is no topic: 1 to 65535 bytes of UTF-8 without + and #", label, topic);
    if (topic[0] == '$')
        return wrong_usage("%s '%.80s': topics that begin with $ are reserved", label, topic);
    return DONE;
}

int check_will(void)
{
    if (args.facts.n > 0 || args.exp.given)
        return wrong_usage("--will: a will carries neither --record nor --exp");
    return DONE;
}

static int check_mode(bool mode_needed)
{
    int modes = (args.to.n > 0) + (args.epoch != NULL) + args.signed_only;
    if (modes > 1 || (modes == 0 && mode_needed))
        return wrong_usage("give one of --to, --epoch and --signed-only");
    if (!mode_needed && args.content_type != NULL)
        return wrong_usage("--content-type: a clear has no content");
    return DONE;
}

/* `-0`, `+1` and `007` are text: only what prints the same again is a number. */
static bool parse_integer(int64_t *out, const char *text)
{
    uint64_t magnitude;
    bool negative = text[0] == '-';
    if (!parse_number(&magnitude, text + negative, negative, (uint64_t)INT64_MAX + negative))
        return false;
    *out = negative ? -(int64_t)(magnitude - 1) - 1 : (int64_t)magnitude;
    return true;
}

static pep_fact parse_fact(const char *text, const char *equals)
{
    pep_fact fact = {.key = {(const uint8_t *)text, (size_t)(equals - text)}};
    const char *value = equals + 1;
    if (strcmp(value, "true") == 0 || strcmp(value, "false") == 0) {
        fact.type = PEP_FACT_BOOL;
        fact.integer = value[0] == 't';
    } else if (parse_integer(&fact.integer, value)) {
        fact.type = PEP_FACT_INT;
    } else {
        fact.type = PEP_FACT_TEXT;
        fact.text = text_view(value);
    }
    return fact;
}

static int read_facts(sealer *s)
{
    if (args.facts.n == 0)
        return DONE;
    pep_fact facts[OPTION_LIST_MAX];
    for (size_t i = 0; i < args.facts.n; i++) {
        const char *equals = strchr(args.facts.at[i], '=');
        if (equals == NULL || equals == args.facts.at[i])
            return wrong_usage("--record '%.80s': is not KEY=VALUE", args.facts.at[i]);
        facts[i] = parse_fact(args.facts.at[i], equals);
    }
    if (pep_facts_encode(s->facts, &s->facts_n, facts, args.facts.n) != PEP_OK)
        return wrong_usage("--record: each key stands once, all is UTF-8, and at most %d of them, %d bytes together",
                           PEP_FACTS_COUNT_MAX, PEP_FACTS_MAX);
    return DONE;
}

static int read_content_type(sealer *s)
{
    if (args.content_type == NULL)
        return DONE;
    s->meta.content_type = text_view(args.content_type);
    if (s->meta.content_type.n == 0 || !pep_utf8_valid(s->meta.content_type.p, s->meta.content_type.n))
        return wrong_usage("--content-type: must be UTF-8, and not empty");
    return DONE;
}

const char *sealing_key(void)
{
    return args.key;
}

int check_recipient(const char *name, const pep_record *record)
{
    uint64_t now_s = pep_now_us() / 1000000;
    uint64_t agree_s = record->agree_count > 0 ? record->agree[0].not_after_s : 0;
    if (record->ended != PEP_OK)
        return fail(REFUSED, "%s: %s (%s)", name, pep_reason_name(record->ended), pep_reason_text(record->ended));
    if (record->not_after_s >= now_s && agree_s >= now_s)
        return DONE;
    char until[TIME_BYTES];
    return fail(REFUSED, "%s: the record of %s was valid until %s; ask for a newer one", name, record->id,
                time_s(until, record->not_after_s < now_s ? record->not_after_s : agree_s));
}

static int read_recipient(pep_record *out, const char *path)
{
    pep_error error = {""};
    pep_reason reason = pep_record_load(out, &error, path);
    return reason == PEP_OK ? check_recipient(path, out) : fail_error(reason, &error);
}

/* What is there, or looks like a path, is a file. */
static bool is_id(const char *text)
{
    struct stat st;
    size_t n = strlen(text);
    bool path = strchr(text, '/') != NULL || (n >= 4 && strcmp(text + n - 4, ".pub") == 0) || lstat(text, &st) == 0;
    return !path && pep_id_valid(text, n);
}

bool sealer_has_ids(const sealer *s)
{
    for (size_t i = 0; i < s->to_count; i++)
        if (s->id[i] != NULL)
            return true;
    return false;
}

static int read_recipients(sealer *s)
{
    if (args.to.n == 0)
        return DONE;
    s->to = calloc(args.to.n, sizeof(*s->to));
    s->id = calloc(args.to.n, sizeof(*s->id));
    if (s->to == NULL || s->id == NULL)
        return fail(OUT_OF_REACH, "out of memory");
    for (; s->to_count < args.to.n; s->to_count++) {
        const char *name = args.to.at[s->to_count];
        if (s->takes_ids && is_id(name)) {
            s->id[s->to_count] = name;
            continue;
        }
        int code = read_recipient(&s->to[s->to_count], name);
        if (code != DONE)
            return code;
    }
    return DONE;
}

static int read_epoch(sealer *s)
{
    if (args.epoch == NULL)
        return DONE;
    pep_error error = {""};
    pep_reason reason = pep_epoch_load(&s->epoch, &error, args.epoch);
    if (reason != PEP_OK)
        return fail_error(reason, &error);
    s->has_epoch = true;
    if (memcmp(s->epoch.owner_kid, s->device.sign_kid, PEP_KID_BYTES) != 0)
        return fail(REFUSED, "%s: belongs to another device than %s; a device seals with its own epoch keys",
                    args.epoch, s->device.id);
    return DONE;
}

/* A clock goes on without its state. A counter would start from 1 again, and use numbers that were used. */
static int check_state(const char *path)
{
    struct stat st;
    if (!args.counter || lstat(path, &st) == 0 || errno != ENOENT)
        return DONE;
    return fail(OUT_OF_REACH,
                "%s is missing, and with it the numbers that were used: a device that counts needs a new key", path);
}

static int open_seq(sealer *s, const char *path)
{
    int code = check_state(path);
    if (code != DONE)
        return code;
    pep_error error = {""};
    pep_reason reason = pep_seq_open(&s->seq, &error, path);
    return reason == PEP_OK ? DONE : fail_error(reason, &error);
}

int sealer_open_key(sealer *s, const char *path)
{
    char *seq_path = beside_key(path, ".seq");
    if (seq_path == NULL)
        return WRONG_USAGE;
    pep_error error = {""};
    warn_if_rotating(path);
    s->key = path;
    (void)file_changed(&s->stamp, path);
    pep_reason reason = pep_device_load(&s->device, &error, path);
    drop_old_keys(&s->device, path);
    int code = reason == PEP_OK ? open_seq(s, seq_path) : fail_error(reason, &error);
    free(seq_path);
    return code;
}

int sealer_open(sealer *s, bool mode_needed)
{
    int code = check_mode(mode_needed);
    if (code == DONE)
        code = read_facts(s);
    if (code == DONE)
        code = read_content_type(s);
    if (code == DONE)
        code = sealer_open_key(s, args.key);
    if (code == DONE)
        code = read_epoch(s);
    return code == DONE ? read_recipients(s) : code;
}

void sealer_close(sealer *s)
{
    pep_device_wipe(&s->device);
    if (s->has_epoch)
        pep_epoch_wipe(&s->epoch);
    if (s->seq != NULL)
        pep_seq_close(s->seq);
    free(s->to);
    free(s->id);
    buffer_free(&s->out);
}

size_t sealer_envelopes(const sealer *s)
{
    return s->to_count > 0 ? s->to_count : 1;
}

static void set_content(pep_message *m, const sealer *s, size_t which)
{
    if (m->flags & PEP_FLAG_CLEAR)
        return; /* always signed only, and empty */
    m->meta = &s->meta;
    if (s->to_count == 0 && !s->has_epoch)
        m->flags |= PEP_FLAG_SIGNED_ONLY;
    if (s->to_count > 0)
        m->to = &s->to[which];
    else if (s->has_epoch)
        m->epoch = &s->epoch;
}

static int check_scope(const sealer *s, const pep_message *m, const char *topic)
{
    if (m->epoch == NULL || pep_filter_matches(s->epoch.scope, strlen(s->epoch.scope), topic, m->topic.n))
        return DONE;
    return fail(REFUSED, "%s: is for %s, not for the topic %s", args.epoch, s->epoch.scope, topic);
}

static int next_seq(sealer *s, pep_message *m)
{
    pep_reason reason = args.counter ? pep_seq_next_counter(s->seq, &m->seq) : pep_seq_next(s->seq, &m->seq);
    if (args.counter)
        m->flags |= PEP_FLAG_COUNTER;
    return reason == PEP_OK ? DONE : fail_reason(reason, "no sequence number");
}

/* Another process may have rotated the key since. The one that was read goes on where the new one cannot be read. */
static void take_new_key(sealer *s)
{
    pep_device device;
    if (!file_changed(&s->stamp, s->key))
        return;
    if (pep_device_load(&device, NULL, s->key) == PEP_OK && strcmp(device.id, s->device.id) == 0)
        s->device = device;
    pep_device_wipe(&device);
}

int sealer_seal(sealer *s, size_t which, const char *topic, unsigned flags, pep_view plain)
{
    take_new_key(s);
    pep_message m = {.from = &s->device, .topic = text_view(topic), .flags = flags, .plain = plain};
    if (!(flags & PEP_FLAG_WILL)) {
        m.facts = (pep_view){s->facts, s->facts_n};
        m.exp_s = args.exp.given ? pep_now_us() / 1000000 + args.exp.value : 0;
    }
    set_content(&m, s, which);
    int code = m.to != NULL ? check_recipient(m.to->id, m.to) : DONE; /* it may have ended since it was read */
    if (code == DONE)
        code = check_scope(s, &m, topic);
    if (code == DONE)
        code = next_seq(s, &m);
    if (code != DONE)
        return code;
    size_t cap = pep_seal_bytes(&m);
    if (cap == 0 || !buffer_reserve(&s->out, cap))
        return fail(OUT_OF_REACH, "out of memory");
    pep_reason reason = pep_seal(s->out.p, &s->out.n, s->out.cap, &m);
    return reason == PEP_OK ? DONE : fail_reason(reason, "cannot seal");
}
