/* What must survive a restart: the sender's next seq, and the seqs that a receiver or a gate has seen. */
#ifndef PEP_STATE_H
#define PEP_STATE_H

#include "pep/base.h"
#include "pep/envelope.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- the sender's seq ---- */

typedef struct pep_seq pep_seq;

/*
 * Opens the state file of one signing key (`ID.seq`, mode 0600), creating it where it is not there. Several processes
 * of one machine may share it; two machines never share a signing key.
 * PEP_CANNOT_READ, PEP_CANNOT_WRITE, PEP_BAD_FILE, PEP_UNSAFE_FILE.
 */
PEP_API PEP_MUST_CHECK pep_reason pep_seq_open(pep_seq **out, pep_error *error, const char *path);

/*
 * The next seq: max(last + 1, microseconds since 1970), strictly increasing over all processes, kill -9 and power loss
 * (a reservation ahead is on disk before a seq is handed out; at most 2 s ahead of the clock).
 * PEP_SEQ_AHEAD where it would lie more than PEP_MAX_SKEW_US ahead of the clock: the clock was ahead once, nobody would
 * accept it, and only a new signing key helps. PEP_CANNOT_WRITE; PEP_BAD_FILE where the file was damaged meanwhile.
 */
PEP_API PEP_MUST_CHECK pep_reason pep_seq_next(pep_seq *seq, uint64_t *out);

/*
 * For devices without a clock: last + 1, from 1; seal with PEP_FLAG_COUNTER. One key uses one of the two: the other
 * returns PEP_SEQ_MIXED.
 */
PEP_API PEP_MUST_CHECK pep_reason pep_seq_next_counter(pep_seq *seq, uint64_t *out);

PEP_API void pep_seq_close(pep_seq *seq);

/* ---- seqs that were seen ---- */

#define PEP_REPLAY_WINDOW       64 /* seqs remembered a slot */
#define PEP_REPLAY_DIGEST_BYTES 16
#define PEP_REPLAY_SLOT_BYTES   1600 /* bytes of disk and memory a slot */

typedef struct pep_replay pep_replay;

/*
 * Opens or creates the replay state: one mapped file of fixed slots (mode 0600), locked to this process. What was
 * committed survives kill -9 at once, and power loss from the next pep_replay_sync on.
 * PEP_LOCKED, PEP_BAD_FILE, PEP_UNSAFE_FILE, PEP_CANNOT_READ, PEP_CANNOT_WRITE, PEP_NO_MEMORY.
 */
PEP_API PEP_MUST_CHECK pep_reason pep_replay_open(pep_replay **out, pep_error *error, const char *path);
PEP_API void pep_replay_close(pep_replay *replay);

/* True where the file was not there, or empty, when it was opened: nothing is remembered. */
PEP_API bool pep_replay_is_new(const pep_replay *replay);

/* Starts writing changed slots to the disk and does not wait for it. */
PEP_API void pep_replay_sync(pep_replay *replay);

/*
 * The slot of `key` (16 bytes: a gate's is the signer's kid, a receiver's comes from pep_replay_key), made where there
 * is none; room on disk is taken here, so that later writes cannot fail. Slots are never given away again.
 * PEP_CANNOT_WRITE (disk full), PEP_NO_MEMORY. Ask it for what was verified only: whoever is verified takes room.
 */
PEP_API PEP_MUST_CHECK pep_reason pep_replay_slot(pep_replay *replay, size_t *slot, const uint8_t key[PEP_KID_BYTES]);

/* True, and the slot, where there is one: of a key without one nothing was seen. */
PEP_API bool pep_replay_find(const pep_replay *replay, size_t *slot, const uint8_t key[PEP_KID_BYTES]);

/* Takes room on disk for so many more slots, so that pep_replay_slot need not. As pep_replay_slot. */
PEP_API PEP_MUST_CHECK pep_reason pep_replay_reserve(pep_replay *replay, size_t slots);

/* A receiver's key: per signer and topic. */
PEP_API void pep_replay_key(uint8_t key[PEP_KID_BYTES], const uint8_t kid[PEP_KID_BYTES], const uint8_t *topic,
                            size_t topic_n);

/* What is being asked about. */
typedef enum {
    PEP_SEEN_MESSAGE, /* through the window: seqs may arrive out of order within it */
    PEP_SEEN_STATE,   /* a retained message: above the highest seen, so that it is passed on once */
    PEP_SEEN_WILL     /* a will: its own floor, which must rise */
} pep_seen;

/* PEP_OK where the seq is new, else PEP_REPLAYED. Changes nothing. */
PEP_API PEP_MUST_CHECK pep_reason pep_replay_check(const pep_replay *replay, size_t slot, pep_seen kind, uint64_t seq);

/*
 * True where `seq` stands in the window with exactly this digest: the same message from the same client again. A digest
 * of zeros never matches.
 */
PEP_API bool pep_replay_is_redelivery(const pep_replay *replay, size_t slot, uint64_t seq,
                                      const uint8_t digest[PEP_REPLAY_DIGEST_BYTES]);

/* Marks the seq as seen. `digest` may be NULL. Call it only after the signature verified. */
PEP_API void pep_replay_commit(pep_replay *replay, size_t slot, pep_seen kind, uint64_t seq, const uint8_t *digest);

/*
 * Takes over what another state remembers: what counts as seen in either counts as seen in `into`, and more may, where
 * the two together have more than a window. PEP_CANNOT_WRITE (disk full), PEP_NO_MEMORY.
 */
PEP_API PEP_MUST_CHECK pep_reason pep_replay_merge(pep_replay *into, const pep_replay *from);

/* The newest time that was committed with pep_replay_note_time, 0 for none: a clock before it has gone backwards. */
PEP_API uint64_t pep_replay_newest_us(const pep_replay *replay);
PEP_API void pep_replay_note_time(pep_replay *replay, uint64_t us);

#ifdef __cplusplus
}
#endif
#endif
