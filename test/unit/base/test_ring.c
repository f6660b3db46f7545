/* SPDX-License-Identifier: MIT */
#include "base/ring.h"

#include <pthread.h>
#include <sched.h>
#include <string.h>

#include "support/test.h"

enum {
    PRODUCERS = 4,
    RECORDS = 50000, /* of each producer */
    LONGEST = 61,
};

static void assert_pops(struct kn_ring *ring, const char *text)
{
    char data[512];

    cr_assert_eq(kn_ring_next(ring), strlen(text));
    kn_ring_pop(ring, data, strlen(text));
    cr_assert_arr_eq(data, text, strlen(text));
}

static bool push(struct kn_ring *ring, const char *text)
{
    return kn_ring_push(ring, text, strlen(text));
}

Test(ring, gives_back_records_in_order)
{
    struct kn_ring ring;

    cr_assert_eq(kn_ring_init(&ring, 256), 0);
    cr_assert_eq(kn_ring_next(&ring), 0);
    cr_assert_eq(kn_ring_used(&ring), 0);
    cr_assert(push(&ring, "a"));
    cr_assert(push(&ring, "eight by"));
    cr_assert(push(&ring, "and a longer one"));
    cr_assert_eq(kn_ring_used(&ring), 16 + 16 + 24);
    assert_pops(&ring, "a");
    assert_pops(&ring, "eight by");
    assert_pops(&ring, "and a longer one");
    cr_assert_eq(kn_ring_next(&ring), 0);
    cr_assert_eq(kn_ring_used(&ring), 0);
    kn_ring_deinit(&ring);
}

Test(ring, rounds_its_capacity_up)
{
    struct kn_ring ring;

    cr_assert_eq(kn_ring_init(&ring, 65), 0);
    cr_assert_eq(ring.capacity, 128);
    kn_ring_deinit(&ring);
    cr_assert_eq(kn_ring_init(&ring, 1), 0);
    cr_assert_eq(ring.capacity, 8);
    cr_assert_not(kn_ring_push(&ring, "a", 1), "there is no room for any");
    kn_ring_deinit(&ring);
}

/* With records of every length at every position, whatever the memory held before. */
Test(ring, a_record_may_go_on_at_the_start_of_the_memory)
{
    char data[128];
    char out[128];
    struct kn_ring ring;

    memset(data, 0xff, sizeof(data));
    cr_assert_eq(kn_ring_init(&ring, 128), 0);
    for (size_t len = 1; len <= 120; len++) {
        for (unsigned place = 0; place < 16; place++) {
            cr_assert(kn_ring_push(&ring, data, len), "%zu bytes", len);
            cr_assert_eq(kn_ring_next(&ring), len);
            memset(out, 0, sizeof(out));
            kn_ring_pop(&ring, out, len);
            cr_assert_arr_eq(out, data, len);
            cr_assert_eq(kn_ring_next(&ring), 0, "no trace of what was there");
            cr_assert(kn_ring_push(&ring, data, 1));
            kn_ring_pop(&ring, out, 1);
        }
        cr_assert(kn_ring_push(&ring, data, 9)); /* so that the next begin elsewhere */
        kn_ring_pop(&ring, out, 9);
    }
    kn_ring_deinit(&ring);
}

Test(ring, refuses_what_has_no_room)
{
    char data[121] = {1};
    char out[121];
    struct kn_ring ring;

    cr_assert_eq(kn_ring_init(&ring, 128), 0);
    cr_assert_not(kn_ring_push(&ring, data, 121), "longer than all of it");
    cr_assert_not(kn_ring_push(&ring, data, SIZE_MAX));
    for (unsigned round = 0; round < 5; round++) {
        for (unsigned i = 0; i < 5; i++)
            cr_assert(kn_ring_push(&ring, data, 16));
        cr_assert_not(kn_ring_push(&ring, data, 1), "8 bytes are left");
        kn_ring_pop(&ring, out, 16);
        cr_assert_not(kn_ring_push(&ring, data, 25), "one more than there is");
        cr_assert(kn_ring_push(&ring, data, 24));
        cr_assert_eq(kn_ring_used(&ring), 128);
        for (unsigned i = 0; i < 4; i++)
            kn_ring_pop(&ring, out, 16);
        kn_ring_pop(&ring, out, 24);
    }
    cr_assert(kn_ring_push(&ring, data, 120), "all of it");
    cr_assert_not(kn_ring_push(&ring, data, 1));
    kn_ring_deinit(&ring);
}

/* Several producers, and one consumer, which is the test. */
struct race {
    struct kn_ring ring;
    _Atomic unsigned next_producer;
    _Atomic uint64_t full; /* pushes that found no room */
};

/* Who made it, which it is, and bytes that tell whether it is whole. */
struct record {
    unsigned producer;
    unsigned number;
    unsigned char bytes[LONGEST];
};

static size_t length_of(unsigned number)
{
    return offsetof(struct record, bytes) + number % LONGEST;
}

static void *produce(void *context)
{
    struct race *race = context;
    struct record record = {.producer = atomic_fetch_add(&race->next_producer, 1)};

    for (; record.number < RECORDS; record.number++) {
        memset(record.bytes, (int)(record.number ^ record.producer), sizeof(record.bytes));
        while (!kn_ring_push(&race->ring, &record, length_of(record.number))) {
            atomic_fetch_add(&race->full, 1);
            sched_yield();
        }
    }
    return NULL;
}

static void assert_whole(const struct record *record, size_t len)
{
    cr_assert_eq(len, length_of(record->number));
    for (size_t i = 0; i < len - offsetof(struct record, bytes); i++)
        cr_assert_eq(record->bytes[i], (unsigned char)(record->number ^ record->producer));
}

Test(ring, records_of_several_come_whole_and_in_the_order_of_each)
{
    static struct race race;
    unsigned next[PRODUCERS] = {0};
    pthread_t threads[PRODUCERS];
    struct record record;
    size_t len;

    cr_assert_eq(kn_ring_init(&race.ring, 1024), 0);
    for (int i = 0; i < PRODUCERS; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, produce, &race), 0);
    for (unsigned popped = 0; popped < PRODUCERS * RECORDS;) {
        len = kn_ring_next(&race.ring);
        if (len == 0) {
            sched_yield();
            continue;
        }
        kn_ring_pop(&race.ring, &record, len);
        popped++;
        cr_assert_lt(record.producer, PRODUCERS);
        cr_assert_eq(record.number, next[record.producer]);
        next[record.producer]++;
        assert_whole(&record, len);
        cr_assert_leq(kn_ring_used(&race.ring), race.ring.capacity);
    }
    for (int i = 0; i < PRODUCERS; i++)
        pthread_join(threads[i], NULL);
    cr_assert_eq(kn_ring_used(&race.ring), 0);
    cr_assert_gt(atomic_load(&race.full), 0, "it was full now and then");
    kn_ring_deinit(&race.ring);
}
