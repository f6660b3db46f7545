/* SPDX-License-Identifier: MIT */
/* echo PORT: sends each body back while it comes, however long it is and whoever is slower. */
#include <kino.h>

#include <ctype.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

static struct kino_server *server;

static void stop(int signal)
{
    (void)signal;
    kino_server_drain(server, 10000);
}

static void print_line(void *context, int level, const char *line)
{
    (void)level;
    fprintf(context, "echo: %s\n", line);
}

/* The next piece of the body: 1; its end: 0; less: there is nothing left to echo. */
static int next_piece(struct kino_request *request, struct kino_slice *piece)
{
    int rc;

    while ((rc = kino_request_body(request, piece)) == KINO_AGAIN)
        kino_request_wait(request, KINO_STATE_READABLE, KINO_OFF);
    return rc;
}

static int send_piece(struct kino_request *request, struct kino_slice data)
{
    const struct kino_piece piece = {.size = sizeof(piece), .data = data};
    int rc;

    while ((rc = kino_request_write(request, &piece)) == KINO_AGAIN)
        kino_request_wait(request, KINO_STATE_WRITABLE, KINO_OFF);
    return rc;
}

/* One that is not finished is cut when it is released, and the client sees that. */
static void echo(void *context, struct kino_request *request)
{
    const struct kino_response response = {
        .size = sizeof(response), .status = 200, .flags = KINO_BODY_STREAM};
    struct kino_slice piece;
    int rc = kino_request_respond(request, &response);

    (void)context;
    while (rc == 0 && (rc = next_piece(request, &piece)) == 1)
        rc = send_piece(request, piece);
    if (rc == 0)
        kino_request_finish(request, NULL, 0);
}

int main(int argc, char **argv)
{
    const struct kino_config config = {
        .size = sizeof(config), .log = print_line, .log_context = stderr};
    struct kino_listener listener = {.size = sizeof(listener)};

    if (argc != 2 || !isdigit(*argv[1]))
        return fprintf(stderr, "usage: echo PORT (0: any that is free)\n"), 1;
    listener.port = (uint64_t)atoi(argv[1]);
    if (kino_server_create(&config, &server) < 0 || kino_server_listen(server, &listener) < 0 ||
        kino_server_start(server) < 0)
        return 1;
    signal(SIGTERM, stop);
    printf("listening on 127.0.0.1:%d\n", kino_server_port(server, 0));
    fflush(stdout);
    if (kino_server_serve(server, echo, NULL, 4) < 0)
        return 1;
    return kino_server_destroy(server) < 0;
}
