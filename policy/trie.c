/*
 * A node is a level; it stands with its text in one dense block, numbered by its place there; the root's is 0. `+` and
 * `#` are fields of a node, and so is a literal level that is the only one. Where several follow, they are found in one
 * hash table for the whole trie, keyed by parent and level.
 *
 * It is laid out like this because what a lookup costs is cache misses: with 100,000 rules, tables in each node, or
 * linked nodes that lie among the rules, take several times as long. A filter's levels stand one behind the other.
 *
 * Cost of a match: one visit for each node whose path matches the topic's beginning, so never deeper than the trie,
 * however many levels a topic has. Backtracking visits at most two nodes where it came from one (the literal, then
 * `+`): at depth d at most min(2^d, nodes at depth d). That worst case takes filters that spell out every combination
 * of `+` and literals over the same levels, as many rules as visits: a client, who chooses the topic only, cannot make
 * it worse than the policy is.
 */
#include "policy/trie.h"

#include <stdlib.h>
#include <string.h>

#define NODE_UNIT sizeof(uint32_t) /* a node's place counts these, so that 32 bits reach over every policy file */

typedef struct {
    uint32_t parent;
    uint32_t plus;  /* the node of `+`, 0: none */
    uint32_t child; /* the node of the first literal level, 0: none */
    uint32_t here;  /* value of the filter that ends here, 0: none */
    uint32_t below; /* value of the filter that has only a `#` more, 0: none */
    uint16_t text_n;
    bool many; /* more literal levels than `child`: all of them are in the table */
    char text[];
} trie_node;

typedef struct {
    uint32_t hash;
    uint32_t node; /* 0: free */
} trie_edge;

struct trie {
    uint32_t *block; /* the nodes */
    size_t used;
    size_t cap;
    trie_edge *edges; /* open addressing; a power of two, at most half full */
    size_t edge_n;
    size_t edge_cap;
    size_t longest; /* bytes of the longest literal level: hostile ones beyond it are not even hashed */
};

static trie_node *node_at(const trie *t, uint32_t node)
{
    return (trie_node *)(void *)(t->block + node);
}

static uint32_t edge_hash(uint32_t parent, const char *level, size_t n)
{
    uint64_t hash = 0xcbf29ce484222325ULL + parent; /* FNV-1a */
    for (size_t i = 0; i < n; i++)
        hash = (hash ^ (unsigned char)level[i]) * 0x100000001b3ULL;
    return (uint32_t)((hash * 0x9E3779B97F4A7C15ULL) >> 32);
}

static bool leads_to(const trie *t, uint32_t node, uint32_t parent, const char *level, size_t n)
{
    const trie_node *to = node_at(t, node);
    return to->parent == parent && to->text_n == n && memcmp(to->text, level, n) == 0;
}

/* The node of a literal level, 0 where there is none. */
static uint32_t find_literal(const trie *t, uint32_t parent, const char *level, size_t n)
{
    const trie_node *from = node_at(t, parent);
    if (!from->many)
        return from->child != 0 && leads_to(t, from->child, parent, level, n) ? from->child : 0;
    if (n > t->longest)
        return 0;
    uint32_t hash = edge_hash(parent, level, n);
    for (size_t i = hash;; i++) {
        const trie_edge *edge = &t->edges[i & (t->edge_cap - 1)];
        if (edge->node == 0 || (edge->hash == hash && leads_to(t, edge->node, parent, level, n)))
            return edge->node;
    }
}

static void place_edge(trie_edge *edges, size_t cap, trie_edge edge)
{
    size_t i = edge.hash & (cap - 1);
    while (edges[i].node != 0)
        i = (i + 1) & (cap - 1);
    edges[i] = edge;
}

static bool grow_edges(trie *t)
{
    size_t cap = t->edge_cap == 0 ? 16 : t->edge_cap * 2;
    trie_edge *edges = calloc(cap, sizeof(*edges));
    if (edges == NULL)
        return false;
    for (size_t i = 0; i < t->edge_cap; i++)
        if (t->edges[i].node != 0)
            place_edge(edges, cap, t->edges[i]);
    free(t->edges);
    t->edges = edges;
    t->edge_cap = cap;
    return true;
}

