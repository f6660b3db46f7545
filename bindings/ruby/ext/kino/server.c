/* SPDX-License-Identifier: MIT */
#include "kino_ext.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MS_PER_S 1000.0

struct setting {
    const char *name;
    size_t offset;
};

#define SETTING(name) {#name, offsetof(struct kino_config, name)}

static const struct setting settings[] = {
    SETTING(dispatch),         SETTING(loops),
    SETTING(queue_depth),      SETTING(queue_timeout_ms),
    SETTING(idle_timeout_ms),  SETTING(head_timeout_ms),
    SETTING(body_timeout_ms),  SETTING(write_timeout_ms),
    SETTING(max_connections),  SETTING(max_head_bytes),
    SETTING(max_fields),       SETTING(max_field_bytes),
    SETTING(max_target_bytes), SETTING(max_body_bytes),
    SETTING(max_pipelined),
};

/* All handles with a server, for a forked child. */
static pthread_mutex_t registry_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct ext_server *registry;

static void enter_registry(struct ext_server *server)
{
    pthread_mutex_lock(&registry_mutex);
    server->next = registry;
    registry = server;
    pthread_mutex_unlock(&registry_mutex);
}

static void leave_registry(struct ext_server *server)
{
    pthread_mutex_lock(&registry_mutex);
    for (struct ext_server **at = &registry; *at; at = &(*at)->next) {
        if (*at == server) {
            *at = server->next;
            break;
        }
    }
    pthread_mutex_unlock(&registry_mutex);
}

/* Drops the line rather than block: it comes on the thread of a loop. */
static void print_line(const char *line)
{
    char text[EXT_LONGEST_LINE + sizeof("kino: \n")];
    struct pollfd out = {.fd = STDERR_FILENO, .events = POLLOUT};
    int length = snprintf(text, sizeof(text), "kino: %s\n", line);

    if (poll(&out, 1, 0) == 1 && (out.revents & POLLOUT) && write(out.fd, text, (size_t)length) < 0)
        return; /* nobody to tell */
}

/* On any thread, perhaps not Ruby's: nothing of Ruby may be called. */
static void log_line(void *context, int level, const char *line)
{
    struct ext_server *server = context;

    if (atomic_load(&server->started)) {
        print_line(line);
        return;
    }
    pthread_mutex_lock(&server->mutex);
    if (server->line[0] == '\0')
        snprintf(server->line, sizeof(server->line), "%s", line);
    pthread_mutex_unlock(&server->mutex);
}

/* Raise what went wrong, in the words of the log if it had any. */
NORETURN(static void raise_logged(struct ext_server *server, int result));
static void raise_logged(struct ext_server *server, int result)
{
    char line[EXT_LONGEST_LINE];

    pthread_mutex_lock(&server->mutex);
    memcpy(line, server->line, sizeof(line));
    server->line[0] = '\0';
    pthread_mutex_unlock(&server->mutex);
    ext_raise(result, line);
}

static int destroy(struct ext_server *server)
{
    int rc = kino_server_destroy(server->kino);

    if (rc == 0) {
        leave_registry(server);
        server->kino = NULL;
    }
    return rc;
}

static void server_free(void *pointer)
{
    struct ext_server *server = pointer;

    /* One that still runs at the end of the process goes with it, handle and all. */
    if (server->kino && destroy(server) < 0)
        return;
    pthread_mutex_destroy(&server->mutex);
    xfree(server);
}

static size_t server_size(const void *pointer)
{
    return sizeof(struct ext_server);
}

static const rb_data_type_t server_type = {
    .wrap_struct_name = "Kino::Native::Server",
    .function = {.dfree = server_free, .dsize = server_size},
    .flags = RUBY_TYPED_FREE_IMMEDIATELY | RUBY_TYPED_WB_PROTECTED | RUBY_TYPED_FROZEN_SHAREABLE,
};

static VALUE server_allocate(VALUE class)
{
    struct ext_server *server;
    VALUE self = TypedData_Make_Struct(class, struct ext_server, &server_type, server);

    pthread_mutex_init(&server->mutex, NULL);
    return self;
}

struct ext_server *ext_server_get(VALUE object)
{
    struct ext_server *server = rb_check_typeddata(object, &server_type);

    if (!server->kino)
        ext_raise(KINO_CLOSED, NULL);
    return server;
}

/* nil is none, what is not there is the default. */
static void read_settings(VALUE hash, struct kino_config *config)
{
    for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++) {
        VALUE value = rb_hash_lookup2(hash, ID2SYM(rb_intern(settings[i].name)), Qundef);
        uint64_t *number = (uint64_t *)(void *)((char *)config + settings[i].offset);

        if (value != Qundef)
            *number = NIL_P(value) ? KINO_OFF : NUM2ULL(value);
    }
}

/*
 * @param address [String] numeric
 * @param port [Integer]
 * @param settings [Hash] fields of struct kino_config by name; nil is KINO_OFF
 */
