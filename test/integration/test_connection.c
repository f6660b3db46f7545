/* SPDX-License-Identifier: MIT */
/* One connection's life: SPEC.md 2.5 to 2.9, 3.3, 3.4, 4.4 and 4.5 over sockets. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/desk.h"

enum {
    LARGE = 8 << 20,
    MANY = 200,
};

static struct kino_config by(uint64_t dispatch)
{
    return (struct kino_config){.dispatch = dispatch};
}

/* The same, with every body complete before its request is handed out. */
static struct kino_config whole(uint64_t dispatch)
{
    return (struct kino_config){.dispatch = dispatch, .max_whole_body_bytes = KINO_OFF};
}

static void assert_answer(struct client *client, const char *body)
{
    cr_assert_eq(client_read(client), 200);
    cr_assert(client_has_body(client, body), "%s, not %.*s", body, (int)client->body_len,
              client->body);
}

TestEach(connection, is_kept_alive)
{
    struct desk *desk;
    struct client client;

    desk = desk_open(by(dispatch), 1, desk_echo);
    client = client_to(desk->port);
    for (int i = 0; i < 100; i++) {
        cr_assert_eq(client_ask(&client, GET("/again")), 200);
        cr_assert(client_has_body(&client, "/again"));
        cr_assert(client_has_line(&client, "content-length: 6"));
        cr_assert_not(client_has_line(&client, "connection: close"));
    }
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(connection, takes_a_request_byte_by_byte)
{
    static const char text[] = POST("/slowly", "4", "body") GET("/next");
    struct desk *desk;
    struct client client;

    desk = desk_open(by(dispatch), 1, desk_echo);
    client = client_to(desk->port);
    for (size_t i = 0; i < sizeof(text) - 1; i++)
        cr_assert_eq(client_send_bytes(&client, text + i, 1), 0);
    assert_answer(&client, "body");
    assert_answer(&client, "/next");
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(connection, serves_many_at_once)
{
    static struct client clients[MANY];
    struct desk *desk;
    char target[32];
    char text[128];

    desk = desk_open(by(dispatch), 2, desk_echo);
    for (int i = 0; i < MANY; i++)
        clients[i] = client_to(desk->port);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < MANY; i++) {
            snprintf(text, sizeof(text), "GET /%d/%d HTTP/1.1\r\nhost: a\r\n\r\n", round, i);
            cr_assert_eq(client_send(&clients[i], text), 0);
        }
        for (int i = 0; i < MANY; i++) {
            snprintf(target, sizeof(target), "/%d/%d", round, i);
            assert_answer(&clients[i], target);
        }
    }
    for (int i = 0; i < MANY; i++)
        client_close(&clients[i]);
    cr_assert_eq(desk_close(desk), 0);
}

/* Pipelining */

