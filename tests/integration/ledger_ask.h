/* The ledger as devices and admins see it: sealed questions over MQTT, and their answers. */
#ifndef LEDGER_ASK_H
#define LEDGER_ASK_H

#include "ask.h"

/* One command, sealed. */
sealed ledger_command(const asker *a, const speaker *by, const char *command);

/* Sends it: the whole answer, the caller's to cJSON_Delete; or what the answer says. */
cJSON *ledger_ask(asker *a, const speaker *by, const char *command);
pep_reason ledger_reason(asker *a, const speaker *by, const char *command);

/* A list in an answer's data, and numbers and texts in what it lists; -1 and "" where there are none. */
const cJSON *ledger_list(const cJSON *answer, const char *name);
double number_in(const cJSON *object, const char *name);
const char *text_in(const cJSON *object, const char *name);

/* How many rows there are under the conditions ("" or members of the command, such as "\"topic\":\"a\""); -1: none. */
long ledger_count(asker *a, const speaker *by, const char *conditions);

/* The same, once there are at least so many. */
long ledger_reaches(asker *a, const speaker *by, const char *conditions, long count);

/*
 * True once all is written that was to be recorded until now: an erasure, here of nothing, comes behind it. The store
 * must be there.
 */
bool ledger_settles(asker *a, const speaker *admin);

#endif
