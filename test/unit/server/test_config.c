/* SPDX-License-Identifier: MIT */
#include "server/config.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "support/test.h"

/* The table of kino.h and SPEC.md, once more, so that a change in one place is seen. */
static const struct {
    const char *name;
    size_t offset;
    uint64_t initial;
    uint64_t smallest;
    uint64_t largest; /* KINO_OFF: no end */
} settings[] = {
#define SETTING(field, ...) {#field, offsetof(struct kino_config, field), __VA_ARGS__}
    SETTING(dispatch, KINO_DISPATCH_QUEUE, KINO_DISPATCH_QUEUE, KINO_DISPATCH_LANES),
    SETTING(loops, 1, 1, 1024),
    SETTING(queue_depth, 1024, 1, 1 << 20),
    SETTING(queue_timeout_ms, 5000, 1, KINO_OFF),
    SETTING(idle_timeout_ms, 60000, 1, KINO_OFF),
    SETTING(head_timeout_ms, 15000, 1, KINO_OFF),
    SETTING(body_timeout_ms, 30000, 1, KINO_OFF),
    SETTING(write_timeout_ms, 60000, 1, KINO_OFF),
    SETTING(request_timeout_ms, KINO_OFF, 1, KINO_OFF),
    SETTING(min_body_rate_bytes, 500, 1, KINO_OFF),
    SETTING(min_write_rate_bytes, 500, 1, KINO_OFF),
    SETTING(rate_grace_ms, 5000, 1, KINO_OFF),
    SETTING(max_head_bytes, 65536, 64, KINO_OFF),
    SETTING(max_fields, 128, 1, KINO_OFF),
    SETTING(max_field_bytes, 16384, 16, KINO_OFF),
    SETTING(max_target_bytes, 8192, 1, KINO_OFF),
    SETTING(max_body_bytes, 52428800, 1, KINO_OFF),
    SETTING(max_whole_body_bytes, 65536, 1, KINO_OFF),
    SETTING(max_chunk_line_bytes, 1024, 16, KINO_OFF),
    SETTING(max_trailer_bytes, 1024, 16, KINO_OFF),
    SETTING(max_pipelined, 16, 1, 1024),
#undef SETTING
};

enum {
    SETTINGS = sizeof(settings) / sizeof(settings[0]),
};

struct sink {
    int lines;
    int level;
    char last[256];
};

static void keep(void *context, int level, const char *line)
{
    struct sink *sink = context;

    sink->lines++;
    sink->level = level;
    snprintf(sink->last, sizeof(sink->last), "%s", line);
}

static uint64_t *field(struct kino_config *config, int setting)
{
    return (uint64_t *)(void *)((char *)config + settings[setting].offset);
}

static int resolve_with(int setting, uint64_t value, uint64_t *out, struct sink *sink)
{
    struct kino_config config = {.size = sizeof(config)};
    int rc;

    *sink = (struct sink){0};
    *field(&config, setting) = value;
    rc = kn_config_resolve(&config, &(struct kn_log){keep, sink});
    *out = *field(&config, setting);
    return rc;
}

Test(config, all_zero_is_the_defaults)
{
    struct kino_config config = {.size = sizeof(config)};
    struct sink sink = {0};

    cr_assert_eq(kn_config_resolve(&config, &(struct kn_log){keep, &sink}), 0);
    for (int i = 0; i < SETTINGS; i++)
        cr_assert_eq(*field(&config, i), settings[i].initial, "%s", settings[i].name);
    cr_assert_eq(sink.lines, 0);
}

Test(config, takes_both_ends_of_each_range)
{
    struct sink sink;
    uint64_t value;

    for (int i = 0; i < SETTINGS; i++) {
        cr_assert_eq(resolve_with(i, settings[i].smallest, &value, &sink), 0, "%s",
                     settings[i].name);
        cr_assert_eq(value, settings[i].smallest);
        cr_assert_eq(resolve_with(i, settings[i].largest, &value, &sink), 0, "%s",
                     settings[i].name);
        cr_assert_eq(value, settings[i].largest);
        cr_assert_eq(sink.lines, 0);
    }
}

static void assert_refused(int setting, uint64_t value)
{
    struct sink sink;
    uint64_t out;

    cr_assert_eq(resolve_with(setting, value, &out, &sink), KINO_INVALID, "%s",
                 settings[setting].name);
    cr_assert_eq(sink.lines, 1);
    cr_assert_eq(sink.level, KINO_LOG_ERROR);
    cr_assert_eq(strncmp(sink.last, settings[setting].name, strlen(settings[setting].name)), 0,
                 "the line names the setting: %s", sink.last);
}

Test(config, names_what_is_out_of_its_range)
{
    for (int i = 0; i < SETTINGS; i++) {
        if (settings[i].smallest > 1)
            assert_refused(i, settings[i].smallest - 1);
        if (settings[i].largest == KINO_OFF)
            continue;
        assert_refused(i, settings[i].largest + 1);
        assert_refused(i, KINO_OFF);
    }
}

Test(config, connections_default_to_four_fifths_of_the_descriptors)
{
    struct kino_config config = {.size = sizeof(config)};
    struct rlimit limit;
    struct rlimit lower;

    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    lower = (struct rlimit){.rlim_cur = 100, .rlim_max = limit.rlim_max};
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &lower), 0);
    cr_assert_eq(kn_config_resolve(&config, &(struct kn_log){0}), 0);
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    cr_assert_eq(config.max_connections, 80);
    config = (struct kino_config){.size = sizeof(config), .max_connections = KINO_OFF};
    cr_assert_eq(kn_config_resolve(&config, &(struct kn_log){0}), 0);
    cr_assert_eq(config.max_connections, KINO_OFF);
}

static int create(const void *config)
{
    struct kino_server *server = NULL;
    int rc = kino_server_create(config, &server);

    cr_assert_eq(rc == 0, server != NULL, "out is set on success only");
    cr_assert_eq(kino_server_destroy(server), 0);
    return rc;
}

Test(config, a_server_takes_structs_of_other_versions)
{
    struct {
        struct kino_config known;
        uint64_t tail[4];
    } longer = {.known.size = sizeof(longer)};
    struct kino_config shorter = {.size = offsetof(struct kino_config, queue_depth),
                                  .loops = 2,
                                  .queue_depth = KINO_OFF /* not there for the library */};

    cr_assert_eq(create(NULL), 0);
    cr_assert_eq(create(&longer), 0);
    longer.tail[3] = 1;
    cr_assert_eq(create(&longer), KINO_INVALID);
    cr_assert_eq(create(&shorter), 0);
    shorter.size = sizeof(shorter);
    cr_assert_eq(create(&shorter), KINO_INVALID);
    shorter.size = 0;
    cr_assert_eq(create(&shorter), KINO_INVALID);
}

Test(config, a_server_field_is_one_that_can_be_sent)
{
    char long_one[246];
    const struct {
        struct kino_slice value;
        int result;
    } rows[] = {
        {{NULL, 0}, 0},
        {{"", 0}, 0},
        {{"a/1.0 (b)", 9}, 0},
        {{"a\r\nb: c", 8}, KINO_INVALID},
        {{"a\nb", 3}, KINO_INVALID},
        {{"a\0b", 3}, KINO_INVALID},
        {{long_one, 245}, 0},
        {{long_one, 246}, KINO_INVALID},
        {{"a\x7f", 2}, KINO_INVALID},
    };

    memset(long_one, 'x', sizeof(long_one));
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct kino_config config = {.size = sizeof(config), .server_field = rows[i].value};

        cr_assert_eq(create(&config), rows[i].result, "row %zu", i);
    }
}
