/* SPDX-License-Identifier: MIT */
/* The access log of a server: SPEC.md 8. */
#include <errno.h>
#include <fcntl.h>
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
