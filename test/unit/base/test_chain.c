/* SPDX-License-Identifier: MIT */
#include "base/chain.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/alloc.h"
#include "support/test.h"

enum {
    VECTORS = 8,
    ALL = 1 << 20,
};

static void count(void *context)
{
    ++*(int *)context;
}

static struct kino_slice slice(const char *text)
{
    return (struct kino_slice){text, strlen(text)};
}

static void append(struct kn_chain *chain, const char *text)
{
    cr_assert_eq(kn_chain_append(chain, text, strlen(text)), 0);
}

static void borrow(struct kn_chain *chain, const char *text, int *done)
{
    cr_assert_eq(kn_chain_borrow(chain, slice(text), count, done), 0);
}

static unsigned count_pieces(const struct kn_chain *chain)
{
    unsigned pieces = 0;

    for (const struct kn_piece *piece = chain->head; piece; piece = piece->next)
        pieces++;
    return pieces;
}

/* Are these the bytes in memory at the front? */
static bool shows(const struct kn_chain *chain, const char *text)
{
    struct iovec vectors[VECTORS];
    const unsigned used = kn_chain_gather(chain, vectors, VECTORS, ALL);
    size_t at = 0;

    for (unsigned i = 0; i < used; i++) {
        if (strncmp(text + at, vectors[i].iov_base, vectors[i].iov_len) != 0)
            return false;
        at += vectors[i].iov_len;
    }
    return text[at] == '\0';
}

Test(chain, zero_is_an_empty_one)
{
    struct kn_chain chain = {0};
    struct iovec vector;

    cr_assert_eq(kn_chain_len(&chain), 0);
    cr_assert_eq(kn_chain_gather(&chain, &vector, 1, ALL), 0);
    cr_assert_null(kn_chain_file(&chain));
    kn_chain_consume(&chain, 0);
    kn_chain_reset(&chain, 0);
}

Test(chain, bytes_keep_their_order_whosever_they_are)
{
    struct kn_chain chain = {0};
    int done = 0;

    append(&chain, "one ");
    append(&chain, "two ");
    borrow(&chain, "three ", &done);
    append(&chain, "four ");
    borrow(&chain, "five", &done);
    cr_assert_eq(kn_chain_len(&chain), strlen("one two three four five"));
    cr_assert_eq(count_pieces(&chain), 3, "what is appended is joined");
    cr_assert(shows(&chain, "one two three four five"));
    kn_chain_reset(&chain, 0);
    cr_assert_eq(done, 2);
}

Test(chain, what_was_lent_comes_back_with_its_last_byte)
{
    struct kn_chain chain = {0};
    int done = 0;

    append(&chain, "ab");
    borrow(&chain, "cd", &done);
    append(&chain, "ef");
    for (size_t used = 0; used < 6; used++) {
        cr_assert_eq(done, used >= 4 ? 1 : 0, "after %zu", used);
        cr_assert_eq(kn_chain_len(&chain), 6 - used);
        cr_assert(shows(&chain, &"abcdef"[used]), "after %zu", used);
        kn_chain_consume(&chain, 1);
    }
    cr_assert_eq(kn_chain_len(&chain), 0);
    cr_assert_null(chain.head);
    kn_chain_reset(&chain, 0);
    cr_assert_eq(done, 1, "once");
}

Test(chain, any_count_can_be_consumed_at_once)
{
    for (size_t first = 0; first <= 9; first++) {
        struct kn_chain chain = {0};
        int done = 0;

        borrow(&chain, "abc", &done);
        append(&chain, "def");
        borrow(&chain, "ghi", &done);
        kn_chain_consume(&chain, first);
        cr_assert_eq(done, (first >= 3) + (first == 9), "%zu", first);
        cr_assert(shows(&chain, &"abcdefghi"[first]), "%zu", first);
        append(&chain, "!");
        kn_chain_consume(&chain, 9 - first);
        cr_assert(shows(&chain, "!"), "%zu", first);
        cr_assert_eq(done, 2, "%zu", first);
        kn_chain_reset(&chain, 0);
    }
}

Test(chain, no_more_is_gathered_than_asked_for)
{
    struct kn_chain chain = {0};
    struct iovec vectors[VECTORS];
    int done = 0;

    append(&chain, "abc");
    borrow(&chain, "def", &done);
    borrow(&chain, "ghi", &done);
    cr_assert_eq(kn_chain_gather(&chain, vectors, 2, ALL), 2);
    cr_assert_eq(kn_chain_gather(&chain, vectors, VECTORS, 3), 1);
    cr_assert_eq(kn_chain_gather(&chain, vectors, VECTORS, 4), 2);
    cr_assert_eq(vectors[1].iov_len, 1);
    kn_chain_reset(&chain, 0);
}

Test(chain, a_move_empties_where_it_came_from)
{
    struct kn_chain to = {0};
    struct kn_chain from = {0};
    int done = 0;

    append(&from, "a");
    cr_assert_eq(kn_chain_move(&to, &from), 0);
    borrow(&from, "b", &done);
    append(&from, "c");
    cr_assert_eq(kn_chain_move(&to, &from), 0);
    append(&from, "d");
    borrow(&from, "e", &done);
    cr_assert_eq(kn_chain_move(&to, &from), 0);
    cr_assert_eq(kn_chain_len(&from), 0);
    cr_assert_null(from.head);
    cr_assert_eq(kn_chain_len(&to), 5);
    cr_assert(shows(&to, "abcde"));
    kn_chain_reset(&from, 0);
    cr_assert_eq(done, 0);
    kn_chain_reset(&to, 0);
    cr_assert_eq(done, 2);
}

