/* SPDX-License-Identifier: MIT */
#include "kino_ext.h"

#include <unistd.h>

static void worker_mark(void *pointer)
{
    struct ext_worker *worker = pointer;

    rb_gc_mark(worker->server_object);
    ext_env_mark(&worker->env);
}

static void worker_compact(void *pointer)
{
    struct ext_worker *worker = pointer;

    ext_env_compact(&worker->env);
}

/* Give up what it holds: a request without an answer gets its 500 by that. */
static void let_go(struct ext_worker *worker)
{
    struct kino_request *request = worker->request;

    worker->request = NULL;
    kino_request_release(request);
}

static void worker_free(void *pointer)
{
    struct ext_worker *worker = pointer;

    /* A forked child's copy is its parent's business. */
    if (worker->kino && worker->owner == getpid()) {
        let_go(worker);
        kino_worker_destroy(worker->kino);
    }
    ext_env_free(&worker->env);
    free(worker->response.fields);
    free(worker->response.joined);
    xfree(worker);
}

static size_t worker_size(const void *pointer)
{
    const struct ext_worker *worker = pointer;

    return sizeof(*worker) + ext_env_size(&worker->env) +
           worker->response.capacity * sizeof(struct kino_field) + worker->response.joined_capacity;
}

static const rb_data_type_t worker_type = {
    .wrap_struct_name = "Kino::Native::Worker",
    .function = {.dmark = worker_mark,
                 .dfree = worker_free,
                 .dsize = worker_size,
                 .dcompact = worker_compact},
    .flags = RUBY_TYPED_FREE_IMMEDIATELY | RUBY_TYPED_WB_PROTECTED,
};

static VALUE worker_allocate(VALUE class)
{
    struct ext_worker *worker;

    return TypedData_Make_Struct(class, struct ext_worker, &worker_type, worker);
}

static struct ext_worker *get(VALUE self)
{
    struct ext_worker *worker = rb_check_typeddata(self, &worker_type);

    if (RB_UNLIKELY(!worker->kino))
        ext_raise(KINO_CLOSED, NULL);
    return worker;
}

/*
 * @param server [Kino::Native::Server] started
 * @param base [Hash] what is the same in every env
 * @param migrates [Boolean] whether its calls may come from several native threads
 */
static VALUE worker_initialize(VALUE self, VALUE server, VALUE base, VALUE migrates)
{
    struct ext_worker *worker = rb_check_typeddata(self, &worker_type);
    struct kino_worker_config config = {.size = sizeof(config), .migrates = RTEST(migrates)};
    int rc;

    Check_Type(base, T_HASH);
    if (worker->kino)
        ext_raise(KINO_BUSY, NULL);
    worker->server = ext_server_get(server);
    RB_OBJ_WRITE(self, &worker->server_object, server);
    worker->owner = getpid();
    ext_env_setup(&worker->env, self, base);
    rc = kino_worker_create(worker->server->kino, &config, &worker->kino);
    if (rc < 0)
        ext_raise(rc, NULL);
    return self;
}

/* Begin, and sleep for a moment, or until so many workers have begun.
 * @return [Boolean] whether they have */
static VALUE worker_begin_p(VALUE self, VALUE count)
{
    struct ext_worker *worker = get(self);
    int rc = ext_sleep_until_begun(worker->server, worker, NUM2UINT(count));

    rb_thread_check_ints();
    if (rc < 0 && rc != KINO_AGAIN)
        ext_raise(rc, NULL);
    return rc == 0 ? Qtrue : Qfalse;
}

static VALUE env_of_request(struct ext_worker *worker)
{
    return ext_env_build(&worker->env, kino_request_head(worker->request));
}

/*
 * Take a request; sleep until there is one.
 * @return [Hash, nil] its env; nil when no more will come
 */
