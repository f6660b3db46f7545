/* SPDX-License-Identifier: MIT */
/* What programs do with this library, one test each, to be read as examples. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/desk.h"

#define SLICE(literal) {literal, sizeof(literal) - 1}

enum {
    SHORT_MS = 100,
    TICK_NS = 10000000,
    SOON_MS = 20000,
    MANY = 100,
    CHILD_DEADLINE_S = 30,
};

/* Errors of handlers and threads are counted, because only the test's own thread may assert. */
static _Atomic int errors;

static void expect(bool is)
{
    if (!is)
        atomic_fetch_add(&errors, 1);
}

static struct kino_config by(uint64_t dispatch)
{
    return (struct kino_config){.dispatch = dispatch};
}

/* A server that is started, for workers of the test's own. */
static struct desk *open_server(struct kino_config config)
{
    struct desk *desk = desk_create(config, 0);

    atomic_store(&errors, 0);
    cr_assert_eq(desk_listen(desk, "127.0.0.1", 0), 0);
    cr_assert_eq(kino_server_start(desk->server), 0);
    desk->port = kino_server_port(desk->server, 0);
    return desk;
}

/* One that runs a handler. */
static struct desk *open_with(struct kino_config config, kino_handler_fn handler)
{
    atomic_store(&errors, 0);
    return desk_open(config, 1, handler);
}

static void close_desk(struct desk *desk)
{
    cr_assert_eq(desk_close(desk), 0);
    cr_assert_eq(atomic_load(&errors), 0);
}

static pthread_t start(void *(*run)(void *), void *context)
{
    pthread_t thread;

    cr_assert_eq(pthread_create(&thread, NULL, run, context), 0);
    return thread;
}

/* A worker of this thread, that has begun to listen. */
static struct kino_worker *hire(struct desk *desk)
{
    struct kino_worker *worker = NULL;

    expect(kino_worker_create(desk->server, NULL, &worker) == 0);
    expect(kino_worker_wait(worker, 0) == KINO_TIMED_OUT);
    desk_count_ready(desk);
    return worker;
}

static int respond(struct kino_request *request, uint64_t status, struct kino_slice body)
{
    const struct kino_response response = {
        .size = sizeof(response), .status = status, .body = body};

    return kino_request_respond(request, &response);
}

/* A callback */

static void greet(void *context, struct kino_request *request)
{
    const struct kino_slice *greeting = context;

    expect(respond(request, 200, *greeting) == 0);
}

static void *serve(void *context)
{
    static struct kino_slice greeting = SLICE("hello");
    struct kino_server *server = context;

    expect(kino_server_serve(server, greet, &greeting, 2) == 0); /* until it is drained */
    return NULL;
}

/* Inline listens only once a worker has begun. */
static struct client client_when_it_listens(int port)
{
    const uint64_t end = now_ms() + SOON_MS;
    struct client client;

    while ((client = client_to(port)).fd < 0 && now_ms() < end)
        sched_yield();
    return client;
}

TestEach(uses, a_callback_answers)
{
    struct desk *desk = open_server((struct kino_config){.dispatch = dispatch, .loops = 2});
    const pthread_t thread = start(serve, desk->server);
    struct client client = client_when_it_listens(desk->port);

    cr_assert_eq(client_ask(&client, GET("/")), 200);
    cr_assert(client_has_body(&client, "hello"));
    kino_server_drain(desk->server, SOON_MS);
    pthread_join(thread, NULL);
    client_close(&client);
    close_desk(desk);
}

/* A host with an event loop of its own: a timer and a descriptor beside our worker */

struct host {
    struct desk *desk;
    int messages; /* an eventfd */
    _Atomic uint64_t message_count;
    _Atomic uint64_t tick_count;
};

static int watch(int epoll, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

    expect(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0);
    return fd;
}

static void count(_Atomic uint64_t *total, int fd)
{
    uint64_t some = 0;

    expect(read(fd, &some, sizeof(some)) == sizeof(some));
    atomic_fetch_add(total, some);
}

