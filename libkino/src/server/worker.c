/* SPDX-License-Identifier: MIT */
#include "base/abi.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "base/thread.h"
#include "dispatch/park.h"
#include "server/server.h"

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    FLUSH_AFTER_NS = 200000, /* an answer waits no longer for others to go with it: then a turn */
    MOST_OWN = 16,  /* requests from its own lane in a row: then it looks at others' first */
    DEATH_MS = 100, /* that a thread takes to end, once it could be joined */
};

/* Who takes requests. Its own thread's, but for what is atomic. */
struct kino_worker {
    struct kino_server *server;
    struct kn_loop *loop;   /* inline: the one it drives; constant */
    struct kn_lanes *lanes; /* lanes: those of the loop that has the worker's; constant */
    struct kn_lane *lane;   /* lanes: its own, or NULL; inline: its loop's; constant */
    struct kn_parker parker;
    _Atomic uint64_t id;   /* written on what it takes; a new one after each abort */
    unsigned own_in_a_row; /* requests taken from its own lane since it last looked elsewhere */
    unsigned next_loop;    /* where to look first, elsewhere */
    unsigned next_lane;
    pid_t driver; /* inline: the thread that drives the loop */
    pid_t owner;  /* the process */
    bool migrates;
    bool polled;  /* not inline: its host waits for the parker's descriptor */
    bool resting; /* the worker is announced as idle, though it does not sleep */
    bool bound;   /* inline: the loop is begun, by `driver` */
};

/* A loop without a driver, marked as driven. NULL: all have one. */
static struct kn_loop *claim_loop(struct kino_server *server)
{
    struct kn_loop *loop = NULL;

    pthread_mutex_lock(&server->mutex);
    for (unsigned i = 0; i < server->loop_count && !loop; i++)
        if (!server->loops[i].driven)
            loop = &server->loops[i];
    if (loop)
        loop->driven = true;
    pthread_mutex_unlock(&server->mutex);
    return loop;
}

static void give_up_loop(struct kino_server *server, struct kn_loop *loop)
{
    pthread_mutex_lock(&server->mutex);
    loop->driven = false;
    pthread_mutex_unlock(&server->mutex);
}

/* The lanes of the loop that has the fewest workers. Under the mutex. */
static struct kn_lanes *find_lanes(struct kino_server *server)
{
    struct kn_lanes *fewest = &server->loops[0].lanes;

    for (unsigned i = 1; i < server->loop_count; i++)
        if (server->loops[i].lanes.owners < fewest->owners)
            fewest = &server->loops[i].lanes;
    return fewest;
}

static int claim_lane(struct kino_worker *worker)
{
    struct kino_server *server = worker->server;
    int rc;

    pthread_mutex_lock(&server->mutex);
    worker->lanes = worker->loop ? &worker->loop->lanes : find_lanes(server);
    rc = kn_lanes_claim(worker->lanes, &worker->lane);
    pthread_mutex_unlock(&server->mutex);
    return rc;
}

static void give_up_lane(struct kino_worker *worker)
{
    if (!worker->lane)
        return;
    pthread_mutex_lock(&worker->server->mutex);
    kn_lanes_give_up(worker->lanes, worker->lane);
    pthread_mutex_unlock(&worker->server->mutex);
}

/* By queue a worker has nothing of its own. */
static int settle(struct kino_worker *worker)
{
    const uint64_t dispatch = worker->server->config.dispatch;

    if (dispatch == KINO_DISPATCH_QUEUE)
        return 0;
    if (dispatch == KINO_DISPATCH_INLINE) {
        worker->loop = claim_loop(worker->server);
        if (!worker->loop)
            return KINO_BUSY;
    }
    return claim_lane(worker);
}

int kino_worker_create(struct kino_server *server, const struct kino_worker_config *config,
                       struct kino_worker **out)
{
    struct kino_worker_config given = {0};
    struct kino_worker *worker;
    int rc = config ? kn_abi_read(&given, sizeof(given), config) : 0;

