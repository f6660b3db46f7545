/* SPDX-License-Identifier: MIT */
/* A server whose handlers do all that a handler can, and count what they lend; set up whatever
 * fails once, and taken down with nothing left over. */
#ifndef TEST_FAULT_STAGE_H
#define TEST_FAULT_STAGE_H

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/fault.h"
#include "kino.h"
#include "support/client.h"
#include "support/test.h"

enum {
    STAGE_WORKERS = 2,
    STAGE_LOANS_MOST = 256,
    STAGE_LENT_BYTES = 5000,
    STAGE_FILE_BYTES = 200000,
    STAGE_LARGE_FILE_BYTES = 8 << 20,
    STAGE_BODY_BYTES = 3000,
};

/* Something lent. Shared. */
struct loan {
    _Atomic int returned;
    bool taken; /* the library said so */
};

/* A server with its workers, and what its handlers lent. */
struct stage {
    struct kino_server *server;
    struct kino_worker *workers[STAGE_WORKERS];
    pthread_t threads[STAGE_WORKERS];
    int port;
    int file;
    _Atomic unsigned ready; /* workers that serve */
    _Atomic unsigned loan_count;
    struct loan loans[STAGE_LOANS_MOST];
    _Atomic int wrong; /* handlers count here what they cannot assert */
};

/* What /lent-whole answers, and something to send. */
extern char stage_lent_bytes[STAGE_LENT_BYTES];
extern char stage_body_bytes[STAGE_BODY_BYTES];

/* Skips the test where io_uring is not to be had. */
void stage_require(void);
struct stage *stage_open(uint64_t dispatch);
/* /large-file needs this one. */
struct stage *stage_open_with_file(uint64_t dispatch, size_t len);
/* Drain and destroy, and see that all that was lent has come back once. */
void stage_close(struct stage *stage);

/* A client that comes now finds the server in good health. */
void stage_assert_serving(const struct stage *stage);
int stage_count_descriptors(void);

#define TEST_BY(suite, name, how, which)                                                           \
    Test(suite, name##_##how)                                                                      \
    {                                                                                              \
        suite##_##name##_in_each(which);                                                           \
    }

/* A test that runs once for each dispatch. */
#define TestEach(suite, name)                                                                      \
    static void suite##_##name##_in_each(uint64_t dispatch);                                       \
    TEST_BY(suite, name, by_queue, KINO_DISPATCH_QUEUE)                                            \
    TEST_BY(suite, name, by_lanes, KINO_DISPATCH_LANES)                                            \
    TEST_BY(suite, name, inline, KINO_DISPATCH_INLINE)                                             \
    static void suite##_##name##_in_each(uint64_t dispatch)

/* The same but by lanes, which are to the ring what the queue is. */
#define TestMost(suite, name)                                                                      \
    static void suite##_##name##_in_each(uint64_t dispatch);                                       \
    TEST_BY(suite, name, by_queue, KINO_DISPATCH_QUEUE)                                            \
    TEST_BY(suite, name, inline, KINO_DISPATCH_INLINE)                                             \
    static void suite##_##name##_in_each(uint64_t dispatch)

#endif
