/* What the tool says: exit codes, lines for people, times, and JSON. */
#ifndef CLIENT_PRINT_H
#define CLIENT_PRINT_H

#include <cjson/cJSON.h>
#include <stdio.h>

#include "pep.h"

/* Exit codes. */
enum {
    DONE = 0,
    REFUSED = 1,      /* refused, or not valid */
    WRONG_USAGE = 2,  /* of the command line */
    OUT_OF_REACH = 3, /* a file, a broker or memory could not be had */
};

/* Prints "pep: ..." as one line on stderr, control characters escaped, and returns `code`. */
int fail(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* As fail, for a line that ends nothing. */
void warn(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* As warn, for what a person must not miss: the line begins with "WARNING:". */
void warn_loudly(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* A line on stderr that the next one of these writes over. Any other line of these functions comes below it. */
void tell_progress(const char *format, ...) __attribute__((format(printf, 1, 2)));
void end_progress(void);

/* The exit code that a reason calls for. */
int exit_code(pep_reason reason);

/* fail with the reason's exit code and "what: reason-name (sentence)". */
int fail_reason(pep_reason reason, const char *what);

/* fail with the reason's exit code and the library's own line. */
int fail_error(pep_reason reason, const pep_error *error);

/*
 * Writes text that somebody else chose: control characters (also those of U+0080 to U+009F), separators of lines and
 * paragraphs, what changes the direction of writing and, where it is not UTF-8, all bytes beyond ASCII come out as
 * \xNN, so that they cannot steer a terminal, forge a line or show another text than stands there.
 */
void put_escaped(FILE *out, const void *text, size_t n);

/* How many of the n > 0 bytes at p it would escape; `utf8`: the whole text is UTF-8. */
size_t unprintable(const uint8_t *p, size_t n, bool utf8);

#define HEX_KID_BYTES (2 * PEP_KID_BYTES + 1)
const char *hex_kid(char out[HEX_KID_BYTES], const uint8_t kid[PEP_KID_BYTES]);

/* RFC 3339, UTC; the plain number where it lies beyond the year 9999. */
#define TIME_BYTES 40
const char *time_us(char out[TIME_BYTES], uint64_t us);
const char *time_s(char out[TIME_BYTES], uint64_t s);

/* Flushes stdout: 0, or 3 after a line on stderr where something could not be written. */
int finish_output(void);

/* ---- JSON: objects that are printed whole, as one line ---- */

/* A new object: in `parent` under `name`, or a root (parent NULL). */
cJSON *json_object(cJSON *parent, const char *name);
cJSON *json_array(cJSON *parent, const char *name);
void json_append(cJSON *array, const char *text);

void json_text(cJSON *object, const char *name, const char *text);
void json_bool(cJSON *object, const char *name, bool value);

/* All 64 bits, which cJSON's own numbers (doubles) do not have. */
void json_unsigned(cJSON *object, const char *name, uint64_t value);
void json_signed(cJSON *object, const char *name, int64_t value);

void json_kid(cJSON *object, const char *name, const uint8_t kid[PEP_KID_BYTES]);

/* As text under `name` where the bytes are UTF-8 without NUL, else under `name`_base64. */
void json_bytes(cJSON *object, const char *name, pep_view bytes);

/* The text of a root, for cJSON_free, and deletes the root. NULL after a line on stderr: some of it is missing. */
char *json_take(cJSON *object);

/* Prints and deletes a root, control characters escaped, and flushes stdout. Returns 0, or 3 after a line on stderr. */
int json_print(cJSON *object);

#endif
