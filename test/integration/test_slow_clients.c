/* SPDX-License-Identifier: MIT */
/* SPEC.md 5: nine slow clients side by side, each let go at its deadline and not before, while one
 * that is not slow is served all the time. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "support/desk.h"

enum {
    /* Apart from each other, so that one sees which was meant. */
    HEAD_MS = 200,
    BODY_MS = 400,
    IDLE_MS = 600,
    GRACE_MS = 800,
    WRITE_MS = 1100,
    BODY_RATE = 1000,      /* bytes a second: more than a trickle, however it is paced */
    WRITE_RATE = 64 << 20, /* more than the slow reader reads */
    PACE_MS = 20,
    LARGE = 32 << 20,   /* more than the kernel holds for a client */
    LATE_MS = 64 + 100, /* a tick of the wheel, and threads that take turns */
    SLOW = 10,
};

static char large_body[LARGE];

struct slow;

struct kind {
    const char *name;
    void (*run)(struct slow *);
    uint64_t deadline_ms;
    int outcome; /* a status, or CLIENT_ENDED */
};

/* One of them, on a thread of its own. */
struct slow {
    const struct kind *kind;
    struct client client;
    uint64_t began_ms;
    uint64_t gap_ms; /* the longest between two of its bytes */
    uint64_t passed_ms;
    int result;
};

/* Wait for what the server says, if anything, and for the end. */
static void await_end(struct slow *slow)
{
    slow->result = client_read(&slow->client);
    slow->passed_ms = now_ms() - slow->began_ms;
    if (slow->result > 0 && client_expect_end(&slow->client) != CLIENT_ENDED)
        slow->result = CLIENT_GARBLED;
}

static void send_from_now_on(struct slow *slow, const char *text)
{
    slow->began_ms = now_ms();
    client_send(&slow->client, text);
}

/* Send so much again and again, until the server says something. */
static void trickle(struct slow *slow, const char *part)
{
    uint64_t last_ms = now_ms();

    while (client_is_quiet(&slow->client, PACE_MS) && client_send(&slow->client, part) == 0) {
        const uint64_t gap_ms = now_ms() - last_ms;

        last_ms += gap_ms;
        if (gap_ms > slow->gap_ms)
            slow->gap_ms = gap_ms;
        if (last_ms > slow->began_ms + CLIENT_DEADLINE_MS)
            return;
    }
}

static void be_silent(struct slow *slow)
{
    await_end(slow);
}

static void send_part_of_a_head(struct slow *slow)
{
    send_from_now_on(slow, "GET / HTTP/1.1\r\nhost");
    await_end(slow);
}

static void trickle_a_head(struct slow *slow)
{
    send_from_now_on(slow, "GET / HTTP/1.1\r\nhost: a\r\nx: ");
    trickle(slow, "x");
    await_end(slow);
}

static void send_no_body(struct slow *slow)
{
    send_from_now_on(slow, POST("/", "1000", ""));
    await_end(slow);
}

static void trickle_a_body(struct slow *slow)
{
    send_from_now_on(slow, POST("/", "1000", ""));
    trickle(slow, "x");
    await_end(slow);
}

