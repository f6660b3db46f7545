/* SPDX-License-Identifier: MIT */
#include "server/access_log.h"

#include "base/abi.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "base/futex.h"
#include "base/thread.h"
#include "server/server.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>

enum {
    DEFAULT_QUEUE_BYTES = 1 << 20,
    LEAST_QUEUE_BYTES = 1 << 16,
    MOST_QUEUE_BYTES = 1 << 30,
    REPORT_MS = 1000, /* between two lines about trouble */
};

static const uint64_t go_on = UINT64_MAX;
static const uint64_t known_flags = KINO_ACCESS_DESCRIPTOR | KINO_ACCESS_COLOR;

static_assert((int)KN_ACCESS_BATCH_BYTES >= (int)KN_ACCESS_LINE_MOST, "any line fits into a batch");
static_assert((int)LEAST_QUEUE_BYTES >= (int)KN_ACCESS_LINE_MOST + (int)KN_RING_OVERHEAD * 2,
              "any line fits into a queue");

/* Waking. A producer commits, then looks at the state; the flusher sets the state, then looks at
 * the queue: one of the two sees the other. */

static bool is_half_full(const struct kn_access_log *access_log)
{
    return kn_ring_used(&access_log->ring) >= access_log->ring.capacity / 2;
}

static bool is_stopping(const struct kn_access_log *access_log)
{
    return atomic_load(&access_log->stop_deadline_ns) != go_on;
}

static void wake(struct kn_access_log *access_log)
{
    if (atomic_load(&access_log->state) != KN_FLUSHER_AWAKE &&
        atomic_exchange(&access_log->state, KN_FLUSHER_AWAKE) != KN_FLUSHER_AWAKE)
        kn_futex_wake(&access_log->state, 1);
}

/* Let lines gather. */
static void nap(struct kn_access_log *access_log)
{
    const uint64_t end_ns = kn_clock_ns() + UINT64_C(1) * KN_ACCESS_INTERVAL_MS * KN_NS_PER_MS;

    atomic_store(&access_log->state, KN_FLUSHER_NAPPING);
    if (!atomic_load(&access_log->reopen) && !is_stopping(access_log) && !is_half_full(access_log))
        kn_futex_wait(&access_log->state, KN_FLUSHER_NAPPING, end_ns);
    atomic_store(&access_log->state, KN_FLUSHER_AWAKE);
}

static void sleep_until_woken(struct kn_access_log *access_log)
{
    atomic_store(&access_log->state, KN_FLUSHER_ASLEEP);
    if (!atomic_load(&access_log->reopen) && !is_stopping(access_log) &&
        kn_ring_next(&access_log->ring) == 0)
        kn_futex_wait(&access_log->state, KN_FLUSHER_ASLEEP, UINT64_MAX);
    atomic_store(&access_log->state, KN_FLUSHER_AWAKE);
}

/* Producers */

void kn_access_log_write(struct kn_access_log *access_log, const struct kn_access_entry *entry)
{
    char line[KN_ACCESS_LINE_MOST];
    const size_t len = kn_access_line(line, access_log->format, access_log->color, entry);
    uint32_t state;

    if (!kn_ring_push(&access_log->ring, line, len))
        atomic_fetch_add_explicit(&access_log->dropped, 1, memory_order_relaxed);
    state = atomic_load(&access_log->state);
    if (state == KN_FLUSHER_ASLEEP || (state == KN_FLUSHER_NAPPING && is_half_full(access_log)))
        wake(access_log);
}

void kn_access_log_reopen(struct kn_access_log *access_log)
{
    atomic_store(&access_log->reopen, true);
    wake(access_log);
}

void kn_access_log_count(const struct kn_access_log *access_log, struct kino_stats *stats)
{
    stats->access_lines = atomic_load_explicit(&access_log->lines, memory_order_relaxed);
    stats->access_dropped = atomic_load_explicit(&access_log->dropped, memory_order_relaxed);
    stats->access_failed = atomic_load_explicit(&access_log->failed, memory_order_relaxed);
}

