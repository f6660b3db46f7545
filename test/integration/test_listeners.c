/* SPDX-License-Identifier: MIT */
/* Where a server listens: several addresses, unix sockets, and sockets that others have, too. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/desk.h"

enum {
    CHILD_DEADLINE_S = 50,
    QUIET_MS = 300,
};

/* A directory of the test's own. What is left in it at the end was not removed by a server. */
struct place {
    char directory[64];
    char path[80];
};

static struct place make_place(void)
{
    struct place place = {.directory = "/tmp/kino-test-XXXXXX"};

    cr_assert_not_null(mkdtemp(place.directory));
    snprintf(place.path, sizeof(place.path), "%s/socket", place.directory);
    return place;
}

static void remove_place(const struct place *place)
{
    cr_assert_eq(rmdir(place->directory), 0, "something is left in %s", place->directory);
}

static bool exists(const struct place *place)
{
    return access(place->path, F_OK) == 0;
}

static struct kino_listener at_path(const char *path)
{
    return (struct kino_listener){.address = {path, strlen(path)}, .flags = KINO_LISTENER_UNIX};
}

static struct kino_listener at_descriptor(int fd)
{
    return (struct kino_listener){.descriptor = (uint64_t)fd, .flags = KINO_LISTENER_DESCRIPTOR};
}

static struct kino_config by(uint64_t dispatch, uint64_t loops)
{
    return (struct kino_config){.dispatch = dispatch, .loops = loops};
}

/* A server that listens at the place alone and echoes. */
static struct desk *open_at(const struct place *place, uint64_t dispatch, unsigned loops)
{
    struct desk *desk = desk_create(by(dispatch, loops), loops);

    cr_assert_eq(desk_listen_as(desk, at_path(place->path)), 0);
    desk_start(desk, desk_echo);
    return desk;
}

static int ask_at(const struct place *place)
{
    struct client client = client_to_path(place->path);
    const int status = client.fd < 0 ? client.fd : client_ask(&client, GET("/"));

    client_close(&client);
    return status;
}

/* A bound socket of our own, which listens if it has a backlog. */
static int bind_path(const struct place *place, int type, int backlog)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

    snprintf(address.sun_path, sizeof(address.sun_path), "%s", place->path);
    cr_assert_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    if (backlog > 0)
        cr_assert_eq(listen(fd, backlog), 0);
    return fd;
}

static int bind_port(int *port, int backlog)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t len = sizeof(address);
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    cr_assert_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    if (backlog > 0)
        cr_assert_eq(listen(fd, backlog), 0);
    cr_assert_eq(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    *port = ntohs(address.sin_port);
    return fd;
}

/* Adding them */

static void assert_invalid(struct kino_server *server, struct kino_listener listener)
{
    listener.size = sizeof(listener);
    cr_assert_eq(kino_server_listen(server, &listener), KINO_INVALID);
}

Test(listeners, fields_that_do_not_go_with_the_flags_are_refused)
{
    struct kino_listener listener;
    struct kino_server *server;

    cr_assert_eq(kino_server_create(NULL, &server), 0);
    assert_invalid(server, (struct kino_listener){.flags = 1 << 2});
    assert_invalid(server, (struct kino_listener){.flags = UINT64_MAX});
    assert_invalid(server, (struct kino_listener){.mode = 0600});
    assert_invalid(server, (struct kino_listener){.descriptor = 1});
    assert_invalid(server, (struct kino_listener){.flags = KINO_LISTENER_UNIX});
    assert_invalid(server, at_path(""));
    listener = at_path("/tmp/a");
    listener.flags |= KINO_LISTENER_DESCRIPTOR;
    assert_invalid(server, listener);
    listener = at_path("/tmp/a");
    listener.port = 80;
    assert_invalid(server, listener);
    listener = at_path("/tmp/a");
    listener.mode = 01777;
    assert_invalid(server, listener);
    listener = at_path("/tmp/a");
    listener.address.len++;
    assert_invalid(server, listener);
    listener = at_path("");
    listener.address.len = 1;
    assert_invalid(server, listener);
    listener = (struct kino_listener){.address = {"\0a", 2}, .flags = KINO_LISTENER_UNIX};
    listener.mode = 0600;
    assert_invalid(server, listener);
    cr_assert_eq(kino_server_destroy(server), 0);
}

Test(listeners, a_path_that_is_too_long_is_named)
{
    struct desk *desk = desk_create((struct kino_config){0}, 0);
    char path[109] = "";

    memset(path, 'a', sizeof(path) - 1);
    cr_assert_eq(desk_listen_as(desk, at_path(path)), -ENAMETOOLONG);
    cr_assert(desk_has_logged(desk, path));
    cr_assert_eq(kino_server_destroy(desk->server), 0);
    desk_free(desk);
}

static void assert_fault(struct desk *desk, int fd, const char *fault)
{
    char line[64];

    snprintf(line, sizeof(line), "descriptor %d: %s", fd, fault);
    cr_assert_eq(desk_listen_as(desk, at_descriptor(fd)), KINO_INVALID, "%s", line);
    cr_assert(desk_has_logged(desk, line), "%s", line);
    if (fd >= 0)
        close(fd);
}

Test(listeners, a_descriptor_that_is_nothing_to_listen_on_is_named)
{
    struct desk *desk = desk_create((struct kino_config){0}, 0);
    int pair[2];

    assert_fault(desk, 1023, "it is not open");
    cr_assert_eq(desk_listen_as(desk, (struct kino_listener){.descriptor = UINT64_MAX,
                                                             .flags = KINO_LISTENER_DESCRIPTOR}),
                 KINO_INVALID);
    assert_fault(desk, open("/dev/null", O_RDONLY), "it is no socket");
    assert_fault(desk, socket(AF_INET, SOCK_DGRAM, 0), "it is no stream socket");
    assert_fault(desk, socket(AF_INET, SOCK_STREAM, 0), "it is bound to no address");
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    assert_fault(desk, pair[0], "it is connected");
    close(pair[1]);
    cr_assert_eq(kino_server_start(desk->server), KINO_INVALID, "none of them counts");
    cr_assert_eq(kino_server_destroy(desk->server), 0);
    desk_free(desk);
}

