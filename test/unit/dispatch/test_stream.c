/* SPDX-License-Identifier: MIT */
/* dispatch/stream.c, by a user and a loop that are both the test. */
#include "base/alloc.h"
#include "dispatch/exchange.h"

#include <pthread.h>
#include <sched.h>

#include "support/test.h"

enum {
    ROUNDS = 2000,
    PIECE = 1000,
};

/* What a loop would learn, and the one exchange it learns of. */
struct desk {
    struct kn_mailbox *mailbox;
    struct kino_request *request;
    uint32_t facts; /* since it was asked */
    bool released;
};

static int take_stream(struct kino_request *request, struct kn_chain *out)
{
    unsigned interims;

    return kn_exchange_take_stream(request, out, &interims);
}

static void deliver(struct kn_mail *mail, void *context)
{
    struct kino_request *request = kn_container_of(mail, struct kino_request, mail);
    struct desk *desk = context;
    const uint32_t facts = atomic_exchange(&request->facts, 0);

    desk->facts |= facts & ~(uint32_t)KN_FACT_POSTED;
    request->answered |= (facts & KN_FACT_ANSWERED) != 0;
    desk->released |= (facts & KN_FACT_RELEASED) != 0;
}

static struct desk open_desk(void)
{
    struct kn_signature *signature;
    struct desk desk = {0};

    cr_assert_eq(kn_mailbox_create(NULL, &desk.mailbox), 0);
    cr_assert_eq(kn_signature_create((struct kino_slice){0}, &signature), 0);
    desk.request = kn_exchange_create(desk.mailbox, signature, deliver);
    cr_assert_not_null(desk.request);
    kn_signature_drop(signature);
    desk.request->framing = (struct kn_framing){.version = KINO_HTTP_1_1, .keep_alive = true};
    atomic_store(&desk.request->users, 1);
    return desk;
}

/* What was told since the last time. */
static uint32_t told(struct desk *desk)
{
    uint32_t facts;

    kn_mailbox_deliver(desk->mailbox, desk);
    facts = desk->facts;
    desk->facts = 0;
    return facts;
}

static void close_desk(struct desk *desk)
{
    kino_request_release(desk->request);
    told(desk);
    cr_assert(desk->released);
    kn_exchange_destroy(desk->request);
    kn_mailbox_drop(desk->mailbox);
}

static void count(void *context)
{
    atomic_fetch_add((_Atomic int *)context, 1);
}

static int begin(struct kino_request *request, uint64_t flags)
{
    const struct kino_response response = {
        .size = sizeof(response), .status = 200, .flags = KINO_BODY_STREAM | flags};

    return kino_request_respond(request, &response);
}

static int write_flagged(struct kino_request *request, const char *text, uint64_t flags)
{
    const struct kino_piece piece = {
        .size = sizeof(piece), .flags = flags, .data = {text, strlen(text)}};

    return kino_request_write(request, &piece);
}

/* Lends 5000 bytes. */
static int lend(struct kino_request *request, _Atomic int *done)
{
    static const char bytes[5000];
    const struct kino_piece piece = {
        .size = sizeof(piece), .data = {bytes, sizeof(bytes)}, .done = count, .done_context = done};

    return kino_request_write(request, &piece);
}

static int interim(struct kino_request *request)
{
    const struct kino_response response = {.size = sizeof(response), .status = 103};

    return kino_request_respond(request, &response);
}

static void offer_body(struct desk *desk)
{
    atomic_fetch_or(&desk->request->state, KN_STATE_BODY_OPEN);
}

static void bring(struct desk *desk, const char *text)
{
    struct kn_buf buf = {0};

    cr_assert_eq(kn_buf_append(&buf, text, strlen(text)), 0);
    cr_assert_eq(kn_exchange_deliver(desk->request, &buf), 0);
    cr_assert_eq(buf.len, 0);
    kn_buf_deinit(&buf);
}

