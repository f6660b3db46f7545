/* SPDX-License-Identifier: MIT */
#include "server/stats.h"

#include "server/server.h"

#include <pthread.h>
#include <string.h>

#include "support/test.h"

enum {
    WRITERS = 3,
    ROUNDS = 100000,
    US = 1000, /* in ns */
};

Test(stats, every_counter_has_a_place_of_its_own)
{
    struct kn_stats stats = {0};
    struct kino_stats sums = {.size = sizeof(sums)};

    for (unsigned i = 0; i < KN_COUNTERS; i++)
        kn_stats_add(&stats, (enum kn_counter)i, i + 1);
    kn_stats_sum(&stats, &sums);
    cr_assert_eq(sums.connections, KN_COUNT_CONNECTIONS + 1);
    cr_assert_eq(sums.connections_now, KN_COUNT_CONNECTIONS_NOW + 1);
    cr_assert_eq(sums.requests, KN_COUNT_REQUESTS + 1);
    cr_assert_eq(sums.in_flight, KN_COUNT_IN_FLIGHT + 1);
    cr_assert_eq(sums.bytes_in, KN_COUNT_BYTES_IN + 1);
    cr_assert_eq(sums.bytes_out, KN_COUNT_BYTES_OUT + 1);
    cr_assert_eq(sums.rejected, KN_COUNT_REJECTED + 1);
    cr_assert_eq(sums.aborted, KN_COUNT_ABORTED + 1);
    cr_assert_eq(sums.queue_full, KN_COUNT_QUEUE_FULL + 1);
    cr_assert_eq(sums.idle_timeouts, KN_COUNT_IDLE_TIMEOUTS + 1);
    cr_assert_eq(sums.head_timeouts, KN_COUNT_HEAD_TIMEOUTS + 1);
    cr_assert_eq(sums.body_timeouts, KN_COUNT_BODY_TIMEOUTS + 1);
    cr_assert_eq(sums.write_timeouts, KN_COUNT_WRITE_TIMEOUTS + 1);
    cr_assert_eq(sums.request_timeouts, KN_COUNT_REQUEST_TIMEOUTS + 1);
    cr_assert_eq(sums.queue_timeouts, KN_COUNT_QUEUE_TIMEOUTS + 1);
}

Test(stats, what_is_now_goes_up_and_down)
{
    struct kn_stats stats = {0};
    struct kino_stats sums = {.size = sizeof(sums)};

    kn_stats_add(&stats, KN_COUNT_IN_FLIGHT, 3);
    kn_stats_subtract(&stats, KN_COUNT_IN_FLIGHT, 1);
    kn_stats_set(&stats, KN_COUNT_CONNECTIONS_NOW, 9);
    kn_stats_set(&stats, KN_COUNT_CONNECTIONS_NOW, 7);
    kn_stats_sum(&stats, &sums);
    cr_assert_eq(sums.in_flight, 2);
    cr_assert_eq(sums.connections_now, 7);
}

Test(stats, answers_count_by_their_first_digit)
{
    static const uint64_t statuses[] = {100, 103, 200, 299, 304, 400, 404, 499, 500, 599, 999};
    static const uint64_t expected[KINO_STATUS_CLASSES] = {0, 2, 2, 1, 3, 2, 0, 0, 0, 1};
    struct kn_stats stats = {0};
    struct kino_stats sums = {.size = sizeof(sums)};

    for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++)
        kn_stats_response(&stats, statuses[i]);
    kn_stats_sum(&stats, &sums);
    cr_assert_arr_eq(sums.responses, expected, sizeof(expected));
}

Test(stats, a_bucket_begins_at_a_power_of_two)
{
    cr_assert_eq(kn_histogram_bucket(0), 0);
    for (unsigned n = 1; n < KINO_HISTOGRAM_BUCKETS; n++) {
        const uint64_t first = UINT64_C(1) << (n - 1);

        cr_assert_eq(kn_histogram_bucket(first), n, "%u", n);
        cr_assert_eq(kn_histogram_bucket(first - 1), n - 1, "%u", n);
        cr_assert_eq(kn_histogram_bucket(first + first / 2), n, "%u", n);
    }
    cr_assert_eq(kn_histogram_bucket(UINT64_C(1) << 31), KINO_HISTOGRAM_BUCKETS - 1);
    cr_assert_eq(kn_histogram_bucket(UINT64_MAX / US), KINO_HISTOGRAM_BUCKETS - 1);
}

