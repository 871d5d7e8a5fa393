/*
 * Promise: a store that is full, locked, read-only or damaged costs changes, and nothing else: they are refused, the
 * log says so once, and the gate goes on with what it knows. A broker does not start with a store that it cannot trust.
 */
#include "ask.h"
#include "tests/unit/unit.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sqlite3.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define STORE     "state/directory.db"
#define FAILING   "pep: the directory's store refuses changes"
#define MENDED    "pep: the directory's store takes changes again"
#define AWAY      "pep: the directory's store cannot be reached"
#define BACK      "pep: the directory's store can be reached again"
#define EXIT_CODE 13 /* MOSQ_ERR_UNKNOWN, of a plugin that does not start */

static stage s;
static asker a;
static client *from;
static member known, unknown;
static unsigned made; /* devices that were only made to fill the store */

static void open_all(void)
{
    stage_open(&s);
    asker_open(&a, (client_spec){.port = s.b.port, .id = "asker"});
    from = client_open((client_spec){.port = s.b.port, .id = "from", .version = MQTT_5});
    member_make(&known, "known");
    member_make(&unknown, "unknown");
    CU_ASSERT_EQUAL(ask_enroll(&a, &known), PEP_OK);
}

static void set(void)
{
    stage_prepare(&s, OPEN_POLICY, CONF_ENROLLING);
    open_all();
}

static void close_clients(void)
{
    member_wipe(&known);
    member_wipe(&unknown);
    client_close(from);
    asker_close(&a);
}

static void strike(void)
{
    close_clients();
    stage_strike(&s);
}

/* Whoever is known speaks, whoever is not does not, and what was asked before is answered. */
static bool gate_goes_on(void)
{
    sealed good = reading_of(&known, "t/a"), bad = reading_of(&unknown, "t/a");
    return stage_passes(&s, from, "t/a", &good, 1, false) &&
           stage_refuses(&s, from, "t/a", &bad, 1, false, PEP_UNKNOWN_SIGNER);
}

static pep_reason enroll_another(void)
{
    char id[32];
    member m;
    snprintf(id, sizeof(id), "filler-%u", made++);
    member_make(&m, id);
    pep_reason reason = ask_enroll(&a, &m);
    member_wipe(&m);
    return reason;
}

/* Enrols until that is refused. */
static pep_reason enroll_until_refused(int at_most)
{
    pep_reason reason = PEP_OK;
    for (int i = 0; i < at_most && reason == PEP_OK; i++)
        reason = enroll_another();
    return reason;
}

static bool enrolls_again(void)
{
    int64_t deadline = monotonic_ms() + patience_ms();
    pep_reason reason;
    while ((reason = ask_enroll(&a, &unknown)) != PEP_OK && remaining_ms(deadline) > 0)
        CU_ASSERT_TRUE(reason == PEP_STORE_FAILED || reason == PEP_TRY_LATER);
    return reason == PEP_OK;
}

/* Changes are refused, which the log tells once; the rest goes on. */
static void changes_fail(pep_reason expected, const char *line, long mark)
{
    for (int i = 0; i < 2; i++)
        CU_ASSERT_EQUAL(enroll_another(), expected);
    CU_ASSERT_EQUAL(ask_rotate(&a, &known, pep_now_us()), expected);
    CU_ASSERT_TRUE(gate_goes_on());
    s.b.mark = mark;
    CU_ASSERT_EQUAL(broker_log_count(&s.b, line), 1);
}

static void all_is_well_again(const char *line, long mark)
{
    CU_ASSERT_TRUE(enrolls_again());
    sealed e = reading_of(&unknown, "t/a");
    CU_ASSERT_TRUE(stage_passes(&s, from, "t/a", &e, 1, false));
    CU_ASSERT_TRUE(ask_knows(&a, &unknown));
    s.b.mark = mark;
    CU_ASSERT_EQUAL(broker_log_count(&s.b, line), 1);
}

/* ---- a full disk ---- */

/* A file system of its own for the state folder, which goes with this process at the latest. False: not allowed. */
static bool mount_small(const char *path)
{
    return unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount("none", path, "tmpfs", 0, "size=1m,mode=0777") == 0;
}

/* Takes all the room that is left. */
static void fill(const char *path)
{
    static const char block[4096];
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    while (write(fd, block, sizeof(block)) > 0)
        ;
    close(fd);
}

