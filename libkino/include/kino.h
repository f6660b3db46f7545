/* SPDX-License-Identifier: MIT */
/**
 * libkino: an HTTP server library on io_uring.
 *
 * A loop is one io_uring with its connections. A worker takes requests and answers them. A request
 * and its one answer are joined by a `struct kino_request`: the first to answer wins.
 *
 *     kino_server_create -> kino_server_listen -> kino_server_start
 *         kino_worker_create -> kino_worker_take -> kino_worker_respond_take ...
 *     kino_server_drain -> kino_server_wait -> kino_worker_destroy -> kino_server_destroy
 *
 * Results are `int`: 0 or more is success, less is `-errno` or an `enum kino_error`. errno itself
 * is not part of the interface. KINO_AGAIN and KINO_INVALID consume nothing.
 *
 * Structs that the caller fills begin with `size`, which is `sizeof` of the struct at the caller's
 * compile time. Fields are only ever appended; a longer struct than the library knows is accepted
 * if its unknown tail is zero; 4096 bytes are the most. The library sets the `size` of a struct
 * that it fills to what it knew, and zeroes the rest. In a config 0 is the default and KINO_OFF is
 * none.
 *
 * The comment of each function names the threads that may call it. Only `kino_server_wait`,
 * `kino_server_serve`, `kino_worker_wait` and `kino_worker_take` sleep. "The worker's own" thread
 * is, for an inline worker, that of its first take or wait, unless it migrates; any other may
 * be used by any, one call at a time.
 */
#ifndef KINO_H
#define KINO_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifndef KINO_API
#define KINO_API __attribute__((visibility("default")))
#endif

#define KINO_VERSION_MAJOR 0
#define KINO_VERSION_MINOR 1
#define KINO_VERSION_PATCH 0

/** No limit, no deadline, or a wait without end, wherever a number is asked for. */
#define KINO_OFF UINT64_MAX

struct kino_server;  /* shared; kino_server_create .. kino_server_destroy */
struct kino_worker;  /* one call at a time; kino_worker_create .. kino_worker_destroy */
struct kino_request; /* reference-counted; from a take .. kino_request_release */

/** Results below the range of errno. Codes may be added. */
enum kino_error {
    KINO_AGAIN = -5001,          /* nothing there now; nothing was consumed */
    KINO_INVALID = -5002,        /* an argument is out of its range; nothing was consumed */
    KINO_CLOSED = -5003,         /* the server is drained: no request will come any more */
    KINO_INTERRUPTED = -5004,    /* the wait was ended by its interrupt */
    KINO_TIMED_OUT = -5005,      /* the wait lasted its timeout */
    KINO_BUSY = -5006,           /* in use: by another thread, by workers, or not stopped yet */
    KINO_ANSWERED = -5007,       /* somebody answered this request first */
    KINO_URING_MISSING = -5008,  /* this kernel was built without io_uring */
    KINO_URING_DISABLED = -5009, /* the sysctl kernel.io_uring_disabled forbids io_uring */
    KINO_URING_REFUSED = -5010,  /* a seccomp filter or security module forbids io_uring */
    KINO_KERNEL_TOO_OLD =
        -5011, /* io_uring is there but lacks what the library needs (Linux 6.1) */
};

/** Bytes, not NUL-terminated. An absent slice has NULL data. Frozen for ever. */
struct kino_slice {
    const char *data;
    size_t len;
};

/** One header field. Frozen for ever. */
struct kino_field {
    struct kino_slice name; /* a request's is lower case */
    struct kino_slice value;
    uint32_t known; /* enum kino_known_field; in a response 0 will do, a wrong one may be refused */
    uint32_t flags; /* enum kino_field_flag; likewise */
};

