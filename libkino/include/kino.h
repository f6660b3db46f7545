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
 * `kino_server_serve`, `kino_worker_wait`, `kino_worker_take` and `kino_request_wait` sleep. "The
 * worker's own" thread is, for an inline worker, that of its first take or wait, unless it
 * migrates; any other may be used by any, one call at a time.
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
        -5011,         /* io_uring is there but lacks what the library needs (Linux 6.1) */
    KINO_GONE = -5012, /* the connection is closed, or the body broke off: nothing more comes */
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
    KINO_HEAD_SENSITIVE = 1 << 0,  /* some field is sensitive */
    KINO_HEAD_BODY_WHOLE = 1 << 1, /* `body` is all there is; else kino_request_body reads it */
    KINO_HEAD_UPGRADE = 1 << 2,    /* the client offers another protocol: 101 may be answered */
};

/** Values may be added. */
enum kino_http_version {
    KINO_HTTP_1_0 = 10,
    KINO_HTTP_1_1 = 11,
};

/**
 * A request's head. The library allocates it and may append fields; read-only, valid until the last
 * kino_request_release. A request is handed out when its body is complete, or at its head, without
 * KINO_HEAD_BODY_WHOLE, where that is longer than kino_config.max_whole_body_bytes or the client
 * expects 100-continue.
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
    struct kino_slice body; /* absent where the request has none, or an empty one */
    /* Numeric, of IPv6 without brackets. Absent, and their ports 0, where a unix socket was
     * connected to: `listener` tells which. */
    struct kino_slice peer_address;
    struct kino_slice local_address;
    uint32_t peer_port;
    uint32_t local_port;
    uint32_t version;        /* enum kino_http_version */
    uint32_t flags;          /* enum kino_head_flag */
    uint64_t listener;       /* what kino_server_listen returned */
    uint64_t arrival_ns;     /* CLOCK_MONOTONIC, when its first byte was read */
    uint64_t content_length; /* of the body; KINO_OFF: it comes in chunks, and is not known yet */
};

/** Bits of kino_request_state; bits may be added. */
enum kino_request_state {
    KINO_STATE_ANSWERED = 1 << 0,     /* somebody has answered */
    KINO_STATE_PEER_DONE = 1 << 1,    /* the client sent FIN; it can still read an answer */
    KINO_STATE_DISCONNECTED = 1 << 2, /* the connection is gone: an answer goes nowhere */
    KINO_STATE_DRAINING = 1 << 3,     /* the server is draining */
    KINO_STATE_TIMED_OUT = 1 << 4,    /* request_timeout_ms passed: 504 was answered */
    KINO_STATE_READABLE = 1 << 5,     /* kino_request_body would not return KINO_AGAIN */
    KINO_STATE_WRITABLE = 1 << 6,     /* kino_request_write would not return KINO_AGAIN */
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

/**
 * Says that the library is done with bytes or a descriptor that a caller lent it, whether they were
 * sent or not. Once for each; on any thread, perhaps before the call that lent them returns; it
 * must neither block nor call the library.
 */
typedef void (*kino_done_fn)(void *context);

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
    /* From dispatch to the answer, or the beginning of a streamed one: 504, and the handler goes
     * on; default none. Inline it can only pass when the loop runs, after the handler. */
    uint64_t request_timeout_ms;
    /* Lowest averages, in bytes a second, from rate_grace_ms on: of a request body, 408, and of a
     * response, abort; 500 each, after 5000 ms. The clocks stand still while the library holds back
     * reading, or has nothing to send. */
    uint64_t min_body_rate_bytes;
    uint64_t min_write_rate_bytes;
    uint64_t rate_grace_ms;
    /* More wait in the backlog, but for a burst that is accepted at once. Default 80 % of the soft
     * descriptor limit. */
    uint64_t max_connections;
    uint64_t max_head_bytes;   /* 431; 65536 */
    uint64_t max_fields;       /* 431; 128 */
    uint64_t max_field_bytes;  /* name and value of one field: 431; 16384 */
    uint64_t max_target_bytes; /* 414; 8192 */
    uint64_t max_body_bytes;   /* 413; 52428800 */
    /* A longer body is handed out at its head and read by kino_request_body, also one whose client
     * expects 100-continue; default 65536. KINO_OFF: every body is complete, in memory, before. */
    uint64_t max_whole_body_bytes;
    uint64_t max_chunk_line_bytes; /* size and extensions of one chunk: 400; 1024 */
    uint64_t max_trailer_bytes;    /* the trailer section of a request: 400; 1024 */
    uint64_t max_pipelined;        /* queued or unreleased requests per connection; 16 */
    kino_log_fn log;               /* NULL: nothing is logged */
    void *log_context;
    /* The value of the `server` field, at most 245 bytes, copied; absent: "kino"; empty: there is
     * no such field. */
    struct kino_slice server_field;
};

