/* SPDX-License-Identifier: MIT */
/* SPEC.md 2, 3 and 4.1: what is refused is refused on the wire, every bound is a setting, and
 * nobody takes more than a share. What else the parser refuses, its own tests show. */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "support/desk.h"

#define SLICE(literal) {literal, sizeof(literal) - 1}
#define RAW(literal) literal, sizeof(literal) - 1
#define LINE "GET / HTTP/1.1\r\n"
#define HOST "host: a\r\n"
#define POSTS "POST / HTTP/1.1\r\n" HOST
#define CHUNKS POSTS "transfer-encoding: chunked\r\n\r\n"

enum {
    SOON_MS = 20000,
};

static struct kino_config by(uint64_t dispatch)
{
    return (struct kino_config){.dispatch = dispatch};
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
static int read_all(struct kino_request *request)
{
    struct kino_slice piece;
    int rc;

    while ((rc = read_some(request, &piece)) == 1)
        ;
    return rc;
}

static void assert_refused(struct desk *desk, const char *raw, size_t len, int status)
{
    struct client client = client_to(desk->port);

    client_send_bytes(&client, raw, len);
    cr_assert_eq(client_read(&client), status, "%s", raw);
    cr_assert(client_has_line(&client, "connection: close"), "%s", raw);
    cr_assert(client_has_line(&client, "content-type: text/plain; charset=utf-8"));
    cr_assert_eq(client_expect_end(&client), CLIENT_ENDED, "nothing behind it is read: %s", raw);
    client_close(&client);
}

/* Refusals */

TestEach(hardening, what_no_request_may_be_is_refused_and_closed)
{
    static const struct {
        int status;
        const char *raw;
        size_t len;
    } rows[] = {
        {400, RAW(LINE "\r\n")},              /* no Host */
        {400, RAW(LINE HOST HOST "\r\n")},    /* two */
        {400, RAW(LINE "host: a b\r\n\r\n")}, /* none that could be */
        {400, RAW(POSTS "content-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n")},
        {400, RAW(POSTS "content-length: 1\r\ncontent-length: 1\r\n\r\nx")},
        {400, RAW(POSTS "content-length: 1, 1\r\n\r\nx")},
        {400, RAW(POSTS "content-length: +1\r\n\r\nx")},
        {400, RAW(POSTS "content-length: 0x1\r\n\r\nx")},
        {400, RAW(POSTS "content-length: 1_0\r\n\r\n0123456789")},
        {400, RAW(POSTS "content-length:\r\n\r\n")},
        {400, RAW(POSTS "transfer-encoding: gzip\r\n\r\n")},
        {400, RAW(POSTS "transfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n")},
        {400, RAW(POSTS "transfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n")},
        {400, RAW(POSTS "transfer-encoding: identity\r\n\r\n")},
        {400, RAW(POSTS "transfer-encoding: chunked;q=1\r\n\r\n0\r\n\r\n")},
        {400, RAW(POSTS "transfer-encoding: \"chunked\"\r\n\r\n0\r\n\r\n")},
        {400, RAW(POSTS "transfer-encoding:\tchunked\r\n\r\n0\r\n\r\n")},
        {400, RAW(POSTS "transfer-encoding: \vchunked\r\n\r\n0\r\n\r\n")},
        {400, RAW("POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n")},
        {501, RAW(POSTS "transfer-encoding: xchunked\r\n\r\n0\r\n\r\n")},
        {501, RAW(POSTS "transfer-encoding: deflate, chunked\r\n\r\n0\r\n\r\n")},
        {400, RAW(LINE HOST "a: b\rc: d\r\n\r\n")},
        {400, RAW(LINE HOST "a: b\nc: d\r\n\r\n")},
        {400, RAW(LINE HOST "a: b\r\n c\r\n\r\n")},
        {400, RAW(LINE HOST "a : b\r\n\r\n")},
        {400, RAW(LINE HOST "a\0: b\r\n\r\n")},
        {400, RAW(LINE HOST "a: \0\r\n\r\n")},
        {400, RAW(LINE HOST "a: \x01\r\n\r\n")},
        {400, RAW(CHUNKS "1g\r\nx\r\n0\r\n\r\n")},
        {400, RAW(CHUNKS "+1\r\nx\r\n0\r\n\r\n")},
        {400, RAW(CHUNKS "0x1\r\nx\r\n0\r\n\r\n")},
        {400, RAW(CHUNKS "10000000000000001\r\nx\r\n0\r\n\r\n")},
        {400, RAW(CHUNKS "1;a=b\nx\r\n0\r\n\r\n")},
        {400, RAW("get / HTTP/1.1\r\n" HOST "\r\n")},
        {501, RAW("BREW / HTTP/1.1\r\n" HOST "\r\n")},
        {501, RAW("CONNECT a:443 HTTP/1.1\r\n" HOST "\r\n")},
        {505, RAW("GET / HTTP/2.0\r\n" HOST "\r\n")},
        {505, RAW("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")},
        {400, RAW("GET /\r\n")},
        {400, RAW("GET * HTTP/1.1\r\n" HOST "\r\n")},
        {400, RAW("GET a:80 HTTP/1.1\r\n" HOST "\r\n")},
        {400, RAW("GET ftp://a/ HTTP/1.1\r\n" HOST "\r\n")},
        {417, RAW(POSTS "expect: tea\r\ncontent-length: 1\r\n\r\nx")},
    };
    struct desk *desk = desk_open(by(dispatch), 1, desk_echo);

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char raw[512];

        memcpy(raw, rows[i].raw, rows[i].len);
        memcpy(raw + rows[i].len, GET("/next"), sizeof(GET("/next")));
        assert_refused(desk, raw, rows[i].len + strlen(GET("/next")), rows[i].status);
    }
    cr_assert_eq(desk_close(desk), 0);
}

