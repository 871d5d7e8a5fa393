/*
 * Promise: who may speak is decided by how the operator lets devices in; a device speaks from the moment on in which it
 * reads that it was let in, and no id or key that was ever one's becomes another's.
 */
#include "ask.h"
#include "tests/unit/unit.h"

#include <string.h>

#define HOUR_S 3600ull

static stage s;
static asker a;
static client *from;

static void set(const char *policy, const char *conf, mqtt_version version)
{
    stage_set(&s, policy, conf);
    asker_open(&a, (client_spec){.port = s.b.port, .id = "asker", .version = version});
    from = client_open((client_spec){.port = s.b.port, .id = "from", .version = MQTT_5});
}

static void strike(void)
{
    client_close(from);
    asker_close(&a);
    stage_strike(&s);
}

static bool speaks(const member *m)
{
    sealed e = reading_of(m, "t/a");
    return stage_passes(&s, from, "t/a", &e, 1, false);
}

static bool is_unknown(const member *m)
{
    sealed e = reading_of(m, "t/a");
    return stage_refuses(&s, from, "t/a", &e, 1, false, PEP_UNKNOWN_SIGNER);
}

/* ---- each mode ---- */

static void closed_lets_nobody_in(void)
{
    member m;
    set(DIRECTORY_POLICY("closed", ""), CONF_GUARDED, MQTT_3);
    member_make(&m, "dora");
    CU_ASSERT_EQUAL(ask_enroll(&a, &m), PEP_CLOSED);
    CU_ASSERT_TRUE(is_unknown(&m));
    member_wipe(&m);
    strike();
}

static void open_lets_in_at_once(mqtt_version version)
{
    member m;
    set(OPEN_POLICY, CONF_ENROLLING, version);
    member_make(&m, "dora");
    CU_ASSERT_TRUE(is_unknown(&m));
    CU_ASSERT_EQUAL(ask_enroll(&a, &m), PEP_OK);
    CU_ASSERT_TRUE(speaks(&m));
    CU_ASSERT_TRUE(ask_knows(&a, &m));
    CU_ASSERT_EQUAL(ask_enroll(&a, &m), PEP_OK); /* the answer may have been lost */
    CU_ASSERT_TRUE(speaks(&m));
    member_wipe(&m);
    strike();
}

static void open_lets_in_over_3_1_1(void)
{
    open_lets_in_at_once(MQTT_3);
}

static void open_lets_in_over_5(void)
{
    open_lets_in_at_once(MQTT_5);
}

static void open_lets_no_admin_in(void)
{
    set(DIRECTORY_POLICY("open", "max_records = 1000; admins = [ \"alice\", \"console\" ];"), CONF_GUARDED, MQTT_3);
    member m;
    member_make(&m, "console");
    CU_ASSERT_EQUAL(ask_enroll(&a, &m), PEP_CLOSED);
    CU_ASSERT_TRUE(is_unknown(&m));
    member_wipe(&m);
    member_make(&m, "dora");
    CU_ASSERT_EQUAL(ask_enroll(&a, &m), PEP_OK);
    CU_ASSERT_TRUE(speaks(&m));
    member_wipe(&m);
    strike();
}

static void a_device_rotates_ten_times_an_hour(void)
{
    member m;
    set(OPEN_POLICY, CONF_ENROLLING, MQTT_3);
    member_make(&m, "dora");
    CU_ASSERT_EQUAL(ask_enroll(&a, &m), PEP_OK);
    for (int i = 0; i < 10; i++)
        CU_ASSERT_EQUAL(ask_rotate(&a, &m, pep_now_us()), PEP_OK);
    CU_ASSERT_EQUAL(ask_rotate(&a, &m, pep_now_us()), PEP_TOO_MANY);
    member_wipe(&m);
    strike();
}

static void who_was_let_in_stays(void)
{
    member m;
    set(OPEN_POLICY, CONF_ENROLLING, MQTT_3);
    member_make(&m, "dora");
    CU_ASSERT_EQUAL(ask_enroll(&a, &m), PEP_OK);
    for (int hard = 0; hard <= 1; hard++) {
        client_close(from);
        asker_close(&a);
        stage_restart(&s, hard == 1);
        asker_open(&a, (client_spec){.port = s.b.port, .id = "asker"});
        from = client_open((client_spec){.port = s.b.port, .id = "from", .version = MQTT_5});
        CU_ASSERT_TRUE(speaks(&m));
        CU_ASSERT_TRUE(ask_knows(&a, &m));
    }
    member_wipe(&m);
    strike();
}

