#include "tests/postgres.h"
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <glob.h>
#include <grp.h>
#include <libpq-fe.h>
#include <pwd.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define START_S 120

static bool fail(postgres_server *p, const char *format, ...) __attribute__((format(printf, 2, 3)));

static bool fail(postgres_server *p, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    /* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): a line above it is initialized */
    vsnprintf(p->why, sizeof p->why, format, arguments);
    va_end(arguments);
    return false;
}

static time_t now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec;
}

static void short_pause(void)
{
    struct timespec pause = {.tv_nsec = 10000000};
    nanosleep(&pause, NULL);
}

/* The newest of what is installed. */
static bool find_bin(postgres_server *p)
{
    glob_t found;
    unsigned newest = 0;
    if (glob("/usr/lib/postgresql/*/bin/initdb", 0, NULL, &found) == 0) {
        for (size_t i = 0; i < found.gl_pathc; i++) {
            unsigned version = (unsigned)strtoul(found.gl_pathv[i] + strlen("/usr/lib/postgresql/"), NULL, 10);
            if (version > newest)
                newest = version;
        }
        globfree(&found);
    }
    if (newest == 0)
        return fail(p, "there is no PostgreSQL in /usr/lib/postgresql: scripts/setup.sh ctest installs it");
    snprintf(p->bin, sizeof p->bin, "/usr/lib/postgresql/%u/bin", newest);
    return true;
}

/* Who runs the server: PostgreSQL refuses root. NULL: ourselves. */
static const struct passwd *runner(void)
{
    if (geteuid() != 0)
        return NULL;
    const struct passwd *user = getpwnam("postgres");
    return user != NULL ? user : getpwnam("nobody");
}

static bool make_folder(postgres_server *p)
{
    const struct passwd *user = runner();
    snprintf(p->folder, sizeof p->folder, "/tmp/pep-postgres-XXXXXX"); /* short: a socket's path may have 107 bytes */
    if (geteuid() == 0 && user == NULL)
        return fail(p, "there is neither a user postgres nor nobody who could run PostgreSQL");
    if (mkdtemp(p->folder) == NULL)
        return fail(p, "cannot make %s: %s", p->folder, strerror(errno));
    if (user != NULL && chown(p->folder, user->pw_uid, user->pw_gid) != 0)
        return fail(p, "cannot give %s to %s: %s", p->folder, user->pw_name, strerror(errno));
    return true;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)st;
    (void)kind;
    (void)at;
    return remove(path);
}

static void remove_folder(postgres_server *p)
{
    nftw(p->folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* In the child. What PR_SET_PDEATHSIG sets is forgotten when the user changes, so that comes first. */
static void become_runner(const postgres_server *p, const struct passwd *user, pid_t parent)
{
    char log[256];
    snprintf(log, sizeof log, "%s/log", p->folder);
    if (user != NULL && (setgroups(0, NULL) != 0 || setgid(user->pw_gid) != 0 || setuid(user->pw_uid) != 0))
        _exit(126);
    if (prctl(PR_SET_PDEATHSIG, SIGQUIT) != 0 || getppid() != parent || chdir(p->folder) != 0)
        _exit(126);
    int in = open("/dev/null", O_RDONLY);
    int out = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (in < 0 || out < 0 || dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0)
        _exit(126);
    for (int fd = 3; fd < 1024; fd++)
        close(fd);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    for (int number = 1; number < SIGRTMIN; number++)
        signal(number, SIG_DFL);
}

static pid_t spawn(const postgres_server *p, const char *program, const char *const *arguments)
{
    char path[256];
    char *argv[32];
    size_t n = 0;
    static char locale[] = "LC_ALL=C";
    static char where[] = "PATH=/usr/bin:/bin";
    static char *const environment[] = {locale, where, NULL};
    const struct passwd *user = runner();
    snprintf(path, sizeof path, "%s/%s", p->bin, program);
    argv[n++] = path;
    for (; *arguments != NULL && n < 31; arguments++)
        argv[n++] = strdup(*arguments);
    argv[n] = NULL;
    fflush(stdout);
    pid_t parent = getpid();
    pid_t child = fork();
    if (child == 0) {
        become_runner(p, user, parent);
        execve(path, argv, environment);
        _exit(127);
    }
    while (n > 1)
        free(argv[--n]);
    return child;
}

/* The end of the log says why something did not start. */
static bool fail_with_log(postgres_server *p, const char *what)
{
    char path[256];
    char text[512];
    snprintf(path, sizeof path, "%s/log", p->folder);
    FILE *log = fopen(path, "r");
    size_t n = 0;
    if (log != NULL) {
        if (fseek(log, -(long)(sizeof text - 1), SEEK_END) != 0)
            rewind(log);
        n = fread(text, 1, sizeof text - 1, log);
        fclose(log);
    }
    text[n] = '\0';
    for (size_t i = 0; i < n; i++)
        if (text[i] == '\n')
            text[i] = ' ';
    return fail(p, "%s; its log ends with: %s", what, text);
}

static bool write_password(postgres_server *p)
{
    char path[256];
    const struct passwd *user = runner();
    snprintf(path, sizeof path, "%s/password", p->folder);
    FILE *file = fopen(path, "w");
    if (file == NULL)
        return fail(p, "cannot write %s: %s", path, strerror(errno));
    fputs(POSTGRES_PASSWORD "\n", file);
    bool ok = user == NULL || fchown(fileno(file), user->pw_uid, user->pw_gid) == 0;
    return fclose(file) == 0 && ok;
}

static bool make_cluster(postgres_server *p)
{
    int status;
    static const char *const arguments[] = {"--pgdata=data",
                                            "--username=pep",
                                            "--pwfile=password",
                                            "--auth-local=trust",
                                            "--auth-host=scram-sha-256",
                                            "--locale=C",
                                            "--encoding=UTF8",
                                            "--no-sync",
                                            NULL};
    if (!write_password(p))
        return false;
    pid_t child = spawn(p, "initdb", arguments);
    if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return fail_with_log(p, "initdb failed");
    return true;
}

static int free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool ok = fd >= 0 && bind(fd, (struct sockaddr *)&address, n) == 0 &&
              getsockname(fd, (struct sockaddr *)&address, &n) == 0;
    if (fd >= 0)
        close(fd);
    return ok ? ntohs(address.sin_port) : 0;
}

static bool wait_until_ready(postgres_server *p)
{
    char url[POSTGRES_URL_MAX];
    int status;
    time_t end = now_s() + START_S;
    postgres_socket_url(url, p, "postgres");
    while (PQping(url) != PQPING_OK) {
        if (waitpid(p->pid, &status, WNOHANG) == p->pid) {
            p->pid = 0;
            return fail_with_log(p, "PostgreSQL ended as soon as it was started");
        }
        if (now_s() > end) {
            postgres_stop(p, SIGKILL);
            return fail_with_log(p, "PostgreSQL did not become ready");
        }
        short_pause();
    }
    return true;
}

bool postgres_again(postgres_server *p)
{
    char port[16];
    const char *arguments[] = {"-D", "data",
                               "-k", p->folder,
                               "-h", "127.0.0.1",
                               "-p", port,
                               "-c", "fsync=on",
                               "-c", "shared_buffers=32MB",
                               "-c", "max_connections=32",
                               NULL};
    snprintf(port, sizeof port, "%d", p->port);
    p->pid = spawn(p, "postgres", arguments);
    if (p->pid < 0) {
        p->pid = 0;
        return fail(p, "cannot start a process: %s", strerror(errno));
    }
    if (wait_until_ready(p))
        return true;
    printf("%s\n", p->why);
    return false;
}

/* Another process may take the port before we do. */
static bool start_on_a_port(postgres_server *p)
{
    for (int attempt = 0; attempt < 5; attempt++) {
        p->port = free_port();
        if (p->port != 0 && postgres_again(p))
            return true;
    }
    return false;
}

bool postgres_start(postgres_server *p)
{
    memset(p, 0, sizeof *p);
    if (!find_bin(p) || !make_folder(p))
        return false;
    if (make_cluster(p) && start_on_a_port(p))
        return true;
    remove_folder(p);
    return false;
}

static pid_t parent_of(pid_t pid)
{
    char path[64];
    char text[512];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return 0;
    size_t n = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[n] = '\0';
    const char *rest = strrchr(text, ')'); /* a name may hold anything */
    return rest == NULL || strlen(rest) < 4 ? 0 : (pid_t)strtol(rest + 4, NULL, 10);
}

static void signal_children(pid_t parent, int signal)
{
    const struct dirent *entry;
    DIR *all = opendir("/proc");
    while (all != NULL && (entry = readdir(all)) != NULL) {
        pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);
        if (pid > 0 && parent_of(pid) == parent)
            kill(pid, signal);
    }
    if (all != NULL)
        closedir(all);
}

