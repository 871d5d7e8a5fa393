#include "client/gnuplot.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/print.h"

#define TITLE_MAX       100 /* characters */
#define NAME_LENGTH_MAX 40
#define POINTS_MAX      300 /* of a series, that are marked each: beyond, the line is enough */
#define WIDTH           1000
#define HEIGHT          500
#define MISSING         127 /* the exit code where a program could not be started, if that is found out so late */
#define DAY_S           UINT64_C(86400)

/* ---- text ---- */

/*
 * Letters, and of the rest what is harmless wherever it stands; all other bytes as three octal digits, which end where
 * no digit follows: so digits are escaped, too. No quote, backtick, backslash, @ or $ of anybody's is left.
 */
static void put_gnuplot_byte(FILE *out, uint8_t byte)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz /-_.,:";
    if (byte != '\0' && strchr(plain, byte) != NULL)
        putc(byte, out);
    else
        fprintf(out, "\\%03o", byte);
}

static void put_bytes(FILE *out, const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        put_gnuplot_byte(out, (uint8_t)p[i]);
}

/* The bytes of its first `max` characters. */
static size_t prefix(const char *text, size_t max)
{
    size_t n = 0;
    for (size_t characters = 0; text[n] != '\0'; n++) {
        bool begins = (text[n] & 0xc0) != 0x80;
        if (begins && characters++ == max)
            break;
    }
    return n;
}

/*
 * What gnuplot 5.4 writes into SVG as it is, and what must not stand there: "&#" begins a character of its own, and
 * "]]>" makes the file no XML. < it does escape, and here it need not be trusted to.
 */
static bool is_markup(const char *at)
{
    return *at == '<' || *at == '>' || (at[0] == '&' && at[1] == '#');
}

/* What may stand in a line and in a picture. NULL: no memory. */
static char *visible(const char *text)
{
    char *out = NULL;
    size_t n = 0;
    FILE *memory = open_memstream(&out, &n);
    if (memory == NULL)
        return NULL;
    for (size_t rest; *text != '\0'; text += rest) {
        for (rest = 0; text[rest] != '\0' && !is_markup(text + rest); rest++)
            ;
        put_escaped(memory, text, rest);
        if (text[rest] != '\0')
            fprintf(memory, "\\x%02x", (unsigned char)text[rest++]);
    }
    if (fclose(memory) == 0)
        return out;
    free(out);
    return NULL;
}

static void put_content(FILE *out, const char *text, size_t max)
{
    static const char ellipsis[] = "\xe2\x80\xa6";
    char *shown = visible(text);
    if (shown == NULL)
        return;
    size_t n = prefix(shown, max);
    if (shown[n] != '\0')
        n = prefix(shown, max - 1);
    put_bytes(out, shown, n);
    if (shown[n] != '\0')
        put_bytes(out, ellipsis, sizeof(ellipsis) - 1);
    free(shown);
}

void put_gnuplot_text(FILE *out, const char *text, size_t max)
{
    putc('"', out);
    put_content(out, text, max);
    putc('"', out);
}

/* ---- the script ---- */

typedef struct {
    uint64_t from_s, to_s;
} span;

static span span_of(const plot *p)
{
    span s = {UINT64_MAX, 0};
    for (size_t i = 0; i < p->count; i++) {
        uint64_t first = p->series[i].points[0].time_s;
        uint64_t last = p->series[i].points[p->series[i].n - 1].time_s;
        s.from_s = first < s.from_s ? first : s.from_s;
        s.to_s = last > s.to_s ? last : s.to_s;
    }
    return s;
}

static void put_point(FILE *out, uint64_t time_s, double value)
{
    fprintf(out, "%" PRIu64 " %.17g\n", time_s, value);
}

/* Nothing between two moments, both of which have points: the line goes down to 0 and comes up again. */
static void put_gap(FILE *out, uint64_t after_s, uint64_t before_s, uint64_t step_s)
{
    if (before_s <= after_s || before_s - after_s <= step_s)
        return;
    put_point(out, after_s + step_s, 0);
    if (before_s - after_s > 2 * step_s)
        put_point(out, before_s - step_s, 0);
}

