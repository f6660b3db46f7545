/* SPDX-License-Identifier: MIT */
#include "server/conn.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "http/grammar.h"
#include "server/accept.h"
#include "server/loop.h"
#include "server/server.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

enum {
    RETRY_AFTER_S = 1,
};

static const struct kino_config *config_of(const struct kn_conn *conn)
{
    return &conn->loop->server->config;
}

/* Deadlines */

static void arm_timer(struct kn_conn *conn)
{
    const uint64_t read = conn->read_deadline_ms;
    const uint64_t write = conn->write_deadline_ms;

    kn_timer_set(&conn->loop->wheel, &conn->timer, read < write ? read : write);
}

static void set_read_deadline(struct kn_conn *conn, uint64_t delay_ms)
{
    conn->read_deadline_ms = kn_clock_after(conn->loop->now_ms, delay_ms);
    arm_timer(conn);
}

static void set_write_deadline(struct kn_conn *conn, uint64_t delay_ms)
{
    conn->write_deadline_ms = kn_clock_after(conn->loop->now_ms, delay_ms);
    arm_timer(conn);
}

/* Receiving */

static void receive(struct kn_conn *conn)
{
    if (conn->receiving || conn->stopped || conn->closing || conn->peer_done)
        return;
    conn->receiving = true;
    conn->ops++;
    kn_io_receive(&conn->loop->io, &conn->receive_op, conn->file);
}

static void mark_dirty(struct kn_conn *conn)
{
    if (kn_list_empty(&conn->dirty) && !conn->closing)
        kn_list_append(&conn->loop->dirty, &conn->dirty);
}

static struct kino_request *first_due(struct kn_conn *conn)
{
    if (kn_list_empty(&conn->order))
        return NULL;
    return kn_container_of(conn->order.next, struct kino_request, order);
}

/* Only safe requests are handled side by side, and no more than the bound. */
static bool may_begin(struct kn_conn *conn)
{
    if (conn->closing || conn->last || conn->open >= config_of(conn)->max_pipelined)
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
    set_read_deadline(conn, config_of(conn)->head_timeout_ms);
    return true;
}

static bool is_safe(struct kino_slice method)
{
    return kn_slice_is(method, "get") || kn_slice_is(method, "head") ||
           kn_slice_is(method, "options") || kn_slice_is(method, "trace");
}

static struct kino_slice copy_text(char *to, const char *from)
{
    const size_t len = strlen(from);

    memcpy(to, from, len + 1);
    return (struct kino_slice){to, len};
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
    set_read_deadline(conn, KINO_OFF);
    return request;
}

static void drop_partial(struct kn_conn *conn)
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

/* Answer for ourselves what no user has seen, and read no more. */
static void reject(struct kn_conn *conn, unsigned status)
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

static void send_continue(struct kn_conn *conn)
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
        mark_dirty(conn);
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
                send_continue(conn);
            break;
        case KN_HTTP1_DONE:
            request_complete(conn);
            break;
        case KN_HTTP1_REJECT:
            reject(conn, (unsigned)conn->http1.status);
            break;
        }
        if (conn->closing)
            break;
    }
    if (conn->in_body)
        set_read_deadline(conn, config_of(conn)->body_timeout_ms);
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

/* Go on with what was kept, after answers have made room. */
static void parse_pending(struct kn_conn *conn)
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
        drop_partial(conn);
    conn->stopped = false;
    receive(conn);
}

static void tell_state(struct kn_list *list, uint32_t state)
{
    for (struct kn_list *link = list->next; link != list; link = link->next)
        atomic_fetch_or(&kn_container_of(link, struct kino_request, order)->state, state);
}

/* The client will send no more. What it has asked in full is still answered. */
static void peer_done(struct kn_conn *conn)
{
    conn->peer_done = true;
    if (conn->lingering) {
        kn_conn_close(conn);
        return;
    }
    tell_state(&conn->order, KINO_STATE_PEER_DONE);
    tell_state(&conn->held, KINO_STATE_PEER_DONE);
    if (conn->pending.len == 0)
        drop_partial(conn);
    mark_dirty(conn);
}

