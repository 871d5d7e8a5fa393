#include "client/resolve.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "client/io.h"
#include "client/print.h"

#define HISTORY_MAX 4096 /* statements of one device */

struct resolve_statement {
    struct resolve_statement *next;
    size_t n;
    uint8_t bytes[];
};

static struct {
    const char *pins;
    option_list authorities;
    bool off;
} args;

const option resolving_options[] = {
    {OPTION_TEXT, 0, false, "pins", &args.pins, "DIR", "what was seen of others (default: pins, beside --key)", 0, 0},
    {OPTION_LIST, 0, false, "authority", &args.authorities, "KEY|FILE", "refuse keys that it did not certify", 0, 0},
    {OPTION_FLAG, 0, false, "no-directory", &args.off, NULL, "ask no directory: files alone count", 0, 0},
    {0},
};

bool resolver_off(void)
{
    return args.off;
}

int resolver_check(void)
{
    if (args.off && args.authorities.n > 0)
        return wrong_usage("--authority: its certificates come from the directory, which --no-directory does not ask");
    return DONE;
}

/* ---- authorities ---- */

static int read_authority_file(uint8_t key[PEP_SIGN_PUBLIC_BYTES], const char *path)
{
    buffer file = {0};
    int code = read_file(&file, path, 4096);
    if (code == DONE && !buffer_reserve(&file, file.n + 1))
        code = fail(OUT_OF_REACH, "out of memory");
    if (code == DONE) {
        file.p[file.n] = '\0';
        file.p[strcspn((char *)file.p, "\r\n")] = '\0';
        if (!pep_authority_from_text(key, (char *)file.p))
            code = fail(OUT_OF_REACH, "%s: its first line is no authority's key; authority.public has one", path);
    }
    buffer_free(&file);
    return code;
}

int read_authorities(uint8_t (**out)[PEP_SIGN_PUBLIC_BYTES], size_t *count, const option_list *list)
{
    *count = 0;
    *out = NULL;
    if (list->n == 0)
        return DONE;
    *out = calloc(list->n, sizeof(**out));
    if (*out == NULL)
        return fail(OUT_OF_REACH, "out of memory");
    for (; *count < list->n; (*count)++) {
        if (pep_authority_from_text((*out)[*count], list->at[*count]))
            continue;
        int code = read_authority_file((*out)[*count], list->at[*count]);
        if (code != DONE)
            return code;
    }
    return DONE;
}

/* ---- the pins ---- */

static char *folder_beside(const char *key)
{
    const char *slash = strrchr(key, '/');
    char *folder = NULL;
    if (asprintf(&folder, "%.*spins", slash != NULL ? (int)(slash - key) + 1 : 0, key) < 0)
        return NULL;
    return folder;
}

pep_pins *resolver_pins(resolver *r, pep_reason *reason, pep_error *error)
{
    *reason = PEP_OK;
    if (r->pins == NULL)
        *reason = pep_pins_open(&r->pins, error, r->folder, (const uint8_t(*)[PEP_SIGN_PUBLIC_BYTES])r->authorities,
                                r->authority_count);
    return r->pins;
}

int resolver_open(resolver *r, asker *ask, const char *key, const char *records)
{
    struct stat st;
    r->ask = ask;
    int code = read_authorities(&r->authorities, &r->authority_count, &args.authorities);
    if (code != DONE)
        return code;
    r->folder = args.pins != NULL ? strdup(args.pins) : folder_beside(key);
    r->given = given_read(records);
    if (r->folder == NULL || r->given == NULL)
        return fail(OUT_OF_REACH, "out of memory");
    if (r->authority_count == 0 && lstat(r->folder, &st) != 0 && errno == ENOENT)
        return DONE; /* made when there is something to pin, or something that is not to be believed without */
    pep_reason reason;
    pep_error error = {""};
    return resolver_pins(r, &reason, &error) != NULL ? DONE : fail_error(reason, &error);
}

