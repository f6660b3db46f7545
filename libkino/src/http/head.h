/* SPDX-License-Identifier: MIT */
#ifndef KN_HTTP_HEAD_H
#define KN_HTTP_HEAD_H

#include "base/buf.h"
#include "kino.h"

#include <stdbool.h>

/* Bounds of a message, in bytes but for max_fields. SIZE_MAX and UINT64_MAX are none. */
struct kn_limits {
    size_t max_head_bytes;
    size_t max_fields;
    size_t max_field_bytes;
    size_t max_target_bytes;
    uint64_t max_body_bytes;
};

/* Method and target as offsets while `text` may still move. */
struct kn_span {
    size_t start;
    size_t len;
};

/* A request's head: written by one parser, then read-only. Owned by its exchange, which reuses its
 * memory for the next request. Loop-only until dispatched, shared afterwards. */
struct kn_head {
    struct kino_head view; /* slices point into `text` and are valid once sealed */
    struct kn_buf text;    /* method, target, then the field block */
    struct kino_field *fields;
    size_t field_capacity;
    struct kn_span method;
    struct kn_span target;
    size_t block_start;
};

/* Zero is a valid empty head. */
void kn_head_deinit(struct kn_head *head);

#endif
