/* SPDX-License-Identifier: MIT */
#ifndef KN_HTTP_STATUS_H
#define KN_HTTP_STATUS_H

#include <stdint.h>

enum {
    KN_STATUS_MIN = 100,
    KN_STATUS_SWITCHING = 101,
    KN_STATUS_FINAL = 200, /* what is less is interim, but 101 */
    KN_STATUS_NO_CONTENT = 204,
    KN_STATUS_NOT_MODIFIED = 304,
    KN_STATUS_MAX = 999,
};

/* The status line of HTTP/1.1, with its CRLF, of a status that is registered. Else NULL. */
const char *kn_status_line(uint64_t status);

#endif
