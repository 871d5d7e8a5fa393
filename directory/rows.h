/* The directory's tables as the rest of it sees them: one function a statement of SQL. Worker's thread. */
#ifndef DIRECTORY_ROWS_H
#define DIRECTORY_ROWS_H

#include "directory/signers.h"
#include "store/store.h"

#define GROUPS_BYTES_MAX (PEP_GROUPS_MAX * (PEP_ID_MAX + 1) + 1)

/* One signing key, as in the table `keys`. */
typedef struct {
    uint8_t kid[PEP_KID_BYTES];
    char id[PEP_ID_MAX + 1];
    bool has_key;
    uint8_t sign_public[PEP_SIGN_PUBLIC_BYTES];
    uint64_t position;
    signer_state state;
    uint64_t not_after_s, ended_s, cutoff;
    bool has_groups;
    char groups[GROUPS_BYTES_MAX]; /* as in signer */
    bool head;
    bool provisioned;
    uint64_t change;
} key_row;

typedef struct {
    uint64_t position;
    uint64_t version;
    pep_statement_kind kind;
    uint8_t hash[PEP_SHA256_BYTES];
    uint8_t bytes[PEP_STATEMENT_BYTES_MAX];
    size_t n;
    uint8_t certificate[PEP_CERTIFICATE_BYTES_MAX];
    size_t certificate_n; /* 0: none */
} statement_row;

typedef struct {
    uint8_t kid[PEP_KID_BYTES];
    char id[PEP_ID_MAX + 1];
    uint64_t expires_s;
    bool used;
    uint8_t used_for[PEP_SHA256_BYTES];
} token_row;

/* The next change's number, which nobody else gets before this transaction ends; and wakes the others behind it. */
store_result rows_begin_change(store *s, uint64_t *change);

/* The number of the last change; how many ids there are. */
store_result rows_last_change(store *s, uint64_t *change);
store_result rows_count_ids(store *s, uint64_t *count);
store_result rows_add_id(store *s);

/* *found tells whether there is one. */
store_result rows_key(store *s, key_row *out, bool *found, const uint8_t kid[PEP_KID_BYTES]);
store_result rows_head(store *s, key_row *out, bool *found, const char *id);
store_result rows_statement(store *s, statement_row *out, bool *found, const char *id, uint64_t position);
store_result rows_token(store *s, token_row *out, bool *found, const uint8_t kid[PEP_KID_BYTES]);

/* The position of the statement with this hash; 0: the id has none. */
store_result rows_position_of(store *s, uint64_t *position, const char *id, const uint8_t hash[PEP_SHA256_BYTES]);

/* When it was stored; 0: there is none, or nobody knows. */
store_result rows_stored(store *s, uint64_t *stored_s, const char *id, uint64_t position);

/* Whether one of the record's agreement keys is, or was, another id's. */
store_result rows_agree_taken(store *s, bool *taken, const pep_record *record);
store_result rows_add_agree_keys(store *s, const pep_record *record);

store_result rows_add_statement(store *s, const statement_row *row, const char *id, uint64_t now_s);
store_result rows_set_certificate(store *s, const char *id, uint64_t position, const uint8_t *p, size_t n);

/* Adds the key, or writes all of it anew. The former head must be written first: an id has one. */
store_result rows_put_key(store *s, const key_row *row);

/* Former keys that a gate would still take because they were replaced a moment ago are revoked, too. */
store_result rows_end_grace(store *s, const char *id, uint64_t since_s, uint64_t change);

/* All keys of the id live as long as its file. */
store_result rows_provision(store *s, const char *id, uint64_t change);

store_result rows_put_token(store *s, const token_row *row);
store_result rows_drop_unused_tokens(store *s, const char *id);

/* Tokens that are not used; all rows of `keys`. */
store_result rows_count_tokens(store *s, uint64_t *count);
store_result rows_count_keys(store *s, uint64_t *count);

/* *repeated: this command was carried out before. */
store_result rows_add_command(store *s, bool *repeated, const uint8_t kid[PEP_KID_BYTES], uint64_t seq,
                              uint64_t expires_s);

/* Forgets tokens whose time is over, and commands an hour later: clocks of several gates differ. */
store_result rows_purge(store *s, uint64_t now_s);

/* *added: it was not there. */
store_result rows_add_published(store *s, bool *added, const uint8_t gate[PEP_KID_BYTES], const char *topic);
store_result rows_has_published(store *s, bool *there, const uint8_t gate[PEP_KID_BYTES], const char *topic);
store_result rows_drop_published(store *s, const uint8_t gate[PEP_KID_BYTES], const char *topic);
store_result rows_count_published(store *s, uint64_t *count, const uint8_t gate[PEP_KID_BYTES]);

/* Rows of many; `each` gets one after the other and may not use the store. False ends it. */
typedef bool (*each_key)(void *ctx, const key_row *row);
typedef bool (*each_key_statement)(void *ctx, const key_row *row, const statement_row *statement);
typedef bool (*each_text)(void *ctx, const char *text);
typedef bool (*each_statement)(void *ctx, const statement_row *row);

store_result rows_all_keys(store *s, each_key each, void *ctx);

/* Keys that changed behind `change`, up to `last`, in that order; heads with their statement, else NULL. */
store_result rows_changes(store *s, uint64_t change, uint64_t last, each_key_statement each, void *ctx);

/* Heads behind the id `after`, sorted, at most `count`, with their statements. */
store_result rows_heads(store *s, const char *after, uint64_t count, each_key_statement each, void *ctx);

/* Statements of an id behind a position, at most `count`. */
store_result rows_history(store *s, const char *id, uint64_t after, uint64_t count, each_statement each, void *ctx);

store_result rows_published(store *s, const uint8_t gate[PEP_KID_BYTES], const char *after, uint64_t count,
                            each_text each, void *ctx);

#endif
