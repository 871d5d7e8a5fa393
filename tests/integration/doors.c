/*
 * Promise: nothing unverified reaches a protected topic, through whatever door. Each door is tried with each case.
 * `integration_doors --markdown` prints what is expected of them, as docs/SECURITY.md shows it.
 */
#include "doors.h"

#include <CUnit/CUnit.h>
#include <stdio.h>
#include <string.h>

#include "tests/unit/unit.h"

/* ---- what must come of the cases ---- */

static const door_column QOS_0 = {
    .title = "publish, QoS 0",
    .exceptions = {{"redelivered", PEP_REPLAYED, NULL}},
};

static const door_column PUBLISH = {.title = "publish"};

#define NO_SUCH_CLEAR                                                                                                  \
    {"too large", PEP_OK, "a clear carries nothing"}, {"wrong will flag", PEP_OK, "no clear can be sealed as a will"}, \
    {                                                                                                                  \
        "the same seq again", PEP_OK, "two clears of one seq are the same bytes"                                       \
    }

/* A clear is always signed only. */
static const door_column CLEAR = {
    .title = "signed clear",
    .exceptions = {NO_SUCH_CLEAR, {"signed only", PEP_OK, NULL}},
};

/* Who may clear what it may not say; here the client is a relay, so nobody is unbound. */
static const door_column ADMINS_CLEAR = {
    .title = "signed clear, admin",
    .exceptions = {NO_SUCH_CLEAR,
                   {"signed only", PEP_OK, NULL},
                   {"signer not allowed here", PEP_OK, NULL},
                   {"another device's client", PEP_OK, NULL}},
};

static const door_column CLEAR_QOS_0 = {
    .title = "signed clear, QoS 0",
    .exceptions = {NO_SUCH_CLEAR, {"signed only", PEP_OK, NULL}, {"redelivered", PEP_REPLAYED, NULL}},
};

static const door_column NOT_CLEAR = {
    .title = "clear, not retained",
    .at_the_latest = PEP_MISPLACED_FLAG,
    .exceptions = {NO_SUCH_CLEAR},
};

/* Until a delivery follows, which none does, an ordinary message cannot be told from a will. */
static const door_column WILL = {
    .title = "will",
    .exceptions = {{"wrong will flag", PEP_OK, NULL}, {"redelivered", PEP_REPLAYED, NULL}},
};

/* Who is kicked for bad signatures has used up the verifications that its will would need. */
static const door_column KICKED = {
    .title = "will after a kick",
    .at_the_latest = PEP_RATE_LIMITED,
    .exceptions = {{"wrong will flag", PEP_RATE_LIMITED, NULL},
                   {"tampered", PEP_RATE_LIMITED, NULL},
                   {"the same seq again", PEP_OK, "no will of such a client gets in first"},
                   {"redelivered", PEP_OK, "no will of such a client gets in first"}},
};

/* A relay may bring what others sealed, also their wills. */
#define RELAYED                                                                                                        \
    {"another device's client", PEP_OK, NULL},                                                                         \
    {                                                                                                                  \
        "wrong will flag", PEP_OK, NULL                                                                                \
    }

static const door_column BRIDGE = {.title = "bridge", .exceptions = {RELAYED}};

static const door_column BRIDGE_QOS_0 = {
    .title = "bridge, QoS 0",
    .exceptions = {RELAYED, {"redelivered", PEP_REPLAYED, NULL}},
};

/* What was let in earlier is no longer asked when it came and through whom. */
#define STORED_BEFORE                                                                                                  \
    {"another device's client", PEP_OK, NULL}, {"wrong will flag", PEP_OK, NULL}, {"without a clock", PEP_OK, NULL},   \
        {"from the future", PEP_OK, NULL}, {"stale", PEP_OK, NULL},                                                    \
    {                                                                                                                  \
        "the same seq again", PEP_OK, NULL                                                                             \
    }

static const door_column RETAINED = {
    .title = "retained earlier",
    .exceptions = {STORED_BEFORE, {"empty", PEP_OK, "an empty payload is not retained"}},
};

static const door_column HELD = {
    .title = "held back earlier",
    .exceptions = {STORED_BEFORE, {"empty", PEP_OK, NULL}},
};

static const door_column OTHER_TOPIC = {.title = "prefix without a rule for it", .at_the_latest = PEP_WRONG_TOPIC};

static const door_column RESERVED = {.title = "reserved", .at_the_latest = PEP_RESERVED_TOPIC};

static const door_column UNGUARDED = {.title = "will, another plugin first", .unguarded = true};

static const door_column CLOSED = {.title = "no start", .closed = "the broker does not start"};

