/* SPDX-License-Identifier: MIT */
/* The access log of a server: SPEC.md 8. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/desk.h"

enum {
    CHILD_DEADLINE_S = 30,
};

static struct kino_access_log to_descriptor(int fd)
{
    return (struct kino_access_log){.size = sizeof(struct kino_access_log),
                                    .flags = KINO_ACCESS_DESCRIPTOR,
                                    .descriptor = (uint64_t)fd};
}

static struct kino_access_log to_path(const char *path)
{
    return (struct kino_access_log){.size = sizeof(struct kino_access_log),
                                    .path = {path, strlen(path)}};
}

/* Is it refused, with this result and a line that has this text? */
static void assert_refused(struct kino_access_log access, int result, const char *text)
{
    struct desk *desk = desk_create((struct kino_config){0}, 1);
    const int before = count_descriptors();

    cr_assert_eq(kino_server_log_access(desk->server, &access), result, "%s", text);
    cr_assert_eq(desk_count_lines(desk), 1, "%s", text);
    cr_assert(desk_has_logged(desk, text), "%s, not: %s", text, desk->lines[0]);
    cr_assert_eq(count_descriptors(), before);
    access = to_path("/dev/null");
    cr_assert_eq(kino_server_log_access(desk->server, &access), 0, "it may be tried again");
    cr_assert_eq(kino_server_destroy(desk->server), 0);
    desk_free(desk);
}

Test(access_log, a_value_out_of_its_range_is_refused)
{
    struct kino_access_log access;

    access = to_path("/dev/null");
    access.format = 5;
    assert_refused(access, KINO_INVALID, "there is no format 5");
    access = to_path("/dev/null");
    access.flags = 1 << 2 | KINO_ACCESS_COLOR;
    assert_refused(access, KINO_INVALID, "there are no flags 0x4");
    access = to_path("/dev/null");
    access.queue_bytes = 65535;
    assert_refused(access, KINO_INVALID, "queue_bytes is 65535: it must lie in 65536 ..");
    access.queue_bytes = KINO_OFF;
    assert_refused(access, KINO_INVALID, "queue_bytes is 18446744073709551615");
    access = to_path("/dev/null");
    access.flags = KINO_ACCESS_DESCRIPTOR;
    assert_refused(access, KINO_INVALID, "not both");
    access = (struct kino_access_log){.size = sizeof(access), .descriptor = 1};
    assert_refused(access, KINO_INVALID, "not neither");
}

Test(access_log, a_longer_struct_is_refused_unless_its_tail_is_zero)
{
    struct {
        struct kino_access_log known;
        uint64_t tail;
    } longer = {.known = to_path("/dev/null"), .tail = 1};
    struct kino_server *server;

    longer.known.size = sizeof(longer);
    cr_assert_eq(kino_server_create(NULL, &server), 0);
    cr_assert_eq(kino_server_log_access(server, &longer.known), KINO_INVALID);
    longer.tail = 0;
    cr_assert_eq(kino_server_log_access(server, &longer.known), 0);
    cr_assert_eq(kino_server_destroy(server), 0);
}

Test(access_log, what_cannot_be_written_to_is_refused_at_once)
{
    char fifo[] = "/tmp/kino-access-XXXXXX";
    int ends[2];
    char text[64];

    assert_refused(to_path("/tmp/no-such-directory/log"), -ENOENT,
                   "cannot open /tmp/no-such-directory/log: No such file or directory");
    assert_refused(to_path("/tmp"), -EISDIR, "cannot open /tmp: Is a directory");
    close(mkstemp(fifo));
    cr_assert_eq(unlink(fifo), 0);
    cr_assert_eq(mkfifo(fifo, 0600), 0);
    assert_refused(to_path(fifo), -ENXIO, fifo);
    unlink(fifo);
    cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
    snprintf(text, sizeof(text), "descriptor %d: it is open for reading only", ends[0]);
    assert_refused(to_descriptor(ends[0]), KINO_INVALID, text);
    close(ends[0]);
    close(ends[1]);
    snprintf(text, sizeof(text), "descriptor %d: Bad file descriptor", ends[1]);
    assert_refused(to_descriptor(ends[1]), -EBADF, text);
}

