/* SPDX-License-Identifier: MIT */
/* Requests by llhttp, which knows the grammar, and here what it leaves open: limits, and all that
 * SPEC.md 2 refuses and llhttp takes. */
#include "http/http1.h"

#include "http/grammar.h"

#include <assert.h>

enum {
    KEPT_BODY_BYTES = 16 * 1024, /* a larger buffer is freed before the next request */
    EMPTY_LINE_BYTES_MAX = 16,
    METHOD_MAX = 64,
};

static_assert(EMPTY_LINE_BYTES_MAX % 2 == 0, "what is left of it tells CR from LF");

static void enter(struct kn_http1 *http1, enum kn_http1_phase phase)
{
    const size_t bounds[] = {
        [KN_HTTP1_IN_EMPTY_LINES] = EMPTY_LINE_BYTES_MAX,
        [KN_HTTP1_IN_UNKNOWN_METHOD] = METHOD_MAX,
        [KN_HTTP1_IN_HEAD] = http1->limits->max_head_bytes,
        [KN_HTTP1_IN_CHUNK_LINE] = http1->limits->max_chunk_line_bytes,
        [KN_HTTP1_IN_DATA] = SIZE_MAX,
        [KN_HTTP1_IN_TRAILERS] = http1->limits->max_trailer_bytes,
        [KN_HTTP1_AT_END] = 0,
    };

    http1->phase = phase;
    http1->left = bounds[phase];
}

/* Callbacks return 0, HPE_PAUSED to see the rest of the input only after the caller has, or
 * HPE_USER with a status. */

static struct kn_http1 *of(llhttp_t *parser)
{
    return parser->data;
}

static int judge(struct kn_http1 *http1, int status)
{
    http1->status = status;
    return status ? HPE_USER : 0;
}

static int on_method(llhttp_t *parser, const char *data, size_t len)
{
    return judge(of(parser), kn_head_method(of(parser)->head, data, len));
}

static int on_method_complete(llhttp_t *parser)
{
    switch (llhttp_get_method(parser)) {
    case HTTP_CONNECT:
    case HTTP_DESCRIBE: /* RTSP's from here on */
    case HTTP_ANNOUNCE:
    case HTTP_SETUP:
    case HTTP_PLAY:
    case HTTP_PAUSE:
    case HTTP_TEARDOWN:
    case HTTP_GET_PARAMETER:
    case HTTP_SET_PARAMETER:
    case HTTP_REDIRECT:
    case HTTP_RECORD:
    case HTTP_FLUSH:
        return judge(of(parser), 501);
    default:
        return 0;
    }
}

static int on_url(llhttp_t *parser, const char *data, size_t len)
{
    struct kn_http1 *http1 = of(parser);

    return judge(http1, kn_head_target(http1->head, data, len, http1->limits));
}

static int on_url_complete(llhttp_t *parser)
{
    if (llhttp_get_http_minor(parser) == 9) /* the line ended here: HTTP/0.9 */
        return judge(of(parser), 400);
    switch (llhttp_get_method(parser)) {
    case HTTP_OPTIONS: /* RTSP and ICE share these with HTTP, and llhttp takes their versions */
    case HTTP_SOURCE:
        of(parser)->awaited = 'H';
        return HPE_PAUSED;
    default:
        return 0;
    }
}

static int on_version_complete(llhttp_t *parser)
{
    return judge(of(parser), llhttp_get_http_major(parser) == 1 ? 0 : 505);
}

/* Where the fields go that are being read. */
static struct kn_head *section(struct kn_http1 *http1)
{
    return http1->phase == KN_HTTP1_IN_TRAILERS ? http1->trailers : http1->head;
}

static int on_header_field(llhttp_t *parser, const char *data, size_t len)
{
    struct kn_http1 *http1 = of(parser);

    return judge(http1, kn_head_name(section(http1), data, len, http1->limits));
}

static int on_header_field_complete(llhttp_t *parser)
{
    struct kn_http1 *http1 = of(parser);
    uint32_t known = KINO_FIELD_OTHER;
    int status;

    status = kn_head_name_complete(section(http1), http1->limits, &known);
    if (status || known != KINO_FIELD_TRANSFER_ENCODING || http1->phase == KN_HTTP1_IN_TRAILERS)
        return judge(http1, status);
    http1->refused = '\t'; /* llhttp drops it, other servers do not know the coding then */
    return HPE_PAUSED;
}

