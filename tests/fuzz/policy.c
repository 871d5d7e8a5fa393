/*
 * The policy file: two texts, divided by a NUL, are policy.conf and more.conf of one folder; a link in it leads out of
 * it. What loads answers as a plain matcher does, and nothing comes from outside of the folder.
 */
#include "policy/policy.h"

#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/fuzz/fuzz.h"

#define RULES_MAX 64 /* that are asked */

static char folder[PATH_MAX];
static char file[PATH_MAX + 32];
static char more[PATH_MAX + 32];

/* libconfig 1.5 forgets the text of a string at which its parser gives up: as much as an operator's wrong file holds.
 */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:strbuf_append\nleak:libconfig_yylex\n"; /* with text, and empty */
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    static const char outside[] = "this is no policy, so that who reads it fails here";
    char link[PATH_MAX + 32];
    (void)argc;
    (void)argv;
    must(mkdir(fuzz_path("in"), 0700) == 0 && realpath(fuzz_path("in"), folder) != NULL, "cannot make a folder");
    fuzz_write(fuzz_path("outside.conf"), outside, sizeof outside - 1, 0600);
    snprintf(file, sizeof file, "%s/policy.conf", folder);
    snprintf(more, sizeof more, "%s/more.conf", folder);
    snprintf(link, sizeof link, "%s/link.conf", folder);
    must(symlink("../outside.conf", link) == 0, "cannot make a link");
    return 0;
}

static void check_inside(const char *path)
{
    char real[PATH_MAX];
    size_t n = strlen(folder);
    invariant(realpath(path, real) != NULL && strncmp(real, folder, n) == 0 && real[n] == '/',
              "a policy is read from its own folder");
}

/* `path:line: ...`, or without the line. A path that was cut off in the error is no path. */
static void check_error(const policy_error *error)
{
    char path[POLICY_ERROR_BYTES];
    size_t n = strcspn(error->text, ":");
    invariant(error->text[0] != '\0' && strnlen(error->text, sizeof error->text) < sizeof error->text, "it says why");
    for (const char *p = error->text; *p != '\0'; p++)
        invariant((unsigned char)*p >= ' ' && *p != 0x7f, "it says why in one printable line");
    memcpy(path, error->text, n);
    path[n] = '\0';
    if (access(path, F_OK) == 0)
        check_inside(path);
}

static void check_signers(const policy_rule *rule, const char *topic)
{
    char text[128];
    for (size_t i = 0; policy_signer_text(text, sizeof text, rule, i); i++) {
        invariant(text[0] != '\0', "a signer has a name");
        bool is_id = text[0] != '*' && text[0] != '@' && text[0] != '%';
        invariant(!is_id || policy_may_sign(rule, topic, strlen(topic), text, NULL), "whom a rule names may sign");
        invariant(text[0] != '*' || policy_may_sign(rule, topic, strlen(topic), "anybody", NULL),
                  "and where it says so, all");
        (void)policy_may_sign(rule, topic, strlen(topic), "sensor-1", NULL);
    }
}

/* A topic that the filter matches: each wildcard gives way to a level. */
static void fill_in(char *topic, size_t cap, const char *filter)
{
    size_t n = 0;
    for (const char *p = filter; *p != '\0' && n + 1 < cap; p++)
        topic[n++] = *p == '+' || *p == '#' ? 'x' : *p;
    topic[n] = '\0';
}

static void check_rules(const policy *p)
{
    static char topic[POLICY_FILTER_MAX + 1];
    const char *filters[RULES_MAX];
    size_t n = policy_rule_count(p);
    for (size_t i = 0; i < n && n <= RULES_MAX; i++)
        filters[i] = policy_rule_at(p, i)->filter;
    for (size_t i = 0; i < n && n <= RULES_MAX; i++) {
        const policy_rule *rule = policy_rule_at(p, i);
        fill_in(topic, sizeof topic, rule->filter);
        size_t best = reference_best(filters, n, (pep_view){(const uint8_t *)topic, strlen(topic)});
        invariant(best < n && policy_match(p, topic, strlen(topic)) == policy_rule_at(p, best),
                  "the most specific rule decides");
        invariant(rule->max_size >= 1 && rule->max_size <= policy_largest_size(p),
                  "no rule is larger than the largest");
        invariant(rule->line > 0, "a rule stands somewhere");
        check_inside(rule->file);
        check_signers(rule, topic);
    }
}

static void check_policy(const policy *p)
{
    policy_error error;
    check_rules(p);
    (void)policy_match(p, "$SYS/broker/uptime", 18);
    (void)policy_is_admin(p, "console", NULL);
    (void)policy_is_relay(p, "bridge-b");
    for (size_t i = 0; i < policy_authority_count(p); i++)
        invariant(policy_authority_at(p, i) != NULL, "an authority has a key");
    invariant(policy_enroll_of(p) != POLICY_ENROLL_AUTHORITY || policy_authority_count(p) > 0, "somebody can enrol");
    policy *again = policy_load(&error, file);
    invariant(again != NULL && policy_same(p, again), "the same file is the same policy");
    policy_free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const uint8_t *end = n == 0 ? NULL : memchr(data, 0, n);
    size_t first = end == NULL ? n : (size_t)(end - data);
    policy_error error = {{0}};
    fuzz_write(file, data, first, 0600);
    fuzz_write(more, data + first + (end != NULL), n - first - (end != NULL), 0600);
    policy *p = policy_load(&error, file);
    if (p == NULL)
        check_error(&error);
    else
        check_policy(p);
    policy_free(p);
    return 0;
}
