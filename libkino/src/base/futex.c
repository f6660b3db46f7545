/* SPDX-License-Identifier: MIT */
#include "base/futex.h"

#include "base/clock.h"

#include <errno.h>
#include <linux/futex.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

void kn_futex_wait(const _Atomic uint32_t *word, uint32_t expected, uint64_t deadline_ns)
{
    struct timespec deadline = kn_clock_timespec(deadline_ns);

    /* The bitset form takes an absolute time, so that an early return does not stretch it. */
    syscall(SYS_futex, word, FUTEX_WAIT_BITSET_PRIVATE, expected,
            deadline_ns == UINT64_MAX ? NULL : &deadline, NULL, FUTEX_BITSET_MATCH_ANY);
}

void kn_futex_wake(const _Atomic uint32_t *word, int count)
{
    int held = errno;

    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
    errno = held;
}