Test(listeners, a_server_that_never_starts_gives_the_duplicate_back)
{
    struct desk *desk = desk_create((struct kino_config){0}, 0);
    const int before = count_descriptors();
    int port;
    const int fd = bind_port(&port, 0);

    cr_assert_eq(desk_listen_as(desk, at_descriptor(fd)), 0);
    cr_assert_eq(kino_server_port(desk->server, 0), port);
    cr_assert_eq(count_descriptors(), before + 2);
    cr_assert_eq(kino_server_destroy(desk->server), 0);
    cr_assert_eq(count_descriptors(), before + 1);
    close(fd);
    desk_free(desk);
}

/* Serving them */

static void assert_listener(struct desk *desk, struct client client, uint64_t number)
{
    struct kino_request *request;
    const struct kino_head *head;

    cr_assert_geq(client.fd, 0, "listener %d: %s", (int)number, strerror(-client.fd));
    client_send(&client, GET("/"));
    request = desk_take_target(desk, "/");
    head = kino_request_head(request);
    cr_assert_eq(head->listener, number);
    if (client.port == 0) {
        cr_assert_null(head->peer_address.data);
        cr_assert_null(head->local_address.data);
        cr_assert_eq(head->peer_address.len + head->local_address.len, 0);
        cr_assert_eq(head->peer_port + head->local_port, 0);
    } else {
        cr_assert_gt(head->peer_address.len, 0);
        cr_assert_eq(head->peer_port, client.port);
    }
    cr_assert_eq(desk_answer_target(request), 0);
    cr_assert_eq(client_read(&client), 200);
    client_close(&client);
}

static bool has_ipv6(void)
{
    const struct sockaddr_in6 address = {.sin6_family = AF_INET6,
                                         .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    const int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const bool has = bind(fd, (const struct sockaddr *)&address, sizeof(address)) == 0;

    close(fd);
    return has;
}

TestEach(listeners, ipv4_ipv6_and_unix_sockets_are_served_side_by_side)
{
    struct desk *desk = desk_create(by(dispatch, 2), 2);
    struct place place = make_place();
    char name[32];

    if (!has_ipv6()) {
        rmdir(place.directory);
        cr_skip_test("no IPv6 here");
    }
    snprintf(name, sizeof(name), "%ckino-test-%d", 0, getpid());
    cr_assert_eq(desk_listen(desk, "127.0.0.1", 0), 0);
    cr_assert_eq(desk_listen(desk, "::1", 0), 1);
    cr_assert_eq(desk_listen_as(desk, at_path(place.path)), 2);
    cr_assert_eq(
        desk_listen_as(desk, (struct kino_listener){.address = {name, 1 + strlen(name + 1)},
                                                    .flags = KINO_LISTENER_UNIX}),
        3);
    cr_assert_eq(kino_server_port(desk->server, 2), KINO_INVALID);
    desk_start(desk, NULL);
    cr_assert_eq(kino_server_port(desk->server, 2), KINO_INVALID);
    name[0] = '@';
    for (int i = 0; i < 4; i++) {
        assert_listener(desk, client_to(desk->port), 0);
        assert_listener(desk, client_to_address("::1", kino_server_port(desk->server, 1)), 1);
        assert_listener(desk, client_to_path(place.path), 2);
        assert_listener(desk, client_to_path(name), 3);
    }
    cr_assert_eq(desk_close(desk), 0);
    remove_place(&place);
}

/* Paths: SPEC.md 6.5 and 6.6 */

TestEach(listeners, a_path_is_removed_at_the_stop_and_is_free_for_the_next)
{
    struct place place = make_place();

    for (int i = 0; i < 5; i++) {
        struct desk *desk = open_at(&place, dispatch, 2);

        cr_assert_eq(ask_at(&place), 200);
        cr_assert(exists(&place));
        cr_assert_eq(desk_close(desk), 0);
        cr_assert_not(exists(&place));
        cr_assert_eq(ask_at(&place), -ENOENT);
    }
    remove_place(&place);
}

TestEach(listeners, a_drain_answers_what_came_by_a_path)
{
    struct place place = make_place();
    struct desk *desk = desk_create(by(dispatch, 1), 1);
    struct client client;
    struct kino_request *request;

    cr_assert_eq(desk_listen_as(desk, at_path(place.path)), 0);
    desk_start(desk, NULL);
    client = client_to_path(place.path);
    client_send(&client, GET("/1"));
    request = desk_take_target(desk, "/1");
    kino_server_drain(desk->server, CLIENT_DEADLINE_MS);
    cr_assert_eq(kino_server_wait(desk->server, 0), KINO_TIMED_OUT);
    cr_assert_eq(desk_answer_target(request), 0);
    cr_assert_eq(client_read(&client), 200);
    cr_assert_eq(client_expect_end(&client), CLIENT_ENDED);
    client_close(&client);
    cr_assert_eq(desk_end(desk), 0);
    remove_place(&place);
}

TestEach(listeners, a_stale_path_is_reclaimed)
{
    struct place place = make_place();
    struct desk *desk;

    close(bind_path(&place, SOCK_STREAM, 1));
    cr_assert(exists(&place));
    desk = open_at(&place, dispatch, 1);
    cr_assert_eq(ask_at(&place), 200);
    cr_assert_eq(desk_close(desk), 0);
    remove_place(&place);
}

TestEach(listeners, a_live_path_is_refused_and_may_be_tried_again)
{
    struct place place = make_place();
    struct desk *first = open_at(&place, dispatch, 1);
    struct desk *second = desk_create(by(dispatch, 1), 1);

    cr_assert_eq(desk_listen_as(second, at_path(place.path)), 0);
    cr_assert_eq(kino_server_start(second->server), -EADDRINUSE);
    cr_assert_eq(desk_count_lines(second), 1);
    cr_assert(desk_has_logged(second, place.path), "%s", second->lines[0]);
    cr_assert(desk_has_logged(second, "choose another path"));
    cr_assert_eq(ask_at(&place), 200, "the first is not disturbed");
    cr_assert_eq(desk_close(first), 0);
    desk_start(second, desk_echo);
    cr_assert_eq(ask_at(&place), 200);
    cr_assert_eq(desk_close(second), 0);
    remove_place(&place);
}

TestEach(listeners, a_path_is_live_before_any_worker_takes)
{
    struct place place = make_place();
    struct desk *first = desk_create(by(dispatch, 1), 0);
    struct desk *second = desk_create(by(dispatch, 1), 0);

    cr_assert_eq(desk_listen_as(first, at_path(place.path)), 0);
    cr_assert_eq(kino_server_start(first->server), 0);
    cr_assert_eq(desk_listen_as(second, at_path(place.path)), 0);
    cr_assert_eq(kino_server_start(second->server), -EADDRINUSE);
    cr_assert_eq(kino_server_destroy(second->server), 0);
    desk_free(second);
    cr_assert_eq(desk_close(first), 0);
    remove_place(&place);
}

TestEach(listeners, what_is_no_socket_is_refused_and_left_alone)
{
    struct place place = make_place();
    struct desk *desk = desk_create(by(dispatch, 1), 1);
    struct stat status;
    int before;

    close(open(place.path, O_CREAT | O_WRONLY, 0600));
    cr_assert_eq(desk_listen_as(desk, at_path(place.path)), 0);
    cr_assert_eq(kino_server_start(desk->server), -EEXIST);
    cr_assert_eq(desk_count_lines(desk), 1);
    cr_assert(desk_has_logged(desk, place.path));
    cr_assert(desk_has_logged(desk, "it is no socket"));
    before = count_descriptors();
    cr_assert_eq(kino_server_start(desk->server), -EEXIST);
    cr_assert_eq(count_descriptors(), before, "nothing is left of it");
    cr_assert_eq(lstat(place.path, &status), 0);
    cr_assert(S_ISREG(status.st_mode));
    cr_assert_eq(kino_server_destroy(desk->server), 0);
    desk_free(desk);
    unlink(place.path);
    remove_place(&place);
}

TestEach(listeners, what_took_the_place_of_a_path_stays)
{
    struct place place = make_place();
    struct desk *desk = open_at(&place, dispatch, 1);
    int usurper;

    cr_assert_eq(unlink(place.path), 0);
    usurper = bind_path(&place, SOCK_STREAM, 1);
    cr_assert_eq(desk_close(desk), 0);
    cr_assert(exists(&place));
    close(usurper);
    unlink(place.path);
    remove_place(&place);
}

TestEach(listeners, a_path_gets_the_mode_that_was_asked_for)
{
    struct place place = make_place();
    struct desk *desk = desk_create(by(dispatch, 1), 1);
    struct kino_listener listener = at_path(place.path);
    const mode_t before = umask(077);
    struct stat status;

    listener.mode = 0666;
    cr_assert_eq(desk_listen_as(desk, listener), 0);
    desk_start(desk, desk_echo);
    umask(before);
    cr_assert_eq(stat(place.path, &status), 0);
    cr_assert_eq(status.st_mode & 0777, 0666);
    cr_assert_eq(desk_close(desk), 0);
    remove_place(&place);
}

TestEach(listeners, a_start_that_fails_takes_its_path_back)
{
    struct place place = make_place();
    struct desk *desk = desk_create(by(dispatch, 2), 2);
    struct client client;
    int port;
    int inherited_port;
    const int holder = bind_port(&port, 1);
    const int inherited = bind_port(&inherited_port, 1);

    cr_assert_eq(desk_listen_as(desk, at_path(place.path)), 0);
    cr_assert_eq(desk_listen_as(desk, at_descriptor(inherited)), 1);
    cr_assert_eq(desk_listen(desk, "127.0.0.1", port), 2);
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(kino_server_start(desk->server), -EADDRINUSE);
        cr_assert_not(exists(&place));
    }
    close(holder);
    desk_start(desk, desk_echo);
    cr_assert_eq(ask_at(&place), 200);
    client = client_to(inherited_port);
    cr_assert_eq(client_ask(&client, GET("/")), 200);
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
    close(inherited);
    remove_place(&place);
}

