/*
 * The pep tool as its users meet it: run as a process, in a folder of its own, without a broker. Each run is judged by
 * its exit code, by what it wrote and by what it left behind. Where the tool must speak MQTT, a few scripted packets on
 * a loopback socket answer it.
 */
#include <cjson/cJSON.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/unit/unit.h"

#define RUN_MS     60000
#define OUTPUT_MAX (256 * 1024)
#define TOO_MUCH   ((size_t)16 * 1024 * 1024 + 1)

/* ---- running the tool ---- */

typedef struct {
    int code; /* exit code; -1: it did not end by itself */
    char out[OUTPUT_MAX];
    size_t out_n;
    char err[OUTPUT_MAX];
    size_t err_n;
} result;

typedef struct {
    const void *in;
    size_t in_n;
    const char *out_to; /* stdout goes there, not into the result */
    bool disk_full;     /* no file can grow */
} conditions;

static result r; /* of the last run */

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void become_tool(const char *const *argv, const conditions *c, const int *in, const int *out, const int *err)
{
    char *words[64] = {(char[]){PEP_TOOL}};
    for (size_t i = 0; i < 62 && argv[i] != NULL; i++)
        words[i + 1] = strdup(argv[i]);
    int target = c->out_to != NULL ? open(c->out_to, O_WRONLY) : out[1];
    if (dup2(in[0], 0) < 0 || dup2(target, 1) < 0 || dup2(err[1], 2) < 0)
        _exit(126);
    for (int fd = 3; fd < 64; fd++)
        close(fd);
    signal(SIGPIPE, SIG_DFL);
    if (c->disk_full) {
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &(struct rlimit){0, 0});
    }
    execv(PEP_TOOL, words);
    _exit(127);
}

/* Takes what is there; closes the descriptor at its end. */
static void drain(struct pollfd *from, char *to, size_t *n)
{
    if (from->fd < 0 || from->revents == 0)
        return;
    char rest[4096];
    bool room = *n < OUTPUT_MAX - 1;
    ssize_t got = read(from->fd, room ? to + *n : rest, room ? OUTPUT_MAX - 1 - *n : sizeof(rest));
    if (got > 0 && room)
        *n += (size_t)got;
    if (got <= 0) {
        close(from->fd);
        from->fd = -1;
    }
}

static void feed(struct pollfd *to, const conditions *c, size_t *done)
{
    if (to->fd < 0)
        return;
    if (to->revents != 0 && *done < c->in_n) {
        ssize_t put = write(to->fd, (const char *)c->in + *done, c->in_n - *done);
        *done = put > 0 ? *done + (size_t)put : c->in_n;
    }
    if (*done == c->in_n) {
        close(to->fd);
        to->fd = -1;
    }
}

static void converse(const conditions *c, int in, int out, int err)
{
    struct pollfd fds[] = {{in, POLLOUT, 0}, {out, POLLIN, 0}, {err, POLLIN, 0}};
    size_t fed = 0;
    int64_t deadline = now_ms() + RUN_MS;
    fcntl(in, F_SETFL, O_NONBLOCK);
    while ((fds[0].fd >= 0 || fds[1].fd >= 0 || fds[2].fd >= 0) && now_ms() < deadline) {
        (void)poll(fds, 3, 100);
        feed(&fds[0], c, &fed);
        drain(&fds[1], r.out, &r.out_n);
        drain(&fds[2], r.err, &r.err_n);
    }
    for (int i = 0; i < 3; i++)
        if (fds[i].fd >= 0)
            close(fds[i].fd);
}

static void reap(pid_t child)
{
    int status = 0;
    int64_t deadline = now_ms() + RUN_MS;
    pid_t got;
    while ((got = waitpid(child, &status, WNOHANG)) == 0 && now_ms() < deadline)
        (void)poll(NULL, 0, 1);
    if (got == 0) {
        kill(child, SIGKILL);
        waitpid(child, &status, 0);
    }
    r.code = got == child && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void run(const conditions *c, const char *const *argv)
{
    int in[2];
    int out[2];
    int err[2];
    r = (result){.code = -1};
    signal(SIGPIPE, SIG_IGN); /* the tool may end before it took all of its input */
    if (pipe(in) != 0 || pipe(out) != 0 || pipe(err) != 0)
        return;
    pid_t child = fork();
    if (child == 0)
        become_tool(argv, c, in, out, err);
    close(in[0]);
    close(out[1]);
    close(err[1]);
    converse(c, in[1], out[0], err[0]);
    if (child > 0)
        reap(child);
}

#define PEP(...)            run(&(conditions){0}, (const char *const[]){__VA_ARGS__, NULL})
#define PEP_FED(p, n, ...)  run(&(conditions){.in = (p), .in_n = (n)}, (const char *const[]){__VA_ARGS__, NULL})
#define PEP_UNDER(how, ...) run(&(conditions){how}, (const char *const[]){__VA_ARGS__, NULL})

/* Exit code as expected; where it is not 0, exactly one line on stderr, which holds `text`. */
static void expect(int code, const char *text)
{
    const char *newline = memchr(r.err, '\n', r.err_n);
    bool one_line = newline != NULL && newline == r.err + r.err_n - 1 && strncmp(r.err, "pep: ", 5) == 0;
    bool right =
        r.code == code && (code == 0 ? r.err_n == 0 : one_line) && (text == NULL || strstr(r.err, text) != NULL);
    if (!right)
        printf("\n    exit code %d, not %d, or not one line with '%s': %s", r.code, code, text != NULL ? text : "",
               r.err_n > 0 ? r.err : "(nothing)\n");
    CU_ASSERT_TRUE(right);
}

static bool printed(const char *text)
{
    bool found = strstr(r.out, text) != NULL;
    if (!found)
        printf("\n    no '%s' in: %s", text, r.out);
    return found;
}

/* ---- a folder for each test ---- */

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static char folder[64];

static void enter_folder(void)
{
    const char *parent = getenv("TMPDIR");
    (void)snprintf(folder, sizeof(folder), "%s/pep-cli-XXXXXX", parent != NULL ? parent : "/tmp");
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(folder));
    CU_ASSERT_EQUAL_FATAL(chdir(folder), 0);
}

static void leave_folder(void)
{
    CU_ASSERT_EQUAL(chdir("/"), 0);
    nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static bool exists(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0;
}

/* How many files the working folder holds. */
static size_t entries(void)
{
    size_t n = 0;
    DIR *dir = opendir(".");
    CU_ASSERT_PTR_NOT_NULL(dir);
    if (dir == NULL)
        return 0;
    while (readdir(dir) != NULL)
        n++;
    closedir(dir);
    return n - 2; /* . and .. */
}

static void put_file(const char *path, const void *bytes, size_t n, mode_t mode)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    CU_ASSERT_TRUE(fd >= 0 && write(fd, bytes, n) == (ssize_t)n && fchmod(fd, mode) == 0);
    close(fd);
}

static void put_text(const char *path, const char *text)
{
    put_file(path, text, strlen(text), 0644);
}

static size_t get_file(const char *path, char *bytes, size_t cap)
{
    int fd = open(path, O_RDONLY);
    ssize_t n = fd >= 0 ? read(fd, bytes, cap) : -1;
    if (fd >= 0)
        close(fd);
    return n >= 0 ? (size_t)n : 0;
}

static void make_devices(void)
{
    static const char *const ids[] = {"alice", "bob", "carol"};
    for (size_t i = 0; i < 3; i++) {
        PEP("keygen", "--id", ids[i]);
        expect(0, NULL);
    }
}

