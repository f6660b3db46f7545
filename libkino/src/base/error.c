/* SPDX-License-Identifier: MIT */
#include "kino.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum {
    LARGEST_ERRNO = 4095,
};

#define KN_TEXT(x) #x
#define KN_VERSION(major, minor, patch) KN_TEXT(major) "." KN_TEXT(minor) "." KN_TEXT(patch)

const char *kino_version(void)
{
    return KN_VERSION(KINO_VERSION_MAJOR, KINO_VERSION_MINOR, KINO_VERSION_PATCH);
}

static const char *own_text(int result)
{
    switch (result) {
    case KINO_AGAIN:
        return "nothing there now, try again";
    case KINO_INVALID:
        return "an argument is out of its range";
    case KINO_CLOSED:
        return "the server is drained";
    case KINO_INTERRUPTED:
        return "the wait was interrupted";
    case KINO_TIMED_OUT:
        return "the wait timed out";
    case KINO_BUSY:
        return "in use: by another thread, by workers, or not stopped yet";
    case KINO_ANSWERED:
        return "the request was answered already";
    case KINO_GONE:
        return "the connection is closed, or the body broke off";
    case KINO_URING_MISSING:
        return "this kernel was built without io_uring: use one with CONFIG_IO_URING, Linux 6.1 or "
               "newer";
    case KINO_URING_DISABLED:
        return "io_uring is disabled on this machine: set the sysctl kernel.io_uring_disabled to 0";
    case KINO_URING_REFUSED:
        return "io_uring is forbidden here, most often by a container's seccomp profile: allow "
               "io_uring_setup, io_uring_enter and io_uring_register in it";
    case KINO_KERNEL_TOO_OLD:
        return "this kernel's io_uring is too old: use Linux 6.1 or newer";
    default:
        return NULL;
    }
}

const char *kino_strerror(int result)
{
    static _Thread_local char text[128];
    const char *own;

    if (result >= 0)
        return "success";
    own = own_text(result);
    if (own)
        return own;
    if (result < -LARGEST_ERRNO)
        snprintf(text, sizeof(text), "unknown result %d", result);
    else
        return strerror_r(-result, text, sizeof(text));
    return text;
}
