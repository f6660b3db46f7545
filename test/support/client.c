/* SPDX-License-Identifier: MIT */
#include "support/client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum {
    READ_BYTES = 64 << 10,
    LITTLE_MEMORY = 32 << 10,
};

union address {
    struct sockaddr any;
    struct sockaddr_in in4;
    struct sockaddr_in6 in6;
};

static socklen_t parse(const char *text, int port, union address *out)
{
    memset(out, 0, sizeof(*out));
    if (inet_pton(AF_INET, text, &out->in4.sin_addr) == 1) {
        out->in4.sin_family = AF_INET;
        out->in4.sin_port = htons((uint16_t)port);
        return sizeof(out->in4);
    }
    inet_pton(AF_INET6, text, &out->in6.sin6_addr);
    out->in6.sin6_family = AF_INET6;
    out->in6.sin6_port = htons((uint16_t)port);
    return sizeof(out->in6);
}

static struct client open_client(const char *text, int port, int receive_bytes)
{
    const int on = 1;
    union address address;
    socklen_t len = parse(text, port, &address);
    struct client client = {0};

    client.fd = socket(address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (client.fd < 0) {
        client.fd = -errno;
        return client;
    }
    setsockopt(client.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (receive_bytes > 0)
        setsockopt(client.fd, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof(receive_bytes));
    if (connect(client.fd, &address.any, len) < 0) {
        const int rc = -errno;

        close(client.fd);
        client.fd = rc;
        return client;
    }
    len = sizeof(address);
    getsockname(client.fd, &address.any, &len);
    client.port =
        ntohs(address.any.sa_family == AF_INET6 ? address.in6.sin6_port : address.in4.sin_port);
    return client;
}

struct client client_to_path(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    socklen_t len = sizeof(address);
    struct client client = {.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};

    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    if (path[0] == '@') {
        address.sun_path[0] = '\0';
        len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
    }
    if (client.fd < 0) {
        client.fd = -errno;
    } else if (connect(client.fd, (struct sockaddr *)&address, len) < 0) {
        const int rc = -errno;

        close(client.fd);
        client.fd = rc;
    }
    return client;
}

struct client client_to(int port)
{
    return open_client("127.0.0.1", port, 0);
}

struct client client_to_address(const char *address, int port)
{
    return open_client(address, port, 0);
}

struct client client_of_little_memory(int port)
{
    return open_client("127.0.0.1", port, LITTLE_MEMORY);
}

void client_close(struct client *client)
{
    if (client->fd >= 0)
        close(client->fd);
    free(client->data);
    *client = (struct client){.fd = -EBADF};
}

static bool wait_for(const struct client *client, short events, int timeout_ms)
{
    return poll(&(struct pollfd){.fd = client->fd, .events = events}, 1, timeout_ms) == 1;
}

int client_send_bytes(struct client *client, const void *data, size_t len)
{
    const char *at = data;

    while (len > 0) {
        const ssize_t sent = send(client->fd, at, len, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (sent > 0) {
            at += sent;
            len -= (size_t)sent;
        } else if (errno != EAGAIN) {
            return -errno;
        } else if (!wait_for(client, POLLOUT, CLIENT_DEADLINE_MS)) {
            return -ETIMEDOUT;
        }
    }
    return 0;
}

size_t client_try_send(struct client *client, const void *data, size_t len, int ms)
{
    ssize_t sent = -1;

    if (wait_for(client, POLLOUT, ms))
        sent = send(client->fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);
    return sent < 0 ? 0 : (size_t)sent;
}

int client_send(struct client *client, const char *text)
{
    return client_send_bytes(client, text, strlen(text));
}

int client_read_some(struct client *client, char *data, size_t len)
{
    ssize_t count;

    if (!wait_for(client, POLLIN, CLIENT_DEADLINE_MS))
        return CLIENT_SILENT;
    count = recv(client->fd, data, len, 0);
    if (count < 0)
        return errno == ECONNRESET ? CLIENT_RESET : CLIENT_GARBLED;
    return (int)count;
}

/* The same into the buffer. */
static int receive(struct client *client)
{
    int count;

    if (client->capacity - client->len < READ_BYTES) {
        client->capacity = 2 * client->capacity + 2 * READ_BYTES;
        client->data = realloc(client->data, client->capacity);
        if (!client->data)
            abort();
    }
    count = client_read_some(client, client->data + client->len, READ_BYTES);
    if (count > 0)
        client->len += (size_t)count;
    return count;
}

static void forget_last(struct client *client)
{
    client->len -= client->used;
    if (client->used > 0)
        memmove(client->data, client->data + client->used, client->len);
    client->used = 0;
}

static bool has_no_body(int status)
{
    return status < 200 || status == 204 || status == 304;
}

/* The value of a field in the head, or NULL. */
static const char *field(const struct client *client, const char *name)
{
    const size_t len = strlen(name);

    for (const char *line = strchr(client->head, '\n'); line; line = strchr(line + 1, '\n'))
        if (strncasecmp(line + 1, name, len) == 0 && line[1 + len] == ':')
            return line + 1 + len + 1;
    return NULL;
}

/* Have at least `len` bytes from offset `from` on. */
static int receive_until(struct client *client, size_t from, size_t len)
{
    while (client->len - from < len) {
        const int rc = receive(client);

        if (rc <= 0)
            return rc == CLIENT_ENDED ? CLIENT_CUT : rc;
    }
    return 1;
}

/* Have a line from `from` on. Returns its length without CRLF, or what went wrong. */
static int receive_line(struct client *client, size_t from)
{
    for (;;) {
        const char *start = client->data + from;
        const char *end = memmem(start, client->len - from, "\r\n", 2);
        int rc;

        if (end)
            return (int)(end - start);
        rc = receive(client);
        if (rc <= 0)
            return rc == CLIENT_ENDED ? CLIENT_CUT : rc;
    }
}

/* Decode chunks in place. What trailers there are come to stand behind the body, as text. */
static int read_chunks(struct client *client)
{
    const size_t body = client->used;
    size_t at = body;

    client->chunks = 0;
    for (;;) {
        const int line = receive_line(client, at);
        size_t size;
        int rc;

        if (line < 0)
            return line;
        size = strtoul(client->data + at, NULL, 16);
        at += (size_t)line + 2;
        if (size == 0)
            break;
        rc = receive_until(client, at, size + 2);
        if (rc <= 0)
            return rc;
        memmove(client->data + body + client->body_len, client->data + at, size);
        client->body_len += size;
        client->chunks++;
        at += size + 2;
    }
    client->trailers[0] = '\0';
    for (int line; (line = receive_line(client, at)) != 0; at += (size_t)line + 2) {
        if (line < 0)
            return line;
        snprintf(client->trailers + strlen(client->trailers),
                 sizeof(client->trailers) - strlen(client->trailers), "%.*s\n", line,
                 client->data + at);
    }
    client->used = at + 2;
    return 1;
}

static int read_answer(struct client *client, bool bodiless)
{
    char *end;
    int status;

    forget_last(client);
    while (!client->data ||
           !(end = memmem(client->data, client->len, "\r\n\r\n", strlen("\r\n\r\n")))) {
        const int rc = receive(client);

        if (rc == CLIENT_ENDED && client->len > 0)
            return CLIENT_CUT;
        if (rc <= 0)
            return rc;
    }
    *end = '\0';
    client->head = client->data;
    client->used = (size_t)(end - client->data) + strlen("\r\n\r\n");
    client->body_len = 0;
    if (sscanf(client->head, "HTTP/1.1 %3d", &status) != 1)
        return CLIENT_GARBLED;
    if (!bodiless && !has_no_body(status) && field(client, "transfer-encoding")) {
        const size_t body = client->used;
        const int rc = read_chunks(client);

        client->head = client->data;
        client->body = client->data + body;
        return rc < 0 ? rc : status;
    }
    if (!bodiless && !has_no_body(status)) {
        const char *length = field(client, "content-length");

        if (!length)
            return CLIENT_GARBLED;
        client->body_len = strtoul(length, NULL, 10);
    }
    while (client->len - client->used < client->body_len) {
        const int rc = receive(client);

        if (rc <= 0)
            return rc == CLIENT_ENDED ? CLIENT_CUT : rc;
    }
    client->head = client->data;
    client->body = client->data + client->used;
    client->used += client->body_len;
    return status;
}

int client_read(struct client *client)
{
    return read_answer(client, false);
}

int client_read_bodiless(struct client *client)
{
    return read_answer(client, true);
}

int client_ask(struct client *client, const char *text)
{
    const int rc = client_send(client, text);

    return rc < 0 ? CLIENT_GARBLED : client_read(client);
}

bool client_has_line(const struct client *client, const char *line)
{
    const size_t len = strlen(line);

    for (const char *at = strchr(client->head, '\n'); at; at = strchr(at + 1, '\n'))
        if (strncmp(at + 1, line, len) == 0 && (at[1 + len] == '\r' || at[1 + len] == '\0'))
            return true;
    return false;
}

bool client_has_body(const struct client *client, const char *text)
{
    return client->body_len == strlen(text) && memcmp(client->body, text, client->body_len) == 0;
}

int client_wait_end(struct client *client)
{
    int rc;

    do {
        client->len = 0;
        client->used = 0;
        rc = receive(client);
    } while (rc > 0);
    return rc;
}

int client_expect_end(struct client *client)
{
    int rc;

    forget_last(client);
    if (client->len > 0)
        return CLIENT_GARBLED;
    rc = receive(client);
    return rc > 0 ? CLIENT_GARBLED : rc;
}

bool client_is_ended(struct client *client)
{
    char byte;

    return wait_for(client, POLLIN, 0) && recv(client->fd, &byte, 1, MSG_PEEK) <= 0;
}

bool client_is_quiet(struct client *client, int ms)
{
    forget_last(client);
    return client->len == 0 && !wait_for(client, POLLIN, ms);
}

void client_finish(struct client *client)
{
    shutdown(client->fd, SHUT_WR);
}

void client_reset(struct client *client)
{
    const struct linger now = {.l_onoff = 1, .l_linger = 0};

    setsockopt(client->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    client_close(client);
}