static VALUE worker_take(VALUE self)
{
    struct ext_worker *worker = get(self);

    if (worker->request)
        let_go(worker);
    while (!worker->retired) {
        int rc = kino_worker_try_take(worker->kino, &worker->request);

        if (rc == KINO_REQUEST) {
            ext_worker_begin(worker);
            return env_of_request(worker);
        }
        if (rc == KINO_CLOSED)
            break;
        if (rc == KINO_AGAIN)
            rc = ext_sleep_in_worker(worker);
        /* Nothing is held here, so nothing is lost if this raises. */
        rb_thread_check_ints();
        if (rc < 0 && rc != KINO_INTERRUPTED && rc != KINO_CLOSED)
            ext_raise(rc, NULL);
    }
    return Qnil;
}

/* As kino_worker_respond_take; but one that is retired takes no other. */
static int respond_take(struct ext_worker *worker, const struct kino_response *response)
{
    int rc;

    if (RB_LIKELY(!worker->retired))
        return kino_worker_respond_take(worker->kino, response, &worker->request);
    rc = kino_request_respond(worker->request, response);
    if (rc < 0 && rc != KINO_ANSWERED)
        return rc;
    let_go(worker);
    return 0;
}

/*
 * Answer the request that was taken, and take the next if one is there.
 * @param triple [Array] what the app returned
 * @return [Hash, nil] the next request's env
 */
static VALUE worker_respond(VALUE self, VALUE triple)
{
    struct ext_worker *worker = get(self);
    struct kino_response response;
    struct ext_kept kept;
    int rc;

    if (RB_UNLIKELY(!worker->request))
        rb_raise(rb_eRuntimeError, "there is no request to answer");
    ext_response_read(&worker->response, triple, &response, &kept);
    rc = respond_take(worker, &response);
    RB_GC_GUARD(kept.headers);
    RB_GC_GUARD(kept.body);
    if (RB_UNLIKELY(rc < 0))
        ext_raise(rc,
                  rc == KINO_INVALID ? "the response's status or a header cannot be sent" : NULL);
    return rc == KINO_REQUEST ? env_of_request(worker) : Qnil;
}

/* Answer the request that was taken, if there is one, with 500. */
static VALUE worker_refuse(VALUE self)
{
    let_go(get(self));
    return Qnil;
}

/* Take no more: what it holds is answered, then take gives nil. From another thread of its Ractor.
 */
static VALUE worker_retire(VALUE self)
{
    struct ext_worker *worker = rb_check_typeddata(self, &worker_type);

    worker->retired = true;
    if (worker->kino)
        kino_worker_interrupt(worker->kino);
    return Qnil;
}

static VALUE worker_retired(VALUE self)
{
    const struct ext_worker *worker = rb_check_typeddata(self, &worker_type);

    return worker->retired ? Qtrue : Qfalse;
}

/* End it, on its own thread: the request it holds gets its 500 at once. */
static VALUE worker_close(VALUE self)
{
    struct ext_worker *worker = rb_check_typeddata(self, &worker_type);
    int rc;

    if (!worker->kino)
        return Qnil;
    let_go(worker);
    rc = kino_worker_destroy(worker->kino);
    if (rc < 0)
        ext_raise(rc, NULL);
    worker->kino = NULL;
    return Qnil;
}

void ext_worker_init(void)
{
    VALUE class = rb_define_class_under(ext_native, "Worker", rb_cObject);

    rb_define_alloc_func(class, worker_allocate);
    rb_define_method(class, "initialize", worker_initialize, 3);
    rb_define_method(class, "begin?", worker_begin_p, 1);
    rb_define_method(class, "take", worker_take, 0);
    rb_define_method(class, "respond", worker_respond, 1);
    rb_define_method(class, "refuse", worker_refuse, 0);
    rb_define_method(class, "retire", worker_retire, 0);
    rb_define_method(class, "retired?", worker_retired, 0);
    rb_define_method(class, "close", worker_close, 0);
}
