/* Times as people write them. */
#ifndef CLIENT_TIMES_H
#define CLIENT_TIMES_H

#include <stdbool.h>
#include <stdint.h>

/* What --help calls them, and what a complaint says of one that is none. */
#define TIME_VALUE "TIME"
#define TIME_FORMS "such as 2026-11-25T12:00:00Z, 2026-11-25, or 90s, 30m, 1h or 7d before now"

/*
 * Microseconds since 1970 from RFC 3339 (with fractions and offsets), from a date (its first moment, UTC), or from a
 * whole number of s, m, h or d before `now_us`. False: it is none of these, or not within 1970 to 2255, which is what
 * a command's numbers (to 2^53-1) can say.
 */
bool time_from_text(uint64_t *us, const char *text, uint64_t now_us);

#endif
