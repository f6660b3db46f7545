/* SPDX-License-Identifier: MIT */
#ifndef KN_SERVER_LOOP_H
#define KN_SERVER_LOOP_H

#include "base/list.h"
#include "base/mailbox.h"
#include "base/timer.h"
#include "dispatch/exchange.h"
#include "dispatch/lanes.h"
#include "io/io.h"
#include "kino.h"
#include "server/stats.h"

#include <pthread.h>

struct kino_server;

enum {
    KN_LOOP_SPARES = 64,           /* output buffers kept for reuse */
    KN_LOOP_KEEP_EXCHANGES = 1024, /* free ones kept for reuse */
    KN_LOOP_KEEP_BYTES = 16 << 10, /* of a buffer that is kept */
    KN_LOOP_LARGE_SPARES = 4,      /* buffers of files kept for reuse */
    KN_LOOP_LARGE_BYTES = 160 << 10,
    KN_LOOP_FILE_READS = 4,  /* begun in one turn, so that they are sent while the cache has them */
    KN_LOOP_BATCH = 64,      /* requests made in one turn, so that the cache holds them */
    KN_LOOP_BUSY = 16,       /* completions that make a turn a full one */
    KN_LOOP_NAP_NS = 50000,  /* after a full turn: answers and requests gather */
    KN_LOOP_RESUME_MS = 100, /* until accepting is tried again */
    KN_LOOP_REST_TRIES = 4,  /* turns before a polled driver leaves though there is mail */
    KN_LOOP_CATCH_UP = 64,   /* rounds of completions, after the driver was away */
};

/* What can run out, at some client's cost. */
enum kn_shortage {
    KN_SHORT_OF_MEMORY,
    KN_SHORT_OF_DESCRIPTORS,
    KN_SHORT_OF_CONNECTIONS,
    KN_SHORT_OF_BUFFERS,
    KN_SHORT_OF_WORKERS,
    KN_SHORTAGES,
};

/* One ring, its connections and the lanes of its requests. Driver-only but for mailbox and lanes.
 */
struct kn_loop {
    struct kino_server *server;
    unsigned index;
    struct kn_mailbox *mailbox; /* constant; lives as long as the server or any exchange */
    struct kn_lanes lanes;
    bool driven;               /* under the server's mutex: it has its thread or worker */
    bool takes;                /* likewise: other loops may pass connections to it */
    pthread_t thread;          /* not inline: the library's own */
    _Atomic uint32_t reported; /* likewise: release after start_result; a futex */
    int start_result;          /* of the thread's kn_loop_begin */
    struct kn_list sockets;

    struct kn_io io;
    struct kn_op wake_op;
    bool waking; /* the operation is in flight */
    struct kn_op alarm_op;
    struct __kernel_timespec alarm_at;
    uint64_t alarm_ms; /* when it goes off; UINT64_MAX: it is not in flight */
    bool polled;       /* between turns its driver waits for kn_loop_fd */
    int poll_fd;       /* an epoll of the ring's eventfd and the mailbox's; -1: not asked for */
    struct kn_wheel wheel;
    struct kn_timer resume_timer; /* paused sockets, waiting requests, the drain's deadline */
    uint64_t now_ns;
    uint64_t now_ms;
    struct kn_list conns;
    unsigned conn_count;    /* closing ones included */
    struct kn_list dirty;   /* connections with something to send */
    struct kn_list starved; /* connections that found no receive buffer */
    struct kn_list
        to_read;          /* connections whose next part of a file is to be read in a later turn */
    unsigned reads;       /* of files, begun in this turn */
    struct kn_list live;  /* exchanges that users have, or will */
    struct kn_list queue; /* of those, the ones for which the lanes have no place */
    struct kn_list free_exchanges;
    unsigned free_count;
    struct kn_buf spares[KN_LOOP_SPARES];
    unsigned spare_count;
    struct kn_buf large[KN_LOOP_LARGE_SPARES];
    unsigned large_count;
    uint64_t published;               /* requests pushed in this turn */
    uint64_t warned_ms[KN_SHORTAGES]; /* when the last line about each was logged */
    bool begun;
    bool full_turn;
    bool draining;
    bool quiet;       /* the last turn found nothing to do */
    bool idle_closed; /* draining, and every connection was told */
    bool leaving;     /* its worker is being destroyed: as draining, but the sockets go to others */
    struct kn_stats stats; /* of all its drivers, one after the other */
};

