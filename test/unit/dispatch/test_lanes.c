/* SPDX-License-Identifier: MIT */
#include "dispatch/lanes.h"

#include "base/clock.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "support/test.h"

enum {
    WORKERS = 4,
    ITEMS = 100000,
    DEPTH = 48,
    CLAIM_EVERY = 200, /* items, after which a worker gives up its lane and claims another */
};

/* Lanes carry pointers and look into none. */
static char items[ITEMS];

static struct kino_request *item(int number)
{
    return (struct kino_request *)(void *)&items[number];
}

static int number_of(struct kino_request *request)
{
    return (int)((char *)request - items);
}

/* Lanes, and workers whose lives are the test's to lead. */
struct shop {
    struct kn_lanes lanes;
    struct kn_parking parking;
    struct kn_lane *own[WORKERS];
    struct kn_parker parkers[WORKERS];
};

static void open_shop(struct shop *shop, uint64_t depth)
{
    cr_assert_eq(kn_lanes_init(&shop->lanes, depth, true), 0);
    kn_parking_init(&shop->parking);
    for (int i = 0; i < WORKERS; i++) {
        cr_assert_eq(kn_lanes_claim(&shop->lanes, &shop->own[i]), 0);
        cr_assert_not_null(shop->own[i]);
        kn_parker_init(&shop->parkers[i], &shop->own[i]->berth);
        kn_lane_visit(shop->own[i]);
    }
}

static void close_shop(struct shop *shop)
{
    while (kn_lanes_pop(&shop->lanes, 0))
        ;
    for (int i = 0; i < WORKERS; i++)
        kn_parking_leave(&shop->parking, &shop->parkers[i]);
    kn_parking_deinit(&shop->parking);
    kn_lanes_deinit(&shop->lanes);
}

static void fall_asleep(struct shop *shop, int worker)
{
    kn_parking_enter(&shop->parking, &shop->parkers[worker]);
}

static bool is_woken(struct shop *shop, int worker)
{
    return atomic_load(&shop->parkers[worker].bits) == KN_PARK_WOKEN;
}

static int count_woken(struct shop *shop)
{
    int count = 0;

    for (int i = 0; i < WORKERS; i++)
        count += is_woken(shop, i);
    return count;
}

static void push(struct shop *shop, int count)
{
    for (int i = 0; i < count; i++)
        cr_assert(kn_lanes_push(&shop->lanes, item(i)));
}

static uint64_t length(struct shop *shop, int worker)
{
    return kn_lane_length(shop->own[worker]);
}

/* The end of a turn at the time when the watch ends, or before. */
static void end_turn(struct shop *shop, bool due)
{
    kn_lanes_wake(&shop->lanes, &shop->parking, due ? shop->lanes.due_ns : 0);
}

Test(lanes, give_each_worker_its_own)
{
    struct shop shop;

    open_shop(&shop, 8);
    for (int i = 0; i < WORKERS; i++)
        for (int j = 0; j < i; j++)
            cr_assert_neq(shop.own[i], shop.own[j]);
    cr_assert_eq(shop.lanes.owners, WORKERS);
    close_shop(&shop);
}

Test(lanes, spread_over_who_is_awake_and_then_evenly)
{
    struct shop shop;

    open_shop(&shop, 100);
    for (uint64_t round = 1; round <= 5; round++) {
        push(&shop, WORKERS);
        for (int i = 0; i < WORKERS; i++)
            cr_assert_eq(length(&shop, i), round);
    }
    close_shop(&shop);
}

Test(lanes, begin_with_another_worker_each_time)
{
    struct shop shop;
    int got[WORKERS] = {0};

    open_shop(&shop, 100);
    for (int round = 0; round < 3 * WORKERS; round++) {
        push(&shop, 1);
        for (int i = 0; i < WORKERS; i++)
            got[i] += kn_lane_pop(shop.own[i]) != NULL;
    }
    for (int i = 0; i < WORKERS; i++)
        cr_assert_eq(got[i], 3);
    close_shop(&shop);
}

Test(lanes, prefer_who_is_awake_then_the_last_to_fall_asleep)
{
    struct shop shop;

    open_shop(&shop, 100);
    fall_asleep(&shop, 0);
    fall_asleep(&shop, 3);
    fall_asleep(&shop, 2);
    push(&shop, 1);
    cr_assert_eq(length(&shop, 1), 1, "the one that is awake");
    push(&shop, 1);
    cr_assert_eq(length(&shop, 2), 1, "the last to fall asleep");
    push(&shop, 1);
    cr_assert_eq(length(&shop, 3), 1);
    push(&shop, 1);
    cr_assert_eq(length(&shop, 0), 1);
    end_turn(&shop, false);
    cr_assert_eq(count_woken(&shop), 3);
    close_shop(&shop);
}

