/* SPDX-License-Identifier: MIT */
/* From received bytes to requests that are published. */
#include "http/grammar.h"
#include "server/conn.h"
#include "server/loop.h"

#include <errno.h>
#include <string.h>

void kn_conn_receive(struct kn_conn *conn)
{
    if (conn->receiving || conn->stopped || conn->closing || conn->peer_done)
        return;
    conn->receiving = true;
    conn->ops++;
    kn_io_receive(&conn->loop->io, &conn->receive_op, conn->file);
}

/* Only safe requests are handled side by side, no more than the bound, and none for a client that
 * does not read its answers. */
static bool may_begin(struct kn_conn *conn)
{
    if (conn->closing || conn->last || conn->open >= kn_conn_config(conn)->max_pipelined ||
        conn->out.len >= KN_CONN_OUT_MOST)
        return false;
    return kn_list_empty(&conn->order) ||
           kn_container_of(conn->order.prev, struct kino_request, order)->safe;
}

static bool begin_request(struct kn_conn *conn)
{
    struct kino_request *request = kn_loop_exchange(conn->loop);

    if (!request)
        return false;
    request->conn = conn;
    conn->reading = request;
    conn->arrival_ns = conn->loop->now_ns;
    kn_http1_begin(&conn->http1, &request->head, &request->body);
    kn_conn_set_read_deadline(conn, kn_conn_config(conn)->head_timeout_ms);
    return true;
}

static bool is_safe(struct kino_slice method)
{
    return kn_slice_is(method, "get") || kn_slice_is(method, "head") ||
           kn_slice_is(method, "options") || kn_slice_is(method, "trace");
}

/* A unix socket has no address: none is an absent one. */
static struct kino_slice copy_text(char *to, const char *from)
{
    const size_t len = strlen(from);

    memcpy(to, from, len + 1);
    return (struct kino_slice){len > 0 ? to : NULL, len};
}

/* What the parser cannot know of a request. */
static void complete_view(const struct kn_conn *conn, struct kino_request *request)
{
    struct kino_head *view = &request->head.view;

    view->peer_address = copy_text(request->peer_text, conn->peer_text);
    view->peer_port = conn->peer_port;
    view->local_address = copy_text(request->local_text, conn->local_text);
    view->local_port = conn->local_port;
    view->listener = conn->listener;
    view->arrival_ns = conn->arrival_ns;
    view->flags |= KINO_HEAD_BODY_WHOLE;
}

/* The request that was being read is complete, or will never be. */
static struct kino_request *end_reading(struct kn_conn *conn)
{
    struct kino_request *request = conn->reading;

    conn->reading = NULL;
    conn->in_body = false;
    conn->continue_due = false;
    kn_conn_set_read_deadline(conn, KINO_OFF);
    return request;
}

void kn_conn_drop_partial(struct kn_conn *conn)
{
    if (conn->reading)
        kn_loop_recycle(conn->loop, end_reading(conn));
}

static void request_complete(struct kn_conn *conn)
{
    struct kino_request *request = end_reading(conn);
    const bool first = kn_list_empty(&conn->order);

    conn->open++;
    if (!conn->http1.keep_alive)
        conn->last = true;
    complete_view(conn, request);
    request->safe = is_safe(request->head.view.method);
    request->framing = (struct kn_framing){
        .version = request->head.view.version,
        .is_head = kn_slice_is(request->head.view.method, "head"),
        .keep_alive = conn->http1.keep_alive && !conn->loop->draining,
    };
    if (conn->peer_done)
        atomic_fetch_or(&request->state, KINO_STATE_PEER_DONE);
    if (conn->loop->draining)
        atomic_fetch_or(&request->state, KINO_STATE_DRAINING);
    kn_list_append(&conn->order, &request->order);
    if (request->safe || first)
        kn_loop_publish(conn->loop, request);
}

void kn_conn_reject(struct kn_conn *conn, unsigned status)
{
    struct kino_request *request = end_reading(conn);

    conn->last = true;
    conn->rejected = true;
    kn_exchange_claim(request);
    request->failure = status;
    request->framing = (struct kn_framing){.version = KINO_HTTP_1_1};
    request->answered = true;
    request->released = true;
    kn_list_append(&conn->order, &request->order);
    kn_conn_answered(conn);
}