    if (rc < 0 || given.migrates > 1)
        return KINO_INVALID;
    if (!server->owner)
        return KINO_BUSY;
    worker = kn_alloc_zeroed(sizeof(*worker));
    if (!worker)
        return -ENOMEM;
    worker->server = server;
    rc = settle(worker);
    if (rc < 0) {
        kn_free(worker);
        return rc;
    }
    worker->migrates = given.migrates;
    worker->owner = getpid();
    kn_parker_init(&worker->parker, worker->lane ? &worker->lane->berth : NULL);
    atomic_init(&worker->id, atomic_fetch_add(&server->next_worker_id, 1));
    atomic_fetch_add(&server->workers, 1);
    *out = worker;
    return 0;
}

/* Inline: begin on the first call, and refuse other threads. */
static int drive(struct kino_worker *worker)
{
    int rc;

    if (worker->bound) {
        if (worker->migrates)
            kn_mailbox_enter(worker->loop->mailbox);
        return worker->migrates || worker->driver == kn_thread_id() ? 0 : KINO_BUSY;
    }
    rc = kn_loop_begin(worker->loop, worker->migrates);
    if (rc < 0)
        return rc;
    worker->driver = kn_thread_id();
    worker->bound = true;
    return 0;
}

/* From any loop's lanes, beginning with another loop each time, and another lane each time round.
 */
static struct kino_request *pop_any(struct kino_worker *worker)
{
    struct kino_server *server = worker->server;

    for (unsigned i = 0; i < server->loop_count; i++) {
        struct kino_request *request;

        if (++worker->next_loop >= server->loop_count) {
            worker->next_loop = 0;
            worker->next_lane++;
        }
        request = kn_lanes_pop(&server->loops[worker->next_loop].lanes, worker->next_lane);
        if (request)
            return request;
    }
    return NULL;
}

static struct kino_request *pop(struct kino_worker *worker)
{
    struct kino_request *request;

    if (worker->lane)
        kn_lane_visit(worker->lane);
    if (worker->loop)
        return kn_lane_pop(worker->lane);
    /* What lies behind a worker that does not come must not wait until all others are idle. */
    request = worker->lane && worker->own_in_a_row < MOST_OWN ? kn_lane_pop(worker->lane) : NULL;
    if (request) {
        worker->own_in_a_row++;
        return request;
    }
    worker->own_in_a_row = 0;
    return pop_any(worker);
}

static int take(struct kino_worker *worker, uint64_t now_ns, struct kino_request **out)
{
    struct kino_request *request = pop(worker);

    if (!request)
        return KINO_AGAIN;
    atomic_store_explicit(&request->worker_id,
                          atomic_load_explicit(&worker->id, memory_order_relaxed),
                          memory_order_relaxed);
    atomic_store_explicit(&request->taken_ns, now_ns, memory_order_relaxed);
    *out = request;
    return KINO_REQUEST;
}

static bool lanes_empty(struct kino_worker *worker)
{
    struct kino_server *server = worker->server;

    if (worker->loop)
        return kn_lane_empty(worker->lane);
    for (unsigned i = 0; i < server->loop_count; i++)
        if (!kn_lanes_empty(&server->loops[i].lanes))
            return false;
    return true;
}

/* A host that polls has come back. */
static void get_up(struct kino_worker *worker)
{
    if (!worker->resting)
        return;
    worker->resting = false;
    kn_parking_leave(&worker->server->parking, &worker->parker);
}

/* Announce the worker as idle while its host polls. False: there is something to take, or to hear.
 */
static bool rest(struct kino_worker *worker)
{
    kn_parking_enter(&worker->server->parking, &worker->parker);
    worker->resting = true;
    if (lanes_empty(worker) && !kn_server_drained(worker->server))
        return true;
    get_up(worker);
    return false;
}

static int take_queued(struct kino_worker *worker, uint64_t now_ns, struct kino_request **out)
{
    int rc;

    get_up(worker);
    if (worker->polled)
        kn_parker_hush(&worker->parker);
    do {
        rc = take(worker, now_ns, out);
        if (rc == KINO_AGAIN && kn_server_drained(worker->server))
            rc = KINO_CLOSED;
    } while (rc == KINO_AGAIN && worker->polled && !rest(worker));
    return rc;
}

/* One turn, and what it brought. */
static int turn_and_take(struct kino_worker *worker, struct kino_request **out)
{
    int rc = kn_loop_turn(worker->loop, 0);

    if (rc < 0 && rc != KINO_CLOSED)
        return rc;
    if (take(worker, worker->loop->now_ns, out) == KINO_REQUEST)
        return KINO_REQUEST;
    return rc == 0 ? KINO_AGAIN : rc;
}

