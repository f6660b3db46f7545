/* SPDX-License-Identifier: MIT */
#ifndef KN_SERVER_ACCEPT_H
#define KN_SERVER_ACCEPT_H

#include "base/mailbox.h"
#include "io/socket.h"
#include "server/loop.h"

enum {
    KN_PASSAGES = 256,         /* connections on their way to another loop; more stay */
    KN_ACCEPT_LAST_LOOKS = 16, /* at a socket that others go on with */
};

/* A listening socket. Belongs to the server; driver-only while a loop drives it. */
struct kn_socket {
    struct kn_list link; /* in the loop's list, or the server's orphans */
    struct kn_loop *loop;
    struct kn_op accept_op;
    int fd; /* changed under the server's mutex; -1: closed */
    unsigned listener;
    bool accepting; /* the operation is in flight */
    bool paused;
    bool single;                /* it serves all loops: connections are passed on. Constant */
    struct kn_socket_file file; /* that it made. Constant */
    _Atomic bool outlives;      /* others have it, too. Set under the server's mutex */
    unsigned last_looks;
    /* Where it is bound to one address, so are its connections, and need not be asked. */
    bool wildcard;
    char local_text[INET6_ADDRSTRLEN];
    uint32_t local_port;
};

/* A connection on its way from the loop that accepted it to another. Whose mailbox it is in owns
 * it; a free or stranded one is the server's. */
struct kn_passage {
    struct kn_mail mail;
    struct kn_list link; /* kino_server.free_passages or .stranded; under the mutex */
    const struct kn_socket *socket;
    int fd; /* -1: free. A forked child, which can tell nothing else of it, closes it */
};

/* Close; and where nobody else has it, stop listening and remove the path. By the process that
 * bound it, under the server's mutex. */
void kn_socket_end(struct kino_server *server, struct kn_socket *socket);

/* Make a passage usable. */
void kn_passage_init(struct kn_passage *passage);

/* All of these by the loop's driver. */

/* Begin to listen on and accept from the loop's sockets, and to take what others accept. */
void kn_accept_begin(struct kn_loop *loop);
/* Take over the sockets of loops whose drivers left, and the connections they could not serve. */
void kn_accept_adopt(struct kn_loop *loop);
/* Accept again where that was paused and there is room now. */
void kn_accept_resume(struct kn_loop *loop);
/* Accept no more, and take nothing from other loops. The operations end soon after, and what was
 * passed is in the mailbox. */
void kn_accept_stop(struct kn_loop *loop);
bool kn_accept_ended(const struct kn_loop *loop);
/* Close the sockets, so that clients are refused and the port is free, unless others have them:
 * then what they may have missed is accepted first, and this is to be called again. */
void kn_accept_close(struct kn_loop *loop);

#endif