/* An envelope from alice to bob on a/b; a copy that later runs leave alone. */
static char sealed[4096];
static size_t sealed_n;

static void keep_envelope(void)
{
    CU_ASSERT_TRUE_FATAL(r.code == 0 && r.out_n > 0 && r.out_n < sizeof(sealed));
    memcpy(sealed, r.out, r.out_n);
    sealed_n = r.out_n;
}

static void seal_for_bob(void)
{
    PEP_FED("hello", 5, "seal", "--key", "alice.key", "--to", "bob.pub", "--topic", "a/b");
    expect(0, NULL);
    keep_envelope();
}

/* ---- help and usage ---- */

static const char *const commands[][2] = {
    {"keygen"},
    {"seal"},
    {"open"},
    {"verify"},
    {"inspect"},
    {"pub"},
    {"sub"},
    {"audit"},
    {"enroll"},
    {"lookup"},
    {"rotate"},
    {"revoke"},
    {"token"},
    {"authority", "init"},
    {"authority", "issue"},
    {"policy", "check"},
    {"policy", "explain"},
    {"privacy", "check"},
};

#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

static void help_of(size_t i)
{
    if (commands[i][1] != NULL)
        PEP(commands[i][0], commands[i][1], "--help");
    else
        PEP(commands[i][0], "--help");
    expect(0, NULL);
}

static void test_help(void)
{
    PEP("--help");
    expect(0, NULL);
    for (size_t i = 0; i < COMMANDS; i++)
        CU_ASSERT_TRUE(printed(commands[i][0]));
    for (size_t i = 0; i < COMMANDS; i++) {
        help_of(i);
        CU_ASSERT_TRUE(printed("Usage: pep ") && printed(commands[i][0]) && printed("--help"));
    }
    PEP("policy", "--help");
    expect(0, NULL);
    CU_ASSERT_TRUE(printed("policy check") && printed("policy explain"));
    PEP("privacy", "--help");
    expect(0, NULL);
    CU_ASSERT_TRUE(printed("privacy check"));
    PEP("--version");
    expect(0, NULL);
    CU_ASSERT_TRUE(printed("pep 0."));
}

/* Every option that --help shows stands in the manual page, as mdoc writes it. */
static void check_manual(const char *manual)
{
    static const char dashes[] = "--";
    for (char *line = strtok(r.out, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        char *name = strncmp(line, "  ", 2) == 0 ? strstr(line, dashes) : NULL;
        if (name == NULL || name > line + 6)
            continue;
        char item[64];
        (void)snprintf(item, sizeof(item), "Fl -%.*s", (int)strcspn(name + 2, " "), name + 2);
        if (strstr(manual, item) == NULL)
            printf("\n    the manual page has no '%s'", item);
        CU_ASSERT_PTR_NOT_NULL(strstr(manual, item));
    }
}

static void test_manual(void)
{
    static char manual[64 * 1024];
    static const char tail[] = "tests/integration/cli.c";
    char path[4096] = __FILE__;
    CU_ASSERT_TRUE_FATAL(strlen(path) > sizeof(tail));
    path[strlen(path) - (sizeof(tail) - 1)] = '\0';
    strncat(path, "docs/pep.1", sizeof(path) - strlen(path) - 1);
    CU_ASSERT_TRUE_FATAL(get_file(path, manual, sizeof(manual) - 1) > 1000);
    for (size_t i = 0; i < COMMANDS; i++) {
        help_of(i);
        check_manual(manual);
    }
}

static void test_usage(void)
{
    static const struct {
        const char *words[12];
        const char *says;
    } cases[] = {
        {{NULL}, "a command is needed"},
        {{"frobnicate"}, "no such command"},
        {{"bad\x1b[31m\ncommand"}, "\\x1b[31m\\x0a"},
        {{"policy"}, "needs one of its commands"},
        {{"policy", "frobnicate"}, "needs one of its commands"},
        {{"privacy"}, "needs one of its commands"},
        {{"polic"}, "no such command"},
        {{""}, "no such command"},
        {{"privacy", "check"}, "MOSQUITTO_CONF is missing"},
        {{"privacy", "check", "a", "b"}, "one word too many"},
        {{"keygen", "--frobnicate"}, "--frobnicate: there is no such option"},
        {{"keygen", "-z"}, "-z: there is no such option"},
        {{"keygen"}, "--id ID is missing"},
        {{"keygen", "--id"}, "--id: needs a value"},
        {{"keygen", "--id", "a", "--id", "b"}, "given twice"},
        {{"keygen", "--id", "a", "stray"}, "one word too many"},
        {{"keygen", "--json=yes", "--id", "a"}, "takes no value"},
        {{"keygen", "--id", "a b"}, "an id is"},
        {{"keygen", "--id", "../a"}, "an id is"},
        {{"keygen", "--id", ""}, "an id is"},
        {{"keygen", "--id", ".a"}, "hidden"},
        {{"keygen", "--id", "a", "--days", "0"}, "whole number from 1 to 36500"},
        {{"keygen", "--id", "a", "--days", "-1"}, "whole number"},
        {{"keygen", "--id", "a", "--days", " 1"}, "whole number"},
        {{"keygen", "--id", "a", "--days", "1x"}, "whole number"},
        {{"keygen", "--id", "a", "--days", "99999999999999999999999"}, "whole number"},
        {{"keygen", "--id", "a", "--scope", "x"}, "for an epoch key"},
        {{"keygen", "--key", "a.key", "--scope", "x"}, "--epoch FILE"},
        {{"keygen", "--key", "a.key", "--scope", "a/#/b", "--epoch", "e"}, "no topic filter"},
        {{"seal", "--key", "a.key"}, "--topic TOPIC is missing"},
        {{"seal", "--key", "a.key", "--topic", "t"}, "one of --to, --epoch and --signed-only"},
        {{"seal", "--key", "a.key", "--topic", "t", "--signed-only", "--to", "b.pub"}, "one of --to"},
        {{"seal", "--key", "a.key", "--topic", "a/#", "--signed-only"}, "is no topic"},
        {{"seal", "--key", "a.key", "--topic", "", "--signed-only"}, "is no topic"},
        {{"seal", "--key", "a.key", "--topic", "\xff", "--signed-only"}, "is no topic"},
        {{"seal", "--key", "a.key", "--topic", "$SYS/x", "--signed-only"}, "reserved"},
        {{"seal", "--key", "a.secret", "--topic", "t", "--signed-only"}, "must end in .key"},
        {{"seal", "--key", "a.key", "--topic", "t", "--signed-only", "--record", "k"}, "KEY=VALUE"},
        {{"seal", "--key", "a.key", "--topic", "t", "--signed-only", "--will", "--exp", "5"},
         "neither --record nor --exp"},
        {{"seal", "--key", "a.key", "--topic", "t", "--signed-only", "--record", "=v"}, "KEY=VALUE"},
        {{"seal", "--key", "a.key", "--topic", "t", "--signed-only", "--record", "k=1", "--record", "k=2"},
         "each key stands once"},
        {{"seal", "--key", "a.key", "--topic", "t", "--signed-only", "--content-type", "\xff"}, "--content-type"},
        {{"seal", "--key", "a.key", "--topic", "t", "--signed-only", "--exp", "1.5"}, "whole number"},
        {{"open"}, "--key FILE is missing"},
        {{"open", "--key", "a.key", "--max-age", "0"}, "whole number"},
        {{"verify"}, "--from FILE|DIR is missing"},
        {{"inspect", "file"}, "one word too many"},
        {{"pub", "--key", "a.key", "-t", "t", "--signed-only"}, "one of -m, -f, -l, -s and -n"},
        {{"pub", "--key", "a.key", "-t", "t", "--signed-only", "-n", "-l"}, "one of -m, -f, -l, -s and -n"},
        {{"pub", "--key", "a.key", "-t", "t", "-n"}, "one of --to, --epoch and --signed-only"},
        {{"pub", "--key", "a.key", "-t", "$x", "-n", "-r"}, "reserved"},
        {{"pub", "--key", "a.key", "-t", "t", "-n", "-r", "--will-retain"}, "--will-topic"},
        {{"pub", "--key", "a.key", "-t", "t", "-n", "-r", "-p", "0"}, "1 to 65535"},
        {{"pub", "--key", "a.key", "-t", "t", "-n", "-r", "-q", "3"}, "0 to 2"},
        {{"pub", "--key", "a.key", "-t", "t", "-n", "-r", "-V", "4"}, "neither 311 nor 5"},
        {{"pub", "--key", "a.key", "-t", "t", "-n", "-r", "-P", "x"}, "needs a user name"},
        {{"sub", "--key", "a.key"}, "--topic FILTER is missing"},
        {{"sub", "--key", "a.key", "-t", "a/#/b"}, "no topic filter"},
        {{"sub", "--key", "a.key", "-t", "a", "--json", "-v"}, "--json"},
        {{"audit"}, "--topic FILTER is missing"},
        {{"audit", "-t", "a/#/b"}, "no topic filter"},
        {{"audit", "-t", "$share/g/a"}, "shared subscriptions"},
        {{"audit", "-t", "a", "--purge"}, "--purge and --key"},
        {{"audit", "-t", "a", "--key", "a.key"}, "--purge and --key"},
        {{"audit", "-t", "a", "-q", "1"}, "no such option"},
        {{"policy", "check"}, "FILE is missing"},
        {{"policy", "explain", "f"}, "TOPIC is missing"},
        {{"policy", "explain", "f", "a/+"}, "is no topic"},
        {{"policy", "explain", "f", "a", "--signer", "a b"}, "an id is"},
    };
    enter_folder();
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        run(&(conditions){0}, cases[i].words);
        expect(2, cases[i].says);
        CU_ASSERT_PTR_NOT_NULL(strstr(r.err, "--help'"));
        CU_ASSERT_EQUAL(r.out_n, 0);
    }
    CU_ASSERT_EQUAL(entries(), 0);
    leave_folder();
}

