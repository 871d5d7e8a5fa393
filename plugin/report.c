/* What operators see: one line at the start, a warning a minute where something was refused, counters under $SYS. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "plugin/plugin.h"

#define LOOK_EVERY_MS    1000
#define WARNING_EVERY_MS 60000
#define SYNC_EVERY_MS    5000
#define SYS_PREFIX       "$SYS/broker/pep/"
#define LINE_BYTES       900 /* Mosquitto cuts log lines at 1000 */
#define ENDING_DAYS      30

static uint64_t monotonic_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static bool due(uint64_t *next, uint64_t now, uint64_t every)
{
    if (now < *next)
        return false;
    *next = now + every;
    return true;
}

/* Cut to the buffer, and without bytes that could act on a terminal or fake a line. */
static void printable(char *out, size_t cap, const char *text)
{
    size_t n = 0;
    for (; text[n] != 0 && n + 1 < cap; n++)
        out[n] = (unsigned char)text[n] < 0x20 || text[n] == 0x7f ? '?' : text[n];
    out[n] = 0;
}

/* ---- refusals ---- */

/*
 * The client's place among those refused most. One that is not in the full table takes the place of the least and
 * inherits its count (the space-saving algorithm): whoever really is the worst ends up in it.
 */
static report_client *client_place(report *r, const char *id)
{
    report_client *least = &r->clients[0];
    char name[REPORT_CLIENT_BYTES];
    printable(name, sizeof name, id);
    for (size_t i = 0; i < REPORT_CLIENTS; i++) {
        report_client *c = &r->clients[i];
        if (c->refused > 0 && strcmp(c->id, name) == 0)
            return c;
        if (c->refused < least->refused)
            least = c;
    }
    memcpy(least->id, name, sizeof name);
    return least;
}

static const char *text_or_dash(const char *text)
{
    return text == NULL || text[0] == 0 ? "-" : text;
}

void report_refusal(report *r, const gate_message *m, const gate_verdict *verdict)
{
    report_client one = {.refused = 0};
    report_client *c = m->stored ? &one : client_place(r, text_or_dash(m->client_id)); /* stored: it only receives */
    c->refused++;
    printable(c->id, sizeof c->id, text_or_dash(m->client_id));
    printable(c->username, sizeof c->username, text_or_dash(m->username));
    printable(c->signer, sizeof c->signer, text_or_dash(verdict->signer));
    printable(c->topic, sizeof c->topic, m->topic);
    const char *what = m->stored ? "withheld" : verdict->action == GATE_REFUSE ? "refused" : "observed";
    mosquitto_log_printf(MOSQ_LOG_DEBUG, "pep: %s %s: client %s topic %s user %s signer %s", what,
                         pep_reason_name(verdict->reason), c->id, c->topic, c->username, c->signer);
}

void report_kick(const char *client_id)
{
    char id[REPORT_CLIENT_BYTES];
    printable(id, sizeof id, client_id);
    mosquitto_log_printf(MOSQ_LOG_DEBUG, "pep: kicked client %s: it went on with bad signatures", id);
}

static uint64_t sum(const uint64_t counts[GATE_REASONS])
{
    uint64_t total = 0;
    for (size_t i = 0; i < GATE_REASONS; i++)
        total += counts[i];
    return total;
}

static size_t append_counts(char *line, size_t n, const char *what, const uint64_t now[GATE_REASONS],
                            const uint64_t before[GATE_REASONS])
{
    const char *separator = what;
    for (unsigned i = 0; i < GATE_REASONS && n < LINE_BYTES; i++) {
        if (now[i] == before[i])
            continue;
        n += (size_t)snprintf(line + n, LINE_BYTES - n, "%s%" PRIu64 " %s", separator, now[i] - before[i],
                              pep_reason_name((pep_reason)i));
        separator = ", ";
    }
    return n;
}

static size_t append_count(char *line, size_t n, const char *what, uint64_t count)
{
    if (count == 0 || n >= LINE_BYTES)
        return n;
    return n + (size_t)snprintf(line + n, LINE_BYTES - n, "%s%s: %" PRIu64, n == 0 ? "" : "; ", what, count);
}

static const report_client *worst(const report *r)
{
    const report_client *most = &r->clients[0];
    for (size_t i = 1; i < REPORT_CLIENTS; i++)
        if (r->clients[i].refused > most->refused)
            most = &r->clients[i];
    return most;
}

