/* SPDX-License-Identifier: MIT */
#include "server/loop.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "server/accept.h"
#include "server/conn.h"
#include "server/server.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

/* Exchanges */

struct kino_request *kn_loop_exchange(struct kn_loop *loop)
{
    struct kn_list *link = kn_list_shift(&loop->free_exchanges);
    struct kino_request *request;

    if (link) {
        request = kn_container_of(link, struct kino_request, live);
        loop->free_count--;
    } else {
        request = kn_exchange_create(loop->mailbox, loop->server->signature, kn_loop_on_mail);
        if (!request) {
            kn_loop_exhausted(loop, KN_SHORT_OF_MEMORY,
                              "no memory for a request: closing its connection");
            return NULL;
        }
    }
    if (!request->out.first.data && loop->spare_count > 0)
        request->out.first = loop->spares[--loop->spare_count];
    return request;
}

void kn_loop_recycle(struct kn_loop *loop, struct kino_request *request)
{
    kn_list_remove(&request->order);
    kn_list_remove(&request->live);
    kn_list_remove(&request->queue);
    if (loop->free_count == KN_LOOP_KEEP_EXCHANGES) {
        kn_exchange_destroy(request);
        return;
    }
    kn_exchange_reset(request, KN_LOOP_KEEP_BYTES);
    kn_list_prepend(&loop->free_exchanges, &request->live);
    loop->free_count++;
}

static bool keep(struct kn_buf *spares, unsigned *count, unsigned most, struct kn_buf *buf)
{
    if (*count == most)
        return false;
    buf->len = 0;
    spares[(*count)++] = *buf;
    *buf = (struct kn_buf){0};
    return true;
}

void kn_loop_spare(struct kn_loop *loop, struct kn_buf *buf)
{
    if (!buf->data)
        return;
    if (buf->cap <= KN_LOOP_KEEP_BYTES
            ? keep(loop->spares, &loop->spare_count, KN_LOOP_SPARES, buf)
            : buf->cap <= KN_LOOP_LARGE_BYTES &&
                  keep(loop->large, &loop->large_count, KN_LOOP_LARGE_SPARES, buf))
        return;
    kn_buf_deinit(buf);
}

int kn_loop_enlarge(struct kn_loop *loop, struct kn_buf *buf, size_t extra)
{
    struct kn_buf larger;

    if (buf->cap - buf->len >= extra)
        return 0;
    if (loop->large_count > 0 && loop->large[loop->large_count - 1].cap >= buf->len + extra) {
        larger = loop->large[--loop->large_count];
    } else {
        /* As large as any is, so that it serves the next file, too. */
        larger = (struct kn_buf){0};
        if (kn_buf_allocate(&larger, buf->len + extra < KN_LOOP_LARGE_BYTES ? KN_LOOP_LARGE_BYTES
                                                                            : buf->len + extra) < 0)
            return -ENOMEM;
    }
    if (buf->len > 0)
        kn_buf_put(&larger, buf->data, buf->len);
    kn_loop_spare(loop, buf);
    kn_buf_swap(buf, &larger);
    return 0;
}

static bool push(struct kn_loop *loop, struct kino_request *request)
{
    atomic_store_explicit(&request->users, 1, memory_order_relaxed);
    request->dispatched = true;
    if (!kn_lanes_push(&loop->lanes, request)) {
        request->dispatched = false;
        return false;
    }
    if (++loop->published >= KN_LOOP_BATCH)
        kn_io_pause(&loop->io);
    request->in_flight = true;
    kn_stats_add(&loop->stats, KN_COUNT_IN_FLIGHT, 1);
    return true;
}

/* It is answered, or never will be. */
static void land(struct kn_loop *loop, struct kino_request *request)
{
    if (!request->in_flight)
        return;
    request->in_flight = false;
    kn_stats_subtract(&loop->stats, KN_COUNT_IN_FLIGHT, 1);
}

void kn_loop_publish(struct kn_loop *loop, struct kino_request *request)
{
    const uint64_t timeout_ms = loop->server->config.request_timeout_ms;

    kn_list_append(&loop->live, &request->live);
    kn_stats_add(&loop->stats, KN_COUNT_REQUESTS, 1);
    request->published_ns = loop->now_ns;
    if (timeout_ms != KINO_OFF) {
        request->due_ms = kn_clock_after(loop->now_ms, timeout_ms);
        kn_conn_await(request->conn, request);
    }
    if (kn_list_empty(&loop->queue) && push(loop, request))
        return;
    kn_stats_add(&loop->stats, KN_COUNT_QUEUE_FULL, 1);
    request->queued_ms = loop->now_ms;
    kn_list_append(&loop->queue, &request->queue);
    kn_timer_set(&loop->wheel, &loop->resume_timer, loop->now_ms + KN_LOOP_RESUME_MS);
}

/* If it is in the queue, take it out: no user has seen it, nor will. */
static void withdraw(struct kino_request *request)
{
    if (kn_list_empty(&request->queue))
        return;
    kn_list_remove(&request->queue);
    request->released = true;
    request->conn->open--;
}

