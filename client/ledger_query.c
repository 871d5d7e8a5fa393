/* pep ledger query: the rows of the ledger that conditions mean. Reading them page by page is export's, too. */
#include <stdlib.h>
#include <string.h>

#include "client/commands.h"
#include "client/ledger.h"
#include "client/print.h"

#define LIMIT        100    /* rows, where --limit says nothing */
#define LIMIT_MAX    100000 /* a table is held in memory: for more there is export */
#define PAGE_MAX     1000
#define CURSOR_MAX   1024
#define EMPTY_MAX    8 /* pages without a row, one after the other */
#define KID_TEXT_LEN ((size_t)(2 * PEP_KID_BYTES))

/* ---- a row ---- */

const column row_columns[ROW_COLUMNS] = {
    {"time", COLUMN_LEFT},     {"topic", COLUMN_LEFT},  {"signer", COLUMN_LEFT},   {"kid", COLUMN_HIDDEN},
    {"seq", COLUMN_HIDDEN},    {"size", COLUMN_HIDDEN}, {"payload", COLUMN_RIGHT}, {"qos", COLUMN_RIGHT},
    {"retained", COLUMN_LEFT}, {"fields", COLUMN_LEFT},
};

void row_cells(cell out[ROW_COLUMNS], const ledger_row *row)
{
    const cell cells[ROW_COLUMNS] = {
        {.kind = CELL_TIME, .number = row->time_us},   {.kind = CELL_TEXT, .text = row->topic},
        {.kind = CELL_TEXT, .text = row->signer},      {.kind = CELL_TEXT, .text = row->kid},
        {.kind = CELL_NUMBER, .number = row->seq},     {.kind = CELL_NUMBER, .number = row->size},
        {.kind = CELL_NUMBER, .number = row->payload}, {.kind = CELL_NUMBER, .number = row->qos},
        {.kind = CELL_BOOL, .yes = row->retained},     {.kind = CELL_FIELDS, .fields = &row->fields},
    };
    memcpy(out, cells, sizeof(cells));
}

static bool read_texts(ledger_row *out, const cJSON *item)
{
    out->topic = text_field(item, "topic");
    out->signer = text_field(item, "signer");
    out->kid = text_field(item, "kid");
    if (out->topic == NULL || out->signer == NULL || out->kid == NULL)
        return false;
    return pep_topic_valid(out->topic, strlen(out->topic)) && pep_id_valid(out->signer, strlen(out->signer)) &&
           strlen(out->kid) == KID_TEXT_LEN && strspn(out->kid, "0123456789abcdef") == KID_TEXT_LEN;
}

static bool read_numbers(ledger_row *out, const cJSON *item)
{
    uint64_t qos;
    if (!number_field(&out->time_us, item, "time") || !number_field(&out->seq, item, "seq") ||
        !number_field(&out->size, item, "size") || !number_field(&out->payload, item, "payload") ||
        !number_field(&qos, item, "qos") || qos > 2)
        return false;
    out->qos = (unsigned)qos;
    return true;
}

static bool read_row(ledger_row *out, const cJSON *item)
{
    const cJSON *retained = cJSON_GetObjectItemCaseSensitive(item, "retained");
    const char *text = text_field(item, "fields");
    out->retained = cJSON_IsTrue(retained);
    return cJSON_IsBool(retained) && text != NULL && fields_parse(&out->fields, text) && read_texts(out, item) &&
           read_numbers(out, item);
}

/* ---- pages ---- */

typedef struct {
    session *session;
    const ledger_reading *what;
    uint64_t left;
    unsigned empty; /* how many pages in a row were */
    char cursor[CURSOR_MAX + 1];
    bool more;
} paging;

static cJSON *make_query(const paging *p)
{
    cJSON *asked = ledger_command("ledger.query");
    ledger_add_conditions(asked);
    if (p->what->newest)
        json_bool(asked, "newest", true);
    json_unsigned(asked, "count", p->left < PAGE_MAX ? p->left : PAGE_MAX);
    if (p->cursor[0] != '\0')
        json_text(asked, "after", p->cursor);
    return asked;
}

static int take_rows(paging *p, const cJSON *rows)
{
    static ledger_row row; /* too large for a stack */
    const cJSON *item;
    int code = DONE;
    uint64_t asked = p->left < PAGE_MAX ? p->left : PAGE_MAX;
    cJSON_ArrayForEach(item, rows)
    {
        if (asked-- == 0 || !read_row(&row, item))
            return ledger_malformed();
        p->left--;
        code = p->what->take(p->what->owner, &row);
        if (code != DONE)
            return code;
    }
    return DONE;
}

