/* What the plugin's files share. */
#ifndef PLUGIN_PLUGIN_H
#define PLUGIN_PLUGIN_H

#include "directory/directory.h"
#include "gate/gate.h"
#include "ledger/ledger.h"
#include "plugin/broker.h"
#include "plugin/notices.h"

/* ---- options.c: the lines plugin_opt_* of mosquitto.conf ---- */

#define SYS_INTERVAL_S     10 /* Mosquitto's own default */
#define SYS_INTERVAL_MAX_S 65535

typedef struct {
    const char *policy;      /* the policy file */
    const char *records;     /* folder of .pub files; NULL: none */
    const char *state;       /* folder of the replay state, the gate's key and, unless told otherwise, the store */
    const char *store;       /* where the directory is kept; NULL: in the state folder */
    const char *ledger;      /* where the ledger is kept; NULL: in the same PostgreSQL, or in the state folder */
    unsigned sys_interval_s; /* between two publications of the counters; 0: never */
    bool sys_interval_given;
} plugin_options;

/* Fills `out` with pointers into `given`. False, and one line in `error`, for an option that is unknown, given twice,
 * missing, or has a value that it cannot have. */
bool options_parse(plugin_options *out, gate_error *error, const struct mosquitto_opt *given, int count);

/* ---- report.c: what operators see ---- */

#define REPORT_CLIENTS      16
#define REPORT_CLIENT_BYTES 64
#define REPORT_TOPIC_BYTES  128

/* One client, and what was refused of it last. */
typedef struct {
    char id[REPORT_CLIENT_BYTES];
    char username[REPORT_CLIENT_BYTES];
    char signer[REPORT_CLIENT_BYTES + 1];
    char topic[REPORT_TOPIC_BYTES];
    uint64_t refused;
} report_client;

typedef struct {
    unsigned sys_interval_s;
    uint64_t next_counters_ms; /* CLOCK_MONOTONIC, as all here */
    uint64_t next_look_ms;
    uint64_t next_warning_ms;
    uint64_t next_sync_ms;
    bool published_once;
    gate_counters published; /* as last published */
    notice_counters notices_published;
    directory_counters directory_published;
    ledger_counters ledger_published;
    gate_counters warned;                  /* as last told in a warning */
    report_client clients[REPORT_CLIENTS]; /* those refused most since that warning */
} report;

/* One refused or observed message: a line at debug level, and a place in the next warning. */
void report_refusal(report *r, const gate_message *m, const gate_verdict *verdict);

/* Called on each tick: counters, at their interval; a warning, at most once a minute; the state, every 5 s. */
void report_tick(report *r, gate *g, directory *d, const ledger *l, const notice_counters *told);

/* Told at debug level: Mosquitto itself tells of the disconnection. */
void report_kick(const char *client_id);

/* Warnings where rules or records are such that nothing is protected, nobody can speak, or somebody soon cannot. */
void report_concerns(const gate *g, directory *d);

/* The line at a reload, and report_concerns. */
void report_reload(const gate *g, directory *d, gate_reload_result result, const char *error);

/* The line at the start, and report_concerns. */
void report_start(const gate *g, directory *d, const plugin_options *options);

/* ---- events.c: from Mosquitto's events to the gate ---- */

typedef struct {
    mosquitto_plugin_id_t *id;
    char *policy_path;
    gate *gate;
    directory *directory;
    ledger *ledger;
    bool closing;      /* nothing may be published any more */
    bool reloading;    /* in the directory's thread */
    bool reload_again; /* asked for meanwhile */
    report report;
    notices *notices;
} plugin;

/* One refused or observed message: told to operators and, where it was its own, to its sender. */
void events_tell(plugin *p, const gate_message *m, const gate_verdict *verdict);

/* Registers all callbacks, or none (an error code of Mosquitto's). */
int events_register(plugin *p);
void events_unregister(plugin *p);

/* ---- control.c: between the broker and the directory ---- */

/* Opens the policy, directory and gate. False, and one line in `error`. */
bool control_open(plugin *p, gate_error *error, const plugin_options *options);
void control_close(plugin *p);

/* A message on the control topic. Its answer comes on a later tick. */
int control_on_command(int event, void *event_data, void *userdata);

/* On each tick, where no verdict is kept: what the directory has done. True: it goes on at once. */
bool control_tick(plugin *p);

/* Reads policy and records again, in the directory's thread; told when that is done. */
void control_reload(plugin *p);

/* One line for the log, as the directory and the ledger say it. `ctx` is not used. */
void control_log(void *ctx, char level, const char *line);

/* ---- recording.c: between the gate, the directory and the ledger ---- */

/* Opens the ledger. False, and one line in `error`. Behind the directory; closed before it, so that it can answer. */
bool recording_open(plugin *p, gate_error *error, const plugin_options *options);

/* Hooks of the gate and of the directory; ctx is the plugin. */
void recording_take(void *ctx, const gate_record *r);
bool recording_has_room(void *ctx);
void recording_ask(void *ctx, directory_request *request);

#endif
