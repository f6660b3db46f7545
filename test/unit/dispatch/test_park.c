/* SPDX-License-Identifier: MIT */
#include "dispatch/park.h"

#include "base/clock.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "support/test.h"

enum {
    SLEEPERS = 3,
    PIECES = 100000, /* of work */
    ROUNDS = 20000,
};

static uint64_t in_ms(uint64_t ms)
{
    return kn_clock_ns() + ms * KN_NS_PER_MS;
}

/* A wait that must end at once, and fails the test if it does not. */
static uint32_t bits_of(struct kn_parker *parker)
{
    return kn_parker_wait(parker, in_ms(10000));
}

Test(park, wakes_the_last_to_sleep_first_and_no_more_than_asked)
{
    struct kn_parking parking;
    struct kn_parker parkers[3];

    kn_parking_init(&parking);
    for (int i = 0; i < 3; i++) {
        kn_parker_init(&parkers[i], NULL);
        kn_parking_enter(&parking, &parkers[i]);
    }
    kn_parking_wake(&parking, 0);
    kn_parking_wake(&parking, 2);
    cr_assert_eq(kn_parker_wait(&parkers[0], 0), 0, "the longest asleep sleeps on");
    cr_assert_eq(bits_of(&parkers[1]), KN_PARK_WOKEN);
    cr_assert_eq(bits_of(&parkers[2]), KN_PARK_WOKEN);
    kn_parking_wake(&parking, 10);
    cr_assert_eq(bits_of(&parkers[0]), KN_PARK_WOKEN);
    cr_assert_eq(atomic_load(&parking.count), 0);
    for (int i = 0; i < 3; i++)
        kn_parking_leave(&parking, &parkers[i]);
    cr_assert_eq(atomic_load(&parking.count), 0);
    kn_parking_deinit(&parking);
}

Test(park, who_left_is_not_woken)
{
    struct kn_parking parking;
    struct kn_parker stays;
    struct kn_parker leaves;

    kn_parking_init(&parking);
    kn_parker_init(&stays, NULL);
    kn_parker_init(&leaves, NULL);
    kn_parking_enter(&parking, &stays);
    kn_parking_enter(&parking, &leaves);
    kn_parking_leave(&parking, &leaves);
    kn_parking_wake(&parking, 1);
    cr_assert_eq(kn_parker_wait(&leaves, 0), 0);
    cr_assert_eq(bits_of(&stays), KN_PARK_WOKEN);
    kn_parking_leave(&parking, &stays);
    kn_parking_deinit(&parking);
}

Test(park, leaving_takes_back_a_wake_that_came_meanwhile_but_no_interrupt)
{
    struct kn_parking parking;
    struct kn_parker parker;

    kn_parking_init(&parking);
    kn_parker_init(&parker, NULL);
    kn_parking_enter(&parking, &parker);
    kn_parking_wake(&parking, 1);
    kn_parker_interrupt(&parker);
    kn_parking_leave(&parking, &parker);
    cr_assert_eq(bits_of(&parker), KN_PARK_INTERRUPTED);
    cr_assert_eq(kn_parker_clear(&parker, KN_PARK_INTERRUPTED), KN_PARK_INTERRUPTED);
    cr_assert_eq(kn_parker_wait(&parker, 0), 0);
    kn_parking_deinit(&parking);
}

Test(park, an_interrupt_is_sticky_and_several_are_one)
{
    struct kn_parker parker;

    kn_parker_init(&parker, NULL);
    for (int i = 0; i < 3; i++)
        kn_parker_interrupt(&parker);
    cr_assert_eq(bits_of(&parker), KN_PARK_INTERRUPTED);
    cr_assert_eq(bits_of(&parker), KN_PARK_INTERRUPTED, "it stays until it is cleared");
    cr_assert_eq(kn_parker_clear(&parker, KN_PARK_INTERRUPTED), KN_PARK_INTERRUPTED);
    cr_assert_eq(kn_parker_clear(&parker, KN_PARK_INTERRUPTED), 0);
}

Test(park, a_wait_ends_at_its_deadline_and_not_before)
{
    struct kn_parker parker;
    const uint64_t deadline = in_ms(30);

    kn_parker_init(&parker, NULL);
    cr_assert_eq(kn_parker_wait(&parker, deadline), 0);
    cr_assert_geq(kn_clock_ns(), deadline);
}

/* A sleeper at a place of its own. */
struct berthed {
    struct kn_berth berth;
    struct kn_parker parker;
};

static void lie_down(struct kn_parking *parking, struct berthed *berthed)
{
    kn_berth_init(&berthed->berth);
    kn_parker_init(&berthed->parker, &berthed->berth);
    cr_assert_eq(atomic_load(&berthed->berth.asleep), 0);
    kn_parking_enter(parking, &berthed->parker);
}

Test(park, a_berth_tells_that_one_sleeps_there_and_who_fell_asleep_last)
{
    struct kn_parking parking;
    struct berthed first;
    struct berthed second;

    kn_parking_init(&parking);
    lie_down(&parking, &first);
    lie_down(&parking, &second);
    cr_assert_gt(atomic_load(&first.berth.asleep), 0);
    cr_assert_gt(atomic_load(&second.berth.asleep), atomic_load(&first.berth.asleep));
    kn_parking_wake(&parking, 1);
    cr_assert_eq(atomic_load(&second.berth.asleep), 0, "woken");
    kn_parking_leave(&parking, &first.parker);
    cr_assert_eq(atomic_load(&first.berth.asleep), 0, "left");
    kn_parking_leave(&parking, &second.parker);
    kn_parking_deinit(&parking);
}