static bool is(struct kino_slice piece, const char *text)
{
    return piece.len == strlen(text) && memcmp(piece.data, text, piece.len) == 0;
}

Test(stream, a_stream_is_told_piece_by_piece)
{
    struct desk desk = open_desk();
    struct kn_chain out = {0};

    cr_assert_eq(begin(desk.request, 0), 0);
    cr_assert_eq(told(&desk), KN_FACT_ANSWERED | KN_FACT_STREAM);
    cr_assert_eq(take_stream(desk.request, &out), KN_STREAM_GOES_ON);
    cr_assert_gt(kn_chain_len(&out), 0);
    kn_chain_reset(&out, 0);
    cr_assert_eq(write_flagged(desk.request, "hello", 0), 0);
    cr_assert_eq(told(&desk), KN_FACT_STREAM);
    cr_assert_eq(take_stream(desk.request, &out), KN_STREAM_GOES_ON);
    cr_assert_eq(kn_chain_len(&out), strlen("5\r\nhello\r\n"));
    cr_assert_eq(kino_request_finish(desk.request, NULL, 0), 0);
    cr_assert_eq(told(&desk), KN_FACT_STREAM);
    cr_assert_eq(take_stream(desk.request, &out), KN_STREAM_FINISHED);
    kn_chain_reset(&out, 0);
    close_desk(&desk);
    cr_assert_eq(desk.facts, 0);
}

Test(stream, what_announces_more_is_told_with_it)
{
    struct desk desk = open_desk();

    cr_assert_eq(begin(desk.request, KINO_BODY_MORE), 0);
    cr_assert_eq(told(&desk), 0);
    cr_assert_eq(write_flagged(desk.request, "hello", KINO_BODY_MORE), 0);
    cr_assert_eq(told(&desk), 0);
    cr_assert_eq(write_flagged(desk.request, "world", 0), 0);
    cr_assert_eq(told(&desk), KN_FACT_ANSWERED | KN_FACT_STREAM);
    close_desk(&desk);
}

Test(stream, what_announces_more_and_is_full_is_told)
{
    struct desk desk = open_desk();
    char *bytes = kn_alloc_zeroed(PIECE + 1);

    memset(bytes, 'x', PIECE);
    cr_assert_eq(begin(desk.request, KINO_BODY_MORE), 0);
    while (write_flagged(desk.request, bytes, KINO_BODY_MORE) == 0)
        ;
    cr_assert_eq(told(&desk), KN_FACT_ANSWERED | KN_FACT_STREAM);
    kn_free(bytes);
    close_desk(&desk);
}

Test(stream, what_announces_more_and_is_released_is_aborted)
{
    struct desk desk = open_desk();

    cr_assert_eq(begin(desk.request, KINO_BODY_MORE), 0);
    kino_request_release(desk.request);
    cr_assert_eq(told(&desk), KN_FACT_ABORTED | KN_FACT_RELEASED);
    kn_exchange_destroy(desk.request);
    kn_mailbox_drop(desk.mailbox);
}

Test(stream, a_full_stream_takes_no_more_until_it_is_taken)
{
    struct desk desk = open_desk();
    struct kn_chain out = {0};
    _Atomic int done = 0;
    int lent = 0;

    cr_assert_eq(begin(desk.request, 0), 0);
    while (lend(desk.request, &done) == 0)
        lent++;
    cr_assert_eq(lent, KN_STREAM_MOST / 5000 + 1);
    cr_assert_not(kino_request_state(desk.request) & KINO_STATE_WRITABLE);
    cr_assert_eq(atomic_load(&done), 0, "of the refused one, too: it is still the caller's");
    cr_assert_eq(take_stream(desk.request, &out), KN_STREAM_GOES_ON);
    cr_assert(kino_request_state(desk.request) & KINO_STATE_WRITABLE);
    cr_assert_eq(lend(desk.request, &done), 0);
    kn_chain_reset(&out, 0);
    cr_assert_eq(atomic_load(&done), lent);
    close_desk(&desk);
    cr_assert_eq(atomic_load(&done), lent + 1);
}

