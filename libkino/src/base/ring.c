/* SPDX-License-Identifier: MIT */
#include "base/ring.h"

#include "base/alloc.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

enum {
    GRAIN = KN_RING_OVERHEAD,
};

static_assert(sizeof(_Atomic uint64_t) == GRAIN, "a record's length fits in front of it");

int kn_ring_init(struct kn_ring *ring, uint64_t capacity)
{
    uint64_t size = GRAIN;

    while (size < capacity)
        size *= 2;
    ring->bytes = kn_alloc_zeroed(size);
    if (!ring->bytes)
        return -ENOMEM;
    ring->capacity = size;
    atomic_init(&ring->head, 0);
    atomic_init(&ring->tail, 0);
    return 0;
}

void kn_ring_deinit(struct kn_ring *ring)
{
    kn_free(ring->bytes);
    ring->bytes = NULL;
}

/* What a record of `len` bytes takes up. */
static uint64_t extent(size_t len)
{
    return GRAIN + ((uint64_t)len + GRAIN - 1) / GRAIN * GRAIN;
}

/* The word in front of the record at this position. */
static _Atomic uint64_t *length_at(const struct kn_ring *ring, uint64_t position)
{
    return (_Atomic uint64_t *)(void *)(ring->bytes + (position & (ring->capacity - 1)));
}

/* How many of `len` bytes lie before the end of the memory. */
static size_t before_end(const struct kn_ring *ring, uint64_t position, size_t len)
{
    const uint64_t room = ring->capacity - (position & (ring->capacity - 1));

    return len < room ? len : (size_t)room;
}

static void copy_in(struct kn_ring *ring, uint64_t position, const char *data, size_t len)
{
    const size_t first = before_end(ring, position, len);

    memcpy(ring->bytes + (position & (ring->capacity - 1)), data, first);
    memcpy(ring->bytes, data + first, len - first);
}

static void copy_out(const struct kn_ring *ring, uint64_t position, char *out, size_t len)
{
    const size_t first = before_end(ring, position, len);

    memcpy(out, ring->bytes + (position & (ring->capacity - 1)), first);
    memcpy(out + first, ring->bytes, len - first);
}

static void zero(struct kn_ring *ring, uint64_t position, size_t len)
{
    const size_t first = before_end(ring, position, len);

    memset(ring->bytes + (position & (ring->capacity - 1)), 0, first);
    memset(ring->bytes, 0, len - first);
}

bool kn_ring_push(struct kn_ring *ring, const void *data, size_t len)
{
    const uint64_t size = extent(len);
    uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);

    assert(len > 0);
    if (len > ring->capacity - GRAIN)
        return false;
    do {
        /* The head after the tail: if this tail is still the tail below, it was full or not at the
         * moment of this load. */
        const uint64_t head = atomic_load_explicit(&ring->head, memory_order_acquire);

        if (tail + size > head + ring->capacity)
            return false;
    } while (!atomic_compare_exchange_weak_explicit(&ring->tail, &tail, tail + size,
                                                    memory_order_relaxed, memory_order_relaxed));
    copy_in(ring, tail + GRAIN, data, len);
    atomic_store(length_at(ring, tail), len);
    return true;
}

uint64_t kn_ring_used(const struct kn_ring *ring)
{
    const uint64_t head = atomic_load_explicit(&ring->head, memory_order_acquire);

    return atomic_load_explicit(&ring->tail, memory_order_relaxed) - head;
}

size_t kn_ring_next(struct kn_ring *ring)
{
    return (size_t)atomic_load(
        length_at(ring, atomic_load_explicit(&ring->head, memory_order_relaxed)));
}

void kn_ring_pop(struct kn_ring *ring, void *out, size_t len)
{
    const uint64_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    const uint64_t size = extent(len);

    assert(len == kn_ring_next(ring) && len > 0);
    copy_out(ring, head + GRAIN, out, len);
    zero(ring, head, (size_t)size);
    atomic_store_explicit(&ring->head, head + size, memory_order_release);
}
