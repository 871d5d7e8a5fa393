/*
 * Envelopes and records put together by hand, for what pep_seal would never make. A template is a text of hex digits
 * and blanks, with
 *   'abc'     these characters
 *   {12:a0}   the bytes between colon and brace, twelve times
 *   $x        the bytes that the slot x holds
 */
#ifndef VECTORS_TEMPLATE_H
#define VECTORS_TEMPLATE_H

#include "pep.h"

#define BYTES_CAP 4096

typedef struct {
    uint8_t p[BYTES_CAP];
    size_t n;
} bytes;

typedef struct {
    pep_view slot[128]; /* by the letter behind the $ */
} slots;

void bytes_add(bytes *out, const uint8_t *p, size_t n);
pep_view bytes_view(const bytes *b);

/* Puts the filled-in template at the end of `out`. */
void template_fill(bytes *out, const char *text, const slots *s);

/* Appends a byte string item, and a Sig_structure's or Enc_structure's bytes. */
void append_bstr(bytes *out, pep_view content);
void append_sig_structure(bytes *out, pep_view header, pep_view payload);
void append_enc_structure(bytes *out, pep_view inner, pep_view outer);

#endif
