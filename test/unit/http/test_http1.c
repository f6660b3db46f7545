/* SPDX-License-Identifier: MIT */
#include "http/http1.h"

#include "support/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

/* Every input is played whole, byte by byte, and in every split in two. Each piece ends where
 * a page without access begins, so that a look past it is a crash. What happened is written down as
 * text, an event a line, and must always be the same. */

#define RAW(literal) literal, sizeof(literal) - 1

enum {
    PAGE = 4096,
    ARENA = 32 * PAGE, /* the longest piece */
};

static const struct kn_limits defaults = {
    .max_head_bytes = 65536,
    .max_fields = 128,
    .max_field_bytes = 16384,
    .max_target_bytes = 8192,
    .max_body_bytes = 52428800,
    .max_chunk_line_bytes = 1024,
    .max_trailer_bytes = 1024,
};

static char *guard_page(void)
{
    static char *guard;

    if (!guard) {
        char *arena =
            mmap(NULL, ARENA + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        cr_assert_neq(arena, MAP_FAILED);
        guard = arena + ARENA;
        cr_assert_eq(mprotect(guard, PAGE, PROT_NONE), 0);
    }
    return guard;
}

struct player {
    struct kn_http1 http1;
    struct kn_head head;
    struct kn_buf body;
    struct kn_head trailers;
    struct kn_buf log;
};

static void note(struct player *player, const char *text)
{
    cr_assert_eq(kn_buf_append(&player->log, text, strlen(text)), 0);
}

static void note_slice(struct player *player, const char *before, struct kino_slice slice)
{
    if (!slice.data)
        return;
    note(player, before);
    cr_assert_eq(kn_buf_append(&player->log, slice.data, slice.len), 0);
}

static void note_request(struct player *player)
{
    const struct kino_head *view = &player->head.view;

    note_slice(player, "", view->method);
    note_slice(player, " ", view->path);
    note_slice(player, "?", view->query);
    note_slice(player, " at ", view->authority);
    note(player, view->version == KINO_HTTP_1_0 ? ", 1.0" : ", 1.1");
    note(player, player->http1.keep_alive ? ", goes on" : ", closes");
    note_slice(player, ": ",
               player->body.len ? (struct kino_slice){player->body.data, player->body.len}
                                : (struct kino_slice){0});
    note(player, "\n");
}

/* Returns false when nothing more may be fed. */
static bool note_event(struct player *player, enum kn_http1_event event)
{
    char status[16];

    switch (event) {
    case KN_HTTP1_MORE:
        return true;
    case KN_HTTP1_HEAD:
        note(player, player->http1.expects_continue ? "head, awaits 100\n" : "head\n");
        return true;
    case KN_HTTP1_DONE:
        note_request(player);
        kn_http1_begin(&player->http1, &player->head, &player->body, &player->trailers);
        return true;
    case KN_HTTP1_REJECT:
        snprintf(status, sizeof(status), "%d\n", player->http1.status);
        note(player, status);
        return false;
    }
    cr_assert_fail("event %d", event);
    return false;
}

static bool play_piece(struct player *player, const char *data, size_t len)
{
    char *at = guard_page() - len;
    bool goes_on = true;

    cr_assert_leq(len, ARENA);
    memcpy(at, data, len);
    while (len > 0 && goes_on) {
        enum kn_http1_event event;
        size_t used = kn_http1_feed(&player->http1, at, len, &event);

        cr_assert_leq(used, len);
        cr_assert(event != KN_HTTP1_MORE || used == len);
        goes_on = note_event(player, event);
        at += used;
        len -= used;
    }
    return goes_on;
}

/* The first piece has `first` bytes, the others `step`. Returns the log, to be freed. */
static char *play(const struct kn_limits *limits, const char *raw, size_t len, size_t first,
                  size_t step)
{
    struct player player = {0};
    size_t at = 0;

    kn_http1_init(&player.http1, limits);
    kn_http1_begin(&player.http1, &player.head, &player.body, &player.trailers);
    while (at < len) {
        size_t piece = at == 0 ? first : step;

        if (piece > len - at)
            piece = len - at;
        if (!play_piece(&player, raw + at, piece))
            break;
        at += piece;
    }
    cr_assert_eq(kn_buf_append(&player.log, "", 1), 0);
    {
        char *log = strdup(player.log.data);

        kn_head_deinit(&player.head);
        kn_buf_deinit(&player.body);
        kn_head_deinit(&player.trailers);
        kn_buf_deinit(&player.log);
        return log;
    }
}

static void expect_played(const struct kn_limits *limits, const char *raw, size_t len,
                          const char *expected, size_t first, size_t step)
{
    char *log = play(limits, raw, len, first, step);

    cr_assert_str_eq(log, expected, "got '%s' instead of '%s' for '%s', split at %zu by %zu", log,
                     expected, raw, first, step);
    free(log);
}

static void expect(const struct kn_limits *limits, const char *raw, size_t len,
                   const char *expected)
{
    expect_played(limits, raw, len, expected, len, len);
    expect_played(limits, raw, len, expected, 1, 1);
    for (size_t first = 1; first < len; first++)
        expect_played(limits, raw, len, expected, first, len);
}

struct row {
    const char *raw;
    size_t len;
    const char *expected;
};

static void expect_rows(const struct row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++)
        expect(&defaults, rows[i].raw, rows[i].len, rows[i].expected);
}

#define EXPECT_ROWS(rows) expect_rows(rows, sizeof(rows) / sizeof((rows)[0]))