enum kino_listener_flag {
    KINO_LISTENER_UNIX = 1 << 0,       /* a unix socket: `address` is its path */
    KINO_LISTENER_DESCRIPTOR = 1 << 1, /* somebody else's socket: `descriptor` */
};

/** An address to listen on. */
struct kino_listener {
    uint64_t size;
    /* Numeric IPv4 or IPv6; absent: 127.0.0.1. A path of at most 107 bytes; behind a leading NUL an
     * abstract name, which is in no directory. */
    struct kino_slice address;
    uint64_t port;    /* 0: the kernel chooses, kino_server_port tells */
    uint64_t backlog; /* connections the kernel queues; default 4096 */
    uint64_t flags;   /* enum kino_listener_flag; at most one */
    uint64_t mode;    /* permissions of a path's file, up to 0777; 0: as the umask says */
    /* A stream socket of IPv4, IPv6 or unix, bound, and listening or not. The library uses a
     * duplicate, so it stays the caller's, and shares with whoever else has the socket: it makes it
     * a blocking one, and neither shuts it down nor removes its path. */
    uint64_t descriptor;
};

/** How a request is written into the access log. Values may be added. */
enum kino_access_format {
    KINO_ACCESS_COMMON = 1,   /* the Common Log Format */
    KINO_ACCESS_COMBINED = 2, /* the same with Referer and User-Agent; the default */
    KINO_ACCESS_JSON = 3,     /* an object */
    KINO_ACCESS_SHORT = 4,    /* for people: `200 GET /path 1.2ms` */
};

enum kino_access_flag {
    KINO_ACCESS_DESCRIPTOR = 1 << 0, /* `descriptor` counts, and there is no path */
    KINO_ACCESS_COLOR = 1 << 1,      /* the short format has colours; the others never do */
};