/* ---- authority ---- */

static pep_authority ours, another;

static sealed certificate(const pep_authority *by, const char *id, const member *whose, pep_certificate more)
{
    sealed out = {.n = 0};
    pep_certificate c = more;
    uint64_t now_s = pep_now_us() / 1000000;
    snprintf(c.id, sizeof(c.id), "%s", id);
    memcpy(c.kid, whose->who.device.sign_kid, PEP_KID_BYTES);
    c.issued_s = now_s - HOUR_S;
    c.not_after_s = more.not_after_s != 0 ? more.not_after_s : now_s + HOUR_S;
    CU_ASSERT_EQUAL(pep_certificate_sign(out.bytes, &out.n, by, &c), PEP_OK);
    return out;
}

static void set_authority(const char *topics)
{
    char policy[1024], text[PEP_AUTHORITY_TEXT_BYTES];
    CU_ASSERT_EQUAL(pep_init(), PEP_OK);
    CU_ASSERT_EQUAL(pep_authority_new(&ours), PEP_OK);
    CU_ASSERT_EQUAL(pep_authority_new(&another), PEP_OK);
    pep_authority_text(text, ours.sign_public);
    snprintf(policy, sizeof(policy), "enroll = \"authority\"; authority = [ \"%s\" ]; budget = { rate = 0; };\n%s",
             text, topics);
    set(policy, CONF_ENROLLING, MQTT_3);
}

static pep_reason enroll_with(const member *m, sealed certificate)
{
    sealed command = command_enroll(&a, m, &certificate, NULL);
    return ask_reason(&a, &command);
}

static void an_authority_must_have_certified_it(void)
{
    member m, other;
    set_authority(DIRECTORY_TOPICS);
    member_make(&m, "dora");
    member_make(&other, "eve");
    CU_ASSERT_EQUAL(ask_enroll(&a, &m), PEP_NOT_CERTIFIED);
    CU_ASSERT_EQUAL(enroll_with(&m, certificate(&another, "dora", &m, (pep_certificate){.gate = false})),
                    PEP_NOT_CERTIFIED);
    CU_ASSERT_EQUAL(enroll_with(&m, certificate(&ours, "eve", &m, (pep_certificate){.gate = false})), PEP_WRONG_ID);
    CU_ASSERT_EQUAL(enroll_with(&m, certificate(&ours, "dora", &other, (pep_certificate){.gate = false})),
                    PEP_NOT_CERTIFIED);
    CU_ASSERT_EQUAL(enroll_with(&m, certificate(&ours, "dora", &m, (pep_certificate){.gate = true})),
                    PEP_NOT_CERTIFIED);
    uint64_t past_s = pep_now_us() / 1000000 - 1;
    CU_ASSERT_EQUAL(enroll_with(&m, certificate(&ours, "dora", &m, (pep_certificate){.not_after_s = past_s})),
                    PEP_NOT_CERTIFIED);
    CU_ASSERT_TRUE(is_unknown(&m));
    CU_ASSERT_EQUAL(enroll_with(&m, certificate(&ours, "dora", &m, (pep_certificate){.gate = false})), PEP_OK);
    CU_ASSERT_TRUE(speaks(&m));
    member_wipe(&m);
    member_wipe(&other);
    strike();
}

static void a_certificate_puts_it_into_groups(void)
{
    member in, out;
    set_authority("topics = ( { filter = \"t/#\"; signers = [ \"@sensors\" ]; } );\n");
    member_make(&in, "dora");
    member_make(&out, "eve");
    CU_ASSERT_EQUAL(
        enroll_with(&in, certificate(&ours, "dora", &in, (pep_certificate){.groups = {"sensors"}, .group_count = 1})),
        PEP_OK);
    CU_ASSERT_EQUAL(
        enroll_with(&out, certificate(&ours, "eve", &out, (pep_certificate){.groups = {"others"}, .group_count = 1})),
        PEP_OK);
    CU_ASSERT_TRUE(speaks(&in));
    sealed e = reading_of(&out, "t/a");
    CU_ASSERT_TRUE(stage_refuses(&s, from, "t/a", &e, 1, false, PEP_SIGNER_NOT_ALLOWED));
    member_wipe(&in);
    member_wipe(&out);
    strike();
}

