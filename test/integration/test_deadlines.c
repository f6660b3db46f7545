/* SPDX-License-Identifier: MIT */
/* SPEC.md 4.3 and 5: what is too slow is let go, not before its time, and nothing else is. That a
 * deadline is late by no more than a tick, the wheel's own tests show: here the machine may be
 * slow. */
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

#include "support/desk.h"

enum {
    SHORT_MS = 100,
    LONGER_MS = 300,
    LARGE = 8 << 20,
    CLIENTS = 100,
    SOON_MS = 10000, /* for what would go on for ever */
};

static char large_body[LARGE];
static char scratch[32 << 10];

enum deadline {
    IDLE,
    HEAD,
    BODY,
    WRITE,
};

/* With this deadline and no other: so nothing else can end what it is to end. */
static struct desk *open_with(uint64_t dispatch, enum deadline deadline, uint64_t ms,
                              kino_handler_fn handler)
{
    struct kino_config config = {.dispatch = dispatch, .max_whole_body_bytes = KINO_OFF};
    uint64_t *const settings[] = {
        [IDLE] = &config.idle_timeout_ms,
        [HEAD] = &config.head_timeout_ms,
        [BODY] = &config.body_timeout_ms,
        [WRITE] = &config.write_timeout_ms,
    };

    for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++)
        *settings[i] = KINO_OFF;
    *settings[deadline] = ms;
    return desk_open(config, 1, handler);
}

static void assert_not_early(uint64_t since_ms, uint64_t delay_ms)
{
    const uint64_t passed_ms = now_ms() - since_ms;

    cr_assert_geq(passed_ms, delay_ms, "early: after %lu ms", (unsigned long)passed_ms);
}

static void assert_let_go_silently(struct client *client)
{
    cr_assert_eq(client_expect_end(client), CLIENT_ENDED);
}

static void assert_let_go_with_408(struct client *client)
{
    cr_assert_eq(client_read(client), 408);
    cr_assert(client_has_line(client, "connection: close"));
    cr_assert_eq(client_expect_end(client), CLIENT_ENDED);
}

