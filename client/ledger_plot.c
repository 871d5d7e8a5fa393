/* pep ledger plot: counts and fields over time, as a picture. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/commands.h"
#include "client/gnuplot.h"
#include "client/io.h"
#include "client/ledger.h"
#include "client/print.h"

static struct {
    const char *of, *show, *by, *every, *out;
} args;

static const option options[] = {
    {OPTION_TEXT, 'o', true, "out", &args.out, "FILE", "a new file, .svg or .png", 0, 0},
    {OPTION_TEXT, 0, false, "of", &args.of, "NAME", "a field of whole numbers (default: count messages)", 0, 0},
    {OPTION_TEXT, 0, false, "show", &args.show, "WHAT", "count, or with --of: avg (the default), sum, min, max", 0, 0},
    {OPTION_TEXT, 0, false, "by", &args.by, "WHAT", "a line for each signer, topic or field:NAME", 0, 0},
    {OPTION_TEXT, 0, false, "every", &args.every, "UNIT", "second, minute, hour or day (default: see above)", 0, 0},
    {0},
};

typedef enum { SHOW_COUNT, SHOW_SUM, SHOW_AVG, SHOW_MIN, SHOW_MAX, SHOWS } showing;

static const struct {
    const char *name, *title;
} shows[SHOWS] = {
    [SHOW_COUNT] = {"count", "Number"}, [SHOW_SUM] = {"sum", "Sum"},     [SHOW_AVG] = {"avg", "Average"},
    [SHOW_MIN] = {"min", "Lowest"},     [SHOW_MAX] = {"max", "Highest"},
};

/* What lies at one moment, of one name. */
typedef struct {
    char *name; /* NULL: there is no such field */
    uint64_t time_s, count;
    double sum, min, max;
} sample;

typedef struct {
    session session;
    showing show;
    ledger_by by; /* the unit of time first */
    sample *samples;
    size_t n, cap;
    bool matched; /* there are rows, whatever they hold */
    plot plot;
    new_file file;
} plotting;

/* ---- samples ---- */

static bool make_room(plotting *p)
{
    if (p->n < p->cap)
        return true;
    size_t cap = 2 * p->cap + 64;
    sample *samples = reallocarray(p->samples, cap, sizeof(*samples));
    if (samples == NULL)
        return false;
    p->samples = samples;
    p->cap = cap;
    return true;
}

static const char *name_of(const plotting *p, const ledger_group *group)
{
    if (p->by.n < 2)
        return NULL;
    return p->by.at[1] == BY_SIGNER ? group->signer : p->by.at[1] == BY_TOPIC ? group->topic : group->value;
}

static int take_group(void *owner, const ledger_group *group)
{
    plotting *p = owner;
    sample s = {.time_s = group->time_us / 1000000, .count = args.of != NULL ? group->numbers : group->count};
    const char *name = name_of(p, group);
    p->matched = p->matched || group->count > 0;
    if (s.count == 0)
        return DONE;
    if (args.of != NULL) {
        s.sum = strtod(group->sum, NULL);
        s.min = strtod(group->min, NULL);
        s.max = strtod(group->max, NULL);
    }
    s.name = name != NULL ? strdup(name) : NULL;
    if ((name != NULL && s.name == NULL) || !make_room(p)) {
        free(s.name);
        return fail(OUT_OF_REACH, "out of memory");
    }
    p->samples[p->n++] = s;
    return DONE;
}

/* ---- series ---- */

static int by_time(const void *a, const void *b)
{
    const sample *x = a;
    const sample *y = b;
    return (x->time_s > y->time_s) - (x->time_s < y->time_s);
}

static int by_name_of(const void *a, const void *b)
{
    const sample *x = a;
    const sample *y = b;
    if (x->name == NULL || y->name == NULL)
        return (x->name != NULL) - (y->name != NULL);
    return strcmp(x->name, y->name);
}

/* The samples of one name. */
typedef struct {
    sample *first;
    size_t n;
    uint64_t total;
} bundle;

static int by_total(const void *a, const void *b)
{
    const bundle *x = a;
    const bundle *y = b;
    return (x->total < y->total) - (x->total > y->total);
}

/* The most frequent name first. `out` has room for as many as there are samples. */
static size_t find_bundles(bundle *out, plotting *p)
{
    size_t count = 0;
    qsort(p->samples, p->n, sizeof(*p->samples), by_name_of);
    for (size_t i = 0; i < p->n; i++) {
        if (i == 0 || by_name_of(&p->samples[i - 1], &p->samples[i]) != 0)
            out[count++] = (bundle){.first = &p->samples[i]};
        out[count - 1].n++;
        out[count - 1].total += p->samples[i].count;
    }
    qsort(out, count, sizeof(*out), by_total);
    return count;
}

static double value_of(const sample *s, showing show)
{
    switch (show) {
    case SHOW_SUM:
        return s->sum;
    case SHOW_AVG:
        return s->sum / (double)s->count;
    case SHOW_MIN:
        return s->min;
    case SHOW_MAX:
        return s->max;
    case SHOW_COUNT:
    case SHOWS:
        break;
    }
    return (double)s->count;
}