/* The flusher */

/* Say what happened to `count` lines, unless something was said just now. False: unsaid. */
static bool report(struct kn_access_log *access_log, const char *what, uint64_t count,
                   const char *why)
{
    const uint64_t now_ns = kn_clock_ns();

    if (access_log->reported_ns &&
        now_ns - access_log->reported_ns < UINT64_C(1) * REPORT_MS * KN_NS_PER_MS)
        return false;
    access_log->reported_ns = now_ns;
    pthread_mutex_lock(&access_log->mutex);
    if (!access_log->abandoned)
        kn_log(&access_log->log, KINO_LOG_WARNING,
               "access log %s: %s: %s; lines lost so far: %" PRIu64,
               kn_log_file_name(&access_log->file), what, why, count);
    pthread_mutex_unlock(&access_log->mutex);
    return true;
}

static uint64_t lost(const struct kn_access_log *access_log)
{
    return atomic_load_explicit(&access_log->failed, memory_order_relaxed) +
           atomic_load_explicit(&access_log->dropped, memory_order_relaxed);
}

static void report_dropped(struct kn_access_log *access_log)
{
    const uint64_t dropped = atomic_load_explicit(&access_log->dropped, memory_order_relaxed);

    if (dropped != access_log->dropped_told &&
        report(access_log, "dropped lines", lost(access_log),
               "they came faster than they could be written"))
        access_log->dropped_told = dropped;
}

static void reopen_if_asked(struct kn_access_log *access_log)
{
    int rc;

    if (!atomic_load(&access_log->reopen))
        return;
    atomic_store(&access_log->reopen, false);
    rc = kn_log_file_reopen(&access_log->file);
    if (rc < 0)
        report(access_log, "cannot reopen, going on with the old file", lost(access_log),
               kino_strerror(rc));
}

static uint64_t count_lines(const char *data, size_t len)
{
    uint64_t lines = 0;

    for (size_t i = 0; i < len; i++)
        lines += data[i] == '\n';
    return lines;
}

/* Take lines from the queue. False: no more are there. */
static bool gather(struct kn_access_log *access_log)
{
    size_t len;

    access_log->batch_len = 0;
    while ((len = kn_ring_next(&access_log->ring)) > 0) {
        if (len > sizeof(access_log->batch) - access_log->batch_len)
            return true;
        kn_ring_pop(&access_log->ring, access_log->batch + access_log->batch_len, len);
        access_log->batch_len += len;
    }
    return false;
}

static bool is_too_late(const struct kn_access_log *access_log)
{
    return is_stopping(access_log) && kn_clock_ns() >= atomic_load(&access_log->stop_deadline_ns);
}

/* The file takes no more of the batch. */
static void give_up(struct kn_access_log *access_log, size_t written, int rc)
{
    const char *rest = access_log->batch + written;
    const uint64_t lines = count_lines(rest, access_log->batch_len - written);

    if (written > 0 && rest[-1] != '\n')
        kn_log_file_tear(&access_log->file);
    atomic_fetch_add_explicit(&access_log->failed, lines, memory_order_relaxed);
    report(access_log, "cannot write", lost(access_log), kino_strerror(rc));
}

static void write_batch(struct kn_access_log *access_log)
{
    const size_t len = access_log->batch_len;
    size_t written = 0;
    int rc = 0;

    while (written < len && (rc >= 0 || rc == KINO_AGAIN)) {
        if (is_too_late(access_log))
            rc = KINO_TIMED_OUT;
        else
            rc = kn_log_file_write(&access_log->file, access_log->batch + written, len - written,
                                   KN_ACCESS_INTERVAL_MS);
        if (rc > 0)
            written += (size_t)rc;
    }
    atomic_fetch_add_explicit(&access_log->lines, count_lines(access_log->batch, written),
                              memory_order_relaxed);
    if (written < len)
        give_up(access_log, written, rc);
}

