/* SPDX-License-Identifier: MIT */
#include "dispatch/lane.h"

#include "base/alloc.h"

#include <errno.h>

int kn_lane_init(struct kn_lane *lane, uint64_t depth)
{
    uint64_t size = 1;

    while (size < depth)
        size *= 2;
    lane->slots = kn_alloc_zeroed(size * sizeof(*lane->slots));
    if (!lane->slots)
        return -ENOMEM;
    atomic_init(&lane->head, 0);
    atomic_init(&lane->visits, 0);
    atomic_init(&lane->tail, 0);
    atomic_init(&lane->owned, false);
    lane->mask = size - 1;
    lane->depth = depth;
    lane->mark = 0;
    lane->missed = 0; /* nobody has come yet */
    kn_berth_init(&lane->berth);
    return 0;
}

void kn_lane_deinit(struct kn_lane *lane)
{
    kn_free(lane->slots);
    lane->slots = NULL;
}

bool kn_lane_push(struct kn_lane *lane, struct kino_request *request)
{
    const uint64_t tail = atomic_load_explicit(&lane->tail, memory_order_relaxed);

    if (kn_lane_length(lane) >= lane->depth)
        return false;
    atomic_store_explicit(&lane->slots[tail & lane->mask], request, memory_order_relaxed);
    atomic_store_explicit(&lane->tail, tail + 1, memory_order_release);
    return true;
}

uint64_t kn_lane_length(struct kn_lane *lane)
{
    return atomic_load_explicit(&lane->tail, memory_order_relaxed) -
           atomic_load_explicit(&lane->head, memory_order_acquire);
}

struct kino_request *kn_lane_pop(struct kn_lane *lane)
{
    uint64_t head = atomic_load_explicit(&lane->head, memory_order_acquire);

    while (head != atomic_load_explicit(&lane->tail, memory_order_acquire)) {
        /* The slot may be overwritten once `head` has moved on; then the exchange below fails,
         * because `head` never returns to a value it had. */
        struct kino_request *request =
            atomic_load_explicit(&lane->slots[head & lane->mask], memory_order_relaxed);

        if (atomic_compare_exchange_weak_explicit(&lane->head, &head, head + 1,
                                                  memory_order_acq_rel, memory_order_acquire))
            return request;
    }
    return NULL;
}

bool kn_lane_empty(struct kn_lane *lane)
{
    return atomic_load(&lane->head) == atomic_load(&lane->tail);
}

uint64_t kn_lane_count(const struct kn_lane *lane)
{
    /* The head first: the tail that is read after it is never behind it. */
    const uint64_t head = atomic_load_explicit(&lane->head, memory_order_acquire);
    const uint64_t count = atomic_load_explicit(&lane->tail, memory_order_acquire) - head;

    return count < lane->depth ? count : lane->depth;
}

void kn_lane_visit(struct kn_lane *lane)
{
    const uint64_t visits = atomic_load_explicit(&lane->visits, memory_order_relaxed);

    atomic_store_explicit(&lane->visits, visits + 1, memory_order_relaxed);
}
