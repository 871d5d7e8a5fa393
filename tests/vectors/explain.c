/*
 * Prints the examples of docs/PROTOCOL.md: `explain envelopes.json directory.json`. The bytes are the vectors'; the
 * words are here, one for each CBOR item in the order in which it stands.
 */
#include <cjson/cJSON.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "envelope/cbor.h"

#define WORDS_AT 56
#define LINE     16
#define HEX_MAX  2048

static void must(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "explain: %s\n", what);
    exit(1);
}

/* A word that begins with '>' enters a byte string as CBOR; with '<' as one item and bytes of the application. */
typedef struct {
    const char *const *next;
    pep_reader r;
} walk;

static void print_hex(int *column, const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        *column += printf("%02x", p[i]);
}

static void print_line(int depth, const uint8_t *p, size_t n, const char *words)
{
    int column = printf("%*s", 2 * depth, "");
    print_hex(&column, p, n);
    if (words[0] == 0)
        printf("\n");
    else
        printf("%*s%s\n", WORDS_AT - column, "", words);
}

static void print_string(int depth, const uint8_t *head, size_t head_n, pep_view content, const char *words)
{
    int column = printf("%*s", 2 * depth, "");
    bool one_line = content.n <= LINE;
    print_hex(&column, head, head_n);
    if (one_line && content.n > 0) {
        column += printf(" ");
        print_hex(&column, content.p, content.n);
    }
    printf("%*s%s\n", WORDS_AT - column, "", words);
    for (size_t i = 0; !one_line && i < content.n; i += LINE)
        print_line(depth + 1, content.p + i, content.n - i < LINE ? content.n - i : LINE, "");
}

static void describe(char *out, size_t out_n, const char *words, const pep_item *item)
{
    long long value = item->type == ITEM_NINT ? -1 - (long long)item->value : (long long)item->value;
    switch (item->type) {
    case ITEM_UINT:
    case ITEM_NINT:
    case ITEM_TAG:
        snprintf(out, out_n, "%s: %lld", words, value);
        break;
    case ITEM_TEXT:
        snprintf(out, out_n, "%s: \"%.*s\"", words, (int)item->string.n, (const char *)item->string.p);
        break;
    case ITEM_BYTES:
        snprintf(out, out_n, "%s, %lld byte%s", words, value, value == 1 ? "" : "s");
        break;
    default:
        snprintf(out, out_n, "%s, %lld %s%s", words, value, item->type == ITEM_MAP ? "pair" : "item",
                 value == 1 ? "" : "s");
    }
}

static const char *take(walk *w)
{
    must(*w->next != NULL, "fewer words than items");
    return *w->next++;
}

static void print_item(walk *w, int depth);

static void print_inside(walk *w, int depth, pep_view content, bool application_follows)
{
    pep_reader outside = w->r;
    w->r = pep_reader_of(content);
    print_item(w, depth);
    if (application_follows)
        print_line(depth, w->r.p, (size_t)(w->r.end - w->r.p), take(w));
    else
        must(pep_read_end(&w->r), "more than one item in a byte string");
    w->r = outside;
}

static size_t items_inside(const pep_item *item)
{
    if (item->type == ITEM_TAG)
        return 1;
    if (item->type == ITEM_ARRAY)
        return (size_t)item->value;
    return item->type == ITEM_MAP ? 2 * (size_t)item->value : 0;
}

static void print_item(walk *w, int depth)
{
    char words[160];
    const uint8_t *start = w->r.p;
    pep_item item;
    must(pep_read(&w->r, &item), "not CBOR");
    const char *word = take(w);
    bool enter = *word == '>' || *word == '<';
    describe(words, sizeof words, word + enter, &item);
    size_t head_n = (size_t)(w->r.p - start) - item.string.n;
    if (enter || item.string.p == NULL)
        print_line(depth, start, head_n, words);
    else
        print_string(depth, start, head_n, item.string, words);
    if (enter)
        print_inside(w, depth + 1, item.string, *word == '<');
    bool map = item.type == ITEM_MAP;
    for (size_t i = items_inside(&item), at = 0; at < i; at++)
        print_item(w, depth + 1 + (map && at % 2 == 1)); /* values stand further in than their keys */
}