#define HOST "Host: a\r\n"
#define GET "GET / HTTP/1.1\r\n" HOST
#define GOT "GET / at a, 1.1, goes on\n"

/* SPEC.md 2.1 */

Test(http1, a_request_line_is_read_in_all_its_legal_shapes)
{
    static const struct row rows[] = {
        {RAW(GET "\r\n"), GOT},
        {RAW("GET   /   HTTP/1.1\r\n" HOST "\r\n"), GOT},
        {RAW("GET / HTTP/1.0\r\n\r\n"), "GET /, 1.0, closes\n"},
        {RAW("GET / HTTP/1.2\r\n" HOST "\r\n"), GOT},
        {RAW("GET / HTTP/1.9\r\n" HOST "\r\n"), GOT},
        {RAW("M-SEARCH /x HTTP/1.0\r\n\r\n"), "M-SEARCH /x, 1.0, closes\n"},
        {RAW("QUERY /x HTTP/1.0\r\n\r\n"), "QUERY /x, 1.0, closes\n"},
        {RAW("SOURCE /x HTTP/1.0\r\n\r\n"), "SOURCE /x, 1.0, closes\n"},
        {RAW("OPTIONS   *   HTTP/1.0\r\n\r\n"), "OPTIONS *, 1.0, closes\n"},
    };

    EXPECT_ROWS(rows);
}

Test(http1, a_method_is_unknown_or_none)
{
    static const struct row rows[] = {
        {RAW("PUMA / HTTP/1.1\r\n"), "501\n"},
        {RAW("PU / HTTP/1.1\r\n"), "501\n"},
        {RAW("GETT / HTTP/1.1\r\n"), "501\n"},
        {RAW("VERSION-CONTROL / HTTP/1.1\r\n"), "501\n"},
        {RAW("CONNECT a:443 HTTP/1.1\r\n"), "501\n"},
        {RAW("ANNOUNCE / HTTP/1.1\r\n"), "501\n"},
        {RAW("GET_PARAMETER / HTTP/1.1\r\n"), "501\n"},
        {RAW("FLUSH / HTTP/1.1\r\n"), "501\n"},
        {RAW("GET_ / HTTP/1.1\r\n"), "400\n"},
        {RAW("SET_PARAMETE / HTTP/1.1\r\n"), "400\n"},
        {RAW("GET_PARAMETERS / HTTP/1.1\r\n"), "501\n"},
        {RAW("get / HTTP/1.1\r\n"), "400\n"},
        {RAW("GEt / HTTP/1.1\r\n"), "400\n"},
        {RAW("G\0T / HTTP/1.1\r\n"), "400\n"},
        {RAW("G\tT / HTTP/1.1\r\n"), "400\n"},
        {RAW("GET\t/ HTTP/1.1\r\n"), "400\n"},
        {RAW("PUMA\t/ HTTP/1.1\r\n"), "400\n"},
        {RAW("GET\r\n"), "400\n"},
        {RAW("GET:/ HTTP/1.1\r\n"), "400\n"},
        {RAW(" / HTTP/1.1\r\n"), "400\n"},
        {RAW(":GET / HTTP/1.1\r\n"), "400\n"},
        {RAW("\x16\x03\x01\x02"), "400\n"}, /* TLS */
    };

    EXPECT_ROWS(rows);
}

Test(http1, an_endless_method_is_refused_before_its_end)
{
    char raw[200];

    memset(raw, 'A', sizeof(raw));
    expect(&defaults, raw, sizeof(raw), "501\n");
}

