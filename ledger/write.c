/* Batches: rows in the broker's memory, and into the store. And what ends by itself. */
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ledger/internal.h"

#define BATCHES_KEPT_US 3600000000ULL

/* ---- in memory ---- */

static size_t row_bytes(const row_head *h)
{
    size_t n = sizeof *h + h->topic_n + h->facts_n + h->signer_n;
    return (n + 7) / 8 * 8;
}

static row_head head_of(const ledger_entry *e)
{
    row_head h = {.time_us = e->time_us,
                  .seq = e->seq,
                  .expires_us = e->keep_us == 0 ? 0 : e->time_us + e->keep_us,
                  .size = e->size,
                  .payload_n = e->payload_n,
                  .topic_n = (uint16_t)e->topic_n,
                  .facts_n = (uint16_t)e->facts.n,
                  .signer_n = (uint8_t)strlen(e->signer),
                  .qos = (uint8_t)e->qos,
                  .retain = e->retain};
    memcpy(h.kid, e->kid, sizeof h.kid);
    return h;
}

bool batch_add(batch *b, const ledger_entry *e)
{
    row_head h = head_of(e);
    size_t n = row_bytes(&h);
    if (b->rows == BATCH_ROWS || n > sizeof b->bytes - b->n)
        return false;
    uint8_t *at = b->bytes + b->n;
    memcpy(at, &h, sizeof h);
    at += sizeof h;
    memcpy(at, e->topic, h.topic_n);
    memcpy(at + h.topic_n, e->facts.p, h.facts_n);
    memcpy(at + h.topic_n + h.facts_n, e->signer, h.signer_n);
    b->n += n;
    b->rows++;
    return true;
}

typedef struct {
    row_head head;
    const char *topic, *signer;
    pep_view facts;
} row;

/* The row at `at`, and where the next one begins. */
static size_t read_row(row *out, const batch *b, size_t at)
{
    memcpy(&out->head, b->bytes + at, sizeof out->head);
    const uint8_t *p = b->bytes + at + sizeof out->head;
    out->topic = (const char *)p;
    out->facts = (pep_view){p + out->head.topic_n, out->head.facts_n};
    out->signer = (const char *)p + out->head.topic_n + out->head.facts_n;
    return at + row_bytes(&out->head);
}

/* ---- SQLite: a statement a row ---- */

static store_value expiry(const row_head *h)
{
    return h->expires_us == 0 ? store_null() : store_int((int64_t)h->expires_us);
}

static store_result insert_row(const batch *b, store *s, const row *r, text_buffer *json)
{
    const row_head *h = &r->head;
    json->n = 0;
    text_add_facts(json, r->facts);
    if (json->failed)
        return STORE_FAILED;
    const store_value values[] = {store_int((int64_t)h->time_us),
                                  store_text(r->topic, h->topic_n),
                                  store_text(r->signer, h->signer_n),
                                  store_blob(h->kid, sizeof h->kid),
                                  store_int((int64_t)h->seq),
                                  store_int((int64_t)h->size),
                                  store_int((int64_t)h->payload_n),
                                  store_int(h->qos),
                                  store_int(h->retain),
                                  store_text(json->p, json->n),
                                  expiry(h),
                                  store_blob(b->l->gate, PEP_KID_BYTES)};
    return store_run(s,
                     "INSERT INTO pep_ledger (time, topic, signer, kid, seq, size, payload, qos, retained, fields,"
                     " expires, gate) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
                     values, COUNT(values), NULL, NULL);
}

static store_result insert_rows(const batch *b, store *s)
{
    text_buffer json = {0};
    row r;
    store_result result = STORE_OK;
    for (size_t at = 0; result == STORE_OK && at < b->n;) {
        at = read_row(&r, b, at);
        result = insert_row(b, s, &r, &json);
    }
    free(json.p);
    return result;
}

/* ---- PostgreSQL: many rows a statement, for each is a round trip ---- */

static void add_row_json(text_buffer *t, const row *r)
{
    char kid[2 * PEP_KID_BYTES + 1];
    const row_head *h = &r->head;
    text_add(t, t->n <= 1 ? "{\"o\":" : ",{\"o\":", t->n <= 1 ? 5 : 6);
    text_add_json(t, r->topic, h->topic_n);
    text_add(t, ",\"f\":", 5);
    text_add_facts(t, r->facts);
    text_add(t, ",\"s\":", 5);
    text_add_json(t, r->signer, h->signer_n);
    text_format(t, ",\"k\":\"%s\"", sodium_bin2hex(kid, sizeof kid, h->kid, sizeof h->kid));
    text_format(t, ",\"t\":%" PRIu64 ",\"q\":%" PRIu64, h->time_us, h->seq);
    text_format(t, ",\"z\":%" PRIu64 ",\"p\":%" PRIu64, h->size, h->payload_n);
    text_format(t, ",\"y\":%u,\"r\":%s", h->qos, h->retain ? "true" : "false");
    if (h->expires_us != 0)
        text_format(t, ",\"e\":%" PRIu64, h->expires_us);
    text_add(t, "}", 1);
}

