/*
 * libpep: end-to-end payload encryption for messages that cross a broker.
 *
 * An application seals a message before it leaves and opens it after it arrives; whatever lies between relays an
 * envelope that it can check but not read. The format is docs/PROTOCOL.md: COSE_Sign1 over COSE_Encrypt0 (RFC 9052).
 *
 * Rules of this interface
 *   - Parameters: context, outputs, in/out, inputs; each length behind its buffer.
 *   - Sizes are bytes, unless a name says otherwise. Times are microseconds since 1970-01-01 UTC (`_us`) or whole
 *     seconds (`_s`).
 *   - Nothing on the envelope's path (seal, parse, verify, open) allocates: the caller supplies every buffer, and views
 *     in the results point into those buffers and are valid as long as they are.
 *   - Functions that return `pep_reason` return PEP_OK (0) or say why not; outputs are then unspecified but
 *     initialised, and secrets in them are wiped.
 *   - Those that touch files also fill a `pep_error`: one line for a person, with the path and what to do.
 *   - Objects are not locked: one thread at a time each. Different objects may be used from different threads.
 *   - Call pep_init() once before anything else.
 */
#ifndef PEP_H
#define PEP_H

#include "pep/base.h"
#include "pep/directory.h"
#include "pep/envelope.h"
#include "pep/keys.h"
#include "pep/state.h"

#endif