static void drop_reference(struct kn_access_log *access_log)
{
    if (atomic_fetch_sub_explicit(&access_log->refs, 1, memory_order_acq_rel) > 1)
        return;
    kn_log_file_close(&access_log->file);
    kn_ring_deinit(&access_log->ring);
    pthread_mutex_destroy(&access_log->mutex);
    kn_free(access_log);
}

static void *run_flusher(void *argument)
{
    struct kn_access_log *access_log = argument;
    bool stopping;
    bool more;

    do {
        stopping = is_stopping(access_log); /* first: so what was queued before is found below */
        reopen_if_asked(access_log);
        more = gather(access_log);
        if (access_log->batch_len > 0) {
            write_batch(access_log);
            report_dropped(access_log);
            if (!more)
                nap(access_log);
        } else if (!stopping) {
            sleep_until_woken(access_log);
        }
    } while (!stopping || access_log->batch_len > 0);
    atomic_store_explicit(&access_log->ended, 1, memory_order_release);
    kn_futex_wake(&access_log->ended, INT_MAX);
    drop_reference(access_log);
    return NULL;
}

/* Life */

static int open_file(struct kn_log_file *file, const struct kino_access_log *access,
                     const struct kn_log *log)
{
    int rc;

    if (access->flags & KINO_ACCESS_DESCRIPTOR) {
        rc = kn_log_file_adopt(file, access->descriptor);
        if (rc < 0)
            kn_log(log, KINO_LOG_ERROR, "access log: cannot write to descriptor %" PRIu64 ": %s",
                   access->descriptor,
                   rc == KINO_INVALID ? "it is open for reading only" : kino_strerror(rc));
        return rc;
    }
    rc = kn_log_file_open(file, access->path);
    if (rc < 0)
        kn_log(log, KINO_LOG_ERROR, "access log: cannot open %.*s: %s",
               access->path.len < PATH_MAX ? (int)access->path.len : PATH_MAX, access->path.data,
               rc == KINO_INVALID ? "there is a NUL in the path" : kino_strerror(rc));
    return rc;
}

int kn_access_log_create(const struct kino_access_log *access, const struct kn_log *log,
                         struct kn_access_log **out)
{
    struct kn_access_log *access_log = kn_alloc_zeroed(sizeof(*access_log));
    int rc;

    if (!access_log)
        return -ENOMEM;
    rc = kn_ring_init(&access_log->ring, access->queue_bytes);
    if (rc < 0)
        goto fail_memory;
    rc = open_file(&access_log->file, access, log);
    if (rc < 0)
        goto fail_ring;
    access_log->format = (enum kino_access_format)access->format;
    access_log->color = access->flags & KINO_ACCESS_COLOR;
    access_log->log = *log;
    pthread_mutex_init(&access_log->mutex, NULL);
    atomic_init(&access_log->state, KN_FLUSHER_AWAKE);
    atomic_init(&access_log->stop_deadline_ns, go_on);
    atomic_init(&access_log->refs, 1);
    *out = access_log;
    return 0;

fail_ring:
    kn_ring_deinit(&access_log->ring);
fail_memory:
    kn_free(access_log);
    return rc;
}

int kn_access_log_start(struct kn_access_log *access_log)
{
    int rc;

    if (access_log->abandoned)
        return KINO_BUSY;
    atomic_store(&access_log->stop_deadline_ns, go_on);
    atomic_store(&access_log->ended, 0);
    atomic_fetch_add_explicit(&access_log->refs, 1, memory_order_relaxed);
    rc = kn_thread_start_named(&access_log->thread, "kino-log", run_flusher, access_log);
    if (rc < 0)
        atomic_fetch_sub_explicit(&access_log->refs, 1, memory_order_relaxed);
    access_log->running = rc == 0;
    return rc;
}

