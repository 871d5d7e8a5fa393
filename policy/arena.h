/* Memory that lives and dies together: all of a policy is taken here, so that freeing it is one call on every path. */
#ifndef POLICY_ARENA_H
#define POLICY_ARENA_H

#include <stddef.h>

typedef struct arena_chunk arena_chunk;

typedef struct {
    arena_chunk *newest; /* zeroed: an empty arena */
} arena;

/* `n` zeroed bytes, aligned for any type; NULL where there is no memory. */
void *arena_take(arena *a, size_t n);

/* A copy of `n` bytes of text with a NUL behind it; NULL where there is no memory. */
char *arena_text(arena *a, const char *text, size_t n);

void arena_free(arena *a);

#endif
