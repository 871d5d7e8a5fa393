/*
 * bench_postgres: a real PostgreSQL in a temporary folder, as tests have it. For each line of standard input it makes
 * an empty database and prints its URL; it ends with its input.
 */
#include "tests/postgres.h"

#include <signal.h>
#include <stdio.h>

static int serve(postgres_server *server)
{
    char line[64];
    char name[32];
    char url[POSTGRES_URL_MAX];
    for (unsigned i = 0; fgets(line, sizeof line, stdin) != NULL; i++) {
        snprintf(name, sizeof name, "bench%u", i);
        if (!postgres_database(server, name)) {
            fprintf(stderr, "bench_postgres: %s\n", server->why);
            return 3;
        }
        postgres_url(url, server, name);
        puts(url);
        fflush(stdout);
    }
    return 0;
}

int main(void)
{
    static postgres_server server;
    if (!postgres_start(&server)) {
        fprintf(stderr, "bench_postgres: %s\n", server.why);
        return 3;
    }
    int code = serve(&server);
    postgres_end(&server);
    return code;
}
