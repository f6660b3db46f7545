/* SPDX-License-Identifier: MIT */
/* A request's life, and its one answer. Bodies that stream are in stream.c. */
#include "dispatch/exchange.h"

#include "base/abi.h"
#include "base/alloc.h"
#include "base/futex.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

enum {
    STATUS_OF_NO_ANSWER = 500,
    STATUS_SWITCHING = 101,
    STATUS_FINAL = 200,
};

struct kino_request *kn_exchange_create(struct kn_mailbox *home, struct kn_signature *signature,
                                        kn_mail_fn deliver)
{
    struct kino_request *request = kn_alloc_zeroed(sizeof(*request));

    if (!request)
        return NULL;
    kn_mailbox_hold(home);
    kn_signature_hold(signature);
    request->home = home;
    request->signature = signature;
    request->mail.deliver = deliver;
    pthread_mutex_init(&request->mutex, NULL);
    kn_list_init(&request->order);
    kn_list_init(&request->live);
    kn_list_init(&request->queue);
    kn_exchange_reset(request, 0);
    return request;
}

void kn_exchange_destroy(struct kino_request *request)
{
    struct kn_mailbox *home = request->home;

    kn_head_deinit(&request->head);
    kn_head_deinit(&request->trailers);
    kn_buf_deinit(&request->body);
    kn_buf_deinit(&request->arrived);
    kn_buf_deinit(&request->piece);
    kn_chain_reset(&request->out, 0);
    kn_chain_reset(&request->stream, 0);
    pthread_mutex_destroy(&request->mutex);
    kn_signature_drop(request->signature);
    kn_free(request);
    kn_mailbox_drop(home);
}

void kn_exchange_reset(struct kino_request *request, size_t keep)
{
    atomic_store_explicit(&request->facts, 0, memory_order_relaxed);
    atomic_store_explicit(&request->state, KINO_STATE_WRITABLE, memory_order_relaxed);
    atomic_store_explicit(&request->users, 0, memory_order_relaxed);
    atomic_store_explicit(&request->worker_id, 0, memory_order_relaxed);
    atomic_store_explicit(&request->taken_ns, 0, memory_order_relaxed);
    kn_buf_reset(&request->body, keep);
    kn_chain_reset(&request->out, keep);
    kn_chain_reset(&request->stream, 0);
    kn_buf_reset(&request->arrived, 0);
    kn_buf_reset(&request->piece, 0);
    request->cut = false;
    request->interims = 0;
    request->body_bytes = 0;
    request->handed = 0;
    request->blocked = false;
    request->untold = 0;
    request->body_state = KN_BODY_COMING;
    request->piece_given = false;
    request->failure = 0;
    request->conn = NULL;
    request->due_ms = UINT64_MAX;
    request->dispatched = false;
    request->streams = false;
    request->answered = false;
    request->counted = false;
    request->taken = false;
    request->released = false;
}

/* End the waits of those who saw `state`. */
static void wake_sleepers(struct kino_request *request, uint32_t state)
{
    if (state & KN_STATE_DRIVING)
        kn_mailbox_call(request->home); /* or this very turn would go to sleep */
    if (!(state & KN_STATE_SLEEPING))
        return;
    atomic_fetch_and(&request->state, ~(uint32_t)KN_STATE_SLEEPING);
    kn_futex_wake(&request->state, INT_MAX);
}

void kn_exchange_tell(struct kino_request *request, uint32_t bits)
{
    const uint32_t state = atomic_fetch_or(&request->state, bits);

    if (bits & ~state)
        wake_sleepers(request, state);
}

/* Claim, and say with it what kind of answer it is. */
static bool claim(struct kino_request *request, uint32_t bits)
{
    uint32_t state = atomic_load_explicit(&request->state, memory_order_acquire);

    do {
        if (state & KINO_STATE_ANSWERED)
            return false;
    } while (
        !atomic_compare_exchange_weak(&request->state, &state, state | KINO_STATE_ANSWERED | bits));
    wake_sleepers(request, state);
    return true;
}

bool kn_exchange_claim(struct kino_request *request)
{
    return claim(request, 0);
}

void kn_exchange_post(struct kino_request *request, uint32_t facts)
{
    if (atomic_fetch_or(&request->facts, facts | KN_FACT_POSTED) & KN_FACT_POSTED)
        return; /* the loop will see these facts with that mail, and may free the request at once */
    if (kn_mailbox_post(request->home, &request->mail))
        return;
    /* Its loop has ended: the last fact matters to nobody but the memory. */
    if (atomic_exchange(&request->facts, 0) & KN_FACT_RELEASED)
        kn_exchange_destroy(request);
}

/* Answering */

static int answer_interim(struct kino_request *request, const struct kino_response *response,
                          uint32_t *facts)
{
    int rc;

    if (response->flags || response->body.len > 0)
        return KINO_INVALID;
    if (atomic_load(&request->state) & KINO_STATE_ANSWERED)
        return KINO_ANSWERED;
    kn_chain_reset(&request->out, SIZE_MAX);
    rc = kn_response_write_interim(&request->out, response);
    if (rc < 0 || request->framing.version == KINO_HTTP_1_0)
        return rc; /* RFC 9110 15.2: HTTP/1.0 knows none */
    rc = kn_exchange_add_stream(request, true);
    if (rc == 0)
        *facts |= KN_FACT_STREAM;
    return rc;
}

