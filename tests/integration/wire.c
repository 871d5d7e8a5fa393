#include "wire.h"

#include "broker.h"

#include <CUnit/CUnit.h>
#include <arpa/inet.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* A packet's body as it grows; `bytes` has room for what was asked of packet_new. */
typedef struct {
    uint8_t *bytes;
    size_t n;
} packet;

static packet packet_new(size_t room)
{
    return (packet){.bytes = calloc(1, room + 512)};
}

static void put(packet *p, const void *bytes, size_t n)
{
    if (n > 0)
        memcpy(p->bytes + p->n, bytes, n);
    p->n += n;
}

static void put_byte(packet *p, unsigned value)
{
    p->bytes[p->n++] = (uint8_t)value;
}

static void put_u16(packet *p, unsigned value)
{
    put_byte(p, value >> 8);
    put_byte(p, value & 0xff);
}

static void put_string(packet *p, const void *bytes, size_t n)
{
    put_u16(p, (unsigned)n);
    put(p, bytes, n);
}

static void put_length(packet *p, size_t n)
{
    for (; n >= 0x80; n >>= 7)
        put_byte(p, (unsigned)(n & 0x7f) | 0x80);
    put_byte(p, (unsigned)n);
}

/* Sends the packet and frees it. */
static void finish(const wire *w, unsigned first_byte, packet body)
{
    packet head = packet_new(body.n);
    put_byte(&head, first_byte);
    put_length(&head, body.n);
    put(&head, body.bytes, body.n);
    for (size_t sent = 0; sent < head.n;) {
        ssize_t n = send(w->fd, head.bytes + sent, head.n - sent, MSG_NOSIGNAL);
        if (n <= 0)
            break; /* a broken connection shows at the next read */
        sent += (size_t)n;
    }
    free(head.bytes);
    free(body.bytes);
}

static int connect_to(int port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CU_ASSERT_EQUAL(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

static unsigned connect_flags(const wire_spec *s)
{
    unsigned flags = s->keep_session ? 0 : 0x02;
    if (s->will_topic != NULL)
        flags |= 0x04u | (unsigned)s->will_qos << 3 | (s->will_retain ? 0x20u : 0);
    return flags | (s->username != NULL ? 0x80u : 0);
}

/* Session Expiry Interval, where the session is to be kept (3.1.2.11.2). */
static void put_connect_properties(packet *p, const wire_spec *s)
{
    put_length(p, s->keep_session ? 5 : 0);
    if (s->keep_session)
        put(p, "\x11\x00\x00\x02\x58", 5);
}

/* Will Delay Interval (3.1.3.2.2). */
static void put_will_properties(packet *p, uint32_t delay_s)
{
    put_length(p, delay_s > 0 ? 5 : 0);
    if (delay_s == 0)
        return;
    put_byte(p, 0x18);
    put_u16(p, delay_s >> 16);
    put_u16(p, delay_s & 0xffff);
}

static void send_connect(const wire *w, const wire_spec *s)
{
    packet p = packet_new(s->will_n);
    put_string(&p, "MQTT", 4);
    put_byte(&p, w->version);
    put_byte(&p, connect_flags(s));
    put_u16(&p, 600);
    if (w->version == MQTT_5)
        put_connect_properties(&p, s);
    put_string(&p, s->id, strlen(s->id));
    if (s->will_topic != NULL) {
        if (w->version == MQTT_5)
            put_will_properties(&p, s->will_delay_s);
        put_string(&p, s->will_topic, strlen(s->will_topic));
        put_string(&p, s->will, s->will_n);
    }
    if (s->username != NULL)
        put_string(&p, s->username, strlen(s->username));
    finish(w, 0x10, p);
}

static bool read_bytes(const wire *w, uint8_t *out, size_t n)
{
    int64_t deadline = monotonic_ms() + patience_ms();
    struct pollfd readable = {.fd = w->fd, .events = POLLIN};
    for (size_t got = 0; got < n;) {
        if (poll(&readable, 1, remaining_ms(deadline)) != 1)
            return false;
        ssize_t more = recv(w->fd, out + got, n - got, 0);
        if (more <= 0)
            return false;
        got += (size_t)more;
    }
    return true;
}

/* The answers that are read here are short: their length is one byte. */
static bool read_packet(const wire *w, uint8_t *type, uint8_t body[127], size_t *n)
{
    uint8_t head[2];
    if (!read_bytes(w, head, 2) || head[1] > 127)
        return false;
    *type = head[0] & 0xf0;
    *n = head[1];
    return read_bytes(w, body, head[1]);
}

bool wire_try(wire *w, wire_spec spec)
{
    *w = (wire){.fd = connect_to(spec.port), .version = spec.version == 0 ? MQTT_3 : spec.version};
    send_connect(w, &spec);
    uint8_t type = 0, body[127] = {0};
    size_t n = 0;
    return read_packet(w, &type, body, &n) && type == WIRE_CONNACK && body[1] == 0;
}

wire wire_open(wire_spec spec)
{
    wire w;
    CU_ASSERT_TRUE(wire_try(&w, spec));
    return w;
}

/* With linger at 0 the kernel sends a reset, at once, whatever was not read. */
void wire_drop(wire *w)
{
    struct linger reset = {.l_onoff = 1};
    setsockopt(w->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    close(w->fd);
    w->fd = -1;
}

void wire_garbage(const wire *w)
{
    finish(w, 0x00, packet_new(0));
}

void wire_leave_with_will(const wire *w)
{
    packet p = packet_new(1);
    put_byte(&p, 0x04);
    finish(w, 0xe0, p);
}

static void put_publish_properties(packet *p, uint16_t alias)
{
    put_length(p, alias != 0 ? 3 : 0);
    if (alias == 0)
        return;
    put_byte(p, 0x23);
    put_u16(p, alias);
}

void wire_publish(const wire *w, wire_message m)
{
    packet p = packet_new(strlen(m.topic) + m.n);
    put_string(&p, m.topic, strlen(m.topic));
    if (m.qos > 0)
        put_u16(&p, m.mid);
    if (w->version == MQTT_5)
        put_publish_properties(&p, m.alias);
    put(&p, m.bytes, m.n);
    finish(w, WIRE_PUBLISH | (m.dup ? 8u : 0) | (unsigned)m.qos << 1 | (m.retain ? 1u : 0), p);
}

void wire_release(const wire *w, uint16_t mid)
{
    packet p = packet_new(0);
    put_u16(&p, mid);
    finish(w, WIRE_PUBREL | 0x02, p);
}

bool wire_answer(const wire *w, int type, uint16_t mid, int *reason)
{
    uint8_t got = 0, body[127] = {0};
    size_t n = 0;
    bool read = read_packet(w, &got, body, &n);
    if (reason != NULL)
        *reason = n > 2 ? body[2] : 0;
    return read && got == type && n >= 2 && (body[0] << 8 | body[1]) == mid;
}

bool wire_closed(const wire *w)
{
    int64_t deadline = monotonic_ms() + patience_ms();
    struct pollfd readable = {.fd = w->fd, .events = POLLIN};
    uint8_t bytes[256];
    while (poll(&readable, 1, remaining_ms(deadline)) == 1)
        if (recv(w->fd, bytes, sizeof(bytes), 0) <= 0)
            return true;
    return false;
}
