/* SPDX-License-Identifier: MIT */
#include "dispatch/exchange.h"

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include "support/test.h"

enum {
    ROUNDS = 10000,
    KEEP_BYTES = 4096,
};

static const struct kino_response hello = {
    .size = sizeof(hello),
    .status = 200,
    .body = {"hello", 5},
};

/* What a loop would learn. */
struct driver {
    struct kn_mailbox *mailbox;
    struct kn_signature *signature;
    int deliveries;
    uint32_t facts; /* of the last one */
    int answered;   /* in all */
    int aborted;
    int released;
    bool released_twice;
};

static void deliver(struct kn_mail *mail, void *context)
{
    struct kino_request *request = kn_container_of(mail, struct kino_request, mail);
    struct driver *driver = context;

    driver->deliveries++;
    driver->facts = atomic_exchange(&request->facts, 0);
    driver->answered += (driver->facts & KN_FACT_ANSWERED) != 0;
    driver->aborted += (driver->facts & KN_FACT_ABORTED) != 0;
    if (!(driver->facts & KN_FACT_RELEASED))
        return;
    driver->released++;
    driver->released_twice |= request->released;
    kn_exchange_destroy(request);
}

static struct driver open_driver(void)
{
    struct driver driver = {0};

    cr_assert_eq(kn_mailbox_create(NULL, &driver.mailbox), 0);
    cr_assert_eq(kn_signature_create((struct kino_slice){0}, &driver.signature), 0);
    return driver;
}

static struct kino_request *open_exchange(const struct driver *driver, unsigned users)
{
    struct kino_request *request = kn_exchange_create(driver->mailbox, driver->signature, deliver);

    cr_assert_not_null(request);
    request->framing = (struct kn_framing){.version = KINO_HTTP_1_1, .keep_alive = true};
    atomic_store(&request->users, users);
    return request;
}

static void drive(struct driver *driver)
{
    kn_mailbox_deliver(driver->mailbox, driver);
}

static void close_driver(struct driver *driver)
{
    kn_signature_drop(driver->signature);
    kn_mailbox_drop(driver->mailbox);
}

static bool has(const struct kn_chain *chain, const char *text)
{
    const struct kn_buf *buf = &chain->first;

    return buf->len > 0 && memmem(buf->data, buf->len, text, strlen(text)) != NULL;
}

Test(exchange, an_answer_is_told_with_its_bytes)
{
    struct driver driver = open_driver();
    struct kino_request *request = open_exchange(&driver, 1);

    cr_assert_eq(kino_request_state(request), KINO_STATE_WRITABLE);
    cr_assert_eq(kino_request_respond(request, &hello), 0);
    cr_assert_eq(kino_request_state(request), KINO_STATE_ANSWERED | KINO_STATE_WRITABLE);
    drive(&driver);
    cr_assert_eq(driver.facts, KN_FACT_ANSWERED | KN_FACT_POSTED);
    cr_assert(has(&request->out, "HTTP/1.1 200 OK\r\n"));
    cr_assert(has(&request->out, "\r\n\r\nhello"));
    kino_request_release(request);
    drive(&driver);
    cr_assert_eq(driver.facts, KN_FACT_RELEASED | KN_FACT_POSTED);
    cr_assert_eq(driver.deliveries, 2);
    close_driver(&driver);
}

Test(exchange, facts_that_come_together_are_one_letter)
{
    struct driver driver = open_driver();
    struct kino_request *request = open_exchange(&driver, 1);

    kino_request_respond(request, &hello);
    kino_request_release(request);
    drive(&driver);
    cr_assert_eq(driver.deliveries, 1);
    cr_assert_eq(driver.facts, KN_FACT_ANSWERED | KN_FACT_RELEASED | KN_FACT_POSTED);
    close_driver(&driver);
}

Test(exchange, the_second_answer_loses)
{
    struct driver driver = open_driver();
    struct kino_request *request = open_exchange(&driver, 1);

    cr_assert_eq(kino_request_respond(request, &hello), 0);
    cr_assert_eq(kino_request_respond(request, &hello), KINO_ANSWERED);
    cr_assert_eq(kino_request_abort(request), KINO_ANSWERED);
    kino_request_release(request);
    drive(&driver);
    cr_assert_eq(driver.aborted, 0);
    close_driver(&driver);
}

Test(exchange, a_refused_answer_claims_nothing)
{
    static const struct kino_field bad = {.name = {"x", 1}, .value = {"a\r\nb: c", 7}};
    const struct kino_response responses[] = {
        {.size = sizeof(hello), .status = 99},
        {.size = sizeof(hello), .status = 101},
        {.size = sizeof(hello), .status = 199, .body = {"x", 1}},
        {.size = sizeof(hello), .status = 1000},
        {.size = sizeof(hello), .status = 200, .flags = 1 << 3},
        {.size = sizeof(hello), .status = 200, .fields = &bad, .field_count = 1},
        {.size = 0, .status = 200},
    };
    struct driver driver = open_driver();
    struct kino_request *request = open_exchange(&driver, 1);

    for (size_t i = 0; i < sizeof(responses) / sizeof(responses[0]); i++) {
        cr_assert_eq(kino_request_respond(request, &responses[i]), KINO_INVALID, "answer %zu", i);
        cr_assert_eq(kino_request_state(request), KINO_STATE_WRITABLE);
    }
    cr_assert_eq(kino_request_respond(request, &hello), 0);
    cr_assert_not(has(&request->out, "x: a"), "nothing of the refused ones is left");
    kino_request_release(request);
    drive(&driver);
    close_driver(&driver);
}

