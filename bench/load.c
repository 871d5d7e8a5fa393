/*
 * A load generator for one broker: one publisher and, where asked for, one subscriber, in one thread that never blocks.
 *
 *   bench_load PORT PID SECONDS POOL [--once] [--topic T] [--subscribe] [--qos 0|1] [--tls CAFILE]
 *
 * Sends the envelopes of POOL one after the other, from the beginning again where they end (with --once it stops
 * there), for SECONDS, and prints: messages, messages a second, and us of CPU a message of the broker PID. It speaks
 * MQTT 3.1.1; every message is one write and, over TLS, one record.
 */
#include "measure.h"
#include "pool.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BARRIER_TOPIC "bench/barrier"
#define PACKET_MAX    2048
#define AHEAD_MAX     2000 /* messages that may be under way to the subscriber */
#define UNACKED_MAX   100  /* at QoS 1 */
#define PATIENCE_S    10

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "bench_load: %s%s%s\n", what, errno != 0 ? ": " : "", errno != 0 ? strerror(errno) : "");
    exit(3);
}

static double now_s(void)
{
    return wall_us() / 1e6;
}

/* ---- a connection ---- */

typedef struct {
    int fd;
    SSL *ssl; /* NULL: plain TCP */
    uint8_t out[PACKET_MAX];
    size_t out_n, out_at;
    uint8_t in[1 << 16]; /* what was read and not yet taken apart */
    size_t in_n;
    size_t skip; /* bytes of a packet's body that are still to come */
    unsigned long publishes, acks, others;
} connection;

static void start_tls(connection *c, const char *ca_file)
{
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    if (context == NULL || SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) != 1 ||
        SSL_CTX_load_verify_locations(context, ca_file, NULL) != 1)
        die("TLS");
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    c->ssl = SSL_new(context);
    SSL_CTX_free(context);
    if (c->ssl == NULL || SSL_set_fd(c->ssl, c->fd) != 1 || SSL_connect(c->ssl) != 1)
        die("the TLS handshake");
}

static int connect_once(int port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
        return fd;
    close(fd);
    return -1;
}

static connection *open_connection(int port, const char *ca_file)
{
    connection *c = calloc(1, sizeof(*c));
    double deadline = now_s() + PATIENCE_S;
    int one = 1;
    while ((c->fd = connect_once(port)) < 0)
        if (now_s() > deadline || poll(NULL, 0, 10) != 0)
            die("cannot reach the broker");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (ca_file != NULL)
        start_tls(c, ca_file);
    if (fcntl(c->fd, F_SETFL, O_NONBLOCK) != 0)
        die("fcntl");
    return c;
}

static void close_connection(connection *c)
{
    SSL_free(c->ssl);
    close(c->fd);
    free(c);
}

/* What send, recv and OpenSSL's calls returned: bytes, or 0 for "not now". */
static size_t moved(const connection *c, ssize_t n)
{
    if (n > 0)
        return (size_t)n;
    int why = c->ssl == NULL ? SSL_ERROR_NONE : SSL_get_error(c->ssl, (int)n);
    bool later = c->ssl == NULL ? n < 0 && errno == EAGAIN : why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE;
    if (!later)
        die("the broker closed the connection");
    return 0;
}

static size_t write_some(connection *c, const uint8_t *bytes, size_t n)
{
    return moved(c, c->ssl == NULL ? send(c->fd, bytes, n, MSG_NOSIGNAL) : SSL_write(c->ssl, bytes, (int)n));
}

static size_t read_some(connection *c, uint8_t *bytes, size_t n)
{
    return moved(c, c->ssl == NULL ? recv(c->fd, bytes, n, 0) : SSL_read(c->ssl, bytes, (int)n));
}

/* True where nothing of the packet is left to write. */
static bool flush(connection *c)
{
    if (c->out_at < c->out_n)
        c->out_at += write_some(c, c->out + c->out_at, c->out_n - c->out_at);
    return c->out_at == c->out_n;
}

/* ---- MQTT 3.1.1 ---- */

static void put(connection *c, const void *bytes, size_t n)
{
    memcpy(c->out + c->out_n, bytes, n);
    c->out_n += n;
}

static void put_u16(connection *c, size_t value)
{
    c->out[c->out_n++] = (uint8_t)(value >> 8);
    c->out[c->out_n++] = (uint8_t)value;
}

