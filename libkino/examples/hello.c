/* SPDX-License-Identifier: MIT */
/* hello PORT [THREADS]: the whole server in a callback, one loop for each thread. */
#include <kino.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#define SLICE(literal) {literal, sizeof(literal) - 1}

static struct kino_server *server;

static void stop(int signal)
{
    (void)signal;
    kino_server_drain(server, 10000);
}

static void print_line(void *context, int level, const char *line)
{
    (void)context;
    (void)level;
    fprintf(stderr, "hello: %s\n", line);
}

static void say_hello(void *context, struct kino_request *request)
{
    static const struct kino_field fields[] = {
        {.name = SLICE("content-type"), .value = SLICE("text/plain")}};
    static const struct kino_response response = {
        .size = sizeof(response),
        .status = 200,
        .fields = fields,
        .field_count = 1,
        .body = SLICE("Hello World"),
    };

    (void)context;
    kino_request_respond(request, &response);
}

/* A whole number up to `largest`, or exit with a line that says what is wrong. */
static unsigned long number(const char *text, const char *what, unsigned long largest)
{
    char *end;
    unsigned long value = strtoul(text, &end, 10);

    if (end == text || *end || *text == '-' || value > largest) {
        fprintf(stderr, "hello: %s must be a number up to %lu, not %s\n", what, largest, text);
        exit(1);
    }
    return value;
}

int main(int argc, char **argv)
{
    struct kino_config config = {
        .size = sizeof(config), .dispatch = KINO_DISPATCH_INLINE, .log = print_line};
    struct kino_listener listener = {.size = sizeof(listener)};
    unsigned long threads = argc > 2 ? number(argv[2], "THREADS", 1024) : 1;

    if (argc < 2 || argc > 3 || threads == 0) {
        fprintf(stderr, "usage: hello PORT [THREADS]\n");
        return 1;
    }
    listener.port = number(argv[1], "PORT", 65535);
    config.loops = threads;
    if (kino_server_create(&config, &server) < 0 || kino_server_listen(server, &listener) < 0 ||
        kino_server_start(server) < 0)
        return 1;
    signal(SIGINT, stop);
    signal(SIGTERM, stop);
    printf("listening on 127.0.0.1:%d\n", kino_server_port(server, 0));
    fflush(stdout);
    if (kino_server_serve(server, say_hello, NULL, threads) < 0)
        return 1;
    return kino_server_destroy(server) < 0;
}
