/*
 * The pep tool and a broker with a directory: devices enrol in each way, find each other by id, rotate and are revoked.
 * Promise: nobody copies a file, every change reaches who listens, and what an earlier answer contradicts is refused
 * aloud, whoever serves it.
 */
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "broker.h"
#include "client.h"
#include "pep.h"
#include "tests/unit/unit.h"

#define POLICY(enroll)                                                                                                 \
    "enroll = \"" enroll "\"; max_records = 1000; bind = \"none\"; admins = [ \"admin\" ];\n"                          \
    "topics = ( { filter = \"t/#\"; payload = \"encrypted\"; signers = [ \"*\" ]; } );\n"
#define CONF CONF_BASE "plugin @/mosquitto_pep.so\nplugin_opt_policy @/policy.conf\nplugin_opt_state @/state\n" CONF_ACL

static broker b;
static char work[64]; /* the tool's working folder */
static char out[1 << 16], err[1 << 16];

/* ---- running the tool ---- */

static void read_all(const char *path, char *to, size_t cap)
{
    FILE *file = fopen(path, "re");
    to[0] = '\0';
    if (file == NULL)
        return;
    to[fread(to, 1, cap - 1, file)] = '\0';
    fclose(file);
}

static _Noreturn void become_shell(const char *line, const char *out_to, const char *err_to)
{
    if (freopen(out_to, "w", stdout) != NULL && freopen(err_to, "w", stderr) != NULL)
        execl("/bin/sh", "sh", "-c", line, (char *)NULL);
    _exit(127);
}

static pid_t start(const char *words, const char *out_to, const char *err_to)
{
    char line[2048];
    (void)snprintf(line, sizeof(line), "exec " PEP_TOOL " %s", words);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0)
        become_shell(line, out_to, err_to);
    return child;
}

