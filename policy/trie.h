/* Topic filters, and the most specific one for a topic (MQTT 5.0, 4.7). */
#ifndef POLICY_TRIE_H
#define POLICY_TRIE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct trie trie;

/* An empty trie; NULL where there is no memory. */
trie *trie_new(void);
void trie_free(trie *t);

/*
 * Where the value of a (valid) filter stands, until the next call: 0 where the filter is new; the caller then puts its
 * value there, 1 and up. NULL where there is no memory.
 */
uint32_t *trie_slot(trie *t, const char *filter);

/* The value of the most specific filter that matches, 0 where none does. Allocates nothing. */
uint32_t trie_match(const trie *t, const char *topic, size_t topic_n);

#endif
