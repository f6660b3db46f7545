/* SPDX-License-Identifier: MIT */
#include "io/io.h"

#include "base/clock.h"
#include "base/list.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "kino.h"
#include "support/test.h"

enum {
    TABLE = 4,
    MANY = 3 * KN_IO_ENTRIES,
    SOON_MS = 20000,
};

/* An operation that remembers how it went. */
struct probe {
    struct kn_op op;
    int calls;
    int last; /* result */
    int bytes;
    bool done;
    bool garbled; /* data that are not 'x' */
};

static void record(struct kn_op *op, const struct kn_completion *completion)
{
    struct probe *probe = kn_container_of(op, struct probe, op);

    probe->calls++;
    probe->last = completion->result;
    probe->done = !completion->more;
    if (!completion->data)
        return;
    probe->bytes += completion->result;
    for (int i = 0; i < completion->result; i++)
        probe->garbled |= completion->data[i] != 'x';
}

static struct probe make(void)
{
    return (struct probe){.op.fn = record};
}

static void open_ring(struct kn_io *io)
{
    int rc = kn_io_init(io, TABLE, false);

    if (rc == KINO_URING_MISSING || rc == KINO_URING_DISABLED || rc == KINO_URING_REFUSED)
        cr_skip_test("%s", kino_strerror(rc));
    cr_assert_eq(rc, 0);
}

/* Turn until the operation has been called back so often. */
static void turn_until(struct kn_io *io, const struct probe *probe, int calls)
{
    const uint64_t end = kn_clock_ns() + (uint64_t)SOON_MS * KN_NS_PER_MS;

    while (probe->calls < calls) {
        cr_assert_lt(kn_clock_ns(), end, "%d of %d", probe->calls, calls);
        kn_io_submit(io, 1, 10 * KN_NS_PER_MS);
        kn_io_reap(io);
    }
}

static void turn_until_done(struct kn_io *io, const struct probe *probe)
{
    const uint64_t end = kn_clock_ns() + (uint64_t)SOON_MS * KN_NS_PER_MS;

    while (!probe->done) {
        cr_assert_lt(kn_clock_ns(), end);
        kn_io_submit(io, 1, 10 * KN_NS_PER_MS);
        kn_io_reap(io);
    }
}

static void open_pair(int pair[2])
{
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
}

static struct kn_file plain(int fd)
{
    return (struct kn_file){.index = fd};
}

Test(uring, receives_into_its_buffers_until_the_end)
{
    struct probe receive = make();
    struct kn_io io;
    int pair[2];

    open_ring(&io);
    open_pair(pair);
    kn_io_receive(&io, &receive.op, plain(pair[0]));
    for (int i = 1; i <= 3; i++) {
        cr_assert_eq(write(pair[1], "xxxxx", 5), 5);
        turn_until(&io, &receive, i);
        cr_assert_eq(receive.last, 5);
        cr_assert_not(receive.done);
    }
    close(pair[1]);
    turn_until_done(&io, &receive);
    cr_assert_eq(receive.last, 0);
    cr_assert_eq(receive.bytes, 15);
    cr_assert_not(receive.garbled);
    close(pair[0]);
    kn_io_deinit(&io);
}

Test(uring, goes_on_receiving_after_all_buffers_were_used)
{
    const size_t all = 3 * (size_t)KN_IO_BUFFERS * KN_IO_BUFFER_BYTES;
    const int room = 1 << 22;
    char *bytes = malloc(all);
    struct probe receive = make();
    size_t sent = 0;
    int starved = 0;
    struct kn_io io;
    int pair[2];

    open_ring(&io);
    open_pair(pair);
    memset(bytes, 'x', all);
    setsockopt(pair[1], SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room));
    kn_io_receive(&io, &receive.op, plain(pair[0]));
    while ((size_t)receive.bytes < all) {
        while (sent < all) {
            const ssize_t count = send(pair[1], bytes + sent, all - sent, MSG_DONTWAIT);

            if (count < 0)
                break;
            sent += (size_t)count;
        }
        kn_io_submit(&io, 1, 10 * KN_NS_PER_MS);
        kn_io_reap(&io);
        if (!receive.done)
            continue;
        cr_assert_eq(receive.last, -ENOBUFS);
        cr_assert_lt(starved++, 1000);
        receive.done = false;
        kn_io_receive(&io, &receive.op, plain(pair[0]));
    }
    cr_assert_eq((size_t)receive.bytes, all);
    cr_assert_not(receive.garbled);
    close(pair[1]);
    turn_until_done(&io, &receive);
    close(pair[0]);
    free(bytes);
    kn_io_deinit(&io);
}

