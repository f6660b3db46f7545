/* SPDX-License-Identifier: MIT */
#ifndef KN_BASE_LOG_H
#define KN_BASE_LOG_H

#include "kino.h"

/* Where lines go: the caller's callback, or nowhere. Read-only once made; any thread. */
struct kn_log {
    kino_log_fn fn;
    void *context;
};

__attribute__((format(printf, 3, 4))) void
kn_log(const struct kn_log *log, enum kino_log_level level, const char *format, ...);

#endif
