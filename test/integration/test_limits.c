/* SPDX-License-Identifier: MIT */
/* What is bounded stays so, and what ran out comes back: SPEC.md 6.3 and 6.4, and memory. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "support/desk.h"

enum {
    SOME_MS = 100,
    SOON_MS = 20000,
    MOST = 3,
    WAITING = 10,
    GREEDY = 1000,
    BODY = 32 << 10,
    MORE_MEMORY = 16 << 20, /* 35,000 requests, were they kept, take several times as much */
};

static char body[BODY];

/* Connections */

TestEach(limits, connections_past_max_connections_wait_until_one_ends)
{
    struct kino_config config = {.dispatch = dispatch, .max_connections = MOST};
    struct desk *desk = desk_open(config, 1, desk_echo);
    struct client clients[MOST + WAITING];

    for (int i = 0; i < MOST; i++) {
        clients[i] = client_to(desk->port);
        cr_assert_eq(client_ask(&clients[i], GET("/")), 200);
    }
    for (int i = MOST; i < MOST + WAITING; i++) {
        clients[i] = client_to(desk->port);
        client_send(&clients[i], GET("/"));
    }
    cr_assert(client_is_quiet(&clients[MOST], SOME_MS), "there is no room");
    for (int i = 0; i < MOST; i++)
        cr_assert_eq(client_ask(&clients[i], GET("/")), 200, "who is in is served");
    for (int i = 0; i < WAITING; i++) {
        client_close(&clients[i]);
        cr_assert_eq(client_read(&clients[MOST + i]), 200, "client %d", i);
    }
    for (int i = WAITING; i < WAITING + MOST; i++)
        client_close(&clients[i]);
    cr_assert(desk_has_logged(desk, "max_connections are open"));
    cr_assert_leq(desk_count_lines(desk), 2, "one line a second is enough");
    cr_assert_eq(desk_close(desk), 0);
}

/* Others' connections count, too: a loop that finds the limit reached when it begins must look
 * again, though none of its own will end. */
TestEach(limits, a_loop_that_begins_at_the_limit_accepts_later)
{
    struct kino_config config = {.dispatch = dispatch, .max_connections = 1, .loops = 2};
    struct desk *desk = desk_open(config, 1, desk_echo);
    struct client client = client_to(desk->port);

    cr_assert_eq(client_ask(&client, GET("/")), 200);
    desk_hire(desk);
    client_close(&client);
    for (int i = 0; i < 4 * WAITING; i++) {
        client = client_to(desk->port);
        cr_assert_eq(client_ask(&client, GET("/")), 200, "client %d", i);
        client_close(&client);
    }
    cr_assert_eq(desk_close(desk), 0);
}

/* Memory */

static void answer_body(void *context, struct kino_request *request)
{
    const struct kino_response response = {
        .size = sizeof(response), .status = 200, .body = {body, BODY}};

    (void)context;
    kino_request_respond(request, &response);
}

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

static void ask_often(struct client *client, int times)
{
    for (int i = 0; i < times; i++) {
        client_send(client, GET("/1") GET("/2") GET("/3") GET("/4") GET("/5") GET("/6") GET("/7"));
        for (int j = 0; j < 7; j++)
            cr_assert_eq(client_read(client), 200);
    }
}

