/* What comes out of a door: the listener's messages and the plugin's lines in the log, held against the table. */
#include <CUnit/CUnit.h>
#include <stdio.h>
#include <string.h>

#include "doors.h"

#define LOOK_MS 5 /* for a message, between two looks at the log */

/* Reasons are numbered in the order of the checks, but for those that came later. */
static int step_of(pep_reason reason)
{
    return (int)(reason == PEP_REVOKED_SIGNER || reason == PEP_ROTATED_SIGNER ? PEP_EXPIRED_SIGNER : reason);
}

pep_reason door_expects(const door_column *column, const seal_case *k, const char **why_not)
{
    *why_not = column->closed;
    for (const door_exception *e = column->exceptions; e->name != NULL; e++)
        if (strcmp(e->name, k->name) == 0) {
            *why_not = e->why_not;
            return e->reason;
        }
    if (column->unguarded)
        return PEP_OK;
    bool earlier = k->reason != PEP_OK && step_of(k->reason) < step_of(column->at_the_latest);
    return column->at_the_latest == PEP_OK || earlier ? k->reason : column->at_the_latest;
}

/* ---- making ---- */

static bool clears(const door *d, int i)
{
    return (d->flags & PEP_FLAG_CLEAR) != 0 && i > 0;
}

/* A clear has something to clear before it; what comes before at other doors comes through the same door. */
static void make_preceding(visit *v, visit_cell *c)
{
    unsigned flags = v->d->flags & ~(unsigned)PEP_FLAG_CLEAR;
    c->sent[c->sent_n++] = case_of(PEP_OK)->make(&v->s.c, c->signed_topic, flags);
}

/* Retained ones that are looked at only in the end have taken the place of those before them. */
static void set_due(const door *d, visit_cell *c)
{
    c->first_due = d->retain && d->passage->turn != NULL ? c->sent_n - 1 : 0;
    c->due_n = c->expected == PEP_OK ? c->sent_n : c->sent_n - 1;
    c->arrived = c->first_due;
}

static void make_cell(visit *v, visit_cell *c)
{
    const door *d = v->d;
    snprintf(c->signed_topic, sizeof(c->signed_topic), "t/%zu", (size_t)(c - v->cells));
    snprintf(c->topic, sizeof(c->topic), "%s%s", d->prefix != NULL ? d->prefix : "", c->signed_topic);
    snprintf(c->client_id, sizeof(c->client_id), "%s", "alice");
    bool after = c->k->order != CASE_ALONE && d->column->at_the_latest == PEP_OK;
    if ((d->preceded && !after) || clears(d, 1))
        make_preceding(v, c);
    sealed first, e;
    case_make(c->k, &v->s.c, c->signed_topic, d->flags, &first, &e);
    if (after)
        c->sent[c->sent_n++] = first;
    c->sent[c->sent_n++] = e;
    set_due(d, c);
}

/* ---- watching ---- */

static bool same_bytes(const client_message *m, const sealed *e, bool empty)
{
    return empty ? m->n == 0 : m->n == e->n && memcmp(m->bytes, e->bytes, e->n) == 0;
}

static visit_cell *cell_of(visit *v, const char *topic)
{
    for (size_t i = 0; i < v->n; i++)
        if (strcmp(v->cells[i].topic, topic) == 0)
            return &v->cells[i];
    return NULL;
}

/* Takes the listener's next message, if one comes within that time. */
static void take(visit *v, int ms)
{
    const client_message *m = client_next_within(v->s.to, ms);
    visit_cell *c = m != NULL ? cell_of(v, m->topic) : NULL;
    if (m == NULL)
        return;
    if (c != NULL && c->arrived < c->due_n && same_bytes(m, &c->sent[c->arrived], clears(v->d, c->arrived))) {
        c->arrived++;
        return;
    }
    fprintf(stderr, "%zu bytes on %s came out that should not\n", m->n, m->topic);
    if (c != NULL)
        c->strange = true;
    else
        CU_FAIL("a message on a topic where nothing was sent");
}

