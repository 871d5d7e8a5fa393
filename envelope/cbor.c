#include "envelope/cbor.h"

#include <cbor.h>
#include <string.h>

#include "envelope/text.h"

/* RFC 8949, 3.1 */
enum { MAJOR_UINT = 0, MAJOR_NINT = 1, MAJOR_BYTES = 2, MAJOR_TEXT = 3, MAJOR_ARRAY = 4, MAJOR_MAP = 5, MAJOR_TAG = 6 };

/* ---- reading ---- */

/* libcbor changed the type of lengths and counts in 0.10; its callbacks must have exactly the right one. */
#if CBOR_MAJOR_VERSION == 0 && CBOR_MINOR_VERSION < 10
typedef size_t count_type;
#else
typedef uint64_t count_type;
#endif

static void set(void *item, pep_item_type type, uint64_t value)
{
    *(pep_item *)item = (pep_item){.type = type, .value = value};
}

static void on_uint8(void *item, uint8_t v)
{
    set(item, ITEM_UINT, v);
}

static void on_uint16(void *item, uint16_t v)
{
    set(item, ITEM_UINT, v);
}

static void on_uint32(void *item, uint32_t v)
{
    set(item, ITEM_UINT, v);
}

static void on_uint64(void *item, uint64_t v)
{
    set(item, ITEM_UINT, v);
}

static void on_nint8(void *item, uint8_t v)
{
    set(item, ITEM_NINT, v);
}

static void on_nint16(void *item, uint16_t v)
{
    set(item, ITEM_NINT, v);
}

static void on_nint32(void *item, uint32_t v)
{
    set(item, ITEM_NINT, v);
}

static void on_nint64(void *item, uint64_t v)
{
    set(item, ITEM_NINT, v);
}

static void on_bytes(void *item, cbor_data p, count_type n)
{
    *(pep_item *)item = (pep_item){.type = ITEM_BYTES, .value = n, .string = {p, (size_t)n}};
}

static void on_text(void *item, cbor_data p, count_type n)
{
    *(pep_item *)item = (pep_item){.type = ITEM_TEXT, .value = n, .string = {p, (size_t)n}};
}

static void on_array(void *item, count_type n)
{
    set(item, ITEM_ARRAY, n);
}

static void on_map(void *item, count_type n)
{
    set(item, ITEM_MAP, n);
}

static void on_tag(void *item, uint64_t tag)
{
    set(item, ITEM_TAG, tag);
}

static void on_bool(void *item, bool v)
{
    set(item, ITEM_BOOL, v);
}

static void on_null(void *item)
{
    set(item, ITEM_NULL, 0);
}

/* Indefinite lengths, floats and other simple values leave ITEM_NONE behind: refused. */
static void on_other(void *item)
{
    (void)item;
}

static void on_float(void *item, float v)
{
    (void)item;
    (void)v;
}

static void on_double(void *item, double v)
{
    (void)item;
    (void)v;
}

static const struct cbor_callbacks callbacks = {
    .uint8 = on_uint8,
    .uint16 = on_uint16,
    .uint32 = on_uint32,
    .uint64 = on_uint64,
    .negint8 = on_nint8,
    .negint16 = on_nint16,
    .negint32 = on_nint32,
    .negint64 = on_nint64,
    .byte_string = on_bytes,
    .byte_string_start = on_other,
    .string = on_text,
    .string_start = on_other,
    .array_start = on_array,
    .indef_array_start = on_other,
    .map_start = on_map,
    .indef_map_start = on_other,
    .tag = on_tag,
    .float2 = on_float,
    .float4 = on_float,
    .float8 = on_double,
    .boolean = on_bool,
    .null = on_null,
    .undefined = on_other,
    .indef_break = on_other,
};

/* Bytes of the shortest head that holds a value (RFC 8949, 4.2.1). */
static size_t head_bytes(uint64_t value)
{
    if (value < 24)
        return 1;
    if (value <= UINT8_MAX)
        return 2;
    if (value <= UINT16_MAX)
        return 3;
    return value <= UINT32_MAX ? 5 : 9;
}

