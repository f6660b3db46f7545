/* SPDX-License-Identifier: MIT */
/* SPEC.md 3.6, 3.7, 4.7 and 4.8: bodies that stream, both ways. */
#include <fcntl.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "support/desk.h"

#define SLICE(literal) {literal, sizeof(literal) - 1}

enum {
    SHORT_MS = 100,
    SOON_MS = 10000,
    LARGE = 4 << 20,
    PART = 10000,
};

static struct kino_config by(uint64_t dispatch)
{
    return (struct kino_config){.dispatch = dispatch};
}

static char *pattern(size_t len)
{
    char *bytes = malloc(len);

    for (size_t i = 0; i < len; i++)
        bytes[i] = (char)(i * 31 + i / 253);
    return bytes;
}

/* Errors are counted, because only the test's own thread may assert. */
static _Atomic int errors;

static void expect(int is)
{
    if (!is)
        atomic_fetch_add(&errors, 1);
}

static int begin(struct kino_request *request, uint64_t status)
{
    const struct kino_response response = {
        .size = sizeof(response), .status = status, .flags = KINO_BODY_STREAM};

    return kino_request_respond(request, &response);
}

/* Write all of it, however long the client takes. */
static int write_all(struct kino_request *request, struct kino_slice data)
{
    const struct kino_piece piece = {.size = sizeof(piece), .data = data};
    int rc;

    while ((rc = kino_request_write(request, &piece)) == KINO_AGAIN)
        if (kino_request_wait(request, KINO_STATE_WRITABLE, KINO_OFF) < 0)
            return KINO_TIMED_OUT;
    return rc;
}

static int read_some(struct kino_request *request, struct kino_slice *piece)
{
    int rc;

    while ((rc = kino_request_body(request, piece)) == KINO_AGAIN)
        if (kino_request_wait(request, KINO_STATE_READABLE, KINO_OFF) < 0)
            return KINO_TIMED_OUT;
    return rc;
}

/* Full duplex: what comes goes out at once. */
static void echo(void *context, struct kino_request *request)
{
    struct kino_slice piece;
    int rc;

    (void)context;
    expect(begin(request, 200) == 0);
    while ((rc = read_some(request, &piece)) == 1)
        if (write_all(request, piece) < 0)
            return;
    if (rc == 0)
        expect(kino_request_finish(request, NULL, 0) == 0);
}

static void assert_no_errors(void)
{
    cr_assert_eq(atomic_load(&errors), 0);
}

