/* Other rules and another folder, taken over while everything goes on. */
#include <stdlib.h>
#include <string.h>

#include "directory/internal.h"
#include "envelope/error.h"

typedef struct {
    store_job job;
    directory *d;
    registrar *r;
    directory_reload *reload;
    bool loaded; /* the rules are read, also where the job is done once more */
    folder_list folder;
    uint8_t gate_entry[PEP_ENTRY_BYTES_MAX];
    size_t gate_entry_n;
} reload_job;

static store_result fail(reload_job *job)
{
    job->reload->failed = true;
    return STORE_OK; /* nothing was written */
}

static bool read_rules(reload_job *job)
{
    directory_reload *reload = job->reload;
    if (job->loaded)
        return true;
    job->loaded = reload->load == NULL || reload->load(reload);
    return job->loaded;
}

static bool read_gate(reload_job *job)
{
    uint8_t kid[PEP_KID_BYTES];
    directory_reload *reload = job->reload;
    if (!gate_identity(&reload->error, kid, job->gate_entry, &job->gate_entry_n, job->r->state_dir, &reload->rules))
        return false;
    if (memcmp(kid, job->r->gate_kid, PEP_KID_BYTES) == 0)
        return true;
    (void)pep_fail(&reload->error, PEP_BAD_FILE, "%s/gate.key is another key than at the start: restart the broker",
                   job->r->state_dir);
    return false;
}

static store_result reload_work(store_job *base, store *s)
{
    reload_job *job = (reload_job *)base;
    job->reload->failed = false;
    folder_list_free(&job->folder);
    if (!read_rules(job) || !read_gate(job))
        return fail(job);
    store_result result = folder_import(job->r, s, &job->folder, &job->reload->error, &job->reload->rules);
    job->reload->failed = result != STORE_OK;
    if (result == STORE_OK)
        job->reload->changed = !folder_lists_equal(&job->folder, &registrar_settings(job->r)->folder);
    return result;
}

static bool take_over(reload_job *job)
{
    directory *d = job->d;
    directory_reload *reload = job->reload;
    settings *next = calloc(1, sizeof *next);
    signer_ids ids = {NULL, 0};
    if (next == NULL || !folder_ids(&ids, &job->folder)) {
        free(next);
        (void)pep_fail(&reload->error, PEP_NO_MEMORY, "out of memory");
        return false;
    }
    bool mode_differs = d->retained != reload->rules.retained;
    d->retained = reload->rules.retained;
    next->rules = reload->rules;
    next->folder = job->folder;
    memcpy(next->gate_entry, job->gate_entry, job->gate_entry_n);
    next->gate_entry_n = job->gate_entry_n;
    reload->rules = (directory_rules){0};
    job->folder = (folder_list){NULL, 0};
    settings_free(atomic_exchange(&d->registrar.next, next));
    signers_provision(d->signers, &ids);
    if (mode_differs || reload->changed)
        serve_start(d);
    if (job->gate_entry_n != d->gate_entry_n || memcmp(job->gate_entry, d->gate_entry, d->gate_entry_n) != 0) {
        memcpy(d->gate_entry, job->gate_entry, job->gate_entry_n);
        d->gate_entry_n = job->gate_entry_n;
        d->gate_served = false;
    }
    return true;
}

static void reload_done(store_job *base)
{
    reload_job *job = (reload_job *)base;
    directory_reload *reload = job->reload;
    if (base->result != STORE_OK && !reload->failed)
        (void)pep_fail(&reload->error, PEP_STORE_FAILED, "the directory's store cannot be %s: reload again later",
                       base->result == STORE_AWAY ? "reached" : "written");
    reload->failed |= base->result != STORE_OK;
    if (!reload->failed)
        reload->failed = !take_over(job);
    if (reload->failed) {
        reload->changed = false;
        directory_rules_free(&reload->rules);
    }
    folder_list_free(&job->folder);
    free(job);
    reload->done(reload);
}

bool directory_start_reload(directory *d, directory_reload *r)
{
    reload_job *job = calloc(1, sizeof *job);
    if (job == NULL)
        return false;
    r->failed = r->changed = false;
    r->error.text[0] = '\0';
    job->job.work = reload_work;
    job->job.done = reload_done;
    job->d = d;
    job->r = &d->registrar;
    job->reload = r;
    if (store_worker_add(d->worker, &job->job))
        return true;
    free(job);
    return false;
}
