/* SPDX-License-Identifier: MIT */
/* Sleeping until something becomes of a request. */
#include "base/clock.h"
#include "base/futex.h"
#include "dispatch/exchange.h"
#include "server/loop.h"

/* Whoever drives the request's loop must go on driving: nobody else would set the state. */
static void turn(struct kino_request *request, struct kn_loop *loop, uint32_t awaited,
                 uint64_t deadline_ns)
{
    /* Announced before the last look, as what is awaited is told before its look at this. */
    const uint32_t state = atomic_fetch_or(&request->state, KN_STATE_DRIVING);

    kn_loop_turn(loop, state & (KN_STATE_INTERRUPTED | awaited) ? 0 : deadline_ns);
    atomic_fetch_and(&request->state, ~(uint32_t)KN_STATE_DRIVING);
}

static void sleep_on(struct kino_request *request, uint32_t state, uint64_t deadline_ns)
{
    const uint32_t announced = state | KN_STATE_SLEEPING;

    /* What changes in between makes the exchange fail, or the futex return. */
    if (state == announced || atomic_compare_exchange_strong(&request->state, &state, announced))
        kn_futex_wait(&request->state, announced, deadline_ns);
}

static bool consume_interrupt(struct kino_request *request)
{
    return atomic_fetch_and(&request->state, ~(uint32_t)KN_STATE_INTERRUPTED) &
           KN_STATE_INTERRUPTED;
}

int kino_request_wait(struct kino_request *request, uint64_t mask, uint64_t timeout_ms)
{
    const uint64_t deadline_ns = kn_clock_deadline(timeout_ms);
    const uint32_t awaited = ((uint32_t)mask & KN_STATE_PUBLIC) | KINO_STATE_DISCONNECTED;

    for (;;) {
        struct kn_loop *loop = kn_mailbox_driven(request->home);
        const uint32_t state = atomic_load(&request->state);

        if (state & awaited)
            return (int)(state & KN_STATE_PUBLIC);
        if ((state & KN_STATE_INTERRUPTED) && consume_interrupt(request))
            return KINO_INTERRUPTED;
        if (kn_clock_ns() >= deadline_ns)
            return KINO_TIMED_OUT;
        if (loop)
            turn(request, loop, awaited, deadline_ns);
        else
            sleep_on(request, state, deadline_ns);
    }
}
