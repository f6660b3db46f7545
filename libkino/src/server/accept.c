/* SPDX-License-Identifier: MIT */
#include "server/accept.h"

#include "server/conn.h"
#include "server/server.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

void kn_socket_end(struct kino_server *server, struct kn_socket *socket)
{
    if (socket->fd < 0)
        return;
    if (!atomic_load(&socket->outlives)) {
        kn_socket_remove_path(&server->listeners[socket->listener].address, &socket->file);
        shutdown(socket->fd,
                 SHUT_RDWR); /* frees the port now: the ring may hold the file a while */
    }
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

/* Passing connections on. All loops' `takes` and the passages are under the server's mutex. */

/* The next loop whose turn it is to be given one. NULL: none takes any. */
static struct kn_loop *next_taker(struct kino_server *server)
{
    for (unsigned i = 0; i < server->loop_count; i++) {
        if (++server->last_taker >= server->loop_count)
            server->last_taker = 0;
        if (server->loops[server->last_taker].takes)
            return &server->loops[server->last_taker];
    }
    return NULL;
}

/* To a loop that takes, else to whichever begins next. A loop stops taking under the mutex, before
 * it looks into its mailbox for the last time: so what is posted here is seen. */
static void send_passage(struct kino_server *server, struct kn_passage *passage,
                         struct kn_loop *taker)
{
    if (taker) {
        const bool posted = kn_mailbox_post(taker->mailbox, &passage->mail);

        assert(posted); /* closed only when no loop takes any more */
    } else {
        kn_list_append(&server->stranded, &passage->link);
        atomic_fetch_add(&server->orphan_count, 1);
    }
}

/* False: it stays with the loop that accepted it. */
static bool pass_on(const struct kn_socket *socket, int fd)
{
    struct kn_loop *loop = socket->loop;
    struct kino_server *server = loop->server;
    struct kn_list *link = NULL;
    struct kn_loop *taker;

    pthread_mutex_lock(&server->mutex);
    taker = next_taker(server);
    if (taker != loop && (taker || loop->leaving))
        link = kn_list_shift(&server->free_passages);
    if (link) {
        struct kn_passage *passage = kn_container_of(link, struct kn_passage, link);

        passage->socket = socket;
        passage->fd = fd;
        atomic_fetch_add_explicit(&server->connections, 1, memory_order_relaxed);
        send_passage(server, passage, taker);
    }
    pthread_mutex_unlock(&server->mutex);
    return link;
}

static void open_passed(struct kn_loop *loop, struct kn_passage *passage)
{
    struct kino_server *server = loop->server;
    const struct kn_socket *socket = passage->socket;
    const int fd = passage->fd;

    pthread_mutex_lock(&server->mutex);
    passage->fd = -1;
    kn_list_append(&server->free_passages, &passage->link);
    pthread_mutex_unlock(&server->mutex);
    atomic_fetch_sub_explicit(&server->connections, 1, memory_order_relaxed);
    kn_conn_open(loop, fd, socket); /* counts it again */
}

static void deliver_passage(struct kn_mail *mail, void *driver)
{
    struct kn_passage *passage = kn_container_of(mail, struct kn_passage, mail);
    struct kn_loop *loop = driver;
    struct kino_server *server = loop->server;

    if (loop->begun && !loop->leaving) {
        open_passed(loop, passage);
        return;
    }
    pthread_mutex_lock(&server->mutex);
    send_passage(server, passage, next_taker(server));
    pthread_mutex_unlock(&server->mutex);
}

void kn_passage_init(struct kn_passage *passage)
{
    *passage = (struct kn_passage){.mail.deliver = deliver_passage, .fd = -1};
    kn_list_init(&passage->link);
}

static void set_takes(struct kn_loop *loop, bool takes)
{
    pthread_mutex_lock(&loop->server->mutex);
    loop->takes = takes;
    pthread_mutex_unlock(&loop->server->mutex);
}

/* Accepting */

static bool is_for_others(const struct kn_socket *socket)
{
    return socket->loop->leaving || (socket->single && !socket->loop->draining);
}

static void accepted(struct kn_socket *socket, int fd)
{
    struct kn_loop *loop = socket->loop;

    if (!is_for_others(socket) || !pass_on(socket, fd)) {
        if (loop->leaving)
            close(fd);
        else
            kn_conn_open(loop, fd, socket);
    }
    if (at_limit(loop) && !socket->paused) {
        kn_loop_exhausted(loop, KN_SHORT_OF_CONNECTIONS,
                          "max_connections are open: accepting pauses, the backlog holds the rest");
        pause_accept(socket);
    }
}

/* What would come again at once. */
static bool lasts(int result)
{
    return result == -EMFILE || result == -ENFILE || result == -ENOMEM || result == -ENOBUFS ||
           result == -EINVAL; /* another process has shut the socket down */
}

static void tell_shortage(struct kn_loop *loop, int result)
{
    char text[160];

    snprintf(text, sizeof(text), "accepting pauses: %s", kino_strerror(result));
    kn_loop_exhausted(loop, KN_SHORT_OF_DESCRIPTORS, text);
}

static void on_accept(struct kn_op *op, const struct kn_completion *completion)
{
    struct kn_socket *socket = kn_container_of(op, struct kn_socket, accept_op);

    if (!completion->more)
        socket->accepting = false;
    if (completion->result >= 0) {
        accepted(socket, completion->result);
    } else if (lasts(completion->result)) {
        tell_shortage(socket->loop, completion->result);
        pause_accept(socket);
    } else if (completion->result == -EAGAIN) {
        kn_socket_prepare(socket->fd); /* another process does not want to block on it */
    }
    if (!socket->accepting && !socket->paused)
        accept_on(socket); /* one connection's failure is no reason to stop */
}

static void take(struct kn_loop *loop, struct kn_socket *socket)
{
    const struct kn_listener *listener = &loop->server->listeners[socket->listener];

    socket->loop = loop;
    socket->accept_op.fn = on_accept;
    if (listener->kind == KN_LISTENER_INHERITED)
        kn_socket_prepare(socket->fd);
    listen(socket->fd, listener->backlog);
}

void kn_accept_begin(struct kn_loop *loop)
{
    for (struct kn_list *link = loop->sockets.next; link != &loop->sockets; link = link->next)
        take(loop, kn_container_of(link, struct kn_socket, link));
    set_takes(loop, true);
    kn_accept_adopt(loop);
    kn_accept_resume(loop);
}

static void adopt_sockets(struct kn_loop *loop)
{
    struct kino_server *server = loop->server;
    struct kn_list *link;

    pthread_mutex_lock(&server->mutex);
    while ((link = kn_list_shift(&server->orphans))) {
        atomic_fetch_sub(&server->orphan_count, 1);
        kn_list_append(&loop->sockets, link);
        take(loop, kn_container_of(link, struct kn_socket, link));
    }
    pthread_mutex_unlock(&server->mutex);
}

static struct kn_passage *next_stranded(struct kino_server *server)
{
    struct kn_list *link;

    pthread_mutex_lock(&server->mutex);
    link = kn_list_shift(&server->stranded);
    if (link)
        atomic_fetch_sub(&server->orphan_count, 1);
    pthread_mutex_unlock(&server->mutex);
    return link ? kn_container_of(link, struct kn_passage, link) : NULL;
}

void kn_accept_adopt(struct kn_loop *loop)
{
    struct kn_passage *passage;

    if (loop->draining || loop->leaving || atomic_load(&loop->server->orphan_count) == 0)
        return;
    adopt_sockets(loop);
    while ((passage = next_stranded(loop->server)))
        open_passed(loop, passage);
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
    set_takes(loop, false);
    for (struct kn_list *link = loop->sockets.next; link != &loop->sockets; link = link->next)
        pause_accept(kn_container_of(link, struct kn_socket, link));
}

/* For each connection the kernel wakes one of those who wait on a socket. If that was us, just when
 * we stopped, then nobody else was told of what is queued there. */
static bool deserves_a_look(struct kn_socket *socket)
{
    struct kn_loop *loop = socket->loop;

    return atomic_load(&socket->outlives) && socket->last_looks < KN_ACCEPT_LAST_LOOKS &&
           loop->now_ms < kn_server_drain_deadline_ms(loop->server) &&
           poll(&(struct pollfd){.fd = socket->fd, .events = POLLIN}, 1, 0) == 1;
}

/* Accept what is there without waiting for more. */
static void look(struct kn_socket *socket)
{
    struct kn_loop *loop = socket->loop;

    socket->last_looks++;
    socket->accepting = true;
    kn_io_accept(&loop->io, &socket->accept_op, socket->fd);
    kn_io_cancel(&loop->io, &socket->accept_op);
}

void kn_accept_close(struct kn_loop *loop)
{
    struct kn_list *link = loop->sockets.next;

    while (link != &loop->sockets) {
        struct kn_socket *socket = kn_container_of(link, struct kn_socket, link);

        link = link->next;
        if (deserves_a_look(socket)) {
            look(socket);
            continue;
        }
        kn_list_remove(&socket->link);
        pthread_mutex_lock(&loop->server->mutex);
        kn_socket_end(loop->server, socket);
        pthread_mutex_unlock(&loop->server->mutex);
    }
}
