/*
 * What the commands about the ledger share: their conditions, asking the gate, and what it answers, taken apart. An
 * answer is the gate's word alone: no one signed it.
 */
#ifndef CLIENT_LEDGER_H
#define CLIENT_LEDGER_H

#include "client/session.h"
#include "client/sheet.h"

extern const option ledger_options[];       /* who asks */
extern const option ledger_admin_options[]; /* the same, where only admins may */
extern const option ledger_conditions[];    /* what is meant */

/* ---- options ---- */

/* Looks at the conditions: 0, or 2 after a line. Before all that uses them. */
int ledger_check(void);

/* True where a field can be asked for by this name. */
bool ledger_name_valid(const char *name);

/* A time behind an option: 0, or 2 after a line. */
int ledger_read_time(uint64_t *us, const char *label, const char *text);

/* An id or a filter behind an option, which may be NULL: 0, or 2 after a line. */
int ledger_check_signer(const char *id);
int ledger_check_topic(const char *filter);

/* The conditions in a line for people, times left out; NULL: no memory. To be freed. */
char *ledger_describe(void);

/* A line on stderr, for what came to nothing and is no error. */
void ledger_say_none(void);

/* The form that the flags choose: 0, or 2 after a line. */
int ledger_form(sheet_form *out, bool json, bool csv);

/* Ends what is printed on stdout, where all went well so far: 0, or an exit code after a line. */
int ledger_finish(sheet *s, int code);

/* ---- asking ---- */

/* Opens the session of --key and connects. Zero it before. 0, or an exit code after a line; session_close either way.
 */
int ledger_open(session *s);

/* A command by its name, to be added to; the conditions go into it with ledger_add_conditions. */
cJSON *ledger_command(const char *name);
void ledger_add_conditions(cJSON *asked);

/*
 * Sends the command, which is deleted, and waits up to a minute; where the gate says try-later, a few times more. 0 and
 * the answer's data, for cJSON_Delete, or an exit code after a line. `too_many` (may be NULL): is set where that is the
 * gate's answer, which costs no line then.
 */
int ledger_ask(session *s, cJSON **data, cJSON *asked, bool *too_many);

/* fail, because the answer is none that a gate gives. */
int ledger_malformed(void);

/* ---- rows ---- */

/* Texts and fields are good until the next row. */
typedef struct {
    uint64_t time_us, seq, size, payload;
    const char *topic, *signer, *kid;
    unsigned qos;
    bool retained;
    fields fields;
} ledger_row;

/* What is read, and who takes it: 0, or an exit code that ends it. */
typedef struct {
    uint64_t limit; /* rows */
    bool newest;
    int (*take)(void *owner, const ledger_row *row);
    void *owner;
    bool *left_out; /* may be NULL: is set where more rows than the limit match */
} ledger_reading;

/* Reads the rows that the conditions mean, page by page. 0, or an exit code after a line. */
int ledger_read(session *s, const ledger_reading *what);

#define ROW_COLUMNS 10
extern const column row_columns[ROW_COLUMNS];
void row_cells(cell out[ROW_COLUMNS], const ledger_row *row);

/* ---- groups ---- */

typedef enum { BY_SIGNER, BY_TOPIC, BY_FIELD, BY_SECOND, BY_MINUTE, BY_HOUR, BY_DAY, BY_KINDS } by_kind;

#define BY_MAX 3

/* How rows are grouped: zero it, then add to it. */
typedef struct {
    by_kind at[BY_MAX];
    size_t n;
    const char *field; /* the name, where BY_FIELD is among them */
} ledger_by;

/* Adds what --by says, `signer` or `field:NAME` and so on: 0, or 2 after a line. */
int by_add(ledger_by *by, const char *text);

/* The name in commands, and whether it is a unit of time. */
const char *by_name(by_kind kind);
bool by_is_time(by_kind kind);

/* Texts are good until it is taken. What does not belong to the grouping is 0 or NULL. */
typedef struct {
    uint64_t time_us;
    const char *signer, *topic, *value; /* value NULL: rows without the field */
    uint64_t count, numbers;
    const char *sum, *min, *max; /* decimal_valid; NULL where `numbers` is 0 */
    double avg;
} ledger_group;

/* What is summed, and who takes it: 0, or an exit code that ends it. */
typedef struct {
    const ledger_by *by;
    const char *of; /* a field; NULL: rows are counted */
    int (*take)(void *owner, const ledger_group *group);
    void *owner;
    bool *too_many; /* as for ledger_ask */
} ledger_summing;

/* Sums what the conditions mean. 0, or an exit code after a line. */
int ledger_sum(session *s, const ledger_summing *what);

#endif
