#include "directory/rows.h"

#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Behind their end: the gate that purges may have a clock that is ahead of another's, where they are not over yet. */
#define COMMANDS_KEPT_S 3600

/* ---- values ---- */

/* What is larger than a database's integer counts as the largest: it lies beyond all times anyway. */
static store_value number(uint64_t n)
{
    return store_int(n > INT64_MAX ? INT64_MAX : (int64_t)n);
}

static store_value text(const char *p)
{
    return store_text(p, strlen(p));
}

static store_value kid_value(const uint8_t kid[PEP_KID_BYTES])
{
    return store_blob(kid, PEP_KID_BYTES);
}

static uint64_t get_number(const store_value *v)
{
    return v->type == STORE_INT && v->number > 0 ? (uint64_t)v->number : 0;
}

/* What does not fit is damage; it stays empty, and is found out where it is used. */
static void get_text(char *out, size_t cap, const store_value *v)
{
    out[0] = '\0';
    if (v->type != STORE_TEXT || v->n >= cap)
        return;
    memcpy(out, v->p, v->n);
    out[v->n] = '\0';
}

static size_t get_bytes(uint8_t *out, size_t cap, const store_value *v)
{
    if (v->type != STORE_BLOB || v->n > cap)
        return 0;
    memcpy(out, v->p, v->n);
    return v->n;
}

static bool get_fixed(uint8_t *out, size_t n, const store_value *v)
{
    if (v->type == STORE_BLOB && v->n == n)
        memcpy(out, v->p, n);
    else
        memset(out, 0, n);
    return v->type == STORE_BLOB && v->n == n;
}

/* ---- one number ---- */

static bool take_number(void *ctx, const store_value *columns, size_t n)
{
    uint64_t *out = ctx;
    *out = n == 1 ? get_number(&columns[0]) : 0;
    return true;
}

static store_result run_number(store *s, uint64_t *out, const char *sql, const store_value *parameters, size_t count)
{
    *out = 0;
    return store_run(s, sql, parameters, count, take_number, out);
}

store_result rows_begin_change(store *s, uint64_t *change)
{
    store_result result =
        run_number(s, change, "UPDATE meta SET number = number + 1 WHERE name = 'change' RETURNING number", NULL, 0);
    return result == STORE_OK ? store_notify(s) : result;
}

store_result rows_last_change(store *s, uint64_t *change)
{
    return run_number(s, change, "SELECT number FROM meta WHERE name = 'change'", NULL, 0);
}

store_result rows_count_ids(store *s, uint64_t *count)
{
    return run_number(s, count, "SELECT number FROM meta WHERE name = 'ids'", NULL, 0);
}

store_result rows_add_id(store *s)
{
    return store_run(s, "UPDATE meta SET number = number + 1 WHERE name = 'ids'", NULL, 0, NULL, NULL);
}

store_result rows_count_tokens(store *s, uint64_t *count)
{
    return run_number(s, count, "SELECT count(*) FROM tokens WHERE used IS NULL", NULL, 0);
}

store_result rows_count_keys(store *s, uint64_t *count)
{
    return run_number(s, count, "SELECT count(*) FROM keys", NULL, 0);
}

store_result rows_position_of(store *s, uint64_t *position, const char *id, const uint8_t hash[PEP_SHA256_BYTES])
{
    const store_value p[] = {text(id), store_blob(hash, PEP_SHA256_BYTES)};
    return run_number(s, position, "SELECT position FROM statements WHERE id = $1 AND hash = $2", p, COUNT(p));
}

store_result rows_stored(store *s, uint64_t *stored_s, const char *id, uint64_t position)
{
    const store_value p[] = {text(id), number(position)};
    return run_number(s, stored_s, "SELECT stored FROM statements WHERE id = $1 AND position = $2", p, COUNT(p));
}

/* ---- keys ---- */

#define KEY_COLUMNS                                                                                                    \
    "k.kid, k.id, k.sign_public, k.position, k.state, k.not_after, k.ended, k.cutoff, k.member_of, k.head,"            \
    " k.provisioned, k.change"