/* A process that starts a server when `begin` ends, and ends it when `finish` does. */
static int race_to(const struct place *place, int begin, int report, int finish)
{
    const struct kino_config config = {.size = sizeof(config), .dispatch = KINO_DISPATCH_INLINE};
    struct kino_listener listener = at_path(place->path);
    struct kino_server *server;
    char byte;
    int rc;

    listener.size = sizeof(listener);
    if (kino_server_create(&config, &server) < 0 || kino_server_listen(server, &listener) < 0)
        return 1;
    (void)!read(begin, &byte, 1);
    rc = kino_server_start(server);
    byte = rc == 0 ? 'w' : rc == -EADDRINUSE ? 'l' : '?';
    if (write(report, &byte, 1) != 1)
        return 2;
    (void)!read(finish, &byte, 1);
    kino_server_drain(server, 0);
    return kino_server_destroy(server) < 0 ? 3 : 0;
}

/* SPEC.md 6.5. Both find the stale file, and only one may replace it. */
Test(listeners, of_two_that_start_at_once_at_a_stale_path_one_wins)
{
    enum { RACERS = 2, RACES = 10 };
    struct place place = make_place();
    struct kino_probe_result probe = {.size = sizeof(probe)};

    kino_probe(&probe);
    if (probe.error) {
        rmdir(place.directory);
        cr_skip_test("%s", kino_strerror((int)probe.error));
    }
    for (int i = 0; i < RACES; i++) {
        int begin[2];
        int report[2];
        int finish[2];
        pid_t racers[RACERS];
        char results[RACERS];
        int status;

        close(bind_path(&place, SOCK_STREAM, 1));
        cr_assert_eq(pipe(begin) + pipe(report) + pipe(finish), 0);
        for (int j = 0; j < RACERS; j++) {
            racers[j] = fork();
            if (racers[j] == 0) {
                alarm(CHILD_DEADLINE_S);
                close(begin[1]);
                close(finish[1]);
                _exit(race_to(&place, begin[0], report[1], finish[0]));
            }
        }
        close(begin[1]);
        for (int j = 0; j < RACERS; j++)
            cr_assert_eq(read(report[0], &results[j], 1), 1);
        cr_assert(exists(&place));
        close(finish[1]);
        for (int j = 0; j < RACERS; j++) {
            cr_assert_eq(waitpid(racers[j], &status, 0), racers[j]);
            cr_assert_eq(status, 0);
        }
        cr_assert_eq(results[0] + results[1], 'w' + 'l', "%c%c", results[0], results[1]);
        cr_assert_not(exists(&place));
        close(begin[0]);
        close(report[0]);
        close(report[1]);
        close(finish[0]);
    }
    remove_place(&place);
}

/* Descriptors: SPEC.md 6.7 */

