/* SPDX-License-Identifier: MIT */
#include "dispatch/exchange.h"

#include "base/abi.h"
#include "base/alloc.h"

#include <string.h>

enum {
    STATUS_OF_NO_ANSWER = 500,
};

struct kino_request *kn_exchange_create(struct kn_mailbox *home, kn_mail_fn deliver)
{
    struct kino_request *request = kn_alloc_zeroed(sizeof(*request));

    if (!request)
        return NULL;
    kn_mailbox_hold(home);
    request->home = home;
    request->mail.deliver = deliver;
    kn_list_init(&request->order);
    kn_list_init(&request->live);
    kn_list_init(&request->queue);
    return request;
}

void kn_exchange_destroy(struct kino_request *request)
{
    struct kn_mailbox *home = request->home;

    kn_head_deinit(&request->head);
    kn_buf_deinit(&request->body);
    kn_buf_deinit(&request->out);
    kn_free(request);
    kn_mailbox_drop(home);
}

void kn_exchange_reset(struct kino_request *request, size_t keep)
{
    atomic_store_explicit(&request->facts, 0, memory_order_relaxed);
    atomic_store_explicit(&request->state, 0, memory_order_relaxed);
    atomic_store_explicit(&request->users, 0, memory_order_relaxed);
    atomic_store_explicit(&request->worker_id, 0, memory_order_relaxed);
    kn_buf_reset(&request->body, keep);
    kn_buf_reset(&request->out, keep);
    request->failure = 0;
    request->conn = NULL;
    request->dispatched = false;
    request->answered = false;
    request->taken = false;
    request->released = false;
}

bool kn_exchange_claim(struct kino_request *request)
{
    return !(atomic_fetch_or(&request->state, KINO_STATE_ANSWERED) & KINO_STATE_ANSWERED);
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

int kn_exchange_answer(struct kino_request *request, const struct kino_response *response)
{
    struct kn_framing framing = request->framing;
    const uint32_t state = atomic_load_explicit(&request->state, memory_order_acquire);
    struct kino_response known;
    int rc;

    if (response->size != sizeof(known)) {
        rc = kn_abi_read(&known, sizeof(known), response);
        if (rc < 0)
            return rc;
        response = &known;
    }
    if (state & KINO_STATE_ANSWERED)
        return KINO_ANSWERED;
    if (state & KINO_STATE_DRAINING)
        framing.keep_alive = false;
    /* One thread at a time answers for the users, and `out` is theirs until the loop learns that
     * they won: so it can be written before the claim, and a refused answer claims nothing. */
    request->out.len = 0;
    rc = kn_response_write(&request->out, response, &framing);
    if (rc < 0)
        return rc;
    if (!kn_exchange_claim(request))
        return KINO_ANSWERED;
    request->framing.keep_alive = framing.keep_alive;
    return 0;
}

uint32_t kn_exchange_drop(struct kino_request *request)
{
    if (atomic_fetch_sub_explicit(&request->users, 1, memory_order_acq_rel) > 1)
        return 0;
    if (!kn_exchange_claim(request))
        return KN_FACT_RELEASED;
    request->failure = STATUS_OF_NO_ANSWER;
    return KN_FACT_ANSWERED | KN_FACT_RELEASED;
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
    return (int)atomic_load_explicit(&request->state, memory_order_acquire);
}

int kino_request_respond(struct kino_request *request, const struct kino_response *response)
{
    int rc = kn_exchange_answer(request, response);

    if (rc == 0)
        kn_exchange_post(request, KN_FACT_ANSWERED);
    return rc;
}

int kino_request_abort(struct kino_request *request)
{
    if (!kn_exchange_claim(request))
        return KINO_ANSWERED;
    kn_exchange_post(request, KN_FACT_ABORTED);
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
