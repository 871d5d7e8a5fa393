/* Files of libpep's own: read whole and bounded, created whole or not at all, armored as text. */
#ifndef ENVELOPE_FILES_H
#define ENVELOPE_FILES_H

#include "pep/base.h"

#define ARMOR_BYTES_MAX 4096 /* decoded content of an armored file */

#define LABEL_RECORD      "PEP RECORD" /* any statement */
#define LABEL_CERTIFICATE "PEP CERTIFICATE"

typedef enum { FILE_PUBLIC, FILE_SECRET } file_kind;

/*
 * Reads an armored file ("-----BEGIN <label>-----", base64, "-----END <label>-----") into out (ARMOR_BYTES_MAX bytes).
 * A FILE_SECRET that others may read or write is refused with PEP_UNSAFE_FILE. Wipe `out` where it is secret.
 */
PEP_MUST_CHECK pep_reason file_read_armored(uint8_t *out, size_t *out_n, pep_error *error, const char *path,
                                            const char *label, file_kind kind);

/* A public one whose content is at most `cap` bytes (PEP_BAD_FILE else), into as many. */
PEP_MUST_CHECK pep_reason file_read_armored_into(uint8_t *out, size_t *out_n, size_t cap, pep_error *error,
                                                 const char *path, const char *label);

/*
 * Creates the file with mode 0600 (FILE_SECRET) or 0644, through a nameless one where there are such, and a link, so
 * that it appears whole or not at all and never replaces anything.
 */
PEP_MUST_CHECK pep_reason file_create_armored(pep_error *error, const char *path, const char *label, file_kind kind,
                                              const uint8_t *bytes, size_t n);

/* The same in the place of what is there, in one step: who reads sees the old content or the new one, whole. */
PEP_MUST_CHECK pep_reason file_replace_armored(pep_error *error, const char *path, const char *label, file_kind kind,
                                               const uint8_t *bytes, size_t n);

/*
 * Opens a state file for reading and writing, created with mode 0600 where it is not there. It must be a regular file
 * that only its owner may read and write.
 */
PEP_MUST_CHECK pep_reason file_open_state(int *fd, pep_error *error, const char *path);

#endif