/* Answer all there is. False: nothing more will come. */
static bool answer_all(struct kino_worker *worker)
{
    struct kino_request *request;
    int rc;

    while ((rc = kino_worker_try_take(worker, &request)) == KINO_REQUEST)
        expect(desk_answer_target(request) == 0);
    expect(rc == KINO_AGAIN || rc == KINO_CLOSED);
    return rc == KINO_AGAIN;
}

/* False: nothing came for long. */
static bool next_event(int epoll, struct epoll_event *event)
{
    int count;

    /* Not by signals alone: where the kernel cannot defer a ring's work, it interrupts, too. */
    while ((count = epoll_wait(epoll, event, 1, SOON_MS)) < 0 && errno == EINTR)
        ;
    return count == 1;
}

static void *poll_all(void *context)
{
    static const struct itimerspec often = {{0, TICK_NS}, {0, TICK_NS}};
    struct host *host = context;
    struct kino_worker *worker = hire(host->desk);
    const int epoll = epoll_create1(EPOLL_CLOEXEC);
    const int timer = watch(epoll, timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC));
    const int messages = watch(epoll, host->messages);
    const int ours = watch(epoll, kino_worker_fd(worker));
    struct epoll_event event;
    bool goes_on;

    expect(timerfd_settime(timer, 0, &often, NULL) == 0);
    goes_on = answer_all(worker);
    while (goes_on && next_event(epoll, &event)) {
        if (event.data.fd == ours)
            goes_on = answer_all(worker);
        else
            count(event.data.fd == timer ? &host->tick_count : &host->message_count, event.data.fd);
    }
    expect(!goes_on);
    expect(kino_worker_destroy(worker) == 0);
    close(messages);
    close(timer);
    close(epoll);
    return NULL;
}

static bool reaches(const _Atomic uint64_t *total, uint64_t least)
{
    const uint64_t end = now_ms() + SOON_MS;

    while (atomic_load(total) < least && now_ms() < end)
        sched_yield();
    return atomic_load(total) >= least;
}

TestEach(uses, a_host_polls_its_own_timer_and_descriptor_beside_ours)
{
    struct kino_config config = {
        .dispatch = dispatch, .idle_timeout_ms = SHORT_MS, .head_timeout_ms = SHORT_MS};
    struct desk *desk = open_server(config);
    struct host host = {.desk = desk, .messages = eventfd(0, EFD_CLOEXEC)};
    const pthread_t thread = start(poll_all, &host);
    struct client client;

    cr_assert(desk_is_ready(desk, 1));
    for (uint64_t i = 1; i <= 20; i++) {
        client = client_to(desk->port);
        cr_assert_eq(client_ask(&client, GET("/")), 200);
        cr_assert_eq(write(host.messages, &(uint64_t){1}, sizeof(uint64_t)), sizeof(uint64_t));
        cr_assert(reaches(&host.message_count, i));
        if (i < 20)
            client_close(&client);
    }
    cr_assert_eq(client_expect_end(&client), CLIENT_ENDED, "deadlines pass meanwhile");
    client_close(&client);
    client = client_to(desk->port);
    cr_assert_eq(client_ask(&client, "GET / HT"), 408);
    client_close(&client);
    cr_assert(reaches(&host.tick_count, 3));
    kino_server_drain(desk->server, SOON_MS);
    pthread_join(thread, NULL);
    close_desk(desk);
}

/* A worker that gathers */

struct batch {
    struct desk *desk;
    int counts[2];
};

/* As many as come in time, up to a bound: what costs the same for one as for all is done once. */
static int gather(struct kino_worker *worker, struct kino_request **requests, int most)
{
    int count = 0;

    while (count < most && kino_worker_take(worker, count > 0 ? SOON_MS : KINO_OFF,
                                            &requests[count]) == KINO_REQUEST)
        count++;
    return count;
}

