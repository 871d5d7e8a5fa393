/*
 * Every way on which bytes come to a topic (a door), tried with every way in which they can be right or wrong (a case
 * of seal.h). doors.c has the one table of what must come of it, which docs/SECURITY.md shows too; passages.c goes
 * through the doors, visit.c tells what came out.
 */
#ifndef DOORS_H
#define DOORS_H

#include "stage.h"

/* Where a case ends otherwise than with its own reason. */
typedef struct {
    const char *name;    /* the case's */
    pep_reason reason;   /* PEP_OK: it passes */
    const char *why_not; /* NULL, or: there is no such case here, because */
} door_exception;

/* Doors at which all cases end alike. */
typedef struct {
    const char *title;
    pep_reason at_the_latest;      /* what stands before all later reasons, and before passing; PEP_OK: nothing */
    bool unguarded;                /* everything passes */
    const char *closed;            /* NULL, or why no case can be tried at all */
    door_exception exceptions[12]; /* ends with name NULL */
} door_column;

typedef struct visit visit;
typedef struct visit_cell visit_cell;

/* How to go through a door. */
typedef struct {
    void (*open)(visit *v);                       /* starts brokers and clients */
    int (*knock)(visit *v, visit_cell *c, int i); /* puts c->sent[i] through; the answer, as client_publish tells it */
    void (*turn)(visit *v);  /* NULL, or what happens behind all knocks: only then it is looked what comes out */
    void (*close)(visit *v); /* ends what `open` started */
    bool answers;            /* `knock` hears of a refusal as `denial` tells */
    const char *client;      /* whom the log names, `*` for anything; NULL: alice */
} door_passage;

typedef enum { ANY_VERSION, BEFORE_2_1, SINCE_2_1 } door_versions;

typedef struct {
    const char *name;
    const door_column *column;
    const door_passage *passage;
    const char *policy; /* NULL: GUARD_POLICY */
    const char *conf;   /* NULL: CONF_GUARDED; for bridges: their topic lines */
    const char *before; /* NULL, or the configuration until the turn */
    const char *prefix; /* what the broker has in front of the signed topic; NULL: nothing */
    const char *says;   /* NULL, or what the log must hold in the end */
    door_versions versions;
    mqtt_version version; /* 0: MQTT_3 */
    int qos;
    unsigned flags;   /* of the envelopes */
    uint32_t delay_s; /* of wills */
    bool retain;
    bool preceded;    /* a valid message comes before each case, and stays retained where that is refused */
    bool may_be_shut; /* some versions of Mosquitto refuse it themselves */
} door;

#define SENT_MAX 3

/* One door tried with one case. */
struct visit_cell {
    const seal_case *k;
    pep_reason expected;
    char client_id[32];    /* wills: of whom they are */
    char signed_topic[32]; /* in the envelope */
    char topic[64];        /* at the broker under test */
    sealed sent[SENT_MAX]; /* the last one is the case, the others must get in before */
    int sent_n;
    int first_due, due_n; /* these of them must come out, in order */
    int arrived;          /* so many did */
    int refusals;         /* lines in the log */
    bool strange;         /* something else came out */
    bool shut;            /* the broker did not let the client in */
};

#define VISIT_CELLS 32

struct visit {
    const door *d;
    stage s;
    upstream up;
    client *from; /* alice; NULL where she does not publish as a client does */
    wire w;       /* or by hand */
    visit_cell cells[VISIT_CELLS];
    size_t n;
    long mark; /* where the log of this visit begins */
};

/* What must come of a case; *why_not: NULL, or why it is not tried. */
pep_reason door_expects(const door_column *column, const seal_case *k, const char **why_not);

/* Goes through a door with each case, and fails the test for each outcome that is not the expected one. */
void visit_door(const door *d);

/* The passages, see passages.c. */
extern const door_passage PUBLISHED, ALIASED, SHARED, AMID_RELOADS, BRIDGED, MOUNTED, RESTORED, RETAINED_BEFORE,
    HELD_BACK, ON_LISTENER, NOT_STARTED, WILL_DROPPED, WILL_TAKEN_OVER, WILL_AFTER_GARBAGE, WILL_ASKED_FOR,
    WILL_AFTER_KICK;

/* Where a client makes itself a nuisance, beside what the door is tried with. */
#define FLOOD_TOPIC "t/flood"

#endif
