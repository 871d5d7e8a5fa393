/*
 * Deterministic CBOR (RFC 8949, 4.2.1), as much of it as envelopes, records and key files use: integers, byte and text
 * strings, arrays, maps, tags, true, false and null. Everything else, and every item in a longer form than it needs, is
 * refused. Reading points into the input and never allocates; items are decoded by libcbor's streaming decoder.
 */
#ifndef ENVELOPE_CBOR_H
#define ENVELOPE_CBOR_H

#include "pep/base.h"

typedef enum {
    ITEM_NONE, /* the end, or nothing that is allowed */
    ITEM_UINT, /* number = value */
    ITEM_NINT, /* number = -1 - value */
    ITEM_BYTES,
    ITEM_TEXT,
    ITEM_ARRAY, /* value: how many items follow */
    ITEM_MAP,   /* value: how many pairs follow */
    ITEM_TAG,
    ITEM_BOOL,
    ITEM_NULL
} pep_item_type;

typedef struct {
    pep_item_type type;
    uint64_t value;
    pep_view string;
} pep_item;

#define PEP_ITEMS_MAX                                                                                                  \
    1000 /* in one encoding, so that a large envelope of tiny items costs a gate no more than a small one */

/* What is left to read. */
typedef struct {
    const uint8_t *p;
    const uint8_t *end;
    unsigned items; /* that were read */
} pep_reader;

pep_reader pep_reader_of(pep_view bytes);
bool pep_read_end(const pep_reader *r);

/* Each reads one item, or returns false; after a false nothing more may be read. */
bool pep_read(pep_reader *r, pep_item *out);
bool pep_read_uint(pep_reader *r, uint64_t *out);
bool pep_read_int(pep_reader *r, int64_t *out);
bool pep_read_bytes(pep_reader *r, pep_view *out);
bool pep_read_fixed(pep_reader *r, const uint8_t **out, size_t n); /* a byte string of exactly n bytes */
bool pep_read_text(pep_reader *r, pep_view *out);
bool pep_read_array(pep_reader *r, uint64_t *count);
bool pep_read_tag(pep_reader *r, uint64_t tag);

/* Passes over one item of any kind, with at most `depth` levels of arrays, maps and tags in it. */
bool pep_read_skip(pep_reader *r, unsigned depth);

/* Pairs of a map: pep_map_begin, then pep_map_key until the map is done; each key must sort after the one before. */
typedef struct {
    uint64_t left;
    pep_view previous;
} pep_map;

bool pep_map_begin(pep_reader *r, pep_map *out);
bool pep_map_key(pep_reader *r, pep_map *m, pep_item *key);

/* True, and the key is gone, where the next pair's key is this small integer: for maps of fixed content. */
bool pep_map_expect(pep_reader *r, pep_map *m, int64_t key);

/* A writer into `cap` bytes; with p == NULL it only counts. `full` is set where something did not fit. */
typedef struct {
    uint8_t *p;
    size_t cap;
    size_t n;
    bool full;
} pep_writer;

void pep_write_uint(pep_writer *w, uint64_t value);
void pep_write_int(pep_writer *w, int64_t value);
void pep_write_bytes(pep_writer *w, const uint8_t *p, size_t n);
void pep_write_text(pep_writer *w, const uint8_t *p, size_t n);
void pep_write_string(pep_writer *w, const char *text); /* NUL-terminated, as text */
void pep_write_array(pep_writer *w, uint64_t count);
void pep_write_map(pep_writer *w, uint64_t count);
void pep_write_tag(pep_writer *w, uint64_t tag);
void pep_write_bool(pep_writer *w, bool value);
void pep_write_null(pep_writer *w);
void pep_write_raw(pep_writer *w, const uint8_t *p, size_t n); /* encoded items, or a string's content */
void pep_write_bytes_head(pep_writer *w, size_t n);            /* a byte string's head; n bytes of content follow */

#endif
