/*
 * Envelopes put together by hand and signed: what pep_seal never makes. Most are malformed in one place and right in
 * every other one, the signature included, so that nothing but that place can be the reason.
 */
#include <sodium.h>
#include <string.h>

#include "envelope/crypto.h"
#include "envelope/structures.h"
#include "tests/vectors/vector.h"

/*
 * Slots of the templates
 *   $k  the signer's kid                     $T  the topic signed/t, a text item
 *   $c  console's kid                        $S  the seq, an integer item
 *   $a  kid of console's agreement key       $P  the header, as a byte string
 *   $e  id of the epoch key "all"            $U  the unprotected map
 *   $C  the ciphertext, as a byte string     $Y  the payload, as a byte string
 *   $L  the signature with S + L for S       $Z  the signature, as a byte string; $z its 64 bytes
 */
#define HEADER(pep)     "a3 01 32 04 50 $k 3a00010000 " pep
#define PLAIN           HEADER("84 01 $T $S 01")
#define WITH_EXT(ext)   HEADER("85 01 $T $S 01 " ext)
#define SEALED          HEADER("84 01 $T $S 00")
#define TO_CONSOLE      HEADER("85 01 $T $S 00 a1 01 50 $c")
#define ENCRYPT0(inner) "d0 83 " inner
#define EPOCH_INNER     "56 a2 01 18 18 04 50 $e"
#define DIRECT_INNER    "56 a2 01 18 2a 04 50 $a"
#define IV              "a1 06 44 00000001"
#define USUAL_PAYLOAD   "a0 'x'"
#define USUAL_WHOLE     "d2 84 $P $U $Y $Z"

typedef struct {
    const char *name;
    const char *comment;
    const char *expect;      /* NULL: ok */
    const char *header;      /* NULL: PLAIN */
    const char *unprotected; /* NULL: a0 */
    const char *payload;     /* NULL: USUAL_PAYLOAD */
    const char *content;     /* what $C encrypts with the epoch key; NULL: USUAL_PAYLOAD */
    const char *whole;       /* NULL: USUAL_WHOLE */
    const char *signed_by;   /* NULL: sensor-1 */
    const char *topic;       /* it arrives on; NULL: signed/t */
    const char *door;        /* NULL: publish */
    bool gate_alone;
} forged_case;

static const forged_case valid[] = {
    {.name = "ext-negative", .comment = "a negative key may be ignored", .header = WITH_EXT("a1 20 18 2a")},
    {.name = "ext-negative-beside-exp",
     .comment = "known and ignored keys together, in the order of their encodings",
     .header = WITH_EXT("a3 02 1a 77359400 20 f6 3b ffffffffffffffff 80")},
    {.name = "ext-negative-nested",
     .comment = "six levels: header map, pep, ext, then three more",
     .header = WITH_EXT("a1 20 81 a1 00 81 f5")},
    {.name = "ext-negative-kinds",
     .comment = "every kind of item that may be ignored",
     .header = WITH_EXT("a1 20 88 01 20 41 00 61 'x' a1 61 'k' 00 c1 00 f4 f6")},
    {.name = "facts-512", .comment = "as long as they may be", .header = WITH_EXT("a1 00 a1 61 'a' 79 01fa {506:62}")},
    {.name = "ext-topic-counter", .comment = "reserved, and accepted", .header = WITH_EXT("a1 05 18 64")},
    {.name = "ext-to-signed-only", .comment = "to without encryption", .header = WITH_EXT("a1 01 50 $c")},
    {.name = "gate-tag",
     .comment = "for a gate alone; receivers ignore it",
     .unprotected = "a1 3a00010001 83 48 0102030405060708 01 50 {16:aa}"},
    {.name = "meta-negative", .comment = "a negative key may be ignored", .payload = "a1 20 81 01 'x'"},
    {.name = "meta-negative-nested",
     .comment = "six levels: the map, then five more",
     .payload = "a1 20 81 81 81 81 81 00 'x'"},
    {.name = "unprotected-topic",
     .comment = "a topic without a rule is not the gate's business",
     .whole = "'21.5'",
     .topic = "free/a",
     .gate_alone = true},
};

