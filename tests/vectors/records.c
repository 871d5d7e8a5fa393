/* Records put together by hand, right and wrong. */
#include <sodium.h>
#include <string.h>

#include "tests/vectors/vector.h"

/*
 * Slots: $k and $v sensor-1's kid and signing key, $h and $g the kid and key of its agreement key, $i the kid of the
 * key of small order 0100..00, $P, $Y and $Z header, payload and signature as byte strings.
 */
#define TYP             "10 76 'application/pep-record'"
#define HEADER          "a3 01 32 04 50 $k " TYP
#define NAME            "01 68 'sensor-1' "
#define TIMES           "02 01 03 1a 69486280 04 1a 6b2ae800 "
#define SIGN_KEY        "05 58 20 $v "
#define AGREE_KEY       "a4 01 50 $h 02 18 2a 03 58 20 $g 04 1a 6b2ae800 "
#define FOREIGN_KEY     "a4 01 50 {16:01} 02 18 2e 03 41 00 04 1a 6b2ae800 "
#define ABILITIES       "07 81 01 08 82 18 18 18 2a "
#define RECORD(members) "a8 " members
#define USUAL_WHOLE     "d2 84 $P a0 $Y $Z"

typedef struct {
    const char *name;
    const char *comment;
    const char *expect;  /* NULL: ok */
    const char *header;  /* NULL: HEADER */
    const char *payload; /* NULL: the usual one */
    const char *whole;   /* NULL: USUAL_WHOLE */
} record_case;

#define USUAL_PAYLOAD RECORD(NAME TIMES SIGN_KEY "06 81 " AGREE_KEY ABILITIES)
#define MALFORMED     .expect = "malformed"

static const record_case cases[] = {
    {.name = "record", .comment = "version 1 of a record"},
    {.name = "record-previous",
     .comment = "version 2 names the hash of the statement before it",
     .payload =
         "a9 " NAME "02 02 03 1a 69486280 04 1a 6b2ae800 " SIGN_KEY "06 81 " AGREE_KEY ABILITIES "09 58 20 {32:5a}"},
    {.name = "record-no-previous",
     .comment = "version 2 follows nothing",
     MALFORMED,
     .payload = RECORD(NAME "02 02 03 1a 69486280 04 1a 6b2ae800 " SIGN_KEY "06 81 " AGREE_KEY ABILITIES)},
    {.name = "record-first-previous",
     .comment = "nothing comes before version 1",
     MALFORMED,
     .payload = "a9 " NAME TIMES SIGN_KEY "06 81 " AGREE_KEY ABILITIES "09 58 20 {32:5a}"},
    {.name = "record-previous-short",
     .comment = "a hash of 31 bytes",
     MALFORMED,
     .payload =
         "a9 " NAME "02 02 03 1a 69486280 04 1a 6b2ae800 " SIGN_KEY "06 81 " AGREE_KEY ABILITIES "09 58 1f {31:5a}"},
    {.name = "record-foreign-key",
     .comment = "an agreement key of another algorithm is passed over",
     .payload = RECORD(NAME TIMES SIGN_KEY "06 82 " FOREIGN_KEY AGREE_KEY ABILITIES)},
    {.name = "record-no-usable-key",
     .comment = "nothing but a key of another algorithm",
     MALFORMED,
     .payload = RECORD(NAME TIMES SIGN_KEY "06 81 " FOREIGN_KEY ABILITIES)},
    {.name = "record-five-keys",
     .comment = "four agreement keys at most",
     MALFORMED,
     .payload =
         RECORD(NAME TIMES SIGN_KEY "06 85 " AGREE_KEY FOREIGN_KEY FOREIGN_KEY FOREIGN_KEY FOREIGN_KEY ABILITIES)},
    {.name = "record-typ",
     .comment = "another typ",
     MALFORMED,
     .header = "a3 01 32 04 50 $k 10 76 'application/pep-permit'"},
    {.name = "record-no-typ", .comment = "no typ", MALFORMED, .header = "a2 01 32 04 50 $k"},
    {.name = "record-kid",
     .comment = "the header's kid is not the key's",
     MALFORMED,
     .header = "a3 01 32 04 50 {16:07} " TYP},
    {.name = "record-agree-kid",
     .comment = "a stated kid that is not the agreement key's",
     MALFORMED,
     .payload = RECORD(NAME TIMES SIGN_KEY "06 81 a4 01 50 {16:07} 02 18 2a 03 58 20 $g 04 1a 6b2ae800 " ABILITIES)},
    {.name = "record-id",
     .comment = "a slash in the id",
     MALFORMED,
     .payload = RECORD("01 68 'sensor/1' " TIMES SIGN_KEY "06 81 " AGREE_KEY ABILITIES)},
    {.name = "record-version-0",
     .comment = "versions begin at 1",
     MALFORMED,
     .payload = RECORD(NAME "02 00 03 1a 69486280 04 1a 6b2ae800 " SIGN_KEY "06 81 " AGREE_KEY ABILITIES)},
    {.name = "record-times",
     .comment = "not-after is not later than issued",
     MALFORMED,
     .payload = RECORD(NAME "02 01 03 1a 69486280 04 1a 69486280 " SIGN_KEY "06 81 " AGREE_KEY ABILITIES)},
    {.name = "record-unknown",
     .comment = "a tenth member",
     MALFORMED,
     .payload = "a9 " NAME TIMES SIGN_KEY "06 81 " AGREE_KEY ABILITIES "0a 00"},
    {.name = "record-unprotected",
     .comment = "a header that is not signed",
     MALFORMED,
     .whole = "d2 84 $P a1 04 50 $k $Y $Z"},
    {.name = "record-trailing", .comment = "a byte behind it", MALFORMED, .whole = USUAL_WHOLE " 00"},
    {.name = "record-algorithm",
     .comment = "EdDSA (-8)",
     .expect = "unsupported-algorithm",
     .header = "a3 01 27 04 50 $k " TYP},
    {.name = "record-signature",
     .comment = "64 zeros",
     .expect = "bad-signature",
     .whole = "d2 84 $P a0 $Y 58 40 {64:00}"},
    {.name = "record-small-order",
     .comment = "a key of small order, under which one signature fits every message where it is not refused",
     .expect = "bad-signature",
     .header = "a3 01 32 04 50 $i " TYP,
     .payload = RECORD(NAME TIMES "05 58 20 01 {31:00} 06 81 " AGREE_KEY ABILITIES),
     .whole = "d2 84 $P a0 $Y 58 40 58 {31:66} 01 {31:00}"},
};

