/* Text that operators write: UTF-8, ids, topic filters, and the one line that says what is wrong with them. */
#ifndef POLICY_TEXT_H
#define POLICY_TEXT_H

#include "policy/policy.h"

#include <stdarg.h>

/* True where `text` is UTF-8 (RFC 3629). */
bool text_is_utf8(const char *text);

/* True where `text` is `[A-Za-z0-9._:@-]{1,64}`. */
bool text_is_id(const char *text);

/* NULL where `filter` may stand in a rule; else what is wrong; what would be right. */
const char *text_filter_fault(const char *filter);

/* The index, from 0, of the level that holds the `nth` `+` (from 1) of a filter; -1 where there are fewer. */
int text_plus_level(const char *filter, unsigned nth);

/* How many `+` a filter has. */
unsigned text_plus_count(const char *filter);

/* Fills `error` with `path:line: ...` (without the line where it is 0): one printable line of UTF-8. Returns false. */
bool text_error(policy_error *error, const char *path, unsigned line, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
bool text_verror(policy_error *error, const char *path, unsigned line, const char *format, va_list values)
    __attribute__((format(printf, 4, 0)));

#endif
