/* Where tests of the ledger begin: a broker that records, somebody who sends, and somebody who asks. */
#ifndef LEDGER_SCENE_H
#define LEDGER_SCENE_H

#include "ledger_ask.h"

/*
 * Records r/, and as long as there is room must/; brief/ is kept for a second; no/ must not ask for it; seen/ observes
 * and is carol's, shown/ observes and must not ask. Bob is the admin. Nobody is bound, so that any client may bring
 * what anybody sealed.
 */
extern const char SCENE_POLICY[];

typedef struct {
    stage s;
    asker a;
    client *from; /* MQTT 5.0 */
} scene;

/* `option`: "ledger", or "store" for the directory, too (ledger_conf). */
void scene_set(scene *x, const char *option);
void scene_strike(scene *x);

/* The clients alone, around whatever becomes of the broker; and a restart, by kill -9 where `hard`. */
void scene_meet(scene *x);
void scene_part(scene *x);
void scene_restart(scene *x, bool hard);

/* An envelope that asks to have three fields recorded: a text, n, and whether that is even. */
sealed scene_message(const speaker *by, const char *topic, unsigned flags, int64_t n);

/* `from` publishes it, and it arrives; scene_sends makes it first. Or it is refused (stage_refuses). */
bool scene_passes(const scene *x, const char *topic, const sealed *e, int qos, bool retain);
bool scene_sends(const scene *x, const speaker *by, const char *topic, int64_t n);
bool scene_refuses(scene *x, const char *topic, const sealed *e, int qos, pep_reason reason);

/* What bob is told, and what others are. */
bool scene_settles(scene *x);
long scene_count(scene *x, const char *conditions);
pep_reason scene_asks(scene *x, const speaker *by, const char *command);

/* The counter, once it has this value. Whatever else the listener was sent is lost. */
long scene_counter(scene *x, const char *name, long value);

#endif