Test(exchange, the_last_release_answers_500_and_no_earlier_one)
{
    struct driver driver = open_driver();
    struct kino_request *request = open_exchange(&driver, 1);

    cr_assert_eq(kino_request_hold(request), request);
    kino_request_release(request);
    drive(&driver);
    cr_assert_eq(driver.deliveries, 0);
    cr_assert_eq(kn_exchange_drop(request), KN_FACT_ANSWERED | KN_FACT_RELEASED);
    cr_assert_eq(request->failure, 500);
    kn_exchange_destroy(request);
    close_driver(&driver);
}

Test(exchange, release_of_nothing_does_nothing)
{
    kino_request_release(NULL);
}

Test(exchange, an_abort_is_told_once_and_ends_the_right_to_answer)
{
    struct driver driver = open_driver();
    struct kino_request *request = open_exchange(&driver, 1);

    cr_assert_eq(kino_request_abort(request), 0);
    cr_assert_eq(kino_request_abort(request), KINO_ANSWERED);
    cr_assert_eq(kino_request_respond(request, &hello), KINO_ANSWERED);
    kino_request_release(request);
    drive(&driver);
    cr_assert_eq(driver.facts, KN_FACT_ABORTED | KN_FACT_RELEASED | KN_FACT_POSTED);
    close_driver(&driver);
}

Test(exchange, an_answer_after_the_drain_began_says_close)
{
    struct driver driver = open_driver();
    struct kino_request *request = open_exchange(&driver, 1);

    atomic_fetch_or(&request->state, KINO_STATE_DRAINING);
    cr_assert_eq(kino_request_respond(request, &hello), 0);
    cr_assert(has(&request->out, "\r\nconnection: close\r\n"));
    cr_assert_not(request->framing.keep_alive);
    kino_request_release(request);
    drive(&driver);
    close_driver(&driver);
}

Test(exchange, reset_makes_it_as_new_and_keeps_little_memory)
{
    struct driver driver = open_driver();
    struct kino_request *request = open_exchange(&driver, 1);

    cr_assert_eq(kn_buf_reserve(&request->out.first, 8 * KEEP_BYTES), 0);
    cr_assert_eq(kn_buf_append(&request->body, "body", 4), 0);
    kino_request_respond(request, &hello);
    drive(&driver);
    request->released = true;
    request->taken = true;
    request->dispatched = true;
    atomic_store(&request->worker_id, 7);
    kn_exchange_reset(request, KEEP_BYTES);
    cr_assert_eq(kino_request_state(request), KINO_STATE_WRITABLE);
    cr_assert_eq(atomic_load(&request->worker_id), 0);
    cr_assert_not(request->released || request->taken || request->dispatched || request->answered);
    cr_assert_eq(request->body.len, 0);
    cr_assert_null(request->out.first.data);
    kn_exchange_destroy(request);
    close_driver(&driver);
}

Test(exchange, fields_are_found_by_name)
{
    struct driver driver = open_driver();
    struct kino_request *request = open_exchange(&driver, 1);
    struct kino_field fields[] = {
        {.name = {"host", 4}, .value = {"a", 1}},
        {.name = {"x-two", 5}, .value = {"first", 5}},
        {.name = {"x-two", 5}, .value = {"second", 6}},
        {.name = {"x-empty", 7}, .value = {"", 0}},
    };
    struct kino_slice value;

    request->head.view.fields = fields;
    request->head.view.field_count = 4;
    value = kino_request_field(request, "x-two");
    cr_assert_eq(value.len, 5);
    cr_assert_arr_eq(value.data, "first", 5);
    value = kino_request_field(request, "x-empty");
    cr_assert_eq(value.len, 0);
    cr_assert_not_null(value.data, "empty is not absent");
    cr_assert_null(kino_request_field(request, "x-tw").data);
    cr_assert_null(kino_request_field(request, "x-two2").data);
    cr_assert_null(kino_request_field(request, "").data);
    kino_request_release(request);
    drive(&driver);
    close_driver(&driver);
}

/* Two threads that go through all exchanges in step, so that each is claimed by both at once. */
struct race {
    struct kino_request *requests[ROUNDS];
    _Atomic int positions[2];
    _Atomic int winners[ROUNDS];
};

struct racer {
    struct race *race;
    int number;
};

static void wait_in_step(const _Atomic int *other, int position)
{
    for (int spins = 0; atomic_load(other) < position; spins++)
        if (spins > 1000)
            sched_yield(); /* there is but one processor */
}