/* ---- keys ---- */

static void test_keygen(void)
{
    struct stat st;
    enter_folder();
    PEP("keygen", "--id", "alice", "--days", "2");
    expect(0, NULL);
    CU_ASSERT_TRUE(printed("alice.key") && printed("alice.pub") && printed("alice.seq") && printed("kid "));
    CU_ASSERT_TRUE(stat("alice.key", &st) == 0 && (st.st_mode & 07777) == 0600);
    CU_ASSERT_TRUE(stat("alice.pub", &st) == 0 && (st.st_mode & 0777) == 0644);
    CU_ASSERT_TRUE(stat("alice.seq", &st) == 0 && (st.st_mode & 07777) == 0600 && st.st_size == 0);

    CU_ASSERT_EQUAL(mkdir("keys", 0700), 0);
    PEP("keygen", "--id", "bob", "--out", "keys", "--json");
    expect(0, NULL);
    cJSON *object = cJSON_Parse(r.out);
    const char *key = cJSON_GetStringValue(cJSON_GetObjectItem(object, "key"));
    const char *kid = cJSON_GetStringValue(cJSON_GetObjectItem(object, "kid"));
    CU_ASSERT_TRUE(key != NULL && strcmp(key, "keys/bob.key") == 0 && exists(key));
    CU_ASSERT_TRUE(kid != NULL && strlen(kid) == 32);
    const char *seq = cJSON_GetStringValue(cJSON_GetObjectItem(object, "seq"));
    CU_ASSERT_TRUE(seq != NULL && strcmp(seq, "keys/bob.seq") == 0 && exists(seq));
    cJSON_Delete(object);

    PEP("keygen", "--key", "alice.key", "--scope", "a/#", "--epoch", "a.epoch");
    expect(0, NULL);
    CU_ASSERT_TRUE(stat("a.epoch", &st) == 0 && (st.st_mode & 07777) == 0600);
    leave_folder();
}

static void test_keygen_overwrites_nothing(void)
{
    char before[4096];
    char after[4096];
    enter_folder();
    PEP("keygen", "--id", "alice");
    expect(0, NULL);
    size_t n = get_file("alice.key", before, sizeof(before));
    PEP("keygen", "--id", "alice");
    expect(1, "never overwritten");
    CU_ASSERT_TRUE(n > 0 && get_file("alice.key", after, sizeof(after)) == n && memcmp(before, after, n) == 0);

    put_text("bob.pub", "mine");
    PEP("keygen", "--id", "bob");
    expect(1, "bob.pub");
    CU_ASSERT_FALSE(exists("bob.key") || exists("bob.seq"));
    CU_ASSERT_EQUAL(get_file("bob.pub", after, sizeof(after)), 4);

    put_text("carol.key", "mine");
    PEP("keygen", "--id", "carol");
    expect(1, "carol.key");
    CU_ASSERT_FALSE(exists("carol.pub") || exists("carol.seq"));

    put_text("dave.seq", "mine");
    PEP("keygen", "--id", "dave");
    expect(1, "dave.seq");
    CU_ASSERT_FALSE(exists("dave.pub") || exists("dave.key"));
    CU_ASSERT_EQUAL(get_file("dave.seq", after, sizeof(after)), 4);

    put_text("a.epoch", "mine");
    PEP("keygen", "--key", "alice.key", "--scope", "a", "--epoch", "a.epoch");
    expect(1, "a.epoch");
    CU_ASSERT_EQUAL(get_file("a.epoch", after, sizeof(after)), 4);
    leave_folder();
}

static void test_keygen_whole_or_not_at_all(void)
{
    enter_folder();
    PEP("keygen", "--id", "alice", "--out", "nowhere/at-all");
    expect(3, "nowhere");
    PEP_UNDER(.disk_full = true, "keygen", "--id", "alice");
    expect(3, "alice");
    CU_ASSERT_EQUAL(entries(), 0);
    PEP("keygen", "--id", "alice");
    expect(0, NULL);
    PEP_UNDER(.disk_full = true, "keygen", "--key", "alice.key", "--scope", "a", "--epoch", "a.epoch");
    expect(3, "a.epoch");
    CU_ASSERT_EQUAL(entries(), 3);
    leave_folder();
}

