/* SPDX-License-Identifier: MIT */
/* One request as a line of the access log: SPEC.md 8.2 to 8.4. */
#ifndef KN_SERVER_ACCESS_LINE_H
#define KN_SERVER_ACCESS_LINE_H

#include "kino.h"

#include <stdbool.h>

enum {
    KN_ACCESS_VALUE_MOST = 2048, /* bytes that a client's value takes in a line; then it is cut */
    KN_ACCESS_VALUES = 5,        /* such values in a line, the peer among them */
    KN_ACCESS_REST_MOST = 512,   /* all the rest of a line */
    KN_ACCESS_LINE_MOST = KN_ACCESS_VALUES * KN_ACCESS_VALUE_MOST + KN_ACCESS_REST_MOST,
};

/* What is told of a request. Caller's; its slices are borrowed for the call, and absent (NULL data)
 * where there is no such thing. */
struct kn_access_entry {
    struct kino_slice peer; /* numeric address */
    struct kino_slice method;
    struct kino_slice target;
    struct kino_slice referer;
    struct kino_slice user_agent;
    uint64_t time_ms;     /* of the line; of CLOCK_REALTIME */
    uint64_t bytes;       /* of the answer's body, sent */
    uint64_t duration_us; /* from the request's first byte; KINO_OFF: absent */
    uint64_t queue_us;    /* until it was taken; KINO_OFF: it never was */
    uint32_t version;     /* enum kino_http_version; 0: absent */
    uint32_t status;      /* 0: there was no answer */
};

/* Write the line with its newline to `out`, which has room for KN_ACCESS_LINE_MOST bytes. Returns
 * its length. Any thread. */
size_t kn_access_line(char *out, enum kino_access_format format, bool color,
                      const struct kn_access_entry *entry);

#endif