static void explain(const uint8_t *p, size_t n, const char *const *words, bool application_follows)
{
    walk w = {.next = words};
    printf("```\n");
    print_inside(&w, 0, (pep_view){p, n}, application_follows);
    printf("```\n\n");
    must(*w.next == NULL, "more words than items");
}

/* ---- the words ---- */

#define SIGN1     "COSE_Sign1, tag", "COSE_Sign1", ">protected: the signed header"
#define HEADER    "header", "alg", "Ed25519", "kid", "the signer's kid, sensor-1's", "pep"
#define PEP       "version", "topic", "seq, microseconds since 1970"
#define SIGNATURE "signature: Ed25519 over the Sig_structure"
#define ENCRYPT0  ">payload", "COSE_Encrypt0, tag", "COSE_Encrypt0", ">protected: the inner header", "header", "alg"

static const char *const signed_words[] = {SIGN1,
                                           HEADER,
                                           "pep, without ext",
                                           PEP,
                                           "flags, signed only",
                                           "unprotected: empty",
                                           "<payload: content",
                                           "meta: empty",
                                           "the application's bytes: \"21.5\"",
                                           SIGNATURE,
                                           NULL};
static const char *const direct_words[] = {SIGN1,
                                           HEADER,
                                           "pep, with ext",
                                           PEP,
                                           "flags, none",
                                           "ext",
                                           "to",
                                           "the recipient's signing kid, console's",
                                           "unprotected: empty",
                                           ENCRYPT0,
                                           "HPKE-4",
                                           "kid",
                                           "kid of console's agreement key",
                                           "unprotected",
                                           "ek",
                                           "the sender's ephemeral public key",
                                           "ciphertext, Poly1305 tag at its end",
                                           SIGNATURE,
                                           NULL};
static const char *const epoch_words[] = {SIGN1,
                                          HEADER,
                                          "pep, without ext",
                                          PEP,
                                          "flags, none",
                                          "unprotected: empty",
                                          ENCRYPT0,
                                          "ChaCha20/Poly1305",
                                          "kid",
                                          "the epoch id",
                                          "unprotected",
                                          "Partial IV",
                                          "random",
                                          "ciphertext, Poly1305 tag at its end",
                                          SIGNATURE,
                                          NULL};
static const char *const content_words[] = {"meta: empty", "the application's bytes: \"21.5\"", NULL};
static const char *const sig_words[] = {
    "Sig_structure",       "context", "body_protected: the protected header's content",
    "external_aad: empty", "payload", NULL};
static const char *const enc_words[] = {"Enc_structure", "context", "protected: the inner header",
                                        "external_aad: the outer protected header's content", NULL};
static const char *const id_words[] = {"input of the hash", "purpose", "the epoch key",
                                       "its owner's kid",   "scope",   NULL};
static const char *const key_words[] = {"COSE_Key", "kty", "OKP", "crv", "Ed25519", "x", "the public key", NULL};

/* What stands in front of every signed object's payload. */
#define TYPED(who) SIGN1, "header", "alg", "Ed25519", "kid", who, "typ", "what this is", "unprotected: empty"

#define RECORD(version_words)                                                                                          \
    TYPED("the device's signing kid"), ">payload", "record", "id", "the device", "version", version_words, "issued",   \
        "seconds since 1970", "not-after", "seconds since 1970", "signing key", "Ed25519 public key",                  \
        "agreement keys", "list", "agreement key", "kid", "its kid", "alg", "HPKE-4", "key", "X25519 public key",      \
        "not-after", "seconds since 1970", "envelope versions", "list", "version", "algorithms", "list",               \
        "ChaCha20/Poly1305", "HPKE-4"

static const char *const record_words[] = {RECORD("the first"), SIGNATURE, NULL};
static const char *const second_record_words[] = {RECORD("the second"), "previous",
                                                  "SHA-256 of the whole first statement", SIGNATURE, NULL};
static const char *const rotation_words[] = {TYPED("the old signing kid"),
                                             ">payload",
                                             "rotation",
                                             "record",
                                             "the next record: below",
                                             "old kid",
                                             "the signing key that ends",
                                             "cutoff",
                                             "its highest seq",
                                             SIGNATURE,
                                             NULL};
