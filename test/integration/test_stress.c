/* SPDX-License-Identifier: MIT */
/* Clients of every kind at once, programs that answer in every way, and a drain in the middle: no
 * answer is wrong, late, cut or another's, and what is left at the end is nothing. */
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/desk.h"

enum {
    CLIENTS = 6,
    WORKERS = 3,
    CLERK_DESK = 64,
    RUN_MS = 2000,
    ABORT_EVERY = 16,
    ABORTED_STATUS = 599,
    MOST_PIPELINED = 20,
    MOST_BODY = 100000,
    LARGE = 300000, /* more than one send */
};

static char large_body[LARGE];

/* What all threads of one run share. */
struct run {
    struct desk *desk;
    _Atomic bool draining; /* from now on connections may end, and later be refused */
    _Atomic bool over;
    _Atomic unsigned served;
    _Atomic unsigned errors;
    pthread_mutex_t mutex; /* over what follows */
    pthread_cond_t changed;
    char first_error[256];
    struct kino_request *held[CLERK_DESK]; /* for the clerk to answer */
    unsigned held_count;
};

static struct run *current; /* a handler's context is its desk */

/* The program's side */

static void respond(struct kino_request *request, uint64_t status, struct kino_slice body)
{
    const struct kino_response response = {
        .size = sizeof(response), .status = status, .body = body};

    kino_request_respond(request, &response);
}

static void answer(struct kino_request *request)
{
    const struct kino_head *head = kino_request_head(request);

    respond(request, 200, head->body.data ? head->body : head->target);
}

static bool hand_to_clerk(struct run *run, struct kino_request *request)
{
    bool taken = false;

    pthread_mutex_lock(&run->mutex);
    if (run->held_count < CLERK_DESK) {
        run->held[run->held_count++] = kino_request_hold(request);
        pthread_cond_signal(&run->changed);
        taken = true;
    }
    pthread_mutex_unlock(&run->mutex);
    return taken;
}

static bool begins(struct kino_slice slice, const char *text)
{
    return slice.len >= strlen(text) && memcmp(slice.data, text, strlen(text)) == 0;
}

static void handle(void *context, struct kino_request *request)
{
    const struct kino_slice target = kino_request_head(request)->target;

    (void)context;
    atomic_fetch_add(&current->served, 1);
    if (begins(target, "/forget"))
        return;
    if (begins(target, "/abort"))
        kino_request_abort(request);
    else if (begins(target, "/large"))
        respond(request, 200, (struct kino_slice){large_body, LARGE});
    else if (!begins(target, "/later") || !hand_to_clerk(current, request))
        answer(request);
}

/* Answers from a thread of its own, the last first. */
static void *be_clerk(void *context)
{
    struct run *run = context;

    pthread_mutex_lock(&run->mutex);
    while (!atomic_load(&run->over) || run->held_count > 0) {
        if (run->held_count == 0) {
            pthread_cond_wait(&run->changed, &run->mutex);
            continue;
        }
        struct kino_request *request = run->held[--run->held_count];

        pthread_mutex_unlock(&run->mutex);
        answer(request);
        kino_request_release(request);
        pthread_mutex_lock(&run->mutex);
    }
    pthread_mutex_unlock(&run->mutex);
    return NULL;
}

/* The clients' side */

struct tester {
    struct run *run;
    uint32_t seed;
    unsigned number;
    unsigned asked;
    struct client client;
    pthread_t thread;
};

static uint32_t below(struct tester *tester, uint32_t bound)
{
    tester->seed = tester->seed * 1664525 + 1013904223;
    return (uint32_t)(((uint64_t)tester->seed * bound) >> 32);
}

/* A server that drains may end a connection, but never in an answer. */
__attribute__((format(printf, 3, 4))) static void complain(struct tester *tester, int outcome,
                                                           const char *format, ...)
{
    struct run *run = tester->run;
    va_list arguments;

    if (atomic_load(&run->draining) && (outcome == CLIENT_ENDED || outcome == CLIENT_RESET))
        return;
    if (atomic_fetch_add(&run->errors, 1) > 0)
        return;
    va_start(arguments, format);
    vsnprintf(run->first_error, sizeof(run->first_error), format, arguments);
    va_end(arguments);
}

