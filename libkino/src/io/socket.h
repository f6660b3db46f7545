/* SPDX-License-Identifier: MIT */
#ifndef KN_IO_SOCKET_H
#define KN_IO_SOCKET_H

#include "kino.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>

/* An IPv4 or IPv6 address with its port. */
union kn_address {
    struct sockaddr any;
    struct sockaddr_in in4;
    struct sockaddr_in6 in6;
};

enum {
    KN_ADDRESS_TEXT = INET6_ADDRSTRLEN,
};

/* Read a numeric address. 0 or KINO_INVALID. */
int kn_address_parse(struct kino_slice text, uint64_t port, union kn_address *out);
/* Write the numeric form without brackets, an IPv4-mapped one as IPv4. Returns its length. */
size_t kn_address_format(const union kn_address *address, char text[KN_ADDRESS_TEXT]);
uint32_t kn_address_port(const union kn_address *address);
void kn_address_set_port(union kn_address *address, uint32_t port);

/* Make a stream socket and bind it. Returns the descriptor or -errno. */
int kn_socket_bind(const union kn_address *address, bool shared_port);

/* What a descriptor is bound or connected to; on failure 0.0.0.0:0. */
void kn_socket_local(int fd, union kn_address *out);
void kn_socket_peer(int fd, union kn_address *out);

#endif
