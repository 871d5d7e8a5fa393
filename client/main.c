/* pep: keys, envelopes and messages from the command line. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "client/commands.h"
#include "client/print.h"

static const command *const commands[] = {
    &keygen_command,
    &seal_command,
    &open_command,
    &verify_command,
    &inspect_command,
    &pub_command,
    &sub_command,
    &audit_command,
    &backup_command,
    &restore_command,
    &enroll_command,
    &lookup_command,
    &rotate_command,
    &revoke_command,
    &token_command,
    &ledger_query_command,
    &ledger_sum_command,
    &ledger_export_command,
    &ledger_plot_command,
    &ledger_forget_command,
    &ledger_erasures_command,
    &authority_init_command,
    &authority_issue_command,
    &policy_check_command,
    &policy_explain_command,
    &privacy_check_command,
};

#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

static void print_commands(const char *prefix)
{
    size_t n = strlen(prefix);
    for (size_t i = 0; i < COMMANDS; i++)
        if (strncmp(commands[i]->name, prefix, n) == 0)
            printf("  %-16s %s\n", commands[i]->name, commands[i]->summary);
}

static int help(void)
{
    printf("Usage: pep COMMAND [OPTION]...\n       pep COMMAND --help\n       pep --version\n\n"
           "End-to-end payload encryption for MQTT: seals, opens and checks messages.\n\n");
    print_commands("");
    printf("\nExit codes: 0 success, 1 refused or not valid, 2 wrong usage, 3 cannot reach or read something.\n");
    return finish_output();
}

/* The number of words that name the command `c` at the head of argv; 0 where they name another. */
static int words_of(const command *c, int argc, char **argv)
{
    const char *space = strchr(c->name, ' ');
    size_t n = space != NULL ? (size_t)(space - c->name) : strlen(c->name);
    if (argc < 1 || strlen(argv[0]) != n || memcmp(argv[0], c->name, n) != 0)
        return 0;
    if (space == NULL)
        return 1;
    return argc >= 2 && strcmp(argv[1], space + 1) == 0 ? 2 : 0;
}

static int run(const command *c, int argc, char **argv)
{
    bool wants_help;
    int code = options_parse(&wants_help, c, argc, argv);
    if (code != DONE)
        return code;
    if (!wants_help)
        return c->run();
    options_help(c);
    return finish_output();
}

/* `pep policy` and the like: a first word without its second. */
static bool is_half_a_command(const char *word)
{
    size_t n = strlen(word);
    for (size_t i = 0; i < COMMANDS; i++)
        if (strncmp(commands[i]->name, word, n) == 0 && commands[i]->name[n] == ' ')
            return true;
    return false;
}

static int half_a_command(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--help") == 0) {
        printf("Usage: pep %s COMMAND [OPTION]...\n\n", argv[0]);
        print_commands(argv[0]);
        return finish_output();
    }
    return fail(WRONG_USAGE, "%s: needs one of its commands; see 'pep %s --help'", argv[0], argv[0]);
}

static int dispatch(int argc, char **argv)
{
    if (argc < 1)
        return fail(WRONG_USAGE, "a command is needed; see 'pep --help'");
    if (strcmp(argv[0], "--help") == 0)
        return help();
    if (strcmp(argv[0], "--version") == 0)
        return printf("pep %s\n", pep_version()), finish_output();
    for (size_t i = 0; i < COMMANDS; i++) {
        int words = words_of(commands[i], argc, argv);
        if (words > 0)
            return run(commands[i], argc - words, argv + words);
    }
    if (is_half_a_command(argv[0]))
        return half_a_command(argc, argv);
    return fail(WRONG_USAGE, "'%.60s': there is no such command; see 'pep --help'", argv[0]);
}

int main(int argc, char **argv)
{
    /* a reader that went away is a failed write, with its line and its exit code */
    (void)signal(SIGPIPE, SIG_IGN);
    if (pep_init() != PEP_OK)
        return fail(OUT_OF_REACH, "the cryptographic library does not start");
    return dispatch(argc - 1, argv + 1);
}