/* One answer, which must be this. False: the connection is of no more use. */
static bool expect(struct tester *tester, int status, const void *body, size_t len)
{
    const int outcome = client_read(&tester->client);

    if (outcome == ABORTED_STATUS)
        return true;
    if (outcome != status) {
        complain(tester, outcome, "%d instead of %d", outcome, status);
        return false;
    }
    if (body && (tester->client.body_len != len || memcmp(tester->client.body, body, len) != 0)) {
        complain(tester, outcome, "%.60s instead of %.60s", tester->client.body,
                 (const char *)body);
        return false;
    }
    return !client_has_line(&tester->client, "connection: close");
}

static void name_target(struct tester *tester, char *target, size_t size)
{
    static const char *const ways[] = {"/now", "/now", "/later"};

    snprintf(target, size, "%s/%u/%u", ways[below(tester, 3)], tester->number, tester->asked++);
}

static bool ask_pipelined(struct tester *tester)
{
    const int count = 1 + (int)below(tester, MOST_PIPELINED);
    char targets[MOST_PIPELINED][64];
    char text[MOST_PIPELINED * 128];
    size_t len = 0;

    for (int i = 0; i < count; i++) {
        name_target(tester, targets[i], sizeof(targets[i]));
        len += (size_t)snprintf(text + len, sizeof(text) - len, "%s %s HTTP/1.1\r\nhost: a\r\n\r\n",
                                below(tester, 8) ? "GET" : "DELETE", targets[i]);
    }
    if (client_send_bytes(&tester->client, text, len) < 0)
        return false;
    for (int i = 0; i < count; i++)
        if (!expect(tester, 200, targets[i], strlen(targets[i])))
            return false;
    return true;
}

static bool send_chunked(struct tester *tester, const char *body, size_t len)
{
    char line[32];

    while (len > 0) {
        size_t part = 1 + below(tester, (uint32_t)len);

        snprintf(line, sizeof(line), "%zx\r\n", part);
        if (client_send(&tester->client, line) < 0 ||
            client_send_bytes(&tester->client, body, part) < 0 ||
            client_send(&tester->client, "\r\n") < 0)
            return false;
        body += part;
        len -= part;
    }
    return client_send(&tester->client, "0\r\n\r\n") == 0;
}

static bool ask_with_body(struct tester *tester)
{
    const size_t len = 1 + below(tester, below(tester, 4) ? 100 : MOST_BODY);
    const bool chunked = below(tester, 2);
    char *body = malloc(len);
    char head[256];
    char target[64];
    bool goes_on;

    for (size_t i = 0; i < len; i++)
        body[i] = (char)('a' + (i + tester->asked) % 26);
    name_target(tester, target, sizeof(target));
    snprintf(head, sizeof(head), "POST %s HTTP/1.1\r\nhost: a\r\n%s%zu\r\n\r\n", target,
             chunked ? "transfer-encoding: chunked\r\nx-length: " : "content-length: ", len);
    goes_on = client_send(&tester->client, head) == 0 &&
              (chunked ? send_chunked(tester, body, len)
                       : client_send_bytes(&tester->client, body, len) == 0) &&
              expect(tester, 200, body, len);
    free(body);
    return goes_on;
}

static bool ask_large(struct tester *tester)
{
    if (client_send(&tester->client, GET("/large")) < 0)
        return false;
    if (below(tester, 2))
        return expect(tester, 200, large_body, LARGE);
    client_reset(&tester->client);
    return false;
}

static bool ask_what_is_forgotten(struct tester *tester)
{
    return client_send(&tester->client, GET("/forget")) == 0 && expect(tester, 500, NULL, 0);
}

static bool ask_what_is_aborted(struct tester *tester)
{
    int outcome;

    if (client_send(&tester->client, GET("/abort")) < 0)
        return false;
    outcome = client_read(&tester->client);
    if (outcome != ABORTED_STATUS && (outcome > CLIENT_ENDED || outcome < CLIENT_RESET))
        complain(tester, outcome, "%d instead of an end", outcome);
    return false;
}

static bool ask_and_finish(struct tester *tester)
{
    char target[64];
    char text[128];
    int outcome;

    name_target(tester, target, sizeof(target));
    snprintf(text, sizeof(text), "GET %s HTTP/1.1\r\nhost: a\r\n\r\n%s", target,
             below(tester, 2) ? "" : "GET /incomplete HT");
    if (client_send(&tester->client, text) < 0)
        return false;
    client_finish(&tester->client);
    if (!expect(tester, 200, target, strlen(target)))
        return false;
    outcome = client_expect_end(&tester->client);
    if (outcome != CLIENT_ENDED)
        complain(tester, outcome, "%d instead of the end", outcome);
    return false;
}

