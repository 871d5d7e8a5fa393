/*
 * mosquitto.conf as Mosquitto reads it: the settings in the order in which they take effect, those of an include_dir in
 * its place. What they mean, and whether there are such settings, is not judged here.
 */
#ifndef CLIENT_MOSQUITTO_CONF_H
#define CLIENT_MOSQUITTO_CONF_H

#include <stdbool.h>
#include <stddef.h>

#define CONF_ERROR_BYTES  512
#define CONF_BYTES_MAX    ((size_t)16 * 1024 * 1024) /* of all files together */
#define CONF_SETTINGS_MAX 20000
#define CONF_FILES_MAX    10000
#define CONF_NONE         ((size_t)-1)

/* `file:line: what is wrong`; with what a file is called in it, which may be anything */
typedef struct {
    char text[CONF_ERROR_BYTES];
} conf_error;

/* One line. The strings are the configuration's. */
typedef struct {
    const char *file; /* an included one as Mosquitto's log has it: folder, slash, name */
    unsigned line;
    const char *name;  /* up to the first space */
    const char *value; /* what follows to the end of the line, no blanks around it; "" where nothing does */
    size_t plugin;     /* index of the line whose plugin an option here would be for; CONF_NONE: of none */
    size_t bridge;     /* index of the `connection` line whose bridge this would be about; CONF_NONE: of none */
} conf_setting;

typedef struct {
    conf_setting *at;
    size_t n, cap;
    char **kept; /* texts and paths, for conf_free */
    size_t kept_n, kept_cap;
    size_t bytes, files;
} mosquitto_conf;

/*
 * Reads the file, and what its include_dir lines name. False with `error` filled where one cannot be read, is no text
 * or is too much. conf_free in any case.
 */
bool conf_read(mosquitto_conf *out, conf_error *error, const char *path);
void conf_free(mosquitto_conf *c);

/* The last one of this name, which is what counts where a setting has one value; NULL: there is none. */
const conf_setting *conf_last(const mosquitto_conf *c, const char *name);

/* What a line that loads a plugin loads; NULL where it is none. */
const char *conf_plugin_path(const conf_setting *s);

/* True where some Mosquitto 2.0 or 2.1 has such a setting. */
bool conf_is_known(const char *name);

/* True where the first word of `text` is `word`. */
bool conf_word_is(const char *text, const char *word);

/* What follows the first word of `text`. */
const char *conf_second_word(const char *text);

#endif
