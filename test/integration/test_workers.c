/* SPDX-License-Identifier: MIT */
/* Workers: taking, waiting, interrupts, dying and moving. */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>

#include "support/desk.h"

enum {
    SHORT_MS = 30,
    SOON_MS = 20000,
    ROUNDS = 3000,
    INTERRUPTS = 20000,
    CLIENTS = 16,
    LARGE = 16 << 20, /* more than sockets hold */
};

static const struct kino_response fine = {.size = sizeof(fine), .status = 200, .body = {"fine", 4}};

static struct kino_config by(uint64_t dispatch)
{
    return (struct kino_config){.dispatch = dispatch};
}

/* A server without a crew: the test itself is the worker. */
static struct desk *open_alone(uint64_t dispatch, uint64_t loops)
{
    struct kino_config config = {.dispatch = dispatch, .loops = loops};

    return desk_open(config, 0, NULL);
}

static struct kino_worker *hire(struct desk *desk)
{
    struct kino_worker *worker;
    struct kino_request *request;

    cr_assert_eq(kino_worker_create(desk->server, NULL, &worker), 0);
    cr_assert_eq(kino_worker_try_take(worker, &request), KINO_AGAIN); /* inline: begins to listen */
    return worker;
}

static struct kino_request *take(struct kino_worker *worker)
{
    struct kino_request *request = NULL;

    cr_assert_eq(kino_worker_take(worker, SOON_MS, &request), KINO_REQUEST);
    return request;
}

/* Drain, let the worker see the end, and destroy both. */
static void dismiss(struct desk *desk, struct kino_worker *worker)
{
    struct kino_request *request;

    kino_server_drain(desk->server, SOON_MS);
    cr_assert_eq(kino_worker_take(worker, SOON_MS, &request), KINO_CLOSED);
    cr_assert_eq(kino_worker_try_take(worker, &request), KINO_CLOSED);
    cr_assert_eq(kino_worker_wait(worker, SOON_MS), KINO_CLOSED);
    cr_assert_eq(kino_server_destroy(desk->server), KINO_BUSY, "there is a worker");
    cr_assert_eq(kino_worker_destroy(worker), 0);
    cr_assert_eq(desk_end(desk), 0);
}

TestEach(workers, are_refused_before_the_start)
{
    struct desk *desk = desk_create((struct kino_config){.dispatch = dispatch, .loops = 1}, 0);
    struct kino_worker *worker = NULL;

    cr_assert_eq(kino_worker_create(desk->server, NULL, &worker), KINO_BUSY);
    cr_assert_null(worker);
    cr_assert_eq(kino_worker_destroy(NULL), 0);
    cr_assert_eq(kino_server_destroy(desk->server), 0);
    desk_free(desk);
}