/* The exit code; -1: it did not end by itself in time. */
static int wait_for(pid_t child)
{
    int status = 0;
    int64_t deadline = monotonic_ms() + 4 * (int64_t)patience_ms();
    while (waitpid(child, &status, WNOHANG) == 0) {
        if (monotonic_ms() > deadline) {
            kill(child, SIGKILL);
            waitpid(child, &status, 0);
            return -1;
        }
        (void)poll(NULL, 0, 2);
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* Runs `pep WORDS`; "%" in them stands for the connection. */
static void words_of(char line[2048], const char *words)
{
    size_t n = 0;
    for (; *words != '\0' && n < 1900; words++) {
        if (*words == '%')
            n += (size_t)snprintf(line + n, 2048 - n, "-h 127.0.0.1 -p %d", b.port);
        else
            line[n++] = *words;
    }
    line[n] = '\0';
}

static int pep(const char *words)
{
    char line[2048];
    words_of(line, words);
    int code = wait_for(start(line, "out", "err"));
    read_all("out", out, sizeof(out));
    read_all("err", err, sizeof(err));
    return code;
}

static void expect(int code, const char *words, const char *text)
{
    int got = pep(words);
    const char *where = code == 0 ? out : err;
    bool right = got == code && (text == NULL || strstr(where, text) != NULL);
    if (!right)
        printf("\n    pep %s: exit code %d, not %d, or no '%s' in: %s%s", words, got, code, text, out, err);
    CU_ASSERT_TRUE(right);
}

/* A `pep sub` in the background; its output in sub.out and sub.err. */
static pid_t listen_in_background(const char *words)
{
    char line[2048];
    words_of(line, words);
    return start(line, "sub.out", "sub.err");
}

static bool holds(const char *path, const char *text)
{
    static char content[1 << 16];
    int64_t deadline = monotonic_ms() + patience_ms();
    do {
        read_all(path, content, sizeof(content));
        if (strstr(content, text) != NULL)
            return true;
        (void)poll(NULL, 0, 5);
    } while (monotonic_ms() < deadline);
    printf("\n    no '%s' in %s: %s", text, path, content);
    return false;
}

static bool lacks(const char *path, const char *text)
{
    static char content[1 << 16];
    read_all(path, content, sizeof(content));
    return strstr(content, text) == NULL;
}

static void stop_listening(pid_t child)
{
    kill(child, SIGTERM);
    CU_ASSERT_EQUAL(wait_for(child), 0);
}

static bool exists(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0;
}

/* ---- the stage ---- */

static void open_broker(const char *policy)
{
    broker_make(&b);
    broker_write(&b, "policy.conf", policy);
    broker_write(&b, "mosquitto.conf", CONF);
    if (!broker_start(&b))
        broker_show_log(&b);
    CU_ASSERT_FATAL(b.pid > 0);
}

static void enter(const char *policy)
{
    const char *parent = getenv("TMPDIR");
    (void)snprintf(work, sizeof(work), "%s/pep-dir-XXXXXX", parent != NULL ? parent : "/tmp");
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(work));
    CU_ASSERT_EQUAL_FATAL(chdir(work), 0);
    CU_ASSERT_EQUAL(mkdir("a", 0700) | mkdir("b", 0700), 0);
    if (policy != NULL)
        open_broker(policy);
}

static void leave(void)
{
    char line[128];
    (void)snprintf(line, sizeof(line), "rm -rf %s", work);
    if (b.pid > 0)
        broker_drop(&b);
    CU_ASSERT_EQUAL(chdir("/"), 0);
    CU_ASSERT_EQUAL(system(line), 0); // NOLINT(cert-env33-c): a folder of our own
}

static void enroll_both(void)
{
    expect(0, "enroll --id alice --out a %", "enrolled alice, version 1\n");
    expect(0, "enroll --id bob --out b %", "enrolled bob, version 1\n");
}

#define SEND "pub --key a/alice.key --to bob -t t/1 -q 1 % -m "

/* ---- enrolling, four ways ---- */

static void test_open(void)
{
    enter(POLICY("open"));
    enroll_both();
    expect(0, "enroll --id alice --out a --json %", "{\"id\":\"alice\",\"version\":1,"); /* again is safe */
    expect(0, "lookup alice bob %", "alice ");
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "\nbob "));
    char words[128];
    (void)snprintf(words, sizeof(words), "lookup %.32s %%", out + strlen("alice "));
    expect(0, words, "alice "); /* by its kid */
    expect(1, "lookup nobody %", NULL);
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "nobody - 0 - unknown-id"));
    expect(0, "lookup --list --json %", "{\"id\":\"bob\"");
    expect(1, "enroll --id alice --out b %", "alice: id-taken"); /* somebody else of that name */
    expect(2, "enroll %", "give one of --key and --id");
    leave();
}

/* Folders that are not there yet, one deep, and for their owner alone. */
static void test_new_folders(void)
{
    struct stat st;
    enter(POLICY("open"));
    expect(0, "keygen --id alice --out new", NULL);
    expect(0, "keygen --id bob --out new", NULL); /* there is one now */
    expect(0, "authority init --out ca", NULL);
    expect(0, "enroll --id carol --out elsewhere %", "enrolled carol");
    CU_ASSERT_TRUE(exists("new/alice.key") && exists("new/bob.key") && exists("ca/authority.public"));
    CU_ASSERT_TRUE(stat("elsewhere", &st) == 0 && (st.st_mode & 0777) == 0700);
    expect(3, "keygen --id alice --out far/away", "cannot make the folder far/away");
    expect(2, "keygen --id .alice --out none", "--id");
    CU_ASSERT_FALSE(exists("none"));
    leave();
}

/* What an authority leaves in a folder is no record there. */
static void test_beside_an_authority(void)
{
    enter(NULL);
    expect(0, "authority init", NULL);
    expect(0, "keygen --id alice", NULL);
    expect(0, "seal --key alice.key --topic t/1 --signed-only < authority.public > sealed", NULL);
    expect(0, "open --key alice.key --signed-only < sealed", NULL);
    expect(0, "verify --from . < sealed", "ok");
    leave();
}