static const forged_case strangers[] = {
    {.name = "empty-payload", .comment = "no bytes at all", .expect = "empty-payload", .whole = ""},
    {.name = "plain-payload", .comment = "text", .expect = "plain-payload", .whole = "'21.5'"},
    {.name = "plain-payload-json", .comment = "JSON", .expect = "plain-payload", .whole = "'{}'"},
    {.name = "plain-payload-untagged",
     .comment = "a COSE_Sign1 without its tag",
     .expect = "plain-payload",
     .whole = "84 $P $U $Y $Z"},
    {.name = "plain-payload-sign",
     .comment = "the tag of COSE_Sign (98)",
     .expect = "plain-payload",
     .whole = "d8 62 84 $P $U $Y $Z"},
    {.name = "plain-payload-long-tag",
     .comment = "tag 18 in two bytes",
     .expect = "plain-payload",
     .whole = "d8 12 84 $P $U $Y $Z"},
    {.name = "observed-plain",
     .comment = "the rule only observes",
     .expect = "plain-payload",
     .whole = "'21.5'",
     .topic = "watched/a",
     .gate_alone = true},
    {.name = "unsupported-version",
     .comment = "version 2; what follows it is not looked at",
     .expect = "unsupported-version",
     .header = HEADER("82 02 80")},
    {.name = "unsupported-version-0",
     .comment = "version 0",
     .expect = "unsupported-version",
     .header = HEADER("84 00 $T $S 01")},
    {.name = "unsupported-algorithm",
     .comment = "EdDSA (-8) names no curve, and is not version 1's",
     .expect = "unsupported-algorithm",
     .header = "a3 01 27 04 50 $k 3a00010000 84 01 $T $S 01"},
    {.name = "unsupported-algorithm-es256",
     .comment = "ES256",
     .expect = "unsupported-algorithm",
     .header = "a3 01 26 04 50 $k 3a00010000 84 01 $T $S 01"},
    {.name = "unsupported-algorithm-aes",
     .comment = "an Encrypt0 of A256GCM",
     .expect = "unsupported-algorithm",
     .header = SEALED,
     .payload = ENCRYPT0("55 a2 01 03 04 50 $e") " a1 05 4c {12:00} $C"},
    {.name = "unsupported-algorithm-hpke",
     .comment = "another HPKE suite (35)",
     .expect = "unsupported-algorithm",
     .header = TO_CONSOLE,
     .payload = ENCRYPT0("56 a2 01 18 23 04 50 $a") " a1 23 58 20 {32:09} $C"},
};

#define MALFORMED .expect = "malformed"

static const forged_case malformed_whole[] = {
    {.name = "trailing-byte", .comment = "a byte behind the signature", MALFORMED, .whole = USUAL_WHOLE " 00"},
    {.name = "truncated", .comment = "one byte short", MALFORMED, .whole = "d2 84 $P $U $Y 58 40 {63:00}"},
    {.name = "tag-alone", .comment = "the first byte and no more", MALFORMED, .whole = "d2"},
    {.name = "array-of-3", .comment = "no signature", MALFORMED, .whole = "d2 83 $P $U $Y"},
    {.name = "array-of-5", .comment = "one item too many", MALFORMED, .whole = "d2 85 $P $U $Y $Z 00"},
    {.name = "array-indefinite", .comment = "indefinite length", MALFORMED, .whole = "d2 9f $P $U $Y $Z ff"},
    {.name = "array-long", .comment = "a count in two bytes", MALFORMED, .whole = "d2 98 04 $P $U $Y $Z"},
    {.name = "tag-twice", .comment = "tag 18 within tag 18", MALFORMED, .whole = "d2 d2 84 $P $U $Y $Z"},
    {.name = "signature-63", .comment = "63 bytes", MALFORMED, .whole = "d2 84 $P $U $Y 58 3f {63:00}"},
    {.name = "signature-65", .comment = "65 bytes", MALFORMED, .whole = "d2 84 $P $U $Y 58 41 $z 00"},
    {.name = "signature-long", .comment = "a length in three bytes", MALFORMED, .whole = "d2 84 $P $U $Y 590040 $z"},
    {.name = "signature-text", .comment = "a text string", MALFORMED, .whole = "d2 84 $P $U $Y 78 40 {64:61}"},
    {.name = "signature-chunks", .comment = "indefinite length", MALFORMED, .whole = "d2 84 $P $U $Y 5f 58 40 $z ff"},
    {.name = "payload-nil", .comment = "a detached payload", MALFORMED, .whole = "d2 84 $P $U f6 $Z"},
    {.name = "payload-huge",
     .comment = "a length of 2^64 - 1",
     MALFORMED,
     .whole = "d2 84 $P $U 5b ffffffffffffffff $Z"},
    {.name = "unprotected-kid", .comment = "a header that is not signed", MALFORMED, .unprotected = "a1 04 50 $k"},
    {.name = "unprotected-two",
     .comment = "a header beside the gate-tag",
     MALFORMED,
     .unprotected = "a2 04 50 $k 3a00010001 83 48 {8:01} 01 50 {16:aa}"},
    {.name = "unprotected-indefinite",
     .comment = "an empty map of indefinite length",
     MALFORMED,
     .unprotected = "bf ff"},
    {.name = "gate-tag-2", .comment = "two items for three", MALFORMED, .unprotected = "a1 3a00010001 82 48 {8:01} 01"},
    {.name = "gate-tag-4-of-3",
     .comment = "a count of four for three items",
     MALFORMED,
     .unprotected = "a1 3a00010001 84 48 {8:01} 01 50 {16:aa}"},
    {.name = "gate-tag-session",
     .comment = "a session of 7 bytes",
     MALFORMED,
     .unprotected = "a1 3a00010001 83 47 {7:01} 01 50 {16:aa}"},
    {.name = "gate-tag-counter",
     .comment = "a negative counter",
     MALFORMED,
     .unprotected = "a1 3a00010001 83 48 {8:01} 20 50 {16:aa}"},
};