TestEach(connection, pipelined_answers_keep_their_order_whichever_is_ready_first)
{
    static const char *const targets[] = {"/1", "/2", "/3", "/4", "/5", "/6", "/7", "/8"};
    struct kino_request *requests[8];
    struct desk *desk;
    struct client client;

    desk = desk_open(by(dispatch), 1, NULL);
    client = client_to(desk->port);
    client_send(&client, GET("/1") GET("/2") GET("/3") GET("/4"));
    client_send(&client, GET("/5") GET("/6") GET("/7") GET("/8"));
    for (int i = 0; i < 8; i++)
        requests[i] = desk_take_target(desk, targets[i]);
    for (int i = 7; i > 0; i--)
        cr_assert_eq(desk_answer_target(requests[i]), 0);
    desk_assert_nothing_else(desk);
    cr_assert(client_is_quiet(&client, 0), "the first comes first");
    cr_assert_eq(desk_answer_target(requests[0]), 0);
    for (int i = 0; i < 8; i++)
        assert_answer(&client, targets[i]);
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

TestThreaded(connection, pipelined_requests_are_handed_to_several_workers_and_answered_in_order)
{
    struct desk *desk;
    struct client client;
    char text[4096] = "";
    char target[16];

    desk = desk_open(by(dispatch), 4, desk_echo);
    client = client_to(desk->port);
    for (int round = 0; round < 50; round++) {
        text[0] = '\0';
        for (int i = 0; i < 16; i++)
            snprintf(text + strlen(text), sizeof(text) - strlen(text),
                     "GET /%d HTTP/1.1\r\nhost: a\r\n\r\n", i);
        client_send(&client, text);
        for (int i = 0; i < 16; i++) {
            snprintf(target, sizeof(target), "/%d", i);
            assert_answer(&client, target);
        }
    }
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(connection, unsafe_requests_are_handled_one_by_one)
{
    struct kino_request *first;
    struct kino_request *second;
    struct desk *desk;
    struct client client;

    desk = desk_open(by(dispatch), 1, NULL);
    client = client_to(desk->port);
    client_send(&client, GET("/1") GET("/2") POST("/3", "1", "x") POST("/4", "1", "x") GET("/5"));
    first = desk_take_target(desk, "/1");
    second = desk_take_target(desk, "/2");
    desk_assert_nothing_else(desk);
    cr_assert_eq(desk_answer_target(second), 0);
    desk_assert_nothing_else(desk);
    cr_assert_eq(desk_answer_target(first), 0);
    first = desk_take_target(desk, "/3");
    desk_assert_nothing_else(desk);
    cr_assert_eq(desk_answer_target(first), 0);
    first = desk_take_target(desk, "/4");
    desk_assert_nothing_else(desk);
    cr_assert_eq(desk_answer_target(first), 0);
    desk_answer_next(desk, "/5");
    assert_answer(&client, "/1");
    assert_answer(&client, "/2");
    assert_answer(&client, "/3");
    assert_answer(&client, "/4");
    assert_answer(&client, "/5");
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(connection, no_more_are_handed_out_than_max_pipelined_until_one_is_released)
{
    struct kino_config config = {.dispatch = dispatch, .max_pipelined = 2};
    struct kino_request *first;
    struct kino_request *second;
    struct desk *desk;
    struct client client;

    desk = desk_open(config, 1, NULL);
    client = client_to(desk->port);
    client_send(&client, GET("/1") GET("/2") GET("/3") GET("/4"));
    first = desk_take_target(desk, "/1");
    second = desk_take_target(desk, "/2");
    desk_assert_nothing_else(desk);
    kino_request_hold(first);
    cr_assert_eq(desk_answer_target(first), 0);
    assert_answer(&client, "/1");
    desk_assert_nothing_else(desk); /* answered, not released */
    kino_request_release(first);
    desk_answer_next(desk, "/3");
    cr_assert_eq(desk_answer_target(second), 0);
    desk_answer_next(desk, "/4");
    assert_answer(&client, "/2");
    assert_answer(&client, "/3");
    assert_answer(&client, "/4");
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(connection, much_more_than_max_pipelined_waits_and_none_is_lost)
{
    struct kino_config config = {.dispatch = dispatch, .max_pipelined = 4};
    struct desk *desk;
    struct client client;
    char target[16];
    char *text = calloc(5000, 64);
    size_t len = 0;

    desk = desk_open(config, 2, desk_echo);
    client = client_to(desk->port);
    for (int i = 0; i < 5000; i++)
        len += (size_t)sprintf(text + len, "GET /%d HTTP/1.1\r\nhost: a\r\n\r\n", i);
    cr_assert_eq(client_send_bytes(&client, text, len), 0);
    for (int i = 0; i < 5000; i++) {
        snprintf(target, sizeof(target), "/%d", i);
        assert_answer(&client, target);
    }
    free(text);
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

/* Bodies */

static char *pattern(size_t len)
{
    char *bytes = malloc(len);

    for (size_t i = 0; i < len; i++)
        bytes[i] = (char)(i * 31 + i / 253);
    return bytes;
}

TestEach(connection, bodies_come_whole_by_content_length)
{
    struct desk *desk;
    struct client client;
    char *bytes = pattern(LARGE);
    char head[128];

    desk = desk_open(whole(dispatch), 1, desk_echo);
    client = client_to(desk->port);
    cr_assert_eq(client_ask(&client, POST("/", "5", "hello")), 200);
    cr_assert(client_has_body(&client, "hello"));
    cr_assert_eq(client_ask(&client, POST("/empty", "0", "")), 200);
    cr_assert(client_has_body(&client, "/empty"));
    snprintf(head, sizeof(head), "PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n", LARGE);
    cr_assert_eq(client_send(&client, head), 0);
    cr_assert_eq(client_send_bytes(&client, bytes, LARGE), 0);
    cr_assert_eq(client_read(&client), 200);
    cr_assert_eq(client.body_len, LARGE);
    cr_assert_arr_eq(client.body, bytes, LARGE);
    free(bytes);
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(connection, bodies_come_whole_by_chunks)
{
    struct desk *desk;
    struct client client;
    char *bytes = pattern(100000);
    char size[16];

    desk = desk_open(whole(dispatch), 1, desk_echo);
    client = client_to(desk->port);
    cr_assert_eq(client_send(&client, "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n"
                                      "\r\n5\r\nhel"),
                 0);
    cr_assert_eq(client_send(&client, "lo\r\n6;extension=1\r\n world\r\n0\r\ntrailer: 1\r\n"), 0);
    cr_assert_eq(client_ask(&client, "\r\n"), 200);
    cr_assert(client_has_body(&client, "hello world"));
    client_send(&client, "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
    for (size_t at = 0, len = 1; at < 100000; at += len, len = len * 3 % 7919 + 1) {
        if (len > 100000 - at)
            len = 100000 - at;
        snprintf(size, sizeof(size), "%zx\r\n", len);
        client_send(&client, size);
        client_send_bytes(&client, bytes + at, len);
        client_send(&client, "\r\n");
    }
    cr_assert_eq(client_ask(&client, "0\r\n\r\n"), 200);
    cr_assert_eq(client.body_len, 100000);
    cr_assert_arr_eq(client.body, bytes, 100000);
    free(bytes);
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

/* Together they are more than the receive buffers of a loop: none is forgotten while it waits. */
TestEach(connection, many_large_bodies_come_at_once)
{
    enum { BODIES = 32, PART = 32 << 10, PARTS = 16 };
    struct desk *desk = desk_open(whole(dispatch), 1, desk_echo);
    struct client clients[BODIES];
    char *bytes = pattern(PART * PARTS);
    char head[128];

    snprintf(head, sizeof(head), "PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n",
             PART * PARTS);
    for (int i = 0; i < BODIES; i++) {
        clients[i] = client_to(desk->port);
        cr_assert_eq(client_send(&clients[i], head), 0);
    }
    for (int part = 0; part < PARTS; part++)
        for (int i = 0; i < BODIES; i++)
            cr_assert_eq(client_send_bytes(&clients[i], bytes + part * PART, PART), 0);
    for (int i = 0; i < BODIES; i++) {
        cr_assert_eq(client_read(&clients[i]), 200, "client %d", i);
        cr_assert_eq(clients[i].body_len, PART * PARTS);
        cr_assert_arr_eq(clients[i].body, bytes, PART * PARTS);
        client_close(&clients[i]);
    }
    free(bytes);
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(connection, a_body_over_the_limit_is_refused)
{
    static const char chunked[] =
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    struct kino_config config = {.dispatch = dispatch, .max_body_bytes = 10};
    struct desk *desk;
    struct client client;

    desk = desk_open(config, 1, desk_echo);
    client = client_to(desk->port);
    cr_assert_eq(client_ask(&client, POST("/", "10", "0123456789")), 200);
    client_send(&client, chunked);
    cr_assert_eq(client_ask(&client, "5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n"), 200);
    client_send(&client, chunked);
    cr_assert_eq(client_ask(&client, "5\r\n01234\r\n6\r\n567890\r\n0\r\n\r\n"), 413);
    cr_assert(client_has_line(&client, "connection: close"));
    cr_assert_eq(client_expect_end(&client), CLIENT_ENDED);
    client_close(&client);
    client = client_to(desk->port);
    cr_assert_eq(client_ask(&client, POST("/", "11", "0")), 413);
    cr_assert(client_has_line(&client, "connection: close"));
    cr_assert_eq(client_expect_end(&client), CLIENT_ENDED);
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

#define EXPECTING(length)                                                                          \
    "POST /expect HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: " length "\r\n\r" \
    "\n"

TestEach(connection, who_expects_100_gets_it_before_the_body)
{
    struct desk *desk;
    struct client client;

    desk = desk_open(whole(dispatch), 1, desk_echo);
    client = client_to(desk->port);
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(client_ask(&client, EXPECTING("4")), 100);
        cr_assert(client_is_quiet(&client, 0));
        cr_assert_eq(client_ask(&client, "body"), 200);
        cr_assert(client_has_body(&client, "body"));
    }
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(connection, a_100_waits_for_the_answers_before_it)
{
    struct kino_request *first;
    struct desk *desk;
    struct client client;

    desk = desk_open(whole(dispatch), 1, NULL);
    client = client_to(desk->port);
    client_send(&client, GET("/1") EXPECTING("4"));
    first = desk_take_target(desk, "/1");
    desk_assert_nothing_else(desk);
    cr_assert(client_is_quiet(&client, 0), "not before the first answer");
    cr_assert_eq(desk_answer_target(first), 0);
    assert_answer(&client, "/1");
    cr_assert_eq(client_read(&client), 100);
    client_send(&client, "body");
    desk_answer_next(desk, "/expect");
    assert_answer(&client, "/expect");
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(connection, a_body_that_does_not_wait_for_its_100_is_taken)
{
    struct desk *desk;
    struct client client;
    int status;

    desk = desk_open(whole(dispatch), 1, desk_echo);
    client = client_to(desk->port);
    status = client_ask(&client, EXPECTING("4") "body" GET("/next"));
    if (status == 100)
        status = client_read(&client);
    cr_assert_eq(status, 200);
    cr_assert(client_has_body(&client, "body"));
    assert_answer(&client, "/next");
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(connection, no_100_to_what_is_refused_and_none_to_http_1_0)
{
    struct kino_config config = {.dispatch = dispatch, .max_body_bytes = 10};
    struct desk *desk;
    struct client client;

    desk = desk_open(config, 1, desk_echo);
    client = client_to(desk->port);
    cr_assert_eq(client_ask(&client, EXPECTING("11")), 413);
    client_close(&client);
    client = client_to(desk->port);
    cr_assert_eq(client_ask(&client, "GET / HTTP/1.1\r\nhost: a\r\nexpect: tea\r\n\r\n"), 417);
    client_close(&client);
    client = client_to(desk->port);
    client_send(&client, "POST / HTTP/1.0\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n");
    cr_assert_eq(client_ask(&client, "body"), 200);
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

/* Answers without a body, and ends */

static void answer_by_target(void *context, struct kino_request *request)
{
    static const struct kino_field close = {.name = {"Connection", 10}, .value = {"close", 5}};
    struct kino_response response = {
        .size = sizeof(response), .status = 200, .body = {"some text", 9}};

    (void)context;
    if (desk_is(request, "/204"))
        response.status = 204;
    if (desk_is(request, "/304"))
        response.status = 304;
    if (desk_is(request, "/close")) {
        response.fields = &close;
        response.field_count = 1;
    }
    kino_request_respond(request, &response);
}

TestEach(connection, head_204_and_304_have_no_body)
{
    struct desk *desk;
    struct client client;

    desk = desk_open(by(dispatch), 1, answer_by_target);
    client = client_to(desk->port);
    client_send(&client, "HEAD / HTTP/1.1\r\nhost: a\r\n\r\n" GET("/204") GET("/304") GET("/200"));
    cr_assert_eq(client_read_bodiless(&client), 200);
    cr_assert(client_has_line(&client, "content-length: 9"));
    cr_assert_eq(client_read(&client), 204);
    cr_assert_eq(client_read(&client), 304);
    assert_answer(&client, "some text");
    cr_assert(client_is_quiet(&client, 0));
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

static void assert_closes_after(const struct desk *desk, const char *text, bool says_so)
{
    struct client client = client_to(desk->port);

    cr_assert_eq(client_ask(&client, text), 200);
    cr_assert_eq(client_has_line(&client, "connection: close"), says_so);
    cr_assert_eq(client_expect_end(&client), CLIENT_ENDED);
    client_close(&client);
}

TestEach(connection, closes_where_the_client_the_program_or_the_version_says_so)
{
    struct desk *desk;
    struct client client;

    desk = desk_open(by(dispatch), 1, answer_by_target);
    assert_closes_after(desk, "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", true);
    assert_closes_after(desk, GET("/close"), true);
    assert_closes_after(desk, "GET / HTTP/1.0\r\n\r\n", true);
    client = client_to(desk->port);
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(client_ask(&client, "GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n"), 200);
        cr_assert(client_has_line(&client, "connection: keep-alive"));
    }
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(connection, nothing_behind_the_last_request_is_answered)
{
    struct desk *desk;
    struct client client;

    desk = desk_open(by(dispatch), 1, answer_by_target);
    client = client_to(desk->port);
    cr_assert_eq(client_ask(&client, GET("/close") GET("/200") GET("/200")), 200);
    cr_assert_eq(client_expect_end(&client), CLIENT_ENDED);
    client_close(&client);
    client = client_to(desk->port);
    cr_assert_eq(client_ask(&client, "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
                                     "rubbish rubbish rubbish\r\n\r\n"),
                 200);
    cr_assert_eq(client_expect_end(&client), CLIENT_ENDED);
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(connection, a_refused_client_that_goes_on_sending_still_reads_why)
{
    static const char rubbish[1 << 20];
    struct desk *desk;
    struct client client;

    desk = desk_open(by(dispatch), 1, desk_echo);
    client = client_to(desk->port);
    client_send(&client, GET("/first") "NO HTTP\r\n\r\n");
    cr_assert_eq(client_send_bytes(&client, rubbish, sizeof(rubbish)), 0,
                 "the server reads on to let it finish");
    assert_answer(&client, "/first");
    cr_assert_geq(client_read(&client), 400);
    cr_assert(client_has_line(&client, "connection: close"));
    cr_assert_eq(client_expect_end(&client), CLIENT_ENDED);
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(connection, a_refusal_waits_for_the_answers_before_it)
{
    struct kino_request *first;
    struct desk *desk;
    struct client client;

    desk = desk_open(by(dispatch), 1, NULL);
    client = client_to(desk->port);
    client_send(&client, GET("/1") "NO HTTP\r\n\r\n");
    first = desk_take_target(desk, "/1");
    desk_assert_nothing_else(desk);
    cr_assert(client_is_quiet(&client, 0));
    cr_assert_eq(desk_answer_target(first), 0);
    assert_answer(&client, "/1");
    cr_assert_geq(client_read(&client), 400);
    cr_assert_eq(client_expect_end(&client), CLIENT_ENDED);
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

/* The client leaves */

TestEach(connection, a_half_closed_client_gets_every_answer)
{
    struct desk *desk;
    struct client client;

    desk = desk_open(by(dispatch), 1, NULL);
    client = client_to(desk->port);
    client_send(&client, GET("/1") GET("/2") POST("/3", "1", "x") GET("/4"));
    client_finish(&client);
    desk_answer_next(desk, "/1");
    desk_answer_next(desk, "/2");
    desk_answer_next(desk, "/3");
    desk_answer_next(desk, "/4");
    assert_answer(&client, "/1");
    assert_answer(&client, "/2");
    assert_answer(&client, "/3");
    assert_answer(&client, "/4");
    cr_assert_eq(client_expect_end(&client), CLIENT_ENDED);
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(connection, a_half_closed_client_gets_the_answers_that_wait_for_a_release)
{
    struct kino_config config = {.dispatch = dispatch, .max_pipelined = 1};
    struct kino_request *first;
    struct desk *desk;
    struct client client;

    desk = desk_open(config, 1, NULL);
    client = client_to(desk->port);
    client_send(&client, GET("/1") GET("/2"));
    client_finish(&client);
    first = kino_request_hold(desk_take_target(desk, "/1"));
    cr_assert(desk_gets_state(first, KINO_STATE_PEER_DONE));
    cr_assert_eq(desk_answer_target(first), 0);
    assert_answer(&client, "/1");
    desk_assert_nothing_else(desk);
    kino_request_release(first);
    desk_answer_next(desk, "/2");
    assert_answer(&client, "/2");
    cr_assert_eq(client_expect_end(&client), CLIENT_ENDED);
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(connection, a_half_closed_incomplete_request_is_dropped)
{
    static const char *const parts[] = {
        "",
        "\r\n",
        "GET / HT",
        "GET / HTTP/1.1\r\nhost: a\r\n",
        POST("/", "10", "12345"),
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
    };
    struct desk *desk;
    struct client client;

    desk = desk_open(by(dispatch), 1, desk_echo);
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        client = client_to(desk->port);
        client_send(&client, parts[i]);
        client_finish(&client);
        cr_assert_eq(client_expect_end(&client), CLIENT_ENDED, "%s", parts[i]);
        client_close(&client);
        client = client_to(desk->port);
        client_send(&client, GET("/before"));
        client_send(&client, parts[i]);
        client_finish(&client);
        assert_answer(&client, "/before");
        cr_assert_eq(client_expect_end(&client), CLIENT_ENDED, "%s", parts[i]);
        client_close(&client);
    }
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(connection, a_reset_while_nothing_is_taken_disturbs_nobody)
{
    static const char *const parts[] = {
        "",
        "GET / HT",
        "GET / HTTP/1.1\r\nhost: a\r\n",
        POST("/", "10", "12345"),
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "NO HTTP\r\n\r\n",
    };
    struct desk *desk;
    struct client client;

    desk = desk_open(by(dispatch), 1, NULL);
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        client = client_to(desk->port);
        client_send(&client, parts[i]);
        desk_assert_nothing_else(desk);
        client_reset(&client);
        desk_assert_nothing_else(desk);
    }
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(connection, a_reset_shows_on_the_requests_that_are_out)
{
    struct kino_request *first;
    struct kino_request *second;
    struct desk *desk;
    struct client client;

    desk = desk_open(by(dispatch), 1, NULL);
    client = client_to(desk->port);
    client_send(&client, GET("/1") GET("/2") POST("/3", "1", "x") GET("/4"));
    first = desk_take_target(desk, "/1");
    second = desk_take_target(desk, "/2");
    cr_assert_eq(desk_state(first), 0);
    client_reset(&client);
    cr_assert(desk_gets_state(first, KINO_STATE_DISCONNECTED));
    cr_assert(desk_gets_state(second, KINO_STATE_DISCONNECTED));
    cr_assert_eq(desk_answer_target(second), 0, "an answer goes nowhere, without an error");
    desk_assert_nothing_else(desk);
    kino_request_release(first);
    desk_assert_nothing_else(desk);
    cr_assert_eq(desk_close(desk), 0);
}

static char large_body[LARGE];

static void answer_large(void *context, struct kino_request *request)
{
    const struct kino_response response = {
        .size = sizeof(response), .status = 200, .body = {large_body, LARGE}};

    if (desk_is(request, "/large"))
        kino_request_respond(request, &response);
    else
        desk_echo(context, request);
}

TestEach(connection, a_large_answer_arrives_whole)
{
    char *bytes = pattern(LARGE);
    struct desk *desk;
    struct client client;

    memcpy(large_body, bytes, LARGE);
    desk = desk_open(by(dispatch), 1, answer_large);
    client = client_to(desk->port);
    client_send(&client, GET("/large") GET("/large") GET("/small"));
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(client_read(&client), 200);
        cr_assert_eq(client.body_len, LARGE);
        cr_assert_arr_eq(client.body, bytes, LARGE);
    }
    assert_answer(&client, "/small");
    free(bytes);
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(connection, a_reset_or_end_in_a_large_answer_disturbs_nobody)
{
    struct desk *desk;
    struct client client;
    struct client other;

    desk = desk_open(by(dispatch), 1, answer_large);
    other = client_to(desk->port);
    for (int i = 0; i < 4; i++) {
        client = client_of_little_memory(desk->port);
        client_send(&client, i < 2 ? GET("/large") : GET("/large") GET("/large") GET("/small"));
        cr_assert_not(client_is_quiet(&client, CLIENT_DEADLINE_MS), "the answer has begun");
        if (i % 2 == 0)
            client_reset(&client);
        else
            client_close(&client); /* with unread input: the kernel resets */
        cr_assert_eq(client_ask(&other, GET("/small")), 200);
    }
    client_close(&other);
    cr_assert_eq(desk_close(desk), 0);
}
