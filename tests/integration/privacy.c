/*
 * `pep privacy check`: each setting that keeps or shows more of messages than their delivery needs is one line, in
 * which file and line, what it keeps and a remedy stand; and nothing else is. Promise: exit code 0 means that the
 * broker, as it is configured, keeps nothing of a message beyond five minutes after its delivery.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/unit.h"
#include "tool.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Nothing to warn of. What a case adds begins in line 5. */
#define PEP    "plugin /usr/lib/mosquitto_pep.so\nplugin_opt_policy policy.conf\n"
#define EXPIRE "persistent_client_expiration 30d\n"
#define QUIET  "connection_messages false\n"
#define CLEAN  PEP EXPIRE QUIET

#define RULES(keys) "enroll = \"closed\";\ntopics = (\n { filter = \"a/+\"; signers = [ \"*\" ]; " keys " }\n);\n"

static const char conf[] = "m.conf";

static void put(const char *path, const char *text)
{
    FILE *file = fopen(path, "we");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    CU_ASSERT_TRUE(fputs(text, file) >= 0);
    CU_ASSERT_EQUAL(fclose(file), 0);
}

static void enter(void)
{
    tool_enter(NULL);
    put("policy.conf", RULES(""));
}

/* These lines are all that is said, with the exit code 1; none: `ok` and 0. */
static void expect_findings(const char *words, const char *lines)
{
    int code = tool_run(words);
    bool none = lines[0] == '\0';
    bool right = code == (none ? 0 : 1) && tool_err[0] == '\0' &&
                 (none ? strstr(tool_out, ": ok, ") != NULL : strcmp(tool_out, lines) == 0);
    if (!right)
        printf("\n    pep %s: exit code %d, and %s%s    where it should be: %s", words, code, tool_out, tool_err,
               lines);
    CU_ASSERT_TRUE(right);
}

static void expect_of(const char *text, const char *lines)
{
    put(conf, text);
    expect_findings("privacy check m.conf", lines);
}

/* ---- findings ---- */

typedef struct {
    const char *conf, *lines;
} finding_case;

static void expect_each(const finding_case *cases, size_t n)
{
    enter();
    for (size_t i = 0; i < n; i++)
        expect_of(cases[i].conf, cases[i].lines);
    tool_leave();
}

#define DEBUG_LINE                                                                                                     \
    "the log names client and topic of every message; remove the line when you have found what you are looking for\n"
#define SUBSCRIBE_LINE                                                                                                 \
    "the log names client and filter of every subscription; remove the line when you have found what you are looking " \
    "for\n"
#define UNSUBSCRIBE_LINE                                                                                               \
    "the log names client and filter of every subscription that ends; remove the line when you have found what you "   \
    "are looking for\n"
#define TOPIC_LINE                                                                                                     \
    "the log, with the names of clients in it, goes to whoever may read $SYS/broker/log/#; log to a file\n"
#define WEBSOCKETS_LINE  "the log has what the websockets library says of what it reads; set it to 0\n"
#define CONNECTIONS_LINE "the log has who connected from where, when, and for how long; set it to false\n"

