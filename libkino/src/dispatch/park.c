/* SPDX-License-Identifier: MIT */
#include "dispatch/park.h"

#include "base/clock.h"
#include "base/futex.h"

void kn_parking_init(struct kn_parking *parking)
{
    pthread_mutex_init(&parking->mutex, NULL);
    kn_list_init(&parking->idle);
    atomic_init(&parking->count, 0);
}

void kn_parking_deinit(struct kn_parking *parking)
{
    pthread_mutex_destroy(&parking->mutex);
}

static void set_bits(struct kn_parker *parker, uint32_t bits)
{
    if ((atomic_fetch_or(&parker->bits, bits) & bits) != bits)
        kn_futex_wake(&parker->bits, 1);
}

void kn_parking_wake(struct kn_parking *parking, uint64_t count)
{
    /* Pairs with the count in kn_parking_enter: either we see the sleeper, or it sees the work that
     * the caller has published. */
    atomic_thread_fence(memory_order_seq_cst);
    if (count == 0 || atomic_load(&parking->count) == 0)
        return;
    pthread_mutex_lock(&parking->mutex);
    for (; count > 0; count--) {
        struct kn_list *link = kn_list_shift(&parking->idle);

        if (!link)
            break;
        atomic_fetch_sub(&parking->count, 1);
        /* Under the mutex: the sleeper cannot leave, and so not be freed, before this is done. */
        set_bits(kn_container_of(link, struct kn_parker, idle), KN_PARK_WOKEN);
    }
    pthread_mutex_unlock(&parking->mutex);
}

void kn_parker_init(struct kn_parker *parker)
{
    atomic_init(&parker->bits, 0);
    kn_list_init(&parker->idle);
}

void kn_parking_enter(struct kn_parking *parking, struct kn_parker *parker)
{
    pthread_mutex_lock(&parking->mutex);
    kn_list_prepend(&parking->idle, &parker->idle);
    atomic_fetch_add(&parking->count, 1);
    pthread_mutex_unlock(&parking->mutex);
    atomic_thread_fence(memory_order_seq_cst);
}

void kn_parking_leave(struct kn_parking *parking, struct kn_parker *parker)
{
    pthread_mutex_lock(&parking->mutex);
    if (!kn_list_empty(&parker->idle)) {
        kn_list_remove(&parker->idle);
        atomic_fetch_sub(&parking->count, 1);
    }
    pthread_mutex_unlock(&parking->mutex);
    kn_parker_clear(parker, KN_PARK_WOKEN);
}

uint32_t kn_parker_wait(struct kn_parker *parker, uint64_t deadline_ns)
{
    uint32_t bits;

    while (!(bits = atomic_load(&parker->bits))) {
        if (deadline_ns != UINT64_MAX && kn_clock_ns() >= deadline_ns)
            break;
        kn_futex_wait(&parker->bits, 0, deadline_ns);
    }
    return bits;
}

uint32_t kn_parker_clear(struct kn_parker *parker, uint32_t bits)
{
    return atomic_fetch_and(&parker->bits, ~bits) & bits;
}

void kn_parker_interrupt(struct kn_parker *parker)
{
    set_bits(parker, KN_PARK_INTERRUPTED);
}