/** Names the library recognises; values may be added. */
enum kino_known_field {
    KINO_FIELD_OTHER = 0,
    KINO_FIELD_AUTHORIZATION = 1,
    KINO_FIELD_CONNECTION = 2,
    KINO_FIELD_CONTENT_LENGTH = 3,
    KINO_FIELD_CONTENT_TYPE = 4,
    KINO_FIELD_COOKIE = 5,
    KINO_FIELD_EXPECT = 6,
    KINO_FIELD_HOST = 7,
    KINO_FIELD_KEEP_ALIVE = 8,
    KINO_FIELD_PROXY_AUTHORIZATION = 9,
    KINO_FIELD_TE = 10,
    KINO_FIELD_TRAILER = 11,
    KINO_FIELD_TRANSFER_ENCODING = 12,
    KINO_FIELD_UPGRADE = 13,
};

enum kino_field_flag {
    KINO_FIELD_SENSITIVE = 1 << 0, /* a credential: cookie, authorization; do not cache or log */
};

enum kino_head_flag {
    KINO_HEAD_SENSITIVE = 1 << 0, /* some field is sensitive */
    KINO_HEAD_BODY_WHOLE =
        1 << 1, /* `body` is all there is: always so, unless one asks for streams */
};

/** Values may be added. */
enum kino_http_version {
    KINO_HTTP_1_0 = 10,
    KINO_HTTP_1_1 = 11,
};

/**
 * A request's head. The library allocates it and may append fields; read-only, valid until the last
 * kino_request_release. A request is handed out when its body is
 * complete.
 */
struct kino_head {
    uint64_t size;
    struct kino_slice method;    /* as sent: methods are case-sensitive */
    struct kino_slice target;    /* as sent, a fragment dropped */
    struct kino_slice path;      /* of origin- and absolute-form; "*" of asterisk-form */
    struct kino_slice query;     /* without its "?"; absent where there is none */
    struct kino_slice authority; /* of the absolute-form target, else the Host field's value */
    struct kino_slice scheme;    /* "http" */
    const struct kino_field *fields;
    uint64_t field_count;
    /* All fields in order as `name:value\n`, names in lower case, and a 64-bit hash of these bytes:
     * two requests with equal blocks have equal fields. */
    struct kino_slice block;
    uint64_t block_hash;
    struct kino_slice body;         /* absent where the request has none, or an empty one */
    struct kino_slice peer_address; /* numeric; of an IPv6 address without brackets */
    struct kino_slice local_address;
    uint32_t peer_port;
    uint32_t local_port;
    uint32_t version;    /* enum kino_http_version */
    uint32_t flags;      /* enum kino_head_flag */
    uint64_t listener;   /* what kino_server_listen returned */
    uint64_t arrival_ns; /* CLOCK_MONOTONIC, when its first byte was read */
};

/** Bits of kino_request_state; bits may be added. */
enum kino_request_state {
    KINO_STATE_ANSWERED = 1 << 0,     /* somebody has answered */
    KINO_STATE_PEER_DONE = 1 << 1,    /* the client sent FIN; it can still read an answer */
    KINO_STATE_DISCONNECTED = 1 << 2, /* the connection is gone: an answer goes nowhere */
    KINO_STATE_DRAINING = 1 << 3,     /* the server is draining */
};

enum kino_log_level {
    KINO_LOG_ERROR = 1,
    KINO_LOG_WARNING = 2,
    KINO_LOG_INFO = 3,
};

/**
 * Receives one line without a newline, borrowed for the call, and an enum kino_log_level. It may
 * come on any thread, inside any call, and on several threads at once; it must neither block nor
 * call the library. None comes after kino_server_destroy returned 0, save inside a call of the
 * caller's own.
 */
typedef void (*kino_log_fn)(void *context, int level, const char *line);

/** Answers `request`, which is borrowed for the call: hold it to answer later. */
typedef void (*kino_handler_fn)(void *context, struct kino_request *request);

enum kino_dispatch {
    /* The library's threads own the sockets; workers take from bounded queues. Handlers may wait.
     */
    KINO_DISPATCH_QUEUE = 1,
    /* Each worker owns a loop and drives it while it takes or waits. Least CPU per request; a
     * handler that waits holds up the other clients of its loop. */
    KINO_DISPATCH_INLINE = 2,
    /* As queue, but each worker has a lane of its own, and takes from others' when that is empty.
     * Less contention where workers are many and handlers short; a request that was put behind a
     * handler which goes on for long is taken by another worker after some 0.1 ms. */
    KINO_DISPATCH_LANES = 3,
};

