/* SPDX-License-Identifier: MIT */
/* The kernel as a source of completions. One implementation so far: uring.c. */
#ifndef KN_IO_IO_H
#define KN_IO_IO_H

#include <liburing.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

enum {
    KN_IO_ENTRIES = 512,         /* of the submission queue */
    KN_IO_COMPLETIONS = 4096,    /* four a submission, and more than twice the buffers */
    KN_IO_BUFFERS = 256,         /* that receives share; a power of two */
    KN_IO_BUFFER_BYTES = 4096,   /* each */
    KN_IO_REAP_MOST = 256,       /* completions handled in one turn */
    KN_IO_SEND_MOST = 256 << 10, /* bytes in one send, so that each completion is progress */
};

/* How an operation went on. `data` is borrowed for the callback. */
struct kn_completion {
    int result;       /* bytes or a descriptor; or -errno */
    bool more;        /* the operation stays in flight */
    const char *data; /* a receive's bytes */
};

struct kn_op;
typedef void (*kn_op_fn)(struct kn_op *op, const struct kn_completion *completion);

/* An operation, embedded in its owner, which may be freed only when none of its own is in flight.
 * Every started operation completes: `fn` is called until one call has `more` false. */
struct kn_op {
    kn_op_fn fn;
    struct kn_op *next_failed; /* in kn_io.failed */
#ifdef KN_FAULTS
    int fault; /* it ends with this, since that was planned; else 0 */
#endif
};

/* A descriptor, or a place in the ring's table of them. */
struct kn_file {
    int index;
    bool direct;
};

/* A ring and its buffers. Driver-only: one thread makes, uses and ends it, unless it was made to
 * migrate. */
struct kn_io {
    struct io_uring ring;
    struct io_uring_buf_ring *buffer_ring;
    char *buffers;
    int *free_slots; /* of the descriptor table; a stack. NULL: there is no table */
    unsigned free_slot_count;
    int buffers_returned; /* since they were last shown to the kernel */
    struct kn_op *failed; /* could not be submitted; completed by the next reap */
    uint64_t features;    /* enum kino_feature */
    bool paused;          /* the reap at hand ends with the completion at hand */
    int event_fd;         /* that the kernel writes; -1: nobody has asked for it */
    bool initialised;
};

/* Make a ring, with each optional feature that the kernel grants. `table` is how many descriptors
 * it can hold directly. 0; KINO_URING_*, KINO_KERNEL_TOO_OLD, -ENOMEM or another -errno. */
int kn_io_init(struct kn_io *io, unsigned table, bool migrates);
/* No operation may be in flight. */
void kn_io_deinit(struct kn_io *io);
/* When the thread that drove the ring cannot: unmap and close it. In a child of the maker's process
 * the parent's goes on. Buffers stay mapped, since the kernel may still write there. */
void kn_io_forget(struct kn_io *io);

/* Start an operation. Cannot fail: what the kernel does not take completes with -errno. */
void kn_io_accept(struct kn_io *io, struct kn_op *op, int listening_fd); /* multishot */
void kn_io_poll(struct kn_io *io, struct kn_op *op, int fd);             /* multishot, readable */
void kn_io_receive(struct kn_io *io, struct kn_op *op, struct kn_file file); /* multishot */
void kn_io_send(struct kn_io *io, struct kn_op *op, struct kn_file file, const char *data,
                size_t len);
/* `message` and what it names are borrowed until the completion. */
void kn_io_send_vectors(struct kn_io *io, struct kn_op *op, struct kn_file file,
                        const struct msghdr *message);
/* From a descriptor of the process, a regular file's. */
void kn_io_read(struct kn_io *io, struct kn_op *op, int descriptor, char *data, size_t len,
                uint64_t offset);
/* Completes when CLOCK_MONOTONIC is there; `at` is borrowed until the next submit. */
void kn_io_alarm(struct kn_io *io, struct kn_op *op, const struct __kernel_timespec *at);
/* Have an alarm in flight complete then. */
void kn_io_move_alarm(struct kn_io *io, const struct kn_op *op, struct __kernel_timespec *at);
void kn_io_shutdown(struct kn_io *io, struct kn_op *op, struct kn_file file);
void kn_io_close(struct kn_io *io, struct kn_op *op, struct kn_file file);
/* Have the close that follows reset the connection, so that the kernel keeps nothing for it. Before
 * Linux 6.7 it does only where the descriptor is not in the ring's table. */
void kn_io_reset_at_close(struct kn_io *io, struct kn_file file);
/* Make an operation in flight end soon; it completes as it would, or with -ECANCELED. */
void kn_io_cancel(struct kn_io *io, const struct kn_op *op);

/* Take over an accepted descriptor: into the ring's table where there is room, else as it is. */
struct kn_file kn_io_adopt(struct kn_io *io, int fd);
/* A file's close has completed: its place in the table is free. */
void kn_io_closed(struct kn_io *io, struct kn_file file);

/* Hand what was started to the kernel, and wait for `count` completions (0: do not) until
 * `timeout_ns` from now has passed (UINT64_MAX: no end). 0, or -EINTR, or what else the kernel
 * says. */
int kn_io_submit(struct kn_io *io, unsigned count, uint64_t timeout_ns);

/* Call back for at most KN_IO_REAP_MOST completions. Returns how many. */
unsigned kn_io_reap(struct kn_io *io);
/* In a callback: leave what follows to the next reap. */
void kn_io_pause(struct kn_io *io);

/* An eventfd that the kernel writes for what completes after kn_io_rest, and nobody reads; or
 * -errno. */
int kn_io_fd(struct kn_io *io);
/* Submit, and leave the ring to that descriptor. False: something has completed already. */
bool kn_io_rest(struct kn_io *io);

/* Are completions left to be reaped? */
bool kn_io_pending(struct kn_io *io);

#endif
