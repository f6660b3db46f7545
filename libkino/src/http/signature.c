/* SPDX-License-Identifier: MIT */
#include "http/signature.h"

#include "base/alloc.h"
#include "http/grammar.h"

#include <errno.h>

int kn_signature_create(struct kino_slice value, struct kn_signature **out)
{
    static const char name[] = "kino";
    static const char field[] = "server: ";
    struct kn_signature *signature;

    if (!value.data)
        value = (struct kino_slice){name, sizeof(name) - 1};
    if (value.len > KN_SIGNATURE_MAX - sizeof(field) - 2 || !kn_is_field_value(value))
        return KINO_INVALID;
    signature = kn_alloc_zeroed(sizeof(*signature) + sizeof(field) + value.len + 2);
    if (!signature)
        return -ENOMEM;
    atomic_init(&signature->refs, 1);
    if (value.len > 0) {
        signature->len = sizeof(field) - 1 + value.len + 2;
        memcpy(signature->line, field, sizeof(field) - 1);
        memcpy(signature->line + sizeof(field) - 1, value.data, value.len);
        memcpy(signature->line + signature->len - 2, "\r\n", 2);
    }
    *out = signature;
    return 0;
}

void kn_signature_hold(struct kn_signature *signature)
{
    atomic_fetch_add_explicit(&signature->refs, 1, memory_order_relaxed);
}

void kn_signature_drop(struct kn_signature *signature)
{
    if (signature && atomic_fetch_sub_explicit(&signature->refs, 1, memory_order_acq_rel) == 1)
        kn_free(signature);
}
