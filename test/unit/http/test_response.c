/* SPDX-License-Identifier: MIT */
#include "http/response.h"

#include "support/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum {
    DATE_LEN = 29,
    FIELDS_MAX = 4,
};

static struct kino_slice slice(const char *text)
{
    return text ? (struct kino_slice){text, strlen(text)} : (struct kino_slice){0};
}

struct field {
    const char *name;
    const char *value;
};

struct answer {
    uint64_t status;
    struct field fields[FIELDS_MAX];
    const char *body;
    bool is_head;
    bool closes;
    bool is_1_0;
};

static struct kn_signature *our_signature(void)
{
    static struct kn_signature *signature;

    if (!signature)
        cr_assert_eq(kn_signature_create((struct kino_slice){0}, &signature), 0);
    return signature;
}

static int write_response(struct kn_chain *out, const struct kino_response *response,
                          struct kn_framing *framing)
{
    struct kn_payload payload;
    int rc = kn_payload_of_response(response, &payload);

    return rc < 0 ? rc : kn_response_write(out, response, &payload, framing);
}

static int respond(struct kn_chain *out, const struct answer *answer, struct kn_framing *framing)
{
    struct kino_field fields[FIELDS_MAX] = {0};
    struct kino_response response = {
        .size = sizeof(response),
        .status = answer->status,
        .fields = fields,
        .body = slice(answer->body),
    };

    for (size_t i = 0; i < FIELDS_MAX && answer->fields[i].name; i++) {
        fields[i].name = slice(answer->fields[i].name);
        fields[i].value = slice(answer->fields[i].value);
        response.field_count++;
    }
    *framing = (struct kn_framing){
        .version = answer->is_1_0 ? KINO_HTTP_1_0 : KINO_HTTP_1_1,
        .is_head = answer->is_head,
        .keep_alive = !answer->closes,
        .signature = our_signature(),
    };
    return write_response(out, &response, framing);
}

/* The date is not ours to know: it is blotted out, once a test has shown that it is right. */
static void blot_date(char *text)
{
    char *date = strstr(text, "\r\ndate: ");

    cr_assert_not_null(date, "no date in '%s'", text);
    date += strlen("\r\ndate: ");
    cr_assert_eq(strspn(date + DATE_LEN, "\r"), 1);
    memmove(date + 1, date + DATE_LEN, strlen(date + DATE_LEN) + 1);
    *date = 'D';
}

static char *text_of(const struct kn_chain *out)
{
    const struct kn_buf *bytes = &out->first;
    char *text = malloc(bytes->len + 1);

    cr_assert_null(out->head);
    memcpy(text, bytes->data, bytes->len);
    text[bytes->len] = '\0';
    return text;
}

#define DATE "date: D\r\n"
#define OURS DATE "server: kino\r\n"

/* `goes_on`: of the connection, after it. */
static void expect(const struct answer *answer, const char *expected, bool goes_on)
{
    struct kn_chain out = {0};
    struct kn_framing framing;
    char *text;

    cr_assert_eq(respond(&out, answer, &framing), 0, "for '%s'", expected);
    text = text_of(&out);
    if (strstr(expected, DATE))
        blot_date(text);
    cr_assert_str_eq(text, expected, "got '%s' instead of '%s'", text, expected);
    cr_assert_eq(framing.keep_alive, goes_on, "after '%s'", expected);
    free(text);
    kn_chain_reset(&out, 0);
}

/* SPEC.md 3.1 */

Test(response, a_status_line_has_the_registered_reason)
{
    static const struct {
        uint64_t status;
        const char *line;
    } rows[] = {
        {200, "HTTP/1.1 200 OK\r\n"},
        {201, "HTTP/1.1 201 Created\r\n"},
        {301, "HTTP/1.1 301 Moved Permanently\r\n"},
        {404, "HTTP/1.1 404 Not Found\r\n"},
        {413, "HTTP/1.1 413 Content Too Large\r\n"},
        {500, "HTTP/1.1 500 Internal Server Error\r\n"},
        {511, "HTTP/1.1 511 Network Authentication Required\r\n"},
        {209, "HTTP/1.1 209 \r\n"},
        {306, "HTTP/1.1 306 \r\n"},
        {418, "HTTP/1.1 418 \r\n"},
        {512, "HTTP/1.1 512 \r\n"},
        {999, "HTTP/1.1 999 \r\n"},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char expected[200];

        snprintf(expected, sizeof(expected), "%s" OURS "content-length: 0\r\n\r\n", rows[i].line);
        expect(&(struct answer){.status = rows[i].status}, expected, true);
    }
}

