/*
 * Promise: the broker does not start where the plugin could not protect it, and one line of the log says why.
 */
#include "stage.h"
#include "tests/unit/unit.h"

#include <sys/stat.h>
#include <unistd.h>

#define POLICY  "plugin_opt_policy @/policy.conf\n"
#define RECORDS "plugin_opt_records @/records\n"
#define STATE   "plugin_opt_state @/state\n"

#define HEAD(enroll) "enroll = \"" enroll "\";\n"
#define RULE         "{ filter = \"t/#\"; mode = \"enforce\"; payload = \"encrypted\"; signers = [ \"*\" ]; }"
#define GOOD         HEAD("closed") "topics = ( " RULE " );\n"

static broker b;

static void make(const char *policy, const char *options)
{
    char conf[1024];
    CU_ASSERT_EQUAL(pep_init(), PEP_OK);
    broker_make(&b);
    broker_write(&b, "policy.conf", policy);
    snprintf(conf, sizeof(conf), "%s%s", CONF_BASE CONF_ACL "plugin @/mosquitto_pep.so\n", options);
    broker_write(&b, "mosquitto.conf", conf);
}

/* True where the start fails and one line of the plugin's holds `says`. */
static bool refuses_to_start(const char *says)
{
    char line[256];
    snprintf(line, sizeof(line), "pep: *%s", says);
    bool refused = !broker_start(&b) && b.exit_code != 0 && broker_log_count(&b, line) == 1;
    if (!refused)
        fprintf(stderr, "expected one line with: %s\n", says);
    return refused;
}

static void good_options_start(void)
{
    make(GOOD, POLICY RECORDS STATE);
    CU_ASSERT_TRUE(broker_start(&b));
    struct stat state = {0};
    CU_ASSERT_EQUAL(stat(broker_path(&b, "state"), &state), 0);
    CU_ASSERT_EQUAL(state.st_mode & 07777, 0700);
    CU_ASSERT_EQUAL(broker_log_count(&b, ": pep [0-9]*:"), 1);
    broker_drop(&b);
}

/* As the service does it: what the plugin makes must belong to whom the broker becomes. */
static void root_may_start_it(void)
{
    if (geteuid() != 0) {
        puts("skipped: needs root");
        return;
    }
    make(GOOD, POLICY RECORDS STATE);
    b.as_root = true;
    CU_ASSERT_TRUE(broker_start(&b));
    struct stat state = {0}, folder = {0};
    CU_ASSERT_EQUAL(stat(broker_path(&b, "state"), &state), 0);
    CU_ASSERT_EQUAL(stat(b.folder, &folder), 0);
    CU_ASSERT_NOT_EQUAL(state.st_uid, 0);
    CU_ASSERT_EQUAL(state.st_uid, folder.st_uid);
    broker_drop(&b);
}

static void wrong_options_are_named(void)
{
    static const struct {
        const char *options, *says;
    } wrong[] = {
        {RECORDS STATE, "plugin_opt_policy"},
        {POLICY STATE, "plugin_opt_records"},
        {POLICY RECORDS, "plugin_opt_state"},
        {POLICY RECORDS STATE "plugin_opt_recrods @/records\n", "plugin_opt_recrods"},
        {POLICY RECORDS STATE "plugin_opt_Policy @/policy.conf\n", "plugin_opt_Policy"},
        {"plugin_opt_policy policy.conf\n" RECORDS STATE, "plugin_opt_policy*absolute"},
        {POLICY "plugin_opt_records records\n" STATE, "plugin_opt_records*absolute"},
        {POLICY RECORDS "plugin_opt_state ./state\n", "plugin_opt_state*absolute"},
        {"plugin_opt_policy @/no-such.conf\n" RECORDS STATE, "no-such.conf"},
        {POLICY "plugin_opt_records @/no-such-folder\n" STATE, "no-such-folder"},
        {POLICY RECORDS "plugin_opt_state @/no-such-parent/state\n", "no-such-parent"},
        {POLICY RECORDS "plugin_opt_state @/acl\n", "/acl*folder"},
        {POLICY POLICY RECORDS STATE, "plugin_opt_policy*twice"},
        {POLICY RECORDS STATE "plugin_opt_sys_interval soon\n", "plugin_opt_sys_interval*number"},
        {POLICY RECORDS STATE "plugin_opt_sys_interval -1\n", "plugin_opt_sys_interval*number"},
        {POLICY RECORDS STATE "plugin_opt_sys_interval 65536\n", "plugin_opt_sys_interval*number"},
        {POLICY RECORDS STATE "plugin_opt_sys_interval 4294967296\n", "plugin_opt_sys_interval*number"},
        {POLICY RECORDS STATE "plugin_opt_sys_interval 10s\n", "plugin_opt_sys_interval*number"},
        {POLICY RECORDS STATE "plugin_opt_sys_interval 1\nplugin_opt_sys_interval 1\n",
         "plugin_opt_sys_interval*twice"},
    };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        make(GOOD, wrong[i].options);
        CU_ASSERT_TRUE(refuses_to_start(wrong[i].says));
        broker_drop(&b);
    }
}

