/*
 * What valid traffic feels: one client publishes 200 of the pool's envelopes a second at QoS 1, another one, subscribed
 * at QoS 1, takes the time from the call that publishes to the arrival.
 *
 *   bench_latency PORT PID SECONDS POOL [USERNAME]      0 seconds: until standard input ends
 *
 * Prints "ready" once the first message has come through; in the end: sent, lost, ms of median, 95th and 99th
 * percentile and maximum, and the share of one CPU that the process PID had meanwhile, in percent. The clients are
 * libmosquitto's, driven by one thread.
 */
#include "drive.h"
#include "measure.h"
#include "pool.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EVERY_US 5000.0

enum { FROM, TO, CLIENTS };

typedef struct {
    struct mosquitto *clients[CLIENTS];
    bool connected[CLIENTS];
    bool subscribed;
    pool pool;
    uint64_t first_seq; /* of the pool, whose seqs follow each other */
    double *published;  /* when, by the number in the pool */
    double *took;       /* in the order of arrival */
    bool *arrived;      /* by the number in the pool */
    size_t received;
} traffic;

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "bench_latency: %s\n", what);
    exit(3);
}

/* ---- what libmosquitto tells ---- */

static void on_connect(struct mosquitto *client, void *user, int rc)
{
    traffic *t = user;
    t->connected[client == t->clients[TO] ? TO : FROM] = rc == 0;
}

static void on_subscribe(struct mosquitto *client, void *user, int mid, int count, const int *granted)
{
    (void)client;
    (void)mid;
    ((traffic *)user)->subscribed = count == 1 && granted[0] == 1;
}

static void on_message(struct mosquitto *client, void *user, const struct mosquitto_message *m)
{
    traffic *t = user;
    pep_envelope e;
    double now = wall_us();
    (void)client;
    if (pep_parse(&e, m->payload, (size_t)m->payloadlen) != PEP_OK || e.seq - t->first_seq >= t->pool.count)
        die("something else than the pool's envelopes came through");
    size_t i = e.seq - t->first_seq;
    if (t->arrived[i])
        return; /* QoS 1 may deliver twice */
    t->arrived[i] = true;
    t->took[t->received++] = now - t->published[i];
}

/* ---- driving it ---- */

static void step(traffic *t, double until_us)
{
    drive_step(t->clients, CLIENTS, until_us);
}

static void wait_for(traffic *t, const bool *condition, const char *what)
{
    if (!drive_until(t->clients, CLIENTS, condition))
        die(what);
}

static void set_callbacks(struct mosquitto *client)
{
    mosquitto_connect_callback_set(client, on_connect);
    mosquitto_subscribe_callback_set(client, on_subscribe);
    mosquitto_message_callback_set(client, on_message);
}

static void open_client(traffic *t, size_t which, int port, const char *username)
{
    t->clients[which] = drive_open(which == TO ? "valid-to" : "valid-from", username, port, t, set_callbacks);
    if (t->clients[which] == NULL)
        die("cannot reach the broker");
}

/* A client that the broker has thrown out goes on counting as one that sends: what it cannot send is lost. */
static void publish(traffic *t, size_t i)
{
    pep_view e = t->pool.envelopes[i];
    t->published[i] = wall_us();
    mosquitto_publish(t->clients[FROM], NULL, POOL_TOPIC, (int)e.n, e.p, 1, false);
}

static bool input_ended(void)
{
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    return poll(&input, 1, 0) != 0;
}

static size_t publish_for(traffic *t, double seconds)
{
    size_t i = 1; /* number 0 has come through */
    size_t last = (size_t)(seconds * 1e6 / EVERY_US);
    double started = wall_us();
    for (; seconds > 0 ? i <= last : !input_ended(); i++) {
        double due = started + (double)i * EVERY_US;
        if (i >= t->pool.count)
            die("the pool is too small");
        while (wall_us() < due)
            step(t, due);
        publish(t, i);
    }
    return i;
}

static void wait_for_the_rest(traffic *t, size_t sent)
{
    double deadline = wall_us() + DRIVE_PATIENCE_US;
    while (t->received < sent && wall_us() < deadline)
        step(t, deadline);
}

static void make_room(traffic *t, const char *pool_path)
{
    pep_envelope e;
    if (!pool_open(&t->pool, pool_path) || pep_parse(&e, t->pool.envelopes[0].p, t->pool.envelopes[0].n) != PEP_OK)
        die("cannot read the pool");
    t->first_seq = e.seq;
    t->published = calloc(t->pool.count, sizeof(*t->published));
    t->took = calloc(t->pool.count, sizeof(*t->took));
    t->arrived = calloc(t->pool.count, sizeof(*t->arrived));
    if (t->published == NULL || t->took == NULL || t->arrived == NULL)
        die("out of memory");
}

static void get_ready(traffic *t, int port, const char *username)
{
    open_client(t, TO, port, username);
    open_client(t, FROM, port, username);
    wait_for(t, &t->connected[TO], "the broker does not answer");
    wait_for(t, &t->connected[FROM], "the broker does not answer");
    mosquitto_subscribe(t->clients[TO], NULL, POOL_TOPIC, 1);
    wait_for(t, &t->subscribed, "cannot subscribe");
    publish(t, 0);
    wait_for(t, &t->arrived[0], "the first message does not come through");
    puts("ready");
    fflush(stdout);
}

static void measure(traffic *t, pid_t pid, double seconds)
{
    double started = wall_us(), cpu = process_cpu_us(pid);
    size_t sent = publish_for(t, seconds);
    double share = (process_cpu_us(pid) - cpu) / (wall_us() - started);
    wait_for_the_rest(t, sent);
    double *took = t->took;
    size_t n = t->received;
    printf("%zu %zu %.2f %.2f %.2f %.2f %.0f\n", sent, sent - n, median(took, n) / 1e3, percentile(took, n, 0.95) / 1e3,
           percentile(took, n, 0.99) / 1e3, percentile(took, n, 1) / 1e3, share * 100);
}

int main(int count, char **args)
{
    static traffic t;
    if (count < 5 || count > 6) {
        fputs("usage: bench_latency PORT PID SECONDS POOL [USERNAME]\n", stderr);
        return 2;
    }
    mosquitto_lib_init();
    make_room(&t, args[4]);
    get_ready(&t, (int)strtol(args[1], NULL, 10), count == 6 ? args[5] : NULL);
    measure(&t, (pid_t)strtol(args[2], NULL, 10), strtod(args[3], NULL));
    return 0;
}