/* In the order of the documentation; where nothing can be tried there is no column. */
static const door_column *const COLUMNS[] = {&QOS_0,     &PUBLISH, &CLEAR_QOS_0, &CLEAR,        &ADMINS_CLEAR,
                                             &NOT_CLEAR, &WILL,    &KICKED,      &BRIDGE_QOS_0, &BRIDGE,
                                             &RETAINED,  &HELD,    &OTHER_TOPIC, &RESERVED,     &UNGUARDED};

/* ---- the doors ---- */

#define OBSERVED   GUARD_HEAD("clientid") GUARD_TOPICS(GUARD_RULE("t/#", "observe", ""))
#define BY_NAME    GUARD_HEAD("username") GUARD_TOPICS(GUARD_RULE("t/#", "enforce", ""))
#define ADMINS     "admins = [ \"bob\" ]; relays = [ \"alice\" ];\n" GUARD_POLICY
#define NO_RULE    GUARD_HEAD("clientid") GUARD_TOPICS("{ filter = \"elsewhere\"; signers = [ \"*\" ]; }")
#define KICKING    GUARD_BUDGET("clientid", "1") GUARD_TOPICS(GUARD_RULE("t/#", "enforce", ""))
#define RELAYS     "relays = [ \"" BRIDGE_CLIENT "\" ];\n"
#define PREFIXED   GUARD_HEAD("clientid") RELAYS GUARD_TOPICS(GUARD_RULE("m/t/#", "enforce", "m/"))
#define UNPREFIXED GUARD_HEAD("clientid") RELAYS GUARD_TOPICS(GUARD_RULE("m/t/#", "enforce", ""))
#define FETCHED    RELAYS GUARD_POLICY

#define KEPT         "persistence true\npersistence_location @/\n"
#define KEPT_BARE    CONF_BASE CONF_ACL KEPT
#define ASKED        CONF_GUARDED "check_retain_source true\n"
#define KEPT_ASKED   CONF_GUARDED KEPT "check_retain_source true\n"
#define KEPT_UNASKED CONF_GUARDED KEPT "check_retain_source false\n"

#define SECOND                                                                                                         \
    "plugin @/second.so\nplugin_opt_policy @/elsewhere.conf\nplugin_opt_records @/records\n"                           \
    "plugin_opt_state @/state-2\n"
#define DYNSEC "plugin " PEP_DYNSEC "\nplugin_opt_config_file @/dynsec.json\n"

