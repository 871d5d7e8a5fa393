/*
 * `pep rotate` where the connection breaks or lies: what was signed stays, and so do the keys in it. Promise: whoever
 * answers, a device ends with keys that its real directory believes.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pep.h"
#include "tests/unit/unit.h"
#include "tool.h"

#define SEND "pub --key a/alice.key --to bob -t t/1 -q 1 % -m "

static void enroll_both(void)
{
    tool_expect(0, "enroll --id alice --out a %", "enrolled alice, version 1\n");
    tool_expect(0, "enroll --id bob --out b %", "enrolled bob, version 1\n");
}

/* A broker that wants certificates; alice and bob are enrolled. */
static void enter_with_authority(void)
{
    char policy[1024];
    char key[64] = "";
    tool_enter(NULL);
    tool_expect(0, "authority init", NULL);
    FILE *file = fopen("authority.public", "re");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    CU_ASSERT_EQUAL(fscanf(file, "%63s", key), 1); // NOLINT(cert-err34-c): text
    fclose(file);
    (void)snprintf(policy, sizeof(policy), "authority = [ \"%s\" ];\n%s", key, TOOL_POLICY("authority"));
    tool_start_broker(policy, TOOL_CONF);
    tool_expect(0, "keygen --id alice --out a", NULL);
    tool_expect(0, "keygen --id bob --out b", NULL);
    tool_expect(0, "authority issue --authority-key authority.key --record a/alice.pub --groups fleet --out a.cert",
                NULL);
    tool_expect(0, "authority issue --authority-key authority.key --record b/bob.pub --out b.cert", NULL);
    tool_expect(0, "enroll --key a/alice.key --certificate a.cert %", NULL);
    tool_expect(0, "enroll --key b/bob.key --certificate b.cert %", NULL);
}

#define CERTIFY_NEXT "authority issue --authority-key authority.key --record a/alice.pub.new --out next.cert"

static uint64_t version_of(const char *path)
{
    uint8_t bytes[PEP_STATEMENT_BYTES_MAX];
    size_t n;
    pep_statement s;
    return pep_statement_load(&s, bytes, &n, NULL, path) == PEP_OK ? s.version : 0;
}

/* ---- one statement of each version ---- */

/* Refused, and never heard of: the same bytes go out again, and nothing else begins before. */
static void test_the_same_again(void)
{
    enter_with_authority();
    tool_expect(1, "rotate --key a/alice.key %", "alice: not-certified");
    tool_shell("cp a/alice.pub.new first; cp a/alice.key.new first.key; cp a/alice.pub before");
    tool_expect(1, "rotate --key a/alice.key %", "alice: not-certified");
    CU_ASSERT_TRUE(tool_same("a/alice.pub.new", "first"));
    tool_expect(1, "rotate --renew --key a/alice.key %", "finish it with 'pep rotate --key a/alice.key'");
    tool_expect(1, "rotate --now --key a/alice.key %", "finish it with");
    tool_expect(1, "rotate --authority-key authority.key --key a/alice.key %", "finish it with");
    tool_expect(0, "keygen --id alice --out .", NULL);
    tool_expect(1, "rotate --next alice.key --key a/alice.key %", "finish it with");
    CU_ASSERT_TRUE(tool_same("a/alice.key.new", "first.key") && tool_same("a/alice.pub", "before"));
    tool_expect(0, CERTIFY_NEXT, NULL);
    tool_expect(0, "rotate --key a/alice.key --certificate next.cert %", "rotated alice, version 2");
    CU_ASSERT_TRUE(tool_same("a/alice.pub", "first"));
    CU_ASSERT_FALSE(tool_exists("a/alice.key.new") || tool_exists("a/alice.pub.new"));
    tool_expect(0, "rotate --renew --key a/alice.key %", "renewed alice, version 3");
    tool_leave();
}