static void what_is_served_has_the_certificate(void)
{
    member m;
    sealed got;
    set_authority(DIRECTORY_TOPICS);
    member_make(&m, "dora");
    sealed given = certificate(&ours, "dora", &m, (pep_certificate){.gate = false});
    CU_ASSERT_EQUAL(enroll_with(&m, given), PEP_OK);
    sealed expected = entry_of(&m.newest, &given);
    CU_ASSERT_EQUAL(ask_lookup(&a, "dora", &got), PEP_OK);
    CU_ASSERT_TRUE(got.n == expected.n && memcmp(got.bytes, expected.bytes, got.n) == 0);
    member_wipe(&m);
    strike();
}

/* A new key is another key: its certificate does not come along. */
static void a_new_key_needs_its_own_certificate(void)
{
    member m, next;
    set_authority(DIRECTORY_TOPICS);
    member_make(&m, "dora");
    sealed old = certificate(&ours, "dora", &m, (pep_certificate){.gate = false});
    CU_ASSERT_EQUAL(enroll_with(&m, old), PEP_OK);
    member_turn(&next, &m, pep_now_us());
    sealed without = command_rotate(&a, &next, &m.who.device, NULL);
    CU_ASSERT_EQUAL(ask_reason(&a, &without), PEP_NOT_CERTIFIED);
    sealed with_old = command_rotate(&a, &next, &m.who.device, &old);
    CU_ASSERT_EQUAL(ask_reason(&a, &with_old), PEP_NOT_CERTIFIED);
    CU_ASSERT_TRUE(is_unknown(&next));
    sealed fresh = certificate(&ours, "dora", &next, (pep_certificate){.gate = false});
    sealed with = command_rotate(&a, &next, &m.who.device, &fresh);
    CU_ASSERT_EQUAL(ask_reason(&a, &with), PEP_OK);
    CU_ASSERT_TRUE(speaks(&next));
    member_wipe(&m);
    member_wipe(&next);
    strike();
}

/* ---- tokens ---- */

#define TOKEN_POLICY DIRECTORY_POLICY("token", "admins = [ \"alice\" ];")

static pep_reason make_token(const pep_device *by, char text[PEP_TOKEN_TEXT_BYTES], const char *id)
{
    char json[PEP_COMMAND_JSON_MAX];
    uint8_t kid[PEP_KID_BYTES];
    pep_token_new(text, kid);
    CU_ASSERT_EQUAL(pep_command_token(json, NULL, id, kid, pep_now_us() / 1000000 + HOUR_S), PEP_OK);
    sealed command = command_seal(&a, by, json);
    return ask_reason(&a, &command);
}

static pep_reason enroll_by_token(const member *m, const char *token)
{
    sealed proof = {.n = 0};
    pep_statement first;
    CU_ASSERT_EQUAL(pep_statement_parse(&first, m->newest.bytes, m->newest.n), PEP_OK);
    CU_ASSERT_EQUAL(pep_token_prove(proof.bytes, &proof.n, token, first.hash), PEP_OK);
    sealed command = command_enroll(&a, m, NULL, &proof);
    return ask_reason(&a, &command);
}

