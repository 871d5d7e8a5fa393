/* Written against Mosquitto's src/conf.c and src/conf_includedir.c, 2.0.11 to 2.1.2. */
#include "client/mosquitto_conf.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define READ_STEP ((size_t)16 * 1024)
#define BLANKS    " \t\v\f\r"

/* One file on its way. A bridge or plugin that it begins ends with it. */
typedef struct {
    mosquitto_conf *out;
    conf_error *error;
    const char *path;
    unsigned line;
    bool included;
    size_t plugin, bridge;
} reading;

typedef struct {
    char **at;
    size_t n, cap;
} names;

static bool read_conf(mosquitto_conf *out, conf_error *error, const char *path, bool included);

/* `line` 0: the file as a whole. */
__attribute__((format(printf, 4, 5))) static bool fail(conf_error *error, const char *path, unsigned line,
                                                       const char *format, ...)
{
    char where[24] = "";
    char what[200];
    va_list args;
    va_start(args, format);
    /* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): a line above it is initialized */
    (void)vsnprintf(what, sizeof(what), format, args);
    va_end(args);
    if (line > 0)
        (void)snprintf(where, sizeof(where), ":%u", line);
    (void)snprintf(error->text, sizeof(error->text), "%.250s%s: %s", path, where, what);
    return false;
}

/* The array, with room for one more of `size` bytes; NULL: out of memory, and it is as it was. */
static void *with_room(void *array, size_t *cap, size_t n, size_t size)
{
    if (n < *cap)
        return array;
    size_t wanted = *cap > 0 ? 2 * *cap : 16;
    void *grown = realloc(array, wanted * size);
    *cap = grown != NULL ? wanted : *cap;
    return grown;
}

/* Takes a string over, NULL too; NULL: out of memory. */
static char *keep(mosquitto_conf *c, char *text)
{
    char **kept = text != NULL ? with_room(c->kept, &c->kept_cap, c->kept_n, sizeof(*kept)) : NULL;
    if (kept == NULL) {
        free(text);
        return NULL;
    }
    c->kept = kept;
    return c->kept[c->kept_n++] = text;
}

/* ---- files ---- */

/* A FIFO would hold us up for ever: nothing is read before it is known to be a file. */
static int open_file(conf_error *error, const char *path)
{
    struct stat st = {0};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 || fstat(fd, &st) != 0)
        fail(error, path, 0, "cannot be read: %s", strerror(errno));
    else if (!S_ISREG(st.st_mode))
        fail(error, path, 0, "is %s", S_ISDIR(st.st_mode) ? "a folder" : "no regular file");
    else
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}

/* All of it and a NUL, in memory that is the caller's in any case. */
static bool read_all(conf_error *error, char **text, size_t *n, const char *path, int fd, size_t limit)
{
    for (size_t cap = 0;;) {
        if (cap - *n < READ_STEP) {
            cap = 2 * cap + READ_STEP;
            char *grown = realloc(*text, cap);
            if (grown == NULL)
                return fail(error, path, 0, "out of memory");
            *text = grown;
        }
        ssize_t got = read(fd, *text + *n, cap - *n - 1);
        if (got < 0 && errno != EINTR)
            return fail(error, path, 0, "cannot be read: %s", strerror(errno));
        *n += got > 0 ? (size_t)got : 0;
        (*text)[*n] = '\0';
        if (*n > limit)
            return fail(error, path, 0, "is too large: %zu bytes are taken, with what it includes", CONF_BYTES_MAX);
        if (got == 0)
            return true;
    }
}

/* Mosquitto would take a line for what stands before the NUL. */
static bool is_text(conf_error *error, const char *path, const char *text, size_t n)
{
    size_t clean = strlen(text);
    unsigned line = 1;
    for (size_t i = 0; i < clean; i++)
        line += text[i] == '\n';
    return clean == n || fail(error, path, line, "holds a NUL byte: it is no text");
}

/* The configuration keeps it. */
static char *read_text(mosquitto_conf *c, conf_error *error, const char *path)
{
    int fd = open_file(error, path);
    if (fd < 0)
        return NULL;
    char *text = NULL;
    size_t n = 0;
    bool ok = read_all(error, &text, &n, path, fd, CONF_BYTES_MAX - c->bytes);
    ok = ok && text != NULL && is_text(error, path, text, n);
    close(fd);
    c->bytes += ok ? n : 0;
    if (keep(c, text) == NULL)
        return fail(error, path, 0, "out of memory"), NULL;
    return ok ? text : NULL;
}

/* ---- include_dir ---- */

/* conf_includedir.c: letters of both cases side by side, upper case first. */
static int by_name(const void *a, const void *b)
{
    const unsigned char *s = *(const unsigned char *const *)a;
    const unsigned char *t = *(const unsigned char *const *)b;
    for (; *s != 0 && *t != 0; s++, t++) {
        if (toupper(*s) != toupper(*t))
            return toupper(*s) - toupper(*t);
        if (*s != *t)
            return *s - *t;
    }
    return *s - *t;
}

/* ".conf" alone is no such name. */
static bool is_conf(const char *name)
{
    size_t n = strlen(name);
    return n > 5 && strcmp(name + n - 5, ".conf") == 0;
}