Test(stream, nobody_else_may_write_to_it)
{
    struct desk desk = open_desk();
    _Atomic int done = 0;

    cr_assert_eq(lend(desk.request, &done), KINO_INVALID, "before it is begun");
    cr_assert_eq(kino_request_finish(desk.request, NULL, 0), KINO_INVALID);
    cr_assert_eq(atomic_load(&done), 0);
    cr_assert(kn_exchange_claim(desk.request));
    cr_assert_eq(lend(desk.request, &done), KINO_ANSWERED);
    cr_assert_eq(atomic_load(&done), 1);
    cr_assert_eq(kino_request_finish(desk.request, NULL, 0), KINO_ANSWERED);
    close_desk(&desk);
}

Test(stream, a_finished_one_is_finished)
{
    struct desk desk = open_desk();
    _Atomic int done = 0;

    cr_assert_eq(begin(desk.request, 0), 0);
    cr_assert_eq(kino_request_finish(desk.request, NULL, 0), 0);
    cr_assert_eq(lend(desk.request, &done), KINO_INVALID);
    cr_assert_eq(atomic_load(&done), 0);
    cr_assert_eq(kino_request_finish(desk.request, NULL, 0), KINO_INVALID);
    cr_assert_eq(kino_request_abort(desk.request), KINO_ANSWERED);
    close_desk(&desk);
}

Test(stream, a_severed_one_gives_back_what_it_has_and_what_comes)
{
    struct desk desk = open_desk();
    _Atomic int done = 0;
    struct kino_slice piece;

    offer_body(&desk);
    cr_assert_eq(begin(desk.request, 0), 0);
    cr_assert_eq(lend(desk.request, &done), 0);
    kn_exchange_sever(desk.request, KINO_STATE_DISCONNECTED);
    cr_assert_eq(atomic_load(&done), 1);
    cr_assert_eq(lend(desk.request, &done), KINO_GONE);
    cr_assert_eq(atomic_load(&done), 2);
    cr_assert_eq(kino_request_body(desk.request, &piece), KINO_GONE);
    cr_assert_eq(kino_request_finish(desk.request, NULL, 0), 0, "to no avail");
    close_desk(&desk);
}

Test(stream, an_answer_that_lost_its_connection_gives_back_its_body)
{
    static const char bytes[5000];
    struct desk desk = open_desk();
    _Atomic int done = 0;
    const struct kino_response response = {.size = sizeof(response),
                                           .status = 200,
                                           .body = {bytes, sizeof(bytes)},
                                           .done = count,
                                           .done_context = &done};

    cr_assert_eq(kino_request_respond(desk.request, &response), 0);
    cr_assert_eq(told(&desk), KN_FACT_ANSWERED);
    cr_assert_eq(atomic_load(&done), 0);
    kn_exchange_sever(desk.request, KINO_STATE_DISCONNECTED);
    cr_assert_eq(atomic_load(&done), 1);
    close_desk(&desk);
    cr_assert_eq(atomic_load(&done), 1);
}

Test(stream, interim_answers_are_bounded)
{
    struct desk desk = open_desk();
    struct kn_chain out = {0};
    int rc;

    while ((rc = interim(desk.request)) == 0)
        cr_assert_lt(kn_chain_len(&desk.request->stream), 2 * KN_STREAM_MOST);
    cr_assert_eq(rc, KINO_AGAIN);
    cr_assert_eq(take_stream(desk.request, &out), KN_STREAM_GOES_ON);
    cr_assert_eq(interim(desk.request), 0);
    cr_assert_eq(begin(desk.request, 0), 0);
    cr_assert_eq(interim(desk.request), KINO_ANSWERED);
    kn_chain_reset(&out, 0);
    close_desk(&desk);
}

