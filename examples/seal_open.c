/*
 * One envelope, from console's keys to console itself: sealed, opened, and refused the second time.
 *
 *   pep keygen --id console && seal_open console.key console.pub
 *   cc seal_open.c -o seal_open $(pkg-config --cflags --libs libpep)
 */
#include <pep.h>
#include <stdio.h>
#include <string.h>

static uint8_t envelope[4096], work[4096];
static pep_error error;

static int fail(const char *what, pep_reason reason)
{
    (void)fprintf(stderr, "%s: %s (%s) %s\n", what, pep_reason_name(reason), pep_reason_text(reason), error.text);
    return 1;
}

/* The sender: a new number, the recipient's record from the pins, and the bytes to publish on that topic. */
static pep_reason seal(size_t *n, const pep_device *me, pep_seq *seq, pep_pins *pins, pep_view topic, const char *text)
{
    pep_message m = {.from = me, .topic = topic, .to = pep_pins_find_id(pins, "console")};
    m.plain = (pep_view){(const uint8_t *)text, strlen(text)};
    pep_reason reason = pep_seq_next(seq, &m.seq); /* right before sealing, and sealed right before sending */
    return reason == PEP_OK ? pep_seal(envelope, n, sizeof(envelope), &m) : reason; /* no recipient: PEP_BAD_ARGUMENT */
}

/* The receiver: opens, asks whether it was seen, uses it, and then remembers it. */
static pep_reason take(size_t n, const pep_device *me, pep_replay *seen, pep_pins *pins, pep_view topic)
{
    size_t slot;
    pep_opened opened;
    uint8_t key[PEP_KID_BYTES];
    const pep_opener o = {.me = me, .pins = pins, .topic = topic, .now_us = pep_now_us()};
    pep_reason reason = pep_open(&opened, work, sizeof(work), &o, envelope, n);
    if (reason != PEP_OK)
        return reason;
    pep_replay_key(key, opened.envelope.kid, topic.p, topic.n);
    reason = pep_replay_slot(seen, &slot, key);
    if (reason == PEP_OK)
        reason = pep_replay_check(seen, slot, PEP_SEEN_MESSAGE, opened.envelope.seq);
    if (reason != PEP_OK)
        return reason; /* PEP_REPLAYED: it is not new */
    printf("%s says: %.*s\n", opened.sender->id, (int)opened.plain.n, (const char *)opened.plain.p);
    pep_replay_commit(seen, slot, PEP_SEEN_MESSAGE, opened.envelope.seq, NULL);
    return PEP_OK;
}

/* What stands in a record, put by hand. Over MQTT it is what comes on $PEP/keys/console, and pep_pins_take. */
static pep_reason learn(pep_pins *pins, const char *path)
{
    size_t n;
    pep_statement statement;
    static uint8_t bytes[PEP_STATEMENT_BYTES_MAX];
    pep_reason reason = pep_statement_load(&statement, bytes, &n, &error, path);
    return reason == PEP_OK ? pep_pins_give(pins, &error, &statement, bytes, n) : reason;
}

int main(int argc, char **argv)
{
    static const pep_view topic = {(const uint8_t *)"sensors/1", 9};
    pep_device me;
    pep_seq *seq = NULL;
    pep_pins *pins = NULL;
    pep_replay *seen = NULL;
    size_t n = 0;
    if (argc != 3 || pep_init() != PEP_OK)
        return 2;
    pep_reason reason = pep_device_load(&me, &error, argv[1]);
    if (reason == PEP_OK)
        reason = pep_seq_open(&seq, &error, "console.seq");
    if (reason == PEP_OK)
        reason = pep_pins_open(&pins, &error, "pins", NULL, 0);
    if (reason == PEP_OK)
        reason = pep_replay_open(&seen, &error, "console.seen");
    if (reason == PEP_OK)
        reason = learn(pins, argv[2]);
    if (reason == PEP_OK)
        reason = seal(&n, &me, seq, pins, topic, "21.5");
    if (reason == PEP_OK)
        reason = take(n, &me, seen, pins, topic);
    if (reason == PEP_OK && take(n, &me, seen, pins, topic) != PEP_REPLAYED)
        reason = PEP_REPLAYED;
    pep_replay_close(seen);
    pep_pins_close(pins);
    pep_seq_close(seq);
    pep_device_wipe(&me);
    return reason == PEP_OK ? 0 : fail("seal_open", reason);
}
