/* SPDX-License-Identifier: MIT */
#include "kino_ext.h"

#include <errno.h>

static VALUE error_class;

void ext_raise(int result, const char *line)
{
    const char *text = line && *line ? line : kino_strerror(result);

    switch (result) {
    case KINO_INVALID:
        rb_raise(rb_eArgError, "%s", text);
    case -ENOMEM:
        rb_raise(rb_eNoMemError, "%s", text);
    default:
        rb_raise(error_class, "%s", text);
    }
}

void ext_error_init(VALUE kino)
{
    error_class = rb_define_class_under(kino, "Error", rb_eStandardError);
    rb_gc_register_mark_object(error_class);
}
