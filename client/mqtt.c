#include "client/mqtt.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "client/io.h"
#include "client/print.h"

#define PORT      1883
#define PORT_TLS  8883
#define KEEPALIVE 60
#define PW_MAX    65535 /* MQTT 5.0, 3.1.3.6 */

static struct {
    const char *host, *user, *password, *password_file, *id, *cafile, *protocol;
    option_number port;
} args;

const option connection_options[] = {
    {OPTION_TEXT, 'h', false, "host", &args.host, "HOST", "the broker (default: localhost)", 0, 0},
    {OPTION_NUMBER, 'p', false, "port", &args.port, "PORT", "its port (default: 1883, or 8883 with --cafile)", 1,
     65535},
    {OPTION_TEXT, 'u', false, "username", &args.user, "NAME", "MQTT user name", 0, 0},
    {OPTION_TEXT, 'P', false, "pw", &args.password, "PASSWORD", "its password: other users see it, see --pw-file", 0,
     0},
    {OPTION_TEXT, 0, false, "pw-file", &args.password_file, "FILE", "file whose first line is the password", 0, 0},
    {OPTION_TEXT, 'i', false, "id", &args.id, "ID", "MQTT client id (default: the broker chooses)", 0, 0},
    {OPTION_TEXT, 0, false, "cafile", &args.cafile, "FILE", "TLS, trusting these CA certificates (PEM)", 0, 0},
    {OPTION_TEXT, 'V', false, "protocol-version", &args.protocol, "311|5", "MQTT version (default: 5)", 0, 0},
    {0},
};

const char *mqtt_username(void)
{
    return args.user;
}

const char *mqtt_client_id(void)
{
    return args.id;
}

uint64_t mqtt_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* ---- signals: handlers without SA_RESTART, so that waiting ends ---- */

static volatile sig_atomic_t stopped;

static void on_stop(int number)
{
    (void)number;
    stopped = 1;
}