static bool add_edge(trie *t, uint32_t node)
{
    if (t->edge_n >= t->edge_cap / 2 && !grow_edges(t))
        return false;
    const trie_node *to = node_at(t, node);
    place_edge(t->edges, t->edge_cap, (trie_edge){edge_hash(to->parent, to->text, to->text_n), node});
    t->edge_n++;
    return true;
}

/* A node at the end of the block; 0 where there is no memory. The first one is the root, whose number is 0 as well. */
static uint32_t add_node(trie *t, uint32_t parent, const char *level, size_t n)
{
    size_t units = (sizeof(trie_node) + n + NODE_UNIT - 1) / NODE_UNIT;
    if (units > t->cap - t->used) {
        size_t cap = t->cap * 2 + units;
        uint32_t *block = cap > UINT32_MAX ? NULL : realloc(t->block, cap * NODE_UNIT);
        if (block == NULL)
            return 0;
        t->block = block;
        t->cap = cap;
    }
    uint32_t node = (uint32_t)t->used;
    trie_node *made = node_at(t, node);
    *made = (trie_node){.parent = parent, .text_n = (uint16_t)n};
    memcpy(made->text, level, n);
    t->used += units;
    return node;
}

static uint32_t add_literal(trie *t, uint32_t parent, const char *level, size_t n)
{
    uint32_t node = find_literal(t, parent, level, n);
    if (node != 0)
        return node;
    node = add_node(t, parent, level, n);
    if (node == 0)
        return 0;
    trie_node *from = node_at(t, parent);
    if (from->child == 0)
        from->child = node;
    else if ((!from->many && !add_edge(t, from->child)) || !add_edge(t, node))
        return 0;
    else
        from->many = true;
    t->longest = n > t->longest ? n : t->longest;
    return node;
}

static uint32_t add_plus(trie *t, uint32_t parent)
{
    uint32_t node = node_at(t, parent)->plus;
    if (node == 0) {
        node = add_node(t, parent, "+", 1);
        node_at(t, parent)->plus = node;
    }
    return node;
}

trie *trie_new(void)
{
    trie *t = calloc(1, sizeof(*t));
    if (t != NULL)
        add_node(t, 0, "", 0);
    if (t != NULL && t->used == 0) {
        free(t);
        t = NULL;
    }
    return t;
}

void trie_free(trie *t)
{
    if (t == NULL)
        return;
    free(t->block);
    free(t->edges);
    free(t);
}

uint32_t *trie_slot(trie *t, const char *filter)
{
    uint32_t node = 0;
    for (const char *level = filter;;) {
        size_t n = strcspn(level, "/");
        if (n == 1 && level[0] == '#')
            return &node_at(t, node)->below;
        node = n == 1 && level[0] == '+' ? add_plus(t, node) : add_literal(t, node, level, n);
        if (node == 0)
            return NULL;
        if (level[n] == '\0')
            return &node_at(t, node)->here;
        level += n + 1;
    }
}

/* The best value under `at` for what is left of the topic: `level` to `end`, or NULL where nothing is left. */
static uint32_t match(const trie *t, uint32_t at, const char *level, const char *end, bool wild)
{
    const trie_node *node = node_at(t, at);
    if (level == NULL)
        return node->here != 0 ? node->here : node->below;
    const char *slash = memchr(level, '/', (size_t)(end - level));
    const char *next = slash == NULL ? NULL : slash + 1;
    uint32_t literal = find_literal(t, at, level, (size_t)((slash == NULL ? end : slash) - level));
    uint32_t found = literal == 0 ? 0 : match(t, literal, next, end, true);
    if (found == 0 && wild && node->plus != 0)
        found = match(t, node->plus, next, end, true);
    if (found == 0 && wild)
        found = node->below;
    return found;
}

uint32_t trie_match(const trie *t, const char *topic, size_t topic_n)
{
    if (topic_n == 0)
        return 0;
    bool wild = topic[0] != '$'; /* MQTT 5.0, 4.7.2: no leading wildcard matches those */
    return match(t, 0, topic, topic + topic_n, wild);
}
