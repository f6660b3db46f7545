/* SPDX-License-Identifier: MIT */
#include "base/mailbox.h"

#include "base/list.h"

#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "support/test.h"

enum {
    POSTERS = 4,
    ROUNDS = 20000,
    DEADLINE_MS = 20000, /* of a wake that never comes */
};

struct letter {
    struct kn_mail mail;
    int sender;
    int number;
};

/* What the driver has seen. */
struct driver {
    struct kn_mailbox *mailbox;
    int delivered;
    int next[POSTERS];
    bool out_of_order;
    struct letter *posts_again;
};

static void deliver(struct kn_mail *mail, void *context)
{
    struct letter *letter = kn_container_of(mail, struct letter, mail);
    struct driver *driver = context;

    driver->delivered++;
    if (letter->number != driver->next[letter->sender]++)
        driver->out_of_order = true;
    if (letter == driver->posts_again) {
        driver->posts_again = NULL;
        letter->number++;
        kn_mailbox_post(driver->mailbox, mail);
    }
}

static struct letter letter_of(int sender, int number)
{
    return (struct letter){.mail.deliver = deliver, .sender = sender, .number = number};
}

static struct driver open_driver(void)
{
    struct driver driver = {0};

    cr_assert_eq(kn_mailbox_create(NULL, &driver.mailbox), 0);
    return driver;
}

static bool is_readable(int fd, int timeout_ms)
{
    return poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, timeout_ms) == 1;
}

static uint64_t read_wakes(const struct driver *driver)
{
    uint64_t wakes = 0;

    if (read(driver->mailbox->wake_fd, &wakes, sizeof(wakes)) != sizeof(wakes))
        return 0;
    return wakes;
}

Test(mailbox, delivers_oldest_first_and_only_once)
{
    struct driver driver = open_driver();
    struct letter letters[3];

    for (int i = 0; i < 3; i++) {
        letters[i] = letter_of(0, i);
        cr_assert(kn_mailbox_post(driver.mailbox, &letters[i].mail));
    }
    cr_assert_not(kn_mailbox_deliver(driver.mailbox, &driver), "mail is no call");
    cr_assert_eq(driver.delivered, 3);
    cr_assert_not(driver.out_of_order);
    kn_mailbox_deliver(driver.mailbox, &driver);
    cr_assert_eq(driver.delivered, 3);
    kn_mailbox_drop(driver.mailbox);
}

Test(mailbox, is_empty_until_there_is_mail_and_after_it_is_delivered)
{
    struct driver driver = open_driver();
    struct letter letter = letter_of(0, 0);

    cr_assert(kn_mailbox_empty(driver.mailbox));
    kn_mailbox_call(driver.mailbox);
    cr_assert(kn_mailbox_empty(driver.mailbox), "a call is no mail");
    cr_assert(kn_mailbox_post(driver.mailbox, &letter.mail));
    cr_assert_not(kn_mailbox_empty(driver.mailbox));
    kn_mailbox_deliver(driver.mailbox, &driver);
    cr_assert(kn_mailbox_empty(driver.mailbox));
    kn_mailbox_drop(driver.mailbox);
}

Test(mailbox, mail_may_be_posted_anew_while_it_is_delivered)
{
    struct driver driver = open_driver();
    struct letter letter = letter_of(0, 0);

    driver.posts_again = &letter;
    kn_mailbox_post(driver.mailbox, &letter.mail);
    kn_mailbox_deliver(driver.mailbox, &driver);
    cr_assert_eq(driver.delivered, 1);
    cr_assert_not(kn_mailbox_sleep(driver.mailbox, KN_MAILBOX_ASLEEP));
    kn_mailbox_deliver(driver.mailbox, &driver);
    cr_assert_eq(driver.delivered, 2);
    cr_assert_not(driver.out_of_order);
    kn_mailbox_drop(driver.mailbox);
}

