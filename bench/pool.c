#include "pool.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Each envelope stands behind its length: 4 bytes, as this machine writes them. */
static size_t read_all(pep_view *out, const uint8_t *bytes, size_t n)
{
    size_t count = 0;
    uint32_t length;
    for (size_t at = 0; at + sizeof(length) <= n; at += sizeof(length) + length, count++) {
        memcpy(&length, bytes + at, sizeof(length));
        if (out != NULL)
            out[count] = (pep_view){bytes + at + sizeof(length), length};
    }
    return count;
}

bool pool_open(pool *out, const char *path)
{
    struct stat status;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    void *bytes = MAP_FAILED;
    if (fstat(fd, &status) == 0 && status.st_size > 0)
        bytes = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
    close(fd);
    if (bytes == MAP_FAILED)
        return false;
    out->count = read_all(NULL, bytes, (size_t)status.st_size);
    pep_view *envelopes = out->count > 0 ? calloc(out->count, sizeof(*envelopes)) : NULL;
    if (envelopes != NULL)
        read_all(envelopes, bytes, (size_t)status.st_size);
    out->envelopes = envelopes;
    return envelopes != NULL;
}