static const door DOORS[] = {
    {"publish at QoS 0, MQTT 3.1.1", &QOS_0, &PUBLISHED, .version = MQTT_3},
    {"publish at QoS 1, MQTT 3.1.1", &PUBLISH, &PUBLISHED, .version = MQTT_3, .qos = 1},
    {"publish at QoS 2, MQTT 3.1.1", &PUBLISH, &PUBLISHED, .version = MQTT_3, .qos = 2},
    {"publish at QoS 0, MQTT 5.0", &QOS_0, &PUBLISHED, .version = MQTT_5},
    {"publish at QoS 1, MQTT 5.0", &PUBLISH, &PUBLISHED, .version = MQTT_5, .qos = 1},
    {"publish at QoS 2, MQTT 5.0", &PUBLISH, &PUBLISHED, .version = MQTT_5, .qos = 2},
    {"topic alias at QoS 0", &QOS_0, &ALIASED, .version = MQTT_5, .preceded = true},
    {"topic alias at QoS 1", &PUBLISH, &ALIASED, .version = MQTT_5, .qos = 1, .preceded = true},
    {"topic alias at QoS 2", &PUBLISH, &ALIASED, .version = MQTT_5, .qos = 2, .preceded = true},
    {"delivery to a shared subscription", &PUBLISH, &SHARED, .version = MQTT_5, .qos = 1},
    {"publish amid reloads (SIGHUP)", &PUBLISH, &AMID_RELOADS, .version = MQTT_5, .qos = 1, .says = "pep: reloaded"},

    {"retained at QoS 0", &QOS_0, &PUBLISHED, .version = MQTT_5, .retain = true, .preceded = true},
    {"retained at QoS 1", &PUBLISH, &PUBLISHED, .version = MQTT_5, .qos = 1, .retain = true, .preceded = true},
    {"retained at QoS 2", &PUBLISH, &PUBLISHED, .version = MQTT_5, .qos = 2, .retain = true, .preceded = true},
    {"retained at QoS 0, check_retain_source", &QOS_0, &PUBLISHED, .version = MQTT_5, .qos = 0, .retain = true,
     .preceded = true, .conf = ASKED},
    {"retained at QoS 1, check_retain_source", &PUBLISH, &PUBLISHED, .version = MQTT_5, .qos = 1, .retain = true,
     .preceded = true, .conf = ASKED},
    {"retained at QoS 2, check_retain_source", &PUBLISH, &PUBLISHED, .version = MQTT_5, .qos = 2, .retain = true,
     .preceded = true, .conf = ASKED},
    {"signed clear at QoS 0", &CLEAR_QOS_0, &PUBLISHED, .version = MQTT_5, .retain = true, .flags = PEP_FLAG_CLEAR},
    {"signed clear at QoS 1", &CLEAR, &PUBLISHED, .version = MQTT_5, .qos = 1, .retain = true, .flags = PEP_FLAG_CLEAR},
    {"signed clear at QoS 2", &CLEAR, &PUBLISHED, .version = MQTT_5, .qos = 2, .retain = true, .flags = PEP_FLAG_CLEAR},
    {"signed clear, through a relay, by an admin", &ADMINS_CLEAR, &PUBLISHED, .version = MQTT_5, .qos = 1,
     .retain = true, .flags = PEP_FLAG_CLEAR, .policy = ADMINS},
    {"signed clear, not retained", &NOT_CLEAR, &PUBLISHED, .version = MQTT_5, .qos = 1, .flags = PEP_FLAG_CLEAR},
    {"retained without the plugin, restored", &RETAINED, &RESTORED, .qos = 1, .retain = true, .before = KEPT_BARE,
     .conf = KEPT_UNASKED},
    {"retained without the plugin, restored, check_retain_source", &RETAINED, &RESTORED, .qos = 1, .retain = true,
     .before = KEPT_BARE, .conf = KEPT_ASKED},
    {"retained while observed, restored", &RETAINED, &RESTORED, .qos = 1, .retain = true, .policy = OBSERVED,
     .conf = KEPT_UNASKED},
    {"retained while observed, restored, check_retain_source", &RETAINED, &RESTORED, .qos = 1, .retain = true,
     .policy = OBSERVED, .conf = KEPT_ASKED},
    {"retained while observed, then a reload", &RETAINED, &RETAINED_BEFORE, .qos = 1, .retain = true,
     .policy = OBSERVED},
    {"half of QoS 2 before there is a rule, then a reload", &HELD, &HELD_BACK, .qos = 2, .policy = NO_RULE},

    {"will at QoS 0, MQTT 3.1.1", &WILL, &WILL_DROPPED, .version = MQTT_3, .flags = PEP_FLAG_WILL},
    {"will at QoS 1, MQTT 3.1.1", &WILL, &WILL_DROPPED, .version = MQTT_3, .qos = 1, .flags = PEP_FLAG_WILL},
    {"will at QoS 2, MQTT 3.1.1", &WILL, &WILL_DROPPED, .version = MQTT_3, .qos = 2, .flags = PEP_FLAG_WILL},
    {"will at QoS 0, MQTT 5.0", &WILL, &WILL_DROPPED, .version = MQTT_5, .flags = PEP_FLAG_WILL},
    {"will at QoS 1, MQTT 5.0", &WILL, &WILL_DROPPED, .version = MQTT_5, .qos = 1, .flags = PEP_FLAG_WILL},
    {"will at QoS 2, MQTT 5.0", &WILL, &WILL_DROPPED, .version = MQTT_5, .qos = 2, .flags = PEP_FLAG_WILL},
    {"retained will", &WILL, &WILL_DROPPED, .qos = 1, .retain = true, .preceded = true, .flags = PEP_FLAG_WILL},
    {"delayed will", &WILL, &WILL_DROPPED, .version = MQTT_5, .qos = 1, .delay_s = 1, .flags = PEP_FLAG_WILL,
     .policy = BY_NAME},
    {"will after a takeover, MQTT 3.1.1", &WILL, &WILL_TAKEN_OVER, .version = MQTT_3, .qos = 1, .flags = PEP_FLAG_WILL},
    {"will after a takeover, MQTT 5.0", &WILL, &WILL_TAKEN_OVER, .version = MQTT_5, .qos = 1, .flags = PEP_FLAG_WILL},
    {"will after a protocol error, MQTT 3.1.1", &WILL, &WILL_AFTER_GARBAGE, .version = MQTT_3, .qos = 1,
     .flags = PEP_FLAG_WILL},
    {"will after a protocol error, MQTT 5.0", &WILL, &WILL_AFTER_GARBAGE, .version = MQTT_5, .qos = 1,
     .flags = PEP_FLAG_WILL},
    {"will after a kick for bad signatures, before Mosquitto 2.1", &KICKED, &WILL_AFTER_KICK, .qos = 1,
     .flags = PEP_FLAG_WILL, .policy = KICKING, .versions = BEFORE_2_1},
    {"will that a DISCONNECT asks for", &WILL, &WILL_ASKED_FOR, .version = MQTT_5, .qos = 1, .flags = PEP_FLAG_WILL},

    {"inbound bridge at QoS 0", &BRIDGE_QOS_0, &BRIDGED, .policy = FETCHED, .conf = "topic t/# in 2\n"},
    {"inbound bridge at QoS 1", &BRIDGE, &BRIDGED, .qos = 1, .policy = FETCHED, .conf = "topic t/# in 2\n"},
    {"inbound bridge at QoS 2", &BRIDGE, &BRIDGED, .qos = 2, .policy = FETCHED, .conf = "topic t/# in 2\n"},
    {"inbound bridge, retained", &BRIDGE, &BRIDGED, .qos = 1, .retain = true, .preceded = true, .policy = FETCHED,
     .conf = "topic t/# in 2\n"},
    {"inbound bridge with a prefix", &BRIDGE, &BRIDGED, .qos = 1, .policy = PREFIXED, .prefix = "m/",
     .conf = "topic t/# in 2 m/\n"},
    {"inbound bridge, a prefix without a rule for it", &OTHER_TOPIC, &BRIDGED, .qos = 1, .policy = UNPREFIXED,
     .prefix = "m/", .conf = "topic t/# in 2 m/\n"},
    {"mount_point", &PUBLISH, &MOUNTED, .version = MQTT_5, .qos = 1, .policy = PREFIXED, .prefix = "m/"},
    {"mount_point without a rule for it", &OTHER_TOPIC, &MOUNTED, .version = MQTT_5, .qos = 1, .policy = UNPREFIXED,
     .prefix = "m/"},

    {"publish to `$PEP/` at QoS 0", &RESERVED, &PUBLISHED, .version = MQTT_5, .qos = 0, .prefix = "$PEP/"},
    {"publish to `$PEP/` at QoS 1", &RESERVED, &PUBLISHED, .version = MQTT_5, .qos = 1, .prefix = "$PEP/"},
    {"publish to `$PEP/` at QoS 2", &RESERVED, &PUBLISHED, .version = MQTT_5, .qos = 2, .prefix = "$PEP/"},
    {"retained on `$PEP/`", &RESERVED, &PUBLISHED, .version = MQTT_5, .qos = 1, .retain = true, .prefix = "$PEP/"},
    {"will on `$PEP/`", &RESERVED, &WILL_DROPPED, .qos = 1, .flags = PEP_FLAG_WILL, .prefix = "$PEP/"},
    {"inbound bridge to `$PEP/`", &RESERVED, &BRIDGED, .qos = 1, .policy = FETCHED, .prefix = "$PEP/",
     .conf = "topic t/# in 2 $PEP/\n"},
    {"publish to `$PEP/keys/`", &RESERVED, &PUBLISHED, .version = MQTT_5, .qos = 1, .prefix = "$PEP/keys/"},
    {"retained on `$PEP/keys/`", &RESERVED, &PUBLISHED, .version = MQTT_5, .qos = 1, .retain = true,
     .prefix = "$PEP/keys/"},
    {"will on `$PEP/keys/`", &RESERVED, &WILL_DROPPED, .qos = 1, .retain = true, .flags = PEP_FLAG_WILL,
     .prefix = "$PEP/keys/"},
    {"inbound bridge to `$PEP/keys/`", &RESERVED, &BRIDGED, .qos = 1, .retain = true, .policy = FETCHED,
     .prefix = "$PEP/keys/", .conf = "topic t/# in 2 $PEP/keys/\n"},
    {"publish below `$CONTROL/pep/v1/`", &RESERVED, &PUBLISHED, .version = MQTT_5, .qos = 1,
     .prefix = "$CONTROL/pep/v1/"},
    {"publish to `$CONTROL/pep/`", &RESERVED, &PUBLISHED, .version = MQTT_5, .qos = 1, .prefix = "$CONTROL/pep/"},
    {"will on `$CONTROL/pep/`", &RESERVED, &WILL_DROPPED, .qos = 1, .flags = PEP_FLAG_WILL, .prefix = "$CONTROL/pep/",
     .may_be_shut = true},

    {"an acl_file behind", &PUBLISH, &PUBLISHED, .version = MQTT_5, .qos = 1,
     .conf = CONF_BASE CONF_PLUGIN "acl_file @/narrow-acl\n"},
    {"dynamic-security behind", &PUBLISH, &PUBLISHED, .version = MQTT_5, .qos = 1,
     .conf = CONF_BASE CONF_PLUGIN DYNSEC},
    {"dynamic-security behind, will", &WILL, &WILL_DROPPED, .qos = 1, .flags = PEP_FLAG_WILL,
     .conf = CONF_BASE CONF_PLUGIN DYNSEC},
    {"dynamic-security in front", &PUBLISH, &PUBLISHED, .version = MQTT_5, .qos = 1,
     .conf = CONF_BASE DYNSEC CONF_PLUGIN, .says = "pep: another plugin answers"},
    {"dynamic-security in front, will", &UNGUARDED, &WILL_DROPPED, .qos = 1, .flags = PEP_FLAG_WILL,
     .conf = CONF_BASE DYNSEC CONF_PLUGIN},
    {"two plugins, this one first", &PUBLISH, &PUBLISHED, .version = MQTT_5, .qos = 1, .conf = CONF_GUARDED SECOND},
    {"two plugins, this one last", &PUBLISH, &PUBLISHED, .version = MQTT_5, .qos = 1,
     .conf = CONF_BASE SECOND CONF_PLUGIN CONF_ACL},
    {"per_listener_settings, before Mosquitto 2.1", &CLOSED, &NOT_STARTED,
     .conf = "per_listener_settings true\n" CONF_GUARDED, .says = "pep: *per_listener_settings",
     .versions = BEFORE_2_1},
    {"per_listener_settings and global_plugin, since 2.1", &PUBLISH, &ON_LISTENER, .version = MQTT_5, .qos = 1,
     .versions = SINCE_2_1},
};
#define DOOR_COUNT (sizeof(DOORS) / sizeof(DOORS[0]))

