/* SPDX-License-Identifier: MIT */
#include "kino_ext.h"

VALUE ext_native;

RUBY_FUNC_EXPORTED void Init_kino_ext(void)
{
    VALUE kino;

#ifdef HAVE_RB_EXT_RACTOR_SAFE
    rb_ext_ractor_safe(true);
#endif
    kino = rb_define_module("Kino");
    ext_native = rb_define_module_under(kino, "Native");
    rb_define_const(ext_native, "VERSION", rb_obj_freeze(rb_str_new_cstr(kino_version())));
    ext_error_init(kino);
    ext_server_init();
    ext_worker_init();
    ext_env_init();
    ext_response_init();
    ext_share_init();
}