/* Mail of an exchange. */
void kn_loop_on_mail(struct kn_mail *mail, void *driver);

/* Before start, on any thread. 0 or -errno. */
int kn_loop_init(struct kn_loop *loop, struct kino_server *server, unsigned index, unsigned count);
/* No driver is left. Answers that come later are dropped. */
void kn_loop_deinit(struct kn_loop *loop);
/* The same in a child of the process that started the server: frees and closes, no more. */
void kn_loop_forget(struct kn_loop *loop);

/* Make the ring, on the driver's thread, and begin to accept. 0; what kn_io_init says; KINO_CLOSED.
 */
int kn_loop_begin(struct kn_loop *loop, bool migrates);

/* One turn. Sleeps at most until `deadline_ns` (0: not at all) when there is nothing to do. 0;
 * KINO_CLOSED: the loop has ended; or what the kernel says, after which the loop has ended too. */
int kn_loop_turn(struct kn_loop *loop, uint64_t deadline_ns);

/* The descriptor that is readable when a driver that does not sleep in turns should make one. */
int kn_loop_fd(struct kn_loop *loop);
/* The driver leaves for that descriptor, which will tell of mail and deadlines. False: there is
 * mail already, and so a turn to be made. */
bool kn_loop_rest(struct kn_loop *loop);

/* When the ring cannot be driven any more, on any thread: give up its connections, and the sockets
 * to others. Leaks what the kernel may still use. */
void kn_loop_abandon(struct kn_loop *loop);

/* The driver leaves: close what is open and give the sockets to others. */
void kn_loop_leave(struct kn_loop *loop);

/* Answer for a worker. Driver-only. */
void kn_loop_abort_worker(struct kn_loop *loop, uint64_t worker_id, unsigned status);

/* For connections. */

/* A new exchange, not yet dispatched. NULL: out of memory. */
struct kino_request *kn_loop_exchange(struct kn_loop *loop);
/* Take back an exchange that no user and no connection has. */
void kn_loop_recycle(struct kn_loop *loop, struct kino_request *request);
/* Hand a request to the workers. */
void kn_loop_publish(struct kn_loop *loop, struct kino_request *request);
/* Hand out, or give up, those that waited for a place in the lanes. */
void kn_loop_push_queue(struct kn_loop *loop);
/* Answer 504 for a worker that has not answered in time, if it still has not. */
void kn_loop_answer_late(struct kino_request *request);
/* Have the answer be this status, unless there is one; its connection is still to be told. */
void kn_loop_refuse(struct kino_request *request, unsigned status);
/* Count nothing as in flight any more: what users still have gets no answer, and what they tell is
 * perhaps never looked at. */
void kn_loop_land_all(struct kn_loop *loop);
/* Make room in a buffer for so much of a file. 0 or -ENOMEM. */
int kn_loop_enlarge(struct kn_loop *loop, struct kn_buf *buf, size_t extra);
/* Give the buffer's memory to the next answer. */
void kn_loop_spare(struct kn_loop *loop, struct kn_buf *buf);
void kn_loop_conn_closed(struct kn_loop *loop);
/* Tell the statistics how many connections there are. */
void kn_loop_count_conns(struct kn_loop *loop);
/* Say in the log what ran out, of each kind at most once a second. */
void kn_loop_exhausted(struct kn_loop *loop, enum kn_shortage shortage, const char *what);

#endif
