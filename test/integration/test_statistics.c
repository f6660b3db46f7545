/* SPDX-License-Identifier: MIT */
/* What a server tells of itself: SPEC.md 7. */
#include <sched.h>
#include <string.h>

#include "support/desk.h"

static struct kino_stats stats_of(const struct desk *desk)
{
    struct kino_stats stats = {.size = sizeof(stats)};

    cr_assert_eq(kino_server_stats(desk->server, &stats), 0);
    return stats;
}

/* A number that the loop is about to write, at `offset` of the statistics: does it become this one
 * before the deadline? */
static bool becomes(const struct desk *desk, size_t offset, uint64_t value)
{
    const uint64_t end = now_ms() + CLIENT_DEADLINE_MS;
    struct kino_stats stats;
    uint64_t now;

    do {
        sched_yield();
        stats = stats_of(desk);
        memcpy(&now, (char *)&stats + offset, sizeof(now));
    } while (now != value && now_ms() < end);
    return now == value;
}

#define ASSERT_BECOMES(desk, field, value)                                                         \
    cr_assert(becomes(desk, offsetof(struct kino_stats, field), value))

Test(statistics, are_zero_before_the_start)
{
    struct desk *desk = desk_create((struct kino_config){0}, 1);
    const struct kino_stats zero = {.size = sizeof(zero)};
    const struct kino_stats stats = stats_of(desk);

    cr_assert_arr_eq(&stats, &zero, sizeof(zero));
    cr_assert_eq(kino_server_lane_depth(desk->server, 0), KINO_INVALID);
    cr_assert_eq(kino_server_destroy(desk->server), 0);
    desk_free(desk);
}