static const finding_case log_cases[] = {
    {CLEAN "log_type debug\n", "m.conf:5: log_type debug: " DEBUG_LINE},
    {CLEAN "log_type all\n", "m.conf:5: log_type all: " DEBUG_LINE},
    {CLEAN "log_type subscribe\n", "m.conf:5: log_type subscribe: " SUBSCRIBE_LINE},
    {CLEAN "log_type unsubscribe\n", "m.conf:5: log_type unsubscribe: " UNSUBSCRIBE_LINE},
    {CLEAN "log_type error\nlog_type debug\nlog_type subscribe\n",
     "m.conf:6: log_type debug: " DEBUG_LINE "m.conf:7: log_type subscribe: " SUBSCRIBE_LINE},
    {CLEAN "log_type error\nlog_type warning\nlog_type notice\nlog_type information\nlog_type internal\n", ""},
    {CLEAN "log_type debug\nlog_type all\nlog_type none\n", ""}, /* takes back */
    {CLEAN "log_type none\nlog_type debug\n", "m.conf:6: log_type debug: " DEBUG_LINE},
    {CLEAN "log_type debugging\n", ""}, /* Mosquitto does not start with it */
    /* where it goes */
    {CLEAN "log_type all\nlog_dest none\n", ""},
    {CLEAN "log_type all\nlog_dest file /tmp/none/x\n", "m.conf:5: log_type all: " DEBUG_LINE},
    {CLEAN "log_type all\nlog_dest syslog\n", "m.conf:5: log_type all: " DEBUG_LINE},
    {CLEAN "log_type all\nlog_dest stdout\n", "m.conf:5: log_type all: " DEBUG_LINE},
    {CLEAN "log_type all\nlog_dest stderr\n", "m.conf:5: log_type all: " DEBUG_LINE},
    {CLEAN "log_type all\nlog_dest dlt\n", "m.conf:5: log_type all: " DEBUG_LINE},
    {CLEAN "log_type all\nlog_dest syslog\nlog_dest none\n", ""},
    {CLEAN "log_type debug\nlog_dest topic\n", "m.conf:6: log_dest topic: " TOPIC_LINE}, /* debug is not told there */
    {CLEAN "log_type all\nlog_dest topic\n",
     "m.conf:5: log_type all: " SUBSCRIBE_LINE "m.conf:6: log_dest topic: " TOPIC_LINE},
    {CLEAN "log_dest topic\n", "m.conf:5: log_dest topic: " TOPIC_LINE},
    {CLEAN "log_dest topic\nlog_type none\n", ""},
    {CLEAN "log_dest topic\nlog_dest none\nlog_dest stderr\n", ""},
    /* websockets */
    {CLEAN "log_type websockets\nwebsockets_log_level 255\n", "m.conf:6: websockets_log_level 255: " WEBSOCKETS_LINE},
    {CLEAN "log_type websockets\nwebsockets_log_level 255\nlog_dest none\n", ""},
    {CLEAN "log_type websockets\nwebsockets_log_level 0\n", ""},
    {CLEAN "log_type websockets\n", ""},
    {CLEAN "websockets_log_level 255\n", ""},
    /* connections */
    {PEP EXPIRE, "m.conf: no connection_messages line: by default, " CONNECTIONS_LINE},
    {PEP EXPIRE "connection_messages true\n", "m.conf:4: connection_messages true: " CONNECTIONS_LINE},
    {CLEAN "connection_messages 1\n", "m.conf:5: connection_messages 1: " CONNECTIONS_LINE},
    {PEP EXPIRE "log_dest none\n", ""},
    {PEP EXPIRE "log_type error\n", ""},
    {PEP EXPIRE "log_type error\nlog_type notice\n",
     "m.conf: no connection_messages line: by default, " CONNECTIONS_LINE},
    {CLEAN "log_timestamp true\nlog_timestamp_format %s\nlog_facility 5\nsys_interval 1\nallow_anonymous true\n", ""},
};

static void test_logs(void)
{
    expect_each(log_cases, COUNT(log_cases));
}

#define STAYS       "what was delivered stays in the database "
#define SEVERAL     "; set it to 300 or less\n"
#define PERSISTENCE "persistence true\n"
#define SAVED       PERSISTENCE "autosave_interval 300\n"

