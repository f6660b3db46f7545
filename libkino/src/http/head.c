/* SPDX-License-Identifier: MIT */
#include "http/head.h"

#include "base/alloc.h"
#include "http/grammar.h"

#include <arpa/inet.h>

enum {
    KEPT_TEXT_BYTES = 16 * 1024, /* a larger text is freed before the next request */
    FIRST_FIELDS = 16,
    PORT_DIGITS = 5,
    PORT_MAX = 65535,
};

void kn_head_deinit(struct kn_head *head)
{
    kn_buf_deinit(&head->text);
    kn_free(head->fields);
    *head = (struct kn_head){0};
}

void kn_head_begin(struct kn_head *head)
{
    kn_buf_reset(&head->text, KEPT_TEXT_BYTES);
    head->method = (struct kn_span){0};
    head->target = (struct kn_span){0};
    head->block_start = 0;
    head->field_start = 0;
    head->sealed = false;
    head->view.field_count = 0;
}

static int append(struct kn_head *head, const char *data, size_t len)
{
    struct kn_buf *text = &head->text;

    if (text->cap - text->len < len && kn_buf_reserve(text, len) < 0)
        return 503;
    kn_buf_put(text, data, len);
    return 0;
}

int kn_head_method(struct kn_head *head, const char *data, size_t len)
{
    head->method.len += len;
    return append(head, data, len);
}

int kn_head_target(struct kn_head *head, const char *data, size_t len,
                   const struct kn_limits *limits)
{
    if (head->target.len == 0)
        head->target.start = head->text.len;
    if (limits->max_target_bytes - head->target.len < len)
        return 414;
    head->target.len += len;
    head->block_start = head->text.len + len;
    head->field_start = head->block_start;
    return append(head, data, len);
}

/* The field so far, with the colon from the end of its name on. */
static size_t field_len(const struct kn_head *head)
{
    return head->text.len - head->field_start;
}

int kn_head_name(struct kn_head *head, const char *data, size_t len, const struct kn_limits *limits)
{
    size_t start = head->text.len;
    int status;

    if (limits->max_field_bytes - field_len(head) < len)
        return 431;
    status = append(head, data, len);
    if (status)
        return status;
    for (char *c = head->text.data + start; c < head->text.data + head->text.len; c++)
        *c = kn_lower(*c);
    return 0;
}

struct known_name {
    const char *text;
    uint32_t known;
    uint32_t flags;
};

static struct known_name known_name(const char *name, size_t len)
{
    /* By length: no two of one length begin with the same letter. */
    static const struct known_name names[][2] = {
        [2] = {{"te", KINO_FIELD_TE, 0}},
        [4] = {{"host", KINO_FIELD_HOST, 0}},
        [6] = {{"cookie", KINO_FIELD_COOKIE, KINO_FIELD_SENSITIVE},
               {"expect", KINO_FIELD_EXPECT, 0}},
        [7] = {{"trailer", KINO_FIELD_TRAILER, 0}, {"upgrade", KINO_FIELD_UPGRADE, 0}},
        [10] = {{"connection", KINO_FIELD_CONNECTION, 0}, {"keep-alive", KINO_FIELD_KEEP_ALIVE, 0}},
        [12] = {{"content-type", KINO_FIELD_CONTENT_TYPE, 0}},
        [13] = {{"authorization", KINO_FIELD_AUTHORIZATION, KINO_FIELD_SENSITIVE}},
        [14] = {{"content-length", KINO_FIELD_CONTENT_LENGTH, 0}},
        [17] = {{"transfer-encoding", KINO_FIELD_TRANSFER_ENCODING, 0}},
        [19] = {{"proxy-authorization", KINO_FIELD_PROXY_AUTHORIZATION, KINO_FIELD_SENSITIVE}},
    };

    if (len < sizeof(names) / sizeof(names[0])) {
        for (size_t i = 0; i < 2; i++) {
            const struct known_name *candidate = &names[len][i];

            if (candidate->text && candidate->text[0] == name[0] &&
                memcmp(candidate->text, name, len) == 0)
                return *candidate;
        }
    }
    return (struct known_name){NULL, KINO_FIELD_OTHER, 0};
}

static int grow_fields(struct kn_head *head)
{
    size_t capacity = head->field_capacity ? head->field_capacity * 2 : FIRST_FIELDS;
    struct kino_field *fields = kn_realloc(head->fields, capacity * sizeof(*fields));

    if (!fields)
        return 503;
    head->fields = fields;
    head->field_capacity = capacity;
    return 0;
}

