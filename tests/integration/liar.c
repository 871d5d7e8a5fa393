#include "liar.h"

#include <arpa/inet.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "broker.h"
#include "tests/unit/unit.h"

/* ---- the broker ---- */

typedef liar_peer peer;

liar_broker liar;

static size_t put_string(uint8_t *to, const void *text, size_t n)
{
    to[0] = (uint8_t)(n >> 8);
    to[1] = (uint8_t)n;
    memcpy(to + 2, text, n);
    return n + 2;
}

static void send_packet(const peer *p, uint8_t first, const uint8_t *body, size_t n)
{
    uint8_t head[5] = {first};
    size_t head_n = 1;
    for (size_t left = n; head_n == 1 || left > 0; left >>= 7)
        head[head_n++] = (uint8_t)((left & 0x7f) | (left > 0x7f ? 0x80 : 0));
    (void)!send(p->fd, head, head_n, MSG_NOSIGNAL | MSG_MORE);
    (void)!send(p->fd, body, n, MSG_NOSIGNAL);
}

static void send_message(const peer *p, const char *topic, const void *payload, size_t n, bool retain)
{
    static uint8_t body[1 << 21];
    size_t at = put_string(body, topic, strlen(topic));
    body[at++] = 0; /* properties */
    memcpy(body + at, payload, n);
    send_packet(p, (uint8_t)(0x30 | (retain ? 1 : 0)), body, at + n);
}

/* To everybody who has subscribed, to whatever it was. */
void liar_tell(const char *topic, const void *payload, size_t n, bool retain)
{
    for (size_t i = 0; i < LIAR_PEERS; i++)
        if (liar.peers[i].fd >= 0 && liar.peers[i].listens)
            send_message(&liar.peers[i], topic, payload, n, retain);
}

void liar_retain(const char *topic, const char *id, bytes payload)
{
    (void)snprintf(liar.retained[liar.retained_count].topic, sizeof(liar.retained[0].topic), "%s%s", topic, id);
    liar.retained[liar.retained_count++].payload = payload;
}

static void take_subscribe(peer *p, const uint8_t *body, size_t n)
{
    uint8_t answer[64] = {body[0], body[1], 0};
    size_t answer_n = 3;
    p->listens = true;
    for (size_t at = 3; at + 2 <= n; at += 1) { /* no properties */
        char topic[256] = "";
        size_t topic_n = (size_t)body[at] << 8 | body[at + 1];
        memcpy(topic, body + at + 2, topic_n < sizeof(topic) ? topic_n : 0);
        at += 2 + topic_n;
        answer[answer_n++] = 1;
        for (size_t i = 0; i < liar.retained_count; i++)
            if (strcmp(topic, liar.retained[i].topic) == 0)
                send_message(p, topic, liar.retained[i].payload.p, liar.retained[i].payload.n, true);
    }
    send_packet(p, 0x90, answer, answer_n);
}

/* Whether it is sealed or not: what is only signed can be read. */
static cJSON *parse_command(const uint8_t *p, size_t n)
{
    static const char begin[] = "{\"commands\"";
    const char *json = memmem(p, n, begin, sizeof(begin) - 1);
    return json != NULL ? cJSON_ParseWithLength(json, n - (size_t)(json - (const char *)p)) : NULL;
}

static void take_command(const peer *p, const uint8_t *payload, size_t n)
{
    cJSON *root = parse_command(payload, n);
    const cJSON *command = cJSON_GetArrayItem(cJSON_GetObjectItem(root, "commands"), 0);
    cJSON *response = liar.answer != NULL ? liar.answer(command) : NULL;
    liar.asked++;
    if (response != NULL) {
        cJSON *out = cJSON_CreateObject();
        cJSON_AddItemToObject(response, "correlationData",
                              cJSON_Duplicate(cJSON_GetObjectItem(command, "correlationData"), true));
        cJSON_AddItemToArray(cJSON_AddArrayToObject(out, "responses"), response);
        char *text = cJSON_PrintUnformatted(out);
        send_message(p, PEP_ANSWER_TOPIC, text, strlen(text), false);
        free(text);
        cJSON_Delete(out);
    }
    cJSON_Delete(root);
}