void resolver_close(resolver *r)
{
    pep_pins_close(r->pins);
    given_free(r->given);
    free(r->authorities);
    free(r->folder);
    *r = (resolver){0};
}

/* ---- one resolution ---- */

static void drop_statements(resolution *n)
{
    while (n->first != NULL) {
        struct resolve_statement *s = n->first;
        n->first = s->next;
        free(s);
    }
    if (n->r != NULL)
        n->r->memory -= n->memory;
    n->count = 0;
    n->memory = 0;
}

static void finish(resolution *n, pep_reason reason)
{
    n->reason = reason;
    drop_statements(n);
    n->done(n);
}

static void finish_with(resolution *n, pep_reason reason, const char *text)
{
    (void)snprintf(n->error.text, sizeof(n->error.text), "%s: %s (%.300s)", n->id[0] != '\0' ? n->id : "the directory",
                   pep_reason_name(reason), text);
    finish(n, reason);
}

void resolution_end(resolution *n)
{
    if (n->q.open)
        ask_drop(n->r->ask, &n->q);
    drop_statements(n);
}

static void send_question(resolution *n, pep_reason made, const char *json, int wait_ms)
{
    if (made != PEP_OK)
        finish_with(n, made, pep_reason_text(made));
    else if (!ask_send(n->r->ask, &n->q, json, strlen(json), wait_ms))
        finish_with(n, PEP_TRY_LATER, "no connection");
}

static void begin(resolver *r, resolution *n)
{
    n->r = r;
    n->last = &n->first;
    n->deadline_ms = mqtt_now_ms() + RESOLVE_TOTAL_MS;
}

static void start(resolution *n, void (*answered)(question *, pep_reason, const cJSON *, const char *))
{
    n->q = (question){.owner = n, .answered = answered};
    ask_begin(&n->q);
}

static void remember(resolution *n, pep_pins *pins)
{
    const pep_record *record = pep_pins_find_id(pins, n->id);
    if (n->has_history)
        return;
    n->was_known = record != NULL;
    n->was_ended = record != NULL && record->ended != PEP_OK;
    if (record != NULL)
        memcpy(n->kid_before, record->sign_kid, PEP_KID_BYTES);
    n->after = record != NULL ? record->version : 0; /* 0 in that of a revoked device: then from the beginning */
}

static void ask_history(resolution *n);

static bool lacks_kid(const resolution *n, pep_pins *pins)
{
    return n->by_kid && pep_pins_find(pins, n->kid) == NULL;
}

static void judge(resolution *n)
{
    pep_reason reason;
    pep_pins *pins = resolver_pins(n->r, &reason, &n->error);
    if (pins == NULL) {
        finish(n, reason);
        return;
    }
    reason = given_pin(n->r->given, pins, &n->error, n->id);
    if (reason != PEP_OK) {
        finish(n, reason);
        return;
    }
    remember(n, pins);
    reason = pep_pins_take(pins, &n->news, &n->error, n->id, n->entry, n->entry_n, pep_now_us() / 1000000);
    bool accepted = reason == PEP_OK || reason == PEP_REVOKED_SIGNER;
    bool lacking = accepted && lacks_kid(n, pins);
    if (lacking)
        n->after = 0;
    if (!n->has_history && (reason == PEP_NEEDS_HISTORY || lacking)) {
        ask_history(n);
        return;
    }
    if (reason == PEP_NEEDS_HISTORY && n->history_reason != PEP_OK) {
        reason = n->history_reason;
        n->error = n->history_error;
    }
    if (reason == PEP_NEEDS_HISTORY)
        finish_with(n, reason, "the directory has no complete history of it");
    else if (reason == PEP_OK && lacking)
        finish_with(n, PEP_UNKNOWN_SIGNER, pep_reason_text(PEP_UNKNOWN_SIGNER));
    else
        finish(n, reason);
}

/* ---- histories ---- */