Test(lanes, wake_no_more_than_they_need_and_each_once)
{
    struct shop shop;

    open_shop(&shop, 100);
    for (int i = 0; i < WORKERS; i++)
        fall_asleep(&shop, i);
    push(&shop, 1);
    end_turn(&shop, false);
    cr_assert(is_woken(&shop, WORKERS - 1));
    cr_assert_eq(count_woken(&shop), 1);
    end_turn(&shop, false);
    cr_assert_eq(count_woken(&shop), 1, "there was nothing new");
    cr_assert_eq(atomic_load(&shop.parking.count), WORKERS - 1);
    close_shop(&shop);
}

Test(lanes, wake_who_fell_asleep_after_it_was_chosen)
{
    struct shop shop;

    open_shop(&shop, 100);
    push(&shop, 1);
    for (int i = 0; i < WORKERS; i++)
        fall_asleep(&shop, i);
    end_turn(&shop, false);
    for (int i = 0; i < WORKERS; i++)
        cr_assert_eq(is_woken(&shop, i), length(&shop, i) == 1, "%d", i);
    close_shop(&shop);
}

Test(lanes, let_a_sleeper_take_what_lies_behind_a_busy_worker)
{
    struct shop shop;

    open_shop(&shop, 100);
    for (int i = 1; i < WORKERS; i++)
        fall_asleep(&shop, i);
    cr_assert_eq(shop.lanes.due_ns, UINT64_MAX);
    push(&shop, 1);
    end_turn(&shop, false);
    cr_assert_eq(length(&shop, 0), 1);
    cr_assert_eq(count_woken(&shop), 0, "the one that is awake may come");
    cr_assert_neq(shop.lanes.due_ns, UINT64_MAX);
    end_turn(&shop, true);
    cr_assert_eq(count_woken(&shop), 1, "it did not");
    end_turn(&shop, true);
    cr_assert_eq(count_woken(&shop), 2, "nor did the other");
    cr_assert_eq(kn_lanes_pop(&shop.lanes, 0), item(0));
    end_turn(&shop, true);
    cr_assert_eq(count_woken(&shop), 2);
    cr_assert_eq(shop.lanes.due_ns, UINT64_MAX, "nothing is left to watch");
    close_shop(&shop);
}

Test(lanes, watch_nothing_while_nobody_sleeps)
{
    struct shop shop;

    open_shop(&shop, 100);
    push(&shop, 10);
    end_turn(&shop, false);
    cr_assert_eq(shop.lanes.due_ns, UINT64_MAX);
    close_shop(&shop);
}

Test(lanes, wait_again_before_they_judge_what_came_later)
{
    struct shop shop;

    open_shop(&shop, 100);
    fall_asleep(&shop, 3);
    push(&shop, 1);
    end_turn(&shop, false);
    cr_assert_not_null(kn_lanes_pop(&shop.lanes, 0));
    push(&shop, 1);
    end_turn(&shop, true);
    cr_assert_eq(count_woken(&shop), 0);
    cr_assert_neq(shop.lanes.due_ns, UINT64_MAX);
    end_turn(&shop, true);
    cr_assert_eq(count_woken(&shop), 1);
    close_shop(&shop);
}

Test(lanes, avoid_who_was_missed_until_it_comes)
{
    struct shop shop;
    int missed;

    open_shop(&shop, 100);
    fall_asleep(&shop, 3);
    push(&shop, 1);
    for (missed = 0; length(&shop, missed) == 0; missed++)
        ;
    end_turn(&shop, false);
    end_turn(&shop, true);
    cr_assert(is_woken(&shop, 3));
    cr_assert_not_null(kn_lanes_pop(&shop.lanes, 0));
    push(&shop, 20);
    cr_assert_eq(length(&shop, missed), 0, "though it is the shortest");
    kn_lane_visit(shop.own[missed]);
    push(&shop, 1);
    cr_assert_eq(length(&shop, missed), 1);
    close_shop(&shop);
}

Test(lanes, avoid_who_has_not_come_yet)
{
    struct shop shop;
    struct kn_lane *fresh;

    open_shop(&shop, 100);
    cr_assert_eq(kn_lanes_claim(&shop.lanes, &fresh), 0);
    push(&shop, 2 * WORKERS);
    cr_assert_eq(kn_lane_length(fresh), 0);
    close_shop(&shop);
}

