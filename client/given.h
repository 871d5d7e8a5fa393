/* The records that the user was given by hand: by id, whatever their files are called. */
#ifndef CLIENT_GIVEN_H
#define CLIENT_GIVEN_H

#include "pep.h"

typedef struct given given;

/* Looks at a .pub file, or at every one of a folder. NULL: out of memory. What cannot be read counts by its name. */
given *given_read(const char *path);
void given_free(given *g);

/*
 * Where a pin begins is what was given; what is pinned already moves on by it, where it follows. PEP_OK also where
 * nothing was given of `id`, or what is pinned says otherwise. Else a file of that id cannot be used, and `error` says
 * why: its keys are then not to be taken from anybody else. `g` may be NULL.
 */
pep_reason given_pin(given *g, pep_pins *pins, pep_error *error, const char *id);

/* The same for all that are pinned already. */
void given_pin_known(given *g, pep_pins *pins);

#endif
