/* SPDX-License-Identifier: MIT */
/*
 * answer_server PORT queue|lanes|inline
 *
 * Answers 200 to everything, with the request's body, or `OK` where there is none: the application
 * that the rules of test/cases/run want behind a server. Port 0 lets the kernel choose, SIGTERM
 * drains.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kino.h"

enum {
    WORKERS = 2, /* not inline, so that requests of one connection really run side by side */
    DRAIN_MS = 5000,
};

static struct kino_server *server;

static void on_term(int signal)
{
    (void)signal;
    kino_server_drain(server, DRAIN_MS);
}

static void print_log(void *context, int level, const char *line)
{
    (void)context;
    (void)level;
    fprintf(stderr, "%s\n", line);
}

/* All of the body, which may still be on its way. Owned by the caller. */
static struct kino_slice read_body(struct kino_request *request)
{
    struct kino_slice piece;
    char *body = NULL;
    size_t len = 0;
    int rc;

    while ((rc = kino_request_body(request, &piece)) == KINO_AGAIN || rc == 1) {
        if (rc == KINO_AGAIN) {
            kino_request_wait(request, KINO_STATE_READABLE, KINO_OFF);
            continue;
        }
        body = realloc(body, len + piece.len);
        if (!body)
            abort();
        memcpy(body + len, piece.data, piece.len);
        len += piece.len;
    }
    return (struct kino_slice){body, len};
}

/* A request that could not be answered is answered 500 by the library when this returns. */
static void answer(void *context, struct kino_request *request)
{
    struct kino_response response = {.size = sizeof(response), .status = 200};
    const struct kino_slice body = read_body(request);

    (void)context;
    response.body = body.len > 0 ? body : (struct kino_slice){"OK", 2};
    kino_request_respond(request, &response);
    free((void *)(uintptr_t)body.data);
}

/* 0: none is called that. */
static uint64_t dispatch_called(const char *name)
{
    static const char *const names[] = {
        [KINO_DISPATCH_QUEUE] = "queue",
        [KINO_DISPATCH_INLINE] = "inline",
        [KINO_DISPATCH_LANES] = "lanes",
    };

    for (uint64_t i = KINO_DISPATCH_QUEUE; i <= KINO_DISPATCH_LANES; i++)
        if (strcmp(name, names[i]) == 0)
            return i;
    return 0;
}

static int serve(uint64_t port, uint64_t dispatch)
{
    const struct kino_config config = {
        .size = sizeof(config),
        .dispatch = dispatch,
        .log = print_log,
    };
    const struct kino_listener listener = {.size = sizeof(listener), .port = port};
    const struct sigaction term = {.sa_handler = on_term};
    int rc;

    rc = kino_server_create(&config, &server);
    if (rc < 0)
        return rc;
    rc = kino_server_listen(server, &listener);
    if (rc < 0)
        goto out;
    rc = kino_server_start(server);
    if (rc < 0)
        goto out;
    sigaction(SIGTERM, &term, NULL);
    printf("listening on 127.0.0.1:%d\n", kino_server_port(server, 0));
    fflush(stdout);
    rc = kino_server_serve(server, answer, NULL, dispatch == KINO_DISPATCH_INLINE ? 1 : WORKERS);

out:
    kino_server_destroy(server);
    return rc;
}

int main(int argc, char **argv)
{
    const uint64_t dispatch = argc == 3 ? dispatch_called(argv[2]) : 0;
    int rc;

    if (!dispatch) {
        fprintf(stderr, "usage: %s PORT queue|lanes|inline\n", argv[0]);
        return 1;
    }
    rc = serve(strtoul(argv[1], NULL, 10), dispatch);
    if (rc < 0) {
        fprintf(stderr, "%s: %s\n", argv[0], kino_strerror(rc));
        return 1;
    }
    return 0;
}