Test(chain, a_move_of_pieces_alone_makes_none_in_between)
{
    struct kn_chain to = {0};
    struct kn_chain from = {0};
    int done = 0;

    borrow(&to, "a", &done);
    borrow(&from, "b", &done);
    cr_assert_eq(kn_chain_move(&to, &from), 0);
    cr_assert_eq(count_pieces(&to), 2);
    cr_assert(shows(&to, "ab"));
    kn_chain_reset(&to, 0);
    cr_assert_eq(done, 2);
}

Test(chain, large_buffers_are_moved_and_not_copied)
{
    struct kn_chain to = {0};
    struct kn_chain from = {0};
    char *large = kn_alloc_zeroed(KN_CHAIN_JOIN_MOST + 1);
    const char *data;

    append(&to, "a");
    cr_assert_eq(kn_chain_append(&from, large, KN_CHAIN_JOIN_MOST + 1), 0);
    data = from.first.data;
    cr_assert_eq(kn_chain_move(&to, &from), 0);
    cr_assert_eq(count_pieces(&to), 1);
    cr_assert_eq(to.head->own.data, data);
    cr_assert_eq(kn_chain_len(&to), KN_CHAIN_JOIN_MOST + 2);
    kn_chain_consume(&to, 1);
    cr_assert_eq(to.first.data, data, "and takes its place in front");
    kn_chain_consume(&to, KN_CHAIN_JOIN_MOST + 1);
    cr_assert_eq(kn_chain_len(&to), 0);
    kn_chain_reset(&to, 0);
    kn_chain_reset(&from, 0);
    kn_free(large);
}

/* Read some of the file that is next, as a loop does. */
static void read_file(struct kn_chain *chain, const char *text)
{
    const size_t len = strlen(text);

    cr_assert_not_null(kn_chain_file(chain));
    cr_assert_eq(kn_buf_reserve(&chain->first, len), 0);
    memcpy(chain->first.data + chain->first.len, text, len);
    kn_chain_read(chain, len);
}

Test(chain, a_file_is_read_in_parts_and_returned)
{
    struct kn_chain chain = {0};
    int done = 0;

    append(&chain, "head ");
    cr_assert_eq(kn_chain_add_file(&chain, 99, 10, 5, count, &done), 0);
    append(&chain, " tail");
    cr_assert_eq(kn_chain_len(&chain), 15);
    cr_assert(shows(&chain, "head "), "no further than to the file");
    read_file(&chain, "ab");
    cr_assert_eq(kn_chain_len(&chain), 15);
    cr_assert_eq(kn_chain_file(&chain)->offset, 12);
    cr_assert(shows(&chain, "head ab"));
    kn_chain_consume(&chain, 7);
    read_file(&chain, "cde");
    cr_assert_eq(done, 1);
    cr_assert_null(kn_chain_file(&chain));
    cr_assert(shows(&chain, "cde tail"));
    kn_chain_consume(&chain, 8);
    cr_assert_eq(kn_chain_len(&chain), 0);
    kn_chain_reset(&chain, 0);
}

Test(chain, a_descriptor_without_done_is_closed)
{
    struct kn_chain chain = {0};
    const int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int done = 0;

    cr_assert_geq(fd, 0);
    cr_assert_eq(kn_chain_add_file(&chain, dup(fd), 0, 1, count, &done), 0);
    cr_assert_eq(kn_chain_add_file(&chain, fd, 0, 1, NULL, NULL), 0);
    close(chain.head->descriptor);
    kn_chain_reset(&chain, 0);
    cr_assert_eq(done, 1);
    cr_assert_eq(fcntl(fd, F_GETFD), -1);
    cr_assert_eq(errno, EBADF);
}

Test(chain, a_reset_keeps_no_more_than_it_may)
{
    struct kn_chain chain = {0};
    const char *data;

    append(&chain, "a");
    data = chain.first.data;
    kn_chain_reset(&chain, SIZE_MAX);
    cr_assert_eq(chain.first.data, data);
    append(&chain, "b");
    kn_chain_consume(&chain, 1);
    kn_chain_reset(&chain, 0);
    cr_assert_null(chain.first.data);
    cr_assert_eq(chain.used, 0);
}

/* A client that leaves some bytes unread each time must not make the buffer grow with the file. */
Test(chain, what_is_gone_makes_room_for_the_file)
{
    struct kn_chain chain = {0};
    size_t cap;

    append(&chain, "0123456789");
    cr_assert_eq(kn_chain_add_file(&chain, 99, 0, 1000, count, &(int){0}), 0);
    cap = chain.first.cap;
    for (int i = 0; i < 1000; i++) {
        kn_chain_consume(&chain, 1);
        kn_chain_pack(&chain);
        cr_assert_eq(chain.used, 0);
        read_file(&chain, "x");
        cr_assert_eq(chain.first.len, 10);
    }
    cr_assert(shows(&chain, "xxxxxxxxxx"));
    cr_assert_eq(chain.first.cap, cap);
    kn_chain_reset(&chain, 0);
}