static void *answer_in_batches(void *context)
{
    struct batch *batch = context;
    struct kino_worker *worker = hire(batch->desk);
    struct kino_request *requests[MANY / 2];

    for (int i = 0; i < 2; i++) {
        batch->counts[i] = gather(worker, requests, MANY / 2);
        for (int j = 0; j < batch->counts[i]; j++)
            expect(desk_answer_target(requests[j]) == 0);
    }
    expect(gather(worker, requests, 1) == 0); /* the server is drained */
    kino_worker_destroy(worker);
    return NULL;
}

TestEach(uses, a_worker_answers_in_batches)
{
    struct desk *desk = open_server(by(dispatch));
    struct batch batch = {.desk = desk};
    const pthread_t thread = start(answer_in_batches, &batch);
    struct client clients[MANY];

    cr_assert(desk_is_ready(desk, 1));
    for (int i = 0; i < MANY; i++) {
        clients[i] = client_to(desk->port);
        cr_assert_eq(client_send(&clients[i], GET("/")), 0);
    }
    for (int i = 0; i < MANY; i++) {
        cr_assert_eq(client_read(&clients[i]), 200, "client %d", i);
        client_close(&clients[i]);
    }
    kino_server_drain(desk->server, SOON_MS);
    pthread_join(thread, NULL);
    cr_assert_eq(batch.counts[0], MANY / 2);
    cr_assert_eq(batch.counts[1], MANY / 2);
    close_desk(desk);
}

/* An interpreter with a lock: whoever sleeps must not hold it, and may be unwound out of its sleep,
 * as by a signal or by Thread#raise. */

struct interpreter {
    struct desk *desk;
    pthread_mutex_t lock;
    struct kino_worker *workers[2];
    int hired;
    int unwound;
};

static void sleep_without_lock(struct interpreter *interpreter, struct kino_worker *worker)
{
    int rc;

    pthread_mutex_unlock(&interpreter->lock);
    rc = kino_worker_wait(worker, KINO_OFF);
    pthread_mutex_lock(&interpreter->lock);
    if (rc == KINO_INTERRUPTED)
        interpreter->unwound++; /* nothing is lost: the wait has taken nothing */
}

static void *interpret(void *context)
{
    struct interpreter *interpreter = context;
    struct kino_worker *worker = hire(interpreter->desk);
    struct kino_request *request;
    int rc;

    pthread_mutex_lock(&interpreter->lock);
    interpreter->workers[interpreter->hired++] = worker;
    while ((rc = kino_worker_try_take(worker, &request)) != KINO_CLOSED) {
        if (rc == KINO_REQUEST)
            expect(desk_answer_target(request) == 0);
        else
            sleep_without_lock(interpreter, worker);
    }
    pthread_mutex_unlock(&interpreter->lock);
    kino_worker_destroy(worker);
    return NULL;
}

static int count_unwound(struct interpreter *interpreter)
{
    int count;

    pthread_mutex_lock(&interpreter->lock);
    count = interpreter->unwound;
    pthread_mutex_unlock(&interpreter->lock);
    return count;
}

/* Get the lock, though the workers sleep, and interrupt them. */
static void interrupt_all(struct interpreter *interpreter)
{
    const int before = count_unwound(interpreter);
    const uint64_t end = now_ms() + SOON_MS;

    pthread_mutex_lock(&interpreter->lock);
    for (int i = 0; i < interpreter->hired; i++)
        kino_worker_interrupt(interpreter->workers[i]);
    pthread_mutex_unlock(&interpreter->lock);
    while (count_unwound(interpreter) < before + 2 && now_ms() < end)
        sched_yield();
    cr_assert_eq(count_unwound(interpreter), before + 2);
}