static void assert_inherits(uint64_t dispatch, int backlog, bool nonblocking)
{
    struct desk *desk = desk_create(by(dispatch, 2), 2);
    struct client client;
    int port;
    const int fd = bind_port(&port, backlog);

    if (nonblocking)
        fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    cr_assert_eq(desk_listen_as(desk, at_descriptor(fd)), 0);
    cr_assert_eq(kino_server_port(desk->server, 0), port);
    desk_start(desk, NULL);
    for (int i = 0; i < 4; i++)
        assert_listener(desk, client_to(port), 0);
    cr_assert_eq(desk_close(desk), 0);
    client = client_to(port);
    cr_assert_geq(client.fd, 0, "who else has it still listens");
    close(fd);
    cr_assert_eq(client_expect_end(&client), CLIENT_RESET);
    client_close(&client);
}

TestEach(listeners, a_descriptor_is_served_whether_it_listens_yet_or_not)
{
    assert_inherits(dispatch, 0, false);
    assert_inherits(dispatch, 16, false);
    assert_inherits(dispatch, 16, true);
}

TestEach(listeners, an_inherited_path_is_not_removed)
{
    struct place place = make_place();
    struct desk *desk = desk_create(by(dispatch, 1), 1);
    const int fd = bind_path(&place, SOCK_STREAM, 1);

    cr_assert_eq(desk_listen_as(desk, at_descriptor(fd)), 0);
    close(fd); /* the duplicate is the library's own */
    cr_assert_eq(kino_server_port(desk->server, 0), KINO_INVALID);
    desk_start(desk, desk_echo);
    cr_assert_eq(ask_at(&place), 200);
    cr_assert_eq(desk_close(desk), 0);
    cr_assert_eq(ask_at(&place), -ECONNREFUSED);
    unlink(place.path);
    remove_place(&place);
}

/* Another process shuts it down: that costs neither the other listeners nor a busy loop. */
TestEach(listeners, a_descriptor_that_another_shuts_down_disturbs_nobody)
{
    struct desk *desk = desk_create(by(dispatch, 1), 1);
    struct client client;
    int port;
    const int fd = bind_port(&port, 16);
    const uint64_t end = now_ms() + CLIENT_DEADLINE_MS;

    cr_assert_eq(desk_listen(desk, "127.0.0.1", 0), 0);
    cr_assert_eq(desk_listen_as(desk, at_descriptor(fd)), 1);
    desk_start(desk, desk_echo);
    cr_assert_eq(shutdown(fd, SHUT_RDWR), 0);
    for (int i = 0; i < 4; i++) {
        client = client_to(desk->port);
        cr_assert_eq(client_ask(&client, GET("/")), 200);
        client_close(&client);
    }
    while (!desk_has_logged(desk, "Invalid argument") && now_ms() < end)
        sched_yield();
    cr_assert_eq(desk_count_lines(desk), 1, "it is said, and not over and over");
    cr_assert_eq(desk_close(desk), 0);
    close(fd);
}

/* One socket, several loops: SPEC.md 6.9 */

enum { SPREAD_WORKERS = 3, SPREAD_CLIENTS = 60 };

/* How often each thread has answered. */
struct tally {
    struct desk *desk;
    _Atomic pid_t threads[SPREAD_WORKERS];
    _Atomic int counts[SPREAD_WORKERS];
};

static struct tally tally;

static void count_thread(void *context, struct kino_request *request)
{
    const pid_t own = gettid();

    for (int i = 0; i < SPREAD_WORKERS; i++) {
        pid_t nobody = 0;

        if (atomic_compare_exchange_strong(&tally.threads[i], &nobody, own) || nobody == own) {
            atomic_fetch_add(&tally.counts[i], 1);
            break;
        }
    }
    desk_echo(context, request);
}

static void assert_spread(struct kino_listener listener, struct client (*open)(const void *),
                          const void *where)
{
    struct desk *desk = desk_create(by(KINO_DISPATCH_INLINE, SPREAD_WORKERS), SPREAD_WORKERS);
    struct client clients[SPREAD_CLIENTS];

    tally = (struct tally){.desk = desk};
    cr_assert_eq(desk_listen_as(desk, listener), 0);
    desk_start(desk, count_thread);
    for (int i = 0; i < SPREAD_CLIENTS; i++) {
        clients[i] = open(where);
        cr_assert_eq(client_ask(&clients[i], GET("/")), 200);
    }
    for (int i = 0; i < SPREAD_WORKERS; i++)
        cr_assert_eq(atomic_load(&tally.counts[i]), SPREAD_CLIENTS / SPREAD_WORKERS);
    cr_assert_eq(desk_close(desk), 0);
    for (int i = 0; i < SPREAD_CLIENTS; i++)
        client_close(&clients[i]);
}

static struct client open_path(const void *path)
{
    return client_to_path(path);
}

static struct client open_port(const void *port)
{
    return client_to(*(const int *)port);
}

Test(listeners, connections_of_one_socket_are_spread_over_all_loops)
{
    struct place place = make_place();
    int port;
    const int fd = bind_port(&port, 16);

    assert_spread(at_path(place.path), open_path, place.path);
    assert_spread(at_descriptor(fd), open_port, &port);
    close(fd);
    remove_place(&place);
}

TestEach(listeners, connections_that_were_passed_on_count)
{
    enum { MOST = 4 };
    struct place place = make_place();
    struct kino_config config = {.dispatch = dispatch, .loops = 2, .max_connections = MOST};
    struct desk *desk = desk_create(config, 2);
    struct client clients[MOST];
    struct client late;

    cr_assert_eq(desk_listen_as(desk, at_path(place.path)), 0);
    desk_start(desk, desk_echo);
    for (int i = 0; i < MOST; i++) {
        clients[i] = client_to_path(place.path);
        cr_assert_eq(client_ask(&clients[i], GET("/")), 200);
    }
    late = client_to_path(place.path);
    client_send(&late, GET("/late"));
    cr_assert(client_is_quiet(&late, QUIET_MS));
    client_close(&clients[0]);
    cr_assert_eq(client_read(&late), 200);
    client_close(&late);
    for (int i = 1; i < MOST; i++)
        client_close(&clients[i]);
    cr_assert_eq(desk_close(desk), 0);
    remove_place(&place);
}

TestEach(listeners, every_descriptor_that_was_passed_on_is_given_back)
{
    enum { CLIENTS = 40 };
    struct place place = make_place();
    struct desk *desk = open_at(&place, dispatch, 3); /* what is open once is open now */
    int before;

    cr_assert_eq(desk_close(desk), 0);
    before = count_descriptors();
    for (int i = 0; i < 5; i++) {
        struct client clients[CLIENTS];

        desk = open_at(&place, dispatch, 3);
        for (int j = 0; j < CLIENTS; j++) {
            clients[j] = client_to_path(place.path);
            cr_assert_eq(client_send(&clients[j], GET("/")), 0);
        }
        kino_server_drain(desk->server, i % 2 ? 0 : CLIENT_DEADLINE_MS);
        cr_assert_eq(desk_end(desk), 0);
        for (int j = 0; j < CLIENTS; j++) {
            cr_assert_neq(client_wait_end(&clients[j]), CLIENT_SILENT);
            client_close(&clients[j]);
        }
        cr_assert_eq(count_descriptors(), before);
    }
    remove_place(&place);
}

