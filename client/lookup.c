/* pep lookup: what the directory says of devices, and whether that fits what was seen before. */
#include <inttypes.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "client/commands.h"
#include "client/print.h"
#include "client/resolve.h"
#include "client/session.h"

static struct {
    option_list names;
    const char *pins, *forget;
    option_list authorities;
    bool history, list, json;
} args;

static const option options[] = {
    {OPTION_OPERANDS, 0, false, NULL, &args.names, "ID|KID", "devices, or signing keys by their kid (may be several)",
     0, 0},
    {OPTION_TEXT, 0, false, "pins", &args.pins, "DIR", "compare with what was seen, and remember", 0, 0},
    {OPTION_LIST, 0, false, "authority", &args.authorities, "KEY|FILE", "refuse keys that it did not certify", 0, 0},
    {OPTION_FLAG, 0, false, "history", &args.history, NULL, "print every version", 0, 0},
    {OPTION_FLAG, 0, false, "list", &args.list, NULL, "print every device of the directory", 0, 0},
    {OPTION_TEXT, 0, false, "forget", &args.forget, "ID", "forget what was seen of a device, in --pins", 0, 0},
    {OPTION_FLAG, 0, false, "json", &args.json, NULL, "print JSON, one object a line", 0, 0},
    {0},
};

typedef struct {
    mqtt_link link;
    asker asker;
    pep_pins *pins;
    uint8_t (*authorities)[PEP_SIGN_PUBLIC_BYTES];
    size_t authority_count;
} looker;

/* ---- one line ---- */

typedef struct {
    const char *id;
    const uint8_t *kid; /* NULL: none is known */
    uint64_t version, not_after_s;
    const char *state; /* "current", or a reason's name */
} line;

static int print_line(const line *l)
{
    char kid[HEX_KID_BYTES] = "-";
    char until[TIME_BYTES] = "-";
    if (l->kid != NULL)
        hex_kid(kid, l->kid);
    if (l->not_after_s > 0)
        time_s(until, l->not_after_s);
    if (!args.json) {
        put_escaped(stdout, l->id, strlen(l->id));
        printf(" %s %" PRIu64 " %s %s\n", kid, l->version, until, l->state);
        return finish_output();
    }
    cJSON *object = json_object(NULL, NULL);
    json_text(object, "id", l->id);
    if (l->kid != NULL)
        json_text(object, "kid", kid);
    json_unsigned(object, "version", l->version);
    if (l->not_after_s > 0)
        json_text(object, "not_after", until);
    json_text(object, "state", l->state);
    return json_print(object);
}

static const char *state_name(pep_reason reason)
{
    return reason == PEP_OK ? "current" : pep_reason_name(reason);
}

static int print_found(const found_entry *e, pep_reason state)
{
    bool revoked = e->statement.kind == PEP_STATEMENT_REVOCATION;
    const line l = {.id = e->statement.id,
                    .kid = e->head.sign_kid,
                    .version = e->statement.version,
                    .not_after_s = revoked ? 0 : e->statement.record.not_after_s,
                    .state = state_name(state)};
    int code = print_line(&l);
    return code == DONE ? exit_code(state) : code;
}

/* ---- judging without pins ---- */

static pep_reason judge_alone(const looker *k, const found_entry *e)
{
    pep_certificate c;
    const pep_statement *s = &e->statement;
    uint64_t now_s = pep_now_us() / 1000000;
    if (s->kind == PEP_STATEMENT_REVOCATION)
        return PEP_REVOKED_SIGNER;
    if (s->record.not_after_s < now_s)
        return PEP_EXPIRED_SIGNER;
    if (k->authority_count == 0)
        return PEP_OK;
    if (e->entry.certificate.n == 0 ||
        pep_certificate_parse(&c, e->entry.certificate.p, e->entry.certificate.n,
                              (const uint8_t(*)[PEP_SIGN_PUBLIC_BYTES])k->authorities, k->authority_count) != PEP_OK)
        return PEP_NOT_CERTIFIED;
    return pep_certificate_covers(&c, s->id, s->record.sign_kid, false, now_s);
}

/* ---- judging by pins ---- */

static void on_resolved(resolution *n)
{
    *(bool *)n->owner = true;
}

