/* SPDX-License-Identifier: MIT */
#include "server/loop.h"

#include "base/clock.h"
#include "server/accept.h"
#include "server/conn.h"
#include "server/server.h"

#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>

void kn_loop_count_conns(struct kn_loop *loop)
{
    kn_stats_set(&loop->stats, KN_COUNT_CONNECTIONS_NOW, loop->conn_count);
}

void kn_loop_conn_closed(struct kn_loop *loop)
{
    loop->conn_count--;
    kn_loop_count_conns(loop);
    atomic_fetch_sub_explicit(&loop->server->connections, 1, memory_order_relaxed);
    kn_accept_resume(loop);
}

/* Draining and ending */

void kn_loop_exhausted(struct kn_loop *loop, enum kn_shortage shortage, const char *what)
{
    uint64_t *warned_ms = &loop->warned_ms[shortage];

    if (*warned_ms && loop->now_ms - *warned_ms < 1000)
        return;
    *warned_ms = loop->now_ms;
    kn_log(&loop->server->log, KINO_LOG_WARNING, "loop %u: %s", loop->index, what);
}

static void for_conns(struct kn_loop *loop, void (*fn)(struct kn_conn *))
{
    struct kn_list *link = loop->conns.next;

    while (link != &loop->conns) {
        struct kn_conn *conn = kn_container_of(link, struct kn_conn, link);

        link = link->next; /* a connection is freed only by a completion, not in here */
        fn(conn);
    }
}

/* Follow the server into its drain, and past its deadline. */
static void check_drain(struct kn_loop *loop)
{
    if (!kn_server_draining(loop->server))
        return;
    if (!loop->draining) {
        loop->draining = true;
        kn_accept_stop(loop);
        loop->quiet = false;
    }
    if (!loop->idle_closed) {
        /* Requests that have arrived come first. One turn may not see them all: the kernel runs
         * only some of the deferred work at a time, and buffers may be short. */
        if ((!loop->quiet || !kn_list_empty(&loop->starved)) &&
            loop->now_ms < kn_server_drain_deadline_ms(loop->server))
            return;
        loop->idle_closed = true;
        for_conns(loop, kn_conn_drain);
    }
    if (kn_accept_ended(loop))
        kn_accept_close(loop);
    if (loop->now_ms >= kn_server_drain_deadline_ms(loop->server))
        for_conns(loop, kn_conn_cut);
    else
        kn_timer_set(&loop->wheel, &loop->resume_timer, loop->now_ms + KN_LOOP_RESUME_MS);
}

static void on_resume(struct kn_timer *timer)
{
    struct kn_loop *loop = kn_container_of(timer, struct kn_loop, resume_timer);

    check_drain(loop);
    kn_loop_push_queue(loop);
    if (!kn_list_empty(&loop->queue))
        kn_timer_set(&loop->wheel, &loop->resume_timer, loop->now_ms + KN_LOOP_RESUME_MS);
    kn_accept_resume(loop);
}

static bool may_end(const struct kn_loop *loop)
{
    /* A drain closes its sockets itself, with a last look at them. */
    const bool stopped = loop->leaving || (loop->draining && kn_list_empty(&loop->sockets));

    return stopped && loop->conn_count == 0 && kn_accept_ended(loop) &&
           kn_mailbox_empty(loop->mailbox);
}

/* The ring is gone. Others may have the sockets. */
static void ended(struct kn_loop *loop)
{
    struct kino_server *server = loop->server;
    struct kn_list *link;

    loop->begun = false;
    kn_loop_land_all(loop);
    pthread_mutex_lock(&server->mutex);
    loop->takes = false;
    while ((link = kn_list_shift(&loop->sockets))) {
        kn_list_append(&server->orphans, link);
        atomic_fetch_add(&server->orphan_count, 1);
    }
    pthread_mutex_unlock(&server->mutex);
    kn_mailbox_deliver(loop->mailbox, loop); /* connections passed to it go to others */
    kn_mailbox_leave(loop->mailbox);         /* its worker may now be destroyed by any thread */
    kn_server_call_loops(server);
    kn_server_loop_ends(server); /* last: the server may now be destroyed */
}