/* It was taken, and the process died before it knew. */
static void test_taken(void)
{
    tool_enter(TOOL_POLICY("open"));
    enroll_both();
    tool_shell("cp -p a/alice.key a/alice.pub .");
    tool_expect(0, "rotate --key a/alice.key %", "version 2");
    tool_shell("cp a/alice.pub a/alice.pub.new; cp -p a/alice.key a/alice.key.new; cp a/alice.pub second;"
               " mv alice.key alice.pub a/");
    tool_expect(1, "rotate --renew --key a/alice.key %", "finish it with");
    tool_expect(0, "rotate --key a/alice.key %", "rotated alice, version 2");
    CU_ASSERT_TRUE(tool_same("a/alice.pub", "second"));
    CU_ASSERT_FALSE(tool_exists("a/alice.key.new") || tool_exists("a/alice.pub.new"));
    tool_expect(0, SEND "x", NULL);
    tool_leave();
}

/* Another copy of the key was faster: what was signed can never follow. */
static void test_second_copy(void)
{
    enter_with_authority();
    tool_expect(1, "rotate --key a/alice.key %", "alice: not-certified");
    tool_shell("mkdir c; cp -p a/alice.key a/alice.pub a/alice.seq c/");
    tool_expect(0, "rotate --renew --key c/alice.key %", "renewed alice, version 2");
    tool_expect(1, "rotate --key a/alice.key %", "the directory went on without the rotation in a/alice.pub.new");
    CU_ASSERT_TRUE(tool_exists("a/alice.key.new") && version_of("a/alice.pub") == 1);
    /* an authority begins anew, with the keys that are there */
    tool_expect(0, "rotate --authority-key authority.key --key a/alice.key %", "rotated alice, version 3");
    tool_leave();
}

/* The old key's numbers are ahead of the clock. Whoever finishes the rotation gives the new one its own. */
static void test_ahead(void)
{
    tool_enter(TOOL_POLICY("open"));
    enroll_both();
    tool_shell("cp -p a/alice.key a/alice.pub .");
    tool_expect(0, "rotate --key a/alice.key %", "version 2");
    tool_shell("cp a/alice.pub a/alice.pub.new; cp -p a/alice.key a/alice.key.new; mv alice.key alice.pub a/;"
               "{ printf 'pep-seq1\\000\\017\\000\\000\\000\\000\\000\\000\\000\\017\\000\\000\\000\\000\\000\\000';"
               " head -c 36 /proc/sys/kernel/random/boot_id; printf '\\001\\000\\000\\000'; } > a/alice.seq");
    tool_expect(1, SEND "x", "seq-ahead");
    tool_expect(0, "rotate --key a/alice.key %", "rotated alice, version 2");
    tool_expect(0, SEND "x", NULL);
    tool_leave();
}

/* ---- a directory that is not where it was ---- */

static void save_directory(void)
{
    char line[256];
    broker_end(&tool_broker);
    (void)snprintf(line, sizeof(line), "cp -a %s state", broker_path(&tool_broker, "state"));
    tool_shell(line);
    CU_ASSERT_FATAL(broker_start(&tool_broker));
}

static void bring_back_directory(void)
{
    char line[256];
    broker_end(&tool_broker);
    (void)snprintf(line, sizeof(line), "rm -r %s; cp -a state %s", broker_path(&tool_broker, "state"),
                   broker_path(&tool_broker, "state"));
    tool_shell(line);
    CU_ASSERT_FATAL(broker_start(&tool_broker));
}

/* What was acknowledged is gone: by an older backup, or because another one had acknowledged it. */
static void test_gone_back(void)
{
    tool_enter(TOOL_POLICY("open"));
    enroll_both();
    save_directory();
    tool_expect(0, "rotate --key a/alice.key %", "version 2");
    bring_back_directory();
    tool_expect(1, SEND "x", NULL);
    tool_expect(0, "rotate --renew --key a/alice.key %", "renewed alice, version 3");
    CU_ASSERT_PTR_NOT_NULL(strstr(tool_err, "does not have version 2 of alice"));
    tool_expect(0, "lookup --history alice %", " 2 ");
    tool_expect(0, SEND "x", NULL);
    tool_leave();
}

