/* SPDX-License-Identifier: MIT */
/* A connection's life: its deadlines, its beginning and its end. */
#include "server/conn.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "server/accept.h"
#include "server/loop.h"
#include "server/server.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

const struct kino_config *kn_conn_config(const struct kn_conn *conn)
{
    return &conn->loop->server->config;
}

void kn_conn_arm(struct kn_conn *conn)
{
    uint64_t earliest = conn->read_deadline_ms;

    if (conn->closing)
        return; /* its memory goes without another look at the wheel */
    if (conn->write_deadline_ms < earliest)
        earliest = conn->write_deadline_ms;
    if (conn->answer_deadline_ms < earliest)
        earliest = conn->answer_deadline_ms;
    kn_timer_set(&conn->loop->wheel, &conn->timer, earliest);
}

uint64_t kn_conn_rate_deadline(uint64_t since_ms, uint64_t bytes, uint64_t rate, uint64_t grace_ms)
{
    uint64_t earned_ms;

    if (rate == KINO_OFF)
        return UINT64_MAX;
    earned_ms = bytes > UINT64_MAX / 1000 ? UINT64_MAX : bytes * 1000 / rate;
    return kn_clock_after(since_ms, earned_ms > grace_ms ? earned_ms : grace_ms);
}

void kn_conn_set_read_deadline(struct kn_conn *conn, uint64_t delay_ms)
{
    conn->read_deadline_ms = kn_clock_after(conn->loop->now_ms, delay_ms);
    kn_conn_arm(conn);
}

void kn_conn_set_write_deadline(struct kn_conn *conn, uint64_t delay_ms)
{
    conn->write_deadline_ms = kn_clock_after(conn->loop->now_ms, delay_ms);
    kn_conn_arm(conn);
}

void kn_conn_await(struct kn_conn *conn, const struct kino_request *request)
{
    if (request->due_ms >= conn->answer_deadline_ms)
        return;
    conn->answer_deadline_ms = request->due_ms;
    kn_conn_arm(conn);
}

void kn_conn_mark_dirty(struct kn_conn *conn)
{
    if (kn_list_empty(&conn->dirty) && !conn->closing)
        kn_list_append(&conn->loop->dirty, &conn->dirty);
}

void kn_conn_tell(struct kn_list *list, uint32_t state)
{
    for (struct kn_list *link = list->next; link != list; link = link->next)
        kn_exchange_tell(kn_container_of(link, struct kino_request, order), state);
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
    kn_chain_reset(&conn->out, 0);
    kn_chain_reset(&conn->sending, 0);
    kn_free(conn);
    kn_loop_conn_closed(loop);
}

static void give_up_requests(struct kn_conn *conn)
{
    kn_conn_forget_all(conn, &conn->order);
    kn_conn_forget_all(conn, &conn->held);
    if (conn->reading)
        kn_loop_recycle(conn->loop, kn_conn_end_reading(conn));
}

