/* Between the gate, which says what is to be recorded, the directory, which takes commands, and the ledger. */
#include <stdio.h>
#include <string.h>

#include "plugin/plugin.h"

void recording_take(void *ctx, const gate_record *r)
{
    const plugin *p = ctx;
    const ledger_entry entry = {.time_us = r->time_us,
                                .topic = r->topic,
                                .topic_n = r->topic_n,
                                .signer = r->signer,
                                .kid = r->kid,
                                .seq = r->seq,
                                .size = r->size,
                                .payload_n = r->payload_n,
                                .qos = r->qos,
                                .retain = r->retain,
                                .facts = r->facts,
                                .keep_us = r->keep_us};
    ledger_record(p->ledger, &entry);
}

bool recording_has_room(void *ctx)
{
    const plugin *p = ctx;
    return ledger_has_room(p->ledger);
}

/* At the end the ledger is closed first. */
void recording_ask(void *ctx, directory_request *request)
{
    const plugin *p = ctx;
    if (p->ledger != NULL)
        ledger_ask(p->ledger, request);
    else
        directory_answer(p->directory, request, NULL, 0);
}

static void answer(void *ctx, directory_request *request, const char *json, size_t n)
{
    const plugin *p = ctx;
    directory_answer(p->directory, request, json, n);
}

/* False: it does not fit. */
static bool choose_url(char *url, size_t cap, const plugin_options *options)
{
    if (options->ledger != NULL)
        return (size_t)snprintf(url, cap, "%s", options->ledger) < cap;
    if (options->store != NULL && strncmp(options->store, "postgresql:", strlen("postgresql:")) == 0)
        return (size_t)snprintf(url, cap, "%s", options->store) < cap;
    return (size_t)snprintf(url, cap, "sqlite:%s/ledger.db", options->state) < cap;
}

bool recording_open(plugin *p, gate_error *error, const plugin_options *options)
{
    char url[4096];
    pep_error why = {"the place of the ledger is too long"};
    const ledger_hooks hooks = {.ctx = p, .answer = answer, .log = control_log};
    if (choose_url(url, sizeof url, options))
        p->ledger = ledger_open(&why, url, directory_gate_kid(p->directory), &hooks);
    if (p->ledger == NULL)
        snprintf(error->text, sizeof error->text, "%s%s",
                 options->ledger == NULL ? "" : "plugin_opt_ledger: ", why.text);
    return p->ledger != NULL;
}
