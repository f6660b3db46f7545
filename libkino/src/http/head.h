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
    size_t max_chunk_line_bytes;
    size_t max_trailer_bytes;
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
    size_t field_start; /* of the field that is being written */
    bool sealed;        /* the view is whole */
};

/* Zero is a valid empty head. */
void kn_head_deinit(struct kn_head *head);

/* What a parser calls, in this order; each of the first four with any number of pieces. They return
 * 0, or the status to refuse the request with. */

/* Empty the head; its memory is kept. */
void kn_head_begin(struct kn_head *head);
int kn_head_method(struct kn_head *head, const char *data, size_t len);
int kn_head_target(struct kn_head *head, const char *data, size_t len,
                   const struct kn_limits *limits);
int kn_head_name(struct kn_head *head, const char *data, size_t len,
                 const struct kn_limits *limits);
/* Returns the name's enum kino_known_field in `known`. */
int kn_head_name_complete(struct kn_head *head, const struct kn_limits *limits, uint32_t *known);
int kn_head_value(struct kn_head *head, const char *data, size_t len,
                  const struct kn_limits *limits);
int kn_head_value_complete(struct kn_head *head);

/* Fill in the view, but for body and its length, addresses, ports, listener and arrival, and judge
 * target and Host by SPEC.md 2.2 and 2.4. */
int kn_head_seal(struct kn_head *head, enum kino_http_version version);
/* Fill in the fields of the view, where only names and values were read. */
void kn_head_seal_trailers(struct kn_head *head);

#endif
