/* pep ledger sum: how many messages there are, and what their fields add up to. Asking for that is plot's, too. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "client/commands.h"
#include "client/ledger.h"
#include "client/print.h"
#include "envelope/text.h"

#define GROUPS_MAX 5000 /* what a gate gives at most */

/* ---- by what ---- */

static const struct {
    const char *name;
    bool is_time;
} kinds[BY_KINDS] = {
    [BY_SIGNER] = {"signer", false}, [BY_TOPIC] = {"topic", false},  [BY_FIELD] = {"field", false},
    [BY_SECOND] = {"second", true},  [BY_MINUTE] = {"minute", true}, [BY_HOUR] = {"hour", true},
    [BY_DAY] = {"day", true},
};

const char *by_name(by_kind kind)
{
    return kinds[kind].name;
}

bool by_is_time(by_kind kind)
{
    return kinds[kind].is_time;
}

static bool has(const ledger_by *by, by_kind kind)
{
    for (size_t i = 0; i < by->n; i++)
        if (by->at[i] == kind)
            return true;
    return false;
}

static bool has_time(const ledger_by *by)
{
    for (size_t i = 0; i < by->n; i++)
        if (by_is_time(by->at[i]))
            return true;
    return false;
}

static int add_kind(ledger_by *by, by_kind kind)
{
    if (has(by, kind))
        return wrong_usage("--by %s: given twice", by_name(kind));
    if (by_is_time(kind) && has_time(by))
        return wrong_usage("--by %s: one unit of time is enough", by_name(kind));
    if (by->n == BY_MAX)
        return wrong_usage("--by: at most %d", BY_MAX);
    by->at[by->n++] = kind;
    return DONE;
}

int by_add(ledger_by *by, const char *text)
{
    static const char prefix[] = "field:";
    if (strncmp(text, prefix, sizeof(prefix) - 1) == 0) {
        by->field = text + sizeof(prefix) - 1;
        if (!ledger_name_valid(by->field))
            return wrong_usage("--by '%.80s': is no name of a field", text);
        return add_kind(by, BY_FIELD);
    }
    for (by_kind kind = 0; kind < BY_KINDS; kind++)
        if (kind != BY_FIELD && strcmp(text, by_name(kind)) == 0)
            return add_kind(by, kind);
    return wrong_usage("--by '%.80s': is none of signer, topic, second, minute, hour, day and field:NAME", text);
}

/* ---- a group ---- */

static bool read_decimal(const char **out, const cJSON *item, const char *name)
{
    *out = text_field(item, name);
    return *out != NULL && decimal_valid(*out);
}

/* What was asked for must be there, and what was not counts for nothing. */
static bool read_keys(ledger_group *out, const ledger_by *by, const cJSON *item)
{
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(item, "value");
    if (has_time(by) && !number_field(&out->time_us, item, "time"))
        return false;
    out->signer = has(by, BY_SIGNER) ? text_field(item, "signer") : NULL;
    out->topic = has(by, BY_TOPIC) ? text_field(item, "topic") : NULL;
    out->value = has(by, BY_FIELD) ? cJSON_GetStringValue(value) : NULL;
    if (has(by, BY_SIGNER) && (out->signer == NULL || !pep_id_valid(out->signer, strlen(out->signer))))
        return false;
    if (has(by, BY_TOPIC) && (out->topic == NULL || !pep_topic_valid(out->topic, strlen(out->topic))))
        return false;
    if (has(by, BY_FIELD) && out->value == NULL)
        return cJSON_IsNull(value);
    return out->value == NULL || pep_utf8_valid((const uint8_t *)out->value, strlen(out->value));
}

static bool read_numbers(ledger_group *out, const char *of, const cJSON *item)
{
    const cJSON *avg = cJSON_GetObjectItemCaseSensitive(item, "avg");
    if (!number_field(&out->count, item, "count"))
        return false;
    if (of == NULL)
        return true;
    if (!number_field(&out->numbers, item, "numbers") || out->numbers > out->count)
        return false;
    if (out->numbers == 0)
        return true;
    if (!cJSON_IsNumber(avg) || !isfinite(avg->valuedouble))
        return false;
    out->avg = avg->valuedouble;
    return read_decimal(&out->sum, item, "sum") && read_decimal(&out->min, item, "min") &&
           read_decimal(&out->max, item, "max");
}

/* ---- asking ---- */

static cJSON *make_sum(const ledger_by *by, const char *of)
{
    cJSON *asked = ledger_command("ledger.sum");
    ledger_add_conditions(asked);
    if (of != NULL)
        json_text(asked, "of", of);
    cJSON *list = by->n > 0 ? json_array(asked, "by") : NULL;
    for (size_t i = 0; i < by->n; i++)
        json_append(list, by_name(by->at[i]));
    if (by->field != NULL)
        json_text(asked, "byField", by->field);
    return asked;
}

static int take_groups(const cJSON *groups, const ledger_summing *what)
{
    const cJSON *item;
    size_t n = 0;
    cJSON_ArrayForEach(item, groups)
    {
        ledger_group group = {0};
        if (n++ == GROUPS_MAX || !read_keys(&group, what->by, item) || !read_numbers(&group, what->of, item))
            return ledger_malformed();
        int code = what->take(what->owner, &group);
        if (code != DONE)
            return code;
    }
    return DONE;
}

