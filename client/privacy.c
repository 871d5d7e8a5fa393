/* pep privacy check: what a broker's configuration keeps of messages, or shows of them, beyond their delivery. */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "client/commands.h"
#include "client/mosquitto_conf.h"
#include "client/print.h"
#include "policy/policy.h"

#define AUTOSAVE_DEFAULT_S 1800
#define AUTOSAVE_MAX_S     300 /* saving more often costs: all is written each time, and the broker stands still */
#define LABEL_BYTES        256 /* a setting with its value, cut there */
#define TEXT_BYTES         256
#define PLUGIN             "mosquitto_pep.so"

static struct {
    const char *file;
    bool json;
} args;

static const option check_options[] = {
    {OPTION_OPERAND, 0, true, NULL, &args.file, "MOSQUITTO_CONF", "the broker's configuration", 0, 0},
    {OPTION_FLAG, 0, false, "json", &args.json, NULL, "print one JSON object a line", 0, 0},
    {0},
};

typedef struct {
    mosquitto_conf conf;
    size_t findings;
    int code; /* not DONE: what has to be said about it was said, and nothing more is to be */
} examination;

/* ---- findings ---- */

static void print_text(const char *file, unsigned line, const char *setting, const char *keeps, const char *remedy)
{
    put_escaped(stdout, file, strlen(file));
    printf(line > 0 ? ":%u: " : ": no ", line);
    put_escaped(stdout, setting, strlen(setting));
    printf(line > 0 ? ": %s; " : " line: by default, %s; ", keeps);
    put_escaped(stdout, remedy, strlen(remedy));
    putchar('\n');
}

static int print_json(const char *file, unsigned line, const char *setting, const char *keeps, const char *remedy)
{
    cJSON *object = json_object(NULL, NULL);
    json_bytes(object, "file", (pep_view){(const uint8_t *)file, strlen(file)});
    if (line > 0)
        json_unsigned(object, "line", line);
    json_bytes(object, "setting", (pep_view){(const uint8_t *)setting, strlen(setting)});
    json_text(object, "keeps", keeps);
    json_text(object, "remedy", remedy);
    return json_print(object);
}

/* `line` 0: of a line that is not there. */
static void add(examination *x, const char *file, unsigned line, const char *setting, const char *keeps,
                const char *remedy)
{
    if (x->code != DONE)
        return;
    x->findings++;
    if (args.json)
        x->code = print_json(file, line, setting, keeps, remedy);
    else
        print_text(file, line, setting, keeps, remedy);
}

static void found(examination *x, const conf_setting *s, const char *keeps, const char *remedy)
{
    char label[LABEL_BYTES];
    (void)snprintf(label, sizeof(label), "%s%s%s", s->name, s->value[0] != '\0' ? " " : "", s->value);
    add(x, s->file, s->line, label, keeps, remedy);
}

static void missing(examination *x, const char *setting, const char *keeps, const char *remedy)
{
    add(x, args.file, 0, setting, keeps, remedy);
}

/* At the line, or at the place where one is missing. */
static void found_or_missing(examination *x, const conf_setting *s, const char *name, const char *keeps,
                             const char *remedy)
{
    if (s != NULL)
        found(x, s, keeps, remedy);
    else
        missing(x, name, keeps, remedy);
}

/* ---- values ---- */

/* A default where `s` is NULL. Mosquitto knows no other words, and does not start with them. */
static bool flag(examination *x, const conf_setting *s, bool otherwise)
{
    if (s == NULL || conf_word_is(s->value, "true") || conf_word_is(s->value, "1"))
        return s == NULL ? otherwise : true;
    if (x->code == DONE && !conf_word_is(s->value, "false") && !conf_word_is(s->value, "0"))
        x->code = fail(OUT_OF_REACH, "%s:%u: %s: neither true nor false, and Mosquitto does not start with it", s->file,
                       s->line, s->name);
    return false;
}