/* Nothing is in flight but the poll of the mailbox and the alarm. */
static void end(struct kn_loop *loop)
{
    if (loop->waking)
        kn_io_cancel(&loop->io, &loop->wake_op);
    if (loop->alarm_ms != UINT64_MAX)
        kn_io_cancel(&loop->io, &loop->alarm_op);
    while (loop->waking || loop->alarm_ms != UINT64_MAX) {
        kn_io_submit(&loop->io, 1, KN_NS_PER_MS);
        kn_io_reap(&loop->io);
    }
    kn_io_deinit(&loop->io);
    ended(loop);
}

void kn_loop_abandon(struct kn_loop *loop)
{
    if (!loop->begun)
        return;
    kn_io_forget(&loop->io);
    while (!kn_list_empty(&loop->conns))
        kn_conn_abandon(kn_container_of(loop->conns.next, struct kn_conn, link));
    kn_list_init(&loop->dirty);
    kn_list_init(&loop->starved);
    kn_list_init(&loop->to_read);
    atomic_fetch_sub_explicit(&loop->server->connections, loop->conn_count, memory_order_relaxed);
    loop->conn_count = 0;
    kn_loop_count_conns(loop);
    loop->waking = false;
    loop->alarm_ms = UINT64_MAX;
    for (struct kn_list *link = loop->sockets.next; link != &loop->sockets; link = link->next)
        kn_container_of(link, struct kn_socket, link)->accepting = false;
    ended(loop);
}

void kn_loop_leave(struct kn_loop *loop)
{
    if (!loop->begun)
        return;
    loop->leaving = true;
    kn_accept_stop(loop);
    kn_loop_turn(loop, 0); /* what is answered is at least tried */
    for_conns(loop, kn_conn_cut);
    while (loop->begun)
        if (kn_loop_turn(loop, kn_clock_ns() + KN_NS_PER_S) < 0)
            break;
    loop->leaving = false;
}

/* Turns */

static void on_wake(struct kn_op *op, const struct kn_completion *completion)
{
    struct kn_loop *loop = kn_container_of(op, struct kn_loop, wake_op);

    if (!completion->more)
        loop->waking = false;
}

static void on_alarm(struct kn_op *op, const struct kn_completion *completion)
{
    struct kn_loop *loop = kn_container_of(op, struct kn_loop, alarm_op);

    (void)completion;
    loop->alarm_ms = UINT64_MAX;
}

static void read_clock(struct kn_loop *loop)
{
    loop->now_ns = kn_clock_ns();
    loop->now_ms = loop->now_ns / KN_NS_PER_MS;
}

int kn_loop_begin(struct kn_loop *loop, bool migrates)
{
    const uint64_t most = loop->server->config.max_connections;
    int rc;

    if (!kn_server_loop_begins(loop->server))
        return KINO_CLOSED;
    rc = kn_io_init(&loop->io, most < KN_TABLE_MOST ? (unsigned)most : KN_TABLE_MOST, migrates);
    if (rc < 0) {
        kn_server_loop_ends(loop->server);
        return rc;
    }
    loop->begun = true;
    loop->polled = false;
    kn_mailbox_enter(loop->mailbox);
    loop->draining = false;
    loop->idle_closed = false;
    read_clock(loop);
    kn_wheel_init(&loop->wheel, loop->now_ms);
    kn_timer_init(&loop->resume_timer, on_resume);
    kn_accept_begin(loop);
    return 0;
}

static void flush_dirty(struct kn_loop *loop)
{
    struct kn_list *link;

    while ((link = kn_list_shift(&loop->dirty)))
        kn_conn_flush(kn_container_of(link, struct kn_conn, dirty));
}

/* Read more of the files whose turn it is. */
static void resume_reads(struct kn_loop *loop)
{
    loop->reads = 0;
    while (loop->reads < KN_LOOP_FILE_READS) {
        struct kn_list *link = kn_list_shift(&loop->to_read);

        if (!link)
            break;
        kn_conn_flush(kn_container_of(link, struct kn_conn, to_read));
    }
}

static void resume_starved(struct kn_loop *loop)
{
    struct kn_list *link;

    while ((link = kn_list_shift(&loop->starved)))
        kn_conn_receive(kn_container_of(link, struct kn_conn, starved));
}

/* How long the next wait may last: to its end, the next deadline, or not at all. */
static uint64_t wait_ns(struct kn_loop *loop, uint64_t deadline_ns)
{
    const uint64_t next_ms = kn_wheel_next_ms(&loop->wheel);
    const uint64_t next_ns = next_ms == UINT64_MAX ? UINT64_MAX : next_ms * KN_NS_PER_MS;
    uint64_t until_ns = deadline_ns < next_ns ? deadline_ns : next_ns;
    uint64_t now_ns;

    if (loop->lanes.due_ns < until_ns)
        until_ns = loop->lanes.due_ns;
    if (until_ns == UINT64_MAX)
        return UINT64_MAX;
    now_ns = kn_clock_ns();
    return until_ns > now_ns ? until_ns - now_ns : 0;
}

