/* Who directory.json is about: a device with three generations of keys, authorities and an admin. */
#ifndef VECTORS_PARTIES_H
#define VECTORS_PARTIES_H

#include "pep.h"

#define DEVICE_ID "pump-7"

typedef struct {
    const char *name;
    const char *id;
    pep_device device; /* of an authority, the signing key alone counts */
} party;

typedef enum { KEYS_1, KEYS_2, KEYS_3, ADMIN, STRANGER, AUTHORITY_1, AUTHORITY_2, AUTHORITY_OTHER, PARTIES } party_name;

extern party parties[PARTIES];

/* Fills the table. Any failure ends the program. */
void parties_make(void);

#endif
