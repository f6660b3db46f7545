/* SPDX-License-Identifier: MIT */
/* Any bytes through the HTTP/1 parser, as one piece and in pieces: by SPEC.md 1.2 the same must
 * come of both. An input is one byte that chooses limits, three whose values are the lengths of
 * pieces less one, over and over, and then what a client sends. */
#include "http/http1.h"

#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum {
    LENGTHS = 3,
    PREFACE = 1 + LENGTHS,
};

/* One way through an input. */
struct player {
    struct kn_http1 http1;
    struct kn_limits limits;
    struct kn_head head;
    struct kn_buf body;
    struct kn_head trailers;
    struct kn_buf log; /* what came of it, as text */
    size_t used;
    int status; /* 0, or what it was refused with */
};

/* The parser's interface is called from these two functions only. */

static void begin(struct player *player)
{
    kn_http1_begin(&player->http1, &player->head, &player->body, &player->trailers);
}

static size_t feed(struct player *player, const char *data, size_t len, enum kn_http1_event *event)
{
    return kn_http1_feed(&player->http1, data, len, event);
}

static struct kn_limits choose_limits(uint8_t choice)
{
    const bool none = choice & 1 << 7;

    return (struct kn_limits){
        .max_head_bytes = choice & 1 << 0 ? 100
                          : none          ? SIZE_MAX
                                          : 65536,
        .max_fields = choice & 1 << 1 ? 3
                      : none          ? SIZE_MAX
                                      : 128,
        .max_field_bytes = choice & 1 << 2 ? 20
                           : none          ? SIZE_MAX
                                           : 16384,
        .max_target_bytes = choice & 1 << 3 ? 10
                            : none          ? SIZE_MAX
                                            : 8192,
        .max_body_bytes = choice & 1 << 4 ? 12
                          : none          ? UINT64_MAX
                                          : 52428800,
        .max_chunk_line_bytes = choice & 1 << 5 ? 20
                                : none          ? SIZE_MAX
                                                : 1024,
        .max_trailer_bytes = choice & 1 << 6 ? 30
                             : none          ? SIZE_MAX
                                             : 1024,
    };
}

static void note(struct player *player, const void *data, size_t len)
{
    int rc = kn_buf_append(&player->log, data, len);

    assert(rc == 0);
}

static void note_number(struct player *player, const char *name, unsigned long long number)
{
    char line[64];

    note(player, line, (size_t)snprintf(line, sizeof(line), "%s %llu\n", name, number));
}

static void note_slice(struct player *player, const char *name, struct kino_slice slice)
{
    note_number(player, name, slice.data ? slice.len : UINT64_MAX);
    if (slice.data)
        note(player, slice.data, slice.len);
}

static bool has_any(struct kino_slice slice, const char *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (memchr(slice.data, bytes[i], slice.len))
            return true;
    }
    return false;
}

/* What an application may rely on, whatever was sent. */
static void check_field(const struct player *player, const struct kino_field *field)
{
    assert(field->name.len > 0);
    assert(field->name.len + field->value.len <= player->limits.max_field_bytes);
    assert(!has_any(field->name, "\0\r\n: \t", 6));
    assert(!has_any(field->value, "\0\r\n", 3));
    for (size_t i = 0; i < field->name.len; i++)
        assert(field->name.data[i] < 'A' || field->name.data[i] > 'Z');
}

/* The block is all fields, one behind the other, and nothing else. */
static size_t check_place(const struct kino_head *view, const struct kino_field *field, size_t at)
{
    assert(field->name.data == view->block.data + at);
    assert(field->name.data[field->name.len] == ':');
    assert(field->value.data == field->name.data + field->name.len + 1);
    assert(field->value.data[field->value.len] == '\n');
    return at + field->name.len + 1 + field->value.len + 1;
}

static void note_head(struct player *player)
{
    const struct kino_head *view = &player->head.view;
    size_t at = 0;

    assert(view->method.len > 0);
    assert(view->target.len > 0 && view->target.len <= player->limits.max_target_bytes);
    assert(view->field_count <= player->limits.max_fields);
    note_slice(player, "method", view->method);
    note_slice(player, "target", view->target);
    note_slice(player, "path", view->path);
    note_slice(player, "query", view->query);
    note_slice(player, "authority", view->authority);
    note_slice(player, "scheme", view->scheme);
    for (uint64_t i = 0; i < view->field_count; i++) {
        const struct kino_field *field = &view->fields[i];

        check_field(player, field);
        at = check_place(view, field, at);
        note_number(player, "known", field->known);
        note_number(player, "flags", field->flags);
    }
    assert(at == view->block.len);
    note_slice(player, "block", view->block);
    note_number(player, "hash", view->block_hash);
    note_number(player, "version", view->version);
    note_number(player, "flags", view->flags);
    note_number(player, "keep-alive", player->http1.keep_alive);
}