static int on_header_value(llhttp_t *parser, const char *data, size_t len)
{
    struct kn_http1 *http1 = of(parser);

    return judge(http1, kn_head_value(section(http1), data, len, http1->limits));
}

static int on_header_value_complete(llhttp_t *parser)
{
    struct kn_http1 *http1 = of(parser);

    return judge(http1, kn_head_value_complete(section(http1)));
}

/* What the fields say of the message's framing and of the connection. */
struct framing {
    bool is_coded;         /* has a Transfer-Encoding */
    bool is_unimplemented; /* one other than chunked */
    bool ends_compressed;  /* the last one is known, but not chunked */
    bool closes;
    bool keeps_alive;
    bool expects_continue;
};

static int read_connection(struct framing *framing, struct kino_slice list)
{
    struct kino_slice element;

    while (kn_shift_element(&list, &element)) {
        framing->closes |= kn_slice_is(element, "close");
        framing->keeps_alive |= kn_slice_is(element, "keep-alive");
    }
    return 0;
}

static int read_expectations(struct framing *framing, struct kino_slice list)
{
    struct kino_slice element;

    while (kn_shift_element(&list, &element)) {
        if (!kn_slice_is(element, "100-continue"))
            return 417;
        framing->expects_continue = true;
    }
    return 0;
}

static bool is_compression(struct kino_slice coding)
{
    static const char *const known[] = {"gzip", "x-gzip", "deflate", "compress", "x-compress"};

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (kn_slice_is(coding, known[i]))
            return true;
    }
    return false;
}

static int read_codings(struct framing *framing, struct kino_slice list)
{
    struct kino_slice element;

    framing->is_coded = true;
    if (list.len == 0 || list.data[0] == ',' || memchr(list.data, '\t', list.len))
        return 400;
    while (kn_shift_element(&list, &element)) {
        if (!kn_is_token(element) || kn_slice_is(element, "identity"))
            return 400;
        framing->is_unimplemented |= !kn_slice_is(element, "chunked");
        framing->ends_compressed = is_compression(element);
    }
    return 0;
}

static int read_field(struct framing *framing, const struct kino_field *field)
{
    switch (field->known) {
    case KINO_FIELD_CONNECTION:
        return read_connection(framing, field->value);
    case KINO_FIELD_EXPECT:
        return read_expectations(framing, field->value);
    case KINO_FIELD_TRANSFER_ENCODING:
        return read_codings(framing, field->value);
    default:
        return 0;
    }
}

static int judge_coding(llhttp_t *parser, const struct framing *framing)
{
    if (llhttp_get_http_minor(parser) == 0 || framing->ends_compressed)
        return 400;
    if (framing->is_unimplemented)
        return 501;
    /* llhttp saw what is trimmed from the value here: "chunked\t" is no chunked to it. */
    return parser->flags & F_CHUNKED ? 0 : 400;
}

/* SPEC.md 2.5 and 2.8. That Content-Length is digits, alone and once, and chunked once and last,
 * llhttp has seen to. */
static int judge_fields(struct kn_http1 *http1, struct framing *framing)
{
    const struct kino_head *view = &http1->head->view;
    int status = 0;

    for (size_t i = 0; i < view->field_count && !status; i++)
        status = read_field(framing, &view->fields[i]);
    if (status)
        return status;
    if (framing->is_coded)
        return judge_coding(&http1->parser, framing);
    if (http1->parser.content_length == KINO_OFF)
        return 413; /* the number that says of a head that there is no length */
    return http1->parser.content_length > http1->limits->max_body_bytes ? 413 : 0;
}