Test(response, every_status_line_begins_with_its_own_status)
{
    struct kn_chain out = {0};

    for (uint64_t status = 200; status <= 999; status++) {
        struct kn_framing framing;
        char begin[20];

        out.first.len = 0;
        cr_assert_eq(respond(&out, &(struct answer){.status = status}, &framing), 0);
        snprintf(begin, sizeof(begin), "HTTP/1.1 %d ", (int)status);
        cr_assert_arr_eq(out.first.data, begin, strlen(begin), "%d", (int)status);
        cr_assert_arr_eq((const char *)memchr(out.first.data, '\r', out.first.len), "\r\n", 2);
    }
    kn_chain_reset(&out, 0);
}

/* SPEC.md 3.2 */

Test(response, fields_keep_their_order_and_spelling)
{
    expect(
        &(struct answer){
            .status = 200,
            .fields = {{"Content-Type", "text/plain"}, {"X-A", ""}, {"x-a", " \xc3\xa9\t "}},
            .body = "hello"},
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-A: \r\nx-a:  \xc3\xa9\t \r\n" OURS
        "content-length: 5\r\n\r\nhello",
        true);
}

Test(response, a_date_and_server_of_the_program_replace_ours)
{
    expect(&(struct answer){.status = 200, .fields = {{"Date", "today"}, {"SERVER", "x"}}},
           "HTTP/1.1 200 OK\r\nDate: today\r\nSERVER: x\r\ncontent-length: 0\r\n\r\n", true);
    expect(&(struct answer){.status = 200, .fields = {{"server", ""}}},
           "HTTP/1.1 200 OK\r\nserver: \r\n" DATE "content-length: 0\r\n\r\n", true);
    expect(&(struct answer){.status = 200, .fields = {{"date", "x"}}},
           "HTTP/1.1 200 OK\r\ndate: x\r\nserver: kino\r\ncontent-length: 0\r\n\r\n", true);
}

Test(response, hop_by_hop_fields_are_dropped)
{
    static const char *const names[] = {
        "transfer-encoding", "Transfer-Encoding", "keep-alive", "upgrade",
        "TRAILER",           "proxy-connection",  "connection",
    };

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        expect(&(struct answer){.status = 200, .fields = {{names[i], "chunked"}, {"a", "b"}}},
               "HTTP/1.1 200 OK\r\na: b\r\n" OURS "content-length: 0\r\n\r\n", true);
}

Test(response, fields_that_only_look_hop_by_hop_are_not_dropped)
{
    static const char *const names[] = {
        "transfer_encoding", "keep-alives", "upgrades", "trailes",
        "proxy-connectiom",  "connectiom",  "te",       "content-lengths",
    };

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char expected[200];

        snprintf(expected, sizeof(expected),
                 "HTTP/1.1 200 OK\r\n%s: close\r\n" OURS "content-length: 0\r\n\r\n", names[i]);
        expect(&(struct answer){.status = 200, .fields = {{names[i], "close"}}}, expected, true);
    }
}

Test(response, the_date_is_now_and_in_its_format)
{
    struct kn_chain out = {0};
    bool found = false;

    time_t before = time(NULL);
    struct kn_framing framing;
    char *text;

    cr_assert_eq(respond(&out, &(struct answer){.status = 200}, &framing), 0);
    text = text_of(&out);
    /* The coarse clock may be a tick behind. */
    for (time_t second = before - 1; second <= time(NULL); second++) {
        char expected[60];
        struct tm tm;

        gmtime_r(&second, &tm);
        strftime(expected, sizeof(expected), "\r\ndate: %a, %d %b %Y %H:%M:%S GMT\r\n", &tm);
        found |= strstr(text, expected) != NULL;
    }
    cr_assert(found, "not the date: '%s'", text);
    free(text);
    kn_chain_reset(&out, 0);
}

