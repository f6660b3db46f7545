/* SPDX-License-Identifier: MIT */
#ifndef KN_DISPATCH_EXCHANGE_H
#define KN_DISPATCH_EXCHANGE_H

#include "base/chain.h"
#include "base/list.h"
#include "base/mailbox.h"
#include "http/head.h"
#include "http/response.h"
#include "kino.h"

#include <netinet/in.h>
#include <pthread.h>

struct kn_conn;

enum {
    KN_STREAM_MOST = 64 << 10, /* bytes that wait in a stream; past it nothing more goes in */
};

/* What users tell the loop of a request; POSTED says that the mail is on its way. */
enum kn_exchange_fact {
    KN_FACT_ANSWERED = 1 << 0, /* `out` or `failure` holds the answer, or `stream` its beginning */
    KN_FACT_RELEASED = 1 << 1, /* no user has a reference: the memory is the loop's alone */
    KN_FACT_ABORTED = 1 << 2,  /* close the connection */
    KN_FACT_STREAM = 1 << 3,   /* `stream` has bytes, or its end, or `arrived` has room */
    KN_FACT_POSTED = 1 << 4,
};

/* Bits of kino_request.state beside enum kino_request_state, for ourselves. */
enum kn_exchange_state {
    KN_STATE_STREAMING = 1 << 16,   /* set by the claim: the answer is a stream */
    KN_STATE_FINISHED = 1 << 17,    /* it is written to its end */
    KN_STATE_BODY_OPEN = 1 << 18,   /* handed out before its body was complete, which it is not */
    KN_STATE_INTERRUPTED = 1 << 19, /* the current kino_request_wait or the next is to end */
    KN_STATE_SLEEPING = 1 << 20,    /* somebody sleeps on `state` */
    KN_STATE_DRIVING = 1 << 21,     /* a driver waits, in its loop */
    KN_STATE_RAW = 1 << 22,         /* with STREAMING: 101, and raw bytes behind it */
    KN_STATE_EXPECTING = 1 << 23,   /* the client waits for a 100, which nobody has sent */
    KN_STATE_PUBLIC = 0xffff,       /* those of enum kino_request_state */
};

enum kn_body_state {
    KN_BODY_COMING,
    KN_BODY_COMPLETE,
    KN_BODY_BROKEN,
};

/* One request and its one answer. Shared: a loop owns the memory, users count references. */
struct kino_request {
    struct kn_mail mail;            /* belongs to who set POSTED, then to the mailbox */
    struct kn_mailbox *home;        /* constant; one reference for as long as the memory lives */
    struct kn_signature *signature; /* likewise */
    _Atomic uint32_t facts;         /* acq_rel: enum kn_exchange_fact */
    _Atomic uint32_t state; /* acq_rel, a futex: both enums of states; ANSWERED is the claim */
    _Atomic uint32_t users; /* release on drop, acquire on the last one */
    unsigned failure;       /* the claim's winner writes it: a status of ours instead of `out` */
    _Atomic uint64_t worker_id; /* relaxed: who took it; 0 nobody */
    _Atomic uint64_t taken_ns;  /* relaxed: when */
    struct kn_head head;        /* the loop writes before the lane push; then read-only */
    struct kn_buf body;         /* likewise, where the body is whole; else the loop's */
    struct kn_framing framing;  /* likewise, but a user who won the claim writes it */
    struct kn_chain out;        /* the users'; the loop's after ANSWERED without a failure */
    char peer_text[INET6_ADDRSTRLEN];
    char local_text[INET6_ADDRSTRLEN];

    pthread_mutex_t mutex;  /* over what follows */
    struct kn_chain stream; /* users append, the loop takes: interim answers, a streamed one */
    bool cut;               /* its end is not that of the answer */
    unsigned interims;      /* answers of 1xx that were put there and not taken yet */
    uint64_t body_bytes;    /* of the body, that were put there */
    struct kn_buf arrived;  /* the loop appends, the reader takes: body, or raw bytes */
    bool blocked;           /* it was full: the loop wants to be told of room */
    enum kn_body_state body_state;
    struct kn_head trailers; /* the loop's until COMPLETE; then read-only */