int kn_head_name_complete(struct kn_head *head, const struct kn_limits *limits, uint32_t *known)
{
    size_t len = field_len(head);
    struct known_name found = known_name(head->text.data + head->field_start, len);
    int status;

    if (head->view.field_count >= limits->max_fields)
        return 431;
    if (head->view.field_count == head->field_capacity) {
        status = grow_fields(head);
        if (status)
            return status;
    }
    head->fields[head->view.field_count] = (struct kino_field){
        .name.len = len,
        .known = found.known,
        .flags = found.flags,
    };
    *known = found.known;
    return append(head, ":", 1);
}

int kn_head_value(struct kn_head *head, const char *data, size_t len,
                  const struct kn_limits *limits)
{
    if (limits->max_field_bytes - (field_len(head) - 1) < len)
        return 431;
    return append(head, data, len);
}

int kn_head_value_complete(struct kn_head *head)
{
    struct kino_field *field = &head->fields[head->view.field_count++];
    struct kn_buf *text = &head->text;
    size_t value_start = head->field_start + field->name.len + 1;
    int status;

    while (text->len > value_start && kn_is_ows(text->data[text->len - 1]))
        text->len--;
    field->value.len = text->len - value_start;
    status = append(head, "\n", 1);
    head->field_start = text->len;
    return status;
}

/* Not a library's: equal hashes are always followed by an exact comparison, so all it must be is
 * fast. Each step folds the 128-bit product of 16 bytes of input. */
static uint64_t hash(const char *data, size_t len)
{
    __extension__ typedef unsigned __int128 wide;
    const uint64_t odd = UINT64_C(0x9e3779b97f4a7c15);
    uint64_t state = len * odd;
    uint64_t word[2] = {0};

    for (; len > 0; data += sizeof(word)) {
        size_t step = len < sizeof(word) ? len : sizeof(word);

        if (step == sizeof(word)) {
            memcpy(word, data, sizeof(word));
        } else {
            word[0] = word[1] = 0;
            memcpy(word, data, step);
        }
        wide product = (wide)(word[0] ^ odd) * (word[1] ^ state);

        state = (uint64_t)product ^ (uint64_t)(product >> 64) ^ odd;
        len -= step;
    }
    return state;
}

/* Until now a field knew its lengths only, because the text could move. */
static void place_fields(struct kn_head *head)
{
    const char *at = head->text.data + head->block_start;
    uint32_t flags = 0;

    head->view.block = (struct kino_slice){at, head->text.len - head->block_start};
    head->view.fields = head->fields;
    for (size_t i = 0; i < head->view.field_count; i++) {
        struct kino_field *field = &head->fields[i];

        field->name.data = at;
        field->value.data = at + field->name.len + 1;
        at = field->value.data + field->value.len + 1;
        flags |= field->flags;
    }
    head->view.flags = flags & KINO_FIELD_SENSITIVE ? KINO_HEAD_SENSITIVE : 0;
}

static bool is_hex_digit(char c)
{
    return kn_is_digit(c) || (unsigned char)((c | 0x20) - 'a') < 6;
}

/* RFC 3986 3.2.2: unreserved and sub-delims. */
static bool is_reg_name(char c)
{
    if (kn_is_alpha(c) || kn_is_digit(c))
        return true;
    switch (c) {
    case '-':
    case '.':
    case '_':
    case '~':
    case '!':
    case '$':
    case '&':
    case '\'':
    case '(':
    case ')':
    case '*':
    case '+':
    case ',':
    case ';':
    case '=':
        return true;
    default:
        return false;
    }
}

/* Where a registered name or IPv4 address at `at` ends; NULL if a percent encoding is broken. */
static const char *skip_reg_name(const char *at, const char *end)
{
    while (at < end) {
        if (is_reg_name(*at)) {
            at++;
        } else if (*at == '%') {
            if (end - at < 3 || !is_hex_digit(at[1]) || !is_hex_digit(at[2]))
                return NULL;
            at += 3;
        } else {
            break;
        }
    }
    return at;
}

