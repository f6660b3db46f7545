/* SPDX-License-Identifier: MIT */
#include "http/payload.h"

#include <fcntl.h>
#include <unistd.h>

#include "support/test.h"

enum {
    LENT_LEAST = 4096,
};

static char bytes[2 * LENT_LEAST];
static int done;

static void count_done(void *context)
{
    done += context == bytes;
}

static struct kn_payload lend(size_t len)
{
    const struct kino_piece piece = {
        .size = sizeof(piece), .data = {bytes, len}, .done = count_done, .done_context = bytes};
    struct kn_payload payload;

    done = 0;
    cr_assert_eq(kn_payload_of_piece(&piece, &payload), 0);
    cr_assert_eq(payload.length, len);
    return payload;
}

Test(payload, flags_and_files_that_cannot_be_are_refused)
{
    struct kino_piece piece = {.size = sizeof(piece), .flags = KINO_BODY_STREAM};
    struct kn_payload payload;

    cr_assert_eq(kn_payload_of_piece(&piece, &payload), KINO_INVALID, "a response's flag");
    piece.flags = KINO_BODY_FILE;
    piece.descriptor = UINT64_C(1) << 31;
    cr_assert_eq(kn_payload_of_piece(&piece, &payload), KINO_INVALID);
    piece.descriptor = 0;
    piece.offset = UINT64_C(1) << 63;
    cr_assert_eq(kn_payload_of_piece(&piece, &payload), KINO_INVALID);
    piece.offset = INT64_MAX;
    piece.length = 1;
    cr_assert_eq(kn_payload_of_piece(&piece, &payload), KINO_INVALID);
    piece.offset--;
    cr_assert_eq(kn_payload_of_piece(&piece, &payload), 0);
    cr_assert(payload.is_file);
}

Test(payload, much_is_sent_from_where_it_is_and_little_is_copied)
{
    struct kn_chain out = {0};
    struct kn_payload payload = lend(LENT_LEAST - 1);

    cr_assert_eq(kn_payload_append(&out, &payload, payload.length), 0);
    cr_assert_eq(done, 1, "copied, and given back");
    cr_assert_null(out.head);
    payload = lend(LENT_LEAST);
    cr_assert_eq(kn_payload_append(&out, &payload, payload.length), 0);
    cr_assert_eq(done, 0);
    cr_assert_eq(out.head->data, bytes);
    payload = lend(2 * LENT_LEAST);
    cr_assert_eq(kn_payload_append(&out, &payload, 1), 0, "so much of it is needed");
    cr_assert_eq(done, 1);
    kn_chain_reset(&out, 0);
    cr_assert_eq(done, 2);
}

Test(payload, nothing_of_it_gives_it_back)
{
    const int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    const struct kino_piece file = {
        .size = sizeof(file), .flags = KINO_BODY_FILE, .descriptor = (uint64_t)fd, .length = 10};
    struct kn_chain out = {0};
    struct kn_payload payload = lend(2 * LENT_LEAST);

    cr_assert_eq(kn_payload_append(&out, &payload, 0), 0);
    cr_assert_eq(done, 1);
    cr_assert_eq(kn_payload_of_piece(&file, &payload), 0);
    cr_assert_eq(kn_payload_append(&out, &payload, 0), 0);
    cr_assert_eq(fcntl(fd, F_GETFD), -1, "its descriptor was the library's");
    cr_assert_eq(kn_chain_len(&out), 0);
    kn_chain_reset(&out, 0);
}