/* The same where it needs its certificate again. */
static void test_gone_back_certified(void)
{
    enter_with_authority();
    save_directory();
    tool_expect(1, "rotate --key a/alice.key %", "alice: not-certified");
    tool_expect(0, CERTIFY_NEXT, NULL);
    tool_expect(0, "rotate --key a/alice.key --certificate next.cert %", "version 2");
    bring_back_directory();
    tool_expect(1, "rotate --renew --key a/alice.key %", "alice: not-certified");
    tool_expect(1, "rotate --renew --key a/alice.key --certificate b.cert %", "alice: not-certified");
    tool_expect(0, "rotate --renew --key a/alice.key --certificate next.cert %", "renewed alice, version 3");
    tool_leave();
}

/* The record is ours, what is around it is somebody else's: the operator's folder takes it, ID.pub does not. */
static void test_forged(void)
{
    pep_device old;
    pep_device next;
    pep_device thief;
    pep_statement first;
    pep_head head;
    pep_error error = {""};
    uint8_t bytes[PEP_STATEMENT_BYTES_MAX];
    uint8_t record[PEP_RECORD_BYTES_MAX];
    uint8_t forged[PEP_STATEMENT_BYTES_MAX];
    size_t n;
    tool_enter(NULL);
    tool_expect(0, "keygen --id alice --out a", NULL);
    uint64_t now_s = pep_now_us() / 1000000;
    CU_ASSERT_EQUAL_FATAL(pep_device_load(&old, &error, "a/alice.key"), PEP_OK);
    CU_ASSERT_EQUAL(pep_device_renew(&next, &old, false, now_s, now_s + 100), PEP_OK);
    CU_ASSERT_EQUAL(pep_device_replace(&error, "a/alice.key.new", &next), PEP_OK);
    CU_ASSERT_EQUAL(pep_device_new(&thief, "alice"), PEP_OK);
    CU_ASSERT_EQUAL_FATAL(pep_statement_load(&first, bytes, &n, &error, "a/alice.pub"), PEP_OK);
    CU_ASSERT_EQUAL(pep_head_begin(&head, &first), PEP_OK);
    CU_ASSERT_EQUAL(pep_record_next(record, &n, &next, &head, now_s, now_s + 86400), PEP_OK);
    size_t forged_n;
    CU_ASSERT_EQUAL(pep_rotation_sign(forged, &forged_n, thief.sign_secret, &head, record, n, 1), PEP_OK);
    CU_ASSERT_EQUAL(pep_statement_replace(&error, "forged.pub", forged, forged_n), PEP_OK);
    tool_shell("cp a/alice.pub before; cp a/alice.key before.key");
    broker_copy(&tool_broker, "records/alice.pub", "forged.pub");
    tool_start_broker(TOOL_POLICY("closed"), TOOL_CONF "plugin_opt_records @/records\n");
    tool_expect(1, "rotate --key a/alice.key %", "unproven-key");
    CU_ASSERT_TRUE(tool_same("a/alice.pub", "before") && tool_same("a/alice.key", "before.key"));
    tool_leave();
}

/* A rotation that was refused leaves two keys, and a sender may know either. */
static void test_both_keys(void)
{
    enter_with_authority();
    pid_t sub = tool_listen("sub --key b/bob.key --from a -t t/# %");
    tool_expect(0, "pub --key a/alice.key --to b/bob.pub -t t/0 -q 1 -r % -m first", NULL);
    CU_ASSERT_TRUE(tool_holds("sub.out", "first"));
    tool_expect(1, "rotate --grace 0 --key b/bob.key %", "bob: not-certified");
    tool_shell("cp b/bob.pub.new next.pub");
    tool_expect(0, "pub --key a/alice.key --to next.pub -t t/1 -q 1 % -m second", NULL);
    CU_ASSERT_TRUE(tool_holds("sub.out", "second"));
    tool_expect(0, "pub --key a/alice.key --to b/bob.pub -t t/1 -q 1 % -m third", NULL);
    CU_ASSERT_TRUE(tool_holds("sub.out", "third"));
    tool_stop(sub);
    tool_expect(1, "token x --key b/bob.key --out - %", "b/bob.key.new is there: a rotation is on its way");
    tool_expect(1, "enroll --key b/bob.key --token - % < /dev/null", NULL);
    tool_expect(0, "enroll --key b/bob.key --certificate b.cert %", NULL);
    CU_ASSERT_PTR_NOT_NULL(strstr(tool_err, "b/bob.key.new is there"));
    tool_expect(0, "revoke bob --key b/bob.key %", NULL);
    CU_ASSERT_PTR_NOT_NULL(strstr(tool_err, "b/bob.key.new is there"));
    tool_leave();
}

