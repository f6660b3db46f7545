/* SPDX-License-Identifier: MIT */
#include "fault/script.h"

TestEach(faults, every_allocation_may_fail)
{
    script_run_each(dispatch, KN_FAULT_ALLOCATION, -ENOMEM);
}
