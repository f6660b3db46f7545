/* SPDX-License-Identifier: MIT */
#include "server/server.h"

#include "base/abi.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "base/futex.h"
#include "base/thread.h"
#include "io/probe.h"
#include "server/accept.h"
#include "server/config.h"

#include <errno.h>
#include <limits.h>
#include <sys/prctl.h>
#include <unistd.h>

enum {
    LOOP_TIMER_SLACK_NS = 1000, /* a nap is 50 us; the default slack is as much again */
};

static const uint64_t not_draining = UINT64_MAX;
static const uint64_t drains_for_ever = UINT64_MAX - 1;

/* Life */

/* Keep the text of the `server` field, which the caller's memory need not. */
static int sign(struct kino_server *server)
{
    int rc = kn_signature_create(server->config.server_field, &server->signature);

    if (rc == KINO_INVALID)
        kn_log(&server->log, KINO_LOG_ERROR,
               "server_field cannot be sent: it has a control character, or is too long");
    server->config.server_field = (struct kino_slice){0};
    return rc;
}

int kino_server_create(const struct kino_config *config, struct kino_server **out)
{
    struct kino_server *server = kn_alloc_zeroed(sizeof(*server));
    int rc = 0;

    if (!server)
        return -ENOMEM;
    if (config)
        rc = kn_abi_read(&server->config, sizeof(server->config), config);
    server->log = (struct kn_log){server->config.log, server->config.log_context};
    server->loops_given = server->config.loops != 0;
    if (rc == 0)
        rc = kn_config_resolve(&server->config, &server->log);
    if (rc == 0)
        rc = sign(server);
    if (rc < 0) {
        kn_free(server);
        return rc;
    }
    server->limits = (struct kn_limits){
        .max_head_bytes = server->config.max_head_bytes,
        .max_fields = server->config.max_fields,
        .max_field_bytes = server->config.max_field_bytes,
        .max_target_bytes = server->config.max_target_bytes,
        .max_body_bytes = server->config.max_body_bytes,
        .max_chunk_line_bytes = server->config.max_chunk_line_bytes,
        .max_trailer_bytes = server->config.max_trailer_bytes,
    };
    pthread_mutex_init(&server->mutex, NULL);
    kn_list_init(&server->orphans);
    kn_list_init(&server->free_passages);
    kn_list_init(&server->stranded);
    kn_parking_init(&server->parking);
    atomic_init(&server->next_worker_id, 1);
    atomic_init(&server->drain_deadline_ms, not_draining);
    *out = server;
    return 0;
}

static void free_server(struct kino_server *server)
{
    kn_parking_deinit(&server->parking);
    kn_signature_drop(server->signature);
    pthread_mutex_destroy(&server->mutex);
    kn_listeners_forget(server);
    /* The loops are gone: no line follows. */
    kn_access_log_destroy(atomic_load(&server->access_log));
    kn_free(server->loops);
    kn_free(server);
}

/* In a child of the process that started it. Another thread may have been inside any structure when
 * the parent forked: so descriptors are closed, and nothing is walked or locked. */
static void forget_server(struct kino_server *server)
{
    kn_listeners_forget(server);
    for (unsigned i = 0; i < server->loop_count; i++)
        kn_loop_forget(&server->loops[i]);
    kn_access_log_forget(atomic_load(&server->access_log));
    kn_signature_drop(server->signature);
    kn_free(server->loops);
    kn_free(server);
}

static void join_threads(struct kino_server *server)
{
    if (server->config.dispatch == KINO_DISPATCH_INLINE)
        return;
    for (unsigned i = 0; i < server->loop_count; i++) {
        if (server->loops[i].driven)
            pthread_join(server->loops[i].thread, NULL);
        server->loops[i].driven = false;
    }
}

int kino_server_destroy(struct kino_server *server)
{
    if (!server)
        return 0;
    if (server->owner && server->owner != getpid()) {
        forget_server(server);
        return 0;
    }
    if (atomic_load(&server->workers) > 0 || (server->owner && !kn_server_drained(server)))
        return KINO_BUSY;
    kn_listeners_end(server);
    join_threads(server); /* all, before any loop goes: the last to end calls the others */
    for (unsigned i = 0; i < server->loop_count; i++)
        kn_loop_deinit(&server->loops[i]);
    free_server(server);
    return 0;
}

/* Starting */

static void *run_loop(void *argument)
{
    struct kn_loop *loop = argument;
    int rc = kn_loop_begin(loop, false);

    prctl(PR_SET_TIMERSLACK, LOOP_TIMER_SLACK_NS);
    loop->start_result = rc;
    atomic_store_explicit(&loop->reported, 1, memory_order_release);
    kn_futex_wake(&loop->reported, 1);
    while (rc == 0)
        rc = kn_loop_turn(loop, UINT64_MAX);
    return NULL;
}

static int start_thread(struct kn_loop *loop)
{
    int rc = kn_thread_start(&loop->thread, "kino-loop", loop->index, run_loop, loop);

    if (rc < 0)
        return rc;
    loop->driven = true;
    while (!atomic_load_explicit(&loop->reported, memory_order_acquire))
        kn_futex_wait(&loop->reported, 0, UINT64_MAX);
    return loop->start_result == KINO_CLOSED ? 0 : loop->start_result;
}

