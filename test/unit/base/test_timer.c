/* SPDX-License-Identifier: MIT */
#include "base/timer.h"

#include <stdbool.h>
#include <stdint.h>

#include "support/test.h"

enum {
    TICK = KN_WHEEL_TICK_MS,
    HORIZON = KN_WHEEL_TICK_MS * KN_WHEEL_SLOTS,
    MANY = 64,
};

static const uint64_t start = 1234567; /* no multiple of a tick */

/* A timer that remembers when it fired, and what it shall do then. */
struct alarm {
    struct kn_timer timer;
    int fired;
    uint64_t at;
    struct alarm *removes;
    struct alarm *sets;
    uint64_t sets_to;
};

static struct kn_wheel wheel;
static uint64_t now;

static void fire(struct kn_timer *timer)
{
    struct alarm *alarm = kn_container_of(timer, struct alarm, timer);

    alarm->fired++;
    alarm->at = now;
    if (alarm->removes)
        kn_timer_remove(&alarm->removes->timer);
    if (alarm->sets)
        kn_timer_set(&wheel, &alarm->sets->timer, alarm->sets_to);
}

static void init(struct alarm *alarm)
{
    *alarm = (struct alarm){0};
    kn_timer_init(&alarm->timer, fire);
}

static void begin(void)
{
    now = start;
    kn_wheel_init(&wheel, now);
}

static void advance_to(uint64_t ms)
{
    now = ms;
    kn_wheel_advance(&wheel, now);
}

/* As a loop does it: sleep until the wheel wants to be looked at. False: it never does. */
static bool sleep_once(void)
{
    const uint64_t next = kn_wheel_next_ms(&wheel);

    if (next == UINT64_MAX)
        return false;
    advance_to(next > now ? next : now);
    return true;
}

static void assert_on_time(const struct alarm *alarm, uint64_t deadline)
{
    cr_assert_eq(alarm->fired, 1, "fired %d times", alarm->fired);
    cr_assert_geq(alarm->at, deadline, "early by %lu", (unsigned long)(deadline - alarm->at));
    cr_assert_leq(alarm->at, deadline + TICK, "late by %lu", (unsigned long)(alarm->at - deadline));
}

Test(timer, fires_once_never_early_and_at_most_a_tick_late)
{
    for (uint64_t delay = 0; delay < 4 * TICK; delay++) {
        struct alarm alarm;

        begin();
        init(&alarm);
        kn_timer_set(&wheel, &alarm.timer, start + delay);
        for (uint64_t ms = start; ms < start + 8 * TICK; ms++)
            advance_to(ms);
        assert_on_time(&alarm, start + delay);
    }
}

Test(timer, is_on_time_when_the_wheel_is_only_turned_when_it_asks)
{
    static const uint64_t delays[] = {0,       1,           63,      64,      65,
                                      127,     128,         1000,    5000,    HORIZON - 1,
                                      HORIZON, HORIZON + 1, 3600000, 86400000};

    for (size_t i = 0; i < sizeof(delays) / sizeof(delays[0]); i++) {
        struct alarm alarm;
        int looks = 0;

        begin();
        init(&alarm);
        kn_timer_set(&wheel, &alarm.timer, start + delays[i]);
        while (sleep_once())
            looks++;
        assert_on_time(&alarm, start + delays[i]);
        cr_assert_leq((uint64_t)looks, delays[i] / (HORIZON - 2 * TICK) + 2, "%d looks", looks);
    }
}

Test(timer, asks_for_nothing_when_there_is_none)
{
    struct alarm alarm;

    begin();
    init(&alarm);
    cr_assert_eq(kn_wheel_next_ms(&wheel), UINT64_MAX);
    kn_timer_set(&wheel, &alarm.timer, start + 500);
    cr_assert_neq(kn_wheel_next_ms(&wheel), UINT64_MAX);
    kn_timer_remove(&alarm.timer);
    cr_assert_eq(kn_wheel_next_ms(&wheel), UINT64_MAX);
    advance_to(start + 10 * HORIZON);
    cr_assert_eq(alarm.fired, 0);
}

Test(timer, moves_later_lazily_and_is_still_on_time)
{
    struct alarm alarm;
    uint64_t deadline = start + 100;
    uint64_t slot;

    begin();
    init(&alarm);
    kn_timer_set(&wheel, &alarm.timer, deadline);
    slot = alarm.timer.tick;
    for (int i = 0; i < 1000; i++) {
        deadline = now + 100;
        kn_timer_set(&wheel, &alarm.timer, deadline);
        if (i == 0)
            cr_assert_eq(alarm.timer.tick, slot, "moving it later does not touch the wheel");
        advance_to(now + 1);
    }
    cr_assert_eq(alarm.fired, 0);
    while (sleep_once())
        ;
    assert_on_time(&alarm, deadline);
}

Test(timer, moves_earlier_at_once)
{
    struct alarm alarm;

    begin();
    init(&alarm);
    kn_timer_set(&wheel, &alarm.timer, start + 2 * HORIZON);
    kn_timer_set(&wheel, &alarm.timer, start + 10000);
    kn_timer_set(&wheel, &alarm.timer, start + 100);
    while (sleep_once())
        ;
    assert_on_time(&alarm, start + 100);
}

Test(timer, turned_off_does_not_fire_and_can_be_set_again)
{
    struct alarm alarm;

    begin();
    init(&alarm);
    kn_timer_set(&wheel, &alarm.timer, start + 100);
    kn_timer_set(&wheel, &alarm.timer, UINT64_MAX);
    advance_to(start + 1000);
    cr_assert_eq(alarm.fired, 0);
    kn_timer_set(&wheel, &alarm.timer, start + 2000);
    while (sleep_once())
        ;
    assert_on_time(&alarm, start + 2000);
}

