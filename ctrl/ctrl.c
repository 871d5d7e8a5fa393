/*
 * A module of mosquitto_ctrl, Mosquitto's own admin tool: `mosquitto_ctrl [OPTION]... pep COMMAND ...` becomes
 * `pep COMMAND ... [OPTION]...`, in the same process.
 *
 * What mosquitto_ctrl made of the options in front it hands over in a struct of a header that is not installed, has no
 * version, and differs between 2.0.11, 2.0.21 and 2.1.2. So it is never looked at: the words themselves are taken from
 * the command line. pep's connection options are named as mosquitto_ctrl's are, and of one that it does not have
 * (--capath, --unix, -o) it says so: none is silently lost, such as one that asks for TLS.
 */
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OUT_OF_REACH 3 /* pep's exit code */
#define WRONG_USAGE  2

#define WORDS_MAX      256
#define LINE_BYTES_MAX (128 * 1024)

__attribute__((visibility("default"))) int ctrl_main(int argc, char *argv[], void *ctrl);

static char line[LINE_BYTES_MAX]; /* the process's own command line */
static char *words[WORDS_MAX];    /* views into it */

/* mosquitto_ctrl has no way to end with a module's exit code, so it does not get to see one. */
__attribute__((format(printf, 2, 3))) static _Noreturn void give_up(int code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fputs("mosquitto_ctrl pep: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(code);
}

/* Returns how many bytes there are, in words that end with NUL each. */
static size_t read_line(void)
{
    FILE *file = fopen("/proc/self/cmdline", "re");
    if (file == NULL)
        give_up(OUT_OF_REACH, "/proc/self/cmdline: %s; run pep itself", strerror(errno));
    size_t n = fread(line, 1, sizeof(line), file);
    fclose(file);
    if (n == 0 || n == sizeof(line) || line[n - 1] != '\0')
        give_up(WRONG_USAGE, "the command line is too long; run pep itself");
    return n;
}

/* Returns how many words there are. */
static size_t split_line(size_t n)
{
    size_t count = 0;
    for (char *word = line; word < line + n; word += strlen(word) + 1) {
        if (count == WORDS_MAX)
            give_up(WRONG_USAGE, "more than %d words; run pep itself", WORDS_MAX);
        words[count++] = word;
    }
    return count;
}

/* How many of them stood in front of the module's name, the program's own not counted. */
static size_t count_front(size_t count, char *const *behind, size_t behind_n)
{
    bool expected = count >= behind_n + 2 && strcmp(words[count - behind_n - 1], "pep") == 0;
    for (size_t i = 0; expected && i < behind_n; i++)
        expected = strcmp(words[count - behind_n + i], behind[i]) == 0;
    if (!expected)
        give_up(WRONG_USAGE, "the command line is not as expected; run pep itself");
    return count - behind_n - 2;
}

/* Its options file may name a host, and a password, which must not go onto a command line: pep does not get it. */
static void warn_of_options_file(void)
{
    const char *folder = getenv("XDG_CONFIG_HOME");
    const char *home = getenv("HOME");
    char path[PATH_MAX] = "";
    if (folder != NULL)
        (void)snprintf(path, sizeof(path), "%s/mosquitto_ctrl", folder);
    else if (home != NULL)
        (void)snprintf(path, sizeof(path), "%s/.config/mosquitto_ctrl", home);
    if (path[0] != '\0' && access(path, R_OK) == 0)
        fprintf(stderr, "mosquitto_ctrl pep: what stands in %s does not count here\n", path);
}

/* The pep that was installed with this module, wherever that is. */
static void find_tool(char tool[PATH_MAX])
{
    Dl_info self;
    char module[PATH_MAX], relative[PATH_MAX + sizeof(PEP_TOOL)];
    if (dladdr(line, &self) == 0 || self.dli_fname == NULL || realpath(self.dli_fname, module) == NULL)
        give_up(OUT_OF_REACH, "cannot tell where this module lies; run pep itself");
    *strrchr(module, '/') = '\0';
    (void)snprintf(relative, sizeof(relative), "%s/" PEP_TOOL, module);
    if (realpath(relative, tool) == NULL)
        give_up(OUT_OF_REACH, "%s: %s; it is installed together with this module", relative, strerror(errno));
}

/* The options in front go behind the command's one or two words, and so, not to take them apart, behind all. */
static _Noreturn void become_tool(char *const *behind, size_t behind_n, size_t front_n)
{
    char tool[PATH_MAX], help[] = "--help";
    char *argv[WORDS_MAX + 1] = {tool}; /* in place of two of those words; the rest stays NULL */
    find_tool(tool);
    memcpy(argv + 1, behind, behind_n * sizeof(*argv));
    memcpy(argv + 1 + behind_n, words + 1, front_n * sizeof(*argv));
    if (behind_n == 1 && strcmp(argv[1], "help") == 0) /* as mosquitto_ctrl's modules are asked for it */
        argv[1] = help;
    execv(tool, argv);
    give_up(OUT_OF_REACH, "%s: %s", tool, strerror(errno));
}

int ctrl_main(int argc, char *argv[], void *ctrl)
{
    (void)ctrl;
    size_t behind_n = argc > 0 ? (size_t)argc : 0;
    size_t front_n = count_front(split_line(read_line()), argv, behind_n);
    for (size_t i = 0; front_n > 0 && i < behind_n; i++)
        if (strcmp(argv[i], "--") == 0)
            give_up(WRONG_USAGE, "where there is a --, the options stand behind pep's COMMAND, and before the --");
    warn_of_options_file();
    become_tool(argv, behind_n, front_n);
}