static void test_bad_key_files(void)
{
    char key[4096];
    enter_folder();
    make_devices();
    size_t n = get_file("alice.key", key, sizeof(key));
    CU_ASSERT_TRUE_FATAL(n > 40);

    PEP("seal", "--key", "none.key", "--topic", "t", "--signed-only");
    expect(3, "none.key");
    CU_ASSERT_FALSE(exists("none.seq"));
    put_file("open.key", key, n, 0644);
    PEP("seal", "--key", "open.key", "--topic", "t", "--signed-only");
    expect(3, "open.key");
    put_file("half.key", key, n / 2, 0600);
    PEP("seal", "--key", "half.key", "--topic", "t", "--signed-only");
    expect(3, "half.key");
    put_file("noise.key", "\x00\xff\x1b[31m\n", 8, 0600);
    PEP("open", "--key", "noise.key", "--from", "alice.pub");
    expect(3, "noise.key");
    CU_ASSERT_EQUAL(mkdir("folder.key", 0700), 0);
    PEP("open", "--key", "folder.key", "--from", "alice.pub");
    expect(3, "folder.key");

    put_text("half.pub", "-----BEGIN PEP RECORD-----\n");
    PEP("seal", "--key", "alice.key", "--topic", "t", "--to", "half.pub");
    expect(3, "half.pub");
    PEP("verify", "--from", "."); /* one bad record in the folder, and none of it is believed */
    expect(3, "half.pub");
    PEP("seal", "--key", "alice.key", "--topic", "t", "--epoch", "alice.key");
    expect(3, "alice.key");
    leave_folder();
}

/* ---- envelopes ---- */

static void test_direct(void)
{
    struct stat st;
    enter_folder();
    make_devices();
    PEP_FED("hello", 5, "seal", "--key", "alice.key", "--to", "bob.pub", "--topic", "a/b", "--record",
            "n=-9223372036854775808", "--record", "ok=true", "--record", "id=007", "--exp", "60", "--content-type",
            "text/plain");
    expect(0, NULL);
    CU_ASSERT_TRUE(stat("alice.seq", &st) == 0 && st.st_size > 0);
    keep_envelope();
    CU_ASSERT_PTR_NULL(memmem(sealed, sealed_n, "hello", 5));

    PEP_FED(sealed, sealed_n, "open", "--key", "bob.key", "--topic", "a/b");
    expect(0, NULL);
    CU_ASSERT_TRUE(r.out_n == 5 && memcmp(r.out, "hello", 5) == 0);
    PEP_FED(sealed, sealed_n, "verify", "--from", "alice.pub", "--topic=a/b");
    expect(0, NULL);
    CU_ASSERT_STRING_EQUAL(r.out, "ok\n");
    PEP_FED(sealed, sealed_n, "inspect");
    expect(0, NULL);
    CU_ASSERT_TRUE(printed("Nothing here is verified") && printed("mode       direct") &&
                   printed("record     ok=true"));
    CU_ASSERT_TRUE(printed("n=-9223372036854775808") && printed("id=007") && printed("expires    20"));
    leave_folder();
}

static void test_inspect_json(void)
{
    enter_folder();
    make_devices();
    PEP_FED("", 0, "seal", "--key", "alice.key", "--signed-only", "--topic", "a/b", "--will");
    expect(0, NULL);
    keep_envelope();
    PEP_FED(sealed, sealed_n, "inspect", "--json");
    expect(0, NULL);
    cJSON *object = cJSON_Parse(r.out);
    CU_ASSERT_TRUE(cJSON_IsFalse(cJSON_GetObjectItem(object, "verified")));
    CU_ASSERT_EQUAL(cJSON_GetArraySize(cJSON_GetObjectItem(object, "flags")), 2);
    const char *mode = cJSON_GetStringValue(cJSON_GetObjectItem(object, "mode"));
    CU_ASSERT_TRUE(mode != NULL && strcmp(mode, "signed-only") == 0);
    cJSON_Delete(object);
    leave_folder();
}

static void test_epoch(void)
{
    enter_folder();
    make_devices();
    PEP("keygen", "--key", "alice.key", "--scope", "a/#", "--epoch", "a.epoch");
    expect(0, NULL);
    PEP_FED("hello", 5, "seal", "--key", "alice.key", "--epoch", "a.epoch", "--topic", "a/b");
    expect(0, NULL);
    keep_envelope();
    PEP_FED(sealed, sealed_n, "open", "--key", "bob.key", "--epoch", "a.epoch");
    expect(0, NULL);
    CU_ASSERT_TRUE(r.out_n == 5 && memcmp(r.out, "hello", 5) == 0);
    PEP_FED(sealed, sealed_n, "open", "--key", "bob.key");
    expect(1, "cannot-open");
    PEP("seal", "--key", "alice.key", "--epoch", "a.epoch", "--topic", "b");
    expect(1, "a/#");
    PEP("seal", "--key", "bob.key", "--epoch", "a.epoch", "--topic", "a/b");
    expect(1, "another device");
    leave_folder();
}

static void test_refused(void)
{
    enter_folder();
    make_devices();
    seal_for_bob();
    PEP_FED(sealed, sealed_n, "open", "--key", "carol.key");
    expect(1, "cannot-open");
    PEP_FED(sealed, sealed_n, "open", "--key", "bob.key", "--topic", "a/c");
    expect(1, "wrong-topic");
    PEP_FED(sealed, sealed_n, "open", "--key", "bob.key", "--from", "carol.pub");
    expect(1, "unknown-signer");
    PEP_FED("", 0, "open", "--key", "bob.key");
    expect(1, "empty-payload");
    PEP_FED("plain text", 10, "inspect");
    expect(1, "plain-payload");
    PEP_FED("hello", 5, "seal", "--key", "alice.key", "--signed-only", "--topic", "a/b");
    keep_envelope();
    PEP_FED(sealed, sealed_n, "open", "--key", "bob.key");
    expect(1, "not-encrypted");
    CU_ASSERT_EQUAL(r.out_n, 0);
    PEP_FED(sealed, sealed_n, "open", "--key", "bob.key", "--signed-only");
    expect(0, NULL);
    leave_folder();
}

/* verify answers on stdout: the name of the reason, and exit code 1. */
static void test_verify_names(void)
{
    enter_folder();
    make_devices();
    seal_for_bob();
    PEP_FED(sealed, sealed_n, "verify", "--from", "bob.pub");
    CU_ASSERT_TRUE(r.code == 1 && strcmp(r.out, "unknown-signer\n") == 0);
    PEP_FED(sealed, sealed_n, "verify", "--from", ".", "--topic", "x");
    CU_ASSERT_TRUE(r.code == 1 && strcmp(r.out, "wrong-topic\n") == 0);
    sealed[sealed_n - 1] = (char)(sealed[sealed_n - 1] ^ 1);
    PEP_FED(sealed, sealed_n, "verify", "--from", ".", "--json");
    CU_ASSERT_TRUE(r.code == 1 && printed("\"bad-signature\""));
    PEP_FED(sealed, sealed_n - 1, "verify", "--from", ".");
    CU_ASSERT_TRUE(r.code == 1 && strcmp(r.out, "malformed\n") == 0);
    PEP("verify", "--from", "nowhere");
    expect(3, "nowhere");
    leave_folder();
}

#define STRIDE 7 /* every byte is the library's test; here it is that each way out is a clean one */

static void test_damaged_envelopes(void)
{
    enter_folder();
    make_devices();
    seal_for_bob();
    for (size_t n = 1; n < sealed_n; n += STRIDE) {
        PEP_FED(sealed, n, "open", "--key", "bob.key");
        expect(1, "not opened");
        CU_ASSERT_EQUAL(r.out_n, 0);
    }
    for (size_t i = 0; i < sealed_n; i += STRIDE) {
        sealed[i] = (char)(sealed[i] ^ 4);
        PEP_FED(sealed, sealed_n, "open", "--key", "bob.key");
        expect(1, "not opened");
        CU_ASSERT_EQUAL(r.out_n, 0);
        sealed[i] = (char)(sealed[i] ^ 4);
    }
    leave_folder();
}

