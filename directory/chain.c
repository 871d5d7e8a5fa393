/* Statements in the store: the first of an id, the next, and what the operator puts in the place of both. */
#include <sodium.h>
#include <string.h>

#include "directory/internal.h"

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

store_result chain_keys_taken(store *s, bool *taken, const pep_statement *st, const key_row *current, bool former_too)
{
    key_row key;
    bool found;
    bool record = st->kind != PEP_STATEMENT_REVOCATION;
    *taken = false;
    store_result result = rows_key(s, &key, &found, record ? st->record.sign_kid : st->old_kid);
    if (result != STORE_OK)
        return result;
    bool same = found && current != NULL && memcmp(key.kid, current->kid, PEP_KID_BYTES) == 0;
    if (found && !same && (former_too || strcmp(key.id, st->id) != 0))
        *taken = true;
    return *taken || !record ? STORE_OK : rows_agree_taken(s, taken, &st->record);
}

void chain_head(pep_head *out, const key_row *head, const statement_row *last)
{
    memset(out, 0, sizeof *out);
    memcpy(out->id, head->id, sizeof out->id);
    out->version = last->version;
    memcpy(out->hash, last->hash, sizeof out->hash);
    out->revoked = head->state == SIGNER_REVOKED;
    memcpy(out->sign_kid, head->kid, sizeof out->sign_kid);
    if (head->has_key)
        memcpy(out->sign_public, head->sign_public, sizeof out->sign_public);
}

static void take_groups(key_row *row, const pep_certificate *c)
{
    char *p = row->groups;
    row->has_groups = c != NULL && c->group_count > 0;
    for (size_t i = 0; row->has_groups && i < c->group_count; i++) {
        size_t n = strlen(c->groups[i]) + 1;
        memcpy(p, c->groups[i], n);
        p += n;
    }
    *p = '\0';
}

static void take_record(key_row *row, const chain_link *link)
{
    const pep_record *record = &link->statement->record;
    memcpy(row->kid, record->sign_kid, sizeof row->kid);
    memcpy(row->sign_public, record->sign_public, sizeof row->sign_public);
    row->has_key = true;
    row->state = SIGNER_CURRENT;
    row->ended_s = 0;
    row->cutoff = 0;
    row->not_after_s =
        link->certified == NULL ? record->not_after_s : earlier(record->not_after_s, link->certified->not_after_s);
    take_groups(row, link->certified);
}

/* Of a revocation: the key that it ends. */
static void take_revocation(key_row *row, const pep_statement *st, uint64_t now_s)
{
    memcpy(row->kid, st->old_kid, sizeof row->kid);
    row->state = SIGNER_REVOKED;
    row->ended_s = now_s;
    row->cutoff = st->cutoff;
}

static store_result add_statement(store *s, const chain_link *link, uint64_t position)
{
    const pep_statement *st = link->statement;
    statement_row row = {.position = position, .version = st->version, .kind = st->kind};
    if (link->bytes.n > sizeof row.bytes || link->certificate.n > sizeof row.certificate)
        return STORE_FAILED;
    memcpy(row.hash, st->hash, sizeof row.hash);
    memcpy(row.bytes, link->bytes.p, link->bytes.n);
    row.n = link->bytes.n;
    if (link->certificate.p != NULL)
        memcpy(row.certificate, link->certificate.p, link->certificate.n);
    row.certificate_n = link->certificate.p == NULL ? 0 : link->certificate.n;
    store_result result = rows_add_statement(s, &row, st->id, pep_now_us() / 1000000);
    if (result == STORE_OK && st->kind != PEP_STATEMENT_REVOCATION)
        result = rows_add_agree_keys(s, &st->record);
    return result;
}

/* A chain that begins with a rotation tells of a key that was never seen: its messages have their reason all the same.
 */
static store_result note_ended(store *s, const key_row *head, const pep_statement *st)
{
    key_row old;
    bool found;
    if (st->kind != PEP_STATEMENT_ROTATION || sodium_is_zero(st->old_kid, sizeof st->old_kid))
        return STORE_OK;
    store_result result = rows_key(s, &old, &found, st->old_kid);
    if (result != STORE_OK || found)
        return result;
    old = (key_row){.position = head->position,
                    .state = SIGNER_ROTATED,
                    .ended_s = st->issued_s,
                    .cutoff = st->cutoff,
                    .provisioned = head->provisioned,
                    .change = head->change};
    memcpy(old.kid, st->old_kid, sizeof old.kid);
    memcpy(old.id, head->id, sizeof old.id);
    return rows_put_key(s, &old);
}

