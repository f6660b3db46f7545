/* SPDX-License-Identifier: MIT */
#include "fault/stage.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define SLICE(literal) {literal, sizeof(literal) - 1}

enum {
    WAIT_MS = 10000,
    DRAIN_MS = 20000,
};

char stage_lent_bytes[STAGE_LENT_BYTES];
char stage_body_bytes[STAGE_BODY_BYTES];

static void fill(char *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        bytes[i] = (char)('a' + i % 23);
}

/* The handlers */

static void give_back(void *context)
{
    atomic_fetch_add((_Atomic int *)context, 1);
}

static struct loan *borrow(struct stage *stage)
{
    const unsigned number = atomic_fetch_add(&stage->loan_count, 1);

    if (number >= STAGE_LOANS_MOST)
        abort();
    return &stage->loans[number];
}

static void settle(struct loan *loan, int rc)
{
    loan->taken = rc != KINO_INVALID && rc != KINO_AGAIN;
}

static int begin(struct kino_request *request, uint64_t status)
{
    const struct kino_response response = {
        .size = sizeof(response), .status = status, .flags = KINO_BODY_STREAM};

    return kino_request_respond(request, &response);
}

static int write_piece(struct kino_request *request, const struct kino_piece *piece)
{
    int rc;

    while ((rc = kino_request_write(request, piece)) == KINO_AGAIN)
        if (kino_request_wait(request, KINO_STATE_WRITABLE, WAIT_MS) < 0)
            return KINO_TIMED_OUT;
    return rc;
}

static int read_piece(struct kino_request *request, struct kino_slice *piece)
{
    int rc;

    while ((rc = kino_request_body(request, piece)) == KINO_AGAIN)
        if (kino_request_wait(request, KINO_STATE_READABLE, WAIT_MS) < 0)
            return KINO_TIMED_OUT;
    return rc;
}

static void answer_text(struct kino_request *request, struct kino_slice body)
{
    const struct kino_response response = {.size = sizeof(response), .status = 200, .body = body};

    kino_request_respond(request, &response);
}

/* Both ways at once, and trailers, if the request has some. */
static void echo(struct stage *stage, struct kino_request *request)
{
    const struct kino_field *trailers = NULL;
    struct kino_slice body;
    int count = 0;
    int rc;

    if (begin(request, 200) < 0)
        return;
    while ((rc = read_piece(request, &body)) == 1) {
        const struct kino_piece piece = {.size = sizeof(piece), .data = body};

        if (write_piece(request, &piece) < 0)
            return;
    }
    if (rc == KINO_TIMED_OUT)
        atomic_fetch_add(&stage->wrong, 1);
    if (rc == 0)
        count = kino_request_trailers(request, &trailers);
    if (rc == 0 && count >= 0)
        kino_request_finish(request, trailers, (uint64_t)count);
}

/* Read all, and say how much it was. */
static void weigh(struct stage *stage, struct kino_request *request)
{
    struct kino_slice body;
    size_t len = 0;
    char text[32];
    int rc;

    while ((rc = read_piece(request, &body)) == 1)
        len += body.len;
    if (rc == KINO_TIMED_OUT)
        atomic_fetch_add(&stage->wrong, 1);
    if (rc == 0)
        answer_text(request,
                    (struct kino_slice){text, (size_t)snprintf(text, sizeof(text), "%zu", len)});
}

static void lend_stream(struct stage *stage, struct kino_request *request)
{
    int rc = begin(request, 200);

    for (int i = 0; rc == 0 && i < 3; i++) {
        struct loan *loan = borrow(stage);
        const struct kino_piece piece = {.size = sizeof(piece),
                                         .flags = i == 0 ? KINO_BODY_MORE : 0,
                                         .data = {stage_lent_bytes, sizeof(stage_lent_bytes)},
                                         .done = give_back,
                                         .done_context = &loan->returned};

        rc = write_piece(request, &piece);
        settle(loan, rc);
    }
    if (rc == 0)
        kino_request_finish(request, NULL, 0);
}

static void lend_whole(struct stage *stage, struct kino_request *request)
{
    struct loan *loan = borrow(stage);
    const struct kino_response response = {.size = sizeof(response),
                                           .status = 200,
                                           .body = {stage_lent_bytes, sizeof(stage_lent_bytes)},
                                           .done = give_back,
                                           .done_context = &loan->returned};

    settle(loan, kino_request_respond(request, &response));
}

