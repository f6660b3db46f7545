/* SPDX-License-Identifier: MIT */
/* Requests become Rack envs. A header block seen twice gets a template, whose copy is an env but
 * for what does not depend on the block: that is set where it differs. */
#include "kino_ext.h"

#include <string.h>

/* Keys of every env. */
static VALUE key_method, key_path, key_query, key_protocol, key_server_name, key_server_port;
static VALUE key_remote_address, key_remote_port, key_input;

static VALUE protocol_1_0, protocol_1_1, port_80;
static VALUE input_class;
static ID id_new;

/* By enum ext_varying. */
static VALUE *const varying_keys[EXT_VARYING] = {
    [EXT_METHOD] = &key_method,
    [EXT_PATH] = &key_path,
    [EXT_ADDRESS] = &key_remote_address,
    [EXT_PORT] = &key_remote_port,
};

struct number_text {
    char digits[20];
};

static struct kino_slice format_port(uint32_t port, struct number_text *text)
{
    char *const end = text->digits + sizeof(text->digits);
    char *at = end;

    do
        *--at = (char)('0' + port % 10);
    while ((port /= 10) > 0);
    return (struct kino_slice){at, (size_t)(end - at)};
}

static bool equals(VALUE string, struct kino_slice text)
{
    return (size_t)RSTRING_LEN(string) == text.len &&
           memcmp(RSTRING_PTR(string), text.data, text.len) == 0;
}

static VALUE value_of(struct ext_env *env, struct kino_slice text)
{
    return ext_cache_fetch(&env->values, env->owner, text);
}

static VALUE bytes_of(struct kino_slice text)
{
    return ext_frozen_string(text.data, (long)text.len);
}

/* "content-type" gives CONTENT_TYPE, "accept" HTTP_ACCEPT. Nil for a name with an underscore, which
 * could pass for another with a hyphen. */
static VALUE key_of_field(struct ext_env *env, const struct kino_field *field)
{
    static const char prefix[] = "HTTP_";
    char room[EXT_LONGEST_CACHED];
    VALUE long_key = Qnil;
    VALUE key;
    char *text = room;
    size_t length = 0;

    if (memchr(field->name.data, '_', field->name.len))
        return Qnil;
    if (sizeof(prefix) + field->name.len > sizeof(room)) {
        long_key = rb_str_new(NULL, (long)(sizeof(prefix) + field->name.len));
        text = RSTRING_PTR(long_key);
    }
    if (field->known != KINO_FIELD_CONTENT_TYPE && field->known != KINO_FIELD_CONTENT_LENGTH) {
        length = sizeof(prefix) - 1;
        memcpy(text, prefix, length);
    }
    for (size_t i = 0; i < field->name.len; i++) {
        const char c = field->name.data[i];

        text[length++] = c == '-' ? '_' : c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c;
    }
    key = ext_cache_fetch(&env->names, env->owner, (struct kino_slice){text, length});
    RB_GC_GUARD(long_key);
    return key;
}

static VALUE join(VALUE first, const struct kino_field *field)
{
    VALUE joined = rb_str_dup(first);

    if (field->known == KINO_FIELD_COOKIE)
        rb_str_cat(joined, "; ", 2);
    else
        rb_str_cat(joined, ", ", 2);
    rb_str_cat(joined, field->value.data, (long)field->value.len);
    return rb_obj_freeze(joined);
}

static void set_fields(struct ext_env *env, VALUE hash, const struct kino_head *head)
{
    for (uint64_t i = 0; i < head->field_count; i++) {
        const struct kino_field *field = &head->fields[i];
        VALUE key = key_of_field(env, field);
        VALUE first;
        VALUE value;

        if (NIL_P(key))
            continue;
        first = rb_hash_lookup2(hash, key, Qundef);
        if (first != Qundef)
            value = join(first, field);
        else if (field->flags & KINO_FIELD_SENSITIVE)
            value = bytes_of(field->value);
        else if (field->known == KINO_FIELD_HOST)
            /* An absolute target overrules it (RFC 9112 3.2.2). */
            value = value_of(env, head->authority);
        else
            value = value_of(env, field->value);
        rb_hash_aset(hash, key, value);
    }
}

