/* SPDX-License-Identifier: MIT */
/* What a server tells of itself: SPEC.md 7. */
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

/* What was counted, by kind */

static const char upgrade[] = "GET /up HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\n"
                              "upgrade: echo\r\n\r\n";
static const char expecting[] = "POST /100 HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\n"
                                "content-length: 2\r\n\r\n";

/* Each kind of timeout, to be compared at once. */
struct timeouts {
    uint64_t idle;
    uint64_t head;
    uint64_t body;
    uint64_t write;
    uint64_t request;
    uint64_t queue;
};

static void assert_timeouts(const struct desk *desk, struct timeouts expected)
{
    const struct kino_stats stats = stats_of(desk);

    cr_assert_eq(stats.idle_timeouts, expected.idle);
    cr_assert_eq(stats.head_timeouts, expected.head);
    cr_assert_eq(stats.body_timeouts, expected.body);
    cr_assert_eq(stats.write_timeouts, expected.write);
    cr_assert_eq(stats.request_timeouts, expected.request);
    cr_assert_eq(stats.queue_timeouts, expected.queue);
}

/* All clients are gone: does nothing of theirs stay? */
static void assert_nothing_is_left(const struct desk *desk)
{
    ASSERT_BECOMES(desk, connections_now, 0);
    ASSERT_BECOMES(desk, in_flight, 0);
    ASSERT_BECOMES(desk, queued, 0);
}

static uint64_t sum(const uint64_t *numbers, unsigned from, unsigned to)
{
    uint64_t total = 0;

    for (unsigned i = from; i < to; i++)
        total += numbers[i];
    return total;
}

static int respond(struct kino_request *request, struct kino_response response)
{
    response.size = sizeof(response);
    return kino_request_respond(request, &response);
}

static void respond_and_release(struct kino_request *request, uint64_t status)
{
    cr_assert_not_null(request);
    cr_assert_eq(respond(request, (struct kino_response){.status = status}), 0);
    kino_request_release(request);
}

