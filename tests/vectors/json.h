/* Writes one JSON document, indented, so that two runs of the generator give the same bytes. */
#ifndef VECTORS_JSON_H
#define VECTORS_JSON_H

#include <stdio.h>

#include "pep.h"

typedef struct {
    FILE *file;
    int depth;
    bool follows; /* a comma goes before the next member */
} json;

/* `key` is NULL for an element of an array and for the document itself. Texts hold no control characters. */
void json_open(json *j, const char *key, char bracket);
void json_close(json *j, char bracket);
void json_text(json *j, const char *key, const char *text);
void json_hex(json *j, const char *key, const uint8_t *p, size_t n);
void json_number(json *j, const char *key, uint64_t number);
void json_bool(json *j, const char *key, bool value);

#endif
