/* Commands to a gate: their JSON, byte for byte, and the envelope around it. */
#include "pep.h"

#include <cjson/cJSON.h>

#include "chain.h"
#include "unit.h"

static char json[PEP_COMMAND_JSON_MAX];

static const pep_view some = {(const uint8_t *)"\xff\xfe\x00", 3}; /* "__4A" in base64url */
static const pep_view none = {NULL, 0};
static const uint8_t kid[PEP_KID_BYTES] = {0x00, 0x01, 0xab, 0xff};

#define KID_TEXT "0001abff000000000000000000000000"

static void expect(pep_reason reason, const char *text)
{
    CU_ASSERT_EQUAL(reason, PEP_OK);
    CU_ASSERT_STRING_EQUAL(json, text);
    cJSON *parsed_json = cJSON_Parse(json);
    CU_ASSERT_PTR_NOT_NULL(parsed_json);
    cJSON_Delete(parsed_json);
}

static void expect_refused(pep_reason reason)
{
    CU_ASSERT_EQUAL(reason, PEP_BAD_ARGUMENT);
    CU_ASSERT_STRING_EQUAL(json, "");
    snprintf(json, sizeof json, "what was there before");
}

#define COMMAND(name, members) "{\"commands\":[{\"command\":\"" name "\"" members "}]}"

static void test_json(void)
{
    expect(pep_command_enroll(json, NULL, some, none, none), COMMAND("enroll", ",\"record\":\"__4A\""));
    expect(pep_command_enroll(json, "a.b_c-1", some, some, some),
           COMMAND("enroll", ",\"record\":\"__4A\",\"certificate\":\"__4A\",\"proof\":\"__4A\","
                             "\"correlationData\":\"a.b_c-1\""));
    expect(pep_command_rotate(json, NULL, some, none), COMMAND("rotate", ",\"rotation\":\"__4A\""));
    expect(pep_command_rotate(json, NULL, some, some),
           COMMAND("rotate", ",\"rotation\":\"__4A\",\"certificate\":\"__4A\""));
    expect(pep_command_revoke(json, NULL, some), COMMAND("revoke", ",\"revocation\":\"__4A\""));
    expect(pep_command_token(json, "", "a:b@c.d", kid, PEP_SEQ_MAX),
           COMMAND("token", ",\"id\":\"a:b@c.d\",\"token\":\"" KID_TEXT
                            "\",\"expires\":9007199254740991,\"correlationData\":\"\""));
    expect(pep_command_lookup_id(json, NULL, "pump-7"), COMMAND("lookup", ",\"id\":\"pump-7\""));
    expect(pep_command_lookup_kid(json, NULL, kid), COMMAND("lookup", ",\"kid\":\"" KID_TEXT "\""));
    expect(pep_command_history(json, NULL, "pump-7", 0), COMMAND("history", ",\"id\":\"pump-7\""));
    expect(pep_command_history(json, NULL, "pump-7", 32), COMMAND("history", ",\"id\":\"pump-7\",\"after\":32"));
    expect(pep_command_list(json, NULL, NULL), COMMAND("list", ""));
    expect(pep_command_list(json, "x", "pump-7"), COMMAND("list", ",\"after\":\"pump-7\",\"correlationData\":\"x\""));
    expect(pep_command_status(json, NULL), COMMAND("status", ""));
}

static void test_ids(void)
{
    static const char *const bad[] = {
        "",         "a\"", "a\\",
        "a b",      "a/b", "a\n",
        "\xc3\xa4", NULL,  "01234567890123456789012345678901234567890123456789012345678901234"};
    for (size_t i = 0; i < COUNT(bad); i++) {
        expect_refused(pep_command_token(json, NULL, bad[i], kid, 1));
        expect_refused(pep_command_lookup_id(json, NULL, bad[i]));
        expect_refused(pep_command_history(json, NULL, bad[i], 1));
        if (bad[i] != NULL)
            expect_refused(pep_command_list(json, NULL, bad[i]));
    }
}