static int refusals(const visit *v, const visit_cell *c, const char *reason)
{
    const char *named = v->d->passage->client;
    char line[256];
    snprintf(line, sizeof(line), "pep: [rw]* %s: client %s topic %s user", reason, named != NULL ? named : "alice",
             c->topic);
    return broker_log_count(&v->s.b, line);
}

static bool is_refused(const visit *v, const visit_cell *c)
{
    return c->expected != PEP_OK && refusals(v, c, pep_reason_name(c->expected)) > 0;
}

/* Nothing more can come that would make it good. */
static bool is_settled(const visit *v, const visit_cell *c)
{
    if (c->strange || c->shut)
        return true;
    if (c->expected == PEP_OK && c->arrived == c->due_n)
        return true;
    return is_refused(v, c) || refusals(v, c, "*") > 0;
}

static void settle(visit *v, visit_cell *c)
{
    int64_t deadline = monotonic_ms() + patience_ms();
    while (!is_settled(v, c) && remaining_ms(deadline) > 0)
        take(v, LOOK_MS);
    while (c->arrived < c->due_n && !c->strange && !c->shut && remaining_ms(deadline) > 0)
        take(v, LOOK_MS);
}

/* ---- judging ---- */

static bool is_good(const visit *v, const visit_cell *c, int refused)
{
    if (c->shut)
        return v->d->may_be_shut && refused == 0 && c->arrived == c->first_due;
    return !c->strange && c->arrived == c->due_n && c->refusals == refused && (c->expected == PEP_OK) == (refused == 0);
}

static void judge(visit *v, visit_cell *c)
{
    settle(v, c);
    int refused = c->expected == PEP_OK ? 0 : refusals(v, c, pep_reason_name(c->expected));
    c->refusals = refusals(v, c, "*");
    bool good = is_good(v, c, refused);
    if (!good)
        fprintf(stderr, "%s: %s: expected %s; %d of %d came out, %d lines in the log, %d with this reason%s\n",
                v->d->name, c->k->name, c->expected == PEP_OK ? "to pass" : pep_reason_name(c->expected), c->arrived,
                c->due_n, c->refusals, refused, c->shut ? ", shut out" : "");
    CU_ASSERT_TRUE(good);
}

/*
 * Delayed ones wait together, to save time; but not those that are held against the seqs of others, or others against
 * theirs.
 */
static bool is_judged_late(const door *d, const visit_cell *c)
{
    bool seq_matters = c->expected == PEP_OK || c->expected >= PEP_REPLAYED;
    return d->passage->turn != NULL || (d->delay_s > 0 && !seq_matters);
}

/* True where this one is answered as a refused one. */
static bool is_denied(const visit *v, const visit_cell *c, int i)
{
    return v->d->passage->answers && v->d->passage->turn == NULL && i >= c->due_n;
}

static void knock(visit *v, visit_cell *c)
{
    if (!is_judged_late(v->d, c))
        broker_mark(&v->s.b);
    for (int i = 0; i < c->sent_n; i++) {
        int answer = v->d->passage->knock(v, c, i);
        bool right = answer == (is_denied(v, c, i) ? denial(v->d->version, v->d->qos) : REASON_SUCCESS);
        CU_ASSERT_TRUE(right);
        c->strange = c->strange || !right;
        int64_t deadline = monotonic_ms() + patience_ms();
        while (v->d->passage->turn == NULL && i < c->sent_n - 1 && c->arrived <= i && remaining_ms(deadline) > 0)
            take(v, LOOK_MS);
    }
}

static void knock_all(visit *v)
{
    broker_mark(&v->s.b);
    v->mark = v->s.b.mark;
    CU_ASSERT_TRUE_FATAL(CASE_COUNT <= VISIT_CELLS);
    for (size_t i = 0; i < CASE_COUNT; i++) {
        const char *why_not;
        visit_cell *c = &v->cells[v->n];
        *c = (visit_cell){.k = &CASES[i], .expected = door_expects(v->d->column, &CASES[i], &why_not)};
        if (why_not != NULL)
            continue;
        v->n++;
        make_cell(v, c);
        knock(v, c);
        if (!is_judged_late(v->d, c))
            judge(v, c);
    }
}