/* As atoi, which Mosquitto reads numbers with. */
static long number(const conf_setting *s, long otherwise)
{
    return s != NULL ? strtol(s->value, NULL, 10) : otherwise;
}

/* The later one of two names for one setting. */
static const conf_setting *last_of(const mosquitto_conf *c, const char *name, const char *other)
{
    const conf_setting *a = conf_last(c, name);
    const conf_setting *b = conf_last(c, other);
    return a == NULL || (b != NULL && b > a) ? b : a;
}

/* True where neither the file's own mode nor a folder's keeps out who is neither its owner nor in its group. */
static bool others_can_read(const char *path)
{
    char folder[PATH_MAX];
    struct stat st;
    if (path[0] != '/' || strlen(path) >= sizeof(folder) || stat(path, &st) != 0 || (st.st_mode & S_IROTH) == 0)
        return false;
    (void)snprintf(folder, sizeof(folder), "%s", path);
    for (char *slash; (slash = strrchr(folder, '/')) != NULL && slash != folder;) {
        *slash = '\0';
        if (stat(folder, &st) != 0 || (st.st_mode & S_IXOTH) == 0)
            return false;
    }
    return true;
}

/* ---- logs ---- */

/*
 * log_type and log_dest add up; `none` takes back what stands before it. The line that has `word` in effect; NULL where
 * none has.
 */
static const conf_setting *in_effect(const mosquitto_conf *c, const char *name, const char *word)
{
    const conf_setting *line = NULL;
    for (const conf_setting *s = c->at; s < c->at + c->n; s++) {
        if (strcmp(s->name, name) != 0)
            continue;
        if (conf_word_is(s->value, "none"))
            line = NULL;
        else if (conf_word_is(s->value, word) || conf_word_is(s->value, "all"))
            line = s;
    }
    return line;
}

/* Anywhere but on topics. Where nothing is said it is stderr, which a service's journal keeps. */
static bool log_is_kept(const mosquitto_conf *c)
{
    static const char *const kept[] = {"file", "syslog", "stdout", "stderr", "dlt"};
    bool is = conf_last(c, "log_dest") == NULL;
    for (size_t i = 0; !is && i < sizeof(kept) / sizeof(kept[0]); i++)
        is = in_effect(c, "log_dest", kept[i]) != NULL;
    return is;
}

static bool is_logged(const mosquitto_conf *c)
{
    return log_is_kept(c) || in_effect(c, "log_dest", "topic") != NULL;
}

/* In their order: `log_type all` is told of once, by the worst. */
static void check_log_types(examination *x)
{
    static const struct {
        const char *type, *keeps;
        bool on_topics;
    } types[] = {
        {"debug", "the log names client and topic of every message", false}, /* never goes to log_dest topic */
        {"subscribe", "the log names client and filter of every subscription", true},
        {"unsubscribe", "the log names client and filter of every subscription that ends", true},
    };
    const mosquitto_conf *c = &x->conf;
    const conf_setting *told = NULL;
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        const conf_setting *s = in_effect(c, "log_type", types[i].type);
        if (s == NULL || s == told || !(types[i].on_topics ? is_logged(c) : log_is_kept(c)))
            continue;
        found(x, s, types[i].keeps, "remove the line when you have found what you are looking for");
        told = s;
    }
}

static void check_websockets_log(examination *x)
{
    const mosquitto_conf *c = &x->conf;
    const conf_setting *s = conf_last(c, "websockets_log_level");
    bool on = in_effect(c, "log_type", "websockets") != NULL;
    if (on && number(s, 0) != 0 && is_logged(c))
        found(x, s, "the log has what the websockets library says of what it reads", "set it to 0");
}

static bool has_notices(const mosquitto_conf *c)
{
    return conf_last(c, "log_type") == NULL || in_effect(c, "log_type", "notice") != NULL;
}

/* Whoever connects only to send one message is known by it. */
static void check_connections(examination *x)
{
    const conf_setting *s = conf_last(&x->conf, "connection_messages");
    if (flag(x, s, true) && has_notices(&x->conf) && is_logged(&x->conf))
        found_or_missing(x, s, "connection_messages", "the log has who connected from where, when, and for how long",
                         "set it to false");
}

