/*
 * What pep sub does with a directory: asks who a sender is that it does not know, holds his messages meanwhile, and
 * follows the keys of those whom it knows, so that a rotation or revocation reaches it at once. A broker without a
 * directory costs it one question that nobody answers.
 */
#ifndef CLIENT_FOLLOW_H
#define CLIENT_FOLLOW_H

#include "client/resolve.h"

#define FOLLOW_KIDS_MAX    64   /* that are asked for at once */
#define FOLLOW_CHANGES_MAX 64   /* devices whose change is looked at at once; the others wait for it */
#define FOLLOW_HELD_MAX    1000 /* messages that wait */
#define FOLLOW_HELD_BYTES  ((size_t)32 * 1024 * 1024)
#define FOLLOW_HELD_MS     5000
#define FOLLOW_AGAIN_MS    30000 /* a kid that was asked for is not asked for again so soon */
#define FOLLOW_PER_SECOND  20    /* questions, after a burst of FOLLOW_KIDS_MAX */
#define FOLLOW_IDS_MAX     10000
#define FOLLOW_RECENT_MAX  1024
#define FOLLOW_PATIENCE_MS 60000 /* where nobody answered, nothing is asked so long */

typedef struct follower follower;

struct follower {
    void *owner;
    /* A message that was held may be opened now, or never. */
    void (*release)(void *owner, const struct mosquitto_message *m);

    /* its own */
    mqtt_link *link;
    bool on;
    asker asker;
    resolver resolver;
    struct followed *ids;                          /* uthash */
    struct followed *first_waiting, *last_waiting; /* of those whose change nobody has looked at yet */
    struct wanted *wanted;
    size_t kids, changes; /* of them */
    uint64_t again_ms;    /* when the next change is looked at again; 0: none */
    struct held *first, **last;
    size_t held_count, held_bytes;
    struct {
        uint8_t kid[PEP_KID_BYTES];
        uint64_t ms;
    } recent[FOLLOW_RECENT_MAX];
    size_t next_recent;
    uint64_t silent_until_ms;
    double tokens;
    uint64_t tokens_ms;
};

/*
 * `key`: whose pins they are, by default; `from`: records to begin with, a file or folder. Zero it and set owner and
 * release before; after mqtt_prepare. With --no-directory nothing is ever asked. 0, or an exit code after a line.
 */
int follow_open(follower *f, mqtt_link *link, const char *key, const char *from, const pep_keyring *senders);
void follow_close(follower *f);

/* NULL while nothing is pinned. */
pep_pins *follow_pins(const follower *f);

/* On each connection, before anything else is subscribed to. */
void follow_connected(follower *f);

/* From now on, what changes about this device is heard of. */
void follow_id(follower *f, const char *id);

/* True where the message was for the follower. */
bool follow_take(follower *f, const struct mosquitto_message *m);

/* Asks who has this signing key, and keeps the message meanwhile. False: it is not kept. */
bool follow_hold(follower *f, const uint8_t kid[PEP_KID_BYTES], const struct mosquitto_message *m);

/*
 * True while the directory has told of a change of this device that is not understood yet: its history is being asked
 * for, or waits for that. What is pinned may be out of date then.
 */
bool follow_changes(const follower *f, const char *id);

/* Keeps a message of a device that changes until the change is understood. False: it is not kept. */
bool follow_hold_change(follower *f, const char *id, const struct mosquitto_message *m);

/* True where messages of this key wait for who has it: what comes behind them waits, too. */
bool follow_waits(const follower *f, const uint8_t kid[PEP_KID_BYTES]);

/* Now and then. */
void follow_tick(follower *f);

#endif
