/* SPDX-License-Identifier: MIT */
/* Bodies that come and go while a request is handled. Nothing of the caller's is called under the
 * mutex: its `done` may take locks that it holds when it calls us. */
#include "base/abi.h"
#include "dispatch/exchange.h"

#include <errno.h>

/* Users */

int kn_exchange_add_stream(struct kino_request *request, bool is_interim)
{
    struct kn_chain unsent = {0};
    int rc = 0;

    pthread_mutex_lock(&request->mutex);
    if (is_interim && (atomic_load(&request->state) & KINO_STATE_ANSWERED))
        rc = KINO_ANSWERED;
    else if (is_interim && kn_chain_len(&request->stream) >= KN_STREAM_MOST)
        rc = KINO_AGAIN;
    else
        rc = kn_chain_move(&request->stream, &request->out);
    request->interims += is_interim && rc == 0;
    if (!is_interim && rc == 0)
        request->body_bytes = request->framing.sent;
    if (rc == -ENOMEM && !is_interim) {
        request->cut = true;
        atomic_fetch_or(&request->state, KN_STATE_FINISHED);
    }
    if (atomic_load(&request->state) & KINO_STATE_DISCONNECTED)
        kn_chain_swap(&unsent, &request->stream); /* it was severed a moment ago */
    if (kn_chain_len(&request->stream) >= KN_STREAM_MOST)
        atomic_fetch_and(&request->state, ~(uint32_t)KINO_STATE_WRITABLE);
    pthread_mutex_unlock(&request->mutex);
    kn_chain_reset(&unsent, 0);
    kn_chain_reset(&request->out, SIZE_MAX);
    return rc;
}

bool kn_exchange_is_stuffed(const struct kino_request *request)
{
    return !(atomic_load_explicit(&request->state, memory_order_relaxed) & KINO_STATE_WRITABLE);
}

/* The stream's bytes are written. */
static void tell_loop(struct kino_request *request)
{
    const uint32_t untold = request->untold;

    request->untold = 0;
    kn_exchange_post(request, KN_FACT_STREAM | untold);
}

/* May its stream go on? 0, KINO_ANSWERED or KINO_INVALID. */
static int judge_stream(uint32_t state)
{
    if (!(state & KN_STATE_STREAMING))
        return state & KINO_STATE_ANSWERED ? KINO_ANSWERED : KINO_INVALID;
    return state & KN_STATE_FINISHED ? KINO_INVALID : 0;
}

static void cut_stream(struct kino_request *request)
{
    pthread_mutex_lock(&request->mutex);
    request->cut = true;
    atomic_fetch_or(&request->state, KN_STATE_FINISHED);
    pthread_mutex_unlock(&request->mutex);
    tell_loop(request);
}

int kino_request_write(struct kino_request *request, const struct kino_piece *piece)
{
    const uint32_t state = atomic_load_explicit(&request->state, memory_order_acquire);
    struct kino_piece known;
    struct kn_payload payload;
    int rc = kn_abi_read(&known, sizeof(known), piece);

    if (rc == 0)
        rc = kn_payload_of_piece(&known, &payload);
    if (rc < 0)
        return rc;
    rc = judge_stream(state);
    if (rc == 0 && (state & KINO_STATE_DISCONNECTED))
        rc = KINO_GONE;
    if (rc == 0 && !(state & KINO_STATE_WRITABLE))
        return KINO_AGAIN;
    if (rc < 0) {
        if (rc != KINO_INVALID)
            kn_payload_return(&payload);
        return rc;
    }
    kn_chain_reset(&request->out, SIZE_MAX);
    rc = kn_response_write_body(&request->out, &payload, &request->framing);
    if (rc == 0)
        rc = kn_exchange_add_stream(request, false);
    if (rc < 0)
        cut_stream(request);
    else if (!(known.flags & KINO_BODY_MORE) || kn_exchange_is_stuffed(request))
        tell_loop(request);
    return rc;
}

int kino_request_finish(struct kino_request *request, const struct kino_field *trailers,
                        uint64_t trailer_count)
{
    int rc = judge_stream(atomic_load_explicit(&request->state, memory_order_acquire));

    if (rc < 0)
        return rc;
    kn_chain_reset(&request->out, SIZE_MAX);
    rc = kn_response_finish(&request->out, trailers, trailer_count, &request->framing);
    if (rc == KINO_INVALID)
        return rc;
    pthread_mutex_lock(&request->mutex);
    if (rc == 0)
        rc = kn_chain_move(&request->stream, &request->out);
    if (rc < 0 || (request->framing.coding == KN_CODING_LENGTH && request->framing.left > 0))
        request->cut = true;
    atomic_fetch_or(&request->state, KN_STATE_FINISHED);
    pthread_mutex_unlock(&request->mutex);
    tell_loop(request);
    return rc;
}

/* RFC 9110 10.1.1: the client has been waiting for this. 0, or -ENOMEM: then it still is. */
static int ask_for_body(struct kino_request *request)
{
    int rc = 0;

    pthread_mutex_lock(&request->mutex);
    if (!(atomic_load(&request->state) & KINO_STATE_ANSWERED)) {
        rc = kn_response_write_continue(&request->stream);
        request->interims += rc == 0;
    }
    pthread_mutex_unlock(&request->mutex);
    if (rc < 0)
        return rc;
    atomic_fetch_and(&request->state, ~(uint32_t)KN_STATE_EXPECTING);
    kn_exchange_post(request, KN_FACT_STREAM); /* from now on the client may be late */
    return 0;
}

