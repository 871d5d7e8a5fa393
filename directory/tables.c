#include "directory/tables.h"

/*
 * meta        numbers: 'change' counts changes, and whoever raises it holds it until his transaction ends, so that
 *             brokers change one behind the other; 'ids' is how many ids were ever taken
 * statements  every statement of every id, in order; `position` counts on where the operator replaced keys; `stored`:
 *             when, by the gate's clock, or 0 where a backup brought it: what limits how often a device rotates
 * keys        every signing key ever; `head`: the last one of its id; `position` is that of the statement about it;
 *             `member_of`: the groups of its certificate, names each ending with NUL and one more NUL, or NULL;
 *             `change`: when the row changed last, by which whoever has it in memory finds out
 * agree_keys  every agreement key ever
 * tokens      `used`: the hash of the record that was enrolled with it
 * commands    what was carried out, until it expires
 * published   what is retained in the broker, by gate
 *
 * Ids are compared byte by byte: paging through them relies on it.
 */
#define TABLES(BLOB, ID, COMPACT)                                                                                      \
    "CREATE TABLE meta (name TEXT PRIMARY KEY, number BIGINT NOT NULL)" COMPACT ";"                                    \
    "INSERT INTO meta (name, number) VALUES ('change', 0);"                                                            \
    "INSERT INTO meta (name, number) VALUES ('ids', 0);"                                                               \
    "CREATE TABLE statements (id " ID " NOT NULL, position BIGINT NOT NULL, version BIGINT NOT NULL, hash " BLOB       \
    " NOT NULL, kind BIGINT NOT NULL, bytes " BLOB " NOT NULL, certificate " BLOB                                      \
    ", stored BIGINT NOT NULL DEFAULT 0, PRIMARY KEY (id, position));"                                                 \
    "CREATE INDEX statements_by_hash ON statements (id, hash);"                                                        \
    "CREATE TABLE keys (kid " BLOB " PRIMARY KEY, id " ID " NOT NULL, sign_public " BLOB                               \
    ", position BIGINT NOT NULL, state BIGINT NOT NULL, not_after BIGINT NOT NULL, ended BIGINT NOT NULL,"             \
    " cutoff BIGINT NOT NULL, member_of " BLOB ", head BIGINT NOT NULL, provisioned BIGINT NOT NULL,"                  \
    " change BIGINT NOT NULL)" COMPACT ";"                                                                             \
    "CREATE INDEX keys_by_id ON keys (id);"                                                                            \
    "CREATE UNIQUE INDEX keys_heads ON keys (id) WHERE head = 1;"                                                      \
    "CREATE INDEX keys_by_change ON keys (change);"                                                                    \
    "CREATE TABLE agree_keys (kid " BLOB " PRIMARY KEY, id " ID " NOT NULL)" COMPACT ";"                               \
    "CREATE TABLE tokens (kid " BLOB " PRIMARY KEY, id " ID " NOT NULL, expires BIGINT NOT NULL, used " BLOB           \
    ")" COMPACT ";"                                                                                                    \
    "CREATE INDEX tokens_by_id ON tokens (id);"                                                                        \
    "CREATE TABLE commands (kid " BLOB " NOT NULL, seq BIGINT NOT NULL, expires BIGINT NOT NULL,"                      \
    " PRIMARY KEY (kid, seq))" COMPACT ";"                                                                             \
    "CREATE TABLE published (gate " BLOB " NOT NULL, topic " ID " NOT NULL, PRIMARY KEY (gate, topic))" COMPACT ";"

const store_migration directory_migrations[DIRECTORY_MIGRATIONS] = {
    {TABLES("BLOB", "TEXT", " WITHOUT ROWID"), TABLES("BYTEA", "TEXT COLLATE \"C\"", "")},
};
