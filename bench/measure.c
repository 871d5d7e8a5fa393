#include "measure.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static double read_us(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

double wall_us(void)
{
    return read_us(CLOCK_MONOTONIC);
}

double cpu_us(void)
{
    return read_us(CLOCK_PROCESS_CPUTIME_ID);
}

/* The fields of /proc/PID/stat from the third one on (proc(5)): behind the name, which may hold spaces itself. */
static char *stat_fields(char *text, size_t cap, pid_t pid)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return NULL;
    char *name_end = fgets(text, (int)cap, file) != NULL ? strrchr(text, ')') : NULL;
    fclose(file);
    return name_end != NULL ? name_end + 2 : NULL;
}

/* utime and stime are the fields 14 and 15. */
double process_cpu_us(pid_t pid)
{
    char text[1024];
    char *at = stat_fields(text, sizeof(text), pid);
    for (int field = 3; field < 14 && at != NULL; field++)
        at = strchr(at + 1, ' ');
    if (at == NULL)
        return -1;
    unsigned long user = strtoul(at, &at, 10), system = strtoul(at, NULL, 10);
    return (double)(user + system) * 1e6 / (double)sysconf(_SC_CLK_TCK);
}

/* The first field of schedstat: nanoseconds on a processor. */
double thread_cpu_us(pid_t pid)
{
    char path[64];
    char text[128];
    snprintf(path, sizeof(path), "/proc/%d/task/%d/schedstat", (int)pid, (int)pid);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return -1;
    double us = fgets(text, sizeof(text), file) != NULL ? strtod(text, NULL) / 1e3 : -1;
    fclose(file);
    return us;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double percentile(double *values, size_t count, double share)
{
    qsort(values, count, sizeof(*values), compare);
    size_t at = (size_t)(share * (double)count);
    return values[at < count ? at : count - 1];
}

double median(double *values, size_t count)
{
    return percentile(values, count, 0.5);
}