static void note_done(struct player *player)
{
    const struct kino_slice body = {player->body.data, player->body.len};
    const struct kino_head *trailers = &player->trailers.view;

    note_head(player);
    assert(body.len == player->http1.body_bytes);
    assert(body.len <= player->limits.max_body_bytes);
    note_slice(player, "body", body);
    note_number(player, "length", player->head.view.content_length);
    note_number(player, "upgrades", player->http1.upgrades);
    for (uint64_t i = 0; i < trailers->field_count; i++) {
        check_field(player, &trailers->fields[i]);
        note_slice(player, "trailer", trailers->fields[i].name);
        note_slice(player, "value", trailers->fields[i].value);
    }
    note_number(player, "used", player->used);
}

/* Returns false when nothing more may be fed. */
static bool note_event(struct player *player, enum kn_http1_event event)
{
    switch (event) {
    case KN_HTTP1_MORE:
        return true;
    case KN_HTTP1_HEAD:
        note_head(player);
        note_number(player, "expects", player->http1.expects_continue);
        note_number(player, "used", player->used);
        return true;
    case KN_HTTP1_DONE:
        note_done(player);
        begin(player);
        return true;
    case KN_HTTP1_REJECT:
        assert(player->http1.status >= 400 && player->http1.status <= 599);
        player->status = player->http1.status;
        return false;
    }
    abort();
}

/* Returns false when nothing more may be fed. */
static bool play_piece(struct player *player, const char *data, size_t len)
{
    enum kn_http1_event event = KN_HTTP1_MORE;
    bool goes_on = true;

    for (size_t at = 0, used; goes_on && at < len; at += used) {
        used = feed(player, data + at, len - at, &event);
        assert(used <= len - at);
        assert(used > 0 || event == KN_HTTP1_REJECT);
        assert(used == len - at || event != KN_HTTP1_MORE);
        player->used += used;
        goes_on = note_event(player, event);
    }
    return goes_on;
}

/* Each piece is memory of its own, so that a sanitizer sees a look past its end. */
static bool play_copy(struct player *player, const uint8_t *data, size_t len)
{
    char *piece = malloc(len);
    bool goes_on;

    assert(piece);
    memcpy(piece, data, len);
    goes_on = play_piece(player, piece, len);
    free(piece);
    return goes_on;
}

static void start(struct player *player, uint8_t limits)
{
    *player = (struct player){.limits = choose_limits(limits)};
    kn_http1_init(&player->http1, &player->limits);
    begin(player);
}

static void end(struct player *player)
{
    if (player->status == 0)
        note_number(player, "started", kn_http1_started(&player->http1));
    kn_head_deinit(&player->head);
    kn_head_deinit(&player->trailers);
    kn_buf_deinit(&player->body);
}

static bool is_of_size(int status)
{
    return status == 414 || status == 431;
}

/* SPEC.md 1.2: of two errors in one token, a byte that may not be there and a length past its
 * limit, either may be named. */
static bool is_same_refusal(int a, int b)
{
    return a == b || (a == 400 && is_of_size(b)) || (b == 400 && is_of_size(a));
}

static void compare(const struct player *whole, const struct player *split)
{
    assert(whole->log.len == split->log.len);
    assert(whole->log.len == 0 || memcmp(whole->log.data, split->log.data, whole->log.len) == 0);
    if (!is_same_refusal(whole->status, split->status)) {
        fprintf(stderr, "as one piece %d, in pieces %d\n", whole->status, split->status);
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct player whole, split;
    const uint8_t *rest = data + PREFACE;
    size_t left = len - PREFACE;

    if (len <= PREFACE)
        return 0;
    start(&whole, data[0]);
    play_copy(&whole, rest, left);
    end(&whole);

    start(&split, data[0]);
    for (size_t i = 0; left > 0; i++) {
        const size_t length = 1 + (size_t)data[1 + i % LENGTHS];
        const size_t piece = length < left ? length : left;

        if (!play_copy(&split, rest, piece))
            break;
        rest += piece;
        left -= piece;
    }
    end(&split);

    compare(&whole, &split);
    kn_buf_deinit(&whole.log);
    kn_buf_deinit(&split.log);
    return 0;
}
