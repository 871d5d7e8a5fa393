/*
 * The policy file's text with its includes put in their places. We do that ourselves, because libconfig would open any
 * path, would end the whole process where reading one fails, and would take an unclosed comment for a valid end.
 */
#ifndef POLICY_SOURCE_H
#define POLICY_SOURCE_H

#include "policy/arena.h"
#include "policy/policy.h"

typedef struct source source;

/*
 * Reads the file and what it includes. NULL with `error` filled where that fails, or where the text could cost
 * libconfig more than it is worth. File names are kept in `memory`, and so outlive the source.
 */
source *source_read(policy_error *error, arena *memory, const char *path);
void source_free(source *s);

/* NUL-terminated; it ends with a newline. */
const char *source_text(const source *s);

/* Which file a line of the text came from, and which line of it that is. */
const char *source_origin(const source *s, unsigned *file_line, unsigned text_line);

#endif
