/* SPDX-License-Identifier: MIT */
#ifndef KN_HTTP_HTTP1_H
#define KN_HTTP_HTTP1_H

#include "http/head.h"

#include <llhttp.h>

enum kn_http1_event {
    KN_HTTP1_MORE,   /* all input is consumed and the message is not complete */
    KN_HTTP1_HEAD,   /* the head is complete and sealed, and a body follows; feed on */
    KN_HTTP1_DONE,   /* the message is complete; kn_http1_begin before the next */
    KN_HTTP1_REJECT, /* answer `status` and close; feed no more */
};

/* Where in a message the next byte belongs. Each has its bound; see http1.c. */
enum kn_http1_phase {
    KN_HTTP1_IN_EMPTY_LINES,
    KN_HTTP1_IN_UNKNOWN_METHOD,
    KN_HTTP1_IN_HEAD,
    KN_HTTP1_IN_CHUNK_LINE,
    KN_HTTP1_IN_DATA,
    KN_HTTP1_IN_TRAILERS,
    KN_HTTP1_AT_END,
};

/* The request parser of one HTTP/1 connection: bytes in, events out, no I/O. Loop-only; embedded in
 * its connection. Takes any split of the input. */
struct kn_http1 {
    llhttp_t parser;
    const struct kn_limits *limits; /* borrowed; outlives the parser */
    struct kn_head *head;           /* borrowed from kn_http1_begin until DONE or REJECT */
    struct kn_buf *body;            /* likewise; body bytes are appended to it */
    struct kn_head *trailers;       /* likewise; its fields, sealed at DONE */
    int status;                     /* after REJECT: 400 .. 599 */
    uint64_t body_bytes;            /* so far */
    bool keep_alive;                /* after HEAD and DONE: the client wants to go on */
    bool expects_continue;          /* after HEAD: it waits for a 100 */
    bool upgrades;                  /* after HEAD and DONE: it offers another protocol */

    /* The parser's own. */
    enum kn_http1_phase phase;
    size_t left;               /* bytes that the phase may still have */
    char awaited;              /* what the next byte but spaces must be; 0: anything */
    char refused;              /* what it must not be; 0: nothing */
    enum kn_http1_event event; /* what a callback paused for */
};

void kn_http1_init(struct kn_http1 *http1, const struct kn_limits *limits);

/* Begin a message. `head`, `body` and `trailers` are emptied and filled; of `body` the caller may
 * take away what is there, at any time. */
void kn_http1_begin(struct kn_http1 *http1, struct kn_head *head, struct kn_buf *body,
                    struct kn_head *trailers);

/* Has any byte of the current message (leading empty lines apart) come? */
bool kn_http1_started(const struct kn_http1 *http1);

/* Parse up to the next event. Returns how many bytes were consumed: all of them after MORE. Out of
 * memory is a REJECT with 503. */
size_t kn_http1_feed(struct kn_http1 *http1, const char *data, size_t len,
                     enum kn_http1_event *event);

#endif
