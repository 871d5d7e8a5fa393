/* The deterministic CBOR reader and writer (RFC 8949, 3 and 4.2.1). Inputs lie in heap buffers of exactly their size.
 */
#include "envelope/cbor.h"

#include "unit.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "exact.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define VIEW(s)                                                                                                        \
    {                                                                                                                  \
        (const uint8_t *)(s), sizeof(s) - 1                                                                            \
    }
#define BYTES(s) ((pep_view)VIEW(s))

enum { MAJOR_BYTES = 2, MAJOR_TEXT = 3, MAJOR_SIMPLE = 7 };

static const pep_item_type type_of_major[] = {ITEM_UINT,  ITEM_NINT, ITEM_BYTES, ITEM_TEXT,
                                              ITEM_ARRAY, ITEM_MAP,  ITEM_TAG};

/* ---- one input ---- */

typedef struct {
    uint8_t *heap;
    pep_reader r;
} input;

static input input_of(pep_view bytes)
{
    input in = {.heap = exact_copy(bytes.p, bytes.n)};
    in.r = (pep_reader){.p = in.heap, .end = in.heap + bytes.n};
    return in;
}

/* Whether the bytes are one item and nothing else. */
static bool reads(pep_view bytes)
{
    pep_item item;
    input in = input_of(bytes);
    bool ok = pep_read(&in.r, &item) && pep_read_end(&in.r);
    free(in.heap);
    return ok;
}

static bool skips(pep_view bytes, unsigned depth)
{
    input in = input_of(bytes);
    bool ok = pep_read_skip(&in.r, depth) && pep_read_end(&in.r);
    free(in.heap);
    return ok;
}

/* Whether it is refused for what it is, not for what is left behind it. */
static bool refuses(pep_view bytes)
{
    pep_item item;
    input read = input_of(bytes);
    input skipped = input_of(bytes);
    bool ok = !pep_read(&read.r, &item) && !pep_read_skip(&skipped.r, 9);
    free(read.heap);
    free(skipped.heap);
    return ok;
}

/* ---- heads ---- */

typedef struct {
    uint64_t value;
    uint8_t head[9]; /* with major 0 */
    size_t n;
} head_case;

