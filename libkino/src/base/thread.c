/* SPDX-License-Identifier: MIT */
#include "base/thread.h"

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

int kn_thread_start(pthread_t *thread, const char *name, unsigned number, void *(*run)(void *),
                    void *argument)
{
    char text[32];

    snprintf(text, sizeof(text), "%s-%u", name, number);
    return kn_thread_start_named(thread, text, run, argument);
}

int kn_thread_start_named(pthread_t *thread, const char *name, void *(*run)(void *), void *argument)
{
    sigset_t all;
    sigset_t held;
    int rc;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &held);
    rc = pthread_create(thread, NULL, run, argument);
    pthread_sigmask(SIG_SETMASK, &held, NULL);
    if (rc != 0)
        return -rc;
    pthread_setname_np(*thread, name);
    return 0;
}

static _Thread_local pid_t own_id; /* 0: not looked up yet */

/* The thread that forked lives on in the child, as another one. */
static void forget_id(void)
{
    own_id = 0;
}

static void watch_forks(void)
{
    pthread_atfork(NULL, NULL, forget_id);
}

pid_t kn_thread_id(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    if (own_id == 0) {
        pthread_once(&once, watch_forks);
        own_id = gettid();
    }
    return own_id;
}