Test(uring, cancelled_operations_complete)
{
    struct probe receive = make();
    struct probe poll = make();
    int event = eventfd(0, EFD_CLOEXEC);
    struct kn_io io;
    int pair[2];

    open_ring(&io);
    open_pair(pair);
    kn_io_receive(&io, &receive.op, plain(pair[0]));
    kn_io_poll(&io, &poll.op, event);
    kn_io_submit(&io, 0, 0);
    cr_assert_eq(kn_io_reap(&io), 0);
    kn_io_cancel(&io, &receive.op);
    kn_io_cancel(&io, &poll.op);
    turn_until_done(&io, &receive);
    turn_until_done(&io, &poll);
    cr_assert_eq(receive.last, -ECANCELED);
    cr_assert_eq(poll.last, -ECANCELED);
    kn_io_cancel(&io, &receive.op); /* nothing to cancel is no error */
    kn_io_submit(&io, 1, KN_NS_PER_MS);
    kn_io_reap(&io);
    cr_assert_eq(receive.calls, 1);
    close(event);
    close(pair[0]);
    close(pair[1]);
    kn_io_deinit(&io);
}

Test(uring, a_poll_tells_of_every_write)
{
    struct probe poll = make();
    int event = eventfd(0, EFD_CLOEXEC);
    struct kn_io io;

    open_ring(&io);
    kn_io_poll(&io, &poll.op, event);
    kn_io_submit(&io, 0, 0);
    for (int i = 1; i <= 3; i++) {
        cr_assert_eq(write(event, &(uint64_t){1}, 8), 8); /* nobody reads it */
        turn_until(&io, &poll, i);
    }
    cr_assert_not(poll.done);
    kn_io_cancel(&io, &poll.op);
    turn_until_done(&io, &poll);
    close(event);
    kn_io_deinit(&io);
}

Test(uring, its_descriptor_is_written_for_what_comes_after_a_rest)
{
    struct probe receive = make();
    struct pollfd polled = {.events = POLLIN};
    struct kn_io io;
    uint64_t told;
    int pair[2];

    open_ring(&io);
    open_pair(pair);
    polled.fd = kn_io_fd(&io);
    cr_assert_geq(polled.fd, 0);
    cr_assert_eq(kn_io_fd(&io), polled.fd, "it is always the same");
    kn_io_receive(&io, &receive.op, plain(pair[0]));
    cr_assert(kn_io_rest(&io), "nothing has completed");
    (void)!read(polled.fd, &told, sizeof(told));
    for (int i = 1; i <= 3; i++) {
        cr_assert_eq(poll(&polled, 1, 0), 0);
        cr_assert_eq(write(pair[1], "x", 1), 1);
        cr_assert_eq(poll(&polled, 1, SOON_MS), 1);
        cr_assert_not(kn_io_rest(&io), "there is something to reap");
        turn_until(&io, &receive, i);
        cr_assert_eq(read(polled.fd, &told, sizeof(told)), sizeof(told));
        cr_assert(kn_io_rest(&io));
    }
    close(pair[1]);
    turn_until_done(&io, &receive);
    close(pair[0]);
    kn_io_deinit(&io);
    cr_assert_eq(fcntl(polled.fd, F_GETFD), -1, "closed with the ring");
}

Test(uring, one_send_is_bounded_so_that_each_is_progress)
{
    static char bytes[2 * KN_IO_SEND_MOST];
    struct probe send = make();
    struct probe receive = make();
    struct kn_io io;
    int pair[2];

    open_ring(&io);
    open_pair(pair);
    memset(bytes, 'x', sizeof(bytes));
    kn_io_receive(&io, &receive.op, plain(pair[1]));
    kn_io_send(&io, &send.op, plain(pair[0]), bytes, sizeof(bytes));
    turn_until_done(&io, &send);
    cr_assert_gt(send.last, 0);
    cr_assert_leq(send.last, KN_IO_SEND_MOST);
    close(pair[0]);
    while (!receive.done) {
        turn_until_done(&io, &receive);
        if (receive.last == -ENOBUFS) {
            receive.done = false;
            kn_io_receive(&io, &receive.op, plain(pair[1]));
        }
    }
    cr_assert_eq(receive.bytes, send.last);
    close(pair[1]);
    kn_io_deinit(&io);
}

