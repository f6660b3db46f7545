/* SPDX-License-Identifier: MIT */
#include "http/response.h"

#include "http/grammar.h"

#include <errno.h>
#include <time.h>

enum {
    STATUS_MIN = 200,
    STATUS_MAX = 999,
    STATUS_NO_CONTENT = 204,
    STATUS_NOT_MODIFIED = 304,
    OWN_BYTES_MAX = 256, /* status line, the library's own fields and the last empty line */
    FIELD_EXTRA = 4,     /* ": " and CRLF */
    DECIMAL_DIGITS = 20, /* of a uint64_t */
    DATE_LEN = 29,       /* RFC 9110 5.6.7: "Sun, 06 Nov 1994 08:49:37 GMT" */
};

static char *put(char *at, const char *data, size_t len)
{
    if (len > 0)
        memcpy(at, data, len);
    return at + len;
}

static char *put_text(char *at, const char *text)
{
    return put(at, text, strlen(text));
}

static char *put_decimal(char *at, uint64_t number)
{
    char digits[DECIMAL_DIGITS];
    size_t first = sizeof(digits);

    do {
        digits[--first] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    return put(at, digits + first, sizeof(digits) - first);
}

static const char *status_line(uint64_t status)
{
#define LINE(status, reason) [(status) - STATUS_MIN] = "HTTP/1.1 " #status " " reason "\r\n"
    /* The registry of RFC 9110 16.2.1. */
    static const char *const lines[] = {
        LINE(200, "OK"),
        LINE(201, "Created"),
        LINE(202, "Accepted"),
        LINE(203, "Non-Authoritative Information"),
        LINE(204, "No Content"),
        LINE(205, "Reset Content"),
        LINE(206, "Partial Content"),
        LINE(207, "Multi-Status"),
        LINE(208, "Already Reported"),
        LINE(226, "IM Used"),
        LINE(300, "Multiple Choices"),
        LINE(301, "Moved Permanently"),
        LINE(302, "Found"),
        LINE(303, "See Other"),
        LINE(304, "Not Modified"),
        LINE(305, "Use Proxy"),
        LINE(307, "Temporary Redirect"),
        LINE(308, "Permanent Redirect"),
        LINE(400, "Bad Request"),
        LINE(401, "Unauthorized"),
        LINE(402, "Payment Required"),
        LINE(403, "Forbidden"),
        LINE(404, "Not Found"),
        LINE(405, "Method Not Allowed"),
        LINE(406, "Not Acceptable"),
        LINE(407, "Proxy Authentication Required"),
        LINE(408, "Request Timeout"),
        LINE(409, "Conflict"),
        LINE(410, "Gone"),
        LINE(411, "Length Required"),
        LINE(412, "Precondition Failed"),
        LINE(413, "Content Too Large"),
        LINE(414, "URI Too Long"),
        LINE(415, "Unsupported Media Type"),
        LINE(416, "Range Not Satisfiable"),
        LINE(417, "Expectation Failed"),
        LINE(421, "Misdirected Request"),
        LINE(422, "Unprocessable Content"),
        LINE(423, "Locked"),
        LINE(424, "Failed Dependency"),
        LINE(425, "Too Early"),
        LINE(426, "Upgrade Required"),
        LINE(428, "Precondition Required"),
        LINE(429, "Too Many Requests"),
        LINE(431, "Request Header Fields Too Large"),
        LINE(451, "Unavailable For Legal Reasons"),
        LINE(500, "Internal Server Error"),
        LINE(501, "Not Implemented"),
        LINE(502, "Bad Gateway"),
        LINE(503, "Service Unavailable"),
        LINE(504, "Gateway Timeout"),
        LINE(505, "HTTP Version Not Supported"),
        LINE(506, "Variant Also Negotiates"),
        LINE(507, "Insufficient Storage"),
        LINE(508, "Loop Detected"),
        LINE(510, "Not Extended"),
        LINE(511, "Network Authentication Required"),
    };
#undef LINE
    uint64_t index = status - STATUS_MIN;

    return index < sizeof(lines) / sizeof(lines[0]) ? lines[index] : NULL;
}

static char *put_status_line(char *at, uint64_t status)
{
    const char *line = status_line(status);

    if (line)
        return put_text(at, line);
    at = put_text(at, "HTTP/1.1 ");
    at = put_decimal(at, status);
    return put_text(at, " \r\n"); /* RFC 9112 4: no reason, but its space */
}

static void put_two_digits(char *at, int number)
{
    at[0] = (char)('0' + number / 10);
    at[1] = (char)('0' + number % 10);
}

static void format_date(char *at, time_t second)
{
    static const char days[] = "SunMonTueWedThuFriSat";
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    int year;
    struct tm tm;

    gmtime_r(&second, &tm);
    year = tm.tm_year + 1900;
    memcpy(at, "Sun, 06 Nov 1994 08:49:37 GMT", DATE_LEN);
    memcpy(at, days + 3 * tm.tm_wday, 3);
    put_two_digits(at + 5, tm.tm_mday);
    memcpy(at + 8, months + 3 * tm.tm_mon, 3);
    put_two_digits(at + 12, year / 100);
    put_two_digits(at + 14, year % 100);
    put_two_digits(at + 17, tm.tm_hour);
    put_two_digits(at + 20, tm.tm_min);
    put_two_digits(at + 23, tm.tm_sec);
}

/* Formatted once a second and thread. */
static char *put_date(char *at)
{
    static _Thread_local struct {
        time_t second;
        char text[DATE_LEN];
    } cached = {.second = -1};
    struct timespec now;

    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    if (now.tv_sec != cached.second) {
        cached.second = now.tv_sec;
        format_date(cached.text, now.tv_sec);
    }
    at = put_text(at, "date: ");
    at = put(at, cached.text, DATE_LEN);
    return put_text(at, "\r\n");
}

/* What a caller's field means to the library. */
enum meaning {
    PLAIN,
    DROPPED,
    DATE,
    SERVER,
    CONNECTION,
    CONTENT_LENGTH,
};

static enum meaning meaning_of(struct kino_slice name)
{
    switch (name.len) {
    case 4:
        return kn_slice_is(name, "date") ? DATE : PLAIN;
    case 6:
        return kn_slice_is(name, "server") ? SERVER : PLAIN;
    case 7:
        return kn_slice_is(name, "trailer") || kn_slice_is(name, "upgrade") ? DROPPED : PLAIN;
    case 10:
        if (kn_slice_is(name, "connection"))
            return CONNECTION;
        return kn_slice_is(name, "keep-alive") ? DROPPED : PLAIN;
    case 14:
        return kn_slice_is(name, "content-length") ? CONTENT_LENGTH : PLAIN;
    case 16:
        return kn_slice_is(name, "proxy-connection") ? DROPPED : PLAIN;
    case 17:
        return kn_slice_is(name, "transfer-encoding") ? DROPPED : PLAIN;
    default:
        return PLAIN;
    }
}

/* What the caller's fields ask for. */
struct wishes {
    bool has_date;
    bool has_server;
    bool closes;
    bool has_length;
    uint64_t length;
};

/* Is any of eight bytes below a space or a DEL? A tab is, too. */
static bool may_have_control(uint64_t word)
{
    const uint64_t ones = UINT64_C(0x0101010101010101);
    uint64_t del = word ^ (ones * 0x7f);

    return (((word - ones * ' ') & ~word) | ((del - ones) & ~del)) & (ones * 0x80);
}

static bool is_field_value(struct kino_slice value)
{
    size_t i;
    uint64_t word;

    for (i = 0; value.len - i >= sizeof(word); i += sizeof(word)) {
        memcpy(&word, value.data + i, sizeof(word));
        if (may_have_control(word))
            break;
    }
    for (; i < value.len; i++) {
        unsigned char c = (unsigned char)value.data[i];

        if ((c < ' ' && c != '\t') || c == 0x7f)
            return false;
    }
    return true;
}

static bool read_length(struct kino_slice value, uint64_t *length)
{
    *length = 0;
    for (size_t i = 0; i < value.len; i++) {
        if (!kn_is_digit(value.data[i]) || __builtin_mul_overflow(*length, 10, length) ||
            __builtin_add_overflow(*length, (uint64_t)(value.data[i] - '0'), length))
            return false;
    }
    return value.len > 0;
}

static bool asks_to_close(struct kino_slice list)
{
    struct kino_slice element;

    while (kn_shift_element(&list, &element)) {
        if (kn_slice_is(element, "close"))
            return true;
    }
    return false;
}

/* Returns where the next field goes, or NULL if this one cannot be sent. */
static char *put_field(char *at, const struct kino_field *field, struct wishes *wishes)
{
    if (!kn_is_token(field->name) || !is_field_value(field->value))
        return NULL;
    switch (meaning_of(field->name)) {
    case DROPPED:
        return at;
    case CONNECTION:
        wishes->closes |= asks_to_close(field->value);
        return at;
    case CONTENT_LENGTH:
        if (wishes->has_length || !read_length(field->value, &wishes->length))
            return NULL;
        wishes->has_length = true;
        return at;
    case DATE:
        wishes->has_date = true;
        break;
    case SERVER:
        wishes->has_server = true;
        break;
    case PLAIN:
        break;
    }
    at = put(at, field->name.data, field->name.len);
    at = put(at, ": ", 2);
    at = put(at, field->value.data, field->value.len);
    return put(at, "\r\n", 2);
}

/* An upper bound of what is appended. False: more than can be. */
static bool bound(const struct kino_response *response, size_t *bytes)
{
    if (__builtin_add_overflow(response->body.len, (size_t)OWN_BYTES_MAX, bytes))
        return false;
    for (uint64_t i = 0; i < response->field_count; i++) {
        const struct kino_field *field = &response->fields[i];

        if (__builtin_add_overflow(*bytes, field->name.len, bytes) ||
            __builtin_add_overflow(*bytes, field->value.len, bytes) ||
            __builtin_add_overflow(*bytes, (size_t)FIELD_EXTRA, bytes))
            return false;
    }
    return true;
}

/* Where no body follows, a length is announced only if it is known to be what GET's would be. */
static bool announces_length(const struct kino_response *response, const struct kn_framing *framing,
                             const struct wishes *wishes)
{
    switch (response->status) {
    case STATUS_NO_CONTENT:
        return false;
    case STATUS_NOT_MODIFIED:
        return wishes->has_length;
    default:
        return !framing->is_head || wishes->has_length || response->body.data;
    }
}

int kn_response_write(struct kn_buf *out, const struct kino_response *response,
                      struct kn_framing *framing)
{
    const uint64_t status = response->status;
    const bool has_body =
        !framing->is_head && status != STATUS_NO_CONTENT && status != STATUS_NOT_MODIFIED;
    struct wishes wishes = {0};
    uint64_t length;
    size_t bytes;
    bool keep_alive;
    char *at;

    if (status < STATUS_MIN || status > STATUS_MAX || response->flags != 0)
        return KINO_INVALID;
    if (!bound(response, &bytes) || kn_buf_reserve(out, bytes) < 0)
        return -ENOMEM;

    at = put_status_line(out->data + out->len, status);
    for (uint64_t i = 0; i < response->field_count; i++) {
        at = put_field(at, &response->fields[i], &wishes);
        if (!at)
            return KINO_INVALID;
    }
    length = wishes.has_length ? wishes.length : response->body.len;
    keep_alive = framing->keep_alive && !wishes.closes;
    if (has_body && length > response->body.len)
        keep_alive = false; /* the client awaits bytes that never come */

    if (!wishes.has_date)
        at = put_date(at);
    if (!wishes.has_server)
        at = put_text(at, "server: kino\r\n");
    if (announces_length(response, framing, &wishes)) {
        at = put_text(at, "content-length: ");
        at = put_decimal(at, length);
        at = put_text(at, "\r\n");
    }
    if (!keep_alive)
        at = put_text(at, "connection: close\r\n");
    else if (framing->version == KINO_HTTP_1_0)
        at = put_text(at, "connection: keep-alive\r\n");
    at = put_text(at, "\r\n");
    if (has_body)
        at =
            put(at, response->body.data, length < response->body.len ? length : response->body.len);

    out->len = (size_t)(at - out->data);
    framing->keep_alive = keep_alive;
    return 0;
}

int kn_response_write_error(struct kn_buf *out, unsigned status, unsigned retry_after_s,
                            struct kn_framing *framing)
{
    static const char type[] = "text/plain; charset=utf-8";
    const char *line = status_line(status);
    const char *text = line ? line + strlen("HTTP/1.1 ") : "Error\r\n";
    char seconds[DECIMAL_DIGITS];
    size_t seconds_len = (size_t)(put_decimal(seconds, retry_after_s) - seconds);
    const struct kino_field fields[] = {
        {.name = {"content-type", 12}, .value = {type, sizeof(type) - 1}},
        {.name = {"retry-after", 11}, .value = {seconds, seconds_len}},
    };
    const struct kino_response response = {
        .size = sizeof(response),
        .status = status,
        .fields = fields,
        .field_count = retry_after_s ? 2 : 1,
        .body = {text, strlen(text)},
    };

    return kn_response_write(out, &response, framing);
}
