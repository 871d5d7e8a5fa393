/* Durations ("30s", "5m", "2h", "1d", "250ms") and sizes ("64k", "1m", "65536"). */
#ifndef POLICY_UNITS_H
#define POLICY_UNITS_H

#include <stdbool.h>
#include <stdint.h>

/* False where the text is none. What no uint64_t holds becomes UINT64_MAX, which no range of ours allows. */
bool units_duration(uint64_t *us, const char *text);
bool units_size(uint64_t *bytes, const char *text);

#endif
