/* SPDX-License-Identifier: MIT */
/* Addresses and the sockets bound to them. */
#include "base/abi.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "server/accept.h"
#include "server/server.h"

#include <errno.h>
#include <limits.h>
#include <unistd.h>

enum {
    BIND_TRIES = 10, /* while a process that was just killed gives its port back */
    BIND_PAUSE_MS = 10,
    DEFAULT_BACKLOG = 4096,
};

int kino_server_listen(struct kino_server *server, const struct kino_listener *listener)
{
    static const char loopback[] = "127.0.0.1";
    struct kino_listener given;
    struct kn_listener *own;
    int rc = kn_abi_read(&given, sizeof(given), listener);

    if (rc < 0)
        return rc;
    if (server->owner)
        return KINO_BUSY;
    if (server->listener_count == KN_MOST_LISTENERS)
        return -ENOSPC;
    if (!given.address.data)
        given.address = (struct kino_slice){loopback, sizeof(loopback) - 1};
    own = &server->listeners[server->listener_count];
    rc = kn_address_parse(given.address, given.port, &own->asked);
    if (rc < 0)
        return rc;
    if (given.backlog == 0)
        given.backlog = DEFAULT_BACKLOG;
    own->address = own->asked;
    own->backlog = given.backlog < INT_MAX ? (int)given.backlog : INT_MAX;
    return (int)server->listener_count++;
}

int kino_server_port(const struct kino_server *server, uint64_t listener)
{
    uint32_t port;

    if (listener >= server->listener_count)
        return KINO_INVALID;
    port = kn_address_port(&server->listeners[listener].address);
    return port > 0 ? (int)port : KINO_AGAIN;
}

static void explain_bind(const struct kino_server *server, const struct kn_listener *listener,
                         int rc)
{
    char text[KN_ADDRESS_TEXT];
    const bool in6 = listener->address.any.sa_family == AF_INET6;
    const uint32_t port = kn_address_port(&listener->address);
    const char *remedy;

    switch (rc) {
    case -EADDRINUSE:
        remedy = ": stop the program that listens there, or choose another port";
        break;
    case -EACCES:
        remedy = ": ports below net.ipv4.ip_unprivileged_port_start need CAP_NET_BIND_SERVICE; "
                 "choose another port, 8080 for example";
        break;
    case -EADDRNOTAVAIL:
        remedy = ": this machine has no such address";
        break;
    default:
        remedy = "";
    }
    kn_address_format(&listener->address, text);
    kn_log(&server->log, KINO_LOG_ERROR, "cannot listen on %s%s%s:%u: %s%s", in6 ? "[" : "", text,
           in6 ? "]" : "", port, kino_strerror(rc), remedy);
}

/* Bind alone first: a shared port would hide that somebody else has it. Learns the port where the
 * kernel is to choose it. */
static int claim_address(struct kn_listener *listener)
{
    const struct timespec pause = {.tv_nsec = BIND_PAUSE_MS * KN_NS_PER_MS};
    int fd = kn_socket_bind(&listener->address, false);

    for (int i = 0; fd == -EADDRINUSE && i < BIND_TRIES; i++) {
        nanosleep(&pause, NULL);
        fd = kn_socket_bind(&listener->address, false);
    }
    if (fd < 0)
        return fd;
    kn_socket_local(fd, &listener->address);
    close(fd);
    return 0;
}

static bool is_wildcard(const union kn_address *address)
{
    if (address->any.sa_family == AF_INET)
        return address->in4.sin_addr.s_addr == htonl(INADDR_ANY);
    return IN6_IS_ADDR_UNSPECIFIED(&address->in6.sin6_addr);
}

static int bind_socket(struct kino_server *server, struct kn_socket *socket, unsigned loop,
                       unsigned listener)
{
    const union kn_address *address = &server->listeners[listener].address;

    *socket = (struct kn_socket){.loop = &server->loops[loop], .listener = listener};
    kn_list_init(&socket->link);
    socket->fd = kn_socket_bind(address, true);
    if (socket->fd < 0)
        return socket->fd;
    socket->wildcard = is_wildcard(address);
    socket->local_port = kn_address_port(address);
    kn_address_format(address, socket->local_text);
    kn_list_append(&server->loops[loop].sockets, &socket->link);
    return 0;
}

int kn_listeners_bind(struct kino_server *server)
{
    int rc = 0;

    server->sockets =
        kn_alloc_zeroed(sizeof(*server->sockets) * server->loop_count * server->listener_count);
    if (!server->sockets)
        return -ENOMEM;
    for (unsigned i = 0; i < server->listener_count; i++) {
        struct kn_listener *listener = &server->listeners[i];

        rc = claim_address(listener);
        for (unsigned j = 0; rc == 0 && j < server->loop_count; j++)
            rc = bind_socket(server, &server->sockets[server->socket_count++], j, i);
        if (rc < 0) {
            explain_bind(server, listener, rc);
            return rc;
        }
    }
    return 0;
}

void kn_listeners_end(struct kino_server *server)
{
    pthread_mutex_lock(&server->mutex);
    for (unsigned i = 0; i < server->socket_count; i++)
        kn_socket_end(&server->sockets[i]);
    pthread_mutex_unlock(&server->mutex);
}