static const finding_case kept_cases[] = {
    {CLEAN PERSISTENCE, "m.conf: no autosave_interval line: by default, " STAYS "for up to 1800 s" SEVERAL},
    {CLEAN "retained_persistence 1\n",
     "m.conf: no autosave_interval line: by default, " STAYS "for up to 1800 s" SEVERAL},
    {CLEAN SAVED, ""},
    {CLEAN "persistence true\nautosave_interval 301\n",
     "m.conf:6: autosave_interval 301: " STAYS "for up to 301 s" SEVERAL},
    {CLEAN "autosave_interval 0\n" PERSISTENCE,
     "m.conf:5: autosave_interval 0: " STAYS "until the broker stops" SEVERAL},
    {CLEAN PERSISTENCE "autosave_interval -1\n",
     "m.conf:6: autosave_interval -1: " STAYS "until the broker stops" SEVERAL},
    {CLEAN PERSISTENCE "autosave_interval never\n", /* Mosquitto's atoi: 0 */
     "m.conf:6: autosave_interval never: " STAYS "until the broker stops" SEVERAL},
    {CLEAN SAVED "autosave_interval 900\n", "m.conf:7: autosave_interval 900: " STAYS "for up to 900 s" SEVERAL},
    {CLEAN "autosave_interval 900\n" SAVED, ""},
    {CLEAN SAVED "autosave_on_changes true\n", "m.conf:7: autosave_on_changes true: " STAYS
                                               "until enough has changed, however long that takes; remove the line\n"},
    {CLEAN PERSISTENCE "autosave_interval 0\nautosave_on_changes true\n", /* then it counts nothing */
     "m.conf:6: autosave_interval 0: " STAYS "until the broker stops" SEVERAL},
    {CLEAN SAVED "autosave_on_changes false\n", ""},
    {CLEAN "persistence false\nautosave_interval 0\nautosave_on_changes true\n", ""},
    {CLEAN PERSISTENCE "persistence false\n", ""},
    {CLEAN PERSISTENCE "retained_persistence false\n", ""},
    {CLEAN "retained_persistence true\npersistence false\n", ""},
    /* queues */
    {PEP QUIET, "m.conf: no persistent_client_expiration line: by default, what is queued for a client that never "
                "comes back is kept for ever; set it, to 30d for instance\n"},
    {CLEAN "queue_qos0_messages true\n", "m.conf:5: queue_qos0_messages true: messages of QoS 0, too, are kept for who "
                                         "is away; remove the line\n"},
    {CLEAN "queue_qos0_messages true\nqueue_qos0_messages false\n", ""},
    {CLEAN "upgrade_outgoing_qos true\n", "m.conf:5: upgrade_outgoing_qos true: messages of QoS 0, too, are kept for "
                                          "who is away and subscribed with more; remove the line\n"},
    {CLEAN "max_queued_messages 0\n", "m.conf:5: max_queued_messages 0: for who is away, everything is kept, however "
                                      "much it is; set it to what has to be kept, or max_queued_bytes\n"},
    {CLEAN "max_queued_messages 0\nmax_queued_bytes 1000\n", ""},
    {CLEAN "max_queued_messages 10\nmax_queued_bytes 0\n", ""},
    {CLEAN "retain_available true\nretain_expiry_interval 1\nmax_inflight_messages 0\n", ""},
};

static void test_kept(void)
{
    expect_each(kept_cases, COUNT(kept_cases));
}

#define GOES                                                                                                           \
    "what its topics match goes to another broker, with logs and queues of its own; send as little as is needed, and " \
    "check that broker's configuration\n"
#define WAITS                                                                                                          \
    "while the other broker is away, what is for it is kept, however long that lasts; add local_cleansession true "    \
    "where it may as well be lost\n"

static const finding_case bridge_cases[] = {
    {CLEAN "connection up\naddress a\ntopic x/# out 1\n",
     "m.conf:5: connection up: " GOES "m.conf:5: connection up: " WAITS},
    {CLEAN "connection up\naddress a\ntopic x/# Both 1\ncleansession true\n", "m.conf:5: connection up: " GOES},
    {CLEAN "connection up\ntopic x/#\nlocal_cleansession true\n", "m.conf:5: connection up: " GOES},
    {CLEAN "connection up\ntopic x\ncleansession true\nlocal_cleansession false\n",
     "m.conf:5: connection up: " GOES "m.conf:5: connection up: " WAITS},
    {CLEAN "connection up\naddress a\ntopic x/# in 1\nnotifications true\ntry_private true\n", ""},
    {CLEAN "connection up\ntopic in in 1\n", ""},
    {CLEAN "connection in\ntopic x in\nconnection out\ntopic y out\ncleansession true\n",
     "m.conf:7: connection out: " GOES},
    {CLEAN "connection one\ntopic x\ncleansession 1\nconnection two\ntopic y\n",
     "m.conf:5: connection one: " GOES "m.conf:8: connection two: " GOES "m.conf:8: connection two: " WAITS},
};

