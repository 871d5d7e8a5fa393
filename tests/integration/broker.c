#include "broker.h"

#include <CUnit/CUnit.h>
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <ftw.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BROKER_USER "mosquitto" /* whom Mosquitto becomes when root starts it */
#define POLL_MS     5           /* between two looks at a log; the broker's end is noticed at once */
#define AGAIN_MS    1000        /* between two SIGTERMs to a broker that did not hear the first */
#define REPORT_EXIT 99          /* also of valgrind and the sanitizers where they reported something */

/* An environment variable; NULL where it is not set, empty or 0. */
static const char *setting(const char *name)
{
    const char *value = getenv(name);
    return value != NULL && *value != '\0' && strcmp(value, "0") != 0 ? value : NULL;
}

/* ---- the program ---- */

static const char *program(void)
{
    const char *path = setting("PEP_MOSQUITTO");
    return path != NULL ? path : "/usr/sbin/mosquitto";
}

/* The beginning of what it answers to -h. Its exit code says nothing: 2.0 ends with 3, although asked for help. */
static void ask_help(char *out, size_t cap)
{
    int ends[2];
    out[0] = '\0';
    if (pipe2(ends, O_CLOEXEC) != 0)
        return;
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        if (dup2(ends[1], STDOUT_FILENO) >= 0 && dup2(ends[1], STDERR_FILENO) >= 0)
            execl(program(), program(), "-h", (char *)NULL);
        _exit(REPORT_EXIT);
    }
    close(ends[1]);
    ssize_t n = read(ends[0], out, cap - 1);
    out[n > 0 ? n : 0] = '\0';
    close(ends[0]);
    waitpid(pid, NULL, 0);
}

static bool ask_version(long *major, long *minor)
{
    static const char before[] = "mosquitto version ";
    char help[256];
    ask_help(help, sizeof(help));
    const char *version = strstr(help, before);
    if (version == NULL)
        return false;
    char *dot;
    *major = strtol(version + sizeof(before) - 1, &dot, 10);
    *minor = *dot == '.' ? strtol(dot + 1, &dot, 10) : 0;
    return *major > 0 && *dot == '.';
}

bool broker_at_least(int major, int minor)
{
    static long has_major, has_minor;
    if (has_major == 0 && !ask_version(&has_major, &has_minor))
        CU_FAIL_FATAL("the broker does not tell its version");
    return has_major > major || (has_major == major && has_minor >= minor);
}

/* ---- time ---- */

int patience_ms(void)
{
    const char *given = setting("PEP_PATIENCE");
    if (given != NULL)
        return (int)strtol(given, NULL, 10) * 1000;
    return setting("PEP_VALGRIND") != NULL || setting("PEP_PRELOAD") != NULL ? 60000 : 10000;
}

int64_t monotonic_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int remaining_ms(int64_t deadline_ms)
{
    int64_t left = deadline_ms - monotonic_ms();
    return left > 0 ? (int)left : 0;
}

/* ---- the folder ---- */

const char *broker_path(const broker *b, const char *name)
{
    static char paths[4][256];
    static size_t next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof(paths[0]), "%s/%s", b->folder, name);
    return path;
}

/* The broker does not run as root, so what it may write to must be its own. */
static void give_to_broker(const char *path)
{
    const struct passwd *user = geteuid() == 0 ? getpwnam(BROKER_USER) : NULL;
    if (user != NULL)
        CU_ASSERT_EQUAL(chown(path, user->pw_uid, user->pw_gid), 0);
}

static void write_with_folder(FILE *file, const char *folder, const char *text)
{
    for (const char *at; (at = strstr(text, "@/")) != NULL; text = at + 1)
        fprintf(file, "%.*s%s", (int)(at - text), text, folder);
    fputs(text, file);
}

void broker_write(const broker *b, const char *name, const char *text)
{
    FILE *file = fopen(broker_path(b, name), "we");
    CU_ASSERT_PTR_NOT_NULL(file);
    if (file == NULL)
        return;
    write_with_folder(file, b->folder, text);
    CU_ASSERT_EQUAL(fclose(file), 0);
    give_to_broker(broker_path(b, name));
}

static bool copy_file(const char *to, const char *from)
{
    char bytes[1 << 16];
    FILE *in = fopen(from, "rbe");
    FILE *out = in == NULL ? NULL : fopen(to, "wbe");
    bool copied = out != NULL;
    for (size_t n; copied && (n = fread(bytes, 1, sizeof(bytes), in)) > 0;)
        copied = fwrite(bytes, 1, n, out) == n;
    if (out != NULL)
        copied = fclose(out) == 0 && copied;
    if (in != NULL)
        fclose(in);
    return copied;
}

void broker_copy(const broker *b, const char *name, const char *path)
{
    CU_ASSERT_TRUE(copy_file(broker_path(b, name), path));
}

