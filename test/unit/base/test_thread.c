/* SPDX-License-Identifier: MIT */
#include "base/thread.h"

#include <sys/wait.h>
#include <unistd.h>

#include "support/test.h"

static void *read_id(void *context)
{
    *(pid_t *)context = kn_thread_id();
    return NULL;
}

Test(thread, each_has_its_own_id)
{
    pthread_t thread;
    pid_t other;

    cr_assert_eq(kn_thread_id(), gettid());
    cr_assert_eq(pthread_create(&thread, NULL, read_id, &other), 0);
    pthread_join(thread, NULL);
    cr_assert_neq(other, kn_thread_id());
    cr_assert_eq(kn_thread_id(), gettid(), "also when it is asked again");
}

Test(thread, a_child_has_another_id_than_its_parent)
{
    int status;
    pid_t child;

    cr_assert_eq(kn_thread_id(), gettid());
    child = fork();
    if (child == 0)
        _exit(kn_thread_id() == gettid() ? 0 : 1);
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert_eq(status, 0);
    cr_assert_eq(kn_thread_id(), gettid());
}
