/* SPDX-License-Identifier: MIT */
/* SPEC.md 5: rates, the time that a handler has, and clocks that stand still while it is not the
 * client who is slow. */
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "support/desk.h"

#define SLICE(literal) {literal, sizeof(literal) - 1}

enum {
    SHORT_MS = 100,
    LONGER_MS = 300,
    SOON_MS = 20000,
    PART = 100,
    RATE = 1000, /* bytes a second, and so one a millisecond */
};

/* Every deadline and rate is short: so whatever is let through, none of them counts. */
static struct kino_config all_short(uint64_t dispatch)
{
    return (struct kino_config){
        .dispatch = dispatch,
        .idle_timeout_ms = SHORT_MS,
        .head_timeout_ms = SHORT_MS,
        .body_timeout_ms = SHORT_MS,
        .write_timeout_ms = SHORT_MS,
        .min_body_rate_bytes = RATE,
        .min_write_rate_bytes = RATE,
        .rate_grace_ms = SHORT_MS,
    };
}

/* Only the rate of a body counts. */
static struct kino_config body_rate(uint64_t dispatch)
{
    return (struct kino_config){
        .dispatch = dispatch,
        .body_timeout_ms = KINO_OFF,
        .min_body_rate_bytes = RATE,
        .rate_grace_ms = SHORT_MS,
    };
}

static int read_some(struct kino_request *request, struct kino_slice *piece)
{
    int rc;

    while ((rc = kino_request_body(request, piece)) == KINO_AGAIN)
        if (kino_request_wait(request, KINO_STATE_READABLE, SOON_MS) < 0)
            return KINO_TIMED_OUT;
    return rc;
}

/* Read to the end. Returns what the end was. */
static int read_all(struct kino_request *request, size_t *len)
{
    struct kino_slice piece;
    int rc;

    *len = 0;
    while ((rc = read_some(request, &piece)) == 1)
        *len += piece.len;
    return rc;
}

static int begin(struct kino_request *request)
{
    const struct kino_response response = {
        .size = sizeof(response), .status = 200, .flags = KINO_BODY_STREAM};

    return kino_request_respond(request, &response);
}

static int write_text(struct kino_request *request, const char *text)
{
    const struct kino_piece piece = {.size = sizeof(piece), .data = {text, strlen(text)}};

    return kino_request_write(request, &piece);
}

static void assert_not_early(uint64_t since_ms, uint64_t delay_ms)
{
    const uint64_t passed_ms = now_ms() - since_ms;

    cr_assert_geq(passed_ms, delay_ms, "early: after %lu ms", (unsigned long)passed_ms);
}

/* Rates */

