/* SPDX-License-Identifier: MIT */
/*
 * What a loop counts. Who calls what, always on the loop's driver:
 *
 *   connection  when it begins: KN_COUNT_CONNECTIONS; when it begins or is gone:
 *               KN_COUNT_CONNECTIONS_NOW is set to their number
 *   loop        publish: KN_COUNT_REQUESTS, and KN_COUNT_QUEUE_FULL where it must wait for room;
 *               KN_COUNT_IN_FLIGHT up at the push on the lane, down at its answer or abort; 503:
 *               KN_COUNT_QUEUE_TIMEOUTS
 *   connection  bytes, refusals, deadlines by kind; KN_COUNT_ABORTED where we close though an
 * answer was due or half sent (write deadline, drain's deadline, kino_request_abort); and by
 *               kn_conn_count_answer, when the first of an answer is handed to the connection,
 *               response, latency and queue time. The worker only notes the time of its take in the
 *               exchange: it may not write here
 */
#ifndef KN_SERVER_STATS_H
#define KN_SERVER_STATS_H

#include "base/clock.h"
#include "kino.h"

#include <assert.h>
#include <stdatomic.h>

/* Each is a number of struct kino_stats, where it is explained. */
enum kn_counter {
    KN_COUNT_CONNECTIONS,
    KN_COUNT_CONNECTIONS_NOW,
    KN_COUNT_REQUESTS,
    KN_COUNT_IN_FLIGHT,
    KN_COUNT_BYTES_IN,
    KN_COUNT_BYTES_OUT,
    KN_COUNT_REJECTED,
    KN_COUNT_ABORTED,
    KN_COUNT_QUEUE_FULL,
    KN_COUNT_IDLE_TIMEOUTS,
    KN_COUNT_HEAD_TIMEOUTS,
    KN_COUNT_BODY_TIMEOUTS,
    KN_COUNT_WRITE_TIMEOUTS,
    KN_COUNT_REQUEST_TIMEOUTS,
    KN_COUNT_QUEUE_TIMEOUTS,
    KN_COUNTERS,
};

/* Part of a kn_stats. */
struct kn_histogram {
    _Atomic uint64_t sum_us;
    _Atomic uint64_t buckets[KINO_HISTOGRAM_BUCKETS];
};

/* Shared: the loop's driver writes, anybody reads. All of it is relaxed, because no number says
 * anything about other memory; and with one writer an increment is a load and a store. */
struct kn_stats {
    _Atomic uint64_t counters[KN_COUNTERS];
    _Atomic uint64_t responses[KINO_STATUS_CLASSES];
    struct kn_histogram latency;
    struct kn_histogram queue_time;
};

/* For kn_stats alone. */
static inline void kn_stats_increase(_Atomic uint64_t *number, uint64_t amount)
{
    const uint64_t now = atomic_load_explicit(number, memory_order_relaxed);

    atomic_store_explicit(number, now + amount, memory_order_relaxed);
}

static inline void kn_stats_add(struct kn_stats *stats, enum kn_counter counter, uint64_t amount)
{
    kn_stats_increase(&stats->counters[counter], amount);
}

static inline void kn_stats_subtract(struct kn_stats *stats, enum kn_counter counter,
                                     uint64_t amount)
{
    kn_stats_increase(&stats->counters[counter], 0 - amount);
}

static inline void kn_stats_set(struct kn_stats *stats, enum kn_counter counter, uint64_t value)
{
    atomic_store_explicit(&stats->counters[counter], value, memory_order_relaxed);
}

/* Count an answer, whoever's it is. */
static inline void kn_stats_response(struct kn_stats *stats, uint64_t status)
{
    const uint64_t class = status / 100;

    assert(class < KINO_STATUS_CLASSES);
    kn_stats_increase(&stats->responses[class], 1);
}

/* The bucket of a duration: its number of binary digits, as far as there are buckets. */
static inline unsigned kn_histogram_bucket(uint64_t us)
{
    const unsigned digits = 63u - (unsigned)__builtin_clzll(us << 1 | 1);

    return digits < KINO_HISTOGRAM_BUCKETS - 1 ? digits : KINO_HISTOGRAM_BUCKETS - 1;
}

static inline void kn_histogram_add(struct kn_histogram *histogram, uint64_t ns)
{
    const uint64_t us = ns / KN_NS_PER_US;

    kn_stats_increase(&histogram->sum_us, us);
    kn_stats_increase(&histogram->buckets[kn_histogram_bucket(us)], 1);
}

/* From a request's first byte to its answer's being handed to the connection. */
static inline void kn_stats_latency(struct kn_stats *stats, uint64_t ns)
{
    kn_histogram_add(&stats->latency, ns);
}

/* From a request's being published to its being taken. */
static inline void kn_stats_queue_time(struct kn_stats *stats, uint64_t ns)
{
    kn_histogram_add(&stats->queue_time, ns);
}

/* Add a loop's numbers to the sums. Any thread, async-signal-safe. */
void kn_stats_sum(const struct kn_stats *stats, struct kino_stats *sums);

#endif