void mqtt_stop_on_signals(void)
{
    struct sigaction action = {.sa_handler = on_stop};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

bool mqtt_stopped(void)
{
    return stopped != 0;
}

/* ---- what libmosquitto reports ---- */

static void note_trouble(mqtt_link *link, const char *text)
{
    size_t n = strlen(text);
    while (n > 0 && strchr(".\n", text[n - 1]) != NULL) /* libmosquitto's sentences become part of ours */
        n--;
    (void)snprintf(link->trouble, sizeof(link->trouble), "%.*s", (int)n, text);
}

static void on_log(struct mosquitto *client, void *link, int level, const char *text)
{
    (void)client;
    if (level == MOSQ_LOG_ERR)
        note_trouble(link, text);
}

static bool is_v5(void)
{
    return args.protocol == NULL || strstr(args.protocol, "5") != NULL;
}

static void on_connect(struct mosquitto *client, void *object, int answer, int flags, const mosquitto_property *props)
{
    (void)client;
    (void)flags;
    (void)props;
    mqtt_link *link = object;
    link->connected = answer == 0;
    link->refused = answer != 0;
    if (answer != 0) /* v3.1.1 numbers its refusals 1 to 5, v5 from 128 */
        note_trouble(link, answer < 128 ? mosquitto_connack_string(answer) : mosquitto_reason_string(answer));
    else if (link->on_connected != NULL)
        link->on_connected(link);
}

static void on_disconnect(struct mosquitto *client, void *object, int why, const mosquitto_property *props)
{
    (void)client;
    (void)props;
    mqtt_link *link = object;
    link->connected = false;
    if (is_v5() && why >= 128) /* the broker's own reason */
        note_trouble(link, mosquitto_reason_string(why));
}

/* Keeps the more telling words: those that came in a callback before libmosquitto returned its number. */
static bool trouble(mqtt_link *link, int rc, int error)
{
    if (rc == MOSQ_ERR_SUCCESS)
        return false;
    if (link->trouble[0] == '\0')
        note_trouble(link, rc == MOSQ_ERR_ERRNO ? strerror(error) : mosquitto_strerror(rc));
    return true;
}

const char *mqtt_why(const mqtt_link *link)
{
    return link->trouble;
}

/* ---- making the client ---- */

static int check_options(mqtt_link *link)
{
    static const char *const protocols[] = {"311", "5", "mqttv311", "mqttv5"};
    bool known = args.protocol == NULL;
    for (size_t i = 0; i < sizeof(protocols) / sizeof(protocols[0]) && !known; i++)
        known = strcmp(args.protocol, protocols[i]) == 0;
    if (!known)
        return wrong_usage("-V '%.40s': is neither 311 nor 5", args.protocol);
    if (args.password != NULL && args.password_file != NULL)
        return wrong_usage("give one of -P and --pw-file");
    if ((args.password != NULL || args.password_file != NULL) && args.user == NULL)
        return wrong_usage("a password needs a user name, -u");
    if (args.host == NULL)
        args.host = "localhost";
    if (!args.port.given)
        args.port.value = args.cafile != NULL ? PORT_TLS : PORT;
    (void)snprintf(link->address, sizeof(link->address), "%.255s:%u", args.host, (unsigned)args.port.value);
    return DONE;
}

static int set_user(mqtt_link *link, const char *password)
{
    int rc = mosquitto_username_pw_set(link->client, args.user, password);
    return rc == MOSQ_ERR_SUCCESS ? DONE : wrong_usage("-u: %s", mosquitto_strerror(rc));
}

static int check_secret(const char *path)
{
    struct stat st;
    if (stat(path, &st) != 0)
        return fail(OUT_OF_REACH, "cannot read %s: %s", path, strerror(errno));
    if (S_ISREG(st.st_mode) && (st.st_mode & 077) != 0)
        return fail(OUT_OF_REACH, "%s: others may read the password; chmod 600 it", path);
    return DONE;
}

static int set_user_from_file(mqtt_link *link)
{
    buffer file = {0};
    int code = check_secret(args.password_file);
    if (code == DONE)
        code = read_file(&file, args.password_file, PW_MAX);
    if (code == DONE && !buffer_reserve(&file, file.n + 1))
        code = fail(OUT_OF_REACH, "out of memory");
    if (code == DONE) {
        file.p[file.n] = '\0';
        file.p[strcspn((char *)file.p, "\r\n")] = '\0';
        code = set_user(link, (char *)file.p);
    }
    buffer_free(&file);
    return code;
}

static int set_credentials(mqtt_link *link)
{
    if (args.password_file != NULL)
        return set_user_from_file(link);
    return args.user != NULL ? set_user(link, args.password) : DONE;
}

static int set_tls(mqtt_link *link)
{
    if (args.cafile == NULL)
        return DONE;
    int fd = open(args.cafile, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return fail(OUT_OF_REACH, "cannot open %s: %s", args.cafile, strerror(errno));
    close(fd);
    int rc = mosquitto_tls_set(link->client, args.cafile, NULL, NULL, NULL, NULL);
    return rc == MOSQ_ERR_SUCCESS ? DONE : fail(OUT_OF_REACH, "--cafile %s: %s", args.cafile, mosquitto_strerror(rc));
}

int mqtt_prepare(mqtt_link *link)
{
    int code = check_options(link);
    if (code != DONE)
        return code;
    mosquitto_lib_init();
    link->client = mosquitto_new(args.id, true, link);
    if (link->client == NULL)
        return errno == EINVAL ? wrong_usage("-i: is no client id") : fail(OUT_OF_REACH, "out of memory");
    mosquitto_int_option(link->client, MOSQ_OPT_PROTOCOL_VERSION, is_v5() ? MQTT_PROTOCOL_V5 : MQTT_PROTOCOL_V311);
    mosquitto_int_option(link->client, MOSQ_OPT_TCP_NODELAY, 1);
    mosquitto_log_callback_set(link->client, on_log);
    mosquitto_connect_v5_callback_set(link->client, on_connect);
    mosquitto_disconnect_v5_callback_set(link->client, on_disconnect);
    code = set_credentials(link);
    return code == DONE ? set_tls(link) : code;
}

/* ---- connecting ---- */

static void on_alarm(int number)
{
    (void)number;
}

/*
 * libmosquitto's connect blocks, for minutes where nobody answers. A timer interrupts it: once after the time that we
 * give it, then each second, because a name may have further addresses.
 */
static void limit_connect(bool on)
{
    struct sigaction action = {.sa_handler = on_alarm};
    sigaction(SIGALRM, &action, NULL);
    struct itimerval timer = {0};
    if (on)
        timer = (struct itimerval){.it_value.tv_sec = MQTT_WAIT_MS / 1000, .it_interval.tv_sec = 1};
    setitimer(ITIMER_REAL, &timer, NULL);
}

static bool open_connection(mqtt_link *link, bool again)
{
    link->trouble[0] = '\0';
    link->connected = false;
    link->refused = false;
    limit_connect(true);
    int rc = again ? mosquitto_reconnect(link->client)
                   : mosquitto_connect(link->client, args.host, (int)args.port.value, KEEPALIVE);
    int error = errno;
    limit_connect(false);
    if (rc == MOSQ_ERR_ERRNO && error == EINTR)
        note_trouble(link, "no answer");
    return !trouble(link, rc, error);
}

static bool await_answer(mqtt_link *link)
{
    uint64_t deadline_ms = mqtt_now_ms() + MQTT_WAIT_MS;
    while (!link->connected && !link->refused) {
        if (stopped || mqtt_now_ms() >= deadline_ms) {
            note_trouble(link, stopped ? "interrupted" : "no answer to CONNECT");
            return false;
        }
        if (!mqtt_turn(link, NULL, -1, 1000))
            return false;
    }
    return link->connected;
}

int mqtt_connect(mqtt_link *link)
{
    if (open_connection(link, false) && await_answer(link))
        return DONE;
    if (link->refused)
        return fail(OUT_OF_REACH, "%s refused the connection: %s", link->address, link->trouble);
    return fail(OUT_OF_REACH, "cannot connect to %s: %s", link->address, link->trouble);
}

bool mqtt_reconnect(mqtt_link *link)
{
    return open_connection(link, true) && await_answer(link);
}

bool mqtt_turn(mqtt_link *link, bool *readable, int fd, int timeout_ms)
{
    int socket = mosquitto_socket(link->client);
    short wanted = (short)(POLLIN | (mosquitto_want_write(link->client) ? POLLOUT : 0));
    struct pollfd polled[] = {{.fd = socket, .events = wanted}, {.fd = fd, .events = POLLIN}};
    int n = poll(polled, 2, timeout_ms);
    if (readable != NULL)
        *readable = n > 0 && polled[1].revents != 0;
    errno = 0;
    int rc = mosquitto_loop(link->client, 0, 1);
    return !trouble(link, rc, errno);
}

/* libmosquitto 2.1 wants to write even after DISCONNECT, when it has closed the socket. */
static bool must_write(const mqtt_link *link)
{
    return mosquitto_socket(link->client) >= 0 && mosquitto_want_write(link->client);
}

void mqtt_close(mqtt_link *link)
{
    if (link->client == NULL)
        return;
    if (link->connected && mosquitto_disconnect(link->client) == MOSQ_ERR_SUCCESS)
        for (int turns = 0; must_write(link) && turns < 10; turns++)
            (void)mqtt_turn(link, NULL, -1, 200);
    mosquitto_destroy(link->client);
    mosquitto_lib_cleanup();
    link->client = NULL;
}