    struct kn_buf piece; /* the reader's: what it is looking at */
    bool piece_given;    /* the reader's: of a whole body */
    uint32_t untold;     /* the writer's: facts that wait for the next piece */

    /* Loop-only from here on. */
    struct kn_conn *conn; /* NULL once it is closed */
    struct kn_list order; /* in the connection's: of due answers, then of held requests */
    struct kn_list live;  /* in the loop's list of those its users may hold */
    struct kn_list queue; /* in the loop's list of those that wait for a place in the lane */
    uint64_t queued_ms;   /* since when it waits there */
    uint64_t published_ns;
    uint64_t due_ms; /* then it is answered 504; UINT64_MAX: never */
    bool safe;       /* RFC 9110 9.2.1 */
    bool dispatched; /* pushed on the lane: users have it, or will */
    uint64_t handed; /* of `body_bytes`, those that are in the connection's output or were */
    bool streams;    /* its stream has been used */
    bool answered;
    bool counted; /* by the statistics */
    bool taken;   /* its answer is in the connection's output */
    bool released;
    bool in_flight; /* counted as such */
};

/* NULL when out of memory. Owned by the calling loop; free with kn_exchange_destroy. */
struct kino_request *kn_exchange_create(struct kn_mailbox *home, struct kn_signature *signature,
                                        kn_mail_fn deliver);
void kn_exchange_destroy(struct kino_request *request);

/* Make it as new but for its memory, of which it keeps at most `keep` bytes a buffer. Loop only,
 * and only when no user has it. */
void kn_exchange_reset(struct kino_request *request, size_t keep);

/* Win the right to answer. False: somebody was first. Any thread. */
bool kn_exchange_claim(struct kino_request *request);

/* Tell the loop. Any thread with a user reference, or, with RELEASED, one that had the last and
 * keeps the mailbox alive by a reference to it or to its server. */
void kn_exchange_post(struct kino_request *request, uint32_t facts);

/* Write the answer and claim. As kino_request_respond, but tells nobody: `facts` is what there is
 * to tell. */
int kn_exchange_answer(struct kino_request *request, const struct kino_response *response,
                       uint32_t *facts);

/* Is this no answer, but one that comes before it? */
bool kn_exchange_is_interim(const struct kino_response *response);

/* Drop a user reference. Returns the facts that are to be posted for it: RELEASED and perhaps
 * ANSWERED or ABORTED, or 0. */
uint32_t kn_exchange_drop(struct kino_request *request);

/* The loop's side. */

/* Set bits of the state and end the waits for them. */
void kn_exchange_tell(struct kino_request *request, uint32_t bits);

/* Append `out` to the stream, for a user. 0; KINO_ANSWERED and KINO_AGAIN, of an interim answer
 * only: it comes too late, or too many wait; -ENOMEM: the stream is cut. */
int kn_exchange_add_stream(struct kino_request *request, bool is_interim);
/* Does so much wait in the stream that the loop must be told, though more is announced? */
bool kn_exchange_is_stuffed(const struct kino_request *request);

/* Give a reader what has come of the body: all of `body`, which is empty then. 0 or -ENOMEM. */
int kn_exchange_deliver(struct kino_request *request, struct kn_buf *body);
/* The body is complete, or will never be. */
void kn_exchange_end_body(struct kino_request *request, enum kn_body_state how);
/* Is there no room for more of the body? Then the loop is told when there is. */
bool kn_exchange_is_full(struct kino_request *request);

/* What kn_exchange_take_stream came upon. */
enum kn_stream_end {
    KN_STREAM_GOES_ON,
    KN_STREAM_FINISHED,
    KN_STREAM_CUT, /* nothing more will come, and it was not all */
};

/* Move what was written to `out`, and tell how many interim answers are in it. An enum
 * kn_stream_end, or -ENOMEM. */
int kn_exchange_take_stream(struct kino_request *request, struct kn_chain *out, unsigned *interims);

/* The connection is done with it, though its users are not: nobody reads what they write, and
 * nothing more comes to be read. */
void kn_exchange_sever(struct kino_request *request, uint32_t state);

/* Give back what an answer lent that came after that. */
void kn_exchange_discard(struct kino_request *request);

#endif