static int make_loops(struct kino_server *server)
{
    const unsigned count = (unsigned)server->config.loops;

    if (atomic_load(&server->loop_count) > 0)
        return 0; /* by a start that failed */
    server->loops = kn_alloc_zeroed(sizeof(*server->loops) * count);
    if (!server->loops)
        return -ENOMEM;
    for (unsigned i = 0; i < count; i++) {
        int rc = kn_loop_init(&server->loops[i], server, i, count);

        if (rc == 0)
            continue;
        while (i > 0)
            kn_loop_deinit(&server->loops[--i]);
        kn_free(server->loops);
        server->loops = NULL;
        return rc;
    }
    atomic_store(&server->loop_count, count);
    return 0;
}

/* Take back a start that failed half-way. The loops themselves stay: a signal handler may be
 * walking them in kino_server_drain. */
static void unmake(struct kino_server *server)
{
    atomic_store(&server->stopping, true);
    kn_server_call_loops(server);
    join_threads(server);
    if (atomic_load(&server->access_log))
        kn_access_log_stop(atomic_load(&server->access_log));
    kn_listeners_unbind(server);
    for (unsigned i = 0; i < server->loop_count; i++)
        atomic_store(&server->loops[i].reported, 0);
    atomic_store(&server->stopping, false);
}

int kino_server_start(struct kino_server *server)
{
    uint64_t features;
    int rc;

    if (server->owner)
        return KINO_BUSY;
    if (server->listener_count == 0)
        return KINO_INVALID;
    rc = kn_probe_try(&features);
    if (rc < 0) {
        kn_log(&server->log, KINO_LOG_ERROR, "cannot start: %s", kino_strerror(rc));
        return rc;
    }
    if (server->config.dispatch == KINO_DISPATCH_INLINE &&
        server->config.request_timeout_ms != KINO_OFF)
        kn_log(&server->log, KINO_LOG_WARNING,
               "request_timeout_ms by inline dispatch: a handler that is late is answered for only "
               "when it returns or waits for its request");
    rc = make_loops(server);
    if (rc == 0)
        rc = kn_listeners_bind(server);
    if (rc == 0 && atomic_load(&server->access_log))
        rc = kn_access_log_start(atomic_load(&server->access_log));
    if (server->config.dispatch != KINO_DISPATCH_INLINE)
        for (unsigned i = 0; rc == 0 && i < server->loop_count; i++)
            rc = start_thread(&server->loops[i]);
    if (rc < 0) {
        unmake(server);
        return rc;
    }
    kn_listeners_settle(server);
    server->owner = getpid();
    return 0;
}

/* Draining */

bool kn_server_draining(struct kino_server *server)
{
    return atomic_load(&server->drain_deadline_ms) != not_draining ||
           atomic_load(&server->stopping);
}

uint64_t kn_server_drain_deadline_ms(struct kino_server *server)
{
    return atomic_load(&server->stopping) ? 0 : atomic_load(&server->drain_deadline_ms);
}

void kn_server_call_loops(struct kino_server *server)
{
    const unsigned count = atomic_load(&server->loop_count);

    for (unsigned i = 0; i < count; i++)
        kn_mailbox_call(server->loops[i].mailbox);
}

bool kn_server_drained(struct kino_server *server)
{
    return atomic_load(&server->bits) & KN_SERVER_DRAINED;
}

static void set_bits(struct kino_server *server, uint32_t bits)
{
    atomic_fetch_or(&server->bits, bits);
    kn_futex_wake(&server->bits, INT_MAX);
}

bool kn_server_loop_begins(struct kino_server *server)
{
    atomic_fetch_add(&server->running, 1);
    if (!kn_server_draining(server))
        return true;
    kn_server_loop_ends(server);
    return false;
}

void kn_server_loop_ends(struct kino_server *server)
{
    if (atomic_fetch_sub(&server->running, 1) > 1 || !kn_server_draining(server) ||
        atomic_load(&server->stopping))
        return;
    set_bits(server, KN_SERVER_DRAINED);
    kn_parking_wake(&server->parking, UINT64_MAX);
}

int kino_server_drain(struct kino_server *server, uint64_t deadline_ms)
{
    const uint64_t now_ms = kn_clock_ns() / KN_NS_PER_MS;
    const uint64_t deadline =
        deadline_ms >= drains_for_ever - now_ms ? drains_for_ever : now_ms + deadline_ms;
    uint64_t current = atomic_load(&server->drain_deadline_ms);

    while (deadline < current &&
           !atomic_compare_exchange_weak(&server->drain_deadline_ms, &current, deadline))
        ;
    kn_server_call_loops(server);
    if (atomic_load(&server->running) == 0)
        set_bits(server, KN_SERVER_DRAINED);
    return 0;
}

int kino_server_wait(struct kino_server *server, uint64_t timeout_ms)
{
    const uint64_t deadline_ns = kn_clock_deadline(timeout_ms);

    for (;;) {
        const uint32_t bits = atomic_load(&server->bits);

        if (bits & KN_SERVER_DRAINED) {
            kn_listeners_end(server);
            return 0;
        }
        if (bits & KN_SERVER_INTERRUPTED) {
            if (atomic_fetch_and(&server->bits, ~(uint32_t)KN_SERVER_INTERRUPTED) &
                KN_SERVER_INTERRUPTED)
                return KINO_INTERRUPTED;
            continue;
        }
        if (kn_clock_ns() >= deadline_ns)
            return KINO_TIMED_OUT;
        kn_futex_wait(&server->bits, bits, deadline_ns);
    }
}

int kino_server_interrupt(struct kino_server *server)
{
    set_bits(server, KN_SERVER_INTERRUPTED);
    return 0;
}