static void judge_late(visit *v)
{
    v->s.b.mark = v->mark;
    if (v->d->passage->turn != NULL) {
        v->d->passage->turn(v);
        v->mark = v->s.b.mark;
    }
    for (size_t i = 0; i < v->n; i++)
        if (is_judged_late(v->d, &v->cells[i]))
            judge(v, &v->cells[i]);
}

/* And nothing more: who knocked is still connected, nothing else comes out, and nothing else was refused. */
static void judge_the_rest(visit *v)
{
    client *from = v->up.from != NULL ? v->up.from : v->from;
    int refused = 0;
    for (size_t i = 0; i < v->n; i++)
        refused += v->cells[i].refusals;
    CU_ASSERT_TRUE(client_fence(v->s.to, from != NULL && v->d->passage != &MOUNTED ? from : v->s.to));
    v->s.b.mark = v->mark;
    refused += broker_log_count(&v->s.b, "pep: [rw]* *: client * topic " FLOOD_TOPIC " user");
    CU_ASSERT_EQUAL(broker_log_count(&v->s.b, "pep: [rw]* *: client "), refused);
}

/* ---- what stays ---- */

static bool is_retained(const visit *v, const client_message *m, const visit_cell *c)
{
    int last = c->due_n - 1;
    return last >= 0 && !clears(v->d, last) && same_bytes(m, &c->sent[last], false);
}

/* Who subscribes now gets the last valid message of each topic, cleared ones none. */
static void judge_retained(visit *v)
{
    char filter[64];
    size_t expected = 0, got = 0;
    for (size_t i = 0; i < v->n; i++)
        expected += v->cells[i].due_n > 0 && !clears(v->d, v->cells[i].due_n - 1);
    client *late = stage_client(&v->s, "late");
    snprintf(filter, sizeof(filter), "%st/#", v->d->prefix != NULL ? v->d->prefix : "");
    client_subscribe(late, filter, 2);
    client_subscribe(late, FENCE_TOPIC, 2);
    CU_ASSERT_EQUAL(client_publish(late, FENCE_TOPIC, "late", 4, 2, false), REASON_SUCCESS);
    for (const client_message *m; (m = client_next(late)) != NULL && strcmp(m->topic, FENCE_TOPIC) != 0; got++) {
        const visit_cell *c = cell_of(v, m->topic);
        CU_ASSERT_TRUE(c != NULL && is_retained(v, m, c));
    }
    CU_ASSERT_EQUAL(got, expected);
    CU_ASSERT_TRUE(client_gets(v->s.to, FENCE_TOPIC, "late", 4));
    client_close(late);
}

/* The first cell is the valid one: it must open, too, for who receives it. */
static void judge_content(visit *v)
{
    const visit_cell *c = &v->cells[0];
    const sealed *e = &c->sent[c->sent_n - 1];
    if (c->arrived == c->sent_n && !clears(v->d, c->sent_n - 1))
        CU_ASSERT_TRUE(opens(&v->s.b, &v->s.c.alice, &v->s.c.bob.device, c->signed_topic, e->bytes, e->n));
}

void visit_door(const door *d)
{
    static visit v;
    if (d->versions != ANY_VERSION && broker_at_least(2, 1) != (d->versions == SINCE_2_1)) {
        puts("skipped: not with this version of Mosquitto");
        return;
    }
    memset(&v, 0, sizeof(v));
    v.d = d;
    d->passage->open(&v);
    if (d->column->closed == NULL) {
        knock_all(&v);
        judge_late(&v);
        judge_the_rest(&v);
        judge_content(&v);
        if (d->retain)
            judge_retained(&v);
    }
    if (d->says != NULL)
        CU_ASSERT_TRUE(broker_logs(&v.s.b, d->says));
    d->passage->close(&v);
}