static void join(sample *to, const sample *s)
{
    to->count += s->count;
    to->sum += s->sum;
    to->min = s->min < to->min ? s->min : to->min;
    to->max = s->max > to->max ? s->max : to->max;
}

/* Its points in the order of time; what lies at the same moment becomes one. */
static bool add_series(plotting *p, char *name, sample *samples, size_t n)
{
    plot_series *s = &p->plot.series[p->plot.count];
    *s = (plot_series){.name = name};
    p->plot.count++;
    if (n > 0)
        s->points = calloc(n, sizeof(*s->points));
    if (s->points == NULL)
        return false;
    qsort(samples, n, sizeof(*samples), by_time);
    for (size_t i = 0, end; i < n; i = end) {
        sample all = samples[i];
        for (end = i + 1; end < n && samples[end].time_s == all.time_s; end++)
            join(&all, &samples[end]);
        s->points[s->n++] = (plot_point){all.time_s, value_of(&all, p->show)};
    }
    return true;
}

/* NULL where a line stands alone, or there was no memory. */
static char *label(const plotting *p, const bundle *b)
{
    char *text = NULL;
    if (p->by.n < 2)
        return NULL;
    if (b->first->name != NULL)
        return strdup(b->first->name);
    return asprintf(&text, "no %s", p->by.field) >= 0 ? text : NULL;
}

/* All from the bundle `at` on, as one. */
static bool add_others(plotting *p, const bundle *bundles, size_t at, size_t count)
{
    size_t n = 0;
    char *name = NULL;
    sample *all = calloc(p->n, sizeof(*all));
    if (all == NULL || asprintf(&name, "%zu others", count - at) < 0) {
        free(all);
        return false;
    }
    for (size_t i = at; i < count; i++) {
        memcpy(all + n, bundles[i].first, bundles[i].n * sizeof(*all));
        n += bundles[i].n;
    }
    bool added = add_series(p, name, all, n);
    free(all);
    return added;
}

static bool add_bundles(plotting *p, bundle *bundles)
{
    size_t count = find_bundles(bundles, p);
    size_t alone = count <= PLOT_SERIES_MAX ? count : PLOT_SERIES_MAX - 1;
    bool added = true;
    for (size_t i = 0; i < alone && added; i++)
        added = add_series(p, label(p, &bundles[i]), bundles[i].first, bundles[i].n);
    return added && (alone == count || add_others(p, bundles, alone, count));
}

static int fail_empty(const plotting *p)
{
    if (p->matched && args.of != NULL)
        return fail(REFUSED, "nothing to draw: %.80s is no whole number in any of these messages", args.of);
    return fail(REFUSED, "nothing to draw: no recorded message matches");
}

static int make_series(plotting *p)
{
    if (p->n == 0)
        return fail_empty(p);
    bundle *bundles = calloc(p->n, sizeof(*bundles));
    bool made = bundles != NULL && add_bundles(p, bundles);
    free(bundles);
    return made ? DONE : fail(OUT_OF_REACH, "out of memory");
}

static void free_all(plotting *p)
{
    for (size_t i = 0; i < p->plot.count; i++) {
        free(p->plot.series[i].points);
        free(p->plot.series[i].name);
    }
    for (size_t i = 0; i < p->n; i++)
        free(p->samples[i].name);
    free(p->samples);
}

/* ---- the unit of time ---- */

static const struct {
    by_kind kind;
    uint64_t s, range_s; /* what is longer than that takes the next one */
} units[] = {{BY_SECOND, 1, 300}, {BY_MINUTE, 60, 10800}, {BY_HOUR, 3600, 604800}, {BY_DAY, 86400, UINT64_MAX}};

#define UNITS (sizeof(units) / sizeof(units[0]))

static int take_time(void *owner, const ledger_row *row)
{
    *(uint64_t *)owner = row->time_us;
    return DONE;
}

/* The oldest and the newest row's. */
static int find_range(plotting *p, uint64_t *range_s)
{
    uint64_t from_us = 0;
    uint64_t to_us = 0;
    ledger_reading what = {.limit = 1, .take = take_time, .owner = &from_us};
    int code = ledger_read(&p->session, &what);
    what.newest = true;
    what.owner = &to_us;
    if (code == DONE)
        code = ledger_read(&p->session, &what);
    *range_s = to_us > from_us ? (to_us - from_us) / 1000000 : 0;
    return code;
}

static int choose_unit(plotting *p, size_t *i)
{
    uint64_t range_s = 0;
    *i = 0;
    if (args.every != NULL) {
        while (strcmp(by_name(units[*i].kind), args.every) != 0)
            ++*i;
        return DONE;
    }
    int code = find_range(p, &range_s);
    while (range_s > units[*i].range_s)
        ++*i;
    return code;
}

