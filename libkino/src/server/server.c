/* SPDX-License-Identifier: MIT */
#include "server/server.h"

#include "base/abi.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "base/futex.h"
#include "io/probe.h"
#include "server/config.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

enum {
    BIND_TRIES = 10, /* while a process that was just killed gives its port back */
    BIND_PAUSE_MS = 10,
    DEFAULT_BACKLOG = 4096,
    MOST_SERVE_THREADS = 1024,
    LOOP_TIMER_SLACK_NS = 1000, /* a nap is 50 us; the default slack is as much again */
};

static const uint64_t not_draining = UINT64_MAX;
static const uint64_t drains_for_ever = UINT64_MAX - 1;

/* Life */

int kino_server_create(const struct kino_config *config, struct kino_server **out)
{
    struct kino_server *server = kn_alloc_zeroed(sizeof(*server));
    int rc = 0;

    if (!server)
        return -ENOMEM;
    if (config)
        rc = kn_abi_read(&server->config, sizeof(server->config), config);
    server->log = (struct kn_log){server->config.log, server->config.log_context};
    server->loops_given = server->config.loops != 0;
    if (rc == 0)
        rc = kn_config_resolve(&server->config, &server->log);
    if (rc < 0) {
        kn_free(server);
        return rc;
    }
    server->limits = (struct kn_limits){
        .max_head_bytes = server->config.max_head_bytes,
        .max_fields = server->config.max_fields,
        .max_field_bytes = server->config.max_field_bytes,
        .max_target_bytes = server->config.max_target_bytes,
        .max_body_bytes = server->config.max_body_bytes,
    };
    pthread_mutex_init(&server->mutex, NULL);
    kn_list_init(&server->orphans);
    kn_parking_init(&server->parking);
    atomic_init(&server->next_worker_id, 1);
    atomic_init(&server->drain_deadline_ms, not_draining);
    *out = server;
    return 0;
}

static void end_sockets(struct kino_server *server)
{
    pthread_mutex_lock(&server->mutex);
    for (unsigned i = 0; i < server->socket_count; i++)
        kn_socket_end(&server->sockets[i]);
    pthread_mutex_unlock(&server->mutex);
}

static void free_server(struct kino_server *server)
{
    kn_parking_deinit(&server->parking);
    pthread_mutex_destroy(&server->mutex);
    kn_free(server->sockets);
    kn_free(server->loops);
    kn_free(server);
}

/* In a child of the process that started it. Another thread may have been inside any structure when
 * the parent forked: so descriptors are closed, and nothing is walked or locked. */
static void forget_server(struct kino_server *server)
{
    for (unsigned i = 0; i < server->socket_count; i++)
        if (server->sockets[i].fd >= 0)
            close(server->sockets[i].fd);
    for (unsigned i = 0; i < server->loop_count; i++)
        kn_loop_forget(&server->loops[i]);
    kn_free(server->sockets);
    kn_free(server->loops);
    kn_free(server);
}

static void join_threads(struct kino_server *server)
{
    if (server->config.dispatch != KINO_DISPATCH_QUEUE)
        return;
    for (unsigned i = 0; i < server->loop_count; i++) {
        if (server->loops[i].driven)
            pthread_join(server->loops[i].thread, NULL);
        server->loops[i].driven = false;
    }
}

int kino_server_destroy(struct kino_server *server)
{
    if (!server)
        return 0;
    if (server->owner && server->owner != getpid()) {
        forget_server(server);
        return 0;
    }
    if (atomic_load(&server->workers) > 0 || (server->owner && !kn_server_drained(server)))
        return KINO_BUSY;
    end_sockets(server);
    join_threads(server); /* all, before any loop goes: the last to end calls the others */
    for (unsigned i = 0; i < server->loop_count; i++)
        kn_loop_deinit(&server->loops[i]);
    free_server(server);
    return 0;
}

/* Listening */

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
    rc = kn_address_parse(given.address, given.port, &own->address);
    if (rc < 0)
        return rc;
    if (given.backlog == 0)
        given.backlog = DEFAULT_BACKLOG;
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

static int bind_all(struct kino_server *server)
{
    int rc = 0;

    server->sockets =
        kn_alloc_zeroed(sizeof(*server->sockets) * server->loop_count * server->listener_count);
    if (!server->sockets)
        return -ENOMEM;
    for (unsigned i = 0; i < server->listener_count; i++) {
        struct kn_listener *listener = &server->listeners[i];
        const union kn_address asked = listener->address;

        rc = claim_address(listener);
        for (unsigned j = 0; rc == 0 && j < server->loop_count; j++)
            rc = bind_socket(server, &server->sockets[server->socket_count++], j, i);
        if (rc < 0) {
            listener->address = asked;
            explain_bind(server, listener, rc);
            return rc;
        }
    }
    return 0;
}

