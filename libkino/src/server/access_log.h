/* SPDX-License-Identifier: MIT */
/*
 * The access log: drivers put lines into a queue, a thread of its own writes them.
 *
 * Each loop's driver calls kn_access_log_write, by kn_conn_log_access, once for each request whose
 * end is known: the last of its answer is handed to the connection (refusals and 408 included), or
 * it gets none (an abort, the deadline of a drain): status 0. One that is cut has its status, and
 * the bytes that were handed over. An interim answer has no line.
 */
#ifndef KN_SERVER_ACCESS_LOG_H
#define KN_SERVER_ACCESS_LOG_H

#include "base/log.h"
#include "base/ring.h"
#include "server/access_line.h"
#include "server/log_file.h"

#include <pthread.h>

enum {
    KN_ACCESS_INTERVAL_MS = 100,     /* a line waits no longer, if the file takes it */
    KN_ACCESS_BATCH_BYTES = 1 << 16, /* of lines that are written at once */
    KN_ACCESS_FINISH_MS = 1000,      /* at the end, for all that is queued to be written */
    KN_ACCESS_ABANDON_MS = 2000,     /* at the end, for the thread to come back from a write */
};

enum kn_flusher_state {
    KN_FLUSHER_AWAKE,
    KN_FLUSHER_NAPPING, /* lines gather; wakes by itself after KN_ACCESS_INTERVAL_MS */
    KN_FLUSHER_ASLEEP,  /* until there is a line */
};

/* Shared and counted: one reference for the server, one for the thread. */
struct kn_access_log {
    enum kino_access_format format; /* constant, like the next two */
    bool color;
    struct kn_log log;
    struct kn_ring ring;               /* drivers push, the flusher pops */
    _Atomic uint32_t state;            /* a futex; seq_cst against the ring's commits and flags */
    _Atomic bool reopen;               /* a flag */
    _Atomic uint64_t stop_deadline_ns; /* a flag, too: UINT64_MAX is go on */
    _Atomic uint32_t ended;            /* release at the thread's end; a futex */
    _Atomic uint32_t refs;             /* release on drop, acquire on the last one */
    _Atomic uint64_t lines;            /* relaxed: written */
    _Atomic uint64_t dropped;          /* relaxed: the queue was full */
    _Atomic uint64_t failed;           /* relaxed: taken from the queue and not written */

    pthread_mutex_t mutex; /* over the callback, and over the next one */
    bool abandoned;        /* the server is gone: the callback may not be called */

    pthread_t thread; /* the server's, like the next one */
    bool running;

    /* The flusher's only, once it runs. */
    struct kn_log_file file;
    char batch[KN_ACCESS_BATCH_BYTES];
    size_t batch_len;
    uint64_t dropped_told;
    uint64_t reported_ns; /* when the last line about trouble was logged */
};

/* Open the file. `access` is resolved: nothing of it is 0 that may not be. 0, or, after a line that
 * says what and why, KINO_INVALID or -errno; -ENOMEM. Owned by the caller. */
int kn_access_log_create(const struct kino_access_log *access, const struct kn_log *log,
                         struct kn_access_log **out);

/* Begin to write. 0 or -errno; KINO_BUSY: a thread before is stuck in a write. */
int kn_access_log_start(struct kn_access_log *access_log);

/* Write what was queued before, and end: within KN_ACCESS_ABANDON_MS, whatever the file does. What
 * is not written by then is lost. May be started again. */
void kn_access_log_stop(struct kn_access_log *access_log);

/* Stop and free; a thread that is stuck frees it when it comes back. NULL is allowed. */
void kn_access_log_destroy(struct kn_access_log *access_log);

/* The same in a child of the process that started it: closes and frees, no more. */
void kn_access_log_forget(struct kn_access_log *access_log);

/* Queue a line, or count that it was dropped. Any thread; never blocks, and calls the kernel only
 * to wake the flusher: for a line that finds it asleep or the queue half full. */
void kn_access_log_write(struct kn_access_log *access_log, const struct kn_access_entry *entry);

/* Open the path anew before the next write. Any thread; async-signal-safe. */
void kn_access_log_reopen(struct kn_access_log *access_log);

/* Set the numbers that the access log counts. Any thread; async-signal-safe. */
void kn_access_log_count(const struct kn_access_log *access_log, struct kino_stats *stats);

#endif