/* There is nothing to lend, but a caller that always counts must come out even. */
Test(stream, an_interim_answer_is_done_with_at_once)
{
    struct desk desk = open_desk();
    _Atomic int done = 0;
    struct kino_response response = {
        .size = sizeof(response), .status = 103, .done = count, .done_context = &done};

    cr_assert_eq(kino_request_respond(desk.request, &response), 0);
    cr_assert_eq(atomic_load(&done), 1);
    response.status = 42;
    cr_assert_eq(kino_request_respond(desk.request, &response), KINO_INVALID);
    cr_assert_eq(atomic_load(&done), 1, "still the caller's");
    response.status = 103;
    cr_assert_eq(begin(desk.request, 0), 0);
    cr_assert_eq(kino_request_respond(desk.request, &response), KINO_ANSWERED);
    cr_assert_eq(atomic_load(&done), 2);
    close_desk(&desk);
}

Test(stream, a_body_comes_in_pieces_and_ends)
{
    struct desk desk = open_desk();
    const struct kino_field *fields;
    struct kino_slice piece;

    offer_body(&desk);
    cr_assert_eq(kino_request_body(desk.request, &piece), KINO_AGAIN);
    bring(&desk, "hel");
    bring(&desk, "lo");
    cr_assert(kino_request_state(desk.request) & KINO_STATE_READABLE);
    cr_assert_eq(kino_request_body(desk.request, &piece), 1);
    cr_assert(is(piece, "hello"));
    cr_assert_not(kino_request_state(desk.request) & KINO_STATE_READABLE);
    bring(&desk, " world");
    cr_assert(is(piece, "hello"), "until the next call");
    kn_exchange_end_body(desk.request, KN_BODY_COMPLETE);
    cr_assert_eq(kino_request_body(desk.request, &piece), 1);
    cr_assert(is(piece, " world"));
    cr_assert(kino_request_state(desk.request) & KINO_STATE_READABLE);
    cr_assert_eq(kino_request_body(desk.request, &piece), 0);
    cr_assert_eq(kino_request_body(desk.request, &piece), 0);
    cr_assert_eq(kino_request_trailers(desk.request, &fields), 0);
    cr_assert_eq(told(&desk), 0, "the loop did not ask");
    close_desk(&desk);
}

Test(stream, a_broken_body_is_read_to_where_it_broke)
{
    struct desk desk = open_desk();
    struct kino_slice piece;

    offer_body(&desk);
    bring(&desk, "hel");
    kn_exchange_end_body(desk.request, KN_BODY_BROKEN);
    kn_exchange_end_body(desk.request, KN_BODY_COMPLETE);
    cr_assert_eq(kino_request_body(desk.request, &piece), 1);
    cr_assert_eq(kino_request_body(desk.request, &piece), KINO_GONE);
    close_desk(&desk);
}

Test(stream, a_loop_that_found_it_full_is_told_of_room)
{
    struct desk desk = open_desk();
    char *bytes = kn_alloc_zeroed(PIECE + 1);
    struct kino_slice piece;

    memset(bytes, 'x', PIECE);
    offer_body(&desk);
    while (!kn_exchange_is_full(desk.request))
        bring(&desk, bytes);
    cr_assert_eq(told(&desk), 0);
    cr_assert_eq(kino_request_body(desk.request, &piece), 1);
    cr_assert_geq(piece.len, KN_STREAM_MOST);
    cr_assert_eq(told(&desk), KN_FACT_STREAM);
    cr_assert_eq(kino_request_body(desk.request, &piece), KINO_AGAIN);
    cr_assert_eq(told(&desk), 0, "once");
    kn_free(bytes);
    close_desk(&desk);
}