Test(listeners, a_loop_that_leaves_hands_its_socket_on)
{
    struct place place = make_place();
    struct desk *desk = desk_create(by(KINO_DISPATCH_INLINE, 2), 0);
    struct kino_worker *worker;
    struct client client;

    cr_assert_eq(desk_listen_as(desk, at_path(place.path)), 0);
    desk_start(desk, desk_echo);
    cr_assert_eq(kino_worker_create(desk->server, NULL, &worker), 0);
    cr_assert_eq(kino_worker_wait(worker, 0), KINO_TIMED_OUT);
    desk_hire(desk);
    cr_assert_eq(kino_worker_destroy(worker), 0);
    for (int i = 0; i < 4; i++)
        cr_assert_eq(ask_at(&place), 200);
    cr_assert_eq(desk_close(desk), 0);
    desk = desk_create(by(KINO_DISPATCH_INLINE, 1), 0);
    cr_assert_eq(desk_listen_as(desk, at_path(place.path)), 0);
    desk_start(desk, desk_echo);
    cr_assert_eq(kino_worker_create(desk->server, NULL, &worker), 0);
    cr_assert_eq(kino_worker_wait(worker, 0), KINO_TIMED_OUT);
    cr_assert_eq(kino_worker_destroy(worker), 0);
    client = client_to_path(place.path); /* nobody is there, and it waits */
    client_send(&client, GET("/"));
    desk_hire(desk);
    cr_assert_eq(client_read(&client), 200);
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
    remove_place(&place);
}

/* Two loops that this thread drives by turns: the first accepts a connection, and the second has it
 * in its mailbox and has not looked. */
struct passed {
    struct place place;
    struct desk *desk;
    struct kino_worker *workers[2];
    struct client client; /* has asked */
};

static void *turn_once(void *worker)
{
    struct kino_request *request;

    return (void *)(intptr_t)kino_worker_try_take(worker, &request);
}

static void turn(struct kino_worker *worker)
{
    cr_assert_eq((int)(intptr_t)turn_once(worker), KINO_AGAIN);
}

/* The second may be begun by a thread that ends. */
static struct passed pass_one(bool by_mortal)
{
    const uint64_t end = now_ms() + CLIENT_DEADLINE_MS;
    struct passed passed = {.place = make_place()};
    pthread_t mortal;
    int before;