TestEach(uses, an_interpreter_takes_with_its_lock_held_and_waits_without_it)
{
    struct desk *desk = open_server((struct kino_config){.dispatch = dispatch, .loops = 2});
    struct interpreter interpreter = {.desk = desk, .lock = PTHREAD_MUTEX_INITIALIZER};
    const pthread_t threads[2] = {start(interpret, &interpreter), start(interpret, &interpreter)};
    struct client client;
    uint64_t end = now_ms() + SOON_MS;
    int hired = 0;

    while (hired < 2 && now_ms() < end) {
        pthread_mutex_lock(&interpreter.lock);
        hired = interpreter.hired;
        pthread_mutex_unlock(&interpreter.lock);
    }
    for (int i = 0; i < 20; i++) {
        client = client_to(desk->port);
        interrupt_all(&interpreter);
        cr_assert_eq(client_ask(&client, GET("/")), 200);
        client_close(&client);
    }
    kino_server_drain(desk->server, SOON_MS);
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
    pthread_mutex_destroy(&interpreter.lock);
    close_desk(desk);
}

/* Bodies both ways at once */

static int begin(struct kino_request *request)
{
    const struct kino_response response = {
        .size = sizeof(response), .status = 200, .flags = KINO_BODY_STREAM};

    return kino_request_respond(request, &response);
}

/* Write all of it, however long the client takes. */
static int write_all(struct kino_request *request, struct kino_slice data)
{
    const struct kino_piece piece = {.size = sizeof(piece), .data = data};
    int rc;

    while ((rc = kino_request_write(request, &piece)) == KINO_AGAIN)
        if (kino_request_wait(request, KINO_STATE_WRITABLE, SOON_MS) < 0)
            return KINO_TIMED_OUT;
    return rc;
}

static int read_some(struct kino_request *request, struct kino_slice *piece)
{
    int rc;

    while ((rc = kino_request_body(request, piece)) == KINO_AGAIN)
        if (kino_request_wait(request, KINO_STATE_READABLE, SOON_MS) < 0)
            return KINO_TIMED_OUT;
    return rc;
}

static void repeat(void *context, struct kino_request *request)
{
    struct kino_slice piece;

    (void)context;
    expect(begin(request) == 0);
    while (read_some(request, &piece) == 1)
        expect(write_all(request, piece) == 0);
    expect(kino_request_finish(request, NULL, 0) == 0);
}

/* Does this come next? */
static bool client_hears(struct client *client, const char *text)
{
    char heard[512] = "";
    size_t len = 0;

    while (!strstr(heard, text)) {
        const int count = client_read_some(client, heard + len, sizeof(heard) - 1 - len);

        if (count <= 0)
            return false;
        len += (size_t)count;
    }
    return true;
}

TestEach(uses, a_conversation_goes_both_ways_within_one_request)
{
    struct desk *desk = open_with(by(dispatch), repeat);
    struct client client = client_to(desk->port);

    client_send(&client, "POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\n"
                         "transfer-encoding: chunked\r\n\r\n");
    cr_assert(client_hears(&client, "transfer-encoding: chunked\r\n"));
    client_send(&client, "5\r\nhello\r\n");
    cr_assert(client_hears(&client, "5\r\nhello\r\n"));
    client_send(&client, "3\r\nbye\r\n");
    cr_assert(client_hears(&client, "3\r\nbye\r\n"));
    client_send(&client, "0\r\n\r\n");
    cr_assert(client_hears(&client, "0\r\n\r\n"));
    client_close(&client);
    close_desk(desk);
}

/* Another thread answers */

static void *answer_elsewhere(void *request)
{
    expect(desk_answer_target(request) == 0); /* and releases it */
    return NULL;
}

static pthread_t elsewhere;

static void hand_over(void *context, struct kino_request *request)
{
    struct desk *desk = context;

    expect(kino_request_detach(request) == 0);
    expect(kino_worker_abort(desk->workers[0].worker, 500) == 0); /* it is none of its own */
    expect(pthread_create(&elsewhere, NULL, answer_elsewhere, kino_request_hold(request)) == 0);
}