static bool wait_for_end(struct kn_access_log *access_log, uint64_t deadline_ns)
{
    while (!atomic_load_explicit(&access_log->ended, memory_order_acquire)) {
        if (kn_clock_ns() >= deadline_ns)
            return false;
        kn_futex_wait(&access_log->ended, 0, deadline_ns);
    }
    return true;
}

void kn_access_log_stop(struct kn_access_log *access_log)
{
    const uint64_t now_ns = kn_clock_ns();

    if (!access_log->running)
        return;
    access_log->running = false;
    atomic_store(&access_log->stop_deadline_ns,
                 now_ns + UINT64_C(1) * KN_ACCESS_FINISH_MS * KN_NS_PER_MS);
    wake(access_log);
    if (wait_for_end(access_log, now_ns + UINT64_C(1) * KN_ACCESS_ABANDON_MS * KN_NS_PER_MS)) {
        pthread_join(access_log->thread, NULL);
        return;
    }
    pthread_mutex_lock(&access_log->mutex);
    access_log->abandoned = true;
    pthread_mutex_unlock(&access_log->mutex);
    pthread_detach(access_log->thread);
}

void kn_access_log_destroy(struct kn_access_log *access_log)
{
    if (!access_log)
        return;
    kn_access_log_stop(access_log);
    drop_reference(access_log);
}

void kn_access_log_forget(struct kn_access_log *access_log)
{
    if (!access_log)
        return;
    kn_log_file_close(&access_log->file);
    kn_ring_deinit(&access_log->ring);
    kn_free(access_log);
}

/* For programs */

/* Put the defaults where 0 stands, and judge the rest. */
static int resolve(struct kino_access_log *access, const struct kn_log *log)
{
    const bool has_path = access->path.data != NULL;
    const bool has_descriptor = access->flags & KINO_ACCESS_DESCRIPTOR;

    if (access->format == 0)
        access->format = KINO_ACCESS_COMBINED;
    if (access->queue_bytes == 0)
        access->queue_bytes = DEFAULT_QUEUE_BYTES;
    if (access->format > KINO_ACCESS_SHORT)
        kn_log(log, KINO_LOG_ERROR, "access log: there is no format %" PRIu64, access->format);
    else if (access->flags & ~known_flags)
        kn_log(log, KINO_LOG_ERROR, "access log: there are no flags 0x%" PRIx64,
               access->flags & ~known_flags);
    else if (access->queue_bytes < LEAST_QUEUE_BYTES || access->queue_bytes > MOST_QUEUE_BYTES)
        kn_log(log, KINO_LOG_ERROR,
               "access log: queue_bytes is %" PRIu64 ": it must lie in %d .. %d",
               access->queue_bytes, LEAST_QUEUE_BYTES, MOST_QUEUE_BYTES);
    else if (has_path == has_descriptor)
        kn_log(log, KINO_LOG_ERROR, "access log: it needs a path or a descriptor, not %s",
               has_path ? "both" : "neither");
    else
        return 0;
    return KINO_INVALID;
}

int kino_server_log_access(struct kino_server *server, const struct kino_access_log *access)
{
    struct kino_access_log given;
    struct kn_access_log *access_log;
    int rc = kn_abi_read(&given, sizeof(given), access);

    if (rc < 0)
        return rc;
    if (server->owner || atomic_load(&server->access_log))
        return KINO_BUSY;
    rc = resolve(&given, &server->log);
    if (rc == 0)
        rc = kn_access_log_create(&given, &server->log, &access_log);
    if (rc == 0)
        atomic_store(&server->access_log, access_log);
    return rc;
}

int kino_server_reopen_logs(struct kino_server *server)
{
    struct kn_access_log *access_log = atomic_load(&server->access_log);

    if (access_log)
        kn_access_log_reopen(access_log);
    return 0;
}
