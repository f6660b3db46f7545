/* SPDX-License-Identifier: MIT */
#ifndef KN_DISPATCH_EXCHANGE_H
#define KN_DISPATCH_EXCHANGE_H

#include "base/buf.h"
#include "base/list.h"
#include "base/mailbox.h"
#include "http/head.h"
#include "http/response.h"
#include "kino.h"

#include <netinet/in.h>

struct kn_conn;

/* What users tell the loop of a request; POSTED says that the mail is on its way. */
enum kn_exchange_fact {
    KN_FACT_ANSWERED = 1 << 0, /* `out` or `failure` holds the answer */
    KN_FACT_RELEASED = 1 << 1, /* no user has a reference: the memory is the loop's alone */
    KN_FACT_ABORTED = 1 << 2,  /* close the connection */
    KN_FACT_POSTED = 1 << 3,
};

/* One request and its one answer. Shared: a loop owns the memory, users count references. */
struct kino_request {
    struct kn_mail mail;     /* belongs to who set POSTED, then to the mailbox */
    struct kn_mailbox *home; /* constant; one reference for as long as the memory lives */
    _Atomic uint32_t facts;  /* acq_rel: enum kn_exchange_fact */
    _Atomic uint32_t state;  /* acq_rel: enum kino_request_state; ANSWERED is the claim */
    _Atomic uint32_t users;  /* release on drop, acquire on the last one */
    unsigned failure;        /* the claim's winner writes it: a status of ours instead of `out` */
    _Atomic uint64_t worker_id; /* relaxed: who took it; 0 nobody */
    struct kn_head head;        /* the loop writes before the lane push; then read-only */
    struct kn_buf body;         /* likewise */
    struct kn_framing framing;  /* likewise, but a user who won the claim writes keep_alive */
    struct kn_buf out;          /* the users'; the loop's after ANSWERED without a failure */
    char peer_text[INET6_ADDRSTRLEN];
    char local_text[INET6_ADDRSTRLEN];

    /* Loop-only from here on. */
    struct kn_conn *conn; /* NULL once it is closed */
    struct kn_list order; /* in the connection's: of due answers, then of held requests */
    struct kn_list live;  /* in the loop's list of those its users may hold */
    struct kn_list queue; /* in the loop's list of those that wait for a place in the lane */
    uint64_t queued_ms;   /* since when it waits there */
    bool safe;            /* RFC 9110 9.2.1 */
    bool dispatched;      /* pushed on the lane: users have it, or will */
    bool answered;
    bool taken; /* its answer is in the connection's output */
    bool released;
};

/* NULL when out of memory. Owned by the calling loop; free with kn_exchange_destroy. */
struct kino_request *kn_exchange_create(struct kn_mailbox *home, kn_mail_fn deliver);
void kn_exchange_destroy(struct kino_request *request);

/* Make it as new but for its memory, of which it keeps at most `keep` bytes a buffer. Loop only,
 * and only when no user has it. */
void kn_exchange_reset(struct kino_request *request, size_t keep);

/* Win the right to answer. False: somebody was first. Any thread. */
bool kn_exchange_claim(struct kino_request *request);

/* Tell the loop. Any thread with a user reference, or, with RELEASED, one that had the last and
 * keeps the mailbox alive by a reference to it or to its server. */
void kn_exchange_post(struct kino_request *request, uint32_t facts);

/* Write the answer and claim. As kino_request_respond, but tells nobody. */
int kn_exchange_answer(struct kino_request *request, const struct kino_response *response);

/* Drop a user reference. Returns the facts that are to be posted for it: RELEASED and perhaps
 * ANSWERED, or 0. */
uint32_t kn_exchange_drop(struct kino_request *request);

#endif
