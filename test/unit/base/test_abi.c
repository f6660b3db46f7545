/* SPDX-License-Identifier: MIT */
#include "base/abi.h"

#include "kino.h"

#include <string.h>

#include "support/test.h"

struct known {
    uint64_t size;
    uint64_t first;
    uint64_t second;
};

/* The same struct in a later version of the library. */
struct longer {
    struct known known;
    uint64_t third;
    uint64_t fourth;
};

static struct known read_into_garbage(const void *in, int *rc)
{
    struct known out;

    memset(&out, 0x5a, sizeof(out));
    *rc = kn_abi_read(&out, sizeof(out), in);
    return out;
}

Test(abi, copies_a_struct_of_the_same_size)
{
    const struct known in = {sizeof(in), 1, 2};
    int rc;
    const struct known out = read_into_garbage(&in, &rc);

    cr_assert_eq(rc, 0);
    cr_assert_arr_eq(&out, &in, sizeof(in));
}

Test(abi, takes_a_longer_struct_whose_tail_is_zero)
{
    struct longer in = {.known = {sizeof(in), 1, 2}};
    int rc;
    struct known out = read_into_garbage(&in, &rc);

    cr_assert_eq(rc, 0);
    cr_assert_eq(out.first, 1);
    cr_assert_eq(out.second, 2);
    for (size_t at = sizeof(struct known); at < sizeof(in); at++) {
        ((unsigned char *)&in)[at] = 1;
        read_into_garbage(&in, &rc);
        cr_assert_eq(rc, KINO_INVALID, "byte %zu is set", at);
        ((unsigned char *)&in)[at] = 0;
    }
}

Test(abi, zeroes_what_a_shorter_struct_does_not_have)
{
    struct known in = {2 * sizeof(uint64_t), 1, 2};
    int rc;
    struct known out = read_into_garbage(&in, &rc);

    cr_assert_eq(rc, 0);
    cr_assert_eq(out.first, 1);
    cr_assert_eq(out.second, 0, "behind the caller's end");
    in.size = sizeof(in.size);
    out = read_into_garbage(&in, &rc);
    cr_assert_eq(rc, 0);
    cr_assert_eq(out.first, 0);
}

Test(abi, refuses_a_size_that_cannot_be)
{
    static const uint64_t sizes[] = {0, 1, sizeof(uint64_t) - 1, 12, 4097, UINT32_MAX, UINT64_MAX};

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        const struct known in = {.size = sizes[i]};
        int rc;

        read_into_garbage(&in, &rc);
        cr_assert_eq(rc, KINO_INVALID, "%lu", (unsigned long)sizes[i]);
    }
}

Test(abi, fills_as_much_as_the_caller_has)
{
    const struct known in = {sizeof(in), 1, 2};
    struct longer longer;
    struct known out;

    memset(&longer, 0x5a, sizeof(longer));
    longer.known.size = sizeof(longer);
    cr_assert_eq(kn_abi_write(&longer, &in, sizeof(in)), 0);
    cr_assert_arr_eq(&longer, &in, sizeof(in));
    cr_assert_eq(longer.third, 0, "what the library does not know");
    cr_assert_eq(longer.fourth, 0);
    out = (struct known){2 * sizeof(uint64_t), 11, 12};
    cr_assert_eq(kn_abi_write(&out, &in, sizeof(in)), 0);
    cr_assert_eq(out.size, 2 * sizeof(uint64_t));
    cr_assert_eq(out.first, 1);
    cr_assert_eq(out.second, 12, "behind the caller's end");
}

Test(abi, fills_nothing_of_a_size_that_cannot_be)
{
    static const uint64_t sizes[] = {0, 1, sizeof(uint64_t) - 1, 12, 4097, UINT32_MAX, UINT64_MAX};
    const struct known in = {sizeof(in), 1, 2};

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct known out = {sizes[i], 11, 12};

        cr_assert_eq(kn_abi_write(&out, &in, sizeof(in)), KINO_INVALID);
        cr_assert_eq(out.size, sizes[i]);
        cr_assert_eq(out.first, 11);
    }
}
