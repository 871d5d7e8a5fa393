/*
 * Attacks on envelopes that were sealed rightly: parts of one carried over into another, and messages sealed with keys
 * that say something else than they are. All but the tampered ones are signed rightly, so a gate lets them pass; only
 * someone who opens can tell.
 */
#include <sodium.h>
#include <string.h>

#include "tests/vectors/vector.h"

#define TOPIC "signed/t"

static pep_message message_to(const pep_record *to, const pep_epoch *epoch)
{
    static const uint8_t plain[] = {'2', '1', '.', '5'};
    return (pep_message){
        .from = &actor_of("sensor-1")->device,
        .topic = {(const uint8_t *)TOPIC, strlen(TOPIC)},
        .seq = vector_next_seq(),
        .flags = to == NULL && epoch == NULL ? PEP_FLAG_SIGNED_ONLY : 0,
        .to = to,
        .epoch = epoch,
        .plain = {plain, sizeof plain},
    };
}

static void seal(bytes *out, const char *name, const pep_message *m)
{
    random_restart(name);
    must(pep_seal(out->p, &out->n, sizeof out->p, m) == PEP_OK, name);
}

static void emit_unopenable(json *j, const char *name, const char *comment, const bytes *envelope)
{
    vector v = {
        .name = name, .comment = comment, .topic = TOPIC, .envelope = *envelope, .receiver = {.expect = "cannot-open"}};
    vector_emit(j, &v);
}

/* ---- another signature around the same ciphertext ---- */

static void sign_again(bytes *out, pep_view header, pep_view payload, const pep_device *signer)
{
    bytes to_sign = {.n = 0};
    uint8_t signature[PEP_SIGNATURE_BYTES];
    static const slots none;
    append_sig_structure(&to_sign, header, payload);
    crypto_sign_detached(signature, NULL, to_sign.p, to_sign.n, signer->sign_secret);
    template_fill(out, "d2 84", &none);
    append_bstr(out, header);
    template_fill(out, "a0", &none);
    append_bstr(out, payload);
    append_bstr(out, (pep_view){signature, sizeof signature});
}

/* The header of one envelope, the payload of another. */
static void emit_joined(json *j, const char *name, const char *comment, const pep_message *outside,
                        const pep_message *inside)
{
    bytes first = {.n = 0};
    bytes second = {.n = 0};
    bytes joined = {.n = 0};
    pep_envelope outer = {.size = 0};
    pep_envelope inner = {.size = 0};
    seal(&first, name, outside);
    seal(&second, comment, inside);
    must(pep_parse(&outer, first.p, first.n) == PEP_OK && pep_parse(&inner, second.p, second.n) == PEP_OK, name);
    sign_again(&joined, outer.protected_bytes, inner.payload, outside->from);
    emit_unopenable(j, name, comment, &joined);
}

static void emit_moved(json *j)
{
    pep_message original = message_to(&actor_of("console")->record, NULL);
    pep_message other = message_to(&actor_of("console")->record, NULL);
    emit_joined(j, "cannot-open-moved", "a ciphertext under another header of the same sender", &other, &original);
    other.from = &actor_of("sensor-2")->device;
    emit_joined(j, "cannot-open-claimed", "another sender claims a ciphertext with a signature of its own", &other,
                &original);
    original = message_to(NULL, &epoch_of("all")->epoch);
    other = message_to(NULL, &epoch_of("all")->epoch);
    emit_joined(j, "cannot-open-moved-epoch", "a ciphertext under another seq", &other, &original);
}

static void emit_flipped(json *j, const char *name, const char *comment, const pep_message *m, size_t from_end)
{
    bytes sealed = {.n = 0};
    bytes out = {.n = 0};
    bytes payload = {.n = 0};
    pep_envelope e = {.size = 0};
    seal(&sealed, name, m);
    must(pep_parse(&e, sealed.p, sealed.n) == PEP_OK, name);
    bytes_add(&payload, e.payload.p, e.payload.n);
    payload.p[payload.n - from_end] ^= 1;
    sign_again(&out, e.protected_bytes, bytes_view(&payload), m->from);
    emit_unopenable(j, name, comment, &out);
}

/* ---- keys that are not what they say ---- */

