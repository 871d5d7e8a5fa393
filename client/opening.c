#include "client/opening.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/print.h"

static struct {
    const char *key, *from;
    option_list epochs;
    option_number max_age;
    bool signed_only;
} args;

const option opening_options[] = {
    {OPTION_TEXT, 0, true, "key", &args.key, "FILE", "secret keys of the one who opens, ID.key", 0, 0},
    {OPTION_TEXT, 0, false, "from", &args.from, "FILE|DIR", "records to believe (default: the folder of --key)", 0, 0},
    {OPTION_LIST, 0, false, "epoch", &args.epochs, "FILE", "epoch key of a sender", 0, 0},
    {OPTION_FLAG, 0, false, "signed-only", &args.signed_only, NULL, "accept what is signed but not encrypted", 0, 0},
    {OPTION_NUMBER, 0, false, "max-age", &args.max_age, "SECONDS", "refuse what is older (default: any age)", 1,
     3153600000},
    {0},
};

const char *opening_key(void)
{
    return args.key;
}

static int read_senders(opening *o)
{
    const char *slash = strrchr(args.key, '/');
    char *folder = NULL;
    if (args.from != NULL)
        folder = strdup(args.from);
    else if (slash != NULL)
        folder = strndup(args.key, (size_t)(slash - args.key) + 1);
    else
        folder = strdup(".");
    if (folder == NULL)
        return fail(OUT_OF_REACH, "out of memory");
    pep_error error = {""};
    pep_reason reason = pep_keyring_load(&o->senders, &error, folder);
    free(folder);
    return reason == PEP_OK ? DONE : fail_error(reason, &error);
}

static int read_epochs(opening *o)
{
    if (args.epochs.n == 0)
        return DONE;
    o->epochs = calloc(args.epochs.n, sizeof(*o->epochs));
    if (o->epochs == NULL)
        return fail(OUT_OF_REACH, "out of memory");
    for (; o->epoch_count < args.epochs.n; o->epoch_count++) {
        pep_error error = {""};
        pep_reason reason = pep_epoch_load(&o->epochs[o->epoch_count], &error, args.epochs.at[o->epoch_count]);
        if (reason != PEP_OK)
            return fail_error(reason, &error);
    }
    return DONE;
}

const char *opening_from(void)
{
    return args.from;
}

int opening_start(opening *o)
{
    pep_error error = {""};
    pep_reason reason = pep_device_load(&o->device, &error, args.key);
    if (reason != PEP_OK)
        return fail_error(reason, &error);
    drop_old_keys(&o->device, args.key);
    (void)file_changed(&o->key, args.key);
    int code = read_senders(o);
    if (code == DONE)
        code = read_epochs(o);
    o->opener = (pep_opener){.me = &o->device,
                             .senders = o->senders,
                             .epochs = o->epochs,
                             .epoch_count = o->epoch_count,
                             .allow_signed_only = args.signed_only,
                             .max_age_us = args.max_age.value * 1000000};
    return code;
}

void opening_close(opening *o)
{
    pep_device_wipe(&o->device);
    pep_device_wipe(&o->next);
    pep_keyring_free(o->senders);
    for (size_t i = 0; i < o->epoch_count; i++)
        pep_epoch_wipe(&o->epochs[i]);
    free(o->epochs);
    buffer_free(&o->work);
}

static bool load_again(pep_device *out, const char *id, const char *path)
{
    pep_device device;
    bool right = pep_device_load(&device, NULL, path) == PEP_OK && strcmp(device.id, id) == 0;
    if (right)
        *out = device;
    pep_device_wipe(&device);
    return right;
}

/* A rotation replaces ID.key only when the directory has acknowledged it; senders may know ID.key.new before. */
static void take_new_keys(opening *o)
{
    char *fresh = NULL;
    if (file_changed(&o->key, args.key))
        (void)load_again(&o->device, o->device.id, args.key);
    if (asprintf(&fresh, "%s.new", args.key) < 0)
        return;
    if (file_changed(&o->fresh, fresh))
        o->has_next = load_again(&o->next, o->device.id, fresh);
    free(fresh);
}

/* Either may be what a sender knows: a rotation that was refused leaves both. */
static pep_reason open_again(pep_opened *out, opening *o, const uint8_t *bytes, size_t n)
{
    take_new_keys(o);
    pep_reason reason = pep_open(out, o->work.p, o->work.cap, &o->opener, bytes, n);
    if (reason != PEP_CANNOT_OPEN || !o->has_next)
        return reason;
    pep_opener by_next = o->opener;
    by_next.me = &o->next;
    return pep_open(out, o->work.p, o->work.cap, &by_next, bytes, n);
}

pep_reason opening_open(pep_opened *out, opening *o, const char *topic, const uint8_t *bytes, size_t n)
{
    if (!buffer_reserve(&o->work, PEP_WORK_BYTES(n)))
        return PEP_NO_MEMORY;
    o->opener.topic = (pep_view){(const uint8_t *)topic, topic != NULL ? strlen(topic) : 0};
    o->opener.now_us = pep_now_us();
    pep_reason reason = pep_open(out, o->work.p, o->work.cap, &o->opener, bytes, n);
    return reason == PEP_CANNOT_OPEN ? open_again(out, o, bytes, n) : reason;
}

void opening_tick(opening *o)
{
    drop_old_keys(&o->device, args.key);
}

const char *next_flag(size_t *i, unsigned flags)
{
    static const struct {
        unsigned flag;
        const char *name;
    } names[] = {{PEP_FLAG_SIGNED_ONLY, "signed-only"},
                 {PEP_FLAG_WILL, "will"},
                 {PEP_FLAG_CLEAR, "clear"},
                 {PEP_FLAG_COUNTER, "counter"}};
    while (*i < sizeof(names) / sizeof(names[0])) {
        size_t at = (*i)++;
        if (flags & names[at].flag)
            return names[at].name;
    }
    return NULL;
}

void describe_flags(cJSON *object, unsigned flags)
{
    cJSON *array = json_array(object, "flags");
    const char *name;
    for (size_t i = 0; (name = next_flag(&i, flags)) != NULL;)
        json_append(array, name);
}

static void describe_fact(cJSON *object, const pep_fact *fact)
{
    char key[PEP_FACTS_MAX + 1] = "";
    memcpy(key, fact->key.p, fact->key.n); /* a part of PEP_FACTS_MAX bytes */
    if (fact->type == PEP_FACT_TEXT)
        json_bytes(object, key, fact->text);
    else if (fact->type == PEP_FACT_INT)
        json_signed(object, key, fact->integer);
    else
        json_bool(object, key, fact->integer != 0);
}

void describe_facts(cJSON *object, pep_view facts)
{
    if (facts.n == 0)
        return;
    cJSON *record = json_object(object, "record");
    pep_fact fact;
    for (size_t at = 0; pep_facts_next(&fact, &at, facts);)
        describe_fact(record, &fact);
}

void describe_meta(cJSON *object, const pep_meta *meta)
{
    if (meta->content_type.p != NULL)
        json_bytes(object, "content_type", meta->content_type);
    if (meta->has_content_format)
        json_unsigned(object, "content_format", meta->content_format);
    if (meta->correlation.p != NULL)
        json_bytes(object, "correlation", meta->correlation);
    if (meta->reply_topic.p != NULL)
        json_bytes(object, "reply_topic", meta->reply_topic);
    if (meta->has_content_coding)
        json_unsigned(object, "content_coding", meta->content_coding);
}
