/* SPDX-License-Identifier: MIT */
#include "http/payload.h"

#include <limits.h>
#include <unistd.h>

enum {
    BORROW_LEAST = 4096, /* a shorter body is copied all the same: that is cheaper */
};

static int read_payload(uint64_t flags, uint64_t descriptor, struct kn_payload *payload)
{
    payload->is_file = flags & KINO_BODY_FILE;
    if (!payload->is_file) {
        payload->length = payload->data.len;
        return 0;
    }
    if (descriptor > INT_MAX || payload->offset > INT64_MAX ||
        payload->length > INT64_MAX - payload->offset)
        return KINO_INVALID;
    payload->descriptor = (int)descriptor;
    return 0;
}

int kn_payload_of_response(const struct kino_response *response, struct kn_payload *out)
{
    const uint64_t known = KINO_BODY_FILE | KINO_BODY_MORE | KINO_BODY_STREAM;

    if (response->flags & ~known)
        return KINO_INVALID;
    *out = (struct kn_payload){
        .data = response->body,
        .offset = response->offset,
        .length = response->length,
        .done = response->done,
        .context = response->done_context,
    };
    return read_payload(response->flags, response->descriptor, out);
}

int kn_payload_of_piece(const struct kino_piece *piece, struct kn_payload *out)
{
    const uint64_t known = KINO_BODY_FILE | KINO_BODY_MORE;

    if (piece->flags & ~known)
        return KINO_INVALID;
    *out = (struct kn_payload){
        .data = piece->data,
        .offset = piece->offset,
        .length = piece->length,
        .done = piece->done,
        .context = piece->done_context,
    };
    return read_payload(piece->flags, piece->descriptor, out);
}

void kn_payload_return(const struct kn_payload *payload)
{
    if (payload->done)
        payload->done(payload->context);
    else if (payload->is_file)
        close(payload->descriptor);
}

bool kn_payload_is_lent(const struct kn_payload *payload, uint64_t len)
{
    return payload->is_file || (payload->done && len >= BORROW_LEAST);
}

int kn_payload_append(struct kn_chain *out, const struct kn_payload *payload, uint64_t len)
{
    int rc;

    if (len == 0) {
        kn_payload_return(payload);
        return 0;
    }
    if (payload->is_file)
        rc = kn_chain_add_file(out, payload->descriptor, payload->offset, len, payload->done,
                               payload->context);
    else if (kn_payload_is_lent(payload, len))
        rc = kn_chain_borrow(out, (struct kino_slice){payload->data.data, (size_t)len},
                             payload->done, payload->context);
    else
        rc = kn_chain_append(out, payload->data.data, (size_t)len);
    if (rc < 0 || !kn_payload_is_lent(payload, len))
        kn_payload_return(payload);
    return rc;
}
