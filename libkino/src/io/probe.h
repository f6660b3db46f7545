/* SPDX-License-Identifier: MIT */
#ifndef KN_IO_PROBE_H
#define KN_IO_PROBE_H

#include <stdint.h>

/* Optional features that the environment variable KINO_IO_WITHOUT switches off, for tests: names of
 * enum kino_feature without the prefix, in lower case, joined by commas; or "all". Any thread. */
uint64_t kn_probe_disabled(void);

/* Turn what io_uring_setup answered into the code that names its cause. */
int kn_probe_explain(int rc);

/* Make a ring, receive one byte as a server would, and close it. 0, or what kn_io_init says. */
int kn_probe_try(uint64_t *features);

#endif
