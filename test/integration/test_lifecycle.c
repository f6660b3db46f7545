/* SPDX-License-Identifier: MIT */
/* A server's life: addresses, start, drain, wait and end. */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "support/desk.h"

enum {
    SHORT_MS = 100,
    SOON_MS = 20000,
    ROUNDS = 2000,
};

static struct kino_config by(uint64_t dispatch)
{
    return (struct kino_config){.dispatch = dispatch};
}

static int listen_on(struct kino_server *server, const char *address, uint64_t port)
{
    const struct kino_listener listener = {
        .size = sizeof(listener), .address = {address, strlen(address)}, .port = port};

    return kino_server_listen(server, &listener);
}

/* Addresses */

Test(lifecycle, a_server_that_was_never_started_is_destroyed)
{
    struct kino_server *server = NULL;

    cr_assert_eq(kino_server_destroy(NULL), 0);
    cr_assert_eq(kino_server_create(NULL, &server), 0);
    cr_assert_eq(kino_server_destroy(server), 0);
    cr_assert_eq(kino_server_create(NULL, &server), 0);
    cr_assert_eq(listen_on(server, "127.0.0.1", 0), 0);
    cr_assert_eq(kino_server_wait(server, 0), KINO_TIMED_OUT);
    cr_assert_eq(kino_server_destroy(server), 0);
}

Test(lifecycle, listeners_are_numbered_and_bounded)
{
    const struct {
        struct kino_listener known;
        uint64_t tail;
    } with_tail = {{.size = sizeof(with_tail)}, 1};
    struct kino_listener nowhere = {.size = sizeof(nowhere)};
    struct kino_server *server;

    cr_assert_eq(kino_server_create(NULL, &server), 0);
    cr_assert_eq(kino_server_start(server), KINO_INVALID, "nowhere to listen");
    cr_assert_eq(listen_on(server, "localhost", 0), KINO_INVALID);
    cr_assert_eq(listen_on(server, "", 0), KINO_INVALID);
    cr_assert_eq(listen_on(server, "127.0.0.1", 65536), KINO_INVALID);
    cr_assert_eq(kino_server_listen(server, &with_tail.known), KINO_INVALID);
    for (int i = 0; i < 63; i++)
        cr_assert_eq(listen_on(server, "127.0.0.1", 0), i);
    cr_assert_eq(kino_server_listen(server, &nowhere), 63, "an absent address is 127.0.0.1");
    cr_assert_eq(listen_on(server, "127.0.0.1", 0), -ENOSPC);
    cr_assert_eq(kino_server_port(server, 0), KINO_AGAIN);
    cr_assert_eq(kino_server_port(server, 64), KINO_INVALID);
    cr_assert_eq(kino_server_port(server, UINT64_MAX), KINO_INVALID);
    cr_assert_eq(kino_server_destroy(server), 0);
}

TestEach(lifecycle, all_listeners_are_served_by_all_loops)
{
    struct kino_config config = {.dispatch = dispatch, .loops = 2};
    struct desk *desk = desk_create(config, 2);
    struct client client;
    int ports[4];

    for (int i = 0; i < 4; i++)
        cr_assert_eq(desk_listen(desk, i % 2 ? "127.0.0.2" : "127.0.0.1", 0), i);
    desk_start(desk, desk_echo);
    cr_assert_eq(kino_server_start(desk->server), KINO_BUSY);
    cr_assert_eq(desk_listen(desk, "127.0.0.1", 0), KINO_BUSY);
    for (int i = 0; i < 4; i++) {
        ports[i] = kino_server_port(desk->server, (uint64_t)i);
        cr_assert_gt(ports[i], 0);
        for (int j = 0; j < 10; j++) {
            client = client_to_address(i % 2 ? "127.0.0.2" : "127.0.0.1", ports[i]);
            cr_assert_eq(client_ask(&client, GET("/")), 200);
            client_close(&client);
        }
    }
    cr_assert_eq(desk_close(desk), 0);
}