static void test_closed(void)
{
    enter(NULL);
    broker_make(&b);
    expect(0, "keygen --id admin --out a", NULL);
    expect(0, "keygen --id bob --out b", NULL);
    broker_copy(&b, "records/admin.pub", "a/admin.pub");
    broker_copy(&b, "records/bob.pub", "b/bob.pub");
    broker_write(&b, "policy.conf", POLICY("closed"));
    broker_write(&b, "mosquitto.conf", CONF "plugin_opt_records @/records\n");
    CU_ASSERT_FATAL(broker_start(&b));
    expect(1, "enroll --id alice --out a %", "alice: closed");
    expect(0, "pub --key a/admin.key --to bob -t t/1 -q 1 -r % -m x", NULL);
    expect(0, "sub --key b/bob.key -t t/1 -C 1 -W 20 %", "x");
    expect(0, "rotate --key b/bob.key %", "version 2");
    expect(0, "revoke bob --key a/admin.key --since 2026-01-01T00:00:00Z %", "revoked bob, version 3");
    expect(1, "revoke bob --key a/admin.key %", "revoked already");
    expect(2, "revoke bob --key a/admin.key --since tomorrow %", "--since");
    leave();
}

static void test_token(void)
{
    enter(NULL);
    broker_make(&b);
    expect(0, "keygen --id admin --out a", NULL);
    broker_copy(&b, "records/admin.pub", "a/admin.pub");
    broker_write(&b, "policy.conf", POLICY("token"));
    broker_write(&b, "mosquitto.conf", CONF "plugin_opt_records @/records\n");
    CU_ASSERT_FATAL(broker_start(&b));
    expect(1, "enroll --id alice --out a %", "alice: bad-token (");
    CU_ASSERT_PTR_NOT_NULL(strstr(err, "): give --token"));
    expect(0, "token alice --key a/admin.key --out a/alice.token %", "valid until");
    struct stat st;
    CU_ASSERT_TRUE(stat("a/alice.token", &st) == 0 && (st.st_mode & 0777) == 0600);
    expect(1, "token alice --key a/admin.key --out a/alice.token %", "never overwritten");
    expect(1, "enroll --id bob --out b --token a/alice.token %", "bob: bad-token");
    CU_ASSERT_PTR_NULL(strstr(err, "give --token"));
    CU_ASSERT_EQUAL(chmod("a/alice.token", 0644), 0);
    expect(3, "enroll --id alice --out a --token a/alice.token %", "chmod 600");
    CU_ASSERT_EQUAL(chmod("a/alice.token", 0600), 0);
    expect(0, "enroll --id alice --out a --token a/alice.token %", "enrolled alice");
    expect(0, "enroll --id alice --out a --token - % < a/alice.token", "enrolled alice"); /* the same once more */
    expect(1, "token alice --key a/admin.key --out - %", "alice: id-taken");
    expect(0, "token bob --key a/admin.key --out - %", NULL);
    CU_ASSERT_EQUAL(strlen(out), 33);
    expect(1, "token carol --key a/alice.key %", "carol: not-authorized");
    CU_ASSERT_FALSE(exists("carol.token"));
    leave();
}

static void open_with_authority(void)
{
    char policy[1024];
    char key[64];
    enter(NULL);
    expect(0, "authority init", "authority = [ \"");
    read_all("authority.public", key, sizeof(key));
    key[strcspn(key, "\n")] = '\0';
    (void)snprintf(policy, sizeof(policy), "authority = [ \"%s\" ];\n%s", key, POLICY("authority"));
    open_broker(policy);
}

static void certify(const char *dir, const char *id)
{
    char words[256];
    (void)snprintf(words, sizeof(words),
                   "authority issue --authority-key authority.key --record %s/%s.pub --out %s/%s.cert", dir, id, dir,
                   id);
    expect(0, words, "certificate of");
}

static void test_authority(void)
{
    open_with_authority();
    expect(1, "authority init", "authority.public");
    expect(0, "keygen --id alice --out a", NULL);
    expect(1, "enroll --key a/alice.key %", "alice: not-certified (");
    CU_ASSERT_PTR_NOT_NULL(strstr(err, "): give --certificate"));
    certify("a", "alice");
    expect(0, "enroll --key a/alice.key --certificate a/alice.cert %", "enrolled alice");
    expect(1, "enroll --key a/alice.key --certificate a/alice.cert --authority authority.public %", "the gate of");
    expect(0, "lookup alice --authority authority.public %", " current");
    expect(2, "authority issue --authority-key authority.key --record a/alice.pub --groups x,x", "twice");
    expect(2, "authority issue --authority-key authority.key --record a/alice.pub --groups ,", "--groups");
    leave();
}