static void begin_close(struct kn_conn *conn)
{
    conn->closing = true;
    kn_list_remove(&conn->dirty);
    kn_list_remove(&conn->starved);
    kn_list_remove(&conn->to_read);
    kn_timer_remove(&conn->timer);
    give_up_requests(conn);
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

void kn_conn_cut(struct kn_conn *conn)
{
    if (!conn->closing && (!kn_list_empty(&conn->order) || kn_chain_len(&conn->out) > 0 ||
                           kn_chain_len(&conn->sending) > 0))
        kn_stats_add(&conn->loop->stats, KN_COUNT_ABORTED, 1);
    kn_conn_close(conn);
}

void kn_conn_abandon(struct kn_conn *conn)
{
    if (!conn->closing) {
        conn->closing = true;
        give_up_requests(conn);
        kn_timer_remove(&conn->timer);
    }
    kn_buf_deinit(&conn->pending);
    kn_chain_reset(&conn->out, 0);
    if (!conn->send_busy)
        kn_chain_reset(&conn->sending, 0);
    kn_list_remove(&conn->link);
    if (!conn->file.direct)
        close(conn->file.index);
}

/* Where a successor listens on the same socket, clients come without a break, and this one does not
 * know that it came to us: it is no idle one. */
static bool is_handed_over(const struct kn_conn *conn)
{
    return conn->arrival_ns == 0 && atomic_load(&conn->loop->server->outlived);
}

void kn_conn_drain(struct kn_conn *conn)
{
    if (is_handed_over(conn)) {
        kn_conn_set_read_deadline(conn, KN_CONN_HANDOVER_MS);
        return;
    }
    kn_conn_tell(&conn->order, KINO_STATE_DRAINING);
    kn_conn_tell(&conn->held, KINO_STATE_DRAINING);
    kn_conn_mark_dirty(conn);
}

static struct kino_request *find_late(struct kn_conn *conn)
{
    for (struct kn_list *link = conn->order.next; link != &conn->order; link = link->next) {
        struct kino_request *request = kn_container_of(link, struct kino_request, order);

        if (request->due_ms <= conn->loop->now_ms)
            return request;
    }
    return NULL;
}

/* Answer for the workers what they have not in time. */
static void answer_late_ones(struct kn_conn *conn)
{
    struct kino_request *request;

    /* From the start each time: an answer may end the connection, and take others off the list. */
    while ((request = find_late(conn))) {
        request->due_ms = UINT64_MAX;
        kn_loop_answer_late(request);
    }
    conn->answer_deadline_ms = UINT64_MAX;
    for (struct kn_list *link = conn->order.next; link != &conn->order; link = link->next)
        kn_conn_await(conn, kn_container_of(link, struct kino_request, order));
}

/* What was awaited from the client has not come. */
static void end_silence(struct kn_conn *conn)
{
    struct kn_stats *stats = &conn->loop->stats;

    if (conn->reading && kn_http1_started(&conn->http1)) {
        kn_stats_add(stats, conn->in_body ? KN_COUNT_BODY_TIMEOUTS : KN_COUNT_HEAD_TIMEOUTS, 1);
        kn_conn_reject(conn, 408);
        return;
    }
    if (!conn->lingering && !conn->loop->idle_closed)
        kn_stats_add(stats, KN_COUNT_IDLE_TIMEOUTS, 1);
    kn_conn_close(conn);
}

static void on_timer(struct kn_timer *timer)
{
    struct kn_conn *conn = kn_container_of(timer, struct kn_conn, timer);
    const uint64_t now_ms = conn->loop->now_ms;

    if (conn->write_deadline_ms <= now_ms) {
        kn_stats_add(&conn->loop->stats, KN_COUNT_WRITE_TIMEOUTS, 1);
        /* The client does not read: what the kernel holds for it would wait for it, too. */
        kn_io_reset_at_close(&conn->loop->io, conn->file);
        kn_conn_cut(conn);
        return;
    }
    if (conn->answer_deadline_ms <= now_ms)
        answer_late_ones(conn);
    if (conn->closing)
        return;
    if (conn->read_deadline_ms > now_ms)
        kn_conn_arm(conn);
    else
        end_silence(conn);
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
        memcpy(conn->local_text, socket->local_text, sizeof(conn->local_text));
        return;
    }
    kn_socket_local(fd, &address);
    kn_address_format(&address, conn->local_text);
}

void kn_conn_open(struct kn_loop *loop, int fd, const struct kn_socket *socket)
{
    struct kn_conn *conn = kn_alloc_zeroed(sizeof(*conn));

    if (!conn) {
        kn_loop_exhausted(loop, KN_SHORT_OF_MEMORY, "no memory for a connection: closing it");
        close(fd);
        return;
    }
    conn->loop = loop;
    conn->receive_op.fn = kn_conn_on_receive;
    conn->send_op.fn = kn_conn_on_send;
    conn->end_op.fn = on_end;
    kn_list_init(&conn->dirty);
    kn_list_init(&conn->starved);
    kn_list_init(&conn->to_read);
    kn_list_init(&conn->order);
    kn_list_init(&conn->held);
    kn_timer_init(&conn->timer, on_timer);
    conn->read_deadline_ms = UINT64_MAX;
    conn->write_deadline_ms = UINT64_MAX;
    conn->answer_deadline_ms = UINT64_MAX;
    kn_http1_init(&conn->http1, &loop->server->limits);
    read_addresses(conn, fd, socket);
    conn->file = kn_io_adopt(&loop->io, fd);
    kn_list_append(&loop->conns, &conn->link);
    loop->conn_count++;
    kn_stats_add(&loop->stats, KN_COUNT_CONNECTIONS, 1);
    kn_loop_count_conns(loop);
    atomic_fetch_add_explicit(&loop->server->connections, 1, memory_order_relaxed);
    kn_conn_set_read_deadline(conn, kn_conn_config(conn)->idle_timeout_ms);
    kn_conn_receive(conn);
    if (loop->idle_closed)
        kn_conn_drain(conn); /* it came too late to be told with the others */
}
