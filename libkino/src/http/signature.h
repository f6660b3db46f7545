/* SPDX-License-Identifier: MIT */
#ifndef KN_HTTP_SIGNATURE_H
#define KN_HTTP_SIGNATURE_H

#include "kino.h"

#include <stdatomic.h>

enum {
    KN_SIGNATURE_MAX = 256, /* of the field's line */
};

/* The `server` field as it is sent, with CRLF, or empty. Shared and counted: an answer may be
 * written when its server is gone. */
struct kn_signature {
    _Atomic uint32_t refs; /* release on drop, acquire on the last one */
    size_t len;
    char line[];
};

/* Owned: one reference. `value` absent: the library's name; empty: no field. 0; -ENOMEM;
 * KINO_INVALID: not a field value. */
int kn_signature_create(struct kino_slice value, struct kn_signature **out);
void kn_signature_hold(struct kn_signature *signature);
void kn_signature_drop(struct kn_signature *signature);

#endif