Test(lanes, give_even_who_was_missed_what_nobody_else_can_take)
{
    struct kn_lanes lanes;
    struct kn_lane *own;

    cr_assert_eq(kn_lanes_init(&lanes, 3, true), 0);
    cr_assert_eq(kn_lanes_claim(&lanes, &own), 0);
    for (int i = 0; i < 3; i++)
        cr_assert(kn_lanes_push(&lanes, item(i)));
    cr_assert_eq(kn_lane_length(own), 3);
    while (kn_lanes_pop(&lanes, 0))
        ;
    kn_lanes_deinit(&lanes);
}

Test(lanes, hold_together_exactly_their_depth)
{
    struct shop shop;

    open_shop(&shop, 7);
    for (int round = 0; round < 3; round++) {
        push(&shop, 7);
        cr_assert_not(kn_lanes_push(&shop.lanes, item(7)));
        cr_assert_not_null(kn_lane_pop(shop.own[round]));
        push(&shop, 1);
        cr_assert_not(kn_lanes_push(&shop.lanes, item(7)));
        kn_lanes_give_up(&shop.lanes, shop.own[round]);
        cr_assert_not(kn_lanes_push(&shop.lanes, item(7)), "what lies in a lane left counts, too");
        while (kn_lanes_pop(&shop.lanes, 0))
            ;
        cr_assert(kn_lanes_empty(&shop.lanes));
    }
    close_shop(&shop);
}

Test(lanes, that_are_given_up_get_nothing_more_and_lose_nothing)
{
    struct shop shop;
    struct kn_lane *again;

    open_shop(&shop, 100);
    push(&shop, WORKERS);
    kn_lanes_give_up(&shop.lanes, shop.own[1]);
    push(&shop, 2 * WORKERS);
    cr_assert_eq(length(&shop, 1), 1);
    cr_assert_eq(kn_lanes_claim(&shop.lanes, &again), 0);
    cr_assert_eq(again, shop.own[1], "the next worker has it");
    for (int i = 0; i < 3 * WORKERS; i++)
        cr_assert_not_null(kn_lanes_pop(&shop.lanes, (unsigned)i));
    cr_assert_null(kn_lanes_pop(&shop.lanes, 0));
    close_shop(&shop);
}

Test(lanes, without_an_owner_wake_anybody)
{
    struct kn_lanes lanes;
    struct kn_parking parking;
    struct kn_parker parkers[3]; /* of another loop */
    int woken = 0;

    cr_assert_eq(kn_lanes_init(&lanes, 8, true), 0);
    kn_parking_init(&parking);
    for (int i = 0; i < 3; i++) {
        kn_parker_init(&parkers[i], NULL);
        kn_parking_enter(&parking, &parkers[i]);
    }
    cr_assert(kn_lanes_push(&lanes, item(0)));
    cr_assert(kn_lanes_push(&lanes, item(1)));
    kn_lanes_wake(&lanes, &parking, 0);
    for (int i = 0; i < 3; i++)
        woken += atomic_load(&parkers[i].bits) == KN_PARK_WOKEN;
    cr_assert_eq(woken, 2);
    while (kn_lanes_pop(&lanes, 0))
        ;
    for (int i = 0; i < 3; i++)
        kn_parking_leave(&parking, &parkers[i]);
    kn_parking_deinit(&parking);
    kn_lanes_deinit(&lanes);
}

Test(lanes, that_all_take_from_are_one_and_need_no_watch)
{
    struct kn_lanes lanes;
    struct kn_parking parking;
    struct kn_parker parkers[2];

    cr_assert_eq(kn_lanes_init(&lanes, 8, false), 0);
    kn_parking_init(&parking);
    for (int i = 0; i < 2; i++) {
        kn_parker_init(&parkers[i], NULL);
        kn_parking_enter(&parking, &parkers[i]);
    }
    cr_assert(kn_lanes_push(&lanes, item(0)));
    kn_lanes_wake(&lanes, &parking, 0);
    cr_assert_eq(atomic_load(&parking.count), 1);
    cr_assert_eq(lanes.due_ns, UINT64_MAX);
    cr_assert_eq(kn_lanes_pop(&lanes, 5), item(0));
    for (int i = 0; i < 2; i++)
        kn_parking_leave(&parking, &parkers[i]);
    kn_parking_deinit(&parking);
    kn_lanes_deinit(&lanes);
}