static int on_headers_complete(llhttp_t *parser)
{
    struct kn_http1 *http1 = of(parser);
    bool is_1_0 = llhttp_get_http_minor(parser) == 0;
    struct framing framing = {0};
    int status = kn_head_seal(http1->head, is_1_0 ? KINO_HTTP_1_0 : KINO_HTTP_1_1);

    if (!status)
        status = judge_fields(http1, &framing);
    if (status)
        return judge(http1, status);
    http1->keep_alive = !framing.closes && (!is_1_0 || framing.keeps_alive);
    http1->upgrades = parser->upgrade && !is_1_0;
    http1->head->view.content_length = framing.is_coded ? KINO_OFF : parser->content_length;
    if (!framing.is_coded && parser->content_length == 0)
        return 0;
    http1->expects_continue = framing.expects_continue && !is_1_0;
    http1->event = KN_HTTP1_HEAD;
    enter(http1, framing.is_coded ? KN_HTTP1_IN_CHUNK_LINE : KN_HTTP1_IN_DATA);
    return HPE_PAUSED;
}

static int on_chunk_header(llhttp_t *parser)
{
    struct kn_http1 *http1 = of(parser);

    if (parser->content_length > http1->limits->max_body_bytes - http1->body_bytes)
        return judge(http1, 413);
    enter(http1, parser->content_length ? KN_HTTP1_IN_DATA : KN_HTTP1_IN_TRAILERS);
    return HPE_PAUSED;
}

static int on_body(llhttp_t *parser, const char *data, size_t len)
{
    struct kn_http1 *http1 = of(parser);

    http1->body_bytes += len;
    return judge(http1, kn_buf_append(http1->body, data, len) < 0 ? 503 : 0);
}

static int on_chunk_complete(llhttp_t *parser)
{
    struct kn_http1 *http1 = of(parser);

    if (http1->phase == KN_HTTP1_IN_TRAILERS)
        return 0;
    enter(http1, KN_HTTP1_IN_CHUNK_LINE);
    return HPE_PAUSED;
}

static int on_message_complete(llhttp_t *parser)
{
    struct kn_http1 *http1 = of(parser);

    if (http1->phase == KN_HTTP1_IN_TRAILERS)
        kn_head_seal_trailers(http1->trailers);
    http1->event = KN_HTTP1_DONE;
    enter(http1, KN_HTTP1_AT_END);
    return HPE_PAUSED;
}

static const llhttp_settings_t settings = {
    .on_method = on_method,
    .on_method_complete = on_method_complete,
    .on_url = on_url,
    .on_url_complete = on_url_complete,
    .on_version_complete = on_version_complete,
    .on_header_field = on_header_field,
    .on_header_field_complete = on_header_field_complete,
    .on_header_value = on_header_value,
    .on_header_value_complete = on_header_value_complete,
    .on_headers_complete = on_headers_complete,
    .on_chunk_header = on_chunk_header,
    .on_body = on_body,
    .on_chunk_complete = on_chunk_complete,
    .on_message_complete = on_message_complete,
};

void kn_http1_init(struct kn_http1 *http1, const struct kn_limits *limits)
{
    *http1 = (struct kn_http1){.limits = limits, .phase = KN_HTTP1_AT_END};
    llhttp_init(&http1->parser, HTTP_REQUEST, &settings);
    llhttp_set_lenient_version(&http1->parser, 1); /* the versions are judged here */
    http1->parser.data = http1;
}

void kn_http1_begin(struct kn_http1 *http1, struct kn_head *head, struct kn_buf *body,
                    struct kn_head *trailers)
{
    llhttp_reset(&http1->parser); /* also from the stop that it makes behind an Upgrade */
    kn_head_begin(head);
    kn_head_begin(trailers);
    kn_buf_reset(body, KEPT_BODY_BYTES);
    http1->head = head;
    http1->body = body;
    http1->trailers = trailers;
    http1->body_bytes = 0;
    http1->status = 0;
    http1->awaited = 0;
    http1->refused = 0;
    enter(http1, KN_HTTP1_IN_EMPTY_LINES);
}

bool kn_http1_started(const struct kn_http1 *http1)
{
    return http1->phase != KN_HTTP1_IN_EMPTY_LINES;
}

static enum kn_http1_event reject(struct kn_http1 *http1, int status)
{
    http1->status = status;
    http1->keep_alive = false;
    enter(http1, KN_HTTP1_AT_END);
    return KN_HTTP1_REJECT;
}

/* RFC 9112 2.2: empty lines before a request line are skipped, here only a few. */
static size_t skip_empty_lines(struct kn_http1 *http1, const char *data, size_t len,
                               enum kn_http1_event *event)
{
    size_t used;

