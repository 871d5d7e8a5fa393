/* UTF-8 as CBOR and MQTT demand it. */
#ifndef ENVELOPE_TEXT_H
#define ENVELOPE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* True for well-formed UTF-8 (RFC 3629: shortest forms, no surrogates, at most U+10FFFF). */
bool pep_utf8_valid(const uint8_t *p, size_t n);

#endif
