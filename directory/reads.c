/* What anybody may ask: lookup, list, history, status. */
#include <string.h>

#include "directory/commands.h"

#define ENTRIES_MAX   64
#define LIST_MAX      1000
#define LIST_COUNT    100
#define HISTORY_COUNT 32
#define LIST_PER_LOOK 16  /* devices in a list cost about as much as one looked up by itself */
#define HISTORY_LOOKS 4   /* and so much what is asked for at once of a history */
#define ROW_BYTES     160 /* of a device in a list, about */

/* base64url, and the names around it */
static size_t text_bytes(size_t n)
{
    return n / 3 * 4 + ROW_BYTES;
}

/* ---- lookup ---- */

static const char *const lookup_fields[] = {"id", "kid", "ids", "kids"};

static bool add_entry(session *x, command *c, cJSON *to, const key_row *head, const statement_row *last)
{
    uint8_t entry[PEP_ENTRY_BYTES_MAX];
    size_t n = 0;
    if (!chain_entry(entry, &n, last)) {
        json_add_text(to, "id", head->id);
        return json_add_text(to, "error", pep_reason_name(PEP_STORE_FAILED));
    }
    return has_room(x, c, text_bytes(n)) && json_add_text(to, "id", head->id) && json_add_kid(to, "kid", head->kid) &&
           json_add_bytes(to, "entry", entry, n);
}

/* The head of the id, or of the id that has, or had, the kid. */
static store_result find_asked(session *x, key_row *head, bool *found, const char *id, const uint8_t *kid)
{
    key_row key;
    if (id != NULL)
        return visible_head(x, head, found, id);
    store_result result = rows_key(x->s, &key, found, kid);
    return result == STORE_OK && *found ? visible_head(x, head, found, key.id) : result;
}

/* One entry. *ok is false where it was refused as a whole, or memory ended. */
static store_result look_up(session *x, command *c, bool *ok, cJSON *entries, const char *id, const char *kid_text)
{
    uint8_t kid[PEP_KID_BYTES];
    key_row head;
    statement_row last = {.n = 0};
    bool found;
    bool is_kid = id == NULL;
    *ok = false;
    if (is_kid ? kid_text == NULL || !json_get_kid(kid, kid_text) : !pep_id_valid(id, strlen(id)))
        return refuse_with(c, PEP_BAD_COMMAND, "%s is not what it must be", is_kid ? "a kid" : "an id");
    store_result result = find_asked(x, &head, &found, id, kid);
    if (result == STORE_OK && found)
        result = rows_statement(x->s, &last, &found, head.id, head.position);
    if (result != STORE_OK)
        return result;
    cJSON *item = cJSON_CreateObject();
    if (!cJSON_AddItemToArray(entries, item))
        return STORE_OK;
    if (found)
        *ok = add_entry(x, c, item, &head, &last);
    else
        *ok = has_room(x, c, ROW_BYTES) && json_add_text(item, is_kid ? "kid" : "id", is_kid ? kid_text : id) &&
              json_add_text(item, "error", pep_reason_name(PEP_UNKNOWN_ID));
    return STORE_OK;
}

static store_result look_up_all(session *x, command *c, cJSON *entries, const cJSON *asked, bool by_id)
{
    const cJSON *item = asked;
    bool ok = true;
    bool many = cJSON_IsArray(asked);
    int count = many ? cJSON_GetArraySize(asked) : 1;
    store_result result = STORE_OK;
    if (count < 1 || count > ENTRIES_MAX)
        return refuse_with(c, PEP_BAD_COMMAND, "1 to %d can be looked up at once", ENTRIES_MAX);
    if (!may_look_up(x, c, (unsigned)count))
        return STORE_OK;
    for (item = many ? asked->child : asked; ok && result == STORE_OK && item != NULL;
         item = many ? item->next : NULL) {
        const char *text = cJSON_GetStringValue(item);
        if (text == NULL)
            return refuse_with(c, PEP_BAD_COMMAND, "%s must be text", by_id ? "an id" : "a kid");
        result = look_up(x, c, &ok, entries, by_id ? text : NULL, by_id ? NULL : text);
    }
    if (result == STORE_OK && !ok && c->reason == PEP_OK)
        c->reason = PEP_NO_MEMORY;
    return result;
}

store_result run_lookup(session *x, command *c)
{
    const cJSON *asked = NULL;
    size_t which = 0;
    for (size_t i = 0; i < sizeof lookup_fields / sizeof lookup_fields[0]; i++) {
        const cJSON *item = cJSON_GetObjectItemCaseSensitive(c->request, lookup_fields[i]);
        if (item == NULL)
            continue;
        if (asked != NULL || cJSON_IsArray(item) != (i >= 2))
            return refuse_with(c, PEP_BAD_COMMAND, "lookup takes one of id, kid, ids and kids");
        asked = item;
        which = i;
    }
    if (asked == NULL)
        return refuse_with(c, PEP_BAD_COMMAND, "lookup takes one of id, kid, ids and kids");
    c->data = cJSON_CreateObject();
    cJSON *entries = cJSON_AddArrayToObject(c->data, "entries");
    if (entries == NULL)
        return refuse(c, PEP_NO_MEMORY);
    return look_up_all(x, c, entries, asked, which % 2 == 0);
}

/* ---- list ---- */

typedef struct {
    session *x;
    command *c;
    cJSON *to;
    uint64_t count, left;
    bool more;
    char last[PEP_ID_MAX + 1];
    uint64_t last_position;
} listing;

