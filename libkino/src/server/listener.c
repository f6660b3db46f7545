/* SPDX-License-Identifier: MIT */
/* Addresses and the sockets bound to them. */
#include "base/abi.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "server/accept.h"
#include "server/server.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <unistd.h>

enum {
    BIND_TRIES = 10, /* while a process that was just killed gives its port back */
    BIND_PAUSE_MS = 10,
    DEFAULT_BACKLOG = 4096,
    MOST_MODE = 0777,
    FIRST_DESCRIPTOR = 3, /* a duplicate is none of the standard ones, should they be closed */
};

/* Adding */

/* Do the fields go with the flags? */
static bool fits(const struct kino_listener *given)
{
    switch (given->flags) {
    case 0:
        return given->mode == 0 && given->descriptor == 0;
    case KINO_LISTENER_UNIX:
        if (given->mode > 0 && given->address.len > 0 && given->address.data[0] == '\0')
            return false; /* an abstract name has no file */
        return given->address.data && given->port == 0 && given->mode <= MOST_MODE &&
               given->descriptor == 0;
    case KINO_LISTENER_DESCRIPTOR:
        return !given->address.data && given->port == 0 && given->mode == 0;
    default:
        return false;
    }
}

static int add_address(struct kn_listener *own, const struct kino_listener *given)
{
    static const char loopback[] = "127.0.0.1";
    struct kino_slice text = given->address;

    if (!text.data)
        text = (struct kino_slice){loopback, sizeof(loopback) - 1};
    own->kind = KN_LISTENER_TCP;
    return kn_address_parse(text, given->port, &own->asked);
}

static int add_path(struct kino_server *server, struct kn_listener *own,
                    const struct kino_listener *given)
{
    const int rc = kn_address_from_path(given->address, &own->asked);

    if (rc == -ENAMETOOLONG)
        kn_log(&server->log, KINO_LOG_ERROR, "cannot listen on unix:%.*s: %s: choose a shorter one",
               (int)(given->address.len < INT_MAX ? given->address.len : INT_MAX),
               given->address.data, kino_strerror(rc));
    own->kind = KN_LISTENER_PATH;
    own->mode = (mode_t)given->mode;
    return rc;
}

static int add_inherited(struct kino_server *server, struct kn_listener *own,
                         const struct kino_listener *given)
{
    const int fd = given->descriptor < INT_MAX ? (int)given->descriptor : -1;
    const char *fault = kn_socket_find_fault(fd, &own->asked);

    if (fault) {
        kn_log(&server->log, KINO_LOG_ERROR, "cannot listen on descriptor %llu: %s",
               (unsigned long long)given->descriptor, fault);
        return KINO_INVALID;
    }
    own->kind = KN_LISTENER_INHERITED;
    own->inherited = fcntl(fd, F_DUPFD_CLOEXEC, FIRST_DESCRIPTOR);
    return own->inherited < 0 ? -errno : 0;
}

static int add(struct kino_server *server, struct kn_listener *own,
               const struct kino_listener *given)
{
    switch (given->flags) {
    case KINO_LISTENER_UNIX:
        return add_path(server, own, given);
    case KINO_LISTENER_DESCRIPTOR:
        return add_inherited(server, own, given);
    default:
        return add_address(own, given);
    }
}

int kino_server_listen(struct kino_server *server, const struct kino_listener *listener)
{
    struct kino_listener given;
    struct kn_listener *own;
    int rc = kn_abi_read(&given, sizeof(given), listener);

    if (rc < 0)
        return rc;
    if (!fits(&given))
        return KINO_INVALID;
    if (server->owner)
        return KINO_BUSY;
    if (server->listener_count == KN_MOST_LISTENERS)
        return -ENOSPC;
    own = &server->listeners[server->listener_count];
    *own = (struct kn_listener){.inherited = -1};
    rc = add(server, own, &given);
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
    const union kn_address *address;
    uint32_t port;

    if (listener >= server->listener_count)
        return KINO_INVALID;
    address = &server->listeners[listener].address;
    if (address->any.sa_family == AF_UNIX)
        return KINO_INVALID;
    port = kn_address_port(address);
    return port > 0 ? (int)port : KINO_AGAIN;
}

/* Binding */