/* A key that is lost, and one that was revoked, come back by an authority alone, and are certified at once. */
static void test_recovery(void)
{
    open_with_authority();
    expect(0, "keygen --id alice --out a", NULL);
    certify("a", "alice");
    expect(0, "enroll --key a/alice.key --certificate a/alice.cert %", NULL);
    expect(0, "revoke alice --key a/alice.key %", "revoked alice, version 2");
    expect(1, "rotate --key a/alice.key %", "only an authority");
    expect(0, "rotate --key a/alice.key --authority-key authority.key %", "rotated alice, version 3");
    expect(0, "lookup alice --authority authority.public %", " 3 ");
    expect(0, "keygen --id alice --out b", NULL); /* another machine, with the keys lost */
    expect(1, "rotate --key b/alice.key %", "only an authority");
    expect(0, "rotate --key b/alice.key --authority-key authority.key %", "rotated alice, version 4");
    expect(0, "lookup alice --authority authority.public %", " current");
    leave();
}

/* ---- by id ---- */

static void test_by_id(void)
{
    enter(POLICY("open"));
    enroll_both();
    pid_t sub = listen_in_background("sub --key b/bob.key -t 't/#' -t ready %");
    for (int i = 0; i < 100 && !exists("b/bob.seen"); i++)
        (void)poll(NULL, 0, 10);
    expect(0, "pub --key a/alice.key --to bob -t t/0 -q 1 -r % -m first", NULL); /* retained: it may not listen yet */
    CU_ASSERT_TRUE(holds("sub.out", "first"));
    CU_ASSERT_TRUE(exists("a/pins/bob.pin") && exists("b/pins/alice.pin"));
    expect(0, "rotate --key a/alice.key %", "rotated alice, version 2");
    CU_ASSERT_TRUE(holds("sub.err", "alice has a new signing key, which the old one signed: version 2"));
    expect(0, SEND "second", NULL);
    CU_ASSERT_TRUE(holds("sub.out", "second"));
    expect(0, "rotate --renew --key a/alice.key %", "renewed alice, version 3");
    CU_ASSERT_TRUE(holds("sub.err", "alice renewed its record: version 3"));
    expect(0, "rotate --key b/bob.key %", "rotated bob"); /* the one who listens, by another process */
    expect(0, SEND "third", NULL);
    CU_ASSERT_PTR_NOT_NULL(strstr(err, "bob has a new signing key"));
    CU_ASSERT_TRUE(holds("sub.out", "third"));
    expect(0, "revoke alice --key a/alice.key %", "revoked alice, version 4");
    CU_ASSERT_TRUE(holds("sub.err", "alice was revoked"));
    expect(1, SEND "fourth", "refused");
    expect(1, "pub --key b/bob.key --to alice -t t/1 -q 1 % -m x", "revoked-signer");
    expect(1, "rotate --key a/alice.key %", "revoked");
    CU_ASSERT_TRUE(lacks("sub.err", "WARNING") && lacks("sub.err", "dropped") && lacks("sub.out", "fourth"));
    stop_listening(sub);
    leave();
}

/* Who was not there learns of it all when he is. */
static void test_offline(void)
{
    enter(POLICY("open"));
    enroll_both();
    expect(0, SEND "x -r", NULL);
    expect(0, "sub --key b/bob.key -t t/1 -C 1 -W 20 %", "x");
    for (int i = 0; i < 3; i++)
        expect(0, "rotate --key a/alice.key %", "rotated alice");
    expect(0, SEND "y -r", NULL);
    expect(0, "sub --key b/bob.key -t t/1 -C 1 -W 20 %", "y");
    CU_ASSERT_PTR_NOT_NULL(strstr(err, "alice has a new signing key"));
    expect(0, "lookup --history alice --json %", "\"version\":4");
    expect(0, "lookup --pins b/pins alice %", " 4 ");
    leave();
}

