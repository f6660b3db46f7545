/* SPDX-License-Identifier: MIT */
#include "base/alloc.h"

#ifdef KN_ALLOCATOR_LIBC
#include <stdlib.h>
#define mi_malloc malloc
#define mi_zalloc(size) calloc(1, size)
#define mi_realloc realloc
#define mi_free free
#else
#include <mimalloc.h>
#endif

void *kn_alloc(size_t size)
{
    return mi_malloc(size);
}

void *kn_alloc_zeroed(size_t size)
{
    return mi_zalloc(size);
}

void *kn_realloc(void *memory, size_t size)
{
    return mi_realloc(memory, size);
}

void kn_free(void *memory)
{
    mi_free(memory);
}