TestEach(uses, another_thread_answers_after_the_handler_returned)
{
    struct desk *desk = open_with(by(dispatch), hand_over);
    struct client client = client_to(desk->port);

    cr_assert_eq(client_ask(&client, GET("/1")), 200);
    cr_assert(client_has_body(&client, "/1"));
    pthread_join(elsewhere, NULL);
    client_close(&client);
    close_desk(desk);
}

/* A handler that is late. It waits for the client to leave, so it runs as long as the test likes;
 * inline its waits drive the loop, which else could not answer for it. */
static void be_late(void *context, struct kino_request *request)
{
    (void)context;
    expect(kino_request_wait(request, KINO_STATE_TIMED_OUT, SOON_MS) & KINO_STATE_TIMED_OUT);
    expect(kino_request_wait(request, 0, SOON_MS) & KINO_STATE_DISCONNECTED);
    expect(respond(request, 200, (struct kino_slice)SLICE("late")) == KINO_ANSWERED);
}

TestEach(uses, a_late_handler_is_answered_for_while_it_runs)
{
    struct kino_config config = {.dispatch = dispatch, .request_timeout_ms = SHORT_MS};
    struct desk *desk = open_with(config, be_late);
    struct client client = client_to(desk->port);

    cr_assert_eq(client_ask(&client, GET("/")), 504);
    client_close(&client);
    close_desk(desk);
}

/* Workers that die */

static void *take_and_die(void *context)
{
    struct kino_request *request = NULL;

    expect(kino_worker_take(context, SOON_MS, &request) == KINO_REQUEST);
    return request; /* neither answered nor released */
}

Test(uses, a_worker_dies_with_a_request_and_its_supervisor_answers_for_it)
{
    struct desk *desk = open_server(by(KINO_DISPATCH_QUEUE));
    struct client client = client_to(desk->port);
    struct kino_worker *worker;
    pthread_t thread;
    void *request;

    cr_assert_eq(kino_worker_create(desk->server, NULL, &worker), 0);
    thread = start(take_and_die, worker);
    client_send(&client, GET("/1"));
    pthread_join(thread, &request);
    cr_assert_eq(kino_worker_abort(worker, 502), 0);
    cr_assert_eq(client_read(&client), 502);
    cr_assert_eq(kino_worker_destroy(worker), 0);
    kino_request_release(request);
    desk_hire(desk); /* another, in its place */
    client_send(&client, GET("/2"));
    desk_answer_next(desk, "/2");
    cr_assert_eq(client_read(&client), 200);
    client_close(&client);
    close_desk(desk);
}

/* The driver of a ring cannot die without its connections: what a handler raises is rescued around
 * it, and the worker goes on. */
static void raise_or_echo(void *context, struct kino_request *request)
{
    struct desk *desk = context;

    if (!desk_is(request, "/raise"))
        desk_echo(context, request);
    else
        expect(kino_worker_abort(desk->workers[0].worker, 500) == 0);
}

TestEach(uses, a_handler_raises_and_its_worker_goes_on)
{
    struct desk *desk = open_with(by(dispatch), raise_or_echo);
    struct client client = client_to(desk->port);

    cr_assert_eq(client_ask(&client, GET("/raise")), 500);
    cr_assert_eq(client_ask(&client, GET("/2")), 200);
    client_close(&client);
    close_desk(desk);
}

/* A client that vanishes: events that come now and then, as in text/event-stream */

static _Atomic bool noticed;

static void send_events(void *context, struct kino_request *request)
{
    int rc;

    (void)context;
    expect(begin(request) == 0);
    expect(write_all(request, (struct kino_slice)SLICE("data: 1\n\n")) == 0);
    rc = kino_request_wait(request, 0, SOON_MS); /* for something to tell, or nobody to tell it */
    expect(rc > 0 && (rc & KINO_STATE_DISCONNECTED));
    expect(write_all(request, (struct kino_slice)SLICE("data: 2\n\n")) == KINO_GONE);
    atomic_store(&noticed, true);
}