/* What is for a terminal must not steer it, nor begin a line of its own. */
static void test_hostile_topic(void)
{
    static const char topic[] = "a\x1b[2J\nsigner   me\x7f\xc2\x9b"
                                "31m";
    enter_folder();
    make_devices();
    PEP_FED("x", 1, "seal", "--key", "alice.key", "--signed-only", "--topic", topic, "--record", "k\r=\x1b[1m");
    expect(0, NULL);
    keep_envelope();
    PEP_FED(sealed, sealed_n, "inspect");
    expect(0, NULL);
    CU_ASSERT_TRUE(printed("topic      a\\x1b[2J\\x0asigner   me\\x7f\\xc2\\x9b31m\n") && printed("k\\x0d=\\x1b[1m\n"));
    CU_ASSERT_TRUE(memchr(r.out, 0x1b, r.out_n) == NULL && memchr(r.out, '\r', r.out_n) == NULL);
    leave_folder();
}

#define HOSTILE_LAYOUT                                                                                                 \
    "\xe2\x80\xa8\xe2\x80\xa9\xe2\x80\xaa\xe2\x80\xab\xe2\x80\xac\xe2\x80\xad\xe2\x80\xae"                             \
    "\xe2\x81\xa6\xe2\x81\xa7\xe2\x81\xa8\xe2\x81\xa9"
#define ESCAPED_LAYOUT                                                                                                 \
    "\\xe2\\x80\\xa8\\xe2\\x80\\xa9\\xe2\\x80\\xaa\\xe2\\x80\\xab\\xe2\\x80\\xac\\xe2\\x80\\xad\\xe2\\x80\\xae"        \
    "\\xe2\\x81\\xa6\\xe2\\x81\\xa7\\xe2\\x81\\xa8\\xe2\\x81\\xa9"
#define LAYOUT_NEIGHBOURS                                                                                              \
    "\xe2\x80\xa7\xe2\x80\xaf\xe2\x81\xa5\xe2\x81\xaa\xe2\x82\xac" /* these are printed as they are */

/* Nor may it show another text than stands there: separators of lines, and what turns the direction of writing. */
static void test_hostile_layout(void)
{
    static const char topic[] = "a" HOSTILE_LAYOUT LAYOUT_NEIGHBOURS;
    enter_folder();
    make_devices();
    PEP_FED("x", 1, "seal", "--key", "alice.key", "--signed-only", "--topic", topic);
    expect(0, NULL);
    keep_envelope();
    PEP_FED(sealed, sealed_n, "inspect");
    expect(0, NULL);
    CU_ASSERT_TRUE(printed("topic      a" ESCAPED_LAYOUT LAYOUT_NEIGHBOURS "\n"));
    leave_folder();
}

/* In JSON too no control character comes through, in values as in names; what it parses to is the same. */
static void test_hostile_json(void)
{
    enter_folder();
    make_devices();
    PEP_FED("x", 1, "seal", "--key", "alice.key", "--signed-only", "--topic", "a\x7f\xc2\x9b", "--record",
            "k\xc2\x85=\xc2\x90");
    expect(0, NULL);
    keep_envelope();
    PEP_FED(sealed, sealed_n, "inspect", "--json");
    expect(0, NULL);
    CU_ASSERT_TRUE(printed("\"topic\":\"a\\u007f\\u009b\"") && printed("{\"k\\u0085\":\"\\u0090\"}"));
    leave_folder();
}

static void test_limits_and_lost_output(void)
{
    enter_folder();
    make_devices();
    char *much = calloc(1, TOO_MUCH);
    CU_ASSERT_PTR_NOT_NULL_FATAL(much);
    PEP_FED(much, TOO_MUCH, "seal", "--key", "alice.key", "--signed-only", "--topic", "t");
    expect(3, "longer than 16777216 bytes");
    CU_ASSERT_EQUAL(r.out_n, 0);
    free(much);
    PEP_UNDER(.out_to = "/dev/full", "seal", "--key", "alice.key", "--signed-only", "--topic", "t");
    expect(3, "cannot write to standard output");
    PEP_UNDER(.out_to = "/dev/full", "--help");
    expect(3, "cannot write to standard output");
    leave_folder();
}

/* Each seal has a seq of its own, and a later one is higher. */
static void test_seq_rises(void)
{
    uint64_t last = 0;
    enter_folder();
    make_devices();
    for (int i = 0; i < 5; i++) {
        PEP("seal", "--key", "alice.key", "--signed-only", "--topic", "t");
        keep_envelope();
        PEP_FED(sealed, sealed_n, "inspect");
        const char *seq = strstr(r.out, "seq ");
        uint64_t value = seq != NULL ? strtoull(seq + 4, NULL, 10) : 0;
        CU_ASSERT_TRUE(value > last);
        last = value;
    }
    PEP("seal", "--key", "bob.key", "--signed-only", "--counter", "--topic", "t");
    keep_envelope();
    PEP_FED(sealed, sealed_n, "inspect");
    CU_ASSERT_TRUE(printed("seq        1 (a counter)"));
    leave_folder();
}

/* ---- the broker's side, scripted ---- */

static int listen_on(char port[8])
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    CU_ASSERT_TRUE_FATAL(fd >= 0 && bind(fd, (struct sockaddr *)&address, n) == 0 && listen(fd, 4) == 0 &&
                         getsockname(fd, (struct sockaddr *)&address, &n) == 0);
    (void)snprintf(port, 8, "%u", (unsigned)ntohs(address.sin_port));
    return fd;
}

typedef struct {
    const char *bytes;
    size_t n;
} packet;

#define PACKET(text)                                                                                                   \
    {                                                                                                                  \
        text, sizeof(text) - 1                                                                                         \
    }

/* Answers the first packets of one client, one each, until it goes; what it sent stands in the file `heard` then. */
static void answer(int listener, const packet *answers, size_t count)
{
    char bytes[4096];
    ssize_t n;
    int client = accept(listener, NULL, NULL);
    int heard = open("heard", O_WRONLY | O_CREAT | O_TRUNC, 0600);
    for (size_t i = 0; (n = read(client, bytes, sizeof(bytes))) > 0; i++)
        if (write(heard, bytes, (size_t)n) != n || (i < count && write(client, answers[i].bytes, answers[i].n) < 0))
            break;
}

static pid_t scripted_broker(char port[8], const packet *answers, size_t count)
{
    int fd = listen_on(port);
    pid_t child = fork();
    if (child == 0) {
        alarm(RUN_MS / 1000);
        answer(fd, answers, count);
        _exit(0);
    }
    close(fd);
    return child;
}

/* Its client has ended, so it ends. */
static void end_broker(pid_t child)
{
    waitpid(child, NULL, 0);
}

/* A PUBLISH of MQTT 5 at QoS 0, appended. */
static void append_publish(char *to, size_t *n, const char *topic, bool retain, const char *payload, size_t payload_n)
{
    size_t topic_n = strlen(topic);
    size_t left = 2 + topic_n + 1 + payload_n;
    CU_ASSERT_TRUE_FATAL(left < 16384);
    const char head[] = {(char)(0x30 | retain), (char)(0x80 | (left & 127)), (char)(left >> 7), 0, (char)topic_n};
    memcpy(to + *n, head, sizeof(head));
    memcpy(to + *n + sizeof(head), topic, topic_n);
    to[*n + sizeof(head) + topic_n] = 0; /* no properties */
    memcpy(to + *n + sizeof(head) + topic_n + 1, payload, payload_n);
    *n += sizeof(head) + topic_n + 1 + payload_n;
}

