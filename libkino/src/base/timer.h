/* SPDX-License-Identifier: MIT */
#ifndef KN_BASE_TIMER_H
#define KN_BASE_TIMER_H

#include "base/list.h"

#include <stdint.h>

enum {
    KN_WHEEL_TICK_MS = 64,
    KN_WHEEL_SLOTS = 1024, /* a horizon of 65 s; what lies beyond is put in again */
};

struct kn_timer;
typedef void (*kn_timer_fn)(struct kn_timer *timer);

/* Embedded in its owner. `deadline_ms` is the truth; the slot is only when to look. */
struct kn_timer {
    struct kn_list link;
    uint64_t deadline_ms; /* UINT64_MAX: off */
    uint64_t tick;        /* of the slot it lies in; UINT64_MAX: in none */
    kn_timer_fn fn;
};

/* A timer wheel fed with `now`. One thread. Borrows its timers until they fire or are removed. */
struct kn_wheel {
    struct kn_list slots[KN_WHEEL_SLOTS];
    uint64_t occupied[KN_WHEEL_SLOTS / 64]; /* a bit per slot; may be stale for an emptied one */
    uint64_t tick;                          /* all ticks up to this one were looked at */
};

void kn_wheel_init(struct kn_wheel *wheel, uint64_t now_ms);

/* Call every timer whose deadline has passed. A callback may set or remove any timer. */
void kn_wheel_advance(struct kn_wheel *wheel, uint64_t now_ms);

/* When to call kn_wheel_advance next; UINT64_MAX: there is no timer. */
uint64_t kn_wheel_next_ms(struct kn_wheel *wheel);

void kn_timer_init(struct kn_timer *timer, kn_timer_fn fn);

/* Fire at `deadline_ms` or at most a tick later; UINT64_MAX turns it off. Moving a deadline later
 * or off, as every request does, does not touch the wheel. */
void kn_timer_set(struct kn_wheel *wheel, struct kn_timer *timer, uint64_t deadline_ms);

/* Forget the timer, so that its memory can go. */
void kn_timer_remove(struct kn_timer *timer);

#endif