/* ---- the documentation ---- */

#define COLUMN_COUNT (sizeof(COLUMNS) / sizeof(COLUMNS[0]))

static void print_doors(void)
{
    puts("| Door | Column |\n| --- | --- |");
    for (size_t i = 0; i < DOOR_COUNT; i++) {
        const door_column *column = DOORS[i].column;
        printf("| %s | %s |\n", DOORS[i].name, column->closed != NULL ? column->closed : column->title);
    }
}

static void print_cell(const door_column *column, const seal_case *k)
{
    const char *why_not;
    pep_reason reason = door_expects(column, k, &why_not);
    printf(" %s |", why_not != NULL ? "-" : reason == PEP_OK ? "**passes**" : pep_reason_name(reason));
}

static void print_cases(void)
{
    fputs("| Case |", stdout);
    for (size_t i = 0; i < COLUMN_COUNT; i++)
        printf(" %s |", COLUMNS[i]->title);
    fputs("\n| --- |", stdout);
    for (size_t i = 0; i < COLUMN_COUNT; i++)
        fputs(" --- |", stdout);
    for (size_t k = 0; k < CASE_COUNT; k++) {
        printf("\n| %s |", CASES[k].name);
        for (size_t i = 0; i < COLUMN_COUNT; i++)
            print_cell(COLUMNS[i], &CASES[k]);
    }
    putchar('\n');
}