static const char *find_remedy(const struct kn_listener *listener, int rc)
{
    const bool path = listener->kind == KN_LISTENER_PATH;

    switch (rc) {
    case -EADDRINUSE:
        return path ? ": stop the program that listens there, or choose another path"
                    : ": stop the program that listens there, or choose another port";
    case -EACCES:
        return path ? ": let this process write in the directory, or choose another path"
                    : ": ports below net.ipv4.ip_unprivileged_port_start need "
                      "CAP_NET_BIND_SERVICE; choose another port, 8080 for example";
    case -EADDRNOTAVAIL:
        return path ? "" : ": this machine has no such address";
    case -EEXIST:
        return ": it is no socket, and stays; choose another path";
    default:
        return "";
    }
}

static void explain_bind(const struct kino_server *server, const struct kn_listener *listener,
                         int rc)
{
    char text[KN_ADDRESS_NAME];

    kn_address_describe(&listener->address, text);
    kn_log(&server->log, KINO_LOG_ERROR, "cannot listen on %s: %s%s", text, kino_strerror(rc),
           find_remedy(listener, rc));
}

static void pause_between_tries(void)
{
    nanosleep(&(struct timespec){.tv_nsec = BIND_PAUSE_MS * KN_NS_PER_MS}, NULL);
}

/* Bind alone first: a shared port would hide that somebody else has it. Learns the port where the
 * kernel is to choose it. */
static int claim_address(struct kn_listener *listener)
{
    int fd = kn_socket_bind(&listener->address, false);

    for (int i = 0; fd == -EADDRINUSE && i < BIND_TRIES; i++) {
        pause_between_tries();
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
    return address->any.sa_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&address->in6.sin6_addr);
}

/* The next place in the array. It counts already: who takes the binding back finds its descriptor.
 */
static struct kn_socket *add_socket(struct kino_server *server, unsigned listener)
{
    const union kn_address *address = &server->listeners[listener].address;
    struct kn_socket *socket = &server->sockets[server->socket_count++];

    *socket = (struct kn_socket){.fd = -1, .listener = listener};
    kn_list_init(&socket->link);
    socket->wildcard = is_wildcard(address);
    socket->local_port = kn_address_port(address);
    kn_address_format(address, socket->local_text);
    return socket;
}

static int bind_address(struct kino_server *server, unsigned listener)
{
    int rc = claim_address(&server->listeners[listener]);

    for (unsigned i = 0; rc == 0 && i < server->loop_count; i++) {
        struct kn_socket *socket = add_socket(server, listener);

        socket->fd = kn_socket_bind(&server->listeners[listener].address, true);
        if (socket->fd < 0)
            rc = socket->fd;
        else
            kn_list_append(&server->loops[i].sockets, &socket->link);
    }
    return rc;
}

static int bind_path(struct kino_server *server, unsigned index, struct kn_socket *socket)
{
    const struct kn_listener *listener = &server->listeners[index];

    for (int i = 0;; i++) {
        const int fd = kn_socket_bind_path(&listener->address, listener->mode, listener->backlog,
                                           &socket->file);

        if (fd != -EADDRINUSE || i == BIND_TRIES)
            return fd;
        pause_between_tries();
    }
}

static int inherit(struct kino_server *server, unsigned index, struct kn_socket *socket)
{
    const int fd = fcntl(server->listeners[index].inherited, F_DUPFD_CLOEXEC, FIRST_DESCRIPTOR);

    atomic_store(&socket->outlives, true);
    atomic_store(&server->outlived, true);
    return fd < 0 ? -errno : fd;
}

/* Inline it is not known who will drive which loop, and when: the first that begins adopts it. */
static void give_to_some_loop(struct kino_server *server, struct kn_socket *socket)
{
    struct kn_loop *loop = &server->loops[server->socket_count % server->loop_count];

    if (server->config.dispatch == KINO_DISPATCH_QUEUE) {
        kn_list_append(&loop->sockets, &socket->link);
    } else {
        kn_list_append(&server->orphans, &socket->link);
        atomic_fetch_add(&server->orphan_count, 1);
    }
}

static int bind_single(struct kino_server *server, unsigned listener)
{
    struct kn_socket *socket = add_socket(server, listener);
    const int fd = server->listeners[listener].kind == KN_LISTENER_PATH
                       ? bind_path(server, listener, socket)
                       : inherit(server, listener, socket);

    if (fd < 0)
        return fd;
    socket->fd = fd;
    socket->single = true;
    give_to_some_loop(server, socket);
    return 0;
}

