#include "tests/fuzz/fuzz.h"

#include <ftw.h>
#include <sodium.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void *fuzz_memory(size_t n)
{
    void *memory = calloc(1, n == 0 ? 1 : n);
    if (memory == NULL)
        abort();
    return memory;
}

uint8_t take_byte(pep_view *in)
{
    pep_view byte = take(in, 1);
    return byte.n == 0 ? 0 : byte.p[0];
}

pep_view take(pep_view *in, size_t n)
{
    pep_view taken = {in->p, n < in->n ? n : in->n};
    in->p += taken.n;
    in->n -= taken.n;
    return taken;
}

/* ---- files ---- */

static char folder[256];

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)st;
    (void)kind;
    (void)at;
    return remove(path);
}

static void remove_folder(void)
{
    nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

const char *fuzz_path(const char *name)
{
    static char paths[4][512];
    static unsigned next;
    if (folder[0] == '\0') {
        const char *parent = getenv("TMPDIR");
        snprintf(folder, sizeof folder, "%s/pep-fuzz-XXXXXX", parent == NULL ? "/dev/shm" : parent);
        must(mkdtemp(folder) != NULL, "cannot make a folder");
        must(atexit(remove_folder) == 0, "cannot clean up");
    }
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

void fuzz_write(const char *path, const void *bytes, size_t n, unsigned mode)
{
    FILE *file = fopen(path, "wb");
    must(file != NULL && fwrite(bytes, 1, n, file) == n, path);
    must(fchmod(fileno(file), mode) == 0 && fclose(file) == 0, path);
}

void fuzz_write_records(const char *records)
{
    must(mkdir(records, 0700) == 0, records);
    for (size_t i = 0; i < actor_count; i++) {
        char path[1024];
        pep_error error;
        snprintf(path, sizeof path, "%s/%s.pub", records, actors[i].id);
        if (actors[i].enrolled)
            must(pep_record_save(&error, path, actors[i].record_bytes, actors[i].record_n) == PEP_OK, path);
    }
}

/* ---- deterministic CBOR ---- */

enum { UNSIGNED, NEGATIVE, BYTES, TEXT, ARRAY, MAP, TAG, SIMPLE };

/* The head of an item, in the shortest form for its argument; its length, 0: none. */
static size_t head(unsigned *major, uint64_t *argument, pep_view bytes)
{
    if (bytes.n == 0)
        return 0;
    unsigned info = bytes.p[0] & 31;
    *major = bytes.p[0] >> 5;
    *argument = info;
    if (info < 24)
        return 1;
    if (info > 27)
        return 0;
    size_t more = (size_t)1 << (info - 24);
    if (bytes.n < 1 + more)
        return 0;
    *argument = 0;
    for (size_t i = 1; i <= more; i++)
        *argument = *argument << 8 | bytes.p[i];
    const uint64_t least[] = {24, 0x100, 0x10000, 0x100000000};
    return *argument >= least[info - 24] ? 1 + more : 0;
}

static pep_view behind(pep_view bytes, size_t n)
{
    return (pep_view){bytes.p + n, bytes.n - n};
}

/* Their length; 0: they are not there, or not in order. `step` is 2 for pairs, whose keys must rise bytewise. */
static size_t items(pep_view bytes, uint64_t count, unsigned step, unsigned depth)
{
    size_t n = 0;
    pep_view previous = {NULL, 0};
    for (uint64_t i = 0; i < count; i++) {
        pep_view key = {bytes.p + n, reference_item(behind(bytes, n), depth)};
        size_t common = key.n < previous.n ? key.n : previous.n;
        int order = step == 1 || previous.p == NULL ? 1 : memcmp(key.p, previous.p, common);
        if (key.n == 0 || order < 0 || (order == 0 && key.n <= previous.n))
            return 0;
        n += key.n;
        previous = key;
        size_t value = step == 1 ? 0 : reference_item(behind(bytes, n), depth);
        if (step == 2 && value == 0)
            return 0;
        n += value;
    }
    return n;
}

size_t reference_item(pep_view bytes, unsigned depth)
{
    unsigned major;
    uint64_t argument;
    size_t n = head(&major, &argument, bytes);
    if (n == 0 || (major >= ARRAY && major <= TAG && depth == 0))
        return 0;
    if (major == BYTES || major == TEXT)
        return argument <= bytes.n - n ? n + argument : 0;
    if (major == SIMPLE)
        return argument >= 20 && argument <= 22 ? n : 0; /* false, true, null */
    if (major < ARRAY || (major != TAG && argument == 0))
        return n;
    size_t content = items(behind(bytes, n), major == TAG ? 1 : argument, major == MAP ? 2 : 1, depth - 1);
    return content == 0 ? 0 : n + content;
}

bool reference_cbor(pep_view bytes, uint64_t count, unsigned depth)
{
    return items(bytes, count, 1, depth) == bytes.n;
}

/* ---- signatures ---- */

const actor *reference_signer(const uint8_t *kid)
{
    for (size_t i = 0; i < actor_count; i++)
        if (memcmp(actors[i].device.sign_kid, kid, PEP_KID_BYTES) == 0)
            return &actors[i];
    return NULL;
}

static size_t put_bstr(uint8_t *out, pep_view content)
{
    pep_writer w = {.p = out, .cap = content.n + 16};
    pep_write_bytes(&w, content.p, content.n);
    return w.n;
}

bool reference_signed(const actor *by, pep_view header, pep_view payload, const uint8_t *signature)
{
    static const uint8_t context[] = "\x84\x6aSignature1";
    uint8_t *all = fuzz_memory(sizeof context + header.n + payload.n + 32);
    size_t n = sizeof context - 1;
    memcpy(all, context, n);
    n += put_bstr(all + n, header);
    all[n++] = 0x40; /* no external_aad */
    n += put_bstr(all + n, payload);
    bool good = crypto_sign_verify_detached(signature, all, n, by->device.sign_public) == 0;
    free(all);
    return good;
}

/* ---- topics ---- */

static pep_view next_level(pep_view *rest)
{
    const uint8_t *slash = rest->n == 0 ? NULL : memchr(rest->p, '/', rest->n);
    pep_view level = {rest->p, slash == NULL ? rest->n : (size_t)(slash - rest->p)};
    size_t used = slash == NULL ? rest->n : level.n + 1;
    *rest = slash == NULL ? (pep_view){NULL, 0} : behind(*rest, used); /* p == NULL: there is no further level */
    return level;
}

static bool is_char(pep_view level, char c)
{
    return level.n == 1 && level.p[0] == (uint8_t)c;
}

static pep_view text_view(const char *text)
{
    return (pep_view){(const uint8_t *)text, strlen(text)};
}

bool reference_matches(const char *filter, pep_view topic)
{
    pep_view rest = text_view(filter);
    if (topic.p[0] == '$' && (filter[0] == '+' || filter[0] == '#'))
        return false;
    while (rest.p != NULL) {
        pep_view wanted = next_level(&rest);
        if (is_char(wanted, '#'))
            return true; /* also where the topic ended one level before */
        if (topic.p == NULL)
            return false;
        pep_view level = next_level(&topic);
        if (!is_char(wanted, '+') && (wanted.n != level.n || memcmp(wanted.p, level.p, level.n) != 0))
            return false;
    }
    return topic.p == NULL;
}

/* Literal before `+` before `#`; a filter that has ended is as good as a literal. */
static int rank(pep_view level)
{
    return is_char(level, '#') ? 2 : is_char(level, '+');
}

static bool more_specific(const char *a, const char *b)
{
    pep_view x = text_view(a);
    pep_view y = text_view(b);
    while (x.p != NULL || y.p != NULL) {
        int left = x.p == NULL ? 0 : rank(next_level(&x));
        int right = y.p == NULL ? 0 : rank(next_level(&y));
        if (left != right)
            return left < right;
    }
    return false;
}

size_t reference_best(const char *const *filters, size_t count, pep_view topic)
{
    size_t best = count;
    for (size_t i = 0; i < count; i++)
        if (reference_matches(filters[i], topic) && (best == count || more_specific(filters[i], filters[best])))
            best = i;
    return best;
}
