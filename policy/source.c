#include "policy/source.h"

#include "policy/file.h"
#include "policy/text.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_BYTES_MAX    (FILE_BYTES_MAX + 1) /* a last newline may have to be added */
#define INCLUDE_DEPTH_MAX 10
#define ENTRIES_MAX       1000000 /* in one list: what `topics` may hold */
#define DIGITS_MAX        9
#define NAME_BEGIN        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz*"
#define NESTING_MAX       8    /* a policy nests 4 deep */
#define SETTINGS_MAX      4096 /* in one group: libconfig compares each with all that stand before it */

typedef struct {
    unsigned text_line; /* from this line of the text on */
    const char *path;
    unsigned file_line;
} origin;

struct source {
    policy_error *error;
    arena *memory;
    char *folder; /* of the policy file, as given */
    char *real_folder;
    char *text;
    size_t n;
    size_t cap;
    unsigned lines;
    origin *origins;
    size_t origin_n;
    size_t origin_cap;
    unsigned nesting;
    unsigned settings[NESTING_MAX + 1]; /* in each of the brackets that are open */
    unsigned commas[NESTING_MAX + 1];
};

/* One file that is being read. It holds no NUL but the one behind its end. */
typedef struct {
    source *out;
    const char *path;
    const char *at;
    const char *kept; /* from here on it is not in the text yet */
    unsigned line;
    unsigned depth;
    bool at_line_start; /* nothing but blanks so far */
} reading;

static bool read_into(source *s, const char *path, const char *file_text, unsigned depth);

static bool fail(const reading *f, unsigned line, const char *what)
{
    return text_error(f->out->error, f->path, line, "%s", what);
}

static bool no_memory(const source *s, const char *path)
{
    return text_error(s->error, path, 0, "out of memory");
}

static bool append(source *s, const char *path, const char *text, size_t n)
{
    if (n > TEXT_BYTES_MAX - s->n)
        return text_error(s->error, path, 0, "more than 64 MiB with what it includes; make it smaller");
    if (n + 1 > s->cap - s->n) {
        size_t cap = s->cap * 2 + n + 1;
        char *grown = realloc(s->text, cap);
        if (grown == NULL)
            return no_memory(s, path);
        s->text = grown;
        s->cap = cap;
    }
    memcpy(s->text + s->n, text, n);
    s->n += n;
    s->text[s->n] = '\0';
    for (size_t i = 0; i < n; i++)
        s->lines += text[i] == '\n';
    return true;
}

/* Notes that the text goes on with this line of this file. */
static bool append_origin(source *s, const char *path, unsigned file_line)
{
    if (s->origin_n == s->origin_cap) {
        size_t cap = s->origin_cap * 2 + 8;
        origin *grown = realloc(s->origins, cap * sizeof(*grown));
        if (grown == NULL)
            return no_memory(s, path);
        s->origins = grown;
        s->origin_cap = cap;
    }
    s->origins[s->origin_n++] = (origin){s->lines + 1, path, file_line};
    return true;
}

static void skip_line(reading *f)
{
    while (*f->at != '\n' && *f->at != '\0')
        f->at++;
}

static bool skip_comment(reading *f)
{
    unsigned opened = f->line;
    for (f->at += 2; f->at[0] != '*' || f->at[1] != '/'; f->at++) {
        if (*f->at == '\0')
            return fail(f, opened, "the comment that begins here has no end; add */");
        f->line += *f->at == '\n';
    }
    f->at += 2;
    return true;
}

static bool is_nul_escape(const char *p)
{
    return p[0] == '\\' && (p[1] == 'x' || p[1] == 'X') && p[2] == '0' && p[3] == '0';
}

static bool skip_string(reading *f)
{
    unsigned opened = f->line;
    for (f->at++; *f->at != '"'; f->at++) {
        if (*f->at == '\0')
            return fail(f, opened, "the string that begins here has no end; add the closing quote");
        if (is_nul_escape(f->at))
            return fail(f, f->line, "\\x00 in a string; libconfig would drop it without a word: take it out");
        if (f->at[0] == '\\' && (f->at[1] == '"' || f->at[1] == '\\'))
            f->at++;
        f->line += *f->at == '\n';
    }
    f->at++;
    return true;
}

