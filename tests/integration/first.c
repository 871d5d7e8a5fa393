/*
 * Loaded beside a sanitizer into a broker that is not built with it, and initialised before everything else: see
 * broker.c. What it allocates makes the sanitizer initialise itself here.
 */
#include <stdlib.h>

void *volatile first_allocation;

__attribute__((constructor)) static void allocate(void)
{
    first_allocation = malloc(1);
    free(first_allocation);
}
