#include "drive.h"

#include <poll.h>

#include "measure.h"

static void serve(struct mosquitto *client, short events)
{
    if ((events & (POLLIN | POLLERR | POLLHUP)) != 0)
        mosquitto_loop_read(client, 1);
    if ((events & POLLOUT) != 0)
        mosquitto_loop_write(client, 1);
    mosquitto_loop_misc(client);
}

void drive_step(struct mosquitto *const *clients, size_t count, double until_us)
{
    struct pollfd fds[DRIVE_CLIENTS_MAX];
    double left_us = until_us - wall_us();
    struct timespec left = {.tv_nsec = left_us < 0 ? 0 : left_us < 1e5 ? (long)(left_us * 1e3) : 100000000};
    for (size_t i = 0; i < count; i++) {
        bool more = mosquitto_want_write(clients[i]);
        fds[i] = (struct pollfd){.fd = mosquitto_socket(clients[i]), .events = more ? POLLIN | POLLOUT : POLLIN};
    }
    ppoll(fds, count, &left, NULL);
    for (size_t i = 0; i < count; i++)
        serve(clients[i], fds[i].revents);
}

bool drive_until(struct mosquitto *const *clients, size_t count, const bool *condition)
{
    double deadline = wall_us() + DRIVE_PATIENCE_US;
    while (!*condition && wall_us() < deadline)
        drive_step(clients, count, deadline);
    return *condition;
}

struct mosquitto *drive_open(const char *id, const char *username, int port, void *user,
                             void (*set_callbacks)(struct mosquitto *client))
{
    struct mosquitto *client = mosquitto_new(id, true, user);
    double deadline = wall_us() + DRIVE_PATIENCE_US;
    if (client == NULL)
        return NULL;
    set_callbacks(client);
    mosquitto_int_option(client, MOSQ_OPT_TCP_NODELAY, 1);
    mosquitto_username_pw_set(client, username, NULL);
    while (mosquitto_connect(client, "127.0.0.1", port, 600) != MOSQ_ERR_SUCCESS)
        if (poll(NULL, 0, 10), wall_us() > deadline)
            return NULL;
    return client;
}
