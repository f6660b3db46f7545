/* SPDX-License-Identifier: MIT */
#include "io/socket.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int kn_address_parse(struct kino_slice text, uint64_t port, union kn_address *out)
{
    char copy[KN_ADDRESS_TEXT];

    if (port > UINT16_MAX || text.len >= sizeof(copy) || memchr(text.data, 0, text.len))
        return KINO_INVALID;
    memcpy(copy, text.data, text.len);
    copy[text.len] = '\0';
    memset(out, 0, sizeof(*out));
    if (inet_pton(AF_INET, copy, &out->in4.sin_addr) == 1)
        out->any.sa_family = AF_INET;
    else if (inet_pton(AF_INET6, copy, &out->in6.sin6_addr) == 1)
        out->any.sa_family = AF_INET6;
    else
        return KINO_INVALID;
    kn_address_set_port(out, (uint32_t)port);
    return 0;
}

/* As the kernel's own formatter does it, several times faster than inet_ntop: it is on the way of
 * every connection. */
static size_t format_in4(const unsigned char bytes[4], char *text)
{
    size_t len = 0;

    for (int i = 0; i < 4; i++) {
        const unsigned byte = bytes[i];

        if (byte >= 100)
            text[len++] = (char)('0' + byte / 100);
        if (byte >= 10)
            text[len++] = (char)('0' + byte / 10 % 10);
        text[len++] = (char)('0' + byte % 10);
        text[len++] = '.';
    }
    text[--len] = '\0';
    return len;
}

size_t kn_address_format(const union kn_address *address, char text[KN_ADDRESS_TEXT])
{
    const struct in6_addr *in6 = &address->in6.sin6_addr;

    if (address->any.sa_family == AF_INET)
        return format_in4((const unsigned char *)&address->in4.sin_addr, text);
    if (IN6_IS_ADDR_V4MAPPED(in6))
        return format_in4(&in6->s6_addr[12], text);
    inet_ntop(AF_INET6, in6, text, KN_ADDRESS_TEXT);
    return strlen(text);
}

uint32_t kn_address_port(const union kn_address *address)
{
    return ntohs(address->any.sa_family == AF_INET6 ? address->in6.sin6_port
                                                    : address->in4.sin_port);
}

void kn_address_set_port(union kn_address *address, uint32_t port)
{
    if (address->any.sa_family == AF_INET6)
        address->in6.sin6_port = htons((uint16_t)port);
    else
        address->in4.sin_port = htons((uint16_t)port);
}

int kn_socket_bind(const union kn_address *address, bool shared_port)
{
    const bool in6 = address->any.sa_family == AF_INET6;
    const int on = 1;
    int fd = socket(address->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int rc;

    if (fd < 0)
        return -errno;
    /* The address is free at once after a restart; accepted sockets inherit TCP_NODELAY. */
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if ((shared_port && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) < 0) ||
        bind(fd, &address->any, in6 ? sizeof(address->in6) : sizeof(address->in4)) < 0) {
        rc = -errno;
        close(fd);
        return rc;
    }
    return fd;
}

void kn_socket_local(int fd, union kn_address *out)
{
    socklen_t len = sizeof(*out);

    if (getsockname(fd, &out->any, &len) < 0)
        *out = (union kn_address){.in4.sin_family = AF_INET};
}

void kn_socket_peer(int fd, union kn_address *out)
{
    socklen_t len = sizeof(*out);

    if (getpeername(fd, &out->any, &len) < 0)
        *out = (union kn_address){.in4.sin_family = AF_INET};
}
