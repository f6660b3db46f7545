/* SPDX-License-Identifier: MIT */
/* What the files of the extension share. They convert and forward; policy is in lib/kino. */
#ifndef KINO_EXT_H
#define KINO_EXT_H

#include "kino.h"

#include <pthread.h>
#include <ruby.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>

enum {
    EXT_LONGEST_LINE = 512,
    EXT_LONGEST_CACHED = 256, /* bytes of a string that is kept */
    EXT_BEGIN_SLEEP_MS = 50,
    EXT_LARGEST_BLOCK = 2048,  /* bytes of a header block that is kept */
    EXT_VALUES = 512,          /* places for values, paths, addresses; a power of two */
    EXT_NAMES = 128,           /* places for field names; a power of two */
    EXT_TEMPLATES = 128,       /* places for envs; a power of two */
    EXT_JOINED_KEPT = 1 << 16, /* bytes of the buffer for bodies in parts that outlive an answer */
};

/* A server's handle. Shared: many Ractors have it; constant, or atomic, or under `mutex`. */
struct ext_server {
    struct kino_server *kino; /* NULL once it is destroyed */
    struct ext_server *next;  /* in the list of all, for a forked child */
    _Atomic uint32_t begun;   /* workers that have slept or taken a request; a futex */
    _Atomic bool started;     /* what is logged goes to stderr */
    pthread_mutex_t mutex;
    char line[EXT_LONGEST_LINE]; /* the first line since it was fetched */
};

/* Frozen strings by their bytes: one place for each hash, the newest stays. */
struct ext_cache {
    VALUE *places;
    uint32_t mask;
    VALUE (*make)(const char *data, long length);
};

/* What of an env depends on the connection and the target, not on the header block. */
enum ext_varying {
    EXT_METHOD,
    EXT_PATH,
    EXT_ADDRESS,
    EXT_PORT,
    EXT_VARYING,
};

/* An env that answers to one header block. */
struct ext_template {
    VALUE env; /* frozen; 0 where there is none */
    VALUE varying[EXT_VARYING];
    VALUE authority; /* nil where the request has none */
    char *block;
    size_t block_length;
    uint64_t block_hash;
    uint64_t seen_hash; /* of the last block without a template: the second time it gets one */
    uint32_t version;
};

/* Builds envs; a worker's. */
struct ext_env {
    VALUE owner; /* the worker, for the write barrier */
    VALUE base;  /* frozen: what is the same in all envs */
    struct ext_cache names;
    struct ext_cache values;
    struct ext_template templates[EXT_TEMPLATES];
    VALUE name_places[EXT_NAMES];
    VALUE value_places[EXT_VALUES];
};

/* Room to convert an answer in; a worker's. */
struct ext_response {
    struct kino_field *fields;
    size_t capacity;
    size_t count;
    char *joined;
    size_t joined_capacity;
    int result;
};

/* A worker's handle: of one thread. */
struct ext_worker {
    struct kino_worker *kino;     /* NULL once it is closed */
    struct kino_request *request; /* taken and not answered, or NULL */
    struct ext_server *server;
    VALUE server_object;
    pid_t owner;
    bool begun;   /* counted in the server */
    bool retired; /* takes no more */
    struct ext_env env;
    struct ext_response response;
};

extern VALUE ext_native; /* Kino::Native */

/* error.c: turn a result below 0 into an exception. `line`, where it is not empty, tells more. */
NORETURN(void ext_raise(int result, const char *line));
void ext_error_init(VALUE kino);

/* nogvl.c: what sleeps, without the lock. Gives what the library gave, or KINO_INTERRUPTED; the
 * caller then looks for Ruby's interrupts. */
int ext_sleep_in_worker(struct ext_worker *worker);
int ext_sleep_in_server(struct ext_server *server, uint64_t timeout_ms);
/* For EXT_BEGIN_SLEEP_MS at most. 0: so many have begun; KINO_AGAIN: not yet. `worker`, if there is
 * one, begins by this; else why it cannot. */
int ext_sleep_until_begun(struct ext_server *server, struct ext_worker *worker, uint32_t count);
/* Count a worker as begun: it sleeps or works. */
void ext_worker_begin(struct ext_worker *worker);
/* Bind the calling Ruby thread to its native one for good. False: this Ruby cannot. */
bool ext_pin_thread(void);

/* server.c */
struct ext_server *ext_server_get(VALUE object);
void ext_server_init(void);

/* worker.c */
void ext_worker_init(void);

/* cache.c */
void ext_cache_init(struct ext_cache *cache, VALUE *places, uint32_t count,
                    VALUE (*make)(const char *data, long length));
VALUE ext_cache_fetch(struct ext_cache *cache, VALUE owner, struct kino_slice text);
/* The same without a cache. */
VALUE ext_frozen_string(const char *data, long length);
VALUE ext_interned_string(const char *data, long length);

/* env.c */
void ext_env_init(void);
void ext_env_setup(struct ext_env *env, VALUE owner, VALUE base);
VALUE ext_env_build(struct ext_env *env, const struct kino_head *head);
void ext_env_mark(struct ext_env *env);
void ext_env_compact(struct ext_env *env);
void ext_env_free(struct ext_env *env);
size_t ext_env_size(const struct ext_env *env);

/* What a struct kino_response has slices of: to be guarded until it is used. Until then Ruby must
 * not run, nor allocate. */
struct ext_kept {
    VALUE headers;
    VALUE body;
};

/* response.c: fill `out` from what an app returned; raises where that is no answer. */
void ext_response_read(struct ext_response *response, VALUE triple, struct kino_response *out,
                       struct ext_kept *kept);
void ext_response_init(void);

/* share.c: what Ruby does not tell about sharing among Ractors. */
void ext_share_init(void);

#endif