/* Parse what may be parsed now. Returns how much was used. */
static size_t parse(struct kn_conn *conn, const char *data, size_t len)
{
    enum kn_http1_event event;
    size_t used = 0;

    while (used < len) {
        if (!conn->reading) {
            if (!may_begin(conn))
                break;
            if (!begin_request(conn)) {
                kn_conn_close(conn);
                break;
            }
        }
        used += kn_http1_feed(&conn->http1, data + used, len - used, &event);
        switch (event) {
        case KN_HTTP1_MORE:
            break;
        case KN_HTTP1_HEAD:
            conn->in_body = true;
            if (conn->http1.expects_continue)
                kn_conn_send_continue(conn);
            break;
        case KN_HTTP1_DONE:
            request_complete(conn);
            break;
        case KN_HTTP1_REJECT:
            kn_conn_reject(conn, (unsigned)conn->http1.status);
            break;
        }
        if (conn->closing)
            break;
    }
    if (conn->in_body)
        kn_conn_set_read_deadline(conn, kn_conn_config(conn)->body_timeout_ms);
    return used;
}

/* Keep what cannot be parsed yet; where that is much, stop receiving and let TCP hold it. */
static void keep(struct kn_conn *conn, const char *data, size_t len)
{
    if (len == 0 || conn->closing)
        return;
    if (conn->last) {
        conn->rejected = true; /* nothing that comes after the last request is read */
        return;
    }
    if (kn_buf_append(&conn->pending, data, len) < 0) {
        kn_conn_close(conn);
        return;
    }
    if (conn->pending.len < KN_CONN_PENDING_MOST || conn->stopped)
        return;
    conn->stopped = true;
    if (conn->receiving)
        kn_io_cancel(&conn->loop->io, &conn->receive_op);
}

static void received(struct kn_conn *conn, const char *data, size_t len)
{
    size_t used = 0;

    if (conn->lingering)
        return;
    if (conn->pending.len == 0)
        used = parse(conn, data, len);
    keep(conn, data + used, len - used);
}

void kn_conn_parse_pending(struct kn_conn *conn)
{
    if (conn->pending.len == 0)
        return;
    kn_buf_consume(&conn->pending, parse(conn, conn->pending.data, conn->pending.len));
    if (conn->closing)
        return;
    if (conn->last && conn->pending.len > 0) {
        conn->rejected = true;
        conn->pending.len = 0;
    }
    if (conn->pending.len > 0)
        return;
    kn_buf_reset(&conn->pending, 0);
    if (conn->peer_done)
        kn_conn_drop_partial(conn);
    conn->stopped = false;
    kn_conn_receive(conn);
}

/* The client will send no more. What it has asked in full is still answered. */
static void peer_done(struct kn_conn *conn)
{
    conn->peer_done = true;
    if (conn->lingering) {
        kn_conn_close(conn);
        return;
    }
    kn_conn_tell(&conn->order, KINO_STATE_PEER_DONE);
    kn_conn_tell(&conn->held, KINO_STATE_PEER_DONE);
    if (conn->pending.len == 0)
        kn_conn_drop_partial(conn);
    kn_conn_mark_dirty(conn);
}

void kn_conn_on_receive(struct kn_op *op, const struct kn_completion *completion)
{
    struct kn_conn *conn = kn_container_of(op, struct kn_conn, receive_op);

    if (!completion->more) {
        conn->receiving = false;
        conn->ops--;
    }
    if (conn->closing) {
        kn_conn_close(conn);
        return;
    }
    if (completion->result > 0) {
        received(conn, completion->data, (size_t)completion->result);
        kn_conn_receive(conn);
    } else if (completion->result == 0) {
        peer_done(conn);
    } else if (completion->result == -ENOBUFS || completion->result == -EBUSY) {
        kn_list_append(&conn->loop->starved, &conn->starved);
    } else if (completion->result == -ECANCELED) {
        kn_conn_receive(conn); /* unless it was we who stopped it */
    } else {
        kn_conn_close(conn);
    }
}
