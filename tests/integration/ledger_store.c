#include "ledger_store.h"

#include <sqlite3.h>

postgres_server ledger_server;
bool ledger_on_postgres;
char ledger_database[32];

const char *ledger_conf(const char *conf, const char *option)
{
    static unsigned made;
    static char text[2048];
    char url[POSTGRES_URL_MAX];
    if (!ledger_on_postgres)
        return conf;
    snprintf(ledger_database, sizeof(ledger_database), "ledger%u", made++);
    CU_ASSERT_TRUE_FATAL(postgres_database(&ledger_server, ledger_database));
    postgres_url(url, &ledger_server, ledger_database);
    snprintf(text, sizeof(text), "%splugin_opt_%s %s\n", conf, option, url);
    return text;
}

static long long number_from_file(const broker *b, const char *sql)
{
    sqlite3 *db = NULL;
    sqlite3_stmt *q = NULL;
    CU_ASSERT_EQUAL_FATAL(sqlite3_open_v2(broker_path(b, "state/ledger.db"), &db, SQLITE_OPEN_READONLY, NULL),
                          SQLITE_OK);
    sqlite3_busy_timeout(db, patience_ms());
    CU_ASSERT_EQUAL_FATAL(sqlite3_prepare_v2(db, sql, -1, &q, NULL), SQLITE_OK);
    CU_ASSERT_EQUAL(sqlite3_step(q), SQLITE_ROW);
    long long number = sqlite3_column_int64(q, 0);
    sqlite3_finalize(q);
    sqlite3_close(db);
    return number;
}

long long ledger_number(const broker *b, const char *sql)
{
    return ledger_on_postgres ? postgres_number(&ledger_server, ledger_database, sql) : number_from_file(b, sql);
}

int ledger_run(bool postgres, const char *name, const unit_test *tests, size_t count)
{
    char title[64];
    ledger_on_postgres = postgres;
    snprintf(title, sizeof(title), "%s on %s", name, postgres ? "PostgreSQL" : "SQLite");
    return unit_main(title, tests, count);
}

bool ledger_begin(void)
{
    if (postgres_start(&ledger_server))
        return true;
    printf("%s\n", ledger_server.why);
    return false;
}

void ledger_end(void)
{
    postgres_end(&ledger_server);
}