/* Room for one more of `size` bytes; a history that others leave no room for is for another time. */
static pep_reason make_room(resolution *n, struct resolve_statement **out, size_t size)
{
    size_t room = sizeof(**out) + size;
    size_t limit = n->by_kid ? RESOLVE_MEMORY_MAX / 2 : RESOLVE_MEMORY_MAX;
    if (n->count == HISTORY_MAX || n->memory + room > RESOLVE_BYTES_MAX)
        return PEP_MALFORMED;
    *out = n->r->memory + room <= limit ? malloc(room) : NULL;
    if (*out == NULL)
        return PEP_TRY_LATER;
    n->memory += room;
    n->r->memory += room;
    return PEP_OK;
}

static pep_reason add_statement(resolution *n, const cJSON *item)
{
    uint8_t bytes[PEP_STATEMENT_BYTES_MAX];
    size_t size;
    pep_statement parsed;
    struct resolve_statement *s;
    if (!decode_bytes(bytes, &size, sizeof(bytes), item))
        return PEP_MALFORMED;
    pep_reason reason = pep_statement_parse(&parsed, bytes, size);
    if (reason == PEP_OK && strcmp(parsed.id, n->id) != 0)
        reason = PEP_WRONG_ID;
    if (reason == PEP_OK)
        reason = make_room(n, &s, size);
    if (reason != PEP_OK)
        return reason;
    *s = (struct resolve_statement){.n = size};
    memcpy(s->bytes, bytes, size);
    *n->last = s;
    n->last = &s->next;
    n->count++;
    return PEP_OK;
}

static void take_history(resolution *n)
{
    size_t i = 0;
    pep_view *views = calloc(n->count + 1, sizeof(*views));
    for (const struct resolve_statement *s = n->first; views != NULL && s != NULL; s = s->next)
        views[i++] = (pep_view){s->bytes, s->n};
    n->history_reason =
        views != NULL ? pep_pins_take_history(n->r->pins, &n->history_error, n->id, views, i) : PEP_NO_MEMORY;
    free(views);
    n->has_history = true;
    judge(n);
}

static void on_history(question *q, pep_reason reason, const cJSON *data, const char *text)
{
    resolution *n = q->owner;
    uint64_t next;
    const cJSON *item;
    size_t before = n->count;
    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(data, "statements"))
    {
        if (reason == PEP_OK)
            reason = add_statement(n, item);
        text = "its history";
    }
    if (reason != PEP_OK) {
        finish_with(n, reason, text);
        return;
    }
    if (!number_field(&next, data, "next") || n->count == before || next <= n->after) {
        take_history(n);
        return;
    }
    n->after = next;
    ask_history(n);
}

/* Each page has its time, and all of them together: no page gives the next one more. */
static void ask_history(resolution *n)
{
    char json[PEP_COMMAND_JSON_MAX];
    uint64_t now_ms = mqtt_now_ms();
    uint64_t left_ms = n->deadline_ms > now_ms ? n->deadline_ms - now_ms : 0;
    if (left_ms == 0) {
        finish_with(n, PEP_TRY_LATER, "its history takes too long");
        return;
    }
    start(n, on_history);
    send_question(n, pep_command_history(json, n->q.correlation, n->id, n->after), json,
                  left_ms < ASK_WAIT_MS ? (int)left_ms : ASK_WAIT_MS);
}

/* ---- looking up ---- */

static bool read_entry(resolution *n, const cJSON *found)
{
    const char *id = text_field(found, "id");
    if (id == NULL || !pep_id_valid(id, strlen(id)) || (n->id[0] != '\0' && strcmp(n->id, id) != 0))
        return false;
    memcpy(n->id, id, strlen(id) + 1);
    return decode_bytes(n->entry, &n->entry_n, sizeof(n->entry), cJSON_GetObjectItemCaseSensitive(found, "entry"));
}

static void on_lookup(question *q, pep_reason reason, const cJSON *data, const char *text)
{
    resolution *n = q->owner;
    const cJSON *found = cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(data, "entries"), 0);
    const char *error = text_field(found, "error");
    if (reason == PEP_OK && error != NULL) {
        reason = reason_of(error);
        text = pep_reason_text(reason);
    }
    if (reason != PEP_OK)
        finish_with(n, reason, text);
    else if (!read_entry(n, found))
        finish_with(n, PEP_MALFORMED, "the directory's answer");
    else
        judge(n);
}