Test(stream, the_first_read_asks_for_a_body_that_is_held_back)
{
    struct desk desk = open_desk();
    struct kn_chain out = {0};
    struct kino_slice piece;

    offer_body(&desk);
    atomic_fetch_or(&desk.request->state, KN_STATE_EXPECTING);
    for (int i = 0; i < 2; i++)
        cr_assert_eq(kino_request_body(desk.request, &piece), KINO_AGAIN);
    cr_assert_eq(told(&desk), KN_FACT_STREAM);
    cr_assert_eq(take_stream(desk.request, &out), KN_STREAM_GOES_ON);
    cr_assert_eq(kn_chain_len(&out), strlen("HTTP/1.1 100 Continue\r\n\r\n"), "once");
    kn_chain_reset(&out, 0);
    close_desk(&desk);
}

/* A stream's writer and its loop, until the writer gives up. TSan listens. */
static void *write_rounds(void *context)
{
    struct kino_request *request = context;
    static _Atomic int done;

    for (int i = 0; i < ROUNDS; i++)
        if (lend(request, &done) == KINO_AGAIN)
            sched_yield();
    kino_request_finish(request, NULL, 0);
    kino_request_release(request);
    return NULL;
}

/* What a writer lent, and what came back. */
struct loan {
    struct kino_request *request;
    _Atomic int done;
    int lent;
};

static void *lend_until_gone(void *context)
{
    struct loan *loan = context;
    int rc;

    while ((rc = lend(loan->request, &loan->done)) != KINO_GONE)
        loan->lent += rc == 0;
    loan->lent++; /* it took this one, too */
    return NULL;
}

static void *read_rounds(void *context)
{
    struct kino_request *request = context;
    struct kino_slice piece;
    size_t read = 0;
    int rc;

    while ((rc = kino_request_body(request, &piece)) == 1 || rc == KINO_AGAIN) {
        if (rc == 1)
            read += piece.len;
        else
            sched_yield();
    }
    kino_request_release(request);
    return (void *)(rc == 0 ? read : 0);
}

Test(stream, a_writer_and_a_reader_and_the_loop_go_on_side_by_side)
{
    struct desk desk = open_desk();
    struct kn_chain out = {0};
    pthread_t writer;
    pthread_t reader;
    void *read;
    int end = KN_STREAM_GOES_ON;
    int brought = 0;

    offer_body(&desk);
    kino_request_hold(desk.request);
    kino_request_hold(desk.request);
    cr_assert_eq(begin(desk.request, 0), 0);
    cr_assert_eq(pthread_create(&writer, NULL, write_rounds, desk.request), 0);
    cr_assert_eq(pthread_create(&reader, NULL, read_rounds, desk.request), 0);
    while (end == KN_STREAM_GOES_ON || brought < ROUNDS) {
        told(&desk);
        end = take_stream(desk.request, &out);
        kn_chain_reset(&out, SIZE_MAX);
        if (brought < ROUNDS && !kn_exchange_is_full(desk.request)) {
            bring(&desk, "12345");
            if (++brought == ROUNDS)
                kn_exchange_end_body(desk.request, KN_BODY_COMPLETE);
        }
    }
    pthread_join(writer, NULL);
    pthread_join(reader, &read);
    cr_assert_eq(end, KN_STREAM_FINISHED);
    cr_assert_eq((size_t)read, 5 * ROUNDS);
    kn_chain_reset(&out, 0);
    close_desk(&desk);
}

/* The connection goes while the writer is at it: all it lent comes back before it releases. */
Test(stream, a_sever_between_any_two_steps_loses_nothing)
{
    for (int round = 0; round < ROUNDS / 10; round++) {
        struct desk desk = open_desk();
        struct loan loan = {.request = desk.request};
        pthread_t writer;

        cr_assert_eq(begin(desk.request, 0), 0);
        cr_assert_eq(pthread_create(&writer, NULL, lend_until_gone, &loan), 0);
        for (int i = 0; i < round % 8; i++)
            sched_yield();
        kn_exchange_sever(desk.request, KINO_STATE_DISCONNECTED);
        pthread_join(writer, NULL);
        cr_assert_eq(atomic_load(&loan.done), loan.lent);
        close_desk(&desk);
    }
}