TestEach(workers, are_refused_with_settings_that_cannot_be)
{
    struct kino_worker_config config = {.size = sizeof(config), .migrates = 2};
    struct desk *desk = open_alone(dispatch, 1);
    struct kino_worker *worker;

    cr_assert_eq(kino_worker_create(desk->server, &config, &worker), KINO_INVALID);
    config = (struct kino_worker_config){.size = 0};
    cr_assert_eq(kino_worker_create(desk->server, &config, &worker), KINO_INVALID);
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(workers, see_nothing_without_sleeping)
{
    struct desk *desk = open_alone(dispatch, 1);
    struct kino_worker *worker = hire(desk);
    struct kino_request *request = NULL;

    cr_assert_eq(kino_worker_try_take(worker, &request), KINO_AGAIN);
    cr_assert_eq(kino_worker_wait(worker, 0), KINO_TIMED_OUT);
    cr_assert_eq(kino_worker_take(worker, 0, &request), KINO_TIMED_OUT);
    cr_assert_eq(kino_worker_flush(worker), 0);
    cr_assert_null(request, "set on success only");
    dismiss(desk, worker);
}

TestEach(workers, wait_until_their_timeout_and_not_less)
{
    struct desk *desk = open_alone(dispatch, 1);
    struct kino_worker *worker = hire(desk);
    struct kino_request *request;

    for (int i = 0; i < 2; i++) {
        const uint64_t began = now_ms();

        cr_assert_eq(i == 0 ? kino_worker_wait(worker, SHORT_MS)
                            : kino_worker_take(worker, SHORT_MS, &request),
                     KINO_TIMED_OUT);
        cr_assert_geq(now_ms() - began, SHORT_MS);
    }
    dismiss(desk, worker);
}

TestEach(workers, wait_without_taking)
{
    struct desk *desk = open_alone(dispatch, 1);
    struct kino_worker *worker = hire(desk);
    struct client client = client_to(desk->port);
    struct kino_request *request;

    client_send(&client, GET("/"));
    for (int i = 0; i < 3; i++)
        cr_assert_eq(kino_worker_wait(worker, SOON_MS), 0);
    cr_assert_eq(kino_worker_try_take(worker, &request), KINO_REQUEST);
    cr_assert_eq(desk_answer_target(request), 0);
    cr_assert_eq(kino_worker_flush(worker), 0);
    cr_assert_eq(client_read(&client), 200);
    client_close(&client);
    dismiss(desk, worker);
}

TestEach(workers, answer_and_take_the_next_in_one_call)
{
    struct desk *desk = open_alone(dispatch, 1);
    struct kino_worker *worker = hire(desk);
    struct client client = client_to(desk->port);
    struct kino_request *request;

    client_send(&client, GET("/1") GET("/2"));
    request = take(worker);
    cr_assert(desk_is(request, "/1"));
    cr_assert_eq(kino_worker_wait(worker, SOON_MS), 0, "the second is there, too");
    cr_assert_eq(kino_worker_respond_take(worker, &fine, &request), KINO_REQUEST);
    cr_assert(desk_is(request, "/2"));
    cr_assert_eq(kino_worker_respond_take(worker, &fine, &request), 0);
    cr_assert_null(request);
    cr_assert_eq(kino_worker_respond_take(worker, &fine, &request), KINO_INVALID);
    cr_assert_eq(kino_worker_flush(worker), 0);
    cr_assert_eq(client_read(&client), 200);
    cr_assert_eq(client_read(&client), 200);
    client_close(&client);
    dismiss(desk, worker);
}

TestEach(workers, keep_a_request_whose_answer_is_refused)
{
    static const struct kino_response refused = {.size = sizeof(refused), .status = 20};
    struct desk *desk = open_alone(dispatch, 1);
    struct kino_worker *worker = hire(desk);
    struct client client = client_to(desk->port);
    struct kino_request *request;
    struct kino_request *same;

    client_send(&client, GET("/1") GET("/2"));
    same = request = take(worker);
    cr_assert_eq(kino_worker_respond_take(worker, &refused, &request), KINO_INVALID);
    cr_assert_eq(request, same);
    cr_assert_eq(desk_state(request), 0);
    cr_assert_eq(kino_worker_wait(worker, SOON_MS), 0);
    cr_assert_eq(kino_worker_respond_take(worker, &fine, &request), KINO_REQUEST);
    cr_assert_eq(kino_request_respond(request, &fine), 0);
    cr_assert_eq(kino_worker_respond_take(worker, &fine, &request), 0,
                 "that somebody was first is no error");
    cr_assert_null(request);
    kino_worker_flush(worker);
    cr_assert_eq(client_read(&client), 200);
    cr_assert_eq(client_read(&client), 200);
    client_close(&client);
    dismiss(desk, worker);
}

Test(workers, inline_flush_what_they_answered_and_not_before)
{
    struct desk *desk = open_alone(KINO_DISPATCH_INLINE, 1);
    struct kino_worker *worker = hire(desk);
    struct client client = client_to(desk->port);
    struct kino_request *request;

    client_send(&client, GET("/"));
    request = take(worker);
    cr_assert_eq(kino_request_respond(request, &fine), 0);
    cr_assert(client_is_quiet(&client, SHORT_MS), "nobody drives the loop");
    cr_assert_eq(kino_worker_flush(worker), 0);
    cr_assert_eq(client_read(&client), 200);
    kino_request_release(request);
    client_close(&client);
    dismiss(desk, worker);
}

Test(workers, inline_that_abort_lose_no_answer_that_was_given_before)
{
    struct desk *desk = open_alone(KINO_DISPATCH_INLINE, 1);
    struct kino_worker *worker = hire(desk);
    struct client client = client_to(desk->port);
    struct kino_request *first;
    struct kino_request *second;

    client_send(&client, GET("/1") GET("/2"));
    first = take(worker);
    second = take(worker);
    cr_assert_eq(desk_answer_target(first), 0);
    cr_assert_eq(kino_request_abort(second), 0);
    kino_request_release(second);
    cr_assert_eq(kino_worker_flush(worker), 0);
    cr_assert_eq(client_read(&client), 200);
    cr_assert(client_has_body(&client, "/1"));
    cr_assert_eq(kino_worker_wait(worker, SHORT_MS), KINO_TIMED_OUT);
    cr_assert_eq(client_expect_end(&client), CLIENT_ENDED);
    client_close(&client);
    dismiss(desk, worker);
}

/* Threads */

struct stranger {
    struct kino_worker *worker;
    struct kino_request *request;
    int results[6];
};

static void *try_everything(void *context)
{
    struct stranger *stranger = context;
    struct kino_request *request;
    int *result = stranger->results;

    *result++ = kino_worker_try_take(stranger->worker, &request);
    *result++ = kino_worker_wait(stranger->worker, 0);
    *result++ = kino_worker_take(stranger->worker, 0, &request);
    *result++ = kino_worker_flush(stranger->worker);
    *result++ = kino_worker_respond_take(stranger->worker, &fine, &stranger->request);
    *result++ = kino_worker_destroy(stranger->worker);
    return NULL;
}

Test(workers, inline_belong_to_the_thread_of_their_first_take)
{
    struct desk *desk = open_alone(KINO_DISPATCH_INLINE, 1);
    struct stranger stranger = {.worker = hire(desk)};
    struct client client = client_to(desk->port);
    struct kino_request *request;
    pthread_t thread;

    client_send(&client, GET("/"));
    request = stranger.request = take(stranger.worker);
    cr_assert_eq(pthread_create(&thread, NULL, try_everything, &stranger), 0);
    pthread_join(thread, NULL);
    for (int i = 0; i < 6; i++)
        cr_assert_eq(stranger.results[i], KINO_BUSY, "call %d", i);
    cr_assert_eq(stranger.request, request, "refused, and still the caller's");
    cr_assert_eq(kino_worker_respond_take(stranger.worker, &fine, &request), 0);
    kino_worker_flush(stranger.worker);
    cr_assert_eq(client_read(&client), 200);
    client_close(&client);
    dismiss(desk, stranger.worker);
}

Test(workers, inline_are_as_many_as_loops)
{
    struct desk *desk = open_alone(KINO_DISPATCH_INLINE, 2);
    struct kino_worker *workers[3];

    cr_assert_eq(kino_worker_create(desk->server, NULL, &workers[0]), 0);
    cr_assert_eq(kino_worker_create(desk->server, NULL, &workers[1]), 0);
    cr_assert_eq(kino_worker_create(desk->server, NULL, &workers[2]), KINO_BUSY);
    cr_assert_eq(kino_worker_destroy(workers[0]), 0, "one that never took");
    cr_assert_eq(kino_worker_create(desk->server, NULL, &workers[2]), 0);
    cr_assert_eq(kino_worker_destroy(workers[1]), 0);
    cr_assert_eq(kino_worker_destroy(workers[2]), 0);
    cr_assert_eq(desk_close(desk), 0);
}

TestThreaded(workers, are_as_many_as_one_likes)
{
    struct desk *desk = open_alone(dispatch, 1);
    struct kino_worker *workers[20];

    for (int i = 0; i < 20; i++)
        cr_assert_eq(kino_worker_create(desk->server, NULL, &workers[i]), 0);
    for (int i = 0; i < 20; i++)
        cr_assert_eq(kino_worker_destroy(workers[i]), 0);
    cr_assert_eq(desk_close(desk), 0);
}

/* Interrupts */

TestEach(workers, are_interrupted_once_however_often_they_were_told)
{
    struct desk *desk = open_alone(dispatch, 1);
    struct kino_worker *worker = hire(desk);
    struct kino_request *request;

    for (int i = 0; i < 3; i++)
        cr_assert_eq(kino_worker_interrupt(worker), 0);
    cr_assert_eq(kino_worker_try_take(worker, &request), KINO_AGAIN, "only a wait ends");
    cr_assert_eq(kino_worker_wait(worker, SOON_MS), KINO_INTERRUPTED);
    cr_assert_eq(kino_worker_wait(worker, 0), KINO_TIMED_OUT);
    cr_assert_eq(kino_worker_interrupt(worker), 0);
    cr_assert_eq(kino_worker_take(worker, SOON_MS, &request), KINO_INTERRUPTED);
    cr_assert_eq(kino_worker_take(worker, 0, &request), KINO_TIMED_OUT);
    dismiss(desk, worker);
}

struct interrupted {
    struct kino_worker *worker;
    _Atomic int count;
    _Atomic int other; /* results that were no interrupt */
    pthread_t thread;
};

static void *be_interrupted(void *context)
{
    struct interrupted *interrupted = context;

    for (int i = 0; i < INTERRUPTS; i++) {
        if (kino_worker_wait(interrupted->worker, SOON_MS) != KINO_INTERRUPTED)
            atomic_fetch_add(&interrupted->other, 1);
        atomic_fetch_add(&interrupted->count, 1);
    }
    while (kino_worker_wait(interrupted->worker, SOON_MS) != KINO_CLOSED)
        ;
    kino_worker_destroy(interrupted->worker);
    return NULL;
}

/* A while that differs from round to round, so that two threads meet everywhere on their ways. */
static void dawdle(int round, int most)
{
    for (volatile int i = round * 7919 % most; i > 0; i--)
        ;
}

TestEach(workers, lose_no_interrupt)
{
    struct desk *desk = open_alone(dispatch, 1);
    struct interrupted interrupted = {0};

    cr_assert_eq(kino_worker_create(desk->server, NULL, &interrupted.worker), 0);
    cr_assert_eq(pthread_create(&interrupted.thread, NULL, be_interrupted, &interrupted), 0);
    for (int i = 0; i < INTERRUPTS; i++) {
        dawdle(i, 1000);
        kino_worker_interrupt(interrupted.worker);
        for (int spins = 0; atomic_load(&interrupted.count) == i; spins++)
            if (spins > 10000)
                sched_yield();
    }
    kino_server_drain(desk->server, 0);
    pthread_join(interrupted.thread, NULL);
    cr_assert_eq(atomic_load(&interrupted.other), 0);
    cr_assert_eq(desk_end(desk), 0);
}

static void *serve_with_pauses(void *context)
{
    struct kino_worker *worker = context;
    struct kino_request *request;
    int round = 0;

    while (kino_worker_take(worker, KINO_OFF, &request) == KINO_REQUEST) {
        desk_answer(request, "");
        dawdle(round++, 150000);
    }
    kino_worker_destroy(worker);
    return NULL;
}

/* The next request comes just when the worker goes to sleep, or a little earlier or later. */
TestEach(workers, that_fall_asleep_miss_no_request)
{
    struct desk *desk = open_alone(dispatch, 1);
    struct kino_worker *worker;
    struct client client;
    pthread_t thread;

    cr_assert_eq(kino_worker_create(desk->server, NULL, &worker), 0);
    cr_assert_eq(pthread_create(&thread, NULL, serve_with_pauses, worker), 0);
    do {
        client = client_to(desk->port);
    } while (client.fd == -ECONNREFUSED); /* inline it listens soon */
    for (int i = 0; i < 2 * ROUNDS; i++)
        cr_assert_eq(client_ask(&client, GET("/")), 200, "round %d", i);
    client_close(&client);
    kino_server_drain(desk->server, SOON_MS);
    pthread_join(thread, NULL);
    cr_assert_eq(desk_end(desk), 0);
}

/* Two workers; one is interrupted just when a request may have woken it, and takes no
 * part until the round is over. The other must serve. */
struct pair {
    struct kino_worker *workers[2];
    sem_t begin;
    sem_t interrupted;
    _Atomic bool over;
};

static void *leave_when_interrupted(void *context)
{
    struct pair *pair = context;
    struct kino_request *request;

    for (;;) {
        const int rc = kino_worker_take(pair->workers[0], SOON_MS, &request);

        if (rc == KINO_REQUEST) {
            desk_answer(request, "");
            continue;
        }
        sem_post(&pair->interrupted);
        sem_wait(&pair->begin);
        if (atomic_load(&pair->over))
            return NULL;
    }
}

static void *serve(void *context)
{
    struct pair *pair = context;
    struct kino_request *request;

    while (kino_worker_take(pair->workers[1], KINO_OFF, &request) == KINO_REQUEST)
        desk_answer(request, "");
    return NULL;
}

TestThreaded(workers, that_are_woken_and_interrupted_leave_the_request_to_another)
{
    struct desk *desk = open_alone(dispatch, 1);
    struct client client = client_to(desk->port);
    struct pair pair = {0};
    pthread_t threads[2];

    sem_init(&pair.begin, 0, 0);
    sem_init(&pair.interrupted, 0, 0);
    for (int i = 0; i < 2; i++)
        cr_assert_eq(kino_worker_create(desk->server, NULL, &pair.workers[i]), 0);
    cr_assert_eq(pthread_create(&threads[0], NULL, leave_when_interrupted, &pair), 0);
    cr_assert_eq(pthread_create(&threads[1], NULL, serve, &pair), 0);
    for (int i = 0; i < ROUNDS; i++) {
        client_send(&client, GET("/"));
        kino_worker_interrupt(pair.workers[0]);
        cr_assert_eq(client_read(&client), 200, "round %d", i);
        sem_wait(&pair.interrupted);
        atomic_store(&pair.over, i == ROUNDS - 1);
        sem_post(&pair.begin);
    }
    client_close(&client);
    kino_server_drain(desk->server, SOON_MS);
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
        cr_assert_eq(kino_worker_destroy(pair.workers[i]), 0);
    }
    sem_destroy(&pair.begin);
    sem_destroy(&pair.interrupted);
    cr_assert_eq(desk_end(desk), 0);
}

