/* SPDX-License-Identifier: MIT */
#ifndef KN_BASE_RING_H
#define KN_BASE_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * A bounded queue of records, each a run of bytes: any thread pushes, one pops. Shared.
 *
 * A producer reserves by moving `tail`, copies, and commits by storing the record's length in front
 * of it, where there was 0. So the consumer asks the memory alone: what is not committed is 0,
 * because it zeroes what it has popped before it moves `head`. A record begins at a multiple of 8
 * and may continue at the start of the memory. Both positions only grow.
 */
struct kn_ring {
    _Atomic uint64_t head; /* the consumer's; release on pop, acquire on push */
    char apart[64];        /* so that the two are in lines of their own */
    _Atomic uint64_t tail; /* the producers'; relaxed */
    char *bytes;           /* constant, like the capacity, which is a power of two */
    uint64_t capacity;
};

enum {
    KN_RING_OVERHEAD = 8, /* of a record, which is rounded up to as much again */
};

/* At least so many bytes. 0 or -ENOMEM. */
int kn_ring_init(struct kn_ring *ring, uint64_t capacity);
void kn_ring_deinit(struct kn_ring *ring);

/* Any thread; lock-free. `len` is not 0. False: there is no room. */
bool kn_ring_push(struct kn_ring *ring, const void *data, size_t len);

/* How much is used, committed or not, with the overhead. Any thread. */
uint64_t kn_ring_used(const struct kn_ring *ring);

/* The consumer only from here on. */

/* The length of the oldest record; 0: none is there. seq_cst against the commit of a push. */
size_t kn_ring_next(struct kn_ring *ring);
/* Take the oldest record, of the length that kn_ring_next told. */
void kn_ring_pop(struct kn_ring *ring, void *out, size_t len);

#endif