static void on_receive(struct kn_op *op, const struct kn_completion *completion)
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
        receive(conn);
    } else if (completion->result == 0) {
        peer_done(conn);
    } else if (completion->result == -ENOBUFS || completion->result == -EBUSY) {
        kn_list_append(&conn->loop->starved, &conn->starved);
    } else if (completion->result == -ECANCELED) {
        receive(conn); /* unless it was we who stopped it */
    } else {
        kn_conn_close(conn);
    }
}

void kn_conn_resume(struct kn_conn *conn)
{
    receive(conn);
}

/* Answers */

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

static void forget_all(struct kn_conn *conn, struct kn_list *list)
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

/* An answer after which the connection closes: what was asked behind it gets none. */
static void end_order(struct kn_conn *conn)
{
    conn->last = true;
    forget_all(conn, &conn->order);
    if (!conn->reading)
        return;
    conn->rejected = true;
    drop_partial(conn);
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
            end_order(conn);
    }
    if (request && !request->dispatched && kn_list_empty(&request->queue))
        kn_loop_publish(conn->loop, request);
    if (!request && conn->continue_due)
        send_continue(conn);
    mark_dirty(conn);
}

void kn_conn_released(struct kn_conn *conn, struct kino_request *request)
{
    assert(request->taken && request->released);
    forget(conn, request);
    mark_dirty(conn); /* there may be room for the next */
}

/* Sending and ending */

static void start_send(struct kn_conn *conn)
{
    conn->send_busy = true;
    conn->ops++;
    set_write_deadline(conn, config_of(conn)->write_timeout_ms);
    kn_io_send(&conn->loop->io, &conn->send_op, conn->file, conn->sending.data + conn->sent,
               conn->sending.len - conn->sent);
}

/* Say that nothing more will come, and wait for the client to have read it: closing with unread
 * input would reset the connection, and our answer with it. */
static void linger(struct kn_conn *conn)
{
    conn->lingering = true;
    conn->stopped = false;
    set_read_deadline(conn, KN_CONN_LINGER_MS);
    conn->ops++;
    kn_io_shutdown(&conn->loop->io, &conn->end_op, conn->file);
    receive(conn);
}

/* All output is sent. */
static void rest(struct kn_conn *conn)
{
    if (!kn_list_empty(&conn->order) || conn->reading || conn->lingering)
        return;
    if (conn->pending.len > 0)
        return; /* a request waits until one that users still hold is released */
    if (conn->peer_done || (conn->last && !conn->rejected) || (conn->loop->draining && !conn->last))
        kn_conn_close(conn);
    else if (conn->last)
        linger(conn);
    else
        set_read_deadline(conn, config_of(conn)->idle_timeout_ms);
}

void kn_conn_flush(struct kn_conn *conn)
{
    parse_pending(conn);
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

/* -ECANCELED, where we did not cancel: the thread that began it has ended, and another drives now.
 */
static bool send_failed(int result)
{
    return result < 0 && result != -EBUSY && result != -ECANCELED;
}

static void on_send(struct kn_op *op, const struct kn_completion *completion)
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
    set_write_deadline(conn, KINO_OFF);
    mark_dirty(conn);
}

static void on_end(struct kn_op *op, const struct kn_completion *completion)
{
    struct kn_conn *conn = kn_container_of(op, struct kn_conn, end_op);
    struct kn_loop *loop = conn->loop;

    if (conn->close_started && completion->result == -EBUSY) {
        kn_io_close(&loop->io, &conn->end_op, conn->file);
        return;
    }
    conn->ops--;
    if (!conn->close_started) {
        if (conn->closing)
            kn_conn_close(conn);
        return;
    }
    kn_io_closed(&loop->io, conn->file);
    kn_list_remove(&conn->link);
    kn_buf_deinit(&conn->pending);
    kn_buf_deinit(&conn->out);
    kn_buf_deinit(&conn->sending);
    kn_free(conn);
    kn_loop_conn_closed(loop);
}