Test(mailbox, refuses_sleep_while_there_is_mail_or_a_call)
{
    struct driver driver = open_driver();
    struct letter letter = letter_of(0, 0);

    cr_assert(kn_mailbox_sleep(driver.mailbox, KN_MAILBOX_ASLEEP));
    kn_mailbox_awake(driver.mailbox);
    kn_mailbox_post(driver.mailbox, &letter.mail);
    cr_assert_not(kn_mailbox_sleep(driver.mailbox, KN_MAILBOX_ASLEEP));
    cr_assert_not(kn_mailbox_sleep(driver.mailbox, KN_MAILBOX_NAPPING));
    kn_mailbox_deliver(driver.mailbox, &driver);
    kn_mailbox_call(driver.mailbox);
    cr_assert_not(kn_mailbox_sleep(driver.mailbox, KN_MAILBOX_ASLEEP));
    cr_assert(kn_mailbox_deliver(driver.mailbox, &driver), "the call was seen");
    cr_assert_not(kn_mailbox_deliver(driver.mailbox, &driver), "and only once");
    cr_assert(kn_mailbox_sleep(driver.mailbox, KN_MAILBOX_ASLEEP));
    cr_assert_eq(read_wakes(&driver), 0, "an awake driver is not woken");
    kn_mailbox_drop(driver.mailbox);
}

Test(mailbox, a_sleep_costs_one_wake_however_many_post)
{
    struct driver driver = open_driver();
    struct letter letters[2] = {letter_of(0, 0), letter_of(0, 1)};

    cr_assert(kn_mailbox_sleep(driver.mailbox, KN_MAILBOX_ASLEEP));
    kn_mailbox_post(driver.mailbox, &letters[0].mail);
    kn_mailbox_post(driver.mailbox, &letters[1].mail);
    kn_mailbox_call(driver.mailbox);
    cr_assert_eq(read_wakes(&driver), 1);
    kn_mailbox_deliver(driver.mailbox, &driver);
    kn_mailbox_drop(driver.mailbox);
}

Test(mailbox, a_nap_is_not_disturbed)
{
    struct driver driver = open_driver();
    struct letter letter = letter_of(0, 0);

    cr_assert(kn_mailbox_sleep(driver.mailbox, KN_MAILBOX_NAPPING));
    kn_mailbox_post(driver.mailbox, &letter.mail);
    kn_mailbox_call(driver.mailbox);
    cr_assert_eq(read_wakes(&driver), 0);
    kn_mailbox_awake(driver.mailbox);
    kn_mailbox_deliver(driver.mailbox, &driver);
    cr_assert_eq(driver.delivered, 1);
    kn_mailbox_drop(driver.mailbox);
}

struct poster {
    struct kn_mailbox *mailbox;
    int sender;
    struct letter *letters;
    pthread_t thread;
};

static void *post_all(void *context)
{
    struct poster *poster = context;

    for (int i = 0; i < ROUNDS; i++) {
        poster->letters[i] = letter_of(poster->sender, i);
        kn_mailbox_post(poster->mailbox, &poster->letters[i].mail);
    }
    kn_mailbox_drop(poster->mailbox);
    return NULL;
}

Test(mailbox, no_letter_of_many_senders_is_lost_and_each_sender_s_keep_their_order)
{
    struct driver driver = open_driver();
    struct poster posters[POSTERS];

    for (int i = 0; i < POSTERS; i++) {
        posters[i] = (struct poster){
            .mailbox = driver.mailbox,
            .sender = i,
            .letters = malloc(ROUNDS * sizeof(struct letter)),
        };
        kn_mailbox_hold(driver.mailbox);
        cr_assert_eq(pthread_create(&posters[i].thread, NULL, post_all, &posters[i]), 0);
    }
    while (driver.delivered < POSTERS * ROUNDS) {
        kn_mailbox_deliver(driver.mailbox, &driver);
        if (driver.delivered == POSTERS * ROUNDS ||
            !kn_mailbox_sleep(driver.mailbox, KN_MAILBOX_ASLEEP))
            continue;
        cr_assert(is_readable(driver.mailbox->wake_fd, DEADLINE_MS), "a wake was lost after %d",
                  driver.delivered);
        kn_mailbox_awake(driver.mailbox);
        read_wakes(&driver);
    }
    cr_assert_not(driver.out_of_order);
    for (int i = 0; i < POSTERS; i++) {
        pthread_join(posters[i].thread, NULL);
        free(posters[i].letters);
    }
    kn_mailbox_drop(driver.mailbox);
}