static int answer_final(struct kino_request *request, const struct kino_response *response,
                        const struct kn_payload *payload, uint32_t *facts)
{
    const uint32_t state = atomic_load_explicit(&request->state, memory_order_acquire);
    const bool is_raw = response->status == STATUS_SWITCHING;
    const bool is_stream = is_raw || (response->flags & KINO_BODY_STREAM);
    struct kn_framing framing = request->framing;
    int rc;

    if (state & KINO_STATE_ANSWERED) {
        kn_payload_return(payload);
        return KINO_ANSWERED;
    }
    if (state & KINO_STATE_DRAINING)
        framing.keep_alive = false;
    if (!is_stream && (state & KN_STATE_BODY_OPEN))
        framing.keep_alive = false; /* nobody will read the rest */
    /* One thread at a time answers for the users, and `out` is theirs until the loop learns that
     * they won: so it can be written before the claim, and a refused answer claims nothing. */
    kn_chain_reset(&request->out, SIZE_MAX);
    rc = kn_response_write(&request->out, response, payload, &framing);
    if (rc < 0)
        return rc;
    if (!claim(request, (is_stream ? KN_STATE_STREAMING : 0) | (is_raw ? KN_STATE_RAW : 0))) {
        kn_chain_reset(&request->out, SIZE_MAX);
        return KINO_ANSWERED;
    }
    if (is_raw) /* its whole body was; raw bytes come after the loop has learned of this */
        atomic_fetch_and(&request->state, ~(uint32_t)KINO_STATE_READABLE);
    request->framing = framing;
    *facts |= KN_FACT_ANSWERED;
    if (!is_stream)
        return 0;
    *facts |= KN_FACT_STREAM;
    return kn_exchange_add_stream(request, false);
}

bool kn_exchange_is_interim(const struct kino_response *response)
{
    return response->status < STATUS_FINAL && response->status != STATUS_SWITCHING;
}

int kn_exchange_answer(struct kino_request *request, const struct kino_response *response,
                       uint32_t *facts)
{
    struct kino_response known;
    struct kn_payload payload;
    int rc;

    if (response->size != sizeof(known)) {
        rc = kn_abi_read(&known, sizeof(known), response);
        if (rc < 0)
            return rc;
        response = &known;
    }
    rc = kn_payload_of_response(response, &payload);
    if (rc < 0)
        return rc;
    if (!kn_exchange_is_interim(response))
        return answer_final(request, response, &payload, facts);
    rc = answer_interim(request, response, facts);
    if (rc != KINO_INVALID && rc != KINO_AGAIN)
        kn_payload_return(&payload); /* which is empty */
    return rc;
}

uint32_t kn_exchange_drop(struct kino_request *request)
{
    uint32_t state;

    if (atomic_fetch_sub_explicit(&request->users, 1, memory_order_acq_rel) > 1)
        return 0;
    if (kn_exchange_claim(request)) {
        request->failure = STATUS_OF_NO_ANSWER;
        return KN_FACT_ANSWERED | KN_FACT_RELEASED;
    }
    state = atomic_load_explicit(&request->state, memory_order_relaxed);
    if ((state & KN_STATE_STREAMING) && !(state & KN_STATE_FINISHED))
        return KN_FACT_ABORTED | KN_FACT_RELEASED;
    return KN_FACT_RELEASED;
}

const struct kino_head *kino_request_head(const struct kino_request *request)
{
    return &request->head.view;
}

struct kino_slice kino_request_field(const struct kino_request *request, const char *name)
{
    const struct kino_head *head = &request->head.view;
    const size_t len = strlen(name);

    for (uint64_t i = 0; i < head->field_count; i++) {
        const struct kino_field *field = &head->fields[i];

        if (field->name.len == len && memcmp(field->name.data, name, len) == 0)
            return field->value;
    }
    return (struct kino_slice){0};
}

int kino_request_state(const struct kino_request *request)
{
    return (int)(atomic_load_explicit(&request->state, memory_order_acquire) & KN_STATE_PUBLIC);
}

int kino_request_respond(struct kino_request *request, const struct kino_response *response)
{
    uint32_t facts = 0;
    int rc = kn_exchange_answer(request, response, &facts);
    const bool may_wait = rc == 0 && (facts & KN_FACT_STREAM) &&
                          (response->flags & KINO_BODY_MORE) && !kn_exchange_is_stuffed(request);

    if (may_wait)
        request->untold = facts;
    else if (facts)
        kn_exchange_post(request, facts);
    return rc;
}

int kino_request_abort(struct kino_request *request)
{
    if (!kn_exchange_claim(request)) {
        const uint32_t state = atomic_load(&request->state);

        if (!(state & KN_STATE_STREAMING) || (state & KN_STATE_FINISHED))
            return KINO_ANSWERED;
    }
    kn_exchange_post(request, KN_FACT_ABORTED);
    return 0;
}

int kino_request_detach(struct kino_request *request)
{
    atomic_store_explicit(&request->worker_id, 0, memory_order_relaxed);
    return 0;
}

struct kino_request *kino_request_hold(struct kino_request *request)
{
    atomic_fetch_add_explicit(&request->users, 1, memory_order_relaxed);
    return request;
}

void kino_request_release(struct kino_request *request)
{
    struct kn_mailbox *home;
    uint32_t facts;

    if (!request)
        return;
    /* Once released the request may be gone, and with it the last reference to the mailbox that is
     * still to be woken. */
    home = request->home;
    kn_mailbox_hold(home);
    facts = kn_exchange_drop(request);
    if (facts)
        kn_exchange_post(request, facts);
    kn_mailbox_drop(home);
}