static void put_string(connection *c, const char *text)
{
    put_u16(c, strlen(text));
    put(c, text, strlen(text));
}

/* Begins a packet; all of ours are shorter than 16 KiB, so two bytes hold the length. */
static void begin(connection *c, uint8_t type, size_t body_n)
{
    c->out_n = c->out_at = 0;
    c->out[c->out_n++] = type;
    c->out[c->out_n++] = (uint8_t)(body_n & 0x7f) | 0x80;
    c->out[c->out_n++] = (uint8_t)(body_n >> 7);
}

static void put_connect(connection *c, const char *id)
{
    begin(c, 0x10, 10 + 2 + strlen(id));
    put_string(c, "MQTT");
    put(c, "\x04\x02\x00\x00", 4); /* 3.1.1, clean session, no keep-alive */
    put_string(c, id);
}

static void put_subscribe(connection *c, const char *topic)
{
    begin(c, 0x82, 2 + 2 + strlen(topic) + 1);
    put_u16(c, 1);
    put_string(c, topic);
    put(c, "\x00", 1);
}

static void put_publish(connection *c, const char *topic, pep_view payload, int qos, unsigned mid)
{
    begin(c, qos == 0 ? 0x30 : 0x32, 2 + strlen(topic) + (qos == 0 ? 0 : 2) + payload.n);
    put_string(c, topic);
    if (qos > 0)
        put_u16(c, mid);
    put(c, payload.p, payload.n);
}

static void count_packet(connection *c, uint8_t type)
{
    if ((type & 0xf0) == 0x30)
        c->publishes++;
    else if ((type & 0xf0) == 0x40)
        c->acks++;
    else
        c->others++;
}

/* Takes one packet's head off; false where it is not all there yet. */
static bool take_head(connection *c, size_t *at)
{
    size_t length = 0, i = *at + 1;
    for (unsigned shift = 0; i < c->in_n; shift += 7) {
        length |= (size_t)(c->in[i] & 0x7f) << shift;
        if ((c->in[i++] & 0x80) == 0) {
            count_packet(c, c->in[*at]);
            c->skip = length;
            *at = i;
            return true;
        }
    }
    return false;
}

/* Reads what is there and counts the packets in it. */
static void drain(connection *c)
{
    for (size_t n; (n = read_some(c, c->in + c->in_n, sizeof(c->in) - c->in_n)) > 0;) {
        size_t at = 0;
        c->in_n += n;
        do {
            size_t skipped = c->skip < c->in_n - at ? c->skip : c->in_n - at;
            c->skip -= skipped;
            at += skipped;
        } while (c->skip == 0 && at < c->in_n && take_head(c, &at));
        c->in_n -= at;
        memmove(c->in, c->in + at, c->in_n);
    }
}

static void wait_for(connection *a, connection *b)
{
    struct pollfd fds[2] = {{.fd = a->fd, .events = POLLIN}, {.fd = b != NULL ? b->fd : -1, .events = POLLIN}};
    if (a->out_at < a->out_n)
        fds[0].events |= POLLOUT;
    if (poll(fds, 2, PATIENCE_S * 1000) == 0)
        die("the broker does not answer");
}

/* Sends the packet that was put, and waits until `*counter` has grown. */
static void exchange(connection *c, const unsigned long *counter)
{
    unsigned long before = *counter;
    for (flush(c); drain(c), *counter == before; flush(c))
        wait_for(c, NULL);
}

static connection *open_client(int port, const char *ca_file, const char *id)
{
    connection *c = open_connection(port, ca_file);
    put_connect(c, id);
    exchange(c, &c->others);
    return c;
}

/* ---- a run ---- */

typedef struct {
    int port, pid, qos;
    double seconds;
    const char *topic, *ca_file, *pool_path;
    bool subscribe;
    bool once; /* stop where the pool ends */
} run_spec;

/* The fields of /proc/PID/stat from the third one on (proc(5)): behind the name, which may hold spaces itself. */
static char *stat_fields(char *text, size_t cap, int pid)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    FILE *file = fopen(path, "re");
    if (file == NULL || fgets(text, (int)cap, file) == NULL || strrchr(text, ')') == NULL)
        die(path);
    fclose(file);
    return strrchr(text, ')') + 2;
}

