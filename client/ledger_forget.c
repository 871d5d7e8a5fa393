/* pep ledger forget and erasures: what an admin has the ledger erase, and what of that it remembers. */
#include <stdlib.h>
#include <string.h>

#include "client/commands.h"
#include "client/ledger.h"
#include "client/print.h"
#include "envelope/text.h"

#define ERASURES_MAX 1000 /* what a gate gives at most */

static struct {
    const char *signer, *topic, *before;
    uint64_t before_us;
    bool json, csv;
} args;

/* The oldest and the newest row that went; there are none where nothing did. */
typedef struct {
    uint64_t count, from_us, to_us;
} erased;

static bool read_erased(erased *out, const cJSON *item)
{
    if (!number_field(&out->count, item, "count"))
        return false;
    return out->count == 0 || (number_field(&out->from_us, item, "from") && number_field(&out->to_us, item, "to"));
}

/* ---- forget ---- */

static const option forget_options[] = {
    {OPTION_TEXT, 0, false, "signer", &args.signer, "ID", "what this device signed", 0, 0},
    {OPTION_TEXT, 't', false, "topic", &args.topic, "FILTER", "what was on topics that match", 0, 0},
    {OPTION_TEXT, 0, false, "before", &args.before, "TIME", "what was recorded before it: RFC 3339, a date, or 30d ago",
     0, 0},
    {OPTION_FLAG, 0, false, "json", &args.json, NULL, "print JSON", 0, 0},
    {0},
};

static cJSON *make_forget(void)
{
    cJSON *asked = ledger_command("ledger.forget");
    if (args.signer != NULL)
        json_text(asked, "signer", args.signer);
    if (args.topic != NULL)
        json_text(asked, "topic", args.topic);
    if (args.before != NULL)
        json_unsigned(asked, "before", args.before_us);
    return asked;
}

/* Where the bytes of what was erased are now. */
typedef enum { BYTES_GONE, BYTES_READ, BYTES_STAY } remains;

/* Older gates do not say what their store is: then no more is promised than the one that promises least. */
static remains read_remains(const cJSON *data)
{
    const char *kind = text_field(data, "store");
    if (cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(data, "scrubbed")))
        return BYTES_GONE;
    return kind != NULL && strcmp(kind, "sqlite") == 0 ? BYTES_READ : BYTES_STAY;
}

static void print_remains(bool one, remains bytes)
{
    static const char *const texts[] = {
        [BYTES_GONE] = "are overwritten on the broker's disk",
        [BYTES_READ] = "are still on the broker's disk, because somebody is reading there; they go when that ends",
        [BYTES_STAY] = "stay in the database's files for now: see OPERATIONS, Erasing",
    };
    printf("; %s bytes %s\n", one ? "its" : "their", texts[bytes]);
}

static int print_forgotten(const erased *e, remains bytes)
{
    char from[TIME_BYTES];
    char to[TIME_BYTES];
    if (e->count == 0) {
        puts("nothing to forget: no recorded message matches");
        return finish_output();
    }
    if (e->count == 1)
        printf("forgot 1 message, recorded at %s", time_us(from, e->from_us));
    else
        printf("forgot %llu messages, recorded from %s to %s", (unsigned long long)e->count, time_us(from, e->from_us),
               time_us(to, e->to_us));
    print_remains(e->count == 1, bytes);
    return finish_output();
}

static int report_forgotten(const erased *e, remains bytes)
{
    char when[TIME_BYTES];
    if (!args.json)
        return print_forgotten(e, bytes);
    cJSON *object = json_object(NULL, NULL);
    json_unsigned(object, "count", e->count);
    if (e->count > 0) {
        json_text(object, "from", time_us(when, e->from_us));
        json_text(object, "to", time_us(when, e->to_us));
        json_bool(object, "scrubbed", bytes == BYTES_GONE);
    }
    return json_print(object);
}

static int forget(session *s)
{
    cJSON *data;
    erased e = {0};
    int code = ledger_open(s);
    if (code == DONE)
        code = ledger_ask(s, &data, make_forget(), NULL);
    if (code != DONE)
        return code;
    code = read_erased(&e, data) ? report_forgotten(&e, read_remains(data)) : ledger_malformed();
    cJSON_Delete(data);
    return code;
}

