/* Everything that is retained under some topic filters, and whether that is really everything. */
#ifndef CLIENT_RETAINED_H
#define CLIENT_RETAINED_H

#include "client/mqtt.h"

/*
 * Mosquitto writes what is retained to the connection at once, and drops without a word what does not fit there and
 * into a queue of max_queued_messages. MQTT has no answer that would tell. What every connection takes at once is taken
 * to be all; with more, the broker's count of dropped messages decides.
 */
#define RETAINED_SURE_MESSAGES 100
#define RETAINED_SURE_BYTES    16384

typedef struct retained retained;
typedef struct waiting_message waiting_message;

struct retained {
    mqtt_link link; /* prepared and connected by the caller; link.owner is this */
    void *owner;
    void (*each)(void *owner, const struct mosquitto_message *m); /* called once for each retained message */
    const option_list *filters;

    bool incomplete; /* the broker dropped messages meanwhile, or does not tell; a line on stderr said so */

    /* its own */
    size_t at; /* the filter that is looked at */
    bool looking, watching;
    uint64_t messages, bytes; /* of this filter */
    bool many;                /* of some filter: more than every connection takes at once */
    waiting_message *first, **last;
    size_t waiting;
    int asked; /* mid of the last packet that waits for its answer */
    uint64_t asked_ms;
    bool answered;
    int denied;            /* reason code of a SUBACK; 0: granted */
    uint64_t progress_ms;  /* when something of use came last */
    uint64_t ticks;        /* how often the broker published its counters */
    char dropped[24];      /* what it said last; "" where it said nothing */
    uint64_t dropped_news; /* how often it said something else */
};

/* Sets the callbacks; after mqtt_prepare, before mqtt_connect. */
void retained_prepare(retained *r);

/*
 * Calls `each` for every retained message that matches a filter, once, and returns when all of them are there: 0, or 3
 * after a line on stderr. Ended by a signal: 3, too. May be called again. What is published meanwhile is left alone.
 */
int retained_look(retained *r);

#endif
