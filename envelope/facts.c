/* Facts that a sender asks to have recorded: a map of text to text, integer or boolean. */
#include <stdlib.h>
#include <string.h>

#include "envelope/parse.h"
#include "envelope/text.h"

static bool read_fact(pep_reader *r, pep_map *map, pep_fact *out)
{
    pep_item key;
    pep_item value;
    if (!pep_map_key(r, map, &key) || key.type != ITEM_TEXT || !pep_read(r, &value))
        return false;
    *out = (pep_fact){.key = key.string};
    switch (value.type) {
    case ITEM_TEXT:
        out->type = PEP_FACT_TEXT;
        out->text = value.string;
        return true;
    case ITEM_BOOL:
        out->type = PEP_FACT_BOOL;
        out->integer = (int64_t)value.value;
        return true;
    case ITEM_UINT:
    case ITEM_NINT:
        out->type = PEP_FACT_INT;
        out->integer = value.type == ITEM_UINT ? (int64_t)value.value : (int64_t)(-1 - (int64_t)value.value);
        return value.value <= INT64_MAX;
    default:
        return false;
    }
}

bool parse_facts(pep_reader *r, pep_view *out)
{
    const uint8_t *start = r->p;
    pep_map map;
    pep_fact fact;
    if (!pep_map_begin(r, &map) || map.left < 1 || map.left > PEP_FACTS_COUNT_MAX)
        return false;
    while (map.left > 0)
        if (!read_fact(r, &map, &fact))
            return false;
    *out = (pep_view){start, (size_t)(r->p - start)};
    return out->n <= PEP_FACTS_MAX;
}

bool pep_facts_next(pep_fact *out, size_t *at, pep_view facts)
{
    *out = (pep_fact){0};
    if (*at >= facts.n)
        return false;
    pep_reader r = {.p = facts.p + *at, .end = facts.p + facts.n};
    pep_map map = {.left = 1};
    if (*at == 0 && !pep_map_begin(&r, &map))
        return false;
    if (!read_fact(&r, &map, out))
        return false;
    *at = (size_t)(r.p - facts.p);
    return true;
}

/* Encoded text keys sort by length first: their heads hold it (RFC 8949, 4.2.1). */
static int by_encoded_key(const void *a, const void *b)
{
    const pep_fact *x = a;
    const pep_fact *y = b;
    if (x->key.n != y->key.n)
        return x->key.n < y->key.n ? -1 : 1;
    return x->key.n == 0 ? 0 : memcmp(x->key.p, y->key.p, x->key.n);
}

static void write_fact(pep_writer *w, const pep_fact *fact)
{
    pep_write_text(w, fact->key.p, fact->key.n);
    if (fact->type == PEP_FACT_TEXT)
        pep_write_text(w, fact->text.p, fact->text.n);
    else if (fact->type == PEP_FACT_INT)
        pep_write_int(w, fact->integer);
    else
        pep_write_bool(w, fact->integer != 0);
}

pep_reason pep_facts_encode(uint8_t *out, size_t *out_n, const pep_fact *facts, size_t count)
{
    pep_fact sorted[PEP_FACTS_COUNT_MAX];
    *out_n = 0;
    if (count < 1 || count > PEP_FACTS_COUNT_MAX)
        return PEP_BAD_ARGUMENT;
    memcpy(sorted, facts, count * sizeof *facts);
    qsort(sorted, count, sizeof *sorted, by_encoded_key);
    pep_writer w = {.p = out, .cap = PEP_FACTS_MAX};
    pep_write_map(&w, count);
    for (size_t i = 0; i < count; i++)
        write_fact(&w, &sorted[i]);
    pep_reader r = {.p = out, .end = out + w.n};
    pep_view whole;
    if (w.full || !parse_facts(&r, &whole)) /* reading it back finds keys twice and text that is none */
        return PEP_BAD_ARGUMENT;
    *out_n = w.n;
    return PEP_OK;
}
