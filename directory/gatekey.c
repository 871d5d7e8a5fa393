/* Who the gate is: a key of its own, made at the first start, and what it serves about itself. */
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "directory/internal.h"
#include "envelope/error.h"

#define GATE_ID   "gate"
#define GATE_DAYS 3650

typedef struct {
    char key[4096];
    char pub[4096];
    char cert[4096];
} gate_paths;

static bool set_path(char out[4096], const char *folder, const char *name)
{
    return (size_t)snprintf(out, 4096, "%s/%s", folder, name) < 4096;
}

static bool exists(const char *path)
{
    return access(path, F_OK) == 0;
}

static bool load_key(pep_device *out, pep_error *error, const char *path)
{
    if (exists(path))
        return pep_device_load(out, error, path) == PEP_OK;
    if (pep_device_new(out, GATE_ID) == PEP_OK)
        return pep_device_save(error, path, out) == PEP_OK;
    (void)pep_fail(error, PEP_NO_MEMORY, "cannot make the gate's key");
    return false;
}

static bool make_record(pep_error *error, const char *path, const pep_device *device)
{
    uint8_t bytes[PEP_RECORD_BYTES_MAX];
    size_t n;
    uint64_t now_s = pep_now_us() / 1000000;
    pep_reason reason = pep_record_sign(bytes, &n, device, now_s, now_s + GATE_DAYS * 86400ULL);
    if (reason == PEP_OK)
        return pep_statement_replace(error, path, bytes, n) == PEP_OK;
    (void)pep_fail(error, reason, "cannot make the gate's record: %s", pep_reason_text(reason));
    return false;
}

static bool load_record(uint8_t bytes[PEP_STATEMENT_BYTES_MAX], size_t *n, pep_error *error, const char *path,
                        const pep_device *device)
{
    pep_statement st;
    if (!exists(path) && !make_record(error, path, device))
        return false;
    if (pep_statement_load(&st, bytes, n, error, path) != PEP_OK)
        return false;
    if (st.kind == PEP_STATEMENT_RECORD && memcmp(st.record.sign_kid, device->sign_kid, PEP_KID_BYTES) == 0)
        return true;
    (void)pep_fail(error, PEP_BAD_FILE, "%s is not the record of the gate's key beside it: remove it, and it is made",
                   path);
    return false;
}

static bool load_certificate(uint8_t bytes[PEP_CERTIFICATE_BYTES_MAX], size_t *n, pep_error *error, const char *path,
                             const pep_device *device, const directory_rules *rules)
{
    pep_certificate c;
    *n = 0;
    if (!exists(path))
        return true;
    if (pep_certificate_load(bytes, n, error, path) != PEP_OK)
        return false;
    pep_reason reason = pep_certificate_parse(
        &c, bytes, *n, (const uint8_t(*)[PEP_SIGN_PUBLIC_BYTES])rules->authorities, rules->authority_count);
    if (reason == PEP_OK)
        reason = pep_certificate_covers(&c, device->id, device->sign_kid, true, pep_now_us() / 1000000);
    if (reason == PEP_OK)
        return true;
    (void)pep_fail(error, PEP_BAD_FILE,
                   "%s is no valid certificate for this gate by an authority of the policy: %s: replace or remove it",
                   path, pep_reason_text(reason));
    return false;
}

static bool load_all(pep_error *error, pep_device *device, uint8_t entry[PEP_ENTRY_BYTES_MAX], size_t *entry_n,
                     const gate_paths *paths, const directory_rules *rules)
{
    uint8_t record[PEP_STATEMENT_BYTES_MAX];
    uint8_t certificate[PEP_CERTIFICATE_BYTES_MAX];
    pep_entry e = {.statement = {record, 0}};
    size_t certificate_n;
    if (!load_key(device, error, paths->key) || !load_record(record, &e.statement.n, error, paths->pub, device) ||
        !load_certificate(certificate, &certificate_n, error, paths->cert, device, rules))
        return false;
    if (certificate_n > 0)
        e.certificate = (pep_view){certificate, certificate_n};
    return pep_entry_encode(entry, entry_n, &e) == PEP_OK;
}

bool gate_identity(pep_error *error, uint8_t kid[PEP_KID_BYTES], uint8_t entry[PEP_ENTRY_BYTES_MAX], size_t *entry_n,
                   const char *state_dir, const directory_rules *rules)
{
    gate_paths paths;
    pep_device device;
    if (!set_path(paths.key, state_dir, "gate.key") || !set_path(paths.pub, state_dir, "gate.pub") ||
        !set_path(paths.cert, state_dir, "gate.cert")) {
        (void)pep_fail(error, PEP_CANNOT_READ, "%s: the path is too long", state_dir);
        return false;
    }
    bool good = load_all(error, &device, entry, entry_n, &paths, rules);
    if (good)
        memcpy(kid, device.sign_kid, PEP_KID_BYTES);
    pep_device_wipe(&device);
    return good;
}