static const forged_case malformed_header[] = {
    {.name = "header-empty", .comment = "no header", MALFORMED, .header = ""},
    {.name = "header-trailing", .comment = "a byte behind the map", MALFORMED, .header = PLAIN " 00"},
    {.name = "header-indefinite",
     .comment = "a map of indefinite length",
     MALFORMED,
     .header = "bf 01 32 04 50 $k 3a00010000 84 01 $T $S 01 ff"},
    {.name = "header-unsorted",
     .comment = "kid before alg",
     MALFORMED,
     .header = "a3 04 50 $k 01 32 3a00010000 84 01 $T $S 01"},
    {.name = "header-duplicate",
     .comment = "alg twice",
     MALFORMED,
     .header = "a4 01 32 01 32 04 50 $k 3a00010000 84 01 $T $S 01"},
    {.name = "header-extra",
     .comment = "a content type (3)",
     MALFORMED,
     .header = "a4 01 32 03 00 04 50 $k 3a00010000 84 01 $T $S 01"},
    {.name = "header-4-of-3",
     .comment = "a count of four for three pairs",
     MALFORMED,
     .header = "a4 01 32 04 50 $k 3a00010000 84 01 $T $S 01"},
    {.name = "header-crit",
     .comment = "crit (2)",
     MALFORMED,
     .header = "a4 01 32 02 81 3a00010000 04 50 $k 3a00010000 84 01 $T $S 01"},
    {.name = "header-no-pep", .comment = "no pep", MALFORMED, .header = "a2 01 32 04 50 $k"},
    {.name = "header-no-kid", .comment = "no kid", MALFORMED, .header = "a2 01 32 3a00010000 84 01 $T $S 01"},
    {.name = "header-typ",
     .comment = "a record's typ instead of pep",
     MALFORMED,
     .header = "a3 01 32 04 50 $k 10 76 'application/pep-record'"},
    {.name = "alg-long",
     .comment = "-19 in two bytes",
     MALFORMED,
     .header = "a3 01 38 12 04 50 $k 3a00010000 84 01 $T $S 01"},
    {.name = "alg-text",
     .comment = "a text for a number",
     MALFORMED,
     .header = "a3 01 67 'Ed25519' 04 50 $k 3a00010000 84 01 $T $S 01"},
    {.name = "kid-15",
     .comment = "a kid of 15 bytes",
     MALFORMED,
     .header = "a3 01 32 04 4f {15:00} 3a00010000 84 01 $T $S 01"},
    {.name = "label-long",
     .comment = "-65537 in nine bytes",
     MALFORMED,
     .header = "a3 01 32 04 50 $k 3b0000000000010000 84 01 $T $S 01"},
    {.name = "pep-empty", .comment = "no version", MALFORMED, .header = HEADER("80")},
    {.name = "pep-3", .comment = "no flags", MALFORMED, .header = HEADER("83 01 $T $S")},
    {.name = "pep-6-of-5",
     .comment = "a count of six for five items",
     MALFORMED,
     .header = HEADER("86 01 $T $S 01 a1 02 1a 77359400")},
    {.name = "pep-6",
     .comment = "an item behind ext",
     MALFORMED,
     .header = HEADER("86 01 $T $S 01 a1 02 1a 77359400 00")},
    {.name = "version-long", .comment = "1 in two bytes", MALFORMED, .header = HEADER("84 18 01 $T $S 01")},
    {.name = "version-text", .comment = "a text", MALFORMED, .header = HEADER("84 61 '1' $T $S 01")},
    {.name = "topic-empty", .comment = "no bytes", MALFORMED, .header = HEADER("84 01 60 $S 01")},
    {.name = "topic-bytes", .comment = "a byte string", MALFORMED, .header = HEADER("84 01 48 'signed/t' $S 01")},
    {.name = "topic-not-utf-8", .comment = "a lone ff", MALFORMED, .header = HEADER("84 01 68 'signed/' ff $S 01")},
    {.name = "topic-surrogate", .comment = "U+D800", MALFORMED, .header = HEADER("84 01 63 eda080 $S 01")},
    {.name = "topic-overlong", .comment = "a slash in two bytes", MALFORMED, .header = HEADER("84 01 62 c0af $S 01")},
    {.name = "topic-long",
     .comment = "a length in two bytes",
     MALFORMED,
     .header = HEADER("84 01 78 08 'signed/t' $S 01")},
    {.name = "seq-0", .comment = "the first is 1", MALFORMED, .header = HEADER("84 01 $T 00 09")},
    {.name = "seq-2-53", .comment = "2^53", MALFORMED, .header = HEADER("84 01 $T 1b 0020000000000000 09")},
    {.name = "seq-negative", .comment = "-1", MALFORMED, .header = HEADER("84 01 $T 20 09")},
    {.name = "seq-long", .comment = "255 in three bytes", MALFORMED, .header = HEADER("84 01 $T 19 00ff 09")},
    {.name = "seq-float", .comment = "1.0", MALFORMED, .header = HEADER("84 01 $T f9 3c00 09")},
    {.name = "seq-bignum", .comment = "a bignum", MALFORMED, .header = HEADER("84 01 $T c2 41 01 09")},
    {.name = "flags-16", .comment = "a flag that is none", MALFORMED, .header = HEADER("84 01 $T $S 11")},
    {.name = "flags-bool", .comment = "true", MALFORMED, .header = HEADER("84 01 $T $S f5")},
    {.name = "clear-encrypted",
     .comment = "a clear is signed only",
     MALFORMED,
     .header = HEADER("84 01 $T $S 04"),
     .payload = ENCRYPT0(EPOCH_INNER) " " IV " $C"},
    {.name = "clear-with-content", .comment = "a clear is empty", MALFORMED, .header = HEADER("84 01 $T $S 05")},
    {.name = "clear-with-meta",
     .comment = "a clear has no meta",
     MALFORMED,
     .header = HEADER("84 01 $T $S 05"),
     .payload = "a1 01 00"},
    {.name = "clear-and-will",
     .comment = "a will cannot be turned into a clear",
     MALFORMED,
     .header = HEADER("84 01 $T $S 07"),
     .payload = "a0"},
};