/* ---- without a clock ---- */

#define COUNTED "pub --key a/alice.key --to b/bob.pub --counter -t t/1 -q 1 -r % -m "

/* The cutoff of the newest statement, which is in the file. */
static uint64_t cutoff_of(const char *path)
{
    uint8_t bytes[PEP_STATEMENT_BYTES_MAX];
    size_t n;
    pep_statement s;
    return pep_statement_load(&s, bytes, &n, NULL, path) == PEP_OK ? s.cutoff : 0;
}

/* A device that counts commands by counting, and its keys end with a number. */
static void test_counter(void)
{
    tool_enter(TOOL_POLICY("open"));
    tool_expect(0, "enroll --id alice --out a --counter %", "enrolled alice, version 1\n");
    tool_expect(0, "enroll --id bob --out b %", NULL);
    tool_expect(3, "enroll --key b/bob.key --counter %", "seq-mixed");
    tool_expect(0, COUNTED "x", NULL); /* 2 */
    tool_shell("mkdir old; cp -p a/* old/");
    tool_expect(0, "rotate --key a/alice.key %", "rotated alice, version 2"); /* 3 */
    CU_ASSERT_EQUAL(cutoff_of("a/alice.pub"), 3);
    tool_expect(0, COUNTED "y", NULL);
    tool_expect(0, "sub --key b/bob.key --from b -t t/1 -C 1 -W 20 %", "y");
    tool_expect(0, "rotate --renew --key a/alice.key %", "renewed alice, version 3");
    tool_expect(2, "revoke alice --key a/alice.key --since 2026-01-01T00:00:00Z %", "counts its messages");
    tool_expect(0, "revoke alice --key a/alice.key %", "revoked alice, version 4");
    tool_expect(1, COUNTED "z", NULL);
    tool_shell("rm old/alice.seq");
    tool_expect(3, "enroll --key old/alice.key --counter %", "alice.seq is missing");
    tool_leave();
}

/* ---- what stays behind ---- */

/* Gives b/bob.key a former key that is over after so many seconds. */
static void add_former(int seconds)
{
    pep_device first;
    pep_device second;
    uint64_t now_s = pep_now_us() / 1000000;
    CU_ASSERT_EQUAL(pep_device_load(&first, NULL, "b/bob.key"), PEP_OK);
    uint64_t until_s = seconds < 0 ? now_s - (uint64_t)-seconds : now_s + (uint64_t)seconds;
    CU_ASSERT_EQUAL(pep_device_renew(&second, &first, true, now_s - 1000, until_s), PEP_OK);
    CU_ASSERT_EQUAL(pep_device_replace(NULL, "b/bob.key", &second), PEP_OK);
    pep_device_wipe(&first);
    pep_device_wipe(&second);
}

static bool has_former(void)
{
    pep_device device;
    CU_ASSERT_EQUAL(pep_device_load(&device, NULL, "b/bob.key"), PEP_OK);
    bool has = device.previous_count > 0;
    pep_device_wipe(&device);
    return has;
}

/* Former keys go when their time is over, also where nobody but pub runs, and while sub does. */
static void test_former_keys_end(void)
{
    tool_enter(TOOL_POLICY("open"));
    enroll_both();
    add_former(-10);
    tool_expect(0, "pub --key b/bob.key --to a/alice.pub -t t/1 % -m x", NULL);
    CU_ASSERT_FALSE(has_former());
    add_former(2);
    pid_t sub = tool_listen("sub --key b/bob.key -t t/# %");
    CU_ASSERT_TRUE(has_former());
    int64_t deadline = monotonic_ms() + patience_ms() + 7000;
    while (has_former() && monotonic_ms() < deadline)
        (void)poll(NULL, 0, 50);
    CU_ASSERT_FALSE(has_former());
    tool_stop(sub);
    tool_leave();
}