enum { KEY_COLUMN_COUNT = 12, STATEMENT_COLUMN_COUNT = 6 };

static void get_groups(key_row *out, const store_value *v)
{
    out->has_groups = false;
    if (v->type != STORE_BLOB || v->n < 2 || v->n > sizeof out->groups)
        return;
    const char *p = v->p;
    if (p[v->n - 1] != '\0' || p[v->n - 2] != '\0')
        return;
    memcpy(out->groups, p, v->n);
    out->has_groups = true;
}

static signer_state state_of(uint64_t n)
{
    return n == SIGNER_CURRENT ? SIGNER_CURRENT : n == SIGNER_ROTATED ? SIGNER_ROTATED : SIGNER_REVOKED;
}

static void get_key(key_row *out, const store_value *v)
{
    get_fixed(out->kid, sizeof out->kid, &v[0]);
    get_text(out->id, sizeof out->id, &v[1]);
    out->has_key = get_fixed(out->sign_public, sizeof out->sign_public, &v[2]);
    out->position = get_number(&v[3]);
    out->state = state_of(get_number(&v[4]));
    out->not_after_s = get_number(&v[5]);
    out->ended_s = get_number(&v[6]);
    out->cutoff = get_number(&v[7]);
    get_groups(out, &v[8]);
    out->head = get_number(&v[9]) != 0;
    out->provisioned = get_number(&v[10]) != 0;
    out->change = get_number(&v[11]);
}

typedef struct {
    void *out;
    bool found;
} one;

static bool take_key(void *ctx, const store_value *columns, size_t n)
{
    one *o = ctx;
    o->found = n == KEY_COLUMN_COUNT;
    if (o->found)
        get_key(o->out, columns);
    return false;
}

static store_result run_key(store *s, key_row *out, bool *found, const char *sql, const store_value *parameter)
{
    one o = {out, false};
    store_result result = store_run(s, sql, parameter, 1, take_key, &o);
    *found = o.found;
    return result;
}

store_result rows_key(store *s, key_row *out, bool *found, const uint8_t kid[PEP_KID_BYTES])
{
    store_value p = kid_value(kid);
    return run_key(s, out, found, "SELECT " KEY_COLUMNS " FROM keys k WHERE kid = $1", &p);
}

store_result rows_head(store *s, key_row *out, bool *found, const char *id)
{
    store_value p = text(id);
    return run_key(s, out, found, "SELECT " KEY_COLUMNS " FROM keys k WHERE id = $1 AND head = 1", &p);
}

static size_t groups_bytes(const char *groups)
{
    const char *p = groups;
    while (*p != '\0')
        p += strlen(p) + 1;
    return (size_t)(p - groups) + 1;
}

store_result rows_put_key(store *s, const key_row *row)
{
    const store_value p[] = {
        kid_value(row->kid),
        text(row->id),
        row->has_key ? store_blob(row->sign_public, sizeof row->sign_public) : store_null(),
        number(row->position),
        number(row->state),
        number(row->not_after_s),
        number(row->ended_s),
        number(row->cutoff),
        row->has_groups ? store_blob(row->groups, groups_bytes(row->groups)) : store_null(),
        number(row->head),
        number(row->provisioned),
        number(row->change),
    };
    return store_run(s,
                     "INSERT INTO keys (kid, id, sign_public, position, state, not_after, ended, cutoff, member_of,"
                     " head, provisioned, change) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"
                     " ON CONFLICT (kid) DO UPDATE SET id = excluded.id, sign_public = excluded.sign_public,"
                     " position = excluded.position, state = excluded.state, not_after = excluded.not_after,"
                     " ended = excluded.ended, cutoff = excluded.cutoff, member_of = excluded.member_of,"
                     " head = excluded.head, provisioned = excluded.provisioned, change = excluded.change",
                     p, COUNT(p), NULL, NULL);
}