/* Nothing is there: leave the loop to its host's poll, or go on if something has come. */
static int rest_inline(struct kino_worker *worker, struct kino_request **out)
{
    for (unsigned i = 0; i < KN_LOOP_REST_TRIES; i++) {
        int rc;

        if (kn_loop_rest(worker->loop))
            return KINO_AGAIN;
        rc = turn_and_take(worker, out);
        if (rc != KINO_AGAIN)
            return rc;
    }
    kn_mailbox_ring(worker->loop->mailbox);
    return KINO_AGAIN;
}

int kino_worker_try_take(struct kino_worker *worker, struct kino_request **out)
{
    const uint64_t now_ns = kn_clock_ns();
    int rc;

    if (!worker->loop)
        return take_queued(worker, now_ns, out);
    rc = drive(worker);
    if (rc < 0)
        return rc;
    if (now_ns - worker->loop->now_ns < FLUSH_AFTER_NS) {
        rc = take(worker, now_ns, out);
        if (rc != KINO_AGAIN)
            return rc;
    }
    rc = turn_and_take(worker, out);
    return rc == KINO_AGAIN && worker->loop->polled ? rest_inline(worker, out) : rc;
}

/* Park until a lane has something. */
static void park(struct kino_worker *worker, uint64_t deadline_ns)
{
    struct kn_parking *parking = &worker->server->parking;

    kn_parking_enter(parking, &worker->parker);
    if (lanes_empty(worker) && !kn_server_drained(worker->server))
        kn_parker_wait(&worker->parker, deadline_ns);
    kn_parking_leave(parking, &worker->parker);
}

/* This worker will not take what it may have been woken for. */
static void wake_another(struct kino_worker *worker)
{
    if (!worker->loop && !lanes_empty(worker))
        kn_parking_wake(&worker->server->parking, 1);
}

static int wait_until(struct kino_worker *worker, uint64_t deadline_ns)
{
    int rc = worker->loop ? drive(worker) : 0;

    get_up(worker);
    while (rc == 0) {
        if (kn_parker_clear(&worker->parker, KN_PARK_INTERRUPTED)) {
            wake_another(worker);
            return KINO_INTERRUPTED;
        }
        if (!lanes_empty(worker))
            return 0;
        if (!worker->loop && kn_server_drained(worker->server))
            return KINO_CLOSED;
        if (kn_clock_ns() >= deadline_ns)
            return KINO_TIMED_OUT;
        if (worker->loop)
            rc = kn_loop_turn(worker->loop, deadline_ns);
        else
            park(worker, deadline_ns);
    }
    return rc;
}

int kino_worker_wait(struct kino_worker *worker, uint64_t timeout_ms)
{
    return wait_until(worker, kn_clock_deadline(timeout_ms));
}

int kino_worker_take(struct kino_worker *worker, uint64_t timeout_ms, struct kino_request **out)
{
    const uint64_t deadline_ns = kn_clock_deadline(timeout_ms);
    int rc;

    /* A worker that is woken may find that another was faster: then it sleeps again. */
    while ((rc = kino_worker_try_take(worker, out)) == KINO_AGAIN) {
        rc = wait_until(worker, deadline_ns);
        if (rc < 0)
            return rc;
    }
    return rc;
}

int kino_worker_respond_take(struct kino_worker *worker, const struct kino_response *response,
                             struct kino_request **request)
{
    struct kino_request *answered = *request;
    uint32_t facts = 0;
    int rc;

    if (!answered || kn_exchange_is_interim(response))
        return KINO_INVALID;
    rc = worker->loop ? drive(worker) : 0;
    if (rc < 0 && rc != KINO_CLOSED)
        return rc;
    rc = kn_exchange_answer(answered, response, &facts);
    if (rc < 0 && rc != KINO_ANSWERED && !facts)
        return rc;
    facts |= kn_exchange_drop(answered);
    if (facts)
        kn_exchange_post(answered, facts);
    *request = NULL;
    rc = kino_worker_try_take(worker, request);
    return rc == KINO_REQUEST ? KINO_REQUEST : 0;
}

