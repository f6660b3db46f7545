/* SPDX-License-Identifier: MIT */
/* From received bytes to requests that are published. */
#include "base/clock.h"
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
        kn_chain_len(&conn->out) >= KN_CONN_OUT_MOST)
        return false;
    return kn_list_empty(&conn->order) ||
           kn_container_of(conn->order.prev, struct kino_request, order)->safe;
}

static bool begin_request(struct kn_conn *conn)
{
    struct kino_request *request = kn_loop_exchange(conn->loop);

    if (!request) {
        kn_conn_cut(conn);
        return false;
    }
    request->conn = conn;
    conn->reading = request;
    conn->arrival_ns = conn->loop->now_ns;
    request->head.view.arrival_ns = conn->arrival_ns;
    kn_http1_begin(&conn->http1, &request->head, &request->body, &request->trailers);
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
}

struct kino_request *kn_conn_end_reading(struct kn_conn *conn)
{
    struct kino_request *request = conn->reading;

    conn->reading = NULL;
    conn->in_body = false;
    conn->continue_due = false;
    conn->held_ms = 0;
    kn_conn_set_read_deadline(conn, KINO_OFF);
    return request;
}

/* Was the request that is being read handed out at its head? */
static bool streams_in(const struct kn_conn *conn)
{
    return conn->reading && !kn_list_empty(&conn->reading->order);
}

void kn_conn_drop_partial(struct kn_conn *conn)
{
    struct kino_request *request;

    if (!conn->reading)
        return;
    if (streams_in(conn)) {
        conn->last = true;
        kn_conn_end_at(conn, conn->reading);
        return;
    }
    request = kn_conn_end_reading(conn);
    kn_loop_recycle(conn->loop, request);
}