static void take_publish(const peer *p, uint8_t first, const uint8_t *body, size_t n)
{
    size_t topic_n = (size_t)body[0] << 8 | body[1];
    size_t at = 2 + topic_n;
    if ((first & 6) != 0) {
        send_packet(p, 0x40, body + at, 2);
        at += 2;
    }
    at += 1; /* no properties */
    if (topic_n == strlen(PEP_CONTROL_TOPIC) && memcmp(body + 2, PEP_CONTROL_TOPIC, topic_n) == 0)
        take_command(p, body + at, n - at);
    else
        liar.published++;
}

static void take_packet(peer *p, uint8_t first, const uint8_t *body, size_t n)
{
    switch (first >> 4) {
    case 1:
        send_packet(p, 0x20, (const uint8_t[]){0, 0, 0}, 3);
        break;
    case 3:
        take_publish(p, first, body, n);
        break;
    case 8:
        take_subscribe(p, body, n);
        break;
    case 12:
        send_packet(p, 0xd0, body, 0);
        break;
    default:;
    }
}

/* False: there is no whole packet. */
static bool take_first(peer *p)
{
    size_t n = 0;
    size_t at = 1;
    for (unsigned shift = 0;; shift += 7) {
        if (at >= p->n)
            return false;
        n |= (size_t)(p->in[at] & 0x7f) << shift;
        if ((p->in[at++] & 0x80) == 0)
            break;
    }
    if (p->n < at + n)
        return false;
    take_packet(p, p->in[0], p->in + at, n);
    p->n -= at + n;
    memmove(p->in, p->in + at + n, p->n);
    return true;
}

static void read_peer(peer *p)
{
    ssize_t got = recv(p->fd, p->in + p->n, sizeof(p->in) - p->n, MSG_DONTWAIT);
    if (got <= 0) {
        close(p->fd);
        p->fd = -1;
        return;
    }
    p->n += (size_t)got;
    while (take_first(p))
        continue;
}

static void accept_peer(void)
{
    for (size_t i = 0; i < LIAR_PEERS; i++)
        if (liar.peers[i].fd < 0) {
            liar.peers[i].n = 0;
            liar.peers[i].listens = false;
            liar.peers[i].fd = accept4(liar.listener, NULL, NULL, SOCK_CLOEXEC);
            return;
        }
}

void liar_turn(void)
{
    struct pollfd polled[LIAR_PEERS + 1];
    for (size_t i = 0; i < LIAR_PEERS; i++)
        polled[i] = (struct pollfd){.fd = liar.peers[i].fd, .events = POLLIN};
    polled[LIAR_PEERS] = (struct pollfd){.fd = liar.listener, .events = POLLIN};
    (void)poll(polled, LIAR_PEERS + 1, 5);
    for (size_t i = 0; i < LIAR_PEERS; i++)
        if (polled[i].fd >= 0 && polled[i].revents != 0)
            read_peer(&liar.peers[i]);
    if (polled[LIAR_PEERS].revents != 0)
        accept_peer();
}

static void open_liar(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(address);
    memset(&liar, 0, sizeof(liar));
    for (size_t i = 0; i < LIAR_PEERS; i++)
        liar.peers[i].fd = -1;
    liar.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CU_ASSERT_EQUAL_FATAL(bind(liar.listener, (struct sockaddr *)&address, n), 0);
    CU_ASSERT_EQUAL_FATAL(listen(liar.listener, LIAR_PEERS), 0);
    CU_ASSERT_EQUAL_FATAL(getsockname(liar.listener, (struct sockaddr *)&address, &n), 0);
    liar.port = ntohs(address.sin_port);
}

