/* SPDX-License-Identifier: MIT */
#ifndef KN_SERVER_SERVER_H
#define KN_SERVER_SERVER_H

#include "base/log.h"
#include "dispatch/park.h"
#include "http/head.h"
#include "http/response.h"
#include "io/socket.h"
#include "kino.h"
#include "server/access_log.h"
#include "server/loop.h"

#include <pthread.h>
#include <sys/types.h>

enum {
    KN_MOST_LISTENERS = 64,  /* a successor may be given one for each loop of its predecessor */
    KN_TABLE_MOST = 1 << 16, /* direct descriptors of a ring; 8 bytes each in the kernel */
};

enum kn_server_bit {
    KN_SERVER_DRAINED = 1 << 0, /* never cleared */
    KN_SERVER_INTERRUPTED = 1 << 1,
};

enum kn_listener_kind {
    KN_LISTENER_TCP,
    KN_LISTENER_PATH,      /* a unix socket of our own */
    KN_LISTENER_INHERITED, /* somebody else's socket */
};

/* An address to listen on. Constant after start. */
struct kn_listener {
    enum kn_listener_kind kind;
    union kn_address asked;   /* the port may be 0 */
    union kn_address address; /* with the port that start found */
    int backlog;
    mode_t mode;   /* of a path's file; 0: as the umask says */
    int inherited; /* owned until the start; then and else -1 */
};

/* The whole. Shared: constant after start, or atomic, or under `mutex`. */
struct kino_server {
    struct kino_config config; /* resolved; constant after create but for `loops` */
    struct kn_limits limits;
    struct kn_log log;
    struct kn_signature *signature; /* constant; one reference */

    pthread_mutex_t mutex; /* the start and end of loops and workers; orphans */
    struct kn_listener listeners[KN_MOST_LISTENERS];
    unsigned listener_count;
    struct kn_loop *loops;       /* an array; made by the first start, freed by destroy */
    _Atomic unsigned loop_count; /* release after the loops; 0 before the first start */
    _Atomic bool stopping;       /* a start failed half-way, and takes back what it began */
    /* An array: one for each loop and TCP listener, one for each other listener. */
    struct kn_socket *sockets;
    unsigned socket_count;
    struct kn_passage *passages;  /* an array of KN_PASSAGES, where a socket serves all loops */
    struct kn_list free_passages; /* kn_passage.link */
    struct kn_list stranded;      /* likewise: connections that wait for a loop */
    unsigned last_taker;          /* the loop that was given the last connection */
    _Atomic bool outlived;        /* others have a socket of ours, and go on when we end */
    bool loops_given;             /* the config named their number */
    pid_t owner;                  /* who started it; 0 before */
    struct kn_list orphans;       /* kn_socket.link: listening sockets whose driver left */

    struct kn_parking parking;
    _Atomic uint32_t orphan_count; /* stranded connections included */
    _Atomic uint32_t running;      /* loops begun and not ended */
    _Atomic uint32_t workers;      /* created and not destroyed */
    _Atomic uint64_t connections;  /* relaxed */
    _Atomic uint64_t next_worker_id;
    _Atomic uint64_t drain_deadline_ms; /* UINT64_MAX: not draining */
    _Atomic uint32_t bits;              /* enum kn_server_bit; a futex */

    /* Owned; constant after start; NULL: there is none. */
    _Atomic(struct kn_access_log *) access_log;
};

/* Bind a socket for each listener and loop. 0, or -errno after a line that names the address. */
int kn_listeners_bind(struct kino_server *server);
/* Close all of them that are left. Idempotent. */
void kn_listeners_end(struct kino_server *server);
/* The server has started, or will not any more: close what was kept for another try. */
void kn_listeners_settle(struct kino_server *server);
/* Take kn_listeners_bind back. No loop runs. */
void kn_listeners_unbind(struct kino_server *server);
/* Close what of them is left, and free. In a child of the process that started the server, too. */
void kn_listeners_forget(struct kino_server *server);

bool kn_server_draining(struct kino_server *server);
bool kn_server_drained(struct kino_server *server);
uint64_t kn_server_drain_deadline_ms(struct kino_server *server);
/* Make every loop look around. Any thread, async-signal-safe. */
void kn_server_call_loops(struct kino_server *server);

/* A loop begins. False: too late, the server drains. */
bool kn_server_loop_begins(struct kino_server *server);
void kn_server_loop_ends(struct kino_server *server);

#endif