TestEach(streams, an_echo_reads_and_writes_at_the_same_time)
{
    struct desk *desk = desk_open(by(dispatch), 1, echo);
    struct client client = client_to(desk->port);
    char *bytes = pattern(LARGE);
    char chunk[32];

    client_send(&client, "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
    for (size_t at = 0; at < LARGE; at += PART) {
        const size_t len = LARGE - at < PART ? LARGE - at : PART;

        snprintf(chunk, sizeof(chunk), "%zx\r\n", len);
        client_send(&client, chunk);
        client_send_bytes(&client, bytes + at, len);
        client_send(&client, "\r\n");
        if (at == 0 || at + PART < LARGE)
            continue;
        client_send(&client, "0\r\n\r\n");
    }
    cr_assert_eq(client_read(&client), 200);
    cr_assert_eq(client.body_len, LARGE);
    cr_assert_arr_eq(client.body, bytes, LARGE);
    cr_assert_eq(client_ask(&client, POST("/", "2", "hi")), 200, "the connection goes on");
    cr_assert(client_has_body(&client, "hi"));
    free(bytes);
    client_close(&client);
    assert_no_errors();
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(streams, a_large_body_is_handed_out_at_its_head)
{
    struct desk *desk = desk_open(by(dispatch), 1, NULL);
    struct client client = client_to(desk->port);
    struct kino_request *request;
    struct kino_slice piece;

    client_send(&client, POST("/1", "100000", "first"));
    request = desk_take_target(desk, "/1");
    cr_assert_eq(kino_request_head(request)->content_length, 100000);
    cr_assert_not(kino_request_head(request)->flags & KINO_HEAD_BODY_WHOLE);
    cr_assert_null(kino_request_head(request)->body.data);
    if (dispatch != KINO_DISPATCH_INLINE) /* there the loop turns in its worker alone */
        cr_assert_geq(kino_request_wait(request, KINO_STATE_READABLE, SOON_MS), 0);
    cr_assert(desk_gets_state(request, KINO_STATE_READABLE));
    cr_assert_eq(kino_request_body(request, &piece), 1);
    cr_assert_eq(piece.len, 5);
    cr_assert_arr_eq(piece.data, "first", 5);
    cr_assert_eq(kino_request_body(request, &piece), KINO_AGAIN);
    cr_assert_not(kino_request_state(request) & KINO_STATE_READABLE);
    cr_assert_eq(desk_answer(request, "enough"), 0);
    cr_assert_eq(client_read(&client), 200);
    cr_assert(client_has_line(&client, "connection: close"), "nobody reads the rest");
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(streams, a_chunked_answer_has_its_pieces_and_trailers)
{
    static const struct kino_field trailer = {SLICE("x-sum"), SLICE("42"), 0, 0};
    struct desk *desk = desk_open(by(dispatch), 1, NULL);
    struct client client = client_to(desk->port);
    struct kino_request *request;

    client_send(&client, GET("/1") GET("/2"));
    request = desk_take_target(desk, "/1");
    cr_assert_eq(begin(request, 200), 0);
    cr_assert_eq(begin(request, 200), KINO_ANSWERED);
    cr_assert_eq(write_all(request, (struct kino_slice)SLICE("hello ")), 0);
    cr_assert_eq(write_all(request, (struct kino_slice)SLICE("world")), 0);
    cr_assert_eq(write_all(request, (struct kino_slice){0}), 0, "no bytes are no end");
    cr_assert_eq(kino_request_finish(request, &trailer, 1), 0);
    cr_assert_eq(kino_request_finish(request, NULL, 0), KINO_INVALID);
    cr_assert_eq(kino_request_abort(request), KINO_ANSWERED);
    kino_request_release(request);
    desk_answer_next(desk, "/2");
    cr_assert_eq(client_read(&client), 200);
    cr_assert(client_has_line(&client, "transfer-encoding: chunked"));
    cr_assert(client_has_body(&client, "hello world"));
    cr_assert_eq(client.chunks, 2);
    cr_assert_str_eq(client.trailers, "x-sum: 42\n");
    cr_assert_eq(client_read(&client), 200);
    cr_assert(client_has_body(&client, "/2"));
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(streams, the_first_piece_leaves_before_the_last_is_written)
{
    struct desk *desk = desk_open(by(dispatch), 1, NULL);
    struct client client = client_to(desk->port);
    struct kino_request *request;
    char text[256] = "";

    client_send(&client, GET("/1"));
    request = desk_take_target(desk, "/1");
    cr_assert_eq(begin(request, 200), 0);
    cr_assert_eq(write_all(request, (struct kino_slice)SLICE("first")), 0);
    while (!strstr(text, "5\r\nfirst\r\n")) {
        const size_t len = strlen(text);

        cr_assert_gt(client_read_some(&client, text + len, sizeof(text) - 1 - len), 0);
    }
    cr_assert_eq(kino_request_finish(request, NULL, 0), 0);
    kino_request_release(request);
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(streams, an_announced_length_is_kept)
{
    static const struct kino_field length = {SLICE("content-length"), SLICE("5"), 0, 0};
    const struct kino_response response = {.size = sizeof(response),
                                           .status = 200,
                                           .flags = KINO_BODY_STREAM,
                                           .fields = &length,
                                           .field_count = 1,
                                           .body = SLICE("he")};
    struct desk *desk = desk_open(by(dispatch), 1, NULL);
    struct client client = client_to(desk->port);
    struct kino_request *request;

    client_send(&client, GET("/1"));
    request = desk_take_target(desk, "/1");
    cr_assert_eq(kino_request_respond(request, &response), 0);
    cr_assert_eq(write_all(request, (struct kino_slice)SLICE("llo, and more")), 0);
    cr_assert_eq(kino_request_finish(request, NULL, 0), 0);
    kino_request_release(request);
    cr_assert_eq(client_read(&client), 200);
    cr_assert(client_has_body(&client, "hello"));
    client_send(&client, GET("/2"));
    request = desk_take_target(desk, "/2");
    cr_assert_eq(kino_request_respond(request, &response), 0);
    cr_assert_eq(kino_request_finish(request, NULL, 0), 0);
    kino_request_release(request);
    cr_assert_eq(client_read(&client), CLIENT_CUT, "less than announced ends the connection");
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(streams, what_is_not_finished_is_cut)
{
    struct desk *desk = desk_open(by(dispatch), 1, NULL);
    struct client client = client_to(desk->port);
    struct kino_request *request;

    client_send(&client, GET("/1"));
    request = desk_take_target(desk, "/1");
    cr_assert_eq(begin(request, 200), 0);
    cr_assert_eq(write_all(request, (struct kino_slice)SLICE("first")), 0);
    kino_request_release(request);
    cr_assert_eq(client_read(&client), CLIENT_CUT);
    client_close(&client);
    client = client_to(desk->port);
    client_send(&client, GET("/2"));
    request = desk_take_target(desk, "/2");
    cr_assert_eq(begin(request, 200), 0);
    cr_assert_eq(kino_request_abort(request), 0);
    cr_assert_lt(client_read(&client), 200);
    cr_assert(desk_gets_state(request, KINO_STATE_DISCONNECTED));
    cr_assert_eq(write_all(request, (struct kino_slice)SLICE("late")), KINO_GONE);
    kino_request_release(request);
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

static void count_done(void *context)
{
    atomic_fetch_add((_Atomic int *)context, 1);
}

/* A slow client stops the writer, who waits; nothing is lost, and nothing piles up. */
TestEach(streams, a_client_that_does_not_read_stops_the_writer)
{
    struct desk *desk = desk_open(by(dispatch), 1, NULL);
    struct client client = client_of_little_memory(desk->port);
    char *bytes = pattern(LARGE);
    _Atomic int done = 0;
    struct kino_piece piece = {
        .size = sizeof(piece), .data = {bytes, PART}, .done = count_done, .done_context = &done};
    struct kino_request *request;
    int pieces = 0;
    int rc;

    client_send(&client, GET("/1"));
    request = desk_take_target(desk, "/1");
    cr_assert_eq(begin(request, 200), 0);
    do {
        piece.data.data = bytes + (size_t)pieces * PART % (LARGE - PART);
        rc = kino_request_write(request, &piece);
        if (rc == KINO_AGAIN && !(kino_request_state(request) & KINO_STATE_WRITABLE) &&
            kino_request_wait(request, KINO_STATE_WRITABLE, SHORT_MS) > 0)
            rc = 0; /* once more */
        else if (rc == 0)
            pieces++;
    } while (rc == 0 && pieces < 10000);
    cr_assert_eq(rc, KINO_AGAIN, "after %d pieces", pieces);
    cr_assert_lt(atomic_load(&done), pieces);
    cr_assert_eq(kino_request_finish(request, NULL, 0), 0);
    cr_assert_eq(client_read(&client), 200);
    cr_assert_eq(client.body_len, (size_t)pieces * PART);
    for (int i = 0; i < pieces; i++)
        cr_assert_arr_eq(client.body + (size_t)i * PART, bytes + (size_t)i * PART % (LARGE - PART),
                         PART);
    kino_request_release(request);
    client_close(&client);
    free(bytes);
    cr_assert_eq(desk_close(desk), 0);
    cr_assert_eq(atomic_load(&done), pieces, "each once");
}

/* What is left to be sent, on a thread of its own. */
struct rest {
    struct client *client;
    const char *bytes;
    size_t len;
};

static void *send_rest(void *context)
{
    const struct rest *rest = context;

    expect(client_send_bytes(rest->client, rest->bytes, rest->len) == 0);
    return NULL;
}

TestEach(streams, a_reader_that_does_not_read_stops_the_client)
{
    enum { BODY = 32 << 20 }; /* more than all buffers between them hold */
    struct desk *desk = desk_open(by(dispatch), 1, NULL);
    struct client client = client_to(desk->port);
    char *bytes = pattern(BODY);
    struct rest rest = {.client = &client};
    struct kino_request *request;
    struct kino_slice piece;
    pthread_t sender;
    size_t sent = 0;
    size_t read = 0;
    size_t part;
    char head[128];
    int rc;

    snprintf(head, sizeof(head), "PUT /1 HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n", BODY);
    client_send(&client, head);
    request = desk_take_target(desk, "/1");
    while (sent < BODY &&
           (part = client_try_send(&client, bytes + sent, BODY - sent, 2 * SHORT_MS)) > 0)
        sent += part;
    cr_assert_lt(sent, BODY, "it stopped");
    rest.bytes = bytes + sent;
    rest.len = BODY - sent;
    cr_assert_eq(pthread_create(&sender, NULL, send_rest, &rest), 0);
    while ((rc = read_some(request, &piece)) == 1) {
        cr_assert_arr_eq(piece.data, bytes + read, piece.len);
        read += piece.len;
    }
    pthread_join(sender, NULL);
    cr_assert_eq(rc, 0);
    cr_assert_eq(read, BODY);
    assert_no_errors();
    cr_assert_eq(desk_answer(request, "all"), 0);
    cr_assert_eq(client_read(&client), 200);
    client_close(&client);
    free(bytes);
    cr_assert_eq(desk_close(desk), 0);
}

static int open_file(const char *bytes, size_t len)
{
    char path[] = "/tmp/kino-test-XXXXXX";
    int fd = mkostemp(path, O_CLOEXEC);

    unlink(path);
    cr_assert_eq(write(fd, bytes, len), (ssize_t)len);
    return fd;
}

TestEach(streams, a_file_is_sent_by_offset_and_length)
{
    char *bytes = pattern(LARGE);
    const int fd = open_file(bytes, LARGE);
    const struct kino_response response = {.size = sizeof(response),
                                           .status = 200,
                                           .flags = KINO_BODY_FILE,
                                           .descriptor = (uint64_t)fd,
                                           .offset = 1000,
                                           .length = LARGE - 2000};
    struct kino_response shared = response;
    struct desk *desk = desk_open(by(dispatch), 1, NULL);
    struct client client = client_to(desk->port);
    _Atomic int done = 0;
    struct kino_request *request;

    shared.done = count_done;
    shared.done_context = &done;
    client_send(&client, GET("/1") GET("/2") "HEAD /3 HTTP/1.1\r\nhost: a\r\n\r\n");
    request = desk_take_target(desk, "/1");
    cr_assert_eq(kino_request_respond(request, &shared), 0);
    kino_request_release(request);
    request = desk_take_target(desk, "/2");
    shared.length = 100;
    cr_assert_eq(kino_request_respond(request, &shared), 0);
    kino_request_release(request);
    request = desk_take_target(desk, "/3");
    shared.length = 1234;
    cr_assert_eq(kino_request_respond(request, &shared), 0);
    kino_request_release(request);
    cr_assert_eq(client_read(&client), 200);
    cr_assert_eq(client.body_len, LARGE - 2000);
    cr_assert_arr_eq(client.body, bytes + 1000, LARGE - 2000);
    cr_assert_eq(client_read(&client), 200);
    cr_assert_eq(client.body_len, 100);
    cr_assert_arr_eq(client.body, bytes + 1000, 100);
    cr_assert_eq(client_read_bodiless(&client), 200);
    cr_assert(client_has_line(&client, "content-length: 1234"));
    client_send(&client, GET("/4"));
    request = desk_take_target(desk, "/4");
    cr_assert_eq(kino_request_respond(request, &response), 0);
    kino_request_release(request);
    cr_assert_eq(client_read(&client), 200);
    client_send(&client, GET("/5"));
    desk_answer_next(desk, "/5");
    cr_assert_eq(client_read(&client), 200);
    cr_assert_eq(fcntl(fd, F_GETFD), -1, "without done it was the library's to close");
    client_close(&client);
    free(bytes);
    cr_assert_eq(desk_close(desk), 0);
    cr_assert_eq(atomic_load(&done), 3);
}

TestEach(streams, a_file_that_is_shorter_than_said_ends_the_connection)
{
    const int fd = open_file("short", 5);
    const struct kino_response response = {.size = sizeof(response),
                                           .status = 200,
                                           .flags = KINO_BODY_FILE,
                                           .descriptor = (uint64_t)fd,
                                           .length = 6};
    struct desk *desk = desk_open(by(dispatch), 1, NULL);
    struct client client = client_to(desk->port);
    struct kino_request *request;

    client_send(&client, GET("/1"));
    request = desk_take_target(desk, "/1");
    cr_assert_eq(kino_request_respond(request, &response), 0);
    kino_request_release(request);
    cr_assert_leq(client_read(&client), CLIENT_ENDED);
    cr_assert(desk_has_logged(desk, "shorter"));
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(streams, interim_answers_come_before_the_answer)
{
    static const struct kino_field link = {SLICE("link"), SLICE("</style.css>"), 0, 0};
    const struct kino_response hints = {
        .size = sizeof(hints), .status = 103, .fields = &link, .field_count = 1};
    struct desk *desk = desk_open(by(dispatch), 1, NULL);
    struct client client = client_to(desk->port);
    struct kino_request *first;
    struct kino_request *second;

    client_send(&client, GET("/1") GET("/2"));
    first = desk_take_target(desk, "/1");
    second = desk_take_target(desk, "/2");
    cr_assert_eq(kino_request_respond(second, &hints), 0);
    cr_assert_eq(desk_answer_target(second), 0);
    cr_assert_eq(kino_request_respond(first, &hints), 0);
    cr_assert_eq(client_read(&client), 103);
    cr_assert(client_has_line(&client, "link: </style.css>"));
    cr_assert_eq(kino_request_respond(first, &hints), 0);
    cr_assert_eq(client_read(&client), 103);
    cr_assert_eq(desk_answer_target(first), 0);
    cr_assert_eq(client_read(&client), 200);
    cr_assert(client_has_body(&client, "/1"));
    cr_assert_eq(client_read(&client), 103);
    cr_assert_eq(client_read(&client), 200);
    cr_assert(client_has_body(&client, "/2"));
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

#define OFFER "GET /raw HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: shout\r\n\r\n"

static int switch_protocols(struct kino_request *request)
{
    static const struct kino_field upgrade = {SLICE("upgrade"), SLICE("shout"), 0, 0};
    const struct kino_response response = {
        .size = sizeof(response), .status = 101, .fields = &upgrade, .field_count = 1};

    return kino_request_respond(request, &response);
}

TestEach(streams, an_upgrade_turns_the_connection_into_raw_bytes)
{
    struct desk *desk = desk_open(by(dispatch), 1, NULL);
    struct client client = client_to(desk->port);
    struct kino_request *request;
    struct kino_slice piece;
    char text[16] = "";

    client_send(&client, OFFER "GET / is raw, too");
    request = desk_take_target(desk, "/raw");
    cr_assert(kino_request_head(request)->flags & KINO_HEAD_UPGRADE);
    cr_assert_eq(switch_protocols(request), 0);
    cr_assert_eq(client_read(&client), 101);
    cr_assert(client_has_line(&client, "upgrade: shout"));
    cr_assert(client_has_line(&client, "connection: upgrade"));
    cr_assert_eq(read_some(request, &piece), 1);
    cr_assert_eq(piece.len, 17);
    cr_assert_arr_eq(piece.data, "GET / is raw, too", 17);
    cr_assert_eq(write_all(request, (struct kino_slice)SLICE("HEY")), 0);
    cr_assert_eq(client_read_some(&client, text, sizeof(text)), 3);
    cr_assert_arr_eq(text, "HEY", 3);
    client_send(&client, "bye");
    cr_assert_eq(read_some(request, &piece), 1);
    cr_assert_eq(piece.len, 3);
    client_finish(&client);
    cr_assert_eq(read_some(request, &piece), 0);
    cr_assert_eq(write_all(request, (struct kino_slice)SLICE("BYE")), 0);
    cr_assert_eq(kino_request_finish(request, NULL, 0), 0);
    cr_assert_eq(client_read_some(&client, text, sizeof(text)), 3);
    cr_assert_eq(client_read_some(&client, text, sizeof(text)), CLIENT_ENDED);
    kino_request_release(request);
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(streams, an_upgrade_that_nobody_takes_is_an_ordinary_request)
{
    struct desk *desk = desk_open(by(dispatch), 1, NULL);
    struct client client = client_to(desk->port);
    struct kino_request *request;

    client_send(&client, OFFER GET("/2"));
    request = desk_take_target(desk, "/raw");
    desk_assert_nothing_else(desk);
    cr_assert_eq(desk_answer_target(request), 0);
    request = desk_take_target(desk, "/2");
    cr_assert_not(kino_request_head(request)->flags & KINO_HEAD_UPGRADE);
    cr_assert_eq(switch_protocols(request), KINO_INVALID, "nobody offered it");
    cr_assert_eq(desk_answer_target(request), 0);
    cr_assert_eq(client_read(&client), 200);
    cr_assert_eq(client_read(&client), 200);
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(streams, a_client_that_expects_100_gets_it_when_its_body_is_read)
{
    struct desk *desk = desk_open(by(dispatch), 1, NULL);
    struct client client = client_to(desk->port);
    struct kino_request *request;
    struct kino_slice piece;

    for (int i = 0; i < 2; i++) {
        client_send(&client, "POST /1 HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\n"
                             "content-length: 4\r\n\r\n");
        request = desk_take_target(desk, "/1");
        cr_assert(client_is_quiet(&client, SHORT_MS));
        cr_assert_eq(kino_request_body(request, &piece), KINO_AGAIN);
        cr_assert_eq(client_ask(&client, "body"), 100);
        cr_assert_eq(read_some(request, &piece), 1);
        cr_assert_eq(piece.len, 4);
        cr_assert_eq(read_some(request, &piece), 0);
        cr_assert_eq(desk_answer_target(request), 0);
        cr_assert_eq(client_read(&client), 200);
    }
    client_send(&client, "POST /2 HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\n"
                         "content-length: 4\r\n\r\n");
    request = desk_take_target(desk, "/2");
    cr_assert_eq(desk_answer(request, "no"), 0);
    cr_assert_eq(client_read(&client), 200, "and no 100");
    cr_assert(client_has_line(&client, "connection: close"));
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(streams, trailers_of_a_request_can_be_read)
{
    struct desk *desk = desk_open(by(dispatch), 1, NULL);
    struct client client = client_to(desk->port);
    const struct kino_field *fields;
    struct kino_request *request;
    struct kino_slice piece;

    client_send(&client, "POST /1 HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n"
                         "expect: 100-continue\r\n\r\n");
    request = desk_take_target(desk, "/1");
    cr_assert_eq(kino_request_trailers(request, &fields), KINO_AGAIN);
    client_send(&client, "4\r\nbody\r\n0\r\nX-Sum: 42\r\n\r\n");
    cr_assert_eq(read_some(request, &piece), 1);
    cr_assert_eq(read_some(request, &piece), 0);
    cr_assert_eq(kino_request_trailers(request, &fields), 1);
    cr_assert_arr_eq(fields[0].name.data, "x-sum", 5);
    cr_assert_arr_eq(fields[0].value.data, "42", 2);
    cr_assert_eq(desk_answer_target(request), 0);
    cr_assert_eq(client_read(&client), 100);
    cr_assert_eq(client_read(&client), 200);
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(streams, a_handler_that_is_late_is_answered_for)
{
    struct kino_config config = {.dispatch = dispatch, .request_timeout_ms = SHORT_MS};
    struct desk *desk = desk_open(config, 1, NULL);
    struct client client = client_to(desk->port);
    const uint64_t began = now_ms();
    struct kino_request *request;

    client_send(&client, GET("/1"));
    request = desk_take_target(desk, "/1");
    cr_assert_eq(client_read(&client), 504);
    cr_assert_geq(now_ms() - began, SHORT_MS);
    cr_assert(kino_request_state(request) & KINO_STATE_TIMED_OUT);
    cr_assert_eq(desk_answer(request, "late"), KINO_ANSWERED);
    client_send(&client, GET("/2"));
    desk_answer_next(desk, "/2");
    cr_assert_eq(client_read(&client), 200, "the connection goes on");
    cr_assert(client_has_body(&client, "/2"));
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(streams, a_wait_is_interrupted)
{
    struct desk *desk = desk_open(by(dispatch), 1, NULL);
    struct client client = client_to(desk->port);
    struct kino_request *request;

    client_send(&client, GET("/1"));
    request = desk_take_target(desk, "/1");
    kino_request_interrupt(request);
    kino_request_interrupt(request);
    cr_assert_eq(kino_request_wait(request, 0, KINO_OFF), KINO_INTERRUPTED);
    cr_assert_eq(kino_request_wait(request, 0, 1), KINO_TIMED_OUT);
    client_reset(&client);
    cr_assert(kino_request_wait(request, 0, SOON_MS) & KINO_STATE_DISCONNECTED);
    kino_request_release(request);
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(streams, a_drain_waits_for_what_was_begun_and_closes_behind_it)
{
    struct desk *desk = desk_open(by(dispatch), 1, NULL);
    struct client clients[2] = {client_to(desk->port), client_to(desk->port)};
    struct kino_request *stream;
    struct kino_request *raw;
    struct kino_slice piece;
    char text[16];

    client_send(&clients[0], GET("/1"));
    stream = desk_take_target(desk, "/1");
    cr_assert_eq(begin(stream, 200), 0);
    client_send(&clients[1], OFFER);
    raw = desk_take_target(desk, "/raw");
    cr_assert_eq(switch_protocols(raw), 0);
    cr_assert_eq(client_read(&clients[1]), 101);
    kino_server_drain(desk->server, SOON_MS);
    cr_assert_gt(kino_request_wait(stream, KINO_STATE_DRAINING, SOON_MS), 0);
    cr_assert_gt(kino_request_wait(raw, KINO_STATE_DRAINING, SOON_MS), 0);
    cr_assert_eq(write_all(stream, (struct kino_slice)SLICE("to the end")), 0);
    cr_assert_eq(kino_request_finish(stream, NULL, 0), 0);
    kino_request_release(stream);
    cr_assert_eq(client_read(&clients[0]), 200);
    cr_assert(client_has_body(&clients[0], "to the end"));
    cr_assert_eq(client_expect_end(&clients[0]), CLIENT_ENDED);
    client_send(&clients[1], "more");
    cr_assert_eq(read_some(raw, &piece), 1);
    cr_assert_eq(write_all(raw, piece), 0);
    cr_assert_eq(kino_request_finish(raw, NULL, 0), 0);
    kino_request_release(raw);
    cr_assert_eq(client_read_some(&clients[1], text, sizeof(text)), 4);
    cr_assert_eq(client_expect_end(&clients[1]), CLIENT_ENDED);
    client_close(&clients[0]);
    client_close(&clients[1]);
    cr_assert_eq(desk_end(desk), 0);
}

TestEach(streams, a_drain_cuts_what_goes_on_at_its_deadline)
{
    struct desk *desk = desk_open(by(dispatch), 1, NULL);
    struct client client = client_to(desk->port);
    struct kino_request *request;
    uint64_t began;

    client_send(&client, GET("/1"));
    request = desk_take_target(desk, "/1");
    cr_assert_eq(begin(request, 200), 0);
    cr_assert_eq(write_all(request, (struct kino_slice)SLICE("not to the end")), 0);
    began = now_ms();
    kino_server_drain(desk->server, SHORT_MS);
    cr_assert_eq(client_read(&client), CLIENT_CUT);
    cr_assert_geq(now_ms() - began, SHORT_MS);
    cr_assert(desk_gets_state(request, KINO_STATE_DISCONNECTED));
    cr_assert_eq(write_all(request, (struct kino_slice)SLICE("late")), KINO_GONE);
    kino_request_release(request);
    client_close(&client);
    cr_assert_eq(desk_end(desk), 0);
}

/* All that comes until the connection ends. */
static void read_to_end(struct client *client, char *text, size_t size)
{
    size_t len = 0;
    int count;

    while ((count = client_read_some(client, text + len, size - 1 - len)) > 0)
        len += (size_t)count;
    cr_assert_eq(count, CLIENT_ENDED);
    text[len] = '\0';
}

static void stream_to_end(struct kino_request *request, uint64_t status)
{
    cr_assert_eq(begin(request, status), 0);
    cr_assert_eq(write_all(request, (struct kino_slice)SLICE("some ")), 0);
    cr_assert_eq(write_all(request, (struct kino_slice)SLICE("text")), 0);
    cr_assert_eq(kino_request_finish(request, NULL, 0), 0);
    kino_request_release(request);
}

TestEach(streams, a_stream_without_a_body_is_only_its_head)
{
    struct desk *desk = desk_open(by(dispatch), 1, NULL);
    struct client client = client_to(desk->port);

    client_send(&client, "HEAD /1 HTTP/1.1\r\nhost: a\r\n\r\n" GET("/2") GET("/3"));
    stream_to_end(desk_take_target(desk, "/1"), 200);
    stream_to_end(desk_take_target(desk, "/2"), 204);
    desk_answer_next(desk, "/3");
    cr_assert_eq(client_read_bodiless(&client), 200);
    cr_assert_null(strstr(client.head, "content-length"));
    cr_assert_null(strstr(client.head, "transfer-encoding"));
    cr_assert_eq(client_read(&client), 204);
    cr_assert_null(strstr(client.head, "transfer-encoding"));
    cr_assert_eq(client_read(&client), 200);
    cr_assert(client_has_body(&client, "/3"), "the connection goes on");
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(streams, a_stream_to_http_1_0_ends_with_its_connection)
{
    const struct kino_response hints = {.size = sizeof(hints), .status = 103};
    struct desk *desk = desk_open(by(dispatch), 1, NULL);
    struct client client = client_to(desk->port);
    struct kino_request *request;
    char text[512];

    client_send(&client, "GET /1 HTTP/1.0\r\nconnection: keep-alive\r\n\r\n");
    request = desk_take_target(desk, "/1");
    cr_assert_eq(kino_request_respond(request, &hints), 0, "it knows none, and gets none");
    stream_to_end(request, 200);
    read_to_end(&client, text, sizeof(text));
    cr_assert_eq(strncmp(text, "HTTP/1.1 200 ", 13), 0, "%s", text);
    cr_assert_not_null(strstr(text, "connection: close\r\n"));
    cr_assert_null(strstr(text, "transfer-encoding"));
    cr_assert_str_eq(strstr(text, "\r\n\r\n"), "\r\n\r\nsome text");
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(streams, trailers_do_not_say_what_only_a_head_may)
{
    static const char *const names[] = {
        "content-length", "transfer-encoding", "Connection", "keep-alive", "upgrade",
        "trailer",        "proxy-connection",  "date",       "server",
    };
    struct desk *desk = desk_open(by(dispatch), 1, NULL);
    struct client client = client_to(desk->port);
    struct kino_request *request;

    client_send(&client, GET("/1"));
    request = desk_take_target(desk, "/1");
    cr_assert_eq(begin(request, 200), 0);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const struct kino_field trailer = {{names[i], strlen(names[i])}, SLICE("1"), 0, 0};

        cr_assert_eq(kino_request_finish(request, &trailer, 1), KINO_INVALID, "%s", names[i]);
    }
    cr_assert_eq(kino_request_finish(request, NULL, 0), 0);
    kino_request_release(request);
    cr_assert_eq(client_read(&client), 200);
    cr_assert_str_eq(client.trailers, "");
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(streams, a_switch_names_its_protocol_and_says_nothing_else_of_ours)
{
    static const struct kino_field other = {SLICE("x-own"), SLICE("1"), 0, 0};
    const struct kino_response nameless = {
        .size = sizeof(nameless), .status = 101, .fields = &other, .field_count = 1};
    struct desk *desk = desk_open(by(dispatch), 1, NULL);
    struct client client = client_to(desk->port);
    struct kino_request *request;

    client_send(&client, OFFER);
    request = desk_take_target(desk, "/raw");
    cr_assert_eq(kino_request_respond(request, &nameless), KINO_INVALID);
    cr_assert_eq(switch_protocols(request), 0);
    cr_assert_eq(client_read(&client), 101);
    cr_assert_str_eq(strstr(client.head, "\r\n"), "\r\nupgrade: shout\r\nconnection: upgrade");
    kino_request_release(request); /* gives it up */
    cr_assert_leq(client_expect_end(&client), CLIENT_ENDED);
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(streams, an_offer_of_http_1_0_or_with_a_body_is_none)
{
    struct desk *desk = desk_open(by(dispatch), 1, NULL);
    struct client client = client_to(desk->port);
    struct kino_request *request;

    client_send(&client, "POST /1 HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: shout\r\n"
                         "content-length: 1\r\n\r\nx"
                         "GET /2 HTTP/1.0\r\nconnection: upgrade\r\nupgrade: shout\r\n\r\n");
    for (int i = 1; i <= 2; i++) {
        request = desk_take_target(desk, i == 1 ? "/1" : "/2");
        cr_assert_not(kino_request_head(request)->flags & KINO_HEAD_UPGRADE);
        cr_assert_eq(switch_protocols(request), KINO_INVALID);
        cr_assert_eq(desk_answer_target(request), 0);
        cr_assert_eq(client_read(&client), 200);
    }
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(streams, what_was_lent_is_given_back_once_and_not_when_it_is_refused)
{
    static const struct kino_field bad = {SLICE("a"), SLICE("\n"), 0, 0};
    char bytes[8192] = "";
    _Atomic int done = 0;
    struct kino_response response = {.size = sizeof(response),
                                     .status = 200,
                                     .fields = &bad,
                                     .field_count = 1,
                                     .done = count_done,
                                     .done_context = &done};
    struct desk *desk = desk_open(by(dispatch), 1, NULL);
    struct client client = client_to(desk->port);
    struct kino_request *request;

    for (size_t len = 1; len <= sizeof(bytes); len = len == 1 ? sizeof(bytes) : len + 1) {
        client_send(&client, GET("/1"));
        request = desk_take_target(desk, "/1");
        atomic_store(&done, 0);
        response.body = (struct kino_slice){bytes, len};
        response.field_count = 1;
        cr_assert_eq(kino_request_respond(request, &response), KINO_INVALID);
        cr_assert_eq(atomic_load(&done), 0, "it is still the caller's");
        response.field_count = 0;
        cr_assert_eq(kino_request_respond(request, &response), 0);
        cr_assert_eq(kino_request_respond(request, &response), KINO_ANSWERED);
        kino_request_release(request);
        cr_assert_eq(client_read(&client), 200);
        cr_assert_eq(client.body_len, len);
        desk_assert_nothing_else(desk); /* and so its loop has seen that it was sent */
        cr_assert_eq(atomic_load(&done), 2, "once by each answer");
    }
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

/* SPEC.md 4.5 */
TestEach(streams, a_body_that_its_client_ends_too_early_breaks_off)
{
    struct desk *desk = desk_open(by(dispatch), 1, NULL);
    struct client client = client_to(desk->port);
    struct kino_request *request;
    struct kino_slice piece;

    client_send(&client, POST("/1", "100000", "first"));
    request = desk_take_target(desk, "/1");
    cr_assert_eq(read_some(request, &piece), 1);
    client_finish(&client);
    cr_assert_eq(read_some(request, &piece), KINO_GONE);
    cr_assert(desk_gets_state(request, KINO_STATE_DISCONNECTED));
    cr_assert_eq(client_expect_end(&client), CLIENT_ENDED);
    kino_request_release(request);
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

/* What the connection's end takes from its timer must stay taken: a sanitizer would tell. */
TestEach(streams, a_client_that_resets_while_it_uploads_is_forgotten)
{
    struct kino_config config = {.dispatch = dispatch, .request_timeout_ms = 10 * SHORT_MS};
    struct desk *desk = desk_open(config, 1, NULL);
    struct client client = client_to(desk->port);
    struct client other = client_to(desk->port);
    struct kino_request *request;

    client_send(&client, POST("/1", "100000", "first"));
    request = desk_take_target(desk, "/1");
    client_reset(&client);
    cr_assert(desk_gets_state(request, KINO_STATE_DISCONNECTED));
    cr_assert(client_is_quiet(&other, 15 * SHORT_MS), "until its deadline has passed");
    client_send(&other, GET("/2"));
    desk_answer_next(desk, "/2");
    cr_assert_eq(client_read(&other), 200);
    kino_request_release(request);
    client_close(&other);
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(streams, pieces_that_announce_more_leave_when_many_wait)
{
    enum { MOST_PIECES = 20 }; /* that a loop takes though the client reads none */
    struct desk *desk = desk_open(by(dispatch), 1, NULL);
    struct client client = client_to(desk->port);
    char *bytes = pattern(PART);
    const struct kino_piece piece = {
        .size = sizeof(piece), .flags = KINO_BODY_MORE, .data = {bytes, PART}};
    const struct kino_response response = {
        .size = sizeof(response), .status = 200, .flags = KINO_BODY_STREAM | KINO_BODY_MORE};
    struct kino_request *request;
    int pieces = 0;

    client_send(&client, GET("/1"));
    request = desk_take_target(desk, "/1");
    cr_assert_eq(kino_request_respond(request, &response), 0);
    while (pieces < MOST_PIECES && kino_request_write(request, &piece) == 0)
        pieces++;
    if (pieces < MOST_PIECES)
        cr_assert_gt(kino_request_wait(request, KINO_STATE_WRITABLE, SOON_MS), 0);
    cr_assert_eq(kino_request_finish(request, NULL, 0), 0);
    kino_request_release(request);
    cr_assert_eq(client_read(&client), 200);
    cr_assert_eq(client.body_len, (size_t)pieces * PART);
    client_close(&client);
    free(bytes);
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(streams, a_body_that_turns_out_to_be_none_is_refused_while_it_is_read)
{
    struct kino_config config = {.dispatch = dispatch, .max_whole_body_bytes = 1};
    struct desk *desk = desk_open(config, 1, NULL);
    struct client client = client_to(desk->port);
    struct kino_request *request;
    struct kino_slice piece;

    client_send(&client, "POST /1 HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
                         "5\r\nhello\r\n");
    request = desk_take_target(desk, "/1");
    cr_assert_eq(client_ask(&client, "no size\r\n"), 400);
    cr_assert(client_has_line(&client, "connection: close"));
    cr_assert_eq(read_some(request, &piece), 1);
    cr_assert_eq(read_some(request, &piece), KINO_GONE);
    cr_assert_eq(desk_answer(request, "late"), KINO_ANSWERED);
    cr_assert_eq(client_expect_end(&client), CLIENT_ENDED);
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

static const char expecting[] = "POST /2 HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\n"
                                "content-length: 4\r\n\r\n";

/* Its clock stands still: it was told to wait. */
TestEach(streams, a_client_that_waits_for_100_is_not_late)
{
    struct kino_config config = {
        .dispatch = dispatch, .body_timeout_ms = SHORT_MS, .rate_grace_ms = SHORT_MS};
    const struct kino_response hints = {.size = sizeof(hints), .status = 103};
    struct desk *desk = desk_open(config, 1, NULL);
    struct client client = client_to(desk->port);
    struct kino_request *request;
    struct kino_slice piece;

    client_send(&client, expecting);
    request = desk_take_target(desk, "/2");
    cr_assert_eq(kino_request_respond(request, &hints), 0);
    cr_assert_eq(client_read(&client), 103);
    cr_assert(client_is_quiet(&client, 4 * SHORT_MS));
    cr_assert_eq(kino_request_body(request, &piece), KINO_AGAIN);
    cr_assert_eq(client_read(&client), 100);
    cr_assert_eq(client_read(&client), 408, "now it is");
    cr_assert_eq(read_some(request, &piece), KINO_GONE);
    kino_request_release(request);
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(streams, nor_is_one_whose_100_waits_for_the_answers_before)
{
    struct kino_config config = {.dispatch = dispatch,
                                 .max_whole_body_bytes = KINO_OFF,
                                 .body_timeout_ms = SHORT_MS,
                                 .rate_grace_ms = SHORT_MS};
    struct desk *desk = desk_open(config, 1, NULL);
    struct client client = client_to(desk->port);
    struct kino_request *request;

    client_send(&client, GET("/1"));
    client_send(&client, expecting);
    request = desk_take_target(desk, "/1");
    cr_assert(client_is_quiet(&client, 4 * SHORT_MS));
    cr_assert_eq(desk_answer_target(request), 0);
    cr_assert_eq(client_read(&client), 200);
    cr_assert_eq(client_read(&client), 100);
    cr_assert_eq(client_read(&client), 408, "now it is late");
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

/* The rest of the body is there already: no completion would end the driver's sleep. */
static void read_late(void *context, struct kino_request *request)
{
    struct kino_slice piece;
    size_t read = 0;
    int rc;

    expect(kino_request_wait(request, KINO_STATE_PEER_DONE, 5 * SHORT_MS) == KINO_TIMED_OUT);
    while ((rc = kino_request_body(request, &piece)) != 0) {
        if (rc == 1)
            read += piece.len;
        else if (rc != KINO_AGAIN || kino_request_wait(request, KINO_STATE_READABLE, SOON_MS) < 0)
            break;
    }
    expect(rc == 0 && read == 10 * PART);
    desk_echo(context, request);
}

TestEach(streams, a_driver_that_waits_sees_what_its_own_turn_brings)
{
    struct kino_config config = {
        .dispatch = dispatch, .body_timeout_ms = KINO_OFF, .min_body_rate_bytes = KINO_OFF};
    struct desk *desk = desk_open(config, 1, read_late);
    struct client client = client_to(desk->port);
    char *bytes = pattern(10 * PART);
    const uint64_t began = now_ms();

    client_send(&client, POST("/1", "100000", ""));
    client_send_bytes(&client, bytes, 10 * PART);
    cr_assert_eq(client_read(&client), 200);
    cr_assert_lt(now_ms() - began, SOON_MS, "its sleep did not last its timeout");
    assert_no_errors();
    client_close(&client);
    free(bytes);
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(streams, raw_bytes_are_readable_when_they_have_come)
{
    struct desk *desk = desk_open(by(dispatch), 1, NULL);
    struct client client = client_to(desk->port);
    struct kino_request *request;

    client_send(&client, OFFER);
    request = desk_take_target(desk, "/raw");
    cr_assert_eq(switch_protocols(request), 0);
    cr_assert_not(kino_request_state(request) & KINO_STATE_READABLE);
    client_send(&client, "now");
    cr_assert(desk_gets_state(request, KINO_STATE_READABLE));
    kino_request_release(request);
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

/* The connection is gone while the answer is written: what was lent comes back all the same. */
TestEach(streams, what_was_lent_to_a_lost_client_comes_back_at_once)
{
    struct desk *desk = desk_open(by(dispatch), 1, NULL);
    struct client client = client_to(desk->port);
    char *bytes = pattern(PART);
    _Atomic int done = 0;
    const struct kino_response response = {.size = sizeof(response),
                                           .status = 200,
                                           .body = {bytes, PART},
                                           .done = count_done,
                                           .done_context = &done};
    struct kino_request *request;
    const uint64_t end = now_ms() + SOON_MS;

    client_send(&client, GET("/1"));
    request = desk_take_target(desk, "/1");
    client_reset(&client);
    cr_assert(desk_gets_state(request, KINO_STATE_DISCONNECTED));
    cr_assert_eq(kino_request_respond(request, &response), 0);
    while (atomic_load(&done) == 0 && now_ms() < end)
        sched_yield();
    cr_assert_eq(atomic_load(&done), 1, "before it is released");
    kino_request_release(request);
    free(bytes);
    cr_assert_eq(desk_close(desk), 0);
    cr_assert_eq(atomic_load(&done), 1);
}

/* What a handler that waits has seen. */
static _Atomic int seen;

static void wait_for_the_end(void *context, struct kino_request *request)
{
    struct desk *desk = context;

    desk_count_ready(desk);
    for (unsigned i = 0; i < desk->worker_count; i++)
        kino_worker_interrupt(desk->workers[i].worker); /* ends no wait but a worker's */
    expect(kino_request_wait(request, KINO_STATE_DRAINING, SOON_MS) > 0);
    atomic_fetch_or(&seen, kino_request_state(request));
    expect(kino_request_wait(request, 0, SOON_MS) > 0);
    atomic_fetch_or(&seen, kino_request_state(request));
    expect(kino_request_wait(request, 0, SOON_MS) > 0);
}

TestEach(streams, a_handler_that_waits_sees_the_drain_and_its_end)
{
    struct desk *desk = desk_open(by(dispatch), 1, wait_for_the_end);
    struct client client = client_to(desk->port);
    const uint64_t began = now_ms();

    client_send(&client, GET("/1"));
    cr_assert(desk_is_ready(desk, 2));
    kino_server_drain(desk->server, SHORT_MS);
    cr_assert_leq(client_expect_end(&client), CLIENT_ENDED);
    client_close(&client);
    cr_assert_eq(desk_end(desk), 0);
    cr_assert(atomic_load(&seen) & KINO_STATE_DRAINING);
    cr_assert(atomic_load(&seen) & KINO_STATE_DISCONNECTED);
    assert_no_errors();
    cr_assert_lt(now_ms() - began, SOON_MS);
}

/* Held by its handler, for another thread to answer. */
static _Atomic(struct kino_request *) held;

static void wait_to_be_answered(void *context, struct kino_request *request)
{
    atomic_store(&held, kino_request_hold(request));
    desk_count_ready(context);
    expect(kino_request_wait(request, KINO_STATE_ANSWERED, SOON_MS) > 0);
}

TestEach(streams, a_handler_that_waits_sees_another_thread_answer)
{
    struct desk *desk = desk_open(by(dispatch), 1, wait_to_be_answered);
    struct client client = client_to(desk->port);
    const uint64_t began = now_ms();

    for (unsigned i = 0; i < 20; i++) {
        client_send(&client, GET("/1"));
        cr_assert(desk_is_ready(desk, 2 + i));
        cr_assert_eq(desk_answer(atomic_load(&held), "there"), 0);
        cr_assert_eq(client_read(&client), 200);
    }
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
    assert_no_errors();
    cr_assert_lt(now_ms() - began, SOON_MS);
}

TestEach(streams, a_body_that_is_held_back_and_never_read_ends_with_its_request)
{
    struct desk *desk = desk_open(by(dispatch), 1, NULL);
    struct client client = client_to(desk->port);
    char *bytes = pattern(LARGE);
    size_t sent = 0;
    size_t part;
    struct kino_request *request;

    client_send(&client, POST("/1", "4194304", ""));
    request = desk_take_target(desk, "/1");
    while (sent < LARGE / 2 &&
           (part = client_try_send(&client, bytes + sent, LARGE / 2 - sent, SHORT_MS)) > 0)
        sent += part;
    kino_request_release(request);
    cr_assert_eq(client_read(&client), 500);
    cr_assert(client_has_line(&client, "connection: close"));
    cr_assert_neq(client_wait_end(&client), CLIENT_SILENT);
    client_close(&client);
    free(bytes);
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(streams, an_offer_that_also_says_close_loses_no_raw_bytes)
{
    static const char offer[] = "GET /raw HTTP/1.1\r\nhost: a\r\nconnection: close, upgrade\r\n"
                                "upgrade: shout\r\n\r\nraw";
    struct desk *desk = desk_open(by(dispatch), 1, NULL);
    struct client client = client_to(desk->port);
    struct kino_request *request;
    struct kino_slice piece;

    client_send(&client, offer);
    request = desk_take_target(desk, "/raw");
    cr_assert_eq(switch_protocols(request), 0);
    cr_assert_eq(client_read(&client), 101);
    cr_assert_eq(read_some(request, &piece), 1);
    cr_assert_eq(piece.len, 3);
    cr_assert_eq(kino_request_finish(request, NULL, 0), 0);
    kino_request_release(request);
    cr_assert_eq(client_expect_end(&client), CLIENT_ENDED);
    client_close(&client);
    client = client_to(desk->port);
    client_send(&client, offer);
    desk_answer_next(desk, "/raw");
    cr_assert_eq(client_read(&client), 200, "nobody takes it");
    cr_assert(client_has_line(&client, "connection: close"));
    cr_assert_eq(client_expect_end(&client), CLIENT_ENDED);
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}