static const head_case heads[] = {
    {0, {0x00}, 1},
    {1, {0x01}, 1},
    {23, {0x17}, 1},
    {24, {0x18, 24}, 2},
    {255, {0x18, 0xff}, 2},
    {256, {0x19, 1, 0}, 3},
    {65535, {0x19, 0xff, 0xff}, 3},
    {65536, {0x1a, 0, 1, 0, 0}, 5},
    {UINT32_MAX, {0x1a, 0xff, 0xff, 0xff, 0xff}, 5},
    {UINT32_MAX + 1ULL, {0x1b, 0, 0, 0, 1, 0, 0, 0, 0}, 9},
    {INT64_MAX, {0x1b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, 9},
    {UINT64_MAX, {0x1b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, 9},
};

static const head_case too_long[] = {
    {0, {0x18, 0}, 2},
    {23, {0x18, 23}, 2},
    {0, {0x19, 0, 0}, 3},
    {255, {0x19, 0, 0xff}, 3},
    {0, {0x1a, 0, 0, 0, 0}, 5},
    {65535, {0x1a, 0, 0, 0xff, 0xff}, 5},
    {0, {0x1b, 0, 0, 0, 0, 0, 0, 0, 0}, 9},
    {65535, {0x1b, 0, 0, 0, 0, 0, 0, 0xff, 0xff}, 9},
    {UINT32_MAX, {0x1b, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff}, 9},
};

/* The head with another major type, and behind it as much content as a string of that length has, or as fits here. */
static pep_view with_major(const head_case *c, unsigned major)
{
    static uint8_t bytes[9 + 65536];
    memset(bytes, 'x', sizeof bytes);
    memcpy(bytes, c->head, c->n);
    bytes[0] |= (uint8_t)(major << 5);
    bool is_string = major == MAJOR_BYTES || major == MAJOR_TEXT;
    size_t content = !is_string ? 0 : c->value <= 65536 ? (size_t)c->value : 65536;
    return (pep_view){bytes, c->n + content};
}

static void check_head(const head_case *c, unsigned major)
{
    pep_item item;
    bool is_string = major == MAJOR_BYTES || major == MAJOR_TEXT;
    input in = input_of(with_major(c, major));
    CU_ASSERT(pep_read(&in.r, &item));
    CU_ASSERT(pep_read_end(&in.r));
    CU_ASSERT_EQUAL(item.type, type_of_major[major]);
    CU_ASSERT_EQUAL(item.value, c->value);
    CU_ASSERT_PTR_EQUAL(item.string.p, is_string ? in.heap + c->n : NULL);
    CU_ASSERT_EQUAL(item.string.n, is_string ? c->value : 0);
    free(in.heap);
}

static void test_heads(void)
{
    for (size_t i = 0; i < COUNT(heads); i++)
        for (unsigned major = 0; major < MAJOR_SIMPLE; major++) {
            bool is_string = major == MAJOR_BYTES || major == MAJOR_TEXT;
            bool more_than_there_is = is_string && heads[i].value > 65536;
            if (!more_than_there_is)
                check_head(&heads[i], major);
            CU_ASSERT_EQUAL(reads(with_major(&heads[i], major)), !more_than_there_is);
        }
}

static void test_too_long_heads(void)
{
    for (size_t i = 0; i < COUNT(too_long); i++)
        for (unsigned major = 0; major < MAJOR_SIMPLE; major++)
            CU_ASSERT_FALSE(reads(with_major(&too_long[i], major)));
}

static void test_cut_short(void)
{
    CU_ASSERT_FALSE(reads((pep_view){NULL, 0}));
    for (size_t i = 0; i < COUNT(heads) && heads[i].value <= 256; i++)
        for (unsigned major = 0; major < MAJOR_SIMPLE; major++) {
            pep_view whole = with_major(&heads[i], major);
            for (size_t n = 0; n < whole.n; n++)
                CU_ASSERT_FALSE(reads((pep_view){whole.p, n}));
        }
    for (size_t i = 0; i < COUNT(heads); i++)
        for (size_t n = 0; n < heads[i].n; n++)
            CU_ASSERT_FALSE(reads((pep_view){heads[i].head, n}));
}

static void test_string_one_too_long(void)
{
    CU_ASSERT(reads(BYTES("\x42zz")));
    CU_ASSERT_FALSE(reads(BYTES("\x43zz")));
    CU_ASSERT_FALSE(reads(BYTES("\x63zz")));
    CU_ASSERT_FALSE(reads(BYTES("\x5b\x7f\xff\xff\xff\xff\xff\xff\xffzz")));
    CU_ASSERT_FALSE(reads(BYTES("\x7b\xff\xff\xff\xff\xff\xff\xff\xf7zz"))); /* p + n would wrap */
}

/* ---- what is no part of this CBOR ---- */

static const pep_view forbidden[] = {
    VIEW("\x5f\xff"),
    VIEW("\x5f\x41z\xff"),
    VIEW("\x7f\xff"),
    VIEW("\x7f\x61z\xff"),
    VIEW("\x9f\xff"),
    VIEW("\x9f\x01\xff"),
    VIEW("\xbf\xff"),
    VIEW("\xff"),
    VIEW("\xf7"), /* undefined */
    VIEW("\xf9\x00\x00"),
    VIEW("\xf9\x3c\x00"), /* floats */
    VIEW("\xfa\x47\xc3\x50\x00"),
    VIEW("\xfb\x3f\xf1\x99\x99\x99\x99\x99\x9a"), /* and longer ones */
    VIEW("\x62\xc3\x28"),
    VIEW("\x61\xff"),
    VIEW("\x63\xed\xa0\x80"), /* no UTF-8 */
};

static void test_forbidden(void)
{
    for (size_t i = 0; i < COUNT(forbidden); i++)
        CU_ASSERT(refuses(forbidden[i]));
    CU_ASSERT(reads(BYTES("\x42\xc3\x28"))); /* bytes may be anything */
}

/* Nor is it taken for the type that it would have if it were not wrong. */
static void test_forbidden_of_a_type(void)
{
    uint64_t number;
    int64_t integer;
    pep_view string;
    input number_in = input_of(BYTES("\x18\x17"));
    input text_in = input_of(BYTES("\x61\xff"));
    input bytes_in = input_of(BYTES("\x58\x01z"));
    CU_ASSERT_FALSE(pep_read_uint(&number_in.r, &number));
    CU_ASSERT_FALSE(pep_read_int(&number_in.r, &integer));
    CU_ASSERT_FALSE(pep_read_text(&text_in.r, &string));
    CU_ASSERT_FALSE(pep_read_bytes(&bytes_in.r, &string));
    free(number_in.heap);
    free(text_in.heap);
    free(bytes_in.heap);
}

static void test_no_key(void)
{
    pep_item key;
    pep_map none = {.left = 0};
    pep_map one = {.left = 1};
    input number = input_of(BYTES("\x01"));
    input undefined = input_of(BYTES("\xf7"));
    input too_long_number = input_of(BYTES("\x18\x02"));
    CU_ASSERT_FALSE(pep_map_key(&number.r, &none, &key));
    CU_ASSERT_FALSE(pep_map_key(&too_long_number.r, &one, &key));
    CU_ASSERT_FALSE(pep_map_key(&undefined.r, &one, &key));
    free(number.heap);
    free(undefined.heap);
    free(too_long_number.heap);
}

static void test_simple_values(void)
{
    pep_item item;
    const struct {
        uint8_t byte;
        pep_item_type type;
        uint64_t value;
    } good[] = {{0xf4, ITEM_BOOL, 0}, {0xf5, ITEM_BOOL, 1}, {0xf6, ITEM_NULL, 0}};
    for (size_t i = 0; i < COUNT(good); i++) {
        input in = input_of((pep_view){&good[i].byte, 1});
        CU_ASSERT(pep_read(&in.r, &item) && pep_read_end(&in.r));
        CU_ASSERT(item.type == good[i].type && item.value == good[i].value);
        free(in.heap);
    }
    for (unsigned byte = 0xe0; byte <= 0xff; byte++)
        if (byte < 0xf4 || byte > 0xf6)
            CU_ASSERT_FALSE(reads((pep_view){(const uint8_t[]){(uint8_t)byte}, 1}));
    for (unsigned value = 0; value < 256; value++)
        CU_ASSERT_FALSE(reads((pep_view){(const uint8_t[]){0xf8, (uint8_t)value}, 2}));
}

static void test_reserved_infos(void)
{
    for (unsigned major = 0; major <= MAJOR_SIMPLE; major++)
        for (unsigned info = 28; info < 32; info++) {
            uint8_t bytes[20] = {(uint8_t)(major << 5 | info)};
            for (size_t n = 1; n <= sizeof bytes; n++)
                CU_ASSERT_FALSE(reads((pep_view){bytes, n}));
        }
}

/* ---- any first byte, any tail ---- */

static void write_item(pep_writer *w, const pep_item *item)
{
    static void (*const writers[])(pep_writer *, uint64_t) = {[ITEM_UINT] = pep_write_uint,
                                                              [ITEM_ARRAY] = pep_write_array,
                                                              [ITEM_MAP] = pep_write_map,
                                                              [ITEM_TAG] = pep_write_tag};
    if (item->type == ITEM_BYTES)
        pep_write_bytes(w, item->string.p, item->string.n);
    else if (item->type == ITEM_TEXT)
        pep_write_text(w, item->string.p, item->string.n);
    else if (item->type == ITEM_BOOL)
        pep_write_bool(w, item->value != 0);
    else if (item->type == ITEM_NULL)
        pep_write_null(w);
    else if (item->type == ITEM_NINT && item->value <= INT64_MAX)
        pep_write_int(w, -1 - (int64_t)item->value);
    else if (item->type < COUNT(writers) && writers[item->type] != NULL)
        writers[item->type](w, item->value);
}

/* There is one encoding of an item: what was read must be what we would write. */
static void check_any(pep_view bytes)
{
    uint8_t again[64];
    pep_writer w = {.p = again, .cap = sizeof again};
    pep_item item;
    input in = input_of(bytes);
    if (pep_read(&in.r, &item)) {
        write_item(&w, &item);
        size_t n = (size_t)(in.r.p - in.heap);
        bool unwritable = item.type == ITEM_NULL || (item.type == ITEM_NINT && item.value > INT64_MAX);
        CU_ASSERT(n <= bytes.n && (unwritable || (w.n == n && memcmp(again, in.heap, n) == 0)));
    } else {
        CU_ASSERT_EQUAL(w.n, 0);
    }
    in.r = (pep_reader){.p = in.heap, .end = in.heap + bytes.n};
    (void)pep_read_skip(&in.r, 6);
    CU_ASSERT(in.r.p >= in.heap && in.r.p <= in.r.end);
    free(in.heap);
}

static void test_any_bytes(void)
{
    uint8_t bytes[40];
    uint8_t seed[randombytes_SEEDBYTES] = {0};
    for (unsigned round = 0; round < 40; round++)
        for (unsigned first = 0; first < 256; first++) {
            seed[0] = (uint8_t)round;
            seed[1] = (uint8_t)first;
            randombytes_buf_deterministic(bytes, sizeof bytes, seed);
            bytes[0] = (uint8_t)first;
            check_any((pep_view){bytes, 1 + round % sizeof bytes});
        }
}

/* ---- readers of one type ---- */

static void check_types(pep_view bytes, pep_item_type type)
{
    uint64_t number;
    int64_t integer;
    pep_view string;
    const uint8_t *fixed;
    pep_map map;
    const pep_reader start = pep_reader_of(bytes);
    pep_reader r = start;
    CU_ASSERT_EQUAL(pep_read_uint(&r, &number), type == ITEM_UINT);
    r = start;
    CU_ASSERT_EQUAL(pep_read_int(&r, &integer), type == ITEM_UINT || type == ITEM_NINT);
    r = start;
    CU_ASSERT_EQUAL(pep_read_bytes(&r, &string), type == ITEM_BYTES);
    r = start;
    CU_ASSERT_EQUAL(pep_read_fixed(&r, &fixed, 1), type == ITEM_BYTES);
    r = start;
    CU_ASSERT_EQUAL(pep_read_text(&r, &string), type == ITEM_TEXT);
    r = start;
    CU_ASSERT_EQUAL(pep_read_array(&r, &number), type == ITEM_ARRAY);
    r = start;
    CU_ASSERT_EQUAL(pep_map_begin(&r, &map), type == ITEM_MAP);
    r = start;
    CU_ASSERT_EQUAL(pep_read_tag(&r, 1), type == ITEM_TAG);
}

static void test_types(void)
{
    check_types(BYTES("\x01"), ITEM_UINT);
    check_types(BYTES("\x21"), ITEM_NINT);
    check_types(BYTES("\x41z"), ITEM_BYTES);
    check_types(BYTES("\x61z"), ITEM_TEXT);
    check_types(BYTES("\x81"), ITEM_ARRAY);
    check_types(BYTES("\xa1"), ITEM_MAP);
    check_types(BYTES("\xc1"), ITEM_TAG);
    check_types(BYTES("\xf5"), ITEM_BOOL);
    check_types(BYTES("\xf6"), ITEM_NULL);
    check_types(BYTES("\x9f"), ITEM_NONE);
    check_types((pep_view){NULL, 0}, ITEM_NONE);
}

static bool int_of(pep_view bytes, int64_t *out)
{
    pep_reader r = pep_reader_of(bytes);
    return pep_read_int(&r, out);
}

static void test_int_limits(void)
{
    int64_t v;
    CU_ASSERT(int_of(BYTES("\x20"), &v) && v == -1);
    CU_ASSERT(int_of(BYTES("\x1b\x7f\xff\xff\xff\xff\xff\xff\xff"), &v) && v == INT64_MAX);
    CU_ASSERT(int_of(BYTES("\x3b\x7f\xff\xff\xff\xff\xff\xff\xff"), &v) && v == INT64_MIN);
    CU_ASSERT_FALSE(int_of(BYTES("\x1b\x80\x00\x00\x00\x00\x00\x00\x00"), &v));
    CU_ASSERT_FALSE(int_of(BYTES("\x3b\x80\x00\x00\x00\x00\x00\x00\x00"), &v));
    CU_ASSERT_FALSE(int_of(BYTES("\x3b\xff\xff\xff\xff\xff\xff\xff\xff"), &v));
}

static void test_exact_readers(void)
{
    const uint8_t *p = NULL;
    pep_reader r = pep_reader_of(BYTES("\x43zzz"));
    CU_ASSERT(pep_read_fixed(&r, &p, 3) && pep_read_end(&r));
    r = pep_reader_of(BYTES("\x43zzz"));
    CU_ASSERT_FALSE(pep_read_fixed(&r, &p, 2));
    r = pep_reader_of(BYTES("\x43zzz"));
    CU_ASSERT_FALSE(pep_read_fixed(&r, &p, 4));
    for (unsigned tag = 0; tag < 24; tag++) { /* libcbor by itself refuses some of these */
        r = pep_reader_of((pep_view){(const uint8_t[]){(uint8_t)(0xc0 + tag)}, 1});
        CU_ASSERT(pep_read_tag(&r, tag) && pep_read_end(&r));
        r = pep_reader_of((pep_view){(const uint8_t[]){(uint8_t)(0xc0 + tag)}, 1});
        CU_ASSERT_FALSE(pep_read_tag(&r, tag + 1));
    }
}

/* ---- maps ---- */

/* How many keys of the map are read before one is refused; all, then the end: the map is good. */
static unsigned keys_of(pep_view bytes, bool *good)
{
    pep_map map;
    pep_item key;
    unsigned n = 0;
    input in = input_of(bytes);
    *good = pep_map_begin(&in.r, &map);
    while (*good && map.left > 0) {
        *good = pep_map_key(&in.r, &map, &key) && pep_read(&in.r, &key);
        n += *good;
    }
    *good = *good && pep_read_end(&in.r);
    free(in.heap);
    return n;
}

typedef struct {
    pep_view bytes;
    unsigned keys;
    bool good;
} map_case;

static const map_case maps[] = {
    {VIEW("\xa0"), 0, true},
    {VIEW("\xa2\x01\x00\x02\x00"), 2, true},
    {VIEW("\xa2\x17\x00\x18\x18\x00"), 2, true},
    {VIEW("\xa3\x02\x00\x21\x00\x61z\x00"), 3, true}, /* positive, then negative, then text */
    {VIEW("\xa2\x41\x01\x00\x60\x00"), 2, true},
    {VIEW("\xa2\x61z\x00\x62zz\x00"), 2, true}, /* the shorter text sorts first */
    {VIEW("\xa2\x61y\x00\x61z\x00"), 2, true},
    {VIEW("\xa2\x20\x00\x38\x20\x00"), 2, true},
    {VIEW("\xa2\x01\x00\x01\x00"), 1, false}, /* twice */
    {VIEW("\xa2\x61z\x00\x61z\x00"), 1, false},
    {VIEW("\xa3\x01\x00\x02\x00\x01\x00"), 2, false},
    {VIEW("\xa2\x02\x00\x01\x00"), 1, false}, /* out of order */
    {VIEW("\xa2\x20\x00\x01\x00"), 1, false},
    {VIEW("\xa2\x21\x00\x20\x00"), 1, false},
    {VIEW("\xa2\x62zz\x00\x61z\x00"), 1, false},
    {VIEW("\xa2\x61z\x00\x61y\x00"), 1, false},
    {VIEW("\xa1\xf5\x00"), 0, false}, /* no keys of ours */
    {VIEW("\xa1\xf6\x00"), 0, false},
    {VIEW("\xa1\x80\x00"), 0, false},
    {VIEW("\xa1\xa0\x00"), 0, false},
    {VIEW("\xa1\xc1\x00\x00"), 0, false},
    {VIEW("\xa1\x01"), 0, false}, /* less than it says */
    {VIEW("\xa2\x01\x00"), 1, false},
    {VIEW("\xa2\x01\x00\x02"), 1, false},
    {VIEW("\xa1\x01\x00\x02\x00"), 1, false}, /* and more */
    {VIEW("\xbb\xff\xff\xff\xff\xff\xff\xff\xff\x01\x00"), 1, false},
};

static void test_maps(void)
{
    for (size_t i = 0; i < COUNT(maps); i++) {
        bool good;
        CU_ASSERT_EQUAL(keys_of(maps[i].bytes, &good), maps[i].keys);
        CU_ASSERT_EQUAL(good, maps[i].good);
        CU_ASSERT_EQUAL(skips(maps[i].bytes, 1), maps[i].good);
    }
}

static bool expects(pep_view bytes, int64_t key)
{
    pep_map map;
    pep_reader r = pep_reader_of(bytes);
    return pep_map_begin(&r, &map) && pep_map_expect(&r, &map, key);
}

static void test_map_expect(void)
{
    CU_ASSERT(expects(BYTES("\xa1\x05"), 5));
    CU_ASSERT_FALSE(expects(BYTES("\xa1\x05"), 6));
    CU_ASSERT_FALSE(expects(BYTES("\xa1\x05"), -6));
    CU_ASSERT(expects(BYTES("\xa1\x25"), -6));
    CU_ASSERT_FALSE(expects(BYTES("\xa1\x25"), 5));
    CU_ASSERT_FALSE(expects(BYTES("\xa1\x25"), -7));
    CU_ASSERT_FALSE(expects(BYTES("\xa1\x41\x05"), 5));
    CU_ASSERT_FALSE(expects(BYTES("\xa0\x05"), 5)); /* no pair is left */
    CU_ASSERT(expects(BYTES("\xa1\x3a\x00\x01\x00\x00"), -65537));
}

/* ---- nesting ---- */

static void test_nesting(void)
{
    static const char openers[] = {'\x81', '\xc1', '\xa1'};
    for (size_t k = 0; k < sizeof openers; k++)
        for (unsigned levels = 0; levels <= 8; levels++) {
            uint8_t bytes[20];
            size_t n = 0;
            for (unsigned i = 0; i < levels; i++) {
                bytes[n++] = (uint8_t)openers[k];
                if (openers[k] == '\xa1')
                    bytes[n++] = 0; /* the key */
            }
            bytes[n++] = 0xf6;
            for (unsigned depth = 0; depth <= 8; depth++)
                CU_ASSERT_EQUAL(skips((pep_view){bytes, n}, depth), levels <= depth);
        }
}

/* A thousand items are enough for anything here; a megabyte of tiny ones costs no more than these. */
static void test_item_limit(void)
{
    uint8_t items[3 + PEP_ITEMS_MAX] = {0x99, 0, 0};
    for (unsigned count = PEP_ITEMS_MAX - 2; count <= PEP_ITEMS_MAX; count++) {
        items[1] = (uint8_t)(count >> 8);
        items[2] = (uint8_t)count;
        CU_ASSERT_EQUAL(skips((pep_view){items, 3 + count}, 2), count < PEP_ITEMS_MAX);
    }
}

static void test_skip(void)
{
    CU_ASSERT(skips(BYTES("\x83\x01\x82\x02\x03\x62zz"), 2));
    CU_ASSERT_FALSE(skips(BYTES("\x83\x01\x82\x02\x03"), 2));
    CU_ASSERT_FALSE(skips(BYTES("\x80\x80"), 2)); /* the second is not part of it */
    CU_ASSERT_FALSE(skips(BYTES("\x81\xa2\x02\x00\x01\x00"), 2));
    CU_ASSERT_FALSE(skips(BYTES("\xa2\x02\x00\x01\x00\x03\x00"), 2)); /* with a third pair it is no better */
    CU_ASSERT_FALSE(skips(BYTES("\x9b\xff\xff\xff\xff\xff\xff\xff\xff\x01\x02"), 2));
    CU_ASSERT_FALSE(skips(BYTES("\x9b\xff\xff\xff\xff\xff\xff\xff\xff"), 2));
    CU_ASSERT_FALSE(skips(BYTES("\xc1"), 2));
    CU_ASSERT(skips(BYTES("\x80"), 1));
    CU_ASSERT_FALSE(skips(BYTES("\x80"), 0));
}

/* ---- writing ---- */

static void check_written(const pep_writer *w, pep_view expected)
{
    CU_ASSERT_FALSE(w->full);
    CU_ASSERT_EQUAL(w->n, expected.n);
    CU_ASSERT(w->n == expected.n && memcmp(w->p, expected.p, w->n) == 0);
}

static void test_written_heads(void)
{
    uint8_t out[16];
    for (size_t i = 0; i < COUNT(heads); i++)
        for (unsigned major = 0; major < MAJOR_SIMPLE; major++) {
            const head_case *c = &heads[i];
            const pep_item item = {.type = type_of_major[major], .value = c->value};
            pep_writer w = {.p = out, .cap = sizeof out};
            if (major == MAJOR_TEXT || (major == 1 && c->value > INT64_MAX))
                continue;
            if (major == MAJOR_BYTES)
                pep_write_bytes_head(&w, c->value);
            else
                write_item(&w, &item);
            check_written(&w, (pep_view){with_major(c, major).p, c->n});
        }
}

static void write_all_kinds(pep_writer *w)
{
    pep_write_uint(w, 1000);
    pep_write_int(w, 5);
    pep_write_int(w, -500);
    pep_write_int(w, INT64_MIN);
    pep_write_bytes(w, (const uint8_t *)"ab", 2);
    pep_write_bytes(w, NULL, 0);
    pep_write_text(w, (const uint8_t *)"cd", 2);
    pep_write_string(w, "efg");
    pep_write_array(w, 2);
    pep_write_map(w, 3);
    pep_write_tag(w, 18);
    pep_write_bool(w, false);
    pep_write_bool(w, true);
    pep_write_bytes_head(w, 1);
    pep_write_raw(w, (const uint8_t *)"h", 1);
}

static const pep_view all_kinds = VIEW("\x19\x03\xe8\x05\x39\x01\xf3\x3b\x7f\xff\xff\xff\xff\xff\xff\xff\x42"
                                       "ab\x40\x62"
                                       "cd\x63"
                                       "efg\x82\xa3\xd2\xf4\xf5\x41h");

static void test_writer(void)
{
    uint8_t out[64];
    pep_writer w = {.p = out, .cap = sizeof out};
    write_all_kinds(&w);
    check_written(&w, all_kinds);
    w = (pep_writer){.p = out, .cap = all_kinds.n};
    write_all_kinds(&w);
    check_written(&w, all_kinds);
}

static void test_counting(void)
{
    pep_writer w = {0};
    write_all_kinds(&w);
    CU_ASSERT_FALSE(w.full);
    CU_ASSERT_EQUAL(w.n, all_kinds.n);
}

static void test_full(void)
{
    for (size_t cap = 0; cap < all_kinds.n; cap++) {
        uint8_t *exact = exact_copy(all_kinds.p, cap);
        pep_writer w = {.p = exact, .cap = cap};
        write_all_kinds(&w);
        CU_ASSERT(w.full);
        CU_ASSERT(w.n <= cap);
        pep_write_raw(&w, NULL, 0);
        CU_ASSERT(w.full); /* and stays so */
        free(exact);
    }
}

static const unit_test tests[] = {
    {"heads at each size", test_heads},
    {"heads longer than needed", test_too_long_heads},
    {"cut short at each byte", test_cut_short},
    {"strings longer than the input", test_string_one_too_long},
    {"forbidden items", test_forbidden},
    {"not allowed, by type", test_forbidden_of_a_type},
    {"maps: no key", test_no_key},
    {"simple values", test_simple_values},
    {"reserved additional information", test_reserved_infos},
    {"any first byte, any tail", test_any_bytes},
    {"readers of one type", test_types},
    {"integers at their limits", test_int_limits},
    {"fixed lengths, tags", test_exact_readers},
    {"maps: order, duplicates, kinds of keys", test_maps},
    {"maps: an expected key", test_map_expect},
    {"nesting", test_nesting},
    {"at most a thousand items", test_item_limit},
    {"passing over", test_skip},
    {"written heads", test_written_heads},
    {"writer", test_writer},
    {"writer: counting", test_counting},
    {"writer: full", test_full},
};

UNIT_MAIN("cbor", tests)
