/* SPDX-License-Identifier: MIT */
#include "server/access_line.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/test.h"

/* 2026-11-24T14:49:03.042Z */
static const uint64_t a_time_ms = UINT64_C(1795531743042);

static struct kino_slice slice(const char *text)
{
    return (struct kino_slice){text, strlen(text)};
}

static struct kn_access_entry plain_entry(void)
{
    return (struct kn_access_entry){
        .peer = slice("192.0.2.1"),
        .method = slice("GET"),
        .target = slice("/a?b=c"),
        .referer = slice("http://example.org/"),
        .user_agent = slice("curl/8.0 (x; y)"),
        .time_ms = a_time_ms,
        .bytes = 1234,
        .duration_us = 1250,
        .queue_us = 40,
        .version = KINO_HTTP_1_1,
        .status = 200,
    };
}

/* An entry of which nothing is known but the time. */
static struct kn_access_entry empty_entry(void)
{
    return (struct kn_access_entry){
        .time_ms = a_time_ms, .duration_us = KINO_OFF, .queue_us = KINO_OFF};
}

/* The line, NUL-terminated in a block of just its size, so that a sanitizer sees what is beyond.
 * Freed by the caller. */
static char *line_of(enum kino_access_format format, bool color,
                     const struct kn_access_entry *entry)
{
    char *out = malloc(KN_ACCESS_LINE_MOST);
    const size_t len = kn_access_line(out, format, color, entry);
    char *text;

    cr_assert_leq(len, KN_ACCESS_LINE_MOST);
    cr_assert_eq(out[len - 1], '\n');
    cr_assert_null(memchr(out, '\n', len - 1), "a line is one line");
    for (size_t i = 0; i + 1 < len; i++)
        cr_assert((out[i] >= 0x20 && out[i] <= 0x7e) || (color && out[i] == '\033'), "byte %zu", i);
    text = strndup(out, len);
    free(out);
    return text;
}

static void assert_line(enum kino_access_format format, const struct kn_access_entry *entry,
                        const char *expected)
{
    char *line = line_of(format, false, entry);

    cr_assert_str_eq(line, expected, "%s", line);
    free(line);
}

Test(access_line, common)
{
    struct kn_access_entry entry = plain_entry();

    assert_line(KINO_ACCESS_COMMON, &entry,
                "192.0.2.1 - - [24/Nov/2026:14:49:03 +0000] \"GET /a?b=c HTTP/1.1\" 200 1234\n");
    entry.version = KINO_HTTP_1_0;
    entry.bytes = 0;
    entry.status = 404;
    entry.peer = slice("2001:db8::1");
    assert_line(KINO_ACCESS_COMMON, &entry,
                "2001:db8::1 - - [24/Nov/2026:14:49:03 +0000] \"GET /a?b=c HTTP/1.0\" 404 0\n");
}

Test(access_line, combined)
{
    const struct kn_access_entry entry = plain_entry();

    assert_line(KINO_ACCESS_COMBINED, &entry,
                "192.0.2.1 - - [24/Nov/2026:14:49:03 +0000] \"GET /a?b=c HTTP/1.1\" 200 1234 "
                "\"http://example.org/\" \"curl/8.0 (x; y)\"\n");
}

Test(access_line, json)
{
    const struct kn_access_entry entry = plain_entry();

    assert_line(KINO_ACCESS_JSON, &entry,
                "{\"time\":\"2026-11-24T14:49:03.042Z\",\"peer\":\"192.0.2.1\",\"method\":\"GET\","
                "\"target\":\"/a?b=c\",\"version\":\"HTTP/1.1\",\"status\":200,\"bytes\":1234,"
                "\"duration_us\":1250,\"queue_us\":40,\"referer\":\"http://example.org/\","
                "\"user_agent\":\"curl/8.0 (x; y)\"}\n");
}

Test(access_line, short_for_people)
{
    const struct kn_access_entry entry = plain_entry();

    assert_line(KINO_ACCESS_SHORT, &entry, "200 GET /a?b=c 1.2ms\n");
}