/* The first refusal is told at once, the next ones together when a minute has passed. */
static void warn(report *r, const gate_counters *now, uint64_t now_ms)
{
    char line[LINE_BYTES] = "";
    bool news = sum(now->refused) != sum(r->warned.refused) || sum(now->observed) != sum(r->warned.observed) ||
                now->withheld != r->warned.withheld;
    if (!news || !due(&r->next_warning_ms, now_ms, WARNING_EVERY_MS))
        return;
    size_t n = append_counts(line, 0, "refused ", now->refused, r->warned.refused);
    n = append_counts(line, n, n == 0 ? "would refuse " : "; would refuse ", now->observed, r->warned.observed);
    n = append_count(line, n, "deliveries withheld", now->withheld - r->warned.withheld);
    n = append_count(line, n, "clients kicked", now->kicked - r->warned.kicked);
    const report_client *most = worst(r);
    if (most->refused > 0 && n < LINE_BYTES)
        snprintf(line + n, LINE_BYTES - n, "; most by client %s, last: topic %s user %s signer %s", most->id,
                 most->topic, most->username, most->signer);
    mosquitto_log_printf(MOSQ_LOG_WARNING, "pep: %s", line);
    r->warned = *now;
    memset(r->clients, 0, sizeof r->clients);
}

/* ---- counters ---- */

static void publish_change(const report *r, const char *name, const char *suffix, uint64_t now, uint64_t before)
{
    char topic[128];
    char text[24];
    if (now == before && r->published_once)
        return;
    snprintf(topic, sizeof topic, SYS_PREFIX "%s%s", name, suffix);
    int n = snprintf(text, sizeof text, "%" PRIu64, now);
    broker_publish(topic, text, (size_t)n, 0, true);
}

/* Their names are fixed: docs/OPERATIONS.md. */
static void publish_counters(report *r, const gate_counters *now, const notice_counters *told)
{
    const gate_counters *before = &r->published;
    const notice_counters *notices_before = &r->notices_published;
    publish_change(r, "messages/accepted", "", now->accepted, before->accepted);
    publish_change(r, "messages/redelivered", "", now->redelivered, before->redelivered);
    publish_change(r, "messages/refused", "", sum(now->refused), sum(before->refused));
    publish_change(r, "messages/withheld", "", now->withheld, before->withheld);
    publish_change(r, "messages/observed", "", sum(now->observed), sum(before->observed));
    publish_change(r, "verifications/count", "", now->verifications, before->verifications);
    publish_change(r, "verifications/us/sum", "", now->verify_us_sum, before->verify_us_sum);
    publish_change(r, "verifications/us/max", "", now->verify_us_max, before->verify_us_max);
    publish_change(r, "notices/sent", "", told->sent, notices_before->sent);
    publish_change(r, "notices/suppressed", "", told->suppressed, notices_before->suppressed);
    publish_change(r, "clients/kicked", "", now->kicked, before->kicked);
    publish_change(r, "access/skipped", "", now->access_skipped, before->access_skipped);
    publish_change(r, "policy/loaded", "", now->policies_loaded, before->policies_loaded);
    publish_change(r, "policy/failed", "", now->policies_failed, before->policies_failed);
    for (unsigned i = PEP_OK + 1; i < GATE_REASONS; i++) {
        const char *name = pep_reason_name((pep_reason)i);
        publish_change(r, "refused/", name, now->refused[i], before->refused[i]);
        publish_change(r, "observed/", name, now->observed[i], before->observed[i]);
    }
    r->published = *now;
    r->notices_published = *told;
    r->published_once = true;
}

static void publish_directory(report *r, directory_counters now)
{
    const directory_counters *before = &r->directory_published;
    publish_change(r, "directory/records", "", now.records, before->records);
    publish_change(r, "directory/commands", "", now.commands, before->commands);
    publish_change(r, "directory/changes", "", now.changes, before->changes);
    publish_change(r, "directory/refused", "", now.refused, before->refused);
    publish_change(r, "directory/unserved", "", now.unserved, before->unserved);
    publish_change(r, "store/commits", "", now.commits, before->commits);
    publish_change(r, "store/failures", "", now.store_failures, before->store_failures);
    publish_change(r, "store/away", "", now.store_away, before->store_away);
    r->directory_published = now;
}

static void publish_ledger(report *r, ledger_counters now)
{
    const ledger_counters *before = &r->ledger_published;
    publish_change(r, "ledger/recorded", "", now.recorded, before->recorded);
    publish_change(r, "ledger/dropped", "", now.dropped, before->dropped);
    publish_change(r, "ledger/waiting", "", now.waiting, before->waiting);
    publish_change(r, "ledger/erased", "", now.erased, before->erased);
    publish_change(r, "ledger/away", "", now.away, before->away);
    r->ledger_published = now;
}

static void look_around(gate *g)
{
    if (gate_clock_went_back(g, pep_now_us()))
        mosquitto_log_printf(MOSQ_LOG_WARNING, "pep: the clock is earlier than the newest message that was accepted: "
                                               "devices with the right time will be refused as future-seq");
    if (gate_access_was_skipped(g))
        mosquitto_log_printf(MOSQ_LOG_ERR, "pep: another plugin answers access checks before pep is asked: wills on "
                                           "protected topics pass unchecked; load pep first");
}

