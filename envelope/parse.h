/* Parts of an envelope that both sides of it read and check. */
#ifndef ENVELOPE_PARSE_H
#define ENVELOPE_PARSE_H

#include "envelope/cbor.h"
#include "pep/envelope.h"

/* content = meta, then the application's bytes. False where the meta is not well-formed. */
PEP_MUST_CHECK bool parse_content(pep_meta *meta, pep_view *plain, pep_view content);

/* Writes `meta` (NULL: the empty one) as a map; padding as that many zeros. False where a text is not UTF-8. */
PEP_MUST_CHECK bool write_meta(pep_writer *w, const pep_meta *meta);

/* Reads a record map (facts) from r: what docs/PROTOCOL.md allows, in at most PEP_FACTS_MAX bytes. */
PEP_MUST_CHECK bool parse_facts(pep_reader *r, pep_view *out);

#endif
