/* SPDX-License-Identifier: MIT */
#include "io/socket.h"

#include "base/clock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    PATH_MOST = sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1,
    LOCK_TRIES = 10, /* who holds a directory's lock for longer is none of us */
    LOCK_PAUSE_MS = 10,
};

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

int kn_address_from_path(struct kino_slice path, union kn_address *out)
{
    if (path.len == 0 || memchr(path.data + 1, 0, path.len - 1))
        return KINO_INVALID;
    if (path.len == 1 && path.data[0] == '\0')
        return KINO_INVALID;
    if (path.len > PATH_MOST)
        return -ENAMETOOLONG;
    memset(out, 0, sizeof(*out));
    out->local.sun_family = AF_UNIX;
    memcpy(out->local.sun_path, path.data, path.len);
    return 0;
}

static bool is_abstract(const union kn_address *address)
{
    return address->local.sun_path[0] == '\0';
}

static socklen_t length_of(const union kn_address *address)
{
    const char *path = address->local.sun_path;
    const size_t before = offsetof(struct sockaddr_un, sun_path);

    if (address->any.sa_family == AF_INET)
        return sizeof(address->in4);
    if (address->any.sa_family == AF_INET6)
        return sizeof(address->in6);
    /* An abstract name ends where its length says; a path, also with its NUL. */
    return (socklen_t)(before + 1 + strnlen(path + is_abstract(address), PATH_MOST));
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
    if (address->any.sa_family != AF_INET6) {
        text[0] = '\0';
        return 0;
    }
    if (IN6_IS_ADDR_V4MAPPED(in6))
        return format_in4(&in6->s6_addr[12], text);
    inet_ntop(AF_INET6, in6, text, KN_ADDRESS_TEXT);
    return strlen(text);
}

void kn_address_describe(const union kn_address *address, char text[KN_ADDRESS_NAME])
{
    const bool in6 = address->any.sa_family == AF_INET6;
    const char *path = address->local.sun_path;
    char numeric[KN_ADDRESS_TEXT];

    if (address->any.sa_family == AF_UNIX && is_abstract(address)) {
        snprintf(text, KN_ADDRESS_NAME, "unix:@%.*s", PATH_MOST, path + 1);
    } else if (address->any.sa_family == AF_UNIX) {
        snprintf(text, KN_ADDRESS_NAME, "unix:%.*s", PATH_MOST + 1, path);
    } else {
        kn_address_format(address, numeric);
        snprintf(text, KN_ADDRESS_NAME, "%s%s%s:%u", in6 ? "[" : "", numeric, in6 ? "]" : "",
                 kn_address_port(address));
    }
}

uint32_t kn_address_port(const union kn_address *address)
{
    if (address->any.sa_family == AF_INET)
        return ntohs(address->in4.sin_port);
    return address->any.sa_family == AF_INET6 ? ntohs(address->in6.sin6_port) : 0;
}

void kn_address_set_port(union kn_address *address, uint32_t port)
{
    if (address->any.sa_family == AF_INET6)
        address->in6.sin6_port = htons((uint16_t)port);
    else
        address->in4.sin_port = htons((uint16_t)port);
}

static int bind_to(int fd, const union kn_address *address)
{
    return bind(fd, &address->any, length_of(address)) < 0 ? -errno : 0;
}

int kn_socket_bind(const union kn_address *address, bool shared_port)
{
    const int on = 1;
    int fd = socket(address->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int rc;

    if (fd < 0)
        return -errno;
    /* The address is free at once after a restart; accepted sockets inherit TCP_NODELAY. */
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (shared_port && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) < 0)
        rc = -errno;
    else
        rc = bind_to(fd, address);
    if (rc == 0)
        return fd;
    close(fd);
    return rc;
}

/* Unix sockets */

