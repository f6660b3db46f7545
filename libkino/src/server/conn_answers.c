/* SPDX-License-Identifier: MIT */
/* From answers, in the order of their requests, to bytes that are sent. */
#include "base/clock.h"
#include "server/conn.h"
#include "server/loop.h"
#include "server/server.h"

#include <assert.h>
#include <errno.h>

enum {
    RETRY_AFTER_S = 1,
};

static struct kino_request *first_due(struct kn_conn *conn)
{
    if (kn_list_empty(&conn->order))
        return NULL;
    return kn_container_of(conn->order.next, struct kino_request, order);
}

void kn_conn_send_continue(struct kn_conn *conn)
{
    if (!kn_list_empty(&conn->order)) {
        conn->continue_due = true; /* after the answers before it */
        return;
    }
    conn->continue_due = false;
    kn_stats_response(&conn->loop->stats, 100);
    kn_conn_go_on(conn);
    if (kn_response_write_continue(&conn->out) < 0)
        kn_conn_cut(conn);
}

static void forget(struct kn_conn *conn, struct kino_request *request)
{
    struct kn_loop *loop = conn->loop;

    if (conn->reading == request)
        kn_conn_end_reading(conn);
    if (conn->raw == request)
        conn->raw = NULL;
    if (!request->taken) /* of a stream there may have been something */
        kn_conn_log_access(conn, request, request->counted ? request->framing.status : 0,
                           request->handed);
    kn_list_remove(&request->order);
    request->conn = NULL;
    if (!request->dispatched || request->released)
        kn_loop_recycle(loop, request);
    else
        kn_exchange_sever(request, KINO_STATE_DISCONNECTED);
}

void kn_conn_forget_all(struct kn_conn *conn, struct kn_list *list)
{
    while (!kn_list_empty(list))
        forget(conn, kn_container_of(list->next, struct kino_request, order));
}

/* What became of the answer that is due. */
struct progress {
    bool done;
    bool keep_alive;     /* the connection may go on after it */
    unsigned status;     /* once it is known; else 0 */
    uint64_t body_bytes; /* that were handed to the connection */
};

static int take_failure(struct kn_conn *conn, struct kino_request *request,
                        struct progress *progress)
{
    const unsigned retry_after_s = request->failure == 503 ? RETRY_AFTER_S : 0;
    const uint32_t state = atomic_load_explicit(&request->state, memory_order_relaxed);
    /* A copy: a user may be reading it, to no avail. */
    struct kn_framing framing = request->framing;
    const bool is_last = conn->last && request->order.next == &conn->order;
    int rc;

    if (conn->loop->draining || (state & KN_STATE_BODY_OPEN) || is_last)
        framing.keep_alive = false; /* the rest of its body is still to come, or will never */
    rc = kn_response_write_error(&conn->out, request->failure, retry_after_s, &framing);
    *progress = (struct progress){.done = true,
                                  .keep_alive = framing.keep_alive,
                                  .status = request->failure,
                                  .body_bytes = framing.sent};
    return rc;
}

/* Does its answer, which has begun, come piece by piece? */
static bool is_stream(const struct kino_request *request)
{
    return request->answered && !request->failure &&
           (atomic_load_explicit(&request->state, memory_order_relaxed) & KN_STATE_STREAMING);
}

static int take_stream(struct kn_conn *conn, struct kino_request *request,
                       struct progress *progress)
{
    unsigned interims;
    int end;

    if (kn_chain_len(&conn->out) >= KN_CONN_OUT_MOST)
        return 0; /* the client is slower: so is the writer, then */
    end = kn_exchange_take_stream(request, &conn->out, &interims);
    if (end < 0)
        return end;
    while (interims-- > 0)
        kn_stats_response(&conn->loop->stats, 100);
    if (!is_stream(request))
        return 0;
    progress->status = request->framing.status;
    if (end != KN_STREAM_GOES_ON) {
        progress->done = true;
        progress->keep_alive = end == KN_STREAM_FINISHED && request->framing.keep_alive;
        progress->body_bytes = request->handed;
    }
    return 0;
}

