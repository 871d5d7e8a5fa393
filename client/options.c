#include "client/options.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/print.h"

static const command *current; /* whose words are being looked at: named in every complaint */

int wrong_usage(const char *format, ...)
{
    char text[1024];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    return fail(WRONG_USAGE, "%s: %s; see 'pep %s --help'", current->name, text, current->name);
}

bool parse_number(uint64_t *out, const char *text, uint64_t min, uint64_t max)
{
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || text[digits] != '\0' || (digits > 1 && text[0] == '0'))
        return false;
    errno = 0;
    unsigned long long value = strtoull(text, NULL, 10);
    *out = value;
    return errno == 0 && value >= min && value <= max;
}

/* Row number `i` of all of a command's tables, or NULL behind the last one. */
static const option *row(const command *c, size_t i)
{
    for (const option *const *table = c->tables; *table != NULL; table++)
        for (const option *o = *table; o->target != NULL; o++)
            if (i-- == 0)
                return o;
    return NULL;
}

static const option *find_letter(const command *c, char letter)
{
    const option *o;
    for (size_t i = 0; (o = row(c, i)) != NULL; i++)
        if (letter != '\0' && o->letter == letter)
            return o;
    return NULL;
}

static const option *find_name(const command *c, const char *name, size_t n)
{
    const option *o;
    for (size_t i = 0; (o = row(c, i)) != NULL; i++)
        if (o->name != NULL && strlen(o->name) == n && memcmp(o->name, name, n) == 0)
            return o;
    return NULL;
}

/* The first operand that has no value yet. */
static const option *find_operand(const command *c)
{
    const option *o;
    for (size_t i = 0; (o = row(c, i)) != NULL; i++)
        if (o->kind == OPTION_OPERANDS || (o->kind == OPTION_OPERAND && *(const char **)o->target == NULL))
            return o;
    return NULL;
}

static bool is_given(const option *o)
{
    switch (o->kind) {
    case OPTION_FLAG:
        return *(bool *)o->target;
    case OPTION_NUMBER:
        return ((option_number *)o->target)->given;
    case OPTION_LIST:
    case OPTION_OPERANDS:
        return ((option_list *)o->target)->n > 0;
    case OPTION_TEXT:
    case OPTION_OPERAND:
        break;
    }
    return *(const char **)o->target != NULL;
}

static int store_number(const option *o, const char *label, const char *value)
{
    option_number *number = o->target;
    number->given = parse_number(&number->value, value, o->min, o->max);
    if (!number->given)
        return wrong_usage("%s: '%.40s' is not a whole number from %llu to %llu", label, value,
                           (unsigned long long)o->min, (unsigned long long)o->max);
    return DONE;
}

static int store_item(const option *o, const char *label, char *value)
{
    option_list *list = o->target;
    if (list->n == OPTION_LIST_MAX)
        return wrong_usage("%s: given more than %d times", label, OPTION_LIST_MAX);
    list->at[list->n++] = value;
    return DONE;
}

static int store(const option *o, const char *label, char *value)
{
    if (o->kind == OPTION_LIST || o->kind == OPTION_OPERANDS)
        return store_item(o, label, value);
    if (is_given(o))
        return wrong_usage("%s: given twice", label);
    if (o->kind == OPTION_NUMBER)
        return store_number(o, label, value);
    if (o->kind == OPTION_FLAG)
        *(bool *)o->target = true;
    else
        *(const char **)o->target = value;
    return DONE;
}

/* `word` is an option; its value stands behind '=' or in the next word. */
static int take_option(const command *c, char **word, char **end, size_t *used)
{
    bool is_long = word[0][1] == '-';
    char *name = word[0] + (is_long ? 2 : 1);
    char *equals = is_long ? strchr(name, '=') : NULL;
    size_t n = equals != NULL ? (size_t)(equals - name) : strlen(name);
    int label_n = (int)(name - word[0] + (ptrdiff_t)n);
    char label[64];
    (void)snprintf(label, sizeof(label), "%.*s", label_n, word[0]);

    const option *o = is_long ? find_name(c, name, n) : n == 1 ? find_letter(c, name[0]) : NULL;
    if (o == NULL)
        return wrong_usage("%s: there is no such option", label);
    *used = 1;
    if (o->kind == OPTION_FLAG)
        return equals == NULL ? store(o, label, NULL) : wrong_usage("%s: takes no value", label);
    if (equals != NULL)
        return store(o, label, equals + 1);
    if (word + 1 == end)
        return wrong_usage("%s: needs a value, %s", label, o->value);
    *used = 2;
    return store(o, label, word[1]);
}

static bool is_operand(const option *o)
{
    return o->kind == OPTION_OPERAND || o->kind == OPTION_OPERANDS;
}

static int take_operand(const command *c, char *word)
{
    const option *o = find_operand(c);
    if (o == NULL)
        return wrong_usage("'%.60s': one word too many", word);
    return store(o, o->value, word);
}

static int check_required(const command *c)
{
    const option *o;
    for (size_t i = 0; (o = row(c, i)) != NULL; i++) {
        if (!o->required || is_given(o))
            continue;
        if (is_operand(o))
            return wrong_usage("%s is missing", o->value);
        return wrong_usage("--%s %s is missing", o->name, o->value);
    }
    return DONE;
}

int options_parse(bool *help, const command *c, int argc, char **argv)
{
    current = c;
    *help = false;
    bool only_operands = false;
    char **end = argv + argc;
    for (char **word = argv; word < end;) {
        size_t used = 1;
        int code = DONE;
        if (only_operands || word[0][0] != '-' || word[0][1] == '\0')
            code = take_operand(c, word[0]);
        else if (strcmp(word[0], "--") == 0)
            only_operands = true;
        else if (strcmp(word[0], "--help") == 0)
            return (*help = true, DONE);
        else
            code = take_option(c, word, end, &used);
        if (code != DONE)
            return code;
        word += used;
    }
    return check_required(c);
}

static void print_required(const command *c)
{
    const option *o;
    bool others = false;
    for (size_t i = 0; (o = row(c, i)) != NULL; i++) {
        if (!o->required)
            others = others || !is_operand(o);
        if (is_operand(o))
            printf(o->required ? " %s" : " [%s]", o->value);
        else if (o->required)
            printf(" --%s %s", o->name, o->value);
    }
    if (others)
        printf(" [OPTION]...");
}

/* A command's own option hides a long name of a table behind it; the letter is left. */
static void print_row(const command *c, const option *o)
{
    char left[64] = "";
    if (o->name != NULL && find_name(c, o->name, strlen(o->name)) != o)
        (void)snprintf(left, sizeof(left), "-%c", o->letter);
    else if (o->letter != '\0')
        (void)snprintf(left, sizeof(left), "-%c, --%s", o->letter, o->name);
    else if (o->name != NULL)
        (void)snprintf(left, sizeof(left), "    --%s", o->name);
    size_t n = strlen(left);
    if (o->value != NULL)
        (void)snprintf(left + n, sizeof(left) - n, "%s%s", n == 0 ? "" : " ", o->value);
    printf("  %-28s %s%s\n", left, o->help, o->kind == OPTION_LIST ? " (may be given again)" : "");
}

void options_help(const command *c)
{
    printf("Usage: pep %s", c->name);
    print_required(c);
    printf("%s%s\n\n%s.\n%s\n", c->streams[0] != '\0' ? " " : "", c->streams, c->summary, c->more);
    const option *o;
    for (size_t i = 0; (o = row(c, i)) != NULL; i++)
        print_row(c, o);
    printf("  %-28s %s\n", "    --help", "say this");
}