/* Aborting */

TestEach(workers, that_died_have_their_requests_answered)
{
    struct desk *desk = desk_open(by(dispatch), 1, NULL);
    struct kino_worker *worker = desk->workers[0].worker;
    struct client clients[2] = {client_to(desk->port), client_to(desk->port)};
    struct kino_request *requests[4];

    client_send(&clients[0], GET("/1") GET("/2"));
    requests[0] = desk_take_target(desk, "/1");
    requests[1] = desk_take_target(desk, "/2");
    client_send(&clients[1], GET("/3") GET("/4"));
    requests[2] = desk_take_target(desk, "/3");
    requests[3] = desk_take_target(desk, "/4");
    cr_assert_eq(kino_request_respond(requests[3], &fine), 0);
    cr_assert_eq(kino_worker_abort(worker, 399), KINO_INVALID);
    cr_assert_eq(kino_worker_abort(worker, 600), KINO_INVALID);
    cr_assert_eq(kino_worker_abort(worker, 0), KINO_INVALID);
    cr_assert_eq(kino_worker_abort(worker, 502), 0);
    cr_assert_eq(client_read(&clients[0]), 502);
    cr_assert_eq(client_read(&clients[0]), 502);
    cr_assert_eq(client_read(&clients[1]), 502);
    cr_assert_eq(client_read(&clients[1]), 200, "what was answered is answered");
    for (int i = 0; i < 4; i++) {
        cr_assert(kino_request_state(requests[i]) & KINO_STATE_ANSWERED);
        cr_assert_eq(desk_answer(requests[i], "late"), KINO_ANSWERED);
    }
    for (int i = 0; i < 2; i++) {
        client_send(&clients[i], GET("/5"));
        desk_answer_next(desk, "/5");
        cr_assert_eq(client_read(&clients[i]), 200, "the worker goes on");
        client_close(&clients[i]);
    }
    cr_assert_eq(desk_close(desk), 0);
}