int kino_worker_flush(struct kino_worker *worker)
{
    int rc;

    if (!worker->loop || !worker->bound)
        return 0;
    rc = drive(worker);
    if (rc == 0)
        rc = kn_loop_turn(worker->loop, 0);
    return rc == KINO_BUSY ? rc : 0;
}

int kino_worker_fd(struct kino_worker *worker)
{
    int rc;

    if (!worker->loop) {
        rc = kn_parker_fd(&worker->parker);
        worker->polled |= rc >= 0;
        return rc;
    }
    rc = drive(worker);
    return rc < 0 ? rc : kn_loop_fd(worker->loop);
}

int kino_worker_interrupt(struct kino_worker *worker)
{
    kn_parker_interrupt(&worker->parker);
    if (worker->loop)
        kn_mailbox_call(worker->loop->mailbox);
    return 0;
}

/* What a worker's end means to one loop. Freed by the delivery. */
struct abortion {
    struct kn_mail mail;
    uint64_t worker_id;
    unsigned status;
};

static void deliver_abort(struct kn_mail *mail, void *driver)
{
    struct abortion *abortion = kn_container_of(mail, struct abortion, mail);

    kn_loop_abort_worker(driver, abortion->worker_id, abortion->status);
    kn_free(abortion);
}

/* One for each loop that may have its requests, or none at all. */
static int make_abortions(const struct kino_worker *worker, struct kn_mail **out)
{
    const unsigned count = worker->loop ? 1 : worker->server->loop_count;
    struct kn_mail *all = NULL;

    for (unsigned i = 0; i < count; i++) {
        struct abortion *abortion = kn_alloc(sizeof(*abortion));

        if (!abortion) {
            while (all) {
                struct kn_mail *next = all->next;

                kn_free(kn_container_of(all, struct abortion, mail));
                all = next;
            }
            return -ENOMEM;
        }
        abortion->mail = (struct kn_mail){.next = all, .deliver = deliver_abort};
        all = &abortion->mail;
    }
    *out = all;
    return 0;
}

int kino_worker_abort(struct kino_worker *worker, uint64_t status)
{
    struct kino_server *server = worker->server;
    struct kn_mail *all;
    uint64_t id;
    int rc;

    if (status < 400 || status > 599)
        return KINO_INVALID;
    rc = make_abortions(worker, &all);
    if (rc < 0)
        return rc;
    /* What it takes from now on is not meant. */
    id = atomic_exchange(&worker->id, atomic_fetch_add(&server->next_worker_id, 1));
    wake_another(worker);
    for (unsigned i = 0; all; i++) {
        struct kn_loop *loop = worker->loop ? worker->loop : &server->loops[i];
        struct abortion *abortion = kn_container_of(all, struct abortion, mail);

        all = all->next;
        abortion->worker_id = id;
        abortion->status = (unsigned)status;
        if (!kn_mailbox_post(loop->mailbox, &abortion->mail))
            kn_free(abortion);
    }
    return 0;
}

static bool driver_is_dead(const struct kino_worker *worker)
{
    const struct timespec moment = {.tv_nsec = KN_NS_PER_MS};

    /* One that was joined is on its way out of the kernel for some moments more. */
    for (unsigned i = 0; i < DEATH_MS; i++) {
        if (syscall(SYS_tgkill, getpid(), worker->driver, 0) < 0)
            return errno == ESRCH;
        nanosleep(&moment, NULL);
    }
    return false;
}

int kino_worker_destroy(struct kino_worker *worker)
{
    struct kino_server *server;

    if (!worker)
        return 0;
    if (worker->owner != getpid()) {
        kn_parker_deinit(&worker->parker);
        kn_free(worker); /* a child's: the server, which it may have destroyed, is its parent's */
        return 0;
    }
    server = worker->server;
    if (worker->loop) {
        if (!worker->bound || !kn_mailbox_has_driver(worker->loop->mailbox) || drive(worker) == 0)
            kn_loop_leave(worker->loop);
        else if (driver_is_dead(worker))
            kn_loop_abandon(worker->loop);
        else
            return KINO_BUSY;
    }
    give_up_lane(worker);
    if (worker->loop)
        give_up_loop(server, worker->loop);
    get_up(worker);
    wake_another(worker);
    kn_parker_deinit(&worker->parker);
    kn_free(worker);
    atomic_fetch_sub(&server->workers, 1);
    return 0;
}