/** Settings of a server; all zero but `size` is a good server. Times in ms, sizes in bytes. */
struct kino_config {
    uint64_t size;
    uint64_t dispatch; /* enum kino_dispatch; default KINO_DISPATCH_QUEUE */
    /* Loops. Queue and lanes: threads of the library's own; inline: workers that can be created.
     * Default 1. */
    uint64_t loops;
    uint64_t queue_depth;      /* requests that wait for a worker, in all; default 1024 */
    uint64_t queue_timeout_ms; /* full for that long: 503; default 5000 */
    uint64_t idle_timeout_ms;  /* to the first byte, after connect and after an answer; 60000 */
    uint64_t head_timeout_ms;  /* the whole head, from its first byte: 408; 15000 */
    uint64_t body_timeout_ms;  /* silence between body bytes: 408; 30000 */
    uint64_t write_timeout_ms; /* a response without progress: abort; 60000 */
    /* More wait in the backlog, but for a burst that is accepted at once. Default 80 % of the soft
     * descriptor limit. */
    uint64_t max_connections;
    uint64_t max_head_bytes;   /* 431; 65536 */
    uint64_t max_fields;       /* 431; 128 */
    uint64_t max_field_bytes;  /* name and value of one field: 431; 16384 */
    uint64_t max_target_bytes; /* 414; 8192 */
    uint64_t max_body_bytes;   /* 413; 52428800. Bodies are held in memory, whole */
    uint64_t max_pipelined;    /* queued or unreleased requests per connection; 16 */
    kino_log_fn log;           /* NULL: nothing is logged */
    void *log_context;
};

/** An address to listen on. */
struct kino_listener {
    uint64_t size;
    struct kino_slice address; /* numeric IPv4 or IPv6; absent: 127.0.0.1 */
    uint64_t port;             /* 0: the kernel chooses, kino_server_port tells */
    uint64_t backlog;          /* connections the kernel queues; default 4096 */
};

struct kino_worker_config {
    uint64_t size;
    /* Inline, 1: the worker's calls come from different system threads, one at a time (a Ractor of
     * Ruby 3.3). It then takes a ring that any thread can drive, and is slower. */
    uint64_t migrates;
};

/** What a take returned. Later kinds reach only who asked for them. */
enum kino_take {
    KINO_REQUEST = 1,
};

/**
 * An answer. The library owns framing: it writes content-length, connection, and date and server
 * where the caller has none. The caller's transfer-encoding, keep-alive, upgrade, trailer and
 * proxy-connection fields are dropped; `connection: close` is obeyed. A caller's content-length is
 * kept for HEAD and 304; elsewhere the client never reads more than it announces, and where it
 * announces more than the body has the connection closes after it.
 */
struct kino_response {
    uint64_t size;
    uint64_t status; /* 200 .. 999 */
    uint64_t flags;  /* none is defined: 0, or KINO_INVALID */
    const struct kino_field *fields;
    uint64_t field_count;
    struct kino_slice body; /* borrowed for the call; not sent for HEAD, 204 and 304 */
};

/** Bits of kino_probe_result.features: optional parts of io_uring that this kernel has. */
enum kino_feature {
    KINO_FEATURE_DEFER_TASKRUN = 1 << 0,      /* single issuer, deferred task work */
    KINO_FEATURE_DIRECT_DESCRIPTORS = 1 << 1, /* connections in the ring's own table */
    KINO_FEATURE_REGISTERED_RING = 1 << 2,
    KINO_FEATURE_NO_SQARRAY = 1 << 3,
    KINO_FEATURE_NO_IOWAIT = 1 << 4,
};

/** Filled by kino_probe up to the caller's `size`. */
struct kino_probe_result {
    uint64_t size;
    int64_t error; /* 0: a server can start here; else the code that kino_server_start returns */
    uint64_t features; /* enum kino_feature */
};