/* Where it went on: what stays where it is, or gives no rows for long, would never end. */
static int move_on(paging *p, const cJSON *data, bool empty)
{
    const cJSON *next = cJSON_GetObjectItemCaseSensitive(data, "next");
    p->more = next != NULL && p->left > 0;
    if (next != NULL && p->left == 0 && p->what->left_out != NULL)
        *p->what->left_out = true;
    if (!p->more)
        return DONE;
    const char *cursor = cJSON_GetStringValue(next);
    p->empty = empty ? p->empty + 1 : 0;
    if (cursor == NULL || cursor[0] == '\0' || strlen(cursor) > CURSOR_MAX || strcmp(cursor, p->cursor) == 0 ||
        p->empty > EMPTY_MAX)
        return ledger_malformed();
    (void)snprintf(p->cursor, sizeof(p->cursor), "%s", cursor);
    return DONE;
}

static int read_page(paging *p)
{
    cJSON *data;
    int code = ledger_ask(p->session, &data, make_query(p), NULL);
    if (code != DONE)
        return code;
    const cJSON *rows = cJSON_GetObjectItemCaseSensitive(data, "rows");
    code = cJSON_IsArray(rows) ? take_rows(p, rows) : ledger_malformed();
    if (code == DONE)
        code = move_on(p, data, rows->child == NULL);
    cJSON_Delete(data);
    return code;
}

int ledger_read(session *s, const ledger_reading *what)
{
    paging p = {.session = s, .what = what, .left = what->limit};
    int code;
    do
        code = read_page(&p);
    while (code == DONE && p.more);
    return code;
}

/* ---- the command ---- */

static struct {
    option_number limit;
    bool newest, json, csv;
} args;

static const option options[] = {
    {OPTION_FLAG, 0, false, "newest", &args.newest, NULL, "the newest first", 0, 0},
    {OPTION_NUMBER, 0, false, "limit", &args.limit, "N", "no more rows than that (default: 100)", 1, LIMIT_MAX},
    {OPTION_FLAG, 0, false, "json", &args.json, NULL, "print JSON, an object a line", 0, 0},
    {OPTION_FLAG, 0, false, "csv", &args.csv, NULL, "print CSV", 0, 0},
    {0},
};

typedef struct {
    sheet rows;
    uint64_t limit, printed;
    bool left_out;
} querying;

static int take_row(void *owner, const ledger_row *row)
{
    querying *q = owner;
    cell cells[ROW_COLUMNS];
    row_cells(cells, row);
    sheet_row(&q->rows, cells);
    q->printed++;
    return DONE;
}

/* Else a hundred rows look like all there are, and none like a command that did nothing. */
static void tell_extent(const querying *q)
{
    if (q->left_out)
        warn("only the %s %llu: there are more; see --limit, --newest and 'pep ledger export'",
             args.newest ? "newest" : "oldest", (unsigned long long)q->limit);
    else if (q->printed == 0)
        ledger_say_none();
}

static int query(session *s, sheet_form form)
{
    querying q = {.limit = args.limit.given ? args.limit.value : LIMIT};
    const ledger_reading what = {
        .limit = q.limit, .newest = args.newest, .take = take_row, .owner = &q, .left_out = &q.left_out};
    int code = ledger_open(s);
    if (code != DONE)
        return code;
    sheet_begin(&q.rows, form, stdout, row_columns, ROW_COLUMNS);
    code = ledger_finish(&q.rows, ledger_read(s, &what));
    if (code == DONE)
        tell_extent(&q);
    return code;
}

static int run(void)
{
    sheet_form form;
    int code = ledger_form(&form, args.json, args.csv);
    if (code == DONE)
        code = ledger_check();
    if (code != DONE)
        return code;
    session s = {0};
    code = query(&s, form);
    session_close(&s);
    return code;
}

const command ledger_query_command = {
    "ledger query",
    "Prints the messages that the ledger of a broker has recorded",
    "",
    "Admins of the broker's policy see all of it, other devices their own messages. A table leaves out kid, seq and\n"
    "size. Nothing of it is signed: it is the word of the broker.\n",
    {options, ledger_conditions, ledger_options, connection_options},
    run,
};
