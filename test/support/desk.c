/* SPDX-License-Identifier: MIT */
#include "support/desk.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    DRAIN_MS = 20000,
};

uint64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

int count_descriptors(void)
{
    int count = 0;

    for (int fd = 0; fd < 4096; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

static void keep_line(void *context, int level, const char *line)
{
    struct desk *desk = context;

    (void)level;
    pthread_mutex_lock(&desk->mutex);
    if (desk->line_count < DESK_LINES_MOST)
        snprintf(desk->lines[desk->line_count], sizeof(desk->lines[0]), "%s", line);
    desk->line_count++;
    pthread_mutex_unlock(&desk->mutex);
}

struct desk *desk_create(struct kino_config config, unsigned workers)
{
    struct desk *desk;
    struct kino_probe_result probe = {.size = sizeof(probe)};
    pthread_condattr_t attributes;

    kino_probe(&probe);
    if (probe.error)
        cr_skip_test("%s", kino_strerror((int)probe.error));
    desk = calloc(1, sizeof(*desk));
    cr_assert_not_null(desk);
    desk->asked_workers = workers;
    pthread_mutex_init(&desk->mutex, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&desk->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    config.size = sizeof(config);
    config.log = keep_line;
    config.log_context = desk;
    if (config.dispatch == KINO_DISPATCH_INLINE && config.loops == 0)
        config.loops = workers;
    desk->config = config;
    cr_assert_eq(kino_server_create(&config, &desk->server), 0);
    return desk;
}

int desk_listen(struct desk *desk, const char *address, int port)
{
    const struct kino_listener listener = {
        .size = sizeof(listener),
        .address = {address, strlen(address)},
        .port = (uint64_t)port,
    };

    return kino_server_listen(desk->server, &listener);
}

int desk_listen_as(struct desk *desk, struct kino_listener listener)
{
    listener.size = sizeof(listener);
    return kino_server_listen(desk->server, &listener);
}

/* Wait until one of the counters is as high. Returns with the mutex locked. */
static bool lock_when(struct desk *desk, const unsigned *counter, unsigned count)
{
    struct timespec end;
    int rc = 0;

    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += CLIENT_DEADLINE_MS / 1000;
    pthread_mutex_lock(&desk->mutex);
    while (*counter < count && rc == 0)
        rc = pthread_cond_timedwait(&desk->changed, &desk->mutex, &end);
    return *counter >= count;
}

bool desk_is_ready(struct desk *desk, unsigned count)
{
    const bool is = lock_when(desk, &desk->ready, count);

    pthread_mutex_unlock(&desk->mutex);
    return is;
}

void desk_count_ready(struct desk *desk)
{
    pthread_mutex_lock(&desk->mutex);
    desk->ready++;
    pthread_cond_broadcast(&desk->changed);
    pthread_mutex_unlock(&desk->mutex);
}

static void put(struct desk *desk, struct kino_request *request)
{
    pthread_mutex_lock(&desk->mutex);
    desk->taken++;
    if (request && desk->request_count < DESK_REQUESTS_MOST) {
        desk->requests[desk->request_count++] = request;
        request = NULL;
    }
    pthread_cond_broadcast(&desk->changed);
    pthread_mutex_unlock(&desk->mutex);
    kino_request_release(request); /* there is no room for it */
}

static void *work(void *context)
{
    struct desk_worker *own = context;
    struct desk *desk = own->desk;
    struct kino_request *request;
    int rc;

    kino_worker_wait(own->worker, 0); /* inline: begins to listen */
    desk_count_ready(desk);
    while ((rc = kino_worker_take(own->worker, KINO_OFF, &request)) != KINO_CLOSED) {
        if (rc == KINO_INTERRUPTED)
            continue;
        if (rc < 0)
            break;
        if (desk->handler) {
            desk->handler(desk, request);
            kino_request_release(request);
            request = NULL;
        }
        put(desk, request);
    }
    kino_worker_destroy(own->worker);
    return NULL;
}

void desk_hire(struct desk *desk)
{
    struct desk_worker *own = &desk->workers[desk->worker_count++];

    own->desk = desk;
    cr_assert_eq(kino_worker_create(desk->server, NULL, &own->worker), 0);
    cr_assert_eq(pthread_create(&own->thread, NULL, work, own), 0);
    cr_assert(desk_is_ready(desk, desk->worker_count));
}

void desk_start(struct desk *desk, kino_handler_fn handler)
{
    desk->handler = handler;
    cr_assert_eq(kino_server_start(desk->server), 0, "%s", desk->lines[0]);
    desk->port = kino_server_port(desk->server, 0);
    for (unsigned i = 0; i < desk->asked_workers; i++)
        desk_hire(desk);
}

struct desk *desk_open(struct kino_config config, unsigned workers, kino_handler_fn handler)
{
    struct desk *desk = desk_create(config, workers);

    cr_assert_eq(desk_listen(desk, "127.0.0.1", 0), 0);
    desk_start(desk, handler);
    return desk;
}

int desk_end(struct desk *desk)
{
    int rc;

    for (unsigned i = 0; i < desk->worker_count; i++)
        pthread_join(desk->workers[i].thread, NULL);
    rc = kino_server_wait(desk->server, DRAIN_MS);
    if (rc == 0)
        rc = kino_server_destroy(desk->server);
    desk_free(desk);
    return rc;
}

void desk_free(struct desk *desk)
{
    pthread_cond_destroy(&desk->changed);
    pthread_mutex_destroy(&desk->mutex);
    free(desk);
}

int desk_close(struct desk *desk)
{
    kino_server_drain(desk->server, DRAIN_MS);
    return desk_end(desk);
}

struct kino_request *desk_take(struct desk *desk)
{
    struct kino_request *request = NULL;

    if (lock_when(desk, &desk->request_count, 1)) {
        request = desk->requests[0];
        desk->request_count--;
        memmove(desk->requests, desk->requests + 1,
                desk->request_count * sizeof(desk->requests[0]));
    }
    pthread_mutex_unlock(&desk->mutex);
    return request;
}

struct kino_request *desk_take_target(struct desk *desk, const char *target)
{
    struct kino_request *request = desk_take(desk);

    cr_assert_not_null(request, "%s", target);
    cr_assert(desk_is(request, target), "%s, not %.*s", target,
              (int)kino_request_head(request)->target.len, kino_request_head(request)->target.data);
    return request;
}

void desk_answer_next(struct desk *desk, const char *target)
{
    cr_assert_eq(desk_answer_target(desk_take_target(desk, target)), 0);
}

void desk_assert_nothing_else(struct desk *desk)
{
    struct client other = client_to(desk->port);

    client_send(&other, GET("/nothing-else"));
    desk_answer_next(desk, "/nothing-else");
    cr_assert_eq(client_read(&other), 200);
    client_close(&other);
}

bool desk_has_taken(struct desk *desk, unsigned count)
{
    const bool has = lock_when(desk, &desk->taken, count);

    pthread_mutex_unlock(&desk->mutex);
    return has;
}

unsigned desk_count_taken(struct desk *desk)
{
    unsigned count;

    pthread_mutex_lock(&desk->mutex);
    count = desk->taken;
    pthread_mutex_unlock(&desk->mutex);
    return count;
}

bool desk_has_logged(struct desk *desk, const char *text)
{
    bool has = false;

    pthread_mutex_lock(&desk->mutex);
    for (unsigned i = 0; i < desk->line_count && i < DESK_LINES_MOST; i++)
        has |= strstr(desk->lines[i], text) != NULL;
    pthread_mutex_unlock(&desk->mutex);
    return has;
}

unsigned desk_count_lines(struct desk *desk)
{
    unsigned count;

    pthread_mutex_lock(&desk->mutex);
    count = desk->line_count;
    pthread_mutex_unlock(&desk->mutex);
    return count;
}

static int answer(struct kino_request *request, struct kino_slice body)
{
    const struct kino_response response = {.size = sizeof(response), .status = 200, .body = body};
    const int rc = kino_request_respond(request, &response);

    kino_request_release(request);
    return rc;
}

int desk_answer(struct kino_request *request, const char *text)
{
    return answer(request, (struct kino_slice){text, strlen(text)});
}

int desk_answer_target(struct kino_request *request)
{
    return answer(request, kino_request_head(request)->target);
}

bool desk_is(const struct kino_request *request, const char *target)
{
    const struct kino_slice own = kino_request_head(request)->target;

    return own.len == strlen(target) && memcmp(own.data, target, own.len) == 0;
}

int desk_state(const struct kino_request *request)
{
    return kino_request_state(request) & ~(KINO_STATE_READABLE | KINO_STATE_WRITABLE);
}

bool desk_gets_state(const struct kino_request *request, int bits)
{
    const uint64_t end = now_ms() + CLIENT_DEADLINE_MS;

    while ((kino_request_state(request) & bits) != bits) {
        if (now_ms() > end)
            return false;
        sched_yield();
    }
    return true;
}

void desk_echo(void *context, struct kino_request *request)
{
    const struct kino_head *head = kino_request_head(request);
    const struct kino_response response = {
        .size = sizeof(response),
        .status = 200,
        .body = head->body.data ? head->body : head->target,
    };

    (void)context;
    kino_request_respond(request, &response);
}