/* Ping-pong, so that almost every post and call meets a driver that is just going to sleep. */
struct partner {
    struct kn_mailbox *mailbox;
    struct letter letter;
    _Atomic int turn; /* even: the partner's */
    pthread_t thread;
};

static void deliver_to_partner(struct kn_mail *mail, void *context)
{
    (void)mail;
    (*(int *)context)++;
}

static void *play(void *context)
{
    struct partner *partner = context;

    for (int i = 0; i < ROUNDS; i++) {
        while (atomic_load(&partner->turn) != 2 * i)
            sched_yield();
        atomic_store(&partner->turn, 2 * i + 1);
        if (i % 2 == 0)
            kn_mailbox_post(partner->mailbox, &partner->letter.mail);
        else
            kn_mailbox_call(partner->mailbox);
    }
    return NULL;
}

Test(mailbox, neither_a_post_nor_a_call_is_lost_by_who_goes_to_sleep)
{
    struct partner partner = {.letter.mail.deliver = deliver_to_partner};
    int seen = 0;

    cr_assert_eq(kn_mailbox_create(NULL, &partner.mailbox), 0);
    cr_assert_eq(pthread_create(&partner.thread, NULL, play, &partner), 0);
    for (int i = 0; i < ROUNDS; i++) {
        while (seen == i) {
            if (kn_mailbox_deliver(partner.mailbox, &seen))
                seen++;
            if (seen > i || !kn_mailbox_sleep(partner.mailbox, KN_MAILBOX_ASLEEP))
                continue;
            cr_assert(is_readable(partner.mailbox->wake_fd, DEADLINE_MS), "lost in round %d", i);
            kn_mailbox_awake(partner.mailbox);
            cr_assert_eq(read(partner.mailbox->wake_fd, &(uint64_t){0}, sizeof(uint64_t)), 8);
        }
        cr_assert_eq(seen, i + 1);
        atomic_store(&partner.turn, 2 * i + 2);
    }
    pthread_join(partner.thread, NULL);
    kn_mailbox_drop(partner.mailbox);
}

Test(mailbox, closed_delivers_what_is_there_and_refuses_the_rest)
{
    struct driver driver = open_driver();
    struct letter letters[3] = {letter_of(0, 0), letter_of(0, 1), letter_of(0, 2)};

    kn_mailbox_hold(driver.mailbox); /* as one who may still post */
    kn_mailbox_post(driver.mailbox, &letters[0].mail);
    kn_mailbox_post(driver.mailbox, &letters[1].mail);
    kn_mailbox_close(driver.mailbox, &driver);
    cr_assert_eq(driver.delivered, 2);
    kn_mailbox_drop(driver.mailbox);
    cr_assert_not(kn_mailbox_post(driver.mailbox, &letters[2].mail));
    kn_mailbox_call(driver.mailbox);
    cr_assert_eq(driver.delivered, 2);
    kn_mailbox_drop(driver.mailbox);
}

Test(mailbox, forgotten_delivers_nothing_and_wakes_nobody)
{
    struct driver driver = open_driver();
    struct letter letters[2] = {letter_of(0, 0), letter_of(0, 1)};
    int wake_fd = dup(driver.mailbox->wake_fd); /* the parent's */

    kn_mailbox_sleep(driver.mailbox, KN_MAILBOX_ASLEEP);
    kn_mailbox_forget(driver.mailbox);
    cr_assert_not(kn_mailbox_post(driver.mailbox, &letters[0].mail));
    kn_mailbox_call(driver.mailbox);
    cr_assert_not(is_readable(wake_fd, 0));
    cr_assert_eq(driver.delivered, 0);
    close(wake_fd);
    kn_mailbox_drop(driver.mailbox);
}
