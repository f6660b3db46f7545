/* SPDX-License-Identifier: MIT */
#ifndef KN_BASE_ABI_H
#define KN_BASE_ABI_H

#include <stddef.h>

/* Copy a struct of the caller's that begins with its size into ours. What the caller does not have
 * is zero. 0, or KINO_INVALID: it is longer than ours and its tail is not zero, or its size is
 * absurd. Any thread. */
int kn_abi_read(void *out, size_t out_size, const void *in);

/* Copy a struct of ours that begins with its size into the caller's, whose size is set: as much as
 * both have, and zero behind it; the size becomes what was copied. 0, or KINO_INVALID: the caller's
 * size is absurd. Any thread, async-signal-safe. */
int kn_abi_write(void *out, const void *in, size_t in_size);

#endif