static void test_bridges(void)
{
    expect_each(bridge_cases, COUNT(bridge_cases));
}

#define MAY_KEEP "a plugin sees every message, and may keep it; remove it, unless you know that it does not\n"

#define UNKNOWN "no setting of Mosquitto 2.0 or 2.1, so what it keeps is not known here; see mosquitto.conf(5)\n"

static const finding_case plugin_cases[] = {
    {EXPIRE QUIET, "m.conf: no plugin line: by default, nothing is checked for being encrypted, so that payloads may "
                   "be readable wherever they lie; load mosquitto_pep.so\n"},
    {EXPIRE QUIET "plugin /usr/lib/mosquitto_pep.so\n",
     "m.conf:3: plugin /usr/lib/mosquitto_pep.so: without plugin_opt_policy no topic is protected, and payloads may be "
     "readable; add that line\n"},
    {CLEAN "plugin /usr/lib/other.so\nplugin_opt_policy none.conf\n", "m.conf:5: plugin /usr/lib/other.so: " MAY_KEEP},
    {CLEAN "auth_plugin other.so\n", "m.conf:5: auth_plugin other.so: " MAY_KEEP},
    {CLEAN "global_plugin other.so\n", "m.conf:5: global_plugin other.so: " MAY_KEEP},
    {CLEAN "plugin_load x other.so\nplugin_use x\n", "m.conf:5: plugin_load x other.so: " MAY_KEEP},
    {CLEAN "plugin /usr/lib/mosquitto_persist_sqlite.so\n",
     "m.conf:5: plugin /usr/lib/mosquitto_persist_sqlite.so: what is queued or retained is in a database at once, "
     "where "
     "deleted rows stay until overwritten; use persistence with autosave_interval, or nothing\n"},
    {CLEAN "plugin /x/mosquitto_dynamic_security.so\nplugin_opt_config_file /x\nplugin /x/mosquitto_acl_file.so\n"
           "plugin mosquitto_password_file.so\n",
     ""},
    {EXPIRE QUIET "global_plugin mosquitto_pep.so\nplugin_opt_policy policy.conf\n", ""},
    {EXPIRE QUIET "auth_plugin mosquitto_pep.so\nauth_opt_policy policy.conf\n", ""},
    {EXPIRE QUIET "plugin_load p mosquitto_pep.so\nplugin_load q mosquitto_acl_file.so\nplugin_use p\n"
                  "plugin_opt_policy policy.conf\n",
     ""},
    {CLEAN "accept_protocol_versions 5\nwebsockets_origin x\nplugin_use\nauth_opt_x y\nbridge_ciphers_tls1.3 z\n", ""},
    {CLEAN "persistenc true\npersistence_ true\n plugin_op 1\n",
     "m.conf:5: persistenc: " UNKNOWN "m.conf:6: persistence_: " UNKNOWN "m.conf:7: plugin_op: " UNKNOWN},
    /* what nobody has judged; the value may be a secret */
    {CLEAN "remote_pasword secret\n", "m.conf:5: remote_pasword: " UNKNOWN},
};

static void test_plugins(void)
{
    expect_each(plugin_cases, COUNT(plugin_cases));
}

#define READABLE "what is readable passes, and lies readable in queues and in the database; "

