/* SPDX-License-Identifier: MIT */
#include "server/log_file.h"

#include "base/alloc.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    WRITE_MOST = 1 << 20,          /* of one write to a disk */
    WRITE_MOST_WAITING = PIPE_BUF, /* elsewhere: a pipe that polls as writable takes so much */
    FIRST_DESCRIPTOR = 3,          /* never one of the standard streams, should they be closed */
    MODE = 0644,
};

/* Non-blocking, so that a FIFO without a reader is an error and not a wait. */
static int open_path(const char *path)
{
    const int fd =
        open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, MODE);

    return fd < 0 ? -errno : fd;
}

static void look_at(struct kn_log_file *file, int fd)
{
    struct stat status;
    const mode_t mode = fstat(fd, &status) == 0 ? status.st_mode : 0;

    file->fd = fd;
    file->regular = S_ISREG(mode);
    file->socket = S_ISSOCK(mode);
    file->torn = false;
}

int kn_log_file_open(struct kn_log_file *file, struct kino_slice path)
{
    int fd;

    *file = (struct kn_log_file){.fd = -1};
    if (memchr(path.data, '\0', path.len))
        return KINO_INVALID;
    if (path.len >= PATH_MAX)
        return -ENAMETOOLONG;
    file->path = kn_alloc(path.len + 1);
    if (!file->path)
        return -ENOMEM;
    memcpy(file->path, path.data, path.len);
    file->path[path.len] = '\0';
    fd = open_path(file->path);
    if (fd < 0) {
        kn_free(file->path);
        file->path = NULL;
        return fd;
    }
    look_at(file, fd);
    return 0;
}

int kn_log_file_adopt(struct kn_log_file *file, uint64_t descriptor)
{
    int flags;
    int fd;

    *file = (struct kn_log_file){.fd = -1};
    if (descriptor > INT_MAX)
        return -EBADF;
    flags = fcntl((int)descriptor, F_GETFL);
    if (flags < 0)
        return -errno;
    if ((flags & O_ACCMODE) == O_RDONLY)
        return KINO_INVALID;
    fd = fcntl((int)descriptor, F_DUPFD_CLOEXEC, FIRST_DESCRIPTOR);
    if (fd < 0)
        return -errno;
    snprintf(file->name, sizeof(file->name), "descriptor %" PRIu64, descriptor);
    look_at(file, fd);
    return 0;
}

void kn_log_file_close(struct kn_log_file *file)
{
    if (file->fd >= 0)
        close(file->fd);
    file->fd = -1;
    kn_free(file->path);
    file->path = NULL;
}

const char *kn_log_file_name(const struct kn_log_file *file)
{
    return file->path ? file->path : file->name;
}

int kn_log_file_reopen(struct kn_log_file *file)
{
    int fd;

    if (!file->path)
        return 0;
    fd = open_path(file->path);
    if (fd < 0)
        return fd;
    close(file->fd);
    look_at(file, fd);
    return 0;
}

static int write_now(const struct kn_log_file *file, const char *data, size_t len)
{
    const size_t most = file->regular ? WRITE_MOST : WRITE_MOST_WAITING;
    const size_t count = len < most ? len : most;
    const ssize_t written = file->socket ? send(file->fd, data, count, MSG_DONTWAIT | MSG_NOSIGNAL)
                                         : write(file->fd, data, count);

    if (written > 0)
        return (int)written;
    if (written < 0 && errno != EAGAIN && errno != EINTR)
        return -errno;
    return KINO_AGAIN;
}

int kn_log_file_write(struct kn_log_file *file, const char *data, size_t len, int timeout_ms)
{
    struct pollfd poll_fd = {.fd = file->fd, .events = POLLOUT};
    int rc;

    if (!file->regular && poll(&poll_fd, 1, timeout_ms) <= 0)
        return KINO_AGAIN;
    if (file->torn) {
        rc = write_now(file, "\n", 1);
        if (rc < 0)
            return rc;
        file->torn = false;
    }
    rc = write_now(file, data, len);
    if (rc == KINO_AGAIN && !file->regular)
        poll(NULL, 0, timeout_ms); /* it promised room that it does not have: do not spin */
    return rc;
}

void kn_log_file_tear(struct kn_log_file *file)
{
    file->torn = true;
}
