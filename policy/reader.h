/* From libconfig's settings to fields: tables of keys, and the values that several keys share. */
#ifndef POLICY_READER_H
#define POLICY_READER_H

#include "policy/arena.h"
#include "policy/policy.h"
#include "policy/source.h"

#include <libconfig.h>

/* What every reading function needs. */
typedef struct {
    policy *policy; /* being built */
    arena *memory;
    const source *source;
    policy_error *error;
} reader;

/*
 * One key of a group. `read` converts the setting into `object` (at `offset`, where one field is all it sets), using
 * `how`; it returns false with the error filled.
 */
typedef struct reader_key {
    const char *name;
    const char *example; /* a right value, as it would stand in the file */
    bool (*read)(const reader *r, void *object, const config_setting_t *setting, const struct reader_key *key);
    size_t offset;
    const void *how;
    bool required;
} reader_key;

/* Reads a group's keys in the order of the table, which ends with a key without a name; refuses unknown ones. */
bool reader_keys(const reader *r, void *object, const config_setting_t *group, const reader_key *keys);

/* Fills the error with the setting's file and line. Returns false. */
bool reader_fail(const reader *r, const config_setting_t *at, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
bool reader_wrong_type(const reader *r, const config_setting_t *at, const reader_key *key, const char *wanted);
bool reader_no_memory(const reader *r, const config_setting_t *at);

/* The key's value as text, NULL with the error filled where it is none. */
const char *reader_string(const reader *r, const config_setting_t *setting, const reader_key *key);

/* The number of a list's elements, each of which is a string; -1 with the error filled where it is none. */
int reader_list(const reader *r, const config_setting_t *setting, const reader_key *key);
const char *reader_element(const config_setting_t *list, int i);

/* `how`: words, ended by NULL, whose index is the value of the enum at `offset`. */
bool reader_choice(const reader *r, void *object, const config_setting_t *setting, const reader_key *key);

/* `how`: two words, for false and true; sets a bool. */
bool reader_bool(const reader *r, void *object, const config_setting_t *setting, const reader_key *key);

/* `how`: the largest one, in text; sets a uint64_t of microseconds, 1 and up. */
bool reader_duration(const reader *r, void *object, const config_setting_t *setting, const reader_key *key);

/* Text or integer; sets a uint32_t of bytes, 1 to POLICY_MAX_SIZE_LIMIT. */
bool reader_size(const reader *r, void *object, const config_setting_t *setting, const reader_key *key);

/* `how`: the largest one, in text; sets a uint32_t, 0 and up. */
bool reader_count(const reader *r, void *object, const config_setting_t *setting, const reader_key *key);

#endif
