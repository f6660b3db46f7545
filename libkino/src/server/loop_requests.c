/* SPDX-License-Identifier: MIT */
/* Requests between a loop's connections and the workers: their memory, their way out and back. */
#include "base/clock.h"
#include "server/conn.h"
#include "server/loop.h"
#include "server/server.h"

/* Memory */

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

/* Out to the workers, and back */

static bool push(struct kn_loop *loop, struct kino_request *request)
{
    atomic_store_explicit(&request->users, 1, memory_order_relaxed);
    request->dispatched = true;
    if (!kn_lanes_push(&loop->lanes, request)) {
        request->dispatched = false;
        return false;
    }
    if (++loop->published % KN_LOOP_BATCH == 0)
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

void kn_loop_land_all(struct kn_loop *loop)
{
    for (struct kn_list *link = loop->live.next; link != &loop->live; link = link->next)
        land(loop, kn_container_of(link, struct kino_request, live));
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

void kn_loop_push_queue(struct kn_loop *loop)
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