pep_reader pep_reader_of(pep_view bytes)
{
    return (pep_reader){.p = bytes.p, .end = bytes.p == NULL ? NULL : bytes.p + bytes.n};
}

bool pep_read_end(const pep_reader *r)
{
    return r->p == r->end;
}

/* Tags 0 to 23 are one byte. libcbor 0.8 refuses 6 to 20 as unassigned, COSE's 16 and 18 among them. */
static bool read_small_tag(pep_reader *r, pep_item *out)
{
    if (*r->p >> 5 != MAJOR_TAG || (*r->p & 0x1f) >= 24)
        return false;
    set(out, ITEM_TAG, *r->p & 0x1f);
    r->p++;
    return true;
}

bool pep_read(pep_reader *r, pep_item *out)
{
    *out = (pep_item){.type = ITEM_NONE};
    if (r->p == r->end || r->items == PEP_ITEMS_MAX)
        return false;
    r->items++;
    if (read_small_tag(r, out))
        return true;
    struct cbor_decoder_result result = cbor_stream_decode(r->p, (size_t)(r->end - r->p), &callbacks, out);
    if (result.status != CBOR_DECODER_FINISHED || out->type == ITEM_NONE)
        return false;
    bool simple = out->type == ITEM_BOOL || out->type == ITEM_NULL;
    size_t head = result.read - out->string.n;
    if (head != (simple ? 1 : head_bytes(out->value)))
        return false;
    if (out->type == ITEM_TEXT && !pep_utf8_valid(out->string.p, out->string.n))
        return false;
    r->p += result.read;
    return true;
}

static bool read_type(pep_reader *r, pep_item *out, pep_item_type type)
{
    return pep_read(r, out) && out->type == type;
}

bool pep_read_uint(pep_reader *r, uint64_t *out)
{
    pep_item item;
    if (!read_type(r, &item, ITEM_UINT))
        return false;
    *out = item.value;
    return true;
}

bool pep_read_int(pep_reader *r, int64_t *out)
{
    pep_item item;
    if (!pep_read(r, &item) || (item.type != ITEM_UINT && item.type != ITEM_NINT) || item.value > INT64_MAX)
        return false;
    *out = item.type == ITEM_UINT ? (int64_t)item.value : -1 - (int64_t)item.value;
    return true;
}

bool pep_read_bytes(pep_reader *r, pep_view *out)
{
    pep_item item;
    if (!read_type(r, &item, ITEM_BYTES))
        return false;
    *out = item.string;
    return true;
}

bool pep_read_fixed(pep_reader *r, const uint8_t **out, size_t n)
{
    pep_view bytes;
    if (!pep_read_bytes(r, &bytes) || bytes.n != n)
        return false;
    *out = bytes.p;
    return true;
}

bool pep_read_text(pep_reader *r, pep_view *out)
{
    pep_item item;
    if (!read_type(r, &item, ITEM_TEXT))
        return false;
    *out = item.string;
    return true;
}

bool pep_read_array(pep_reader *r, uint64_t *count)
{
    pep_item item;
    if (!read_type(r, &item, ITEM_ARRAY))
        return false;
    *count = item.value;
    return true;
}

bool pep_read_tag(pep_reader *r, uint64_t tag)
{
    pep_item item;
    return read_type(r, &item, ITEM_TAG) && item.value == tag;
}

static bool skip_map(pep_reader *r, pep_map *m, unsigned depth)
{
    pep_item key;
    while (m->left > 0)
        if (!pep_map_key(r, m, &key) || !pep_read_skip(r, depth))
            return false;
    return true;
}

bool pep_read_skip(pep_reader *r, unsigned depth)
{
    pep_item item;
    if (!pep_read(r, &item))
        return false;
    bool nests = item.type == ITEM_ARRAY || item.type == ITEM_MAP || item.type == ITEM_TAG;
    if (!nests)
        return true;
    if (depth == 0)
        return false;
    if (item.type == ITEM_MAP) {
        pep_map map = {.left = item.value};
        return skip_map(r, &map, depth - 1);
    }
    uint64_t count = item.type == ITEM_TAG ? 1 : item.value;
    for (uint64_t i = 0; i < count; i++) /* ends with the input at the latest: each item takes a byte */
        if (!pep_read_skip(r, depth - 1))
            return false;
    return true;
}

