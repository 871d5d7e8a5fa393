/* Writes the targets' first inputs, from our own vectors and from texts: `fuzz_seeds FOLDER`. */
#include <cjson/cJSON.h>
#include <sodium.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define BYTES_MAX 65536

static const char *root;
static unsigned written;

static void must(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "fuzz_seeds: %s\n", what);
    exit(1);
}

static void write_seed(const char *target, const void *bytes, size_t n)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", root, target);
    mkdir(path, 0777);
    snprintf(path, sizeof path, "%s/%s/seed-%03u", root, target, written++);
    FILE *f = fopen(path, "wb");
    must(f != NULL && fwrite(bytes, 1, n, f) == n && fclose(f) == 0, path);
}

/* ---- reading the vectors ---- */

static cJSON *read_vectors(const char *path)
{
    FILE *f = fopen(path, "rb");
    must(f != NULL && fseek(f, 0, SEEK_END) == 0, path);
    size_t n = (size_t)ftell(f);
    char *text = calloc(n + 1, 1);
    rewind(f);
    must(text != NULL && fread(text, 1, n, f) == n && fclose(f) == 0, path);
    cJSON *all = cJSON_Parse(text);
    free(text);
    must(all != NULL, path);
    return all;
}

static const char *text_of(const cJSON *object, const char *key)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, key));
    must(text != NULL, key);
    return text;
}

static size_t bytes_of(uint8_t *out, const cJSON *item)
{
    size_t n = 0;
    const char *hex = cJSON_GetStringValue(item);
    must(hex != NULL && sodium_hex2bin(out, BYTES_MAX, hex, strlen(hex), NULL, &n, NULL) == 0, "not hex");
    return n;
}

static size_t hex_of(uint8_t *out, const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    must(item != NULL, key);
    return bytes_of(out, item);
}

/* ---- gate: the steps that tests/fuzz/gate.c describes ---- */

typedef struct {
    uint8_t p[2 * BYTES_MAX];
    size_t n;
} sequence;

static void add(sequence *s, const void *p, size_t n)
{
    must(n <= sizeof s->p - s->n, "a sequence is too long");
    memcpy(s->p + s->n, p, n);
    s->n += n;
}

/* The `who` of a user name, in the order of the target's table. */
static uint8_t who_of(const char *client_id, const char *username)
{
    if (strcmp(username, "sensor-1") == 0)
        return strcmp(client_id, "client-1") != 0;
    return strcmp(username, "sensor-2") == 0 ? 2 : 4;
}

static void add_step(sequence *s, uint8_t door, const cJSON *gate, const char *client_id, const uint8_t *envelope,
                     size_t n)
{
    bool bridge = strcmp(text_of(gate, "door"), "bridge") == 0;
    bool retain = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(gate, "retain"));
    double qos = cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(gate, "qos"));
    const char *topic = text_of(gate, "topic");
    size_t topic_n = strlen(topic);
    if (n > 0 && memmem(envelope, n, topic, topic_n) != NULL)
        topic_n = 0; /* the envelope's own */
    const uint8_t head[] = {door,
                            (uint8_t)((uint8_t)qos | (retain ? 4 : 0) | (bridge ? 8 : 0)),
                            who_of(client_id, text_of(gate, "username")),
                            0,
                            topic_n > 255 ? 0 : (uint8_t)topic_n,
                            (uint8_t)(n >> 8),
                            (uint8_t)n};
    add(s, head, sizeof head);
    add(s, topic, head[4]);
    add(s, envelope, n);
}

static void gate_seed(const cJSON *gate, const uint8_t *envelope, size_t n)
{
    static const uint8_t then_at_message[] = {2, 0};
    static sequence s;
    const char *door = text_of(gate, "door");
    const cJSON *seen = cJSON_GetObjectItemCaseSensitive(gate, "seen");
    uint8_t first = strcmp(door, "bridge") == 0 ? 1 : strcmp(door, "stored") == 0 ? 3 : 0;
    s.n = 0;
    add(&s, strcmp(text_of(gate, "policy"), "bound") == 0 ? "\1" : "\0", 1);
    if (seen != NULL) {
        add_step(&s, first, gate, text_of(seen, "client_id"), envelope, n);
        add(&s, then_at_message, sizeof then_at_message);
    }
    add_step(&s, first, gate, text_of(gate, "client_id"), envelope, n);
    if (strcmp(door, "publish") == 0)
        add(&s, then_at_message, sizeof then_at_message);
    write_seed("gate", s.p, s.n);
}