static const finding_case policy_cases[] = {
    {RULES("mode = \"observe\";"), "policy.conf:3: mode \"observe\" of a/+: " READABLE "enforce\n"},
    {RULES("payload = \"signed\";"), "policy.conf:3: payload \"signed\" of a/+: " READABLE "set it to \"encrypted\"\n"},
    {RULES("mode = \"observe\"; payload = \"signed\";"),
     "policy.conf:3: mode \"observe\" of a/+: " READABLE "enforce\n"},
    {RULES("record = \"allow\";"),
     "policy.conf:3: record \"allow\" of a/+: what is recorded is kept until somebody erases it; set keep\n"},
    {RULES("record = \"allow\"; keep = \"30d\";"), ""},
    {"enroll = \"closed\";\ntopics = ( );\n", "m.conf:2: plugin_opt_policy policy.conf: without a rule no topic is "
                                              "protected, and payloads may be readable; add rules to that file\n"},
    {RULES("record = \"deny\"; payload = \"encrypted\"; mode = \"enforce\";"), ""},
};

static void test_policy(void)
{
    enter();
    put(conf, CLEAN);
    for (size_t i = 0; i < COUNT(policy_cases); i++) {
        put("policy.conf", policy_cases[i].conf);
        expect_findings("privacy check m.conf", policy_cases[i].lines);
    }
    tool_leave();
}

/* ---- files that others can read ---- */

static void expect_mode(const char *text, mode_t file, mode_t folder, const char *lines)
{
    CU_ASSERT_EQUAL(chmod("d/x", file) | chmod("d", folder), 0);
    expect_of(text, lines);
}

static void test_modes(void)
{
    char here[256];
    char log[1024];
    char database[1024];
    char log_finding[2048];
    char database_finding[2048];
    enter();
    CU_ASSERT_PTR_NOT_NULL_FATAL(getcwd(here, sizeof(here)));
    CU_ASSERT_EQUAL_FATAL(chmod(".", 0755) | mkdir("d", 0755), 0);
    put("d/x", "");
    (void)snprintf(log, sizeof(log), CLEAN "log_dest file %s/d/x\n", here);
    (void)snprintf(database, sizeof(database), CLEAN SAVED "persistence_location %s/d\npersistence_file x\n", here);
    (void)snprintf(log_finding, sizeof(log_finding),
                   "m.conf:5: log_dest file %s/d/x: every user of this machine can read the log; chmod o-r that file\n",
                   here);
    (void)snprintf(database_finding, sizeof(database_finding),
                   "m.conf:5: persistence true: every user of this machine can read the database of what is queued and "
                   "retained; chmod o-r %s/d/x\n",
                   here);
    expect_mode(log, 0644, 0755, log_finding);
    expect_mode(log, 0640, 0755, "");
    expect_mode(log, 0644, 0750, "");
    expect_mode(database, 0604, 0701, database_finding);
    expect_mode(database, 0600, 0755, "");
    expect_mode(database, 0644, 0700, "");
    tool_leave();
}

/* ---- what is installed ---- */

/* Debian's mosquitto.conf, and the container's, with the file that is installed: nothing to warn of. */
static void test_installed(void)
{
    enter();
    tool_shell("mkdir conf.d && sed 's,@PEP_ETC@,.,; s,@PEP_PLUGIN@,/usr/lib/mosquitto_pep.so,' " PEP_SOURCE
               "/conf/mosquitto.conf.in >conf.d/10-pep.conf && sed 's,@PEP_ETC@,.,' " PEP_SOURCE
               "/conf/policy.conf.in >policy.conf");
    expect_of("# Place your local configuration in /etc/mosquitto/conf.d/\n\npid_file /run/mosquitto/mosquitto.pid\n\n"
              "persistence true\npersistence_location /var/lib/mosquitto/\n\nlog_dest file /none/mosquitto.log\n\n"
              "include_dir conf.d\n",
              "");
    tool_shell("sed 's,/etc/mosquitto/conf.d,conf.d,' " PEP_SOURCE "/docker/mosquitto.conf >m.conf");
    expect_findings("privacy check m.conf", "");
    tool_leave();
}