static int check_forget(void)
{
    if (args.signer == NULL && args.topic == NULL && args.before == NULL)
        return wrong_usage("give at least one of --signer, --topic and --before");
    int code = ledger_check_signer(args.signer);
    if (code == DONE)
        code = ledger_check_topic(args.topic);
    if (code == DONE && args.before != NULL)
        code = ledger_read_time(&args.before_us, "--before", args.before);
    return code;
}

static int run_forget(void)
{
    int code = check_forget();
    if (code != DONE)
        return code;
    session s = {0};
    code = forget(&s);
    session_close(&s);
    return code;
}

const command ledger_forget_command = {
    "ledger forget",
    "Erases messages from the ledger of a broker, at once and without asking",
    "",
    "For admins. What of the conditions is given must all be so. That something was erased, when, by whom and how\n"
    "much, is remembered: see pep ledger erasures.\n",
    {forget_options, ledger_admin_options, connection_options},
    run_forget,
};

/* ---- erasures ---- */

static const option erasures_options[] = {
    {OPTION_FLAG, 0, false, "json", &args.json, NULL, "print JSON, an object a line", 0, 0},
    {OPTION_FLAG, 0, false, "csv", &args.csv, NULL, "print CSV", 0, 0},
    {0},
};

static const column erasure_columns[] = {
    {"time", COLUMN_LEFT},   {"by", COLUMN_LEFT},   {"criteria", COLUMN_LEFT},
    {"count", COLUMN_RIGHT}, {"from", COLUMN_LEFT}, {"to", COLUMN_LEFT},
};

#define ERASURE_COLUMNS (sizeof(erasure_columns) / sizeof(erasure_columns[0]))

static cell range_cell(const erased *e, uint64_t us)
{
    return e->count > 0 ? (cell){.kind = CELL_TIME, .number = us} : (cell){.kind = CELL_NONE};
}

/* Texts are good until the item is deleted. */
static bool read_erasure(cell row[ERASURE_COLUMNS], const cJSON *item)
{
    uint64_t time_us;
    erased e = {0};
    const char *by = text_field(item, "by");
    const char *criteria = text_field(item, "criteria");
    if (!number_field(&time_us, item, "time") || !read_erased(&e, item) || by == NULL || criteria == NULL)
        return false;
    if (!pep_id_valid(by, strlen(by)) || !pep_utf8_valid((const uint8_t *)criteria, strlen(criteria)))
        return false;
    row[0] = (cell){.kind = CELL_TIME, .number = time_us};
    row[1] = (cell){.kind = CELL_TEXT, .text = by};
    row[2] = (cell){.kind = CELL_TEXT, .text = criteria};
    row[3] = (cell){.kind = CELL_NUMBER, .number = e.count};
    row[4] = range_cell(&e, e.from_us);
    row[5] = range_cell(&e, e.to_us);
    return true;
}

static int take_erasures(sheet *s, const cJSON *list)
{
    const cJSON *item;
    size_t n = 0;
    if (!cJSON_IsArray(list))
        return ledger_malformed();
    cJSON_ArrayForEach(item, list)
    {
        cell row[ERASURE_COLUMNS];
        if (n++ == ERASURES_MAX || !read_erasure(row, item))
            return ledger_malformed();
        sheet_row(s, row);
    }
    return DONE;
}

static int show_erasures(session *s, sheet_form form)
{
    cJSON *data;
    sheet rows;
    int code = ledger_open(s);
    if (code == DONE)
        code = ledger_ask(s, &data, ledger_command("ledger.erasures"), NULL);
    if (code != DONE)
        return code;
    sheet_begin(&rows, form, stdout, erasure_columns, ERASURE_COLUMNS);
    code = take_erasures(&rows, cJSON_GetObjectItemCaseSensitive(data, "erasures"));
    code = ledger_finish(&rows, code);
    cJSON_Delete(data);
    return code;
}

static int run_erasures(void)
{
    sheet_form form;
    int code = ledger_form(&form, args.json, args.csv);
    if (code != DONE)
        return code;
    session s = {0};
    code = show_erasures(&s, form);
    session_close(&s);
    return code;
}

const command ledger_erasures_command = {
    "ledger erasures",
    "Prints what was erased from the ledger of a broker: when, by whom, how much",
    "",
    "For admins. The newest comes first, and no more than 1,000.\n",
    {erasures_options, ledger_admin_options, connection_options},
    run_erasures,
};