static void build(bytes *out, const record_case *c)
{
    static const uint8_t small_order[PEP_SIGN_PUBLIC_BYTES] = {1};
    const pep_device *d = &actor_of("sensor-1")->device;
    uint8_t small_kid[PEP_KID_BYTES];
    uint8_t signature[PEP_SIGNATURE_BYTES];
    bytes header = {.n = 0};
    bytes payload = {.n = 0};
    bytes to_sign = {.n = 0};
    bytes items[3] = {{.n = 0}};
    pep_kid_sign(small_kid, small_order);
    slots s = {.slot = {['k'] = {d->sign_kid, PEP_KID_BYTES},
                        ['v'] = {d->sign_public, PEP_SIGN_PUBLIC_BYTES},
                        ['h'] = {d->agree_kid, PEP_KID_BYTES},
                        ['g'] = {d->agree_public, PEP_AGREE_PUBLIC_BYTES},
                        ['i'] = {small_kid, PEP_KID_BYTES}}};
    template_fill(&header, c->header == NULL ? HEADER : c->header, &s);
    template_fill(&payload, c->payload == NULL ? USUAL_PAYLOAD : c->payload, &s);
    append_sig_structure(&to_sign, bytes_view(&header), bytes_view(&payload));
    crypto_sign_detached(signature, NULL, to_sign.p, to_sign.n, d->sign_secret);
    append_bstr(&items[0], bytes_view(&header));
    append_bstr(&items[1], bytes_view(&payload));
    append_bstr(&items[2], (pep_view){signature, sizeof signature});
    s.slot['P'] = bytes_view(&items[0]);
    s.slot['Y'] = bytes_view(&items[1]);
    s.slot['Z'] = bytes_view(&items[2]);
    template_fill(out, c->whole == NULL ? USUAL_WHOLE : c->whole, &s);
}

void records_emit(json *j)
{
    for (size_t i = 0; i < COUNT(cases); i++) {
        bytes record = {.n = 0};
        build(&record, &cases[i]);
        json_open(j, NULL, '{');
        json_text(j, "name", cases[i].name);
        json_text(j, "comment", cases[i].comment);
        json_hex(j, "record", record.p, record.n);
        json_text(j, "expect", cases[i].expect == NULL ? "ok" : cases[i].expect);
        json_close(j, '}');
    }
}