static bool open_bracket(reading *f)
{
    source *s = f->out;
    f->at++;
    if (s->nesting == NESTING_MAX)
        return fail(f, f->line, "brackets are nested deeper than 8; a policy nests 4 deep");
    s->nesting++;
    s->settings[s->nesting] = 0;
    s->commas[s->nesting] = 0;
    return true;
}

static void close_bracket(reading *f)
{
    f->at++;
    if (f->out->nesting > 0)
        f->out->nesting--;
}

static bool count_setting(reading *f)
{
    source *s = f->out;
    f->at++;
    if (++s->settings[s->nesting] > SETTINGS_MAX)
        return fail(f, f->line, "more than 4096 settings in one group; use fewer, larger groups");
    return true;
}

static bool count_entry(reading *f)
{
    source *s = f->out;
    f->at++;
    if (++s->commas[s->nesting] >= ENTRIES_MAX)
        return fail(f, f->line, "more than 1000000 entries in one list; let wildcards or groups stand for more");
    return true;
}

/* A number beyond an int comes out of libconfig 1.5 as another one; no value of ours needs more digits than these. */
static bool skip_number(reading *f)
{
    size_t digits = strspn(f->at, "0123456789");
    f->at += digits;
    return digits <= DIGITS_MAX || fail(f, f->line, "a number of more than 9 digits; no key takes one that large");
}

static void skip_name(reading *f)
{
    f->at += strspn(f->at, NAME_BEGIN "0123456789_-");
}

/* Takes the name out of `@include "name"`, behind which `at` is left; NULL with the error filled. */
static char *take_include_name(reading *f)
{
    static const char directive[] = "@include";
    const size_t n = sizeof(directive) - 1;
    const char *p = f->at + n;
    if (f->at_line_start && strncmp(f->at, directive, n) == 0 && (*p == ' ' || *p == '\t')) {
        p += strspn(p, " \t");
        size_t name_n = *p == '"' ? strcspn(p + 1, "\"\\\n") : 0;
        if (name_n > 0 && p[1 + name_n] == '"') {
            char *name = arena_text(f->out->memory, p + 1, name_n);
            if (name == NULL)
                no_memory(f->out, f->path);
            f->at = p + 1 + name_n + 1;
            return name;
        }
    }
    fail(f, f->line, "an @ that is no include; write @include \"file\" at the beginning of a line");
    return NULL;
}

static bool has_parent_step(const char *name)
{
    for (const char *p = name; p != NULL; p = strchr(p, '/')) {
        p += *p == '/';
        if (strncmp(p, "..", 2) == 0 && (p[2] == '/' || p[2] == '\0'))
            return true;
    }
    return false;
}

static bool include_fails(const reading *f, const char *name, const char *what)
{
    return text_error(f->out->error, f->path, f->line, "cannot include \"%.100s\": %s", name, what);
}

/* The include's own path, symbolic links resolved; the caller frees it. NULL with the error filled. */
static char *resolve_include(const reading *f, const char *name, const char *path)
{
    const char *root = f->out->real_folder;
    size_t n = strlen(root);
    char *real = has_parent_step(name) ? NULL : realpath(path, NULL);
    if (real == NULL && !has_parent_step(name)) {
        include_fails(f, name, "there is no such file; put it into the policy file's folder");
    } else if (real == NULL || strncmp(real, root, n) != 0 || (real[n] != '/' && n > 1)) {
        include_fails(f, name, "it lies outside of the policy file's folder; only files within it can be included");
        free(real);
        real = NULL;
    }
    return real;
}

static bool read_include(reading *f, const char *name, const char *path)
{
    if (f->depth == INCLUDE_DEPTH_MAX)
        return include_fails(f, name, "includes nest deeper than 10; does a file include itself?");
    char *real = resolve_include(f, name, path);
    if (real == NULL)
        return false;
    file_fault fault;
    char *text = file_read(&fault, real);
    free(real);
    if (text == NULL)
        return include_fails(f, name, fault.text);
    bool ok = read_into(f->out, path, text, f->depth + 1);
    free(text);
    return ok;
}

/* A name is looked up from the policy file's folder, also in a file that is included itself. */
static const char *include_path(const source *s, const char *name)
{
    if (name[0] == '/')
        return name;
    size_t size = strlen(s->folder) + strlen(name) + 1;
    char *path = arena_take(s->memory, size);
    if (path != NULL)
        snprintf(path, size, "%s%s", s->folder, name);
    return path;
}