/* Seconds of CPU that the process has used: utime and stime, fields 14 and 15. */
static double cpu_s(int pid)
{
    char text[1024];
    char *at = stat_fields(text, sizeof(text), pid);
    for (int field = 3; field < 14 && at != NULL; field++)
        at = strchr(at + 1, ' ');
    if (at == NULL)
        die("/proc/PID/stat is not as expected");
    unsigned long user = strtoul(at, &at, 10), system = strtoul(at, NULL, 10);
    return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

static bool may_send(const run_spec *spec, const connection *from, const connection *to, unsigned long sent)
{
    return (to == NULL || sent - to->publishes < AHEAD_MAX) && (spec->qos == 0 || sent - from->acks < UNACKED_MAX);
}

/* Sends until the time or the pool is over; returns how many were sent. */
static unsigned long send_all(const run_spec *spec, connection *from, connection *to, const pool *p)
{
    unsigned long sent = 0;
    double end = now_s() + spec->seconds;
    while (now_s() < end && !(spec->once && sent == p->count)) {
        if (flush(from) && may_send(spec, from, to, sent)) {
            put_publish(from, spec->topic, p->envelopes[sent % p->count], spec->qos, (unsigned)(sent % 65535) + 1);
            sent++;
            if (flush(from) && sent % 16 != 0)
                continue;
        } else {
            wait_for(from, to);
        }
        drain(from);
        if (to != NULL)
            drain(to);
    }
    return sent;
}

/* Behind the last message goes one that is acknowledged: then the broker has seen them all. */
static void finish(const run_spec *spec, connection *from, connection *to, unsigned long sent)
{
    while (!flush(from) || (spec->qos > 0 && from->acks < sent)) {
        wait_for(from, to);
        drain(from);
        if (to != NULL)
            drain(to);
    }
    put_publish(from, BARRIER_TOPIC, (pep_view){(const uint8_t *)"", 0}, 1, 1);
    exchange(from, &from->acks);
    for (; to != NULL && to->publishes < sent; drain(to))
        wait_for(to, NULL);
}

static int run(const run_spec *spec)
{
    pool p;
    if (!pool_open(&p, spec->pool_path))
        die(spec->pool_path);
    connection *to = spec->subscribe ? open_client(spec->port, spec->ca_file, "to") : NULL;
    connection *from = open_client(spec->port, spec->ca_file, "from");
    if (to != NULL) {
        put_subscribe(to, spec->topic);
        exchange(to, &to->others);
    }
    double cpu = cpu_s(spec->pid), started = now_s();
    unsigned long sent = send_all(spec, from, to, &p);
    finish(spec, from, to, sent);
    double took = now_s() - started;
    cpu = cpu_s(spec->pid) - cpu;
    printf("%lu %.0f %.3f\n", sent, (double)sent / took, cpu * 1e6 / (double)sent);
    close_connection(from);
    if (to != NULL)
        close_connection(to);
    return 0;
}

/* ---- the command line ---- */

static int usage(void)
{
    fputs("usage: bench_load PORT PID SECONDS POOL [--once] [--topic T] [--subscribe] [--qos 0|1] [--tls CAFILE]\n",
          stderr);
    return 2;
}

static bool take_flag(run_spec *spec, const char *name)
{
    bool once = strcmp(name, "--once") == 0, subscribe = strcmp(name, "--subscribe") == 0;
    spec->once = spec->once || once;
    spec->subscribe = spec->subscribe || subscribe;
    return once || subscribe;
}

static bool take_value(run_spec *spec, const char *name, const char *value)
{
    if (strcmp(name, "--topic") == 0)
        spec->topic = value;
    else if (strcmp(name, "--tls") == 0)
        spec->ca_file = value;
    else if (strcmp(name, "--qos") == 0 && (strcmp(value, "0") == 0 || strcmp(value, "1") == 0))
        spec->qos = value[0] - '0';
    else
        return false;
    return true;
}

int main(int count, char **args)
{
    if (count < 5)
        return usage();
    run_spec spec = {.topic = POOL_TOPIC, .pool_path = args[4]};
    spec.port = (int)strtol(args[1], NULL, 10);
    spec.pid = (int)strtol(args[2], NULL, 10);
    spec.seconds = strtod(args[3], NULL);
    for (int i = 5; i < count; i++) {
        if (take_flag(&spec, args[i]))
            continue;
        if (i + 1 == count || !take_value(&spec, args[i], args[i + 1]))
            return usage();
        i++;
    }
    return run(&spec);
}
