/* SPDX-License-Identifier: MIT */
/* SPEC.md 4.6: the dispatch by lanes. What it has in common with the others, their tests show. */
#include <sched.h>
#include <stdatomic.h>
#include <string.h>

#include "support/desk.h"

enum {
    SOON_MS = 20000,
    SHORT_MS = 100,
    WORKERS = 4,
    ROUNDS = 100,
    MANY = 300, /* more than one loop has lanes */
};

static struct kino_worker *hire(struct desk *desk)
{
    struct kino_worker *worker;

    cr_assert_eq(kino_worker_create(desk->server, NULL, &worker), 0);
    return worker;
}

static struct kino_request *take(struct kino_worker *worker)
{
    struct kino_request *request = NULL;

    cr_assert_eq(kino_worker_take(worker, SOON_MS, &request), KINO_REQUEST);
    return request;
}

/* Handlers that wait until so many of them run at once. */
static _Atomic unsigned inside;
static _Atomic unsigned failed;

static void meet(void *context, struct kino_request *request)
{
    const uint64_t end = now_ms() + SOON_MS;

    atomic_fetch_add(&inside, 1);
    while (atomic_load(&inside) % WORKERS != 0) {
        if (now_ms() > end) {
            atomic_fetch_add(&failed, 1);
            break;
        }
        sched_yield();
    }
    desk_echo(context, request);
}

static void assert_met(uint64_t loops, int connections)
{
    struct kino_config config = {.dispatch = KINO_DISPATCH_LANES, .loops = loops};
    struct desk *desk = desk_open(config, WORKERS, meet);
    struct client clients[WORKERS];

    for (int i = 0; i < connections; i++)
        clients[i] = client_to(desk->port);
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < WORKERS; i++)
            client_send(&clients[i % connections], GET("/"));
        for (int i = 0; i < WORKERS; i++)
            cr_assert_eq(client_read(&clients[i % connections]), 200);
        cr_assert_eq(atomic_load(&failed), 0, "round %d", round);
    }
    for (int i = 0; i < connections; i++)
        client_close(&clients[i]);
    cr_assert_eq(desk_close(desk), 0);
}

Test(lanes, spread_work_over_all_workers)
{
    assert_met(1, WORKERS);
    assert_met(2, WORKERS);
}

Test(lanes, spread_the_work_of_one_client_of_one_loop_over_all_workers)
{
    assert_met(1, 1);
    assert_met(2, 1);
}

/* One worker took a request and does not come back. */
static void assert_others_serve(uint64_t loops, unsigned others)
{
    struct kino_config config = {.dispatch = KINO_DISPATCH_LANES, .loops = loops};
    struct desk *desk = desk_open(config, 0, desk_echo);
    struct kino_worker *busy = hire(desk);
    struct client stuck = client_to(desk->port);
    struct client client = client_to(desk->port);
    struct kino_request *held;

    client_send(&stuck, GET("/held"));
    held = take(busy);
    for (unsigned i = 0; i < others; i++)
        desk_hire(desk);
    for (int i = 0; i < ROUNDS; i++)
        cr_assert_eq(client_ask(&client, GET("/")), 200, "round %d", i);
    client_send(&stuck, GET("/behind"));
    cr_assert_eq(desk_answer_target(held), 0);
    cr_assert_eq(client_read(&stuck), 200);
    cr_assert_eq(client_read(&stuck), 200);
    client_close(&stuck);
    client_close(&client);
    cr_assert_eq(kino_worker_destroy(busy), 0);
    cr_assert_eq(desk_close(desk), 0);
}

Test(lanes, let_nothing_wait_behind_a_busy_worker)
{
    assert_others_serve(1, 1);
    assert_others_serve(1, WORKERS - 1);
    assert_others_serve(2, 1);
    assert_others_serve(3, WORKERS - 1);
}

Test(lanes, are_emptied_by_a_worker_that_comes_later)
{
    struct kino_config config = {.dispatch = KINO_DISPATCH_LANES};
    struct desk *desk = desk_open(config, 0, desk_echo);
    struct kino_worker *busy = hire(desk);
    struct client client = client_to(desk->port);
    struct kino_request *held;

    client_send(&client, GET("/1") GET("/2") GET("/3") GET("/4"));
    held = take(busy);
    cr_assert_eq(kino_worker_wait(busy, SOON_MS), 0, "more lies in its lane");
    desk_hire(desk);
    cr_assert(desk_has_taken(desk, 3));
    cr_assert_eq(desk_answer_target(held), 0);
    for (int i = 0; i < 4; i++)
        cr_assert_eq(client_read(&client), 200);
    client_close(&client);
    cr_assert_eq(kino_worker_destroy(busy), 0);
    cr_assert_eq(desk_close(desk), 0);
}