TestEach(clocks, a_body_above_the_lowest_rate_is_taken_however_long_it_is)
{
    struct desk *desk = desk_open(body_rate(dispatch), 1, desk_echo);
    struct client client = client_to(desk->port);
    const uint64_t began = now_ms();
    char part[PART];

    memset(part, 'x', sizeof(part));
    client_send(&client, POST("/", "3000", ""));
    for (int i = 0; i < 30; i++) {
        cr_assert_eq(client_send_bytes(&client, part, sizeof(part)), 0);
        if (i >= 5 && i < 29) /* half a second in advance */
            cr_assert(client_is_quiet(&client, 25), "part %d", i);
    }
    assert_not_early(began, 5 * SHORT_MS); /* the time of the first five parts has passed */
    cr_assert_eq(client_read(&client), 200);
    cr_assert_eq(client.body_len, 3000);
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(clocks, bytes_that_came_fast_pay_for_slow_ones_and_then_no_more)
{
    struct desk *desk = desk_open(body_rate(dispatch), 1, desk_echo);
    struct client client = client_to(desk->port);
    const uint64_t began = now_ms();
    char part[LONGER_MS];

    memset(part, 'x', sizeof(part));
    client_send(&client, POST("/", "3000", ""));
    client_send_bytes(&client, part, sizeof(part));
    while (client_is_quiet(&client, 10)) {
        cr_assert_eq(client_send(&client, "x"), 0);
        cr_assert_lt(now_ms(), began + SOON_MS, "it goes on for ever");
    }
    assert_not_early(began, LONGER_MS);
    cr_assert_eq(client_read(&client), 408);
    cr_assert_eq(client_expect_end(&client), CLIENT_ENDED);
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(clocks, who_reads_a_body_that_becomes_too_slow_learns_it)
{
    struct kino_config config = body_rate(dispatch);
    struct client client;
    struct kino_request *request;
    struct desk *desk;
    size_t len;

    config.max_whole_body_bytes = 1;
    desk = desk_open(config, 1, NULL);
    client = client_to(desk->port);
    client_send(&client, POST("/1", "1000", "begin"));
    request = desk_take_target(desk, "/1");
    cr_assert_eq(read_all(request, &len), KINO_GONE);
    cr_assert_eq(len, 5);
    cr_assert_eq(desk_answer(request, "late"), KINO_ANSWERED);
    cr_assert_eq(client_read(&client), 408);
    cr_assert(client_has_line(&client, "connection: close"));
    cr_assert_eq(client_expect_end(&client), CLIENT_ENDED);
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(clocks, a_body_that_becomes_too_slow_ends_the_connection_behind_an_answer_that_has_begun)
{
    struct kino_config config = body_rate(dispatch);
    struct client client;
    struct kino_request *request;
    struct desk *desk;
    size_t len;

    config.max_whole_body_bytes = 1;
    desk = desk_open(config, 1, NULL);
    client = client_to(desk->port);
    client_send(&client, POST("/1", "1000", "begin"));
    request = desk_take_target(desk, "/1");
    cr_assert_eq(begin(request), 0);
    cr_assert_eq(read_all(request, &len), KINO_GONE);
    cr_assert_eq(write_text(request, "all the same"), 0);
    cr_assert_eq(kino_request_finish(request, NULL, 0), 0);
    kino_request_release(request);
    cr_assert_eq(client_read(&client), 200);
    cr_assert(client_has_body(&client, "all the same"));
    cr_assert_eq(client_expect_end(&client), CLIENT_ENDED);
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

/* Clocks that stand still */

TestEach(clocks, a_body_that_nobody_reads_is_not_slow)
{
    enum { BODY = 4 << 20 };
    struct desk *desk = desk_open(all_short(dispatch), 1, NULL);
    struct client client = client_to(desk->port);
    char *bytes = calloc(1, BODY);
    struct kino_request *request;
    size_t sent = 0;
    size_t part;
    size_t len;

    client_send(&client, POST("/1", "4194304", ""));
    while (sent < BODY &&
           (part = client_try_send(&client, bytes + sent, BODY - sent, LONGER_MS)) > 0)
        sent += part;
    request = desk_take_target(desk, "/1");
    cr_assert(client_is_quiet(&client, LONGER_MS));
    while (sent < BODY) {
        struct kino_slice piece;

        cr_assert_eq(read_some(request, &piece), 1);
        sent += client_try_send(&client, bytes + sent, BODY - sent, 0);
    }
    cr_assert_eq(read_all(request, &len), 0);
    cr_assert_eq(desk_answer(request, "all"), 0);
    cr_assert_eq(client_read(&client), 200);
    free(bytes);
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

#define EXPECTING(target)                                                                          \
    "POST " target " HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n"

TestEach(clocks, who_waits_for_its_100_is_not_slow_before_it_comes)
{
    struct desk *desk = desk_open(all_short(dispatch), 1, NULL);
    struct client client = client_to(desk->port);
    struct kino_request *request;
    size_t len;
    uint64_t began;

    client_send(&client, EXPECTING("/1"));
    request = desk_take_target(desk, "/1");
    cr_assert(client_is_quiet(&client, LONGER_MS));
    began = now_ms();
    cr_assert_eq(read_all(request, &len), KINO_GONE);
    cr_assert_eq(len, 0);
    assert_not_early(began, SHORT_MS);
    cr_assert_eq(client_read(&client), 100);
    cr_assert_eq(client_read(&client), 408, "then its time begins");
    kino_request_release(request);
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(clocks, who_waits_for_its_100_behind_another_answer_is_not_slow)
{
    struct kino_config config = all_short(dispatch);
    struct kino_request *request;
    struct client client;
    struct desk *desk;
    uint64_t began;

    config.max_whole_body_bytes = KINO_OFF;
    desk = desk_open(config, 1, NULL);
    client = client_to(desk->port);
    client_send(&client, GET("/1") EXPECTING("/2"));
    request = desk_take_target(desk, "/1");
    cr_assert(client_is_quiet(&client, LONGER_MS));
    began = now_ms();
    cr_assert_eq(desk_answer_target(request), 0);
    cr_assert_eq(client_read(&client), 200);
    cr_assert_eq(client_read(&client), 100);
    cr_assert_eq(client_read(&client), 408, "then its time begins");
    assert_not_early(began, SHORT_MS);
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(clocks, a_stream_without_anything_to_send_is_not_slow)
{
    struct desk *desk = desk_open(all_short(dispatch), 1, NULL);
    struct client client = client_to(desk->port);
    struct kino_request *request;
    char text[512];

    client_send(&client, GET("/1"));
    request = desk_take_target(desk, "/1");
    cr_assert_eq(begin(request), 0);
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(write_text(request, "event"), 0);
        while (client_read_some(&client, text, sizeof(text)) > 0 &&
               !memmem(text, sizeof(text), "event", 5))
            ;
        memset(text, 0, sizeof(text));
        cr_assert(client_is_quiet(&client, LONGER_MS));
    }
    cr_assert_eq(kino_request_finish(request, NULL, 0), 0);
    kino_request_release(request);
    cr_assert_gt(client_read_some(&client, text, sizeof(text)), 0);
    cr_assert(memmem(text, sizeof(text), "0\r\n\r\n", 5));
    cr_assert_eq(client_expect_end(&client), CLIENT_ENDED, "from now on it is idle");
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

/* What comes after a silence is measured by itself: the silence has not been held against it. */
TestEach(clocks, a_stream_that_was_silent_has_lost_no_time)
{
    enum { GRACE_MS = 600, MUCH = 1 << 20 };
    struct kino_config config = {
        .dispatch = dispatch, .min_write_rate_bytes = 1 << 30, .rate_grace_ms = GRACE_MS};
    struct desk *desk = desk_open(config, 1, NULL);
    struct client client = client_of_little_memory(desk->port);
    char *bytes = calloc(1, MUCH);
    const struct kino_piece piece = {.size = sizeof(piece), .data = {bytes, MUCH}};
    struct kino_request *request;
    int rc;

    client_send(&client, GET("/1"));
    request = desk_take_target(desk, "/1");
    cr_assert_eq(begin(request), 0);
    cr_assert_eq(write_text(request, "event"), 0);
    cr_assert_eq(kino_request_wait(request, 0, GRACE_MS + SHORT_MS), KINO_TIMED_OUT);
    do /* until the kernel takes no more for it, either */
        rc = kino_request_write(request, &piece);
    while (rc == 0 ||
           (rc == KINO_AGAIN && kino_request_wait(request, KINO_STATE_WRITABLE, 2 * SHORT_MS) > 0));
    cr_assert_eq(rc, KINO_AGAIN);
    cr_assert_not(kino_request_state(request) & KINO_STATE_DISCONNECTED);
    cr_assert_gt(kino_request_wait(request, 0, SOON_MS), 0, "but no more than its time");
    kino_request_release(request);
    free(bytes);
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(clocks, an_upgraded_connection_may_be_silent)
{
    static const struct kino_field upgrade = {SLICE("upgrade"), SLICE("raw"), 0, 0};
    const struct kino_response response = {
        .size = sizeof(response), .status = 101, .fields = &upgrade, .field_count = 1};
    struct desk *desk = desk_open(all_short(dispatch), 1, NULL);
    struct client client = client_to(desk->port);
    struct kino_request *request;
    struct kino_slice piece;

    client_send(&client,
                "GET /1 HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: raw\r\n\r\n");
    request = desk_take_target(desk, "/1");
    cr_assert_eq(kino_request_respond(request, &response), 0);
    cr_assert_eq(client_read(&client), 101);
    for (int i = 0; i < 2; i++) {
        cr_assert(client_is_quiet(&client, LONGER_MS));
        client_send(&client, "x");
        cr_assert_eq(read_some(request, &piece), 1);
    }
    kino_request_release(request);
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

/* A handler's time */

TestEach(clocks, a_stream_that_was_begun_in_time_may_last)
{
    struct kino_config config = {.dispatch = dispatch, .request_timeout_ms = SHORT_MS};
    struct desk *desk = desk_open(config, 1, NULL);
    struct client client = client_to(desk->port);
    struct kino_request *request;

    client_send(&client, GET("/1"));
    request = desk_take_target(desk, "/1");
    cr_assert_eq(begin(request), 0);
    cr_assert_eq(kino_request_wait(request, KINO_STATE_TIMED_OUT, LONGER_MS), KINO_TIMED_OUT);
    cr_assert_eq(write_text(request, "done"), 0);
    cr_assert_eq(kino_request_finish(request, NULL, 0), 0);
    kino_request_release(request);
    cr_assert_eq(client_read(&client), 200);
    cr_assert(client_has_body(&client, "done"));
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

/* It begins when a request is handed out: so what waits for the answer before it loses none. */
TestEach(clocks, a_request_has_its_time_from_its_dispatch_on)
{
    struct kino_config config = {.dispatch = dispatch, .request_timeout_ms = LONGER_MS};
    struct desk *desk = desk_open(config, 1, NULL);
    struct client client = client_to(desk->port);
    struct kino_request *first;
    struct kino_request *second;
    uint64_t began;

    client_send(&client, POST("/1", "1", "x") POST("/2", "1", "x"));
    first = desk_take_target(desk, "/1");
    cr_assert_eq(client_read(&client), 504);
    began = now_ms();
    cr_assert_eq(desk_answer(first, "late"), KINO_ANSWERED);
    second = desk_take_target(desk, "/2");
    cr_assert_eq(client_read(&client), 504);
    assert_not_early(began, LONGER_MS - SHORT_MS); /* it was handed out before 504 was read */
    kino_request_release(second);
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

Test(clocks, what_no_worker_takes_is_late_too)
{
    struct kino_config config = {.request_timeout_ms = SHORT_MS, .queue_depth = 1};
    struct desk *desk = desk_open(config, 0, NULL);
    struct client clients[2] = {client_to(desk->port), client_to(desk->port)};
    struct kino_request *request;
    struct kino_worker *worker;

    for (int i = 0; i < 2; i++)
        client_send(&clients[i], GET("/1"));
    for (int i = 0; i < 2; i++)
        cr_assert_eq(client_read(&clients[i]), 504, "client %d", i);
    cr_assert_eq(kino_worker_create(desk->server, NULL, &worker), 0);
    cr_assert_eq(kino_worker_take(worker, SOON_MS, &request), KINO_REQUEST);
    cr_assert(kino_request_state(request) & KINO_STATE_TIMED_OUT);
    cr_assert_eq(desk_answer(request, "late"), KINO_ANSWERED);
    cr_assert_eq(kino_worker_try_take(worker, &request), KINO_AGAIN, "the other had no place");
    for (int i = 0; i < 2; i++) {
        client_send(&clients[i], GET("/2"));
        cr_assert_eq(kino_worker_take(worker, SOON_MS, &request), KINO_REQUEST);
        cr_assert_eq(desk_answer(request, "in time"), 0);
        cr_assert_eq(client_read(&clients[i]), 200);
        client_close(&clients[i]);
    }
    cr_assert_eq(kino_worker_destroy(worker), 0);
    cr_assert_eq(desk_close(desk), 0);
}

static void be_busy(void *context, struct kino_request *request)
{
    const uint64_t end = now_ms() + LONGER_MS;

    while (now_ms() < end)
        ;
    desk_echo(context, request);
}

/* Nobody could say it meanwhile. */
Test(clocks, an_inline_handler_that_does_not_wait_is_never_late)
{
    struct kino_config config = {.dispatch = KINO_DISPATCH_INLINE, .request_timeout_ms = SHORT_MS};
    struct desk *desk = desk_open(config, 1, be_busy);
    struct client client = client_to(desk->port);

    cr_assert_eq(client_ask(&client, GET("/1")), 200);
    cr_assert(client_has_body(&client, "/1"));
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}
