/*
 * mosquitto_ctrl pep: Mosquitto's own admin tool, as it is installed, with our module.
 * Promise: it does what pep itself does, options of mosquitto_ctrl included, and loses no word silently.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "broker.h"
#include "tests/unit/unit.h"

static broker b; /* its folder is where everything happens; mostly it does not run */
static char out[1 << 16], err[1 << 14];

static void read_all(const char *name, char *to, size_t cap)
{
    FILE *file = fopen(broker_path(&b, name), "re");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    to[fread(to, 1, cap - 1, file)] = '\0';
    fclose(file);
}

static void make_folders(const char *path)
{
    char name[256];
    for (const char *end = path; end != NULL; end = strchr(end + 1, '/')) {
        snprintf(name, sizeof(name), "%.*s", (int)(end - path), path);
        if (end != path)
            (void)mkdir(broker_path(&b, name), 0755);
    }
    CU_ASSERT_EQUAL(mkdir(broker_path(&b, path), 0755), 0);
}

/* What `cmake --install` makes, in the folder. */
static void install(void)
{
    broker_make(&b);
    make_folders(PEP_LIBDIR);
    make_folders(PEP_BINDIR);
    broker_copy(&b, PEP_LIBDIR "/mosquitto_ctrl_pep.so", PEP_CTRL);
    CU_ASSERT_EQUAL(symlink(PEP_TOOL, broker_path(&b, PEP_BINDIR "/pep")), 0);
}

static _Noreturn void become_ctrl(char *words)
{
    char *argv[40] = {(char[]){"mosquitto_ctrl"}};
    size_t n = 1;
    for (char *rest = words, *word; n < 39 && (word = strsep(&rest, " ")) != NULL; n++)
        argv[n] = word;
    const char *preload = getenv("PEP_PRELOAD");
    if (preload != NULL)
        setenv("LD_PRELOAD", preload, 1);
    setenv("LD_LIBRARY_PATH", broker_path(&b, PEP_LIBDIR), 1);
    setenv("XDG_CONFIG_HOME", broker_path(&b, "config"), 1);
    if (chdir(b.folder) == 0 && freopen("out", "w", stdout) != NULL && freopen("err", "w", stderr) != NULL)
        execv(PEP_MOSQUITTO_CTRL, argv);
    _exit(127);
}

/* Runs mosquitto_ctrl with these words, one space between them (two: an empty word); returns its exit code. */
__attribute__((format(printf, 1, 2))) static int ctrl(const char *format, ...)
{
    char words[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(words, sizeof(words), format, args);
    va_end(args);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0)
        become_ctrl(words);
    int status = -1;
    CU_ASSERT_EQUAL_FATAL(waitpid(child, &status, 0), child);
    read_all("out", out, sizeof(out));
    read_all("err", err, sizeof(err));
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static bool says(const char *where, const char *text)
{
    bool found = strstr(where, text) != NULL;
    if (!found)
        fprintf(stderr, "no '%s' in: %s%s", text, out, err);
    return found;
}

static bool is_there(const char *name)
{
    return access(broker_path(&b, name), F_OK) == 0;
}

static void it_is_pep(void)
{
    install();
    CU_ASSERT_EQUAL(ctrl("pep keygen --id alice"), 0);
    CU_ASSERT_TRUE(is_there("alice.key") && is_there("alice.pub"));
    CU_ASSERT_STRING_EQUAL(err, "");
    CU_ASSERT_EQUAL(ctrl("pep policy check missing.conf"), 3); /* two words, and pep's exit code */
    CU_ASSERT_EQUAL(ctrl("pep keygen --id  "), 2);             /* an empty word stays one */
    CU_ASSERT_EQUAL(ctrl("pep nonsense"), 2);
    CU_ASSERT_TRUE(says(err, "'nonsense': there is no such command"));
    CU_ASSERT_EQUAL(ctrl("pep help"), 0);
    CU_ASSERT_TRUE(says(out, "Usage: pep COMMAND"));
    CU_ASSERT_EQUAL(ctrl("pep keygen --help"), 0);
    CU_ASSERT_TRUE(says(out, "Usage: pep keygen"));
    broker_drop(&b);
}

/* The broker that the options in front name is the one that is asked. */
static void options_in_front(void)
{
    install();
    broker_write(&b, "mosquitto.conf", CONF_BASE);
    broker_write(
        &b, "policy.conf",
        "enroll = \"closed\"; topics = ( { filter = \"o/#\"; mode = \"observe\"; signers = [ \"alice\" ]; } );\n");
    CU_ASSERT_TRUE_FATAL(broker_start(&b));
    CU_ASSERT_EQUAL(ctrl("--host 127.0.0.1 -p %d -u me -P secret -i front pep audit --policy policy.conf --records "
                         "records -t o/#",
                         b.port),
                    0);
    CU_ASSERT_TRUE(says(out, "0 retained messages looked at"));
    CU_ASSERT_TRUE(broker_logs(&b, "as front (*u'me'"));
    broker_end(&b);
    CU_ASSERT_EQUAL(ctrl("-h 127.0.0.1 -p %d pep audit --policy policy.conf --records records -t o/#", b.port), 3);
    broker_drop(&b);
}

static void nothing_is_lost(void)
{
    install();
    CU_ASSERT_EQUAL(ctrl("--capath /etc/ssl/certs -h localhost pep audit -t o/#"), 2);
    CU_ASSERT_TRUE(says(err, "--capath: there is no such option"));
    CU_ASSERT_EQUAL(ctrl("-L mqtts://me:secret@localhost/x pep audit -t o/#"), 2);
    CU_ASSERT_TRUE(says(err, "-L: there is no such option"));
    CU_ASSERT_EQUAL(ctrl("-h localhost pep audit -t o/# -h elsewhere"), 2);
    CU_ASSERT_TRUE(says(err, "-h: given twice"));
    CU_ASSERT_EQUAL(ctrl("-h localhost pep policy check -- policy.conf"), 2);
    CU_ASSERT_TRUE(says(err, "where there is a --"));
    CU_ASSERT_EQUAL(ctrl("pep policy check -- missing.conf"), 3);
    CU_ASSERT_TRUE(says(err, "missing.conf"));
    broker_drop(&b);
}

/* mosquitto_ctrl's own file may hold a host and a password: neither goes to pep, and that is said. */
static void the_options_file(void)
{
    install();
    make_folders("config");
    broker_write(&b, "config/mosquitto_ctrl", "-h elsewhere\n");
    CU_ASSERT_EQUAL(ctrl("pep --version"), 0);
    CU_ASSERT_TRUE(says(err, "config/mosquitto_ctrl does not count here"));
    CU_ASSERT_TRUE(says(out, "pep 0."));
    broker_drop(&b);
}

static void no_tool(void)
{
    install();
    CU_ASSERT_EQUAL(unlink(broker_path(&b, PEP_BINDIR "/pep")), 0);
    CU_ASSERT_EQUAL(ctrl("pep --version"), 3);
    CU_ASSERT_TRUE(says(err, PEP_BINDIR "/pep: No such file or directory"));
    broker_drop(&b);
}

static const unit_test TESTS[] = {
    {"it is pep", it_is_pep},
    {"options in front", options_in_front},
    {"nothing is lost", nothing_is_lost},
    {"the options file", the_options_file},
    {"no tool", no_tool},
};
UNIT_MAIN("ctrl", TESTS)
