/*
 * Envelopes that are wrong in one place, where all the rest would be taken for an envelope if that place were not
 * looked at. They are only taken apart: nothing is signed.
 */
#include <stdlib.h>
#include <string.h>

#include "envelope/cbor.h"
#include "envelope/parse.h"
#include "exact.h"
#include "pep.h"
#include "unit.h"

#define VIEW(s)                                                                                                        \
    {                                                                                                                  \
        (const uint8_t *)(s), sizeof(s) - 1                                                                            \
    }
#define KID           "\x50kkkkkkkkkkkkkkkk"
#define HEADER(pep)   "\xa3\x01\x32\x04" KID "\x3a\x00\x01\x00\x00" pep
#define SEALED        HEADER("\x84\x01\x61t\x01\x00")
#define SIGNED        HEADER("\x84\x01\x61t\x01\x01")
#define WITH_EXT(ext) HEADER("\x85\x01\x61t\x01\x01" ext)
#define DIRECT        HEADER("\x85\x01\x61t\x01\x00\xa1\x01" KID)
#define EPOCH_INNER   "\x56\xa2\x01\x18\x18\x04" KID
#define IV            "\xa1\x06\x44nnnn"
#define CIPHERTEXT    "\x51qqqqqqqqqqqqqqqqq"
#define EPOCH_PAYLOAD "\xd0\x83" EPOCH_INNER IV CIPHERTEXT
#define HPKE                                                                                                           \
    "\xa1\x23\x58\x20"                                                                                                 \
    "zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz"
#define DIRECT_PAYLOAD "\xd0\x83\x56\xa2\x01\x18\x2a\x04" KID HPKE CIPHERTEXT
#define CONTENT        "\xa0x"
#define GATE_TAG       "\x3a\x00\x01\x00\x01"
#define SESSION        "\x48ssssssss"
#define TAG            "\x50tttttttttttttttt"
#define UNPROTECTED    "\xa0"

typedef struct {
    const char *name;
    pep_view header;
    pep_view payload;
    pep_view unprotected;
} parse_case;

/* The bytes lie in a buffer of exactly their size. */
static pep_reason parse(const parse_case *c)
{
    static uint8_t bytes[70000];
    static const uint8_t signature[PEP_SIGNATURE_BYTES];
    pep_writer w = {.p = bytes, .cap = sizeof bytes};
    pep_envelope out;
    pep_write_tag(&w, 18);
    pep_write_array(&w, 4);
    pep_write_bytes(&w, c->header.p, c->header.n);
    pep_write_raw(&w, c->unprotected.p, c->unprotected.n);
    pep_write_bytes(&w, c->payload.p, c->payload.n);
    pep_write_bytes(&w, signature, sizeof signature);
    CU_ASSERT_FALSE_FATAL(w.full);
    uint8_t *exact = exact_copy(bytes, w.n);
    pep_reason reason = pep_parse(&out, exact, w.n);
    free(exact);
    return reason;
}

static const parse_case right[] = {
    {"epoch", VIEW(SEALED), VIEW(EPOCH_PAYLOAD), VIEW(UNPROTECTED)},
    {"direct", VIEW(DIRECT), VIEW(DIRECT_PAYLOAD), VIEW(UNPROTECTED)},
    {"signed", VIEW(SIGNED), VIEW(CONTENT), VIEW(UNPROTECTED)},
    {"gate-tag", VIEW(SIGNED), VIEW(CONTENT), VIEW("\xa1" GATE_TAG "\x83" SESSION "\x07" TAG)},
};

#define WRONG_HEADER(name, header)                                                                                     \
    {                                                                                                                  \
        name, VIEW(header), VIEW(EPOCH_PAYLOAD), VIEW(UNPROTECTED)                                                     \
    }
#define WRONG_EXT(name, ext)                                                                                           \
    {                                                                                                                  \
        name, VIEW(WITH_EXT(ext)), VIEW(CONTENT), VIEW(UNPROTECTED)                                                    \
    }
#define WRONG_PAYLOAD(name, payload)                                                                                   \
    {                                                                                                                  \
        name, VIEW(SEALED), VIEW(payload), VIEW(UNPROTECTED)                                                           \
    }
#define WRONG_UNPROTECTED(name, map)                                                                                   \
    {                                                                                                                  \
        name, VIEW(SIGNED), VIEW(CONTENT), VIEW(map)                                                                   \
    }

