/* SPDX-License-Identifier: MIT */
#include "io/probe.h"

#include "base/abi.h"
#include "io/io.h"
#include "kino.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const char disabled_sysctl[] = "/proc/sys/kernel/io_uring_disabled";

uint64_t kn_probe_disabled(void)
{
    static const struct {
        const char *name;
        uint64_t feature;
    } names[] = {
        {"all", UINT64_MAX},
        {"defer_taskrun", KINO_FEATURE_DEFER_TASKRUN},
        {"direct_descriptors", KINO_FEATURE_DIRECT_DESCRIPTORS},
        {"registered_ring", KINO_FEATURE_REGISTERED_RING},
        {"no_sqarray", KINO_FEATURE_NO_SQARRAY},
        {"no_iowait", KINO_FEATURE_NO_IOWAIT},
    };
    const char *text = getenv("KINO_IO_WITHOUT");
    uint64_t disabled = 0;

    while (text && *text) {
        const size_t len = strcspn(text, ",");

        for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
            if (strlen(names[i].name) == len && memcmp(names[i].name, text, len) == 0)
                disabled |= names[i].feature;
        text += len + (text[len] == ',');
    }
    return disabled;
}

/* The sysctl's value as a character: 0 open, 1 for the privileged, 2 off; '\0' where there is none,
 * which is so before Linux 6.6 and without io_uring. */
static char read_sysctl(void)
{
    int fd = open(disabled_sysctl, O_RDONLY | O_CLOEXEC);
    char value = '\0';

    if (fd < 0)
        return '\0';
    if (read(fd, &value, 1) != 1)
        value = '\0';
    close(fd);
    return value;
}

int kn_probe_explain(int rc)
{
    const char sysctl = rc == -EPERM || rc == -ENOSYS ? read_sysctl() : '\0';

    switch (rc) {
    case -EPERM:
        return sysctl == '1' || sysctl == '2' ? KINO_URING_DISABLED : KINO_URING_REFUSED;
    case -ENOSYS: /* some seccomp profiles say so too; then the sysctl is there */
        return sysctl ? KINO_URING_REFUSED : KINO_URING_MISSING;
    case -EINVAL:
        return KINO_KERNEL_TOO_OLD;
    default:
        return rc;
    }
}

static void remember(struct kn_op *op, const struct kn_completion *completion);

struct trial {
    struct kn_op op;
    struct kn_completion last;
    bool done;
};

static void remember(struct kn_op *op, const struct kn_completion *completion)
{
    struct trial *trial = (struct trial *)op;

    trial->last = *completion;
    trial->done = !completion->more;
}

/* Multishot receive into a buffer ring is the newest thing that a server cannot do without. */
static int try_receive(struct kn_io *io, const int pair[2])
{
    struct trial trial = {.op = {.fn = remember}};
    int result;

    if (write(pair[1], "x", 1) != 1)
        return -errno;
    kn_io_receive(io, &trial.op, (struct kn_file){.index = pair[0]});
    while (!trial.last.data && !trial.done) {
        kn_io_submit(io, 1, UINT64_MAX);
        kn_io_reap(io);
    }
    result = trial.last.result == 1 && trial.last.more ? 0 : KINO_KERNEL_TOO_OLD;
    shutdown(pair[1], SHUT_RDWR);
    while (!trial.done) {
        kn_io_submit(io, 1, UINT64_MAX);
        kn_io_reap(io);
    }
    return result;
}

int kn_probe_try(uint64_t *features)
{
    struct kn_io io;
    int pair[2];
    int rc = kn_io_init(&io, 1, false);

    if (rc < 0)
        return rc;
    *features = io.features;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
        rc = -errno;
    } else {
        rc = try_receive(&io, pair);
        close(pair[0]);
        close(pair[1]);
    }
    kn_io_deinit(&io);
    return rc;
}

int kino_probe(struct kino_probe_result *out)
{
    struct kino_probe_result result = {.size = sizeof(result)};

    if (!out)
        return KINO_INVALID;
    result.error = kn_probe_try(&result.features);
    return kn_abi_write(out, &result, sizeof(result));
}
