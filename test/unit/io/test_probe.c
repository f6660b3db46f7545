/* SPDX-License-Identifier: MIT */
#include "io/probe.h"

#include "kino.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "support/test.h"

/* NULL: nothing is set. */
static void set_without(const char *text)
{
    if (text)
        setenv("KINO_IO_WITHOUT", text, 1);
    else
        unsetenv("KINO_IO_WITHOUT");
}

/* What these tests themselves are run with, to be put back. */
static char *own_without(void)
{
    const char *text = getenv("KINO_IO_WITHOUT");

    return text ? strdup(text) : NULL;
}

Test(probe, features_are_switched_off_by_name)
{
    char *own = own_without();
    static const struct {
        const char *text;
        uint64_t disabled;
    } cases[] = {
        {"", 0},
        {"all", UINT64_MAX},
        {"defer_taskrun", KINO_FEATURE_DEFER_TASKRUN},
        {"direct_descriptors", KINO_FEATURE_DIRECT_DESCRIPTORS},
        {"registered_ring", KINO_FEATURE_REGISTERED_RING},
        {"no_sqarray", KINO_FEATURE_NO_SQARRAY},
        {"no_iowait", KINO_FEATURE_NO_IOWAIT},
        {"no_iowait,no_sqarray", KINO_FEATURE_NO_IOWAIT | KINO_FEATURE_NO_SQARRAY},
        {",,no_iowait,", KINO_FEATURE_NO_IOWAIT},
        {"no_iowai", 0},
        {"no_iowaits", 0},
        {"NO_IOWAIT", 0},
        {"something,all", UINT64_MAX},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        set_without(cases[i].text);
        cr_assert_eq(kn_probe_disabled(), cases[i].disabled, "%s", cases[i].text);
    }
    set_without(NULL);
    cr_assert_eq(kn_probe_disabled(), 0);
    set_without(own);
    free(own);
}

/* Machines differ; the answer must fit this one. */
static char read_sysctl(void)
{
    char value = '\0';
    int fd = open("/proc/sys/kernel/io_uring_disabled", O_RDONLY);

    if (fd < 0 || read(fd, &value, 1) != 1)
        value = '\0';
    close(fd);
    return value;
}

Test(probe, what_setup_answers_is_explained_by_its_cause)
{
    const char sysctl = read_sysctl();
    const int forbidden = sysctl == '1' || sysctl == '2' ? KINO_URING_DISABLED : KINO_URING_REFUSED;

    cr_assert_eq(kn_probe_explain(-EPERM), forbidden);
    cr_assert_eq(kn_probe_explain(-ENOSYS), sysctl ? KINO_URING_REFUSED : KINO_URING_MISSING);
    cr_assert_eq(kn_probe_explain(-EINVAL), KINO_KERNEL_TOO_OLD);
    cr_assert_eq(kn_probe_explain(-ENOMEM), -ENOMEM);
    cr_assert_eq(kn_probe_explain(-EMFILE), -EMFILE);
}

static struct kino_probe_result probe(const char *without)
{
    struct kino_probe_result result = {.size = sizeof(result)};
    char *own = own_without();

    set_without(without);
    cr_assert_eq(kino_probe(&result), 0);
    set_without(own);
    free(own);
    if (result.error)
        cr_skip_test("%s", kino_strerror((int)result.error));
    return result;
}

Test(probe, finds_no_feature_that_is_switched_off)
{
    static const struct {
        const char *name;
        uint64_t feature;
    } names[] = {
        {"defer_taskrun", KINO_FEATURE_DEFER_TASKRUN},
        {"direct_descriptors", KINO_FEATURE_DIRECT_DESCRIPTORS},
        {"registered_ring", KINO_FEATURE_REGISTERED_RING},
        {"no_sqarray", KINO_FEATURE_NO_SQARRAY},
        {"no_iowait", KINO_FEATURE_NO_IOWAIT},
    };
    const uint64_t all = probe(NULL).features;

    cr_assert_eq(probe("all").features, 0);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        cr_assert_eq(probe(names[i].name).features, all & ~names[i].feature, "%s", names[i].name);
}

Test(probe, fills_as_much_as_the_caller_has)
{
    struct {
        struct kino_probe_result known;
        uint64_t tail;
    } larger = {.known.size = sizeof(larger), .tail = 1};
    struct kino_probe_result result = {.size = 2 * sizeof(uint64_t), .features = 12345};

    cr_assert_eq(kino_probe(&result), 0);
    cr_assert_eq(result.size, 2 * sizeof(uint64_t));
    cr_assert_eq(result.features, 12345, "behind the caller's end");
    cr_assert_eq(kino_probe(&larger.known), 0);
    cr_assert_eq(larger.known.size, sizeof(struct kino_probe_result), "what the library knew");
    cr_assert_eq(larger.tail, 0);
    result.size = 0;
    cr_assert_eq(kino_probe(&result), KINO_INVALID);
    cr_assert_eq(kino_probe(NULL), KINO_INVALID);
}

static int count_descriptors(void)
{
    int count = 0;

    for (int fd = 0; fd < 256; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

Test(probe, leaves_no_descriptor_open)
{
    const int before = count_descriptors();

    for (int i = 0; i < 10; i++)
        probe(NULL);
    cr_assert_eq(count_descriptors(), before);
}