    passed.desk = desk_create(by(KINO_DISPATCH_INLINE, 2), 0);
    cr_assert_eq(desk_listen_as(passed.desk, at_path(passed.place.path)), 0);
    desk_start(passed.desk, NULL);
    for (int i = 0; i < 2; i++)
        cr_assert_eq(kino_worker_create(passed.desk->server, NULL, &passed.workers[i]), 0);
    turn(passed.workers[0]);
    if (by_mortal) {
        cr_assert_eq(pthread_create(&mortal, NULL, turn_once, passed.workers[1]), 0);
        pthread_join(mortal, NULL);
    } else {
        turn(passed.workers[1]);
    }
    before = count_descriptors();
    passed.client = client_to_path(passed.place.path);
    client_send(&passed.client, "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    do
        turn(passed.workers[0]);
    while (count_descriptors() == before + 1 && now_ms() < end);
    cr_assert_eq(count_descriptors(), before + 2, "the client's, and what is in no ring yet");
    return passed;
}

static void answer_passed(struct passed *passed, struct kino_worker *worker)
{
    struct kino_request *request;

    cr_assert_eq(kino_worker_take(worker, CLIENT_DEADLINE_MS, &request), KINO_REQUEST);
    cr_assert_eq(desk_answer_target(request), 0);
    cr_assert_eq(kino_worker_flush(worker), 0);
    cr_assert_eq(client_read(&passed->client), 200);
}

static void end_passed(struct passed *passed)
{
    client_close(&passed->client);
    cr_assert_eq(desk_close(passed->desk), 0);
    remove_place(&passed->place);
}

Test(listeners, a_connection_that_was_passed_on_is_served_where_it_came)
{
    struct passed passed = pass_one(false);

    turn(passed.workers[0]);
    answer_passed(&passed, passed.workers[1]);
    for (int i = 0; i < 2; i++)
        cr_assert_eq(kino_worker_destroy(passed.workers[i]), 0);
    end_passed(&passed);
}

Test(listeners, a_loop_that_leaves_passes_on_what_was_passed_to_it)
{
    struct passed passed = pass_one(false);

    cr_assert_eq(kino_worker_destroy(passed.workers[1]), 0);
    answer_passed(&passed, passed.workers[0]);
    cr_assert_eq(kino_worker_destroy(passed.workers[0]), 0);
    end_passed(&passed);
}

Test(listeners, so_does_one_whose_thread_has_died)
{
    struct passed passed = pass_one(true);

    cr_assert_eq(kino_worker_destroy(passed.workers[1]), 0);
    answer_passed(&passed, passed.workers[0]);
    cr_assert_eq(kino_worker_destroy(passed.workers[0]), 0);
    end_passed(&passed);
}

Test(listeners, a_connection_that_no_loop_can_serve_waits_for_the_next)
{
    struct passed passed = pass_one(false);
    struct kino_worker *next;

    for (int i = 0; i < 2; i++)
        cr_assert_eq(kino_worker_destroy(passed.workers[i]), 0);
    cr_assert_eq(kino_worker_create(passed.desk->server, NULL, &next), 0);
    answer_passed(&passed, next);
    cr_assert_eq(kino_worker_destroy(next), 0);
    end_passed(&passed);
}

Test(listeners, a_connection_that_no_loop_comes_for_ends_with_the_server)
{
    const int before = count_descriptors();
    struct passed passed = pass_one(false);

    for (int i = 0; i < 2; i++)
        cr_assert_eq(kino_worker_destroy(passed.workers[i]), 0);
    cr_assert_eq(desk_close(passed.desk), 0);
    cr_assert_leq(client_wait_end(&passed.client), CLIENT_ENDED);
    client_close(&passed.client);
    cr_assert_eq(count_descriptors(), before);
    remove_place(&passed.place);
}

Test(listeners, a_drain_serves_what_was_passed_on)
{
    struct passed passed = pass_one(false);

    kino_server_drain(passed.desk->server, CLIENT_DEADLINE_MS);
    answer_passed(&passed, passed.workers[1]);
    client_close(&passed.client);
    for (int i = 0; i < 2; i++)
        cr_assert_eq(kino_worker_wait(passed.workers[i], CLIENT_DEADLINE_MS), KINO_CLOSED);
    for (int i = 0; i < 2; i++)
        cr_assert_eq(kino_worker_destroy(passed.workers[i]), 0);
    end_passed(&passed);
}

Test(listeners, a_child_keeps_no_connection_that_is_being_passed_on)
{
    struct passed passed = pass_one(false);
    int report[2];
    int finish[2];
    pid_t child;
    char byte;
    int status = -1;

    cr_assert_eq(pipe(report) + pipe(finish), 0);
    child = fork();
    if (child == 0) {
        alarm(CHILD_DEADLINE_S);
        close(finish[1]);
        close(passed.client.fd);
        if (kino_server_destroy(passed.desk->server) < 0 || write(report[1], "r", 1) != 1)
            _exit(1);
        (void)!read(finish[0], &byte, 1);
        _exit(0);
    }
    cr_assert_eq(read(report[0], &byte, 1), 1);
    answer_passed(&passed, passed.workers[1]);
    for (int i = 0; i < 2; i++)
        cr_assert_eq(kino_worker_destroy(passed.workers[i]), 0);
    cr_assert_eq(client_expect_end(&passed.client), CLIENT_ENDED, "the child holds it open");
    close(finish[1]);
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert_eq(status, 0);
    close(finish[0]);
    close(report[0]);
    close(report[1]);
    end_passed(&passed);
}

/* Clients that connect, ask and close, over and over. */
struct crowd {
    struct client (*open)(const void *);
    const void *where;
    _Atomic bool over;
    _Atomic int answered; /* by "old" */
    _Atomic int answered_by_successor;
    _Atomic int refused;
    _Atomic int dropped; /* closed without an answer */
    _Atomic int wrong;
    _Atomic int last; /* wrong outcome */
};

static void visit(struct crowd *crowd)
{
    struct client client = crowd->open(crowd->where);
    int status;

    if (client.fd < 0) {
        atomic_store(&crowd->last, client.fd);
        atomic_fetch_add(&crowd->refused, 1);
        client_close(&client);
        return;
    }
    status = client_ask(&client, GET("/"));
    if (status == CLIENT_ENDED || status == CLIENT_RESET || status == CLIENT_GARBLED)
        atomic_fetch_add(&crowd->dropped, 1);
    else if (status != 200)
        atomic_fetch_add(&crowd->wrong, 1);
    else if (client_has_body(&client, "new"))
        atomic_fetch_add(&crowd->answered_by_successor, 1);
    else
        atomic_fetch_add(&crowd->answered, 1);
    if (status != 200)
        atomic_store(&crowd->last, status);
    client_close(&client);
}

static void *be_a_crowd(void *context)
{
    struct crowd *crowd = context;

    while (!atomic_load(&crowd->over))
        visit(crowd);
    return NULL;
}

static bool reaches(_Atomic int *counter, int count)
{
    const uint64_t end = now_ms() + CLIENT_DEADLINE_MS;

    while (atomic_load(counter) < count) {
        if (now_ms() > end)
            return false;
        sched_yield();
    }
    return true;
}

/* A client of the worker that leaves is closed; but none is forgotten. */
Test(listeners, workers_that_come_and_go_forget_no_connection)
{
    enum { CROWD = 3, TIMES = 100 };
    struct place place = make_place();
    struct desk *desk = desk_create(by(KINO_DISPATCH_INLINE, 3), 1);
    struct crowd crowd = {.open = open_path, .where = place.path};
    pthread_t threads[CROWD];

    cr_assert_eq(desk_listen_as(desk, at_path(place.path)), 0);
    desk_start(desk, desk_echo);
    for (int i = 0; i < CROWD; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, be_a_crowd, &crowd), 0);
    for (int i = 0; i < TIMES; i++) {
        struct kino_worker *workers[2];
        struct kino_request *request;

        for (int j = 0; j < 2; j++)
            cr_assert_eq(kino_worker_create(desk->server, NULL, &workers[j]), 0);
        for (int j = 0; j < 20; j++)
            while (kino_worker_try_take(workers[j % 2], &request) == KINO_REQUEST)
                desk_answer_target(request);
        for (int j = 0; j < 2; j++)
            cr_assert_eq(kino_worker_destroy(workers[j]), 0);
    }
    atomic_store(&crowd.over, true);
    for (int i = 0; i < CROWD; i++)
        pthread_join(threads[i], NULL);
    cr_assert_gt(atomic_load(&crowd.answered), 0);
    cr_assert_eq(atomic_load(&crowd.wrong), 0, "%d", atomic_load(&crowd.last));
    cr_assert_eq(atomic_load(&crowd.refused), 0, "%d", atomic_load(&crowd.last));
    cr_assert_eq(desk_close(desk), 0);
    remove_place(&place);
}

/* Successors: SPEC.md 6.8 */

TestEach(listeners, descriptors_are_shared_one_by_one)
{
    enum { LOOPS = 2, SOCKETS = LOOPS + 1 };
    struct place place = make_place();
    struct desk *desk = desk_create(by(dispatch, LOOPS), LOOPS);
    int fds[SOCKETS];

    cr_assert_eq(kino_server_share(desk->server, 0), KINO_BUSY);
    cr_assert_eq(desk_listen(desk, "127.0.0.1", 0), 0);
    cr_assert_eq(desk_listen_as(desk, at_path(place.path)), 1);
    desk_start(desk, desk_echo);
    for (int i = 0; i < SOCKETS; i++) {
        fds[i] = kino_server_share(desk->server, (uint64_t)i);
        cr_assert_geq(fds[i], 0, "%s", kino_strerror(fds[i]));
        cr_assert(fcntl(fds[i], F_GETFD) & FD_CLOEXEC);
    }
    cr_assert_eq(kino_server_share(desk->server, SOCKETS), KINO_INVALID);
    cr_assert_eq(kino_server_share(desk->server, UINT64_MAX), KINO_INVALID);
    kino_server_drain(desk->server, CLIENT_DEADLINE_MS);
    cr_assert_eq(kino_server_wait(desk->server, CLIENT_DEADLINE_MS), 0);
    cr_assert_eq(kino_server_share(desk->server, 0), KINO_CLOSED);
    cr_assert_eq(kino_server_share(desk->server, LOOPS), KINO_CLOSED);
    cr_assert_eq(desk_end(desk), 0);
    for (int i = 0; i < SOCKETS; i++)
        close(fds[i]);
    unlink(place.path);
    remove_place(&place);
}

