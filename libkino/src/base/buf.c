/* SPDX-License-Identifier: MIT */
#include "base/buf.h"

#include "base/alloc.h"

#include <assert.h>
#include <errno.h>

static const size_t smallest_capacity = 512;

int kn_buf_reserve(struct kn_buf *buf, size_t extra)
{
    size_t cap = buf->cap ? buf->cap : smallest_capacity;
    char *data;

    if (buf->cap - buf->len >= extra)
        return 0;
    if (extra > SIZE_MAX / 2 - buf->len)
        return -ENOMEM;
    while (cap < buf->len + extra)
        cap *= 2;
    data = kn_realloc(buf->data, cap);
    if (!data)
        return -ENOMEM;
    buf->data = data;
    buf->cap = cap;
    return 0;
}

int kn_buf_allocate(struct kn_buf *buf, size_t cap)
{
    buf->data = kn_alloc(cap);
    if (!buf->data)
        return -ENOMEM;
    buf->len = 0;
    buf->cap = cap;
    return 0;
}

int kn_buf_append(struct kn_buf *buf, const void *data, size_t len)
{
    int rc;

    if (len == 0)
        return 0;
    rc = kn_buf_reserve(buf, len);
    if (rc < 0)
        return rc;
    kn_buf_put(buf, data, len);
    return 0;
}

void kn_buf_consume(struct kn_buf *buf, size_t count)
{
    assert(count <= buf->len);
    buf->len -= count;
    if (buf->len > 0)
        memmove(buf->data, buf->data + count, buf->len);
}

void kn_buf_reset(struct kn_buf *buf, size_t keep)
{
    buf->len = 0;
    if (buf->cap > keep)
        kn_buf_deinit(buf);
}

void kn_buf_swap(struct kn_buf *a, struct kn_buf *b)
{
    struct kn_buf held = *a;

    *a = *b;
    *b = held;
}

void kn_buf_deinit(struct kn_buf *buf)
{
    kn_free(buf->data);
    *buf = (struct kn_buf){0};
}
