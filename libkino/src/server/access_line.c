/* SPDX-License-Identifier: MIT */
#include "server/access_line.h"

#include <assert.h>
#include <string.h>
#include <time.h>

enum {
    MS_PER_S = 1000,
    US_PER_MS = 1000,
    US_PER_S = 1000000,
    COMMON_TIME_LEN = 26, /* 06/Nov/1994:08:49:37 +0000 */
    JSON_TIME_LEN = 19,   /* 1994-11-06T08:49:37 */
    CUT_LEN = 3,
};

static const char cut[] = "...";

/* How bytes that could end a value, or mislead a terminal, are written. */
enum escape {
    ESCAPE_HEX,  /* \x1B */
    ESCAPE_JSON, /* \u001B, and \" and \\ */
};

/* A line that is being written. Each put_ advances `at`; the sizes of all values are bounded, so
 * that the whole is. */
struct line {
    char *at;
    const char *end;
};

static void put_bytes(struct line *line, const char *data, size_t len)
{
    assert(len <= (size_t)(line->end - line->at));
    memcpy(line->at, data, len);
    line->at += len;
}

static void put_text(struct line *line, const char *text)
{
    put_bytes(line, text, strlen(text));
}

static void put_number(struct line *line, uint64_t number)
{
    char digits[20];
    char *at = digits + sizeof(digits);

    do {
        *--at = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    put_bytes(line, at, (size_t)(digits + sizeof(digits) - at));
}

static void write_digits(char *at, unsigned count, uint64_t number)
{
    while (count > 0) {
        at[--count] = (char)('0' + number % 10);
        number /= 10;
    }
}

/* Values of others */

static bool is_plain(unsigned char byte)
{
    return byte >= 0x20 && byte <= 0x7e && byte != '"' && byte != '\\';
}

/* Write one byte as what stands for it. Returns the length. */
static size_t escape_byte(char out[6], unsigned char byte, enum escape escape)
{
    static const char digits[] = "0123456789ABCDEF";
    size_t len = 0;

    if (is_plain(byte)) {
        out[0] = (char)byte;
        return 1;
    }
    out[len++] = '\\';
    if (escape == ESCAPE_JSON && (byte == '"' || byte == '\\')) {
        out[len++] = (char)byte;
        return len;
    }
    if (escape == ESCAPE_JSON) {
        memcpy(out + len, "u00", 3);
        len += 3;
    } else {
        out[len++] = 'x';
    }
    out[len++] = digits[byte >> 4];
    out[len++] = digits[byte & 0xf];
    return len;
}

/* The value, or as much of it as there is room for, and then a mark. */
static void put_escaped(struct line *line, struct kino_slice value, enum escape escape)
{
    const char *end = line->at + KN_ACCESS_VALUE_MOST - CUT_LEN;

    for (size_t i = 0; i < value.len; i++) {
        char bytes[6];
        const size_t len = escape_byte(bytes, (unsigned char)value.data[i], escape);

        if (len > (size_t)(end - line->at)) {
            put_bytes(line, cut, CUT_LEN);
            return;
        }
        put_bytes(line, bytes, len);
    }
}

static void put_value(struct line *line, struct kino_slice value)
{
    if (value.data)
        put_escaped(line, value, ESCAPE_HEX);
    else
        put_text(line, "-");
}

static void put_quoted(struct line *line, struct kino_slice value)
{
    put_text(line, "\"");
    put_value(line, value);
    put_text(line, "\"");
}

/* Times. A second is formatted once on each thread. */

static struct tm utc(uint64_t second)
{
    const time_t time = (time_t)second;
    struct tm tm = {0};

    gmtime_r(&time, &tm);
    return tm;
}

static void put_common_time(struct line *line, uint64_t time_ms)
{
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    static _Thread_local struct {
        uint64_t second;
        char text[COMMON_TIME_LEN];
    } cached = {UINT64_MAX, {0}};

    if (cached.second != time_ms / MS_PER_S) {
        const struct tm tm = utc(time_ms / MS_PER_S);

        cached.second = time_ms / MS_PER_S;
        memcpy(cached.text, "06/Nov/1994:08:49:37 +0000", COMMON_TIME_LEN);
        write_digits(cached.text, 2, (uint64_t)tm.tm_mday);
        memcpy(cached.text + 3, months + (size_t)tm.tm_mon * 3, 3);
        write_digits(cached.text + 7, 4, (uint64_t)tm.tm_year + 1900);
        write_digits(cached.text + 12, 2, (uint64_t)tm.tm_hour);
        write_digits(cached.text + 15, 2, (uint64_t)tm.tm_min);
        write_digits(cached.text + 18, 2, (uint64_t)tm.tm_sec);
    }
    put_bytes(line, cached.text, COMMON_TIME_LEN);
}

/* RFC 3339, with milliseconds. */
static void put_json_time(struct line *line, uint64_t time_ms)
{
    static _Thread_local struct {
        uint64_t second;
        char text[JSON_TIME_LEN];
    } cached = {UINT64_MAX, {0}};
    char ms[3];

    if (cached.second != time_ms / MS_PER_S) {
        const struct tm tm = utc(time_ms / MS_PER_S);

        cached.second = time_ms / MS_PER_S;
        memcpy(cached.text, "1994-11-06T08:49:37", JSON_TIME_LEN);
        write_digits(cached.text, 4, (uint64_t)tm.tm_year + 1900);
        write_digits(cached.text + 5, 2, (uint64_t)tm.tm_mon + 1);
        write_digits(cached.text + 8, 2, (uint64_t)tm.tm_mday);
        write_digits(cached.text + 11, 2, (uint64_t)tm.tm_hour);
        write_digits(cached.text + 14, 2, (uint64_t)tm.tm_min);
        write_digits(cached.text + 17, 2, (uint64_t)tm.tm_sec);
    }
    put_bytes(line, cached.text, JSON_TIME_LEN);
    put_text(line, ".");
    write_digits(ms, 3, time_ms % MS_PER_S);
    put_bytes(line, ms, sizeof(ms));
    put_text(line, "Z");
}

/* Formats */

static void put_version(struct line *line, uint32_t version)
{
    put_text(line, "HTTP/");
    put_number(line, version / 10);
    put_text(line, ".");
    put_number(line, version % 10);
}

static void put_status(struct line *line, uint32_t status)
{
    if (status > 0)
        put_number(line, status);
    else
        put_text(line, "-");
}

static void put_request_line(struct line *line, const struct kn_access_entry *entry)
{
    put_text(line, "\"");
    put_value(line, entry->method);
    if (entry->method.data && entry->target.data) {
        put_text(line, " ");
        put_value(line, entry->target);
    }
    if (entry->method.data && entry->version > 0) {
        put_text(line, " ");
        put_version(line, entry->version);
    }
    put_text(line, "\"");
}

static void put_common(struct line *line, const struct kn_access_entry *entry)
{
    put_value(line, entry->peer);
    put_text(line, " - - [");
    put_common_time(line, entry->time_ms);
    put_text(line, "] ");
    put_request_line(line, entry);
    put_text(line, " ");
    put_status(line, entry->status);
    put_text(line, " ");
    put_number(line, entry->bytes);
}

static void put_combined(struct line *line, const struct kn_access_entry *entry)
{
    put_common(line, entry);
    put_text(line, " ");
    put_quoted(line, entry->referer);
    put_text(line, " ");
    put_quoted(line, entry->user_agent);
}

static void put_json_value(struct line *line, const char *name, struct kino_slice value)
{
    put_text(line, name);
    if (!value.data) {
        put_text(line, "null");
        return;
    }
    put_text(line, "\"");
    put_escaped(line, value, ESCAPE_JSON);
    put_text(line, "\"");
}

static void put_json_number(struct line *line, const char *name, uint64_t number, bool present)
{
    put_text(line, name);
    if (present)
        put_number(line, number);
    else
        put_text(line, "null");
}

static void put_json_version(struct line *line, uint32_t version)
{
    put_text(line, ",\"version\":");
    if (version == 0) {
        put_text(line, "null");
        return;
    }
    put_text(line, "\"");
    put_version(line, version);
    put_text(line, "\"");
}

static void put_json(struct line *line, const struct kn_access_entry *entry)
{
    put_text(line, "{\"time\":\"");
    put_json_time(line, entry->time_ms);
    put_text(line, "\"");
    put_json_value(line, ",\"peer\":", entry->peer);
    put_json_value(line, ",\"method\":", entry->method);
    put_json_value(line, ",\"target\":", entry->target);
    put_json_version(line, entry->version);
    put_json_number(line, ",\"status\":", entry->status, entry->status > 0);
    put_json_number(line, ",\"bytes\":", entry->bytes, true);
    put_json_number(line, ",\"duration_us\":", entry->duration_us, entry->duration_us != KINO_OFF);
    put_json_number(line, ",\"queue_us\":", entry->queue_us, entry->queue_us != KINO_OFF);
    put_json_value(line, ",\"referer\":", entry->referer);
    put_json_value(line, ",\"user_agent\":", entry->user_agent);
    put_text(line, "}");
}

static void put_tenths(struct line *line, uint64_t tenths)
{
    put_number(line, tenths / 10);
    put_text(line, ".");
    put_number(line, tenths % 10);
}

static void put_duration(struct line *line, uint64_t us)
{
    if (us == KINO_OFF) {
        put_text(line, "-");
    } else if (us < US_PER_MS) {
        put_number(line, us);
        put_text(line, "us");
    } else if (us < US_PER_S) {
        put_tenths(line, us / (US_PER_MS / 10));
        put_text(line, "ms");
    } else {
        put_tenths(line, us / (US_PER_S / 10));
        put_text(line, "s");
    }
}

static const char *color_of(uint32_t status)
{
    switch (status / 100) {
    case 2:
        return "\033[32m"; /* green */
    case 1:
    case 3:
        return "\033[36m"; /* cyan */
    case 4:
        return "\033[33m"; /* yellow */
    default:
        return "\033[31m"; /* red */
    }
}

static void put_short(struct line *line, bool color, const struct kn_access_entry *entry)
{
    if (color)
        put_text(line, color_of(entry->status));
    put_status(line, entry->status);
    if (color)
        put_text(line, "\033[0m");
    put_text(line, " ");
    put_value(line, entry->method);
    put_text(line, " ");
    put_value(line, entry->target);
    put_text(line, " ");
    put_duration(line, entry->duration_us);
}

size_t kn_access_line(char *out, enum kino_access_format format, bool color,
                      const struct kn_access_entry *entry)
{
    struct line line = {out, out + KN_ACCESS_LINE_MOST};

    switch (format) {
    case KINO_ACCESS_COMMON:
        put_common(&line, entry);
        break;
    case KINO_ACCESS_COMBINED:
        put_combined(&line, entry);
        break;
    case KINO_ACCESS_JSON:
        put_json(&line, entry);
        break;
    case KINO_ACCESS_SHORT:
        put_short(&line, color, entry);
        break;
    }
    put_text(&line, "\n");
    return (size_t)(line.at - out);
}