TestThreaded(workers, that_died_take_no_other_s_requests_with_them)
{
    struct desk *desk = open_alone(dispatch, 2);
    struct kino_worker *dies = hire(desk);
    struct kino_worker *lives = hire(desk);
    struct client clients[CLIENTS];
    struct kino_request *requests[CLIENTS];

    for (int i = 0; i < CLIENTS; i++) {
        clients[i] = client_to(desk->port);
        client_send(&clients[i], GET("/"));
        requests[i] = take(i % 2 ? lives : dies);
    }
    cr_assert_eq(kino_worker_abort(dies, 500), 0);
    for (int i = 0; i < CLIENTS; i += 2)
        cr_assert_eq(client_read(&clients[i]), 500);
    for (int i = 0; i < CLIENTS; i++)
        cr_assert_eq(desk_answer(requests[i], ""), i % 2 ? 0 : KINO_ANSWERED);
    for (int i = 1; i < CLIENTS; i += 2)
        cr_assert_eq(client_read(&clients[i]), 200);
    for (int i = 0; i < CLIENTS; i++)
        client_close(&clients[i]);
    cr_assert_eq(kino_worker_destroy(dies), 0);
    dismiss(desk, lives);
}

struct late_answer {
    struct kino_request *request;
    pthread_barrier_t begin;
    pthread_barrier_t end;
    int result;
    bool over;
};

