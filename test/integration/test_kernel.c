/* SPDX-License-Identifier: MIT */
/* Kernels and containers that grant less than this one, and processes that fork. */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/desk.h"

enum {
    SOON_MS = 20000,
    CHILD_DEADLINE_S = 30,
    LARGE = 1 << 20,
};

/* Features */

static char large_body[LARGE];

static void answer(void *context, struct kino_request *request)
{
    const struct kino_response large = {
        .size = sizeof(large), .status = 200, .body = {large_body, LARGE}};

    if (desk_is(request, "/large"))
        kino_request_respond(request, &large);
    else
        desk_echo(context, request);
}

static void assert_serves(uint64_t dispatch)
{
    struct kino_config config = {.dispatch = dispatch, .loops = 2};
    struct desk *desk = desk_open(config, 2, answer);
    struct client client;

    for (int i = 0; i < 10; i++) {
        client = client_to(desk->port);
        cr_assert_eq(client_ask(&client, GET("/1")), 200);
        client_send(&client, GET("/2") POST("/", "4", "body") GET("/large") GET("/3"));
        cr_assert_eq(client_read(&client), 200);
        cr_assert_eq(client_read(&client), 200);
        cr_assert(client_has_body(&client, "body"));
        cr_assert_eq(client_read(&client), 200);
        cr_assert_eq(client.body_len, LARGE);
        cr_assert_eq(client_read(&client), 200);
        cr_assert_eq(client_ask(&client, "GET / HTTP/1.1\r\n\r\n"), 400);
        cr_assert_eq(client_expect_end(&client), CLIENT_ENDED);
        client_close(&client);
    }
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(kernel, serves_without_any_optional_feature)
{
    static const char *const without[] = {
        "defer_taskrun", "direct_descriptors", "registered_ring", "no_sqarray", "no_iowait", "all",
    };

    for (size_t i = 0; i < sizeof(without) / sizeof(without[0]); i++) {
        setenv("KINO_IO_WITHOUT", without[i], 1);
        assert_serves(dispatch);
        unsetenv("KINO_IO_WITHOUT");
    }
}

/* Processes */

/* Run it in a child, which exits with what it returns; that is the result. Assertions belong to the
 * parent. */
static pid_t begin_child(int (*run)(void *), void *context)
{
    const pid_t child = fork();

    if (child != 0)
        return child;
    alarm(CHILD_DEADLINE_S);
    _exit(run(context));
}

static int end_child(pid_t child)
{
    int status = -1;

    if (waitpid(child, &status, 0) != child)
        return -errno;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -status;
}

/* Refusals */

static char logged[512];
static int lines;

static void keep_line(void *context, int level, const char *line)
{
    (void)context;
    if (level == KINO_LOG_ERROR && lines++ == 0)
        snprintf(logged, sizeof(logged), "%s", line);
}

static int forbid_io_uring(unsigned with_errno)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | with_errno),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = {sizeof(code) / sizeof(code[0]), code};

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -errno;
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0 ? -errno : 0;
}

enum refusal {
    FINE,
    NO_FILTER,
    WRONG_PROBE,
    WRONG_CODE,
    WRONG_LINE,
    NOT_DESTROYED,
};

/* What the container's profile answers is in `context`. */
static int start_where_it_is_forbidden(void *context)
{
    const struct kino_config config = {.size = sizeof(config), .log = keep_line};
    const struct kino_listener listener = {.size = sizeof(listener)};
    struct kino_probe_result probe = {.size = sizeof(probe)};
    const bool says_enosys = *(const unsigned *)context == ENOSYS;
    struct kino_server *server;
    int rc;

    if (forbid_io_uring(*(const unsigned *)context) < 0)
        return NO_FILTER;
    if (kino_probe(&probe) < 0)
        return WRONG_PROBE;
    rc = (int)probe.error;
    /* Without the sysctl nothing tells a profile from a kernel that has no io_uring. */
    if (rc != KINO_URING_REFUSED && !(says_enosys && rc == KINO_URING_MISSING))
        return WRONG_PROBE;
    if (kino_server_create(&config, &server) < 0 || kino_server_listen(server, &listener) < 0 ||
        kino_server_start(server) != rc)
        return WRONG_CODE;
    if (lines != 1 || !strstr(logged, kino_strerror(rc)))
        return WRONG_LINE;
    return kino_server_destroy(server) < 0 ? NOT_DESTROYED : FINE;
}

static void skip_without_io_uring(void)
{
    struct kino_probe_result probe = {.size = sizeof(probe)};

    kino_probe(&probe);
    if (probe.error)
        cr_skip_test("%s", kino_strerror((int)probe.error));
}

Test(kernel, a_profile_that_forbids_io_uring_is_named)
{
    unsigned answers[] = {EPERM, ENOSYS};

    skip_without_io_uring();
    for (int i = 0; i < 2; i++) {
        const int result = end_child(begin_child(start_where_it_is_forbidden, &answers[i]));

        if (result == NO_FILTER)
            cr_skip_test("no seccomp filter can be set here");
        cr_assert_eq(result, FINE, "errno %u: %d", answers[i], result);
    }
}

/* Forking */