static void a_token_lets_one_id_in_once(void)
{
    member m, second;
    char token[PEP_TOKEN_TEXT_BYTES], unknown[PEP_TOKEN_TEXT_BYTES], for_eve[PEP_TOKEN_TEXT_BYTES];
    uint8_t ignored[PEP_KID_BYTES];
    set(TOKEN_POLICY, CONF_GUARDED, MQTT_3);
    member_make(&m, "dora");
    member_make(&second, "eve");
    pep_token_new(unknown, ignored);
    CU_ASSERT_EQUAL(make_token(&s.c.alice.device, token, "dora"), PEP_OK);
    CU_ASSERT_EQUAL(make_token(&s.c.alice.device, for_eve, "eve"), PEP_OK);
    CU_ASSERT_EQUAL(ask_enroll(&a, &m), PEP_BAD_TOKEN);
    CU_ASSERT_EQUAL(enroll_by_token(&m, unknown), PEP_BAD_TOKEN);
    CU_ASSERT_EQUAL(enroll_by_token(&m, for_eve), PEP_BAD_TOKEN);
    CU_ASSERT_TRUE(is_unknown(&m));
    CU_ASSERT_EQUAL(enroll_by_token(&m, token), PEP_OK);
    CU_ASSERT_TRUE(speaks(&m));
    CU_ASSERT_EQUAL(enroll_by_token(&m, token), PEP_OK); /* the same record: the answer may have been lost */
    CU_ASSERT_EQUAL(enroll_by_token(&second, token), PEP_BAD_TOKEN);
    CU_ASSERT_EQUAL(enroll_by_token(&second, for_eve), PEP_OK);
    member_wipe(&m);
    member_wipe(&second);
    strike();
}

static void only_admins_make_tokens(void)
{
    char token[PEP_TOKEN_TEXT_BYTES], json[PEP_COMMAND_JSON_MAX];
    uint8_t kid[PEP_KID_BYTES];
    set(TOKEN_POLICY, CONF_GUARDED, MQTT_3);
    CU_ASSERT_EQUAL(make_token(&s.c.bob.device, token, "dora"), PEP_NOT_AUTHORIZED);
    CU_ASSERT_EQUAL(make_token(&s.c.mallory.device, token, "dora"), PEP_NOT_AUTHORIZED);
    pep_token_new(token, kid);
    CU_ASSERT_EQUAL(pep_command_token(json, NULL, "dora", kid, pep_now_us() / 1000000 + HOUR_S), PEP_OK);
    CU_ASSERT_EQUAL(ask_text(&a, json), PEP_NOT_AUTHORIZED);
    CU_ASSERT_EQUAL(make_token(&s.c.alice.device, token, "bob"), PEP_ID_TAKEN);
    strike();
}

/* ---- what was ever taken ---- */

static void make_from(member *m, const char *id, const uint8_t *sign_secret, const uint8_t *agree_secret)
{
    uint64_t now_s = pep_now_us() / 1000000;
    member_make(m, id);
    uint8_t seed[32], agree[PEP_AGREE_SECRET_BYTES];
    memcpy(seed, sign_secret != NULL ? sign_secret : m->who.device.sign_secret, sizeof(seed));
    memcpy(agree, agree_secret != NULL ? agree_secret : m->who.device.agree_secret, sizeof(agree));
    CU_ASSERT_EQUAL(pep_device_from_secrets(&m->who.device, id, seed, agree), PEP_OK);
    CU_ASSERT_EQUAL(pep_record_sign(m->newest.bytes, &m->newest.n, &m->who.device, now_s, now_s + HOUR_S), PEP_OK);
}

static pep_reason enroll_from(const char *id, const uint8_t *sign_secret, const uint8_t *agree_secret)
{
    member m;
    make_from(&m, id, sign_secret, agree_secret);
    pep_reason reason = ask_enroll(&a, &m);
    member_wipe(&m);
    return reason;
}

static pep_reason rotate_to(const member *m, const uint8_t *sign_secret, const uint8_t *agree_secret)
{
    member next;
    uint8_t record[PEP_RECORD_BYTES_MAX];
    size_t n = 0;
    uint64_t now_s = pep_now_us() / 1000000;
    make_from(&next, m->head.id, sign_secret, agree_secret);
    CU_ASSERT_EQUAL(pep_record_next(record, &n, &next.who.device, &m->head, now_s, now_s + HOUR_S), PEP_OK);
    CU_ASSERT_EQUAL(pep_rotation_sign(next.newest.bytes, &next.newest.n, m->who.device.sign_secret, &m->head, record, n,
                                      pep_now_us()),
                    PEP_OK);
    sealed command = command_rotate(&a, &next, &m->who.device, NULL);
    member_wipe(&next);
    return ask_reason(&a, &command);
}

