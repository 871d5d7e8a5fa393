/* pep authority init and issue: an offline key, and its word on whose a signing key is. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/commands.h"
#include "client/io.h"
#include "client/print.h"
#include "client/session.h"

#define CERTIFICATE_DAYS 365

static struct {
    const char *dir, *key, *record, *groups, *out;
    option_number days;
    bool gate, json;
} args;

/* ---- init ---- */

static const option init_options[] = {
    {OPTION_TEXT, 0, false, "out", &args.dir, "DIR",
     "folder for authority.key and authority.public (default: this one)", 0, 0},
    {OPTION_FLAG, 0, false, "json", &args.json, NULL, "print JSON", 0, 0},
    {0},
};

/* Not authority.pub: a folder's .pub files are records. */
static char *path_in(const char *name)
{
    char *path = NULL;
    int n = asprintf(&path, "%s%s%s", args.dir != NULL ? args.dir : "", args.dir != NULL ? "/" : "", name);
    return n < 0 ? NULL : path;
}

static int write_public(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0)
        return fail(errno == EEXIST ? REFUSED : OUT_OF_REACH, "cannot create %s: %s", path, strerror(errno));
    bool written = dprintf(fd, "%s\n", text) > 0 && fsync(fd) == 0;
    int error = errno;
    close(fd);
    if (written)
        return DONE;
    (void)unlink(path);
    return fail(OUT_OF_REACH, "cannot write %s: %s", path, strerror(error));
}

static int report_init(const char *key, const char *pub, const char *text)
{
    if (!args.json) {
        printf("%s: secret, keep it off the network\n%s: its public key, for --authority\n"
               "In the policy of the broker:\n  authority = [ \"%s\" ];\n",
               key, pub, text);
        return finish_output();
    }
    cJSON *object = json_object(NULL, NULL);
    json_text(object, "key", key);
    json_text(object, "pub", pub);
    json_text(object, "authority", text);
    return json_print(object);
}

/* The secret one comes last, so that no failure has to take a secret away again. */
static int make_authority(const char *key, const char *pub)
{
    char text[PEP_AUTHORITY_TEXT_BYTES];
    pep_error error = {""};
    pep_authority authority;
    pep_reason reason = pep_authority_new(&authority);
    if (reason != PEP_OK)
        return fail_reason(reason, "cannot make a key");
    pep_authority_text(text, authority.sign_public);
    int code = write_public(pub, text);
    if (code == DONE) {
        reason = pep_authority_save(&error, key, &authority);
        code = reason == PEP_OK ? DONE : fail_error(reason, &error);
        if (code != DONE)
            (void)unlink(pub);
    }
    pep_authority_wipe(&authority);
    return code == DONE ? report_init(key, pub, text) : code;
}

static int run_init(void)
{
    char *key = path_in("authority.key");
    char *pub = path_in("authority.public");
    int code = make_folder(args.dir);
    if (code == DONE)
        code = key != NULL && pub != NULL ? make_authority(key, pub) : fail(OUT_OF_REACH, "out of memory");
    free(key);
    free(pub);
    return code;
}

const command authority_init_command = {
    "authority init",
    "Makes an authority: an offline key that certifies whose a key is",
    "",
    "Nothing is overwritten.\n",
    {init_options},
    run_init,
};

/* ---- issue ---- */

static const option issue_options[] = {
    {OPTION_TEXT, 0, true, "authority-key", &args.key, "FILE", "authority.key", 0, 0},
    {OPTION_TEXT, 0, true, "record", &args.record, "FILE", "record of the device or gate, ID.pub", 0, 0},
    {OPTION_TEXT, 0, false, "groups", &args.groups, "A,B", "groups that a policy can name as @A and @B", 0, 0},
    {OPTION_NUMBER, 0, false, "days", &args.days, "N", "how long it is valid (default: 365)", 1, 36500},
    {OPTION_FLAG, 0, false, "gate", &args.gate, NULL, "it is a broker's gate, and no device", 0, 0},
    {OPTION_TEXT, 0, false, "out", &args.out, "FILE", "what to write (default: ID.cert)", 0, 0},
    {OPTION_FLAG, 0, false, "json", &args.json, NULL, "print JSON", 0, 0},
    {0},
};

static int describe_key(pep_certificate *c)
{
    pep_record record;
    pep_error error = {""};
    pep_reason reason = pep_record_load(&record, &error, args.record);
    if (reason != PEP_OK)
        return fail_error(reason, &error);
    c->issued_s = pep_now_us() / 1000000;
    c->not_after_s = c->issued_s + (args.days.given ? args.days.value : CERTIFICATE_DAYS) * 86400;
    c->gate = args.gate;
    memcpy(c->id, record.id, sizeof(c->id));
    memcpy(c->kid, record.sign_kid, sizeof(c->kid));
    return read_groups(c, args.groups);
}

static int sign(uint8_t *out, size_t *n, pep_certificate *c)
{
    pep_authority authority;
    pep_error error = {""};
    pep_reason reason = pep_authority_load(&authority, &error, args.key);
    if (reason != PEP_OK)
        return fail_error(reason, &error);
    reason = pep_certificate_sign(out, n, &authority, c);
    pep_authority_wipe(&authority);
    if (reason == PEP_BAD_ARGUMENT)
        return wrong_usage("--groups '%.80s': names one twice", args.groups != NULL ? args.groups : "");
    return reason == PEP_OK ? DONE : fail_reason(reason, "cannot sign");
}

static int report_issue(const char *path, const pep_certificate *c)
{
    char until[TIME_BYTES];
    time_s(until, c->not_after_s);
    if (!args.json) {
        printf("%s: certificate of %s%s, valid until %s\n", path, c->gate ? "the gate " : "", c->id, until);
        return finish_output();
    }
    cJSON *object = json_object(NULL, NULL);
    json_text(object, "id", c->id);
    json_kid(object, "kid", c->kid);
    json_text(object, "file", path);
    json_text(object, "not_after", until);
    json_bool(object, "gate", c->gate);
    cJSON *groups = json_array(object, "groups");
    for (size_t i = 0; i < c->group_count; i++)
        json_append(groups, c->groups[i]);
    return json_print(object);
}

static int run_issue(void)
{
    char name[PEP_ID_MAX + 8];
    uint8_t bytes[PEP_CERTIFICATE_BYTES_MAX];
    size_t n = 0;
    pep_error error = {""};
    pep_certificate c = {0};
    int code = describe_key(&c);
    if (code == DONE)
        code = sign(bytes, &n, &c);
    if (code != DONE)
        return code;
    (void)snprintf(name, sizeof(name), "%s.cert", c.id);
    const char *path = args.out != NULL ? args.out : name;
    pep_reason reason = pep_certificate_replace(&error, path, bytes, n); /* a renewed one takes its place */
    return reason == PEP_OK ? report_issue(path, &c) : fail_error(reason, &error);
}

const command authority_issue_command = {
    "authority issue",
    "Certifies that a signing key is a device's, or a gate's",
    "",
    "Make sure first that the record came from the one whom it names.\n",
    {issue_options},
    run_issue,
};
