/* SPDX-License-Identifier: MIT */
#ifndef KN_BASE_ABI_H
#define KN_BASE_ABI_H

#include <stddef.h>

/* Copy a struct of the caller's that begins with its size into ours. What the caller does not have
 * is zero. 0, or KINO_INVALID: it is longer than ours and its tail is not zero, or its size is
 * absurd. Any thread. */
int kn_abi_read(void *out, size_t out_size, const void *in);

#endif