/**
 * Name the version of the library in use.
 *
 * Returns: "0.1.0" and the like; static.
 * Threads: any.
 * Errors:  none.
 */
KINO_API const char *kino_version(void);

/**
 * Describe a result of any function, in one line that names cause and remedy.
 *
 * result:  negative; anything else gives "success".
 * Returns: static, or of the thread until its next call.
 * Threads: any.
 * Errors:  none; an unknown code is named by its number.
 */
KINO_API const char *kino_strerror(int result);

/**
 * Find out, by trying, what this kernel and container let the library do. Sets up a ring and closes
 * it again.
 *
 * out:     `size` set by the caller.
 * Threads: any.
 * Errors:  KINO_INVALID: size is 0. What is missing is not an error of the call but `out->error`.
 */
KINO_API int kino_probe(struct kino_probe_result *out);

/**
 * Create a server. Makes no ring, no socket and no thread.
 *
 * config:  borrowed for the call; NULL is all defaults. Its log callback and context are kept until
 *          kino_server_destroy.
 * out:     set on success only. Free it with kino_server_destroy.
 * Threads: any.
 * Errors:  KINO_INVALID: a number out of its range (the log callback gets its name); -ENOMEM.
 */
KINO_API int kino_server_create(const struct kino_config *config, struct kino_server **out);

/**
 * Add an address to listen on. It is bound by kino_server_start.
 *
 * listener: borrowed for the call.
 * Returns: the listener's number, from 0.
 * Threads: any, before kino_server_start.
 * Errors:  KINO_INVALID: not a numeric address, or a port above 65535; KINO_BUSY: started already;
 *          -ENOMEM; -ENOSPC: 16 listeners are the most.
 */
KINO_API int kino_server_listen(struct kino_server *server, const struct kino_listener *listener);

/**
 * Tell the port a listener is bound to.
 *
 * listener: what kino_server_listen returned.
 * Returns: the port, 1 .. 65535.
 * Threads: any.
 * Errors:  KINO_INVALID: no such listener; KINO_AGAIN: not started and the port is to be chosen.
 */
KINO_API int kino_server_port(const struct kino_server *server, uint64_t listener);

/**
 * Bind every listener and begin to serve. Queue and lanes: starts the loops' threads, named
 * kino-loop-N, with all signals blocked. Inline: connections are accepted from each worker's first
 * take or wait.
 *
 * Threads: any; may block for 100 ms while a port that a dead process leaves becomes free.
 * Errors:  -EADDRINUSE, -EACCES, -EADDRNOTAVAIL and whatever else bind says; KINO_URING_* and
 *          KINO_KERNEL_TOO_OLD; KINO_BUSY: started already; KINO_INVALID: no listener; -ENOMEM,
 *          -EAGAIN: no thread could be made. The log callback gets a line that names address, cause
 *          and remedy. The server is as before and may be started again.
 */
KINO_API int kino_server_start(struct kino_server *server);

/**
 * Stop accepting, answer what was begun, close idle connections, and stop. May be called again; the
 * earliest deadline counts. A drained server cannot be started again. Inline: each worker takes
 * until KINO_CLOSED; its loop drains, and keeps its deadlines, only while it takes or waits.
 *
 * deadline_ms: from now; then what is left is aborted. 0 aborts at once, KINO_OFF never.
 * Threads: any; async-signal-safe.
 * Errors:  none: 0. Before kino_server_start it is remembered.
 */
KINO_API int kino_server_drain(struct kino_server *server, uint64_t deadline_ms);

/**
 * Sleep until the server is drained: all its loops have ended.
 *
 * timeout_ms: the longest sleep; 0 does not sleep, KINO_OFF has no end.
 * Threads: any but one that drives a loop of this server; may block.
 * Errors:  KINO_TIMED_OUT; KINO_INTERRUPTED.
 */
KINO_API int kino_server_wait(struct kino_server *server, uint64_t timeout_ms);

/**
 * End the current kino_server_wait, or the next one. Several before it count as one.
 *
 * Threads: any; async-signal-safe.
 * Errors:  none: 0.
 */
KINO_API int kino_server_interrupt(struct kino_server *server);

