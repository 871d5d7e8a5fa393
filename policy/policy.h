/*
 * The operator's policy: which topics are protected, and how. One libconfig file, read whole and checked before
 * anything of it is used; afterwards it never changes, so that a reload is a swap of pointers.
 */
#ifndef POLICY_H
#define POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define POLICY_ERROR_BYTES 512

/* `path:line: what is wrong; what would be right`, one line */
typedef struct {
    char text[POLICY_ERROR_BYTES];
} policy_error;

typedef enum { POLICY_ENROLL_CLOSED, POLICY_ENROLL_AUTHORITY, POLICY_ENROLL_TOKEN, POLICY_ENROLL_OPEN } policy_enroll;
typedef enum { POLICY_BIND_NONE, POLICY_BIND_USERNAME, POLICY_BIND_CLIENTID } policy_bind;
typedef enum { POLICY_ENFORCE, POLICY_OBSERVE } policy_mode;
typedef enum { POLICY_ENCRYPTED, POLICY_SIGNED } policy_payload;
typedef enum { POLICY_OVER_KICK, POLICY_OVER_REFUSE } policy_over;
typedef enum { POLICY_RETAINED, POLICY_ON_REQUEST } policy_directory;

#define POLICY_AUTHORITY_KEY_BYTES 32
#define POLICY_LEVELS_MAX          200                      /* levels of a filter: Mosquitto's own limit */
#define POLICY_FILTER_MAX          65535                    /* bytes */
#define POLICY_MAX_SIZE_LIMIT      (256u * 1024 * 1024 - 1) /* MQTT's largest packet */
#define POLICY_DEFAULT_MAX_SIZE    (256u * 1024)
#define POLICY_DEFAULT_MAX_SKEW_US 60000000ULL
#define POLICY_DEFAULT_RATE        20
#define POLICY_DEFAULT_MEMORY_US   300000000ULL
#define POLICY_DEFAULT_MAX_RECORDS 1000000

typedef struct policy policy;

/* One entry of `topics`. */
typedef struct policy_rule {
    const char *filter;
    const char *file; /* where it stands: the policy file, or one that it includes */
    int line;
    policy_mode mode;
    policy_payload payload;
    uint64_t max_age_us;      /* 0: any age */
    uint64_t will_max_age_us; /* 0: any age */
    uint32_t max_size;        /* bytes of an envelope */
    bool record;              /* true: a sender may ask to be recorded */
    bool refuse_overflow;     /* true: what asks for it and cannot be recorded is refused, else it passes unrecorded */
    uint64_t keep_us;         /* how long what is recorded is kept; 0: until somebody erases it */
    const char *prefix;       /* removed from a topic before it is compared with the signed one; "" for none */
    size_t prefix_n;
    const struct policy_signers *signers; /* ask policy_may_sign */
} policy_rule;

/* `budget`: how many signatures may be verified for those of whom none was good yet. */
typedef struct {
    uint32_t rate;      /* a second, for one user name and address; 0: no limit */
    uint64_t memory_us; /* how long a failure counts */
    policy_over over;   /* what becomes of who goes on */
} policy_budget;

/*
 * Reads the file (an absolute or relative path; @include only within the file's folder). Returns the policy, owned by
 * the caller, or NULL with `error` filled: unknown keys, wrong types, values out of range, duplicate filters, unknown
 * groups and unreadable files are errors.
 */
policy *policy_load(policy_error *error, const char *path);
void policy_free(policy *p);

/* True where both were read from the same bytes, included files counted in. */
bool policy_same(const policy *a, const policy *b);

policy_enroll policy_enroll_of(const policy *p);
policy_bind policy_bind_of(const policy *p);
uint64_t policy_max_skew_us(const policy *p);
const policy_budget *policy_budget_of(const policy *p);
size_t policy_authority_count(const policy *p);
const uint8_t *policy_authority_at(const policy *p, size_t i); /* POLICY_AUTHORITY_KEY_BYTES */
policy_directory policy_directory_of(const policy *p);
uint32_t policy_max_records(const policy *p);

/* Groups of a certificate: names, each ending with NUL, and one more NUL behind the last. NULL: none. */
typedef const char *policy_groups;

/* True where `name` (NUL-terminated; NULL is nobody) stands in `relays`, or in `admins` directly or through a group. */
bool policy_is_relay(const policy *p, const char *name);
bool policy_is_admin(const policy *p, const char *id, policy_groups certified);

/*
 * Entry number `i` of all that makes an admin: an id, also those in the named groups, or "@group", which is for the
 * groups of certificates. NULL: there are not so many. Valid as long as the policy.
 */
const char *policy_admin_at(const policy *p, size_t i);

/*
 * Groups that signers or admins name and the file does not define: with an `authority`, certificates may. Returns how
 * many places name one; *first is one of these.
 */
size_t policy_undefined_groups(const policy *p, const char **first);

/* The rules, in the order of the file. */
size_t policy_rule_count(const policy *p);
const policy_rule *policy_rule_at(const policy *p, size_t i);

/* The largest max_size of all rules; 0 where there are no rules. */
uint32_t policy_largest_size(const policy *p);

/*
 * The rule of a topic: of all filters that match (MQTT 5.0, 4.7), the most specific: compared level by level from the
 * left, literal before `+` before `#`, the first difference decides. NULL: the topic is not protected. Allocates
 * nothing; costs by the topic's levels, not by the number of rules.
 */
const policy_rule *policy_match(const policy *p, const char *topic, size_t topic_n);

/*
 * Topics that no sender may write, whatever the rules say, and all below them: $PEP, $CONTROL/pep and $SYS/broker/pep
 * are the plugin's; what a bridge writes to $share/NAME/TOPIC lands in TOPIC's retained message. One is excepted:
 * POLICY_CONTROL_TOPIC, where the directory takes commands.
 */
#define POLICY_CONTROL_TOPIC "$CONTROL/pep/v1"
bool policy_reserved(const char *topic);

/* True where the topic is `root`, or lies below it. */
bool policy_is_below(const char *topic, const char *root);

/*
 * Writes the rule's signer number `i`, as a policy file has it ("*", an id, "@group" or "%N"). False where there are
 * not so many.
 */
bool policy_signer_text(char *out, size_t cap, const policy_rule *rule, size_t i);

/*
 * True where the rule lets the device `id` speak on `topic` (which the rule matches, prefix included): named, in a
 * named group, by its certificate too, `*`, or equal to the level at the wildcard that a `%N` names.
 */
bool policy_may_sign(const policy_rule *rule, const char *topic, size_t topic_n, const char *id,
                     policy_groups certified);

#endif