/* A retained message by a key that was replaced since opens for somebody who has never seen that key. */
static void test_former_key(void)
{
    enter(POLICY("open"));
    enroll_both();
    expect(0, SEND "kept -r", NULL);
    expect(0, "rotate --key a/alice.key %", NULL);
    expect(0, "sub --key b/bob.key -t t/1 -C 1 -W 20 %", "kept");
    leave();
}

static void test_will(void)
{
    enter(POLICY("open"));
    enroll_both();
    expect(0, SEND "x --will-topic t/w --will-payload gone", NULL);
    leave();
}

/* ---- interrupted ---- */

/* The directory took the new keys, and the process died before it could put them into their place. */
static void test_interrupted_rotation(void)
{
    enter(POLICY("open"));
    enroll_both();
    CU_ASSERT_EQUAL(system("cp -p a/alice.key a/alice.pub b/"), 0); // NOLINT(cert-env33-c)
    expect(0, "rotate --key a/alice.key %", "version 2");
    CU_ASSERT_EQUAL(system("cp a/alice.key a/alice.key.new; mv b/alice.* a/"), 0); // NOLINT(cert-env33-c)
    expect(0, "rotate --key a/alice.key %", "rotated alice, version 2");           /* no third version */
    CU_ASSERT_FALSE(exists("a/alice.key.new"));
    expect(0, SEND "x", NULL);
    /* and before it was sent: the same keys are used */
    expect(0, "keygen --id alice --out b", NULL);
    CU_ASSERT_EQUAL(rename("b/alice.key", "a/alice.key.new"), 0);
    expect(0, "rotate --key a/alice.key %", "version 3");
    CU_ASSERT_FALSE(exists("a/alice.key.new"));
    expect(0, SEND "x", NULL);
    leave();
}

/* Keys from before a rotation are deleted from the file when their time is over, and not before. */
static void test_old_keys_end(void)
{
    pep_device first;
    pep_device second;
    pep_device now;
    pep_error error = {""};
    uint64_t now_s = pep_now_us() / 1000000;
    enter(NULL);
    CU_ASSERT_EQUAL(pep_device_new(&first, "bob"), PEP_OK);
    for (int past = 0; past < 2; past++) {
        uint64_t until_s = past ? now_s - 10 : now_s + 1000;
        CU_ASSERT_EQUAL(pep_device_renew(&second, &first, false, now_s - 100, until_s), PEP_OK);
        CU_ASSERT_EQUAL(pep_device_replace(&error, "b/bob.key", &second), PEP_OK);
        expect(1, "open --key b/bob.key --signed-only < /dev/null", "empty-payload");
        CU_ASSERT_EQUAL(pep_device_load(&now, &error, "b/bob.key"), PEP_OK);
        CU_ASSERT_EQUAL(now.previous_count, past ? 0 : 1);
        CU_ASSERT_EQUAL(memcmp(now.sign_kid, second.sign_kid, PEP_KID_BYTES), 0);
    }
    leave();
}

/* ---- a hostile directory ---- */

/* Another broker, where somebody else has enrolled as bob. */
static void test_other_key(void)
{
    enter(POLICY("open"));
    enroll_both();
    expect(0, SEND "x", NULL);
    broker_drop(&b);
    open_broker(POLICY("open"));
    CU_ASSERT_EQUAL(mkdir("m", 0700), 0);
    expect(0, "enroll --key a/alice.key %", NULL);
    expect(0, "enroll --id bob --out m %", NULL);
    expect(1, SEND "secret", "WARNING: what the directory says of bob is not believed: unproven-key");
    CU_ASSERT_PTR_NOT_NULL(strstr(err, "pep lookup --pins a/pins --forget bob"));
    expect(1, "lookup --pins a/pins bob %", "WARNING");
    expect(0, "lookup --pins a/pins --forget bob", "forgot bob");
    expect(0, SEND "accepted", NULL);
    leave();
}