Test(park, wakes_who_sleeps_at_the_berths_and_others_each_once)
{
    struct kn_parking parking;
    struct berthed sleepers[5];
    struct berthed awake;
    struct kn_list berths;

    kn_parking_init(&parking);
    kn_list_init(&berths);
    kn_berth_init(&awake.berth);
    for (int i = 0; i < 5; i++)
        lie_down(&parking, &sleepers[i]);
    kn_list_append(&berths, &sleepers[1].berth.wake);
    kn_list_append(&berths, &awake.berth.wake);
    kn_list_append(&berths, &sleepers[4].berth.wake);
    cr_assert_eq(kn_parking_wake_at(&parking, &berths, 1), 2, "so many sleep on");
    cr_assert(kn_list_empty(&berths));
    cr_assert(kn_list_empty(&awake.berth.wake));
    for (int i = 0; i < 5; i++) {
        const bool woken = i == 1 || i == 3 || i == 4;

        cr_assert_eq(atomic_load(&sleepers[i].parker.bits), woken ? KN_PARK_WOKEN : 0, "%d", i);
    }
    kn_list_append(&berths, &sleepers[4].berth.wake);
    cr_assert_eq(kn_parking_wake_at(&parking, &berths, 0), 2, "nobody sleeps there any more");
    for (int i = 0; i < 5; i++)
        kn_parking_leave(&parking, &sleepers[i].parker);
    kn_list_append(&berths, &sleepers[0].berth.wake);
    cr_assert_eq(kn_parking_wake_at(&parking, &berths, 9), 0);
    cr_assert(kn_list_empty(&berths), "emptied though nobody sleeps at all");
    kn_parking_deinit(&parking);
}

/* Pieces of work, published by the test, done by sleepers: no wake may be lost. */
struct shop {
    struct kn_parking parking;
    _Atomic uint64_t published;
    _Atomic uint64_t done;
    _Atomic bool closed;
    _Atomic bool overslept;
};

static bool take_piece(struct shop *shop)
{
    uint64_t done = atomic_load(&shop->done);

    while (done < atomic_load(&shop->published))
        if (atomic_compare_exchange_weak(&shop->done, &done, done + 1))
            return true;
    return false;
}

static void *work(void *context)
{
    struct shop *shop = context;
    struct kn_parker parker;

    kn_parker_init(&parker, NULL);
    while (!atomic_load(&shop->closed)) {
        if (take_piece(shop))
            continue;
        kn_parking_enter(&shop->parking, &parker);
        if (atomic_load(&shop->done) == atomic_load(&shop->published) &&
            !atomic_load(&shop->closed) && !kn_parker_wait(&parker, in_ms(20000)))
            atomic_store(&shop->overslept, true);
        kn_parking_leave(&shop->parking, &parker);
    }
    return NULL;
}

Test(park, no_wake_is_lost)
{
    static struct shop shop;
    pthread_t threads[SLEEPERS];
    const uint64_t deadline = in_ms(20000);

    kn_parking_init(&shop.parking);
    for (int i = 0; i < SLEEPERS; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, work, &shop), 0);
    while (atomic_load(&shop.published) < PIECES) {
        const uint64_t published = atomic_fetch_add(&shop.published, 1) + 1;

        kn_parking_wake(&shop.parking, 1);
        /* Wait now and then until all is done, so that they fall asleep. */
        while (published % 8 == 0 && atomic_load(&shop.done) < published) {
            cr_assert_lt(kn_clock_ns(), deadline, "piece %lu", (unsigned long)published);
            sched_yield();
        }
    }
    atomic_store(&shop.closed, true);
    kn_parking_wake(&shop.parking, UINT64_MAX);
    for (int i = 0; i < SLEEPERS; i++)
        pthread_join(threads[i], NULL);
    cr_assert_eq(atomic_load(&shop.done), PIECES);
    cr_assert_not(atomic_load(&shop.overslept));
    kn_parking_deinit(&shop.parking);
}

struct waiter {
    struct kn_parker parker;
    _Atomic int interrupted;
    _Atomic bool overslept;
};

static void *be_interrupted(void *context)
{
    struct waiter *waiter = context;

    for (int i = 0; i < ROUNDS; i++) {
        if (!kn_parker_wait(&waiter->parker, in_ms(20000)))
            atomic_store(&waiter->overslept, true);
        kn_parker_clear(&waiter->parker, KN_PARK_INTERRUPTED);
        atomic_fetch_add(&waiter->interrupted, 1);
    }
    return NULL;
}

Test(park, no_interrupt_is_lost)
{
    static struct waiter waiter;
    pthread_t thread;

    kn_parker_init(&waiter.parker, NULL);
    cr_assert_eq(pthread_create(&thread, NULL, be_interrupted, &waiter), 0);
    for (int i = 0; i < ROUNDS; i++) {
        kn_parker_interrupt(&waiter.parker);
        while (atomic_load(&waiter.interrupted) == i)
            sched_yield();
    }
    pthread_join(thread, NULL);
    cr_assert_not(atomic_load(&waiter.overslept));
}
