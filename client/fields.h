/*
 * The fields of a ledger's row: a flat JSON object of texts, whole numbers of 64 bits and booleans. cJSON's numbers are
 * doubles, and its texts end at U+0000, so they are read and written here.
 */
#ifndef CLIENT_FIELDS_H
#define CLIENT_FIELDS_H

#include <stdio.h>

#include "pep.h"

#define FIELDS_JSON_MAX 4096 /* PEP_FACTS_MAX bytes, where each needs six characters, and what stands around them */

typedef struct {
    pep_fact at[PEP_FACTS_COUNT_MAX]; /* views into text */
    size_t n;
    uint8_t text[FIELDS_JSON_MAX];
} fields;

/*
 * False for anything but one object of 0 to PEP_FACTS_COUNT_MAX members with different names, in valid UTF-8, of at
 * most FIELDS_JSON_MAX bytes, without nesting, null, fractions and exponents, and within 64 bits.
 */
bool fields_parse(fields *out, const char *json);

/* As JSON in one line, without spaces. Characters that could steer a terminal or end a line are escaped. */
void fields_put_json(FILE *out, const fields *f);

/* For people: name=value, and a space between two. A text that could be taken for something else is quoted. */
void fields_put_words(FILE *out, const fields *f);

/* A JSON string of valid UTF-8, escaped as above. */
void put_quoted(FILE *out, pep_view text);

/* A text for people: as it is where it is a word that looks like nothing else, else quoted as JSON does. */
void put_word(FILE *out, pep_view text);

#endif