    for (used = 0; used < len; used++) {
        bool awaits_lf = http1->left % 2 == 1;

        if (data[used] != (awaits_lf ? '\n' : '\r')) {
            if (awaits_lf || data[used] == '\n')
                *event = reject(http1, 400);
            else
                enter(http1, KN_HTTP1_IN_HEAD);
            break;
        }
        if (http1->left == 0) {
            *event = reject(http1, 400);
            break;
        }
        http1->left--;
    }
    return used;
}

/* Of a method that llhttp does not know. */
static bool is_method_byte(char byte)
{
    return (unsigned char)(byte - 'A') < 26 || byte == '-';
}

/* What llhttp took for the beginning of a method it knows may have an underscore, as RTSP's. */
static bool has_unknown_method(const struct kn_head *head)
{
    for (size_t i = 0; i < head->method.len; i++)
        if (!is_method_byte(head->text.data[i]))
            return false;
    return true;
}

/* SPEC.md 2.1: a method may be unknown (501) or not a method (400). */
static size_t skip_unknown_method(struct kn_http1 *http1, const char *data, size_t len,
                                  enum kn_http1_event *event)
{
    size_t used;

    for (used = 0; used < len; used++) {
        bool goes_on = is_method_byte(data[used]);
        bool is_end = data[used] == ' ' && http1->left < METHOD_MAX;

        if (!goes_on || http1->left == 0) {
            *event = reject(http1, is_end || goes_on ? 501 : 400);
            break;
        }
        http1->left--;
    }
    return used;
}

/* Look at the next byte that is no space, which llhttp is about to skip. */
static bool look_ahead(struct kn_http1 *http1, const char *data, size_t len)
{
    size_t i = 0;

    while (i < len && data[i] == ' ')
        i++;
    if (i == len)
        return true;
    if ((http1->awaited && data[i] != http1->awaited) ||
        (http1->refused && data[i] == http1->refused))
        return false;
    http1->awaited = 0;
    http1->refused = 0;
    return true;
}

static enum kn_http1_event past_bound(struct kn_http1 *http1)
{
    return reject(http1, http1->phase == KN_HTTP1_IN_HEAD ? 431 : 400);
}

static size_t execute(struct kn_http1 *http1, const char *data, size_t len,
                      enum kn_http1_event *event)
{
    enum kn_http1_phase phase = http1->phase;
    size_t used = len < http1->left ? len : http1->left;
    llhttp_errno_t result;

    if ((http1->awaited || http1->refused) && !look_ahead(http1, data, used)) {
        *event = reject(http1, 400);
        return 0;
    }
    http1->event = KN_HTTP1_MORE;
    result = llhttp_execute(&http1->parser, data, used);
    if (result == HPE_PAUSED) {
        used = (size_t)(llhttp_get_error_pos(&http1->parser) - data);
        llhttp_resume(&http1->parser);
        *event = http1->event;
    } else if (result == HPE_INVALID_METHOD) {
        size_t before = http1->limits->max_head_bytes - http1->left;

        if (!has_unknown_method(http1->head)) {
            *event = reject(http1, 400);
            return 0;
        }
        enter(http1, KN_HTTP1_IN_UNKNOWN_METHOD);
        http1->left -= before < METHOD_MAX ? before : METHOD_MAX;
        return 0;
    } else if (result != HPE_OK) {
        *event = reject(http1, http1->status ? http1->status : 400);
        return 0;
    }
    if (http1->phase == phase) {
        http1->left -= used;
        if (http1->left == 0)
            *event = past_bound(http1);
    }
    return used;
}

size_t kn_http1_feed(struct kn_http1 *http1, const char *data, size_t len,
                     enum kn_http1_event *event)
{
    size_t used = 0;

    assert(http1->phase != KN_HTTP1_AT_END);
    *event = KN_HTTP1_MORE;
    while (used < len && *event == KN_HTTP1_MORE) {
        switch (http1->phase) {
        case KN_HTTP1_IN_EMPTY_LINES:
            used += skip_empty_lines(http1, data + used, len - used, event);
            break;
        case KN_HTTP1_IN_UNKNOWN_METHOD:
            used += skip_unknown_method(http1, data + used, len - used, event);
            break;
        default:
            used += execute(http1, data + used, len - used, event);
            break;
        }
    }
    return used;
}
