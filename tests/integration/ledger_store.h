/* Where the ledger of a test lies: in the broker's folder, or in a database of the one server that a program has. */
#ifndef LEDGER_STORE_H
#define LEDGER_STORE_H

#include "broker.h"
#include "tests/postgres.h"
#include "tests/unit/unit.h"

extern postgres_server ledger_server;
extern bool ledger_on_postgres;
extern char ledger_database[32];

/*
 * `conf`, and where it is PostgreSQL's turn a new database in the option "ledger", or "store" for the directory, too.
 * Valid until the next call.
 */
const char *ledger_conf(const char *conf, const char *option);

/* One number from the database itself, without the broker, in SQL that both know. */
long long ledger_number(const broker *b, const char *sql);

/* Runs tests on SQLite, or on PostgreSQL; what it returns is the exit code. */
int ledger_run(bool postgres, const char *name, const unit_test *tests, size_t count);

/* Around all of them. False where there is no server, with a line that says why. */
bool ledger_begin(void);
void ledger_end(void);

#endif