static void emit_sealed(json *j, const char *name, const char *comment, const pep_message *m)
{
    bytes sealed = {.n = 0};
    seal(&sealed, name, m);
    emit_unopenable(j, name, comment, &sealed);
}

static void emit_false_recipients(json *j)
{
    const pep_record *console = &actor_of("console")->record;
    const pep_record *other = &actor_of("sensor-2")->record;
    pep_record mixed = *console;
    mixed.agree[0] = other->agree[0];
    pep_message m = message_to(&mixed, NULL);
    emit_sealed(j, "cannot-open-agreement-kid", "to names console, the inner kid another's agreement key", &m);
    mixed = *other;
    mixed.agree[0] = console->agree[0];
    m = message_to(&mixed, NULL);
    emit_sealed(j, "cannot-open-to", "encrypted to console's agreement key, but to names who enrolled it as its own",
                &m);
    mixed = *console;
    memcpy(mixed.agree[0].kid, other->agree[0].kid, PEP_KID_BYTES);
    m = message_to(&mixed, NULL);
    emit_sealed(j, "cannot-open-inner-kid", "the key is console's, the inner kid another's", &m);
    mixed = *console;
    memcpy(mixed.agree[0].key, other->agree[0].key, PEP_AGREE_PUBLIC_BYTES);
    m = message_to(&mixed, NULL);
    emit_sealed(j, "cannot-open-agreement-key", "both kids are console's, the key is not", &m);
}

static void emit_false_epochs(json *j)
{
    char everything[] = "#";
    pep_epoch narrow = epoch_of("one-topic")->epoch;
    narrow.scope = everything;
    pep_message m = message_to(NULL, &narrow);
    emit_sealed(j, "cannot-open-scope", "the epoch's scope does not cover the topic", &m);
    pep_epoch borrowed = epoch_of("of-another")->epoch;
    memcpy(borrowed.owner_kid, actor_of("sensor-1")->device.sign_kid, PEP_KID_BYTES);
    m = message_to(NULL, &borrowed);
    emit_sealed(j, "cannot-open-owner", "the epoch belongs to another sender", &m);
    pep_epoch swapped = epoch_of("all")->epoch;
    memcpy(swapped.key, epoch_of("not-given")->epoch.key, PEP_EPOCH_KEY_BYTES);
    m = message_to(NULL, &swapped);
    emit_sealed(j, "cannot-open-epoch-key", "a known epoch id, encrypted with another key", &m);
}

/* ---- changed on the way, not signed again ---- */

static void emit_tampered(json *j)
{
    pep_message m = message_to(NULL, &epoch_of("all")->epoch);
    vector v = {
        .name = "bad-signature-ciphertext",
        .comment = "one bit of the ciphertext",
        .topic = TOPIC,
        .receiver = {.expect = "bad-signature"},
        .gate = {.expect = "bad-signature"},
    };
    pep_envelope e = {.size = 0};
    seal(&v.envelope, v.name, &m);
    must(pep_parse(&e, v.envelope.p, v.envelope.n) == PEP_OK, v.name);
    size_t ciphertext = (size_t)(e.ciphertext.p - v.envelope.p);
    size_t topic_end = (size_t)(e.topic.p - v.envelope.p) + e.topic.n;
    v.envelope.p[ciphertext] ^= 0x80;
    vector_emit(j, &v);
    v.name = "bad-signature-topic";
    v.comment = "the topic changed to the one it arrives on";
    v.topic = "signed/u";
    v.envelope.p[ciphertext] ^= 0x80;
    v.envelope.p[topic_end - 1] = 'u';
    vector_emit(j, &v);
}

void altered_emit(json *j)
{
    pep_message direct = message_to(&actor_of("console")->record, NULL);
    pep_message epoch = message_to(NULL, &epoch_of("all")->epoch);
    emit_flipped(j, "cannot-open-ciphertext", "a bit of the ciphertext, signed again", &direct, 17);
    emit_flipped(j, "cannot-open-tag", "a bit of the Poly1305 tag, signed again", &epoch, 1);
    emit_moved(j);
    emit_false_recipients(j);
    emit_false_epochs(j);
    emit_tampered(j);
}