static const parse_case wrong[] = {
    WRONG_HEADER("no header", ""),
    WRONG_HEADER("another label for alg", "\xa3\x02\x32\x04" KID "\x3a\x00\x01\x00\x00\x84\x01\x61t\x01\x00"),
    WRONG_HEADER("another label for kid", "\xa3\x01\x32\x05" KID "\x3a\x00\x01\x00\x00\x84\x01\x61t\x01\x00"),
    WRONG_HEADER("another label for pep", "\xa3\x01\x32\x04" KID "\x3a\x00\x01\x00\x01\x84\x01\x61t\x01\x00"),
    WRONG_HEADER("pep is a number", HEADER("\x01")),
    WRONG_HEADER("pep is empty", HEADER("\x80")),
    WRONG_HEADER("pep is empty, and version 2 behind it", HEADER("\x80\x02")),
    WRONG_HEADER("no flags", HEADER("\x83\x01\x61t\x01")),
    WRONG_HEADER("negative flags", HEADER("\x84\x01\x61t\x01\x20")),
    WRONG_HEADER("no topic", HEADER("\x84\x01\x60\x01\x00")),
    WRONG_EXT("an unknown key alone", "\xa1\x04"),
    WRONG_EXT("an array for a key", "\xa1\x80"),
    WRONG_EXT("more facts than counted, out of order", "\xa1\x00\xa2\x62xx\x00\x61y\x00\x62zz\x00"),
    WRONG_PAYLOAD("another tag", "\xd1\x83" EPOCH_INNER IV CIPHERTEXT),
    WRONG_PAYLOAD("an array of 2", "\xd0\x82" EPOCH_INNER IV CIPHERTEXT),
    WRONG_PAYLOAD("an array of 4", "\xd0\x84" EPOCH_INNER IV CIPHERTEXT),
    WRONG_PAYLOAD("another label for alg", "\xd0\x83\x56\xa2\x02\x18\x18\x04" KID IV CIPHERTEXT),
    WRONG_PAYLOAD("another label for kid", "\xd0\x83\x56\xa2\x01\x18\x18\x05" KID IV CIPHERTEXT),
    WRONG_PAYLOAD("another label for the IV", "\xd0\x83" EPOCH_INNER "\xa1\x05\x44nnnn" CIPHERTEXT),
    WRONG_PAYLOAD("a kid of 15 bytes", "\xd0\x83\x55\xa2\x01\x18\x18\x04\x4fkkkkkkkkkkkkkkk" IV CIPHERTEXT),
    WRONG_UNPROTECTED("two gate-tags counted", "\xa2" GATE_TAG "\x83" SESSION "\x07" TAG),
    WRONG_UNPROTECTED("a tag of 15 bytes", "\xa1" GATE_TAG "\x83" SESSION "\x07\x4fttttttttttttttt"),
    {"a clear with another byte", VIEW(HEADER("\x84\x01\x61t\x01\x05")), VIEW("\x00"), VIEW(UNPROTECTED)},
    WRONG_UNPROTECTED("another label for the gate-tag", "\xa1\x3a\x00\x01\x00\x02\x83" SESSION "\x07" TAG),
};

static void test_right(void)
{
    for (size_t i = 0; i < sizeof right / sizeof right[0]; i++)
        CU_ASSERT_EQUAL(parse(&right[i]), PEP_OK);
}

static void test_wrong(void)
{
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        pep_reason reason = parse(&wrong[i]);
        if (reason != PEP_MALFORMED)
            printf("\n    %s: %s\n", wrong[i].name, pep_reason_name(reason));
        CU_ASSERT_EQUAL(reason, PEP_MALFORMED);
    }
}

/* A topic of MQTT has at most 65535 bytes. */
static void test_topic_length(void)
{
    static uint8_t header[66000];
    static uint8_t topic[PEP_TOPIC_MAX + 1];
    memset(topic, 't', sizeof topic);
    for (uint64_t n = PEP_TOPIC_MAX; n <= PEP_TOPIC_MAX + 1; n++) {
        pep_writer w = {.p = header, .cap = sizeof header};
        pep_write_raw(&w, (const uint8_t *)HEADER(""), sizeof HEADER("") - 1);
        pep_write_array(&w, 4);
        pep_write_uint(&w, 1);
        pep_write_text(&w, topic, n);
        pep_write_uint(&w, 1);
        pep_write_uint(&w, 1);
        const parse_case c = {"", {header, w.n}, VIEW(CONTENT), VIEW(UNPROTECTED)};
        CU_ASSERT_EQUAL(parse(&c), n <= PEP_TOPIC_MAX ? PEP_OK : PEP_MALFORMED);
    }
}

/* Facts are read once more by whoever wants them, and as strictly. */
static void test_facts(void)
{
    pep_fact fact;
    size_t at = 0;
    CU_ASSERT_TRUE(pep_facts_next(&fact, &at, (pep_view)VIEW("\xa1\x61k\x17")));
    at = 0;
    CU_ASSERT_FALSE(pep_facts_next(&fact, &at, (pep_view)VIEW("\xa1\x61k\x18\x17")));
}

static const unit_test tests[] = {
    {"right", test_right},
    {"wrong in one place", test_wrong},
    {"a topic's length", test_topic_length},
    {"facts", test_facts},
};

UNIT_MAIN("parse", tests)