void postgres_stop(postgres_server *p, int signal)
{
    if (p->pid == 0)
        return;
    if (signal == SIGKILL) {   /* children would end a little later, and keep the cluster until then */
        kill(p->pid, SIGSTOP); /* so that it makes no others */
        signal_children(p->pid, SIGKILL);
    }
    kill(p->pid, signal);
    waitpid(p->pid, NULL, 0);
    p->pid = 0;
}

void postgres_freeze(postgres_server *p, bool on)
{
    kill(p->pid, on ? SIGSTOP : SIGCONT);
    signal_children(p->pid, on ? SIGSTOP : SIGCONT);
}

void postgres_end(postgres_server *p)
{
    postgres_stop(p, SIGKILL);
    remove_folder(p);
}

void postgres_url(char out[POSTGRES_URL_MAX], const postgres_server *p, const char *database)
{
    snprintf(out, POSTGRES_URL_MAX, "postgresql://pep:open%%2Fsesame%%401@127.0.0.1:%d/%s", p->port, database);
}

void postgres_socket_url(char out[POSTGRES_URL_MAX], const postgres_server *p, const char *database)
{
    snprintf(out, POSTGRES_URL_MAX, "postgresql://pep@:%d/%s?host=%s", p->port, database, p->folder);
}

static PGresult *query(postgres_server *p, const char *database, const char *sql)
{
    char url[POSTGRES_URL_MAX];
    postgres_socket_url(url, p, database);
    PGconn *c = PQconnectdb(url);
    PGresult *r = PQexec(c, sql);
    ExecStatusType status = PQresultStatus(r);
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK) {
        fail(p, "%s", PQerrorMessage(c));
        PQclear(r);
        r = NULL;
    }
    PQfinish(c);
    return r;
}

bool postgres_sql(postgres_server *p, const char *database, const char *sql)
{
    PGresult *r = query(p, database, sql);
    PQclear(r);
    return r != NULL;
}

long long postgres_number(postgres_server *p, const char *database, const char *sql)
{
    PGresult *r = query(p, database, sql);
    long long number = PQntuples(r) == 1 && PQnfields(r) == 1 ? strtoll(PQgetvalue(r, 0, 0), NULL, 10) : -1;
    PQclear(r);
    return number;
}

bool postgres_database(postgres_server *p, const char *database)
{
    char sql[256];
    snprintf(sql, sizeof sql, "CREATE DATABASE \"%s\"", database);
    return postgres_sql(p, "postgres", sql);
}
