/* pep policy check and explain: what a policy file says, before a broker reads it. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/commands.h"
#include "client/print.h"
#include "policy/policy.h"

#define SIGNER_BYTES 256 /* an id, or a group's name, cut there */

static struct {
    const char *file, *topic, *signer;
    bool json;
} args;

static int load(policy **out)
{
    *out = NULL;
    int fd = open(args.file, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0)
        return fail(OUT_OF_REACH, "cannot open %s: %s", args.file, strerror(errno));
    close(fd);
    if (S_ISDIR(st.st_mode))
        return fail(OUT_OF_REACH, "cannot read %s: it is a folder", args.file);
    policy_error error = {""};
    *out = policy_load(&error, args.file);
    return *out != NULL ? DONE : fail(REFUSED, "%s", error.text);
}

/* ---- check ---- */

static const option check_options[] = {
    {OPTION_OPERAND, 0, true, NULL, &args.file, "FILE", "the policy", 0, 0},
    {OPTION_FLAG, 0, false, "json", &args.json, NULL, "print JSON", 0, 0},
    {0},
};

/* A group that nobody defines is a mistake, unless it is one of the authority's. */
static void warn_groups(const policy *p)
{
    const char *first = NULL;
    size_t count = policy_undefined_groups(p, &first);
    if (count > 0)
        warn("%s: @%s%s is defined nowhere here: only devices whose certificate names it are in it", args.file, first,
             count > 1 ? " (and others)" : "");
}

static int report_check(size_t rules, size_t observed)
{
    if (!args.json) {
        put_escaped(stdout, args.file, strlen(args.file));
        printf(": ok, %zu rules (%zu enforced, %zu observed)\n", rules, rules - observed, observed);
        return finish_output();
    }
    cJSON *object = json_object(NULL, NULL);
    json_text(object, "file", args.file);
    json_unsigned(object, "rules", rules);
    json_unsigned(object, "enforced", rules - observed);
    json_unsigned(object, "observed", observed);
    return json_print(object);
}

static int run_check(void)
{
    policy *p;
    int code = load(&p);
    if (code != DONE)
        return code;
    size_t observed = 0;
    for (size_t i = 0; i < policy_rule_count(p); i++)
        observed += policy_rule_at(p, i)->mode == POLICY_OBSERVE;
    warn_groups(p);
    code = report_check(policy_rule_count(p), observed);
    policy_free(p);
    return code;
}

const command policy_check_command = {
    "policy check", "Reads a policy file and says what is wrong with it", "", "", {check_options}, run_check,
};

/* ---- explain ---- */

static const option explain_options[] = {
    {OPTION_OPERAND, 0, true, NULL, &args.file, "FILE", "the policy", 0, 0},
    {OPTION_OPERAND, 0, true, NULL, &args.topic, "TOPIC", "the topic that is asked about", 0, 0},
    {OPTION_TEXT, 0, false, "signer", &args.signer, "ID", "may this device speak there? exit code 1 where not", 0, 0},
    {OPTION_FLAG, 0, false, "json", &args.json, NULL, "print JSON", 0, 0},
    {0},
};

static const char *mode_name(policy_mode mode)
{
    return mode == POLICY_ENFORCE ? "enforce" : "observe";
}

static const char *payload_name(policy_payload payload)
{
    return payload == POLICY_ENCRYPTED ? "encrypted" : "signed";
}

static const char *overflow_name(const policy_rule *rule)
{
    return rule->refuse_overflow ? "refuse" : "drop";
}

static void print_text(const char *label, const char *text)
{
    printf("%-15s ", label);
    put_escaped(stdout, text, strlen(text));
    putchar('\n');
}

/* `none`: what it says where there is no limit. */
static void print_age(const char *label, uint64_t us, const char *none)
{
    if (us == 0)
        print_text(label, none);
    else if (us % 1000000 == 0)
        printf("%-15s %" PRIu64 " s\n", label, us / 1000000);
    else
        printf("%-15s %" PRIu64 " us\n", label, us);
}

static void print_signers(const policy_rule *rule)
{
    char signer[SIGNER_BYTES];
    printf("%-15s", "signers");
    for (size_t i = 0; policy_signer_text(signer, sizeof(signer), rule, i); i++)
        printf(" %s", signer);
    putchar('\n');
}

