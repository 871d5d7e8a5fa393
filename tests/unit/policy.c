/* The policy file and the topic trie, through policy.h and real files. */
#include "policy/policy.h"

#include "unit.h"

#include <ftw.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#define KEY_A "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA"
#define KEY_B "__________________________________________8"

/* A whole policy around the keys of one rule, and one around top-level keys. */
#define RULE(keys) "topics = ( { filter = \"a/+/b\"; signers = [ \"*\" ]; " keys " } );\n"
#define TOP(keys)  keys "\ntopics = ( );\n"

static const char sample[] =
    "enroll    = \"authority\";           # closed | authority | token | open\n"
    "authority = [ \"" KEY_A "\" ];       # base64url Ed25519 public keys\n"
    "bind      = \"username\";            # none | username | clientid : which MQTT name must equal the signer's id\n"
    "relays    = [ \"bridge-b\" ];        # bridge users exempt from bind\n"
    "groups    = { ops = [ \"console\", \"scada-1\" ]; };\n"
    "admins    = [ \"@ops\" ];\n"
    "max_skew  = \"60s\";\n"
    "budget    = { rate = 7; memory = \"1h\"; over = \"refuse\"; };\n"
    "\n"
    "topics = (\n"
    "  { filter    = \"sensors/+/telemetry\";\n"
    "    mode      = \"enforce\";         # enforce | observe\n"
    "    payload   = \"encrypted\";       # encrypted | signed\n"
    "    signers   = [ \"%1\" ];          # the id found at the first wildcard; ids; @groups; *\n"
    "    max_age   = \"30s\";  will_max_age = \"1d\";  max_size = \"64k\";\n"
    "    record    = \"allow\";           # allow | deny\n"
    "    prefix    = \"\";                # what a mount_point or a bridge put in front: removed before comparing with "
    "the signed topic\n"
    "  }\n"
    ");\n";

/* ---- text ---- */

/* A text that is being put together: it aborts where it does not fit. */
typedef struct {
    char *at;
    size_t n;
    size_t cap;
} builder;

__attribute__((format(printf, 2, 3))) static void add(builder *b, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    int n = vsnprintf(b->at + b->n, b->cap - b->n, format, values);
    va_end(values);
    if (n < 0 || (size_t)n >= b->cap - b->n)
        abort();
    b->n += (size_t)n;
}

static builder new_builder(size_t cap)
{
    builder b = {.at = calloc(1, cap), .cap = cap};
    if (b.at == NULL)
        abort();
    return b;
}

/* ---- files ---- */

static char folder[64];
static char policy_path[128];
static policy_error error;

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)st;
    (void)kind;
    (void)at;
    return remove(path);
}