static int read_whole(struct kino_request *request, struct kino_slice *piece)
{
    const struct kino_slice body = request->head.view.body;

    if (request->piece_given || body.len == 0)
        return 0;
    request->piece_given = true;
    *piece = body;
    return 1;
}

int kino_request_body(struct kino_request *request, struct kino_slice *piece)
{
    const uint32_t state = atomic_load_explicit(&request->state, memory_order_acquire);
    bool room = false;
    int rc = 0;

    if ((request->head.view.flags & KINO_HEAD_BODY_WHOLE) && !(state & KN_STATE_RAW))
        return read_whole(request, piece);
    if (state & KN_STATE_EXPECTING)
        rc = ask_for_body(request);
    if (rc < 0)
        return rc;
    kn_buf_reset(&request->piece, KN_STREAM_MOST);
    pthread_mutex_lock(&request->mutex);
    if (request->arrived.len > 0) {
        kn_buf_swap(&request->piece, &request->arrived);
        *piece = (struct kino_slice){request->piece.data, request->piece.len};
        room = request->blocked;
        request->blocked = false;
        rc = 1;
    } else if (request->body_state == KN_BODY_COMING) {
        rc = KINO_AGAIN;
    } else {
        rc = request->body_state == KN_BODY_COMPLETE ? 0 : KINO_GONE;
    }
    if (request->body_state == KN_BODY_COMING)
        atomic_fetch_and(&request->state, ~(uint32_t)KINO_STATE_READABLE);
    pthread_mutex_unlock(&request->mutex);
    if (room)
        kn_exchange_post(request, KN_FACT_STREAM);
    return rc;
}

int kino_request_trailers(const struct kino_request *request, const struct kino_field **fields)
{
    const uint32_t state = atomic_load_explicit(&request->state, memory_order_acquire);

    if (!(request->head.view.flags & KINO_HEAD_BODY_WHOLE) && (state & KN_STATE_BODY_OPEN))
        return KINO_AGAIN;
    *fields = request->trailers.view.fields;
    return (int)request->trailers.view.field_count;
}

int kino_request_interrupt(struct kino_request *request)
{
    const int held = errno;

    kn_exchange_tell(request, KN_STATE_INTERRUPTED);
    errno = held;
    return 0;
}

/* The loop */

int kn_exchange_deliver(struct kino_request *request, struct kn_buf *body)
{
    int rc = 0;

    if (body->len == 0)
        return 0;
    pthread_mutex_lock(&request->mutex);
    if (request->arrived.len == 0)
        kn_buf_swap(&request->arrived, body);
    else
        rc = kn_buf_append(&request->arrived, body->data, body->len);
    kn_exchange_tell(request, KINO_STATE_READABLE);
    pthread_mutex_unlock(&request->mutex);
    body->len = 0;
    return rc;
}

void kn_exchange_end_body(struct kino_request *request, enum kn_body_state how)
{
    pthread_mutex_lock(&request->mutex);
    if (request->body_state == KN_BODY_COMING)
        request->body_state = how;
    if (how == KN_BODY_COMPLETE)
        atomic_fetch_and(&request->state, ~(uint32_t)KN_STATE_BODY_OPEN);
    kn_exchange_tell(request, KINO_STATE_READABLE);
    pthread_mutex_unlock(&request->mutex);
}

bool kn_exchange_is_full(struct kino_request *request)
{
    bool full;

    pthread_mutex_lock(&request->mutex);
    full = request->arrived.len >= KN_STREAM_MOST;
    request->blocked = full;
    pthread_mutex_unlock(&request->mutex);
    return full;
}

int kn_exchange_take_stream(struct kino_request *request, struct kn_chain *out, unsigned *interims)
{
    enum kn_stream_end end = KN_STREAM_GOES_ON;
    int rc;

    pthread_mutex_lock(&request->mutex);
    rc = kn_chain_move(out, &request->stream);
    *interims = request->interims;
    request->interims = 0;
    request->handed = request->body_bytes;
    if (request->cut)
        end = KN_STREAM_CUT;
    else if (atomic_load(&request->state) & KN_STATE_FINISHED)
        end = KN_STREAM_FINISHED;
    kn_exchange_tell(request, KINO_STATE_WRITABLE);
    pthread_mutex_unlock(&request->mutex);
    return rc < 0 ? rc : (int)end;
}

void kn_exchange_sever(struct kino_request *request, uint32_t state)
{
    struct kn_chain unsent = {0};

    pthread_mutex_lock(&request->mutex);
    kn_chain_swap(&unsent, &request->stream);
    if (request->body_state == KN_BODY_COMING)
        request->body_state = KN_BODY_BROKEN;
    kn_exchange_tell(request, state | KINO_STATE_READABLE | KINO_STATE_WRITABLE);
    pthread_mutex_unlock(&request->mutex);
    kn_chain_reset(&unsent, 0);
    kn_exchange_discard(request);
}

void kn_exchange_discard(struct kino_request *request)
{
    const uint32_t state = atomic_load_explicit(&request->state, memory_order_relaxed);

    if (request->answered && !request->failure && !(state & KN_STATE_STREAMING))
        kn_chain_reset(&request->out, SIZE_MAX);
}
