/* SPDX-License-Identifier: MIT */
#include "server/config.h"

#include <inttypes.h>
#include <sys/resource.h>

struct setting {
    const char *name;
    size_t offset;
    uint64_t initial;
    uint64_t smallest;
    uint64_t largest; /* UINT64_MAX: KINO_OFF is allowed */
};

#define SETTING(field, initial, smallest, largest)                                                 \
    {#field, offsetof(struct kino_config, field), initial, smallest, largest}

static const struct setting settings[] = {
    SETTING(dispatch, KINO_DISPATCH_QUEUE, KINO_DISPATCH_QUEUE, KINO_DISPATCH_LANES),
    SETTING(loops, 1, 1, 1024),
    SETTING(queue_depth, 1024, 1, 1 << 20),
    SETTING(queue_timeout_ms, 5000, 1, UINT64_MAX),
    SETTING(idle_timeout_ms, 60000, 1, UINT64_MAX),
    SETTING(head_timeout_ms, 15000, 1, UINT64_MAX),
    SETTING(body_timeout_ms, 30000, 1, UINT64_MAX),
    SETTING(write_timeout_ms, 60000, 1, UINT64_MAX),
    SETTING(request_timeout_ms, KINO_OFF, 1, UINT64_MAX),
    SETTING(min_body_rate_bytes, 500, 1, UINT64_MAX),
    SETTING(min_write_rate_bytes, 500, 1, UINT64_MAX),
    SETTING(rate_grace_ms, 5000, 1, UINT64_MAX),
    SETTING(max_connections, 0, 1, UINT64_MAX),
    SETTING(max_head_bytes, 65536, 64, UINT64_MAX),
    SETTING(max_fields, 128, 1, UINT64_MAX),
    SETTING(max_field_bytes, 16384, 16, UINT64_MAX),
    SETTING(max_target_bytes, 8192, 1, UINT64_MAX),
    SETTING(max_body_bytes, 52428800, 1, UINT64_MAX),
    SETTING(max_whole_body_bytes, 65536, 1, UINT64_MAX),
    SETTING(max_chunk_line_bytes, 1024, 16, UINT64_MAX),
    SETTING(max_trailer_bytes, 1024, 16, UINT64_MAX),
    SETTING(max_pipelined, 16, 1, 1024),
};

static uint64_t default_max_connections(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY)
        return KINO_OFF;
    return limit.rlim_cur < 5 ? 1 : limit.rlim_cur / 5 * 4;
}

int kn_config_resolve(struct kino_config *config, const struct kn_log *log)
{
    for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++) {
        const struct setting *setting = &settings[i];
        uint64_t *value = (uint64_t *)(void *)((char *)config + setting->offset);

        if (*value == 0)
            *value = setting->initial;
        else if (*value < setting->smallest || *value > setting->largest) {
            kn_log(log, KINO_LOG_ERROR, "%s is %" PRIu64 ": it must lie in %" PRIu64 " .. %" PRIu64,
                   setting->name, *value, setting->smallest, setting->largest);
            return KINO_INVALID;
        }
    }
    if (config->max_connections == 0)
        config->max_connections = default_max_connections();
    return 0;
}