static int take_whole(struct kn_conn *conn, struct kino_request *request, struct progress *progress)
{
    *progress = (struct progress){.done = true,
                                  .keep_alive = request->framing.keep_alive,
                                  .status = request->framing.status,
                                  .body_bytes = request->framing.sent};
    if (kn_chain_len(&conn->out) == 0)
        kn_loop_spare(conn->loop, &conn->out.first);
    return kn_chain_move(&conn->out, &request->out);
}

/* Move what is there of an answer into the output: perhaps interim ones before it, perhaps not all
 * of it. */
static int take_answer(struct kn_conn *conn, struct kino_request *request,
                       struct progress *progress)
{
    int rc = 0;

    *progress = (struct progress){0};
    if (request->streams)
        rc = take_stream(conn, request, progress);
    if (rc < 0 || !request->answered || is_stream(request))
        return rc;
    return request->failure ? take_failure(conn, request, progress)
                            : take_whole(conn, request, progress);
}

/* The connection is done with this exchange; it may go when its users are done too. */
static void settle(struct kn_conn *conn, struct kino_request *request, bool *keep_alive)
{
    request->taken = true;
    if (conn->raw == request || conn->reading == request) {
        /* There may be more for it to come, which nobody reads. */
        conn->rejected = true;
        *keep_alive = false;
        if (conn->reading == request)
            kn_conn_end_reading(conn);
        conn->raw = NULL;
        kn_exchange_end_body(request, KN_BODY_BROKEN);
    }
    if (request->released) {
        forget(conn, request);
        return;
    }
    kn_list_remove(&request->order);
    kn_list_append(&conn->held, &request->order);
}

/* The connection closes: what was asked from `first` on, or is being read, gets no answer. */
static void end_order(struct kn_conn *conn, struct kn_list *first)
{
    struct kn_list *next;

    conn->last = true;
    for (; first != &conn->order; first = next) {
        next = first->next;
        forget(conn, kn_container_of(first, struct kino_request, order));
    }
    if (!conn->reading)
        return;
    conn->rejected = true;
    kn_conn_drop_partial(conn);
}

/* Has it become raw bytes, from now on? */
static bool switches(const struct kn_conn *conn, const struct kino_request *request)
{
    return !conn->raw && request->answered && !request->failure &&
           (atomic_load_explicit(&request->state, memory_order_relaxed) & KN_STATE_RAW);
}

/* Move what there is of answers into the output, in their order. */
static void pump(struct kn_conn *conn)
{
    struct kino_request *request;

    while ((request = first_due(conn)) && (request->answered || request->streams)) {
        struct progress progress;

        if (take_answer(conn, request, &progress) < 0) {
            kn_conn_cut(conn);
            return;
        }
        if (progress.status && !request->counted) {
            request->counted = true;
            kn_conn_count_answer(conn, request, progress.status);
        }
        if (!progress.done)
            break;
        kn_conn_log_access(conn, request, progress.status, progress.body_bytes);
        settle(conn, request, &progress.keep_alive);
        if (!progress.keep_alive)
            end_order(conn, conn->order.next);
    }
    if (request && switches(conn, request))
        kn_conn_switch(conn);
    if (request && !request->dispatched && !request->answered && kn_list_empty(&request->queue))
        kn_loop_publish(conn->loop, request);
    if (!request && conn->continue_due)
        kn_conn_send_continue(conn);
}

void kn_conn_answered(struct kn_conn *conn)
{
    pump(conn);
    kn_conn_mark_dirty(conn);
}

static bool is_due(const struct kn_conn *conn, const struct kino_request *request)
{
    for (const struct kn_list *link = conn->order.next; link != &conn->order; link = link->next)
        if (link == &request->order)
            return true;
    return false;
}

