/* UTF-8 as CBOR and MQTT demand it, and bytes as text. */
#ifndef ENVELOPE_TEXT_H
#define ENVELOPE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* True for well-formed UTF-8 (RFC 3629: shortest forms, no surrogates, at most U+10FFFF). */
bool pep_utf8_valid(const uint8_t *p, size_t n);

/* Exactly n bytes from their base64url without padding (RFC 4648, 5), and nothing else in `text`. */
bool bytes_from_text(uint8_t *out, size_t n, const char *text);

#endif
