/*
 * A load generator for one broker: one publisher and, where asked for, one subscriber, in one thread that never blocks.
 *
 *   bench_load PORT PID SECONDS POOL [--once] [--topic T] [--subscribe] [--qos 0|1] [--tls CAFILE]
 *
 * Sends the envelopes of POOL one after the other, from the beginning again where they end (with --once it stops
 * there), for SECONDS, and prints: messages, messages a second, and us of CPU a message, of the broker PID and of its
 * first thread alone. It speaks MQTT 3.1.1; every message is one write and, over TLS, one record.
 */
#include "measure.h"
#include "packet.h"
#include "pool.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BARRIER_TOPIC "bench/barrier"
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
    packet out;
    size_t out_at;
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

static connection *open_connection(int port, const char *ca_file)
{
    connection *c = calloc(1, sizeof(*c));
    double deadline = now_s() + PATIENCE_S;
    while ((c->fd = connect_loopback(port, 0)) < 0)
        if (now_s() > deadline || poll(NULL, 0, 10) != 0)
            die("cannot reach the broker");
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
    if (c->out_at < c->out.n)
        c->out_at += write_some(c, c->out.bytes + c->out_at, c->out.n - c->out_at);
    return c->out_at == c->out.n;
}

/* The packet to fill and then to flush. */
static packet *next_packet(connection *c)
{
    c->out_at = 0;
    return &c->out;
}

/* ---- what comes back ---- */

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
    if (a->out_at < a->out.n)
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
    packet_connect(next_packet(c), id, NULL);
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
            packet_publish(next_packet(from), spec->topic, p->envelopes[sent % p->count], spec->qos,
                           (unsigned)(sent % 65535) + 1);
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
    packet_publish(next_packet(from), BARRIER_TOPIC, (pep_view){(const uint8_t *)"", 0}, 1, 1);
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
        packet_subscribe(next_packet(to), spec->topic);
        exchange(to, &to->others);
    }
    double cpu = process_cpu_us(spec->pid), thread = thread_cpu_us(spec->pid), started = now_s();
    unsigned long sent = send_all(spec, from, to, &p);
    finish(spec, from, to, sent);
    double took = now_s() - started;
    if (cpu < 0)
        die("there is no such process");
    cpu = process_cpu_us(spec->pid) - cpu;
    thread = thread_cpu_us(spec->pid) - thread;
    printf("%lu %.0f %.3f %.3f\n", sent, (double)sent / took, cpu / (double)sent, thread / (double)sent);
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
