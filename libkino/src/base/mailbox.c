/* SPDX-License-Identifier: MIT */
#include "base/mailbox.h"

#include "base/alloc.h"
#include "base/thread.h"

#include <errno.h>
#include <stddef.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* The head of a closed mailbox. */
static struct kn_mail closed;

int kn_mailbox_create(void *owner, struct kn_mailbox **out)
{
    struct kn_mailbox *mailbox = kn_alloc(sizeof(*mailbox));
    int rc;

    if (!mailbox)
        return -ENOMEM;
    mailbox->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (mailbox->wake_fd < 0) {
        rc = -errno;
        kn_free(mailbox);
        return rc;
    }
    atomic_init(&mailbox->head, NULL);
    atomic_init(&mailbox->state, KN_MAILBOX_AWAKE);
    atomic_init(&mailbox->called, false);
    atomic_init(&mailbox->refs, 1);
    atomic_init(&mailbox->driver, 0);
    mailbox->owner = owner;
    *out = mailbox;
    return 0;
}

void kn_mailbox_hold(struct kn_mailbox *mailbox)
{
    atomic_fetch_add_explicit(&mailbox->refs, 1, memory_order_relaxed);
}

void kn_mailbox_drop(struct kn_mailbox *mailbox)
{
    if (atomic_fetch_sub_explicit(&mailbox->refs, 1, memory_order_acq_rel) > 1)
        return;
    if (mailbox->wake_fd >= 0)
        close(mailbox->wake_fd);
    kn_free(mailbox);
}

static void wake(struct kn_mailbox *mailbox)
{
    int held = errno;

    if (atomic_load(&mailbox->state) == KN_MAILBOX_ASLEEP &&
        atomic_exchange(&mailbox->state, KN_MAILBOX_AWAKE) == KN_MAILBOX_ASLEEP)
        (void)!write(mailbox->wake_fd, &(uint64_t){1}, sizeof(uint64_t));
    errno = held;
}

bool kn_mailbox_post(struct kn_mailbox *mailbox, struct kn_mail *mail)
{
    struct kn_mail *head = atomic_load_explicit(&mailbox->head, memory_order_relaxed);

    do {
        if (head == &closed)
            return false;
        mail->next = head;
    } while (!atomic_compare_exchange_weak(&mailbox->head, &head, mail));
    wake(mailbox);
    return true;
}

void kn_mailbox_call(struct kn_mailbox *mailbox)
{
    atomic_store(&mailbox->called, true);
    wake(mailbox);
}

/* The number can be this thread's only if this thread entered: so the owner is not gone. */
void *kn_mailbox_driven(struct kn_mailbox *mailbox)
{
    return atomic_load_explicit(&mailbox->driver, memory_order_relaxed) == kn_thread_id()
               ? mailbox->owner
               : NULL;
}

bool kn_mailbox_has_driver(struct kn_mailbox *mailbox)
{
    return atomic_load_explicit(&mailbox->driver, memory_order_acquire) != 0;
}

void kn_mailbox_enter(struct kn_mailbox *mailbox)
{
    atomic_store_explicit(&mailbox->driver, kn_thread_id(), memory_order_relaxed);
}

void kn_mailbox_leave(struct kn_mailbox *mailbox)
{
    atomic_store_explicit(&mailbox->driver, 0, memory_order_release);
}

static void deliver_all(struct kn_mail *newest, void *driver)
{
    struct kn_mail *oldest = NULL;

    while (newest) {
        struct kn_mail *next = newest->next;

        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    while (oldest) {
        struct kn_mail *mail = oldest;

        oldest = mail->next; /* before the delivery: afterwards it is its owner's */
        mail->deliver(mail, driver);
    }
}

bool kn_mailbox_empty(const struct kn_mailbox *mailbox)
{
    return !atomic_load_explicit(&mailbox->head, memory_order_relaxed);
}

bool kn_mailbox_deliver(struct kn_mailbox *mailbox, void *driver)
{
    bool called = atomic_load_explicit(&mailbox->called, memory_order_relaxed);

    if (called)
        called = atomic_exchange(&mailbox->called, false);
    if (atomic_load_explicit(&mailbox->head, memory_order_relaxed))
        deliver_all(atomic_exchange_explicit(&mailbox->head, NULL, memory_order_acquire), driver);
    return called;
}

bool kn_mailbox_sleep(struct kn_mailbox *mailbox, enum kn_mailbox_state state)
{
    atomic_store(&mailbox->state, state);
    if (!atomic_load(&mailbox->head) && !atomic_load(&mailbox->called))
        return true;
    kn_mailbox_awake(mailbox);
    return false;
}

void kn_mailbox_ring(struct kn_mailbox *mailbox)
{
    atomic_store(&mailbox->state, KN_MAILBOX_ASLEEP);
    kn_mailbox_call(mailbox);
}

void kn_mailbox_awake(struct kn_mailbox *mailbox)
{
    atomic_store_explicit(&mailbox->state, KN_MAILBOX_AWAKE, memory_order_relaxed);
}

void kn_mailbox_close(struct kn_mailbox *mailbox, void *driver)
{
    deliver_all(atomic_exchange_explicit(&mailbox->head, &closed, memory_order_acquire), driver);
}

void kn_mailbox_forget(struct kn_mailbox *mailbox)
{
    atomic_store(&mailbox->head, &closed);
    atomic_store(&mailbox->state, KN_MAILBOX_AWAKE);
    close(mailbox->wake_fd);
    mailbox->wake_fd = -1;
}
