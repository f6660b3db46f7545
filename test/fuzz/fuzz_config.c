/* SPDX-License-Identifier: MIT */
/* Structs as a caller might fill them, of this header, an older or a newer one, through the calls
 * that take them before a server starts. An input is read from its front, as long as there is any;
 * behind its end all is zero. */
#include "kino.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum {
    SIZE_SMALLEST = sizeof(uint64_t), /* of a struct that the library looks into */
    SIZE_LARGEST = 4096,
    LISTENERS_MOST = 64,
    CALLS_MOST = LISTENERS_MOST + 4,
};

/* What is left of an input. */
struct input {
    const uint8_t *data;
    size_t len;
};

static void take(struct input *input, void *out, size_t len)
{
    const size_t there = len < input->len ? len : input->len;

    memset(out, 0, len);
    if (there > 0)
        memcpy(out, input->data, there);
    input->data += there;
    input->len -= there;
}

static uint8_t take_byte(struct input *input)
{
    uint8_t byte;

    take(input, &byte, sizeof(byte));
    return byte;
}

/* Any number, and most often one of those that mean something. */
static uint64_t take_number(struct input *input)
{
    const uint8_t kind = take_byte(input);
    uint64_t number;

    switch (kind % 4) {
    case 0:
        return 0;
    case 1:
        return KINO_OFF - kind / 4;
    case 2:
        return kind / 4;
    default:
        take(input, &number, sizeof(number));
        return number;
    }
}

/* A struct in memory of just its size, so that a sanitizer sees a look past its end. */
struct given {
    void *memory; /* owned */
    uint64_t size;
    bool is_right; /* it must not be refused for its size */
};

/* Any size, and behind what this header knows any byte. A pointer that the size cuts is left out:
 * no caller can mean it. */
static struct given give(struct input *input, const void *from, size_t known, size_t pointer)
{
    const uint8_t choice = take_byte(input);
    uint16_t size = (uint16_t)known;
    size_t there;
    struct given given;

    if (choice % 4 > 0)
        take(input, &size, sizeof(size));
    given.size = size;
    given.is_right = size >= SIZE_SMALLEST && size <= SIZE_LARGEST && size % SIZE_SMALLEST == 0;
    there = given.is_right ? size : SIZE_SMALLEST;
    given.memory = calloc(1, there);
    assert(given.memory);
    memcpy(given.memory, from, there < known ? there : known);
    if (there > pointer && there < pointer + sizeof(void *))
        memset((char *)given.memory + pointer, 0, there - pointer);
    if (choice % 4 == 2 && there > known) {
        const uint8_t byte = take_byte(input);

        ((uint8_t *)given.memory)[known + choice / 4 % (there - known)] = byte;
        given.is_right = byte == 0;
    }
    memcpy(given.memory, &given.size, sizeof(given.size));
    return given;
}

static int lines; /* logged, for the input at hand */

static void count_line(void *context, int level, const char *line)
{
    (void)context;
    assert(level >= KINO_LOG_ERROR && level <= KINO_LOG_INFO);
    assert(strlen(line) > 0 && !strchr(line, '\n'));
    lines++;
}

/* All that comes before `log` are numbers. */
static struct kino_config take_config(struct input *input)
{
    static const char field[] = "a server \xff of\r many";
    struct kino_config config = {.log = count_line};

    for (size_t at = sizeof(config.size); at < offsetof(struct kino_config, log);
         at += sizeof(uint64_t)) {
        const uint64_t number = take_number(input);

        memcpy((char *)&config + at, &number, sizeof(number));
    }
    if (take_byte(input) % 2)
        config.server_field = (struct kino_slice){field, take_byte(input) % sizeof(field)};
    return config;
}

/* NULL: it was refused. */
static struct kino_server *create(struct input *input)
{
    static char unset;
    struct kino_server *const before = (struct kino_server *)(void *)&unset;
    struct kino_server *server = before;
    const struct kino_config config = take_config(input);
    const size_t log = offsetof(struct kino_config, log);
    const struct given given = give(input, &config, sizeof(config), log);
    const int rc = kino_server_create(given.memory, &server);

    free(given.memory); /* borrowed for the call only */
    if (rc == 0) {
        assert(given.is_right && server != before && lines == 0);
        return server;
    }
    assert(rc == KINO_INVALID && server == before);
    assert(lines > 0 || !given.is_right || given.size < log + sizeof(config.log));
    return NULL;
}

/* A few addresses that are right, and any other bytes. The result is owned. */
static char *take_address(struct input *input, size_t *len)
{
    static const char *const known[] = {"127.0.0.1", "::1", "0.0.0.0", "::", "localhost", ""};
    const uint8_t choice = take_byte(input);
    const char *text = known[choice % (sizeof(known) / sizeof(known[0]))];
    char *address;

    *len = choice < 128 ? strlen(text) : choice - 128U;
    address = malloc(*len > 0 ? *len : 1);
    assert(address);
    if (choice < 128)
        memcpy(address, text, *len);
    else
        take(input, address, *len);
    return address;
}

static int listen_once(struct input *input, struct kino_server *server, int count)
{
    struct kino_listener listener = {0};
    struct given given;
    char *address = take_address(input, &listener.address.len);
    int rc;

    listener.address.data = take_byte(input) % 8 ? address : NULL;
    listener.port = take_number(input);
    listener.backlog = take_number(input);
    given = give(input, &listener, sizeof(listener), offsetof(struct kino_listener, address));
    rc = kino_server_listen(server, given.memory);
    free(given.memory);
    free(address);
    if (rc < 0) {
        assert(rc == KINO_INVALID || (rc == -ENOSPC && count == LISTENERS_MOST));
        return count;
    }
    assert(given.is_right && rc == count && count < LISTENERS_MOST);
    rc = kino_server_port(server, (uint64_t)count);
    assert(rc == KINO_AGAIN || (rc > 0 && rc <= 65535));
    assert(kino_server_port(server, (uint64_t)count + 1) == KINO_INVALID);
    return count + 1;
}

static void refuse_worker(struct input *input, struct kino_server *server)
{
    const struct kino_worker_config config = {.migrates = take_number(input)};
    const struct given given = give(input, &config, sizeof(config), SIZE_LARGEST);
    struct kino_worker *worker = NULL;
    const int rc = kino_worker_create(server, given.memory, &worker);

    free(given.memory);
    assert(rc == KINO_BUSY || rc == KINO_INVALID);
    assert(!worker);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct input input = {data, len};
    struct kino_server *server;
    int count = 0;
    int rc;

    lines = 0;
    server = create(&input);
    if (!server)
        return 0;
    for (int call = 0; call < CALLS_MOST && input.len > 0; call++)
        count = listen_once(&input, server, count);
    refuse_worker(&input, server);
    rc = kino_server_destroy(server);
    assert(rc == 0);
    return 0;
}
