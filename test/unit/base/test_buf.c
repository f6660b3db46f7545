/* SPDX-License-Identifier: MIT */
#include "base/buf.h"

#include "support/test.h"

#include <errno.h>

Test(buf, an_empty_buffer_owns_nothing)
{
    struct kn_buf buf = {0};

    cr_assert_eq(kn_buf_reserve(&buf, 0), 0);
    cr_assert_eq(kn_buf_append(&buf, NULL, 0), 0);
    cr_assert_null(buf.data);
    kn_buf_consume(&buf, 0);
    kn_buf_reset(&buf, 0);
    kn_buf_deinit(&buf);
    cr_assert_null(buf.data);
}

Test(buf, what_is_appended_stands_in_order)
{
    enum { COUNT = 10000 };
    struct kn_buf buf = {0};

    for (int i = 0; i < COUNT; i++) {
        char piece[2] = {(char)(i % 251), (char)(i % 7)};

        cr_assert_eq(kn_buf_append(&buf, piece, sizeof(piece)), 0);
    }
    cr_assert_eq(buf.len, 2 * COUNT);
    cr_assert_geq(buf.cap, buf.len);
    for (int i = 0; i < COUNT; i++) {
        cr_assert_eq(buf.data[2 * i], (char)(i % 251));
        cr_assert_eq(buf.data[2 * i + 1], (char)(i % 7));
    }
    kn_buf_deinit(&buf);
}

Test(buf, a_reservation_is_room_for_exactly_what_was_asked)
{
    struct kn_buf buf = {0};
    const char *data;

    cr_assert_eq(kn_buf_append(&buf, "abc", 3), 0);
    cr_assert_eq(kn_buf_reserve(&buf, 5000), 0);
    cr_assert_geq(buf.cap, 5003);
    cr_assert_eq(buf.len, 3);
    cr_assert_arr_eq(buf.data, "abc", 3);
    data = buf.data;
    for (int i = 0; i < 50; i++)
        kn_buf_put(&buf,
                   "0123456789012345678901234567890123456789"
                   "0123456789012345678901234567890123456789"
                   "01234567890123456789",
                   100);
    cr_assert_eq(buf.data, data);
    cr_assert_eq(buf.len, 5003);
    kn_buf_deinit(&buf);
}

Test(buf, an_impossible_reservation_changes_nothing)
{
    struct kn_buf buf = {0};
    struct kn_buf before;

    cr_assert_eq(kn_buf_append(&buf, "abc", 3), 0);
    before = buf;
    cr_assert_eq(kn_buf_reserve(&buf, SIZE_MAX), -ENOMEM);
    cr_assert_eq(kn_buf_reserve(&buf, SIZE_MAX - 3), -ENOMEM);
    cr_assert_eq(kn_buf_reserve(&buf, SIZE_MAX / 2), -ENOMEM);
    cr_assert_eq(buf.data, before.data);
    cr_assert_eq(buf.len, before.len);
    cr_assert_eq(buf.cap, before.cap);
    cr_assert_arr_eq(buf.data, "abc", 3);
    kn_buf_deinit(&buf);
}

Test(buf, consuming_moves_the_rest_to_the_front)
{
    struct kn_buf buf = {0};

    cr_assert_eq(kn_buf_append(&buf, "abcdef", 6), 0);
    kn_buf_consume(&buf, 2);
    cr_assert_eq(buf.len, 4);
    cr_assert_arr_eq(buf.data, "cdef", 4);
    kn_buf_consume(&buf, 4);
    cr_assert_eq(buf.len, 0);
    cr_assert_eq(kn_buf_append(&buf, "gh", 2), 0);
    cr_assert_arr_eq(buf.data, "gh", 2);
    kn_buf_deinit(&buf);
}

Test(buf, a_reset_keeps_memory_up_to_a_bound)
{
    struct kn_buf buf = {0};
    const char *data;
    size_t cap;

    cr_assert_eq(kn_buf_append(&buf, "abc", 3), 0);
    data = buf.data;
    cap = buf.cap;
    kn_buf_reset(&buf, cap);
    cr_assert_eq(buf.len, 0);
    cr_assert_eq(buf.data, data);
    cr_assert_eq(buf.cap, cap);
    kn_buf_reset(&buf, cap - 1);
    cr_assert_null(buf.data);
    cr_assert_eq(buf.cap, 0);
}

Test(buf, a_swap_exchanges_everything)
{
    struct kn_buf a = {0};
    struct kn_buf b = {0};

    cr_assert_eq(kn_buf_append(&a, "abc", 3), 0);
    kn_buf_swap(&a, &b);
    cr_assert_null(a.data);
    cr_assert_eq(a.len, 0);
    cr_assert_eq(a.cap, 0);
    cr_assert_eq(b.len, 3);
    cr_assert_arr_eq(b.data, "abc", 3);
    kn_buf_deinit(&b);
}