static int judge_pinned(looker *k, pep_reason *state, const found_entry *e, const uint8_t *kid)
{
    bool over = false;
    resolution n = {.owner = &over, .done = on_resolved};
    resolver r = {.ask = &k->asker, .pins = k->pins, .folder = (char[]){""}};
    char *folder = strdup(args.pins);
    uint8_t bytes[PEP_ENTRY_BYTES_MAX];
    size_t size;
    if (folder == NULL)
        return fail(OUT_OF_REACH, "out of memory");
    r.folder = folder;
    int code = DONE;
    if (pep_entry_encode(bytes, &size, &e->entry) != PEP_OK)
        code = fail_reason(PEP_MALFORMED, e->statement.id);
    else
        resolve_entry(&r, &n, e->statement.id, bytes, size, kid);
    if (code == DONE)
        code = ask_until(&k->asker, &over);
    if (!over)
        resolution_end(&n);
    else
        resolution_report(&n);
    *state = n.reason;
    free(folder);
    return code;
}

/* ---- asking ---- */

typedef pep_reason make_json(char *json, const char *correlation, const char *name);

static int ask(looker *k, reply *out, make_json *make, const char *name)
{
    char json[PEP_COMMAND_JSON_MAX];
    question q = {0};
    ask_begin(&q);
    *out = (reply){0};
    pep_reason reason = make(json, q.correlation, name);
    if (reason != PEP_OK)
        return wrong_usage("'%.80s': is neither an id nor a kid", name);
    return ask_and_wait(&k->asker, out, &q, json, strlen(json));
}

static bool kid_from_text(uint8_t kid[PEP_KID_BYTES], const char *text)
{
    size_t n;
    const char *end;
    return strlen(text) == (size_t)2 * PEP_KID_BYTES &&
           sodium_hex2bin(kid, PEP_KID_BYTES, text, strlen(text), NULL, &n, &end) == 0 && n == PEP_KID_BYTES &&
           *end == '\0';
}

static pep_reason make_lookup(char *json, const char *correlation, const char *name)
{
    uint8_t kid[PEP_KID_BYTES];
    return kid_from_text(kid, name) ? pep_command_lookup_kid(json, correlation, kid)
                                    : pep_command_lookup_id(json, correlation, name);
}

static int print_unknown(const char *name, pep_reason reason)
{
    const line l = {.id = name, .state = state_name(reason)};
    int code = print_line(&l);
    return code == DONE ? exit_code(reason) : code;
}

/* ---- histories ---- */

static uint64_t after_position;

static pep_reason make_history(char *json, const char *correlation, const char *id)
{
    return pep_command_history(json, correlation, id, after_position);
}

static int show_statement(const cJSON *item, const char *id)
{
    static const char *const kinds[] = {[PEP_STATEMENT_RECORD] = "record",
                                        [PEP_STATEMENT_ROTATION] = "rotation",
                                        [PEP_STATEMENT_REVOCATION] = "revocation"};
    uint8_t bytes[PEP_STATEMENT_BYTES_MAX];
    size_t n;
    pep_statement s;
    pep_reason reason =
        decode_bytes(bytes, &n, sizeof(bytes), item) ? pep_statement_parse(&s, bytes, n) : PEP_MALFORMED;
    if (reason == PEP_OK && strcmp(s.id, id) != 0)
        reason = PEP_WRONG_ID;
    if (reason != PEP_OK)
        return fail_reason(reason, id);
    bool revoked = s.kind == PEP_STATEMENT_REVOCATION;
    const line l = {.id = s.id,
                    .kid = revoked ? s.old_kid : s.record.sign_kid,
                    .version = s.version,
                    .not_after_s = revoked ? 0 : s.record.not_after_s,
                    .state = kinds[s.kind]};
    return print_line(&l);
}

/* *more: there is another page; behind an empty one there is none, whatever it says. */
static int ask_page(looker *k, reply *out, bool *more, const char *id)
{
    uint64_t next = 0;
    int code = ask(k, out, make_history, id);
    if (code == DONE && out->reason != PEP_OK)
        code = fail_reply(out, id);
    *more = code == DONE && number_field(&next, out->data, "next") && next > after_position &&
            cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(out->data, "statements")) > 0;
    after_position = next;
    return code;
}

static int show_page(looker *k, bool *more, const char *id)
{
    reply r;
    const cJSON *item;
    int code = ask_page(k, &r, more, id);
    if (code == DONE)
        cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(r.data, "statements"))
        {
            code = show_statement(item, id);
            if (code != DONE)
                break;
        }
    cJSON_Delete(r.data);
    return code;
}

static int show_history(looker *k, const char *id)
{
    bool more;
    int code;
    after_position = 0;
    do
        code = show_page(k, &more, id);
    while (code == DONE && more);
    return code;
}