static bool add_device(cJSON *to, const key_row *row, const statement_row *statement)
{
    cJSON *device = cJSON_CreateObject();
    return cJSON_AddItemToArray(to, device) && json_add_text(device, "id", row->id) &&
           json_add_kid(device, "kid", row->kid) && json_add_number(device, "version", statement->version) &&
           json_add_number(device, "notAfter", row->not_after_s > PEP_SEQ_MAX ? PEP_SEQ_MAX : row->not_after_s) &&
           cJSON_AddBoolToObject(device, "revoked", row->state == SIGNER_REVOKED) != NULL;
}

static bool list_row(void *ctx, const key_row *row, const statement_row *statement)
{
    listing *l = ctx;
    if (l->left == 0) {
        l->more = true;
        return false;
    }
    l->left--;
    memcpy(l->last, row->id, sizeof l->last);
    if (statement == NULL || !registrar_sees(l->x->r, row))
        return true;
    if (!has_room(l->x, l->c, ROW_BYTES))
        return false;
    if (add_device(l->to, row, statement))
        return true;
    refuse(l->c, PEP_NO_MEMORY);
    return false;
}

store_result run_list(session *x, command *c)
{
    const char *after;
    listing l = {.x = x, .c = c, .left = LIST_COUNT};
    if (!want_id(c, &after, "after", false) || !want_number(c, &l.left, "count", false))
        return STORE_OK;
    if (l.left < 1 || l.left > LIST_MAX)
        return refuse_with(c, PEP_BAD_COMMAND, "count is 1 to %d", LIST_MAX);
    if (!may_look_up(x, c, 1 + (unsigned)l.left / LIST_PER_LOOK))
        return STORE_OK;
    c->data = cJSON_CreateObject();
    l.to = cJSON_AddArrayToObject(c->data, "devices");
    if (l.to == NULL)
        return refuse(c, PEP_NO_MEMORY);
    store_result result = rows_heads(x->s, after == NULL ? "" : after, l.left + 1, list_row, &l);
    if (result == STORE_OK && l.more && !json_add_text(c->data, "next", l.last))
        return refuse(c, PEP_NO_MEMORY);
    return result;
}

/* ---- history ---- */

static bool history_row(void *ctx, const statement_row *row)
{
    listing *l = ctx;
    if (l->left == 0) {
        l->more = true;
        return false;
    }
    l->left--;
    l->count++;
    l->last_position = row->position;
    if (!has_room(l->x, l->c, text_bytes(row->n)))
        return false;
    cJSON *text = json_bytes_text(row->bytes, row->n);
    if (text != NULL && cJSON_AddItemToArray(l->to, text))
        return true;
    cJSON_Delete(text);
    refuse(l->c, PEP_NO_MEMORY);
    return false;
}

store_result run_history(session *x, command *c)
{
    const char *id;
    key_row head;
    bool found;
    uint64_t after = 0;
    listing l = {.x = x, .c = c, .left = HISTORY_COUNT};
    if (!want_id(c, &id, "id", true) || !want_number(c, &after, "after", false) || !may_look_up(x, c, HISTORY_LOOKS))
        return STORE_OK;
    store_result result = visible_head(x, &head, &found, id);
    if (result != STORE_OK)
        return result;
    if (!found)
        return refuse(c, PEP_UNKNOWN_ID);
    c->data = cJSON_CreateObject();
    json_add_text(c->data, "id", id);
    l.to = cJSON_AddArrayToObject(c->data, "statements");
    if (l.to == NULL)
        return refuse(c, PEP_NO_MEMORY);
    result = rows_history(x->s, id, after, HISTORY_COUNT + 1, history_row, &l);
    if (result == STORE_OK && l.more && !json_add_number(c->data, "next", l.last_position))
        return refuse(c, PEP_NO_MEMORY);
    return result;
}

/* ---- status ---- */

static const char *enroll_name(directory_enroll enroll)
{
    static const char *const names[] = {
        [DIRECTORY_CLOSED] = "closed",
        [DIRECTORY_AUTHORITY] = "authority",
        [DIRECTORY_TOKEN] = "token",
        [DIRECTORY_OPEN] = "open",
    };
    return names[enroll];
}

static store_result add_admins_part(session *x, command *c)
{
    uint64_t ids = 0;
    uint64_t keys = 0;
    uint64_t tokens = 0;
    store_result result = rows_count_ids(x->s, &ids);
    if (result == STORE_OK)
        result = rows_count_keys(x->s, &keys);
    if (result == STORE_OK)
        result = rows_count_tokens(x->s, &tokens);
    if (result != STORE_OK)
        return result;
    bool ok = json_add_number(c->data, "records", ids) && json_add_number(c->data, "keys", keys) &&
              json_add_number(c->data, "tokens", tokens) && json_add_text(c->data, "store", x->r->store_kind) &&
              cJSON_AddBoolToObject(c->data, "storeAway", false) != NULL;
    return ok ? STORE_OK : refuse(c, PEP_NO_MEMORY);
}

store_result run_status(session *x, command *c)
{
    const settings *now = registrar_settings(x->r);
    const directory_rules *rules = &now->rules;
    if (!has_room(x, c, text_bytes(now->gate_entry_n)))
        return STORE_OK;
    c->data = cJSON_CreateObject();
    bool ok = json_add_text(c->data, "version", pep_version()) &&
              json_add_bytes(c->data, "gate", now->gate_entry, now->gate_entry_n) &&
              json_add_kid(c->data, "kid", x->r->gate_kid) &&
              json_add_text(c->data, "enroll", enroll_name(rules->enroll)) &&
              json_add_text(c->data, "directory", rules->retained ? "retained" : "on-request") &&
              json_add_number(c->data, "time", x->now_us / 1000000);
    if (!ok)
        return refuse(c, PEP_NO_MEMORY);
    return x->admin ? add_admins_part(x, c) : STORE_OK;
}
