#include "packet.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void put(packet *out, const void *bytes, size_t n)
{
    memcpy(out->bytes + out->n, bytes, n);
    out->n += n;
}

static void put_u16(packet *out, size_t value)
{
    out->bytes[out->n++] = (uint8_t)(value >> 8);
    out->bytes[out->n++] = (uint8_t)value;
}

static void put_string(packet *out, const char *text)
{
    put_u16(out, strlen(text));
    put(out, text, strlen(text));
}

/* The fixed header (MQTT 3.1.1, 2.2). */
static void begin(packet *out, uint8_t type, size_t body_n)
{
    out->n = 0;
    out->bytes[out->n++] = type;
    for (; body_n >= 0x80; body_n >>= 7)
        out->bytes[out->n++] = (uint8_t)(body_n & 0x7f) | 0x80;
    out->bytes[out->n++] = (uint8_t)body_n;
}

void packet_connect(packet *out, const char *id, const char *username)
{
    begin(out, 0x10, 10 + 2 + strlen(id) + (username != NULL ? 2 + strlen(username) : 0));
    put_string(out, "MQTT");
    put(out, username != NULL ? "\x04\x82\x00\x00" : "\x04\x02\x00\x00", 4); /* 3.1.1, clean session */
    put_string(out, id);
    if (username != NULL)
        put_string(out, username);
}

void packet_subscribe(packet *out, const char *topic)
{
    begin(out, 0x82, 2 + 2 + strlen(topic) + 1);
    put_u16(out, 1);
    put_string(out, topic);
    put(out, "\x00", 1);
}

void packet_publish(packet *out, const char *topic, pep_view payload, int qos, unsigned mid)
{
    begin(out, qos == 0 ? 0x30 : 0x32, 2 + strlen(topic) + (qos == 0 ? 0 : 2) + payload.n);
    put_string(out, topic);
    if (qos > 0)
        put_u16(out, mid);
    put(out, payload.p, payload.n);
}

int connect_loopback(int port, int flags)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0 || errno == EINPROGRESS) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        return fd;
    }
    close(fd);
    return -1;
}
