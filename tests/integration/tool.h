/* The pep tool in tests: run in a folder of its own, against a broker of its own. */
#ifndef TOOL_H
#define TOOL_H

#include <stdbool.h>
#include <sys/types.h>

#include "broker.h"

#define TOOL_POLICY(enroll)                                                                                            \
    "enroll = \"" enroll "\"; max_records = 1000; bind = \"none\"; admins = [ \"admin\" ];\n"                          \
    "topics = ( { filter = \"t/#\"; payload = \"encrypted\"; signers = [ \"*\" ]; } );\n"
#define TOOL_CONF                                                                                                      \
    CONF_BASE "plugin @/mosquitto_pep.so\nplugin_opt_policy @/policy.conf\nplugin_opt_state @/state\n" CONF_ACL

extern broker tool_broker;
extern char tool_out[1 << 16], tool_err[1 << 16]; /* of the last run */

/* A folder with a/ and b/ in it, where everything is done; and a broker, where `policy` is not NULL. */
void tool_enter(const char *policy);
void tool_leave(void);
void tool_start_broker(const char *policy, const char *conf);

/* Runs `pep WORDS`, where "%" stands for the connection: the exit code, or -1. */
int tool_run(const char *words);

/* The same; fails the test where the code is another, or `text` (may be NULL) is not in stdout, or in stderr if not 0.
 */
void tool_expect(int code, const char *words, const char *text);

/* `pep WORDS` in the background, with its output in sub.out and sub.err; and the end of it. */
pid_t tool_listen(const char *words);
void tool_stop(pid_t child);

/* Runs a line of shell in the folder. */
void tool_shell(const char *line);

/* Whether the file holds the text, in time; whether two hold the same; whether there is one. */
bool tool_holds(const char *path, const char *text);
bool tool_same(const char *a, const char *b);
bool tool_exists(const char *path);

#endif