Test(access_line, short_durations_have_units)
{
    static const struct {
        uint64_t us;
        const char *line;
    } cases[] = {
        {0, "200 GET / 0us\n"},        {999, "200 GET / 999us\n"},
        {1000, "200 GET / 1.0ms\n"},   {999999, "200 GET / 999.9ms\n"},
        {1000000, "200 GET / 1.0s\n"}, {61250000, "200 GET / 61.2s\n"},
        {KINO_OFF, "200 GET / -\n"},
    };
    struct kn_access_entry entry = plain_entry();

    entry.target = slice("/");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        entry.duration_us = cases[i].us;
        assert_line(KINO_ACCESS_SHORT, &entry, cases[i].line);
    }
}

Test(access_line, colours_follow_the_status)
{
    static const struct {
        uint32_t status;
        const char *line;
    } cases[] = {
        {101, "\033[36m101\033[0m GET / 1.2ms\n"}, {204, "\033[32m204\033[0m GET / 1.2ms\n"},
        {304, "\033[36m304\033[0m GET / 1.2ms\n"}, {404, "\033[33m404\033[0m GET / 1.2ms\n"},
        {500, "\033[31m500\033[0m GET / 1.2ms\n"}, {0, "\033[31m-\033[0m GET / 1.2ms\n"},
    };
    struct kn_access_entry entry = plain_entry();

    entry.target = slice("/");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char *line;

        entry.status = cases[i].status;
        line = line_of(KINO_ACCESS_SHORT, true, &entry);
        cr_assert_str_eq(line, cases[i].line);
        free(line);
    }
}

Test(access_line, only_the_short_format_has_colours)
{
    const struct kn_access_entry entry = plain_entry();

    for (int format = KINO_ACCESS_COMMON; format <= KINO_ACCESS_JSON; format++) {
        char *plain = line_of((enum kino_access_format)format, false, &entry);
        char *colored = line_of((enum kino_access_format)format, true, &entry);

        cr_assert_str_eq(plain, colored);
        free(plain);
        free(colored);
    }
}

Test(access_line, what_is_absent_is_a_dash_or_null)
{
    struct kn_access_entry entry = empty_entry();

    assert_line(KINO_ACCESS_COMMON, &entry, "- - - [24/Nov/2026:14:49:03 +0000] \"-\" - 0\n");
    assert_line(KINO_ACCESS_COMBINED, &entry,
                "- - - [24/Nov/2026:14:49:03 +0000] \"-\" - 0 \"-\" \"-\"\n");
    assert_line(KINO_ACCESS_JSON, &entry,
                "{\"time\":\"2026-11-24T14:49:03.042Z\",\"peer\":null,\"method\":null,"
                "\"target\":null,\"version\":null,\"status\":null,\"bytes\":0,"
                "\"duration_us\":null,\"queue_us\":null,\"referer\":null,\"user_agent\":null}\n");
    assert_line(KINO_ACCESS_SHORT, &entry, "- - - -\n");
    entry.method = slice("GET");
    entry.status = 400;
    assert_line(KINO_ACCESS_COMMON, &entry, "- - - [24/Nov/2026:14:49:03 +0000] \"GET\" 400 0\n");
    entry.target = slice("");
    entry.referer = slice("");
    entry.user_agent = slice("");
    assert_line(KINO_ACCESS_COMBINED, &entry,
                "- - - [24/Nov/2026:14:49:03 +0000] \"GET \" 400 0 \"\" \"\"\n");
}