static void test_correlation(void)
{
    static const char *const bad[] = {
        "\"", "\\", " ", "a\nb", "\xc3\xa4", "{", "01234567890123456789012345678901234567890123456789012345678901234"};
    for (size_t i = 0; i < COUNT(bad); i++)
        expect_refused(pep_command_status(json, bad[i]));
    CU_ASSERT_EQUAL(pep_command_status(json, "0123456789012345678901234567890123456789012345678901234567890123"),
                    PEP_OK);
}

static void test_sizes(void)
{
    static const uint8_t bytes[PEP_STATEMENT_BYTES_MAX + 1];
    static const char correlation[] = "0123456789012345678901234567890123456789012345678901234567890123";
    const pep_view record = {bytes, PEP_RECORD_BYTES_MAX};
    const pep_view statement = {bytes, PEP_STATEMENT_BYTES_MAX};
    const pep_view certificate = {bytes, PEP_CERTIFICATE_BYTES_MAX};
    const pep_view proof = {bytes, PEP_PROOF_BYTES_MAX};
    const pep_view empty = {bytes, 0};
    CU_ASSERT_EQUAL(pep_command_enroll(json, correlation, record, certificate, proof), PEP_OK);
    CU_ASSERT_EQUAL(pep_command_rotate(json, correlation, statement, certificate), PEP_OK);
    CU_ASSERT_EQUAL(pep_command_revoke(json, correlation, statement), PEP_OK);
    expect_refused(pep_command_enroll(json, NULL, (pep_view){bytes, record.n + 1}, none, none));
    expect_refused(pep_command_enroll(json, NULL, record, (pep_view){bytes, certificate.n + 1}, none));
    expect_refused(pep_command_enroll(json, NULL, record, none, (pep_view){bytes, proof.n + 1}));
    expect_refused(pep_command_enroll(json, NULL, empty, none, none));
    expect_refused(pep_command_enroll(json, NULL, none, none, none));
    expect_refused(pep_command_enroll(json, NULL, record, empty, none));
    expect_refused(pep_command_enroll(json, NULL, record, none, empty));
    expect_refused(pep_command_rotate(json, NULL, (pep_view){bytes, statement.n + 1}, none));
    expect_refused(pep_command_rotate(json, NULL, none, none));
    expect_refused(pep_command_revoke(json, NULL, (pep_view){bytes, statement.n + 1}));
    expect_refused(pep_command_revoke(json, NULL, none));
    expect_refused(pep_command_token(json, NULL, "a", kid, PEP_SEQ_MAX + 1));
    expect_refused(pep_command_history(json, NULL, "a", PEP_SEQ_MAX + 1));
}

/* ---- the envelope ---- */

static void test_seal(void)
{
    uint8_t out[1024];
    size_t n;
    uint8_t work[PEP_WORK_BYTES(sizeof out)];
    pep_envelope e;
    pep_device device = device_of("pump-7", 1);
    const pep_view text = {(const uint8_t *)"{}", 2};
    const pep_command command = {.from = &device, .seq = 77, .gate_kid = kid, .now_s = 1000};
    CU_ASSERT_EQUAL_FATAL(pep_command_seal(out, &n, text.n + 256, &command, text), PEP_OK);
    CU_ASSERT_EQUAL_FATAL(pep_parse(&e, out, n), PEP_OK);
    CU_ASSERT_EQUAL(e.mode, PEP_MODE_SIGNED);
    CU_ASSERT_EQUAL(e.flags, PEP_FLAG_SIGNED_ONLY);
    CU_ASSERT_EQUAL(e.seq, 77);
    CU_ASSERT_EQUAL(e.exp_s, 1000 + PEP_COMMAND_LIFE_S);
    CU_ASSERT(e.topic.n == strlen(PEP_CONTROL_TOPIC) && memcmp(e.topic.p, PEP_CONTROL_TOPIC, e.topic.n) == 0);
    CU_ASSERT(e.audience != NULL && memcmp(e.audience, kid, PEP_KID_BYTES) == 0);
    CU_ASSERT(e.payload.n == 3 && memcmp(e.payload.p, "\xa0{}", 3) == 0);
    CU_ASSERT_EQUAL(pep_verify_key(work, sizeof work, &e, device.sign_public), PEP_OK);
    CU_ASSERT_EQUAL(pep_verify_key(work, sizeof work, &e, device_of("pump-8", 1).sign_public), PEP_BAD_SIGNATURE);
    CU_ASSERT_EQUAL(pep_verify_key(work, 10, &e, device.sign_public), PEP_BUFFER_TOO_SMALL);
}

