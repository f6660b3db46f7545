/* SPDX-License-Identifier: MIT */
/* What goes wrong on purpose, in a build with -Dfaults=true; any other has nothing of it. */
#ifndef KN_BASE_FAULT_H
#define KN_BASE_FAULT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What can fail. */
enum kn_fault {
    KN_FAULT_ALLOCATION,
    KN_FAULT_OPERATION,  /* of the ring, which the kernel then never sees */
    KN_FAULT_COMPLETION, /* of one that the kernel has run */
    KN_FAULT_ENTER,      /* io_uring_enter */
    KN_FAULT_KINDS,
};

#ifdef KN_FAULTS

/* Have the `number`th of its kind from now fail once with -errno; 0: none. Any thread. */
void kn_fault_plan(enum kn_fault kind, uint64_t number, int error);
/* Did it? */
bool kn_fault_happened(void);

/* Where one may be: what it fails with, or 0. Any thread. */
int kn_fault_due(enum kn_fault kind);

/* Allocations count themselves, from the first one on. */
void kn_fault_allocated(int difference, size_t size);
int64_t kn_fault_live(void);
/* The largest since the last plan. */
size_t kn_fault_largest(void);

#else

static inline int kn_fault_due(enum kn_fault kind)
{
    (void)kind;
    return 0;
}

static inline void kn_fault_allocated(int difference, size_t size)
{
    (void)difference;
    (void)size;
}

#endif
#endif