TestEach(uses, a_client_vanishes_and_its_handler_is_told)
{
    struct desk *desk = open_with(by(dispatch), send_events);
    struct client client = client_to(desk->port);

    atomic_store(&noticed, false);
    client_send(&client, GET("/"));
    cr_assert(client_hears(&client, "data: 1\n"));
    client_reset(&client);
    close_desk(desk);
    cr_assert(atomic_load(&noticed));
}

/* Many requests of one connection, as a protocol with streams would have them */

static void *answer_in_disorder(void *context)
{
    struct desk *desk = context;
    struct kino_worker *worker = hire(desk);
    struct kino_request *requests[MANY];
    const int count = gather(worker, requests, MANY);

    expect(count == MANY);
    for (int i = 0; i < count; i++)
        expect(desk_answer_target(requests[i * 37 % MANY]) == 0);
    expect(gather(worker, requests, 1) == 0);
    kino_worker_destroy(worker);
    return NULL;
}

TestEach(uses, a_hundred_requests_of_one_connection_are_answered_in_any_order)
{
    struct kino_config config = {.dispatch = dispatch, .max_pipelined = MANY};
    struct desk *desk = open_server(config);
    const pthread_t thread = start(answer_in_disorder, desk);
    struct client client;
    char text[64];

    cr_assert(desk_is_ready(desk, 1));
    client = client_to(desk->port);
    for (int i = 0; i < MANY; i++) {
        snprintf(text, sizeof(text), "GET /%d HTTP/1.1\r\nhost: a\r\n\r\n", i);
        cr_assert_eq(client_send(&client, text), 0);
    }
    for (int i = 0; i < MANY; i++) {
        snprintf(text, sizeof(text), "/%d", i);
        cr_assert_eq(client_read(&client), 200);
        cr_assert(client_has_body(&client, text), "answer %d", i);
    }
    kino_server_drain(desk->server, SOON_MS);
    pthread_join(thread, NULL);
    client_close(&client);
    close_desk(desk);
}

/* Another protocol on the same connection */

static void shout_back(void *context, struct kino_request *request)
{
    static const struct kino_field upgrade = {SLICE("upgrade"), SLICE("shout"), 0, 0};
    const struct kino_response response = {
        .size = sizeof(response), .status = 101, .fields = &upgrade, .field_count = 1};
    struct kino_slice piece;
    char loud[64];

    (void)context;
    expect(kino_request_head(request)->flags & KINO_HEAD_UPGRADE);
    expect(kino_request_respond(request, &response) == 0);
    while (read_some(request, &piece) == 1) {
        expect(piece.len <= sizeof(loud));
        for (size_t i = 0; i < piece.len; i++)
            loud[i] = (char)(piece.data[i] & ~0x20);
        expect(write_all(request, (struct kino_slice){loud, piece.len}) == 0);
    }
    expect(kino_request_finish(request, NULL, 0) == 0); /* and the connection closes */
}

TestEach(uses, an_upgraded_connection_carries_raw_bytes)
{
    struct desk *desk = open_with(by(dispatch), shout_back);
    struct client client = client_to(desk->port);

    cr_assert_eq(client_ask(&client, "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\n"
                                     "upgrade: shout\r\n\r\n"),
                 101);
    client_send(&client, "hey");
    cr_assert(client_hears(&client, "HEY"));
    client_send(&client, "you");
    cr_assert(client_hears(&client, "YOU"));
    client_finish(&client);
    cr_assert_eq(client_expect_end(&client), CLIENT_ENDED);
    client_close(&client);
    close_desk(desk);
}

/* The end: with patience, and then without */