static void begin_close(struct kn_conn *conn)
{
    conn->closing = true;
    kn_list_remove(&conn->dirty);
    kn_list_remove(&conn->starved);
    kn_timer_remove(&conn->timer);
    conn->timer.deadline_ms = UINT64_MAX;
    if (conn->reading)
        kn_loop_recycle(conn->loop, conn->reading);
    conn->reading = NULL;
    conn->in_body = false;
    forget_all(conn, &conn->order);
    forget_all(conn, &conn->held);
    if (conn->receiving)
        kn_io_cancel(&conn->loop->io, &conn->receive_op);
    if (conn->send_busy)
        kn_io_cancel(&conn->loop->io, &conn->send_op);
}

void kn_conn_close(struct kn_conn *conn)
{
    if (!conn->closing)
        begin_close(conn);
    if (conn->ops > 0)
        return; /* the last of them comes back here */
    conn->close_started = true;
    conn->ops++;
    kn_io_close(&conn->loop->io, &conn->end_op, conn->file);
}

void kn_conn_abandon(struct kn_conn *conn)
{
    if (!conn->closing) {
        conn->closing = true;
        kn_timer_remove(&conn->timer);
        forget_all(conn, &conn->order);
        forget_all(conn, &conn->held);
        if (conn->reading)
            kn_loop_recycle(conn->loop, conn->reading);
    }
    kn_list_remove(&conn->link);
    if (!conn->file.direct)
        close(conn->file.index);
}

void kn_conn_drain(struct kn_conn *conn)
{
    tell_state(&conn->order, KINO_STATE_DRAINING);
    tell_state(&conn->held, KINO_STATE_DRAINING);
    mark_dirty(conn);
}

static void on_timer(struct kn_timer *timer)
{
    struct kn_conn *conn = kn_container_of(timer, struct kn_conn, timer);
    const uint64_t now_ms = conn->loop->now_ms;

    if (conn->write_deadline_ms <= now_ms)
        kn_conn_close(conn); /* the client does not read */
    else if (conn->read_deadline_ms > now_ms)
        arm_timer(conn);
    else if (conn->reading && kn_http1_started(&conn->http1))
        reject(conn, 408);
    else
        kn_conn_close(conn); /* idle, or lingering */
}

static void read_addresses(struct kn_conn *conn, int fd, const struct kn_socket *socket)
{
    union kn_address address;

    kn_socket_peer(fd, &address);
    kn_address_format(&address, conn->peer_text);
    conn->peer_port = kn_address_port(&address);
    conn->local_port = socket->local_port;
    conn->listener = socket->listener;
    if (!socket->wildcard) {
        copy_text(conn->local_text, socket->local_text);
        return;
    }
    kn_socket_local(fd, &address);
    kn_address_format(&address, conn->local_text);
}

void kn_conn_open(struct kn_loop *loop, int fd, const struct kn_socket *socket)
{
    struct kn_conn *conn = kn_alloc_zeroed(sizeof(*conn));

    if (!conn) {
        kn_loop_exhausted(loop, "no memory for a connection");
        close(fd);
        return;
    }
    conn->loop = loop;
    conn->receive_op.fn = on_receive;
    conn->send_op.fn = on_send;
    conn->end_op.fn = on_end;
    kn_list_init(&conn->dirty);
    kn_list_init(&conn->starved);
    kn_list_init(&conn->order);
    kn_list_init(&conn->held);
    kn_timer_init(&conn->timer, on_timer);
    conn->read_deadline_ms = UINT64_MAX;
    conn->write_deadline_ms = UINT64_MAX;
    kn_http1_init(&conn->http1, &loop->server->limits);
    read_addresses(conn, fd, socket);
    conn->file = kn_io_adopt(&loop->io, fd);
    kn_list_append(&loop->conns, &conn->link);
    loop->conn_count++;
    atomic_fetch_add_explicit(&loop->server->connections, 1, memory_order_relaxed);
    set_read_deadline(conn, config_of(conn)->idle_timeout_ms);
    receive(conn);
}
