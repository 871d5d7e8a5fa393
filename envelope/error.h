/* Errors for people, inside libpep. */
#ifndef ENVELOPE_ERROR_H
#define ENVELOPE_ERROR_H

#include "pep/base.h"

/* Fills `error` (which may be NULL) and returns `reason`, so that a failing path is one line. */
pep_reason pep_fail(pep_error *error, pep_reason reason, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* The same for a failed system call: "cannot <doing> <path> as user <user>: <errno's text>". */
pep_reason pep_fail_errno(pep_error *error, pep_reason reason, const char *doing, const char *path);

#endif