TestEach(limits, who_asks_often_costs_no_more_memory)
{
    struct desk *desk = desk_open((struct kino_config){.dispatch = dispatch}, 1, desk_echo);
    struct client client = client_to(desk->port);
    size_t before;

    ask_often(&client, 100);
    before = resident_bytes();
    ask_often(&client, 5000);
    cr_assert_lt(resident_bytes(), before + MORE_MEMORY);
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

TestEach(limits, who_asks_and_does_not_read_is_answered_no_further)
{
    struct desk *desk = desk_open((struct kino_config){.dispatch = dispatch}, 1, answer_body);
    struct client client = client_of_little_memory(desk->port);
    struct client other = client_to(desk->port);
    const uint64_t end = now_ms() + 3 * SOME_MS;
    unsigned taken;

    for (int i = 0; i < GREEDY; i++)
        cr_assert_eq(client_send(&client, GET("/")), 0);
    while (desk_count_taken(desk) < GREEDY && now_ms() < end)
        client_is_quiet(&other, 1);
    taken = desk_count_taken(desk);
    cr_assert_lt(taken, GREEDY / 2, "%u answers of %d bytes", taken, BODY);
    cr_assert_eq(client_ask(&other, GET("/")), 200);
    for (int i = 0; i < GREEDY; i++)
        cr_assert_eq(client_read(&client), 200, "answer %d", i);
    cr_assert(client_is_quiet(&client, 0));
    client_close(&client);
    client_close(&other);
    cr_assert_eq(desk_close(desk), 0);
}

static bool has_room(const struct client *client)
{
    return poll(&(struct pollfd){.fd = client->fd, .events = POLLOUT}, 1, SOME_MS) == 1;
}

TestEach(limits, who_asks_much_more_than_may_wait_is_read_no_further)
{
    struct kino_config config = {.dispatch = dispatch, .max_pipelined = 1};
    struct desk *desk = desk_open(config, 1, NULL);
    struct client client = client_to(desk->port);
    struct kino_request *request;
    static char many[1 << 20];
    size_t sent = 0;
    ssize_t count;

    client_send(&client, GET("/first"));
    request = desk_take_target(desk, "/first");
    memset(many, 'x', sizeof(many));
    memcpy(many, "GET /", 5);
    do {
        count = send(client.fd, many + sent % sizeof(many), sizeof(many) - sent % sizeof(many),
                     MSG_DONTWAIT | MSG_NOSIGNAL);
        sent += count > 0 ? (size_t)count : 0;
        cr_assert_lt(sent, 64u << 20, "the server reads without end");
    } while (count > 0 || has_room(&client));
    cr_assert_eq(desk_answer_target(request), 0);
    cr_assert_eq(client_read(&client), 200);
    cr_assert_eq(client_read(&client), 414);
    client_close(&client);
    cr_assert_eq(desk_close(desk), 0);
}

/* Descriptors */

static int fill_descriptors(int *fds, int most)
{
    int count = 0;

    while (count < most && (fds[count] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0)
        count++;
    return count;
}

static void connect_to(int fd, int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    cr_assert_eq(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
}

TestEach(limits, no_descriptor_for_a_connection_pauses_accepting)
{
    struct rlimit limit;
    struct rlimit lower;
    struct desk *desk;
    struct client inside;
    struct client outside[2];
    int fds[128];
    int count;

    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    lower = (struct rlimit){.rlim_cur = 128, .rlim_max = limit.rlim_max};
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &lower), 0); /* an accept keeps the limit it began with */
    desk = desk_open((struct kino_config){.dispatch = dispatch}, 1, desk_echo);
    inside = client_to(desk->port);
    for (int i = 0; i < 2; i++)
        outside[i] = (struct client){.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    cr_assert_eq(client_ask(&inside, GET("/")), 200);
    count = fill_descriptors(fds, 128);
    connect_to(outside[0].fd, desk->port);
    client_send(&outside[0], GET("/0"));
    cr_assert(client_is_quiet(&outside[0], SOME_MS));
    connect_to(outside[1].fd, desk->port);
    client_send(&outside[1], GET("/1"));
    cr_assert(client_is_quiet(&outside[1], 2 * SOME_MS));
    cr_assert(client_is_quiet(&outside[0], 0));
    cr_assert_eq(client_ask(&inside, GET("/")), 200, "others are served");
    while (count > 0)
        close(fds[--count]);
    cr_assert_eq(client_read(&outside[0]), 200);
    cr_assert(client_has_body(&outside[0], "/0"));
    cr_assert_eq(client_read(&outside[1]), 200);
    cr_assert(client_has_body(&outside[1], "/1"));
    cr_assert(desk_has_logged(desk, "open files"), "%s", desk->lines[0]);
    cr_assert_leq(desk_count_lines(desk), 2, "one line a second is enough");
    client_close(&inside);
    client_close(&outside[0]);
    client_close(&outside[1]);
    cr_assert_eq(desk_close(desk), 0);
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
}