static bool logs_anything(const mosquitto_conf *c)
{
    const conf_setting *last = conf_last(c, "log_type");
    return last == NULL || !conf_word_is(last->value, "none");
}

static void check_log_dest(examination *x)
{
    const conf_setting *topic = in_effect(&x->conf, "log_dest", "topic");
    const conf_setting *file = in_effect(&x->conf, "log_dest", "file");
    if (topic != NULL && logs_anything(&x->conf))
        found(x, topic, "the log, with the names of clients in it, goes to whoever may read $SYS/broker/log/#",
              "log to a file");
    if (file != NULL && others_can_read(conf_second_word(file->value)))
        found(x, file, "every user of this machine can read the log", "chmod o-r that file");
}

/* ---- what the broker keeps ---- */

static void check_autosave(examination *x)
{
    char keeps[TEXT_BYTES] = "what was delivered stays in the database until the broker stops";
    char remedy[TEXT_BYTES];
    const conf_setting *changes = conf_last(&x->conf, "autosave_on_changes");
    const conf_setting *s = conf_last(&x->conf, "autosave_interval");
    long seconds = number(s, AUTOSAVE_DEFAULT_S);
    if (flag(x, changes, false) && seconds > 0) {
        found(x, changes, "what was delivered stays in the database until enough has changed, however long that takes",
              "remove the line");
        return;
    }
    if (seconds > 0)
        (void)snprintf(keeps, sizeof(keeps), "what was delivered stays in the database for up to %ld s", seconds);
    (void)snprintf(remedy, sizeof(remedy), "set it to %d or less", AUTOSAVE_MAX_S);
    if (seconds <= 0 || seconds > AUTOSAVE_MAX_S)
        found_or_missing(x, s, "autosave_interval", keeps, remedy);
}

/* Mosquitto makes the file for its owner alone. Where no folder is named, it lies where the broker was started. */
static void check_database_mode(examination *x, const conf_setting *persistence)
{
    const conf_setting *folder = conf_last(&x->conf, "persistence_location");
    const conf_setting *file = conf_last(&x->conf, "persistence_file");
    char path[PATH_MAX];
    char remedy[PATH_MAX + 16];
    if (folder == NULL)
        return;
    (void)snprintf(path, sizeof(path), "%s/%s", folder->value, file != NULL ? file->value : "mosquitto.db");
    (void)snprintf(remedy, sizeof(remedy), "chmod o-r %s", path);
    if (others_can_read(path))
        found(x, persistence, "every user of this machine can read the database of what is queued and retained",
              remedy);
}

static void check_persistence(examination *x)
{
    const conf_setting *s = last_of(&x->conf, "persistence", "retained_persistence");
    if (!flag(x, s, false))
        return;
    check_autosave(x);
    check_database_mode(x, s);
}

static void check_not_set(examination *x, const char *name, const char *keeps)
{
    const conf_setting *s = conf_last(&x->conf, name);
    if (flag(x, s, false))
        found(x, s, keeps, "remove the line");
}

static void check_queues(examination *x)
{
    const conf_setting *messages = conf_last(&x->conf, "max_queued_messages");
    if (conf_last(&x->conf, "persistent_client_expiration") == NULL)
        missing(x, "persistent_client_expiration", "what is queued for a client that never comes back is kept for ever",
                "set it, to 30d for instance");
    check_not_set(x, "queue_qos0_messages", "messages of QoS 0, too, are kept for who is away");
    check_not_set(x, "upgrade_outgoing_qos",
                  "messages of QoS 0, too, are kept for who is away and subscribed with more");
    if (messages != NULL && number(messages, 0) <= 0 && number(conf_last(&x->conf, "max_queued_bytes"), 0) <= 0)
        found(x, messages, "for who is away, everything is kept, however much it is",
              "set it to what has to be kept, or max_queued_bytes");
}