Test(lanes, are_no_more_than_their_bound)
{
    struct kn_lanes lanes;
    struct kn_lane *first;
    struct kn_lane *own;

    cr_assert_eq(kn_lanes_init(&lanes, 1, true), 0);
    cr_assert_eq(kn_lanes_claim(&lanes, &first), 0);
    for (int i = 1; i < KN_LANES_MOST; i++) {
        cr_assert_eq(kn_lanes_claim(&lanes, &own), 0);
        cr_assert_not_null(own);
    }
    cr_assert_eq(kn_lanes_claim(&lanes, &own), 0);
    cr_assert_null(own);
    kn_lanes_give_up(&lanes, first);
    cr_assert_eq(kn_lanes_claim(&lanes, &own), 0);
    cr_assert_eq(own, first);
    kn_lanes_deinit(&lanes);
}

/* One loop, which is the test, and workers that come and go while it pushes. */
struct race {
    struct kn_lanes lanes;
    struct kn_parking parking;
    pthread_mutex_t mutex; /* the server's */
    _Atomic bool closed;
    _Atomic bool overslept;
    _Atomic unsigned popped;
    _Atomic unsigned char times[ITEMS];
};

static struct kn_lane *claim(struct race *race)
{
    struct kn_lane *own;

    pthread_mutex_lock(&race->mutex);
    if (kn_lanes_claim(&race->lanes, &own) < 0)
        own = NULL;
    pthread_mutex_unlock(&race->mutex);
    return own;
}

static void give_up(struct race *race, struct kn_lane *own)
{
    pthread_mutex_lock(&race->mutex);
    kn_lanes_give_up(&race->lanes, own);
    pthread_mutex_unlock(&race->mutex);
    if (!kn_lanes_empty(&race->lanes))
        kn_parking_wake(&race->parking, 1);
}

static void sleep_once(struct race *race, struct kn_lane *own)
{
    struct kn_parker parker;

    kn_parker_init(&parker, &own->berth);
    kn_parking_enter(&race->parking, &parker);
    if (kn_lanes_empty(&race->lanes) && !atomic_load(&race->closed) &&
        !kn_parker_wait(&parker, kn_clock_ns() + 20ull * KN_NS_PER_S))
        atomic_store(&race->overslept, true);
    kn_parking_leave(&race->parking, &parker);
}

static void *come_and_go(void *context)
{
    struct race *race = context;

    while (!atomic_load(&race->closed)) {
        struct kn_lane *own = claim(race);

        for (int i = 0; own && i < CLAIM_EVERY && !atomic_load(&race->closed); i++) {
            struct kino_request *request;

            kn_lane_visit(own);
            request = kn_lane_pop(own);
            if (!request)
                request = kn_lanes_pop(&race->lanes, (unsigned)i);
            if (request) {
                atomic_fetch_add(&race->times[number_of(request)], 1);
                atomic_fetch_add(&race->popped, 1);
            } else {
                sleep_once(race, own);
            }
        }
        if (own)
            give_up(race, own);
    }
    return NULL;
}

static void turn(struct race *race)
{
    kn_lanes_wake(&race->lanes, &race->parking, kn_clock_ns());
}

Test(lanes, lose_nothing_and_no_wake_while_workers_come_and_go)
{
    static struct race race;
    pthread_t threads[WORKERS];
    const uint64_t deadline = kn_clock_ns() + 40ull * KN_NS_PER_S;

    cr_assert_eq(kn_lanes_init(&race.lanes, DEPTH, true), 0);
    kn_parking_init(&race.parking);
    pthread_mutex_init(&race.mutex, NULL);
    for (int i = 0; i < WORKERS; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, come_and_go, &race), 0);
    for (unsigned i = 0; i < ITEMS; i++) {
        while (!kn_lanes_push(&race.lanes, item((int)i))) {
            turn(&race);
            sched_yield();
        }
        if (i % 3 == 0)
            turn(&race);
        /* Wait now and then until all is taken, so that they fall asleep. */
        while (i % 32 == 0 && atomic_load(&race.popped) <= i) {
            cr_assert_lt(kn_clock_ns(), deadline, "item %u", i);
            turn(&race);
            sched_yield();
        }
    }
    while (atomic_load(&race.popped) < ITEMS) {
        cr_assert_lt(kn_clock_ns(), deadline);
        turn(&race);
        sched_yield();
    }
    atomic_store(&race.closed, true);
    kn_parking_wake(&race.parking, UINT64_MAX);
    for (int i = 0; i < WORKERS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < ITEMS; i++)
        cr_assert_eq(atomic_load(&race.times[i]), 1, "item %d", i);
    cr_assert_not(atomic_load(&race.overslept));
    cr_assert_leq(atomic_load(&race.lanes.count), WORKERS, "lanes that were left are used again");
    pthread_mutex_destroy(&race.mutex);
    kn_parking_deinit(&race.parking);
    kn_lanes_deinit(&race.lanes);
}
