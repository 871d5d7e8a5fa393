/*
 * A PostgreSQL server of a test's own: Debian's package, in a folder of its own, on a free port of 127.0.0.1 and on a
 * socket in the folder, as a user who is not root. It ends with the thread that started it, whatever happens to that.
 */
#ifndef POSTGRES_H
#define POSTGRES_H

#include <stdbool.h>
#include <sys/types.h>

typedef struct {
    char folder[128];
    char bin[128];  /* where postgres and initdb lie */
    int port;       /* stays the same when it is started again */
    pid_t pid;      /* 0: it does not run */
    char why[1024]; /* one line, when a function returned false */
} postgres_server;

/* Makes a cluster and starts it. False with `why`; there is nothing to end then. */
bool postgres_start(postgres_server *p);

/* Stops the server (SIGINT: open connections are closed, all is on disk; SIGKILL: as a power cut). Keeps its data. */
void postgres_stop(postgres_server *p, int signal);

/* Starts what was stopped. */
bool postgres_again(postgres_server *p);

/* Lets all its processes stand still, or go on. */
void postgres_freeze(postgres_server *p, bool on);

/* Stops it, and removes the folder. */
void postgres_end(postgres_server *p);

#define POSTGRES_PASSWORD "open/sesame@1" /* of role pep, who may do everything. Asked for on the port only. */
#define POSTGRES_URL_MAX  512

/* The URL of a database on the port, or on the socket. */
void postgres_url(char out[POSTGRES_URL_MAX], const postgres_server *p, const char *database);
void postgres_socket_url(char out[POSTGRES_URL_MAX], const postgres_server *p, const char *database);

/* Runs SQL in a database, as role pep. */
bool postgres_sql(postgres_server *p, const char *database, const char *sql);

/* Runs SQL that gives one number. -1: it did not. */
long long postgres_number(postgres_server *p, const char *database, const char *sql);

/* A database of that name, empty. `postgres` is there from the start. */
bool postgres_database(postgres_server *p, const char *database);

#endif