void broker_make(broker *b)
{
    memset(b, 0, sizeof(*b));
    umask(022);
    const char *parent = setting("TMPDIR");
    (void)snprintf(b->folder, sizeof(b->folder), "%s/pep-test-XXXXXX", parent != NULL ? parent : "/tmp");
    bool made =
        mkdtemp(b->folder) != NULL && chmod(b->folder, 0755) == 0 && mkdir(broker_path(b, "records"), 0755) == 0;
    CU_ASSERT_TRUE(made);
    broker_copy(b, "mosquitto_pep.so", PEP_PLUGIN);
#ifdef PEP_FIRST
    broker_copy(b, "first.so", PEP_FIRST);
#endif
    broker_copy(b, "lsan.supp", PEP_SUPPRESSIONS "/lsan.supp");
    broker_copy(b, "valgrind.supp", PEP_SUPPRESSIONS "/valgrind.supp");
    give_to_broker(b->folder);
    broker_write(b, "acl", ACL_ALL);
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *where)
{
    (void)status;
    (void)type;
    (void)where;
    return remove(path);
}

void broker_drop(broker *b)
{
    broker_end(b);
    if (setting("PEP_KEEP") != NULL)
        fprintf(stderr, "kept: %s\n", b->folder);
    else
        CU_ASSERT_EQUAL(nftw(b->folder, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}

/* ---- the log ---- */

static char *read_log(const broker *b, long from)
{
    FILE *file = fopen(broker_path(b, "log"), "re");
    if (file == NULL)
        return calloc(1, 1);
    fseek(file, 0, SEEK_END);
    long n = ftell(file) - from;
    char *text = calloc(1, n > 0 ? (size_t)n + 1 : 1);
    fseek(file, from, SEEK_SET);
    if (n > 0 && fread(text, 1, (size_t)n, file) < (size_t)n)
        text[0] = '\0';
    fclose(file);
    return text;
}

void broker_mark(broker *b)
{
    struct stat status;
    b->mark = stat(broker_path(b, "log"), &status) == 0 ? (long)status.st_size : 0;
}

int broker_log_count(const broker *b, const char *text)
{
    char pattern[512];
    snprintf(pattern, sizeof(pattern), "*%s*", text);
    char *log = read_log(b, b->mark);
    int count = 0;
    for (char *rest = log, *line; (line = strsep(&rest, "\n")) != NULL;)
        count += fnmatch(pattern, line, 0) == 0;
    free(log);
    return count;
}

bool broker_logged(const broker *b, const char *text)
{
    return broker_log_count(b, text) > 0;
}

/* False where the broker ends or patience does. */
bool broker_logs(const broker *b, const char *text)
{
    int64_t deadline = monotonic_ms() + patience_ms();
    struct pollfd end = {.fd = b->pidfd, .events = POLLIN};
    while (!broker_logged(b, text))
        if (remaining_ms(deadline) == 0 || poll(&end, 1, POLL_MS) != 0)
            return broker_logged(b, text);
    return true;
}

void broker_show_log(const broker *b)
{
    char *log = read_log(b, 0);
    fputs(log, stderr);
    free(log);
}

static bool is_report(const char *line)
{
    static const char *const reports[] = {"Sanitizer", "runtime error:", "ERROR SUMMARY: "};
    for (size_t i = 0; i < sizeof(reports) / sizeof(reports[0]); i++)
        if (strstr(line, reports[i]) != NULL && strstr(line, "ERROR SUMMARY: 0 errors") == NULL)
            return true;
    return false;
}

/* A sanitizer's or valgrind's words in the log fail the test, and the log goes to stderr. */
static void fail_on_reports(const broker *b)
{
    char *log = read_log(b, 0);
    bool reported = false;
    for (char *rest = log, *line; (line = strsep(&rest, "\n")) != NULL;)
        reported = reported || is_report(line);
    free(log);
    CU_ASSERT_FALSE(reported);
    if (reported)
        broker_show_log(b);
}

/* ---- the process ---- */

int broker_free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool bound = bind(fd, (struct sockaddr *)&address, n) == 0 && getsockname(fd, (struct sockaddr *)&address, &n) == 0;
    close(fd);
    return bound ? ntohs(address.sin_port) : 0;
}

/*
 * AddressSanitizer and ThreadSanitizer initialise themselves at the first malloc, and look for a function that is not
 * there. In Mosquitto that malloc comes from a library's constructor amid bindtextdomain, whose lock the message about
 * that unlocks: whoever calls it later, as libpq does, waits for ever. So something else must allocate first.
 */
static const char *first_library(const broker *b)
{
    static char path[300];
    snprintf(path, sizeof(path), ":%s/first.so", b->folder);
    return access(path + 1, R_OK) == 0 ? path : "";
}

/* In the broker's process alone: the test program must not get its libraries. */
static void set_environment(const broker *b)
{
    char options[300], libraries[1024];
    snprintf(options, sizeof(options), "suppressions=%s:print_suppressions=0", broker_path(b, "lsan.supp"));
    setenv("LSAN_OPTIONS", options, 1);
    setenv("ASAN_OPTIONS", "detect_leaks=1:exitcode=99:fast_unwind_on_malloc=0", 1);
    setenv("TSAN_OPTIONS", "exitcode=99", 1);
    setenv("UBSAN_OPTIONS", "print_stacktrace=1", 1);
    const char *preload = setting("PEP_PRELOAD");
    if (preload != NULL) {
        snprintf(libraries, sizeof(libraries), "%s%s", preload, first_library(b));
        setenv("LD_PRELOAD", libraries, 1);
    }
}

/* What the broker does itself where root starts it. Done here, PR_SET_PDEATHSIG holds: setuid would take it back. */
static void become_broker_user(void)
{
    const struct passwd *user = getpwnam(BROKER_USER);
    if (user == NULL || setgroups(0, NULL) != 0 || setgid(user->pw_gid) != 0 || setuid(user->pw_uid) != 0)
        _exit(REPORT_EXIT);
}

static _Noreturn void run(const broker *b, const char *path)
{
    char port[8], suppressions[300];
    snprintf(port, sizeof(port), "%d", b->port);
    snprintf(suppressions, sizeof(suppressions), "--suppressions=%s", broker_path(b, "valgrind.supp"));
    const char *conf = broker_path(b, "mosquitto.conf");
    int log = open(broker_path(b, "log"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (log < 0 || dup2(log, STDOUT_FILENO) < 0 || dup2(log, STDERR_FILENO) < 0 || chdir("/") != 0)
        _exit(REPORT_EXIT);
    set_environment(b);
    if (geteuid() == 0 && !b->as_root)
        become_broker_user();
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test program that dies leaves no broker behind */
    if (setting("PEP_VALGRIND") != NULL)
        execlp("valgrind", "valgrind", "--error-exitcode=99", "--leak-check=full", "--errors-for-leak-kinds=definite",
               suppressions, path, "-c", conf, "-p", port, (char *)NULL);
    else
        execl(path, path, "-c", conf, "-p", port, (char *)NULL);
    _exit(REPORT_EXIT);
}

/* Waits at most `ms` for its end; true where it came. */
static bool ended(broker *b, int ms)
{
    struct pollfd end = {.fd = b->pidfd, .events = POLLIN};
    int status;
    if (poll(&end, 1, ms) != 1 || waitpid(b->pid, &status, 0) != b->pid)
        return false;
    b->exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    close(b->pidfd);
    b->pidfd = -1;
    b->pid = 0;
    return true;
}

static bool start_once(broker *b)
{
    b->port = b->port == 0 ? broker_free_port() : b->port;
    broker_mark(b);
    fflush(NULL);
    b->pid = fork();
    if (b->pid == 0)
        run(b, program());
    b->pidfd = (int)syscall(SYS_pidfd_open, b->pid, 0);
    if (broker_logs(b, "mosquitto version * running"))
        return true;
    if (!ended(b, 0))
        CU_FAIL("the broker neither runs nor ends");
    return false;
}

bool broker_start(broker *b)
{
    if (start_once(b))
        return true;
    if (!broker_logged(b, "Address already in use"))
        return false;
    b->port = 0; /* somebody took the port between our look and its start */
    return start_once(b);
}

void broker_kill(broker *b)
{
    kill(b->pid, SIGKILL);
    CU_ASSERT_TRUE(ended(b, patience_ms()));
}

void broker_reload(broker *b)
{
    kill(b->pid, SIGHUP);
}

/*
 * Mosquitto forgets a SIGTERM that comes just behind its line "running": main() sets the flag that the signal clears
 * after that, on its way into the loop. So it is told again, but only until one more line says that it ends (there may
 * be one of another broker in that log): another signal might wake what stands still in the plugin's end, and hide it.
 */
static bool terminated(broker *b)
{
    static const char ends[] = "mosquitto version * terminating";
    int before = broker_log_count(b, ends);
    int64_t deadline = monotonic_ms() + patience_ms();
    do {
        if (broker_log_count(b, ends) == before)
            kill(b->pid, SIGTERM);
    } while (!ended(b, AGAIN_MS) && remaining_ms(deadline) > 0);
    return b->pid == 0;
}

void broker_end(broker *b)
{
    if (b->pid != 0) {
        bool stopped = terminated(b);
        CU_ASSERT_TRUE(stopped);
        if (!stopped)
            broker_kill(b);
        CU_ASSERT_EQUAL(b->exit_code, 0);
    }
    fail_on_reports(b);
}