TestEach(uses, a_drain_waits_for_the_willing_and_an_abort_ends_the_rest)
{
    struct desk *desk = open_with(by(dispatch), NULL);
    struct client clients[2] = {client_to(desk->port), client_to(desk->port)};
    struct kino_request *willing;
    struct kino_request *stubborn;

    client_send(&clients[0], GET("/willing"));
    willing = desk_take_target(desk, "/willing");
    client_send(&clients[1], GET("/stubborn"));
    stubborn = desk_take_target(desk, "/stubborn");
    kino_server_drain(desk->server, KINO_OFF);
    cr_assert_gt(kino_request_wait(willing, KINO_STATE_DRAINING, SOON_MS), 0);
    cr_assert_eq(desk_answer_target(willing), 0);
    cr_assert_eq(client_read(&clients[0]), 200);
    cr_assert(client_has_line(&clients[0], "connection: close"));
    cr_assert_eq(kino_server_wait(desk->server, SHORT_MS), KINO_TIMED_OUT);
    kino_server_drain(desk->server, 0);
    cr_assert(kino_request_wait(stubborn, 0, SOON_MS) & KINO_STATE_DISCONNECTED);
    cr_assert_eq(kino_server_wait(desk->server, SOON_MS), 0);
    cr_assert_leq(client_read(&clients[1]), CLIENT_ENDED);
    kino_request_release(stubborn);
    client_close(&clients[0]);
    client_close(&clients[1]);
    cr_assert_eq(desk_end(desk), 0);
}

/* Forks: of a server that is not started each process starts its own, and of one that is a child
 * only throws away its copy. */

static int end_child(pid_t child)
{
    int status = -1;

    if (waitpid(child, &status, 0) != child)
        return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -status;
}

static void serve_once(void *context, struct kino_request *request)
{
    kino_server_drain(context, SOON_MS);
    desk_echo(context, request);
}

static int serve_in_child(struct kino_server *server, int tell)
{
    int port;

    if (kino_server_start(server) < 0)
        return 1;
    port = kino_server_port(server, 0);
    if (write(tell, &port, sizeof(port)) != sizeof(port))
        return 2;
    if (kino_server_serve(server, serve_once, server, 1) < 0)
        return 3;
    return kino_server_destroy(server) == 0 ? 0 : 4;
}

TestEach(uses, a_host_forks_and_each_process_starts_its_server)
{
    struct desk *desk = desk_create(by(dispatch), 1);
    pid_t children[2];
    int ports[2];

    cr_assert_eq(desk_listen(desk, "127.0.0.1", 0), 0);
    cr_assert_eq(pipe(ports), 0);
    for (int i = 0; i < 2; i++) {
        children[i] = fork();
        if (children[i] == 0) {
            alarm(CHILD_DEADLINE_S);
            _exit(serve_in_child(desk->server, ports[1]));
        }
    }
    for (int i = 0; i < 2; i++) {
        struct client client;
        int port;

        cr_assert_eq(read(ports[0], &port, sizeof(port)), sizeof(port));
        client = client_when_it_listens(port);
        cr_assert_eq(client_ask(&client, GET("/")), 200);
        client_close(&client);
    }
    for (int i = 0; i < 2; i++)
        cr_assert_eq(end_child(children[i]), 0);
    close(ports[0]);
    close(ports[1]);
    cr_assert_eq(kino_server_destroy(desk->server), 0);
    desk_free(desk);
}

TestEach(uses, a_host_forks_while_it_serves_and_no_client_notices)
{
    struct desk *desk = open_with(by(dispatch), desk_echo);
    struct client client = client_to(desk->port);
    pid_t child;

    cr_assert_eq(client_ask(&client, GET("/1")), 200);
    child = fork();
    if (child == 0) {
        alarm(CHILD_DEADLINE_S);
        _exit(kino_worker_destroy(desk->workers[0].worker) < 0 ||
              kino_server_destroy(desk->server) < 0);
    }
    cr_assert_eq(client_ask(&client, GET("/2")), 200);
    cr_assert_eq(end_child(child), 0);
    cr_assert_eq(client_ask(&client, GET("/3")), 200);
    client_close(&client);
    close_desk(desk);
}
