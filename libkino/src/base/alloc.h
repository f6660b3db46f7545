/* SPDX-License-Identifier: MIT */
/* The library's allocator: mimalloc by its own names, so that nobody's malloc is replaced; libc in
 * sanitizer and fuzz builds, where a use after mi_free would go unseen. */
#ifndef KN_BASE_ALLOC_H
#define KN_BASE_ALLOC_H

#include <stddef.h>

/* Any thread. Owned by the caller, freed by kn_free on any thread; NULL when out of memory. */
void *kn_alloc(size_t size);
void *kn_alloc_zeroed(size_t size);
/* `memory` may be NULL. On NULL the old block is untouched. */
void *kn_realloc(void *memory, size_t size);
/* NULL is allowed. */
void kn_free(void *memory);

#endif
