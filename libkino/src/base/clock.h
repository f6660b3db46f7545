/* SPDX-License-Identifier: MIT */
#ifndef KN_BASE_CLOCK_H
#define KN_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

#define KN_NS_PER_MS 1000000u
#define KN_NS_PER_US 1000u
#define KN_NS_PER_S 1000000000u

/* CLOCK_MONOTONIC. Any thread. */
static inline uint64_t kn_clock_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * KN_NS_PER_S + (uint64_t)now.tv_nsec;
}

/* CLOCK_REALTIME, for people. Any thread. */
static inline uint64_t kn_clock_wall_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / KN_NS_PER_MS;
}

static inline struct timespec kn_clock_timespec(uint64_t ns)
{
    return (struct timespec){
        .tv_sec = (time_t)(ns / KN_NS_PER_S),
        .tv_nsec = (long)(ns % KN_NS_PER_S),
    };
}

/* `now + delay`, where UINT64_MAX is never. */
static inline uint64_t kn_clock_after(uint64_t now, uint64_t delay)
{
    return delay > UINT64_MAX - now ? UINT64_MAX : now + delay;
}

/* When a wait of so many milliseconds, UINT64_MAX being endless, is over. */
static inline uint64_t kn_clock_deadline(uint64_t timeout_ms)
{
    if (timeout_ms > UINT64_MAX / KN_NS_PER_MS)
        return UINT64_MAX;
    return kn_clock_after(kn_clock_ns(), timeout_ms * KN_NS_PER_MS);
}

#endif
