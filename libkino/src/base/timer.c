/* SPDX-License-Identifier: MIT */
#include "base/timer.h"

#include <assert.h>

static_assert((KN_WHEEL_SLOTS & (KN_WHEEL_SLOTS - 1)) == 0, "a slot is found by a mask");

static const uint64_t no_tick = UINT64_MAX;

static uint64_t slot_of(uint64_t tick)
{
    return tick & (KN_WHEEL_SLOTS - 1);
}

static void place(struct kn_wheel *wheel, struct kn_timer *timer)
{
    uint64_t tick = timer->deadline_ms / KN_WHEEL_TICK_MS + 1; /* never early */

    if (tick <= wheel->tick)
        tick = wheel->tick + 1;
    if (tick >= wheel->tick + KN_WHEEL_SLOTS)
        tick = wheel->tick + KN_WHEEL_SLOTS - 1;
    timer->tick = tick;
    kn_list_append(&wheel->slots[slot_of(tick)], &timer->link);
    wheel->occupied[slot_of(tick) / 64] |= UINT64_C(1) << slot_of(tick) % 64;
}

void kn_wheel_init(struct kn_wheel *wheel, uint64_t now_ms)
{
    for (size_t i = 0; i < KN_WHEEL_SLOTS; i++)
        kn_list_init(&wheel->slots[i]);
    for (size_t i = 0; i < KN_WHEEL_SLOTS / 64; i++)
        wheel->occupied[i] = 0;
    wheel->tick = now_ms / KN_WHEEL_TICK_MS;
}

static void look_at_slot(struct kn_wheel *wheel, uint64_t slot, uint64_t now_ms)
{
    struct kn_list due;
    struct kn_list *link;

    wheel->occupied[slot / 64] &= ~(UINT64_C(1) << slot % 64);
    kn_list_init(&due);
    kn_list_splice(&due, &wheel->slots[slot]);
    while ((link = kn_list_shift(&due))) {
        struct kn_timer *timer = kn_container_of(link, struct kn_timer, link);

        timer->tick = no_tick;
        if (timer->deadline_ms <= now_ms) {
            timer->deadline_ms = UINT64_MAX;
            timer->fn(timer);
        } else if (timer->deadline_ms != UINT64_MAX) {
            place(wheel, timer);
        }
    }
}

void kn_wheel_advance(struct kn_wheel *wheel, uint64_t now_ms)
{
    uint64_t now_tick = now_ms / KN_WHEEL_TICK_MS;
    uint64_t from = wheel->tick + 1;

    if (now_tick < from)
        return;
    if (now_tick - from >= KN_WHEEL_SLOTS)
        from = now_tick - KN_WHEEL_SLOTS + 1; /* once round is all there is */
    wheel->tick = now_tick;
    for (uint64_t tick = from; tick <= now_tick; tick++)
        look_at_slot(wheel, slot_of(tick), now_ms);
}

uint64_t kn_wheel_next_ms(struct kn_wheel *wheel)
{
    uint64_t tick = wheel->tick + 1;
    const uint64_t end = wheel->tick + KN_WHEEL_SLOTS;

    while (tick < end) {
        uint64_t slot = slot_of(tick);
        uint64_t word = wheel->occupied[slot / 64] >> slot % 64;

        if (word) {
            tick += (uint64_t)__builtin_ctzll(word);
            slot = slot_of(tick);
            if (tick < end && !kn_list_empty(&wheel->slots[slot]))
                return tick * KN_WHEEL_TICK_MS;
            wheel->occupied[slot / 64] &= ~(UINT64_C(1) << slot % 64);
        } else {
            tick += 64 - slot % 64;
        }
    }
    return UINT64_MAX;
}

void kn_timer_init(struct kn_timer *timer, kn_timer_fn fn)
{
    kn_list_init(&timer->link);
    timer->deadline_ms = UINT64_MAX;
    timer->tick = no_tick;
    timer->fn = fn;
}

void kn_timer_set(struct kn_wheel *wheel, struct kn_timer *timer, uint64_t deadline_ms)
{
    timer->deadline_ms = deadline_ms;
    if (deadline_ms == UINT64_MAX)
        return;
    if (timer->tick != no_tick) {
        if (timer->tick <= deadline_ms / KN_WHEEL_TICK_MS + 1)
            return;
        kn_list_remove(&timer->link);
    }
    place(wheel, timer);
}

void kn_timer_remove(struct kn_timer *timer)
{
    kn_list_remove(&timer->link);
    timer->deadline_ms = UINT64_MAX;
    timer->tick = no_tick;
}