static void envelope_seeds(const cJSON *all)
{
    static uint8_t bytes[BYTES_MAX];
    const cJSON *vector;
    cJSON_ArrayForEach(vector, cJSON_GetObjectItemCaseSensitive(all, "envelopes"))
    {
        size_t n = hex_of(bytes, vector, "envelope");
        const cJSON *gate = cJSON_GetObjectItemCaseSensitive(vector, "gate");
        write_seed("envelope", bytes, n);
        write_seed("open", bytes, n);
        if (gate != NULL)
            gate_seed(gate, bytes, n);
    }
}

/* ---- records: a byte that says what follows ---- */

static void record_seed(uint8_t kind, const void *bytes, size_t n)
{
    static uint8_t all[BYTES_MAX + 1];
    all[0] = kind;
    memcpy(all + 1, bytes, n);
    write_seed("records", all, n + 1);
}

static void pub_seed(const uint8_t *record, size_t n)
{
    char base64[4096];
    char text[8192];
    sodium_bin2base64(base64, sizeof base64, record, n, sodium_base64_VARIANT_ORIGINAL);
    int text_n = snprintf(text, sizeof text, "-----BEGIN PEP RECORD-----\n%s\n-----END PEP RECORD-----\n", base64);
    record_seed(1, text, (size_t)text_n);
}

/* {0: 1, 1: id, 2: seed, 3: secret}, and {0: 1, 1: key, 2: owner, 3: scope}; the secrets are of no use elsewhere. */
static void secret_seeds(void)
{
    static const char key[] = "\xa4\x00\x01\x01\x68sensor-1\x02\x58\x20"
                              "0123456789abcdef0123456789abcdef\x03\x58\x20"
                              "0123456789abcdef0123456789abcdef";
    static const char epoch[] = "\xa4\x00\x01\x01\x58\x20"
                                "0123456789abcdef0123456789abcdef\x02\x50"
                                "0123456789abcdef\x03\x69sealed/+/#";
    static const char armored[] = "-----BEGIN PEP DEVICE KEY-----\nAAAA\n-----END PEP DEVICE KEY-----\n";
    static const char armored_epoch[] = "-----BEGIN PEP EPOCH KEY-----\nAAAA\n-----END PEP EPOCH KEY-----\n";
    record_seed(4, key, sizeof key - 1);
    record_seed(5, epoch, sizeof epoch - 1);
    record_seed(2, armored, sizeof armored - 1);
    record_seed(3, armored_epoch, sizeof armored_epoch - 1);
}

/* The same key file with a former agreement key: {1: signing kid, 2: kid, 3: secret, 4: until}. */
static void former_key_seed(void)
{
    static const uint8_t secret_head[] = {0x03, 0x58, 0x20};
    static const uint8_t until[] = {0x04, 0x18, 0x64};
    uint8_t secret[32];
    uint8_t all[512] = "\xa5\x00\x01\x01\x68sensor-1\x02\x58\x20"
                       "0123456789abcdef0123456789abcdef\x03\x58\x20"
                       "0123456789abcdef0123456789abcdef\x04\x81\xa4\x01\x50"
                       "0123456789abcdef\x02\x50";
    uint8_t key[8 + 32] = {0xa3, 0x01, 0x01, 0x20, 4, 0x21, 0x58, 32}; /* what is hashed to get its kid */
    uint8_t hash[crypto_hash_sha256_BYTES];
    size_t n = 13 + 3 + 32 + 3 + 32 + 5 + 16 + 2;
    memset(secret, '0', sizeof secret);
    crypto_scalarmult_base(key + 8, secret);
    crypto_hash_sha256(hash, key, sizeof key);
    memcpy(all + n, hash, 16);
    memcpy(all + n + 16, secret_head, sizeof secret_head);
    memcpy(all + n + 19, secret, sizeof secret);
    memcpy(all + n + 51, until, sizeof until);
    record_seed(4, all, n + 54);
}

static void record_seeds(const cJSON *all)
{
    static uint8_t bytes[BYTES_MAX];
    const cJSON *item;
    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(all, "records"))
    {
        size_t n = hex_of(bytes, item, "record");
        record_seed(0, bytes, n);
        if (n < 2048)
            pub_seed(bytes, n);
    }
    secret_seeds();
    former_key_seed();
}

/* ---- what the directory is made of: for the same target ---- */

