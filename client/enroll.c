/* pep enroll: a device's first record goes into the directory. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/commands.h"
#include "client/io.h"
#include "client/print.h"
#include "client/session.h"

#define TOKEN_MAX 256

static struct {
    const char *key, *id, *dir, *certificate, *token;
    option_list authorities;
    option_number days;
    bool counter, json;
} args;

static const option options[] = {
    {OPTION_TEXT, 0, false, "key", &args.key, "FILE", "the device, ID.key; ID.pub stands beside it", 0, 0},
    {OPTION_TEXT, 0, false, "id", &args.id, "ID", "or its name: made where it is not there yet", 0, 0},
    {OPTION_TEXT, 0, false, "out", &args.dir, "DIR", "with --id: the folder of its files (default: this one)", 0, 0},
    {OPTION_NUMBER, 0, false, "days", &args.days, "N", "how long a record made here is valid (default: 30)", 1, 36500},
    {OPTION_TEXT, 0, false, "certificate", &args.certificate, "FILE", "an authority's word on the key, ID.cert", 0, 0},
    {OPTION_TEXT, 0, false, "token", &args.token, "FILE|-", "file that holds the token, or - for stdin", 0, 0},
    {OPTION_FLAG, 0, false, "counter", &args.counter, NULL, "number messages from 1: the device's pub does", 0, 0},
    {OPTION_LIST, 0, false, "authority", &args.authorities, "KEY|FILE", "the gate must be certified by it", 0, 0},
    {OPTION_FLAG, 0, false, "json", &args.json, NULL, "print JSON", 0, 0},
    {0},
};

typedef struct {
    session session;
    uint8_t record[PEP_STATEMENT_BYTES_MAX];
    size_t record_n;
    uint8_t hash[PEP_SHA256_BYTES];
    uint8_t certificate[PEP_CERTIFICATE_BYTES_MAX];
    size_t certificate_n;
    uint8_t proof[PEP_PROOF_BYTES_MAX];
    size_t proof_n;
} enrolment;

/* ---- the device ---- */

static uint64_t end_of_record(uint64_t now_s)
{
    return now_s + (args.days.given ? args.days.value : PEP_ENROLLED_DAYS) * 86400;
}

static int make_device(const device_files *files)
{
    uint8_t record[PEP_RECORD_BYTES_MAX];
    size_t n = 0;
    pep_device device;
    uint64_t now_s = pep_now_us() / 1000000;
    int code = check_new_id(args.id);
    if (code == DONE)
        code = make_folder(args.dir);
    if (code != DONE)
        return code;
    if (pep_device_new(&device, args.id) != PEP_OK)
        return fail(OUT_OF_REACH, "cannot make keys");
    pep_reason reason = pep_record_sign(record, &n, &device, now_s, end_of_record(now_s));
    code = reason == PEP_OK ? save_identity(&device, files, record, n) : fail_reason(reason, "cannot sign the record");
    pep_device_wipe(&device);
    return code;
}

/* What was made by an earlier attempt is taken up, so that trying again is safe. */
static int open_device(enrolment *e)
{
    struct stat st;
    device_files files = {0};
    if (args.key != NULL)
        return session_open(&e->session, args.key, &args.authorities);
    int code = name_files(&files, args.dir, args.id);
    if (code == DONE && lstat(files.key, &st) != 0 && errno == ENOENT)
        code = make_device(&files);
    if (code == DONE)
        code = session_open(&e->session, files.key, &args.authorities);
    free_files(&files);
    return code;
}

/* A record that is missing, or has expired before anybody took it, is made anew: nobody has another one. */
static int sign_record(enrolment *e)
{
    pep_error error = {""};
    uint64_t now_s = pep_now_us() / 1000000;
    pep_reason reason = pep_record_sign(e->record, &e->record_n, &e->session.device, now_s, end_of_record(now_s));
    if (reason != PEP_OK)
        return fail_reason(reason, "cannot sign the record");
    reason = pep_statement_replace(&error, e->session.files.pub, e->record, e->record_n);
    return reason == PEP_OK ? DONE : fail_error(reason, &error);
}

static int check_record(const enrolment *e, const pep_statement *s)
{
    const char *path = e->session.files.pub;
    if (s->kind != PEP_STATEMENT_RECORD)
        return fail(REFUSED, "%s: is version %llu: the device was enrolled already", path,
                    (unsigned long long)s->version);
    if (strcmp(s->id, e->session.device.id) != 0 ||
        memcmp(s->record.sign_kid, e->session.device.sign_kid, PEP_KID_BYTES) != 0)
        return fail(REFUSED, "%s: is not the record of the key in %s", path, e->session.files.key);
    return DONE;
}

