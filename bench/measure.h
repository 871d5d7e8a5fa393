/* Time, and the middle of many times. */
#ifndef MEASURE_H
#define MEASURE_H

#include <stddef.h>
#include <sys/types.h>

/* Microseconds that passed. */
double wall_us(void);

/* Microseconds of CPU that this process used: what else the machine does shows less in them. */
double cpu_us(void);

/* The same of another process, in steps of 10 ms; below 0 where there is none. */
double process_cpu_us(pid_t pid);

/* Of its first thread alone, exactly; below 0 where the kernel does not count that. */
double thread_cpu_us(pid_t pid);

/* Sorts the values. */
double median(double *values, size_t count);

/* The value that `share` (0 to 1) of them do not exceed; sorts them. */
double percentile(double *values, size_t count, double share);

#endif
