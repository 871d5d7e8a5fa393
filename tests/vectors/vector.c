#include "tests/vectors/vector.h"

#include <sodium.h>
#include <string.h>

#include "envelope/structures.h"

static const char *or_else(const char *text, const char *otherwise)
{
    return text == NULL ? otherwise : text;
}

uint64_t vector_next_seq(void)
{
    static uint64_t seq = NOW_US - 5000000;
    return seq++;
}

/* ---- what was sealed ---- */

static void emit_optional_hex(json *j, const char *key, pep_view value)
{
    if (value.p != NULL)
        json_hex(j, key, value.p, value.n);
}

static void emit_text_view(json *j, const char *key, pep_view value)
{
    char text[128] = {0};
    if (value.p == NULL)
        return;
    must(value.n < sizeof text, "a text is too long");
    memcpy(text, value.p, value.n);
    json_text(j, key, text);
}

static void emit_meta(json *j, const pep_meta *m)
{
    json_open(j, "meta", '{');
    if (m != NULL) {
        emit_text_view(j, "content_type", m->content_type);
        if (m->has_content_format)
            json_number(j, "content_format", m->content_format);
        emit_optional_hex(j, "correlation", m->correlation);
        emit_text_view(j, "reply_topic", m->reply_topic);
        if (m->has_content_coding)
            json_number(j, "content_coding", m->content_coding);
        if (m->padding.n > 0)
            json_number(j, "padding", m->padding.n);
    }
    json_close(j, '}');
}

static const char *mode_name(const pep_message *m)
{
    if (m->to != NULL)
        return "direct";
    return m->epoch != NULL ? "epoch" : "signed";
}

static void emit_message(json *j, const pep_message *m)
{
    json_open(j, "fields", '{');
    json_text(j, "mode", mode_name(m));
    json_hex(j, "signer_kid", m->from->sign_kid, PEP_KID_BYTES);
    json_number(j, "seq", m->seq);
    json_number(j, "flags", m->flags | (m->to == NULL && m->epoch == NULL ? PEP_FLAG_SIGNED_ONLY : 0));
    if (m->facts.n > 0)
        json_hex(j, "facts", m->facts.p, m->facts.n);
    if (m->to != NULL)
        json_hex(j, "to", m->to->sign_kid, PEP_KID_BYTES);
    if (m->exp_s > 0)
        json_number(j, "exp_s", m->exp_s);
    if (m->audience != NULL)
        json_hex(j, "audience", m->audience, PEP_KID_BYTES);
    json_close(j, '}');
    pep_view random = random_drawn();
    if (random.n > 0)
        json_hex(j, "random", random.p, random.n);
}

/* ---- what is authenticated and never sent ---- */

static void emit_structures(json *j, const bytes *envelope)
{
    pep_envelope e;
    bytes structure = {.n = 0};
    if (pep_parse(&e, envelope->p, envelope->n) != PEP_OK)
        return;
    append_sig_structure(&structure, e.protected_bytes, e.payload);
    json_hex(j, "sig_structure", structure.p, structure.n);
    if (e.mode == PEP_MODE_SIGNED)
        return;
    structure.n = 0;
    append_enc_structure(&structure, e.inner_protected, e.protected_bytes);
    json_hex(j, "enc_structure", structure.p, structure.n);
    if (e.mode != PEP_MODE_EPOCH)
        return;
    uint8_t nonce[12];
    epoch_nonce(nonce, e.seq, e.nonce.p);
    json_hex(j, "nonce", nonce, sizeof nonce);
}

/* ---- who says what ---- */

static void emit_receiver(json *j, const vector *v)
{
    const receiver_case *r = &v->receiver;
    const char *expect = or_else(r->expect, "ok");
    json_open(j, "receiver", '{');
    json_text(j, "me", or_else(r->me, "console"));
    json_text(j, "topic", or_else(r->topic, v->topic));
    json_number(j, "now_us", r->now_us == 0 ? NOW_US : r->now_us);
    json_number(j, "max_age_us", r->max_age_us);
    json_bool(j, "allow_signed_only", !r->encrypted_only);
    json_text(j, "expect", expect);
    if (strcmp(expect, "ok") == 0) {
        emit_meta(j, v->meta);
        json_hex(j, "plain", v->plain.p, v->plain.n);
    }
    json_close(j, '}');
}

static void emit_gate(json *j, const vector *v)
{
    const gate_case *g = &v->gate;
    const char *expect = or_else(g->expect, "ok");
    uint64_t now_us = g->now_us == 0 ? NOW_US : g->now_us;
    json_open(j, "gate", '{');
    json_text(j, "policy", or_else(g->policy, "standard"));
    json_text(j, "door", or_else(g->door, "publish"));
    json_text(j, "topic", or_else(g->topic, v->topic));
    json_text(j, "client_id", or_else(g->client_id, CLIENT_ID));
    json_text(j, "username", or_else(g->username, "sensor-1"));
    json_number(j, "qos", (uint64_t)g->qos);
    json_bool(j, "retain", g->retain);
    json_number(j, "now_us", now_us);
    if (g->seen_from != NULL) {
        json_open(j, "seen", '{');
        json_text(j, "client_id", g->seen_from);
        json_number(j, "now_us", g->seen_at_us == 0 ? now_us : g->seen_at_us);
        json_close(j, '}');
    }
    json_text(j, "expect", expect);
    json_text(j, "action", or_else(g->action, strcmp(expect, "ok") == 0 ? "pass" : "refuse"));
    json_close(j, '}');
}

void vector_emit(json *j, const vector *v)
{
    json_open(j, NULL, '{');
    json_text(j, "name", v->name);
    json_text(j, "comment", v->comment);
    json_hex(j, "envelope", v->envelope.p, v->envelope.n);
    if (v->message != NULL)
        emit_message(j, v->message);
    emit_structures(j, &v->envelope);
    if (!v->receiver.skip)
        emit_receiver(j, v);
    if (!v->gate.skip)
        emit_gate(j, v);
    json_close(j, '}');
}
