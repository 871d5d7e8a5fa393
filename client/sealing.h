/* What `pep seal` and `pep pub` share: who seals, for whom, and what goes into the signed header. */
#ifndef CLIENT_SEALING_H
#define CLIENT_SEALING_H

#include "client/identity.h"
#include "client/io.h"
#include "client/options.h"
#include "pep.h"

extern const option sealing_options[];

typedef struct {
    pep_device device;
    const char *key; /* its file */
    file_stamp stamp;
    pep_seq *seq;
    bool takes_ids;  /* set before: --to may name an id, for the caller to resolve */
    pep_record *to;  /* direct mode: to_count of them */
    const char **id; /* of each, where it is to be resolved; else NULL */
    size_t to_count;
    pep_epoch epoch;
    bool has_epoch;
    uint8_t facts[PEP_FACTS_MAX];
    size_t facts_n;
    pep_meta meta;
    buffer out; /* the envelope that sealer_seal made last */
} sealer;

/*
 * Reads the keys and files that sealing_options name. `mode_needed`: one of --to, --epoch and --signed-only must be
 * there. Zero it before. Returns 0, or an exit code after a line on stderr; sealer_close either way.
 */
int sealer_open(sealer *s, bool mode_needed);
void sealer_close(sealer *s);

/* The key file that --key named. */
const char *sealing_key(void);

/* True where some --to names an id. */
bool sealer_has_ids(const sealer *s);

/* 0 where one may seal to this record now, else an exit code after a line that begins with `name`. */
int check_recipient(const char *name, const pep_record *record);

/* Reads the key alone, for clears: they need nothing else. As sealer_open. */
int sealer_open_key(sealer *s, const char *path);

/* How many envelopes one message becomes: one for each recipient, else one. */
size_t sealer_envelopes(const sealer *s);

/*
 * Seals for recipient number `which`, with a seq of this moment, into s->out. Facts and expiry are for messages: a will
 * (PEP_FLAG_WILL) has neither, because it may be sent long after this. Returns 0, or an exit code after a line.
 */
int sealer_seal(sealer *s, size_t which, const char *topic, unsigned flags, pep_view plain);

/* 0 where an application may seal for this topic, else 2 after a line that names `label`. */
int check_topic(const char *label, const char *topic);

/* What is sealed as a will alone carries neither --record nor --exp: 0, or an exit code after a line on stderr. */
int check_will(void);

#endif