static store_result insert_json(const batch *b, store *s, text_buffer *t)
{
    text_add(t, "]", 1);
    if (t->failed)
        return STORE_FAILED;
    const store_value values[] = {store_text(t->p, t->n), store_blob(b->l->gate, PEP_KID_BYTES)};
    return store_run(s,
                     "INSERT INTO pep_ledger (time, topic, signer, kid, seq, size, payload, qos, retained, fields,"
                     " expires, gate) SELECT t, o, s, decode(k, 'hex'), q, z, p, y, r, f, e, $2"
                     " FROM jsonb_to_recordset(CAST($1 AS jsonb)) AS row(t bigint, o text, s text, k text, q bigint,"
                     " z bigint, p bigint, y smallint, r boolean, f jsonb, e bigint)",
                     values, COUNT(values), NULL, NULL);
}

/* `only` NULL: all of the batch. */
static store_result insert_many(const batch *b, store *s, const row *only)
{
    text_buffer t = {0};
    row r;
    text_add(&t, "[", 1);
    if (only != NULL)
        add_row_json(&t, only);
    for (size_t at = 0; only == NULL && at < b->n;) {
        at = read_row(&r, b, at);
        add_row_json(&t, &r);
    }
    store_result result = insert_json(b, s, &t);
    free(t.p);
    return result;
}

/* ---- a batch ---- */

static bool is_postgres(const store *s)
{
    return strcmp(store_kind(s), "postgresql") == 0;
}

/* *fresh: it was not written before. */
static store_result note_batch(const batch *b, store *s, bool *fresh)
{
    const store_value values[] = {store_int(b->id), store_int((int64_t)pep_now_us())};
    store_result result = store_run(s,
                                    "INSERT INTO pep_ledger_batches (id, time) VALUES ($1, $2)"
                                    " ON CONFLICT (id) DO NOTHING",
                                    values, COUNT(values), NULL, NULL);
    *fresh = store_changed(s) == 1;
    return result;
}

static store_result insert_one(const batch *b, store *s, const row *r)
{
    text_buffer json = {0};
    if (is_postgres(s))
        return insert_many(b, s, r);
    store_result result = insert_row(b, s, r, &json);
    free(json.p);
    return result;
}

/* A row that the store will never take must not keep the others out. */
static store_result insert_each(batch *b, store *s)
{
    row r;
    store_result result = STORE_OK;
    b->lost = 0;
    for (size_t at = 0; result == STORE_OK && at < b->n;) {
        at = read_row(&r, b, at);
        result = store_mark(s);
        store_result this = result == STORE_OK ? insert_one(b, s, &r) : result;
        if (this == STORE_OK) {
            result = store_keep(s);
        } else if (this == STORE_FAILED || this == STORE_CONFLICT) {
            b->lost++;
            snprintf(b->why, sizeof b->why, "%s", store_why(s));
            result = store_undo(s);
        } else {
            result = this;
        }
    }
    return result;
}

store_result batch_work(store_job *job, store *s)
{
    batch *b = (batch *)job;
    bool fresh;
    b->lost = 0;
    store_result result = note_batch(b, s, &fresh);
    if (result != STORE_OK || !fresh)
        return result;
    if (b->tries > 0)
        return insert_each(b, s);
    result = is_postgres(s) ? insert_many(b, s, NULL) : insert_rows(b, s);
    return result == STORE_CONFLICT ? STORE_FAILED : result; /* a constraint that somebody else has made */
}

/* ---- what ends by itself ---- */

store_result purge(store *s, uint64_t now_us, uint64_t *erased)
{
    const store_value values[] = {store_int((int64_t)now_us), store_int(PURGE_ROWS)};
    const store_value old = store_int((int64_t)(now_us - BATCHES_KEPT_US));
    store_result result = store_run(s,
                                    "DELETE FROM pep_ledger WHERE id IN (SELECT id FROM pep_ledger WHERE"
                                    " expires <= $1 ORDER BY expires LIMIT $2)",
                                    values, COUNT(values), NULL, NULL);
    *erased = result == STORE_OK ? (uint64_t)store_changed(s) : 0;
    if (result != STORE_OK)
        return result;
    return store_run(s, "DELETE FROM pep_ledger_batches WHERE time < $1", &old, 1, NULL, NULL);
}