static const forged_case malformed_ext[] = {
    {.name = "ext-empty", .comment = "present means not empty", MALFORMED, .header = WITH_EXT("a0")},
    {.name = "ext-array", .comment = "an array for a map", MALFORMED, .header = WITH_EXT("80")},
    {.name = "ext-unknown", .comment = "an unknown key from 0 up", MALFORMED, .header = WITH_EXT("a1 04 00")},
    {.name = "ext-unknown-6", .comment = "an unknown key from 0 up", MALFORMED, .header = WITH_EXT("a1 06 00")},
    {.name = "ext-text-key", .comment = "a text key", MALFORMED, .header = WITH_EXT("a1 61 'a' 00")},
    {.name = "ext-unsorted", .comment = "-1 before 2", MALFORMED, .header = WITH_EXT("a2 20 00 02 1a 77359400")},
    {.name = "ext-duplicate",
     .comment = "exp twice",
     MALFORMED,
     .header = WITH_EXT("a2 02 1a 77359400 02 1a 77359400")},
    {.name = "ext-key-long",
     .comment = "the key 2 in two bytes",
     MALFORMED,
     .header = WITH_EXT("a1 18 02 1a 77359400")},
    {.name = "ext-to-short", .comment = "a kid of 15 bytes", MALFORMED, .header = WITH_EXT("a1 01 4f {15:00}")},
    {.name = "ext-exp-0", .comment = "exp is 1 at least", MALFORMED, .header = WITH_EXT("a1 02 00")},
    {.name = "ext-exp-negative", .comment = "-1", MALFORMED, .header = WITH_EXT("a1 02 20")},
    {.name = "ext-exp-float", .comment = "2e9", MALFORMED, .header = WITH_EXT("a1 02 fb 41ddcd6500000000")},
    {.name = "ext-aud-text", .comment = "a text for a kid", MALFORMED, .header = WITH_EXT("a1 03 64 'gate'")},
    {.name = "ext-counter-text", .comment = "a text for a number", MALFORMED, .header = WITH_EXT("a1 05 61 '1'")},
    {.name = "ext-nested-7", .comment = "one level too many", MALFORMED, .header = WITH_EXT("a1 20 81 81 81 80")},
    {.name = "ext-nested-tags", .comment = "tags are levels", MALFORMED, .header = WITH_EXT("a1 20 c1 c1 c1 c1 00")},
    {.name = "ext-negative-float", .comment = "no floats anywhere", MALFORMED, .header = WITH_EXT("a1 20 f9 3c00")},
    {.name = "ext-negative-undefined", .comment = "no undefined", MALFORMED, .header = WITH_EXT("a1 20 f7")},
    {.name = "ext-negative-simple", .comment = "no other simple values", MALFORMED, .header = WITH_EXT("a1 20 f8 20")},
    {.name = "ext-negative-unsorted",
     .comment = "maps that are ignored are sorted, too",
     MALFORMED,
     .header = WITH_EXT("a1 20 a2 02 00 01 00")},
    {.name = "ext-negative-text",
     .comment = "texts that are ignored are UTF-8, too",
     MALFORMED,
     .header = WITH_EXT("a1 20 61 ff")},
    {.name = "facts-empty", .comment = "no facts", MALFORMED, .header = WITH_EXT("a1 00 a0")},
    {.name = "facts-33",
     .comment = "one more than there may be",
     MALFORMED,
     .header = WITH_EXT("a1 00 b8 21 60 00 6161 00 6162 00 6163 00 6164 00 6165 00 6166 00 6167 00 6168 00 6169 00 "
                        "616a 00 616b 00 616c 00 616d 00 616e 00 616f 00 6170 00 6171 00 6172 00 6173 00 6174 00 "
                        "6175 00 6176 00 6177 00 6178 00 6179 00 617a 00 617b 00 617c 00 617d 00 617e 00 617f 00 "
                        "626161 00")},
    {.name = "facts-513", .comment = "513 bytes", MALFORMED, .header = WITH_EXT("a1 00 a1 61 'a' 79 01fb {507:62}")},
    {.name = "facts-key-number", .comment = "a number as key", MALFORMED, .header = WITH_EXT("a1 00 a1 01 00")},
    {.name = "facts-value-bytes", .comment = "a byte string", MALFORMED, .header = WITH_EXT("a1 00 a1 61 'a' 41 00")},
    {.name = "facts-value-null", .comment = "null", MALFORMED, .header = WITH_EXT("a1 00 a1 61 'a' f6")},
    {.name = "facts-value-float", .comment = "1.5", MALFORMED, .header = WITH_EXT("a1 00 a1 61 'a' f9 3e00")},
    {.name = "facts-value-2-63",
     .comment = "above int64",
     MALFORMED,
     .header = WITH_EXT("a1 00 a1 61 'a' 1b 8000000000000000")},
    {.name = "facts-value-below",
     .comment = "below int64",
     MALFORMED,
     .header = WITH_EXT("a1 00 a1 61 'a' 3b 8000000000000000")},
    {.name = "facts-unsorted",
     .comment = "a longer key first",
     MALFORMED,
     .header = WITH_EXT("a1 00 a2 62 'aa' 00 61 'b' 00")},
    {.name = "facts-duplicate",
     .comment = "a key twice",
     MALFORMED,
     .header = WITH_EXT("a1 00 a2 61 'a' 00 61 'a' 01")},
};

