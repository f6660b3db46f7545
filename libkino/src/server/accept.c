/* SPDX-License-Identifier: MIT */
#include "server/accept.h"

#include "server/conn.h"
#include "server/server.h"

#include <errno.h>
#include <unistd.h>

void kn_socket_end(struct kn_socket *socket)
{
    if (socket->fd < 0)
        return;
    shutdown(socket->fd, SHUT_RDWR); /* frees the port now: the ring may hold the file a while */
    close(socket->fd);
    socket->fd = -1;
}

static bool at_limit(const struct kn_loop *loop)
{
    return atomic_load_explicit(&loop->server->connections, memory_order_relaxed) >=
           loop->server->config.max_connections;
}

static void accept_on(struct kn_socket *socket)
{
    struct kn_loop *loop = socket->loop;

    if (socket->accepting || loop->draining || loop->leaving)
        return;
    if (at_limit(loop)) {
        socket->paused = true;
        return;
    }
    socket->paused = false;
    socket->accepting = true;
    kn_io_accept(&loop->io, &socket->accept_op, socket->fd);
}

static void pause_accept(struct kn_socket *socket)
{
    struct kn_loop *loop = socket->loop;

    socket->paused = true;
    if (socket->accepting)
        kn_io_cancel(&loop->io, &socket->accept_op);
    kn_timer_set(&loop->wheel, &loop->resume_timer, loop->now_ms + KN_LOOP_RESUME_MS);
}

void kn_accept_resume(struct kn_loop *loop)
{
    for (struct kn_list *link = loop->sockets.next; link != &loop->sockets; link = link->next) {
        struct kn_socket *socket = kn_container_of(link, struct kn_socket, link);

        accept_on(socket);
        if (socket->paused)
            pause_accept(socket);
    }
}

static void accepted(struct kn_socket *socket, int fd)
{
    struct kn_loop *loop = socket->loop;

    if (loop->draining || loop->leaving) {
        close(fd);
        return;
    }
    kn_stats_add(&loop->stats, KN_COUNT_CONNECTIONS, 1);
    kn_conn_open(loop, fd, socket);
    kn_loop_count_conns(loop);
    if (at_limit(loop) && !socket->paused)
        pause_accept(socket);
}

static void on_accept(struct kn_op *op, const struct kn_completion *completion)
{
    struct kn_socket *socket = kn_container_of(op, struct kn_socket, accept_op);

    if (!completion->more)
        socket->accepting = false;
    if (completion->result >= 0) {
        accepted(socket, completion->result);
    } else if (completion->result == -EMFILE || completion->result == -ENFILE ||
               completion->result == -ENOMEM || completion->result == -ENOBUFS) {
        kn_loop_exhausted(socket->loop, kino_strerror(completion->result));
        pause_accept(socket);
    }
    if (!socket->accepting && !socket->paused)
        accept_on(socket); /* one connection's failure is no reason to stop */
}

static void take(struct kn_loop *loop, struct kn_socket *socket)
{
    socket->loop = loop;
    socket->accept_op.fn = on_accept;
    listen(socket->fd, loop->server->listeners[socket->listener].backlog);
}

void kn_accept_begin(struct kn_loop *loop)
{
    for (struct kn_list *link = loop->sockets.next; link != &loop->sockets; link = link->next)
        take(loop, kn_container_of(link, struct kn_socket, link));
    kn_accept_resume(loop);
}

void kn_accept_adopt(struct kn_loop *loop)
{
    struct kino_server *server = loop->server;
    struct kn_list *link;

    if (loop->draining || loop->leaving || atomic_load(&server->orphan_count) == 0)
        return;
    pthread_mutex_lock(&server->mutex);
    while ((link = kn_list_shift(&server->orphans))) {
        atomic_fetch_sub(&server->orphan_count, 1);
        kn_list_append(&loop->sockets, link);
        take(loop, kn_container_of(link, struct kn_socket, link));
    }
    pthread_mutex_unlock(&server->mutex);
    kn_accept_resume(loop);
}

bool kn_accept_ended(const struct kn_loop *loop)
{
    for (struct kn_list *link = loop->sockets.next; link != &loop->sockets; link = link->next)
        if (kn_container_of(link, struct kn_socket, link)->accepting)
            return false;
    return true;
}

void kn_accept_stop(struct kn_loop *loop)
{
    for (struct kn_list *link = loop->sockets.next; link != &loop->sockets; link = link->next)
        pause_accept(kn_container_of(link, struct kn_socket, link));
}

void kn_accept_close(struct kn_loop *loop)
{
    struct kn_list *link;

    while ((link = kn_list_shift(&loop->sockets)))
        kn_socket_end(kn_container_of(link, struct kn_socket, link));
}
