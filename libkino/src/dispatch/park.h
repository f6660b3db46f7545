/* SPDX-License-Identifier: MIT */
#ifndef KN_DISPATCH_PARK_H
#define KN_DISPATCH_PARK_H

#include "base/list.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

/* What ended a wait. */
enum kn_park_bit {
    KN_PARK_WOKEN = 1 << 0,
    KN_PARK_INTERRUPTED = 1 << 1,
};

/* The place of one sleeper, which a loop can watch: it outlives the sleepers. Shared. */
struct kn_berth {
    /* 0: awake; else the higher, the later it fell asleep. Relaxed: a hint; kn_parking.count tells
     * for certain. */
    _Atomic uint64_t asleep;
    struct kn_parker *sleeper; /* under kn_parking.mutex */
    struct kn_list wake;       /* loop-only: in its list of those to wake at the end of a turn */
};

/* One sleeper. Shared: others set bits, its thread waits for them and clears them. */
struct kn_parker {
    _Atomic uint32_t bits;  /* enum kn_park_bit; a futex */
    struct kn_berth *berth; /* constant; NULL: none of its own */
    _Atomic int event_fd;   /* is made readable with the bits; -1: nobody polls */
    struct kn_list idle;    /* under kn_parking.mutex */
};

/* The idle workers of a server, the last to sleep first: its cache is warm. Shared. */
struct kn_parking {
    pthread_mutex_t mutex;
    struct kn_list idle;
    uint64_t sleeps;        /* how many fell asleep so far */
    _Atomic uint32_t count; /* of `idle`; seq_cst against the lanes' tails */
};

void kn_parking_init(struct kn_parking *parking);
void kn_parking_deinit(struct kn_parking *parking);

/* Wake at most `count` idle workers. Any thread. */
void kn_parking_wake(struct kn_parking *parking, uint64_t count);

/* Empty the list of berths; wake who sleeps there, and then at most `others` more, each once.
 * Returns how many sleep on: whoever is not among them, and is not awake yet either, sees before it
 * sleeps what the caller has published. Any thread. */
uint32_t kn_parking_wake_at(struct kn_parking *parking, struct kn_list *berths, uint64_t others);

void kn_berth_init(struct kn_berth *berth);

/* `berth` is borrowed for the parker's life, or NULL. */
void kn_parker_init(struct kn_parker *parker, struct kn_berth *berth);
void kn_parker_deinit(struct kn_parker *parker);

/* The sleeper only. A descriptor to poll instead of kn_parker_wait: readable when a bit was set
 * since kn_parker_hush. The parker's own. Or -errno. */
int kn_parker_fd(struct kn_parker *parker);
void kn_parker_hush(struct kn_parker *parker);

/* The sleeper only. Announce that it is idle; look for work once more before kn_parker_wait. */
void kn_parking_enter(struct kn_parking *parking, struct kn_parker *parker);
/* The sleeper only. Take the announcement back, and a wake that came meanwhile with it. */
void kn_parking_leave(struct kn_parking *parking, struct kn_parker *parker);

/* The sleeper only. Sleep until a bit is set or the deadline has passed. Leaves the bits. */
uint32_t kn_parker_wait(struct kn_parker *parker, uint64_t deadline_ns);
/* The sleeper only. Take these bits away; returns those of them that were set. */
uint32_t kn_parker_clear(struct kn_parker *parker, uint32_t bits);

/* Any thread, async-signal-safe. */
void kn_parker_interrupt(struct kn_parker *parker);

#endif