TestEach(listeners, what_was_shared_outlives_the_server)
{
    struct place place = make_place();
    struct desk *desk = open_at(&place, dispatch, 1);
    const int fd = kino_server_share(desk->server, 0);
    struct client client;

    cr_assert_geq(fd, 0);
    cr_assert_eq(desk_close(desk), 0);
    client = client_to_path(place.path);
    cr_assert_geq(client.fd, 0, "the backlog takes it");
    client_send(&client, GET("/"));
    desk = desk_create(by(dispatch, 1), 1);
    cr_assert_eq(desk_listen_as(desk, at_descriptor(fd)), 0);
    close(fd);
    desk_start(desk, desk_echo);
    cr_assert_eq(client_read(&client), 200);
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
    cr_assert_eq(ask_at(&place), -ECONNREFUSED);
    desk = open_at(&place, dispatch, 1);
    cr_assert_eq(ask_at(&place), 200, "what the last of them left is reclaimed");
    cr_assert_eq(desk_close(desk), 0);
    remove_place(&place);
}

/* SPEC.md 6.8. A drain with a successor gives a client that has connected the time to speak. */
TestEach(listeners, a_client_that_came_to_the_predecessor_is_still_heard)
{
    struct place place = make_place();
    struct desk *desk = open_at(&place, dispatch, 1);
    struct client idle = client_to_path(place.path);
    struct client client = client_to_path(place.path);
    const int fd = kino_server_share(desk->server, 0);

    cr_assert_eq(client_ask(&idle, GET("/")), 200);
    kino_server_drain(desk->server, CLIENT_DEADLINE_MS);
    cr_assert_eq(client_expect_end(&idle), CLIENT_ENDED);
    cr_assert_eq(client_ask(&client, GET("/")), 200);
    cr_assert(client_has_line(&client, "connection: close"));
    cr_assert_eq(client_expect_end(&client), CLIENT_ENDED);
    client_close(&idle);
    client_close(&client);
    cr_assert_eq(desk_end(desk), 0);
    close(fd);
    unlink(place.path);
    remove_place(&place);
}

enum { MOST_SHARED = 8 };

union control {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(MOST_SHARED * sizeof(int))];
};

static bool send_descriptors(int to, const int *fds, unsigned count)
{
    union control control = {0};
    char byte = (char)count;
    struct iovec piece = {&byte, 1};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1, .msg_control = control.bytes};

    message.msg_controllen = CMSG_SPACE(count * sizeof(int));
    control.header = (struct cmsghdr){
        .cmsg_len = CMSG_LEN(count * sizeof(int)),
        .cmsg_level = SOL_SOCKET,
        .cmsg_type = SCM_RIGHTS,
    };
    memcpy(CMSG_DATA(&control.header), fds, count * sizeof(int));
    return sendmsg(to, &message, 0) == 1;
}

/* Returns how many. */
static int receive_descriptors(int from, int *fds)
{
    union control control;
    char count = 0;
    struct iovec piece = {&count, 1};
    struct msghdr message = {
        .msg_iov = &piece,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = sizeof(control.bytes),
    };

    if (recvmsg(from, &message, MSG_CMSG_CLOEXEC) != 1)
        return -1;
    memcpy(fds, CMSG_DATA(&control.header), (size_t)count * sizeof(int));
    return count;
}

/* The successor is a process of its own, begun before there is any server or thread. */
struct successor {
    pid_t process;
    int link; /* to the other */
    uint64_t dispatch;
    struct kino_server *server;
};

static void answer_new(void *context, struct kino_request *request)
{
    const struct kino_response response = {
        .size = sizeof(response), .status = 200, .body = {"new", 3}};

    (void)context;
    kino_request_respond(request, &response);
}

/* Drains when the parent closes its end. */
static void *watch_parent(void *context)
{
    struct successor *successor = context;
    char byte;

    while (read(successor->link, &byte, 1) > 0)
        ;
    kino_server_drain(successor->server, CLIENT_DEADLINE_MS);
    return NULL;
}

/* Its steps are its exit status: which one failed. */
static int succeed(struct successor *successor)
{
    const struct kino_config config = {
        .size = sizeof(config), .dispatch = successor->dispatch, .loops = 2};
    int fds[MOST_SHARED];
    const int count = receive_descriptors(successor->link, fds);
    pthread_t watcher;

    if (count < 1)
        return 1;
    if (kino_server_create(&config, &successor->server) < 0)
        return 2;
    for (int i = 0; i < count; i++) {
        struct kino_listener listener = at_descriptor(fds[i]);

        listener.size = sizeof(listener);
        if (kino_server_listen(successor->server, &listener) != i)
            return 3;
        close(fds[i]);
    }
    if (kino_server_start(successor->server) < 0)
        return 4;
    if (write(successor->link, "r", 1) != 1)
        return 5;
    if (pthread_create(&watcher, NULL, watch_parent, successor) != 0)
        return 6;
    if (kino_server_serve(successor->server, answer_new, NULL, 2) < 0)
        return 7;
    pthread_join(watcher, NULL);
    return kino_server_destroy(successor->server) < 0 ? 8 : 0;
}

static struct successor begin_successor(uint64_t dispatch)
{
    struct successor successor = {.dispatch = dispatch};
    int pair[2];

    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    successor.process = fork();
    if (successor.process == 0) {
        alarm(CHILD_DEADLINE_S);
        close(pair[0]);
        successor.link = pair[1];
        _exit(succeed(&successor));
    }
    close(pair[1]);
    successor.link = pair[0];
    return successor;
}

static int end_successor(const struct successor *successor)
{
    int status = -1;

    close(successor->link);
    if (waitpid(successor->process, &status, 0) != successor->process)
        return -errno;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -status;
}

