/* SPDX-License-Identifier: MIT */
#ifndef KN_SERVER_CONN_H
#define KN_SERVER_CONN_H

#include "base/timer.h"
#include "dispatch/exchange.h"
#include "http/http1.h"
#include "io/io.h"

#include <assert.h>

struct kn_loop;
struct kn_socket;

enum {
    KN_CONN_PENDING_MOST = 64 << 10, /* unparsed bytes of a connection that must wait */
    KN_CONN_OUT_MOST = 256 << 10,    /* answers not being sent yet; past it no request is begun */
    KN_CONN_LINGER_MS = 2000,        /* for a client to read our last answer and close */
    KN_CONN_VECTORS = 6,             /* parts that leave in one send */
    KN_CONN_FILE_BYTES = 128 << 10,  /* of a file that are read at once */
    KN_CONN_HANDOVER_MS = 2000,      /* for a new client to say something, though we drain */
};

/* An HTTP/1 connection. Driver-only. Owned by its loop; freed by its last completion. */
struct kn_conn {
    struct kn_list link;    /* kn_loop.conns */
    struct kn_list dirty;   /* kn_loop.dirty */
    struct kn_list starved; /* kn_loop.starved */
    struct kn_list to_read; /* kn_loop.to_read */
    struct kn_loop *loop;
    struct kn_file file;
    struct kn_op receive_op;
    struct kn_op send_op; /* or the read of a file that goes out next */
    struct kn_op end_op;  /* shutdown, then close */
    unsigned ops;         /* operations in flight */

    struct kn_http1 http1;
    /* Its request is not complete yet. It is in `order` if it was handed out at its head. */
    struct kino_request *reading;
    struct kino_request *raw; /* 101 was answered: all that comes is its */
    struct kn_list order;     /* complete requests, oldest first, whose answers are due */
    struct kn_list held;      /* answered ones that a user still has */
    unsigned open;            /* dispatched or to be, and not released */
    struct kn_buf pending;    /* received and not parsed, because others come first */
    struct kn_chain out;      /* to be sent next */
    struct kn_chain sending;  /* at its front in the kernel, or a file that is read */
    struct iovec vectors[KN_CONN_VECTORS];
    struct msghdr message;

    struct kn_timer timer; /* at the earliest of the three */
    uint64_t read_deadline_ms;
    uint64_t write_deadline_ms;
    uint64_t answer_deadline_ms; /* some request of `order` may be due then */
    uint64_t body_since_ms;      /* when the body began, but for the time it was held back */
    uint64_t held_ms;            /* since when it is held back; 0: it is not */
    /* Something waits to be sent since then, were the time it took before counted in; 0: nothing
     * does. */
    uint64_t write_since_ms;
    uint64_t write_ms; /* that something waited before */
    uint64_t written;  /* in all */

    uint64_t arrival_ns; /* of the first byte of the last request; 0: none has come */
    unsigned listener;
    uint32_t peer_port;
    uint32_t local_port;
    char peer_text[INET6_ADDRSTRLEN];
    char local_text[INET6_ADDRSTRLEN];

    bool in_body;      /* the head of `reading` is complete */
    bool receiving;    /* a receive is in flight */
    bool stopped;      /* `pending` is full: do not receive */
    bool send_busy;    /* a send is in flight, or the read of a file */
    bool continue_due; /* a 100 waits for the answers before it */
    bool last;         /* no request after the ones we have */
    bool rejected;     /* input was left unread: linger */
    bool lingering;
    bool peer_done;
    bool closing;
    bool close_started;
};

/* An idle client costs this and nothing else; 896 is a size that mimalloc does not round up. */
#ifndef KN_FAULTS /* whose operations remember more */
static_assert(sizeof(struct kn_conn) <= 896, "an idle connection has less than a kilobyte");
#endif

/* Take over an accepted descriptor. On failure it is closed and a line logged. */
void kn_conn_open(struct kn_loop *loop, int fd, const struct kn_socket *socket);