/* An entry around a statement, with a certificate where there is one. */
static void entry_seed(const uint8_t *statement, size_t n, const uint8_t *certificate, size_t certificate_n)
{
    uint8_t all[8192] = {0x83, 0x01, 0x59, (uint8_t)(n >> 8), (uint8_t)n};
    size_t at = 5;
    must(n > 255 && n < 4000 && certificate_n < 4000, "a statement of another size");
    memcpy(all + at, statement, n);
    at += n;
    if (certificate_n == 0) {
        all[at++] = 0xf6;
    } else {
        const uint8_t head[] = {certificate_n > 255 ? 0x59 : 0x58, (uint8_t)(certificate_n >> 8),
                                (uint8_t)certificate_n};
        all[at++] = head[0];
        if (certificate_n > 255)
            all[at++] = head[1];
        all[at++] = head[2];
        memcpy(all + at, certificate, certificate_n);
        at += certificate_n;
    }
    record_seed(8, all, at);
}

static void member_seeds(const cJSON *all, const char *list, const char *member, uint8_t kind)
{
    static uint8_t bytes[BYTES_MAX];
    const cJSON *item;
    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(all, list))
    {
        record_seed(kind, bytes, hex_of(bytes, item, member));
    }
}

static void directory_seeds(const cJSON *all)
{
    static uint8_t bytes[BYTES_MAX];
    uint8_t certificate[BYTES_MAX];
    const cJSON *item;
    size_t certificate_n =
        hex_of(certificate, cJSON_GetObjectItemCaseSensitive(all, "certificates")->child, "certificate");
    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(all, "chains"))
    {
        const cJSON *statements = cJSON_GetObjectItemCaseSensitive(item, "statements");
        size_t n = bytes_of(bytes, cJSON_GetArrayItem(statements, cJSON_GetArraySize(statements) - 1));
        record_seed(6, bytes, n);
        if (n < 256 || strcmp(text_of(item, "expect"), "ok") != 0)
            continue;
        pub_seed(bytes, n);
        entry_seed(bytes, n, certificate, 0);
        entry_seed(bytes, n, certificate, certificate_n);
    }
    member_seeds(all, "certificates", "certificate", 7);
    member_seeds(all, "entries", "entry", 8);
    member_seeds(all, "proofs", "proof", 9);
}

/* ---- texts ---- */

#define RULE "{ filter = \"sensors/+/telemetry\"; signers = [ \"%1\" ]; }"

static const char *const policies[] = {
    "topics = ( " RULE " );\n",
    "enroll = \"authority\"; # closed | authority\n"
    "authority = [ \"3q2-7wAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\" ];\n"
    "bind = \"username\"; relays = [ \"bridge-b\" ];\n"
    "groups = { ops = [ \"console\", \"scada-1\" ]; };\nadmins = [ \"@ops\" ];\nmax_skew = \"60s\";\n"
    "topics = (\n  { filter = \"sensors/+/telemetry\"; mode = \"enforce\"; payload = \"encrypted\";\n"
    "    signers = [ \"%1\", \"@ops\" ]; max_age = \"30s\"; will_max_age = \"1d\"; max_size = \"64k\";\n"
    "    record = \"allow\"; prefix = \"tenant1/\"; },\n"
    "  { filter = \"#\"; mode = \"observe\"; payload = \"signed\"; signers = [ \"*\" ]; }, /* all */\n"
    "  { filter = \"$SYS/#\"; signers = [ \"console\" ]; max_size = 100; }\n);\n",
    "topics = (\n@include \"more.conf\"\n);\n",
    "@include \"more.conf\"\ntopics = ( " RULE " );\n",
    "topics = (\n@include \"link.conf\"\n);\n",
    "topics = (\n@include \"../outside.conf\"\n);\n",
    "@include \"policy.conf\"\n",
    "@include \"sub/../more.conf\"\n",
    "// a comment\nbind : \"clientid\", topics : ( { filter = \"a/\\x41\"; signers = ( \"a\" \"b\" ); } )\n",
    "topics = ( { filter = \"+/+/#\"; signers = [ \"%2\" ]; }, { filter = \"a/+/#\"; signers = [ \"%1\" ]; } );",
};
static const char *const included[] = {"", RULE "\n", "bind = \"none\";\n", "@include \"more.conf\"\n"};