static void put_data(FILE *out, const plot *p, size_t i, span all)
{
    const plot_series *s = &p->series[i];
    fprintf(out, "$series%zu << PEP_END\n", i);
    if (p->counts && s->points[0].time_s > all.from_s) {
        put_point(out, all.from_s, 0);
        put_gap(out, all.from_s, s->points[0].time_s, p->step_s);
    }
    for (size_t k = 0; k < s->n; k++) {
        if (p->counts && k > 0)
            put_gap(out, s->points[k - 1].time_s, s->points[k].time_s, p->step_s);
        put_point(out, s->points[k].time_s, s->points[k].value);
    }
    uint64_t last_s = s->points[s->n - 1].time_s;
    if (p->counts && last_s < all.to_s) {
        put_gap(out, last_s, all.to_s, p->step_s);
        put_point(out, all.to_s, 0);
    }
    fputs("PEP_END\n", out);
}

static const char *time_format(uint64_t range_s, uint64_t step_s)
{
    if (step_s < 60)
        return "%H:%M:%S\\n%m-%d";
    if (range_s <= 2 * DAY_S)
        return "%H:%M\\n%m-%d";
    return range_s <= 10 * DAY_S && step_s < DAY_S ? "%m-%d\\n%H:%M" : "%Y-%m-%d";
}

/* What the marks at the axis leave out; the empty line below keeps the legend away. */
static void put_x_label(FILE *out, const plot *p, span all)
{
    char from[TIME_BYTES];
    char to[TIME_BYTES];
    int digits = p->step_s < 60 ? 8 : 5; /* of the time of day */
    (void)time_s(from, all.from_s);
    (void)time_s(to, all.to_s);
    fprintf(out, "set xlabel \"time (UTC), from %.10s %.*s to %.10s %.*s\\n \"\n", from, digits, from + 11, to, digits,
            to + 11);
}

static void put_axes(FILE *out, const plot *p, span all)
{
    fputs("set xdata time\nset timefmt \"%s\"\n", out);
    fprintf(out, "set format x \"%s\"\n", time_format(all.to_s - all.from_s, p->step_s));
    fprintf(out, "set xrange [\"%" PRIu64 "\":\"%" PRIu64 "\"]\n", all.from_s > p->step_s ? all.from_s - p->step_s : 0,
            all.to_s + p->step_s);
    put_x_label(out, p, all);
    fputs("set ylabel ", out);
    put_gnuplot_text(out, p->y_label, NAME_LENGTH_MAX);
    fputs(" noenhanced\nset format y \"%.10g\"\n", out);
    fputs(p->counts ? "set yrange [*<0:0<*]\n" : "set autoscale y\n", out);
    fputs("set offsets 0, 0, graph 0.05, 0\nset grid xtics ytics lt 1 lw 0.5 lc rgb \"#cccccc\"\n"
          "set border 3 lc rgb \"#444444\"\nset tics nomirror out scale 0.5\nset rmargin 6\n",
          out);
}

static void put_head(FILE *out, const plot *p)
{
    fputs("set encoding utf8\n", out);
    fprintf(out, "set terminal %s noenhanced size %d,%d background rgb \"white\" font \"sans-serif,12\"\n",
            p->png ? "pngcairo" : "svg", WIDTH, HEIGHT);
    fputs("set title \"", out);
    put_content(out, p->title, TITLE_MAX);
    if (p->subtitle[0] != '\0')
        fputs("\\n", out);
    put_content(out, p->subtitle, TITLE_MAX);
    fputs("\" noenhanced\n", out);
    fputs(p->series[0].name != NULL ? "set key bmargin center horizontal Left reverse noenhanced samplen 2\n"
                                    : "unset key\n",
          out);
}

/* Told apart also by those who see few colours: by colour and by mark. */
static void put_plot(FILE *out, const plot *p)
{
    static const char *const colours[PLOT_SERIES_MAX] = {"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                                         "#e69f00", "#56b4e9", "#332288", "#999933",
                                                         "#882255", "#44aa99", "#aa4499", "#666666"};
    static const int marks[] = {7, 5, 9, 13, 11, 15};
    fputs("plot", out);
    for (size_t i = 0; i < p->count; i++) {
        bool marked = p->series[i].n <= POINTS_MAX;
        fprintf(out, "%s $series%zu using 1:2 with %s lw 1.5 lc rgb \"%s\"", i > 0 ? "," : "", i,
                marked ? "linespoints" : "lines", colours[i]);
        if (marked)
            fprintf(out, " pt %d ps 0.5", marks[i % (sizeof(marks) / sizeof(marks[0]))]);
        fputs(" title ", out);
        put_gnuplot_text(out, p->series[i].name != NULL ? p->series[i].name : "", NAME_LENGTH_MAX);
        fputs(" noenhanced", out);
    }
    putc('\n', out);
}