static void trickle_chunks(struct slow *slow)
{
    send_from_now_on(slow, "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
    trickle(slow, "1\r\nx\r\n");
    await_end(slow);
}

static void ask_and_be_silent(struct slow *slow)
{
    send_from_now_on(slow, GET("/"));
    if (client_read(&slow->client) == 200)
        await_end(slow);
}

static _Atomic(struct kino_request *) large;

/* The kernel still hands out what it has when the server has long gone, so the request is asked. */
static bool is_let_go(struct kino_request *request)
{
    return kino_request_state(request) & KINO_STATE_DISCONNECTED;
}

static void read_slowly(struct slow *slow)
{
    static char scratch[16 << 10];
    struct kino_request *request = NULL;
    int count = 1;

    send_from_now_on(slow, GET("/large"));
    while (count > 0 && !(request && is_let_go(request))) {
        count = client_read_some(&slow->client, scratch, sizeof(scratch));
        request = atomic_load(&large);
        if (request)
            kino_request_wait(request, 0, 1); /* pauses */
    }
    slow->passed_ms = now_ms() - slow->began_ms;
    slow->result = count > 0 ? CLIENT_ENDED : CLIENT_CUT;
}

static void ask_and_finish(struct slow *slow)
{
    send_from_now_on(slow, GET("/"));
    client_finish(&slow->client);
    slow->result = client_read(&slow->client);
    if (slow->result == 200)
        await_end(slow);
}

static void finish_in_the_middle(struct slow *slow)
{
    send_from_now_on(slow, POST("/", "1000", "x"));
    client_finish(&slow->client);
    await_end(slow);
}

static const struct kind kinds[SLOW] = {
    {"silent", be_silent, IDLE_MS, CLIENT_ENDED},
    {"part of a head", send_part_of_a_head, HEAD_MS, 408},
    {"a head that trickles", trickle_a_head, HEAD_MS, 408},
    {"no body", send_no_body, BODY_MS, 408},
    {"a body that trickles", trickle_a_body, GRACE_MS, 408},
    {"chunks that trickle", trickle_chunks, GRACE_MS, 408},
    {"idle after an answer", ask_and_be_silent, IDLE_MS, CLIENT_ENDED},
    {"a slow reader", read_slowly, GRACE_MS, CLIENT_ENDED},
    {"half-closed", ask_and_finish, 0, CLIENT_ENDED},
    {"half-closed in a request", finish_in_the_middle, 0, CLIENT_ENDED},
};

static _Atomic int running;

static void *run(void *context)
{
    struct slow *slow = context;

    slow->kind->run(slow);
    atomic_fetch_sub(&running, 1);
    return NULL;
}

static void keep_bytes(void *context)
{
    (void)context;
}

static void answer(void *context, struct kino_request *request)
{
    const struct kino_response response = {
        .size = sizeof(response), .status = 200, .body = {large_body, LARGE}, .done = keep_bytes};

    if (!desk_is(request, "/large")) {
        desk_echo(context, request);
        return;
    }
    atomic_store(&large, kino_request_hold(request));
    kino_request_respond(request, &response);
}

/* Returns the longest it had to wait. */
static uint64_t be_served_meanwhile(struct desk *desk)
{
    struct client client = client_to(desk->port);
    uint64_t longest_ms = 0;

    while (atomic_load(&running) > 0) {
        const uint64_t began = now_ms();
        uint64_t passed_ms;

        cr_assert_eq(client_ask(&client, POST("/", "4", "body")), 200);
        cr_assert(client_has_body(&client, "body"));
        passed_ms = now_ms() - began;
        if (passed_ms > longest_ms)
            longest_ms = passed_ms;
        cr_assert(client_is_quiet(&client, 5));
    }
    client_close(&client);
    return longest_ms;
}

/* `late_ms`: what the machine may add. */
static void judge(const struct slow *slow, uint64_t late_ms)
{
    const struct kind *kind = slow->kind;

    cr_assert_eq(slow->result, kind->outcome, "%s: %d", kind->name, slow->result);
    if (slow->gap_ms >= BODY_MS)
        return; /* the machine was so slow that it was silent instead */
    cr_assert_geq(slow->passed_ms, kind->deadline_ms, "%s: early, after %lu ms", kind->name,
                  (unsigned long)slow->passed_ms);
    cr_assert_leq(slow->passed_ms, kind->deadline_ms + late_ms, "%s: late, after %lu ms",
                  kind->name, (unsigned long)slow->passed_ms);
}

TestEach(slow_clients, are_let_go_at_their_deadlines_while_others_are_served)
{
    struct kino_config config = {
        .dispatch = dispatch,
        .idle_timeout_ms = IDLE_MS,
        .head_timeout_ms = HEAD_MS,
        .body_timeout_ms = BODY_MS,
        .write_timeout_ms = WRITE_MS,
        .min_body_rate_bytes = BODY_RATE,
        .min_write_rate_bytes = WRITE_RATE,
        .rate_grace_ms = GRACE_MS,
    };
    struct desk *desk = desk_open(config, 1, answer);
    struct slow clients[SLOW] = {0};
    pthread_t threads[SLOW];
    uint64_t longest_ms;

    atomic_store(&large, NULL);
    atomic_store(&running, SLOW);
    for (int i = 0; i < SLOW; i++) {
        clients[i].kind = &kinds[i];
        clients[i].began_ms = now_ms();
        clients[i].client = client_to(desk->port);
        cr_assert_eq(pthread_create(&threads[i], NULL, run, &clients[i]), 0);
    }
    longest_ms = be_served_meanwhile(desk);
    for (int i = 0; i < SLOW; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < SLOW; i++) {
        judge(&clients[i], LATE_MS + 2 * longest_ms);
        client_close(&clients[i].client);
    }
    kino_request_release(atomic_load(&large));
    cr_assert_eq(desk_close(desk), 0);
}
