/* Rows with named columns, printed as a table for people, as CSV (RFC 4180) or as one JSON object a line. */
#ifndef CLIENT_SHEET_H
#define CLIENT_SHEET_H

#include "client/fields.h"

typedef enum {
    CELL_NONE,    /* "-", nothing, or null */
    CELL_TEXT,    /* UTF-8 that somebody else chose */
    CELL_TIME,    /* microseconds since 1970 */
    CELL_SECOND,  /* the same, where it is a whole second */
    CELL_NUMBER,  /* uint64_t */
    CELL_DECIMAL, /* a whole number of any size, as text that decimal_valid takes */
    CELL_REAL,    /* a finite double */
    CELL_BOOL,
    CELL_FIELDS
} cell_kind;

typedef struct {
    cell_kind kind;
    union {
        const char *text;
        uint64_t number;
        double real;
        bool yes;
        const fields *fields;
    };
} cell;

enum { COLUMN_LEFT = 0, COLUMN_RIGHT = 1, COLUMN_HIDDEN = 2 /* in a table */ };

typedef struct {
    const char *name;
    unsigned look; /* of a table */
} column;

#define SHEET_COLUMNS_MAX 16

typedef enum { FORM_TABLE, FORM_JSON, FORM_CSV } sheet_form;

typedef struct {
    sheet_form form;
    FILE *out;
    const column *columns;
    size_t width;

    char **cells; /* a table's, until it is printed */
    size_t count, cap;
    bool failed; /* there was no memory */
} sheet;

/* `columns`: `width` of them, which stay where they are. CSV has its first line then. */
void sheet_begin(sheet *s, sheet_form form, FILE *out, const column *columns, size_t width);

/* A row of `width` cells. JSON and CSV are written at once, a table when it ends. */
void sheet_row(sheet *s, const cell *row);

/*
 * Writes what is left and releases all. 0, or 3 after a line on stderr where there was no memory; whether `out` took it
 * all is the caller's to ask.
 */
int sheet_end(sheet *s);

/*
 * A text as a cell of CSV. Spreadsheets take what begins with one of = + - @ for a formula, and what a formula does is
 * up to whoever wrote it: such a text, and one that begins with an apostrophe, has an apostrophe put in front of it,
 * unless it is a whole number. Control characters are escaped as by put_escaped.
 */
void put_csv(FILE *out, const char *text, size_t n);

/* -?(0|[1-9][0-9]*), at most 64 characters. */
bool decimal_valid(const char *text);

#endif