/* Each byte, alone: as it is, or as what may stand for it. */
Test(access_line, every_byte_is_harmless)
{
    for (unsigned byte = 0; byte < 256; byte++) {
        const bool plain = byte >= 0x20 && byte <= 0x7e && byte != '"' && byte != '\\';
        const char value = (char)byte;
        struct kn_access_entry entry = empty_entry();
        char expected[64];
        char *line;

        entry.target = (struct kino_slice){&value, 1};
        if (plain)
            snprintf(expected, sizeof(expected), "- - %c -\n", byte);
        else
            snprintf(expected, sizeof(expected), "- - \\x%02X -\n", byte);
        assert_line(KINO_ACCESS_SHORT, &entry, expected);
        line = line_of(KINO_ACCESS_JSON, false, &entry);
        if (byte == '"' || byte == '\\')
            snprintf(expected, sizeof(expected), ",\"target\":\"\\%c\",", byte);
        else if (plain)
            snprintf(expected, sizeof(expected), ",\"target\":\"%c\",", byte);
        else
            snprintf(expected, sizeof(expected), ",\"target\":\"\\u%04X\",", byte);
        cr_assert_not_null(strstr(line, expected), "0x%02x: %s", byte, line);
        free(line);
    }
}

Test(access_line, nobody_writes_a_line_of_his_own)
{
    struct kn_access_entry entry = plain_entry();

    entry.target = slice("/\" 200 5\n1.2.3.4 - -");
    entry.referer = slice("\033[2J\x7f");
    entry.user_agent = slice("caf\xc3\xa9 \\\" \xff\t");
    assert_line(KINO_ACCESS_COMBINED, &entry,
                "192.0.2.1 - - [24/Nov/2026:14:49:03 +0000] "
                "\"GET /\\x22 200 5\\x0A1.2.3.4 - - HTTP/1.1\" 200 1234 "
                "\"\\x1B[2J\\x7F\" \"caf\\xC3\\xA9 \\x5C\\x22 \\xFF\\x09\"\n");
    assert_line(KINO_ACCESS_JSON, &entry,
                "{\"time\":\"2026-11-24T14:49:03.042Z\",\"peer\":\"192.0.2.1\",\"method\":\"GET\","
                "\"target\":\"/\\\" 200 5\\u000A1.2.3.4 - -\",\"version\":\"HTTP/1.1\","
                "\"status\":200,\"bytes\":1234,\"duration_us\":1250,\"queue_us\":40,"
                "\"referer\":\"\\u001B[2J\\u007F\","
                "\"user_agent\":\"caf\\u00C3\\u00A9 \\\\\\\" \\u00FF\\u0009\"}\n");
}

/* Long values */

Test(access_line, a_value_that_just_fits_is_whole_and_a_longer_one_is_cut)
{
    char value[KN_ACCESS_VALUE_MOST];
    struct kn_access_entry entry = empty_entry();
    char *line;

    memset(value, 'a', sizeof(value));
    entry.target = (struct kino_slice){value, KN_ACCESS_VALUE_MOST - 3};
    line = line_of(KINO_ACCESS_SHORT, false, &entry);
    cr_assert_eq(strlen(line), KN_ACCESS_VALUE_MOST - 3 + strlen("- -  -\n"));
    cr_assert_null(strstr(line, "..."));
    free(line);
    entry.target.len++;
    line = line_of(KINO_ACCESS_SHORT, false, &entry);
    cr_assert_eq(strlen(line), KN_ACCESS_VALUE_MOST + strlen("- -  -\n"));
    cr_assert_not_null(strstr(line, "aa... -\n"));
    free(line);
}

/* Does the text hold the next thing? Then go past it. */
static bool passes(const char **at, const char *text)
{
    if (strncmp(*at, text, strlen(text)) != 0)
        return false;
    *at += strlen(text);
    return true;
}

/* Go past a JSON string (RFC 8259 7), quotes and all. */
static bool passes_string(const char **at)
{
    if (!passes(at, "\""))
        return false;
    while (**at != '"') {
        if (**at < 0x20 || **at > 0x7e)
            return false;
        if (**at != '\\') {
            ++*at;
        } else if ((*at)[1] == 'u') {
            if (strspn(*at + 2, "0123456789ABCDEF") < 4)
                return false;
            *at += 6;
        } else if ((*at)[1] == '"' || (*at)[1] == '\\') {
            *at += 2;
        } else {
            return false;
        }
    }
    return passes(at, "\"");
}