/* Starting */

static void *run_loop(void *argument)
{
    struct kn_loop *loop = argument;
    int rc = kn_loop_begin(loop, false);

    prctl(PR_SET_TIMERSLACK, LOOP_TIMER_SLACK_NS);
    loop->start_result = rc;
    atomic_store_explicit(&loop->reported, 1, memory_order_release);
    kn_futex_wake(&loop->reported, 1);
    while (rc == 0)
        rc = kn_loop_turn(loop, UINT64_MAX);
    return NULL;
}

/* A thread of the library's own: named, and deaf to signals. 0 or -errno. */
static int create_thread(pthread_t *thread, const char *name, unsigned number, void *(*run)(void *),
                         void *argument)
{
    char text[32];
    sigset_t all;
    sigset_t held;
    int rc;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &held);
    rc = pthread_create(thread, NULL, run, argument);
    pthread_sigmask(SIG_SETMASK, &held, NULL);
    if (rc != 0)
        return -rc;
    snprintf(text, sizeof(text), "%s-%u", name, number);
    pthread_setname_np(*thread, text);
    return 0;
}

static int start_thread(struct kn_loop *loop)
{
    int rc = create_thread(&loop->thread, "kino-loop", loop->index, run_loop, loop);

    if (rc < 0)
        return rc;
    loop->driven = true;
    while (!atomic_load_explicit(&loop->reported, memory_order_acquire))
        kn_futex_wait(&loop->reported, 0, UINT64_MAX);
    return loop->start_result == KINO_CLOSED ? 0 : loop->start_result;
}

static int make_loops(struct kino_server *server)
{
    const unsigned count = (unsigned)server->config.loops;

    if (atomic_load(&server->loop_count) > 0)
        return 0; /* by a start that failed */
    server->loops = kn_alloc_zeroed(sizeof(*server->loops) * count);
    if (!server->loops)
        return -ENOMEM;
    for (unsigned i = 0; i < count; i++) {
        int rc = kn_loop_init(&server->loops[i], server, i, count);

        if (rc == 0)
            continue;
        while (i > 0)
            kn_loop_deinit(&server->loops[--i]);
        kn_free(server->loops);
        server->loops = NULL;
        return rc;
    }
    atomic_store(&server->loop_count, count);
    return 0;
}

/* Take back a start that failed half-way. The loops themselves stay: a signal handler may be
 * walking them in kino_server_drain. */
static void unmake(struct kino_server *server)
{
    atomic_store(&server->stopping, true);
    kn_server_call_loops(server);
    join_threads(server);
    end_sockets(server);
    for (unsigned i = 0; i < server->loop_count; i++) {
        kn_list_init(&server->loops[i].sockets);
        atomic_store(&server->loops[i].reported, 0);
    }
    kn_list_init(&server->orphans);
    atomic_store(&server->orphan_count, 0);
    kn_free(server->sockets);
    server->sockets = NULL;
    server->socket_count = 0;
    atomic_store(&server->stopping, false);
}

int kino_server_start(struct kino_server *server)
{
    uint64_t features;
    int rc;

    if (server->owner)
        return KINO_BUSY;
    if (server->listener_count == 0)
        return KINO_INVALID;
    rc = kn_probe_try(&features);
    if (rc < 0) {
        kn_log(&server->log, KINO_LOG_ERROR, "cannot start: %s", kino_strerror(rc));
        return rc;
    }
    rc = make_loops(server);
    if (rc == 0)
        rc = bind_all(server);
    if (server->config.dispatch == KINO_DISPATCH_QUEUE)
        for (unsigned i = 0; rc == 0 && i < server->loop_count; i++)
            rc = start_thread(&server->loops[i]);
    if (rc < 0) {
        unmake(server);
        return rc;
    }
    server->owner = getpid();
    return 0;
}

/* Draining */

bool kn_server_draining(struct kino_server *server)
{
    return atomic_load(&server->drain_deadline_ms) != not_draining ||
           atomic_load(&server->stopping);
}

uint64_t kn_server_drain_deadline_ms(struct kino_server *server)
{
    return atomic_load(&server->stopping) ? 0 : atomic_load(&server->drain_deadline_ms);
}

void kn_server_call_loops(struct kino_server *server)
{
    const unsigned count = atomic_load(&server->loop_count);

    for (unsigned i = 0; i < count; i++)
        kn_mailbox_call(server->loops[i].mailbox);
}

bool kn_server_drained(struct kino_server *server)
{
    return atomic_load(&server->bits) & KN_SERVER_DRAINED;
}

static void set_bits(struct kino_server *server, uint32_t bits)
{
    atomic_fetch_or(&server->bits, bits);
    kn_futex_wake(&server->bits, INT_MAX);
}

