/* Time, and the middle of many times. */
#ifndef MEASURE_H
#define MEASURE_H

#include <stddef.h>

/* Microseconds that passed. */
double wall_us(void);

/* Microseconds of CPU that this process used: what else the machine does shows less in them. */
double cpu_us(void);

/* Sorts the values. */
double median(double *values, size_t count);

#endif
