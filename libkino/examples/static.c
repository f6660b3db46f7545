/* SPDX-License-Identifier: MIT */
/* static PORT DIRECTORY: serves the files below a directory, and nothing outside it. */
#include <kino.h>

#include <fcntl.h>
#include <linux/openat2.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct kino_server *server;

static void stop(int signal)
{
    (void)signal;
    kino_server_drain(server, 10000);
}

static void print_line(void *context, int level, const char *line)
{
    (void)context;
    fprintf(stderr, "static: %s%s\n", level == KINO_LOG_ERROR ? "error: " : "", line);
}

/* A regular file, or -1. That no path leads out of the root, the kernel sees to. */
static int open_below(int root, struct kino_slice path, struct stat *status)
{
    const struct open_how how = {.flags = O_RDONLY | O_CLOEXEC, .resolve = RESOLVE_BENEATH};
    char name[4096];
    int fd;

    if (path.len < 2 || path.len > sizeof(name) || memchr(path.data, '%', path.len))
        return -1; /* names that need escapes are not served */
    snprintf(name, sizeof(name), "%.*s", (int)path.len - 1, path.data + 1);
    fd = (int)syscall(SYS_openat2, root, name, &how, sizeof(how));
    if (fd < 0 || (fstat(fd, status) == 0 && S_ISREG(status->st_mode)))
        return fd;
    return close(fd), -1;
}

static void serve(void *root, struct kino_request *request)
{
    static const struct kino_field type = {
        {"content-type", 12}, {"application/octet-stream", 24}, 0, 0};
    struct stat status;
    const int fd = open_below(*(int *)root, kino_request_head(request)->path, &status);
    struct kino_response response = {
        .size = sizeof(response), .status = 404, .fields = &type, .field_count = 1};

    if (fd >= 0) { /* without a `done` the descriptor is closed for us */
        response.status = 200;
        response.flags = KINO_BODY_FILE;
        response.descriptor = (uint64_t)fd;
        response.length = (uint64_t)status.st_size;
    }
    kino_request_respond(request, &response);
}

int main(int argc, char **argv)
{
    const struct kino_config config = {
        .size = sizeof(config), .dispatch = KINO_DISPATCH_INLINE, .log = print_line};
    const uint64_t port = argc > 1 ? strtoul(argv[1], NULL, 10) : 0;
    const struct kino_listener listener = {.size = sizeof(listener), .port = port};
    int root = argc == 3 ? open(argv[2], O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

    if (root < 0 || !strspn(argv[1], "0123456789"))
        return fprintf(stderr, "usage: static PORT DIRECTORY (port 0: any that is free)\n"), 1;
    if (kino_server_create(&config, &server) < 0 || kino_server_listen(server, &listener) < 0 ||
        kino_server_start(server) < 0)
        return 1;
    signal(SIGTERM, stop);
    dprintf(STDOUT_FILENO, "listening on 127.0.0.1:%d\n", kino_server_port(server, 0));
    return kino_server_serve(server, serve, &root, 1) < 0 || kino_server_destroy(server) < 0;
}
