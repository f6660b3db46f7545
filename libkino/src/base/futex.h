/* SPDX-License-Identifier: MIT */
#ifndef KN_BASE_FUTEX_H
#define KN_BASE_FUTEX_H

#include <stdatomic.h>
#include <stdint.h>

/* Sleep while `*word` is `expected`, at most until `deadline_ns` of the monotonic clock
 * (UINT64_MAX: no end). May return early: look again. Any thread. */
void kn_futex_wait(const _Atomic uint32_t *word, uint32_t expected, uint64_t deadline_ns);

/* Wake up to `count` sleepers. Any thread, async-signal-safe; leaves errno alone. */
void kn_futex_wake(const _Atomic uint32_t *word, int count);

#endif