static int read_record(enrolment *e)
{
    struct stat st;
    pep_error error = {""};
    pep_statement s;
    if (lstat(e->session.files.pub, &st) != 0 && errno == ENOENT) {
        int code = sign_record(e);
        if (code != DONE)
            return code;
    }
    pep_reason reason = pep_statement_load(&s, e->record, &e->record_n, &error, e->session.files.pub);
    if (reason != PEP_OK)
        return fail_error(reason, &error);
    int code = check_record(e, &s);
    if (code == DONE && s.record.not_after_s < pep_now_us() / 1000000) {
        code = sign_record(e);
        if (code == DONE && pep_statement_parse(&s, e->record, e->record_n) != PEP_OK)
            code = fail(OUT_OF_REACH, "cannot sign the record");
    }
    memcpy(e->hash, s.hash, sizeof(e->hash));
    return code;
}

/* ---- what lets it in ---- */

static int check_secret(const char *path)
{
    struct stat st;
    if (stat(path, &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & 077) != 0)
        return fail(OUT_OF_REACH, "%s: others may read the token; chmod 600 it", path);
    return DONE;
}

static int prove(enrolment *e, buffer *token)
{
    if (!buffer_reserve(token, token->n + 1))
        return fail(OUT_OF_REACH, "out of memory");
    token->p[token->n] = '\0';
    token->p[strcspn((char *)token->p, " \r\n")] = '\0';
    if (pep_token_prove(e->proof, &e->proof_n, (char *)token->p, e->hash) == PEP_OK)
        return DONE;
    return fail(REFUSED, "--token %s: holds no token, which is 32 letters and digits", args.token);
}

static int read_token(enrolment *e)
{
    buffer token = {0};
    if (args.token == NULL)
        return DONE;
    bool from_stdin = strcmp(args.token, "-") == 0;
    int code = from_stdin ? DONE : check_secret(args.token);
    if (code == DONE)
        code = from_stdin ? read_stdin(&token, TOKEN_MAX) : read_file(&token, args.token, TOKEN_MAX);
    if (code == DONE)
        code = prove(e, &token);
    buffer_free(&token);
    return code;
}

/* ---- enrolling ---- */

static int report(const enrolment *e, const reply *r)
{
    uint64_t version = 1;
    (void)number_field(&version, r->data, "version");
    if (!args.json) {
        printf("enrolled %s, version %llu\n", e->session.device.id, (unsigned long long)version);
        return finish_output();
    }
    cJSON *object = json_object(NULL, NULL);
    json_text(object, "id", e->session.device.id);
    json_unsigned(object, "version", version);
    json_kid(object, "kid", e->session.device.sign_kid);
    return json_print(object);
}

static pep_view view_of(const uint8_t *p, size_t n)
{
    return n > 0 ? (pep_view){p, n} : (pep_view){NULL, 0};
}

/* What the gate wants and was not given is said with the option that gives it. */
static int fail_enrolling(const enrolment *e, const reply *r)
{
    const char *hint = NULL;
    if (r->reason == PEP_NOT_CERTIFIED && args.certificate == NULL)
        hint = "give --certificate, from an authority of the broker's policy";
    if (r->reason == PEP_BAD_TOKEN && args.token == NULL)
        hint = "give --token, from an admin of the broker's policy";
    const char *id = e->session.device.id;
    return hint == NULL ? fail_reply(r, id)
                        : fail(exit_code(r->reason), "%s: %s (%s): %s", id, pep_reason_name(r->reason), r->text, hint);
}

static int send_command(enrolment *e)
{
    char json[PEP_COMMAND_JSON_MAX];
    question q = {0};
    reply r = {0};
    ask_begin(&q);
    pep_reason reason = pep_command_enroll(json, q.correlation, view_of(e->record, e->record_n),
                                           view_of(e->certificate, e->certificate_n), view_of(e->proof, e->proof_n));
    if (reason != PEP_OK)
        return fail_reason(reason, "cannot make the command");
    int code = session_command(&e->session, &r, &q, json, NULL, 0);
    if (code == DONE)
        code = r.reason == PEP_OK ? report(e, &r) : fail_enrolling(e, &r);
    cJSON_Delete(r.data);
    return code;
}

static int enroll(enrolment *e)
{
    int code = open_device(e);
    if (code == DONE)
        code = read_record(e);
    if (code == DONE)
        code = read_certificate(e->certificate, &e->certificate_n, args.certificate);
    if (code == DONE)
        code = read_token(e);
    if (code == DONE) {
        warn_if_rotating(e->session.files.key);
        code = session_connect(&e->session);
    }
    return code == DONE ? send_command(e) : code;
}

static int run(void)
{
    if ((args.key == NULL) == (args.id == NULL))
        return wrong_usage("give one of --key and --id");
    if (args.key != NULL && args.dir != NULL)
        return wrong_usage("--out goes with --id");
    enrolment e = {.session = {.counts = args.counter}};
    int code = enroll(&e);
    session_close(&e.session);
    return code;
}

const command enroll_command = {
    "enroll",
    "Puts a device's first record into the directory of a broker",
    "",
    "With --id, keys are made where they are not there yet. Trying again after a failure is safe: the same record is\n"
    "sent.\n",
    {options, connection_options},
    run,
};
