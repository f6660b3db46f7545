/* SPDX-License-Identifier: MIT */
/* What a program may do with a request, on which thread and for how long. */
#include <string.h>
#include <time.h>

#include "support/desk.h"

enum {
    SOON_MS = 10000,
    RACES = 300,
};

static const struct kino_response fine = {.size = sizeof(fine), .status = 200, .body = {"fine", 4}};

static struct kino_config by(uint64_t dispatch)
{
    return (struct kino_config){.dispatch = dispatch};
}

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static bool is(struct kino_slice slice, const char *text)
{
    return slice.data && slice.len == strlen(text) && memcmp(slice.data, text, slice.len) == 0;
}

/* Answering */

TestEach(requests, the_first_answer_is_the_one_that_is_sent)
{
    struct desk *desk = desk_open(by(dispatch), 1, NULL);
    struct client client = client_to(desk->port);
    struct kino_request *request;

    client_send(&client, GET("/1"));
    request = desk_take_target(desk, "/1");
    cr_assert_eq(desk_state(request), 0);
    cr_assert_eq(kino_request_respond(request, &fine), 0);
    cr_assert(kino_request_state(request) & KINO_STATE_ANSWERED);
    cr_assert_eq(kino_request_respond(request, &fine), KINO_ANSWERED);
    cr_assert_eq(kino_request_abort(request), KINO_ANSWERED);
    cr_assert_eq(desk_answer(request, "late"), KINO_ANSWERED);
    cr_assert_eq(client_read(&client), 200);
    cr_assert(client_has_body(&client, "fine"));
    client_send(&client, GET("/2"));
    desk_answer_next(desk, "/2");
    cr_assert_eq(client_read(&client), 200);
    cr_assert(client_has_body(&client, "/2"), "nothing of the others was sent");
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(requests, a_refused_answer_leaves_the_request_to_be_answered)
{
    static const struct kino_field split = {.name = {"x", 1}, .value = {"a\r\nset-cookie: b", 15}};
    static const struct kino_field no_token = {.name = {"x y", 3}, .value = {"a", 1}};
    static const struct {
        struct kino_response known;
        uint64_t tail;
    } longer = {{.size = sizeof(longer), .status = 200}, 1};
    const struct kino_response refused[] = {
        {.size = sizeof(fine), .status = 101},
        {.size = sizeof(fine), .status = 1000},
        {.size = sizeof(fine), .status = 200, .flags = 1 << 3},
        {.size = sizeof(fine), .status = 200, .fields = &split, .field_count = 1},
        {.size = sizeof(fine), .status = 200, .fields = &no_token, .field_count = 1},
        {.size = 0, .status = 200},
    };
    struct desk *desk = desk_open(by(dispatch), 1, NULL);
    struct client client = client_to(desk->port);
    struct kino_request *request;

    client_send(&client, GET("/1"));
    request = desk_take_target(desk, "/1");
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
        cr_assert_eq(kino_request_respond(request, &refused[i]), KINO_INVALID, "answer %zu", i);
    cr_assert_eq(kino_request_respond(request, &longer.known), KINO_INVALID);
    cr_assert_eq(desk_state(request), 0);
    cr_assert_eq(desk_answer(request, "fine"), 0);
    cr_assert_eq(client_read(&client), 200);
    cr_assert(client_has_body(&client, "fine"));
    cr_assert_not(client_has_line(&client, "set-cookie: b"));
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(requests, an_answer_of_a_later_version_of_the_library_is_taken)
{
    static const struct {
        struct kino_response known;
        uint64_t tail[3];
    } longer = {{.size = sizeof(longer), .status = 200, .body = {"longer", 6}}, {0}};
    struct kino_response shorter = {.size = 2 * sizeof(uint64_t), .status = 404, .flags = 99};
    struct desk *desk = desk_open(by(dispatch), 1, NULL);
    struct client client = client_to(desk->port);
    struct kino_request *request;

    client_send(&client, GET("/1") GET("/2"));
    request = desk_take_target(desk, "/1");
    cr_assert_eq(kino_request_respond(request, &longer.known), 0);
    kino_request_release(request);
    request = desk_take_target(desk, "/2");
    cr_assert_eq(kino_request_respond(request, &shorter), 0);
    kino_request_release(request);
    cr_assert_eq(client_read(&client), 200);
    cr_assert(client_has_body(&client, "longer"));
    cr_assert_eq(client_read(&client), 404);
    cr_assert(client_has_body(&client, ""));
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(requests, released_without_an_answer_is_500)
{
    struct desk *desk = desk_open(by(dispatch), 1, NULL);
    struct client client = client_to(desk->port);
    struct kino_request *request;

    client_send(&client, GET("/1") GET("/2"));
    request = desk_take_target(desk, "/1");
    cr_assert_eq(kino_request_hold(request), request);
    kino_request_release(request);
    desk_answer_next(desk, "/2");
    desk_assert_nothing_else(desk);
    cr_assert(client_is_quiet(&client, 0), "one reference is left");
    kino_request_release(request);
    cr_assert_eq(client_read(&client), 500);
    cr_assert_eq(client_read(&client), 200);
    cr_assert(client_has_body(&client, "/2"), "the connection goes on");
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(requests, aborted_closes_the_connection_without_an_answer)
{
    struct desk *desk = desk_open(by(dispatch), 1, NULL);
    struct client client = client_to(desk->port);
    struct kino_request *first;
    struct kino_request *second;

    client_send(&client, GET("/1") GET("/2"));
    first = desk_take_target(desk, "/1");
    second = desk_take_target(desk, "/2");
    cr_assert_eq(kino_request_abort(first), 0);
    cr_assert_leq(client_expect_end(&client), CLIENT_ENDED);
    cr_assert_eq(kino_request_abort(first), KINO_ANSWERED);
    cr_assert_eq(kino_request_respond(first, &fine), KINO_ANSWERED);
    cr_assert(desk_gets_state(second, KINO_STATE_DISCONNECTED));
    cr_assert_eq(desk_answer(second, "in vain"), 0);
    kino_request_release(first);
    desk_assert_nothing_else(desk);
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(requests, aborted_end_the_connection_behind_the_answers_before_them)
{
    struct desk *desk = desk_open(by(dispatch), 1, NULL);
    struct client client = client_to(desk->port);
    struct kino_request *requests[4];

    client_send(&client, GET("/1") GET("/2") GET("/3") GET("/4"));
    requests[0] = desk_take_target(desk, "/1");
    requests[1] = desk_take_target(desk, "/2");
    requests[2] = desk_take_target(desk, "/3");
    requests[3] = desk_take_target(desk, "/4");
    cr_assert_eq(desk_answer_target(requests[1]), 0);
    cr_assert_eq(kino_request_abort(requests[2]), 0);
    cr_assert(desk_gets_state(requests[3], KINO_STATE_DISCONNECTED));
    desk_assert_nothing_else(desk);
    cr_assert(client_is_quiet(&client, 0));
    cr_assert_eq(desk_answer_target(requests[0]), 0);
    cr_assert_eq(client_read(&client), 200);
    cr_assert(client_has_body(&client, "/1"));
    cr_assert_eq(client_read(&client), 200);
    cr_assert(client_has_body(&client, "/2"));
    cr_assert_eq(client_expect_end(&client), CLIENT_ENDED);
    kino_request_release(requests[2]);
    cr_assert_eq(desk_answer_target(requests[3]), 0);
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

/* Two threads at one request: one answers, one aborts. */
struct contest {
    struct kino_request *request;
    pthread_barrier_t begin;
    pthread_barrier_t end;
    int result;
    bool over;
};

static void *answer_against(void *context)
{
    struct contest *contest = context;

    for (;;) {
        pthread_barrier_wait(&contest->begin);
        if (contest->over)
            return NULL;
        contest->result = kino_request_respond(contest->request, &fine);
        kino_request_release(contest->request);
        pthread_barrier_wait(&contest->end);
    }
}

TestEach(requests, an_answer_and_an_abort_at_once_have_one_winner)
{
    struct desk *desk = desk_open(by(dispatch), 1, NULL);
    struct contest contest = {0};
    pthread_t thread;

    pthread_barrier_init(&contest.begin, NULL, 2);
    pthread_barrier_init(&contest.end, NULL, 2);
    cr_assert_eq(pthread_create(&thread, NULL, answer_against, &contest), 0);
    for (int i = 0; i < RACES; i++) {
        struct client client = client_to(desk->port);
        int aborted;

        client_send(&client, GET("/race"));
        contest.request = kino_request_hold(desk_take_target(desk, "/race"));
        pthread_barrier_wait(&contest.begin);
        aborted = kino_request_abort(contest.request);
        kino_request_release(contest.request);
        pthread_barrier_wait(&contest.end);
        cr_assert_eq(contest.result == 0, aborted == KINO_ANSWERED);
        if (aborted == 0)
            cr_assert_leq(client_read(&client), CLIENT_ENDED);
        else
            cr_assert_eq(client_read(&client), 200);
        client_close(&client);
    }
    contest.over = true;
    pthread_barrier_wait(&contest.begin);
    pthread_join(thread, NULL);
    pthread_barrier_destroy(&contest.begin);
    pthread_barrier_destroy(&contest.end);
    cr_assert_eq(desk_close(desk), 0);
}

/* Holding */

static void *answer_and_release(void *context)
{
    return (void *)(intptr_t)desk_answer(context, "from another thread");
}

static struct kino_request *kept;

static void keep(void *context, struct kino_request *request)
{
    (void)context;
    kept = kino_request_hold(request);
}

TestEach(requests, a_held_one_is_answered_by_another_thread_after_its_handler_returned)
{
    struct desk *desk = desk_open(by(dispatch), 1, keep);
    struct client client = client_to(desk->port);
    pthread_t thread;
    void *result;

    client_send(&client, GET("/"));
    cr_assert(desk_has_taken(desk, 1));
    cr_assert(client_is_quiet(&client, 0));
    cr_assert_eq(pthread_create(&thread, NULL, answer_and_release, kept), 0);
    pthread_join(thread, &result);
    cr_assert_null(result);
    cr_assert_eq(client_read(&client), 200);
    cr_assert(client_has_body(&client, "from another thread"));
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

static void *release_on_another_thread(void *context)
{
    kino_request_release(context);
    return NULL;
}

TestEach(requests, outlive_their_worker_and_their_server)
{
    struct desk *desk = desk_open(by(dispatch), 1, NULL);
    struct client client = client_to(desk->port);
    struct kino_request *requests[4];
    pthread_t thread;

    client_send(&client, GET("/1") GET("/2") GET("/3") GET("/4"));
    requests[0] = desk_take_target(desk, "/1");
    requests[1] = desk_take_target(desk, "/2");
    requests[2] = desk_take_target(desk, "/3");
    requests[3] = desk_take_target(desk, "/4");
    cr_assert_eq(kino_request_respond(requests[2], &fine), 0);
    kino_server_drain(desk->server, 0);
    cr_assert_eq(desk_end(desk), 0);
    for (int i = 0; i < 4; i++) {
        cr_assert(kino_request_state(requests[i]) & KINO_STATE_DISCONNECTED);
        cr_assert(is(kino_request_field(requests[i], "host"), "a"));
    }
    cr_assert(is(kino_request_head(requests[3])->target, "/4"));
    cr_assert_eq(kino_request_respond(requests[0], &fine), 0);
    cr_assert_eq(kino_request_abort(requests[1]), 0);
    cr_assert_eq(kino_request_respond(requests[2], &fine), KINO_ANSWERED);
    kino_request_release(requests[0]);
    kino_request_release(kino_request_hold(requests[1]));
    kino_request_release(requests[1]);
    kino_request_release(requests[2]);
    cr_assert_eq(pthread_create(&thread, NULL, release_on_another_thread, requests[3]), 0);
    pthread_join(thread, NULL);
    client_close(&client);
}

/* State */

TestEach(requests, see_that_their_client_has_finished_and_the_server_drains)
{
    struct desk *desk = desk_open(by(dispatch), 1, NULL);
    struct client client = client_to(desk->port);
    struct client other = client_to(desk->port);
    struct kino_request *first;
    struct kino_request *second;

    client_send(&client, GET("/1"));
    first = desk_take_target(desk, "/1");
    client_send(&other, GET("/2"));
    second = desk_take_target(desk, "/2");
    client_finish(&client);
    cr_assert(desk_gets_state(first, KINO_STATE_PEER_DONE));
    cr_assert_eq(desk_state(first), KINO_STATE_PEER_DONE);
    cr_assert_eq(desk_state(second), 0);
    kino_server_drain(desk->server, SOON_MS);
    cr_assert(desk_gets_state(first, KINO_STATE_DRAINING));
    cr_assert(desk_gets_state(second, KINO_STATE_DRAINING));
    cr_assert_eq(desk_answer(first, "1"), 0);
    cr_assert_eq(desk_answer(second, "2"), 0);
    cr_assert_eq(client_read(&client), 200);
    cr_assert_eq(client_read(&other), 200);
    client_close(&client);
    client_close(&other);
    cr_assert_eq(desk_end(desk), 0);
}

TestEach(requests, that_are_read_later_see_it_too)
{
    struct desk *desk = desk_open(by(dispatch), 1, NULL);
    struct client client = client_to(desk->port);
    struct client other = client_to(desk->port);
    struct kino_request *request;

    client_send(&client, POST("/1", "1", "x") POST("/2", "1", "x"));
    client_finish(&client);
    request = desk_take_target(desk, "/1");
    cr_assert(desk_gets_state(request, KINO_STATE_PEER_DONE));
    cr_assert_eq(desk_answer_target(request), 0);
    request = desk_take_target(desk, "/2");
    cr_assert(kino_request_state(request) & KINO_STATE_PEER_DONE);
    client_send(&other, "GET /3 HTTP/1.1\r\n");
    desk_assert_nothing_else(desk);
    kino_server_drain(desk->server, SOON_MS);
    cr_assert(desk_gets_state(request, KINO_STATE_DRAINING));
    cr_assert_eq(desk_answer_target(request), 0);
    client_send(&other, "host: a\r\n\r\n");
    request = desk_take_target(desk, "/3");
    cr_assert(kino_request_state(request) & KINO_STATE_DRAINING);
    cr_assert_eq(desk_answer_target(request), 0);
    cr_assert_eq(client_read(&other), 200);
    cr_assert(client_has_line(&other, "connection: close"));
    client_close(&client);
    client_close(&other);
    cr_assert_eq(desk_end(desk), 0);
}

/* The head */

TestEach(requests, tell_what_was_asked)
{
    struct desk *desk = desk_open(by(dispatch), 1, NULL);
    struct client client = client_to(desk->port);
    const uint64_t before = now_ns();
    struct kino_request *request;
    const struct kino_head *head;

    client_send(&client, "POST /path/a?q=1&r=%20 HTTP/1.1\r\nHost: example.com:80\r\n"
                         "Cookie: secret\r\nX-Empty:\r\ncontent-length: 4\r\n\r\nbody");
    request = desk_take(desk);
    cr_assert_not_null(request);
    head = kino_request_head(request);
    cr_assert_geq(head->size, sizeof(*head));
    cr_assert(is(head->method, "POST"));
    cr_assert(is(head->target, "/path/a?q=1&r=%20"));
    cr_assert(is(head->path, "/path/a"));
    cr_assert(is(head->query, "q=1&r=%20"));
    cr_assert(is(head->authority, "example.com:80"));
    cr_assert(is(head->scheme, "http"));
    cr_assert(is(head->body, "body"));
    cr_assert(is(head->block, "host:example.com:80\ncookie:secret\nx-empty:\ncontent-length:4\n"));
    cr_assert_eq(head->field_count, 4);
    cr_assert(is(head->fields[1].name, "cookie"));
    cr_assert_eq(head->fields[1].known, KINO_FIELD_COOKIE);
    cr_assert_eq(head->fields[1].flags, KINO_FIELD_SENSITIVE);
    cr_assert_eq(head->flags, KINO_HEAD_SENSITIVE | KINO_HEAD_BODY_WHOLE);
    cr_assert_eq(head->version, KINO_HTTP_1_1);
    cr_assert_eq(head->listener, 0);
    cr_assert_geq(head->arrival_ns, before);
    cr_assert_leq(head->arrival_ns, now_ns());
    cr_assert(is(kino_request_field(request, "x-empty"), ""));
    cr_assert_null(kino_request_field(request, "x-none").data);
    cr_assert_eq(desk_answer(request, ""), 0);
    cr_assert_eq(client_read(&client), 200);
    client_send(&client, "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    request = desk_take(desk);
    cr_assert_not_null(request);
    head = kino_request_head(request);
    cr_assert_null(head->query.data);
    cr_assert_null(head->body.data, "nothing of the last one is left");
    cr_assert_eq(head->flags, KINO_HEAD_BODY_WHOLE);
    cr_assert_eq(head->field_count, 1);
    cr_assert_eq(desk_answer(request, ""), 0);
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

/* Connect to `to`, and see the addresses as the program does. */
static void assert_addresses(struct desk *desk, unsigned listener, const char *to,
                             const char *expected)
{
    const int port = kino_server_port(desk->server, listener);
    struct client client = client_to_address(to, port);
    struct kino_request *request;
    const struct kino_head *head;

    cr_assert_geq(client.fd, 0, "%s: %s", to, strerror(-client.fd));
    client_send(&client, GET("/"));
    request = desk_take_target(desk, "/");
    head = kino_request_head(request);
    cr_assert(is(head->local_address, expected), "%s, not %.*s", expected,
              (int)head->local_address.len, head->local_address.data);
    cr_assert(is(head->peer_address, expected), "%s, not %.*s", expected,
              (int)head->peer_address.len, head->peer_address.data);
    cr_assert_eq(head->local_port, port);
    cr_assert_eq(head->peer_port, client.port);
    cr_assert_eq(head->listener, listener);
    cr_assert_eq(desk_answer_target(request), 0);
    cr_assert_eq(client_read(&client), 200);
    client_close(&client);
}

static bool has_ipv6(void)
{
    struct desk *desk = desk_create((struct kino_config){0}, 0);
    bool has;

    desk_listen(desk, "::1", 0);
    has = kino_server_start(desk->server) == 0;
    kino_server_drain(desk->server, 0);
    desk_end(desk);
    return has;
}

TestEach(requests, know_both_ends_of_their_connection)
{
    struct desk *desk = desk_create(by(dispatch), 1);

    cr_assert_eq(desk_listen(desk, "127.0.0.1", 0), 0);
    cr_assert_eq(desk_listen(desk, "127.1.2.3", 0), 1);
    cr_assert_eq(desk_listen(desk, "0.0.0.0", 0), 2);
    desk_start(desk, NULL);
    assert_addresses(desk, 0, "127.0.0.1", "127.0.0.1");
    assert_addresses(desk, 2, "127.0.0.1", "127.0.0.1");
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(requests, know_both_ends_over_ipv6)
{
    struct desk *desk;

    if (!has_ipv6())
        cr_skip_test("no IPv6 here");
    desk = desk_create(by(dispatch), 1);
    cr_assert_eq(desk_listen(desk, "::1", 0), 0);
    cr_assert_eq(desk_listen(desk, "::", 0), 1);
    desk_start(desk, NULL);
    assert_addresses(desk, 0, "::1", "::1");
    assert_addresses(desk, 1, "::1", "::1");
    assert_addresses(desk, 1, "127.0.0.1", "127.0.0.1");
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(requests, know_which_of_the_machine_s_addresses_was_called)
{
    struct desk *desk = desk_create(by(dispatch), 1);
    struct client client;
    struct kino_request *request;

    cr_assert_eq(desk_listen(desk, "0.0.0.0", 0), 0);
    cr_assert_eq(desk_listen(desk, "127.1.2.3", 0), 1);
    desk_start(desk, NULL);
    for (unsigned listener = 0; listener < 2; listener++) {
        client = client_to_address("127.1.2.3", kino_server_port(desk->server, listener));
        client_send(&client, GET("/"));
        request = desk_take_target(desk, "/");
        cr_assert(is(kino_request_head(request)->local_address, "127.1.2.3"));
        cr_assert_eq(kino_request_head(request)->listener, listener);
        cr_assert_eq(desk_answer_target(request), 0);
        client_close(&client);
    }
    cr_assert_eq(desk_close(desk), 0);
}
