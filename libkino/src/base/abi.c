/* SPDX-License-Identifier: MIT */
#include "base/abi.h"

#include "kino.h"

#include <stdbool.h>
#include <string.h>

enum {
    LARGEST_STRUCT = 4096, /* a larger size is a mistake, and its tail not worth a look */
};

/* All fields are of eight bytes: any other size would cut one in half. */
static bool is_size(uint64_t size)
{
    return size >= sizeof(size) && size <= LARGEST_STRUCT && size % sizeof(size) == 0;
}

int kn_abi_read(void *out, size_t out_size, const void *in)
{
    const unsigned char *bytes = in;
    uint64_t size;

    memcpy(&size, in, sizeof(size));
    if (!is_size(size))
        return KINO_INVALID;
    for (uint64_t i = out_size; i < size; i++)
        if (bytes[i] != 0)
            return KINO_INVALID;
    memset(out, 0, out_size);
    memcpy(out, in, size < out_size ? size : out_size);
    return 0;
}

int kn_abi_write(void *out, const void *in, size_t in_size)
{
    uint64_t size;
    uint64_t copied;

    memcpy(&size, out, sizeof(size));
    if (!is_size(size))
        return KINO_INVALID;
    copied = size < in_size ? size : in_size;
    memset(out, 0, size);
    memcpy(out, in, copied);
    memcpy(out, &copied, sizeof(copied));
    return 0;
}
