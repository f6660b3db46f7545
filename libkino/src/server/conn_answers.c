/* SPDX-License-Identifier: MIT */
/* From answers, in the order of their requests, to bytes that are sent. */
#include "server/conn.h"
#include "server/loop.h"

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
    static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n";

    if (!kn_list_empty(&conn->order)) {
        conn->continue_due = true; /* after the answers before it */
        return;
    }
    conn->continue_due = false;
    if (kn_buf_append(&conn->out, text, sizeof(text) - 1) < 0)
        kn_conn_close(conn);
    else
        kn_conn_mark_dirty(conn);
}

static void forget(struct kn_conn *conn, struct kino_request *request)
{
    struct kn_loop *loop = conn->loop;

    kn_list_remove(&request->order);
    request->conn = NULL;
    if (!request->dispatched || request->released)
        kn_loop_recycle(loop, request);
    else
        atomic_fetch_or(&request->state, KINO_STATE_DISCONNECTED);
}

void kn_conn_forget_all(struct kn_conn *conn, struct kn_list *list)
{
    while (!kn_list_empty(list))
        forget(conn, kn_container_of(list->next, struct kino_request, order));
}

/* Move one answer into the output, and say whether the connection goes on after it. */
static int take_answer(struct kn_conn *conn, struct kino_request *request, bool *keep_alive)
{
    const unsigned retry_after_s = request->failure == 503 ? RETRY_AFTER_S : 0;
    /* A copy: where the answer is ours, a user may be reading it to no avail. */
    struct kn_framing framing = request->framing;

    if (request->failure) {
        int rc;

        if (conn->loop->draining)
            framing.keep_alive = false;
        rc = kn_response_write_error(&conn->out, request->failure, retry_after_s, &framing);
        *keep_alive = framing.keep_alive;
        return rc;
    }
    *keep_alive = framing.keep_alive;
    if (conn->out.len > 0)
        return kn_buf_append(&conn->out, request->out.data, request->out.len);
    kn_loop_spare(conn->loop, &conn->out);
    kn_buf_swap(&conn->out, &request->out);
    return 0;
}

/* The connection is done with this exchange; it may go when its users are done too. */
static void settle(struct kn_conn *conn, struct kino_request *request)
{
    request->taken = true;
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

void kn_conn_answered(struct kn_conn *conn)
{
    struct kino_request *request;

    while ((request = first_due(conn)) && request->answered) {
        bool keep_alive;

        if (take_answer(conn, request, &keep_alive) < 0) {
            kn_conn_close(conn);
            return;
        }
        settle(conn, request);
        if (!keep_alive)
            end_order(conn, conn->order.next);
    }
    if (request && !request->dispatched && kn_list_empty(&request->queue))
        kn_loop_publish(conn->loop, request);
    if (!request && conn->continue_due)
        kn_conn_send_continue(conn);
    kn_conn_mark_dirty(conn);
}

void kn_conn_aborted(struct kn_conn *conn, struct kino_request *request)
{
    end_order(conn, &request->order);
    kn_conn_mark_dirty(conn);
}

void kn_conn_released(struct kn_conn *conn, struct kino_request *request)
{
    assert(request->taken && request->released);
    forget(conn, request);
    kn_conn_mark_dirty(conn); /* there may be room for the next */
}

static void start_send(struct kn_conn *conn)
{
    conn->send_busy = true;
    conn->ops++;
    kn_conn_set_write_deadline(conn, kn_conn_config(conn)->write_timeout_ms);
    kn_io_send(&conn->loop->io, &conn->send_op, conn->file, conn->sending.data + conn->sent,
               conn->sending.len - conn->sent);
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
    kn_conn_parse_pending(conn);
    if (conn->closing || conn->send_busy)
        return;
    if (conn->out.len == 0) {
        rest(conn);
        return;
    }
    kn_buf_swap(&conn->out, &conn->sending);
    conn->sent = 0;
    start_send(conn);
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
    if (conn->closing || send_failed(completion->result)) {
        kn_conn_close(conn);
        return;
    }
    if (completion->result > 0)
        conn->sent += (size_t)completion->result;
    if (conn->sent < conn->sending.len) {
        start_send(conn);
        return;
    }
    conn->sending.len = 0;
    kn_loop_spare(conn->loop, &conn->sending);
    kn_conn_set_write_deadline(conn, KINO_OFF);
    kn_conn_mark_dirty(conn);
}
