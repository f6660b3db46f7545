/* SPDX-License-Identifier: MIT */
/* What becomes of requests, for the statistics and the access log. */
#include "base/clock.h"
#include "server/conn.h"
#include "server/server.h"

static uint64_t since(uint64_t then_ns, uint64_t now_ns)
{
    return now_ns > then_ns ? now_ns - then_ns : 0;
}

/* KINO_OFF: no worker took it. */
static uint64_t queue_ns(const struct kino_request *request)
{
    const uint64_t taken_ns = atomic_load_explicit(&request->taken_ns, memory_order_relaxed);

    return taken_ns ? since(request->published_ns, taken_ns) : KINO_OFF;
}

void kn_conn_count_answer(struct kn_conn *conn, const struct kino_request *request, unsigned status)
{
    struct kn_stats *stats = &conn->loop->stats;
    const uint64_t waited_ns = queue_ns(request);

    kn_stats_response(stats, status);
    kn_stats_latency(stats, since(request->head.view.arrival_ns, conn->loop->now_ns));
    if (waited_ns != KINO_OFF)
        kn_stats_queue_time(stats, waited_ns);
}

/* A unix socket has none. */
static struct kino_slice peer_of(const struct kn_conn *conn)
{
    const size_t len = strlen(conn->peer_text);

    return (struct kino_slice){len > 0 ? conn->peer_text : NULL, len};
}

void kn_conn_log_access(struct kn_conn *conn, const struct kino_request *request, unsigned status,
                        uint64_t body_bytes)
{
    struct kn_access_log *log =
        atomic_load_explicit(&conn->loop->server->access_log, memory_order_relaxed);
    const struct kino_head *head = &request->head.view;
    struct kn_access_entry entry;
    uint64_t waited_ns;

    if (!log)
        return;
    waited_ns = queue_ns(request);
    entry = (struct kn_access_entry){
        .peer = peer_of(conn),
        .time_ms = kn_clock_wall_ms(),
        .bytes = body_bytes,
        .duration_us = since(head->arrival_ns, conn->loop->now_ns) / KN_NS_PER_US,
        .queue_us = waited_ns == KINO_OFF ? KINO_OFF : waited_ns / KN_NS_PER_US,
        .status = status,
    };
    if (request->head.sealed) {
        entry.method = head->method;
        entry.target = head->target;
        entry.version = head->version;
        entry.referer = kino_request_field(request, "referer");
        entry.user_agent = kino_request_field(request, "user-agent");
    }
    kn_access_log_write(log, &entry);
}