bool kn_conn_end_at(struct kn_conn *conn, struct kino_request *request)
{
    pump(conn); /* what was written before leaves; or the connection ends, and takes it along */
    if (!is_due(conn, request))
        return false;
    end_order(conn, &request->order);
    kn_conn_mark_dirty(conn);
    return true;
}

void kn_conn_aborted(struct kn_conn *conn, struct kino_request *request)
{
    if (kn_conn_end_at(conn, request))
        kn_stats_add(&conn->loop->stats, KN_COUNT_ABORTED, 1);
}

void kn_conn_released(struct kn_conn *conn, struct kino_request *request)
{
    assert(request->taken && request->released);
    forget(conn, request);
    kn_conn_mark_dirty(conn); /* there may be room for the next */
}

static void watch_write(struct kn_conn *conn)
{
    const struct kino_config *config = kn_conn_config(conn);
    const uint64_t now_ms = conn->loop->now_ms;
    uint64_t silence_ms = kn_clock_after(now_ms, config->write_timeout_ms);
    uint64_t least_ms;

    /* The average is that of all answers: what the client has not read yet of one, because the
     * kernel took much, holds up the next. */
    if (!conn->write_since_ms)
        conn->write_since_ms = now_ms - conn->write_ms;
    least_ms = kn_conn_rate_deadline(conn->write_since_ms, conn->written,
                                     config->min_write_rate_bytes, config->rate_grace_ms);
    conn->write_deadline_ms = silence_ms < least_ms ? silence_ms : least_ms;
    kn_conn_arm(conn);
}

static void end_write(struct kn_conn *conn)
{
    if (!conn->write_since_ms)
        return;
    conn->write_ms = conn->loop->now_ms - conn->write_since_ms;
    conn->write_since_ms = 0;
}

static void start_send(struct kn_conn *conn)
{
    const unsigned count =
        kn_chain_gather(&conn->sending, conn->vectors, KN_CONN_VECTORS, KN_IO_SEND_MOST);

    conn->send_op.fn = kn_conn_on_send;
    conn->send_busy = true;
    conn->ops++;
    watch_write(conn);
    if (count == 1) {
        kn_io_send(&conn->loop->io, &conn->send_op, conn->file, conn->vectors[0].iov_base,
                   conn->vectors[0].iov_len);
        return;
    }
    conn->message = (struct msghdr){.msg_iov = conn->vectors, .msg_iovlen = count};
    kn_io_send_vectors(&conn->loop->io, &conn->send_op, conn->file, &conn->message);
}

static void on_read(struct kn_op *op, const struct kn_completion *completion);

/* Read the next part of a file behind what is to be sent before it. False: out of memory. */
static bool start_read(struct kn_conn *conn, const struct kn_piece *file)
{
    const size_t len = file->len < KN_CONN_FILE_BYTES ? (size_t)file->len : KN_CONN_FILE_BYTES;
    struct kn_buf *first = &conn->sending.first;

    kn_chain_pack(&conn->sending); /* little: so much would have been sent first */
    if (kn_loop_enlarge(conn->loop, first, len) < 0)
        return false;
    conn->loop->reads++;
    conn->send_op.fn = on_read;
    conn->send_busy = true;
    conn->ops++;
    kn_conn_set_write_deadline(conn, KINO_OFF); /* the disk's time is not the client's */
    kn_io_read(&conn->loop->io, &conn->send_op, file->descriptor, first->data + first->len, len,
               file->offset);
    return true;
}

/* Send what comes next, or read it first. */
static void send_next(struct kn_conn *conn)
{
    const struct kn_piece *file = kn_chain_file(&conn->sending);

    if (!file || conn->sending.first.len - conn->sending.used >= KN_CHAIN_JOIN_MOST)
        start_send(conn);
    else if (conn->loop->reads == KN_LOOP_FILE_READS)
        kn_list_append(&conn->loop->to_read, &conn->to_read);
    else if (!start_read(conn, file))
        kn_conn_cut(conn);
}