/* ---- former keys, without pins ---- */

/* A history as far as it was read. */
typedef struct {
    pep_head head;
    bool known; /* head is one */
    bool shown; /* the key that is looked for was one of its keys */
} trail;

/* An admin's revocation is signed by nobody whom we know: what it ends was a key all the same. */
static bool follow_trail(const looker *k, trail *t, const cJSON *item, const char *id, const uint8_t *kid)
{
    uint8_t bytes[PEP_STATEMENT_BYTES_MAX];
    size_t n;
    pep_statement s;
    const pep_trust trust = {.authorities = (const uint8_t(*)[PEP_SIGN_PUBLIC_BYTES])k->authorities,
                             .authority_count = k->authority_count};
    if (!decode_bytes(bytes, &n, sizeof(bytes), item) || pep_statement_parse(&s, bytes, n) != PEP_OK ||
        strcmp(s.id, id) != 0)
        return false;
    if (!t->known || s.kind == PEP_STATEMENT_RECORD) {
        t->shown = false;
        t->known = pep_head_begin(&t->head, &s) == PEP_OK;
    } else {
        pep_reason reason = pep_head_advance(&t->head, NULL, &s, &trust);
        if (reason != PEP_OK && (reason != PEP_UNPROVEN_KEY || s.kind != PEP_STATEMENT_REVOCATION))
            return false;
        t->head.version = s.version;
        t->head.revoked = s.kind == PEP_STATEMENT_REVOCATION;
        memcpy(t->head.hash, s.hash, sizeof(t->head.hash));
    }
    t->shown = t->shown || (t->known && memcmp(t->head.sign_kid, kid, PEP_KID_BYTES) == 0);
    return t->known;
}

/* *state stays what it is where the history leads from that key to what was found. */
static int find_former(looker *k, pep_reason *state, const found_entry *e, const uint8_t *kid)
{
    trail t = {.shown = false};
    bool follows = true;
    bool more = true;
    int code = DONE;
    after_position = 0;
    while (code == DONE && follows && more) {
        reply r;
        const cJSON *item;
        code = ask_page(k, &r, &more, e->statement.id);
        cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(r.data, "statements"))
        {
            follows = follows && follow_trail(k, &t, item, e->statement.id, kid);
        }
        cJSON_Delete(r.data);
    }
    if (!follows || !t.shown || memcmp(t.head.hash, e->head.hash, sizeof(t.head.hash)) != 0)
        *state = PEP_UNKNOWN_SIGNER;
    return code;
}

/* ---- one device ---- */

/* `kid`: the key that was asked for, or NULL. Whose it is, the directory must show. */
static int show(looker *k, const found_entry *e, const uint8_t *kid)
{
    pep_reason state = judge_alone(k, e);
    int code = DONE;
    if (k->pins != NULL && state != PEP_NOT_CERTIFIED)
        code = judge_pinned(k, &state, e, kid);
    else if (kid != NULL && memcmp(kid, e->head.sign_kid, PEP_KID_BYTES) != 0)
        code = find_former(k, &state, e, kid);
    if (code == DONE && kid != NULL && state == PEP_UNKNOWN_SIGNER)
        return print_unknown(hex_kid((char[HEX_KID_BYTES]){""}, kid), state);
    return code == DONE ? print_found(e, state) : code;
}

static int show_found(looker *k, const cJSON *data, const char *name)
{
    static found_entry e;
    uint8_t kid[PEP_KID_BYTES];
    bool by_kid = kid_from_text(kid, name);
    const cJSON *found = cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(data, "entries"), 0);
    const char *error = text_field(found, "error");
    if (error != NULL)
        return print_unknown(name, reason_of(error));
    pep_reason reason = read_found(&e, cJSON_GetObjectItemCaseSensitive(found, "entry"));
    if (reason == PEP_OK && !by_kid && strcmp(e.statement.id, name) != 0)
        reason = PEP_WRONG_ID;
    return reason == PEP_OK ? show(k, &e, by_kid ? kid : NULL) : print_unknown(name, reason);
}

static int look_up(looker *k, const char *name)
{
    reply r;
    int code = ask(k, &r, make_lookup, name);
    if (code == DONE)
        code = r.reason == PEP_OK ? show_found(k, r.data, name) : fail_reply(&r, name);
    cJSON_Delete(r.data);
    return code;
}

/* ---- lists ---- */

static pep_reason make_list(char *json, const char *correlation, const char *after)
{
    return pep_command_list(json, correlation, after);
}