static const forged_case malformed_payload[] = {
    {.name = "content-empty", .comment = "no meta", MALFORMED, .payload = ""},
    {.name = "content-no-map", .comment = "the application's bytes alone", MALFORMED, .payload = "'21.5'"},
    {.name = "meta-truncated", .comment = "a map of one that ends", MALFORMED, .payload = "a1 01"},
    {.name = "meta-unknown", .comment = "an unknown key from 0 up", MALFORMED, .payload = "a1 06 00 'x'"},
    {.name = "meta-text-key", .comment = "a text key", MALFORMED, .payload = "a1 61 'a' 00 'x'"},
    {.name = "meta-type-bytes", .comment = "a content type in bytes", MALFORMED, .payload = "a1 01 41 'a' 'x'"},
    {.name = "meta-type-not-utf-8", .comment = "a lone ff", MALFORMED, .payload = "a1 01 61 ff 'x'"},
    {.name = "meta-correlation-text", .comment = "a text for bytes", MALFORMED, .payload = "a1 02 61 'a' 'x'"},
    {.name = "meta-unsorted", .comment = "3 before 2", MALFORMED, .payload = "a2 03 61 'a' 02 41 'a' 'x'"},
    {.name = "meta-nested-7", .comment = "one level too many", MALFORMED, .payload = "a1 20 81 81 81 81 81 80 'x'"},
    {.name = "meta-indefinite", .comment = "an empty map of indefinite length", MALFORMED, .payload = "bf ff 'x'"},
    {.name = "signed-flag-missing", .comment = "content where an Encrypt0 belongs", MALFORMED, .header = SEALED},
    {.name = "encrypt0-untagged",
     .comment = "without tag 16",
     MALFORMED,
     .header = SEALED,
     .payload = "83 " EPOCH_INNER " " IV " $C"},
    {.name = "encrypt0-encrypt",
     .comment = "a COSE_Encrypt (96), which is reserved",
     MALFORMED,
     .header = SEALED,
     .payload = "d8 60 84 " EPOCH_INNER " " IV " $C 80"},
    {.name = "encrypt0-trailing",
     .comment = "a byte behind it",
     MALFORMED,
     .header = SEALED,
     .payload = ENCRYPT0(EPOCH_INNER) " " IV " $C 00"},
    {.name = "encrypt0-inner-extra",
     .comment = "a third inner header",
     MALFORMED,
     .header = SEALED,
     .payload = ENCRYPT0("58 18 a3 01 18 18 03 00 04 50 $e") " " IV " $C"},
    {.name = "encrypt0-inner-trailing",
     .comment = "a byte behind the inner header's map",
     MALFORMED,
     .header = SEALED,
     .payload = ENCRYPT0("57 a2 01 18 18 04 50 $e 00") " " IV " $C"},
    {.name = "encrypt0-inner-3-of-2",
     .comment = "a count of three for two pairs",
     MALFORMED,
     .header = SEALED,
     .payload = ENCRYPT0("56 a3 01 18 18 04 50 $e") " " IV " $C"},
    {.name = "encrypt0-iv-2-of-1",
     .comment = "a count of two for one pair",
     MALFORMED,
     .header = SEALED,
     .payload = ENCRYPT0(EPOCH_INNER) " a2 06 44 00000001 $C"},
    {.name = "encrypt0-iv",
     .comment = "a whole IV (5)",
     MALFORMED,
     .header = SEALED,
     .payload = ENCRYPT0(EPOCH_INNER) " a1 05 4c {12:00} $C"},
    {.name = "encrypt0-iv-5",
     .comment = "a Partial IV of five bytes",
     MALFORMED,
     .header = SEALED,
     .payload = ENCRYPT0(EPOCH_INNER) " a1 06 45 {5:00} $C"},
    {.name = "encrypt0-iv-extra",
     .comment = "a second unprotected header",
     MALFORMED,
     .header = SEALED,
     .payload = ENCRYPT0(EPOCH_INNER) " a2 04 50 $e 06 44 {4:00} $C"},
    {.name = "encrypt0-ciphertext-16",
     .comment = "a tag without content",
     MALFORMED,
     .header = SEALED,
     .payload = ENCRYPT0(EPOCH_INNER) " " IV " 50 {16:00}"},
    {.name = "encrypt0-ciphertext-nil",
     .comment = "a detached ciphertext",
     MALFORMED,
     .header = SEALED,
     .payload = ENCRYPT0(EPOCH_INNER) " " IV " f6"},
    {.name = "direct-without-to",
     .comment = "direct mode names its recipient in the signed header",
     MALFORMED,
     .header = SEALED,
     .payload = ENCRYPT0(DIRECT_INNER) " a1 23 58 20 {32:09} $C"},
    {.name = "direct-ek-31",
     .comment = "an ek of 31 bytes",
     MALFORMED,
     .header = TO_CONSOLE,
     .payload = ENCRYPT0(DIRECT_INNER) " a1 23 58 1f {31:09} $C"},
    {.name = "direct-partial-iv",
     .comment = "a Partial IV for an ek",
     MALFORMED,
     .header = TO_CONSOLE,
     .payload = ENCRYPT0(DIRECT_INNER) " " IV " $C"},
};

