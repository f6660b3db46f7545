/* SPDX-License-Identifier: MIT */
#ifndef KN_HTTP_RESPONSE_H
#define KN_HTTP_RESPONSE_H

#include "base/buf.h"
#include "kino.h"

#include <stdbool.h>

/* What the request and its connection ask of an answer. */
struct kn_framing {
    uint32_t version; /* of the request, enum kino_http_version */
    bool is_head;     /* the request's method is HEAD */
    bool keep_alive;  /* in: the connection may go on; out: it goes on after this answer */
};

/* Append a whole HTTP/1 answer, head and body, to `out`, as kino.h says of struct kino_response.
 * Any thread. 0, KINO_INVALID or -ENOMEM; then `out` and `framing` are as before. */
int kn_response_write(struct kn_buf *out, const struct kino_response *response,
                      struct kn_framing *framing);

/* Append an answer of the library's own: status line, short text body, connection: close unless
 * framing->keep_alive; a Retry-After of `retry_after_s` seconds unless it is 0. 0 or -ENOMEM. */
int kn_response_write_error(struct kn_buf *out, unsigned status, unsigned retry_after_s,
                            struct kn_framing *framing);

#endif
