/* JSON as commands have it: far less of it than a parser takes. */
#ifndef DIRECTORY_JSON_H
#define DIRECTORY_JSON_H

#include <cjson/cJSON.h>

#include "pep.h"

#define JSON_DEPTH_MAX 8
#define JSON_KEYS_MAX  32 /* in one object */

/*
 * NULL for anything but one JSON text of valid UTF-8, nested at most JSON_DEPTH_MAX deep, without NUL also as an
 * escape, without control characters in strings, without a key twice in an object, and with whole numbers from 0 to
 * 2^53-1 alone. To be freed with cJSON_Delete.
 */
cJSON *json_parse(const uint8_t *p, size_t n);

/* The member as a text, NULL where there is none or it is none. */
const char *json_get_text(const cJSON *object, const char *name);

/* The 32 lower-case hexadecimal digits of a kid. */
bool json_get_kid(uint8_t kid[PEP_KID_BYTES], const char *text);

/* base64url without padding, in its one form; 1 to `cap` bytes. */
bool json_get_bytes(uint8_t *out, size_t *n, size_t cap, const char *text);

/* Adds a member; false where there was no memory. json_add_bytes in base64url. */
bool json_add_text(cJSON *object, const char *name, const char *text);
bool json_add_number(cJSON *object, const char *name, uint64_t number);
bool json_add_kid(cJSON *object, const char *name, const uint8_t kid[PEP_KID_BYTES]);
bool json_add_bytes(cJSON *object, const char *name, const uint8_t *p, size_t n);

/* A text for an array. */
cJSON *json_bytes_text(const uint8_t *p, size_t n);

#endif