/* A port that somebody listens on. */
static int hold_port(int *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t len = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    cr_assert_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    cr_assert_eq(listen(fd, 1), 0);
    cr_assert_eq(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    *port = ntohs(address.sin_port);
    return fd;
}

TestEach(lifecycle, a_port_in_use_is_named_and_may_be_tried_again)
{
    struct desk *desk = desk_create(by(dispatch), 1);
    struct client client;
    char name[32];
    int port;
    int holder = hold_port(&port);
    int before;

    snprintf(name, sizeof(name), "127.0.0.1:%d", port);
    cr_assert_eq(desk_listen(desk, "127.0.0.1", 0), 0);
    cr_assert_eq(desk_listen(desk, "127.0.0.1", port), 1);
    cr_assert_eq(kino_server_start(desk->server), -EADDRINUSE);
    cr_assert_eq(desk_count_lines(desk), 1);
    cr_assert(desk_has_logged(desk, name), "%s", desk->lines[0]);
    cr_assert(desk_has_logged(desk, "choose another port"));
    before = count_descriptors();
    cr_assert_eq(kino_server_start(desk->server), -EADDRINUSE);
    cr_assert_eq(count_descriptors(), before, "nothing is left of it");
    cr_assert_eq(kino_server_port(desk->server, 0), KINO_AGAIN, "the server is as before");
    cr_assert_eq(kino_server_port(desk->server, 1), port);
    close(holder);
    desk_start(desk, desk_echo);
    client = client_to(port);
    cr_assert_eq(client_ask(&client, GET("/")), 200);
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(lifecycle, a_port_of_another_server_is_in_use)
{
    struct desk *first = desk_open(by(dispatch), 1, desk_echo);
    struct desk *second = desk_create(by(dispatch), 1);

    cr_assert_eq(desk_listen(second, "127.0.0.1", first->port), 0);
    cr_assert_eq(kino_server_start(second->server), -EADDRINUSE);
    cr_assert_eq(kino_server_destroy(second->server), 0);
    desk_free(second);
    cr_assert_eq(desk_close(first), 0);
}

TestEach(lifecycle, a_port_is_free_at_once_for_the_next_server)
{
    struct desk *desk = desk_open(by(dispatch), 1, desk_echo);
    const int port = desk->port;

    for (int i = 0; i < 5; i++) {
        struct client client = client_to(port);

        cr_assert_eq(client_ask(&client, GET("/")), 200);
        cr_assert_eq(desk_close(desk), 0);
        client_close(&client);
        desk = desk_create(by(dispatch), 1);
        cr_assert_eq(desk_listen(desk, "127.0.0.1", port), 0);
        desk_start(desk, desk_echo);
    }
    cr_assert_eq(desk_close(desk), 0);
}

Test(lifecycle, an_address_of_nobody_is_named)
{
    struct desk *desk = desk_create((struct kino_config){0}, 0);

    cr_assert_eq(desk_listen(desk, "192.0.2.1", 80), 0);
    cr_assert_eq(kino_server_start(desk->server), -EADDRNOTAVAIL);
    cr_assert_eq(desk_count_lines(desk), 1);
    cr_assert(desk_has_logged(desk, "192.0.2.1:80"));
    cr_assert_eq(kino_server_destroy(desk->server), 0);
    desk_free(desk);
}

TestEach(lifecycle, a_start_that_failed_forgets_no_drain)
{
    struct desk *desk = desk_create(by(dispatch), 1);
    int port;
    int holder = hold_port(&port);

    cr_assert_eq(desk_listen(desk, "127.0.0.1", port), 0);
    cr_assert_eq(kino_server_interrupt(desk->server), 0);
    cr_assert_eq(kino_server_start(desk->server), -EADDRINUSE);
    cr_assert_eq(kino_server_wait(desk->server, 0), KINO_INTERRUPTED);
    cr_assert_eq(kino_server_drain(desk->server, 0), 0);
    cr_assert_eq(kino_server_start(desk->server), -EADDRINUSE);
    close(holder);
    desk_start(desk, desk_echo);
    cr_assert_eq(desk_end(desk), 0);
}

/* What a guest must not do to its host */

Test(lifecycle, threads_are_named_and_deaf_and_descriptors_close_on_exec)
{
    struct kino_config config = {.loops = 2};
    struct desk *desk = desk_open(config, 1, desk_echo);
    struct client client = client_to(desk->port);
    DIR *tasks = opendir("/proc/self/task");
    struct dirent *task;
    int loops = 0;

    cr_assert_eq(client_ask(&client, GET("/")), 200);
    while ((task = readdir(tasks))) {
        char path[512];
        char line[256];
        char name[64] = "";
        unsigned long long blocked = 0;
        FILE *status;

        snprintf(path, sizeof(path), "/proc/self/task/%s/status", task->d_name);
        status = task->d_name[0] == '.' ? NULL : fopen(path, "r");
        while (status && fgets(line, sizeof(line), status)) {
            sscanf(line, "Name: %63s", name);
            sscanf(line, "SigBlk: %llx", &blocked);
        }
        if (status)
            fclose(status);
        if (strncmp(name, "kino-loop-", strlen("kino-loop-")) != 0)
            continue;
        loops++;
        for (int signal = 1; signal < 32; signal++)
            cr_assert(signal == SIGKILL || signal == SIGSTOP || blocked >> (signal - 1) & 1,
                      "signal %d", signal);
    }
    closedir(tasks);
    cr_assert_eq(loops, 2);
    for (int fd = 3; fd < 256; fd++) {
        char path[64];
        char target[64] = "";
        const int flags = fcntl(fd, F_GETFD);

        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        if (flags < 0 || readlink(path, target, sizeof(target) - 1) < 0)
            continue;
        if (strstr(target, "socket:") || strstr(target, "io_uring") || strstr(target, "eventfd"))
            cr_assert(flags & FD_CLOEXEC, "%d is %s", fd, target);
    }
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(lifecycle, every_descriptor_is_given_back)
{
    struct desk *desk;
    int before;

    desk = desk_open(by(dispatch), 1, desk_echo); /* what libraries open once is open now */
    cr_assert_eq(desk_close(desk), 0);
    before = count_descriptors();
    for (int i = 0; i < 5; i++) {
        struct kino_config config = {.dispatch = dispatch, .loops = 3};
        struct client clients[8];

        desk = desk_open(config, 3, desk_echo);
        for (int j = 0; j < 8; j++) {
            clients[j] = client_to(desk->port);
            cr_assert_eq(client_ask(&clients[j], GET("/")), 200);
        }
        cr_assert_eq(desk_close(desk), 0);
        for (int j = 0; j < 8; j++)
            client_close(&clients[j]);
        cr_assert_eq(count_descriptors(), before);
    }
}

TestEach(lifecycle, many_loops_end_together)
{
    struct kino_config config = {.dispatch = dispatch, .loops = 8};

    for (int i = 0; i < 30; i++) {
        struct desk *desk = desk_open(config, 8, desk_echo);

        kino_server_drain(desk->server, (uint64_t)(i % 3) * SOON_MS);
        cr_assert_eq(desk_end(desk), 0);
    }
}

/* Draining */

TestEach(lifecycle, a_drain_answers_what_was_begun_and_closes_what_is_idle)
{
    struct kino_config config = {.dispatch = dispatch, .head_timeout_ms = KINO_OFF};
    struct desk *desk = desk_open(config, 1, NULL);
    struct client idle = client_to(desk->port);
    struct client served = client_to(desk->port);
    struct client busy = client_to(desk->port);
    struct client half = client_to(desk->port);
    struct client late;
    struct kino_request *request;

    client_send(&served, GET("/0") "\r\n"); /* as some old browsers do after a body */
    desk_answer_next(desk, "/0");
    cr_assert_eq(client_read(&served), 200);
    client_send(&busy, GET("/1"));
    request = desk_take_target(desk, "/1");
    client_send(&half, "POST /2 HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nbo");
    desk_assert_nothing_else(desk);
    cr_assert_eq(kino_server_destroy(desk->server), KINO_BUSY, "not drained");
    cr_assert_eq(kino_server_drain(desk->server, SOON_MS), 0);
    cr_assert_eq(client_expect_end(&idle), CLIENT_ENDED);
    cr_assert_eq(client_expect_end(&served), CLIENT_ENDED);
    cr_assert_eq(kino_server_wait(desk->server, 0), KINO_TIMED_OUT);
    late = client_to(desk->port);
    cr_assert_eq(late.fd, -ECONNREFUSED);
    cr_assert_eq(desk_answer_target(request), 0);
    cr_assert_eq(client_read(&busy), 200);
    cr_assert(client_has_line(&busy, "connection: close"));
    cr_assert_eq(client_expect_end(&busy), CLIENT_ENDED);
    client_send(&half, "dy");
    desk_answer_next(desk, "/2");
    cr_assert_eq(client_read(&half), 200);
    cr_assert(client_has_line(&half, "connection: close"));
    cr_assert_eq(client_expect_end(&half), CLIENT_ENDED);
    client_close(&idle);
    client_close(&served);
    client_close(&busy);
    client_close(&half);
    cr_assert_eq(desk_end(desk), 0);
}

/* SPEC.md 6. One turn of a loop need not see all that has arrived. */
TestEach(lifecycle, a_drain_answers_all_that_has_arrived)
{
    enum { CLIENTS = 200 };
    struct desk *desk = desk_open((struct kino_config){.dispatch = dispatch}, 1, desk_echo);
    struct client clients[CLIENTS];

    for (size_t i = 0; i < CLIENTS; i++) {
        clients[i] = client_to(desk->port);
        cr_assert_eq(client_ask(&clients[i], GET("/before")), 200);
    }
    for (size_t i = 0; i < CLIENTS; i++)
        cr_assert_eq(client_send(&clients[i], GET("/last")), 0);
    kino_server_drain(desk->server, CLIENT_DEADLINE_MS);
    for (size_t i = 0; i < CLIENTS; i++) {
        cr_assert_eq(client_read(&clients[i]), 200, "client %zu", i);
        cr_assert(client_has_body(&clients[i], "/last"));
        client_close(&clients[i]);
    }
    cr_assert_eq(desk_end(desk), 0);
}

TestEach(lifecycle, a_drain_aborts_what_is_left_at_its_deadline_and_not_before)
{
    struct desk *desk = desk_open(by(dispatch), 1, NULL);
    struct client busy = client_to(desk->port);
    struct client half = client_to(desk->port);
    struct kino_request *request;
    uint64_t began;

    client_send(&busy, GET("/1"));
    request = desk_take_target(desk, "/1");
    client_send(&half, "GET / HTTP/1.1\r\n");
    desk_assert_nothing_else(desk);
    began = now_ms();
    cr_assert_eq(kino_server_drain(desk->server, SHORT_MS), 0);
    cr_assert_eq(kino_server_wait(desk->server, SOON_MS), 0);
    cr_assert_geq(now_ms() - began, SHORT_MS);
    cr_assert_leq(client_expect_end(&busy), CLIENT_ENDED);
    cr_assert_leq(client_expect_end(&half), CLIENT_ENDED);
    cr_assert(kino_request_state(request) & KINO_STATE_DISCONNECTED);
    cr_assert_eq(desk_answer_target(request), 0);
    client_close(&busy);
    client_close(&half);
    cr_assert_eq(desk_end(desk), 0);
}

TestEach(lifecycle, a_drain_without_patience_aborts_at_once)
{
    struct desk *desk = desk_open(by(dispatch), 1, NULL);
    struct client client = client_to(desk->port);
    struct kino_request *request;
    const uint64_t began = now_ms();

    client_send(&client, GET("/"));
    request = desk_take_target(desk, "/");
    cr_assert_eq(kino_server_drain(desk->server, 0), 0);
    cr_assert_leq(client_expect_end(&client), CLIENT_ENDED);
    cr_assert_eq(kino_server_wait(desk->server, SOON_MS), 0);
    cr_assert_lt(now_ms() - began, SOON_MS / 2);
    kino_request_release(request);
    client_close(&client);
    cr_assert_eq(desk_end(desk), 0);
}

TestEach(lifecycle, the_earliest_deadline_of_several_drains_counts)
{
    struct desk *desk = desk_open(by(dispatch), 1, NULL);
    struct client client = client_to(desk->port);
    struct kino_request *request;
    uint64_t began;

    client_send(&client, GET("/"));
    request = desk_take_target(desk, "/");
    began = now_ms();
    cr_assert_eq(kino_server_drain(desk->server, KINO_OFF), 0);
    cr_assert_eq(kino_server_wait(desk->server, SHORT_MS), KINO_TIMED_OUT);
    cr_assert_geq(now_ms() - began, SHORT_MS);
    began = now_ms();
    cr_assert_eq(kino_server_drain(desk->server, SHORT_MS), 0);
    cr_assert_eq(kino_server_drain(desk->server, KINO_OFF - 1), 0);
    cr_assert_eq(kino_server_drain(desk->server, 10 * SOON_MS), 0);
    cr_assert_leq(client_expect_end(&client), CLIENT_ENDED);
    cr_assert_geq(now_ms() - began, SHORT_MS);
    cr_assert_eq(kino_server_wait(desk->server, SOON_MS), 0);
    cr_assert_eq(kino_server_drain(desk->server, 0), 0, "drained already");
    cr_assert_eq(kino_server_wait(desk->server, 0), 0);
    cr_assert_eq(kino_server_start(desk->server), KINO_BUSY);
    kino_request_release(request);
    client_close(&client);
    cr_assert_eq(desk_end(desk), 0);
}

TestEach(lifecycle, a_drain_before_the_start_is_remembered)
{
    struct desk *desk = desk_create(by(dispatch), 1);

    cr_assert_eq(desk_listen(desk, "127.0.0.1", 0), 0);
    cr_assert_eq(kino_server_drain(desk->server, SOON_MS), 0);
    desk_start(desk, desk_echo);
    cr_assert_eq(kino_server_wait(desk->server, SOON_MS), 0);
    cr_assert_eq(client_to(desk->port).fd, -ECONNREFUSED);
    cr_assert_eq(desk_end(desk), 0);
}

static struct kino_server *signalled;

static void drain_on_signal(int signal)
{
    (void)signal;
    kino_server_drain(signalled, SOON_MS);
}

static void interrupt_on_signal(int signal)
{
    (void)signal;
    kino_server_interrupt(signalled);
}

static void do_nothing(int signal)
{
    (void)signal;
}

/* Signals this thread as often as the test says, while it waits. */
struct signaller {
    pthread_t thread;
    pthread_t target;
    int signal;
    _Atomic bool over;
};

static void *send_signals(void *context)
{
    struct signaller *signaller = context;

    while (!atomic_load(&signaller->over)) {
        pthread_kill(signaller->target, signaller->signal);
        sched_yield();
    }
    return NULL;
}

static void begin_signals(struct signaller *signaller, int signal, void (*handler)(int))
{
    const struct sigaction action = {.sa_handler = handler};

    sigaction(signal, &action, NULL);
    *signaller = (struct signaller){.target = pthread_self(), .signal = signal};
    cr_assert_eq(pthread_create(&signaller->thread, NULL, send_signals, signaller), 0);
}

static void end_signals(struct signaller *signaller)
{
    atomic_store(&signaller->over, true);
    pthread_join(signaller->thread, NULL);
    signal(signaller->signal, SIG_IGN);
}

TestEach(lifecycle, signal_handlers_may_drain)
{
    struct desk *desk = desk_open(by(dispatch), 1, desk_echo);
    struct client client = client_to(desk->port);
    struct signaller signaller;

    cr_assert_eq(client_ask(&client, GET("/")), 200);
    signalled = desk->server;
    begin_signals(&signaller, SIGUSR1, drain_on_signal);
    cr_assert_eq(kino_server_wait(desk->server, SOON_MS), 0);
    end_signals(&signaller);
    cr_assert_eq(client_expect_end(&client), CLIENT_ENDED);
    client_close(&client);
    cr_assert_eq(desk_end(desk), 0);
}

TestEach(lifecycle, signals_end_no_wait_of_their_own)
{
    struct kino_config config = {.dispatch = dispatch, .loops = 1};
    struct desk *desk = desk_open(config, 0, NULL);
    struct signaller signaller;
    struct kino_worker *worker;
    uint64_t began;

    cr_assert_eq(kino_worker_create(desk->server, NULL, &worker), 0);
    begin_signals(&signaller, SIGUSR1, do_nothing);
    began = now_ms();
    cr_assert_eq(kino_server_wait(desk->server, SHORT_MS), KINO_TIMED_OUT);
    cr_assert_geq(now_ms() - began, SHORT_MS);
    began = now_ms();
    cr_assert_eq(kino_worker_wait(worker, SHORT_MS), KINO_TIMED_OUT);
    cr_assert_geq(now_ms() - began, SHORT_MS);
    end_signals(&signaller);
    cr_assert_eq(kino_worker_destroy(worker), 0);
    cr_assert_eq(desk_close(desk), 0);
}

/* Waiting */

Test(lifecycle, a_wait_is_interrupted_once_however_often_it_was_told)
{
    struct desk *desk = desk_open((struct kino_config){0}, 1, desk_echo);
    struct signaller signaller;

    for (int i = 0; i < 3; i++)
        cr_assert_eq(kino_server_interrupt(desk->server), 0);
    cr_assert_eq(kino_server_wait(desk->server, SOON_MS), KINO_INTERRUPTED);
    cr_assert_eq(kino_server_wait(desk->server, 0), KINO_TIMED_OUT);
    signalled = desk->server;
    begin_signals(&signaller, SIGUSR1, interrupt_on_signal);
    cr_assert_eq(kino_server_wait(desk->server, SOON_MS), KINO_INTERRUPTED);
    end_signals(&signaller);
    while (kino_server_wait(desk->server, 0) == KINO_INTERRUPTED)
        ; /* the last of them */
    cr_assert_eq(desk_close(desk), 0);
}

struct waiter {
    struct kino_server *server;
    _Atomic int count;
    _Atomic int other;
};

static void *be_interrupted(void *context)
{
    struct waiter *waiter = context;

    for (int i = 0; i < ROUNDS; i++) {
        if (kino_server_wait(waiter->server, SOON_MS) != KINO_INTERRUPTED)
            atomic_fetch_add(&waiter->other, 1);
        atomic_fetch_add(&waiter->count, 1);
    }
    return NULL;
}

Test(lifecycle, no_interrupt_of_a_wait_is_lost)
{
    struct desk *desk = desk_open((struct kino_config){0}, 1, desk_echo);
    struct waiter waiter = {.server = desk->server};
    pthread_t thread;

    cr_assert_eq(pthread_create(&thread, NULL, be_interrupted, &waiter), 0);
    for (int i = 0; i < ROUNDS; i++) {
        kino_server_interrupt(desk->server);
        while (atomic_load(&waiter.count) == i)
            sched_yield();
    }
    pthread_join(thread, NULL);
    cr_assert_eq(atomic_load(&waiter.other), 0);
    cr_assert_eq(desk_close(desk), 0);
}

static void *wait_for_drain(void *context)
{
    return (void *)(intptr_t)kino_server_wait(context, SOON_MS);
}

TestEach(lifecycle, all_who_wait_learn_of_the_drain)
{
    struct desk *desk = desk_open(by(dispatch), 1, desk_echo);
    pthread_t threads[3];

    for (int i = 0; i < 3; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, wait_for_drain, desk->server), 0);
    kino_server_drain(desk->server, SOON_MS);
    for (int i = 0; i < 3; i++) {
        void *result;

        pthread_join(threads[i], &result);
        cr_assert_null(result);
    }
    cr_assert_eq(desk_end(desk), 0);
}

/* Serving with a callback */

struct service {
    struct kino_server *server;
    uint64_t threads;
    kino_handler_fn handler;
    int result;
    _Atomic int handled;
};

static void *serve(void *context)
{
    struct service *service = context;

    service->result =
        kino_server_serve(service->server, service->handler, service, service->threads);
    return NULL;
}

static void count_and_echo(void *context, struct kino_request *request)
{
    struct service *service = context;

    atomic_fetch_add(&service->handled, 1);
    if (desk_is(request, "/silent"))
        return;
    if (desk_is(request, "/stop"))
        kino_server_drain(service->server, SOON_MS);
    desk_echo(context, request);
}

/* Inline listens only once a worker has begun. */
static struct client client_when_it_listens(struct kino_server *server)
{
    const uint64_t end = now_ms() + SOON_MS;
    struct client client;

    do {
        const int port = kino_server_port(server, 0);

        client = port > 0 ? client_to(port) : (struct client){.fd = -EAGAIN};
        sched_yield();
    } while (client.fd < 0 && now_ms() < end);
    return client;
}

static void assert_serves(uint64_t dispatch, uint64_t loops, uint64_t threads)
{
    struct kino_config config = {.dispatch = dispatch, .loops = loops};
    struct desk *desk = desk_create(config, 0);
    struct service service = {
        .server = desk->server, .threads = threads, .handler = count_and_echo};
    struct client client;
    pthread_t thread;

    cr_assert_eq(desk_listen(desk, "127.0.0.1", 0), 0);
    cr_assert_eq(kino_server_start(desk->server), 0);
    cr_assert_eq(pthread_create(&thread, NULL, serve, &service), 0);
    for (int i = 0; i < 20; i++) {
        client = client_when_it_listens(desk->server);
        cr_assert_eq(client_ask(&client, GET("/")), 200);
        cr_assert_eq(client_ask(&client, GET("/silent")), 500);
        cr_assert_eq(client_ask(&client, POST("/", "4", "body")), 200);
        client_close(&client);
    }
    client = client_when_it_listens(desk->server);
    cr_assert_eq(client_ask(&client, GET("/stop")), 200);
    pthread_join(thread, NULL);
    client_close(&client);
    cr_assert_eq(service.result, 0);
    cr_assert_eq(atomic_load(&service.handled), 61);
    cr_assert_eq(kino_server_destroy(desk->server), 0);
    desk_free(desk);
}

TestEach(lifecycle, a_callback_serves_from_one_thread_or_several)
{
    assert_serves(dispatch, 1, 1);
    assert_serves(dispatch, 4, 4);
    if (dispatch != KINO_DISPATCH_INLINE)
        assert_serves(dispatch, 2, 5);
}

TestEach(lifecycle, a_callback_needs_a_number_of_threads_that_can_be)
{
    struct kino_config config = {.dispatch = dispatch, .loops = 2};
    struct desk *desk = desk_create(config, 0);

    cr_assert_eq(desk_listen(desk, "127.0.0.1", 0), 0);
    cr_assert_eq(kino_server_serve(desk->server, desk_echo, NULL, 0), KINO_INVALID);
    cr_assert_eq(kino_server_serve(desk->server, desk_echo, NULL, 1025), KINO_INVALID);
    if (dispatch == KINO_DISPATCH_INLINE)
        cr_assert_eq(kino_server_serve(desk->server, desk_echo, NULL, 3), KINO_INVALID);
    cr_assert_eq(kino_server_destroy(desk->server), 0);
    desk_free(desk);
}

TestEach(lifecycle, a_callback_starts_what_is_not_started)
{
    struct desk *desk = desk_create(by(dispatch), 0);
    struct desk *other = desk_open((struct kino_config){0}, 1, desk_echo);

    cr_assert_eq(desk_listen(desk, "127.0.0.1", other->port), 0);
    cr_assert_eq(kino_server_serve(desk->server, desk_echo, NULL, 3), -EADDRINUSE);
    cr_assert_eq(desk_close(other), 0);
    kino_server_drain(desk->server, 0);
    cr_assert_eq(kino_server_serve(desk->server, desk_echo, NULL, 3), 0);
    cr_assert_eq(kino_server_destroy(desk->server), 0);
    desk_free(desk);
}