/* Send what is due. */
void kn_conn_flush(struct kn_conn *conn);

/* Something can be had of an exchange in `order`: an answer, or a part of one. */
void kn_conn_answered(struct kn_conn *conn);

/* A reader has made room for more of a body, or a client gets the 100 that it waits for. */
void kn_conn_go_on(struct kn_conn *conn);

/* An exchange was published, and is to be answered by its `due_ms`. */
void kn_conn_await(struct kn_conn *conn, const struct kino_request *request);

/* An exchange in `order` gets no answer, or no more of it: the connection ends behind the ones
 * before it. False: it has had all of it. */
bool kn_conn_end_at(struct kn_conn *conn, struct kino_request *request);
/* The same by our own will. */
void kn_conn_aborted(struct kn_conn *conn, struct kino_request *request);

/* No user has this exchange any more, whose answer was taken before. */
void kn_conn_released(struct kn_conn *conn, struct kino_request *request);

/* Receive, unless that is under way or not wanted now. */
void kn_conn_receive(struct kn_conn *conn);

/* Finish what was begun and close; an idle one at once. */
void kn_conn_drain(struct kn_conn *conn);

/* The ring is gone and nothing will complete: give up the exchanges, close, and leave the memory,
 * which the kernel may still read. */
void kn_conn_abandon(struct kn_conn *conn);

/* Cancel all, give up the exchanges, and close. Idempotent; the memory goes with the last
 * completion. */
void kn_conn_close(struct kn_conn *conn);
/* The same by our own will, though an answer may be due. */
void kn_conn_cut(struct kn_conn *conn);

/* Between the parts of a connection. */

const struct kino_config *kn_conn_config(const struct kn_conn *conn);
/* When `bytes` since then are too few for a rate in bytes a second, after a time of grace. */
uint64_t kn_conn_rate_deadline(uint64_t since_ms, uint64_t bytes, uint64_t rate, uint64_t grace_ms);
/* Have the timer run to the earliest deadline. */
void kn_conn_arm(struct kn_conn *conn);
/* From now; KINO_OFF is never. */
void kn_conn_set_read_deadline(struct kn_conn *conn, uint64_t delay_ms);
void kn_conn_set_write_deadline(struct kn_conn *conn, uint64_t delay_ms);
/* Have kn_conn_flush called in the next turn. */
void kn_conn_mark_dirty(struct kn_conn *conn);

/* Tell the users of these requests, linked by their `order`. */
void kn_conn_tell(struct kn_list *requests, uint32_t state);
/* Tell the statistics of an answer that is handed to the connection. */
void kn_conn_count_answer(struct kn_conn *conn, const struct kino_request *request,
                          unsigned status);
/* Tell the access log how a request ended: with so much of this answer, or none where the status is
 * 0. */
void kn_conn_log_access(struct kn_conn *conn, const struct kino_request *request, unsigned status,
                        uint64_t body_bytes);

/* Have nothing more to do with these requests. */
void kn_conn_forget_all(struct kn_conn *conn, struct kn_list *requests);

void kn_conn_on_receive(struct kn_op *op, const struct kn_completion *completion);
/* Go on with what was kept, after answers have made room. */
void kn_conn_parse_pending(struct kn_conn *conn);
/* Answer for ourselves what no user has seen, and read no more. */
void kn_conn_reject(struct kn_conn *conn, unsigned status);
/* Forget the request that is not complete. */
void kn_conn_drop_partial(struct kn_conn *conn);
/* Nothing more is read of `reading`. Returns it. */
struct kino_request *kn_conn_end_reading(struct kn_conn *conn);
/* Hand what was received to whoever reads raw bytes. */
void kn_conn_switch(struct kn_conn *conn);

void kn_conn_on_send(struct kn_op *op, const struct kn_completion *completion);
/* Send a 100 once the answers before it are out. */
void kn_conn_send_continue(struct kn_conn *conn);

#endif