static const char *const revocation_words[] = {TYPED("who revokes: here the device itself"),
                                               ">payload",
                                               "revocation",
                                               "id",
                                               "the device",
                                               "version",
                                               "the head's and 1",
                                               "issued",
                                               "seconds since 1970",
                                               "kid",
                                               "the signing key that ends",
                                               "cutoff",
                                               "its highest seq",
                                               "previous",
                                               "SHA-256 of the whole statement before",
                                               SIGNATURE,
                                               NULL};
static const char *const certificate_words[] = {TYPED("the authority's kid"),
                                                ">payload",
                                                "certificate",
                                                "id",
                                                "the device",
                                                "kid",
                                                "its signing key",
                                                "issued",
                                                "seconds since 1970",
                                                "not-after",
                                                "seconds since 1970",
                                                "groups",
                                                "list",
                                                "a group",
                                                "a group",
                                                "a group",
                                                SIGNATURE,
                                                NULL};
static const char *const proof_words[] = {
    TYPED("kid of the token's key"), ">payload", "proof", "record", "SHA-256 of the record", "key",
    "the token's public key",        SIGNATURE,  NULL};

/* ---- the file ---- */

static const cJSON *member(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    must(item != NULL, key);
    return item;
}

static const cJSON *named(const cJSON *list, const char *key, const char *name)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, list) if (strcmp(cJSON_GetStringValue(member(item, key)), name) == 0) return item;
    must(false, name);
    return NULL;
}

static size_t hex_of(uint8_t out[HEX_MAX], const cJSON *object, const char *key)
{
    const char *text = cJSON_GetStringValue(member(object, key));
    size_t n;
    must(sodium_hex2bin(out, HEX_MAX, text, strlen(text), NULL, &n, NULL) == 0, key);
    return n;
}

static void explain_hex(const cJSON *object, const char *key, const char *const *words)
{
    uint8_t p[HEX_MAX];
    size_t n = hex_of(p, object, key);
    explain(p, n, words, false);
}

static void print_value(const char *words, const cJSON *object, const char *key)
{
    printf("%s `%s`\n\n", words, cJSON_GetStringValue(member(object, key)));
}

static void print_content(const cJSON *vector)
{
    uint8_t content[1 + HEX_MAX] = {0xa0};
    size_t n = hex_of(content + 1, member(vector, "receiver"), "plain") + 1;
    printf("The content that the ciphertext holds:\n\n");
    explain(content, n, content_words, true);
}

static void print_kid(const cJSON *device)
{
    uint8_t key[40] = {0xa3, 0x01, 0x01, 0x20, 0x06, 0x21, 0x58, 0x20};
    uint8_t x[HEX_MAX];
    must(hex_of(x, device, "sign_public") == 32, "a key is not 32 bytes");
    memcpy(key + 8, x, 32);
    printf("### A kid\n\nThe signing kid of `sensor-1`: the first 16 bytes of SHA-256 over\n\n");
    explain(key, sizeof key, key_words, false);
    print_value("kid:", device, "sign_kid");
}

static void print_signed(const cJSON *vector)
{
    printf("### Signed only\n\nVector `signed-only`.\n\n");
    explain_hex(vector, "envelope", signed_words);
    printf("What is signed, and never sent:\n\n");
    explain_hex(vector, "sig_structure", sig_words);
}

static void print_direct(const cJSON *vector)
{
    printf("### Direct\n\nVector `direct`, from `sensor-1` to `console`.\n\n");
    explain_hex(vector, "envelope", direct_words);
    print_value("The ephemeral secret that `ek` belongs to:", vector, "random");
    printf("The aad of HPKE, never sent:\n\n");
    explain_hex(vector, "enc_structure", enc_words);
    print_content(vector);
}