/* The error names the file and, where it is in a line, the line. */
static void wrong_policies_are_named(void)
{
    static const struct {
        const char *policy, *says;
    } wrong[] = {
        {"", "policy.conf"},
        {HEAD("closed") "topics = ( {", "policy.conf:2"},
        {HEAD("closed") "topics = ();\nsurprise = 1;\n", "policy.conf:3*surprise"},
        {HEAD("closed") "topics = ( " RULE ",\n" RULE " );\n", "policy.conf:3*t/#"},
        {HEAD("closed") "topics = ( { filter = \"t/#\"; modus = \"enforce\"; } );\n", "policy.conf:2*modus"},
        {HEAD("authority") "topics = ( " RULE " );\n", "enroll"},
        {HEAD("open") "topics = ( " RULE " );\n", "max_records"},
        {HEAD("maybe") "topics = ( " RULE " );\n", "policy.conf:1*enroll"},
    };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        make(wrong[i].policy, POLICY RECORDS STATE);
        CU_ASSERT_TRUE(refuses_to_start(wrong[i].says));
        broker_drop(&b);
    }
}

static void unreadable_files_are_named(void)
{
    make(GOOD, POLICY RECORDS STATE);
    CU_ASSERT_EQUAL(chmod(broker_path(&b, "policy.conf"), 0), 0);
    CU_ASSERT_TRUE(refuses_to_start("policy.conf"));
    CU_ASSERT_EQUAL(chmod(broker_path(&b, "policy.conf"), 0644), 0);
    broker_write(&b, "records/zoe.pub", "not a record");
    CU_ASSERT_TRUE(refuses_to_start("zoe.pub"));
    broker_drop(&b);
}

/* Two brokers that share the replay state would each forget what the other saw. */
static void a_state_in_use_is_refused(void)
{
    stage s;
    stage_set(&s, GOOD, CONF_GUARDED);
    broker second = s.b;
    second.port = 0;
    second.pid = 0;
    CU_ASSERT_FALSE(broker_start(&second));
    CU_ASSERT_NOT_EQUAL(second.exit_code, 0);
    CU_ASSERT_EQUAL(broker_log_count(&second, "pep: *state*"), 1);
    CU_ASSERT_TRUE(client_fence(s.to, s.to));
    stage_strike(&s);
}

/* The counters are there from the first tick on, before anybody can connect; with an interval of 0 they never are. */
static void counters_can_be_switched_off(void)
{
    for (int off = 0; off <= 1; off++) {
        make(GOOD, off == 1 ? POLICY RECORDS STATE "plugin_opt_sys_interval 0\n" : POLICY RECORDS STATE);
        CU_ASSERT_TRUE(broker_start(&b));
        client *c = client_open((client_spec){.port = b.port, .id = "c"});
        client_subscribe(c, COUNTERS, 0);
        client_subscribe(c, FENCE_TOPIC, 0);
        CU_ASSERT_TRUE(client_fence(c, c));
        CU_ASSERT_EQUAL(client_counter(c, "policy/loaded"), off == 1 ? -1 : 1);
        client_close(c);
        broker_drop(&b);
    }
}

/* A failed start leaves nothing that hinders the next one. */
static void a_repaired_policy_starts(void)
{
    make("broken", POLICY RECORDS STATE);
    CU_ASSERT_TRUE(refuses_to_start("policy.conf:1"));
    broker_write(&b, "policy.conf", GOOD);
    CU_ASSERT_TRUE(broker_start(&b));
    broker_drop(&b);
}

static const unit_test TESTS[] = {
    {"good options start, with one line in the log", good_options_start},
    {"root may start it", root_may_start_it},
    {"wrong options are named", wrong_options_are_named},
    {"wrong policies are named", wrong_policies_are_named},
    {"unreadable files are named", unreadable_files_are_named},
    {"a state in use is refused", a_state_in_use_is_refused},
    {"counters can be switched off", counters_can_be_switched_off},
    {"a repaired policy starts", a_repaired_policy_starts},
};
UNIT_MAIN("start", TESTS)