/* Every piece of an escape might be what is cut. */
Test(access_line, a_cut_line_of_json_is_still_json)
{
    static const char fill[] = {'a', '"', '\n', '\xc3'};
    static char value[3 * KN_ACCESS_VALUE_MOST];

    for (size_t i = 0; i < sizeof(fill); i++) {
        for (size_t shift = 0; shift < 8; shift++) {
            struct kn_access_entry entry = plain_entry();
            char *line;
            const char *at;

            memset(value, fill[i], sizeof(value));
            memset(value, 'b', shift);
            entry.peer = (struct kino_slice){value, sizeof(value)};
            entry.method = entry.target = entry.referer = entry.user_agent = entry.peer;
            entry.bytes = entry.duration_us = entry.queue_us = UINT64_MAX - 1;
            line = line_of(KINO_ACCESS_JSON, false, &entry);
            at = line;
            cr_assert(passes(&at, "{\"time\":") && passes_string(&at));
            cr_assert(passes(&at, ",\"peer\":") && passes_string(&at));
            cr_assert(passes(&at, ",\"method\":") && passes_string(&at));
            cr_assert(passes(&at, ",\"target\":") && passes_string(&at));
            cr_assert(passes(&at, ",\"version\":") && passes_string(&at));
            cr_assert(passes(&at, ",\"status\":200,\"bytes\":18446744073709551614"
                                  ",\"duration_us\":18446744073709551614"
                                  ",\"queue_us\":18446744073709551614"));
            cr_assert(passes(&at, ",\"referer\":") && passes_string(&at));
            cr_assert(passes(&at, ",\"user_agent\":") && passes_string(&at));
            cr_assert_str_eq(at, "}\n");
            free(line);
        }
    }
}

Test(access_line, the_longest_line_fits_in_every_format)
{
    static char value[3 * KN_ACCESS_VALUE_MOST];
    struct kn_access_entry entry = plain_entry();

    memset(value, 1, sizeof(value));
    entry.peer = (struct kino_slice){value, sizeof(value)};
    entry.method = entry.target = entry.referer = entry.user_agent = entry.peer;
    entry.bytes = entry.duration_us = entry.queue_us = UINT64_MAX - 1;
    entry.version = entry.status = UINT32_MAX;
    for (int format = KINO_ACCESS_COMMON; format <= KINO_ACCESS_SHORT; format++)
        free(line_of((enum kino_access_format)format, true, &entry));
}

/* Time */

Test(access_line, the_time_of_a_line_is_its_own)
{
    static const struct {
        uint64_t ms;
        const char *common;
        const char *json;
    } cases[] = {
        {0, "[01/Jan/1970:00:00:00 +0000]", "\"1970-01-01T00:00:00.000Z\""},
        {999, "[01/Jan/1970:00:00:00 +0000]", "\"1970-01-01T00:00:00.999Z\""},
        {1000, "[01/Jan/1970:00:00:01 +0000]", "\"1970-01-01T00:00:01.000Z\""},
        {951782400000, "[29/Feb/2000:00:00:00 +0000]", "\"2000-02-29T00:00:00.000Z\""},
        {4102444799005, "[31/Dec/2099:23:59:59 +0000]", "\"2099-12-31T23:59:59.005Z\""},
        {999, "[01/Jan/1970:00:00:00 +0000]", "\"1970-01-01T00:00:00.999Z\""},
    };

    setenv("TZ", "America/New_York", 1);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct kn_access_entry entry = empty_entry();
        char *line;

        entry.time_ms = cases[i].ms;
        line = line_of(KINO_ACCESS_COMMON, false, &entry);
        cr_assert_not_null(strstr(line, cases[i].common), "%s", line);
        free(line);
        line = line_of(KINO_ACCESS_JSON, false, &entry);
        cr_assert_not_null(strstr(line, cases[i].json), "%s", line);
        free(line);
    }
    unsetenv("TZ");
}
