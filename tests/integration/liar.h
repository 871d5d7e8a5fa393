/*
 * A broker that lies to the pep tool: it serves what it likes under $PEP and answers what it likes, or nothing. And the
 * tool, run in a folder of its own, while the broker takes its turns.
 */
#ifndef LIAR_H
#define LIAR_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <sys/types.h>

#include "pep.h"

#define LIAR_PEERS    8
#define LIAR_RETAINED 256

typedef struct {
    uint8_t p[PEP_ENTRY_BYTES_MAX];
    size_t n;
} bytes;

typedef struct {
    int fd;
    uint8_t in[1 << 17];
    size_t n;
    bool listens;
} liar_peer;

typedef struct {
    int listener, port;
    liar_peer peers[LIAR_PEERS];
    struct {
        char topic[128];
        bytes payload;
    } retained[LIAR_RETAINED];
    size_t retained_count;
    size_t published;                       /* what was not for $CONTROL */
    size_t asked;                           /* commands */
    cJSON *(*answer)(const cJSON *command); /* data or an error; NULL: nothing is answered */
} liar_broker;

extern liar_broker liar;

/* A folder with from/ and the device `me` in it, where everything is done; and the broker. */
void liar_enter(void);
void liar_leave(void);

/* One turn: what came is answered. */
void liar_turn(void);

/* To everybody who has subscribed, to whatever it was; and what is there for those who subscribe to `topic` + `id`. */
void liar_tell(const char *topic, const void *payload, size_t n, bool retain);
void liar_retain(const char *topic, const char *id, bytes payload);

/* An answer that is an error; and what a command says. */
cJSON *liar_error(const char *name);
const char *liar_word(const cJSON *command, const char *name);
bool liar_is(const cJSON *command, const char *name);

/* Runs `pep WORDS`, where % stands for the connection, with its output in out and err; and waits for its end. */
pid_t liar_start(const char *words);
int liar_end(pid_t child);
void liar_stop(pid_t child);

/* Both at once: fails the test where the code is another, or `text` is in neither. */
void liar_expect(int code, const char *words, const char *text);

/* What a file holds; how often a text is in it; and whether it comes to be so, in time. */
char *liar_content(const char *path);
size_t liar_count(const char *path, const char *text);
bool liar_comes(const char *path, const char *text, size_t times);

#endif