/* The directive gives way to a newline and the file, which ends with one: lines of one file never share a line. */
static bool include(reading *f)
{
    source *s = f->out;
    if (!append(s, f->path, f->kept, (size_t)(f->at - f->kept)) || !append(s, f->path, "\n", 1))
        return false;
    const char *name = take_include_name(f);
    if (name == NULL)
        return false;
    const char *path = include_path(s, name);
    if (path == NULL)
        return no_memory(s, f->path);
    f->kept = f->at;
    return read_include(f, name, path) && append_origin(s, f->path, f->line);
}

/* One step through the text, as libconfig's own scanner would go. */
static bool step(reading *f)
{
    char c = *f->at;
    if (c == '\n')
        f->line++;
    bool blank = c == ' ' || c == '\t';
    bool comment = c == '#' || (c == '/' && f->at[1] == '/');
    bool ok = true;
    if (comment)
        skip_line(f);
    else if (c == '/' && f->at[1] == '*')
        ok = skip_comment(f);
    else if (c == '"')
        ok = skip_string(f);
    else if (c == '@')
        ok = include(f);
    else if (c == '(' || c == '[' || c == '{')
        ok = open_bracket(f);
    else if (c == ')' || c == ']' || c == '}')
        close_bracket(f);
    else if (c == '=' || c == ':')
        ok = count_setting(f);
    else if (c == ',')
        ok = count_entry(f);
    else if (c >= '0' && c <= '9')
        ok = skip_number(f);
    else if (strchr(NAME_BEGIN, c) != NULL)
        skip_name(f);
    else
        f->at++;
    f->at_line_start = c == '\n' || (blank && f->at_line_start);
    return ok;
}

static bool read_into(source *s, const char *path, const char *file_text, unsigned depth)
{
    reading f = {.out = s, .path = path, .at = file_text, .kept = file_text, .line = 1, .depth = depth};
    f.at_line_start = true;
    if (!append_origin(s, path, 1))
        return false;
    while (*f.at != '\0')
        if (!step(&f))
            return false;
    size_t rest = (size_t)(f.at - f.kept);
    bool ended = f.at > file_text && f.at[-1] == '\n';
    return append(s, path, f.kept, rest) && (ended || append(s, path, "\n", 1));
}

/* The folder with its slash, "" for the one we are in: what stands before the name of an include. */
static bool find_folder(source *s, const char *path)
{
    const char *slash = strrchr(path, '/');
    s->folder = arena_text(s->memory, path, slash == NULL ? 0 : (size_t)(slash - path) + 1);
    if (s->folder == NULL)
        return no_memory(s, path);
    s->real_folder = realpath(s->folder[0] == '\0' ? "." : s->folder, NULL);
    return s->real_folder != NULL || text_error(s->error, path, 0, "cannot find its folder; check the path");
}

static bool read_policy(source *s, const char *path)
{
    file_fault fault;
    char *text = file_read(&fault, path);
    if (text == NULL)
        return text_error(s->error, path, 0, "%s", fault.text);
    bool ok = find_folder(s, path) && read_into(s, path, text, 0);
    free(text);
    return ok;
}

source *source_read(policy_error *error, arena *memory, const char *path)
{
    source *s = calloc(1, sizeof(*s));
    const char *kept_path = arena_text(memory, path, strlen(path));
    if (s == NULL || kept_path == NULL) {
        text_error(error, path, 0, "out of memory");
        free(s);
        return NULL;
    }
    s->error = error;
    s->memory = memory;
    if (!read_policy(s, kept_path)) {
        source_free(s);
        return NULL;
    }
    return s;
}

void source_free(source *s)
{
    if (s == NULL)
        return;
    free(s->real_folder);
    free(s->text);
    free(s->origins);
    free(s);
}

const char *source_text(const source *s)
{
    return s->text;
}

const char *source_origin(const source *s, unsigned *file_line, unsigned text_line)
{
    if (text_line > s->lines) /* where a file breaks off, libconfig names the line behind its last one */
        text_line = s->lines;
    if (text_line == 0) /* it names none for what is missing at the top level */
        text_line = 1;
    size_t low = 0;
    size_t high = s->origin_n;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (s->origins[middle].text_line <= text_line)
            low = middle;
        else
            high = middle;
    }
    *file_line = s->origins[low].file_line + (text_line - s->origins[low].text_line);
    return s->origins[low].path;
}
