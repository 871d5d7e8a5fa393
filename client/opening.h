/* What `pep open` and `pep sub` share: who opens, whom he believes, and how an opened envelope is described. */
#ifndef CLIENT_OPENING_H
#define CLIENT_OPENING_H

#include <cjson/cJSON.h>

#include "client/identity.h"
#include "client/io.h"
#include "client/options.h"
#include "pep.h"

extern const option opening_options[];

typedef struct {
    pep_device device, next; /* next: of ID.key.new, where has_next */
    bool has_next;
    file_stamp key, fresh; /* ID.key and ID.key.new, as they were read */
    pep_keyring *senders;
    pep_epoch *epochs;
    size_t epoch_count;
    pep_opener opener;
    buffer work; /* holds the plaintext that opening_open made last */
} opening;

/*
 * Reads the keys and files that opening_options name. Zero it before. Returns 0, or an exit code after a line on
 * stderr; opening_close either way.
 */
int opening_start(opening *o);
void opening_close(opening *o);

/* The key file that --key named. */
const char *opening_key(void);

/* What --from named, or NULL. */
const char *opening_from(void);

/*
 * pep_open, by the clock of this moment, with working space from here. `topic` NULL: not compared. What does not open
 * is tried again with keys that a rotation has put into the place of those that were read.
 */
pep_reason opening_open(pep_opened *out, opening *o, const char *topic, const uint8_t *bytes, size_t n);

/* Now and then, of one that goes on: former keys whose time is over are deleted. */
void opening_tick(opening *o);

/* Adds what the signed header and the encrypted meta say, where they say something. */
void describe_facts(cJSON *object, pep_view facts);
void describe_meta(cJSON *object, const pep_meta *meta);
void describe_flags(cJSON *object, unsigned flags);

/* The flags by name, one by one: starts at *i = 0; NULL at the end. */
const char *next_flag(size_t *i, unsigned flags);

#endif