/* Submit what this turn began; sleep if the caller allows it and there is nothing to do. */
static int submit(struct kn_loop *loop, uint64_t deadline_ns)
{
    enum kn_mailbox_state state = loop->full_turn ? KN_MAILBOX_NAPPING : KN_MAILBOX_ASLEEP;
    uint64_t timeout_ns;
    int rc;

    if (deadline_ns == 0 || kn_io_pending(&loop->io) || may_end(loop))
        return kn_io_submit(&loop->io, 0, 0);
    timeout_ns = wait_ns(loop, deadline_ns);
    if (timeout_ns == 0 || !kn_mailbox_sleep(loop->mailbox, state))
        return kn_io_submit(&loop->io, 0, 0);
    if (loop->full_turn && timeout_ns > KN_LOOP_NAP_NS)
        rc = kn_io_submit(&loop->io, KN_LOOP_BUSY, KN_LOOP_NAP_NS);
    else
        rc = kn_io_submit(&loop->io, 1, timeout_ns);
    kn_mailbox_awake(loop->mailbox);
    return rc;
}

/* Read the clock. True: the driver was away for long, because its handler was. */
static bool was_away(struct kn_loop *loop)
{
    const uint64_t last_ms = loop->now_ms;

    read_clock(loop);
    return loop->now_ms - last_ms > KN_WHEEL_TICK_MS;
}

/* See what has arrived, before deadlines are judged: the kernel hands over only some at a time. */
static void catch_up(struct kn_loop *loop)
{
    for (unsigned i = 0; i < KN_LOOP_CATCH_UP; i++) {
        resume_starved(loop);
        kn_io_submit(&loop->io, 0, 0);
        if (kn_io_reap(&loop->io) == 0)
            return;
    }
}

/* By edges, because nobody reads them. */
static int watch(const struct kn_loop *loop, int fd)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLET};

    return epoll_ctl(loop->poll_fd, EPOLL_CTL_ADD, fd, &event) < 0 && errno != EEXIST ? -errno : 0;
}

/* The mailbox's own, too: an eventfd that is written for another one may come late or not at all.
 */
int kn_loop_fd(struct kn_loop *loop)
{
    const int ring_fd = kn_io_fd(&loop->io);
    int rc;

    if (ring_fd < 0)
        return ring_fd;
    if (loop->poll_fd < 0)
        loop->poll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (loop->poll_fd < 0)
        return -errno;
    rc = watch(loop, ring_fd);
    if (rc == 0)
        rc = watch(loop, loop->mailbox->wake_fd);
    if (rc < 0)
        return rc;
    loop->polled = true;
    return loop->poll_fd;
}

/* Make it unreadable, until something happens from here on. */
static void hush(const struct kn_loop *loop)
{
    struct epoll_event events[2];

    epoll_wait(loop->poll_fd, events, 2, 0);
}

/* Have the ring tell when the next deadline has passed. */
static void set_alarm(struct kn_loop *loop)
{
    const uint64_t next_ms = kn_wheel_next_ms(&loop->wheel);
    const bool in_flight = loop->alarm_ms != UINT64_MAX;

    if (next_ms >= loop->alarm_ms)
        return; /* it will be early, which does no harm */
    loop->alarm_ms = next_ms;
    loop->alarm_at.tv_sec = (long long)(next_ms / 1000);
    loop->alarm_at.tv_nsec = (long long)(next_ms % 1000 * KN_NS_PER_MS);
    if (in_flight)
        kn_io_move_alarm(&loop->io, &loop->alarm_op, &loop->alarm_at);
    else
        kn_io_alarm(&loop->io, &loop->alarm_op, &loop->alarm_at);
}

/* Is there something to be done of which no completion will tell? */
static bool has_more_to_do(const struct kn_loop *loop)
{
    return !kn_list_empty(&loop->dirty) || !kn_list_empty(&loop->starved) ||
           (loop->draining && !loop->idle_closed);
}

bool kn_loop_rest(struct kn_loop *loop)
{
    if (!loop->begun)
        return true;
    if (has_more_to_do(loop))
        return false;
    hush(loop);
    set_alarm(loop);
    return kn_io_rest(&loop->io) && kn_mailbox_sleep(loop->mailbox, KN_MAILBOX_ASLEEP);
}