/**
 * Free a server that is drained or was never started. In a child of the process that started it
 * only this, kino_worker_destroy and kino_request_release may be called, on any thread and in any
 * order: they close descriptors and free memory, and do nothing that the parent could notice.
 *
 * server:  NULL is allowed and does nothing.
 * Threads: any; nobody may be inside another call with this server. May block for the end of the
 *          loops' threads.
 * Errors:  KINO_BUSY: not drained, or a worker is not destroyed; nothing was freed. Never in a
 * child.
 */
KINO_API int kino_server_destroy(struct kino_server *server);

/**
 * Run a handler on `threads` threads until the server is drained. Starts a server that is not
 * started, then with as many loops as threads if its config left the number open and dispatch is
 * inline. The calling thread is one of them.
 *
 * handler: must answer or hold; a request it only returns from is answered 500.
 * context: handed to the handler; shared by the threads.
 * Threads: any; blocks until drained.
 * Errors:  those of kino_server_start, kino_worker_create and kino_worker_take; KINO_INVALID: 0
 *          threads, more than 1024, or inline and more than the loops.
 */
KINO_API int kino_server_serve(struct kino_server *server, kino_handler_fn handler, void *context,
                               uint64_t threads);

/**
 * Create a worker of a started server. Makes no ring and no thread: the first take or wait of an
 * inline worker makes its ring and binds it to that thread.
 *
 * config:  borrowed for the call; NULL is all defaults.
 * out:     set on success only. Free it with kino_worker_destroy.
 * Threads: any.
 * Errors:  KINO_BUSY: inline, and every loop has its worker, or not started; KINO_INVALID; -ENOMEM.
 */
KINO_API int kino_worker_create(struct kino_server *server, const struct kino_worker_config *config,
                                struct kino_worker **out);

/**
 * Take a request if one is there. Never sleeps; an inline worker submits, reaps and parses at most
 * a bounded amount of work.
 *
 * out:     set on success only. One reference, to be given to kino_worker_respond_take or
 *          kino_request_release.
 * Returns: KINO_REQUEST.
 * Threads: the worker's own.
 * Errors:  KINO_AGAIN; KINO_CLOSED: drained, and nothing is left; KINO_BUSY: another thread's
 *          worker; of an inline worker's first call, whatever the kernel answers to a new ring.
 */
KINO_API int kino_worker_try_take(struct kino_worker *worker, struct kino_request **out);

/**
 * Sleep until a take may succeed. Takes nothing, so an interpreter that unwinds out of it loses
 * nothing; the one call to make without an interpreter's lock.
 *
 * timeout_ms: the longest sleep; 0 does not sleep, KINO_OFF has no end.
 * Returns: 0: try to take now.
 * Threads: the worker's own; may block. An inline worker drives its loop meanwhile.
 * Errors:  KINO_INTERRUPTED; KINO_TIMED_OUT; KINO_CLOSED; KINO_BUSY and the kernel's, as in
 *          kino_worker_try_take.
 */
KINO_API int kino_worker_wait(struct kino_worker *worker, uint64_t timeout_ms);

/**
 * Sleep until a request is there and take it.
 *
 * timeout_ms, out: as in kino_worker_wait and kino_worker_try_take.
 * Returns: KINO_REQUEST.
 * Threads: the worker's own; may block.
 * Errors:  those of kino_worker_wait.
 */
KINO_API int kino_worker_take(struct kino_worker *worker, uint64_t timeout_ms,
                              struct kino_request **out);

/**
 * Answer a request, release it, and take the next if one is there, in one call. A request that
 * somebody answered first is released all the same.
 *
 * response: borrowed for the call.
 * request: in: the request to answer, of this server. Out: the next one, or NULL. Unchanged if and
 *          only if the result is negative: refused, and still the caller's. An inline worker may
 *          be given what is there before its answers leave: kino_worker_flush sends them now.
 * Returns: KINO_REQUEST, or 0: answered, and none is there.
 * Threads: the worker's own.
 * Errors:  KINO_INVALID: the response cannot be sent (a status, or a byte that a field may not
 *          have), or *request is NULL; KINO_BUSY: another thread's worker; -ENOMEM.
 */