/* ---- bridges ---- */

/* True where a `topic PATTERN [DIRECTION ...]` sends; without a direction it does. */
static bool sends(const conf_setting *s)
{
    const char *direction = conf_second_word(s->value);
    bool only_in = strncasecmp(direction, "in", 2) == 0 && (direction[2] == ' ' || direction[2] == '\0');
    return strcmp(s->name, "topic") == 0 && !only_in;
}

static const conf_setting *last_in_bridge(const mosquitto_conf *c, size_t bridge, const char *name)
{
    for (size_t i = c->n; i-- > bridge;)
        if (c->at[i].bridge == bridge && strcmp(c->at[i].name, name) == 0)
            return &c->at[i];
    return NULL;
}

/* local_cleansession is as cleansession, unless it is given itself. */
static bool forgets(examination *x, size_t bridge)
{
    const conf_setting *local = last_in_bridge(&x->conf, bridge, "local_cleansession");
    return flag(x, local != NULL ? local : last_in_bridge(&x->conf, bridge, "cleansession"), false);
}

static void check_bridge(examination *x, size_t bridge)
{
    const conf_setting *s = &x->conf.at[bridge];
    size_t out = 0;
    for (size_t i = bridge; i < x->conf.n; i++)
        out += x->conf.at[i].bridge == bridge && sends(&x->conf.at[i]);
    if (out == 0)
        return;
    found(x, s, "what its topics match goes to another broker, with logs and queues of its own",
          "send as little as is needed, and check that broker's configuration");
    if (!forgets(x, bridge))
        found(x, s, "while the other broker is away, what is for it is kept, however long that lasts",
              "add local_cleansession true where it may as well be lost");
}

static void check_bridges(examination *x)
{
    for (size_t i = 0; i < x->conf.n; i++)
        if (x->conf.at[i].bridge == i)
            check_bridge(x, i);
}

/* ---- pep's policy ---- */

static void found_rule(examination *x, const policy_rule *rule, const char *key, const char *keeps, const char *remedy)
{
    char label[LABEL_BYTES];
    (void)snprintf(label, sizeof(label), "%s of %s", key, rule->filter);
    add(x, rule->file, (unsigned)rule->line, label, keeps, remedy);
}

static void check_rule(examination *x, const policy_rule *rule)
{
    static const char readable[] = "what is readable passes, and lies readable in queues and in the database";
    if (rule->mode == POLICY_OBSERVE)
        found_rule(x, rule, "mode \"observe\"", readable, "enforce");
    else if (rule->payload == POLICY_SIGNED)
        found_rule(x, rule, "payload \"signed\"", readable, "set it to \"encrypted\"");
    if (rule->record && rule->keep_us == 0)
        found_rule(x, rule, "record \"allow\"", "what is recorded is kept until somebody erases it", "set keep");
}

static void check_policy(examination *x, const conf_setting *s)
{
    if (x->code != DONE)
        return;
    policy_error error = {""};
    policy *p = policy_load(&error, s->value);
    if (p == NULL) {
        x->code = fail(OUT_OF_REACH, "%s", error.text);
        return;
    }
    for (size_t i = 0; i < policy_rule_count(p); i++)
        check_rule(x, policy_rule_at(p, i));
    if (policy_rule_count(p) == 0)
        found(x, s, "without a rule no topic is protected, and payloads may be readable", "add rules to that file");
    policy_free(p);
}

/* ---- plugins ---- */

static const char *base_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

/* Both beginnings are one to Mosquitto. */
static bool is_policy(const conf_setting *s)
{
    return strcmp(s->name, "plugin_opt_policy") == 0 || strcmp(s->name, "auth_opt_policy") == 0;
}

static void check_own_plugin(examination *x, size_t at)
{
    const conf_setting *file = NULL;
    for (size_t i = at; i < x->conf.n; i++)
        if (x->conf.at[i].plugin == at && is_policy(&x->conf.at[i]))
            file = &x->conf.at[i];
    if (file != NULL)
        check_policy(x, file);
    else
        found(x, &x->conf.at[at], "without plugin_opt_policy no topic is protected, and payloads may be readable",
              "add that line");
}

