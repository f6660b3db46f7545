/* SPDX-License-Identifier: MIT */
#include "dispatch/park.h"

#include "base/clock.h"
#include "base/futex.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

void kn_parking_init(struct kn_parking *parking)
{
    pthread_mutex_init(&parking->mutex, NULL);
    kn_list_init(&parking->idle);
    parking->sleeps = 0;
    atomic_init(&parking->count, 0);
}

void kn_parking_deinit(struct kn_parking *parking)
{
    pthread_mutex_destroy(&parking->mutex);
}

static void set_bits(struct kn_parker *parker, uint32_t bits)
{
    int event_fd;

    if ((atomic_fetch_or(&parker->bits, bits) & bits) == bits)
        return;
    kn_futex_wake(&parker->bits, 1);
    event_fd = atomic_load(&parker->event_fd);
    if (event_fd >= 0)
        (void)!write(event_fd, &(uint64_t){1}, sizeof(uint64_t));
}

/* Take it off the idle list. Under the mutex. */
static void get_up(struct kn_parking *parking, struct kn_parker *parker)
{
    kn_list_remove(&parker->idle);
    atomic_fetch_sub(&parking->count, 1);
    if (!parker->berth)
        return;
    parker->berth->sleeper = NULL;
    atomic_store_explicit(&parker->berth->asleep, 0, memory_order_relaxed);
}

/* Under the mutex: the sleeper cannot leave, and so not be freed, before this is done. */
static void wake(struct kn_parking *parking, struct kn_parker *parker)
{
    get_up(parking, parker);
    set_bits(parker, KN_PARK_WOKEN);
}

static void wake_berths(struct kn_parking *parking, struct kn_list *berths)
{
    struct kn_list *link;

    while ((link = kn_list_shift(berths))) {
        struct kn_berth *berth = kn_container_of(link, struct kn_berth, wake);

        if (berth->sleeper)
            wake(parking, berth->sleeper);
    }
}

static void forget_berths(struct kn_list *berths)
{
    while (kn_list_shift(berths))
        ;
}

uint32_t kn_parking_wake_at(struct kn_parking *parking, struct kn_list *berths, uint64_t others)
{
    uint32_t count;

    /* Pairs with the fence in kn_parking_enter: either we see the sleeper, or it sees the work that
     * the caller has published. */
    atomic_thread_fence(memory_order_seq_cst);
    count = atomic_load(&parking->count);
    if (count == 0 || (others == 0 && kn_list_empty(berths))) {
        forget_berths(berths);
        return count;
    }
    pthread_mutex_lock(&parking->mutex);
    wake_berths(parking, berths);
    for (; others > 0 && !kn_list_empty(&parking->idle); others--)
        wake(parking, kn_container_of(parking->idle.next, struct kn_parker, idle));
    count = atomic_load(&parking->count);
    pthread_mutex_unlock(&parking->mutex);
    return count;
}

void kn_parking_wake(struct kn_parking *parking, uint64_t count)
{
    struct kn_list nowhere;

    kn_list_init(&nowhere);
    kn_parking_wake_at(parking, &nowhere, count);
}

void kn_berth_init(struct kn_berth *berth)
{
    atomic_init(&berth->asleep, 0);
    berth->sleeper = NULL;
    kn_list_init(&berth->wake);
}

void kn_parker_init(struct kn_parker *parker, struct kn_berth *berth)
{
    atomic_init(&parker->bits, 0);
    parker->berth = berth;
    atomic_init(&parker->event_fd, -1);
    kn_list_init(&parker->idle);
}

void kn_parker_deinit(struct kn_parker *parker)
{
    const int event_fd = atomic_load(&parker->event_fd);

    if (event_fd >= 0)
        close(event_fd);
}

int kn_parker_fd(struct kn_parker *parker)
{
    int event_fd = atomic_load(&parker->event_fd);

    if (event_fd >= 0)
        return event_fd;
    event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (event_fd < 0)
        return -errno;
    atomic_store(&parker->event_fd, event_fd);
    return event_fd;
}

void kn_parker_hush(struct kn_parker *parker)
{
    const int event_fd = atomic_load(&parker->event_fd);

    if (event_fd >= 0)
        (void)!read(event_fd, &(uint64_t){0}, sizeof(uint64_t));
}

void kn_parking_enter(struct kn_parking *parking, struct kn_parker *parker)
{
    pthread_mutex_lock(&parking->mutex);
    kn_list_prepend(&parking->idle, &parker->idle);
    if (parker->berth) {
        parker->berth->sleeper = parker;
        atomic_store_explicit(&parker->berth->asleep, ++parking->sleeps, memory_order_relaxed);
    }
    atomic_fetch_add(&parking->count, 1);
    pthread_mutex_unlock(&parking->mutex);
    atomic_thread_fence(memory_order_seq_cst);
}

void kn_parking_leave(struct kn_parking *parking, struct kn_parker *parker)
{
    pthread_mutex_lock(&parking->mutex);
    if (!kn_list_empty(&parker->idle))
        get_up(parking, parker);
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
    const int held = errno;

    set_bits(parker, KN_PARK_INTERRUPTED);
    errno = held;
}