static void send_file(struct stage *stage, struct kino_request *request, uint64_t len)
{
    struct loan *loan = borrow(stage);
    const struct kino_response response = {.size = sizeof(response),
                                           .status = 200,
                                           .flags = KINO_BODY_FILE,
                                           .descriptor = (uint64_t)stage->file,
                                           .length = len,
                                           .done = give_back,
                                           .done_context = &loan->returned};

    settle(loan, kino_request_respond(request, &response));
}

/* The descriptor becomes the library's. */
static void give_file(struct stage *stage, struct kino_request *request)
{
    const struct kino_response response = {.size = sizeof(response),
                                           .status = 200,
                                           .flags = KINO_BODY_FILE,
                                           .descriptor =
                                               (uint64_t)fcntl(stage->file, F_DUPFD_CLOEXEC, 3),
                                           .length = 100};
    const int rc = kino_request_respond(request, &response);

    if (rc == KINO_INVALID || rc == KINO_AGAIN)
        close((int)response.descriptor);
}

static void hint(struct kino_request *request)
{
    static const struct kino_field link = {SLICE("link"), SLICE("</a.css>"), 0, 0};
    const struct kino_response hints = {
        .size = sizeof(hints), .status = 103, .fields = &link, .field_count = 1};

    kino_request_respond(request, &hints);
    answer_text(request, kino_request_head(request)->target);
}

static void speak_raw(struct stage *stage, struct kino_request *request)
{
    static const struct kino_field upgrade = {SLICE("upgrade"), SLICE("echo"), 0, 0};
    const struct kino_response response = {
        .size = sizeof(response), .status = 101, .fields = &upgrade, .field_count = 1};
    struct kino_slice bytes;
    int rc;

    if (kino_request_respond(request, &response) < 0)
        return;
    while ((rc = read_piece(request, &bytes)) == 1) {
        const struct kino_piece piece = {.size = sizeof(piece), .data = bytes};

        if (write_piece(request, &piece) < 0)
            return;
    }
    if (rc == KINO_TIMED_OUT)
        atomic_fetch_add(&stage->wrong, 1);
    kino_request_finish(request, NULL, 0);
}

static void handle(struct stage *stage, struct kino_request *request)
{
    const struct kino_head *head = kino_request_head(request);
    const char *target = head->target.data;
    const size_t len = head->target.len;

#define IS(text) (len == sizeof(text) - 1 && memcmp(target, text, len) == 0)
    if (IS("/echo"))
        echo(stage, request);
    else if (IS("/weigh"))
        weigh(stage, request);
    else if (IS("/lent"))
        lend_stream(stage, request);
    else if (IS("/lent-whole"))
        lend_whole(stage, request);
    else if (IS("/file"))
        send_file(stage, request, STAGE_FILE_BYTES);
    else if (IS("/large-file"))
        send_file(stage, request, STAGE_LARGE_FILE_BYTES);
    else if (IS("/own-file"))
        give_file(stage, request);
    else if (IS("/hints"))
        hint(request);
    else if (IS("/raw"))
        speak_raw(stage, request);
    else
        answer_text(request, head->body.data ? head->body : head->target);
#undef IS
    kino_request_release(request);
}

/* One of a stage's workers. */
struct hand {
    struct stage *stage;
    struct kino_worker *worker;
};

static void *work(void *context)
{
    struct hand hand = *(struct hand *)context;
    struct kino_request *request;
    int rc;

    free(context);
    kino_worker_wait(hand.worker, 0); /* inline: begins to listen */
    atomic_fetch_add(&hand.stage->ready, 1);
    while ((rc = kino_worker_take(hand.worker, KINO_OFF, &request)) != KINO_CLOSED) {
        if (rc == KINO_REQUEST)
            handle(hand.stage, request);
        else if (rc != KINO_INTERRUPTED && rc != -ENOMEM)
            break;
    }
    if (rc != KINO_CLOSED)
        atomic_fetch_add(&hand.stage->wrong, 1);
    return NULL;
}

/* The stage: set it up, whatever fails once; take it down, with nothing left. */