static void a_full_disk_costs_changes_alone(void)
{
    stage_prepare(&s, OPEN_POLICY, CONF_ENROLLING);
    broker_write(&s.b, "policy.conf", OPEN_POLICY);
    CU_ASSERT_EQUAL(mkdir(broker_path(&s.b, "disk"), 0777), 0);
    if (!mount_small(broker_path(&s.b, "disk"))) {
        printf("skipped: no file system may be mounted here ... ");
        stage_strike(&s);
        return;
    }
    broker_write(&s.b, "mosquitto.conf", CONF_ENROLLING "plugin_opt_store sqlite:@/disk/store.db\n");
    open_all();
    long mark = s.b.mark;
    fill(broker_path(&s.b, "disk/ballast"));
    CU_ASSERT_EQUAL(enroll_until_refused(200), PEP_STORE_FAILED);
    changes_fail(PEP_STORE_FAILED, FAILING, mark);
    CU_ASSERT_TRUE(ask_knows(&a, &known));
    CU_ASSERT_EQUAL(unlink(broker_path(&s.b, "disk/ballast")), 0);
    all_is_well_again(MENDED, mark);
    close_clients();
    client_close(s.to);
    s.to = NULL;
    broker_end(&s.b);
    CU_ASSERT_EQUAL(umount(broker_path(&s.b, "disk")), 0);
    stage_strike(&s);
}

