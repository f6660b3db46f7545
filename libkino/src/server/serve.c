/* SPDX-License-Identifier: MIT */
/* Serving with a callback, on top of the public functions. */
#include "base/thread.h"
#include "server/server.h"

enum {
    MOST_SERVE_THREADS = 1024,
};

/* Shared by the threads of one kino_server_serve. */
struct service {
    struct kino_server *server;
    kino_handler_fn handler;
    void *context;
};

static int serve_one(const struct service *service, struct kino_worker *worker)
{
    struct kino_request *request;
    int rc;

    while ((rc = kino_worker_take(worker, KINO_OFF, &request)) != KINO_CLOSED) {
        if (rc < 0 && rc != KINO_INTERRUPTED)
            return rc;
        if (rc == KINO_REQUEST) {
            service->handler(service->context, request);
            kino_request_release(request);
        }
    }
    return 0;
}

/* One thread's whole part. Where it cannot begin or go on, the service ends. */
static void *serve_thread(void *argument)
{
    const struct service *service = argument;
    struct kino_worker *worker;
    int rc = kino_worker_create(service->server, NULL, &worker);

    if (rc == 0) {
        rc = serve_one(service, worker);
        kino_worker_destroy(worker);
    }
    if (rc < 0)
        kino_server_drain(service->server, 0);
    return (void *)(intptr_t)rc;
}

int kino_server_serve(struct kino_server *server, kino_handler_fn handler, void *context,
                      uint64_t threads)
{
    struct service service = {server, handler, context};
    pthread_t others[MOST_SERVE_THREADS];
    uint64_t started = 0;
    void *result;
    int rc = 0;

    if (threads < 1 || threads > MOST_SERVE_THREADS)
        return KINO_INVALID;
    if (server->config.dispatch == KINO_DISPATCH_INLINE) {
        if (!server->loops && !server->loops_given)
            server->config.loops = threads;
        if (server->config.loops < threads)
            return KINO_INVALID;
    }
    if (!server->owner)
        rc = kino_server_start(server);
    if (rc < 0)
        return rc;
    while (rc == 0 && started < threads - 1) {
        rc = kn_thread_start(&others[started], "kino-serve", (unsigned)started + 1, serve_thread,
                             &service);
        if (rc == 0)
            started++;
    }
    if (rc < 0)
        kino_server_drain(server, 0);
    else
        rc = (int)(intptr_t)serve_thread(&service);
    while (started > 0) {
        pthread_join(others[--started], &result);
        if (rc == 0)
            rc = (int)(intptr_t)result;
    }
    if (rc == 0)
        rc = kino_server_wait(server, KINO_OFF);
    return rc;
}
