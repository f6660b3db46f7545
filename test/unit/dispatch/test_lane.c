/* SPDX-License-Identifier: MIT */
#include "dispatch/lane.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "support/test.h"

enum {
    CONSUMERS = 4,
    ITEMS = 200000,
    DEPTH = 48, /* no power of two */
};

/* A lane carries pointers and looks into none. */
static char items[ITEMS];

static struct kino_request *item(int number)
{
    return (struct kino_request *)(void *)&items[number];
}

static int number_of(struct kino_request *request)
{
    return (int)((char *)request - items);
}

Test(lane, gives_back_what_was_pushed_in_order)
{
    struct kn_lane lane;

    cr_assert_eq(kn_lane_init(&lane, 8), 0);
    cr_assert(kn_lane_empty(&lane));
    cr_assert_null(kn_lane_pop(&lane));
    for (int round = 0; round < 5; round++) {
        for (int i = 0; i < 5; i++)
            cr_assert(kn_lane_push(&lane, item(i)));
        cr_assert_not(kn_lane_empty(&lane));
        for (int i = 0; i < 5; i++)
            cr_assert_eq(kn_lane_pop(&lane), item(i));
        cr_assert_null(kn_lane_pop(&lane));
        cr_assert(kn_lane_empty(&lane));
    }
    kn_lane_deinit(&lane);
}

Test(lane, holds_exactly_its_depth)
{
    static const uint64_t depths[] = {1, 2, 3, 7, 8, 9, 1000, 1024};

    for (size_t i = 0; i < sizeof(depths) / sizeof(depths[0]); i++) {
        struct kn_lane lane;

        cr_assert_eq(kn_lane_init(&lane, depths[i]), 0);
        for (int round = 0; round < 3; round++) {
            for (uint64_t n = 0; n < depths[i]; n++)
                cr_assert(kn_lane_push(&lane, item((int)n)), "place %lu of %lu", (unsigned long)n,
                          (unsigned long)depths[i]);
            cr_assert_not(kn_lane_push(&lane, item(0)), "more than %lu", (unsigned long)depths[i]);
            cr_assert_eq(kn_lane_pop(&lane), item(0));
            cr_assert(kn_lane_push(&lane, item(0)), "there is room for one again");
            while (kn_lane_pop(&lane))
                ;
        }
        kn_lane_deinit(&lane);
    }
}

/* One producer, which is the test, and many consumers. */
struct race {
    struct kn_lane lane;
    _Atomic bool done;
    _Atomic unsigned char popped[ITEMS];
    _Atomic bool out_of_order;
};

static void *consume(void *context)
{
    struct race *race = context;
    int last = -1;

    for (;;) {
        const bool done = atomic_load(&race->done);
        struct kino_request *request = kn_lane_pop(&race->lane);

        if (request) {
            atomic_fetch_add(&race->popped[number_of(request)], 1);
            if (number_of(request) <= last)
                atomic_store(&race->out_of_order, true);
            last = number_of(request);
        } else if (done) {
            return NULL;
        } else {
            sched_yield();
        }
    }
}

Test(lane, each_item_is_popped_once_by_one_of_many)
{
    static struct race race;
    pthread_t threads[CONSUMERS];

    cr_assert_eq(kn_lane_init(&race.lane, DEPTH), 0);
    for (int i = 0; i < CONSUMERS; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, consume, &race), 0);
    for (int i = 0; i < ITEMS; i++)
        while (!kn_lane_push(&race.lane, item(i)))
            sched_yield();
    atomic_store(&race.done, true);
    for (int i = 0; i < CONSUMERS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < ITEMS; i++)
        cr_assert_eq(atomic_load(&race.popped[i]), 1, "item %d", i);
    cr_assert_not(atomic_load(&race.out_of_order), "each consumer sees them in order");
    cr_assert(kn_lane_empty(&race.lane));
    kn_lane_deinit(&race.lane);
}