/* json.n + 256 is enough, whatever the lengths. */
static void test_seal_room(void)
{
    static uint8_t out[70000];
    static const uint8_t text[66000];
    static const size_t sizes[] = {0, 1, 22, 23, 24, 254, 255, 256, 65534, 65535, 65536};
    size_t n;
    pep_device device = device_of("pump-7", 1);
    const pep_command command = {.from = &device, .seq = PEP_SEQ_MAX, .gate_kid = kid, .now_s = UINT64_MAX / 2};
    for (size_t i = 0; i < COUNT(sizes); i++)
        CU_ASSERT_EQUAL(pep_command_seal(out, &n, sizes[i] + 256, &command, (pep_view){text, sizes[i]}), PEP_OK);
}

static void test_seal_refused(void)
{
    uint8_t out[1024];
    size_t n;
    pep_device device = device_of("pump-7", 1);
    const pep_view text = {(const uint8_t *)"{}", 2};
    pep_command command = {.from = &device, .seq = 77, .gate_kid = NULL, .now_s = 1000};
    CU_ASSERT_EQUAL(pep_command_seal(out, &n, sizeof out, &command, text), PEP_BAD_ARGUMENT);
    command.gate_kid = kid;
    command.seq = 0;
    CU_ASSERT_EQUAL(pep_command_seal(out, &n, sizeof out, &command, text), PEP_BAD_ARGUMENT);
    command.seq = 1;
    CU_ASSERT_EQUAL(pep_command_seal(out, &n, 20, &command, text), PEP_BUFFER_TOO_SMALL);
    command.from = NULL;
    CU_ASSERT_EQUAL(pep_command_seal(out, &n, sizeof out, &command, text), PEP_BAD_ARGUMENT);
    CU_ASSERT_EQUAL(n, 0);
}

/* An application that is given the topic by somebody signs no command. */
static void test_applications_cannot(void)
{
    static const char *const topics[] = {PEP_CONTROL_TOPIC, "$", "$PEP/keys/a", ""};
    uint8_t out[1024];
    size_t n;
    pep_device device = device_of("pump-7", 1);
    for (size_t i = 0; i < COUNT(topics); i++) {
        const pep_message message = {.from = &device,
                                     .topic = {(const uint8_t *)topics[i], strlen(topics[i])},
                                     .seq = 1,
                                     .flags = PEP_FLAG_SIGNED_ONLY};
        CU_ASSERT_EQUAL(pep_seal(out, &n, sizeof out, &message), PEP_BAD_ARGUMENT);
        CU_ASSERT_EQUAL(n, 0);
    }
}

static void test_start(void)
{
    CU_ASSERT_EQUAL(pep_init(), PEP_OK);
}

static const unit_test tests[] = {
    {"the library starts", test_start},
    {"JSON, byte for byte", test_json},
    {"ids that are none", test_ids},
    {"correlation data", test_correlation},
    {"sizes", test_sizes},
    {"sealed", test_seal},
    {"sealed: the room it needs", test_seal_room},
    {"sealed: refused", test_seal_refused},
    {"an application cannot", test_applications_cannot},
};

UNIT_MAIN("commands", tests)