#define BAD_SIGNATURE .expect = "bad-signature"

static const forged_case wrongly_signed[] = {
    {.name = "bad-signature-zeros", .comment = "64 zeros", BAD_SIGNATURE, .whole = "d2 84 $P $U $Y 58 40 {64:00}"},
    {.name = "bad-signature-other-key", .comment = "signed by another device", BAD_SIGNATURE, .signed_by = "sensor-2"},
    {.name = "bad-signature-s-plus-l",
     .comment = "S + L: RFC 8032, 5.1.7 demands S below L",
     BAD_SIGNATURE,
     .whole = "d2 84 $P $U $Y $L"},
    {.name = "bad-signature-payload",
     .comment = "the payload is another than the signed one",
     BAD_SIGNATURE,
     .whole = "d2 84 $P $U 42 a0 'y' $Z"},
};

static const forged_case misplaced[] = {
    {.name = "misplaced-flag-dollar",
     .comment = "a will on a topic that begins with $",
     .expect = "misplaced-flag",
     .header = HEADER("84 01 67 '$site/a' $S 03"),
     .topic = "$site/a",
     .door = "will",
     .gate_alone = true},
};

#define CANNOT_OPEN .expect = "cannot-open"

static const forged_case sealed_wrongly[] = {
    {.name = "cannot-open-content",
     .comment = "decrypts, but begins with no meta",
     CANNOT_OPEN,
     .header = SEALED,
     .payload = ENCRYPT0(EPOCH_INNER) " " IV " $C",
     .content = "'21.5'"},
    {.name = "cannot-open-meta",
     .comment = "decrypts, but meta has an unknown key from 0 up",
     CANNOT_OPEN,
     .header = SEALED,
     .payload = ENCRYPT0(EPOCH_INNER) " " IV " $C",
     .content = "a1 06 00 'x'"},
    {.name = "cannot-open-iv",
     .comment = "another Partial IV than it was encrypted with",
     CANNOT_OPEN,
     .header = SEALED,
     .payload = ENCRYPT0(EPOCH_INNER) " a1 06 44 00000002 $C"},
    {.name = "cannot-open-small-order",
     .comment = "an ek of small order",
     CANNOT_OPEN,
     .header = TO_CONSOLE,
     .payload = ENCRYPT0(DIRECT_INNER) " a1 23 58 20 {32:00} $C"},
};