TestEach(statistics, bytes_are_those_received_and_sent)
{
    static const char get[] = GET("/some/where");
    static const char post[] = POST("/", "5", "hello");
    struct desk *desk = desk_open((struct kino_config){.dispatch = dispatch}, 1, desk_echo);
    struct client client = client_to(desk->port);
    size_t received;

    cr_assert_eq(client_ask(&client, get), 200);
    received = client.used;
    ASSERT_BECOMES(desk, bytes_out, received);
    cr_assert_eq(stats_of(desk).bytes_in, strlen(get));
    cr_assert_eq(client_ask(&client, post), 200);
    received += client.used;
    ASSERT_BECOMES(desk, bytes_out, received);
    cr_assert_eq(stats_of(desk).bytes_in, strlen(get) + strlen(post));
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

/* Of a client that takes only some of a long answer, what it took and what its kernel holds. */
TestEach(statistics, bytes_count_though_the_connection_is_cut)
{
    static char body[8 << 20];
    struct desk *desk = desk_open((struct kino_config){.dispatch = dispatch}, 1, NULL);
    struct client client = client_of_little_memory(desk->port);
    struct kino_request *request;
    char piece[4096];
    uint64_t received = 0;
    int len;

    client_send(&client, GET("/long"));
    request = desk_take(desk);
    cr_assert_not_null(request);
    cr_assert_eq(
        respond(request, (struct kino_response){.status = 200, .body = {body, sizeof(body)}}), 0);
    kino_request_release(request);
    while (received < 100000 && (len = client_read_some(&client, piece, sizeof(piece))) > 0)
        received += (uint64_t)len;
    kino_server_drain(desk->server, 0);
    while ((len = client_read_some(&client, piece, sizeof(piece))) > 0)
        received += (uint64_t)len;
    ASSERT_BECOMES(desk, connections_now, 0);
    cr_assert_geq(stats_of(desk).bytes_out, received);
    cr_assert_lt(received, sizeof(body));
    cr_assert_eq(stats_of(desk).aborted, 1);
    client_close(&client);
    cr_assert_eq(desk_end(desk), 0);
}

static void exchange_status(struct desk *desk, struct client *client, uint64_t status)
{
    client_send(client, GET("/status"));
    respond_and_release(desk_take(desk), status);
    cr_assert_eq(client_read(client), (int)status);
}

static void exchange_interim(struct desk *desk, struct client *client)
{
    struct kino_request *request;

    client_send(client, GET("/interim"));
    request = desk_take(desk);
    cr_assert_not_null(request);
    cr_assert_eq(respond(request, (struct kino_response){.status = 103}), 0);
    cr_assert_eq(respond(request, (struct kino_response){.status = 103}), 0);
    respond_and_release(request, 200);
    cr_assert_eq(client_read(client), 103);
    cr_assert_eq(client_read(client), 103);
    cr_assert_eq(client_read(client), 200);
}

static void exchange_continue(struct desk *desk, struct client *client)
{
    struct kino_request *request;
    struct kino_slice piece;

    client_send(client, expecting);
    request = desk_take(desk);
    cr_assert_not_null(request);
    cr_assert_eq(kino_request_body(request, &piece), KINO_AGAIN);
    cr_assert_eq(client_read(client), 100);
    client_send(client, "ab");
    while (kino_request_body(request, &piece) != 0)
        cr_assert_geq(kino_request_wait(request, KINO_STATE_READABLE, CLIENT_DEADLINE_MS), 0);
    respond_and_release(request, 200);
    cr_assert_eq(client_read(client), 200);
}

static void exchange_raw(struct desk *desk, struct client *client)
{
    const struct kino_field field = {.name = {"upgrade", 7}, .value = {"echo", 4}};
    struct kino_request *request;

    client_send(client, upgrade);
    request = desk_take(desk);
    cr_assert_not_null(request);
    cr_assert_eq(
        respond(request, (struct kino_response){.status = 101, .fields = &field, .field_count = 1}),
        0);
    cr_assert_eq(client_read(client), 101);
    cr_assert_eq(kino_request_finish(request, NULL, 0), 0);
    kino_request_release(request);
    cr_assert_eq(client_expect_end(client), CLIENT_ENDED);
}

TestEach(statistics, answers_count_by_their_first_digit)
{
    struct desk *desk = desk_open((struct kino_config){.dispatch = dispatch}, 1, NULL);
    struct client client = client_to(desk->port);
    struct kino_stats stats;

    exchange_interim(desk, &client);
    exchange_continue(desk, &client);
    exchange_status(desk, &client, 204);
    exchange_status(desk, &client, 304);
    exchange_status(desk, &client, 404);
    client_send(&client, GET("/forgotten"));
    kino_request_release(desk_take(desk));
    cr_assert_eq(client_read(&client), 500);
    exchange_raw(desk, &client);
    client_close(&client);
    assert_nothing_is_left(desk);
    stats = stats_of(desk);
    cr_assert_eq(stats.responses[1], 2 + 1 + 1);
    cr_assert_eq(stats.responses[2], 3);
    cr_assert_eq(stats.responses[3], 1);
    cr_assert_eq(stats.responses[4], 1);
    cr_assert_eq(stats.responses[5], 1);
    cr_assert_eq(sum(stats.responses, 0, KINO_STATUS_CLASSES), 10);
    cr_assert_eq(stats.requests, 7);
    cr_assert_eq(sum(stats.latency_us, 0, KINO_HISTOGRAM_BUCKETS), 7, "interim ones have none");
    cr_assert_eq(sum(stats.queue_us, 0, KINO_HISTOGRAM_BUCKETS), 7);
    cr_assert_eq(stats.rejected + stats.aborted, 0);
    assert_timeouts(desk, (struct timeouts){0});
    cr_assert_eq(desk_close(desk), 0);
}

/* A body that every server takes whole: its 100 is the loop's. */
TestEach(statistics, the_library_s_own_100_counts)
{
    struct desk *desk = desk_open(
        (struct kino_config){.dispatch = dispatch, .max_whole_body_bytes = KINO_OFF}, 1, desk_echo);
    struct client client = client_to(desk->port);

    cr_assert_eq(client_ask(&client, expecting), 100);
    cr_assert_eq(client_ask(&client, "ab"), 200);
    cr_assert_eq(stats_of(desk).responses[1], 1);
    cr_assert_eq(stats_of(desk).responses[2], 1);
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

static void ask_alone(const struct desk *desk, const char *text, int status)
{
    struct client client = client_to(desk->port);

    cr_assert_eq(client_ask(&client, text), status);
    client_close(&client);
}

TestEach(statistics, what_is_refused_is_rejected_and_no_request)
{
    const struct kino_config config = {
        .dispatch = dispatch, .max_body_bytes = 4, .max_fields = 2, .head_timeout_ms = 500};
    struct desk *desk = desk_open(config, 1, desk_echo);
    struct kino_stats stats;

    ask_alone(desk, "GET / HTTP/1.1\r\n\r\n", 400);
    ask_alone(desk, POST("/", "5", "12345"), 413);
    ask_alone(desk, "GET / HTTP/1.1\r\nhost: a\r\nb: c\r\nd: e\r\n\r\n", 431);
    stats = stats_of(desk);
    cr_assert_eq(stats.rejected, 3);
    assert_timeouts(desk, (struct timeouts){0});
    ask_alone(desk, "GET / HTT", 408);
    assert_nothing_is_left(desk);
    stats = stats_of(desk);
    cr_assert_eq(stats.rejected, 3, "a 408 is none");
    cr_assert_eq(stats.requests, 0);
    cr_assert_eq(stats.responses[4], 4);
    cr_assert_eq(sum(stats.latency_us, 0, KINO_HISTOGRAM_BUCKETS), 4);
    cr_assert_eq(sum(stats.queue_us, 0, KINO_HISTOGRAM_BUCKETS), 0, "nobody took them");
    assert_timeouts(desk, (struct timeouts){.head = 1});
    cr_assert_eq(desk_close(desk), 0);
}

/* 8 bytes of 16 are allowed, and handed out at the head. */
TestEach(statistics, what_is_refused_while_it_is_handled_is_in_flight_no_more)
{
    const struct kino_config config = {
        .dispatch = dispatch, .max_body_bytes = 8, .max_whole_body_bytes = 2};
    struct desk *desk = desk_open(config, 1, NULL);
    struct client client = client_to(desk->port);
    struct kino_request *request;

    client_send(&client, "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
                         "8\r\n12345678\r\n");
    request = desk_take(desk);
    cr_assert_not_null(request);
    ASSERT_BECOMES(desk, in_flight, 1);
    cr_assert_eq(client_ask(&client, "8\r\n12345678\r\n"), 413);
    ASSERT_BECOMES(desk, in_flight, 0);
    cr_assert_eq(stats_of(desk).rejected, 1);
    cr_assert_eq(stats_of(desk).requests, 1);
    cr_assert_eq(desk_answer_target(request), KINO_ANSWERED);
    client_close(&client);
    assert_nothing_is_left(desk);
    cr_assert_eq(sum(stats_of(desk).responses, 0, KINO_STATUS_CLASSES), 1);
    cr_assert_eq(desk_close(desk), 0);
}

/* Timeouts */

TestEach(statistics, an_idle_timeout_is_one)
{
    struct desk *desk =
        desk_open((struct kino_config){.dispatch = dispatch, .idle_timeout_ms = 1}, 1, NULL);
    struct client client = client_to(desk->port);

    cr_assert_eq(client_expect_end(&client), CLIENT_ENDED);
    client_close(&client);
    assert_nothing_is_left(desk);
    assert_timeouts(desk, (struct timeouts){.idle = 1});
    cr_assert_eq(stats_of(desk).aborted, 0);
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(statistics, a_body_timeout_is_one_handed_out_or_not)
{
    struct desk *desk = desk_open(
        (struct kino_config){.dispatch = dispatch, .body_timeout_ms = 1, .max_whole_body_bytes = 8},
        1, NULL);
    struct client client;

    ask_alone(desk, POST("/", "5", "1"), 408);
    ASSERT_BECOMES(desk, connections_now, 0);
    assert_timeouts(desk, (struct timeouts){.body = 1});
    cr_assert_eq(stats_of(desk).requests, 0);
    client = client_to(desk->port);
    cr_assert_eq(client_ask(&client, POST("/", "9", "1")), 408);
    ASSERT_BECOMES(desk, in_flight, 0);
    kino_request_release(desk_take(desk));
    client_close(&client);
    assert_nothing_is_left(desk);
    assert_timeouts(desk, (struct timeouts){.body = 2});
    cr_assert_eq(stats_of(desk).requests, 1);
    cr_assert_eq(stats_of(desk).responses[4], 2);
    cr_assert_eq(stats_of(desk).rejected + stats_of(desk).aborted, 0);
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(statistics, a_write_timeout_is_one_and_an_abort)
{
    static char body[8 << 20];
    struct desk *desk =
        desk_open((struct kino_config){.dispatch = dispatch, .write_timeout_ms = 1}, 1, NULL);
    struct client client = client_of_little_memory(desk->port);
    struct kino_request *request;

    client_send(&client, GET("/long"));
    request = desk_take(desk);
    cr_assert_not_null(request);
    cr_assert_eq(
        respond(request, (struct kino_response){.status = 200, .body = {body, sizeof(body)}}), 0);
    kino_request_release(request);
    assert_nothing_is_left(desk);
    assert_timeouts(desk, (struct timeouts){.write = 1});
    cr_assert_eq(stats_of(desk).aborted, 1);
    cr_assert_eq(stats_of(desk).responses[2], 1);
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(statistics, a_request_timeout_is_one)
{
    struct desk *desk =
        desk_open((struct kino_config){.dispatch = dispatch, .request_timeout_ms = 1}, 1, NULL);
    struct client client = client_to(desk->port);

    cr_assert_eq(client_ask(&client, GET("/late")), 504);
    client_close(&client);
    kino_request_release(desk_take(desk));
    assert_nothing_is_left(desk);
    assert_timeouts(desk, (struct timeouts){.request = 1});
    cr_assert_eq(stats_of(desk).responses[5], 1);
    cr_assert_eq(stats_of(desk).requests, 1);
    cr_assert_eq(stats_of(desk).rejected + stats_of(desk).aborted, 0);
    cr_assert_eq(desk_close(desk), 0);
}

/* Answers /hold only when its wait was interrupted: meanwhile an inline loop runs on. */
static void hold(void *context, struct kino_request *request)
{
    struct desk *desk = context;

    if (desk_is(request, "/hold")) {
        pthread_mutex_lock(&desk->mutex);
        desk->requests[desk->request_count++] = kino_request_hold(request);
        pthread_cond_broadcast(&desk->changed);
        pthread_mutex_unlock(&desk->mutex);
        kino_request_wait(request, 0, KINO_OFF);
    }
    desk_echo(context, request);
}

static void let_go(struct kino_request *held)
{
    kino_request_interrupt(held);
    kino_request_release(held);
}

TestEach(statistics, a_queue_timeout_is_one)
{
    const struct kino_config config = {
        .dispatch = dispatch, .queue_depth = 1, .queue_timeout_ms = 1};
    struct desk *desk = desk_open(config, 1, hold);
    struct client holder = client_to(desk->port);
    struct client waiter = client_to(desk->port);
    struct kino_request *held;

    client_send(&holder, GET("/hold"));
    held = desk_take(desk);
    cr_assert_not_null(held);
    client_send(&waiter, GET("/waits"));
    ASSERT_BECOMES(desk, queued, 1);
    ask_alone(desk, GET("/too-many"), 503);
    let_go(held);
    cr_assert_eq(client_read(&holder), 200);
    cr_assert_eq(client_read(&waiter), 200);
    client_close(&holder);
    client_close(&waiter);
    assert_nothing_is_left(desk);
    assert_timeouts(desk, (struct timeouts){.queue = 1});
    cr_assert_eq(stats_of(desk).queue_full, 1);
    cr_assert_eq(stats_of(desk).requests, 3);
    cr_assert_eq(stats_of(desk).responses[5], 1);
    cr_assert_eq(stats_of(desk).rejected + stats_of(desk).aborted, 0);
    cr_assert_eq(sum(stats_of(desk).queue_us, 0, KINO_HISTOGRAM_BUCKETS), 2);
    cr_assert_eq(desk_close(desk), 0);
}

/* Its 413 ends its wait for room, and it is neither handed out nor late. */
TestEach(statistics, what_is_refused_while_it_waits_for_room_waits_no_more)
{
    const struct kino_config config = {.dispatch = dispatch,
                                       .queue_depth = 1,
                                       .max_body_bytes = 8,
                                       .max_whole_body_bytes = 2,
                                       .queue_timeout_ms = KINO_OFF};
    struct desk *desk = desk_open(config, 1, hold);
    struct client holder = client_to(desk->port);
    struct client waiter = client_to(desk->port);
    struct client client = client_to(desk->port);
    struct kino_request *held;

    client_send(&holder, GET("/hold"));
    held = desk_take(desk);
    cr_assert_not_null(held);
    client_send(&waiter, GET("/waits"));
    ASSERT_BECOMES(desk, queued, 1);
    client_send(&client, "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
                         "8\r\n12345678\r\n");
    ASSERT_BECOMES(desk, queue_full, 1);
    cr_assert_eq(client_ask(&client, "8\r\n12345678\r\n"), 413);
    let_go(held);
    cr_assert_eq(client_read(&holder), 200);
    cr_assert_eq(client_read(&waiter), 200);
    cr_assert_eq(client_ask(&holder, GET("/after")), 200);
    cr_assert(desk_has_taken(desk, 3));
    cr_assert_eq(desk_count_taken(desk), 3, "not the one that was refused");
    client_close(&client);
    client_close(&holder);
    client_close(&waiter);
    assert_nothing_is_left(desk);
    assert_timeouts(desk, (struct timeouts){0});
    cr_assert_eq(desk_close(desk), 0);
}

/* Aborts */

TestEach(statistics, what_the_program_gives_up_is_aborted)
{
    const struct kino_response begin = {
        .size = sizeof(begin), .status = 200, .flags = KINO_BODY_STREAM, .body = {"x", 1}};
    struct desk *desk = desk_open((struct kino_config){.dispatch = dispatch}, 1, NULL);
    struct client client = client_to(desk->port);
    struct kino_request *request;

    client_send(&client, GET("/aborted"));
    request = desk_take(desk);
    cr_assert_not_null(request);
    cr_assert_eq(kino_request_abort(request), 0);
    cr_assert_eq(client_expect_end(&client), CLIENT_ENDED);
    ASSERT_BECOMES(desk, aborted, 1);
    kino_request_release(request);
    client_close(&client);
    client = client_to(desk->port);
    client_send(&client, GET("/unfinished"));
    request = desk_take(desk);
    cr_assert_not_null(request);
    cr_assert_eq(kino_request_respond(request, &begin), 0);
    kino_request_release(request);
    cr_assert_eq(client_read(&client), CLIENT_CUT);
    client_close(&client);
    assert_nothing_is_left(desk);
    cr_assert_eq(stats_of(desk).aborted, 2);
    cr_assert_eq(stats_of(desk).responses[2], 1);
    cr_assert_eq(sum(stats_of(desk).responses, 0, KINO_STATUS_CLASSES), 1);
    assert_timeouts(desk, (struct timeouts){0});
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(statistics, a_file_that_is_too_short_is_an_abort)
{
    struct desk *desk = desk_open((struct kino_config){.dispatch = dispatch}, 1, NULL);
    struct client client = client_to(desk->port);
    char path[] = "/tmp/kino-short-XXXXXX";
    const int fd = mkstemp(path);
    struct kino_request *request;

    unlink(path);
    client_send(&client, GET("/file"));
    request = desk_take(desk);
    cr_assert_not_null(request);
    cr_assert_eq(respond(request, (struct kino_response){.status = 200,
                                                         .flags = KINO_BODY_FILE,
                                                         .descriptor = (uint64_t)fd,
                                                         .length = 10}),
                 0);
    kino_request_release(request);
    cr_assert_leq(client_read(&client), 0);
    client_close(&client);
    assert_nothing_is_left(desk);
    cr_assert_eq(stats_of(desk).aborted, 1);
    cr_assert_eq(desk_close(desk), 0);
}

/* The loop ends before the user is done: what it tells afterwards nobody counts. */
TestEach(statistics, what_a_drain_s_deadline_finds_is_aborted)
{
    struct desk *desk = desk_open((struct kino_config){.dispatch = dispatch}, 1, NULL);
    struct client client = client_to(desk->port);
    struct kino_request *request;

    client_send(&client, GET("/held"));
    request = desk_take(desk);
    cr_assert_not_null(request);
    kino_server_drain(desk->server, 1);
    cr_assert_eq(client_expect_end(&client), CLIENT_ENDED);
    assert_nothing_is_left(desk);
    cr_assert_eq(stats_of(desk).aborted, 1);
    cr_assert_eq(desk_answer_target(request), 0);
    cr_assert_eq(stats_of(desk).in_flight, 0);
    cr_assert_eq(sum(stats_of(desk).responses, 0, KINO_STATUS_CLASSES), 0);
    client_close(&client);
    cr_assert_eq(desk_end(desk), 0);
}

/* FIN in the middle of a body, and a reset: the library closes because there is nobody. */
TestEach(statistics, a_client_that_breaks_off_is_no_abort)
{
    struct desk *desk =
        desk_open((struct kino_config){.dispatch = dispatch, .max_whole_body_bytes = 2}, 1, NULL);
    struct kino_request *request;
    struct client client = client_to(desk->port);

    client_send(&client, POST("/", "9", "1"));
    request = desk_take(desk);
    cr_assert_not_null(request);
    client_finish(&client);
    cr_assert(desk_gets_state(request, KINO_STATE_DISCONNECTED));
    kino_request_release(request);
    client_close(&client);
    client = client_to(desk->port);
    client_send(&client, GET("/"));
    request = desk_take(desk);
    cr_assert_not_null(request);
    client_reset(&client);
    cr_assert(desk_gets_state(request, KINO_STATE_DISCONNECTED));
    cr_assert_eq(stats_of(desk).in_flight, 1, "somebody has it");
    cr_assert_eq(desk_answer_target(request), 0);
    assert_nothing_is_left(desk);
    cr_assert_eq(stats_of(desk).aborted, 0);
    cr_assert_eq(sum(stats_of(desk).responses, 0, KINO_STATUS_CLASSES), 0);
    cr_assert_eq(desk_close(desk), 0);
}

/* The worker may be dead, and never release it. */
TestEach(statistics, a_worker_s_abort_reaches_what_has_lost_its_client)
{
    const struct kino_response begin = {
        .size = sizeof(begin), .status = 200, .flags = KINO_BODY_STREAM, .body = {"x", 1}};
    struct desk *desk = desk_open((struct kino_config){.dispatch = dispatch}, 1, NULL);
    struct client clients[2] = {client_to(desk->port), client_to(desk->port)};
    struct kino_request *requests[2];

    for (int i = 0; i < 2; i++) {
        client_send(&clients[i], GET("/held"));
        requests[i] = desk_take(desk);
        cr_assert_not_null(requests[i]);
    }
    cr_assert_eq(kino_request_respond(requests[1], &begin), 0);
    for (int i = 0; i < 2; i++) {
        client_reset(&clients[i]);
        cr_assert(desk_gets_state(requests[i], KINO_STATE_DISCONNECTED));
    }
    cr_assert_eq(stats_of(desk).in_flight, 1);
    cr_assert_eq(kino_worker_abort(desk->workers[0].worker, 502), 0);
    assert_nothing_is_left(desk);
    cr_assert_eq(stats_of(desk).responses[5], 0, "nobody got it");
    cr_assert_eq(desk_answer_target(requests[0]), KINO_ANSWERED);
    kino_request_release(requests[1]);
    desk_assert_nothing_else(desk);
    assert_nothing_is_left(desk);
    cr_assert_eq(desk_close(desk), 0);
}

/* Durations */

/* Can these buckets have this sum? */
static void assert_adds_up(const uint64_t *buckets, uint64_t sum_us)
{
    uint64_t least = 0;
    uint64_t most = 0;

    for (unsigned i = 0; i < KINO_HISTOGRAM_BUCKETS; i++) {
        least += buckets[i] * (i > 0 ? UINT64_C(1) << (i - 1) : 0);
        most += buckets[i] * ((UINT64_C(1) << i) - 1);
    }
    cr_assert_leq(least, sum_us);
    cr_assert_geq(most, sum_us);
}

enum {
    LATE_MS = 20,
    LATE_BUCKET = 15, /* from 16,384 us on */
};

/* Three are answered at once but for the first, which is late; one of them waits for it in the
 * queue. */
TestEach(statistics, histograms_add_up_and_tell_what_was_late)
{
    struct desk *desk = desk_open((struct kino_config){.dispatch = dispatch}, 1, hold);
    struct client holder = client_to(desk->port);
    struct client waiter = client_to(desk->port);
    struct kino_request *held;
    struct kino_stats stats;

    client_send(&holder, GET("/hold"));
    held = desk_take(desk);
    cr_assert_not_null(held);
    client_send(&waiter, GET("/waits"));
    ASSERT_BECOMES(desk, queued, 1);
    for (const uint64_t end = now_ms() + LATE_MS + 1; now_ms() < end;)
        sched_yield();
    let_go(held);
    cr_assert_eq(client_read(&holder), 200);
    cr_assert_eq(client_read(&waiter), 200);
    cr_assert_eq(client_ask(&holder, GET("/3")), 200);
    stats = stats_of(desk);
    cr_assert_eq(sum(stats.latency_us, 0, KINO_HISTOGRAM_BUCKETS), 3);
    cr_assert_geq(sum(stats.latency_us, LATE_BUCKET, KINO_HISTOGRAM_BUCKETS), 2);
    cr_assert_geq(stats.latency_sum_us, 2 * LATE_MS * 1000);
    assert_adds_up(stats.latency_us, stats.latency_sum_us);
    cr_assert_eq(sum(stats.queue_us, 0, KINO_HISTOGRAM_BUCKETS), 3);
    cr_assert_geq(sum(stats.queue_us, LATE_BUCKET, KINO_HISTOGRAM_BUCKETS), 1);
    cr_assert_geq(stats.queue_sum_us, LATE_MS * 1000);
    cr_assert_leq(stats.queue_sum_us, stats.latency_sum_us);
    assert_adds_up(stats.queue_us, stats.queue_sum_us);
    client_close(&holder);
    client_close(&waiter);
    cr_assert_eq(desk_close(desk), 0);
}
