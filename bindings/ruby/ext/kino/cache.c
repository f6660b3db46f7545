/* SPDX-License-Identifier: MIT */
#include "kino_ext.h"

#include <ruby/encoding.h>
#include <string.h>

VALUE ext_frozen_string(const char *data, long length)
{
    return rb_obj_freeze(rb_str_new(data, length));
}

/* One object with the literals of Ruby code, so that an app's look-up in the env compares pointers.
 */
VALUE ext_interned_string(const char *data, long length)
{
    return rb_enc_interned_str(data, length, rb_utf8_encoding());
}

void ext_cache_init(struct ext_cache *cache, VALUE *places, uint32_t count,
                    VALUE (*make)(const char *data, long length))
{
    *cache = (struct ext_cache){.places = places, .mask = count - 1, .make = make};
}

VALUE ext_cache_fetch(struct ext_cache *cache, VALUE owner, struct kino_slice text)
{
    const long length = (long)text.len;
    VALUE *place;
    VALUE made;

    if (length > EXT_LONGEST_CACHED)
        return cache->make(text.data, length);
    place = &cache->places[rb_memhash(text.data, length) & cache->mask];
    if (*place && RSTRING_LEN(*place) == length &&
        memcmp(RSTRING_PTR(*place), text.data, text.len) == 0)
        return *place;
    made = cache->make(text.data, length);
    RB_OBJ_WRITE(owner, place, made);
    return made;
}