/* The next packet in `bytes`: its first byte, or -1; *body is what follows the length. */
static int next_packet(packet *body, const char *bytes, size_t n, size_t *at)
{
    if (*at + 2 > n)
        return -1;
    int type = (unsigned char)bytes[(*at)++];
    size_t left = 0;
    for (int shift = 0; *at < n; shift += 7) {
        unsigned char byte = (unsigned char)bytes[(*at)++];
        left |= (size_t)(byte & 127) << shift;
        if (byte < 128)
            break;
    }
    if (left > n - *at)
        return -1;
    *body = (packet){bytes + *at, left};
    *at += left;
    return type;
}

static char heard[256 * 1024];

/* The payload of the PUBLISH (QoS 0) number `which` that the scripted broker heard; NULL where there is none. */
static packet heard_publish(size_t which, int *type)
{
    size_t n = get_file("heard", heard, sizeof(heard));
    packet body;
    for (size_t at = 0; (*type = next_packet(&body, heard, n, &at)) >= 0;) {
        if ((*type & 0xf0) != 0x30 || which-- > 0)
            continue;
        size_t skip = 3 + (size_t)(unsigned char)body.bytes[1];
        return (packet){body.bytes + skip, body.n - skip};
    }
    return (packet){NULL, 0};
}

/* A counter goes on from its state alone: without it, numbers would be used again. A clock needs none. */
static void test_lost_counter(void)
{
    char port[8];
    enter_folder();
    make_devices();
    PEP("seal", "--key", "alice.key", "--signed-only", "--counter", "--topic", "t");
    expect(0, NULL);
    CU_ASSERT_EQUAL(unlink("alice.seq"), 0);
    PEP("seal", "--key", "alice.key", "--signed-only", "--counter", "--topic", "t");
    expect(3, "alice.seq is missing");
    CU_ASSERT_PTR_NOT_NULL(strstr(r.err, "needs a new key"));
    CU_ASSERT_EQUAL(r.out_n, 0);
    close(listen_on(port)); /* nobody listens there: it is refused before that matters */
    PEP("pub", "--key", "alice.key", "--counter", "-h", "127.0.0.1", "-p", port, "-t", "t", "-n", "-r");
    expect(3, "alice.seq is missing");
    CU_ASSERT_FALSE(exists("alice.seq"));
    PEP("seal", "--key", "alice.key", "--signed-only", "--topic", "t");
    expect(0, NULL);
    CU_ASSERT_TRUE(exists("alice.seq"));
    leave_folder();
}

static void test_unreachable(void)
{
    char port[8];
    enter_folder();
    make_devices();
    close(listen_on(port)); /* nobody listens there now */
    PEP("pub", "--key", "alice.key", "--to", "bob.pub", "-h", "127.0.0.1", "-p", port, "-t", "t", "-m", "x");
    expect(3, "cannot connect to 127.0.0.1:");
    PEP("sub", "--key", "bob.key", "-h", "127.0.0.1", "-p", port, "-t", "t");
    expect(3, "cannot connect to 127.0.0.1:");
    PEP("pub", "--key", "alice.key", "--to", "bob.pub", "-h", "no..name", "-t", "t", "-m", "x");
    expect(3, "cannot connect to no..name:1883");
    PEP("pub", "--key", "alice.key", "--to", "bob.pub", "--cafile", "none.pem", "-t", "t", "-m", "x");
    expect(3, "none.pem");
    put_text("pw", "secret\n");
    PEP("pub", "--key", "alice.key", "--to", "bob.pub", "-u", "me", "--pw-file", "pw", "-t", "t", "-m", "x");
    expect(3, "pw: others may read");
    PEP("pub", "--key", "alice.key", "--to", "bob.pub", "-t", "t", "-f", "none", "-h", "127.0.0.1", "-p", port);
    expect(3, "127.0.0.1");
    leave_folder();
}

static void test_bad_ca(void)
{
    char port[8];
    enter_folder();
    make_devices();
    int fd = listen_on(port);
    put_text("ca.pem", "no certificate\n");
    PEP("pub", "--key", "alice.key", "--to", "bob.pub", "--cafile", "ca.pem", "-h", "127.0.0.1", "-p", port, "-t", "t",
        "-m", "x");
    expect(3, "cannot connect");
    close(fd);
    leave_folder();
}

#define CONNACK_OK      PACKET("\x20\x03\x00\x00\x00")
#define CONNACK_REFUSED PACKET("\x20\x03\x00\x87\x00")

static void test_connect_refused(void)
{
    static const packet answers[] = {CONNACK_REFUSED};
    char port[8];
    enter_folder();
    make_devices();
    pid_t broker = scripted_broker(port, answers, 1);
    PEP("sub", "--key", "bob.key", "-h", "127.0.0.1", "-p", port, "-t", "t");
    expect(3, "refused the connection: Not authorized");
    end_broker(broker);
    leave_folder();
}

static void test_publish_refused(void)
{
    static const packet puback[] = {CONNACK_OK, PACKET("\x40\x03\x00\x01\x87")};
    static const packet pubrec[] = {CONNACK_OK, PACKET("\x50\x03\x00\x01\x87")};
    char port[8];
    enter_folder();
    make_devices();
    pid_t broker = scripted_broker(port, puback, 2);
    PEP("pub", "--key", "alice.key", "--to", "bob.pub", "-h", "127.0.0.1", "-p", port, "-t", "t", "-q", "1", "-m", "x");
    expect(1, "the broker refused a message on t: Not authorized (0x87)");
    end_broker(broker);
    broker = scripted_broker(port, pubrec, 2);
    PEP("pub", "--key", "alice.key", "--signed-only", "-h", "127.0.0.1", "-p", port, "-t", "t", "-q", "2", "-m", "x");
    expect(1, "the broker refused a message on t: Not authorized (0x87)");
    end_broker(broker);
    leave_folder();
}

static void test_subscription_refused(void)
{
    static const packet answers[] = {CONNACK_OK, PACKET("\x90\x04\x00\x01\x00\x87")};
    char port[8];
    enter_folder();
    make_devices();
    pid_t broker = scripted_broker(port, answers, 2);
    PEP("sub", "--key", "bob.key", "-h", "127.0.0.1", "-p", port, "-t", "secret/#", "--no-directory");
    expect(1, "refused the subscription to secret/#");
    end_broker(broker);
    leave_folder();
}

#define SUBACK_OK "\x90\x04\x00\x01\x00\x00"

/* What a scripted broker sends after SUBSCRIBE. */
static char stream[16384];
static size_t stream_n;

static void begin_stream(void)
{
    stream_n = sizeof(SUBACK_OK) - 1;
    memcpy(stream, SUBACK_OK, stream_n);
}

static void deliver(const char *topic, bool retain, const char *payload, size_t n)
{
    append_publish(stream, &stream_n, topic, retain, payload, n);
}

/* bob subscribes, gets the stream, and ends after `count` messages that opened. `prefix` is an option, or NULL. */
static void subscribe_for(const char *count, const char *how, const char *prefix)
{
    char port[8];
    const packet answers[] = {CONNACK_OK, {stream, stream_n}};
    pid_t broker = scripted_broker(port, answers, 2);
    PEP("sub", "--key", "bob.key", "-h", "127.0.0.1", "-p", port, "-t", "#", "-C", count, how, prefix);
    end_broker(broker);
}