Test(stats, durations_are_counted_and_summed_in_microseconds)
{
    struct kn_stats stats = {0};
    struct kino_stats sums = {.size = sizeof(sums)};

    kn_stats_latency(&stats, 999);
    kn_stats_latency(&stats, 1 * US);
    kn_stats_latency(&stats, 3 * US);
    kn_stats_latency(&stats, UINT64_C(1) << 63);
    kn_stats_queue_time(&stats, 1024 * US);
    kn_stats_sum(&stats, &sums);
    cr_assert_eq(sums.latency_us[0], 1);
    cr_assert_eq(sums.latency_us[1], 1);
    cr_assert_eq(sums.latency_us[2], 1);
    cr_assert_eq(sums.latency_us[KINO_HISTOGRAM_BUCKETS - 1], 1);
    cr_assert_eq(sums.latency_sum_us, 4 + (UINT64_C(1) << 63) / US);
    cr_assert_eq(sums.queue_us[11], 1);
    cr_assert_eq(sums.queue_sum_us, 1024);
}

static void *count(void *context)
{
    struct kn_stats *stats = context;

    for (unsigned i = 0; i < ROUNDS; i++) {
        kn_stats_add(stats, KN_COUNT_REQUESTS, 1);
        kn_stats_add(stats, KN_COUNT_BYTES_IN, 100);
        kn_stats_response(stats, 200);
        kn_stats_latency(stats, UINT64_C(1000) * i);
    }
    return NULL;
}

Test(stats, several_writers_are_summed_while_they_write)
{
    static struct kn_stats stats[WRITERS];
    pthread_t threads[WRITERS];
    struct kino_stats sums;
    uint64_t last = 0;
    uint64_t latencies = 0;

    for (int i = 0; i < WRITERS; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, count, &stats[i]), 0);
    do {
        sums = (struct kino_stats){.size = sizeof(sums)};
        for (int i = 0; i < WRITERS; i++)
            kn_stats_sum(&stats[i], &sums);
        cr_assert_geq(sums.requests, last);
        last = sums.requests;
    } while (last < (uint64_t)WRITERS * ROUNDS);
    for (int i = 0; i < WRITERS; i++)
        pthread_join(threads[i], NULL);
    sums = (struct kino_stats){.size = sizeof(sums)};
    for (int i = 0; i < WRITERS; i++)
        kn_stats_sum(&stats[i], &sums);
    for (int i = 0; i < KINO_HISTOGRAM_BUCKETS; i++)
        latencies += sums.latency_us[i];
    cr_assert_eq(sums.requests, (uint64_t)WRITERS * ROUNDS);
    cr_assert_eq(sums.bytes_in, (uint64_t)WRITERS * ROUNDS * 100);
    cr_assert_eq(sums.responses[2], (uint64_t)WRITERS * ROUNDS);
    cr_assert_eq(latencies, (uint64_t)WRITERS * ROUNDS);
    cr_assert_eq(sums.latency_sum_us, (uint64_t)WRITERS * ROUNDS * (ROUNDS - 1) / 2);
}

/* The size */

Test(stats, a_shorter_struct_is_filled_as_far_as_it_goes)
{
    struct kino_server *server;
    struct kino_stats stats;

    memset(&stats, 0x5a, sizeof(stats));
    stats.size = offsetof(struct kino_stats, requests);
    cr_assert_eq(kino_server_create(NULL, &server), 0);
    cr_assert_eq(kino_server_stats(server, &stats), 0);
    cr_assert_eq(stats.size, offsetof(struct kino_stats, requests));
    cr_assert_eq(stats.connections, 0);
    cr_assert_eq(stats.connections_now, 0);
    cr_assert_eq(stats.requests, UINT64_C(0x5a5a5a5a5a5a5a5a), "behind the caller's end");
    stats.size = 7;
    cr_assert_eq(kino_server_stats(server, &stats), KINO_INVALID);
    cr_assert_eq(kino_server_stats(server, NULL), KINO_INVALID);
    cr_assert_eq(kino_server_destroy(server), 0);
}

Test(stats, a_longer_struct_gets_what_is_known_and_zeroes)
{
    struct {
        struct kino_stats known;
        uint64_t tail[2];
    } longer;
    struct kino_server *server;

    memset(&longer, 0x5a, sizeof(longer));
    longer.known.size = sizeof(longer);
    cr_assert_eq(kino_server_create(NULL, &server), 0);
    cr_assert_eq(kino_server_stats(server, &longer.known), 0);
    cr_assert_eq(longer.known.size, sizeof(struct kino_stats));
    cr_assert_eq(longer.known.queue_us[KINO_HISTOGRAM_BUCKETS - 1], 0);
    cr_assert_eq(longer.tail[0], 0);
    cr_assert_eq(longer.tail[1], 0);
    cr_assert_eq(kino_server_destroy(server), 0);
}
