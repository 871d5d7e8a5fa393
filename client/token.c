/* pep token: lets one device enrol, once. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/commands.h"
#include "client/io.h"
#include "client/print.h"
#include "client/session.h"

static struct {
    const char *id, *key, *out;
    option_list authorities;
    option_number hours;
    bool json;
} args;

static const option options[] = {
    {OPTION_OPERAND, 0, true, NULL, &args.id, "ID", "the device that may enrol with it", 0, 0},
    {OPTION_TEXT, 0, true, "key", &args.key, "FILE", "an admin of the broker's policy", 0, 0},
    {OPTION_NUMBER, 0, false, "hours", &args.hours, "N", "how long it can be used (default: 24)", 1, 8760},
    {OPTION_TEXT, 0, false, "out", &args.out, "FILE|-", "where to write it (default: ID.token); - for stdout", 0, 0},
    {OPTION_LIST, 0, false, "authority", &args.authorities, "KEY|FILE", "the gate must be certified by it", 0, 0},
    {OPTION_FLAG, 0, false, "json", &args.json, NULL, "print JSON, the token not in it", 0, 0},
    {0},
};

typedef struct {
    session session;
    char text[PEP_TOKEN_TEXT_BYTES];
    uint8_t kid[PEP_KID_BYTES];
    uint64_t expires_s;
    char *path; /* NULL: stdout */
    int fd;
} making;

/* The file is there before the gate is told: a token that nobody has would be in the way of the next one. */
static int create_file(making *m)
{
    if (args.out != NULL && strcmp(args.out, "-") == 0)
        return DONE;
    if (asprintf(&m->path, "%s%s", args.out != NULL ? args.out : args.id, args.out != NULL ? "" : ".token") < 0) {
        m->path = NULL;
        return fail(OUT_OF_REACH, "out of memory");
    }
    m->fd = open(m->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (m->fd < 0 && errno == EEXIST)
        return fail(REFUSED, "%s exists already and is never overwritten", m->path);
    if (m->fd < 0)
        return fail(OUT_OF_REACH, "cannot create %s: %s", m->path, strerror(errno));
    return DONE;
}

static int write_token(const making *m)
{
    char line[PEP_TOKEN_TEXT_BYTES + 1];
    int n = snprintf(line, sizeof(line), "%s\n", m->text);
    bool written = m->fd < 0 || (write(m->fd, line, (size_t)n) == n && fsync(m->fd) == 0);
    explicit_bzero(line, sizeof(line));
    return written ? DONE : fail(OUT_OF_REACH, "cannot write %s: %s", m->path, strerror(errno));
}

static int report(const making *m)
{
    char until[TIME_BYTES];
    time_s(until, m->expires_s);
    if (m->path == NULL)
        return printf("%s\n", m->text), finish_output();
    if (!args.json) {
        printf("%s: token for %s, valid until %s; who has it can be %s\n", m->path, args.id, until, args.id);
        return finish_output();
    }
    cJSON *object = json_object(NULL, NULL);
    json_text(object, "id", args.id);
    json_text(object, "file", m->path);
    json_text(object, "expires", until);
    return json_print(object);
}

static int send_command(making *m)
{
    char json[PEP_COMMAND_JSON_MAX];
    question q = {0};
    reply r = {0};
    ask_begin(&q);
    pep_reason reason = pep_command_token(json, q.correlation, args.id, m->kid, m->expires_s);
    if (reason != PEP_OK)
        return fail_reason(reason, "cannot make the command");
    int code = session_command(&m->session, &r, &q, json, NULL, 0);
    if (code == DONE && r.reason != PEP_OK)
        code = fail_reply(&r, args.id);
    cJSON_Delete(r.data);
    return code;
}

static int make_token(making *m)
{
    pep_token_new(m->text, m->kid);
    m->expires_s = pep_now_us() / 1000000 + (args.hours.given ? args.hours.value : 24) * 3600;
    int code = session_open(&m->session, args.key, &args.authorities);
    if (code == DONE) {
        warn_if_rotating(args.key);
        code = session_connect(&m->session);
    }
    if (code == DONE)
        code = create_file(m);
    if (code != DONE)
        return code;
    code = write_token(m);
    if (code == DONE)
        code = send_command(m);
    if (code != DONE && m->fd >= 0)
        (void)unlink(m->path);
    return code == DONE ? report(m) : code;
}

static int run(void)
{
    if (!pep_id_valid(args.id, strlen(args.id)))
        return wrong_usage("'%.80s' is no id", args.id);
    if (args.json && args.out != NULL && strcmp(args.out, "-") == 0)
        return wrong_usage("--json prints no token: leave out --out -");
    making m = {.fd = -1};
    int code = make_token(&m);
    session_close(&m.session);
    explicit_bzero(m.text, sizeof(m.text));
    if (m.fd >= 0)
        close(m.fd);
    free(m.path);
    return code;
}

const command token_command = {
    "token",
    "Makes a token with which one device can enrol, once",
    "",
    "The token is made here, and the gate is told a hash alone. A new one for the same id takes the place of the "
    "old.\n",
    {options, connection_options},
    run,
};