int kn_loop_turn(struct kn_loop *loop, uint64_t deadline_ns)
{
    unsigned completions;
    bool away;
    int rc;

    if (!loop->begun)
        return KINO_CLOSED;
    loop->published = 0;
    if (loop->polled)
        kn_mailbox_awake(loop->mailbox); /* the driver rested outside */
    away = was_away(loop);
    if (!loop->waking) {
        loop->waking = true;
        kn_io_poll(&loop->io, &loop->wake_op, loop->mailbox->wake_fd);
    }
    if (kn_mailbox_deliver(loop->mailbox, loop))
        deadline_ns = 0; /* an interrupt may be what the caller is to see */
    check_drain(loop);
    if (loop->draining && !loop->idle_closed)
        deadline_ns = 0;
    kn_accept_adopt(loop);
    kn_loop_push_queue(loop);
    resume_starved(loop);
    resume_reads(loop);
    flush_dirty(loop);
    if (loop->published > 0 || !kn_list_empty(&loop->to_read))
        deadline_ns = 0;
    rc = submit(loop, deadline_ns);
    read_clock(loop);
    completions = kn_io_reap(&loop->io);
    loop->quiet = completions == 0;
    loop->full_turn = completions >= KN_LOOP_BUSY;
    if (away)
        catch_up(loop);
    kn_wheel_advance(&loop->wheel, loop->now_ms);
    kn_lanes_wake(&loop->lanes, &loop->server->parking, loop->now_ns);
    if (may_end(loop)) {
        end(loop);
        return KINO_CLOSED;
    }
    if (rc == 0 || rc == -EINTR || rc == -EBUSY || rc == -EAGAIN || rc == -ENOMEM)
        return 0;
    kn_log(&loop->server->log, KINO_LOG_ERROR, "loop %u cannot go on: io_uring_enter: %s",
           loop->index, kino_strerror(rc));
    kn_loop_abandon(loop);
    return rc;
}

/* Life */

int kn_loop_init(struct kn_loop *loop, struct kino_server *server, unsigned index, unsigned count)
{
    const uint64_t depth = server->config.queue_depth / count;
    const bool one_each = server->config.dispatch == KINO_DISPATCH_LANES;
    int rc;

    *loop = (struct kn_loop){.server = server, .index = index, .poll_fd = -1};
    kn_list_init(&loop->sockets);
    kn_list_init(&loop->conns);
    kn_list_init(&loop->dirty);
    kn_list_init(&loop->starved);
    kn_list_init(&loop->to_read);
    kn_list_init(&loop->live);
    kn_list_init(&loop->queue);
    kn_list_init(&loop->free_exchanges);
    loop->wake_op.fn = on_wake;
    loop->alarm_op.fn = on_alarm;
    loop->alarm_ms = UINT64_MAX;
    rc = kn_lanes_init(&loop->lanes, depth > 0 ? depth : 1, one_each);
    if (rc < 0)
        return rc;
    rc = kn_mailbox_create(loop, &loop->mailbox);
    if (rc < 0)
        kn_lanes_deinit(&loop->lanes);
    return rc;
}

static void close_poll(struct kn_loop *loop)
{
    if (loop->poll_fd >= 0)
        close(loop->poll_fd);
    loop->poll_fd = -1;
}

void kn_loop_deinit(struct kn_loop *loop)
{
    struct kino_request *request;
    struct kn_list *link;

    /* Nobody will take these any more. */
    while ((request = kn_lanes_pop(&loop->lanes, 0)))
        kino_request_release(request);
    kn_mailbox_close(loop->mailbox, loop);
    while ((link = kn_list_shift(&loop->free_exchanges)))
        kn_exchange_destroy(kn_container_of(link, struct kino_request, live));
    while (loop->spare_count > 0)
        kn_buf_deinit(&loop->spares[--loop->spare_count]);
    while (loop->large_count > 0)
        kn_buf_deinit(&loop->large[--loop->large_count]);
    close_poll(loop);
    kn_lanes_deinit(&loop->lanes);
    kn_mailbox_drop(loop->mailbox);
}

void kn_loop_forget(struct kn_loop *loop)
{
    kn_io_forget(&loop->io);
    close_poll(loop);
    kn_mailbox_forget(loop->mailbox);
    kn_mailbox_drop(loop->mailbox);
}
