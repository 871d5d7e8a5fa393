/* pep ledger export: all rows that conditions mean, to a file that appears when it is complete, or to stdout. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/commands.h"
#include "client/io.h"
#include "client/ledger.h"
#include "client/print.h"

#define TELL_MS 250 /* the progress, no more often */

static struct {
    const char *out;
    bool json, csv, progress;
} args;

static const option options[] = {
    {OPTION_FLAG, 0, false, "json", &args.json, NULL, "JSON, an object a line (the default)", 0, 0},
    {OPTION_FLAG, 0, false, "csv", &args.csv, NULL, "CSV", 0, 0},
    {OPTION_TEXT, 'o', false, "out", &args.out, "FILE", "a new file, or - for standard output (the default)", 0, 0},
    {OPTION_FLAG, 0, false, "progress", &args.progress, NULL, "tell the progress, also where stderr is no terminal", 0,
     0},
    {0},
};

typedef struct {
    session session;
    sheet rows;
    FILE *out;
    new_file file;
    uint64_t done, expected;
    bool tells;
    uint64_t told_ms;
} exporting;

/* ---- the progress ---- */

static void tell(exporting *e)
{
    tell_progress("exported %llu of %llu rows", (unsigned long long)e->done, (unsigned long long)e->expected);
    e->told_ms = mqtt_now_ms();
}

static int take_count(void *owner, const ledger_group *group)
{
    ((exporting *)owner)->expected += group->count;
    return DONE;
}

static int count_rows(exporting *e)
{
    const ledger_by nothing = {.n = 0};
    const ledger_summing what = {.by = &nothing, .take = take_count, .owner = e};
    int code = ledger_sum(&e->session, &what);
    if (code == DONE)
        tell(e);
    return code;
}

/* What is recorded meanwhile is exported, too. */
static int take_row(void *owner, const ledger_row *row)
{
    exporting *e = owner;
    cell cells[ROW_COLUMNS];
    row_cells(cells, row);
    sheet_row(&e->rows, cells);
    e->done++;
    if (e->done > e->expected)
        e->expected = e->done;
    if (e->tells && mqtt_now_ms() >= e->told_ms + TELL_MS)
        tell(e);
    return ferror(e->out) == 0 ? DONE : OUT_OF_REACH;
}

/* ---- the rows ---- */

static int write_rows(exporting *e)
{
    const ledger_reading what = {.limit = UINT64_MAX, .take = take_row, .owner = e};
    e->tells = args.progress || isatty(STDERR_FILENO) != 0;
    int code = ledger_open(&e->session);
    if (code == DONE && e->tells)
        code = count_rows(e);
    if (code != DONE)
        return code;
    sheet_begin(&e->rows, args.csv ? FORM_CSV : FORM_JSON, e->out, row_columns, ROW_COLUMNS);
    code = ledger_read(&e->session, &what);
    int end = sheet_end(&e->rows);
    if (e->tells && code == DONE)
        tell(e);
    end_progress();
    return code == DONE ? end : code;
}

static int fail_write(void)
{
    return fail(OUT_OF_REACH, "cannot write to %s: %s", args.out != NULL ? args.out : "standard output",
                strerror(errno));
}

static int flush(const exporting *e)
{
    bool written = fflush(e->out) == 0 && ferror(e->out) == 0 && (args.out == NULL || fsync(fileno(e->out)) == 0);
    return written ? DONE : fail_write();
}

static int fill(exporting *e)
{
    int code = write_rows(e);
    int end = flush(e);
    return code == DONE ? end : code;
}

static int report(const exporting *e)
{
    printf("%s: %llu rows\n", args.out, (unsigned long long)e->done);
    return finish_output();
}

/* The file has its name when all of it is on the disk. */
static int export_to_file(exporting *e)
{
    int fd;
    int code = new_file_create(&e->file, &fd, args.out);
    if (code != DONE)
        return code;
    e->out = fdopen(fd, "w");
    if (e->out == NULL)
        code = fail_write();
    if (code == DONE)
        code = fill(e);
    if (code == DONE)
        code = new_file_name(&e->file);
    new_file_remove(&e->file);
    if (e->out != NULL)
        (void)fclose(e->out);
    else
        close(fd);
    return code == DONE ? report(e) : code;
}

static int export_to_stdout(exporting *e)
{
    e->out = stdout;
    return fill(e);
}

static int run(void)
{
    sheet_form form;
    int code = ledger_form(&form, args.json, args.csv);
    if (code == DONE)
        code = ledger_check();
    if (code != DONE)
        return code;
    if (args.out != NULL && strcmp(args.out, "-") == 0)
        args.out = NULL;
    static exporting e;
    code = args.out != NULL ? export_to_file(&e) : export_to_stdout(&e);
    session_close(&e.session);
    return code;
}

const command ledger_export_command = {
    "ledger export",
    "Writes all messages that the ledger of a broker has recorded, the oldest first",
    "> rows",
    "",
    {options, ledger_conditions, ledger_options, connection_options},
    run,
};
