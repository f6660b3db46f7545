/* SPDX-License-Identifier: MIT */
/* The small pieces of grammar that requests and answers share. */
#ifndef KN_HTTP_GRAMMAR_H
#define KN_HTTP_GRAMMAR_H

#include "kino.h"

#include <stdbool.h>
#include <string.h>

static inline bool kn_is_digit(char c)
{
    return (unsigned char)(c - '0') < 10;
}

static inline bool kn_is_alpha(char c)
{
    return (unsigned char)((c | 0x20) - 'a') < 26;
}

static inline bool kn_is_ows(char c)
{
    return c == ' ' || c == '\t';
}

static inline char kn_lower(char c)
{
    return (char)(c | ((unsigned char)(c - 'A') < 26) << 5);
}

static inline struct kino_slice kn_slice_between(const char *from, const char *to)
{
    return (struct kino_slice){from, (size_t)(to - from)};
}

/* Equal but for the case of letters; `lower` is in lower case. */
static inline bool kn_slice_is(struct kino_slice slice, const char *lower)
{
    if (slice.len != strlen(lower))
        return false;
    for (size_t i = 0; i < slice.len; i++) {
        if (kn_lower(slice.data[i]) != lower[i])
            return false;
    }
    return true;
}

/* RFC 9110 5.6.2: tchar. */
static inline bool kn_is_tchar(char c)
{
    if (kn_is_alpha(c) || kn_is_digit(c))
        return true;
    switch (c) {
    case '!':
    case '#':
    case '$':
    case '%':
    case '&':
    case '\'':
    case '*':
    case '+':
    case '-':
    case '.':
    case '^':
    case '_':
    case '`':
    case '|':
    case '~':
        return true;
    default:
        return false;
    }
}

static inline bool kn_is_token(struct kino_slice slice)
{
    for (size_t i = 0; i < slice.len; i++) {
        if (!kn_is_tchar(slice.data[i]))
            return false;
    }
    return slice.len > 0;
}

/* Is any of eight bytes below a space or a DEL? A tab is, too. */
static inline bool kn_may_have_control(uint64_t word)
{
    const uint64_t ones = UINT64_C(0x0101010101010101);
    uint64_t del = word ^ (ones * 0x7f);

    return (((word - ones * ' ') & ~word) | ((del - ones) & ~del)) & (ones * 0x80);
}

/* No control character but tab: RFC 9110 5.5. */
static inline bool kn_is_field_value(struct kino_slice value)
{
    size_t i;
    uint64_t word;

    for (i = 0; value.len - i >= sizeof(word); i += sizeof(word)) {
        memcpy(&word, value.data + i, sizeof(word));
        if (kn_may_have_control(word))
            break;
    }
    for (; i < value.len; i++) {
        unsigned char c = (unsigned char)value.data[i];

        if ((c < ' ' && c != '\t') || c == 0x7f)
            return false;
    }
    return true;
}

/* Take the next element of a comma-separated list from its front, trimmed; empty ones are passed
 * over (RFC 9110 5.6.1). False: there is none. */
static inline bool kn_shift_element(struct kino_slice *list, struct kino_slice *element)
{
    while (list->len > 0) {
        const char *at = list->data;
        const char *end = at + list->len;
        const char *comma = memchr(at, ',', list->len);
        const char *last = comma ? comma : end;

        *list = kn_slice_between(comma ? comma + 1 : end, end);
        while (at < last && kn_is_ows(*at))
            at++;
        while (at < last && kn_is_ows(last[-1]))
            last--;
        *element = kn_slice_between(at, last);
        if (element->len > 0)
            return true;
    }
    return false;
}

#endif