static void *answer_late(void *context)
{
    struct late_answer *late = context;

    for (;;) {
        pthread_barrier_wait(&late->begin);
        if (late->over)
            return NULL;
        late->result = desk_answer(late->request, "");
        pthread_barrier_wait(&late->end);
    }
}

TestEach(workers, aborted_while_they_answer_send_one_answer)
{
    struct desk *desk = desk_open(by(dispatch), 1, NULL);
    struct client client = client_to(desk->port);
    struct late_answer late = {0};
    pthread_t thread;

    pthread_barrier_init(&late.begin, NULL, 2);
    pthread_barrier_init(&late.end, NULL, 2);
    cr_assert_eq(pthread_create(&thread, NULL, answer_late, &late), 0);
    for (int i = 0; i < ROUNDS / 5; i++) {
        client_send(&client, GET("/"));
        late.request = desk_take_target(desk, "/");
        pthread_barrier_wait(&late.begin);
        kino_worker_abort(desk->workers[0].worker, 500);
        pthread_barrier_wait(&late.end);
        cr_assert_eq(client_read(&client), late.result == 0 ? 200 : 500, "round %d", i);
        cr_assert(client_is_quiet(&client, 0));
    }
    late.over = true;
    pthread_barrier_wait(&late.begin);
    pthread_join(thread, NULL);
    pthread_barrier_destroy(&late.begin);
    pthread_barrier_destroy(&late.end);
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

/* Leaving */

TestThreaded(workers, may_leave_with_requests_in_hand)
{
    struct desk *desk = open_alone(dispatch, 1);
    struct kino_worker *leaves = hire(desk);
    struct kino_worker *stays = hire(desk);
    struct client client = client_to(desk->port);
    struct kino_request *request;

    client_send(&client, GET("/1") GET("/2"));
    request = take(leaves);
    cr_assert_eq(kino_worker_destroy(leaves), 0);
    cr_assert_eq(desk_answer_target(take(stays)), 0);
    cr_assert_eq(desk_answer_target(request), 0);
    cr_assert_eq(client_read(&client), 200);
    cr_assert(client_has_body(&client, "/1"));
    cr_assert_eq(client_read(&client), 200);
    client_close(&client);
    dismiss(desk, stays);
}

/* The clients' requests lie on the desk, or were taken by this worker. */
static unsigned wait_for_all(struct desk *desk, struct kino_worker *worker,
                             struct kino_request **own, unsigned all)
{
    const uint64_t end = now_ms() + SOON_MS;
    unsigned count = 0;

    while (desk_count_taken(desk) + count < all) {
        cr_assert_lt(now_ms(), end, "%u of %u came", desk_count_taken(desk) + count, all);
        if (kino_worker_take(worker, 1, &own[count]) == KINO_REQUEST)
            count++;
    }
    return count;
}

Test(workers, inline_that_leave_close_their_clients_and_hand_on_their_sockets)
{
    struct kino_config config = {.dispatch = KINO_DISPATCH_INLINE, .loops = 2};
    struct desk *desk = desk_open(config, 1, NULL);
    struct kino_worker *leaves = hire(desk);
    struct kino_worker *replaces;
    struct client clients[CLIENTS];
    struct kino_request *own[CLIENTS];
    unsigned count;
    unsigned closed = 0;

    for (int i = 0; i < CLIENTS; i++) {
        clients[i] = client_to(desk->port);
        client_send(&clients[i], GET("/1"));
    }
    count = wait_for_all(desk, leaves, own, CLIENTS);
    cr_assert_gt(count, 0, "the kernel gives connections to both");
    cr_assert_lt(count, CLIENTS);
    cr_assert_eq(kino_worker_create(desk->server, NULL, &replaces), KINO_BUSY);
    cr_assert_eq(kino_worker_destroy(leaves), 0);
    for (unsigned i = 0; i < count; i++) {
        cr_assert(kino_request_state(own[i]) & KINO_STATE_DISCONNECTED);
        cr_assert_eq(desk_answer_target(own[i]), 0);
    }
    for (unsigned i = 0; i < CLIENTS - count; i++)
        desk_answer_next(desk, "/1");
    for (int i = 0; i < CLIENTS; i++) {
        const int outcome = client_read(&clients[i]);

        closed += outcome <= CLIENT_ENDED;
        cr_assert(outcome == 200 || outcome <= CLIENT_ENDED);
        client_close(&clients[i]);
    }
    cr_assert_eq(closed, count);
    for (int i = 0; i < CLIENTS; i++) {
        clients[i] = client_to(desk->port);
        client_send(&clients[i], GET("/2"));
        desk_answer_next(desk, "/2");
        cr_assert_eq(client_read(&clients[i]), 200);
        client_close(&clients[i]);
    }
    replaces = hire(desk);
    cr_assert_eq(kino_worker_destroy(replaces), 0);
    cr_assert_eq(desk_close(desk), 0);
}

Test(workers, inline_that_come_later_serve_who_waited)
{
    struct desk *desk = open_alone(KINO_DISPATCH_INLINE, 1);
    struct kino_worker *worker;
    struct client client;
    struct client next;

    worker = hire(desk);
    for (int i = 0; i < 3; i++) {
        client = client_to(desk->port);
        client_send(&client, GET("/"));
        cr_assert_eq(desk_answer_target(take(worker)), 0);
        kino_worker_flush(worker);
        cr_assert_eq(client_read(&client), 200);
        cr_assert_eq(kino_worker_destroy(worker), 0);
        cr_assert_leq(client_expect_end(&client), CLIENT_ENDED);
        client_close(&client);
        next = client_to(desk->port);
        cr_assert_geq(next.fd, 0, "the socket listens though nobody accepts");
        client_send(&next, GET("/"));
        cr_assert_eq(kino_worker_create(desk->server, NULL, &worker), 0);
        cr_assert_eq(desk_answer_target(take(worker)), 0);
        kino_worker_flush(worker);
        cr_assert_eq(client_read(&next), 200);
        client_close(&next);
    }
    dismiss(desk, worker);
}

Test(workers, inline_that_sleep_take_over_the_sockets_of_the_last_to_leave)
{
    struct kino_config config = {.dispatch = KINO_DISPATCH_INLINE, .loops = 3};
    struct desk *desk = desk_open(config, 1, NULL);
    struct kino_worker *first = hire(desk);
    struct kino_worker *second = hire(desk);
    struct client client;

    cr_assert_eq(kino_worker_destroy(first), 0);
    cr_assert_eq(kino_worker_destroy(second), 0);
    for (int i = 0; i < 3 * CLIENTS; i++) {
        client = client_to(desk->port);
        client_send(&client, GET("/"));
        desk_answer_next(desk, "/");
        cr_assert_eq(client_read(&client), 200);
        client_close(&client);
    }
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(workers, see_the_drain_though_they_are_created_after_it)
{
    struct desk *desk = open_alone(dispatch, 1);
    struct kino_worker *worker;
    struct kino_request *request;

    kino_server_drain(desk->server, 0);
    cr_assert_eq(kino_server_wait(desk->server, SOON_MS), 0);
    cr_assert_eq(kino_worker_create(desk->server, NULL, &worker), 0);
    cr_assert_eq(kino_worker_take(worker, SOON_MS, &request), KINO_CLOSED);
    cr_assert_eq(kino_worker_wait(worker, SOON_MS), KINO_CLOSED);
    cr_assert_eq(kino_worker_destroy(worker), 0);
    cr_assert_eq(desk_end(desk), 0);
}

/* Migrating */

struct relay {
    struct desk *desk;
    struct kino_worker *worker;
    sem_t turn[2];
    int failures;
};

struct runner {
    struct relay *relay;
    int number;
};

static void *run_relay(void *context)
{
    struct runner *runner = context;
    struct relay *relay = runner->relay;

    for (int i = 0; i < 200; i++) {
        struct kino_request *request;

        sem_wait(&relay->turn[runner->number]);
        if (kino_worker_take(relay->worker, SOON_MS, &request) != KINO_REQUEST ||
            desk_answer(request, "") != 0 || kino_worker_flush(relay->worker) != 0)
            relay->failures++;
        sem_post(&relay->turn[!runner->number]);
    }
    return NULL;
}

static struct kino_worker *create_migrant(struct desk *desk)
{
    const struct kino_worker_config config = {.size = sizeof(config), .migrates = 1};
    struct kino_worker *worker;

    cr_assert_eq(kino_worker_create(desk->server, &config, &worker), 0);
    return worker;
}

TestEach(workers, that_migrate_are_driven_by_several_threads_in_turn)
{
    struct desk *desk = open_alone(dispatch, 1);
    struct relay relay = {.desk = desk, .worker = create_migrant(desk)};
    struct runner runners[2] = {{&relay, 0}, {&relay, 1}};
    struct client client;
    pthread_t threads[2];

    cr_assert_eq(kino_worker_wait(relay.worker, 0), KINO_TIMED_OUT); /* inline: begins to listen */
    client = client_to(desk->port);
    sem_init(&relay.turn[0], 0, 1);
    sem_init(&relay.turn[1], 0, 0);
    for (int i = 0; i < 2; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, run_relay, &runners[i]), 0);
    for (int i = 0; i < 400; i++)
        cr_assert_eq(client_ask(&client, GET("/")), 200, "request %d", i);
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
        sem_destroy(&relay.turn[i]);
    }
    cr_assert_eq(relay.failures, 0);
    client_close(&client);
    dismiss(desk, relay.worker);
}

