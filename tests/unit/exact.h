/* Inputs as a sanitizer wants them. */
#ifndef EXACT_H
#define EXACT_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* A copy in a heap buffer of exactly its size, so that a read past its end is seen. To be freed. */
static inline void *exact_copy(const void *p, size_t n)
{
    uint8_t *copy = malloc(n == 0 ? 1 : n);
    if (copy == NULL)
        abort();
    if (n > 0)
        memcpy(copy, p, n);
    return copy;
}

#endif
