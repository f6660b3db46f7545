/* SPDX-License-Identifier: MIT */
#include "fault/script.h"

TestErrors(KN_FAULT_COMPLETION, every_completion_may_fail, ECANCELED)
    TestErrors(KN_FAULT_COMPLETION, every_completion_may_fail, ECONNRESET)
        TestErrors(KN_FAULT_COMPLETION, every_completion_may_fail, EIO)
            TestErrors(KN_FAULT_COMPLETION, every_completion_may_fail, ENOBUFS)