static VALUE server_initialize(VALUE self, VALUE address, VALUE port, VALUE hash)
{
    struct ext_server *server = rb_check_typeddata(self, &server_type);
    struct kino_config config = {
        .size = sizeof(config),
        .max_whole_body_bytes = KINO_OFF, /* rack.input has no streams yet */
        .log = log_line,
        .log_context = server,
    };
    struct kino_listener listener = {.size = sizeof(listener)};
    int rc;

    StringValue(address);
    Check_Type(hash, T_HASH);
    read_settings(hash, &config);
    listener.address = (struct kino_slice){RSTRING_PTR(address), (size_t)RSTRING_LEN(address)};
    listener.port = NUM2ULL(port);
    if (server->kino)
        ext_raise(KINO_BUSY, NULL);
    rc = kino_server_create(&config, &server->kino);
    if (rc < 0)
        raise_logged(server, rc);
    enter_registry(server);
    rc = kino_server_listen(server->kino, &listener);
    if (rc < 0) {
        destroy(server);
        raise_logged(server, rc);
    }
    RB_GC_GUARD(address);
    return rb_obj_freeze(self);
}

static VALUE server_start(VALUE self)
{
    struct ext_server *server = ext_server_get(self);
    int rc = kino_server_start(server->kino);

    if (rc < 0)
        raise_logged(server, rc);
    atomic_store(&server->started, true);
    return self;
}

static VALUE server_port(VALUE self)
{
    struct ext_server *server = ext_server_get(self);
    int rc = kino_server_port(server->kino, 0);

    if (rc < 0)
        ext_raise(rc, NULL);
    return INT2FIX(rc);
}

static uint64_t milliseconds(VALUE seconds)
{
    return NIL_P(seconds) ? KINO_OFF : (uint64_t)(NUM2DBL(seconds) * MS_PER_S);
}

/* Allowed in a trap, and once all is over.
 * @param seconds [Numeric, nil] then what is left is aborted; nil is never */
static VALUE server_drain(VALUE self, VALUE seconds)
{
    struct ext_server *server = rb_check_typeddata(self, &server_type);
    uint64_t deadline_ms = milliseconds(seconds);

    if (server->kino) {
        kino_server_drain(server->kino, deadline_ms);
        kino_server_interrupt(server->kino);
    }
    return self;
}

/* @return [Boolean] whether it is drained; else the time is over or a drain has begun */
static VALUE server_wait(VALUE self, VALUE seconds)
{
    struct ext_server *server = ext_server_get(self);
    int rc = ext_sleep_in_server(server, milliseconds(seconds));

    rb_thread_check_ints();
    if (rc < 0 && rc != KINO_INTERRUPTED && rc != KINO_TIMED_OUT)
        ext_raise(rc, NULL);
    return rc < 0 ? Qfalse : Qtrue;
}

/* @return [Integer] how many workers have slept or taken a request since the start */
static VALUE server_begun(VALUE self)
{
    return UINT2NUM(atomic_load(&ext_server_get(self)->begun));
}

/* Sleep for a moment, or until so many workers have begun.
 * @return [Boolean] whether they have */
static VALUE server_begun_p(VALUE self, VALUE count)
{
    int rc = ext_sleep_until_begun(ext_server_get(self), NULL, NUM2UINT(count));

    rb_thread_check_ints();
    return rc == 0 ? Qtrue : Qfalse;
}

static VALUE server_destroy(VALUE self)
{
    struct ext_server *server = rb_check_typeddata(self, &server_type);
    int rc = server->kino ? destroy(server) : 0;

    if (rc < 0)
        ext_raise(rc, NULL);
    return Qnil;
}

/* In a forked child, where no other thread is left: what it has copies of belongs to the parent. */
static VALUE forget_servers(VALUE self)
{
    pthread_mutex_init(&registry_mutex, NULL);
    while (registry) {
        struct ext_server *server = registry;

        registry = server->next;
        pthread_mutex_init(&server->mutex, NULL);
        kino_server_destroy(server->kino);
        server->kino = NULL;
    }
    return Qnil;
}

void ext_server_init(void)
{
    VALUE class = rb_define_class_under(ext_native, "Server", rb_cObject);

    rb_define_alloc_func(class, server_allocate);
    rb_define_method(class, "initialize", server_initialize, 3);
    rb_define_method(class, "start", server_start, 0);
    rb_define_method(class, "port", server_port, 0);
    rb_define_method(class, "drain", server_drain, 1);
    rb_define_method(class, "wait", server_wait, 1);
    rb_define_method(class, "begun", server_begun, 0);
    rb_define_method(class, "begun?", server_begun_p, 1);
    rb_define_method(class, "destroy", server_destroy, 0);
    rb_define_singleton_method(ext_native, "forget_servers", forget_servers, 0);
}