/* What SPEC.md 3.2 and 3.3 call an error of the program. */
Test(response, what_cannot_be_sent_is_refused_and_leaves_nothing)
{
    static const struct answer rows[] = {
        {.status = 0},
        {.status = 100},
        {.status = 199},
        {.status = 1000},
        {.status = UINT64_MAX},
        {.status = 200, .fields = {{"", "a"}}},
        {.status = 200, .fields = {{"a b", "c"}}},
        {.status = 200, .fields = {{"a:", "c"}}},
        {.status = 200, .fields = {{"a\r\nb", "c"}}},
        {.status = 200, .fields = {{"a\n", "c"}}},
        {.status = 200, .fields = {{"\xc3\xa9", "c"}}},
        {.status = 200, .fields = {{"a", "b\r\nc: d"}}},
        {.status = 200, .fields = {{"a", "b\rc"}}},
        {.status = 200, .fields = {{"a", "b\nc"}}},
        {.status = 200, .fields = {{"a", "\x01"}}},
        {.status = 200, .fields = {{"a", "\x1f"}}},
        {.status = 200, .fields = {{"a", "\x7f"}}},
        {.status = 200, .fields = {{"a", "0123456789abcdef\n0123456789abcdef"}}},
        {.status = 200,
         .fields = {{"a", "01\t3456789abcdef0123\x7f"
                          "56789abcdef"}}},
        {.status = 200, .fields = {{"a", "b"}, {"c", "d"}, {"connection", "close\n"}}},
        {.status = 200, .fields = {{"transfer-encoding", "\n"}}},
        {.status = 200, .fields = {{"content-length", ""}}},
        {.status = 200, .fields = {{"content-length", "a"}}},
        {.status = 200, .fields = {{"content-length", "5a"}}},
        {.status = 200, .fields = {{"content-length", "+5"}}},
        {.status = 200, .fields = {{"content-length", "-5"}}},
        {.status = 200, .fields = {{"content-length", " 5"}}},
        {.status = 200, .fields = {{"content-length", "5 "}}},
        {.status = 200, .fields = {{"content-length", "5, 5"}}},
        {.status = 200, .fields = {{"content-length", "18446744073709551616"}}},
        {.status = 200, .fields = {{"content-length", "99999999999999999999"}}},
        {.status = 200, .fields = {{"content-length", "1"}, {"Content-Length", "1"}}},
        {.status = 204, .fields = {{"content-length", "x"}}},
    };
    struct kn_chain out = {0};

    cr_assert_eq(kn_chain_append(&out, "before", 6), 0);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct kn_framing framing;

        cr_assert_eq(respond(&out, &rows[i], &framing), KINO_INVALID, "row %zu", i);
        cr_assert_eq(out.first.len, 6, "row %zu", i);
        cr_assert_arr_eq(out.first.data, "before", 6);
        cr_assert_eq(framing.keep_alive, true, "row %zu", i);
    }
    kn_chain_reset(&out, 0);
}

Test(response, every_control_character_but_tab_is_refused_wherever_it_stands)
{
    enum { LONGEST = 20 };
    struct kn_chain out = {0};
    char value[LONGEST + 1];

    for (size_t len = 1; len <= LONGEST; len++) {
        for (size_t at = 0; at < len; at++) {
            for (int byte = 0; byte < 256; byte++) {
                struct kino_field field = {.name = {"a", 1}, .value = {value, len}};
                struct kino_response response = {
                    .size = sizeof(response), .status = 200, .fields = &field, .field_count = 1};
                struct kn_framing framing = {.version = KINO_HTTP_1_1, .keep_alive = true};
                bool is_control = (byte < 0x20 && byte != '\t') || byte == 0x7f;

                memset(value, at % 2 ? '\t' : 'x', len);
                value[at] = (char)byte;
                out.first.len = 0;
                cr_assert_eq(write_response(&out, &response, &framing),
                             is_control ? KINO_INVALID : 0, "0x%02x at %zu of %zu", byte, at, len);
            }
        }
    }
    kn_chain_reset(&out, 0);
}

Test(response, undefined_flags_are_refused)
{
    struct kn_chain out = {0};
    struct kn_framing framing = {.version = KINO_HTTP_1_1};
    struct kino_response response = {.size = sizeof(response), .status = 200, .flags = 1 << 3};

    cr_assert_eq(write_response(&out, &response, &framing), KINO_INVALID);
    cr_assert_eq(out.first.len, 0);
    kn_chain_reset(&out, 0);
}

Test(response, what_can_never_fit_is_out_of_memory)
{
    struct kn_chain out = {0};
    struct kn_framing framing = {.version = KINO_HTTP_1_1, .keep_alive = true};
    struct kino_field fields[2] = {{.name = {"a", 1}, .value = {"b", SIZE_MAX / 2}},
                                   {.name = {"a", 1}, .value = {"b", SIZE_MAX / 2}}};
    struct kino_response response = {
        .size = sizeof(response), .status = 200, .fields = fields, .field_count = 2};

    cr_assert_eq(write_response(&out, &response, &framing), -ENOMEM);
    response.field_count = 0;
    response.body = (struct kino_slice){"a", SIZE_MAX - 1};
    cr_assert_eq(write_response(&out, &response, &framing), -ENOMEM);
    cr_assert_eq(out.first.len, 0);
    cr_assert(framing.keep_alive);
    kn_chain_reset(&out, 0);
}

