/* SPDX-License-Identifier: MIT */
/* A server whose workers only take: what they took lies on a desk until the test picks it up and
 * answers it, when and on whichever thread it likes. So a test is the same for each dispatch,
 * though an inline loop runs only inside its worker's calls. */
#ifndef TEST_SUPPORT_DESK_H
#define TEST_SUPPORT_DESK_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "kino.h"
#include "support/client.h"
#include "support/test.h"

enum {
    DESK_WORKERS_MOST = 8,
    DESK_REQUESTS_MOST = 64,
    DESK_LINES_MOST = 16,
};

struct desk_worker {
    struct desk *desk;
    struct kino_worker *worker;
    pthread_t thread;
};

/* Owned by the test: from desk_create or desk_open to desk_end or desk_close. */
struct desk {
    struct kino_server *server;
    struct kino_config config;
    int port; /* of listener 0 */
    kino_handler_fn handler;
    unsigned asked_workers;
    unsigned worker_count; /* hired */
    struct desk_worker workers[DESK_WORKERS_MOST];

    pthread_mutex_t mutex; /* over what follows */
    pthread_cond_t changed;
    struct kino_request *requests[DESK_REQUESTS_MOST]; /* taken and not picked up, oldest first */
    unsigned request_count;
    unsigned taken; /* in all */
    unsigned ready; /* workers whose loops accept */
    char lines[DESK_LINES_MOST][512];
    unsigned line_count;
};

#define TEST_BY(suite, name, how, which)                                                           \
    Test(suite, name##_##how)                                                                      \
    {                                                                                              \
        suite##_##name##_in_each(which);                                                           \
    }

/* A test that runs once for each dispatch, as NAME_by_queue, NAME_by_lanes and NAME_inline. */
#define TestEach(suite, name)                                                                      \
    static void suite##_##name##_in_each(uint64_t dispatch);                                       \
    TEST_BY(suite, name, by_queue, KINO_DISPATCH_QUEUE)                                            \
    TEST_BY(suite, name, by_lanes, KINO_DISPATCH_LANES)                                            \
    TEST_BY(suite, name, inline, KINO_DISPATCH_INLINE)                                             \
    static void suite##_##name##_in_each(uint64_t dispatch)

/* The same for those whose loops have threads of their own, and whose workers sleep. */
#define TestThreaded(suite, name)                                                                  \
    static void suite##_##name##_in_each(uint64_t dispatch);                                       \
    TEST_BY(suite, name, by_queue, KINO_DISPATCH_QUEUE)                                            \
    TEST_BY(suite, name, by_lanes, KINO_DISPATCH_LANES)                                            \
    static void suite##_##name##_in_each(uint64_t dispatch)

/* Make a server that logs to the desk, without a listener. Skips the test where io_uring is not to
 * be had. `config` needs no size; inline it gets as many loops as workers will be. */
struct desk *desk_create(struct kino_config config, unsigned workers);
/* Add a listener, of any port where it is 0. Returns its number. */
int desk_listen(struct desk *desk, const char *address, int port);
/* Add any other kind. It needs no size. */
int desk_listen_as(struct desk *desk, struct kino_listener listener);
/* Start the server and the workers, until all of them accept. With a handler they call it, and
 * nothing comes to the desk. */
void desk_start(struct desk *desk, kino_handler_fn handler);
/* All three, on 127.0.0.1 with a free port. */
struct desk *desk_open(struct kino_config config, unsigned workers, kino_handler_fn handler);

/* One more worker. */
void desk_hire(struct desk *desk);

/* Have that many workers, those of the test's own included, begun? */
bool desk_is_ready(struct desk *desk, unsigned count);
/* Count one that has. Any thread. */
void desk_count_ready(struct desk *desk);

/* Join the workers, wait for the drain and destroy: 0, or what kino_server_wait or _destroy said.
 * For a server that was told to drain. */
int desk_end(struct desk *desk);
/* The same after a drain with this deadline. */
int desk_close(struct desk *desk);

/* Pick up the next request, with its one reference. NULL: none came before the deadline. */
struct kino_request *desk_take(struct desk *desk);
/* The same; it must come, and have this target. */
struct kino_request *desk_take_target(struct desk *desk, const char *target);
/* Take it and answer it with its target. */
void desk_answer_next(struct desk *desk, const char *target);
/* A loop takes things in their order: so whatever arrived before this call and was let through
 * would be on the desk before the request that this one makes. */
void desk_assert_nothing_else(struct desk *desk);
/* Free what is left of it after the test has destroyed the server itself. */
void desk_free(struct desk *desk);

/* Were requests taken, in all, that many times, before the deadline? */
bool desk_has_taken(struct desk *desk, unsigned count);
unsigned desk_count_taken(struct desk *desk);
/* Does a line have this text? Any thread. */
bool desk_has_logged(struct desk *desk, const char *text);
unsigned desk_count_lines(struct desk *desk);

/* Answer 200 with this text, or with the request's own target, and release. Returns the answer's
 * result. */
int desk_answer(struct kino_request *request, const char *text);
int desk_answer_target(struct kino_request *request);

/* Is the request's target this one? */
bool desk_is(const struct kino_request *request, const char *target);
/* Its state, but for what it says of bodies. */
int desk_state(const struct kino_request *request);
/* Does the request come to have all these bits before the deadline? */
bool desk_gets_state(const struct kino_request *request, int bits);

/* A handler that answers with the body where there is one, else with the target. */
void desk_echo(void *context, struct kino_request *request);

uint64_t now_ms(void);
int count_descriptors(void);

#endif
