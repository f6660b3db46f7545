/* SPDX-License-Identifier: MIT */
#ifndef KN_SERVER_ACCEPT_H
#define KN_SERVER_ACCEPT_H

#include "server/loop.h"

/* A listening socket. Belongs to the server; driver-only while a loop drives it. */
struct kn_socket {
    struct kn_list link; /* in the loop's list, or the server's orphans */
    struct kn_loop *loop;
    struct kn_op accept_op;
    int fd;
    unsigned listener;
    bool accepting; /* the operation is in flight */
    bool paused;
    /* Where it is bound to one address, so are its connections, and need not be asked. */
    bool wildcard;
    char local_text[INET6_ADDRSTRLEN];
    uint32_t local_port;
};

/* Stop listening and close. By the process that bound it. */
void kn_socket_end(struct kn_socket *socket);

/* All of these by the loop's driver. */

/* Begin to listen on and accept from the loop's sockets. */
void kn_accept_begin(struct kn_loop *loop);
/* Take over the sockets of loops whose drivers left. */
void kn_accept_adopt(struct kn_loop *loop);
/* Accept again where that was paused and there is room now. */
void kn_accept_resume(struct kn_loop *loop);
/* Accept no more. The operations end soon after. */
void kn_accept_stop(struct kn_loop *loop);
bool kn_accept_ended(const struct kn_loop *loop);
/* Close the sockets, so that clients are refused and the port is free. */
void kn_accept_close(struct kn_loop *loop);

#endif