/** Where a line for each request goes. */
struct kino_access_log {
    uint64_t size;
    uint64_t format;        /* enum kino_access_format; default KINO_ACCESS_COMBINED */
    uint64_t flags;         /* enum kino_access_flag */
    struct kino_slice path; /* is appended to, and made if there is none */
    uint64_t descriptor;    /* with KINO_ACCESS_DESCRIPTOR; is duplicated */
    uint64_t queue_bytes; /* lines that wait to be written, about; past it they are dropped; 1 MiB,
                             65536 .. 2^30 */
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

enum kino_body_flag {
    /* The body is `length` bytes of the file `descriptor` from `offset` on; `data` is not read. */
    KINO_BODY_FILE = 1 << 0,
    /* More follows at once: it may wait to go with it. A hint. */
    KINO_BODY_MORE = 1 << 1,
    /* Of a response: what is here is only the beginning. kino_request_write goes on, and
     * kino_request_finish ends it. */
    KINO_BODY_STREAM = 1 << 2,
};

/**
 * An answer. The library owns framing: it writes content-length or transfer-encoding, connection,
 * and date and server where the caller has none. The caller's transfer-encoding, keep-alive,
 * upgrade, proxy-connection and (but in a stream) trailer fields are dropped; `connection: close`
 * is obeyed. A caller's content-length is kept for HEAD and 304; elsewhere the client never reads
 * more than it announces, and where it announces more than the body has the connection closes after
 * it. A body is not sent for HEAD, 204 and 304.
 *
 * Status 100 and 102 .. 199 are interim: any number of them may go before the answer, and they have
 * no body. 101 answers a request with KINO_HEAD_UPGRADE, is always a stream, and turns what
 * kino_request_body and _write carry into raw bytes; its upgrade field is sent.
 */
struct kino_response {
    uint64_t size;
    uint64_t status; /* 100 .. 999 */
    uint64_t flags;  /* enum kino_body_flag */
    const struct kino_field *fields;
    uint64_t field_count;
    struct kino_slice body;
    /* NULL: the body is copied, and a descriptor becomes the library's, which closes it. Else both
     * are borrowed until it is called. */
    kino_done_fn done;
    void *done_context;
    uint64_t descriptor; /* with KINO_BODY_FILE: of a regular file */
    uint64_t offset;
    uint64_t length;
};

/** A piece of a streamed body; the fields are those of kino_response. */
struct kino_piece {
    uint64_t size;
    uint64_t flags; /* KINO_BODY_FILE, KINO_BODY_MORE */
    struct kino_slice data;
    kino_done_fn done;
    void *done_context;
    uint64_t descriptor;
    uint64_t offset;
    uint64_t length;
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

enum {
    KINO_STATUS_CLASSES = 10,
    /* Bucket 0 counts what took less than 1 us, bucket n what took from 2^(n-1) to less than 2^n
     * us, and the last one all the rest. */
    KINO_HISTOGRAM_BUCKETS = 32,
};

/**
 * Filled by kino_server_stats up to the caller's `size`: sums over the loops since the server was
 * created, and, where said, how many there are now.
 */
struct kino_stats {
    uint64_t size;
    uint64_t connections;      /* accepted */
    uint64_t connections_now;  /* open */
    uint64_t requests;         /* handed to the queue */
    uint64_t in_flight;        /* now: in the queue or with a worker, no answer begun */
    uint64_t queued;           /* now: in the queue; see kino_server_lane_depth */
    uint64_t bytes_in;         /* received */
    uint64_t bytes_out;        /* sent */
    uint64_t rejected;         /* refused by the library, 4xx or 5xx; a 408 is a timeout instead */
    uint64_t aborted;          /* connections the library gave up that had an answer to come */
    uint64_t queue_full;       /* requests that had to wait for room in the queue */
    uint64_t idle_timeouts;    /* connections closed after idle_timeout_ms */
    uint64_t head_timeouts;    /* 408 after head_timeout_ms */
    uint64_t body_timeouts;    /* 408 after body_timeout_ms */
    uint64_t write_timeouts;   /* connections aborted after write_timeout_ms */
    uint64_t request_timeouts; /* 504 after request_timeout_ms */
    uint64_t queue_timeouts;   /* 503 after queue_timeout_ms */
    uint64_t responses[KINO_STATUS_CLASSES]; /* by the status's first digit */
    uint64_t latency_sum_us;                 /* of all in latency_us */
    /* From a request's first byte to its answer's being handed to the connection. */
    uint64_t latency_us[KINO_HISTOGRAM_BUCKETS];
    uint64_t queue_sum_us; /* of all in queue_us */
    /* From a request's being handed to the queue to its being taken. */
    uint64_t queue_us[KINO_HISTOGRAM_BUCKETS];
    uint64_t access_lines;   /* of the access log, written */
    uint64_t access_dropped; /* not written, because the queue was full */
    uint64_t access_failed;  /* not written, because a write failed or did not come to its end */
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
 * Errors:  KINO_INVALID: size is less than 8 or more than 4096. What is missing is not an error of
 *          the call but `out->error`.
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
 * Errors:  KINO_INVALID: not a numeric address, a port above 65535, a path that is empty or has a
 *          NUL inside, a field that does not go with the flags, an unknown flag, or a descriptor
 *          that is no socket to listen on (the log callback gets the reason); KINO_BUSY: started
 *          already; -ENAMETOOLONG: a path; -EMFILE, -ENFILE: the descriptor could not be
 *          duplicated; -ENOSPC: 64 listeners are the most.
 */
KINO_API int kino_server_listen(struct kino_server *server, const struct kino_listener *listener);

/**
 * Tell the port a listener is bound to.
 *
 * listener: what kino_server_listen returned.
 * Returns: the port, 1 .. 65535.
 * Threads: any.
 * Errors:  KINO_INVALID: no such listener, or a unix socket; KINO_AGAIN: not started and the port
 *          is to be chosen.
 */
KINO_API int kino_server_port(const struct kino_server *server, uint64_t listener);

/**
 * Duplicate a listening descriptor for a successor, which adds it with KINO_LISTENER_DESCRIPTOR. A
 * TCP listener has one for each loop, any other has one: a successor that takes all of them loses
 * no connection. Give them away first, have the successor start, then drain. From then on the end
 * of this server leaves the socket, what is queued there, and a unix socket's path to others.
 *
 * index:   0, 1, .. until KINO_INVALID.
 * Returns: a descriptor, close-on-exec, owned by the caller.
 * Threads: any.
 * Errors:  KINO_INVALID: there are no more; KINO_BUSY: not started; KINO_CLOSED: closed by a drain;
 *          -EMFILE.
 */
KINO_API int kino_server_share(struct kino_server *server, uint64_t index);

/**
 * Write a line for each request. A thread of the library's own, kino-log, with all signals blocked,
 * writes from kino_server_start to kino_server_destroy; nobody waits for it. What goes wrong is
 * logged at most once a second, and counted in struct kino_stats.
 *
 * access:  borrowed for the call.
 * Threads: any, before kino_server_start.
 * Errors:  KINO_INVALID: a value out of its range, neither or both of path and descriptor, or one
 *          that cannot be written to; -errno of opening the path, a FIFO that nobody reads (-ENXIO)
 *          included, or of duplicating the descriptor: the log callback gets a line that says
 *          which. KINO_BUSY: started already, or it has its log; -ENOMEM.
 */
KINO_API int kino_server_log_access(struct kino_server *server,
                                    const struct kino_access_log *access);

/**
 * Have the access log's path opened anew before the next line is written: the file was renamed. If
 * that fails, the old file is written on and a line logged. A descriptor stays as it is.
 *
 * Threads: any; async-signal-safe.
 * Errors:  none: 0.
 */
KINO_API int kino_server_reopen_logs(struct kino_server *server);

/**
 * Bind every listener and begin to serve. Queue and lanes: starts the loops' threads, named
 * kino-loop-N, with all signals blocked. Inline: connections are accepted from each worker's first
 * take or wait.
 *
 * Threads: any; may block for 100 ms while a port that a dead process leaves becomes free.
 * Errors:  -EADDRINUSE, -EACCES, -EADDRNOTAVAIL and whatever else bind says; -EEXIST: at a unix
 *          socket's path is something that is no socket; KINO_URING_* and
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
 *          loops' threads, and up to 2 s until the access log is written. A write that blocks for
 *          longer is left behind with its thread and its descriptor, both of which end with it.
 * Errors:  KINO_BUSY: not drained, or a worker is not destroyed; nothing was freed. Never in a
 * child.
 */
KINO_API int kino_server_destroy(struct kino_server *server);

/**
 * Tell what the server has done. Each number is exact, but they are read one after another while
 * the loops count on.
 *
 * out:     `size` set by the caller.
 * Threads: any; async-signal-safe.
 * Errors:  KINO_INVALID: size is less than 8 or more than 4096.
 */
KINO_API int kino_server_stats(const struct kino_server *server, struct kino_stats *out);

/**
 * Tell how many requests wait for a worker in one of the server's queues.
 *
 * lane:    its number, from 0.
 * Returns: how many.
 * Threads: any; async-signal-safe.
 * Errors:  KINO_INVALID: there are no so many queues, or kino_server_start has not made them yet.
 */
KINO_API int kino_server_lane_depth(const struct kino_server *server, uint64_t lane);

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
 * Tell the descriptor that is readable when the worker should try to take, for a host's own event
 * loop. Once asked for, take until KINO_AGAIN, now and each time it is readable: that makes it
 * unreadable again, and arms it. A host that waits for nothing else needs none: kino_worker_wait is
 * cheaper. Where the kernel cannot defer a ring's work, it ends the host's wait by EINTR at times.
 *
 * Returns: the descriptor, 0 or more. The library's own, until kino_worker_destroy: do not read,
 *          write or close it.
 * Threads: the worker's own.
 * Errors:  -errno: none could be made; of an inline worker's first call, whatever the kernel
 *          answers to a new ring; KINO_BUSY: another thread's worker; KINO_CLOSED.
 */
KINO_API int kino_worker_fd(struct kino_worker *worker);

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
 * Sleep until a request has one of these states, or is disconnected.
 *
 * mask:    bits of enum kino_request_state; KINO_STATE_DISCONNECTED is always meant.
 * timeout_ms: the longest sleep; 0 does not sleep, KINO_OFF has no end.
 * Returns: the state's bits.
 * Threads: one that reads its body and one that writes its answer; may block. The driver of an
 *          inline worker goes on driving its loop: requests that arrive meanwhile wait in its
 *          queue.
 * Errors:  KINO_INTERRUPTED; KINO_TIMED_OUT; the kernel's, as in kino_worker_try_take.
 */
KINO_API int kino_request_wait(struct kino_request *request, uint64_t mask, uint64_t timeout_ms);

/**
 * End the current kino_request_wait, or the next one. Several before it count as one.
 *
 * Threads: any that has a reference; async-signal-safe.
 * Errors:  none: 0.
 */
KINO_API int kino_request_interrupt(struct kino_request *request);

/**
 * Read the next piece of a request's body, or of the raw bytes after 101. A whole body is one
 * piece. The first call lets a client that expects it have its 100.
 *
 * piece:   set on 1 only; borrowed until the next call or the last release.
 * Returns: 1: a piece; 0: the body is complete.
 * Threads: any; one at a time for one request.
 * Errors:  KINO_AGAIN: none is there yet; KINO_GONE: it broke off: the client is gone, too slow, or
 *          sent what is no body, or the request was answered without having been read to its end;
 *          -ENOMEM: the client could not be given its 100, and the next call tries again.
 */
KINO_API int kino_request_body(struct kino_request *request, struct kino_slice *piece);

/**
 * Read the trailer fields of a chunked body, after kino_request_body returned 0. A whole body's are
 * there from the beginning.
 *
 * fields:  set to the first, names in lower case; borrowed until the last release.
 * Returns: how many there are.
 * Threads: as kino_request_body.
 * Errors:  KINO_AGAIN: the body is not complete.
 */
KINO_API int kino_request_trailers(const struct kino_request *request,
                                   const struct kino_field **fields);

/**
 * Answer a request, or begin to. The first answer wins. It leaves without another call, except on
 * the caller's own inline loop: there it leaves when nothing is left to take, after 200 us at the
 * next take, or by a flush; and except with KINO_BODY_MORE, when the next piece does. Success says
 * nothing about the client's having read it.
 *
 * response: borrowed for the call; for its body see there.
 * Threads: any; one at a time for one request.
 * Errors:  KINO_ANSWERED: somebody was first; KINO_INVALID: the response cannot be sent, or 101 was
 *          not offered; KINO_AGAIN: interim answers have piled up; -ENOMEM. Of KINO_INVALID and
 *          KINO_AGAIN the body stays the caller's.
 */
KINO_API int kino_request_respond(struct kino_request *request,
                                  const struct kino_response *response);

/**
 * Write a piece of an answer that was begun with KINO_BODY_STREAM. What goes beyond an announced
 * content-length is dropped.
 *
 * piece:   borrowed for the call; its bytes are copied unless it has a `done`.
 * Threads: any; one at a time for one request.
 * Errors:  KINO_AGAIN: the client is slower, and so much waits already: see KINO_STATE_WRITABLE;
 *          KINO_GONE: nobody will read it; KINO_ANSWERED: somebody else answered; KINO_INVALID: no
 *          stream was begun, or it is finished; -ENOMEM: the answer is aborted. Of KINO_AGAIN and
 *          KINO_INVALID the piece stays the caller's.
 */
KINO_API int kino_request_write(struct kino_request *request, const struct kino_piece *piece);

/**
 * End a streamed answer. Where less was written than its content-length announces, the connection
 * closes; after 101 it closes, too.
 *
 * trailers: borrowed for the call; sent only where the body goes out in chunks.
 * Threads: any; one at a time for one request.
 * Errors:  KINO_INVALID: a field cannot be sent, no stream was begun, or it is finished;
 *          KINO_ANSWERED: somebody else answered; -ENOMEM: the answer is aborted.
 */
KINO_API int kino_request_finish(struct kino_request *request, const struct kino_field *trailers,
                                 uint64_t trailer_count);

/**
 * Give a request up: its connection (or a stream of its own, where the protocol has them) closes
 * without an answer to it, or before the end of a streamed one.
 *
 * Threads: any.
 * Errors:  KINO_ANSWERED: somebody answered already, and whole; the answer is sent.
 */
KINO_API int kino_request_abort(struct kino_request *request);

/**
 * Take a request out of what kino_worker_abort answers: it no longer belongs to the worker that
 * took it.
 *
 * Threads: that worker's own.
 * Errors:  none: 0.
 */
KINO_API int kino_request_detach(struct kino_request *request);

/**
 * Add a reference.
 *
 * Returns: the request.
 * Threads: any that has a reference.
 * Errors:  none.
 */
KINO_API struct kino_request *kino_request_hold(struct kino_request *request);

/**
 * Drop a reference. The last one of a request without an answer answers 500, and of a streamed
 * answer that is not finished aborts it. Takes no lock and allocates nothing, so a garbage
 * collector may call it; allowed after its worker and its server
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