static void what_was_ever_taken_is_no_new_key(void)
{
    member m, other;
    set(OPEN_POLICY, CONF_ENROLLING, MQTT_3);
    member_make(&m, "dora");
    member_make(&other, "eve");
    CU_ASSERT_EQUAL(ask_enroll(&a, &m), PEP_OK);
    CU_ASSERT_EQUAL(ask_enroll(&a, &other), PEP_OK);
    const pep_device first = m.who.device;
    CU_ASSERT_EQUAL(rotate_to(&other, first.sign_secret, NULL), PEP_KID_TAKEN);
    CU_ASSERT_EQUAL(rotate_to(&other, NULL, first.agree_secret), PEP_KID_TAKEN);
    CU_ASSERT_EQUAL(ask_rotate(&a, &m, pep_now_us()), PEP_OK);
    CU_ASSERT_EQUAL(rotate_to(&other, first.sign_secret, NULL), PEP_KID_TAKEN);
    CU_ASSERT_EQUAL(rotate_to(&m, first.sign_secret, NULL), PEP_KID_TAKEN); /* nor its own: it has ended */
    CU_ASSERT_TRUE(ask_knows(&a, &m));
    CU_ASSERT_TRUE(ask_knows(&a, &other));
    member_wipe(&m);
    member_wipe(&other);
    strike();
}

static void what_was_ever_taken_is_refused(void)
{
    member m;
    set(OPEN_POLICY, CONF_ENROLLING, MQTT_3);
    member_make(&m, "dora");
    CU_ASSERT_EQUAL(ask_enroll(&a, &m), PEP_OK);
    const pep_device first = m.who.device;
    CU_ASSERT_EQUAL(enroll_from("dora", NULL, NULL), PEP_ID_TAKEN);
    CU_ASSERT_EQUAL(enroll_from("eve", first.sign_secret, NULL), PEP_KID_TAKEN);
    CU_ASSERT_EQUAL(enroll_from("eve", NULL, first.agree_secret), PEP_KID_TAKEN);
    CU_ASSERT_EQUAL(ask_rotate(&a, &m, pep_now_us()), PEP_OK);
    CU_ASSERT_EQUAL(enroll_from("eve", first.sign_secret, NULL), PEP_KID_TAKEN);
    CU_ASSERT_EQUAL(enroll_from("eve", NULL, first.agree_secret), PEP_KID_TAKEN);
    CU_ASSERT_EQUAL(ask_revoke(&a, &m), PEP_OK);
    CU_ASSERT_EQUAL(enroll_from("dora", NULL, NULL), PEP_ID_TAKEN);
    CU_ASSERT_EQUAL(enroll_from("eve", m.who.device.sign_secret, NULL), PEP_KID_TAKEN);
    CU_ASSERT_EQUAL(enroll_from("eve", NULL, NULL), PEP_OK);
    member_wipe(&m);
    strike();
}

static void a_full_directory_says_so(void)
{
    set(DIRECTORY_POLICY("open", "max_records = 2;"), CONF_ENROLLING, MQTT_3);
    CU_ASSERT_EQUAL(enroll_from("one", NULL, NULL), PEP_OK);
    CU_ASSERT_EQUAL(enroll_from("two", NULL, NULL), PEP_OK);
    CU_ASSERT_EQUAL(enroll_from("three", NULL, NULL), PEP_TOO_MANY);
    strike();
}

static const unit_test TESTS[] = {
    {"closed lets nobody in", closed_lets_nobody_in},
    {"open lets in at once, over 3.1.1", open_lets_in_over_3_1_1},
    {"open lets in at once, over 5.0", open_lets_in_over_5},
    {"open lets no admin in", open_lets_no_admin_in},
    {"a device rotates ten times an hour", a_device_rotates_ten_times_an_hour},
    {"who was let in stays", who_was_let_in_stays},
    {"an authority must have certified it", an_authority_must_have_certified_it},
    {"a certificate puts it into groups", a_certificate_puts_it_into_groups},
    {"what is served has the certificate", what_is_served_has_the_certificate},
    {"a new key needs its own certificate", a_new_key_needs_its_own_certificate},
    {"a token lets one id in once", a_token_lets_one_id_in_once},
    {"only admins make tokens", only_admins_make_tokens},
    {"what was ever taken is refused", what_was_ever_taken_is_refused},
    {"what was ever taken is no new key", what_was_ever_taken_is_no_new_key},
    {"a full directory says so", a_full_directory_says_so},
};
UNIT_MAIN("enroll", TESTS)