/* SPEC.md 3.3 */

Test(response, content_length_and_body_follow_the_table)
{
    static const struct {
        struct answer answer;
        const char *length; /* NULL: none */
        const char *body;
        bool goes_on;
    } rows[] = {
        {{.status = 200, .body = "hello"}, "5", "hello", true},
        {{.status = 200, .body = ""}, "0", "", true},
        {{.status = 200}, "0", "", true},
        {{.status = 404, .body = "hello"}, "5", "hello", true},
        {{.status = 205, .body = NULL}, "0", "", true},
        {{.status = 200, .fields = {{"content-length", "5"}}, .body = "hello"}, "5", "hello", true},
        {{.status = 200, .fields = {{"Content-Length", "003"}}, .body = "hello"}, "3", "hel", true},
        {{.status = 200, .fields = {{"content-length", "0"}}, .body = "hello"}, "0", "", true},
        {{.status = 200, .fields = {{"content-length", "6"}}, .body = "hello"},
         "6",
         "hello",
         false},
        {{.status = 200, .fields = {{"content-length", "18446744073709551615"}}, .body = "hello"},
         "18446744073709551615",
         "hello",
         false},
        {{.status = 204, .body = "hello"}, NULL, "", true},
        {{.status = 204, .fields = {{"content-length", "9"}}, .body = "hello"}, NULL, "", true},
        {{.status = 304, .body = "hello"}, NULL, "", true},
        {{.status = 304, .fields = {{"content-length", "9"}}, .body = "hello"}, "9", "", true},
        {{.status = 200, .is_head = true}, NULL, "", true},
        {{.status = 200, .body = "hello", .is_head = true}, "5", "", true},
        {{.status = 200, .fields = {{"content-length", "9"}}, .is_head = true}, "9", "", true},
        {{.status = 200, .fields = {{"content-length", "2"}}, .body = "hello", .is_head = true},
         "2",
         "",
         true},
        {{.status = 204, .fields = {{"content-length", "9"}}, .is_head = true}, NULL, "", true},
        {{.status = 304, .body = "hello", .is_head = true}, NULL, "", true},
        {{.status = 304, .fields = {{"content-length", "9"}}, .is_head = true}, "9", "", true},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct kn_chain out = {0};
        struct kn_framing framing;
        char expected[100];
        char *text;

        cr_assert_eq(respond(&out, &rows[i].answer, &framing), 0);
        text = text_of(&out);
        snprintf(expected, sizeof(expected), "\r\nserver: kino\r\n%s%s%s%s\r\n%s",
                 rows[i].length ? "content-length: " : "", rows[i].length ? rows[i].length : "",
                 rows[i].length ? "\r\n" : "", rows[i].goes_on ? "" : "connection: close\r\n",
                 rows[i].body);
        cr_assert_not_null(strstr(text, "\r\nserver"));
        cr_assert_str_eq(strstr(text, "\r\nserver"), expected, "row %zu: '%s'", i, text);
        cr_assert_eq(framing.keep_alive, rows[i].goes_on, "row %zu", i);
        free(text);
        kn_chain_reset(&out, 0);
    }
}

/* SPEC.md 3.4 */

Test(response, a_connection_field_says_what_the_version_does_not)
{
    static const struct {
        struct answer answer;
        const char *line;
        bool goes_on;
    } rows[] = {
        {{.status = 200}, "", true},
        {{.status = 200, .closes = true}, "connection: close\r\n", false},
        {{.status = 200, .is_1_0 = true}, "connection: keep-alive\r\n", true},
        {{.status = 200, .is_1_0 = true, .closes = true}, "connection: close\r\n", false},
        {{.status = 200, .fields = {{"Connection", "close"}}}, "connection: close\r\n", false},
        {{.status = 200, .fields = {{"connection", "x, CLOSE ,y"}}},
         "connection: close\r\n",
         false},
        {{.status = 200, .fields = {{"connection", "x"}, {"connection", "close"}}},
         "connection: close\r\n",
         false},
        {{.status = 200, .fields = {{"connection", "close"}, {"connection", "x"}}},
         "connection: close\r\n",
         false},
        {{.status = 200, .fields = {{"connection", "closed"}}}, "", true},
        {{.status = 200, .fields = {{"connection", "keep-alive"}}, .closes = true},
         "connection: close\r\n",
         false},
        {{.status = 200, .fields = {{"connection", "close"}}, .is_1_0 = true},
         "connection: close\r\n",
         false},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char expected[200];

        snprintf(expected, sizeof(expected),
                 "HTTP/1.1 200 OK\r\n" OURS "content-length: 0\r\n%s\r\n", rows[i].line);
        expect(&rows[i].answer, expected, rows[i].goes_on);
    }
}