static void print_epoch(const cJSON *keys, const cJSON *vector)
{
    const cJSON *epoch = named(keys, "name", "one-topic");
    printf("### Epoch\n\nThe id of the epoch key `one-topic`: the first 16 bytes of SHA-256 over\n\n");
    explain_hex(epoch, "id_input", id_words);
    print_value("Epoch id:", epoch, "id");
    printf("Vector `epoch`, encrypted with that key:\n\n");
    explain_hex(vector, "envelope", epoch_words);
    print_value("Nonce, seq and Partial IV:", vector, "nonce");
    printf("The aad of ChaCha20-Poly1305, never sent:\n\n");
    explain_hex(vector, "enc_structure", enc_words);
    print_content(vector);
}

/* The last statement of a chain. */
static size_t last_of(uint8_t out[HEX_MAX], const cJSON *chain)
{
    const cJSON *statements = member(chain, "statements");
    const char *hex = cJSON_GetStringValue(cJSON_GetArrayItem(statements, cJSON_GetArraySize(statements) - 1));
    size_t n = 0;
    must(hex != NULL && sodium_hex2bin(out, HEX_MAX, hex, strlen(hex), NULL, &n, NULL) == 0, "not hex");
    return n;
}

/* The record lies behind the heads of tag, array, header, map, payload, map and key. */
static pep_view record_in(const uint8_t *rotation, size_t n)
{
    pep_reader r = pep_reader_of((pep_view){rotation, n});
    uint64_t count;
    pep_view payload = {0};
    pep_view record = {0};
    pep_map map;
    bool outside = pep_read_tag(&r, 18) && pep_read_array(&r, &count) && pep_read_skip(&r, 1) && pep_read_skip(&r, 1) &&
                   pep_read_bytes(&r, &payload);
    must(outside, "not a COSE_Sign1");
    r = pep_reader_of(payload);
    must(pep_map_begin(&r, &map) && pep_map_expect(&r, &map, 1) && pep_read_bytes(&r, &record), "not a rotation");
    return record;
}

static void print_statements(const cJSON *chains)
{
    uint8_t p[HEX_MAX];
    size_t n = last_of(p, named(chains, "name", "rotation"));
    printf(
        "### A rotation\n\nVector `rotation` of `tests/vectors/directory.json`: `pump-7` gets a new signing key.\n\n");
    explain(p, n, rotation_words, false);
    printf("The record in it:\n\n");
    explain(record_in(p, n).p, record_in(p, n).n, second_record_words, false);
    n = last_of(p, named(chains, "name", "revocation"));
    printf("### A revocation\n\nVector `revocation`, in the place of that rotation.\n\n");
    explain(p, n, revocation_words, false);
}

static void print_directory(const cJSON *file)
{
    print_statements(member(file, "chains"));
    printf("### A certificate\n\nVector `certificate-groups`.\n\n");
    explain_hex(named(member(file, "certificates"), "name", "certificate-groups"), "certificate", certificate_words);
    const cJSON *proof = named(member(file, "proofs"), "name", "proof");
    printf("### A proof\n\nVector `proof`.\n\n");
    print_value("The token:", proof, "token");
    explain_hex(proof, "proof", proof_words);
}

static cJSON *read_json(const char *path)
{
    static char text[4 * 1024 * 1024];
    FILE *f = fopen(path, "rb");
    must(f != NULL, path);
    size_t n = fread(text, 1, sizeof text - 1, f);
    must(n < sizeof text - 1, "the file is too large");
    text[n] = 0;
    fclose(f);
    cJSON *file = cJSON_Parse(text);
    must(file != NULL, "not JSON");
    return file;
}

int main(int argc, char **argv)
{
    must(argc == 3, "wants two arguments: envelopes.json and directory.json");
    cJSON *file = read_json(argv[1]);
    cJSON *directory = read_json(argv[2]);
    const cJSON *vectors = member(file, "envelopes");
    const cJSON *device = named(member(file, "devices"), "id", "sensor-1");
    print_kid(device);
    print_signed(named(vectors, "name", "signed-only"));
    print_direct(named(vectors, "name", "direct"));
    print_epoch(member(file, "epochs"), named(vectors, "name", "epoch"));
    printf("### A record\n\nThe record of `sensor-1`.\n\n");
    explain_hex(device, "record", record_words);
    print_directory(directory);
    cJSON_Delete(directory);
    cJSON_Delete(file);
    return 0;
}
