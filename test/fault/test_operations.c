/* SPDX-License-Identifier: MIT */
#include "fault/script.h"

TestErrors(KN_FAULT_OPERATION, every_operation_may_be_refused, EBUSY)
    TestErrors(KN_FAULT_OPERATION, every_operation_may_be_refused, ECANCELED)
        TestErrors(KN_FAULT_OPERATION, every_operation_may_be_refused, EIO)
            TestErrors(KN_FAULT_OPERATION, every_operation_may_be_refused, EMFILE)
                TestErrors(KN_FAULT_OPERATION, every_operation_may_be_refused, ENOBUFS)