/* Of those that come with Mosquitto it is known what they keep. */
static void check_other_plugin(examination *x, const conf_setting *s, const char *name)
{
    static const char *const harmless[] = {"mosquitto_dynamic_security.so", "mosquitto_acl_file.so",
                                           "mosquitto_password_file.so"};
    for (size_t i = 0; i < sizeof(harmless) / sizeof(harmless[0]); i++)
        if (strcmp(name, harmless[i]) == 0)
            return;
    if (strcmp(name, "mosquitto_persist_sqlite.so") == 0)
        found(x, s, "what is queued or retained is in a database at once, where deleted rows stay until overwritten",
              "use persistence with autosave_interval, or nothing");
    else
        found(x, s, "a plugin sees every message, and may keep it", "remove it, unless you know that it does not");
}

static void check_plugins(examination *x)
{
    bool has_pep = false;
    for (size_t i = 0; i < x->conf.n; i++) {
        const char *path = conf_plugin_path(&x->conf.at[i]);
        if (path == NULL)
            continue;
        bool is_pep = strcmp(base_of(path), PLUGIN) == 0;
        has_pep = has_pep || is_pep;
        if (is_pep)
            check_own_plugin(x, i);
        else
            check_other_plugin(x, &x->conf.at[i], base_of(path));
    }
    if (!has_pep)
        missing(x, "plugin",
                "nothing is checked for being encrypted, so that payloads may be readable wherever they lie",
                "load " PLUGIN);
}

/* ---- what nobody has judged ---- */

/* Its value is not shown: it may be a password with a misspelled name in front. */
static void check_unknown(examination *x)
{
    for (const conf_setting *s = x->conf.at; s < x->conf.at + x->conf.n; s++)
        if (!conf_is_known(s->name))
            add(x, s->file, s->line, s->name, "no setting of Mosquitto 2.0 or 2.1, so what it keeps is not known here",
                "see mosquitto.conf(5)");
}

/* An operator who wrote it believes that it is in effect. */
static void warn_of_includes(const mosquitto_conf *c)
{
    for (const conf_setting *s = c->at; s < c->at + c->n; s++)
        if (strcmp(s->name, "include_dir") == 0 && s->file != c->at[0].file)
            warn("%s:%u: include_dir: has no effect in a file that is included itself", s->file, s->line);
}

/* ---- the command ---- */

static void (*const checks[])(examination *) = {
    check_log_types, check_websockets_log, check_connections, check_log_dest, check_persistence,
    check_queues,    check_bridges,        check_plugins,     check_unknown,
};

static int conclude(const examination *x)
{
    if (x->code != DONE)
        return x->code;
    if (x->findings == 0 && !args.json) {
        put_escaped(stdout, args.file, strlen(args.file));
        printf(": ok, %zu settings in %zu files\n", x->conf.n, x->conf.files);
    }
    int code = finish_output();
    return code == DONE && x->findings > 0 ? REFUSED : code;
}

static int run_check(void)
{
    examination x = {.code = DONE};
    conf_error error;
    if (!conf_read(&x.conf, &error, args.file)) {
        conf_free(&x.conf);
        return fail(OUT_OF_REACH, "%s", error.text);
    }
    warn_of_includes(&x.conf);
    for (size_t i = 0; i < sizeof(checks) / sizeof(checks[0]); i++)
        checks[i](&x);
    int code = conclude(&x);
    conf_free(&x.conf);
    return code;
}

const command privacy_check_command = {
    "privacy check",
    "Says what a broker's configuration keeps of messages",
    "",
    "One line for each setting that keeps or shows more of messages than their delivery needs. Exit codes: 0 there is\n"
    "none; 1 there are; 3 something cannot be read.\n",
    {check_options},
    run_check,
};