bool pep_map_begin(pep_reader *r, pep_map *out)
{
    pep_item item;
    if (!read_type(r, &item, ITEM_MAP))
        return false;
    *out = (pep_map){.left = item.value};
    return true;
}

/* Bytewise lexicographic order of encoded keys (RFC 8949, 4.2.1); equal keys are not in order. */
static bool sorts_after(pep_view key, pep_view previous)
{
    if (previous.p == NULL)
        return true;
    size_t shorter = key.n < previous.n ? key.n : previous.n;
    return memcmp(key.p, previous.p, shorter) > 0; /* no item's encoding is the beginning of another's */
}

bool pep_map_key(pep_reader *r, pep_map *m, pep_item *key)
{
    const uint8_t *start = r->p;
    if (m->left == 0 || !pep_read(r, key))
        return false;
    if (key->type != ITEM_UINT && key->type != ITEM_NINT && key->type != ITEM_TEXT && key->type != ITEM_BYTES)
        return false;
    pep_view encoded = {start, (size_t)(r->p - start)};
    if (!sorts_after(encoded, m->previous))
        return false;
    m->previous = encoded;
    m->left--;
    return true;
}

bool pep_map_expect(pep_reader *r, pep_map *m, int64_t key)
{
    pep_item item;
    if (!pep_map_key(r, m, &item))
        return false;
    return key >= 0 ? item.type == ITEM_UINT && item.value == (uint64_t)key
                    : item.type == ITEM_NINT && item.value == (uint64_t)(-1 - key);
}

/* ---- writing ---- */

void pep_write_raw(pep_writer *w, const uint8_t *p, size_t n)
{
    if (w->p != NULL && n > w->cap - w->n) {
        w->full = true;
        return;
    }
    if (w->p != NULL && n > 0)
        memcpy(w->p + w->n, p, n);
    w->n += n;
}

static void write_head(pep_writer *w, unsigned major, uint64_t value)
{
    uint8_t head[9];
    size_t n = head_bytes(value);
    static const uint8_t info[] = {[2] = 24, [3] = 25, [5] = 26, [9] = 27};
    head[0] = (uint8_t)(major << 5 | (n == 1 ? value : info[n]));
    for (size_t i = 1; i < n; i++)
        head[i] = (uint8_t)(value >> 8 * (n - 1 - i));
    pep_write_raw(w, head, n);
}

void pep_write_uint(pep_writer *w, uint64_t value)
{
    write_head(w, MAJOR_UINT, value);
}

void pep_write_int(pep_writer *w, int64_t value)
{
    if (value < 0)
        write_head(w, MAJOR_NINT, (uint64_t)(-1 - value));
    else
        write_head(w, MAJOR_UINT, (uint64_t)value);
}

void pep_write_bytes_head(pep_writer *w, size_t n)
{
    write_head(w, MAJOR_BYTES, n);
}

void pep_write_bytes(pep_writer *w, const uint8_t *p, size_t n)
{
    write_head(w, MAJOR_BYTES, n);
    pep_write_raw(w, p, n);
}

void pep_write_text(pep_writer *w, const uint8_t *p, size_t n)
{
    write_head(w, MAJOR_TEXT, n);
    pep_write_raw(w, p, n);
}

void pep_write_string(pep_writer *w, const char *text)
{
    pep_write_text(w, (const uint8_t *)text, strlen(text));
}

void pep_write_array(pep_writer *w, uint64_t count)
{
    write_head(w, MAJOR_ARRAY, count);
}

void pep_write_map(pep_writer *w, uint64_t count)
{
    write_head(w, MAJOR_MAP, count);
}

void pep_write_tag(pep_writer *w, uint64_t tag)
{
    write_head(w, MAJOR_TAG, tag);
}

void pep_write_bool(pep_writer *w, bool value)
{
    uint8_t byte = value ? 0xf5 : 0xf4;
    pep_write_raw(w, &byte, 1);
}

void pep_write_null(pep_writer *w)
{
    static const uint8_t byte = 0xf6;
    pep_write_raw(w, &byte, 1);
}
