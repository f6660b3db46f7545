/* SPDX-License-Identifier: MIT */
#ifndef KN_DISPATCH_LANES_H
#define KN_DISPATCH_LANES_H

#include "dispatch/lane.h"

enum {
    KN_LANES_MOST = 256,           /* of one loop; further workers have none, and take from these */
    KN_LANES_PATIENCE_NS = 100000, /* what lies behind a busy worker for that long wakes another */
};

/* Where a loop puts its requests: one lane that all workers take from, or one for each of its
 * workers. Shared. */
struct kn_lanes {
    uint64_t depth; /* constant: of all lanes together */
    bool one_each;  /* constant */

    /* Loop-only. */
    uint64_t room;         /* at least so many more may be pushed */
    unsigned next;         /* where the choice begins */
    struct kn_list pushed; /* kn_berth.wake: of the lanes that got something in this turn */
    uint64_t ownerless;    /* requests pushed in this turn on lanes without an owner */
    uint64_t due_ns;       /* when to look at what lies in the lanes; UINT64_MAX: nothing does, or
                            * nobody sleeps */

    char apart[KN_LANE_APART];
    unsigned owners;        /* under the server's mutex: lanes that are owned */
    _Atomic unsigned count; /* release after the lane is in `all`; never less than 1 */
    _Atomic(struct kn_lane *) all[KN_LANES_MOST];
};

/* Before start, on any thread. 0 or -ENOMEM. */
int kn_lanes_init(struct kn_lanes *lanes, uint64_t depth, bool one_each);
/* They are empty, and nobody is left who could look. */
void kn_lanes_deinit(struct kn_lanes *lanes);

/* Find or make a lane for a worker. Under the server's mutex. `out` is the loop's and lives as long
 * as the server; NULL: there are KN_LANES_MOST already. 0 or -ENOMEM. */
int kn_lanes_claim(struct kn_lanes *lanes, struct kn_lane **out);
/* The worker goes. Under the server's mutex. What is in the lane stays for others to take. */
void kn_lanes_give_up(struct kn_lanes *lanes, struct kn_lane *lane);

/* The loop only. False: full. */
bool kn_lanes_push(struct kn_lanes *lanes, struct kino_request *request);
/* The loop only, at the end of a turn. Wake who is to take what was pushed, at most once each, and
 * see to it that nothing lies behind a busy worker while another sleeps. */
void kn_lanes_wake(struct kn_lanes *lanes, struct kn_parking *parking, uint64_t now_ns);

/* Any worker. From the first lane that has something, looking round from number `begin`. */
struct kino_request *kn_lanes_pop(struct kn_lanes *lanes, unsigned begin);
bool kn_lanes_empty(struct kn_lanes *lanes);

/* Any thread. A lane by number, in the order they were made. NULL: there are no so many. */
const struct kn_lane *kn_lanes_at(const struct kn_lanes *lanes, unsigned index);

#endif