static const char *const topics[] = {
    "gr\xc3\xb6\xc3\x9f\x65/+\n\ngr\xc3\xb6\xc3\x9f\x65/x\n",
    "a/b\na/+\na/#\n+/b\n#\n\na/b\na/c\na\nb/b\nb\n$SYS/a\n",
    "+/+/c\na/+/c\n+/b/c\na/b/#\na/b/c/#\n\na/b/c\na/x/c\nx/b/c\na/b/c/d\na/b\n",
    "$SYS/#\n$SYS/+/x\n+/a\n/a\n/+\n//\n\n$SYS/a/x\n/a\n/\n//\n$SYS\n",
    "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\na/a\na/b\na/c\na/d\na/a/+/#\n\na\nj\na/d\na/a/x\nk\n",
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void text_seeds(void)
{
    char both[4096];
    for (size_t i = 0; i < COUNT(policies); i++)
        for (size_t k = 0; k < COUNT(included); k++) {
            size_t n = strlen(policies[i]);
            memcpy(both, policies[i], n + 1);
            memcpy(both + n + 1, included[k], strlen(included[k]));
            write_seed("policy", both, n + 1 + strlen(included[k]));
        }
    for (size_t i = 0; i < COUNT(topics); i++)
        write_seed("topics", topics[i], strlen(topics[i]));
}

/* ---- control messages: see control.c for what the marks mean ---- */

#define COMMANDS(commands) "{\"commands\":[" commands "]}"
#define ENROLL(fields)     "{\"command\":\"enroll\",\"record\":" fields "}"

static const char *const control_texts[] = {
    "\x03p" COMMANDS(
        "{\"command\":\"status\",\"correlationData\":\"x\"},{\"command\":\"list\",\"count\":3,\"after\":\"a\"}"),
    "\x03p" COMMANDS("{\"command\":\"lookup\",\"ids\":[\"a\",\"b\"]},{\"command\":\"lookup\",\"kid\":\"~0\"}"),
    "\x03"
    "0" COMMANDS(ENROLL(
        "\"@0\"")) "\xff"
                   "1" COMMANDS(ENROLL("\"@1\"")) "\xffp" COMMANDS(
                       "{\"command\":\"lookup\",\"kids\":[\"~0\",\"~1\"]},{\"command\":\"history\",\"id\":\"a\"}"),
    "\x03"
    "0" COMMANDS(
        ENROLL("\"@0\"")) "\xff"
                          "0" COMMANDS(
                              "{\"command\":\"rotate\",\"rotation\":\"@2\"}") "\xff"
                                                                              "2" COMMANDS(
                                                                                  "{\"command\":\"revoke\","
                                                                                  "\"revocation\":\"@4\"},{\"command\":"
                                                                                  "\"status\"}") "\xffp" COMMANDS("{\"c"
                                                                                                                  "omma"
                                                                                                                  "nd\""
                                                                                                                  ":\"h"
                                                                                                                  "isto"
                                                                                                                  "ry\""
                                                                                                                  ",\"i"
                                                                                                                  "d\":"
                                                                                                                  "\"a"
                                                                                                                  "\","
                                                                                                                  "\"af"
                                                                                                                  "ter"
                                                                                                                  "\":"
                                                                                                                  "1},{"
                                                                                                                  "\"co"
                                                                                                                  "mman"
                                                                                                                  "d\":"
                                                                                                                  "\"li"
                                                                                                                  "st\""
                                                                                                                  "}"),
    "\x03"
    "0" COMMANDS(ENROLL("\"@0\"")) "\xff"
                                   "0" COMMANDS("{\"command\":\"revoke\",\"revocation\":\"@3\"}"),
    "\x01"
    "0" COMMANDS(ENROLL(
        "\"@0\",\"certificate\":\"@5\"")) "\xff"
                                          "0" COMMANDS(
                                              "{\"command\":\"rotate\",\"rotation\":\"@2\",\"certificate\":\"@7\"}"),
    "\x02"
    "0" COMMANDS(ENROLL(
        "\"@0\",\"proof\":\"@8\",\"certificate\":\"@5\"")) "\xff"
                                                           "0" COMMANDS("{\"command\":\"token\",\"id\":\"c\",\"token\":"
                                                                        "\"~1\",\"expires\":1800000000}"),
    "\x03"
    "0" COMMANDS(ENROLL("\"@0\"")) "\xff"
                                   "0" COMMANDS("{\"command\":\"ledger.query\"},{\"command\":\"status\"}"),
    "\x03r\xd2\x84",
};

static void control_seeds(void)
{
    for (size_t i = 0; i < sizeof control_texts / sizeof control_texts[0]; i++)
        write_seed("control", control_texts[i], strlen(control_texts[i]));
    write_seed("control",
               "\0"
               "0" COMMANDS(ENROLL("\"@0\"")),
               2 + sizeof COMMANDS(ENROLL("\"@0\"")) - 1);
}

static const char *const field_texts[] = {
    "{}",
    "{\"temp\":21,\"site\":\"a b\",\"ok\":true,\"off\":false}",
    " { \"a\" : -9223372036854775808 , \"b\" : 9223372036854775807 } ",
    "{\"a\":\"\\u00e9\\ud83d\\ude00\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0000\"}",
    "{\"\x7f\xc2\x9b\xe2\x80\xae\":\"\"}",
    "=cmd|' /C calc'!A0",
    "-5",
    "\xef\xbc\x9d-",
    "\"; system(\"true\") # `true` ]]>&#1;",
    "2026-11-25T12:00:00.25+01:30",
    "2026-11-25",
    "90s",
};

static void field_seeds(void)
{
    for (size_t i = 0; i < sizeof field_texts / sizeof field_texts[0]; i++)
        write_seed("fields", field_texts[i], strlen(field_texts[i]));
}

/* ---- the ledger: see ledger.c for the first byte ---- */

#define SUM(fields) "{\"command\":\"ledger.sum\"" fields "}"

static const char *const ledger_texts[] = {
    "0{\"command\":\"ledger.query\"}",
    "0{\"command\":\"ledger.query\",\"from\":1010,\"to\":1100,\"topic\":\"a/+/c\",\"newest\":true,\"count\":7}",
    "0{\"command\":\"ledger.query\",\"signer\":\"a\",\"after\":\"1020.21\",\"count\":1000}",
    "0{\"command\":\"ledger.query\",\"fields\":{\"site\":\"s-1\",\"temp\":\"-3\",\"alarm\":\"true\",\"n\":\"21\"}}",
    "1{\"command\":\"ledger.query\",\"signer\":\"a\",\"topic\":\"#\"}",
    "2{\"command\":\"ledger.query\",\"signer\":\"a\"}",
    "2{\"command\":\"ledger.query\",\"topic\":\"$x/#\",\"correlationData\":\"c\"}",
    "0" SUM(""),
    "0" SUM(",\"of\":\"temp\",\"by\":[\"signer\",\"topic\",\"minute\"]"),
    "0" SUM(",\"of\":\"n\",\"by\":[\"field\",\"day\"],\"byField\":\"site\",\"topic\":\"a/#\""),
    "1" SUM(",\"by\":[\"signer\",\"field\"],\"byField\":\"n\",\"fields\":{\"alarm\":\"false\"}"),
    "2" SUM(",\"topic\":\"+/b\",\"of\":\"temp\",\"by\":[\"hour\"]"),
    "0{\"command\":\"ledger.forget\",\"signer\":\"a\"}",
    "0{\"command\":\"ledger.forget\",\"topic\":\"a/#\",\"before\":1050}",
    "0{\"command\":\"ledger.forget\",\"before\":9007199254740991}",
    "1{\"command\":\"ledger.forget\",\"signer\":\"a\"}",
    "0{\"command\":\"ledger.erasures\"}",
    "1{\"command\":\"ledger.erasures\"}",
    "3\xa3\x61n\x15\x64site\x63\"\\\x01\x65\x61larm\xf5",
    "3\xa3\x60\x60\x61z\x3b\x7f\xff\xff\xff\xff\xff\xff\xff\x62\xc3\xa9\x1b\x7f\xff\xff\xff\xff\xff\xff\xff",
};

static void ledger_seeds(void)
{
    for (size_t i = 0; i < COUNT(ledger_texts); i++)
        write_seed("ledger", ledger_texts[i], strlen(ledger_texts[i]));
}

int main(int argc, char **argv)
{
    must(argc == 2, "wants one argument: the folder to write to");
    root = argv[1];
    must(sodium_init() >= 0, "no libsodium");
    mkdir(root, 0777);
    cJSON *all = read_vectors(PEP_VECTORS "/envelopes.json");
    cJSON *directory = read_vectors(PEP_VECTORS "/directory.json");
    envelope_seeds(all);
    record_seeds(all);
    directory_seeds(directory);
    text_seeds();
    control_seeds();
    field_seeds();
    ledger_seeds();
    cJSON_Delete(directory);
    cJSON_Delete(all);
    return 0;
}
