/* SPDX-License-Identifier: MIT */
#ifndef KN_HTTP_RESPONSE_H
#define KN_HTTP_RESPONSE_H

#include "base/chain.h"
#include "http/payload.h"
#include "http/signature.h"
#include "kino.h"

#include <stdbool.h>

/* How the end of a body is told to the client. */
enum kn_coding {
    KN_CODING_NONE,    /* there is no body: what is written goes nowhere */
    KN_CODING_LENGTH,  /* by content-length */
    KN_CODING_CHUNKED, /* by a last chunk */
    KN_CODING_CLOSE,   /* by the end of the connection */
    KN_CODING_RAW,     /* likewise; after 101 */
};

/* What the request and its connection ask of an answer, and how its body goes on. */
struct kn_framing {
    const struct kn_signature *signature; /* borrowed; NULL: no `server` field */
    uint32_t version;                     /* of the request, enum kino_http_version */
    bool is_head;                         /* the request's method is HEAD */
    bool upgrade;                         /* 101 is allowed */
    bool keep_alive;       /* in: the connection may go on; out: it goes on after this answer */
    enum kn_coding coding; /* out */
    uint64_t left;         /* out, LENGTH: bytes that are still announced */
    uint64_t sent;         /* out: bytes of the body so far */
    unsigned status;       /* out */
};

/* Append a final answer to `out`, as kino.h says of struct kino_response: the head, and as much of
 * the body as is there. Takes over the payload, but not with KINO_INVALID. Any thread. 0;
 * KINO_INVALID, and `out` and `framing` are as before; -ENOMEM, and `out` is spoiled. */
int kn_response_write(struct kn_chain *out, const struct kino_response *response,
                      const struct kn_payload *payload, struct kn_framing *framing);

/* Append an interim answer, of 1xx but 101. 0, KINO_INVALID or -ENOMEM, likewise. */
int kn_response_write_interim(struct kn_chain *out, const struct kino_response *response);

/* Append the library's own 100 (Continue). 0 or -ENOMEM, and `out` is as before. */
int kn_response_write_continue(struct kn_chain *out);

/* Append a further part of a body. Takes over the payload. 0 or -ENOMEM, after which the answer
 * cannot go on. */
int kn_response_write_body(struct kn_chain *out, const struct kn_payload *payload,
                           struct kn_framing *framing);

/* Append what ends a body. 0; KINO_INVALID: a trailer cannot be sent; -ENOMEM. */
int kn_response_finish(struct kn_chain *out, const struct kino_field *trailers, uint64_t count,
                       struct kn_framing *framing);

/* Append an answer of the library's own: status line, short text body, connection: close unless
 * framing->keep_alive; a Retry-After of `retry_after_s` seconds unless it is 0. 0 or -ENOMEM. */
int kn_response_write_error(struct kn_chain *out, unsigned status, unsigned retry_after_s,
                            struct kn_framing *framing);

#endif