Test(uring, what_the_kernel_refuses_completes_with_its_error)
{
    struct probe receive = make();
    struct probe send = make();
    struct probe accept = make();
    struct probe close_it = make();
    struct kn_io io;
    int pair[2];

    open_ring(&io);
    open_pair(pair);
    close(pair[1]);
    kn_io_receive(&io, &receive.op, plain(4095));
    kn_io_send(&io, &send.op, plain(pair[0]), "x", 1);
    kn_io_accept(&io, &accept.op, pair[0]);
    kn_io_close(&io, &close_it.op, (struct kn_file){.index = 0, .direct = true});
    turn_until_done(&io, &receive);
    turn_until_done(&io, &send);
    turn_until_done(&io, &accept);
    turn_until_done(&io, &close_it);
    cr_assert_eq(receive.last, -EBADF);
    cr_assert_eq(send.last, -EPIPE, "and no signal");
    cr_assert_lt(accept.last, 0);
    cr_assert_lt(close_it.last, 0, "an empty place");
    close(pair[0]);
    kn_io_deinit(&io);
}

Test(uring, more_operations_than_the_queue_has_places_all_complete)
{
    static struct probe probes[MANY];
    const uint64_t end = kn_clock_ns() + (uint64_t)SOON_MS * KN_NS_PER_MS;
    unsigned count = 0;
    struct kn_io io;

    open_ring(&io);
    for (int i = 0; i < MANY; i++) {
        probes[i] = make();
        kn_io_receive(&io, &probes[i].op, plain(4095));
    }
    while (count < MANY) {
        unsigned reaped;

        cr_assert_lt(kn_clock_ns(), end, "%u", count);
        kn_io_submit(&io, 1, 10 * KN_NS_PER_MS);
        reaped = kn_io_reap(&io);
        cr_assert_leq(reaped, KN_IO_REAP_MOST);
        count += reaped;
    }
    cr_assert_not(kn_io_pending(&io));
    for (int i = 0; i < MANY; i++)
        cr_assert_eq(probes[i].calls, 1, "operation %d", i);
    kn_io_deinit(&io);
}

Test(uring, a_wait_ends_at_its_timeout_or_with_a_completion)
{
    struct probe poll = make();
    int event = eventfd(0, EFD_CLOEXEC);
    uint64_t began = kn_clock_ns();
    struct kn_io io;

    open_ring(&io);
    began = kn_clock_ns();
    cr_assert_eq(kn_io_submit(&io, 1, 20 * KN_NS_PER_MS), 0);
    cr_assert_geq(kn_clock_ns() - began, 19 * (uint64_t)KN_NS_PER_MS);
    kn_io_poll(&io, &poll.op, event);
    cr_assert_eq(write(event, &(uint64_t){1}, 8), 8);
    cr_assert_eq(kn_io_submit(&io, 1, UINT64_MAX), 0);
    cr_assert_eq(kn_io_reap(&io), 1);
    kn_io_cancel(&io, &poll.op);
    turn_until_done(&io, &poll);
    close(event);
    kn_io_deinit(&io);
}

static int count_descriptors(void)
{
    int count = 0;

    for (int fd = 0; fd < 256; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

/* The table has TABLE places: descriptors that find none stay what they are, and work alike. */
Test(uring, adopts_into_its_table_while_there_is_room)
{
    struct kn_file files[TABLE + 2];
    int others[TABLE + 2];
    struct kn_io io;
    int before;

    open_ring(&io);
    before = count_descriptors();
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < TABLE + 2; i++) {
            struct probe send = make();
            char byte;
            int pair[2];

            open_pair(pair);
            others[i] = pair[1];
            files[i] = kn_io_adopt(&io, pair[0]);
            if (io.features & KINO_FEATURE_DIRECT_DESCRIPTORS)
                cr_assert_eq(files[i].direct, i < TABLE, "descriptor %d in round %d", i, round);
            kn_io_send(&io, &send.op, files[i], "x", 1);
            turn_until_done(&io, &send);
            cr_assert_eq(send.last, 1);
            cr_assert_eq(read(others[i], &byte, 1), 1);
        }
        for (int i = 0; i < TABLE + 2; i++) {
            struct probe end = make();
            char byte;

            kn_io_close(&io, &end.op, files[i]);
            turn_until_done(&io, &end);
            cr_assert_eq(end.last, 0);
            kn_io_closed(&io, files[i]);
            cr_assert_eq(read(others[i], &byte, 1), 0, "the other end sees it");
            close(others[i]);
        }
        cr_assert_eq(count_descriptors(), before);
    }
    kn_io_deinit(&io);
}

Test(uring, gives_its_descriptors_back)
{
    const int before = count_descriptors();
    struct kn_io io;

    for (int i = 0; i < 10; i++) {
        open_ring(&io);
        if (i % 2 == 0)
            kn_io_deinit(&io);
        else
            kn_io_forget(&io);
        cr_assert_eq(count_descriptors(), before);
        kn_io_deinit(&io); /* does nothing any more */
    }
}