static char large_body[LARGE];

static void *answer_largely(void *context)
{
    static const struct kino_response large = {
        .size = sizeof(large), .status = 200, .body = {large_body, LARGE}};
    struct kino_worker *worker = context;
    struct kino_request *request;

    if (kino_worker_take(worker, SOON_MS, &request) == KINO_REQUEST)
        kino_worker_respond_take(worker, &large, &request);
    for (int i = 0; i < 100; i++)
        kino_worker_flush(worker); /* until no more goes out */
    return NULL;
}

static void *go_on(void *context)
{
    struct kino_worker *worker = context;
    struct kino_request *request;

    while (kino_worker_take(worker, SOON_MS, &request) == KINO_REQUEST)
        desk_answer(request, "next");
    kino_worker_destroy(worker);
    return NULL;
}

/* The kernel cancels what a thread began when the thread ends. */
TestEach(workers, that_migrate_go_on_where_a_thread_that_ended_stopped)
{
    struct desk *desk = open_alone(dispatch, 1);
    struct kino_worker *worker = create_migrant(desk);
    struct client client;
    struct client later;
    pthread_t thread;

    cr_assert_eq(pthread_create(&thread, NULL, answer_largely, worker), 0);
    do {
        client = client_of_little_memory(desk->port);
    } while (client.fd == -ECONNREFUSED); /* inline it listens soon */
    client_send(&client, GET("/"));
    pthread_join(thread, NULL);
    cr_assert_eq(pthread_create(&thread, NULL, go_on, worker), 0);
    cr_assert_eq(client_read(&client), 200);
    cr_assert_eq(client.body_len, LARGE);
    cr_assert_eq(client_ask(&client, GET("/")), 200);
    cr_assert(client_has_body(&client, "next"));
    later = client_to(desk->port);
    cr_assert_eq(client_ask(&later, GET("/")), 200, "it still accepts");
    client_close(&later);
    client_close(&client);
    kino_server_drain(desk->server, SOON_MS);
    pthread_join(thread, NULL);
    cr_assert_eq(desk_end(desk), 0);
}