Test(access_log, there_is_one_and_it_comes_before_the_start)
{
    struct kino_access_log access = to_path("/dev/null");
    struct desk *desk = desk_create((struct kino_config){0}, 1);

    cr_assert_eq(desk_listen(desk, "127.0.0.1", 0), 0);
    cr_assert_eq(kino_server_log_access(desk->server, &access), 0);
    cr_assert_eq(kino_server_log_access(desk->server, &access), KINO_BUSY);
    desk_start(desk, desk_echo);
    cr_assert_eq(kino_server_log_access(desk->server, &access), KINO_BUSY);
    cr_assert_eq(desk_close(desk), 0);
    desk = desk_open((struct kino_config){0}, 1, desk_echo);
    cr_assert_eq(kino_server_log_access(desk->server, &access), KINO_BUSY);
    cr_assert_eq(kino_server_reopen_logs(desk->server), 0, "there is none");
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(access_log, its_descriptor_is_the_server_s_until_the_end)
{
    const int before = count_descriptors();
    struct desk *desk = desk_create((struct kino_config){.dispatch = dispatch}, 1);
    struct kino_access_log access;
    struct client client;
    char byte;
    int ends[2];

    cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
    access = to_descriptor(ends[1]);
    cr_assert_eq(kino_server_log_access(desk->server, &access), 0);
    close(ends[1]);
    cr_assert_eq(desk_listen(desk, "127.0.0.1", 0), 0);
    desk_start(desk, desk_echo);
    client = client_to(desk->port);
    cr_assert_eq(client_ask(&client, GET("/")), 200);
    cr_assert_eq(kino_server_reopen_logs(desk->server), 0);
    cr_assert_eq(client_ask(&client, GET("/")), 200);
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
    while (read(ends[0], &byte, 1) == 1)
        ; /* to the end: or the test ends at its deadline */
    close(ends[0]);
    cr_assert_eq(count_descriptors(), before);
}

TestEach(access_log, a_path_is_opened_anew_when_it_is_asked_for)
{
    struct desk *desk = desk_create((struct kino_config){.dispatch = dispatch}, 1);
    const uint64_t end = now_ms() + CLIENT_DEADLINE_MS;
    char path[] = "/tmp/kino-access-XXXXXX";
    struct kino_access_log log = to_path(path);

    close(mkstemp(path));
    cr_assert_eq(unlink(path), 0);
    cr_assert_eq(kino_server_log_access(desk->server, &log), 0);
    cr_assert_eq(unlink(path), 0, "it was made by that call");
    cr_assert_eq(kino_server_reopen_logs(desk->server), 0, "is remembered until the start");
    cr_assert_eq(desk_listen(desk, "127.0.0.1", 0), 0);
    desk_start(desk, desk_echo);
    for (int i = 0; i < 2; i++) {
        while (access(path, F_OK) < 0 && now_ms() < end)
            sched_yield();
        cr_assert_eq(unlink(path), 0);
        cr_assert_eq(kino_server_reopen_logs(desk->server), 0);
    }
    cr_assert_eq(desk_close(desk), 0);
    unlink(path);
}

/* The log's end shows whether the child has closed its copy: it lives on while the parent's goes.
 */
TestEach(access_log, a_child_that_destroys_its_copy_closes_it_and_no_more)
{
    struct desk *desk = desk_create((struct kino_config){.dispatch = dispatch}, 1);
    struct kino_access_log access;
    struct client client;
    int ends[2];
    int report[2];
    int finish[2];
    int status = -1;
    pid_t child;
    char byte;

    cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
    cr_assert_eq(pipe2(report, O_CLOEXEC), 0);
    cr_assert_eq(pipe2(finish, O_CLOEXEC), 0);
    access = to_descriptor(ends[1]);
    cr_assert_eq(kino_server_log_access(desk->server, &access), 0);
    close(ends[1]);
    cr_assert_eq(desk_listen(desk, "127.0.0.1", 0), 0);
    desk_start(desk, desk_echo);
    child = fork();
    if (child == 0) {
        int result = 0;

        alarm(CHILD_DEADLINE_S);
        close(finish[1]);
        if (kino_server_destroy(desk->server) < 0)
            result = 1;
        (void)!write(report[1], "x", 1);
        (void)!read(finish[0], &byte, 1);
        _exit(result);
    }
    cr_assert_eq(read(report[0], &byte, 1), 1);
    client = client_to(desk->port);
    cr_assert_eq(client_ask(&client, GET("/")), 200);
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
    while (read(ends[0], &byte, 1) == 1)
        ; /* to the end: or the test ends at its deadline */
    close(finish[1]);
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert_eq(status, 0);
    close(ends[0]);
    close(report[0]);
    close(report[1]);
    close(finish[0]);
}

TestEach(access_log, a_start_that_failed_may_be_tried_again)
{
    struct desk *desk = desk_create((struct kino_config){.dispatch = dispatch}, 1);
    struct desk *holder = desk_open((struct kino_config){0}, 1, desk_echo);
    struct kino_access_log access = to_path("/dev/null");
    struct client client;

    cr_assert_eq(kino_server_log_access(desk->server, &access), 0);
    cr_assert_eq(desk_listen(desk, "127.0.0.1", holder->port), 0);
    cr_assert_eq(kino_server_start(desk->server), -EADDRINUSE);
    cr_assert_eq(desk_close(holder), 0);
    desk_start(desk, desk_echo);
    client = client_to(desk->port);
    cr_assert_eq(client_ask(&client, GET("/")), 200);
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

/* Lines */

enum {
    LINES_MOST = 16,
    JOURNAL_BYTES = 1 << 20,
    STRESS_THREADS = 4,
    STRESS_ROUNDS = 100,
};

/* A server with its log, in a file that is read when the server is gone. */
struct journal {
    struct desk *desk;
    char path[32];
    char *text;
    char *lines[LINES_MOST]; /* of `text` */
    unsigned count;
};

static struct journal journal_open(struct kino_config config, uint64_t format,
                                   kino_handler_fn handler)
{
    struct journal journal = {.path = "/tmp/kino-access-XXXXXX"};
    struct kino_access_log access;

    close(mkstemp(journal.path));
    access = to_path(journal.path);
    access.format = format;
    journal.desk = desk_create(config, 1);
    cr_assert_eq(kino_server_log_access(journal.desk->server, &access), 0);
    cr_assert_eq(desk_listen(journal.desk, "127.0.0.1", 0), 0);
    desk_start(journal.desk, handler);
    return journal;
}

static void split(struct journal *journal)
{
    char *at = journal->text;

    for (char *end; (end = strchr(at, '\n')); at = end + 1) {
        *end = '\0';
        if (journal->count < LINES_MOST)
            journal->lines[journal->count] = at;
        journal->count++;
    }
    cr_assert_eq(*at, '\0', "a line has no end: %s", at);
}

/* All that was answered is in the file now. */
static void journal_read(struct journal *journal)
{
    const int fd = open(journal->path, O_RDONLY | O_CLOEXEC);
    ssize_t len;

    journal->text = calloc(1, JOURNAL_BYTES);
    cr_assert_not_null(journal->text);
    len = read(fd, journal->text, JOURNAL_BYTES - 1);
    cr_assert_geq(len, 0);
    cr_assert_lt(len, JOURNAL_BYTES - 1);
    close(fd);
    unlink(journal->path);
    split(journal);
}

static void journal_end(struct journal *journal, unsigned count)
{
    cr_assert_eq(desk_close(journal->desk), 0);
    journal_read(journal);
    cr_assert_eq(journal->count, count, "%u lines: %s", journal->count, journal->text);
}

static void journal_free(struct journal *journal)
{
    free(journal->text);
}

/* What stands behind the time of a line that is of this peer. */
static void assert_line(const struct journal *journal, unsigned index, const char *expected)
{
    static const char peer[] = "127.0.0.1 - - [";
    const char *line = journal->lines[index];
    const char *rest = strstr(line, "] ");

    cr_assert_eq(strncmp(line, peer, strlen(peer)), 0, "%s", line);
    cr_assert_not_null(rest, "%s", line);
    cr_assert_eq(rest - line, (ptrdiff_t)strlen("127.0.0.1 - - [24/Nov/2026:14:49:03 +0000"));
    cr_assert_str_eq(rest + 2, expected, "%s, not %s", rest + 2, expected);
}

static void assert_has(const struct journal *journal, unsigned index, const char *text)
{
    cr_assert_not_null(strstr(journal->lines[index], text), "%s has no %s", journal->lines[index],
                       text);
}

static int respond(struct kino_request *request, struct kino_response response)
{
    response.size = sizeof(response);
    return kino_request_respond(request, &response);
}

static void begin_stream(struct kino_request *request, const char *text)
{
    cr_assert_not_null(request);
    cr_assert_eq(respond(request, (struct kino_response){.status = 200,
                                                         .flags = KINO_BODY_STREAM,
                                                         .body = {text, strlen(text)}}),
                 0);
}

static void write_piece(struct kino_request *request, const char *text)
{
    const struct kino_piece piece = {.size = sizeof(piece), .data = {text, strlen(text)}};

    cr_assert_eq(kino_request_write(request, &piece), 0);
}

static void finish(struct kino_request *request)
{
    cr_assert_eq(kino_request_finish(request, NULL, 0), 0);
    kino_request_release(request);
}

TestEach(access_log, a_line_tells_of_a_request_and_its_answer)
{
    struct journal journal = journal_open((struct kino_config){.dispatch = dispatch}, 0, desk_echo);
    struct client client = client_to(journal.desk->port);

    cr_assert_eq(client_ask(&client, "GET /path?query HTTP/1.1\r\nhost: a\r\n"
                                     "referer: http://b/\r\nuser-agent: Agent/1.0\r\n\r\n"),
                 200);
    client_send(&client, "HEAD /head HTTP/1.1\r\nhost: a\r\n\r\n");
    cr_assert_eq(client_read_bodiless(&client), 200);
    cr_assert_eq(client_ask(&client, POST("/post", "5", "12345")), 200);
    cr_assert_eq(client_ask(&client, "GET /old HTTP/1.0\r\n\r\n"), 200);
    client_close(&client);
    journal_end(&journal, 4);
    assert_line(&journal, 0, "\"GET /path?query HTTP/1.1\" 200 11 \"http://b/\" \"Agent/1.0\"");
    assert_line(&journal, 1, "\"HEAD /head HTTP/1.1\" 200 0 \"-\" \"-\"");
    assert_line(&journal, 2, "\"POST /post HTTP/1.1\" 200 5 \"-\" \"-\"");
    assert_line(&journal, 3, "\"GET /old HTTP/1.0\" 200 4 \"-\" \"-\"");
    journal_free(&journal);
}

TestEach(access_log, its_formats_are_those_that_were_asked_for)
{
    static const char get[] = "GET /p HTTP/1.1\r\nhost: a\r\nreferer: r\r\nuser-agent: u\r\n\r\n";
    const struct kino_config config = {.dispatch = dispatch};
    struct journal journal;
    struct client client;

    for (uint64_t format = KINO_ACCESS_COMMON; format <= KINO_ACCESS_SHORT; format++) {
        journal = journal_open(config, format, desk_echo);
        client = client_to(journal.desk->port);
        cr_assert_eq(client_ask(&client, get), 200);
        client_close(&client);
        journal_end(&journal, 1);
        if (format == KINO_ACCESS_COMMON)
            assert_line(&journal, 0, "\"GET /p HTTP/1.1\" 200 2");
        else if (format == KINO_ACCESS_COMBINED)
            assert_line(&journal, 0, "\"GET /p HTTP/1.1\" 200 2 \"r\" \"u\"");
        else if (format == KINO_ACCESS_JSON)
            assert_has(&journal, 0,
                       "\"peer\":\"127.0.0.1\",\"method\":\"GET\",\"target\":\"/p\","
                       "\"version\":\"HTTP/1.1\",\"status\":200,\"bytes\":2,\"duration_us\":");
        else
            cr_assert_eq(strncmp(journal.lines[0], "200 GET /p ", 11), 0, "%s", journal.lines[0]);
        journal_free(&journal);
    }
}

/* A chunk's line and its end are not of the body, nor is what a file is read in. */
TestEach(access_log, bytes_are_those_of_the_body)
{
    struct journal journal = journal_open((struct kino_config){.dispatch = dispatch}, 0, NULL);
    struct client client = client_to(journal.desk->port);
    char path[] = "/tmp/kino-body-XXXXXX";
    const int fd = mkstemp(path);
    struct kino_request *request;

    unlink(path);
    cr_assert_eq(ftruncate(fd, 300000), 0);
    client_send(&client, GET("/stream"));
    request = desk_take(journal.desk);
    begin_stream(request, "one");
    write_piece(request, "three");
    finish(request);
    cr_assert_eq(client_read(&client), 200);
    cr_assert(client_has_body(&client, "onethree"));
    client_send(&client, GET("/file"));
    request = desk_take(journal.desk);
    cr_assert_not_null(request);
    cr_assert_eq(respond(request, (struct kino_response){.status = 200,
                                                         .flags = KINO_BODY_FILE,
                                                         .descriptor = (uint64_t)fd,
                                                         .length = 300000}),
                 0);
    kino_request_release(request);
    cr_assert_eq(client_read(&client), 200);
    client_close(&client);
    journal_end(&journal, 2);
    assert_line(&journal, 0, "\"GET /stream HTTP/1.1\" 200 8 \"-\" \"-\"");
    assert_line(&journal, 1, "\"GET /file HTTP/1.1\" 200 300000 \"-\" \"-\"");
    journal_free(&journal);
}

TestEach(access_log, an_interim_answer_has_no_line_of_its_own)
{
    struct journal journal = journal_open((struct kino_config){.dispatch = dispatch}, 0, NULL);
    struct client client = client_to(journal.desk->port);
    struct kino_request *request;

    client_send(&client, GET("/hints"));
    request = desk_take(journal.desk);
    cr_assert_not_null(request);
    cr_assert_eq(respond(request, (struct kino_response){.status = 103}), 0);
    cr_assert_eq(client_read(&client), 103);
    cr_assert_eq(desk_answer(request, "end"), 0);
    cr_assert_eq(client_read(&client), 200);
    client_close(&client);
    journal_end(&journal, 1);
    assert_line(&journal, 0, "\"GET /hints HTTP/1.1\" 200 3 \"-\" \"-\"");
    journal_free(&journal);
}

static struct kino_request *begin_session(struct desk *desk, struct client *client)
{
    const struct kino_field field = {.name = {"upgrade", 7}, .value = {"echo", 4}};
    struct kino_request *request;

    client_send(client, "GET /up HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\n"
                        "upgrade: echo\r\n\r\n");
    request = desk_take(desk);
    cr_assert_not_null(request);
    cr_assert_eq(
        respond(request, (struct kino_response){.status = 101, .fields = &field, .field_count = 1}),
        0);
    cr_assert_eq(client_read(client), 101);
    return request;
}

/* The second is ended by its client, of whom nothing is known but that he was there. */
TestEach(access_log, an_upgraded_session_has_its_line_at_its_end)
{
    struct journal journal = journal_open((struct kino_config){.dispatch = dispatch}, 0, NULL);
    struct client client = client_to(journal.desk->port);
    struct kino_request *request = begin_session(journal.desk, &client);
    char raw[4];

    client_close(&client);
    cr_assert(desk_gets_state(request, KINO_STATE_READABLE));
    write_piece(request, "raw!");
    finish(request);
    client = client_to(journal.desk->port);
    request = begin_session(journal.desk, &client);
    write_piece(request, "raw!");
    for (size_t len = 0; len < sizeof(raw);)
        len += (size_t)client_read_some(&client, raw + len, sizeof(raw) - len);
    client_reset(&client);
    cr_assert(desk_gets_state(request, KINO_STATE_DISCONNECTED));
    kino_request_release(request);
    journal_end(&journal, 2);
    assert_line(&journal, 0, "\"GET /up HTTP/1.1\" 101 4 \"-\" \"-\"");
    assert_line(&journal, 1, "\"GET /up HTTP/1.1\" 101 4 \"-\" \"-\"");
    journal_free(&journal);
}

/* Refusals */

/* Ask by a connection of its own. Returns the length of the answer's body. */
static size_t ask_alone(const struct journal *journal, const char *text, int status)
{
    struct client client = client_to(journal->desk->port);
    size_t len;

    cr_assert_eq(client_ask(&client, text), status);
    len = client.body_len;
    client_close(&client);
    return len;
}

static void assert_refusal(const struct journal *journal, unsigned index, const char *request_line,
                           int status, size_t bytes)
{
    char expected[128];

    snprintf(expected, sizeof(expected), "\"%s\" %d %zu \"-\" \"-\"", request_line, status, bytes);
    assert_line(journal, index, expected);
}

TestEach(access_log, what_was_refused_has_what_was_read_of_it)
{
    const struct kino_config config = {.dispatch = dispatch,
                                       .max_body_bytes = 8,
                                       .head_timeout_ms = 200,
                                       .body_timeout_ms = 1,
                                       .max_target_bytes = 16};
    struct journal journal = journal_open(config, 0, desk_echo);
    size_t bytes[6];

    bytes[0] = ask_alone(&journal, "no request\r\n\r\n", 400);
    bytes[1] = ask_alone(&journal, GET("/0123456789abcdef"), 414);
    bytes[2] = ask_alone(&journal, "GET / HTT", 408);
    bytes[3] = ask_alone(&journal, POST("/short", "5", "1"), 408);
    bytes[4] = ask_alone(&journal, POST("/long", "9", ""), 413);
    bytes[5] = ask_alone(&journal, "GET /hostless HTTP/1.1\r\n\r\n", 400);
    journal_end(&journal, 6);
    assert_refusal(&journal, 0, "-", 400, bytes[0]);
    assert_refusal(&journal, 1, "-", 414, bytes[1]);
    assert_refusal(&journal, 2, "-", 408, bytes[2]);
    assert_refusal(&journal, 3, "POST /short HTTP/1.1", 408, bytes[3]);
    assert_refusal(&journal, 4, "POST /long HTTP/1.1", 413, bytes[4]);
    assert_refusal(&journal, 5, "GET /hostless HTTP/1.1", 400, bytes[5]);
    cr_assert_gt(bytes[0], 0);
    journal_free(&journal);
}

TestEach(access_log, what_was_refused_while_it_was_handled_has_one_line)
{
    const struct kino_config config = {.dispatch = dispatch,
                                       .max_body_bytes = 8,
                                       .max_whole_body_bytes = 2,
                                       .request_timeout_ms = 1000};
    struct journal journal = journal_open(config, 0, NULL);
    struct client client = client_to(journal.desk->port);
    struct kino_request *request;
    size_t bytes[2];

    client_send(&client, "POST /chunks HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
                         "8\r\n12345678\r\n");
    request = desk_take(journal.desk);
    cr_assert_not_null(request);
    cr_assert_eq(client_ask(&client, "8\r\n12345678\r\n"), 413);
    bytes[0] = client.body_len;
    kino_request_release(request);
    client_close(&client);
    bytes[1] = ask_alone(&journal, GET("/late"), 504);
    cr_assert_eq(desk_answer_target(desk_take(journal.desk)), KINO_ANSWERED);
    journal_end(&journal, 2);
    assert_refusal(&journal, 0, "POST /chunks HTTP/1.1", 413, bytes[0]);
    assert_refusal(&journal, 1, "GET /late HTTP/1.1", 504, bytes[1]);
    journal_free(&journal);
}

/* No answer, or not all of one */

TestEach(access_log, who_got_no_answer_has_one_line_without_a_status)
{
    struct journal journal = journal_open((struct kino_config){.dispatch = dispatch}, 0, NULL);
    struct client client = client_to(journal.desk->port);
    struct kino_request *request;

    client_send(&client, GET("/aborted"));
    request = desk_take_target(journal.desk, "/aborted");
    cr_assert_eq(kino_request_abort(request), 0);
    kino_request_release(request);
    cr_assert_eq(client_expect_end(&client), CLIENT_ENDED);
    client_close(&client);
    client = client_to(journal.desk->port);
    client_send(&client, GET("/vanished"));
    request = desk_take_target(journal.desk, "/vanished");
    client_reset(&client);
    cr_assert(desk_gets_state(request, KINO_STATE_DISCONNECTED));
    cr_assert_eq(desk_answer_target(request), 0);
    journal_end(&journal, 2);
    assert_line(&journal, 0, "\"GET /aborted HTTP/1.1\" - 0 \"-\" \"-\"");
    assert_line(&journal, 1, "\"GET /vanished HTTP/1.1\" - 0 \"-\" \"-\"");
    journal_free(&journal);
}

/* By its worker, by its program and by its client. */
TestEach(access_log, a_cut_answer_has_its_status_and_what_there_was_of_it)
{
    struct journal journal = journal_open((struct kino_config){.dispatch = dispatch}, 0, NULL);
    struct kino_request *request;
    struct client client;
    char target[32];

    for (int i = 0; i < 3; i++) {
        client = client_to(journal.desk->port);
        snprintf(target, sizeof(target), "GET /%d HTTP/1.1\r\nhost: a\r\n\r\n", i);
        client_send(&client, target);
        request = desk_take(journal.desk);
        begin_stream(request, "one");
        write_piece(request, "three");
        while (!client.data || !memmem(client.data, client.len, "three", 5)) {
            client.data = client.data ? client.data : calloc(1, 4096);
            cr_assert_lt(client.len, 4096);
            client.len +=
                (size_t)client_read_some(&client, client.data + client.len, 4096 - client.len);
        }
        if (i == 0)
            cr_assert_eq(kino_worker_abort(journal.desk->workers[0].worker, 500), 0);
        else if (i == 1)
            cr_assert_eq(kino_request_abort(request), 0);
        else
            client_reset(&client);
        cr_assert(desk_gets_state(request, KINO_STATE_DISCONNECTED));
        kino_request_release(request);
        client_close(&client);
    }
    journal_end(&journal, 3);
    assert_line(&journal, 0, "\"GET /0 HTTP/1.1\" 200 8 \"-\" \"-\"");
    assert_line(&journal, 1, "\"GET /1 HTTP/1.1\" 200 8 \"-\" \"-\"");
    assert_line(&journal, 2, "\"GET /2 HTTP/1.1\" 200 8 \"-\" \"-\"");
    journal_free(&journal);
}

TestEach(access_log, lines_of_one_connection_come_in_the_order_of_its_requests)
{
    struct journal journal = journal_open((struct kino_config){.dispatch = dispatch}, 0, NULL);
    struct client client = client_to(journal.desk->port);
    struct kino_request *requests[3];

    client_send(&client, GET("/1") GET("/2") GET("/3"));
    for (int i = 0; i < 3; i++)
        requests[i] = desk_take(journal.desk);
    for (int i = 2; i >= 0; i--)
        cr_assert_eq(desk_answer_target(requests[i]), 0);
    for (int i = 0; i < 3; i++)
        cr_assert_eq(client_read(&client), 200);
    client_close(&client);
    journal_end(&journal, 3);
    assert_line(&journal, 0, "\"GET /1 HTTP/1.1\" 200 2 \"-\" \"-\"");
    assert_line(&journal, 1, "\"GET /2 HTTP/1.1\" 200 2 \"-\" \"-\"");
    assert_line(&journal, 2, "\"GET /3 HTTP/1.1\" 200 2 \"-\" \"-\"");
    journal_free(&journal);
}

/* Values */

#define NASTY                                                                                      \
    "GET /\\%22 HTTP/1.1\r\nhost: a\r\nreferer: \"a\\b\"\r\nuser-agent: x\ty\xff\x80\"\r\n\r\n"

TestEach(access_log, bytes_that_end_a_value_are_escaped)
{
    const struct kino_config config = {.dispatch = dispatch};
    struct journal journal = journal_open(config, KINO_ACCESS_COMBINED, desk_echo);

    ask_alone(&journal, NASTY, 200);
    journal_end(&journal, 1);
    assert_line(&journal, 0,
                "\"GET /\\x5C%22 HTTP/1.1\" 200 5 \"\\x22a\\x5Cb\\x22\" "
                "\"x\\x09y\\xFF\\x80\\x22\"");
    journal_free(&journal);
    journal = journal_open(config, KINO_ACCESS_JSON, desk_echo);
    ask_alone(&journal, NASTY, 200);
    journal_end(&journal, 1);
    assert_has(&journal, 0, ",\"target\":\"/\\\\%22\",");
    assert_has(&journal, 0, ",\"referer\":\"\\\"a\\\\b\\\"\",");
    assert_has(&journal, 0, ",\"user_agent\":\"x\\u0009y\\u00FF\\u0080\\\"\"}");
    journal_free(&journal);
}

TestEach(access_log, what_is_not_known_is_null_in_json)
{
    const struct kino_config config = {.dispatch = dispatch};
    struct journal journal = journal_open(config, KINO_ACCESS_JSON, NULL);
    struct client client;
    struct kino_request *request;

    ask_alone(&journal, "no request\r\n\r\n", 400);
    client = client_to(journal.desk->port);
    client_send(&client, GET("/"));
    request = desk_take(journal.desk);
    cr_assert_not_null(request);
    cr_assert_eq(kino_request_abort(request), 0);
    kino_request_release(request);
    cr_assert_eq(client_expect_end(&client), CLIENT_ENDED);
    client_close(&client);
    journal_end(&journal, 2);
    assert_has(&journal, 0, ",\"method\":null,\"target\":null,\"version\":null,\"status\":400,");
    assert_has(&journal, 0, ",\"queue_us\":null,\"referer\":null,\"user_agent\":null}");
    assert_has(&journal, 1, ",\"version\":\"HTTP/1.1\",\"status\":null,\"bytes\":0,");
    cr_assert_null(strstr(journal.lines[1], "\"queue_us\":null"), "%s", journal.lines[1]);
    journal_free(&journal);
}

TestEach(access_log, who_came_by_a_unix_socket_has_no_peer)
{
    struct journal journal = {.path = "/tmp/kino-access-XXXXXX"};
    struct kino_access_log access;
    struct client client;
    char name[32];

    close(mkstemp(journal.path));
    access = to_path(journal.path);
    snprintf(name, sizeof(name), "%ckino-access-%d", '\0', (int)getpid());
    journal.desk = desk_create((struct kino_config){.dispatch = dispatch}, 1);
    cr_assert_eq(kino_server_log_access(journal.desk->server, &access), 0);
    cr_assert_eq(
        desk_listen_as(journal.desk, (struct kino_listener){.address = {name, strlen(name + 1) + 1},
                                                            .flags = KINO_LISTENER_UNIX}),
        0);
    desk_start(journal.desk, desk_echo);
    name[0] = '@';
    client = client_to_path(name);
    cr_assert_eq(client_ask(&client, GET("/")), 200);
    client_close(&client);
    journal_end(&journal, 1);
    cr_assert_eq(strncmp(journal.lines[0], "- - - [", 7), 0, "%s", journal.lines[0]);
    journal_free(&journal);
}

/* All together */

static void round_of(int port, int kind)
{
    static const char *const texts[] = {
        GET("/"),
        POST("/", "3", "abc"),
        GET("/1") GET("/2") GET("/3"),
        "no request\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
        "GET / HTT",
        POST("/", "100", "abc"),
        POST("/", "99", "too much"),
    };
    struct client client = client_to(port);

    client_send(&client, texts[kind % 8]);
    if (kind % 3 == 0) {
        client_reset(&client);
        return;
    }
    client_finish(&client);
    client_wait_end(&client);
    client_close(&client);
}

static void *stress(void *context)
{
    const struct desk *desk = context;

    for (int i = 0; i < STRESS_ROUNDS; i++)
        round_of(desk->port, i);
    return NULL;
}

static struct kino_stats wait_for_rest(const struct desk *desk)
{
    const uint64_t end = now_ms() + CLIENT_DEADLINE_MS;
    struct kino_stats stats = {.size = sizeof(stats)};

    do {
        sched_yield();
        cr_assert_eq(kino_server_stats(desk->server, &stats), 0);
    } while ((stats.connections_now > 0 || stats.in_flight > 0 ||
              stats.connections < (uint64_t)STRESS_THREADS * STRESS_ROUNDS) &&
             now_ms() < end);
    return stats;
}

/* What was not complete when its client left is no request. A body of 99 bytes is handed out at its
 * head, one of 100 is refused there. */
TestEach(access_log, each_request_has_one_line_whatever_becomes_of_its_client)
{
    const struct kino_config config = {
        .dispatch = dispatch, .max_body_bytes = 99, .max_whole_body_bytes = 9};
    struct journal journal = journal_open(config, KINO_ACCESS_SHORT, desk_echo);
    pthread_t threads[STRESS_THREADS];
    struct kino_stats stats;

    for (int i = 0; i < STRESS_THREADS; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, stress, journal.desk), 0);
    for (int i = 0; i < STRESS_THREADS; i++)
        pthread_join(threads[i], NULL);
    stats = wait_for_rest(journal.desk);
    cr_assert_eq(stats.in_flight, 0);
    cr_assert_eq(stats.connections_now, 0);
    cr_assert_gt(stats.rejected, 0);
    journal_end(&journal, (unsigned)(stats.requests + stats.rejected));
    journal_free(&journal);
}