/* What one left that was killed while it wrote is gone after the next. */
static void test_no_temporaries(void)
{
    tool_enter(TOOL_POLICY("open"));
    enroll_both();
    tool_shell("touch a/alice.key.tmp a/alice.pub.tmp a/alice.key.new.tmp a/alice.pub.new.tmp");
    tool_expect(0, "rotate --key a/alice.key %", NULL);
    tool_shell("test \"$(ls -A a | tr '\\n' ' ')\" = 'alice.key alice.pub alice.seq '");
    tool_leave();
}

/* ---- recovery ---- */

/* The groups of the key that is replaced, if they are this authority's word on it; or those that it is told. */
static void test_groups(void)
{
    enter_with_authority();
    tool_expect(0, "rotate --authority-key authority.key --key a/alice.key %", "for the groups fleet\n");
    tool_expect(0, "rotate --authority-key authority.key --groups depot,fleet --json --key a/alice.key %",
                "\"groups\":[\"depot\",\"fleet\"]");
    tool_expect(0, "rotate --authority-key authority.key --groups '' --key a/alice.key %", "for no group\n");
    tool_expect(2, "rotate --authority-key authority.key --groups x,x --key a/alice.key %", "names one twice");
    tool_expect(2, "rotate --groups x --key a/alice.key %", "--groups goes with --authority-key");
    tool_expect(0, "rotate --authority-key authority.key --groups fleet --key a/alice.key %", NULL);
    tool_leave();
}

/* A word that is over is none, though the directory still serves it. */
static void test_groups_over(void)
{
    pep_authority authority;
    pep_statement s;
    uint8_t statement[PEP_STATEMENT_BYTES_MAX];
    uint8_t bytes[PEP_CERTIFICATE_BYTES_MAX];
    size_t n;
    enter_with_authority();
    uint64_t now_s = pep_now_us() / 1000000;
    CU_ASSERT_EQUAL_FATAL(pep_authority_load(&authority, NULL, "authority.key"), PEP_OK);
    CU_ASSERT_EQUAL_FATAL(pep_statement_load(&s, statement, &n, NULL, "a/alice.pub"), PEP_OK);
    pep_certificate c = {.issued_s = now_s + 1, .not_after_s = now_s + 2, .group_count = 1, .groups = {"fleet"}};
    memcpy(c.id, s.id, sizeof(c.id));
    memcpy(c.kid, s.record.sign_kid, sizeof(c.kid));
    CU_ASSERT_EQUAL(pep_certificate_sign(bytes, &n, &authority, &c), PEP_OK);
    CU_ASSERT_EQUAL(pep_certificate_replace(NULL, "a.cert", bytes, n), PEP_OK);
    tool_expect(0, "enroll --key a/alice.key --certificate a.cert %", NULL); /* in the place of the first one */
    while (pep_now_us() / 1000000 <= c.not_after_s)
        (void)poll(NULL, 0, 50);
    tool_expect(0, "rotate --authority-key authority.key --key a/alice.key %", "for no group\n");
    tool_leave();
}

static const unit_test tests[] = {
    {"the same statement again", test_the_same_again},
    {"a rotation that was taken", test_taken},
    {"a second copy", test_second_copy},
    {"numbers ahead of the clock", test_ahead},
    {"a directory that went back", test_gone_back},
    {"a directory that went back, and certifies", test_gone_back_certified},
    {"a forged rotation", test_forged},
    {"both keys of one that was refused", test_both_keys},
    {"a device that counts", test_counter},
    {"former keys end", test_former_keys_end},
    {"no temporary files", test_no_temporaries},
    {"groups of a recovery", test_groups},
    {"groups of a certificate that is over", test_groups_over},
};

UNIT_MAIN("rotate_cli", tests)