TestEach(deadlines, a_silent_client_is_let_go)
{
    struct desk *desk = open_with(dispatch, IDLE, SHORT_MS, desk_echo);
    const uint64_t began = now_ms();
    struct client client = client_to(desk->port);

    assert_let_go_silently(&client);
    assert_not_early(began, SHORT_MS);
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(deadlines, an_idle_client_is_let_go_after_its_last_answer)
{
    struct desk *desk = open_with(dispatch, IDLE, SHORT_MS, NULL);
    struct client client = client_to(desk->port);
    struct kino_request *request;
    uint64_t began;

    client_send(&client, GET("/1"));
    request = desk_take_target(desk, "/1");
    cr_assert(client_is_quiet(&client, LONGER_MS), "who waits for an answer is not idle");
    began = now_ms();
    cr_assert_eq(desk_answer_target(request), 0);
    cr_assert_eq(client_read(&client), 200);
    assert_let_go_silently(&client);
    assert_not_early(began, SHORT_MS);
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(deadlines, every_request_begins_the_idle_time_anew)
{
    struct desk *desk = open_with(dispatch, IDLE, LONGER_MS, desk_echo);
    struct client client = client_to(desk->port);

    for (int i = 0; i < 8; i++) {
        cr_assert_eq(client_ask(&client, GET("/")), 200, "request %d", i);
        cr_assert(client_is_quiet(&client, LONGER_MS / 4));
    }
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(deadlines, a_head_that_trickles_is_refused_from_its_first_byte_on)
{
    static const char head[] = "GET / HTTP/1.1\r\nhost: a\r\nx: ";
    struct desk *desk = open_with(dispatch, HEAD, SHORT_MS, desk_echo);
    struct client client = client_to(desk->port);
    uint64_t began;

    cr_assert(client_is_quiet(&client, 2 * SHORT_MS), "no byte has come");
    began = now_ms();
    client_send(&client, head);
    while (client_is_quiet(&client, SHORT_MS / 8)) {
        cr_assert_eq(client_send(&client, "x"), 0);
        cr_assert_lt(now_ms(), began + SOON_MS, "each byte extends it");
    }
    assert_let_go_with_408(&client);
    assert_not_early(began, SHORT_MS);
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(deadlines, a_second_head_has_its_own_time)
{
    struct desk *desk = open_with(dispatch, HEAD, SHORT_MS, desk_echo);
    struct client client = client_to(desk->port);
    uint64_t began;

    for (int i = 0; i < 3; i++) {
        client_send(&client, "GET / HTTP/1.1\r\n");
        cr_assert(client_is_quiet(&client, SHORT_MS / 2));
        cr_assert_eq(client_ask(&client, "host: a\r\n\r\n"), 200);
    }
    began = now_ms();
    client_send(&client, "GET / HT");
    assert_let_go_with_408(&client);
    assert_not_early(began, SHORT_MS);
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(deadlines, an_incomplete_head_behind_a_request_is_refused_after_its_answer)
{
    struct desk *desk = open_with(dispatch, HEAD, SHORT_MS, NULL);
    struct client client = client_to(desk->port);
    const uint64_t began = now_ms();
    struct kino_request *request;

    client_send(&client, GET("/1") "GET /2 HT");
    request = desk_take_target(desk, "/1");
    cr_assert(client_is_quiet(&client, LONGER_MS));
    cr_assert_eq(desk_answer_target(request), 0);
    cr_assert_eq(client_read(&client), 200);
    assert_let_go_with_408(&client);
    assert_not_early(began, SHORT_MS);
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

static void assert_body_must_go_on(struct desk *desk, const char *head, const char *part)
{
    struct client client = client_to(desk->port);
    uint64_t began;

    client_send(&client, head);
    began = now_ms();
    client_send(&client, part);
    assert_let_go_with_408(&client);
    assert_not_early(began, SHORT_MS);
    client_close(&client);
}

TestEach(deadlines, a_body_that_falls_silent_is_refused)
{
    struct desk *desk = open_with(dispatch, BODY, SHORT_MS, desk_echo);
    struct client client = client_to(desk->port);
    uint64_t began;

    assert_body_must_go_on(desk, POST("/", "10", ""), "01234");
    assert_body_must_go_on(desk, "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n",
                           "5\r\n01234\r\n");
    began = now_ms();
    cr_assert_eq(client_ask(&client, "POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\n"
                                     "content-length: 1\r\n\r\n"),
                 100);
    assert_let_go_with_408(&client);
    assert_not_early(began, SHORT_MS);
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(deadlines, a_slow_body_that_goes_on_is_taken)
{
    struct desk *desk = open_with(dispatch, BODY, LONGER_MS, desk_echo);
    struct client client = client_to(desk->port);

    client_send(&client, POST("/", "8", ""));
    for (int i = 0; i < 7; i++) {
        cr_assert_eq(client_send(&client, "x"), 0);
        cr_assert(client_is_quiet(&client, LONGER_MS / 4), "byte %d", i);
    }
    cr_assert_eq(client_ask(&client, "y"), 200);
    cr_assert(client_has_body(&client, "xxxxxxxy"));
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(deadlines, none_counts_while_a_request_is_handled)
{
    struct kino_config config = {
        .dispatch = dispatch,
        .idle_timeout_ms = SHORT_MS,
        .head_timeout_ms = SHORT_MS,
        .body_timeout_ms = SHORT_MS,
        .write_timeout_ms = SHORT_MS,
    };
    struct desk *desk = desk_open(config, 1, NULL);
    struct client client = client_to(desk->port);
    struct kino_request *request;

    client_send(&client, POST("/1", "4", "body") GET("/2"));
    request = desk_take_target(desk, "/1");
    cr_assert(client_is_quiet(&client, LONGER_MS));
    cr_assert_eq(desk_answer_target(request), 0);
    cr_assert_eq(client_read(&client), 200);
    request = desk_take_target(desk, "/2");
    cr_assert(client_is_quiet(&client, LONGER_MS));
    cr_assert_eq(desk_answer_target(request), 0);
    cr_assert_eq(client_read(&client), 200);
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

static void handle_the_first_slowly(void *context, struct kino_request *request)
{
    const uint64_t end = now_ms() + LONGER_MS;

    while (desk_is(request, "/1") && now_ms() < end)
        ;
    desk_echo(context, request);
}

/* By queue it could not; inline the loop's clock must not be that of before the handler. */
Test(deadlines, none_counts_while_an_inline_worker_handles)
{
    struct desk *desk = open_with(KINO_DISPATCH_INLINE, HEAD, SHORT_MS, handle_the_first_slowly);
    struct client client = client_to(desk->port);

    client_send(&client, POST("/1", "1", "x") "GET /2 HTTP/1.1\r\n");
    cr_assert_eq(client_read(&client), 200);
    cr_assert_eq(client_ask(&client, "host: a\r\n\r\n"), 200);
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

static _Atomic bool away;

static void stay_away(void *context, struct kino_request *request)
{
    while (desk_is(request, "/1") && atomic_load(&away))
        ;
    desk_echo(context, request);
}

/* What has arrived in time is in time, though the loop comes to see it late. */
Test(deadlines, a_head_that_was_complete_in_time_is_taken_though_the_loop_was_away)
{
    struct desk *desk = open_with(KINO_DISPATCH_INLINE, HEAD, LONGER_MS, stay_away);
    struct client slow = client_to(desk->port);
    struct client clients[CLIENTS];

    atomic_store(&away, true);
    for (int i = 0; i < CLIENTS; i++) {
        clients[i] = client_to(desk->port);
        client_send(&clients[i], "GET /2 HTTP/1.1\r\n");
    }
    cr_assert_eq(client_ask(&slow, GET("/0")), 200);
    client_send(&slow, GET("/1"));
    for (int i = 0; i < CLIENTS; i++)
        client_send(&clients[i], "host: a\r\n\r\n");
    cr_assert(client_is_quiet(&slow, LONGER_MS + SHORT_MS));
    atomic_store(&away, false);
    for (int i = 0; i < CLIENTS; i++) {
        cr_assert_eq(client_read(&clients[i]), 200, "client %d", i);
        client_close(&clients[i]);
    }
    cr_assert_eq(client_read(&slow), 200);
    client_close(&slow);
    cr_assert_eq(desk_close(desk), 0);
}

static void answer_large(struct kino_request *request)
{
    const struct kino_response response = {
        .size = sizeof(response), .status = 200, .body = {large_body, LARGE}};

    cr_assert_eq(kino_request_respond(request, &response), 0);
}

/* Before Linux 6.7 a ring cannot set a socket's options. */
static bool can_reset(void)
{
    struct utsname name;
    int version;
    int part;

    uname(&name);
    return sscanf(name.release, "%d.%d", &version, &part) == 2 &&
           (version > 6 || (version == 6 && part >= 7));
}

/* By a reset: else the kernel would keep megabytes for it, and try to send them for minutes. */
TestEach(deadlines, who_does_not_read_its_answer_is_cut_off)
{
    struct desk *desk = open_with(dispatch, WRITE, SHORT_MS, NULL);
    struct client client = client_of_little_memory(desk->port);
    struct kino_request *request;
    uint64_t began;

    client_send(&client, GET("/large"));
    request = desk_take_target(desk, "/large");
    began = now_ms();
    answer_large(request);
    cr_assert(desk_gets_state(request, KINO_STATE_DISCONNECTED));
    assert_not_early(began, SHORT_MS);
    kino_request_release(request);
    cr_assert_eq(client_read(&client), can_reset() ? CLIENT_RESET : CLIENT_CUT);
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(deadlines, who_reads_slowly_gets_all_of_it)
{
    struct desk *desk = open_with(dispatch, WRITE, 2 * LONGER_MS, NULL);
    struct client client = client_of_little_memory(desk->port);
    struct client pacemaker = client_to(desk->port);
    const uint64_t began = now_ms();
    struct kino_request *request;
    size_t count = 0;

    client_send(&client, GET("/large"));
    request = desk_take_target(desk, "/large");
    answer_large(request);
    kino_request_release(request);
    while (count < LARGE) {
        const int part = client_read_some(&client, scratch, sizeof(scratch));

        cr_assert_gt(part, 0, "cut off after %zu", count);
        count += (size_t)part;
        while (now_ms() < began + count * 3 * LONGER_MS / LARGE)
            client_is_quiet(&pacemaker, 1);
    }
    assert_not_early(began, 3 * LONGER_MS);
    client_close(&pacemaker);
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

Test(deadlines, a_refused_client_that_does_not_close_is_let_go)
{
    struct desk *desk = desk_open((struct kino_config){0}, 1, NULL);
    struct client client = client_to(desk->port);
    uint64_t began;

    cr_assert_geq(client_ask(&client, "NO HTTP\r\n\r\n"), 400);
    cr_assert_eq(client_expect_end(&client), CLIENT_ENDED);
    began = now_ms();
    cr_assert_eq(desk_close(desk), 0); /* waits for all connections to go */
    cr_assert_lt(now_ms(), began + SOON_MS);
    client_close(&client);
}

/* The queue */

TestThreaded(deadlines, what_finds_no_place_in_the_queue_is_answered_503)
{
    struct kino_config config = {
        .dispatch = dispatch, .queue_depth = 2, .queue_timeout_ms = SHORT_MS};
    struct desk *desk = desk_open(config, 0, NULL);
    const uint64_t began = now_ms();
    struct client clients[5];
    struct kino_worker *worker;
    struct kino_request *request;

    for (int i = 0; i < 5; i++) {
        clients[i] = client_to(desk->port);
        client_send(&clients[i], GET("/"));
    }
    for (int i = 2; i < 5; i++) {
        cr_assert_eq(client_read(&clients[i]), 503, "client %d", i);
        cr_assert(client_has_line(&clients[i], "retry-after: 1"));
        assert_not_early(began, SHORT_MS);
    }
    cr_assert(desk_has_logged(desk, "queue"));
    cr_assert_eq(kino_worker_create(desk->server, NULL, &worker), 0);
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(kino_worker_take(worker, SOON_MS, &request), KINO_REQUEST);
        cr_assert_eq(desk_answer(request, "at last"), 0);
        cr_assert_eq(client_read(&clients[i]), 200);
    }
    cr_assert_eq(kino_worker_try_take(worker, &request), KINO_AGAIN, "the others are settled");
    client_send(&clients[4], GET("/again"));
    cr_assert_eq(kino_worker_take(worker, SOON_MS, &request), KINO_REQUEST);
    cr_assert_eq(desk_answer(request, "there is room"), 0);
    cr_assert_eq(client_read(&clients[4]), 200);
    for (int i = 0; i < 5; i++)
        client_close(&clients[i]);
    cr_assert_eq(kino_worker_destroy(worker), 0);
    cr_assert_eq(desk_close(desk), 0);
}

TestThreaded(deadlines, what_waits_for_a_place_and_gets_one_in_time_is_served)
{
    struct kino_config config = {
        .dispatch = dispatch, .queue_depth = 1, .queue_timeout_ms = SOON_MS};
    struct desk *desk = desk_open(config, 0, NULL);
    struct client clients[5];
    struct kino_worker *worker;
    struct kino_request *request;

    for (int i = 0; i < 5; i++) {
        clients[i] = client_to(desk->port);
        client_send(&clients[i], GET("/"));
    }
    client_reset(&clients[3]); /* even one that waits may go */
    cr_assert_eq(kino_worker_create(desk->server, NULL, &worker), 0);
    cr_assert(client_is_quiet(&clients[4], SHORT_MS));
    for (int i = 0; i < 4; i++) {
        cr_assert_eq(kino_worker_take(worker, SOON_MS, &request), KINO_REQUEST, "request %d", i);
        cr_assert_eq(desk_answer(request, "in time"), 0);
    }
    for (int i = 0; i < 5; i++) {
        if (i != 3)
            cr_assert_eq(client_read(&clients[i]), 200);
        client_close(&clients[i]);
    }
    cr_assert_eq(kino_worker_destroy(worker), 0);
    cr_assert_eq(desk_close(desk), 0);
}

Test(deadlines, an_inline_worker_that_is_slow_answers_503_too)
{
    struct kino_config config = {
        .dispatch = KINO_DISPATCH_INLINE, .queue_depth = 1, .queue_timeout_ms = SHORT_MS};
    struct desk *desk = desk_open(config, 1, handle_the_first_slowly);
    struct client client = client_to(desk->port);

    client_send(&client, GET("/1") GET("/2") GET("/3") GET("/4"));
    cr_assert_eq(client_read(&client), 200);
    cr_assert_eq(client_read(&client), 200, "the one that had its place");
    cr_assert_eq(client_read(&client), 503);
    cr_assert_eq(client_read(&client), 503);
    cr_assert_eq(client_ask(&client, GET("/5")), 200);
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

/* Inline the loop cannot run while a handler does: who sets the deadline is told at the start. */
TestEach(deadlines, a_start_says_when_a_request_s_deadline_can_pass)
{
    struct desk *desk = desk_open(
        (struct kino_config){.dispatch = dispatch, .request_timeout_ms = SOON_MS}, 1, desk_echo);

    cr_assert_eq(desk_has_logged(desk, "request_timeout_ms"), dispatch == KINO_DISPATCH_INLINE);
    cr_assert_eq(desk_close(desk), 0);
}
