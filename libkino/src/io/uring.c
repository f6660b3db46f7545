/* SPDX-License-Identifier: MIT */
#include "io/io.h"

#include "base/alloc.h"
#include "base/fault.h"
#include "io/probe.h"
#include "kino.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

static_assert((KN_IO_BUFFERS & (KN_IO_BUFFERS - 1)) == 0, "the kernel masks buffer numbers");

enum {
    BUFFER_GROUP = 0,
    SUBMIT_TRIES = 64, /* a full queue is flushed this often before an operation fails */
};

/* A ring with as much of what it may have as the kernel grants. */
static int init_ring(struct kn_io *io, bool migrates)
{
    const uint64_t without = kn_probe_disabled();
    struct {
        uint64_t feature;
        unsigned flags;
    } wishes[] = {
        {KINO_FEATURE_NO_SQARRAY, IORING_SETUP_NO_SQARRAY},
        {KINO_FEATURE_DEFER_TASKRUN,
         IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG},
    };
    const size_t count = sizeof(wishes) / sizeof(wishes[0]);
    int rc = -EINVAL;

    for (size_t first = 0; first <= count && rc == -EINVAL; first++) {
        struct io_uring_params params = {
            .flags = IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CLAMP | IORING_SETUP_CQSIZE,
            .cq_entries = KN_IO_COMPLETIONS,
        };

        io->features = 0;
        for (size_t i = first; i < count; i++) {
            if (without & wishes[i].feature)
                continue;
            if (migrates && wishes[i].feature == KINO_FEATURE_DEFER_TASKRUN)
                continue;
            params.flags |= wishes[i].flags;
            io->features |= wishes[i].feature;
        }
        rc = io_uring_queue_init_params(KN_IO_ENTRIES, &io->ring, &params);
    }
    return rc;
}

static int init_buffers(struct kn_io *io)
{
    const size_t bytes = (size_t)KN_IO_BUFFERS * KN_IO_BUFFER_BYTES;
    int rc;

    io->buffers = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (io->buffers == MAP_FAILED)
        return -errno;
    io->buffer_ring = io_uring_setup_buf_ring(&io->ring, KN_IO_BUFFERS, BUFFER_GROUP, 0, &rc);
    if (!io->buffer_ring) {
        munmap(io->buffers, bytes);
        return rc == -EINVAL ? KINO_KERNEL_TOO_OLD : rc;
    }
    for (unsigned i = 0; i < KN_IO_BUFFERS; i++)
        io_uring_buf_ring_add(io->buffer_ring, io->buffers + (size_t)i * KN_IO_BUFFER_BYTES,
                              KN_IO_BUFFER_BYTES, (unsigned short)i, KN_IO_BUFFERS - 1, (int)i);
    io_uring_buf_ring_advance(io->buffer_ring, KN_IO_BUFFERS);
    return 0;
}

/* Not io_uring_register_files_sparse, which raises the process's descriptor limit. */
static void init_table(struct kn_io *io, struct io_uring_rsrc_register *files)
{
    io->free_slots = kn_alloc(files->nr * sizeof(*io->free_slots));
    if (!io->free_slots)
        return;
    if (io_uring_register((unsigned)io->ring.ring_fd, IORING_REGISTER_FILES2, files,
                          sizeof(*files)) < 0) {
        kn_free(io->free_slots);
        io->free_slots = NULL;
        return;
    }
    for (unsigned slot = files->nr; slot > 0; slot--)
        io->free_slots[io->free_slot_count++] = (int)slot - 1;
    io->features |= KINO_FEATURE_DIRECT_DESCRIPTORS;
}

/* What makes a ring faster and may be missing. */
static void init_options(struct kn_io *io, unsigned table, bool migrates)
{
    const uint64_t without = kn_probe_disabled();
    struct io_uring_rsrc_register files = {.nr = table, .flags = IORING_RSRC_REGISTER_SPARSE};
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < table)
        files.nr = (unsigned)limit.rlim_cur; /* more is refused */
    if (files.nr > 0 && !(without & KINO_FEATURE_DIRECT_DESCRIPTORS))
        init_table(io, &files);