void report_tick(report *r, gate *g, directory *d, const ledger *l, const notice_counters *told)
{
    const gate_counters *counters = gate_counters_of(g);
    uint64_t now = monotonic_ms();
    if (due(&r->next_sync_ms, now, SYNC_EVERY_MS))
        gate_sync(g);
    warn(r, counters, now);
    if (due(&r->next_look_ms, now, LOOK_EVERY_MS))
        look_around(g);
    if (r->sys_interval_s > 0 && due(&r->next_counters_ms, now, r->sys_interval_s * 1000ULL)) {
        publish_directory(r, directory_counted(d));
        publish_ledger(r, ledger_counted(l));
        publish_counters(r, counters, told);
    }
}

/* ---- start and reload ---- */

static size_t observed_rules(const policy *p)
{
    size_t observed = 0;
    for (size_t i = 0; i < policy_rule_count(p); i++)
        observed += policy_rule_at(p, i)->mode == POLICY_OBSERVE;
    return observed;
}

#define DAY_BYTES sizeof "2026-01-01"

static const char *day_text(char out[DAY_BYTES], uint64_t seconds)
{
    struct tm broken;
    time_t t = (time_t)seconds;
    bool told = gmtime_r(&t, &broken) != NULL && strftime(out, DAY_BYTES, "%Y-%m-%d", &broken) > 0;
    return told ? out : "?";
}

void report_concerns(const gate *g, directory *d)
{
    char day[DAY_BYTES];
    char first[PEP_ID_MAX + 1] = "";
    uint64_t first_s = 0;
    size_t ending =
        signers_ending(directory_signers(d), first, &first_s, pep_now_us() / 1000000 + ENDING_DAYS * 86400ULL);
    if (policy_rule_count(gate_policy(g)) == 0)
        mosquitto_log_printf(MOSQ_LOG_WARNING, "pep: the policy has no rules: no topic is protected");
    else if (signers_count(directory_signers(d)) == 0)
        mosquitto_log_printf(MOSQ_LOG_WARNING, "pep: there are no records: nobody can speak on protected topics");
    if (ending > 0)
        mosquitto_log_printf(MOSQ_LOG_WARNING,
                             "pep: records that end within %d days or have ended: %zu, first %s on %s", ENDING_DAYS,
                             ending, first, day_text(day, first_s));
}

/* Not its address: a password may stand in it. */
static const char *place_of(const char *url)
{
    return strncmp(url, "sqlite:", strlen("sqlite:")) == 0 ? url : "PostgreSQL";
}

static const char *ledger_place(const plugin_options *options)
{
    if (options->ledger != NULL)
        return place_of(options->ledger);
    bool shared = options->store != NULL && strcmp(place_of(options->store), "PostgreSQL") == 0;
    return shared ? "PostgreSQL" : "ledger.db";
}

void report_start(const gate *g, directory *d, const plugin_options *options)
{
    size_t observed = observed_rules(gate_policy(g));
    mosquitto_log_printf(
        MOSQ_LOG_NOTICE,
        "pep %s: Mosquitto %s (built for %d.%d.%d), rules: %zu enforced, %zu observed, records: %zu in "
        "%s%s%s, ledger in %s, %sreplay state in %s",
        pep_version(), broker_is_2_1() ? "2.1 or later" : "2.0", LIBMOSQUITTO_MAJOR, LIBMOSQUITTO_MINOR,
        LIBMOSQUITTO_REVISION, policy_rule_count(gate_policy(g)) - observed, observed,
        signers_count(directory_signers(d)), options->store == NULL ? "directory.db" : place_of(options->store),
        options->records == NULL ? "" : " and ", options->records == NULL ? "" : options->records,
        ledger_place(options), gate_state_is_new(g) ? "new " : "", options->state);
    report_concerns(g, d);
}

void report_reload(const gate *g, directory *d, gate_reload_result result, const char *error)
{
    size_t observed = observed_rules(gate_policy(g));
    if (result == GATE_RELOADED)
        mosquitto_log_printf(MOSQ_LOG_NOTICE, "pep: reloaded, rules: %zu enforced, %zu observed, records: %zu",
                             policy_rule_count(gate_policy(g)) - observed, observed,
                             signers_count(directory_signers(d)));
    else if (result == GATE_UNCHANGED)
        mosquitto_log_printf(MOSQ_LOG_NOTICE, "pep: reload: nothing changed");
    else
        mosquitto_log_printf(MOSQ_LOG_ERR, "pep: reload failed, the old policy and records stay: %s", error);
    report_concerns(g, d);
}