store_result chain_begin(store *s, const chain_link *link, bool provisioned)
{
    const pep_statement *st = link->statement;
    key_row key = {.position = 1, .head = true, .provisioned = provisioned};
    memcpy(key.id, st->id, sizeof key.id);
    if (st->kind == PEP_STATEMENT_REVOCATION)
        take_revocation(&key, st, st->issued_s);
    else
        take_record(&key, link);
    store_result result = rows_begin_change(s, &key.change);
    if (result == STORE_OK)
        result = add_statement(s, link, key.position);
    if (result == STORE_OK)
        result = note_ended(s, &key, st);
    if (result == STORE_OK)
        result = rows_put_key(s, &key);
    return result == STORE_OK ? rows_add_id(s) : result;
}

/* The key that was current, no longer is. What was revoked stays revoked. */
static store_result end_key(store *s, const key_row *head, uint64_t change, uint64_t cutoff, uint64_t now_s)
{
    key_row ended = *head;
    ended.head = false;
    ended.change = change;
    if (ended.state == SIGNER_CURRENT) {
        ended.state = SIGNER_ROTATED;
        ended.ended_s = now_s;
        ended.cutoff = cutoff;
    }
    return rows_put_key(s, &ended);
}

static store_result append_record(store *s, const key_row *head, const chain_link *link, const key_row *place,
                                  bool replace, uint64_t now_us)
{
    key_row key = *place;
    store_result result = STORE_OK;
    take_record(&key, link);
    if (memcmp(key.kid, head->kid, PEP_KID_BYTES) != 0)
        result = end_key(s, head, key.change, replace ? now_us : link->statement->cutoff, now_us / 1000000);
    return result == STORE_OK ? rows_put_key(s, &key) : result;
}

/* Nothing of the device may sign any more, also what it had before a rotation a moment ago. */
static store_result append_revocation(store *s, const key_row *head, const chain_link *link, const key_row *place,
                                      uint64_t now_us)
{
    const pep_statement *st = link->statement;
    uint64_t now_s = now_us / 1000000;
    key_row key = *place;
    store_result result = STORE_OK;
    take_revocation(&key, st, now_s);
    key.has_groups = false;
    if (memcmp(st->old_kid, head->kid, PEP_KID_BYTES) != 0) { /* the operator's word alone */
        result = end_key(s, head, key.change, now_us, now_s);
        key.has_key = false;
    }
    if (result == STORE_OK)
        result = rows_put_key(s, &key);
    return result == STORE_OK ? rows_end_grace(s, st->id, now_s - PEP_GRACE_S - SKEW_S, key.change) : result;
}

store_result chain_append(store *s, const key_row *head, const chain_link *link, bool replace, uint64_t now_us)
{
    key_row place = *head;
    place.head = true;
    place.position = head->position + 1;
    store_result result = rows_begin_change(s, &place.change);
    if (result == STORE_OK)
        result = add_statement(s, link, place.position);
    if (result != STORE_OK)
        return result;
    if (link->statement->kind == PEP_STATEMENT_REVOCATION)
        return append_revocation(s, head, link, &place, now_us);
    return append_record(s, head, link, &place, replace, now_us);
}

store_result chain_certify(store *s, const key_row *head, const statement_row *last, const chain_link *link)
{
    key_row key = *head;
    take_record(&key, link);
    store_result result = rows_begin_change(s, &key.change);
    if (result == STORE_OK)
        result = rows_set_certificate(s, head->id, last->position, link->certificate.p, link->certificate.n);
    return result == STORE_OK ? rows_put_key(s, &key) : result;
}

bool chain_entry(uint8_t *out, size_t *n, const statement_row *statement)
{
    pep_entry entry = {.statement = {statement->bytes, statement->n}};
    if (statement->certificate_n > 0)
        entry.certificate = (pep_view){statement->certificate, statement->certificate_n};
    return pep_entry_encode(out, n, &entry) == PEP_OK;
}

bool chain_sound(const key_row *key, const statement_row *statement)
{
    pep_statement st;
    if (pep_statement_parse(&st, statement->bytes, statement->n) != PEP_OK || strcmp(st.id, key->id) != 0 ||
        memcmp(st.hash, statement->hash, sizeof st.hash) != 0)
        return false;
    if (st.kind == PEP_STATEMENT_REVOCATION)
        return key->state == SIGNER_REVOKED && memcmp(st.old_kid, key->kid, PEP_KID_BYTES) == 0;
    return key->has_key && memcmp(st.record.sign_kid, key->kid, PEP_KID_BYTES) == 0 &&
           memcmp(st.record.sign_public, key->sign_public, PEP_SIGN_PUBLIC_BYTES) == 0 &&
           key->not_after_s <= st.record.not_after_s;
}