/* A request, whole or but for its body, takes its place behind those before it. */
static void enlist(struct kn_conn *conn, struct kino_request *request)
{
    const bool first = kn_list_empty(&conn->order);

    conn->open++;
    complete_view(conn, request);
    /* What follows an offer to switch may be another protocol's: it must wait, too. */
    request->safe = is_safe(request->head.view.method) && !conn->http1.upgrades;
    request->framing = (struct kn_framing){
        .signature = request->signature,
        .version = request->head.view.version,
        .is_head = kn_slice_is(request->head.view.method, "head"),
        .upgrade = request->head.view.flags & KINO_HEAD_UPGRADE,
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

/* Hand the request out though its body is not complete. */
static void begin_stream(struct kn_conn *conn)
{
    struct kino_request *request = conn->reading;

    atomic_fetch_or(&request->state, KN_STATE_BODY_OPEN);
    if (conn->http1.expects_continue)
        atomic_fetch_or(&request->state, KN_STATE_EXPECTING);
    enlist(conn, request);
}

static void whole_request_complete(struct kn_conn *conn)
{
    struct kino_request *request = kn_conn_end_reading(conn);
    struct kino_head *view = &request->head.view;

    view->flags |= KINO_HEAD_BODY_WHOLE;
    view->content_length = request->body.len;
    if (request->body.len > 0)
        view->body = (struct kino_slice){request->body.data, request->body.len};
    else if (conn->http1.upgrades)
        view->flags |= KINO_HEAD_UPGRADE;
    atomic_fetch_or(&request->state, KINO_STATE_READABLE);
    enlist(conn, request);
}

static void request_complete(struct kn_conn *conn)
{
    /* Behind an offer to switch may stand what the other protocol begins with. */
    if (!conn->http1.keep_alive && !conn->http1.upgrades)
        conn->last = true;
    if (!streams_in(conn)) {
        whole_request_complete(conn);
        return;
    }
    if (kn_exchange_deliver(conn->reading, &conn->reading->body) < 0) {
        kn_conn_cut(conn);
        return;
    }
    kn_exchange_end_body(kn_conn_end_reading(conn), KN_BODY_COMPLETE);
}

/* Refuse a request whose body a user may be reading, who learns it when it is too late to answer.
 */
static void reject_stream(struct kn_conn *conn, unsigned status)
{
    struct kino_request *request = kn_conn_end_reading(conn);

    kn_loop_refuse(request, status);
    kn_exchange_end_body(request, KN_BODY_BROKEN);
    kn_conn_answered(conn); /* else with what a user answered it ends all the same */
}

void kn_conn_reject(struct kn_conn *conn, unsigned status)
{
    struct kino_request *request;

    conn->last = true;
    conn->rejected = true;
    if (status != 408)
        kn_stats_add(&conn->loop->stats, KN_COUNT_REJECTED, 1);
    if (streams_in(conn)) {
        reject_stream(conn, status);
        return;
    }
    request = kn_conn_end_reading(conn);
    kn_exchange_claim(request);
    request->failure = status;
    request->framing = (struct kn_framing){
        .signature = request->signature,
        .version = KINO_HTTP_1_1,
    };
    request->answered = true;
    request->released = true;
    kn_list_append(&conn->order, &request->order);
    kn_conn_answered(conn);
}

/* Until when more of the body must have come. */
static void watch_body(struct kn_conn *conn)
{
    const struct kino_config *config = kn_conn_config(conn);
    uint64_t least_ms;

    if (conn->held_ms) {
        kn_conn_set_read_deadline(conn, KINO_OFF);
        return;
    }
    least_ms = kn_conn_rate_deadline(conn->body_since_ms, conn->http1.body_bytes,
                                     config->min_body_rate_bytes, config->rate_grace_ms);
    conn->read_deadline_ms = least_ms;
    if (kn_clock_after(conn->loop->now_ms, config->body_timeout_ms) < least_ms)
        kn_conn_set_read_deadline(conn, config->body_timeout_ms);
    else
        kn_conn_arm(conn);
}

/* The client must wait for a reader or for a 100: so its clock stands still. */
static void hold_body(struct kn_conn *conn)
{
    if (!conn->held_ms)
        conn->held_ms = conn->loop->now_ms;
}

static void end_hold(struct kn_conn *conn)
{
    if (!conn->held_ms)
        return;
    conn->body_since_ms += conn->loop->now_ms - conn->held_ms;
    conn->held_ms = 0;
    watch_body(conn);
}

static bool awaits_100(const struct kn_conn *conn)
{
    return conn->continue_due ||
           (streams_in(conn) && (atomic_load_explicit(&conn->reading->state, memory_order_relaxed) &
                                 KN_STATE_EXPECTING));
}

void kn_conn_go_on(struct kn_conn *conn)
{
    if (!awaits_100(conn))
        end_hold(conn);
    kn_conn_mark_dirty(conn);
}

static void head_complete(struct kn_conn *conn)
{
    const uint64_t most = kn_conn_config(conn)->max_whole_body_bytes;
    const uint64_t length = conn->reading->head.view.content_length;

    conn->in_body = true;
    conn->body_since_ms = conn->loop->now_ms;
    conn->held_ms = 0;
    if (conn->http1.expects_continue)
        hold_body(conn);
    if (most == KINO_OFF) {
        if (conn->http1.expects_continue)
            kn_conn_send_continue(conn);
    } else if (conn->http1.expects_continue || (length != KINO_OFF && length > most)) {
        begin_stream(conn);
    }
}

/* More of the body has come. */
static void body_grown(struct kn_conn *conn)
{
    const uint64_t most = kn_conn_config(conn)->max_whole_body_bytes;

    end_hold(conn); /* it did not wait */
    if (!streams_in(conn) && conn->http1.body_bytes > most)
        begin_stream(conn);
    if (streams_in(conn) && kn_exchange_deliver(conn->reading, &conn->reading->body) < 0)
        kn_conn_cut(conn);
}

static void handle(struct kn_conn *conn, enum kn_http1_event event)
{
    switch (event) {
    case KN_HTTP1_MORE:
        if (conn->in_body)
            body_grown(conn);
        break;
    case KN_HTTP1_HEAD:
        head_complete(conn);
        break;
    case KN_HTTP1_DONE:
        request_complete(conn);
        break;
    case KN_HTTP1_REJECT:
        kn_conn_reject(conn, (unsigned)conn->http1.status);
        break;
    }
}

/* How much of `len` bytes may be parsed at once. */
static size_t may_parse(struct kn_conn *conn, size_t len)
{
    if (!conn->reading && (!may_begin(conn) || !begin_request(conn)))
        return 0;
    if (!streams_in(conn))
        return len;
    if (kn_exchange_is_full(conn->reading)) {
        hold_body(conn);
        return 0;
    }
    return len < KN_STREAM_MOST ? len : KN_STREAM_MOST;
}

/* Parse what may be parsed now. Returns how much was used. */
static size_t parse(struct kn_conn *conn, const char *data, size_t len)
{
    enum kn_http1_event event;
    size_t used = 0;
    size_t part;

    while (used < len && !conn->closing && (part = may_parse(conn, len - used)) > 0) {
        used += kn_http1_feed(&conn->http1, data + used, part, &event);
        handle(conn, event);
    }
    if (conn->in_body)
        watch_body(conn);
    return used;
}

/* Keep what cannot be parsed yet; where that is much, stop receiving and let TCP hold it. */
static void keep(struct kn_conn *conn, const char *data, size_t len)
{
    if (len == 0 || conn->closing)
        return;
    if (conn->last && !conn->raw) {
        conn->rejected = true; /* nothing that comes after the last request is read */
        return;
    }
    if (kn_buf_append(&conn->pending, data, len) < 0) {
        kn_conn_cut(conn);
        return;
    }
    if (conn->pending.len < KN_CONN_PENDING_MOST || conn->stopped)
        return;
    conn->stopped = true;
    if (conn->receiving)
        kn_io_cancel(&conn->loop->io, &conn->receive_op);
}

/* Hand on raw bytes. Returns how many were taken. */
static size_t pass(struct kn_conn *conn, const char *data, size_t len)
{
    struct kn_buf *scratch = &conn->raw->body;
    size_t used = 0;

    while (used < len && !kn_exchange_is_full(conn->raw)) {
        const size_t part = len - used < KN_STREAM_MOST ? len - used : KN_STREAM_MOST;

        if (kn_buf_append(scratch, data + used, part) < 0 ||
            kn_exchange_deliver(conn->raw, scratch) < 0) {
            kn_conn_cut(conn);
            break;
        }
        used += part;
    }
    return used;
}

static size_t use(struct kn_conn *conn, const char *data, size_t len)
{
    return conn->raw ? pass(conn, data, len) : parse(conn, data, len);
}

static void received(struct kn_conn *conn, const char *data, size_t len)
{
    size_t used = 0;

    if (conn->lingering)
        return;
    if (conn->pending.len == 0)
        used = use(conn, data, len);
    keep(conn, data + used, len - used);
}

void kn_conn_switch(struct kn_conn *conn)
{
    conn->raw = kn_container_of(conn->order.next, struct kino_request, order);
    if (conn->peer_done && conn->pending.len == 0)
        kn_exchange_end_body(conn->raw, KN_BODY_COMPLETE);
}

/* All that the client has sent is used. */
static void end_input(struct kn_conn *conn)
{
    if (conn->raw)
        kn_exchange_end_body(conn->raw, KN_BODY_COMPLETE);
    else
        kn_conn_drop_partial(conn);
}

void kn_conn_parse_pending(struct kn_conn *conn)
{
    if (conn->pending.len == 0)
        return;
    kn_buf_consume(&conn->pending, use(conn, conn->pending.data, conn->pending.len));
    if (conn->closing)
        return;
    if (conn->last && !conn->raw && conn->pending.len > 0) {
        conn->rejected = true;
        conn->pending.len = 0;
    }
    if (conn->pending.len > 0)
        return;
    kn_buf_reset(&conn->pending, 0);
    if (conn->peer_done)
        end_input(conn);
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
        end_input(conn);
    kn_conn_mark_dirty(conn);
}

void kn_conn_on_receive(struct kn_op *op, const struct kn_completion *completion)
{
    struct kn_conn *conn = kn_container_of(op, struct kn_conn, receive_op);

    if (!completion->more) {
        conn->receiving = false;
        conn->ops--;
    }
    if (completion->result > 0)
        kn_stats_add(&conn->loop->stats, KN_COUNT_BYTES_IN, (uint64_t)completion->result);
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
        kn_loop_exhausted(conn->loop, KN_SHORT_OF_BUFFERS,
                          "all receive buffers are in use: some clients wait for the next turn");
        kn_list_append(&conn->loop->starved, &conn->starved);
    } else if (completion->result == -ECANCELED) {
        kn_conn_receive(conn); /* unless it was we who stopped it */
    } else {
        kn_conn_close(conn);
    }
}
