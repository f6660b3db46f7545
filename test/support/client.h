/* SPDX-License-Identifier: MIT */
/* An HTTP client that sends what it is told and waits for anything at most CLIENT_DEADLINE_MS. It
 * asserts nothing, so that any thread may use one. */
#ifndef TEST_SUPPORT_CLIENT_H
#define TEST_SUPPORT_CLIENT_H

#include <stdbool.h>
#include <stddef.h>

/* Requests of literals. */
#define GET(target) "GET " target " HTTP/1.1\r\nhost: a\r\n\r\n"
#define POST(target, length, body)                                                                 \
    "POST " target " HTTP/1.1\r\nhost: a\r\ncontent-length: " length "\r\n\r\n" body

enum {
    CLIENT_DEADLINE_MS = 20000, /* when all that is slow is the machine */
};

/* What a read came to, if not a status. */
enum client_outcome {
    CLIENT_ENDED = 0,    /* the server closed, and said nothing before */
    CLIENT_RESET = -1,   /* it reset the connection */
    CLIENT_SILENT = -2,  /* the deadline passed */
    CLIENT_CUT = -3,     /* an answer stopped before its end */
    CLIENT_GARBLED = -4, /* no HTTP/1.1 answer */
};

struct client {
    int fd;
    int port;   /* its own */
    char *data; /* received */
    size_t len;
    size_t capacity;
    size_t used; /* by the answer that was read last */
    /* Of that answer; borrowed until the next read. */
    const char *head; /* NUL-terminated, without its last empty line */
    const char *body;
    size_t body_len;
    unsigned chunks;    /* that the body came in */
    char trailers[256]; /* of such a body: lines, each with a newline */
};

/* On failure fd is -errno. Close it in any case. */
struct client client_to(int port);
struct client client_to_address(const char *address, int port);
/* Of a unix socket; "@name" is an abstract one. */
struct client client_to_path(const char *path);
/* One whose kernel takes little from the server before it is read. */
struct client client_of_little_memory(int port);
void client_close(struct client *client);

/* 0 or -errno. */
int client_send(struct client *client, const char *text);
int client_send_bytes(struct client *client, const void *data, size_t len);
/* Send as much of it as leaves now; 0: nothing does for so long. */
size_t client_try_send(struct client *client, const void *data, size_t len, int ms);

/* Read one answer. Returns its status or an enum client_outcome. */
int client_read(struct client *client);
/* One that has a content-length but no body, because a HEAD asked for it. */
int client_read_bodiless(struct client *client);
/* Send, then read one answer. */
int client_ask(struct client *client, const char *text);

/* Does the last answer have this line in its head, and is this its body? */
bool client_has_line(const struct client *client, const char *line);
bool client_has_body(const struct client *client, const char *text);

/* Read at most `len` bytes as they come. Their number, or an enum client_outcome. */
int client_read_some(struct client *client, char *data, size_t len);
/* Read and drop what comes until the connection ends. CLIENT_ENDED, CLIENT_RESET or _SILENT. */
int client_wait_end(struct client *client);
/* The same, if something else than the end coming first is a mistake: then CLIENT_GARBLED. */
int client_expect_end(struct client *client);
/* Has the server closed, by now? */
bool client_is_ended(struct client *client);
/* Does nothing, and not even the end, come for so long? */
bool client_is_quiet(struct client *client, int ms);

/* Send FIN, and go on reading. */
void client_finish(struct client *client);
/* Send RST and close. */
void client_reset(struct client *client);

#endif
