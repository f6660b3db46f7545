/* SPDX-License-Identifier: MIT */
#include "kino_ext.h"

/* @return [Boolean] whether an object may be shared among Ractors once it and what it refers to are
 * frozen. What has its state in C mostly may not. */
static VALUE freezable(VALUE self, VALUE object)
{
    if (RB_SPECIAL_CONST_P(object))
        return Qtrue;
    switch (RB_BUILTIN_TYPE(object)) {
    case T_FILE:
        return Qfalse; /* Ruby would; but nobody can use a frozen one */
    case T_DATA:
        return RTYPEDDATA_P(object) &&
                       (RTYPEDDATA_TYPE(object)->flags & RUBY_TYPED_FROZEN_SHAREABLE)
                   ? Qtrue
                   : Qfalse;
    default:
        return Qtrue;
    }
}

/* @return [Boolean] whether the calling thread is now bound to its native one for good */
static VALUE pin_thread(VALUE self)
{
    return ext_pin_thread() ? Qtrue : Qfalse;
}

void ext_share_init(void)
{
    rb_define_singleton_method(ext_native, "freezable?", freezable, 1);
    rb_define_singleton_method(ext_native, "pin_thread", pin_thread, 0);
}