/* A plain message and an empty one: dropped, each with its line and its reason. */
static void test_dropped(void)
{
    enter_folder();
    make_devices();
    seal_for_bob();
    begin_stream();
    deliver("a", false, "x", 1);
    deliver("t", true, "", 0);
    deliver("a/b", false, sealed, sealed_n);
    subscribe_for("1", "-N", NULL);
    CU_ASSERT_EQUAL(r.code, 0);
    CU_ASSERT_STRING_EQUAL(r.out, "hello");
    CU_ASSERT_PTR_NOT_NULL(strstr(r.err, "pep: dropped a: plain-payload ("));
    CU_ASSERT_PTR_NOT_NULL(strstr(r.err, "pep: dropped t: empty-payload ("));
    leave_folder();
}

static void test_sub_ends_early(void)
{
    static const packet answers[] = {CONNACK_OK, PACKET(SUBACK_OK)};
    char port[8];
    enter_folder();
    make_devices();
    pid_t broker = scripted_broker(port, answers, 2);
    PEP("sub", "--key", "bob.key", "-h", "127.0.0.1", "-p", port, "-t", "#", "-W", "1", "-C", "1");
    expect(1, "ended after 0 of 1 messages");
    end_broker(broker);
    broker = scripted_broker(port, answers, 2);
    PEP("sub", "--key", "bob.key", "-h", "127.0.0.1", "-p", port, "-t", "#", "-W", "1");
    expect(0, NULL);
    end_broker(broker);
    leave_folder();
}

/* Passed on once, under the topic that was signed, also by the next process. */
static void test_sub(void)
{
    char older[sizeof(sealed)];
    enter_folder();
    make_devices();
    seal_for_bob();
    size_t older_n = sealed_n;
    memcpy(older, sealed, older_n);
    seal_for_bob();
    begin_stream();
    deliver("a/b", false, sealed, sealed_n);
    deliver("a/b", false, sealed, sealed_n);
    deliver("a/c", false, sealed, sealed_n);
    deliver("a/b", true, older, older_n);  /* state that is older than what was seen */
    deliver("a/b", false, older, older_n); /* a message may be late */
    subscribe_for("2", "-v", NULL);
    CU_ASSERT_EQUAL(r.code, 0);
    CU_ASSERT_STRING_EQUAL(r.out, "a/b hello\na/b hello\n");
    const char *dropped = strstr(r.err, "pep: dropped a/b: replayed (");
    CU_ASSERT_PTR_NOT_NULL(dropped);
    CU_ASSERT_TRUE(dropped != NULL && strstr(dropped + 1, "pep: dropped a/b: replayed (") != NULL);
    CU_ASSERT_PTR_NOT_NULL(strstr(r.err, "pep: dropped a/c: wrong-topic ("));

    begin_stream();
    deliver("a/b", false, sealed, sealed_n);
    seal_for_bob();
    deliver("a/b", true, sealed, sealed_n);
    subscribe_for("1", "-v", NULL);
    CU_ASSERT_EQUAL(r.code, 0);
    CU_ASSERT_STRING_EQUAL(r.out, "a/b hello\n");
    CU_ASSERT_PTR_NOT_NULL(strstr(r.err, "pep: dropped a/b: replayed ("));
    leave_folder();
}

/* With a prefix every topic has it: what comes without is dropped, though it was signed for just that topic. */
static void test_sub_prefix(void)
{
    enter_folder();
    make_devices();
    seal_for_bob();
    begin_stream();
    deliver("a/b", false, sealed, sealed_n);
    deliver("sit", false, sealed, sealed_n);
    deliver("site/a/b", false, sealed, sealed_n);
    subscribe_for("1", "-v", "--prefix=site/");
    CU_ASSERT_EQUAL(r.code, 0);
    CU_ASSERT_STRING_EQUAL(r.out, "site/a/b hello\n");
    CU_ASSERT_PTR_NOT_NULL(strstr(r.err, "pep: dropped a/b: wrong-topic ("));
    CU_ASSERT_PTR_NOT_NULL(strstr(r.err, "pep: dropped sit: wrong-topic ("));
    leave_folder();
}

static void test_sub_json(void)
{
    enter_folder();
    make_devices();
    PEP_FED("\xff\x00", 2, "seal", "--key", "alice.key", "--to", "bob.pub", "--topic", "a/b", "--record",
            "n=9007199254740993", "--content-type", "text/plain");
    keep_envelope();
    begin_stream();
    deliver("a/b", true, sealed, sealed_n);
    subscribe_for("1", "--json", NULL);
    expect(0, NULL);
    CU_ASSERT_TRUE(printed("\"signer\":\"alice\"") && printed("\"payload_base64\":\"/wA=\""));
    CU_ASSERT_TRUE(printed("\"retained\":true") && printed("\"record\":{\"n\":9007199254740993}"));
    CU_ASSERT_TRUE(printed("\"content_type\":\"text/plain\""));
    leave_folder();
}

static void test_sub_json_hostile(void)
{
    static const char plain[] = "\x7f\xc2\x80\xc2\x9b\xc2\x9f\xc2\xa0\xc3\x9f"; /* the last two are no controls */
    enter_folder();
    make_devices();
    PEP_FED(plain, sizeof(plain) - 1, "seal", "--key", "alice.key", "--to", "bob.pub", "--topic", "a/b");
    keep_envelope();
    begin_stream();
    deliver("a/b", false, sealed, sealed_n);
    subscribe_for("1", "--json", NULL);
    expect(0, NULL);
    CU_ASSERT_TRUE(printed("\"payload\":\"\\u007f\\u0080\\u009b\\u009f\xc2\xa0\xc3\x9f\""));
    cJSON *object = cJSON_Parse(r.out);
    const char *payload = cJSON_GetStringValue(cJSON_GetObjectItem(object, "payload"));
    CU_ASSERT_TRUE(payload != NULL && strcmp(payload, plain) == 0);
    cJSON_Delete(object);
    leave_folder();
}

static void expect_publish(size_t which, const char *opener, const char *plain)
{
    int type;
    packet p = heard_publish(which, &type);
    CU_ASSERT_PTR_NOT_NULL(p.bytes);
    PEP_FED(p.bytes, p.n, "open", "--key", opener, "--topic", "a/b");
    expect(0, NULL);
    CU_ASSERT_STRING_EQUAL(r.out, plain);
}

#define LONG_LINE 100000 /* more than one read gives */

static void test_pub(void)
{
    static char lines[5 + LONG_LINE + 1] = "one\n\n";
    static const packet answers[] = {CONNACK_OK};
    char port[8];
    int type;
    enter_folder();
    make_devices();
    pid_t broker = scripted_broker(port, answers, 1);
    memset(lines + 5, 'x', LONG_LINE);
    PEP_FED(lines, 5 + LONG_LINE, "pub", "--key", "alice.key", "--to", "bob.pub", "-h", "127.0.0.1", "-p", port, "-t",
            "a/b", "-l");
    expect(0, NULL);
    end_broker(broker);
    expect_publish(0, "bob.key", "one");
    expect_publish(1, "bob.key", "");
    expect_publish(2, "bob.key", lines + 5);

    broker = scripted_broker(port, answers, 1);
    PEP("pub", "--key", "alice.key", "--to", "bob.pub", "--to", "carol.pub", "-h", "127.0.0.1", "-p", port, "-t", "a/b",
        "-m", "both", "-r");
    expect(0, NULL);
    end_broker(broker);
    expect_publish(0, "bob.key", "both");
    expect_publish(1, "carol.key", "both");
    (void)heard_publish(1, &type);
    CU_ASSERT_EQUAL(type, 0x31);
    leave_folder();
}