Test(http1, a_version_is_refused_by_its_kind)
{
    static const struct row rows[] = {
        {RAW("GET / HTTP/2.0\r\n"), "505\n"},
        {RAW("GET / HTTP/9.9\r\n"), "505\n"},
        {RAW("GET / HTTP/0.9\r\n"), "505\n"},
        {RAW("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), "505\n"},
        {RAW("GET /\r\n\r\n"), "400\n"},
        {RAW("GET /\r\n" HOST "\r\n"), "400\n"},
        {RAW("GET / \r\n\r\n"), "400\n"},
        {RAW("GET / HTTP/1\r\n"), "400\n"},
        {RAW("GET / HTTP/1.a\r\n"), "400\n"},
        {RAW("GET / HTTP/1.10\r\n"), "400\n"},
        {RAW("GET / HTTP/11.1\r\n"), "400\n"},
        {RAW("GET / http/1.1\r\n"), "400\n"},
        {RAW("GET / HTTPS/1.1\r\n"), "400\n"},
        {RAW("GET / IHTTP/1.1\r\n"), "400\n"},
        {RAW("GET / HTTP/1.1 \r\n"), "400\n"},
        {RAW("OPTIONS * RTSP/1.0\r\n\r\n"), "400\n"},
        {RAW("OPTIONS *   RTSP/1.0\r\n\r\n"), "400\n"},
        {RAW("SOURCE /x ICE/1.0\r\n\r\n"), "400\n"},
    };

    EXPECT_ROWS(rows);
}

Test(http1, a_few_empty_lines_before_a_request_are_skipped)
{
    static const struct row rows[] = {
        {RAW("\r\n" GET "\r\n"), GOT},
        {RAW("\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n" GET "\r\n"), GOT},
        {RAW(GET "\r\n\r\n" GET "\r\n"), GOT GOT},
        {RAW("\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n"), "400\n"},
        {RAW("\n" GET "\r\n"), "400\n"},
        {RAW("\r" GET "\r\n"), "400\n"},
        {RAW("\r\r\n" GET "\r\n"), "400\n"},
        {RAW(" \r\n" GET "\r\n"), "400\n"},
    };

    EXPECT_ROWS(rows);
}

Test(http1, empty_lines_begin_no_request)
{
    struct player player = {0};
    enum kn_http1_event event;

    kn_http1_init(&player.http1, &defaults);
    kn_http1_begin(&player.http1, &player.head, &player.body, &player.trailers);
    cr_assert_not(kn_http1_started(&player.http1));
    kn_http1_feed(&player.http1, "\r\n", 2, &event);
    cr_assert_not(kn_http1_started(&player.http1));
    kn_http1_feed(&player.http1, "G", 1, &event);
    cr_assert(kn_http1_started(&player.http1));
    kn_head_deinit(&player.head);
}

/* SPEC.md 2.2; more of it in test_head.c */

Test(http1, a_target_is_read_in_all_its_forms)
{
    static const struct row rows[] = {
        {RAW("GET /a?b#c HTTP/1.0\r\n\r\n"), "GET /a?b, 1.0, closes\n"},
        {RAW("GET /with_\"quotes\"|\\ HTTP/1.0\r\n\r\n"), "GET /with_\"quotes\"|\\, 1.0, closes\n"},
        {RAW("GET http://b:1?c HTTP/1.1\r\n" HOST "\r\n"), "GET /?c at b:1, 1.1, goes on\n"},
        {RAW("OPTIONS * HTTP/1.1\r\n" HOST "\r\n"), "OPTIONS * at a, 1.1, goes on\n"},
        {RAW("GET * HTTP/1.1\r\n" HOST "\r\n"), "400\n"},
        {RAW("GET a:80 HTTP/1.1\r\n" HOST "\r\n"), "400\n"},
        {RAW("GET ftp://a/ HTTP/1.1\r\n" HOST "\r\n"), "400\n"},
        {RAW("GET /a b HTTP/1.1\r\n" HOST "\r\n"), "400\n"},
        {RAW("GET /\x1b HTTP/1.1\r\n" HOST "\r\n"), "400\n"},
        {RAW("GET /\0 HTTP/1.1\r\n" HOST "\r\n"), "400\n"},
        {RAW("GET /\x7f HTTP/1.1\r\n" HOST "\r\n"), "400\n"},
        {RAW("GET /\xc3\xa9 HTTP/1.1\r\n" HOST "\r\n"), "400\n"},
        {RAW("GET /\t HTTP/1.1\r\n" HOST "\r\n"), "400\n"},
        {RAW("GET /?\x1b HTTP/1.1\r\n" HOST "\r\n"), "400\n"},
        {RAW("GET  HTTP/1.1\r\n" HOST "\r\n"), "400\n"},
    };

    EXPECT_ROWS(rows);
}

/* SPEC.md 2.3 */

Test(http1, a_malformed_field_is_refused)
{
    static const struct row rows[] = {
        {RAW(GET "a:b\r\nc: \td \t\r\ne:\r\n\xff_|~: \xff\r\n\r\n"), "400\n"},
        {RAW(GET "a:b\r\nc: \td \t\r\ne:\r\n|~_: \xff\ty\r\n\r\n"), GOT},
        {RAW(GET "a : b\r\n\r\n"), "400\n"},
        {RAW(GET "a\t: b\r\n\r\n"), "400\n"},
        {RAW(GET " a: b\r\n\r\n"), "400\n"},
        {RAW("GET / HTTP/1.1\r\n " HOST "\r\n"), "400\n"},
        {RAW(GET "a: b\r\n c\r\n\r\n"), "400\n"},
        {RAW(GET "a: b\r\n\tc\r\n\r\n"), "400\n"},
        {RAW(GET "a:\r\n b\r\n\r\n"), "400\n"},
        {RAW(GET "a: b\nc: d\r\n\r\n"), "400\n"},
        {RAW(GET "a: b\rc: d\r\n\r\n"), "400\n"},
        {RAW(GET "a:\nc: d\r\n\r\n"), "400\n"},
        {RAW(GET "a:\rc: d\r\n\r\n"), "400\n"},
        {RAW(GET "a: b\r\n\n"), "400\n"},
        {RAW(GET "\n"), "400\n"},
        {RAW(GET "\rx\r\n\r\n"), "400\n"},
        {RAW("GET / HTTP/1.1\n" HOST "\r\n"), "400\n"},
        {RAW("GET / HTTP/1.1\r" HOST "\r\n"), "400\n"},
        {RAW(GET ": b\r\n\r\n"), "400\n"},
        {RAW(GET "a\r\n\r\n"), "400\n"},
        {RAW(GET "a b: c\r\n\r\n"), "400\n"},
        {RAW(GET "a\0b: c\r\n\r\n"), "400\n"},
        {RAW(GET "a\x1b: c\r\n\r\n"), "400\n"},
        {RAW(GET "a\x80: c\r\n\r\n"), "400\n"},
        {RAW(GET "a[]: c\r\n\r\n"), "400\n"},
        {RAW(GET "a: b\0c\r\n\r\n"), "400\n"},
        {RAW(GET "a: b\x07\r\n\r\n"), "400\n"},
        {RAW(GET "a: b\x0b\r\n\r\n"), "400\n"},
        {RAW(GET "a: \x0c\r\n\r\n"), "400\n"},
        {RAW(GET "a: \x7f\r\n\r\n"), "400\n"},
    };

    EXPECT_ROWS(rows);
}

/* SPEC.md 2.4; what a Host may be is in test_head.c */

Test(http1, a_host_is_asked_for_by_the_version)
{
    static const struct row rows[] = {
        {RAW("GET / HTTP/1.1\r\n\r\n"), "400\n"},
        {RAW("GET / HTTP/1.1\r\nHost:\r\n\r\n"), "400\n"},
        {RAW("GET / HTTP/1.1\r\nHost: \t\r\n\r\n"), "400\n"},
        {RAW(GET HOST "\r\n"), "400\n"},
        {RAW(GET "hOST: b\r\n\r\n"), "400\n"},
        {RAW("GET http://b/ HTTP/1.1\r\n\r\n"), "400\n"},
        {RAW("GET / HTTP/1.0\r\n" HOST HOST "\r\n"), "400\n"},
        {RAW("GET / HTTP/1.0\r\nHost: a b\r\n\r\n"), "400\n"},
        {RAW("GET / HTTP/1.0\r\nHost: \r\n\r\n"), "GET / at , 1.0, closes\n"},
    };

    EXPECT_ROWS(rows);
}

/* SPEC.md 2.5 */

#define POST "POST / HTTP/1.1\r\n" HOST
#define POSTED "head\nPOST / at a, 1.1, goes on"

Test(http1, a_content_length_frames_the_body)
{
    static const struct row rows[] = {
        {RAW(POST "Content-Length: 5\r\n\r\nhello" GET "\r\n"), POSTED ": hello\n" GOT},
        {RAW(POST "content-LENGTH: 005\r\n\r\nhello"), POSTED ": hello\n"},
        {RAW(POST "Content-Length: 5\r\n\r\nhell"), "head\n"},
        {RAW(POST "Content-Length: 0\r\n\r\n" GET "\r\n"), "POST / at a, 1.1, goes on\n" GOT},
        {RAW(POST "\r\n" GET "\r\n"), "POST / at a, 1.1, goes on\n" GOT},
        {RAW(POST "Content_Length: 5\r\n\r\n" GET "\r\n"), "POST / at a, 1.1, goes on\n" GOT},
        {RAW(GET "Content-Length: 2\r\n\r\nhi" GET "\r\n"),
         "head\nGET / at a, 1.1, goes on: hi\n" GOT},
        {RAW("POST / HTTP/1.0\r\nContent-Length: 2\r\n\r\nhi"), "head\nPOST /, 1.0, closes: hi\n"},
    };

    EXPECT_ROWS(rows);
}

Test(http1, a_malformed_content_length_is_refused)
{
    static const char *const values[] = {
        "",    " ",   "+5",  "-5",    "5,5",   "5, 5", "5,",         ",5",
        "0x5", "5_0", "5 5", "5.0",   "abc",   "5a",   "\"5\"",      "5;a",
        "5\v", "۵",   "1e1", "\t5\t", "5\xa0", "١",    "-123456789", "18446744073709551616",
    };
    char raw[200];

    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        int len = snprintf(raw, sizeof(raw), POST "Content-Length: %s\r\n\r\nhello", values[i]);

        expect(&defaults, raw, (size_t)len, "400\n");
    }
}

Test(http1, two_content_lengths_are_refused_even_if_equal)
{
    static const struct row rows[] = {
        {RAW(POST "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello"), "400\n"},
        {RAW(POST "Content-Length: 5\r\ncontent-length: 6\r\n\r\nhello"), "400\n"},
        {RAW("POST / HTTP/1.0\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n"), "400\n"},
    };

    EXPECT_ROWS(rows);
}

#define CODED POST "Transfer-Encoding: chunked\r\n\r\n"

Test(http1, a_transfer_encoding_is_chunked_or_refused)
{
    static const struct {
        const char *fields;
        const char *expected;
    } rows[] = {
        {"Transfer-Encoding: chunked\r\n", POSTED ": x\n"},
        {"transfer-encoding:   ChunkeD  \r\n", POSTED ": x\n"},
        {"Transfer-Encoding: chunked\r\nContent-Length: 6\r\n", "400\n"},
        {"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n", "400\n"},
        {"Content-Length: 6\r\nTransfer-Encoding: identity\r\n", "400\n"},
        {"Content-Length: 6\r\nTransfer-Encoding:\r\n", "400\n"},
        {"Transfer-Encoding:\r\n", "400\n"},
        {"Transfer-Encoding: \r\nTransfer-Encoding: chunked\r\n", "400\n"},
        {"Transfer-Encoding: chunked\r\nTransfer-Encoding:\r\n", "400\n"},
        {"Transfer-Encoding: ,chunked\r\n", "400\n"},
        {"Transfer-Encoding: chunked,\r\n", "400\n"},
        {"Transfer-Encoding: identity\r\n", "400\n"},
        {"Transfer-Encoding: identity, chunked\r\n", "400\n"},
        {"Transfer-Encoding: chunked, identity\r\n", "400\n"},
        {"Transfer-Encoding: chunked, chunked\r\n", "400\n"},
        {"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "400\n"},
        {"Transfer-Encoding: chunked, gzip\r\n", "400\n"},
        {"Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n", "400\n"},
        {"Transfer-Encoding: chunked, pigeons\r\n", "400\n"},
        {"Transfer-Encoding: chunked\r\nTransfer-Encoding: pigeons\r\n", "400\n"},
        {"Transfer-Encoding: chunked\r\nA: b\r\nTransfer-Encoding: pigeons\r\n", "400\n"},
        {"Transfer-Encoding: pigeons, chunked, pigeons\r\n", "400\n"},
        {"Transfer-Encoding: gzip\r\n", "400\n"},
        {"Transfer-Encoding: X-Compress\r\n", "400\n"},
        {"Transfer-Encoding: pigeons, deflate\r\n", "400\n"},
        {"Transfer-Encoding: chunked;q=1\r\n", "400\n"},
        {"Transfer-Encoding: gzip;q=\"chunked\"\r\n", "400\n"},
        {"Transfer-Encoding: \"chunked\"\r\n", "400\n"},
        {"Transfer-Encoding: gzip chunked\r\n", "400\n"},
        {"Transfer-Encoding:\tchunked\r\n", "400\n"},
        {"Transfer-Encoding:  \tchunked\r\n", "400\n"},
        {"Transfer-Encoding: chunked\t\r\n", "400\n"},
        {"Transfer-Encoding: deflate,\tchunked\r\n", "400\n"},
        {"Transfer-Encoding: \vchunked\r\n", "400\n"},
        {"Transfer-Encoding: chunked\v\r\n", "400\n"},
        {"Transfer-Encoding: xchunked\r\n", "501\n"},
        {"Transfer-Encoding: chunkedchunked\r\n", "501\n"},
        {"Transfer-Encoding: pigeons\r\n", "501\n"},
        {"Transfer-Encoding: deflate, chunked\r\n", "501\n"},
        {"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", "501\n"},
        {"Transfer-Encoding: gzip, pigeons\r\n", "501\n"},
    };
    char raw[200];

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        int len = snprintf(raw, sizeof(raw), POST "%s\r\n1\r\nx\r\n0\r\n\r\n", rows[i].fields);

        expect(&defaults, raw, (size_t)len, rows[i].expected);
    }
    expect(&defaults, RAW("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
           "400\n");
}

/* SPEC.md 2.6 */

Test(http1, chunks_become_one_body)
{
    static const struct row rows[] = {
        {RAW(CODED "5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n" GET "\r\n"),
         POSTED ": hello world\n" GOT},
        {RAW(CODED "A\r\n0123456789\r\na\r\n0123456789\r\n000\r\n\r\n"),
         POSTED ": 01234567890123456789\n"},
        {RAW(CODED "2;a;b=c;d=\"e;\\\"f\"\r\n\r\n\r\n0;z\r\n\r\n"), POSTED ": \r\n\n"},
        {RAW(CODED "1\r\nx\r\n0\r\nVary: *\r\nConnection: close\r\nUpgrade: y\r\n\r\n" GET "\r\n"),
         POSTED ": x\n" GOT},
        {RAW(CODED "0\r\n\r\n" GET "\r\n"), POSTED "\n" GOT},
        {RAW(CODED "1\r\nx\r\n0\r\n"), "head\n"},
    };

    EXPECT_ROWS(rows);
}

Test(http1, malformed_chunks_are_refused)
{
    static const struct row rows[] = {
        {RAW(CODED "\r\n"), "head\n400\n"},
        {RAW(CODED "+1\r\nx\r\n"), "head\n400\n"},
        {RAW(CODED "-1\r\nx\r\n"), "head\n400\n"},
        {RAW(CODED "0x1\r\nx\r\n"), "head\n400\n"},
        {RAW(CODED "1_0\r\nx\r\n"), "head\n400\n"},
        {RAW(CODED "1.0\r\nx\r\n"), "head\n400\n"},
        {RAW(CODED " 1\r\nx\r\n"), "head\n400\n"},
        {RAW(CODED "1 \r\nx\r\n"), "head\n400\n"},
        {RAW(CODED "1\t\r\nx\r\n"), "head\n400\n"},
        {RAW(CODED "1 x\r\nx\r\n"), "head\n400\n"},
        {RAW(CODED "g\r\nx\r\n"), "head\n400\n"},
        {RAW(CODED "10000000000000000\r\nx"), "head\n400\n"},
        {RAW(CODED "1\nx\r\n"), "head\n400\n"},
        {RAW(CODED "1\rx\r\n"), "head\n400\n"},
        {RAW(CODED "1\r\r;x\r\n"), "head\n400\n"},
        {RAW(CODED "1\r\nxy\r\n"), "head\n400\n"},
        {RAW(CODED "1\r\nx\n0\r\n\r\n"), "head\n400\n"},
        {RAW(CODED "1\r\nx\r0\r\n\r\n"), "head\n400\n"},
        {RAW(CODED "1\r\nx0\r\n\r\n"), "head\n400\n"},
        {RAW(CODED "1;\r\nx\r\n"), "head\n400\n"},
        {RAW(CODED "1; a\r\nx\r\n"), "head\n400\n"},
        {RAW(CODED "1;a\nx\r\n"), "head\n400\n"},
        {RAW(CODED "1;a=\nx\r\n"), "head\n400\n"},
        {RAW(CODED "1;a=b\nx\r\n"), "head\n400\n"},
        {RAW(CODED "1;a=\"b\nc\"\r\nx\r\n"), "head\n400\n"},
        {RAW(CODED "1;a=\"b\"\nx\r\n"), "head\n400\n"},
        {RAW(CODED "1;a=\"b\r\nx\r\n"), "head\n400\n"},
        {RAW(CODED "1;a\0b\r\nx\r\n"), "head\n400\n"},
        {RAW(CODED "0\n\r\n"), "head\n400\n"},
        {RAW(CODED "0\r\n\n"), "head\n400\n"},
        {RAW(CODED "0\r\n\rx"), "head\n400\n"},
        {RAW(CODED "0\r\na b\r\n\r\n"), "head\n400\n"},
        {RAW(CODED "0\r\na : b\r\n\r\n"), "head\n400\n"},
        {RAW(CODED "0\r\na: b\nc: d\r\n\r\n"), "head\n400\n"},
        {RAW(CODED "0\r\na: b\r\n c\r\n\r\n"), "head\n400\n"},
        {RAW(CODED "0\r\na: \x01\r\n\r\n"), "head\n400\n"},
        {RAW(CODED "0\r\nContent-Length: 5\r\n\r\n"), "head\n400\n"},
        {RAW(CODED "0\r\nTransfer-Encoding: gzip\r\n\r\n"), "head\n400\n"},
    };

    EXPECT_ROWS(rows);
}

/* `head`, then `count` bytes, then `tail`. */
static void expect_run(const struct kn_limits *limits, const char *head, char byte, size_t count,
                       const char *tail, const char *expected)
{
    size_t head_len = strlen(head);
    size_t tail_len = strlen(tail);
    size_t len = head_len + count + tail_len;
    char *raw = malloc(len + 1);

    memcpy(raw, head, head_len);
    memset(raw + head_len, byte, count);
    memcpy(raw + head_len + count, tail, tail_len + 1);
    expect_played(limits, raw, len, expected, len, len);
    expect_played(limits, raw, len, expected, 1, 1);
    expect_played(limits, raw, len, expected, head_len, len);
    expect_played(limits, raw, len, expected, len - tail_len, len);
    free(raw);
}

Test(http1, the_line_of_a_chunk_has_1024_bytes)
{
    expect_run(&defaults, CODED "1;", 'a', 1020, "\r\nx\r\n0\r\n\r\n", POSTED ": x\n");
    expect_run(&defaults, CODED "1;", 'a', 1021, "\r\nx\r\n0\r\n\r\n", "head\n400\n");
    expect_run(&defaults, CODED, '0', 1021, "1\r\nx\r\n0\r\n\r\n", POSTED ": x\n");
    expect_run(&defaults, CODED, '0', 1022, "1\r\nx\r\n0\r\n\r\n", "head\n400\n");
    expect_run(&defaults, CODED "1\r\nx\r\n1;a=\"", 'b', 1016, "\"\r\ny\r\n0\r\n\r\n",
               POSTED ": xy\n");
    expect_run(&defaults, CODED "1\r\nx\r\n1;a=\"", 'b', 1017, "\"\r\ny\r\n0\r\n\r\n",
               "head\n400\n");
}

Test(http1, the_trailer_section_has_1024_bytes)
{
    expect_run(&defaults, CODED "0\r\na:", 'b', 1018, "\r\n\r\n", POSTED "\n");
    expect_run(&defaults, CODED "0\r\na:", 'b', 1019, "\r\n\r\n", "head\n400\n");
    expect_run(&defaults, CODED "0\r\na:", ' ', 1017, "b\r\n\r\n", POSTED "\n");
    expect_run(&defaults, CODED "0\r\na:", ' ', 1018, "b\r\n\r\n", "head\n400\n");
}

Test(http1, a_quarter_of_a_million_one_byte_chunks_cost_no_more_than_linear_time)
{
    static const char chunk[] = "1\r\nx\r\n";
    enum { CHUNKS = 250000, PARTS = 5, READ = 4096 };
    const size_t head_len = strlen(CODED);
    const size_t len = head_len + CHUNKS * (sizeof(chunk) - 1);
    struct player player = {0};
    char *raw = malloc(len);
    clock_t first = 0;
    clock_t last = 0;

    memcpy(raw, CODED, head_len);
    for (size_t i = 0; i < CHUNKS; i++)
        memcpy(raw + head_len + i * (sizeof(chunk) - 1), chunk, sizeof(chunk) - 1);
    kn_http1_init(&player.http1, &defaults);
    kn_http1_begin(&player.http1, &player.head, &player.body, &player.trailers);
    for (size_t part = 0; part < PARTS; part++) {
        size_t end = len / PARTS * (part + 1);
        clock_t began = clock();

        for (size_t at = len / PARTS * part; at < end; at += READ)
            cr_assert(play_piece(&player, raw + at, end - at < READ ? end - at : READ));
        last = clock() - began;
        if (part == 0)
            first = last;
    }
    cr_assert(play_piece(&player, raw + len / PARTS * PARTS, len % PARTS));
    cr_assert_eq(player.body.len, CHUNKS);
    cr_assert_leq(player.body.cap, 2 * CHUNKS + 512);
    /* If the cost of a chunk grew with those before it, the last fifth would take nine times as
     * long as the first; a busy machine does not get this far. */
    cr_assert_lt(last, 4 * first + CLOCKS_PER_SEC / 50);
    free(raw);
    kn_head_deinit(&player.head);
    kn_buf_deinit(&player.body);
    kn_head_deinit(&player.trailers);
    kn_buf_deinit(&player.log);
}

/* SPEC.md 2.7 */

Test(http1, a_connection_goes_on_as_version_and_fields_say)
{
    static const struct {
        const char *fields;
        bool goes_on[2]; /* of HTTP/1.0, of HTTP/1.1 */
    } rows[] = {
        {"", {false, true}},
        {"Connection: keep-alive\r\n", {true, true}},
        {"Connection: close\r\n", {false, false}},
        {"connection: ,, Close \t,\r\n", {false, false}},
        {"Connection: keep-alive, close\r\n", {false, false}},
        {"Connection: close, keep-alive\r\n", {false, false}},
        {"Connection: close\r\nConnection: keep-alive\r\n", {false, false}},
        {"Connection: a, upgrade, keep-alive, b\r\n", {true, true}},
        {"Connection: closed\r\n", {false, true}},
        {"Connection: clos\r\n", {false, true}},
        {"Keep-Alive: 300\r\n", {false, true}},
        {"Proxy-Connection: keep-alive\r\n", {false, true}},
        {"Proxy-Connection: close\r\n", {false, true}},
    };
    char raw[200];
    char expected[100];

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        for (int minor = 0; minor < 2; minor++) {
            int len = snprintf(raw, sizeof(raw), "GET / HTTP/1.%d\r\n" HOST "%s\r\n", minor,
                               rows[i].fields);

            snprintf(expected, sizeof(expected), "GET / at a, 1.%d, %s\n", minor,
                     rows[i].goes_on[minor] ? "goes on" : "closes");
            expect(&defaults, raw, (size_t)len, expected);
        }
    }
}

Test(http1, an_upgrade_is_ignored)
{
    static const struct row rows[] = {
        {RAW(GET "Connection: upgrade\r\nUpgrade: websocket\r\n\r\n" GET "\r\n"), GOT GOT},
        {RAW(POST "Connection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nhi" GET "\r\n"),
         POSTED ": hi\n" GOT},
        {RAW(POST "Connection: upgrade\r\nUpgrade: h2c\r\nTransfer-Encoding: chunked\r\n\r\n"
                  "2\r\nhi\r\n0\r\n\r\n" GET "\r\n"),
         POSTED ": hi\n" GOT},
    };

    EXPECT_ROWS(rows);
}

/* SPEC.md 2.8 */

Test(http1, an_expectation_is_met_ignored_or_refused)
{
    static const struct row rows[] = {
        {RAW(POST "Expect: 100-continue\r\nContent-Length: 1\r\n\r\nx"),
         "head, awaits 100\nPOST / at a, 1.1, goes on: x\n"},
        {RAW(POST "expect: 100-Continue\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
         "head, awaits 100\nPOST / at a, 1.1, goes on\n"},
        {RAW(GET "Expect: 100-continue\r\n\r\n"), GOT},
        {RAW(GET "Expect:\r\n\r\n"), GOT},
        {RAW("POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx"),
         "head\nPOST /, 1.0, closes: x\n"},
        {RAW(GET "Expect: 200-ok\r\n\r\n"), "417\n"},
        {RAW(GET "Expect: 100-continue, more\r\n\r\n"), "417\n"},
        {RAW(GET "Expect: 100-continue;q=1\r\n\r\n"), "417\n"},
        {RAW("GET / HTTP/1.0\r\nExpect: more\r\n\r\n"), "417\n"},
        {RAW(POST "Expect: 100-continue\r\nContent-Length: 99999999999\r\n\r\n"), "413\n"},
    };

    EXPECT_ROWS(rows);
}

Test(http1, an_expectation_ends_with_its_request)
{
    expect(&defaults,
           RAW(POST "Expect: 100-continue\r\nContent-Length: 1\r\n\r\nx" POST
                    "Content-Length: 1\r\n\r\ny"),
           "head, awaits 100\nPOST / at a, 1.1, goes on: x\n" POSTED ": y\n");
}

/* SPEC.md 2.9 */

Test(http1, the_head_is_bounded)
{
    struct kn_limits limits = defaults;

    limits.max_head_bytes = 100;
    expect_run(&limits, "GET / HTTP/1.0\r\na:", 'b', 100 - 22, "\r\n\r\n", "GET /, 1.0, closes\n");
    expect_run(&limits, "GET / HTTP/1.0\r\na:", 'b', 100 - 21, "\r\n\r\n", "431\n");
    expect_run(&limits, "GET / HTTP/1.0\r\na:", ' ', 100 - 21, "\r\n\r\n", "431\n");
    expect_run(&limits, "GET", ' ', 100 - 3, "", "431\n");
}

Test(http1, neither_body_nor_empty_lines_nor_earlier_requests_count_as_head)
{
    static const char pair[] = "\r\nPOST / HTTP/1.1\r\n" HOST "Content-Length: 60\r\n\r\n"
                               "123456789 123456789 123456789 123456789 123456789 123456789 "
                               "\r\n" GET "\r\n";
    struct kn_limits limits = defaults;

    limits.max_head_bytes = strlen("POST / HTTP/1.1\r\n" HOST "Content-Length: 60\r\n\r\n");
    expect(&limits, pair, sizeof(pair) - 1,
           POSTED ": 123456789 123456789 123456789 123456789 123456789 123456789 \n" GOT);
    limits.max_head_bytes--;
    expect(&limits, pair, sizeof(pair) - 1, "431\n");
}

Test(http1, the_number_of_fields_is_bounded)
{
    struct kn_limits limits = defaults;

    limits.max_fields = 3;
    expect(&limits, RAW(GET "a: b\r\nc: d\r\n\r\n"), GOT);
    expect(&limits, RAW(GET "a: b\r\nc: d\r\ne: f\r\n\r\n"), "431\n");
}

Test(http1, a_field_is_bounded)
{
    struct kn_limits limits = defaults;

    limits.max_field_bytes = 10;
    expect_run(&limits, "GET / HTTP/1.0\r\nab:  ", 'c', 8, "\r\n\r\n", "GET /, 1.0, closes\n");
    expect_run(&limits, "GET / HTTP/1.0\r\nab:  ", 'c', 9, "\r\n\r\n", "431\n");
    expect_run(&limits, "GET / HTTP/1.0\r\n", 'a', 10, ":\r\nb: c\r\n\r\n", "GET /, 1.0, closes\n");
    expect_run(&limits, "GET / HTTP/1.0\r\n", 'a', 11, ":\r\n\r\n", "431\n");
}

Test(http1, the_target_is_bounded)
{
    struct kn_limits limits = defaults;

    limits.max_target_bytes = 10;
    expect(&limits, RAW("GET /345678#90 HTTP/1.0\r\n\r\n"), "GET /345678, 1.0, closes\n");
    expect(&limits, RAW("GET /345678#901 HTTP/1.0\r\n\r\n"), "414\n");
    limits.max_head_bytes = 20;
    expect_run(&limits, "GET /", 'a', 200, "", "414\n");
}

Test(http1, the_body_is_bounded)
{
    struct kn_limits limits = defaults;

    limits.max_body_bytes = 10;
    expect(&limits, RAW(POST "Content-Length: 10\r\n\r\n0123456789"), POSTED ": 0123456789\n");
    expect(&limits, RAW(POST "Content-Length: 11\r\n\r\n"), "413\n");
    expect(&limits, RAW(POST "Content-Length: 18446744073709551615\r\n\r\n"), "413\n");
    expect(&limits, RAW(CODED "a\r\n0123456789\r\n0\r\n\r\n"), POSTED ": 0123456789\n");
    expect(&limits, RAW(CODED "5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n"), POSTED ": 0123456789\n");
    expect(&limits, RAW(CODED "b\r\n"), "head\n413\n");
    expect(&limits, RAW(CODED "5\r\n01234\r\n6\r\n"), "head\n413\n");
    expect(&limits, RAW(CODED "5\r\n01234\r\nffffffffffffffff\r\n"), "head\n413\n");
}

Test(http1, bounds_can_be_off)
{
    static const struct kn_limits none = {SIZE_MAX,   SIZE_MAX, SIZE_MAX, SIZE_MAX,
                                          UINT64_MAX, SIZE_MAX, SIZE_MAX};

    expect(&none, RAW(GET "a: b\r\n\r\n" CODED "1\r\nx\r\n0\r\n\r\nPUMA /"),
           GOT POSTED ": x\n501\n");
    expect(&none, RAW(POST "Content-Length: 18446744073709551614\r\n\r\nx"), "head\n");
    expect(&none, RAW(POST "Content-Length: 18446744073709551615\r\n\r\nx"), "413\n");
}

/* SPEC.md 1.2 */

static uint32_t random_below(uint32_t *state, size_t bound)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state % (uint32_t)bound;
}

Test(http1, no_split_of_mangled_input_changes_what_happens)
{
    enum { ROUNDS = 20000, CHANGES = 2 };
    static const char letters[] = "\r\n\t :;,=\"0159afAZ/*?#@%[]\0\x7f\x80-";
    static const char input[] = POST
        "Content-Length: 3\r\nExpect: 100-continue\r\n\r\nabc"
        "\r\nOPTIONS * HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
        "PUT http://u@[::1]:80/a?b#c HTTP/1.1\r\nhost: x.y:1\r\nTransfer-Encoding: chunked\r\n"
        "Connection: upgrade\r\nUpgrade: z\r\n\r\n3;a=\"b\"\r\nxyz\r\n0\r\nt: u\r\n\r\n" GET "\r\n";
    uint32_t state = 2463534242;
    char raw[sizeof(input)];

    for (int round = 0; round < ROUNDS; round++) {
        size_t start = round % 2 ? 0 : (size_t)(strstr(input, "\r\nOPT") - input);
        size_t len = sizeof(input) - 1 - start;
        char *whole;

        memcpy(raw, input + start, len);
        for (uint32_t i = random_below(&state, CHANGES); i < CHANGES; i++)
            raw[random_below(&state, len)] = letters[random_below(&state, sizeof(letters) - 1)];
        whole = play(&defaults, raw, len, len, len);
        expect_played(&defaults, raw, len, whole, 1, 1);
        expect_played(&defaults, raw, len, whole, 1 + random_below(&state, len),
                      1 + random_below(&state, 9));
        free(whole);
    }
}

/* What the exchange of a connection relies on. */

Test(http1, warm_memory_is_used_again_and_excess_is_given_back)
{
    static const char small[] = POST "a: b\r\nContent-Length: 3\r\n\r\nabc";
    struct player player = {0};
    const char *text;
    const char *body;
    const struct kino_field *fields;
    size_t len = 40000;
    char *large = malloc(len);
    int head_len = snprintf(large, len, POST "Content-Length: 30000\r\na: ");

    memset(large + head_len, 'x', len - (size_t)head_len);
    memcpy(large + 9000, "\r\n\r\n", 4);
    kn_http1_init(&player.http1, &defaults);
    kn_http1_begin(&player.http1, &player.head, &player.body, &player.trailers);
    cr_assert(play_piece(&player, small, sizeof(small) - 1));
    text = player.head.text.data;
    body = player.body.data;
    fields = player.head.fields;
    cr_assert(play_piece(&player, small, sizeof(small) - 1));
    cr_assert_eq(player.head.text.data, text);
    cr_assert_eq(player.body.data, body);
    cr_assert_eq(player.head.fields, fields);

    cr_assert(play_piece(&player, large, 9004 + 30000));
    cr_assert_leq(player.head.text.cap, 16384);
    cr_assert_eq(player.body.cap, 0);
    cr_assert_eq(strncmp(player.log.data + player.log.len - 2, "x\n", 2), 0);

    free(large);
    kn_head_deinit(&player.head);
    kn_buf_deinit(&player.body);
    kn_head_deinit(&player.trailers);
    kn_buf_deinit(&player.log);
}