void plot_put_script(FILE *out, const plot *p)
{
    span all = span_of(p);
    put_head(out, p);
    put_axes(out, p, all);
    for (size_t i = 0; i < p->count; i++)
        put_data(out, p, i, all);
    put_plot(out, p);
}

/* ---- the program ---- */

typedef struct {
    int script[2]; /* a pipe */
    int errors;    /* memory that holds what it says */
    pid_t pid;
} program;

static void close_end(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* Neither our signals' state nor its own start-up files: what it draws depends on the script alone. */
static int spawn(program *g, int fd)
{
    static char name[] = "gnuplot";
    static char defaults[] = "-d";
    char *const words[] = {name, defaults, NULL};
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGPIPE);
    if (posix_spawn_file_actions_init(&files) != 0 || posix_spawnattr_init(&attributes) != 0)
        return ENOMEM;
    int error = posix_spawn_file_actions_adddup2(&files, g->script[0], STDIN_FILENO);
    error |= posix_spawn_file_actions_adddup2(&files, fd, STDOUT_FILENO);
    error |= posix_spawn_file_actions_adddup2(&files, g->errors, STDERR_FILENO);
    error |= posix_spawnattr_setsigdefault(&attributes, &signals);
    error |= posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
    error = error != 0 ? ENOMEM : posix_spawnp(&g->pid, name, &files, &attributes, words, environ);
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attributes);
    return error;
}

static bool write_script(program *g, const plot *p)
{
    FILE *out = fdopen(g->script[1], "w");
    if (out == NULL)
        return false;
    g->script[1] = -1;
    plot_put_script(out, p);
    return fclose(out) == 0;
}

/* It ends when its script does. Its exit code, or -1. */
static int end_of(const program *g)
{
    int status = -1;
    while (waitpid(g->pid, &status, 0) < 0 && errno == EINTR)
        ;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* Its words are about the script, where nobody's text can be read in the clear; fail escapes them all the same. */
static int fail_drawing(const program *g)
{
    char words[1024] = "";
    ssize_t n = pread(g->errors, words, sizeof(words) - 1, 0);
    while (n > 0 && strchr(" \r\n\t", words[n - 1]) != NULL)
        n--;
    words[n > 0 ? n : 0] = '\0';
    const char *line = strrchr(words, '\n'); /* the last one says what, those in front where */
    return fail(OUT_OF_REACH, "gnuplot could not draw: %s", line != NULL ? line + 1 : words);
}

static int fail_missing(void)
{
    return fail(OUT_OF_REACH, "gnuplot is not there: install gnuplot-nox");
}

static int run_program(program *g, const plot *p, int fd)
{
    struct stat st;
    int error = spawn(g, fd);
    if (error == ENOENT)
        return fail_missing();
    if (error != 0)
        return fail(OUT_OF_REACH, "cannot run gnuplot: %s", strerror(error));
    close_end(&g->script[0]); /* or we would wait for a reader that has ended */
    bool written = write_script(g, p);
    close_end(&g->script[1]);
    int code = end_of(g);
    if (code == MISSING)
        return fail_missing();
    bool drawn = code == 0 && written && fstat(fd, &st) == 0 && st.st_size > 0;
    return drawn ? DONE : fail_drawing(g);
}

int plot_draw(const plot *p, int fd)
{
    program g = {.script = {-1, -1}, .errors = memfd_create("gnuplot", MFD_CLOEXEC)};
    int code = DONE;
    if (g.errors < 0 || pipe2(g.script, O_CLOEXEC) != 0)
        code = fail(OUT_OF_REACH, "cannot run gnuplot: %s", strerror(errno));
    if (code == DONE)
        code = run_program(&g, p, fd);
    close_end(&g.script[0]);
    close_end(&g.script[1]);
    close_end(&g.errors);
    return code;
}