static void test_pub_clear_and_will(void)
{
    static const packet answers[] = {CONNACK_OK};
    char port[8];
    int type;
    enter_folder();
    make_devices();
    pid_t broker = scripted_broker(port, answers, 1);
    PEP("pub", "--key", "alice.key", "-h", "127.0.0.1", "-p", port, "-t", "a/b", "-n", "-r", "--will-topic", "a/will",
        "--will-payload", "gone", "--to", "bob.pub", "--exp", "60");
    expect(0, NULL);
    end_broker(broker);
    packet clear = heard_publish(0, &type);
    CU_ASSERT_EQUAL(type, 0x31);
    PEP_FED(clear.bytes, clear.n, "inspect");
    expect(0, NULL);
    CU_ASSERT_TRUE(printed("flags      signed-only, clear\n") && printed("expires"));

    const char *will = memmem(heard, sizeof(heard), "a/will", 6); /* in CONNECT; its length and itself follow */
    CU_ASSERT_PTR_NOT_NULL(will);
    size_t will_n = will != NULL ? (size_t)(unsigned char)will[6] << 8 | (unsigned char)will[7] : 0;
    PEP_FED(will + 8, will_n, "open", "--key", "bob.key", "--topic", "a/will");
    expect(0, NULL);
    CU_ASSERT_STRING_EQUAL(r.out, "gone");
    PEP_FED(will + 8, will_n, "inspect");
    CU_ASSERT_TRUE(printed("flags      will\n") && strstr(r.out, "expires") == NULL);
    leave_folder();
}

/* ---- policy ---- */

static const char policy_text[] = "enroll = \"closed\";\n"
                                  "bind = \"username\";\n"
                                  "topics = (\n"
                                  "  { filter = \"sensors/+/telemetry\"; mode = \"enforce\"; payload = \"encrypted\";\n"
                                  "    signers = [ \"%1\" ]; max_age = \"30s\"; max_size = \"64k\"; },\n"
                                  "  { filter = \"lab/#\"; mode = \"observe\"; payload = \"signed\";\n"
                                  "    signers = [ \"*\" ]; record = \"allow\"; }\n"
                                  ");\n";

static void test_policy_check(void)
{
    enter_folder();
    put_text("p.conf", policy_text);
    PEP("policy", "check", "p.conf");
    expect(0, NULL);
    CU_ASSERT_STRING_EQUAL(r.out, "p.conf: ok, 2 rules (1 enforced, 1 observed)\n");
    PEP("policy", "check", "--json", "p.conf");
    expect(0, NULL);
    CU_ASSERT_TRUE(printed("\"observed\":1"));
    put_text("bad.conf", "enroll = \"closed\";\nfrobnicate = 1;\n");
    PEP("policy", "check", "bad.conf");
    expect(1, "bad.conf:2");
    PEP("policy", "check", "none.conf");
    expect(3, "none.conf");
    PEP("policy", "check", ".");
    expect(3, "folder");
    put_text("open.conf", "enroll = \"open\";\ntopics = ( { filter = \"a\"; signers = [ \"*\" ]; } );\n");
    PEP("policy", "check", "open.conf");
    expect(1, "max_records"); /* anybody could fill the store */
    put_text("open.conf",
             "enroll = \"open\"; max_records = 10;\ntopics = ( { filter = \"a\"; signers = [ \"*\" ]; } );\n");
    PEP("policy", "check", "open.conf");
    expect(0, NULL);
    leave_folder();
}

static void test_policy_explain(void)
{
    enter_folder();
    put_text("p.conf", policy_text);
    PEP("policy", "explain", "p.conf", "sensors/7/telemetry", "--signer", "7");
    expect(0, NULL);
    CU_ASSERT_TRUE(printed("filter          sensors/+/telemetry") && printed("line            p.conf:4") &&
                   printed("signers         %1") && printed("enforce"));
    CU_ASSERT_TRUE(printed("max_age         30 s") && printed("65536 bytes") && printed("signer          7: allowed"));
    PEP("policy", "explain", "p.conf", "sensors/7/telemetry", "--signer", "8");
    CU_ASSERT_TRUE(r.code == 1 && printed("signer          8: not allowed"));
    PEP("policy", "explain", "p.conf", "sensors/7/telemetry", "--signer", "8", "--json");
    CU_ASSERT_TRUE(r.code == 1 && printed("\"allowed\":false"));
    PEP("policy", "explain", "p.conf", "elsewhere");
    expect(0, NULL);
    CU_ASSERT_TRUE(printed("not protected"));
    PEP("policy", "explain", "none.conf", "a");
    expect(3, "none.conf");
    leave_folder();
}

static void test_policy_explain_reserved(void)
{
    static const char *const reserved[] = {"$PEP",           "$PEP/keys/7",     "$share",
                                           "$share/g/lab/a", "$SYS/broker/pep", "$SYS/broker/pep/messages/refused"};
    static const char *const others[] = {"$PEPPER", "$shared/a", "$SYS/broker/pepper", "$SYS/broker", "a/$PEP"};
    enter_folder();
    put_text("p.conf", policy_text);
    for (size_t i = 0; i < sizeof(reserved) / sizeof(reserved[0]); i++) {
        PEP("policy", "explain", "p.conf", reserved[i], "--signer", "7");
        CU_ASSERT_TRUE(r.code == 1 && printed("\nreserved\n") && printed("7: not allowed"));
        PEP("policy", "explain", "p.conf", reserved[i], "--json");
        CU_ASSERT_TRUE(r.code == 0 && printed("\"state\":\"reserved\""));
    }
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        PEP("policy", "explain", "p.conf", others[i]);
        CU_ASSERT_TRUE(r.code == 0 && printed("\nnot protected\n"));
    }
    leave_folder();
}

static const unit_test tests[] = {
    {"help of every command", test_help},
    {"the manual page has every option", test_manual},
    {"wrong usage: one line, exit code 2", test_usage},
    {"keygen", test_keygen},
    {"keygen overwrites nothing", test_keygen_overwrites_nothing},
    {"keygen: whole or not at all", test_keygen_whole_or_not_at_all},
    {"bad key files", test_bad_key_files},
    {"seal, open, verify, inspect: direct", test_direct},
    {"inspect --json", test_inspect_json},
    {"seal and open: epoch", test_epoch},
    {"refused envelopes", test_refused},
    {"verify names the reason", test_verify_names},
    {"damaged envelopes", test_damaged_envelopes},
    {"hostile topic", test_hostile_topic},
    {"hostile layout", test_hostile_layout},
    {"hostile JSON", test_hostile_json},
    {"limits, and output that cannot be written", test_limits_and_lost_output},
    {"seq rises", test_seq_rises},
    {"--counter with its state lost", test_lost_counter},
    {"unreachable broker", test_unreachable},
    {"CA file without a certificate", test_bad_ca},
    {"CONNECT refused", test_connect_refused},
    {"PUBLISH refused", test_publish_refused},
    {"SUBSCRIBE refused", test_subscription_refused},
    {"dropped messages", test_dropped},
    {"sub ends early", test_sub_ends_early},
    {"sub opens, once", test_sub},
    {"sub --prefix", test_sub_prefix},
    {"sub --json", test_sub_json},
    {"sub --json: hostile payload", test_sub_json_hostile},
    {"pub", test_pub},
    {"pub: clear and will", test_pub_clear_and_will},
    {"policy check", test_policy_check},
    {"policy explain", test_policy_explain},
    {"policy explain: reserved", test_policy_explain_reserved},
};

UNIT_MAIN("cli", tests)