static int make_passages(struct kino_server *server)
{
    server->passages = kn_alloc(sizeof(*server->passages) * KN_PASSAGES);
    if (!server->passages)
        return -ENOMEM;
    for (unsigned i = 0; i < KN_PASSAGES; i++) {
        kn_passage_init(&server->passages[i]);
        kn_list_append(&server->free_passages, &server->passages[i].link);
    }
    return 0;
}

static int make_sockets(struct kino_server *server)
{
    size_t count = 0;
    size_t single = 0;

    for (unsigned i = 0; i < server->listener_count; i++) {
        const bool shares_port = server->listeners[i].kind == KN_LISTENER_TCP;

        count += shares_port ? server->loop_count : 1;
        single += !shares_port;
    }
    server->sockets = kn_alloc_zeroed(sizeof(*server->sockets) * count);
    if (!server->sockets)
        return -ENOMEM;
    return single > 0 ? make_passages(server) : 0;
}

int kn_listeners_bind(struct kino_server *server)
{
    int rc = make_sockets(server);

    for (unsigned i = 0; rc == 0 && i < server->listener_count; i++) {
        const struct kn_listener *listener = &server->listeners[i];

        rc = listener->kind == KN_LISTENER_TCP ? bind_address(server, i) : bind_single(server, i);
        if (rc < 0)
            explain_bind(server, listener, rc);
    }
    return rc;
}

/* Sharing */

int kino_server_share(struct kino_server *server, uint64_t index)
{
    struct kn_socket *socket;
    int fd = KINO_CLOSED;

    if (!server->owner)
        return KINO_BUSY;
    if (index >= server->socket_count)
        return KINO_INVALID;
    socket = &server->sockets[index];
    pthread_mutex_lock(&server->mutex);
    if (socket->fd >= 0) {
        fd = fcntl(socket->fd, F_DUPFD_CLOEXEC, FIRST_DESCRIPTOR);
        if (fd < 0)
            fd = -errno;
    }
    if (fd >= 0) {
        atomic_store(&socket->outlives, true);
        atomic_store(&server->outlived, true);
    }
    pthread_mutex_unlock(&server->mutex);
    return fd;
}

/* Ending */

static void close_descriptor(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static void close_stranded(struct kino_server *server)
{
    struct kn_list *link;

    while ((link = kn_list_shift(&server->stranded))) {
        struct kn_passage *passage = kn_container_of(link, struct kn_passage, link);

        atomic_fetch_sub(&server->orphan_count, 1);
        atomic_fetch_sub_explicit(&server->connections, 1, memory_order_relaxed);
        close_descriptor(&passage->fd);
        kn_list_append(&server->free_passages, &passage->link);
    }
}

void kn_listeners_end(struct kino_server *server)
{
    pthread_mutex_lock(&server->mutex);
    for (unsigned i = 0; i < server->socket_count; i++)
        kn_socket_end(server, &server->sockets[i]);
    close_stranded(server);
    pthread_mutex_unlock(&server->mutex);
}

void kn_listeners_settle(struct kino_server *server)
{
    for (unsigned i = 0; i < server->listener_count; i++)
        if (server->listeners[i].kind == KN_LISTENER_INHERITED)
            close_descriptor(&server->listeners[i].inherited);
}

static void free_sockets(struct kino_server *server)
{
    kn_free(server->sockets);
    kn_free(server->passages);
    server->sockets = NULL;
    server->passages = NULL;
    server->socket_count = 0;
}

void kn_listeners_unbind(struct kino_server *server)
{
    kn_listeners_end(server);
    for (unsigned i = 0; i < server->loop_count; i++)
        kn_list_init(&server->loops[i].sockets);
    for (unsigned i = 0; i < server->listener_count; i++)
        server->listeners[i].address = server->listeners[i].asked;
    kn_list_init(&server->orphans);
    kn_list_init(&server->free_passages);
    atomic_store(&server->orphan_count, 0);
    atomic_store(&server->outlived, false);
    free_sockets(server);
}

void kn_listeners_forget(struct kino_server *server)
{
    for (unsigned i = 0; i < server->socket_count; i++)
        close_descriptor(&server->sockets[i].fd);
    for (unsigned i = 0; server->passages && i < KN_PASSAGES; i++)
        close_descriptor(&server->passages[i].fd);
    kn_listeners_settle(server);
    free_sockets(server);
}