/* Bounds */

#define TEN "0123456789"

/* The body counts as it comes, the line of a chunk with its extensions and CRLF, the head and the
 * trailer section with the empty line behind them. */
TestEach(hardening, every_bound_is_a_setting_that_lets_through_what_just_fits)
{
    static const struct {
        size_t offset;
        uint64_t bound;
        const char *fits;
        const char *exceeds;
        int status;
    } rows[] = {
#define BOUND(name) offsetof(struct kino_config, name)
        {BOUND(max_head_bytes), 64,
         "GET / HTTP/1.1\r\nhost: a\r\nabcdef: " TEN TEN "1234567\r\n\r\n",
         "GET / HTTP/1.1\r\nhost: a\r\nabcdef: " TEN TEN "12345678\r\n\r\n", 431},
        {BOUND(max_fields), 2, LINE HOST "a: b\r\n\r\n", LINE HOST "a: b\r\nc: d\r\n\r\n", 431},
        {BOUND(max_field_bytes), 16, LINE HOST "abcdef: " TEN "\r\n\r\n",
         LINE HOST "abcdefg: " TEN "\r\n\r\n", 431},
        {BOUND(max_target_bytes), 11, GET("/" TEN), GET("//" TEN), 414},
        {BOUND(max_body_bytes), 10, POST("/", "10", TEN), POST("/", "11", TEN "x"), 413},
        {BOUND(max_body_bytes), 10, CHUNKS "5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n",
         CHUNKS "5\r\n01234\r\n6\r\n56789x\r\n0\r\n\r\n", 413},
        {BOUND(max_chunk_line_bytes), 16, CHUNKS "1;a=" TEN "\r\nx\r\n0\r\n\r\n",
         CHUNKS "1;ab=" TEN "\r\nx\r\n0\r\n\r\n", 400},
        {BOUND(max_trailer_bytes), 16, CHUNKS "1\r\nx\r\n0\r\na: 012345678\r\n\r\n",
         CHUNKS "1\r\nx\r\n0\r\na: 0123456789\r\n\r\n", 400},
#undef BOUND
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct kino_config config = by(dispatch);
        struct client client;
        struct desk *desk;

        *(uint64_t *)(void *)((char *)&config + rows[i].offset) = rows[i].bound;
        desk = desk_open(config, 1, desk_echo);
        client = client_to(desk->port);
        cr_assert_eq(client_ask(&client, rows[i].fits), 200, "%s", rows[i].fits);
        client_close(&client);
        assert_refused(desk, rows[i].exceeds, strlen(rows[i].exceeds), rows[i].status);
        cr_assert_eq(desk_close(desk), 0);
    }
}

/* `head`, a field or more of `len` bytes, and the end of it. */
static int ask_long(struct client *client, const char *head, size_t fields, size_t len)
{
    char *value = malloc(len + 1);

    memset(value, 'x', len);
    value[len] = '\0';
    client_send(client, head);
    for (size_t i = 0; i < fields; i++) {
        client_send(client, "a: ");
        client_send(client, value);
        client_send(client, "\r\n");
    }
    free(value);
    return client_ask(client, "\r\n");
}