TestEach(statistics, count_connections_and_those_open)
{
    struct desk *desk =
        desk_open((struct kino_config){.dispatch = dispatch, .loops = 2}, 2, desk_echo);
    struct client clients[5];

    for (int i = 0; i < 5; i++) {
        clients[i] = client_to(desk->port);
        cr_assert_eq(client_ask(&clients[i], GET("/")), 200);
    }
    ASSERT_BECOMES(desk, connections_now, 5);
    for (int i = 0; i < 3; i++)
        client_close(&clients[i]);
    ASSERT_BECOMES(desk, connections_now, 2);
    cr_assert_eq(stats_of(desk).connections, 5);
    cr_assert_eq(stats_of(desk).requests, 5);
    for (int i = 3; i < 5; i++)
        client_close(&clients[i]);
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(statistics, count_requests_and_those_in_flight)
{
    struct desk *desk = desk_open((struct kino_config){.dispatch = dispatch}, 1, NULL);
    struct kino_request *requests[3];
    struct client client = client_to(desk->port);

    client_send(&client, GET("/1") GET("/2") GET("/3"));
    for (int i = 0; i < 3; i++)
        requests[i] = desk_take(desk);
    ASSERT_BECOMES(desk, in_flight, 3);
    cr_assert_eq(stats_of(desk).requests, 3);
    cr_assert_eq(desk_answer_target(requests[0]), 0);
    cr_assert_eq(client_read(&client), 200);
    ASSERT_BECOMES(desk, in_flight, 2);
    kino_request_release(requests[1]);
    cr_assert_eq(client_read(&client), 500);
    ASSERT_BECOMES(desk, in_flight, 1);
    cr_assert_eq(kino_request_abort(requests[2]), 0);
    ASSERT_BECOMES(desk, in_flight, 0);
    kino_request_release(requests[2]);
    cr_assert_eq(client_expect_end(&client), CLIENT_ENDED);
    cr_assert_eq(stats_of(desk).requests, 3);
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(statistics, a_worker_s_abort_ends_what_is_in_flight)
{
    struct desk *desk = desk_open((struct kino_config){.dispatch = dispatch}, 1, NULL);
    struct client client = client_to(desk->port);
    struct kino_request *request;

    client_send(&client, GET("/1"));
    request = desk_take(desk);
    cr_assert_not_null(request);
    ASSERT_BECOMES(desk, in_flight, 1);
    cr_assert_eq(kino_worker_abort(desk->workers[0].worker, 502), 0);
    cr_assert_eq(client_read(&client), 502);
    ASSERT_BECOMES(desk, in_flight, 0);
    cr_assert_eq(desk_answer_target(request), KINO_ANSWERED);
    desk_assert_nothing_else(desk);
    ASSERT_BECOMES(desk, in_flight, 0);
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

Test(statistics, count_what_waits_in_the_queue_and_for_it)
{
    const struct kino_config config = {.queue_depth = 2, .queue_timeout_ms = 1};
    struct desk *desk = desk_open(config, 0, NULL);
    struct client client = client_to(desk->port);

    cr_assert_eq(kino_server_lane_depth(desk->server, 0), 0);
    cr_assert_eq(kino_server_lane_depth(desk->server, 1), KINO_INVALID);
    cr_assert_eq(kino_server_lane_depth(desk->server, UINT64_MAX), KINO_INVALID);
    client_send(&client, GET("/1") GET("/2") GET("/3") GET("/4"));
    ASSERT_BECOMES(desk, queue_timeouts, 2);
    cr_assert_eq(stats_of(desk).queue_full, 2);
    cr_assert_eq(stats_of(desk).requests, 4);
    cr_assert_eq(stats_of(desk).queued, 2);
    cr_assert_eq(stats_of(desk).in_flight, 2, "those that are answered are not");
    cr_assert_eq(kino_server_lane_depth(desk->server, 0), 2);
    desk_hire(desk);
    desk_answer_next(desk, "/1");
    desk_answer_next(desk, "/2");
    cr_assert_eq(client_read(&client), 200);
    cr_assert_eq(client_read(&client), 200);
    cr_assert_eq(client_read(&client), 503);
    ASSERT_BECOMES(desk, in_flight, 0);
    cr_assert_eq(stats_of(desk).queued, 0);
    cr_assert_eq(kino_server_lane_depth(desk->server, 0), 0);
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(statistics, a_late_answer_is_a_timeout_and_no_more_in_flight)
{
    struct desk *desk =
        desk_open((struct kino_config){.dispatch = dispatch, .request_timeout_ms = 1}, 1, NULL);
    struct client client = client_to(desk->port);
    struct kino_request *request;

    client_send(&client, GET("/1"));
    request = desk_take(desk);
    cr_assert_not_null(request);
    cr_assert_eq(client_read(&client), 504);
    ASSERT_BECOMES(desk, request_timeouts, 1);
    ASSERT_BECOMES(desk, in_flight, 0);
    cr_assert_eq(desk_answer_target(request), KINO_ANSWERED);
    client_close(&client);
    ASSERT_BECOMES(desk, connections_now, 0);
    cr_assert_eq(stats_of(desk).in_flight, 0, "it is counted once");
    cr_assert_eq(desk_close(desk), 0);
}

/* Each fact of a stream comes by itself, and the last ones may come twice. */
TestEach(statistics, a_stream_is_in_flight_until_it_begins)
{
    const struct kino_response begin = {
        .size = sizeof(begin), .status = 200, .flags = KINO_BODY_STREAM};
    struct desk *desk = desk_open((struct kino_config){.dispatch = dispatch}, 1, NULL);
    struct client clients[2];
    struct kino_request *request;

    for (int i = 0; i < 2; i++) {
        clients[i] = client_to(desk->port);
        client_send(&clients[i], GET("/1"));
        request = desk_take(desk);
        cr_assert_not_null(request);
        ASSERT_BECOMES(desk, in_flight, 1);
        cr_assert_eq(kino_request_respond(request, &begin), 0);
        ASSERT_BECOMES(desk, in_flight, 0);
        if (i > 0)
            cr_assert_eq(kino_request_abort(request), 0);
        kino_request_release(request);
        client_wait_end(&clients[i]);
        client_close(&clients[i]);
    }
    ASSERT_BECOMES(desk, connections_now, 0);
    cr_assert_eq(stats_of(desk).in_flight, 0);
    cr_assert_eq(stats_of(desk).requests, 2);
    cr_assert_eq(desk_close(desk), 0);
}