static int sum_up(plotting *p, size_t i, bool *too_many)
{
    const ledger_summing what = {.by = &p->by, .of = args.of, .take = take_group, .owner = p, .too_many = too_many};
    p->by.at[0] = units[i].kind;
    p->plot.step_s = units[i].s;
    return ledger_sum(&p->session, &what);
}

/* Many names at many moments are more than an answer holds: then the next unit, where that is ours to choose. */
static int collect(plotting *p)
{
    size_t i;
    bool too_many;
    int code = ledger_open(&p->session);
    if (code == DONE)
        code = choose_unit(p, &i);
    if (code != DONE)
        return code;
    do {
        too_many = false;
        code = sum_up(p, i, args.every == NULL && i + 1 < UNITS ? &too_many : NULL);
        i++;
    } while (too_many);
    return code == DONE ? make_series(p) : code;
}

/* ---- the picture ---- */

static char *make_title(const plotting *p)
{
    char *text = NULL;
    const char *unit = by_name(p->by.at[0]);
    int n = args.of == NULL ? asprintf(&text, "Messages recorded per %s", unit)
                            : asprintf(&text, "%s of %s per %s", shows[p->show].title, args.of, unit);
    return n >= 0 ? text : NULL;
}

static int draw(plotting *p, int fd)
{
    char *title = make_title(p);
    char *subtitle = ledger_describe();
    bool counted = p->show == SHOW_COUNT;
    int code = title != NULL && subtitle != NULL ? DONE : fail(OUT_OF_REACH, "out of memory");
    p->plot.title = title;
    p->plot.subtitle = subtitle;
    p->plot.y_label = args.of == NULL ? "messages" : counted ? "values" : args.of;
    p->plot.counts = counted || p->show == SHOW_SUM;
    if (code == DONE)
        code = plot_draw(&p->plot, fd);
    free(title);
    free(subtitle);
    return code;
}

static int report(const plotting *p)
{
    printf("%s: %zu %s\n", args.out, p->plot.count, p->plot.count == 1 ? "line" : "lines");
    return finish_output();
}

static int plot_to_file(plotting *p)
{
    int fd;
    int code = new_file_create(&p->file, &fd, args.out);
    if (code != DONE)
        return code;
    code = collect(p);
    if (code == DONE)
        code = draw(p, fd);
    if (code == DONE)
        code = new_file_name(&p->file);
    new_file_remove(&p->file);
    close(fd);
    return code == DONE ? report(p) : code;
}

/* ---- options ---- */

static int check_show(plotting *p)
{
    const char *wanted = args.show != NULL ? args.show : args.of != NULL ? "avg" : "count";
    for (p->show = 0; p->show < SHOWS && strcmp(shows[p->show].name, wanted) != 0; p->show++)
        ;
    if (p->show == SHOWS)
        return wrong_usage("--show '%.40s': is none of count, sum, avg, min and max", wanted);
    if (p->show != SHOW_COUNT && args.of == NULL)
        return wrong_usage("--show %s: needs --of NAME", wanted);
    if (args.of != NULL && !ledger_name_valid(args.of))
        return wrong_usage("--of '%.80s': is no name of a field", args.of);
    return DONE;
}

static int check_out(plotting *p)
{
    const char *dot = strrchr(args.out, '.');
    p->plot.png = dot != NULL && strcmp(dot, ".png") == 0;
    if (p->plot.png || (dot != NULL && strcmp(dot, ".svg") == 0))
        return DONE;
    return wrong_usage("--out %.80s: must end in .svg or .png", args.out);
}

/* The unit of time takes its place, and what it is, is found out later. */
static int check_by(plotting *p)
{
    p->by = (ledger_by){.at = {BY_SECOND}, .n = 1};
    bool known = args.every == NULL;
    for (size_t i = 0; i < UNITS; i++)
        known = known || strcmp(by_name(units[i].kind), args.every) == 0;
    if (!known)
        return wrong_usage("--every '%.40s': is none of second, minute, hour and day", args.every);
    return args.by != NULL ? by_add(&p->by, args.by) : DONE;
}

static int check(plotting *p)
{
    int code = ledger_check();
    if (code == DONE)
        code = check_show(p);
    if (code == DONE)
        code = check_out(p);
    return code == DONE ? check_by(p) : code;
}

static int run(void)
{
    static plotting p;
    int code = check(&p);
    if (code == DONE)
        code = plot_to_file(&p);
    session_close(&p.session);
    free_all(&p);
    return code;
}

const command ledger_plot_command = {
    "ledger plot",
    "Draws over time what the ledger of a broker has recorded",
    "",
    "Needs gnuplot, which Debian has in gnuplot-nox. --by, once, draws the 12 most frequent at most: what is beyond\n"
    "is one line together. Without --every a unit is chosen by how long there is something to show, and the next\n"
    "larger one where there are more than 5,000 groups. Only whole numbers are drawn: record tenths of a degree as\n"
    "temp=215, and not temp=21.5.\n",
    {options, ledger_conditions, ledger_options, connection_options},
    run,
};