/* What comes later counts, wherever it stands. */
static void test_include(void)
{
    enter();
    tool_shell("mkdir d");
    put("d/2.conf", "persistence false\nlog_type debug\n");
    put("d/1.conf", PERSISTENCE "log_type all\nlog_type none\n");
    expect_of(CLEAN "include_dir d\n", "d/2.conf:2: log_type debug: " DEBUG_LINE);
    put("d/2.conf", "");
    expect_of(CLEAN "include_dir d\nlog_type subscribe\nautosave_interval 10\n",
              "m.conf:6: log_type subscribe: " SUBSCRIBE_LINE);

    /* one that is included includes nothing, and whoever wrote it is told */
    put("d/2.conf", "include_dir .\n");
    put(conf, CLEAN "autosave_interval 10\ninclude_dir d\n");
    CU_ASSERT_EQUAL(tool_run("privacy check m.conf"), 0);
    CU_ASSERT_STRING_EQUAL(tool_out, "m.conf: ok, 10 settings in 3 files\n");
    CU_ASSERT_STRING_EQUAL(tool_err, "pep: d/2.conf:1: include_dir: has no effect in a file that is included itself\n");
    tool_leave();
}

/* ---- output and errors ---- */

static void test_json(void)
{
    enter();
    put(conf, EXPIRE PEP "log_type debug\nplugin /\xff\x1b.so\n");
    CU_ASSERT_EQUAL(tool_run("privacy check --json m.conf"), 1);
    CU_ASSERT_STRING_EQUAL(
        tool_out,
        "{\"file\":\"m.conf\",\"line\":4,\"setting\":\"log_type debug\",\"keeps\":\"the log names client and topic of "
        "every message\",\"remedy\":\"remove the line when you have found what you are looking for\"}\n"
        "{\"file\":\"m.conf\",\"line\":5,\"setting_base64\":\"cGx1Z2luIC//Gy5zbw==\",\"keeps\":\"a plugin sees every "
        "message, and may keep it\",\"remedy\":\"remove it, unless you know that it does not\"}\n");
    put(conf, EXPIRE PEP);
    CU_ASSERT_EQUAL(tool_run("privacy check --json m.conf"), 1);
    CU_ASSERT_STRING_EQUAL(tool_out, "{\"file\":\"m.conf\",\"setting\":\"connection_messages\",\"keeps\":\"the log has "
                                     "who connected from where, when, and for how long\",\"remedy\":\"set it to "
                                     "false\"}\n");
    put(conf, CLEAN);
    CU_ASSERT_EQUAL(tool_run("privacy check --json m.conf"), 0);
    CU_ASSERT_STRING_EQUAL(tool_out, "");
    CU_ASSERT_EQUAL(tool_run("privacy check --json m.conf >/dev/full"), 0); /* nothing was to be written */
    put(conf, EXPIRE);
    CU_ASSERT_EQUAL(tool_run("privacy check --json m.conf >/dev/full"), 3);
    CU_ASSERT_EQUAL(tool_run("privacy check m.conf >/dev/full"), 3);
    tool_leave();
}

/* Exit code 3, and one line on stderr that begins with `says`. */
static void expect_unreadable(const char *says)
{
    char begin[256];
    int code = tool_run("privacy check m.conf");
    (void)snprintf(begin, sizeof(begin), "pep: %s", says);
    const char *end = strchr(tool_err, '\n');
    bool right = code == 3 && strncmp(tool_err, begin, strlen(begin)) == 0 && end != NULL && end[1] == '\0';
    if (!right)
        printf("\n    exit code %d, not 3, or not the one line '%s': %s", code, begin, tool_err);
    CU_ASSERT_TRUE(right);
}

static void expect_unreadable_text(const char *text, const char *says)
{
    put(conf, text);
    expect_unreadable(says);
}

