/* SPDX-License-Identifier: MIT */
#include "fault/script.h"

TestErrors(KN_FAULT_ENTER, every_call_of_the_ring_may_fail, EAGAIN)
    TestErrors(KN_FAULT_ENTER, every_call_of_the_ring_may_fail, EBUSY)
        TestErrors(KN_FAULT_ENTER, every_call_of_the_ring_may_fail, EINTR)
