/* SPDX-License-Identifier: MIT */
/* One scripted exchange, again and again: the first time the first of a kind fails, the next time
 * the second, until none is left. After each run the process lives, at most one request has
 * suffered, a new client is served, all that was lent has come back once, and nothing is left. */
#ifndef TEST_FAULT_SCRIPT_H
#define TEST_FAULT_SCRIPT_H

#include "fault/stage.h"

void script_run_each(uint64_t dispatch, enum kn_fault kind, int error);

#define TestErrors(kind, name, error)                                                              \
    TestMost(faults, name##_by_##error)                                                            \
    {                                                                                              \
        script_run_each(dispatch, kind, -error);                                                   \
    }

#endif