static int open_directory(const char *path)
{
    char directory[PATH_MOST + 2];
    const char *slash = strrchr(path, '/');

    if (slash)
        snprintf(directory, sizeof(directory), "%.*s/", (int)(slash - path), path);
    else
        snprintf(directory, sizeof(directory), ".");
    return open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* Who starts at the same moment waits here, else it might take a socket that is bound but does not
 * listen yet for a stale one. Advice among ourselves: where it is not to be had we go on without.
 * Returns what unlock_directory wants. */
static int lock_directory(const char *path)
{
    const struct timespec pause = {.tv_nsec = LOCK_PAUSE_MS * KN_NS_PER_MS};
    const int fd = open_directory(path);

    for (int i = 0; fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0 && i < LOCK_TRIES; i++)
        nanosleep(&pause, NULL);
    return fd;
}

static void unlock_directory(int fd)
{
    if (fd < 0)
        return;
    flock(fd, LOCK_UN); /* a process forked meanwhile has a copy of the descriptor */
    close(fd);
}

/* 0: somebody listens. */
static int knock(const union kn_address *address)
{
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int rc;

    if (fd < 0)
        return -errno;
    rc = connect(fd, &address->any, length_of(address)) < 0 ? -errno : 0;
    close(fd);
    return rc;
}

static bool is_file(const struct stat *status, const struct kn_socket_file *file)
{
    return S_ISSOCK(status->st_mode) && status->st_dev == file->device &&
           status->st_ino == file->inode;
}

/* Only what is certainly a socket that nobody has is removed. */
static int remove_stale(const union kn_address *address)
{
    const char *path = address->local.sun_path;
    struct kn_socket_file file;
    struct stat status;
    int rc;

    if (lstat(path, &status) < 0)
        return errno == ENOENT ? 0 : -errno;
    if (!S_ISSOCK(status.st_mode))
        return -EEXIST;
    file = (struct kn_socket_file){status.st_dev, status.st_ino};
    rc = knock(address);
    if (rc == 0 || rc == -EAGAIN || rc == -EPROTOTYPE) /* a full backlog; datagrams */
        return -EADDRINUSE;
    if (rc != -ECONNREFUSED)
        return rc == -ENOENT ? 0 : rc;
    if (lstat(path, &status) < 0 || !is_file(&status, &file))
        return -EADDRINUSE; /* others are at it, too */
    return unlink(path) < 0 && errno != ENOENT ? -errno : 0;
}

/* Set the new file's mode, which until we listen lets nobody in, and remember the file. */
static int settle_path(const char *path, mode_t mode, struct kn_socket_file *file)
{
    struct stat status;
    int rc = 0;

    if (mode != 0 && fchmodat(AT_FDCWD, path, mode, AT_SYMLINK_NOFOLLOW) < 0)
        rc = -errno;
    else if (lstat(path, &status) < 0)
        rc = -errno;
    if (rc < 0) {
        unlink(path);
        return rc;
    }
    *file = (struct kn_socket_file){status.st_dev, status.st_ino};
    return 0;
}

static int bind_path(int fd, const union kn_address *address, mode_t mode,
                     struct kn_socket_file *file)
{
    const char *path = address->local.sun_path;
    int rc = bind_to(fd, address);

    if (is_abstract(address))
        return rc;
    if (rc == -EADDRINUSE) {
        rc = remove_stale(address);
        if (rc == 0)
            rc = bind_to(fd, address);
    }
    return rc < 0 ? rc : settle_path(path, mode, file);
}

int kn_socket_bind_path(const union kn_address *address, mode_t mode, int backlog,
                        struct kn_socket_file *file)
{
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int lock;
    int rc;

    *file = (struct kn_socket_file){0};
    if (fd < 0)
        return -errno;
    lock = is_abstract(address) ? -1 : lock_directory(address->local.sun_path);
    rc = bind_path(fd, address, mode, file);
    if (rc == 0 && listen(fd, backlog) < 0) {
        rc = -errno;
        kn_socket_remove_path(address, file);
    }
    unlock_directory(lock);
    if (rc == 0)
        return fd;
    close(fd);
    return rc;
}

void kn_socket_remove_path(const union kn_address *address, const struct kn_socket_file *file)
{
    struct stat status;

    if (file->inode != 0 && lstat(address->local.sun_path, &status) == 0 && is_file(&status, file))
        unlink(address->local.sun_path);
}

/* Sockets of others */

static int option(int fd, int name)
{
    int value;
    socklen_t len = sizeof(value);

    return getsockopt(fd, SOL_SOCKET, name, &value, &len) < 0 ? -errno : value;
}

static bool is_bound(const union kn_address *address)
{
    if (address->any.sa_family == AF_UNIX)
        return !is_abstract(address) || address->local.sun_path[1] != '\0';
    return kn_address_port(address) != 0;
}

const char *kn_socket_find_fault(int fd, union kn_address *out)
{
    const int type = option(fd, SO_TYPE);
    const int family = option(fd, SO_DOMAIN);
    union kn_address peer;
    socklen_t len = sizeof(peer);

    if (type == -EBADF)
        return "it is not open";
    if (type < 0)
        return "it is no socket";
    if (type != SOCK_STREAM)
        return "it is no stream socket";
    if (family != AF_INET && family != AF_INET6 && family != AF_UNIX)
        return "it is neither of IPv4, nor of IPv6, nor a unix socket";
    if (option(fd, SO_ACCEPTCONN) != 1 && getpeername(fd, &peer.any, &len) == 0)
        return "it is connected";
    kn_socket_local(fd, out);
    return is_bound(out) ? NULL : "it is bound to no address";
}

void kn_socket_prepare(int fd)
{
    const int on = 1;
    const int flags = fcntl(fd, F_GETFL);

    /* What io_uring cannot do at once it does not wait for where this is set. */
    if (flags >= 0 && (flags & O_NONBLOCK))
        fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)); /* a unix socket refuses it */
}

void kn_socket_local(int fd, union kn_address *out)
{
    socklen_t len = sizeof(*out);

    memset(out, 0, sizeof(*out)); /* not every name of a unix socket has an end */
    if (getsockname(fd, &out->any, &len) < 0)
        *out = (union kn_address){.in4.sin_family = AF_INET};
}

void kn_socket_peer(int fd, union kn_address *out)
{
    socklen_t len = sizeof(*out);

    if (getpeername(fd, &out->any, &len) < 0)
        *out = (union kn_address){.in4.sin_family = AF_INET};
}