store_result rows_end_grace(store *s, const char *id, uint64_t since_s, uint64_t change)
{
    const store_value p[] = {number(change), text(id), number(since_s)};
    return store_run(s, "UPDATE keys SET state = 2, change = $1 WHERE id = $2 AND state = 1 AND ended >= $3", p,
                     COUNT(p), NULL, NULL);
}

store_result rows_provision(store *s, const char *id, uint64_t change)
{
    const store_value p[] = {number(change), text(id)};
    return store_run(s, "UPDATE keys SET provisioned = 1, change = $1 WHERE id = $2 AND provisioned = 0", p, COUNT(p),
                     NULL, NULL);
}

typedef struct {
    each_key each;
    each_key_statement each_with;
    each_text each_text;
    each_statement each_statement;
    void *ctx;
} many;

static bool hand_key(void *ctx, const store_value *columns, size_t n)
{
    many *m = ctx;
    key_row row;
    if (n != KEY_COLUMN_COUNT)
        return false;
    get_key(&row, columns);
    return m->each(m->ctx, &row);
}

store_result rows_all_keys(store *s, each_key each, void *ctx)
{
    many m = {.each = each, .ctx = ctx};
    return store_run(s, "SELECT " KEY_COLUMNS " FROM keys k", NULL, 0, hand_key, &m);
}

/* ---- statements ---- */

#define STATEMENT_COLUMNS "t.position, t.version, t.kind, t.hash, t.bytes, t.certificate"

static void get_statement(statement_row *out, const store_value *v)
{
    out->position = get_number(&v[0]);
    out->version = get_number(&v[1]);
    out->kind = (pep_statement_kind)get_number(&v[2]);
    get_fixed(out->hash, sizeof out->hash, &v[3]);
    out->n = get_bytes(out->bytes, sizeof out->bytes, &v[4]);
    out->certificate_n = get_bytes(out->certificate, sizeof out->certificate, &v[5]);
}

static bool take_statement(void *ctx, const store_value *columns, size_t n)
{
    one *o = ctx;
    o->found = n == STATEMENT_COLUMN_COUNT;
    if (o->found)
        get_statement(o->out, columns);
    return false;
}

store_result rows_statement(store *s, statement_row *out, bool *found, const char *id, uint64_t position)
{
    one o = {out, false};
    const store_value p[] = {text(id), number(position)};
    store_result result = store_run(s, "SELECT " STATEMENT_COLUMNS " FROM statements t WHERE id = $1 AND position = $2",
                                    p, COUNT(p), take_statement, &o);
    *found = o.found;
    return result;
}

static bool hand_statement(void *ctx, const store_value *columns, size_t n)
{
    many *m = ctx;
    statement_row row;
    if (n != STATEMENT_COLUMN_COUNT)
        return false;
    get_statement(&row, columns);
    return m->each_statement(m->ctx, &row);
}

store_result rows_history(store *s, const char *id, uint64_t after, uint64_t count, each_statement each, void *ctx)
{
    many m = {.each_statement = each, .ctx = ctx};
    const store_value p[] = {text(id), number(after), number(count)};
    return store_run(s,
                     "SELECT " STATEMENT_COLUMNS " FROM statements t WHERE id = $1 AND position > $2"
                     " ORDER BY position LIMIT $3",
                     p, COUNT(p), hand_statement, &m);
}

store_result rows_add_statement(store *s, const statement_row *row, const char *id, uint64_t now_s)
{
    const store_value p[] = {text(id),
                             number(row->position),
                             number(row->version),
                             store_blob(row->hash, sizeof row->hash),
                             number(row->kind),
                             store_blob(row->bytes, row->n),
                             row->certificate_n > 0 ? store_blob(row->certificate, row->certificate_n) : store_null(),
                             number(now_s)};
    return store_run(s,
                     "INSERT INTO statements (id, position, version, hash, kind, bytes, certificate, stored)"
                     " VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
                     p, COUNT(p), NULL, NULL);
}

