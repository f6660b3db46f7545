/* SPDX-License-Identifier: MIT */
#ifndef KN_HTTP_PAYLOAD_H
#define KN_HTTP_PAYLOAD_H

#include "base/chain.h"
#include "kino.h"

#include <stdbool.h>

/* A body or a part of it: bytes, or a file's. What kino.h says of `done` holds. */
struct kn_payload {
    struct kino_slice data; /* its length is a file's, too */
    bool is_file;
    int descriptor;
    uint64_t offset;
    uint64_t length;
    kino_done_fn done;
    void *context;
};

/* Is what a caller passed sendable as a body? 0 or KINO_INVALID. */
int kn_payload_of_response(const struct kino_response *response, struct kn_payload *out);
int kn_payload_of_piece(const struct kino_piece *piece, struct kn_payload *out);
/* Be done with it unsent. */
void kn_payload_return(const struct kn_payload *payload);

/* Are its first `len` bytes sent from where they are? */
bool kn_payload_is_lent(const struct kn_payload *payload, uint64_t len);
/* Append its first `len` bytes; it is taken over, whatever comes of it. 0 or -ENOMEM. */
int kn_payload_append(struct kn_chain *out, const struct kn_payload *payload, uint64_t len);

#endif