/* Works where nothing can be mounted, and is inherited by the broker. What it logs has to fit, too. */
static void limit_files(rlim_t bytes)
{
    struct rlimit limit;
    CU_ASSERT_EQUAL(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = bytes == 0 ? limit.rlim_max : bytes;
    CU_ASSERT_EQUAL(setrlimit(RLIMIT_FSIZE, &limit), 0);
    signal(SIGXFSZ, bytes == 0 ? SIG_DFL : SIG_IGN);
}

static void a_limit_on_files_costs_changes_alone(void)
{
    stage_prepare(&s, OPEN_POLICY, CONF_ENROLLING);
    limit_files(1 << 20);
    open_all();
    limit_files(0);
    long mark = s.b.mark;
    CU_ASSERT_EQUAL(enroll_until_refused(200), PEP_STORE_FAILED);
    changes_fail(PEP_STORE_FAILED, FAILING, mark);
    client_close(from);
    asker_close(&a);
    stage_restart(&s, false);
    asker_open(&a, (client_spec){.port = s.b.port, .id = "asker"});
    from = client_open((client_spec){.port = s.b.port, .id = "from", .version = MQTT_5});
    CU_ASSERT_TRUE(gate_goes_on());
    CU_ASSERT_EQUAL(ask_enroll(&a, &unknown), PEP_OK);
    strike();
}

/* ---- a locked one ---- */

static sqlite3 *open_store(void)
{
    sqlite3 *db = NULL;
    CU_ASSERT_EQUAL_FATAL(sqlite3_open_v2(broker_path(&s.b, STORE), &db, SQLITE_OPEN_READWRITE, NULL), SQLITE_OK);
    sqlite3_busy_timeout(db, patience_ms());
    return db;
}

static void execute(sqlite3 *db, const char *sql)
{
    int code = sqlite3_exec(db, sql, NULL, NULL, NULL);
    CU_ASSERT_EQUAL(code, SQLITE_OK);
    if (code != SQLITE_OK)
        fprintf(stderr, "%s: %s\n", sql, sqlite3_errmsg(db));
}

static void a_lock_costs_changes_alone(void)
{
    set();
    long mark = s.b.mark;
    sqlite3 *db = open_store();
    execute(db, "BEGIN EXCLUSIVE");
    sealed command = command_enroll(&a, &unknown, NULL, NULL);
    CU_ASSERT_EQUAL(client_publish(a.c, PEP_CONTROL_TOPIC, command.bytes, command.n, 1, false), REASON_SUCCESS);
    CU_ASSERT_TRUE(gate_goes_on()); /* while the store is waited for */
    CU_ASSERT_EQUAL(answer_reason(ask_next(&a)), PEP_TRY_LATER);
    int64_t start = monotonic_ms();
    changes_fail(PEP_TRY_LATER, AWAY, mark);
    CU_ASSERT_TRUE(monotonic_ms() - start < patience_ms() / 2); /* nobody waits for what is known to be away */
    execute(db, "COMMIT");
    CU_ASSERT_EQUAL(sqlite3_close(db), SQLITE_OK);
    all_is_well_again(BACK, mark);
    strike();
}

/* ---- a damaged one ---- */

static long size_of(const char *name)
{
    struct stat status = {0};
    CU_ASSERT_EQUAL(stat(broker_path(&s.b, name), &status), 0);
    return (long)status.st_size;
}

static void overwrite(const char *name, long from_byte)
{
    static const char garbage[4096] = "garbage";
    long n = size_of(name);
    int fd = open(broker_path(&s.b, name), O_WRONLY | O_CLOEXEC);
    for (long at = from_byte; at < n; at += (long)sizeof(garbage))
        CU_ASSERT_EQUAL(pwrite(fd, garbage, sizeof(garbage), at), sizeof(garbage));
    close(fd);
}

/* Everything behind the first page, which lies in no cache and no log then. */
static void damage(void)
{
    sqlite3 *db = open_store();
    execute(db, "UPDATE meta SET number = number; PRAGMA wal_checkpoint(TRUNCATE)");
    overwrite(STORE, 4096);
    CU_ASSERT_EQUAL(sqlite3_close(db), SQLITE_OK);
}

/* Expects that the start fails, with this in the only line that tells why. */
static void refuses_to_start(const char *says)
{
    char line[256];
    snprintf(line, sizeof(line), "pep: not started: *%s", says);
    CU_ASSERT_FALSE(broker_start(&s.b));
    CU_ASSERT_EQUAL(s.b.exit_code, EXIT_CODE);
    CU_ASSERT_EQUAL(broker_log_count(&s.b, "pep: "), 1);
    CU_ASSERT_EQUAL(broker_log_count(&s.b, line), 1);
    if (broker_log_count(&s.b, line) != 1)
        broker_show_log(&s.b);
}

static void end(void)
{
    close_clients();
    client_close(s.to);
    s.to = NULL;
    broker_end(&s.b);
}

static void damage_costs_changes_alone(void)
{
    set();
    long mark = s.b.mark;
    damage();
    changes_fail(PEP_STORE_FAILED, FAILING, mark);
    end();
    refuses_to_start("directory.db*damaged*backup");
    stage_strike(&s);
}

/* ---- what is not started with ---- */

static void refused_starts_name_the_store(void)
{
    set();
    sqlite3 *db = open_store();
    end();
    execute(db, "UPDATE pep_schema SET version = 1000");
    CU_ASSERT_EQUAL(sqlite3_close(db), SQLITE_OK);
    refuses_to_start("later version*upgrade");
    CU_ASSERT_EQUAL(chmod(broker_path(&s.b, STORE), 0), 0);
    refuses_to_start("directory.db*Permission denied");
    CU_ASSERT_EQUAL(chmod(broker_path(&s.b, STORE), 0400), 0);
    refuses_to_start("directory.db*only be read");
    broker_write(&s.b, STORE, "this is no database, though it is a file of more than a few bytes\n");
    CU_ASSERT_EQUAL(chmod(broker_path(&s.b, STORE), 0600), 0);
    refuses_to_start("directory.db*not a database");
    CU_ASSERT_EQUAL(unlink(broker_path(&s.b, STORE)), 0);
    CU_ASSERT_EQUAL(mkdir(broker_path(&s.b, STORE), 0777), 0);
    refuses_to_start("directory.db");
    CU_ASSERT_EQUAL(rmdir(broker_path(&s.b, STORE)), 0);
    broker_write(&s.b, "mosquitto.conf", CONF_ENROLLING "plugin_opt_store sqlite:@/nowhere/store.db\n");
    refuses_to_start("nowhere/store.db");
    broker_write(&s.b, "mosquitto.conf", CONF_ENROLLING "plugin_opt_store sqlite:store.db\n");
    refuses_to_start("sqlite:/absolute/path");
    broker_write(&s.b, "mosquitto.conf", CONF_ENROLLING "plugin_opt_store postgresql://127.0.0.1:1/none\n");
    refuses_to_start("127.0.0.1");
    broker_write(&s.b, "mosquitto.conf", CONF_ENROLLING);
    stage_open(&s);
    stage_strike(&s);
}

static const unit_test TESTS[] = {
    {"a full disk costs changes alone", a_full_disk_costs_changes_alone},
    {"a limit on files costs changes alone", a_limit_on_files_costs_changes_alone},
    {"a lock costs changes alone", a_lock_costs_changes_alone},
    {"damage costs changes alone", damage_costs_changes_alone},
    {"refused starts name the store", refused_starts_name_the_store},
};
UNIT_MAIN("failures", TESTS)
