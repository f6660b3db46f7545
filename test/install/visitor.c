/* SPDX-License-Identifier: MIT */
/* Serves one request of its own with the installed library and prints the library's version. Both C
 * and C++: what is only one of them is left out. Exits 77, and says why, where no server can start.
 */
#define _POSIX_C_SOURCE 200809L

#include <kino.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum { DEADLINE_S = 20, SKIPPED = 77 };

static const char question[] =
    "GET /door?key=1 HTTP/1.1\r\nHost: visitor\r\nConnection: close\r\n\r\n";
static const char body[] = "come in";

/* The visitor's thread's until it is joined. */
struct visit {
    int port;
    char answer[4096];
    size_t len;
};

static void give_up(const char *what, int result)
{
    fprintf(stderr, "visitor: %s: %s\n", what, kino_strerror(result));
    exit(1);
}

/* Takes 0 or more for success, as every result of the library does. */
static int check(const char *what, int result)
{
    if (result < 0)
        give_up(what, result);
    return result;
}

static void expect(const char *what, int holds)
{
    if (!holds)
        give_up(what, 0);
}

static int knock(int port)
{
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address;
    struct timeval deadline;

    memset(&address, 0, sizeof(address));
    address.sin_family = AF_INET;
    address.sin_port = htons((uint16_t)port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    memset(&deadline, 0, sizeof(deadline));
    deadline.tv_sec = DEADLINE_S;
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &deadline, sizeof(deadline)) < 0 ||
        connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
        return -1;
    return fd;
}

/* Whatever goes wrong here shows in the answer. */
static void *ask(void *argument)
{
    struct visit *visit = (struct visit *)argument;
    const int fd = knock(visit->port);
    ssize_t got = 0;

    if (fd < 0)
        return NULL;
    if (write(fd, question, sizeof(question) - 1) == (ssize_t)sizeof(question) - 1)
        got = 1;
    while (got > 0 && visit->len < sizeof(visit->answer) - 1) {
        got = read(fd, visit->answer + visit->len, sizeof(visit->answer) - 1 - visit->len);
        visit->len += got > 0 ? (size_t)got : 0;
    }
    close(fd);
    return NULL;
}

static int is(struct kino_slice slice, const char *text)
{
    return slice.len == strlen(text) && memcmp(slice.data, text, slice.len) == 0;
}

static void answer(struct kino_request *request)
{
    const struct kino_head *head = kino_request_head(request);
    struct kino_field field;
    struct kino_response response;

    expect("the method", is(head->method, "GET"));
    expect("the path", is(head->path, "/door"));
    expect("the query", is(head->query, "key=1"));
    expect("the host", is(kino_request_field(request, "host"), "visitor"));

    memset(&field, 0, sizeof(field));
    field.name.data = "x-door";
    field.name.len = strlen(field.name.data);
    field.value.data = "open";
    field.value.len = strlen(field.value.data);
    memset(&response, 0, sizeof(response));
    response.size = sizeof(response);
    response.status = 200;
    response.fields = &field;
    response.field_count = 1;
    response.body.data = body;
    response.body.len = sizeof(body) - 1;
    check("kino_request_respond", kino_request_respond(request, &response));
}

static void serve_one(struct kino_server *server)
{
    struct kino_worker *worker;
    struct kino_request *request;

    check("kino_worker_create", kino_worker_create(server, NULL, &worker));
    expect("a request", check("kino_worker_take", kino_worker_take(worker, DEADLINE_S * 1000,
                                                                   &request)) == KINO_REQUEST);
    answer(request);
    kino_request_release(request);
    check("kino_worker_destroy", kino_worker_destroy(worker));
}

static void check_answer(const struct visit *visit)
{
    expect("the status", strncmp(visit->answer, "HTTP/1.1 200 OK\r\n", 17) == 0);
    expect("the field", strstr(visit->answer, "\r\nx-door: open\r\n") != NULL);
    expect("the body", visit->len > sizeof(body) &&
                           strcmp(visit->answer + visit->len - sizeof(body) + 1, body) == 0);
}

static struct kino_server *open_server(void)
{
    struct kino_config config;
    struct kino_listener listener;
    struct kino_server *server;

    memset(&config, 0, sizeof(config));
    config.size = sizeof(config);
    memset(&listener, 0, sizeof(listener));
    listener.size = sizeof(listener);
    check("kino_server_create", kino_server_create(&config, &server));
    check("kino_server_listen", kino_server_listen(server, &listener));
    check("kino_server_start", kino_server_start(server));
    return server;
}

int main(void)
{
    struct kino_probe_result probe;
    struct kino_server *server;
    struct visit visit;
    pthread_t thread;

    memset(&probe, 0, sizeof(probe));
    probe.size = sizeof(probe);
    check("kino_probe", kino_probe(&probe));
    if (probe.error != 0) {
        puts(kino_strerror((int)probe.error));
        return SKIPPED;
    }
    memset(&visit, 0, sizeof(visit));
    server = open_server();
    visit.port = check("kino_server_port", kino_server_port(server, 0));
    expect("a thread", pthread_create(&thread, NULL, ask, &visit) == 0);
    serve_one(server);
    pthread_join(thread, NULL);
    check("kino_server_drain", kino_server_drain(server, DEADLINE_S * 1000));
    check("kino_server_wait", kino_server_wait(server, DEADLINE_S * 1000));
    check("kino_server_destroy", kino_server_destroy(server));
    check_answer(&visit);
    puts(kino_version());
    return 0;
}
