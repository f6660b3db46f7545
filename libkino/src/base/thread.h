/* SPDX-License-Identifier: MIT */
#ifndef KN_BASE_THREAD_H
#define KN_BASE_THREAD_H

#include <pthread.h>
#include <sys/types.h>

/* Start a thread of the library's own: named `name`-`number`, and deaf to signals. 0 or -errno. */
int kn_thread_start(pthread_t *thread, const char *name, unsigned number, void *(*run)(void *),
                    void *argument);
/* The same, of which there is one: named as it is. At most 15 bytes. */
int kn_thread_start_named(pthread_t *thread, const char *name, void *(*run)(void *),
                          void *argument);

/* The calling thread's number in the kernel; looked up once for each thread. */
pid_t kn_thread_id(void);

#endif
