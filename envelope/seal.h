/* Sealing for the topics that pep_seal refuses. */
#ifndef ENVELOPE_SEAL_H
#define ENVELOPE_SEAL_H

#include "pep/envelope.h"

/*
 * As pep_seal, and also for a topic that begins with `$`: nothing of an application's comes here, so that no
 * application can be made to sign a command by giving it a topic.
 */
PEP_MUST_CHECK pep_reason seal_any_topic(uint8_t *out, size_t *out_n, size_t cap, const pep_message *message);

#endif