/* Dying */

/* What the kernel may still use is leaked on purpose, once. */
void __lsan_disable(void) __attribute__((weak));
void __lsan_enable(void) __attribute__((weak));

static void *take_and_die(void *context)
{
    struct desk *desk = context;
    struct kino_worker *worker;
    struct kino_request *request;

    if (__lsan_disable)
        __lsan_disable();
    if (kino_worker_create(desk->server, NULL, &worker) < 0)
        return NULL;
    kino_worker_try_take(worker, &request);
    desk_count_ready(desk);
    if (kino_worker_take(worker, SOON_MS, &request) == KINO_REQUEST)
        kino_request_respond(request, &fine);
    kino_worker_flush(worker);
    kino_request_release(request);
    if (kino_worker_take(worker, SOON_MS, &request) == KINO_REQUEST)
        kino_request_release(kino_request_hold(request));
    if (__lsan_enable)
        __lsan_enable();
    return worker;
}

Test(workers, inline_whose_thread_died_are_destroyed_by_another_and_replaced)
{
    struct desk *desk = open_alone(KINO_DISPATCH_INLINE, 1);
    struct kino_worker *replaces;
    struct client client;
    pthread_t thread;
    void *dead;

    cr_assert_eq(pthread_create(&thread, NULL, take_and_die, desk), 0);
    cr_assert(desk_is_ready(desk, 1));
    client = client_to(desk->port);
    cr_assert_eq(client_ask(&client, GET("/1")), 200);
    client_send(&client, GET("/2"));
    pthread_join(thread, &dead);
    cr_assert_eq(kino_worker_create(desk->server, NULL, &replaces), KINO_BUSY);
    cr_assert_eq(kino_worker_destroy(dead), 0);
    cr_assert_leq(client_expect_end(&client), CLIENT_ENDED);
    client_close(&client);
    replaces = hire(desk);
    client = client_to(desk->port);
    client_send(&client, GET("/3"));
    cr_assert_eq(desk_answer_target(take(replaces)), 0);
    kino_worker_flush(replaces);
    cr_assert_eq(client_read(&client), 200);
    client_close(&client);
    dismiss(desk, replaces);
}

