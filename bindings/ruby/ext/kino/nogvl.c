/* SPDX-License-Identifier: MIT */
/* The one file that releases the lock of Ruby's virtual machine. */
#include "kino_ext.h"

#include <limits.h>
#include <linux/futex.h>
#include <ruby/thread.h>
#include <sys/syscall.h>
#include <unistd.h>

struct server_sleep {
    struct kino_server *server;
    uint64_t timeout_ms;
    int result;
};

struct worker_sleep {
    struct ext_worker *worker;
    int result;
};

static void *sleep_in_worker(void *argument)
{
    struct worker_sleep *sleep = argument;

    /* Only here is it sure that the virtual machine has let this thread go: whoever starts the next
     * one waits for this. */
    ext_worker_begin(sleep->worker);
    sleep->result = kino_worker_wait(sleep->worker->kino, KINO_OFF);
    return NULL;
}

static void wake_worker(void *argument)
{
    kino_worker_interrupt(argument);
}

int ext_sleep_in_worker(struct ext_worker *worker)
{
    struct worker_sleep sleep = {.worker = worker, .result = KINO_INTERRUPTED};

    rb_nogvl(sleep_in_worker, &sleep, wake_worker, worker->kino, RB_NOGVL_INTR_FAIL);
    return sleep.result;
}

static void *sleep_in_server(void *argument)
{
    struct server_sleep *sleep = argument;

    sleep->result = kino_server_wait(sleep->server, sleep->timeout_ms);
    return NULL;
}

static void wake_server(void *argument)
{
    kino_server_interrupt(argument);
}

int ext_sleep_in_server(struct ext_server *server, uint64_t timeout_ms)
{
    struct server_sleep sleep = {
        .server = server->kino, .timeout_ms = timeout_ms, .result = KINO_INTERRUPTED};

    rb_nogvl(sleep_in_server, &sleep, wake_server, server->kino, RB_NOGVL_INTR_FAIL);
    return sleep.result;
}

/* Ruby's own sleep would do for this in the main Ractor; in others a short one may never end. */
struct begin_sleep {
    struct ext_server *server;
    struct ext_worker *worker;
    uint32_t count;
    int result;
};

/* An inline worker's first wait makes its loop listen. */
static int begin(struct ext_worker *worker)
{
    int rc = kino_worker_wait(worker->kino, 0);

    if (rc < 0 && rc != KINO_TIMED_OUT && rc != KINO_INTERRUPTED && rc != KINO_CLOSED)
        return rc;
    ext_worker_begin(worker);
    return 0;
}

static void *sleep_until_begun(void *argument)
{
    static const struct timespec most = {.tv_nsec = EXT_BEGIN_SLEEP_MS * 1000000L};
    struct begin_sleep *sleep = argument;
    uint32_t begun;

    sleep->result = sleep->worker ? begin(sleep->worker) : 0;
    begun = atomic_load(&sleep->server->begun);
    if (sleep->result == 0 && begun < sleep->count)
        syscall(SYS_futex, &sleep->server->begun, FUTEX_WAIT_PRIVATE, begun, &most, NULL, 0);
    return NULL;
}

/* One that comes too early is lost, but the sleep is short. */
static void wake_begun(void *argument)
{
    struct ext_server *server = argument;

    syscall(SYS_futex, &server->begun, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

int ext_sleep_until_begun(struct ext_server *server, struct ext_worker *worker, uint32_t count)
{
    struct begin_sleep sleep = {.server = server, .worker = worker, .count = count};

    rb_nogvl(sleep_until_begun, &sleep, wake_begun, server, RB_NOGVL_INTR_FAIL);
    if (sleep.result == 0 && atomic_load(&server->begun) < count)
        return KINO_AGAIN;
    return sleep.result;
}

void ext_worker_begin(struct ext_worker *worker)
{
    if (worker->begun)
        return;
    worker->begun = true;
    atomic_fetch_add(&worker->server->begun, 1);
    wake_begun(worker->server);
}

bool ext_pin_thread(void)
{
#ifdef HAVE_RB_THREAD_LOCK_NATIVE_THREAD
    rb_thread_lock_native_thread();
    return true;
#else
    return false;
#endif
}
