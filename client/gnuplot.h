/*
 * Lines over time, drawn by gnuplot(1). Its language can run commands, so that a script holds of other people's text
 * only what is written with put_gnuplot_text, and goes from here to gnuplot by a pipe, past any shell and any file.
 */
#ifndef CLIENT_GNUPLOT_H
#define CLIENT_GNUPLOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define PLOT_SERIES_MAX 12

typedef struct {
    uint64_t time_s;
    double value;
} plot_point;

typedef struct {
    char *name;         /* UTF-8, anybody's; NULL: it stands alone, and has no legend */
    plot_point *points; /* by time */
    size_t n;
} plot_series;

typedef struct {
    const char *title, *subtitle, *y_label; /* UTF-8, anybody's; the second may be "" */
    bool png;                               /* else SVG */
    uint64_t step_s;                        /* from one point to the next */
    bool counts;                            /* where there is no point there was nothing: 0 */
    plot_series series[PLOT_SERIES_MAX];
    size_t count; /* at least 1, each with at least one point */
} plot;

/* A string of gnuplot's, with its quotes: at most `max` characters of UTF-8, and what is cut ends in an ellipsis. */
void put_gnuplot_text(FILE *out, const char *text, size_t max);

void plot_put_script(FILE *out, const plot *p);

/* Draws into the file `fd`: 0, or 3 after a line on stderr. */
int plot_draw(const plot *p, int fd);

#endif