static void test_unreadable(void)
{
    enter();
    expect_unreadable("m.conf: cannot be read: No such file");
    tool_shell("mkfifo m.conf");
    expect_unreadable("m.conf: is no regular file");
    tool_shell("rm m.conf && mkdir m.conf");
    expect_unreadable("m.conf: is a folder");
    tool_shell("rmdir m.conf && printf 'log_type none\\0all\\n' >m.conf");
    expect_unreadable("m.conf:1: holds a NUL byte");
    tool_shell("yes '#' | head -c 17000000 >m.conf");
    expect_unreadable("m.conf: is too large");
    expect_unreadable_text("include_dir none\n", "m.conf:1: include_dir none: No such file");
    tool_shell("mkdir d && ln -s x.conf d/x.conf");
    expect_unreadable_text("include_dir d\n", "d/x.conf: cannot be read: Too many levels of symbolic links");
    tool_shell("rm d/x.conf && mkfifo d/x.conf");
    expect_unreadable_text("include_dir d\n", "d/x.conf: is no regular file");
    /* what would stop Mosquitto cannot be judged */
    expect_unreadable_text(CLEAN "persistence yes\nautosave_on_changes no\n", "m.conf:5: persistence: neither true");
    expect_unreadable_text(CLEAN SAVED "autosave_on_changes no\n", "m.conf:7: autosave_on_changes: neither true");
    expect_unreadable_text(PEP "connection_messages\n", "m.conf:3: connection_messages: neither true");
    expect_unreadable_text(CLEAN "connection a\ntopic x\ncleansession 2\n", "m.conf:7: cleansession: neither true");
    expect_unreadable_text(QUIET "persistence yes\n", "m.conf:2: persistence: neither true");
    CU_ASSERT_STRING_EQUAL(tool_out, ""); /* what comes behind would be half of it */
    expect_unreadable_text(QUIET "persistence yes\nplugin mosquitto_pep.so\nplugin_opt_policy none.conf\n",
                           "m.conf:2: persistence: neither true"); /* and not another line about the policy */
    /* the policy */
    put("policy.conf", "frobnicate = 1;\n");
    expect_unreadable_text(CLEAN, "policy.conf:1: ");
    expect_unreadable_text(EXPIRE QUIET "plugin mosquitto_pep.so\nplugin_opt_policy none.conf\n", "none.conf: ");
    expect_unreadable_text(EXPIRE QUIET "plugin mosquitto_pep.so\nplugin_opt_policy /\x1b[31m\n", "/?[31m: ");
    tool_leave();
}

/* Whatever stands there, a finding is one line of a length that a person reads. */
static void test_hostile(void)
{
    enter();
    expect_of(CLEAN "plugin /\x1b[31m\x7f/a.so\n", "m.conf:5: plugin /\\x1b[31m\\x7f/a.so: " MAY_KEEP);
    expect_of(CLEAN "log_type\x1b[2J all\n", "m.conf:5: log_type\\x1b[2J: no setting of Mosquitto 2.0 or 2.1, so what "
                                             "it keeps is not known here; see mosquitto.conf(5)\n");
    put(conf, CLEAN);
    tool_shell("{ printf 'plugin /'; head -c 1000000 /dev/zero | tr '\\0' a; echo; } >>m.conf");
    CU_ASSERT_EQUAL(tool_run("privacy check m.conf"), 1);
    CU_ASSERT_TRUE(strlen(tool_out) < 500 && strchr(tool_out, '\n') == tool_out + strlen(tool_out) - 1);
    tool_shell("{ printf 'log_dest file /'; head -c 1000000 /dev/zero | tr '\\0' a; echo; } >>m.conf");
    CU_ASSERT_EQUAL(tool_run("privacy check m.conf"), 1);
    tool_expect(2, "privacy check", "MOSQUITTO_CONF is missing");
    tool_expect(2, "privacy", "needs one of its commands");
    tool_leave();
}

static const unit_test tests[] = {
    {"logs", test_logs},
    {"what the broker keeps", test_kept},
    {"bridges", test_bridges},
    {"plugins, and what is unknown", test_plugins},
    {"the policy", test_policy},
    {"modes of files", test_modes},
    {"what is installed", test_installed},
    {"include_dir", test_include},
    {"JSON", test_json},
    {"unreadable", test_unreadable},
    {"hostile", test_hostile},
};

UNIT_MAIN("privacy", tests)