/* Where an IPv6 address in brackets ends; NULL if it is none. */
static const char *skip_ipv6(const char *at, const char *end)
{
    const char *close = memchr(at, ']', (size_t)(end - at));
    char text[INET6_ADDRSTRLEN] = {0};
    struct in6_addr address;
    size_t len;

    if (!close)
        return NULL;
    len = (size_t)(close - at) - 1;
    if (len >= sizeof(text))
        return NULL;
    memcpy(text, at + 1, len);
    return strlen(text) == len && inet_pton(AF_INET6, text, &address) == 1 ? close + 1 : NULL;
}

static bool is_port(const char *at, const char *end)
{
    unsigned port = 0;

    if (end - at > PORT_DIGITS)
        return false;
    for (; at < end; at++) {
        if (!kn_is_digit(*at))
            return false;
        port = port * 10 + (unsigned)(*at - '0');
    }
    return port <= PORT_MAX;
}

/* RFC 9110 7.2: uri-host [ ":" port ], the host not empty. */
static bool is_host(struct kino_slice host)
{
    const char *at = host.data;
    const char *end = at + host.len;

    if (host.len == 0)
        return false;
    at = *at == '[' ? skip_ipv6(at, end) : skip_reg_name(at, end);
    if (!at || at == host.data)
        return false;
    return at == end || (*at == ':' && is_port(at + 1, end));
}

static int judge_host(struct kn_head *head, enum kino_http_version version)
{
    const struct kino_field *host = NULL;

    for (size_t i = 0; i < head->view.field_count; i++) {
        if (head->fields[i].known != KINO_FIELD_HOST)
            continue;
        if (host)
            return 400;
        host = &head->fields[i];
    }
    head->view.authority = host ? host->value : (struct kino_slice){0};
    if (host && is_host(host->value))
        return 0;
    return version == KINO_HTTP_1_0 && head->view.authority.len == 0 ? 0 : 400;
}

static void split_path(struct kino_head *view, struct kino_slice rest)
{
    const char *end = rest.data + rest.len;
    const char *mark = memchr(rest.data, '?', rest.len);

    view->path = kn_slice_between(rest.data, mark ? mark : end);
    view->query = mark ? kn_slice_between(mark + 1, end) : (struct kino_slice){0};
    if (view->path.len == 0)
        view->path = (struct kino_slice){"/", 1};
}

/* "http://" authority path [ "?" query ], where the authority replaces Host's (RFC 9112 3.2.2). A
 * user name and password are dropped. */
static int split_absolute_form(struct kino_head *view)
{
    static const char prefix[] = "http://";
    const size_t prefix_len = sizeof(prefix) - 1;
    const char *at = view->target.data;
    const char *end = at + view->target.len;
    const char *path;
    const char *at_sign;

    if (view->target.len < prefix_len ||
        !kn_slice_is(kn_slice_between(at, at + prefix_len), prefix))
        return 400;
    at += prefix_len;
    for (path = at; path < end && *path != '/' && *path != '?';)
        path++;
    at_sign = memchr(at, '@', (size_t)(path - at));
    if (at_sign)
        at = at_sign + 1;
    view->authority = kn_slice_between(at, path);
    if (!is_host(view->authority))
        return 400;
    split_path(view, kn_slice_between(path, end));
    return 0;
}

static int split_target(struct kino_head *view)
{
    const char *fragment = memchr(view->target.data, '#', view->target.len);

    if (fragment)
        view->target.len = (size_t)(fragment - view->target.data);
    if (view->target.len == 0)
        return 400;
    if (view->target.data[0] == '/') {
        split_path(view, view->target);
        return 0;
    }
    if (view->target.data[0] != '*')
        return split_absolute_form(view);
    view->path = view->target;
    view->query = (struct kino_slice){0};
    return view->target.len == 1 && kn_slice_is(view->method, "options") ? 0 : 400;
}

int kn_head_seal(struct kn_head *head, enum kino_http_version version)
{
    struct kino_head *view = &head->view;
    int status;

    view->size = sizeof(*view);
    view->version = version;
    view->method = (struct kino_slice){head->text.data + head->method.start, head->method.len};
    view->target = (struct kino_slice){head->text.data + head->target.start, head->target.len};
    view->scheme = (struct kino_slice){"http", 4};
    view->body = (struct kino_slice){0};
    place_fields(head);
    view->block_hash = hash(view->block.data, view->block.len);
    head->sealed = true;
    status = judge_host(head, version);
    return status ? status : split_target(view);
}

void kn_head_seal_trailers(struct kn_head *head)
{
    if (head->view.field_count > 0)
        place_fields(head);
}