static void on_read(struct kn_op *op, const struct kn_completion *completion)
{
    struct kn_conn *conn = kn_container_of(op, struct kn_conn, send_op);

    conn->ops--;
    conn->send_busy = false;
    if (conn->closing) {
        kn_conn_close(conn);
    } else if (completion->result > 0) {
        kn_chain_read(&conn->sending, (size_t)completion->result);
        send_next(conn);
    } else if (completion->result == -ECANCELED || completion->result == -EBUSY ||
               completion->result == -EAGAIN) {
        send_next(conn); /* nobody cancelled it: the thread that began it has ended */
    } else {
        kn_log(&conn->loop->server->log, KINO_LOG_WARNING, "loop %u: a file could not be sent: %s",
               conn->loop->index,
               completion->result == 0 ? "it is shorter than its answer said"
                                       : kino_strerror(completion->result));
        kn_conn_cut(conn);
    }
}

/* Say that nothing more will come, and wait for the client to have read it: closing with unread
 * input would reset the connection, and our answer with it. */
static void linger(struct kn_conn *conn)
{
    conn->lingering = true;
    conn->stopped = false;
    kn_conn_set_read_deadline(conn, KN_CONN_LINGER_MS);
    conn->ops++;
    kn_io_shutdown(&conn->loop->io, &conn->end_op, conn->file);
    kn_conn_receive(conn);
}

/* All output is sent. */
static void rest(struct kn_conn *conn)
{
    const bool begun = conn->reading && kn_http1_started(&conn->http1); /* not by empty lines */

    if (!kn_list_empty(&conn->order) || begun || conn->lingering)
        return;
    if (conn->pending.len > 0)
        return; /* a request waits until one that users still hold is released */
    if (conn->peer_done || (conn->last && !conn->rejected) ||
        (conn->loop->idle_closed && !conn->last))
        kn_conn_close(conn);
    else if (conn->last)
        linger(conn);
    else
        kn_conn_set_read_deadline(conn, kn_conn_config(conn)->idle_timeout_ms);
}

void kn_conn_flush(struct kn_conn *conn)
{
    const struct kino_request *due;

    kn_conn_parse_pending(conn);
    if (conn->closing || conn->send_busy || !kn_list_empty(&conn->to_read))
        return;
    if (kn_chain_len(&conn->sending) > 0) {
        send_next(conn); /* it had to wait for its turn to read a file */
        return;
    }
    due = first_due(conn);
    if (due && due->streams)
        pump(conn); /* there may be room for more of it now */
    if (conn->closing)
        return;
    if (kn_chain_len(&conn->out) == 0) {
        end_write(conn);
        rest(conn);
        return;
    }
    kn_chain_swap(&conn->out, &conn->sending);
    send_next(conn);
}

/* -ECANCELED though we cancelled nothing: the thread that began it has ended. */
static bool send_failed(int result)
{
    return result < 0 && result != -EBUSY && result != -ECANCELED;
}

void kn_conn_on_send(struct kn_op *op, const struct kn_completion *completion)
{
    struct kn_conn *conn = kn_container_of(op, struct kn_conn, send_op);

    conn->ops--;
    conn->send_busy = false;
    if (completion->result > 0)
        kn_stats_add(&conn->loop->stats, KN_COUNT_BYTES_OUT, (uint64_t)completion->result);
    if (conn->closing || send_failed(completion->result)) {
        kn_conn_close(conn);
        return;
    }
    if (completion->result > 0) {
        kn_chain_consume(&conn->sending, (size_t)completion->result);
        conn->written += (uint64_t)completion->result;
    }
    if (kn_chain_len(&conn->sending) > 0) {
        send_next(conn);
        return;
    }
    kn_chain_reset(&conn->sending, SIZE_MAX);
    kn_loop_spare(conn->loop, &conn->sending.first);
    kn_conn_set_write_deadline(conn, KINO_OFF);
    kn_conn_mark_dirty(conn);
}
