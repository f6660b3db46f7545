/* SPDX-License-Identifier: MIT */
#ifndef KN_IO_SOCKET_H
#define KN_IO_SOCKET_H

#include "kino.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/un.h>

/* An IPv4 or IPv6 address with its port, or the name of a unix socket: a path, or behind a NUL an
 * abstract name. */
union kn_address {
    struct sockaddr any;
    struct sockaddr_in in4;
    struct sockaddr_in6 in6;
    struct sockaddr_un local;
};

enum {
    KN_ADDRESS_TEXT = INET6_ADDRSTRLEN,
    KN_ADDRESS_NAME = sizeof("unix:") + sizeof(((struct sockaddr_un *)NULL)->sun_path),
};

/* The file that a unix socket made when it was bound. */
struct kn_socket_file {
    dev_t device;
    ino_t inode; /* 0: none */
};

/* Read a numeric address. 0 or KINO_INVALID. */
int kn_address_parse(struct kino_slice text, uint64_t port, union kn_address *out);
/* Take a unix socket's name. 0; KINO_INVALID; -ENAMETOOLONG. */
int kn_address_from_path(struct kino_slice path, union kn_address *out);
/* Write the numeric form without brackets, an IPv4-mapped one as IPv4; a unix socket has none.
 * Returns its length. */
size_t kn_address_format(const union kn_address *address, char text[KN_ADDRESS_TEXT]);
/* Write it as people do: 127.0.0.1:80, [::1]:80, unix:/run/kino, and unix:@name of an abstract one.
 */
void kn_address_describe(const union kn_address *address, char text[KN_ADDRESS_NAME]);
/* 0 of a unix socket. */
uint32_t kn_address_port(const union kn_address *address);
void kn_address_set_port(union kn_address *address, uint32_t port);

/* Make a stream socket of TCP and bind it. Returns the descriptor or -errno. */
int kn_socket_bind(const union kn_address *address, bool shared_port);

/* Make a unix socket and listen on it. A file that a dead server left is replaced. `mode` is the
 * new file's, 0 what the umask leaves. Returns the descriptor; -EADDRINUSE: somebody listens there;
 * -EEXIST: what is there is no socket; or another -errno. */
int kn_socket_bind_path(const union kn_address *address, mode_t mode, int backlog,
                        struct kn_socket_file *file);
/* Remove the file, unless another has taken its place. The socket must still be open: so long the
 * file's number is no other's. */
void kn_socket_remove_path(const union kn_address *address, const struct kn_socket_file *file);

/* Say what keeps a descriptor from being listened on, or NULL. Learns its address. */
const char *kn_socket_find_fault(int fd, union kn_address *out);
/* Make somebody else's socket what kn_socket_bind would have made. */
void kn_socket_prepare(int fd);

/* What a descriptor is bound or connected to; on failure 0.0.0.0:0. */
void kn_socket_local(int fd, union kn_address *out);
void kn_socket_peer(int fd, union kn_address *out);

#endif
