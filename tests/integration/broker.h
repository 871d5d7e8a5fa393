/*
 * A real Mosquitto for one test: its own folder, a free port, its log in a file, ended by its pid.
 *
 *   broker b;
 *   broker_make(&b);                                    a folder with records/ and the plugin in it
 *   broker_write(&b, "policy.conf", "...");             files; "@/" in them stands for the folder
 *   broker_write(&b, "mosquitto.conf", CONF_GUARDED);
 *   broker_start(&b);
 *   ...
 *   broker_drop(&b);                                    ends it, fails the test on any report, removes the folder
 *
 * Environment:
 *   PEP_MOSQUITTO   the broker's path (default /usr/sbin/mosquitto)
 *   PEP_PRELOAD     for LD_PRELOAD of the broker: the sanitizers' libraries
 *   PEP_VALGRIND    1: the broker runs under valgrind
 *   PEP_KEEP        1: folders stay, and their names are printed
 *   PEP_PATIENCE    seconds to wait for what should happen at once (default 10, more under the sanitizers)
 *   TMPDIR          where folders are made (default /tmp); the broker's user must reach it
 */
#ifndef BROKER_H
#define BROKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* What every broker here has. Without a `listener` line the port comes from the command line. */
#define CONF_BASE                                                                                                      \
    "allow_anonymous true\n"                                                                                           \
    "log_type all\n"                                                                                                   \
    "log_dest stderr\n"                                                                                                \
    "set_tcp_nodelay true\n"                                                                                           \
    "max_inflight_messages 0\n"

#define CONF_PLUGIN                                                                                                    \
    "plugin @/mosquitto_pep.so\n"                                                                                      \
    "plugin_opt_policy @/policy.conf\n"                                                                                \
    "plugin_opt_records @/records\n"                                                                                   \
    "plugin_opt_state @/state\n"                                                                                       \
    "plugin_opt_sys_interval 1\n"

/* Everything is denied where no ACL source stands behind the plugin. */
#define CONF_ACL     "acl_file @/acl\n"
#define CONF_GUARDED CONF_BASE CONF_PLUGIN CONF_ACL

/* What lets clients do everything that the plugin does not refuse. */
#define ACL_ALL                                                                                                        \
    "pattern readwrite #\n"                                                                                            \
    "pattern read $SYS/#\n"                                                                                            \
    "pattern readwrite $PEP/#\n"                                                                                       \
    "pattern readwrite $CONTROL/#\n"

typedef struct {
    char folder[64];
    int port;
    pid_t pid;     /* 0: not running */
    int pidfd;     /* to wait for its end; -1 behind it */
    int exit_code; /* of the last run; 128 + the signal where one ended it */
    bool as_root;  /* set before broker_start: leave it to the broker to drop root's rights */
    long mark;     /* broker_logged looks behind this offset of the log */
} broker;

/* True where the broker that the tests start is of this version or a later one, as it says itself. */
bool broker_at_least(int major, int minor);

/* How long to wait, in ms, for what should happen at once: more under valgrind and the sanitizers. */
int patience_ms(void);

/* Milliseconds from now to `deadline_ms` of monotonic_ms, at least 0. */
int64_t monotonic_ms(void);
int remaining_ms(int64_t deadline_ms);

/* Makes the folder, an `acl` that allows everything, and the place for records. */
void broker_make(broker *b);

/* The path of `name` in the folder, in a static buffer that lives until the next but three calls. */
const char *broker_path(const broker *b, const char *name);

/* Writes a file whole, readable for the broker. */
void broker_write(const broker *b, const char *name, const char *text);

/* Copies the file `path` to `name` in the folder. */
void broker_copy(const broker *b, const char *name, const char *path);

/* A port that nobody listens on now; 0 where there is none. */
int broker_free_port(void);

/* Starts it and waits until it listens. False where it ended instead: then look at exit_code and broker_logged. */
bool broker_start(broker *b);

/* Ends it as an operator does; fails the test where it does not stop cleanly or something was reported. */
void broker_end(broker *b);

/* kill -9. */
void broker_kill(broker *b);

/* Sends SIGHUP: the broker loads its configuration again. */
void broker_reload(broker *b);

/* broker_end, then the folder is removed. */
void broker_drop(broker *b);

/* Only what is logged from here on counts for broker_logged. */
void broker_mark(broker *b);

/* True where a line of the log behind the mark holds `text`, in which `*` stands for anything. */
bool broker_logged(const broker *b, const char *text);

/* The same, waiting for it. */
bool broker_logs(const broker *b, const char *text);

/* Writes the whole log to stderr. */
void broker_show_log(const broker *b);

/* How many lines behind the mark hold `text`. */
int broker_log_count(const broker *b, const char *text);

#endif