KINO_API int kino_worker_respond_take(struct kino_worker *worker,
                                      const struct kino_response *response,
                                      struct kino_request **request);

/**
 * Send what an inline worker answered since its last take, without sleeping. Answers of other
 * workers leave by themselves.
 *
 * Threads: the worker's own.
 * Errors:  KINO_BUSY: another thread's worker.
 */
KINO_API int kino_worker_flush(struct kino_worker *worker);

/**
 * End the current kino_worker_wait or kino_worker_take, or the next one. Several before it count as
 * one.
 *
 * Threads: any, while the worker exists; async-signal-safe.
 * Errors:  none: 0.
 */
KINO_API int kino_worker_interrupt(struct kino_worker *worker);

/**
 * Answer every unanswered request that the worker took before this call and nobody released. For a
 * worker that died: frees nothing, and the worker stays usable.
 *
 * status:  of the answer, 400 .. 599.
 * Threads: any, while the worker exists. An inline worker's requests are answered on its driver's
 *          next turn.
 * Errors:  KINO_INVALID: status; -ENOMEM: nothing was done.
 */
KINO_API int kino_worker_abort(struct kino_worker *worker, uint64_t status);

/**
 * Free a worker. Its requests live on. The connections of an inline worker's loop are answered with
 * what is ready and closed; its listening sockets are served by the other workers, or by the next
 * one created.
 *
 * worker:  NULL is allowed and does nothing.
 * Threads: the worker's own, or any once that thread has ended. Of a dead thread's worker the
 *          connections are reset, and the memory that the kernel may still use is leaked.
 * Errors:  KINO_BUSY: inline, and the thread that drives it lives.
 */
KINO_API int kino_worker_destroy(struct kino_worker *worker);

/**
 * Read a request's head.
 *
 * Returns: borrowed until the last release.
 * Threads: any.
 * Errors:  none.
 */
KINO_API const struct kino_head *kino_request_head(const struct kino_request *request);

/**
 * Find the first field of a name.
 *
 * name:    lower case, NUL-terminated.
 * Returns: its value, borrowed until the last release; absent (NULL data) where there is none.
 * Threads: any.
 * Errors:  none.
 */
KINO_API struct kino_slice kino_request_field(const struct kino_request *request, const char *name);

/**
 * Tell what has become of a request. One atomic load.
 *
 * Returns: bits of enum kino_request_state.
 * Threads: any.
 * Errors:  none.
 */
KINO_API int kino_request_state(const struct kino_request *request);

/**
 * Answer a request. The first answer wins. It leaves without another call, except on the caller's
 * own inline loop: there it leaves when nothing is left to take, after 200 us at the next take, or
 * by a flush. Success says nothing about the client's having read it.
 *
 * response: borrowed for the call.
 * Threads: any; one at a time for one request.
 * Errors:  KINO_ANSWERED: somebody was first; KINO_INVALID: the response cannot be sent; -ENOMEM.
 */
KINO_API int kino_request_respond(struct kino_request *request,
                                  const struct kino_response *response);

/**
 * Give a request up: its connection (or a stream of its own, where the protocol has them) closes
 * without an answer to it.
 *
 * Threads: any.
 * Errors:  KINO_ANSWERED: somebody answered already; the answer is sent.
 */
KINO_API int kino_request_abort(struct kino_request *request);

/**
 * Add a reference.
 *
 * Returns: the request.
 * Threads: any that has a reference.
 * Errors:  none.
 */
KINO_API struct kino_request *kino_request_hold(struct kino_request *request);

/**
 * Drop a reference. The last one of a request without an answer answers 500. Takes no lock and
 * allocates nothing, so a garbage collector may call it; allowed after its worker and its server
 * are destroyed.
 *
 * request: NULL is allowed and does nothing.
 * Threads: any.
 * Errors:  none.
 */
KINO_API void kino_request_release(struct kino_request *request);

#ifdef __cplusplus
}
#endif

#endif
