#include "ledger/tables.h"

/*
 * pep_ledger           a row a message, in microseconds since 1970 and bytes; `fields` is a flat JSON object; `expires`
 *                      NULL: never; `gate`: the kid of the gate that accepted it
 * pep_ledger_erasures  what admins erased: when, by whom, by which conditions (their names alone), how many rows, and
 *                      the times of the oldest and the newest of them
 * pep_ledger_batches   what was written lately, so that a batch whose commit nobody acknowledged is not written twice
 *
 * The indexes of times grow at their end alone. Those by signer and topic cost most of what writing costs: without them
 * each question would read all rows of its time. PostgreSQL takes no more than 2,704 bytes into an index, and a topic
 * may have 65,535: there its beginning stands for it, and what asks for a topic asks for that, too.
 *
 * None has the id at its end: SQLite puts it there by itself, and PostgreSQL sorts rows of one moment when they are
 * asked for. Of an index of nothing but the time PostgreSQL knows that it has the order of the table, and that a range
 * of it is read in one go.
 */
#define LEDGER(ID, BLOB, BOOLEAN, SMALL, ORDERED, JSON, TOPIC)                                                         \
    "CREATE TABLE pep_ledger (id " ID ", time BIGINT NOT NULL, topic " ORDERED " NOT NULL, signer " ORDERED            \
    " NOT NULL, kid " BLOB " NOT NULL, seq BIGINT NOT NULL, size BIGINT NOT NULL, payload BIGINT NOT NULL, qos " SMALL \
    " NOT NULL, retained " BOOLEAN " NOT NULL, fields " JSON " NOT NULL, expires BIGINT, gate " BLOB " NOT NULL);"     \
    "CREATE INDEX pep_ledger_by_time ON pep_ledger (time);"                                                            \
    "CREATE INDEX pep_ledger_by_signer ON pep_ledger (signer, time);"                                                  \
    "CREATE INDEX pep_ledger_by_topic ON pep_ledger (" TOPIC ", time);"                                                \
    "CREATE INDEX pep_ledger_by_expiry ON pep_ledger (expires) WHERE expires IS NOT NULL;"                             \
    "CREATE TABLE pep_ledger_erasures (id " ID ", time BIGINT NOT NULL, author " ORDERED                               \
    " NOT NULL, conditions " ORDERED " NOT NULL, count BIGINT NOT NULL, oldest BIGINT, newest BIGINT);"                \
    "CREATE TABLE pep_ledger_batches (id BIGINT PRIMARY KEY, time BIGINT NOT NULL);"                                   \
    "CREATE INDEX pep_ledger_batches_by_time ON pep_ledger_batches (time)"

static const store_migration migrations[] = {
    {LEDGER("INTEGER PRIMARY KEY AUTOINCREMENT", "BLOB", "BIGINT", "BIGINT", "TEXT", "TEXT", "topic"),
     LEDGER("BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY", "BYTEA", "BOOLEAN", "SMALLINT", "TEXT COLLATE \"C\"",
            "JSONB", LEDGER_TOPIC_BEGINS)},
};

store_schema ledger_schema(bool read_only)
{
    return (store_schema){.name = "pep_ledger_schema",
                          .migrations = migrations,
                          .count = sizeof migrations / sizeof migrations[0],
                          .read_only = read_only};
}
