/* SPDX-License-Identifier: MIT */
#ifndef KN_SERVER_CONFIG_H
#define KN_SERVER_CONFIG_H

#include "base/log.h"
#include "kino.h"

/* Put the defaults where 0 stands. 0, or KINO_INVALID after a line that names the setting. */
int kn_config_resolve(struct kino_config *config, const struct kn_log *log);

#endif
