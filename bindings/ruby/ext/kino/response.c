/* SPDX-License-Identifier: MIT */
/* What an app returns becomes a struct kino_response: its fields and its body are slices of Ruby's
 * own strings. Anything but strings is first made into strings by Ruby code. */
#include "kino_ext.h"

#include <errno.h>
#include <string.h>

enum {
    FEWEST_FIELDS = 32,
};

static VALUE body_module, headers_module;
static ID id_read, id_to_strings;

/* By libc: Ruby's allocator may collect garbage and move the strings that the slices point into. */
static bool grow(void **room, size_t *capacity, size_t wanted, size_t unit)
{
    size_t larger = *capacity ? *capacity : FEWEST_FIELDS;
    void *moved;

    if (wanted <= *capacity)
        return true;
    while (larger < wanted)
        larger *= 2;
    moved = realloc(*room, larger * unit);
    if (!moved)
        return false;
    *room = moved;
    *capacity = larger;
    return true;
}

static struct kino_slice slice_of(VALUE string)
{
    return (struct kino_slice){RSTRING_PTR(string), (size_t)RSTRING_LEN(string)};
}

static bool add_field(struct ext_response *response, struct kino_slice name,
                      struct kino_slice value)
{
    if (!grow((void **)&response->fields, &response->capacity, response->count + 1,
              sizeof(*response->fields))) {
        response->result = -ENOMEM;
        return false;
    }
    response->fields[response->count++] = (struct kino_field){.name = name, .value = value};
    return true;
}

/* A value of several lines is a field for each. */
static bool add_lines(struct ext_response *response, VALUE name, VALUE value)
{
    struct kino_slice rest = slice_of(value);
    const char *newline;

    while ((newline = memchr(rest.data, '\n', rest.len))) {
        const struct kino_slice line = {rest.data, (size_t)(newline - rest.data)};

        if (!add_field(response, slice_of(name), line))
            return false;
        rest.data = newline + 1;
        rest.len -= line.len + 1;
    }
    return add_field(response, slice_of(name), rest);
}

/* Stops at what is no string, with KINO_AGAIN. */
static int add_header(VALUE name, VALUE value, VALUE argument)
{
    struct ext_response *response = (struct ext_response *)argument;
    static const char ours[] = "rack.";

    response->result = KINO_AGAIN;
    if (!RB_TYPE_P(name, T_STRING))
        return ST_STOP;
    response->result = 0;
    if (RSTRING_LEN(name) >= (long)sizeof(ours) - 1 &&
        memcmp(RSTRING_PTR(name), ours, sizeof(ours) - 1) == 0)
        return ST_CONTINUE;
    if (RB_LIKELY(RB_TYPE_P(value, T_STRING)))
        return add_lines(response, name, value) ? ST_CONTINUE : ST_STOP;
    response->result = KINO_AGAIN;
    if (!RB_TYPE_P(value, T_ARRAY))
        return ST_STOP;
    for (long i = 0; i < RARRAY_LEN(value); i++) {
        VALUE one = RARRAY_AREF(value, i);

        if (!RB_TYPE_P(one, T_STRING))
            return ST_STOP;
        if (!add_lines(response, name, one))
            return ST_STOP;
    }
    response->result = 0;
    return ST_CONTINUE;
}

static int read_headers(struct ext_response *response, VALUE headers)
{
    response->count = 0;
    response->result = KINO_AGAIN;
    if (RB_TYPE_P(headers, T_HASH)) {
        response->result = 0;
        rb_hash_foreach(headers, add_header, (VALUE)response);
    }
    return response->result;
}

static bool all_strings(VALUE array)
{
    for (long i = 0; i < RARRAY_LEN(array); i++)
        if (!RB_TYPE_P(RARRAY_AREF(array, i), T_STRING))
            return false;
    return true;
}

static int join_parts(struct ext_response *response, VALUE parts, struct kino_slice *out)
{
    size_t length = 0;

    for (long i = 0; i < RARRAY_LEN(parts); i++)
        length += (size_t)RSTRING_LEN(RARRAY_AREF(parts, i));
    if (response->joined_capacity > EXT_JOINED_KEPT) {
        free(response->joined);
        response->joined = NULL;
        response->joined_capacity = 0;
    }
    if (!grow((void **)&response->joined, &response->joined_capacity, length, 1))
        return -ENOMEM;
    *out = (struct kino_slice){response->joined, 0};
    for (long i = 0; i < RARRAY_LEN(parts); i++) {
        const struct kino_slice part = slice_of(RARRAY_AREF(parts, i));

        memcpy(response->joined + out->len, part.data, part.len);
        out->len += part.len;
    }
    return 0;
}

static uint64_t read_status(VALUE status)
{
    return (uint64_t)(RB_FIXNUM_P(status) ? FIX2LONG(status) : NUM2LONG(rb_Integer(status)));
}

void ext_response_read(struct ext_response *response, VALUE triple, struct kino_response *out,
                       struct ext_kept *kept)
{
    VALUE headers;
    VALUE body;
    int rc;

    *out = (struct kino_response){.size = sizeof(*out)};
    if (!RB_TYPE_P(triple, T_ARRAY))
        rb_raise(rb_eTypeError, "the app returned no array but %" PRIsVALUE, rb_obj_class(triple));
    /* First of all what runs code of the app: a body must be closed whatever else is wrong. */
    body = rb_ary_entry(triple, 2);
    if (RB_TYPE_P(body, T_ARRAY) && RBASIC_CLASS(body) == rb_cArray && all_strings(body)) {
        if (RARRAY_LEN(body) == 1)
            body = RARRAY_AREF(body, 0);
    } else {
        body = rb_funcall(body_module, id_read, 1, body);
    }
    if (RARRAY_LEN(triple) != 3)
        rb_raise(rb_eTypeError, "the app returned an array of %ld, not of 3", RARRAY_LEN(triple));
    out->status = read_status(RARRAY_AREF(triple, 0));
    headers = RARRAY_AREF(triple, 1);
    rc = read_headers(response, headers);
    if (RB_UNLIKELY(rc == KINO_AGAIN)) {
        headers = rb_funcall(headers_module, id_to_strings, 1, headers);
        rc = read_headers(response, headers);
    }
    if (rc == 0 && RB_TYPE_P(body, T_ARRAY))
        rc = join_parts(response, body, &out->body);
    else if (rc == 0)
        out->body = slice_of(body);
    if (rc < 0)
        ext_raise(rc, NULL);
    out->fields = response->fields;
    out->field_count = response->count;
    kept->headers = headers;
    kept->body = body;
}

void ext_response_init(void)
{
    VALUE kino = rb_path2class("Kino");

    id_read = rb_intern("read");
    id_to_strings = rb_intern("to_strings");
    body_module = rb_define_module_under(kino, "Body");
    headers_module = rb_define_module_under(kino, "Headers");
}