/* A unix socket has no addresses, but Rack asks for some: whoever uses it is on this machine. */
static struct kino_slice address_of(struct kino_slice address)
{
    static const char loopback[] = "127.0.0.1";

    return address.data ? address : (struct kino_slice){loopback, sizeof(loopback) - 1};
}

/* Where there is a Host, its name and port; else the socket's. */
static void set_server(struct ext_env *env, VALUE hash, const struct kino_head *head)
{
    const struct kino_slice authority = head->authority;
    struct kino_slice name = authority;
    struct number_text number;
    VALUE port = port_80;

    if (authority.len > 0) {
        const char *colon = memrchr(authority.data, ':', authority.len);

        if (colon && !memchr(colon, ']', authority.len - (size_t)(colon - authority.data))) {
            name.len = (size_t)(colon - authority.data);
            if (name.len + 1 < authority.len)
                port = value_of(env, (struct kino_slice){colon + 1, authority.len - name.len - 1});
        }
        rb_hash_aset(hash, key_server_name, value_of(env, name));
    } else {
        const struct kino_slice local = address_of(head->local_address);
        VALUE address = value_of(env, local);

        if (memchr(local.data, ':', local.len))
            address = rb_obj_freeze(rb_sprintf("[%" PRIsVALUE "]", address));
        rb_hash_aset(hash, key_server_name, address);
        port = value_of(env, format_port(head->local_port, &number));
    }
    rb_hash_aset(hash, key_server_port, port);
}

static struct kino_slice varying_text(const struct kino_head *head, enum ext_varying which,
                                      struct number_text *number)
{
    switch (which) {
    case EXT_METHOD:
        return head->method;
    case EXT_PATH:
        return head->path;
    case EXT_ADDRESS:
        return address_of(head->peer_address);
    default:
        return format_port(head->peer_port, number);
    }
}

/* Set what varies, where it is not what `have` says the hash holds. */
static void set_varying(struct ext_env *env, VALUE hash, const struct kino_head *head,
                        const VALUE *have)
{
    struct number_text number;

    for (int i = 0; i < EXT_VARYING; i++) {
        const struct kino_slice text = varying_text(head, i, &number);

        if (!have || !equals(have[i], text))
            rb_hash_aset(hash, *varying_keys[i], value_of(env, text));
    }
}

static VALUE build(struct ext_env *env, const struct kino_head *head)
{
    VALUE hash = rb_hash_dup(env->base);

    rb_hash_aset(hash, key_protocol, head->version == KINO_HTTP_1_0 ? protocol_1_0 : protocol_1_1);
    set_varying(env, hash, head, NULL);
    set_server(env, hash, head);
    set_fields(env, hash, head);
    return hash;
}

/* Whether a copy of the template is this request's env but for what varies. */
static bool answers_to(const struct ext_template *template, const struct kino_head *head)
{
    if (!template->env || template->block_hash != head->block_hash ||
        template->block_length != head->block.len || template->version != head->version)
        return false;
    if (memcmp(template->block, head->block.data, head->block.len) != 0)
        return false;
    return head->authority.len > 0 && equals(template->authority, head->authority);
}

static void keep(struct ext_env *env, struct ext_template *template, const struct kino_head *head,
                 VALUE hash)
{
    char *block = malloc(head->block.len);

    if (!block)
        return;
    memcpy(block, head->block.data, head->block.len);
    free(template->block);
    template->block = block;
    template->block_length = head->block.len;
    template->block_hash = head->block_hash;
    template->version = head->version;
    RB_OBJ_WRITE(env->owner, &template->env, rb_obj_freeze(rb_hash_dup(hash)));
    RB_OBJ_WRITE(env->owner, &template->authority, value_of(env, head->authority));
    for (int i = 0; i < EXT_VARYING; i++)
        RB_OBJ_WRITE(env->owner, &template->varying[i], rb_hash_lookup(hash, *varying_keys[i]));
}

/* Only a block that comes again is worth a template: one that changes with each request must not
 * drive out those that do not. */
