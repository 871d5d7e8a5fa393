/* pep keygen: a device's keys, or an epoch key of a device. */
#include <stdlib.h>
#include <string.h>

#include "client/commands.h"
#include "client/identity.h"
#include "client/io.h"
#include "client/print.h"

static struct {
    const char *id, *dir, *key, *scope, *epoch;
    option_number days;
    bool json;
} args;

static const option options[] = {
    {OPTION_TEXT, 0, false, "id", &args.id, "ID", "name of the new device: 1 to 64 of A-Z a-z 0-9 . _ : @ -", 0, 0},
    {OPTION_TEXT, 0, false, "out", &args.dir, "DIR", "folder for ID.key, ID.pub and ID.seq (default: this one)", 0, 0},
    {OPTION_NUMBER, 0, false, "days", &args.days, "N", "how long the record is valid (default: 365)", 1, 36500},
    {OPTION_TEXT, 0, false, "key", &args.key, "FILE", "epoch key: the device that will own it", 0, 0},
    {OPTION_TEXT, 0, false, "scope", &args.scope, "FILTER", "epoch key: the topics that it is for", 0, 0},
    {OPTION_TEXT, 0, false, "epoch", &args.epoch, "FILE", "epoch key: the file to make", 0, 0},
    {OPTION_FLAG, 0, false, "json", &args.json, NULL, "print JSON", 0, 0},
    {0},
};

static int report_device(const pep_device *device, const device_files *files, uint64_t not_after_s)
{
    char kid[HEX_KID_BYTES];
    char until[TIME_BYTES];
    hex_kid(kid, device->sign_kid);
    time_s(until, not_after_s);
    if (!args.json) {
        printf("%s: secret keys, keep them\n%s: record, valid until %s, hand it out\n", files->key, files->pub, until);
        printf("%s: numbers that were used, keep it with the keys\nkid %s\n", files->seq, kid);
        return finish_output();
    }
    cJSON *object = json_object(NULL, NULL);
    json_text(object, "id", device->id);
    json_text(object, "kid", kid);
    json_text(object, "key", files->key);
    json_text(object, "record", files->pub);
    json_text(object, "seq", files->seq);
    json_text(object, "not_after", until);
    return json_print(object);
}

static int save_device(const pep_device *device, const device_files *files)
{
    uint8_t record[PEP_RECORD_BYTES_MAX];
    size_t n = 0;
    uint64_t now_s = pep_now_us() / 1000000;
    uint64_t not_after_s = now_s + (args.days.given ? args.days.value : PEP_RECORD_DAYS) * 86400;
    pep_reason reason = pep_record_sign(record, &n, device, now_s, not_after_s);
    if (reason != PEP_OK)
        return fail_reason(reason, "cannot sign the record");
    int code = save_identity(device, files, record, n);
    return code == DONE ? report_device(device, files, not_after_s) : code;
}

static int make_files(void)
{
    pep_device device;
    if (pep_device_new(&device, args.id) != PEP_OK)
        return fail(OUT_OF_REACH, "cannot make keys");
    device_files files;
    int code = name_files(&files, args.dir, args.id);
    if (code == DONE)
        code = save_device(&device, &files);
    free_files(&files);
    pep_device_wipe(&device);
    return code;
}

static int make_device(void)
{
    int code = check_new_id(args.id);
    if (code == DONE)
        code = make_folder(args.dir);
    return code == DONE ? make_files() : code;
}

static int report_epoch(const pep_device *owner, const pep_epoch *epoch)
{
    char id[HEX_KID_BYTES];
    hex_kid(id, epoch->epoch_id);
    if (!args.json) {
        printf("%s: epoch key of %s for ", args.epoch, owner->id);
        put_escaped(stdout, args.scope, strlen(args.scope));
        printf(", as secret as what it protects\nepoch %s\n", id);
        return finish_output();
    }
    cJSON *object = json_object(NULL, NULL);
    json_text(object, "epoch", id);
    json_text(object, "file", args.epoch);
    json_text(object, "owner", owner->id);
    json_text(object, "scope", args.scope);
    return json_print(object);
}

static int save_epoch(const pep_device *owner)
{
    pep_epoch epoch;
    pep_reason reason = pep_epoch_new(&epoch, owner->sign_kid, args.scope);
    if (reason != PEP_OK)
        return fail_reason(reason, "cannot make an epoch key");
    pep_error error = {""};
    reason = pep_epoch_save(&error, args.epoch, &epoch);
    int code = reason == PEP_OK ? report_epoch(owner, &epoch) : fail_error(reason, &error);
    pep_epoch_wipe(&epoch);
    return code;
}

static int make_epoch(void)
{
    if (args.scope == NULL || args.epoch == NULL)
        return wrong_usage("an epoch key needs --key FILE, --scope FILTER and --epoch FILE");
    if (!pep_filter_valid(args.scope, strlen(args.scope)))
        return wrong_usage("--scope '%.80s': is no topic filter", args.scope);
    pep_device owner;
    pep_error error = {""};
    pep_reason reason = pep_device_load(&owner, &error, args.key);
    if (reason != PEP_OK)
        return fail_error(reason, &error);
    int code = save_epoch(&owner);
    pep_device_wipe(&owner);
    return code;
}

static int run(void)
{
    bool device = args.id != NULL || args.dir != NULL || args.days.given;
    bool epoch = args.key != NULL || args.scope != NULL || args.epoch != NULL;
    if (device && epoch)
        return wrong_usage("--id, --out and --days are for a device; --key, --scope and --epoch for an epoch key");
    if (epoch)
        return args.key != NULL ? make_epoch() : wrong_usage("--key FILE is missing");
    return args.id != NULL ? make_device() : wrong_usage("--id ID is missing, or --key for an epoch key");
}

const command keygen_command = {
    "keygen",
    "Makes a device's keys, or an epoch key that a device owns",
    "",
    "\n"
    "  pep keygen --id ID [--out DIR] [--days N]\n"
    "  pep keygen --key ID.key --scope FILTER --epoch FILE\n"
    "\n"
    "Files are made whole or not at all, and never overwritten.\n",
    {options},
    run,
};