static bool talk_rubbish(struct tester *tester)
{
    char bytes[512];
    int outcome;

    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (char)below(tester, 256);
    bytes[0] = '\1'; /* whatever follows */
    client_send_bytes(&tester->client, bytes, 1 + below(tester, sizeof(bytes) - 1));
    outcome = client_read(&tester->client);
    if (outcome != 400)
        complain(tester, outcome, "%d to rubbish", outcome);
    return false;
}

static bool leave_in_between(struct tester *tester)
{
    static const char *const parts[] = {
        "",
        "GET /now/",
        "GET /now HTTP/1.1\r\nhost: a\r\n",
        "POST /now HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\n12345",
        GET("/now"),
        GET("/later") GET("/later") GET("/later"),
        GET("/large") GET("/large"),
        POST("/later", "1", "x") POST("/later", "1", "x") GET("/later"),
    };

    client_send(&tester->client, parts[below(tester, sizeof(parts) / sizeof(parts[0]))]);
    if (below(tester, 2))
        client_reset(&tester->client);
    return false;
}

static void *be_client(void *context)
{
    static bool (*const ways[])(struct tester *) = {
        ask_pipelined,       ask_pipelined,  ask_pipelined,    ask_with_body,
        ask_with_body,       ask_large,      talk_rubbish,     ask_what_is_forgotten,
        ask_what_is_aborted, ask_and_finish, leave_in_between,
    };
    struct tester *tester = context;
    struct run *run = tester->run;

    while (!atomic_load(&run->over)) {
        tester->client = client_to(run->desk->port);
        if (tester->client.fd < 0) {
            if (!atomic_load(&run->draining))
                complain(tester, CLIENT_GARBLED, "cannot connect: %s",
                         strerror(-tester->client.fd));
            return NULL;
        }
        while (!atomic_load(&run->over) &&
               ways[below(tester, sizeof(ways) / sizeof(ways[0]))](tester))
            ;
        client_close(&tester->client);
    }
    return NULL;
}

/* Interrupts workers, which must not matter, and now and then has all answered that one holds. */
static void disturb(struct run *run, struct client *pacemaker)
{
    const uint64_t end = now_ms() + RUN_MS;
    unsigned turn = 0;

    while (now_ms() < end) {
        struct kino_worker *worker = run->desk->workers[turn++ % WORKERS].worker;

        kino_worker_interrupt(worker);
        if (turn % ABORT_EVERY == 0)
            kino_worker_abort(worker, ABORTED_STATUS);
        client_is_quiet(pacemaker, 1);
    }
}

TestEach(stress, nothing_is_lost_mixed_up_or_left)
{
    struct kino_config config = {.dispatch = dispatch, .max_whole_body_bytes = KINO_OFF};
    struct run run = {0};
    struct tester testers[CLIENTS];
    struct client pacemaker;
    pthread_t clerk;

    if (dispatch != KINO_DISPATCH_INLINE)
        config.loops = 2;
    pthread_mutex_init(&run.mutex, NULL);
    pthread_cond_init(&run.changed, NULL);
    current = &run;
    run.desk = desk_open(config, WORKERS, handle);
    cr_assert_eq(pthread_create(&clerk, NULL, be_clerk, &run), 0);
    for (unsigned i = 0; i < CLIENTS; i++) {
        testers[i] = (struct tester){.run = &run, .seed = 12345 + i, .number = i};
        cr_assert_eq(pthread_create(&testers[i].thread, NULL, be_client, &testers[i]), 0);
    }
    pacemaker = client_to(run.desk->port);
    disturb(&run, &pacemaker);
    atomic_store(&run.draining, true);
    kino_server_drain(run.desk->server, CLIENT_DEADLINE_MS);
    cr_assert_eq(kino_server_wait(run.desk->server, CLIENT_DEADLINE_MS), 0);
    pthread_mutex_lock(&run.mutex);
    atomic_store(&run.over, true);
    pthread_cond_signal(&run.changed);
    pthread_mutex_unlock(&run.mutex);
    for (unsigned i = 0; i < CLIENTS; i++)
        pthread_join(testers[i].thread, NULL);
    pthread_join(clerk, NULL);
    client_close(&pacemaker);
    cr_assert_eq(atomic_load(&run.errors), 0, "%u, the first: %s", atomic_load(&run.errors),
                 run.first_error);
    cr_assert_gt(atomic_load(&run.served), 100);
    cr_assert_eq(desk_end(run.desk), 0);
    pthread_mutex_destroy(&run.mutex);
    pthread_cond_destroy(&run.changed);
}