static void remove_folder(void)
{
    nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void make_folder(void)
{
    if (folder[0] != '\0')
        return;
    const char *parent = getenv("TMPDIR");
    snprintf(folder, sizeof(folder), "%s/unit_policy.XXXXXX", parent != NULL ? parent : "/tmp");
    if (mkdtemp(folder) == NULL)
        abort();
    snprintf(policy_path, sizeof(policy_path), "%s/policy.conf", folder);
    atexit(remove_folder);
}

static void write_bytes(const char *name, const char *bytes, size_t n)
{
    make_folder();
    char path[256];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    if (file == NULL || fwrite(bytes, 1, n, file) != n || fclose(file) != 0)
        abort();
}

static void write_file(const char *name, const char *text)
{
    write_bytes(name, text, strlen(text));
}

static policy *load_bytes(const char *bytes, size_t n)
{
    write_bytes("policy.conf", bytes, n);
    memset(&error, 0, sizeof(error));
    return policy_load(&error, policy_path);
}

static policy *try_load(const char *text)
{
    return load_bytes(text, strlen(text));
}

static policy *load(const char *text)
{
    policy *p = try_load(text);
    if (p == NULL)
        printf("\n    %s\n", error.text);
    CU_ASSERT_PTR_NOT_NULL_FATAL(p);
    return p;
}

/* `expected` follows the folder's name and a slash. */
static void check_error(policy *p, const char *expected)
{
    char whole[1024];
    snprintf(whole, sizeof(whole), "%s/%s", folder, expected);
    CU_ASSERT_PTR_NULL(p);
    CU_ASSERT_STRING_EQUAL(error.text, whole);
    if (strcmp(error.text, whole) != 0)
        printf("\n    said:     %s\n    expected: %s\n", error.text, whole);
    policy_free(p);
}

static void refuse(const char *text, const char *expected)
{
    char whole[1024];
    snprintf(whole, sizeof(whole), "policy.conf:%s", expected);
    check_error(try_load(text), whole);
}

static const policy_rule *match(const policy *p, const char *topic)
{
    return policy_match(p, topic, strlen(topic));
}

static bool may_sign(const policy *p, const char *topic, const char *id)
{
    const policy_rule *rule = match(p, topic);
    CU_ASSERT_PTR_NOT_NULL_FATAL(rule);
    return policy_may_sign(rule, topic, strlen(topic), id, NULL);
}

/* ---- keys ---- */

static void sample_means_what_it_says(void)
{
    policy *p = load(sample);
    CU_ASSERT_EQUAL(policy_enroll_of(p), POLICY_ENROLL_AUTHORITY);
    CU_ASSERT_EQUAL(policy_authority_count(p), 1);
    for (unsigned i = 0; i < POLICY_AUTHORITY_KEY_BYTES; i++)
        CU_ASSERT_EQUAL(policy_authority_at(p, 0)[i], i + 1);
    CU_ASSERT_EQUAL(policy_bind_of(p), POLICY_BIND_USERNAME);
    CU_ASSERT_TRUE(policy_is_relay(p, "bridge-b"));
    CU_ASSERT_FALSE(policy_is_relay(p, "bridge"));
    CU_ASSERT_FALSE(policy_is_relay(p, NULL));
    CU_ASSERT_TRUE(policy_is_admin(p, "console", NULL));
    CU_ASSERT_TRUE(policy_is_admin(p, "scada-1", NULL));
    CU_ASSERT_FALSE(policy_is_admin(p, "@ops", NULL));
    CU_ASSERT_FALSE(policy_is_admin(p, "ops", NULL));
    CU_ASSERT_FALSE(policy_is_admin(p, NULL, NULL));
    CU_ASSERT_EQUAL(policy_max_skew_us(p), 60000000);
    CU_ASSERT_EQUAL(policy_budget_of(p)->rate, 7);
    CU_ASSERT_EQUAL(policy_budget_of(p)->memory_us, 3600000000);
    CU_ASSERT_EQUAL(policy_budget_of(p)->over, POLICY_OVER_REFUSE);
    CU_ASSERT_EQUAL(policy_largest_size(p), 65536);
    CU_ASSERT_EQUAL_FATAL(policy_rule_count(p), 1);
    const policy_rule *rule = policy_rule_at(p, 0);
    CU_ASSERT_STRING_EQUAL(rule->filter, "sensors/+/telemetry");
    CU_ASSERT_STRING_EQUAL(rule->file, policy_path);
    CU_ASSERT_EQUAL(rule->line, 11);
    CU_ASSERT_EQUAL(rule->mode, POLICY_ENFORCE);
    CU_ASSERT_EQUAL(rule->payload, POLICY_ENCRYPTED);
    CU_ASSERT_EQUAL(rule->max_age_us, 30000000);
    CU_ASSERT_EQUAL(rule->will_max_age_us, 86400000000);
    CU_ASSERT_EQUAL(rule->max_size, 65536);
    CU_ASSERT_TRUE(rule->record);
    CU_ASSERT_STRING_EQUAL(rule->prefix, "");
    CU_ASSERT_EQUAL(rule->prefix_n, 0);
    CU_ASSERT_PTR_EQUAL(match(p, "sensors/dev-1/telemetry"), rule);
    CU_ASSERT_TRUE(may_sign(p, "sensors/dev-1/telemetry", "dev-1"));
    CU_ASSERT_FALSE(may_sign(p, "sensors/dev-1/telemetry", "dev-2"));
    policy_free(p);
}

static void defaults(void)
{
    policy *p = load("topics = ( { filter = \"a\"; signers = [ \"x\" ]; } );");
    CU_ASSERT_EQUAL(policy_enroll_of(p), POLICY_ENROLL_CLOSED);
    CU_ASSERT_EQUAL(policy_authority_count(p), 0);
    CU_ASSERT_EQUAL(policy_bind_of(p), POLICY_BIND_NONE);
    CU_ASSERT_EQUAL(policy_max_skew_us(p), POLICY_DEFAULT_MAX_SKEW_US);
    CU_ASSERT_EQUAL(policy_budget_of(p)->rate, 20);
    CU_ASSERT_EQUAL(policy_budget_of(p)->memory_us, 300000000);
    CU_ASSERT_EQUAL(policy_budget_of(p)->over, POLICY_OVER_KICK);
    CU_ASSERT_FALSE(policy_is_relay(p, "x"));
    CU_ASSERT_FALSE(policy_is_admin(p, "x", NULL));
    const policy_rule *rule = policy_rule_at(p, 0);
    CU_ASSERT_EQUAL(rule->line, 1);
    CU_ASSERT_EQUAL(rule->mode, POLICY_ENFORCE);
    CU_ASSERT_EQUAL(rule->payload, POLICY_ENCRYPTED);
    CU_ASSERT_EQUAL(rule->max_age_us, 0);
    CU_ASSERT_EQUAL(rule->will_max_age_us, 0);
    CU_ASSERT_EQUAL(rule->max_size, 262144);
    CU_ASSERT_FALSE(rule->record);
    CU_ASSERT_FALSE(rule->refuse_overflow);
    CU_ASSERT_EQUAL(rule->keep_us, 0);
    CU_ASSERT_STRING_EQUAL(rule->prefix, "");
    CU_ASSERT_EQUAL(policy_largest_size(p), 262144);
    policy_free(p);

    p = load("topics = ( );");
    CU_ASSERT_EQUAL(policy_rule_count(p), 0);
    CU_ASSERT_EQUAL(policy_largest_size(p), 0);
    CU_ASSERT_PTR_NULL(match(p, "a"));
    policy_free(p);
    policy_free(NULL);
}

static void every_word(void)
{
    static const struct {
        const char *word;
        policy_enroll value;
    } enrolments[] = {{"closed", POLICY_ENROLL_CLOSED},
                      {"authority", POLICY_ENROLL_AUTHORITY},
                      {"token", POLICY_ENROLL_TOKEN},
                      {"open", POLICY_ENROLL_OPEN}};
    static const struct {
        const char *word;
        policy_bind value;
    } bindings[] = {{"none", POLICY_BIND_NONE}, {"username", POLICY_BIND_USERNAME}, {"clientid", POLICY_BIND_CLIENTID}};
    char text[512];
    for (size_t i = 0; i < COUNT(enrolments); i++) {
        snprintf(text, sizeof(text),
                 "enroll = \"%s\"; max_records = 7; authority = [ \"" KEY_A "\", \"" KEY_B "\" ]; topics = ();",
                 enrolments[i].word);
        policy *p = load(text);
        CU_ASSERT_EQUAL(policy_enroll_of(p), enrolments[i].value);
        CU_ASSERT_EQUAL(policy_authority_count(p), 2);
        CU_ASSERT_EQUAL(policy_authority_at(p, 1)[31], 0xFF);
        policy_free(p);
    }
    for (size_t i = 0; i < COUNT(bindings); i++) {
        snprintf(text, sizeof(text), "bind = \"%s\"; topics = ();", bindings[i].word);
        policy *p = load(text);
        CU_ASSERT_EQUAL(policy_bind_of(p), bindings[i].value);
        policy_free(p);
    }
    policy *p = load(RULE("mode = \"observe\"; payload = \"signed\"; record = \"deny\"; prefix = \"tenant1/\";"
                          "record_overflow = \"refuse\"; keep = \"30d\";"));
    const policy_rule *rule = policy_rule_at(p, 0);
    CU_ASSERT_EQUAL(rule->mode, POLICY_OBSERVE);
    CU_ASSERT_EQUAL(rule->payload, POLICY_SIGNED);
    CU_ASSERT_FALSE(rule->record);
    CU_ASSERT_TRUE(rule->refuse_overflow);
    CU_ASSERT_EQUAL(rule->keep_us, 2592000000000);
    CU_ASSERT_STRING_EQUAL(rule->prefix, "tenant1/");
    CU_ASSERT_EQUAL(rule->prefix_n, 8);
    policy_free(p);
}

static void durations(void)
{
    static const struct {
        const char *text;
        uint64_t us; /* 0: refused */
    } cases[] = {
        {"1ms", 1000},
        {"250ms", 250000},
        {"30s", 30000000},
        {"5m", 300000000},
        {"2h", 7200000000},
        {"1d", 86400000000},
        {"007s", 7000000},
        {"36500d", 3153600000000000},
        {"3153600000s", 3153600000000000},
        {"36501d", 0},
        {"3153600000001ms", 0},
        {"0s", 0},
        {"0", 0},
        {"30", 0},
        {"", 0},
        {"s", 0},
        {"-1s", 0},
        {"+1s", 0},
        {" 1s", 0},
        {"1 s", 0},
        {"1s ", 0},
        {"1.5s", 0},
        {"1h30m", 0},
        {"1S", 0},
        {"1w", 0},
        {"1us", 0},
        {"0x1s", 0},
        {"18446744073709551616ms", 0}, /* 2^64 */
        {"18446744073709552ms", 0},    /* 2^64 after multiplication is small */
        {"213503982334602d", 0},
        {"99999999999999999999999999999999d", 0},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        char text[256];
        snprintf(text, sizeof(text), RULE("max_age = \"%s\";"), cases[i].text);
        policy *p = try_load(text);
        CU_ASSERT_EQUAL(p != NULL, cases[i].us != 0);
        if (p != NULL)
            CU_ASSERT_EQUAL(policy_rule_at(p, 0)->max_age_us, cases[i].us);
        if (p == NULL)
            CU_ASSERT_PTR_NOT_NULL(strstr(error.text, ":1: max_age is "));
        policy_free(p);
    }
}

static void sizes(void)
{
    static const struct {
        const char *value;
        uint32_t bytes; /* 0: refused */
    } cases[] = {
        {"\"1\"", 1},
        {"1", 1},
        {"\"64k\"", 65536},
        {"\"1m\"", 1048576},
        {"65536", 65536},
        {"65536L", 65536},
        {"\"65536\"", 65536},
        {"268435455", 268435455},
        {"\"268435455\"", 268435455},
        {"\"262143k\"", 268434432},
        {"268435456", 0},
        {"\"262144k\"", 0},
        {"\"256m\"", 0},
        {"0", 0},
        {"\"0\"", 0},
        {"-1", 0},
        {"999999999L", 0},
        {"0x10", 0},
        {"0x10L", 0},
        {"1.0", 0},
        {"true", 0},
        {"\"\"", 0},
        {"\"k\"", 0},
        {"\"64K\"", 0},
        {"\"64kb\"", 0},
        {"\"64 k\"", 0},
        {"\"-1\"", 0},
        {"\"1g\"", 0},
        {"\"18446744073709551617\"", 0},
        {"\"18014398509481985k\"", 0}, /* 2^64 + 1024 */
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        char text[256];
        snprintf(text, sizeof(text), RULE("max_size = %s;"), cases[i].value);
        policy *p = try_load(text);
        CU_ASSERT_EQUAL(p != NULL, cases[i].bytes != 0);
        if (p != NULL)
            CU_ASSERT_EQUAL(policy_rule_at(p, 0)->max_size, cases[i].bytes);
        if (p == NULL)
            CU_ASSERT_PTR_NOT_NULL(strstr(error.text, ":1: max_size is "));
        policy_free(p);
    }
    /* libconfig takes it for -1, or since 1.8 for no number at all */
    CU_ASSERT_PTR_NULL(try_load(RULE("max_size = 0xFFFFFFFFFFFFFFFF;")));
    CU_ASSERT_PTR_NOT_NULL(strstr(error.text, ":1: "));
    policy *p = load("topics = ( { filter = \"a\"; signers = [ \"x\" ]; max_size = 7; },\n"
                     "{ filter = \"b\"; signers = [ \"x\" ]; max_size = 9; },\n"
                     "{ filter = \"c\"; signers = [ \"x\" ]; max_size = 8; } );");
    CU_ASSERT_EQUAL(policy_largest_size(p), 9);
    policy_free(p);
}

/* ---- faults: each with its line and its whole text ---- */

typedef struct {
    const char *text;
    const char *expected; /* after the path and a colon */
} fault;

static void refuse_all(const fault *faults, size_t n)
{
    for (size_t i = 0; i < n; i++)
        refuse(faults[i].text, faults[i].expected);
}

#define TOPICS_EXAMPLE "( { filter = \"sensors/+/telemetry\"; signers = [ \"%1\" ]; } );"
#define ID_RULE        "an id is 1 to 64 of A-Z a-z 0-9 . _ : @ -"
#define X64            "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
#define SYNTAX         "syntax error; look here and in the line before for a missing = ; , quote or bracket"

static void faults_of_the_top_level(void)
{
    static const fault faults[] = {
        {"", "1: topics is missing; add topics = " TOPICS_EXAMPLE},
        {"# nothing\n\n", "1: topics is missing; add topics = " TOPICS_EXAMPLE},
        {"\n\nenrol = \"open\";\ntopics = ();", "3: unknown key enrol; known here are enroll, authority, directory, "
                                                "max_records, bind, relays, groups, admins, max_skew, "
                                                "budget, topics"},
        {"topics = { };", "1: topics is not a list of groups; write it like topics = " TOPICS_EXAMPLE},
        {"topics = [ ];", "1: topics is not a list of groups; write it like topics = " TOPICS_EXAMPLE},
        {"topics = \"a\";", "1: topics is not a list of groups; write it like topics = " TOPICS_EXAMPLE},
        {"topics = (\n\"a\");", "2: this entry of topics is not a group; write it like topics = " TOPICS_EXAMPLE},
        {TOP("\nenroll = 1;"), "2: enroll is not a string; write it like enroll = \"closed\""},
        {TOP("enroll = \"Open\";"), "1: enroll is \"Open\"; it can be closed or authority or token or open"},
        {TOP("\nenroll = \"authority\";"),
         "2: enroll is \"authority\", but there is none; add authority = [ \"...\" ], "
         "with its Ed25519 public key in base64url"},
        {TOP("bind = \"user\";"), "1: bind is \"user\"; it can be none or username or clientid"},
        {TOP("bind = true;"), "1: bind is not a string; write it like bind = \"username\""},
        {TOP("max_skew = \"25h\";"), "1: max_skew is \"25h\"; it can be 1ms to 1d"},
        {TOP("max_skew = 60;"), "1: max_skew is not a duration (a number and one of ms, s, m, h, d); write it like "
                                "max_skew = \"60s\""},
        {TOP("budget = 20;"),
         "1: budget is not a group; write it like budget = { rate = 20; memory = \"5m\"; over = \"kick\"; }"},
        {TOP("budget = { rate = \"20\"; };"), "1: rate is not a decimal number; write it like rate = 20"},
        {TOP("budget = { rate = 0x14; };"), "1: rate is not a decimal number; write it like rate = 20"},
        {TOP("budget = { rate = -1; };"), "1: rate is out of range; it can be 0 to 100000"},
        {TOP("budget = { rate = 100001; };"), "1: rate is out of range; it can be 0 to 100000"},
        {TOP("budget = { memory = \"2d\"; };"), "1: memory is \"2d\"; it can be 1ms to 1d"},
        {TOP("budget = { over = \"ban\"; };"), "1: over is \"ban\"; it can be kick or refuse"},
        {TOP("budget = {\n each = 1; };"), "2: unknown key each; known here are rate, memory, over"},
        {TOP("relays = \"b\";"), "1: relays is not a list of strings; write it like relays = [ \"bridge-b\" ]"},
        {TOP("relays = [ 1 ];"), "1: relays is not a list of strings; write it like relays = [ \"bridge-b\" ]"},
        {TOP("relays = ( \"b\", [ ] );"),
         "1: relays is not a list of strings; write it like relays = [ \"bridge-b\" ]"},
        {TOP("relays = [ \"b\",\n\"c d\" ];"), "2: \"c d\" is no id; " ID_RULE},
        {TOP("relays = [ \"\" ];"), "1: \"\" is no id; " ID_RULE},
        {TOP("relays = [ \"" X64 "x\" ];"), "1: \"" X64 "\" is no id; " ID_RULE},
        {TOP("relays = [ \"@ops\" ];"), "1: \"@ops\" begins with @, but relays holds no groups; name the ids"},
        {TOP("relays = [ \"b\", \"a\", \"b\" ];"), "1: \"b\" stands here twice; keep one"},
        {TOP("groups = [ ];"),
         "1: groups is not a group; write it like groups = { ops = [ \"console\", \"scada-1\" ]; }"},
        {TOP("groups = {\n ops = \"a\"; };"),
         "2: ops is not a list of strings; write it like ops = [ \"console\", \"scada-1\" ]"},
        {TOP("groups = { a = [ \"x\" ];\n b = [ \"@a\" ]; };"),
         "2: \"@a\" begins with @, but b holds no groups; name the ids"},
        {TOP("groups = { a = [ \"x\", \"x\" ]; };"), "1: \"x\" stands here twice; keep one"},
        {TOP("groups = { a = [ \"*\" ]; };"), "1: \"*\" is no id; " ID_RULE},
        {TOP("groups = { a = [ ];\n a = [ ]; };"),
         "2: duplicate setting name; a key stands twice in one group: keep one"},
        {TOP("admins = [ \"@ops\" ];"), "1: there is no group @ops; define it: groups = { ops = [ \"console\" ]; };"},
        {TOP("groups = { o = [ ]; };\nadmins = [ \"@o\", \"@o\" ];"), "2: \"@o\" stands here twice; keep one"},
        {TOP("admins = [ \"*\" ];"), "1: \"*\" is no id; " ID_RULE},
        {TOP("admins = [ \"%1\" ];"), "1: \"%1\" is no id; " ID_RULE},
        {TOP("admins = \"ops\";"), "1: admins is not a list of strings; write it like admins = [ \"@ops\" ]"},
        {TOP("authority = \"" KEY_A "\";"), "1: authority is not a list of strings; write it like authority = "
                                            "[ \"...\" ], with Ed25519 public keys in base64url"},
        {TOP("authority = [ \"" KEY_A "\", \"" KEY_A "\" ];"), "1: \"" KEY_A "\" stands here twice; keep one"},
    };
    refuse_all(faults, COUNT(faults));
}

static void faults_of_authorities(void)
{
    static const char *const keys[] = {
        "",
        "3q2-7w",
        KEY_A "=",
        KEY_A "A",
        "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHy",  /* 31 bytes and a half */
        "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyB", /* bits behind the end */
        "//////////////////////////////////////////8", /* not the URL alphabet */
        "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0e yA",
        "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRob\xc3\xa9HB0eA", /* 43 bytes; libsodium reads the two as _ */
    };
    for (size_t i = 0; i < COUNT(keys); i++) {
        char text[256];
        char expected[256];
        snprintf(text, sizeof(text), "authority = [ \"%s\" ]; topics = ( );", keys[i]);
        snprintf(expected, sizeof(expected),
                 "1: \"%s\" is no Ed25519 public key; write its 32 bytes as 43 characters of base64url", keys[i]);
        refuse(text, expected);
    }
    builder many = new_builder(8192);
    add(&many, "authority = [ \"a\"");
    for (int i = 0; i < 64; i++)
        add(&many, ", \"a\"");
    add(&many, " ]; topics = ( );");
    refuse(many.at, "1: authority has 65 keys; at most 64 can be");
    free(many.at);
}

static void faults_of_rules(void)
{
    static const fault faults[] = {
        {"topics = (\n{ signers = [ \"*\" ]; } );", "2: filter is missing; add filter = \"sensors/+/telemetry\""},
        {"topics = (\n{ filter = \"a\"; } );", "2: signers is missing; add signers = [ \"%1\" ]"},
        {RULE("\nsigner = [ ];"), "2: unknown key signer; known here are filter, mode, payload, signers, max_age, "
                                  "will_max_age, max_size, record, record_overflow, keep, prefix"},
        {RULE("\nfilter = \"b\";"), "2: duplicate setting name; a key stands twice in one group: keep one"},
        {RULE("\nmode = \"on\";"), "2: mode is \"on\"; it can be enforce or observe"},
        {RULE("mode = 1;"), "1: mode is not a string; write it like mode = \"enforce\""},
        {RULE("payload = \"plain\";"), "1: payload is \"plain\"; it can be encrypted or signed"},
        {RULE("record = true;"), "1: record is not a string; write it like record = \"allow\""},
        {RULE("record = \"yes\";"), "1: record is \"yes\"; it can be deny or allow"},
        {RULE("record_overflow = \"wait\";"), "1: record_overflow is \"wait\"; it can be drop or refuse"},
        {RULE("keep = \"0d\";"), "1: keep is \"0d\"; it can be 1ms to 36500d"},
        {RULE("keep = 30;"),
         "1: keep is not a duration (a number and one of ms, s, m, h, d); write it like keep = \"30d\""},
        {RULE("max_age = \"0s\";"), "1: max_age is \"0s\"; it can be 1ms to 36500d"},
        {RULE("max_age = \"30\";"), "1: max_age is not a duration (a number and one of ms, s, m, h, d); write it like "
                                    "max_age = \"30s\""},
        {RULE("will_max_age = \"x\";"), "1: will_max_age is not a duration (a number and one of ms, s, m, h, d); write "
                                        "it like will_max_age = \"1d\""},
        {RULE("max_size = \"64K\";"), "1: max_size is not a size (a decimal number, and k or m behind it or nothing); "
                                      "write it like max_size = \"64k\""},
        {RULE("max_size = 0x10;"), "1: max_size is not a size (a decimal number, and k or m behind it or nothing); "
                                   "write it like max_size = \"64k\""},
        {RULE("max_size = \"256m\";"),
         "1: max_size is out of range; it can be 1 to 268435455 bytes, MQTT's largest message"},
        {RULE("prefix = 1;"), "1: prefix is not a string; write it like prefix = \"tenant1/\""},
        {RULE("prefix = \"a/+\";"), "1: prefix \"a/+\" is no beginning of a topic; write UTF-8 of at most 65535 bytes "
                                    "without + and #, like prefix = \"tenant1/\""},
        {RULE("prefix = \"#\";"), "1: prefix \"#\" is no beginning of a topic; write UTF-8 of at most 65535 bytes "
                                  "without + and #, like prefix = \"tenant1/\""},
        {RULE("prefix = \"\xff\";"), "1: prefix \"?\" is no beginning of a topic; write UTF-8 of at most 65535 bytes "
                                     "without + and #, like prefix = \"tenant1/\""},
        {"topics = ( { filter = \"a\"; signers = [ \"*\" ]; },\n{ filter = \"b\"; signers = [ \"*\" ]; },\n"
         "{ filter = \"a\"; signers = [ \"*\" ]; } );",
         NULL}, /* below: it names the path once more */
    };
    refuse_all(faults, COUNT(faults) - 1);
    char expected[512];
    snprintf(expected, sizeof(expected), "3: the filter \"a\" has a rule in line 1 of %s already; keep one",
             policy_path);
    refuse(faults[COUNT(faults) - 1].text, expected);
}

static void faults_of_signers(void)
{
    static const fault faults[] = {
        {"[ ]", "signers is empty, so nobody could speak; write it like signers = [ \"%1\" ]"},
        {"\"*\"", "signers is not a list of strings; write it like signers = [ \"%1\" ]"},
        {"[ 1 ]", "signers is not a list of strings; write it like signers = [ \"%1\" ]"},
        {"( \"a\", 1 )", "signers is not a list of strings; write it like signers = [ \"%1\" ]"},
        {"[ \"a b\" ]", "\"a b\" is no id; " ID_RULE},
        {"[ \"\" ]", "\"\" is no id; " ID_RULE},
        {"[ \"**\" ]", "\"**\" is no id; " ID_RULE},
        {"[ \"a\", \"a\" ]", "\"a\" stands here twice; keep one"},
        {"[ \"*\", \"*\" ]", "\"*\" stands here twice; keep one"},
        {"[ \"@g\", \"@g\" ]", "\"@g\" stands here twice; keep one"},
        {"[ \"%2\", \"%2\" ]", "\"%2\" stands here twice; keep one"},
        {"[ \"@none\" ]", "there is no group @none; define it: groups = { none = [ \"console\" ]; };"},
        {"[ \"@\" ]", "there is no group @; define it: groups = {  = [ \"console\" ]; };"},
        {"[ \"%3\" ]", "there is no %3: the filter \"a/+/b/+/#\" has 2 +; a %N counts those only"},
        {"[ \"%999\" ]", "there is no %999: the filter \"a/+/b/+/#\" has 2 +; a %N counts those only"},
        {"[ \"%0\" ]", "\"%0\" names no wildcard; write %1 for the first + of the filter"},
        {"[ \"%\" ]", "\"%\" names no wildcard; write %1 for the first + of the filter"},
        {"[ \"%01\" ]", "\"%01\" names no wildcard; write %1 for the first + of the filter"},
        {"[ \"%1x\" ]", "\"%1x\" names no wildcard; write %1 for the first + of the filter"},
        {"[ \"%-1\" ]", "\"%-1\" names no wildcard; write %1 for the first + of the filter"},
        {"[ \"%4294967297\" ]", "\"%4294967297\" names no wildcard; write %1 for the first + of the filter"},
    };
    for (size_t i = 0; i < COUNT(faults); i++) {
        char text[256];
        char expected[256];
        snprintf(text, sizeof(text), "groups = { g = [ ]; };\ntopics = ( { filter = \"a/+/b/+/#\";\nsigners = %s; } );",
                 faults[i].text);
        snprintf(expected, sizeof(expected), "3: %s", faults[i].expected);
        refuse(text, expected);
    }
}

static void faults_of_filters(void)
{
    static const fault faults[] = {
        {"", "is empty; write a topic filter, as a/+/b or a/b/#"},
        {"a+/b", "has a + beside other characters; + stands alone in its level, as in a/+/b"},
        {"++", "has a + beside other characters; + stands alone in its level, as in a/+/b"},
        {"a/#/b", "has a # before its end; # stands alone in the last level, as in a/b/#"},
        {"#/", "has a # before its end; # stands alone in the last level, as in a/b/#"},
        {"a/b#", "has a # beside other characters; # stands alone in the last level, as in a/b/#"},
        {"##", "has a # beside other characters; # stands alone in the last level, as in a/b/#"},
        {"$PEP", "is under $PEP/, where only the broker's plugin writes; leave this rule out"},
        {"$PEP/keys/#", "is under $PEP/, where only the broker's plugin writes; leave this rule out"},
        {"$share/g/a",
         "is a shared subscription, and nobody publishes there; write the filter that follows the share's "
         "name"},
    };
    char text[512];
    char expected[512];
    for (size_t i = 0; i < COUNT(faults); i++) {
        snprintf(text, sizeof(text), "topics = (\n{ signers = [ \"*\" ];\nfilter = \"%s\"; } );", faults[i].text);
        snprintf(expected, sizeof(expected), "3: filter \"%s\" %s", faults[i].text, faults[i].expected);
        refuse(text, expected);
    }
    static const char *const not_utf8[] = {"\x80",
                                           "\xc0\x80",
                                           "\xc1\xbf",
                                           "\xe0\x9f\xbf",
                                           "\xed\xa0\x80",
                                           "\xf0\x8f\xbf\xbf",
                                           "\xf4\x90\x80\x80",
                                           "\xf5\x80\x80\x80",
                                           "\xff",
                                           "\xc3",
                                           "\xe2\x82",
                                           "\xe2(\xac",
                                           "\xf0\x9f\x98",
                                           "a\xc3/b"};
    for (size_t i = 0; i < COUNT(not_utf8); i++) {
        snprintf(text, sizeof(text), RULE("} , { signers = [ \"*\" ]; filter = \"%s\";"), not_utf8[i]);
        CU_ASSERT_PTR_NULL(try_load(text));
        CU_ASSERT_PTR_NOT_NULL(strstr(error.text, " is not UTF-8, as every MQTT topic is; write it in UTF-8"));
        CU_ASSERT_PTR_NOT_NULL(strchr(error.text, '?'));
    }
    static const char *const good[] = {"\xc2\x80",
                                       "\xdf\xbf",
                                       "\xe0\xa0\x80",
                                       "\xed\x9f\xbf",
                                       "\xee\x80\x80",
                                       "\xf0\x90\x80\x80",
                                       "\xf4\x8f\xbf\xbf",
                                       "$PEPPER/x",
                                       "$SYS/#",
                                       "$shared/x",
                                       "/",
                                       "//+//#"};
    for (size_t i = 0; i < COUNT(good); i++) {
        snprintf(text, sizeof(text), "topics = ( { signers = [ \"*\" ]; filter = \"%s\"; } );", good[i]);
        policy *p = load(text);
        CU_ASSERT_STRING_EQUAL(policy_rule_at(p, 0)->filter, good[i]);
        policy_free(p);
    }
}

/* A policy with one filter: `unit` `times` times, then `tail`. */
static policy *load_long_filter(const char *unit, size_t times, const char *tail)
{
    builder text = new_builder(strlen(unit) * times + 128);
    add(&text, "topics = ( { signers = [ \"*\" ]; filter = \"");
    for (size_t i = 0; i < times; i++)
        add(&text, "%s", unit);
    add(&text, "%s\"; } );", tail);
    policy *p = try_load(text.at);
    free(text.at);
    return p;
}

static void limits_of_filters(void)
{
    policy *p = load_long_filter("+/", 199, "#"); /* 200 levels */
    CU_ASSERT_PTR_NOT_NULL_FATAL(p);
    static char topic[65535];
    memset(topic, '/', sizeof(topic)); /* far deeper than the trie */
    CU_ASSERT_PTR_NOT_NULL(policy_match(p, topic, sizeof(topic)));
    CU_ASSERT_PTR_NOT_NULL(policy_match(p, topic, 198));
    CU_ASSERT_PTR_NULL(policy_match(p, topic, 197));
    policy_free(p);
    CU_ASSERT_PTR_NULL(load_long_filter("+/", 200, "#"));
    CU_ASSERT_PTR_NOT_NULL(strstr(error.text, " has more than 200 levels; the broker takes no topic that deep"));

    p = load_long_filter("a", 65535, "");
    CU_ASSERT_PTR_NOT_NULL_FATAL(p);
    memset(topic, 'a', sizeof(topic));
    CU_ASSERT_PTR_NOT_NULL(policy_match(p, topic, sizeof(topic)));
    CU_ASSERT_PTR_NULL(policy_match(p, topic, sizeof(topic) - 1));
    policy_free(p);
    CU_ASSERT_PTR_NULL(load_long_filter("a", 65536, ""));
    CU_ASSERT_PTR_NOT_NULL(strstr(error.text, " is longer than 65535 bytes, which is MQTT's limit; shorten it"));
}

static void limits_of_prefixes(void)
{
    for (size_t n = 65535; n <= 65536; n++) {
        builder text = new_builder(n + 128);
        add(&text, "topics = ( { filter = \"a\"; signers = [ \"*\" ]; prefix = \"");
        for (size_t i = 0; i < n; i++)
            add(&text, "a");
        add(&text, "\"; } );");
        policy *p = try_load(text.at);
        CU_ASSERT_EQUAL(p != NULL, n == 65535);
        policy_free(p);
        free(text.at);
    }
}

/* ---- text that is no policy ---- */

static void faults_of_syntax(void)
{
    static const fault faults[] = {
        {"topics = (", "1: " SYNTAX},
        {"topics = (\n{ filter = \"a\"\n", "2: " SYNTAX},
        {"topics ();", "1: " SYNTAX},
        {"\xef\xbb\xbftopics = ();", "1: " SYNTAX},
        {"topics = ();\n/* two\nlines */ relays = [ \"and\ntwo\n\n",
         "3: the string that begins here has no end; add the closing quote"},
        {"topics = ();\n/* all\nof this", "2: the comment that begins here has no end; add */"},
        {"\ntopics = ( { filter = \"a;\n } );\n", "2: the string that begins here has no end; add the closing quote"},
        {"\ntopics = \"a\\\"", "2: the string that begins here has no end; add the closing quote"},
        {"topics = \"\\", "1: the string that begins here has no end; add the closing quote"},
        {"relays = [ \"a\",\n1 ]; topics = ( );",
         "2: mismatched element type in array; all that stands in [ ] is of one type: strings"},
        {"topics = ();\ntopics = ();", "2: duplicate setting name; a key stands twice in one group: keep one"},
        {RULE("prefix = \"\n\\x00\";"), "2: \\x00 in a string; libconfig would drop it without a word: take it out"},
        {RULE("max_size = 4294967297;"), /* 2^32 + 1 */
         "1: a number of more than 9 digits; no key takes one that large"},
        {RULE("\nmax_size = -9223372036854775808L;"), "2: a number of more than 9 digits; no key takes one that large"},
        {"topics = ((((((((( )))))))));", "1: brackets are nested deeper than 8; a policy nests 4 deep"},
    };
    refuse_all(faults, COUNT(faults));
    policy *p = load("topics = (); // no newline here");
    policy_free(p);
    p = load("topics = (); # nor here");
    policy_free(p);
    p = load("/* one * / **/ topics = (); /**/");
    policy_free(p);
    p = load("groups = { g12345678901234567890 = [ ]; }; topics = ();");
    policy_free(p);
    p = load(RULE("prefix = \"\\\\x00 // /* \\\" (((((((((\";"));
    CU_ASSERT_STRING_EQUAL(policy_rule_at(p, 0)->prefix, "\\x00 // /* \" (((((((((");
    policy_free(p);
}

static void too_many_settings(void)
{
    builder text = new_builder(65536);
    add(&text, "groups = {\n");
    for (int i = 0; i < 4096; i++)
        add(&text, "g%d=[];\n", i);
    size_t n = text.n;
    add(&text, "}; topics = ();");
    policy_free(load(text.at));
    text.n = n;
    add(&text, "\nx=[];}; topics = ();");
    refuse(text.at, "4099: more than 4096 settings in one group; use fewer, larger groups");
    free(text.at);
}

static void too_many_rules(void)
{
    builder text = new_builder(4000000);
    add(&text, "\ntopics = ( {}");
    for (int i = 1; i < 1000001; i++)
        add(&text, ",{}");
    add(&text, " );");
    refuse(text.at, "2: more than 1000000 entries in one list; let wildcards or groups stand for more");
    free(text.at);
}

static void messages_are_one_printable_line(void)
{
    char text[1024];
    snprintf(text, sizeof(text), "enroll = \"a\n\t\\x1b[31m\\x7f\xc3\xa4%s%s\"; topics = ();", X64, X64);
    CU_ASSERT_PTR_NULL(try_load(text));
    CU_ASSERT_PTR_NOT_NULL(strstr(error.text, "enroll is \"a???[31m?\xc3\xa4xxx"));
    CU_ASSERT_PTR_NOT_NULL(strstr(error.text, "x\"; it can be closed or "));
    /* a cut within a character leaves no half of it */
    snprintf(text, sizeof(text), "enroll = \"%.59s\xc3\xa4\"; topics = ();", X64);
    CU_ASSERT_PTR_NULL(try_load(text));
    CU_ASSERT_PTR_NOT_NULL(strstr(error.text, "x?\"; it can be closed or "));
}

static void truncated_anywhere(void)
{
    size_t loaded = 0;
    for (size_t n = 0; n < sizeof(sample); n++) { /* the last one is whole */
        policy *p = load_bytes(sample, n);
        if (p == NULL) {
            char prefix[160];
            snprintf(prefix, sizeof(prefix), "%s:", policy_path);
            CU_ASSERT_EQUAL(strncmp(error.text, prefix, strlen(prefix)), 0);
            CU_ASSERT_PTR_NOT_NULL(strchr(error.text, ';')); /* what would be right */
        } else {
            CU_ASSERT_EQUAL(policy_rule_count(p), 1);
            loaded++;
        }
        policy_free(p);
    }
    CU_ASSERT_EQUAL(loaded, 3); /* ")", ");" and the newline */
}

/* ---- files ---- */

static void faults_of_files(void)
{
    static const char nul[] = "topics =\n\n( \0 );";
    check_error(load_bytes(nul, sizeof(nul) - 1), "policy.conf: holds a NUL byte in line 3; a policy is text");

    char path[128];
    char expected[256];
    snprintf(path, sizeof(path), "%s/absent.conf", folder);
    CU_ASSERT_PTR_NULL(policy_load(&error, path));
    snprintf(expected, sizeof(expected), "%s: cannot be read by user ", path);
    CU_ASSERT_EQUAL(strncmp(error.text, expected, strlen(expected)), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(error.text, ": No such file or directory; check the path and its permissions"));

    snprintf(expected, sizeof(expected), "%s: is not a regular file; a policy is read from files only", folder);
    CU_ASSERT_PTR_NULL(policy_load(&error, folder));
    CU_ASSERT_STRING_EQUAL(error.text, expected);

    snprintf(path, sizeof(path), "%s/fifo", folder);
    CU_ASSERT_EQUAL(mkfifo(path, 0600), 0);
    check_error(policy_load(&error, path), "fifo: is not a regular file; a policy is read from files only");
    check_error(policy_load(&error, path), "fifo: is not a regular file; a policy is read from files only");

    write_file("large.conf", "");
    snprintf(path, sizeof(path), "%s/large.conf", folder);
    CU_ASSERT_EQUAL(truncate(path, 64L * 1024 * 1024 + 1), 0); /* sparse */
    check_error(policy_load(&error, path), "large.conf: is larger than 64 MiB; make it smaller");
    CU_ASSERT_EQUAL(truncate(path, 64L * 1024 * 1024), 0);
    check_error(policy_load(&error, path), "large.conf: holds a NUL byte in line 1; a policy is text");
}

static void long_paths_keep_their_end(void)
{
    char path[1024];
    make_folder();
    snprintf(path, sizeof(path), "%s/%0300d/policy.conf", folder, 0);
    CU_ASSERT_PTR_NULL(policy_load(&error, path));
    CU_ASSERT_EQUAL(strncmp(error.text, "...000", 6), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(error.text, "0/policy.conf: cannot be read by user "));
}

static void relative_path(void)
{
    write_file("policy.conf", "@include \"topics.conf\"\n");
    write_file("topics.conf", "topics = ();");
    char before[4096];
    CU_ASSERT_PTR_NOT_NULL_FATAL(getcwd(before, sizeof(before)));
    CU_ASSERT_EQUAL_FATAL(chdir(folder), 0);
    policy *p = policy_load(&error, "policy.conf");
    CU_ASSERT_PTR_NOT_NULL(p);
    policy_free(p);
    CU_ASSERT_EQUAL(chdir(before), 0);
}

static void in_folder(char *path, size_t size, const char *name)
{
    snprintf(path, size, "%s/%s", folder, name);
}

static void includes(void)
{
    static const char outer[] = "/* @include \"nowhere\" */ # @include \"nowhere\"\n"
                                "groups = { g = [ \"\n@include \\\"nowhere\\\" \"\n] };\n";
    refuse(outer, "4: \"?@include \"nowhere\" \" is no id; " ID_RULE);

    char path[128];
    static const char rules[] = "\n{ filter = \"a\"; signers = [ \"x\" ]; },\n{ filter = \"b\"; signers = [ \"y\" ]; }";
    write_file("rules.conf", rules);
    in_folder(path, sizeof(path), "sub");
    CU_ASSERT_EQUAL(mkdir(path, 0700), 0);
    static const char more[] = ",\t@x";
    write_file("sub/more.conf", more);
    static const char text[] = "topics = (\n"
                               " \t@include \t\"rules.conf\" ,\n"
                               "{ filter = \"c\"; signers = [ \"z\" ]; }\n"
                               ");\n";
    policy *p = load(text);
    CU_ASSERT_EQUAL_FATAL(policy_rule_count(p), 3);
    CU_ASSERT_EQUAL(policy_rule_at(p, 0)->line, 2);
    CU_ASSERT_EQUAL(policy_rule_at(p, 1)->line, 3);
    CU_ASSERT_EQUAL(policy_rule_at(p, 2)->line, 3);
    in_folder(path, sizeof(path), "rules.conf");
    CU_ASSERT_STRING_EQUAL(policy_rule_at(p, 0)->file, path);
    CU_ASSERT_STRING_EQUAL(policy_rule_at(p, 1)->file, path);
    CU_ASSERT_STRING_EQUAL(policy_rule_at(p, 2)->file, policy_path);
    policy_free(p);

    /* a fault names the file that it is in, and the line there; also behind an include */
    check_error(try_load("topics = (\n@include \"sub/more.conf\"\n);"),
                "sub/more.conf:1: an @ that is no include; write @include \"file\" at the beginning of a line");
    write_file("sub/more.conf", "# one\n\n{ filter = 3; }\n");
    check_error(try_load("topics = (\n@include \"sub/more.conf\"\n);"),
                "sub/more.conf:3: filter is not a string; write it like filter = \"sensors/+/telemetry\"");
    write_file("sub/more.conf", "\n");
    refuse("@include \"sub/more.conf\"\n@include \"sub/more.conf\"\n\ntopics = 3;",
           "4: topics is not a list of groups; write it like topics = " TOPICS_EXAMPLE);
}

static void included_paths(void)
{
    char outside[160];
    char link[160];
    char text[512];
    make_folder();
    write_file("empty.conf", "");
    snprintf(outside, sizeof(outside), "%s.conf", folder); /* beside the folder, its name the beginning */
    FILE *file = fopen(outside, "w");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    fclose(file);
    in_folder(link, sizeof(link), "out.conf");
    CU_ASSERT_EQUAL(symlink(outside, link), 0);
    in_folder(link, sizeof(link), "in.conf");
    CU_ASSERT_EQUAL(symlink("empty.conf", link), 0);
    in_folder(link, sizeof(link), "loop.conf");
    CU_ASSERT_EQUAL(symlink("loop.conf", link), 0);
    in_folder(link, sizeof(link), "folder.conf");
    CU_ASSERT_EQUAL(mkdir(link, 0700), 0);

    snprintf(text, sizeof(text),
             "@include \"in.conf\"\n@include \"./empty.conf\"\n@include \"%s/empty.conf\"\ntopics = ();", folder);
    policy_free(load(text));

    static const char *const out = "it lies outside of the policy file's folder; only files within it can be included";
    static const char *const gone = "there is no such file; put it into the policy file's folder";
    const struct {
        const char *name;
        const char *what;
    } cases[] = {
        {outside, out},
        {"/etc/passwd", out},
        {"out.conf", out},
        {"../empty.conf", out},
        {"folder.conf/../empty.conf", out},
        {"..", out},
        {"absent.conf", gone},
        {"loop.conf", gone},
        {"folder.conf", "is not a regular file; a policy is read from files only"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        char expected[512];
        snprintf(text, sizeof(text), "\n\n@include \"%s\"\ntopics = ();", cases[i].name);
        snprintf(expected, sizeof(expected), "3: cannot include \"%s\": %s", cases[i].name, cases[i].what);
        refuse(text, expected);
    }
    unlink(outside);
}

static void faults_of_includes(void)
{
    static const char *const bad[] = {
        "@include",
        "@include \"\"",
        "@include topics",
        "@include \"a",
        "@include\"a\"",
        "@include \"a\\\"\"",
        "@includes \"empty.conf\"",
        "; @include \"empty.conf\"",
        "@",
        "/**/ @include \"empty.conf\"",
        "@include \"a\nb\"",
        "@INCLUDE \"empty.conf\"",
    };
    write_file("empty.conf", "");
    for (size_t i = 0; i < COUNT(bad); i++) {
        char text[128];
        snprintf(text, sizeof(text), "topics = ();\n%s", bad[i]);
        refuse(text, "2: an @ that is no include; write @include \"file\" at the beginning of a line");
    }

    refuse("relays = [ \"\n\n\" ];\n@",
           "4: an @ that is no include; write @include \"file\" at the beginning of a line");

    /* depth: the policy includes 1, 1 includes 2 ... */
    for (int i = 1; i <= 11; i++) {
        char name[32];
        char line[64];
        snprintf(name, sizeof(name), "%d.conf", i);
        snprintf(line, sizeof(line), i == 10 ? "topics = ();" : "@include \"%d.conf\"", i + 1);
        write_file(name, line);
    }
    policy_free(load("@include \"1.conf\""));
    write_file("10.conf", "\n@include \"11.conf\"");
    write_file("11.conf", "topics = ();");
    check_error(try_load("@include \"1.conf\""),
                "10.conf:2: cannot include \"11.conf\": includes nest deeper than 10; does a file include itself?");
    refuse("@include \"policy.conf\"",
           "1: cannot include \"policy.conf\": includes nest deeper than 10; does a file include itself?");
}

/* Ten files that each include the next one ten times would be 10^10 copies of the last one. */
static void includes_cannot_explode(void)
{
    for (int i = 1; i < 10; i++) {
        char name[32];
        builder text = new_builder(512);
        snprintf(name, sizeof(name), "%d.conf", i);
        for (int k = 0; k < 10; k++)
            add(&text, "@include \"%d.conf\"\n", i + 1);
        write_file(name, text.at);
        free(text.at);
    }
    static char large[1024 * 1024];
    memset(large, ' ', sizeof(large));
    write_bytes("10.conf", large, sizeof(large));
    CU_ASSERT_PTR_NULL(try_load("@include \"1.conf\""));
    CU_ASSERT_PTR_NOT_NULL(strstr(error.text, "/10.conf: more than 64 MiB with what it includes; make it smaller"));
}

static void same_text_is_the_same_policy(void)
{
    write_file("part.conf", "relays = [ \"a\" ];");
    policy *one = load("@include \"part.conf\"\ntopics = ();");
    policy *again = load("@include \"part.conf\"\ntopics = ();");
    policy *other = load("@include \"part.conf\"\ntopics = ( );");
    write_file("part.conf", "relays = [ \"b\" ];");
    policy *other_part = load("@include \"part.conf\"\ntopics = ();");
    CU_ASSERT_TRUE(policy_same(one, again));
    CU_ASSERT_FALSE(policy_same(one, other));
    CU_ASSERT_FALSE(policy_same(one, other_part));
    policy_free(one);
    policy_free(again);
    policy_free(other);
    policy_free(other_part);
}

/* ---- which rule ---- */

/* A policy of these filters, in this order, ended by NULL. */
static policy *load_filters(const char *const *filters)
{
    builder text = new_builder(8192);
    add(&text, "topics = (");
    for (size_t i = 0; filters[i] != NULL; i++)
        add(&text, "%s\n{ filter = \"%s\"; signers = [ \"*\" ]; }", i == 0 ? "" : ",", filters[i]);
    add(&text, " );");
    policy *p = load(text.at);
    free(text.at);
    return p;
}

static void wildcards(void)
{
    static const struct {
        const char *filter;
        const char *topic;
        bool matches;
    } cases[] = {
        /* the examples and rules of MQTT 5.0, 4.7.1 */
        {"sport/tennis/player1/#", "sport/tennis/player1", true},
        {"sport/tennis/player1/#", "sport/tennis/player1/ranking", true},
        {"sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true},
        {"sport/tennis/player1/#", "sport/tennis/player10", false},
        {"sport/tennis/player1/#", "sport/tennis", false},
        {"sport/#", "sport", true},
        {"sport/#", "sport/", true},
        {"sport/#", "sports", false},
        {"#", "sport", true},
        {"#", "/", true},
        {"#", "a/b/c", true},
        {"sport/tennis/+", "sport/tennis/player1", true},
        {"sport/tennis/+", "sport/tennis/player1/ranking", false},
        {"sport/+", "sport", false},
        {"sport/+", "sport/", true},
        {"+", "finance", true},
        {"+", "/finance", false},
        {"/+", "/finance", true},
        {"+/+", "/finance", true},
        {"+/+", "/", true},
        {"+/tennis/#", "sport/tennis", true},
        {"+/tennis/#", "sport/tennis/a/b", true},
        {"sport/+/player1", "sport/tennis/player1", true},
        {"sport/+/player1", "sport//player1", true},
        {"sport/+/player1", "sport/player1", false},
        {"sport/+/player1", "sport/a/b/player1", false},
        {"+/#", "a", true},
        {"+/#", "/", true},
        /* 4.7.2: a leading wildcard leaves $ topics alone, others do not */
        {"#", "$SYS", false},
        {"#", "$SYS/monitor/clients", false},
        {"+/monitor/clients", "$SYS/monitor/clients", false},
        {"+", "$SYS", false},
        {"+/#", "$SYS/a", false},
        {"$SYS/#", "$SYS", true},
        {"$SYS/#", "$SYS/monitor/clients", true},
        {"$SYS/monitor/+", "$SYS/monitor/clients", true},
        {"+/+", "a/$b", true},
        {"a/#", "a/$b", true},
        {"/+", "/$b", true},
        /* 4.7.3: case, blanks and empty levels all count */
        {"ACCOUNTS", "Accounts", false},
        {"Accounts payable", "Accounts payable", true},
        {"/finance", "finance", false},
        {"finance", "finance/", false},
        {"a//b", "a//b", true},
        {"a//b", "a/b", false},
        {"a/b", "a//b", false},
        {"a//#", "a/", true},
        {"a//#", "a", false},
        {"/", "/", true},
        {"//", "/", false},
        {"/#", "/", true},
        {"/#", "", false},
        {"a/b/c", "a/b", false},
        {"a/b", "a/b/c", false},
        {"ab", "a", false},
        {"a", "ab", false},
        /* bytes are compared, nothing else */
        {"\xc3\xa4/+", "\xc3\xa4/\xc3\xb6", true},
        {"\xc3\xa4", "a\xcc\x88", false},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        const char *const filters[] = {cases[i].filter, NULL};
        policy *p = load_filters(filters);
        if ((match(p, cases[i].topic) != NULL) != cases[i].matches)
            printf("\n    %s with %s\n", cases[i].filter, cases[i].topic);
        CU_ASSERT_EQUAL(match(p, cases[i].topic) != NULL, cases[i].matches);
        policy_free(p);
    }
}

static void length_ends_the_topic(void)
{
    static const char *const filters[] = {"a/b", "a", "+/b/#", NULL};
    policy *p = load_filters(filters);
    CU_ASSERT_PTR_EQUAL(policy_match(p, "a/bc", 3), policy_rule_at(p, 0));
    CU_ASSERT_PTR_EQUAL(policy_match(p, "a/bc", 1), policy_rule_at(p, 1));
    CU_ASSERT_PTR_NULL(policy_match(p, "a/bc", 4));
    CU_ASSERT_PTR_NULL(policy_match(p, "a/bc", 0));
    policy_free(p);
}

static void most_specific_wins(void)
{
    static const char *const filters[] = {"#",   "+/+/d", "a/#",   "a/b/c", "a/+/d", "a/b/#", "+/b/c", "a",
                                          "a/+", "+",     "+/x/#", "x/+/y", "x/#",   "/",     "/+",    NULL};
    static const struct {
        const char *topic;
        const char *filter;
    } cases[] = {
        {"a/b/c", "a/b/c"}, {"a/b/d", "a/b/#"},   {"a/x/d", "a/+/d"},   {"a/x/e", "a/#"}, {"z/x/d", "+/x/#"},
        {"z/y/d", "+/+/d"}, {"z/b/c", "+/b/c"},   {"z/b/e", "#"},       {"a", "a"},       {"a/b", "a/b/#"},
        {"a/z", "a/+"},     {"z", "+"},           {"z/x", "+/x/#"},     {"x", "x/#"},     {"x/q/y", "x/+/y"},
        {"x/q/z", "x/#"},   {"a/b/c/d", "a/b/#"}, {"q/b/c/d/e/f", "#"}, {"/", "/"},       {"/q", "/+"},
        {"/q/r", "#"},
    };
    policy *p = load_filters(filters);
    for (size_t i = 0; i < COUNT(cases); i++) {
        const policy_rule *rule = match(p, cases[i].topic);
        CU_ASSERT_STRING_EQUAL(rule == NULL ? "none" : rule->filter, cases[i].filter);
    }
    policy_free(p);
}

static void goes_back_to_the_wildcard(void)
{
    static const char *const filters[] = {"a/b/c", "a/+/d", "+/b/e/f", "a/b/e/g", "+/+/e/h", NULL};
    policy *p = load_filters(filters);
    CU_ASSERT_PTR_EQUAL(match(p, "a/b/d"), policy_rule_at(p, 1));
    CU_ASSERT_PTR_EQUAL(match(p, "a/b/e/f"), policy_rule_at(p, 2));
    CU_ASSERT_PTR_EQUAL(match(p, "a/b/e/h"), policy_rule_at(p, 4));
    CU_ASSERT_PTR_NULL(match(p, "a/b/e/i"));
    policy_free(p);
}

/* The rule as its definition says it, level by level: what the trie is held against. */
static bool matches_plainly(const char *filter, const char *topic)
{
    if (topic[0] == '$' && (filter[0] == '+' || filter[0] == '#'))
        return false;
    for (;;) {
        if (filter[0] == '#')
            return true;
        size_t f = strcspn(filter, "/");
        size_t t = strcspn(topic, "/");
        if (filter[0] != '+' && (f != t || memcmp(filter, topic, f) != 0))
            return false;
        if (topic[t] == '\0')
            return filter[f] == '\0' || strcmp(filter + f, "/#") == 0;
        if (filter[f] == '\0')
            return false;
        filter += f + 1;
        topic += t + 1;
    }
}

static int rank(const char *level)
{
    return level[0] == '#' ? 2 : level[0] == '+' ? 1 : 0;
}

/* True where `a` is more specific; both match one topic. A filter that has ended comes before one that goes on. */
static bool more_specific(const char *a, const char *b)
{
    while (rank(a) == rank(b)) {
        size_t an = strcspn(a, "/");
        size_t bn = strcspn(b, "/");
        if (a[an] == '\0' || b[bn] == '\0')
            return a[an] == '\0';
        a += an + 1;
        b += bn + 1;
    }
    return rank(a) < rank(b);
}

static unsigned dice(unsigned sides)
{
    static unsigned state = 1;
    state = state * 1664525u + 1013904223u;
    return (state >> 16) % sides;
}

/* 1 to 5 levels out of few words, so that filters overlap a lot. */
static void random_levels(char out[32], const char *const *words, unsigned count, bool is_filter)
{
    builder text = {.at = out, .cap = 32};
    for (unsigned left = 1 + dice(5); left > 0; left--) {
        const char *word = is_filter && left == 1 && dice(3) == 0 ? "#" : words[dice(count)];
        add(&text, "%s%s", word, left > 1 ? "/" : "");
    }
}

static const char *find_plainly(char filters[][32], size_t n, const char *topic)
{
    const char *best = NULL;
    for (size_t i = 0; i < n; i++)
        if (matches_plainly(filters[i], topic) && (best == NULL || more_specific(filters[i], best)))
            best = filters[i];
    return best;
}

static void agrees_with_the_definition(void)
{
    static const char *const words[] = {"a", "b", "", "$c", "+"};
    size_t hits = 0;
    for (int round = 0; round < 100; round++) {
        char filters[40][32];
        const char *list[41] = {NULL};
        size_t n = 0;
        while (n < 40) {
            random_levels(filters[n], words, 5, true);
            bool fresh = filters[n][0] != '\0';
            for (size_t i = 0; i < n; i++)
                fresh = fresh && strcmp(filters[i], filters[n]) != 0;
            list[n] = filters[n];
            n += fresh;
        }
        policy *p = load_filters(list);
        for (int i = 0; i < 200; i++) {
            char topic[32];
            random_levels(topic, words, 4, false);
            const char *expected = topic[0] == '\0' ? NULL : find_plainly(filters, n, topic);
            const policy_rule *rule = match(p, topic);
            CU_ASSERT_EQUAL(rule != NULL, expected != NULL);
            if (rule != NULL && expected != NULL)
                CU_ASSERT_STRING_EQUAL(rule->filter, expected);
            hits += rule != NULL;
        }
        policy_free(p);
    }
    CU_ASSERT_TRUE(hits > 5000);
}

static void a_hundred_thousand_rules(void)
{
    const int n = 100000;
    builder text = new_builder((size_t)n * 96 + 64);
    add(&text, "topics = (\n{ filter = \"#\"; signers = [ \"*\" ]; }");
    for (int i = 0; i < n; i++) /* very many siblings, and a wildcard under every other one */
        add(&text, ",\n{ filter = \"plant/dev%d/%s\"; signers = [ \"dev%d\" ]; }", i, i % 2 == 0 ? "telemetry" : "+",
            i);
    add(&text, " );");
    policy *p = load(text.at);
    free(text.at);
    CU_ASSERT_EQUAL(policy_rule_count(p), (size_t)n + 1);
    size_t wrong = 0;
    for (int i = 0; i < n; i++) {
        char topic[64];
        char id[16];
        snprintf(topic, sizeof(topic), "plant/dev%d/telemetry", i);
        snprintf(id, sizeof(id), "dev%d", i);
        const policy_rule *rule = match(p, topic);
        wrong += rule != policy_rule_at(p, (size_t)i + 1) || rule->line != i + 3;
        wrong += !policy_may_sign(rule, topic, strlen(topic), id, NULL) ||
                 policy_may_sign(rule, topic, strlen(topic), "dev", NULL);
        snprintf(topic, sizeof(topic), "plant/dev%d/other", i);
        wrong += match(p, topic) != policy_rule_at(p, i % 2 == 0 ? 0 : (size_t)i + 1);
    }
    CU_ASSERT_EQUAL(wrong, 0);
    CU_ASSERT_PTR_EQUAL(match(p, "plant/dev100000/telemetry"), policy_rule_at(p, 0));
    policy_free(p);
}

/* ---- who may sign ---- */

static void ids_and_groups(void)
{
    policy *p = load("groups = { two = [ \"g2\", \"g1\" ]; none = [ ]; };\n"
                     "admins = ( \"a2\", \"@two\", \"a1\", \"@none\" );\n"
                     "relays = ( \"r2\", \"r1\", \"A.Z_a:z@0-9\" );\n"
                     "topics = ( { filter = \"t/+\"; signers = [ \"c\", \"@none\", \"a\", \"@two\", \"b\" ]; },\n"
                     "           { filter = \"any/+\"; signers = [ \"a\", \"*\" ]; } );");
    static const char *const allowed[] = {"a", "b", "c", "g1", "g2"};
    static const char *const refused[] = {"", "aa", "A", "d", "two", "@two", "none", "g", "g11", "*", "%1", "x"};
    for (size_t i = 0; i < COUNT(allowed); i++)
        CU_ASSERT_TRUE(may_sign(p, "t/x", allowed[i]));
    for (size_t i = 0; i < COUNT(refused); i++)
        CU_ASSERT_FALSE(may_sign(p, "t/x", refused[i]));
    CU_ASSERT_TRUE(may_sign(p, "any/x", "whoever"));
    static const char *const admins[] = {"a1", "a2", "g1", "g2"};
    for (size_t i = 0; i < COUNT(admins); i++)
        CU_ASSERT_TRUE(policy_is_admin(p, admins[i], NULL));
    CU_ASSERT_FALSE(policy_is_admin(p, "a", NULL));
    CU_ASSERT_FALSE(policy_is_admin(p, "r1", NULL));
    CU_ASSERT_TRUE(policy_is_relay(p, "r1"));
    CU_ASSERT_TRUE(policy_is_relay(p, "r2"));
    CU_ASSERT_TRUE(policy_is_relay(p, "A.Z_a:z@0-9"));
    CU_ASSERT_FALSE(policy_is_relay(p, "a1"));
    CU_ASSERT_FALSE(policy_is_relay(p, ""));
    policy_free(p);
}

static void signers_do_not_leak_between_rules(void)
{
    policy *p =
        load("topics = ( { filter = \"a\"; signers = [ \"x\" ]; }, { filter = \"b\"; signers = [ \"y\" ]; } );");
    CU_ASSERT_TRUE(may_sign(p, "a", "x"));
    CU_ASSERT_FALSE(may_sign(p, "a", "y"));
    CU_ASSERT_TRUE(may_sign(p, "b", "y"));
    CU_ASSERT_FALSE(may_sign(p, "b", "x"));
    policy_free(p);
}

static void wildcard_signers(void)
{
    policy *p = load("topics = ( { filter = \"+/x/+/#\"; signers = [ \"%2\" ]; },\n"
                     "           { filter = \"y/+/+\"; signers = [ \"%1\", \"%2\", \"boss\" ]; },\n"
                     "           { filter = \"/+\"; signers = [ \"%1\" ]; } );");
    CU_ASSERT_TRUE(may_sign(p, "a/x/b/c", "b"));
    CU_ASSERT_TRUE(may_sign(p, "a/x/b", "b"));
    CU_ASSERT_FALSE(may_sign(p, "a/x/b/c", "a"));
    CU_ASSERT_FALSE(may_sign(p, "a/x/b/c", "x"));
    CU_ASSERT_FALSE(may_sign(p, "a/x/b/c", "c"));
    CU_ASSERT_FALSE(may_sign(p, "a/x/bb/c", "b"));
    CU_ASSERT_FALSE(may_sign(p, "a/x/b/c", "bb"));
    CU_ASSERT_FALSE(may_sign(p, "a/x//c", "b"));
    CU_ASSERT_TRUE(may_sign(p, "y/a/b", "a"));
    CU_ASSERT_TRUE(may_sign(p, "y/a/b", "b"));
    CU_ASSERT_TRUE(may_sign(p, "y/a/b", "boss"));
    CU_ASSERT_FALSE(may_sign(p, "y/a/b", "y"));
    CU_ASSERT_TRUE(may_sign(p, "/a", "a"));
    CU_ASSERT_FALSE(may_sign(p, "/a", ""));
    /* a topic that the rule does not match names nobody, and is not read beyond its end */
    const policy_rule *rule = match(p, "a/x/b");
    CU_ASSERT_FALSE(policy_may_sign(rule, "a/x/b", 3, "b", NULL));
    CU_ASSERT_FALSE(policy_may_sign(rule, "a/x/bc", 5, "bc", NULL));
    CU_ASSERT_TRUE(policy_may_sign(rule, "a/x/bc", 5, "b", NULL));
    policy_free(p);
}

static void signers_as_text(void)
{
    static const char *const expected[] = {"*", "%2", "@ops", "a", "dev-1"};
    char text[128];
    policy *p =
        load("groups = { ops = [ \"x\" ]; };\n"
             "topics = ( { filter = \"a/+/b/+/#\"; signers = [ \"dev-1\", \"%2\", \"@ops\", \"*\", \"a\" ]; } );");
    const policy_rule *rule = policy_rule_at(p, 0);
    for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
        CU_ASSERT_TRUE(policy_signer_text(text, sizeof(text), rule, i));
        CU_ASSERT_STRING_EQUAL(text, expected[i]);
    }
    CU_ASSERT_FALSE(policy_signer_text(text, sizeof(text), rule, sizeof(expected) / sizeof(expected[0])));
    policy_free(p);
}

static void reserved_topics(void)
{
    static const char *const reserved[] = {"$PEP",
                                           "$PEP/keys/a",
                                           "$share/g/t",
                                           "$share",
                                           "$SYS/broker/pep/refused/x",
                                           "$CONTROL/pep",
                                           "$CONTROL/pep/v1/response",
                                           "$CONTROL/pep/v2"};
    static const char *const others[] = {"PEP",
                                         "$PEPPER",
                                         "$SYS/broker",
                                         "$SYS/broker/peppers",
                                         "a/$PEP",
                                         "$SHARE/g",
                                         "$CONTROL/peppers",
                                         "$CONTROL/dynamic-security/v1",
                                         POLICY_CONTROL_TOPIC};
    for (size_t i = 0; i < sizeof(reserved) / sizeof(reserved[0]); i++)
        CU_ASSERT_TRUE(policy_reserved(reserved[i]));
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
        CU_ASSERT_FALSE(policy_reserved(others[i]));
}

static void directory_keys(void)
{
    policy *p = load("topics = ();");
    CU_ASSERT_EQUAL(policy_directory_of(p), POLICY_RETAINED);
    CU_ASSERT_EQUAL(policy_max_records(p), POLICY_DEFAULT_MAX_RECORDS);
    policy_free(p);
    p = load("directory = \"on-request\"; max_records = 12; topics = ();");
    CU_ASSERT_EQUAL(policy_directory_of(p), POLICY_ON_REQUEST);
    CU_ASSERT_EQUAL(policy_max_records(p), 12);
    policy_free(p);
    p = load("enroll = \"open\"; max_records = 1; topics = ();");
    CU_ASSERT_EQUAL(policy_enroll_of(p), POLICY_ENROLL_OPEN);
    policy_free(p);
    refuse("max_records = 0; topics = ();", "1: max_records is 0, so nobody could be known; write it like "
                                            "max_records = 100000");
    refuse("max_records = 10000001; topics = ();", "1: max_records is out of range; it can be 0 to 10000000");
    refuse("enroll = \"open\"; topics = ();", "1: enroll is \"open\", so anybody can fill the disk; say how many "
                                              "records there may be: max_records = 1000");
}

/* Names as certificates have them: each with its NUL, and one more. */
static void groups_of_certificates(void)
{
    policy *p = load("authority = [ \"" KEY_A "\" ]; groups = { ops = [ \"o1\" ]; };\n"
                     "admins = [ \"a1\", \"@ops\", \"@chiefs\" ];\n"
                     "topics = ( { filter = \"t\"; signers = [ \"@fleet\", \"@ops\" ]; } );");
    const policy_rule *rule = policy_rule_at(p, 0);
    CU_ASSERT_TRUE(policy_may_sign(rule, "t", 1, "o1", NULL));
    CU_ASSERT_TRUE(policy_may_sign(rule, "t", 1, "x", "ops\0"));
    CU_ASSERT_TRUE(policy_may_sign(rule, "t", 1, "x", "a\0fleet\0"));
    CU_ASSERT_FALSE(policy_may_sign(rule, "t", 1, "x", NULL));
    CU_ASSERT_FALSE(policy_may_sign(rule, "t", 1, "x", ""));
    CU_ASSERT_FALSE(policy_may_sign(rule, "t", 1, "x", "chiefs\0flee\0fleets\0"));
    CU_ASSERT_FALSE(policy_may_sign(rule, "t", 1, "fleet", NULL));
    CU_ASSERT_TRUE(policy_is_admin(p, "x", "chiefs\0"));
    CU_ASSERT_FALSE(policy_is_admin(p, "x", "fleet\0"));
    CU_ASSERT_FALSE(policy_is_admin(p, "chiefs", NULL));
    static const char *const entries[] = {"a1", "o1", "@ops", "@chiefs"};
    for (size_t i = 0; i < COUNT(entries); i++)
        CU_ASSERT_STRING_EQUAL(policy_admin_at(p, i), entries[i]);
    CU_ASSERT_PTR_NULL(policy_admin_at(p, COUNT(entries)));
    const char *first = NULL;
    CU_ASSERT_EQUAL(policy_undefined_groups(p, &first), 2);
    CU_ASSERT_STRING_EQUAL(first, "fleet");
    policy_free(p);
    refuse("authority = [ \"" KEY_A "\" ]; admins = [ \"@x\", \"@x\" ]; topics = ();",
           "1: \"@x\" stands here twice; keep one");
    refuse("authority = [ \"" KEY_A "\" ]; admins = [ \"@\" ]; topics = ();",
           "1: there is no group @; define it: groups = {  = [ \"console\" ]; };");
}

static const unit_test tests[] = {
    {"the keys of the directory", directory_keys},
    {"groups of certificates", groups_of_certificates},
    {"the sample policy means what it says", sample_means_what_it_says},
    {"defaults", defaults},
    {"every word of enroll, bind and the rules", every_word},
    {"durations", durations},
    {"sizes", sizes},
    {"faults of the top level", faults_of_the_top_level},
    {"faults of authorities", faults_of_authorities},
    {"faults of rules", faults_of_rules},
    {"faults of signers", faults_of_signers},
    {"faults of filters", faults_of_filters},
    {"limits of filters", limits_of_filters},
    {"prefixes: limits", limits_of_prefixes},
    {"faults of syntax", faults_of_syntax},
    {"too many settings", too_many_settings},
    {"too many rules", too_many_rules},
    {"messages are one printable line", messages_are_one_printable_line},
    {"truncated anywhere", truncated_anywhere},
    {"faults of files", faults_of_files},
    {"long paths keep their end", long_paths_keep_their_end},
    {"relative path", relative_path},
    {"includes", includes},
    {"included paths", included_paths},
    {"faults of includes", faults_of_includes},
    {"includes cannot explode", includes_cannot_explode},
    {"same text is the same policy", same_text_is_the_same_policy},
    {"wildcards", wildcards},
    {"the length ends the topic", length_ends_the_topic},
    {"the most specific filter wins", most_specific_wins},
    {"goes back to the wildcard", goes_back_to_the_wildcard},
    {"agrees with the definition", agrees_with_the_definition},
    {"a hundred thousand rules", a_hundred_thousand_rules},
    {"ids and groups", ids_and_groups},
    {"signers do not leak between rules", signers_do_not_leak_between_rules},
    {"wildcard signers", wildcard_signers},
    {"signers as text", signers_as_text},
    {"reserved topics", reserved_topics},
};

UNIT_MAIN("policy", tests)
