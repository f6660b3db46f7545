/* SPDX-License-Identifier: MIT */
#include "http/response.h"

#include "http/grammar.h"
#include "http/status.h"

#include <errno.h>
#include <time.h>

enum {
    OWN_BYTES_MAX = 256, /* status line, the library's own fields and the last empty line */
    CHUNK_LINE_MAX = 18, /* sixteen digits and CRLF */
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

static char *put_status_line(char *at, uint64_t status)
{
    const char *line = kn_status_line(status);

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
    TRAILER,
    UPGRADE,
};

static enum meaning meaning_of(struct kino_slice name)
{
    switch (name.len) {
    case 4:
        return kn_slice_is(name, "date") ? DATE : PLAIN;
    case 6:
        return kn_slice_is(name, "server") ? SERVER : PLAIN;
    case 7:
        if (kn_slice_is(name, "trailer"))
            return TRAILER;
        return kn_slice_is(name, "upgrade") ? UPGRADE : PLAIN;
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

/* What the caller's fields ask for, and which of them are let through. */
struct wishes {
    bool takes_trailer; /* in: one may be announced */
    bool takes_upgrade; /* in: it is what the answer is about */
    bool has_date;
    bool has_server;
    bool has_upgrade;
    bool closes;
    bool has_length;
    uint64_t length;
};

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

static char *put_line(char *at, const struct kino_field *field)
{
    at = put(at, field->name.data, field->name.len);
    at = put(at, ": ", 2);
    at = put(at, field->value.data, field->value.len);
    return put(at, "\r\n", 2);
}

/* Returns where the next field goes, or NULL if this one cannot be sent. */
static char *put_field(char *at, const struct kino_field *field, struct wishes *wishes)
{
    if (!kn_is_token(field->name) || !kn_is_field_value(field->value))
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
    case TRAILER:
        if (!wishes->takes_trailer)
            return at;
        break;
    case UPGRADE:
        if (!wishes->takes_upgrade)
            return at;
        wishes->has_upgrade = true;
        break;
    case PLAIN:
        break;
    }
    return put_line(at, field);
}

/* Returns where the next thing goes, or NULL if a field cannot be sent. */
static char *put_fields(char *at, const struct kino_response *response, struct wishes *wishes)
{
    for (uint64_t i = 0; i < response->field_count; i++) {
        at = put_field(at, &response->fields[i], wishes);
        if (!at)
            return NULL;
    }
    return at;
}

/* An upper bound of what `extra` bytes and the fields take. False: more than can be. */
static bool bound(const struct kino_field *fields, uint64_t count, size_t extra, size_t *bytes)
{
    *bytes = extra;
    for (uint64_t i = 0; i < count; i++) {
        if (__builtin_add_overflow(*bytes, fields[i].name.len, bytes) ||
            __builtin_add_overflow(*bytes, fields[i].value.len, bytes) ||
            __builtin_add_overflow(*bytes, (size_t)FIELD_EXTRA, bytes))
            return false;
    }
    return true;
}

/* Parts of a body */

static void end_head(struct kn_chain *out, struct kn_buf *end, const char *at)
{
    const size_t before = end->len;

    end->len = (size_t)(at - end->data);
    kn_chain_grown(out, before);
}

static int add_chunk(struct kn_chain *out, const struct kn_payload *payload)
{
    static const char digits[] = "0123456789abcdef";
    char line[CHUNK_LINE_MAX];
    size_t first = sizeof(line) - 2;
    uint64_t len = payload->length;
    int rc;

    if (len == 0) /* would be the last chunk */
        return kn_payload_append(out, payload, 0);
    memcpy(line + first, "\r\n", 2);
    for (; len > 0; len /= 16)
        line[--first] = digits[len % 16];
    rc = kn_chain_append(out, line + first, sizeof(line) - first);
    if (rc < 0) {
        kn_payload_return(payload);
        return rc;
    }
    rc = kn_payload_append(out, payload, payload->length);
    return rc < 0 ? rc : kn_chain_append(out, "\r\n", 2);
}

int kn_response_write_body(struct kn_chain *out, const struct kn_payload *payload,
                           struct kn_framing *framing)
{
    uint64_t len = payload->length;

