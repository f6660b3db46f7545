/* SPDX-License-Identifier: MIT */
#include "http/grammar.h"

#include "support/test.h"

static struct kino_slice slice(const char *text)
{
    return (struct kino_slice){text, strlen(text)};
}

Test(grammar, classes_of_bytes_are_those_of_the_rfcs)
{
    static const char tchars[] = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
                                 "ABCDEFGHIJKLMNOPQRSTUVWXYZ";

    for (int i = -128; i < 128; i++) {
        char c = (char)i;
        bool is_upper = c >= 'A' && c <= 'Z';
        bool is_lower = c >= 'a' && c <= 'z';

        cr_assert_eq(kn_is_tchar(c), c && strchr(tchars, c), "tchar %d", i);
        cr_assert_eq(kn_is_digit(c), c >= '0' && c <= '9', "digit %d", i);
        cr_assert_eq(kn_is_alpha(c), is_upper || is_lower, "alpha %d", i);
        cr_assert_eq(kn_is_ows(c), c == ' ' || c == '\t', "ows %d", i);
        cr_assert_eq(kn_lower(c), is_upper ? c - 'A' + 'a' : c, "lower %d", i);
    }
}

Test(grammar, a_token_is_not_empty)
{
    cr_assert(kn_is_token(slice("a")));
    cr_assert(kn_is_token(slice("x-y_z")));
    cr_assert_not(kn_is_token(slice("")));
    cr_assert_not(kn_is_token(slice("a b")));
    cr_assert_not(kn_is_token((struct kino_slice){0}));
    cr_assert_not(kn_is_token((struct kino_slice){"a\0b", 3}));
}

Test(grammar, slices_compare_without_case)
{
    cr_assert(kn_slice_is(slice("Close"), "close"));
    cr_assert(kn_slice_is(slice(""), ""));
    cr_assert(kn_slice_is((struct kino_slice){0}, ""));
    cr_assert_not(kn_slice_is(slice("clos"), "close"));
    cr_assert_not(kn_slice_is(slice("closed"), "close"));
    cr_assert_not(kn_slice_is((struct kino_slice){"close\0", 6}, "close"));
    cr_assert_not(kn_slice_is(slice("CLOSE{"), "close["));
}

Test(grammar, lists_come_apart_into_what_is_in_them)
{
    static const struct {
        const char *list;
        const char *elements[4];
    } rows[] = {
        {"", {NULL}},
        {" \t ", {NULL}},
        {",", {NULL}},
        {" , ,\t,", {NULL}},
        {"a", {"a"}},
        {" \ta\t ", {"a"}},
        {"a,b", {"a", "b"}},
        {"a ,\tb , c d", {"a", "b", "c d"}},
        {",,a,,b,", {"a", "b"}},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct kino_slice list = slice(rows[i].list);
        struct kino_slice element;

        for (size_t n = 0; rows[i].elements[n]; n++) {
            cr_assert(kn_shift_element(&list, &element), "'%s'", rows[i].list);
            cr_assert(kn_slice_is(element, rows[i].elements[n]), "'%s'", rows[i].list);
        }
        cr_assert_not(kn_shift_element(&list, &element), "'%s'", rows[i].list);
    }
}