/* ---- putting one together ---- */

static pep_view kid_view(const uint8_t *kid)
{
    return (pep_view){kid, PEP_KID_BYTES};
}

static void fill(bytes *out, const char *text, const char *usual, slots *s, char letter)
{
    template_fill(out, text == NULL ? usual : text, s);
    s->slot[(unsigned char)letter] = bytes_view(out);
}

/* The content of $C, encrypted with the epoch key "all" under the Partial IV 00000001. */
static void add_ciphertext(bytes *out, const char *content_text, uint64_t seq, pep_view header, slots *s)
{
    static const uint8_t iv[PARTIAL_IV_BYTES] = {0, 0, 0, 1};
    bytes inner = {.n = 0};
    bytes aad = {.n = 0};
    bytes content = {.n = 0};
    uint8_t sealed[256];
    uint8_t nonce[PEP_NONCE_BYTES];
    template_fill(&inner, "a2 01 18 18 04 50 $e", s);
    template_fill(&content, content_text == NULL ? USUAL_PAYLOAD : content_text, s);
    append_enc_structure(&aad, bytes_view(&inner), header);
    epoch_nonce(nonce, seq, iv);
    pep_aead_seal(sealed, content.p, content.n, bytes_view(&aad), nonce, epoch_of("all")->epoch.key);
    append_bstr(out, (pep_view){sealed, content.n + PEP_TAG_BYTES});
    s->slot['C'] = bytes_view(out);
}