static void hand_over(struct desk *desk, const struct successor *successor)
{
    int fds[MOST_SHARED];
    unsigned count = 0;
    char byte;
    int fd;

    while ((fd = kino_server_share(desk->server, count)) >= 0)
        fds[count++] = fd;
    cr_assert_eq(fd, KINO_INVALID);
    cr_assert(send_descriptors(successor->link, fds, count));
    while (count > 0)
        close(fds[--count]);
    cr_assert_eq(read(successor->link, &byte, 1), 1, "the successor has not started");
}

static void assert_succession(struct successor *successor, struct desk *desk, struct crowd *crowd)
{
    enum { CROWD = 4, ANSWERS = 300 };
    pthread_t threads[CROWD];

    for (int i = 0; i < CROWD; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, be_a_crowd, crowd), 0);
    cr_assert(reaches(&crowd->answered, ANSWERS));
    hand_over(desk, successor);
    cr_assert_eq(desk_close(desk), 0);
    cr_assert(reaches(&crowd->answered_by_successor, ANSWERS));
    atomic_store(&crowd->over, true);
    for (int i = 0; i < CROWD; i++)
        pthread_join(threads[i], NULL);
    cr_assert_eq(atomic_load(&crowd->refused), 0, "%d", atomic_load(&crowd->last));
    cr_assert_eq(atomic_load(&crowd->dropped), 0, "%d", atomic_load(&crowd->last));
    cr_assert_eq(atomic_load(&crowd->wrong), 0, "%d", atomic_load(&crowd->last));
    cr_assert_eq(end_successor(successor), 0);
}

TestEach(listeners, a_successor_takes_a_port_over_under_load)
{
    struct successor successor = begin_successor(dispatch);
    struct desk *desk = desk_open(by(dispatch, 2), 2, desk_echo);
    const int port = desk->port;
    struct crowd crowd = {.open = open_port, .where = &port};

    assert_succession(&successor, desk, &crowd);
    cr_assert_eq(client_to(port).fd, -ECONNREFUSED);
}

TestEach(listeners, a_successor_takes_a_path_over_under_load)
{
    struct successor successor = begin_successor(dispatch);
    struct place place = make_place();
    struct desk *desk = open_at(&place, dispatch, 2);
    struct crowd crowd = {.open = open_path, .where = place.path};

    assert_succession(&successor, desk, &crowd);
    cr_assert_eq(ask_at(&place), -ECONNREFUSED);
    unlink(place.path);
    remove_place(&place);
}

/* Other processes */

static int serve_at(const struct place *place, int report)
{
    struct kino_listener listener = at_path(place->path);
    struct kino_server *server;

    listener.size = sizeof(listener);
    if (kino_server_create(NULL, &server) < 0 || kino_server_listen(server, &listener) < 0 ||
        kino_server_start(server) < 0 || write(report, "r", 1) != 1)
        return 1;
    return kino_server_serve(server, answer_new, NULL, 1);
}

TestEach(listeners, a_path_is_free_at_once_when_its_server_was_killed)
{
    struct place place = make_place();
    struct desk *desk;
    int report[2];
    pid_t child;
    char byte;

    cr_assert_eq(pipe(report), 0);
    child = fork();
    if (child == 0) {
        alarm(CHILD_DEADLINE_S);
        _exit(serve_at(&place, report[1]));
    }
    close(report[1]);
    if (read(report[0], &byte, 1) != 1) { /* as where there is no io_uring */
        waitpid(child, NULL, 0);
        rmdir(place.directory);
        cr_skip_test("no server could be started");
    }
    cr_assert_eq(ask_at(&place), 200);
    cr_assert_eq(kill(child, SIGKILL), 0);
    cr_assert_eq(waitpid(child, NULL, 0), child);
    desk = open_at(&place, dispatch, 1);
    cr_assert_eq(ask_at(&place), 200);
    cr_assert_eq(desk_close(desk), 0);
    close(report[0]);
    remove_place(&place);
}

/* Serves at a port that the kernel chooses, and reports it. */
static int serve_at_port(int report)
{
    const struct kino_listener listener = {.size = sizeof(listener)};
    struct kino_server *server;
    int port;

    if (kino_server_create(NULL, &server) < 0 || kino_server_listen(server, &listener) < 0 ||
        kino_server_start(server) < 0)
        return 1;
    port = kino_server_port(server, 0);
    if (write(report, &port, sizeof(port)) != sizeof(port))
        return 1;
    return kino_server_serve(server, answer_new, NULL, 1);
}

/* With clients connected, and one in the middle of a request. */
TestEach(listeners, a_port_is_free_at_once_when_its_server_was_killed)
{
    struct client clients[2];
    struct desk *desk;
    int report[2];
    pid_t child;
    int port;

    cr_assert_eq(pipe(report), 0);
    child = fork();
    if (child == 0) {
        alarm(CHILD_DEADLINE_S);
        _exit(serve_at_port(report[1]));
    }
    close(report[1]);
    if (read(report[0], &port, sizeof(port)) != sizeof(port)) { /* as where there is no io_uring */
        waitpid(child, NULL, 0);
        cr_skip_test("no server could be started");
    }
    for (int i = 0; i < 2; i++) {
        clients[i] = client_to(port);
        cr_assert_eq(client_ask(&clients[i], GET("/")), 200);
    }
    client_send(&clients[1], "GET /never HT");
    cr_assert_eq(kill(child, SIGKILL), 0);
    cr_assert_eq(waitpid(child, NULL, 0), child);
    desk = desk_create(by(dispatch, 1), 1);
    cr_assert_geq(desk_listen(desk, "127.0.0.1", port), 0);
    desk_start(desk, desk_echo);
    for (int i = 0; i < 2; i++) {
        client_close(&clients[i]);
        clients[i] = client_to(port);
        cr_assert_eq(client_ask(&clients[i], GET("/")), 200);
        client_close(&clients[i]);
    }
    cr_assert_eq(desk_close(desk), 0);
    close(report[0]);
}

TestEach(listeners, a_child_that_destroys_its_copy_removes_no_path)
{
    struct place place = make_place();
    struct desk *desk = open_at(&place, dispatch, 2);
    struct client client = client_to_path(place.path);
    int status = -1;
    pid_t child;

    cr_assert_eq(client_ask(&client, GET("/")), 200);
    child = fork();
    if (child == 0) {
        alarm(CHILD_DEADLINE_S);
        _exit(kino_server_destroy(desk->server) == 0 ? 0 : 1);
    }
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert_eq(status, 0);
    cr_assert(exists(&place));
    cr_assert_eq(client_ask(&client, GET("/")), 200);
    cr_assert_eq(ask_at(&place), 200);
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
    remove_place(&place);
}