bool kn_server_loop_begins(struct kino_server *server)
{
    atomic_fetch_add(&server->running, 1);
    if (!kn_server_draining(server))
        return true;
    kn_server_loop_ends(server);
    return false;
}

void kn_server_loop_ends(struct kino_server *server)
{
    if (atomic_fetch_sub(&server->running, 1) > 1 || !kn_server_draining(server) ||
        atomic_load(&server->stopping))
        return;
    set_bits(server, KN_SERVER_DRAINED);
    kn_parking_wake(&server->parking, UINT64_MAX);
}

int kino_server_drain(struct kino_server *server, uint64_t deadline_ms)
{
    const uint64_t now_ms = kn_clock_ns() / KN_NS_PER_MS;
    const uint64_t deadline =
        deadline_ms >= drains_for_ever - now_ms ? drains_for_ever : now_ms + deadline_ms;
    uint64_t current = atomic_load(&server->drain_deadline_ms);

    while (deadline < current &&
           !atomic_compare_exchange_weak(&server->drain_deadline_ms, &current, deadline))
        ;
    kn_server_call_loops(server);
    if (atomic_load(&server->running) == 0)
        set_bits(server, KN_SERVER_DRAINED);
    return 0;
}

int kino_server_wait(struct kino_server *server, uint64_t timeout_ms)
{
    const uint64_t timeout_ns =
        timeout_ms > UINT64_MAX / KN_NS_PER_MS ? UINT64_MAX : timeout_ms * KN_NS_PER_MS;
    const uint64_t deadline_ns = kn_clock_after(kn_clock_ns(), timeout_ns);

    for (;;) {
        const uint32_t bits = atomic_load(&server->bits);

        if (bits & KN_SERVER_DRAINED) {
            end_sockets(server);
            return 0;
        }
        if (bits & KN_SERVER_INTERRUPTED) {
            if (atomic_fetch_and(&server->bits, ~(uint32_t)KN_SERVER_INTERRUPTED) &
                KN_SERVER_INTERRUPTED)
                return KINO_INTERRUPTED;
            continue;
        }
        if (kn_clock_ns() >= deadline_ns)
            return KINO_TIMED_OUT;
        kn_futex_wait(&server->bits, bits, deadline_ns);
    }
}

int kino_server_interrupt(struct kino_server *server)
{
    set_bits(server, KN_SERVER_INTERRUPTED);
    return 0;
}

/* Serving with a callback */

/* Shared by the threads of one kino_server_serve. */
struct service {
    struct kino_server *server;
    kino_handler_fn handler;
    void *context;
};

static int serve_one(const struct service *service, struct kino_worker *worker)
{
    struct kino_request *request;
    int rc;

    while ((rc = kino_worker_take(worker, KINO_OFF, &request)) != KINO_CLOSED) {
        if (rc < 0 && rc != KINO_INTERRUPTED)
            return rc;
        if (rc == KINO_REQUEST) {
            service->handler(service->context, request);
            kino_request_release(request);
        }
    }
    return 0;
}

/* One thread's whole part. Where it cannot begin or go on, the service ends. */
static void *serve_thread(void *argument)
{
    const struct service *service = argument;
    struct kino_worker *worker;
    int rc = kino_worker_create(service->server, NULL, &worker);

    if (rc == 0) {
        rc = serve_one(service, worker);
        kino_worker_destroy(worker);
    }
    if (rc < 0)
        kino_server_drain(service->server, 0);
    return (void *)(intptr_t)rc;
}

int kino_server_serve(struct kino_server *server, kino_handler_fn handler, void *context,
                      uint64_t threads)
{
    struct service service = {server, handler, context};
    pthread_t others[MOST_SERVE_THREADS];
    uint64_t started = 0;
    void *result;
    int rc = 0;

    if (threads < 1 || threads > MOST_SERVE_THREADS)
        return KINO_INVALID;
    if (server->config.dispatch == KINO_DISPATCH_INLINE) {
        if (!server->loops && !server->loops_given)
            server->config.loops = threads;
        if (server->config.loops < threads)
            return KINO_INVALID;
    }
    if (!server->owner)
        rc = kino_server_start(server);
    if (rc < 0)
        return rc;
    while (rc == 0 && started < threads - 1) {
        rc = create_thread(&others[started], "kino-serve", (unsigned)started + 1, serve_thread,
                           &service);
        if (rc == 0)
            started++;
    }
    if (rc < 0)
        kino_server_drain(server, 0);
    else
        rc = (int)(intptr_t)serve_thread(&service);
    while (started > 0) {
        pthread_join(others[--started], &result);
        if (rc == 0)
            rc = (int)(intptr_t)result;
    }
    if (rc == 0)
        rc = kino_server_wait(server, KINO_OFF);
    return rc;
}