static int serve_in_a_child(void *context)
{
    struct kino_server *server = context;
    struct kino_worker *worker;
    struct kino_request *request;
    struct client client;
    bool served;

    if (kino_server_start(server) < 0 || kino_worker_create(server, NULL, &worker) < 0)
        return 1;
    kino_worker_wait(worker, 0);
    client = client_to(kino_server_port(server, 0));
    client_send(&client, GET("/"));
    if (kino_worker_take(worker, SOON_MS, &request) != KINO_REQUEST || desk_answer(request, "") < 0)
        return 2;
    kino_worker_flush(worker);
    served = client_read(&client) == 200;
    kino_server_drain(server, 0);
    while (kino_worker_take(worker, SOON_MS, &request) == KINO_REQUEST)
        ;
    if (kino_worker_destroy(worker) < 0 || kino_server_destroy(server) < 0)
        return 3;
    return served ? 0 : 4;
}

TestEach(kernel, a_server_is_started_after_the_fork)
{
    struct desk *desk = desk_create((struct kino_config){.dispatch = dispatch}, 1);
    pid_t child;

    cr_assert_eq(desk_listen(desk, "127.0.0.1", 0), 0);
    child = begin_child(serve_in_a_child, desk->server);
    cr_assert_eq(end_child(child), 0);
    desk_start(desk, desk_echo);
    cr_assert_eq(desk_close(desk), 0);
}

struct copy {
    struct desk *desk;
    struct kino_request *request;
    bool server_first;
    int report; /* the child writes when it is done */
    int finish; /* and exits when this ends */
    int before; /* server descriptors */
};

static bool is_listening(int fd)
{
    int value = 0;
    socklen_t len = sizeof(value);

    return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &value, &len) == 0 && value;
}

/* Those that only a server has; a test runner may have some of its own. */
static int count_server_descriptors(void)
{
    int count = 0;

    for (int fd = 0; fd < 1024; fd++) {
        char path[64];
        char target[64] = "";

        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        if (readlink(path, target, sizeof(target) - 1) < 0)
            continue;
        count += strstr(target, "io_uring") || strstr(target, "eventfd") || is_listening(fd);
    }
    return count;
}

static int destroy_copy(void *context)
{
    struct copy *copy = context;
    int result = 0;
    char byte = 'x';

    if (copy->server_first && kino_server_destroy(copy->desk->server) < 0)
        result = 1;
    kino_request_release(copy->request);
    if (kino_worker_destroy(copy->desk->workers[0].worker) < 0)
        result = 2;
    if (!copy->server_first && kino_server_destroy(copy->desk->server) < 0)
        result = 3;
    if (result == 0 && count_server_descriptors() != copy->before)
        result = 4;
    (void)!write(copy->report, &byte, 1);
    (void)!read(copy->finish, &byte, 1);
    return result;
}

static void assert_parent_is_undisturbed(uint64_t dispatch, bool server_first)
{
    struct kino_config config = {.dispatch = dispatch, .loops = 1};
    const int before = count_server_descriptors();
    struct desk *desk = desk_open(config, 1, NULL);
    struct client busy = client_to(desk->port);
    struct client idle = client_to(desk->port);
    struct client later;
    struct copy copy = {.desk = desk, .server_first = server_first, .before = before};
    const int port = desk->port;
    int report[2];
    int finish[2];
    pid_t child;
    char byte;

    cr_assert_eq(pipe(report), 0);
    cr_assert_eq(pipe(finish), 0);
    copy.report = report[1];
    copy.finish = finish[0];
    client_send(&idle, GET("/0"));
    desk_answer_next(desk, "/0");
    cr_assert_eq(client_read(&idle), 200);
    client_send(&busy, GET("/1"));
    copy.request = desk_take_target(desk, "/1");
    child = fork();
    if (child == 0) {
        alarm(CHILD_DEADLINE_S);
        close(finish[1]);
        _exit(destroy_copy(&copy));
    }
    cr_assert_eq(read(report[0], &byte, 1), 1);
    cr_assert_eq(desk_state(copy.request), 0);
    cr_assert_eq(desk_answer_target(copy.request), 0);
    cr_assert_eq(client_read(&busy), 200);
    cr_assert(client_has_body(&busy, "/1"));
    client_send(&idle, GET("/2"));
    desk_answer_next(desk, "/2");
    cr_assert_eq(client_read(&idle), 200);
    later = client_to(port);
    client_send(&later, "GET /3 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    desk_answer_next(desk, "/3");
    cr_assert_eq(client_read(&later), 200);
    cr_assert_eq(client_expect_end(&later), CLIENT_ENDED, "the child holds it open");
    client_close(&later);
    client_send(&busy, "GET /4 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    desk_answer_next(desk, "/4");
    cr_assert_eq(client_read(&busy), 200);
    cr_assert_eq(client_expect_end(&busy), CLIENT_ENDED, "so does one from before the fork");
    client_close(&busy);
    cr_assert_eq(desk_close(desk), 0);
    cr_assert_eq(client_expect_end(&idle), CLIENT_ENDED);
    client_close(&idle);
    desk = desk_create(config, 1);
    cr_assert_eq(desk_listen(desk, "127.0.0.1", port), 0);
    desk_start(desk, desk_echo); /* the port is free though the child lives */
    cr_assert_eq(desk_close(desk), 0);
    close(finish[1]);
    cr_assert_eq(end_child(child), 0);
    close(finish[0]);
    close(report[0]);
    close(report[1]);
}

TestEach(kernel, a_child_that_destroys_its_copy_is_not_noticed)
{
    assert_parent_is_undisturbed(dispatch, false);
    assert_parent_is_undisturbed(dispatch, true);
}

TestEach(kernel, nor_where_descriptors_are_not_in_the_ring)
{
    setenv("KINO_IO_WITHOUT", "direct_descriptors", 1);
    assert_parent_is_undisturbed(dispatch, false);
    unsetenv("KINO_IO_WITHOUT");
}