static void print_rule(const policy_rule *rule)
{
    print_text("filter", rule->filter);
    printf("%-15s ", "line");
    put_escaped(stdout, rule->file, strlen(rule->file));
    printf(":%d\n", rule->line);
    print_signers(rule);
    print_text("mode", mode_name(rule->mode));
    print_text("payload", payload_name(rule->payload));
    print_age("max_age", rule->max_age_us, "any");
    print_age("will_max_age", rule->will_max_age_us, "any");
    printf("%-15s %" PRIu32 " bytes\n", "max_size", rule->max_size);
    print_text("record", rule->record ? "allow" : "deny");
    if (rule->record) {
        print_age("keep", rule->keep_us, "until erased");
        print_text("record_overflow", overflow_name(rule));
    }
    if (rule->prefix_n > 0)
        print_text("prefix", rule->prefix);
}

static void describe_rule(cJSON *object, const policy_rule *rule)
{
    json_text(object, "filter", rule->filter);
    json_text(object, "file", rule->file);
    json_unsigned(object, "line", (uint64_t)rule->line);
    cJSON *signers = json_array(object, "signers");
    char signer[SIGNER_BYTES];
    for (size_t i = 0; policy_signer_text(signer, sizeof(signer), rule, i); i++)
        json_append(signers, signer);
    json_text(object, "mode", mode_name(rule->mode));
    json_text(object, "payload", payload_name(rule->payload));
    json_unsigned(object, "max_age_us", rule->max_age_us);
    json_unsigned(object, "will_max_age_us", rule->will_max_age_us);
    json_unsigned(object, "max_size", rule->max_size);
    json_text(object, "record", rule->record ? "allow" : "deny");
    json_unsigned(object, "keep_us", rule->keep_us);
    json_text(object, "record_overflow", overflow_name(rule));
    json_text(object, "prefix", rule->prefix);
}

/* What the topic is, in a word. */
static const char *state_of(const policy_rule *rule)
{
    if (policy_reserved(args.topic))
        return "reserved";
    return rule != NULL ? "protected" : "not protected";
}

static int report_text(const policy_rule *rule, bool may)
{
    print_text("topic", args.topic);
    if (rule == NULL)
        puts(state_of(rule));
    else
        print_rule(rule);
    if (args.signer != NULL)
        printf("%-15s %s: %s\n", "signer", args.signer, may ? "allowed" : "not allowed");
    return finish_output();
}

static int report_json(const policy_rule *rule, bool may)
{
    cJSON *object = json_object(NULL, NULL);
    json_text(object, "topic", args.topic);
    json_text(object, "state", state_of(rule));
    if (rule != NULL)
        describe_rule(json_object(object, "rule"), rule);
    if (args.signer != NULL) {
        json_text(object, "signer", args.signer);
        json_bool(object, "allowed", may);
    }
    return json_print(object);
}

static int explain(const policy *p)
{
    size_t n = strlen(args.topic);
    bool reserved = policy_reserved(args.topic);
    const policy_rule *rule = reserved ? NULL : policy_match(p, args.topic, n);
    bool may = !reserved;
    if (rule != NULL && args.signer != NULL)
        may = policy_may_sign(rule, args.topic, n, args.signer, NULL);
    int code = args.json ? report_json(rule, may) : report_text(rule, may);
    return code == DONE && args.signer != NULL && !may ? REFUSED : code;
}

static int run_explain(void)
{
    if (!pep_topic_valid(args.topic, strlen(args.topic)))
        return wrong_usage("TOPIC '%.80s': is no topic: 1 to 65535 bytes of UTF-8 without + and #", args.topic);
    if (args.signer != NULL && !pep_id_valid(args.signer, strlen(args.signer)))
        return wrong_usage("--signer '%.80s': an id is 1 to 64 of A-Z a-z 0-9 . _ : @ -", args.signer);
    policy *p;
    int code = load(&p);
    if (code != DONE)
        return code;
    code = explain(p);
    policy_free(p);
    return code;
}

const command policy_explain_command = {
    "policy explain", "Says which rule of a policy file a topic falls under", "", "", {explain_options}, run_explain,
};
