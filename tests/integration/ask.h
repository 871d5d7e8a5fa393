/* Asking a broker's directory over MQTT, as any device does it: statements, commands that carry them, and answers. */
#ifndef ASK_H
#define ASK_H

#include "stage.h"

#include <cjson/cJSON.h>

/* A directory in the state folder, and no folder of the operator's. */
#define CONF_ENROLLING                                                                                                 \
    CONF_BASE                                                                                                          \
    "plugin @/mosquitto_pep.so\n"                                                                                      \
    "plugin_opt_policy @/policy.conf\n"                                                                                \
    "plugin_opt_state @/state\n"                                                                                       \
    "plugin_opt_sys_interval 1\n" CONF_ACL

/* Everybody who is enrolled may speak below t/; no budget, because there are many of them behind one address. */
#define DIRECTORY_TOPICS                                                                                               \
    "topics = ( { filter = \"t/#\"; mode = \"enforce\"; payload = \"encrypted\"; signers = [ \"*\" ]; } );\n"
#define DIRECTORY_POLICY(enroll, more) "enroll = \"" enroll "\"; budget = { rate = 0; };\n" more "\n" DIRECTORY_TOPICS
#define OPEN_POLICY                    DIRECTORY_POLICY("open", "max_records = 100000;")

/* ---- devices ---- */

typedef struct {
    uint8_t bytes[PEP_STATEMENT_BYTES_MAX];
    size_t n;
} statement_bytes;

/* A device, and the end of its chain as it knows it. */
typedef struct {
    speaker who;
    pep_head head;
    statement_bytes newest; /* statement of the chain */
} member;

/* Fresh keys for `id`, and the record to enrol: nobody knows of it yet. */
void member_make(member *m, const char *id);

/* The same device behind a rotation of its signing key; `m` stays what it is. Wipe both. */
void member_turn(member *next, const member *m, uint64_t cutoff);

/* Its revocation, signed with `secret` (NULL: its own). */
statement_bytes member_revocation(const member *m, const uint8_t *secret, uint64_t cutoff);

void member_wipe(member *m);

/* What is served about it, with its certificate (NULL: none). */
sealed entry_of(const statement_bytes *statement, const sealed *certificate);

/* True where this is the statement's, without a certificate. */
bool entry_is(const sealed *entry, const statement_bytes *statement);

/* Seals PLAIN_TEXT for a topic. */
sealed reading_of(const member *m, const char *topic);

/* ---- commands ---- */

/* Somebody who asks, and the gate that is asked. */
typedef struct {
    client *c; /* gets answers, and nothing else */
    uint8_t gate_kid[PEP_KID_BYTES];
} asker;

/* Connects, and learns the gate's kid from what it says of its status. */
void asker_open(asker *a, client_spec spec);
void asker_close(asker *a);

sealed command_seal(const asker *a, const pep_device *from, const char *json);
sealed command_enroll(const asker *a, const member *m, const sealed *certificate, const sealed *proof);
sealed command_rotate(const asker *a, const member *next, const pep_device *from, const sealed *certificate);
sealed command_revoke(const asker *a, const statement_bytes *revocation, const pep_device *from);

/* ---- answers ---- */

#define NO_ANSWER ((pep_reason)-1)

/* Publishes the bytes at QoS 1 and waits: the whole answer, the caller's to cJSON_Delete; NULL: none came. */
cJSON *ask(asker *a, const void *bytes, size_t n);

/* The next answer that comes, as above. */
cJSON *ask_next(asker *a);

/* `error` of the only response in the answer, which it deletes; PEP_OK where there is data. */
pep_reason answer_reason(cJSON *answer);

/* `data` of the only response; NULL: there is none. */
const cJSON *answer_data(const cJSON *answer);

/* Both in one. */
pep_reason ask_reason(asker *a, const sealed *command);
pep_reason ask_text(asker *a, const char *json);

/* Rotates or revokes; where that is acknowledged the member goes on with what is new. */
pep_reason ask_enroll(asker *a, const member *m);
pep_reason ask_rotate(asker *a, member *m, uint64_t cutoff);
pep_reason ask_revoke(asker *a, member *m);

/* The entry that the directory gives for an id, in `out`: PEP_OK, or why there is none. */
pep_reason ask_lookup(asker *a, const char *id, sealed *out);

/* Looks all of these up, `count` of them and at most 640: the lookup's answer as ask_entry takes it, or NULL. */
cJSON *ask_lookup_all(asker *a, const char *const *ids, size_t count);

/* What the answer says of number `i` of them: PEP_OK and the entry in `out`, or why there is none. */
pep_reason ask_entry(const cJSON *answer, size_t i, sealed *out);

/* True where a lookup gives exactly the newest statement of the member. */
bool ask_knows(asker *a, const member *m);

/* The number `name` in the data of a status; -1: none. */
double ask_status_number(asker *a, const char *name);

#endif