/* What was claimed for it gets a status of ours. */
static void fail(struct kn_loop *loop, struct kino_request *request, unsigned status)
{
    withdraw(request);
    land(loop, request);
    request->failure = status;
    request->answered = true;
}

void kn_loop_refuse(struct kino_request *request, unsigned status)
{
    if (kn_exchange_claim(request))
        fail(request->conn->loop, request, status);
}

/* Answer with a status of ours what nobody has answered. False: somebody has. */
static bool answer_for(struct kn_loop *loop, struct kino_request *request, unsigned status)
{
    if (!kn_exchange_claim(request))
        return false;
    fail(loop, request, status);
    if (request->conn && !request->taken)
        kn_conn_answered(request->conn);
    return true;
}

void kn_loop_answer_late(struct kino_request *request)
{
    struct kn_loop *loop = request->conn->loop;

    if (!kn_exchange_claim(request))
        return;
    kn_exchange_tell(request, KINO_STATE_TIMED_OUT);
    fail(loop, request, 504);
    kn_conn_answered(request->conn);
    kn_stats_add(&loop->stats, KN_COUNT_REQUEST_TIMEOUTS, 1);
}

/* Requests that waited for a place in the lanes. */
static void push_queue(struct kn_loop *loop)
{
    const uint64_t timeout_ms = loop->server->config.queue_timeout_ms;

    while (!kn_list_empty(&loop->queue)) {
        struct kino_request *request =
            kn_container_of(loop->queue.next, struct kino_request, queue);

        if (push(loop, request)) {
            kn_list_remove(&request->queue);
        } else if (loop->now_ms - request->queued_ms >= timeout_ms) {
            answer_for(loop, request, 503);
            kn_stats_add(&loop->stats, KN_COUNT_QUEUE_TIMEOUTS, 1);
            kn_loop_exhausted(loop, KN_SHORT_OF_WORKERS,
                              "the queue was full for queue_timeout_ms: answering 503");
        } else {
            return;
        }
    }
}

void kn_loop_on_mail(struct kn_mail *mail, void *driver)
{
    struct kn_loop *loop = driver;
    struct kino_request *request = kn_container_of(mail, struct kino_request, mail);
    const uint32_t facts = atomic_exchange(&request->facts, 0);
    struct kn_conn *conn = request->conn;

    if (facts & (KN_FACT_ANSWERED | KN_FACT_ABORTED | KN_FACT_RELEASED))
        land(loop, request);
    if (facts & KN_FACT_ANSWERED)
        request->answered = true;
    if (facts & KN_FACT_STREAM)
        request->streams = true;
    if (facts & KN_FACT_RELEASED) {
        request->released = true;
        if (conn)
            conn->open--;
    }
    if (!conn) {
        if (request->released)
            kn_loop_recycle(loop, request);
        else
            kn_exchange_discard(request);
        return;
    }
    if (facts & KN_FACT_STREAM)
        kn_conn_go_on(conn);
    if (!request->taken) {
        if (facts & KN_FACT_ABORTED)
            kn_conn_aborted(conn, request);
        else
            kn_conn_answered(conn);
    } else if (request->released) {
        kn_conn_released(conn, request);
    }
}

/* Is it still to be answered, or written to its end? */
static bool is_unfinished(struct kino_request *request)
{
    const uint32_t state = atomic_load(&request->state);

    return !(state & KINO_STATE_ANSWERED) ||
           ((state & KN_STATE_STREAMING) && !(state & KN_STATE_FINISHED));
}

static struct kino_request *find_unfinished(struct kn_loop *loop, uint64_t worker_id)
{
    for (struct kn_list *link = loop->live.next; link != &loop->live; link = link->next) {
        struct kino_request *request = kn_container_of(link, struct kino_request, live);

        if (atomic_load_explicit(&request->worker_id, memory_order_relaxed) == worker_id &&
            !request->taken && is_unfinished(request))
            return request;
    }
    return NULL;
}

void kn_loop_abort_worker(struct kn_loop *loop, uint64_t worker_id, unsigned status)
{
    struct kino_request *request;

    /* From the start each time: an answer may end a connection, and take others off the list. */
    while ((request = find_unfinished(loop, worker_id))) {
        atomic_store_explicit(&request->worker_id, 0, memory_order_relaxed);
        if (!answer_for(loop, request, status) && request->conn && is_unfinished(request))
            kn_conn_aborted(request->conn, request); /* a stream that nobody will finish */
    }
}

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
    push_queue(loop);
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

/* What users still have gets no answer any more, and what they tell is perhaps never looked at. */
static void land_all(struct kn_loop *loop)
{
    for (struct kn_list *link = loop->live.next; link != &loop->live; link = link->next)
        land(loop, kn_container_of(link, struct kino_request, live));
}

/* The ring is gone. Others may have the sockets. */
static void ended(struct kn_loop *loop)
{
    struct kino_server *server = loop->server;
    struct kn_list *link;

    loop->begun = false;
    land_all(loop);
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
    push_queue(loop);
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