    if (framing->coding == KN_CODING_NONE)
        len = 0;
    if (framing->coding == KN_CODING_LENGTH) {
        if (len > framing->left)
            len = framing->left;
        framing->left -= len;
    }
    framing->sent += len;
    return framing->coding == KN_CODING_CHUNKED ? add_chunk(out, payload)
                                                : kn_payload_append(out, payload, len);
}

int kn_response_finish(struct kn_chain *out, const struct kino_field *trailers, uint64_t count,
                       struct kn_framing *framing)
{
    struct kn_buf *end;
    size_t bytes;
    char *at;

    for (uint64_t i = 0; i < count; i++)
        if (!kn_is_token(trailers[i].name) || !kn_is_field_value(trailers[i].value) ||
            meaning_of(trailers[i].name) != PLAIN)
            return KINO_INVALID;
    if (framing->coding != KN_CODING_CHUNKED)
        return 0;
    end = kn_chain_end(out);
    if (!end || !bound(trailers, count, CHUNK_LINE_MAX, &bytes) || kn_buf_reserve(end, bytes) < 0)
        return -ENOMEM;
    at = put_text(end->data + end->len, "0\r\n");
    for (uint64_t i = 0; i < count; i++)
        at = put_line(at, &trailers[i]);
    end_head(out, end, put_text(at, "\r\n"));
    return 0;
}

/* Whole answers */

static bool may_have_body(const struct kino_response *response, const struct kn_framing *framing)
{
    return !framing->is_head && response->status != KN_STATUS_NO_CONTENT &&
           response->status != KN_STATUS_NOT_MODIFIED;
}

/* Decide how the body's end is told, and whether the connection may go on after it. */
static void choose_coding(const struct kino_response *response, const struct kn_payload *payload,
                          const struct wishes *wishes, struct kn_framing *framing)
{
    const bool is_stream = response->flags & KINO_BODY_STREAM;

    framing->status = (unsigned)response->status;
    if (wishes->closes)
        framing->keep_alive = false;
    framing->left = wishes->has_length ? wishes->length : payload->length;
    if (!may_have_body(response, framing)) {
        framing->coding = KN_CODING_NONE;
    } else if (!is_stream || wishes->has_length) {
        framing->coding = KN_CODING_LENGTH;
        if (!is_stream && framing->left > payload->length)
            framing->keep_alive = false; /* the client awaits bytes that never come */
    } else if (framing->version == KINO_HTTP_1_0) {
        framing->coding = KN_CODING_CLOSE;
        framing->keep_alive = false;
    } else {
        framing->coding = KN_CODING_CHUNKED;
    }
}

/* Where no body follows, a length is announced only if it is known to be what GET's would be. */
static bool announces_length(const struct kino_response *response, const struct kn_payload *payload,
                             const struct kn_framing *framing, const struct wishes *wishes)
{
    const bool is_stream = response->flags & KINO_BODY_STREAM;

    if (response->status == KN_STATUS_NO_CONTENT)
        return false;
    if (framing->coding == KN_CODING_LENGTH || wishes->has_length)
        return true;
    return framing->is_head && response->status != KN_STATUS_NOT_MODIFIED && !is_stream &&
           (payload->is_file || payload->data.data);
}

static char *put_own_fields(char *at, const struct kino_response *response,
                            const struct kn_payload *payload, const struct kn_framing *framing,
                            const struct wishes *wishes)
{
    if (!wishes->has_date)
        at = put_date(at);
    if (!wishes->has_server && framing->signature)
        at = put(at, framing->signature->line, framing->signature->len);
    if (announces_length(response, payload, framing, wishes)) {
        at = put_text(at, "content-length: ");
        at = put_decimal(at, framing->left);
        at = put_text(at, "\r\n");
    } else if (framing->coding == KN_CODING_CHUNKED) {
        at = put_text(at, "transfer-encoding: chunked\r\n");
    }
    if (!framing->keep_alive)
        at = put_text(at, "connection: close\r\n");
    else if (framing->version == KINO_HTTP_1_0)
        at = put_text(at, "connection: keep-alive\r\n");
    return put_text(at, "\r\n");
}

/* Room for a head, and for `extra` bytes behind it: one growth at most. NULL: out of memory. */
static struct kn_buf *reserve_head(struct kn_chain *out, const struct kino_response *response,
                                   uint64_t extra)
{
    struct kn_buf *end = kn_chain_end(out);
    size_t bytes;

    if (!end ||
        !bound(response->fields, response->field_count, OWN_BYTES_MAX + KN_SIGNATURE_MAX, &bytes) ||
        __builtin_add_overflow(bytes, extra, &bytes) || kn_buf_reserve(end, bytes) < 0)
        return NULL;
    return end;
}

/* RFC 9110 15.2.2: what stands behind it is another protocol's. */
static int write_switching(struct kn_chain *out, const struct kino_response *response,
                           const struct kn_payload *payload, struct kn_framing *framing)
{
    struct wishes wishes = {.takes_upgrade = true};
    struct kn_buf *end;
    char *at;

    if (!framing->upgrade)
        return KINO_INVALID;
    end = reserve_head(out, response, 0);
    if (!end) {
        kn_payload_return(payload);
        return -ENOMEM;
    }
    at = put_status_line(end->data + end->len, response->status);
    at = put_fields(at, response, &wishes);
    if (!at || !wishes.has_upgrade)
        return KINO_INVALID;
    at = put_text(at, "connection: upgrade\r\n\r\n");
    end_head(out, end, at);
    framing->status = KN_STATUS_SWITCHING;
    framing->coding = KN_CODING_RAW;
    framing->keep_alive = false;
    return kn_response_write_body(out, payload, framing);
}

int kn_response_write(struct kn_chain *out, const struct kino_response *response,
                      const struct kn_payload *payload, struct kn_framing *framing)
{
    struct wishes wishes = {.takes_trailer = response->flags & KINO_BODY_STREAM};
    struct kn_buf *end;
    char *at;

    if (response->status == KN_STATUS_SWITCHING)
        return write_switching(out, response, payload, framing);
    if (response->status < KN_STATUS_FINAL || response->status > KN_STATUS_MAX)
        return KINO_INVALID;
    end = reserve_head(out, response,
                       kn_payload_is_lent(payload, payload->length) ? 0 : payload->length);
    if (!end) {
        kn_payload_return(payload);
        return -ENOMEM;
    }
    at = put_status_line(end->data + end->len, response->status);
    at = put_fields(at, response, &wishes);
    if (!at)
        return KINO_INVALID;
    choose_coding(response, payload, &wishes, framing);
    at = put_own_fields(at, response, payload, framing, &wishes);
    end_head(out, end, at);
    return kn_response_write_body(out, payload, framing);
}

int kn_response_write_interim(struct kn_chain *out, const struct kino_response *response)
{
    struct wishes wishes = {0};
    struct kn_buf *end;
    char *at;

    if (response->status < KN_STATUS_MIN || response->status >= KN_STATUS_FINAL ||
        response->status == KN_STATUS_SWITCHING)
        return KINO_INVALID;
    end = reserve_head(out, response, 0);
    if (!end)
        return -ENOMEM;
    at = put_status_line(end->data + end->len, response->status);
    at = put_fields(at, response, &wishes);
    if (!at)
        return KINO_INVALID;
    end_head(out, end, put_text(at, "\r\n"));
    return 0;
}

int kn_response_write_continue(struct kn_chain *out)
{
    static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n";

    return kn_chain_append(out, text, sizeof(text) - 1);
}

int kn_response_write_error(struct kn_chain *out, unsigned status, unsigned retry_after_s,
                            struct kn_framing *framing)
{
    static const char type[] = "text/plain; charset=utf-8";
    const char *line = kn_status_line(status);
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
    };
    const struct kn_payload payload = {.data = {text, strlen(text)}, .length = strlen(text)};

    return kn_response_write(out, &response, &payload, framing);
}
