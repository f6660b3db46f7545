/* SPDX-License-Identifier: MIT */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>

enum {
    LONGEST_LINE = 512, /* a longer one is cut */
};

void kn_log(const struct kn_log *log, enum kino_log_level level, const char *format, ...)
{
    char line[LONGEST_LINE];
    va_list arguments;

    if (!log->fn)
        return;
    va_start(arguments, format);
    vsnprintf(line, sizeof(line), format, arguments);
    va_end(arguments);
    log->fn(log->context, level, line);
}