#ifdef IORING_FEAT_NO_IOWAIT
    if (!(without & KINO_FEATURE_NO_IOWAIT) && (io->ring.features & IORING_FEAT_NO_IOWAIT) &&
        io_uring_set_iowait(&io->ring, false) == 0)
        io->features |= KINO_FEATURE_NO_IOWAIT;
#endif
    /* The registration belongs to one thread. */
    if (!migrates && !(without & KINO_FEATURE_REGISTERED_RING) &&
        io_uring_register_ring_fd(&io->ring) == 1)
        io->features |= KINO_FEATURE_REGISTERED_RING;
}

int kn_io_init(struct kn_io *io, unsigned table, bool migrates)
{
    int rc;

    *io = (struct kn_io){.event_fd = -1};
    rc = init_ring(io, migrates);
    if (rc < 0)
        return kn_probe_explain(rc);
    rc = init_buffers(io);
    if (rc < 0) {
        io_uring_queue_exit(&io->ring);
        return rc;
    }
    init_options(io, table, migrates);
    io->initialised = true;
    return 0;
}

static void close_event(struct kn_io *io)
{
    if (io->event_fd >= 0)
        close(io->event_fd);
    io->event_fd = -1;
}

void kn_io_deinit(struct kn_io *io)
{
    if (!io->initialised)
        return;
    io_uring_free_buf_ring(&io->ring, io->buffer_ring, KN_IO_BUFFERS, BUFFER_GROUP);
    io_uring_queue_exit(&io->ring);
    close_event(io);
    munmap(io->buffers, (size_t)KN_IO_BUFFERS * KN_IO_BUFFER_BYTES);
    kn_free(io->free_slots);
    io->initialised = false;
}

void kn_io_forget(struct kn_io *io)
{
    if (!io->initialised)
        return;
    /* Not io_uring_queue_exit: it would give up the calling thread's place of this ring's number in
     * the kernel's list of registered rings, which may be another ring's. */
    munmap(io->ring.sq.sqes, io->ring.sq.ring_entries * sizeof(*io->ring.sq.sqes));
    if (io->ring.cq.ring_ptr != io->ring.sq.ring_ptr)
        munmap(io->ring.cq.ring_ptr, io->ring.cq.ring_sz);
    munmap(io->ring.sq.ring_ptr, io->ring.sq.ring_sz);
    close(io->ring.ring_fd);
    close_event(io);
    kn_free(io->free_slots);
    io->initialised = false;
}

static void fail(struct kn_io *io, struct kn_op *op)
{
    op->next_failed = io->failed;
    io->failed = op;
}

#ifdef KN_FAULTS

/* Planned: the kernel is not even asked. */
static bool refuse(struct kn_io *io, struct kn_op *op)
{
    op->fault = kn_fault_due(KN_FAULT_OPERATION);
    if (!op->fault)
        return false;
    fail(io, op);
    return true;
}

/* Of a close any other failure says that the descriptor is gone all the same. */
static void refuse_for_now(struct kn_op *op)
{
    if (op->fault)
        op->fault = -EBUSY;
}

static int refusal(struct kn_op *op)
{
    const int error = op->fault ? op->fault : -EBUSY;

    op->fault = 0;
    return error;
}

#else

static bool refuse(struct kn_io *io, struct kn_op *op)
{
    (void)io;
    (void)op;
    return false;
}

static void refuse_for_now(struct kn_op *op)
{
    (void)op;
}

static int refusal(struct kn_op *op)
{
    (void)op;
    return -EBUSY;
}

#endif

/* A place in the submission queue, which is flushed when it is full. NULL, and `op` will complete
 * with -EBUSY, when the kernel does not take what is there. */
static struct io_uring_sqe *reserve(struct kn_io *io, struct kn_op *op)
{
    struct io_uring_sqe *sqe;

