/* SPDX-License-Identifier: MIT */
#ifndef KN_DISPATCH_LANE_H
#define KN_DISPATCH_LANE_H

#include "dispatch/park.h"
#include "kino.h"

#include <stdatomic.h>
#include <stdbool.h>

enum {
    KN_LANE_APART = 64, /* bytes between what different threads write: a cache line */
};

/* A bounded queue of requests: one loop pushes, any worker pops. Shared. One worker may own it. */
struct kn_lane {
    _Atomic uint64_t head;   /* next to pop; release on pop, acquire in push */
    _Atomic uint64_t visits; /* relaxed: how often its owner came to take */

    char apart[KN_LANE_APART];
    _Atomic uint64_t tail; /* next to push; release on push, acquire in pop */
    _Atomic(struct kino_request *) *slots;
    uint64_t mask;
    uint64_t depth;
    uint64_t mark;   /* loop-only: the tail when requests that lie here were last noted */
    uint64_t missed; /* loop-only: the visits when one of them had lain too long */

    char apart_again[KN_LANE_APART];
    struct kn_berth berth; /* where its owner sleeps */
    _Atomic bool owned;    /* written under the server's mutex; relaxed */
};

/* 0 or -ENOMEM. */
int kn_lane_init(struct kn_lane *lane, uint64_t depth);
/* Whatever is still in it stays its owner's. */
void kn_lane_deinit(struct kn_lane *lane);

/* The loop only. False: full. */
bool kn_lane_push(struct kn_lane *lane, struct kino_request *request);
/* The loop only. How many are in it, or were a moment ago. */
uint64_t kn_lane_length(struct kn_lane *lane);

/* Any thread. NULL: empty. */
struct kino_request *kn_lane_pop(struct kn_lane *lane);
bool kn_lane_empty(struct kn_lane *lane);
/* How many are in it, at most its depth; while others push and pop, about so many.
 * Async-signal-safe. */
uint64_t kn_lane_count(const struct kn_lane *lane);

/* Its owner only. Be seen to come. */
void kn_lane_visit(struct kn_lane *lane);

#endif