/* The paths of what is to be read in the folder. What was found is the caller's in any case. */
static bool list_folder(names *out, const reading *r, DIR *folder, const char *path)
{
    for (const struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        if (!is_conf(entry->d_name))
            continue;
        if (out->n == CONF_FILES_MAX)
            return fail(r->error, r->path, r->line, "more than %d files in the folder", CONF_FILES_MAX);
        char **at = with_room(out->at, &out->cap, out->n, sizeof(*at));
        if (at == NULL)
            return fail(r->error, r->path, r->line, "out of memory");
        out->at = at;
        if (asprintf(&at[out->n], "%s/%s", path, entry->d_name) < 0)
            return fail(r->error, r->path, r->line, "out of memory");
        out->n++;
    }
    if (out->n > 0)
        qsort(out->at, out->n, sizeof(*out->at), by_name);
    return true;
}

static bool include(reading *r, const char *path)
{
    names found = {0};
    DIR *folder = opendir(path);
    if (folder == NULL)
        return fail(r->error, r->path, r->line, "include_dir %.100s: %s", path, strerror(errno));
    bool ok = list_folder(&found, r, folder, path);
    closedir(folder);
    for (size_t i = 0; i < found.n; i++) {
        ok = ok && read_conf(r->out, r->error, found.at[i], true);
        free(found.at[i]);
    }
    free(found.at);
    return ok;
}

/* ---- lines ---- */

bool conf_word_is(const char *text, const char *word)
{
    size_t n = strcspn(text, " ");
    return strlen(word) == n && memcmp(text, word, n) == 0;
}

const char *conf_second_word(const char *text)
{
    text += strcspn(text, " ");
    return text + strspn(text, BLANKS);
}

const char *conf_plugin_path(const conf_setting *s)
{
    static const char *const loads[] = {"plugin", "global_plugin", "auth_plugin"};
    for (size_t i = 0; i < sizeof(loads) / sizeof(loads[0]); i++)
        if (strcmp(s->name, loads[i]) == 0)
            return s->value;
    return strcmp(s->name, "plugin_load") == 0 ? conf_second_word(s->value) : NULL; /* since 2.1: NAME PATH */
}

/* `plugin_use NAME` (since 2.1) goes back to a plugin_load; what else loads one begins here. */
static size_t plugin_of(const mosquitto_conf *c, const conf_setting *s, size_t before)
{
    if (conf_plugin_path(s) != NULL)
        return c->n;
    if (strcmp(s->name, "plugin_use") != 0)
        return before;
    for (size_t i = c->n; i-- > 0;)
        if (strcmp(c->at[i].name, "plugin_load") == 0 && conf_word_is(c->at[i].value, s->value))
            return i;
    return before;
}

static bool add(reading *r, const char *name, const char *value)
{
    mosquitto_conf *c = r->out;
    if (c->n == CONF_SETTINGS_MAX)
        return fail(r->error, r->path, r->line, "more than %d settings", CONF_SETTINGS_MAX);
    conf_setting *at = with_room(c->at, &c->cap, c->n, sizeof(*at));
    if (at == NULL)
        return fail(r->error, r->path, r->line, "out of memory");
    c->at = at;
    conf_setting s = {.file = r->path, .line = r->line, .name = name, .value = value};
    r->plugin = plugin_of(c, &s, r->plugin);
    r->bridge = strcmp(name, "connection") == 0 ? c->n : r->bridge;
    s.plugin = r->plugin;
    s.bridge = r->bridge;
    c->at[c->n++] = s;
    return true;
}

/* Only spaces end a name, and only # as the very first character makes a comment. */
static bool take_line(reading *r, char *line)
{
    if (line[0] == '#' || line[0] == '\r')
        return true;
    for (size_t n = strlen(line); n > 0 && strchr(BLANKS, line[n - 1]) != NULL;)
        line[--n] = '\0';
    char *name = line + strspn(line, " ");
    if (*name == '\0')
        return true;
    char *value = name + strcspn(name, " ");
    if (*value != '\0')
        *value++ = '\0';
    value += strspn(value, BLANKS);
    if (!add(r, name, value))
        return false;
    if (strcmp(name, "include_dir") != 0 || r->included) /* 2.0 passes over one in an included file; 2.1 ends there */
        return true;
    return *value != '\0' ? include(r, value) : fail(r->error, r->path, r->line, "include_dir names no folder");
}

static bool read_conf(mosquitto_conf *out, conf_error *error, const char *path, bool included)
{
    const char *kept = keep(out, strdup(path));
    if (kept == NULL)
        return fail(error, path, 0, "out of memory");
    if (out->files++ == CONF_FILES_MAX)
        return fail(error, path, 0, "more than %d files", CONF_FILES_MAX);
    reading r = {.out = out, .error = error, .path = kept, .included = included};
    r.plugin = r.bridge = CONF_NONE;
    for (char *line = read_text(out, error, path), *next; line != NULL; line = next) {
        next = strchr(line, '\n');
        if (next != NULL)
            *next++ = '\0';
        r.line++;
        if (!take_line(&r, line))
            return false;
    }
    return r.line > 0;
}

bool conf_read(mosquitto_conf *out, conf_error *error, const char *path)
{
    *out = (mosquitto_conf){0};
    return read_conf(out, error, path, false);
}

void conf_free(mosquitto_conf *c)
{
    for (size_t i = 0; i < c->kept_n; i++)
        free(c->kept[i]);
    free(c->kept);
    free(c->at);
    *c = (mosquitto_conf){0};
}

const conf_setting *conf_last(const mosquitto_conf *c, const char *name)
{
    for (size_t i = c->n; i-- > 0;)
        if (strcmp(c->at[i].name, name) == 0)
            return &c->at[i];
    return NULL;
}