static VALUE without_template(struct ext_env *env, struct ext_template *template,
                              const struct kino_head *head)
{
    VALUE hash = build(env, head);

    if ((head->flags & KINO_HEAD_SENSITIVE) || head->block.len > EXT_LARGEST_BLOCK ||
        head->authority.len == 0)
        return hash;
    if (template->seen_hash == head->block_hash)
        keep(env, template, head, hash);
    template->seen_hash = head->block_hash;
    return hash;
}

VALUE ext_env_build(struct ext_env *env, const struct kino_head *head)
{
    struct ext_template *template = &env->templates[head->block_hash % EXT_TEMPLATES];
    VALUE hash;

    if (RB_LIKELY(answers_to(template, head))) {
        hash = rb_hash_dup(template->env);
        set_varying(env, hash, head, template->varying);
    } else {
        hash = without_template(env, template, head);
    }
    if (head->query.len > 0)
        rb_hash_aset(hash, key_query, bytes_of(head->query));
    if (head->body.data) {
        VALUE body = rb_str_new(head->body.data, (long)head->body.len);

        rb_hash_aset(hash, key_input, rb_funcall(input_class, id_new, 1, body));
    }
    return hash;
}

void ext_env_setup(struct ext_env *env, VALUE owner, VALUE base)
{
    env->owner = owner;
    RB_OBJ_WRITE(owner, &env->base, base);
    ext_cache_init(&env->names, env->name_places, EXT_NAMES, ext_interned_string);
    ext_cache_init(&env->values, env->value_places, EXT_VALUES, ext_frozen_string);
}

typedef void (*visit_fn)(VALUE *at);

static void visit(struct ext_env *env, visit_fn each)
{
    each(&env->base);
    for (size_t i = 0; i < EXT_NAMES; i++)
        each(&env->name_places[i]);
    for (size_t i = 0; i < EXT_VALUES; i++)
        each(&env->value_places[i]);
    for (size_t i = 0; i < EXT_TEMPLATES; i++) {
        struct ext_template *template = &env->templates[i];

        each(&template->env);
        each(&template->authority);
        for (size_t j = 0; j < EXT_VARYING; j++)
            each(&template->varying[j]);
    }
}

static void mark_one(VALUE *at)
{
    if (*at)
        rb_gc_mark_movable(*at);
}

static void update_one(VALUE *at)
{
    if (*at)
        *at = rb_gc_location(*at);
}

void ext_env_mark(struct ext_env *env)
{
    visit(env, mark_one);
}

void ext_env_compact(struct ext_env *env)
{
    visit(env, update_one);
    if (env->owner)
        env->owner = rb_gc_location(env->owner);
}

void ext_env_free(struct ext_env *env)
{
    for (size_t i = 0; i < EXT_TEMPLATES; i++)
        free(env->templates[i].block);
}

size_t ext_env_size(const struct ext_env *env)
{
    size_t size = 0;

    for (size_t i = 0; i < EXT_TEMPLATES; i++)
        size += env->templates[i].block_length;
    return size;
}

static void define_key(VALUE *at, const char *name)
{
    *at = ext_interned_string(name, (long)strlen(name));
    rb_gc_register_mark_object(*at);
}

void ext_env_init(void)
{
    id_new = rb_intern("new");
    define_key(&key_method, "REQUEST_METHOD");
    define_key(&key_path, "PATH_INFO");
    define_key(&key_query, "QUERY_STRING");
    define_key(&key_protocol, "SERVER_PROTOCOL");
    define_key(&key_server_name, "SERVER_NAME");
    define_key(&key_server_port, "SERVER_PORT");
    define_key(&key_remote_address, "REMOTE_ADDR");
    define_key(&key_remote_port, "REMOTE_PORT");
    define_key(&key_input, "rack.input");
    define_key(&protocol_1_0, "HTTP/1.0");
    define_key(&protocol_1_1, "HTTP/1.1");
    define_key(&port_80, "80");
    input_class = rb_define_class_under(rb_path2class("Kino"), "Input", rb_cObject);
}
