/* The trie against a plain matcher: of all filters that match, the most specific one. Lines: filters, a blank, topics.
 */
#include "tests/fuzz/fuzz.h"

#include <string.h>

#include "policy/policy.h"
#include "policy/trie.h"

#define FILTERS_MAX 64
#define TOPICS_MAX  64

typedef struct {
    char *filters[FILTERS_MAX];
    size_t n;
    trie *t;
} rules;

static char *copy_of(pep_view line)
{
    return memcpy(fuzz_memory(line.n + 1), line.p, line.n);
}

static size_t levels(const char *filter)
{
    size_t n = 1;
    for (const char *p = filter; *p != '\0'; p++)
        n += *p == '/';
    return n;
}

static void add(rules *r, pep_view line)
{
    if (r->n == FILTERS_MAX || !pep_filter_valid((const char *)line.p, line.n))
        return;
    char *filter = copy_of(line);
    if (levels(filter) > POLICY_LEVELS_MAX) {
        free(filter);
        return;
    }
    uint32_t *slot = trie_slot(r->t, filter);
    invariant(slot != NULL, "there is memory");
    bool known = false;
    for (size_t i = 0; i < r->n; i++)
        known = known || strcmp(r->filters[i], filter) == 0;
    invariant((*slot != 0) == known, "a filter has one place, and no other has it");
    if (known) {
        free(filter);
        return;
    }
    r->filters[r->n++] = filter;
    *slot = (uint32_t)r->n;
}

static void ask(const rules *r, pep_view topic)
{
    const char *text = (const char *)topic.p;
    if (!pep_topic_valid(text, topic.n))
        return;
    for (size_t i = 0; i < r->n; i++)
        invariant(pep_filter_matches(r->filters[i], strlen(r->filters[i]), text, topic.n) ==
                      reference_matches(r->filters[i], topic),
                  "libpep and the reference agree whether a filter matches");
    size_t best = reference_best((const char *const *)r->filters, r->n, topic);
    uint32_t expected = best == r->n ? 0 : (uint32_t)best + 1;
    invariant(trie_match(r->t, text, topic.n) == expected, "the most specific filter decides");
}

static pep_view next_line(pep_view *in)
{
    const uint8_t *end = in->n == 0 ? NULL : memchr(in->p, '\n', in->n);
    pep_view line = take(in, end == NULL ? in->n : (size_t)(end - in->p));
    take(in, 1);
    return line;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    rules r = {.t = trie_new()};
    pep_view in = {data, n};
    must(r.t != NULL, "no memory");
    for (pep_view line = next_line(&in); line.n > 0; line = next_line(&in))
        add(&r, line);
    for (unsigned i = 0; in.n > 0 && i < TOPICS_MAX; i++)
        ask(&r, next_line(&in));
    for (size_t i = 0; i < r.n; i++)
        free(r.filters[i]);
    trie_free(r.t);
    return 0;
}