int ledger_sum(session *s, const ledger_summing *what)
{
    cJSON *data;
    int code = ledger_ask(s, &data, make_sum(what->by, what->of), what->too_many);
    if (code != DONE)
        return code;
    const cJSON *groups = cJSON_GetObjectItemCaseSensitive(data, "groups");
    code = cJSON_IsArray(groups) ? take_groups(groups, what) : ledger_malformed();
    cJSON_Delete(data);
    return code;
}

/* ---- the command ---- */

static struct {
    const char *of;
    option_list by;
    bool json, csv;
} args;

static const option options[] = {
    {OPTION_TEXT, 0, false, "of", &args.of, "NAME", "a field whose whole numbers are summed", 0, 0},
    {OPTION_LIST, 0, false, "by", &args.by, "WHAT", "signer, topic, second, minute, hour, day or field:NAME", 0, 0},
    {OPTION_FLAG, 0, false, "json", &args.json, NULL, "print JSON, an object a line", 0, 0},
    {OPTION_FLAG, 0, false, "csv", &args.csv, NULL, "print CSV", 0, 0},
    {0},
};

#define NUMBERS_MAX 6 /* count, and those of a field */

typedef struct {
    ledger_by by;
    column columns[BY_MAX + NUMBERS_MAX];
    size_t width;
    sheet sheet;
    bool matched; /* there is a group */
} summing;

static void add_column(summing *sum, const char *name, unsigned look)
{
    sum->columns[sum->width++] = (column){name, look};
}

static void add_columns(summing *sum)
{
    for (size_t i = 0; i < sum->by.n; i++) {
        by_kind kind = sum->by.at[i];
        add_column(sum, by_is_time(kind) ? "time" : kind == BY_FIELD ? "value" : by_name(kind), COLUMN_LEFT);
    }
    add_column(sum, "count", COLUMN_RIGHT);
    if (args.of == NULL)
        return;
    static const char *const names[] = {"numbers", "sum", "min", "max", "avg"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        add_column(sum, names[i], COLUMN_RIGHT);
}

static cell text_cell(const char *text)
{
    return text != NULL ? (cell){.kind = CELL_TEXT, .text = text} : (cell){.kind = CELL_NONE};
}

static cell decimal_cell(const char *text)
{
    return text != NULL ? (cell){.kind = CELL_DECIMAL, .text = text} : (cell){.kind = CELL_NONE};
}

static cell key_cell(const ledger_group *group, by_kind kind)
{
    if (by_is_time(kind))
        return (cell){.kind = CELL_SECOND, .number = group->time_us};
    return text_cell(kind == BY_SIGNER ? group->signer : kind == BY_TOPIC ? group->topic : group->value);
}

static int take_group(void *owner, const ledger_group *group)
{
    summing *sum = owner;
    cell row[BY_MAX + NUMBERS_MAX];
    size_t n = 0;
    for (; n < sum->by.n; n++)
        row[n] = key_cell(group, sum->by.at[n]);
    row[n++] = (cell){.kind = CELL_NUMBER, .number = group->count};
    if (args.of != NULL) {
        row[n++] = (cell){.kind = CELL_NUMBER, .number = group->numbers};
        row[n++] = decimal_cell(group->sum);
        row[n++] = decimal_cell(group->min);
        row[n++] = decimal_cell(group->max);
        row[n++] = group->numbers > 0 ? (cell){.kind = CELL_REAL, .real = group->avg} : (cell){.kind = CELL_NONE};
    }
    sheet_row(&sum->sheet, row);
    sum->matched = true;
    return DONE;
}

static int sum_up(session *s, summing *sum, sheet_form form)
{
    int code = ledger_open(s);
    if (code != DONE)
        return code;
    const ledger_summing what = {.by = &sum->by, .of = args.of, .take = take_group, .owner = sum};
    add_columns(sum);
    sheet_begin(&sum->sheet, form, stdout, sum->columns, sum->width);
    code = ledger_finish(&sum->sheet, ledger_sum(s, &what));
    if (code == DONE && !sum->matched)
        ledger_say_none();
    return code;
}

static int check(summing *sum, sheet_form *form)
{
    int code = ledger_form(form, args.json, args.csv);
    if (code == DONE)
        code = ledger_check();
    if (code == DONE && args.of != NULL && !ledger_name_valid(args.of))
        code = wrong_usage("--of '%.80s': is no name of a field", args.of);
    for (size_t i = 0; i < args.by.n && code == DONE; i++)
        code = by_add(&sum->by, args.by.at[i]);
    return code;
}

static int run(void)
{
    summing sum = {0};
    sheet_form form;
    int code = check(&sum, &form);
    if (code != DONE)
        return code;
    session s = {0};
    code = sum_up(&s, &sum, form);
    session_close(&s);
    return code;
}

const command ledger_sum_command = {
    "ledger sum",
    "Counts the messages that the ledger has recorded, and sums a field of them",
    "",
    "--by may be given again: each once, one field at most, one unit of time at most. There are 5,000 groups at most.\n"
    "Only whole numbers are summed: record tenths of a degree as temp=215, and not temp=21.5.\n",
    {options, ledger_conditions, ledger_options, connection_options},
    run,
};