store_result rows_set_certificate(store *s, const char *id, uint64_t position, const uint8_t *bytes, size_t n)
{
    const store_value p[] = {store_blob(bytes, n), text(id), number(position)};
    return store_run(s, "UPDATE statements SET certificate = $1 WHERE id = $2 AND position = $3", p, COUNT(p), NULL,
                     NULL);
}

/* ---- keys with their statements ---- */

static bool hand_both(void *ctx, const store_value *columns, size_t n)
{
    many *m = ctx;
    key_row key;
    statement_row statement = {.n = 0};
    if (n != KEY_COLUMN_COUNT + STATEMENT_COLUMN_COUNT)
        return false;
    get_key(&key, columns);
    get_statement(&statement, columns + KEY_COLUMN_COUNT);
    return m->each_with(m->ctx, &key, statement.n > 0 ? &statement : NULL);
}

store_result rows_changes(store *s, uint64_t change, uint64_t last, each_key_statement each, void *ctx)
{
    many m = {.each_with = each, .ctx = ctx};
    const store_value p[] = {number(change), number(last)};
    return store_run(s,
                     "SELECT " KEY_COLUMNS ", " STATEMENT_COLUMNS " FROM keys k LEFT JOIN statements t"
                     " ON k.head = 1 AND t.id = k.id AND t.position = k.position"
                     " WHERE k.change > $1 AND k.change <= $2 ORDER BY k.change, k.head",
                     p, COUNT(p), hand_both, &m);
}

store_result rows_heads(store *s, const char *after, uint64_t count, each_key_statement each, void *ctx)
{
    many m = {.each_with = each, .ctx = ctx};
    const store_value p[] = {text(after), number(count)};
    return store_run(s,
                     "SELECT " KEY_COLUMNS ", " STATEMENT_COLUMNS " FROM keys k LEFT JOIN statements t"
                     " ON t.id = k.id AND t.position = k.position"
                     " WHERE k.head = 1 AND k.id > $1 ORDER BY k.id LIMIT $2",
                     p, COUNT(p), hand_both, &m);
}

/* ---- agreement keys ---- */

static bool take_other(void *ctx, const store_value *columns, size_t n)
{
    (void)columns;
    (void)n;
    *(bool *)ctx = true;
    return false;
}

store_result rows_agree_taken(store *s, bool *taken, const pep_record *record)
{
    store_result result = STORE_OK;
    *taken = false;
    for (size_t i = 0; result == STORE_OK && i < record->agree_count; i++) {
        const store_value p[] = {kid_value(record->agree[i].kid), text(record->id)};
        result = store_run(s, "SELECT id FROM agree_keys WHERE kid = $1 AND id <> $2", p, COUNT(p), take_other, taken);
    }
    return result;
}

store_result rows_add_agree_keys(store *s, const pep_record *record)
{
    store_result result = STORE_OK;
    for (size_t i = 0; result == STORE_OK && i < record->agree_count; i++) {
        const store_value p[] = {kid_value(record->agree[i].kid), text(record->id)};
        result = store_run(s, "INSERT INTO agree_keys (kid, id) VALUES ($1, $2) ON CONFLICT (kid) DO NOTHING", p,
                           COUNT(p), NULL, NULL);
    }
    return result;
}

/* ---- tokens ---- */

static bool take_token(void *ctx, const store_value *columns, size_t n)
{
    one *o = ctx;
    token_row *row = o->out;
    o->found = n == 4;
    if (!o->found)
        return false;
    get_fixed(row->kid, sizeof row->kid, &columns[0]);
    get_text(row->id, sizeof row->id, &columns[1]);
    row->expires_s = get_number(&columns[2]);
    row->used = columns[3].type != STORE_NULL;
    get_fixed(row->used_for, sizeof row->used_for, &columns[3]);
    return false;
}

store_result rows_token(store *s, token_row *out, bool *found, const uint8_t kid[PEP_KID_BYTES])
{
    one o = {out, false};
    store_value p = kid_value(kid);
    store_result result =
        store_run(s, "SELECT kid, id, expires, used FROM tokens WHERE kid = $1", &p, 1, take_token, &o);
    *found = o.found;
    return result;
}

