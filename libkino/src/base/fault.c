/* SPDX-License-Identifier: MIT */
#include "base/fault.h"

#ifdef KN_FAULTS

#include <stdatomic.h>

/* The one plan. Shared; seq_cst, since nobody is in a hurry. */
static _Atomic enum kn_fault planned;
static _Atomic int planned_error;
static _Atomic uint64_t left; /* until it is due; 0: it was, or there is none */
static _Atomic bool happened;
static _Atomic int64_t live;
static _Atomic size_t largest;

void kn_fault_plan(enum kn_fault kind, uint64_t number, int error)
{
    atomic_store(&left, 0);
    atomic_store(&planned, kind);
    atomic_store(&planned_error, error);
    atomic_store(&happened, false);
    atomic_store(&largest, 0);
    atomic_store(&left, number);
}

bool kn_fault_happened(void)
{
    return atomic_load(&happened);
}

int kn_fault_due(enum kn_fault kind)
{
    uint64_t before = atomic_load(&left);

    if (before == 0 || atomic_load(&planned) != kind)
        return 0;
    while (before > 0 && !atomic_compare_exchange_weak(&left, &before, before - 1))
        ;
    if (before != 1)
        return 0;
    atomic_store(&happened, true);
    return atomic_load(&planned_error);
}

void kn_fault_allocated(int difference, size_t size)
{
    size_t before = atomic_load(&largest);

    atomic_fetch_add(&live, difference);
    while (size > before && !atomic_compare_exchange_weak(&largest, &before, size))
        ;
}

int64_t kn_fault_live(void)
{
    return atomic_load(&live);
}

size_t kn_fault_largest(void)
{
    return atomic_load(&largest);
}

#endif