Test(lanes, of_workers_that_leave_are_emptied_by_the_others)
{
    struct kino_config config = {.dispatch = KINO_DISPATCH_LANES, .loops = 2};
    struct desk *desk = desk_open(config, 1, desk_echo);
    struct client client = client_to(desk->port);

    for (int i = 0; i < ROUNDS; i++) {
        struct kino_worker *leaves = hire(desk);

        client_send(&client, GET("/1") GET("/2") GET("/3") GET("/4"));
        kino_worker_wait(leaves, i % 2);
        cr_assert_eq(kino_worker_destroy(leaves), 0);
        for (int j = 0; j < 4; j++)
            cr_assert_eq(client_read(&client), 200, "round %d", i);
    }
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

Test(lanes, take_what_came_before_there_were_workers)
{
    struct kino_config config = {.dispatch = KINO_DISPATCH_LANES, .loops = 2};
    struct desk *desk = desk_open(config, 0, desk_echo);
    struct client clients[8];

    for (int i = 0; i < 8; i++) {
        clients[i] = client_to(desk->port);
        client_send(&clients[i], GET("/"));
    }
    desk_hire(desk);
    for (int i = 0; i < 8; i++) {
        cr_assert_eq(client_read(&clients[i]), 200);
        client_close(&clients[i]);
    }
    cr_assert_eq(desk_close(desk), 0);
}

Test(lanes, that_are_full_answer_503_after_the_timeout)
{
    struct kino_config config = {
        .dispatch = KINO_DISPATCH_LANES, .queue_depth = 3, .queue_timeout_ms = SHORT_MS};
    struct desk *desk = desk_open(config, 0, desk_echo);
    struct kino_worker *workers[2] = {hire(desk), hire(desk)};
    struct kino_request *held[2];
    struct client clients[8];
    uint64_t began;
    int refused = 0;

    for (int i = 0; i < 8; i++)
        clients[i] = client_to(desk->port);
    for (int i = 0; i < 2; i++) {
        client_send(&clients[i], GET("/held"));
        held[i] = take(workers[i]);
    }
    began = now_ms();
    for (int i = 2; i < 8; i++)
        client_send(&clients[i], GET("/"));
    for (int i = 5; i < 8; i++) {
        refused += client_read(&clients[i]) == 503;
        cr_assert(client_has_line(&clients[i], "retry-after: 1"));
        cr_assert_geq(now_ms() - began, SHORT_MS);
    }
    cr_assert_eq(refused, 3, "three have their place, in whichever lane");
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(desk_answer_target(held[i]), 0);
        cr_assert_eq(kino_worker_destroy(workers[i]), 0);
    }
    desk_hire(desk);
    for (int i = 0; i < 5; i++)
        cr_assert_eq(client_read(&clients[i]), 200, "client %d", i);
    for (int i = 0; i < 8; i++)
        client_close(&clients[i]);
    cr_assert_eq(desk_close(desk), 0);
}

Test(lanes, may_be_fewer_than_workers)
{
    struct kino_config config = {.dispatch = KINO_DISPATCH_LANES};
    struct desk *desk = desk_open(config, 0, desk_echo);
    struct kino_worker *others[MANY];
    struct client client = client_to(desk->port);

    for (int i = 0; i < MANY; i++)
        others[i] = hire(desk);
    desk_hire(desk);
    for (int i = 0; i < 20; i++)
        cr_assert_eq(client_ask(&client, GET("/")), 200);
    client_close(&client);
    for (int i = 0; i < MANY; i++)
        cr_assert_eq(kino_worker_destroy(others[i]), 0);
    cr_assert_eq(desk_close(desk), 0);
}

Test(lanes, that_are_not_empty_may_be_left_by_all)
{
    struct kino_config config = {.dispatch = KINO_DISPATCH_LANES, .loops = 2};
    struct desk *desk = desk_open(config, 0, NULL);
    struct client clients[WORKERS];
    struct kino_worker *workers[WORKERS];

    for (int i = 0; i < WORKERS; i++) {
        workers[i] = hire(desk);
        clients[i] = client_to(desk->port);
        client_send(&clients[i], GET("/1") GET("/2"));
    }
    cr_assert_eq(kino_worker_wait(workers[0], SOON_MS), 0);
    for (int i = 0; i < WORKERS; i++)
        cr_assert_eq(kino_worker_destroy(workers[i]), 0);
    kino_server_drain(desk->server, 0);
    cr_assert_eq(desk_end(desk), 0);
    for (int i = 0; i < WORKERS; i++)
        client_close(&clients[i]);
}