static void *claim_all(void *context)
{
    const struct racer *racer = context;
    struct race *race = racer->race;

    for (int i = 0; i < ROUNDS; i++) {
        atomic_store(&race->positions[racer->number], i);
        wait_in_step(&race->positions[!racer->number], i);
        if (kn_exchange_claim(race->requests[i]))
            atomic_fetch_add(&race->winners[i], 1);
    }
    return NULL;
}

Test(exchange, a_claim_has_exactly_one_winner)
{
    static struct race race;
    struct racer racers[2] = {{&race, 0}, {&race, 1}};
    struct driver driver = open_driver();
    pthread_t threads[2];

    for (int i = 0; i < ROUNDS; i++)
        race.requests[i] = open_exchange(&driver, 1);
    for (int i = 0; i < 2; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, claim_all, &racers[i]), 0);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < ROUNDS; i++) {
        cr_assert_eq(atomic_load(&race.winners[i]), 1, "exchange %d", i);
        kn_exchange_destroy(race.requests[i]);
    }
    close_driver(&driver);
}

/* Two users of each exchange: one answers, one aborts, both release. */
struct users {
    struct kino_request *requests[ROUNDS];
    _Atomic int answers;
    _Atomic int aborts;
};

static void *answer_all(void *context)
{
    struct users *users = context;

    for (int i = 0; i < ROUNDS; i++) {
        if (kino_request_respond(users->requests[i], &hello) == 0)
            atomic_fetch_add(&users->answers, 1);
        kino_request_release(users->requests[i]);
    }
    return NULL;
}

static void *abort_all(void *context)
{
    struct users *users = context;

    for (int i = 0; i < ROUNDS; i++) {
        if (kino_request_abort(users->requests[i]) == 0)
            atomic_fetch_add(&users->aborts, 1);
        kino_request_release(users->requests[i]);
    }
    return NULL;
}

static void open_users(struct users *users, const struct driver *driver)
{
    atomic_store(&users->answers, 0);
    atomic_store(&users->aborts, 0);
    for (int i = 0; i < ROUNDS; i++)
        users->requests[i] = open_exchange(driver, 2);
}

Test(exchange, each_is_answered_once_and_released_once_whoever_comes_first)
{
    static struct users users;
    struct driver driver = open_driver();
    pthread_t threads[2];

    open_users(&users, &driver);
    cr_assert_eq(pthread_create(&threads[0], NULL, answer_all, &users), 0);
    cr_assert_eq(pthread_create(&threads[1], NULL, abort_all, &users), 0);
    while (driver.released < ROUNDS) {
        drive(&driver);
        if (driver.released == ROUNDS || !kn_mailbox_sleep(driver.mailbox, KN_MAILBOX_ASLEEP))
            continue;
        cr_assert_eq(poll(&(struct pollfd){driver.mailbox->wake_fd, POLLIN, 0}, 1, 20000), 1,
                     "a fact was lost after %d", driver.released);
        kn_mailbox_awake(driver.mailbox);
        cr_assert_eq(read(driver.mailbox->wake_fd, &(uint64_t){0}, sizeof(uint64_t)), 8);
    }
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
    cr_assert_eq(atomic_load(&users.answers) + atomic_load(&users.aborts), ROUNDS);
    cr_assert_eq(driver.answered, atomic_load(&users.answers));
    cr_assert_eq(driver.aborted, atomic_load(&users.aborts));
    cr_assert_not(driver.released_twice);
    close_driver(&driver);
}

/* What is not freed, or freed twice, AddressSanitizer reports. */
Test(exchange, all_memory_goes_though_the_loop_ends_in_between)
{
    static struct users users;
    struct driver driver = open_driver();
    pthread_t threads[2];

    open_users(&users, &driver);
    cr_assert_eq(pthread_create(&threads[0], NULL, answer_all, &users), 0);
    cr_assert_eq(pthread_create(&threads[1], NULL, abort_all, &users), 0);
    while (driver.released < ROUNDS / 2)
        drive(&driver);
    kn_mailbox_close(driver.mailbox, &driver);
    close_driver(&driver);
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
    cr_assert_geq(driver.released, ROUNDS / 2);
    cr_assert_eq(atomic_load(&users.answers) + atomic_load(&users.aborts), ROUNDS);
}

Test(exchange, may_be_used_and_released_after_its_loop_ended)
{
    struct driver driver = open_driver();
    struct kino_request *answered = open_exchange(&driver, 1);
    struct kino_request *silent = open_exchange(&driver, 1);

    kn_mailbox_close(driver.mailbox, &driver);
    close_driver(&driver);
    cr_assert_eq(kino_request_respond(answered, &hello), 0);
    cr_assert_eq(kino_request_state(answered), KINO_STATE_ANSWERED | KINO_STATE_WRITABLE);
    kino_request_release(answered);
    kino_request_release(silent);
    cr_assert_eq(driver.deliveries, 0);
}