TestEach(hardening, a_bound_that_is_off_bounds_nothing)
{
    struct kino_config config = {
        .dispatch = dispatch,
        .max_head_bytes = KINO_OFF,
        .max_fields = KINO_OFF,
        .max_field_bytes = KINO_OFF,
        .max_target_bytes = KINO_OFF,
        .max_body_bytes = KINO_OFF,
        .max_chunk_line_bytes = KINO_OFF,
        .max_trailer_bytes = KINO_OFF,
    };
    struct desk *desk = desk_open(config, 1, desk_echo);
    struct client client = client_to(desk->port);

    cr_assert_eq(ask_long(&client, LINE HOST, 1, 100000), 200);
    cr_assert_eq(ask_long(&client, LINE HOST, 1000, 1), 200);
    cr_assert_eq(ask_long(&client, CHUNKS "1\r\nx\r\n0\r\n", 1, 10000), 200);
    client_close(&client);
    client = client_to(desk->port);
    cr_assert_eq(client_ask(&client, POST("/", "18446744073709551614", "x")), 200);
    cr_assert(client_has_line(&client, "connection: close"), "nobody reads the rest");
    client_close(&client);
    client = client_to(desk->port);
    cr_assert_eq(client_ask(&client, POST("/", "18446744073709551615", "x")), 413, "it means none");
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(hardening, a_body_is_handed_out_whole_up_to_its_bound_and_else_at_its_head)
{
    struct kino_config config = {.dispatch = dispatch, .max_whole_body_bytes = 10};
    struct desk *desk = desk_open(config, 1, NULL);
    struct client client = client_to(desk->port);
    const struct kino_head *head;
    struct kino_request *request;

    client_send(&client, POST("/1", "10", TEN) POST("/2", "11", "0"));
    request = desk_take_target(desk, "/1");
    head = kino_request_head(request);
    cr_assert(head->flags & KINO_HEAD_BODY_WHOLE);
    cr_assert_eq(head->content_length, 10);
    cr_assert_eq(head->body.len, 10);
    cr_assert_eq(read_all(request), 0);
    cr_assert_eq(desk_answer_target(request), 0);
    request = desk_take_target(desk, "/2");
    head = kino_request_head(request);
    cr_assert_not(head->flags & KINO_HEAD_BODY_WHOLE);
    cr_assert_eq(head->content_length, 11);
    cr_assert_null(head->body.data);
    client_send(&client, TEN CHUNKS "a\r\n" TEN "\r\n");
    cr_assert_eq(read_all(request), 0);
    cr_assert_eq(desk_answer_target(request), 0);
    desk_assert_nothing_else(desk); /* it may still be whole */
    client_send(&client, "1\r\nx\r\n");
    request = desk_take_target(desk, "/");
    head = kino_request_head(request);
    cr_assert_not(head->flags & KINO_HEAD_BODY_WHOLE);
    cr_assert_eq(head->content_length, KINO_OFF);
    client_send(&client, "0\r\n\r\n");
    cr_assert_eq(read_all(request), 0);
    cr_assert_eq(desk_answer_target(request), 0);
    for (int i = 0; i < 3; i++)
        cr_assert_eq(client_read(&client), 200);
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

/* The bounds hold, too, when a body is read as it comes: who reads it learns that it broke off. */
TestEach(hardening, a_body_that_is_refused_while_it_is_read_breaks_off)
{
    static const struct {
        const char *rest;
        int status;
    } rows[] = {
        {"6\r\n012345\r\n", 413},
        {"1;ab=" TEN "\r\nx\r\n", 400},
        {"0\r\na: 0123456789\r\n\r\n", 400},
        {"0\r\na: b\nc: d\r\n\r\n", 400},
        {"0\r\ncontent-length: 5\r\n\r\n", 400},
        {"0\r\na:\r\nb:\r\nc:\r\n\r\n", 431},
        {"x\r\n", 400},
    };
    struct kino_config config = {
        .dispatch = dispatch,
        .max_body_bytes = 10,
        .max_whole_body_bytes = 1,
        .max_fields = 2,
        .max_chunk_line_bytes = 16,
        .max_trailer_bytes = 16,
    };
    struct desk *desk = desk_open(config, 1, NULL);

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct client client = client_to(desk->port);
        const struct kino_field *fields;
        struct kino_request *request;

        client_send(&client, CHUNKS "5\r\n01234\r\n");
        request = desk_take_target(desk, "/");
        client_send(&client, rows[i].rest);
        cr_assert_eq(read_all(request), KINO_GONE, "%s", rows[i].rest);
        cr_assert_eq(kino_request_trailers(request, &fields), KINO_AGAIN);
        cr_assert_eq(desk_answer(request, "late"), KINO_ANSWERED);
        cr_assert_eq(client_read(&client), rows[i].status, "%s", rows[i].rest);
        cr_assert(client_has_line(&client, "connection: close"));
        cr_assert_eq(client_expect_end(&client), CLIENT_ENDED);
        client_close(&client);
    }
    cr_assert_eq(desk_close(desk), 0);
}

/* Answers */

TestEach(hardening, the_server_field_is_a_setting)
{
    static const struct {
        struct kino_slice value;
        const char *line; /* NULL: none at all */
    } rows[] = {
        {{NULL, 0}, "server: kino"},
        {SLICE("mine/1.0"), "server: mine/1.0"},
        {{"", 0}, NULL},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char name[16];
        struct kino_config config = {.dispatch = dispatch, .server_field = {name, 0}};
        struct client client;
        struct desk *desk;

        config.server_field.len = rows[i].value.len;
        if (!rows[i].value.data)
            config.server_field.data = NULL;
        else
            memcpy(name, rows[i].value.data, rows[i].value.len);
        desk = desk_open(config, 1, desk_echo);
        memset(name, '\n', sizeof(name)); /* it was copied */
        client = client_to(desk->port);
        for (int status = 200; status <= 400; status += 200) { /* the program's, and our own */
            cr_assert_eq(client_ask(&client, status == 200 ? GET("/") : "\n"), status);
            if (rows[i].line)
                cr_assert(client_has_line(&client, rows[i].line));
            else
                cr_assert_null(strstr(client.head, "server:"));
        }
        client_close(&client);
        cr_assert_eq(desk_close(desk), 0);
    }
}

/* CVE-2020-5247 and CVE-2020-5249: what would split an answer never leaves, wherever it stands. */
TestEach(hardening, no_field_of_any_kind_of_answer_can_split_it)
{
    static const struct kino_field bad[] = {
        {SLICE("a"), SLICE("b\r\nc: d"), 0, 0}, {SLICE("a"), SLICE("b\nc: d"), 0, 0},
        {SLICE("a"), SLICE("b\rc: d"), 0, 0},   {SLICE("a"), SLICE("b\0c"), 0, 0},
        {SLICE("a\r\nb"), SLICE("c"), 0, 0},    {SLICE("a: b"), SLICE("c"), 0, 0},
        {SLICE(""), SLICE("c"), 0, 0},
    };
    static const uint64_t statuses[] = {200, 103, 101};
    struct kino_response response = {.size = sizeof(response), .field_count = 1};
    struct desk *desk = desk_open(by(dispatch), 1, NULL);
    struct client client = client_to(desk->port);
    struct kino_request *request;
    size_t i;

    client_send(&client, LINE HOST "connection: upgrade\r\nupgrade: a\r\n\r\n");
    request = desk_take_target(desk, "/");
    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        response.fields = &bad[i];
        for (size_t j = 0; j < sizeof(statuses) / sizeof(statuses[0]); j++) {
            response.status = statuses[j];
            cr_assert_eq(kino_request_respond(request, &response), KINO_INVALID, "%zu %zu", i, j);
        }
    }
    response =
        (struct kino_response){.size = sizeof(response), .status = 200, .flags = KINO_BODY_STREAM};
    cr_assert_eq(kino_request_respond(request, &response), 0);
    while (i-- > 0)
        cr_assert_eq(kino_request_finish(request, &bad[i], 1), KINO_INVALID, "trailer %zu", i);
    cr_assert_eq(kino_request_finish(request, NULL, 0), 0);
    kino_request_release(request);
    cr_assert_eq(client_read(&client), 200, "and nothing before it");
    cr_assert_null(strstr(client.head, "\r\na"));
    cr_assert_str_eq(client.trailers, "");
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

/* Fairness */

enum {
    CHUNK_COUNT = 250000,
    CHUNKS_ONCE = 1000,
    MORE_MEMORY = 8 << 20, /* thirty-two bytes for each would be as much */
};

static size_t resident_bytes(void)
{
    unsigned long size = 0;
    unsigned long resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");

    if (file && fscanf(file, "%lu %lu", &size, &resident) != 2)
        resident = 0;
    fclose(file);
    return resident * (size_t)sysconf(_SC_PAGESIZE);
}

/* That their time is linear, too, the parser's own tests show. */
static void assert_chunks_cost_little(struct kino_config config)
{
    struct desk *desk = desk_open(config, 1, NULL);
    struct client client = client_to(desk->port);
    char *chunks = malloc(CHUNKS_ONCE * 6 + 1);
    struct kino_request *request;
    const size_t before = resident_bytes();

    for (int i = 0; i < CHUNKS_ONCE; i++)
        memcpy(chunks + (size_t)i * 6, "1\r\nx\r\n", 7);
    client_send(&client, CHUNKS);
    for (int i = 0; i < CHUNK_COUNT / CHUNKS_ONCE; i++)
        cr_assert_eq(client_send(&client, chunks), 0);
    client_send(&client, "0\r\n\r\n");
    request = desk_take_target(desk, "/");
    cr_assert_eq(read_all(request), 0);
    cr_assert_lt(resident_bytes(), before + MORE_MEMORY);
    cr_assert_eq(desk_answer_target(request), 0);
    cr_assert_eq(client_read(&client), 200);
    free(chunks);
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(hardening, a_quarter_of_a_million_chunks_cost_little_more_than_their_bytes)
{
    struct kino_config config = {.dispatch = dispatch, .max_whole_body_bytes = KINO_OFF};

    assert_chunks_cost_little(config);
    config.max_whole_body_bytes = CHUNK_COUNT / 2; /* half of them before it is handed out */
    assert_chunks_cost_little(config);
}

enum {
    GREEDY = 8,
    ROUNDS = 21,
    OTHERS_MOST = 8 * GREEDY * 16, /* of the greedy, before one who has come: they wait 16 deep */
};

static _Atomic bool greedy_goes_on;
static _Atomic unsigned handled;
static _Atomic unsigned handled_before_new;

static void count_and_echo(void *context, struct kino_request *request)
{
    const unsigned before = atomic_fetch_add(&handled, 1);

    if (desk_is(request, "/new"))
        atomic_store(&handled_before_new, before);
    desk_echo(context, request);
}

/* Ask for as much as the server takes, and never wait for an answer. */
static void *be_greedy(void *context)
{
    static const char asks[] =
        GET("/1") GET("/2") GET("/3") GET("/4") GET("/5") GET("/6") GET("/7");
    const struct desk *desk = context;
    struct client client = client_to(desk->port);
    char answers[4096];

    while (atomic_load(&greedy_goes_on)) {
        client_try_send(&client, asks, sizeof(asks) - 1, 0);
        if (!client_is_quiet(&client, 0) &&
            client_read_some(&client, answers, sizeof(answers)) <= 0)
            break;
    }
    client_reset(&client);
    return NULL;
}

static int compare(const void *a, const void *b)
{
    const unsigned left = *(const unsigned *)a;
    const unsigned right = *(const unsigned *)b;

    return left < right ? -1 : left > right;
}

/* CVE-2019-16770 and CVE-2021-29509. Counted in requests, of which a busy machine handles no more
 * before the new one; the median, because this thread may be away between its two lines. */
TestEach(hardening, greedy_pipeliners_do_not_starve_who_comes_later)
{
    struct desk *desk = desk_open(by(dispatch), 1, count_and_echo);
    pthread_t threads[GREEDY];
    unsigned others[ROUNDS];

    atomic_store(&greedy_goes_on, true);
    atomic_store(&handled, 0);
    for (int i = 0; i < GREEDY; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, be_greedy, desk), 0);
    while (atomic_load(&handled) < 10000)
        sched_yield();
    for (int i = 0; i < ROUNDS; i++) {
        struct client client = client_to(desk->port);
        const unsigned before = atomic_load(&handled);

        cr_assert_eq(client_ask(&client, GET("/new")), 200, "client %d", i);
        others[i] = atomic_load(&handled_before_new) - before;
        client_close(&client);
    }
    atomic_store(&greedy_goes_on, false);
    for (int i = 0; i < GREEDY; i++)
        pthread_join(threads[i], NULL);
    qsort(others, ROUNDS, sizeof(others[0]), compare);
    cr_assert_lt(others[ROUNDS / 2], OTHERS_MOST);
    cr_assert_eq(desk_close(desk), 0);
}
