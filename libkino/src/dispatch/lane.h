/* SPDX-License-Identifier: MIT */
#ifndef KN_DISPATCH_LANE_H
#define KN_DISPATCH_LANE_H

#include "kino.h"

#include <stdatomic.h>
#include <stdbool.h>

/* A bounded queue of requests: one loop pushes, any worker pops. Shared. */
struct kn_lane {
    _Alignas(64) _Atomic uint64_t head; /* next to pop; release on pop, acquire in push */
    _Alignas(64) _Atomic uint64_t tail; /* next to push; release on push, acquire in pop */
    _Atomic(struct kino_request *) *slots;
    uint64_t mask;
    uint64_t depth;
};

/* 0 or -ENOMEM. */
int kn_lane_init(struct kn_lane *lane, uint64_t depth);
/* Whatever is still in it stays its owner's. */
void kn_lane_deinit(struct kn_lane *lane);

/* The loop only. False: full. */
bool kn_lane_push(struct kn_lane *lane, struct kino_request *request);

/* Any thread. NULL: empty. */
struct kino_request *kn_lane_pop(struct kn_lane *lane);
bool kn_lane_empty(struct kn_lane *lane);
/* How many are in it, at most its depth; while others push and pop, about so many.
 * Async-signal-safe. */
uint64_t kn_lane_count(const struct kn_lane *lane);

#endif