/* An item of a list is the directory's word alone: nothing in it is signed. */
static int show_item(const cJSON *item)
{
    uint8_t kid[PEP_KID_BYTES];
    const char *id = text_field(item, "id");
    const char *hex = text_field(item, "kid");
    line l = {.id = id, .state = "current"};
    if (id == NULL || !pep_id_valid(id, strlen(id)))
        return fail_reason(PEP_MALFORMED, "the directory's list");
    if (hex != NULL && kid_from_text(kid, hex))
        l.kid = kid;
    (void)number_field(&l.version, item, "version");
    (void)number_field(&l.not_after_s, item, "notAfter");
    if (l.not_after_s > 0 && l.not_after_s < pep_now_us() / 1000000)
        l.state = state_name(PEP_EXPIRED_SIGNER);
    if (cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(item, "revoked")))
        l.state = state_name(PEP_REVOKED_SIGNER);
    return print_line(&l);
}

/* `after`: "" at the beginning; the next page's where there is one. */
static int list_page(looker *k, char after[PEP_ID_MAX + 1], bool *more)
{
    reply r;
    const cJSON *item;
    int code = ask(k, &r, make_list, after[0] != '\0' ? after : NULL);
    if (code == DONE && r.reason != PEP_OK)
        code = fail_reply(&r, "list");
    if (code == DONE)
        cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(r.data, "devices"))
        {
            code = show_item(item);
            if (code != DONE)
                break;
        }
    const char *next = text_field(r.data, "next");
    *more = code == DONE && next != NULL && pep_id_valid(next, strlen(next)) && strcmp(next, after) > 0 &&
            cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(r.data, "devices")) > 0;
    if (*more)
        memcpy(after, next, strlen(next) + 1);
    cJSON_Delete(r.data);
    return code;
}

static int list_all(looker *k)
{
    char after[PEP_ID_MAX + 1] = "";
    bool more;
    int code;
    do
        code = list_page(k, after, &more);
    while (code == DONE && more);
    return code;
}

/* ---- the run ---- */

static int open_pins(looker *k)
{
    pep_error error = {""};
    int code = read_authorities(&k->authorities, &k->authority_count, &args.authorities);
    if (code != DONE || args.pins == NULL)
        return code;
    pep_reason reason = pep_pins_open(&k->pins, &error, args.pins,
                                      (const uint8_t(*)[PEP_SIGN_PUBLIC_BYTES])k->authorities, k->authority_count);
    return reason == PEP_OK ? DONE : fail_error(reason, &error);
}

static int forget(const looker *k)
{
    pep_error error = {""};
    pep_reason reason = pep_pins_forget(k->pins, &error, args.forget);
    if (reason != PEP_OK)
        return fail_error(reason, &error);
    printf("forgot %s: the next keys that the directory tells are believed\n", args.forget);
    return finish_output();
}

/* Every name is looked at; the first failure decides the exit code. */
static int look_up_all(looker *k)
{
    int first = DONE;
    for (size_t i = 0; i < args.names.n; i++) {
        int code = args.history ? show_history(k, args.names.at[i]) : look_up(k, args.names.at[i]);
        if (first == DONE)
            first = code;
    }
    return first;
}

static int look(looker *k)
{
    int code = open_pins(k);
    if (code != DONE)
        return code;
    if (args.forget != NULL)
        return forget(k);
    code = mqtt_prepare(&k->link);
    if (code != DONE)
        return code;
    ask_prepare(&k->asker, &k->link);
    mqtt_stop_on_signals();
    code = mqtt_connect(&k->link);
    if (code != DONE)
        return code;
    return args.list ? list_all(k) : look_up_all(k);
}

static int run(void)
{
    int what = (args.names.n > 0) + args.list + (args.forget != NULL);
    if (what != 1)
        return wrong_usage("give IDs or KIDs, or one of --list and --forget");
    if (args.forget != NULL && args.pins == NULL)
        return wrong_usage("--forget needs --pins DIR: the folder pins beside the key of pub or sub");
    looker k = {0};
    int code = look(&k);
    mqtt_close(&k.link);
    pep_pins_close(k.pins);
    free(k.authorities);
    return code;
}

const command lookup_command = {
    "lookup",
    "Prints what the directory of a broker says of devices",
    "",
    "A line is: id, kid, version, valid until, state. With --pins, what does not follow from what was seen before is\n"
    "refused, and what does is remembered; without, a record's own signature is all that is checked.\n",
    {options, connection_options},
    run,
};