static void test_older_record(void)
{
    enter(POLICY("open"));
    enroll_both();
    CU_ASSERT_EQUAL(mkdir("m", 0700), 0);
    CU_ASSERT_EQUAL(system("cp -p b/bob.* m/"), 0); // NOLINT(cert-env33-c)
    expect(0, "rotate --key b/bob.key %", NULL);
    expect(0, SEND "x", NULL);
    broker_drop(&b);
    open_broker(POLICY("open"));
    expect(0, "enroll --key a/alice.key %", NULL);
    expect(0, "enroll --key m/bob.key %", NULL); /* the one before the rotation */
    expect(1, SEND "secret", "version-went-back");
    CU_ASSERT_PTR_NOT_NULL(strstr(err, "WARNING: "));
    expect(0, "rotate --key b/bob.key %", "rotated bob, version 3"); /* it signs no second version 2 */
    CU_ASSERT_PTR_NOT_NULL(strstr(err, "does not have version 2 of bob"));
    leave();
}

/* What lies in the key's folder as a file is where a pin begins. */
static void test_file_first(void)
{
    enter(POLICY("open"));
    enroll_both();
    expect(0, "keygen --id carol --out a", NULL); /* a carol whose record alice was given */
    expect(0, "enroll --id carol --out b %", NULL);
    expect(1, "pub --key a/alice.key --to carol -t t/1 -q 1 % -m x", "unproven-key");
    leave();
}

/* A record that was given as a file does not outlive what was learnt since: the key has ended, on whatever broker. */
static void test_file_outdated(void)
{
    enter(POLICY("open"));
    enroll_both();
    CU_ASSERT_EQUAL(mkdir("m", 0700), 0);
    CU_ASSERT_EQUAL(system("cp a/alice.pub b/; cp -p a/alice.* m/"), 0); // NOLINT(cert-env33-c)
    expect(0, "rotate --key a/alice.key --now %", NULL);
    expect(0, SEND "x -r", NULL);
    expect(0, "sub --key b/bob.key -t t/1 -C 1 -W 20 %", "x");
    broker_drop(&b);
    broker_make(&b);
    broker_write(&b, "mosquitto.conf", CONF_BASE);
    CU_ASSERT_FATAL(broker_start(&b));
    expect(0, "pub --key m/alice.key --to b/bob.pub -t t/1 -q 1 -r % -m stolen", NULL);
    expect(1, "sub --key b/bob.key -t t/1 -C 1 -W 2 %", "dropped t/1: rotated-signer");
    leave();
}

/* ---- brokers without a directory ---- */

static void test_no_directory(void)
{
    enter(NULL);
    expect(0, "keygen --id alice --out a", NULL);
    expect(0, "keygen --id bob --out b", NULL);
    CU_ASSERT_EQUAL(system("cp a/alice.pub b/"), 0); // NOLINT(cert-env33-c)
    broker_make(&b);
    broker_write(&b, "mosquitto.conf", CONF_BASE);
    CU_ASSERT_FATAL(broker_start(&b));
    expect(0, "pub --key a/alice.key --to b/bob.pub -t t/1 -q 1 -r % -m x", NULL);
    expect(0, "sub --key b/bob.key -t t/1 -C 1 -W 20 %", "x");
    CU_ASSERT_STRING_EQUAL(err, "");
    CU_ASSERT_FALSE(exists("b/pins"));
    expect(3, "pub --key a/alice.key --to bob -t t/1 -q 1 % -m x", "the directory of");
    expect(3, "pub --key a/alice.key --to bob --no-directory -t t/1 -q 1 % -m x", NULL);
    expect(3, "enroll --key a/alice.key %", "shows no gate");
    expect(3, "lookup alice %", "does not answer");
    CU_ASSERT_EQUAL(unlink("b/alice.pub"), 0);
    CU_ASSERT_EQUAL(unlink("b/bob.seen"), 0);
    expect(1, "sub --key b/bob.key -t t/1 -C 1 -W 8 %", "dropped t/1: unknown-signer"); /* held, and let go */
    leave();
}

