/* SPDX-License-Identifier: MIT */
#ifndef KN_BASE_MAILBOX_H
#define KN_BASE_MAILBOX_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct kn_mail;
/* Called by the driver. The mail belongs to its owner again, and may be posted anew or freed. */
typedef void (*kn_mail_fn)(struct kn_mail *mail, void *driver);

/* Embedded in what is sent. In at most one mailbox at a time: the sender sees to that. */
struct kn_mail {
    struct kn_mail *next; /* written by the sender before the push, read by the driver after it */
    kn_mail_fn deliver;
};

enum kn_mailbox_state {
    KN_MAILBOX_AWAKE,
    KN_MAILBOX_NAPPING, /* wakes by itself within microseconds: nobody needs to */
    KN_MAILBOX_ASLEEP,
};

/* What threads hand to the driver of a loop. Shared and counted: one reference for the loop, one
 * for whatever may post to it. */
struct kn_mailbox {
    _Atomic(struct kn_mail *) head; /* a stack; release on push, acquire on take */
    _Atomic uint32_t state;         /* seq_cst against head: see kn_mailbox_sleep */
    _Atomic bool called;            /* the driver shall look around; likewise */
    _Atomic uint32_t refs;          /* release on drop, acquire on the last one */
    int wake_fd;                    /* an eventfd; constant */
    void *owner;                    /* what the driver drives; constant */
    _Atomic int driver;             /* the driver's thread, by kn_thread_id; 0: none, released */
};

/* Owned by the caller: one reference. `owner` is what kn_mailbox_driven gives. 0, or -errno of
 * eventfd, or -ENOMEM. */
int kn_mailbox_create(void *owner, struct kn_mailbox **out);
void kn_mailbox_hold(struct kn_mailbox *mailbox);
void kn_mailbox_drop(struct kn_mailbox *mailbox);

/* Any thread with a reference; async-signal-safe. False: closed, and the mail is the caller's. */
bool kn_mailbox_post(struct kn_mailbox *mailbox, struct kn_mail *mail);

/* Make the driver look around though there is no mail. As kn_mailbox_post. */
void kn_mailbox_call(struct kn_mailbox *mailbox);

/* What the calling thread drives here, or NULL: it is not the driver. */
void *kn_mailbox_driven(struct kn_mailbox *mailbox);

/* Has a thread entered, and not left? */
bool kn_mailbox_has_driver(struct kn_mailbox *mailbox);

/* Driver only from here on. */

/* The calling thread becomes the driver; or nobody is it any more. */
void kn_mailbox_enter(struct kn_mailbox *mailbox);
void kn_mailbox_leave(struct kn_mailbox *mailbox);
/* Is there no mail? */
bool kn_mailbox_empty(const struct kn_mailbox *mailbox);

/* Deliver what was there, oldest first. True: the driver was called. It must then look around, and
 * must not sleep before it has. */
bool kn_mailbox_deliver(struct kn_mailbox *mailbox, void *driver);

/* Wake the driver that is about to leave: what it polls is readable. */
void kn_mailbox_ring(struct kn_mailbox *mailbox);

/* Say that the driver is about to block. False: there is mail or a call; do not. */
bool kn_mailbox_sleep(struct kn_mailbox *mailbox, enum kn_mailbox_state state);
void kn_mailbox_awake(struct kn_mailbox *mailbox);

/* Deliver what is there and refuse all later posts. */
void kn_mailbox_close(struct kn_mailbox *mailbox, void *driver);
/* In a child of the process: refuse all posts and wake nobody, whatever is there. */
void kn_mailbox_forget(struct kn_mailbox *mailbox);

#endif
