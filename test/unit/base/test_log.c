/* SPDX-License-Identifier: MIT */
#include "base/log.h"

#include <string.h>

#include "support/test.h"

enum {
    LONG_LINE = 2000,
};

struct sink {
    int lines;
    int level;
    char last[LONG_LINE + 1];
};

static void keep(void *context, int level, const char *line)
{
    struct sink *sink = context;

    sink->lines++;
    sink->level = level;
    strncpy(sink->last, line, LONG_LINE);
}

Test(log, hands_over_one_formatted_line_with_its_level)
{
    struct sink sink = {0};
    const struct kn_log log = {keep, &sink};

    kn_log(&log, KINO_LOG_WARNING, "loop %u: %s", 3u, "no memory");
    cr_assert_eq(sink.lines, 1);
    cr_assert_eq(sink.level, KINO_LOG_WARNING);
    cr_assert_str_eq(sink.last, "loop 3: no memory");
}

Test(log, without_a_callback_is_silent)
{
    kn_log(&(struct kn_log){0}, KINO_LOG_ERROR, "nobody hears %d", 1);
}

Test(log, cuts_a_line_that_is_too_long)
{
    static char text[LONG_LINE + 1];
    struct sink sink = {0};
    const struct kn_log log = {keep, &sink};

    memset(text, 'x', LONG_LINE);
    kn_log(&log, KINO_LOG_INFO, "%s", text);
    cr_assert_eq(sink.lines, 1);
    cr_assert_gt(strlen(sink.last), 100);
    cr_assert_lt(strlen(sink.last), LONG_LINE);
    cr_assert_eq(strspn(sink.last, "x"), strlen(sink.last));
}
