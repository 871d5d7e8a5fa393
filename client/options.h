/*
 * The command line. A command is described once, in tables, and both parsed and explained from them, so that the
 * parser and --help cannot come to differ.
 */
#ifndef CLIENT_OPTIONS_H
#define CLIENT_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OPTION_LIST_MAX 64

/* What an option leaves in its target, by kind. The strings are argv's. */
typedef struct {
    char *at[OPTION_LIST_MAX];
    size_t n;
} option_list;

typedef struct {
    bool given;
    uint64_t value;
} option_number;

typedef enum {
    OPTION_FLAG,    /* bool */
    OPTION_TEXT,    /* const char * */
    OPTION_NUMBER,  /* option_number, within min and max */
    OPTION_LIST,    /* option_list: may be given again */
    OPTION_OPERAND, /* const char *: no dash, found by its place */
    OPTION_OPERANDS /* option_list: all that are left */
} option_kind;

/* One row; a table ends with a row whose target is NULL. */
typedef struct {
    option_kind kind;
    char letter; /* of -x, or 0 */
    bool required;
    const char *name; /* of --name; NULL for operands */
    void *target;
    const char *value; /* what --help calls the value; NULL for flags */
    const char *help;
    uint64_t min, max; /* of a number */
} option;

#define COMMAND_TABLES 4

typedef struct {
    const char *name; /* one or two words */
    const char *summary;
    const char *streams; /* how stdin and stdout are used, as in a shell; "" where they are not */
    const char *more;    /* further lines of --help, or "" */
    const option *tables[COMMAND_TABLES + 1];
    int (*run)(void);
} command;

/*
 * Parses the words behind a command's name into the targets of its tables, and checks that the required ones are there.
 * Returns 0, or 2 after a line on stderr. *help: --help stood there, and nothing else counts.
 */
int options_parse(bool *help, const command *c, int argc, char **argv);

void options_help(const command *c);

/* A decimal number without sign, space or leading zeros, from min to max. */
bool parse_number(uint64_t *out, const char *text, uint64_t min, uint64_t max);

/* Says what was wrong with the command line, and where to look; returns 2. */
int wrong_usage(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
