/* SPDX-License-Identifier: MIT */
#include "base/alloc.h"

#include "base/fault.h"

#ifdef KN_ALLOCATOR_LIBC
#include <stdlib.h>
#define mi_malloc malloc
#define mi_zalloc(size) calloc(1, size)
#define mi_realloc realloc
#define mi_free free
#else
#include <mimalloc.h>
#endif

/* Count it, where faults are built in. */
static void *made(void *memory, size_t size)
{
    if (memory)
        kn_fault_allocated(1, size);
    return memory;
}

void *kn_alloc(size_t size)
{
    return kn_fault_due(KN_FAULT_ALLOCATION) ? NULL : made(mi_malloc(size), size);
}

void *kn_alloc_zeroed(size_t size)
{
    return kn_fault_due(KN_FAULT_ALLOCATION) ? NULL : made(mi_zalloc(size), size);
}

void *kn_realloc(void *memory, size_t size)
{
    if (!memory)
        return kn_alloc(size);
    if (kn_fault_due(KN_FAULT_ALLOCATION))
        return NULL;
    kn_fault_allocated(0, size);
    return mi_realloc(memory, size);
}

void kn_free(void *memory)
{
    if (memory)
        kn_fault_allocated(-1, 0);
    mi_free(memory);
}