Test(response, answers_are_appended)
{
    struct kn_chain out = {0};
    struct kn_framing framing;
    size_t len;

    cr_assert_eq(kn_chain_append(&out, "before", 6), 0);
    cr_assert_eq(respond(&out, &(struct answer){.status = 200, .body = "a"}, &framing), 0);
    len = out.first.len - 6;
    cr_assert_eq(respond(&out, &(struct answer){.status = 200, .body = "b"}, &framing), 0);
    cr_assert_eq(out.first.len, 6 + 2 * len);
    cr_assert_arr_eq(out.first.data, "before", 6);
    cr_assert_arr_eq(out.first.data + 6, "HTTP/1.1", 8);
    cr_assert_eq(out.first.data[6 + len - 1], 'a');
    cr_assert_arr_eq(out.first.data + 6 + len, "HTTP/1.1", 8);
    cr_assert_eq(out.first.data[out.first.len - 1], 'b');
    kn_chain_reset(&out, 0);
}

Test(response, a_large_body_is_written_whole)
{
    enum { LARGE = 3000000 };
    struct kn_chain out = {0};
    struct kn_framing framing;
    char *body = malloc(LARGE + 1);

    for (size_t i = 0; i < LARGE; i++)
        body[i] = (char)('a' + i % 23);
    body[LARGE] = '\0';
    cr_assert_eq(respond(&out, &(struct answer){.status = 200, .body = body}, &framing), 0);
    cr_assert_arr_eq(out.first.data + out.first.len - LARGE, body, LARGE);
    cr_assert_arr_eq(out.first.data + out.first.len - LARGE - 4, "\r\n\r\n", 4);
    free(body);
    kn_chain_reset(&out, 0);
}

/* SPEC.md 3.5 */

static void expect_error(unsigned status, unsigned retry_after_s, struct kn_framing framing,
                         const char *expected)
{
    struct kn_chain out = {0};
    char *text;

    framing.signature = our_signature();
    cr_assert_eq(kn_response_write_error(&out, status, retry_after_s, &framing), 0);
    text = text_of(&out);
    blot_date(text);
    cr_assert_str_eq(text, expected, "got '%s' instead of '%s'", text, expected);
    free(text);
    kn_chain_reset(&out, 0);
}

#define PLAIN "content-type: text/plain; charset=utf-8\r\n"

Test(response, an_answer_of_the_library_says_what_it_is)
{
    expect_error(400, 0, (struct kn_framing){.version = KINO_HTTP_1_1},
                 "HTTP/1.1 400 Bad Request\r\n" PLAIN OURS
                 "content-length: 17\r\nconnection: close\r\n\r\n400 Bad Request\r\n");
    expect_error(503, 10, (struct kn_framing){.version = KINO_HTTP_1_1, .keep_alive = true},
                 "HTTP/1.1 503 Service Unavailable\r\n" PLAIN "retry-after: 10\r\n" OURS
                 "content-length: 25\r\n\r\n503 Service Unavailable\r\n");
    expect_error(
        500, 0, (struct kn_framing){.version = KINO_HTTP_1_0, .keep_alive = true},
        "HTTP/1.1 500 Internal Server Error\r\n" PLAIN OURS
        "content-length: 27\r\nconnection: keep-alive\r\n\r\n500 Internal Server Error\r\n");
    expect_error(500, 0, (struct kn_framing){.version = KINO_HTTP_1_1, .is_head = true},
                 "HTTP/1.1 500 Internal Server Error\r\n" PLAIN OURS
                 "content-length: 27\r\nconnection: close\r\n\r\n");
    expect_error(499, 0, (struct kn_framing){.version = KINO_HTTP_1_1},
                 "HTTP/1.1 499 \r\n" PLAIN OURS
                 "content-length: 7\r\nconnection: close\r\n\r\nError\r\n");
}