    if (op && refuse(io, op))
        return NULL;
    sqe = io_uring_get_sqe(&io->ring);
    for (int i = 0; !sqe && i < SUBMIT_TRIES; i++) {
        if (io_uring_submit(&io->ring) < 0)
            io_uring_get_events(&io->ring); /* makes room where completions overflow */
        sqe = io_uring_get_sqe(&io->ring);
    }
    if (sqe)
        return sqe;
    if (op)
        fail(io, op);
    return NULL;
}

static void set_owner(struct io_uring_sqe *sqe, struct kn_op *op, struct kn_file file)
{
    io_uring_sqe_set_data(sqe, op);
    if (file.direct)
        sqe->flags |= IOSQE_FIXED_FILE;
}

void kn_io_accept(struct kn_io *io, struct kn_op *op, int listening_fd)
{
    struct io_uring_sqe *sqe = reserve(io, op);

    if (!sqe)
        return;
    io_uring_prep_multishot_accept(sqe, listening_fd, NULL, NULL, SOCK_CLOEXEC);
    io_uring_sqe_set_data(sqe, op);
}

void kn_io_poll(struct kn_io *io, struct kn_op *op, int fd)
{
    struct io_uring_sqe *sqe = reserve(io, op);

    if (!sqe)
        return;
    io_uring_prep_poll_multishot(sqe, fd, POLLIN);
    io_uring_sqe_set_data(sqe, op);
}

void kn_io_receive(struct kn_io *io, struct kn_op *op, struct kn_file file)
{
    struct io_uring_sqe *sqe = reserve(io, op);

    if (!sqe)
        return;
    io_uring_prep_recv_multishot(sqe, file.index, NULL, 0, 0);
    set_owner(sqe, op, file);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = BUFFER_GROUP;
}

void kn_io_send(struct kn_io *io, struct kn_op *op, struct kn_file file, const char *data,
                size_t len)
{
    struct io_uring_sqe *sqe = reserve(io, op);

    if (!sqe)
        return;
    io_uring_prep_send(sqe, file.index, data, len < KN_IO_SEND_MOST ? len : KN_IO_SEND_MOST,
                       MSG_NOSIGNAL);
    set_owner(sqe, op, file);
}

void kn_io_send_vectors(struct kn_io *io, struct kn_op *op, struct kn_file file,
                        const struct msghdr *message)
{
    struct io_uring_sqe *sqe = reserve(io, op);

    if (!sqe)
        return;
    io_uring_prep_sendmsg(sqe, file.index, message, MSG_NOSIGNAL);
    set_owner(sqe, op, file);
}

void kn_io_read(struct kn_io *io, struct kn_op *op, int descriptor, char *data, size_t len,
                uint64_t offset)
{
    struct io_uring_sqe *sqe = reserve(io, op);

    if (!sqe)
        return;
    io_uring_prep_read(sqe, descriptor, data, (unsigned)len, offset);
    io_uring_sqe_set_data(sqe, op);
}

void kn_io_alarm(struct kn_io *io, struct kn_op *op, const struct __kernel_timespec *at)
{
    struct io_uring_sqe *sqe = reserve(io, op);

    if (!sqe)
        return;
    io_uring_prep_timeout(sqe, (struct __kernel_timespec *)(uintptr_t)at, 0, IORING_TIMEOUT_ABS);
    io_uring_sqe_set_data(sqe, op);
}

void kn_io_move_alarm(struct kn_io *io, const struct kn_op *op, struct __kernel_timespec *at)
{
    struct io_uring_sqe *sqe = reserve(io, NULL);

    if (!sqe)
        return;
    io_uring_prep_timeout_update(sqe, at, (uint64_t)(uintptr_t)op, IORING_TIMEOUT_ABS);
    io_uring_sqe_set_data(sqe, NULL); /* where it fails, the alarm has just gone off */
}

void kn_io_shutdown(struct kn_io *io, struct kn_op *op, struct kn_file file)
{
    struct io_uring_sqe *sqe = reserve(io, op);

    if (!sqe)
        return;
    io_uring_prep_shutdown(sqe, file.index, SHUT_WR);
    set_owner(sqe, op, file);
}

