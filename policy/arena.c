#include "policy/arena.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_BYTES ((size_t)64 * 1024)

struct arena_chunk {
    arena_chunk *older;
    size_t used;
    size_t size;
    max_align_t bytes[];
};

static arena_chunk *chunk_new(arena *a, size_t n)
{
    size_t size = n > CHUNK_BYTES ? n : CHUNK_BYTES;
    arena_chunk *chunk = calloc(1, sizeof(*chunk) + size);
    if (chunk == NULL)
        return NULL;
    chunk->size = size;
    chunk->older = a->newest;
    a->newest = chunk;
    return chunk;
}

void *arena_take(arena *a, size_t n)
{
    const size_t align = sizeof(max_align_t);
    if (n > SIZE_MAX / 2)
        return NULL;
    n = (n + align - 1) / align * align;
    arena_chunk *chunk = a->newest;
    if (chunk == NULL || chunk->size - chunk->used < n)
        chunk = chunk_new(a, n);
    if (chunk == NULL)
        return NULL;
    void *taken = (char *)chunk->bytes + chunk->used;
    chunk->used += n;
    return taken;
}

char *arena_text(arena *a, const char *text, size_t n)
{
    char *copy = arena_take(a, n + 1);
    if (copy != NULL)
        memcpy(copy, text, n);
    return copy;
}

void arena_free(arena *a)
{
    while (a->newest != NULL) {
        arena_chunk *chunk = a->newest;
        a->newest = chunk->older;
        free(chunk);
    }
}