/* Adds the group's order to the second half: the equation still holds, the encoding is not the one that is allowed. */
static void add_order(uint8_t signature[PEP_SIGNATURE_BYTES])
{
    static const uint8_t order[32] = {0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58,       0xd6,
                                      0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, [31] = 0x10};
    unsigned carry = 0;
    for (size_t i = 0; i < sizeof order; i++) {
        carry += (unsigned)signature[32 + i] + order[i];
        signature[32 + i] = (uint8_t)carry;
        carry >>= 8;
    }
}

static void forge(bytes *out, const forged_case *c)
{
    bytes part[8] = {{.n = 0}};
    uint8_t signature[PEP_SIGNATURE_BYTES];
    slots s = {.slot = {['k'] = kid_view(actor_of("sensor-1")->device.sign_kid),
                        ['c'] = kid_view(actor_of("console")->device.sign_kid),
                        ['a'] = kid_view(actor_of("console")->device.agree_kid),
                        ['e'] = kid_view(epoch_of("all")->epoch.epoch_id),
                        ['z'] = {signature, sizeof signature}}};
    uint64_t seq = vector_next_seq();
    uint8_t seq_item[9] = {0x1b};
    for (unsigned i = 0; i < 8; i++)
        seq_item[1 + i] = (uint8_t)(seq >> 8 * (7 - i));
    s.slot['S'] = (pep_view){seq_item, sizeof seq_item};
    fill(&part[0], NULL, "68 'signed/t'", &s, 'T');
    fill(&part[1], c->header, PLAIN, &s, 'H');
    add_ciphertext(&part[2], c->content, seq, s.slot['H'], &s);
    fill(&part[3], c->payload, USUAL_PAYLOAD, &s, 'Y');
    bytes to_sign = {.n = 0};
    append_sig_structure(&to_sign, s.slot['H'], s.slot['Y']);
    const char *signer = c->signed_by == NULL ? "sensor-1" : c->signed_by;
    crypto_sign_detached(signature, NULL, to_sign.p, to_sign.n, actor_of(signer)->device.sign_secret);
    append_bstr(&part[4], s.slot['H']);
    append_bstr(&part[5], s.slot['Y']);
    append_bstr(&part[6], s.slot['z']);
    add_order(signature);
    append_bstr(&part[7], s.slot['z']);
    s.slot['z'] = (pep_view){part[6].p + 2, PEP_SIGNATURE_BYTES};
    s.slot['P'] = bytes_view(&part[4]);
    s.slot['Y'] = bytes_view(&part[5]);
    s.slot['Z'] = bytes_view(&part[6]);
    s.slot['L'] = bytes_view(&part[7]);
    bytes unprotected = {.n = 0};
    fill(&unprotected, c->unprotected, "a0", &s, 'U');
    template_fill(out, c->whole == NULL ? USUAL_WHOLE : c->whole, &s);
}

static void emit_case(json *j, const forged_case *c)
{
    static const uint8_t plain[] = {'x'};
    static const pep_meta no_meta;
    bool opens = c->expect != NULL && strcmp(c->expect, "cannot-open") == 0; /* a question to receivers alone */
    bool observed = c->topic != NULL && strncmp(c->topic, "watched/", 8) == 0;
    vector v = {
        .name = c->name,
        .comment = c->comment,
        .topic = c->topic == NULL ? "signed/t" : c->topic,
        .plain = {plain, sizeof plain},
        .meta = &no_meta,
        .receiver = {.skip = c->gate_alone, .expect = c->expect},
        .gate = {.expect = opens ? NULL : c->expect, .action = observed ? "pass" : NULL, .door = c->door},
    };
    forge(&v.envelope, c);
    vector_emit(j, &v);
}

void forged_emit(json *j)
{
    static const struct {
        const forged_case *cases;
        size_t count;
    } tables[] = {
        {valid, COUNT(valid)},
        {strangers, COUNT(strangers)},
        {malformed_whole, COUNT(malformed_whole)},
        {malformed_header, COUNT(malformed_header)},
        {malformed_ext, COUNT(malformed_ext)},
        {malformed_payload, COUNT(malformed_payload)},
        {wrongly_signed, COUNT(wrongly_signed)},
        {misplaced, COUNT(misplaced)},
        {sealed_wrongly, COUNT(sealed_wrongly)},
    };
    for (size_t t = 0; t < COUNT(tables); t++)
        for (size_t i = 0; i < tables[t].count; i++)
            emit_case(j, &tables[t].cases[i]);
}