void kn_io_close(struct kn_io *io, struct kn_op *op, struct kn_file file)
{
    struct io_uring_sqe *sqe = reserve(io, op);

    if (!sqe) {
        refuse_for_now(op);
        return;
    }
    if (file.direct) {
        io_uring_prep_close_direct(sqe, (unsigned)file.index);
    } else {
        shutdown(file.index, SHUT_RDWR); /* a forked child may have a copy */
        io_uring_prep_close(sqe, file.index);
    }
    io_uring_sqe_set_data(sqe, op);
}

void kn_io_reset_at_close(struct kn_io *io, struct kn_file file)
{
    static const struct linger at_once = {.l_onoff = 1, .l_linger = 0};
    struct io_uring_sqe *sqe;

    if (!file.direct) {
        setsockopt(file.index, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
        return;
    }
    sqe = reserve(io, NULL);
    if (!sqe)
        return;
    io_uring_prep_cmd_sock(sqe, SOCKET_URING_OP_SETSOCKOPT, file.index, SOL_SOCKET, SO_LINGER,
                           (void *)(uintptr_t)&at_once, sizeof(at_once));
    sqe->flags |= IOSQE_FIXED_FILE;
    io_uring_sqe_set_data(sqe, NULL);
}

void kn_io_cancel(struct kn_io *io, const struct kn_op *op)
{
    struct io_uring_sqe *sqe = reserve(io, NULL);

    if (!sqe)
        return;
    io_uring_prep_cancel64(sqe, (uint64_t)(uintptr_t)op, 0);
    io_uring_sqe_set_data(sqe,
                          NULL); /* its own completion tells nothing the operation's does not */
}

struct kn_file kn_io_adopt(struct kn_io *io, int fd)
{
    int slot;

    if (io->free_slot_count == 0)
        return (struct kn_file){.index = fd};
    slot = io->free_slots[io->free_slot_count - 1];
    if (io_uring_register_files_update(&io->ring, (unsigned)slot, &fd, 1) != 1)
        return (struct kn_file){.index = fd};
    io->free_slot_count--;
    close(fd);
    return (struct kn_file){.index = slot, .direct = true};
}

void kn_io_closed(struct kn_io *io, struct kn_file file)
{
    if (file.direct)
        io->free_slots[io->free_slot_count++] = file.index;
}

/* With deferred task work the kernel flags what it has for us; without, it posts by itself. */
static bool nothing_to_enter_for(const struct kn_io *io)
{
    const unsigned wants_us = IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW;

    return io_uring_sq_ready(&io->ring) == 0 &&
           !(__atomic_load_n(io->ring.sq.kflags, __ATOMIC_RELAXED) & wants_us);
}

int kn_io_submit(struct kn_io *io, unsigned count, uint64_t timeout_ns)
{
    int rc;

    if (io->buffers_returned > 0) {
        io_uring_buf_ring_advance(io->buffer_ring, io->buffers_returned);
        io->buffers_returned = 0;
    }
    if (count == 0 || io->failed) {
        if (nothing_to_enter_for(io))
            return 0;
        rc = kn_fault_due(KN_FAULT_ENTER);
        if (rc == 0)
            rc = io_uring_submit_and_get_events(&io->ring);
    } else if ((rc = kn_fault_due(KN_FAULT_ENTER)) < 0) {
        return rc;
    } else if (timeout_ns == UINT64_MAX) {
        rc = io_uring_submit_and_wait(&io->ring, count);
    } else {
        struct io_uring_cqe *cqe;
        struct __kernel_timespec timeout = {
            .tv_sec = (long long)(timeout_ns / 1000000000u),
            .tv_nsec = (long long)(timeout_ns % 1000000000u),
        };

        rc = io_uring_submit_and_wait_timeout(&io->ring, &cqe, count, &timeout, NULL);
    }
    return rc < 0 && rc != -ETIME ? rc : 0;
}

#ifdef KN_FAULTS

/* The operation has done its work already: a failure that asks for another try would be untrue. */
static int lasting(int error)
{
    return error == -EBUSY || error == -EAGAIN || error == -ECANCELED ? -EIO : error;
}

/* Planned: what has come counts, but it ends with a failure. */
static void hand_over(struct kn_io *io, struct kn_op *op, const struct kn_completion *completion)
{
    const int error = kn_fault_due(KN_FAULT_COMPLETION);
    struct kn_completion last = {0};

    if (error)
        op->fault = completion->more ? error : lasting(error);
    if (error && completion->more)
        kn_io_cancel(io, op);
    if (!op->fault || completion->more) {
        op->fn(op, completion);
        return;
    }
    last.result = op->fault;
    op->fault = 0;
    if (completion->data)
        op->fn(op, &(struct kn_completion){completion->result, true, completion->data});
    op->fn(op, &last);
}

#else

static void hand_over(struct kn_io *io, struct kn_op *op, const struct kn_completion *completion)
{
    (void)io;
    op->fn(op, completion);
}

#endif

static void complete(struct kn_io *io, const struct io_uring_cqe *cqe)
{
    struct kn_op *op = io_uring_cqe_get_data(cqe);
    struct kn_completion completion = {
        .result = cqe->res,
        .more = cqe->flags & IORING_CQE_F_MORE,
    };
    unsigned id;

    if (!op)
        return;
    if (!(cqe->flags & IORING_CQE_F_BUFFER)) {
        hand_over(io, op, &completion);
        return;
    }
    id = cqe->flags >> IORING_CQE_BUFFER_SHIFT;
    assert(id < KN_IO_BUFFERS);
    completion.data = io->buffers + (size_t)id * KN_IO_BUFFER_BYTES;
    hand_over(io, op, &completion);
    io_uring_buf_ring_add(io->buffer_ring, io->buffers + (size_t)id * KN_IO_BUFFER_BYTES,
                          KN_IO_BUFFER_BYTES, (unsigned short)id, KN_IO_BUFFERS - 1,
                          io->buffers_returned++);
}

static unsigned complete_failed(struct kn_io *io)
{
    struct kn_op *op = io->failed;
    unsigned count = 0;

    io->failed = NULL;
    while (op) {
        struct kn_op *next = op->next_failed;

        op->fn(op, &(struct kn_completion){.result = refusal(op)});
        op = next;
        count++;
    }
    return count;
}

unsigned kn_io_reap(struct kn_io *io)
{
    unsigned count = complete_failed(io);
    unsigned reaped = 0;
    struct io_uring_cqe *cqe;
    unsigned head;

    io->paused = false;
    io_uring_for_each_cqe(&io->ring, head, cqe)
    {
        /* By value: the callback may submit, and the kernel may then reuse the entry only after
         * the advance below; but a copy also spares it the reads across the shared ring. */
        const struct io_uring_cqe copy = {
            .user_data = cqe->user_data, .res = cqe->res, .flags = cqe->flags};

        complete(io, &copy);
        if (++reaped == KN_IO_REAP_MOST || io->paused)
            break;
    }
    io_uring_cq_advance(&io->ring, reaped);
    return count + reaped;
}

void kn_io_pause(struct kn_io *io)
{
    io->paused = true;
}

bool kn_io_pending(struct kn_io *io)
{
    return io->failed || io_uring_cq_ready(&io->ring) > 0;
}

/* The ring's own descriptor wakes nobody while deferred task work waits for us: Linux 6.18 writes
 * only an eventfd then. */
int kn_io_fd(struct kn_io *io)
{
    int rc;

    if (io->event_fd >= 0)
        return io->event_fd;
    io->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (io->event_fd < 0)
        return -errno;
    rc = io_uring_register_eventfd(&io->ring, io->event_fd);
    if (rc == 0)
        return io->event_fd;
    close_event(io);
    return rc;
}

bool kn_io_rest(struct kn_io *io)
{
    kn_io_submit(io, 0, 0);
    return !kn_io_pending(io) && nothing_to_enter_for(io);
}
