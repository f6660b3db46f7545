/* SPDX-License-Identifier: MIT */
#include "server/stats.h"

#include "base/abi.h"
#include "server/server.h"

static uint64_t read_number(const _Atomic uint64_t *number)
{
    return atomic_load_explicit(number, memory_order_relaxed);
}

static void sum_histogram(const struct kn_histogram *histogram, uint64_t *sum_us, uint64_t *buckets)
{
    *sum_us += read_number(&histogram->sum_us);
    for (unsigned i = 0; i < KINO_HISTOGRAM_BUCKETS; i++)
        buckets[i] += read_number(&histogram->buckets[i]);
}

void kn_stats_sum(const struct kn_stats *stats, struct kino_stats *sums)
{
    uint64_t *const places[] = {
        [KN_COUNT_CONNECTIONS] = &sums->connections,
        [KN_COUNT_CONNECTIONS_NOW] = &sums->connections_now,
        [KN_COUNT_REQUESTS] = &sums->requests,
        [KN_COUNT_IN_FLIGHT] = &sums->in_flight,
        [KN_COUNT_BYTES_IN] = &sums->bytes_in,
        [KN_COUNT_BYTES_OUT] = &sums->bytes_out,
        [KN_COUNT_REJECTED] = &sums->rejected,
        [KN_COUNT_ABORTED] = &sums->aborted,
        [KN_COUNT_QUEUE_FULL] = &sums->queue_full,
        [KN_COUNT_IDLE_TIMEOUTS] = &sums->idle_timeouts,
        [KN_COUNT_HEAD_TIMEOUTS] = &sums->head_timeouts,
        [KN_COUNT_BODY_TIMEOUTS] = &sums->body_timeouts,
        [KN_COUNT_WRITE_TIMEOUTS] = &sums->write_timeouts,
        [KN_COUNT_REQUEST_TIMEOUTS] = &sums->request_timeouts,
        [KN_COUNT_QUEUE_TIMEOUTS] = &sums->queue_timeouts,
    };

    static_assert(sizeof(places) / sizeof(places[0]) == KN_COUNTERS, "each counter has its place");
    for (unsigned i = 0; i < KN_COUNTERS; i++)
        *places[i] += read_number(&stats->counters[i]);
    for (unsigned i = 0; i < KINO_STATUS_CLASSES; i++)
        sums->responses[i] += read_number(&stats->responses[i]);
    sum_histogram(&stats->latency, &sums->latency_sum_us, sums->latency_us);
    sum_histogram(&stats->queue_time, &sums->queue_sum_us, sums->queue_us);
}

static uint64_t count_lanes(const struct kn_lanes *lanes)
{
    uint64_t count = 0;
    unsigned index = 0;

    for (const struct kn_lane *at; (at = kn_lanes_at(lanes, index)); index++)
        count += kn_lane_count(at);
    return count;
}

int kino_server_stats(const struct kino_server *server, struct kino_stats *out)
{
    const unsigned count = atomic_load(&server->loop_count);
    const struct kn_access_log *access_log = atomic_load(&server->access_log);
    struct kino_stats sums = {.size = sizeof(sums)};

    if (!out)
        return KINO_INVALID;
    for (unsigned i = 0; i < count; i++) {
        kn_stats_sum(&server->loops[i].stats, &sums);
        sums.queued += count_lanes(&server->loops[i].lanes);
    }
    if (access_log)
        kn_access_log_count(access_log, &sums);
    return kn_abi_write(out, &sums, sizeof(sums));
}

int kino_server_lane_depth(const struct kino_server *server, uint64_t lane)
{
    const unsigned count = atomic_load(&server->loop_count);

    for (unsigned i = 0; i < count; i++) {
        const struct kn_lanes *lanes = &server->loops[i].lanes;
        unsigned index = 0;

        for (const struct kn_lane *at; (at = kn_lanes_at(lanes, index)); index++)
            if (lane-- == 0)
                return (int)kn_lane_count(at);
    }
    return KINO_INVALID;
}