/* ---- what it answers ---- */

cJSON *liar_error(const char *name)
{
    cJSON *response = cJSON_CreateObject();
    cJSON_AddStringToObject(response, "error", name);
    return response;
}

const char *liar_word(const cJSON *command, const char *name)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItem(command, name));
    return text != NULL ? text : "";
}

bool liar_is(const cJSON *command, const char *name)
{
    return strcmp(liar_word(command, "command"), name) == 0;
}

/* ---- running the tool ---- */

static char work[64];

char *liar_content(const char *path)
{
    static char text[1 << 16];
    FILE *file = fopen(path, "re");
    text[0] = '\0';
    if (file == NULL)
        return text;
    text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
    fclose(file);
    return text;
}

size_t liar_count(const char *path, const char *text)
{
    size_t n = 0;
    for (const char *at = liar_content(path); (at = strstr(at, text)) != NULL; at += strlen(text))
        n++;
    return n;
}

/* `%` in the words stands for the connection. */
pid_t liar_start(const char *words)
{
    char line[2048] = "exec " PEP_TOOL " ";
    size_t n = strlen(line);
    for (; *words != '\0' && n < sizeof(line) - 64; words++)
        n += (size_t)snprintf(line + n, sizeof(line) - n, *words == '%' ? "-h 127.0.0.1 -p %d" : "%c",
                              *words == '%' ? liar.port : *words);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        if (freopen("out", "w", stdout) != NULL && freopen("err", "w", stderr) != NULL)
            execl("/bin/sh", "sh", "-c", line, (char *)NULL);
        _exit(127);
    }
    return child;
}

int liar_end(pid_t child)
{
    int status = 0;
    int64_t deadline = monotonic_ms() + 4 * (int64_t)patience_ms();
    while (waitpid(child, &status, WNOHANG) == 0) {
        if (monotonic_ms() > deadline)
            kill(child, SIGKILL);
        liar_turn();
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

void liar_expect(int code, const char *words, const char *text)
{
    int got = liar_end(liar_start(words));
    bool right =
        got == code && (strstr(liar_content("out"), text) != NULL || strstr(liar_content("err"), text) != NULL);
    if (!right)
        printf("\n    pep %s: exit code %d, not %d, or no '%s' in: %s", words, got, code, text, liar_content("err"));
    CU_ASSERT_TRUE(right);
}

bool liar_comes(const char *path, const char *text, size_t times)
{
    int64_t deadline = monotonic_ms() + patience_ms();
    while (liar_count(path, text) < times && monotonic_ms() < deadline)
        liar_turn();
    if (liar_count(path, text) >= times)
        return true;
    printf("\n    not %zu times '%s' in %s: %.2000s", times, text, path, liar_content(path));
    return false;
}

void liar_stop(pid_t child)
{
    kill(child, SIGTERM);
    CU_ASSERT_EQUAL(liar_end(child), 0);
}

void liar_enter(void)
{
    const char *parent = getenv("TMPDIR");
    (void)snprintf(work, sizeof(work), "%s/pep-lies-XXXXXX", parent != NULL ? parent : "/tmp");
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(work));
    CU_ASSERT_EQUAL_FATAL(chdir(work), 0);
    CU_ASSERT_EQUAL(mkdir("from", 0700), 0);
    (void)signal(SIGPIPE, SIG_IGN);
    open_liar();
    liar_expect(0, "keygen --id me --out .", "");
}

void liar_leave(void)
{
    char line[128];
    (void)snprintf(line, sizeof(line), "rm -rf %s", work);
    for (size_t i = 0; i < LIAR_PEERS; i++)
        if (liar.peers[i].fd >= 0)
            close(liar.peers[i].fd);
    close(liar.listener);
    CU_ASSERT_EQUAL(chdir("/"), 0);
    CU_ASSERT_EQUAL(system(line), 0); // NOLINT(cert-env33-c): a folder of our own
}