store_result rows_put_token(store *s, const token_row *row)
{
    const store_value p[] = {kid_value(row->kid), text(row->id), number(row->expires_s),
                             row->used ? store_blob(row->used_for, sizeof row->used_for) : store_null()};
    return store_run(s,
                     "INSERT INTO tokens (kid, id, expires, used) VALUES ($1, $2, $3, $4)"
                     " ON CONFLICT (kid) DO UPDATE SET expires = excluded.expires, used = excluded.used",
                     p, COUNT(p), NULL, NULL);
}

store_result rows_drop_unused_tokens(store *s, const char *id)
{
    store_value p = text(id);
    return store_run(s, "DELETE FROM tokens WHERE id = $1 AND used IS NULL", &p, 1, NULL, NULL);
}

/* ---- commands ---- */

store_result rows_add_command(store *s, bool *repeated, const uint8_t kid[PEP_KID_BYTES], uint64_t seq,
                              uint64_t expires_s)
{
    const store_value p[] = {kid_value(kid), number(seq), number(expires_s)};
    store_result result =
        store_run(s, "INSERT INTO commands (kid, seq, expires) VALUES ($1, $2, $3) ON CONFLICT (kid, seq) DO NOTHING",
                  p, COUNT(p), NULL, NULL);
    *repeated = result == STORE_OK && store_changed(s) == 0;
    return result;
}

store_result rows_purge(store *s, uint64_t now_s)
{
    store_value p = number(now_s < COMMANDS_KEPT_S ? 0 : now_s - COMMANDS_KEPT_S);
    store_result result = store_run(s, "DELETE FROM commands WHERE expires < $1", &p, 1, NULL, NULL);
    p = number(now_s);
    return result == STORE_OK ? store_run(s, "DELETE FROM tokens WHERE expires < $1", &p, 1, NULL, NULL) : result;
}

/* ---- what is published ---- */

store_result rows_add_published(store *s, bool *added, const uint8_t gate[PEP_KID_BYTES], const char *topic)
{
    const store_value p[] = {kid_value(gate), text(topic)};
    store_result result =
        store_run(s, "INSERT INTO published (gate, topic) VALUES ($1, $2) ON CONFLICT (gate, topic) DO NOTHING", p,
                  COUNT(p), NULL, NULL);
    *added = result == STORE_OK && store_changed(s) > 0;
    return result;
}

store_result rows_has_published(store *s, bool *there, const uint8_t gate[PEP_KID_BYTES], const char *topic)
{
    const store_value p[] = {kid_value(gate), text(topic)};
    *there = false;
    return store_run(s, "SELECT topic FROM published WHERE gate = $1 AND topic = $2", p, COUNT(p), take_other, there);
}

store_result rows_drop_published(store *s, const uint8_t gate[PEP_KID_BYTES], const char *topic)
{
    const store_value p[] = {kid_value(gate), text(topic)};
    return store_run(s, "DELETE FROM published WHERE gate = $1 AND topic = $2", p, COUNT(p), NULL, NULL);
}

store_result rows_count_published(store *s, uint64_t *count, const uint8_t gate[PEP_KID_BYTES])
{
    store_value p = kid_value(gate);
    return run_number(s, count, "SELECT count(*) FROM published WHERE gate = $1", &p, 1);
}

static bool hand_text(void *ctx, const store_value *columns, size_t n)
{
    many *m = ctx;
    char out[256];
    if (n != 1)
        return false;
    get_text(out, sizeof out, &columns[0]);
    return m->each_text(m->ctx, out);
}

store_result rows_published(store *s, const uint8_t gate[PEP_KID_BYTES], const char *after, uint64_t count,
                            each_text each, void *ctx)
{
    many m = {.each_text = each, .ctx = ctx};
    const store_value p[] = {kid_value(gate), text(after), number(count)};
    return store_run(s, "SELECT topic FROM published WHERE gate = $1 AND topic > $2 ORDER BY topic LIMIT $3", p,
                     COUNT(p), hand_text, &m);
}
