#include "tool.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/unit.h"

broker tool_broker;
char tool_out[1 << 16], tool_err[1 << 16];
static char work[64];

static size_t read_all(const char *path, char *to, size_t cap)
{
    size_t n = 0;
    FILE *file = fopen(path, "re");
    if (file != NULL) {
        n = fread(to, 1, cap - 1, file);
        fclose(file);
    }
    to[n] = '\0';
    return n;
}

static _Noreturn void become_shell(const char *line, const char *out_to, const char *err_to)
{
    if (freopen(out_to, "w", stdout) != NULL && freopen(err_to, "w", stderr) != NULL)
        execl("/bin/sh", "sh", "-c", line, (char *)NULL);
    _exit(127);
}

static pid_t start(const char *words, const char *out_to, const char *err_to)
{
    char line[2048] = "exec " PEP_TOOL " ";
    size_t n = strlen(line);
    for (; *words != '\0' && n < sizeof(line) - 64; words++) {
        if (*words == '%')
            n += (size_t)snprintf(line + n, sizeof(line) - n, "-h 127.0.0.1 -p %d", tool_broker.port);
        else
            line[n++] = *words;
    }
    line[n] = '\0';
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

int tool_run(const char *words)
{
    int code = wait_for(start(words, "out", "err"));
    read_all("out", tool_out, sizeof(tool_out));
    read_all("err", tool_err, sizeof(tool_err));
    return code;
}

void tool_expect(int code, const char *words, const char *text)
{
    int got = tool_run(words);
    const char *where = code == 0 ? tool_out : tool_err;
    bool right = got == code && (text == NULL || strstr(where, text) != NULL);
    if (!right)
        printf("\n    pep %s: exit code %d, not %d, or no '%s' in: %s%s", words, got, code, text, tool_out, tool_err);
    CU_ASSERT_TRUE(right);
}

pid_t tool_listen(const char *words)
{
    return start(words, "sub.out", "sub.err");
}

void tool_stop(pid_t child)
{
    kill(child, SIGTERM);
    CU_ASSERT_EQUAL(wait_for(child), 0);
}

void tool_shell(const char *line)
{
    CU_ASSERT_EQUAL(system(line), 0); // NOLINT(cert-env33-c): in a folder of our own
}

bool tool_holds(const char *path, const char *text)
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

bool tool_same(const char *a, const char *b)
{
    static char contents[2][1 << 16];
    size_t n = read_all(a, contents[0], sizeof(contents[0]));
    return n > 0 && n == read_all(b, contents[1], sizeof(contents[1])) && memcmp(contents[0], contents[1], n) == 0;
}

bool tool_exists(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0;
}

void tool_start_broker(const char *policy, const char *conf)
{
    broker_write(&tool_broker, "policy.conf", policy);
    broker_write(&tool_broker, "mosquitto.conf", conf);
    if (!broker_start(&tool_broker))
        broker_show_log(&tool_broker);
    CU_ASSERT_FATAL(tool_broker.pid > 0);
}

void tool_enter(const char *policy)
{
    const char *parent = getenv("TMPDIR");
    (void)snprintf(work, sizeof(work), "%s/pep-tool-XXXXXX", parent != NULL ? parent : "/tmp");
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(work));
    CU_ASSERT_EQUAL_FATAL(chdir(work), 0);
    CU_ASSERT_EQUAL(mkdir("a", 0700) | mkdir("b", 0700), 0);
    broker_make(&tool_broker);
    if (policy != NULL)
        tool_start_broker(policy, TOOL_CONF);
}

void tool_leave(void)
{
    char line[128];
    (void)snprintf(line, sizeof(line), "rm -rf %s", work);
    broker_drop(&tool_broker);
    CU_ASSERT_EQUAL(chdir("/"), 0);
    tool_shell(line);
}