/* A host's own event loop */

/* Wait for the worker as a host does that has other things to wait for, too. */
static struct kino_request *poll_for_request(struct kino_worker *worker)
{
    const uint64_t end = now_ms() + SOON_MS;
    const int fd = kino_worker_fd(worker);
    struct kino_request *request = NULL;
    int rc;

    cr_assert_geq(fd, 0);
    while ((rc = kino_worker_try_take(worker, &request)) == KINO_AGAIN) {
        struct pollfd polled = {.fd = fd, .events = POLLIN};
        const int left = (int)(end - now_ms());

        cr_assert_gt(left, 0);
        cr_assert_eq(poll(&polled, 1, left), 1);
    }
    cr_assert_eq(rc, KINO_REQUEST);
    return request;
}

TestEach(workers, are_polled_by_a_host_that_waits_for_other_things_too)
{
    struct kino_config config = {.dispatch = dispatch, .idle_timeout_ms = 300};
    struct desk *desk = desk_create(config, 0);
    struct kino_worker *worker;
    struct kino_request *request;
    struct pollfd polled = {.events = POLLIN};
    struct client client;
    uint64_t began;

    cr_assert_eq(desk_listen(desk, "127.0.0.1", 0), 0);
    desk_start(desk, NULL);
    cr_assert_eq(kino_worker_create(desk->server, NULL, &worker), 0);
    polled.fd = kino_worker_fd(worker);
    cr_assert_geq(polled.fd, 0);
    cr_assert_eq(kino_worker_try_take(worker, &request), KINO_AGAIN);
    client = client_to(desk->port);
    for (int i = 0; i < 3; i++) {
        client_send(&client, GET("/1"));
        request = poll_for_request(worker);
        cr_assert_eq(desk_answer_target(request), 0);
        cr_assert_eq(kino_worker_try_take(worker, &request), KINO_AGAIN, "and the answer leaves");
        cr_assert_eq(client_read(&client), 200);
    }
    /* Deadlines pass, an interrupt and a drain are heard, while the host does nothing but poll. */
    began = now_ms();
    while (!client_is_ended(&client)) {
        cr_assert_lt(now_ms(), began + SOON_MS);
        if (poll(&polled, 1, 10) == 1)
            cr_assert_eq(kino_worker_try_take(worker, &request), KINO_AGAIN);
    }
    cr_assert_geq(now_ms() - began, 250);
    cr_assert_eq(kino_worker_try_take(worker, &request), KINO_AGAIN);
    kino_worker_interrupt(worker);
    cr_assert_eq(poll(&polled, 1, SOON_MS), 1);
    cr_assert_eq(kino_worker_wait(worker, KINO_OFF), KINO_INTERRUPTED);
    cr_assert_eq(kino_worker_try_take(worker, &request), KINO_AGAIN);
    kino_server_drain(desk->server, SOON_MS);
    do
        cr_assert_eq(poll(&polled, 1, SOON_MS), 1);
    while (kino_worker_try_take(worker, &request) == KINO_AGAIN);
    cr_assert_eq(kino_worker_try_take(worker, &request), KINO_CLOSED);
    cr_assert_eq(kino_worker_destroy(worker), 0);
    client_close(&client);
    cr_assert_eq(desk_end(desk), 0);
}

/* What a thread finds that drained a server and has not ended yet. */
struct closing {
    struct desk *desk;
    struct kino_worker *worker;
    sem_t closed;
    sem_t destroyed;
};

static void *take_to_the_end(void *context)
{
    struct closing *closing = context;
    struct kino_request *request;

    kino_worker_wait(closing->worker, 0);
    desk_count_ready(closing->desk);
    while (kino_worker_take(closing->worker, SOON_MS, &request) != KINO_CLOSED)
        ;
    sem_post(&closing->closed);
    sem_wait(&closing->destroyed);
    return NULL;
}

/* A thread that could be joined is not quite gone for the kernel; but there is nothing to drive. */
Test(workers, inline_that_saw_the_drain_to_its_end_are_destroyed_by_anybody)
{
    struct desk *desk = open_alone(KINO_DISPATCH_INLINE, 1);
    struct closing closing = {.desk = desk};
    pthread_t thread;

    sem_init(&closing.closed, 0, 0);
    sem_init(&closing.destroyed, 0, 0);
    cr_assert_eq(kino_worker_create(desk->server, NULL, &closing.worker), 0);
    cr_assert_eq(pthread_create(&thread, NULL, take_to_the_end, &closing), 0);
    cr_assert(desk_is_ready(desk, 1));
    kino_server_drain(desk->server, SOON_MS);
    sem_wait(&closing.closed);
    cr_assert_eq(kino_worker_destroy(closing.worker), 0);
    sem_post(&closing.destroyed);
    pthread_join(thread, NULL);
    cr_assert_eq(desk_end(desk), 0);
}
