/* SPDX-License-Identifier: MIT */
#ifndef KN_BASE_BUF_H
#define KN_BASE_BUF_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* A growing run of bytes. One thread at a time; zero is a valid empty buffer that owns nothing. */
struct kn_buf {
    char *data;
    size_t len;
    size_t cap;
};

/* Make room for `extra` more bytes behind `len`. 0 or -ENOMEM; then the buffer is as before. */
int kn_buf_reserve(struct kn_buf *buf, size_t extra);

/* Give an empty buffer, that owns nothing, exactly this capacity. 0 or -ENOMEM. */
int kn_buf_allocate(struct kn_buf *buf, size_t cap);

/* 0 or -ENOMEM; then the buffer is as before. */
int kn_buf_append(struct kn_buf *buf, const void *data, size_t len);

/* Append where a kn_buf_reserve has made room. */
static inline void kn_buf_put(struct kn_buf *buf, const void *data, size_t len)
{
    memcpy(buf->data + buf->len, data, len);
    buf->len += len;
}

/* Drop `count` bytes at the front. */
void kn_buf_consume(struct kn_buf *buf, size_t count);

/* Empty the buffer for reuse; its memory is freed if it is larger than `keep` bytes. */
void kn_buf_reset(struct kn_buf *buf, size_t keep);

void kn_buf_swap(struct kn_buf *a, struct kn_buf *b);

void kn_buf_deinit(struct kn_buf *buf);

#endif