void resolve_id(resolver *r, resolution *n, const char *id, int wait_ms)
{
    char json[PEP_COMMAND_JSON_MAX];
    begin(r, n);
    start(n, on_lookup);
    (void)snprintf(n->id, sizeof(n->id), "%s", id);
    send_question(n, pep_command_lookup_id(json, n->q.correlation, id), json, wait_ms);
}

void resolve_kid(resolver *r, resolution *n, const uint8_t kid[PEP_KID_BYTES], int wait_ms)
{
    char json[PEP_COMMAND_JSON_MAX];
    begin(r, n);
    start(n, on_lookup);
    n->by_kid = true;
    memcpy(n->kid, kid, PEP_KID_BYTES);
    send_question(n, pep_command_lookup_kid(json, n->q.correlation, kid), json, wait_ms);
}

void resolve_entry(resolver *r, resolution *n, const char *id, const uint8_t *entry, size_t entry_n, const uint8_t *kid)
{
    begin(r, n);
    n->by_kid = kid != NULL;
    if (kid != NULL)
        memcpy(n->kid, kid, PEP_KID_BYTES);
    (void)snprintf(n->id, sizeof(n->id), "%s", id);
    if (!pep_id_valid(id, strlen(id)) || entry_n > sizeof(n->entry)) {
        finish_with(n, PEP_MALFORMED, pep_reason_text(PEP_MALFORMED));
        return;
    }
    memcpy(n->entry, entry, entry_n);
    n->entry_n = entry_n;
    judge(n);
}

/* ---- telling ---- */

/* What changed, by what is pinned now: a history may have gone over several steps at once. */
static void report_change(const resolution *n)
{
    const pep_record *record = pep_pins_find_id(n->r->pins, n->id);
    if (record == NULL || !n->was_known)
        return;
    bool other_key = memcmp(record->sign_kid, n->kid_before, PEP_KID_BYTES) != 0;
    if (n->news == PEP_PIN_RECOVERED)
        warn("%s has a new signing key, which an authority signed: version %" PRIu64, n->id, record->version);
    else if (other_key)
        warn("%s has a new signing key, which the old one signed: version %" PRIu64, n->id, record->version);
    else if (n->news == PEP_PIN_RENEWED)
        warn("%s renewed its record: version %" PRIu64, n->id, record->version);
}

static void report_refusal(const resolution *n)
{
    warn_loudly("what the directory says of %s is not believed: %s (%s). If you made sure of its new key by other "
                "means, 'pep lookup --pins %s --forget %s' accepts it",
                n->id, pep_reason_name(n->reason), pep_reason_text(n->reason), n->r->folder, n->id);
}

void resolution_report(const resolution *n)
{
    switch (n->reason) {
    case PEP_OK:
        report_change(n);
        break;
    case PEP_REVOKED_SIGNER:
        if (!n->was_ended)
            warn("%s was revoked", n->id);
        break;
    case PEP_VERSION_WENT_BACK:
    case PEP_UNPROVEN_KEY:
    case PEP_BROKEN_CHAIN:
    case PEP_WRONG_VERSION:
    case PEP_KID_TAKEN:
        report_refusal(n);
        break;
    case PEP_NOT_CERTIFIED:
    case PEP_WRONG_ID:
    case PEP_BAD_SIGNATURE:
    case PEP_MALFORMED:
        warn_loudly("what the directory says of %s is not believed: %s (%s)", n->id[0] != '\0' ? n->id : "a key",
                    pep_reason_name(n->reason), pep_reason_text(n->reason));
        break;
    case PEP_UNKNOWN_ID:
    case PEP_UNKNOWN_SIGNER:
    case PEP_TRY_LATER:
        break;
    default:
        warn("%s", n->error.text);
    }
}