/* On a broker where anybody may write there: a false record of a sender, retained. */
static void test_false_entry(void)
{
    enter(NULL);
    expect(0, "keygen --id alice --out a", NULL);
    expect(0, "keygen --id bob --out b", NULL);
    CU_ASSERT_EQUAL(system("cp a/alice.pub b/"), 0); // NOLINT(cert-env33-c)
    broker_make(&b);
    broker_write(&b, "mosquitto.conf", CONF_BASE);
    CU_ASSERT_FATAL(broker_start(&b));
    pep_device thief;
    uint8_t record[PEP_RECORD_BYTES_MAX];
    uint8_t bytes[PEP_ENTRY_BYTES_MAX];
    size_t n;
    uint64_t now_s = pep_now_us() / 1000000;
    CU_ASSERT_EQUAL(pep_device_new(&thief, "alice"), PEP_OK);
    CU_ASSERT_EQUAL(pep_record_sign(record, &n, &thief, now_s, now_s + 3600), PEP_OK);
    const pep_entry e = {.statement = {record, n}};
    CU_ASSERT_EQUAL(pep_entry_encode(bytes, &n, &e), PEP_OK);
    client *c = client_open((client_spec){.port = b.port});
    CU_ASSERT_EQUAL(client_publish(c, PEP_KEYS_TOPIC "alice", bytes, n, 1, true), 0);
    CU_ASSERT_EQUAL(client_publish(c, PEP_KEYS_TOPIC "bob", "garbage", 7, 1, true), 0);
    pid_t sub = listen_in_background("sub --key b/bob.key -t 't/#' %");
    CU_ASSERT_TRUE(holds("sub.err", "WARNING: what the directory says of alice is not believed: unproven-key"));
    CU_ASSERT_TRUE(holds("sub.err", "WARNING: what the directory says of bob is not believed: malformed"));
    expect(0, "pub --key a/alice.key --to b/bob.pub -t t/1 -q 1 % -m right", NULL);
    CU_ASSERT_TRUE(holds("sub.out", "right"));
    stop_listening(sub);
    client_close(c);
    leave();
}

/* Anybody can invent senders: what they cost is bounded, and those who are known are heard meanwhile. */
static void test_invented_senders(void)
{
    enter(POLICY("open"));
    enroll_both();
    expect(0, SEND "x -r", NULL);
    expect(0, "sub --key b/bob.key -t t/1 -C 1 -W 20 %", "x");
    pid_t sub = listen_in_background("sub --key b/bob.key -t 't/#' -t 'u/#' --signed-only %");
    client *c = client_open((client_spec){.port = b.port});
    expect(0, SEND "begin -r", NULL);
    CU_ASSERT_TRUE(holds("sub.out", "begin"));
    for (int i = 0; i < 1500; i++) {
        pep_device device;
        uint8_t bytes[512];
        size_t n;
        CU_ASSERT_EQUAL(pep_device_new(&device, "nobody"), PEP_OK);
        const pep_message m = {
            .from = &device, .topic = {(const uint8_t *)"u/1", 3}, .seq = pep_now_us(), .flags = PEP_FLAG_SIGNED_ONLY};
        CU_ASSERT_EQUAL(pep_seal(bytes, &n, sizeof(bytes), &m), PEP_OK);
        CU_ASSERT_EQUAL(client_publish(c, "u/1", bytes, n, 0, false), 0);
    }
    expect(0, SEND "meanwhile", NULL);
    CU_ASSERT_TRUE(holds("sub.out", "meanwhile"));
    CU_ASSERT_TRUE(holds("sub.err", "dropped u/1: unknown-signer"));
    stop_listening(sub);
    client_close(c);
    leave();
}

static const unit_test tests[] = {
    {"enrolling: open", test_open},
    {"new folders", test_new_folders},
    {"beside an authority", test_beside_an_authority},
    {"enrolling: closed", test_closed},
    {"enrolling: by token", test_token},
    {"enrolling: by certificate", test_authority},
    {"an authority recovers", test_recovery},
    {"by id, through all changes", test_by_id},
    {"changes while nobody listened", test_offline},
    {"a former key's retained message", test_former_key},
    {"a will to an id", test_will},
    {"an interrupted rotation", test_interrupted_rotation},
    {"old keys are deleted", test_old_keys_end},
    {"another key of the same id", test_other_key},
    {"an older record", test_older_record},
    {"a record that was given as a file", test_file_first},
    {"a record from a file, outdated", test_file_outdated},
    {"a broker without a directory", test_no_directory},
    {"a false entry", test_false_entry},
    {"invented senders", test_invented_senders},
};

UNIT_MAIN("directory_cli", tests)