/* Why a case is not tried: once, for all columns that say the same. */
static void print_why_not(const seal_case *k)
{
    const char *said = "";
    for (size_t i = 0; i < COLUMN_COUNT; i++) {
        const char *why_not;
        door_expects(COLUMNS[i], k, &why_not);
        if (why_not != NULL && strcmp(why_not, said) != 0)
            printf("- %s: %s\n", k->name, why_not);
        said = why_not != NULL ? why_not : said;
    }
}

static void print_markdown(void)
{
    print_doors();
    putchar('\n');
    print_cases();
    puts("\nNot tried (-):\n");
    for (size_t k = 0; k < CASE_COUNT; k++)
        print_why_not(&CASES[k]);
}

/* ---- the tests ---- */

/* CUnit calls without saying whose turn it is, and in the order of the table. */
static void try_next_door(void)
{
    static size_t next;
    visit_door(&DOORS[next++]);
}

static const unit_test *tests(void)
{
    static unit_test all[DOOR_COUNT];
    for (size_t i = 0; i < DOOR_COUNT; i++)
        all[i] = (unit_test){DOORS[i].name, try_next_door};
    return all;
}

int main(int argc, char **argv)
{
    if (argc == 1)
        return unit_main("doors", tests(), DOOR_COUNT);
    if (argc != 2 || strcmp(argv[1], "--markdown") != 0) {
        fprintf(stderr, "usage: %s [--markdown]\n", argv[0]);
        return 2;
    }
    print_markdown();
    return 0;
}