static int make_server(struct stage *stage, uint64_t dispatch)
{
    const struct kino_config config = {
        .size = sizeof(config),
        .dispatch = dispatch,
        .loops = dispatch == KINO_DISPATCH_INLINE ? STAGE_WORKERS : 1,
        .max_whole_body_bytes = 1000,
        .queue_depth = 16,
        .max_connections = 64,
    };
    static const char nowhere[] = "/dev/null";
    const struct kino_access_log access = {.size = sizeof(access),
                                           .path = {nowhere, sizeof(nowhere) - 1}};
    const struct kino_listener listener = {.size = sizeof(listener)};
    int rc = kino_server_create(&config, &stage->server);

    if (rc == 0)
        rc = kino_server_log_access(stage->server, &access);
    if (rc >= 0)
        rc = kino_server_listen(stage->server, &listener);
    if (rc >= 0)
        rc = kino_server_start(stage->server);
    if (rc < 0 && stage->server) {
        cr_assert_eq(kino_server_destroy(stage->server), 0);
        stage->server = NULL;
    }
    return rc;
}

struct stage *stage_open_with_file(uint64_t dispatch, size_t len)
{
    struct stage *stage = calloc(1, sizeof(*stage));
    char path[] = "/tmp/kino-test-XXXXXX";
    char *bytes = malloc(len);

    fill(stage_lent_bytes, sizeof(stage_lent_bytes));
    fill(stage_body_bytes, STAGE_BODY_BYTES);
    fill(bytes, len);
    stage->file = mkostemp(path, O_CLOEXEC);
    unlink(path);
    cr_assert_eq(write(stage->file, bytes, len), (ssize_t)len);
    free(bytes);
    if (make_server(stage, dispatch) < 0) {
        cr_assert(kn_fault_happened());
        cr_assert_eq(make_server(stage, dispatch), 0, "the second time");
    }
    stage->port = kino_server_port(stage->server, 0);
    for (unsigned i = 0; i < STAGE_WORKERS; i++) {
        struct hand *hand = malloc(sizeof(*hand));

        if (kino_worker_create(stage->server, NULL, &stage->workers[i]) < 0)
            cr_assert_eq(kino_worker_create(stage->server, NULL, &stage->workers[i]), 0);
        *hand = (struct hand){stage, stage->workers[i]};
        cr_assert_eq(pthread_create(&stage->threads[i], NULL, work, hand), 0);
    }
    while (atomic_load(&stage->ready) < STAGE_WORKERS)
        sched_yield();
    return stage;
}

struct stage *stage_open(uint64_t dispatch)
{
    return stage_open_with_file(dispatch, STAGE_FILE_BYTES);
}

void stage_close(struct stage *stage)
{
    kino_server_drain(stage->server, DRAIN_MS);
    for (unsigned i = 0; i < STAGE_WORKERS; i++)
        pthread_join(stage->threads[i], NULL);
    cr_assert_eq(kino_server_wait(stage->server, DRAIN_MS), 0);
    for (unsigned i = 0; i < STAGE_WORKERS; i++)
        cr_assert_eq(kino_worker_destroy(stage->workers[i]), 0, "worker %u", i);
    cr_assert_eq(kino_server_destroy(stage->server), 0);
    cr_assert_eq(atomic_load(&stage->wrong), 0);
    for (unsigned i = 0; i < atomic_load(&stage->loan_count); i++)
        cr_assert_eq(atomic_load(&stage->loans[i].returned), stage->loans[i].taken, "loan %u", i);
    close(stage->file);
    free(stage);
}

void stage_assert_serving(const struct stage *stage)
{
    struct client client = client_to(stage->port);

    cr_assert_eq(client_ask(&client, GET("/after")), 200);
    cr_assert(client_has_body(&client, "/after"));
    client_close(&client);
}

int stage_count_descriptors(void)
{
    int count = 0;

    for (int fd = 0; fd < 1024; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

void stage_require(void)
{
    struct kino_probe_result probe = {.size = sizeof(probe)};

    kn_fault_plan(KN_FAULT_ENTER, 0, 0);
    kino_probe(&probe);
    if (probe.error)
        cr_skip_test("%s", kino_strerror((int)probe.error));
}