Test(timer, of_the_past_fires_at_the_next_look_that_the_wheel_asks_for)
{
    struct alarm alarm;

    begin();
    advance_to(start + 1000);
    init(&alarm);
    kn_timer_set(&wheel, &alarm.timer, start);
    while (sleep_once())
        ;
    cr_assert_eq(alarm.fired, 1);
    cr_assert_leq(alarm.at, start + 1000 + TICK);
}

Test(timer, survives_jumps_of_the_clock)
{
    static const uint64_t jumps[] = {TICK, HORIZON - TICK, HORIZON, HORIZON + TICK, 100 * HORIZON};

    for (size_t i = 0; i < sizeof(jumps) / sizeof(jumps[0]); i++) {
        static struct alarm alarms[MANY];

        begin();
        for (int j = 0; j < MANY; j++) {
            init(&alarms[j]);
            kn_timer_set(&wheel, &alarms[j].timer, start + (uint64_t)j * HORIZON / 16);
        }
        advance_to(start - 1000); /* backwards: nothing happens */
        for (int j = 0; j < MANY; j++)
            cr_assert_eq(alarms[j].fired, 0);
        advance_to(start + jumps[i]);
        for (int j = 0; j < MANY; j++) {
            const uint64_t deadline = start + (uint64_t)j * HORIZON / 16;

            if (deadline + TICK <= now)
                cr_assert_eq(alarms[j].fired, 1, "timer %d after a jump of %lu", j,
                             (unsigned long)jumps[i]);
            if (deadline > now)
                cr_assert_eq(alarms[j].fired, 0, "timer %d before its time", j);
        }
        while (sleep_once())
            ;
        for (int j = 0; j < MANY; j++)
            cr_assert_eq(alarms[j].fired, 1);
    }
}

Test(timer, removed_by_another_that_fires_in_the_same_slot_stays_silent)
{
    struct alarm remover;
    struct alarm removed;

    begin();
    init(&remover);
    init(&removed);
    remover.removes = &removed;
    kn_timer_set(&wheel, &remover.timer, start + 100);
    kn_timer_set(&wheel, &removed.timer, start + 100);
    advance_to(start + 1000);
    cr_assert_eq(remover.fired, 1);
    cr_assert_eq(removed.fired, 0);
}

Test(timer, may_remove_and_set_itself_while_it_fires)
{
    struct alarm alarm;

    begin();
    init(&alarm);
    alarm.removes = &alarm;
    alarm.sets = &alarm;
    alarm.sets_to = start + 500;
    kn_timer_set(&wheel, &alarm.timer, start + 100);
    advance_to(start + 300);
    cr_assert_eq(alarm.fired, 1);
    alarm.sets = NULL;
    while (sleep_once())
        ;
    cr_assert_eq(alarm.fired, 2);
    cr_assert_geq(alarm.at, start + 500);
    cr_assert_leq(alarm.at, start + 500 + TICK);
}

Test(timer, put_off_by_another_that_fires_in_the_same_slot_keeps_its_new_time)
{
    struct alarm first;
    struct alarm second;

    begin();
    init(&first);
    init(&second);
    first.sets = &second;
    first.sets_to = start + 900;
    kn_timer_set(&wheel, &first.timer, start + 100);
    kn_timer_set(&wheel, &second.timer, start + 100);
    advance_to(start + 200);
    cr_assert_eq(first.fired, 1);
    cr_assert_eq(second.fired, 0);
    first.sets = NULL;
    while (sleep_once())
        ;
    assert_on_time(&second, start + 900);
}

/* A small generator of our own, so that a failure can be played again. */
static uint32_t random_below(uint32_t *state, uint32_t bound)
{
    *state = *state * 1664525 + 1013904223;
    return (uint32_t)(((uint64_t)*state * bound) >> 32);
}

Test(timer, agrees_with_a_plain_list_of_deadlines)
{
    static struct alarm alarms[MANY];
    uint64_t deadlines[MANY];
    uint32_t seed = 7;

    begin();
    for (int i = 0; i < MANY; i++) {
        init(&alarms[i]);
        deadlines[i] = UINT64_MAX;
    }
    for (int step = 0; step < 100000; step++) {
        const uint32_t i = random_below(&seed, MANY);

        switch (random_below(&seed, 4)) {
        case 0:
            deadlines[i] = UINT64_MAX;
            kn_timer_remove(&alarms[i].timer);
            break;
        case 1:
            deadlines[i] = now + random_below(&seed, 2 * HORIZON);
            kn_timer_set(&wheel, &alarms[i].timer, deadlines[i]);
            break;
        default:
            deadlines[i] = now + random_below(&seed, 300);
            kn_timer_set(&wheel, &alarms[i].timer, deadlines[i]);
        }
        advance_to(now + random_below(&seed, step % 1000 == 0 ? 2 * HORIZON : 8));
        for (int j = 0; j < MANY; j++) {
            if (alarms[j].fired) {
                cr_assert_leq(deadlines[j], now, "step %d: timer %d was early", step, j);
                deadlines[j] = UINT64_MAX;
                alarms[j].fired = 0;
            }
            cr_assert(deadlines[j] == UINT64_MAX || deadlines[j] + TICK > now,
                      "step %d: timer %d is late", step, j);
        }
    }
}
