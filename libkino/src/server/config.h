/* SPDX-License-Identifier: MIT */
#ifndef KN_SERVER_CONFIG_H
#define KN_SERVER_CONFIG_H

#include "base/log.h"
#include "kino.h"

/* Copy a struct of the caller's that begins with its size. What the caller does not have is zero.
 * 0, or KINO_INVALID: it is longer than ours and its tail is not zero. */
int kn_config_read(void *out, size_t out_size, const void *in);

/* Put the defaults where 0 stands. 0, or KINO_INVALID after a line that names the setting. */
int kn_config_resolve(struct kino_config *config, const struct kn_log *log);

#endif
