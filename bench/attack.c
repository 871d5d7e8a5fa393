/*
 * An attacker who knows a signer's kid and topic, and not its key: sends envelopes whose signature is bad, each of
 * which passes every cheaper check, as fast as the broker takes them; and comes back whenever it is disconnected.
 *
 *   bench_attack PORT SECONDS POOL CONNECTIONS same|ids|users [QOS]
 *
 *   same    each connection keeps its client id, and goes on until the broker ends it
 *   ids     each ends after some messages, and comes back under a new client id
 *   users   the same, with a new user name too
 *
 * Never waits for an answer. Prints: messages written, connections made.
 */
#include "measure.h"
#include "packet.h"
#include "pool.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONNECTIONS_MAX 100
#define STAY            20 /* messages of a connection that comes back under another name */

typedef enum { KEEP_NAME, NEW_ID, NEW_USER } naming;

typedef struct {
    int port, qos;
    naming naming;
    double seconds;
    size_t connections;
} attack_spec;

/* An envelope that was accepted once, as anybody who may subscribe has them. */
typedef struct {
    uint8_t bytes[PACKET_MAX];
    size_t n;
    uint8_t *seq; /* where the eight bytes of its seq stand */
    uint64_t last;
} forgery;

typedef struct {
    packet out;
    size_t out_at;
    size_t number;
    unsigned long written; /* messages on this connection */
    int fd;
    bool leaving; /* nothing more to write; the broker still reads */
} attacker;

static unsigned long messages, connections;

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "bench_attack: %s\n", what);
    exit(3);
}

static void put_u64(uint8_t out[8], uint64_t value)
{
    for (size_t i = 0; i < 8; i++)
        out[i] = (uint8_t)(value >> (56 - 8 * i));
}

static void prepare(forgery *f, const char *pool_path)
{
    pool p;
    pep_envelope e;
    uint8_t seq[8];
    if (!pool_open(&p, pool_path) || p.envelopes[0].n > sizeof(f->bytes))
        die("cannot read the pool");
    f->n = p.envelopes[0].n;
    memcpy(f->bytes, p.envelopes[0].p, f->n);
    if (pep_parse(&e, f->bytes, f->n) != PEP_OK)
        die("the pool holds something else than envelopes");
    put_u64(seq, e.seq);
    f->seq = memmem(f->bytes, f->n, seq, sizeof(seq));
    if (f->seq == NULL)
        die("no seq in the envelope");
}

/* A new seq under the old signature: new, of the right age, and bad. */
static pep_view forge(forgery *f)
{
    uint64_t now = pep_now_us();
    f->last = now > f->last ? now : f->last + 1;
    put_u64(f->seq, f->last);
    return (pep_view){f->bytes, f->n};
}

static void come_back(attacker *a, const attack_spec *spec)
{
    char id[32], user[32];
    if (a->fd >= 0)
        close(a->fd);
    a->fd = connect_loopback(spec->port, SOCK_NONBLOCK);
    a->out.n = a->out_at = a->written = 0;
    a->leaving = false;
    if (a->fd < 0)
        return; /* tried again in the next round */
    connections++;
    snprintf(id, sizeof(id), "attacker-%zu", spec->naming == KEEP_NAME ? a->number : connections);
    snprintf(user, sizeof(user), "user-%lu", connections);
    packet_connect(&a->out, id, spec->naming == NEW_USER ? user : NULL);
}

static void next_message(attacker *a, forgery *f, const attack_spec *spec)
{
    a->out_at = 0;
    packet_publish(&a->out, POOL_TOPIC, forge(f), spec->qos, (unsigned)(a->written % 65535) + 1);
    a->written++;
    messages++;
}

/* Closing at once would make the broker throw away what it has not yet read. */
static bool leave(attacker *a)
{
    a->leaving = true;
    return shutdown(a->fd, SHUT_WR) == 0;
}

/* False where the connection is over. */
static bool write_more(attacker *a, forgery *f, const attack_spec *spec)
{
    bool all_written = a->out_at == a->out.n;
    if (all_written && spec->naming != KEEP_NAME && a->written >= STAY)
        return leave(a);
    if (all_written)
        next_message(a, f, spec);
    ssize_t n = send(a->fd, a->out.bytes + a->out_at, a->out.n - a->out_at, MSG_NOSIGNAL);
    a->out_at += n > 0 ? (size_t)n : 0;
    return n > 0;
}

/* Reads away what the broker answers. False where the connection is over. */
static bool read_away(const attacker *a)
{
    static uint8_t answers[1 << 16];
    return recv(a->fd, answers, sizeof(answers), 0) > 0;
}

static void go_on(attacker *a, short events, forgery *f, const attack_spec *spec)
{
    bool over = a->fd < 0 || (events & POLLERR) != 0;
    over = over || ((events & POLLIN) != 0 && !read_away(a));
    over = over || ((events & POLLOUT) != 0 && !write_more(a, f, spec));
    if (over)
        come_back(a, spec);
}

static void run(const attack_spec *spec, forgery *f)
{
    static attacker attackers[CONNECTIONS_MAX];
    struct pollfd fds[CONNECTIONS_MAX];
    double end = wall_us() + spec->seconds * 1e6;
    for (size_t i = 0; i < spec->connections; i++)
        attackers[i] = (attacker){.fd = -1, .number = i};
    while (wall_us() < end) {
        for (size_t i = 0; i < spec->connections; i++)
            fds[i] = (struct pollfd){.fd = attackers[i].fd, .events = attackers[i].leaving ? POLLIN : POLLIN | POLLOUT};
        poll(fds, spec->connections, 10);
        for (size_t i = 0; i < spec->connections; i++)
            go_on(&attackers[i], fds[i].revents, f, spec);
    }
}

static bool take_naming(naming *out, const char *name)
{
    static const char *const names[] = {[KEEP_NAME] = "same", [NEW_ID] = "ids", [NEW_USER] = "users"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strcmp(names[i], name) == 0) {
            *out = (naming)i;
            return true;
        }
    return false;
}

int main(int count, char **args)
{
    static forgery f;
    attack_spec spec = {.qos = 0};
    if (count < 6 || count > 7 || !take_naming(&spec.naming, args[5])) {
        fputs("usage: bench_attack PORT SECONDS POOL CONNECTIONS same|ids|users [QOS]\n", stderr);
        return 2;
    }
    spec.port = (int)strtol(args[1], NULL, 10);
    spec.seconds = strtod(args[2], NULL);
    spec.connections = strtoul(args[4], NULL, 10);
    spec.qos = count == 7 && strcmp(args[6], "1") == 0;
    if (spec.connections == 0 || spec.connections > CONNECTIONS_MAX)
        die("1 to 100 connections");
    prepare(&f, args[3]);
    run(&spec, &f);
    printf("%lu %lu\n", messages, connections);
    return 0;
}
